"""Two evaluations of the same patients: paired differences with intervals."""

import numpy as np
import pandas as pd

from data_tools.runtime.errors import InputError
from tf_hypoperfusion.evaluation import statistics
from tf_hypoperfusion.evaluation.report.patients import Patients
from tf_hypoperfusion.evaluation.report.tables import Table, with_interval


def compare(first: Patients, second: Patients, seed: int) -> Table:
    """Differences first - second over the patients that both evaluated.

    Raises:
        InputError: no patient in common, or one whose truth differs between the two.
    """
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
    names = [first.title, second.title]
    if names[0] == names[1]:  # runs of one name in two places
        names = [str(first.path.parent), str(second.path.parent)]
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
    absolute = [(both[f"predicted_ml{s}"] - both[f"truth_ml{s}"]).abs() for s in ("", "_other")]
    lines = [
        ("Dice", both["dice"] - both["dice_other"], 1),
        ("AUC", both["auc"] - both["auc_other"], 1),
        ("Absolute volume difference (mL)", absolute[0] - absolute[1], -1),
    ]
    for label, differences, better in lines:
        values = differences.dropna().to_numpy()
        median = statistics.bootstrap([values], np.median, seed)
        mean = statistics.bootstrap([values], np.mean, seed)
        table.number("paired", f"median difference of {label}", median)
        table.number("paired", f"mean difference of {label}", mean)
        digits = 1 if "mL" in label else 3
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
    right = [
        (both[f"predicted_target_mismatch{s}"] == both[f"true_target_mismatch{s}"]).to_numpy()
        for s in ("", "_other")
    ]
    only = int((right[0] & ~right[1]).sum()), int((~right[0] & right[1]).sum())
    n = len(both)
    difference = statistics.bootstrap([right[0].astype(float) - right[1]], np.mean, seed)
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
    table.rows.append(_concordance(table, both, seed))
    alone = len(first) - n, len(second) - n
    table.notes = [
        f"{alone[0]} patient(s) only in {names[0]} and {alone[1]} only in {names[1]} are "
        "left out; patients without a lesion have no Dice and no AUC.",
        "Intervals: BCa bootstrap over patients of the paired differences, seed "
        f"{seed}. P: Wilcoxon's signed rank test; exact McNemar test for the decision.",
    ]
    return table


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
