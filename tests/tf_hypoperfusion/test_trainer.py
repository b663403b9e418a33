"""A fold: trained, interrupted and resumed, refused, and the same on one device and on two."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from data_tools.errors import InputError
from tf_hypoperfusion import trainer
from tf_hypoperfusion.attention_unet import build_model
from tf_hypoperfusion.config import preset

pytestmark = pytest.mark.core


def state(folder):
    with np.load(folder / "fold-0/state.npz") as arrays:
        return {name: arrays[name] for name in arrays.files}


def validation_losses(run):
    rows = csv.DictReader((run / "fold-0/history.csv").open())
    return [float(row["val_composite"]) for row in rows]


@pytest.fixture(scope="module")
def whole_run(records_dir, tmp_path_factory):
    """Three epochs of the tiny preset without a break."""
    run = tmp_path_factory.mktemp("run") / "whole"
    result = trainer.train_fold(records_dir, run, 0, *preset("tiny", epochs=3))
    return run, result


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


def test_best_model_gives_the_validation_loss_of_its_epoch(whole_run, records_dir):
    from data_tools.records import load_manifest
    from tf_hypoperfusion.input_pipeline import evaluation_dataset
    from tf_hypoperfusion.losses import CompositeLoss
    from tf_hypoperfusion.predictors import load_predictor

    run, result = whole_run
    predictor = load_predictor(run / "fold-0/best.keras")
    dataset, count = evaluation_dataset(records_dir, load_manifest(records_dir), [1], 3)
    losses = []
    for inputs, y_true, weight in dataset.take(count).as_numpy_iterator():
        y_pred = predictor(inputs["image"], inputs["nihss"])
        losses += list(np.asarray(CompositeLoss().call(y_true, y_pred))[weight > 0])
    assert np.mean(losses) == pytest.approx(result["best_loss"], rel=1e-4)


def test_tensorboard_reads_the_curves(whole_run):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run, _ = whole_run
    events = EventAccumulator(
        str(run / "fold-0/tensorboard/validation"), size_guidance={"tensors": 0}
    )
    events.Reload()
    assert {"epoch_composite", "epoch_dice", "epoch_volume_error_ml"} <= set(
        events.Tags()["tensors"]
    )
    assert [event.step for event in events.Tensors("epoch_composite")] == [0, 1, 2]


def test_resumed_is_uninterrupted_weight_for_weight(whole_run, records_dir, tmp_path):
    """Optimizer, dropout, order and learning rate all go on where they were."""
    run, _ = whole_run
    settings = preset("tiny", epochs=3)
    trainer.train_fold(records_dir, tmp_path, 0, *settings, stop_after_epoch=1)
    assert len(list(csv.DictReader((tmp_path / "fold-0/history.csv").open()))) == 1
    result = trainer.train_fold(records_dir, tmp_path, 0, *settings)
    assert result["trained"] == 2
    broken, whole = state(tmp_path), state(run)
    assert broken.keys() == whole.keys()
    for name in whole:
        np.testing.assert_allclose(broken[name], whole[name], rtol=1e-5, atol=1e-7, err_msg=name)
    np.testing.assert_allclose(validation_losses(tmp_path), validation_losses(run), rtol=1e-5)


def test_killed_at_any_moment_it_goes_on(records_dir, tmp_path, whole_run):
    """SIGKILL once the first epoch is kept; the same command ends with the same weights."""
    command = [
        sys.executable, "-m", "tf_hypoperfusion.train", "--fold=0", f"--records={records_dir}",
        f"--run={tmp_path}", "--preset=tiny", "--epochs=3",
    ]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 180
    while not (tmp_path / "fold-0/state.npz").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert trainer._saved_epochs(tmp_path / "fold-0/state.npz") in (1, 2)
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    whole, killed = state(whole_run[0]), state(tmp_path)
    for name in whole:
        np.testing.assert_allclose(killed[name], whole[name], rtol=1e-5, atol=1e-7, err_msg=name)


def test_a_finished_fold_is_not_trained_again(whole_run, records_dir):
    run, result = whole_run
    before = (run / "fold-0/best.keras").read_bytes()
    again = trainer.train_fold(records_dir, run, 0, *preset("tiny", epochs=3))
    assert again["trained"] == 0
    assert again["best_loss"] == result["best_loss"]
    assert (run / "fold-0/best.keras").read_bytes() == before


def test_other_settings_are_refused_by_name(whole_run, records_dir):
    run, _ = whole_run
    with pytest.raises(InputError, match=r"training.learning_rate was 0.005, now 0.01"):
        trainer.train_fold(records_dir, run, 0, *preset("tiny", epochs=3, learning_rate=0.01))


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


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_good_state(records_dir, tmp_path):
    settings = preset("tiny", epochs=3, learning_rate=0.005)
    trainer.train_fold(records_dir, tmp_path, 0, *settings, stop_after_epoch=1)
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
    with pytest.raises(InputError, match="the training loss is nan in epoch 2, step 1"):
        trainer.train_fold(records_dir, tmp_path, 0, *settings)
    assert (tmp_path / "fold-0/best.keras").read_bytes() == best


REPLICAS = """
import sys
import numpy as np
import tensorflow as tf
devices = int(sys.argv[1])
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * devices)
from tf_hypoperfusion import distribution, trainer
from tf_hypoperfusion.config import preset
strategy = distribution.choose_strategy([f"/cpu:{i}" for i in range(devices)])
assert strategy.num_replicas_in_sync == devices
settings = preset("tiny", epochs=2, normalisation="none", dropout=0.0)
trainer.train_fold(sys.argv[2], sys.argv[3], 0, *settings, strategy=strategy)
"""


def test_two_replicas_are_one(records_dir, tmp_path):
    """Same global batch: same weights and validation loss. (BatchNormalization would differ: it
    takes its moments per replica.)"""
    for devices in (1, 2):
        script = [sys.executable, "-c", REPLICAS, str(devices), str(records_dir)]
        done = subprocess.run(
            [*script, str(tmp_path / str(devices))], capture_output=True, text=True, timeout=400
        )
        assert done.returncode == 0, done.stderr[-2000:]
    one, two = state(tmp_path / "1"), state(tmp_path / "2")
    moved = 0.0
    for name in one:
        np.testing.assert_allclose(two[name], one[name], rtol=2e-3, atol=2e-5, err_msg=name)
        moved = max(moved, float(np.abs(one[name]).max()))
    assert moved > 0
    losses = [validation_losses(tmp_path / devices) for devices in ("1", "2")]
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-4)


def test_a_batch_that_does_not_divide_is_refused():
    from types import SimpleNamespace

    from tf_hypoperfusion.distribution import check_batch

    with pytest.raises(InputError, match="a batch of 32 does not divide over 3 devices.*=33"):
        check_batch(32, SimpleNamespace(num_replicas_in_sync=3))
