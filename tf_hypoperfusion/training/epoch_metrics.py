"""Training-time figures, exact over an epoch whatever the batches, micro-batches and replicas.

A batch is reduced to weighted sums; sums are added over batches and devices; an epoch's figures
are quotients of the totals. Samples of weight 0 (an evaluation pads its last batch) count nowhere.
"""

import math

import numpy as np
from numpy.typing import NDArray

from data_tools.grid import VOXEL_ML
from tf_hypoperfusion.config import PROBABILITY_THRESHOLD
from tf_hypoperfusion.model.keras_compat import ops
from tf_hypoperfusion.training import losses

MEANS = ("composite", "cross_entropy", "dice_loss", "volume_error", "volume_error_ml")
# Of networks that answer with the core.
CORE_MEAN = "core_loss"
# Before the first batch, and after it without and with a core.
SHAPES_OF_SUMS = ((), (len(MEANS) + 3,), (len(MEANS) + 6,))
_AXES = (1, 2, 3, 4)


def batch_sums(loss: losses.CompositeLoss, terms, y_true, answers, *, weight, once=None):
    """One batch -> float32 (8,): sum of weights, weighted sums of :data:`MEANS`, overlap, total.

    With a core (11,): its loss, overlap and total besides.

    Args:
        loss: weighs the terms.
        terms: of :func:`losses.terms`, each (batch,).
        y_true: truth, coverage and core, as in :mod:`tf_hypoperfusion.training.losses`.
        answers: of the network, as :func:`losses.terms` takes them.
        weight: float32 (batch,).
        once: float32 (batch, z), the share of each slice in overlap and total; None counts the
            slices of every slab, also those that several hold.
    """
    _, true, predicted = _volumes(y_true, answers["probability"])
    weight = ops.cast(weight, "float32")
    each = [loss.combine(*terms), *terms[:3], ops.abs(predicted - true)]
    overlap, true, predicted = _volumes(y_true, answers["probability"], once)
    each += [overlap, true + predicted]
    if "core" in answers:
        overlap, true, predicted = _volumes(losses.of_core(y_true), answers["core"], once)
        each += [terms[3], overlap, true + predicted]
    return ops.stack([ops.sum(weight), *(ops.sum(weight * values) for values in each)])


def _volumes(y_true, y_pred, once=None):
    """Overlap, truth and mask of each sample, mL."""
    truth = ops.cast(y_true[..., :1], "float32")
    mask = ops.cast(y_pred >= PROBABILITY_THRESHOLD, "float32")
    counted = ops.cast(y_true[..., 1:2], "float32")
    if once is not None:
        counted *= once[:, None, None, :, None]
    each = (truth * mask, truth, mask)
    return (ops.sum(part * counted, axis=_AXES) * VOXEL_ML for part in each)


def summarise(sums: NDArray) -> dict[str, float]:
    """Total sums of an epoch -> the means, and Dice at probability 0.5 over all covered voxels.

    Dice is NaN where neither truth nor prediction holds a voxel. ``core_loss`` and ``core_dice``
    are there for networks that answer with the core.

    Raises:
        ValueError: if the samples' weights sum to 0.
    """
    values = [float(value) for value in np.asarray(sums, np.float64)]
    weight, *means = values[: len(MEANS) + 1]
    if not weight:
        raise ValueError("no sample of weight above 0")
    figures = {name: value / weight for name, value in zip(MEANS, means, strict=True)}
    overlap, total, *core = values[len(MEANS) + 1 :]
    figures["dice"] = 2 * overlap / total if total else math.nan
    if core:
        loss, overlap, total = core
        figures |= {
            CORE_MEAN: loss / weight,
            "core_dice": 2 * overlap / total if total else math.nan,
        }
    return figures
