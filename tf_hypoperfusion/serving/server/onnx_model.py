"""The ONNX form of an export, answering what its SavedModel answers. No TensorFlow."""

import json
import threading
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np

from data_tools.runtime import atomic
from data_tools.runtime.errors import InputError
from tf_hypoperfusion.inference import calibration, model_files, onnx_runtimes, predictors
from tf_hypoperfusion.serving import model_card, numpy_volumes
from tf_hypoperfusion.serving.server.errors import ServingError

SIGNATURES = {"serving_default", "predict_volume", "predict_volume_bytes"}


class OnnxModel:
    """Every signature of an export, by OpenVINO or onnxruntime.

    Attributes:
        runtime: the program, with its version.
        needs_warm_up: False: the file has answered a slab, and nothing is left to be built.
    """

    needs_warm_up = False

    def __init__(self, form: Path, runtime: str, precision: str | None) -> None:
        """Load the file and try it on a slab.

        Args:
            form: the ONNX file of an export.
            runtime: one of :data:`predictors.RUNTIMES`, but for ``tensorflow``.
            precision: as in :func:`predictors.load`.

        Raises:
            NoProgramError: nothing here runs it.
            InputError: the file, or the calibration of its card, cannot be used.
        """
        file = form.parent / model_card.FILE
        card = atomic.read_json(file)
        options: dict[str, Any] = {
            "stride": int(card["stride_slices"]),
            "info": json.dumps(model_card.info(card)),
            "calibration": calibration.of_card(card, str(file)),
            "core_by": model_card.core_by(card) or "rule",
            "answers_without": model_files.names_inputs(model_files.randomisation_of(card)),
        }
        # Meanwhile, what the first request would wait for.
        threading.Thread(target=numpy_volumes.prepare).start()
        loaded = predictors.load(form, runtime, precision)
        self.runtime = loaded.runtime
        network = numpy_volumes.averaged(loaded)
        self._calls = {
            "serving_default": lambda inputs: numpy_volumes.predict_slabs(network, inputs),
            "predict_volume": lambda inputs: numpy_volumes.predict_volumes(
                network, inputs, **options
            ),
            "predict_volume_bytes": lambda inputs: numpy_volumes.predict_bytes(
                network, inputs, **options
            ),
        }

    def run(self, signature: str, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Answer checked inputs.

        Args:
            signature: one of :data:`SIGNATURES`.
            inputs: arrays by name.

        Raises:
            ServingError: what the graph of the SavedModel refuses, in its words.
        """
        try:
            return self._calls[signature](inputs)
        except InputError as error:
            raise ServingError("INVALID_ARGUMENT", str(error)) from error


def of_export(
    folder: Path, signatures: Collection[str], *, runtime: str, precision: str | None
) -> OnnxModel | None:
    """The ONNX form of a version that answers all that the version's SavedModel does.

    Args:
        folder: of the version.
        signatures: of its SavedModel.
        runtime: one of :data:`predictors.RUNTIMES`.
        precision: as in :func:`predictors.load`.

    Returns:
        None where TensorFlow is to answer: as was asked, or since there is no such form or nothing
        that runs it, which only ``auto`` permits.

    Raises:
        InputError: the form cannot be used.
    """
    if runtime == "tensorflow":
        return None
    predictors.check_runtime(folder, runtime)
    form = predictors.onnx_form(folder)
    known = set(signatures) == SIGNATURES and (folder / model_card.FILE).is_file()
    if form is None or not known:
        if runtime != "auto":
            raise InputError(
                f"{folder}: not an export of ours with its model card, of which {runtime} runs the "
                "ONNX file; leave --runtime out"
            )
        return None
    try:
        return OnnxModel(form, runtime, precision)
    except onnx_runtimes.NoProgramError:
        if runtime != "auto":
            raise
        return None
