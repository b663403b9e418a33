"""The dossier: answers follow the files, each names its source, and what no file tells is asked."""

import csv
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from types import SimpleNamespace

import pytest
from helpers.commands import call
from helpers.fake_study import COMMIT, FOLDS, change, change_cells, write_study

from tf_hypoperfusion import report
from tf_hypoperfusion.evaluation.dossier import checklist, page, sbom, stations, study
from tf_hypoperfusion.evaluation.dossier.claim import CLAIM
from tf_hypoperfusion.evaluation.dossier.datasheet import DATASHEET
from tf_hypoperfusion.evaluation.dossier.fact import Fact, Missing, Source, say
from tf_hypoperfusion.evaluation.dossier.tripod import TRIPOD
from tf_hypoperfusion.evaluation.report import patients

ROOTS = ("run", "report", "records", "mni", "cohort", "model")


@pytest.fixture(scope="module")
def reported(tmp_path_factory):
    """A study with its report and dossier. Read only."""
    folder = tmp_path_factory.mktemp("study")
    run = write_study(folder)
    flags = (f"--patients={run}", f"--out={folder / 'report'}", f"--cohort={folder / 'cohort'}")
    assert call(report, *flags, "--dossier") == 0
    return folder


@pytest.fixture
def here(reported, tmp_path):
    """A copy that a test may change; its files name the copied folders."""
    folder = shutil.copytree(reported, tmp_path / "study")
    change(folder, "run/evaluation.json", "records", str(folder / "records"))
    change(folder, "run/evaluation.json", "built_from", str(folder / "mni"))
    return folder


def facts_of(folder, **where):
    """Collected as the command does."""
    table = folder / "run/patients.csv"
    read = patients.load(table) if table.is_file() else None
    said = {"report": folder / "report", "cohort": folder / "cohort"} | where
    return study.collect(study.located(folder / "run", **said), read)


def answered(folder, **where):
    """Every item of all checklists, by checklist and number."""
    facts = facts_of(folder, **where)
    return {
        (name, each.item.number): each
        for name, items in (("claim", CLAIM), ("tripod", TRIPOD), ("data", DATASHEET))
        for each in checklist.fill(items, facts)
    }


def test_the_checklists_have_all_their_items():
    assert [item.number for item in CLAIM.items] == [str(k) for k in range(1, 45)]
    numbers = [item.number for item in TRIPOD.items]
    assert len(numbers) == len(set(numbers)) == 52
    assert list(dict.fromkeys(int(n.rstrip("abcdefg")) for n in numbers)) == list(range(1, 28))


def test_a_normal_run_answers_most_items(here):
    found = answered(here)
    told = {
        name: [key for key, each in found.items() if key[0] == name and each.answer.text]
        for name in ("claim", "tripod")
    }
    assert len(told["claim"]) >= 26 and len(told["tripod"]) >= 20
    whole = [key for key, each in found.items() if each.status == "answered"]
    assert sum(name == "claim" for name, _ in whole) >= 25
    assert sum(name == "tripod" for name, _ in whole) >= 22


def test_every_answer_names_a_file_that_is_there_and_every_item_is_answered_or_asked(here):
    for key, each in answered(here).items():
        assert bool(each.answer.text) == bool(each.answer.sources), key
        assert each.answer.text or each.question, key
        assert each.status == "answered" or each.question, key
        for source in each.answer.sources:
            root, _, name = source.file.partition("/")
            if root in ROOTS:
                name = re.sub(r"\{.*?\}", "*", name.split(" ")[0])
                assert list((here / root).glob(name)), (key, source)
            else:
                assert root.startswith("tf_hypoperfusion "), (key, source)
            assert source.key


CHANGES = [  # file, key, new value, where it shows, as what
    ("run/fold-*/config.json", "model.base_filters", 24, "claim 22", "24 channels"),
    ("run/fold-*/config.json", "model.dropout", 0.4, "claim 22", "dropout 0.4"),
    ("run/fold-*/config.json", "model.attention_gates", False, "claim 1", "without attention"),
    ("run/fold-*/config.json", "model.nihss_fusion", False, "tripod 9b", "NIHSS (used: no)"),
    ("run/fold-*/config.json", "parameters", 123, "claim 22", "123 parameters"),
    ("run/fold-*/config.json", "training.optimizer", "sgd", "claim 25", "Optimizer sgd"),
    ("run/fold-*/config.json", "training.learning_rate", 0.01, "claim 25", "rate 0.01"),
    ("run/fold-*/config.json", "training.dice_weight", 0.9, "tripod 13", "weight 0.9"),
    ("run/fold-*/config.json", "training.mirror", False, "tripod 12c", "at random: no"),
    ("run/fold-*/config.json", "training.seed", 99, "claim 24", "seed 99"),
    ("run/fold-*/config.json", "training.randomisation", "light", "claim 12", "out: light"),
    ("run/fold-*/config.json", "software.tensorflow", "2.99", "claim 23", "tensorflow 2.99"),
    ("run/fold-*/config.json", "software.git_commit", "abc", "claim 43", "Commit abc"),
    ("run/fold-0/config.json", "training.epochs", 1, "claim 25", "1 in fold 0; 2 in folds 1 and 2"),
    ("run/fold-*/config.json", "parent", {"name": "demo", "simulated": True}, "claim 24",
     "demo (trained on SIMULATED patients"),
    ("records/manifest.json", "licence", "secret", "claim 7", "Licence: secret"),
    ("records/manifest.json", "settings.seed", 8, "claim 19", "seed 8"),
    ("records/manifest.json", "settings.stride", 8, "claim 10", "every 8 slices"),
    ("records/manifest.json", "settings.stratify", "none", "claim 19", "at random (seed"),
    ("records/manifest.json", "settings.splits", "aa", "tripod 12a", "table that the authors gave"),
    ("records/manifest.json", "labels.within_stroke_side", True, "claim 14", "removed: yes"),
    ("records/manifest.json", "patients.0.sex", "F", "claim 36", "F (7), M (5)"),
    ("records/manifest.json", "patients.0.age", 20, "tripod 20b", "(20 to 70)"),
    ("records/manifest.json", "patients.0.derived", "DWI", "claim 12", "DWI (1)"),
    ("records/manifest.json", "patients.0.truth_from", "edited mask", "claim 16", "1 of 12"),
    ("records/manifest.json", "patients.0.site", "West", "tripod 6a", "3 sites"),
    ("records/manifest.json", "duplicates", [{}], "claim 20", "two names: 1"),
    ("records/manifest.json", "fingerprint", "eee", "data N1", "fingerprint eee"),
    ("mni/*/qc.json", "tmax_threshold_s", 5.5, "claim 14", "5.5 (12)"),
    ("mni/*/qc.json", "b_value_s_per_mm2", 800, "claim 13", "800 (12)"),
    ("mni/sub-0001/qc.json", "verdict", "poor", "claim 9", "good (11), poor (1)"),
    ("mni/dataset_description.json", "GeneratedBy.0.Version", "3", "tripod 7", "version 3"),
    ("run/evaluation.json", "left_out.sub-0091", "late", "claim 35", "late 1"),
    ("run/evaluation.json", "models.0.sha256", "9" * 64, "tripod 22", "999999999999"),
    ("run/evaluation.json", "machines", ["A card"], "tripod 12g", "A card"),
    ("run/evaluation.json", "warnings", ["beware"], "claim 40", "beware"),
    ("run/evaluation.json", "chosen_thresholds", {"0": 0.4}, "tripod 12f", "0 0.4"),
    ("report/report.json", "interval", "wilson", "claim 29", "Wilson"),
    ("report/report.json", "calibration", "other", "tripod 24", "calibrated"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("file", "key", "value", "item", "words"), CHANGES, ids=[f"{c[0]}:{c[1]}" for c in CHANGES]
)
def test_a_fact_that_changes_changes_its_answer(here, file, key, value, item, words):
    where = tuple(item.split())
    before = answered(here)[where]
    assert words not in before.answer.text
    change(here, file, key, value)
    after = answered(here)[where]
    assert words in after.answer.text
    assert file.split("/")[0] in {source.file.split("/")[0] for source in after.answer.sources}


def test_numbers_of_the_report_and_rows_of_the_table_change_their_answers(here):
    before = answered(here)
    statistics = here / "report/statistics.csv"
    change_cells(statistics, "value", "0.123", table="agreement", measure="Median Dice")
    change_cells(
        statistics, "value", "0.777", table="table2_target_mismatch", group="All patients: Model",
        measure="sensitivity",
    )  # fmt: skip
    (here / "run/thresholds.npz").unlink()  # or the table would contradict it
    change_cells(here / "run/patients.csv", "dice", "0.0", participant_id="sub-0001")
    change_cells(here / "run/fold-1/history.csv", "val_composite", "0.1111", epoch="2")
    after = answered(here)
    for item, words in (("37", "0.123"), ("38", "0.777"), ("39", "1 of them"), ("26", "0.1111")):
        assert words in after["claim", item].answer.text
        assert words not in before["claim", item].answer.text


UNKNOWN_SETTINGS = [("training.loss", "my own loss"), ("model.layers", 7), ("training.epochs", "x")]


@pytest.mark.parametrize(("key", "value"), UNKNOWN_SETTINGS, ids=lambda v: str(v))
def test_settings_that_this_version_does_not_know_are_asked_and_not_claimed(here, key, value):
    change(here, "run/fold-*/config.json", key, value)
    found = answered(here)
    for item in ("1", "22", "24", "25"):
        assert found["claim", item].status == "question"
    missing = " ".join(found["claim", "25"].answer.missing)
    assert key.rsplit(".", maxsplit=1)[-1] in missing and "expected" in missing
    assert found["claim", "23"].answer.text  # which software it was is told nevertheless


def test_a_source_that_differs_from_its_commit_leaves_a_question(here):
    change(here, "run/fold-*/config.json", "software.git_commit", f"{COMMIT}+changes")
    found = answered(here)
    for item in ("22", "23", "25"):
        assert found["claim", item].status == "in part"
        assert "what was changed" in found["claim", item].question
        assert "+changes" not in found["claim", item].answer.text


def test_where_tmax_begins_to_count_is_not_guessed(here):
    for path in here.glob("mni/*/qc.json"):
        path.unlink()  # as in a simulated cohort: the code's own
    each = answered(here)["claim", "14"]
    assert "6 (12)" in each.answer.text
    assert any("mni_patient" in source.key for source in each.answer.sources)
    shutil.rmtree(here / "mni")
    each = answered(here)["claim", "14"]
    assert "Hypoperfusion is Tmax" not in each.answer.text and each.status == "in part"
    assert any("tmax_threshold_s" in name for name in each.answer.missing)


def test_edited_references_ask_who_edited_them(here):
    change(here, "records/manifest.json", "patients.0.truth_from", "edited truth")
    found = answered(here)
    assert found["claim", "16"].status == "in part"
    assert found["claim", "18"].status == "question"
    assert "Where it was not edited as a whole" in found["claim", "14"].answer.text


def test_a_reference_of_which_nothing_is_known_is_not_called_edited(here):
    change(here, "records/manifest.json", "patients.0.truth_from", "")
    found = answered(here)
    assert {found["claim", item].status for item in ("16", "18")} == {"question"}


def test_visits_are_not_called_patients(here):
    for name in ("records/manifest.json", "records/splits.json", "run/patients.csv"):
        text = (here / name).read_text()
        text = re.sub(r"sub-000([1-3])\b", r"sub-0001_ses-\1", text)
        (here / name).write_text(text)
    (here / "run/thresholds.npz").unlink()  # it names the patients of before
    found = answered(here)
    assert "12 visits of 10 patients" in found["claim", "7"].answer.text
    assert found["claim", "32"].answer.text.startswith("12 visits of 10 patients of folds")
    assert "In more than one subset: 1" in found["claim", "20"].answer.text
    page.write(here / "dossier", facts_of(here))
    assert "Each visit counts as a patient here." in (here / "dossier/index.html").read_text()


def test_the_records_of_another_format_are_not_described_by_this_versions_numbers(here):
    assert "620" in answered(here)["claim", "14"].answer.text
    change(here, "records/manifest.json", "schema_version", 1)
    found = answered(here)
    assert "620" not in found["claim", "14"].answer.text
    assert any("format 1" in each for each in found["claim", "14"].answer.missing)


def test_a_patient_in_two_subsets_is_told(here):
    splits = json.loads((here / "records/splits.json").read_text())
    splits["subsets"][1].append(splits["subsets"][0][0])
    (here / "records/splits.json").write_text(json.dumps(splits))
    each = answered(here)["claim", "20"]
    assert "In more than one subset: 1" in each.answer.text and each.question
    assert "disjoint" not in each.answer.text


def test_a_patient_predicted_by_a_fold_that_saw_him_is_told(here):
    change_cells(here / "run/patients.csv", "fold", "1", participant_id="sub-0001")
    each = answered(here)["claim", "32"]
    assert each.answer.text == "Predicted by a fold that had seen them: 1 of 12 patients."
    assert "evaluate again" in each.question


def test_some_folds_only(here):
    shutil.rmtree(here / "run/fold-2")
    table = here / "run/patients.csv"
    lines = table.read_text().splitlines(keepends=True)
    column = lines[0].strip().split(",").index("fold")
    kept = [line for line in lines if line.strip().split(",")[column] != "2"]
    table.write_text("".join(kept))
    found = answered(here)
    assert "were not evaluated: 2" in found["claim", "32"].answer.text
    assert "all folds" in found["claim", "32"].question
    assert "fold 2" not in found["claim", "19"].answer.text


def test_an_unfinished_training_is_told(here):
    path = here / "run/fold-1/history.csv"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:2]))
    found = answered(here)
    assert "The training of fold 1 is not finished." in found["claim", "25"].answer.text
    assert "asked for: 2; done: 2" not in found["claim", "25"].answer.text
    assert found["claim", "26"].status == "in part"


def test_folds_of_different_software_and_parents(here):
    change(here, "run/fold-1/config.json", "software.tensorflow", "2.15.1")
    for fold in range(FOLDS):
        parent = {"name": f"demo {fold}", "simulated": False, "cohort": "theirs"}
        change(here, f"run/fold-{fold}/config.json", "parent", parent)
    found = answered(here)
    software = found["claim", "23"].answer.text
    assert (
        "tensorflow 2.21.0 in folds 0 and 2; 2.15.1 in fold 1" in software and "{" not in software
    )
    parents = found["claim", "24"].answer.text
    assert "demo 0 (trained on patients: theirs) in fold 0; demo 1" in parents


def test_an_external_cohort_is_told_with_its_figures(here):
    assert answered(here)["claim", "33"].status == "question"
    external = here / "run/external-theirs"
    external.mkdir()
    (external / "evaluation.json").write_text(json.dumps({"patients": 9, "models": []}))
    statistics = here / "report/statistics.csv"
    lines = statistics.read_text().splitlines(keepends=True)
    dice = next(line for line in lines if line.startswith("agreement,All patients,Median Dice"))
    statistics.write_text("".join([*lines, f"external_{dice}"]))
    each = answered(here)["claim", "33"]
    assert "theirs (9 patients)" in each.answer.text and "Median Dice in the" in each.answer.text
    assert answered(here)["tripod", "16"].status == "in part"


def test_stations_add_up_and_a_fault_is_told(here):
    flow = facts_of(here).flow
    assert [each.count.value for each in flow.stations] == [16, 15, 13, 12, 12, 12]
    assert [each.lost_count for each in flow.stations] == [0, 1, 2, 1, 0, 0]
    assert not flow.faults
    listed = here / "cohort/participants.tsv"
    listed.write_text(listed.read_text() + "sub-0099\n")
    flow = facts_of(here).flow
    assert "16, not" not in flow.faults[0] and "15, not 16" in flow.faults[0]
    assert "Does not add up" in answered(here)["claim", "35"].question


def test_without_the_first_cohort_the_flow_begins_with_who_was_left_out(here):
    flow = facts_of(here, cohort=None).flow
    assert [each.count.value for each in flow.stations] == [16, 15, 13, 12, 12, 12]
    assert isinstance(stations.in_words(flow), Fact)


def test_a_run_that_is_trained_only(here, capsys):
    for name in ("patients.csv", "evaluation.json"):
        (here / "run" / name).unlink()
    out = here / "half"
    flags = (f"--patients={here / 'run/patients.csv'}", f"--out={out}", "--dossier")
    assert call(report, *flags, f"--records={here / 'records'}") == 0
    printed = capsys.readouterr()
    assert "no report" in printed.err and "run/evaluation.json" in printed.out
    assert not (out / "index.html").exists()
    rows = list(csv.DictReader((out / "dossier/claim_2024.csv").open()))
    status = {row["item"]: row["status"] for row in rows}
    assert status["25"] == "answered" and status["19"] == "answered"
    assert {status[item] for item in ("28", "32", "37", "38", "39")} == {"question"}
    flow = list(csv.DictReader((out / "dossier/flow.csv").open()))
    assert [row["patients"] for row in flow if not row["station"].startswith("left out")] == [
        "16", "15", "13", "12", "not known", "not known"
    ]  # fmt: skip
    assert "add up" not in (out / "dossier/index.html").read_text()
    assert "report/statistics.csv" in rows[36]["not found"]
    text = (out / "dossier/index.html").read_text()
    assert "Files that were not found" in text and "run/patients.csv" in text


def test_a_run_alone(tmp_path):
    """Nothing but config.json of a fold that another program trained: nothing is made up."""
    fold = tmp_path / "run/fold-0"
    fold.mkdir(parents=True)
    (fold / "config.json").write_text("no json")
    facts = study.collect(study.located(tmp_path / "run"))
    for items in (CLAIM, TRIPOD, DATASHEET):
        assert not [each.item.number for each in checklist.fill(items, facts) if each.answer.text]
    page.write(tmp_path / "dossier", facts)


FILES = ("run/evaluation.json", "run/fold-0/config.json", "records/manifest.json",
         "records/splits.json", "mni/dataset_description.json", "mni/sub-0001/qc.json",
         "report/report.json")  # fmt: skip


@pytest.mark.parametrize("file", FILES)
def test_a_value_of_another_kind_is_a_question_and_ends_nothing(here, file):
    text = (here / file).read_text()
    read = patients.load(here / "run/patients.csv")
    folders = study.located(here / "run", report=here / "report", cohort=here / "cohort")
    for key in json.loads(text):
        for junk in ("x", 3, [3], {"a": 1}):
            change(here, file, key, junk)
            facts = study.collect(folders, read)
            filled = [each for items in page.CHECKLISTS for each in checklist.fill(items, facts)]
            assert all(each.answer.text or each.question for each in filled), (key, junk)
            page.flow_rows(facts.flow)
            (here / file).write_text(text)


def test_simulated_patients_are_called_simulated(tmp_path):
    run = write_study(tmp_path, simulated=True)
    facts = study.collect(study.located(run), patients.load(run))
    page.write(tmp_path / "dossier", facts)
    for name in ("index.html", "dossier.md"):
        text = (tmp_path / "dossier" / name).read_text()
        assert "These patients are SIMULATED" in text and "patients are SIMULATED." in text
    for item in ("2", "7", "14", "35", "36"):
        each = next(a for a in checklist.fill(CLAIM, facts) if a.item.number == item)
        assert each.answer.text.startswith("The patients are SIMULATED.")
        assert each.answer.text.count("SIMULATED") == 1


def test_that_patients_are_simulated_answers_nothing_by_itself(tmp_path):
    run = write_study(tmp_path, simulated=True)
    for name in ("patients.csv", "evaluation.json"):
        (run / name).unlink()
    facts = study.collect(study.located(run))
    found = {each.item.number: each for each in checklist.fill(CLAIM, facts)}
    assert found["37"].status == "question" and not found["37"].answer.sources


def test_real_patients_are_not_called_simulated(reported):
    assert "SIMULATED" not in (reported / "report/dossier/index.html").read_text()


class _Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.links = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in ("src", "href") and value]


def test_the_files_of_a_dossier(reported):
    out = reported / "report/dossier"
    html = _Page((out / "index.html").read_text())
    assert "script" not in html.tags and "svg" in html.tags
    assert all(link.startswith("#") or (out / link).is_file() for link in html.links)
    assert {path.name for path in out.iterdir()} == {
        "index.html", "dossier.md", "claim_2024.csv", "tripod_ai.csv", "datasheet.csv", "flow.csv",
        "flow.svg", "sbom.json",
    }  # fmt: skip
    assert [len(list(csv.DictReader((out / f"{name}.csv").open())))
            for name in ("claim_2024", "tripod_ai")] == [44, 52]  # fmt: skip
    assert "2 patients: images that could not be used" in (out / "flow.svg").read_text()
    assert "no ADC.nii.gz" in (out / "flow.svg").read_text()


def test_no_file_of_a_dossier_names_a_patient(reported):
    for path in (reported / "report/dossier").iterdir():
        assert not re.search(r"sub-\d", path.read_text()), path.name


def test_what_files_say_is_escaped(here):
    hostile = "<script>alert(1)</script>|{x}"
    change(here, "records/manifest.json", "cohort", hostile)
    change(here, "run/evaluation.json", "left_out.sub-0091", hostile)
    page.write(here / "dossier", facts_of(here))
    for name in ("index.html", "dossier.md", "flow.svg"):
        assert "<script>" not in (here / "dossier" / name).read_text()
    assert "\\|{x}" in (here / "dossier/dossier.md").read_text()


def test_flags_and_folders_that_do_not_fit_are_refused(reported, tmp_path, capsys):
    run, out = reported / "run", tmp_path / "out"
    flags = (f"--patients={run}", f"--out={out}")
    assert call(report, *flags, f"--records={reported / 'records'}") == 2
    assert "expected --dossier with it" in capsys.readouterr().err
    assert call(report, *flags, "--dossier", "--model=/nowhere") == 2
    assert "--model: /nowhere is not there" in capsys.readouterr().err
    assert call(report, f"--patients={reported}", f"--out={out}", "--dossier") == 2
    assert "has no folds" in capsys.readouterr().err
    (out / "dossier").mkdir(parents=True)
    (out / "dossier/index.html").write_text("mine")
    assert call(report, *flags, "--dossier") == 2
    assert "holds another page" in capsys.readouterr().err
    assert (out / "dossier/index.html").read_text() == "mine"


def test_no_sentence_without_a_fact():
    with pytest.raises(ValueError, match="rests on no fact"):
        say("All is well.")
    with pytest.raises(ValueError, match="no source"):
        Fact(3, ())
    source = Source("run/patients.csv", "dice")
    known, unknown = Fact(3, (source,)), Missing(source)
    assert say("{a} of {b}.", a=known, b=unknown).text == ""
    assert say("{a} of {b}.", a=known, b=unknown).missing == (str(source),)
    assert say("{a}.", a=Fact("{b}", (source,))).text == "{b}."  # what files say is no template


def test_the_bill_of_materials_is_valid_and_whole(here):
    validation = pytest.importorskip("cyclonedx.validation.json", reason="no cyclonedx")
    from cyclonedx.schema import SchemaVersion

    content = sbom.bill(facts_of(here))
    checked = validation.JsonStrictValidator(SchemaVersion.V1_6)
    assert checked.validate_str(json.dumps(content)) is None
    content["components"][0]["type"] = "a wish"
    assert checked.validate_str(json.dumps(content)) is not None


def test_the_bill_names_packages_networks_and_records(here):
    content = sbom.bill(facts_of(here))
    components = {each["bom-ref"]: each for each in content["components"]}
    assert len(components) == len(content["components"])
    numpy = next(each for each in components.values() if each["name"] == "numpy")
    import numpy as np

    assert numpy["version"] == np.__version__ and numpy["licenses"]
    networks = [e for e in components.values() if e["type"] == "machine-learning-model"]
    assert [each["hashes"][0]["content"] for each in networks] == [
        f"{k}" * 64 for k in range(FOLDS)
    ]
    assert components["data:records"]["properties"][0]["value"] == "f" * 64
    references = set(components) | {sbom.ROOT}
    for each in content["dependencies"]:
        assert each["ref"] in references and set(each["dependsOn"]) <= references
    other = next(each for each in components.values() if each["name"] == "tensorflow")
    assert {"name": "tf_hypoperfusion:trained-with", "value": "2.21.0"} in other["properties"]


def test_a_licence_is_told_as_the_package_tells_it(monkeypatch):
    def package(**said):
        metadata = SimpleNamespace(
            get_all=lambda name: said.get(name), __contains__=lambda name: name in said
        )

        class Metadata(dict):
            def get_all(self, name):
                return self.get(name)

        return (
            SimpleNamespace(metadata=Metadata(said), version="1", requires=None) if metadata else 0
        )

    assert sbom._licences(package(**{"License-Expression": "MIT"})) == [{"expression": "MIT"}]
    assert sbom._licences(package(License="BSD")) == [{"license": {"name": "BSD"}}]
    long = package(
        License="x" * 500, Classifier=["License :: OSI Approved :: MIT License", "Topic"]
    )
    assert sbom._licences(long) == [{"license": {"name": "MIT License"}}]
    assert sbom._licences(package()) == []


@pytest.mark.skipif(shutil.which("chromium") is None, reason="no chromium")
def test_a_real_browser_shows_the_dossier(reported, tmp_path):
    shot = tmp_path / "page.png"
    subprocess.run(
        [
            "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
            "--disable-background-networking", f"--user-data-dir={tmp_path}/profile",
            "--window-size=1200,3000", f"--screenshot={shot}",
            (reported / "report/dossier/index.html").as_uri(),
        ],
        check=True, capture_output=True, timeout=120,
    )  # fmt: skip
    import matplotlib.image

    pixels = matplotlib.image.imread(shot)
    assert pixels.shape[:2] == (3000, 1200) and pixels[..., :3].std() > 0.05
