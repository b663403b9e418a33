"""Micro-batches against the whole batch, and the averaged weights against their formula."""

import keras
import numpy as np
import pytest

from data_tools.grid import window_about_brain
from data_tools.runtime.errors import InputError
from tf_hypoperfusion.config import preset
from tf_hypoperfusion.model.attention_unet import build_model
from tf_hypoperfusion.model.keras_compat import build_optimizer_variables, to_numpy
from tf_hypoperfusion.training import distribution
from tf_hypoperfusion.training.losses import CompositeLoss
from tf_hypoperfusion.training.precision import choose_precision
from tf_hypoperfusion.training.step import TrainingStep

pytestmark = pytest.mark.core

BATCH = 4


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(0)
    image = rng.random((BATCH, 128, 128, 16, 4)).astype(np.float32)
    y_true = (rng.random((BATCH, 128, 128, 16, 2)) < [0.2, 0.8]).astype(np.float32)
    y_true[0, ..., 0] = 0  # no lesion: the terms of the samples differ much
    brain = np.zeros((128, 128), bool)
    brain[window_about_brain(preset("tiny").model.frame_shape)] = True
    y_true[:, ~brain] = 0
    inputs = {"image": image, "nihss": rng.random((BATCH, 1)).astype(np.float32)}
    return inputs, y_true, np.ones(BATCH, np.float32)


def make(micro_batches=1, ema=0.0, **changes):
    changes = {"poolings": 1, "normalisation": "none", "dropout": 0.0} | changes
    model_config, config = preset("tiny", **changes)
    keras.utils.set_random_seed(3)
    strategy = distribution.choose_strategy()
    with strategy.scope():
        model = build_model(model_config, config.precision, 3, for_training=True)
        kept = model
        if ema:
            kept = build_model(model_config, config.precision, 3)
            kept.set_weights(model.get_weights())
        # Plain gradient descent shows the gradient itself.
        optimizer = keras.optimizers.SGD(0.1)
        build_optimizer_variables(optimizer, model.trainable_variables)
    return TrainingStep(
        strategy,
        model_config,
        model=model,
        kept=kept,
        loss=CompositeLoss(),
        optimizer=optimizer,
        batch_size=BATCH,
        micro_batches=micro_batches,
        ema_momentum=ema,
    )


def parts(batch, count):
    inputs, y_true, weight = batch
    size = BATCH // count
    return iter(
        [
            ({k: v[i : i + size] for k, v in inputs.items()}, y_true[i : i + size], weight[:size])
            for i in range(0, BATCH, size)
        ]
    )


def weights(model):
    return [to_numpy(variable) for variable in model.trainable_variables]


def stepped(batch, count, **changes):
    step = make(count, **changes)
    before = weights(step.model)
    sums, waited = step.train(parts(batch, count), 0)
    assert waited >= 0
    gradients = [(b - a) / 0.1 for a, b in zip(weights(step.model), before, strict=True)]
    return gradients, sums.numpy()


@pytest.fixture(scope="module")
def whole_batch(batch):
    """Gradients and sums of a step of the whole batch. Read only."""
    return stepped(batch, 1)


def test_micro_batches_give_the_gradient_of_the_whole_batch(batch, whole_batch):
    whole, sums = whole_batch
    assert max(np.abs(g).max() for g in whole) > 1e-3
    for count in (2, 4):
        gradients, part_sums = stepped(batch, count)
        np.testing.assert_allclose(part_sums, sums, rtol=1e-5)
        for one, other in zip(gradients, whole, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-3, atol=2e-6)


def test_batch_normalisation_sees_the_difference(batch):
    """Documented: its moments are those of a micro-batch."""
    whole, _ = stepped(batch, 1, normalisation="batch")
    gradients, _ = stepped(batch, 2, normalisation="batch")
    pairs = zip(gradients, whole, strict=True)
    assert not all(np.allclose(a, b, rtol=1e-3, atol=2e-6) for a, b in pairs)


def test_gradients_are_cleared_after_a_step(batch):
    """Two steps of micro-batches are two steps of whole batches."""
    ends = []
    for count in (1, 2):
        step = make(count)
        for k in range(2):
            step.train(parts(batch, count), k)
        ends.append(weights(step.model))
    for one, other in zip(*ends, strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-3, atol=1e-5)


def test_averaged_weights_follow_their_formula(batch):
    """a <- m a + (1 - m) w, m = min(momentum, (1 + n) / (10 + n)) before step n."""
    step = make(ema=0.3)
    average = weights(step.kept)
    for n in range(4):
        step.train(parts(batch, 1), n)
        momentum = min(0.3, (1 + n) / (10 + n))
        now = weights(step.model)
        average = [momentum * a + (1 - momentum) * w for a, w in zip(average, now, strict=True)]
        for ours, expected in zip(weights(step.kept), average, strict=True):
            np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-7)
    assert any(
        not np.allclose(a, b) for a, b in zip(weights(step.kept), weights(step.model), strict=True)
    )


def test_evaluation_uses_the_kept_weights_and_no_dropout(batch):
    step = make(ema=0.9, dropout=0.5)
    first = step.evaluate(parts(batch, 2), 2)
    np.testing.assert_array_equal(step.evaluate(parts(batch, 2), 2), first)
    for variable in step.kept.trainable_variables:
        variable.assign(np.zeros(variable.shape, np.float32))
    zero = step.evaluate(parts(batch, 2), 2)
    assert zero[0] == first[0] == BATCH
    # Weights of 0 answer 0.5 everywhere: cross entropy ln 2.
    assert zero[2] / BATCH == pytest.approx(np.log(2), rel=1e-4)


def test_bfloat16_is_near_float32_and_its_sums_are_float32(batch, whole_batch):
    try:
        choose_precision("bfloat16")
    except InputError as refusal:
        pytest.skip(str(refusal))
    exact, sums = whole_batch
    rough, rough_sums = stepped(batch, 1, precision="bfloat16")
    assert rough_sums.dtype == np.float32
    np.testing.assert_allclose(rough_sums, sums, rtol=0.05)
    # Also every bias: TensorFlow's own gradient of it is a thirtieth here (see fast_layers).
    for one, other in zip(rough, exact, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=0.05 * np.abs(other).max())
