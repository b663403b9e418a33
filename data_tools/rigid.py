"""Rigid movements of a head in millimetres: as matrices, and how far apart they put it."""

import numpy as np
from numpy.typing import NDArray

# Where displacements are told: so far from the middle.
RADIUS_MM = 50.0


def pose(parameters: NDArray[np.float64], centre_mm: NDArray[np.float64]) -> NDArray[np.float64]:
    """A shift and a turn about a point, as a matrix of millimetres; float64 (4, 4).

    Args:
        parameters: (6,), shift in mm along RAS and turn in degrees, a rotation vector.
        centre_mm: (3,), the point.
    """
    from scipy.spatial.transform import Rotation  # takes a while

    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_rotvec(np.deg2rad(parameters[3:])).as_matrix()
    matrix[:3, 3] = centre_mm - matrix[:3, :3] @ centre_mm + parameters[:3]
    return matrix


def apart_mm(
    poses: NDArray[np.float64], others: NDArray[np.float64], centre_mm: NDArray[np.float64]
) -> NDArray[np.float64]:
    """How far apart poses put a head: the largest of six points 50 mm from its middle; (n,).

    Args:
        poses: (n, 4, 4).
        others: the same, or one (4, 4).
        centre_mm: (3,), the middle.
    """
    around = centre_mm + RADIUS_MM * np.concatenate([np.eye(3), -np.eye(3)])
    points = np.concatenate([around, np.ones((6, 1))], axis=1)
    apart = (poses - others)[:, :3] @ points.T
    return np.linalg.norm(apart, axis=1).max(axis=1)
