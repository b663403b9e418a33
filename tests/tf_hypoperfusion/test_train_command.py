"""The train command: repeating a run, contradictions, all folds, the summary, the ablations."""

import csv
import dataclasses
import functools
import json
import shutil
import zipfile

import numpy as np
import pytest
from helpers import commands
from helpers.fake_step import FakeStep, without_slabs

from data_tools.runtime.errors import InputError
from tf_hypoperfusion import train
from tf_hypoperfusion.evaluation import plan, trained_folds
from tf_hypoperfusion.model.export_files import DEMO_MODEL
from tf_hypoperfusion.training import run_summary, trainer

call = functools.partial(commands.call, train)


@pytest.fixture(scope="module", autouse=True)
def _without_a_network():
    """The command around the training is looked at here."""
    with pytest.MonkeyPatch.context() as patch:
        cheap = functools.partial(trainer.train_folds, build_step=FakeStep)
        patch.setattr(trainer, "train_folds", cheap)
        without_slabs(patch)
        yield


@pytest.fixture(scope="module")
def all_folds(records_dir, tmp_path_factory):
    """Five folds of one epoch, with values of their own."""
    run = tmp_path_factory.mktemp("run") / "five"
    arguments = ("--preset=tiny", "--epochs=1", "--seed=5", "--no_gates", "--overlay_epochs=0")
    assert call("--fold=all", *arguments, f"--records={records_dir}", f"--run={run}") == 0
    return run


def history(folder):
    return list(csv.DictReader((folder / "history.csv").open()))


def test_five_folds_test_every_subset_once(all_folds):
    configs = [json.loads((all_folds / f"fold-{k}/config.json").read_text()) for k in range(5)]
    assert sorted(c["subsets"]["test"][0] for c in configs) == [0, 1, 2, 3, 4]
    for config in configs:
        roles = config["subsets"]
        assert sorted([*roles["train"], *roles["validation"], *roles["test"]]) == [0, 1, 2, 3, 4]
        assert config["model"]["attention_gates"] is False


def test_summary_collects_the_folds(all_folds):
    found = json.loads((all_folds / "summary.json").read_text())
    assert found == dataclasses.asdict(run_summary.summarise(all_folds))
    assert found["finished"] == [0, 1, 2, 3, 4]
    losses = []
    for row in found["folds"]:
        (epoch,) = history(all_folds / f"fold-{row['fold']}")
        assert row["val_composite"] == float(epoch["val_composite"])
        assert row["best_epoch"] == 1
        losses.append(row["val_composite"])
    assert found["median"]["val_composite"] == sorted(losses)[2]


@pytest.fixture(scope="module")
def final(all_folds, records_dir, tmp_path_factory):
    """The final network of these folds, with pictures asked for; and what was printed."""
    run = shutil.copytree(all_folds, tmp_path_factory.mktemp("run") / "five")
    for fold, best in enumerate((9, 2, 4, 3, 7)):  # as if they had been trained longer
        file = run / f"fold-{fold}/config.json"
        config = json.loads(file.read_text())
        config["training"]["epochs"] = 10
        file.write_text(json.dumps(config))
        (row,) = history(run / f"fold-{fold}")
        rows = [row | {"epoch": k, "val_composite": abs(k - best)} for k in range(1, 11)]
        with (run / f"fold-{fold}/history.csv").open("w", newline="") as stream:
            table = csv.DictWriter(stream, list(row))
            table.writeheader()
            table.writerows(rows)
    arguments = ("--preset=tiny", "--seed=5", "--no_gates", "--overlay_epochs=1")
    arguments += (f"--records={records_dir}", f"--run={run}")
    return run, arguments


def test_the_final_network_is_trained_on_all_for_the_median_of_best_epochs(final, capsys):
    run, arguments = final
    assert call("--fold=final", *arguments) == 0
    said = capsys.readouterr().out
    assert (
        "4 epochs: the median of the best epochs of the finished folds, which are 2, 3, 4, 7, 9"
        in said
    )
    assert "the final network trained 4 epochs; untested; the weights of epoch 4: " in said
    assert "validation" not in said
    config = json.loads((run / "final/config.json").read_text())
    assert config["subsets"] == {"train": [0, 1, 2, 3, 4], "validation": [], "test": []}
    assert config["fold"] is None and config["training"]["epochs"] == 4
    assert "untested by itself" in config["note"]
    rows = history(run / "final")
    assert len(rows) == 4
    assert not [name for name in rows[0] if name.startswith("val_")]
    summary = json.loads((run / "summary.json").read_text())
    assert summary["finished"] == [0, 1, 2, 3, 4]
    assert summary["final"]["finished"] and summary["final"]["best_epoch"] == 4
    assert summary["final"]["val_dice"] is None
    with zipfile.ZipFile(run / "final/best.keras") as kept:
        last = float(kept.read("weight")[: len(kept.read("weight")) // 500])
    assert last == pytest.approx(np.load(run / "final/state.npz")["variable_0000"])
    assert call("--fold=final", *arguments) == 0
    assert "the final network was finished before" in capsys.readouterr().out
    with pytest.raises(InputError, match="was trained on every patient.*--external=MNI"):
        plan.make_plan(plan.Settings(run=str(run), records="records", fold="final"))
    assert trained_folds.asked(run, "final", "records") == [None]
    assert trained_folds.asked(run, "all", "records") == [0, 1, 2, 3, 4]


def test_the_final_network_needs_a_number_of_epochs(records_dir, tmp_path, capsys):
    arguments = ("--fold=final", "--preset=tiny", f"--records={records_dir}", f"--run={tmp_path}")
    assert call(*arguments) == 2
    assert "takes its epochs from the finished folds" in capsys.readouterr().err
    assert call(*arguments, "--epochs=2") == 0
    assert len(history(tmp_path / "final")) == 2


def test_few_patients_begin_with_the_demonstration_model(records_dir, tmp_path, capsys):
    """Nobody has to know what its network is built of; config.json names it."""
    run = tmp_path / "few"
    given = ("--preset=few_patients", f"--records={records_dir}", f"--run={run}")
    given += ("--epochs=2", "--overlay_epochs=0")
    assert call("--fold=1", *given) == 0
    said = capsys.readouterr().out
    assert (
        "fold 1 begins with hypoperfusion_demo version 1, network 1, trained on SIMULATED patients"
        in said
    )
    assert "as it came: validation loss " in said
    config = json.loads((run / "fold-1/config.json").read_text())
    card = json.loads((DEMO_MODEL / "1/model_card.json").read_text())["models"][1]
    assert config["model"] == card["model"]
    assert config["training"]["init_from"] == "demo#1"
    assert config["parent"] == {
        "name": "hypoperfusion_demo version 1, network 1",
        "sha256": card["sha256"],
        "cohort": card["records"]["cohort"],
        "simulated": True,
    }
    assert call("--fold=1", *given) == 0 and "fold 1 was finished before" in capsys.readouterr().out
    assert call("--fold=1", *given, "--base_filters=8") == 2
    said = capsys.readouterr().err
    assert "another network: base_filters is 12 there and 8 here" in said
    # A parent that was exchanged is another training.
    changed = config | {"parent": config["parent"] | {"sha256": "0" * 64}}
    (run / "fold-1/config.json").write_text(json.dumps(changed))
    assert call("--fold=1", *given) == 2
    assert "parent.sha256 was 000" in capsys.readouterr().err
    # A run of before does not name one.
    del changed["parent"]
    (run / "fold-1/config.json").write_text(json.dumps(changed))
    assert call("--fold=1", *given) == 0


def test_a_finished_fold_is_trained_longer_as_another_run(all_folds, records_dir, tmp_path, capsys):
    """The learning rate's decay depends on the number of epochs."""
    given = ("--preset=tiny", "--seed=5", "--no_gates", "--overlay_epochs=0", "--fold=1")
    given += (f"--records={records_dir}", "--epochs=3")
    assert call(*given, f"--run={all_folds}") == 2
    said = capsys.readouterr().err
    assert "training.epochs was 1, now 3" in said
    assert f"--init_from={all_folds} --run=NEW --epochs=3" in said
    assert call(*given, f"--run={tmp_path}", f"--init_from={all_folds}") == 0
    config = json.loads((tmp_path / "fold-1/config.json").read_text())
    assert config["training"]["init_from"] == str(all_folds / "fold-1/best.keras")
    assert len(history(tmp_path / "fold-1")) == 3


def test_summary_of_nothing_and_of_a_begun_fold(all_folds, tmp_path):
    assert run_summary.summarise(tmp_path).folds == []
    assert run_summary.summarise(tmp_path).median["val_dice"] is None
    begun = tmp_path / "fold-3"
    begun.mkdir()
    for name in ("config.json", "history.csv"):
        (begun / name).write_bytes((all_folds / f"fold-3/{name}").read_bytes())
    config = json.loads((begun / "config.json").read_text())
    config["training"]["epochs"] = 2
    (begun / "config.json").write_text(json.dumps(config))
    found = run_summary.summarise(tmp_path)
    assert [summary.fold for summary in found.folds] == [3]
    assert found.finished == []


def test_finished_folds_are_left_as_they_are(all_folds, records_dir, capsys):
    before = (all_folds / "fold-2/best.keras").read_bytes()
    arguments = ("--preset=tiny", "--epochs=1", "--seed=5", "--no_gates", "--overlay_epochs=0")
    assert call("--fold=2", *arguments, f"--records={records_dir}", f"--run={all_folds}") == 0
    assert "fold 2 was finished before" in capsys.readouterr().out
    assert (all_folds / "fold-2/best.keras").read_bytes() == before


@pytest.mark.parametrize(("dice", "warned"), [("0.049", True), ("0.051", False), ("nan", False)])
def test_a_network_that_learnt_nothing_is_told(
    all_folds, records_dir, tmp_path, capsys, dice, warned
):
    run = shutil.copytree(all_folds, tmp_path / "run")
    rows = history(run / "fold-2")
    lines = [",".join(rows[0]), *(",".join((row | {"val_dice": dice}).values()) for row in rows)]
    (run / "fold-2/history.csv").write_text("\n".join(lines) + "\n")
    arguments = ("--preset=tiny", "--epochs=1", "--seed=5", "--no_gates", "--overlay_epochs=0")
    assert call("--fold=2", *arguments, f"--records={records_dir}", f"--run={run}") == 0
    told = f"WARNING: fold 2 has learnt next to nothing: validation Dice {dice}"
    assert (told in capsys.readouterr().err) == warned


def test_a_run_is_repeated_from_its_config(all_folds, records_dir, tmp_path, capsys):
    config = all_folds / "fold-1/config.json"
    given = (f"--config={config}", f"--records={records_dir}", f"--run={tmp_path}/again")
    assert call("--fold=1", *given, "--overlay_epochs=0") == 0
    assert "are not those of" not in capsys.readouterr().err
    ours, theirs = (history(folder / "fold-1")[0] for folder in (tmp_path / "again", all_folds))
    for name, value in theirs.items():
        if name not in ("seconds", "input_wait_share") and "examples_per_s" not in name:
            assert float(ours[name]) == pytest.approx(float(value), rel=1e-5), name


@pytest.mark.parametrize(
    ("change", "arguments", "message"),
    [
        ({}, ("--preset=tiny",), "--preset contradicts --config"),
        ({}, ("--epochs=9",), "--epochs=9 (1 in the file) contradicts --config"),
        ({}, ("--no_nihss",), "--no_nihss (nihss_fusion is True in the file)"),
        ({"training": {}}, (), "training has unknown or missing values (batch_size, bce_weight"),
        ({"training": None}, (), "has no 'training'; expected a config.json"),
        ({"model": {"colour": 1}}, (), "model has unknown or missing values (colour"),
        ({"training.randomisation": "wild"}, (), "randomisation is 'wild'; expected one of none"),
        ({"training.epochs": "many"}, (), "training.epochs is 'many'; expected"),
        ({"training.batch_size": 0}, (), "batch_size is 0; expected 1 or more"),
        ({"resolved.micro_batch": "2"}, (), "resolved.micro_batch is '2'"),
    ],
)
def test_a_config_that_does_not_fit_is_refused(
    all_folds, records_dir, tmp_path, capsys, change, arguments, message
):
    config = json.loads((all_folds / "fold-1/config.json").read_text())
    for name, value in change.items():
        part, _, field = name.partition(".")
        if field:
            config[part][field] = value
        elif value:
            config[part] |= value
        else:
            config[part] = value
    file = tmp_path / "config.json"
    file.write_text(json.dumps(config))
    given = (f"--config={file}", f"--records={records_dir}", f"--run={tmp_path}/run")
    assert call("--fold=1", *given, *arguments) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_the_same_value_as_in_the_file_is_no_contradiction(all_folds, records_dir, monkeypatch):
    config = all_folds / "fold-1/config.json"
    for name in train.FLAGS:  # what a test before this one gave
        train.FLAGS[name].unparse()
    train.FLAGS(["train", "--fold=1", f"--config={config}", "--epochs=1", "--no_gates"])
    model, training = train.settings()
    assert (model.attention_gates, training.epochs, training.micro_batch) == (False, 1, 4)


def test_a_config_on_other_records_warns(all_folds, records_dir, tmp_path, capsys):
    config = json.loads((all_folds / "fold-1/config.json").read_text())
    config["records"]["fingerprint"] = "another"
    (tmp_path / "config.json").write_text(json.dumps(config))
    given = (f"--config={tmp_path}/config.json", f"--records={records_dir}", "--overlay_epochs=0")
    assert call("--fold=1", *given, f"--run={tmp_path}/run") == 0
    assert "are not those of" in capsys.readouterr().err


def test_a_run_goes_on_with_its_own_config(records_dir, tmp_path, capsys):
    """What the machine chose the first time is no contradiction to "auto"."""
    given = ("--fold=0", f"--records={records_dir}", f"--run={tmp_path}/run", "--overlay_epochs=0")
    assert call(*given, "--preset=tiny", "--epochs=1", "--precision=auto") == 0
    assert call(*given, f"--config={tmp_path}/run/fold-0/config.json") == 0
    assert "was finished before" in capsys.readouterr().out


@pytest.mark.parametrize(
    "wrong", ["--batch_size=100", "--optimizer=foo", "--randomisation=foo", "--cache=maybe"]
)
def test_overwrite_with_a_wrong_flag_throws_nothing_away(all_folds, records_dir, capsys, wrong):
    before = {p.name: p.stat().st_mtime_ns for p in (all_folds / "fold-4").iterdir()}
    given = (f"--records={records_dir}", f"--run={all_folds}", "--preset=tiny", "--overwrite")
    assert call("--fold=4", *given, wrong) == 2
    assert {p.name: p.stat().st_mtime_ns for p in (all_folds / "fold-4").iterdir()} == before


def test_a_damaged_fold_does_not_hide_the_others(all_folds, tmp_path):
    import shutil

    shutil.copytree(all_folds, tmp_path / "run")
    (tmp_path / "run/fold-3/history.csv").write_bytes(b"epoch\xff,1\n2,3\n")
    assert run_summary.summarise(tmp_path / "run").finished == [0, 1, 2, 4]
