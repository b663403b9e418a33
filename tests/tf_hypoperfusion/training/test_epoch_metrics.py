"""Training-time figures: exact over batches, and padding of weight 0 counts nowhere."""

import numpy as np
import pytest

from tf_hypoperfusion.training import epoch_metrics, losses

pytestmark = pytest.mark.core

LOSS = losses.CompositeLoss(1, 2, 3)


def batch(seed, size):
    rng = np.random.default_rng(seed)
    y_true = (rng.random((size, 6, 5, 4, 2)) < 0.5).astype(np.float32)
    return y_true, rng.random((size, 6, 5, 4, 1)).astype(np.float32)


def wide_batch():
    rng = np.random.default_rng(3)
    y_true = (rng.random((1, 6, 5, 6, 2)) < [0.3, 0.9]).astype(np.float32)
    y_pred = rng.random((1, 6, 5, 6, 1)).astype(np.float32)
    y_pred[..., 2:4, :] = y_true[..., 2:4, :1]  # the middle is right
    return y_true, y_pred


def sums(y_true, y_pred, weight=None, once=None):
    weight = np.ones(len(y_true), np.float32) if weight is None else np.float32(weight)
    answers = y_pred if isinstance(y_pred, dict) else {"probability": y_pred}
    terms = losses.terms(y_true, answers)
    return np.asarray(
        epoch_metrics.batch_sums(LOSS, terms, y_true, answers, weight=weight, once=once),
        np.float64,
    )


def test_two_batches_are_one():
    """Dice over all voxels and the mean loss over all samples, whatever the batches."""
    total, overlap, voxels, each = np.zeros(8), 0, 0, []
    for seed, size in ((1, 3), (2, 2)):
        y_true, y_pred = batch(seed, size)
        total += sums(y_true, y_pred)
        covered = y_true[..., 1] > 0
        truth, mask = y_true[..., 0][covered] > 0, y_pred[..., 0][covered] >= 0.5
        overlap, voxels = overlap + (truth & mask).sum(), voxels + truth.sum() + mask.sum()
        each += list(np.asarray(LOSS.call(y_true, y_pred)))
    figures = epoch_metrics.summarise(total)
    assert figures["dice"] == pytest.approx(2 * overlap / voxels, rel=1e-5)
    assert figures["composite"] == pytest.approx(np.mean(each), rel=1e-5)
    assert set(figures) == {*epoch_metrics.MEANS, "dice"}
    parts = figures["cross_entropy"] + 2 * figures["dice_loss"] + 3 * figures["volume_error"]
    assert figures["composite"] == pytest.approx(parts, rel=1e-5)


def test_padding_of_weight_zero_changes_nothing():
    y_true, y_pred = batch(1, 3)
    padded = [np.concatenate([array, np.zeros_like(array[:2])]) for array in (y_true, y_pred)]
    np.testing.assert_allclose(sums(*padded, [1, 1, 1, 0, 0]), sums(y_true, y_pred), rtol=1e-6)


def test_a_slice_that_two_slabs_hold_counts_once_in_dice():
    """Of a volume of 6 slices in slabs of 4, the middle two count half in each."""
    y_true, y_pred = volume = wide_batch()
    slabs = [np.concatenate([array[..., s : s + 4, :] for s in (0, 2)]) for array in volume]
    once = np.float32([[1, 1, 0.5, 0.5], [0.5, 0.5, 1, 1]])
    figures = epoch_metrics.summarise(sums(*slabs, once=once))
    covered = y_true[..., 1] > 0
    truth, mask = y_true[..., 0][covered] > 0, y_pred[..., 0][covered] >= 0.5
    dice = 2 * (truth & mask).sum() / (truth.sum() + mask.sum())
    assert figures["dice"] == pytest.approx(dice, rel=1e-5)
    twice = epoch_metrics.summarise(sums(*slabs))
    assert twice["dice"] != pytest.approx(dice, rel=1e-3)
    assert {**figures, "dice": 0} == pytest.approx({**twice, "dice": 0})


def test_no_lesion_at_all_has_no_dice_and_no_sample_is_refused():
    nothing = np.zeros((1, 2, 2, 2, 2), np.float32), np.zeros((1, 2, 2, 2, 1), np.float32)
    assert np.isnan(epoch_metrics.summarise(sums(*nothing))["dice"])
    with pytest.raises(ValueError, match="no sample"):
        epoch_metrics.summarise(np.zeros(8))


def test_volume_error_in_ml_of_a_known_slab():
    y_true = np.zeros((1, 5, 5, 5, 2), np.float32)
    y_true[..., 1] = 1
    y_true[0, :2, ..., 0] = 1  # 50 voxels
    y_pred = np.zeros((1, 5, 5, 5, 1), np.float32)
    y_pred[0, :1] = 0.5  # 25 voxels
    figures = epoch_metrics.summarise(sums(y_true, y_pred))
    assert figures["volume_error_ml"] == pytest.approx(25 * 0.008)
    assert figures["dice"] == pytest.approx(2 * 25 / 75)


def test_a_core_adds_its_loss_and_dice_and_changes_no_other_figure():
    y_true, y_pred = batch(1, 3)
    core, p = batch(2, 3)
    with_core = np.concatenate([y_true, core[..., :1]], axis=-1)
    plain = epoch_metrics.summarise(sums(y_true, y_pred))
    figures = epoch_metrics.summarise(sums(with_core, {"probability": y_pred, "core": p}))
    covered = y_true[..., 1] > 0
    truth, mask = core[..., 0][covered] > 0, p[..., 0][covered] >= 0.5
    dice = 2 * (truth & mask).sum() / (truth.sum() + mask.sum())
    assert figures["core_dice"] == pytest.approx(dice, rel=1e-5)
    composite = plain["composite"] + LOSS.core_weight * figures["core_loss"]
    assert figures["composite"] == pytest.approx(composite, rel=1e-5)
    same = set(plain) - {"composite"}
    assert {k: figures[k] for k in same} == pytest.approx({k: plain[k] for k in same})
