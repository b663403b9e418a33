"""One patient: files in native space -> checked, in known units -> on the MNI grid.

Training data (``preprocess``) and a new patient (``predict``) walk through these same functions.
"""

import dataclasses
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_tools import registration
from data_tools.errors import InputError
from data_tools.grid import GRID_AFFINE, GRID_SHAPE, hemisphere, patient_voxel_ml
from data_tools.labels import core_mask
from data_tools.volumes import (
    ADC_UNITS,
    Volume,
    check_not_swapped,
    check_tmax_seconds,
    detect_adc_unit,
    load_mask,
    load_volume,
)

# Adult brains are 1000 to 1700 mL; partial coverage and atrophy make less, a mask that took in
# the skull or the background makes more.
BRAIN_RANGE_ML = (500.0, 2200.0)
# Perfusion slabs cover at least this share of the brain; less is a shifted or foreign image.
MIN_COVERED_SHARE = 0.3
# Overlap of the patient's brain with the template's below which the fit is called poor; good
# fits of whole brains reach 0.94 and more.
GOOD_BRAIN_DICE = 0.90
# A side is called contradicted when the other half holds at least this core, and twice as much.
CONTRADICTING_CORE_ML = 1.0


@dataclasses.dataclass(frozen=True)
class NativePatient:
    """Checked images on the patient's own grid.

    Attributes:
        dwi: b = 1000 image, any unit.
        adc: 1e-6 mm2/s.
        adc_unit: the unit found in the file.
        brain: bool, shape of the DWI.
        tmax: s, on its own grid; None if absent.
        truth: 0/1, a hypoperfusion mask edited by a person; None if absent.
    """

    dwi: Volume
    adc: Volume
    adc_unit: str
    brain: NDArray[np.bool_]
    tmax: Volume | None = None
    truth: Volume | None = None


@dataclasses.dataclass(frozen=True)
class MniPatient:
    """The same images on the MNI grid; intensities stay physical.

    Attributes:
        dwi, adc_um2_per_s, tmax_s: float32 (91, 109, 60), 0 where the patient was not imaged.
        brain, coverage, truth: bool (91, 109, 60).
        to_mni: [4, 4], native mm -> MNI mm, RAS+.
    """

    dwi: NDArray[np.float32]
    adc_um2_per_s: NDArray[np.float32]
    brain: NDArray[np.bool_]
    coverage: NDArray[np.bool_]
    to_mni: NDArray[np.float64]
    tmax_s: NDArray[np.float32] | None = None
    truth: NDArray[np.bool_] | None = None

    @property
    def voxel_ml(self) -> float:
        """mL of the patient's tissue in a voxel of the MNI grid."""
        return patient_voxel_ml(self.to_mni)


def load_native(
    dwi: str | os.PathLike,
    adc: str | os.PathLike,
    tmax: str | os.PathLike | None = None,
    truth: str | os.PathLike | None = None,
) -> NativePatient:
    """Read and check a patient's files.

    Raises:
        InputError: one line for each fault found in any of the files.
    """
    patient, faults = examine(dwi, adc, tmax, truth)
    if patient is None:
        raise InputError("\n".join(faults))
    return patient


def examine(
    dwi: str | os.PathLike,
    adc: str | os.PathLike,
    tmax: str | os.PathLike | None = None,
    truth: str | os.PathLike | None = None,
) -> tuple[NativePatient | None, list[str]]:
    """Read a patient's files and collect every fault, not only the first.

    Returns:
        ``(patient, [])`` if all is well, else ``(None, faults)``.
    """
    faults: list[str] = []

    def attempt(function, *arguments):
        try:
            return function(*arguments)
        except InputError as error:
            faults.append(str(error))
            return None

    same_file = Path(dwi).exists() and Path(adc).exists() and os.path.samefile(dwi, adc)
    if same_file:
        faults.append(f"DWI and ADC are the same file, {dwi}; expected two different images")
    dwi_volume = attempt(load_volume, dwi, "DWI")
    adc_volume = attempt(load_volume, adc, "ADC")
    tmax_volume = attempt(load_volume, tmax, "Tmax") if tmax else None
    truth_volume = attempt(load_mask, truth, "hypoperfusion mask") if truth else None
    if tmax_volume is not None:
        attempt(check_tmax_seconds, tmax_volume)
    brain, unit = None, ""
    if dwi_volume is not None and adc_volume is not None and not same_file:
        brain = attempt(_checked_brain, dwi_volume, adc_volume)
    if brain is not None:
        known = len(faults)
        attempt(check_not_swapped, dwi_volume, adc_volume, brain)
        if len(faults) == known:  # a swapped pair has no ADC to find the unit of
            unit = attempt(detect_adc_unit, adc_volume, brain)
        attempt(_check_overlap, tmax_volume, "Tmax", dwi_volume, brain)
        attempt(_check_overlap, truth_volume, "hypoperfusion mask", dwi_volume, brain)
    if faults or brain is None or dwi_volume is None or adc_volume is None:
        return None, faults
    adc_um2 = dataclasses.replace(adc_volume, data=adc_volume.data * np.float32(ADC_UNITS[unit]))
    return NativePatient(dwi_volume, adc_um2, unit, brain, tmax_volume, truth_volume), []


def _checked_brain(dwi: Volume, adc: Volume) -> NDArray[np.bool_]:
    if not dwi.same_grid(adc):
        raise InputError(
            f"DWI {dwi.path} (shape {dwi.data.shape}, {dwi.orientation}) and ADC {adc.path} "
            f"(shape {adc.data.shape}, {adc.orientation}) lie on different grids; expected one. "
            "Resample the ADC map onto the DWI's grid."
        )
    brain = registration.brain_mask(dwi) & (adc.data > 0)
    volume_ml = float(brain.sum() * dwi.voxel_ml)
    if not BRAIN_RANGE_ML[0] <= volume_ml <= BRAIN_RANGE_ML[1]:
        raise InputError(
            f"DWI {dwi.path}: the brain found in it has {volume_ml:.0f} mL; expected "
            f"{BRAIN_RANGE_ML[0]:.0f} to {BRAIN_RANGE_ML[1]:.0f} mL. Is this a whole-brain DWI "
            "with b about 1000 s/mm2, and are its voxel sizes right?"
        )
    return brain


def _check_overlap(image: Volume | None, what: str, dwi: Volume, brain: NDArray[np.bool_]) -> None:
    """Whether an image of the same session lies where the DWI's brain is."""
    if image is None:
        return
    field = dataclasses.replace(image, data=np.ones_like(image.data))
    inside = registration.resample(field, np.eye(4), dwi.data.shape, dwi.affine) > 0.5
    share = float(inside[brain].mean())
    if share < MIN_COVERED_SHARE:
        raise InputError(
            f"{what} {image.path}: its field of view covers {share:.0%} of the DWI's brain; "
            f"expected at least {MIN_COVERED_SHARE:.0%}. Is it of the same patient and session, "
            "with its own orientation header?"
        )


def to_mni(native: NativePatient) -> tuple[MniPatient, dict[str, Any]]:
    """Register a patient and bring every image onto the MNI grid.

    Coverage is the brain inside the Tmax image's field of view, without slices where Tmax is
    nowhere positive (paper: only voxels with both diffusion and perfusion count). Without a
    Tmax it is the brain.

    Returns:
        The patient and the figures of the quality control (plain JSON types).
    """
    matrix = registration.register_affine(native.dwi, native.brain)

    def bring(volume: Volume) -> NDArray[np.float32]:
        return registration.resample(volume, matrix, GRID_SHAPE, GRID_AFFINE)

    def bring_mask(mask: NDArray, like: Volume) -> NDArray[np.bool_]:
        return bring(dataclasses.replace(like, data=mask.astype(np.float32))) > 0.5

    brain = bring_mask(native.brain, native.dwi)
    # Where brain meets background, interpolation would mix the two: only what is inside counts.
    dwi = bring(native.dwi)
    adc = bring(native.adc)
    brain &= adc > 0
    coverage, tmax = brain, None
    if native.tmax is not None:
        tmax = bring(native.tmax)
        # The slices' axis is the steepest one: the third as a rule, in a reordered file another.
        steepest = int(np.argmax(np.abs(native.tmax.affine[2, :3])))
        in_slice = tuple(axis for axis in range(3) if axis != steepest)
        seen = (native.tmax.data > 0).any(axis=in_slice, keepdims=True)
        coverage = brain & bring_mask(np.broadcast_to(seen, native.tmax.data.shape), native.tmax)
    truth = None
    if native.truth is not None:
        truth = bring_mask(native.truth.data, native.truth) & coverage
    patient = MniPatient(dwi, adc, brain, coverage, matrix, tmax, truth)
    return patient, _quality(native, patient)


def _quality(native: NativePatient, patient: MniPatient) -> dict[str, Any]:
    template, template_brain = registration.template_on_grid()
    both = patient.brain & template_brain
    overlap = 2.0 * both.sum() / (patient.brain.sum() + template_brain.sum())
    tissue = both & (patient.adc_um2_per_s > 0)
    correlation = np.corrcoef(template[tissue], patient.adc_um2_per_s[tissue])[0, 1]
    warnings = []
    if overlap < GOOD_BRAIN_DICE:
        warnings.append(
            f"poor registration: the brain overlaps the template's with Dice {overlap:.2f} "
            f"(good is {GOOD_BRAIN_DICE:.2f} and more); look at the picture before using anything"
        )
    if np.linalg.det(patient.to_mni[:3, :3]) <= 0:
        warnings.append("the registration mirrors the brain: left and right are unsure")
    return {
        "verdict": "poor" if warnings else "good",
        "warnings": warnings,
        "brain_dice_with_template": round(float(overlap), 4),
        "adc_correlation_with_template_t1": round(float(correlation), 4),
        "affine_determinant": round(float(np.linalg.det(patient.to_mni[:3, :3])), 4),
        "brain_native_ml": round(float(native.brain.sum() * native.dwi.voxel_ml), 2),
        "brain_mni_ml": round(float(patient.brain.sum() * patient.voxel_ml), 2),
        "coverage_mni_ml": round(float(patient.coverage.sum() * patient.voxel_ml), 2),
        "adc_unit_in_file": native.adc_unit,
        "adc_parenchyma_median_um2_per_s": round(
            float(np.median(native.adc.data[native.brain])), 1
        ),
        "orientation": native.dwi.orientation,
        "spacing_mm": [round(s, 4) for s in native.dwi.spacing_mm],
    }


def side_contradiction(core: NDArray[np.bool_], side: str, voxel_ml: float) -> str | None:
    """A warning if the core lies mostly in the half that is not the given side, else None.

    Args:
        core: bool (91, 109, 60), RAS+ (index 0 is left).
        side: left, right or bilateral; bilateral is never contradicted.
        voxel_ml: mL of the patient's tissue in a voxel.
    """
    if side == "bilateral":
        return None
    other = {"left": "right", "right": "left"}[side]
    given_ml = float((core & hemisphere(side)).sum() * voxel_ml)
    other_ml = float((core & hemisphere(other)).sum() * voxel_ml)
    if other_ml < CONTRADICTING_CORE_ML or other_ml < 2 * given_ml:
        return None
    return (
        f"CHECK THE SIDE: side was given as {side}, but {other_ml:.1f} mL of core lie in the "
        f"{other} half of the brain and {given_ml:.1f} mL in the {side} half. Side means the side "
        "of the brain lesion, not of the weak limbs."
    )


def core_on_grid(patient: MniPatient) -> NDArray[np.bool_]:
    """Core of a patient on the MNI grid; see :func:`data_tools.labels.core_mask`."""
    return core_mask(patient.dwi, patient.adc_um2_per_s, patient.brain, patient.voxel_ml)
