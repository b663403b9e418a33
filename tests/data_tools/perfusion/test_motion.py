"""Motion that was put into a simulated scan, found again while contrast passes."""

import numpy as np
import pytest

from data_tools import rigid
from data_tools.perfusion import motion
from data_tools.simulate import dsc, simulate_patient

SMALL = {"matrix": 48, "slices": 10, "frames": 36, "repetition_time_s": 1.8, "snr": 60.0}


@pytest.fixture(scope="module")
def patient():
    return simulate_patient(1, 3)


@pytest.fixture(scope="module")
def moved(patient):
    """A scan with 4 mm of motion, and what is found of it."""
    images = dsc.acquire_dsc(patient, dsc.Scan(**SMALL, motion_mm=4.0))
    return images, motion.correct_motion(images.signal, images.affine, images.times_s)


@pytest.fixture(scope="module")
def jumped(patient):
    images = dsc.acquire_dsc(patient, dsc.Scan(**SMALL | {"frames": 20}, fault="jump"))
    return images, motion.correct_motion(images.signal, images.affine, images.times_s)


def left_mm(images, poses):
    """Mean distance in the brain of each frame from where the median frame is brought to."""
    index = np.argwhere(images.truth.brain)[::7]
    points = np.concatenate([index, np.ones((len(index), 1))], axis=1) @ images.affine.T
    back = np.linalg.inv(images.truth.poses) @ poses
    places = (points @ back.transpose(0, 2, 1))[..., :3]
    return np.linalg.norm(places - np.median(places, axis=0), axis=2).mean(axis=1)


def still(images):
    return np.broadcast_to(np.eye(4), images.truth.poses.shape)


def test_four_millimetres_are_brought_to_less_than_half_a_one(moved):
    images, found = moved
    assert left_mm(images, still(images)).max() > 1.5
    assert left_mm(images, found.poses).max() < 0.5
    assert left_mm(images, found.poses).mean() < 0.3  # voxels of 4.8 mm
    assert found.displacement_mm.max() == pytest.approx(4, abs=1)
    assert found.shifts_mm.shape == found.turns_deg.shape == (36, 3)
    first = found.shifts_mm[motion.FIRST_FRAMES]
    np.testing.assert_allclose(np.median(first, axis=0), 0, atol=1e-9)


def test_the_series_changes_less_from_frame_to_frame_before_contrast_comes(moved):
    images, found = moved
    inner = images.truth.brain & (images.truth.vessels == 0)
    spread = [each[inner][:, :5].std(axis=1).mean() for each in (images.signal, found.signal)]
    assert spread[1] < spread[0]
    assert found.signal.dtype == np.float32 and found.signal.min() >= 0
    assert found.signal.shape == images.signal.shape


def test_a_jump_is_undone_and_told(jumped):
    images, found = jumped
    assert left_mm(images, found.poses).max() < 0.6
    at = int(np.argmax(images.times_s >= 16.5))  # the bolus' height
    assert len(found.warnings) == 1
    assert f"between frames {at} and {at + 1} of the perfusion series" in found.warnings[0]


def test_a_still_series_stays_as_it_is(moved):
    images, _ = moved
    same = np.repeat(images.signal[..., :1], 8, axis=3)
    found = motion.correct_motion(same, images.affine, images.times_s[:8])
    np.testing.assert_array_equal(found.signal, same)
    assert found.displacement_mm.max() < motion.STILL_MM and not found.warnings


def test_axes_of_the_file_do_not_matter(moved):
    images, _ = moved
    signal, times_s = images.signal[..., :10], images.times_s[:10]
    found = motion.correct_motion(signal, images.affine, times_s)
    flip = np.diag([-1.0, 1, 1, 1])
    flip[0, 3] = images.signal.shape[0] - 1
    again = motion.correct_motion(signal[::-1], images.affine @ flip, times_s)
    np.testing.assert_allclose(again.shifts_mm, found.shifts_mm, atol=0.05)
    np.testing.assert_allclose(again.turns_deg, found.turns_deg, atol=0.05)


def test_far_motion_is_told():
    poses = np.stack([rigid.pose(np.array([x, 0, 0, 0, 0, 0.0]), np.zeros(3)) for x in range(13)])
    away = rigid.apart_mm(poses, np.eye(4), np.zeros(3))
    np.testing.assert_allclose(away, np.arange(13))
    (told,) = motion._warnings(poses, away, np.zeros(3))
    assert "moves by up to 12.0 mm" in told


def test_an_image_without_a_head_does_not_move():
    dark = np.zeros((9, 9, 3, 10), np.float32)
    found = motion.correct_motion(dark, np.diag([4.0, 4, 6, 1]), np.arange(10.0))
    np.testing.assert_array_equal(found.displacement_mm, 0)


def test_a_jump_that_is_not_corrected_is_told_by_the_outline(moved, jumped):
    (told,) = motion.jumps_of_outline(jumped[0].signal, jumped[0].affine)
    assert "the head jumps by about" in told and "run again with motion correction" in told
    assert motion.jumps_of_outline(moved[0].signal, moved[0].affine) == ()
    nothing = np.zeros((4, 4, 3, 5), np.float32)
    assert motion.jumps_of_outline(nothing, np.eye(4)) == ()
