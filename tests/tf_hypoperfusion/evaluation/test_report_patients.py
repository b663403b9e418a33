"""``patients.csv`` read back: faults by patient, files that do not belong together."""

import re
import shutil

import pandas as pd
import pytest
from helpers.commands import call

from data_tools.runtime.errors import InputError
from tf_hypoperfusion import report
from tf_hypoperfusion.evaluation.report import decisions, patients

pytestmark = pytest.mark.quick


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
    assert call(report, f"--patients={bad}", f"--out={tmp_path}/report") == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "report").exists()


def test_files_that_are_no_evaluation_are_refused(cohort, with_counts, tmp_path, capsys):
    out = f"--out={tmp_path}/report"
    assert call(report, f"--patients={tmp_path}/none.csv", out) == 2
    assert "no such file" in capsys.readouterr().err
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    assert call(report, f"--patients={tmp_path}/other.csv", out) == 2
    assert "no column participant_id" in capsys.readouterr().err
    (tmp_path / "binary.csv").write_bytes(b"\x00\x01")
    assert call(report, f"--patients={tmp_path}/binary.csv", out) == 2
    assert "is not UTF-8 text" in capsys.readouterr().err
    shutil.copy(with_counts.path.with_name("thresholds.npz"), cohort.path.parent)
    assert call(report, f"--patients={cohort.path}", out) == 2
    assert "evaluate again" in capsys.readouterr().err
    cohort.path.with_name("thresholds.npz").write_bytes(b"PK damaged")
    assert call(report, f"--patients={cohort.path}", out) == 2
    assert "cannot be read" in capsys.readouterr().err


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
    made = decisions.chosen_threshold(patients.load(good), "stata")
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


def test_a_table_of_another_encoding_is_read_or_gets_the_hint(cohort, tmp_path):
    text = cohort.path.read_text()
    (tmp_path / "utf16.csv").write_text(text, encoding="utf-16")
    assert len(patients.load(tmp_path / "utf16.csv")) == 12
    (tmp_path / "latin.csv").write_bytes(text.encode().replace(b"sub-0001", b"sub-M\xfcller"))
    with pytest.raises(InputError, match="line 2 is not UTF-8 text"):
        patients.load(tmp_path / "latin.csv")
