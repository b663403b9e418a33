"""Two evaluations of the same patients, paired; two cohorts beside each other."""

import numpy as np
import pandas as pd

from data_tools.runtime import errors
from data_tools.runtime.errors import InputError
from tf_hypoperfusion.evaluation import statistics
from tf_hypoperfusion.evaluation.report.patients import Patients
from tf_hypoperfusion.evaluation.report.segmentation import MEASURES, values_of
from tf_hypoperfusion.evaluation.report.table import (
    ML,
    Digits,
    Table,
    who_counts,
    with_interval,
)


def compare(first: Patients, second: Patients, seed: int) -> Table:
    """Differences first - second over the patients that both evaluated.

    Raises:
        InputError: no patient in common, or one whose truth differs between the two.
    """
    both = _patients_of_both(first, second)
    names = first.title, second.title
    if names[0] == names[1]:  # runs of one name in two places
        names = str(first.path.parent), str(second.path.parent)
    table = Table(
        "comparison",
        f"{names[0]} - {names[1]}: paired differences ({len(both)} patients)",
        [
            "Measure",
            "Median difference (95% CI)",
            "Mean difference (95% CI)",
            "Better in",
            "P",
            "n",
        ],
    )
    ours, theirs = ((both[f"predicted_ml{s}"] - both[f"truth_ml{s}"]).abs() for s in ("", "_other"))
    _add_differences(table, "Dice", both["dice"] - both["dice_other"], seed=seed)
    _add_differences(table, "AUC", both["auc"] - both["auc_other"], seed=seed)
    absolute = "Absolute volume difference (mL)"
    _add_differences(table, absolute, ours - theirs, seed=seed, digits=ML, better=-1)
    _add_decisions(table, both, names, seed)
    table.rows.append(_concordance(table, both, seed))
    table.notes = [
        f"Left out: {errors.counted(len(first) - len(both), 'patient')} only in {names[0]}, "
        f"{len(second) - len(both)} only in {names[1]}. Patients without a lesion have no Dice "
        "and no AUC.",
        "Intervals: BCa bootstrap over patients of the paired differences, seed "
        f"{seed}. P: Wilcoxon's signed rank test; exact McNemar test for the decision.",
    ]
    return table


def _patients_of_both(first: Patients, second: Patients) -> pd.DataFrame:
    """One row per patient; the second's columns end in ``_other``."""
    both = first.table.merge(second.table, on="participant_id", suffixes=("", "_other"))
    if both.empty:
        raise InputError(
            f"{first.path} and {second.path} have no patient in common; expected two evaluations "
            "of one cohort"
        )
    for name in ("truth_ml", "core_ml"):
        differ = np.flatnonzero(np.abs(both[name] - both[f"{name}_other"]) > 0.01)
        if differ.size:
            row = both.iloc[differ[0]]
            raise InputError(
                f"{row['participant_id']}: {name} is {row[name]:g} in {first.path} and "
                f"{row[f'{name}_other']:g} in {second.path}; expected the same patients"
            )
    return both


def _add_differences(
    table: Table,
    label: str,
    differences: pd.Series,
    *,
    seed: int,
    digits: Digits = 3,
    better: int = 1,
) -> None:
    """The row of a measure, of which more (``better`` 1) or less (-1) is better."""
    values = differences.dropna().to_numpy()
    median = statistics.bootstrap([values], np.median, seed)
    mean = statistics.bootstrap([values], np.mean, seed)
    table.number("paired", f"median difference of {label}", median)
    table.number("paired", f"mean difference of {label}", mean)
    table.rows.append(
        [
            label,
            with_interval(median, digits),
            with_interval(mean, digits),
            f"{int((better * values > 0).sum())} of {values.size}",
            table.test("paired", label, statistics.wilcoxon(values), values.size),
            str(values.size),
        ]
    )


def _add_decisions(table: Table, both: pd.DataFrame, names: tuple[str, str], seed: int) -> None:
    """The row of the decisions on target mismatch."""
    ours, theirs = (
        (both[f"predicted_target_mismatch{s}"] == both[f"true_target_mismatch{s}"]).to_numpy()
        for s in ("", "_other")
    )
    only = int((ours & ~theirs).sum()), int((~ours & theirs).sum())
    n = len(both)
    difference = statistics.bootstrap([ours.astype(float) - theirs], np.mean, seed)
    table.number("paired", "difference of accuracy", difference)
    table.rows.append(
        [
            "Target mismatch right (share)",
            "",
            with_interval(difference, 3),
            f"{only[0]} only by {names[0]}, {only[1]} only by {names[1]}",
            table.test("paired", "target mismatch", statistics.mcnemar_exact(*only), n),
            str(n),
        ]
    )


def _concordance(table: Table, both: pd.DataFrame, seed: int) -> list[str]:
    """The row of the difference of the two concordances with the true volume."""

    def difference(true, first, second) -> float:
        rho = [statistics.concordance(true, each).value for each in (first, second)]
        return 0.0 if rho[0] is None or rho[1] is None else rho[0] - rho[1]

    samples = [both[name] for name in ("truth_ml", "predicted_ml", "predicted_ml_other")]
    if any(statistics.concordance(samples[0], each).value is None for each in samples[1:]):
        return ["Concordance of volumes", "", f"n/a (n={len(both)})", "", "", str(len(both))]
    estimate = statistics.bootstrap(samples, difference, seed)
    table.number("paired", "difference of concordance", estimate)
    cell = with_interval(estimate, 3)
    return ["Concordance of volumes", "", cell, "", "", str(len(both))]


def cohorts_compared(first: Patients, second: Patients) -> Table:
    """The paper's comparison of its primary and its generalization cohort.

    Raises:
        InputError: both are the same patients.
    """
    volumes = ["truth_ml", "core_ml", "predicted_ml"]
    same = first.table[volumes].merge(second.table[volumes], on=volumes)
    if len(same) >= min(len(first), len(second)) > 1:
        raise InputError(
            f"{first.path} and {second.path} hold the same patients; expected a second cohort. Two "
            "evaluations of one cohort are compared by --compare."
        )
    table = Table(
        "cohorts",
        f"Performance in {first.title} and {second.title}",
        [
            "Measure",
            f"{first.title} (n = {len(first)})",
            f"{second.title} (n = {len(second)})",
            "P",
        ],
        program=first.program,
    )
    for measure, (label, digits) in MEASURES.items():
        a, b = values_of(first, measure), values_of(second, measure)
        table.median(first.title, label, a)
        table.median(second.title, label, b)
        p = table.test_ranks("cohorts", label, a, b)
        table.rows.append([label, table.spread(a, digits), table.spread(b, digits), p])
    table.notes = [
        "Medians with IQR; two-sided Mann-Whitney U test.",
        *(f"{cohort.title}: {who_counts(cohort)}" for cohort in (first, second)),
    ]
    return table
