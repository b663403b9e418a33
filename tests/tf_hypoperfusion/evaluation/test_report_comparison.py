"""Two runs, two cohorts and rivals beside each other: by hand, and refusals."""

import pandas as pd
import pytest
from helpers.commands import call
from helpers.evaluated_cohorts import NO, YES, as_written, papers_primary_cohort, rows_of, table_of

from benchmarks import beside
from data_tools.runtime.errors import InputError
from tf_hypoperfusion.evaluation.report import comparison

pytestmark = pytest.mark.quick


def test_paired_differences_by_hand(cohort, write):
    better = cohort.table.copy().pipe(as_written)
    better["dice"] = (better["dice"] + 0.1).where(better["dice"].notna())
    other = write(better.iloc[:10], "other")
    made = rows_of(comparison.compare(cohort, other, seed=1))
    assert made["Dice"][0].startswith("−0.100") and made["Dice"][2] == "0 of 9"
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
    changed = cohort.table.copy().pipe(as_written)
    changed.loc[0, "core_ml"] = 11.0
    other = write(changed, "changed")
    with pytest.raises(InputError, match=r"sub-0001: core_ml is 10 .* and 11 in"):
        comparison.compare(cohort, other, 1)


def test_a_cohort_is_not_compared_with_itself(cohort, write):
    with pytest.raises(InputError, match="hold the same patients"):
        comparison.cohorts_compared(cohort, write(cohort.table.pipe(as_written), "again"))


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
    assert call(beside, *arguments) == 0
    told = capsys.readouterr().out
    assert "| ours | 4 | 0.40 (0.20 to 0.60) |" in told  # 0.2, 0.4, 0.6
    assert "| theirs | 3 | 0.20 (0.10 to 0.30) |" in told and "| +0.100 | 2 of 2 |" in told
    # Ours 0.4 and 0.2 where the rival has 0.5 and 0.1: better by -0.1 and 0.1.
    assert (
        "| dilated | 2 | 0.30 (0.10 to 0.50) | 0.30 (0.20 to 0.40) | 0.50 (0.50 to 0.50) |" in told
    )
    assert "| +0.000 | 1 of 2 |" in told
    # One fold's patients alone; the other run has more.
    folds = write(table_of(rows, fold=[0, 1, 1, 1]), "folds")
    arguments = [f"--patients={folds.path}", "--fold=1", f"--runs=theirs={ours.path}"]
    assert call(beside, *arguments) == 0
    told = capsys.readouterr().out
    assert "| ours | 3 | 0.50 (0.40 to 0.60) |" in told and "| theirs | 3 | 0.50 (" in told
    other_patients = write(table_of(rows[:1], participant_id="sub-9"), "others")
    for wrong, message in (
        ("--runs=theirs", "expected NAME=patients.csv"),
        ("--runs=a=none.csv", "no such file"),
        (f"--runs=a={other_patients.path}", "a has no patient in common with the run"),
        ("--fold=2", "has no patients of fold 2; its folds: 0, 1"),
    ):
        assert call(beside, f"--patients={folds.path}", wrong) == 2
        assert message in capsys.readouterr().err
