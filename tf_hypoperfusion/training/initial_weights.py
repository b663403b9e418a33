"""Begin a training with the weights of a trained network.

The network may have learnt less than the new one is to learn: what is new, the core's answer or
further channels, begins as it would anyway, or with weights of 0.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_tools.runtime.errors import InputError
from tf_hypoperfusion.training import parents

# What a network without a core's answer has not.
NEW_LAYERS = ("core_logit",)
# A new channel that is not normalised yet.
_AT_REST = {"gamma": 1.0, "moving_variance": 1.0}


def copy_weights(init_from: str, model: Any) -> list[Any]:
    """Put the weights of a trained network into another one.

    Args:
        init_from: names the trained network, as :attr:`parents.Parent.reference`.
        model: the new one, of the same widths, with stock or faster layers.

    Returns:
        The layers that the trained network does not have: their weights are left as drawn.

    Raises:
        InputError: no network of ours, or one of another shape.
    """
    from tf_hypoperfusion.model.keras_compat import to_numpy  # starts Keras

    trained = {layer.name: layer for layer in parents.read(init_from).layers if layer.weights}
    left = set(trained) - {layer.name for layer in model.layers}
    if left:
        raise _another(init_from, min(left))
    new = []
    for layer in model.layers:
        if not layer.weights:
            continue
        if layer.name in NEW_LAYERS and layer.name not in trained:
            new.append(layer)
            continue
        known = trained[layer.name].weights if layer.name in trained else []
        if len(known) != len(layer.weights):
            raise _another(init_from, layer.name)
        for variable, before in zip(layer.weights, known, strict=True):
            variable.assign(_widened(to_numpy(before), variable, init_from, layer.name))
    return new


def _widened(values: NDArray, variable: Any, init_from: str, layer: str) -> NDArray:
    """Weights with room for input channels that are new: the last ones."""
    name, shape = variable.name.split("/")[-1].split(":")[0], tuple(variable.shape)
    if values.shape == shape:
        return values
    # A kernel's channels are the last axis but one; normalisation has one axis.
    axis = len(shape) - 2 if len(shape) > 1 else 0
    more = shape[axis] - values.shape[axis] if values.ndim == len(shape) else 0
    if more <= 0 or np.delete(values.shape, axis).tolist() != np.delete(shape, axis).tolist():
        raise _another(init_from, layer)
    margin = [(0, more if k == axis else 0) for k in range(len(shape))]
    return np.pad(values, margin, constant_values=_AT_REST.get(name, 0.0))


def _another(init_from: str, layer: str) -> InputError:
    return InputError(
        f"--init_from={init_from}: another network, its layer {layer} does not fit; expected "
        "the same base_filters, poolings, normalisation, gates and NIHSS as the new one"
    )
