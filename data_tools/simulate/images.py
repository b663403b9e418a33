"""What the scanner makes of a head and its stroke: DWI, ADC and Tmax in native space, and in MNI.

Signals follow S = S0 exp(-b ADC) per tissue, so partial volume, T2 shine-through and noise enter
where they do in life. The MNI form is the native one resampled through the true affine, as a
perfect registration would.
"""

import dataclasses

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from data_tools.grid import GRID_AFFINE, GRID_SHAPE
from data_tools.simulate import distractors
from data_tools.simulate.anatomy import GRID_IN_MODEL, MODEL_AFFINE, Anatomy, smooth_field
from data_tools.simulate.clinical import Plan
from data_tools.simulate.lesion import Lesion

B_VALUE = 1000.0
# Normal ADC in um2/s (Helenius 2002) and b = 0 signal relative to grey matter.
ADC = {"cortex": 890.0, "deep": 750.0, "white": 700.0, "csf": 3000.0, "scalp": 900.0}
S0 = {"grey": 1.0, "white": 0.82, "csf": 2.4, "scalp": 0.12}
# ADC ratios to the other side (PMC7973621) in core, penumbra and oligaemia.
# The DWI ratios (1.84, 1.13, 1.08) follow from these and from T2, which raises S0.
ADC_CORE, ADC_PENUMBRA, ADC_OLIGAEMIA = 0.63, 0.90, 0.96
# Pure core: a little under the published mean, which holds partial volume too.
ADC_PURE_CORE = 0.59
S0_LATE = 1.05
S0_CORE, S0_CORE_PER_H = 1.34, 0.012
# Delays at which the ratios of oligaemia and of penumbra begin to show, and take 2.5 s to do so.
OLIGAEMIA_FROM_S, PENUMBRA_FROM_S, FULL_AFTER_S = 3.4, 5.4, 2.5
ADC_FLOOR = 0.85  # living tissue keeps above this
SCANNED_MM = 155.0  # DWI covers the whole head; perfusion seldom does
PERFUSION_MM = (76.0, 112.0)
SUBSLICES = 3  # samples across a slice's thickness
ADC_MAX_UM2_PER_S = 4000.0


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


def tissue_signals(
    rng: np.random.Generator, anatomy: Anatomy, lesion: Lesion, plan: Plan
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Noise-free signals at b = 0 and b = 1000 on the model grid (grey matter at b = 0 is 1)."""
    adc_ratio, s0_ratio = _ischaemia(rng, anatomy, lesion)
    adc_ratio *= 1 + 0.035 * smooth_field(rng, 8.0) + 0.01 * smooth_field(rng, 40.0)
    s0_ratio *= 1 + 0.09 * smooth_field(rng, 7.0) + 0.015 * smooth_field(rng, 40.0)
    grey, white, csf = distractors.add(
        rng, anatomy, age=plan.age, core=lesion.core, adc_ratio=adc_ratio, s0_ratio=s0_ratio
    )
    x, y, z = anatomy.template_mm
    cortex = ADC["cortex"] + (ADC["deep"] - ADC["cortex"]) * anatomy.deep
    s0, s1 = np.zeros_like(csf), np.zeros_like(csf)
    one = np.ones_like(csf)
    for fraction, signal, signal_ratio, adc in (
        (grey, S0["grey"], s0_ratio, cortex * adc_ratio),
        (white, S0["white"], s0_ratio, ADC["white"] * adc_ratio),
        (csf, S0["csf"], one, ADC["csf"]),
        (anatomy.scalp, S0["scalp"], one, ADC["scalp"]),
    ):
        part = fraction * signal * signal_ratio
        s0 += part
        s1 += part * np.exp(-B_VALUE * 1e-6 * adc)
    # Air at the skull base blurs the echo-planar image and changes b = 0 and b = 1000 alike.
    air = np.exp(-((y - 45) ** 2 + x**2) / 900 - np.clip(z + 22, 0, None) ** 2 / 60)
    air *= 1.0 if plan.field_strength_t > 2 else 0.6
    s0 += air * (ndimage.gaussian_filter(s0, (0, 2.5, 0)) - s0)
    s1 += air * (ndimage.gaussian_filter(s1, (0, 2.5, 0)) - s1)
    gain = (1 + 0.03 * smooth_field(rng, 60.0)) * (1 + 0.6 * air * smooth_field(rng, 14.0))
    gain = np.clip(gain, 0.2, 2.5)
    return (s0 * gain).astype(np.float32), (s1 * gain).astype(np.float32)


def _ischaemia(rng: np.random.Generator, anatomy: Anatomy, lesion: Lesion):
    """Ratios of ADC and of b = 0 signal to healthy tissue, on the model grid."""
    strength = np.clip(rng.normal(1.0, 0.3), 0.4, 1.8)
    late = np.clip((lesion.tmax_s - OLIGAEMIA_FROM_S) / FULL_AFTER_S, 0, 1)
    worse = np.clip((lesion.tmax_s - PENUMBRA_FROM_S) / FULL_AFTER_S, 0, 1)
    local = np.clip(1 + 0.35 * smooth_field(rng, 18.0), 0, 2.5) * strength
    drop = (1 - ADC_OLIGAEMIA) * late + (ADC_OLIGAEMIA - ADC_PENUMBRA) * worse
    adc_ratio = np.maximum(1 - drop * local, ADC_FLOOR)
    s0_ratio = 1 + (S0_LATE - 1) * late * local
    pure = rng.normal(ADC_PURE_CORE, 0.04) + 0.05 * smooth_field(rng, 14.0)
    core_adc = np.clip(pure, 0.4, 0.8)
    # T2 rises with the hours.
    t2_of_time = S0_CORE + S0_CORE_PER_H * lesion.onset_h + rng.normal(0, 0.13)
    t2 = np.clip(t2_of_time + 0.1 * smooth_field(rng, 14.0), 1.0, 1.9)
    core = ndimage.gaussian_filter(lesion.core.astype(np.float32), 0.5)
    adc_ratio += core * (core_adc - adc_ratio)
    s0_ratio += core * (t2 - s0_ratio)
    return adc_ratio.astype(np.float32), s0_ratio.astype(np.float32)


def acquire(
    rng: np.random.Generator, anatomy: Anatomy, lesion: Lesion, plan: Plan, *, noise: float = 1.0
) -> NativeImages:
    """Put the head into the scanner and take the three images; ``noise`` times the usual."""
    native_to_mni = _random_pose(rng)
    s0, s1 = tissue_signals(rng, anatomy, lesion, plan)
    in_plane_mm = float(rng.choice([1.72, 1.8, 1.875, 2.0]))
    slice_mm = float(rng.choice([5.0, 5.0, 5.5, 6.0]))
    tilt = np.deg2rad(rng.normal(0, 6)) if rng.random() < 0.4 else 0.0
    flip = rng.random() < 0.5
    slices = int(np.ceil(SCANNED_MM / slice_mm))
    shape = (128, 128, slices)
    affine = _scan_affine(
        native_to_mni, shape, (0, -18, 4),
        in_plane_mm=in_plane_mm, slice_mm=slice_mm, tilt=tilt, flip=flip,
    )  # fmt: skip
    s0 = _sample(s0, affine, native_to_mni, shape)
    s1 = _sample(s1, affine, native_to_mni, shape)
    tissue_level = float(np.median(s1[s1 > 0.2]))
    snr = rng.uniform(15, 26) * (1.15 if plan.field_strength_t > 2 else 1.0)
    sigma = noise * tissue_level / min(snr, 30.0)
    s0, s1 = _rician(rng, s0, sigma), _rician(rng, s1, sigma)
    adc = 1e6 / B_VALUE * np.log(np.maximum(s0, 1e-6) / np.maximum(s1, 1e-6))
    adc = np.clip(adc, 0, ADC_MAX_UM2_PER_S) * (s0 > 6 * sigma)
    dwi = s1 * rng.uniform(150, 500) / tissue_level

    perfusion_mm = float(rng.choice([5.0, 5.0, 6.0]))
    perfusion_slices = round(rng.uniform(*PERFUSION_MM) / perfusion_mm)
    perfusion_shape = (128, 128, perfusion_slices)
    centre = (0, -18, rng.normal(18, 5))
    tmax_affine = _scan_affine(
        native_to_mni, perfusion_shape, centre,
        in_plane_mm=in_plane_mm, slice_mm=perfusion_mm, tilt=tilt, flip=flip,
    )  # fmt: skip
    noisy = lesion.tmax_s + rng.uniform(0.3, 0.7) * smooth_field(rng, 6.0)
    noisy = ndimage.gaussian_filter(noisy, 0.7) * (anatomy.brain > 0.3)
    tmax_s = np.maximum(_sample(noisy, tmax_affine, native_to_mni, perfusion_shape), 0)
    return NativeImages(
        dwi=np.round(dwi).astype(np.float32),
        adc_um2_per_s=np.round(adc).astype(np.float32),
        affine=affine,
        tmax_s=np.round(tmax_s, 2).astype(np.float32),
        tmax_affine=tmax_affine,
        native_to_mni=native_to_mni,
    )


def to_mni(native: NativeImages, anatomy: Anatomy) -> MniImages:
    """Resample the native images to the MNI grid through the true affine."""
    brain = anatomy.brain[GRID_IN_MODEL] > 0.5
    dwi = _resample(native.dwi, native.affine, native.native_to_mni)
    adc = _resample(native.adc_um2_per_s, native.affine, native.native_to_mni)
    tmax_s = _resample(native.tmax_s, native.tmax_affine, native.native_to_mni)
    seen = np.ones(native.tmax_s.shape, np.float32)
    coverage = brain & (_resample(seen, native.tmax_affine, native.native_to_mni) > 0.99)
    return MniImages(
        dwi=np.round(dwi * brain, 1),
        adc_um2_per_s=np.round(adc * brain),
        tmax_s=np.round(tmax_s * coverage, 2),
        brain=brain,
        coverage=coverage,
    )


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


def _sample(field, affine, native_to_mni, shape) -> NDArray[np.float32]:
    """A field of the model grid as slices see it: averaged across their thickness."""
    thin = affine.copy()
    thin[:3, 2] /= SUBSLICES
    thin[:3, 3] -= affine[:3, 2] * (SUBSLICES - 1) / (2 * SUBSLICES)
    index = np.linalg.inv(MODEL_AFFINE) @ native_to_mni @ thin
    fine = ndimage.affine_transform(
        field, index[:3, :3], index[:3, 3], (*shape[:2], shape[2] * SUBSLICES), order=1
    )
    return fine.reshape(*shape, SUBSLICES).mean(axis=3)


def _resample(image, affine, native_to_mni) -> NDArray[np.float32]:
    index = np.linalg.inv(affine) @ np.linalg.inv(native_to_mni) @ GRID_AFFINE
    return ndimage.affine_transform(image, index[:3, :3], index[:3, 3], GRID_SHAPE, order=1)


def _rician(rng: np.random.Generator, signal, sigma: float) -> NDArray[np.float32]:
    real = signal + sigma * rng.standard_normal(signal.shape, dtype=np.float32)
    imaginary = sigma * rng.standard_normal(signal.shape, dtype=np.float32)
    return np.hypot(real, imaginary)
