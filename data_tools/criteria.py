"""DEFUSE 3 and DAWN, element by element: the trials' numbers and comparisons, each once.

``tf_hypoperfusion.clinical`` decides about one patient with them; the simulator describes a cohort.
Source: Yu et al., Radiology 2023;307(1):e220882, Performance Evaluation.
"""

import dataclasses

import numpy as np
from numpy.typing import ArrayLike, NDArray

# Table 1: the mismatch ratio is set to 20 where the core is 0 or the ratio larger.
MISMATCH_RATIO_CAP = 20.0
# Volumes are whole numbers of voxels; a hair of tolerance undoes the rounding of their mL.
HAIR_ML = 1e-9


@dataclasses.dataclass(frozen=True)
class Defuse3:
    """Target mismatch (Albers et al., NEJM 2018)."""

    min_ratio: float = 1.8
    min_difference_ml: float = 15.0
    max_core_ml: float = 70.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dawn:
    """Clinical-core mismatch (Nogueira et al., NEJM 2018)."""

    old_age: int = 80
    min_nihss: int = 10
    severe_nihss: int = 20
    max_core_old_ml: float = 21.0  # core below
    max_core_ml: float = 31.0  # core below
    max_core_severe_ml: float = 51.0  # core from max_core_ml up to and including


DEFUSE3 = Defuse3()
DAWN = Dawn()


def _volumes(*volumes_ml: ArrayLike) -> tuple[NDArray[np.float64], ...]:
    return tuple(np.broadcast_arrays(*(np.asarray(v, np.float64) for v in volumes_ml)))


def mismatch_ratio(hypoperfusion_ml: ArrayLike, core_ml: ArrayLike) -> NDArray[np.float64]:
    """Hypoperfusion / core, at most 20; 20 where the core is 0; 0 where both are. float64 [n]

    >>> mismatch_ratio([90, 90, 0], [45, 0, 0]).tolist()
    [2.0, 20.0, 0.0]
    """
    hypoperfusion, core = _volumes(hypoperfusion_ml, core_ml)
    ratio = np.full(core.shape, MISMATCH_RATIO_CAP)
    np.divide(hypoperfusion, core, out=ratio, where=core > 0)
    return np.where(hypoperfusion > 0, np.minimum(ratio, MISMATCH_RATIO_CAP), 0.0)


def defuse3(hypoperfusion_ml: ArrayLike, core_ml: ArrayLike) -> tuple[NDArray[np.bool_], ...]:
    """The three criteria: ratio >= 1.8, difference >= 15 mL, core <= 70 mL; each bool [n].

    The ratio is compared as hypoperfusion >= 1.8 core, so that no division decides.
    """
    hypoperfusion, core = _volumes(hypoperfusion_ml, core_ml)
    ratio_met = (hypoperfusion > 0) & (hypoperfusion >= DEFUSE3.min_ratio * core - HAIR_ML)
    difference_met = hypoperfusion - core >= DEFUSE3.min_difference_ml - HAIR_ML
    return ratio_met, difference_met, core <= DEFUSE3.max_core_ml + HAIR_ML


def target_mismatch(hypoperfusion_ml: ArrayLike, core_ml: ArrayLike) -> NDArray[np.bool_]:
    """All three criteria of DEFUSE 3; bool [n].

    >>> target_mismatch([90, 89.9], [50, 50]).tolist()
    [True, False]
    """
    return np.logical_and.reduce(defuse3(hypoperfusion_ml, core_ml))


def dawn(age: ArrayLike, nihss: ArrayLike, core_ml: ArrayLike) -> NDArray[np.bool_]:
    """DAWN's clinical-core mismatch; ask only where age and NIHSS are known. bool [n]

    Age >= 80, NIHSS >= 10, core < 21 mL; or age < 80, NIHSS >= 10, core < 31 mL; or age < 80,
    NIHSS >= 20, core 31 to 51 mL.

    >>> dawn([82, 79, 79], [12, 12, 20], [20.9, 31, 31]).tolist()
    [True, False, True]
    """
    age, nihss, core_ml = (np.asarray(values, float) for values in (age, nihss, core_ml))
    is_old = age >= DAWN.old_age
    old = is_old & (core_ml < DAWN.max_core_old_ml - HAIR_ML)
    young = ~is_old & (core_ml < DAWN.max_core_ml - HAIR_ML)
    most = DAWN.max_core_severe_ml + HAIR_ML
    severe = ~is_old & (nihss >= DAWN.severe_nihss) & (core_ml <= most)
    return (nihss >= DAWN.min_nihss) & (old | young | severe)
