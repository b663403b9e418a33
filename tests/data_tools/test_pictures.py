"""Pictures of slices: the patient's left is on the right, masks are where they belong."""

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from data_tools import drawing, pictures
from data_tools.pictures import SKY_BLUE, VERMILION, YELLOW, Heat, Overlay, axial_mosaic, to_ras

pytestmark = pytest.mark.quick

SHAPE = (40, 50, 30)


def head():
    """A grey ellipsoid of ones in the middle."""
    x, y, z = np.ogrid[-1:1:40j, -1:1:50j, -1:1:30j]
    return (x**2 + y**2 + z**2 < 0.9).astype(np.float32)


def pixels(image):
    """RGB 0..1, [row, column, colour]."""
    return np.asarray(image) / 255


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
    lesion = Overlay(mask, "lesion", VERMILION, filled=True)
    return pixels(axial_mosaic(image, [lesion], (2, 2, 2), "t"))


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
        overlay = Overlay(head() > 0, "brain", VERMILION)
        return drawing.png(axial_mosaic(head(), [overlay], (2, 2, 5), "t", footer="f"))

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


def alike(image, hexadecimal):
    """Pixels of about a colour."""
    return np.abs(image - np.array(drawing.rgb(hexadecimal)) / 255).max(axis=-1) < 0.2


def panel(image, number):
    """A panel's cell below one line of title."""
    row, column = divmod(number, pictures.COLUMNS)
    top, left = (
        33 + row * (pictures.PANEL_HEIGHT + pictures.GAP),
        pictures.MARGIN + column * (pictures.PANEL_WIDTH + pictures.GAP),
    )
    return image[top : top + pictures.PANEL_HEIGHT, left : left + pictures.PANEL_WIDTH]


def box_in(shape, *slices):
    mask = np.zeros(shape, bool)
    mask[slices] = True
    return mask


@pytest.mark.parametrize(
    ("shape", "spacing_mm"),
    [((40, 50, 3), (2, 2, 2)), ((41, 57, 3), (1.2, 1.2, 5)), ((33, 29, 3), (3, 2, 4)),
     ((300, 360, 3), (0.7, 0.7, 5))],
)  # fmt: skip
def test_the_contour_lies_on_the_masks_edge(shape, spacing_mm):
    """A box of known voxels: its outline in mm, from the panel's own scale."""
    brain = np.ones(shape, bool)
    x, y = (slice(n // 4, n // 2) for n in shape[:2])
    mask = box_in(shape, x, y)
    image = axial_mosaic(
        np.zeros(shape, np.float32), [Overlay(mask, "m", SKY_BLUE)], spacing_mm, "t",
        window=(0, 1), brain=brain,
    )  # fmt: skip
    found = alike(panel(pixels(image), 1), SKY_BLUE)
    extent_mm = shape[0] * spacing_mm[0], shape[1] * spacing_mm[1]
    scale = min(pictures.PANEL_WIDTH / extent_mm[0], pictures.PANEL_HEIGHT / extent_mm[1])
    middle = pictures.PANEL_WIDTH / 2, pictures.PANEL_HEIGHT / 2
    # Radiological: x falls from left to right; y falls from top to bottom.
    expected = [
        middle[axis] + scale * spacing_mm[axis] * (shape[axis] / 2 - edge)
        for axis, part in ((0, x), (1, y))
        for edge in (part.stop, part.start)
    ]
    rows, columns = np.nonzero(found)
    outline = [columns.min(), columns.max() + 1, rows.min(), rows.max() + 1]
    assert outline == pytest.approx(expected, abs=2)
    inside = found[rows.min() + 4 : rows.max() - 3, columns.min() + 4 : columns.max() - 3]
    assert inside.size and not inside.any()


def test_a_filled_mask_covers_its_own_area():
    mask = box_in(SHAPE, slice(10, 30), slice(10, 30))
    lesion = Overlay(mask, "m", VERMILION, filled=True)
    black = np.zeros(SHAPE, np.float32)
    image = axial_mosaic(black, [lesion], (2, 2, 2), "t", window=(0, 1), brain=head() > 0)
    found = panel(pixels(image), 4)[..., 0] > 0.1
    scale = pictures.PANEL_HEIGHT / (SHAPE[1] * 2)
    assert np.sqrt(found.sum()) == pytest.approx(40 * scale, abs=2)


@pytest.mark.parametrize("spacing_mm", [(2, 2, 2), (0.25, 0.25, 5)])
@pytest.mark.parametrize("filled", [True, False])
def test_a_single_voxel_is_seen_however_small(spacing_mm, filled):
    shape = (240, 300, 2)
    mask = box_in(shape, 100, 200, 0)
    dark = np.full(shape, 0.2, np.float32)
    image = axial_mosaic(
        dark, [Overlay(mask, "m", VERMILION, filled)], spacing_mm, "t", window=(0, 1),
        brain=np.ones(shape, bool),
    )  # fmt: skip
    lit = pixels(image)[33:200]
    assert (lit[..., 0] - lit[..., 2]).max() > 0.25


def ink(text):
    """A word as it stands in a panel, alone; grey [row, column]."""
    sheet = Image.new("L", (60, 20))
    drawing.Pen(sheet).write((30, 2), text, pictures.LETTER_SIZE, anchor="ma")
    rows, columns = np.nonzero(np.asarray(sheet))
    return np.asarray(sheet)[: rows.max() + 2, columns.min() : columns.max() + 1] / 255


def reading(area):
    """Which of the words that a panel may have stands in an area."""

    def difference(word):
        windows = np.lib.stride_tricks.sliding_window_view(area, word.shape)
        return np.abs(windows - word).sum(axis=(2, 3)).min() / word.sum()

    return min(("R", "L", "P", "A", "left", "right"), key=lambda text: difference(ink(text)))


@pytest.mark.parametrize(
    ("number", "words"), [(0, "R L"), (8, "R L"), (16, "P left A"), (23, "P right A")]
)
def test_each_panel_says_which_way_it_lies(number, words):
    """Axial, coronal, and sagittal panels, the patient's left side first."""
    image = axial_mosaic(head() / 2, [], (2, 2, 2), "t", panels=8, planes=True)
    top = np.pad(panel(pixels(image), number)[:70, :, 0], ((3, 0), (0, 0)))
    assert reading(top[:, :30]) == words.split()[0]
    assert reading(top[:, -30:]) == words.split()[-1]
    if len(words.split()) == 3:
        assert reading(top[:, 40:100]) == words.split()[1]


def test_letters_stay_legible_over_white():
    image = axial_mosaic(
        np.ones(SHAPE, np.float32), [], (2, 2, 2), "t", window=(0, 1), brain=np.ones(SHAPE, bool)
    )
    corner = panel(pixels(image), 0)[:14, :14].mean(axis=-1)
    assert corner.min() < 0.1 and corner.max() > 0.9


def test_a_heat_map_has_its_scale_and_hides_small_values():
    values = np.zeros(SHAPE, np.float32)
    values[:20], values[20:] = 0.05, 0.9
    heat = Heat(values=values, label="p", words=((0.1, "a"), (0.9, "b")))
    image = axial_mosaic(
        head(), [], (2, 2, 2), "t", panels=8, heat=heat, window=(0, 1), brain=head() > 0
    )
    seen = pixels(image)
    middle = panel(seen, 4)[80]
    grey = np.ptp(middle, axis=-1) < 0.02
    assert not grey[20:60].any() and grey[80:120].all()  # the patient's right stands on the left
    np.testing.assert_allclose(middle[40], 0.8 * drawing.heat_colours()[230] / 255 + 0.2, atol=0.02)
    below = seen[33 + pictures.PANEL_HEIGHT + pictures.GAP :]
    scale = below[19, 35 : 35 + 690]
    np.testing.assert_allclose(scale[[0, -1]], drawing.heat_colours()[[0, -1]] / 255, atol=0.01)
    first = np.flatnonzero(below[26].min(axis=-1) > 0.9)
    assert list(first) == pytest.approx([35 + 69, 35 + 621], abs=1)  # the marks of its words


def test_the_legend_names_every_overlay_and_keeps_off_the_footer():
    overlays = [Overlay(np.zeros(SHAPE, bool), "a mask", c) for c in (SKY_BLUE, VERMILION)]
    short = pixels(axial_mosaic(head(), overlays, (2, 2, 2), "t", footer="f"))
    long = pixels(axial_mosaic(head(), overlays, (2, 2, 2), "t", footer="f" * 280))
    for image in (short, long):
        for colour in (SKY_BLUE, VERMILION):
            assert alike(image, colour).sum() == pytest.approx(23 * 9, abs=20)
    rows = [np.nonzero(alike(image, SKY_BLUE))[0].mean() for image in (short, long)]
    assert rows[0] - rows[1] == 20  # a line higher


def test_warnings_are_yellow_also_where_they_are_wrapped():
    title = "fine\n! " + "something is wrong " * 12
    image = pixels(axial_mosaic(head(), [], (2, 2, 2), title))
    lines = [alike(image[20 * k + 4 : 20 * k + 20], YELLOW).sum() for k in range(3)]
    assert lines[0] == 0 and lines[1] > 50 and lines[2] > 50


@pytest.mark.parametrize("shape", [(40, 50, 1), (1, 50, 30), (40, 1, 30), (1, 1, 1), (7, 301, 2)])
def test_flat_and_odd_volumes_are_drawn(shape):
    image = np.ones(shape, np.float32)
    overlay = Overlay(image > 0, "all", SKY_BLUE)
    filled = Overlay(image > 0, "all", VERMILION, filled=True)
    heat = Heat(values=image, label="h", words=((1.0, "one"),))
    drawn = axial_mosaic(image, [overlay, filled], (2, 1, 6), "t", planes=True, heat=heat)
    assert drawn.width == pictures.WIDTH
