"""Is a patient of a request what the server takes it for: every refusal, each written once.

A server cannot look at a header: volumes in another order, place or unit would be answered as if
nothing were wrong. So the brain is compared with the template's, as it lies and as it would lie
after the usual mistakes, and DWI with ADC. The template is a constant of 76 kB in the graph.

DWI, ADC and mask are compared with each other too, as they lie and moved or mirrored. A DWI or an
ADC map that is 0 everywhere was not given: what would compare it is not asked then.

Every function takes ``xp``, what it is computed with: :mod:`graph_arrays` puts the checks into the
exported graph, where TensorFlow Serving runs them, and :mod:`numpy_arrays` runs them without
TensorFlow. Arrays are of the one or the other.

What cannot be told is left from right of all three: the template is symmetric, and a head nearly
so; and the mask of another patient, where the images hold nothing outside their own brain.
"""

import dataclasses
import functools
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from data_tools import grid
from data_tools.grid import (
    ADC_CSF_UM2_PER_S,
    GRID_SHAPE,
    NIHSS_DIVISOR,
    NIHSS_MAX,
    NIHSS_MISSING,
    SIDES,
    SPACE,
    VOXEL_ML,
    VOXEL_MM,
)
from data_tools.intensity import FLUID_DWI_SHARE, MAX_RATIO
from data_tools.plausibility import (
    ADC_TISSUE_RANGE_UM2_PER_S,
    MAX_WATER_RATIO,
    RIM_VOXELS,
    WATER_UM2_PER_S,
)
from data_tools.registration import ADC_TISSUE_UM2_PER_S, DWI_FLUID_TO_TISSUE
from data_tools.template import template_on_grid

# The patient's tissue in a voxel of the template: half to twice the template's own brain.
VOXEL_RANGE_ML = (grid.VOXEL_ML / 4, grid.VOXEL_ML * 2)
WATER_MIN_ML = 1.0  # less of water or tissue is too little to tell a b = 0 image by
VOLUMES = ("dwi", "adc", "brain_mask")
VOLUME_BYTES = int(np.prod(GRID_SHAPE)) * 4
MAX_COMPRESSED_BYTES = VOLUME_BYTES + VOLUME_BYTES // 100  # of a gzip that compresses nothing

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


Array = Any  # of numpy, or a tensor
Arrays = Any  # the module that computes with them
Rules = list[tuple[Array, Any]]  # condition, and what is said where it does not hold


@dataclasses.dataclass(frozen=True, kw_only=True)
class Patient:
    """A patient of a request: volumes (91, 109, 60) and scalars."""

    dwi: Array
    adc: Array
    brain_mask: Array
    nihss: Array
    side: Array
    voxel_ml: Array


class _Agreement(NamedTuple):
    """Of a patient with the template; without slices that hold no brain: they were not imaged.

    Attributes:
        dice: of the brains, in each of :func:`places`.
        correlation: of tissue and fluid, in each.
        size: voxels of the mask over those of the template.
        shown: share of the template's brain in the patient's slices.
    """

    dice: Array
    correlation: Array
    size: Array
    shown: Array


@dataclasses.dataclass(frozen=True)
class Given:
    """Which images of a patient are there: not 0 everywhere."""

    dwi: Array
    adc: Array

    @property
    def both(self) -> Array:
        """Whether none is missing."""
        return self.dwi & self.adc


class Place(NamedTuple):
    """A way in which the template could lie in the grid.

    Attributes:
        words: how a brain is or lies that fits there.
        voxels: for each axis, which voxel of the template lies at each.
    """

    words: str
    voxels: tuple[NDArray[np.int32], ...]


def given_images(xp: Arrays, patient: Patient) -> Given:
    """Which images of a patient are there.

    Args:
        xp: see the module.
        patient: volumes and scalars.
    """
    return Given(xp.any(patient.dwi != 0), xp.any(patient.adc != 0))


def tissue_of(xp: Arrays, patient: Patient) -> Array:
    """Brain without fluid, as :func:`data_tools.intensity.tissue_of`; bool (91, 109, 60).

    Args:
        xp: see the module.
        patient: volumes and scalars.
    """
    dwi, adc, brain = patient.dwi, patient.adc, patient.brain_mask > 0
    by_adc = brain & (adc > 0) & (adc < ADC_CSF_UM2_PER_S)
    level = xp.maximum(xp.median_of(xp.select(dwi, brain)), np.float32(0))
    by_dwi = brain & (dwi > np.float32(FLUID_DWI_SHARE) * level)
    return xp.where(given_images(xp, patient).adc, by_adc, by_dwi)


def check(xp: Arrays, patient: Patient, tissue: Array, *, answers_without: bool = False) -> Any:
    """Refuse a patient that cannot be answered, with the first reason.

    Args:
        xp: see the module.
        patient: volumes and scalars.
        tissue: bool (91, 109, 60), of :func:`tissue_of`.
        answers_without: the model was trained to answer without a DWI or an ADC map.

    Returns:
        In a graph, what the rest has to wait for.

    Raises:
        InputError: by numpy, what a graph says when it runs.
    """
    given = given_images(xp, patient)
    agreement = _agreement(xp, patient, given)
    pair = _pair(xp, patient, tissue)
    return xp.refuse(
        [
            *_given(xp, patient),
            *_are_there(given, answers_without),
            *_images(xp, patient, tissue, agreement, given=given),
            *_one_scan(xp, patient, tissue, pair, given=given),
            *_lies_right(xp, agreement, given),
        ]
    )


def check_slabs(xp: Arrays, image: Array, nihss: Array) -> Any:
    """Refuse windows that a client cannot have normalised rightly; otherwise as :func:`check`.

    Args:
        xp: see the module.
        image: float32 (b, 128, 128, 16, 4).
        nihss: float32 (b, 1).
    """
    finite = xp.all(xp.isfinite(image)) & xp.all(xp.isfinite(nihss))
    small = xp.all(~(abs(image) > MAX_RATIO) | ~xp.isfinite(image))
    odd = (nihss < NIHSS_MISSING) | (nihss > NIHSS_MAX / NIHSS_DIVISOR)
    known = xp.all(~odd | ~xp.isfinite(nihss))
    return xp.refuse(
        [
            (finite, "image, nihss: hold NaN or infinite values"),
            (small, f"image: expected ratios to the parenchymal mean, at most {MAX_RATIO:g}"),
            (known, f"nihss: expected NIHSS / {NIHSS_DIVISOR:g}, or {NIHSS_MISSING:g} if unknown"),
        ]
    )


def _given(xp: Arrays, patient: Patient) -> Rules:
    nihss, voxel_ml, mask = patient.nihss, patient.voxel_ml, patient.brain_mask
    whole = xp.isfinite(nihss) & (nihss == xp.round(nihss))
    low, high = VOXEL_RANGE_ML
    return [
        (
            xp.is_one_of(patient.side, SIDES),
            f"side: expected one of {', '.join(SIDES)}: that of the lesion",
        ),
        (
            (whole & (nihss >= 0) & (nihss <= NIHSS_MAX)) | (nihss == NIHSS_MISSING),
            f"nihss: expected a whole number from 0 to {NIHSS_MAX}, or -1 if unknown",
        ),
        (
            xp.isfinite(voxel_ml) & (voxel_ml >= low) & (voxel_ml <= high),
            "voxel_ml: expected mL of the patient, in a voxel of 2 mm of the template, "
            f"{low:g} to {high:g}",
        ),
        (xp.all(xp.isfinite(mask)), "brain_mask: holds NaN or infinite values"),
        # Bytes of another type or order are as good as nothing, or any number, as float32.
        (
            xp.all((mask == 0) | (mask == 1)) & xp.any(mask == 1),
            "brain_mask: expected 1 in the brain and 0 elsewhere, and no other value; as bytes, "
            "float32 in little endian",
        ),
        *(
            (xp.all(xp.isfinite(v)), f"{name}: holds NaN or infinite values")
            for name, v in (("dwi", patient.dwi), ("adc", patient.adc))
        ),
    ]


def _are_there(given: Given, answers_without: bool) -> Rules:
    """Whether all images are there that the model needs."""
    if answers_without:
        return [(given.dwi | given.adc, "dwi, adc: both are 0 everywhere; expected one at least")]
    return [
        (
            there,
            f"{name}: is 0 everywhere, and this model was not trained to answer without it; "
            "expected both dwi and adc",
        )
        for name, there in (("dwi", given.dwi), ("adc", given.adc))
    ]


def _images(
    xp: Arrays, patient: Patient, tissue: Array, agreement: _Agreement, *, given: Given
) -> Rules:
    """Whether the mask can be a brain on this grid, and DWI and ADC are what they are called."""
    dwi, adc, brain = patient.dwi, patient.adc, patient.brain_mask > 0
    dice, shown = agreement.dice[0], agreement.shown
    median = xp.median_of(xp.select(adc, brain & (adc > 0)))
    low, high = ADC_TISSUE_RANGE_UM2_PER_S
    return [
        (
            dice >= MIN_DICE,
            xp.text(
                "brain_mask: its Dice with the template's brain is ",
                xp.number(dice),
                f"; expected {MIN_DICE:g} at least: {_EXPECTED_GRID}",
            ),
        ),
        (
            agreement.size <= MAX_SIZE,
            xp.text(
                "brain_mask: it is ",
                xp.number(agreement.size),
                f" times as large as the template's brain; expected {MAX_SIZE:g} at most: the "
                "brain without the skull",
            ),
        ),
        (
            shown >= MIN_SHOWN,
            xp.text(
                "brain_mask: its slices hold ",
                xp.number(shown * 100, 0),
                f"% of the template's brain; expected {MIN_SHOWN:.0%} at least: the whole head",
            ),
        ),
        (
            (_rim_over_inside(xp, dwi, brain) <= _rim_over_inside(xp, adc, brain)) | ~given.both,
            "dwi and adc look exchanged: fluid should be dark in the DWI and bright in the ADC "
            "map, and it is the other way round",
        ),
        (
            ((median >= low) & (median <= high)) | ~given.adc,
            xp.text(
                "adc: its median in the brain is ",
                xp.short_number(median),
                f"; expected {low:g} to {high:g}, in 1e-6 mm2/s (about 0.9 would be 1e-3 "
                "mm2/s, and 0.0009 mm2/s)",
            ),
        ),
        (
            (xp.sum(xp.select(dwi, tissue)) > 0) | ~given.dwi,
            "dwi: its mean in the brain is not above 0",
        ),
        (
            (xp.max(xp.where(brain, dwi, 0.0)) <= MAX_RATIO * xp.mean_of(dwi, tissue)) | ~given.dwi,
            f"dwi: a voxel of the brain is over {MAX_RATIO:g} times as bright as its mean",
        ),
    ]


def _one_scan(xp: Arrays, patient: Patient, tissue: Array, pair: "_Pair", *, given: Given) -> Rules:
    """Whether DWI, ADC and mask are of one scan and lie on each other."""
    dwi, adc, brain = patient.dwi, patient.adc, patient.brain_mask > 0
    mean = xp.mean_of(dwi, tissue)
    deep = xp.eroded(brain, [2 * EDGE_VOXELS + 1] * 3)
    no_dwi = xp.count(deep & tissue & (dwi <= NO_SIGNAL * mean)) * VOXEL_ML
    no_adc = xp.count(deep & (adc <= 0) & (dwi >= TISSUE_SIGNAL * mean)) * VOXEL_ML
    water, enough = _water_ratio(xp, dwi, adc, brain)
    contrast, words = pair.contrast[0], [move.words for move in moves()]
    fits, bright = xp.argmin(pair.contrast), xp.argmax(pair.signal)
    may_be_b0 = enough & (water > MAX_WATER_RATIO) & given.both
    b0 = xp.text(
        "dwi: fluid is ",
        xp.number(water),
        f" times as bright as tissue; expected {MAX_WATER_RATIO:g} at most, as at b = 1000 "
        "s/mm2. Is this the b = 0 image?",
    )
    return [
        (
            (contrast - pair.contrast[fits] <= MAX_CONTRAST_GAIN)
            | (pair.contrast[fits] > MAX_CONTRAST)
            | ~given.both,
            xp.text(
                "dwi, adc: the DWI ",
                xp.choose(words, fits),
                " against the ADC; expected both in one place",
            ),
        ),
        (~(may_be_b0 & (contrast > MIN_ALIKE)), b0),
        (
            (contrast <= MAX_CONTRAST) | ~given.both,
            xp.text(
                "dwi, adc: what is dark in one should be bright in the other; their contrasts "
                "correlate by ",
                xp.number(contrast),
                f", expected {MAX_CONTRAST:g} at most. Are both of one scan, in one place?",
            ),
        ),
        (
            (pair.signal[bright] - pair.signal[0] <= MAX_SIGNAL_GAIN) | ~given.dwi,
            xp.text(
                "brain_mask: it ",
                xp.choose(words, bright),
                " against the DWI; expected both in one place",
            ),
        ),
        *(
            (
                (volume <= MAX_VOID_ML) | ~given.both,
                xp.text(
                    f"{name}: has nothing in ",
                    xp.number(volume, 1),
                    f" mL of the brain where {other} shows tissue; expected {MAX_VOID_ML:g} mL "
                    "at most",
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


def _lies_right(xp: Arrays, agreement: _Agreement, given: Given) -> Rules:
    """Whether the brain fits the template as it lies better than in any other place or size."""
    correlation = agreement.correlation
    fit = correlation + 2 * agreement.dice
    gain = fit - fit[0]
    best = xp.argmax(gain)
    words = [place.words for place in places()]
    return [
        (
            gain[best] <= MAX_GAIN,
            xp.text(
                "dwi, adc, brain_mask: against the template the brain ",
                xp.choose(words, best),
                f"; expected {_EXPECTED_GRID}",
            ),
        ),
        (
            correlation[0] >= MIN_CORRELATION,
            xp.text(
                xp.choose(("dwi", "adc"), xp.cast(given.adc, "int32")),
                ": tissue and fluid agree with the template's by ",
                xp.number(correlation[0]),
                f"; expected {MIN_CORRELATION:g} at least: {_EXPECTED_GRID}",
            ),
        ),
    ]


class _Pair(NamedTuple):
    """DWI against ADC and mask, at each of :func:`moves`.

    Attributes:
        contrast: correlation of the contrasts of DWI and ADC, the DWI moved.
        signal: share of the moved mask in which the DWI has a signal.
    """

    contrast: Array
    signal: Array


def _pair(xp: Arrays, patient: Patient, tissue: Array) -> _Pair:
    dwi, adc, brain = patient.dwi, patient.adc, patient.brain_mask > 0
    deep = xp.eroded(brain, [2 * EDGE_VOXELS + 1] * 3)
    signal = dwi > SIGNAL * xp.mean_of(dwi, tissue)

    def compare(*voxels: Array) -> tuple[Array, Array]:
        moved, mask = dwi, brain
        for axis in range(3):
            moved, mask = (xp.take(v, voxels[axis], axis) for v in (moved, mask))
        share = xp.count(signal & mask) / xp.maximum(xp.count(mask), 1)
        return _contrast(xp, moved, adc, deep & (moved > 0) & (adc > 0)), share

    stacked = (np.stack([move.voxels[axis] for move in moves()]) for axis in range(3))
    return _Pair(*xp.each(compare, *map(xp.constant, stacked)))


def _contrast(xp: Arrays, dwi: Array, adc: Array, where: Array) -> Array:
    """Correlation of what is left of DWI and ADC, every 4 mm, without what is around."""
    median = xp.maximum(xp.median_of(xp.select(dwi, where)), 1e-6)
    weight = xp.cast(where, "float32")
    share = xp.coarse(weight, STEP)
    here = share >= 0.5
    inside = xp.cast(here, "float32")
    inside_around = xp.box_mean(inside, AROUND)
    left = []
    for values in (xp.clip(dwi / median, 0.0, 2.0), xp.clip(adc / 1000, 0.0, 2.5)):
        means = xp.divide(xp.coarse(values * weight, STEP), share) * inside
        around = xp.divide(xp.box_mean(means, AROUND), inside_around)
        left.append(xp.select(means - around, here))
    return _correlation(xp, *left)


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


def _agreement(xp: Arrays, patient: Patient, given: Given) -> _Agreement:
    volumes = patient.brain_mask > 0, patient.dwi, patient.adc
    brain, dwi, adc = (v[::STEP, ::STEP, ::STEP] for v in volumes)
    # As :func:`data_tools.registration.tissue_map` and its twin for a DWI alone.
    by_adc = (ADC_CSF_UM2_PER_S - adc) / (ADC_CSF_UM2_PER_S - ADC_TISSUE_UM2_PER_S)
    median = xp.maximum(xp.median_of(xp.select(patient.dwi, patient.brain_mask > 0)), 1e-6)
    dark, light = DWI_FLUID_TO_TISSUE
    by_dwi = (dwi / median - dark) / (light - dark)
    mine = xp.clip(xp.where(given.adc, by_adc, by_dwi), 0.0, 1.0)
    some = xp.cast(xp.any(brain, axis=(0, 1)), "int32")
    shown = (xp.cumsum(some) > 0) & (xp.cumsum(some, reverse=True) > 0)
    values, sizes = xp.constant(template()), template().shape
    x, y, z = (
        xp.constant(axis) for axis in np.ix_(*(np.arange(n, dtype=np.float32) for n in sizes))
    )

    def compare(matrix: Array) -> tuple[Array, Array]:
        index = 0
        for row, size in enumerate(sizes):
            a, b, c, start = (matrix[row, column] for column in range(4))
            voxel = xp.cast(xp.round(a * x + b * y + c * z + start), "int32")
            index = index * size + xp.clip(voxel, 0, size - 1)
        there = xp.take(xp.ravel(values), index)
        expected = (there > 0) & shown
        tissue = (xp.cast(there, "float32") - 1) / 254
        both = brain & expected
        dice = 2 * xp.count(both) / xp.maximum(xp.count(brain) + xp.count(expected), 1)
        return dice, _correlation(xp, xp.select(mine, both), xp.select(tissue, both))

    matrices = np.stack([place.matrix for place in places()]).astype(np.float32)
    dice, correlation = xp.each(compare, xp.constant(matrices))
    whole = values > 0
    expected = xp.count(whole & shown)
    size = xp.count(brain) / xp.maximum(expected, 1)
    return _Agreement(dice, correlation, size, expected / xp.count(whole))


def _correlation(xp: Arrays, a: Array, b: Array) -> Array:
    """Pearson's; 0 where either is the same everywhere."""
    a, b = (xp.cast(v, "float64") for v in (a, b))
    a, b = (v - xp.divide(xp.sum(v), xp.size(v)) for v in (a, b))
    product = xp.sqrt(xp.sum(a * a) * xp.sum(b * b))
    return xp.divide(xp.sum(a * b), product)


def _water_ratio(xp: Arrays, dwi: Array, adc: Array, brain: Array) -> tuple[Array, Array]:
    """As :func:`data_tools.plausibility.check_contrast`: the ratio, and is there enough to tell."""
    water = xp.select(dwi, brain & (adc >= WATER_UM2_PER_S))
    solid = xp.select(dwi, brain & (adc > 500) & (adc < 1000))
    enough = xp.minimum(xp.size(water), xp.size(solid)) * VOXEL_ML >= WATER_MIN_ML
    return xp.median_of(water) / xp.maximum(xp.median_of(solid), 1e-6), enough


def _rim_over_inside(xp: Arrays, values: Array, brain: Array) -> Array:
    """As :func:`data_tools.plausibility.check_not_swapped` has it; 1 where there is no rim."""
    width = 2 * RIM_VOXELS + 1
    inside = xp.eroded(brain, (width, width, 1))
    rim = xp.select(values, brain & ~inside & (values > 0))
    inner = xp.select(values, inside & (values > 0))
    some = (xp.size(rim) > 0) & (xp.size(inner) > 0)
    return xp.where(some, xp.median_of(rim) / xp.where(some, xp.median_of(inner), 1.0), 1.0)


def expected_bytes(name: str) -> str:
    """What a compressed volume has to be."""
    return (
        f"{name}: expected the gzip of {' x '.join(map(str, GRID_SHAPE))} float32 values, little "
        f"endian, C order, no header ({VOLUME_BYTES} bytes; float64 has twice as many, int16 half, "
        "a NIfTI file some more)"
    )
