"""Training-time figures, exact over an epoch whatever the batches, micro-batches and replicas.

A batch is reduced to weighted sums; sums are added over batches and devices; an epoch's figures
are quotients of the totals. Samples of weight 0 (an evaluation pads its last batch) count nowhere.
"""

import numpy as np
from numpy.typing import NDArray

from data_tools.grid import VOXEL_ML
from tf_hypoperfusion.config import PROBABILITY_THRESHOLD
from tf_hypoperfusion.model.keras_compat import ops
from tf_hypoperfusion.training import losses

MEANS = ("composite", "cross_entropy", "dice_loss", "volume_error", "volume_error_ml")
_AXES = (1, 2, 3, 4)


def batch_sums(loss: losses.CompositeLoss, terms, y_true, y_pred, *, weight):
    """One batch -> float32 (8,): sum of weights, weighted sums of :data:`MEANS`, overlap, total.

    Args:
        loss: weighs the terms.
        terms: of :func:`losses.terms`, each (batch,).
        y_true: truth, coverage and core, as in :mod:`tf_hypoperfusion.training.losses`.
        y_pred: probabilities, likewise.
        weight: float32 (batch,).
    """
    coverage = ops.cast(y_true[..., 1:2], "float32")
    truth = ops.cast(y_true[..., :1], "float32") * coverage
    mask = ops.cast(y_pred >= PROBABILITY_THRESHOLD, "float32") * coverage
    overlap = ops.sum(truth * mask, axis=_AXES) * VOXEL_ML
    true, predicted = ops.sum(truth, axis=_AXES) * VOXEL_ML, ops.sum(mask, axis=_AXES) * VOXEL_ML
    weight = ops.cast(weight, "float32")
    each = [loss.combine(*terms), *terms, ops.abs(predicted - true), overlap, true + predicted]
    return ops.stack([ops.sum(weight), *(ops.sum(weight * values) for values in each)])


def summarise(sums: NDArray) -> dict[str, float]:
    """Total sums of an epoch -> the means, and Dice at probability 0.5 over all covered voxels.

    Dice is 0 where neither truth nor prediction holds a voxel.

    Raises:
        ValueError: if the samples' weights sum to 0.
    """
    weight, *means, overlap, total = (float(value) for value in np.asarray(sums, np.float64))
    if not weight:
        raise ValueError("no sample of weight above 0")
    figures = {name: value / weight for name, value in zip(MEANS, means, strict=True)}
    return figures | {"dice": 2 * overlap / max(total, VOXEL_ML)}
