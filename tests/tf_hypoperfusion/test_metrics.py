"""Training-time metrics: exact over batches, and padding of weight 0 counts nowhere."""

import numpy as np
import pytest

from tf_hypoperfusion import losses, metrics

pytestmark = pytest.mark.core


def batch(seed, size):
    rng = np.random.default_rng(seed)
    y_true = (rng.random((size, 6, 5, 4, 2)) < 0.5).astype(np.float32)
    return y_true, rng.random((size, 6, 5, 4, 1)).astype(np.float32)


def test_dice_over_two_batches_is_that_of_all_voxels():
    metric = metrics.Dice()
    overlap = total = 0.0
    for seed, size in ((1, 3), (2, 2)):
        y_true, y_pred = batch(seed, size)
        metric.update_state(y_true, y_pred, np.ones(size, np.float32))
        covered = y_true[..., 1] > 0
        truth, mask = y_true[..., 0][covered] > 0, y_pred[..., 0][covered] >= 0.5
        overlap, total = overlap + (truth & mask).sum(), total + truth.sum() + mask.sum()
    assert float(metric.result()) == pytest.approx(2 * overlap / total, rel=1e-5)


def test_padding_of_weight_zero_changes_no_metric():
    y_true, y_pred = batch(1, 3)
    padded = [np.concatenate([array, np.zeros_like(array[:2])]) for array in (y_true, y_pred)]
    weight = np.float32([1, 1, 1, 0, 0])
    for metric in metrics.training_metrics(losses.CompositeLoss()):
        metric.update_state(y_true, y_pred, np.ones(3, np.float32))
        alone = float(metric.result())
        metric.reset_state()
        metric.update_state(*padded, weight)
        assert float(metric.result()) == pytest.approx(alone, rel=1e-5), metric.name


def test_composite_metric_is_the_mean_loss():
    y_true, y_pred = batch(4, 5)
    loss = losses.CompositeLoss(1, 2, 3)
    (metric,) = (m for m in metrics.training_metrics(loss) if m.name == "composite")
    metric.update_state(y_true, y_pred)
    expected = np.asarray(loss.call(y_true, y_pred)).mean()
    assert float(metric.result()) == pytest.approx(expected, rel=1e-5)


def test_no_lesion_at_all_gives_dice_zero():
    metric = metrics.Dice()
    metric.update_state(np.zeros((1, 2, 2, 2, 2), np.float32), np.zeros((1, 2, 2, 2, 1)))
    assert float(metric.result()) == 0


def test_volume_error_in_ml_of_a_known_slab():
    y_true = np.zeros((1, 5, 5, 5, 2), np.float32)
    y_true[..., 1] = 1
    y_true[0, :2, ..., 0] = 1  # 50 voxels
    y_pred = np.zeros((1, 5, 5, 5, 1), np.float32)
    y_pred[0, :1] = 0.5  # 25 voxels
    assert float(np.asarray(metrics.volume_error_ml(y_true, y_pred))[0]) == pytest.approx(
        25 * 0.008
    )
