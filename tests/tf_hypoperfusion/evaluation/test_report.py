"""The report: tables against the paper's counts and by hand, files, refusals, small cohorts."""

import csv
import dataclasses
import json
import re
import shutil
import subprocess
import warnings
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

from benchmarks import beside, paper_tables
from data_tools import criteria
from data_tools.grid import GRID_AFFINE, GRID_SHAPE
from data_tools.runtime import command
from data_tools.runtime.errors import InputError
from tf_hypoperfusion import report
from tf_hypoperfusion.evaluation import patient_metrics
from tf_hypoperfusion.evaluation.report import comparison, figures, page, patients, tables


def call(*arguments):
    """Run the command in this process; returns its exit status."""
    return command.run(report.main, report.FLAGS, report.__doc__, [str(a) for a in arguments])


def table_of(rows, **changes):
    """patients.csv as a DataFrame from (true mL, predicted mL, core mL, dawn) rows."""
    true, predicted, core, dawn = (list(column) for column in zip(*rows, strict=True))
    n = len(rows)
    lesion = np.array(true) > 0
    table = pd.DataFrame(
        {
            "participant_id": [f"sub-{k:04d}" for k in range(1, n + 1)],
            "age": 70,
            "sex": ["M", "F"] * (n // 2) + ["M"] * (n % 2),
            # DAWN: yes from 10 points on, with these small cores.
            "nihss": [np.nan if d is None else 12 if d else 4 for d in dawn],
            "side": "left",
            "occlusion": "M1",
            "field_strength_t": 3,
            "cohort": "ours",
            "core_ml": core,
            "truth_ml": true,
            "predicted_ml": predicted,
            "dice": np.where(lesion, np.linspace(0.2, 0.8, n), np.nan),
            "auc": np.where(lesion, np.linspace(0.7, 0.99, n), np.nan),
            "true_target_mismatch": criteria.target_mismatch(true, core),
            "predicted_target_mismatch": criteria.target_mismatch(predicted, core),
            "dawn": dawn,
        }
    )
    return table.assign(**changes)


@pytest.fixture
def write(tmp_path):
    """Write a DataFrame as NAME/patients.csv and load it."""

    def save(table, name="ours"):
        (tmp_path / name).mkdir(exist_ok=True)
        table.to_csv(tmp_path / name / "patients.csv", index=False)
        return patients.load(tmp_path / name / "patients.csv")

    return save


# (true, predicted, core): with and without target mismatch.
YES, NO = 100.0, 12.0


def papers_primary_cohort():
    """413 patients with the joint counts that the paper's text and Table 2 imply."""
    cells = (  # true, model, DAWN, patients
        (YES, YES, True, 129), (YES, YES, False, 124), (YES, NO, True, 11), (YES, NO, False, 17),
        (NO, NO, False, 97), (NO, NO, True, 3), (NO, YES, False, 19), (NO, YES, True, 11),
        (YES, YES, None, 1), (YES, NO, None, 1),
    )  # fmt: skip
    rows = [(t, m, 10.0, d) for t, m, d, count in cells for _ in range(count)]
    assert len(rows) == 413
    return table_of(rows)


def test_table_2_of_the_papers_primary_cohort(write):
    made = tables.target_mismatch(write(papers_primary_cohort()), "stata")
    by_decision = {row[1]: row for row in made.rows[:3]}
    assert by_decision["Model"][2:] == [
        "254/283 (90; 86, 93)", "100/130 (77; 69, 83)", "254/284 (89; 85, 93)",
        "100/129 (78; 69, 84)", "354/413 (86; 82, 89)", "<.001",
    ]  # fmt: skip
    assert by_decision["Clinical-DWI (DAWN)"][2:4] == [
        "140/281 (50; 44, 56)",
        "116/130 (89; 83, 94)",
    ]
    assert by_decision["Clinical-DWI (DAWN)"][6] == "256/411 (62; 57, 67)"
    either = by_decision["Either"]
    assert either[2] == "264/281 (94; 90, 96)" and either[3] == "97/130 (75; 66, 81)"
    assert either[6].startswith("361/411 (88; 84, 9")
    p = next(n["p"] for n in made.numbers if n["group"] == "All patients" and n["p"] is not None)
    assert f"{p:.1e}" == "2.1e-15"
    assert any("2 patient(s) without age or NIHSS" in note for note in made.notes)


def test_every_printed_figure_of_table_2_comes_out(capsys):
    assert paper_tables.main() == 0
    assert "0 figure(s) differ" in capsys.readouterr().out


@pytest.fixture
def cohort(write):
    """Twelve patients of every kind: no core, no lesion, unknown occlusion, age and NIHSS."""
    rows = [
        (100, 90, 10, True), (80, 10, 20, False), (60, 70, 0, False), (0, 5, 0, None),
        (120, 100, 75, False), (30, 20, 2, True), (45, 50, 12, True), (20, 40, 0.6, False),
        (15, 14, 0, None), (90, 95, 30, False), (150, 120, 40, False), (70, 66, 5, True),
    ]  # fmt: skip
    table = table_of([tuple(map(float, row[:3])) + row[3:] for row in rows])
    table["occlusion"] = [
        "ICA",
        "M1",
        "M2",
        "none",
        "M1",
        "M3",
        None,
        "M4",
        "M2",
        "ICA",
        "M1",
        "M1",
    ]
    table["field_strength_t"] = [1.5, 3] * 6
    table.loc[[3, 8], ["age", "nihss"]] = np.nan
    return write(table)


def rows_of(table):
    return {row[0]: row[1:] for row in table.rows}


def test_table_1_counts_and_medians(cohort):
    made = rows_of(tables.characteristics([cohort]))
    assert made["Age (y)*"] == ["70 ± 0; 2 unknown"]
    assert made["  ICA or M1 segment"] == ["6 (50)"] and made["  Unknown"] == ["1"]
    core = cohort.table["core_ml"]
    low, middle, high = np.percentile(core, [25, 50, 75])
    assert made["Core volume (mL)†"] == [f"{middle:.0f} ({low:.0f} to {high:.0f})"]
    assert made["Mismatched cases"] == ["10 (83)"]  # all but one without lesion, one of core 75


def test_table_1_of_two_cohorts_has_p_values(cohort, write):
    other = write(papers_primary_cohort(), "paper")
    made = tables.characteristics([cohort, other])
    assert made.columns[-1] == "P value" and "paper (n = 413)" in made.columns
    by_name = rows_of(made)
    assert re.fullmatch(r"<\.001|\.\d+|>\.99", by_name["Core volume (mL)†"][-1])
    assert by_name["Age (y)*"][-1] == "n/a"  # nobody's age differs


def test_table_3_leaves_patients_without_lesion_out_of_overlap_only(cohort):
    made, further = tables.segmentation(cohort)
    by_name = rows_of(made)
    dice = cohort.table["dice"].dropna()
    assert len(dice) == 11
    assert by_name["All patients (n = 12; 11 lesions)"][1].startswith(f"{dice.median():.2f}")
    difference = cohort.table["predicted_ml"] - cohort.table["truth_ml"]
    assert by_name["All patients (n = 12; 11 lesions)"][2].startswith(f"{difference.median():.0f}")
    assert "Large vessel occlusion (n = 6)" in by_name and "1.5 T (n = 6)" in by_name
    assert "No large vessel occlusion (n = 5; 4 lesions)" in by_name  # one is unknown
    assert "P: 1.5 T / 3 T" in by_name
    assert (
        rows_of(further)["All patients (n = 12; 11 lesions)"] == ["n/a (n=0)"] * 4
    )  # columns not there


def test_shares_of_good_dice_by_core(cohort):
    made = rows_of(tables.good_dice(cohort, "exact"))
    table = cohort.table[cohort.table["dice"].notna()]
    for name, low in ((">= 0 mL", 0), (">= 10 mL", 10), (">= 20 mL", 20)):
        inside = table[table["core_ml"] >= low]
        assert made[name][0].startswith(f"{(inside['dice'] > 0.5).sum()}/{len(inside)} (")


def volume_pair(shift):
    rng = np.random.default_rng(shift)
    truth = np.zeros(GRID_SHAPE, bool)
    truth[10:25, 40:60, 20:30] = True
    probability = np.where(np.roll(truth, shift, 0), 0.8, 0.1) + rng.uniform(0, 0.1, GRID_SHAPE)
    return probability.astype(np.float32), truth


@pytest.fixture
def with_counts(write, tmp_path):
    """Four patients with voxel counts and maps beside patients.csv, as evaluate leaves them."""
    from data_tools.cohort import mni_file
    from data_tools.volumes import save_volume

    rows, counts = [], []
    coverage = np.ones(GRID_SHAPE, bool)
    for k, shift in enumerate((0, 2, 6, 30)):
        probability, truth = volume_pair(shift)
        found = patient_metrics.patient_metrics(probability, truth, coverage, "left", 0.008)
        counts.append(patient_metrics.threshold_counts(probability, truth, coverage, "left", 0.008))
        rows.append((found["truth_ml"], found["predicted_ml"], 1.0, True, found))
        folder = tmp_path / "counted/evaluation/maps"
        for what, data in (
            ("desc-hypoperfusion_probseg", probability),
            ("desc-truth_mask", truth.astype(np.uint8)),
            ("desc-normalised_dwi", 1 + truth.astype(np.float32)),
            ("desc-coverage_mask", coverage.astype(np.uint8)),
        ):
            save_volume(mni_file(folder, f"sub-{k + 1:04d}", what), data, GRID_AFFINE)
    table = table_of([row[:4] for row in rows])
    for name in ("dice", "auc", "hd95_mm", "surface_dice", "precision", "recall"):
        table[name] = [row[4][name] for row in rows]
    table["voxel_ml"] = 0.008
    np.savez_compressed(
        tmp_path / "counted/thresholds.npz",
        participant_id=np.array(table["participant_id"], dtype=str),
        covered=np.array([c.covered for c in counts], np.uint32),
        hemisphere=np.array([c.hemisphere for c in counts], np.uint32),
        voxel_ml=np.full(4, 0.008),
    )
    return write(table, "counted")


def test_operating_points_at_the_papers_threshold_are_table_2_and_3(with_counts):
    point = rows_of(tables.operating_points(with_counts, "stata"))["0.5 (paper)"]
    assert point[0] == rows_of(tables.segmentation(with_counts)[0])["All patients (n = 4)"][1]
    accuracy = tables.target_mismatch(with_counts, "stata").rows[0][6]
    assert point[4] == accuracy


def test_calibration_is_scikit_learns(with_counts):
    from sklearn.calibration import calibration_curve

    mean, observed, voxels, error = figures.calibration(with_counts.counts)
    pairs = [volume_pair(shift) for shift in (0, 2, 6, 30)]
    probability = np.concatenate([p.ravel() for p, _ in pairs])
    truth = np.concatenate([t.ravel() for _, t in pairs])
    expected_share, expected_mean = calibration_curve(truth, probability, n_bins=10)
    np.testing.assert_allclose(observed, expected_share, atol=1e-3)
    np.testing.assert_allclose(mean, expected_mean, atol=1e-3)
    assert voxels.sum() == truth.size
    assert error == pytest.approx(np.average(abs(mean - observed), weights=voxels))


class _Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.sources, self.text = [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.sources += [v for k, v in attrs if k in ("src", "href") and v]

    def handle_data(self, data):
        self.text += data


def test_the_report_of_a_whole_evaluation(with_counts, tmp_path, capsys):
    out = tmp_path / "report"
    assert call(f"--patients={with_counts.path}", f"--out={out}") == 0
    html = _Page((out / "index.html").read_text())
    assert all(source.startswith(("#", "data:")) for source in html.sources)  # no network
    assert html.tags.count("img") == len(figures.FIGURES) and "script" not in html.tags
    assert "Research use only" in html.text
    markdown = (out / "report.md").read_text()
    for name in figures.FIGURES:
        assert (out / f"figures/{name}.png").read_bytes()[:4] == b"\x89PNG"
        assert "<svg" in (out / f"figures/{name}.svg").read_text()
        assert f"figures/{name}.png" in markdown
    rows = list(csv.DictReader((out / "tables/table2_target_mismatch.csv").open()))
    assert rows[0]["Accuracy"] in html.text and rows[0]["Accuracy"] in markdown
    numbers = pd.read_csv(out / "statistics.csv")
    assert {"table", "group", "measure", "value", "low", "high", "k", "n", "p"} == set(numbers)
    assert not list(out.rglob(".tmp-*"))


def test_without_counts_and_maps_the_report_says_so(cohort, tmp_path):
    index = page.write_report(tmp_path / "report", cohort)
    text = index.read_text()
    assert "Not drawn: no thresholds.npz beside patients.csv" in text
    assert "Not drawn: no maps beside patients.csv" in text
    assert not (tmp_path / "report/figures/roc.png").exists()


def test_equal_reports_are_equal_bytes(with_counts, tmp_path):
    page.write_report(tmp_path / "a", with_counts)
    page.write_report(tmp_path / "b", with_counts)
    for path in sorted((tmp_path / "a").rglob("*.*")):
        if path.suffix != ".svg":  # matplotlib salts its ids
            assert (
                path.read_bytes()
                == (tmp_path / "b" / path.relative_to(tmp_path / "a")).read_bytes()
            )


@pytest.mark.parametrize(
    "rows",
    [
        [(100.0, 90.0, 10.0, None)],
        [(0.0, 0.0, 0.0, None)],
        [(0.0, 3.0, 0.0, None), (0.0, 0.0, 0.0, None)],
        [(100.0, 0.0, 10.0, None), (100.0, 0.0, 10.0, None)],
    ],
    ids=["one patient", "one without a lesion", "none with a lesion", "all predictions empty"],
)
def test_small_cohorts_give_na_and_no_warning(rows, write, tmp_path):
    table = table_of(
        rows, occlusion=None, age=np.nan, nihss=np.nan, field_strength_t=np.nan, sex=None
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        index = page.write_report(tmp_path / "report", write(table))
    text = _Page(index.read_text()).text
    assert "n/a (n=0)" in text
    assert not re.search(r"\bnan\b", text.lower())


def test_simulated_patients_are_called_simulated(cohort, write, tmp_path):
    assert not cohort.simulated
    simulated = write(cohort.table.assign(cohort="simulated").replace({0.0: 0.0}).pipe(_booleans))
    text = page.write_report(tmp_path / "report", simulated).read_text()
    assert "These patients are SIMULATED" in text


def _booleans(table):
    for name in patients.BOOLEANS:
        table[name] = table[name].map({1.0: "True", 0.0: "False"})
    return table


def test_a_second_cohort_has_its_own_tables(cohort, write, tmp_path):
    external = write(papers_primary_cohort(), "external")
    page.write_report(tmp_path / "report", cohort, external)
    assert (tmp_path / "report/tables/external_table2_target_mismatch.csv").is_file()
    assert (tmp_path / "report/tables/cohorts.csv").is_file()


def test_paired_differences_by_hand(cohort, write):
    better = cohort.table.copy().pipe(_booleans)
    better["dice"] = (better["dice"] + 0.1).where(better["dice"].notna())
    other = write(better.iloc[:10], "other")
    made = rows_of(comparison.compare(cohort, other, seed=1))
    assert made["Dice"][0].startswith("-0.100") and made["Dice"][2] == "0 of 9"
    assert made["Dice"][4] == "9"
    assert made["Target mismatch right (share)"][1].startswith("0.000")
    assert made["Concordance of volumes"][1].startswith("0.000")


def test_comparison_refuses_other_patients(cohort, write):
    with pytest.raises(InputError, match="no patient in common"):
        comparison.compare(
            cohort,
            write(
                papers_primary_cohort().assign(participant_id=lambda t: "x" + t.participant_id), "x"
            ),
            1,
        )
    changed = cohort.table.copy().pipe(_booleans)
    changed.loc[0, "core_ml"] = 11.0
    other = write(changed, "changed")
    with pytest.raises(InputError, match=r"sub-0001: core_ml is 10 .* and 11 in"):
        comparison.compare(cohort, other, 1)


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("dice", "1.2", "sub-0001: dice is '1.2'; expected 0 to 1"),
        ("dice", "", "Dice nan; expected a Dice with a lesion"),
        ("truth_ml", "", "sub-0001: truth_ml is nan; expected 0 to 3000"),
        ("predicted_ml", "-3", "expected 0 to 3000"),
        ("predicted_ml", "1,5", "sub-0001: predicted_ml is '1,5'"),
        ("side", "L", "sub-0001: side is 'L'; expected left, right, bilateral"),
        ("occlusion", "basilar", "expected ICA, M1, M2, M3, M4, none"),
        ("nihss", "50", "sub-0001: nihss is '50'; expected 0 to 42"),
        ("true_target_mismatch", "yes", "expected True or False"),
        ("true_target_mismatch", "False", "true_target_mismatch is False, but 100 mL with a core"),
        ("participant_id", "sub-0002", "sub-0002: stands more than once"),
    ],
)
def test_wrong_cells_are_named(column, value, message, cohort, tmp_path, capsys):
    table = pd.read_csv(cohort.path, dtype=str, keep_default_na=False)
    table.loc[0, column] = value
    bad = tmp_path / "bad.csv"
    table.to_csv(bad, index=False)
    assert call(f"--patients={bad}", f"--out={tmp_path}/report") == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "report").exists()


def test_files_that_are_no_evaluation_are_refused(cohort, with_counts, tmp_path, capsys):
    out = f"--out={tmp_path}/report"
    assert call(f"--patients={tmp_path}/none.csv", out) == 2
    assert "no such file" in capsys.readouterr().err
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    assert call(f"--patients={tmp_path}/other.csv", out) == 2
    assert "no column participant_id" in capsys.readouterr().err
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00\x01")
    assert call(f"--patients={tmp_path}/binary.csv", out) == 2
    assert "not a readable" in capsys.readouterr().err
    shutil.copy(with_counts.path.with_name("thresholds.npz"), cohort.path.parent)
    assert call(f"--patients={cohort.path}", out) == 2
    assert "evaluate again" in capsys.readouterr().err
    cohort.path.with_name("thresholds.npz").write_bytes(b"PK damaged")
    assert call(f"--patients={cohort.path}", out) == 2
    assert "cannot be read" in capsys.readouterr().err


def test_what_the_evaluation_said_stands_in_the_report(with_counts, tmp_path):
    assert "nobody knows who was left out" in with_counts.warnings[0]
    about = {"patients": 9, "left_out": {"sub-7": "why"}, "models": [], "warnings": ["fold 0 is"]}
    path = with_counts.path.with_name("evaluation.json")
    path.write_text(json.dumps(about))
    again = patients.load(with_counts.path)
    text = page.write_report(tmp_path / "report", again).read_text()
    for words in ("fold 0 is", "patients.csv holds 4 of the 9", "sub-7: why"):
        assert words in text
    for damaged in ('{"left_out": []}', '{"models": "x"}', "no json"):
        path.write_text(damaged)
        assert patients.load(with_counts.path).left_out is None


def test_maps_that_are_not_those_of_the_table_are_not_drawn(with_counts):
    assert not isinstance(figures.examples(with_counts), str)
    names = list(with_counts.table["participant_id"])
    first, last = (with_counts.map_file(name, "desc-truth_mask") for name in (names[0], names[-1]))
    kept = first.read_bytes()
    other = with_counts.map_file(names[0], "desc-coverage_mask").read_bytes()
    first.write_bytes(other)
    assert "evaluate again" in figures.examples(with_counts)
    first.write_bytes(kept)
    last.write_bytes(b"damaged")
    assert "delete evaluation/ and evaluate again" in figures.examples(with_counts)


def test_chosen_columns_are_checked_too(with_counts, tmp_path):
    table = pd.read_csv(with_counts.path, dtype=str)
    table = table.assign(
        chosen_threshold="0.4",
        chosen_dice=table["dice"],
        chosen_predicted_ml=table["predicted_ml"],
        chosen_target_mismatch=table["predicted_target_mismatch"],
    )
    good, bad = tmp_path / "good.csv", tmp_path / "bad.csv"
    table.to_csv(good, index=False)
    made = tables.chosen_threshold(patients.load(good), "stata")
    assert made[0].rows[0][1:] == made[0].rows[1][1:] and "chosen: 0.4" in made[0].rows[1][0]
    for column, value, message in (
        ("chosen_dice", "7", "chosen_dice is '7'; expected 0 to 1"),
        ("chosen_threshold", "inf", "chosen_threshold is 'inf'"),
        ("chosen_predicted_ml", "0", "chosen_target_mismatch is True, but 0 mL"),
    ):
        table.assign(**{column: value}).to_csv(bad, index=False)
        with pytest.raises(InputError, match=re.escape(message)):
            patients.load(bad)
    table.drop(columns="chosen_target_mismatch").to_csv(bad, index=False)
    with pytest.raises(InputError, match="no column chosen_target_mismatch"):
        patients.load(bad)


def test_a_table_of_semicolons_and_one_of_a_spreadsheet(cohort, tmp_path):
    text = cohort.path.read_text()
    (tmp_path / "semicolons.csv").write_text(text.replace(",", ";"))
    with pytest.raises(InputError, match="expected commas"):
        patients.load(tmp_path / "semicolons.csv")
    (tmp_path / "sheet.csv").write_text(text.replace("True", "TRUE").replace("False", "FALSE"))
    assert len(patients.load(tmp_path / "sheet.csv")) == 12


def test_a_cohort_is_not_compared_with_itself(cohort, write):
    with pytest.raises(InputError, match="hold the same patients"):
        tables.cohorts_compared(cohort, write(cohort.table.pipe(_booleans), "again"))


def test_another_page_is_not_overwritten(cohort, tmp_path):
    (tmp_path / "site").mkdir()
    (tmp_path / "site/index.html").write_text("mine")
    with pytest.raises(InputError, match="holds another page"):
        page.write_report(tmp_path / "site", cohort)


def test_names_from_the_table_are_escaped(with_counts, tmp_path):
    hostile = dataclasses.replace(
        with_counts, title="<script>alert(1)</script>", left_out={"a|b<img src=x>": "<b>why</b>"}
    )
    page.write_report(tmp_path / "report", hostile)
    text = "".join((tmp_path / "report" / name).read_text() for name in ("index.html", "report.md"))
    assert "<script>" not in text and "<img src=x>" not in text and "<b>why" not in text


@pytest.mark.skipif(shutil.which("chromium") is None, reason="no chromium")
def test_a_real_browser_shows_the_page(with_counts, tmp_path):
    index = page.write_report(tmp_path / "report", with_counts)
    shot = tmp_path / "page.png"
    subprocess.run(
        [
            "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
            "--disable-background-networking", f"--user-data-dir={tmp_path}/profile",
            "--window-size=1200,4000", f"--screenshot={shot}", index.as_uri(),
        ],
        check=True, capture_output=True, timeout=120,
    )  # fmt: skip
    import matplotlib.image

    pixels = matplotlib.image.imread(shot)
    assert pixels.shape[:2] == (4000, 1200) and pixels[..., :3].std() > 0.05


def test_runs_and_rivals_are_set_beside_a_run_by_patient(write, tmp_path, capsys):
    rows = [
        (YES, YES, 10.0, False),
        (YES, NO, 10.0, False),
        (NO, NO, 10.0, False),
        (0, 0, 0, False),
    ]
    ours = write(table_of(rows))
    theirs = table_of(rows)
    theirs["dice"] -= 0.1
    other = write(theirs[theirs["participant_id"] != "sub-0003"], "theirs")
    # Of sub-0001 and sub-0002 in another order; sub-0004 has no lesion, so no rival's line.
    pd.DataFrame(
        {
            "patient": [2, 1], "rival": "dilated", "dice": [0.5, 0.1], "auc": 0.8,
            "core": [False, True],
        }
    ).to_csv(tmp_path / "rivals.csv", index=False)  # fmt: skip
    flags = [f"--patients={ours.path}", f"--runs=theirs={other.path}"]
    arguments = [*flags, f"--rivals={tmp_path}/rivals.csv"]
    assert command.run(beside.main, beside.FLAGS, beside.__doc__, arguments) == 0
    told = capsys.readouterr().out
    assert "| ours | 4 | 0.40 (0.30 to 0.50) |" in told  # 0.2, 0.4, 0.6
    assert "| theirs | 3 | 0.20 (0.15 to 0.25) |" in told and "| +0.100 | 2 of 2 |" in told
    # Ours 0.4 and 0.2 where the rival has 0.5 and 0.1: better by -0.1 and 0.1.
    assert (
        "| dilated | 2 | 0.30 (0.20 to 0.40) | 0.30 (0.25 to 0.35) | 0.50 (0.50 to 0.50) |" in told
    )
    assert "| +0.000 | 1 of 2 |" in told
    for wrong, message in (
        ("theirs", "expected NAME=patients.csv"),
        ("a=none.csv", "no such file"),
    ):
        arguments = [flags[0], f"--runs={wrong}"]
        assert command.run(beside.main, beside.FLAGS, beside.__doc__, arguments) == 2
        assert message in capsys.readouterr().err
