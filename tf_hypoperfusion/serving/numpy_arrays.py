"""What :mod:`request_checks` is written in, by numpy: the same functions as :mod:`graph_arrays`.

Arithmetic, comparisons and slices are the arrays' own.
"""

import functools
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from data_tools.runtime import processor
from data_tools.runtime.errors import InputError

isfinite, round, where, maximum, minimum = np.isfinite, np.rint, np.where, np.maximum, np.minimum
argmin, argmax, clip, sqrt, log = np.argmin, np.argmax, np.clip, np.sqrt, np.log
any, all, max, sum = np.any, np.all, np.max, np.sum
constant = np.asarray


def cast(values: Any, dtype: str) -> Any:
    """The same values as another type."""
    return np.asarray(values).astype(dtype)


def sigmoid(values: NDArray) -> NDArray:
    """Between 0 and 1; of 0, one half."""
    return 1 / (1 + np.exp(-values))


def cumsum(values: NDArray, reverse: bool = False) -> NDArray:
    """Sums up to each, or from each on."""
    return values[::-1].cumsum()[::-1] if reverse else values.cumsum()


def count(mask: NDArray[np.bool_]) -> np.float64:
    """How many are true."""
    return np.float64(np.count_nonzero(mask))


def size(values: NDArray) -> np.float64:
    """How many there are."""
    return np.float64(values.size)


def divide(values: Any, by: Any) -> Any:
    """A quotient; 0 where the divisor is 0."""
    quotient = np.zeros_like(values)
    return np.divide(values, by, out=quotient, where=by != 0)


def take(values: NDArray, index: NDArray[np.int32], axis: int = 0) -> NDArray:
    """Values at places along an axis."""
    if index.ndim == 1 and np.array_equal(index, np.arange(values.shape[axis])):
        return values
    return np.take(values, index, axis)


def ravel(values: NDArray) -> NDArray:
    """All values in one row."""
    return values.reshape(-1)


def select(values: NDArray, mask: NDArray[np.bool_]) -> NDArray:
    """The values in a mask."""
    return values[mask]


def median_of(values: NDArray) -> Any:
    """The median; 0 of nothing."""
    return np.median(values) if values.size else values.dtype.type(0)


def mean_of(values: NDArray[np.float32], where: NDArray[np.bool_]) -> np.float32:
    """Mean inside a mask, summed in float64."""
    inside = values[where]
    return np.float32(inside.sum(dtype=np.float64) / np.float64(inside.size))


def eroded(mask: NDArray[np.bool_], box: Sequence[int]) -> NDArray[np.bool_]:
    """Where a box around a voxel lies in the mask; beyond the grid is outside."""
    return ndimage.minimum_filter(mask.view(np.uint8), box, mode="constant", cval=0) > 0


def coarse(volume: NDArray[np.float32], step: int) -> NDArray[np.float32]:
    """Means of cubes of so many voxels; what is left at the end is left out."""
    ends = [n // step * step for n in volume.shape]
    for axis, end in enumerate(ends):
        every = [volume[(slice(None),) * axis + (slice(k, end, step),)] for k in range(step)]
        volume = functools.reduce(np.add, every)
    return volume / np.float32(step**3)


def box_mean(volume: NDArray[np.float32], width: int) -> NDArray[np.float32]:
    """Means of cubes around each voxel; beyond the grid is 0, or does not count."""
    return ndimage.uniform_filter(volume, width, mode="constant")


def each(function: Callable[..., tuple[Any, Any]], *stacked: NDArray) -> tuple[NDArray, NDArray]:
    """Two numbers of each row of the arrays."""

    def quietly(*row: NDArray) -> tuple[Any, Any]:
        with np.errstate(all="ignore"):  # which a thread does not take over
            return function(*row)

    with ThreadPoolExecutor(processor.cores()) as pool:
        first, second = zip(*pool.map(quietly, *stacked), strict=True)
    return np.array(first), np.array(second)


def is_one_of(word: str, words: Sequence[str]) -> bool:
    """Whether a word is among others."""
    return word in words


def choose(words: Sequence[str], index: Any) -> str:
    """One of several words."""
    return words[int(index)]


def number(value: Any, digits: int = 2) -> str:
    """With so many digits after the point."""
    return f"{float(value):.{digits}f}"


def short_number(value: Any) -> str:
    """With six digits at most."""
    return f"{float(value):g}"


def text(*parts: str) -> str:
    """Parts of a sentence, joined."""
    return "".join(parts)


def refuse(rules: Sequence[tuple[Any, str]]) -> None:
    """Refuse with the reason of the first condition that does not hold.

    Raises:
        InputError: with just this reason.
    """
    for holds, reason in rules:
        if not holds:
            raise InputError(reason)
