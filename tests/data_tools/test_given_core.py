"""A core mask of another program: any grid and orientation, and what is refused."""

import nibabel as nib
import numpy as np
import pytest

from data_tools.given_core import load_given_core
from data_tools.patient import NativePatient
from data_tools.runtime.errors import InputError
from data_tools.volumes import Volume

pytestmark = pytest.mark.quick

# Oblique, left to right reversed, thick slices.
TURN = np.deg2rad(12)
AFFINE = np.array(
    [
        [-2 * np.cos(TURN), -2 * np.sin(TURN), 0, 70],
        [-2 * np.sin(TURN), 2 * np.cos(TURN), 0, -60],
        [0, 0, 5, -30],
        [0, 0, 0, 1],
    ]
)
SHAPE = (64, 64, 16)


def places(shape, affine):
    """mm of every voxel: [..., 3]."""
    return nib.affines.apply_affine(affine, np.moveaxis(np.indices(shape), 0, -1))


def ball(points, middle, radius_mm):
    return np.sqrt(((points - middle) ** 2).sum(-1)) <= radius_mm


HEAD = nib.affines.apply_affine(AFFINE, (np.array(SHAPE) - 1) / 2)
LEFT = HEAD + (-22, 5, 0)


@pytest.fixture
def native():
    points = places(SHAPE, AFFINE)
    brain = ball(points, HEAD, 45) & (np.abs(points[..., 2] - HEAD[2]) < 34)
    image = Volume(brain.astype(np.float32), AFFINE, "dwi.nii.gz")
    return NativePatient(dwi=image, adc=image, adc_unit="mm2/s", brain=brain)


def written(path, mask, affine):
    nib.save(nib.Nifti1Image(mask.astype(np.uint8), affine), path)
    return path


@pytest.mark.parametrize("axes", ["RAS", "LPI", "PSR"])
def test_a_mask_on_a_finer_grid_of_any_orientation(axes, native, tmp_path):
    affine = np.diag([1.5, 1.5, 1.5, 1.0])
    affine[:3, 3] = HEAD - 70
    mask = ball(places((94, 94, 94), affine), LEFT, 12)
    image = nib.Nifti1Image(mask.astype(np.uint8), affine)
    turned = image.as_reoriented(
        nib.orientations.ornt_transform(
            nib.io_orientation(affine), nib.orientations.axcodes2ornt(axes)
        )
    )
    nib.save(turned, tmp_path / "core.nii.gz")
    found = load_given_core(tmp_path / "core.nii.gz", native)
    expected = ball(places(SHAPE, AFFINE), LEFT, 12)
    common = 2 * (found.mask & expected).sum() / (found.mask.sum() + expected.sum())
    assert common > 0.95 and not (found.mask & ~native.brain).any()
    assert "7.2 mL in its file" in found.notes[-1]  # of 4/3 pi 1.2**3


def test_on_the_dwis_own_grid_it_is_taken_as_it_is(native, tmp_path):
    mask = ball(places(SHAPE, AFFINE), LEFT, 12)
    found = load_given_core(written(tmp_path / "core.nii", mask, AFFINE), native)
    np.testing.assert_array_equal(found.mask, mask)


def test_what_reaches_over_the_brain_is_cut(native, tmp_path):
    edge = ball(places(SHAPE, AFFINE), HEAD + (-38, 0, 0), 10)
    found = load_given_core(written(tmp_path / "core.nii", edge, AFFINE), native)
    np.testing.assert_array_equal(found.mask, edge & native.brain)
    assert found.mask.sum() < edge.sum()


def test_that_there_is_none_must_be_said(native, tmp_path):
    empty = written(tmp_path / "core.nii", np.zeros(SHAPE), AFFINE)
    with pytest.raises(InputError, match="core.nii: is empty; .* or --core=none for a patient"):
        load_given_core(empty, native)
    for found in (
        load_given_core("none", native),
        load_given_core(empty, native, may_be_empty=True),
    ):
        assert found.mask.shape == SHAPE and not found.mask.any()


def test_what_is_refused(native, tmp_path):
    mask = ball(places(SHAPE, AFFINE), LEFT, 12)
    moved = AFFINE.copy()
    moved[1, 3] += 45
    outside = written(tmp_path / "moved.nii", mask, moved)
    with pytest.raises(InputError, match=r"core mask .*moved.nii: \d+% of it lies in the brain"):
        load_given_core(outside, native)
    probability = np.where(mask, 0.7, 0.1) * np.linspace(0.5, 1, SHAPE[0])[:, None, None]
    image = nib.Nifti1Image(probability.astype(np.float32), AFFINE)
    nib.save(image, tmp_path / "probability.nii")
    with pytest.raises(InputError, match="expected a mask of 0 and 1"):
        load_given_core(tmp_path / "probability.nii", native)
    with pytest.raises(InputError, match="nothing.nii"):
        load_given_core(tmp_path / "nothing.nii", native)
    fine = np.diag([0.5, 0.5, 0.5, 1.0])
    fine[:3, 3] = LEFT + 1.1
    crumb = np.zeros((4, 4, 4))
    crumb[1, 1, 1] = 1
    with pytest.raises(InputError, match=r"its 0.000 mL fill no voxel of DWI dwi.nii.gz"):
        load_given_core(written(tmp_path / "crumb.nii", crumb, fine), native)


def test_the_grid_may_be_another_cut_of_the_head(native, tmp_path):
    """A mask that was cut to the lesion: what is not in it is no core."""
    mask = ball(places(SHAPE, AFFINE), LEFT, 12)
    box = tuple(slice(k.min() - 1, k.max() + 2) for k in np.nonzero(mask))
    cut = AFFINE.copy()
    cut[:3, 3] = nib.affines.apply_affine(AFFINE, [part.start for part in box])
    found = load_given_core(written(tmp_path / "cut.nii", mask[box], cut), native)
    np.testing.assert_array_equal(found.mask, mask)
