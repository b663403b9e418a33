"""Images of one session on one grid, by their coordinates."""

import dataclasses

import numpy as np
import pytest

from data_tools.alignment import onto
from data_tools.runtime.errors import InputError
from data_tools.volumes import Reading, Volume

pytestmark = pytest.mark.quick

AFFINE = np.array([[-2.0, 0, 0, 30], [0, 1.5, 0, -20], [0, 0, 5, 10], [0, 0, 0, 1]])
SHAPE = (16, 14, 9)


def ramp(shape, affine):
    """A value that is linear in the millimetres, so that interpolation has a truth."""
    index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1)
    mm = index @ affine[:3, :3].T + affine[:3, 3]
    return (1000 + mm @ [3.0, 5, 7]).astype(np.float32)


TARGET = Volume(ramp(SHAPE, AFFINE), AFFINE, "dwi.nii")


def moved(*mm):
    affine = AFFINE.copy()
    affine[:3, 3] += mm
    return affine


def test_an_image_on_the_grid_is_left_as_it_is():
    image = Volume(TARGET.data + 1, AFFINE, "adc.nii")
    assert onto(image, TARGET, "ADC map").volume is image


@pytest.mark.parametrize("mm", [(0.02, 0, 0), (0, 0, 0.02), (0.3, -0.2, 0.4)])
def test_a_small_shift_is_said_in_mm_and_loses_no_slice(mm):
    affine = moved(*mm)
    found = onto(Volume(ramp(SHAPE, affine), affine, "adc.nii"), TARGET, "ADC map")
    inner = (slice(1, -1),) * 3
    np.testing.assert_allclose(found.volume.data[inner], TARGET.data[inner], rtol=1e-5)
    assert (found.volume.data > 0).all()
    assert found.notes == (
        f"the ADC map lies {np.linalg.norm(mm):.2g} mm off the DWI's voxels; it was resampled",
    )
    assert found.warnings == ()


def test_other_orders_of_axes_are_the_same_voxels_to_the_bit():
    noise = np.random.default_rng(0).uniform(1, 2, SHAPE).astype(np.float32)
    flip = np.diag([-1.0, 1, 1, 1])
    flip[0, 3] = SHAPE[0] - 1
    for data, matrix in (
        (noise[::-1], AFFINE @ flip),
        (noise.transpose(1, 0, 2), AFFINE[:, [1, 0, 2, 3]]),
    ):
        found = onto(Volume(data, matrix, "adc.nii"), TARGET, "ADC map")
        np.testing.assert_array_equal(found.volume.data, noise)
        assert "in another order" in found.notes[0]


def test_a_finer_grid_is_resampled_without_its_background():
    finer = AFFINE @ np.diag([0.5, 0.5, 1, 1])
    shape = (32, 28, 9)
    data = ramp(shape, finer)
    data[:7] = 0  # outside the head
    found = onto(Volume(data, finer, "adc.nii"), TARGET, "ADC map")
    shown = found.volume.data > 0
    np.testing.assert_allclose(found.volume.data[shown], TARGET.data[shown], rtol=2e-3)
    assert not shown[:3].any() and shown[4:].all()
    assert "another grid (32 x 28 x 9 voxels of 1 x 0.75 x 5 mm)" in found.notes[0]


def test_slices_of_one_only_are_a_warning_and_another_place_is_refused():
    short = Volume(TARGET.data[:, :, 2:], moved(0, 0, 10), "adc.nii")
    found = onto(short, TARGET, "ADC map")
    assert not found.volume.data[:, :, :2].any()
    np.testing.assert_array_equal(found.volume.data[:, :, 2:], TARGET.data[:, :, 2:])
    assert (
        "0 of the ADC map and 2 of the DWI are in one only; were files lost?" in found.warnings[0]
    )
    with pytest.raises(InputError, match="do not show the same part of space: 0% .* 200 mm away"):
        onto(Volume(TARGET.data, moved(200, 0, 0), "adc.nii"), TARGET, "ADC map")


def test_gaps_go_with_the_image():
    absent = np.zeros(SHAPE, bool)
    absent[4, 5, 6] = True
    image = Volume(TARGET.data, moved(0.2, 0, 0), "adc.nii", Reading(absent=absent))
    found = onto(image, TARGET, "ADC map").volume.reading.absent
    assert found[4, 5, 6] and found.sum() <= 2
    assert onto(dataclasses.replace(image, affine=AFFINE), TARGET, "x").volume.reading is (
        image.reading
    )
