"""Holes in an ellipsoid."""

import numpy as np
import pytest

from data_tools.perfusion import signal_void
from data_tools.runtime.errors import InputError

pytestmark = [pytest.mark.core, pytest.mark.quick]

AFFINE = np.diag([3.0, 3.0, 6.0, 1.0])
X, Y, Z = np.meshgrid(*(np.arange(n) - (n - 1) / 2 for n in (60, 70, 24)), indexing="ij")
HEAD = (3 * X / 70) ** 2 + (3 * Y / 85) ** 2 + (6 * Z / 65) ** 2 < 1


def with_hole(x_mm, radius_mm, z_mm=10):
    hole = (3 * X - x_mm) ** 2 + (3 * Y) ** 2 + (6 * Z - z_mm) ** 2 < radius_mm**2
    brain = HEAD & ~hole
    return np.where(brain, 100, 5).astype(np.float32), brain


@pytest.mark.parametrize("x_mm", [-20, 58])
def test_a_hole_is_measured_and_warned_of(x_mm):
    image, brain = with_hole(x_mm, 26)
    missing_ml = (HEAD & ~brain).sum() * 0.054
    assert 0.5 * missing_ml < signal_void.void_ml(image, brain, AFFINE) < 1.1 * missing_ml
    (told,) = signal_void.warnings(image, brain, AFFINE)
    assert "mL within the brain's outline give no signal: is there metal?" in told


def test_a_whole_brain_and_a_small_hole_are_fine():
    for radius_mm in (0, 8):
        image, brain = with_hole(-20, radius_mm)
        assert signal_void.void_ml(image, brain, AFFINE) == 0
        assert signal_void.warnings(image, brain, AFFINE) == ()


def test_the_base_is_left_out_whichever_way_the_slices_run():
    image, brain = with_hole(-20, 20, z_mm=-55)
    assert signal_void.void_ml(image, brain, AFFINE) == 0
    turned = AFFINE @ np.diag([1.0, 1.0, -1.0, 1.0])
    assert signal_void.void_ml(image[:, :, ::-1], brain[:, :, ::-1], turned) == 0


def test_no_brain_and_a_line_have_no_hole():
    image = np.ones((5, 5, 3), np.float32)
    brain = np.zeros((5, 5, 3), bool)
    assert signal_void.void_ml(image, brain, np.eye(4)) == 0
    brain[2, 1:4] = True
    assert signal_void.void_ml(image, brain, np.eye(4)) == 0


def test_half_a_head_is_refused_and_less_warned_of():
    assert signal_void.check_whole(HEAD, AFFINE) == ()
    assert signal_void.check_whole(HEAD & False, AFFINE) == ()
    for keep, side in ((X > 0, "left"), (X < 0, "right"), (Y > 0, "back"), (Y < 0, "front")):
        with pytest.raises(InputError, match=f"straight cut at the {side}: a large part"):
            signal_void.check_whole(HEAD & keep, AFFINE)
    # The image's own edge, and an axis that runs the other way.
    with pytest.raises(InputError, match="straight cut at the right"):
        signal_void.check_whole(HEAD[30:], AFFINE * [[-1], [1], [1], [1]])
    (told,) = signal_void.check_whole(HEAD & (3 * X > -45), AFFINE)
    assert "cut at the left: a part of the head is missing" in told
