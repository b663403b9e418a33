"""The page of one patient in a real browser: offline, escaped, its sliders true to the masks."""

import base64
import gzip
import hashlib
import io
import json
import re
import shutil

import numpy as np
import pytest
from helpers import PROJECT

from data_tools import drawing
from data_tools.grid import FRAME_PAD_X
from data_tools.pictures import CORE, HYPOPERFUSION
from data_tools.runtime.errors import InputError
from tf_hypoperfusion.clinical import ClinicalFacts
from tf_hypoperfusion.inference import prediction, result_folder, wording
from tf_hypoperfusion.inference.model_files import ModelInfo
from tf_hypoperfusion.inference.page import headline, pdf, slices, viewer_data
from tf_hypoperfusion.inference.page import page as patient_page
from tf_hypoperfusion.inference.result import read_result

NAME = "<script>alert(1)</script>&\"'"


def slope_predictor(image, nihss):
    """Falls from left to right, so that mask and its volume change with every threshold."""
    x = np.clip((np.arange(image.shape[1]) - FRAME_PAD_X) / 91, 0, 1)
    result = np.broadcast_to((1 - x)[None, :, None, None, None], (*image.shape[:4], 1))
    return (0.97 * result).astype(np.float32)


@pytest.fixture(scope="module")
def written(raw_cohort, tmp_path_factory):
    """The result folder of a simulated patient with a hostile name, and what result.json says."""
    out = tmp_path_factory.mktemp("page")
    folder = raw_cohort / "sub-0001/dwi"
    result = predict(
        folder / "sub-0001_dwi.nii.gz", folder / "sub-0001_ADC.nii.gz", out, NAME,
        "Simulated <b>cohort</b>",
    )  # fmt: skip
    return out, result


@pytest.fixture(scope="module")
def browser():
    """A real Chromium."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("no chromium here")
    with api.sync_playwright() as play:
        yield lambda *more: play.chromium.launch(
            executable_path=program, args=["--no-sandbox", "--disable-dev-shm-usage", *more]
        )


@pytest.fixture(scope="module")
def open_page(browser):
    """Open a page: it, everything it asked for, and every complaint of it."""
    engine = browser("--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader")

    def show(path):
        page = engine.new_page(viewport={"width": 1280, "height": 900})
        asked, complaints = [], []
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda m: complaints.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(path.as_uri())
        page.wait_for_selector("html[data-viewer=ready]", timeout=60_000)
        return page, asked, complaints

    yield show
    engine.close()


@pytest.fixture(scope="module")
def opened(written, open_page):
    return open_page(written[0] / "report.html")


@pytest.fixture(scope="module")
def opened_low(raw_cohort, open_page, tmp_path_factory):
    """A page whose probability has two blobs of at most 0.869."""
    out = tmp_path_factory.mktemp("low")
    folder = raw_cohort / "sub-0001/dwi"
    predict(
        folder / "sub-0001_dwi.nii.gz", folder / "sub-0001_ADC.nii.gz", out, "low",
        predictor=two_blobs,
    )  # fmt: skip
    return open_page(out / "report.html")[0]


def pages_of(page):
    """How many sheets of A4 a page is printed on."""
    content = page.pdf(format="A4", prefer_css_page_size=True)
    return len(re.findall(rb"/Type\s*/Page\b", content))


def canvas(page):
    """The viewer's canvas as an array."""
    from PIL import Image

    page.wait_for_timeout(300)
    picture = Image.open(io.BytesIO(page.locator("#view").screenshot())).convert("RGB")
    return np.asarray(picture, np.float32)


def two_blobs(image, nihss):
    """One blob of 0.869 and one of 0.86, in the left half."""
    result = np.zeros((*image.shape[:4], 1), np.float32)
    middle = FRAME_PAD_X + 28
    result[:, middle - 6 : middle + 6, 60:72, 4:12] = 0.869
    result[:, middle - 6 : middle + 6, 40:48, 4:12] = 0.86
    return result


def predict(dwi, adc, out, name, cohort="Simulated", predictor=slope_predictor):
    """Result of a predictor for a patient on the left."""
    known = ModelInfo(path="a&b.keras", sha256=None, cohort=cohort, fold=0)
    answers = [prediction.volume_predictor(predictor, 16)]
    return result_folder.predict(
        result_folder.PatientFiles(
            dwi=str(dwi), adc=str(adc), given=ClinicalFacts("left", 14, 66), name=name
        ),
        str(out), lambda: result_folder.Backend(answers=answers, models=lambda: [known], stride=16),
        log=lambda text: None,
    )  # fmt: skip


def test_the_page_is_one_small_file_that_asks_for_nothing(written, opened):
    page, asked, complaints = opened
    assert (written[0] / "report.html").stat().st_size < 5_000_000
    assert [url for url in asked if not url.startswith(("data:", "blob:"))] == [page.url]
    assert complaints == []


def test_what_a_person_needs_stands_on_top(written, opened):
    page, result = opened[0], written[1]
    text = page.inner_text("main")
    decision = "TARGET MISMATCH" if result.defuse3.target_mismatch else "NO TARGET MISMATCH"
    assert page.inner_text("h1") == f"{NAME}: {decision}"
    assert "Research use only" in page.inner_text(".notice")
    assert "SIMULATED" in page.inner_text(".notice")
    first = headline.of(result)
    assert "means nothing" in first.simulated and text.count("SIMULATED") == 0
    shown = page.inner_text("body")
    assert shown.count("SIMULATED") == 1  # in the notice, and nowhere else
    for said in (*first.alarms, *first.warnings, *first.reasons):
        assert said in shown
    figures = [tile.inner_text().split("\n") for tile in page.locator(".tile").all()]
    assert [lines[0] for lines in figures] == ["Core", "Hypoperfusion", "Mismatch", "Ratio"]
    assert figures[1][1] == wording.ml(result.hypoperfusion_ml)
    assert "Side left" in page.inner_text(".study") and "66 years" in page.inner_text(".study")
    doubt = result.uncertainty
    assert f"{doubt.decision_holds_in} of {doubt.opinions}" in text
    assert "Simulated <b>cohort</b>" in text  # as text, not as a tag
    assert page.locator("main b").count() == 0


def test_the_slider_shows_the_masks_own_ml(written, opened):
    page, result = opened[0], written[1]
    assert page.inner_text("#threshold-ml") == wording.ml(result.hypoperfusion_ml)
    shown = []
    for value in (5, 50, 80, 95):
        page.locator("#threshold").fill(str(value))
        shown.append(float(page.inner_text("#threshold-ml").split()[0]))
        assert page.inner_text("#threshold-value") == f"{value / 100:.2f}"
    assert shown == sorted(shown, reverse=True) and len(set(shown)) == 4
    page.locator("#threshold").focus()
    page.keyboard.press("ArrowLeft")
    assert page.inner_text("#threshold-value") == "0.90"
    page.click("#reset")
    assert page.inner_text("#threshold-ml") == wording.ml(result.hypoperfusion_ml)


def test_the_canvas_shows_the_head_and_follows_the_controls(opened):
    page = opened[0]
    first = canvas(page)
    assert first.std() > 20
    page.locator("#behind").select_option("ADC")
    adc = canvas(page)
    assert np.abs(adc - first).mean() > 5
    page.locator("#probability-opacity").fill("0")
    assert np.abs(canvas(page) - adc).mean() > 1
    page.click("#reset")
    assert np.abs(canvas(page) - first).mean() < 0.5


@pytest.mark.parametrize(
    ("folder", "dwi", "adc"),
    [
        ("real_isles22_0001", "sub-strokecase0001_dwi.nii.gz", "sub-strokecase0001_adc.nii.gz"),
        ("real_ads_S02", "ads_Subject02_DWI.nii.gz", "ads_Subject02_ADC.nii.gz"),
    ],
)
def test_pages_of_real_patients(folder, dwi, adc, real_data, open_page, tmp_path):
    result = predict(real_data / folder / dwi, real_data / folder / adc, tmp_path, folder)
    page, asked, complaints = open_page(tmp_path / "report.html")
    assert [url for url in asked if not url.startswith(("data:", "blob:"))] == [page.url]
    assert complaints == []
    assert canvas(page).std() > 20
    assert page.inner_text("#threshold-ml") == wording.ml(result.hypoperfusion_ml)
    if result.core_ml == 0:  # no colour of a core where there is none
        page.locator("#planes").select_option("3")
        shown = canvas(page)
        core = (np.abs(shown - drawing.rgb(CORE)) < 40).all(axis=-1)
        assert core.sum() < 20
    assert ("weak on such patients" in page.inner_text("main")) == (result.core_ml == 0)
    assert (tmp_path / "report.html").stat().st_size < 5_000_000


def test_every_picture_has_words_and_the_page_needs_no_sideways_scrolling(opened):
    page = opened[0]
    words = page.eval_on_selector_all("main img", "all => all.map(each => each.alt)")
    # Six slices as DWI, core, hypoperfusion, probability, disagreement and ADC; two of the brain.
    assert len(words) == 6 * 6 + 2 and all(len(text) > 30 for text in words)
    for width in (640, 400, 390):  # the first is 1280 at 200%
        page.set_viewport_size({"width": width, "height": 450})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.set_viewport_size({"width": 1280, "height": 900})


def test_three_rows_show_the_same_slices_with_core_and_hypoperfusion(written, opened):
    page, result = opened[0], written[1]
    rows = page.locator(".turned .row-head")
    heads = [head.inner_text() for head in rows.all()]
    assert heads[0].startswith("DWI") and heads[1].startswith(f"Core {wording.ml(result.core_ml)}")
    assert heads[2].startswith(f"Hypoperfusion {wording.ml(result.hypoperfusion_ml)}")
    assert "penumbra" in heads[2]
    below = [each.inner_text() for each in page.locator(".turned figcaption").all()]
    assert len(below) == 18
    assert all(re.fullmatch(r"z −?\d+ mm", text) for text in below[:6])
    assert all(re.fullmatch(r"[\d.]+ mL", text) for text in below[6:])
    colours = page.eval_on_selector_all(
        ".turned .swatch", "all => all.map(each => getComputedStyle(each).backgroundColor)"
    )
    assert colours == [f"rgb{drawing.rgb(colour)}" for colour in (CORE, HYPOPERFUSION)]
    # On a phone a slice's pictures stand side by side.
    page.set_viewport_size({"width": 390, "height": 800})
    boxes = [page.locator(".turned figure").nth(k).bounding_box() for k in (0, 6, 12)]
    assert boxes[0]["y"] == boxes[1]["y"] == boxes[2]["y"]
    assert boxes[0]["x"] < boxes[1]["x"] < boxes[2]["x"]
    page.set_viewport_size({"width": 1280, "height": 900})


def test_a_picture_opens_larger_and_arrows_show_the_next(opened):
    page = opened[0]
    pictures = page.locator("button.open")
    small = pictures.nth(6).locator("img")
    pictures.nth(6).click()
    larger = page.locator("dialog img")
    assert larger.get_attribute("src") == small.get_attribute("src")
    assert larger.bounding_box()["height"] > 1.5 * small.bounding_box()["height"]
    page.keyboard.press("ArrowRight")
    assert page.inner_text("dialog p") == pictures.nth(7).locator("img").get_attribute("alt")
    page.keyboard.press("Escape")
    assert page.locator("dialog").is_hidden()


def test_the_viewer_draws_nothing_below_its_threshold(opened_low):
    """Two blobs of at most 0.869: of a threshold of 0.90 not one pixel is left, also in 3D."""
    page = opened_low
    drawn = {}
    for planes in ("3", "4"):
        page.locator("#planes").select_option(planes)
        for threshold, opacity in (("85", "60"), ("90", "60"), ("90", "0")):
            page.locator("#threshold").fill(threshold)
            page.locator("#probability-opacity").fill(opacity)
            drawn[threshold, opacity] = canvas(page)
        np.testing.assert_array_equal(drawn["90", "60"], drawn["90", "0"])
        assert (np.abs(drawn["85", "60"] - drawn["90", "0"]).max(axis=-1) > 20).sum() > 50


def test_the_viewer_opens_on_the_lesion_in_two_by_two_planes(opened_low):
    page = opened_low
    page.locator("#planes").select_option("3")
    page.locator("#threshold").fill("85")
    page.locator("#probability-opacity").fill("100")
    page.click("#reset")
    shown = canvas(page)
    half = shown.shape[0] // 2, shown.shape[1] // 2
    quarters = shown[: half[0], : half[1]], shown[: half[0], half[1] :], shown[half[0] :, : half[1]]
    for quarter in quarters:  # coronal, sagittal, axial: the lesion is in each
        green = quarter[..., 1] - quarter[..., 0]
        assert (green > 40).sum() > 50
    assert shown[half[0] :, half[1] :].std() > 5  # the head in 3D


def test_tables_follow_the_readers_preference_and_pictures_stay_on_black(written, browser):
    engine = browser()
    for scheme, ground in (("light", "rgb(255, 255, 255)"), ("dark", "rgba(0, 0, 0, 0)")):
        page = engine.new_page(color_scheme=scheme)
        page.goto((written[0] / "report.html").as_uri())
        colour = "each => getComputedStyle(each).backgroundColor"
        assert page.locator("body").evaluate(colour) == "rgb(0, 0, 0)"
        assert page.locator(".sheet").first.evaluate(colour) == ground
    engine.close()


def test_it_prints_on_two_pages(opened, tmp_path):
    assert pages_of(opened[0]) == 2


def test_it_prints_on_two_pages_with_many_warnings_and_a_comparison(opened):
    page = opened[0]
    page.evaluate("""() => {
        const warning = "A warning of some length that needs a line or even more, as some do.";
        const head = document.querySelector("h1");
        const many = Array(10).fill(`<li>${warning} ${warning}</li>`).join("");
        head.insertAdjacentHTML("beforebegin", `<section id="more">
            <section class="alarm"><p>CHECK THE SIDE: ${warning}</p><p>${warning}</p></section>
            <section class="warnings"><h2>Warnings</h2><ul>${many}</ul></section></section>`);
        const row = document.querySelectorAll(".single")[0].cloneNode(true);
        row.id = "another";
        document.querySelectorAll(".single")[0].before(row);
    }""")
    assert pages_of(page) == 2
    page.evaluate("document.querySelectorAll('#more, #another').forEach(each => each.remove())")


def test_what_is_printed_has_seven_points(opened):
    page = opened[0]
    page.emulate_media(media="print")
    page.set_viewport_size({"width": round(190 / 25.4 * 96), "height": 1000})
    smallest = page.evaluate("""() => {
        const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
        let least = 1000;
        while (texts.nextNode()) {
            const element = texts.currentNode.parentElement;
            if (texts.currentNode.data.trim() && element.getClientRects().length)
                least = Math.min(least, parseFloat(getComputedStyle(element).fontSize));
        }
        return least * 72 / 96;
    }""")
    assert smallest >= 6.99
    letters = page.evaluate(
        """px => [...document.querySelectorAll("main img")]
        .filter(each => each.getClientRects().length)
        .map(each => px * each.clientWidth / each.naturalWidth * 72 / 96)""",
        slices.LETTER,
    )
    assert len(letters) == 36 and min(letters) >= 7
    page.emulate_media(media="screen")
    page.set_viewport_size({"width": 1280, "height": 900})


def test_the_command_prints_it_too(written, monkeypatch):
    if shutil.which("chromium") is None:
        pytest.skip("no chromium here")
    html = (written[0] / "report.html").read_text()
    content = pdf.printed(html)
    assert len(re.findall(rb"/Type\s*/Page\b", content)) == 2
    monkeypatch.setattr(pdf, "BROWSERS", ("no-such-browser",))
    with pytest.raises(InputError, match="--pdf needs a browser that prints"):
        pdf.printed(html)


def test_without_webgl_the_pictures_stay(written, browser):
    engine = browser("--disable-gpu", "--disable-3d-apis")
    page = engine.new_page()
    page.goto((written[0] / "report.html").as_uri())
    page.wait_for_selector("#no-viewer:not([hidden])")
    assert "no WebGL 2" in page.inner_text("#no-viewer")
    assert page.locator("#viewer").is_hidden()
    assert page.locator("img").first.evaluate("image => image.naturalWidth") > 200
    engine.close()


def test_the_viewer_in_the_page_is_the_published_one():
    program = gzip.decompress(base64.b64decode(patient_page._niivue()))
    assert hashlib.sha256(program).hexdigest() in (PROJECT / "BUILD_NOTES.md").read_text()


def test_levels_of_probability_keep_their_side_of_the_threshold():
    values = np.float32([0, 0.004, 0.006, np.nextafter(np.float32(0.5), 0), 0.5, 0.953, 1])
    levels = viewer_data.probability_levels(values)
    assert list(levels) == [0, 0, 1, 99, 100, 190, 200]


def test_result_json_is_the_last_file_and_names_the_seconds(written):
    out, result = written
    assert json.loads((out / "result.json").read_text())["seconds"]["report"] > 0
    newest = max(out.iterdir(), key=lambda path: path.stat().st_mtime_ns)
    assert newest.name == "result.json"
    doubt = json.loads((out / "result.json").read_text())["uncertainty"]
    assert set(doubt) >= {"kind", "range_ml", "decision_holds_in"}
    assert read_result(out) == result
