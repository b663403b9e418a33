"""Table 1: who the patients are; with two cohorts, side by side with P values."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

from numpy.typing import ArrayLike

from data_tools import criteria, flow, groups
from data_tools.grid import UNKNOWN_SIDE
from tf_hypoperfusion.evaluation import statistics
from tf_hypoperfusion.evaluation.report.patients import TERRITORIES, Patients, by_field
from tf_hypoperfusion.evaluation.report.table import ML, Digits, Table, percent
from tf_hypoperfusion.evaluation.statistics import Estimate

Cohorts = Sequence[Patients]
RANKIN = "mrs_90d"
# A patient of this score or less lives without help.
INDEPENDENT = 2


def characteristics(cohorts: Cohorts) -> Table:
    """Make the table.

    Args:
        cohorts: one, or two to be compared.
    """
    two = len(cohorts) == 2
    heads = [f"{cohort.title} (n = {len(cohort)})" for cohort in cohorts]
    table = Table(
        "table1_characteristics",
        "Table 1: Baseline characteristics",
        ["Characteristic", *heads, *(["P value"] if two else [])],
        program=cohorts[0].program,
    )
    for add_rows in ROWS:
        add_rows(table, cohorts)
    table.notes = [
        "Numbers of patients with percentages in parentheses, except * mean ± SD, † median (IQR). "
        "‡ Median (IQR); set to 20 where the core is 0 or the ratio is larger.",
        "Hypoperfusion volume is that of the truth: Tmax ≥ 6 s united with the core.",
        *_rankin_notes(cohorts),
        *_edited(cohorts),
        *_from_raw_series(cohorts),
    ]
    for cohort in cohorts:
        patients = cohort.table["participant_id"].map(groups.patient_of)
        if patients.nunique() < len(cohort):
            table.notes.append(
                f"{cohort.title}: {cohort.counted}. Here and below each visit counts as a patient. "
                "Intervals and P values take them as independent, which visits of one patient are "
                "not: the intervals are too narrow, and the P values too small."
            )
    if two:
        table.notes.append(
            "Welch t test for age, Fisher exact test for tables of 2 x 2, chi-squared test for "
            "larger ones, Mann-Whitney U test for medians; all two sided."
        )
    return table


def _edited(cohorts: Cohorts) -> list[str]:
    """How many segmentations are as computed, and how many a person edited; none if unknown."""
    said = []
    for cohort in cohorts:
        if "truth_from" in cohort.table:
            edited = int((cohort.table["truth_from"] != "Tmax").sum())
            title = f"{cohort.title} " if len(cohorts) > 1 else ""
            said.append(f"{title}{len(cohort) - edited} and {edited}")
    if not said:
        return []
    return [f"Truth as computed and as edited: {'; '.join(said)} (paper: 328 and 85)."]


def _from_raw_series(cohorts: Cohorts) -> list[str]:
    """How many Tmax maps this program made itself; nothing where there is none."""
    found = []
    for cohort in cohorts:
        if "tmax_from" in cohort.table and (made := int(cohort.table["tmax_from"].notna().sum())):
            found.append(
                f"{cohort.title}: Tmax of {made} of {len(cohort)} patients was made of raw "
                "perfusion series by this program. Method, threshold and whether it is calibrated "
                "stand in the column tmax_from of patients.csv."
            )
    return found


def _age(table: Table, cohorts: Cohorts) -> None:
    def cell(cohort: Patients) -> str:
        values = cohort.values("age")
        if not values.size:
            return "n/a (n=0)"
        mean = float(values.mean())
        table.number(cohort.title, "mean age (y)", Estimate(value=mean, n=values.size))
        sd = f"{values.std(ddof=1):.0f}" if values.size > 1 else "n/a"
        return f"{mean:.0f} ± {sd}{_unknown(cohort, 'age')}"

    cells = [cell(cohort) for cohort in cohorts]
    ages = [cohort.values("age") for cohort in cohorts]
    p = statistics.welch_t(*ages) if len(ages) == 2 else None
    _add_tested(table, ["Age (y)*", *cells], p, [of_cohort.size for of_cohort in ages])


def _median(table: Table, cohorts: Cohorts, *, name: str, column: str, digits: Digits = 0) -> None:
    values = [cohort.values(column) for cohort in cohorts]
    for cohort, of_cohort in zip(cohorts, values, strict=True):
        table.median(cohort.title, column, of_cohort)
    cells = [
        table.spread(of_cohort, digits) + _unknown(cohort, column)
        for cohort, of_cohort in zip(cohorts, values, strict=True)
    ]
    _add_ranked(table, [name, *cells], values)


def _rankin(table: Table, cohorts: Cohorts) -> None:
    """Median and share of independent patients, where the scale is known of somebody."""
    scores = [cohort.values(RANKIN) for cohort in cohorts]
    if not any(map(len, scores)):
        return
    _median(table, cohorts, name="Modified Rankin Scale after 90 days†", column=RANKIN)
    counts = [(int((of <= INDEPENDENT).sum()), len(of)) for of in scores]
    cells = []
    for cohort, (k, n) in zip(cohorts, counts, strict=True):
        estimate = Estimate(value=k / n if n else None, n=n, k=k)
        table.number(cohort.title, f"{RANKIN} 0 to {INDEPENDENT}", estimate)
        cells.append(f"{k}/{n} ({percent(k / n)})" if n else "n/a (n=0)")
    p = statistics.contingency([[k for k, _ in counts], [n - k for k, n in counts]])
    row = [f"  0 to {INDEPENDENT}, of those known", *cells]
    _add_tested(table, row, p, [n for _, n in counts])


def _rankin_notes(cohorts: Cohorts) -> list[str]:
    if any(cohort.values(RANKIN).size for cohort in cohorts):
        return []
    return ["The modified Rankin Scale is not recorded."]


def _mismatch_ratio(table: Table, cohorts: Cohorts) -> None:
    ratios = [criteria.mismatch_ratio(c.table["truth_ml"], c.table["core_ml"]) for c in cohorts]
    cells = [table.spread(of_cohort, 1) for of_cohort in ratios]
    _add_ranked(table, ["Mismatch ratio‡", *cells], ratios)


def _mismatched(table: Table, cohorts: Cohorts) -> None:
    counts = _counts(cohorts, "true_target_mismatch", [(1,), (0,)])
    cells = _with_percent(counts[0], cohorts)
    p = statistics.contingency(counts)
    _add_tested(table, ["Mismatched cases", *cells], p, [len(cohort) for cohort in cohorts])


def _categories(
    table: Table, cohorts: Cohorts, *, name: str, column: str, groups: Mapping[str, Sequence[str]]
) -> None:
    counts = _counts(cohorts, column, groups.values())
    head = [name, *("" for _ in cohorts)]
    sizes = [sum(of_cohort) for of_cohort in zip(*counts, strict=True)]
    _add_tested(table, head, statistics.contingency(counts), sizes)
    for label, row in zip(groups, counts, strict=True):
        for cohort, k in zip(cohorts, row, strict=True):
            estimate = Estimate(value=k / len(cohort), n=len(cohort), k=k)
            table.number(cohort.title, f"{name}: {label}", estimate)
        _add(table, [f"  {label}", *_with_percent(row, cohorts)])
    others = _counts(cohorts, column, [flow.OTHER_TERRITORIES])[0]
    if any(others):  # asked for by --other_territories
        _add(table, ["  Another territory", *_with_percent(others, cohorts)])
    unknown = [
        int((cohort.table[column].isna() | (cohort.table[column] == UNKNOWN_SIDE)).sum())
        for cohort in cohorts
    ]
    if any(unknown):
        _add(table, ["  Unknown", *map(str, unknown)])


def _field_strengths(table: Table, cohorts: Cohorts) -> None:
    fields = [by_field(cohort) for cohort in cohorts]
    strengths = sorted({strength for found in fields for strength in found})
    if strengths:
        _add(table, ["Field strength", *("" for _ in cohorts)])
    for strength in strengths:
        counts = [len(found.get(strength, ())) for found in fields]
        _add(table, [f"  {strength:g} T", *map(str, counts)])


ROWS: tuple[Callable[[Table, Cohorts], None], ...] = (
    _age,
    partial(_categories, name="Sex", column="sex", groups={"M": ("M",), "F": ("F",)}),
    partial(_categories, name="Occluded territory", column="occlusion", groups=TERRITORIES),
    partial(
        _categories,
        name="Side of stroke",
        column="side",
        groups={"Left": ("left",), "Right": ("right",), "Bilateral": ("bilateral",)},
    ),
    partial(_median, name="NIHSS score†", column="nihss"),
    partial(_median, name="Core volume (mL)†", column="core_ml", digits=ML),
    partial(_median, name="Hypoperfusion volume (mL)†", column="truth_ml", digits=ML),
    _mismatch_ratio,
    _mismatched,
    _field_strengths,
    _rankin,
)


def _add(table: Table, row: list[str]) -> None:
    """A row without a test."""
    table.rows.append(row + [""] * (len(table.columns) - len(row)))


def _add_tested(table: Table, row: list[str], p: float | None, sizes: Sequence[int]) -> None:
    """A row whose cohorts, of these sizes, are compared where there are two."""
    tested = len(row) < len(table.columns)
    table.rows.append([*row, table.test("cohorts", row[0], p, sizes)] if tested else row)


def _add_ranked(table: Table, row: list[str], values: Sequence[ArrayLike]) -> None:
    """A row of medians, compared where there are two cohorts."""
    tested = [table.test_ranks("cohorts", row[0], *values)] if len(values) == 2 else []
    table.rows.append([*row, *tested])


def _counts(cohorts: Cohorts, column: str, groups: Iterable[Sequence]) -> list[list[int]]:
    """Patients by group and cohort."""
    return [[int(c.table[column].isin(words).sum()) for c in cohorts] for words in groups]


def _with_percent(counts: Sequence[int], cohorts: Cohorts) -> list[str]:
    return [f"{k} ({percent(k / len(c))})" for k, c in zip(counts, cohorts, strict=True)]


def _unknown(cohort: Patients, column: str) -> str:
    count = int(cohort.table[column].isna().sum())
    return f"; {count} unknown" if count else ""
