"""Training-time metrics, exact over an epoch whatever the batches and replicas.

All of them honour sample weights: evaluation pads its last batch with weight 0.
"""

import keras

from data_tools.grid import VOXEL_ML
from tf_hypoperfusion import losses
from tf_hypoperfusion.config import PROBABILITY_THRESHOLD
from tf_hypoperfusion.keras_compat import ops, register


@register
class Dice(keras.metrics.Metric):
    """Dice at probability 0.5 over all covered voxels of an epoch; 0 if there is no lesion."""

    def __init__(self, name: str = "dice", **options):
        super().__init__(name=name, **options)
        self.overlap = self.add_weight(name="overlap", shape=(), initializer="zeros")
        self.total = self.add_weight(name="total", shape=(), initializer="zeros")

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Add a batch; shapes as in :mod:`tf_hypoperfusion.losses`."""
        coverage = ops.cast(y_true[..., 1:], "float32")
        truth = ops.cast(y_true[..., :1], "float32") * coverage
        mask = ops.cast(y_pred >= PROBABILITY_THRESHOLD, "float32") * coverage
        overlap = ops.sum(truth * mask, axis=(1, 2, 3, 4)) * VOXEL_ML
        total = (ops.sum(truth, axis=(1, 2, 3, 4)) + ops.sum(mask, axis=(1, 2, 3, 4))) * VOXEL_ML
        if sample_weight is not None:
            weight = ops.cast(sample_weight, "float32")
            overlap, total = overlap * weight, total * weight
        self.overlap.assign(self.overlap + ops.sum(overlap))
        self.total.assign(self.total + ops.sum(total))

    def result(self):
        """Dice so far, a scalar."""
        return 2.0 * self.overlap / ops.maximum(self.total, VOXEL_ML)


@register
def volume_error_ml(y_true, y_pred):
    """|predicted - true| volume of each slab in mL, at probability 0.5; float32 (batch,)."""
    coverage = ops.cast(y_true[..., 1:], "float32")
    truth = ops.cast(y_true[..., :1], "float32") * coverage
    mask = ops.cast(y_pred >= PROBABILITY_THRESHOLD, "float32") * coverage
    return ops.abs(ops.sum(mask - truth, axis=(1, 2, 3, 4))) * VOXEL_ML


def training_metrics(loss: losses.CompositeLoss) -> list[keras.metrics.Metric]:
    """The loss and its terms as exact weighted means, Dice, and the volume error in mL.

    ``composite`` repeats the loss because Keras's own ``val_loss`` counts the padding of the
    last batch; the best model is chosen by ``val_composite``.
    """
    mean = keras.metrics.MeanMetricWrapper
    return [
        mean(loss.call, name="composite"),
        mean(losses.cross_entropy, name="cross_entropy"),
        mean(losses.dice_loss, name="dice_loss"),
        mean(losses.volume_error, name="volume_error"),
        mean(volume_error_ml, name="volume_error_ml"),
        Dice(),
    ]
