"""The flow of patients: everybody is counted, once, and what is not known is not made up."""

import dataclasses
import json
import re

import pytest
from helpers.evaluated_cohorts import as_written, rows_of, table_of

from data_tools import flow
from data_tools.flow import LeftOut
from data_tools.runtime.errors import InputError
from tf_hypoperfusion.evaluation.report import page, patient_flow

LOST = (
    *(LeftOut(participant_id=f"sub-90{k}", step=flow.PREPROCESS,
              reason=f"ADC /raw/sub-90{k}_ADC.nii.gz: is damaged\nmore") for k in range(3)),
    # One reason may begin as another does, and another may be empty.
    LeftOut(participant_id="sub-911", step=flow.EXCLUDED, reason="poor DWI"),
    LeftOut(participant_id="sub-912", step=flow.EXCLUDED, reason="poor DWI, and poor bolus"),
    LeftOut(participant_id="sub-913", step=flow.EXCLUDED, reason=""),
    LeftOut(participant_id="sub-921", step=flow.TERRITORY, reason="occlusion of the BA"),
    flow.without_truth("sub-931"),
)  # fmt: skip


def texts(figure):
    return [text.get_text() for axes in figure.axes for text in axes.texts if text.get_text()]


@pytest.fixture
def lossy(write):
    """Two patients who were evaluated, and eight who were not."""
    two = write(table_of([(100.0, 90.0, 10.0, True), (80.0, 10.0, 20.0, False)]))
    return dataclasses.replace(two, left_out=LOST, followed=True)


def test_the_table_adds_up_step_by_step_and_reason_by_reason(lossy):
    table = patient_flow.table([lossy])
    rows = [(what, int(count)) for what, count in table.rows]
    assert rows[0] == ("All patients", 10) and rows[-1] == ("Evaluated", 2)
    steps = {what: count for what, count in rows if what.startswith("left out: ")}
    assert list(steps.values()) == [3, 1, 3, 1] and sum(steps.values()) == len(LOST)
    reasons = {what.strip(): count for what, count in rows if what.startswith("    ")}
    assert reasons == {
        "poor DWI": 1,
        "poor DWI, and poor bolus": 1,
        "no reason given": 1,
        "occlusion of the BA": 1,
        "ADC: is damaged": 3,
    }
    assert not table.notes


def test_the_chart_counts_down_to_those_evaluated(lossy):
    shown = texts(patient_flow.chart(lossy))
    left = [text for text in shown if ":" not in text]
    assert left == [
        "10 patients", "7 patients", "6 patients", "3 patients", "2 patients evaluated"
    ]  # fmt: skip
    boxes = [text for text in shown if text not in left]
    assert f"3 patients: {flow.STEPS[flow.PREPROCESS]}\n  3 patients: ADC: is damaged" in boxes
    assert f"1 patient: {flow.STEPS[flow.TRUTH]}" in boxes  # a reason that repeats it is not shown
    lines = [line for box in boxes for line in box.splitlines()]
    assert all(re.match(r" *\d+ patients?: ", line) for line in lines)


def test_folds_come_in_their_order_however_many_patients_they_have(lossy):
    sizes = {10: 2, 2: 1, 1: 3}
    lost = tuple(
        LeftOut(participant_id=f"sub-{k}{i}", step=flow.FOLD, reason=f"fold {k} (test)")
        for k, size in sizes.items()
        for i in range(size)
    )
    (box,) = [
        text
        for text in texts(patient_flow.chart(dataclasses.replace(lossy, left_out=lost)))
        if "folds" in text
    ]
    assert box.splitlines() == [
        "6 patients: in folds that are not evaluated yet",
        "  3 patients: fold 1 (test)", "  1 patient: fold 2 (test)", "  2 patients: fold 10 (test)",
    ]  # fmt: skip


def test_nobody_left_out_is_one_box(lossy):
    nobody = dataclasses.replace(lossy, left_out=())
    assert texts(patient_flow.chart(nobody)) == ["2 patients evaluated"]
    assert [row[1] for row in patient_flow.table([nobody]).rows] == ["2", "2"]


def test_many_reasons_do_not_fill_the_chart(lossy):
    many = tuple(
        LeftOut(participant_id=f"sub-{k}", step=flow.PREPROCESS, reason=f"{'long ' * 30}{k}")
        for k in range(9)
    )
    (box,) = [
        text
        for text in texts(patient_flow.chart(dataclasses.replace(lossy, left_out=many)))
        if text.startswith("9 patients:")
    ]
    assert box.endswith("5 patients: other reasons") and max(map(len, box.splitlines())) < 80


def test_what_is_not_known_of_a_cohort_is_na(lossy):
    unknown = dataclasses.replace(lossy, left_out=None, title="other")
    table = patient_flow.table([lossy, unknown])
    assert {row[2] for row in table.rows[:-1]} == {"n/a"} and table.rows[-1][1:] == ["2", "2"]
    assert table.notes == [f"other: {patient_flow.UNKNOWN}."]
    assert patient_flow.chart(unknown) == patient_flow.UNKNOWN


def test_an_evaluation_of_an_early_version_says_what_it_does_not_know(lossy, write):
    about = {"patients": 2, "models": [], "warnings": [],
             "left_out": {"sub-7": "no Tmax and no mask", "sub-8": "DWI is 2D"}}  # fmt: skip
    path = lossy.path.with_name("evaluation.json")
    path.write_text(json.dumps(about))
    early = write(as_written(lossy.table))
    assert [each.step for each in early.left_out] == [flow.TRUTH, flow.EVALUATE]
    assert "early version" in patient_flow.table([early]).notes[0]
    path.write_text(json.dumps(about | {"left_out_at": {"sub-7": [], "sub-8": {}}}))
    with pytest.raises(InputError, match="was left out at .*; expected one of excluded"):
        write(as_written(early.table))
    steps = {"sub-7": flow.TRUTH, "sub-8": flow.PREPROCESS}
    path.write_text(json.dumps(about | {"left_out_at": steps}))
    now = write(as_written(early.table))
    assert [each.step for each in now.left_out] == [flow.TRUTH, flow.PREPROCESS]
    assert not patient_flow.table([now]).notes
    both = {early.table["participant_id"][0]: "DWI is 2D"}
    path.write_text(json.dumps(about | {"left_out": both}))
    with pytest.raises(InputError, match="that they were left out; expected one of the two"):
        write(as_written(early.table))


def test_the_page_names_everybody_who_was_left_out(lossy, tmp_path):
    text = page.write_report(tmp_path / "report", lossy).read_text()
    for each in LOST:
        assert each.participant_id in text
    assert "No patient was left out" not in text
    assert rows_of(patient_flow.table([lossy]))["All patients"] == ["10"]


def test_of_an_early_evaluation_there_were_at_least_so_many(lossy):
    early = dataclasses.replace(lossy, followed=False)
    table = patient_flow.table([early])
    assert table.rows[0] == ["All patients", "at least 10"] and table.rows[-1][1] == "2"
    assert "early version" in table.notes[0]
    assert "at least 10 patients" in texts(patient_flow.chart(early))
