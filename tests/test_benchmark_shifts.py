"""The battery of shifts: its figures by hand, and a network that always says the same."""

import numpy as np
import pytest

from benchmarks import shifts
from data_tools.grid import SLAB_SHAPE
from data_tools.runtime import command
from tf_hypoperfusion.evaluation.patient_metrics import patient_metrics, threshold_counts
from tf_hypoperfusion.inference.calibration import Calibration
from tf_hypoperfusion.inference.sliding_window import SlabModel


def even(image, nihss):
    """0.2 in all tissue."""
    return np.full((len(image), *SLAB_SHAPE, 1), 0.2, np.float32)


def test_a_network_that_sees_nothing(mni_cohort):
    answered = shifts.answer(SlabModel(even), mni_cohort, stride=16)
    assert len(answered) == 6
    held = shifts.judge(answered)
    truth_ml = [a.metrics.truth_ml for a in answered]
    assert held.bias_ml == pytest.approx(-np.mean(truth_ml))
    assert held.dice == 0 and 0.5 <= held.auc < 0.55  # fluid is told apart, and nothing else
    positive = sum(a.mismatch for a in answered)
    assert 0 < positive <= 6
    assert held.sensitivity == (0, positive)
    assert held.specificity == (6 - positive, 6 - positive)
    inside, total = (
        sum(a.counts.covered[rows, 100:].sum() for a in answered) for rows in (1, slice(None))
    )
    assert held.calibration == pytest.approx(abs(0.2005 - inside / total), abs=1e-6)


def calibrated(root_error, **changed):
    """The even answer is cut below itself; the true volume is off by so much at most."""
    errors = tuple(np.linspace(-root_error, root_error, 19))
    numbers = {"slope": 1.0, "intercept": 0.0, "cut": 0.15, "coverage": 0.9, "familiar": {}}
    return Calibration(
        networks=("one",), root_errors=errors, cohorts=("some",), by="it", **numbers | changed
    )


@pytest.mark.parametrize(("root_error", "inside"), [(0.0, 0), (100.0, 6)])
def test_what_a_calibrated_model_says(mni_cohort, root_error, inside):
    answered = shifts.answer(SlabModel(even), mni_cohort, 16, calibrated(root_error))
    positive = sum(each.mismatch for each in answered)
    cells = shifts.line("(none)", shifts.judge(answered), None)
    assert cells["in_interval"] == f"{inside}/6" and cells["unlike"] == "0/6"
    assert cells["used_sensitivity"] == f"{positive}/{positive}"  # of all tissue, however unsure
    assert cells["used_specificity"] == f"0/{6 - positive}"
    # All tissue is drawn: a yes for everybody if that is sure, and for nobody if it is not.
    assert cells["decided_right"] == ("0/0" if inside else f"{positive}/6")
    volumes = [each.used.difference_ml + each.metrics.truth_ml for each in answered]
    assert min(volumes) > 500 and 0 < float(cells["used_Dice"]) < 0.5
    assert float(cells["used_bias_ml"]) == pytest.approx(
        np.mean([each.used.difference_ml for each in answered]), abs=0.05
    )
    # Slope 1 and intercept 0 change no probability.
    assert cells["used_calibration"] == cells["calibration"]


def test_an_image_unlike_the_calibrations_is_unsure(mni_cohort):
    known = calibrated(0.0, familiar={"dwi_low": (-2.0, -1.0)})
    answered = shifts.answer(SlabModel(even), mni_cohort, 16, known)
    assert {each.used.said for each in answered} == {"unsure"}
    assert shifts.judge(answered).used["unlike"] == "6/6"


def low_adc(image, nihss):
    """Hypoperfusion nowhere; core wherever the ADC is low."""
    return np.stack([0 * image[..., 0], image[..., 2]], axis=-1)


def test_a_core_is_beside_the_rules(mni_cohort):
    answered = shifts.answer(SlabModel(low_adc, cores=True), mni_cohort, stride=16)
    found = shifts.judge(answered)
    assert found.cores and found.dice == 0
    some = [a.core for a in answered if a.core.core_dice is not None]
    assert found.core_dice == np.median([core.core_dice for core in some])
    assert all(core.core_learnt_ml >= core.core_truth_ml * core.core_dice / 2 > 0 for core in some)
    assert 0.2 < found.core_dice <= 1 and found.rule_dice > 0.5
    line = shifts.line("(none)", found, None)
    assert "used_Dice" not in line and list(line)[-2:] == ["core_Dice", "core_Dice_of_rule"]
    assert "core_Dice" not in shifts.line("(none)", held(0.5), None)


def case(probability, truth):
    shape = (91, 109, 60)
    image = np.zeros(shape, np.float32)
    image[:2, :10, :10] = probability
    mask = np.zeros(shape, bool)
    mask[:2, :10, :10] = truth
    measured = {
        "truth": mask, "coverage": np.ones(shape, bool), "side": "left", "voxel_ml": 0.1,
    }  # fmt: skip
    return shifts.Answered(
        metrics=patient_metrics(image, **measured),
        counts=threshold_counts(image, **measured),
        mismatch=bool(truth),
        said=probability >= 0.5,
    )


def test_figures_of_right_and_wrong_answers():
    held = shifts.judge([case(0.9, True), case(0.9, False), case(0.1, True), case(0.1, False)])
    assert held.patients == 4 and held.dice == 0.5  # of 1 and 0
    assert held.bias_ml == pytest.approx(0)
    assert held.sensitivity == (1, 2) and held.specificity == (1, 2)
    assert held.calibration == pytest.approx(0.4, abs=0.01)
    nothing = shifts.judge([case(0.0, False)])
    assert nothing.dice is None and nothing.auc is None and nothing.calibration is None


def held(dice):
    return shifts.Held(
        patients=2, dice=dice, auc=0.9, bias_ml=1.0, sensitivity=(1, 1), specificity=(0, 1),
        calibration=0.02,
    )  # fmt: skip


def test_losses_are_against_the_plain_patients():
    lines = shifts.table(
        {
            shifts.PLAIN: held(0.6),
            "b700": held(0.5),
            "snr8": held(0.58),
            "no_penumbra": held(0.1),
            "no_core": held(None),
        }
    )
    losses = {line["shift"]: line["loss"] for line in lines}
    assert losses == {
        shifts.PLAIN: "n/a",
        "b700": "0.10",
        "snr8": "0.02",
        "no_penumbra": "n/a",
        "no_core": "n/a",
        "worst loss: b700": "0.10",
        "mean loss": "0.06",
    }
    assert lines[1]["specificity"] == "0/1"


def test_a_shift_that_was_asked_for_is_not_left_out_silently(tmp_path, capsys):
    asked = ["--shifts=b700,real_shapes", f"--cohorts={tmp_path}"]
    assert command.run(shifts.main, shifts.FLAGS, "", asked) == 2
    assert "--shifts=real_shapes needs --lesions" in capsys.readouterr().err
