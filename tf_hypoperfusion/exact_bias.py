"""Convolutions whose bias has a usable gradient in bfloat16 and float16.

TensorFlow adds a bias with ``BiasAdd``, whose gradient on a CPU is summed up *in* 16 bits: over
the 800,000 voxels of four slabs the sum gets stuck at a thirtieth of its value (measured with
TensorFlow 2.21: 2144 for 67314). A plain addition has the same result and sums its gradient in
float32. Training in 16 bits uses these layers; weights and saved models are those of stock ones.
"""

from typing import Any

from keras import layers

from tf_hypoperfusion.keras_compat import ops, register


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
