"""One simulated patient through the whole of ``predict``, with a predictor made by hand."""

import dataclasses
import json

import nibabel as nib
import numpy as np
import pytest

from data_tools.patient import load_native
from data_tools.runtime.errors import InputError
from tf_hypoperfusion.clinical import ClinicalFacts
from tf_hypoperfusion.inference import prediction


def left_half_predictor(image, nihss):
    """0.9 in the left half of the brain, 0.1 elsewhere; knows nothing of the given side."""
    result = np.full((*image.shape[:4], 1), 0.1, np.float32)
    result[:, :63] = 0.9
    return result


@pytest.fixture(scope="module")
def raw_files(raw_cohort):
    folder = raw_cohort / "sub-0001/dwi"
    return folder / "sub-0001_dwi.nii.gz", folder / "sub-0001_ADC.nii.gz"


@pytest.fixture(scope="module")
def done(raw_files):
    native = load_native(*raw_files)
    return prediction.predict_patient(
        native, ClinicalFacts("left", 14, 66), [prediction.by_windows(left_half_predictor, 16)], "x"
    )


def test_left_in_mni_is_left_in_the_patient(done):
    """Through the patient's own affine: x grows to the patient's right. The head is rotated."""

    def x_mm(mask):
        return nib.affines.apply_affine(done.native.dwi.affine, np.argwhere(mask))[:, 0]

    assert np.mean(x_mm(done.hypoperfusion) < np.median(x_mm(done.native.brain))) > 0.9
    share = done.hypoperfusion.sum() / done.native.brain.sum()
    assert 0.42 < share < 0.55


def test_volumes_are_voxels_times_their_size(done):
    voxel_ml = abs(np.linalg.det(done.native.dwi.affine[:3, :3])) / 1000
    result = done.result
    assert result["hypoperfusion_ml"] == pytest.approx(
        done.hypoperfusion.sum() * voxel_ml, abs=0.01
    )
    assert result["core_ml"] == pytest.approx(done.core.sum() * voxel_ml, abs=0.01)
    assert result["mismatch_ml"] == pytest.approx(
        result["hypoperfusion_ml"] - result["core_ml"], abs=0.02
    )


def test_the_mni_grid_counts_the_same_ml(done):
    """In mL of the patient's tissue; the template's brain is half as large again."""
    result = done.result
    assert result["registration"]["affine_determinant"] > 1.2
    assert result["hypoperfusion_mni_ml"] == pytest.approx(result["hypoperfusion_ml"], rel=0.05)


def test_probability_is_zero_outside_the_brain_and_bounded(done):
    assert not done.probability[~done.native.brain].any()
    assert 0 <= done.probability.min() < done.probability.max() <= 0.9 + 1e-6


def test_files_lie_on_the_dwi_grid_and_tell_one_story(done, raw_files, tmp_path):
    prediction.write_maps(done, tmp_path)
    prediction.write_result(done, tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {
        "probability.nii.gz", "hypoperfusion_mask.nii.gz", "core_mask.nii.gz", "overview.png",
        "disagreement.nii.gz",
        "result.json",
    }  # fmt: skip
    dwi = nib.load(raw_files[0])
    for name in ("probability", "hypoperfusion_mask", "core_mask"):
        image = nib.load(tmp_path / f"{name}.nii.gz")
        assert image.shape == dwi.shape
        np.testing.assert_allclose(image.affine, dwi.affine, atol=1e-4)
    result = json.loads((tmp_path / "result.json").read_text())
    mask = nib.load(tmp_path / "hypoperfusion_mask.nii.gz").get_fdata() > 0
    assert result["hypoperfusion_ml"] == pytest.approx(
        mask.sum() * np.prod(dwi.header.get_zooms()[:3]) / 1000, rel=1e-4
    )
    assert (tmp_path / "overview.png").read_bytes().startswith(b"\x89PNG")
    criteria = result["defuse3"]
    assert criteria["target_mismatch"] == all(
        criteria[name]["met"] for name in ("ratio", "difference_ml", "core_ml")
    )
    assert "not a medical device" in result["notice"].lower()
    assert result["seconds"]["total"] > 0


def test_nothing_of_an_older_result_stays_beside_a_new_one(done, tmp_path):
    (tmp_path / "dicom").mkdir()
    for name in ("report.html", "report.pdf", "result.json", "dicom/report.dcm", "mine.txt"):
        (tmp_path / name).write_text("older")
    prediction.write_maps(done, tmp_path)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    left = {path.name for path in files if path.read_bytes() == b"older"}
    assert left == {"mine.txt"}


def test_much_tissue_of_low_adc_that_is_no_core_is_a_warning(done):
    native = done.native
    low = dataclasses.replace(native.adc, data=np.where(native.brain, 500, 0).astype(np.float32))
    brain_ml = native.brain.sum() * native.dwi.voxel_ml
    changed = dataclasses.replace(native, adc=low)
    (warning,) = prediction._uncounted(changed, 10.0)
    assert f"{brain_ml - 10:.0f} mL of the brain have an ADC of at most 620e-6" in warning
    assert prediction._uncounted(changed, brain_ml - 69) == []


def test_the_other_side_is_told_loudly(raw_files):
    """Hypoperfusion predicted on the left, side given as right."""
    native = load_native(*raw_files)
    answer = prediction.by_windows(left_half_predictor, 16)
    other = prediction.predict_patient(native, ClinicalFacts("right", 14), [answer])
    assert any("lies on the given side (right)" in w for w in other.result["warnings"])
    assert other.result["dawn"] is None


def test_warnings_for_what_is_unknown():
    quality = {"warnings": ["poor registration: ..."]}
    nothing = np.zeros((91, 109, 60), bool)
    texts = prediction._warnings(
        ClinicalFacts("left", None), quality, nothing, nothing, 0.0, 0.0, 0.008
    )
    assert [t.split()[0] for t in texts] == ["poor", "NIHSS", "no"]
    core = nothing.copy()
    core[60:75, 50:60, 20:30] = True  # 12 mL on the right
    texts = prediction._warnings(
        ClinicalFacts("left", 5), {"warnings": []}, core, nothing, 12.0, 90.0, 0.008
    )
    assert texts[0].startswith("CHECK THE SIDE: side was given as left, but 12.0 mL")
    assert (
        prediction._warnings(
            ClinicalFacts("right", 5), {"warnings": []}, core, nothing, 12.0, 90.0, 0.008
        )
        == []
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("L", 14), "side is 'L'; expected left, right, bilateral"),
        (("left", 50), "NIHSS is 50; expected a whole number from 0 to 42"),
        (("left", -1), "NIHSS is -1"),
        (("left", 14, 130), "age is 130; expected 0 to 120"),
    ],
)
def test_bad_clinical_values(arguments, message):
    with pytest.raises(InputError, match=message):
        ClinicalFacts(*arguments)
