"""Statistics against the paper's printed figures, statsmodels, and calculations by hand."""

import math
import warnings

import numpy as np
import pytest
from scipy import stats

from tf_hypoperfusion.evaluation import statistics
from tf_hypoperfusion.evaluation.statistics import classify, proportion

pytestmark = pytest.mark.quick

# (k, n, low, high) as printed in Yu et al. 2023, whole percent.
PRINTED = [
    (254, 283, 86, 93), (100, 130, 69, 83), (140, 281, 44, 56), (116, 130, 83, 94),
    (354, 413, 82, 89), (256, 411, 57, 67), (264, 281, 90, 96), (97, 130, 66, 81),
    (44, 46, 83, 99), (19, 46, 28, 56),
]  # fmt: skip


@pytest.mark.parametrize(("k", "n", "low", "high"), PRINTED)
def test_the_papers_intervals_come_out_to_the_whole_percent(k, n, low, high):
    found = proportion(k, n)
    assert (round(100 * found.low), round(100 * found.high)) == (low, high)


def test_no_method_gives_the_papers_interval_of_either_or():
    # Printed 84, 90 for 361 of 411; a slip of the paper: every method gives 91.
    for method in statistics.INTERVALS:
        found = proportion(361, 411, method)
        assert (round(100 * found.low), round(100 * found.high)) == (84, 91)


@pytest.mark.parametrize(("method", "name"), [("wilson", "wilson"), ("exact", "beta")])
@pytest.mark.parametrize(("k", "n"), [(0, 7), (3, 7), (7, 7), (254, 283), (1, 1000)])
def test_wilson_and_exact_intervals_are_those_of_statsmodels(method, name, k, n):
    confint = pytest.importorskip("statsmodels.stats.proportion").proportion_confint
    found = proportion(k, n, method)
    assert (found.low, found.high) == pytest.approx(confint(k, n, method=name), abs=1e-9)


@pytest.mark.parametrize("k", [0, 20])
def test_the_logit_interval_falls_back_to_the_exact_one_where_it_does_not_exist(k):
    assert proportion(k, 20) == proportion(k, 20, "exact")


@pytest.mark.parametrize("method", statistics.INTERVALS)
def test_no_patients_have_no_share(method):
    found = proportion(0, 0, method)
    assert (found.value, found.low, found.high, found.n) == (None, None, None, 0)


@pytest.mark.parametrize(("k", "n", "method"), [(3, 2, "stata"), (-1, 2, "stata"), (1, 2, "wald")])
def test_impossible_counts_and_unknown_methods_are_refused(k, n, method):
    with pytest.raises(ValueError, match="expected"):
        proportion(k, n, method)


@pytest.mark.parametrize("cells", [(127, 30), (3, 9), (0, 5), (8, 8)])
def test_mcnemar_is_that_of_statsmodels(cells):
    mcnemar = pytest.importorskip("statsmodels.stats.contingency_tables").mcnemar
    expected = mcnemar([[100, cells[0]], [cells[1], 50]], exact=True).pvalue
    assert statistics.mcnemar_exact(*cells) == pytest.approx(expected, rel=1e-9)


def test_mcnemar_of_the_primary_cohort_and_of_no_difference():
    assert f"{statistics.mcnemar_exact(127, 30):.1e}" == "2.1e-15"
    assert statistics.mcnemar_exact(0, 0) is None


# Table 2: right by the model, right by DAWN, patients classed by both, printed P.
@pytest.mark.parametrize(
    ("model", "dawn", "n", "low", "high"),
    [
        (353, 256, 411, 0, 0.001), (293, 203, 324, 0, 0.001), (59, 53, 87, 0.375, 0.385),
        (272, 183, 292, 0, 0.001), (73, 67, 111, 0.285, 0.295),
    ],
)  # fmt: skip
def test_the_papers_mcnemar_results_lie_within_the_bounds(model, dawn, n, low, high):
    least, greatest = statistics.mcnemar_bounds(model, dawn, n)
    assert least <= high and greatest >= low


def test_mcnemar_bounds_hold_every_possible_table():
    rng = np.random.default_rng(0)
    for _ in range(50):
        first, second = rng.random((2, 40)) < 0.6
        p = statistics.mcnemar_exact(int((first & ~second).sum()), int((~first & second).sum()))
        low, high = statistics.mcnemar_bounds(int(first.sum()), int(second.sum()), 40)
        assert low - 1e-12 <= (1.0 if p is None else p) <= high + 1e-12


def test_concordance_by_hand_and_its_interval_by_simulation():
    x, y = np.array([1.0, 2.0, 3.0, 4.0]), np.array([2.0, 3.0, 4.0, 5.0])
    # Equal variances of 1.25, shift of 1: 2 * 1.25 / (2.5 + 1).
    assert statistics.concordance(x, y).value == pytest.approx(2.5 / 3.5)
    rng = np.random.default_rng(1)
    true, hits = None, 0
    for _ in range(400):
        a = rng.normal(0, 1, 60)
        b = 0.8 * a + rng.normal(0.2, 0.5, 60)
        # var b = .64 + .25, covariance .8, shift .2
        true = 2 * 0.8 / (1 + 0.89 + 0.04)
        found = statistics.concordance(a, b)
        hits += found.low <= true <= found.high
    assert 0.92 <= hits / 400 <= 0.98


def test_concordance_of_equal_volumes_is_one_and_of_constants_nothing():
    assert statistics.concordance([1, 2, 3], [1, 2, 3]).value == 1
    for x, y in (([1, 1, 1], [1, 2, 3]), ([1, 2], [1, 2]), ([], [])):
        assert statistics.concordance(x, y).value is None


def test_bootstrap_covers_the_median_and_is_seeded():
    rng = np.random.default_rng(2)
    values = rng.normal(5, 1, 80)
    found = statistics.median_estimate(values, seed=3)
    assert found == statistics.median_estimate(values, seed=3)
    assert found.low < np.median(values) < found.high
    # The asymptotic interval of a normal median: +- 1.96 * 1.2533 / sqrt(80) = 0.275.
    assert found.high - found.low == pytest.approx(0.55, rel=0.4)


def test_bootstrap_agrees_with_scipys_bca():
    values = np.random.default_rng(4).gamma(2, 10, 50)
    expected = stats.bootstrap(
        (values,), np.mean, n_resamples=2000, method="BCa", rng=np.random.default_rng(9)
    ).confidence_interval
    found = statistics.bootstrap([values], np.mean, seed=1)
    assert (found.low, found.high) == pytest.approx(tuple(expected), rel=0.05)


@pytest.mark.parametrize(
    ("values", "value", "low"), [([], None, None), ([3.0], 3, None), ([2.0] * 9, 2, None)]
)
def test_small_and_constant_samples_have_no_interval_and_give_no_warning(values, value, low):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = statistics.median_estimate(values)
    assert found.value == value and found.low is low


def test_tests_of_groups_are_scipys_and_silent_on_empty_ones():
    a, b = [1.0, 4.0, 6.0, 8.0], [3.0, 9.0, 11.0, float("nan")]
    known = b[:3]
    # Ranks 1 3 4 5 of the first: U = 3 of 12, z = -3 / sqrt(4 * 3 * 8 / 12).
    assert statistics.mann_whitney(a, b) == pytest.approx(2 * stats.norm.sf(3 / math.sqrt(8)))
    assert statistics.welch_t(a, b) == pytest.approx(
        stats.ttest_ind(a, known, equal_var=False).pvalue
    )
    # 5 of the 32 sign patterns have a rank sum of 3 or less, in either tail.
    assert statistics.wilcoxon([1, 2, -3, 4, 5]) == pytest.approx(2 * 5 / 32)
    assert statistics.share_against([1, 1, 1, 0], 0.5) == pytest.approx(
        stats.ttest_1samp([1, 1, 1, 0], 0.5).pvalue
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert statistics.mann_whitney([], b) is None
        assert statistics.welch_t([1.0], b) is None
        assert statistics.wilcoxon([0.0, 0.0]) is None and statistics.wilcoxon([]) is None
        assert statistics.share_against([1, 1, 1], 0.5) is None
        assert statistics.contingency([[0, 0], [3, 4]]) is None


def test_table_1_of_the_paper():
    assert round(statistics.contingency([[207, 18], [206, 28]]), 2) == 0.17
    assert statistics.contingency([[299, 45], [90, 1], [24, 0]]) < 0.001
    assert round(statistics.contingency([[217, 24], [186, 21], [10, 1]]), 2) == 0.99
    assert statistics.contingency([[283, 46], [130, 0]]) < 0.001


def test_classification_counts_and_figures():
    truth = np.array([1, 1, 1, 0, 0, 1], bool)
    decision = np.array([1, 0, 1, 1, 0, 1], bool)
    counted = classify(decision, truth)
    assert counted == statistics.Classification(
        true_positive=3, false_negative=1, true_negative=1, false_positive=1
    )
    figures = counted.figures()
    assert [(figures[name].k, figures[name].n) for name in figures] == [
        (3, 4), (1, 2), (3, 4), (1, 2), (4, 6)
    ]  # fmt: skip
    empty = classify(np.zeros(0, bool), np.zeros(0, bool)).figures()
    assert all(estimate.value is None for estimate in empty.values())


def test_the_ranks_of_scipy_are_exact_in_small_groups():
    # U = 3 of 12: of the 35 ways to draw 4 of 7 ranks, 7 have a U of 3 or less, in either tail.
    a, b = [1, 4, 6, 8], [3, 9, 11]
    assert statistics.mann_whitney(a, b, "scipy") == pytest.approx(2 * 7 / 35)
    assert statistics.mann_whitney([], b, "scipy") is None


def test_a_large_cohort_gets_a_plain_interval_that_agrees(monkeypatch):
    """Where leaving out each patient in turn would take the memory of their square."""
    values = np.random.default_rng(5).gamma(2, 40, 800)
    usual = statistics.median_estimate(values)
    monkeypatch.setattr(statistics, "BCA_PATIENTS", 700)
    monkeypatch.setattr(statistics, "HELD_NUMBERS", 800)  # one resample at a time
    large = statistics.median_estimate(values)
    assert large.value == usual.value and large.n == 800
    width = usual.high - usual.low
    assert abs(large.low - usual.low) < width / 4 and abs(large.high - usual.high) < width / 4
    assert statistics.bootstrap_method(800) == "percentiles of 1999 resamples"
    assert statistics.bootstrap_method(700) == "BCa, 1999 resamples"
