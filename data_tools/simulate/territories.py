"""Arterial territories from geometry: no atlas file, only points in MNI millimetres.

Each territory is a set of points along the course of its artery; a voxel belongs to the nearest
point (a Voronoi diagram), and half the difference between the two nearest distances is its depth
behind the watershed. The points were placed by hand along the course of the arteries; a test
compares the outcome with a published atlas where that is at hand.
"""

import numpy as np
from numpy.typing import NDArray

# x is the distance from the midline, so one list serves both hemispheres.
POINTS_MM: dict[str, tuple[tuple[float, float, float], ...]] = {
    "aca": (
        (6, 20, -16),
        (6, 45, -6),
        (10, 58, 4),
        (6, 50, 22),
        (10, 34, 44),
        (6, 12, 30),
        (10, 10, 58),
        (10, -14, 62),
        (8, -36, 54),
        (8, -46, 40),
        (14, -50, 60),
        (22, 44, 40),
        (20, 20, 56),
        (18, -30, 70),
        (6, -10, 30),
    ),
    "deep": ((24, 4, 4), (26, -8, 10), (22, 14, 0)),
    "superior": (
        (44, 30, 4),
        (30, 52, 0),
        (42, 36, 20),
        (30, 40, -12),
        (52, 10, 20),
        (42, 12, 38),
        (40, -8, 48),
        (50, -16, 42),
        (38, 6, 0),
        (32, 20, 20),
        (46, -24, 56),
        (28, -10, 34),
        (38, 48, 10),
        (32, 0, 56),
    ),
    "inferior": (
        (54, -8, -12),
        (56, -34, -4),
        (40, 10, -28),
        (50, -14, -30),
        (58, -26, 16),
        (56, -40, 22),
        (48, -52, 38),
        (40, -64, 34),
        (44, -72, 14),
        (36, -48, 46),
        (34, -48, 22),
        (42, -26, 2),
        (44, -80, 4),
        (34, -60, 50),
    ),
    "pca": (
        (8, -72, 6),
        (14, -92, 6),
        (10, -56, 8),
        (24, -56, -8),
        (36, -38, -20),
        (22, -28, -10),
        (10, -20, 4),
        (26, -78, -6),
        (10, -74, 26),
        (42, -54, -18),
        (18, -84, 24),
        (30, -90, 0),
        (28, -14, -22),
        (26, -76, 22),
        (12, -64, 40),
    ),
    "infratentorial": (
        (14, -52, -24),
        (30, -60, -34),
        (24, -74, -38),
        (6, -28, -34),
        (8, -20, -20),
        (40, -60, -40),
        (8, -70, -30),
    ),
}
NAMES = tuple(POINTS_MM)
MCA = ("deep", "superior", "inferior")


def distances(x_mm: NDArray, y_mm: NDArray, z_mm: NDArray) -> NDArray[np.float32]:
    """Distance to the nearest point of every territory, in one hemisphere.

    Args:
        x_mm: MNI coordinate [n]; only its absolute value is used.
        y_mm: the second one, [n].
        z_mm: the third one, [n].

    Returns:
        float32 [6, n] mm, in the order of :data:`NAMES`.
    """
    x_mm = np.abs(x_mm)
    nearest = np.full((len(NAMES), x_mm.size), np.inf, np.float32)
    for row, name in zip(nearest, NAMES, strict=True):
        for px, py, pz in POINTS_MM[name]:
            np.minimum(row, (x_mm - px) ** 2 + (y_mm - py) ** 2 + (z_mm - pz) ** 2, out=row)
    return np.sqrt(nearest)


def depth_mm(distance: NDArray[np.float32], names: tuple[str, ...]) -> NDArray[np.float32]:
    """Depth behind the watershed of the union of some territories; negative outside.

    Args:
        distance: of :func:`distances`, [6, n] mm.
        names: the territories that count as one.

    Returns:
        float32 [n] mm: how much further the nearest other territory's artery is, halved.
    """
    inside = np.array([name in names for name in NAMES])
    return (distance[~inside].min(axis=0) - distance[inside].min(axis=0)) / 2
