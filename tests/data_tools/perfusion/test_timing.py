"""Values brought to other times: against the curve they were taken from."""

import numpy as np
import pytest
from helpers import dsc

from data_tools.perfusion.timing import correct_slice_timing, uniform
from data_tools.runtime.errors import InputError
from data_tools.simulate.bolus import Bolus

pytestmark = [pytest.mark.core, pytest.mark.quick]

BOLUS = Bolus(arrival_s=15.0)
TIMES_S = dsc.frames_s(1.5, 60)


def test_interleaved_slices_are_brought_to_one_moment():
    late_s = np.array([0, 0.75, 0.25, 1.0, 0.5, 1.25])
    seen = np.stack([BOLUS.aif(TIMES_S + late) for late in late_s])[None, None].astype(np.float32)
    wanted = BOLUS.aif(TIMES_S + 0.625)
    corrected = correct_slice_timing(seen, TIMES_S, late_s)
    assert corrected.dtype == np.float32 and corrected.shape == seen.shape
    assert np.abs(seen - wanted).max() > 0.15
    assert np.abs(corrected - wanted).max() < 0.04


def test_slices_of_one_moment_are_left_alone():
    signal = np.ones((2, 2, 3, 5), np.float32)
    assert correct_slice_timing(signal, np.arange(5.0), None) is signal
    assert correct_slice_timing(signal, np.arange(5.0), np.full(3, 0.2)) is signal
    with pytest.raises(InputError, match="4 slice times for 3 slices; expected one for each"):
        correct_slice_timing(signal, np.arange(5.0), np.arange(4.0))


def test_frames_at_unequal_steps_are_resampled():
    rng = np.random.default_rng(0)
    uneven_s = TIMES_S + rng.uniform(-0.3, 0.3, len(TIMES_S))
    even, tr_s = uniform(BOLUS.aif(uneven_s)[None].astype(np.float32), uneven_s)
    assert tr_s == pytest.approx(np.median(np.diff(uneven_s)))
    wanted = BOLUS.aif(uneven_s[0] + tr_s * np.arange(even.shape[-1]))
    assert np.abs(even[0] - wanted).max() < 0.03


def test_a_frame_that_is_missing_is_filled_in():
    kept = np.delete(np.arange(40), 30)
    even, tr_s = uniform(BOLUS.aif(TIMES_S[kept])[None].astype(np.float32), TIMES_S[kept])
    assert tr_s == 1.5 and even.shape == (1, 40)
    assert np.abs(even[0] - BOLUS.aif(TIMES_S)).max() < 0.02


def test_equal_steps_are_left_alone_even_if_the_clock_is_coarse():
    signal = np.ones((1, 40), np.float32)
    same, tr_s = uniform(signal, np.round(TIMES_S * 1.001, 2))
    assert same is signal and tr_s == pytest.approx(1.5015, abs=1e-3)


@pytest.mark.parametrize(
    ("times_s", "why"),
    [
        ([0.0], "are no series"),
        ([0, 1, 1, 2], "frame 3 is at 1 s and frame 2 at 1 s; expected frames in the order"),
        ([0, 2, 1, 3], "frame 3 is at 1 s and frame 2 at 2 s"),
        ([0, 1, 2, 7, 8, 9], r"frames 3 and 4 are 5.0 s apart, .* are files missing\?"),
    ],
)
def test_times_that_cannot_be_are_refused(times_s, why):
    with pytest.raises(InputError, match=why):
        uniform(np.ones((1, len(times_s)), np.float32), np.array(times_s, float))
