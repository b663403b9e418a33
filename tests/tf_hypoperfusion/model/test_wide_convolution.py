"""Layers for training on a CPU against the stock ones: answer, gradients, dropped channels."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from tf_hypoperfusion.model import wide_convolution
from tf_hypoperfusion.model.fast_layers import FusedBatchNormalization
from tf_hypoperfusion.model.keras_compat import dtype_policy

pytestmark = pytest.mark.core


@pytest.fixture(autouse=True)
def sixteen_lanes(monkeypatch):
    monkeypatch.setattr(wide_convolution, "lanes", lambda: 16)


def learnt(model, precision, x):
    """Output, and gradients by the input and all weights, as float32."""
    rng = np.random.default_rng(1)
    model.set_weights(
        [rng.uniform(-0.5, 0.5, w.shape).astype(np.float32) for w in model.get_weights()]
    )

    @tf.function
    def run(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = model(x, training=True)
            total = tf.reduce_sum(tf.cast(y, tf.float32) ** 2)
        return y, *tape.gradient(total, [x, *model.trainable_variables])

    y, by_x, *by_weights = run(tf.cast(x, precision))
    assert y.dtype == precision
    return [
        None if v is None else np.asarray(tf.cast(v, tf.float32)) for v in (y, by_x, *by_weights)
    ]


def one_layer(kind, *sizes, precision="float32", channels, **options):
    layer = kind(*sizes, padding="same", dtype=dtype_policy(precision), **options)
    layer.build((None, 6, 4, 8, channels))
    return layer


def volumes(channels):
    return np.random.default_rng(channels).normal(size=(2, 6, 4, 8, channels)).astype(np.float32)


def agree(ours, theirs, tolerance):
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        assert one.shape == other.shape
        np.testing.assert_allclose(one, other, rtol=0, atol=tolerance * np.abs(other).max())


PRECISIONS = pytest.mark.parametrize(
    ("precision", "tolerance"), [("float32", 2e-6), ("bfloat16", 0.02)]
)


@PRECISIONS
@pytest.mark.parametrize(("channels", "filters"), [(4, 8), (8, 8), (16, 8), (5, 2), (3, 12)])
def test_slices_together_are_the_stock_convolution(channels, filters, precision, tolerance):
    x, options = volumes(channels), {"activation": "relu", "channels": channels}
    stock = learnt(one_layer(layers.Conv3D, filters, 3, **options), "float32", x)
    kind = wide_convolution.WideConv3D
    ours = learnt(one_layer(kind, filters, 3, precision=precision, **options), precision, x)
    agree(ours, stock, tolerance)


@PRECISIONS
def test_a_projection_is_the_stock_convolution(precision, tolerance):
    x = volumes(8)
    stock = learnt(one_layer(layers.Conv3D, 3, 1, channels=8), "float32", x)
    kind = wide_convolution.WideConv3D
    agree(
        learnt(one_layer(kind, 3, 1, precision=precision, channels=8), precision, x),
        stock,
        tolerance,
    )


@PRECISIONS
def test_two_slices_of_one_are_the_stock_transposed_convolution(precision, tolerance):
    x, options = volumes(16), {"strides": 2, "channels": 16}
    stock = learnt(one_layer(layers.Conv3DTranspose, 8, 2, **options), "float32", x)
    kind = wide_convolution.WideConv3DTranspose
    agree(
        learnt(one_layer(kind, 8, 2, precision=precision, **options), precision, x),
        stock,
        tolerance,
    )


@PRECISIONS
@pytest.mark.parametrize("training", [True, False])
def test_the_first_convolution_has_scale_and_shift_in_its_kernel(precision, tolerance, training):
    """Also at the rim, where the stock layer's zeros are beside shifted values."""
    x = volumes(4) * 3 + 1
    found = []
    for kinds, kind_precision in (("stock", "float32"), ("ours", precision)):
        policy = {"dtype": dtype_policy(kind_precision)}
        if kinds == "ours":
            normal, convolution = wide_convolution.first_convolution(momentum=0.8, **policy)
        else:
            normal, convolution = FusedBatchNormalization(momentum=0.8, **policy), layers.Conv3D
        image = keras.Input(x.shape[1:])
        y = convolution(8, 3, padding="same", activation="relu", **policy)(normal(image))
        model = keras.Model(image, y)
        rng = np.random.default_rng(2)
        model.set_weights(
            [rng.uniform(0.5, 1, w.shape).astype(np.float32) for w in model.get_weights()]
        )

        @tf.function
        def run(model=model):
            with tf.GradientTape() as tape:
                y = tf.cast(model(x, training=training), tf.float32)
                total = tf.reduce_sum(y**2)
            return y, *tape.gradient(total, model.trainable_variables)

        found.append([*map(np.asarray, run()), *model.get_weights()])
    agree(found[1], found[0], tolerance * 2)


def test_dropout_drops_the_stock_layers_channels():
    x = volumes(8)
    stock, ours = (
        kind(0.4, seed=3)(x, training=True)
        for kind in (layers.SpatialDropout3D, wide_convolution.WideSpatialDropout3D)
    )
    np.testing.assert_array_equal(ours, stock)
    assert (np.asarray(ours)[:, 0, 0, 0] == 0).any()
    kept = wide_convolution.WideSpatialDropout3D(0.4)(x, training=False)
    np.testing.assert_array_equal(kept, x)


@pytest.mark.parametrize(
    ("channels", "slices", "expected"),
    [(12, 16, 1), (16, 16, 1), (8, 16, 2), (3, 16, 4), (2, 16, 8), (2, 2, 2), (8, 3, 1)],
)
def test_slices_fill_the_lanes(channels, slices, expected):
    assert wide_convolution.slices_together(channels, slices) == expected


@pytest.mark.parametrize(
    ("flags", "expected"), [("fma avx2 avx512f", 16), ("fma avx2", 8), ("sse4_2", 1), (None, 1)]
)
def test_the_system_tells_the_lanes(tmp_path, flags, expected, monkeypatch):
    monkeypatch.undo()
    if flags is not None:
        (tmp_path / "cpuinfo").write_text(f"processor: 0\nflags\t\t: fpu {flags}\n")
    assert wide_convolution.lanes(tmp_path / "cpuinfo") == expected
