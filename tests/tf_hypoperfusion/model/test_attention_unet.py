"""The network: its sizes are pinned, and every field of its configuration changes it."""

import dataclasses

import keras
import numpy as np
import pytest

from data_tools.grid import side_frame, window_about_brain
from tf_hypoperfusion.config import ModelConfig, preset
from tf_hypoperfusion.inference import predictors
from tf_hypoperfusion.model import attention_unet
from tf_hypoperfusion.model.attention_unet import Blocks, build_model

pytestmark = pytest.mark.core

SMALL = ModelConfig(base_filters=2, poolings=2, dropout=0.1)


@pytest.fixture(autouse=True)
def _the_same_weights_each_time():
    keras.utils.set_random_seed(1)


def slab(seed=0, batch=1):
    rng = np.random.default_rng(seed)
    image = rng.random((batch, 128, 128, 16, 4), dtype=np.float32)
    return image, np.full((batch, 1), 0.5, np.float32)


def conv(size, inputs, outputs):
    return size**3 * inputs * outputs + outputs


def test_parameters_of_the_paper_preset_counted_by_hand():
    # Convolutions as in the predecessor, 32-64-128 and 256 in the bottleneck, plus 4 numbers per
    # channel for each BatchNormalization, which stands before the convolution.
    total = 0
    widths = [32, 64, 128, 256]
    inputs = 4
    for width in widths:
        total += 4 * inputs + conv(3, inputs, width) + 4 * width + conv(3, width, width)
        inputs = width
    total += 4 * 257 + conv(3, 257, 256)  # the NIHSS is one channel more
    for width in (128, 64, 32):
        total += conv(2, 2 * width, width)
        gates = 2 * (conv(1, width, width) + 4 * width) + conv(1, width, 1) + 4
        total += gates + 4 * 2 * width + conv(3, 2 * width, width) + 4 * width
        total += conv(3, width, width)
    total += conv(1, 32, 1)
    assert build_model(preset("paper")[0]).count_params() == total == 7_430_980


def test_the_table_of_the_docstring_is_that_of_the_paper_preset():
    model = build_model(preset("paper")[0])
    lines = [line for line in attention_unet.__doc__.splitlines() if line.startswith("| ")][2:]
    assert len(lines) == 14
    for name, extent, channels in (line.strip("| ").split(" | ") for line in lines):
        shape = (*map(int, extent.split(" x ")), int(channels))
        assert tuple(model.get_layer(name).output.shape[1:]) == shape, name


def test_names_shapes_and_range():
    model = build_model(SMALL)
    image, nihss = slab(batch=2)
    output = model({"image": image, "nihss": nihss}, training=False)
    assert list(output) == ["probability"]
    probability = np.asarray(output["probability"])
    assert probability.shape == (2, 128, 128, 16, 1)
    assert probability.dtype == np.float32
    assert 0 <= probability.min() < probability.max() <= 1


@pytest.mark.parametrize(
    "change",
    [
        {"base_filters": 3},
        {"poolings": 1},
        {"normalisation": "group"},
        {"normalisation": "none"},
        {"attention_gates": False},
        {"nihss_fusion": False},
        {"side_channel": False},
    ],
    ids=str,
)
def test_every_field_changes_the_parameters(change):
    changed = dataclasses.replace(SMALL, **change)
    assert build_model(changed).count_params() != build_model(SMALL).count_params()


def test_batch_norm_momentum_is_that_of_every_layer():
    model = build_model(dataclasses.replace(SMALL, batch_norm_momentum=0.7))
    momenta = {layer.momentum for layer in model.layers if hasattr(layer, "momentum")}
    assert momenta == {0.7}


def test_dropout_changes_training_only():
    image, nihss = slab()
    model = build_model(dataclasses.replace(SMALL, dropout=0.5, normalisation="none"), seed=1)
    inputs = {"image": image, "nihss": nihss}
    calm = [np.asarray(model(inputs, training=False)["probability"]) for _ in range(2)]
    noisy = [np.asarray(model(inputs, training=True)["probability"]) for _ in range(4)]
    np.testing.assert_array_equal(*calm)
    # How much depends on the weights drawn; that it changes does not.
    assert not any(np.array_equal(calm[0], each) for each in noisy)
    assert not np.array_equal(noisy[0], noisy[1]) or not np.array_equal(noisy[2], noisy[3])


def test_nihss_reaches_every_row_column_and_slice():
    model = build_model(dataclasses.replace(SMALL, normalisation="none"))
    image, nihss = slab()
    low = np.asarray(model({"image": image, "nihss": nihss}, training=False)["probability"])
    high = np.asarray(model({"image": image, "nihss": nihss + 1}, training=False)["probability"])
    changed = (low != high)[0, ..., 0]
    for other_axes in ((1, 2), (0, 2), (0, 1)):
        assert changed.any(axis=other_axes).all()


def test_without_fusion_the_nihss_does_nothing():
    model = build_model(dataclasses.replace(SMALL, nihss_fusion=False))
    image, nihss = slab()
    low = np.asarray(model({"image": image, "nihss": nihss}, training=False)["probability"])
    high = np.asarray(model({"image": image, "nihss": nihss + 1}, training=False)["probability"])
    np.testing.assert_array_equal(low, high)


def test_without_its_channel_the_side_does_nothing():
    left = slab()[0]
    right = left.copy()
    right[..., 3] = 1 - left[..., 3]
    nihss = slab()[1]
    for kept in (True, False):
        model = build_model(dataclasses.replace(SMALL, side_channel=kept, normalisation="none"))
        one, other = (
            np.asarray(model({"image": image, "nihss": nihss}, training=False)["probability"])
            for image in (left, right)
        )
        assert (one != other).any() == kept


def test_the_network_for_training_is_the_same_network():
    """Same weights in the same order, same answer; in bfloat16 within its rounding."""
    image, nihss = slab()
    stock = build_model(SMALL)
    for precision, tolerance in (("float32", 1e-6), ("bfloat16", 0.03)):
        trained = build_model(SMALL, precision, for_training=True)
        names = [[v.name.split("/")[-1] for v in m.variables] for m in (stock, trained)]
        assert names[0] == names[1]
        trained.set_weights(stock.get_weights())
        ours, theirs = (
            np.asarray(m({"image": image, "nihss": nihss}, training=False)["probability"])
            for m in (trained, stock)
        )
        np.testing.assert_allclose(ours, theirs, atol=tolerance)


@pytest.mark.parametrize("normalisation", ["none", "batch"])
def test_the_gate_alone_is_its_formula(normalisation):
    """Against numpy, with weights and moments of their own for each part."""
    g, x = keras.Input((3, 4, 2, 5)), keras.Input((3, 4, 2, 3))
    blocks = Blocks(ModelConfig(normalisation=normalisation))
    model = keras.Model([g, x], blocks.gate(g, x, 6, "gate"))
    rng = np.random.default_rng(4)
    model.set_weights([rng.uniform(0.5, 1.5, w.shape) for w in model.get_weights()])
    for part in ("g", "x", "psi"):  # so that the coefficient is neither 0 nor 1 everywhere
        kernel, bias = model.get_layer(f"gate_{part}").get_weights()
        model.get_layer(f"gate_{part}").set_weights([rng.normal(size=kernel.shape), bias - 1])

    def project(values, part):
        kernel, bias = model.get_layer(f"gate_{part}").get_weights()
        values = values @ kernel[0, 0, 0] + bias
        if normalisation == "none":
            return values
        norm = model.get_layer(f"gate_{part}_norm")
        gamma, beta, mean, variance = norm.get_weights()
        return gamma * (values - mean) / np.sqrt(variance + norm.epsilon) + beta

    below, skip = (rng.normal(size=(2, 3, 4, 2, channels)) for channels in (5, 3))
    active = np.maximum(project(below, "g") + project(skip, "x"), 0)
    coefficient = 1 / (1 + np.exp(-project(active, "psi")))
    assert coefficient.shape == (2, 3, 4, 2, 1)
    assert coefficient.std() > 0.1
    found = model([below.astype(np.float32), skip.astype(np.float32)], training=False)
    np.testing.assert_allclose(np.asarray(found), skip * coefficient, rtol=1e-4, atol=1e-5)


def test_a_closed_gate_shuts_the_skip_connection():
    model = build_model(SMALL)
    for level in range(SMALL.poolings):
        gate = model.get_layer(f"gate{level}_psi_norm")
        # beta far below zero: sigmoid -> 0 whatever comes in
        gamma, beta, mean, variance = gate.get_weights()
        gate.set_weights([gamma * 0, beta - 50, mean, variance])
    skip = model.get_layer("gate0")
    probe = type(model)(model.input, skip.output)
    image, nihss = slab()
    assert np.abs(np.asarray(probe({"image": image, "nihss": nihss}))).max() < 1e-6


@pytest.mark.parametrize(
    ("frame", "x", "y"), [("80x104", (24, 104), (12, 116)), ("96x112", (16, 112), (8, 120))]
)
def test_a_frame_leaves_zero_outside_and_costs_no_parameter(frame, x, y):
    cropped = build_model(dataclasses.replace(SMALL, frame=frame))
    assert cropped.count_params() == build_model(SMALL).count_params()
    image, nihss = slab()
    probability = np.asarray(cropped({"image": image, "nihss": nihss})["probability"])[0, ..., 0]
    inside = probability[slice(*x), slice(*y)]
    assert inside.min() > 0
    assert np.count_nonzero(probability) == inside.size
    outside = image.copy()
    outside[:, slice(*x), slice(*y)] = 0
    again = np.asarray(cropped({"image": image - outside, "nihss": nihss})["probability"])
    np.testing.assert_array_equal(again[0, ..., 0], probability)


def test_bfloat16_answers_nearly_the_same_in_float32():
    config = dataclasses.replace(SMALL, normalisation="none")
    single, half = build_model(config), build_model(config, precision="bfloat16")
    half.set_weights(single.get_weights())
    image, nihss = slab()
    a, b = (
        np.asarray(m({"image": image, "nihss": nihss}, training=False)["probability"])
        for m in (single, half)
    )
    assert b.dtype == np.float32
    assert 0 < np.abs(a - b).max() < 0.05


@pytest.mark.parametrize(
    "switch",
    [{"side_channel": False}, {"nihss_fusion": False}, {"attention_gates": False}, {}]
    + [{"normalisation": kind} for kind in ("group", "none")],
)
def test_every_form_is_saved_loaded_and_computes_in_16_bits(switch, tmp_path):
    model = build_model(dataclasses.replace(SMALL, frame="80x104", **switch))
    inside = (slice(None), *window_about_brain((80, 104)))
    model.save(tmp_path / "best.keras")
    image, nihss = slab()
    expected = np.asarray(model({"image": image, "nihss": nihss}, training=False)["probability"])
    # The mean: single voxels of a network that was not trained may be far off in bfloat16, most
    # with group normalisation, which divides by a slab's own small scatter.
    for precision, most in (("float32", 1e-6), ("bfloat16", 0.01)):
        loaded = predictors.load_predictor(tmp_path / "best.keras", precision)
        assert np.abs(loaded(image, nihss) - expected)[inside].mean() <= most


def head(seed=0):
    """A slab with a head in its middle and nothing around."""
    image, nihss = slab(seed)
    inside = np.zeros((128, 128, 16, 1), np.float32)
    inside[34:93, 20:108] = 1
    image = (0.5 + image) * inside
    image[..., 2] = image[..., 2] > 1.3
    image[..., 3] = side_frame("left")[:, :, None]
    return image, nihss


def test_presence_flags_say_what_is_given():
    model = build_model(dataclasses.replace(SMALL, presence_flags=True))
    facts = keras.Model(model.inputs, model.get_layer("facts").output)

    def of(image, nihss=0.5):
        given = {"image": image, "nihss": np.full((1, 1), nihss, np.float32)}
        return np.asarray(facts(given))[0].tolist()

    image, _ = head()
    assert of(image) == [0.5, 1, 1, 1, 1]
    assert of(image * np.float32([0, 1, 1, 1])) == [0.5, 0, 1, 1, 1]
    assert of(image * np.float32([1, 0, 0, 1])) == [0.5, 1, 0, 1, 1]
    assert of(image, -1.0) == [-1, 1, 1, 1, 0]
    assert of(image, 0.0) == [0, 1, 1, 1, 1]
    image[..., 3] = 1  # both halves: it is not told
    assert of(image) == [0.5, 1, 1, 0, 1]


@pytest.mark.parametrize("kind", ["local", "mirror"])
def test_contrast_channels_are_not_moved_by_brightness(kind):
    model = build_model(dataclasses.replace(SMALL, contrast_channels=kind))
    contrast = keras.Model(model.inputs, model.get_layer("contrast_concat").output)
    image, nihss = head()

    def of(image):
        return np.asarray(contrast({"image": image, "nihss": nihss}))[0, ..., 4:]

    plain = of(image)
    assert plain.shape[-1] == 2 and np.abs(plain).max() < 1
    assert not plain[image[0, ..., :2] == 0].any()
    np.testing.assert_allclose(of(image * np.float32([3, 3, 1, 1])), plain, atol=1e-4)
    if kind == "mirror":  # column 63 is opposite itself, and what is opposite changes sign
        brighter = image.copy()
        brighter[:, 40:50, 40:90, :, 0] *= 1.5
        change = of(brighter)[..., 0] - plain[..., 0]
        assert change[42:48, 45:85].min() > 0.1
        mirrored = change[126 - 47 : 126 - 41, 45:85]
        assert mirrored.max() < 0
        assert np.abs(change[56:70]).max() < 1e-3


def test_a_network_with_core_answers_twice_and_the_first_answer_is_the_same_kind():
    model = build_model(dataclasses.replace(SMALL, core_output=True, frame="80x104"))
    image, nihss = slab()
    answers = model({"image": image, "nihss": nihss})
    assert sorted(answers) == ["core", "probability"]
    for answer in answers.values():
        answer = np.asarray(answer)
        assert answer.shape == (1, 128, 128, 16, 1) and 0 <= answer.min() <= answer.max() <= 1
        assert not answer[:, :24].any()
