"""When a training is to save or to stop: signals, and what several processes agree on.

SIGTERM and Ctrl-C stop it, SIGHUP (the terminal is gone) too, and SIGUSR1 stops it so that a
scheduler can start it again. Each lets the step or the validation end, and the state is saved.
"""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from typing import NamedTuple

import tensorflow as tf

from data_tools.runtime.errors import RunAgain

AGAIN = "SIGUSR1"
# Windows has neither SIGHUP nor SIGUSR1.
SIGNALS = tuple(
    getattr(signal, name)
    for name in ("SIGTERM", "SIGINT", "SIGHUP", AGAIN)
    if hasattr(signal, name)
)


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

    def ask(number, frame):
        if request.asked and number == signal.SIGINT:
            raise KeyboardInterrupt("stopped at once; the last saved state is kept")
        request.asked = True
        request.again |= number == getattr(signal, AGAIN, None)
        note = "\nasked to stop: after this step, or this validation; Ctrl-C again: at once\n"
        try:
            os.write(2, note.encode())
        except OSError:  # the terminal is gone: what is printed from here on goes nowhere
            nowhere = os.open(os.devnull, os.O_WRONLY)
            for stream in (1, 2):
                os.dup2(nowhere, stream)

    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before = {
        number: signal.signal(number, ask)
        for number in SIGNALS
        if signal.getsignal(number) != signal.SIG_IGN
    }
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Ballot:
    """Lets the processes of a strategy save and stop after the same step.

    What they want is added up over all of them, three numbers a step, and heard a step later, so
    that no device waits for it.

    Args:
        strategy: joins the processes.
    """

    def __init__(self, strategy: tf.distribute.Strategy):
        self._strategy = strategy
        self._alone = not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)
        self._pending: tf.Tensor | None = None
        self._add_up = tf.function(self._of_all, jit_compile=False)

    def after_step(self, wish: Wish) -> Wish:
        """Say what this process wants; every process must, after every step.

        Returns:
            What any of them wanted the step before; of a single process, its own wish.
        """
        if self._alone:
            return wish
        heard = self._heard()
        self._say(wish._replace(save=wish.save and not heard.save))
        return heard

    def after_epoch(self, wish: Wish) -> Wish:
        """The same, and what is returned is wanted now or was before."""
        if self._alone:
            return wish
        before = self._heard()
        self._say(wish)
        return Wish(*(a or b for a, b in zip(before, self._heard(), strict=True)))

    def meet(self) -> None:
        """Wait until all processes are here."""
        if not self._alone:
            self._say(Wish())
            self._heard()

    def _say(self, wish: Wish) -> None:
        sums = self._add_up(tf.constant(wish, tf.float32))
        self._pending = self._strategy.experimental_local_results(sums)[0]

    def _heard(self) -> Wish:
        if self._pending is None:
            return Wish()
        values, self._pending = self._pending.numpy(), None
        return Wish(*(bool(value) for value in values))

    def _of_all(self, values: tf.Tensor) -> tf.Tensor:
        def replica(values):
            here = tf.identity(values)  # on the replica's device
            return tf.distribute.get_replica_context().all_reduce("SUM", here)

        return self._strategy.run(replica, (values,))


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
