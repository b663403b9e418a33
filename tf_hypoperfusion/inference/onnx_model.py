"""The networks of an export as an ONNX file: the slab signature, each network apart.

Written with tf2onnx, and run before it is kept; :mod:`onnx_runtimes` runs it without TensorFlow.
"""

import contextlib
import importlib.util
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_tools.runtime.errors import InputError
from data_tools.runtime.tensorflow_start import counted_alone
from tf_hypoperfusion.config import SLAB
from tf_hypoperfusion.inference import onnx_runtimes
from tf_hypoperfusion.inference.onnx_runtimes import CORE, MEAN, of_network

FILE = "model.onnx"
OPSET = 18
TOLERANCE = 1e-4
"""Largest difference from TensorFlow's probability that a file may have."""


def check_installed() -> None:
    """Refuse, before anything is computed, where a file could not be written or tried.

    Raises:
        InputError: what to install, or how to do without.
    """
    missing = [name for name in ("tf2onnx", "onnx") if importlib.util.find_spec(name) is None]
    if not onnx_runtimes.installed():
        missing.append("openvino")
    if missing:
        raise InputError(
            f"an export's {FILE} needs {', '.join(missing)}: install that, or give --noonnx for an "
            "export that only TensorFlow runs"
        )


def write(
    networks: Sequence[Callable[[Any, Any], dict[str, Any]]],
    path: Path,
    properties: Mapping[str, str],
) -> float:
    """Write networks as one ONNX file and compare its answers with TensorFlow's.

    Outputs are ``probability``, their average, and of several networks ``probability_0``,
    ``probability_1`` ... too; and ``core``, the average of theirs, if every network has one.

    Args:
        networks: each image [b, 128, 128, 16, 4], nihss [b, 1] -> ``probability`` and perhaps
            ``core`` [b, 128, 128, 16, 1], TensorFlow operations on float32.
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

    def answers(image: Any, nihss: Any) -> dict[str, Any]:
        each = [network(image, nihss) for network in networks]
        cores = [answer[CORE] for answer in each if CORE in answer]
        core = {CORE: average(cores)} if len(cores) == len(each) else {}
        probabilities = [answer[MEAN] for answer in each]
        if len(each) == 1:
            return {MEAN: probabilities[0], **core}
        # Not stacked: a channel for each would cost OpenVINO 150 MiB.
        apart = {of_network(number): answer for number, answer in enumerate(probabilities)}
        return {MEAN: average(probabilities), **apart, **core}

    def average(answers: list[Any]) -> Any:
        return answers[0] if len(answers) == 1 else tf.add_n(answers) / len(answers)

    signature = [
        tf.TensorSpec((None, *SLAB), tf.float32, "image"),
        tf.TensorSpec((None, 1), tf.float32, "nihss"),
    ]
    graph = tf.function(counted_alone(answers), signature, autograph=False)
    with _quiet():
        model, _ = tf2onnx.convert.from_function(graph, signature, opset=OPSET)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    onnx.helper.set_model_props(model, dict(properties))
    onnx.checker.check_model(model)
    onnx.save(model, str(path))

    image, nihss = random_slabs()
    expected = graph(tf.constant(image), tf.constant(nihss))
    found = {name: value.numpy() for name, value in expected.items()}
    return max(difference(path, value, name) for name, value in found.items())


def random_slabs() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Three seeded slabs with their NIHSS, on which a file is tried."""
    image = np.random.default_rng(0).normal(size=(3, *SLAB)).astype(np.float32)
    return image, np.array([[-1.0], [0.0], [1.0]], np.float32)


def difference(path: Path, expected: NDArray[np.float32], output: str = MEAN) -> float:
    """How far a file's answers about :func:`random_slabs` are from those expected.

    Args:
        path: of the file.
        expected: probabilities by TensorFlow.
        output: of the file.

    Raises:
        InputError: farther than :data:`TOLERANCE`.
    """
    answer = onnx_runtimes.load(path, outputs=[output]).predict(*random_slabs())
    found = float(np.abs(answer - expected).max())
    if not found <= TOLERANCE:
        raise InputError(
            f"{path}: its probabilities differ from TensorFlow's by {found:.1e}; expected "
            f"{TOLERANCE:.0e} at most. Export with --noonnx, and tell the maintainers."
        )
    return found


@contextlib.contextmanager
def _quiet():
    """Hide what tf2onnx tells about each of its passes."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
