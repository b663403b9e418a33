"""Slabs: every slice is covered, the merge is the exact inverse of the cut."""

import numpy as np
import pytest

from data_tools.slabs import cut_slabs, merge_slabs, slab_starts

pytestmark = [pytest.mark.core, pytest.mark.quick]


@pytest.mark.parametrize("stride", range(1, 17))
@pytest.mark.parametrize("slices", [16, 17, 31, 60])
def test_merge_gives_back_every_bit(stride, slices):
    rng = np.random.default_rng(stride)
    # Twelve orders of magnitude, so that a sum in float32 would lose bits.
    volume = rng.standard_normal((5, 4, slices)) * 10.0 ** rng.integers(-6, 7, (5, 4, slices))
    volume = volume.astype(np.float32)
    starts = slab_starts(stride, slices)
    merged = merge_slabs(cut_slabs(volume, starts), starts, slices)
    np.testing.assert_array_equal(merged.view(np.uint32), volume.view(np.uint32))


@pytest.mark.parametrize("stride", range(1, 17))
def test_slabs_reach_from_the_first_slice_to_the_last_without_a_gap(stride):
    starts = slab_starts(stride)
    assert starts[0] == 0
    assert starts[-1] == 60 - 16
    steps = np.diff(starts)
    assert (steps[:-1] == stride).all()
    assert 1 <= steps[-1] <= stride


def test_overlaps_are_averaged():
    # Two slabs of two slices, sharing the middle one: (2 + 6) / 2 = 4.
    slabs = np.float32([[[[1, 2]]], [[[6, 8]]]])
    np.testing.assert_array_equal(merge_slabs(slabs, [0, 1], 3), [[[1, 4, 8]]])


def test_cut_keeps_the_type_and_the_voxels():
    volume = np.random.default_rng(0).random((3, 2, 60, 2)) > 0.5
    slabs = cut_slabs(volume, [0, 7, 44])
    assert slabs.shape == (3, 3, 2, 16, 2)
    assert slabs.dtype == np.bool_
    np.testing.assert_array_equal(slabs[1], volume[:, :, 7:23])
    slabs[:] = False
    assert volume.any()  # a copy


@pytest.mark.parametrize("stride", [0, 17, -4])
def test_a_stride_that_would_leave_gaps_is_refused(stride):
    with pytest.raises(ValueError, match=f"stride is {stride}; expected 1 to 16"):
        slab_starts(stride)


def test_a_volume_thinner_than_a_slab_is_refused():
    with pytest.raises(ValueError, match="has 15 slices; expected at least 16"):
        slab_starts(4, slices=15)


def test_a_slice_in_no_slab_is_named():
    slabs = np.zeros((2, 1, 1, 16), np.float32)
    with pytest.raises(ValueError, match=r"slices \[16, 17\] are in no slab"):
        merge_slabs(slabs, [0, 18], 34)


def test_as_many_starts_as_slabs():
    with pytest.raises(ValueError, match="2 slabs but 1 starts"):
        merge_slabs(np.zeros((2, 1, 1, 16), np.float32), [0], 16)
