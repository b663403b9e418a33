"""A table of the report: its text, its numbers, and how a number is written.

Every cell says how many patients it counts; what cannot be computed is "n/a (n=0)" or similar. A
group of fewer than five patients gets no P value.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import ArrayLike

from data_tools.quartiles import Program, quartiles
from data_tools.rounding import rounded, with_sign
from tf_hypoperfusion.config import SIGNIFICANT_P
from tf_hypoperfusion.evaluation import statistics
from tf_hypoperfusion.evaluation.statistics import Estimate

if TYPE_CHECKING:  # with pandas, which those who only write numbers do not need
    from tf_hypoperfusion.evaluation.report.patients import Patients

# Behind a P value that the paper would call significant.
MARK = "\u00a7"
MARK_EXPLAINED = f"{MARK} P <= {SIGNIFICANT_P}, which the paper takes as significant."
# So few patients get no P value, and no violin.
LEAST_TESTED = 5
TOO_FEW = f"n < {LEAST_TESTED}"
TOO_FEW_EXPLAINED = f"Groups of fewer than {LEAST_TESTED} patients are not tested ({TOO_FEW})."
# Decimals of a volume: by the one rounding.
ML: Literal["mL"] = "mL"
Digits = int | Literal["mL"]
# Of a decision against the truth, in the order of Table 2.
FIGURES = ("sensitivity", "specificity", "ppv", "npv", "accuracy")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Number:
    """A line of ``statistics.csv``.

    Attributes:
        group: patients that it is of.
        measure: what it is.
        p: of a test.
        estimate: with its interval or quartiles; of a test only the number of patients.
        definition: whose, of quartiles and the Mann-Whitney U test.
    """

    group: str
    measure: str
    p: float | None = None
    estimate: Estimate
    definition: str | None = None

    def cells(self, table: str) -> dict[str, str | float | None]:
        """By column, in the order of the file."""
        about = {"table": table, "group": self.group, "measure": self.measure, "p": self.p}
        return about | dataclasses.asdict(self.estimate) | {"definition": self.definition}


@dataclasses.dataclass
class Table:
    """A table as people read it, and its numbers as programs do.

    Attributes:
        name: of its files.
        title: above it.
        columns: their heads.
        rows: text by row and column.
        notes: below it.
        numbers: for ``statistics.csv``.
        program: whose quartiles and Mann-Whitney U test it has.
        tested: whether it has P values.
        too_few: whether a group was too small for one.
    """

    name: str
    title: str
    columns: list[str]
    _: dataclasses.KW_ONLY
    rows: list[list[str]] = dataclasses.field(default_factory=list)
    notes: list[str] = dataclasses.field(default_factory=list)
    numbers: list[Number] = dataclasses.field(default_factory=list)
    program: Program = "stata"
    tested: bool = False
    too_few: bool = False

    def number(self, group: str, measure: str, estimate: Estimate) -> None:
        """Keep an estimate."""
        self.numbers.append(Number(group=group, measure=measure, estimate=estimate))

    def median(self, group: str, measure: str, values: ArrayLike) -> None:
        """Keep a median with its quartiles."""
        low, middle, high = quartiles(values, self.program) or (None, None, None)
        estimate = Estimate(value=middle, low=low, high=high, n=_known(values))
        self.numbers.append(
            Number(
                group=group,
                measure=f"median (IQR) {measure}",
                estimate=estimate,
                definition=statistics.QUARTILES_BY[self.program],
            )
        )

    def spread(self, values: ArrayLike, digits: Digits) -> str:
        """Median (lower to upper quartile) of the known values, by the table's definition."""
        return quartiles_in_words(quartiles(values, self.program), digits)

    def test(
        self, group: str, measure: str, p: float | None, n: int | Sequence[int], *,
        definition: str | None = None,
    ) -> str:  # fmt: skip
        """Keep a P value, and give it as text.

        Args:
            group: patients that it is of.
            measure: what was tested.
            p: of the test; none is kept where a group is too small.
            n: patients, or those of each group that was compared.
            definition: whose test it is.
        """
        sizes = [n] if isinstance(n, int) else list(n)
        enough = min(sizes) >= LEAST_TESTED
        p = p if enough else None
        nothing = Estimate(value=None, n=sum(sizes))
        self.numbers.append(
            Number(group=group, measure=measure, p=p, estimate=nothing, definition=definition)
        )
        self.tested = True
        self.too_few = self.too_few or not enough
        if not enough:
            return TOO_FEW
        return p_value(p) + (MARK if p is not None and p <= SIGNIFICANT_P else "")

    def test_ranks(self, group: str, measure: str, first: ArrayLike, second: ArrayLike) -> str:
        """Keep the P of the Mann-Whitney U test of two groups, and give it as text."""
        p = statistics.mann_whitney(first, second, self.program)
        definition = statistics.RANKS_BY[self.program]
        sizes = _known(first), _known(second)
        return self.test(group, measure, p, sizes, definition=definition)

    @property
    def all_notes(self) -> list[str]:
        """The notes, whose definitions the numbers follow, and what the mark of a test means."""
        used = {number.definition for number in self.numbers}
        said = [
            f"{what} as {by[self.program]}."
            for what, by in (
                ("Quartiles (IQR)", statistics.QUARTILES_BY),
                ("Mann-Whitney U test", statistics.RANKS_BY),
            )
            if by[self.program] in used
        ]
        marked = any(MARK in cell for row in self.rows for cell in row)
        explained = [MARK_EXPLAINED] if marked else []
        explained += [TOO_FEW_EXPLAINED] if self.too_few else []
        return [*self.notes, *([" ".join(said)] if said else []), *explained]


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


def counted_spread(values: ArrayLike, digits: int) -> str:
    """Median (lower to upper quartile) of the known values, with their number.

    >>> counted_spread([1.0, 2.0, 3.0], 1), counted_spread([], 1)
    ('2.0 (IQR 1.0 to 3.0, n=3)', 'n/a (n=0)')
    """
    return quartiles_in_words(quartiles(values), digits, _known(values))


def _known(values: ArrayLike) -> int:
    return int(np.isfinite(np.asarray(values, float)).sum())


def quartiles_in_words(found: Sequence[float] | None, digits: Digits, n: int | None = None) -> str:
    """Lower quartile, median and upper quartile of ``n`` values, or of a number not told; None for
    no value.

    >>> quartiles_in_words((-1.5, -0.3, 2.0), 0), quartiles_in_words((1, 2, 3), 1)
    ('0 (−2 to 2)', '2.0 (1.0 to 3.0)')
    >>> quartiles_in_words((-66.3, 4.25, 197), ML)
    '4.2 (−66 to 197)'
    """
    if found is None:
        return "n/a (n=0)"
    low, middle, high = (_figure(value, digits) for value in found)
    if n is None:
        return f"{middle} ({low} to {high})"
    return f"{middle} (IQR {low} to {high}, n={n})"


def with_interval(estimate: Estimate, digits: Digits = 2) -> str:
    """Value (low to high)."""
    if estimate.value is None:
        return f"n/a (n={estimate.n})"
    value = _figure(estimate.value, digits)
    if estimate.low is None or estimate.high is None:
        return f"{value} (no interval, n={estimate.n})"
    return f"{value} ({_figure(estimate.low, digits)} to {_figure(estimate.high, digits)})"


def who_counts(patients: "Patients") -> str:
    """Which patients are in which figure, in words."""
    none = int((patients.table["truth_ml"] == 0).sum())
    return (
        f"{len(patients)} patients; {none} without a hypoperfusion lesion leave every figure of "
        "overlap and AUC and stay in the volume differences."
    )


def _figure(value: float, digits: Digits) -> str:
    """A figure, and no minus before a zero."""
    if digits == ML:
        return rounded(value)
    return with_sign(round(value, digits) + 0.0, digits)
