"""Pictures of slices: the patient's left is on the right, masks are where they belong."""

import io

import matplotlib.image
import nibabel as nib
import numpy as np
import pytest

from data_tools.pictures import VERMILION, Overlay, axial_mosaic, to_ras

pytestmark = pytest.mark.quick

SHAPE = (40, 50, 30)


def head():
    """A grey ellipsoid of ones in the middle."""
    x, y, z = np.ogrid[-1:1:40j, -1:1:50j, -1:1:30j]
    return (x**2 + y**2 + z**2 < 0.9).astype(np.float32)


def pixels(png):
    """RGB 0..1, [row, column, colour]."""
    return matplotlib.image.imread(io.BytesIO(png))[:, :, :3]


def coloured(image, hexadecimal):
    """Pixels of one hue, blended with any grey: the colour's own ordering of channels."""
    red, _, blue = (int(hexadecimal[k : k + 2], 16) / 255 for k in (1, 3, 5))
    return image[:, :, 0] - image[:, :, 2] > 0.3 * (red - blue)


def one_slice(x):
    """A mosaic of a single slice with a block drawn at x, cut to the panel."""
    image = head()[:, :, 14:16]
    image[:, :, 1] = 0
    mask = np.zeros(image.shape, bool)
    mask[x : x + 6, 20:30] = True
    png = axial_mosaic(image, [Overlay(mask, "lesion", VERMILION, filled=True)], (2, 2, 2), "t")
    return pixels(png)


def test_left_is_on_the_right_of_the_picture():
    columns = {}
    for side, x in (("left", 8), ("right", 26)):
        image = one_slice(x)
        panel = image[: int(image.shape[0] * 0.8), : image.shape[1] // 8]  # first of 8 columns
        found = coloured(panel, VERMILION)
        assert found.sum() > 50
        columns[side] = np.argwhere(found)[:, 1].mean() / panel.shape[1]
    assert columns["left"] > 0.55
    assert columns["right"] < 0.45


def test_an_empty_mask_draws_nothing_but_its_legend():
    def count(mask):
        overlay = Overlay(mask, "core", VERMILION, filled=True)
        image = pixels(axial_mosaic(head(), [overlay], (2, 2, 2), "title"))
        above_legend = image[: int(image.shape[0] * 0.85)]
        return int(coloured(above_legend, VERMILION).sum()), int(coloured(image, VERMILION).sum())

    empty, full = count(np.zeros(SHAPE, bool)), count(head() > 0)
    assert empty[0] == 0
    assert empty[1] > 0
    assert full[0] > 1000


def test_the_same_picture_has_the_same_bytes():
    def draw():
        return axial_mosaic(
            head(), [Overlay(head() > 0, "brain", VERMILION)], (2, 2, 5), "t", footer="f"
        )

    assert draw() == draw()


@pytest.mark.parametrize(
    ("options", "rows"),
    [({"panels": 8}, 1), ({"panels": 9}, 2), ({"panels": 24}, 3), ({"planes": True}, 5)],
)
def test_eight_panels_stand_in_a_row(options, rows):
    height, width, _ = pixels(axial_mosaic(head(), [], (2, 2, 2), "t", **options)).shape
    # Height in inches: 1.9 a row, 0.22 a line of title and footer, and 0.5; 90 dots per inch.
    assert height == pytest.approx(90 * (1.9 * rows + 0.44 + 0.5), abs=1)
    assert width == pytest.approx(90 * 8 * 1.6, abs=1)


def test_only_slices_of_the_brain_are_chosen():
    image, brain = np.ones(SHAPE, np.float32), np.zeros(SHAPE, bool)
    brain[10:30, 10:40, 12:16] = True
    four = pixels(axial_mosaic(image, [], (2, 2, 2), "t", brain=brain))
    all_of_it = pixels(axial_mosaic(image, [], (2, 2, 2), "t", panels=30))
    assert four.shape[0] < all_of_it.shape[0]


def test_the_window_sets_black_and_white():
    image = np.full(SHAPE, 50, np.float32)
    black = pixels(axial_mosaic(image, [], (2, 2, 2), "", window=(60, 100), brain=image > 0))
    white = pixels(axial_mosaic(image, [], (2, 2, 2), "", window=(0, 40), brain=image > 0))
    assert black.mean() < 0.1
    assert white.mean() > 0.3


def test_an_image_of_zeros_can_still_be_drawn():
    picture = pixels(axial_mosaic(np.zeros(SHAPE, np.float32), [], (2, 2, 2), "empty"))
    assert picture.size > 0


@pytest.mark.parametrize("codes", ["RAS", "LAS", "PIR", "ASL"])
def test_axes_are_brought_to_ras_as_nibabel_does(codes):
    data = np.arange(2 * 3 * 4, dtype=np.float32).reshape(2, 3, 4)
    orientation = nib.orientations.axcodes2ornt(codes)
    axes = orientation[:, 0].astype(int)
    affine = np.eye(4)
    affine[:3, :3] = 0
    for voxel_axis, (world_axis, spacing) in enumerate(zip(axes, (1, 2, 5), strict=True)):
        affine[world_axis, voxel_axis] = spacing * orientation[voxel_axis, 1]
    expected = nib.as_closest_canonical(nib.Nifti1Image(data, affine))
    turned, spacing_mm = to_ras(data, affine)
    np.testing.assert_array_equal(turned, expected.get_fdata())
    assert spacing_mm == pytest.approx(expected.header.get_zooms())
