"""Maps of a small head whose delay, flow and volume are known; volumes; checks."""

import dataclasses

import numpy as np
import pytest
from helpers import dsc

from data_tools.perfusion import maps
from data_tools.simulate.bolus import Bolus

pytestmark = [pytest.mark.core, pytest.mark.quick]

BOLUS = Bolus(arrival_s=15.0)
TR_S = 1.5
TIMES_S = dsc.frames_s(TR_S)
AIF = BOLUS.aif(TIMES_S).astype(np.float32)
AFFINE = np.diag([5.0, 5.0, 8.0, 1.0])
AFFINE[0, 3] = -47.5
SHAPE = (20, 20, 6)
BRAIN = np.zeros(SHAPE, bool)
BRAIN[2:18, 2:18] = True


def head(delay_s):
    """Concentration of a head of CBV 4 mL/100 mL and MTT 4 s with a map of delays."""
    delays, where = np.unique(delay_s, return_inverse=True)
    curves = 0.04 * dsc.tissue(BOLUS, TIMES_S, delays, 4)
    return curves[where.reshape(delay_s.shape)].astype(np.float32)


@pytest.fixture(scope="module")
def stroke():
    """Delay 8 s in 25.6 mL of the left half (x < 0), -1 s in one voxel of the right."""
    delay_s = np.zeros(SHAPE)
    delay_s[3:7, 4:12, 1:5] = 8
    delay_s[15, 9, 3] = -1
    return maps.perfusion_maps(head(delay_s), BRAIN, AIF, tr_s=TR_S)


def test_maps_of_known_tissue(stroke):
    for field in dataclasses.fields(stroke):
        image = getattr(stroke, field.name)
        assert image.dtype == np.float32 and image.shape == SHAPE
        assert not image[~BRAIN].any()
    assert stroke.tmax_s[10, 10, 3] == pytest.approx(2.2, abs=0.15)
    assert stroke.tmax_s[4, 8, 3] == pytest.approx(10.2, abs=0.15)
    assert stroke.tmax_s[15, 9, 3] == pytest.approx(1.2, abs=0.15)
    # Late tissue's tail is beyond the scan.
    np.testing.assert_allclose(stroke.cbv[BRAIN], 4, rtol=0.06)
    # The filter takes 43% off the peak of such a short transit, wherever it lies.
    np.testing.assert_allclose(stroke.cbf[BRAIN], 0.57 * 60, rtol=0.05)
    np.testing.assert_allclose(stroke.mtt_s, 60 * stroke.cbv / np.maximum(stroke.cbf, 1), rtol=1e-5)
    late_s = stroke.ttp_s[4, 8, 3] - stroke.ttp_s[10, 10, 3]
    assert late_s == pytest.approx(8, abs=0.3)


def test_an_early_tissue_keeps_its_sign():
    early = maps.perfusion_maps(head(np.full(SHAPE, -4.0)), BRAIN, AIF, tr_s=TR_S)
    assert early.tmax_s[BRAIN].max() == pytest.approx(-1.8, abs=0.2)


def test_an_empty_brain_gives_empty_maps():
    none = maps.perfusion_maps(head(np.zeros(SHAPE)), BRAIN & False, AIF, tr_s=TR_S)
    assert not any(getattr(none, field.name).any() for field in dataclasses.fields(none))
    assert not maps.healthy_half(none.tmax_s, BRAIN & False, AFFINE).any()


def test_curves_in_pieces_are_as_in_one(monkeypatch, stroke):
    delay_s = np.zeros(SHAPE)
    delay_s[3:7, 4:12, 1:5] = 8
    delay_s[15, 9, 3] = -1
    monkeypatch.setattr(maps, "VOXELS_AT_ONCE", 100)
    again = maps.perfusion_maps(head(delay_s), BRAIN, AIF, tr_s=TR_S)
    np.testing.assert_allclose(again.tmax_s, stroke.tmax_s, atol=1e-4)


def test_volumes_and_their_ratio(stroke):
    found = maps.volumes_ml(stroke.tmax_s, BRAIN, 0.2)
    assert found == {4.0: 25.6, 6.0: 25.6, 8.0: 25.6, 10.0: 25.6}
    islands = np.where(BRAIN, stroke.tmax_s, 0)
    islands[12, 3:7, 2] = 20
    assert maps.volumes_ml(islands, BRAIN, 0.2) == found  # 0.8 mL
    assert maps.hypoperfusion_intensity_ratio(found) == 1
    assert maps.hypoperfusion_intensity_ratio(maps.volumes_ml(0 * islands, BRAIN, 0.2)) is None


def test_the_healthy_half_is_found_whichever_way_x_runs(stroke):
    mirrored = np.diag([-1.0, 1, 1, 1]) @ AFFINE
    for affine in (AFFINE, mirrored):
        half = maps.healthy_half(stroke.tmax_s, BRAIN, affine)
        assert half[10:18, 2:18].all() and half.sum() == BRAIN.sum() / 2


def test_a_good_map_passes(stroke):
    found = maps.check(stroke, BRAIN, AFFINE)
    assert found.warnings == ()
    assert found.healthy_tmax_s == pytest.approx(2.2, abs=0.15)
    assert found.relative_ttp_ml == pytest.approx(25.6)
    assert found.early_share == 0


def test_each_check_can_fail(stroke):
    def told(**changed):
        return maps.check(dataclasses.replace(stroke, **changed), BRAIN, AFFINE).warnings

    early = stroke.tmax_s.copy()
    early[12:14] = -1
    (said,) = told(tmax_s=early)
    assert "Tmax is below -0.5 s in 12% of the brain: the arterial curve is late" in said
    (said,) = told(tmax_s=stroke.tmax_s + np.float32(2.5))
    assert "median Tmax of the healthier half of the brain is 4.7 s; expected 0.5 to 4.5" in said
    wide = stroke.tmax_s.copy()
    wide[2:7] = 8
    (said,) = told(tmax_s=np.where(BRAIN, wide, 0))
    assert "Tmax >= 6 s has 96 mL, and TTP more than 4.5 s later than healthy tissue 26 mL" in said
