"""Whose core decides: in volumes, decision, warnings and files, with a predictor made by hand."""

import dataclasses
import json

import nibabel as nib
import numpy as np
import pytest
from helpers.commands import call
from helpers.predictions import core_findings, prediction_of

from data_tools.patient import load_native
from data_tools.runtime.errors import InputError
from tf_hypoperfusion import config, predict
from tf_hypoperfusion.clinical import ClinicalFacts
from tf_hypoperfusion.inference import cautions, deciding_core, prediction, result_folder
from tf_hypoperfusion.inference.deciding_core import Cores, CoreWish, LearntCore
from tf_hypoperfusion.inference.result import read_result
from tf_hypoperfusion.inference.result_files import OutputOptions
from tf_hypoperfusion.inference.result_folder import Backend, PatientFiles
from tf_hypoperfusion.inference.stroke_side import StrokeSide

LEFT = ClinicalFacts("left", 14, 66)
MNI = (91, 109, 60)


def predictor(image, nihss):
    """Hypoperfusion in the left half, and its front half as core."""
    answer = np.full((*image.shape[:4], 2), 0.1, np.float32)
    answer[:, :63] = 0.9
    answer[:, :, :64, :, 1] = 0.1
    return answer


def backend(cores=True):
    answer = prediction.volume_predictor(
        predictor if cores else lambda image, nihss: predictor(image, nihss)[..., :1], 16, cores
    )
    return Backend(answers=[answer], models=lambda: [], stride=16)


@pytest.fixture(scope="module")
def images(raw_cohort):
    folder = raw_cohort / "sub-0001/dwi"
    return folder / "sub-0001_dwi.nii.gz", folder / "sub-0001_ADC.nii.gz"


@pytest.fixture(scope="module")
def native(images):
    return load_native(*images)


@pytest.fixture(scope="module")
def predicted(native):
    """The patient by each wish, without files."""

    def ask(wish=prediction.ANY_CORE, cores=True):
        return prediction.predict_patient(native, LEFT, backend(cores).answers, wish=wish)

    return ask


@pytest.fixture(scope="module")
def learnt(predicted):
    return predicted(CoreWish(by="learnt"))


@pytest.fixture(scope="module")
def by_rule(predicted):
    return predicted()


def test_the_network_decides_where_it_is_asked_to(learnt, by_rule, native):
    assert (by_rule.cores.by, learnt.cores.by) == (config.CORE_BY, "learnt")
    assert by_rule.core.native_ml == by_rule.cores.rule_ml == learnt.cores.rule_ml
    mask = learnt.core.native
    np.testing.assert_array_equal(mask, learnt.cores.probability >= 0.5)
    assert learnt.core.native_ml == pytest.approx(mask.sum() * native.dwi.voxel_ml)
    assert learnt.core.native_ml == by_rule.cores.learnt_ml
    assert learnt.core.mni_ml == pytest.approx(learnt.core.native_ml, rel=0.05)
    assert not (mask & ~learnt.hypoperfusion).any()  # a part of the same half
    assert learnt.decision.difference_ml == pytest.approx(
        learnt.hypoperfusion_ml - learnt.core.native_ml
    )
    assert not learnt.decision.core_met and by_rule.decision.core_met
    np.testing.assert_array_equal(learnt.hypoperfusion, by_rule.hypoperfusion)


def test_the_mirror_is_judged_with_its_own_core(learnt):
    """It knows nothing of the side: of the mirror image it finds the other half."""
    assert learnt.uncertainty.kind == "mirror"
    assert learnt.uncertainty.decision_holds_in == 2


def test_networks_without_a_core_are_as_before(predicted, by_rule):
    plain = predicted(cores=False)
    assert plain.cores == Cores(by="rule", rule_ml=by_rule.cores.rule_ml)
    np.testing.assert_array_equal(plain.probability, by_rule.probability)
    np.testing.assert_array_equal(plain.core.native, by_rule.core.native)
    assert (plain.decision, plain.uncertainty) == (by_rule.decision, by_rule.uncertainty)
    with pytest.raises(InputError, match="--core_by=learnt: the model does not answer with a core"):
        predicted(CoreWish(by="learnt"), cores=False)


def test_the_default_takes_the_networks_where_they_have_one(predicted, monkeypatch):
    monkeypatch.setattr(config, "CORE_BY", "learnt")
    assert predicted().cores.by == "learnt"
    assert predicted(CoreWish(by="rule")).cores.by == "rule"
    assert predicted(cores=False).cores.by == "rule"


def test_a_given_core_decides_over_all(predicted, native, learnt):
    given = native.brain & (np.arange(native.brain.shape[2]) > native.brain.shape[2] // 2)
    done = predicted(CoreWish(given, by="learnt"))
    assert done.cores.by == "given"
    np.testing.assert_array_equal(done.core.native, given)
    assert done.core.mni_ml == pytest.approx(done.core.native_ml, rel=0.05)
    assert done.cores.learnt_ml == learnt.core.native_ml


def test_a_given_core_on_the_other_side_is_told(predicted, learnt, by_rule, native):
    assert learnt.core.alarms == by_rule.core.alarms == ()
    x = nib.affines.apply_affine(
        native.dwi.affine, np.moveaxis(np.indices(native.brain.shape), 0, -1)
    )[..., 0]
    right = native.brain & (x > np.median(x[native.brain]))
    assert "CHECK THE SIDE" in predicted(CoreWish(right)).core.alarms[0]


@pytest.mark.parametrize("found", [False, True])
def test_a_side_that_the_rule_contradicts_is_told_with_every_core(native, learnt, by_rule, found):
    nowhere, right = np.zeros(MNI, np.float32), np.zeros(MNI, np.float32)
    right[60:70, 40:60, 20:40] = 1  # the networks say so, although they were told the side

    def alarms(of_rule, of_networks):
        findings, _ = deciding_core.choose(
            native,
            by_rule.mni,
            StrokeSide(side="left", found=found),
            by_rule=dataclasses.replace(by_rule.core.known, mni=of_rule > 0),
            learnt=LearntCore(learnt.cores.probability, of_networks),
            wish=CoreWish(by="learnt"),
        )
        return findings.alarms

    assert alarms(nowhere, nowhere) == ()
    given = "most of the predicted hypoperfusion is on the left" if found else "side was given"
    for where in ((right, nowhere), (nowhere, right), (right, right)):
        (alarm,) = alarms(*where)
        assert alarm.startswith(f"CHECK THE SIDE: {given}")


@pytest.fixture(scope="module")
def written(images, tmp_path_factory):
    """The patient's folder with a given mask, on another grid than the DWI's, and its result."""
    folder = tmp_path_factory.mktemp("given")
    dwi = nib.load(images[0])
    mask = np.zeros(dwi.shape, np.uint8)
    middle = [n // 2 for n in dwi.shape]
    mask[tuple(slice(k - 3, k + 3) for k in middle)] = 1
    turned = nib.as_closest_canonical(nib.Nifti1Image(mask, dwi.affine))
    nib.save(turned.slicer[2:, :, 1:], folder / "core.nii.gz")
    files = PatientFiles(
        dwi=str(images[0]), adc=str(images[1]), given=LEFT, core=str(folder / "core.nii.gz"),
    )  # fmt: skip
    result = result_folder.predict(files, str(folder / "out"), backend, log=lambda text: None)
    return folder / "out", result, mask


def test_files_and_page_say_whose_core_it_is(written):
    out, result, mask = written
    assert read_result(out) == result
    saved = json.loads((out / "result.json").read_text())
    assert saved["core_by"] == "given" and saved["input"]["core"].endswith("core.nii.gz")
    assert saved["core_learnt_ml"] > 100 > saved["core_ml"] > 0
    np.testing.assert_array_equal(np.asarray(nib.load(out / "core_mask.nii.gz").dataobj), mask)
    probability = nib.load(out / "core_probability.nii.gz")
    assert probability.shape == mask.shape
    assert np.asarray(probability.dataobj).max() == pytest.approx(0.9)
    assert any("mL in its file" in note for note in result.input.notes)
    html = (out / "report.html").read_text()
    assert "core volume by the given mask" in html and "core by the network, not used here" in html
    assert "The core is the given mask" in html
    said = result_folder.summary(result, "out")
    assert f"this core is that of the given mask; {result.core_rule_ml:.1f} mL by the rule" in said
    assert any("by the given mask, which decides, and" in warning for warning in result.warnings)


def test_a_result_without_a_learnt_core_has_no_probability_of_it(images, written, tmp_path):
    files = PatientFiles(dwi=str(images[0]), adc=str(images[1]), given=LEFT)
    out = written[0].parent / "again"
    out.mkdir()
    (out / "core_probability.nii.gz").write_bytes(b"older")
    options = OutputOptions(core_by="rule", second_opinion=False)
    result = result_folder.predict(
        files, str(out), lambda: backend(cores=False), options=options, log=lambda text: None
    )
    assert (result.core_by, result.core_learnt_ml) == ("rule", None)
    assert not (out / "core_probability.nii.gz").exists()
    html = (out / "report.html").read_text()
    assert "core volume by the rule of ADC and DWI" in html and "not used here" not in html
    assert "this core is" not in result_folder.summary(result, "out")


@pytest.mark.quick
@pytest.mark.parametrize(
    ("deciding", "other", "expected"),
    [
        (10.0, 19.0, None),
        (10.0, 20.5, "and 20.5 mL by the network; look which of them is right"),
        (62.0, 71.0, "the second changes the core volume (target mismatch NO)"),
        (83.0, 84.0, "the second changes the ratio (target mismatch NO)"),
    ],
)
def test_cores_that_differ_much_are_told(deciding, other, expected):
    nothing = np.zeros((2, 2, 2), bool)
    done = prediction_of(
        core=core_findings(nothing, core_ml=deciding),
        hypoperfusion_ml=150.0,
        cores=Cores(rule_ml=deciding, learnt_ml=other),
    )
    warnings = cautions.of_cores(done)
    assert len(warnings) == (expected is not None)
    if expected:
        assert warnings[0].endswith(expected)
        assert f"{deciding} mL by the rule of ADC and DWI, which decides" in warnings[0]


@pytest.mark.quick
def test_the_cores_that_do_not_decide():
    both = {"rule_ml": 1.0, "learnt_ml": 2.0}
    assert deciding_core.others("given", **both) == {"rule": 1.0, "learnt": 2.0}
    assert deciding_core.others("rule", **both) == {"learnt": 2.0}
    assert deciding_core.others("learnt", **both) == {"rule": 1.0}
    assert deciding_core.others("rule", rule_ml=1.0, learnt_ml=None) == {}


@pytest.mark.quick
@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--core=c.nii", "--core_by=rule"], "--core decides, so --core_by changes nothing"),
        (["--core="], "--core is empty; expected a file, or none"),
        (["--core_by=given"], "rule"),
    ],
)
def test_flags_that_cannot_be_meant(flags, expected, tmp_path, capsys):
    patient = ["--dwi=d.nii", "--nihss=4", "--side=left", f"--out={tmp_path / 'out'}"]
    assert call(predict, *patient, *flags) == 2
    assert expected in capsys.readouterr().err
    assert call(predict, "--cohort=raw", f"--out={tmp_path / 'out'}", "--core=c.nii") == 2
    assert "leave out --core" in capsys.readouterr().err


def test_a_given_core_on_the_other_side_is_told_from_a_wrong_side(predicted, by_rule):
    """The mask of another patient, or mirrored."""
    rule = by_rule.core.native
    assert by_rule.cores.rule_ml > 3
    mirrored = predicted(CoreWish(rule[::-1].copy()))
    (warning,) = [text for text in cautions.of_cores(mirrored) if "elsewhere" in text]
    assert "Is it of this patient, and not mirrored?" in warning
    assert mirrored.cores.elsewhere_ml > 0.9 * by_rule.cores.rule_ml
    right = predicted(CoreWish(rule))
    assert right.cores.elsewhere_ml == 0
    assert not any("elsewhere" in text for text in cautions.of_cores(right))
