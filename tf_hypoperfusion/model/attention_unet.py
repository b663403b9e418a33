"""The attention-gated 3D U-Net with the NIHSS fused in at the bottleneck (paper, Figure 1).

Stock Keras layers only (in what is saved), so the same network runs on any Keras backend.

What the layers of the ``paper`` preset put out, by their names:

| layer | x, y, slices | channels |
| --- | --- | --- |
| image | 128 x 128 x 16 | 4 |
| encoder0_conv1 | 128 x 128 x 16 | 32 |
| encoder1_conv1 | 64 x 64 x 8 | 64 |
| encoder2_conv1 | 32 x 32 x 4 | 128 |
| bottleneck_conv1 | 16 x 16 x 2 | 256 |
| nihss_concat | 16 x 16 x 2 | 257 |
| bottleneck_fused_conv0 | 16 x 16 x 2 | 256 |
| decoder2_up | 32 x 32 x 4 | 128 |
| gate2 | 32 x 32 x 4 | 128 |
| decoder2_concat | 32 x 32 x 4 | 256 |
| decoder2_conv1 | 32 x 32 x 4 | 128 |
| decoder1_conv1 | 64 x 64 x 8 | 64 |
| decoder0_conv1 | 128 x 128 x 16 | 32 |
| probability | 128 x 128 x 16 | 1 |

With a smaller ``frame`` x and y are those of it in between: 80 x 104, 40 x 52, 20 x 26, 10 x 13.
"""

from typing import Any

import keras
from keras import layers

from data_tools.grid import FRAME_SHAPE, SLAB_SHAPE
from tf_hypoperfusion.config import CHANNELS, ModelConfig
from tf_hypoperfusion.model.keras_compat import dtype_policy


def build_model(
    config: ModelConfig,
    precision: str = "float32",
    seed: int | None = None,
    for_training: bool = False,
) -> keras.Model:
    """Build the functional model.

    Inputs: ``image`` float32 (batch, 128, 128, 16, 4), the channels of :data:`CHANNELS`;
    ``nihss`` float32 (batch, 1), NIHSS / 21 or -1. Output: ``probability`` float32
    (batch, 128, 128, 16, 1).

    Encoder: two blocks (normalise, 3 x 3 x 3 convolution, ReLU) a level, 2 x 2 x 2 max-pooling,
    spatial dropout. Bottleneck: two blocks, NIHSS broadcast to its shape and concatenated, one
    more block. Decoder: transposed convolution, gated skip concatenated, two blocks, dropout.

    Args:
        config: sizes and switches.
        precision: ``float32``, ``bfloat16`` or ``float16``.
        seed: of dropout; None draws one. Weights follow ``keras.utils.set_random_seed``.
        for_training: with the layers of :mod:`tf_hypoperfusion.model.fast_layers` (TensorFlow
            only); the same weights in the same order.
    """
    blocks = Blocks(config, precision, seed, for_training)
    image = keras.Input((*SLAB_SHAPE, len(CHANNELS)), name="image")
    nihss = keras.Input((1,), name="nihss")
    x, skips = image, []
    if not config.side_channel:  # it is the last channel
        x = x[:, :, :, :, : CHANNELS.index("side")]  # Keras 2 cannot save an Ellipsis
    cropped = config.frame_shape != FRAME_SHAPE
    if cropped:
        x = layers.Cropping3D(config.frame_margin, name="crop_margin", dtype=blocks.dtype)(x)
    for level in range(config.poolings):
        x = blocks.convolutions(x, level, 2, f"encoder{level}")
        skips.append(x)
        x = layers.MaxPooling3D(2, name=f"encoder{level}_pool", dtype=blocks.dtype)(x)
        x = blocks.dropout(x, f"encoder{level}_dropout")
    x = blocks.convolutions(x, config.poolings, 2, "bottleneck")
    x = blocks.fuse(x, nihss) if config.nihss_fusion else blocks.ignore(x, nihss)
    x = blocks.convolutions(x, config.poolings, 1, "bottleneck_fused")
    for level in reversed(range(config.poolings)):
        filters = config.base_filters * 2**level
        g = blocks.transposed_convolution(
            filters,
            2,
            strides=2,
            kernel_initializer="he_normal",
            name=f"decoder{level}_up",
            dtype=blocks.dtype,
        )(x)
        skip = (
            blocks.gate(g, skips[level], filters, f"gate{level}")
            if config.attention_gates
            else skips[level]
        )
        x = layers.Concatenate(name=f"decoder{level}_concat", dtype=blocks.dtype)([skip, g])
        x = blocks.convolutions(x, level, 2, f"decoder{level}")
        x = blocks.dropout(x, f"decoder{level}_dropout")
    logit = blocks.convolution(1, 1, name="logit", dtype=blocks.dtype)(x)
    # Sigmoid in float32: near 0 and 1 bfloat16 has too few digits for the cross entropy.
    name = "probability_inside" if cropped else "probability"
    probability = layers.Activation("sigmoid", name=name, dtype="float32")(logit)
    if cropped:
        probability = layers.ZeroPadding3D(
            config.frame_margin, name="probability", dtype="float32"
        )(probability)
    return keras.Model(
        {"image": image, "nihss": nihss}, {"probability": probability}, name="attention_unet"
    )


class Blocks:
    """What the network is made of, with this configuration's normalisation, dropout and dtype.

    Takes what :func:`build_model` does.
    """

    def __init__(
        self,
        config: ModelConfig,
        precision: str = "float32",
        seed: int | None = None,
        for_training: bool = False,
    ):
        self.config, self.dtype, self.seed = config, dtype_policy(precision), seed
        self.dropouts = 0
        self.convolution: type = layers.Conv3D
        self.transposed_convolution: type = layers.Conv3DTranspose
        self.batch_normalisation: type = layers.BatchNormalization
        self.spatial_dropout: type = layers.SpatialDropout3D
        self.first: Any = None  # another first normalisation and convolution
        if for_training:
            from tf_hypoperfusion.model import fast_layers, wide_convolution

            self.batch_normalisation = fast_layers.FusedBatchNormalization
            if wide_convolution.on_cpu():
                self.convolution = wide_convolution.WideConv3D
                self.transposed_convolution = wide_convolution.WideConv3DTranspose
                self.spatial_dropout = wide_convolution.WideSpatialDropout3D
                if config.normalisation == "batch":
                    self.first = wide_convolution.first_convolution
            elif precision != "float32":
                self.convolution = fast_layers.ExactBiasConv3D
                self.transposed_convolution = fast_layers.ExactBiasConv3DTranspose

    def normalise(self, x, name: str):
        if self.config.normalisation == "batch":
            return self.batch_normalisation(
                momentum=self.config.batch_norm_momentum, name=name, dtype=self.dtype
            )(x)
        if self.config.normalisation == "group":
            channels = x.shape[-1]
            groups = next(g for g in (8, 4, 2, 1) if channels % g == 0)
            return layers.GroupNormalization(groups, name=name, dtype=self.dtype)(x)
        return x

    def convolutions(self, x, level: int, count: int, name: str):
        filters = self.config.base_filters * 2**level
        for i in range(count):
            convolution = self.convolution
            if self.first is not None and f"{name}_conv{i}" == "encoder0_conv0":
                normalised, convolution = self.first(
                    momentum=self.config.batch_norm_momentum,
                    name=f"{name}_norm{i}",
                    dtype=self.dtype,
                )
                x = normalised(x)
            else:
                x = self.normalise(x, f"{name}_norm{i}")
            x = convolution(
                filters,
                3,
                padding="same",
                activation="relu",
                kernel_initializer="he_normal",
                name=f"{name}_conv{i}",
                dtype=self.dtype,
            )(x)
        return x

    def dropout(self, x, name: str):
        if not self.config.dropout:
            return x
        self.dropouts += 1
        seed = None if self.seed is None else self.seed * 1000 + self.dropouts
        return self.spatial_dropout(self.config.dropout, seed=seed, name=name, dtype=self.dtype)(x)

    def fuse(self, x, nihss):
        """Broadcast the NIHSS to the bottleneck's shape and concatenate it (paper, Figure 1)."""
        number = layers.Reshape((1, 1, 1, 1), name="nihss_reshape", dtype=self.dtype)(nihss)
        field = layers.UpSampling3D(tuple(x.shape[1:4]), name="nihss_broadcast", dtype=self.dtype)(
            number
        )
        return layers.Concatenate(name="nihss_concat", dtype=self.dtype)([x, field])

    def ignore(self, x, nihss):
        """Add 0 times the NIHSS: Keras wants every input connected."""
        nothing = layers.Rescaling(0.0, name="nihss_ignored", dtype=self.dtype)(nihss)
        number = layers.Reshape((1, 1, 1, 1), name="nihss_reshape", dtype=self.dtype)(nothing)
        return layers.Add(name="nihss_add_nothing", dtype=self.dtype)([x, number])

    def gate(self, g, x, filters: int, name: str):
        """Attention gate (paper, Figure 1): which voxels of the skip connection go through.

        Formula:

        ```
        a = sigmoid(N(W_psi ReLU(N(W_g g + b_g) + N(W_x x + b_x)) + b_psi))
        gate(g, x) = a x
        ```

        ``W`` are 1 x 1 x 1 convolutions, to ``filters`` channels and, of psi, to one; ``N``
        normalises; ``a`` is one coefficient in 0..1 for all channels of a voxel.

        Args:
            g: (batch, x, y, z, channels) from below, already at the size of ``x``.
            x: (batch, x, y, z, channels) of the encoder.
            filters: width of the projections.
            name: of the layer that gives the product; the others' names begin with it.

        Returns:
            The shape of ``x``.
        """

        def project(value, width: int, part: str):
            value = self.convolution(
                width, 1, kernel_initializer="he_normal", name=f"{name}_{part}", dtype=self.dtype
            )(value)
            return self.normalise(value, f"{name}_{part}_norm")

        total = layers.Add(name=f"{name}_add", dtype=self.dtype)(
            [project(g, filters, "g"), project(x, filters, "x")]
        )
        active = layers.Activation("relu", name=f"{name}_relu", dtype=self.dtype)(total)
        coefficient = layers.Activation("sigmoid", name=f"{name}_coefficient", dtype=self.dtype)(
            project(active, 1, "psi")
        )
        return layers.Multiply(name=name, dtype=self.dtype)([x, coefficient])
