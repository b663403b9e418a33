"""Two evaluations of the same patients: paired differences with intervals."""

import numpy as np

from data_tools.errors import InputError
from tf_hypoperfusion import statistics
from tf_hypoperfusion.report.patients import Patients
from tf_hypoperfusion.report.tables import Table, with_interval
from tf_hypoperfusion.statistics import Estimate


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
    table = Table(
        "comparison",
        f"{first.title} - {second.title}: paired differences ({len(both)} patients)",
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
    difference = Estimate((right[0].sum() - right[1].sum()) / n, None, None, n)
    table.number("paired", "difference of accuracy", difference)
    table.rows.append(
        [
            "Target mismatch right",
            "",
            f"{100 * (only[0] - only[1]) / n:+.0f} percentage points",
            f"{only[0]} only by {first.title}, {only[1]} only by {second.title}",
            table.test("paired", "target mismatch", statistics.mcnemar_exact(*only), n),
            str(n),
        ]
    )
    alone = len(first) - n, len(second) - n
    table.notes = [
        f"{alone[0]} patient(s) only in {first.title} and {alone[1]} only in {second.title} are "
        "left out; patients without a lesion have no Dice and no AUC.",
        "Intervals: BCa bootstrap over patients of the paired differences, seed "
        f"{seed}. P: Wilcoxon's signed rank test; exact McNemar test for the decision.",
    ]
    return table
