"""Steps that go with motion are taken away, and contrast and noise stay."""

import numpy as np
import pytest

from data_tools.perfusion.motion_traces import without_traces
from data_tools.simulate.bolus import Bolus

pytestmark = pytest.mark.quick

FRAMES, STEP_S = 50, 1.6
FIRST = slice(2, 8)


@pytest.fixture
def case():
    """Curves of 400 voxels with noise, delays of 0 to 10 s, and a head that moves."""
    rng = np.random.default_rng(5)
    times_s = np.arange(FRAMES) * STEP_S
    bolus = Bolus(arrival_s=14.0)
    delay_s, mtt_s = rng.uniform(0, 1.5, (400, 1)), rng.uniform(3.5, 5, (400, 1))
    delay_s[:40], mtt_s[:40] = rng.uniform(3, 10, (40, 1)), rng.uniform(5, 12, (40, 1))
    drop = 0.9 * bolus.answer_at(times_s - delay_s, mtt_s)
    motion_mm = np.cumsum(rng.normal(0, 0.15, (FRAMES, 6)), axis=0)
    motion_mm[30:, 2] += 2.0
    clean = 500 * np.exp(-drop)
    noise = rng.normal(0, 6, clean.shape)
    return clean, noise, motion_mm


def cleaned(signal, motion_mm):
    return without_traces(
        signal.astype(np.float32), motion_mm, step_s=STEP_S, first_frames=FIRST
    )  # fmt: skip


def test_most_of_what_goes_with_the_head_is_taken_away(case):
    clean, noise, motion_mm = case
    traces = np.zeros((400, FRAMES))
    traces[::4] = 0.03 * motion_mm[:, 2]  # a quarter of the voxels show other tissue then
    found = cleaned(clean * np.exp(traces) + noise, motion_mm)[::4]
    left, before = np.log(found / clean[::4]), traces[::4]
    for each in (left, before):
        each -= each.mean(axis=1, keepdims=True)
    assert before.std() > 0.03
    # Contrast that comes late looks alike, so some of it stays.
    noise_sd = np.log1p(noise[::4] / clean[::4]).std()
    assert np.sqrt(left.std() ** 2 - noise_sd**2) < 0.6 * before.std()


def test_contrast_and_noise_stay_where_motion_left_nothing(case):
    clean, noise, motion_mm = case
    signal = clean + noise
    found = cleaned(signal, motion_mm)
    changed = np.abs(np.log(found / signal))
    assert np.median(changed) < 0.001
    assert changed[:40].mean() < 0.004  # late tissue too
    assert changed.mean() < 0.003


def test_nothing_is_done_without_motion_or_with_few_frames(case):
    clean, _, motion_mm = case
    signal = clean.astype(np.float32)
    np.testing.assert_array_equal(cleaned(signal, np.zeros((FRAMES, 6))), signal)
    short = signal[:, :20]
    np.testing.assert_array_equal(cleaned(short, motion_mm[:20]), short)
    assert cleaned(signal[:0], motion_mm).shape == (0, FRAMES)
