"""Patients without a DWI, without an ADC map, of unknown side: answered, and said everywhere."""

import dataclasses
import shutil

import numpy as np
import pytest
from helpers.calibrations import calibration_of
from helpers.predictions import core_findings, prediction_of

from data_tools.cohort import find_raw_files
from data_tools.core_examination import CoreFindings
from data_tools.patient import load_native
from data_tools.runtime.errors import InputError
from tf_hypoperfusion.clinical import ClinicalFacts
from tf_hypoperfusion.inference import (
    calibration,
    cautions,
    cohort_prediction,
    familiarity,
    model_files,
    prediction,
    result_folder,
    stroke_side,
    uncertainty,
)
from tf_hypoperfusion.inference.model_files import ModelInfo
from tf_hypoperfusion.inference.page import page
from tf_hypoperfusion.inference.result import read_result
from tf_hypoperfusion.inference.result_folder import Backend, PatientFiles, summary

TAUGHT = ModelInfo(path="taught", sha256="0", cohort="x", randomisation=("bias, inputs",))
SEEN = []


def left_half(image, nihss):
    """0.9 in the left half, if it is asked about it, 0.1 elsewhere; keeps what it was shown."""
    SEEN.append(image.copy())
    result = np.full((*image.shape[:4], 1), 0.1, np.float32)
    result[:, :63][image[:, :63, ..., 3] > 0] = 0.9
    return result


def backend(refuses=None):
    return Backend(
        answers=[prediction.volume_predictor(left_half, 16)], models=lambda: [TAUGHT], stride=16,
        refuses_one_image=refuses,
    )  # fmt: skip


@pytest.fixture(scope="module")
def files(raw_cohort):
    return find_raw_files(raw_cohort, "sub-0001")[0]


@pytest.fixture(scope="module", params=["DWI", "ADC"])
def lone(request, files, tmp_path_factory):
    """What ``predict`` makes of one image: result, its folder, what the network was shown."""
    kind = request.param
    SEEN.clear()
    out = tmp_path_factory.mktemp(kind)
    paths = (str(files.dwi), None) if kind == "DWI" else (None, str(files.adc))
    asked = PatientFiles(dwi=paths[0], adc=paths[1], given=ClinicalFacts("unknown", None))
    said = []
    result = result_folder.predict(asked, str(out), backend, log=said.append)
    return kind, result, out, np.concatenate(SEEN), said


def test_the_network_is_shown_nothing_of_what_is_not_there(lone):
    kind, _, _, shown, _ = lone
    dwi, adc, mask, side = (shown[..., k] for k in range(4))
    assert dwi.any() == (kind == "DWI") and adc.any() == mask.any() == (kind == "ADC")
    # Asked about either side: the left half, or the right one, and their mirror images.
    halves = {(bool(each[:60].any()), bool(each[68:].any())) for each in side}
    assert halves == {(True, False), (False, True)}


def test_without_both_images_nothing_is_decided_and_all_places_say_so(lone):
    kind, result, out, _, said = lone
    assert result.missing == ("ADC" if kind == "DWI" else "DWI")
    assert result.hypoperfusion_ml > 300
    nothing = (result.core_ml, result.core_mni_ml, result.core_by, result.mismatch_ml,
               result.mismatch_ratio, result.dawn, result.defuse3.target_mismatch)  # fmt: skip
    assert nothing == (None,) * 7
    assert (result.defuse3.ratio.value, result.defuse3.ratio.met) == (None, None)
    assert result.uncertainty.decision_holds_in is None
    assert result.answer.target_mismatch == "unsure"
    assert result.answer.reasons == ("the core needs DWI and ADC",)
    assert read_result(out) == result
    assert not (out / "core_mask.nii.gz").exists() and (out / "overview.png").exists()
    missing = "No ADC map: " if kind == "DWI" else "No DWI: "
    assert result.warnings[0].startswith(missing) and "no core is known" in result.warnings[0]
    assert any(missing in line for line in said)
    html = (out / "report.html").read_text()
    assert '<dt>Core</dt>\n<dd class="figure">not known</dd>' in html and missing in html
    assert "UNSURE: PERFUSION IMAGING WOULD TELL</span></h1>" in html
    assert 'id="core-opacity"' not in html and 'id="behind"' not in html
    text = summary(result, "out")
    assert "core not known" in text and "UNSURE, perfusion imaging would tell (the core" in text
    assert "(DAWN): n/a (core unknown)" in text
    assert "None" not in text and ">None<" not in html


def test_a_side_that_nobody_gave_is_found_and_said(lone):
    _, result, out, _, said = lone
    assert (result.given.side, result.side, result.side_found) == ("unknown", "left", True)
    assert result.side_share > 0.95
    html = (out / "report.html").read_text()
    found = f"left (found: asked about either side, {result.side_share:.0%} of the volume)"
    assert f"Side {found}" in html
    assert f"side: {found}" in summary(result, "x")
    assert any("look whether the images say the same" in line for line in said)


def test_a_found_side_is_held_against_the_core(files):
    native = load_native(files.dwi, files.adc)
    answers = [prediction.volume_predictor(left_half, 16)]
    done = prediction.predict_patient(native, ClinicalFacts("unknown", 3), answers)
    assert done.side.side == "left" and done.decision is not None
    given = prediction.predict_patient(native, ClinicalFacts("left", 3), answers)
    assert not given.side.found and given.side.share is None
    # The core of this patient is on one side; where the answer is on the other, it is an alarm.
    assert len(done.core.alarms) == len(given.core.alarms)
    assert all(alarm.startswith("CHECK THE SIDE: most of the pred") for alarm in done.core.alarms)
    np.testing.assert_array_equal(done.core.native, given.core.native)


@pytest.mark.parametrize(
    ("left", "right", "side", "words"),
    [
        (0, 0, "unknown", "unknown (not given, and no hypoperfusion is predicted)"),
        (55, 45, "left", "left (found: asked about either side, 55% of the volume)"),
        (46, 54, "unknown", "the larger answer has 54% of the volume of both)"),
        (7, 93, "right", "right (found: asked about either side, 93% of the volume)"),
    ],
)
def test_answers_that_are_much_alike_tell_no_side(left, right, side, words):
    asked, found = stroke_side.choose("unknown", {"left": left, "right": right})
    assert asked == ("left" if left >= right else "right")
    assert (found.side, found.found) == (side, True) and found.words.endswith(words)
    assert stroke_side.choose("bilateral", {"bilateral": 3.0})[1].words == "bilateral"
    assert stroke_side.to_ask("unknown") == ("left", "right")
    assert stroke_side.to_ask("right") == ("right",)


def test_a_model_that_needs_both_images_refuses_one_in_a_sentence(files, tmp_path):
    refuses = "model m was not trained to answer without one"
    for dwi, adc, flag in ((str(files.dwi), None, "--adc"), (None, str(files.adc), "--dwi")):
        asked = PatientFiles(dwi=dwi, adc=adc, given=ClinicalFacts("left", 3))
        with pytest.raises(InputError, match=f"model m was not trained .* expected {flag}, or a"):
            result_folder.predict(asked, str(tmp_path / "o"), lambda: backend(refuses), log=len)
    assert not (tmp_path / "o").exists() or not list((tmp_path / "o").iterdir())


@pytest.mark.parametrize(
    ("card", "able"),
    [
        ({"training": {"randomisation": "bias, inputs"}}, True),
        ({"training": {"randomisation": "bias"}}, False),
        ({"training": {"randomisation": {"inputs": 1}}}, False),
        ({"training": {}}, False),
        ({}, False),
        ({"models": [{"training": {"randomisation": "inputs"}}] * 2}, True),
        ({"models": [{"training": {"randomisation": "inputs"}}, {"training": {}}]}, False),
    ],
)
def test_a_model_answers_without_inputs_if_all_its_networks_were_trained_to(card, able):
    info = ModelInfo(
        path="x", sha256=None, cohort=None, randomisation=model_files.randomisation_of(card)
    )
    assert model_files.answers_without(info) is able


def test_only_a_side_that_nobody_gave_is_warned_of():
    _, found = stroke_side.choose("unknown", {"left": 9.0, "right": 1.0})
    (warning,) = cautions.of_side(found)
    assert "left" in warning and "a stroke of the other half is not in this answer" in warning
    assert cautions.of_side(prediction_of().side) == []


def test_without_a_core_no_answer_is_sure_and_a_core_from_elsewhere_decides():
    known = calibration_of()
    for by in (None, known):
        said = calibration.answer(by, hypoperfusion_ml=200.0, core_ml=None)
        assert said.target_mismatch == "unsure" and said.reasons == ("the core needs DWI and ADC",)
        assert said.mismatch_with_errors_of is None
        assert (said.interval_ml is None) == (by is None)
    assert uncertainty.figures("models", [80.0, 30.0], None, None).decision_holds_in is None
    nothing = CoreFindings(core=None, delayed=None, alarms=(), warnings=())
    assert prediction_of(core=nothing).decision is None
    assert prediction_of(core=core_findings(np.ones((2, 2, 2), bool), core_ml=5.0)).decision


def test_what_an_image_is_not_like_is_asked_of_those_there_are():
    rng = np.random.default_rng(0)
    tissue = np.ones((20, 20, 20), bool)
    image = rng.normal(1, 0.1, tissue.shape).astype(np.float32)
    nothing = np.zeros_like(image)
    of_dwi, of_adc = (
        familiarity.measure(*images, tissue) for images in ((image, nothing), (nothing, image))
    )
    assert {name[:4] for name in of_dwi} == {"dwi_", "tiss"} and "dwi_adc" not in of_dwi
    assert {name[:4] for name in of_adc} == {"adc_", "tiss"}


def test_folders_with_one_image_are_predicted_and_a_missing_side_is_found(files, tmp_path, capsys):
    raw = tmp_path / "raw"
    for name, path, end in (("sub-1", files.dwi, "dwi"), ("sub-2", files.adc, "ADC")):
        (raw / name).mkdir(parents=True)
        shutil.copy(path, raw / name / f"{name}_{end}.nii.gz")
    (raw / "participants.tsv").write_text(
        "participant_id\tnihss\tside\nsub-1\tn/a\tn/a\nsub-2\t5\tleft\n"
    )
    done, failed = cohort_prediction.predict_cohort(
        str(raw), str(tmp_path / "out"), backend, settings="s"
    )
    assert failed == {}
    first, second = (done[f"sub-{k}"].result for k in (1, 2))
    assert (first.side, first.side_found, second.side_found) == ("left", True, False)
    assert (first.missing, second.missing) == ("ADC", "DWI")
    index = (tmp_path / "out/index.html").read_text()
    assert "No ADC map: " in index and "No DWI: " in index and "asked about either side" in index
    again, _ = cohort_prediction.predict_cohort(
        str(raw), str(tmp_path / "out"), backend, settings="s"
    )
    assert all(each.kept for each in again.values())


def test_the_page_shows_no_core_of_which_nothing_is_known(files):
    native = load_native(files.dwi, may_lack_one=True)
    answers = [prediction.volume_predictor(left_half, 16)]
    done = prediction.predict_patient(native, ClinicalFacts("left", 3), answers, False)
    assert done.core.core is None
    asked = PatientFiles(dwi="d", adc=None, given=done.given)
    result = result_folder.build_result(
        asked, done, backend(), seconds=dataclasses.replace(_no_seconds(), **done.seconds)
    )
    html = page.render(done, result)
    assert "The core is not known." in html and "no ADC map" in html


def _no_seconds():
    from tf_hypoperfusion.inference.result import Seconds

    return Seconds(read=0, load_model=0, register=0, network=0, way_back=0)
