"""Layers that compute in place of stock ones: the same weights and results, but faster, or more
exact in 16 bits. Files of models hold the stock layers.

**Normalisation** (in training, and at test time). Keras normalises a volume in float32, in a dozen
operations that each go through all of the memory; TensorFlow has one operation for it, which takes
pictures only. A volume is a picture of longer rows to it.

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
    """

    def call(self, inputs, training=None, mask=None):
        """The stock layer: by the batch's own moments in training, else by the moving ones."""
        return self.normalised(inputs, self.gamma, self.beta, training)

    def normalised(self, inputs, gamma, beta, training):
        """The same with another scale and shift."""
        shape, channels = tf.shape(inputs), inputs.shape[-1]
        rows = tf.reshape(inputs, (shape[0], -1, shape[3], channels))
        if channels % FAST_CHANNELS_16_BIT:
            rows = tf.cast(rows, tf.float32)
        moving = (self.moving_mean, self.moving_variance)
        given = () if training else map(tf.convert_to_tensor, moving)
        outputs, *now = tf.compat.v1.nn.fused_batch_norm(
            rows,
            tf.convert_to_tensor(gamma),
            tf.convert_to_tensor(beta),
            *given,
            epsilon=self.epsilon,
            is_training=bool(training),
        )
        if training:
            count = tf.cast(tf.reduce_prod(shape[:-1]), tf.float32)
            now[1] *= (count - 1) / count
            for old, new in zip(moving, now, strict=True):
                old.assign(old * self.momentum + new * (1 - self.momentum))
        outputs = tf.ensure_shape(tf.reshape(outputs, shape), inputs.shape)
        return tf.cast(outputs, inputs.dtype)


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
