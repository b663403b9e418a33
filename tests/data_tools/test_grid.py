"""The MNI grid: its geometry, the halves of the brain, the frame of the network."""

import nibabel as nib
import numpy as np
import pytest

from data_tools import grid

pytestmark = [pytest.mark.core, pytest.mark.quick]


def world_x_mm():
    """x of every voxel, by nibabel's affine arithmetic."""
    index = np.indices(grid.GRID_SHAPE).reshape(3, -1).T
    return nib.affines.apply_affine(grid.GRID_AFFINE, index)[:, 0].reshape(grid.GRID_SHAPE)


def test_corners_lie_where_the_docstring_says():
    first = nib.affines.apply_affine(grid.GRID_AFFINE, (0, 0, 0))
    last = nib.affines.apply_affine(grid.GRID_AFFINE, (90, 108, 59))
    np.testing.assert_array_equal(first, (-90, -126, -40))
    np.testing.assert_array_equal(last, (90, 90, 78))
    assert nib.aff2axcodes(grid.GRID_AFFINE) == ("R", "A", "S")


def test_a_voxel_holds_what_its_edges_say():
    assert grid.VOXEL_ML == 0.008
    assert pytest.approx(abs(np.linalg.det(grid.GRID_AFFINE)) / 1000) == grid.VOXEL_ML


def test_the_affine_cannot_be_changed_by_accident():
    with pytest.raises(ValueError, match="read-only"):
        grid.GRID_AFFINE[0, 0] = 1


@pytest.mark.parametrize(
    ("side", "belongs"),
    [
        ("left", lambda x: x <= 0),
        ("right", lambda x: x >= 0),
        ("bilateral", lambda x: np.ones_like(x, bool)),
        ("unknown", lambda x: np.ones_like(x, bool)),
    ],
)
def test_hemisphere_is_the_half_of_negative_or_positive_x(side, belongs):
    np.testing.assert_array_equal(grid.hemisphere(side), belongs(world_x_mm()))


def test_mirrored_left_half_is_the_right_half():
    left, right = grid.hemisphere("left"), grid.hemisphere("right")
    np.testing.assert_array_equal(left[::-1], right)
    np.testing.assert_array_equal(left | right, grid.hemisphere("bilateral"))
    # Only the midline is shared.
    np.testing.assert_array_equal(left & right, world_x_mm() == 0)


@pytest.mark.parametrize("side", ["Left", "L", "", "both"])
def test_another_word_for_a_side_is_refused(side):
    with pytest.raises(ValueError, match="expected one of left, right, bilateral"):
        grid.hemisphere(side)


@pytest.mark.parametrize("side", grid.SIDES)
def test_side_channel_holds_the_hemisphere_and_goes_on_into_the_margin(side):
    frame = grid.side_frame(side)
    assert frame.shape == (128, 128)
    np.testing.assert_array_equal(grid.from_frame(frame), grid.hemisphere(side)[:, :, 0])
    # The same along y, and the outermost columns belong to their half.
    np.testing.assert_array_equal(frame, frame[:, :1] | np.zeros((128, 128), bool))
    assert frame[0, 0] == (side != "right")
    assert frame[-1, 0] == (side != "left")


def test_the_template_s_brain_fills_what_is_written_of_it():
    from data_tools.registration import template_on_grid

    brain = template_on_grid()[1]
    for ends, others in ((grid.TEMPLATE_BRAIN_X, (1, 2)), (grid.TEMPLATE_BRAIN_Y, (0, 2))):
        filled = np.flatnonzero(brain.any(axis=others))
        assert (filled[0], filled[-1]) == ends


@pytest.mark.parametrize("shape", [(80, 104), (80, 112), (96, 112), (128, 128)])
def test_a_window_lies_about_the_brain_and_in_every_larger_one(shape):
    window = grid.window_about_brain(shape)
    frame = np.zeros(grid.FRAME_SHAPE, bool)
    frame[window] = True
    assert frame.sum() == shape[0] * shape[1]
    np.testing.assert_array_equal(grid.from_frame(~frame), grid.grid_outside(shape))
    pads = (grid.FRAME_PAD_X, grid.FRAME_PAD_Y)
    brains = (grid.TEMPLATE_BRAIN_X, grid.TEMPLATE_BRAIN_Y)
    for part, pad, (first, last) in zip(window, pads, brains, strict=True):
        before, after = pad + first - part.start, part.stop - 1 - (pad + last)
        assert min(before, after) >= 3
        if part.start:
            assert after - before in (0, 1)
    larger = np.zeros(grid.FRAME_SHAPE, bool)
    larger[grid.window_about_brain((shape[0], 128))] = True
    assert (larger | ~frame).all()


def test_a_mirrored_patient_has_the_other_side():
    for side in grid.SIDES:
        mirrored = grid.hemisphere(grid.mirrored_side(side))
        np.testing.assert_array_equal(grid.hemisphere(side)[::-1], mirrored)


@pytest.mark.parametrize("dtype", [np.float32, np.bool_, np.uint8])
@pytest.mark.parametrize("rest", [(), (3,), (2, 5)])
def test_frame_pads_with_zeros_and_gives_the_grid_back(dtype, rest):
    values = np.random.default_rng(0).integers(0, 2, (91, 109, *rest))
    volume = values.astype(dtype)
    frame = grid.to_frame(volume)
    assert frame.shape == (128, 128, *rest)
    assert frame.dtype == dtype
    assert np.count_nonzero(frame) == np.count_nonzero(volume)
    np.testing.assert_array_equal(grid.from_frame(frame), volume)


def test_the_grid_stands_in_the_middle_of_the_frame():
    seen = np.argwhere(grid.to_frame(np.ones((91, 109), bool)))
    before, after = seen.min(axis=0), 127 - seen.max(axis=0)
    assert np.abs(before - after).max() <= 1
