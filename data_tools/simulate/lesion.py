"""The stroke: how late the contrast arrives, and which part is already dead.

The planned volumes come first (Table 1 of the paper); the collateral score, which is the share
of the territory that stays under 6 s, and the time since onset follow from them. The delay
follows the danger of :mod:`data_tools.simulate.risk`, so it is smooth and has its own shape in
every patient.
"""

import dataclasses
import os

import numpy as np
from numpy.typing import NDArray

from data_tools.grid import TMAX_HYPOPERFUSION_S
from data_tools.simulate import core as cores
from data_tools.simulate import negatives
from data_tools.simulate.anatomy import MODEL_SHAPE, MODEL_VOXEL_ML, Anatomy
from data_tools.simulate.appearance import FIRST, Coupling
from data_tools.simulate.clinical import TERRITORIAL, Plan
from data_tools.simulate.delay import normal_tmax_s
from data_tools.simulate.risk import make_risk

TMAX_MAX_S = 20.0
# Scatter of the share of the volume over 6 s that is over 10 s.
SEVERE_TMAX_S = 10.0
SEVERE_SHARE_SD = 0.15
# Delay falls off faster outside 6 s than it rises inside: the watershed is near.
STEEPER_OUTSIDE = 1.8
# Thresholds on images of 5 mm slices see this much less core than there is dead tissue.
CORE_GROWN = 1.3
# Part of the late tissue lies outside the perfusion slices, or beside sulci.
SEEN_LESS = 1.10
# The late tissue passes the watershed, but not without limit.
MAX_OF_TERRITORY = 1.2
# How much more the surroundings of a real core are in danger.
NEAR_REAL_CORE = 1.5
# Motor strip and its tract, Broca's and Wernicke's areas: |x|, y, z in MNI mm, and weight.
ELOQUENT = ((38, -18, 50, 1.0), (26, -16, 20, 1.6), (50, 14, 18, 0.8), (56, -44, 16, 0.8))
ELOQUENT_RADIUS_MM = 18.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Lesion:
    """One stroke on the model grid.

    Attributes:
        tmax_s: float32, noise-free, everywhere in the head.
        core: bool, dead tissue.
        hypoperfused: bool, Tmax >= 6 s.
        eloquent_ml: hypoperfused or dead volume weighted by eloquence (mean weight about 1).
        collateral_score: share of the territory under 6 s; negative if more than it is late.
        onset_h: hours since onset.
        reperfused: whether the core was reperfused in part.
    """

    tmax_s: NDArray[np.float32]
    core: NDArray[np.bool_]
    hypoperfused: NDArray[np.bool_]
    eloquent_ml: float
    collateral_score: float
    onset_h: float
    reperfused: bool


def make_lesion(
    rng: np.random.Generator,
    anatomy: Anatomy,
    plan: Plan,
    lesions: str | os.PathLike | None = None,
    *,
    coupling: Coupling = FIRST.coupling,
) -> Lesion:
    """Let the planned stroke happen in this head.

    Args:
        rng: the patient's generator.
        anatomy: who has it.
        plan: how large it is to be.
        lesions: folder of real core masks in MNI; None grows the core.
        coupling: of core and delay.

    Raises:
        InputError: if ``lesions`` holds no readable mask.
    """
    if plan.stroke != TERRITORIAL:
        return _without_penumbra(rng, anatomy, plan, coupling)
    tmax_s = normal_tmax_s(rng, anatomy, plan.side, coupling)
    dead = np.zeros(MODEL_SHAPE, bool)
    reperfused = bool(rng.random() < coupling.reperfused_share)
    severe = float(np.clip(rng.normal(coupling.severe_share, SEVERE_SHARE_SD), 0.05, 0.8))
    left = rng.uniform(0.3, 0.7)
    parts = {"left": left, "right": 1 - left} if plan.side == "bilateral" else {plan.side: 1.0}
    scores = []
    for side, part in parts.items():
        risk = make_risk(rng, anatomy, plan.occlusion, side)
        tissue = anatomy.tissue[risk.where]
        territory = int((tissue & (risk.depth_mm > 0)).sum())
        wanted = SEEN_LESS * plan.hypoperfusion_ml * part / MODEL_VOXEL_ML
        count = round(min(wanted, MAX_OF_TERRITORY * territory))
        scores.append(1 - count / max(territory, 1))
        danger: NDArray = risk.danger
        if lesions is None:
            core_count = min(round(CORE_GROWN * plan.core_ml * part / MODEL_VOXEL_ML), count)
            starved = cores.worst(danger, tissue, count)
            core = cores.grow(
                rng, anatomy, risk, starved=starved, count=core_count, coupling=coupling
            )
        else:
            core, near = cores.real(
                rng, anatomy, risk, folder=lesions, core_ml=plan.core_ml * part, side=side
            )
            danger = danger + NEAR_REAL_CORE * near
            count = max(count, int(core.sum()))
        if reperfused:
            opened = 1.2 * core + 0.8 * anatomy.field(rng, 30.0)[risk.where]
            danger = danger - 2.0 * np.clip(opened, 0, 1)
        if count:
            tmax_s[risk.where] = _delayed(
                tmax_s[risk.where],
                danger,
                living=tissue & ~core,
                count=count - int(core.sum()),
                severe=severe,
            )
            dead[risk.where] = core
    hypoperfused = negatives.hypoperfused(tmax_s, anatomy)
    collateral_score = float(np.mean(scores))
    # Cores grow with time and with poor collaterals; so the time follows from the two.
    dead_share = plan.core_ml / max(plan.hypoperfusion_ml, 1.0)
    onset_h = float(np.clip(12 * dead_share + 4 * collateral_score + rng.gamma(2, 1), 0.5, 24))
    return Lesion(
        tmax_s=tmax_s,
        core=dead,
        hypoperfused=hypoperfused,
        eloquent_ml=_eloquent_ml(anatomy, hypoperfused | dead),
        collateral_score=collateral_score,
        onset_h=onset_h,
        reperfused=reperfused,
    )


def _without_penumbra(
    rng: np.random.Generator, anatomy: Anatomy, plan: Plan, coupling: Coupling
) -> Lesion:
    tmax_s, dead, reperfused = negatives.place(rng, anatomy, plan, coupling)
    late = negatives.hypoperfused(tmax_s, anatomy)
    return Lesion(
        tmax_s=tmax_s,
        core=dead,
        hypoperfused=late,
        eloquent_ml=_eloquent_ml(anatomy, late | dead),
        collateral_score=1.0,
        onset_h=float(rng.uniform(1, 24)),
        reperfused=reperfused,
    )


def _delayed(
    normal_s: NDArray[np.float32],
    danger: NDArray[np.float32],
    *,
    living: NDArray[np.bool_],
    count: int,
    severe: float,
) -> NDArray[np.float32]:
    """Tmax of a hemisphere in which ``count`` living voxels are late: 6 s and more.

    The share ``severe`` of them is over 10 s; between, Tmax is linear in the danger.
    """
    ranked = np.sort(danger[living])[::-1]
    threshold = ranked[min(max(count, 0), ranked.size - 1)]
    # A handful of voxels has no distribution to take a slope from.
    spread = np.quantile(ranked[:count], 1 - severe) - threshold if count > 10 else 0.5
    slope_s = (SEVERE_TMAX_S - TMAX_HYPOPERFUSION_S) / max(float(spread), 0.05)
    beyond = danger - threshold
    beyond = beyond * np.where(beyond < 0, STEEPER_OUTSIDE, 1)
    over_normal = TMAX_HYPOPERFUSION_S - normal_s + slope_s * beyond
    late = normal_s + np.logaddexp(0, np.minimum(over_normal, TMAX_MAX_S))
    return np.minimum(late, TMAX_MAX_S).astype(np.float32)


def _eloquent_ml(anatomy: Anatomy, mask: NDArray[np.bool_]) -> float:
    where = np.nonzero(mask)
    x, y, z = (axis[where] for axis in anatomy.template_mm)
    weight = np.full(x.shape, 0.6)
    for px, py, pz, gain in ELOQUENT:
        away = (np.abs(x) - px) ** 2 + (y - py) ** 2 + (z - pz) ** 2
        weight += gain * np.exp(-away / (2 * ELOQUENT_RADIUS_MM**2))
    return float(weight.sum() * MODEL_VOXEL_ML)
