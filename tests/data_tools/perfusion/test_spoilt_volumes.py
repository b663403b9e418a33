"""Volumes and slices that no scan gives, in a small head."""

import numpy as np
import pytest

from data_tools.perfusion.spoilt_volumes import checked_values, holes_told, without_spoilt
from data_tools.runtime.errors import InputError
from data_tools.simulate.bolus import Bolus

pytestmark = [pytest.mark.core, pytest.mark.quick]

FRAMES, PEAK = 40, 11
IN_TAIL = 30


def head(*, noise=5.0, start=1.0, seed=0):
    """(16, 16, 4, 40), with a bolus that takes a quarter away at TR 2 s."""
    x, y = np.ogrid[-1:1:16j, -1:1:16j]
    shape = (x**2 + y**2 < 0.6)[:, :, None, None] * np.full((4, 1), 500.0)
    aif = Bolus(arrival_s=17.0).aif(np.arange(FRAMES) * 2.0)
    curve = np.exp(-0.3 * aif / aif.max())
    curve[0] *= start
    clean = shape * curve
    rng = np.random.default_rng(seed)
    n = rng.normal(0, noise, (2, *clean.shape))
    return np.hypot(clean + n[0], n[1]).astype(np.float32)


@pytest.mark.parametrize("noise", [1.0, 5.0, 25.0])
@pytest.mark.parametrize("start", [1.0, 1.6])
def test_a_sound_series_stays_as_it_is(noise, start):
    for seed in range(5):
        signal = head(noise=noise, start=start, seed=seed)
        found, warnings = without_spoilt(signal)
        assert found is signal and warnings == ()


def test_the_bolus_is_where_the_tests_expect_it():
    assert abs(int(head().mean(axis=(0, 1, 2)).argmin()) - PEAK) <= 1


@pytest.mark.parametrize(
    ("factor", "what"),
    [(0.0, "is empty"), (3.0, "199% brighter"), (1.1, "10% brighter"), (0.9, "10% darker")],
)
@pytest.mark.parametrize("volume", [4, IN_TAIL, FRAMES - 1])
def test_a_spoilt_volume_is_filled_in_and_told(factor, what, volume):
    signal = head(noise=1.0)
    spoilt = signal.copy()
    spoilt[..., volume] *= factor
    found, (told,) = without_spoilt(spoilt)
    assert told.startswith(f"volume {volume + 1} of 40 is ")
    assert what in told or (factor == 3 and "200% brighter" in told)
    assert "it was filled in from the volumes before and after it" in told
    np.testing.assert_allclose(found[..., volume], signal[..., volume], atol=25)
    others = np.delete(np.arange(FRAMES), volume)
    np.testing.assert_array_equal(found[..., others], signal[..., others])


@pytest.mark.parametrize("factor", [0.0, 3.0, 1.3])
@pytest.mark.parametrize("volume", [PEAK - 2, PEAK - 1, PEAK, PEAK + 1])
def test_none_is_filled_in_as_the_bolus_passes(factor, volume):
    signal = head()
    signal[..., volume] *= factor
    with pytest.raises(InputError, match=rf"volume {volume + 1} of 40 .*, as the bolus passes"):
        without_spoilt(signal)


def test_slices_of_a_volume_count():
    signal = head(noise=1.0)
    spoilt = signal.copy()
    spoilt[:, :, 1:3, 3] = 0
    spoilt[:, :, 3, 33] *= 2
    found, (first, second) = without_spoilt(spoilt)
    assert first.startswith("volume 4 of 40 (slices 2 to 3) is empty")
    assert second.startswith("volume 34 of 40 (slice 4) is far brighter")
    np.testing.assert_allclose(found, signal, atol=25)
    spoilt[:, :, 0, PEAK] = 7
    with pytest.raises(InputError, match=r"3 volumes are spoilt"):
        without_spoilt(spoilt)


def test_volumes_in_another_place_are_out_of_order():
    signal = head()
    order = np.arange(FRAMES)
    order[[3, PEAK]] = order[[PEAK, 3]]
    with pytest.raises(InputError, match="not in the order of their times"):
        without_spoilt(signal[..., order])
    for volume in (4, 25, 33):
        signal[..., volume] *= 1.2
    with pytest.raises(InputError, match=r"to and fro .* in the order of their times\?"):
        without_spoilt(signal)


def test_nothing_is_said_of_what_shows_no_head():
    assert without_spoilt(np.zeros((4, 4, 2, 12), np.float32))[1] == ()


def test_values_below_zero_are_refused_unless_they_are_few():
    signal = head()
    same, warnings = checked_values(signal)
    assert same is signal and warnings == ()
    few = signal - 5  # as resampling does around a head
    assert checked_values(few)[1] == ()
    turned = signal.copy()
    turned[::5] *= -1
    for wrong in (signal - signal.mean(), turned):
        with pytest.raises(InputError, match="% of its signal is below 0; expected a magnitude"):
            checked_values(wrong)


@pytest.mark.parametrize("power", [-100, 100])
def test_very_large_and_very_small_numbers_are_brought_to_usual_ones(power):
    signal = head()
    found, warnings = checked_values(np.ldexp(signal, power))
    shift = np.log2(float(found.max()) / float(signal.max()))
    assert shift == round(shift) and 100 < found.max() < 10_000 and warnings == ()
    np.testing.assert_array_equal(found, np.ldexp(signal, round(shift)))


def test_copies_of_volumes_are_told():
    signal = head()
    signal[..., 5] = signal[..., 4]
    _, (told,) = checked_values(signal)
    assert told.startswith("1 volume of 40 (6) is an exact copy of the one before")
    _, (told,) = checked_values(np.repeat(signal[..., ::2], 2, axis=3))
    assert told.startswith("20 volumes of 40 (2, 4, 6, ...) are exact copies of the one before")
    signal = head()
    signal[..., 20:22] = 0
    assert checked_values(signal)[1] == ()  # empty ones are told as such


def test_holes_in_time_are_told_and_a_background_is_not():
    absent = np.zeros((6, 6, 4, 12), bool)
    absent[:2] = True
    absent[:, :, 1, 5] = True  # a slice without numbers is empty
    absent[..., 7] = True
    assert holes_told(None) == holes_told(absent) == ()
    absent[3, 3, 2, :4] = True
    (told,) = holes_told(absent)
    assert told.startswith("1 voxel holds NaN or infinity in some volumes")
