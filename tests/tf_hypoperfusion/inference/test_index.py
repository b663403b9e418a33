"""The page of many patients: what stands in its head, what tints a line, how figures look."""

import re

import pytest

from tf_hypoperfusion.inference.page.index import Entry, Shown, Summary, ml, write_index

pytestmark = pytest.mark.quick


def written(tmp_path, entries, **more):
    given = {"title": "T", "lead": "L.", "simulated": False} | more
    write_index(tmp_path / "index.html", entries, **given)
    return (tmp_path / "index.html").read_text()


def entry(name, *warnings, **more):
    more = {"link": f"{name}/report.html", "values": {"Patient": name}} | more
    return Entry(warnings=warnings, **more)


def tinted(page):
    return re.findall(r"<tr class=.tinted.>.*?<strong>(sub-[0-9]+)", page, re.DOTALL)


def test_what_everybody_shares_stands_once_in_the_head_and_tints_nothing(tmp_path):
    page = written(tmp_path, [entry("sub-1", "all >= 1", "own"), entry("sub-2", "all >= 1")])
    assert page.count("all ≥ 1") == 1 and page.index("all ≥ 1") < page.index("<table")
    assert tinted(page) == ["sub-1"] and page.index("own") > page.index("<table")


def test_one_patients_warnings_are_its_own(tmp_path):
    failed = Entry(values={"Patient": "sub-2 (failed)"}, warnings=["no ADC"])
    page = written(tmp_path, [entry("sub-1", "alone"), failed])
    assert "Said of every patient" not in page and page.index("alone") > page.index("<table")
    assert tinted(page) == ["sub-1"] and page.count('class="tinted"') == 2


def test_wrong_answers_are_tinted_also_where_all_are_wrong(tmp_path):
    page = written(tmp_path, [entry(f"sub-{k}", wrong="missed") for k in (1, 2)])
    assert tinted(page) == ["sub-1", "sub-2"] and "Said of every patient" not in page


def test_figures_are_rounded_once_and_empty_columns_go(tmp_path):
    values = {
        "Patient": "sub-1", "Volume (mL)": ml(84.4), "Core (mL)": ml(3.14), "Dice": 0.456,
        "NIHSS": 7, "Ratio": Shown("≥ 20", 20.0), "Nothing": None, "Missing": ml(None),
    }  # fmt: skip
    other = entry("sub-2", values={"Patient": "sub-2", "Volume (mL)": ml(-1.44)})
    page = written(
        tmp_path, [entry("sub-1", values=values), other],
        explained={"Dice": "Overlap.", "Nothing": "x"}, summary=[Summary("Right", "1 of 2", "n")],
    )  # fmt: skip
    for text in (">84<", ">3.1<", ">0.46<", ">7<", ">≥ 20<", ">−1.4<", ">n/a<"):
        assert text in page
    assert "Nothing" not in page and "Missing" not in page and "<dd>Overlap.</dd>" in page
    assert '<dt>Right</dt><dd class="figure">1 of 2</dd>' in page


def test_text_is_escaped(tmp_path):
    page = written(tmp_path, [entry("<b>", "<i>warned")], title="<u>")
    assert not re.search("<b>|<i>|<u>", page)
