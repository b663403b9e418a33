"""Killed, asked to stop, on a full disk, on two devices and on two machines: the same weights."""

import contextlib
import fcntl
import functools
import json
import os
import random
import resource
import signal
import termios
import time
from pathlib import Path

import pytest
import tensorflow as tf
from helpers import commands, train_on_devices
from helpers.fake_step import FakeStep
from helpers.made_once import made_once
from helpers.same_run import assert_same_end, assert_same_within_rounding

from tf_hypoperfusion import train
from tf_hypoperfusion.config import preset
from tf_hypoperfusion.model.keras_compat import IS_KERAS_3
from tf_hypoperfusion.training import distribution, trainer
from tf_hypoperfusion.training.checkpoint import load_progress
from tf_hypoperfusion.training.trainer import RunOptions

start = functools.partial(commands.start, "tf_hypoperfusion.train", "--fold=0")


def wait_for(condition, process):
    deadline = time.monotonic() + 180
    while not condition() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)


@pytest.fixture
def uninterrupted(three_epochs):
    """Three epochs of a very small network without a break."""
    return three_epochs[0]


@pytest.fixture
def arguments(uninterrupted, records_dir, tmp_path):
    """Of a command that trains the same."""
    config = uninterrupted / "fold-0/config.json"
    return (
        f"--config={config}", f"--records={records_dir}", f"--run={tmp_path}", "--overlay_epochs=0",
    )  # fmt: skip


def test_killed_at_any_moment_it_goes_on(arguments, tmp_path, uninterrupted):
    """SIGKILL at a random moment after the fourth of nine steps; the same command goes on within
    the epoch and ends with the same weights."""
    arguments = (*arguments, "--save_minutes=0")
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
    assert_same_end(tmp_path, uninterrupted)
    sessions = json.loads((tmp_path / "fold-0/config.json").read_text())["sessions"]
    assert len(sessions) == 2


def test_asked_to_stop_it_saves_within_the_epoch(arguments, tmp_path, uninterrupted):
    """SIGTERM, as a cluster's scheduler sends it before it kills; SIGUSR1, as one that will start
    the command again; a terminal that is closed. Each time the same command goes on."""
    file = tmp_path / "fold-0/config.json"

    def begun(count):
        return lambda: file.exists() and len(json.loads(file.read_text())["sessions"]) == count

    for count, (number, status) in enumerate(((signal.SIGTERM, 130), (signal.SIGUSR1, 75)), 1):
        process = start(*arguments)
        wait_for(begun(count), process)
        process.send_signal(number)
        _, errors = process.communicate(timeout=300)
        assert process.returncode == status
        assert "stopped in epoch" in errors
        assert "the same command without --overwrite goes on" in errors
        assert load_progress(tmp_path / "fold-0/state.npz").step == count
    terminal, end = os.openpty()

    def in_the_terminal():
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # whoever started the tests may ignore it
        os.setsid()
        fcntl.ioctl(end, termios.TIOCSCTTY, 0)
        for stream in (0, 1, 2):
            os.dup2(end, stream)

    process = start(*arguments, preexec_fn=in_the_terminal)
    os.close(end)
    wait_for(begun(3), process)
    os.close(terminal)
    process.communicate(timeout=300)
    assert process.returncode == 130
    done = start(*arguments)
    _, errors = done.communicate(timeout=300)
    assert done.returncode == 0, errors
    assert_same_end(tmp_path, uninterrupted)
    assert begun(4)()


LIMIT = 100_000  # bytes; history and settings are smaller, the state is larger


class StepOfSize(FakeStep):
    """Its state does not go into a file of the limit."""

    def __init__(self, *settings):
        super().__init__(*settings)
        self.state.append(tf.Variable(tf.zeros(LIMIT)))


@contextlib.contextmanager
def full_disk():
    """A limit on file sizes stands for it: the system refuses the write all the same."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_a_full_disk_stops_cleanly_and_keeps_the_last_state(
    records_dir, tmp_path, monkeypatch, capsys
):
    cheap = functools.partial(trainer.train_folds, build_step=StepOfSize)
    monkeypatch.setattr(trainer, "train_folds", cheap)
    options = RunOptions(stop_after_epoch=1, overlay_epochs=0)
    configs = preset("tiny", epochs=3)
    trainer.train_fold(records_dir, tmp_path, 0, configs, options=options, build_step=StepOfSize)
    before = (tmp_path / "fold-0/state.npz").read_bytes()
    assert len(before) > LIMIT
    given = ("--fold=0", "--preset=tiny", "--epochs=3", "--overlay_epochs=0")
    with full_disk():
        status = commands.call(train, *given, f"--records={records_dir}", f"--run={tmp_path}")
    errors = capsys.readouterr().err
    assert status == 2, errors
    assert "could not be written" in errors and "run the same command" in errors
    assert "Traceback" not in errors
    assert (tmp_path / "fold-0/state.npz").read_bytes() == before
    assert not list((tmp_path / "fold-0").glob(".tmp*"))


@pytest.fixture(scope="module")
def one_device(records_dir, tmp_path_factory):
    """What the others must come to. Read only."""

    def train(folder):
        options = RunOptions(overlay_epochs=0)
        trainer.train_fold(records_dir, folder, 0, train_on_devices.settings(), options=options)

    return made_once(tmp_path_factory, "one_device", train)


@pytest.mark.parametrize("micro_batch", [2, 1])
def test_two_replicas_are_one(records_dir, tmp_path, one_device, run_command, micro_batch):
    """Same global batch, shared, and in micro-batches too: same weights and validation loss."""
    script = "tests.helpers.train_on_devices"
    done = run_command(script, records_dir, tmp_path, 2, micro_batch, timeout=400)
    assert done.returncode == 0, done.stderr[-2000:]
    assert_same_within_rounding(tmp_path, one_device)


@pytest.mark.skipif(not IS_KERAS_3, reason="several workers need the current line")
def test_two_workers_are_one_process(records_dir, tmp_path, one_device):
    """Two processes on loopback, as SLURM describes them, same global batch: the same weights.
    Only the chief writes. If the other one is asked to stop, both do, within the epoch, and go on
    from there."""
    task = {
        "SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_NODELIST": "localhost",
        "SLURM_STEP_TASKS_PER_NODE": "2", "SLURM_JOB_ID": str(os.getpid()),
    }  # fmt: skip
    given = ("tests.helpers.train_on_devices", records_dir, tmp_path / "run", "multiworker", 0)

    def started():
        return [
            commands.start(*given, env=os.environ | task | {"SLURM_PROCID": str(index)})
            for index in (0, 1)
        ]

    def listens():
        lines = Path(f"/proc/{other.pid}/status").read_text().splitlines()
        status = dict(line.split(":", 1) for line in lines)
        return int(status["SigCgt"], 16) >> (signal.SIGUSR1 - 1) & 1

    chief, other = processes = started()
    wait_for(listens, other)
    other.send_signal(signal.SIGUSR1)  # TensorFlow itself listens to SIGTERM before
    for process in processes:
        _, errors = process.communicate(timeout=400)
        assert "stopped in epoch 1 after step 2 of" in errors, errors[-3000:]
    progress = load_progress(tmp_path / "run/fold-0/state.npz")
    assert (progress.epochs, progress.step) == (0, 2)
    processes = started()
    outputs = [process.communicate(timeout=400) for process in processes]
    for process, (_, errors) in zip(processes, outputs, strict=True):
        assert process.returncode == 0, errors[-3000:]
    assert_same_within_rounding(tmp_path / "run", one_device)
    assert "epoch 2/2" in outputs[0][0] and "epoch" not in outputs[1][0]
    config = json.loads((tmp_path / "run/fold-0/config.json").read_text())
    assert [session["from_step"] for session in config["sessions"]] == [1, 3]


def test_workers_are_found_by_tf_config_too(monkeypatch):
    """What the processes are from here on: TensorFlow's own description of them."""
    cluster = {"worker": ["127.0.0.1:2222", "127.0.0.1:2223"]}
    task = {"type": "worker", "index": 1}
    monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": cluster, "task": task}))
    monkeypatch.setenv("SLURM_PROCID", "0")  # TF_CONFIG is what was asked for
    resolver = distribution._resolver(os.environ)
    assert resolver.cluster_spec().as_dict() == cluster
    assert (resolver.task_type, resolver.task_id) == ("worker", 1)
