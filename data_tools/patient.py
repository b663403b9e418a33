"""One patient: files in native space -> checked, in known units -> on the MNI grid.

Training data (``preprocess``) and a new patient (``predict``) walk through these same functions.
"""

import dataclasses
import functools
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from data_tools import agreement, brain_of_dwi, file_names, linear_fit, lone_image, registration
from data_tools.b_values import Diffusion
from data_tools.dicom.study import Source
from data_tools.diffusion import load_diffusion
from data_tools.file_names import sidecar
from data_tools.grid import TMAX_HYPOPERFUSION_S, patient_voxel_ml
from data_tools.intensity import is_given
from data_tools.labels import core_mask
from data_tools.overrides import ADC_UNITS, NONE, Overrides
from data_tools.plausibility import (
    check_contrast,
    check_gaps,
    check_not_swapped,
    check_not_whole_brain,
    check_said_b,
    check_said_unit,
    check_tmax_is_a_map,
    check_tmax_of_tissue,
    check_tmax_seconds,
    check_unit_said_by_person,
    detect_adc_unit,
)
from data_tools.quality import ImageQuality, Registration
from data_tools.runtime.errors import InputError
from data_tools.transform import Transform, motion, resample
from data_tools.volumes import Volume, load_mask, load_volume

Result = TypeVar("Result")

# ADC maps are above 0 in all of the brain but for noise and what the scanner masked.
MIN_ADC_SHARE = 0.7
# Of the template's brain: whole heads have 0.9 and more, half of one has 0.51.
WHOLE_BRAIN_IMAGED, HALF_BRAIN_IMAGED = 0.8, 0.6
# Slices with less brain than this share of the largest may be noise outside the head.
MIN_AREA_SHARE = 0.2
# Of the brain, ventricles in it: 871 and 1043 in two real patients; old brains have more.
ADC_USUAL_UM2_PER_S = (600.0, 1400.0)
# Core-like tissue that a given brain mask leaves out.
CORE_LEFT_OUT_ML = 1.0
# Perfusion slabs cover at least this share of the brain; less is a shifted or foreign image.
MIN_COVERED_SHARE = 0.3
# Overlap of what Tmax shows (values above 0) with the DWI's brain, inside the perfusion slab: 0.95
# to 0.96 in simulated patients, 0.93 after a movement of 8 mm. Below the first a rigid fit is
# tried; it is taken if it betters the overlap by the second and stays within what heads do. A
# smaller overlap than the third that no fit betters is a warning.
GOOD_TMAX_DICE, TMAX_DICE_GAIN, POOR_TMAX_DICE = 0.94, 0.02, 0.85
MAX_HEAD_SHIFT_MM, MAX_HEAD_TURN_DEG = 40.0, 25.0
# A head moves less between two scans of a visit.
FAR_SHIFT_MM, FAR_TURN_DEG = 10.0, 10.0
# Of brain without a Tmax value: more is told.
TMAX_GAP_ML = 1.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class NativePatient:
    """Checked images on the patient's own grid, which is that of the DWI if there is one.

    Attributes:
        dwi: b = 1000 image, any unit; 0 everywhere, on the ADC map's grid, if there is none.
        adc: 1e-6 mm2/s; 0 everywhere if there is none.
        adc_unit: the unit found in the file; None without an ADC map.
        brain: bool, shape of the DWI.
        tmax: s, on its own grid; None if absent.
        truth: 0/1, a mask edited by a person; None if absent.
        truth_is_whole: the mask is the whole truth; else the hypoperfusion, to be united with the
            core.
        b_value: of the DWI, s/mm2; None if no file says it.
        notes: what was done to the files.
        warnings: what a person should look at.
        dicom_source: the scanner's slices, if it came as DICOM files.
        overrides: what a person said of the images, by name.
        tmax_threshold_s: from which on Tmax is hypoperfusion; another than 6 s is calibrated.
    """

    dwi: Volume
    adc: Volume
    adc_unit: str | None
    brain: NDArray[np.bool_]
    tmax: Volume | None = None
    truth: Volume | None = None
    truth_is_whole: bool = False
    b_value: float | None = None
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    dicom_source: Source | None = None
    overrides: Mapping[str, str | float | bool] = dataclasses.field(default_factory=dict)
    tmax_threshold_s: float = TMAX_HYPOPERFUSION_S

    @property
    def missing(self) -> Literal["DWI", "ADC"] | None:
        """``DWI`` or ``ADC``, if there is none."""
        if not is_given(self.dwi.data):
            return "DWI"
        return None if is_given(self.adc.data) else "ADC"

    @property
    def shown(self) -> Volume:
        """What a person is shown: the DWI, or the ADC map where there is none."""
        return self.adc if self.missing == "DWI" else self.dwi


@dataclasses.dataclass(frozen=True, kw_only=True)
class MniPatient:
    """The same images on the MNI grid; intensities stay physical.

    Attributes:
        dwi: float32 (91, 109, 60), 0 where the patient was not imaged; everywhere if not given.
        adc_um2_per_s: the same in 1e-6 mm2/s.
        brain: bool (91, 109, 60).
        coverage: bool, voxels with both diffusion and perfusion.
        transform: native mm <-> MNI mm.
        tmax_s: as ``dwi``, in s; None if absent.
        truth: bool, a mask edited by a person; None if absent.
        truth_is_whole: as of :class:`NativePatient`.
        tmax_threshold_s: as of :class:`NativePatient`.
    """

    dwi: NDArray[np.float32]
    adc_um2_per_s: NDArray[np.float32]
    brain: NDArray[np.bool_]
    coverage: NDArray[np.bool_]
    transform: Transform
    tmax_s: NDArray[np.float32] | None = None
    truth: NDArray[np.bool_] | None = None
    truth_is_whole: bool = False
    tmax_threshold_s: float = TMAX_HYPOPERFUSION_S

    @property
    def voxel_ml(self) -> float:
        """mL of the patient's tissue in a voxel of the MNI grid."""
        return patient_voxel_ml(self.transform.affine)


def load_native(
    dwi: str | os.PathLike | None,
    adc: str | os.PathLike | None = None,
    tmax: str | os.PathLike | None = None,
    truth: str | os.PathLike | None = None,
    *,
    b0: str | os.PathLike | None = None,
    overrides: Overrides = NONE,
    may_lack_one: bool = False,
) -> NativePatient:
    """Read and check a patient's files; arguments as in :func:`examine`.

    Raises:
        InputError: one line for each fault found in any of the files.
    """
    patient, faults = examine(
        dwi, adc, tmax, truth, b0=b0, overrides=overrides, may_lack_one=may_lack_one
    )
    if patient is None:
        raise InputError("\n".join(faults))
    return patient


def with_truth(
    native: NativePatient, tmax: str | os.PathLike | None, truth: str | os.PathLike | None
) -> NativePatient:
    """A patient who was read before, with what perfusion imaging showed.

    Args:
        native: of :func:`load_native`.
        tmax: image file on its own grid.
        truth: image file on its own grid.

    Raises:
        InputError: one line for each fault found.
    """
    checks = _Checks()
    read, mask = (functools.partial(f, may_have_gaps=True) for f in (load_volume, load_mask))
    tmax_volume = checks.result(read, tmax, "Tmax") if tmax else None
    truth_volume = checks.result(mask, truth, "hypoperfusion mask") if truth else None
    if tmax_volume is not None:
        checks.passes(check_tmax_seconds, tmax_volume)
    if not checks.faults:
        _check_beside(checks, (tmax_volume, truth_volume), native.shown, native.brain)
    if checks.faults:
        raise InputError("\n".join(checks.faults))
    whole = truth is not None and file_names.is_whole_truth(truth)
    return _with_beside(native, tmax_volume, truth_volume, whole)


def examine(
    dwi: str | os.PathLike | None,
    adc: str | os.PathLike | None = None,
    tmax: str | os.PathLike | None = None,
    truth: str | os.PathLike | None = None,
    *,
    b0: str | os.PathLike | None = None,
    overrides: Overrides = NONE,
    may_lack_one: bool = False,
) -> tuple[NativePatient | None, list[str]]:
    """Read a patient's files and collect every fault, not only the first.

    Args:
        dwi: image file: a trace image, or a series with its .bval; or a folder of DICOM files; None
            if there is none.
        adc: image file on any grid; None takes the scanner's from the DICOM files, or computes it
            from the series.
        tmax: image file on its own grid.
        truth: image file on its own grid.
        b0: image file of b = 0, if it is apart from the DWI.
        overrides: what a person says of these files.
        may_lack_one: take a patient without a DWI, or without an ADC map where none can be
            computed.

    Returns:
        ``(patient, [])`` if all is well, else ``(None, faults)``.
    """
    check_said_b(overrides)
    checks = _Checks()
    # Each on its own, so that a fault of one does not hide the other's.
    are_different = checks.passes(_check_different_files, {"DWI": dwi, "ADC": adc, "b = 0": b0})
    image = functools.partial(load_volume, may_have_gaps=True)
    mask = functools.partial(load_mask, may_have_gaps=True)
    diffusion = functools.partial(
        load_diffusion, b0=b0, overrides=overrides, may_lack_adc=may_lack_one
    )
    adc_volume = checks.result(image, adc, "ADC") if adc else None
    study = checks.result(diffusion, dwi, adc_volume, not adc) if dwi else None
    tmax_volume = checks.result(image, tmax, "Tmax") if tmax else None
    truth_volume = checks.result(mask, truth, "hypoperfusion mask") if truth else None
    said = overrides.brain_mask
    said_brain = checks.result(mask, said, "brain mask") if said else None
    if tmax_volume is not None:
        checks.passes(check_tmax_seconds, tmax_volume)
    lone = study is not None and study.adc is None
    if may_lack_one and not checks.faults and (lone or (study is None and adc_volume is not None)):
        native = checks.result(_lone_patient, study, adc_volume, said_brain, overrides)
        if native is not None:
            _check_beside(checks, (tmax_volume, truth_volume), native.shown, native.brain)
        if native is None or checks.faults:
            return None, checks.faults
        whole = truth is not None and file_names.is_whole_truth(truth)
        return _with_beside(native, tmax_volume, truth_volume, whole), []
    if study is None or study.adc is None or not are_different:
        return None, checks.faults or ["no DWI; expected one, and an ADC map of the same scan"]
    images = _Images(
        dwi=study.trace, adc=study.adc, tmax=tmax_volume, truth=truth_volume, brain=said_brain,
        truth_is_whole=truth is not None and file_names.is_whole_truth(truth),
    )  # fmt: skip
    found = checks.result(_checked_brain, images)
    if found is None:
        return None, checks.faults
    brain, agreed = found
    study = dataclasses.replace(study, warnings=(*study.warnings, *agreed))
    if study.computed and overrides.adc_unit is not None:
        overrides = dataclasses.replace(overrides, adc_unit=None)
        unused = "--adc_unit was not needed: ADC was computed, in 1e-6 mm2/s"
        study = dataclasses.replace(study, warnings=(*study.warnings, unused))
    unit, warnings, notes = _check_contents(
        checks, images, brain, adc_file=Path(adc) if adc else None, overrides=overrides
    )
    if checks.faults or unit is None:
        return None, checks.faults
    study = dataclasses.replace(
        study, warnings=(*study.warnings, *warnings), notes=(*study.notes, *notes)
    )
    native = checks.result(_patient, study, images, unit)
    if native is None:
        return None, checks.faults
    return dataclasses.replace(native, overrides=overrides.given()), []


class _Checks:
    """Checks made one after another; what each complains of is kept.

    Attributes:
        faults: the complaints so far.
    """

    def __init__(self) -> None:
        self.faults: list[str] = []

    def result(self, function: Callable[..., Result], *arguments: Any) -> Result | None:
        """What a function returns; None, and one more fault, if it raises an InputError."""
        try:
            return function(*arguments)
        except InputError as error:
            self.faults.append(str(error))
            return None

    def passes(self, check: Callable[..., None], *arguments: Any) -> bool:
        """Whether a check raises no InputError."""
        known = len(self.faults)
        self.result(check, *arguments)
        return len(self.faults) == known


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Images:
    """What was read of a patient; ADC in the unit of its file, ``brain`` as a person says it."""

    dwi: Volume
    adc: Volume
    tmax: Volume | None
    truth: Volume | None
    brain: Volume | None
    truth_is_whole: bool

    @property
    def notes(self) -> tuple[str, ...]:
        """What reading those files showed that are not of the diffusion study."""
        read = (self.tmax, self.truth, self.brain)
        return tuple(note for each in read if each is not None for note in each.reading.notes)


def _check_contents(
    checks: _Checks,
    images: _Images,
    brain: NDArray[np.bool_],
    *,
    adc_file: Path | None,
    overrides: Overrides,
) -> tuple[str | None, tuple[str, ...], tuple[str, ...]]:
    """Whether images are what they are said to be; unit of the ADC, warnings and notes on it."""
    dwi, adc = images.dwi, images.adc
    unit: str | None = None
    warnings: list[str] = []
    notes: tuple[str, ...] = ()
    if checks.passes(check_not_swapped, dwi, adc, brain):  # a swapped pair has no ADC
        # One that lies elsewhere is told as that, not by what follows from it.
        known = len(checks.faults)
        warnings += checks.result(agreement.check_place, dwi, adc, brain) or ()
        if len(checks.faults) > known:
            return None, (), ()
        if overrides.adc_unit is None:
            unit = checks.result(detect_adc_unit, adc, brain)
        else:
            warnings += (
                checks.result(check_unit_said_by_person, adc, brain, overrides.adc_unit) or ()
            )
            unit = overrides.adc_unit
    if unit is not None and adc_file is not None:
        contradicted = checks if overrides.adc_unit is None else _Checks()
        notes = contradicted.result(_check_sidecar, adc, adc_file, unit) or ()
        if contradicted is not checks:
            warnings += [f"{fault} (--adc_unit was taken)" for fault in contradicted.faults]
    _check_beside(checks, (images.tmax, images.truth), dwi, brain)
    return unit, tuple(warnings), notes


def _check_beside(
    checks: _Checks,
    beside: tuple[Volume | None, Volume | None],
    shown: Volume,
    brain: NDArray[np.bool_],
) -> None:
    """Whether Tmax and the truth lie where the brain is, without holes, in their unit."""
    for image, what in zip(beside, ("Tmax", "hypoperfusion mask"), strict=True):
        if image is not None and checks.passes(check_overlap, image, what, shown, brain):
            seen = seen_on(image, shown, brain)
            checks.passes(
                functools.partial(check_gaps, may_be_a_slab=True), image, seen, what
            )  # fmt: skip
            if what == "hypoperfusion mask":
                checks.passes(check_not_whole_brain, image, seen)
            elif not checks.faults:
                checks.passes(check_tmax_is_a_map, image, seen & perfusion_scan(image))
                checks.passes(check_tmax_of_tissue, image, seen)


def _patient(study: Diffusion, images: _Images, unit: str) -> NativePatient:
    """The patient of images without a fault; the DWI's contrast shows only with a known ADC."""
    adc = dataclasses.replace(images.adc, data=images.adc.data * np.float32(ADC_UNITS[unit]))
    brain = brain_of_dwi.brain_mask(images.dwi, adc.data) & (adc.data > 0)
    warnings = [*study.warnings]
    if images.brain is not None:
        found = brain
        brain = lone_image.on_grid_of(images.brain, images.dwi) & (adc.data > 0)
        warnings += agreement.mask_warnings(brain, found, images.dwi.voxel_ml)
        warnings += _core_left_out(images.dwi, adc, found, brain)
    _check_size(images, brain)
    check_contrast(images.dwi, adc, brain, study.b_value)
    tmax = images.tmax
    if tmax is not None:
        warnings += _tmax_gaps(tmax, images.dwi, brain)
        tmax, moved = _align_tmax(tmax, images.dwi, brain)
        warnings += moved
    return NativePatient(
        dwi=images.dwi,
        adc=adc,
        adc_unit=unit,
        brain=brain,
        tmax=tmax,
        truth=images.truth,
        truth_is_whole=images.truth_is_whole,
        b_value=study.b_value,
        notes=(*study.notes, *images.notes),
        warnings=tuple(warnings),
        dicom_source=study.dicom_source,
    )


def _core_left_out(
    dwi: Volume, adc: Volume, found: NDArray[np.bool_], said: NDArray[np.bool_]
) -> list[str]:
    """A warning of core-like tissue in the brain that was found and not in the one that is said."""
    outside = core_mask(dwi.data, adc.data, found, dwi.voxel_ml) & ~said
    left_out_ml = float(outside.sum() * dwi.voxel_ml)
    if left_out_ml < CORE_LEFT_OUT_ML:
        return []
    return [
        f"the brain mask that was given leaves out {left_out_ml:.1f} mL of the brain found in the "
        "DWI that look like core"
    ]


def _lone_patient(
    study: Diffusion | None, adc: Volume | None, said_brain: Volume | None, overrides: Overrides
) -> NativePatient:
    """The patient of a DWI whose study has no ADC map, or else of an ADC map."""
    readings = [] if said_brain is None else [*said_brain.reading.notes]
    if study is not None:
        found = lone_image.of_dwi(study.trace, said_brain)
        absent = np.zeros_like(found.image.data)
        return NativePatient(
            dwi=found.image,
            adc=dataclasses.replace(found.image, data=absent),
            adc_unit=None,
            brain=found.brain,
            b_value=study.b_value,
            notes=(*study.notes, *readings),
            warnings=(*study.warnings, *found.warnings),
            dicom_source=study.dicom_source,
            overrides=overrides.given(),
        )
    if adc is None:
        raise ValueError("a patient needs a DWI or an ADC map")
    found = lone_image.of_adc(adc, said_brain, overrides)
    absent = np.zeros_like(found.image.data)
    return NativePatient(
        dwi=dataclasses.replace(found.image, data=absent),
        adc=found.image,
        adc_unit=found.adc_unit,
        brain=found.brain,
        notes=(*adc.reading.notes, *readings),
        warnings=found.warnings,
        overrides=overrides.given(),
    )


def _with_beside(
    native: NativePatient, tmax: Volume | None, truth: Volume | None, truth_is_whole: bool
) -> NativePatient:
    """A patient of a lone image, with Tmax and truth."""
    warnings = [*native.warnings]
    if tmax is not None:
        warnings += _tmax_gaps(tmax, native.shown, native.brain)
        tmax, moved = _align_tmax(tmax, native.shown, native.brain)
        warnings += moved
    notes = [note for each in (tmax, truth) if each is not None for note in each.reading.notes]
    return dataclasses.replace(
        native,
        tmax=tmax,
        truth=truth,
        truth_is_whole=truth_is_whole,
        notes=(*native.notes, *notes),
        warnings=tuple(warnings),
    )


def _check_different_files(files: Mapping[str, str | os.PathLike | None]) -> None:
    there = [(what, path) for what, path in files.items() if path and Path(path).exists()]
    for k, (what, path) in enumerate(there):
        for other, other_path in there[:k]:
            if os.path.samefile(path, other_path):
                raise InputError(
                    f"{other} and {what} are the same file, {path}; expected two different images"
                )


def _align_tmax(tmax: Volume, dwi: Volume, brain: NDArray[np.bool_]) -> tuple[Volume, list[str]]:
    """The Tmax image where the DWI's brain is: by its header, or moved rigidly if that is off."""
    measured = _without_blank_ends(tmax)
    filled = ndimage.binary_fill_holes(measured.data > 0) * np.float32(1)
    shown = dataclasses.replace(measured, data=filled)
    if shown.data.mean() > 0.9:  # noise around the head: nothing to compare
        return tmax, []
    there = dataclasses.replace(dwi, data=brain.astype(np.float32))

    def overlap(matrix: NDArray[np.float64]) -> float:
        inside = seen_on(measured, dwi, brain, np.linalg.inv(matrix))
        total = inside.sum() + shown.data.sum()
        return float(2 * (inside & (shown.data > 0)).sum() / max(total, 1))

    as_it_is = overlap(np.eye(4))
    if as_it_is >= GOOD_TMAX_DICE:
        return tmax, []
    matrix = linear_fit.fit(linear_fit.Target(there), shown, "rigid", np.eye(4))
    shift_mm, turn_deg = motion(matrix, tmax)
    moved = overlap(matrix)
    message = f"Tmax {tmax.path}: what it shows overlaps the DWI's brain with Dice {as_it_is:.2f}"
    if (
        moved < as_it_is + TMAX_DICE_GAIN
        or shift_mm > MAX_HEAD_SHIFT_MM
        or turn_deg > MAX_HEAD_TURN_DEG
    ):
        poor = f"{message}, and no movement betters it; look whether both are one patient's"
        return tmax, [poor] if as_it_is < POOR_TMAX_DICE else []
    far = shift_mm > FAR_SHIFT_MM or turn_deg > FAR_TURN_DEG
    return dataclasses.replace(tmax, affine=matrix @ tmax.affine), [
        f"{message}; it was moved by {shift_mm:.0f} mm and {turn_deg:.0f} degrees, which gives "
        f"{moved:.2f}" + ("; look whether both are one patient's" if far else "")
    ]


def _tmax_gaps(tmax: Volume, shown: Volume, brain: NDArray[np.bool_]) -> list[str]:
    """A warning of brain in which a Tmax map has no value; there nothing is known."""
    absent = tmax.reading.absent
    if absent is None:
        return []
    inside = absent & seen_on(tmax, shown, brain) & shown_in_slices(tmax)
    lost_ml = float(inside.sum() * tmax.voxel_ml)
    if lost_ml < TMAX_GAP_ML:
        return []
    return [
        f"Tmax {tmax.path}: has no value (NaN) in {lost_ml:.1f} mL of the brain; nothing is known "
        "there, and it is left out of truth and comparison"
    ]


def _without_blank_ends(image: Volume) -> Volume:
    """From the first slice with any value to the last: programs leave outer slices blank."""
    axis, shown = brain_of_dwi.slice_axis(image.affine), brain_of_dwi.shown_slices(image)
    kept = tuple(shown if k == axis else slice(None) for k in range(3))
    affine = image.affine.copy()
    affine[:3, 3] += affine[:3, axis] * shown.start
    return dataclasses.replace(image, data=image.data[kept], affine=affine)


def _check_sidecar(adc: Volume, path: Path, unit: str) -> tuple[str, ...]:
    said = sidecar(path).get("Units")
    return check_said_unit(adc, said if isinstance(said, str) else None, unit)


def _checked_brain(images: _Images) -> tuple[NDArray[np.bool_], tuple[str, ...]]:
    """The brain that DWI and ADC show, of a plausible volume, and warnings."""
    dwi, adc = images.dwi, images.adc
    if np.array_equal(dwi.data, adc.data):
        raise InputError(
            f"DWI {dwi.path} and ADC {adc.path} hold the same voxels; expected two different images"
        )
    lone_image.check_no_empty_slices(dwi, "DWI")
    brain = brain_of_dwi.brain_mask(dwi)
    warnings: tuple[str, ...] = ()
    if images.brain is not None:
        said = lone_image.on_grid_of(images.brain, dwi)
        agreement.check_given_mask(images.brain.path, said, brain, dwi.voxel_ml)
        brain = said
    else:
        warnings = agreement.gap_warnings(dwi, adc, brain)
    check_gaps(dwi, brain, "DWI")
    check_gaps(adc, brain, "ADC")
    _check_mapped(adc, dwi, brain)
    warnings += agreement.check_holes(dwi, adc, brain)
    brain &= adc.data > 0
    lone_image.check_not_cut(dwi, brain, "DWI")
    _check_size(images, brain)
    return brain, warnings


def _check_size(images: _Images, brain: NDArray[np.bool_]) -> None:
    """Whether the brain has the volume of one; both of what DWI alone and with ADC shows."""
    mask_path = None if images.brain is None else images.brain.path
    lone_image.check_size(images.dwi, brain, "DWI", mask_path)


def _check_mapped(adc: Volume, dwi: Volume, brain: NDArray[np.bool_]) -> None:
    """Whether the ADC map holds something nearly everywhere in the DWI's brain."""
    share = float((adc.data[brain] > 0).mean()) if brain.any() else 1.0
    if share < MIN_ADC_SHARE:
        raise InputError(
            f"ADC {adc.path}: is above 0 in {share:.0%} of the brain that DWI {dwi.path} shows; "
            f"expected at least {MIN_ADC_SHARE:.0%}. Is it an ADC map of the same patient, not "
            "mirrored, and are the b-values of the series those of its images?"
        )
    seen = np.moveaxis(brain, brain_of_dwi.slice_axis(dwi.affine), 0)
    mapped = np.moveaxis(adc.data > 0, brain_of_dwi.slice_axis(dwi.affine), 0)
    area = seen.sum(axis=(1, 2))
    absent = [
        k
        for k in np.flatnonzero(area > MIN_AREA_SHARE * area.max())
        if not mapped[k][seen[k]].any()
    ]
    if absent:
        raise InputError(
            f"ADC {adc.path}: holds nothing in {len(absent)} of the slices in which DWI {dwi.path} "
            f"shows brain (the first is {absent[0]}, counted from 0); expected all of them"
        )


def seen_on(
    image: Volume,
    dwi: Volume,
    brain: NDArray[np.bool_],
    moved: NDArray[np.floating] | None = None,
) -> NDArray[np.bool_]:
    """The DWI's brain on another image's grid: by the headers, or ``moved`` rigidly (4 x 4)."""
    there = dataclasses.replace(dwi, data=brain.astype(np.float32))
    matrix = np.eye(4) if moved is None else np.asarray(moved, np.float64)
    return resample(there, matrix, image.data.shape, image.affine) > 0.5


def check_overlap(image: Volume, what: str, dwi: Volume, brain: NDArray[np.bool_]) -> None:
    """Refuse an image of the same session that does not lie where the DWI's brain is.

    Args:
        image: on its own grid; its values do not matter.
        what: ``Tmax``..., for messages.
        dwi: for its grid.
        brain: bool, on that grid.

    Raises:
        InputError: less than 30% of the brain is in its field of view.
    """
    field = dataclasses.replace(image, data=np.ones_like(image.data))
    inside = resample(field, np.eye(4), dwi.data.shape, dwi.affine) > 0.5
    share = float(inside[brain].mean())
    if share < MIN_COVERED_SHARE:
        raise InputError(
            f"{what} {image.path}: its field of view covers {share:.0%} of the DWI's brain; "
            f"expected at least {MIN_COVERED_SHARE:.0%}. Is it of the same patient and session, "
            "with its own orientation header?"
        )


def to_mni(native: NativePatient, kind: str = "affine") -> tuple[MniPatient, ImageQuality]:
    """Register a patient and bring every image onto the MNI grid.

    Coverage is the brain inside the Tmax image's field of view, without slices where Tmax is
    nowhere positive (paper: only voxels with both diffusion and perfusion count). Without a
    Tmax it is the brain.

    Args:
        native: of :func:`load_native`.
        kind: ``affine``, ``ants`` or ``syn``, see :func:`data_tools.registration.register`.

    Returns:
        The patient, and figures and warnings of images and fit.

    Raises:
        InputError: the brain cannot be fitted to the template.
    """
    lesion = core_of(native) if kind == "syn" else None
    fit = registration.register(native.dwi, native.adc.data, native.brain, lesion=lesion, kind=kind)
    what = "ADC" if native.missing == "DWI" else "DWI"
    imaged = fit.figures.template_brain_imaged
    if imaged < HALF_BRAIN_IMAGED:
        raise InputError(
            f"{what} {native.shown.path}: only {imaged:.0%} of the template's brain lies within "
            "the image, so about half of the head is missing; expected a scan of all of it"
        )
    patient = on_grid(native, fit.transform)
    return patient, _quality(native, patient, fit)


def on_grid(native: NativePatient, transform: Transform) -> MniPatient:
    """Every image of a patient on the MNI grid, through a transform that is known.

    Args:
        native: of :func:`load_native`.
        transform: its way to the template.
    """
    brain = transform.bring_mask(native.brain, native.dwi)
    # Where brain meets background, interpolation would mix the two: only what is inside counts.
    dwi = transform.bring(native.dwi)
    adc = transform.bring(native.adc)
    if native.missing != "ADC":
        brain &= adc > 0
    coverage, tmax = brain, None
    if native.tmax is not None:
        tmax = transform.bring(native.tmax)
        coverage = brain & transform.bring_mask(perfusion_scan(native.tmax), native.tmax)
    truth = None
    if native.truth is not None:
        truth = transform.bring_mask(native.truth.data, native.truth) & coverage
    return MniPatient(
        dwi=dwi,
        adc_um2_per_s=adc,
        brain=brain,
        coverage=coverage,
        transform=transform,
        tmax_s=tmax,
        truth=truth,
        truth_is_whole=native.truth_is_whole,
        tmax_threshold_s=native.tmax_threshold_s,
    )


def perfusion_scan(tmax: Volume) -> NDArray[np.bool_]:
    """Bool, shape of a Tmax image: where it says something.

    Slices in which it is nowhere positive say nothing, nor do voxels without a value (NaN).
    """
    seen = shown_in_slices(tmax)
    return seen if tmax.reading.absent is None else seen & ~tmax.reading.absent


def shown_in_slices(tmax: Volume) -> NDArray[np.bool_]:
    """Bool, shape of a Tmax image: its slices, without those in which it is nowhere positive."""
    slices = brain_of_dwi.slice_axis(tmax.affine)
    in_slice = tuple(axis for axis in range(3) if axis != slices)
    seen = (tmax.data > 0).any(axis=in_slice, keepdims=True)
    return np.broadcast_to(seen, tmax.data.shape)


def _quality(native: NativePatient, patient: MniPatient, fit: registration.Fit) -> ImageQuality:
    warnings = [*native.warnings, *fit.warnings]
    if fit.figures.end_slice_brain_share > brain_of_dwi.CUT_SHARE:
        warnings.append(
            f"the head is cut off: an end slice shows {fit.figures.end_slice_brain_share:.0%} "
            "of the largest slice's brain; what lies beyond is missing in every volume"
        )
    elif fit.figures.template_brain_imaged < WHOLE_BRAIN_IMAGED:
        warnings.append(
            f"only {fit.figures.template_brain_imaged:.0%} of the template's brain lies within the "
            "image: a part of the head is missing, in every volume too; a stroke there is not seen"
        )
    median = None
    if native.missing != "ADC":
        median = round(float(np.median(native.adc.data[native.brain])), 1)
    low, high = ADC_USUAL_UM2_PER_S
    if median is not None and not low <= median <= high:
        warnings.append(
            f"the median ADC of the brain is {median:.0f}e-6 mm2/s (usual is {low:.0f} to "
            f"{high:.0f}); is the map scaled as its scanner scaled it?"
        )
    figures = Registration(
        verdict="poor" if warnings else "good",
        notes=tuple(native.notes),
        registration=fit.kind,
        strategy=fit.strategy,
        fitted_by=fit.fitted_by,
        **dataclasses.asdict(fit.figures),
        brain_native_ml=round(float(native.brain.sum() * native.dwi.voxel_ml), 2),
        brain_mni_ml=round(float(patient.brain.sum() * patient.voxel_ml), 2),
        coverage_mni_ml=round(float(patient.coverage.sum() * patient.voxel_ml), 2),
        b_value_s_per_mm2=native.b_value,
        adc_unit_in_file=native.adc_unit,
        adc_parenchyma_median_um2_per_s=median,
        shape=tuple(native.dwi.data.shape),
        affine=tuple(map(tuple, native.dwi.affine.tolist())),
        orientation=native.dwi.orientation,
        spacing_mm=tuple(round(s, 4) for s in native.dwi.spacing_mm),
    )
    return ImageQuality(figures, tuple(warnings))


def core_of(native: NativePatient) -> NDArray[np.bool_]:
    """Core of a patient with both images, on the DWI's own grid.

    See :func:`data_tools.labels.core_mask`.
    """
    return core_mask(native.dwi.data, native.adc.data, native.brain, native.dwi.voxel_ml)


def core_on_grid(patient: MniPatient) -> NDArray[np.bool_]:
    """Core of a patient with both images, on the MNI grid.

    See :func:`data_tools.labels.core_mask`.
    """
    return core_mask(patient.dwi, patient.adc_um2_per_s, patient.brain, patient.voxel_ml)
