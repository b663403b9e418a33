"""Which tissue an occlusion endangers, and how much: the map the stroke grows on.

Collaterals feed a cut-off territory across its watershed, so the danger grows with the depth
behind it; it is uneven, since no two people have the same collaterals.
"""

import dataclasses

import numpy as np
from numpy.typing import NDArray

from data_tools.simulate import territories
from data_tools.simulate.anatomy import Anatomy

# Chosen, not published. Shares of patients:
ACA_TAKEN_SHARE = 0.3  # ICA occlusions that take the anterior cerebral artery too
PERFORATORS_TAKEN_SHARE = 0.6  # M1 occlusions before the lenticulostriate arteries leave
SUPERIOR_SHARE = 0.55  # of branch occlusions; the others are inferior
# Reach of an occlusion beyond the branches, mm.
REACH_MM = {"M3": 32.0, "M4": 24.0, "none": 24.0}
# Everyone's arteries lie a little elsewhere: SD and scale of the shift, mm.
SHIFT_MM, SHIFT_SCALE_MM = 4.0, 30.0
# Danger rises over this depth behind the watershed, and falls faster in front of it.
DEPTH_MM, MAX_BY_DEPTH, FRONT_MM = 14.0, 1.6, 6.0
# Uneven collaterals: range of the SD over patients, and scale.
UNEVEN, UNEVEN_SCALE_MM = (1.0, 1.6), 32.0
BRAIN_FRACTION = 0.3
CEREBRUM_FROM_Z_MM = -45.0


@dataclasses.dataclass(frozen=True)
class Risk:
    """One hemisphere in danger; arrays are [n], its voxels.

    Attributes:
        where: index of the voxels in the model grid, as of ``np.nonzero``.
        danger: float32, without unit; only its order and its slope matter.
        depth_mm: behind the watershed of the occluded artery; negative outside its territory.
    """

    where: tuple[NDArray[np.intp], ...]
    danger: NDArray[np.float32]
    depth_mm: NDArray[np.float32]


def make_risk(rng: np.random.Generator, anatomy: Anatomy, occlusion: str, side: str) -> Risk:
    """Occlude one artery.

    Args:
        rng: the patient's generator.
        anatomy: the head.
        occlusion: one of clinical.OCCLUSIONS; for ``none`` (no occlusion seen) a small branch
            is taken.
        side: ``left`` or ``right``.
    """
    x, y, z = anatomy.template_mm
    half = (x < 0) if side == "left" else (x > 0)
    where = np.nonzero(half & (anatomy.brain > BRAIN_FRACTION) & (z > CEREBRUM_FROM_Z_MM))
    mm = [axis[where] + SHIFT_MM * anatomy.field(rng, SHIFT_SCALE_MM)[where] for axis in (x, y, z)]
    distance = territories.distances(*mm)
    branch = "superior" if rng.random() < SUPERIOR_SHARE else "inferior"
    if occlusion == "ICA":
        names = territories.MCA + (("aca",) if rng.random() < ACA_TAKEN_SHARE else ())
    elif occlusion == "M1":
        whole = rng.random() < PERFORATORS_TAKEN_SHARE
        names = territories.MCA if whole else tuple(n for n in territories.MCA if n != "deep")
    else:
        names = (branch,)
    depth = territories.depth_mm(distance, names)
    if occlusion in REACH_MM:
        points = np.array(territories.POINTS_MM[branch], np.float32)
        point = points[rng.integers(len(points))]
        away = [np.abs(mm[0]) - point[0], mm[1] - point[1], mm[2] - point[2]]
        depth = np.minimum(depth, REACH_MM[occlusion] - np.sqrt(sum(a**2 for a in away)))
    uneven = rng.uniform(*UNEVEN) * anatomy.field(rng, UNEVEN_SCALE_MM)[where]
    behind = MAX_BY_DEPTH * np.tanh(depth / DEPTH_MM)
    danger = np.where(depth > 0, behind, depth / FRONT_MM) + uneven
    return Risk(where, danger.astype(np.float32), depth)
