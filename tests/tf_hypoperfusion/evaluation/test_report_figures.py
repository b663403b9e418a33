"""Figures: reliability against scikit-learn; maps that are not those of the table."""

import numpy as np
import pytest
from helpers.evaluated_cohorts import volume_pair

from tf_hypoperfusion.evaluation.report import examples, figures


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
    assert not isinstance(examples.of_all(with_counts), str)
    names = list(with_counts.table["participant_id"])
    first, last = (with_counts.map_file(name, "desc-truth_mask") for name in (names[0], names[-1]))
    kept = first.read_bytes()
    other = with_counts.map_file(names[0], "desc-coverage_mask").read_bytes()
    first.write_bytes(other)
    assert "evaluate again" in examples.of_all(with_counts)
    first.write_bytes(kept)
    last.write_bytes(b"damaged")
    assert "delete evaluation/ and evaluate again" in examples.of_all(with_counts)


def test_examples_of_subgroups_show_their_own_patients(with_counts):
    def shown(figure):
        return [t.get_text() for axes in figure.axes for t in axes.texts if "sub-" in t.get_text()]

    table = with_counts.table
    table["core_ml"], table["occlusion"] = [0.0, 1.0, 0.0, 1.0], ["M1", "M3", "ICA", None]
    names = list(table["participant_id"])
    assert examples.without_core(with_counts).get_figheight() < (  # two patients, each once
        examples.of_all(with_counts).get_figheight()
    )
    texts = shown(examples.without_core(with_counts))
    assert sorted(t.split("\n")[2] for t in texts) == [names[0], names[2]]
    (text,) = shown(examples.without_lvo(with_counts))
    assert names[1] in text and "M3" in text
    both = shown(examples.by_lvo(with_counts))
    assert len(both) == 2 and "with large" in both[0] and names[1] in both[1]
    table["core_ml"], table["occlusion"] = 5.0, None
    assert "no patient" in examples.without_core(with_counts)
    assert "no patient" in examples.without_lvo(with_counts)
    assert "known occlusion" in examples.by_lvo(with_counts)
