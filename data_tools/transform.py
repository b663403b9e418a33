"""Where a point of the patient lies in the template, and back.

An affine, and for a deformable fit two displacement fields on the MNI grid. All in millimetres,
RAS+; volumes are resampled through it in either direction.
"""

import dataclasses

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from data_tools.grid import GRID_AFFINE, GRID_SHAPE
from data_tools.volumes import Volume


@dataclasses.dataclass(frozen=True)
class Transform:
    """Native millimetres <-> MNI millimetres.

    Attributes:
        affine: float64 [4, 4], native mm -> MNI mm.
        back_mm: float32 [91, 109, 60, 3], added to a point of the MNI grid before the inverse
            affine; None for an affine fit.
        forth_mm: the same, added to a native point after the affine; the inverse of ``back_mm``.
            Beyond the grid both go on as at its edge.
    """

    affine: NDArray[np.float64]
    back_mm: NDArray[np.float32] | None = None
    forth_mm: NDArray[np.float32] | None = None

    def to_mni(self, points_mm: NDArray) -> NDArray[np.float64]:
        """Native points [n, 3] -> MNI points [n, 3]."""
        moved = _apply(self.affine, points_mm)
        return moved if self.forth_mm is None else moved + _displacement(self.forth_mm, moved)

    def to_native(self, points_mm: NDArray) -> NDArray[np.float64]:
        """MNI points [n, 3] -> native points [n, 3]."""
        if self.back_mm is not None:
            points_mm = points_mm + _displacement(self.back_mm, np.asarray(points_mm, float))
        return _apply(np.linalg.inv(self.affine), points_mm)

    def bring(self, volume: Volume) -> NDArray[np.float32]:
        """A native volume on the MNI grid, trilinear; 0 where it was not imaged."""
        if self.back_mm is None:
            return resample(volume, self.affine, GRID_SHAPE, GRID_AFFINE)
        return _sample(volume, self.to_native(_grid_points(GRID_SHAPE, GRID_AFFINE)), GRID_SHAPE)

    def bring_mask(self, mask: NDArray, like: Volume) -> NDArray[np.bool_]:
        """A native mask on the grid of ``like`` -> on the MNI grid."""
        return self.bring(dataclasses.replace(like, data=mask.astype(np.float32))) > 0.5

    def back(self, data: NDArray, like: Volume) -> NDArray[np.float32]:
        """Data on the MNI grid -> on the grid of a native volume, trilinear; 0 beyond the grid."""
        volume = Volume(np.asarray(data, np.float32), GRID_AFFINE)
        if self.forth_mm is None:
            return resample(
                volume, np.linalg.inv(self.affine), like.data.shape, like.affine
            )  # fmt: skip
        points = self.to_mni(_grid_points(like.data.shape, like.affine))
        return _sample(volume, points, like.data.shape)


def resample(
    volume: Volume,
    to_target: NDArray[np.floating],
    shape: tuple[int, ...],
    affine: NDArray[np.floating],
) -> NDArray[np.float32]:
    """Trilinear resampling onto another grid, in another space.

    Args:
        volume: what to resample; its orientation does not matter.
        to_target: [4, 4], millimetres of the volume -> millimetres of the target.
        shape: of the target grid.
        affine: of the target grid, [4, 4].

    Returns:
        float32 of ``shape``; 0 outside the volume. No value outside the range of the input, so
        no negative ADC can arise; threshold masks at 0.5.
    """
    to_index = np.linalg.inv(volume.affine) @ np.linalg.inv(to_target) @ affine
    return ndimage.affine_transform(
        volume.data, to_index[:3, :3], to_index[:3, 3], output_shape=shape, order=1
    ).astype(np.float32)


def motion(matrix: NDArray[np.float64], volume: Volume) -> tuple[float, float]:
    """How far (mm) a rigid transform moves the middle of a volume, and by how much it turns it."""
    middle = volume.affine @ [*((np.array(volume.data.shape) - 1) / 2), 1]
    return float(np.linalg.norm((matrix @ middle - middle)[:3])), turn_deg(matrix[:3, :3])


def turn_deg(linear: NDArray[np.float64]) -> float:
    """How far a linear map turns, without its scales and shears."""
    left, _, right = np.linalg.svd(linear)
    return float(np.degrees(np.arccos(np.clip((np.trace(left @ right) - 1) / 2, -1, 1))))


def _apply(matrix: NDArray, points: NDArray) -> NDArray[np.float64]:
    return np.asarray(points, float) @ matrix[:3, :3].T + matrix[:3, 3]


def _grid_points(shape: tuple[int, ...], affine: NDArray) -> NDArray[np.float64]:
    return _apply(affine, np.indices(shape).reshape(3, -1).T)


def _displacement(field: NDArray[np.float32], points_mm: NDArray) -> NDArray[np.float64]:
    index = _apply(np.linalg.inv(GRID_AFFINE), points_mm).T
    return np.stack(
        [ndimage.map_coordinates(field[..., k], index, order=1, mode="nearest") for k in range(3)],
        axis=1,
    ).astype(np.float64)


def _sample(volume: Volume, points_mm: NDArray, shape: tuple[int, ...]) -> NDArray[np.float32]:
    index = _apply(np.linalg.inv(volume.affine), points_mm).T
    return ndimage.map_coordinates(volume.data, index, order=1).reshape(shape).astype(np.float32)
