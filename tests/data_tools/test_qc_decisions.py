"""What a person decides in qc.html: the file, the page in a browser, and whom the records lack."""

import dataclasses
import json
import re
import shutil

import pytest
from helpers.commands import call

from data_tools import build_records, flow, qc_decisions, qc_page, records
from data_tools.perfusion import page as perfusion_page
from data_tools.quality import Quality, Registration
from data_tools.runtime import atomic
from data_tools.runtime.errors import InputError

HEAD = "participant_id,decision,reason,images\n"


def quality_of(name, fingerprint="a" * 64, *, warnings=(), **more):
    fit = Registration(
        verdict="poor" if warnings else "good", notes=(), registration="affine",
        strategy="tissue", fitted_by="gauss-newton", brain_dice_with_template=0.94,
        tissue_correlation=0.5, template_brain_imaged=1.0, affine_determinant=1.4, turn_deg=8.0,
        end_slice_brain_share=0.0, brain_native_ml=1364.6, brain_mni_ml=1290.2,
        coverage_mni_ml=1223.0, b_value_s_per_mm2=1000.0, adc_unit_in_file="mm2/s",
        adc_parenchyma_median_um2_per_s=966.0, shape=(1,), affine=((1.0,),), orientation="LAS",
        spacing_mm=(1.0,),
    )  # fmt: skip
    return Quality(
        participant_id=name, warnings=tuple(warnings), registration=fit, overrides={},
        core_native_ml=7.14, core_mni_ml=14.92, seconds=3.6, peak_memory_mb=226,
        fingerprint=fingerprint, **more,
    )  # fmt: skip


def decide(folder, text, name=qc_decisions.FILE):
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(text, encoding="utf-8")


def test_nobody_decided(tmp_path):
    assert qc_decisions.read(tmp_path) == {} == qc_decisions.rejected(tmp_path, {"sub-1"})


@pytest.mark.parametrize(
    "text",
    [
        f'{HEAD}sub-1,reject,"moved, twice",aaaaaaaaaaaa\nsub-2,accept,,\n\n',
        "\ufeffparticipant_id;decision;reason;images\r\n"
        "sub-1;Reject;moved, twice;aaaaaaaaaaaa\r\nsub-2;accept;;\r\n",
    ],
)
def test_decisions_are_read_as_browsers_and_spreadsheets_write_them(tmp_path, text):
    decide(tmp_path, text)
    found = qc_decisions.read(tmp_path)
    assert [(name, each.decision, each.reason) for name, each in found.items()] == [
        ("sub-1", "reject", "moved, twice"), ("sub-2", "accept", "")
    ]  # fmt: skip
    (lost,) = qc_decisions.rejected(tmp_path, {"sub-1", "sub-2"}).values()
    assert (lost.participant_id, lost.step) == ("sub-1", flow.QUALITY)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"{HEAD}sub-1,rejected,,\n", "line 2: the decision of sub-1 is 'rejected'; expected acc"),
        (f"{HEAD}sub-1,reject,,\nsub-1,accept,,\n", "line 3: names sub-1 a second time"),
        (f"{HEAD},reject,,\n", "line 2: names no patient"),
        ("participant_id,reason\nsub-1,x\n", "the column decision is missing"),
        ("", "the column participant_id is missing"),
        (f"{HEAD}sub-9,reject,,\n", "names sub-9, whom participants.tsv does not have"),
    ],
)
def test_decisions_that_cannot_be_used_are_refused(tmp_path, text, said):
    decide(tmp_path, text)
    with pytest.raises(InputError, match=re.escape(said)):
        qc_decisions.rejected(tmp_path, {"sub-1"})


def test_two_files_of_a_browser_are_refused(tmp_path):
    decide(tmp_path, HEAD)
    decide(tmp_path, HEAD, "qc_decisions (1).csv")
    with pytest.raises(InputError, match="expected one file, qc_decisions.csv"):
        qc_decisions.read(tmp_path)
    (tmp_path / qc_decisions.FILE).unlink()
    with pytest.raises(InputError, match="expected one file"):
        qc_decisions.read(tmp_path)


def test_a_rejection_of_earlier_images_holds_and_is_said(tmp_path):
    decide(tmp_path, f"{HEAD}sub-1,reject,moved,bbbbbbbbbbbb\nsub-2,reject,,aaaaaaaaaaaa\n")
    qualities = [quality_of("sub-1"), quality_of("sub-2")]
    for each in qualities:
        atomic.write_json(tmp_path / each.participant_id / "qc.json", each.to_json())
    lost = qc_decisions.rejected(tmp_path, {"sub-1", "sub-2"})
    assert lost["sub-1"].reason == "moved; decided on earlier images; look again"
    assert lost["sub-1"].cause == "moved" and lost["sub-2"].reason == "no reason given"
    qc_page.write(tmp_path, qualities, [], "two")
    page = (tmp_path / "qc.html").read_text()
    assert page.count("rejected: decided on earlier images") == 1


def test_whom_a_person_rejects_is_not_in_the_records(mni_cohort, tmp_path, capsys):
    cohort = shutil.copytree(mni_cohort, tmp_path / "cohort")
    out = tmp_path / "records"
    flags = [f"--cohort={cohort}", f"--out={out}", "--stride=16", "--shards=1", "--folds=3",
             "--stratify=none"]  # fmt: skip
    decide(cohort, f"{HEAD}sub-0002,reject,moved,\nsub-0003,accept,,\n")
    assert call(build_records, *flags) == 0
    assert "  left out, rejected in qc.html: sub-0002\n" in capsys.readouterr().out
    manifest = records.load_manifest(out)
    assert "sub-0002" not in manifest.rows() and "sub-0003" in manifest.rows()
    (lost,) = manifest.left_out
    assert (lost.participant_id, lost.step, lost.reason) == ("sub-0002", flow.QUALITY, "moved")
    # A decision that is taken back makes other records; a reason alone does not.
    decide(cohort, f"{HEAD}sub-0002,reject,moved a lot,\n")
    assert call(build_records, *flags) == 0
    assert records.load_manifest(out).left_out[0].reason == "moved a lot"
    decide(cohort, f"{HEAD}sub-0002,accept,,\n")
    assert call(build_records, *flags) == 2
    assert "records of other patients or settings" in capsys.readouterr().err
    decide(cohort, HEAD + "".join(f"sub-000{k},reject,,\n" for k in range(1, 7)))
    assert call(build_records, *flags, "--overwrite") == 2
    assert "rejects every patient that is left" in capsys.readouterr().err


def test_what_every_patient_has_to_say_stands_once_above_the_table(tmp_path):
    both, own = "b = 800 in every file", "the head is cut"
    qualities = [quality_of("sub-1", warnings=[both]), quality_of("sub-2", warnings=[both, own])]
    qc_page.write(tmp_path, qualities, [], "two")
    page = (tmp_path / "qc.html").read_text()
    assert page.count(both) == 1 and page.index(both) < page.index("<table")
    lines = re.findall(r'<tr( class="tinted")? data-who="([^"]+)"', page)
    assert dict((name, bool(tint)) for tint, name in lines) == {"sub-1": False, "sub-2": True}
    assert ">7.1<" in page and ">15<" in page and ">1365<" in page  # mL by the one rounding
    unknown = dataclasses.replace(qualities[0], core_native_ml=None, core_mni_ml=None)
    qc_page.write(tmp_path, [unknown], [], "one")
    assert 'data-key="core_native_ml"' not in (tmp_path / "qc.html").read_text()  # nobody's
    for column in qc_page.COLUMNS[1:11]:
        assert f"<dt>{column.title}</dt>" in page


@pytest.fixture
def chromium():
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("no chromium here")
    with api.sync_playwright() as play:
        engine = play.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield engine.new_context(accept_downloads=True, viewport={"width": 1400, "height": 900})


def test_the_page_of_perfusion_fits_too(chromium, tmp_path):
    words = {"verdict": "poor"}
    cells = {
        column.key: words.get(column.key, "sub-isles2017train01" if k == 0 else 123.4)
        for k, column in enumerate(perfusion_page.COLUMNS)
    }
    row = qc_page.Row(
        participant_id="sub-isles2017train01", verdict="poor", cells=cells,
        messages=("motion of 3 mm that was corrected",), picture="sub-1/perf.png",
    )  # fmt: skip
    table = qc_page.Table(name="x", columns=perfusion_page.COLUMNS, rows=[row], picture="{}")
    qc_page.render(tmp_path / "qc.html", table)
    page = chromium.new_page()
    page.goto((tmp_path / "qc.html").as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= 1400
    assert not page.locator("#save").count()  # nothing to decide
    page.set_viewport_size({"width": 400, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 400


def test_ticks_are_kept_by_the_browser_and_saved_to_a_file(chromium, tmp_path):
    long = "a warning of many words that has to find room beside all of the figures, and does"
    qualities = [
        quality_of("sub-1"),
        quality_of("sub-2", "c" * 64, warnings=[long], derived="DWI from b = 0 and ADC"),
        quality_of("sub-3", tmax_from="cSVD, threshold 0.1, TR 2 s, AIF automatic; calibrated"),
    ]
    qc_page.write(tmp_path, qualities, [], "three")
    page = chromium.new_page()
    complaints = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto((tmp_path / "qc.html").as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= 1400
    assert "3 undecided" in page.inner_text("#counts")

    def box(who, word):
        return page.locator(f'tr[data-who="{who}"] input[value={word}]')

    box("sub-1", "accept").check()
    box("sub-2", "accept").check()
    box("sub-2", "reject").check()  # the other tick goes
    assert not box("sub-2", "accept").is_checked()
    why = page.locator('tr[data-who="sub-2"] input[type=text]')
    why.fill('moved, "twice"; look')
    why.blur()
    assert page.inner_text("#counts") == "1 accepted, 1 rejected, 1 undecided."
    assert "NOT YET SAVED" in page.inner_text("#state")
    page.close(run_before_unload=False)
    page = chromium.new_page()
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto((tmp_path / "qc.html").as_uri())
    assert box("sub-2", "reject").is_checked() and box("sub-1", "accept").is_checked()
    with page.expect_download() as waiting:
        page.click("#save")
    assert waiting.value.suggested_filename == qc_decisions.FILE
    waiting.value.save_as(tmp_path / qc_decisions.FILE)
    assert page.inner_text("#state") == "Saved."
    found = qc_decisions.read(tmp_path)
    assert {name: each.decision for name, each in found.items()} == {
        "sub-1": "accept", "sub-2": "reject"
    }  # fmt: skip
    assert found["sub-2"].reason == 'moved, "twice"; look' and found["sub-2"].images == "c" * 12
    # Another person opens a page that was written after that, and loads another file into it.
    qc_page.write(tmp_path, qualities, [], "three")
    page.evaluate("localStorage.clear()")
    page.goto((tmp_path / "qc.html").as_uri())
    assert page.inner_text("#counts") == "1 accepted, 1 rejected, 1 undecided."
    assert page.inner_text("#state") == "Saved." and box("sub-2", "reject").is_checked()
    decide(tmp_path / "other", f'{HEAD}sub-3,reject,"a, b",aaaaaaaaaaaa\n')
    page.set_input_files("#load", tmp_path / "other" / qc_decisions.FILE)
    page.wait_for_function("document.querySelector('#counts').textContent.startsWith('0 acc')")
    assert page.locator('tr[data-who="sub-3"] input[type=text]').input_value() == "a, b"
    assert not complaints


def test_unsaved_ticks_of_earlier_images_are_dropped(chromium, tmp_path):
    qc_page.write(tmp_path, [quality_of("sub-1")], [], "one")
    page = chromium.new_page()
    page.goto((tmp_path / "qc.html").as_uri())
    page.check("input[value=accept]")
    assert json.loads(page.evaluate("JSON.stringify(Object.values(localStorage))"))
    qc_page.write(tmp_path, [quality_of("sub-1", "b" * 64)], [], "one")
    page.close(run_before_unload=False)
    page = chromium.new_page()
    page.goto((tmp_path / "qc.html").as_uri())
    assert "1 undecided" in page.inner_text("#counts")
