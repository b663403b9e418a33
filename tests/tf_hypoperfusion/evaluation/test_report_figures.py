"""Figures: reliability against scikit-learn; maps that are not those of the table."""

import numpy as np
import pytest
from helpers.evaluated_cohorts import volume_pair

from tf_hypoperfusion.evaluation.report import figures


def test_calibration_is_scikit_learns(with_counts):
    from sklearn.calibration import calibration_curve

    mean, observed, voxels, error = figures.calibration(with_counts.counts)
    pairs = [volume_pair(shift) for shift in (0, 2, 6, 30)]
    probability = np.concatenate([p.ravel() for p, _ in pairs])
    truth = np.concatenate([t.ravel() for _, t in pairs])
    expected_share, expected_mean = calibration_curve(truth, probability, n_bins=10)
    np.testing.assert_allclose(observed, expected_share, atol=1e-3)
    np.testing.assert_allclose(mean, expected_mean, atol=1e-3)
    assert voxels.sum() == truth.size
    assert error == pytest.approx(np.average(abs(mean - observed), weights=voxels))


def test_maps_that_are_not_those_of_the_table_are_not_drawn(with_counts):
    assert not isinstance(figures.examples(with_counts), str)
    names = list(with_counts.table["participant_id"])
    first, last = (with_counts.map_file(name, "desc-truth_mask") for name in (names[0], names[-1]))
    kept = first.read_bytes()
    other = with_counts.map_file(names[0], "desc-coverage_mask").read_bytes()
    first.write_bytes(other)
    assert "evaluate again" in figures.examples(with_counts)
    first.write_bytes(kept)
    last.write_bytes(b"damaged")
    assert "delete evaluation/ and evaluate again" in figures.examples(with_counts)
