"""What an answer about volumes holds, whoever computes it: figures and decision.

``xp`` is what it is computed with, as in :mod:`request_checks`.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from data_tools import criteria
from tf_hypoperfusion.config import PROBABILITY_THRESHOLD
from tf_hypoperfusion.inference.calibration import Calibration
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
# What a calibrated model says besides; reasons are the client's to give.
OF_CALIBRATION = {
    "hypoperfusion_low_ml": "float32",
    "hypoperfusion_high_ml": "float32",
    "answer": "string",
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


def interval(xp: Arrays, by: Calibration, figures: Mapping[str, Array]) -> dict[str, Array]:
    """:data:`OF_CALIBRATION`, as :func:`tf_hypoperfusion.inference.calibration.answer`.

    Args:
        xp: what it is computed with.
        by: of the networks that answered.
        figures: of :func:`decide`.
    """
    low_ml, high_ml = (
        xp.maximum(xp.sqrt(figures["hypoperfusion_ml"]) + bound, 0.0) ** 2
        for bound in by.root_bounds
    )
    at_low, at_high = (
        decide(xp, hypoperfusion_ml=end, core_ml=figures["core_ml"])["target_mismatch"]
        for end in (low_ml, high_ml)
    )
    said = xp.where(at_low, "yes", xp.where(at_high, "unsure", "no"))
    return {"hypoperfusion_low_ml": low_ml, "hypoperfusion_high_ml": high_ml, "answer": said}


def threshold(by: Calibration | None) -> float:
    """From which probability on a voxel counts as hypoperfused."""
    return by.cut if by else PROBABILITY_THRESHOLD


def levels(xp: Arrays, probability: Array, threshold: float) -> Any:
    """Probabilities in whole steps; no rounding moves a voxel over the edge of the mask."""
    first_inside = np.float32(np.ceil(float(np.float32(threshold)) * PNG_STEPS))
    rounded = xp.round(probability * np.float32(PNG_STEPS))
    inside, outside = xp.maximum(rounded, first_inside), xp.minimum(rounded, first_inside - 1)
    return xp.where(probability >= threshold, inside, outside)
