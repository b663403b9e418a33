"""The paper's statistics, and those it would have needed: intervals, tests, concordance.

Plain numpy and scipy over arrays of patients. Whatever is undefined (an empty group, a constant)
is None, never NaN and never a warning.
"""

import dataclasses
import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from data_tools.concordance import lin
from data_tools.quartiles import Program

CONFIDENCE = 0.95
INTERVALS = ("stata", "wilson", "exact")
# Whose definition of quartiles, and of the test of two groups of ranks, in words.
QUARTILES_BY: dict[Program, str] = {"stata": "Stata's summarize", "scipy": "numpy.percentile"}
RANKS_BY: dict[Program, str] = {"stata": "Stata's ranksum", "scipy": "scipy.stats.mannwhitneyu"}
BOOTSTRAP_SAMPLES = 1999
# Largest cohort whose intervals are BCa; patients drawn for one interval of a larger one, and
# resamples at least; numbers that are held at once.
BCA_PATIENTS = 5000
DRAWN_NUMBERS, LEAST_SAMPLES = 100_000_000, 1000
HELD_NUMBERS = 4_000_000


@dataclasses.dataclass(frozen=True, kw_only=True)
class Estimate:
    """A figure with its 95% interval; ``low`` and ``high`` are None where undefined.

    Attributes:
        value: None if ``n`` is 0.
        low: of the interval.
        high: of the interval.
        n: patients.
        k: patients counted, of a proportion only.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    n: int
    k: int | None = None


def proportion(k: int, n: int, method: str = "stata") -> Estimate:
    """k of n with its 95% interval.

    Args:
        k: patients counted.
        n: patients in all.
        method: ``stata``: logit interval of Stata 15's ``proportion``, which the paper used:
            logit(p) +- t(.975, n - 1) SE / (p (1 - p)), SE = sqrt(p (1 - p) / (n - 1)), taken
            back; it does not exist at k = 0 and k = n, where the exact one is given. ``wilson``:
            score interval. ``exact``: Clopper and Pearson.

    Returns:
        An estimate of n = 0 without values if n is 0.

    Raises:
        ValueError: not 0 <= k <= n, or an unknown method.

    >>> e = proportion(254, 283)
    >>> f"{e.value:.0%} ({e.low:.0%}, {e.high:.0%})"
    '90% (86%, 93%)'
    """
    if method not in INTERVALS:
        raise ValueError(f"interval is {method!r}; expected one of {', '.join(INTERVALS)}")
    if not 0 <= k <= n:
        raise ValueError(f"{k} of {n}; expected 0 <= k <= n")
    if n == 0:
        return Estimate(value=None, n=0, k=0)
    p = k / n
    if method == "stata" and 0 < k < n:
        half = stats.t.ppf((1 + CONFIDENCE) / 2, n - 1) / math.sqrt(p * (1 - p) * (n - 1))
        logit = math.log(p / (1 - p))
        low, high = (1 / (1 + math.exp(-x)) for x in (logit - half, logit + half))
    else:
        kind = "wilson" if method == "wilson" else "exact"
        interval = stats.binomtest(k, n).proportion_ci(CONFIDENCE, method=kind)
        low, high = float(interval.low), float(interval.high)
    return Estimate(value=p, low=low, high=high, n=n, k=k)


def mcnemar_exact(only_first: int, only_second: int) -> float | None:
    """Two-sided exact McNemar test of two classifications of the same patients.

    Args:
        only_first: patients that only the one classed right.
        only_second: patients that only the other classed right.

    Returns:
        P; None if both were right and wrong in the same patients.

    >>> f"{mcnemar_exact(127, 30):.1e}"
    '2.1e-15'
    """
    discordant = only_first + only_second
    if not discordant:
        return None
    return float(stats.binomtest(min(only_first, only_second), discordant, 0.5).pvalue)


def mcnemar_bounds(right_first: int, right_second: int, n: int) -> tuple[float, float]:
    """Least and greatest exact McNemar P that two accuracies on the same n patients allow.

    For results that were printed without their discordant cells.

    >>> low, high = mcnemar_bounds(59, 53, 87)  # paper, Table 2, core equal to 0: printed .38
    >>> round(low, 3), round(high, 2)
    (0.031, 0.53)
    """
    difference = abs(right_first - right_second)
    more, fewer = max(right_first, right_second), min(right_first, right_second)
    values = [mcnemar_exact(difference + both, both) for both in range(min(fewer, n - more) + 1)]
    known = [1.0 if value is None else value for value in values]
    return min(known), max(known)


def mann_whitney(first: ArrayLike, second: ArrayLike, program: Program = "stata") -> float | None:
    """Two-sided P of the Mann-Whitney U test; None if a group is empty.

    Args:
        first: values of a group; those that are not finite are left out.
        second: of the other one.
        program: ``stata``: as ``ranksum``, by the normal approximation with corrected ties, without
            a correction for continuity. ``scipy``: as ``mannwhitneyu`` does unasked, exact in
            small groups without ties and corrected for continuity in others.

    >>> round(mann_whitney([1, 2, 3, 4], [3, 5, 6, 7]), 4)  # U = 1.5, z = -6.5 / sqrt(11.857)
    0.0591
    """
    a, b = _finite(first), _finite(second)
    if not a.size or not b.size:
        return None
    if program == "scipy":
        return _p(stats.mannwhitneyu, a, b)
    return _p(stats.mannwhitneyu, a, b, method="asymptotic", use_continuity=False)


def wilcoxon(differences: ArrayLike) -> float | None:
    """Two-sided P of Wilcoxon's signed rank test on paired differences; None if all are 0."""
    values = _finite(differences)
    if not np.any(values):
        return None
    return _p(stats.wilcoxon, values)


def welch_t(first: ArrayLike, second: ArrayLike) -> float | None:
    """Two-sided P of Welch's t test of two means; None unless both groups vary."""
    a, b = _finite(first), _finite(second)
    if min(a.size, b.size) < 2 or not (np.ptp(a) or np.ptp(b)):
        return None
    return _p(stats.ttest_ind, a, b, equal_var=False)


def share_against(hits: ArrayLike, share: float) -> float | None:
    """Two-sided P of the one-sample t test of 0/1 values against a fixed share.

    The paper's test of its shares of good Dice. None with fewer than two values, or equal ones.
    """
    values = np.asarray(hits, float)
    if values.size < 2 or not np.ptp(values):
        return None
    return _p(stats.ttest_1samp, values, share)


def contingency(table: Sequence[Sequence[int]]) -> float | None:
    """Two-sided P of a table of counts: Fisher's exact test for 2 x 2, otherwise chi-squared.

    Rows and columns without a patient are left out; None if fewer than two of either remain.

    >>> round(contingency([[207, 18], [206, 28]]), 2)  # paper, Table 1, sex: printed .17
    0.17
    """
    counts = np.asarray(table)
    counts = counts[counts.any(axis=1)][:, counts.any(axis=0)]
    if min(counts.shape) < 2:
        return None
    if counts.shape == (2, 2):
        return float(stats.fisher_exact(counts)[1])
    return float(stats.chi2_contingency(counts, correction=False)[1])


def concordance(x: ArrayLike, y: ArrayLike) -> Estimate:
    """Lin's concordance correlation coefficient with the interval of its z transform.

    rho_c = 2 s_xy / (s_x^2 + s_y^2 + (mean x - mean y)^2), moments over n (Lin, Biometrics
    1989;45:255 and its correction of 2000).

    Returns:
        Without value if fewer than 3 pairs, or if either does not vary.

    >>> round(concordance([1, 2, 3, 4], [2, 3, 4, 5]).value, 4)  # 2 * 1.25 / (1.25 + 1.25 + 1)
    0.7143
    """
    a, b = np.asarray(x, float), np.asarray(y, float)
    n = a.size
    if n < 3 or not np.ptp(a) or not np.ptp(b):
        return Estimate(value=None, n=n)
    rho = lin(a, b)
    r = float(np.clip(np.corrcoef(a, b)[0, 1], -1, 1))
    if abs(rho) >= 1 - 1e-12 or abs(r) < 1e-12:
        return Estimate(value=rho, n=n)
    shift = (a.mean() - b.mean()) ** 2 / (a.std() * b.std())
    variance = (
        (1 - r**2) * rho**2 / ((1 - rho**2) * r**2)
        + 2 * rho**3 * (1 - rho) * shift / (r * (1 - rho**2) ** 2)
        - rho**4 * shift**2 / (2 * r**2 * (1 - rho**2) ** 2)
    ) / (n - 2)
    half = stats.norm.ppf((1 + CONFIDENCE) / 2) * math.sqrt(max(variance, 0.0))
    z = math.atanh(rho)
    return Estimate(value=rho, low=math.tanh(z - half), high=math.tanh(z + half), n=n)


def bootstrap(
    samples: Sequence[ArrayLike],
    statistic: Callable[..., float],
    seed: int = 1,
    count: int = BOOTSTRAP_SAMPLES,
) -> Estimate:
    """A statistic over patients with its bootstrap interval; patients are drawn, not voxels.

    The interval is BCa (bias-corrected and accelerated), as the smaller cohorts want it. Beyond
    :data:`BCA_PATIENTS`, where leaving out each patient in turn would take longest and corrects
    next to nothing, it is that of the percentiles, of fewer resamples.

    Args:
        samples: one array or several of equal length: the same patients in each.
        statistic: of those arrays, a number.
        seed: of the resampling.
        count: resamples, of cohorts that are not large.

    Returns:
        Without value if there is no patient; without interval if fewer than three, or if the
        statistic does not vary.
    """
    arrays = [np.asarray(sample, float) for sample in samples]
    n = arrays[0].size
    if not n:
        return Estimate(value=None, n=0)
    value = float(statistic(*arrays))
    if n < 3:
        return Estimate(value=value, n=n)
    large = n > BCA_PATIENTS
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = stats.bootstrap(
            arrays,
            statistic,
            n_resamples=_large_samples(n, count) if large else count,
            batch=max(1, HELD_NUMBERS // n),
            confidence_level=CONFIDENCE,
            paired=len(arrays) > 1,
            vectorized=False,
            method="percentile" if large else "BCa",
            rng=np.random.default_rng(seed),
        ).confidence_interval
    low, high = float(found.low), float(found.high)
    if not (math.isfinite(low) and math.isfinite(high)):
        return Estimate(value=value, n=n)
    return Estimate(value=value, low=low, high=high, n=n)


def bootstrap_method(n: int) -> str:
    """How :func:`bootstrap` finds the interval of so many patients, in words.

    >>> bootstrap_method(413), bootstrap_method(100_000)
    ('BCa, 1999 resamples', 'percentiles of 1000 resamples')
    """
    if n <= BCA_PATIENTS:
        return f"BCa, {BOOTSTRAP_SAMPLES} resamples"
    return f"percentiles of {_large_samples(n, BOOTSTRAP_SAMPLES)} resamples"


def _large_samples(n: int, count: int) -> int:
    return max(LEAST_SAMPLES, min(count, DRAWN_NUMBERS // n))


def median_estimate(values: ArrayLike, seed: int = 1) -> Estimate:
    """Median with its bootstrap interval."""
    return bootstrap([_finite(values)], np.median, seed)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Classification:
    """A yes/no decision against the truth; counts, and the five figures of Table 2."""

    true_positive: int
    false_negative: int
    true_negative: int
    false_positive: int

    @property
    def n(self) -> int:
        """Patients classed."""
        return self.true_positive + self.false_negative + self.true_negative + self.false_positive

    def figures(self, method: str = "stata") -> dict[str, Estimate]:
        """Sensitivity, specificity, PPV, NPV and accuracy, each with its interval."""
        tp, fn = self.true_positive, self.false_negative
        tn, fp = self.true_negative, self.false_positive
        return {
            "sensitivity": proportion(tp, tp + fn, method),
            "specificity": proportion(tn, tn + fp, method),
            "ppv": proportion(tp, tp + fp, method),
            "npv": proportion(tn, tn + fn, method),
            "accuracy": proportion(tp + tn, self.n, method),
        }


def classify(decision: NDArray[np.bool_], truth: NDArray[np.bool_]) -> Classification:
    """Count a decision against the truth; both bool (n,)."""
    decision, truth = np.asarray(decision, bool), np.asarray(truth, bool)
    return Classification(
        true_positive=int((decision & truth).sum()),
        false_negative=int((~decision & truth).sum()),
        true_negative=int((~decision & ~truth).sum()),
        false_positive=int((decision & ~truth).sum()),
    )


def _p(test: Callable[..., Any], *arguments: Any, **options: Any) -> float | None:
    """P of a scipy test; None, and no warning, where it is undefined."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        p = float(test(*arguments, **options).pvalue)
    return p if math.isfinite(p) else None


def _finite(values: ArrayLike) -> NDArray[np.float64]:
    array = np.asarray(values, float)
    return array[np.isfinite(array)]
