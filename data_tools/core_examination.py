"""One patient's core on both grids, and every warning that the core and the side call for.

Training data (``preprocess``) and a new patient (``predict``) are examined by this one function.
Where the core comes from is :func:`known_core`'s to say, or its caller's who has another one.
"""

import dataclasses

import numpy as np
from numpy.typing import NDArray

from data_tools.criteria import DEFUSE3
from data_tools.file_names import EDITED_MASKS, TRUTH_MASK
from data_tools.grid import (
    ADC_CORE_UM2_PER_S,
    ONE_SIDED,
    TMAX_HYPOPERFUSION_S,
    hemisphere,
    mirrored_side,
)
from data_tools.labels import hypoperfusion_mask
from data_tools.patient import MniPatient, NativePatient, core_of, core_on_grid
from data_tools.runtime.errors import InputError

# A side is called contradicted when the other half holds at least this core, and twice as much.
CONTRADICTING_CORE_ML = 1.0
# Tmax is noisy: as much delay as DEFUSE 3 calls a mismatch.
CONTRADICTING_DELAY_ML = DEFUSE3.min_difference_ml
# Core on the MNI grid and on the patient's own: less than this apart, where it has any size.
CORE_AGREEMENT, CORE_OF_SIZE_ML = 0.25, 5.0
# As much as DEFUSE 3 allows a core. Noise and normal white matter had 35 and 55 mL in two patients.
UNCOUNTED_ML = DEFUSE3.max_core_ml
BY_RULE = "rule"
# With which every alarm begins.
CHECK_THE_SIDE = "CHECK THE SIDE"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Core:
    """A patient's core.

    Attributes:
        native: bool, shape of the DWI.
        mni: bool (91, 109, 60).
        native_ml: mL on the DWI's grid; the figure that counts.
        mni_ml: mL of the patient's tissue, counted on the MNI grid.
        by: whence it comes, in a word.
    """

    native: NDArray[np.bool_]
    mni: NDArray[np.bool_]
    native_ml: float
    mni_ml: float
    by: str = BY_RULE


@dataclasses.dataclass(frozen=True, kw_only=True)
class CoreFindings:
    """A patient's core, and what a person should look at.

    Attributes:
        core: None where nobody knows it.
        delayed: bool (91, 109, 60), Tmax of 6 s and more; None without a Tmax image.
        alarms: the side contradicts the images; shown above everything.
        warnings: all others.
    """

    core: Core | None
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
        core = self.core and dataclasses.replace(self.core, mni=self.core.mni & half)
        return dataclasses.replace(self, core=core, delayed=delayed)

    @property
    def known(self) -> Core:
        """The core.

        Raises:
            InputError: nobody knows it.
        """
        if self.core is None:
            raise InputError("no core is known; expected a DWI and an ADC map to find it in")
        return self.core

    @property
    def native(self) -> NDArray[np.bool_] | None:
        """Bool, shape of the DWI; None if unknown."""
        return None if self.core is None else self.core.native

    @property
    def mni(self) -> NDArray[np.bool_] | None:
        """Bool (91, 109, 60); None if unknown."""
        return None if self.core is None else self.core.mni

    @property
    def native_ml(self) -> float | None:
        """mL on the DWI's grid; the figure that counts; None if unknown."""
        return None if self.core is None else self.core.native_ml

    @property
    def mni_ml(self) -> float | None:
        """mL of the patient's tissue, counted on the MNI grid; None if unknown."""
        return None if self.core is None else self.core.mni_ml


def core_from(
    native: NativePatient,
    mni: MniPatient,
    masks: tuple[NDArray[np.bool_], NDArray[np.bool_]],
    by: str,
) -> Core:
    """A core with its volumes.

    Args:
        native: the patient's images on the DWI's grid.
        mni: the same patient on the MNI grid.
        masks: of the core on both grids, the DWI's first.
        by: whence it comes.
    """
    return Core(
        native=masks[0],
        mni=masks[1],
        native_ml=float(masks[0].sum() * native.dwi.voxel_ml),
        mni_ml=float(masks[1].sum() * mni.voxel_ml),
        by=by,
    )


def known_core(native: NativePatient, mni: MniPatient) -> Core | None:
    """The core by the rule of ADC and DWI; None where one of these images is missing.

    Args:
        native: the patient's images on the DWI's grid.
        mni: the same patient on the MNI grid.
    """
    if native.missing:
        return None
    return core_from(native, mni, (core_of(native), core_on_grid(mni)), BY_RULE)


def examine_core(
    native: NativePatient,
    mni: MniPatient,
    side: str,
    *,
    side_found: bool = False,
    core: Core | None = None,
) -> CoreFindings:
    """Find the core on both grids and compare it with the side.

    Args:
        native: the patient's images on the DWI's grid.
        mni: the same patient on the MNI grid.
        side: of the brain lesion: left, right, bilateral or unknown.
        side_found: nobody gave the side; it was found from the predicted hypoperfusion.
        core: one that is known already; None looks for it.
    """
    core = core or known_core(native, mni)
    delayed = None
    if mni.tmax_s is not None:
        delayed = hypoperfusion_mask(
            mni.tmax_s,
            adc_um2_per_s=mni.adc_um2_per_s,
            coverage=mni.coverage,
            voxel_ml=mni.voxel_ml,
            threshold_s=mni.tmax_threshold_s,
        )
    alarms = [
        None
        if delayed is None
        else tmax_contradiction(delayed, side, mni.voxel_ml, mni.tmax_threshold_s, found=side_found)
    ]
    warnings: list[str | None] = []
    if core is not None:
        where = core.mni, side, mni.voxel_ml
        contradiction = side_contradiction(*where, found=side_found)
        alarms.insert(0, contradiction)
        by_rule = core.by == BY_RULE
        warnings = [
            None if contradiction else core_elsewhere(*where, found=side_found),
            core_disagreement(core.native_ml, core.mni_ml),
            uncounted_low_adc(native, core.native_ml) if by_rule else None,
            core_outside_truth(mni, core.mni),
        ]
    return CoreFindings(
        core=core,
        delayed=delayed,
        alarms=tuple(text for text in alarms if text),
        warnings=tuple(text for text in warnings if text),
    )


def side_contradiction(
    core: NDArray[np.bool_], side: str, voxel_ml: float, *, found: bool = False
) -> str | None:
    """A warning if the core lies mostly in the half that is not the stroke's side, else None.

    Args:
        core: bool (91, 109, 60), RAS+ (index 0 is left).
        side: left or right; any other word is never contradicted.
        voxel_ml: mL of the patient's tissue in a voxel.
        found: the side was found from the predicted hypoperfusion, not given.
    """
    opposite = _mostly_opposite(core, side, voxel_ml, CONTRADICTING_CORE_ML)
    if opposite is None:
        return None
    other, given_ml, other_ml = opposite
    lie = (
        f"{other_ml:.1f} mL of core lie in the {other} half of the brain and {given_ml:.1f} mL in "
        f"the {side} half."
    )
    if found:
        return f"{CHECK_THE_SIDE}: most of the predicted hypoperfusion is on the {side}, but {lie}"
    return (
        f"{CHECK_THE_SIDE}: side was given as {side}, but {lie} Side means the side of the brain "
        "lesion, not of the weak limbs."
    )


def tmax_contradiction(
    delayed: NDArray[np.bool_],
    side: str,
    voxel_ml: float,
    threshold_s: float = TMAX_HYPOPERFUSION_S,
    *,
    found: bool = False,
) -> str | None:
    """A warning if the delayed tissue lies mostly in the half that is not the given side.

    Args:
        delayed: bool (91, 109, 60), of :func:`data_tools.labels.hypoperfusion_mask`.
        side: as in :func:`side_contradiction`.
        voxel_ml: mL of the patient's tissue in a voxel.
        threshold_s: by which it was found.
        found: as in :func:`side_contradiction`.
    """
    opposite = _mostly_opposite(delayed, side, voxel_ml, CONTRADICTING_DELAY_ML)
    if opposite is None:
        return None
    other, given_ml, other_ml = opposite
    said = f"side was given as {side}"
    if found:
        said = f"most of the predicted hypoperfusion is on the {side}"
    return (
        f"{CHECK_THE_SIDE}: {said}, but Tmax is {threshold_s:g} s and "
        f"more in {other_ml:.0f} mL of the {other} half of the brain and in {given_ml:.0f} mL of "
        f"the {side} half. Is the side right, and is the Tmax image mirrored against its header?"
    )


def core_elsewhere(
    core: NDArray[np.bool_], side: str, voxel_ml: float, *, found: bool = False
) -> str | None:
    """A warning if some of the core, though not most of it, lies outside the stroke's side.

    Args:
        core: bool (91, 109, 60), RAS+.
        side: left or right; any other word has no outside.
        voxel_ml: mL of the patient's tissue in a voxel.
        found: the side was found from the predicted hypoperfusion, not given.
    """
    if side not in ONE_SIDED:
        return None
    elsewhere_ml = float((core & ~hemisphere(side)).sum() * voxel_ml)
    if elsewhere_ml < CONTRADICTING_CORE_ML:
        return None
    return (
        f"{elsewhere_ml:.1f} mL of the core lie outside the {'found' if found else 'given'} side "
        f"({side}); look whether they are core or noise"
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


def core_outside_truth(mni: MniPatient, core: NDArray[np.bool_]) -> str | None:
    """A warning if a mask that is the whole truth leaves core out.

    Args:
        mni: with that mask, or without.
        core: bool (91, 109, 60).
    """
    if mni.truth is None or not mni.truth_is_whole:
        return None
    missed_ml = np.count_nonzero(core & mni.coverage & ~mni.truth) * mni.voxel_ml
    if missed_ml < CORE_OF_SIZE_ML:
        return None
    return (
        f"{TRUTH_MASK} leaves out {missed_ml:.1f} mL of the core, so that tissue does not count as "
        f"at risk. To have the core added, name the mask {EDITED_MASKS[0]}"
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
