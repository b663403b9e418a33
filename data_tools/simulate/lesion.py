"""The stroke: which territory, how late the contrast arrives, which part is already dead.

An occlusion takes a territory from its artery; collaterals feed it across the watershed, so the
delay grows with the depth behind it, unevenly. The collateral score is the share of the territory
that stays under 6 s. The core grows where perfusion is worst, in pieces, and part of it may be
reperfused.
"""

import dataclasses
import os

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from data_tools.grid import TMAX_HYPOPERFUSION_S, VOXEL_MM
from data_tools.simulate import real_cores, territories
from data_tools.simulate.anatomy import (
    MODEL_ORIGIN_MM,
    MODEL_SHAPE,
    MODEL_VOXEL_ML,
    Anatomy,
    smooth_field,
)
from data_tools.simulate.clinical import Plan

TMAX_MAX_S = 20.0
# Median share of the volume over 6 s that is over 10 s (DEFUSE 2).
SHARE_OVER_10_S = 0.4
# Delay falls off faster outside 6 s than it rises inside: the watershed is near.
STEEPER_OUTSIDE = 1.8
# Cores that were reperfused in part, so that they lie outside Tmax > 6 s.
REPERFUSED_SHARE = 0.12
# Motor strip and its tract, Broca's and Wernicke's areas: |x|, y, z in MNI mm, and weight.
ELOQUENT = ((38, -18, 50, 1.0), (26, -16, 20, 1.6), (50, 14, 18, 0.8), (56, -44, 16, 0.8))
ELOQUENT_RADIUS_MM = 18.0
# Thresholds on images of 5 mm slices see this much less core than there is dead tissue.
CORE_GROWN = 1.4
# Part of the late tissue lies outside the perfusion slices, or beside sulci.
SEEN_LESS = 1.12
# Cores that began outside the tissue that is late now.
STRAY_CORE_SHARE = 0.15
# How much more the surroundings of a real core are at risk.
NEAR_REAL_CORE = 1.5
# Narrowed carotid of old: a hemisphere that is late by 1 to 2 s, and no stroke.
OLD_DELAY_SHARE = 0.1


@dataclasses.dataclass(frozen=True)
class Lesion:
    """One stroke on the model grid.

    Attributes:
        tmax_s: float32, noise-free, everywhere in the head.
        core: bool, dead tissue.
        hypoperfused: bool, Tmax >= 6 s.
        eloquent_ml: hypoperfused or dead volume weighted by eloquence (mean weight about 1).
        collateral_score: share of the territory under 6 s, 0..1.
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
) -> Lesion:
    """Let the planned stroke happen in this head.

    Args:
        rng: the patient's generator.
        anatomy, plan: who has it, and how large it is to be.
        lesions: folder of real core masks in MNI; None grows the core.
    """
    base_s = 2.4 + 0.5 * smooth_field(rng, 40.0) + 0.4 * anatomy.white + rng.normal(0, 0.3)
    if rng.random() < OLD_DELAY_SHARE:
        half = anatomy.template_mm[0] * rng.choice([-1, 1]) / 4
        base_s += rng.uniform(0.5, 1.8) / (1 + np.exp(np.clip(-half, -30, 30)))
    base_s = np.clip(base_s, 0.8, 4.8).astype(np.float32)
    tmax_s = base_s.copy()
    core = np.zeros(MODEL_SHAPE, bool)
    reperfused = bool(rng.random() < REPERFUSED_SHARE)
    share_over_10 = float(np.clip(rng.normal(SHARE_OVER_10_S, 0.15), 0.05, 0.8))
    sides = ("left", "right") if plan.side == "bilateral" else (plan.side,)
    split = rng.uniform(0.3, 0.7)
    scores = []
    for side in sides:
        share = 1.0 if len(sides) == 1 else (split if side == "left" else 1 - split)
        where, risk, depth = _risk(rng, anatomy, plan, side)
        tissue = anatomy.tissue[where]
        room_ml = float((tissue & (depth > 0)).sum() * MODEL_VOXEL_ML)
        wanted_ml = SEEN_LESS * plan.hypoperfusion_ml * share
        volume = round(min(wanted_ml, 1.2 * room_ml) / MODEL_VOXEL_ML)
        scores.append(1 - volume * MODEL_VOXEL_ML / max(room_ml, 1e-6))
        if lesions is None:
            core_volume = min(round(CORE_GROWN * plan.core_ml * share / MODEL_VOXEL_ML), volume)
            starved = _worst(risk, tissue, volume)
            allowed = tissue & (depth > -4)
            dead = _grow_core(rng, anatomy, where, allowed, starved, risk, core_volume)
        else:
            dead, near = _real_core(rng, anatomy, where, lesions, plan.core_ml * share, side)
            dead &= tissue
            risk += NEAR_REAL_CORE * near
            volume = max(volume, int(dead.sum()))
        late = risk.copy()
        if reperfused:
            opened = 1.2 * dead + 0.8 * smooth_field(rng, 30.0)[where]
            late -= 2.0 * np.clip(opened, 0, 1)
        # The threshold at which Tmax >= 6 s and the core together have the planned volume.
        rest = np.sort(late[tissue & ~dead])[::-1]
        needed = volume - int(dead.sum())
        threshold = rest[min(max(needed, 0), rest.size - 1)]
        over = rest[:needed]
        spread = np.quantile(over, 1 - share_over_10) - threshold if needed > 10 else 0.5
        slope_s = 4.0 / max(float(spread), 0.05)
        if volume == 0:
            continue
        beyond = late - threshold
        beyond *= np.where(beyond < 0, STEEPER_OUTSIDE, 1)
        over_base = TMAX_HYPOPERFUSION_S - base_s[where] + slope_s * beyond
        tmax_s[where] += np.logaddexp(0, np.minimum(over_base, TMAX_MAX_S)).astype(np.float32)
        core[where] = dead
    np.minimum(tmax_s, TMAX_MAX_S, out=tmax_s)
    hypoperfused = (tmax_s >= TMAX_HYPOPERFUSION_S) & anatomy.tissue
    collateral_score = float(np.mean(scores))
    # Cores grow with time and with poor collaterals; so the time follows from the two.
    dead_share = plan.core_ml / max(plan.hypoperfusion_ml, 1.0)
    onset_h = float(np.clip(12 * dead_share + 4 * collateral_score + rng.gamma(2, 1), 0.5, 24))
    eloquent_ml = _eloquent_ml(anatomy, hypoperfused | core)
    return Lesion(tmax_s, core, hypoperfused, eloquent_ml, collateral_score, onset_h, reperfused)


def _risk(rng: np.random.Generator, anatomy: Anatomy, plan: Plan, side: str):
    """Voxels of the hemisphere (as an index), how prone they are, and the depth in mm."""
    x, y, z = anatomy.template_mm
    half = (x < 0) if side == "left" else (x > 0)
    where = np.nonzero(half & (anatomy.brain > 0.3) & (z > -45))
    jitter = [4.0 * smooth_field(rng, 30.0)[where] for _ in range(3)]
    mm = [axis[where] + shift for axis, shift in zip((x, y, z), jitter, strict=True)]
    distance = territories.distances(*mm)
    branch = "superior" if rng.random() < 0.55 else "inferior"
    if plan.occlusion == "ICA":
        names = territories.MCA + (("aca",) if rng.random() < 0.3 else ())
        depth = territories.depth_mm(distance, names)
    elif plan.occlusion == "M1":
        names = territories.MCA if rng.random() < 0.6 else territories.MCA[1:]
        depth = territories.depth_mm(distance, names)
    else:
        depth = territories.depth_mm(distance, (branch,))
    if plan.occlusion in ("M3", "M4", "none"):
        points = np.array(territories.POINTS_MM[branch], np.float32)
        point = points[rng.integers(len(points))]
        away = [np.abs(mm[0]) - point[0], mm[1] - point[1], mm[2] - point[2]]
        radius = 32.0 if plan.occlusion == "M3" else 24.0
        depth = np.minimum(depth, radius - np.sqrt(sum(a**2 for a in away)))
    uneven = rng.uniform(0.8, 1.4) * smooth_field(rng, 32.0)[where]
    risk = np.where(depth > 0, 1.6 * np.tanh(depth / 14), depth / 6) + uneven
    return where, risk.astype(np.float32), depth


def _grow_core(rng, anatomy, where, allowed, starved, risk, count) -> NDArray[np.bool_]:
    """Dead voxels: around one or more seeds inside the starved tissue, ragged, off centre.

    The seeds lie anywhere in it, or outside where an embolus went elsewhere: a core in the
    middle of the late tissue would give that tissue away.
    """
    seeds = 1 + rng.poisson(0.7)
    stray = rng.random() < STRAY_CORE_SHARE
    candidates = np.flatnonzero(allowed if stray else starved & allowed)
    if count == 0 or candidates.size == 0:
        return np.zeros(allowed.shape, bool)
    mm = [axis[where] for axis in anatomy.template_mm]
    # Deep perforators have no collaterals; and the edge is likelier than the middle.
    weight = 1 + 4 * anatomy.deep[where][candidates]
    points = np.stack([axis[candidates] for axis in mm])
    weight *= np.sqrt(((points - points.mean(axis=1, keepdims=True)) ** 2).sum(axis=0)) + 1
    chosen = rng.choice(candidates, seeds, p=weight / weight.sum())
    head_start = np.append(0, rng.exponential(12, seeds - 1))
    away = np.full(allowed.shape, np.inf, np.float32)
    for seed, late_mm in zip(chosen, head_start, strict=True):
        far = np.sqrt(sum((axis - axis[seed]) ** 2 for axis in mm)) + late_mm
        np.minimum(away, far, out=away)
    ragged = rng.uniform(0.2, 0.7) * smooth_field(rng, 18.0)[where]
    return _worst(ragged + 0.2 * risk + (not stray) * 2.0 * starved - away / 10, allowed, count)


def _real_core(rng, anatomy, where, lesions, core_ml, side):
    """A real mask bent into this head: bool [n], and its neighbourhood, 0..1."""
    mask = real_cores.choose(rng, lesions, core_ml, side)
    near = ndimage.gaussian_filter(mask, 5.0)
    near /= max(float(near.max()), 1e-6)
    index = (anatomy.template_mm - np.reshape(MODEL_ORIGIN_MM, (3, 1, 1, 1))) / VOXEL_MM
    points = [axis[where] for axis in index]
    bent, close = (ndimage.map_coordinates(image, points, order=1) for image in (mask, near))
    return bent > 0.5, close


def _worst(priority: NDArray, allowed: NDArray[np.bool_], count: int) -> NDArray[np.bool_]:
    """The ``count`` allowed voxels of highest priority."""
    worst = np.zeros(priority.shape, bool)
    if count > 0:
        ranked = np.where(allowed, priority, -np.inf)
        worst[np.argpartition(ranked, -count)[-count:]] = True
        worst &= allowed
    return worst


def _eloquent_ml(anatomy: Anatomy, mask: NDArray[np.bool_]) -> float:
    where = np.nonzero(mask)
    x, y, z = (axis[where] for axis in anatomy.template_mm)
    weight = np.full(x.shape, 0.6)
    for px, py, pz, gain in ELOQUENT:
        away = (np.abs(x) - px) ** 2 + (y - py) ** 2 + (z - pz) ** 2
        weight += gain * np.exp(-away / (2 * ELOQUENT_RADIUS_MM**2))
    return float(weight.sum() * MODEL_VOXEL_ML)
