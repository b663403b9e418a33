"""The one place that knows that two Keras lines are served: Keras 3, and Keras 2.15 beside
TensorFlow 2.15 (the last that tensorflow-addons runs with).
"""

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
        concatenate=tf.concat,
        log=tf.math.log,
        maximum=tf.maximum,
        stack=tf.stack,
        sum=tf.reduce_sum,
    )
    # Otherwise dropout draws from counters inside TensorFlow that cannot be kept for a resumption.
    keras.backend.experimental.enable_tf_random_generator()

# A keras.json of the user may say otherwise, and the same settings would make another network.
keras.backend.set_image_data_format("channels_last")
keras.backend.set_floatx("float32")
keras.backend.set_epsilon(1e-7)
keras.mixed_precision.set_global_policy("float32")

register = keras.saving.register_keras_serializable(package="tf_hypoperfusion")


def build_optimizer_variables(optimizer: Any, variables: Any) -> None:
    """Make the optimizer's moments now, so that a saved state can be put into them."""
    if hasattr(optimizer, "build"):
        optimizer.build(variables)
    else:  # tensorflow-addons', on Keras's legacy base, make them at their first step
        optimizer._create_all_weights(variables)


def optimizer_state(optimizer: Any) -> list[Any]:
    """Every variable of an optimizer, also of one that wraps another."""
    variables = optimizer.variables
    found = list(variables() if callable(variables) else variables)
    inner = getattr(optimizer, "_optimizer", None)  # tensorflow-addons' Lookahead
    if inner is not None and not IS_KERAS_3:
        known = {id(variable) for variable in found}
        found += [variable for variable in inner.variables() if id(variable) not in known]
    return found


def dropout_state(model: Any) -> list[Any]:
    """Random states of Keras 2's dropout layers, which are no variables of the model."""
    if IS_KERAS_3:
        return []
    generators = [
        layer._random_generator._generator
        for layer in model.layers
        if hasattr(layer, "_random_generator")
    ]
    return [generator.state for generator in generators if generator is not None]


def scale_loss(optimizer: Any, loss: Any) -> Any:
    """The loss times the scale of a float16 optimizer; the loss itself for any other."""
    if IS_KERAS_3:
        return optimizer.scale_loss(loss)
    scale = getattr(optimizer, "get_scaled_loss", None)
    return scale(loss) if scale else loss


def apply_gradients(optimizer: Any, gradients: Any, variables: Any) -> None:
    """One optimizer step; in a replica the gradients are summed over all replicas first."""
    unscale = None if IS_KERAS_3 else getattr(optimizer, "get_unscaled_gradients", None)
    if unscale:
        gradients = unscale(gradients)
    optimizer.apply_gradients(list(zip(gradients, variables, strict=True)))


def raw_variable(variable: Any) -> Any:
    """The ``tf.Variable`` of a Keras variable, which is what ``tf.distribute`` knows."""
    return variable.value if IS_KERAS_3 else variable


def to_numpy(variable: Any) -> np.ndarray:
    """A variable's value, also of a variable mirrored over several devices."""
    return keras.ops.convert_to_numpy(variable) if IS_KERAS_3 else variable.numpy()


def dtype_policy(precision: str) -> str:
    """Keras's name of a precision: ``bfloat16`` computes in bfloat16 with float32 weights."""
    return "float32" if precision == "float32" else f"mixed_{precision}"
