"""Evaluation of trained folds: each patient once, by the right model, the same whichever way."""

import csv
import dataclasses
import json
import re
import shutil
import signal
import subprocess
import sys
import time

import nibabel as nib
import numpy as np
import pytest
from helpers import PROJECT
from helpers.commands import call
from helpers.fake_step import FakeStep, without_slabs
from PIL import Image

from data_tools import flow, records
from data_tools.cohort import clinical_record, mni_file, read_participants, write_participants
from data_tools.runtime.errors import InputError
from tf_hypoperfusion import evaluate, provenance
from tf_hypoperfusion.config import TEST_STRIDE
from tf_hypoperfusion.evaluation import cases, patient_metrics, plan, thresholds
from tf_hypoperfusion.evaluation import run as evaluation
from tf_hypoperfusion.evaluation.cases import Case
from tf_hypoperfusion.evaluation.patient_metrics import ThresholdCounts
from tf_hypoperfusion.evaluation.plan import Settings
from tf_hypoperfusion.evaluation.report import patient_flow
from tf_hypoperfusion.evaluation.report.patients import load
from tf_hypoperfusion.inference import model_files, predictors
from tf_hypoperfusion.model import keras_file
from tf_hypoperfusion.serving import model_card


@pytest.fixture(scope="module")
def two_folds(records_dir, trained_fold, tmp_path_factory):
    """Folds 0 and 1, of different weights: those of fold 1 were not trained. Read only."""
    from tf_hypoperfusion.config import preset
    from tf_hypoperfusion.training import trainer

    run = shutil.copytree(trained_fold, tmp_path_factory.mktemp("evaluated") / "two")
    options = trainer.RunOptions(overlay_epochs=0)
    with pytest.MonkeyPatch.context() as patch:
        without_slabs(patch)
        trainer.train_fold(
            records_dir, run, 1, preset("tiny", epochs=1, poolings=1),
            options=options, build_step=FakeStep,
        )  # fmt: skip
    network = keras_file.load(run / "fold-0/best.keras")
    network.set_weights([1.1 * each for each in network.get_weights()])
    network.save(run / "fold-1/best.keras")
    return run


@pytest.fixture
def run(two_folds, tmp_path):
    """A copy that a test may write into."""
    return shutil.copytree(two_folds, tmp_path / "run")


@pytest.fixture(scope="module")
def evaluated(two_folds, records_dir, tmp_path_factory):
    """Both folds evaluated: what came of it, and of the validation patients. Read only."""
    folder = shutil.copytree(two_folds, tmp_path_factory.mktemp("evaluated") / "run")
    done = evaluation.evaluate(settings(folder, records_dir))
    return done, evaluation.evaluate(settings(folder, records_dir, validation=True))


@pytest.fixture
def evaluated_run(evaluated, tmp_path):
    """A copy of it that a test may write into: nobody is predicted again."""
    return shutil.copytree(evaluated[0].folder, tmp_path / "run")


def settings(run, records_dir, **changes):
    return Settings(run=str(run), records=str(records_dir), **changes)


def rows_of(run):
    return list(csv.DictReader((run / "patients.csv").open()))


def test_every_patient_once_by_the_fold_that_kept_it(evaluated, records_dir):
    done, _ = evaluated
    manifest = json.loads((records_dir / "manifest.json").read_text())
    for fold in (0, 1):
        names = [row.participant_id for row in done.rows if row.fold == fold]
        assert names == manifest["subsets"][fold]["participants"]
    assert {each.step for each in done.left_out.values()} == {flow.FOLD}
    about = json.loads((done.folder / "evaluation.json").read_text())
    assert [model["fold"] for model in about["models"]] == [0, 1]
    assert about["patients"] == len(done.rows) and "Research use only" in about["notice"]
    names = [row.participant_id for row in done.rows]
    assert list(about["network_s"]) == names and min(about["network_s"].values()) >= 0
    assert about["machines"] == [provenance.machine()]
    read = load(done.folder)
    assert read.network_s == list(about["network_s"].values()) and read.machines
    assert str(read.volumes) == manifest["cohort_folder"]  # where edited segmentations are


def test_a_fold_of_other_software_is_measured_alike(evaluated, evaluated_run, records_dir):
    """The same network as model.onnx in place of best.keras: the same figures."""
    from tf_hypoperfusion.inference import onnx_model

    ours, run = evaluated[0].rows, evaluated_run
    path = run / "fold-1/best.keras"
    network = keras_file.load(path)
    onnx_model.write(
        [lambda image, nihss: network({"image": image, "nihss": nihss})],
        run / "fold-1/model.onnx",
        {},
    )
    assert evaluation.evaluate(settings(run, records_dir, fold="1", maps=False)).rows == ours
    path.unlink()
    theirs = evaluation.evaluate(settings(run, records_dir, fold="1", maps=False)).rows
    assert len(theirs) == len(ours) > 0
    for one, other in zip(ours, theirs, strict=True):
        assert one.participant_id == other.participant_id
        assert other.predicted_ml == pytest.approx(one.predicted_ml, abs=0.1)
        assert other.dice == pytest.approx(one.dice, abs=1e-3, nan_ok=True)
    about = json.loads((run / "evaluation.json").read_text())
    (model,) = [m for m in about["models"] if m["fold"] == 1]
    assert model["path"].endswith("fold-1/model.onnx") and "imulated" in model["cohort"]


def test_the_index_shows_every_patient_the_worst_first(evaluated):
    run = evaluated[0].folder
    page = (run / "index.html").read_text()
    dice = {row["participant_id"]: float(row["dice"] or -1) for row in rows_of(run)}
    found = re.findall(r'src="evaluation/thumbnails/(sub-[0-9]+)\.webp"', page)
    assert sorted(found) == sorted(dice)
    assert [dice[name] for name in found] == sorted(dice.values())
    for name in found:
        with Image.open(run / f"evaluation/thumbnails/{name}.webp") as picture:
            assert picture.size == (458, 180)
    assert "SIMULATED" in page
    for name in found:
        assert f'href="evaluation/pages/{name}.html"' in page
        own = (run / f"evaluation/pages/{name}.html").read_text()
        assert f'src="../pictures/{name}.png"' in own and "This patient is SIMULATED" in own
        assert 'href="../../index.html"' in own and "participant_id" not in own
    wrong = {
        row["participant_id"]
        for row in rows_of(run)
        if row["true_target_mismatch"] != row["predicted_target_mismatch"]
    }
    lines = re.findall(r"<tr( class=.tinted.)?>\n<td[^\n]*thumbnails/(sub-[0-9]+)", page)
    assert {name for tint, name in lines if tint} == wrong and len(lines) == len(dice)
    assert f"{len(dice) - len(wrong)} of {len(dice)}</dd>" in page


def test_the_maps_are_what_the_figures_say(evaluated):
    done, _ = evaluated
    for row in done.rows:
        arrays = [
            nib.load(
                mni_file(done.folder / "evaluation/maps", row.participant_id, what)
            ).get_fdata()
            for what in ("desc-hypoperfusion_probseg", "desc-truth_mask", "desc-coverage_mask")
        ]
        covered = arrays[2] > 0
        predicted_ml = ((arrays[0] >= 0.5) & covered).sum() * row.voxel_ml
        assert predicted_ml == pytest.approx(row.predicted_ml, abs=1e-6)
        assert arrays[1].sum() * row.voxel_ml == pytest.approx(row.truth_ml, abs=1e-3)


def test_the_stride_that_is_told_is_that_of_the_records(evaluated, records_dir):
    told = json.loads((evaluated[0].folder / "evaluation.json").read_text())["stride"]
    assert told == records.load_manifest(records_dir).settings.stride != TEST_STRIDE


def test_records_and_volumes_give_the_same_figures(evaluated, run, records_dir, mni_cohort):
    from_records = [row for row in evaluated[0].rows if row.fold == 0]
    from_volumes = evaluation.evaluate(
        settings(run, records_dir, fold="0", maps=False, cohort=str(mni_cohort), stride=16)
    ).rows
    for a, b in zip(from_records, from_volumes, strict=True):
        assert a.participant_id == b.participant_id
        for name in ("dice", "auc", "predicted_ml", "truth_ml", "hd95_mm"):
            assert getattr(a, name) == pytest.approx(getattr(b, name), abs=1e-3), name


def test_workers_change_nothing(evaluated, run, records_dir):
    alone = evaluated[0].rows
    assert evaluation.evaluate(settings(run, records_dir, workers=2)).rows == alone


def test_what_is_done_is_kept_and_what_changed_is_not(run, records_dir, monkeypatch):
    predicted = []
    predict = Case.answer

    def counting(self, predictor):
        predicted.append(self.facts.participant_id)
        return predict(self, predictor)

    monkeypatch.setattr(Case, "answer", counting)
    given = settings(run, records_dir, maps=False)
    first = evaluation.evaluate(given)
    assert len(predicted) == len(first.rows)
    predicted.clear()
    again = evaluation.evaluate(given)
    assert not predicted and again.rows == first.rows
    assert again.seconds_per_patient == first.seconds_per_patient  # as when they were measured
    name = first.rows[0].participant_id
    damaged = run / f"evaluation/test-0/{name}.json"
    damaged.write_text(damaged.read_text()[:-50])
    assert evaluation.evaluate(given).rows == first.rows
    assert predicted == [name]
    predicted.clear()
    shutil.copy(run / "fold-1/best.keras", run / "fold-0/best.keras")  # another model
    other = evaluation.evaluate(given)
    assert set(predicted) == {row.participant_id for row in first.rows if row.fold == 0}
    assert other.rows != first.rows


def test_a_killed_evaluation_goes_on(evaluated, run, records_dir):
    expected = evaluated[0].rows
    arguments = [sys.executable, "-m", "tf_hypoperfusion.evaluate", f"--run={run}"]
    arguments += [f"--records={records_dir}", "--workers=2"]
    process = subprocess.Popen(arguments, cwd=PROJECT, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not list(run.glob("evaluation/*/*.json")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = len(list(run.glob("evaluation/*/*.json")))
    assert kept >= 1 and not (run / "patients.csv").exists()
    assert evaluation.evaluate(settings(run, records_dir)).rows == expected


def test_the_threshold_is_chosen_on_validation_patients(evaluated_run, records_dir):
    run = evaluated_run
    done = evaluation.evaluate(settings(run, records_dir, choose_threshold=True))
    for fold in (0, 1):
        saved = [
            json.loads(path.read_text())
            for path in (run / f"evaluation/validation-{fold}").iterdir()
        ]
        manifest = json.loads((records_dir / "manifest.json").read_text())
        names = {result["row"]["participant_id"] for result in saved}
        assert names == set(manifest["subsets"][fold + 1]["participants"])
        counts = [
            ThresholdCounts(np.array(r["covered"]), np.array(r["hemisphere"]), 0.008) for r in saved
        ]
        chosen = {row.chosen.threshold for row in done.rows if row.fold == fold}
        assert chosen == {thresholds.choose(counts)}
    about = json.loads((run / "evaluation.json").read_text())
    assert "validation patients" in about["chosen_on"]


def test_settings_are_compared_on_validation_patients(evaluated, records_dir):
    tested, done = evaluated[0].rows, evaluated[1]
    run = evaluated[0].folder
    subsets = json.loads((records_dir / "manifest.json").read_text())["subsets"]
    for fold in (0, 1):
        names = {row.participant_id for row in done.rows if row.fold == fold}
        assert names == set(subsets[fold + 1]["participants"])
    assert done.folder == run / "validation"
    read = [load(folder / "patients.csv") for folder in (run, run / "validation")]
    assert "not results" in str(read[1].warnings) and "not results" not in str(read[0].warnings)
    assert len(read[0]) == len(tested)  # the table of the test patients stands as it was
    assert "Validation patients" in (run / "validation/index.html").read_text()


def test_a_models_card_takes_the_figures_of_its_own_networks(evaluated, evaluated_run):
    rows, run = evaluated[0].rows, evaluated_run
    assert (run / "validation/patients.csv").is_file()  # no test figures
    known = [model_files.describe(run / f"fold-{fold}/best.keras") for fold in (0, 1)]
    card = model_card.ModelCard(
        name="two",
        version=1,
        networks=model_card.networks(known),
        tests=model_card.tests(known),
        stride_slices=4,
        precision="float32",
    )
    (tested,), facts = card.tests, card.to_json()
    dice = [row.dice for row in rows if row.dice is not None]
    assert tested.dice_quartiles == pytest.approx(np.percentile(dice, [25, 50, 75]))
    assert (tested.patients, tested.patients_with_dice) == (len(rows), len(dice))
    assert tested.simulated and tested.by == "the fold that never saw the patient"
    stride = json.loads((run / "evaluation.json").read_text())["stride"]
    assert tested.stride_slices == facts["tests"][0]["stride_slices"] == stride != TEST_STRIDE
    assert (
        f"| {len(rows)} SIMULATED | the training cohort | the fold that never saw the patient, "
        f"measured with windows every {stride} slices |"
    ) in model_card.markdown(facts)
    assert json.loads(json.dumps(facts["tests"])) == facts["tests"]  # an export knows itself again
    assert model_card.tests(known[:1]) == ()  # figures of two networks say nothing of one
    (run / "patients.csv").write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="card takes its test figures from there"):
        model_card.tests(known)


def test_a_core_is_measured_beside_the_rules(run, records_dir, mni_cohort, core_networks):
    """From records and from volumes alike; a kept result comes back with it."""
    shutil.copy(core_networks[0], run / "fold-0/best.keras")
    ask = settings(run, records_dir, fold="0", maps=False)
    rows = evaluation.evaluate(ask).rows
    given = settings(run, records_dir, fold="0", maps=False, cohort=str(mni_cohort), stride=16)
    from_volumes = evaluation.evaluate(given).rows
    for one, other in zip(rows, from_volumes, strict=True):
        ours, theirs = one.core, other.core
        assert ours.core_truth_ml == pytest.approx(theirs.core_truth_ml, rel=0.01)
        assert ours.core_learnt_ml == pytest.approx(theirs.core_learnt_ml, rel=1e-3, abs=0.1)
        if theirs.core_dice is not None:
            assert ours.core_dice == pytest.approx(theirs.core_dice, abs=0.01)
            # The rule misses some of the core that the simulation made.
            assert ours.core_rule_dice == pytest.approx(theirs.core_rule_dice, abs=0.01)
            assert 0.4 < ours.core_rule_dice < 1
    assert max(row.core.core_truth_ml for row in rows) > 1
    assert evaluation.evaluate(ask).rows == rows  # kept
    with open(run / "patients.csv") as file:
        table = list(csv.DictReader(file))
    names = ["core_dice", "core_rule_dice", "core_learnt_ml", "core_truth_ml"]
    assert list(table[0])[-4:] == names
    assert float(table[0]["core_learnt_ml"]) == pytest.approx(rows[0].core.core_learnt_ml)
    assert len(load(run)) == len(rows)


@pytest.fixture(scope="module")
def other_cohort(tmp_path_factory):
    """Two simulated patients that no fold has seen. Read only."""
    from data_tools.simulate import simulate_cohort

    return simulate_cohort(tmp_path_factory.mktemp("other") / "other", 2, seed=99, space="mni")


@pytest.fixture(scope="module")
def averaged(two_folds, records_dir, other_cohort, tmp_path_factory):
    """Both folds averaged over the other cohort: the run, and what came of it. Read only."""
    run = shutil.copytree(two_folds, tmp_path_factory.mktemp("averaged") / "run")
    given = settings(run, records_dir, external=str(other_cohort), stride=16)
    return run, evaluation.evaluate(given)


def test_an_external_cohort_is_predicted_by_the_mean_of_all_folds(averaged, other_cohort):
    run, done = averaged
    assert done.folder == run / "external-other"
    assert [row.fold for row in done.rows] == ["all", "all"]
    loaded = [predictors.load(run / f"fold-{k}/best.keras") for k in (0, 1)]
    table = [
        {**row, "age": row["age"] or None}
        for row in plan.clinical_rows(str(other_cohort))[0].values()
    ]
    for (_, case), row in zip(cases.of_cohort(other_cohort, table, 16), done.rows, strict=True):
        mean = np.mean([case.answer(model).mean for model in loaded], axis=0)
        expected = patient_metrics.patient_metrics(
            mean.astype(np.float32),
            truth=case.truth,
            coverage=case.coverage,
            side=row.side,
            voxel_ml=row.voxel_ml,
        )
        assert row.auc == pytest.approx(expected.auc, abs=1e-4)
        assert row.predicted_ml == pytest.approx(expected.predicted_ml, abs=0.1)
    known = [model_files.describe(run / f"fold-{k}/best.keras") for k in (0, 1)]
    (tested,) = model_card.tests(known)
    assert (tested.cohort, tested.by, tested.patients) == ("other", "the average", 2)


def test_the_training_cohort_is_no_external_one(run, records_dir, mni_cohort):
    with pytest.raises(InputError, match="of the records that the folds were trained on"):
        evaluation.evaluate(settings(run, records_dir, external=str(mni_cohort), stride=16))


def test_a_training_patient_under_another_name_and_age_is_found(
    run, records_dir, mni_cohort, tmp_path
):
    other = tmp_path / "renamed"
    table = (mni_cohort / "participants.tsv").read_text().splitlines()
    first = table[1].split("\t")
    old, first[0], first[1] = first[0], "sub-9999", "n/a"
    (other / "sub-9999").mkdir(parents=True)
    for path in (mni_cohort / old).iterdir():
        shutil.copy(path, other / "sub-9999" / path.name.replace(old, "sub-9999"))
    (other / "participants.tsv").write_text("\n".join([table[0], "\t".join(first)]) + "\n")
    # First without the records, then with them: what was kept is checked too.
    unchecked = settings(run, tmp_path / "none", external=str(other), stride=16)
    assert len(evaluation.evaluate(unchecked).rows) == 1
    with pytest.raises(InputError, match=f"sub-9999: is {old} of the records"):
        evaluation.evaluate(settings(run, records_dir, external=str(other), stride=16))


def test_changed_clinical_data_are_evaluated_anew(
    run, records_dir, other_cohort, tmp_path, monkeypatch
):
    asked, predict = [], Case.answer

    def counted(case, predictor):
        asked.append(case.facts.participant_id)
        return predict(case, predictor)

    monkeypatch.setattr(Case, "answer", counted)
    cohort = shutil.copytree(other_cohort, tmp_path / "edited")
    given = settings(run, records_dir, external=str(cohort), stride=16, maps=False)
    before = evaluation.evaluate(given).rows
    asked.clear()
    table = (cohort / "participants.tsv").read_text().splitlines()
    cells = table[1].split("\t")
    cells[table[0].split("\t").index("nihss")] = "42"
    (cohort / "participants.tsv").write_text("\n".join([table[0], "\t".join(cells), *table[2:]]))
    after = evaluation.evaluate(given).rows
    assert after[0].nihss == 42 and asked == [after[0].participant_id]
    assert after[1:] == before[1:]


def test_a_fold_in_anothers_place_is_refused(run, records_dir):
    shutil.rmtree(run / "fold-0")
    shutil.copytree(run / "fold-1", run / "fold-0")
    with pytest.raises(InputError, match="holds fold 1 by its config.json"):
        evaluation.evaluate(settings(run, records_dir))
    (run / "fold-0/config.json").unlink()
    with pytest.raises(InputError, match="no readable config.json"):
        evaluation.evaluate(settings(run, records_dir))


def test_fold_by_fold_fills_one_table_and_says_what_is_missing(run, records_dir):
    alone = evaluation.evaluate(settings(run, records_dir, fold="1", maps=False))
    assert {row.fold for row in alone.rows} == {1}
    assert "patients of fold 0, 2, 3, 4 are not in the table" in alone.warnings[-1]
    both = evaluation.evaluate(settings(run, records_dir, fold="0", maps=False))
    assert {row.fold for row in both.rows} == {0, 1}
    assert "patients of fold 2, 3, 4 are" in both.warnings[-1]


@pytest.fixture
def lossy_records(records_dir, tmp_path):
    """The same records, but that two patients never came into them."""
    folder = shutil.copytree(records_dir, tmp_path / "lossy")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["left_out"] = [
        {"participant_id": "sub-0098", "step": flow.PREPROCESS, "reason": "DWI is 2D"},
        {"participant_id": "sub-0099", "step": flow.EXCLUDED, "reason": "poor bolus"},
    ]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


@pytest.mark.parametrize("flags", [("--fold=0",), ("--fold=all", "--choose_threshold=val")])
def test_everybody_is_carried_to_the_last_table(evaluated_run, lossy_records, capsys, flags):
    """Those left out before, and of folds that are not evaluated: once each, and no failure.

    Also where a fold's validation patients are measured, who are tested by another one.
    """
    run = evaluated_run
    assert call(evaluate, f"--run={run}", f"--records={lossy_records}", *flags) == 0
    message = capsys.readouterr().err
    assert "2 patients left out:" in message
    assert "  sub-0099: excluded by hand: poor bolus" in message
    about = json.loads((run / "evaluation.json").read_text())
    steps = about["left_out_at"]
    assert list(steps) == list(about["left_out"])
    assert (steps["sub-0098"], steps["sub-0099"]) == (flow.PREPROCESS, flow.EXCLUDED)
    subsets = json.loads((lossy_records / "manifest.json").read_text())["subsets"]
    absent = {name for subset in subsets[2:] for name in subset["participants"]}
    assert {name for name, step in steps.items() if step == flow.FOLD} == absent
    table = dict(patient_flow.table([load(run)]).rows)
    assert int(table["All patients"]) == 6 + 2
    assert int(table["Evaluated"]) == len(rows_of(run)) == 6 - len(absent)
    assert table[f"left out: {flow.STEPS[flow.FOLD]}"] == str(len(absent))


def test_whom_the_table_leaves_out_now_is_not_evaluated(
    two_folds, records_dir, mni_cohort, other_cohort, tmp_path
):
    """Of the cohort trained on and of an external one."""
    names = json.loads((records_dir / "manifest.json").read_text())["subsets"][0]["participants"]
    cohort = shutil.copytree(mni_cohort, tmp_path / "mni")
    edit_table(cohort, names[0], exclude="poor bolus", occlusion="M1")
    made = plan.make_plan(settings(two_folds, records_dir, cohort=str(cohort)))
    assert made.left_out[names[0]].reason == "poor bolus"
    assert [name for part in made.parts for name in part.participants].count(names[0]) == 0
    other = shutil.copytree(other_cohort, tmp_path / "external")
    first, second = sorted(path.name for path in other.glob("sub-*"))
    edit_table(other, first, exclude=None, occlusion="BA")
    lost = flow.LeftOut(participant_id="sub-0077", step=flow.PREPROCESS, reason="no brain")
    flow.write(other, [lost])
    given = settings(two_folds, records_dir, external=str(other))
    made = plan.make_plan(given)
    steps = {name: each.step for name, each in made.left_out.items()}
    assert steps == {"sub-0077": flow.PREPROCESS, first: flow.TERRITORY}
    assert list(made.clinical_rows) == [second]
    everybody = plan.make_plan(dataclasses.replace(given, other_territories=True))
    assert list(everybody.clinical_rows) == [first, second]


def edit_table(cohort, name, **cells):
    table = read_participants(cohort)
    rows = [clinical_record(row) for _, row in table.iterrows()]
    next(row for row in rows if row["participant_id"] == name).update(cells)
    write_participants(cohort / "participants.tsv", rows)


def test_a_result_without_its_parts_is_made_anew(evaluated, evaluated_run, records_dir):
    first, run = evaluated[0].rows, evaluated_run
    path = run / f"evaluation/test-0/{first[0].participant_id}.json"
    path.write_text(json.dumps({"key": json.loads(path.read_text())["key"]}))
    assert evaluation.evaluate(settings(run, records_dir, fold="0")).rows == first


def test_a_patient_without_a_folder_is_a_failure(run, records_dir, other_cohort, tmp_path):
    cohort = shutil.copytree(other_cohort, tmp_path / "gone")
    gone = sorted(cohort.glob("sub-*"))[0]
    shutil.rmtree(gone)
    arguments = (f"--run={run}", f"--records={records_dir}", f"--external={cohort}", "--stride=16")
    assert call(evaluate, *arguments) == 1
    about = json.loads((run / "external-gone/evaluation.json").read_text())
    assert about["left_out"][gone.name].startswith("no volumes")


def test_without_the_records_an_external_cohort_gets_a_warning(averaged, tmp_path, other_cohort):
    run = shutil.copytree(averaged[0], tmp_path / "run")
    unchecked = settings(run, tmp_path / "none", external=str(other_cohort), stride=16)
    done = evaluation.evaluate(unchecked)
    assert "nobody checked" in done.warnings[0]


def test_patients_that_cannot_be_used_are_named_and_the_others_go_on(
    run, records_dir, other_cohort, tmp_path, capsys
):
    cohort = shutil.copytree(other_cohort, tmp_path / "faulty")
    names = sorted(path.name for path in cohort.glob("sub-*"))
    mni_file(cohort, names[0], "adc").write_bytes(b"no image")
    arguments = (f"--run={run}", f"--records={records_dir}", f"--external={cohort}", "--stride=16")
    assert call(evaluate, *arguments) == 1
    message = capsys.readouterr().err
    assert "1 patient left out" in message and f"{names[0]}:" in message
    rows = rows_of(run / "external-faulty")
    assert [row["participant_id"] for row in rows] == names[1:]
    about = json.loads((run / "external-faulty/evaluation.json").read_text())
    assert list(about["left_out"]) == names[:1]


def test_another_cohort_than_that_of_the_records_is_refused(
    run, records_dir, mni_cohort, other_cohort, tmp_path
):
    changed = shutil.copytree(mni_cohort, tmp_path / "changed")
    table = (changed / "participants.tsv").read_text()
    flipped = table.replace("left", "LEFT").replace("right", "left").replace("LEFT", "right")
    (changed / "participants.tsv").write_text(flipped)
    with pytest.raises(InputError, match="the records were built from"):
        evaluation.evaluate(settings(run, records_dir, cohort=str(changed), stride=16))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--cohort=a", "--external=b"), "give one"),
        (("--external=b", "--choose_threshold=val"), "needs validation patients"),
        (("--choose_threshold=test",), "choose_threshold"),
        (("--validation", "--choose_threshold=val"), "without --choose_threshold"),
        (("--other_territories",), "of an external cohort"),
        (("--stride=17",), "stride"),
        (("--workers=0",), "workers is 0"),
        (("--external=/none",), "participants.tsv: no such file"),
    ],
)
def test_contradicting_flags_are_refused(flags, message, run, records_dir, capsys):
    assert call(evaluate, f"--run={run}", f"--records={records_dir}", *flags) == 2
    assert message in capsys.readouterr().err
    assert not (run / "patients.csv").exists()
