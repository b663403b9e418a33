"""Volume <-> overlapping slabs of 16 slices; the merge is the exact inverse of the cut.

Paper, Model Structure: slabs extracted by a sliding window, the outputs averaged.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from data_tools.grid import GRID_SHAPE, SLAB_SLICES


def slab_starts(stride: int, slices: int = GRID_SHAPE[2], depth: int = SLAB_SLICES) -> list[int]:
    """First slices of the slabs, so that every slice is covered.

    Args:
        stride: step between neighbours, 1..depth (a larger one would leave gaps).
        slices: slices of the volume, at least ``depth``.
        depth: slices of a slab.

    Raises:
        ValueError: for a stride or volume outside those bounds.

    >>> slab_starts(16), len(slab_starts(4)), slab_starts(4)[-1]
    ([0, 16, 32, 44], 12, 44)
    """
    if not 1 <= stride <= depth:
        raise ValueError(f"stride is {stride}; expected 1 to {depth}, or slices would be left out")
    if slices < depth:
        raise ValueError(f"the volume has {slices} slices; expected at least {depth}")
    last = slices - depth
    return sorted({*range(0, last + 1, stride), last})


def cut_slabs(volume: NDArray, starts: Sequence[int], depth: int = SLAB_SLICES) -> NDArray:
    """[x, y, slices, ...] -> [slabs, x, y, depth, ...], a copy; dtype is kept."""
    return np.stack([volume[:, :, start : start + depth] for start in starts])


def merge_slabs(slabs: NDArray, starts: Sequence[int], slices: int) -> NDArray[np.float32]:
    """Average overlapping slabs back into a volume.

    Sums are kept in float64, so that merging what :func:`cut_slabs` cut from a float32 volume
    gives back every bit.

    Args:
        slabs: [slabs, x, y, depth].
        starts: the first slice of each.
        slices: of the volume.

    Returns:
        float32 [x, y, slices].

    Raises:
        ValueError: if a slice is in no slab, or the counts differ.
    """
    if len(slabs) != len(starts):
        raise ValueError(f"{len(slabs)} slabs but {len(starts)} starts")
    total = np.zeros((*slabs.shape[1:3], slices))
    count = np.zeros(slices)
    depth = slabs.shape[3]
    for slab, start in zip(slabs, starts, strict=True):
        total[:, :, start : start + depth] += slab
        count[start : start + depth] += 1
    if not count.all():
        raise ValueError(f"slices {np.flatnonzero(count == 0).tolist()} are in no slab")
    return (total / count).astype(np.float32)
