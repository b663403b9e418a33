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
    # Three directions, each at its own b: their shares of the ADC have a mean of 1.
    fall = native.adc.data / 1e6
    shares = [(1000, 0.8), (995, 1.2), (1005, 1.0)]
    images = [b0, *(b0 * np.exp(-b * fall * share) for b, share in shares), b0]
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
        ([0], "holds 2 images, and sub-1_dwi.bval 1 b-value;"),
        ([0, "x"], "sub-1_dwi.bval: not readable"),
        ([0, -1000], "expected b-values of 0 to 10000 s/mm2, .*found 0 -1000"),
        ([0, 1e9], "expected b-values of 0 to 10000 s/mm2, .*found 0 1e"),
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
