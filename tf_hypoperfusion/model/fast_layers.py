"""Layers that compute in place of stock ones: the same weights and results, but faster, or more
exact in 16 bits. Files of models hold the stock layers.

**Normalisation** (in training, and at test time). Keras normalises a volume in float32, in a dozen
operations that each go through all of the memory; TensorFlow has one operation for it, which takes
pictures only. A volume is a picture of longer rows to it. On a CPU that operation sums up a million
voxels one by one in float32, and its variance is off by 0.1% with 4 slabs and up to 1.7% with 16
(measured with TensorFlow 2.21). There the moments are summed here, row by row; given them, the
operation's answer and gradient are exact to 3e-5.

**Bias** (in training). TensorFlow adds it with ``BiasAdd``, whose gradient on a CPU is summed up
*in* 16 bits: over the 800,000 voxels of four slabs the sum gets stuck at a thirtieth of its value
(measured with TensorFlow 2.21: 2144 for 67314). A plain addition has the same result and sums its
gradient in float32.
"""

from typing import Any

import tensorflow as tf
from keras import layers

from tf_hypoperfusion.model.keras_compat import ops, register

# A CPU computes the operation fast in 16 bits for channels in blocks of so many; else in float32.
FAST_CHANNELS_16_BIT = 16


@register
class FusedBatchNormalization(layers.BatchNormalization):
    """``keras.layers.BatchNormalization`` of volumes (batch, x, y, z, channels), in one operation.

    The moving variance is of the values, not of a sample of them, as in Keras 3's stock layer.

    Attributes:
        keeps_moments: normalise by the moving moments in training too, and leave them.
    """

    keeps_moments = False

    def call(self, inputs, training=None, mask=None):
        """The stock layer: by the batch's own moments in training, else by the moving ones."""
        return self.normalised(inputs, self.gamma, self.beta, training)

    def normalised(self, inputs, gamma, beta, training):
        """The same with another scale and shift."""
        training = training and not self.keeps_moments
        shape, channels = tf.shape(inputs), inputs.shape[-1]
        rows = tf.reshape(inputs, (shape[0], -1, shape[3], channels))
        if channels % FAST_CHANNELS_16_BIT:
            rows = tf.cast(rows, tf.float32)
        moving = (self.moving_mean, self.moving_variance)
        gamma, beta = tf.convert_to_tensor(gamma), tf.convert_to_tensor(beta)
        if training and on_cpu():
            moments = _moments(tf.reshape(tf.cast(rows, tf.float32), shape))
            outputs = _by_moments(rows, (gamma, beta), moments, self.epsilon)
        else:
            outputs, *moments = tf.compat.v1.nn.fused_batch_norm(
                rows,
                gamma,
                beta,
                *(() if training else map(tf.convert_to_tensor, moving)),
                epsilon=self.epsilon,
                is_training=bool(training),
            )
            count = tf.cast(tf.reduce_prod(shape[:-1]), tf.float32)
            moments[1] *= (count - 1) / count
        if training:
            for old, new in zip(moving, moments, strict=True):
                old.assign(old * self.momentum + new * (1 - self.momentum))
        outputs = tf.ensure_shape(tf.reshape(outputs, shape), inputs.shape)
        return tf.cast(outputs, inputs.dtype)


def on_cpu() -> bool:
    """Whether networks compute on a CPU here."""
    return not tf.config.list_physical_devices("GPU")


def _moments(volumes: Any) -> list[Any]:
    """Mean and variance of each channel, float32 (channels,), of float32 volumes.

    The variance is of the values: a mean of squares, about the mean that was found first.
    """
    _, _, y, slices, channels = volumes.shape
    rows = tf.reshape(tf.stop_gradient(volumes), (-1, y, slices * channels))

    def mean(rows):
        # A row's sum in float32 is exact enough, that of all rows needs float64.
        sums = tf.reduce_sum(tf.cast(tf.reduce_sum(rows, 1), tf.float64), 0)
        count = tf.cast(tf.reduce_prod(tf.shape(rows)[:2]) * slices, tf.float64)
        sums = tf.reduce_sum(tf.reshape(sums, (slices, channels)), 0)
        return tf.cast(sums / count, tf.float32)

    middle = mean(rows)
    return [middle, mean(tf.math.squared_difference(rows, tf.tile(middle, (slices,))))]


def _by_moments(rows: Any, weights: tuple[Any, Any], moments: list[Any], epsilon: float) -> Any:
    """Normalise by moments that are the batch's own, with the gradient through them too.

    Args:
        rows: (batch, rows, z, channels).
        weights: scale and shift.
        moments: mean and variance of ``rows``.
        epsilon: added to the variance.
    """
    mean, variance = moments

    @tf.custom_gradient
    def normalise(rows, gamma, beta):
        outputs = tf.raw_ops.FusedBatchNormV3(
            x=rows,
            scale=gamma,
            offset=beta,
            mean=mean,
            variance=variance,
            epsilon=epsilon,
            is_training=False,
        ).y

        def gradient(by_outputs):
            found = tf.raw_ops.FusedBatchNormGradV3(
                y_backprop=by_outputs,
                x=rows,
                scale=gamma,
                reserve_space_1=mean,
                reserve_space_2=variance,
                reserve_space_3=tf.zeros((0,)),
                epsilon=epsilon,
                is_training=True,
            )
            return found.x_backprop, found.scale_backprop, found.offset_backprop

        return outputs, gradient

    return normalise(rows, *weights)


def use_fast_layers(model: Any) -> None:
    """Let a built model's stock normalisations compute as :class:`FusedBatchNormalization`.

    Their class is exchanged and nothing else, which spares building the model anew (a second).
    """
    for layer in model.layers:
        if type(layer) is layers.BatchNormalization:
            layer.__class__ = FusedBatchNormalization


class _ExactBias:
    use_bias: bool
    activation: Any
    bias: Any

    def call(self, inputs):
        """The stock layer without its bias, then the bias by a plain addition."""
        activation = self.activation
        self.use_bias, self.activation = False, None
        try:
            outputs = super().call(inputs)  # type: ignore[misc]
        finally:
            self.use_bias, self.activation = True, activation
        outputs = outputs + ops.cast(self.bias, outputs.dtype)
        return outputs if activation is None else activation(outputs)


@register
class ExactBiasConv3D(_ExactBias, layers.Conv3D):
    """``keras.layers.Conv3D`` with a bias."""


@register
class ExactBiasConv3DTranspose(_ExactBias, layers.Conv3DTranspose):
    """``keras.layers.Conv3DTranspose`` with a bias."""
