"""What evaluation keeps of a patient: columns, the file on disk, what is not whole."""

import dataclasses
import json

import numpy as np
import pytest

from tf_hypoperfusion.evaluation import measured_patient
from tf_hypoperfusion.evaluation.patient_metrics import STEPS, CoreFigures
from tf_hypoperfusion.evaluation.patient_row import PatientRow
from tf_hypoperfusion.evaluation.report import patients
from tf_hypoperfusion.evaluation.thresholds import FiguresAtThreshold

# The order of patients.csv's columns.
ROW = {
    "fold": 0, "participant_id": "sub-0009", "age": 79, "sex": "F", "nihss": None, "side": "left",
    "occlusion": "ICA", "field_strength_t": 1.5, "cohort": "simulated", "core_ml": 0.0,
    "hypoperfusion_ml": 4.984, "truth_ml": 4.984, "coverage_ml": 1626.8, "brain_ml": 1828.5,
    "voxel_ml": 0.008, "truth_from": "Tmax", "mrs_90d": 3, "tmax_from": None, "dice": 0.1,
    "auc": 0.55, "precision": None, "recall": 0.08, "hd95_mm": None, "surface_dice": 0.04,
    "predicted_ml": 78.4,
    "volume_difference_ml": 73.4, "true_mismatch_ratio": 20.0, "true_mismatch_ml": 4.984,
    "true_target_mismatch": False, "predicted_mismatch_ratio": 20.0, "predicted_mismatch_ml": 78.4,
    "predicted_target_mismatch": True, "dawn": None,
}  # fmt: skip
COUNTS = [[k] * (STEPS + 1) for k in (3, 1)]


@pytest.fixture
def saved():
    """The content of a patient's file."""
    return {
        "key": "abc",
        "row": dict(ROW),
        "covered": COUNTS,
        "hemisphere": COUNTS,
        "seconds": {"network": 0.2, "measure": 0.4},
        "machine": "ACME, 2 cores",
        "look": {"dwi_low": 0.5},
    }


@pytest.fixture
def read(saved, tmp_path):
    """Write the content, perhaps changed, and read it as ``key``."""

    def after(change=lambda content: None, key="abc"):
        change(saved)
        path = measured_patient.result_file(tmp_path, "test-0", "sub-0009")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(saved))
        return measured_patient.read(tmp_path, "test-0", "sub-0009", key)

    return after


def test_a_kept_file_is_read_and_would_be_written_the_same(saved, read):
    found = read()
    assert (found.row.participant_id, found.row.dawn, found.row.chosen) == ("sub-0009", None, None)
    assert found.counts.voxel_ml == 0.008 and found.seconds.measure == 0.4
    np.testing.assert_array_equal(found.counts.covered, COUNTS)
    assert found.counts.hemisphere.dtype == np.int64
    assert json.dumps(found.to_json()) == json.dumps(saved)


def test_a_kept_file_of_an_early_version_is_read(read):
    def earlier(content):
        del content["row"]["mrs_90d"], content["row"]["tmax_from"], content["machine"]

    found = read(earlier)
    assert (found.row.mrs_90d, found.machine, found.row.participant_id) == (None, "", "sub-0009")


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content.pop("row"),
        lambda content: content["row"].pop("dawn"),
        lambda content: content.update(row=["sub-0009"]),
        lambda content: content.update(covered=COUNTS[:1]),
        lambda content: content.update(hemisphere=[COUNTS[0], COUNTS[1][:-1]]),
        lambda content: content.pop("seconds"),
        lambda content: content.update(seconds={"network": 0.2}),
    ],
)
def test_a_file_that_is_not_whole_is_as_none(damage, read):
    assert read(damage) is None


def test_a_result_of_other_models_or_data_is_as_none(read):
    assert read(key="abd") is None


def test_the_chosen_columns_come_last():
    row = PatientRow.from_json(ROW)
    assert list(row.to_json()) == list(ROW)
    figures = FiguresAtThreshold(threshold=0.4, dice=0.2, predicted_ml=70.0, target_mismatch=True)
    cells = dataclasses.replace(row, chosen=figures).to_json()
    assert tuple(cells) == (*ROW, *patients.CHOSEN)
    assert cells["chosen_threshold"] == 0.4 and cells["chosen_target_mismatch"] is True


def test_the_report_asks_for_no_column_that_is_not_written():
    asked = {*patients.REQUIRED, *patients.OPTIONAL, *patients.NUMBERS, *patients.WORDS}
    assert asked <= {*ROW, *patients.CHOSEN, *patients.CORE}
    assert set(patients.CORE) == {field.name for field in dataclasses.fields(CoreFigures)}
