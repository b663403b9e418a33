"""The folds are those of the records, and a fold without a lesion is refused before it begins."""

import dataclasses

import pytest

from data_tools import records
from data_tools.runtime.errors import InputError
from tf_hypoperfusion.config import preset
from tf_hypoperfusion.evaluation import trained_folds
from tf_hypoperfusion.training import run_summary, trainer
from tf_hypoperfusion.training.fold_run import RunOptions
from tf_hypoperfusion.training.settings import FoldSettings

pytestmark = pytest.mark.core

CONFIGS = preset("tiny", batch_size=2)


def emptied(manifest, subsets):
    """The manifest as it would be if no patient of these subsets had a lesion."""
    return dataclasses.replace(
        manifest,
        patients=tuple(
            {**patient, "truth_ml": 0.0 if patient["subset"] in subsets else 5.0}
            for patient in manifest.patients
        ),
    )


@pytest.mark.parametrize(
    ("fold", "without", "what"),
    [
        (2, [3], r"fold 2 has no lesion in its validation patients \(subset 3\)"),
        (4, [0], r"fold 4 has no lesion in its validation patients \(subset 0\)"),
        (0, [2, 3, 4], r"fold 0 has no lesion in its training patients \(subset 2 and 3 and 4\)"),
    ],
)
def test_a_fold_without_a_lesion_is_refused(records_dir, fold, without, what):
    manifest = emptied(records.load_manifest(records_dir), without)
    with pytest.raises(InputError, match=f"{what}.*build the records again"):
        trainer.check(CONFIGS.training, RunOptions(), manifest, fold)


def test_a_fold_that_only_tests_patients_without_a_lesion_is_trained(records_dir):
    manifest = emptied(records.load_manifest(records_dir), [2])
    trainer.check(CONFIGS.training, RunOptions(), manifest, 2)


def test_early_records_that_do_not_say_volumes_are_trained_on(records_dir):
    manifest = records.load_manifest(records_dir)
    silent = tuple({k: v for k, v in p.items() if k != "truth_ml"} for p in manifest.patients)
    without = dataclasses.replace(manifest, patients=silent)
    trainer.check(CONFIGS.training, RunOptions(), without, 0)


def test_folds_are_as_many_as_the_records_have_subsets(records_dir):
    manifest = records.load_manifest(records_dir)
    three = dataclasses.replace(manifest, subsets=manifest.subsets[:3])
    settings = FoldSettings.of("run", 2, CONFIGS, three)
    assert settings.subsets == {"train": [1], "validation": [0], "test": [2]}
    with pytest.raises(InputError, match="fold is 3; expected 0 to 2"):
        FoldSettings.of("run", 3, CONFIGS, three)


def test_folds_of_a_run_are_those_with_a_folder(tmp_path):
    for name in ("fold-0", "fold-2", "fold-11", "fold-01", "fold-x", "fold-"):
        (tmp_path / name).mkdir()
    assert run_summary.fold_numbers(tmp_path) == [0, 2, 11]
    (tmp_path / "fold-11/best.keras").touch()
    assert trained_folds.trained(tmp_path) == [11]
    assert trained_folds.asked(tmp_path, "11", "records") == [11]
    assert trained_folds.asked(tmp_path, "all", "records") == [11]
    with pytest.raises(InputError, match="holds no trained fold"):
        trained_folds.asked(tmp_path, "2", "records")
    with pytest.raises(InputError, match="expected a number from 0 up, all or final"):
        trained_folds.asked(tmp_path, "-1", "records")
