"""A site's own Tmax threshold: where our maps give the volumes of reference maps at 6 s.

Tmax is a convention of its program, and 6 s of one is not 6 s of another. Of patients who have
both our maps and reference ones (maps, masks, or a table of volumes) the threshold is sought at
which ours agree best:

    volume:  t = argmin sum_i |V_i(t) - R_i|        dice:  t = argmax mean_i Dice(M_i(t), M_ref_i)

V_i(t) is the volume at Tmax >= t of patient i, cleaned as labels are, R_i that of the reference.
What it is worth is told by leaving each patient out: the threshold of all others, applied to that
one. Figures: the bias and the mean absolute difference in mL, Lin's concordance (Biometrics
1989;45:255), Dice, and Cohen's kappa of the target mismatch of DEFUSE 3 where the core is known.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from data_tools import criteria, labels
from data_tools.concordance import lin
from data_tools.grid import TMAX_HYPOPERFUSION_S
from data_tools.runtime.errors import InputError, counted

By = Literal["volume", "dice"]
FITS: tuple[By, ...] = ("volume", "dice")
# Tmax from 3 to 12 s: below lies healthy tissue.
THRESHOLDS_S = np.round(np.arange(3.0, 12.01, 0.1), 1)
FEWEST, FEW = 3, 20
MAX_SPREAD_S = 1.0
AT_SIX = int(np.flatnonzero(THRESHOLDS_S == TMAX_HYPOPERFUSION_S)[0])


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pair:
    """A patient with our map and a reference.

    Attributes:
        participant_id: ``sub-0001``.
        volumes_ml: float64 [thresholds], of our map at each of ``THRESHOLDS_S``.
        reference_ml: of the reference.
        dice: float64 [thresholds], with the reference's mask; None where only its volume is known
            or it is empty.
        core_ml: the core; None if unknown.
    """

    participant_id: str
    volumes_ml: NDArray[np.float64]
    reference_ml: float
    dice: NDArray[np.float64] | None = None
    core_ml: float | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Agreement:
    """How near volumes are to those of the reference.

    Attributes:
        n: patients.
        bias_ml: mean of ours less the reference's.
        mean_absolute_ml: mean of the difference without its sign.
        concordance: Lin's; None where volumes do not vary.
        dice: median; None without masks.
        kappa: of the target mismatch; None where no core is known, or where both always agree that
            there is one, or none.
        same_decision: share of patients with the same target mismatch; None without cores.
        n_core: patients with a core.
    """

    n: int
    bias_ml: float
    mean_absolute_ml: float
    concordance: float | None
    dice: float | None
    kappa: float | None
    same_decision: float | None
    n_core: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Calibration:
    """A threshold and what it is worth.

    Attributes:
        threshold_s: on our Tmax.
        fitted_by: ``volume`` or ``dice``.
        pairs: of which it was found.
        left_out_s: float64 [n], of all patients but this one.
        at_six: agreement at 6 s.
        at_threshold: at the threshold found, by the patients it was found of.
        left_out: each patient at the threshold of the others.
        warnings: sentences.
    """

    threshold_s: float
    fitted_by: By
    pairs: tuple[Pair, ...]
    left_out_s: NDArray[np.float64]
    at_six: Agreement
    at_threshold: Agreement
    left_out: Agreement
    warnings: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Its figures, rounded for people."""
        return {
            "threshold_s": self.threshold_s,
            "fitted_by": self.fitted_by,
            "n": len(self.pairs),
            "left_out_threshold_s": [float(self.left_out_s.min()), float(self.left_out_s.max())],
            "at_6_s": _rounded(self.at_six),
            "at_threshold": _rounded(self.at_threshold),
            "left_out": _rounded(self.left_out),
            "warnings": list(self.warnings),
        }

    def rows(self) -> list[dict[str, Any]]:
        """One row per patient, in mL and s; empty cells where something is unknown."""
        at = _index(self.threshold_s)
        rows = []
        for pair, other_s in zip(self.pairs, self.left_out_s, strict=True):
            other = _index(other_s)
            dice, core = pair.dice, pair.core_ml
            ours = pair.volumes_ml[other]
            rows.append({
                "participant_id": pair.participant_id,
                "reference_ml": round(pair.reference_ml, 2),
                "ml_at_6_s": round(float(pair.volumes_ml[AT_SIX]), 2),
                "ml_at_threshold": round(float(pair.volumes_ml[at]), 2),
                "left_out_threshold_s": float(other_s),
                "left_out_ml": round(float(ours), 2),
                "dice_at_6_s": "" if dice is None else round(float(dice[AT_SIX]), 4),
                "left_out_dice": "" if dice is None else round(float(dice[other]), 4),
                "core_ml": "" if core is None else round(core, 2),
                "mismatch_of_reference": "" if core is None else _mismatch(pair.reference_ml, core),
                "mismatch_left_out": "" if core is None else _mismatch(ours, core),
            })  # fmt: skip
        return rows


def pair_of(
    participant: str,
    tmax_s: NDArray[np.float32],
    brain: NDArray[np.bool_],
    voxel_ml: float,
    *,
    reference: NDArray[np.bool_] | float,
    core_ml: float | None = None,
) -> Pair:
    """Volumes of a map at every threshold, and Dice with the reference.

    Args:
        participant: ``sub-0001``.
        tmax_s: [X, Y, Z], ours.
        brain: bool, where the map holds something.
        voxel_ml: of the map.
        reference: its mask on the same grid, cleaned; or its volume in mL.
        core_ml: the core; None if unknown.
    """
    masks = (labels.territories(brain & (tmax_s >= at_s), voxel_ml) for at_s in THRESHOLDS_S)
    if isinstance(reference, int | float):
        volumes = [mask.sum() * voxel_ml for mask in masks]
        return Pair(
            participant_id=participant,
            volumes_ml=np.array(volumes),
            reference_ml=float(reference),
            core_ml=core_ml,
        )
    size = int(reference.sum())
    counts = np.array([(mask.sum(), (mask & reference).sum()) for mask in masks])
    return Pair(
        participant_id=participant,
        volumes_ml=counts[:, 0] * voxel_ml,
        reference_ml=size * voxel_ml,
        dice=2 * counts[:, 1] / (counts[:, 0] + size) if size else None,
        core_ml=core_ml,
    )


def fit(pairs: Sequence[Pair], by: By = "volume") -> Calibration:
    """The threshold at which our maps agree best with the reference.

    Of several that agree alike the one nearest to 6 s is taken.

    Args:
        pairs: three at least.
        by: ``volume`` or ``dice``, which needs masks.

    Raises:
        InputError: fewer than three pairs; nothing late in any reference; no masks for Dice.
    """
    if len(pairs) < FEWEST:
        raise InputError(
            f"{counted(len(pairs), 'patient has')} both a map of ours and a reference; calibration "
            f"needs at least {FEWEST}, better {FEW} or more"
        )
    if not any(pair.reference_ml > 0 for pair in pairs):
        raise InputError("no reference shows hypoperfusion; expected patients who have some")
    losses = _losses(pairs, by)
    known = np.isfinite(losses[:, 0])
    if known.sum() < FEWEST:
        raise InputError(
            f"{counted(int(known.sum()), 'reference has')} a mask of hypoperfusion; a fit by Dice "
            f"needs at least {FEWEST}. Fit by volume"
        )
    losses = np.where(np.isfinite(losses), losses, 0)
    total = losses.sum(axis=0)
    best = _lowest(total)
    others = np.array([_lowest(total - own) for own in losses])
    left_out_s = THRESHOLDS_S[others]
    at = np.full(len(pairs), best)
    return Calibration(
        threshold_s=float(THRESHOLDS_S[best]),
        fitted_by=by,
        pairs=tuple(pairs),
        left_out_s=left_out_s,
        at_six=_agreement(pairs, np.full(len(pairs), AT_SIX)),
        at_threshold=_agreement(pairs, at),
        left_out=_agreement(pairs, others),
        warnings=_warnings(best, left_out_s),
    )


def kappa(ours: NDArray[np.bool_], theirs: NDArray[np.bool_]) -> float | None:
    """Cohen's: agreement beyond chance over what is possible beyond it; None where it is 0 / 0.

    >>> import numpy as np
    >>> kappa(np.array([1, 1, 0, 0], bool), np.array([1, 0, 0, 0], bool))
    0.5
    """
    if not len(ours):
        return None
    by_chance = ours.mean() * theirs.mean() + (1 - ours.mean()) * (1 - theirs.mean())
    if by_chance == 1:
        return None
    return float(((ours == theirs).mean() - by_chance) / (1 - by_chance))


def _losses(pairs: Sequence[Pair], by: By) -> NDArray[np.float64]:
    """What each patient adds at each threshold, [n, thresholds]; NaN where it has no say."""
    nothing = np.full(len(THRESHOLDS_S), np.nan)
    if by == "dice":
        return np.array([nothing if pair.dice is None else 1 - pair.dice for pair in pairs])
    return np.array([np.abs(pair.volumes_ml - pair.reference_ml) for pair in pairs])


def _lowest(total: NDArray[np.float64]) -> int:
    """Index of the lowest, of equal ones the nearest to 6 s."""
    lowest = np.flatnonzero(total <= total.min() + 1e-9)
    return int(lowest[np.abs(lowest - AT_SIX).argmin()])


def _index(threshold_s: float) -> int:
    return int(np.abs(THRESHOLDS_S - threshold_s).argmin())


def _mismatch(hypoperfusion_ml: float, core_ml: float) -> bool:
    return bool(criteria.target_mismatch(hypoperfusion_ml, core_ml))


def _agreement(pairs: Sequence[Pair], at: NDArray[np.intp]) -> Agreement:
    """Of each pair at a threshold of its own."""
    ours = np.array([pair.volumes_ml[k] for pair, k in zip(pairs, at, strict=True)])
    theirs = np.array([pair.reference_ml for pair in pairs])
    dice = [pair.dice[k] for pair, k in zip(pairs, at, strict=True) if pair.dice is not None]
    known = np.array([pair.core_ml is not None for pair in pairs])
    core = np.array([pair.core_ml for pair in pairs if pair.core_ml is not None])
    decisions = [criteria.target_mismatch(each[known], core) for each in (ours, theirs)]
    return Agreement(
        n=len(pairs),
        bias_ml=float((ours - theirs).mean()),
        mean_absolute_ml=float(np.abs(ours - theirs).mean()),
        concordance=lin(ours, theirs) if ours.var() + theirs.var() > 0 else None,
        dice=float(np.median(dice)) if dice else None,
        kappa=kappa(*decisions),
        same_decision=float((decisions[0] == decisions[1]).mean()) if known.any() else None,
        n_core=int(known.sum()),
    )


def _warnings(best: int, left_out_s: NDArray[np.float64]) -> tuple[str, ...]:
    found = []
    if len(left_out_s) < FEW:
        found.append(
            f"{len(left_out_s)} patients are few for a calibration; expected {FEW} or more"
        )
    if best in (0, len(THRESHOLDS_S) - 1):
        found.append(
            f"no threshold from {THRESHOLDS_S[0]:g} to {THRESHOLDS_S[-1]:g} s agrees best, only "
            "the end of that range; are both maps in seconds, and of the same patients?"
        )
    if np.ptp(left_out_s) > MAX_SPREAD_S:
        found.append(
            f"the threshold depends on single patients: leaving one out, it ranges from "
            f"{left_out_s.min():.1f} to {left_out_s.max():.1f} s"
        )
    return tuple(found)


def _rounded(agreement: Agreement) -> dict[str, float | int | None]:
    return {
        name: round(value, 4) if isinstance(value, float) else value
        for name, value in dataclasses.asdict(agreement).items()
    }
