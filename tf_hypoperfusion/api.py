"""The package in five lines of Python, on files, nibabel images or arrays.

    import tf_hypoperfusion as hp

    model = hp.load_model()
    result = model.predict("dwi.nii.gz", "adc.nii.gz", side="left", nihss=15, age=72)
    print(result.hypoperfusion_ml, result.target_mismatch, result.warnings)
    result.save("out")
    print(result.evaluate(tmax="tmax.nii.gz").dice)

Research software, not a medical device.
"""

import dataclasses
import functools
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

from data_tools.grid import TMAX_HYPOPERFUSION_S, UNKNOWN_SIDE
from data_tools.runtime.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from nibabel.spatialimages import SpatialImage
    from numpy.typing import NDArray

    from tf_hypoperfusion.inference.model_backend import Models
    from tf_hypoperfusion.inference.result import Comparison, PatientResult
    from tf_hypoperfusion.inference.result_folder import Answered

    Image: TypeAlias = str | os.PathLike[str] | SpatialImage | tuple[NDArray, NDArray]

Side = Literal["left", "right", "bilateral", "auto"]
AUTO: Side = "auto"


class Model:
    """One network or several, averaged; read once, at the first patient.

    Attributes:
        paths: of their files.
    """

    def __init__(self, models: "Models", paths: tuple[Path, ...]) -> None:
        """Made by :func:`load_model`."""
        self._models, self.paths = models, paths

    def predict(
        self, dwi: "Image | None", adc: "Image | None" = None, *,
        side: Side = AUTO, nihss: int | None = None, age: float | None = None,
        b0: "Image | None" = None, b_value: float | None = None, adc_unit: str | None = None,
        name: str | None = None, log: Callable[[str], None] = lambda text: None,
    ) -> "Result":  # fmt: skip
        """Predict a patient.

        Each image is a path, a nibabel image, or an array (X, Y, Z) with its affine (4 x 4, voxel
        index to RAS+ millimetres).

        Args:
            dwi: the b = 1000 trace image, or a folder of DICOM files.
            adc: ADC map of the same scan, in mm2/s, 1e-3 or 1e-6 mm2/s (found from its values).
            side: of the brain lesion (right for weak left limbs); auto asks about either.
            nihss: 0 to 42; None if unknown.
            age: years; None if unknown.
            b0: image of b = 0, if there is no ADC map.
            b_value: of the DWI, s/mm2, where no file says it.
            adc_unit: such as ``1e-6 mm2/s``, where it cannot be found.
            name: of the patient in the result.
            log: gets what is being done.

        Raises:
            InputError: an image or a fact that cannot be used, with what was expected.
        """
        from data_tools.overrides import Overrides
        from tf_hypoperfusion.clinical import ClinicalFacts
        from tf_hypoperfusion.inference import result_folder

        with _as_files({"dwi": dwi, "adc": adc, "b0": b0}) as paths:
            files = result_folder.PatientFiles(
                dwi=paths["dwi"], adc=paths["adc"], b0=paths["b0"],
                given=ClinicalFacts(UNKNOWN_SIDE if side == AUTO else side, nihss, age),
                overrides=Overrides(b_value=b_value, adc_unit=adc_unit),
                name=name,
            )  # fmt: skip
            answered = result_folder.answer(files, self._models.connect, log=log)
        return Result(answered)


class Result:
    """What is predicted of a patient. Research use only; not for clinical decisions."""

    def __init__(self, answered: "Answered") -> None:
        """Made by :meth:`Model.predict`."""
        self._answered = answered

    @property
    def details(self) -> "PatientResult":
        """All that ``result.json`` holds."""
        return self._answered.result

    @property
    def hypoperfusion_ml(self) -> float:
        """Predicted hypoperfusion, on the DWI's grid."""
        return self.details.hypoperfusion_ml

    @property
    def core_ml(self) -> float | None:
        """The core that decides; None where none is known."""
        return self.details.core_ml

    @property
    def mismatch_ratio(self) -> float | None:
        """Hypoperfusion over core; None without a core."""
        return self.details.mismatch_ratio

    @property
    def target_mismatch(self) -> str:
        """DEFUSE 3, as far as it is known: ``yes``, ``no`` or ``unsure``."""
        return self.details.answer.target_mismatch

    @property
    def side(self) -> str:
        """Of the stroke: as given, or as found."""
        return self.details.side

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a person must know before reading the figures."""
        return self.details.warnings

    @property
    def probability(self) -> "NDArray[np.float32]":
        """Probability of hypoperfusion, shape of the DWI, 0 outside tissue."""
        return self._answered.done.probability

    @property
    def hypoperfusion(self) -> "NDArray[np.bool_]":
        """The predicted region, shape of the DWI."""
        return self._answered.done.hypoperfusion

    @property
    def core(self) -> "NDArray[np.bool_] | None":
        """The core that decides, shape of the DWI; None where none is known."""
        return self._answered.done.core.native

    @property
    def affine(self) -> "NDArray[np.float64]":
        """Of all of these, 4 x 4: voxel index to RAS+ millimetres."""
        return self._answered.done.native.dwi.affine

    def save(self, out: str | os.PathLike[str]) -> Path:
        """Write report.html, result.json, overview.png and NIfTI volumes.

        Args:
            out: folder, made where there is none.

        Returns:
            The page to read.

        Raises:
            InputError: the folder cannot be written to.
        """
        from data_tools.runtime import atomic
        from tf_hypoperfusion.inference import result_files, result_folder

        atomic.check_writable(out)
        result_folder.write(self._answered, str(out))
        return Path(out) / result_files.PAGE

    def evaluate(
        self, *, tmax: "Image | None" = None, truth: "Image | None" = None,
        tmax_threshold_s: float = TMAX_HYPOPERFUSION_S,
    ) -> "Comparison":  # fmt: skip
        """Hold the result against what perfusion imaging showed.

        Args:
            tmax: Tmax map in s, of the same patient.
            truth: mask of the hypoperfusion that a person drew; with ``tmax`` too it is compared
                inside that scan.
            tmax_threshold_s: from which on Tmax is hypoperfusion.

        Returns:
            Dice, mL of both, the part of the brain that the scan covers, and the target mismatch
            by it.

        Raises:
            InputError: neither is given, or an image that cannot be used.
        """
        from data_tools import native_truth, patient
        from tf_hypoperfusion.inference import comparison

        done = self._answered.done
        with _as_files({"tmax": tmax, "truth": truth}) as paths:
            native = patient.with_truth(done.native, paths["tmax"], paths["truth"])
            native = dataclasses.replace(native, tmax_threshold_s=tmax_threshold_s)
            beside = dataclasses.replace(
                done, native=native, truth=native_truth.of_patient(native, done.core.native)
            )
            compared = comparison.of(beside, tmax=paths["tmax"], mask=paths["truth"])
        if compared is None:
            raise InputError("neither tmax nor truth is given; expected one at least")
        return compared

    def __repr__(self) -> str:
        """The figures in a line."""
        core = "not known" if self.core_ml is None else f"{self.core_ml:.1f} mL"
        return (
            f"<Result: hypoperfusion {self.hypoperfusion_ml:.1f} mL, core {core}, target mismatch "
            f"{self.target_mismatch}, {len(self.warnings)} warnings; research use only>"
        )


def load_model(
    *paths: str | os.PathLike[str], fast: bool = False, stride: int | None = None
) -> Model:
    """A model to predict with.

    Args:
        paths: ``best.keras`` files, exports or ``model.onnx`` files, whose answers are averaged;
            none takes the demonstration model, which was trained on SIMULATED patients only.
        fast: compute less; see ``predict --help``.
        stride: slices between windows; None takes the usual one.

    Raises:
        InputError: a file that is no model, or is damaged.
    """
    from data_tools.runtime import light_imports

    light_imports.prepare_nibabel()
    from tf_hypoperfusion.inference import model_backend, model_files

    given = tuple(Path(path) for path in paths) or (model_files.demo_model(),)
    models = model_backend.Models(given, runtime="auto", precision=None, stride=stride, fast=fast)
    return Model(models, given)


@contextmanager
def _as_files(images: "dict[str, Image | None]") -> Iterator[dict[str, str | None]]:
    """Paths of images; those in memory are files for a while."""
    with tempfile.TemporaryDirectory(prefix="hypoperfusion-") as folder:
        write = functools.partial(_as_file, folder=Path(folder))
        yield {
            name: None if image is None else write(name, image) for name, image in images.items()
        }


def _as_file(name: str, image: "Image", folder: Path) -> str:
    if isinstance(image, str | os.PathLike):
        return os.fspath(image)
    import nibabel
    import numpy as np

    if isinstance(image, tuple) and len(image) == 2:
        data, affine = map(np.asarray, image)
        if affine.shape != (4, 4) or data.ndim not in (3, 4):
            raise InputError(
                f"{name}: an array of shape {data.shape} with an affine of shape {affine.shape}; "
                "expected (X, Y, Z) and (4, 4)"
            )
        if data.dtype == bool or data.dtype.itemsize == 8:
            data = data.astype(np.float32)
        image = nibabel.Nifti1Image(data, affine.astype(np.float64))
    if not isinstance(image, nibabel.spatialimages.SpatialImage):
        raise InputError(
            f"{name}: is of type {type(image).__name__}; expected a path, a nibabel image, or an "
            "array with its affine"
        )
    path = folder / f"{name}.nii"
    nibabel.save(image, path)
    return str(path)
