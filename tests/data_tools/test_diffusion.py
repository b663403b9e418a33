"""Series of b-values, sidecars and DICOM folders: the same trace and ADC as from plain files."""

import json

import nibabel as nib
import numpy as np
import pytest

from data_tools import diffusion, patient
from data_tools.cohort import find_raw_files
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
    # b = 1005 is taken for all three: half a percent.
    np.testing.assert_allclose(got.adc.data[inside], native.adc.data[inside], rtol=6e-3, atol=6)
    assert got.b_value == 1005 and got.adc_unit == "1e-6 mm2/s"
    assert any("ADC computed from b = 0" in note for note in got.notes)
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
        ([0, 50], "b-values are 0, 50; expected images of b about 1000"),
        ([1000, 1000], "holds no image of b = 0, so no ADC can be computed"),
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
        ('{"b_value": 0}', "has b = 0 s/mm2 by the file beside it"),
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


def test_adc_of_no_signal_is_0():
    adc = diffusion.compute_adc(np.float32([0, 100, 100, 1]), np.float32([10, 0, 200, 1e-9]), 1000)
    np.testing.assert_array_equal(adc, [0, 0, 0, diffusion.ADC_MAX_UM2_PER_S])


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
