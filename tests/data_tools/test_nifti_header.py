"""Qform, sform and pixdim: files that differ are read rightly, and said, or refused by both."""

import nibabel as nib
import numpy as np
import pytest

from data_tools.alignment import onto
from data_tools.runtime.errors import InputError
from data_tools.volumes import load_volume

pytestmark = pytest.mark.quick

TRUE = np.array([[-1.8, 0, 0, 110], [0, 1.8, 0, -120], [0, 0, 6, -40], [0, 0, 0, 1.0]])
DATA = np.random.default_rng(0).integers(1, 900, (40, 36, 12)).astype(np.float32)
VOXEL_ML = 1.8 * 1.8 * 6 / 1000


def turn(degrees, axis=2):
    a, b = [k for k in range(3) if k != axis]
    matrix = np.eye(4)
    angle = np.deg2rad(degrees)
    matrix[[a, a, b, b], [a, b, a, b]] = [
        np.cos(angle),
        -np.sin(angle),
        np.sin(angle),
        np.cos(angle),
    ]
    return matrix


def scaled(*factors):
    return np.diag([*(factors if len(factors) == 3 else factors * 3), 1.0])


def moved(*mm):
    matrix = np.eye(4)
    matrix[:3, 3] = mm
    return matrix


@pytest.fixture
def write(tmp_path):
    def function(change=None, q=1, s=1, name="a.nii", pixdim=None, units=2):
        """The sform is the true one changed; the qform is true."""
        image = nib.Nifti1Image(DATA, TRUE)
        image.set_qform(TRUE, q)
        image.set_sform(TRUE if change is None else change @ TRUE, s)
        image.header["xyzt_units"] = units
        if pixdim is not None:
            image.header["pixdim"][1:4] = pixdim
        (tmp_path / name).write_bytes(image.to_bytes())
        return tmp_path / name

    return function


@pytest.mark.parametrize("scale", [0.8, 0.98, 1.02, 1.18, 1.3, (1, 1, 1.1), (1.02, 0.98, 1)])
@pytest.mark.parametrize("code", [3, 4])
def test_a_templates_sform_never_scales_the_patient(write, scale, code):
    change = scaled(*np.atleast_1d(scale))
    volume = load_volume(write(change, s=code), "ADC")
    assert volume.voxel_ml == pytest.approx(VOXEL_ML, rel=1e-5)
    np.testing.assert_allclose(volume.affine, TRUE, atol=1e-4)
    (note,) = volume.reading.notes
    assert note.startswith("ADC: sform (code") and "the patient's own, and was taken" in note


@pytest.mark.parametrize("scale", [0.9, 0.98, 1.02, 1.18, (1, 1, 1.05)])
@pytest.mark.parametrize(("q", "s"), [(1, 1), (1, 2), (2, 1), (2, 2), (4, 4)])
def test_two_lengths_of_which_none_is_surely_right_are_refused_with_both(write, scale, q, s):
    change = scaled(*np.atleast_1d(scale))
    lengths = np.array([1.8, 1.8, 6]) * scale
    with pytest.raises(InputError) as caught:
        load_volume(write(change, q=q, s=s), "DWI")
    message = str(caught.value)
    assert "1.8 x 1.8 x 6 mm, 0.01944 mL each" in message
    assert f"{lengths.prod() / 1000:.4g} mL each" in message
    assert "Only one can be right" in message


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (moved(54, 0, 0), "54 mm apart and they are turned by 0 degrees"),
        (moved(0, 10, 0), "10 mm apart"),
        (moved(0, 0, 1.5), "1.5 mm apart"),
        (turn(20), "turned by 20 degrees"),
        (turn(5, axis=0), "turned by 5 degrees"),
        (turn(1.5, axis=1), "turned by 1.5 degrees"),
    ],
)
def test_another_place_or_turn_is_said_or_refused(write, change, words):
    volume = load_volume(write(change, q=1, s=2), "DWI")
    np.testing.assert_allclose(volume.affine, change @ TRUE, atol=1e-4)
    assert words in volume.reading.notes[0] and "the sform was taken" in volume.reading.notes[0]
    assert volume.voxel_ml == pytest.approx(VOXEL_ML, rel=1e-5)
    with pytest.raises(InputError, match=f"{words}.* both say that they are of the same space"):
        load_volume(write(change, q=1, s=1), "DWI")


def test_a_dwi_and_an_adc_that_only_their_qforms_put_together_are_refused(write):
    dwi = load_volume(write(moved(10, 0, 0), q=1, s=2, name="dwi.nii"), "DWI")
    adc = load_volume(write(name="adc.nii"), "ADC")
    with pytest.raises(InputError, match=r"on one grid by some of the qforms and sforms.* 10.0 mm"):
        onto(adc, dwi, "ADC map")
    both = load_volume(write(moved(10, 0, 0), q=1, s=2, name="adc.nii"), "ADC")
    assert onto(both, dwi, "ADC map").volume is both


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (moved(0.5, 0.5, 0.5), False),
        (turn(0.3), False),
        (scaled(1.0005), False),
        (scaled(1.004), True),
        (scaled(0.997, 1, 1), True),
    ],
)
def test_roundings_are_no_contradiction_and_said_if_they_bear_on_volumes(write, change, said):
    volume = load_volume(write(change))
    notes = " ".join(volume.reading.notes)
    assert ("mL each; the sform was taken" in notes) is said
    assert volume.voxel_ml == pytest.approx(VOXEL_ML * abs(np.linalg.det(change)), rel=1e-6)


@pytest.mark.parametrize(("pixdim", "ml"), [((2, 2, 6), 0.024), ((1.8, 1.8, 5), 0.0162)])
def test_a_pixdim_against_the_sform_is_refused_without_a_qform(write, pixdim, ml):
    with pytest.raises(InputError, match=f"0.01944 mL each; pixdim has .* {ml} mL each"):
        load_volume(write(q=0, pixdim=pixdim))


def test_a_pixdim_that_was_never_filled_in_is_no_contradiction(write):
    for pixdim in ((1, 1, 1), (0, 0, 0)):
        volume = load_volume(write(q=0, pixdim=pixdim))
        assert volume.voxel_ml == pytest.approx(VOXEL_ML, rel=1e-5)
        assert "pixdim was never filled in" in volume.reading.notes[0]
    with pytest.raises(InputError, match="there is no qform"):  # may be true voxels of 1 mm
        load_volume(write(scaled(1.18 / 1.8, 1.18 / 1.8, 1.18 / 6), q=0, pixdim=(1, 1, 1)))


@pytest.mark.parametrize("unit", [1, 3])
def test_metres_and_micrometres_are_read_as_such_or_not_believed(write, unit):
    volume = load_volume(write(units=unit))
    assert volume.voxel_ml == pytest.approx(VOXEL_ML, rel=1e-5)
    assert "cannot be in; mm were taken" in volume.reading.notes[0]
    factor = {1: 1e-3, 3: 1e3}[unit]
    scale = np.diag([factor] * 3 + [1.0])
    path = write(scale, q=0, units=unit, pixdim=np.array([1.8, 1.8, 6]) * factor)
    volume = load_volume(path)
    np.testing.assert_allclose(volume.affine, TRUE, rtol=1e-5)
    assert "and was read so" in volume.reading.notes[0]
