"""What would change at another probability threshold than the paper's 0.5. No TensorFlow."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from data_tools import criteria
from tf_hypoperfusion import clinical
from tf_hypoperfusion.config import PROBABILITY_THRESHOLD
from tf_hypoperfusion.evaluation.patient_metrics import PAPER_STEP, STEPS, ThresholdCounts

# 0 would call the whole brain hypoperfused.
LOWEST, HIGHEST = 0.05, 0.95


def choose(counts: Sequence[ThresholdCounts]) -> float:
    """The threshold of the highest mean Dice over patients with a lesion.

    For validation patients only: chosen on test patients, it would flatter the result.

    Returns:
        0.05 to 0.95, the one nearest to 0.5 if several are as good; 0.5 without such patients.
    """
    curves = [curve for count in counts if (curve := count.dice()) is not None]
    if not curves:
        return PROBABILITY_THRESHOLD
    mean = np.mean(curves, axis=0)
    bins = np.arange(round(LOWEST * STEPS), round(HIGHEST * STEPS) + 1)
    best = bins[mean[bins] >= mean[bins].max() - 1e-12]
    nearest = best[np.argmin(np.abs(best - PAPER_STEP))]
    return float(nearest) / STEPS


@dataclasses.dataclass(frozen=True, kw_only=True)
class FiguresAtThreshold:
    """A patient's figures at a threshold.

    Attributes:
        threshold: k / 1000.
        dice: None without a lesion.
        predicted_ml: volume of the prediction.
        target_mismatch: DEFUSE 3 on that volume.
    """

    threshold: float
    dice: float | None
    predicted_ml: float
    target_mismatch: bool


def at(count: ThresholdCounts, threshold: float, core_ml: float) -> FiguresAtThreshold:
    """A patient's figures at a threshold of k / 1000."""
    k = round(threshold * STEPS)
    dice, volume_ml = count.dice(), float(count.volume_ml()[k])
    return FiguresAtThreshold(
        threshold=threshold,
        dice=None if dice is None else float(dice[k]),
        predicted_ml=volume_ml,
        target_mismatch=clinical.defuse3(volume_ml, core_ml).target_mismatch,
    )


def target_mismatch(
    counts: Sequence[ThresholdCounts], core_ml: NDArray[np.float64], bins: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Decision of each patient at each threshold: bool (patients, thresholds)."""
    volumes = np.array([count.volume_ml()[bins] for count in counts])
    return criteria.target_mismatch(volumes, np.asarray(core_ml)[:, np.newaxis])
