"""Volumes of one patient -> DEFUSE 3 target mismatch and DAWN clinical-core mismatch.

The criteria and their numbers stand in :mod:`data_tools.criteria`.
"""

import dataclasses

from data_tools import criteria, intensity
from data_tools.grid import SIDES
from data_tools.runtime.errors import InputError


@dataclasses.dataclass(frozen=True)
class ClinicalFacts:
    """What is known of the patient besides the images.

    Attributes:
        side: of the brain lesion: left, right, bilateral or unknown.
        nihss: 0..42, or None if unknown.
        age: years, or None.
    """

    side: str
    nihss: int | None
    age: float | None = None

    def __post_init__(self) -> None:
        if self.side not in SIDES:
            raise InputError(
                f"side is {self.side!r}; expected {', '.join(SIDES)}: the side of the brain "
                "lesion, not of the weak limbs"
            )
        intensity.nihss_feature(self.nihss)
        if self.age is not None and not 0 <= self.age <= 120:
            raise InputError(f"age is {self.age:g}; expected 0 to 120 years")


@dataclasses.dataclass(frozen=True, kw_only=True)
class TargetMismatch:
    """DEFUSE 3 criteria of one patient, each with its value.

    Attributes:
        ratio: hypoperfusion / core, at most 20; 20 also where the core is 0 and some tissue is
            hypoperfused; 0 where neither is.
        difference_ml: hypoperfusion - core.
        ratio_met: ratio >= 1.8.
        difference_met: difference >= 15 mL.
        core_met: core <= 70 mL.
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
    return float(criteria.mismatch_ratio(hypoperfusion_ml, core_ml))


def defuse3(hypoperfusion_ml: float, core_ml: float) -> TargetMismatch:
    """Target mismatch: ratio >= 1.8, difference >= 15 mL and core <= 70 mL.

    Raises:
        ValueError: on a negative or undefined volume.

    >>> defuse3(90, 50).target_mismatch, defuse3(89.9, 50).target_mismatch
    (True, False)
    """
    if not (hypoperfusion_ml >= 0 and core_ml >= 0):
        raise ValueError(f"volumes are {hypoperfusion_ml} and {core_ml} mL; expected 0 or more")
    ratio_met, difference_met, core_met = map(bool, criteria.defuse3(hypoperfusion_ml, core_ml))
    return TargetMismatch(
        ratio=mismatch_ratio(hypoperfusion_ml, core_ml),
        difference_ml=hypoperfusion_ml - core_ml,
        ratio_met=ratio_met,
        difference_met=difference_met,
        core_met=core_met,
        target_mismatch=ratio_met and difference_met and core_met,
    )


def dawn(age: float | None, nihss: float | None, core_ml: float) -> bool | None:
    """Clinical-core mismatch of the DAWN trial, as in :func:`data_tools.criteria.dawn`.

    Returns:
        None if age or NIHSS is unknown: the patient cannot be classed and leaves the comparison.

    >>> dawn(82, 12, 20.9), dawn(79, 12, 31), dawn(79, 20, 31), dawn(None, 20, 3)
    (True, False, True, None)
    """
    if age is None or nihss is None:
        return None
    return bool(criteria.dawn(age, nihss, core_ml))
