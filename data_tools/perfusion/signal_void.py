"""Parts of the head without signal: metal, whose field takes it away from all around; a cut."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import ConvexHull, Delaunay, QhullError

from data_tools.runtime.errors import InputError

# Of the brain's median signal.
DARK_SHARE = 0.3
# Thinner dark parts are bone and the gaps between brain and its hull.
THIN_MM = 8.0
MAX_VOID_ML = 8.0
# The lowest slices with brain have air and bone within their outline.
BASE_SHARE = 0.3
# How large the brain is so far within its end, against its largest plane: 0.2 to 0.35 where it is
# round, 1 where a half is missing.
WITHIN_MM, CUT_SHARE, MAX_CUT_SHARE = 5.0, 0.55, 0.8
SIDES = (("left", "right"), ("back", "front"), ("bottom", "top"))


def void_ml(
    mean_signal: NDArray[np.float32], brain: NDArray[np.bool_], affine: NDArray[np.float64]
) -> float:
    """mL of the largest dark part, more than 16 mm thick, within the brain's outline.

    The outline is the convex hull of each slice's brain. The lowest 30% of the slices with brain
    are left out.

    Args:
        mean_signal: [X, Y, Z], any unit.
        brain: bool [X, Y, Z].
        affine: voxel to mm, RAS+; slices are stacked along the third axis.

    Returns:
        0 of an empty brain.
    """
    slices = np.flatnonzero(brain.any(axis=(0, 1)))
    if not len(slices):
        return 0.0
    if affine[2, 2] < 0:
        slices = slices[::-1]
    spacing_mm = np.linalg.norm(affine[:3, :3], axis=0)
    dark = mean_signal < DARK_SHARE * np.median(mean_signal[brain])
    largest = 0
    found = np.zeros(brain.shape, bool)
    for k in slices[int(BASE_SHARE * len(slices)) :]:
        inside = dark[:, :, k] & _hull(brain[:, :, k])
        depth_mm = ndimage.distance_transform_edt(inside, sampling=spacing_mm[:2])
        core = depth_mm > THIN_MM
        if core.any():
            near_mm = ndimage.distance_transform_edt(~core, sampling=spacing_mm[:2])
            found[:, :, k] = inside & (near_mm <= THIN_MM)
    parts, count = ndimage.label(found)
    if count:
        largest = int(np.bincount(parts.ravel())[1:].max())
    return float(largest * np.prod(spacing_mm) / 1000)


def warnings(
    mean_signal: NDArray[np.float32], brain: NDArray[np.bool_], affine: NDArray[np.float64]
) -> tuple[str, ...]:
    """What to tell of :func:`void_ml` over 8 mL."""
    missing_ml = void_ml(mean_signal, brain, affine)
    if missing_ml <= MAX_VOID_ML:
        return ()
    return (
        f"{missing_ml:.0f} mL within the brain's outline give no signal: is there metal? No map "
        "shows what lies there",
    )


def cut_off(brain: NDArray[np.bool_], affine: NDArray[np.float64]) -> tuple[float, str]:
    """How bluntly the brain ends within its slices, and on which side it does so most.

    Args:
        brain: bool [X, Y, Z].
        affine: voxel to mm, RAS+; slices are stacked along the third axis.

    Returns:
        ``(share, side)``: area of the plane 5 mm within the end over the largest one; 0 of an
        empty brain.
    """
    found = (0.0, "")
    for axis in range(2):
        column = affine[:3, axis]
        area = brain.sum(axis=(1 - axis, 2))
        planes = np.flatnonzero(area)
        if not len(planes):
            return found
        inside = max(round(WITHIN_MM / float(np.linalg.norm(column))), 1)
        along = int(np.abs(column).argmax())
        ends = (planes[0] + inside, planes[-1] - inside)
        for end, plane in enumerate(ends):
            side = SIDES[along][end if column[along] > 0 else 1 - end]
            share = float(area[np.clip(plane, 0, len(area) - 1)] / area.max())
            found = max(found, (share, side))
    return found


def check_whole(brain: NDArray[np.bool_], affine: NDArray[np.float64]) -> tuple[str, ...]:
    """A warning where a part of the brain is cut away; refused where it may be half.

    Raises:
        InputError: naming the side.
    """
    share, side = cut_off(brain, affine)
    if share < CUT_SHARE:
        return ()
    said = f"the brain ends in a straight cut at the {side}"
    if share > MAX_CUT_SHARE:
        raise InputError(
            f"{said}: a large part of the head, perhaps half, is missing from the perfusion "
            "series. Tmax needs both sides; expected whole slices"
        )
    return (f"{said}: a part of the head is missing from the perfusion series",)


def _hull(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The convex hull of a slice's mask; the mask itself where it is a line or less."""
    points = np.argwhere(mask)
    try:
        corners = points[ConvexHull(points).vertices]
    except (QhullError, ValueError):
        return mask
    grid = np.indices(mask.shape).reshape(2, -1).T
    return (Delaunay(corners).find_simplex(grid) >= 0).reshape(mask.shape)
