"""What a calibration is worth on evaluated patients."""

import csv
import dataclasses

import numpy as np
import pytest
from helpers.calibrations import calibration_of, steps
from helpers.evaluated_cohorts import rows_of

from data_tools import criteria
from data_tools.runtime import atomic
from data_tools.runtime.errors import InputError
from tf_hypoperfusion.evaluation import calibrating
from tf_hypoperfusion.evaluation.report import certainty, page, patients

pytestmark = pytest.mark.quick


@pytest.fixture
def known(with_counts):
    """The four patients with counts, of whom it is known that network "a" answered."""
    about = {"left_out": {}, "warnings": [], "patients": 4, "external": "x",
             "models": [{"path": "a.keras", "sha256": "a"}]}  # fmt: skip
    atomic.write_json(with_counts.path.with_name("evaluation.json"), about)
    return patients.load(with_counts.path)


def test_before_and_after(known):
    """Probabilities are 0.1 to 0.2 and 0.8 to 0.9: at 0.15 the mask takes half of the rest too."""
    made = calibration_of(cut=0.15)
    table, _, _ = certainty.certainty(known, made, "stata")
    before, after = table.rows
    assert before[:2] == ["as the networks say", "0.5"] and after[:2] == ["calibrated", "0.15"]
    assert before[2] == after[2]  # nothing was moved but the cut
    assert float(before[5]) == pytest.approx(known.difference_ml.mean(), abs=0.06)
    volumes = [count.volume_ml()[150] for count in known.counts]
    assert float(after[5]) == pytest.approx(np.mean(volumes - known.table["truth_ml"]), abs=0.06)
    right = criteria.target_mismatch(volumes, 1.0) == criteria.target_mismatch(
        known.table["truth_ml"], 1.0
    )
    assert after[6] == f"{right.sum()}/4"


def test_coverage_is_counted_by_hand(known):
    """The mask is as large as the truth in all four: 24 mL, root 4.9."""
    wide, above = calibration_of(errors=steps(19)), calibration_of(errors=steps(19, 0.01) + 1)
    _, table, _ = certainty.certainty(known, wide, "stata")
    everybody = rows_of(table)["All patients"]
    assert everybody[0].startswith("4/4") and everybody[1:3] == ["0", "0"]
    low, high = wide.interval_ml(known.table["truth_ml"].iloc[0])
    assert everybody[3].startswith(f"{high - low:.0f} ")
    _, table, _ = certainty.certainty(known, above, "stata")
    assert rows_of(table)["All patients"][:3] == ["0/4 (0; 0, 60)", "4", "0"]
    assert "True volume < 15 mL" not in rows_of(table)  # nobody's is


def test_the_least_sure_are_left_out_first(known):
    made = calibration_of(errors=steps(19, 0.05))  # 20 to 29 mL
    found = certainty.answers(known, made)
    doubtful = dataclasses.replace(known, table=known.table.assign(core_ml=[9.2, 1.0, 9.9, 20.0]))
    needed = certainty.answers(doubtful, made)
    assert found.agree.all() and needed.agree.tolist() == [False, True, False, True]
    assert needed.sureness[1] == 1 and needed.sureness[0] < 0.7
    np.testing.assert_array_equal(
        needed.likelier[needed.agree],
        criteria.target_mismatch(needed.low_ml, doubtful.table["core_ml"])[needed.agree],
    )
    _, _, table = certainty.certainty(doubtful, made, "stata")
    assert [row[0] for row in table.rows[:2]] == ["surest 100%", "surest 90%"]
    assert table.rows[-2][0].startswith("both ends of the interval agree: 2/4")
    strange = dataclasses.replace(doubtful, looks=[{}, {"dwi_low": 0.9}, {}, {"dwi_low": 0.5}])
    known_looks = dataclasses.replace(made, familiar={"dwi_low": (0.4, 0.6)})
    _, _, table = certainty.certainty(strange, known_looks, "stata")
    assert table.rows[-1][0].startswith("and the image is not unusual: 1/4")


def test_the_report_has_it_all_and_says_whose_patients_they_are(known, tmp_path):
    made = calibration_of(errors=steps(19, 0.1))
    page.write_report(tmp_path / "report", known, calibration=made)
    for name in ("calibration", "coverage", "selective"):
        assert list(csv.reader((tmp_path / f"report/tables/{name}.csv").open()))[1:]
    assert (tmp_path / "report/figures/selective.png").is_file()
    rows = list(csv.DictReader((tmp_path / "report/tables/answers.csv").open()))
    assert [row["participant_id"] for row in rows] == list(known.table["participant_id"])
    agree = certainty.answers(known, made).agree
    assert [row["answer"] != "unsure" for row in rows] == agree.tolist()
    assert all(("needs" in row["reasons"]) == (row["answer"] == "unsure") for row in rows)
    text = (tmp_path / "report/report.md").read_text()
    assert "Calibrated on 19 patients of somewhere, answered by the networks' average." in text
    own = dataclasses.replace(made, tables=(calibrating.checksum(known),))
    assert "ON THESE VERY PATIENTS" in certainty.certainty(known, own, "stata")[0].notes[0]


def test_a_calibration_of_other_networks_is_refused(known, with_counts):
    with pytest.raises(InputError, match="other networks answered"):
        certainty.certainty(known, calibration_of(networks=("b",)), "stata")
    known.path.with_name("evaluation.json").unlink()
    with pytest.raises(InputError, match="does not say which networks answered"):
        certainty.certainty(known, calibration_of(), "stata")
