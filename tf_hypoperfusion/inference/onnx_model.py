"""The networks as an ONNX file: the slab signature where there is no TensorFlow (extra ``onnx``).

Written with tf2onnx, and run by onnxruntime before it is kept.
"""

import contextlib
import importlib.util
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from data_tools.grid import SLAB_SHAPE
from data_tools.runtime.errors import InputError
from tf_hypoperfusion.config import CHANNELS
from tf_hypoperfusion.inference.sliding_window import Predictor

FILE = "model.onnx"
OPSET = 18
TOLERANCE = 1e-4
"""Largest difference from TensorFlow's probability that a file may have."""
SLAB = (*SLAB_SHAPE, len(CHANNELS))


def check_installed() -> None:
    """Refuse, before anything is computed, where the extra ``onnx`` is missing.

    Raises:
        InputError: how to install it.
    """
    for package in ("tf2onnx", "onnx", "onnxruntime"):
        if importlib.util.find_spec(package) is None:
            raise _not_installed(f"no {package}")


def write(network: Callable[[Any, Any], Any], path: Path, properties: Mapping[str, str]) -> float:
    """Write a network as ONNX and compare its answers with TensorFlow's.

    Args:
        network: image [b, 128, 128, 16, 4], nihss [b, 1] -> probability [b, 128, 128, 16, 1],
            TensorFlow operations on float32.
        path: of the file.
        properties: kept in it, for who finds it alone.

    Returns:
        Largest difference of a probability between both, over three seeded random slabs.

    Raises:
        InputError: the file does not answer as TensorFlow does.
    """
    import onnx
    import tensorflow as tf

    with _quiet():
        import tf2onnx

    signature = [
        tf.TensorSpec((None, *SLAB), tf.float32, "image"),
        tf.TensorSpec((None, 1), tf.float32, "nihss"),
    ]
    graph = tf.function(lambda image, nihss: {"probability": network(image, nihss)}, signature)
    with _quiet():
        model, _ = tf2onnx.convert.from_function(graph, signature, opset=OPSET)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    onnx.helper.set_model_props(model, dict(properties))
    onnx.checker.check_model(model)
    onnx.save(model, str(path))

    random = np.random.default_rng(0)
    image = random.normal(size=(3, *SLAB)).astype(np.float32)
    nihss = np.array([[-1.0], [0.0], [1.0]], np.float32)
    expected = graph(tf.constant(image), tf.constant(nihss))["probability"].numpy()
    difference = float(np.abs(load(path)(image, nihss) - expected).max())
    if not difference <= TOLERANCE:
        raise InputError(
            f"{path}: its probabilities differ from TensorFlow's by {difference:.1e}; expected "
            f"{TOLERANCE:.0e} at most. Export without --format=onnx, and tell the maintainers."
        )
    return difference


def load(path: Path) -> Predictor:
    """A predictor that runs the file with onnxruntime, on the CPU, without TensorFlow.

    Raises:
        InputError: the extra is missing.
        Exception: whatever onnxruntime says of a file that is none.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise _not_installed(str(error)) from error
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])

    known = [value.name for value in (*session.get_inputs(), *session.get_outputs())]
    if sorted(known) != ["image", "nihss", "probability"]:
        raise ValueError(
            f"another network: its inputs and outputs are {', '.join(known)}; ours are image, "
            "nihss and probability"
        )

    def predict(image: np.ndarray, nihss: np.ndarray) -> np.ndarray:
        inputs = {"image": np.asarray(image, np.float32), "nihss": np.asarray(nihss, np.float32)}
        return session.run(["probability"], inputs)[0]

    return predict


def _not_installed(reason: str) -> InputError:
    return InputError(f"ONNX files need more packages ({reason}); install the extra `onnx`")


@contextlib.contextmanager
def _quiet():
    """Hide what tf2onnx tells about each of its passes."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
