"""Honest probabilities, the interval of mL, and the answer that follows."""

import dataclasses

import numpy as np
import pytest
from helpers.calibrations import calibration_of, steps

from data_tools.runtime import atomic
from data_tools.runtime.errors import InputError
from tf_hypoperfusion.inference import calibration, uncertainty
from tf_hypoperfusion.inference.calibration import Calibration
from tf_hypoperfusion.inference.model_files import ModelInfo
from tf_hypoperfusion.inference.uncertainty import Opinions

pytestmark = pytest.mark.quick


def test_the_probability_is_that_of_the_logit():
    made = calibration_of(slope=2.0, intercept=-1.0)
    given = np.float32([0.0, 0.5, 0.9, 1.0])
    found = made.probability(given)
    assert found[0] == 0  # outside tissue nothing becomes probable
    assert found[1] == pytest.approx(1 / (1 + np.e))
    odds = 9**2 / np.e
    assert found[2] == pytest.approx(odds / (1 + odds), rel=1e-5)
    assert found[2] < found[3] <= 1 and found.dtype == np.float32
    for cut in (0.1, 0.5, 0.85):
        at_cut = dataclasses.replace(made, cut=cut).average_at_cut
        assert made.probability(np.float32([at_cut]))[0] == pytest.approx(cut, abs=1e-6)


def test_the_interval_leaves_one_in_twenty_out_on_either_side():
    """Of 19 errors the outermost two: the twentieth lies beyond either with 1 in 20."""
    made = calibration_of(errors=steps(19), coverage=0.9)
    assert made.root_bounds == (-9.0, 9.0)
    assert calibration_of(errors=steps(39), coverage=0.9).root_bounds == (-18.0, 18.0)
    low, high = made.interval_ml(100.0)
    assert (low, high) == (1.0, 19.0**2)
    assert made.interval_ml(4.0)[0] == 0


def test_the_interval_holds_a_further_patient_as_often_as_stated():
    rng = np.random.default_rng(5)
    held = []
    for _ in range(400):
        errors = rng.exponential(size=40) - 0.3
        low, high = calibration_of(errors=errors[:-1], coverage=0.8).root_bounds
        held.append(low <= errors[-1] <= high)
    assert np.mean(held) == pytest.approx(0.8, abs=0.05)


@pytest.mark.parametrize(
    ("errors", "core_ml", "said"),
    [
        (steps(19, 0.1), 10.0, "yes"),  # 82.8 to 118.8 mL; 25 mL are enough
        (steps(19, 0.1), 60.0, "unsure"),  # 108 mL are needed
        (steps(19, 0.1), 71.0, "no"),  # whatever the volume
        (steps(19, 0.1) - 6, 10.0, "no"),  # 9.6 to 24 mL, although the mask is larger
        (steps(19, 0.1) + 3, 60.0, "yes"),  # by its errors the mask is too small
    ],
)
def test_both_ends_of_the_interval_decide(errors, core_ml, said):
    made = calibration_of(errors=errors)
    found = calibration.answer(made, hypoperfusion_ml=100.0, core_ml=core_ml)
    assert found.target_mismatch == said
    assert bool(found.reasons) == (said == "unsure")
    assert found.calibrated_on == "19 patients of somewhere, answered by the networks' average"


def test_the_reason_names_the_criterion_and_its_volume():
    made = calibration_of(errors=steps(19, 0.1))
    ratio = calibration.answer(made, hypoperfusion_ml=100.0, core_ml=60.0).reasons
    assert ratio == (
        "the hypoperfusion is 83 to 119 mL in 90% of such patients, and a ratio of 1.8 needs "
        "108 mL",
    )
    difference = calibration.answer(made, hypoperfusion_ml=30.0, core_ml=15.0).reasons[0]
    assert difference.endswith("and a mismatch of 15 mL needs 30 mL")


def test_how_many_errors_make_it_a_mismatch():
    """100 mL, core 60: errors from root 108 - root 100 = 0.39 on make it a mismatch."""
    made = calibration_of(errors=steps(19, 0.1))
    assert made.mismatch_share(100.0, 60.0) == pytest.approx(6 / 19)
    assert made.mismatch_share([100.0, 400.0], [71.0, 60.0]).tolist() == [0, 1]


def test_an_image_unlike_the_others_is_unsure_whatever_the_interval():
    found = calibration.answer(
        calibration_of(), hypoperfusion_ml=100.0, core_ml=10.0, unfamiliar=["it is blue"]
    )
    assert (found.target_mismatch, found.reasons) == ("unsure", ("it is blue",))


def test_without_a_calibration_it_is_yes_or_no_and_nothing_more():
    found = calibration.answer(None, hypoperfusion_ml=100.0, core_ml=10.0)
    assert (found.target_mismatch, found.interval_ml, found.coverage) == ("yes", None, None)
    assert calibration.answer(None, hypoperfusion_ml=20.0, core_ml=10.0).target_mismatch == "no"


def test_every_answer_is_cut_at_the_same_probability():
    made = calibration_of(slope=1.0, intercept=1.0)
    each = tuple(np.full((2, 2, 2), p, np.float32) for p in (0.2, 0.4))
    moved = uncertainty.calibrated(Opinions(np.float32(0.3) + 0 * each[0], each, "models"), made)
    assert moved.mean[0, 0, 0] == made.probability(np.float32([0.3]))[0]
    assert [volume[0, 0, 0] for volume in moved.each] == [
        made.probability(np.float32([p]))[0] for p in (0.2, 0.4)
    ]


def test_it_comes_back_from_its_file(tmp_path):
    made = dataclasses.replace(calibration_of(), familiar={"noise": (0.1, 0.2)})
    file = tmp_path / "c.json"
    atomic.write_json(file, made.to_json())
    assert calibration.read(file) == made
    with pytest.raises(InputError, match="no such file; expected calibration.json"):
        calibration.read(tmp_path / "none.json")
    for change in (
        {"slope": "steep"}, {"cut": 0.51}, {"slope": -1}, {"coverage": 1.5},
        {"root_errors": [0, 1]}, {"familiar": [1]}, {"intercept": float("nan")},
    ):  # fmt: skip
        atomic.write_text(file, str(made.to_json() | change).replace("'", '"'))
        with pytest.raises(InputError, match="not whole"):
            calibration.read(file)


def info(path, sha256, networks=None):
    return ModelInfo(path=str(path), sha256=sha256, cohort=None, networks=networks)


def test_it_belongs_to_just_its_networks(tmp_path):
    file = tmp_path / "c.json"
    atomic.write_json(file, calibration_of(networks=("a", "b")).to_json())
    both = [info("b.keras", "b"), info("a.keras", "a")]
    assert calibration.of_models(both, str(file)) == calibration.read(file)
    export = [info("export", "of the files", ("b", "a"))]
    assert calibration.of_models(export, str(file)) == calibration.read(file)
    with pytest.raises(InputError, match=r"made with 2 networks \(a, b\), but these are 1"):
        calibration.of_models(both[:1], str(file))


def test_it_is_found_in_the_run_of_all_folds_or_the_card_of_an_export(tmp_path):
    made = calibration_of(networks=("a", "b"))
    folds = [info(tmp_path / f"run/fold-{n}/best.keras", s) for n, s in enumerate("ab")]
    (tmp_path / "run").mkdir()
    assert calibration.of_models(folds) is None
    atomic.write_json(tmp_path / "run/calibration.json", made.to_json())
    assert calibration.of_models(folds) == made
    assert calibration.of_models(folds[:1]) is None  # another ensemble has another one
    assert calibration.of_models([folds[0], info(tmp_path / "x/fold-1/best.keras", "b")]) is None
    card = tmp_path / "export/model_card.json"
    atomic.write_json(card, {"calibration": made.to_json()})
    for path in (card.parent, card.with_name("model.onnx")):
        assert calibration.of_models([info(path, "files", ("a", "b"))]) == made
    atomic.write_json(card, {"models": []})
    assert calibration.of_models([info(card.parent, "files")]) is None
    atomic.write_json(card, {"calibration": {"slope": 1}})
    with pytest.raises(InputError, match="its calibration is not whole"):
        calibration.of_models([info(card.parent, "files")])


def test_too_few_patients_promise_nothing():
    assert [calibration.least_patients(c) for c in (0.5, 0.8, 0.9, 0.95)] == [3, 9, 19, 39]
    with pytest.raises(ValueError, match="too few"):
        calibration_of(errors=steps(18))
    assert isinstance(calibration_of(errors=steps(18), coverage=0.8), Calibration)
