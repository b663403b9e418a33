"""A fold: trained, resumed, refused; its options."""

import csv
import dataclasses
import importlib.util
import json
import shutil

import numpy as np
import pytest
from helpers.same_run import assert_same_end

from data_tools.runtime.errors import InputError
from tf_hypoperfusion.config import preset
from tf_hypoperfusion.model.attention_unet import build_model
from tf_hypoperfusion.model.keras_compat import IS_KERAS_3
from tf_hypoperfusion.training import trainer
from tf_hypoperfusion.training.trainer import Surroundings

HAS_ADDONS = not IS_KERAS_3 and importlib.util.find_spec("tensorflow_addons") is not None


@pytest.mark.core
def test_a_fold_leaves_what_it_promises(whole_run, records_dir):
    run, result = whole_run
    fold = run / "fold-0"
    assert {p.name for p in fold.iterdir()} == {
        "best.keras", "config.json", "history.csv", "state.npz", "tensorboard",
    }  # fmt: skip
    rows = list(csv.DictReader((fold / "history.csv").open()))
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    best = min(rows, key=lambda row: float(row["val_composite"]))
    assert result["best_epoch"] == int(best["epoch"])
    assert result["trained"] == 3
    config = json.loads((fold / "config.json").read_text())
    assert config["training"]["epochs"] == 3
    assert config["subsets"] == {"train": [2, 3, 4], "validation": [1], "test": [0]}
    assert "imulated" in config["records"]["cohort"]


def test_settings_say_where_the_run_came_from(whole_run, records_dir):
    from data_tools.records import load_manifest

    config = json.loads((whole_run[0] / "fold-0/config.json").read_text())
    assert config["records"]["fingerprint"] == load_manifest(records_dir).fingerprint
    assert config["resolved"] == {"precision": "float32", "micro_batch": 4}
    assert config["software"]["tensorflow"] and config["software"]["numpy"]
    assert len(config["sessions"]) == 1
    assert config["sessions"][0]["from_epoch"] == 1
    assert any("CPU" in device or "GPU" in device for device in config["devices"])
    model, training = preset("tiny", epochs=3)
    assert config["training"] == dataclasses.asdict(training)
    assert config["model"] == dataclasses.asdict(model)


@pytest.mark.core
def test_best_model_gives_the_validation_loss_of_its_epoch(whole_run, records_dir):
    from tf_hypoperfusion.inference.predictors import load_predictor
    from tf_hypoperfusion.training.losses import CompositeLoss

    run, result = whole_run
    predictor = load_predictor(run / "fold-0/best.keras")
    assert validation_loss(records_dir, predictor, CompositeLoss()) == pytest.approx(
        result["best_loss"], rel=1e-4
    )


def validation_loss(records_dir, predictor, loss):
    from data_tools.records import load_manifest
    from tf_hypoperfusion.training.input_pipeline import Share, Slabs, evaluation_dataset

    slabs = Slabs(records_dir, load_manifest(records_dir), [1])
    dataset, count = evaluation_dataset(slabs, Share(3))
    losses = []
    for inputs, y_true, weight in dataset.take(count).as_numpy_iterator():
        y_pred = predictor(inputs["image"], inputs["nihss"])
        losses += list(np.asarray(loss.call(y_true, y_pred))[weight > 0])
    return np.mean(losses)


@pytest.mark.core
def test_resumed_is_uninterrupted_weight_for_weight(whole_run, records_dir, tmp_path):
    """Optimizer, dropout, order and learning rate all go on where they were."""
    run, _ = whole_run
    settings = preset("tiny", epochs=3)
    trainer.train_fold(
        records_dir, tmp_path, 0, *settings, surroundings=Surroundings(stop_after_epoch=1)
    )
    assert len(list(csv.DictReader((tmp_path / "fold-0/history.csv").open()))) == 1
    result = trainer.train_fold(records_dir, tmp_path, 0, *settings)
    assert result["trained"] == 2
    assert_same_end(tmp_path, run)


def test_a_finished_fold_is_not_trained_again(whole_run, records_dir):
    run, result = whole_run
    before = (run / "fold-0/best.keras").read_bytes()
    again = trainer.train_fold(records_dir, run, 0, *preset("tiny", epochs=3))
    assert again["trained"] == 0
    assert again["best_loss"] == result["best_loss"]
    assert (run / "fold-0/best.keras").read_bytes() == before


@pytest.mark.core
def test_other_settings_are_refused_by_name(whole_run, records_dir):
    run, _ = whole_run
    with pytest.raises(InputError, match=r"training.learning_rate was 0.005, now 0.01"):
        trainer.train_fold(records_dir, run, 0, *preset("tiny", epochs=3, learning_rate=0.01))


@pytest.mark.parametrize(
    ("gone", "message"),
    [
        ("config.json", "has state.npz and history.csv but no config.json"),
        ("state.npz", "a history of 2 epochs but no state.npz"),
        ("best.keras", "but not its history.csv or best.keras"),
    ],
)
def test_a_begun_fold_that_lost_a_file_is_not_trained_on(
    whole_run, records_dir, tmp_path, gone, message
):
    """As if stopped after two epochs of three."""
    shutil.copytree(whole_run[0] / "fold-0", tmp_path / "fold-0")
    rows = (tmp_path / "fold-0/history.csv").read_text().splitlines()
    (tmp_path / "fold-0/history.csv").write_text("\n".join(rows[:3]) + "\n")
    state = dict(np.load(tmp_path / "fold-0/state.npz"))
    np.savez(tmp_path / "fold-0/state.npz", **(state | {"epochs": 2}))
    (tmp_path / "fold-0" / gone).unlink()
    with pytest.raises(InputError, match=message):
        trainer.train_fold(records_dir, tmp_path, 0, *preset("tiny", epochs=3))


def test_a_finished_fold_needs_no_state(whole_run, records_dir, tmp_path):
    shutil.copytree(whole_run[0] / "fold-0", tmp_path / "fold-0")
    (tmp_path / "fold-0/state.npz").unlink()
    result = trainer.train_fold(records_dir, tmp_path, 0, *preset("tiny", epochs=3))
    assert result["trained"] == 0
    assert result["best_loss"] == whole_run[1]["best_loss"]


def test_an_exchanged_shard_is_named(records_dir, tmp_path):
    """Of the right size, but of other patients: found by its checksum before training."""
    shutil.copytree(records_dir, tmp_path / "records")
    shards = [tmp_path / f"records/subset-{k}/slabs-00000-of-00001.tfrecord" for k in (1, 2)]
    contents = [shard.read_bytes() for shard in shards]
    assert len(contents[0]) == len(contents[1])
    shards[0].write_bytes(contents[1])
    with pytest.raises(InputError, match="damaged .*subset-1/slabs-00000"):
        trainer.train_fold(tmp_path / "records", tmp_path / "run", 0, *preset("tiny"))


@pytest.mark.core
def test_damaged_state_is_named(whole_run, records_dir, tmp_path):
    shutil.copytree(whole_run[0], tmp_path / "run")
    file = tmp_path / "run/fold-0/state.npz"
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(InputError, match="state.npz: the training state cannot be read"):
        trainer.train_fold(records_dir, tmp_path / "run", 0, *preset("tiny", epochs=3))


def test_flipped_byte_in_a_shard_is_named(records_dir, tmp_path):
    shutil.copytree(records_dir, tmp_path / "records")
    shard = tmp_path / "records/subset-2/slabs-00000-of-00001.tfrecord"
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 0xFF
    shard.write_bytes(content)
    with pytest.raises(InputError, match=r"damaged record\(s\).*subset-2/slabs-00000"):
        trainer.train_fold(tmp_path / "records", tmp_path / "run", 0, *preset("tiny"))


@pytest.mark.core
def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_good_state(records_dir, tmp_path):
    settings = preset("tiny", epochs=3, learning_rate=0.005)
    trainer.train_fold(
        records_dir, tmp_path, 0, *settings, surroundings=Surroundings(stop_after_epoch=1)
    )
    file = tmp_path / "fold-0/state.npz"
    with np.load(file) as arrays:
        broken = {name: arrays[name] for name in arrays.files}
    # The last layer: a ReLU after it would turn NaN into 0.
    variables = build_model(settings[0], seed=1).variables
    names = [getattr(variable, "path", variable.name) for variable in variables]
    k = next(i for i, name in enumerate(names) if "logit" in name)
    broken[f"variable_{k:04d}"] *= np.nan
    np.savez(file, **broken)
    best = (tmp_path / "fold-0/best.keras").read_bytes()
    with pytest.raises(InputError, match="the training loss is not finite in epoch 2, step 1"):
        trainer.train_fold(records_dir, tmp_path, 0, *settings)
    assert (tmp_path / "fold-0/best.keras").read_bytes() == best


@pytest.mark.core
def test_options_beyond_the_paper_train_and_resume(records_dir, tmp_path):
    """Averaged weights, warm-up, augmentation, micro-batches, another optimizer."""
    options = {
        "optimizer": "ranger" if HAS_ADDONS else "adamw", "ema_momentum": 0.9, "warmup_epochs": 1,
        "augment": True, "micro_batch": 2, "precision": "auto", "dropout": 0.2,
    }  # fmt: skip
    settings = preset("tiny", epochs=2, **options)
    for run, stops in (("whole", (None,)), ("broken", (1, None))):
        for stop in stops:
            trainer.train_fold(
                records_dir, tmp_path / run, 0, *settings,
                surroundings=Surroundings(stop_after_epoch=stop, overlay_epochs=0),
            )  # fmt: skip
    assert_same_end(tmp_path / "broken", tmp_path / "whole")
    rates = [r["learning_rate"] for r in trainer.fold_history.read(tmp_path / "whole/fold-0")]
    assert rates[0] < rates[1]  # of each epoch's first step


def test_the_kept_model_has_the_averaged_weights(records_dir, tmp_path):
    """best.keras gives the validation loss of its epoch, which is that of the average."""
    from tf_hypoperfusion.inference.predictors import load_predictor
    from tf_hypoperfusion.training.losses import CompositeLoss

    settings = preset("tiny", epochs=2, ema_momentum=0.9)
    result = trainer.train_fold(records_dir, tmp_path, 0, *settings)
    predictor = load_predictor(tmp_path / "fold-0/best.keras")
    loss = validation_loss(records_dir, predictor, CompositeLoss())
    assert loss == pytest.approx(result["best_loss"], rel=1e-4)


def test_patience_ends_a_fold_that_no_longer_gains(records_dir, tmp_path):
    settings = preset("tiny", epochs=30, learning_rate=1e-9, batch_norm_momentum=0.0, patience=2)
    result = trainer.train_fold(
        records_dir, tmp_path, 0, *settings, surroundings=Surroundings(overlay_epochs=0)
    )
    assert result["epochs"] < 30
    assert result["epochs"] - result["best_epoch"] == 2
    again = trainer.train_fold(records_dir, tmp_path, 0, *settings)
    assert again["trained"] == 0


def test_auto_keeps_what_the_first_start_chose(records_dir, tmp_path, monkeypatch):
    settings = preset("tiny", epochs=2, precision="auto")
    monkeypatch.setattr(trainer.memory, "fitting_slabs", lambda size: 2)
    monkeypatch.setattr(trainer, "choose_precision", lambda wanted: ("bfloat16", "a test"))
    watch = Surroundings(stop_after_epoch=1, overlay_epochs=0)
    trainer.train_fold(records_dir, tmp_path, 0, *settings, surroundings=watch)
    monkeypatch.undo()
    asked = []
    monkeypatch.setattr(
        trainer, "choose_precision", lambda wanted: asked.append(wanted) or (wanted, "kept")
    )
    trainer.train_fold(records_dir, tmp_path, 0, *settings)
    assert asked == ["auto", "bfloat16"]  # checked as given, then taken as begun
    config = json.loads((tmp_path / "fold-0/config.json").read_text())
    assert config["resolved"] == {"precision": "bfloat16", "micro_batch": 2}
    assert config["training"]["precision"] == "auto"
    assert [session["from_epoch"] for session in config["sessions"]] == [1, 2]


@pytest.mark.parametrize("mistake", ["damaged shard", "option", "batch"])
def test_overwrite_throws_nothing_away_before_every_check(
    mistake, whole_run, records_dir, tmp_path
):
    run = shutil.copytree(whole_run[0], tmp_path / "run")
    before = {p: p.read_bytes() for p in run.rglob("*") if p.is_file()}
    records, changes = records_dir, {}
    if mistake == "damaged shard":
        records = shutil.copytree(records_dir, tmp_path / "records")
        shard = sorted(records.glob("subset-2/*"))[0]
        content = bytearray(shard.read_bytes())
        content[5000] ^= 255
        shard.write_bytes(content)
    elif mistake == "option":
        changes = {"optimizer": 'adam(clipnorm="1.0")'}
    else:
        changes = {"micro_batch": 3, "batch_size": 3000}
    with pytest.raises(InputError):
        trainer.train_fold(records, run, 0, *preset("tiny", **changes), overwrite=True)
    assert {p: p.read_bytes() for p in run.rglob("*") if p.is_file()} == before


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("best.keras", None, None, "best.keras is damaged"),
        ("config.json", '"sessions": [', '"sessions": null, "x": [', "not readable or not whole"),
        ("config.json", '"micro_batch": 4', '"micro_batch": "a"', "not readable or not whole"),
    ],
)
def test_a_damaged_part_of_a_begun_fold_is_named(
    name, old, new, message, whole_run, records_dir, tmp_path
):
    run = shutil.copytree(whole_run[0], tmp_path / "run")
    path = run / "fold-0" / name
    if old is None:
        path.write_bytes(path.read_bytes()[:1000])
    else:
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))
    with pytest.raises(InputError, match=message):
        trainer.train_fold(records_dir, run, 0, *preset("tiny", epochs=3))


def test_a_column_added_to_the_history_by_hand_costs_nothing(records_dir, tmp_path):
    settings = preset("tiny", epochs=2)
    stop = trainer.Surroundings(stop_after_epoch=1)
    trainer.train_fold(records_dir, tmp_path, 0, *settings, surroundings=stop)
    path = tmp_path / "fold-0/history.csv"
    head, row = path.read_text().split()
    path.write_text(f"{head},note\n{row},1\n")
    assert trainer.train_fold(records_dir, tmp_path, 0, *settings)["epochs"] == 2
    assert "note" not in path.read_text()
