"""A simulated head: the ICBM tissue maps that nilearn carries, bent differently each time.

Everything lives on the model grid: 2 mm, RAS, larger than the MNI grid of the network by a
margin that holds the whole head. A voxel keeps the template coordinate it came from, so that
territories and deep structures bend together with the tissue.
"""

import dataclasses
import functools

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from data_tools.grid import GRID_ORIGIN_MM, GRID_SHAPE, VOXEL_ML, VOXEL_MM

MODEL_SHAPE = (99, 117, 95)
MODEL_ORIGIN_MM = (-98.0, -134.0, -72.0)
MODEL_AFFINE = np.diag([VOXEL_MM, VOXEL_MM, VOXEL_MM, 1.0])
MODEL_AFFINE[:3, 3] = MODEL_ORIGIN_MM
MODEL_AFFINE.setflags(write=False)
MODEL_VOXEL_ML = VOXEL_ML

# Where the MNI grid lies inside the model grid.
GRID_IN_MODEL = tuple(
    slice(start := round((grid - model) / VOXEL_MM), start + size)
    for grid, model, size in zip(GRID_ORIGIN_MM, MODEL_ORIGIN_MM, GRID_SHAPE, strict=True)
)

# Centre and reach of the ventricles' swelling, MNI mm.
VENTRICLES_MM = (0.0, -18.0, 16.0)
VENTRICLES_REACH_MM = 26.0
# Deep grey matter (ADC lower than cortex: Helenius 2002): centres and radius, |x| MNI mm.
DEEP_GREY_MM = ((24.0, 4.0, 2.0), (12.0, -18.0, 8.0), (13.0, 12.0, 8.0))
DEEP_GREY_RADIUS_MM = 13.0
# Voxels around the head: more than the reach of any blur of what is in it.
BOX_MARGIN = 5


@dataclasses.dataclass(frozen=True, kw_only=True)
class Anatomy:
    """One head on the model grid; all arrays are float32 of :data:`MODEL_SHAPE`.

    Attributes:
        template_mm: [3, x, y, z], the template coordinate each voxel came from.
        grey: fraction of grey matter; with the next two it adds up to ``brain``.
        white: of white matter.
        csf: of fluid.
        brain: fraction of the voxel inside the skull's inner table.
        scalp: 0..1, a thin shell around the brain.
        deep: 0..1, basal ganglia and thalamus.
    """

    template_mm: NDArray[np.float32]
    grey: NDArray[np.float32]
    white: NDArray[np.float32]
    csf: NDArray[np.float32]
    brain: NDArray[np.float32]
    scalp: NDArray[np.float32]
    deep: NDArray[np.float32]

    @property
    def tissue(self) -> NDArray[np.bool_]:
        """Voxels that are mostly grey or white matter."""
        return self.grey + self.white > 0.5

    @functools.cached_property
    def box(self) -> tuple[slice, ...]:
        """The part of the grid that holds the head, with some voxels around it."""
        head = (self.brain > 0) | (self.scalp > 0)
        found = []
        for axis in range(3):
            rest = tuple(k for k in range(3) if k != axis)
            filled = np.flatnonzero(head.any(axis=rest))
            found.append(slice(max(filled[0] - BOX_MARGIN, 0), filled[-1] + 1 + BOX_MARGIN))
        return tuple(found)

    def field(self, rng: np.random.Generator, spacing_mm: float) -> NDArray[np.float32]:
        """As :func:`smooth_field`, but 0 outside :attr:`box`, and faster for it."""
        return smooth_field(rng, spacing_mm, self.box)


@functools.cache
def template() -> NDArray[np.float32]:
    """Grey, white and brain fractions of the ICBM 2009a symmetric template: [3, x, y, z]."""
    from nilearn import datasets  # takes seconds; --help and tests of geometry need it not

    maps = [
        datasets.load_mni152_gm_template(resolution=1),
        datasets.load_mni152_wm_template(resolution=1),
        datasets.load_mni152_template(resolution=1),
    ]
    grey, white, t1 = (np.asarray(image.dataobj, np.float32) for image in maps)
    if not np.allclose(maps[0].affine[:3, 3], MODEL_ORIGIN_MM) or grey.shape != (197, 233, 189):
        raise RuntimeError("nilearn's ICBM template changed its grid; the model grid must follow")
    brain = ndimage.binary_fill_holes(np.maximum(grey + white, t1 > 0) > 0.5).astype(np.float32)
    # Voxels of 1 mm to 2 mm: blur over about one new voxel, then take every second.
    half = np.stack([ndimage.gaussian_filter(m, 0.8)[::2, ::2, ::2] for m in (grey, white, brain)])
    half[:2] /= np.maximum(1, half[0] + half[1])
    half[2] = np.maximum(half[2], half[0] + half[1])
    half.setflags(write=False)
    return half


@functools.cache
def model_mm() -> NDArray[np.float32]:
    """MNI coordinates of the model grid: [3, x, y, z] mm."""
    grids = np.indices(MODEL_SHAPE, dtype=np.float32)
    mm = grids * np.float32(VOXEL_MM) + np.array(MODEL_ORIGIN_MM, np.float32)[:, None, None, None]
    mm.setflags(write=False)
    return mm


WHOLE = (slice(None), slice(None), slice(None))


def smooth_field(
    rng: np.random.Generator, spacing_mm: float, box: tuple[slice, ...] = WHOLE
) -> NDArray[np.float32]:
    """A random field on the model grid: mean 0, SD 1 everywhere, no detail under ``spacing_mm``.

    Normal numbers on a coarse lattice, joined by cubic B-splines.

    Args:
        rng: generator.
        spacing_mm: of the lattice.
        box: the part of the grid that is wanted; the field is 0 elsewhere.
    """
    bases = [_spline_basis(size, spacing_mm) for size in MODEL_SHAPE]
    field = rng.standard_normal([basis.shape[1] for basis in bases], dtype=np.float32)
    # einsum without BLAS: the same bytes whatever the number of threads.
    rules = ("xi,ijk->xjk", "yj,xjk->xyk", "zk,xyk->xyz")
    for rule, basis, part in zip(rules, bases, box, strict=True):
        field = np.einsum(rule, basis[part], field, optimize=False)
    if box == WHOLE:
        return field
    whole = np.zeros(MODEL_SHAPE, np.float32)
    whole[box] = field
    return whole


@functools.cache
def _spline_basis(size: int, spacing_mm: float) -> NDArray[np.float32]:
    position = np.arange(size) * VOXEL_MM / spacing_mm
    knots = np.arange(int(position[-1]) + 4) - 1
    t = np.abs(position[:, None] - knots[None])
    basis = np.where(t < 1, 2 / 3 - t**2 + t**3 / 2, np.clip(2 - t, 0, None) ** 3 / 6)
    return (basis / np.sqrt((basis**2).sum(axis=1, keepdims=True))).astype(np.float32)


@functools.cache
def _template_head() -> NDArray[np.bool_]:
    """Voxels of the template, and two layers around them, that hold any brain."""
    return ndimage.binary_dilation(template().max(axis=0) > 0, iterations=2)


def _near_brain(source_mm: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Where the template may hold any brain, for points [3, x, y, z] of it."""
    near = np.ones(source_mm.shape[1:], bool)
    index = []
    for axis, (origin, size) in enumerate(zip(MODEL_ORIGIN_MM, MODEL_SHAPE, strict=True)):
        rounded = np.rint((source_mm[axis] - np.float32(origin)) / VOXEL_MM).astype(np.int32)
        near &= (rounded >= -1) & (rounded <= size)
        index.append(np.clip(rounded, 0, size - 1))
    return near & _template_head()[tuple(index)]


def make_anatomy(rng: np.random.Generator, age: float, bend: float = 1.0) -> Anatomy:
    """Bend the template into one patient.

    Args:
        rng: the patient's generator.
        age: years; ventricles and sulci widen with it.
        bend: how much; 0 leaves the shape of the template but for the ventricles.
    """
    atrophy = float(np.clip((age - 50) / 45, 0, 1) + rng.normal(0, 0.25))
    mm = model_mm()
    source = np.empty_like(mm)
    for axis in range(3):
        shift_mm = 3.5 * smooth_field(rng, 36.0) + 1.2 * smooth_field(rng, 16.0)
        source[axis] = mm[axis] + np.float32(bend) * shift_mm
    away = source - np.array(VENTRICLES_MM, np.float32)[:, None, None, None]
    bell = np.exp(-(away**2).sum(axis=0) / (2 * VENTRICLES_REACH_MM**2))
    growth = np.clip(1 + 0.10 + 0.22 * atrophy + rng.normal(0, 0.06), 0.9, 1.5)
    source -= away * (1 - 1 / growth) * bell

    # Outside the head all is 0, and most of the grid is outside.
    inside = np.flatnonzero(_near_brain(source))
    points = source.reshape(3, -1)[:, inside]
    index = (points - np.array(MODEL_ORIGIN_MM, np.float32)[:, None]) / VOXEL_MM
    grey, white, brain = np.zeros((3, *MODEL_SHAPE), np.float32)
    for fraction, channel in zip((grey, white, brain), template(), strict=True):
        fraction.ravel()[inside] = ndimage.map_coordinates(channel, index, order=1, prefilter=False)
    # Sulci: grey matter that is thin gives way first.
    kept = np.clip(grey + white, 0, 1) ** (0.25 * max(atrophy, 0))
    grey *= kept
    white *= kept
    brain = np.maximum(brain, grey + white)
    csf = brain - grey - white
    halo = ndimage.gaussian_filter(brain, 4.0, truncate=3.0)
    scalp = np.clip(1 - np.abs(halo - 0.06) / 0.04, 0, 1) * (brain < 0.05)
    deep = np.zeros_like(grey)
    deep.ravel()[inside] = deepness(points)
    return Anatomy(
        template_mm=source,
        grey=grey,
        white=white,
        csf=csf,
        brain=brain,
        scalp=scalp.astype(np.float32),
        deep=deep,
    )


def deepness(points_mm: NDArray[np.float32]) -> NDArray[np.float32]:
    """How much points [3, n] of the template belong to basal ganglia and thalamus: 0..1, [n]."""
    found = np.zeros(points_mm.shape[1], np.float32)
    for x, y, z in DEEP_GREY_MM:
        distance = (np.abs(points_mm[0]) - x) ** 2
        distance = distance + (points_mm[1] - y) ** 2 + (points_mm[2] - z) ** 2
        np.maximum(found, np.exp(-((distance / DEEP_GREY_RADIUS_MM**2) ** 2)), out=found)
    return found
