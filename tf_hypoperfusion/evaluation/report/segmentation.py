"""Table 3 and what belongs to it: AUC, Dice and volumes, by subgroup, by core, with intervals."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from tf_hypoperfusion.config import (
    GOOD_DICE,
    PROBABILITY_THRESHOLD,
    SURFACE_TOLERANCE_MM,
)
from tf_hypoperfusion.evaluation import statistics
from tf_hypoperfusion.evaluation.report.patients import Patients, by_field, subgroups
from tf_hypoperfusion.evaluation.report.table import (
    ML,
    TOO_FEW,
    Digits,
    Table,
    share,
    who_counts,
    with_interval,
)
from tf_hypoperfusion.evaluation.statistics import Estimate

# Measure: (label, digits).
MEASURES: dict[str, tuple[str, Digits]] = {
    "auc": ("AUC", 2),
    "dice": ("Dice", 2),
    "difference": ("Volume difference (mL)", ML),
    "absolute": ("Absolute volume difference (mL)", ML),
}
FURTHER: dict[str, tuple[str, Digits]] = {
    "precision": ("Precision", 2),
    "recall": ("Recall", 2),
    "hd95_mm": ("HD95 (mm)", 0),
    "surface_dice": ("Surface Dice", 2),
}
CORE_LEVELS_ML = (1, 10, 20)
FIELDS_COMPARED = ("1.5 T", "3 T")
# Lin's concordance, in the paper's words: from which value on.
VERDICTS = ((0.7, "excellent"), (0.5, "moderate"), (-1.0, "low"))


def values_of(patients: Patients, measure: str) -> NDArray[np.float64]:
    """The known values of one of the measures."""
    if measure == "difference":
        return patients.difference_ml
    if measure == "absolute":
        return np.abs(patients.difference_ml)
    return patients.values(measure)


def segmentation(patients: Patients) -> list[Table]:
    """Table 3, by subgroup, and the same for measures that the paper does not have."""
    groups = subgroups(patients)
    pairs = [
        ("Baseline core >0 mL", "Baseline core equal to 0 mL"),
        ("Large vessel occlusion", "No large vessel occlusion"),
    ]
    fields = {f"{strength:g} T": members for strength, members in by_field(patients).items()}
    groups |= fields
    if set(FIELDS_COMPARED) <= set(fields):
        pairs.append(FIELDS_COMPARED)
    without = (patients.table["truth_ml"] == 0).to_numpy()
    if without.any():
        groups["No hypoperfusion lesion"] = patients.where(without)
    made = []
    for name, title, measures in (
        ("table3_segmentation", "Table 3: Segmentation by subgroup", MEASURES),
        ("table3_further", "Table 3, further measures", FURTHER),
    ):
        heads = ["Group", *(label for label, _ in measures.values())]
        table = Table(name, title, heads, program=patients.program)
        for group, members in groups.items():
            _add_medians(table, group, members, measures)
        for pair in pairs:
            if set(pair) <= set(groups):
                _add_tests(table, pair, groups, measures)
        table.notes = _notes(patients)
        made.append(table)
    empty = int(((patients.table["truth_ml"] > 0) & patients.table["hd95_mm"].isna()).sum())
    made[1].notes.append(
        "Precision and HD95 need a prediction that is not empty: of the patients with a lesion "
        f"{empty} have none. Distances are mm of the template's brain; surface Dice at "
        f"{SURFACE_TOLERANCE_MM:g} mm."
    )
    return made


def _add_medians(
    table: Table, group: str, members: Patients, measures: Mapping[str, tuple[str, Digits]]
) -> None:
    lesion = int((members.table["truth_ml"] > 0).sum())
    count = f"n = {len(members)}" + ("" if lesion == len(members) else f"; {lesion} lesions")
    cells = [f"{group} ({count})"]
    for measure, (label, digits) in measures.items():
        values = values_of(members, measure)
        cells.append(table.spread(values, digits))
        table.median(group, label, values)
    table.rows.append(cells)


def _add_tests(
    table: Table,
    pair: tuple[str, str],
    groups: Mapping[str, Patients],
    measures: Mapping[str, tuple[str, Digits]],
) -> None:
    names = " / ".join(pair)
    cells = [f"P: {names}"]
    for measure, (label, _) in measures.items():
        a, b = (values_of(groups[group], measure) for group in pair)
        cells.append(table.test_ranks(names, label, a, b))
    if set(cells[1:]) != {TOO_FEW}:
        table.rows.append(cells)


def _notes(patients: Patients) -> list[str]:
    return [
        "Medians with IQR. P: two-sided Mann-Whitney U test.",
        who_counts(patients) + " AUC is that of the stroke hemisphere (whole brain if bilateral "
        "or unknown), the others of the coverage at probability "
        f"{PROBABILITY_THRESHOLD:g}. CSF is covered too: it is in no lesion and its probability is "
        "0, so it counts among AUC's true negatives.",
    ]


def good_dice(patients: Patients, interval: str, *, external: bool = False) -> Table:
    """Share of patients with a Dice above 0.5, by baseline core.

    Args:
        patients: the cohort.
        interval: of proportions.
        external: test against the share at a core of 1 mL or more, as the paper does in its
            generalization cohort; else against that of any core above 0.
    """
    column = f"Dice > {GOOD_DICE:g}"
    table = Table(
        "good_dice_by_core",
        f"Share of {column} by baseline core",
        ["Baseline core", column, "P value"],
    )
    lesions = patients.table[patients.table["dice"].notna()]
    good, core_ml = (lesions["dice"] > GOOD_DICE).to_numpy(), lesions["core_ml"].to_numpy()
    levels = {">= 0 mL": core_ml >= 0, "> 0 mL": core_ml > 0}
    levels |= {f">= {level_ml} mL": core_ml >= level_ml for level_ml in CORE_LEVELS_ML}
    against = f">= {CORE_LEVELS_ML[0]} mL" if external else "> 0 mL"
    tested = list(levels)[list(levels).index(against) + 1 :]
    with_core = good[levels[against]]
    reference = statistics.proportion(int(with_core.sum()), with_core.size).value
    for level, inside in levels.items():
        hits = good[inside]
        if not hits.size and level != ">= 0 mL":
            continue
        estimate = statistics.proportion(int(hits.sum()), hits.size, interval)
        table.number(f"core {level}", f"share of {column}", estimate)
        row = [level, share(estimate), ""]
        if level in tested:
            p = None if reference is None else statistics.share_against(hits, reference)
            row[-1] = table.test(f"core {level}", f"share against core {against}", p, hits.size)
        table.rows.append(row)
    table.notes = [
        f"Patients with a lesion. P: one-sample t test against the share at a core of {against}, "
        "as in the paper; the groups contain each other, so it is no test of independent groups."
    ]
    return table


def agreement(patients: Patients, seed: int) -> Table:
    """Concordance of volumes, and bootstrap intervals of the medians (paper, Table S1)."""
    heads = ["Measure", "Estimate", "n", "In the paper's words"]
    table = Table("agreement", "Agreement, with 95% intervals", heads)
    volumes = (patients.table["truth_ml"].to_numpy(), patients.table["predicted_ml"].to_numpy())
    rho = statistics.concordance(*volumes)

    def concordance(x: NDArray, y: NDArray) -> float:
        return statistics.concordance(x, y).value or 0.0

    lines = {
        "Concordance of true and predicted volume (z transform)": rho,
        "Concordance of true and predicted volume (bootstrap)": Estimate(value=None, n=rho.n)
        if rho.value is None
        else statistics.bootstrap(volumes, concordance, seed),
    }
    medians = MEASURES | {"surface_dice": FURTHER["surface_dice"]}
    for measure, (label, _) in medians.items():
        values = values_of(patients, measure)
        lines[f"Median {label}"] = statistics.median_estimate(values, seed)
    digits = {f"Median {label}": digits for label, digits in medians.values()}
    for label, estimate in lines.items():
        table.number("All patients", label, estimate)
        word = verdict(estimate.value) if label.startswith("Concordance") else ""
        cell = with_interval(estimate, digits.get(label, 2))
        table.rows.append([label, cell, str(estimate.n), word])
    table.notes = [
        f"Bootstrap over patients: {statistics.bootstrap_method(rho.n)}, seed {seed}. "
        "Lin's concordance correlation coefficient; above 0.70 is excellent, 0.50 to 0.70 moderate,"
        " less is low."
    ]
    return table


def seconds(patients: Patients) -> Table:
    """How long the networks took for a patient; of an early version the median, if it kept that."""
    heads = ["What", "Median (IQR)", "Fastest", "Slowest", "n"]
    table = Table("seconds", "Seconds per patient", heads, program=patients.program)
    if patients.network_s is not None:
        took = np.array(patients.network_s)
        table.median("All patients", "seconds of the networks", took)
        fastest, slowest = (f"{value:.1f}" for value in (took.min(), took.max()))
        row = ["Networks", table.spread(took, 1), fastest, slowest, str(took.size)]
    else:
        value, n = patients.median_network_s, len(patients)
        estimate = Estimate(value=value, n=0 if value is None else n)
        table.number("All patients", "median seconds of the networks", estimate)
        unknown = "n/a (n=0)" if value is None else f"{value:.1f}"
        row = ["Networks", unknown, "n/a", "n/a", str(estimate.n)]
        table.notes.append(
            "Evaluated by an early version, which kept no patient's seconds"
            + (". " if value is None else ", only their median. ")
            + "Evaluate again to have them."
        )
    table.rows.append(row)
    table.notes += [
        "By the clock: every window of a patient through every network that answers, one patient "
        "at a time. Neither reading and preparing the images nor measuring and drawing is in it. "
        "The first patient of a network may wait for it to be compiled. "
        f"Computed on: {'; '.join(patients.machines) or 'unknown'}.",
        "The paper says: approximately 8 seconds for the model, and 24 seconds in total with "
        "loading and conversion to a volume. Its machine is another.",
    ]
    return table


def verdict(concordance: float | None) -> str:
    """The paper's word for a concordance; none for None.

    >>> verdict(0.78), verdict(0.7), verdict(0.49), verdict(None)
    ('excellent', 'moderate', 'low', '')
    """
    if concordance is None:
        return ""
    least, word = VERDICTS[0]
    if concordance > least:
        return word
    return next(word for least, word in VERDICTS[1:] if concordance >= least)
