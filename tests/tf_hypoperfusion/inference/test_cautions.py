"""Each warning of a prediction, by a case that calls for it and one that does not."""

import numpy as np
import pytest
from helpers.predictions import NOTHING_MNI, core_findings, mni_patient, prediction_of

from tf_hypoperfusion.clinical import ClinicalFacts
from tf_hypoperfusion.inference import cautions, uncertainty
from tf_hypoperfusion.inference.model_files import ModelInfo

pytestmark = pytest.mark.quick


def half(side):
    mask = NOTHING_MNI.copy()
    mask[slice(20, 40) if side == "left" else slice(50, 70), 40:60, 20:40] = True
    return mask


def core(ml):
    return core_findings(NOTHING_MNI, core_ml=ml)


def model(cohort, frame=None):
    return ModelInfo(path="a.keras", sha256=None, cohort=cohort, frame=frame)


@pytest.mark.parametrize("side", ["left", "right"])
def test_hypoperfusion_on_the_other_side_is_told(side):
    other = {"left": "right", "right": "left"}[side]
    done = prediction_of(
        given=ClinicalFacts(side, 5), core=core(10.0), hypoperfusion_mni=half(other),
        hypoperfusion_ml=60.0,
    )  # fmt: skip
    (warning,) = cautions.of_prediction(done)
    assert warning == f"only 0% of the predicted hypoperfusion lies on the given side ({side})"
    for quiet in (ClinicalFacts(other, 5), ClinicalFacts("bilateral", 5)):
        fine = prediction_of(
            given=quiet, core=core(10.0), hypoperfusion_mni=half(other), hypoperfusion_ml=60.0
        )
        assert cautions.of_prediction(fine) == []


def test_warnings_for_what_is_unknown():
    done = prediction_of(given=ClinicalFacts("left", None), warnings=["poor registration: ..."])
    texts = cautions.warnings_of(done, [model("Hospital A")])
    assert [t.split()[0] for t in texts] == ["poor", "NIHSS", "no"]
    assert texts[-1].endswith("weak on such patients (median Dice 0.25)")


def test_a_core_larger_than_the_prediction_is_told():
    done = prediction_of(core=core(12.0), hypoperfusion_ml=11.0)
    (warning,) = cautions.of_prediction(done)
    assert warning.startswith("the core is larger than the predicted hypoperfusion")
    assert cautions.of_prediction(prediction_of(core=core(12.0), hypoperfusion_ml=90.0)) == []


def test_a_contradicted_side_stands_above_the_quality():
    findings = core_findings(NOTHING_MNI, core_ml=12.0, alarms=["CHECK THE SIDE: ..."])
    done = prediction_of(core=findings, hypoperfusion_ml=90.0, warnings=["poor"])
    assert cautions.warnings_of(done, [model("Hospital A")]) == ("CHECK THE SIDE: ...", "poor")


def test_brain_outside_the_frame_is_told_in_ml():
    brain = NOTHING_MNI.copy()
    brain[6:85, 3:107, 20] = True  # just in 80x104
    tight, wide, unknown = (model("Hospital A", each) for each in ("80x104", "96x112", None))
    assert cautions.of_frame(mni_patient(brain), [tight, wide, unknown]) == []
    brain[5, 50:60, 20] = True
    brain[40, 2, 20] = brain[86, 40, 20] = True
    assert cautions.of_frame(mni_patient(brain), [wide]) == []
    assert cautions.of_frame(mni_patient(brain), [unknown]) == []
    small_head = np.diag([2.0, 1.0, 1.0, 1.0])
    for affine, ml in ((None, "0.10"), (small_head, "0.05")):
        told = cautions.of_frame(mni_patient(brain, affine), [wide, tight, unknown])
        assert told == [
            f"{ml} mL of the brain lie outside the 80 x 104 voxels that the model computes; no "
            "hypoperfusion is found there"
        ]
    done = prediction_of(core=core(12.0), hypoperfusion_ml=90.0, mni=mni_patient(brain))
    assert cautions.warnings_of(done, [tight]) == tuple(
        cautions.of_frame(mni_patient(brain), [tight])
    )


def test_where_the_model_comes_from():
    assert cautions.of_origin([model("Hospital A")]) == []
    (simulated,) = cautions.of_origin([model("Simulated acute stroke cohort")])
    assert simulated.startswith("the model was trained on SIMULATED patients only")
    (unknown,) = cautions.of_origin([model("Hospital A"), model(None)])
    assert unknown.startswith("nothing is known of what the model was trained on")


def test_answers_that_disagree_about_the_decision_are_told():
    doubt = uncertainty.figures("mirror", [80.0, 30.0], [20.0, 20.0], True)
    (warning,) = cautions.of_doubt(doubt)
    assert warning.startswith("the decision holds in 1 of 2 answers (the image and its mirror")
    assert warning.endswith("they find 30 to 80 mL of hypoperfusion")
    assert cautions.of_doubt(uncertainty.figures("models", [80.0, 90.0], [20.0] * 2, True)) == []
    assert cautions.of_doubt(None) == []
    assert np.isclose(doubt.range_ml[1], 80.0)
