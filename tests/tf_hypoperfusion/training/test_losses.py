"""The loss against numpy, its worked numbers, its gradient and its bounds."""

import keras
import numpy as np
import pytest

from tf_hypoperfusion.training import losses

pytestmark = pytest.mark.core


def voxels(truth, prediction, coverage=None):
    """Lists of voxels -> y_true (1, n, 1, 1, 2), y_pred (1, n, 1, 1, 1)."""
    coverage = np.ones(len(truth)) if coverage is None else coverage
    y_true = np.stack([truth, coverage], axis=-1).astype(np.float32)
    return y_true[None, :, None, None, :], np.float32(prediction)[None, :, None, None, None]


def value(function, *arguments, **options):
    result = np.asarray(function(*voxels(*arguments, **options)))
    assert result.shape == (1,)
    return float(result[0])


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (losses.cross_entropy, 0.3670),
        (losses.dice_loss, 0.1875),
        (losses.volume_error, 0.0625),
        (losses.CompositeLoss().call, 0.4764),
    ],
)
def test_worked_numbers_of_the_docstrings(function, expected):
    assert value(function, [1, 0], [0.8, 0.4]) == pytest.approx(expected, abs=5e-5)


def test_composite_against_numpy_on_random_slabs():
    rng = np.random.default_rng(3)
    truth = (rng.random((3, 8, 7, 6, 1)) < 0.2).astype(np.float32)
    coverage = (rng.random((3, 8, 7, 6, 1)) < 0.7).astype(np.float32)
    prediction = rng.uniform(0.01, 0.99, (3, 8, 7, 6, 1)).astype(np.float32)
    expected = []
    for t, c, p in zip(truth, coverage, prediction, strict=True):
        t, p = t[c > 0].astype(np.float64), p[c > 0].astype(np.float64)
        entropy = -np.mean(t * np.log(p) + (1 - t) * np.log(1 - p))
        dice = 1 - (2 * (t * p).sum() + 1) / (t.sum() + p.sum() + 1)
        volume = abs(p.sum() - t.sum()) / (p.sum() + t.sum() + 1)
        expected.append(2 * entropy + 3 * dice + 4 * volume)
    loss = losses.CompositeLoss(bce_weight=2, dice_weight=3, volume_weight=4)
    each = np.asarray(loss.call(np.concatenate([truth, coverage], axis=-1), prediction))
    assert each.shape == (3,)
    np.testing.assert_allclose(each, expected, rtol=1e-5)


def test_voxels_outside_coverage_count_nowhere():
    inside = value(losses.CompositeLoss().call, [1, 0], [0.8, 0.4])
    for wild in (0.0, 1.0):
        outside = value(
            losses.CompositeLoss().call, [1, 0, 1], [0.8, 0.4, wild], coverage=[1, 1, 0]
        )
        assert outside == pytest.approx(inside, rel=1e-6)


def test_no_coverage_is_no_loss():
    assert value(losses.CompositeLoss().call, [1, 0], [0.8, 0.4], coverage=[0, 0]) == 0


@pytest.mark.parametrize("function", [losses.dice_loss, losses.volume_error])
def test_empty_truth_and_empty_prediction_are_perfect(function):
    assert value(function, [0, 0], [0, 0]) == 0


@pytest.mark.parametrize("function", [losses.dice_loss, losses.volume_error])
def test_bounded_by_one_on_slabs_without_a_lesion(function):
    assert 0.9 < value(function, [0] * 5000, [1] * 5000) < 1


def test_extreme_probabilities_stay_finite():
    assert np.isfinite(value(losses.cross_entropy, [1, 0], [0, 1]))


@pytest.mark.parametrize("truth", [[1, 0, 0], [0, 0, 0]], ids=["lesion", "no lesion"])
def test_volume_error_has_the_gradient_of_its_formula(truth):
    tf = pytest.importorskip("tensorflow")
    y_true, y_pred = voxels(truth, [0.9, 0.6, 0.3])
    prediction = tf.Variable(y_pred)
    with tf.GradientTape() as tape:
        loss = losses.volume_error(y_true, prediction)
    gradient = np.asarray(tape.gradient(loss, prediction)).ravel()
    # d/dp (p - t) / (p + t + 1) = (2 t + 1) / (p + t + 1)^2 for p > t, at each voxel
    p, t = 1.8, sum(truth)
    np.testing.assert_allclose(gradient, (2 * t + 1) / (p + t + 1) ** 2, rtol=1e-5)


def test_loss_comes_back_from_its_configuration():
    loss = losses.CompositeLoss(1, 2, 3)
    again = keras.losses.deserialize(keras.losses.serialize(loss))
    assert again.get_config() == loss.get_config()
    assert (again.bce_weight, again.dice_weight, again.volume_weight) == (1, 2, 3)
