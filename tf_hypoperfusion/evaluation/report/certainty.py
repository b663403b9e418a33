"""What a calibration is worth on evaluated patients: probability, coverage, who is handed over."""

import dataclasses

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from data_tools import criteria
from data_tools.runtime.errors import InputError
from tf_hypoperfusion.config import PROBABILITY_THRESHOLD
from tf_hypoperfusion.evaluation import calibrating, statistics
from tf_hypoperfusion.evaluation.patient_metrics import STEPS, ThresholdCounts
from tf_hypoperfusion.evaluation.report import figures
from tf_hypoperfusion.evaluation.report.patients import Patients, subgroups
from tf_hypoperfusion.evaluation.report.table import ML, Table, share, who_counts
from tf_hypoperfusion.evaluation.statistics import Estimate
from tf_hypoperfusion.inference import calibration, familiarity
from tf_hypoperfusion.inference.calibration import Calibration

KEPT = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5)
# Under it no mismatch is large enough, over it a core is too large.
LARGE_ML = (criteria.DEFUSE3.min_difference_ml, criteria.DEFUSE3.max_core_ml)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Answers:
    """What predict would have said of evaluated patients.

    Attributes:
        counts: voxels by the calibrated probability.
        predicted_ml: of the calibrated masks.
        low_ml: lower end of the interval.
        high_ml: upper end.
        mismatch_share: with the errors of how many of the calibration's patients it is a mismatch.
        agree: both ends of the interval decide alike.
        unusual: the image is unlike those of the calibration, where that is known.
    """

    counts: list[ThresholdCounts]
    predicted_ml: NDArray[np.float64]
    low_ml: NDArray[np.float64]
    high_ml: NDArray[np.float64]
    mismatch_share: NDArray[np.float64]
    agree: NDArray[np.bool_]
    unusual: NDArray[np.bool_]

    @property
    def likelier(self) -> NDArray[np.bool_]:
        """What more than half of the errors make of each patient; where both ends agree, theirs."""
        return self.mismatch_share >= 0.5

    @property
    def sureness(self) -> NDArray[np.float64]:
        """From 0.5, as many errors for as against, to 1."""
        return np.maximum(self.mismatch_share, 1 - self.mismatch_share)


def answers(patients: Patients, by: Calibration) -> Answers:
    """Calibrate the patients of an evaluation.

    Raises:
        InputError: no voxel counts, or other networks answered.
    """
    networks, _ = calibrating.answered([patients])
    if networks != by.networks:
        raise InputError(
            f"{patients.path}: other networks answered than those that the calibration was made "
            "with; expected an evaluation of the same"
        )
    if patients.counts is None:
        raise InputError(f"{patients.path}: {figures.NO_COUNTS}")
    core_ml = patients.table["core_ml"].to_numpy(float)
    predicted_ml = calibrating.volumes_ml(patients.counts, by)
    low_ml, high_ml = by.interval_ml(predicted_ml)
    ends = (criteria.target_mismatch(end, core_ml) for end in (low_ml, high_ml))
    return Answers(
        counts=[calibrating.calibrated_counts(count, by) for count in patients.counts],
        predicted_ml=predicted_ml,
        low_ml=low_ml,
        high_ml=high_ml,
        mismatch_share=by.mismatch_share(predicted_ml, core_ml),
        agree=np.equal(*ends),
        unusual=np.array(
            [bool(familiarity.unlike(look, by.familiar)) for look in _looks(patients)]
        ),
    )


def _looks(patients: Patients) -> list[dict[str, float]]:
    return patients.looks or [{} for _ in range(len(patients))]


def certainty(patients: Patients, by: Calibration, interval: str) -> list[Table]:
    """Before and after; how often the interval holds the truth; what is right if some are left out.

    Args:
        patients: evaluated, best not those of the calibration.
        by: made with the networks that answered.
        interval: of proportions.
    """
    found = answers(patients, by)
    return [
        _before_and_after(patients, found, by),
        _coverage(patients, found, by, interval=interval),
        _selective(patients, found, by, interval=interval),
    ]


def per_patient(patients: Patients, by: Calibration) -> list[dict[str, str | float]]:
    """A line of ``answers.csv`` for each patient: what predict would have said, and the truth."""
    found = answers(patients, by)
    core_ml = patients.table["core_ml"].to_numpy(float)
    looks = _looks(patients)
    lines: list[dict[str, str | float]] = []
    for k, name in enumerate(patients.table["participant_id"]):
        unusual = familiarity.unlike(looks[k], by.familiar)
        said = calibration.answer(
            by, hypoperfusion_ml=found.predicted_ml[k], core_ml=core_ml[k], unfamiliar=unusual
        )
        lines.append(
            {
                "participant_id": name,
                "truth_ml": patients.table["truth_ml"].iloc[k],
                "core_ml": core_ml[k],
                "predicted_ml": round(float(found.predicted_ml[k]), 2),
                "low_ml": round(float(found.low_ml[k]), 2),
                "high_ml": round(float(found.high_ml[k]), 2),
                "mismatch_with_errors_of": round(float(found.mismatch_share[k]), 3),
                "true_target_mismatch": str(bool(patients.table["true_target_mismatch"].iloc[k])),
                "answer": said.target_mismatch,
                "reasons": "; ".join(said.reasons),
            }
        )
    return lines


def _note(patients: Patients, by: Calibration) -> str:
    there = f"{len(by.root_errors)} patients of {', '.join(by.cohorts)}, answered by {by.by}"
    if calibrating.checksum(patients) in by.tables:
        return f"CALIBRATED ON THESE VERY PATIENTS ({there}): the figures flatter."
    return f"Calibrated on {there}."


def _before_and_after(patients: Patients, found: Answers, by: Calibration) -> Table:
    table = Table(
        "calibration",
        "Before and after calibration",
        ["", "Cut at", "Calibration error (p >= 0.1)", "Dice", "Volume difference (mL)",
         "Mean volume difference (mL)", "Target mismatch right"],
        program=patients.program,
    )  # fmt: skip
    truth_ml, core_ml = (patients.table[name].to_numpy(float) for name in ("truth_ml", "core_ml"))
    for name, counts, cut in (
        ("as the networks say", patients.counts or [], PROBABILITY_THRESHOLD),
        ("calibrated", found.counts, by.cut),
    ):
        step = round(cut * STEPS)
        dice = [curve[step] for count in counts if (curve := count.dice()) is not None]
        volume_ml = np.array([count.volume_ml()[step] for count in counts])
        error = figures.calibration_from(counts)
        right = criteria.target_mismatch(volume_ml, core_ml) == criteria.target_mismatch(
            truth_ml, core_ml
        )
        kept = Estimate(value=error, n=len(counts))
        table.number(name, "calibration error from 0.1", kept)
        table.median(name, "Dice", dice)
        table.median(name, "Volume difference (mL)", volume_ml - truth_ml)
        bias = float(np.mean(volume_ml - truth_ml))
        table.number(name, "mean volume difference (mL)", Estimate(value=bias, n=len(counts)))
        table.number(
            name, "target mismatch right", statistics.proportion(int(right.sum()), len(right))
        )
        table.rows.append(
            [
                name,
                f"{cut:g}",
                "n/a" if error is None else f"{error:.3f}",
                table.spread(dice, 2),
                table.spread(volume_ml - truth_ml, ML),
                f"{bias:.1f}",
                f"{right.sum()}/{len(right)}",
            ]
        )
    table.notes = [_note(patients, by), who_counts(patients)]
    return table


def _coverage(patients: Patients, found: Answers, by: Calibration, *, interval: str) -> Table:
    table = Table(
        "coverage",
        f"How often the interval of {by.coverage:.0%} holds the true volume",
        ["Group", "Inside", "Truth below", "Truth above", "Width (mL)"],
        program=patients.program,
    )
    truth_ml = patients.table["truth_ml"].to_numpy(float)
    below, above = truth_ml < found.low_ml - 1e-6, truth_ml > found.high_ml + 1e-6
    for name, rows in _groups(patients).items():
        inside = statistics.proportion(
            int((~below & ~above)[rows].sum()), int(rows.sum()), interval
        )
        table.number(name, "coverage", inside)
        widths = (found.high_ml - found.low_ml)[rows]
        table.median(name, "width (mL)", widths)
        table.rows.append(
            [
                name,
                share(inside),
                str(below[rows].sum()),
                str(above[rows].sum()),
                table.spread(widths, ML),
            ]
        )
    table.notes = [
        _note(patients, by),
        "The stated coverage is that over patients like the calibration's; within a group it may "
        "be more or less, also among them.",
    ]
    return table


def _groups(patients: Patients) -> dict[str, NDArray[np.bool_]]:
    names = patients.table["participant_id"]
    groups = {
        name: names.isin(members.table["participant_id"]).to_numpy()
        for name, members in subgroups(patients).items()
    }
    truth_ml = patients.table["truth_ml"].to_numpy(float)
    low, high = LARGE_ML
    groups |= {
        f"True volume < {low:g} mL": truth_ml < low,
        f"True volume {low:g} to {high:g} mL": (truth_ml >= low) & (truth_ml < high),
        f"True volume >= {high:g} mL": truth_ml >= high,
    }
    return {name: rows for name, rows in groups.items() if rows.any()}


def _selective(patients: Patients, found: Answers, by: Calibration, *, interval: str) -> Table:
    table = Table(
        "selective",
        "Target mismatch, if the least sure are handed over to perfusion imaging",
        ["Decided", "Right", "Least share of errors that agree"],
    )
    right = found.likelier == (patients.table["true_target_mismatch"].to_numpy() == 1)
    order = np.argsort(-found.sureness, kind="stable")
    for kept in KEPT:
        surest = order[: max(round(kept * len(order)), 1)]
        estimate = statistics.proportion(int(right[surest].sum()), len(surest), interval)
        table.number(f"surest {kept:.0%}", "target mismatch right", estimate)
        least = found.sureness[surest].min()
        table.rows.append([f"surest {kept:.0%}", share(estimate), f"{least:.2f}"])
    for name, rows in (
        ("both ends of the interval agree", found.agree),
        ("and the image is not unusual", found.agree & ~found.unusual),
    ):
        decided = statistics.proportion(int(rows.sum()), len(right), interval)
        table.number(name, "share of patients", decided)
        estimate = statistics.proportion(int(right[rows].sum()), int(rows.sum()), interval)
        table.number(name, "target mismatch right", estimate)
        table.rows.append([f"{name}: {share(decided)}", share(estimate), ""])
    table.notes = [
        _note(patients, by),
        "Each patient is decided by what more than half of the calibration's errors make of the "
        "predicted volume. predict answers yes or no in the last row's patients, else unsure.",
    ]
    return table


def selective_curve(patients: Patients, by: Calibration) -> Figure | str:
    """Share of right decisions against the share of patients that are decided."""
    if patients.counts is None:
        return figures.NO_COUNTS
    found = answers(patients, by)
    right = found.likelier == (patients.table["true_target_mismatch"].to_numpy() == 1)
    order = np.argsort(-found.sureness, kind="stable")
    decided = np.arange(1, len(order) + 1)
    figure, (axes,) = figures.new()
    axes.plot(decided / len(order), np.cumsum(right[order]) / decided, color=figures.BLUE, lw=2)
    if found.agree.any():
        axes.plot(
            found.agree.mean(), right[found.agree].mean(), "o", color=figures.RED, ms=figures.DOT,
            label="both ends of the interval agree",
        )  # fmt: skip
        axes.legend(frameon=False, fontsize=8)
    axes.set(
        xlabel="Share of patients decided, the surest first",
        ylabel="Share of them decided rightly", xlim=(0, 1.02), ylim=(0.45, 1.02),
    )  # fmt: skip
    return figure
