"""What the scanner makes of a head and its stroke: DWI, ADC and Tmax in native space, and in MNI.

The MNI form is the native one resampled through the true affine, as a perfect registration would,
or through one that is off.
"""

import dataclasses

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from data_tools.grid import GRID_AFFINE, GRID_SHAPE
from data_tools.simulate import signals
from data_tools.simulate.anatomy import GRID_IN_MODEL, MODEL_AFFINE, Anatomy
from data_tools.simulate.appearance import (
    FIRST,
    NO_STREAMS,
    Appearance,
    Preparation,
    Scanner,
    Streams,
)
from data_tools.simulate.clinical import Plan
from data_tools.simulate.lesion import Lesion

SCANNED_MM = 155.0  # DWI covers the whole head; perfusion seldom does
PERFUSION_MM = (76.0, 112.0)
PERFUSION_IN_PLANE_MM, PERFUSION_MATRIX = 1.8, 128
SUBSLICES, THIN_MM = 3, 3.0  # samples across a slice's thickness; thinner slices take one
AIR_SIGMA = 6  # signal below so much noise has no ADC


@dataclasses.dataclass(frozen=True, kw_only=True)
class NativeImages:
    """One patient as scanned. Affines map index to scanner mm (RAS+).

    Attributes:
        dwi: float32, b = 1000 trace, arbitrary unit.
        adc_um2_per_s: same grid.
        affine: of DWI and ADC.
        tmax_s: of the perfusion study, fewer slices.
        tmax_affine: of the perfusion study.
        native_to_mni: 4x4, scanner mm -> MNI mm: the true affine.
    """

    dwi: NDArray[np.float32]
    adc_um2_per_s: NDArray[np.float32]
    affine: NDArray[np.float64]
    tmax_s: NDArray[np.float32]
    tmax_affine: NDArray[np.float64]
    native_to_mni: NDArray[np.float64]


@dataclasses.dataclass(frozen=True, kw_only=True)
class MniImages:
    """The same on the MNI grid (91, 109, 60): float32 images, 0 outside the brain; bool masks."""

    dwi: NDArray[np.float32]
    adc_um2_per_s: NDArray[np.float32]
    tmax_s: NDArray[np.float32]
    brain: NDArray[np.bool_]
    coverage: NDArray[np.bool_]


def acquire(
    rng: np.random.Generator,
    anatomy: Anatomy,
    lesion: Lesion,
    plan: Plan,
    *,
    noise: float = 1.0,
    look: Appearance = FIRST,
    streams: Streams = NO_STREAMS,
) -> NativeImages:
    """Put the head into the scanner and take the three images.

    Args:
        rng: the patient's generator.
        anatomy: the head.
        lesion: its stroke.
        plan: age, side and field strength.
        noise: of DWI and ADC, times that of the look.
        look: contrast, coupling and scanner.
        streams: random numbers of what the usual look does not have.
    """
    scanner = look.scanner
    native_to_mni = _random_pose(rng)
    s0, s1 = signals.tissue_signals(rng, anatomy, lesion, plan, look=look, streams=streams)
    s0, s1, delay_s = signals.distort((s0, s1, lesion.tmax_s), anatomy, scanner)
    in_plane_mm = float(rng.choice(scanner.in_plane_mm))
    slice_mm = float(rng.choice(scanner.slice_mm))
    tilt = np.deg2rad(rng.normal(0, 6)) if rng.random() < 0.4 else 0.0
    flip = rng.random() < 0.5
    slices = int(np.ceil(SCANNED_MM / slice_mm))
    shape = (scanner.matrix, scanner.matrix, slices)
    affine = _scan_affine(
        native_to_mni, shape, (0, -18, 4),
        in_plane_mm=in_plane_mm, slice_mm=slice_mm, tilt=tilt, flip=flip,
    )  # fmt: skip
    seen_mm = slice_mm - scanner.gap_mm
    s0, s1 = (
        _echo_planar(
            _sample(s, affine, native_to_mni, shape=shape, seen=seen_mm / slice_mm),
            scanner,
            in_plane_mm,
        )
        for s in (s0, s1)
    )
    tissue_level = float(np.median(s1[s1 > 0.2]))
    snr = rng.uniform(*scanner.snr) * (1.15 if plan.field_strength_t > 2 else 1.0)
    sigma = noise * tissue_level / min(snr, scanner.snr_limit)
    s0, s1 = _rician(rng, s0, sigma, scanner=scanner), _rician(rng, s1, sigma, scanner=scanner)
    adc = _adc_map(s0, s1, sigma, scanner)
    dwi = s1 * rng.uniform(150, 500) / tissue_level

    if scanner.matrix != PERFUSION_MATRIX:
        in_plane_mm = PERFUSION_IN_PLANE_MM
    tmax_s, tmax_affine = perfusion(
        rng, anatomy, delay_s, native_to_mni, in_plane_mm=in_plane_mm, tilt=tilt, flip=flip
    )
    return NativeImages(
        dwi=np.round(dwi).astype(np.float32),
        adc_um2_per_s=adc,
        affine=affine,
        tmax_s=tmax_s,
        tmax_affine=tmax_affine,
        native_to_mni=native_to_mni,
    )


def perfusion(
    rng: np.random.Generator,
    anatomy: Anatomy,
    delay_s: NDArray[np.float32],
    native_to_mni: NDArray[np.float64],
    *,
    in_plane_mm: float = PERFUSION_IN_PLANE_MM,
    tilt: float = 0.0,
    flip: bool = False,
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """A perfusion study's Tmax in s, and the affine of its few slices.

    Args:
        rng: the patient's generator.
        anatomy: the head.
        delay_s: Tmax on the model grid, without noise.
        native_to_mni: 4x4, scanner mm -> MNI mm.
        in_plane_mm: size of a voxel in the slice.
        tilt: of the slices, radians.
        flip: whether the first axis runs to the left.
    """
    slice_mm = float(rng.choice([5.0, 5.0, 6.0]))
    slices = round(rng.uniform(*PERFUSION_MM) / slice_mm)
    shape = (PERFUSION_MATRIX, PERFUSION_MATRIX, slices)
    centre = (0, -18, rng.normal(18, 5))
    affine = _scan_affine(
        native_to_mni, shape, centre,
        in_plane_mm=in_plane_mm, slice_mm=slice_mm, tilt=tilt, flip=flip,
    )  # fmt: skip
    noisy = delay_s + rng.uniform(0.3, 0.7) * anatomy.field(rng, 6.0)
    noisy = ndimage.gaussian_filter(noisy, 0.7) * (anatomy.brain > 0.3)
    tmax_s = np.maximum(_sample(noisy, affine, native_to_mni, shape=shape), 0)
    return np.round(tmax_s, 2).astype(np.float32), affine


def _echo_planar(signal, scanner: Scanner, in_plane_mm: float) -> NDArray[np.float32]:
    """The blur and the ghost of an echo-planar image, along y."""
    if scanner.blur_mm:
        signal = ndimage.gaussian_filter1d(signal, scanner.blur_mm / in_plane_mm, axis=1)
    if scanner.ghost:
        signal = signal + scanner.ghost * np.roll(signal, signal.shape[1] // 2, axis=1)
    return signal


def _adc_map(s0, s1, sigma: float, scanner: Scanner) -> NDArray[np.float32]:
    """The map that a scanner's software makes of both signals, in um2/s."""
    adc = 1e6 / scanner.b_s_per_mm2 * np.log(np.maximum(s0, 1e-6) / np.maximum(s1, 1e-6))
    adc = adc * scanner.adc_scale
    beyond = adc > scanner.adc_max_um2_per_s
    adc = np.clip(adc, 0, scanner.adc_max_um2_per_s) * (s0 > AIR_SIGMA * sigma)
    if scanner.adc_high_to_zero:
        adc[beyond] = 0
    step = scanner.adc_step_um2_per_s
    return (np.round(adc / step) * step).astype(np.float32)


def to_mni(
    native: NativeImages,
    anatomy: Anatomy,
    preparation: Preparation = FIRST.preparation,
    streams: Streams = NO_STREAMS,
) -> MniImages:
    """Resample the native images to the MNI grid, through the true affine or one that is off.

    Args:
        native: images of the scanner.
        anatomy: the head, whose brain mask is taken.
        preparation: how well it was prepared.
        streams: random numbers of a registration that is off.
    """
    # Where the prepared image shows what lies elsewhere in MNI space.
    off = misplaced(preparation, streams)
    brain = _layers(_on_grid(anatomy.brain, off) > 0.5, preparation.mask_voxels)
    grid_to_native = np.linalg.inv(native.native_to_mni) @ off @ GRID_AFFINE
    index, head = np.linalg.inv(native.affine) @ grid_to_native, np.nonzero(brain)
    tmax_s, coverage = perfusion_on_grid(native.tmax_s, native.tmax_affine, grid_to_native, brain)
    return MniImages(
        dwi=np.round(_resample(native.dwi, index, head), 1),
        adc_um2_per_s=np.round(_resample(native.adc_um2_per_s, index, head)),
        tmax_s=tmax_s,
        brain=brain,
        coverage=coverage,
    )


def core_on_grid(
    core: NDArray[np.bool_],
    anatomy: Anatomy,
    look: Appearance = FIRST,
    streams: Streams = NO_STREAMS,
) -> NDArray[np.bool_]:
    """The dead tissue where the images on the MNI grid show it: sharp, without noise.

    Args:
        core: of the lesion, on the model grid.
        anatomy: the head.
        look: of scanner and preparation, which both may move what the images show.
        streams: random numbers of a registration that is off.

    Returns:
        bool (91, 109, 60).
    """
    (moved,) = signals.distort((core.astype(np.float32),), anatomy, look.scanner)
    return _on_grid(moved, misplaced(look.preparation, streams)) > 0.5


def _on_grid(field: NDArray[np.float32], off: NDArray[np.float64]) -> NDArray[np.float32]:
    """A field of the model grid on the MNI grid; ``off`` as :func:`misplaced` gives it."""
    if (off == np.eye(4)).all():
        return field[GRID_IN_MODEL]
    index = np.linalg.inv(MODEL_AFFINE) @ off @ GRID_AFFINE
    return ndimage.affine_transform(field, index[:3, :3], index[:3, 3], GRID_SHAPE, order=1)


def perfusion_on_grid(
    tmax_s: NDArray[np.float32],
    tmax_affine: NDArray[np.float64],
    grid_to_native: NDArray[np.float64],
    brain: NDArray[np.bool_],
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Tmax on the MNI grid, and the part of the brain that was seen.

    Args:
        tmax_s: of :func:`perfusion`.
        tmax_affine: of its slices.
        grid_to_native: 4x4, index of the MNI grid -> scanner mm.
        brain: bool (91, 109, 60).
    """
    index, where = np.linalg.inv(tmax_affine) @ grid_to_native, np.nonzero(brain)
    seen = np.ones(tmax_s.shape, np.float32)
    coverage = brain & (_resample(seen, index, where) > 0.99)
    return np.round(_resample(tmax_s, index, where) * coverage, 2), coverage


def misplaced(preparation: Preparation, streams: Streams) -> NDArray[np.float64]:
    """MNI mm -> the MNI mm that are found there: a turn about the brain's middle, and a shift."""
    moved = np.eye(4)
    if not preparation.off_mm and not preparation.off_deg:
        return moved
    rng = streams.of("registration")
    shift, axis = rng.normal(0, 1, (2, 3))
    angles = np.deg2rad(preparation.off_deg) * axis / np.linalg.norm(axis)
    turn = _rotation(0, angles[0]) @ _rotation(1, angles[1]) @ _rotation(2, angles[2])
    centre = np.array([0.0, -18.0, 10.0])
    moved[:3, :3] = turn
    moved[:3, 3] = centre - turn @ centre + preparation.off_mm * shift / np.linalg.norm(shift)
    return moved


def _layers(mask: NDArray[np.bool_], layers: int) -> NDArray[np.bool_]:
    """A mask with so many layers of voxels more, or less."""
    if layers == 0:
        return mask
    change = ndimage.binary_dilation if layers > 0 else ndimage.binary_erosion
    return change(mask, iterations=abs(layers))


# The template's brain (1.9 L) is larger than a patient's (1.1 to 1.5 L): 1.14 along each axis.
NATIVE_TO_MNI_SCALE = 1.14


def _random_pose(rng: np.random.Generator) -> NDArray[np.float64]:
    """Scanner mm -> MNI mm: head size, tilt, and place on the table."""
    x, y, z = np.deg2rad(rng.normal(0, (6, 3, 4)))
    rotation = _rotation(0, x) @ _rotation(1, y) @ _rotation(2, z)
    pose = np.eye(4)
    pose[:3, :3] = rotation @ np.diag(rng.normal(NATIVE_TO_MNI_SCALE, 0.035, 3))
    pose[:3, 3] = rng.normal(0, (4, 12, 15))
    return pose


def _rotation(axis: int, angle: float) -> NDArray[np.float64]:
    one, two = [k for k in range(3) if k != axis]
    matrix = np.eye(3)
    matrix[one, one] = matrix[two, two] = np.cos(angle)
    matrix[one, two], matrix[two, one] = -np.sin(angle), np.sin(angle)
    return matrix


def _scan_affine(native_to_mni, shape, centre_mm, *, in_plane_mm, slice_mm, tilt, flip):
    """Affine of an axial stack whose middle lies at an MNI point; LAS where flipped, else RAS."""
    axes = _rotation(0, tilt) @ np.diag(
        [-in_plane_mm if flip else in_plane_mm, in_plane_mm, slice_mm]
    )
    affine = np.eye(4)
    affine[:3, :3] = axes
    centre = np.linalg.inv(native_to_mni) @ [*centre_mm, 1]
    affine[:3, 3] = centre[:3] - axes @ ((np.array(shape) - 1) / 2)
    return affine


def _sample(
    field, affine, native_to_mni, *, shape: tuple[int, int, int], seen: float = 1.0
) -> NDArray[np.float32]:
    """A field of the model grid as slices see it: averaged across the part that they see."""
    if np.linalg.norm(affine[:3, 2]) < THIN_MM:
        return _at(field, affine, native_to_mni, shape)
    if seen == 1:
        thin = affine.copy()
        thin[:3, 2] /= SUBSLICES
        thin[:3, 3] -= affine[:3, 2] * (SUBSLICES - 1) / (2 * SUBSLICES)
        fine = _at(field, thin, native_to_mni, (*shape[:2], shape[2] * SUBSLICES))
        return fine.reshape(*shape, SUBSLICES).mean(axis=3)
    total = np.zeros(shape, np.float32)
    for part in (np.arange(SUBSLICES) - (SUBSLICES - 1) / 2) * seen / SUBSLICES:
        moved = affine.copy()
        moved[:3, 3] += affine[:3, 2] * part
        total += _at(field, moved, native_to_mni, shape)
    return total / np.float32(SUBSLICES)


def _at(field, affine, native_to_mni, shape) -> NDArray[np.float32]:
    index = np.linalg.inv(MODEL_AFFINE) @ native_to_mni @ affine
    return ndimage.affine_transform(field, index[:3, :3], index[:3, 3], shape, order=1)


def _resample(image, index, where) -> NDArray[np.float32]:
    """An image on the MNI grid in some of its voxels, 0 elsewhere; ``index``: grid -> image."""
    i, j, k = where
    rows = [m[0] * i + m[1] * j + m[2] * k + m[3] for m in index[:3]]
    found = np.zeros(GRID_SHAPE, np.float32)
    found[where] = ndimage.map_coordinates(image, rows, order=1, prefilter=False)
    return found


def _rician(
    rng: np.random.Generator, signal, sigma: float, *, scanner: Scanner
) -> NDArray[np.float32]:
    parts = []
    for _ in range(2):
        part = rng.standard_normal(signal.shape, dtype=np.float32)
        if scanner.noise_grain_voxels:
            part = ndimage.gaussian_filter(part, (scanner.noise_grain_voxels,) * 2 + (0,))
            part /= part.std()
        parts.append(part)
    if scanner.noise_centre:
        x, y = (np.linspace(-1, 1, size, dtype=np.float32) for size in signal.shape[:2])
        away = np.clip(x[:, None] ** 2 + y[None] ** 2, 0, 1)[..., None]
        parts = [part * (1 + scanner.noise_centre * (1 - 2 * away)) for part in parts]
    real, imaginary = parts
    return np.hypot(signal + sigma * real, sigma * imaginary)
