"""Volumes -> DEFUSE 3 target mismatch and DAWN clinical-core mismatch. Plain Python.

Criteria as the paper states them (Performance Evaluation); numbers in
:mod:`tf_hypoperfusion.config`.
"""

import dataclasses

from tf_hypoperfusion.config import DAWN, DEFUSE3, MISMATCH_RATIO_CAP


@dataclasses.dataclass(frozen=True)
class TargetMismatch:
    """DEFUSE 3 criteria of one patient, each with its value.

    Attributes:
        ratio: hypoperfusion / core, at most 20; 20 also where the core is 0 and some tissue is
            hypoperfused; 0 where neither is.
        difference_ml: hypoperfusion - core.
        ratio_met, difference_met, core_met: the three criteria.
        target_mismatch: all three.
    """

    ratio: float
    difference_ml: float
    ratio_met: bool
    difference_met: bool
    core_met: bool
    target_mismatch: bool


def mismatch_ratio(hypoperfusion_ml: float, core_ml: float) -> float:
    """Hypoperfusion / core volume, capped at 20 (paper, Table 1).

    >>> mismatch_ratio(90, 45), mismatch_ratio(90, 0), mismatch_ratio(0, 0)
    (2.0, 20.0, 0.0)
    """
    if hypoperfusion_ml <= 0:
        return 0.0
    if core_ml <= 0:
        return MISMATCH_RATIO_CAP
    return min(hypoperfusion_ml / core_ml, MISMATCH_RATIO_CAP)


def defuse3(hypoperfusion_ml: float, core_ml: float) -> TargetMismatch:
    """Target mismatch: ratio >= 1.8, difference >= 15 mL and core <= 70 mL.

    The ratio is compared as hypoperfusion >= 1.8 core, so that no division decides.

    Raises:
        ValueError: on a negative or undefined volume.

    >>> defuse3(90, 50).target_mismatch, defuse3(89.9, 50).target_mismatch
    (True, False)
    """
    if not (hypoperfusion_ml >= 0 and core_ml >= 0):
        raise ValueError(f"volumes are {hypoperfusion_ml} and {core_ml} mL; expected 0 or more")
    # Volumes are whole numbers of voxels; a hair of tolerance undoes the rounding of their mL.
    hair = 1e-9
    difference = hypoperfusion_ml - core_ml
    ratio_met = hypoperfusion_ml > 0 and hypoperfusion_ml >= DEFUSE3.min_ratio * core_ml - hair
    difference_met = difference >= DEFUSE3.min_difference_ml - hair
    core_met = core_ml <= DEFUSE3.max_core_ml + hair
    return TargetMismatch(
        mismatch_ratio(hypoperfusion_ml, core_ml),
        difference,
        ratio_met,
        difference_met,
        core_met,
        ratio_met and difference_met and core_met,
    )


def dawn(age: float | None, nihss: float | None, core_ml: float) -> bool | None:
    """Clinical-core mismatch of the DAWN trial.

    Age >= 80, NIHSS >= 10, core < 21 mL; or age < 80, NIHSS >= 10, core < 31 mL; or age < 80,
    NIHSS >= 20, core 31 to 51 mL.

    Returns:
        None if age or NIHSS is unknown: the patient cannot be classed and leaves the comparison.

    >>> dawn(82, 12, 20.9), dawn(79, 12, 31), dawn(79, 20, 31), dawn(None, 20, 3)
    (True, False, True, None)
    """
    if age is None or nihss is None:
        return None
    if nihss < DAWN.min_nihss:
        return False
    if age >= DAWN.old_age:
        return core_ml < DAWN.max_core_old_ml
    if core_ml < DAWN.max_core_ml:
        return True
    return nihss >= DAWN.severe_nihss and core_ml <= DAWN.max_core_severe_ml
