"""A sign of life wherever a command would be silent: what it is doing, and for how long.

    with progress.doing("reading the records"):
        ...

:func:`data_tools.runtime.command.run` listens to what a command prints. After some seconds of
silence it says what is being done: in place at a terminal; in a log as lines, which become rarer
after some minutes. A progress bar is drawn again instead. ``HYPOPERFUSION_SILENT_S`` in the
environment is how long a command may be silent; 0 never says anything.
"""

import contextlib
import io
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import IO, Any

VARIABLE = "HYPOPERFUSION_SILENT_S"
SILENT_S = 3.5
# A log keeps every line. After six minutes they become rarer: the pause is a hundredth of the time
# that the command has run, and five minutes at most.
LOG_SHARE, LOG_AT_MOST_S = 0.01, 300.0
LISTENS_EVERY_S = 0.25


class Activity:
    """Something that takes a while.

    Attributes:
        what: in words, as in "reading the records"; may change while it lasts. Empty: nothing is
            said, as while a server waits.
    """

    def __init__(self, what: str) -> None:
        """Begins now."""
        self.begin(what)

    def begin(self, what: str) -> None:
        """Something else, from now on."""
        self.what, self.began = what, time.monotonic()


_current: list[Activity] = []
# Those that listen; the last one speaks.
_voices: list["_Voice"] = []
_IN_ANOTHER_PROCESS = "import runpy, sys; runpy.run_path(sys.argv[1])['_tell'](*sys.argv[2:])"


@contextlib.contextmanager
def doing(what: str) -> Iterator[Activity]:
    """Say so while the block runs, if nothing else is printed.

    Args:
        what: is done, in words; empty where silence is meant.
    """
    activity = Activity(what)
    _current.append(activity)
    try:
        yield activity
    finally:
        _current.remove(activity)


def now(what: str) -> None:
    """The activity that began last does something else from here on.

    Args:
        what: in words.
    """
    if _current:
        _current[-1].begin(what)


def waiting() -> contextlib.AbstractContextManager[Activity]:
    """Say nothing while the block runs: a server waits for others."""
    return doing("")


@contextlib.contextmanager
def doing_alone(what: str) -> Iterator[None]:
    """As :func:`doing`, for native code that lets no other thread run: another process speaks.

    Args:
        what: is done, in words.
    """
    voice = _voices[-1] if _voices else None
    try:
        number = voice.stream.fileno() if voice else None
    except (OSError, io.UnsupportedOperation):
        number = None
    if voice is None or number is None:
        yield
        return
    voice.clear()
    silent_s = time.monotonic() - voice.heard
    words = [sys.executable, "-S", "-c", _IN_ANOTHER_PROCESS, __file__, what, str(silent_s)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stderr=number) as other:
        try:
            with waiting():
                yield
                # The other may have been silent for as long as is allowed.
                voice.heard = time.monotonic() - voice.allowed_s
        finally:
            other.communicate()  # the end of its input ends it, as the end of this process would


def _tell(what: str, silent_s: str) -> None:
    """Say what another process is doing, which was silent before, until it closes our input."""
    with listening(), doing(what):
        _voices[-1].heard -= float(silent_s)
        sys.stdin.read()


@contextlib.contextmanager
def listening() -> Iterator[None]:
    """Listen to standard output and error while the block runs, and break their silence."""
    allowed = _allowed_s()
    if not allowed or sys.stdout is None or sys.stderr is None:  # as with 2>&-
        yield
        return
    with _stream_of_its_own() as stream, doing("still at work"):
        voice = _Voice(stream, allowed)
        _voices.append(voice)
        before = sys.stdout, sys.stderr
        ears: Any = _Ear(before[0], voice), _Ear(before[1], voice)
        sys.stdout, sys.stderr = ears
        ended = threading.Event()
        thread = threading.Thread(target=voice.speak_until, args=(ended,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
            voice.clear()
            _voices.remove(voice)
            if (sys.stdout, sys.stderr) == ears:
                sys.stdout, sys.stderr = before


def _allowed_s() -> float:
    try:
        return float(os.environ.get(VARIABLE, SILENT_S))
    except ValueError:
        return SILENT_S


@contextlib.contextmanager
def _stream_of_its_own() -> Iterator[IO[str]]:
    """Standard error, also while :mod:`data_tools.runtime.quiet` has it silenced."""
    try:
        number = os.dup(sys.stderr.fileno())
    except (AttributeError, OSError, io.UnsupportedOperation):
        yield sys.stderr
        return
    with open(number, "w", encoding=sys.stderr.encoding, errors="replace") as stream:
        yield stream


class _Voice:
    """Says what is being done, when nothing was heard for a while.

    Args:
        stream: to speak on.
        allowed_s: how long everybody may be silent.
    """

    def __init__(self, stream: IO[str], allowed_s: float) -> None:
        self.stream, self.allowed_s = stream, allowed_s
        self.at_terminal = stream.isatty()
        self.began = self.heard = time.monotonic()
        self._shown = 0  # letters that stand in the terminal's last line
        self._lock = threading.RLock()

    def speak_until(self, ended: threading.Event) -> None:
        """Listen until the command is done."""
        while not ended.wait(min(LISTENS_EVERY_S, self.allowed_s)):
            with contextlib.suppress(OSError, ValueError):  # a closed terminal
                self.speak(time.monotonic())

    def speak(self, now: float) -> None:
        """Say what is being done if it is time to."""
        activity = _current[-1]
        lasted = now - activity.began
        if not activity.what or now - self.heard < self._pause_s(now - self.began):
            return
        bars = _bars()
        with self._lock:
            if bars:
                self.stream.write(f"\r{bars[-1]}")
            else:
                text = f"... {activity.what} ({_duration(lasted)})"
                if self.at_terminal:
                    self.stream.write("\r" + text.ljust(self._shown))
                    self._shown = len(text)
                else:
                    self.stream.write(text + "\n")
            self.stream.flush()
            self.heard = now

    def _pause_s(self, running_s: float) -> float:
        if self.at_terminal:
            return 1.0 if self._shown else self.allowed_s
        return max(self.allowed_s, min(LOG_SHARE * running_s, LOG_AT_MOST_S))

    def listen(self) -> None:
        """Something else is about to be printed."""
        self.clear()
        self.heard = time.monotonic()

    def clear(self) -> None:
        """Take the words back that stand in the terminal's last line."""
        if self._shown:
            with self._lock, contextlib.suppress(OSError, ValueError):
                self.stream.write("\r" + " " * self._shown + "\r")
                self.stream.flush()
                self._shown = 0


class _Ear:
    """A stream that tells when something is written to it."""

    def __init__(self, stream: IO[str], voice: _Voice) -> None:
        self._stream, self._voice = stream, voice

    def write(self, text: str) -> int:
        self._voice.listen()
        return self._stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _bars() -> list[Any]:
    """Progress bars that are shown."""
    tqdm = sys.modules.get("tqdm")
    return list(getattr(tqdm.tqdm, "_instances", ())) if tqdm else []


def _duration(seconds: float) -> str:
    """A time as a person says it.

    >>> _duration(12.4), _duration(95), _duration(5400)
    ('12 s', '95 s', '90 min')
    """
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
