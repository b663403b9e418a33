"""Counts of voxels by probability against masks made at each threshold."""

import numpy as np
import pytest
from scipy.integrate import trapezoid
from sklearn.metrics import precision_recall_curve, roc_auc_score

from data_tools.grid import GRID_SHAPE, hemisphere
from tf_hypoperfusion import clinical
from tf_hypoperfusion.evaluation import patient_metrics, thresholds
from tf_hypoperfusion.evaluation.patient_metrics import STEPS, threshold_counts

pytestmark = pytest.mark.quick


@pytest.fixture(scope="module")
def volumes():
    rng = np.random.default_rng(0)
    truth = np.zeros(GRID_SHAPE, bool)
    truth[10:30, 40:60, 20:30] = True
    coverage = rng.random(GRID_SHAPE) < 0.9
    probability = np.clip(0.35 * truth + rng.normal(0.3, 0.15, GRID_SHAPE), 0, 1)
    probability = probability.astype(np.float32)
    probability[0, 0, :3] = (0.0, 0.5, 1.0)
    return {"probability": probability, "truth": truth, "coverage": coverage}


@pytest.fixture(scope="module")
def counts(volumes):
    return threshold_counts(**volumes, side="left", voxel_ml=0.004)


@pytest.mark.parametrize("k", [0, 1, 250, 499, 500, 501, 700, 999, 1000])
def test_dice_and_volume_at_any_threshold_are_those_of_the_mask(volumes, counts, k):
    probability, truth, coverage = volumes.values()
    mask = (probability.astype(np.float64) >= k / STEPS) & coverage
    assert counts.volume_ml()[k] == pytest.approx(mask.sum() * 0.004)
    assert counts.dice()[k] == pytest.approx(patient_metrics.dice(mask, truth=truth & coverage))


def test_at_the_papers_threshold_they_are_the_patients_own_figures(volumes, counts):
    figures = patient_metrics.patient_metrics(**volumes, side="left", voxel_ml=0.004)
    assert counts.dice()[STEPS // 2] == pytest.approx(figures.dice)
    assert counts.volume_ml()[STEPS // 2] == pytest.approx(figures.predicted_ml)


def test_curves_of_the_hemisphere_are_scikit_learns(volumes, counts):
    probability, truth, coverage = volumes.values()
    region = coverage & hemisphere("left")
    false, true = counts.roc()
    area = trapezoid(true[::-1], false[::-1])
    assert area == pytest.approx(roc_auc_score(truth[region], probability[region]), abs=1e-4)
    precision, recall = counts.precision_recall()
    expected = precision_recall_curve(truth[region], probability[region] >= 0.5)
    assert precision[500] == pytest.approx(expected[0][1])
    assert recall[500] == pytest.approx(expected[1][1])


def test_without_a_lesion_there_is_a_volume_and_nothing_else(volumes):
    _, truth, coverage = volumes.values()
    without = volumes | {"truth": np.zeros_like(truth)}
    counts = threshold_counts(**without, side="left", voxel_ml=0.008)
    assert counts.dice() is None and counts.roc() is None and counts.precision_recall() is None
    assert counts.volume_ml()[0] == pytest.approx(coverage.sum() * 0.008)


def test_the_chosen_threshold_has_the_highest_mean_dice(counts):
    k = round(thresholds.choose([counts]) * STEPS)
    allowed = counts.dice()[50:951]
    assert counts.dice()[k] == allowed.max()
    assert thresholds.choose([]) == 0.5


def test_figures_at_a_chosen_threshold(counts):
    figures = thresholds.at(counts, 0.4, core_ml=3.0)
    assert figures.dice == pytest.approx(counts.dice()[400])
    assert figures.predicted_ml == pytest.approx(counts.volume_ml()[400])
    expected = clinical.defuse3(counts.volume_ml()[400], 3.0).target_mismatch
    assert figures.target_mismatch is expected


def test_decisions_at_thresholds_are_those_of_single_patients(counts):
    bins = np.array([100, 500, 800])
    for core_ml in (0.0, 12.0, 80.0):
        found = thresholds.target_mismatch([counts], np.array([core_ml]), bins)[0]
        expected = [clinical.defuse3(counts.volume_ml()[k], core_ml).target_mismatch for k in bins]
        assert found.tolist() == expected
