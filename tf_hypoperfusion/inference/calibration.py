"""What validation patients say of a model: honest probabilities, an interval of mL, or "unsure".

Two numbers turn the networks' average probability into one that is as often right as it says. Such
a probability is seldom over 0.5 where a lesion is faint, so that a mask cut there is too small; a
third number says where to cut for volumes that are right on average. The errors of these volumes
give an interval that holds the true volume of a stated share of patients (split conformal: exact on
average over patients of the same kind, and nothing is promised about others). Where the ends of the
interval decide differently, or the image is unlike those patients', the answer is that perfusion
imaging would tell.
"""

import dataclasses
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from data_tools import criteria
from data_tools.runtime import atomic, errors
from data_tools.runtime.errors import InputError
from tf_hypoperfusion.inference.model_files import ModelInfo, mapping
from tf_hypoperfusion.inference.result import Answer
from tf_hypoperfusion.inference.wording import rounded

FILE = "calibration.json"
# Of probabilities whose logit is taken; 0 itself, outside tissue, stays 0.
CLIP = 1e-6
# The steps of the threshold's slider on the page.
CUTS = tuple(step / 20 for step in range(1, 20))
LEAST_COVERAGE, MOST_COVERAGE = 0.5, 0.99
TELLS = "perfusion imaging would tell"
NO_CORE_KNOWN = "the core needs DWI and ADC"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Calibration:
    """What is kept of validation patients, in a file or in a model's card.

    Attributes:
        networks: checksums of the networks whose average was calibrated, sorted.
        slope: times the logit of the average probability.
        intercept: added to it.
        cut: calibrated probability from which on a voxel counts as hypoperfused.
        coverage: share of patients whose true volume the interval is to hold.
        root_errors: sorted, of each patient the root of the true minus the root of the calibrated
            mL: larger volumes have larger errors.
        familiar: measures of the patients' images: lowest and highest that are not unusual.
        cohorts: whose patients they are.
        by: who had answered about them: the average, or the fold that never saw the patient.
        tables: checksums of what the evaluations keep of these patients.
    """

    networks: tuple[str, ...]
    slope: float
    intercept: float
    cut: float
    coverage: float
    root_errors: tuple[float, ...]
    familiar: dict[str, tuple[float, float]]
    cohorts: tuple[str, ...]
    by: str
    tables: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        numbers = [self.slope, self.intercept, self.coverage, *self.root_errors]
        numbers += [bound for bounds in self.familiar.values() for bound in bounds]
        if not all(map(math.isfinite, numbers)) or self.slope <= 0:
            raise ValueError("its numbers are not finite, or its slope is not above 0")
        if not LEAST_COVERAGE <= self.coverage <= MOST_COVERAGE:
            raise ValueError(f"its coverage is {self.coverage}")
        if self.cut not in CUTS:
            raise ValueError(f"its cut is {self.cut}")
        if len(self.root_errors) < least_patients(self.coverage):
            raise ValueError(f"{len(self.root_errors)} patients are too few for its interval")

    @classmethod
    def from_json(cls, saved: Mapping[str, Any]) -> "Calibration":
        """Read what :meth:`to_json` gives.

        Raises:
            KeyError, TypeError, ValueError: it is not whole, or its numbers cannot be.
        """
        return cls(
            networks=tuple(map(str, saved["networks"])),
            slope=float(saved["slope"]),
            intercept=float(saved["intercept"]),
            cut=float(saved["cut"]),
            coverage=float(saved["coverage"]),
            root_errors=tuple(sorted(map(float, saved["root_errors"]))),
            familiar={
                str(name): (float(low), float(high))
                for name, (low, high) in saved["familiar"].items()
            },
            cohorts=tuple(map(str, saved["cohorts"])),
            by=str(saved["by"]),
            tables=tuple(map(str, saved["tables"])),
        )

    def to_json(self) -> dict[str, Any]:
        """As JSON gives it back."""
        return json.loads(json.dumps(dataclasses.asdict(self)))

    def probability(self, average: NDArray[np.float32]) -> NDArray[np.float32]:
        """The calibrated probability; 0 stays 0.

        Args:
            average: of the networks, any shape.
        """
        found = np.zeros_like(average)
        some = average > 0
        clipped = np.clip(average[some].astype(np.float64), CLIP, 1 - CLIP)
        logit = np.log(clipped / (1 - clipped))
        found[some] = 1 / (1 + np.exp(-(self.slope * logit + self.intercept)))
        return found

    @property
    def average_at_cut(self) -> float:
        """The networks' average probability that becomes the cut."""
        logit = (math.log(self.cut / (1 - self.cut)) - self.intercept) / self.slope
        return 1 / (1 + math.exp(-logit))

    @property
    def root_bounds(self) -> tuple[float, float]:
        """Of the interval, on the root of mL: the two errors between which it lies."""
        return _bounds(self.root_errors, self.coverage)

    def interval_ml(self, volume_ml: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Lower and upper end of the true volume.

        Args:
            volume_ml: of the calibrated mask, any shape.
        """
        low, high = (_moved(volume_ml, error) for error in self.root_bounds)
        return low, high

    def mismatch_share(self, volume_ml: ArrayLike, core_ml: ArrayLike) -> NDArray[np.float64]:
        """With the errors of how large a share of the patients it would be a target mismatch.

        Args:
            volume_ml: of the calibrated masks: [n], or one.
            core_ml: taken as they are: [n], or one.
        """
        might_be = _moved(np.asarray(volume_ml, float)[..., np.newaxis], self.root_errors)
        return criteria.target_mismatch(might_be, np.asarray(core_ml)[..., np.newaxis]).mean(-1)


def least_patients(coverage: float) -> int:
    """Of how many patients the errors must be known for an interval of such a coverage.

    >>> least_patients(0.9)
    19
    """
    return math.ceil(2 / (1 - coverage) - 1 - 1e-9)


def _bounds(errors: Sequence[float], coverage: float) -> tuple[float, float]:
    """The errors between which a further patient's lies with at least that probability."""
    ranked, n = np.sort(errors), len(errors)
    outside = max(math.floor((n + 1) * (1 - coverage) / 2 + 1e-9), 1)
    return float(ranked[outside - 1]), float(ranked[n - outside])


def _moved(volume_ml: ArrayLike, root_errors: ArrayLike) -> NDArray[np.float64]:
    return np.maximum(np.sqrt(volume_ml) + np.asarray(root_errors, float), 0) ** 2


def answer(
    calibration: Calibration | None,
    *,
    hypoperfusion_ml: float,
    core_ml: float | None,
    unfamiliar: Sequence[str] = (),
) -> Answer:
    """What can be said of target mismatch.

    A larger volume never unmakes a target mismatch of the same core, so that the ends of the
    interval decide for all that lies between.

    Args:
        calibration: None says yes or no by the volume alone.
        hypoperfusion_ml: of the mask.
        core_ml: taken as it is; None if unknown, which is always unsure.
        unfamiliar: in what the image is unlike those of the calibration.
    """
    if calibration is None:
        said = core_ml is not None and bool(criteria.target_mismatch(hypoperfusion_ml, core_ml))
        return Answer(
            target_mismatch="unsure" if core_ml is None else "yes" if said else "no",
            reasons=(NO_CORE_KNOWN,) if core_ml is None else (),
            interval_ml=None, coverage=None, mismatch_with_errors_of=None, calibrated_on=None,
        )  # fmt: skip
    low, high = (round(float(end), 2) for end in calibration.interval_ml(hypoperfusion_ml))
    reasons, at_low, share = list(unfamiliar), False, None
    if core_ml is None:
        reasons.insert(0, NO_CORE_KNOWN)
    else:
        at_low, at_high = (bool(criteria.target_mismatch(end, core_ml)) for end in (low, high))
        if at_low != at_high:
            reasons.insert(0, _crossing(low, high, core_ml=core_ml, coverage=calibration.coverage))
        share = round(float(calibration.mismatch_share(hypoperfusion_ml, core_ml)), 3)
    return Answer(
        target_mismatch="unsure" if reasons else "yes" if at_low else "no",
        reasons=tuple(reasons),
        interval_ml=(low, high),
        coverage=calibration.coverage,
        mismatch_with_errors_of=share,
        calibrated_on=f"{len(calibration.root_errors)} patients of "
        f"{', '.join(calibration.cohorts)}, answered by {calibration.by}",
    )


def _crossing(low: float, high: float, *, core_ml: float, coverage: float) -> str:
    """Which criterion lies within the interval, and from which volume on it is met."""
    rules = criteria.DEFUSE3
    needed_ml, what = max(
        (rules.min_ratio * core_ml, f"a ratio of {rules.min_ratio:g}"),
        (core_ml + rules.min_difference_ml, f"a mismatch of {rules.min_difference_ml:g} mL"),
    )
    return (
        f"the hypoperfusion is {rounded(low)} to {rounded(high)} mL in {coverage:.0%} of such "
        f"patients, and {what} needs {rounded(needed_ml)} mL"
    )


def read(path: str | Path) -> Calibration:
    """A calibration of a file.

    Raises:
        InputError: no such file, or it is none.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(
            f"calibration {path}: no such file; expected {FILE}, which "
            "python -m tf_hypoperfusion.calibrate writes"
        )
    try:
        return Calibration.from_json(atomic.read_json(path))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"calibration {path}: not whole ({error}); write it again with "
            "python -m tf_hypoperfusion.calibrate"
        ) from error


def checksums(models: Iterable[ModelInfo]) -> tuple[str, ...]:
    """Of all networks that answer, sorted; those of an export are known by its card."""
    found: list[str] = []
    for model in models:
        known = model.networks or (
            (model.sha256,) if isinstance(model.sha256, str) else model.sha256 or ()
        )
        found += known
    return tuple(sorted(found))


def require_networks(path: str | Path, networks: Sequence[str]) -> Calibration:
    """A calibration of a file, if it is that of just these networks.

    Raises:
        InputError: it is not.
    """
    found = read(path)
    if tuple(sorted(networks)) != found.networks:
        raise InputError(
            f"calibration {path}: made with {errors.counted(len(found.networks), 'network')} "
            f"({_short(found.networks)}), but these are {len(networks)} ({_short(networks)}); "
            "expected the same networks. Calibrate these with python -m tf_hypoperfusion.calibrate"
        )
    return found


def _short(networks: Sequence[str]) -> str:
    return ", ".join(each[:12] for each in sorted(networks))


def of_models(models: Sequence[ModelInfo], given: str | None = None) -> Calibration | None:
    """The calibration of those who answer.

    Args:
        models: in any order.
        given: a file. Without one it is that of the only export's card, or ``calibration.json`` of
            the run of all ``RUN/fold-N/best.keras``, if it was made with just these networks.

    Returns:
        None if there is none.

    Raises:
        InputError: the given one is none, or of other networks; or that of a card is damaged.
    """
    networks = checksums(models)
    if given:
        return require_networks(given, networks)
    paths = [Path(model.path) for model in models]
    if len(models) == 1 and paths[0].suffix != ".keras":
        card = (paths[0] if paths[0].is_dir() else paths[0].parent) / "model_card.json"
        return of_card(atomic.read_json(card), str(card))
    runs = {path.absolute().parent.parent for path in paths}
    file = next(iter(runs)) / FILE
    if len(runs) > 1 or not file.is_file():
        return None
    found = read(file)
    return found if found.networks == networks else None


def of_card(card: Mapping[str, Any], name: str) -> Calibration | None:
    """What a model's card, or a server's answer, holds; None if nothing.

    Args:
        card: as JSON gives it.
        name: for the message.

    Raises:
        InputError: it is damaged.
    """
    saved = card.get("calibration")
    if saved is None:
        return None
    try:
        return Calibration.from_json(mapping(saved))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"{name}: its calibration is not whole ({error}); copy the model again, or export it "
            "again"
        ) from error
