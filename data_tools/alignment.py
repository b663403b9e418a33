"""Images of one session on one grid: by the millimetres of their headers, if these agree."""

import dataclasses

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from data_tools.brain_of_dwi import slice_axis
from data_tools.runtime.errors import InputError
from data_tools.volumes import Volume

# Of one grid's field of view inside the other's: less is another place, not another grid.
MIN_OVERLAP = 0.3
SAME_INDEX = 1e-4
# EPI distortion and rounded headers; more between grids of one shape is another header.
NEAR_MM = 2.0


@dataclasses.dataclass(frozen=True)
class Aligned:
    """An image on the grid of another one.

    Attributes:
        volume: on that grid; the image itself if it was there already.
        notes: what was done.
        warnings: what a person should look at.
    """

    volume: Volume
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def onto(image: Volume, target: Volume, what: str) -> Aligned:
    """Bring an image onto another one's grid by the coordinates of both.

    Only voxels above 0 count, so that the background around an image does not lower its edge.

    Args:
        image: ADC map or b = 0 image.
        target: the DWI.
        what: ``ADC``..., for messages.

    Raises:
        InputError: they do not show the same part of space, or lie on one grid by other forms of
            their headers than by those that were taken.
    """
    if image.same_grid(target):
        return Aligned(image)
    _check_forms(image, target, what)
    inside, covered = _share(target, image), _share(image, target)
    if max(inside, covered) < MIN_OVERLAP:
        raise InputError(
            f"{what} {image.path} and DWI {target.path} do not show the same part of space: "
            f"{covered:.0%} of the DWI's field of view lies in that of the {what}, whose centre is "
            f"{_apart_mm(image, target):.0f} mm away; expected images of one session with their "
            "own orientation headers"
        )
    shown = dataclasses.replace(image, data=(image.data > 0).astype(np.float32))
    weight = _on(shown, target)
    values = _on(dataclasses.replace(image, data=np.maximum(image.data, 0)), target)
    data = np.divide(values, weight, out=np.zeros_like(values), where=weight > 0.5)
    reading = image.reading
    if reading.absent is not None:
        gaps = dataclasses.replace(image, data=reading.absent.astype(np.float32))
        reading = dataclasses.replace(reading, absent=_on(gaps, target) > 0)
    moved = Volume(data, target.affine, image.path, reading)
    warnings = []
    only = _slices_only_in(image, target), _slices_only_in(target, image)
    if any(only):
        warnings.append(
            f"the DWI and the {what} do not show the same slices: "
            f"{only[0]} of the {what} and {only[1]} of the DWI are in one only; were files lost?"
        )
    same_shape = image.data.shape == target.data.shape and image.orientation == target.orientation
    if same_shape and (apart_mm := _furthest_mm(image, target)) > NEAR_MM:
        warnings.append(
            f"the {what} lies up to {apart_mm:.2g} mm off the DWI by its header, though both "
            "have the same number of voxels; are both headers right?"
        )
    note = f"{_difference(image, target, what)}; it was resampled"
    return Aligned(moved, (note,), tuple(warnings))


def _difference(image: Volume, target: Volume, what: str) -> str:
    between = np.linalg.inv(image.affine) @ target.affine
    if np.abs(between - between.round()).max() < SAME_INDEX and abs(np.linalg.det(between)) < 1.5:
        return (
            f"the {what} stores the DWI's voxels in another order or number ({image.orientation}, "
            f"{image.data.shape}, the DWI {target.orientation}, {target.data.shape})"
        )
    if image.data.shape == target.data.shape:
        furthest = _furthest_mm(image, target)
        if furthest < min(target.spacing_mm) or np.allclose(
            image.spacing_mm, target.spacing_mm, rtol=1e-3
        ):
            return f"the {what} lies {furthest:.2g} mm off the DWI's voxels"
    sizes, counts = (
        [
            " x ".join(f"{x:.3g}" for x in each)
            for each in ((v.spacing_mm, v.data.shape)[k] for v in (image, target))
        ]
        for k in (0, 1)
    )
    return (
        f"the {what} has another grid ({counts[0]} voxels of {sizes[0]} mm) than the DWI "
        f"({counts[1]} of {sizes[1]} mm)"
    )


def _check_forms(image: Volume, target: Volume, what: str) -> None:
    """Refuse images that other forms of their headers would put on one grid."""
    if image.reading.other_affine is None and target.reading.other_affine is None:
        return
    for ours in (image.affine, image.reading.other_affine):
        for theirs in (target.affine, target.reading.other_affine):
            if ours is None or theirs is None:
                continue
            moved = dataclasses.replace(image, affine=ours)
            if moved.same_grid(dataclasses.replace(target, affine=theirs)):
                raise InputError(
                    f"{what} {image.path} and DWI {target.path} lie on one grid by some of the "
                    f"qforms and sforms in their headers, and {_apart_mm(image, target):.1f} mm "
                    "apart by others; which are right is unsure. Set both forms of both files to "
                    "the right one."
                )


def _apart_mm(image: Volume, target: Volume) -> float:
    middles = [
        nib.affines.apply_affine(v.affine, (np.array(v.data.shape) - 1) / 2)
        for v in (image, target)
    ]
    return float(np.linalg.norm(middles[0] - middles[1]))


def _corners(volume: Volume) -> NDArray[np.float64]:
    ends = np.array(np.meshgrid(*[(0, n - 1) for n in volume.data.shape])).reshape(3, -1).T
    return nib.affines.apply_affine(volume.affine, ends)


def _furthest_mm(image: Volume, target: Volume) -> float:
    return float(np.linalg.norm(_corners(image) - _corners(target), axis=1).max())


def _slices_only_in(image: Volume, other: Volume) -> int:
    """Slices of an image with any value above 0 that lie outside another's field of view."""
    axis = slice_axis(image.affine)
    in_plane = tuple(k for k in range(3) if k != axis)
    shown = (image.data > 0).any(axis=in_plane)
    field = dataclasses.replace(other, data=np.ones(other.data.shape, np.float32))
    return int((shown & ~(_on(field, image) > 0.5).any(axis=in_plane)).sum())


def _share(image: Volume, of: Volume) -> float:
    """Share of a grid's voxels that lie in an image's field of view."""
    field = dataclasses.replace(image, data=np.ones(image.data.shape, np.float32))
    return float((_on(field, of) > 0.5).mean())


def _on(image: Volume, target: Volume) -> NDArray[np.float32]:
    """Trilinear; what lies less than half a voxel beyond the outer voxels' centres is theirs."""
    shape = target.data.shape
    to_index = np.linalg.inv(image.affine) @ target.affine
    if np.abs(to_index - to_index.round()).max() < SAME_INDEX:
        to_index = to_index.round()  # the same voxels in another order: values stay as they are
    to_index[:3, 3] += 1  # of the padded image
    wider = np.pad(image.data, 1, mode="edge")
    field = np.pad(np.ones(image.data.shape, np.float32), 1)
    moved, inside = (
        ndimage.affine_transform(
            each, to_index[:3, :3], to_index[:3, 3], output_shape=shape, order=1
        )
        for each in (wider, field)
    )
    return np.where(inside > 0.499, moved, 0).astype(np.float32)
