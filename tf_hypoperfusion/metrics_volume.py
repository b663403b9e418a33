"""Per-patient Dice, AUC and volumes. numpy and scikit-learn only.

Paper, Performance Evaluation: AUC in the stroke hemisphere (whole brain if bilateral); Dice and
volumes at probability 0.5; patients without a lesion leave Dice and AUC and stay in the volumes.
Only voxels with both diffusion and perfusion (coverage) count.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_tools.grid import hemisphere
from tf_hypoperfusion.config import PROBABILITY_THRESHOLD


def dice(prediction: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float | None:
    """2 |P and T| / (|P| + |T|); None if the truth is empty.

    >>> dice(np.array([True, True]), np.array([True, False]))
    0.6666666666666666
    """
    if not truth.any():
        return None
    return float(2.0 * (prediction & truth).sum() / (prediction.sum() + truth.sum()))


def auc(probability: NDArray, truth: NDArray[np.bool_], region: NDArray[np.bool_]) -> float | None:
    """Area under the ROC curve of the voxels in ``region``; None unless both classes are there."""
    inside = truth[region]
    if not inside.any() or inside.all():
        return None
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(inside, probability[region]))


def patient_metrics(
    probability: NDArray[np.float32],
    truth: NDArray[np.bool_],
    coverage: NDArray[np.bool_],
    side: str,
    voxel_ml: float,
) -> dict[str, Any]:
    """Segmentation figures of one patient.

    Args:
        probability, truth, coverage: (91, 109, 60).
        side: left, right or bilateral.
        voxel_ml: mL of the patient's tissue in a voxel of the MNI grid.

    Returns:
        ``dice``, ``auc`` (None without a lesion), ``truth_ml``, ``predicted_ml``,
        ``volume_difference_ml`` (predicted - truth).
    """
    truth = truth & coverage
    prediction = (probability >= PROBABILITY_THRESHOLD) & coverage
    predicted_ml, truth_ml = float(prediction.sum() * voxel_ml), float(truth.sum() * voxel_ml)
    return {
        "dice": dice(prediction, truth),
        "auc": auc(probability, truth, coverage & hemisphere(side)),
        "truth_ml": truth_ml,
        "predicted_ml": predicted_ml,
        "volume_difference_ml": predicted_ml - truth_ml,
    }
