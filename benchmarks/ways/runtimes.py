"""The network's ONNX file in onnxruntime and OpenVINO: inference only."""

from collections.abc import Callable
from typing import Any

import numpy as np


def prepare(way: dict[str, Any]) -> tuple[Callable[[], Any], dict[str, Any]]:
    """The call of one way: ``runtime`` onnxruntime or openvino, ``precision``, ``threads``."""
    slabs = dict(np.load(f"{way['folder']}/slabs.npz"))
    expected = np.load(f"{way['folder']}/probability.npy")
    path = f"{way['folder']}/model.onnx"
    load = {"onnxruntime": _onnxruntime, "openvino": _openvino}[way["runtime"]]
    predict, versions = load(path, way["precision"], way["threads"])
    image, nihss, together = slabs["image"], slabs["nihss"], way["together"]

    def call():
        for first in range(0, len(image), together):
            predict(image[first : first + together], nihss[first : first + together])

    difference = float(np.abs(predict(image[:1], nihss[:1]) - expected[:1]).max())
    return call, {"versions": versions, "difference": difference}


def _onnxruntime(path, precision, threads):
    import onnxruntime

    if precision != "float32":
        raise ValueError("onnxruntime computes the file's own float32")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    run = lambda image, nihss: session.run(None, {"image": image, "nihss": nihss})[0]  # noqa: E731
    return run, f"onnxruntime {onnxruntime.__version__}"


def _openvino(path, precision, threads):
    import openvino

    hints = {
        "INFERENCE_PRECISION_HINT": {"float32": "f32", "bfloat16": "bf16"}[precision],
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
    }
    model = openvino.Core().compile_model(path, "CPU", hints)
    run = lambda image, nihss: model({"image": image, "nihss": nihss})[0]  # noqa: E731
    return run, f"OpenVINO {openvino.__version__.split('-')[0]}"
