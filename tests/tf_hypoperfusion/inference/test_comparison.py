"""A prediction beside a Tmax map or an edited mask: by hand, through files, for a cohort."""

import dataclasses
import json
import shutil

import nibabel as nib
import numpy as np
import pytest
from helpers.commands import call

from data_tools import native_truth
from data_tools.patient import NativePatient
from data_tools.runtime.errors import InputError
from data_tools.volumes import Reading, Volume
from tf_hypoperfusion import predict
from tf_hypoperfusion.clinical import ClinicalFacts
from tf_hypoperfusion.inference import (
    cohort_prediction,
    comparison,
    prediction,
    result_folder,
    wording,
)
from tf_hypoperfusion.inference.result import Comparison, read_result
from tf_hypoperfusion.inference.result_files import OutputOptions
from tf_hypoperfusion.inference.result_folder import Backend, PatientFiles

AFFINE = np.diag([2.0, 2.0, 4.0, 1.0])
SHAPE = (40, 40, 20)


def block(low, high, shape=SHAPE):
    mask = np.zeros(shape, bool)
    mask[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = True
    return mask


BRAIN = block((2, 2, 1), (38, 38, 19))
LATE = block((5, 5, 5), (15, 15, 10))
CORE = block((13, 5, 5), (17, 15, 10))


def head(**changed):
    """A brain of even tissue, with a Tmax map of 1 s that is late in one place."""
    image = Volume(BRAIN.astype(np.float32), AFFINE, "dwi.nii.gz")
    adc = Volume(800 * BRAIN.astype(np.float32), AFFINE, "adc.nii.gz")
    tmax = np.where(LATE, 8, np.where(BRAIN, 1, 0)).astype(np.float32)
    return dataclasses.replace(
        NativePatient(
            dwi=image, adc=adc, adc_unit="mm2/s", brain=BRAIN, tmax=Volume(tmax, AFFINE, "t.nii")
        ),
        **changed,
    )


@pytest.mark.quick
class TestByHand:
    def test_late_tissue_and_core(self):
        found = native_truth.of_patient(head(), CORE)
        np.testing.assert_array_equal(found.mask, LATE | CORE)
        np.testing.assert_array_equal(found.coverage, BRAIN)
        assert (found.source, found.threshold_s) == ("Tmax", 6.0)

    def test_a_cohort_in_one_line(self):
        one = Comparison(
            source="Tmax", threshold_s=6.0, tmax="t.nii", mask=None, truth_ml=50.0,
            predicted_ml=40.0, dice=0.6, covered_share=1.0, target_mismatch=True,
        )  # fmt: skip
        other = dataclasses.replace(one, truth_ml=0.0, predicted_ml=4.0, dice=None)
        assert comparison.of_several([one, other]) == (
            "beside perfusion imaging, 2 patients: median Dice 0.60, predicted minus measured "
            "volume -3.0 mL within that scan"
        )
        assert "Dice n/a (nothing was measured)" in comparison.of_several([other])

    def test_where_the_map_has_no_value_nothing_is_compared(self):
        given = head()
        absent = block((5, 5, 5), (10, 15, 10))
        tmax = dataclasses.replace(
            given.tmax,
            data=np.where(absent, 0, given.tmax.data),
            reading=Reading(absent=absent),
        )
        found = native_truth.of_patient(dataclasses.replace(given, tmax=tmax), None)
        np.testing.assert_array_equal(found.coverage, BRAIN & ~absent)
        np.testing.assert_array_equal(found.mask, LATE & ~absent)

    def test_without_a_known_core_and_with_a_calibrated_threshold(self):
        np.testing.assert_array_equal(native_truth.of_patient(head(), None).mask, LATE)
        later = native_truth.of_patient(head(tmax_threshold_s=9.0), None)
        assert not later.mask.any() and later.threshold_s == 9.0

    def test_an_edited_mask_wins_and_a_whole_one_needs_no_core(self):
        drawn = block((20, 20, 5), (30, 30, 10))
        mask = Volume(drawn.astype(np.float32), AFFINE, "mask.nii.gz")
        edited = native_truth.of_patient(head(truth=mask), CORE)
        np.testing.assert_array_equal(edited.mask, drawn | CORE)
        assert (edited.source, edited.threshold_s) == ("edited mask", None)
        whole = native_truth.of_patient(head(truth=mask, truth_is_whole=True, tmax=None), CORE)
        np.testing.assert_array_equal(whole.mask, drawn)
        assert whole.source == "edited truth"

    def test_only_what_the_scan_covers(self):
        tmax = head().tmax
        data = tmax.data.copy()
        data[:, :, 8:] = 0  # slices that were not measured
        found = native_truth.of_patient(head(tmax=dataclasses.replace(tmax, data=data)), CORE)
        np.testing.assert_array_equal(found.coverage, BRAIN & (np.arange(20) < 8))
        np.testing.assert_array_equal(found.mask, (LATE | CORE) & (np.arange(20) < 8))

    def test_another_grid_and_orientation(self):
        tmax = head().tmax
        image = nib.Nifti1Image(tmax.data, AFFINE)
        turned = image.as_reoriented(np.array([[1, -1], [0, 1], [2, -1]]))
        other = Volume(np.asarray(turned.dataobj, np.float32), turned.affine, "t.nii")
        found = native_truth.of_patient(head(tmax=other), CORE)
        np.testing.assert_array_equal(found.mask, LATE | CORE)

    def test_nothing_was_given(self):
        assert native_truth.of_patient(head(tmax=None), CORE) is None


def left_half(image, nihss):
    answer = np.full((*image.shape[:4], 1), 0.1, np.float32)
    answer[:, :63] = 0.9
    return answer


def connect():
    answers = [prediction.volume_predictor(left_half, 16)]
    return Backend(answers=answers, models=lambda: [], stride=16)


@pytest.fixture
def files(raw_cohort):
    folder = raw_cohort / "sub-0001/dwi"
    return PatientFiles(
        dwi=str(folder / "sub-0001_dwi.nii.gz"),
        adc=str(folder / "sub-0001_ADC.nii.gz"),
        given=ClinicalFacts("left", 14, 66),
    )


def tmax_of(cohort, name="sub-0001"):
    return cohort / f"derivatives/perfusion/{name}/perf/{name}_Tmax.nii.gz"


def test_it_changes_no_answer_and_the_figures_are_those_of_the_files(files, raw_cohort, tmp_path):
    plain = result_folder.predict(files, str(tmp_path / "plain"), connect, log=list)
    with_tmax = dataclasses.replace(files, tmax=str(tmax_of(raw_cohort)))
    result = result_folder.predict(with_tmax, str(tmp_path / "both"), connect, log=list)
    assert plain.comparison is None and not (tmp_path / "plain/truth_mask.nii.gz").exists()
    for name in ("hypoperfusion_ml", "core_ml", "answer", "defuse3"):
        assert getattr(result, name) == getattr(plain, name)
    compared = result.comparison
    truth, mask, core = (
        nib.load(tmp_path / f"both/{name}_mask.nii.gz")
        for name in ("truth", "hypoperfusion", "core")
    )
    voxel_ml = np.prod(truth.header.get_zooms()) / 1000
    truth, mask, core = (np.asarray(image.dataobj) > 0 for image in (truth, mask, core))
    assert compared.truth_ml == pytest.approx(truth.sum() * voxel_ml, abs=0.01) and truth.any()
    assert 0 < compared.predicted_ml <= mask.sum() * voxel_ml + 0.01
    assert (truth & core).sum() > 0.9 * core.sum()
    assert 0.3 < compared.covered_share <= 1 and compared.source == "Tmax"
    assert 0 < compared.dice < 1
    assert read_result(tmp_path / "both") == result
    html = (tmp_path / "both/report.html").read_text()
    assert f"<strong>{wording.ml(compared.truth_ml)}</strong>" in html
    assert "Comparison with perfusion imaging" in html
    assert "Comparison with perfusion imaging" not in (tmp_path / "plain/report.html").read_text()
    assert f"Dice {compared.dice:.2f}" in result_folder.summary(result, "out")


def test_a_mask_by_hand_and_one_that_is_empty(files, raw_cohort, tmp_path):
    image = nib.load(files.dwi)
    nothing = nib.Nifti1Image(np.zeros(image.shape, np.uint8), image.affine)
    path = tmp_path / "mine_desc-truth_mask.nii.gz"
    nib.save(nothing, path)
    asked = dataclasses.replace(files, truth=str(path), tmax=str(tmax_of(raw_cohort)))
    result = result_folder.predict(asked, str(tmp_path / "out"), connect, log=list)
    compared = result.comparison
    assert (compared.source, compared.truth_ml, compared.dice) == ("edited truth", 0.0, None)
    assert compared.target_mismatch is False and compared.threshold_s is None
    assert "nothing was measured" in (tmp_path / "out/report.html").read_text()


def test_a_side_that_the_map_contradicts_is_said(files, raw_cohort, tmp_path):
    asked = dataclasses.replace(
        files, tmax=str(tmax_of(raw_cohort)), given=ClinicalFacts("right", 14)
    )
    result = result_folder.predict(asked, str(tmp_path / "out"), connect, log=list)
    assert any("CHECK THE SIDE" in each and "Tmax is 6 s" in each for each in result.warnings)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data * 1000, "expected seconds"),
        (lambda data: data * 0, "Tmax"),
    ],
)
def test_a_map_that_is_none_is_refused_before_anything_is_written(
    files, raw_cohort, tmp_path, change, message
):
    image = nib.load(tmax_of(raw_cohort))
    nib.save(nib.Nifti1Image(change(image.get_fdata()), image.affine), tmp_path / "bad.nii.gz")
    asked = dataclasses.replace(files, tmax=str(tmp_path / "bad.nii.gz"))
    with pytest.raises(InputError, match=message):
        result_folder.predict(asked, str(tmp_path / "out"), connect, log=list)
    assert not (tmp_path / "out").exists()


def test_a_cohort_is_compared_where_it_is_asked_for(raw_cohort, tmp_path):
    cohort, out = tmp_path / "raw", tmp_path / "out"
    shutil.copytree(raw_cohort, cohort)
    tmax_of(cohort, "sub-0002").unlink()
    options = OutputOptions(compare=True)

    def ask(options):
        done, failed = cohort_prediction.predict_cohort(
            str(cohort), str(out), connect, settings="same", options=options
        )
        assert not failed
        return done

    assert ask(OutputOptions())["sub-0001"].result.comparison is None
    assert "Dice" not in (out / "index.html").read_text()
    done = ask(options)
    assert not done["sub-0001"].kept
    assert done["sub-0001"].result.comparison.dice > 0
    assert done["sub-0002"].result.comparison is None
    assert "Measured (mL)" in (out / "index.html").read_text()
    image = nib.load(tmax_of(cohort))
    changed = nib.Nifti1Image(np.minimum(image.get_fdata(), 5).astype(np.float32), image.affine)
    nib.save(changed, tmax_of(cohort))
    again = ask(options)
    assert not again["sub-0001"].kept and again["sub-0002"].kept
    assert again["sub-0001"].result.comparison.truth_ml < (
        done["sub-0001"].result.comparison.truth_ml
    )


@pytest.mark.quick
@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--dwi=a", "--adc=b", "--nihss=1", "--side=left", "--compare"], "--compare is for"),
        (["--cohort=a", "--tmax=b"], "leave out --tmax"),
        (["--cohort=a", "--truth=b"], "leave out --truth"),
    ],
)
def test_flags_that_do_not_go_together(flags, message, tmp_path, capsys):
    assert call(predict, f"--out={tmp_path / 'out'}", *flags) == 2
    assert message in capsys.readouterr().err


def test_the_result_file_says_it(files, raw_cohort, tmp_path):
    asked = dataclasses.replace(files, tmax=str(tmax_of(raw_cohort)))
    result_folder.predict(asked, str(tmp_path / "out"), connect, log=list)
    saved = json.loads((tmp_path / "out/result.json").read_text())["comparison"]
    assert saved["tmax"] == asked.tmax and saved["mask"] is None
