"""MetaImage and NRRD: the patient's left stays left whatever way the axes run."""

import bz2
import gzip

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from data_tools.diffusion import load_diffusion
from data_tools.runtime.errors import InputError
from data_tools.volumes import load_mask, load_volume

pytestmark = pytest.mark.quick

DATA = np.random.default_rng(0).integers(1, 900, (12, 10, 8)).astype(np.float32)  # x, y, z
SPACING = np.array([2.0, 1.5, 5.0])
ORIGIN_LPS = np.array([-30.0, 20.0, 10.0])
FUNCTION = "ElementToIntensityFunction"
ENDINGS = ("mha", "mhd", "nrrd", "nhdr")


def turned(degrees):
    angle = np.deg2rad(degrees)
    about_z = np.array(
        [[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]]
    )
    about_x = np.array(
        [[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]]
    )
    return about_z @ about_x


# Columns are the directions of i, j, k in LPS.
DIRECTIONS = {
    "LPS": np.eye(3),
    "RAS": np.diag([-1.0, -1, 1]),
    "LAS": np.diag([1.0, -1, 1]),
    "PSL": np.array([[0.0, 0, 1], [1, 0, 0], [0, 1, 0]]),
    "turned": turned(17),
}


def write(path, direction, data=DATA, packed=False):
    image = sitk.GetImageFromArray(np.ascontiguousarray(data.T))
    image.SetSpacing(SPACING)
    image.SetOrigin(ORIGIN_LPS)
    image.SetDirection(direction.ravel())
    sitk.WriteImage(image, str(path), packed)
    return path


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("end", ENDINGS)
@pytest.mark.parametrize("name", DIRECTIONS)
def test_voxels_lie_where_itk_says(tmp_path, name, end, packed):
    direction = DIRECTIONS[name]
    volume = load_volume(write(tmp_path / f"a.{end}", direction, packed=packed))
    np.testing.assert_array_equal(volume.data, DATA)
    for index in ((0, 0, 0), (11, 0, 0), (3, 9, 7)):
        lps = ORIGIN_LPS + direction @ (SPACING * index)
        ras = nib.affines.apply_affine(volume.affine, index)
        np.testing.assert_allclose(ras, lps * [-1, -1, 1], atol=1e-4)
    assert volume.voxel_ml == pytest.approx(0.015)
    if name != "turned":
        assert volume.orientation == name


@pytest.mark.parametrize("end", ENDINGS)
def test_it_is_the_same_image_as_nifti(tmp_path, end):
    """Against SimpleITK's own NIfTI writer, read by nibabel."""
    path = write(tmp_path / f"a.{end}", DIRECTIONS["turned"])
    sitk.WriteImage(sitk.ReadImage(str(path)), str(tmp_path / "a.nii"))
    other = nib.load(tmp_path / "a.nii")
    volume = load_volume(path)
    np.testing.assert_array_equal(volume.data, other.get_fdata())
    np.testing.assert_allclose(volume.affine, other.affine, atol=1e-4)


@pytest.mark.parametrize(
    ("space", "codes"), [("right-anterior-superior", "RAS"), ("LAS", "LAS"), ("lps", "LPS")]
)
def test_the_space_of_an_nrrd_file_counts(tmp_path, space, codes):
    path = write(tmp_path / "a.nrrd", np.eye(3))
    path.write_bytes(
        path.read_bytes().replace(b"left-posterior-superior", space.encode(), 1)
    )  # fmt: skip
    assert load_volume(path).orientation == codes


@pytest.mark.parametrize(
    ("end", "before", "after", "message"),
    [
        ("nrrd", b"space: left-posterior-superior", b"space dimension: 3", "no field `space`"),
        ("nrrd", b"left-posterior-superior", b"scanner-xyz", "its space is 'scanner-xyz'"),
        (
            "nrrd",
            b"left-posterior-sup",
            b"right-posterior-sup",
            "'right-posterior-superior', which is not read here; expected left-posterior-superior,",
        ),
        ("nrrd", b"left-posterior-superior", b"LPI", "its space is 'LPI', which is not read here"),
        ("nrrd", b"kinds:", b'space units: "\xc2\xb5m" "mm" "mm"\nkinds:', "lengths are in 'µm'"),
        ("nrrd", b"kinds:", b'space units: "\xb5m" "mm" "mm"\nkinds:', "lengths are in 'µm'"),
        ("mha", b"TransformMatrix", b"Comment", "no TransformMatrix"),
        ("mha", b"= RAI", b"= LAI", "AnatomicalOrientation is LAI and TransformMatrix RAI"),
        ("mha", b"1 0 0 0 1 0 0 0 1", b"1 0.4 0 0 1 0 0 0 1", "not at right angles"),
        ("mha", b"Spacing = 2 1.5 5", b"Spacing = 2 1.5 50", "expected 0.3 to 12 mm"),
        ("mhd", b"a.raw", b"absent.raw", "ends too early or is damaged"),
        ("mha", b"ElementSpacing = 2 1.5 5", b"Comment = no", "no ElementSpacing, so the voxel"),
        ("mha", b"ElementSpacing", b"DistanceUnits = m\nElementSpacing", "DistanceUnits are 'm'"),
        ("nrrd", b"kinds:", b'space units: "m" "m" "m"\nkinds:', "its lengths are in 'm'"),
        ("nrrd", b"kinds:", b'space units: "mm" "mm" "cm"\nkinds:', "its lengths are in 'cm'"),
        ("nrrd", b"kinds:", b'units: "\xc2\xb5m" "" ""\nkinds:', "its lengths are in"),
        ("nrrd", b"space directions: (2,0,0) (0,1.5,0) (0,0,5)\n", b"", "does not name three axes"),
        ("nrrd", b"(2,0,0) (0,1.5,0) (0,0,5)", b"none none none", "does not name three axes"),
        ("nrrd", b"encoding: raw", b"encoding: bzip2", "its encoding is bzip2, which is not read"),
    ],
)
def test_what_cannot_be_trusted_is_refused(tmp_path, end, before, after, message):
    path = write(tmp_path / f"a.{end}", np.eye(3))
    content = path.read_bytes()
    assert before in content
    path.write_bytes(content.replace(before, after, 1))
    with pytest.raises(InputError, match=message):
        load_volume(path, "DWI")


@pytest.mark.parametrize("end", ["mha", "mhd"])
@pytest.mark.parametrize("dtype", [np.float32, np.int16])
@pytest.mark.parametrize(
    ("slope", "offset"), [("1.25", "0"), ("0.001", "0"), ("2", "-100"), ("1", "7.5")]
)
def test_the_scale_of_a_meta_image_counts(tmp_path, slope, offset, dtype, end):
    path = write(tmp_path / f"a.{end}", np.eye(3), DATA.astype(dtype))
    said = f"{FUNCTION}Slope = {slope}\n{FUNCTION}Offset = {offset}\nElementSpacing"
    path.write_bytes(path.read_bytes().replace(b"ElementSpacing", said.encode(), 1))
    wanted = DATA.astype(float) * float(slope) + float(offset)
    np.testing.assert_allclose(load_volume(path).data, wanted, rtol=1e-6)


@pytest.mark.parametrize(
    ("end", "field", "message"),
    [
        ("mha", f"{FUNCTION}Slope = 0", f"its {FUNCTION}Slope is 0"),
        ("mha", f"{FUNCTION}Slope = nan", f"its {FUNCTION}Slope is 'nan'; expected a number"),
        ("mha", f"{FUNCTION}Offset = x", f"its {FUNCTION}Offset is 'x'; expected a number"),
        ("nrrd", "old min: 0\nold max: 1000", "its field `old min: 0` says"),
        ("nrrd", "oldmax: 3.5", "its field `old max: 3.5` says"),
        ("nrrd", "old min: -32768\nold max: 32767", None),
        ("nrrd", "sample units: mm^2/s", None),
    ],
)
def test_scales_that_are_not_undone_are_refused(tmp_path, end, field, message):
    path = write(tmp_path / f"a.{end}", np.eye(3), DATA.astype(np.int16))
    first = b"ElementSpacing" if end == "mha" else b"kinds:"
    path.write_bytes(path.read_bytes().replace(first, field.encode() + b"\n" + first, 1))
    if message is None:
        np.testing.assert_array_equal(load_volume(path).data, DATA)
        return
    with pytest.raises(InputError, match=message):
        load_volume(path)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("end", ["mha", "nrrd"])
def test_a_truncated_file_is_refused(tmp_path, end, packed):
    path = write(tmp_path / f"a.{end}", np.eye(3), packed=packed)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(InputError, match="ends too early or is damaged"):
        load_volume(path)


@pytest.mark.parametrize("end", ["mha", "nrrd", "mhd", "nhdr"])
def test_a_flipped_bit_of_packed_voxels_is_found(tmp_path, end):
    path = write(tmp_path / f"a.{end}", np.eye(3), packed=True)
    parts = [p for p in tmp_path.iterdir() if p != path] or [path]
    whole = parts[0].read_bytes()
    for at in np.linspace(len(whole) - 1500, len(whole) - 1, 15).astype(int):
        content = bytearray(whole)
        content[at] ^= 4
        parts[0].write_bytes(content)
        with pytest.raises(InputError, match="ends too early or is damaged"):
            load_volume(path)


def as_nrrd(data, line_end, encoding, unit="mm"):
    fields = [
        "NRRD0004", "type: float", "dimension: 3", "space: left-posterior-superior",
        "sizes: 12 10 8", "space directions: (2,0,0) (0,1.5,0) (0,0,5)",
        "kinds: domain domain domain", "endian: little", f"encoding: {encoding}",
        f'space units: "{unit}" "{unit}" "{unit}"', "space origin: (-30,20,10)",
    ]  # fmt: skip
    return f"{line_end.join(fields)}{line_end * 2}".encode() + data


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_a_flipped_bit_is_found_whatever_ends_the_lines(tmp_path, line_end):
    raw = np.ascontiguousarray(DATA.T).astype("<f4").tobytes()
    packed = gzip.compress(raw, mtime=0)
    path = tmp_path / "a.nrrd"
    path.write_bytes(as_nrrd(packed, line_end, "gzip"))
    np.testing.assert_array_equal(load_volume(path).data, DATA)
    for at in np.linspace(12, len(packed) - 1, 15).astype(int):
        content = bytearray(packed)
        content[at] ^= 16
        path.write_bytes(as_nrrd(bytes(content), line_end, "gzip"))
        with pytest.raises(InputError, match="ends too early or is damaged"):
            load_volume(path)
    path.write_bytes(as_nrrd(bz2.compress(raw), line_end, "bzip2"))
    with pytest.raises(InputError, match="encoding is bzip2, which is not read here; expected raw"):
        load_volume(path)


def test_what_the_readers_write_stays_from_the_terminal(tmp_path, capfd, recwarn):
    path = write(tmp_path / "a.mhd", np.eye(3))
    path.write_bytes(path.read_bytes().replace(b"a.raw", b"absent.raw"))
    with pytest.raises(InputError):
        load_volume(path)
    image = nib.Nifti1Image(DATA * 1e30, np.diag([2.0, 2, 2, 1]))
    image.header.set_slope_inter(1e20, 0)
    nib.save(image, tmp_path / "b.nii")
    content = bytearray((tmp_path / "b.nii").read_bytes())
    content[108:112] = np.float32(352.5).tobytes()  # where the voxels begin
    (tmp_path / "b.nii").write_bytes(content)
    with pytest.raises(InputError):
        load_volume(tmp_path / "b.nii")
    captured = capfd.readouterr()
    assert captured.err == captured.out == "" and not recwarn.list


@pytest.mark.parametrize("end", ["nii", "nii.gz", "mha", "nrrd"])
def test_an_empty_file_is_called_empty_and_a_broken_link_a_link(tmp_path, end):
    path = tmp_path / f"a.{end}"
    path.write_bytes(b"")
    with pytest.raises(InputError, match="DWI .*: the file is empty"):
        load_volume(path, "DWI")
    (tmp_path / f"b.{end}").symlink_to("elsewhere.nii")
    with pytest.raises(InputError, match="is a link to elsewhere.nii, where nothing is"):
        load_volume(tmp_path / f"b.{end}", "DWI")


@pytest.mark.parametrize("offset", [1e30, -1e30, np.nan, np.inf, 3e9])
def test_whatever_a_header_raises_becomes_one_sentence(tmp_path, offset):
    path = tmp_path / "a.nii"
    nib.save(nib.Nifti1Image(DATA, np.diag([2.0, 2, 2, 1])), path)
    content = bytearray(path.read_bytes())
    content[108:112] = np.float32(offset).tobytes()
    path.write_bytes(content)
    with pytest.raises(InputError, match="DWI .*a.nii: ") as error:
        load_volume(path, "DWI")
    assert "\n" not in str(error.value)


def test_a_header_of_too_many_voxels_says_so(tmp_path):
    path = tmp_path / "a.nii"
    nib.save(nib.Nifti1Image(DATA, np.diag([2.0, 2, 2, 1])), path)
    content = bytearray(path.read_bytes())
    content[42:48] = np.full(3, 32767, np.int16).tobytes()
    path.write_bytes(content)
    with pytest.raises(InputError, match="a.nii: .*(32767 x 32767 x 32767|damaged \\([^)])"):
        load_volume(path, "DWI")


def test_series_and_masks_are_read_too(tmp_path):
    b0 = DATA + 1000
    series = np.stack([b0, b0 * np.exp(-0.8)], -1).astype(np.float32)
    image = sitk.GetImageFromArray(np.moveaxis(series, (0, 1, 2), (2, 1, 0)), isVector=True)
    image.SetSpacing(SPACING)
    sitk.WriteImage(image, str(tmp_path / "dwi.nrrd"))
    (tmp_path / "dwi.bval").write_text("0 1000")
    study = load_diffusion(tmp_path / "dwi.nrrd")
    np.testing.assert_allclose(study.adc.data, 800, rtol=1e-4)
    path = write(tmp_path / "m.mha", np.eye(3), (DATA > 400).astype(np.uint8))
    np.testing.assert_array_equal(load_mask(path).data, DATA > 400)
    with pytest.raises(InputError, match="no readable|expected one 3D volume"):
        load_volume(tmp_path / "dwi.nrrd", "ADC")


@pytest.mark.parametrize("count", [1, 2, 4])
def test_vectors_that_itk_wrote_as_nifti_are_a_series(tmp_path, count):
    """SimpleITK makes them of shape (x, y, z, 1, n)."""
    b0 = DATA + 1000
    series = np.stack([b0, *[b0 * np.exp(-0.8)] * (count - 1)], -1).astype(np.float32)
    image = sitk.GetImageFromArray(np.moveaxis(series, (0, 1, 2), (2, 1, 0)), isVector=True)
    image.SetSpacing(SPACING)
    path = tmp_path / "dwi.nii.gz"
    sitk.WriteImage(image, str(path))
    if count == 1:
        nib.save(nib.Nifti1Image(series[:, :, :, None, None], nib.load(path).affine), path)
        np.testing.assert_array_equal(load_volume(path).data, b0)
        return
    assert nib.load(path).shape == (*DATA.shape, 1, count)
    (tmp_path / "dwi.bval").write_text("0" + " 1000" * (count - 1))
    np.testing.assert_allclose(load_diffusion(path).adc.data, 800, rtol=1e-4)


def test_a_gzipped_nifti_of_an_image_is_not_mistaken_for_one(tmp_path):
    (tmp_path / "a.mha").write_bytes(gzip.compress(b"x"))
    with pytest.raises(InputError, match="a.mha: it has no TransformMatrix"):
        load_volume(tmp_path / "a.mha")
