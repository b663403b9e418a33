"""Per-patient Dice, AUC, distances and volumes, and counts from which any threshold follows.

Paper, Performance Evaluation: AUC in the stroke hemisphere (whole brain if bilateral, or if the
side is unknown); Dice and volumes at probability 0.5; patients without a lesion leave Dice and AUC
and stay in the volumes.
Only voxels with both diffusion and perfusion (coverage) count. No TensorFlow.
"""

import dataclasses

import numpy as np
from numpy.typing import NDArray

from data_tools.grid import VOXEL_MM, hemisphere
from tf_hypoperfusion.config import CORE_THRESHOLD, PROBABILITY_THRESHOLD, SURFACE_TOLERANCE_MM

# Thresholds 0.000, 0.001 ... 1.000: k / STEPS is bin k, so 0.5 is exact.
STEPS = 1000
PAPER_STEP = round(PROBABILITY_THRESHOLD * STEPS)


def dice(prediction: NDArray[np.bool_], *, truth: NDArray[np.bool_]) -> float | None:
    """2 |P and T| / (|P| + |T|); None if the truth is empty.

    >>> dice(np.array([True, True]), truth=np.array([True, False]))
    0.6666666666666666
    """
    if not truth.any():
        return None
    return float(2.0 * (prediction & truth).sum() / (prediction.sum() + truth.sum()))


def auc(
    probability: NDArray, *, truth: NDArray[np.bool_], region: NDArray[np.bool_]
) -> float | None:
    """Area under the ROC curve of the voxels in ``region``; None unless both classes are there."""
    inside = truth[region]
    if not inside.any() or inside.all():
        return None
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(inside, probability[region]))


def surface_figures(
    prediction: NDArray[np.bool_], *, truth: NDArray[np.bool_]
) -> tuple[float | None, float | None]:
    """95th percentile Hausdorff distance, and surface Dice, between two masks on the MNI grid.

    By area of surface elements (Nikolov et al., arXiv:1809.04430; package surface-distance).
    Distances are mm of the template's brain, which is larger than most patients'.

    Returns:
        ``hd95_mm``: None if either mask is empty. ``surface_dice``: the share of both surfaces
        within ``SURFACE_TOLERANCE_MM`` of the other; None if the truth is empty, 0 if the
        prediction is.
    """
    if not truth.any():
        return None, None
    if not prediction.any():
        return None, 0.0
    import surface_distance

    distances = surface_distance.compute_surface_distances(truth, prediction, (VOXEL_MM,) * 3)
    return (
        float(surface_distance.compute_robust_hausdorff(distances, 95)),
        float(surface_distance.compute_surface_dice_at_tolerance(distances, SURFACE_TOLERANCE_MM)),
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class PatientMetrics:
    """Segmentation figures of one patient at the paper's threshold; None where undefined.

    Attributes:
        dice: None without a lesion.
        auc: in the stroke hemisphere; None without a lesion there.
        precision: None without a lesion or without a prediction.
        recall: None without a lesion.
        hd95_mm: None without a lesion or without a prediction.
        surface_dice: None without a lesion.
        truth_ml: volume of the truth.
        predicted_ml: volume of the prediction.
        volume_difference_ml: predicted - truth.
    """

    dice: float | None
    auc: float | None
    precision: float | None
    recall: float | None
    hd95_mm: float | None
    surface_dice: float | None
    truth_ml: float
    predicted_ml: float
    volume_difference_ml: float


def patient_metrics(
    probability: NDArray[np.float32],
    *,
    truth: NDArray[np.bool_],
    coverage: NDArray[np.bool_],
    side: str,
    voxel_ml: float,
) -> PatientMetrics:
    """Segmentation figures of one patient.

    Args:
        probability: (91, 109, 60).
        truth: of the same shape.
        coverage: of the same shape; only what is inside counts.
        side: of the lesion: left, right, bilateral or unknown.
        voxel_ml: mL of the patient's tissue in a voxel of the MNI grid.
    """
    truth = truth & coverage
    prediction = (probability >= PROBABILITY_THRESHOLD) & coverage
    predicted_ml, truth_ml = float(prediction.sum() * voxel_ml), float(truth.sum() * voxel_ml)
    common, lesion = int((prediction & truth).sum()), bool(truth.any())
    hd95_mm, surface_dice = surface_figures(prediction, truth=truth)
    return PatientMetrics(
        dice=dice(prediction, truth=truth),
        auc=auc(probability, truth=truth, region=coverage & hemisphere(side)),
        precision=common / int(prediction.sum()) if lesion and prediction.any() else None,
        recall=common / int(truth.sum()) if lesion else None,
        hd95_mm=hd95_mm,
        surface_dice=surface_dice,
        truth_ml=truth_ml,
        predicted_ml=predicted_ml,
        volume_difference_ml=predicted_ml - truth_ml,
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class CoreFigures:
    """A core by the networks, beside the true one; voxels outside coverage do not count.

    Attributes:
        core_dice: of truth and the networks' core; None without a true core.
        core_rule_dice: of truth and the rule's core; likewise.
        core_learnt_ml: volume by the networks.
        core_truth_ml: true volume.
    """

    core_dice: float | None
    core_rule_dice: float | None
    core_learnt_ml: float
    core_truth_ml: float


def core_figures(
    probability: NDArray[np.float32],
    *,
    truth: NDArray[np.bool_],
    by_rule: NDArray[np.bool_],
    coverage: NDArray[np.bool_],
    voxel_ml: float,
) -> CoreFigures:
    """Figures of a patient's core.

    Args:
        probability: of core, (91, 109, 60).
        truth: of the same shape.
        by_rule: of the same shape.
        coverage: of the same shape.
        voxel_ml: mL of the patient's tissue in a voxel of the MNI grid.
    """
    learnt, truth, by_rule = (
        mask & coverage for mask in (probability >= CORE_THRESHOLD, truth, by_rule)
    )
    return CoreFigures(
        core_dice=dice(learnt, truth=truth),
        core_rule_dice=dice(by_rule, truth=truth),
        core_learnt_ml=float(learnt.sum() * voxel_ml),
        core_truth_ml=float(truth.sum() * voxel_ml),
    )


@dataclasses.dataclass(frozen=True)
class ThresholdCounts:
    """How many voxels of a patient have which probability, within and outside the lesion.

    Every figure at every threshold of k / 1000 follows exactly, without the volumes.

    Attributes:
        covered: int (2, 1001): voxels of the coverage by truth (0, 1) and floor(1000 probability).
        hemisphere: the same of the coverage's voxels in the stroke's hemisphere.
        voxel_ml: mL of a voxel.
    """

    covered: NDArray[np.int64]
    hemisphere: NDArray[np.int64]
    voxel_ml: float

    def volume_ml(self) -> NDArray[np.float64]:
        """Predicted volume at each threshold: (1001,)."""
        return _from_threshold(self.covered.sum(axis=0)) * self.voxel_ml

    def dice(self) -> NDArray[np.float64] | None:
        """Dice at each threshold: (1001,); None without a lesion."""
        if not self.covered[1].any():
            return None
        true_positive, false_positive = map(_from_threshold, self.covered[::-1])
        return 2 * true_positive / (true_positive + false_positive + self.covered[1].sum())

    def roc(self) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
        """False and true positive rate at each threshold, in the hemisphere; None if undefined."""
        if not self.hemisphere.any(axis=1).all():
            return None
        negative, positive = self.hemisphere
        return (
            _from_threshold(negative) / negative.sum(),
            _from_threshold(positive) / positive.sum(),
        )

    def precision_recall(self) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
        """Precision (1 where nothing is predicted) and recall, in the hemisphere."""
        if not self.hemisphere[1].any():
            return None
        negative, positive = map(_from_threshold, self.hemisphere)
        called = negative + positive
        precision = np.divide(positive, called, out=np.ones(len(called)), where=called > 0)
        return precision, positive / self.hemisphere[1].sum()


def threshold_counts(
    probability: NDArray[np.float32],
    *,
    truth: NDArray[np.bool_],
    coverage: NDArray[np.bool_],
    side: str,
    voxel_ml: float,
) -> ThresholdCounts:
    """Count a patient's voxels; arguments as in :func:`patient_metrics`."""
    bins = np.floor(probability.astype(np.float64) * STEPS).astype(np.int64)

    def count(region: NDArray[np.bool_]) -> NDArray[np.int64]:
        return np.stack(
            [np.bincount(bins[region & (truth == t)], minlength=STEPS + 1) for t in (False, True)]
        )

    return ThresholdCounts(count(coverage), count(coverage & hemisphere(side)), voxel_ml)


def _from_threshold(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.cumsum(counts[::-1])[::-1].astype(np.float64)
