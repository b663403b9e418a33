"""One simulated patient through the whole of ``predict``, with a predictor made by hand."""

import dataclasses
import json

import nibabel as nib
import numpy as np
import pytest
from helpers.calibrations import calibration_of, steps

from data_tools.patient import load_native
from data_tools.runtime.errors import InputError
from tf_hypoperfusion.clinical import ClinicalFacts
from tf_hypoperfusion.inference import prediction, result_files, result_folder, wording
from tf_hypoperfusion.inference.model_files import ModelInfo
from tf_hypoperfusion.inference.page import page
from tf_hypoperfusion.inference.result import Seconds, read_result
from tf_hypoperfusion.inference.result_folder import (
    Backend,
    PatientFiles,
    build_result,
    summary,
)


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
    answers = [prediction.volume_predictor(left_half_predictor, 16)]
    return prediction.predict_patient(native, ClinicalFacts("left", 14, 66), answers)


@pytest.fixture(scope="module")
def drawn(done, result):
    return result_files.draw(done, result)


@pytest.fixture(scope="module")
def result(done, raw_files):
    """What is built from it."""
    files = PatientFiles(dwi=str(raw_files[0]), adc=str(raw_files[1]), given=done.given, name="x")
    seconds = Seconds(read=1.0, load_model=2.0, **done.seconds)
    return build_result(
        files, done, Backend(answers=(), models=lambda: [], stride=16), seconds=seconds
    )


def test_left_in_mni_is_left_in_the_patient(done):
    """Through the patient's own affine: x grows to the patient's right. The head is rotated."""

    def x_mm(mask):
        return nib.affines.apply_affine(done.native.dwi.affine, np.argwhere(mask))[:, 0]

    assert np.mean(x_mm(done.hypoperfusion) < np.median(x_mm(done.native.brain))) > 0.9
    share = done.hypoperfusion.sum() / done.native.brain.sum()
    assert 0.42 < share < 0.55


def test_volumes_are_voxels_times_their_size(done, result):
    voxel_ml = abs(np.linalg.det(done.native.dwi.affine[:3, :3])) / 1000
    assert result.hypoperfusion_ml == pytest.approx(done.hypoperfusion.sum() * voxel_ml, abs=0.01)
    assert result.core_ml == pytest.approx(done.core.native.sum() * voxel_ml, abs=0.01)
    assert result.mismatch_ml == pytest.approx(result.hypoperfusion_ml - result.core_ml, abs=0.02)


def test_the_mni_grid_counts_the_same_ml(result):
    """In mL of the patient's tissue; the template's brain is half as large again."""
    assert result.registration.affine_determinant > 1.2
    assert result.hypoperfusion_mni_ml == pytest.approx(result.hypoperfusion_ml, rel=0.05)


def test_probability_is_zero_outside_the_brain_and_bounded(done):
    assert not done.probability[~done.native.brain].any()
    assert 0 <= done.probability.min() < done.probability.max() <= 0.9 + 1e-6


def test_files_lie_on_the_dwi_grid_and_tell_one_story(done, result, drawn, raw_files, tmp_path):
    result_files.write(drawn, result, tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {
        "probability.nii.gz", "hypoperfusion_mask.nii.gz", "core_mask.nii.gz", "overview.png",
        "disagreement.nii.gz", "report.html",
        "result.json",
    }  # fmt: skip
    dwi = nib.load(raw_files[0])
    for name in ("probability", "hypoperfusion_mask", "core_mask"):
        image = nib.load(tmp_path / f"{name}.nii.gz")
        assert image.shape == dwi.shape
        np.testing.assert_allclose(image.affine, dwi.affine, atol=1e-4)
    assert read_result(tmp_path) == result
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
    assert result["seconds"]["read"] == 1.0


def test_a_page_says_that_less_was_computed(done, result):
    assert "--fast" not in page.render(done, result)
    known = ModelInfo(path="m", sha256=None, cohort=None, precision="bfloat16")
    fast = dataclasses.replace(result, fast=True, stride_slices=8, models=(known,))
    assert "Computed with --fast: windows every 8 slices, bfloat16" in page.render(done, fast)
    assert "--fast: windows every 8 slices, bfloat16" in result_folder.summary(fast, "out")


def test_nothing_of_an_older_result_stays_beside_a_new_one(result, drawn, tmp_path):
    (tmp_path / "dicom").mkdir()
    for name in ("report.html", "report.pdf", "result.json", "dicom/report.dcm", "mine.txt"):
        (tmp_path / name).write_text("older")
    result_files.write(drawn, result, tmp_path)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    left = {path.name for path in files if path.read_bytes() == b"older"}
    assert left == {"mine.txt"}


def test_a_calibrated_answer_with_its_interval(raw_files, done, drawn, tmp_path):
    """Through files, page and terminal; what a server has calibrated is not calibrated again."""
    made = calibration_of(slope=1.0, intercept=-1.5, cut=0.6, errors=steps(19, 4.0))
    native, given = done.native, done.given
    answers = [prediction.volume_predictor(left_half_predictor, 16)]
    ours, servers = (
        prediction.predict_patient(
            native, given, answers, False,
            calibrated=prediction.Calibrated(lambda: made, by_server=by_server),
        )
        for by_server in (False, True)
    )  # fmt: skip
    np.testing.assert_array_equal(servers.probability, done.probability)
    np.testing.assert_array_equal(ours.probability_mni, made.probability(done.probability_mni))
    assert ours.probability.max() == pytest.approx(0.668, abs=1e-3)  # of 0.9
    assert ours.hypoperfusion.any() and ours.probability[ours.hypoperfusion].min() >= 0.6
    assert ours.answer.target_mismatch == "unsure" and servers.answer.interval_ml is not None
    strange = prediction.predict_patient(
        native, given, answers, False,
        calibrated=prediction.Calibrated(
            lambda: calibration_of(familiar={"tissue_voxels": (1.0, 2.0), "dwi_low": (0.0, 9.0)})
        ),
    )  # fmt: skip
    assert strange.answer.target_mismatch == "unsure"
    assert "the tissue on the template's grid, in voxels, is" in strange.answer.reasons[-1]
    low, high = ours.answer.interval_ml
    assert low == 0 and high > ours.hypoperfusion_ml

    files = PatientFiles(dwi="dwi.nii.gz", adc=None, given=given)
    seconds = Seconds(read=1.0, load_model=2.0, **ours.seconds)
    result = build_result(
        files, ours, Backend(answers=(), models=lambda: [], stride=16), seconds=seconds
    )
    assert any(w.startswith("unsure: the hypoperfusion is 0 to") for w in result.warnings)
    html = page.render(ours, result)
    assert "UNSURE: PERFUSION IMAGING WOULD TELL</span></h1>" in html
    assert 'value="60"> <output id="threshold-value">0.60</output>' in html
    assert result.probability_threshold == 0.6
    assert "In 90% of patients like those of the calibration" in html
    assert "of 19 patients of somewhere" not in drawn["report.html"].decode()
    assert "The model is not calibrated" in drawn["report.html"].decode()
    said = summary(result, "there")
    assert "target mismatch (DEFUSE 3): UNSURE, perfusion imaging would tell" in said
    assert f"true hypoperfusion 0 to {wording.ml(high)} in 90% of patients like those" in said


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
