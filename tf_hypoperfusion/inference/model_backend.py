"""Models here as the ones who answer for a patient; ONNX forms load while images are read."""

import dataclasses
import functools
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from data_tools.patient import MniPatient
from data_tools.runtime import processor
from data_tools.runtime.errors import InputError
from tf_hypoperfusion import config
from tf_hypoperfusion.clinical import ClinicalFacts
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
from tf_hypoperfusion.inference.prediction import VolumePredictor
from tf_hypoperfusion.inference.result_folder import Backend
from tf_hypoperfusion.inference.sliding_window import VolumeAnswer


class Models:
    """Models that are loaded once, each by the program that runs it.

    Sent to another process they are looked at and loaded there, once for all that is sent.
    """

    def __init__(
        self, paths: Sequence[str | Path], *,
        runtime: str, precision: str | None, stride: int | None, fast: bool = False,
        calibration_file: str | None = None, allow_operations: bool = False,
    ) -> None:  # fmt: skip
        """Look at the files, before anything is read or started.

        Args:
            paths: of the models.
            runtime: one of :data:`predictors.RUNTIMES`.
            precision: as in :func:`predictors.load`.
            stride: slices between windows; None takes the usual one.
            fast: compute less, as far as each model can, and say so in the result.
            calibration_file: of the models' average; None takes what lies with them.
            allow_operations: as in :func:`predictors.load`.

        Raises:
            InputError: a file that is no model or is damaged, a runtime that does not run it,
                ``fast`` with another stride or precision than its own, or a calibration that was
                given and is none, or of other networks.
        """
        if fast:
            _check_fast(stride, precision)
        usual = config.FAST_STRIDE if fast else config.TEST_STRIDE
        self._paths = [model_files.check_undamaged(path) for path in paths]
        self._runtime, self._precision, self._stride = runtime, precision, stride or usual
        self._fast, self._allow_operations = fast, allow_operations
        for path in self._paths:
            predictors.check_runtime(path, runtime)
        given = {"runtime": runtime, "precision": precision, "stride": stride, "fast": fast,
                 "calibration_file": calibration_file,
                 "allow_operations": allow_operations}  # fmt: skip
        self._given = tuple(map(str, paths)), tuple(given.items())
        self._calibration_file = calibration_file
        if calibration_file:  # which a person may have mistyped
            _ = self._calibration
        self._pool = ThreadPoolExecutor(1)
        self._loading: list[Future[LoadedModel]] = []

    @functools.cached_property
    def _known(self) -> list[ModelInfo]:
        return [model_files.describe(path) for path in self._paths]

    @functools.cached_property
    def _calibration(self) -> Calibration | None:
        return calibration.of_models(self._known, self._calibration_file)

    def __reduce__(self) -> tuple:
        return _of_this_process, self._given

    def settings(self) -> str:
        """What a result depends on besides the patient."""
        sums = [model.sha256 for model in self._known]
        # Whose answers come one by one, and whose as their average.
        apart = [self._is_lean(path) for path in self._paths]
        return repr([sums, self._stride, self._precision, self._runtime, self._fast, apart,
                     self._calibration])  # fmt: skip

    def announce_device(self) -> None:
        """Print what computes; for TensorFlow's models also warn where it misses a card."""
        if all(map(self._is_lean, self._paths)):
            print(f"device  {processor.in_words()}", flush=True)
            return
        from tf_hypoperfusion.model import devices

        devices.announce()

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
        # TensorFlow takes seconds for its first answer: a made-up slab has it before the patient.
        self._loading = self._loading or [
            self._pool.submit(
                predictors.start if self._is_lean(path) else predictors.load,
                path,
                self._runtime,
                self._precision_of(path),
                allow_operations=self._allow_operations,
            )
            for path in self._paths
        ]

    def _precision_of(self, path: Path) -> str | None:
        if self._fast and (self._is_lean(path) or processor.multiplies_bfloat16()):
            return config.FAST_PRECISION
        return self._precision

    def connect(self) -> Backend:
        """Who answers: one model after the other. A compilation goes on meanwhile.

        Raises:
            InputError: a model or its calibration cannot be used.
        """
        self._load()
        by = self._calibration
        if not all(map(self._is_lean, self._paths)):
            for loading in self._loading:
                loading.result()
        answers = [
            _when_loaded(loading, path, self._stride)
            for loading, path in zip(self._loading, self._paths, strict=True)
        ]

        def models() -> list[ModelInfo]:
            loaded = [loading.result() for loading in self._loading]
            return [
                dataclasses.replace(model, runtime=each.runtime, precision=each.precision)
                for model, each in zip(self._known, loaded, strict=True)
            ]

        strict = [each.path for each in self._known if not model_files.answers_without(each)]
        return Backend(
            answers=answers, models=models, stride=self._stride, fast=self._fast,
            calibrated=prediction.Calibrated(lambda: by),
            refuses_one_image=(
                f"model {strict[0]} was not trained to answer without one" if strict else None
            ),
        )  # fmt: skip


def _check_fast(stride: int | None, precision: str | None) -> None:
    """Refuse a stride or precision that ``--fast`` does not have.

    Raises:
        InputError: which of the two to leave out.
    """
    ours = {"stride": config.FAST_STRIDE, "precision": config.FAST_PRECISION}
    for name, given in (("stride", stride), ("precision", precision)):
        if given not in (None, ours[name]):
            raise InputError(
                f"--fast is --stride={ours['stride']} --precision={ours['precision']}, and "
                f"--{name}={given} is given too; leave out one of the two"
            )


@functools.cache
def _of_this_process(paths: tuple[str, ...], given: tuple[tuple[str, Any], ...]) -> Models:
    return Models(paths, **dict(given))


def _when_loaded(loading: "Future[LoadedModel]", path: Path, stride: int) -> VolumePredictor:
    def answer(mni: MniPatient, given: ClinicalFacts) -> VolumeAnswer:
        model = loading.result()
        predict = predictors.checked(model, path)
        return prediction.volume_predictor(predict, stride, model.cores)(mni, given)

    return answer
