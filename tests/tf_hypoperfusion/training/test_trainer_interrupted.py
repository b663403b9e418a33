"""Killed, asked to stop, on a full disk, on two devices and on two machines: the same weights."""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest
from helpers.same_run import assert_same_end, assert_same_within_rounding

from tf_hypoperfusion.config import preset
from tf_hypoperfusion.model.keras_compat import IS_KERAS_3
from tf_hypoperfusion.training import trainer
from tf_hypoperfusion.training.checkpoint import load_progress
from tf_hypoperfusion.training.trainer import Surroundings

TRAIN = [sys.executable, "-m", "tf_hypoperfusion.train", "--fold=0", "--preset=tiny", "--epochs=3"]


def start(*arguments, **options):
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([*TRAIN, *map(str, arguments)], **pipes | options)


def wait_for(condition, process):
    deadline = time.monotonic() + 180
    while not condition() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)


def test_killed_at_any_moment_it_goes_on(records_dir, tmp_path, whole_run):
    """SIGKILL at a random moment after the fourth of nine steps; the same command goes on within
    the epoch and ends with the same weights."""
    arguments = [f"--records={records_dir}", f"--run={tmp_path}", "--save_minutes=0"]
    file = tmp_path / "fold-0/state.npz"
    process = start(*arguments)

    def steps_done():
        progress = load_progress(file)
        return 3 * progress.epochs + progress.step

    wait_for(lambda: steps_done() >= 4, process)
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
    assert "stopped in epoch" in errors and "the same command without --overwrite goes on" in errors
    progress = load_progress(tmp_path / "fold-0/state.npz")
    assert progress.step >= 1
    assert start(*arguments).wait(timeout=300) == 0
    assert_same_end(tmp_path, whole_run[0])


def test_a_full_disk_stops_cleanly_and_keeps_the_last_state(records_dir, tmp_path):
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
    assert "could not be written" in errors and "run the same command" in errors
    assert "Traceback" not in errors
    assert (tmp_path / "fold-0/state.npz").read_bytes() == before
    assert not list((tmp_path / "fold-0").glob(".tmp*"))


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
