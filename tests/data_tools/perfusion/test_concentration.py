"""The bolus found in the brain's mean curve, its faults by name, and concentrations."""

import functools

import numpy as np
import pytest
from helpers import dsc

from data_tools.perfusion.concentration import (
    bolus_of,
    concentration,
    find_bolus,
    fluid,
    smoothed_in_plane,
)
from data_tools.runtime.errors import InputError
from data_tools.simulate.bolus import Bolus

pytestmark = [pytest.mark.core, pytest.mark.quick]


@functools.cache
def bolus_at(arrival_s):
    """Its tables are made once."""
    return Bolus(arrival_s=arrival_s)


def mean_curve(
    *, tr_s=1.5, noise=0.001, drop=0.25, seed=0, saturated=False, arrival_s=15.0, length_s=90.0
):
    """Signal of a whole brain around 500, and its times."""
    times_s = dsc.frames_s(tr_s, length_s)
    made = bolus_at(arrival_s)
    tissue = dsc.tissue(made, times_s, np.linspace(0, 4, 5), 5).mean(axis=0)
    signal = np.exp(np.log(1 - drop) * tissue / tissue.max())
    if saturated:
        signal[:2] *= 1.3, 1.08
    signal += np.random.default_rng(seed).normal(0, noise, len(signal))
    return 500 * signal, times_s


@pytest.mark.parametrize("tr_s", [1.0, 1.5, 2.2])
@pytest.mark.parametrize("arrival_s", [8.0, 15.0, 33.3])
def test_baseline_and_arrival_are_found(tr_s, arrival_s):
    for seed in range(5):
        curve, times_s = mean_curve(tr_s=tr_s, arrival_s=arrival_s, noise=0.002, seed=seed)
        found = bolus_of(curve, times_s)
        assert found.baseline_frames.start == 0
        # The parabola-like foot of the bolus is within the noise for a while.
        assert arrival_s - tr_s <= found.arrival_s <= arrival_s + 3.5
        assert times_s[found.baseline_frames][-1] <= arrival_s + 1.5
        assert found.drop_share == pytest.approx(0.25, abs=0.02)
        assert not found.warnings


def test_brighter_first_frames_are_no_baseline():
    curve, times_s = mean_curve(saturated=True)
    assert bolus_of(curve, times_s).baseline_frames.start == 2


def test_one_spoilt_volume_is_no_bolus():
    curve, times_s = mean_curve()
    spoilt = curve.copy()
    spoilt[40] = 50
    assert bolus_of(spoilt, times_s).peak_frame == bolus_of(curve, times_s).peak_frame


def shuffled():
    curve, times_s = mean_curve()
    return np.random.default_rng(3).permutation(curve), times_s


def shuffled_tail():
    curve, _ = mean_curve(drop=0.4)
    curve[18:] = np.random.default_rng(1).permutation(curve[18:])
    return curve


def earlier_contrast():
    curve, times_s = mean_curve()
    earlier, _ = mean_curve(arrival_s=-9.0, drop=0.2)
    return curve * earlier / 500, times_s


FAULTS = {
    "earlier contrast": (
        earlier_contrast,
        r"rises by [\d.]+% before the bolus, .* gadolinium given",
    ),
    "backwards": (
        lambda: (mean_curve(arrival_s=25.0)[0][::-1].copy(), mean_curve()[1]),
        r"recovers at once, as a bolus does backwards\. .* in the order of their times",
    ),
    "halves": (
        lambda: (np.roll(mean_curve(arrival_s=12.0, length_s=120.0)[0], 35), np.arange(80) * 1.5),
        r"jumps up by [\d.]+% from volume 35 to 36, before the bolus",
    ),
    "shuffled after the bolus": (
        lambda: (shuffled_tail(), mean_curve()[1]),
        r"after the bolus .* jumps by [\d.]+% from volume to volume.* order of their times",
    ),
    "gain": (
        lambda: (np.where(np.arange(60) > 16, 6, 1) * mean_curve()[0], mean_curve()[1]),
        r"ends \d+% above its level before the bolus",
    ),
    "far brighter before the bolus": (
        lambda: (
            np.interp(np.arange(60), [0, 20], [0.6, 1]) * mean_curve(arrival_s=33.3, drop=0.6)[0],
            mean_curve()[1],
        ),
        r"rises by \d+% before the bolus, more than any contrast",
    ),
    "no bolus": (lambda: mean_curve(drop=0.001), "no bolus: the brain's mean signal falls by"),
    "nothing but noise": (lambda: mean_curve(drop=0.0, noise=0.02), "no bolus"),
    "empty": (lambda: (np.zeros(60), np.arange(60.0)), "no bolus"),
    "late start": (
        lambda: mean_curve(arrival_s=2.0),
        r"of steady baseline: the scan began too late\. Expected at least 3",
    ),
    "later still": (lambda: mean_curve(arrival_s=-6.0), "the scan began too late"),
    "saturated": (
        lambda: mean_curve(arrival_s=3.0, saturated=True),
        r"after [012] frames? of steady baseline: the scan began too late",
    ),
    "truncated": (
        lambda: mean_curve(length_s=45.0),
        r"ends \d\d s after the bolus arrives; expected at least 40 s",
    ),
    "shuffled": (shuffled, r"jumps to and fro .* in the order of their times\?"),
    "short": (lambda: (np.ones(4), np.arange(4.0)), "4 frames cannot show a bolus"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_cannot_be_used_is_refused_by_name(fault):
    make, why = FAULTS[fault]
    with pytest.raises(InputError, match=why):
        bolus_of(*make())


def test_a_rising_baseline_is_warned_of():
    curve, times_s = mean_curve(arrival_s=25.0)
    curve *= 1 + 0.025 * np.minimum(times_s / 25, 1)
    (told,) = bolus_of(curve, times_s).warnings
    assert "the signal rises by 2." in told and "was gadolinium given before?" in told


def test_the_mean_is_that_of_the_brain():
    curve, times_s = mean_curve()
    signal = np.full((3, 3, 2, 60), 7, np.float32)
    brain = np.zeros((3, 3, 2), bool)
    brain[1] = True
    signal[1] = curve
    np.testing.assert_allclose(find_bolus(signal, brain, times_s).mean_signal, curve, rtol=1e-6)
    with pytest.raises(InputError, match="no brain was found in the perfusion series"):
        find_bolus(signal, ~brain & brain, times_s)


def test_concentration_by_hand():
    signal = np.array([[90, 110, 100, 50], [0, 0, 0, 5], [100, 100, 100, -3]], np.float32)
    found = concentration(signal, slice(0, 3), 0.03)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found[0, 2:], [0, np.log(2) / 0.03], rtol=1e-5)
    np.testing.assert_array_equal(found[1], 0)
    assert found[2, 3] == pytest.approx(np.log(100) / 0.03, rel=1e-5)


def test_frames_before_the_baseline_hold_no_concentration():
    found = concentration(np.array([130, 115, 100, 100, 50], np.float32), slice(2, 4), 0.03)
    np.testing.assert_allclose(found, [0, 0, 0, 0, np.log(2) / 0.03], rtol=1e-5)


def test_fluid_is_bright_and_has_no_bolus():
    rng = np.random.default_rng(0)
    curve, _ = mean_curve()
    level = np.array([1, 1, 1, 1, 1, 1.6, 1.6, 1.0])[:, None]
    bolus = np.array([1, 1, 1, 1, 1, 0, 1, 0])[:, None]
    signal = level * (bolus * curve + (1 - bolus) * 500) + rng.normal(0, 5, (8, 60))
    signal = signal[:, None, None].astype(np.float32)
    brain = np.ones((8, 1, 1), bool)
    found = fluid(signal, concentration(signal, slice(0, 8), 0.03), brain, slice(0, 8))
    np.testing.assert_array_equal(found.ravel(), [0, 0, 0, 0, 0, 1, 0, 0])
    assert not fluid(signal, signal, brain & False, slice(0, 8)).any()


def test_smoothing_stays_within_a_slice_and_a_frame():
    signal = np.zeros((9, 9, 3, 2), np.float32)
    signal[4, 4, 1, 0] = 1
    smooth = smoothed_in_plane(signal, 1.0)
    assert smooth.dtype == np.float32
    assert smooth[:, :, 1, 0].sum() == pytest.approx(1, abs=1e-5)
    assert smooth[4, 4, 1, 0] == pytest.approx(1 / (2 * np.pi), rel=0.02)
    assert not smooth[:, :, [0, 2]].any() and not smooth[..., 1].any()
    assert smoothed_in_plane(signal, 0) is signal
