"""A small simulated series through all steps."""

import dataclasses

import numpy as np
import pytest

from data_tools.perfusion.examination import Method, always_in_view, examine
from data_tools.perfusion.series import Series
from data_tools.runtime.errors import InputError
from data_tools.simulate import dsc, simulate_patient
from data_tools.simulate.vessels import ARTERY, VEIN

pytestmark = [pytest.mark.core, pytest.mark.quick]


STILL = Method(motion=False)


@pytest.fixture(scope="module")
def scan():
    patient = simulate_patient(7, 2)
    return dsc.acquire_dsc(
        patient, dsc.Scan(repetition_time_s=2.0, frames=40, snr=60.0, matrix=64, slices=8)
    )


@pytest.fixture(scope="module")
def series(scan):
    return Series(
        signal=scan.signal,
        affine=scan.affine,
        times_s=scan.times_s,
        slice_times_s=scan.slice_times_s,
        echo_time_s=scan.scan.echo_time_s,
    )


@pytest.fixture(scope="module")
def examined(scan, series):
    return examine(series, STILL, brain=scan.truth.brain)


def test_tmax_is_that_of_the_truth(scan, examined):
    truth = scan.truth.tmax_s[examined.brain]
    tmax_s = examined.maps.tmax_s[examined.brain]
    assert abs(np.median(tmax_s - truth)) < 0.3
    late, found = truth >= 6, tmax_s >= 6
    assert 2 * (late & found).sum() / (late.sum() + found.sum()) > 0.9
    assert examined.warnings == () and examined.motion is None
    assert examined.volumes_ml[6.0] > examined.volumes_ml[10.0] > 0
    assert 0 < examined.intensity_ratio < 1
    assert examined.threshold == 0.10 and examined.tr_s == 2.0


def test_the_artery_is_one(scan, examined):
    assert set(scan.truth.vessels[tuple(examined.arterial_input.voxels.T)]) == {ARTERY}


def test_a_given_vein_wins_and_is_warned_of(scan, series):
    told = examine(series, STILL, brain=scan.truth.brain, artery=scan.truth.vessels == VEIN)
    assert told.arterial_input.how == "region"
    assert any("later than the arteries found automatically" in each for each in told.warnings)


def test_the_method_counts(scan, series, examined):
    for method in (
        dataclasses.replace(STILL, threshold=0.2),
        dataclasses.replace(STILL, smoothing_sd_voxels=2.0),
    ):
        other = examine(series, method, brain=scan.truth.brain)
        assert np.abs(other.maps.tmax_s - examined.maps.tmax_s).max() > 0.5
    with pytest.raises(InputError, match="no deconvolution is called"):
        examine(series, Method(deconvolution="svd"))


def test_motion_is_looked_for_and_the_brain_is_found(scan, series):
    short = {"signal": series.signal[..., :28], "times_s": series.times_s[:28]}
    found = examine(dataclasses.replace(series, **short))
    assert found.motion is not None and found.motion.displacement_mm.max() < 1
    truth = scan.truth.brain
    assert 2 * (truth & found.brain).sum() / (truth.sum() + found.brain.sum()) > 0.9


def test_what_leaves_the_slices_is_left_out():
    affine = np.diag([2.0, 2.0, 5.0, 1.0])
    poses = np.stack([np.eye(4)] * 3)
    assert always_in_view(poses, affine, (3, 4, 5, 3)).all()
    poses[1, 2, 3] = 1.2  # mm, of 5
    assert always_in_view(poses, affine, (3, 4, 5, 3)).all()
    poses[1, 2, 3], poses[2, 2, 3] = 2.5, -7.0
    seen = always_in_view(poses, affine, (3, 4, 5, 3))
    np.testing.assert_array_equal(seen.all(axis=(0, 1)), [False, False, True, True, False])
    np.testing.assert_array_equal(seen.any(axis=(0, 1)), [False, False, True, True, False])


def test_slice_times_count(scan, series, examined):
    known = np.abs(examined.maps.tmax_s - scan.truth.tmax_s)[examined.brain]
    blind = examine(dataclasses.replace(series, slice_times_s=None), STILL, brain=scan.truth.brain)
    unknown = np.abs(blind.maps.tmax_s - scan.truth.tmax_s)[examined.brain]
    assert np.median(unknown) > 1.5 * np.median(known)
