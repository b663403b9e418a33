"""The large vessels of a simulated head, as lines in MNI millimetres: what an arterial input is.

Courses, widths and strengths were placed by hand. What counts is what makes an automatic choice
hard: voxels that arteries fill only in part, arteries so strong that the signal is clipped, a
sinus that is larger than any artery and a little later, and arteries behind the occlusion.
"""

import dataclasses

import numpy as np
from numpy.typing import NDArray

from data_tools.simulate.anatomy import MODEL_SHAPE, Anatomy

ARTERY, LATE_ARTERY, VEIN = 1, 2, 3
# Distal branches in tissue as late as this are filled late, by collaterals.
LATE_FROM_S = 4.5
# Further away than so many radii a vessel adds nothing.
REACH = 3.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Course:
    """One vessel.

    Attributes:
        points_mm: along it, x from the midline where there are two.
        radius_mm: SD of its profile; wider than the vessel, as T2* sees it.
        peak_per_s: Delta R2* in its middle at the height of the bolus.
        kind: :data:`ARTERY` or :data:`VEIN`.
        proximal: before any occlusion, so never late.
        paired: left and right.
    """

    points_mm: tuple[tuple[float, float, float], ...]
    radius_mm: float
    peak_per_s: float
    kind: int = ARTERY
    proximal: bool = False
    paired: bool = True


COURSES = (
    Course(  # internal carotid and M1
        points_mm=((12, 2, -24), (14, 6, -14), (22, 6, -15), (32, 4, -14), (38, 0, -10)),
        radius_mm=2.4, peak_per_s=260, proximal=True,
    ),
    Course(points_mm=((0, -28, -34), (0, -24, -12)), radius_mm=2.2, peak_per_s=200,
           proximal=True, paired=False),  # basilar
    Course(points_mm=((4, -22, -10), (20, -30, -8), (22, -50, -2), (14, -70, 4)),
           radius_mm=1.8, peak_per_s=110),  # posterior cerebral
    Course(points_mm=((4, 8, -14), (4, 36, -4), (4, 40, 14), (5, 26, 32), (5, 0, 42), (6, -24, 52)),
           radius_mm=1.8, peak_per_s=120),  # anterior cerebral
    Course(points_mm=((38, 0, -10), (40, 6, 4), (42, -6, 10), (42, -20, 12)),
           radius_mm=1.8, peak_per_s=150),  # M2 on the insula
    Course(points_mm=((38, 0, -10), (44, -14, -4), (50, -30, 6), (56, -45, 18), (48, -58, 34)),
           radius_mm=1.8, peak_per_s=130),  # inferior division
    Course(points_mm=((42, -6, 10), (52, -6, 24), (50, -10, 40)), radius_mm=1.6, peak_per_s=90),
    Course(points_mm=((40, 6, 4), (48, 20, 16), (40, 36, 22)), radius_mm=1.6, peak_per_s=90),
    Course(  # superior sagittal sinus
        points_mm=((0, 66, 28), (0, 52, 50), (0, 30, 68), (0, 0, 78), (0, -30, 80), (0, -60, 70),
                   (0, -84, 46), (0, -98, 20), (0, -98, 0)),
        radius_mm=3.5, peak_per_s=320, kind=VEIN, paired=False,
    ),
    Course(points_mm=((0, -98, -2), (24, -90, -16), (46, -72, -22)), radius_mm=3.0,
           peak_per_s=240, kind=VEIN),  # transverse sinus
    Course(points_mm=((0, -40, 4), (0, -56, 12), (0, -78, 4), (0, -96, 0)), radius_mm=2.2,
           peak_per_s=200, kind=VEIN, paired=False),  # straight sinus
    Course(points_mm=((12, -10, 74), (28, -4, 66), (40, 0, 54)), radius_mm=1.6, peak_per_s=90,
           kind=VEIN),  # cortical vein
    Course(points_mm=((34, 22, -8), (50, 6, 2)), radius_mm=1.6, peak_per_s=80,
           kind=VEIN),  # Sylvian vein, beside the middle cerebral artery
)  # fmt: skip


@dataclasses.dataclass(frozen=True, kw_only=True)
class Vessels:
    """Delta R2* in 1/s at the bolus' height that vessels add; float32 on the model grid.

    Attributes:
        artery: filled at once.
        late_artery: behind the occlusion, filled by collaterals.
        vein: sinuses and cortical veins.
    """

    artery: NDArray[np.float32]
    late_artery: NDArray[np.float32]
    vein: NDArray[np.float32]


def make_vessels(
    rng: np.random.Generator, anatomy: Anatomy, tmax_s: NDArray[np.float32]
) -> Vessels:
    """The vessels of one head, bent with it.

    Args:
        rng: how strong each vessel is.
        anatomy: the head.
        tmax_s: on the model grid; says which distal arteries are late.
    """
    from scipy.spatial import cKDTree

    found = np.zeros((4, *MODEL_SHAPE), np.float32)
    where = np.nonzero((anatomy.brain > 0) | (anatomy.scalp > 0))
    places = np.stack([axis[where] for axis in anatomy.template_mm], axis=1)
    late = tmax_s[where] >= LATE_FROM_S
    for course in COURSES:
        line = _line(course.points_mm)
        for sign in (-1, 1) if course.paired else (1,):
            own, reach_mm = line * (sign, 1, 1), REACH * course.radius_mm
            low, high = own.min(axis=0) - reach_mm, own.max(axis=0) + reach_mm
            near = np.flatnonzero(((places > low) & (places < high)).all(axis=1))
            away_mm, _ = cKDTree(own).query(places[near], distance_upper_bound=reach_mm)
            near, away_mm = near[np.isfinite(away_mm)], away_mm[np.isfinite(away_mm)]
            peak = course.peak_per_s * rng.uniform(0.7, 1.3)
            added = peak * np.exp(-(away_mm**2) / (2 * course.radius_mm**2))
            kind = np.full(near.size, course.kind)
            if course.kind == ARTERY and not course.proximal:
                kind[late[near]] = LATE_ARTERY
            index = (kind, *(axis[near] for axis in where))
            found[index] = np.maximum(found[index], added)
    return Vessels(artery=found[ARTERY], late_artery=found[LATE_ARTERY], vein=found[VEIN])


def _line(points_mm: tuple[tuple[float, float, float], ...]) -> NDArray[np.float64]:
    """Points about 1 mm apart along straight pieces: [n, 3]."""
    points = np.array(points_mm, float)
    pieces = []
    for one, other in zip(points[:-1], points[1:], strict=True):
        steps = int(np.ceil(np.linalg.norm(other - one))) + 1
        pieces.append(one + np.linspace(0, 1, steps)[:, None] * (other - one))
    return np.concatenate(pieces)
