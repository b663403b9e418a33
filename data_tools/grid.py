"""The one space every patient is brought to, and the numbers of the paper that describe the data.

Grid: MNI152NLin2009aSym, 2 mm, 91 x 109 x 60 voxels, RAS+ (index 0 is left, posterior,
inferior), first voxel's centre at (-90, -126, -40) mm, so that z runs from -40 to +78 mm.
The network sees that grid centre-padded to 128 x 128 in slabs of 16 slices
(Yu et al., Radiology 2023;307(1):e220882, Data Preprocessing and Figure 1).

Arrays are indexed [x, y, z]. ``left`` is x < 0, the patient's left half of the brain.
"""

from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

SPACE = "MNI152NLin2009aSym"
GRID_SHAPE = (91, 109, 60)
VOXEL_MM = 2.0
VOXEL_ML = VOXEL_MM**3 / 1000.0
GRID_ORIGIN_MM = (-90.0, -126.0, -40.0)
GRID_AFFINE: NDArray[np.float64] = np.array(
    [
        [VOXEL_MM, 0.0, 0.0, GRID_ORIGIN_MM[0]],
        [0.0, VOXEL_MM, 0.0, GRID_ORIGIN_MM[1]],
        [0.0, 0.0, VOXEL_MM, GRID_ORIGIN_MM[2]],
        [0.0, 0.0, 0.0, 1.0],
    ]
)
GRID_AFFINE.setflags(write=False)

# Figure 1 of the paper: slabs of 128 x 128 x 16.
FRAME_SHAPE = (128, 128)
SLAB_SLICES = 16
SLAB_SHAPE = (*FRAME_SHAPE, SLAB_SLICES)
# Slices from one slab to the next; the paper says "sliding window" only.
SLAB_STRIDE = 4
FRAME_PAD_X = (FRAME_SHAPE[0] - GRID_SHAPE[0]) // 2
FRAME_PAD_Y = (FRAME_SHAPE[1] - GRID_SHAPE[1]) // 2
# First and last column and row of the grid that the template's brain fills (nilearn's
# ICBM 2009a symmetric brain mask, brought onto the grid).
TEMPLATE_BRAIN_X, TEMPLATE_BRAIN_Y = (9, 81), (10, 99)

# Ground truth (paper, Imaging Protocol): Tmax >= 6 s, ADC <= 620e-6 mm2/s.
TMAX_HYPOPERFUSION_S = 6.0
ADC_CORE_UM2_PER_S = 620.0  # 1 um2/s = 1e-6 mm2/s

# The paper's DWI has b = 1000 s/mm2. Tissue is hardly attenuated below 500; scanners take 0, or 5
# to 100 to spoil the signal of flowing blood, as the lowest.
WANTED_B_S_PER_MM2 = 1000.0
MIN_B_S_PER_MM2 = 500.0
LOW_B_MAX_S_PER_MM2 = 100.0

# Predecessor code of the paper's authors: ADC at or above this is CSF and set to 0.
ADC_CSF_UM2_PER_S = 2000.0

# NIHSS is divided by 21, which puts it into 0..2 (paper, Data Preprocessing); missing is -1.
NIHSS_MAX = 42
NIHSS_DIVISOR = 21.0
NIHSS_MISSING = -1.0

# Records hold the index, so a further word comes last. A network is shown the same of an unknown
# side as of a bilateral stroke: both halves.
Side = Literal["left", "right", "bilateral", "unknown"]
SIDES: tuple[str, ...] = get_args(Side)
ONE_SIDED, UNKNOWN_SIDE = ("left", "right"), "unknown"

# x = 0 mm falls on this column; it belongs to both halves, so that left | right is everything
# and mirroring the left half gives exactly the right half.
MIDLINE_INDEX = GRID_SHAPE[0] // 2


def patient_voxel_ml(to_mni: NDArray[np.float64]) -> float:
    """How much of the patient's tissue one voxel of the MNI grid holds.

    The template's brain (1.9 L) is larger than most patients' (1.1 to 1.5 L), so a voxel of
    0.008 mL holds less of theirs; criteria of 15 and 70 mL are about the patient's.

    Args:
        to_mni: [4, 4], native mm -> MNI mm.

    Returns:
        mL: 0.008 divided by the affine's determinant.

    >>> round(patient_voxel_ml(np.diag([2.0, 1.0, 1.0, 1.0])), 6)
    0.004
    """
    return float(VOXEL_ML / abs(np.linalg.det(to_mni[:3, :3])))


def hemisphere(side: str) -> NDArray[np.bool_]:
    """Mask of the stroke's side on the grid.

    Args:
        side: ``left``, ``right``, ``bilateral`` or ``unknown``: the side of the *brain lesion*.

    Returns:
        bool (91, 109, 60). The midline column (x = 0) is part of both halves;
        ``bilateral`` (paper, Data Preprocessing) and ``unknown`` are True everywhere.

    Raises:
        ValueError: for any other word.

    >>> [int(hemisphere(side)[:, 0, 0].sum()) for side in SIDES]
    [46, 46, 91, 91]
    """
    mask = np.zeros(GRID_SHAPE, bool)
    if side == "left":
        mask[: MIDLINE_INDEX + 1] = True
    elif side == "right":
        mask[MIDLINE_INDEX:] = True
    elif side in SIDES:
        mask[:] = True
    else:
        raise ValueError(f"side is {side!r}; expected one of {', '.join(SIDES)}")
    return mask


def side_frame(side: str) -> NDArray[np.bool_]:
    """The side channel of the network: the stroke's half of the 128 x 128 frame, margin included.

    Returns:
        bool (128, 128), the same for every slice; ``bilateral`` and ``unknown`` are True
        everywhere.

    >>> [int(side_frame(side)[:, 0].sum()) for side in SIDES]
    [64, 65, 128, 128]
    """
    half = hemisphere(side)[:, 0, 0]
    before, after = FRAME_PAD_X, FRAME_SHAPE[0] - GRID_SHAPE[0] - FRAME_PAD_X
    columns = np.pad(half, (before, after), mode="edge")
    return np.repeat(columns[:, np.newaxis], FRAME_SHAPE[1], axis=1)


def window_about_brain(shape: tuple[int, int]) -> tuple[slice, slice]:
    """Where a window of so many columns and rows lies in the 128 x 128 frame.

    Its middle is the middle of the template's brain, half a voxel to the right of it and in front
    of it where that falls between two voxels; a smaller window lies inside every larger one.

    Args:
        shape: columns and rows, at most those of the frame.

    >>> window_about_brain((80, 104))
    (slice(24, 104, None), slice(12, 116, None))
    >>> window_about_brain(FRAME_SHAPE)
    (slice(0, 128, None), slice(0, 128, None))
    """

    def about(pad: int, brain: tuple[int, int], size: int) -> slice:
        start = (2 * pad + sum(brain) + 2 - size) // 2
        return slice(start, start + size)

    return (
        about(FRAME_PAD_X, TEMPLATE_BRAIN_X, shape[0]),
        about(FRAME_PAD_Y, TEMPLATE_BRAIN_Y, shape[1]),
    )


def grid_outside(shape: tuple[int, int]) -> NDArray[np.bool_]:
    """The grid's columns and rows that lie outside :func:`window_about_brain`.

    Returns:
        bool (91, 109).

    >>> int(grid_outside((96, 112)).sum()), int(grid_outside((80, 104)).sum())
    (0, 1599)
    """
    outside = np.ones(FRAME_SHAPE, bool)
    outside[window_about_brain(shape)] = False
    return from_frame(outside)


def mirrored_side(side: str) -> str:
    """The side after a left-right mirror: left <-> right, the others stay.

    >>> [mirrored_side(side) for side in SIDES]
    ['right', 'left', 'bilateral', 'unknown']
    """
    return {"left": "right", "right": "left"}.get(side, side)


def to_frame(volume: NDArray) -> NDArray:
    """Centre-pad [91, 109, ...] with zeros to [128, 128, ...]; dtype is kept.

    >>> to_frame(np.ones(GRID_SHAPE, bool)).shape
    (128, 128, 60)
    """
    after_x = FRAME_SHAPE[0] - GRID_SHAPE[0] - FRAME_PAD_X
    after_y = FRAME_SHAPE[1] - GRID_SHAPE[1] - FRAME_PAD_Y
    rest = [(0, 0)] * (volume.ndim - 2)
    return np.pad(volume, [(FRAME_PAD_X, after_x), (FRAME_PAD_Y, after_y), *rest])


def from_frame(frame: NDArray) -> NDArray:
    """Cut the 91 x 109 grid out of [128, 128, ...]: the inverse of :func:`to_frame`."""
    return frame[
        FRAME_PAD_X : FRAME_PAD_X + GRID_SHAPE[0], FRAME_PAD_Y : FRAME_PAD_Y + GRID_SHAPE[1]
    ]
