"""Label clean-up on a hand-made volume whose clusters are known to the voxel.

Voxels of 0.008 mL: 125 make 1 mL (smallest hypoperfusion), 25 make 0.2 mL (smallest core).
"""

import numpy as np
import pytest

from data_tools.labels import core_mask, hypoperfusion_mask, make_labels, remove_small_clusters
from data_tools.runtime.errors import InputError

pytestmark = [pytest.mark.core, pytest.mark.quick]

SHAPE = (40, 40, 20)
VOXEL_ML = 0.008
DWI_TISSUE, ADC_TISSUE, TMAX_TISSUE = 100.0, 800.0, 2.0


def box(*start, size):
    return tuple(slice(s, s + n) for s, n in zip(start, size, strict=True))


def healthy():
    """DWI, ADC, Tmax and brain of a head without a lesion, with a margin around the brain."""
    brain = np.zeros(SHAPE, bool)
    brain[2:-2, 2:-2, 1:-1] = True
    images = (DWI_TISSUE, ADC_TISSUE, TMAX_TISSUE)
    return (*(np.where(brain, value, 0).astype(np.float32) for value in images), brain)


def paint(region, **values):
    """The healthy head with ``values`` in ``region``; the DWI's mean moves by under 2%."""
    dwi, adc, tmax, brain = healthy()
    images = {"dwi": dwi, "adc": adc, "tmax": tmax}
    for name, value in values.items():
        images[name][region] = value
    return images["dwi"], images["adc"], images["tmax"], brain


def test_a_healthy_head_has_neither_core_nor_hypoperfusion():
    dwi, adc, tmax, brain = healthy()
    labels = make_labels(dwi, adc, tmax, brain=brain, coverage=brain, voxel_ml=VOXEL_ML)
    assert not labels.core.any()
    assert not labels.hypoperfusion.any()
    assert not labels.truth.any()
    np.testing.assert_array_equal(labels.coverage, brain)


@pytest.mark.parametrize(("extra", "kept"), [(0, 125), (-1, 0)], ids=["1 mL", "a voxel less"])
def test_hypoperfusion_of_one_ml_stays_and_one_voxel_less_goes(extra, kept):
    region = box(10, 10, 5, size=(5, 5, 5))
    _, adc, tmax, brain = paint(region, tmax=9.0)
    if extra:
        tmax[10, 10, 5] = TMAX_TISSUE
    assert (
        hypoperfusion_mask(tmax, adc_um2_per_s=adc, coverage=brain, voxel_ml=VOXEL_ML).sum() == kept
    )


@pytest.mark.parametrize(("length", "kept"), [(5, 25), (4, 0)], ids=["25 voxels", "20 voxels"])
def test_core_of_a_fifth_of_a_ml_stays_and_less_goes(length, kept):
    region = box(10, 10, 5, size=(5, 1, length))
    dwi, adc, _, brain = paint(region, dwi=200.0, adc=450.0)
    assert core_mask(dwi, adc, brain, VOXEL_ML).sum() == kept


def test_the_limit_itself_counts_despite_rounding():
    mask = np.zeros((10, 10, 10), bool)
    mask[:5, :5, :5] = True
    for voxel_ml in (0.008, 1 / 125, 0.1**3 * 8):
        assert remove_small_clusters(mask, 125 * 0.008, voxel_ml).sum() == 125
    assert not remove_small_clusters(mask, 1.001, 0.008).any()


def test_clusters_that_touch_at_a_corner_are_one():
    mask = np.zeros((8, 8, 8), bool)
    mask[:4, :4, :4] = mask[4:, 4:, 4:] = True
    assert remove_small_clusters(mask, 128, 1.0).sum() == 128
    mask[4:, 4:, 4] = False  # a gap of one slice parts them
    assert not remove_small_clusters(mask, 65, 1.0).any()


def test_no_cluster_at_all_gives_an_empty_mask():
    kept = remove_small_clusters(np.zeros((3, 3, 3), bool), 1.0, 1.0)
    assert kept.shape == (3, 3, 3)
    assert not kept.any()


@pytest.mark.parametrize(("thickness", "kept"), [(2, False), (3, True)])
def test_a_skin_two_voxels_thick_goes_and_three_stay(thickness, kept):
    region = box(5, 5, 8, size=(25, 25, thickness))
    _, adc, tmax, brain = paint(region, tmax=9.0)
    mask = hypoperfusion_mask(tmax, adc_um2_per_s=adc, coverage=brain, voxel_ml=VOXEL_ML)
    assert mask.sum() == (25 * 25 * thickness if kept else 0)


@pytest.mark.parametrize(("tmax_s", "kept"), [(6.0, 216), (5.99, 0)])
def test_hypoperfusion_begins_at_six_seconds(tmax_s, kept):
    _, adc, tmax, brain = paint(box(10, 10, 5, size=(6, 6, 6)), tmax=tmax_s)
    assert (
        hypoperfusion_mask(tmax, adc_um2_per_s=adc, coverage=brain, voxel_ml=VOXEL_ML).sum() == kept
    )


@pytest.mark.parametrize(("adc_um2_per_s", "kept"), [(2000.0, 0), (1999.0, 216)])
def test_csf_is_never_hypoperfused(adc_um2_per_s, kept):
    _, adc, tmax, brain = paint(box(10, 10, 5, size=(6, 6, 6)), tmax=9.0, adc=adc_um2_per_s)
    assert (
        hypoperfusion_mask(tmax, adc_um2_per_s=adc, coverage=brain, voxel_ml=VOXEL_ML).sum() == kept
    )


@pytest.mark.parametrize(
    ("dwi_value", "kept"), [(130.0, 216), (115.0, 0)], ids=["bright", "not bright"]
)
def test_low_adc_without_a_bright_dwi_is_no_core(dwi_value, kept):
    dwi, adc, _, brain = paint(box(10, 10, 5, size=(6, 6, 6)), dwi=dwi_value, adc=450.0)
    dwi[10, 10, 5:11] = dwi[11, 10, 5] = 200.0
    # Seven voxels are too small a cluster alone.
    assert core_mask(dwi, adc, brain, VOXEL_ML).sum() == kept


@pytest.mark.parametrize("side", [16, 30], ids=["33 mL", "216 mL of 240"])
def test_a_large_even_core_counts_however_much_of_the_brain_it_is(side):
    shape = (32, 32, 32)
    dwi, adc = np.full(shape, 100, np.float32), np.full(shape, 800, np.float32)
    region = (slice(1, 1 + side),) * 3
    dwi[region], adc[region] = 162, 400  # nowhere 1.8 times tissue
    found = core_mask(dwi, adc, np.ones(shape, bool), VOXEL_ML)
    assert found.sum() == side**3


@pytest.mark.parametrize(("bright", "kept"), [(7, 216), (6, 0)], ids=["0.056 mL", "0.048 mL"])
def test_a_cluster_that_is_nowhere_as_bright_as_a_core_is_none(bright, kept):
    dwi, adc, _, brain = paint(box(10, 10, 5, size=(6, 6, 6)), dwi=150.0, adc=450.0)
    dwi[10:12, 10:14, 5].flat[:bright] = 200.0
    assert core_mask(dwi, adc, brain, VOXEL_ML).sum() == kept


@pytest.mark.parametrize(("adc_um2_per_s", "kept"), [(620.0, 216), (620.1, 0), (0.0, 0)])
def test_core_reaches_to_620_and_needs_an_adc(adc_um2_per_s, kept):
    region = box(10, 10, 5, size=(6, 6, 6))
    dwi, adc, _, brain = paint(region, dwi=200.0, adc=adc_um2_per_s)
    assert core_mask(dwi, adc, brain, VOXEL_ML).sum() == kept


def test_core_and_hypoperfusion_stop_at_the_brains_edge():
    region = (slice(0, 12), slice(10, 20), slice(5, 15))
    dwi, adc, tmax, brain = paint(region, dwi=200.0, adc=450.0, tmax=9.0)
    labels = make_labels(
        dwi, adc, tmax, brain=brain, coverage=np.ones(SHAPE, bool), voxel_ml=VOXEL_ML
    )
    inside = 10 * 10 * 10
    assert labels.core.sum() == labels.hypoperfusion.sum() == inside
    np.testing.assert_array_equal(labels.coverage, brain)


def test_truth_is_the_union_inside_coverage():
    core, delayed = box(8, 8, 6, size=(6, 6, 6)), box(12, 12, 6, size=(10, 10, 8))
    dwi, adc, tmax, brain = paint(core, dwi=200.0, adc=450.0)
    tmax[delayed] = 9.0
    coverage = brain.copy()
    coverage[:, :, :8] = False
    labels = make_labels(dwi, adc, tmax, brain=brain, coverage=coverage, voxel_ml=VOXEL_ML)
    expected = np.zeros(SHAPE, bool)
    expected[core] = expected[delayed] = True
    np.testing.assert_array_equal(labels.truth, expected & coverage)
    # Paper: only voxels with both diffusion and perfusion count, so core and truth are comparable.
    seen = np.zeros(SHAPE, bool)
    seen[core] = True
    np.testing.assert_array_equal(labels.core, seen & coverage)
    assert labels.core.sum() == 144
    assert not labels.hypoperfusion[:, :, :8].any()


def test_an_edited_truth_wins_over_both_thresholds():
    dwi, adc, tmax, brain = paint(box(10, 10, 5, size=(6, 6, 6)), dwi=200.0, adc=450.0, tmax=9.0)
    edited = np.zeros(SHAPE, bool)
    edited[30, 30, 10] = True  # far too small for the clean-up, and elsewhere
    edited[0, 0, 0] = True  # outside the brain
    labels = make_labels(
        dwi, adc, tmax, brain=brain, coverage=brain, voxel_ml=VOXEL_ML,
        edited=edited, edited_is_truth=True,
    )  # fmt: skip
    np.testing.assert_array_equal(np.argwhere(labels.truth), [[30, 30, 10]])
    assert labels.core.sum() == labels.hypoperfusion.sum() == 216


def test_an_edited_hypoperfusion_is_united_with_the_core():
    """The paper's truth is the union, of edited segmentations too."""
    dwi, adc, tmax, brain = paint(box(10, 10, 5, size=(6, 6, 6)), dwi=200.0, adc=450.0, tmax=9.0)
    edited = np.zeros(SHAPE, bool)
    edited[30, 30, 10] = True
    coverage = brain.copy()
    coverage[..., 10:] = False
    coverage[30, 30, 10] = True
    for tmax_s in (tmax, None):
        labels = make_labels(
            dwi, adc, tmax_s, brain=brain, coverage=coverage, voxel_ml=VOXEL_ML, edited=edited
        )
        np.testing.assert_array_equal(labels.truth, (labels.core | edited) & coverage)
        assert labels.core.sum() == 180 and labels.truth.sum() == 181


def test_a_known_core_is_what_a_core_output_learns_and_nothing_else():
    dwi, adc, tmax, brain = paint(box(10, 10, 5, size=(6, 6, 6)), dwi=200.0, adc=450.0, tmax=9.0)
    known = np.zeros(SHAPE, bool)
    known[30, 30, 8:12] = True
    coverage = brain.copy()
    coverage[..., 10:] = False
    given = {"brain": brain, "coverage": coverage, "voxel_ml": VOXEL_ML}
    by_rule = make_labels(dwi, adc, tmax, **given)
    np.testing.assert_array_equal(by_rule.core_truth, by_rule.core)
    with_core = make_labels(dwi, adc, tmax, known_core=known, **given)
    np.testing.assert_array_equal(np.argwhere(with_core.core_truth), [[30, 30, 8], [30, 30, 9]])
    for name in ("core", "truth", "hypoperfusion", "coverage"):
        np.testing.assert_array_equal(getattr(with_core, name), getattr(by_rule, name))
    none = make_labels(dwi, adc, tmax, known_core=np.zeros(SHAPE, bool), **given)
    assert not none.core_truth.any() and none.core.any()


def test_a_supplied_mask_stands_in_for_a_missing_tmax():
    dwi, adc, _, brain = healthy()
    edited = np.zeros(SHAPE, bool)
    edited[10:12, 10, 10] = True
    labels = make_labels(
        dwi, adc, None, brain=brain, coverage=brain, voxel_ml=VOXEL_ML, edited=edited
    )
    np.testing.assert_array_equal(labels.hypoperfusion, edited)
    np.testing.assert_array_equal(labels.truth, edited)


def test_without_tmax_and_mask_there_is_no_truth():
    dwi, adc, _, brain = healthy()
    with pytest.raises(ValueError, match="needs tmax_s or edited"):
        make_labels(dwi, adc, None, brain=brain, coverage=brain, voxel_ml=VOXEL_ML)


def test_an_empty_brain_mask_is_explained():
    dwi, adc, tmax, _ = healthy()
    nothing = np.zeros(SHAPE, bool)
    with pytest.raises(InputError, match="holds no tissue"):
        make_labels(dwi, adc, tmax, brain=nothing, coverage=nothing, voxel_ml=VOXEL_ML)


def test_a_calibrated_threshold_takes_the_place_of_six_seconds():
    tmax = np.zeros((12, 12, 12), np.float32)
    tmax[2:10, 2:10, 2:6], tmax[2:10, 2:10, 6:10] = 6.5, 7.5
    shown, adc = np.ones(tmax.shape, bool), np.full(tmax.shape, 800, np.float32)
    ones = [
        hypoperfusion_mask(tmax, adc_um2_per_s=adc, coverage=shown, voxel_ml=0.1, **given)
        for given in ({}, {"threshold_s": 7.1})
    ]
    assert [int(each.sum()) for each in ones] == [512, 256]
