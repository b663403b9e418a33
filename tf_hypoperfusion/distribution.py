"""Which ``tf.distribute`` strategy, and what a global batch is on it."""

from collections.abc import Sequence

import tensorflow as tf

from data_tools.errors import InputError


def choose_strategy(devices: Sequence[str] | None = None) -> tf.distribute.Strategy:
    """MirroredStrategy over the visible GPUs, or over one CPU where there is none.

    Args:
        devices: names to use instead, such as logical CPUs in a test.
    """
    if devices is None:
        gpus = tf.config.list_logical_devices("GPU")
        devices = [gpu.name for gpu in gpus] or ["/cpu:0"]
    return tf.distribute.MirroredStrategy(list(devices))


def check_batch(batch_size: int, strategy: tf.distribute.Strategy) -> None:
    """Refuse a global batch that the replicas cannot share evenly.

    Raises:
        InputError: with the nearest batch size that fits.
    """
    replicas = strategy.num_replicas_in_sync
    if batch_size % replicas:
        raise InputError(
            f"a batch of {batch_size} does not divide over {replicas} devices; expected a multiple "
            f"of {replicas}, for example --batch_size={-(-batch_size // replicas) * replicas}"
        )
