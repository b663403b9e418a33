"""NIfTI in and out: every check has a file that fails it, and left stays left."""

import gzip
import struct

import nibabel as nib
import numpy as np
import pytest

from data_tools.grid import GRID_AFFINE, GRID_SHAPE
from data_tools.runtime.errors import InputError
from data_tools.volumes import (
    Volume,
    load_mask,
    load_volume,
    require_grid,
    save_volume,
    to_nifti_bytes,
)

pytestmark = pytest.mark.quick

AFFINE = np.array([[-2.0, 0, 0, 30], [0, 1.5, 0, -20], [0, 0, 5, 10], [0, 0, 0, 1]])  # LAS
DATA = np.random.default_rng(0).integers(0, 900, (12, 10, 8)).astype(np.float32)


@pytest.fixture
def write(tmp_path):
    """Write a NIfTI file by nibabel alone: ``write(data, affine, qform, sform codes)``."""

    def function(data=DATA, affine=AFFINE, qcode=1, scode=1, qform=None, name="image.nii.gz"):
        image = nib.Nifti1Image(data, affine)
        image.set_qform(affine if qform is None else qform, qcode)
        image.set_sform(affine, scode)
        nib.save(image, tmp_path / name)
        return tmp_path / name

    return function


def change_header(path, offset, content):
    raw = bytearray(gzip.decompress(path.read_bytes()))
    raw[offset : offset + len(content)] = content
    path.write_bytes(gzip.compress(bytes(raw)))


def test_a_file_is_read_as_it_is(write):
    volume = load_volume(write())
    np.testing.assert_array_equal(volume.data, DATA)
    np.testing.assert_allclose(volume.affine, AFFINE)
    assert volume.data.dtype == np.float32
    assert volume.orientation == "LAS"
    assert volume.spacing_mm == pytest.approx((2, 1.5, 5))
    assert volume.voxel_ml == pytest.approx(2 * 1.5 * 5 / 1000)


@pytest.mark.parametrize(("qcode", "scode"), [(1, 0), (0, 1), (1, 2)])
def test_one_of_the_two_orientations_is_enough(write, qcode, scode):
    assert load_volume(write(qcode=qcode, scode=scode)).orientation == "LAS"


def test_a_single_volume_in_4d_and_a_scale_factor_are_read(tmp_path):
    image = nib.Nifti1Image(DATA[..., np.newaxis].astype(np.int16), AFFINE)
    image.header.set_slope_inter(0.5, 3)
    nib.save(image, tmp_path / "a.nii")
    stored = nib.load(tmp_path / "a.nii")
    volume = load_volume(tmp_path / "a.nii")
    assert volume.data.shape == DATA.shape
    np.testing.assert_allclose(volume.data, stored.get_fdata()[..., 0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"data": np.stack([DATA, DATA], -1)}, r"\(12, 10, 8, 2\); expected one 3D"),
        ({"data": DATA[:, :, 0]}, "expected one 3D volume"),
        ({"data": np.where(DATA > 890, np.nan, DATA)}, "voxels are NaN or infinite"),
        ({"data": np.where(DATA > 890, np.inf, DATA)}, "voxels are NaN or infinite"),
        ({"data": np.full_like(DATA, 7)}, "every voxel is 7; the image is empty"),
        ({"qcode": 0, "scode": 0}, "codes are both 0, so left and right are unknown"),
        ({"qform": AFFINE * [-1, 1, 1, 1]}, r"qform \(RAS\) and sform \(LAS\) point in different"),
        ({"affine": AFFINE + np.eye(4, k=1) * 0.5, "qcode": 0}, "axes are not at right angles"),
        ({"affine": np.diag([0.2, 2, 2, 1])}, "0.2 x 2 x 2 mm; expected 0.3 to 12 mm"),
        ({"affine": np.diag([2, 2, 13.0, 1])}, "2 x 2 x 13 mm; expected 0.3 to 12 mm"),
        ({"affine": np.diag([0.002, 0.002, 0.005, 1])}, "Is the affine in millimetres"),
    ],
)
def test_what_cannot_be_trusted_is_refused_by_name(write, options, message):
    path = write(**options)
    with pytest.raises(InputError, match=message) as caught:
        load_volume(path, "DWI")
    assert str(caught.value).startswith(f"DWI {path}: ")


@pytest.mark.parametrize("row", [(0, 0, 0, 30), (0, 1.5, 0, 30), (np.nan, 0, 0, 30)])
def test_a_singular_affine_is_refused(write, row):
    path = write(qcode=0)
    change_header(path, 280, struct.pack("<4f", *row))  # first row of the sform
    with pytest.raises(InputError, match="affine is singular or not finite"):
        load_volume(path)


def test_a_small_rounding_of_the_qform_is_no_contradiction(write):
    angle = np.deg2rad(0.5)
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    np.testing.assert_allclose(load_volume(write(qform=turn @ AFFINE)).affine, AFFINE)


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9999])
def test_a_truncated_file_is_refused(write, kept):
    path = write()
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(InputError, match="ends too early or is damaged .*; copy it again"):
        load_volume(path)


def test_a_truncated_plain_file_is_refused(write):
    path = write(name="image.nii")
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match="ends too early or is damaged"):
        load_volume(path)


def test_a_flipped_bit_is_found_by_the_checksum(tmp_path):
    path = tmp_path / "a.nii.gz"
    noise = np.random.default_rng(1).random((20, 20, 20), np.float32)  # does not compress
    save_volume(path, noise, AFFINE)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(InputError, match="ends too early or is damaged"):
        load_volume(path)


@pytest.mark.parametrize(
    ("offset", "content", "message"),
    [
        (70, struct.pack("<h", 999), "not a readable NIfTI file"),  # datatype
        (256, struct.pack("<3f", 9, 9, 9), "qform in the header is damaged"),  # quaternion
    ],
)
def test_a_damaged_header_is_refused(write, offset, content, message):
    path = write()
    change_header(path, offset, content)
    with pytest.raises(InputError, match=message):
        load_volume(path)


@pytest.mark.parametrize("name", ["A.NII.GZ", "a.Nii.gz", "a.nii.GZ", "a.nii"])
def test_a_flipped_bit_is_found_whatever_the_name(name, tmp_path):
    noise = np.random.default_rng(1).random((20, 20, 20), np.float32)
    content = bytearray(to_nifti_bytes(noise, AFFINE))
    path = tmp_path / name
    path.write_bytes(content)
    np.testing.assert_array_equal(load_volume(path).data, noise)
    for at in np.linspace(100, len(content) - 1, 15).astype(int):
        damaged = bytearray(content)
        damaged[at] ^= 8
        path.write_bytes(damaged)
        with pytest.raises(InputError, match="ends too early or is damaged"):
            load_volume(path)


@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
def test_a_plain_file_named_as_gzipped_is_read(kind, tmp_path):
    image = kind(DATA, AFFINE)
    image.set_sform(AFFINE, 1)
    (tmp_path / "a.nii.gz").write_bytes(image.to_bytes())
    np.testing.assert_array_equal(load_volume(tmp_path / "a.nii.gz").data, DATA)


@pytest.mark.parametrize("names", [("a.img", "a.hdr"), ("A.IMG", "A.HDR")])
def test_either_part_of_a_pair_is_read(names, tmp_path):
    image = nib.Nifti1Pair(DATA, AFFINE)
    image.set_sform(AFFINE, 1)
    nib.save(image, tmp_path / "x.img")
    for end, name in zip((".img", ".hdr"), names, strict=True):
        (tmp_path / f"x{end}").rename(tmp_path / name)
    for name in names:
        np.testing.assert_array_equal(load_volume(tmp_path / name).data, DATA)


def test_an_image_of_gaps_alone_is_called_so(write):
    path = write(data=np.full_like(DATA, np.nan))
    with pytest.raises(InputError, match="every voxel is NaN or infinite; the image is empty"):
        load_volume(path, "ADC", may_have_gaps=True)


def test_gaps_are_taken_as_background_where_they_may_be(write):
    data = DATA.copy()
    data[0], data[3, 4, 5], data[1, 1, 1] = np.nan, np.inf, -np.inf
    path = write(data)
    with pytest.raises(InputError, match="82 of 960 voxels are NaN or infinite"):
        load_volume(path)
    volume = load_volume(path, "ADC", may_have_gaps=True)
    np.testing.assert_array_equal(volume.data, np.where(np.isfinite(data), data, 0))
    np.testing.assert_array_equal(volume.reading.absent, ~np.isfinite(data))
    assert volume.reading.notes == (
        "ADC: 82 of 960 voxels are NaN or infinite and were taken as 0, background",
    )


def test_a_colour_image_is_refused(tmp_path):
    colour = np.zeros((4, 4, 4), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    nib.save(nib.Nifti1Image(colour, AFFINE), tmp_path / "c.nii")
    with pytest.raises(InputError, match="expected one number each"):
        load_volume(tmp_path / "c.nii")


def test_no_file_another_format_and_no_image_are_told_apart(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        load_volume(tmp_path / "absent.nii.gz")
    nib.save(nib.MGHImage(DATA, AFFINE), tmp_path / "a.mgz")
    with pytest.raises(InputError, match=r"is MGHImage; expected an image"):
        load_volume(tmp_path / "a.mgz")
    (tmp_path / "a.nii").write_text("not an image")
    with pytest.raises(InputError, match="not a readable NIfTI file"):
        load_volume(tmp_path / "a.nii")


def test_a_mask_of_small_floats_is_not_lost(write):
    mask = np.where(DATA > 400, 0.3, 0).astype(np.float32)
    np.testing.assert_array_equal(load_mask(write(mask)).data, DATA > 400)


@pytest.mark.parametrize("value", [1, 255])
def test_masks_become_0_and_1_and_may_be_empty_or_full(write, value):
    mask = (DATA > 400).astype(np.uint8) * value
    np.testing.assert_array_equal(load_mask(write(mask)).data, DATA > 400)
    assert not load_mask(write(np.zeros((4, 4, 4, 1), np.uint8))).data.any()
    assert load_mask(write(np.ones((4, 4, 4), np.uint8))).data.all()


@pytest.mark.parametrize(
    "values",
    [
        DATA,
        np.where(DATA > 400, -1, 0).astype(np.float32),
        np.where(DATA > 400, 7, 3).astype(np.uint8),
    ],
    ids=["many", "negative", "no background"],
)
def test_what_is_no_mask_is_refused(write, values):
    with pytest.raises(InputError, match="expected a mask of 0 and 1"):
        load_mask(write(values))


def test_same_grid_means_same_shape_and_place():
    volume = Volume(DATA, AFFINE)
    assert volume.same_grid(Volume(DATA + 1, AFFINE + 1e-5))
    assert not volume.same_grid(Volume(DATA[1:], AFFINE))
    shifted, turned = AFFINE.copy(), AFFINE.copy()
    shifted[2, 3] += 0.1
    turned[0, 1] += 0.01  # 0.09 mm at the far corner
    assert not volume.same_grid(Volume(DATA, shifted))
    assert not volume.same_grid(Volume(DATA, turned))


@pytest.mark.parametrize("data", [DATA, DATA > 400, DATA.astype(np.float64)])
def test_what_is_saved_reads_back(tmp_path, data):
    save_volume(tmp_path / "a.nii.gz", data, AFFINE, "simulated")
    image = nib.load(tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(image.get_fdata(), data)
    for matrix, code in (image.get_qform(coded=True), image.get_sform(coded=True)):
        np.testing.assert_allclose(matrix, AFFINE, atol=1e-6)
        assert code == 2
    assert image.header["descrip"].item() == b"simulated"
    assert image.get_data_dtype() == (np.uint8 if data.dtype == bool else np.float32)


def test_the_same_volume_gives_the_same_bytes(monkeypatch):
    first = to_nifti_bytes(DATA, AFFINE)
    monkeypatch.setattr("time.time", lambda: 2e9)
    assert to_nifti_bytes(DATA, AFFINE) == first


def test_only_the_mni_grid_passes():
    on_grid = Volume(np.zeros(GRID_SHAPE, np.float32), GRID_AFFINE)
    assert require_grid(on_grid, "ADC") is on_grid.data
    mirrored = GRID_AFFINE * [-1, 1, 1, 1]
    for data, affine in ((on_grid.data, mirrored), (on_grid.data[1:], GRID_AFFINE)):
        with pytest.raises(InputError, match="expected the MNI grid .*data_tools.preprocess"):
            require_grid(Volume(data, affine), "ADC")
