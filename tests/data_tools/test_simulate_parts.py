"""The parts of a simulated patient: territories, head, stroke, clinical data, scanner."""

import numpy as np
import pytest

from data_tools import grid, volumes
from data_tools.simulate import anatomy, clinical, core, simulate_patient, territories
from data_tools.simulate.lesion import SEEN_LESS, make_lesion
from data_tools.simulate.risk import make_risk


def dice(one, two):
    return 2 * (one & two).sum() / (one.sum() + two.sum())


def test_mca_territory_agrees_with_the_published_atlas(real_data):
    # ArterialAtlas136: odd labels are left; 5 to 16 is the middle cerebral artery.
    atlas = volumes.load_volume(real_data / "atlas" / "ArterialAtlas136.nii.gz")
    grey, white, _ = anatomy.template()
    index = np.linalg.inv(atlas.affine) @ anatomy.MODEL_AFFINE
    voxels = np.argwhere(grey + white > 0.5)
    at = np.rint(voxels @ index[:3, :3].T + index[:3, 3]).astype(int)
    inside = ((at >= 0) & (at < atlas.data.shape)).all(axis=1)
    voxels, at = voxels[inside], at[inside]
    labels = atlas.data[tuple(at.T)]
    x, y, z = (anatomy.model_mm()[axis][tuple(voxels.T)] for axis in range(3))
    ours = territories.depth_mm(territories.distances(x, y, z), territories.MCA) > 0
    for half, remainder in ((x < 0, 1), (x > 0, 0)):
        theirs = (labels >= 5) & (labels <= 16) & (labels % 2 == remainder)
        assert dice(ours & half, theirs & half) >= 0.80


def test_territories_mirror_and_depth_changes_sign_at_the_watershed():
    x = np.array([-50.0, 50.0, -8.0, 8.0])
    y, z = np.full(4, -10.0), np.array([5.0, 5.0, 60.0, 60.0])
    depth = territories.depth_mm(territories.distances(x, y, z), territories.MCA)
    assert depth[0] == depth[1] > 0 > depth[2] == depth[3]
    everything = territories.depth_mm(territories.distances(x, y, z), territories.NAMES[:-1])
    assert (everything > 0).all()


@pytest.fixture(scope="module")
def head():
    return anatomy.make_anatomy(np.random.default_rng(0), 70)


def test_tissue_fractions_add_up_to_the_brain(head):
    total = head.grey + head.white + head.csf
    assert np.abs(total - head.brain).max() < 1e-5
    for fraction in (head.grey, head.white, head.csf):
        assert fraction.min() >= -1e-5 and fraction.max() <= 1 + 1e-5
    assert not ((head.scalp > 0) & (head.brain > 0.5)).any()


def test_no_two_heads_are_alike_and_the_old_have_more_fluid(head):
    other = anatomy.make_anatomy(np.random.default_rng(1), 70)
    assert (np.abs(head.grey - other.grey) > 0.2).mean() > 0.02
    young, old = (anatomy.make_anatomy(np.random.default_rng(0), age) for age in (30, 90))
    assert old.csf.sum() > 1.05 * young.csf.sum()


@pytest.mark.parametrize("spacing_mm", [7.0, 36.0])
def test_smooth_field_has_mean_0_and_sd_1_everywhere(spacing_mm):
    rng = np.random.default_rng(0)
    fields = np.stack([anatomy.smooth_field(rng, spacing_mm)[::9, ::9, ::9] for _ in range(40)])
    assert abs(fields.mean()) < 0.1
    corner, middle = fields[:, :2, :2, :2].std(), fields[:, 5:7, 5:7, 5:7].std()
    assert 0.7 < corner < 1.3 and 0.7 < middle < 1.3


def plan(**changes):
    values = {
        "index": 1, "age": 60, "age_known": True, "sex": "F", "side": "left", "occlusion": "M1",
        "field_strength_t": 3.0, "hypoperfusion_ml": 80.0, "core_ml": 20.0, "severity": 0.0,
    }  # fmt: skip
    return clinical.Plan(**{**values, **changes})


@pytest.mark.parametrize("occlusion", clinical.OCCLUSIONS)
@pytest.mark.parametrize("side", ["left", "right"])
def test_stroke_has_the_planned_volume_on_the_planned_side(head, occlusion, side):
    lesion = make_lesion(
        np.random.default_rng(2),
        head,
        plan(occlusion=occlusion, side=side, hypoperfusion_ml=20.0, core_ml=5.0),
    )
    union = (lesion.hypoperfused | lesion.core) & head.tissue
    assert union.sum() * grid.VOXEL_ML == pytest.approx(20 * SEEN_LESS, rel=0.12)
    x = head.template_mm[0][union]
    assert ((x < 0) if side == "left" else (x > 0)).mean() > 0.99
    assert 0 < lesion.onset_h <= 24


def test_no_core_and_no_lesion_are_possible(head):
    bare = make_lesion(np.random.default_rng(3), head, plan(core_ml=0.0))
    assert not bare.core.any() and bare.hypoperfused.any()
    nothing = make_lesion(np.random.default_rng(3), head, plan(core_ml=0.0, hypoperfusion_ml=0.0))
    assert not nothing.core.any() and not nothing.hypoperfused.any()
    assert nothing.eloquent_ml == 0


def test_bilateral_stroke_lies_in_both_halves(head):
    lesion = make_lesion(np.random.default_rng(4), head, plan(side="bilateral"))
    x = head.template_mm[0][lesion.hypoperfused]
    assert 0.2 < (x < 0).mean() < 0.8


def test_an_m1_occlusion_endangers_more_than_a_distal_one(head):
    near, far = (
        make_risk(np.random.default_rng(5), head, site, "left").depth_mm for site in ("M1", "M4")
    )
    assert (near > 0).sum() > 3 * (far > 0).sum() > 0


def test_worst_takes_the_highest_allowed():
    priority, allowed = np.array([5.0, 4.0, 3.0, 2.0]), np.array([False, True, True, True])
    assert core.worst(priority, allowed, 2).tolist() == [False, True, True, False]
    assert not core.worst(priority, allowed, 0).any()
    assert core.worst(priority, allowed, 4).sum() == 3


def test_plans_have_the_frequencies_of_table_1():
    plans = [clinical.make_plan(2023, k) for k in range(1, 414)]
    count = len(plans)
    assert abs(sum(p.occlusion in ("ICA", "M1") for p in plans) / count - 299 / 413) < 0.03
    assert abs(sum(p.side == "left" for p in plans) / count - 217 / 413) < 0.02
    assert abs(sum(p.side == "bilateral" for p in plans) - 10) <= 2
    assert abs(sum(p.core_ml == 0 for p in plans) - 87) <= 4
    assert abs(sum(not p.age_known for p in plans) - 2) <= 1
    assert abs(np.mean([p.age for p in plans]) - 67) < 1.5
    assert {p.field_strength_t for p in plans} == {1.5, 3.0}


def test_plan_of_a_patient_depends_on_seed_and_number_alone():
    assert clinical.make_plan(1, 5) == clinical.make_plan(1, 5)
    assert clinical.make_plan(1, 5) != clinical.make_plan(2, 5)


def test_nihss_rises_with_the_deficit_and_stays_in_range():
    rng = np.random.default_rng(0)
    small, large = ([clinical.draw_nihss(rng, ml, "left") for _ in range(400)] for ml in (5, 200))
    known = [score for score in small + large if score is not None]
    assert min(known) >= 0 and max(known) <= grid.NIHSS_MAX
    assert len(known) < 800
    middle = [np.median([s for s in scores if s is not None]) for scores in (small, large)]
    assert middle[1] > 2 * middle[0]


def test_patient_in_memory_is_the_one_on_disk_and_differs_by_number():
    one, same, other = simulate_patient(9, 1), simulate_patient(9, 1), simulate_patient(9, 2)
    assert np.array_equal(one.native.dwi, same.native.dwi)
    assert one.row() == same.row()
    assert one.native.dwi.shape != other.native.dwi.shape or not np.array_equal(
        one.native.dwi, other.native.dwi
    )
