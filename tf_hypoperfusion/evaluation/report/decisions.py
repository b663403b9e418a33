"""Table 2 and what belongs to it: the decision on target mismatch, also at other thresholds."""

import numpy as np
import pandas as pd

from data_tools import flow
from tf_hypoperfusion.config import PROBABILITY_THRESHOLD
from tf_hypoperfusion.evaluation import statistics, thresholds
from tf_hypoperfusion.evaluation.patient_metrics import STEPS, ThresholdCounts
from tf_hypoperfusion.evaluation.report.patients import Patients, subgroups
from tf_hypoperfusion.evaluation.report.table import (
    FIGURES,
    ML,
    Digits,
    Table,
    share,
    who_counts,
)
from tf_hypoperfusion.evaluation.statistics import classify

OPERATING_POINTS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
INTERVALS_IN_WORDS = {
    "stata": "logit with t quantile, as Stata 15 and the paper; exact where k is 0 or n.",
    "wilson": "Wilson score.",
    "exact": "Clopper-Pearson.",
}


def target_mismatch(patients: Patients, interval: str, column: str | None = None) -> Table:
    """Table 2: the model, the DAWN rule and either, against DEFUSE 3 on the true volumes.

    Args:
        patients: the cohort.
        interval: of proportions.
        column: of the model's decision; None for that at 0.5.
    """
    chosen = column is not None
    column = column or "predicted_target_mismatch"
    table = Table(
        "table2_target_mismatch" + ("_chosen" if chosen else ""),
        "Table 2: Identification of target mismatch"
        + (" (threshold chosen on validation patients)" if chosen else ""),
        ["Group", "Decision", "Sensitivity", "Specificity", "PPV", "NPV", "Accuracy", "P value"],
    )
    for group, members in subgroups(patients).items():
        _add_decisions(table, group, members.table, model=column, interval=interval)
    unclassed = int(patients.table["dawn"].isna().sum())
    unknown = int((~patients.table["occlusion"].isin(flow.TERRITORIES)).sum())
    table.notes = [
        "Patients counted / patients (percentage; 95% interval). Intervals: "
        + INTERVALS_IN_WORDS[interval],
        f"Without age or NIHSS a patient cannot be classed by DAWN: {unclassed} leave its rows, "
        "Either and the test. Without a known occlusion, or with another territory, a patient is "
        f"in neither of the last groups: {unknown}.",
        "P: exact McNemar test of the accuracies of model and DAWN, two sided.",
    ]
    return table


def _add_decisions(
    table: Table, group: str, rows: pd.DataFrame, *, model: str, interval: str
) -> None:
    """The rows of a group: the model's decision (a column), DAWN's, and that of either."""
    truth, ours = (rows[name].to_numpy() == 1 for name in ("true_target_mismatch", model))
    dawn, classed = rows["dawn"].to_numpy() == 1, rows["dawn"].notna().to_numpy()
    everybody = np.ones(len(rows), bool)
    ours_right, dawn_right = (ours == truth)[classed], (dawn == truth)[classed]
    p = statistics.mcnemar_exact(
        int((ours_right & ~dawn_right).sum()), int((~ours_right & dawn_right).sum())
    )
    for name, decision, known in (
        ("Model", ours, everybody),
        ("Clinical-DWI (DAWN)", dawn, classed),
        ("Either", ours | dawn, classed),
    ):
        figures = classify(decision[known], truth[known]).figures(interval)
        for measure in FIGURES:
            table.number(f"{group}: {name}", measure, figures[measure])
        cells = [name, *(share(figures[measure]) for measure in FIGURES)]
        if name == "Model":
            tested = table.test(group, "McNemar, model and DAWN", p, int(classed.sum()))
            table.rows.append([f"{group} (n = {len(rows)})", *cells, tested])
        else:
            table.rows.append(["", *cells, ""])


def disagreements(patients: Patients, interval: str) -> Table:
    """Patients whom model and DAWN class differently, and how many of them have a mismatch."""
    table = Table(
        "model_against_dawn",
        "Where model and clinical-DWI mismatch (DAWN) disagree",
        ["Patients", "n", "With target mismatch"],
    )
    rows = patients.table[patients.table["dawn"].notna()]
    truth, model, dawn = (
        rows[name].to_numpy() == 1
        for name in ("true_target_mismatch", "predicted_target_mismatch", "dawn")
    )
    for label, inside in (
        ("All who are classed differently", model != dawn),
        ("  yes by the model only", model & ~dawn),
        ("  yes by DAWN only", ~model & dawn),
    ):
        estimate = statistics.proportion(int(truth[inside].sum()), int(inside.sum()), interval)
        table.number(label.strip(), "share with target mismatch", estimate)
        table.rows.append([label, str(int(inside.sum())), share(estimate)])
    table.notes = [f"{len(rows)} of {len(patients)} patients can be classed by DAWN."]
    return table


def operating_points(patients: Patients, interval: str) -> Table | None:
    """What other thresholds of the probability would give; None without the voxel counts."""
    if patients.counts is None:
        return None
    table = Table(
        "operating_points",
        "Operating points: the probability threshold",
        ["Threshold", "Dice", "Volume difference (mL)", "Sensitivity", "Specificity", "Accuracy"],
        program=patients.program,
    )
    for threshold in OPERATING_POINTS:
        _add_operating_point(table, threshold, patients, patients.counts, interval=interval)
    table.notes = [
        "These are the test patients: a threshold chosen from this table would flatter itself. "
        "evaluate --choose_threshold=val chooses on validation patients.",
        who_counts(patients),
    ]
    return table


def _add_operating_point(
    table: Table,
    threshold: float,
    patients: Patients,
    counts: list[ThresholdCounts],
    *,
    interval: str,
) -> None:
    k = round(threshold * STEPS)
    group = f"threshold {threshold:g}"
    core_ml = patients.table["core_ml"].to_numpy()
    decision = thresholds.target_mismatch(counts, core_ml, np.array([k]))[:, 0]
    truth = patients.table["true_target_mismatch"].to_numpy() == 1
    figures = classify(decision, truth).figures(interval)
    shown = {name: figures[name] for name in ("sensitivity", "specificity", "accuracy")}
    for name, estimate in shown.items():
        table.number(group, name, estimate)
    dice = [curve[k] for count in counts if (curve := count.dice()) is not None]
    difference = [count.volume_ml()[k] for count in counts] - patients.table["truth_ml"]
    table.median(group, "Dice", dice)
    table.median(group, "Volume difference (mL)", difference)
    paper = " (paper)" if threshold == PROBABILITY_THRESHOLD else ""
    table.rows.append(
        [
            f"{threshold:g}{paper}",
            table.spread(dice, 2),
            table.spread(difference, ML),
            *map(share, shown.values()),
        ]
    )


def chosen_threshold(patients: Patients, interval: str) -> list[Table]:
    """Figures at the thresholds that the validation patients chose; [] if none were chosen."""
    if "chosen_threshold" not in patients.table:
        return []
    rows = patients.table
    table = Table(
        "chosen_threshold",
        "At the threshold chosen on validation patients",
        ["Threshold", "Dice", "Volume difference (mL)", "Absolute volume difference (mL)"],
        program=patients.program,
    )
    picked = ", ".join(f"{value:g}" for value in sorted(set(rows["chosen_threshold"])))
    digits: tuple[Digits, ...] = (2, ML, ML)
    for label, dice, volume in (
        (f"{PROBABILITY_THRESHOLD:g} (paper)", "dice", "predicted_ml"),
        (f"chosen: {picked}", "chosen_dice", "chosen_predicted_ml"),
    ):
        difference = rows[volume] - rows["truth_ml"]
        cells = [rows[dice].dropna(), difference, difference.abs()]
        table.rows.append(
            [label, *(table.spread(v, d) for v, d in zip(cells, digits, strict=True))]
        )
        for name, values in zip(table.columns[1:], cells, strict=True):
            table.median(label, name, values)
    table.notes = [
        "Chosen fold by fold for the highest mean Dice of that fold's validation patients, none of "
        "whom is in this table under that fold; not the paper's method.",
        who_counts(patients),
    ]
    return [table, target_mismatch(patients, interval, "chosen_target_mismatch")]
