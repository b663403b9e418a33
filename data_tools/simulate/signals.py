"""What a head and its stroke give a scanner: signals at b = 0 and at the DWI's b, without noise.

Signals follow S = S0 exp(-b ADC) per tissue, so partial volume and T2 shine-through enter where
they do in life.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from data_tools.grid import VOXEL_MM
from data_tools.simulate import distractors
from data_tools.simulate.anatomy import MODEL_ORIGIN_MM, Anatomy, smooth_field
from data_tools.simulate.appearance import Appearance, Coupling, Scanner, Streams, Tissue
from data_tools.simulate.clinical import Plan
from data_tools.simulate.lesion import Lesion

Image = NDArray[np.float32]

# ADC ratios to the other side in penumbra and oligaemia (PMC7973621), where the coupling is 1.
# The DWI ratios (1.13, 1.08) follow from these and from T2, which raises S0.
ADC_PENUMBRA, ADC_OLIGAEMIA = 0.90, 0.96
S0_LATE = 1.05
# Delays at which the ratios of oligaemia and of penumbra begin to show, and take 2.5 s to do so.
OLIGAEMIA_FROM_S, PENUMBRA_FROM_S, FULL_AFTER_S = 3.4, 5.4, 2.5
ADC_FLOOR = 0.85  # living tissue keeps above this
# Centres and reach of what is brighter on DWI in everyone, |x| in MNI mm.
LIMBIC_MM = ((38, 4, 2), (5, 34, 18), (5, 2, 38), (5, -34, 34), (26, -18, -18), (28, 4, -30))
LIMBIC_RADIUS_MM = 13.0
TRACT_MM = ((26, -20, 28), (24, -15, 12), (17, -17, -4), (11, -19, -18), (8, -38, 12))
TRACT_RADIUS_MM = 6.0
# Cerebellum begins below and behind these, MNI mm.
CEREBELLUM_BELOW_Z_MM, CEREBELLUM_BEHIND_Y_MM = -18.0, -38.0
# Air above the petrous bones.
PETROUS_MM, PETROUS_RADIUS_MM = ((46, -28, -24), (38, -52, -30)), 12.0

# Displacements of less are not computed.
LEAST_PUSH_MM = 0.1


def tissue_signals(
    rng: np.random.Generator,
    anatomy: Anatomy,
    lesion: Lesion,
    plan: Plan,
    *,
    look: Appearance,
    streams: Streams,
) -> tuple[Image, Image]:
    """Noise-free signals at b = 0 and at the DWI's b on the model grid.

    Args:
        rng: the patient's generator.
        anatomy: the head.
        lesion: its stroke.
        plan: age, side and field strength.
        look: contrast, coupling and scanner.
        streams: random numbers of what the usual look does not have.
    """
    tissue, scanner = look.tissue, look.scanner
    adc_ratio, s0_ratio = ischaemia(rng, anatomy, lesion, look.coupling)
    adc_ratio *= 1 + tissue.adc_texture * anatomy.field(rng, 8.0) + 0.01 * anatomy.field(rng, 40.0)
    s0_ratio *= 1 + tissue.s0_texture * anatomy.field(rng, 7.0) + 0.015 * anatomy.field(rng, 40.0)
    grey, white, csf = distractors.add(
        rng,
        anatomy,
        distractors.Old(plan.age, plan.side, tissue),
        core=lesion.core,
        adc_ratio=adc_ratio,
        s0_ratio=s0_ratio,
    )
    inside = np.flatnonzero((anatomy.brain > 0) | (anatomy.scalp > 0))

    def of(image: Image) -> Image:
        return image.ravel()[inside]

    adc_ratio, s0_ratio = of(adc_ratio), of(s0_ratio)
    grey, white, csf = of(grey), of(white), of(csf)
    if tissue.sulcal_fluid != 1:
        cortical = (1 - tissue.sulcal_fluid) * csf * np.minimum(2 * grey, 1)
        grey, csf = grey + cortical, csf - cortical
    s0_grey, s0_white = _regional(anatomy, inside, tissue, streams)
    less = tissue.deep_adc_um2_per_s - tissue.cortex_adc_um2_per_s
    cortex = tissue.cortex_adc_um2_per_s + less * of(anatomy.deep)
    s0, s1 = np.zeros_like(anatomy.csf), np.zeros_like(anatomy.csf)
    one = np.ones_like(s0_ratio)
    for fraction, signal, signal_ratio, adc in (
        (grey, tissue.grey_s0, s0_ratio * s0_grey, cortex * adc_ratio),
        (white, tissue.white_s0, s0_ratio * s0_white, tissue.white_adc_um2_per_s * adc_ratio),
        (csf, tissue.csf_s0, one, tissue.csf_adc_um2_per_s),
        (of(anatomy.scalp), tissue.scalp_s0, one, tissue.scalp_adc_um2_per_s),
    ):
        part = fraction * signal * signal_ratio
        s0.ravel()[inside] += part
        s1.ravel()[inside] += part * np.exp(-scanner.b_s_per_mm2 * 1e-6 * adc)
    # Air at the skull base blurs the echo-planar image and changes b = 0 and the DWI alike.
    x, y, z = anatomy.template_mm
    air = np.exp(-((y - 45) ** 2 + x**2) / 900 - np.clip(z + 22, 0, None) ** 2 / 60)
    air *= (1.0 if plan.field_strength_t > 2 else 0.6) * scanner.susceptibility
    blurred = np.minimum(air, 1)
    s0 += blurred * (ndimage.gaussian_filter(s0, (0, 2.5, 0)) - s0)
    s1 += blurred * (ndimage.gaussian_filter(s1, (0, 2.5, 0)) - s1)
    # What air smears lies outside the head too.
    gain = (1 + 0.03 * smooth_field(rng, 60.0)) * (1 + 0.6 * air * smooth_field(rng, 14.0))
    gain = np.clip(gain, 0.2, 2.5)
    gain = _uneven(gain, anatomy, scanner, streams)
    return (s0 * gain).astype(np.float32), (s1 * gain).astype(np.float32)


def ischaemia(
    rng: np.random.Generator, anatomy: Anatomy, lesion: Lesion, coupling: Coupling
) -> tuple[Image, Image]:
    """Ratios of ADC and of b = 0 signal to healthy tissue, on the model grid."""
    strength = np.clip(rng.normal(1.0, coupling.strength_sd), 0.4, 1.8)
    late = np.clip((lesion.tmax_s - OLIGAEMIA_FROM_S) / FULL_AFTER_S, 0, 1)
    worse = np.clip((lesion.tmax_s - PENUMBRA_FROM_S) / FULL_AFTER_S, 0, 1)
    local = np.clip(1 + 0.35 * anatomy.field(rng, 18.0), 0, 2.5) * strength
    drop = (1 - ADC_OLIGAEMIA) * late + (ADC_OLIGAEMIA - ADC_PENUMBRA) * worse
    adc_ratio = np.maximum(1 - drop * local * coupling.penumbra_adc, ADC_FLOOR)
    s0_ratio = 1 + (S0_LATE - 1) * late * local * coupling.penumbra_s0
    pure = rng.normal(coupling.core_adc, 0.04) + 0.05 * anatomy.field(rng, 14.0)
    core_adc = np.clip(pure, 0.4, 0.8)
    # T2 rises with the hours.
    t2_of_time = coupling.core_s0 + coupling.core_s0_per_h * lesion.onset_h + rng.normal(0, 0.13)
    t2 = np.clip(t2_of_time + 0.1 * anatomy.field(rng, 14.0), 1.0, 1.9)
    core = ndimage.gaussian_filter(lesion.core.astype(np.float32), 0.5)
    adc_ratio += core * (core_adc - adc_ratio)
    s0_ratio += core * (t2 - s0_ratio)
    return adc_ratio.astype(np.float32), s0_ratio.astype(np.float32)


def _regional(anatomy: Anatomy, inside: NDArray[np.intp], tissue: Tissue, streams: Streams):
    """b = 0 signal of grey and of white matter by place, times the usual; each [n] or 1."""
    grey: Image | np.float32 = np.float32(1)
    white: Image | np.float32 = np.float32(1)
    x, y, z = (axis.ravel()[inside] for axis in anatomy.template_mm)
    if tissue.bright_cortex:
        patches = np.clip(anatomy.field(streams.of("bright cortex"), 20.0), 0, 2).ravel()[inside]
        grey = grey + np.float32(tissue.bright_cortex) * patches * (z < 80)
    if tissue.limbic:
        grey = grey + np.float32(tissue.limbic) * near((x, y, z), LIMBIC_MM, LIMBIC_RADIUS_MM)
    if tissue.tract:
        white = white + np.float32(tissue.tract) * near((x, y, z), TRACT_MM, TRACT_RADIUS_MM)
    if tissue.cerebellum != 1:
        below, behind = CEREBELLUM_BELOW_Z_MM - z, CEREBELLUM_BEHIND_Y_MM - y
        share = np.clip(below / 6, 0, 1) * np.clip(behind / 6, 0, 1)
        factor = 1 + np.float32(tissue.cerebellum - 1) * share
        grey, white = grey * factor, white * factor
    return grey, white


def near(mm: tuple[Image, Image, Image], points_mm, radius_mm: float) -> Image:
    """0..1: 1 at any of the points of either hemisphere, and falling off around them."""
    x, y, z = mm
    bells = [(np.abs(x) - px) ** 2 + (y - py) ** 2 + (z - pz) ** 2 for px, py, pz in points_mm]
    return np.exp(-np.minimum.reduce(bells) / np.float32(2 * radius_mm**2)).astype(np.float32)


def _uneven(gain: Image, anatomy: Anatomy, scanner: Scanner, streams: Streams) -> Image:
    """The brightness that coils, the shim and the skull base add to both signals."""
    log = np.zeros_like(gain)
    for size_mm, sd in ((45.0, scanner.field_45_mm), (18.0, scanner.field_18_mm)):
        if sd:
            log += np.float32(sd) * anatomy.field(streams.of(f"field {size_mm:g}"), size_mm)
    x, y, z = anatomy.template_mm
    if scanner.coil:
        rng = streams.of("coil")
        way = rng.normal(0, 1, 3)
        way *= 0.5 / np.linalg.norm(way)
        u, v, w = x / 70, (y + 18) / 88, (z - 8) / 70
        out = u**2 + v**2 + w**2 + way[0] * u + way[1] * v + way[2] * w
        log += np.float32(scanner.coil) * (np.clip(out, -0.5, 1.6) - np.float32(0.6))
    if scanner.skull_base:
        log += np.float32(scanner.skull_base) * near((x, y, z), PETROUS_MM, PETROUS_RADIUS_MM)
    return gain * np.exp(log) if log.any() else gain


def distort(fields: tuple[Image, ...], anatomy: Anatomy, scanner: Scanner) -> tuple[Image, ...]:
    """Move what an echo-planar image shows along y: most at the skull base, or all of it.

    Args:
        fields: signals, and last the delay or a mask, which keeps its values.
        anatomy: the head.
        scanner: how far.
    """
    if not scanner.distortion_mm and scanner.stretch == 1:
        return fields
    _, y, z = anatomy.template_mm
    low = np.exp(-(np.clip(z + 30, 0, None) ** 2) / (2 * 22.0**2))
    push_mm = scanner.distortion_mm * low * np.cos(np.clip(y / 60, -np.pi / 2, np.pi / 2))
    row_mm = np.arange(y.shape[1], dtype=np.float32)[:, None] * VOXEL_MM + MODEL_ORIGIN_MM[1]
    push_mm = push_mm + (row_mm + 18) * (1 - 1 / scanner.stretch)
    rows = (np.arange(y.shape[1])[:, None] - push_mm / VOXEL_MM).astype(np.float32)
    # Signal is kept: where voxels are drawn together it piles up.
    dense = np.clip(np.gradient(rows, axis=1), 0.5, 1.6).astype(np.float32)
    head = ndimage.maximum_filter1d((anatomy.brain > 0) | (anatomy.scalp > 0), 13, axis=1)
    where = np.nonzero(head & (np.abs(push_mm) > LEAST_PUSH_MM))
    index = (where[0], rows[where], where[2])
    moved = [field.copy() for field in fields]
    for field, new in zip(fields, moved, strict=True):
        new[where] = ndimage.map_coordinates(field, index, order=1, prefilter=False)
    for signal in moved[:-1]:
        signal[where] *= dense[where]
    return tuple(moved)
