"""b-values and directions where each vendor writes them."""

import struct

import numpy as np
import pytest

pytest.importorskip("pydicom", reason="extra `dicom` is not installed")

from helpers.dicom_files import TRACE, WEIGHTINGS
from pydicom.dataset import Dataset

from data_tools.dicom.vendors import weighting

pytestmark = pytest.mark.quick

KIND = ("ORIGINAL", "PRIMARY", "OTHER")
OBLIQUE = tuple(np.array([1.0, -2.0, 2.0]) / 3)


def dataset(maker="", **values):
    data = Dataset()
    data.Manufacturer = maker
    for name, value in values.items():
        setattr(data, name, value)
    return data


def read(data, kind=KIND):
    return weighting(data, data, kind)


@pytest.mark.parametrize("maker", WEIGHTINGS)
@pytest.mark.parametrize("b_value", [0, 50, 700, 1000, 1500])
@pytest.mark.parametrize("direction", [TRACE, (0.0, 1.0, 0.0), OBLIQUE])
def test_every_vendors_weighting(maker, b_value, direction):
    data = dataset(maker)
    if b_value == 0:
        direction = TRACE
    kind = (*KIND, "TRACEW") if maker == "siemens" and not any(direction) else KIND
    WEIGHTINGS[maker](data, b_value, direction)
    found = read(data, kind)
    assert found.b_value == b_value
    if maker == "philips" and any(direction):  # the sign and scale of a unit vector
        assert np.abs(np.dot(found.direction, direction)) == pytest.approx(1)
    np.testing.assert_allclose(found.direction, direction, atol=1e-4)


def test_nothing_said_is_nothing_known():
    found = read(dataset("SIEMENS"))
    assert found.b_value is None and np.isnan(found.direction).all()


@pytest.mark.parametrize("added", [0, 1_000_000_000, 100_000, 1_000_000])
def test_ge_adds_large_numbers_to_b(added):
    data = dataset("GE MEDICAL SYSTEMS")
    block = data.private_block(0x0043, "GEMS_PARM_01", create=True)
    block.add_new(0x39, "IS", [800 + added, 8, 0, 0])
    assert read(data).b_value == 800


@pytest.mark.parametrize(("word", "axis"), [(3, 0), (4, 1), (5, 2)])
def test_ge_names_single_directions(word, axis):
    data = dataset("GE MEDICAL SYSTEMS")
    block = data.private_block(0x0043, "GEMS_PARM_01", create=True)
    block.add_new(0x39, "IS", [1000, 8, 0, 0])
    block.add_new(0x30, "SS", word)
    assert np.argmax(read(data).direction) == axis


def test_private_values_survive_an_anonymiser_that_took_the_creators_name():
    """Then their type is unknown, and they are bytes."""
    siemens = dataset("SIEMENS Healthineers")
    siemens.add_new((0x0019, 0x100C), "UN", b"1000")
    siemens.add_new((0x0019, 0x100E), "UN", struct.pack("<3d", 0, 0, 1))
    assert read(siemens)[:2] == (1000, (0, 0, 1))
    philips = dataset("Philips Medical Systems")
    philips.add_new((0x2001, 0x1003), "UN", struct.pack("<f", 800))
    assert read(philips).b_value == 800
    other = dataset("GE MEDICAL SYSTEMS")
    other.add_new((0x0019, 0x100C), "UN", b"1000")  # of another meaning there
    assert read(other).b_value is None


def test_the_public_attribute_decides():
    data = dataset("SIEMENS", DiffusionBValue=700.0)
    WEIGHTINGS["siemens"](data, 2000, TRACE)
    assert read(data).b_value == 700


@pytest.mark.parametrize(
    ("text", "b_value", "is_trace"),
    [("*ep_b1000t", 1000, True), ("ep_b50#3", 50, False), ("*epfid2d1_64", None, False)],
)
def test_the_name_of_siemens_sequence_says_it(text, b_value, is_trace):
    found = read(dataset("SIEMENS", SequenceName=text))
    assert found.b_value == b_value
    assert is_trace == (not any(found.direction))


def test_old_canon_writes_it_as_a_comment():
    assert read(dataset("TOSHIBA_MEC", ImageComments="b=1000(0.3,0.5,0.8)")).b_value == 1000
    assert read(dataset("TOSHIBA_MEC", ImageComments="web = 12")).b_value is None


def test_a_b_matrix_has_a_main_direction():
    data = dataset("SIEMENS", DiffusionBValue=1000.0, DiffusionDirectionality="BMATRIX")
    item = Dataset()
    b = 1000 * np.outer(OBLIQUE, OBLIQUE)
    for name, (i, j) in {"XX": (0, 0), "XY": (0, 1), "XZ": (0, 2), "YY": (1, 1),
                         "YZ": (1, 2), "ZZ": (2, 2)}.items():  # fmt: skip
        setattr(item, f"DiffusionBValue{name}", float(b[i, j]))
    data.DiffusionBMatrixSequence = [item]
    assert abs(np.dot(read(data).direction, OBLIQUE)) == pytest.approx(1)


def test_directional_without_a_vector_is_unknown_whatever_the_description_says():
    data = dataset("X", DiffusionBValue=1000.0, DiffusionDirectionality="DIRECTIONAL")
    data.SeriesDescription = "trace"
    assert np.isnan(read(data).direction).all()
    del data.DiffusionDirectionality
    assert read(data).direction == TRACE


@pytest.mark.parametrize("value", ["", "abc", [1, 2], None])
def test_odd_values_are_nothing(value):
    data = dataset("Philips")
    data.private_block(0x2001, "Philips Imaging DD 001", create=True).add_new(0x03, "UN", b"\1")
    data.private_block(0x2005, "Philips MR Imaging DD 001", create=True)
    data.ImageComments = value if isinstance(value, str) else None
    assert read(data).b_value is None
