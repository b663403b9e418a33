"""Strokes that leave nothing to be saved: small, scattered, posterior, reperfused, or none at all.

What is late is dead already, or is late by too little to count, so the truth is the core and no
patient is a target mismatch. Shares and sizes are chosen, not published.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from data_tools.grid import TMAX_HYPOPERFUSION_S
from data_tools.simulate import core as cores
from data_tools.simulate.anatomy import MODEL_SHAPE, MODEL_VOXEL_ML, Anatomy
from data_tools.simulate.appearance import Coupling
from data_tools.simulate.clinical import Plan
from data_tools.simulate.delay import normal_tmax_s
from data_tools.simulate.distractors import ragged
from data_tools.simulate.risk import make_risk

# Where strokes of the posterior circulation lie: |x|, y, z in MNI mm, and the largest mL.
POSTERIOR_MM = (
    ((5.0, -26.0, -30.0), 3.0),  # pons
    ((5, -20, -12), 1.5),  # midbrain
    ((12, -20, 8), 5.0),  # thalamus, twice as common as its neighbours
    ((10, -16, 10), 5.0),
    ((24, -66, -32), 25.0),  # cerebellum
    ((12, -58, -22), 15.0),
    ((34, -54, -36), 25.0),
    ((12, -82, 6), 40.0),  # posterior cerebral artery
    ((22, -72, -8), 30.0),
    ((26, -34, -12), 10.0),
)
# Perforating arteries; half of the small strokes lie there, the others anywhere.
DEEP_MM = ((24, 4, 4), (27, -8, 10), (25, -16, 26), (20, -8, 10), (13, -18, 8), (24, 14, 22))
PIECES = (4, 20)
SMALLEST_ML = 0.03
OCCLUDED_SHARE = 0.5  # whose core is late still, if it has no more than
OCCLUDED_MAX_ML = 12.0  # so that its blurred edge is no 15 mL of mismatch
LATE_S = (5.0, 9.0)
OLIGAEMIC_SHARE, OLIGAEMIC_S = 0.4, (3.8, 4.8)


def place(
    rng: np.random.Generator, anatomy: Anatomy, plan: Plan, coupling: Coupling
) -> tuple[NDArray[np.float32], NDArray[np.bool_], bool]:
    """Put such a stroke into a head.

    Args:
        rng: the patient's generator.
        anatomy: who has it.
        plan: its kind, side and volume.
        coupling: for what the head has of old.

    Returns:
        Tmax in s, the dead voxels, and whether they were reperfused; on the model grid.
    """
    tmax_s = normal_tmax_s(rng, anatomy, plan.side, coupling)
    dead = np.zeros(MODEL_SHAPE, bool)
    if plan.core_ml > 0:
        kind = {"small": _small, "scattered": _scattered, "posterior": _posterior}
        dead = kind.get(plan.stroke, _matched)(rng, anatomy, plan)
    reperfused = bool(rng.random() >= OCCLUDED_SHARE or plan.core_ml > OCCLUDED_MAX_ML)
    late_s, mild_s = rng.uniform(*LATE_S), rng.uniform(*OLIGAEMIC_S)
    around = ndimage.gaussian_filter(dead.astype(np.float32), 6.0)
    if rng.random() < OLIGAEMIC_SHARE and around.max() > 0:
        mild = np.minimum(around / around.max() * 3, 1)
        tmax_s = np.maximum(tmax_s, (1 - mild) * tmax_s + mild * np.float32(mild_s))
    if not reperfused:
        # A quarter of the delay at the edge is too little for 6 s, so what is late is dead, and
        # thick slices do not make more of it.
        core = ndimage.gaussian_filter(dead.astype(np.float32), 1.0)
        late = np.minimum(tmax_s, 3.4) + core**2 * np.float32(late_s)
        tmax_s = np.maximum(tmax_s, np.where(dead, late, np.minimum(late, 5.2)))
    return tmax_s.astype(np.float32), dead, reperfused


def hypoperfused(tmax_s: NDArray[np.float32], anatomy: Anatomy) -> NDArray[np.bool_]:
    """Tissue that is late by 6 s and more."""
    return (tmax_s >= TMAX_HYPOPERFUSION_S) & anatomy.tissue


def _half(rng: np.random.Generator, side: str) -> int:
    """-1 left, 1 right; either where the stroke has both."""
    return {"left": -1, "right": 1}.get(side) or int(rng.choice([-1, 1]))


def _allowed(anatomy: Anatomy, sign: int, *, margin_mm: float = 2.0) -> NDArray[np.intp]:
    return np.flatnonzero(anatomy.tissue & (anatomy.template_mm[0] * sign > -margin_mm))


def _around(
    rng: np.random.Generator, point_mm: tuple[float, ...], sign: int, *, scatter_mm: float
) -> NDArray[np.float32]:
    """A place near a point of either half: [3], mm."""
    placed = (np.array(point_mm) + rng.normal(0, scatter_mm, 3)) * (sign, 1, 1)
    return placed.astype(np.float32)


def _small(rng: np.random.Generator, anatomy: Anatomy, plan: Plan) -> NDArray[np.bool_]:
    sign = _half(rng, plan.side)
    allowed = _allowed(anatomy, sign, margin_mm=0)
    if rng.random() < 0.5:
        centre = _around(rng, DEEP_MM[rng.integers(len(DEEP_MM))], sign, scatter_mm=3.0)
    else:
        centre = anatomy.template_mm.reshape(3, -1)[:, rng.choice(allowed)]
    return ragged(rng, anatomy, allowed, centre_mm=centre, volume_ml=plan.core_ml)


def _scattered(rng: np.random.Generator, anatomy: Anatomy, plan: Plan) -> NDArray[np.bool_]:
    shares = rng.gamma(0.8, 1, rng.integers(PIECES[0], PIECES[1] + 1))
    dead = np.zeros(MODEL_SHAPE, bool)
    for share in shares / shares.sum():
        sign = _half(rng, plan.side)
        allowed = _allowed(anatomy, sign, margin_mm=0)
        centre = anatomy.template_mm.reshape(3, -1)[:, rng.choice(allowed)]
        volume_ml = max(plan.core_ml * share, SMALLEST_ML)
        dead |= ragged(rng, anatomy, allowed, centre_mm=centre, volume_ml=volume_ml)
    return dead


def _posterior(rng: np.random.Generator, anatomy: Anatomy, plan: Plan) -> NDArray[np.bool_]:
    point, most_ml = POSTERIOR_MM[rng.integers(len(POSTERIOR_MM))]
    sign = _half(rng, plan.side)
    centre = _around(rng, point, sign, scatter_mm=2.5)
    volume_ml = min(plan.core_ml, most_ml)
    return ragged(rng, anatomy, _allowed(anatomy, sign), centre_mm=centre, volume_ml=volume_ml)


def _matched(rng: np.random.Generator, anatomy: Anatomy, plan: Plan) -> NDArray[np.bool_]:
    """A core in the middle cerebral artery's territory that was opened too late."""
    side = "left" if _half(rng, plan.side) < 0 else "right"
    risk = make_risk(rng, anatomy, "M2", side)
    count = round(plan.core_ml / MODEL_VOXEL_ML)
    starved = cores.worst(risk.danger, anatomy.tissue[risk.where], count)
    dead = np.zeros(MODEL_SHAPE, bool)
    dead[risk.where] = cores.grow(rng, anatomy, risk, starved=starved, count=count)
    return dead
