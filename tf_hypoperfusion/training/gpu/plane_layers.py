"""Layers that compute in place of stock ones on a GPU: the same weights and results.

Libraries for GPUs are made for matrix products and pictures with many channels; ours are volumes
with few. So a 3 x 3 x 3 convolution is done as one of pictures (y, z) that have the channels of
three neighbouring x; one of 1 x 1 x 1, and a transposed one of 2 x 2 x 2, as a matrix product; a
pooling as the largest of an axis. The bias is added in float32, and so is its gradient.
Files of models hold the stock layers. Written in Keras's operations.
"""

from typing import Any

from keras import layers, models, ops


def _with_bias(layer: Any, outputs: Any) -> Any:
    """Bias and activation, computed in float32."""
    outputs = ops.cast(outputs, "float32") + ops.cast(layer.bias, "float32")
    return ops.cast(layer.activation(outputs), layer.compute_dtype)


class PlaneConv3D(layers.Conv3D):
    """``keras.layers.Conv3D`` of 3 x 3 x 3 or 1 x 1 x 1, padding ``same``, with a bias."""

    def call(self, inputs):
        """(batch, x, y, z, channels) -> (batch, x, y, z, filters)."""
        if self.kernel_size == (1, 1, 1):
            return _with_bias(self, ops.matmul(inputs, self.kernel[0, 0, 0]))
        _, x, y, z, channels = inputs.shape
        padded = ops.pad(inputs, ((0, 0), (1, 1), (0, 0), (0, 0), (0, 0)))
        threefold = ops.concatenate([padded[:, i : i + x] for i in range(3)], axis=-1)
        pictures = ops.reshape(threefold, (-1, y, z, 3 * channels))
        # (x, y, z, in, out) -> (y, z, x and in, out)
        kernel = ops.transpose(self.kernel, (1, 2, 0, 3, 4))
        kernel = ops.reshape(kernel, (3, 3, 3 * channels, self.filters))
        outputs = ops.conv(pictures, kernel, padding="same", data_format="channels_last")
        return _with_bias(self, ops.reshape(outputs, (-1, x, y, z, self.filters)))


class PlaneConv3DTranspose(layers.Conv3DTranspose):
    """``keras.layers.Conv3DTranspose`` of 2 x 2 x 2, stride 2, with a bias."""

    def call(self, inputs):
        """(batch, x, y, z, channels) -> (batch, 2 x, 2 y, 2 z, filters)."""
        _, x, y, z, channels = inputs.shape
        kernel = ops.reshape(self.kernel, (8 * self.filters, channels))
        outputs = ops.matmul(inputs, ops.transpose(kernel))
        outputs = ops.reshape(outputs, (-1, x, y, z, 2, 2, 2, self.filters))
        outputs = ops.transpose(outputs, (0, 1, 4, 2, 5, 3, 6, 7))
        return _with_bias(self, ops.reshape(outputs, (-1, 2 * x, 2 * y, 2 * z, self.filters)))


class PlaneMaxPooling3D(layers.MaxPooling3D):
    """``keras.layers.MaxPooling3D`` of 2 x 2 x 2."""

    def call(self, inputs):
        """(batch, x, y, z, channels) -> (batch, x / 2, y / 2, z / 2, channels)."""
        _, x, y, z, channels = inputs.shape
        eight = ops.reshape(inputs, (-1, x // 2, 2, y // 2, 2, z // 2, 2, channels))
        return ops.max(eight, axis=(2, 4, 6))


PLANE_LAYERS: dict[Any, Any] = {
    layers.Conv3D: PlaneConv3D,
    layers.Conv3DTranspose: PlaneConv3DTranspose,
    layers.MaxPooling3D: PlaneMaxPooling3D,
}


def with_plane_layers(model: Any) -> Any:
    """The same network with these layers in place of the stock ones, and weights of its own."""

    def exchanged(layer: Any) -> Any:
        kind = PLANE_LAYERS.get(type(layer), type(layer))
        return kind.from_config(layer.get_config())

    made = models.clone_model(model, clone_function=exchanged)
    made.set_weights(model.get_weights())
    return made
