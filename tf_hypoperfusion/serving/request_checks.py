"""Is a patient of a request what the graph takes it for: every refusal, inside the graph.

A server cannot look at a header: volumes in another order, place or unit would be answered as if
nothing were wrong. So the brain is compared with the template's, as it lies and as it would lie
after the usual mistakes, and DWI with ADC. The template is a constant of 76 kB in the graph.

DWI, ADC and mask are compared with each other too, as they lie and moved or mirrored.

What cannot be told is left from right of all three: the template is symmetric, and a head nearly
so; and the mask of another patient, where the images hold nothing outside their own brain.
"""

import dataclasses
import functools
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from data_tools import grid
from data_tools.grid import (
    ADC_CSF_UM2_PER_S,
    GRID_SHAPE,
    NIHSS_MAX,
    NIHSS_MISSING,
    SIDES,
    SPACE,
    VOXEL_ML,
    VOXEL_MM,
)
from data_tools.intensity import MAX_RATIO
from data_tools.plausibility import (
    ADC_TISSUE_RANGE_UM2_PER_S,
    MAX_WATER_RATIO,
    RIM_VOXELS,
    WATER_UM2_PER_S,
)
from data_tools.registration import ADC_TISSUE_UM2_PER_S
from data_tools.template import template_on_grid

# The patient's tissue in a voxel of the template: half to twice the template's own brain.
VOXEL_RANGE_ML = (grid.VOXEL_ML / 4, grid.VOXEL_ML * 2)
WATER_MIN_ML = 1.0  # less of water or tissue is too little to tell a b = 0 image by
VOLUME_BYTES = int(np.prod(GRID_SHAPE)) * 4

# The template is compared voxel by voxel of 4 mm.
STEP = 2
# Measured on 24 patients (14 simulated on this grid, 8 simulated and two real ones preprocessed):
# whole, with 18 mm cut off below or 40 mm above, with a hole or a cavity of 225 mL, with half the
# brain a core, and with masks 4 mm larger or smaller.
# Dice with the template's brain, in the slices that the mask has: right ones 0.83 and more (0.93
# if whole); half a head 0.67 at most, z, y, x for x, y, z 0.47, the whole grid 0.54.
MIN_DICE = 0.75
# Voxels of the mask over the template's, there: right ones 1.26 at most (1.11 as preprocessing
# makes them), with 12 mm of skull all around 1.33 and more.
MAX_SIZE = 1.3
# Share of the template's brain in those slices: 0.78 and more where preprocessing takes the head;
# without its upper or lower half 0.57 at most.
MIN_SHOWN = 0.65
# Correlation of tissue and fluid with the template's, where both have brain: right ones 0.15 and
# more (0.36 without a lesion); turned by 90 degrees or with x for y 0.11 at most.
MIN_CORRELATION = 0.12
# By how much this correlation and twice the Dice are better together if the template is mirrored,
# moved, resized or turned: right ones 0.02 at most (turned they lose 0.05 and more); 0.07 and more
# with steps 10% larger, 0.08 if turned by 12 to 45 degrees, 0.11 if moved by 10 mm along an axis,
# 0.28 if mirrored in y or z.
MAX_GAIN = 0.055
SHIFTS = (2, 3, 5)  # steps of 4 mm
TURNS_DEG = (10.0, 20.0, 40.0)
SCALES = (0.85, 1 / 1.1, 1.1, 1.2)
# A grid with other steps often starts at the same corner.
CORNER_SCALES = (1 / 1.1, 1.1)
WAYS = (("left", "right"), ("back", "to the front"), ("down", "up"))

# DWI, ADC and mask against each other. Measured on 36 patients (26 simulated on this grid, 8
# simulated and two real ones preprocessed), with all that is said above of odd and right ones, and
# smoothed by 2.4 mm, with noise of half the signal, with a bias of 0.6 to 1.4.
EDGE_VOXELS = 2  # nearer to the edge of the mask there may be skull, or what smoothing mixes
# Correlation of the contrast of DWI and ADC with what is around, every 4 mm: right ones -0.48 at
# most (-0.67 without noise); images of two patients -0.1 to -0.28 (one of ten passed), noise 0.
MAX_CONTRAST = -0.35
MIN_ALIKE = 0.1  # and a b = 0 image, where fluid is bright as in the ADC, above this
AROUND = 5  # voxels of 4 mm
# By how much it falls if the DWI is moved or mirrored: right ones rise by 0.07 and more; it falls
# by 0.16 and more where the DWI had been moved by 4 mm, by 0.4 if mirrored.
MAX_CONTRAST_GAIN = 0.03
MOVES = (2, 4, 6)  # voxels of 2 mm
# Share of the mask in which the DWI has a signal, and by how much it grows if the mask is moved or
# mirrored: right ones 0.022 at most; 0.033 and more where the mask had been moved by 8 mm, 0.06 by
# 12 mm, 0.06 mirrored in y.
SIGNAL = 0.35  # of the mean of tissue
MAX_SIGNAL_GAIN = 0.03
# Tissue by one image where the other has nothing: right ones 0.4 mL at most (0 as preprocessing
# makes them); 1.6 mL and more where DWI or ADC are another patient's.
NO_SIGNAL, TISSUE_SIGNAL = 0.1, 0.7  # of the mean of tissue
MAX_VOID_ML = 1.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Patient:
    """A patient of a request: volumes (91, 109, 60) and scalars."""

    dwi: tf.Tensor
    adc: tf.Tensor
    brain_mask: tf.Tensor
    nihss: tf.Tensor
    side: tf.Tensor
    voxel_ml: tf.Tensor


class _Agreement(NamedTuple):
    """Of a patient with the template; without slices that hold no brain: they were not imaged.

    Attributes:
        dice: of the brains, in each of :func:`places`.
        correlation: of tissue and fluid, in each.
        size: voxels of the mask over those of the template.
        shown: share of the template's brain in the patient's slices.
    """

    dice: tf.Tensor
    correlation: tf.Tensor
    size: tf.Tensor
    shown: tf.Tensor


class Place(NamedTuple):
    """A way in which the template could lie in the grid.

    Attributes:
        words: how a brain is or lies that fits there.
        voxels: for each axis, which voxel of the template lies at each.
    """

    words: str
    voxels: tuple[NDArray[np.int32], ...]


def check(patient: Patient, tissue: tf.Tensor) -> tf.Operation:
    """Refuse, when run, a patient that cannot be answered, with the first reason.

    Args:
        patient: volumes and scalars.
        tissue: bool (91, 109, 60), brain that is no fluid.

    Returns:
        What the rest has to wait for.
    """
    agreement = _agreement(patient)
    pair = _pair(patient, tissue)
    rules = [
        *_given(patient),
        *_images(patient, tissue, agreement),
        *_one_scan(patient, tissue, pair),
        *_lies_right(agreement),
    ]
    right = tf.stack([condition for condition, _ in rules])
    reasons = tf.stack([tf.convert_to_tensor(reason) for _, reason in rules])
    first = tf.argmax(tf.cast(~right, tf.int32))
    return tf.debugging.Assert(tf.reduce_all(right), [reasons[first]])


Rules = list[tuple[tf.Tensor, "str | tf.Tensor"]]


def _given(patient: Patient) -> Rules:
    nihss, voxel_ml, mask = patient.nihss, patient.voxel_ml, patient.brain_mask
    whole = tf.math.is_finite(nihss) & (nihss == tf.round(nihss))
    low, high = VOXEL_RANGE_ML
    return [
        (
            tf.reduce_any(tf.constant(SIDES) == patient.side),
            f"side: expected one of {', '.join(SIDES)}: that of the lesion",
        ),
        (
            (whole & (nihss >= 0) & (nihss <= NIHSS_MAX)) | (nihss == NIHSS_MISSING),
            f"nihss: expected a whole number from 0 to {NIHSS_MAX}, or -1 if unknown",
        ),
        (
            tf.math.is_finite(voxel_ml) & (voxel_ml >= low) & (voxel_ml <= high),
            "voxel_ml: expected mL of the patient, in a voxel of 2 mm of the template, "
            f"{low:g} to {high:g}",
        ),
        (tf.reduce_all(tf.math.is_finite(mask)), "brain_mask: holds NaN or infinite values"),
        # Bytes of another type or order are as good as nothing, or any number, as float32.
        (
            tf.reduce_all((mask == 0) | (mask == 1)) & tf.reduce_any(mask == 1),
            "brain_mask: expected 1 in the brain and 0 elsewhere, and no other value; as bytes, "
            "float32 in little endian",
        ),
        *(
            (tf.reduce_all(tf.math.is_finite(v)), f"{name}: holds NaN or infinite values")
            for name, v in (("dwi", patient.dwi), ("adc", patient.adc))
        ),
    ]


def _images(patient: Patient, tissue: tf.Tensor, agreement: _Agreement) -> Rules:
    """Whether the mask can be a brain on this grid, and DWI and ADC are what they are called."""
    dwi, adc, brain = patient.dwi, patient.adc, patient.brain_mask > 0
    dice, shown = agreement.dice[0], agreement.shown
    median = median_of(tf.boolean_mask(adc, brain & (adc > 0)))
    low, high = ADC_TISSUE_RANGE_UM2_PER_S
    return [
        (
            dice >= MIN_DICE,
            tf.strings.join(
                [
                    "brain_mask: its Dice with the template's brain is ",
                    _number(dice),
                    f"; expected {MIN_DICE:g} at least: {_EXPECTED_GRID}",
                ]
            ),
        ),
        (
            agreement.size <= MAX_SIZE,
            tf.strings.join(
                [
                    "brain_mask: it is ",
                    _number(agreement.size),
                    f" times as large as the template's brain; expected {MAX_SIZE:g} at most: the "
                    "brain without the skull",
                ]
            ),
        ),
        (
            shown >= MIN_SHOWN,
            tf.strings.join(
                [
                    "brain_mask: its slices hold ",
                    _number(shown * 100, 0),
                    f"% of the template's brain; expected {MIN_SHOWN:.0%} at least: the whole head",
                ]
            ),
        ),
        (
            _rim_over_inside(dwi, brain) <= _rim_over_inside(adc, brain),
            "dwi and adc look exchanged: fluid should be dark in the DWI and bright in the ADC "
            "map, and it is the other way round",
        ),
        (
            (median >= low) & (median <= high),
            tf.strings.join(
                [
                    "adc: its median in the brain is ",
                    tf.strings.as_string(median, shortest=True),
                    f"; expected {low:g} to {high:g}, in 1e-6 mm2/s (about 0.9 would be 1e-3 "
                    "mm2/s, and 0.0009 mm2/s)",
                ]
            ),
        ),
        (
            tf.reduce_sum(tf.boolean_mask(dwi, tissue)) > 0,
            "dwi: its mean in the brain is not above 0",
        ),
        (
            tf.reduce_max(tf.where(brain, dwi, 0.0)) <= MAX_RATIO * mean_of(dwi, tissue),
            f"dwi: a voxel of the brain is over {MAX_RATIO:g} times as bright as its mean",
        ),
    ]


def _one_scan(patient: Patient, tissue: tf.Tensor, pair: "_Pair") -> Rules:
    """Whether DWI, ADC and mask are of one scan and lie on each other."""
    dwi, adc, brain = patient.dwi, patient.adc, patient.brain_mask > 0
    mean = mean_of(dwi, tissue)
    deep = _inside(brain, EDGE_VOXELS)
    no_dwi = _count(deep & tissue & (dwi <= NO_SIGNAL * mean)) * VOXEL_ML
    no_adc = _count(deep & (adc <= 0) & (dwi >= TISSUE_SIGNAL * mean)) * VOXEL_ML
    water, enough = _water_ratio(dwi, adc, brain)
    contrast, words = pair.contrast[0], tf.constant([move.words for move in moves()])
    fits, bright = tf.argmin(pair.contrast), tf.argmax(pair.signal)
    may_be_b0 = enough & (water > MAX_WATER_RATIO)
    b0 = tf.strings.join(
        [
            "dwi: fluid is ",
            _number(water),
            f" times as bright as tissue; expected {MAX_WATER_RATIO:g} at most, as at b = 1000 "
            "s/mm2. Is this the b = 0 image?",
        ]
    )
    return [
        (
            (contrast - pair.contrast[fits] <= MAX_CONTRAST_GAIN)
            | (pair.contrast[fits] > MAX_CONTRAST),
            tf.strings.join(
                ["dwi, adc: the DWI ", words[fits], " against the ADC; expected both in one place"]
            ),
        ),
        (~(may_be_b0 & (contrast > MIN_ALIKE)), b0),
        (
            contrast <= MAX_CONTRAST,
            tf.strings.join(
                [
                    "dwi, adc: what is dark in one should be bright in the other; their contrasts "
                    "correlate by ",
                    _number(contrast),
                    f", expected {MAX_CONTRAST:g} at most. Are both of one scan, in one place?",
                ]
            ),
        ),
        (
            pair.signal[bright] - pair.signal[0] <= MAX_SIGNAL_GAIN,
            tf.strings.join(
                ["brain_mask: it ", words[bright], " against the DWI; expected both in one place"]
            ),
        ),
        *(
            (
                volume <= MAX_VOID_ML,
                tf.strings.join(
                    [
                        f"{name}: has nothing in ",
                        _number(volume, 1),
                        f" mL of the brain where {other} shows tissue; expected {MAX_VOID_ML:g} mL "
                        "at most",
                    ]
                ),
            )
            for name, volume, other in (("dwi", no_dwi, "adc"), ("adc", no_adc, "dwi"))
        ),
        (~may_be_b0, b0),
    ]


_EXPECTED_GRID = (
    f"the brain on the grid of {SPACE}, {' x '.join(map(str, GRID_SHAPE))} voxels of {VOXEL_MM:g} "
    "mm, indexed x, y, z with z running fastest (C order), x to the right, y to the front, z up"
)


def _lies_right(agreement: _Agreement) -> Rules:
    """Whether the brain fits the template as it lies better than in any other place or size."""
    correlation = agreement.correlation
    fit = correlation + 2 * agreement.dice
    gain = fit - fit[0]
    best = tf.argmax(gain)
    words = tf.constant([place.words for place in places()])
    return [
        (
            gain[best] <= MAX_GAIN,
            tf.strings.join(
                [
                    "dwi, adc, brain_mask: against the template the brain ",
                    words[best],
                    f"; expected {_EXPECTED_GRID}",
                ]
            ),
        ),
        (
            correlation[0] >= MIN_CORRELATION,
            tf.strings.join(
                [
                    "adc: tissue and fluid agree with the template's by ",
                    _number(correlation[0]),
                    f"; expected {MIN_CORRELATION:g} at least: {_EXPECTED_GRID}",
                ]
            ),
        ),
    ]


class _Pair(NamedTuple):
    """DWI against ADC and mask, at each of :func:`moves`.

    Attributes:
        contrast: correlation of the contrasts of DWI and ADC, the DWI moved.
        signal: share of the moved mask in which the DWI has a signal.
    """

    contrast: tf.Tensor
    signal: tf.Tensor


def _pair(patient: Patient, tissue: tf.Tensor) -> _Pair:
    dwi, adc, brain = patient.dwi, patient.adc, patient.brain_mask > 0
    deep = _inside(brain, EDGE_VOXELS)
    signal = dwi > SIGNAL * mean_of(dwi, tissue)

    def compare(voxels: tuple[tf.Tensor, ...]) -> tuple[tf.Tensor, tf.Tensor]:
        moved, mask = dwi, brain
        for axis in range(3):
            moved, mask = (tf.gather(v, voxels[axis], axis=axis) for v in (moved, mask))
        share = _count(signal & mask) / tf.maximum(_count(mask), 1)
        return _contrast(moved, adc, deep & (moved > 0) & (adc > 0)), share

    voxels = tuple(
        tf.constant(np.stack([move.voxels[axis] for move in moves()])) for axis in range(3)
    )
    spec = (tf.TensorSpec((), tf.float64), tf.TensorSpec((), tf.float64))
    return _Pair(*tf.map_fn(compare, voxels, fn_output_signature=spec))


def _contrast(dwi: tf.Tensor, adc: tf.Tensor, where: tf.Tensor) -> tf.Tensor:
    """Correlation of what is left of DWI and ADC, every 4 mm, without what is around."""
    median = tf.maximum(median_of(tf.boolean_mask(dwi, where)), 1e-6)
    weight = tf.cast(where, tf.float32)
    values = [tf.clip_by_value(dwi / median, 0.0, 2.0), tf.clip_by_value(adc / 1000, 0.0, 2.5)]
    stacked = tf.stack([weight, *(v * weight for v in values)], axis=-1)[tf.newaxis]
    coarse = tf.nn.avg_pool3d(stacked, STEP, STEP, "VALID")
    here = coarse[0, ..., 0] >= 0.5
    inside = tf.cast(here, tf.float32)
    means = tf.math.divide_no_nan(coarse[0, ..., 1:], coarse[0, ..., :1]) * inside[..., tf.newaxis]
    around = tf.nn.avg_pool3d(
        tf.concat([inside[..., tf.newaxis], means], axis=-1)[tf.newaxis], AROUND, 1, "SAME"
    )[0]
    left = means - tf.math.divide_no_nan(around[..., 1:], around[..., :1])
    return _correlation(*(tf.boolean_mask(left[..., k], here) for k in range(2)))


def _inside(brain: tf.Tensor, voxels: int) -> tf.Tensor:
    """The mask without what lies so near to its edge; beyond the grid is outside."""
    around = tf.pad(tf.cast(~brain, tf.float32), [[voxels, voxels]] * 3, constant_values=1.0)
    reached = around[tf.newaxis, ..., tf.newaxis]
    for axis in range(3):
        size = [2 * voxels + 1 if k == axis else 1 for k in range(3)]
        reached = tf.nn.max_pool3d(reached, size, 1, "VALID")
    return reached[0, ..., 0] == 0


@functools.cache
def moves() -> tuple[Place, ...]:
    """Where a volume could be put to fit the others; the words say how it lies; first, as it is."""
    here = tuple(np.arange(n, dtype=np.int32) for n in GRID_SHAPE)
    found = [Place("lies right", here)]
    for axis, name in enumerate("xyz"):
        for steps in (sign * s for s in MOVES for sign in (-1, 1)):
            moved = np.clip(here[axis] - steps, 0, len(here[axis]) - 1)
            far_mm, way = abs(steps) * VOXEL_MM, WAYS[axis][steps < 0]
            voxels = tuple(moved if k == axis else v for k, v in enumerate(here))
            found.append(Place(f"lies about {far_mm:g} mm too far {way}", voxels))
        voxels = tuple(v[::-1] if k == axis else v for k, v in enumerate(here))
        found.append(Place(f"is mirrored in {name}", voxels))
    return tuple(found)


@functools.cache
def template() -> NDArray[np.uint8]:
    """The template every 4 mm: 0 outside its brain, from 1 (fluid) to 255 (tissue) inside."""
    tissue, brain = (v[::STEP, ::STEP, ::STEP] for v in template_on_grid())
    return np.where(brain, 1 + np.rint(np.clip(tissue, 0, 1) * 254), 0).astype(np.uint8)


class View(NamedTuple):
    """A way in which the template could lie in the grid.

    Attributes:
        words: how a brain is or lies that fits there.
        matrix: [3, 4], voxel of 4 mm -> voxel of the template that lies there.
    """

    words: str
    matrix: NDArray[np.float64]


@functools.cache
def places() -> tuple[View, ...]:
    """Where the template could lie; the first is where it should."""
    shape = np.array(template().shape)
    here = np.eye(3, 4)
    found = [View("lies right", here)]
    for words, axes in (
        ("is mirrored in y (front and back)", [1]),
        ("is mirrored in z (upside down)", [2]),
        ("is mirrored in y and z", [1, 2]),
    ):
        mirrored = here.copy()
        mirrored[axes, axes] = -1
        mirrored[axes, 3] = shape[axes] - 1
        found.append(View(words, mirrored))
    for axis in range(3):
        for steps in (sign * s for s in SHIFTS for sign in (-1, 1)):
            moved = here.copy()
            moved[axis, 3] = -steps
            far_mm, way = abs(steps) * STEP * VOXEL_MM, WAYS[axis][steps > 0]
            found.append(View(f"lies about {far_mm:g} mm too far {way}", moved))
    brain = template() > 0
    middle = np.argwhere(brain).mean(axis=0)
    for factor, fixed in [(f, middle) for f in SCALES] + [(f, 0 * middle) for f in CORNER_SCALES]:
        size = "small" if factor < 1 else "large"
        words = f"is about {abs(factor - 1):.0%} too {size} (other voxel sizes?)"
        found.append(View(words, _about(fixed, np.eye(3) / factor)))
    for axis in range(3):
        for turn_deg in (sign * t for t in TURNS_DEG for sign in (-1, 1)):
            a, b = (k for k in range(3) if k != axis)
            cosine, sine = np.cos(np.radians(turn_deg)), np.sin(np.radians(turn_deg))
            turn = np.eye(3)
            turn[[a, a, b, b], [a, b, a, b]] = [cosine, -sine, sine, cosine]
            words = f"is turned by about {abs(turn_deg):.0f} degrees about {'xyz'[axis]}"
            found.append(View(words, _about(middle, turn)))
    return tuple(found)


def _about(fixed: NDArray[np.float64], linear: NDArray[np.float64]) -> NDArray[np.float64]:
    """[3, 4]: a linear map that leaves one point where it is."""
    return np.column_stack([linear, fixed - linear @ fixed])


def _agreement(patient: Patient) -> _Agreement:
    brain, adc = (v[::STEP, ::STEP, ::STEP] for v in (patient.brain_mask > 0, patient.adc))
    share = (ADC_CSF_UM2_PER_S - adc) / (ADC_CSF_UM2_PER_S - ADC_TISSUE_UM2_PER_S)
    mine = tf.clip_by_value(share, 0.0, 1.0)
    some = tf.cast(tf.reduce_any(brain, axis=(0, 1)), tf.int32)
    shown = (tf.cumsum(some) > 0) & (tf.cumsum(some, reverse=True) > 0)
    values = tf.constant(template())
    axes = [tf.range(float(n)) for n in template().shape]
    here = tf.stack(tf.meshgrid(*axes, indexing="ij"), axis=-1)
    last = tf.constant(template().shape) - 1

    def compare(matrix: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        there = tf.linalg.matvec(matrix[:, :3], here) + matrix[:, 3]
        voxels = tf.clip_by_value(tf.cast(tf.round(there), tf.int32), 0, last)
        there = tf.gather_nd(values, voxels)
        expected = (there > 0) & shown
        tissue = (tf.cast(there, tf.float32) - 1) / 254
        both = brain & expected
        dice = 2 * _count(both) / tf.maximum(_count(brain) + _count(expected), 1)
        return dice, _correlation(tf.boolean_mask(mine, both), tf.boolean_mask(tissue, both))

    matrices = tf.constant(np.stack([place.matrix for place in places()]), tf.float32)
    spec = (tf.TensorSpec((), tf.float64), tf.TensorSpec((), tf.float64))
    dice, correlation = tf.map_fn(compare, matrices, fn_output_signature=spec)
    whole = values > 0
    expected = _count(whole & shown)
    size = _count(brain) / tf.maximum(expected, 1)
    return _Agreement(dice, correlation, size, expected / _count(whole))


def _correlation(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    """Pearson's; 0 where either is the same everywhere."""
    a, b = (tf.cast(v, tf.float64) for v in (a, b))
    a, b = (v - tf.math.divide_no_nan(tf.reduce_sum(v), _size(v)) for v in (a, b))
    product = tf.sqrt(tf.reduce_sum(a * a) * tf.reduce_sum(b * b))
    return tf.math.divide_no_nan(tf.reduce_sum(a * b), product)


def _water_ratio(dwi: tf.Tensor, adc: tf.Tensor, brain: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """As :func:`data_tools.plausibility.check_contrast`: the ratio, and is there enough to tell."""
    water = tf.boolean_mask(dwi, brain & (adc >= WATER_UM2_PER_S))
    solid = tf.boolean_mask(dwi, brain & (adc > 500) & (adc < 1000))
    enough = tf.minimum(_size(water), _size(solid)) * VOXEL_ML >= WATER_MIN_ML
    return median_of(water) / tf.maximum(median_of(solid), 1e-6), enough


def _rim_over_inside(values: tf.Tensor, brain: tf.Tensor) -> tf.Tensor:
    """As :func:`data_tools.plausibility.check_not_swapped` has it; 1 where there is no rim."""
    # What a square of this size cannot reach from outside is inside; so is nothing at the border.
    width = RIM_VOXELS
    around = tf.cast(~brain, tf.float32)
    around = tf.pad(around, [[width, width], [width, width], [0, 0]], constant_values=1.0)
    slices = tf.transpose(around, (2, 0, 1))[..., tf.newaxis]
    reached = tf.nn.max_pool2d(slices, 2 * width + 1, 1, "VALID")[..., 0]
    inside = tf.transpose(reached, (1, 2, 0)) == 0
    rim = tf.boolean_mask(values, brain & ~inside & (values > 0))
    inner = tf.boolean_mask(values, inside & (values > 0))
    some = (tf.size(rim) > 0) & (tf.size(inner) > 0)
    return tf.where(some, median_of(rim) / tf.where(some, median_of(inner), 1.0), 1.0)


def median_of(values: tf.Tensor) -> tf.Tensor:
    """The median as numpy has it; 0 of nothing."""
    ordered = tf.concat([tf.sort(values), tf.zeros(1, values.dtype)], axis=0)
    count = tf.size(values)
    last = tf.maximum(count - 1, 0)
    return (ordered[last // 2] + ordered[(last + 1) // 2]) / 2


def mean_of(values: tf.Tensor, where: tf.Tensor) -> tf.Tensor:
    """Mean inside a mask, summed in float64."""
    return tf.cast(tf.reduce_mean(tf.cast(tf.boolean_mask(values, where), tf.float64)), tf.float32)


def _count(mask: tf.Tensor) -> tf.Tensor:
    return tf.cast(tf.math.count_nonzero(mask), tf.float64)


def _size(values: tf.Tensor) -> tf.Tensor:
    return tf.cast(tf.size(values), tf.float64)


def _number(value: tf.Tensor, digits: int = 2) -> tf.Tensor:
    return tf.strings.as_string(value, precision=digits)


def expected_bytes(name: str) -> str:
    """What a compressed volume has to be."""
    return (
        f"{name}: expected the gzip of {' x '.join(map(str, GRID_SHAPE))} float32 values, little "
        f"endian, C order, no header ({VOLUME_BYTES} bytes; float64 has twice as many, int16 half, "
        "a NIfTI file some more)"
    )
