"""The dead tissue: grown from seeds in the starved tissue, or taken from a real patient's mask."""

import os

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from data_tools.grid import VOXEL_MM
from data_tools.simulate import real_cores
from data_tools.simulate.anatomy import MODEL_ORIGIN_MM, Anatomy
from data_tools.simulate.appearance import FIRST, Coupling
from data_tools.simulate.risk import Risk

# With the shares of :class:`~data_tools.simulate.appearance.Coupling`, chosen so that 28% of the
# patients have one core inside one late lesion (DEFUSE).
LATER_SEED_MM = 12.0  # mean head start of the first seed
RAGGED, RAGGED_SCALE_MM = (0.2, 0.7), 18.0
STAY_INSIDE = 2.0  # in cm of growth: what it costs to leave the starved tissue
DEEP_WEIGHT = 4.0  # deep perforators have no collaterals
OUTSIDE_MM = 4.0  # a core may pass the watershed by this much


def worst(priority: NDArray, allowed: NDArray[np.bool_], count: int) -> NDArray[np.bool_]:
    """The ``count`` allowed voxels of highest priority: bool, fewer if fewer are allowed."""
    chosen = np.zeros(priority.shape, bool)
    if count > 0:
        ranked = np.where(allowed, priority, -np.inf)
        chosen[np.argpartition(ranked, -count)[-count:]] = True
        chosen &= allowed
    return chosen


def grow(
    rng: np.random.Generator,
    anatomy: Anatomy,
    risk: Risk,
    *,
    starved: NDArray[np.bool_],
    count: int,
    coupling: Coupling = FIRST.coupling,
) -> NDArray[np.bool_]:
    """Dead voxels around one or more seeds in the starved tissue: ragged and off centre.

    A core in the middle of the late tissue would give that tissue away; in life it seldom does.

    Args:
        rng: the patient's generator.
        anatomy: the head.
        risk: its hemisphere in danger.
        starved: bool [n], the most endangered tissue.
        count: wanted number of voxels.
        coupling: how many seeds there are, and how often elsewhere.

    Returns:
        bool [n] over the voxels of ``risk``; all False if ``count`` is 0.
    """
    allowed = anatomy.tissue[risk.where] & (risk.depth_mm > -OUTSIDE_MM)
    seeds = 1 + rng.poisson(coupling.more_core_seeds)
    stray = rng.random() < coupling.stray_core_share
    candidates = np.flatnonzero(allowed if stray else starved & allowed)
    if count == 0 or candidates.size == 0:
        return np.zeros(allowed.shape, bool)
    mm = [axis[risk.where] for axis in anatomy.template_mm]
    # The edge of the tissue is likelier than its middle.
    points = np.stack([axis[candidates] for axis in mm])
    off_centre = np.sqrt(((points - points.mean(axis=1, keepdims=True)) ** 2).sum(axis=0))
    weight = (1 + DEEP_WEIGHT * anatomy.deep[risk.where][candidates]) * (off_centre + 1) ** 1.5
    chosen = rng.choice(candidates, seeds, p=weight / weight.sum())
    later_mm = np.append(0, rng.exponential(LATER_SEED_MM, seeds - 1))
    away_mm = np.full(allowed.shape, np.inf, np.float32)
    for seed, later in zip(chosen, later_mm, strict=True):
        far = np.sqrt(sum((axis - axis[seed]) ** 2 for axis in mm)) + later
        np.minimum(away_mm, far, out=away_mm)
    ragged = rng.uniform(*RAGGED) * anatomy.field(rng, RAGGED_SCALE_MM)[risk.where]
    inside = 0.0 if stray else STAY_INSIDE * starved
    return worst(ragged + 0.2 * risk.danger + inside - away_mm / 10, allowed, count)


def real(
    rng: np.random.Generator,
    anatomy: Anatomy,
    risk: Risk,
    *,
    folder: str | os.PathLike,
    core_ml: float,
    side: str,
) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
    """A real core mask, bent into this head.

    Returns:
        The dead voxels, bool [n], and how near each voxel is to them, 0..1, [n].

    Raises:
        InputError: if the folder holds no readable mask.
    """
    mask = real_cores.choose(rng, folder, core_ml, side)
    near = ndimage.gaussian_filter(mask, 5.0)
    near /= max(float(near.max()), 1e-6)
    origin = np.reshape(MODEL_ORIGIN_MM, (3, 1))
    points = np.stack([axis[risk.where] for axis in anatomy.template_mm])
    index = (points - origin) / VOXEL_MM
    bent, close = (ndimage.map_coordinates(image, index, order=1) for image in (mask, near))
    return (bent > 0.5) & anatomy.tissue[risk.where], close.astype(np.float32)
