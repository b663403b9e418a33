"""Begin a training with the weights of a trained network.

The network may have learnt less than the new one is to learn: what is new, the core's answer or
further channels, begins as it would anyway, or with weights of 0.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_tools.runtime.errors import InputError
from tf_hypoperfusion.model import keras_file
from tf_hypoperfusion.training import roles

# What a network without a core's answer has not.
NEW_LAYERS = ("core_logit",)
# A new channel that is not normalised yet.
_AT_REST = {"gamma": 1.0, "moving_variance": 1.0}


def model_file(init_from: str, fold: int | None) -> Path:
    """The file of a fold: itself, or that of the same fold in a run's folder.

    Raises:
        InputError: no such file.
    """
    path = Path(init_from)
    if path.is_dir():
        path = roles.folder(path, fold) / "best.keras"
    if not path.is_file():
        raise InputError(
            f"--init_from: {path} is no file; expected a best.keras, or a run's folder with one "
            f"for {roles.in_words(fold)}"
        )
    return path


def copy_weights(path: Path, model: Any) -> list[Any]:
    """Put the weights of a ``.keras`` file into a network.

    Args:
        path: of the trained network, of the same widths.
        model: the new one, with stock or faster layers.

    Returns:
        The layers that the file does not have: their weights are left as drawn.

    Raises:
        InputError: no network of ours, or one of another shape.
    """
    from tf_hypoperfusion.model.keras_compat import to_numpy  # starts Keras

    trained = {layer.name: layer for layer in keras_file.read(path).layers if layer.weights}
    left = set(trained) - {layer.name for layer in model.layers}
    if left:
        raise _another(path, min(left))
    new = []
    for layer in model.layers:
        if not layer.weights:
            continue
        if layer.name in NEW_LAYERS and layer.name not in trained:
            new.append(layer)
            continue
        known = trained[layer.name].weights if layer.name in trained else []
        if len(known) != len(layer.weights):
            raise _another(path, layer.name)
        for variable, before in zip(layer.weights, known, strict=True):
            variable.assign(_widened(to_numpy(before), variable, path, layer.name))
    return new


def _widened(values: NDArray, variable: Any, path: Path, layer: str) -> NDArray:
    """Weights with room for input channels that are new: the last ones."""
    name, shape = variable.name.split("/")[-1].split(":")[0], tuple(variable.shape)
    if values.shape == shape:
        return values
    # A kernel's channels are the last axis but one; normalisation has one axis.
    axis = len(shape) - 2 if len(shape) > 1 else 0
    more = shape[axis] - values.shape[axis] if values.ndim == len(shape) else 0
    if more <= 0 or np.delete(values.shape, axis).tolist() != np.delete(shape, axis).tolist():
        raise _another(path, layer)
    margin = [(0, more if k == axis else 0) for k in range(len(shape))]
    return np.pad(values, margin, constant_values=_AT_REST.get(name, 0.0))


def _another(path: Path, layer: str) -> InputError:
    return InputError(
        f"--init_from={path}: another network, its layer {layer} does not fit; expected the same "
        "base_filters, poolings, normalisation, gates and NIHSS as the new one"
    )
