"""What the page says first: figures, caps, alarms, and nothing twice; which slices it shows."""

import dataclasses
import re
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
from helpers import PROJECT

from data_tools import pictures
from data_tools.core_examination import CHECK_THE_SIDE
from tf_hypoperfusion.clinical import ClinicalFacts
from tf_hypoperfusion.inference import cautions
from tf_hypoperfusion.inference.model_files import ModelInfo
from tf_hypoperfusion.inference.page import headline, slices
from tf_hypoperfusion.inference.result import Answer, Criterion, Defuse3, PatientResult

pytestmark = pytest.mark.quick

SURE = Answer(
    target_mismatch="yes", reasons=(), interval_ml=(6.4, 81.4), coverage=0.9,
    mismatch_with_errors_of=0.9, calibrated_on="20 patients",
)  # fmt: skip


def result_of(hypoperfusion_ml, core_ml, ratio, *, answer=SURE, warnings=(), cohort="Hospital A"):
    """A result of which only what the first screen says means something."""
    bounds = {"ratio": ">= 1.8", "difference_ml": ">= 15", "core_ml": "<= 70"}
    criteria = {k: Criterion(value=None, required=v, met=None) for k, v in bounds.items()}
    model = ModelInfo(path="m", sha256=None, cohort=cohort)
    known = {
        "hypoperfusion_ml": hypoperfusion_ml, "core_ml": core_ml, "mismatch_ratio": ratio,
        "mismatch_ml": None if core_ml is None else hypoperfusion_ml - core_ml,
        "core_by": None if core_ml is None else "rule", "answer": answer,
        "defuse3": Defuse3(**criteria, target_mismatch=None), "warnings": tuple(warnings),
        "models": (model,), "given": ClinicalFacts("left", 5),
    }  # fmt: skip
    fields = {field.name: None for field in dataclasses.fields(PatientResult)}
    return PatientResult(**(fields | known))


def said(result):
    return [(tile.value, tile.note) for tile in headline.of(result).tiles]


def test_one_decimal_below_ten_none_above_and_the_bound_is_kept():
    assert [value for value, _ in said(result_of(84.4, 16.2, 5.206))] == ["16", "84", "68", "5.2"]
    assert [value for value, _ in said(result_of(9.96, 9.94, 1.002))] == ["9.9", "10", "0.0", "1.0"]
    # On the page, what is not met does not look as if it were.
    assert [v for v, _ in said(result_of(126.5, 70.3, 1.797))] == ["70.3", "126", "56", "1.797"]
    assert said(result_of(44.98, 30.0, 1.5))[2][0] == "14.98"
    assert said(result_of(10.0, 31.4, 0.3))[2][0] == "−21"


def test_a_cap_is_said_and_why():
    assert said(result_of(79.6, 0.97, 20.0))[3] == (
        "≥ 20", "capped: larger ratios are shown as this"
    )  # fmt: skip
    none = result_of(79.6, 0.0, 20.0)
    assert said(none)[3] == ("≥ 20", "capped: the core is 0 mL") and said(none)[0][0] == "0"
    assert headline.ratio_words(none) == "≥ 20 (capped: the core is 0 mL)"
    assert said(result_of(0.0, 0.0, 0.0))[3][0] == "0"


def test_the_interval_stands_with_the_volume_and_what_is_not_known_is_said():
    assert said(result_of(30.7, 17.7, 1.736))[1] == ("31", "90% interval 6.4 to 81 mL")
    plain = dataclasses.replace(SURE, interval_ml=None, coverage=None)
    assert "not calibrated" in said(result_of(30.7, 17.7, 1.7, answer=plain))[1][1]
    values = [value for value, _ in said(result_of(30.7, None, None))]
    assert values == ["not known", "31", "not known", "not known"]


def test_alarms_come_first_and_nothing_is_said_twice():
    unsure = dataclasses.replace(SURE, target_mismatch="unsure", reasons=("a ratio >= 1.8",))
    alarm = f"{CHECK_THE_SIDE}: side was given as left, but"
    warnings = (
        cautions.SIMULATED_ONLY, cautions.unsure("a ratio >= 1.8"), alarm, "620e-6 mm2/s and more",
        cautions.NO_CORE_VISIBLE,
    )  # fmt: skip
    first = headline.of(
        result_of(80.0, 0.0, 20.0, answer=unsure, warnings=warnings, cohort="Simulated cohort")
    )
    assert first.alarms == (alarm,)
    assert first.verdict == "UNSURE: PERFUSION IMAGING WOULD TELL"
    assert first.reasons == ("A ratio ≥ 1.8",)
    assert first.warnings == ("620 × 10⁻⁶ mm²/s and more",)
    assert "SIMULATED" in first.simulated
    assert headline.of(result_of(80.0, 0.0, 20.0)).simulated == ""


def patient(hypoperfusion, core, affine=None):
    """What the rows of slices need of a prediction."""
    shape = hypoperfusion.shape
    affine = np.diag([2.0, 2.0, 5.0, 1.0]) if affine is None else affine
    brain = np.zeros(shape, bool)
    brain[4:-4, 4:-4, 1:-1] = True
    image = SimpleNamespace(data=100.0 * brain.astype(np.float32), affine=affine, voxel_ml=0.02)
    native = SimpleNamespace(missing=None, shown=image, dwi=image, adc=image, brain=brain)
    core_ml = None if core is None else float(core.sum() * 0.02)
    return SimpleNamespace(
        native=native, hypoperfusion=hypoperfusion, threshold=0.5,
        core=SimpleNamespace(native=core, native_ml=core_ml),
        hypoperfusion_ml=float(hypoperfusion.sum() * 0.02),
    )  # fmt: skip


def block(*levels, x=slice(10, 20)):
    mask = np.zeros((40, 48, 24), bool)
    mask[x, 10:20, list(levels)] = True
    return mask


def test_only_slices_with_a_lesion_are_shown_at_most_six():
    few = slices.lesion(patient(block(5, 6, 7), block(6)))
    assert few.mm == [25.0, 30.0, 35.0] and "Every slice" in few.words
    many = slices.lesion(patient(block(*range(3, 20)), block(6)))
    assert len(many.mm) == 6 and "6 of the 17 slices" in many.words
    none = slices.lesion(patient(block(), block()))
    assert len(none.mm) == 6 and none.words.startswith("No lesion")


def test_rows_say_the_millilitres_of_each_slice_and_the_penumbra():
    found = slices.lesion(patient(block(5, 6, 7), block(6, 12, x=slice(10, 15))))
    image, core, hypoperfusion = found.rows
    assert image.below == ["z 25 mm", "z 30 mm", "z 35 mm", "z 60 mm"]
    assert core.below == ["0 mL", "1.0 mL", "0 mL", "1.0 mL"]
    assert core.heading == "Core 2.0 mL"
    assert hypoperfusion.below == ["2.0 mL", "2.0 mL", "2.0 mL", "0 mL"]
    assert "penumbra, 5.0 mL" in hypoperfusion.words  # 6 without the 1 of core that lies in it
    unknown = slices.lesion(patient(block(5), None))
    assert [row.key for row in unknown.rows] == ["image", "hypoperfusion"]


def test_penumbra_and_core_have_their_colours_in_the_pictures():
    found = slices.lesion(patient(block(6), block(6, x=slice(10, 15))))
    drawn = [np.asarray(row.pictures[0], float) for row in found.rows]
    changed = [np.abs(each - drawn[0]).max(axis=-1) > 20 for each in drawn]
    assert changed[1].any() and changed[2].sum() > changed[1].sum()
    core = drawn[1][changed[1]].mean(axis=0)
    assert core[0] > core[1] and core[2] > core[1]  # purple
    penumbra = drawn[2][changed[2] & ~changed[1]].mean(axis=0)
    assert penumbra[1] > penumbra[0] and penumbra[1] > penumbra[2]  # green


def test_slices_lie_where_the_scanner_says_also_upside_down():
    affine = np.array([[-2.0, 0, 0, 40], [0, 2, 0, -30], [0, 0, -5, 70], [0, 0, 0, 1]])
    found = slices.lesion(patient(block(5, 6), None, affine))
    assert found.mm == [40.0, 45.0]  # 70 - 5 x 6 and 70 - 5 x 5


def test_the_first_slice_of_an_oblique_image_is_that_of_its_middle():
    turned = np.eye(4)
    turned[1:3, 1:3] = [[0.96, -0.28], [0.28, 0.96]]
    affine = turned @ np.diag([2, 2, 4, 1.0])
    shape = 20, 30, 10
    first = pictures.origin_mm(affine, shape)
    middle = (np.array(shape) - 1) / 2
    expected = nib.affines.apply_affine(affine, middle)
    np.testing.assert_allclose(np.add(first, middle * [2, 2, 4]), expected)


def test_the_colours_of_core_and_hypoperfusion_stand_in_one_place():
    found = {}
    for folder in ("data_tools", "tf_hypoperfusion", "docs/reference"):
        for path in (PROJECT / folder).rglob("*"):
            if path.suffix in {".py", ".html", ".js", ".css"}:
                for colour in re.findall("#cc79a7|#009e73", path.read_text().lower()):
                    found.setdefault(colour, []).append(path.name)
    assert found == {"#cc79a7": ["pictures.py"], "#009e73": ["drawing.py"]}
    assert (pictures.CORE, pictures.HYPOPERFUSION) == ("#CC79A7", "#009E73")
