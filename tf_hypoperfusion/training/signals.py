"""The signals that end a training: which ones, and what each does.

SIGTERM and Ctrl-C stop it, SIGHUP (the terminal is gone) too, and SIGUSR1 stops it so that a
scheduler can start it again. Within a fold each lets the step or the validation end, and the state
is saved; where no step is running they stop the command at once.
"""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from typing import Any, NamedTuple

from data_tools.runtime.errors import RunAgain

# None on Windows, which has neither SIGHUP nor SIGUSR1.
AGAIN = getattr(signal, "SIGUSR1", None)
AT_ONCE = tuple(
    number for number in (signal.SIGTERM, getattr(signal, "SIGHUP", None), AGAIN) if number
)
SIGNALS = (*AT_ONCE, signal.SIGINT)


class Wish(NamedTuple):
    """What a process, or any of them, wants done after a step.

    Attributes:
        save: the state.
        stop: then.
        again: stop so that a scheduler starts the same command again.
    """

    save: bool = False
    stop: bool = False
    again: bool = False


class StopRequest:
    """Whether this process was asked to stop, and in which way."""

    asked = again = False

    def wish(self, save: bool = False) -> Wish:
        """What this process wants.

        Args:
            save: whether its state is due, too.
        """
        return Wish(save, self.asked, self.again)


@contextlib.contextmanager
def listening() -> Iterator[StopRequest]:
    """Note the signals that ask for a stop. A second Ctrl-C stops at once.

    A signal that was ignored before stays so, such as SIGHUP under nohup.
    """
    request = StopRequest()

    def ask(number: int, frame: Any) -> None:
        if request.asked and number == signal.SIGINT:
            raise KeyboardInterrupt("stopped at once; the last saved state is kept")
        request.asked = True
        request.again |= number == AGAIN
        _tell("asked to stop: after this step, or this validation; Ctrl-C again: at once")

    before = _listen(SIGNALS, ask)
    try:
        yield request
    finally:
        for number, handler in before.items():
            # A second one must not change the exit status of a command that is ending.
            ending = request.again and number == AGAIN
            signal.signal(number, signal.SIG_IGN if ending else handler)


def stop_at_once() -> None:
    """From here on the signals end the command with the exit status that they have in a fold."""

    def stop(number: int, frame: Any) -> None:
        message = "stopped while no step was running; the same command goes on from what is saved"
        signal.signal(number, signal.SIG_IGN if number == AGAIN else signal.SIG_DFL)
        _tell("asked to stop")
        raise RunAgain(message) if number == AGAIN else KeyboardInterrupt(message)

    _listen(AT_ONCE, stop)


def _tell(what: str) -> None:
    """Say it; where the terminal is gone, what is printed from here on goes nowhere."""
    try:
        os.write(2, f"\n{what}\n".encode())
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for stream in (1, 2):
            os.dup2(nowhere, stream)


def _listen(numbers: tuple[int, ...], handler: Any) -> dict[int, Any]:
    """Set a handler, but for signals that are ignored; the handlers before.

    Python knows no handlers in other threads than the main one.
    """
    if threading.current_thread() is not threading.main_thread():
        return {}
    return {
        number: signal.signal(number, handler)
        for number in numbers
        if signal.getsignal(number) != signal.SIG_IGN
    }


def stopped(where: str, again: bool) -> KeyboardInterrupt:
    """The end of a training whose state was saved.

    Args:
        where: it stopped.
        again: a scheduler is to start it again.
    """
    message = (
        f"stopped {where}; the state is saved, the same command without --overwrite goes on from "
        "there"
    )
    return RunAgain(message) if again else KeyboardInterrupt(message)
