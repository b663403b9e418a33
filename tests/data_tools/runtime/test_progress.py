"""A command that would be silent says what it is doing; one that speaks is left alone."""

import ctypes
import io
import itertools
import subprocess
import sys
import time

import pytest
from tqdm import tqdm

from data_tools.runtime import progress

pytestmark = pytest.mark.quick


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    """A tenth of a second is silence."""
    monkeypatch.setenv(progress.VARIABLE, "0.1")


class Terminal(io.StringIO):
    """Says that somebody watches."""

    def isatty(self):
        return True


def voice(stream, allowed_s=4.0):
    made = progress._Voice(stream, allowed_s)
    made.began = made.heard = 0.0
    return made


def test_what_is_done_is_said_after_a_silence_and_not_before():
    log = io.StringIO()
    speaker = voice(log)
    with progress.doing("reading") as activity:
        activity.began = 0.0
        speaker.speak(3.9)
        assert log.getvalue() == ""
        speaker.speak(4.1)
        assert log.getvalue() == "... reading (4 s)\n"
        speaker.speak(8.0)
        assert log.getvalue().count("\n") == 1
        activity.what = "reading on"
        speaker.speak(8.2)
        assert log.getvalue().endswith("\n... reading on (8 s)\n")


def test_a_log_is_never_silent_at_first_and_does_not_grow_for_days():
    log = io.StringIO()
    speaker = voice(log)
    said = []
    with progress.doing("epoch 1") as activity:
        activity.began = 0.0
        for now in range(1, 2 * 86400):
            speaker.speak(float(now))
            if speaker.heard == now:
                said.append(now)
    pauses = [after - before for before, after in itertools.pairwise(said)]
    assert max(pauses[:60]) <= 5 and max(pauses) <= 301
    assert len(log.getvalue().splitlines()) == len(said) < 1200


def test_a_terminal_has_one_line_that_is_taken_back():
    screen = Terminal()
    speaker = voice(screen)
    with progress.doing("a long name") as activity:
        activity.began = 0.0
        speaker.speak(4.1)
        activity.what = "short"
        speaker.speak(5.2)
    speaker.listen()
    first, second, blank = screen.getvalue().split("\r")[1:4]
    assert first.rstrip() == "... a long name (4 s)" and second.rstrip() == "... short (5 s)"
    assert len(second) >= len(first) and blank.strip() == ""


def test_a_server_that_waits_says_nothing():
    log = io.StringIO()
    speaker = voice(log)
    with progress.waiting() as activity:
        activity.began = 0.0
        speaker.speak(1e6)
    assert log.getvalue() == ""


def test_a_bar_is_drawn_again():
    log = io.StringIO()
    speaker = voice(log)
    with progress.doing("x"), tqdm(total=3, desc="patients", file=io.StringIO()):
        speaker.speak(time.monotonic() + 99)
    assert log.getvalue().startswith("\rpatients:   0%|")


def test_the_last_words_are_of_the_last_step():
    log = io.StringIO()
    speaker = voice(log)
    with progress.doing("loading"):
        progress.now("drawing")
        speaker.speak(time.monotonic() + 99)
    assert log.getvalue().startswith("... drawing (99")


def test_a_silent_command_is_heard(capfd):
    with progress.listening():
        print("here")
        with progress.doing("thinking"):
            deadline = time.monotonic() + 60
            while "... thinking" not in (heard := capfd.readouterr().err):
                assert time.monotonic() < deadline
                time.sleep(0.05)
    assert isinstance(heard, str) and type(sys.stdout).__module__ != progress.__name__


def test_zero_never_says_anything(monkeypatch, capfd):
    monkeypatch.setenv(progress.VARIABLE, "0")
    with progress.listening(), progress.doing("thinking"):
        time.sleep(0.5)
    assert capfd.readouterr().err == ""


@pytest.mark.skipif(sys.platform == "win32", reason="there is no sleep() in C there")
def test_native_code_that_holds_pythons_lock_is_heard_too(capfd):
    with progress.listening(), progress.doing_alone("fitting"):
        ctypes.PyDLL(None).sleep(3)
    assert "... fitting" in capfd.readouterr().err


def test_it_works_where_nobody_listens():
    with progress.doing("reading"), progress.doing_alone("fitting"):
        progress.now("writing")
    progress.now("nothing is under way")


def test_words_come_through_while_native_code_is_silenced(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import os, time\n"
        "from data_tools.runtime import progress, quiet\n"
        "with progress.listening(), progress.doing('starting'):\n"
        "    with quiet.native_stderr_silenced():\n"
        "        os.write(2, b'noise')\n"
        "        time.sleep(1)\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    assert "... starting" in done.stderr and "noise" not in done.stderr


@pytest.mark.parametrize("name", ["stdout", "stderr"])
def test_a_command_without_an_output_is_left_alone(monkeypatch, name):
    """As a shell's ``2>&-`` starts it."""
    monkeypatch.setattr(sys, name, None)
    with progress.listening(), progress.doing("thinking"):
        assert getattr(sys, name) is None
