"""Series of b-values, sidecars and DICOM folders: the same trace and ADC as from plain files."""

import json

import nibabel as nib
import numpy as np
import pytest

from data_tools import patient
from data_tools.cohort import find_raw_files
from data_tools.overrides import Overrides
from data_tools.runtime.errors import InputError
from data_tools.volumes import load_volume


@pytest.fixture(scope="module")
def scan(raw_cohort):
    """Simulated patient 1: trace, ADC (1e-6 mm2/s) and the b = 0 image that goes with them."""
    found, _ = find_raw_files(raw_cohort, "sub-0001")
    native = patient.load_native(found.dwi, found.adc)
    b0 = native.dwi.data * np.exp(native.adc.data / 1000)
    return native, b0.astype(np.float32), found


def series(folder, images, affine, b_values, name="sub-1_dwi"):
    path = folder / f"{name}.nii.gz"
    nib.save(nib.Nifti1Image(np.stack(images, -1).astype(np.float32), affine), path)
    if b_values is not None:
        (folder / f"{name}.bval").write_text(" ".join(map(str, b_values)))
    return path


def test_a_series_is_split_by_b_value_and_gives_the_adc(scan, tmp_path):
    native, b0, _ = scan
    dwi = native.dwi.data
    images = [b0, dwi * 1.2, dwi / 1.2, dwi, b0]  # three directions whose mean is the trace
    path = series(tmp_path, images, native.dwi.affine, [0, 1000, 995, 1005, 5])
    got = patient.load_native(path)
    np.testing.assert_allclose(got.dwi.data, dwi, rtol=1e-4, atol=1e-3)
    inside = native.brain & (dwi > 0)
    # The two first images, b = 0 and 5, hold the same: that is half of 5 in 1000.
    np.testing.assert_allclose(got.adc.data[inside], native.adc.data[inside], rtol=3e-3, atol=3)
    assert got.b_value == 1000 and got.adc_unit == "1e-6 mm2/s"
    assert any("ADC computed from b = 2.5 s/mm2 (2 images)" in note for note in got.notes)
    assert any("geometric mean of 3 of 5" in note for note in got.notes)
    assert got.warnings == ()


def test_a_given_adc_is_preferred_and_1000_to_other_shells(scan, tmp_path):
    native, b0, found = scan
    strong = native.dwi.data * np.exp(-native.adc.data / 1000)
    path = series(
        tmp_path, [b0, native.dwi.data, strong], native.dwi.affine, [0, 1000, 2000]
    )  # fmt: skip
    got = patient.load_native(path, found.adc)
    assert got.b_value == 1000
    np.testing.assert_array_equal(got.adc.data, native.adc.data)
    assert not any("computed" in note for note in got.notes)


@pytest.mark.parametrize(
    ("b_values", "message"),
    [
        (None, "holds 2 images; expected sub-1_dwi.bval beside it"),
        ([0], "holds 2 images, and sub-1_dwi.bval 1 b-values"),
        ([0, "x"], "sub-1_dwi.bval: not readable"),
        ([0, -1000], "expected b-values of 0 s/mm2 and more"),
        ([0, 50], "b-values are 0, 50 s/mm2; expected images of b about 1000"),
        ([1000, 1000], r"no image of b = 0 \(nor of up to 100 s/mm2; its lowest is 1000\)"),
    ],
)
def test_series_that_cannot_serve_say_why(b_values, message, scan, tmp_path):
    native, b0, _ = scan
    path = series(tmp_path, [b0, native.dwi.data], native.dwi.affine, b_values)
    with pytest.raises(InputError, match=message):
        patient.load_native(path)


@pytest.mark.parametrize(
    ("sidecar", "b_value", "warns"),
    [
        ({}, None, False),
        ({"DiffusionBValue": 1000}, 1000, False),
        ({"DiffusionBValue": 800}, 800, True),
        ({"b_value": [0, 1500]}, 1500, True),
        ({"b_value": "1000 s/mm2"}, 1000, False),
        ({"EchoTime": 0.09}, None, False),
    ],
)
def test_the_b_value_of_a_trace_image_is_read_from_its_sidecar(
    sidecar, b_value, warns, scan, tmp_path
):
    native, _, found = scan
    path = tmp_path / "x_dwi.nii.gz"
    path.write_bytes(found.dwi.read_bytes())
    (tmp_path / "x_dwi.json").write_text(json.dumps(sidecar))
    got = patient.load_native(path, found.adc)
    assert got.b_value == b_value
    assert any("the network was made for about 1000" in w for w in got.warnings) == warns


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ('{"b_value": 0}', "its b-value is 0 s/mm2; expected images of b about 1000"),
        ('{"b_value": "high"}', "x_dwi.json: b_value is 'high'; expected s/mm2"),
        ("[1000]", "x_dwi.json: expected a JSON object"),
    ],
)
def test_a_sidecar_that_cannot_be_is_refused(said, message, scan, tmp_path):
    path = tmp_path / "x_dwi.nii.gz"
    path.write_bytes(scan[2].dwi.read_bytes())
    (tmp_path / "x_dwi.json").write_text(said)
    with pytest.raises(InputError, match=message):
        patient.load_native(path, scan[2].adc)


def test_one_image_without_an_adc_is_refused(scan):
    with pytest.raises(InputError, match="expected an ADC map, or a series with b = 0"):
        patient.load_native(scan[2].dwi)


def test_b0_and_trace_in_two_files_are_as_one_series(scan, tmp_path):
    native, b0, _ = scan
    affine = native.dwi.affine
    trace = series(tmp_path, [native.dwi.data], affine, [1000])
    for values, name in (([0], "sub-1_b0"), (None, "nothing_says_b"), ([0, 0], "twice")):
        images = [b0] * (len(values) if values else 1)
        path = series(tmp_path, images, affine, values, name=name)
        got = patient.load_native(trace, b0=path)
        inside = native.brain & (native.adc.data < 3900)
        np.testing.assert_allclose(got.adc.data[inside], native.adc.data[inside], rtol=1e-3, atol=1)
        assert any(f"the b = 0 image comes from {name}" in note for note in got.notes)
        assert any("no file says the b-value of" in note for note in got.notes) == (not values)
    with pytest.raises(InputError, match="has b = 1000 s/mm2; expected 100 at most"):
        patient.load_native(path, b0=trace)
    with pytest.raises(InputError, match="DWI and b = 0 are the same file"):
        patient.load_native(trace, b0=trace)


def test_a_b0_image_on_another_grid_is_resampled(scan, tmp_path):
    native, b0, _ = scan
    trace = series(tmp_path, [native.dwi.data], native.dwi.affine, [1000])
    mirror = np.diag([-1.0, 1, 1, 1])
    mirror[0, 3] = b0.shape[0] - 1
    path = series(tmp_path, [b0[::-1]], native.dwi.affine @ mirror, [0], name="b0")
    got = patient.load_native(trace, b0=path)
    inside = native.brain & (native.adc.data < 3900)
    np.testing.assert_allclose(got.adc.data[inside], native.adc.data[inside], rtol=1e-3, atol=1)
    assert any("b = 0 image stores the DWI's voxels in another order" in n for n in got.notes)


def test_a_bvec_of_one_direction_is_refused_also_of_one_image(scan, tmp_path):
    native, b0, found = scan
    for images, values, table in (
        ([b0, native.dwi.data], [0, 1000], "0 1\n0 0\n0 0\n"),
        ([b0, native.dwi.data], [0, 1000], "0 0 0\n1 0 0\n"),
        ([native.dwi.data], [1000], "0.6\n0\n0.8\n"),
    ):
        path = series(tmp_path, images, native.dwi.affine, values)
        (tmp_path / "sub-1_dwi.bvec").write_text(table)
        with pytest.raises(InputError, match="b = 1000 s/mm2 are of 1 direction only: .*few_dir"):
            patient.load_native(path, found.adc)
        got = patient.load_native(path, found.adc, overrides=Overrides(few_directions=True))
        assert any("1 direction only" in warning for warning in got.warnings)
        assert got.overrides == {"few_directions": True}
    (tmp_path / "sub-1_dwi.bvec").write_text("1 0 0 0")
    with pytest.raises(InputError, match=r"sub-1_dwi.bvec: holds 1 x 4 numbers; expected"):
        patient.load_native(path, found.adc)


def test_what_is_said_of_b_has_the_last_word(scan, tmp_path):
    native, _, found = scan
    path = series(tmp_path, [native.dwi.data], native.dwi.affine, [800])
    got = patient.load_native(path, found.adc, overrides=Overrides(b_value=1000))
    assert got.b_value == 1000
    assert got.warnings == (
        "DWI: b = 1000 s/mm2 was taken as --b_value says, and its files say 800",
    )


def test_the_b_value_of_one_image_among_many_is_a_warning(scan, tmp_path):
    native, _, found = scan
    path = series(tmp_path, [native.dwi.data], native.dwi.affine, [0, 1100, 2000])
    got = patient.load_native(path, found.adc)
    assert got.b_value == 1100
    assert "says b = 1100, 2000 s/mm2 for one image; 1100 was taken" in got.warnings[0]


@pytest.mark.parametrize("given", ["b0", "same"])
def test_a_b0_image_or_the_same_voxels_are_no_dwi(given, scan, tmp_path):
    native, b0, found = scan
    data = b0 if given == "b0" else load_volume(found.adc, "ADC").data
    nib.save(nib.Nifti1Image(data, native.dwi.affine), tmp_path / "dwi.nii.gz")
    wanted = "Is this the b = 0 image" if given == "b0" else "hold the same voxels"
    with pytest.raises(InputError, match=wanted):
        patient.load_native(tmp_path / "dwi.nii.gz", found.adc)


def test_a_real_b0_image_is_found_out(real_data):
    folder = real_data / "real_ads_S02"
    with pytest.raises(InputError, match="Is this the b = 0 image"):
        patient.load_native(folder / "ads_Subject02_b0.nii.gz", folder / "ads_Subject02_ADC.nii.gz")


class TestDicom:
    """Folders of a scanner's files."""

    pytest.importorskip("pydicom", reason="extra `dicom` is not installed")
    pytest.importorskip("dcm2niix", reason="extra `dicom` is not installed")

    TRACE = ("ORIGINAL", "PRIMARY", "DIFFUSION", "TRACEW", "ND")
    MAP = ("DERIVED", "PRIMARY", "DIFFUSION", "ADC", "ND")

    @pytest.fixture
    def write(self, scan, tmp_path):
        """Write a study: ``dwi`` with b = 0 and 1000, ``adc``; returns its folder."""
        from helpers.dicom_files import write_series

        native, b0, _ = scan

        def study(*what, name="dicom", **options):
            folder = tmp_path / name
            if "dwi" in what:
                write_series(
                    folder, [b0, native.dwi.data], native.dwi.affine, number=3,
                    description="ep2d_diff_TRACEW", kind=list(self.TRACE), b_values=[0, 1000],
                    **options,
                )  # fmt: skip
            if "adc" in what:
                write_series(
                    folder, [native.adc.data], native.dwi.affine, number=4,
                    description="ep2d_diff_ADC", kind=list(self.MAP), **options,
                )  # fmt: skip
            return folder

        return study

    def test_the_scanners_adc_is_taken_and_everything_lies_where_it_lay(self, scan, write):
        native = scan[0]
        got = patient.load_native(write("dwi", "adc"))
        assert any("ADC from series 4, ep2d_diff_ADC" in note for note in got.notes)
        assert "series 3" in got.dwi.path and got.b_value == 1000
        corner = np.array([[20, 30, 5], [90, 100, 15]])
        mm = nib.affines.apply_affine(native.dwi.affine, corner)
        index = nib.affines.apply_affine(np.linalg.inv(got.dwi.affine), mm).round().astype(int)
        for a, b in zip(index, corner, strict=True):
            assert got.dwi.data[tuple(a)] == pytest.approx(native.dwi.data[tuple(b)], abs=1)
            assert got.adc.data[tuple(a)] == pytest.approx(native.adc.data[tuple(b)], abs=1)

    def test_without_it_adc_is_computed(self, write):
        got = patient.load_native(write("dwi"))
        assert any("ADC computed" in note for note in got.notes)

    def test_an_adc_map_on_another_grid_is_resampled(self, scan, write):
        from helpers.dicom_files import write_series

        native, folder = scan[0], write("dwi")
        finer = native.dwi.affine @ np.diag([0.5, 0.5, 1, 1])
        twice = np.repeat(np.repeat(native.adc.data, 2, 0), 2, 1)
        finer[:3, 3] -= finer[:3, :2].sum(axis=1) / 2  # a voxel's centre lies between its four
        write_series(
            folder, [twice], finer, number=4, description="ep2d_diff_ADC", kind=list(self.MAP)
        )
        got = patient.load_native(folder)
        assert any("another grid" in n and "it was resampled" in n for n in got.notes)
        inside = got.brain & (got.adc.data < 2000)
        trace_adc = patient.load_native(write("dwi", "adc", name="same")).adc.data
        np.testing.assert_allclose(
            np.median(np.abs(got.adc.data - trace_adc)[inside]), 0, atol=30
        )  # fmt: skip

    @pytest.mark.parametrize(
        ("what", "lost", "message"),
        [
            (["dwi"], [7], "series 3.* some slices have 1 images and others 2"),
            (["dwi", "adc"], [7], "series 3.* some slices have 1 images and others 2"),
            (["dwi"], [7, -7], "series 3.* mm away; expected .* Slices are lost"),
            (["dwi", "adc"], ["adc"], "series 4.* mm away; expected .* Slices are lost"),
        ],
        ids=["of one b-value", "of one, with ADC", "of both", "of the ADC map"],
    )
    def test_lost_slices_are_found(self, write, what, lost, message):
        folder = write(*what)
        count = len(list(folder.glob("IM03*"))) // 2
        for k in lost:
            name = "IM040007" if k == "adc" else f"IM03{k if k > 0 else count - k:04d}"
            (folder / f"{name}.dcm").unlink()
        with pytest.raises(InputError, match=f"DICOM .*{message}"):
            patient.load_native(folder)

    def test_the_last_slice_lost_from_the_dwi_is_a_warning(self, write):
        folder = write("dwi", "adc")
        count = len(list(folder.glob("IM03*"))) // 2
        for k in (count, 2 * count):
            (folder / f"IM03{k:04d}.dcm").unlink()
        warnings = patient.load_native(folder).warnings
        assert any("do not show the same slices" in warning for warning in warnings)

    def test_an_empty_file_is_named(self, write):
        path = write("dwi", "adc") / "IM030007.dcm"
        path.write_bytes(b"")
        with pytest.raises(InputError, match="IM030007.dcm: the file ends too early"):
            patient.load_native(path.parent)

    def test_a_truncated_file_is_named(self, write):
        path = write("dwi") / "IM030007.dcm"
        path.write_bytes(path.read_bytes()[:-5000])
        with pytest.raises(InputError, match="IM030007.dcm: the file ends too early"):
            patient.load_native(path.parent)

    def test_folders_that_cannot_serve_say_why(self, write, tmp_path):
        write("dwi", "adc", name="two")
        (tmp_path / "two/other").mkdir()
        for path in write("adc", name="b", patient="P2").iterdir():
            path.rename(tmp_path / "two/other" / path.name)
        (tmp_path / "none").mkdir()
        (tmp_path / "none/notes.txt").write_text("no image")
        write("dwi", name="again")
        write("dwi", "adc", name="again/follow-up")
        for name, message in (
            ("two", r"holds files of 2 patients \("),
            ("none", "holds no DICOM file"),
            ("again", "2 DWI series: .*; expected one"),
        ):
            with pytest.raises(InputError, match=message):
                patient.load_native(tmp_path / name)
        with pytest.raises(InputError, match="no series with b-values .* found series 4"):
            patient.load_native(write("adc", name="map only"))
