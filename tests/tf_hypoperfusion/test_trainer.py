"""A fold: trained, interrupted and resumed, refused, and the same on one device and on two."""

import contextlib
import csv
import dataclasses
import importlib.util
import json
import os
import random
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
from tf_hypoperfusion.fold_state import load_progress
from tf_hypoperfusion.keras_compat import IS_KERAS_3
from tf_hypoperfusion.trainer import Surroundings

pytestmark = pytest.mark.core

HAS_ADDONS = not IS_KERAS_3 and importlib.util.find_spec("tensorflow_addons") is not None


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


def test_settings_say_where_the_run_came_from(whole_run, records_dir):
    from data_tools.records import load_manifest

    config = json.loads((whole_run[0] / "fold-0/config.json").read_text())
    assert config["records"]["fingerprint"] == load_manifest(records_dir)["fingerprint"]
    assert config["resolved"] == {"precision": "float32", "micro_batch": 4}
    assert config["software"]["tensorflow"] and config["software"]["numpy"]
    assert len(config["sessions"]) == 1
    assert config["sessions"][0]["from_epoch"] == 1
    assert any("CPU" in device or "GPU" in device for device in config["devices"])
    model, training = preset("tiny", epochs=3)
    assert config["training"] == dataclasses.asdict(training)
    assert config["model"] == dataclasses.asdict(model)


def test_best_model_gives_the_validation_loss_of_its_epoch(whole_run, records_dir):
    from tf_hypoperfusion.losses import CompositeLoss
    from tf_hypoperfusion.predictors import load_predictor

    run, result = whole_run
    predictor = load_predictor(run / "fold-0/best.keras")
    assert validation_loss(records_dir, predictor, CompositeLoss()) == pytest.approx(
        result["best_loss"], rel=1e-4
    )


def validation_loss(records_dir, predictor, loss):
    from data_tools.records import load_manifest
    from tf_hypoperfusion.input_pipeline import Share, Slabs, evaluation_dataset

    slabs = Slabs(records_dir, load_manifest(records_dir), [1])
    dataset, count = evaluation_dataset(slabs, Share(3))
    losses = []
    for inputs, y_true, weight in dataset.take(count).as_numpy_iterator():
        y_pred = predictor(inputs["image"], inputs["nihss"])
        losses += list(np.asarray(loss.call(y_true, y_pred))[weight > 0])
    return np.mean(losses)


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
    broken, whole = state(tmp_path), state(run)
    assert broken.keys() == whole.keys()
    for name in whole:
        if name not in ("seconds", "waited_s"):
            np.testing.assert_allclose(broken[name], whole[name], 1e-5, 1e-7, err_msg=name)
    np.testing.assert_allclose(validation_losses(tmp_path), validation_losses(run), rtol=1e-5)


TRAIN = [sys.executable, "-m", "tf_hypoperfusion.train", "--fold=0", "--preset=tiny", "--epochs=3"]


def start(*arguments, **options):
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([*TRAIN, *map(str, arguments)], **pipes | options)


def wait_for(condition, process):
    deadline = time.monotonic() + 180
    while not condition() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)


def assert_same_end(run, whole):
    ours, theirs = state(run), state(whole)
    assert ours.keys() == theirs.keys()
    for name in theirs:
        if name not in ("seconds", "waited_s"):
            np.testing.assert_allclose(ours[name], theirs[name], 1e-5, 1e-7, err_msg=name)
    np.testing.assert_allclose(validation_losses(run), validation_losses(whole), rtol=1e-5)


@pytest.mark.parametrize("after", [1, 4])
def test_killed_at_any_moment_it_goes_on(records_dir, tmp_path, whole_run, after):
    """SIGKILL, once within the first epoch and once in the second, at a random moment; the same
    command goes on within the epoch and ends with the same weights."""
    arguments = [f"--records={records_dir}", f"--run={tmp_path}", "--save_minutes=0"]
    file = tmp_path / "fold-0/state.npz"
    process = start(*arguments)

    def steps_done():
        progress = load_progress(file)
        return 3 * progress.epochs + progress.step

    wait_for(lambda: steps_done() >= after, process)
    time.sleep(random.random())
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    done = start(*arguments)
    _, errors = done.communicate(timeout=300)
    assert done.returncode == 0, errors
    assert_same_end(tmp_path, whole_run[0])
    sessions = json.loads((tmp_path / "fold-0/config.json").read_text())["sessions"]
    assert len(sessions) == 2


def test_asked_to_stop_it_saves_within_the_epoch(records_dir, tmp_path, whole_run):
    """SIGTERM, as a cluster's scheduler sends it before it kills."""
    arguments = [f"--records={records_dir}", f"--run={tmp_path}"]
    process = start(*arguments)
    wait_for((tmp_path / "fold-0/config.json").exists, process)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 130
    assert "stopped in epoch" in errors and "the same command goes on" in errors
    progress = load_progress(tmp_path / "fold-0/state.npz")
    assert progress.step >= 1
    assert start(*arguments).wait(timeout=300) == 0
    assert_same_end(tmp_path, whole_run[0])


def test_a_full_disk_stops_cleanly_and_keeps_the_last_state(records_dir, tmp_path, whole_run):
    """A limit on file sizes stands for the disk: the system refuses the write all the same."""
    import resource

    arguments = [f"--records={records_dir}", f"--run={tmp_path}"]
    trainer.train_fold(
        records_dir, tmp_path, 0, *preset("tiny", epochs=3),
        surroundings=Surroundings(stop_after_epoch=1, overlay_epochs=0),
    )  # fmt: skip
    before = (tmp_path / "fold-0/state.npz").read_bytes()
    limit = 100_000  # bytes; history and settings are smaller, the state is larger

    def limit_file_size():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    assert len(before) > limit
    process = start(*arguments, "--overlay_epochs=0", preexec_fn=limit_file_size)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 2, errors
    assert "could not be written" in errors and "run the same command again" in errors
    assert "Traceback" not in errors
    assert (tmp_path / "fold-0/state.npz").read_bytes() == before
    assert not list((tmp_path / "fold-0").glob(".tmp*"))
    assert start(*arguments).wait(timeout=300) == 0
    assert_same_end(tmp_path, whole_run[0])


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


REPLICAS = """
import sys
import tensorflow as tf
devices = int(sys.argv[1])
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * devices)
from tf_hypoperfusion import distribution, trainer
from tf_hypoperfusion.config import preset
strategy = distribution.choose_strategy(devices=[f"/cpu:{i}" for i in range(devices)])
assert strategy.num_replicas_in_sync == devices
settings = preset("tiny", epochs=2, normalisation="none", dropout=0.0, micro_batch=int(sys.argv[4]))
surroundings = trainer.Surroundings(strategy, overlay_epochs=0)
trainer.train_fold(sys.argv[2], sys.argv[3], 0, *settings, surroundings=surroundings)
"""


@pytest.fixture(scope="module")
def one_device(records_dir, tmp_path_factory):
    """Two epochs on one device, without BatchNormalization, which takes moments per replica."""
    run = tmp_path_factory.mktemp("one") / "run"
    settings = preset("tiny", epochs=2, normalisation="none", dropout=0.0)
    trainer.train_fold(records_dir, run, 0, *settings)
    return run


def assert_same_within_rounding(run, one):
    ours, theirs = state(run), state(one)
    for name in theirs:
        if name not in ("seconds", "waited_s"):
            np.testing.assert_allclose(ours[name], theirs[name], 2e-3, 2e-5, err_msg=name)
    np.testing.assert_allclose(validation_losses(run), validation_losses(one), rtol=1e-4)


@pytest.mark.parametrize("micro_batch", [2, 1])
def test_two_replicas_are_one(records_dir, tmp_path, one_device, micro_batch):
    """Same global batch, shared, and in micro-batches too: same weights and validation loss."""
    script = [sys.executable, "-c", REPLICAS, "2", records_dir, tmp_path, micro_batch]
    done = subprocess.run([*map(str, script)], capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr[-2000:]
    assert_same_within_rounding(tmp_path, one_device)


WORKER = """
import sys
from tf_hypoperfusion import distribution, trainer
from tf_hypoperfusion.config import preset
strategy = distribution.choose_strategy("multiworker")
assert strategy.num_replicas_in_sync == 2
settings = preset("tiny", epochs=2, normalisation="none", dropout=0.0)
surroundings = trainer.Surroundings(strategy, overlay_epochs=0)
trainer.train_fold(sys.argv[1], sys.argv[2], 0, *settings, surroundings=surroundings)
"""


@pytest.mark.skipif(not IS_KERAS_3, reason="several workers need the current line")
@pytest.mark.parametrize("described_by", ["TF_CONFIG", "SLURM"])
def test_two_workers_are_one_process(records_dir, tmp_path, one_device, described_by):
    """Two processes on loopback, same global batch: the same weights. Only the chief writes."""
    import socket

    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(2)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        ports = [each.getsockname()[1] for each in sockets]
    processes = []
    for index in (0, 1):
        if described_by == "TF_CONFIG":
            cluster = {"worker": [f"127.0.0.1:{port}" for port in ports]}
            task = {"type": "worker", "index": index}
            environment = {"TF_CONFIG": json.dumps({"cluster": cluster, "task": task})}
        else:
            environment = {
                "SLURM_PROCID": str(index), "SLURM_STEP_NUM_TASKS": "2",
                "SLURM_STEP_NODELIST": "localhost", "SLURM_STEP_TASKS_PER_NODE": "2",
                "SLURM_JOB_ID": str(os.getpid()),
            }  # fmt: skip
        processes.append(
            subprocess.Popen(
                [sys.executable, "-c", WORKER, str(records_dir), str(tmp_path / "run")],
                env=os.environ | environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                text=True,
            )
        )  # fmt: skip
    outputs = [process.communicate(timeout=400) for process in processes]
    for process, (_, errors) in zip(processes, outputs, strict=True):
        assert process.returncode == 0, errors[-3000:]
    assert_same_within_rounding(tmp_path / "run", one_device)
    assert "epoch 2/2" in outputs[0][0] and "epoch" not in outputs[1][0]
    config = json.loads((tmp_path / "run/fold-0/config.json").read_text())
    assert len(config["sessions"]) == 1


def test_options_beyond_the_paper_train_and_resume(records_dir, tmp_path):
    """Averaged weights, warm-up, augmentation, micro-batches, bfloat16, another optimizer."""
    options = {
        "optimizer": "ranger" if HAS_ADDONS else "adamw", "ema_momentum": 0.9, "warmup_epochs": 1,
        "augment": True, "micro_batch": 2, "precision": "bfloat16", "dropout": 0.2,
    }  # fmt: skip
    settings = preset("tiny", epochs=2, **options)
    for run, stops in (("whole", (None,)), ("broken", (1, None))):
        for stop in stops:
            trainer.train_fold(
                records_dir, tmp_path / run, 0, *settings,
                surroundings=Surroundings(stop_after_epoch=stop, overlay_epochs=0),
            )  # fmt: skip
    assert_same_end(tmp_path / "broken", tmp_path / "whole")
    rates = [r["learning_rate"] for r in trainer.fold_state.read_history(tmp_path / "whole/fold-0")]
    assert rates[0] < rates[1]  # of each epoch's first step


def test_the_kept_model_has_the_averaged_weights(records_dir, tmp_path):
    """best.keras gives the validation loss of its epoch, which is that of the average."""
    from tf_hypoperfusion.losses import CompositeLoss
    from tf_hypoperfusion.predictors import load_predictor

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
    assert asked == ["bfloat16"]
    config = json.loads((tmp_path / "fold-0/config.json").read_text())
    assert config["resolved"] == {"precision": "bfloat16", "micro_batch": 2}
    assert config["training"]["precision"] == "auto"
    assert [session["from_epoch"] for session in config["sessions"]] == [1, 2]
