"""Published real patients, where they are at hand: units, brain and side."""

import numpy as np
import pytest

from data_tools import patient
from data_tools.grid import GRID_AFFINE, grid_outside, hemisphere
from data_tools.runtime.errors import InputError
from data_tools.volumes import load_mask


def isles(folder):
    stem = f"{folder}/real_isles22_0001/sub-strokecase0001_"
    return f"{stem}dwi.nii.gz", f"{stem}adc.nii.gz", f"{stem}msk_from_docker_evaluation.nii.gz"


def ads(folder):
    stem = f"{folder}/real_ads_S02/ads_Subject02_"
    return f"{stem}DWI.nii.gz", f"{stem}ADC.nii.gz"


@pytest.mark.parametrize(("files", "unit"), [(isles, "1e-3 mm2/s"), (ads, "mm2/s")])
def test_unit_and_brain_are_found(real_data, files, unit):
    dwi, adc = files(real_data)[:2]
    native = patient.load_native(dwi, adc)
    assert native.adc_unit == unit
    assert 600 < np.median(native.adc.data[native.brain]) < 1200
    assert 900 < native.brain.sum() * native.dwi.voxel_ml < 1600
    with pytest.raises(InputError, match="look swapped"):
        patient.load_native(adc, dwi)


@pytest.mark.parametrize("files", [isles, ads])
def test_a_brain_fits_the_tight_frame(real_data, files):
    mni, _ = patient.to_mni(patient.load_native(*files(real_data)[:2]))
    assert not (mni.brain & grid_outside((80, 104))[..., np.newaxis]).any()


def test_brain_mask_agrees_with_the_published_one(real_data):
    native = patient.load_native(*ads(real_data))
    published = load_mask(f"{real_data}/real_ads_S02/ads_Subject02_Mask.nii.gz").data > 0
    dice = 2 * (native.brain & published).sum() / (native.brain.sum() + published.sum())
    assert dice >= 0.94


def test_a_left_lesion_drawn_by_experts_stays_left(real_data):
    dwi, adc, lesion = isles(real_data)
    native = patient.load_native(dwi, adc, truth=lesion)
    index = np.argwhere(native.truth.data > 0)
    x_mm = (native.truth.affine @ np.c_[index, np.ones(len(index))].T)[0]
    middle_mm = (native.dwi.affine @ [*np.argwhere(native.brain).mean(axis=0), 1])[0]
    left_before = (x_mm < middle_mm).mean()
    assert left_before > 0.6

    mni, quality = patient.to_mni(native)
    assert quality.registration.verdict == "good"
    left_after = mni.truth[hemisphere("left")].sum() / mni.truth.sum()
    assert left_after == pytest.approx(left_before, abs=0.1)
    mean_x_mm = (GRID_AFFINE @ [*np.argwhere(mni.truth).mean(axis=0), 1])[0]
    assert mean_x_mm < -5
    # Volumes scale by the determinant of the affine.
    ml = native.truth.data.sum() * native.truth.voxel_ml * quality.registration.affine_determinant
    assert mni.truth.sum() * 0.008 == pytest.approx(ml, rel=0.3)
    # There and back: scattered emboli, many of a few voxels.
    back = mni.transform.back(mni.transform.bring_mask(native.truth.data, native.truth), native.dwi)
    lesion_there = native.truth.data > 0
    dice = 2 * ((back > 0.5) & lesion_there).sum() / ((back > 0.5).sum() + lesion_there.sum())
    assert dice >= 0.85
