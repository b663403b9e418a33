"""The paper's figures for an evaluated cohort.

Each function returns a matplotlib figure, or in words why there is none.
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from data_tools import criteria, flow
from data_tools.criteria import DEFUSE3
from data_tools.pictures import SKY_BLUE, VERMILION
from data_tools.quartiles import METHODS, quartiles
from data_tools.rounding import with_sign
from tf_hypoperfusion.config import GOOD_DICE, PROBABILITY_THRESHOLD
from tf_hypoperfusion.evaluation import statistics, thresholds
from tf_hypoperfusion.evaluation.patient_metrics import PAPER_STEP, STEPS, ThresholdCounts
from tf_hypoperfusion.evaluation.report import examples, patient_flow
from tf_hypoperfusion.evaluation.report.patients import LVO, Patients, subgroups
from tf_hypoperfusion.evaluation.report.table import LEAST_TESTED
from tf_hypoperfusion.evaluation.statistics import classify
from tf_hypoperfusion.inference import wording

# Okabe and Ito: told apart by colour-blind readers too. Orange, bluish green and reddish purple are
# the truth, the prediction and the core, in pictures only.
BLUE, RED, GREY = "#0072B2", VERMILION, "#666666"
NO_COUNTS = "no thresholds.npz beside patients.csv; evaluate again"
# Ten equal bins of predicted probability, as scikit-learn's calibration_curve.
CALIBRATION_BINS = 10
CALIBRATED_FROM = 0.1
POINT_AREA, DOT = 46, 9  # in points: of a patient, squared; of a mark on a curve


def new(columns: int = 1, width: float = 5.2, height: float = 4.6):
    """An empty figure, and its axes beside each other."""
    figure = Figure(figsize=(columns * width, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, columns, squeeze=False)[0]
    for each in axes:
        each.spines[["top", "right"]].set_visible(False)
    return figure, axes


def core_and_dice(patients: Patients) -> Figure | str:
    """Figure S3: baseline core volume against Dice."""
    rows = patients.table[patients.table["dice"].notna()]
    if rows.empty:
        return "no patient with a lesion"
    figure, (axes,) = new()
    lvo, known = (rows["occlusion"].isin(words) for words in (LVO, flow.TERRITORIES))
    for members, colour, marker, label in (
        (rows[lvo], BLUE, "o", "Large vessel occlusion"),
        (rows[known & ~lvo], RED, "^", "No large vessel occlusion"),
        (rows[~known], GREY, "s", "Unknown, or another territory"),
    ):
        if members.empty:
            continue
        axes.scatter(
            members["core_ml"], members["dice"], s=POINT_AREA, c=colour, marker=marker, alpha=0.7,
            label=f"{label} (n={len(members)})", linewidths=0,
        )  # fmt: skip
    axes.axhline(GOOD_DICE, color=GREY, lw=1, ls="--")
    axes.set(xlabel="Baseline core volume (mL)", ylabel="Dice", ylim=(-0.02, 1.02))
    axes.legend(frameon=False, fontsize=8)
    return figure


def volumes(patients: Patients) -> Figure | str:
    """Figure S2: predicted against true volume, and their Bland-Altman plot."""
    true, predicted = (patients.table[name].to_numpy() for name in ("truth_ml", "predicted_ml"))
    figure, (left, right) = new(2)
    rho = statistics.concordance(true, predicted)
    left.scatter(true, predicted, s=POINT_AREA, c=BLUE, alpha=0.6, linewidths=0)
    top = 1.05 * max(true.max(), predicted.max(), 1)
    left.plot([0, top], [0, top], color=GREY, lw=1, ls="--", label="identity")
    text = f"n = {len(true)}"
    if rho.value is not None:
        text += f", concordance {with_sign(rho.value, 2)}"
        if rho.low is not None and rho.high is not None:
            text += f" (95% CI {with_sign(rho.low, 2)}, {with_sign(rho.high, 2)})"
    left.set(
        xlabel="True volume (mL)", ylabel="Predicted volume (mL)", xlim=(0, top), ylim=(0, top),
        title=text,
    )  # fmt: skip
    left.title.set_fontsize(9)
    left.legend(frameon=False, fontsize=8)
    mean, difference = (true + predicted) / 2, predicted - true
    right.scatter(mean, difference, s=POINT_AREA, c=BLUE, alpha=0.6, linewidths=0)
    bias = difference.mean()
    right.axhline(bias, color=RED, lw=1.2, label=f"mean {wording.ml(bias)}")
    if len(true) > 1:
        sd = difference.std(ddof=1)
        for sign in (-1.96, 1.96):
            right.axhline(
                bias + sign * sd, color=RED, lw=1, ls="--",
                label=f"mean {'+' if sign > 0 else '−'} 1.96 SD: {wording.ml(bias + sign * sd)}",
            )  # fmt: skip
    right.set(xlabel="Mean of both (mL)", ylabel="Predicted − true (mL)", title="Bland-Altman")
    right.legend(edgecolor="none", framealpha=0.85, fontsize=8)
    return figure


def roc_and_precision_recall(patients: Patients) -> Figure | str:
    """Voxels of the stroke hemisphere: each patient's curve, and the median patient's."""
    if patients.counts is None:
        return NO_COUNTS
    curves = [(c.roc(), c.precision_recall()) for c in patients.counts]
    known = [(roc, pr) for roc, pr in curves if roc is not None and pr is not None]
    if not known:
        return "no patient with a lesion"
    figure, (left, right) = new(2)
    grid = np.linspace(0, 1, 201)
    # Curves run from threshold 0 (everything) down; interpolation wants rising x.
    sensitivity = [np.interp(grid, roc[0][::-1], roc[1][::-1]) for roc, _ in known]
    precision = [np.interp(grid, pr[1][::-1], pr[0][::-1]) for _, pr in known]
    method = METHODS[patients.program]
    for axes, lines in ((left, sensitivity), (right, precision)):
        low, middle, high = np.percentile(lines, [25, 50, 75], axis=0, method=method)
        axes.fill_between(grid, low, high, color=BLUE, alpha=0.2, label="IQR over patients")
        axes.plot(grid, middle, color=BLUE, lw=2, label=f"median over {len(lines)} patients")
    paper = f"median at {PROBABILITY_THRESHOLD:g} (paper)"
    at_paper = [(roc[0][PAPER_STEP], roc[1][PAPER_STEP]) for roc, _ in known]
    left.plot(*np.median(at_paper, axis=0), "o", color=RED, ms=DOT, label=paper)
    left.plot([0, 1], [0, 1], color=GREY, lw=1, ls="--")
    left.set(xlabel="1 − specificity", ylabel="Sensitivity", title="ROC")
    at_paper = [(pr[1][PAPER_STEP], pr[0][PAPER_STEP]) for _, pr in known]
    right.plot(*np.median(at_paper, axis=0), "o", color=RED, ms=DOT, label=paper)
    right.set(xlabel="Recall", ylabel="Precision", title="Precision and recall", ylim=(0, 1.02))
    for axes in (left, right):
        axes.legend(frameon=False, fontsize=8, loc="lower right" if axes is left else "best")
    return figure


def calibration(
    counts: list[ThresholdCounts],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], float]:
    """How often voxels of a predicted probability are in the lesion; all voxels of all patients.

    Returns:
        Mean prediction, observed share and voxels in each of ten equal bins that holds any, and
        the expected calibration error: the mean distance of the two, weighted by voxels. A
        probability is known to 0.001; the middle of that step is taken.
    """
    total = np.sum([count.covered for count in counts], axis=0)
    centres = np.minimum((np.arange(STEPS + 1) + 0.5) / STEPS, 1.0)
    which = np.minimum(np.arange(STEPS + 1) * CALIBRATION_BINS // STEPS, CALIBRATION_BINS - 1)
    voxels = np.bincount(which, total.sum(axis=0), CALIBRATION_BINS).astype(np.float64)
    lesion = np.bincount(which, total[1], CALIBRATION_BINS)
    predicted = np.bincount(which, total.sum(axis=0) * centres, CALIBRATION_BINS)
    there = voxels > 0
    mean, observed = predicted[there] / voxels[there], lesion[there] / voxels[there]
    error = float(np.average(np.abs(mean - observed), weights=voxels[there]))
    return mean, observed, voxels[there], error


def calibration_from(counts: list[ThresholdCounts], least: float = CALIBRATED_FROM) -> float | None:
    """The calibration error of voxels from a probability on; None if there are none.

    Nine of ten voxels have a probability below 0.1 and are easy: without them the error says more.
    """
    low = round(least * STEPS)
    kept = [dataclasses.replace(count, covered=count.covered.copy()) for count in counts]
    for count in kept:
        count.covered[:, :low] = 0
    return calibration(kept)[3] if any(count.covered.any() for count in kept) else None


def reliability(patients: Patients) -> Figure | str:
    """Reliability diagram with the expected calibration error."""
    if patients.counts is None:
        return NO_COUNTS
    mean, observed, voxels, error = calibration(patients.counts)
    figure, (left, right) = new(2)
    left.plot([0, 1], [0, 1], color=GREY, lw=1, ls="--")
    left.plot(mean, observed, "o-", color=BLUE)
    left.set(
        xlabel="Predicted probability", ylabel="Share of voxels in the lesion",
        xlim=(0, 1), ylim=(0, 1),
        title=f"Expected calibration error {error:.3f} ({voxels.sum():,.0f} voxels)",
    )  # fmt: skip
    left.title.set_fontsize(9)
    right.bar(mean, voxels, width=0.06, color=BLUE)
    right.set(xlabel="Predicted probability", ylabel="Voxels", yscale="log", xlim=(0, 1))
    return figure


def dice_by_subgroup(patients: Patients) -> Figure | str:
    """Violins of Dice with quartiles, one for each subgroup of Table 3."""
    groups = {name: members.values("dice") for name, members in subgroups(patients).items()}
    shown = {
        name: (q, values)
        for name, values in groups.items()
        if (q := quartiles(values, patients.program))
    }
    if not shown:
        return "no patient with a lesion"
    figure, (axes,) = new(width=8.5)
    places = np.arange(len(shown))
    for place, ((low, middle, high), values) in zip(places, shown.values(), strict=True):
        if values.size < LEAST_TESTED:
            axes.plot(np.full(values.size, place), values, "o", color=BLUE, ms=DOT)
            continue
        if np.ptp(values) > 0:
            body = axes.violinplot(values, [place], widths=0.8, showextrema=False)["bodies"][0]
            body.set(facecolor=BLUE, alpha=0.3)
        axes.vlines(place, low, high, color=BLUE, lw=4)
        axes.plot(place, middle, "o", color="white", markeredgecolor=BLUE, ms=DOT)
    labels = [f"{name}\n(n = {values.size})" for name, (_, values) in shown.items()]
    axes.set_xticks(places, [label.replace("Baseline ", "") for label in labels], fontsize=8)
    axes.axhline(GOOD_DICE, color=GREY, lw=1, ls="--")
    axes.set(ylabel="Dice", ylim=(-0.02, 1.02))
    return figure


def operating_curves(patients: Patients) -> Figure | str:
    """What the probability threshold, and the required mismatch in mL, do to the decision."""
    if patients.counts is None:
        return NO_COUNTS
    truth = patients.table["true_target_mismatch"].to_numpy() == 1
    core = patients.table["core_ml"].to_numpy()
    bins = np.arange(20, STEPS, 20)
    decisions = thresholds.target_mismatch(patients.counts, core, bins)
    figure, (left, right) = new(2, width=6)
    _decision_curves(left, bins / STEPS, decisions, truth)
    curves = [c for count in patients.counts if (c := count.dice()) is not None]
    if curves:
        dice = np.median(np.array(curves)[:, bins], axis=0)
        left.plot(bins / STEPS, dice, color=RED, lw=2, label="median Dice")
    left.axvline(PROBABILITY_THRESHOLD, color=GREY, lw=1, ls="--")
    left.set(xlabel=f"Probability threshold ({PROBABILITY_THRESHOLD:g}: paper)", ylim=(0, 1.02))
    # The other two criteria of DEFUSE 3 stay as they are.
    predicted = patients.table["predicted_ml"].to_numpy()
    ratio_met, _, core_met = criteria.defuse3(predicted, core)
    required = np.arange(0, 151, 2.5)
    decisions = (ratio_met & core_met)[:, np.newaxis] & (
        (predicted - core)[:, np.newaxis] >= required
    )
    _decision_curves(right, required, decisions, truth)
    right.axvline(DEFUSE3.min_difference_ml, color=GREY, lw=1, ls="--")
    right.set(
        xlabel=f"Required mismatch in mL ({DEFUSE3.min_difference_ml:g}: DEFUSE 3)", ylim=(0, 1.02)
    )
    for axes in (left, right):
        axes.legend(frameon=False, fontsize=8)
    return figure


def _decision_curves(axes, x, decisions: NDArray[np.bool_], truth: NDArray[np.bool_]) -> None:
    counted = [classify(decisions[:, j], truth).figures() for j in range(decisions.shape[1])]
    for measure, colour, style in (
        ("sensitivity", BLUE, "-"), ("specificity", SKY_BLUE, "--"), ("accuracy", GREY, "-."),
    ):  # fmt: skip
        values = [each[measure].value for each in counted]
        if values[0] is not None:  # no patient with, or none without, target mismatch
            axes.plot(x, values, color=colour, ls=style, lw=2, label=measure)


class Kind(NamedTuple):
    """A figure of the report: its title, what draws it, and what its reader should know."""

    title: str
    draw: Callable[[Patients], Figure | str]
    caption: str


_EXAMPLE = (
    "Outlined in orange: measured. Outlined in green: predicted. The slices are those that show "
    "most of both."
)
_AT = f"{PROBABILITY_THRESHOLD:g}"
FIGURES: dict[str, Kind] = {
    "flow": Kind(
        "Flow of patients",
        patient_flow.chart,
        "Who came in, who was left out at which step and why, and who was evaluated.",
    ),
    "edited": Kind(
        "Segmentations as computed and as edited (Figure S1)",
        examples.edited,
        "The patients whose truth was edited most, least, and in between.",
    ),
    "core_and_dice": Kind(
        "Baseline core volume and Dice",
        core_and_dice,
        f"Each mark is a patient with a measured lesion. The dashed line is a Dice of "
        f"{GOOD_DICE:g}, above which the paper calls the overlap good. The published "
        "model was weaker where the core was small.",
    ),
    "volumes": Kind(
        "Predicted against true volume",
        volumes,
        "Each point is a patient. Left: on the dashed line both volumes are equal; the concordance "
        "is Lin's. Right (Bland-Altman): points above 0 are predicted too large; 95% of patients "
        "are expected between the dashed lines if the differences are normally distributed.",
    ),
    "dice_by_subgroup": Kind(
        "Dice by subgroup",
        dice_by_subgroup,
        "Bars run from the lower to the upper quartile, and the white dot is the median. Groups "
        f"of fewer than {LEAST_TESTED} patients are shown as single points, one for each patient. "
        f"The dashed line is a Dice of {GOOD_DICE:g}.",
    ),
    "roc": Kind(
        "ROC, precision and recall of voxels",
        roc_and_precision_recall,
        "Voxels of the stroke hemisphere. Each patient has a curve; the line is the median of "
        "these curves at every place of the horizontal axis, and the band holds the middle half. "
        f"The dot is where the patients stand at the threshold of {_AT}: the median of their "
        "horizontal places and the median of their vertical places. Patients reach this threshold "
        "at different places of their curves, so the dot need not lie on the line.",
    ),
    "reliability": Kind(
        "Reliability of the probability",
        reliability,
        "Left: of all voxels with about this probability, the share that is in the lesion; on the "
        "dashed line the probability is right. Below the line it is too high. Right: how many "
        "voxels each point stands for, on a logarithmic scale. The expected "
        "calibration error weighs each point's distance from the line by these.",
    ),
    "operating": Kind(
        "Operating curves",
        operating_curves,
        "What would become of the decisions if one number were another. Left: the threshold of the "
        "probability. Right: the mismatch that is required, while the ratio and the largest core "
        "stay as they are. The dashed lines are what the paper and DEFUSE 3 use. These are the "
        "test patients, so a number chosen here would flatter itself.",
    ),
    "example_of_lvo": Kind(
        "A patient with and one without large vessel occlusion",
        examples.by_lvo,
        f"The patient of median Dice of each group. {_EXAMPLE}",
    ),
    "examples": Kind("Best, median and worst patient", examples.of_all, f"By Dice. {_EXAMPLE}"),
    "examples_without_core": Kind(
        "Patients with a core of 0 mL",
        examples.without_core,
        f"Best, median and worst by Dice. {_EXAMPLE}",
    ),
    "examples_without_lvo": Kind(
        "Patients without large vessel occlusion",
        examples.without_lvo,
        f"Best, median and worst by Dice. {_EXAMPLE}",
    ),
}
