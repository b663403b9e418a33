"""A linear fit of one image to another: least squares of their difference, by Gauss-Newton.

From coarse to fine. A step is of second order, for its gradient is the mean of both images' (Malis
2004), and is put before what was found so far, so that places and their products are the fixed
image's own. The normal equations are an affine's; kinds with fewer parameters are some of its
directions. What lies outside the moving image does not count. Nothing is drawn at random.
"""

import dataclasses
import functools
import itertools
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from data_tools.volumes import Volume

# Full width of a blur at half its height, in standard deviations.
FULL_WIDTH_SD = 2.355
# The darkness around the fixed image belongs to it as far as this; its brain is what shows more.
MARGIN_MM, SHOWN = 12.0, 0.1
# The search starts from the file's axes and turned by so much about each.
START_TURN_DEG = 30.0
# Unit of places, so that a turn and a shift of one weigh about the same.
UNIT_MM = 50.0
MAX_STEPS, MAX_HALVINGS = 40, 3
# Terms of the exponential's series: exact up to turns of a radian and more.
SERIES = 20


@dataclasses.dataclass(frozen=True)
class Resolution:
    """How closely both images are looked at.

    Attributes:
        spacing_mm: between the points at which they are compared.
        blur_mm: full width at half height.
        done_mm: a step that moves nothing further is the last.
    """

    spacing_mm: float
    blur_mm: float
    done_mm: float


SEARCH = Resolution(8.0, 8.0, 0.5)
RESOLUTIONS = (Resolution(8.0, 8.0, 0.2), Resolution(4.0, 4.0, 0.1), Resolution(3.0, 0.0, 0.02))

_ENTRIES = np.eye(12).reshape(3, 4, 12)
_TURNS = [_ENTRIES[k, j] - _ENTRIES[j, k] for j, k in ((1, 2), (2, 0), (0, 1))]
_RIGID = [*_TURNS, *_ENTRIES[:, 3]]
# Of an affine's 12 parameters, [3, 4] row by row, the directions in which each kind moves.
DIRECTIONS = {
    "rigid": np.stack(_RIGID),
    "similarity": np.stack([*_RIGID, sum(_ENTRIES[k, k] for k in range(3))]),
    "affine": np.eye(12),
}


class Target:
    """An image that others are fitted to; what every fit needs of it is computed once.

    Attributes:
        image: at least 0, with 0 around what it shows.
        centre_mm: its centre of mass.
    """

    def __init__(self, image: Volume) -> None:
        self.image = image
        self.centre_mm = _centre_mm(image)
        self.points = functools.cache(self._points)

    def _points(self, resolution: Resolution) -> "_Points":
        image, spacing_mm = self.image, resolution.spacing_mm
        box = ndimage.find_objects((image.data > SHOWN).astype(np.uint8))[0]
        ends = _moved(image.affine, _corners([(along.start, along.stop - 1) for along in box]))
        lowest, highest = ends.min(axis=0) - MARGIN_MM, ends.max(axis=0) + MARGIN_MM
        shape = tuple(((highest - lowest) // spacing_mm).astype(int) + 1)
        grid = np.diag([spacing_mm] * 3 + [1.0])
        grid[:3, 3] = lowest
        index = np.linalg.inv(image.affine) @ grid
        values = _sampled(_blurred(image, resolution.blur_mm).data, index, shape, 0.0)
        places = np.ones((4, *shape), np.float32)
        for axis, line in enumerate(np.ogrid[tuple(map(slice, shape))]):
            places[axis] = (lowest[axis] + spacing_mm * line - self.centre_mm[axis]) / UNIT_MM
        places = places.reshape(4, -1)
        return _Points(
            resolution=resolution, centre_mm=self.centre_mm, grid=grid, values=values,
            slope=_slope(values, spacing_mm), places=places, products=_products(places),
        )  # fmt: skip


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Points:
    """Where a target is compared, and what it shows there.

    Attributes:
        resolution: how closely.
        centre_mm: of the target.
        grid: index -> mm.
        values: [x, y, z].
        slope: of the values per mm, [3, n].
        places: in units from the centre, and 1; [4, n].
        products: of each two of the places, [10, n].
    """

    resolution: Resolution
    centre_mm: NDArray[np.floating]
    grid: NDArray[np.float64]
    values: NDArray[np.float32]
    slope: NDArray[np.float32]
    places: NDArray[np.float32]
    products: NDArray[np.float32]


def fit(
    target: Target,
    moving: Volume,
    kind: str = "affine",
    start: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """Fit an image to a target: [4, 4], millimetres of ``moving`` -> of the target.

    Args:
        target: what to fit to.
        moving: what to fit, in the same unit, 0 around what it shows.
        kind: ``rigid``, ``similarity`` (one scale for all axes) or ``affine``.
        start: where to begin, see :func:`together`; None searches among turns of 60 degrees and
            any shift.

    Returns:
        NaN everywhere if the moving image is empty.
    """
    if not moving.data.max() > 0:
        return np.full((4, 4), np.nan)
    blurred = functools.cache(functools.partial(_blurred, moving))
    first = _search(target, blurred(SEARCH.blur_mm), kind) if start is None else start
    back = np.linalg.inv(first)
    for resolution in RESOLUTIONS:
        points = target.points(resolution)
        back, _ = _descend(points, blurred(resolution.blur_mm), back, kind)
    return np.linalg.inv(back)


def together(target: Target, moving: Volume) -> NDArray[np.float64]:
    """The shift that puts one centre of mass on the other: [4, 4], moving mm -> target mm."""
    shift = np.eye(4)
    shift[:3, 3] = target.centre_mm - _centre_mm(moving)
    return shift


def _search(target: Target, moving: Volume, kind: str) -> NDArray[np.floating]:
    """The best of the fits that begin with the centres of mass together, turned in several ways.

    An affine's begin with one scale for all axes: rigid fits of a small brain, cut off, took wrong
    turns.
    """
    begin = np.linalg.inv(together(target, moving))
    by = np.deg2rad(START_TURN_DEG) * UNIT_MM
    turns = [_motion(sign * by * turn, target.centre_mm) for turn in _TURNS for sign in (1, -1)]
    starts = [begin, *(begin @ turn for turn in turns)]
    points = target.points(SEARCH)
    coarse = "similarity" if kind == "affine" else kind
    fits = [_descend(points, moving, start, coarse) for start in starts]
    return np.linalg.inv(min(fits, key=lambda found: found[1])[0])


def _descend(
    points: "_Points", moving: Volume, back: NDArray[np.floating], kind: str
) -> tuple[NDArray[np.floating], float]:
    """Steps downhill: target mm -> moving mm, and the mean squared difference there."""
    shape, centre_mm = points.values.shape, points.centre_mm
    corners = _moved(points.grid, _corners([(0, size - 1) for size in shape]))
    directions = DIRECTIONS[kind]

    def look(there: NDArray[np.floating]) -> tuple[NDArray[np.float32], float]:
        index = np.linalg.inv(moving.affine) @ there @ points.grid
        shown = _sampled(moving.data, index, shape, np.nan)
        difference = shown - points.values
        seen = difference[np.isfinite(difference)]
        return shown, float(seen @ seen / seen.size) if seen.size else np.inf

    shown, cost = look(back)
    for _ in range(MAX_STEPS):
        step = _step(points, shown, directions)
        for _ in range(MAX_HALVINGS):
            new = back @ _motion(-step, centre_mm)
            new_shown, new_cost = look(new)
            if new_cost < cost:
                break
            step = step / 2
        else:
            break
        moved_mm = np.linalg.norm(_moved(new, corners) - _moved(back, corners), axis=1).max()
        back, shown, cost = new, new_shown, new_cost
        if moved_mm < points.resolution.done_mm:
            break
    return back, cost


def _step(
    points: _Points, shown: NDArray[np.float32], directions: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The 12 parameters of the affine by which the target's points are off."""
    slope = (points.slope + _slope(shown, points.grid[0, 0])) / 2
    difference = (shown - points.values).ravel()
    unseen = ~np.isfinite(slope.sum(axis=0))
    slope[:, unseen], difference[unseen] = 0, 0
    pairs = (_products(slope) @ points.products.T).astype(float)
    of_slope, of_place = _pair_index(3), _pair_index(4)
    # [i, k, j, l] -> [i, j, k, l], so that rows and columns are an affine's parameters.
    normal = pairs[of_slope[:, :, None, None], of_place].swapaxes(1, 2).reshape(12, 12)
    wanted = ((slope * difference) @ points.places.T).reshape(12)
    found = np.linalg.lstsq(directions @ normal @ directions.T, directions @ wanted, rcond=None)[0]
    return found @ directions


def _motion(
    parameters: NDArray[np.float64], centre_mm: NDArray[np.floating]
) -> NDArray[np.float64]:
    """[4, 4] in mm of an affine's 12 parameters about a centre; turns of them stay turns."""
    rate = np.zeros((4, 4))
    rate[:3] = parameters.reshape(3, 4)
    rate[:3, :3] /= UNIT_MM
    moved, term = np.eye(4), np.eye(4)
    for power in range(1, SERIES + 1):
        term = term @ rate / power
        moved = moved + term
    moved[:3, 3] += centre_mm - moved[:3, :3] @ centre_mm
    return moved


def _pair_index(size: int) -> NDArray[np.int64]:
    """Where the product of two rows stands in :func:`_products`: [size, size]."""
    index = np.zeros((size, size), int)
    index[np.triu_indices(size)] = np.arange(size * (size + 1) // 2)
    return np.maximum(index, index.T)


def _products(rows: NDArray) -> NDArray:
    """Of each two rows of [m, n], one with itself too: [m (m + 1) / 2, n]."""
    one, other = np.triu_indices(len(rows))
    return rows[one] * rows[other]


def _slope(values: NDArray[np.float32], spacing_mm: float) -> NDArray[np.float32]:
    return np.stack([each.ravel() for each in np.gradient(values, np.float32(spacing_mm))])


def _blurred(image: Volume, blur_mm: float) -> Volume:
    sd = blur_mm / FULL_WIDTH_SD / np.array(image.spacing_mm)
    data = ndimage.gaussian_filter(image.data.astype(np.float32), sd, truncate=3.0)
    return dataclasses.replace(image, data=data)


def _sampled(
    data: NDArray[np.float32], index: NDArray[np.float64], shape: tuple[int, ...], outside: float
) -> NDArray[np.float32]:
    """Trilinear, at a grid whose index becomes the data's so; ``outside`` beyond them."""
    return ndimage.affine_transform(
        data, index[:3, :3], index[:3, 3], output_shape=shape, order=1, cval=outside
    )


def _centre_mm(image: Volume) -> NDArray[np.floating]:
    mass = np.maximum(image.data, 0)
    along = [
        mass.sum(axis=tuple(k for k in range(3) if k != axis), dtype=float) for axis in range(3)
    ]
    index = [each @ np.arange(len(each)) / each.sum() for each in along]
    return _moved(image.affine, np.array(index))


def _corners(ends: Iterable[tuple[int, int]]) -> NDArray[np.int64]:
    return np.array(list(itertools.product(*ends)))


def _moved(matrix: NDArray[np.floating], points: NDArray) -> NDArray[np.floating]:
    return points @ matrix[:3, :3].T + matrix[:3, 3]
