"""The calibration of evaluated patients, from the counts alone."""

import dataclasses
import json

import numpy as np
import pytest
from helpers.calibrations import calibration_of
from helpers.evaluated_cohorts import table_of

from data_tools.runtime import atomic
from data_tools.runtime.errors import InputError
from tf_hypoperfusion import calibrate
from tf_hypoperfusion.evaluation import calibrating, patient_metrics
from tf_hypoperfusion.evaluation.patient_metrics import STEPS, ThresholdCounts
from tf_hypoperfusion.evaluation.report import figures, patients
from tf_hypoperfusion.inference import calibration

pytestmark = pytest.mark.quick

VOXEL_ML = 0.008
ONE_NETWORK = ({"path": "x", "sha256": "a"},)


def overconfident(seed, voxels=40_000):
    """Counts of a patient whose lesion is at logit 0.5 l - 0.4 where the network says logit l."""
    rng = np.random.default_rng(seed)
    logit = rng.normal(-1.5 + 0.5 * rng.normal(), 2, voxels)
    share = 1 / (1 + np.exp(-(0.5 * logit - 0.4)))
    truth = rng.random(voxels) < share
    bins = np.floor(STEPS / (1 + np.exp(-logit))).astype(int)
    covered = np.stack([np.bincount(bins[truth == t], minlength=STEPS + 1) for t in (False, True)])
    return ThresholdCounts(covered, covered, VOXEL_ML)


@pytest.fixture
def evaluated(tmp_path):
    """Write so many patients as ``evaluate`` leaves them, and load them."""

    def write(count, name="external-there", models=ONE_NETWORK, **about):
        folder = tmp_path / name
        counts = [overconfident(seed) for seed in range(count)]
        half = patient_metrics.PAPER_STEP
        rows = [(c.covered[1].sum() * VOXEL_ML, c.volume_ml()[half], 10.0, True) for c in counts]
        table = table_of(rows)
        table["dice"] = [c.dice()[half] for c in counts]
        folder.mkdir()
        table.to_csv(folder / "patients.csv", index=False)
        np.savez_compressed(
            folder / "thresholds.npz",
            participant_id=np.array(table["participant_id"], dtype=str),
            covered=np.array([c.covered for c in counts], np.uint32),
            hemisphere=np.array([c.hemisphere for c in counts], np.uint32),
            voxel_ml=np.full(count, VOXEL_ML),
            look_names=["dwi_low", "dwi_high"],
            look=np.stack([np.linspace(0.5, 0.9, count), np.full(count, np.nan)], axis=1),
        )
        said = {"left_out": {}, "warnings": [], "patients": count, "models": list(models)}
        atomic.write_json(folder / "evaluation.json", said | {"external": "there"} | about)
        return patients.load(folder)

    return write


def test_the_two_numbers_are_those_of_scikit_learn(evaluated):
    from sklearn.linear_model import LogisticRegression

    counts = [overconfident(seed) for seed in range(3)]
    found = calibrating.regress(counts)
    assert found == pytest.approx((0.5, -0.4), abs=0.03)  # what the patients were made with
    centres = (np.arange(STEPS + 1) + 0.5)[10:1000] / STEPS
    logit = np.log(centres / (1 - centres))
    inputs, truth, weights = [], [], []
    for count in counts:
        seen = count.covered[:, 10:1000]
        for is_lesion in (0, 1):
            inputs.append(logit)
            truth.append(np.full(len(logit), is_lesion))
            weights.append(seen[is_lesion] / seen.sum() * 1e6)
    model = LogisticRegression(C=1e12, tol=1e-10, max_iter=1000)
    model.fit(np.concatenate(inputs)[:, None], np.concatenate(truth), np.concatenate(weights))
    expected = (model.coef_[0, 0], model.intercept_[0])
    assert found == pytest.approx(expected, abs=2e-3)


def test_every_patient_weighs_the_same(evaluated):
    small, large = overconfident(1), overconfident(2)
    larger = ThresholdCounts(large.covered * 50, large.hemisphere * 50, VOXEL_ML)
    assert calibrating.regress([small, larger]) == pytest.approx(
        calibrating.regress([small, large])
    )


def test_counts_move_to_where_the_probability_moves():
    made = calibration_of(slope=0.5, intercept=-0.4)
    count = overconfident(3)
    moved = calibrating.calibrated_counts(count, made)
    assert moved.covered.sum() == count.covered.sum()
    assert moved.volume_ml()[500] == calibrating.volumes_ml([count], made)[0]
    before, after = (figures.calibration_from([c]) for c in (count, moved))
    assert before > 0.08 and after < 0.02
    same = calibrating.calibrated_counts(count, calibration_of())
    np.testing.assert_array_equal(same.covered, count.covered)


def test_the_errors_are_those_of_the_calibrated_volumes(evaluated):
    cohort = evaluated(24)
    made = calibrating.fit([cohort], 0.9)
    assert made.networks == ("a",) and made.by == "the networks' average"
    assert made.cohorts == ("there",) and len(made.root_errors) == 24
    assert made.familiar == {"dwi_low": (0.4, 1.0)}
    volumes = calibrating.volumes_ml(cohort.counts, made)
    expected = np.sqrt(cohort.table["truth_ml"]) - np.sqrt(volumes)
    np.testing.assert_allclose(made.root_errors, np.sort(expected), atol=1e-4)
    bias_ml = {
        cut: np.mean(calibrating.volumes_ml(cohort.counts, dataclasses.replace(made, cut=cut)))
        - cohort.table["truth_ml"].mean()
        for cut in calibration.CUTS
    }
    assert abs(bias_ml[made.cut]) == min(map(abs, bias_ml.values())) and made.cut < 0.5
    low, high = made.interval_ml(volumes)
    truth = cohort.table["truth_ml"]
    assert ((low <= truth + 1e-9) & (truth <= high + 1e-9)).mean() >= 0.9
    _, held = calibrating.crossed([cohort], 0.9)
    assert 0.7 <= held <= 1


def test_folds_answer_each_about_their_own(evaluated):
    models = [{"path": f"fold-{k}/best.keras", "sha256": s} for k, s in enumerate("ba")]
    made = calibrating.fit([evaluated(20, models=models, external=None, validation=True)], 0.9)
    assert made.networks == ("a", "b")
    assert made.by == "the fold that never saw the patient"


def test_an_export_is_known_by_its_networks(evaluated):
    models = [{"path": "fold-0/model.onnx", "sha256": "file", "networks": ["z", "y"]}]
    assert calibrating.fit([evaluated(20, models=models)], 0.9).networks == ("y", "z")


def test_what_cannot_be_calibrated_on(evaluated):
    with pytest.raises(InputError, match="18 patients in all; .* needs at least 19"):
        calibrating.fit([evaluated(18)], 0.9)
    few, other = evaluated(10, "external-few"), evaluated(10, "external-other", [
        {"path": "x", "sha256": "b"}
    ])  # fmt: skip
    with pytest.raises(InputError, match="not of the same networks"):
        calibrating.fit([few, other], 0.9)
    with pytest.raises(InputError, match="does not say which networks answered"):
        calibrating.fit([evaluated(20, "external-nameless", [])], 0.9)
    nothing = ThresholdCounts(np.zeros((2, 1001), int), np.zeros((2, 1001), int), VOXEL_ML)
    with pytest.raises(InputError, match="nothing to calibrate on"):
        calibrating.regress([nothing])
    turned = overconfident(1)
    turned = ThresholdCounts(turned.covered[::-1], turned.hemisphere, VOXEL_ML)
    with pytest.raises(InputError, match="no calibration makes their probability one"):
        calibrating.regress([turned])
    (few.path.parent / "thresholds.npz").unlink()
    with pytest.raises(InputError, match="no thresholds.npz beside it"):
        calibrating.fit([patients.load(few.path)], 0.9)


def test_the_command_writes_it_and_says_what_it_is_worth(evaluated, tmp_path, capsys):
    first, second = evaluated(12, "external-here"), evaluated(12, "external-there")
    out = tmp_path / "calibration.json"
    calibrate.FLAGS(["", f"--patients={first.path},{second.path}", f"--out={out}"])
    assert calibrate.main() == 0
    made = calibration.read(out)
    assert made.cohorts == ("here", "there") and len(json.loads(out.read_text())["tables"]) == 2
    said = capsys.readouterr().out
    assert "24 patients" in said and "crossing fifths it holds the truth in" in said
    calibrate.FLAGS(["", f"--patients={first.path}", f"--out={tmp_path}"])
    with pytest.raises(InputError, match="expected the name of a .json file"):
        calibrate.main()
