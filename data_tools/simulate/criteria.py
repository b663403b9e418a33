"""DEFUSE 3 and DAWN for a table of simulated patients, to describe the cohort with.

The project's criteria live in ``tf_hypoperfusion.clinical``, which nothing in ``data_tools`` may
import; a test holds these few lines to the same answers.
"""

import numpy as np
from numpy.typing import NDArray

MISMATCH_RATIO_CAP = 20.0


def mismatch_ratio(hypoperfusion_ml: NDArray, core_ml: NDArray) -> NDArray[np.float64]:
    """Hypoperfusion / core, at most 20; 20 where the core is 0; 0 where both are. [n]"""
    ratio = np.full(np.shape(core_ml), MISMATCH_RATIO_CAP)
    np.divide(hypoperfusion_ml, core_ml, out=ratio, where=core_ml > 0)
    return np.where(hypoperfusion_ml > 0, np.minimum(ratio, MISMATCH_RATIO_CAP), 0.0)


def target_mismatch(hypoperfusion_ml: NDArray, core_ml: NDArray) -> NDArray[np.bool_]:
    """DEFUSE 3: ratio >= 1.8, difference >= 15 mL, core <= 70 mL. bool [n]"""
    hair = 1e-9  # undoes the rounding of mL
    ratio = (hypoperfusion_ml > 0) & (hypoperfusion_ml >= 1.8 * core_ml - hair)
    return ratio & (hypoperfusion_ml - core_ml >= 15 - hair) & (core_ml <= 70 + hair)


def dawn(age: NDArray, nihss: NDArray, core_ml: NDArray) -> NDArray[np.bool_]:
    """DAWN's clinical-core mismatch; ask only where age and NIHSS are known. bool [n]"""
    old = (age >= 80) & (core_ml < 21)
    young = (age < 80) & (core_ml < 31)
    severe = (age < 80) & (nihss >= 20) & (core_ml <= 51)
    return (nihss >= 10) & (old | young | severe)
