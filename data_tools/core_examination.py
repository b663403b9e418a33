"""One patient's core on both grids, and every warning that the core and the given side call for.

Training data (``preprocess``) and a new patient (``predict``) are examined by this one function.
"""

import dataclasses

import numpy as np
from numpy.typing import NDArray

from data_tools.criteria import DEFUSE3
from data_tools.grid import (
    ADC_CORE_UM2_PER_S,
    ONE_SIDED,
    TMAX_HYPOPERFUSION_S,
    hemisphere,
    mirrored_side,
)
from data_tools.labels import hypoperfusion_mask
from data_tools.patient import MniPatient, NativePatient, core_of, core_on_grid

# A side is called contradicted when the other half holds at least this core, and twice as much.
CONTRADICTING_CORE_ML = 1.0
# Tmax is noisy: as much delay as DEFUSE 3 calls a mismatch.
CONTRADICTING_DELAY_ML = DEFUSE3.min_difference_ml
# Core on the MNI grid and on the patient's own: less than this apart, where it has any size.
CORE_AGREEMENT, CORE_OF_SIZE_ML = 0.25, 5.0
# As much as DEFUSE 3 allows a core. Noise and normal white matter had 35 and 55 mL in two patients.
UNCOUNTED_ML = DEFUSE3.max_core_ml


@dataclasses.dataclass(frozen=True, kw_only=True)
class CoreFindings:
    """A patient's core, and what a person should look at.

    Attributes:
        native: bool, shape of the DWI.
        mni: bool (91, 109, 60).
        native_ml: mL on the DWI's grid; the figure that counts.
        mni_ml: mL of the patient's tissue, counted on the MNI grid.
        delayed: bool (91, 109, 60), Tmax of 6 s and more; None without a Tmax image.
        alarms: the given side contradicts the images; shown above everything.
        warnings: all others.
    """

    native: NDArray[np.bool_]
    mni: NDArray[np.bool_]
    native_ml: float
    mni_ml: float
    delayed: NDArray[np.bool_] | None
    alarms: tuple[str, ...]
    warnings: tuple[str, ...]

    def within(self, side: str) -> "CoreFindings":
        """The masks of the MNI grid cut to the stroke's half; mL and warnings stay.

        Args:
            side: left or right; of any other word both halves are the stroke's.
        """
        half = hemisphere(side)
        delayed = None if self.delayed is None else self.delayed & half
        return dataclasses.replace(self, mni=self.mni & half, delayed=delayed)


def examine_core(native: NativePatient, mni: MniPatient, side: str) -> CoreFindings:
    """Find the core on both grids and compare it with the given side.

    Args:
        native: the patient's images on the DWI's grid.
        mni: the same patient on the MNI grid.
        side: of the brain lesion: left, right, bilateral or unknown.
    """
    core, core_mni = core_of(native), core_on_grid(mni)
    core_ml = float(core.sum() * native.dwi.voxel_ml)
    core_mni_ml = float(core_mni.sum() * mni.voxel_ml)
    delayed = None
    if mni.tmax_s is not None:
        delayed = hypoperfusion_mask(
            mni.tmax_s,
            adc_um2_per_s=mni.adc_um2_per_s,
            coverage=mni.coverage,
            voxel_ml=mni.voxel_ml,
        )
    contradiction = side_contradiction(core_mni, side, mni.voxel_ml)
    alarms = [
        contradiction,
        None if delayed is None else tmax_contradiction(delayed, side, mni.voxel_ml),
    ]
    warnings = [
        None if contradiction else core_elsewhere(core_mni, side, mni.voxel_ml),
        core_disagreement(core_ml, core_mni_ml),
        uncounted_low_adc(native, core_ml),
    ]
    return CoreFindings(
        native=core,
        mni=core_mni,
        native_ml=core_ml,
        mni_ml=core_mni_ml,
        delayed=delayed,
        alarms=tuple(text for text in alarms if text),
        warnings=tuple(text for text in warnings if text),
    )


def side_contradiction(core: NDArray[np.bool_], side: str, voxel_ml: float) -> str | None:
    """A warning if the core lies mostly in the half that is not the given side, else None.

    Args:
        core: bool (91, 109, 60), RAS+ (index 0 is left).
        side: left or right; any other word is never contradicted.
        voxel_ml: mL of the patient's tissue in a voxel.
    """
    found = _mostly_opposite(core, side, voxel_ml, CONTRADICTING_CORE_ML)
    if found is None:
        return None
    other, given_ml, other_ml = found
    return (
        f"CHECK THE SIDE: side was given as {side}, but {other_ml:.1f} mL of core lie in the "
        f"{other} half of the brain and {given_ml:.1f} mL in the {side} half. Side means the side "
        "of the brain lesion, not of the weak limbs."
    )


def tmax_contradiction(delayed: NDArray[np.bool_], side: str, voxel_ml: float) -> str | None:
    """A warning if the delayed tissue lies mostly in the half that is not the given side.

    Args:
        delayed: bool (91, 109, 60), of :func:`data_tools.labels.hypoperfusion_mask`.
        side: as in :func:`side_contradiction`.
        voxel_ml: mL of the patient's tissue in a voxel.
    """
    found = _mostly_opposite(delayed, side, voxel_ml, CONTRADICTING_DELAY_ML)
    if found is None:
        return None
    other, given_ml, other_ml = found
    return (
        f"CHECK THE SIDE: side was given as {side}, but Tmax is {TMAX_HYPOPERFUSION_S:.0f} s and "
        f"more in {other_ml:.0f} mL of the {other} half of the brain and in {given_ml:.0f} mL of "
        f"the {side} half. Is the side right, and is the Tmax image mirrored against its header?"
    )


def core_elsewhere(core: NDArray[np.bool_], side: str, voxel_ml: float) -> str | None:
    """A warning if some of the core, though not most of it, lies outside the given side.

    Args:
        core: bool (91, 109, 60), RAS+.
        side: left or right; any other word has no outside.
        voxel_ml: mL of the patient's tissue in a voxel.
    """
    if side not in ONE_SIDED:
        return None
    elsewhere_ml = float((core & ~hemisphere(side)).sum() * voxel_ml)
    if elsewhere_ml < CONTRADICTING_CORE_ML:
        return None
    return (
        f"{elsewhere_ml:.1f} mL of the core lie outside the given side ({side}); look whether they "
        "are core or noise"
    )


def core_disagreement(native_ml: float, mni_ml: float) -> str | None:
    """A warning if the core has another size on each grid.

    Args:
        native_ml: on the DWI's own grid.
        mni_ml: on the MNI grid, of the patient's tissue.
    """
    larger = max(native_ml, mni_ml)
    if larger < CORE_OF_SIZE_ML or abs(native_ml - mni_ml) <= CORE_AGREEMENT * larger:
        return None
    return (
        f"core is {native_ml:.1f} mL on the DWI's own grid and {mni_ml:.1f} mL on the MNI grid, "
        f"more than {CORE_AGREEMENT:.0%} apart; look at the picture"
    )


def uncounted_low_adc(native: NativePatient, core_ml: float) -> str | None:
    """A warning if much tissue has a core's ADC and is not counted as core.

    Args:
        native: the patient's images on the DWI's grid.
        core_ml: what is counted.
    """
    low = native.brain & (native.adc.data > 0) & (native.adc.data <= ADC_CORE_UM2_PER_S)
    rest_ml = float(low.sum() * native.dwi.voxel_ml) - core_ml
    if rest_ml < UNCOUNTED_ML:
        return None
    return (
        f"{rest_ml:.0f} mL of the brain have an ADC of at most {ADC_CORE_UM2_PER_S:.0f}e-6 mm2/s "
        "and were not counted as core, not bright enough on DWI or scattered: look at DWI and ADC "
        "before the core is believed"
    )


def _mostly_opposite(
    mask: NDArray[np.bool_], side: str, voxel_ml: float, least_ml: float
) -> tuple[str, float, float] | None:
    """The other side, and mL in the given and in the other half, if the other one has far more."""
    if side not in ONE_SIDED:
        return None
    other = mirrored_side(side)
    given_ml, other_ml = (float((mask & hemisphere(s)).sum() * voxel_ml) for s in (side, other))
    return (other, given_ml, other_ml) if other_ml >= max(least_ml, 2 * given_ml) else None
