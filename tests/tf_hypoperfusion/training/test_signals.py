"""What signals do to a training command while no step is running."""

import signal
import subprocess
import sys

import pytest

pytestmark = pytest.mark.core

COMMAND = """
import atexit, os, signal, sys
from absl import flags
from data_tools.runtime import command
from tf_hypoperfusion.training import signals

def main():
    signals.stop_at_once()
    os.kill(os.getpid(), number)

number = int(sys.argv[1])
# Whoever started the tests may ignore it, as nohup does.
signal.signal(number, signal.SIG_IGN if "ignored" in sys.argv else signal.SIG_DFL)
if "again" in sys.argv:
    atexit.register(os.kill, os.getpid(), number)
if "gone" in sys.argv:
    os.close(2)
sys.exit(command.run(main, flags.FlagValues(), "", []))
"""


def call(*words):
    command = [sys.executable, "-c", COMMAND, *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=100)


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGUSR1, 75), (signal.SIGTERM, 130), (signal.SIGHUP, 130)]
)
def test_before_a_training_they_end_the_command_with_the_status_of_a_fold(number, status):
    done = call(str(int(number)))
    assert done.returncode == status
    assert "stopped while no step was running; the same command goes on" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_second_one_keeps_the_status_that_asks_for_another_start():
    assert call(str(int(signal.SIGUSR1)), "again").returncode == 75


def test_a_terminal_that_is_gone_keeps_the_status():
    assert call(str(int(signal.SIGHUP)), "gone").returncode == 130


def test_an_ignored_signal_stays_ignored():
    assert call(str(int(signal.SIGHUP)), "ignored").returncode == 0
