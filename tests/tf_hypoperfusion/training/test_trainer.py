"""A fold of a real network: what it leaves, resumed weight for weight, its options."""

import csv
import dataclasses
import importlib.util
import json
import shutil

import numpy as np
import pytest
from helpers.same_run import assert_same_end, kept_after_first_epoch

from tf_hypoperfusion.config import preset
from tf_hypoperfusion.model import keras_file
from tf_hypoperfusion.model.keras_compat import IS_KERAS_3
from tf_hypoperfusion.training import history, trainer
from tf_hypoperfusion.training.trainer import RunOptions

HAS_ADDONS = not IS_KERAS_3 and importlib.util.find_spec("tensorflow_addons") is not None


# Those of three_epochs.
SETTINGS = preset("tiny", epochs=3, poolings=1)


@pytest.mark.core
def test_a_fold_leaves_what_it_promises(three_epochs, records_dir):
    run, result = three_epochs
    fold = run / "fold-0"
    assert {p.name for p in fold.iterdir()} == {
        "best.keras", "config.json", "history.csv", "state.npz", "tensorboard",
    }  # fmt: skip
    rows = list(csv.DictReader((fold / "history.csv").open()))
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    best = min(rows, key=lambda row: float(row["val_composite"]))
    assert result.best_epoch == int(best["epoch"])
    assert result.trained == 3
    config = json.loads((fold / "config.json").read_text())
    assert config["training"]["epochs"] == 3
    assert config["subsets"] == {"train": [2, 3, 4], "validation": [1], "test": [0]}
    assert "imulated" in config["records"]["cohort"]


def test_settings_say_where_the_run_came_from(three_epochs, records_dir):
    from data_tools.records import load_manifest

    config = json.loads((three_epochs[0] / "fold-0/config.json").read_text())
    assert config["records"]["fingerprint"] == load_manifest(records_dir).fingerprint
    assert config["resolved"] == {"precision": "float32", "micro_batch": 4}
    assert config["software"]["tensorflow"] and config["software"]["numpy"]
    assert len(config["sessions"]) == 1
    assert config["sessions"][0]["from_epoch"] == 1
    assert any("CPU" in device or "GPU" in device for device in config["devices"])
    assert config["training"] == dataclasses.asdict(SETTINGS.training)
    assert config["model"] == dataclasses.asdict(SETTINGS.model)


@pytest.mark.core
def test_best_model_gives_the_validation_loss_of_its_epoch(three_epochs, records_dir):
    from tf_hypoperfusion.inference.predictors import load_predictor
    from tf_hypoperfusion.training.losses import CompositeLoss

    run, result = three_epochs
    predictor = load_predictor(run / "fold-0/best.keras")
    assert validation_loss(records_dir, predictor, CompositeLoss()) == pytest.approx(
        result.best_loss, rel=1e-4
    )


def validation_loss(records_dir, predictor, loss):
    from data_tools.records import load_manifest
    from tf_hypoperfusion.training.input_pipeline import Share, Slabs, evaluation_dataset

    slabs = Slabs(records_dir, load_manifest(records_dir), [1])
    dataset, count = evaluation_dataset(slabs, Share(3))
    losses = []
    for inputs, y_true, weight, _ in dataset.take(count).as_numpy_iterator():
        y_pred = predictor(inputs["image"], inputs["nihss"])
        losses += list(np.asarray(loss.call(y_true, y_pred))[weight > 0])
    return np.mean(losses)


@pytest.mark.core
def test_resumed_is_uninterrupted_weight_for_weight(three_epochs, records_dir, tmp_path):
    """Optimizer, dropout, order and learning rate all go on where they were."""
    run, _ = three_epochs
    broken = shutil.copytree(run.with_name("after_first"), tmp_path / "broken")
    assert len(list(csv.DictReader((broken / "fold-0/history.csv").open()))) == 1
    result = trainer.train_fold(records_dir, broken, 0, SETTINGS)
    assert result.trained == 2
    assert_same_end(broken, run)


@pytest.mark.core
def test_options_beyond_the_paper_train_and_resume(records_dir, tmp_path):
    """Averaged weights, warm-up, random changes, micro-batches, another optimizer."""
    options = {
        "optimizer": "ranger" if HAS_ADDONS else "adamw", "ema_momentum": 0.9, "warmup_epochs": 1,
        "randomisation": "wide+inputs", "micro_batch": 2, "precision": "auto", "dropout": 0.2,
        "poolings": 1,
    }  # fmt: skip
    settings = preset("tiny", epochs=2, **options)
    watch = RunOptions(overlay_epochs=0)
    with kept_after_first_epoch(tmp_path / "broken"):
        trainer.train_fold(records_dir, tmp_path / "whole", 0, settings, options=watch)
    result = trainer.train_fold(records_dir, tmp_path / "broken", 0, settings, options=watch)
    assert result.trained == 1
    assert_same_end(tmp_path / "broken", tmp_path / "whole")
    rates = [r["learning_rate"] for r in history.read(tmp_path / "whole/fold-0")]
    assert rates[0] < rates[1]  # of each epoch's first step


@pytest.mark.core
def test_a_trained_network_is_trained_further_and_resumes(three_epochs, records_dir, tmp_path):
    """A frozen part, one at another rate, fixed moments, averaged weights."""
    given = {
        "init_from": str(three_epochs[0]), "encoder_rate": 0.0, "decoder_rate": 0.3,
        "fixed_moments": True, "ema_momentum": 0.9, "poolings": 1,
    }  # fmt: skip
    settings, watch = preset("tiny", epochs=2, **given), RunOptions(overlay_epochs=0)
    with kept_after_first_epoch(tmp_path / "broken"):
        trainer.train_fold(records_dir, tmp_path / "whole", 0, settings, options=watch)
    result = trainer.train_fold(records_dir, tmp_path / "broken", 0, settings, options=watch)
    assert result.trained == 1
    assert_same_end(tmp_path / "broken", tmp_path / "whole")
    parent, child = (
        {
            each.name: each.get_weights()
            for each in keras_file.load(run / "fold-0/best.keras").layers
        }
        for run in (three_epochs[0], tmp_path / "whole")
    )
    for name, weights in child.items():
        same = all(np.array_equal(*pair) for pair in zip(weights, parent[name], strict=True))
        assert not name.startswith("encoder") or same, name
        assert not name.startswith("decoder0_conv") or not same, name


def test_the_kept_model_has_the_averaged_weights(records_dir, tmp_path):
    """best.keras gives the validation loss of its epoch, which is that of the average."""
    from tf_hypoperfusion.inference.predictors import load_predictor
    from tf_hypoperfusion.training.losses import CompositeLoss

    settings = preset("tiny", epochs=2, ema_momentum=0.9, poolings=1)
    watch = RunOptions(overlay_epochs=0)
    result = trainer.train_fold(records_dir, tmp_path, 0, settings, options=watch)
    predictor = load_predictor(tmp_path / "fold-0/best.keras")
    loss = validation_loss(records_dir, predictor, CompositeLoss())
    assert loss == pytest.approx(result.best_loss, rel=1e-4)
