"""A DWI or an ADC map alone: brain, tissue and place are still found."""

import dataclasses
import shutil

import numpy as np
import pytest
from scipy import ndimage

from data_tools import brain_of_adc, intensity, patient
from data_tools.agreement import dice_of
from data_tools.cohort import find_raw_files
from data_tools.labels import core_mask
from data_tools.overrides import ADC_UNITS, Overrides
from data_tools.runtime.errors import InputError
from data_tools.transform import motion
from data_tools.volumes import load_volume, save_volume


@pytest.fixture(scope="module")
def files(raw_cohort):
    return find_raw_files(raw_cohort, "sub-0001")[0]


@pytest.fixture(scope="module")
def both(files):
    native = patient.load_native(files.dwi, files.adc)
    return native, patient.to_mni(native)[0]


def alone(files, kind):
    if kind == "DWI":
        return patient.load_native(files.dwi, may_lack_one=True)
    return patient.load_native(None, files.adc, may_lack_one=True)


@pytest.mark.parametrize(("kind", "missing"), [("DWI", "ADC"), ("ADC", "DWI")])
def test_one_image_finds_nearly_the_brain_the_tissue_and_the_place_of_two(
    files, both, kind, missing
):
    native = alone(files, kind)
    with_both, mni_of_both = both
    assert with_both.missing is None and native.missing == missing
    assert dice_of(native.brain, with_both.brain) > 0.93
    mni, quality = patient.to_mni(native)
    assert quality.registration.strategy == "tissue" and quality.registration.verdict == "good"
    apart = np.linalg.inv(mni_of_both.transform.affine) @ mni.transform.affine
    shift_mm, turn_deg = motion(apart, native.shown)
    assert shift_mm < 4 and turn_deg < 3
    seen, expected = (
        intensity.tissue_of(each.dwi, each.adc_um2_per_s, each.brain) for each in (mni, mni_of_both)
    )
    assert dice_of(seen, expected) > 0.93


def test_nothing_stands_in_for_what_is_not_there(files, both):
    of_dwi, of_adc = alone(files, "DWI"), alone(files, "ADC")
    assert not of_dwi.adc.data.any() and of_dwi.adc_unit is None and of_dwi.shown is of_dwi.dwi
    assert not of_adc.dwi.data.any() and of_adc.adc_unit == both[0].adc_unit
    assert of_adc.shown is of_adc.adc
    for native in (of_dwi, of_adc):
        ratios = intensity.normalise(native.dwi.data, native.adc.data, native.brain)
        mask = intensity.adc_mask(native.adc.data, native.brain)
        given = [bool(channel.any()) for channel in (*ratios, mask)]
        assert given == [native is of_dwi, native is of_adc, native is of_adc]
        tissue = intensity.tissue_of(native.dwi.data, native.adc.data, native.brain)
        ratio = ratios[0] if native is of_dwi else ratios[1]
        assert ratio[tissue].mean() == pytest.approx(1, abs=1e-4)
        with pytest.raises(InputError, match="0 everywhere; expected both"):
            core_mask(native.dwi.data, native.adc.data, native.brain, native.dwi.voxel_ml)


def test_only_who_may_lack_an_image_is_taken_without(files):
    with pytest.raises(InputError, match="no ADC can be computed; expected an ADC map"):
        patient.load_native(files.dwi)
    with pytest.raises(InputError, match="no DWI; expected one"):
        patient.load_native(None, files.adc)


def test_fluid_is_what_is_dark_in_a_dwi_of_its_own():
    dwi = np.float32([100, 100, 100, 56, 54, 0, 100])
    brain = np.array([1, 1, 1, 1, 1, 1, 0], bool)
    nothing = np.zeros(7, np.float32)
    # The brain's median is 78: fluid is below 0.55 of it, 42.9.
    np.testing.assert_array_equal(intensity.tissue_of(dwi, nothing, brain), [1, 1, 1, 1, 1, 0, 0])
    assert not intensity.tissue_of(dwi, nothing, ~brain & False).any()
    with pytest.raises(InputError, match="holds no tissue"):
        intensity.normalise(nothing, nothing, brain)


@pytest.mark.parametrize("kind", ["uniform", "half below 0"])
def test_a_brain_is_told_from_noise_around_it(both, kind):
    native, _ = both
    rng = np.random.default_rng(0)
    noise = rng.uniform(0, 3500, native.adc.data.shape)
    if kind == "half below 0":
        noise = rng.normal(100, 900, noise.shape)
    air = ~ndimage.binary_dilation(native.brain, iterations=3)
    data = np.where(air, noise, native.adc.data).astype(np.float32)
    found = brain_of_adc.brain_mask(dataclasses.replace(native.adc, data=data))
    assert dice_of(found, native.brain) > 0.93
    pure = dataclasses.replace(native.adc, data=noise.astype(np.float32))
    assert not brain_of_adc.brain_mask(pure).sum() * native.adc.voxel_ml > 500


def test_an_adc_map_that_hides_the_brain_asks_for_its_mask(both, tmp_path):
    native, _ = both
    noise = np.random.default_rng(0).normal(100, 900, native.adc.data.shape).astype(np.float32)
    save_volume(tmp_path / "noise.nii.gz", noise, native.adc.affine)
    with pytest.raises(InputError, match=r"ADC .*noise.nii.gz: the brain found .*--brain_mask"):
        patient.load_native(None, tmp_path / "noise.nii.gz", may_lack_one=True)


def test_a_mask_that_is_given_is_taken(files, both, tmp_path):
    native, _ = both
    mask = tmp_path / "brain.nii.gz"
    save_volume(mask, native.brain.astype(np.float32), native.dwi.affine)
    got = patient.load_native(
        None, files.adc, may_lack_one=True, overrides=Overrides(brain_mask=str(mask))
    )
    np.testing.assert_array_equal(got.brain, native.brain)


@pytest.mark.parametrize("unit", list(ADC_UNITS))
def test_the_unit_of_a_map_alone_is_found(files, tmp_path, unit):
    adc = alone(files, "ADC").adc
    save_volume(tmp_path / "adc.nii.gz", adc.data / np.float32(ADC_UNITS[unit]), adc.affine)
    native = patient.load_native(None, tmp_path / "adc.nii.gz", may_lack_one=True)
    assert native.adc_unit == unit
    assert np.median(native.adc.data[native.brain]) == pytest.approx(
        np.median(alone(files, "ADC").adc.data[native.brain]), rel=1e-4
    )


def test_an_image_in_the_other_ones_place_is_refused(files, tmp_path):
    with pytest.raises(InputError, match=r"rim, where CSF is, is bright .* as in an ADC map"):
        patient.load_native(files.adc, may_lack_one=True)
    dwi = load_volume(files.dwi, "DWI")
    scaled = dwi.data * np.float32(900 / np.median(dwi.data[dwi.data > 100]))
    save_volume(tmp_path / "dwi.nii.gz", scaled, dwi.affine)
    with pytest.raises(InputError, match="ADC "):
        patient.load_native(None, tmp_path / "dwi.nii.gz", may_lack_one=True)


@pytest.mark.parametrize("kind", ["DWI", "ADC"])
def test_empty_slices_and_half_a_head_are_refused(files, tmp_path, kind):
    path = files.dwi if kind == "DWI" else files.adc
    image = load_volume(path, kind)
    lost, cut = image.data.copy(), image.data[..., : image.data.shape[2] // 2]
    lost[..., 12] = 0
    for name, data, words in (("lost", lost, "1 slice is empty"), ("cut", cut, f"{kind} ")):
        save_volume(tmp_path / f"{name}.nii.gz", data, image.affine)
        both = (tmp_path / f"{name}.nii.gz", None) if kind == "DWI" else (
            None, tmp_path / f"{name}.nii.gz"
        )  # fmt: skip
        with pytest.raises(InputError, match=words):
            patient.load_native(*both, may_lack_one=True)


def test_a_folder_with_one_image_is_found_where_that_is_enough(files, tmp_path):
    for name, path in (("dwi", files.dwi), ("ADC", files.adc)):
        folder = tmp_path / f"sub-{name}" / "dwi"
        folder.mkdir(parents=True)
        shutil.copy(path, folder / f"sub-{name}_{name}.nii.gz")
        found, faults = find_raw_files(tmp_path, f"sub-{name}", may_lack_one=True)
        assert not faults and (found.dwi is None, found.adc is None) == (
            name == "ADC",
            name == "dwi",
        )
        assert len(found.existing()) == 1
        _, (fault,) = find_raw_files(tmp_path, f"sub-{name}")
        assert fault.file == ("DWI" if name == "ADC" else "ADC")
    (tmp_path / "sub-none").mkdir()
    _, (fault,) = find_raw_files(tmp_path, "sub-none", may_lack_one=True)
    assert fault.file == "DWI"
