"""The composite loss: cross entropy + Dice + volume error, per sample, inside coverage.

The paper names the three terms; weights and the form of the volume term are ours (the
predecessor's volume term counted thresholded voxels and so had no gradient).

All functions take ``y_true`` (batch, x, y, z, 3) with channels truth, coverage and core (0/1), and
``y_pred`` (batch, x, y, z, 1) probabilities; they return float32 (batch,). Voxels outside
coverage count nowhere; a sample without coverage has loss 0.
"""

import keras

from tf_hypoperfusion.model.keras_compat import ops, register

EPSILON = 1e-7
# Added to both sides of the Dice and volume quotients, in voxels: makes an empty prediction of
# an empty slab perfect (loss 0) and keeps the quotients defined. 0.008 mL, so of no weight else.
SMOOTH_VOXELS = 1.0
_AXES = (1, 2, 3, 4)


def _parts(y_true, y_pred):
    truth = ops.cast(y_true[..., :1], "float32")
    coverage = ops.cast(y_true[..., 1:2], "float32")
    return truth * coverage, ops.cast(y_pred, "float32") * coverage, coverage


@register
def cross_entropy(y_true, y_pred):
    """Binary cross entropy, mean over covered voxels: -[t ln p + (1 - t) ln(1 - p)].

    Worked: t = (1, 0), p = (0.8, 0.4), both covered: (0.2231 + 0.5108) / 2 = 0.3670.
    """
    truth, _, coverage = _parts(y_true, y_pred)
    p = ops.clip(ops.cast(y_pred, "float32"), EPSILON, 1.0 - EPSILON)
    each = -(truth * ops.log(p) + (1.0 - truth) * ops.log(1.0 - p)) * coverage
    return ops.sum(each, axis=_AXES) / ops.maximum(ops.sum(coverage, axis=_AXES), 1.0)


@register
def dice_loss(y_true, y_pred):
    """Soft Dice loss: 1 - (2 sum(t p) + 1) / (sum(t) + sum(p) + 1), sums over covered voxels.

    Worked: t = (1, 0), p = (0.8, 0.4): 1 - (1.6 + 1) / (1 + 1.2 + 1) = 0.1875.
    Empty truth and empty prediction: 1 - 1 / 1 = 0.
    """
    truth, p, _ = _parts(y_true, y_pred)
    overlap = ops.sum(truth * p, axis=_AXES)
    total = ops.sum(truth, axis=_AXES) + ops.sum(p, axis=_AXES)
    return 1.0 - (2.0 * overlap + SMOOTH_VOXELS) / (total + SMOOTH_VOXELS)


@register
def volume_error(y_true, y_pred):
    """Relative volume error: |sum(p) - sum(t)| / (sum(p) + sum(t) + 1), in 0..1.

    The volumes are sums of probabilities, so the term has a gradient; dividing by both volumes
    bounds it, also on slabs without a lesion.

    Worked: t = (1, 0), p = (0.8, 0.4): |1.2 - 1| / (1.2 + 1 + 1) = 0.0625.
    """
    truth, p, _ = _parts(y_true, y_pred)
    predicted, true = ops.sum(p, axis=_AXES), ops.sum(truth, axis=_AXES)
    return ops.abs(predicted - true) / (predicted + true + SMOOTH_VOXELS)


def terms(y_true, y_pred):
    """The three terms of each sample: cross entropy, Dice loss, volume error; float32 (batch,)."""
    return cross_entropy(y_true, y_pred), dice_loss(y_true, y_pred), volume_error(y_true, y_pred)


@register
class CompositeLoss(keras.losses.Loss):
    """Weighted sum of :func:`cross_entropy`, :func:`dice_loss` and :func:`volume_error`.

    Worked with the default weights 1, 0.5, 0.25 on t = (1, 0), p = (0.8, 0.4):
    0.3670 + 0.5 * 0.1875 + 0.25 * 0.0625 = 0.4764.

    ``call`` returns (batch,), which ``tf.distribute`` needs: a scalar would be averaged wrongly
    over replicas.
    """

    def __init__(
        self,
        bce_weight: float = 1.0,
        dice_weight: float = 0.5,
        volume_weight: float = 0.25,
        name: str = "composite",
        **options,
    ):
        super().__init__(name=name, **options)
        self.bce_weight = bce_weight
        self.dice_weight = dice_weight
        self.volume_weight = volume_weight

    def call(self, y_true, y_pred):
        """Loss of each sample, float32 (batch,)."""
        return self.combine(*terms(y_true, y_pred))

    def combine(self, cross_entropies, dice_losses, volume_errors):
        """The weighted sum of the three terms, each (batch,)."""
        return (
            self.bce_weight * cross_entropies
            + self.dice_weight * dice_losses
            + self.volume_weight * volume_errors
        )

    def get_config(self):
        """Arguments that make this loss again."""
        return super().get_config() | {
            "bce_weight": self.bce_weight,
            "dice_weight": self.dice_weight,
            "volume_weight": self.volume_weight,
        }
