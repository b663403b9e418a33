"""The processes of a training save and stop after the same step."""

import tensorflow as tf

from data_tools.runtime.tensorflow_start import counted_alone
from tf_hypoperfusion.training.signals import Wish


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
        self._add_up = tf.function(counted_alone(self._of_all), jit_compile=False)

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
