"""A network's ONNX file in eight bits, by what calibration slabs show of its activations."""

import contextlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from data_tools.runtime import light_imports

Slabs = Sequence[dict[str, Any]]


def by_nncf(form: Path, folder: Path, slabs: Slabs) -> Path:
    """For OpenVINO: weights and activations, as its makers' package does it.

    Args:
        form: the ONNX file.
        folder: for the result.
        slabs: what the network is asked, by the names of its inputs.
    """
    # Without what tells its makers over the network of each use.
    with light_imports.without("openvino_telemetry"), contextlib.redirect_stdout(sys.stderr):
        import nncf
        import openvino

        model = openvino.Core().read_model(str(form))
        made = nncf.quantize(model, nncf.Dataset(list(slabs)), subset_size=len(slabs))
    path = folder / "int8.xml"
    openvino.save_model(made, str(path), compress_to_fp16=False)
    return path


def by_onnxruntime(form: Path, folder: Path, slabs: Slabs) -> Path:
    """For onnxruntime: the same by its own tools.

    Args:
        form: the ONNX file.
        folder: for the result.
        slabs: what the network is asked, by the names of its inputs.
    """
    from onnxruntime import quantization
    from onnxruntime.quantization import shape_inference

    class Reader(quantization.CalibrationDataReader):
        """The slabs, one by one."""

        def __init__(self) -> None:
            self.left = iter(slabs)

        def get_next(self) -> dict[str, Any] | None:
            return next(self.left, None)

    prepared, path = folder / "prepared.onnx", folder / "int8.onnx"
    shape_inference.quant_pre_process(str(form), str(prepared), skip_symbolic_shape=True)
    quantization.quantize_static(
        str(prepared), str(path), Reader(), quant_format=quantization.QuantFormat.QDQ,
        per_channel=True,
    )  # fmt: skip
    return path


QUANTISERS: dict[str, Callable[[Path, Path, Slabs], Path]] = {
    "openvino": by_nncf,
    "onnxruntime": by_onnxruntime,
}
"""By the program that runs the result."""
