"""What an answer about volumes holds, whoever computes it: calibration, figures and decision.

``xp`` is what it is computed with, as in :mod:`request_checks`.
"""

from collections.abc import Mapping

import numpy as np

from data_tools import criteria
from tf_hypoperfusion.config import PROBABILITY_THRESHOLD
from tf_hypoperfusion.inference.calibration import CLIP, Calibration
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
}
# Of a model that answers with a core: a volume beside ``probability``, and figures.
CORE_PROBABILITY = "core_probability"
OF_CORE = {"core_rule_ml": "float32", "core_learnt_ml": "float32"}
# Yes, no or unsure: where the model is calibrated, or answers where no core can be known.
ANSWER = {"answer": "string"}
WORDS = ("no", "unsure", "yes")
PNG_STEPS = 65535.0
# voxel_ml comes as float32, so a volume of exactly 15 mL may miss it by a few 1e-7 of itself.
HAIR = 1e-6


def figures_of(
    by: Calibration | None, *, core: bool = False, answers_without: bool = False
) -> dict[str, str]:
    """Names and types of the figures that a model gives.

    Args:
        by: how its probabilities are calibrated.
        core: whether it answers with a core.
        answers_without: it answers without a DWI or an ADC map too.
    """
    answer = ANSWER if by or answers_without else {}
    return FIGURES | (OF_CALIBRATION if by else {}) | answer | (OF_CORE if core else {})


def threshold(by: Calibration | None) -> float:
    """The probability from which on a voxel counts.

    Args:
        by: how it is calibrated.
    """
    return by.cut if by else PROBABILITY_THRESHOLD


def calibrated(xp: Arrays, average: Array, by: Calibration | None) -> Array:
    """As :meth:`Calibration.probability`; 0 stays 0.

    Args:
        xp: what it is computed with.
        average: of the networks, float32.
        by: None leaves it as it is.
    """
    if by is None:
        return average
    clipped = xp.clip(xp.cast(average, "float64"), CLIP, 1 - CLIP)
    logit = xp.log(clipped / (1 - clipped))
    moved = xp.cast(xp.sigmoid(by.slope * logit + by.intercept), "float32")
    return xp.where(average > 0, moved, 0.0)


def figures(
    xp: Arrays, *, hypoperfusion_ml: Array, core_ml: Mapping[str, Array],
    core_by: str | None = None, by: Calibration | None, answers_without: bool = False,
) -> dict[str, Array]:  # fmt: skip
    """All of :func:`figures_of`; what needs the core is NaN or False where none is known.

    Args:
        xp: what they are computed with.
        hypoperfusion_ml: of the mask, float64.
        core_ml: by the ``rule``, NaN where it is not known, and perhaps ``learnt``; likewise.
        core_by: whose core decides, where it is known; None without a learnt one.
        by: how the mask's probabilities are calibrated.
        answers_without: as in :func:`figures_of`.
    """
    # The rule needs both images. So does a calibration, which was made with patients who have both.
    both_given = xp.isfinite(core_ml["rule"])
    deciding_ml = core_ml[core_by or "rule"]
    if "learnt" in core_ml:
        deciding_ml = xp.where(xp.isfinite(deciding_ml), deciding_ml, core_ml["learnt"])
    volumes = {"hypoperfusion_ml": hypoperfusion_ml, "core_ml": deciding_ml}
    found = decide(xp, **volumes)
    if by:
        found |= _interval(xp, by, both_given, **volumes)
    elif answers_without:
        met = 2 * xp.cast(found["target_mismatch"], "int32")
        found |= {"answer": _said(xp, met, xp.isfinite(deciding_ml))}
    if core_by:
        found |= {f"core_{who}_ml": ml for who, ml in core_ml.items()}
    return found


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
        "mismatch_ratio": xp.where(xp.isfinite(core_ml), xp.where(some, capped, 0.0), np.nan),
        "ratio_met": ratio_met,
        "difference_met": difference_met,
        "core_met": core_met,
        "target_mismatch": ratio_met & difference_met & core_met,
    }


def _interval(
    xp: Arrays, by: Calibration, both_given: Array, *, hypoperfusion_ml: Array, core_ml: Array
) -> dict[str, Array]:
    """:data:`OF_CALIBRATION` and the answer, as :func:`calibration.answer`."""
    root = xp.sqrt(hypoperfusion_ml)
    low_ml, high_ml = (xp.maximum(root + bound, 0.0) ** 2 for bound in by.root_bounds)
    at_low, at_high = (
        decide(xp, hypoperfusion_ml=end, core_ml=core_ml)["target_mismatch"]
        for end in (low_ml, high_ml)
    )
    # A target mismatch at the low end is one at the high end too.
    ends_met = xp.cast(at_low, "int32") + xp.cast(at_high, "int32")
    return {
        "hypoperfusion_low_ml": low_ml,
        "hypoperfusion_high_ml": high_ml,
        "answer": _said(xp, ends_met, both_given & xp.isfinite(core_ml)),
    }


def _said(xp: Arrays, met: Array, can_tell: Array) -> Array:
    """One of :data:`WORDS`."""
    return xp.choose(WORDS, xp.cast(xp.where(can_tell, met, 1), "int32"))


def png_levels(xp: Arrays, probability: Array, cut: float) -> Array:
    """Probabilities as levels of 16 bits; no rounding moves a voxel over the mask's edge.

    Args:
        xp: what it is computed with.
        probability: float32.
        cut: from which on a voxel is in the mask.
    """
    # As the client reads them, in float32: 13107 steps are 0.2 there, although a hair under it.
    read = (np.arange(PNG_STEPS + 1) / PNG_STEPS).astype(np.float32)
    first_inside = float(np.searchsorted(read, np.float32(cut)))
    levels = xp.round(probability * np.float32(PNG_STEPS))
    inside, outside = xp.maximum(levels, first_inside), xp.minimum(levels, first_inside - 1)
    return xp.cast(xp.where(probability >= cut, inside, outside), "uint16")
