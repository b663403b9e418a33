"""What an answer about volumes holds, whoever computes it: figures and decision.

``xp`` is what it is computed with, as in :mod:`request_checks`.
"""

from typing import Any

import numpy as np

from data_tools import criteria
from tf_hypoperfusion.config import PROBABILITY_THRESHOLD
from tf_hypoperfusion.serving.request_checks import Array, Arrays

FIGURES = {
    "hypoperfusion_ml": "float32",
    "core_ml": "float32",
    "mismatch_ml": "float32",
    "mismatch_ratio": "float32",
    "ratio_met": "bool",
    "difference_met": "bool",
    "core_met": "bool",
    "target_mismatch": "bool",
}
PNG_STEPS = 65535.0
# voxel_ml comes as float32, so a volume of exactly 15 mL may miss it by a few 1e-7 of itself.
HAIR = 1e-6


def decide(xp: Arrays, *, hypoperfusion_ml: Array, core_ml: Array) -> dict[str, Array]:
    """:data:`FIGURES`, with DEFUSE 3 as :func:`data_tools.criteria.defuse3`; float64 mL."""
    rules = criteria.DEFUSE3
    hair = HAIR * (hypoperfusion_ml + core_ml)
    some = hypoperfusion_ml > 0
    ratio = xp.where(core_ml > 0, xp.divide(hypoperfusion_ml, core_ml), np.inf)
    ratio_met = some & (hypoperfusion_ml >= rules.min_ratio * core_ml - hair)
    difference_met = hypoperfusion_ml - core_ml >= rules.min_difference_ml - hair
    core_met = core_ml <= rules.max_core_ml + hair
    capped = xp.minimum(ratio, criteria.MISMATCH_RATIO_CAP)
    return {
        "hypoperfusion_ml": hypoperfusion_ml,
        "core_ml": core_ml,
        "mismatch_ml": hypoperfusion_ml - core_ml,
        "mismatch_ratio": xp.where(some, capped, 0.0),
        "ratio_met": ratio_met,
        "difference_met": difference_met,
        "core_met": core_met,
        "target_mismatch": ratio_met & difference_met & core_met,
    }


def before_rounding(xp: Arrays, probability: Array) -> Any:
    """Probabilities that may be rounded to levels: just under 0.5 must not become 0.5."""
    below = np.nextafter(np.float32(PROBABILITY_THRESHOLD), np.float32(0))
    below = np.float32(below - np.float32(0.5 / PNG_STEPS))
    under = (probability < PROBABILITY_THRESHOLD) & (probability > below)
    return xp.where(under, below, probability)
