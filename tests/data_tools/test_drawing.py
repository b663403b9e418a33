"""Brushes: edges where they are, colours as matplotlib has them, letters of every name."""

import io

import matplotlib
import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import distance_transform_edt

from data_tools import drawing

pytestmark = pytest.mark.quick


def disc(voxels=21, radius=7.0):
    rows, columns = np.ogrid[:voxels, :voxels]
    middle = (voxels - 1) / 2
    return (rows - middle) ** 2 + (columns - middle) ** 2 < radius**2


@pytest.mark.parametrize("pixels", [64, 40, 21])
def test_the_distance_to_an_edge_is_that_of_an_exact_transform(pixels):
    mask = disc()
    fine = 12  # the truth: the voxels' corners cut as the interpolation between centres cuts them
    size = (pixels * fine,) * 2
    field = Image.fromarray(mask.astype(np.float32)).resize(size, Image.Resampling.BILINEAR)
    inside = np.asarray(field) >= 0.5
    exact = distance_transform_edt(inside) - distance_transform_edt(~inside)
    exact = exact.reshape(pixels, fine, pixels, fine).mean(axis=(1, 3)) / fine
    found = drawing.edge_distance(mask, (pixels, pixels))
    near = np.abs(exact) < 0.7
    assert np.abs(found - exact)[near].mean() < 0.2
    assert ((found > 0) == (exact > 0))[np.abs(exact) > 0.5].all()


def test_a_line_and_a_region_cover_what_they_should():
    distance = np.float32([-5, -1.5, -1, -0.5, 0, 0.5, 1, 5])
    np.testing.assert_allclose(drawing.line(distance, 1.0), [0, 0, 0, 0.5, 1, 0.5, 0, 0])
    np.testing.assert_allclose(drawing.region(distance), [0, 0, 0, 0.5, 1, 1, 1, 1])


def test_an_empty_and_a_full_mask_have_no_edge():
    for mask, sign in ((np.zeros((5, 7), bool), -1), (np.ones((5, 7), bool), 1)):
        distance = drawing.edge_distance(mask, (50, 70))
        assert (np.sign(distance) == sign).all()
        assert not drawing.line(distance).any()


def test_voxels_stay_sharp_and_small_ones_are_averaged():
    chess = (np.indices((4, 6)).sum(axis=0) % 2 * 200).astype(np.uint8)
    assert np.array_equal(drawing.enlarged(chess, (12, 18)), chess.repeat(3, 0).repeat(3, 1))
    assert (drawing.enlarged(chess, (2, 3)) == 100).all()


def test_the_colours_of_heat_are_viridis():
    values = np.linspace(0, 1, 256)
    expected = matplotlib.colormaps["viridis"](values)[:, :3] * 255
    assert np.abs(drawing.heat(values).astype(float) - expected).max() < 8
    assert np.array_equal(
        drawing.heat(np.array([0.4, 2]), top=0.4), drawing.heat_colours()[[-1, -1]]
    )


def test_paint_mixes_by_coverage():
    picture = np.full((1, 3, 3), 100, np.uint8)
    drawing.paint(picture, np.array([[0, 0.5, 1]]), "#FF0000")
    assert picture.tolist() == [[[100, 100, 100], [178, 50, 50], [255, 0, 0]]]


@pytest.mark.parametrize("text", ["Müller", "Ångström", "Łukasz", "Ωμέγα", "Жанна", "µ", "≥", "²"])
def test_names_are_written_with_their_own_letters(text):
    missing = (
        drawing.font(12.0).getmask("\ufffe").getbbox(),
        bytes(drawing.font(12.0).getmask("\ufffe")),
    )
    for letter in text:
        mask = drawing.font(12.0).getmask(letter)
        assert (mask.getbbox(), bytes(mask)) != missing


def test_pngs_stand_one_below_the_other():
    red, blue = Image.new("RGB", (4, 2), "red"), Image.new("RGB", (4, 3), "blue")
    both = np.asarray(Image.open(io.BytesIO(drawing.png(red, blue))))
    assert both.shape == (5, 4, 3)
    assert (both[:2] == [255, 0, 0]).all() and (both[2:] == [0, 0, 255]).all()
