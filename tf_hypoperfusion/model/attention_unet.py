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

# Boxes, in voxels of 2 mm, whose means DWI and ADC are compared with. A slab has 16 slices.
LOCAL_MEAN_VOXELS = (45, 45, 15)
MIRROR_MEAN_VOXELS = (5, 5, 3)


def build_model(
    config: ModelConfig,
    precision: str = "float32",
    seed: int | None = None,
    for_training: bool = False,
) -> keras.Model:
    """Build the functional model.

    Inputs: ``image`` float32 (batch, 128, 128, 16, 4), the channels of :data:`CHANNELS`;
    ``nihss`` float32 (batch, 1), NIHSS / 21 or -1. DWI or ADC (with its mask) that is not given is
    0 everywhere. Output: ``probability`` of hypoperfusion, float32 (batch, 128, 128, 16, 1), and
    with ``core_output`` that of ``core``, likewise.

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
    x = blocks.inside(x, "crop_margin")
    if config.contrast_channels != "none":
        x = blocks.with_contrast(x, image)
    for level in range(config.poolings):
        x = blocks.convolutions(x, level, 2, f"encoder{level}")
        skips.append(x)
        x = layers.MaxPooling3D(2, name=f"encoder{level}_pool", dtype=blocks.dtype)(x)
        x = blocks.dropout(x, f"encoder{level}_dropout")
    x = blocks.convolutions(x, config.poolings, 2, "bottleneck")
    if config.nihss_fusion:
        facts = blocks.with_presence(image, nihss) if config.presence_flags else nihss
        x = blocks.fuse(x, facts)
    else:
        x = blocks.ignore(x, nihss)
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
    answers = {"probability": blocks.probability(x, "logit", "probability")}
    if config.core_output:
        answers["core"] = blocks.probability(x, "core_logit", "core")
    return keras.Model({"image": image, "nihss": nihss}, answers, name="attention_unet")


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
            if fast_layers.on_cpu():
                self.convolution = wide_convolution.WideConv3D
                self.transposed_convolution = wide_convolution.WideConv3DTranspose
                self.spatial_dropout = wide_convolution.WideSpatialDropout3D
                if config.normalisation == "batch":
                    self.first = wide_convolution.first_convolution
            elif precision != "float32":
                self.convolution = fast_layers.ExactBiasConv3D
                self.transposed_convolution = fast_layers.ExactBiasConv3DTranspose

    @property
    def crops(self) -> bool:
        """Whether a part of the slices is computed only."""
        return self.config.frame_shape != FRAME_SHAPE

    def inside(self, x, name: str):
        """The frame of a volume, or all of it."""
        if not self.crops:
            return x
        return layers.Cropping3D(self.config.frame_margin, name=name, dtype=self.dtype)(x)

    def probability(self, x, logit: str, name: str):
        """(batch, x, y, z, channels) -> one probability a voxel, 0 outside the frame."""
        x = self.convolution(1, 1, name=logit, dtype=self.dtype)(x)
        # Sigmoid in float32: near 0 and 1 bfloat16 has too few digits for the cross entropy.
        inside = f"{name}_inside" if self.crops else name
        x = layers.Activation("sigmoid", name=inside, dtype="float32")(x)
        if self.crops:
            x = layers.ZeroPadding3D(self.config.frame_margin, name=name, dtype="float32")(x)
        return x

    def with_contrast(self, x, image):
        """Add the channels of ``contrast_channels``: DWI and ADC beside what is around or opposite.

        They are 0 where an image is. A brightness that varies slowly divides out of the local
        ones, and one that is symmetric out of the mirrored ones.

        Args:
            x: the frame, which they are added to.
            image: (batch, 128, 128, 16, 4); its first two channels are DWI and ADC.
        """
        both = image[:, :, :, :, :2]
        parts, kinds = [x], self.config.contrast_channels.split("+")
        if "local" in kinds:
            frame = self.inside(both, "local_frame")
            parts.append(self._relative(frame, self._mean(frame, LOCAL_MEAN_VOXELS, "local")))
        if "mirror" in kinds:
            even = self._mean(both, MIRROR_MEAN_VOXELS, "mirror")
            # Column 63 is the midline: reversed, and moved back by one.
            opposite = layers.Cropping3D(((1, 0), 0, 0), name="mirror_moved", dtype="float32")(
                even[:, ::-1]
            )
            opposite = layers.ZeroPadding3D(((0, 1), 0, 0), name="mirror_filled", dtype="float32")(
                opposite
            )
            relative = self._relative(both, opposite)
            parts.append(self.inside(relative, "mirror_frame"))
        return layers.Concatenate(name="contrast_concat", dtype=self.dtype)(parts)

    def _given(self, x, name: str):
        """1 where a volume is above 0, float32."""
        x = layers.Rescaling(1000.0, name=f"{name}_scaled", dtype="float32")(x)
        return layers.ReLU(max_value=1.0, name=name, dtype="float32")(x)

    def _mean(self, x, size: tuple[int, int, int], name: str):
        """Mean of the values above 0 in a box about each voxel; 0 without any."""
        sums = [x, self._given(x, f"{name}_given")]
        for axis, length in enumerate(size):  # one axis after the other
            window = tuple(length if k == axis else 1 for k in range(3))
            sums = [
                layers.AveragePooling3D(
                    window, strides=1, padding="same", name=f"{name}_{what}{axis}", dtype="float32"
                )(value)
                for what, value in zip(("sum", "count"), sums, strict=True)
            ]
        return sums[0] / (sums[1] + 1e-6)

    def _relative(self, x, to):
        """(x - to) / (x + to), in -1..1; 0 where x or to is 0."""
        product = x * to
        there = product / (product + 1e-6)
        return there * (x - to) / (x + to + 1e-6)

    def with_presence(self, image, nihss):
        """NIHSS, then 1 or 0 for each of DWI, ADC, side and NIHSS: whether it is given.

        A side that is not told is the whole head.

        Returns:
            float32 (batch, 5).
        """

        def largest(x, name: str):
            return layers.GlobalMaxPooling3D(name=name, dtype="float32")(x)

        side = CHANNELS.index("side")
        elsewhere = layers.Rescaling(-1.0, 1.0, name="presence_elsewhere", dtype="float32")(
            image[:, :, :, :, side:]
        )
        known = layers.Rescaling(1.0, 1.0, name="presence_known", dtype="float32")(nihss)
        parts = [
            largest(image[:, :, :, :, :2], "presence_images"),
            largest(elsewhere, "presence_side"),
            known,
        ]
        flags = layers.Concatenate(name="presence_concat", dtype="float32")(parts)
        flags = self._given(flags, "presence")
        return layers.Concatenate(name="facts", dtype="float32")([nihss, flags])

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

    def fuse(self, x, facts):
        """Broadcast the NIHSS, and what else is a number, to the bottleneck's shape and concatenate
        it (paper, Figure 1).
        """
        number = layers.Reshape((1, 1, 1, -1), name="nihss_reshape", dtype=self.dtype)(facts)
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
