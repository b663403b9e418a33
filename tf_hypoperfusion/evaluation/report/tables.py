"""Tables 1 to 3 of the paper and its further figures, for one cohort or two.

Every cell says how many patients it counts; what cannot be computed is "n/a (n=0)" or similar.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from data_tools.runtime.errors import InputError
from tf_hypoperfusion.config import GOOD_DICE, PROBABILITY_THRESHOLD, SURFACE_TOLERANCE_MM
from tf_hypoperfusion.evaluation import statistics, thresholds
from tf_hypoperfusion.evaluation.patient_metrics import STEPS
from tf_hypoperfusion.evaluation.report.patients import TERRITORIES, Patients, subgroups
from tf_hypoperfusion.evaluation.statistics import Estimate, classify

DECISIONS = ("Model", "Clinical-DWI (DAWN)", "Either")
FIGURES = ("sensitivity", "specificity", "ppv", "npv", "accuracy")
MEASURES = {
    "auc": ("AUC", 2),
    "dice": ("Dice", 2),
    "difference": ("Volume difference (mL)", 0),
    "absolute": ("Absolute volume difference (mL)", 0),
}
FURTHER = {
    "precision": ("Precision", 2),
    "recall": ("Recall", 2),
    "hd95_mm": ("HD95 (mm)", 0),
    "surface_dice": ("Surface Dice", 2),
}
CORE_LEVELS_ML = (0, 1, 10, 20)
OPERATING_POINTS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


@dataclasses.dataclass
class Table:
    """A table as people read it, and its numbers as programs do.

    Attributes:
        name: of its files. title, columns, rows, notes: text.
        numbers: for ``statistics.csv``: ``group``, ``measure``, ``value``, ``low``, ``high``,
            ``k``, ``n``, ``p``.
    """

    name: str
    title: str
    columns: list[str]
    rows: list[list[str]] = dataclasses.field(default_factory=list)
    notes: list[str] = dataclasses.field(default_factory=list)
    numbers: list[dict[str, Any]] = dataclasses.field(default_factory=list)

    def number(self, group: str, measure: str, estimate: Estimate) -> None:
        """Keep an estimate."""
        self.numbers.append(
            {"group": group, "measure": measure, "p": None} | dataclasses.asdict(estimate)
        )

    def median(self, group: str, measure: str, values: Any) -> None:
        """Keep a median with its quartiles."""
        known = statistics.quartiles(values) or (None, None, None)
        n = int(np.isfinite(np.asarray(values, float)).sum())
        self.number(group, f"median (IQR) {measure}", Estimate(known[1], known[0], known[2], n))

    def test(self, group: str, measure: str, p: float | None, n: int) -> str:
        """Keep a P value, and give it as text."""
        self.numbers.append(
            {"group": group, "measure": measure, "p": p}
            | dataclasses.asdict(Estimate(None, None, None, n))
        )
        return p_value(p)


def p_value(p: float | None) -> str:
    """As the paper prints it.

    >>> p_value(0.0004), p_value(0.3777), p_value(0.0016), p_value(None)
    ('<.001', '.38', '.002', 'n/a')
    """
    if p is None:
        return "n/a"
    if p < 0.001:
        return "<.001"
    if p > 0.99:
        return ">.99"
    return (f"{p:.3f}" if p < 0.01 else f"{p:.2f}").lstrip("0")


def share(estimate: Estimate) -> str:
    """k/n with percentage and interval.

    >>> share(statistics.proportion(254, 283)), share(statistics.proportion(0, 0))
    ('254/283 (90; 86, 93)', 'n/a (n=0)')
    """
    if estimate.value is None or estimate.low is None or estimate.high is None:
        return "n/a (n=0)"
    return (
        f"{estimate.k}/{estimate.n} ({percent(estimate.value)}; "
        f"{percent(estimate.low)}, {percent(estimate.high)})"
    )


def percent(share: float) -> int:
    """Whole percent, halves upwards as in print; Python would round 44.5 to 44.

    >>> percent(89 / 200)
    45
    """
    return math.floor(100 * share + 0.5 + 1e-9)


def spread(values: Any, digits: int) -> str:
    """Median (lower to upper quartile).

    >>> spread([1.0, 2.0, 3.0], 1), spread([], 1)
    ('2.0 (1.5 to 2.5)', 'n/a (n=0)')
    """
    return quartiles_in_words(statistics.quartiles(values), digits)


def quartiles_in_words(quartiles: Sequence[float] | None, digits: int) -> str:
    """Lower quartile, median and upper quartile, as :func:`spread` writes them; None for no value.

    >>> quartiles_in_words((-1.5, -0.3, 2.0), 0)
    '0 (-2 to 2)'
    """
    if quartiles is None:
        return "n/a (n=0)"
    low, middle, high = (f"{_no_minus_zero(v, digits):.{digits}f}" for v in quartiles)
    return f"{middle} ({low} to {high})"


def with_interval(estimate: Estimate, digits: int = 2) -> str:
    """Value (low to high)."""
    if estimate.value is None:
        return f"n/a (n={estimate.n})"
    value = f"{_no_minus_zero(estimate.value, digits):.{digits}f}"
    if estimate.low is None or estimate.high is None:
        return f"{value} (no interval, n={estimate.n})"
    low, high = (_no_minus_zero(v, digits) for v in (estimate.low, estimate.high))
    return f"{value} ({low:.{digits}f} to {high:.{digits}f})"


def _no_minus_zero(value: float, digits: int) -> float:
    return round(value, digits) + 0.0


def characteristics(cohorts: list[Patients]) -> Table:
    """Table 1: who the patients are; with two cohorts, side by side with P."""
    two = len(cohorts) == 2
    heads = [f"{cohort.title} (n = {len(cohort)})" for cohort in cohorts]
    table = Table(
        "table1_characteristics",
        "Table 1: Baseline characteristics",
        ["Characteristic", *heads] + (["P value"] if two else []),
    )

    def line(name: str, cell: Callable[[Patients], str], p: float | None = None, test: bool = True):
        row = [name, *(cell(cohort) for cohort in cohorts)]
        if two:
            n = sum(map(len, cohorts))
            row.append(table.test("cohorts", name, p, n) if test else "")
        table.rows.append(row)

    def missing(cohort: Patients, column: str) -> str:
        count = int(cohort.table[column].isna().sum())
        return f"; {count} unknown" if count else ""

    def age(cohort: Patients) -> str:
        values = cohort.values("age")
        if not values.size:
            return "n/a (n=0)"
        sd = f"{values.std(ddof=1):.0f}" if values.size > 1 else "n/a"
        mean = Estimate(float(values.mean()), None, None, values.size)
        table.number(cohort.title, "mean age (y)", mean)
        return f"{values.mean():.0f} ± {sd}{missing(cohort, 'age')}"

    def median(column: str, digits: int) -> Callable[[Patients], str]:
        def cell(cohort: Patients) -> str:
            table.median(cohort.title, column, cohort.values(column))
            return spread(cohort.values(column), digits) + missing(cohort, column)

        return cell

    def ratio(cohort: Patients):
        from data_tools import criteria

        return criteria.mismatch_ratio(cohort.table["truth_ml"], cohort.table["core_ml"])

    def categories(name: str, column: str, groups: dict[str, tuple]) -> None:
        counts = [
            [int(cohort.table[column].isin(words).sum()) for cohort in cohorts]
            for words in groups.values()
        ]
        table.rows.append([name, *("" for _ in cohorts)])
        if two:
            p = statistics.contingency(counts)
            table.rows[-1].append(table.test("cohorts", name, p, sum(map(sum, counts))))
        for label, row in zip(groups, counts, strict=True):
            for cohort, k in zip(cohorts, row, strict=True):
                n = len(cohort)
                table.number(cohort.title, f"{name}: {label}", Estimate(k / n, None, None, n, k))
            cells = [
                f"{k} ({percent(k / len(cohort))})" for k, cohort in zip(row, cohorts, strict=True)
            ]
            table.rows.append([f"  {label}", *cells] + ([""] if two else []))
        unknown = [int(cohort.table[column].isna().sum()) for cohort in cohorts]
        if any(unknown):
            table.rows.append(["  Unknown", *map(str, unknown)] + ([""] if two else []))

    def compare(test, column: str) -> float | None:
        return test(*(cohort.values(column) for cohort in cohorts)) if two else None

    line("Age (y)*", age, compare(statistics.welch_t, "age"))
    categories("Sex", "sex", {"M": ("M",), "F": ("F",)})
    categories("Occluded territory", "occlusion", TERRITORIES)
    sides = {"Left": ("left",), "Right": ("right",), "Bilateral": ("bilateral",)}
    categories("Side of stroke", "side", sides)
    mw = statistics.mann_whitney
    line("NIHSS score†", median("nihss", 0), compare(mw, "nihss"))
    line("Core volume (mL)†", median("core_ml", 0), compare(mw, "core_ml"))
    line("Hypoperfusion volume (mL)†", median("truth_ml", 0), compare(mw, "truth_ml"))
    p = mw(*(ratio(cohort) for cohort in cohorts)) if two else None
    line("Mismatch ratio‡", lambda c: spread(ratio(c), 1), p)
    categories_p = None
    if two:
        categories_p = statistics.contingency(
            [[int((c.table["true_target_mismatch"] == v).sum()) for c in cohorts] for v in (1, 0)]
        )
    line("Mismatched cases", lambda c: _count(c, "true_target_mismatch"), categories_p)
    strengths = sorted({v for cohort in cohorts for v in cohort.values("field_strength_t")})
    if strengths:
        table.rows.append(["Field strength", *("" for _ in cohorts)] + ([""] if two else []))
        for strength in strengths:
            cells = [str(int((c.table["field_strength_t"] == strength).sum())) for c in cohorts]
            table.rows.append([f"  {strength:g} T", *cells] + ([""] if two else []))
    table.notes = [
        "Numbers of patients with percentages in parentheses, except * mean ± SD, † median (IQR). "
        "‡ Median (IQR); set to 20 where the core is 0 or the ratio is larger.",
        "Hypoperfusion volume is that of the truth: Tmax ≥ 6 s united with the core.",
        "The modified Rankin Scale is not recorded.",
    ]
    if two:
        table.notes.append(
            "Welch t test for age, Fisher exact test for tables of 2 x 2, chi-squared test for "
            "larger ones, Mann-Whitney U test for medians; all two sided."
        )
    return table


def _count(cohort: Patients, column: str) -> str:
    k = int((cohort.table[column] == 1).sum())
    return f"{k} ({percent(k / len(cohort))})"


def target_mismatch(patients: Patients, interval: str, column: str | None = None) -> Table:
    """Table 2: the model, the DAWN rule and either, against DEFUSE 3 on the true volumes.

    Args:
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
        rows = members.table
        truth, model = rows["true_target_mismatch"] == 1, rows[column] == 1
        classed = rows["dawn"].notna().to_numpy()
        dawn = rows["dawn"] == 1
        both = {
            "Model": (model, np.ones(len(rows), bool)),
            "Clinical-DWI (DAWN)": (dawn, classed),
            "Either": (model | dawn, classed),
        }
        right = (model == truth).to_numpy(), (dawn == truth).to_numpy()
        p = statistics.mcnemar_exact(
            int((right[0] & ~right[1])[classed].sum()), int((~right[0] & right[1])[classed].sum())
        )
        for name in DECISIONS:
            decision, known = both[name]
            counted = classify(decision.to_numpy()[known], truth.to_numpy()[known])
            figures = counted.figures(interval)
            for measure in FIGURES:
                table.number(f"{group}: {name}", measure, figures[measure])
            first = name == "Model"
            table.rows.append(
                [
                    f"{group} (n = {len(rows)})" if first else "",
                    name,
                    *(share(figures[measure]) for measure in FIGURES),
                    table.test(group, "McNemar, model and DAWN", p, int(classed.sum()))
                    if first
                    else "",
                ]
            )
    unclassed = int(patients.table["dawn"].isna().sum())
    unknown = int(patients.table["occlusion"].isna().sum())
    table.notes = [
        "Patients counted / patients (percentage; 95% interval). Intervals: "
        + {
            "stata": "logit with t quantile, as Stata 15 and the paper; exact where k is 0 or n.",
            "wilson": "Wilson score.",
            "exact": "Clopper-Pearson.",
        }[interval],
        f"{unclassed} patient(s) without age or NIHSS cannot be classed by DAWN and leave its "
        f"rows, Either and the test; {unknown} of unknown occlusion are in neither of the last "
        "groups.",
        "P: exact McNemar test of the accuracies of model and DAWN, two sided; the paper takes "
        f"P <= {statistics.SIGNIFICANT_P} as significant.",
    ]
    return table


def segmentation(patients: Patients) -> list[Table]:
    """Table 3, by subgroup, and the same for measures that the paper does not have."""
    groups = subgroups(patients)
    strengths = sorted(set(patients.values("field_strength_t")))
    for strength in strengths:
        rows = (patients.table["field_strength_t"] == strength).to_numpy()
        groups[f"{strength:g} T"] = patients.where(rows)
    pairs = [
        ("Baseline core >0 mL", "Baseline core equal to 0 mL"),
        ("Large vessel occlusion", "No large vessel occlusion"),
    ]
    if len(strengths) == 2:
        pairs.append((f"{strengths[0]:g} T", f"{strengths[1]:g} T"))
    tables = []
    for name, title, measures in (
        ("table3_segmentation", "Table 3: Segmentation by subgroup", MEASURES),
        ("table3_further", "Table 3, further measures", FURTHER),
    ):
        table = Table(name, title, ["Group", *(label for label, _ in measures.values())])
        for group, members in groups.items():
            cells = []
            for measure, (label, digits) in measures.items():
                values = _measure(members, measure)
                cells.append(spread(values, digits))
                table.median(group, label, values)
            lesion = int((members.table["truth_ml"] > 0).sum())
            count = f"n = {len(members)}" + (
                "" if lesion == len(members) else f"; {lesion} lesions"
            )
            table.rows.append([f"{group} ({count})", *cells])
        for first, second in pairs:
            cells = []
            for measure, (label, _) in measures.items():
                a, b = (_measure(groups[g], measure) for g in (first, second))
                p = statistics.mann_whitney(a, b)
                cells.append(table.test(f"{first} / {second}", label, p, len(a) + len(b)))
            table.rows.append([f"P: {first} / {second}", *cells])
        table.notes = [
            "Medians with IQR. P: two-sided Mann-Whitney U test; the paper takes P <= "
            f"{statistics.SIGNIFICANT_P} as significant.",
            _who(patients)
            + " AUC is that of the stroke hemisphere (whole brain if bilateral), the "
            f"others of the coverage at probability {PROBABILITY_THRESHOLD:g}. CSF is covered too: "
            "it is in no lesion and its probability is 0, so it counts among AUC's true negatives.",
        ]
        if measures is FURTHER:
            empty = int(((patients.table["truth_ml"] > 0) & patients.table["hd95_mm"].isna()).sum())
            table.notes.append(
                f"{empty} patient(s) with a lesion but an empty prediction have no precision and "
                "no HD95. Distances are mm of the template's brain; surface Dice at "
                f"{SURFACE_TOLERANCE_MM:g} mm."
            )
        tables.append(table)
    return tables


def _who(patients: Patients) -> str:
    none = int((patients.table["truth_ml"] == 0).sum())
    return (
        f"{len(patients)} patients; {none} without a hypoperfusion lesion leave every figure of "
        "overlap and AUC and stay in the volume differences."
    )


def _measure(patients: Patients, measure: str):
    if measure == "difference":
        return patients.difference_ml
    if measure == "absolute":
        return np.abs(patients.difference_ml)
    return patients.values(measure)


def good_dice(patients: Patients, interval: str) -> Table:
    """Share of patients with a Dice above 0.5, by baseline core."""
    table = Table(
        "good_dice_by_core",
        f"Share of Dice > {GOOD_DICE:g} by baseline core",
        ["Baseline core", f"Dice > {GOOD_DICE:g}", "P value"],
    )
    lesion = patients.table["dice"].notna()
    levels = [
        (">= 0 mL", patients.table["core_ml"] >= 0),
        ("> 0 mL", patients.table["core_ml"] > 0),
    ]
    levels += [(f">= {v} mL", patients.table["core_ml"] >= v) for v in CORE_LEVELS_ML[1:]]
    reference: float | None = None
    for name, rows in levels:
        hits = (patients.table["dice"][rows & lesion] > GOOD_DICE).to_numpy()
        estimate = statistics.proportion(int(hits.sum()), hits.size, interval)
        table.number(f"core {name}", f"share of Dice > {GOOD_DICE:g}", estimate)
        p = None if reference is None else statistics.share_against(hits, reference)
        cell = "" if name in (">= 0 mL", "> 0 mL") else table.test(
            f"core {name}", "share against core > 0", p, hits.size
        )  # fmt: skip
        table.rows.append([name, share(estimate), cell])
        if name == "> 0 mL":
            reference = estimate.value
    table.notes = [
        "Patients with a lesion. P: one-sample t test against the share at a core above 0, as in "
        "the paper; the groups contain each other, so it is no test of independent groups."
    ]
    return table


def agreement(patients: Patients, seed: int) -> Table:
    """Concordance of volumes, and bootstrap intervals of the medians (paper, Table S1)."""
    table = Table("agreement", "Agreement, with 95% intervals", ["Measure", "Estimate", "n"])
    volumes = (patients.table["truth_ml"].to_numpy(), patients.table["predicted_ml"].to_numpy())
    rho = statistics.concordance(*volumes)

    def concordance(x, y) -> float:
        return statistics.concordance(x, y).value or 0.0

    lines = [
        ("Concordance of true and predicted volume (z transform)", rho),
        (
            "Concordance of true and predicted volume (bootstrap)",
            statistics.bootstrap(volumes, concordance, seed)
            if rho.value is not None
            else Estimate(None, None, None, rho.n),
        ),
    ]
    for measure, (label, _) in (MEASURES | {"surface_dice": FURTHER["surface_dice"]}).items():
        values = _measure(patients, measure)
        lines.append((f"Median {label}", statistics.median_estimate(values, seed)))
    for label, estimate in lines:
        table.number("All patients", label, estimate)
        table.rows.append([label, with_interval(estimate), str(estimate.n)])
    table.notes = [
        f"Bootstrap over patients: BCa, {statistics.BOOTSTRAP_SAMPLES} resamples, seed {seed}. "
        "Lin's concordance correlation coefficient; above 0.70 is excellent, 0.50 to 0.70 moderate "
        "(paper)."
    ]
    return table


def operating_points(patients: Patients, interval: str) -> Table | None:
    """What other thresholds of the probability would give; None without the voxel counts."""
    if patients.counts is None:
        return None
    table = Table(
        "operating_points",
        "Operating points: the probability threshold",
        ["Threshold", "Dice", "Volume difference (mL)", "Sensitivity", "Specificity", "Accuracy"],
    )
    truth = patients.table["true_target_mismatch"].to_numpy() == 1
    bins = np.array([round(t * STEPS) for t in OPERATING_POINTS])
    decisions = thresholds.target_mismatch(
        patients.counts, patients.table["core_ml"].to_numpy(), bins
    )
    for j, (threshold, k) in enumerate(zip(OPERATING_POINTS, bins, strict=True)):
        dice = [curve[k] for count in patients.counts if (curve := count.dice()) is not None]
        difference = [count.volume_ml()[k] for count in patients.counts] - patients.table[
            "truth_ml"
        ]
        figures = classify(decisions[:, j], truth).figures(interval)
        for measure in ("sensitivity", "specificity", "accuracy"):
            table.number(f"threshold {threshold:g}", measure, figures[measure])
        table.median(f"threshold {threshold:g}", "Dice", dice)
        table.median(f"threshold {threshold:g}", "Volume difference (mL)", difference)
        paper = threshold == PROBABILITY_THRESHOLD
        table.rows.append(
            [
                f"{threshold:g}" + (" (paper)" if paper else ""),
                spread(dice, 2),
                spread(difference, 0),
                *(share(figures[m]) for m in ("sensitivity", "specificity", "accuracy")),
            ]
        )
    table.notes = [
        "These are the test patients: a threshold chosen from this table would flatter itself. "
        "evaluate --choose_threshold=val chooses on validation patients.",
        _who(patients),
    ]
    return table


def chosen_threshold(patients: Patients, interval: str) -> list[Table]:
    """Figures at the thresholds that the validation patients chose; [] if none were chosen."""
    if "chosen_threshold" not in patients.table:
        return []
    rows = patients.table
    table = Table(
        "chosen_threshold",
        "At the threshold chosen on validation patients",
        ["Threshold", "Dice", "Volume difference (mL)", "Absolute volume difference (mL)"],
    )
    picked = sorted(set(rows["chosen_threshold"]))
    for label, dice, volume in (
        ("0.5 (paper)", "dice", "predicted_ml"),
        ("chosen: " + ", ".join(f"{v:g}" for v in picked), "chosen_dice", "chosen_predicted_ml"),
    ):
        difference = rows[volume] - rows["truth_ml"]
        cells = [rows[dice].dropna(), difference, difference.abs()]
        table.rows.append([label, *(spread(v, d) for v, d in zip(cells, (2, 0, 0), strict=True))])
        for name, values in zip(table.columns[1:], cells, strict=True):
            table.median(label, name, values)
    table.notes = [
        "Chosen fold by fold for the highest mean Dice of that fold's validation patients, none of "
        "whom is in this table under that fold; not the paper's method.",
        _who(patients),
    ]
    return [table, target_mismatch(patients, interval, "chosen_target_mismatch")]


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
    )
    for measure, (label, digits) in MEASURES.items():
        a, b = _measure(first, measure), _measure(second, measure)
        p = table.test("cohorts", label, statistics.mann_whitney(a, b), len(a) + len(b))
        table.rows.append([label, spread(a, digits), spread(b, digits), p])
    table.notes = [
        "Medians with IQR; two-sided Mann-Whitney U test.",
        *(f"{cohort.title}: {_who(cohort)}" for cohort in (first, second)),
    ]
    return table
