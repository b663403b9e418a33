"""Models here as the ones who answer for a patient; ONNX forms load while images are read."""

import dataclasses
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tf_hypoperfusion.inference import (
    calibration,
    model_files,
    onnx_runtimes,
    prediction,
    predictors,
)
from tf_hypoperfusion.inference.calibration import Calibration
from tf_hypoperfusion.inference.model_files import ModelInfo
from tf_hypoperfusion.inference.onnx_runtimes import LoadedModel
from tf_hypoperfusion.inference.result_folder import Backend
from tf_hypoperfusion.inference.sliding_window import Predictor


class Models:
    """Models that are loaded once, each by the program that runs it."""

    def __init__(
        self,
        paths: Sequence[str | Path],
        *,
        runtime: str,
        precision: str | None,
        stride: int,
        calibration_file: str | None = None,
    ) -> None:
        """Look at the files, before anything is read or started.

        Args:
            paths: of the models.
            runtime: one of :data:`predictors.RUNTIMES`.
            precision: as in :func:`predictors.load`.
            stride: slices between windows.
            calibration_file: of the models' average; None takes what lies with them.

        Raises:
            InputError: a file that is no model or is damaged, a runtime that does not run it, or
                a calibration of other networks.
        """
        self._paths = [model_files.check_undamaged(path) for path in paths]
        self._runtime, self._precision, self._stride = runtime, precision, stride
        for path in self._paths:
            predictors.check_runtime(path, runtime)
        self._known = [model_files.describe(path) for path in self._paths]
        self._calibration: Calibration | None = calibration.of_models(self._known, calibration_file)
        self._pool = ThreadPoolExecutor(1)
        self._loading: list[Future[LoadedModel]] = []

    def settings(self) -> str:
        """What a result depends on besides the patient."""
        sums = [model.sha256 for model in self._known]
        # Whose answers come one by one, and whose as their average.
        apart = [self._is_lean(path) for path in self._paths]
        return repr([sums, self._stride, self._precision, self._runtime, apart, self._calibration])

    def _is_lean(self, path: Path) -> bool:
        """Whether a model answers without TensorFlow."""
        return (
            self._runtime != "tensorflow"
            and predictors.onnx_form(path) is not None
            and bool(onnx_runtimes.installed())
        )

    def begin(self) -> None:
        """Compile ahead of :meth:`connect`, where that takes a second and not TensorFlow."""
        if all(map(self._is_lean, self._paths)):
            self._load()

    def _load(self) -> None:
        self._loading = self._loading or [
            self._pool.submit(predictors.load, path, self._runtime, self._precision)
            for path in self._paths
        ]

    def connect(self) -> Backend:
        """Who answers: one model after the other. A compilation goes on meanwhile.

        Raises:
            InputError: a model cannot be used.
        """
        self._load()
        if not all(map(self._is_lean, self._paths)):
            for loading in self._loading:
                loading.result()
        answers = [
            prediction.volume_predictor(_when_loaded(loading), self._stride)
            for loading in self._loading
        ]

        def models() -> list[ModelInfo]:
            loaded = [loading.result() for loading in self._loading]
            return [
                dataclasses.replace(model, runtime=each.runtime, precision=each.precision)
                for model, each in zip(self._known, loaded, strict=True)
            ]

        calibrated = prediction.Calibrated(lambda: self._calibration)
        return Backend(answers, models, self._stride, calibrated)


def _when_loaded(loading: "Future[LoadedModel]") -> Predictor:
    def predict(image: NDArray[np.float32], nihss: NDArray[np.float32]) -> NDArray[np.float32]:
        return loading.result().predict(image, nihss)

    return predict
