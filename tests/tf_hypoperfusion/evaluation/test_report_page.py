"""The report's files and page: whole, equal, escaped, of small cohorts, in a browser."""

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
from helpers.commands import call
from helpers.evaluated_cohorts import as_written, papers_primary_cohort, table_of
from scipy.stats import mannwhitneyu

from data_tools.flow import LeftOut
from data_tools.runtime.errors import InputError
from tf_hypoperfusion import report
from tf_hypoperfusion.evaluation.report import figures, page, patients


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
    table = pd.read_csv(with_counts.path).assign(core_ml=[0, 1, 0, 1], occlusion=["M1", "M3"] * 2)
    table.to_csv(with_counts.path, index=False)  # so that no picture lacks its patients
    about = {"patients": 4, "left_out": {}, "left_out_at": {}, "models": [], "warnings": []}
    with_counts.path.with_name("evaluation.json").write_text(json.dumps(about))
    out = tmp_path / "report"
    assert call(report, f"--patients={with_counts.path}", f"--out={out}") == 0
    html = _Page((out / "index.html").read_text())
    assert all(source.startswith(("#", "data:")) for source in html.sources)  # no network
    drawn = [name for name in figures.FIGURES if name != "edited"]  # nobody's is
    assert html.tags.count("img") == len(drawn) and "script" not in html.tags
    assert "Research use only" in html.text
    markdown = (out / "report.md").read_text()
    for name in drawn:
        assert (out / f"figures/{name}.png").read_bytes()[:4] == b"\x89PNG"
        assert "<svg" in (out / f"figures/{name}.svg").read_text()
        assert f"figures/{name}.png" in markdown
    rows = list(csv.DictReader((out / "tables/table2_target_mismatch.csv").open()))
    assert rows[0]["Accuracy"] in html.text and rows[0]["Accuracy"] in markdown
    numbers = pd.read_csv(out / "statistics.csv")
    assert {
        "table", "group", "measure", "value", "low", "high", "k", "n", "p", "definition"
    } == set(numbers)  # fmt: skip
    assert not list(out.rglob(".tmp-*"))


def test_one_flag_changes_every_quartile_and_rank_and_all_say_so(cohort, write, tmp_path):
    """Table 1, Table 3 and statistics.csv, beside numpy and scipy themselves."""
    other = write(table_of([(100.0 + k, 90.0, 10.0 + 3.5 * k, True) for k in range(6)]), "other")
    core = [each.table["core_ml"].to_numpy() for each in (cohort, other)]
    expected = {
        "stata": ("Stata's summarize", np.percentile(core[0], 25, method="averaged_inverted_cdf"),
                  "Stata's ranksum", mannwhitneyu(*core, use_continuity=False)),
        "scipy": ("numpy.percentile", np.percentile(core[0], 25),
                  "scipy.stats.mannwhitneyu", mannwhitneyu(*core)),
    }  # fmt: skip
    assert expected["stata"][1] != expected["scipy"][1]
    for program, (summary, low, ranks, test) in expected.items():
        out = tmp_path / program
        flags = (f"--patients={cohort.path}", f"--external={other.path}", f"--out={out}")
        assert call(report, *flags, f"--statistics={program}") == 0
        markdown = (out / "report.md").read_text()
        unwanted = {"stata": "numpy.percentile", "scipy": "Stata's"}[program]
        assert f"Quartiles (IQR) as {summary}. Mann-Whitney U test as {ranks}." in markdown
        assert unwanted not in markdown
        numbers = pd.read_csv(out / "statistics.csv").set_index(["table", "group", "measure"])
        table_1 = numbers.loc["table1_characteristics"]
        median = table_1.loc["ours", "median (IQR) core_ml"]
        assert (median["low"], median["definition"]) == (low, summary)
        tested = table_1.loc["cohorts", "Core volume (mL)†"]
        assert tested["p"] == pytest.approx(test.pvalue) and tested["definition"] == ranks
        shares = numbers[numbers["k"].notna()]
        assert len(shares) and shares["definition"].isna().all()  # --interval is theirs


def test_without_counts_and_maps_the_report_says_so(cohort, tmp_path):
    index = page.write_report(tmp_path / "report", cohort)
    text = index.read_text()
    assert "ROC, precision and recall of voxels: no thresholds.npz beside patients.csv" in text
    assert "Best, median and worst patient: no maps beside patients.csv" in text
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
    simulated = write(cohort.table.assign(cohort="simulated").replace({0.0: 0.0}).pipe(as_written))
    text = page.write_report(tmp_path / "report", simulated).read_text()
    assert "These patients are SIMULATED" in text


def test_a_second_cohort_has_its_own_tables(cohort, write, tmp_path):
    external = write(papers_primary_cohort(), "external")
    page.write_report(tmp_path / "report", cohort, external=external)
    assert (tmp_path / "report/tables/external_table2_target_mismatch.csv").is_file()
    assert (tmp_path / "report/tables/cohorts.csv").is_file()


def test_what_the_evaluation_said_stands_in_the_report(with_counts, tmp_path):
    assert "nobody knows who was left out" in with_counts.warnings[0]
    about = {"patients": 9, "left_out": {"sub-7": "why"}, "models": [], "warnings": ["fold 0 is"]}
    path = with_counts.path.with_name("evaluation.json")
    path.write_text(json.dumps(about))
    again = patients.load(with_counts.path)
    text = page.write_report(tmp_path / "report", again).read_text()
    for words in ("fold 0 is", "patients.csv holds 4 of the 9", "sub-7: not evaluated: why"):
        assert words in text
    for damaged in ('{"left_out": []}', '{"models": "x"}', "no json"):
        path.write_text(damaged)
        assert patients.load(with_counts.path).left_out is None


def test_another_page_is_not_overwritten(cohort, tmp_path):
    (tmp_path / "site").mkdir()
    (tmp_path / "site/index.html").write_text("mine")
    with pytest.raises(InputError, match="holds another page"):
        page.write_report(tmp_path / "site", cohort)


def test_names_from_the_table_are_escaped(with_counts, tmp_path):
    hostile = dataclasses.replace(
        with_counts,
        title="<script>alert(1)</script>",
        left_out=(
            LeftOut(participant_id="a|b<img src=x>", step="preprocess", reason="<b>why</b>"),
        ),
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


@pytest.mark.skipif(shutil.which("chromium") is None, reason="no chromium")
def test_no_table_runs_past_the_edge_of_a_narrow_window(write, tmp_path):
    """Table 2 is the widest: it fits at 1100 pixels, and scrolls within itself on a telephone."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    index = page.write_report(tmp_path / "report", write(papers_primary_cohort()))
    over = """[...document.querySelectorAll(".scroll")].map(
        each => [each.scrollWidth - each.clientWidth, each.getBoundingClientRect().right])"""
    with api.sync_playwright() as play:
        browser = play.chromium.launch(
            executable_path=shutil.which("chromium"),
            args=["--no-sandbox", "--disable-dev-shm-usage"],
        )
        view = browser.new_page()
        view.goto(index.as_uri())
        for width in (1100, 400):
            view.set_viewport_size({"width": width, "height": 900})
            tables = view.evaluate(over)
            assert len(tables) > 5 and all(right <= width for _, right in tables)
            assert view.evaluate("document.documentElement.scrollWidth") <= width
            assert width == 400 or all(hidden == 0 for hidden, _ in tables)
        browser.close()
