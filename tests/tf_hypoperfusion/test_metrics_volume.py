"""Per-patient figures against hand-made volumes and a rank-sum AUC."""

import numpy as np
import pytest
from scipy.stats import mannwhitneyu

from data_tools.grid import GRID_SHAPE, hemisphere
from tf_hypoperfusion.metrics_volume import auc, dice, patient_metrics


@pytest.fixture
def patient():
    rng = np.random.default_rng(0)
    truth = np.zeros(GRID_SHAPE, bool)
    truth[10:20, 40:50, 20:30] = True  # left, 1000 voxels
    coverage = np.zeros(GRID_SHAPE, bool)
    coverage[5:86, 30:80, 10:50] = True
    probability = rng.uniform(0, 0.49, GRID_SHAPE).astype(np.float32)
    probability[15:25, 40:50, 20:30] = 0.5  # half of it right; 0.5 itself counts
    return probability, truth, coverage


def test_figures_of_a_known_overlap(patient):
    figures = patient_metrics(*patient, side="left", voxel_ml=0.008)
    assert figures["dice"] == pytest.approx(0.5)
    assert figures["truth_ml"] == pytest.approx(8)
    assert figures["predicted_ml"] == pytest.approx(8)
    assert figures["volume_difference_ml"] == pytest.approx(0)


def test_only_coverage_counts(patient):
    probability, truth, coverage = patient
    coverage[15:] = False  # cuts off the false half of the prediction and half of the truth
    figures = patient_metrics(probability, truth, coverage, "left", 0.008)
    assert figures["truth_ml"] == pytest.approx(4)
    assert figures["predicted_ml"] == 0
    assert figures["dice"] == 0


def test_auc_is_the_rank_sum_in_the_stroke_hemisphere(patient):
    probability, truth, coverage = patient
    for side in ("left", "bilateral"):
        region = coverage & hemisphere(side)
        inside, outside = probability[region & truth], probability[region & ~truth]
        expected = mannwhitneyu(inside, outside).statistic / (inside.size * outside.size)
        figures = patient_metrics(probability, truth, coverage, side, 0.008)
        assert figures["auc"] == pytest.approx(expected, abs=1e-9)
    assert (
        patient_metrics(*patient, side="right", voxel_ml=0.008)["auc"] is None
    )  # no lesion on that side


def test_without_a_lesion_no_dice_and_no_auc_but_volumes(patient):
    probability, truth, coverage = patient
    figures = patient_metrics(probability, np.zeros_like(truth), coverage, "left", 0.008)
    assert figures["dice"] is None
    assert figures["auc"] is None
    assert figures["volume_difference_ml"] == pytest.approx(8)


def test_auc_needs_both_classes():
    ones = np.ones(4, bool)
    assert auc(np.arange(4), ones, ones) is None
    assert dice(ones, ~ones) is None


def test_ml_are_of_the_patients_tissue(patient):
    figures = patient_metrics(*patient, side="left", voxel_ml=0.005)
    assert figures["truth_ml"] == pytest.approx(5)
