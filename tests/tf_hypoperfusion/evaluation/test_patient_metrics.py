"""Per-patient figures against hand-made volumes and a rank-sum AUC."""

import numpy as np
import pytest
from scipy.stats import mannwhitneyu

from data_tools.grid import GRID_SHAPE, hemisphere
from tf_hypoperfusion.evaluation.patient_metrics import auc, dice, patient_metrics, surface_figures

pytestmark = pytest.mark.quick


@pytest.fixture
def patient():
    rng = np.random.default_rng(0)
    truth = np.zeros(GRID_SHAPE, bool)
    truth[10:20, 40:50, 20:30] = True  # left, 1000 voxels
    coverage = np.zeros(GRID_SHAPE, bool)
    coverage[5:86, 30:80, 10:50] = True
    probability = rng.uniform(0, 0.49, GRID_SHAPE).astype(np.float32)
    probability[15:25, 40:50, 20:30] = 0.5  # half of it right; 0.5 itself counts
    return {"probability": probability, "truth": truth, "coverage": coverage}


def test_figures_of_a_known_overlap(patient):
    figures = patient_metrics(**patient, side="left", voxel_ml=0.008)
    assert figures.dice == pytest.approx(0.5)
    assert figures.truth_ml == pytest.approx(8)
    assert figures.predicted_ml == pytest.approx(8)
    assert figures.volume_difference_ml == pytest.approx(0)


def test_only_coverage_counts(patient):
    # Cuts off the false half of the prediction and half of the truth.
    patient["coverage"][15:] = False
    figures = patient_metrics(**patient, side="left", voxel_ml=0.008)
    assert figures.truth_ml == pytest.approx(4)
    assert figures.predicted_ml == 0
    assert figures.dice == 0


def test_auc_is_the_rank_sum_in_the_stroke_hemisphere(patient):
    probability, truth, coverage = patient.values()
    for side in ("left", "bilateral"):
        region = coverage & hemisphere(side)
        inside, outside = probability[region & truth], probability[region & ~truth]
        expected = mannwhitneyu(inside, outside).statistic / (inside.size * outside.size)
        figures = patient_metrics(**patient, side=side, voxel_ml=0.008)
        assert figures.auc == pytest.approx(expected, abs=1e-9)
    assert (
        patient_metrics(**patient, side="right", voxel_ml=0.008).auc is None
    )  # no lesion on that side


def test_without_a_lesion_no_dice_and_no_auc_but_volumes(patient):
    patient["truth"] = np.zeros_like(patient["truth"])
    figures = patient_metrics(**patient, side="left", voxel_ml=0.008)
    assert figures.dice is None
    assert figures.auc is None
    assert figures.volume_difference_ml == pytest.approx(8)


def test_auc_needs_both_classes():
    ones = np.ones(4, bool)
    assert auc(np.arange(4), truth=ones, region=ones) is None
    assert dice(ones, truth=~ones) is None


def test_ml_are_of_the_patients_tissue(patient):
    figures = patient_metrics(**patient, side="left", voxel_ml=0.005)
    assert figures.truth_ml == pytest.approx(5)


def test_precision_and_recall_of_a_known_overlap(patient):
    figures = patient_metrics(**patient, side="left", voxel_ml=0.008)
    assert figures.precision == pytest.approx(0.5)
    assert figures.recall == pytest.approx(0.5)


def cube(first, size=10):
    mask = np.zeros(GRID_SHAPE, bool)
    mask[tuple(slice(k, k + size) for k in first)] = True
    return mask


def test_surfaces_of_a_shifted_cube():
    truth = cube((20, 40, 20))
    assert surface_figures(truth, truth=truth) == (0.0, 1.0)
    # Shifted by three voxels: a face and its opposite are 6 mm away, over the tolerance of 4 mm.
    hd95_mm, surface_dice = surface_figures(cube((23, 40, 20)), truth=truth)
    assert hd95_mm == pytest.approx(6.0, abs=0.1)
    assert 0.5 < surface_dice < 0.9
    # By one voxel: 2 mm, within the tolerance everywhere.
    assert surface_figures(cube((21, 40, 20)), truth=truth)[1] == pytest.approx(1.0)


def test_hd95_is_near_that_of_distance_transforms():
    from scipy.ndimage import binary_erosion, distance_transform_edt

    truth, prediction = cube((20, 40, 20), 14), cube((26, 44, 22), 9)
    edges = [m & ~binary_erosion(m) for m in (truth, prediction)]
    distances = [distance_transform_edt(~edges[1 - k], sampling=2.0)[edges[k]] for k in (0, 1)]
    expected = max(np.percentile(d, 95) for d in distances)
    # Ours weighs surface elements by their area and puts them between voxels.
    assert surface_figures(prediction, truth=truth)[0] == pytest.approx(expected, abs=2.0)


def test_empty_masks_have_no_distance():
    mask, empty = cube((20, 40, 20)), np.zeros(GRID_SHAPE, bool)
    assert surface_figures(mask, truth=empty) == (None, None)
    assert surface_figures(empty, truth=mask) == (None, 0.0)
    assert surface_figures(empty, truth=empty) == (None, None)


def test_an_empty_prediction_has_no_precision_and_a_recall_of_zero(patient):
    patient["probability"] = np.zeros(GRID_SHAPE, np.float32)
    figures = patient_metrics(**patient, side="left", voxel_ml=0.008)
    assert figures.precision is None and figures.recall == 0 and figures.dice == 0
    assert figures.hd95_mm is None and figures.surface_dice == 0
