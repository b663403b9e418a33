"""Convolutions of volumes as training on a CPU computes them: the stock layers' weights, results
and gradients, in less time.

A CPU computes sixteen numbers at once, and oneDNN takes a voxel's channels for them: with 8 filters
half of what it multiplies is thrown away. Here neighbouring slices share that room. A convolution
of 3 x 3 x 4 that moves on by two slices gives both as one slice of 16 channels; its kernel holds
the stock one twice, a slice apart, with zeros beside. It multiplies a third more, twice as fast.
Slices are neighbours in memory, so nothing is moved. The gradient by the inputs is a convolution of
the same kind; that by the kernel is the sum over the two places where it stands.

The bias's gradient is not ``BiasAddGrad``, which sums in 16 bits on a CPU (see
:mod:`tf_hypoperfusion.model.fast_layers`).
"""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tensorflow as tf
from keras import layers

from data_tools.runtime import processor
from tf_hypoperfusion.model.fast_layers import FusedBatchNormalization
from tf_hypoperfusion.model.keras_compat import register


@functools.cache
def lanes(cpuinfo: Path = Path("/proc/cpuinfo")) -> int:
    """How many float32 this processor computes at once; 1 where the system does not tell."""
    flags = processor.flags(cpuinfo)
    return 16 if "avx512f" in flags else 8 if "avx2" in flags else 1


def slices_together(channels: int, slices: int) -> int:
    """How many slices of so many channels fit into the lanes: a power of two, one at least.

    Worked: 16 lanes, 16 slices: 1 of 12 channels, 2 of 8, 4 of 4 or 3.
    """
    together = 1
    while 2 * together * channels <= lanes() and slices % (2 * together) == 0:
        together *= 2
    return together


def _wide_kernel(kernel: Any, together: int) -> Any:
    """(3, 3, 3, in, out) -> (3, 3, 2 + together, in, together x out)."""
    each = range(together)
    padding = [((0, 0), (0, 0), (k, together - 1 - k), (0, 0), (0, 0)) for k in each]
    return tf.concat([tf.pad(kernel, padding[k]) for k in each], axis=-1)


def _narrow_kernel(wide: Any, together: int) -> Any:
    """The gradient by a kernel, from that by its :func:`_wide_kernel`."""
    parts = tf.split(tf.cast(wide, tf.float32), together, axis=-1)
    return tf.add_n([part[:, :, k : k + 3] for k, part in enumerate(parts)])


def _ahead(inputs: Any, kernel: Any, together: int) -> Any:
    """Convolution of stride 1 and padding ``same``, slices still together as channels."""
    if together > 1:
        kernel = _wide_kernel(kernel, together)
    return tf.nn.conv3d(inputs, kernel, (1, 1, 1, together, 1), "SAME")


def convolve(inputs: Any, kernel: Any, bias: Any, relu: bool) -> Any:
    """Convolution of stride 1 and padding ``same``, with its bias and perhaps ReLU.

    Args:
        inputs: (batch, x, y, z, in).
        kernel: (3, 3, 3, in, out) or (1, 1, 1, in, out), in the type of ``inputs``.
        bias: (out,), likewise.
        relu: whether the result is cut at 0.

    Returns:
        (batch, x, y, z, out).
    """
    _, x, y, slices, channels = inputs.shape
    size, filters = kernel.shape[0], kernel.shape[-1]
    together, back = (slices_together(n, slices) if size > 1 else 1 for n in (filters, channels))

    @tf.custom_gradient
    def with_gradient(inputs, kernel, bias):
        outputs = _ahead(inputs, kernel, together)
        outputs = tf.nn.bias_add(outputs, tf.tile(bias, (together,)))
        if relu:
            outputs = tf.nn.relu(outputs)

        def gradient(by_outputs):
            if relu:
                by_outputs = tf.raw_ops.ReluGrad(gradients=by_outputs, features=outputs)
            by_kernel = tf.raw_ops.Conv3DBackpropFilterV2(
                input=inputs,
                filter_sizes=(size, size, size - 1 + together, channels, together * filters),
                out_backprop=by_outputs,
                strides=(1, 1, 1, together, 1),
                padding="SAME",
            )
            if together > 1:
                by_kernel = _narrow_kernel(by_kernel, together)
            by_bias = tf.reduce_sum(by_outputs, (0, 1, 2, 3))
            by_bias = tf.reduce_sum(tf.reshape(by_bias, (together, filters)), 0)
            apart = tf.reshape(by_outputs, (-1, x, y, slices, filters))
            turned = tf.transpose(kernel[::-1, ::-1, ::-1], (0, 1, 2, 4, 3))
            by_inputs = tf.reshape(_ahead(apart, turned, back), (-1, x, y, slices, channels))
            return by_inputs, tf.cast(by_kernel, kernel.dtype), by_bias

        return outputs, gradient

    return tf.reshape(with_gradient(inputs, kernel, bias), (-1, x, y, slices, filters))


@register
class WideConv3D(layers.Conv3D):
    """``keras.layers.Conv3D`` of 3 x 3 x 3 or 1 x 1 x 1, padding ``same``, ReLU or linear."""

    def call(self, inputs):
        """(batch, x, y, z, in) -> (batch, x, y, z, filters)."""
        kernel, bias = tf.convert_to_tensor(self.kernel), tf.convert_to_tensor(self.bias)
        return convolve(inputs, kernel, bias, relu=self.activation.__name__ == "relu")


@register
class StandardisedInput(FusedBatchNormalization):
    """The normalisation of the network's image, without its scale and shift, and a channel of ones.

    :class:`FirstConv3D` has scale and shift in its kernel. So nobody asks for the gradient by the
    image, which the stock layers compute for these two alone.
    """

    def call(self, inputs, training=None, mask=None):
        """(batch, x, y, z, channels) -> (batch, x, y, z, channels + 1)."""
        one, zero = tf.ones_like(self.gamma), tf.zeros_like(self.beta)
        outputs = self.normalised(inputs, one, zero, training)
        return tf.stop_gradient(tf.concat([outputs, tf.ones_like(outputs[..., :1])], -1))

    def compute_output_shape(self, input_shape):
        """With a channel more."""
        return (*input_shape[:-1], input_shape[-1] + 1)


@register
class FirstConv3D(WideConv3D):
    """A :class:`WideConv3D` of a :class:`StandardisedInput`.

    Args:
        normalisation: gives that layer, whose scale and shift these are.
        options: of the stock layer.
    """

    def __init__(self, *args, normalisation: Callable[[], Any], **options):
        super().__init__(*args, **options)
        self.normalisation = normalisation

    def build(self, input_shape):
        """The stock layer's weights, without the ones."""
        super().build((*input_shape[:-1], input_shape[-1] - 1))
        self.input_spec = None

    def call(self, inputs):
        """(batch, x, y, z, in + 1) -> (batch, x, y, z, filters)."""
        of = self.normalisation()
        kernel, bias, scale, shift = map(
            tf.convert_to_tensor, (self.kernel, self.bias, of.gamma, of.beta)
        )
        kernel = tf.cast(kernel, tf.float32)
        shifts = tf.reduce_sum(kernel * shift[:, None], -2, keepdims=True)
        kernel = tf.cast(tf.concat([kernel * scale[:, None], shifts], -2), inputs.dtype)
        return convolve(inputs, kernel, bias, relu=self.activation.__name__ == "relu")


def first_convolution(**options: Any) -> tuple[Any, Any]:
    """The normalisation of the image, made with ``options``, and what makes its convolution."""
    normalisation = StandardisedInput(**options)
    return normalisation, functools.partial(FirstConv3D, normalisation=lambda: normalisation)


@register
class WideConv3DTranspose(layers.Conv3DTranspose):
    """``keras.layers.Conv3DTranspose`` of 2 x 2 x 2 and stride 2, linear.

    Each slice gives two, which are its channels here until they are laid apart.
    """

    def call(self, inputs):
        """(batch, x, y, z, in) -> (batch, 2 x, 2 y, 2 z, filters)."""
        kernel, bias = tf.convert_to_tensor(self.kernel), tf.convert_to_tensor(self.bias)
        _, x, y, z, channels = inputs.shape
        outputs = tf.nn.conv3d_transpose(
            inputs,
            tf.reshape(kernel, (2, 2, 1, 2 * self.filters, channels)),
            (tf.shape(inputs)[0], 2 * x, 2 * y, z, 2 * self.filters),
            (1, 2, 2, 1, 1),
            "SAME",
        )
        outputs = _plus(outputs, tf.tile(bias, (2,)))
        return tf.reshape(outputs, (-1, 2 * x, 2 * y, 2 * z, self.filters))


@tf.custom_gradient
def _plus(values: Any, bias: Any) -> Any:
    def gradient(by_sum):
        return by_sum, tf.reduce_sum(by_sum, range(by_sum.shape.rank - 1))

    return tf.nn.bias_add(values, bias), gradient


@register
class WideSpatialDropout3D(layers.SpatialDropout3D):
    """``keras.layers.SpatialDropout3D``: the same channels, by one multiplication of long rows."""

    def call(self, inputs, training=False):
        """The inputs, in training without some channels and the others larger for it."""
        if not training or not self.rate:
            return inputs
        shape = tf.shape(inputs)
        factor = super().call(tf.ones((shape[0], 1, 1, 1, inputs.shape[-1]), inputs.dtype), True)
        slices = inputs.shape[3]
        rows = tf.reshape(inputs, (shape[0], -1, slices * inputs.shape[-1]))
        factor = tf.tile(tf.reshape(factor, (shape[0], 1, -1)), (1, 1, slices))
        return tf.ensure_shape(tf.reshape(rows * factor, shape), inputs.shape)
