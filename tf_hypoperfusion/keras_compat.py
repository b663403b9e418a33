"""The one place that knows that two Keras lines are served: Keras 3, and Keras 2.15 beside
TensorFlow 2.15 (the last that tensorflow-addons runs with).
"""

import contextlib
import io
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np

IS_KERAS_3 = int(keras.__version__.split(".")[0]) >= 3

if IS_KERAS_3:
    ops: Any = keras.ops
else:
    import tensorflow as tf

    ops = SimpleNamespace(
        abs=tf.abs,
        cast=tf.cast,
        clip=tf.clip_by_value,
        log=tf.math.log,
        maximum=tf.maximum,
        sum=tf.reduce_sum,
    )
    # Otherwise dropout draws from counters inside TensorFlow that cannot be kept for a resumption.
    keras.backend.experimental.enable_tf_random_generator()

register = keras.saving.register_keras_serializable(package="tf_hypoperfusion")


def training_state(model: Any) -> list[Any]:
    """Every variable that a training step reads: weights, optimizer, dropout's random state."""
    if IS_KERAS_3:
        return [*model.variables, *model.optimizer.variables]
    generators = [
        layer._random_generator._generator
        for layer in model.layers
        if hasattr(layer, "_random_generator")
    ]
    random = [generator.state for generator in generators if generator is not None]
    return [*model.variables, *random, *model.optimizer.variables()]


def to_numpy(variable: Any) -> np.ndarray:
    """A variable's value, also of a variable mirrored over several devices."""
    return keras.ops.convert_to_numpy(variable) if IS_KERAS_3 else variable.numpy()


def dtype_policy(precision: str) -> str:
    """Keras's name of a precision: ``bfloat16`` computes in bfloat16 with float32 weights."""
    return "float32" if precision == "float32" else f"mixed_{precision}"


def learning_rate(optimizer: Any) -> float:
    """The rate of the step to come, from a constant or a schedule."""
    schedule = getattr(optimizer, "_learning_rate", None)
    if callable(schedule):
        return float(schedule(optimizer.iterations))
    return float(optimizer.learning_rate)


def write_archive(archive: Any, folder: str) -> None:
    """Write a ``keras.export.ExportArchive`` without its page of output."""
    if IS_KERAS_3:
        archive.write_out(folder, verbose=False)
    else:
        with contextlib.redirect_stdout(io.StringIO()):
            archive.write_out(folder)
