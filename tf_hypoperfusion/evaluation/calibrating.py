"""Evaluated patients -> the calibration of the networks that answered. Numpy code.

The two numbers are those of a logistic regression of truth on the logit of the average probability
(Platt), over voxels from 0.01 on, every patient weighing the same. Nine of ten voxels lie below:
they are easy, and would settle the two numbers among themselves. The cut is that at which the mean
volume is nearest to the true one. Everything is computed from the
counts that an evaluation keeps, so that no network is asked again.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from data_tools.runtime import atomic
from data_tools.runtime.errors import InputError
from tf_hypoperfusion.config import PROBABILITY_THRESHOLD
from tf_hypoperfusion.evaluation.patient_metrics import STEPS, ThresholdCounts
from tf_hypoperfusion.evaluation.report.patients import Patients
from tf_hypoperfusion.inference import calibration, familiarity
from tf_hypoperfusion.inference.calibration import CLIP, Calibration
from tf_hypoperfusion.inference.model_files import ModelInfo, mapping

FROM = 0.01
CROSSED_PARTS = 5
MOST_STEPS, SETTLED = 100, 1e-9
AVERAGE, FOLD = "the networks' average", "the fold that never saw the patient"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Volumes:
    """Of patients: what was predicted with a calibration, and what is true.

    Attributes:
        predicted_ml: of the calibrated mask.
        truth_ml: of the truth.
        core_ml: of the core.
    """

    predicted_ml: NDArray[np.float64]
    truth_ml: NDArray[np.float64]
    core_ml: NDArray[np.float64]


def fit(cohorts: Sequence[Patients], coverage: float) -> Calibration:
    """The calibration of those who answered about evaluated patients.

    Args:
        cohorts: of the same networks; all their patients count alike.
        coverage: of the interval.

    Raises:
        InputError: voxel counts are missing, too few patients, nothing to learn from, or
            evaluations of different networks.
    """
    counts, truth_ml = _patients(cohorts)
    needed = calibration.least_patients(coverage)
    if len(counts) < needed:
        raise InputError(
            f"{len(counts)} patients in all; an interval with a coverage of {coverage:.0%} needs "
            f"at least {needed}, and twice as many to be worth something"
        )
    networks, by = answered(cohorts)
    fitted = Calibration(
        networks=networks,
        slope=1.0,
        intercept=0.0,
        cut=PROBABILITY_THRESHOLD,
        coverage=coverage,
        root_errors=(0.0,) * len(counts),
        familiar=_familiar(cohorts),
        cohorts=tuple(cohort.title for cohort in cohorts),
        by=by,
        tables=tuple(checksum(cohort) for cohort in cohorts),
    )
    return _fitted(fitted, counts, truth_ml)


def _fitted(
    whole: Calibration, counts: Sequence[ThresholdCounts], truth_ml: NDArray[np.float64]
) -> Calibration:
    """A calibration with the numbers of these patients."""
    slope, intercept = regress(counts)
    numbers = dataclasses.replace(whole, slope=slope, intercept=intercept)

    def bias_ml(cut: float) -> float:
        there = volumes_ml(counts, dataclasses.replace(numbers, cut=cut))
        return abs(float(np.mean(there - truth_ml)))

    numbers = dataclasses.replace(numbers, cut=min(calibration.CUTS, key=bias_ml))
    errors = np.sqrt(truth_ml) - np.sqrt(volumes_ml(counts, numbers))
    return dataclasses.replace(numbers, root_errors=tuple(np.sort(errors).round(4).tolist()))


def crossed(cohorts: Sequence[Patients], coverage: float) -> tuple[list[ThresholdCounts], float]:
    """What a calibration is worth: each fifth of the patients by that of the others.

    Returns:
        Counts of the calibrated probability, and the share of patients in the interval.
    """
    counts, truth_ml = _patients(cohorts)
    whole = fit(cohorts, coverage)
    part = np.random.default_rng(0).permutation(len(counts)) % CROSSED_PARTS
    moved: list[ThresholdCounts] = []
    held = 0
    for k in range(CROSSED_PARTS):
        others, own = ([counts[i] for i in np.flatnonzero(part == k if mine else part != k)]
                       for mine in (False, True))  # fmt: skip
        fitted = _fitted(whole, others, truth_ml[part != k])
        low, high = fitted.interval_ml(volumes_ml(own, fitted))
        truth = truth_ml[part == k]
        held += int(((low <= truth) & (truth <= high)).sum())
        moved += [calibrated_counts(count, fitted) for count in own]
    return moved, held / len(counts)


def regress(counts: Sequence[ThresholdCounts]) -> tuple[float, float]:
    """Slope and intercept of the logit, by Newton's method.

    Args:
        counts: of patients; each weighs the same.

    Raises:
        InputError: no voxel, or none of the lesion or outside it, has a probability that counts.
    """
    first = round(FROM * STEPS)
    weighed = np.zeros((2, STEPS + 1 - first))
    for count in counts:
        seen = count.covered[:, first:].astype(np.float64)
        weighed += seen / max(seen.sum(), 1.0)
    logit = _logits()[first:]
    voxels, lesion = weighed.sum(axis=0), weighed[1]
    if not 0 < lesion.sum() < voxels.sum():
        raise InputError(
            f"of the voxels with a probability of at least {FROM} none lies inside a lesion, or "
            "none outside: there is nothing to calibrate on"
        )
    inputs = np.stack([logit, np.ones_like(logit)], axis=1)
    found = np.array([1.0, 0.0])
    for _ in range(MOST_STEPS):
        share = special.expit(inputs @ found)
        gradient = inputs.T @ (lesion - voxels * share)
        curvature = (inputs * (voxels * share * (1 - share))[:, np.newaxis]).T @ inputs
        step = np.linalg.solve(curvature + 1e-12 * np.eye(2), gradient)
        found = found + step
        if np.abs(step).max() < SETTLED:
            break
    if not np.isfinite(found).all() or found[0] <= 0:
        raise InputError(
            "where the networks find hypoperfusion more probable it is not more frequent in these "
            "patients: no calibration makes their probability one"
        )
    return float(found[0]), float(found[1])


def volumes_ml(counts: Sequence[ThresholdCounts], by: Calibration) -> NDArray[np.float64]:
    """mL of the calibrated masks, to a step of 0.001 of the average probability."""
    return np.array([count.volume_ml()[_first(by)] for count in counts])


def _first(by: Calibration) -> int:
    """The first step of the average probability that is cut as hypoperfused."""
    return int(np.ceil(by.average_at_cut * STEPS - 1e-9))


def calibrated_counts(count: ThresholdCounts, by: Calibration) -> ThresholdCounts:
    """The counts that the calibrated probability would give, to a step of 0.001 of the average."""
    moved = by.probability(_centres().astype(np.float32)).astype(np.float64)
    bins = np.floor(moved * STEPS + 1e-9).astype(np.int64)
    cut, first = round(by.cut * STEPS), _first(by)
    bins[first:], bins[:first] = np.maximum(bins[first:], cut), np.minimum(bins[:first], cut - 1)
    bins[0] = 0  # all that lies outside tissue is there

    def move(values: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.stack(
            [np.bincount(bins, row, STEPS + 1).round().astype(np.int64) for row in values]
        )

    return ThresholdCounts(move(count.covered), move(count.hemisphere), count.voxel_ml)


def _centres() -> NDArray[np.float64]:
    return np.minimum((np.arange(STEPS + 1) + 0.5) / STEPS, 1 - CLIP)


def _logits() -> NDArray[np.float64]:
    centres = _centres()
    return np.log(centres / (1 - centres))


def _patients(cohorts: Sequence[Patients]) -> tuple[list[ThresholdCounts], NDArray[np.float64]]:
    counts: list[ThresholdCounts] = []
    for cohort in cohorts:
        if cohort.counts is None:
            raise InputError(
                f"{cohort.path}: no thresholds.npz beside it; evaluate again with "
                "python -m tf_hypoperfusion.evaluate"
            )
        counts += cohort.counts
    return counts, np.concatenate([cohort.table["truth_ml"].to_numpy(float) for cohort in cohorts])


def _familiar(cohorts: Sequence[Patients]) -> dict[str, tuple[float, float]]:
    """What is not unusual of an image; {} where an evaluation did not keep it."""
    if any(cohort.looks is None for cohort in cohorts):
        return {}
    return familiarity.ranges([look for cohort in cohorts for look in cohort.looks or ()])


def checksum(cohort: Patients) -> str:
    """Of what an evaluation keeps of its patients."""
    return atomic.sha256(cohort.path.with_name("thresholds.npz"))


def answered(cohorts: Sequence[Patients]) -> tuple[tuple[str, ...], str]:
    """The networks that answered, and whether each alone or their average.

    Raises:
        InputError: nobody knows, or evaluations of different networks.
    """
    found = [_about(cohort) for cohort in cohorts]
    if len(set(found)) > 1:
        raise InputError(
            "the evaluations are not of the same networks in the same way (each fold for its own "
            "patients, or the average); expected those of one run, or external cohorts of it"
        )
    return found[0]


def _about(cohort: Patients) -> tuple[tuple[str, ...], str]:
    path = cohort.path.with_name("evaluation.json")
    about: Mapping[str, Any] = atomic.read_json(path)
    models = [mapping(model) for model in about.get("models") or []]
    if not models or not all(isinstance(model.get("sha256"), str) for model in models):
        raise InputError(f"{path}: does not say which networks answered; evaluate again")
    infos = [
        ModelInfo(
            path=str(model.get("path")),
            sha256=model["sha256"],
            cohort=None,
            networks=tuple(map(str, model.get("networks") or ())) or None,
        )
        for model in models
    ]
    return calibration.checksums(infos), AVERAGE if about.get("external") else FOLD
