"""Whether the images of one patient agree: DWI, ADC map and a brain mask that is given.

A DWI is dark where the ADC map is bright, so the ranks of both are opposed all over the brain.
Their correlation was -0.62 to -0.77 in two real and two simulated patients, -0.01 to -0.31 when one
of the two was mirrored along any axis, and fell by 0.05 to 0.24 with each 2 mm between them.
"""

import itertools

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from data_tools.brain_of_dwi import filled_in_plane, slice_axis
from data_tools.overrides import ADC_UNITS
from data_tools.runtime.errors import InputError
from data_tools.volumes import Volume

AXES = (
    ("left for right", ("left", "right")),
    ("back to front", ("back", "front")),
    ("upside down", ("feet", "head")),
)
SAMPLES = 10_000
MIN_SAMPLES = 1000
# In each round of the search for the place where the ADC map agrees best.
STEP_MM = 4.0
MAX_STEPS = 8
# Correlation by which another place, or a mirror image, must agree better.
PLACE_GAIN, MIRROR_GAIN = 0.05, 0.03
WEAK_CORRELATION = -0.35

# Of ADC from different fits to one series: a few percent. At 8% the core's volume changes by much
# more; no fit explains 25%. Images of b over 1300 lower a scanner's own fit by some percent more.
SCALE_DIFFERS, SCALE_DIFFERS_STRONG_B, SCALE_CONTRADICTS = 0.08, 0.15, 0.25
SCALE_RANGE_UM2_PER_S = (300.0, 1600.0)

# Real maps have single voxels of 0 in the brain: 0.01 mL in two patients.
HOLE_ML, HOLE_DEPTH_MM = 1.0, 4.0
# Iron and bleeding are dark in a DWI; a hole that is as bright as this was tissue, or a lesion.
DARK_HOLE, BRIGHT_HOLE = 0.5, 1.2

# NaN around a brain that was masked was up to 6.3 mm, half from side to side, where only the other
# half of the head had brain; of one slice, up to half its thickness on either side.
DENT_HALF_MM = 7.0
RIM_SHARE, RIM_REACH_MM = 0.05, 10.0

# Masks of one brain that were mirrored or moved by 30 mm lost 0.08 to 0.17 of their Dice; those of
# another patient on the same grid 0.05.
PLACE_DICE_GAIN = 0.05
MOVES_MM = (-32.0, -24.0, -16.0, -8.0, 8.0, 16.0, 24.0, 32.0)

SAME_BRAIN_DICE, OTHER_BRAIN_SHARE, OTHER_PLACE_DICE = 0.85, 0.1, 0.4
# Adult brains are 1000 to 1700 mL; partial coverage and atrophy make less, a mask that took in
# the skull or the background makes more.
BRAIN_RANGE_ML = (500.0, 2200.0)


def check_scale(
    given: Volume, own_um2_per_s: NDArray[np.float32], brain: NDArray[np.bool_], strong_b: bool
) -> tuple[str, ...]:
    """Compare an ADC map with the one that its own series gives.

    Args:
        given: the map, in any unit, on the series' grid.
        own_um2_per_s: computed from the series.
        brain: bool, same shape.
        strong_b: whether the series has images of b over 1300 s/mm2.

    Returns:
        A warning if they differ by more than different fits do.

    Raises:
        InputError: if they contradict each other.
    """
    low, high = SCALE_RANGE_UM2_PER_S
    tissue = brain & (own_um2_per_s >= low) & (own_um2_per_s <= high) & (given.data > 0)
    if tissue.sum() < MIN_SAMPLES:
        return ()
    ratios = [
        float(np.median(given.data[tissue] / own_um2_per_s[tissue])) * factor
        for factor in ADC_UNITS.values()
    ]
    ratio = min(ratios, key=lambda each: abs(np.log(each)))
    if not 0.1 < ratio < 10:  # of no unit, which is told by who looks for it
        return ()
    own = float(np.median(own_um2_per_s[tissue]))
    words = (
        f"in tissue the ADC map has {own * ratio:.0f}e-6 mm2/s where its own series gives "
        f"{own:.0f} (median, {ratio:.2f} times)"
    )
    off = max(ratio, 1 / ratio) - 1
    if off > SCALE_CONTRADICTS:
        raise InputError(
            f"ADC {given.path}: {words}; expected both to agree within a few percent. Is the map's "
            "scale factor right, and are the b-values of the series (--b_value says another)? "
            "Without the map, ADC is computed from the series."
        )
    if off > (SCALE_DIFFERS_STRONG_B if strong_b else SCALE_DIFFERS):
        return (f"{words}; the map was taken. Look whether its scale factor is right",)
    return ()


def check_place(dwi: Volume, adc: Volume, brain: NDArray[np.bool_]) -> tuple[str, ...]:
    """Whether an ADC map lies on the DWI, by what both show.

    Args:
        dwi: b = 1000 image.
        adc: on its grid, any unit.
        brain: bool, same shape.

    Returns:
        A warning if it would agree better elsewhere, or agrees nowhere.

    Raises:
        InputError: if its mirror image agrees better.
    """
    points = np.argwhere(brain & (dwi.data > 0))
    if len(points) < MIN_SAMPLES:
        return ()
    points = points[:: max(1, len(points) // SAMPLES)]
    ranks = _ranks(dwi.data[tuple(points.T)])
    size = np.array(brain.shape)
    step = np.maximum(1, np.round(STEP_MM / np.array(dwi.spacing_mm))).astype(int)

    def correlation(signs: tuple[int, ...], moved: tuple[int, ...]) -> float:
        there = np.where(np.array(signs) < 0, size - 1 - points, points) + moved
        inside = ((there >= 0) & (there < size)).all(axis=1)
        values = np.where(inside, adc.data[tuple(np.clip(there, 0, size - 1).T)], 0)
        return float(np.mean(ranks * _ranks(values)))

    def best(signs: tuple[int, ...]) -> tuple[float, tuple[int, ...]]:
        at: tuple[int, ...] = (0, 0, 0)
        found = correlation(signs, at)
        for _ in range(MAX_STEPS):
            near = [
                tuple(int(x) for x in np.array(at) + side * step * (np.arange(3) == axis))
                for axis in range(3)
                for side in (-1, 1)
            ]
            value, place = min((correlation(signs, each), each) for each in near)
            if value >= found - PLACE_GAIN / 2:
                break
            found, at = value, place
        return found, at

    here = correlation((1, 1, 1), (0, 0, 0))
    moved, at = best((1, 1, 1))
    mirrored = min(best(s)[0] for s in itertools.product((1, -1), repeat=3) if min(s) < 0)
    if mirrored < min(moved - MIRROR_GAIN, WEAK_CORRELATION):
        raise InputError(
            f"ADC {adc.path}: its mirror image agrees better with DWI {dwi.path} than the map "
            f"itself (correlation of ranks {mirrored:.2f} against {moved:.2f}; expected about "
            "-0.6 to -0.8 as the files are). Is the header of one of them mirrored, or another "
            "patient's?"
        )
    numbers = f"(correlation of ranks {here:.2f}; expected about -0.6 to -0.8)"
    if moved < here - PLACE_GAIN:
        apart_mm = np.linalg.norm(np.array(at) * dwi.spacing_mm)
        return (
            f"the ADC map does not lie on the DWI {numbers}: about {apart_mm:.0f} mm off it agrees "
            f"better ({moved:.2f}). Core and brain are wrong by that; are both headers right?",
        )
    if here > WEAK_CORRELATION:
        return (
            f"DWI and ADC map hardly show the same {numbers}: are they of one patient and session, "
            "and do they lie on each other?",
        )
    return ()


def _ranks(values: NDArray) -> NDArray[np.float64]:
    """Ranks of mean 0 and variance 1; equal values share theirs."""
    _, index, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - counts / 2)[index]
    return (ranks - ranks.mean()) / max(float(ranks.std()), 1e-9)


def check_holes(dwi: Volume, adc: Volume, brain: NDArray[np.bool_]) -> tuple[str, ...]:
    """Look for holes of 0 and less in an ADC map, inside the brain: no core is found in them.

    Args:
        dwi: b = 1000 image.
        adc: on its grid.
        brain: bool, as the DWI shows it.

    Returns:
        A warning with mL, if the DWI shows tissue there; where it is dark no core can be.

    Raises:
        InputError: if it is bright there.
    """
    filled = filled_in_plane(brain, slice_axis(dwi.affine))
    tissue = float(np.median(dwi.data[brain & (adc.data > 0)])) if brain.any() else 0.0
    empty = filled & (adc.data <= 0) & (dwi.data > DARK_HOLE * tissue)
    if empty.sum() * dwi.voxel_ml < HOLE_ML:
        return ()
    deep = empty & (ndimage.distance_transform_edt(filled, sampling=dwi.spacing_mm) > HOLE_DEPTH_MM)
    parts, _ = ndimage.label(empty, np.ones((3, 3, 3)))
    sizes = np.bincount(parts[deep], minlength=1).astype(float)
    large = [k for k in np.flatnonzero(sizes * dwi.voxel_ml >= HOLE_ML) if k]
    if not large:
        return ()
    hole = deep & np.isin(parts, large)
    words = f"is 0 or less in {hole.sum() * dwi.voxel_ml:.1f} mL inside the brain"
    ratio = float(np.median(dwi.data[hole])) / max(tissue, 1e-9)
    if ratio >= BRIGHT_HOLE:
        raise InputError(
            f"ADC {adc.path}: {words}, where the DWI is {ratio:.1f} times as bright as other "
            "tissue; expected values above 0. Without them an infarct there would not be seen."
        )
    return (f"the ADC map {words}; no core can be found there",)


def gap_warnings(dwi: Volume, adc: Volume, brain: NDArray[np.bool_]) -> tuple[str, ...]:
    """Whether NaN of the DWI, taken as background, may be brain that touches the outside.

    Args:
        dwi: with ``reading.absent``.
        adc: on its grid.
        brain: bool, found where there is no NaN.
    """
    absent = dwi.reading.absent
    if absent is None or not brain.any():
        return ()
    filled = filled_in_plane(brain, slice_axis(dwi.affine))
    absent = absent & ~filled
    dent = absent & _mirrored(filled, dwi.affine)
    # What is thin from side to side is no more than the two halves' difference.
    half_mm = max(DENT_HALF_MM, 1.05 * max(dwi.spacing_mm))
    parts, _ = ndimage.label(dent)
    thick = ndimage.distance_transform_edt(dent, sampling=dwi.spacing_mm) > half_mm
    dent_ml = float((dent & np.isin(parts, np.unique(parts[thick]))).sum() * dwi.voxel_ml)
    if thick.any():
        return (
            f"the DWI is NaN in {dent_ml:.0f} mL beside the brain, where the other side of the "
            "head has brain: it was taken as background, and an infarct there is lost",
        )
    outside_mm = ndimage.distance_transform_edt(~filled, sampling=dwi.spacing_mm)
    far = outside_mm > 2 * RIM_REACH_MM
    if far.any() and (adc.data[far] > 0).mean() > RIM_SHARE:  # a map of noise around the head
        return ()
    rim = absent & (adc.data > 0) & (outside_mm <= RIM_REACH_MM)
    if rim.sum() <= RIM_SHARE * brain.sum():
        return ()
    return (
        f"the DWI is NaN in {rim.sum() * dwi.voxel_ml:.0f} mL around the brain that was found, "
        "where the ADC map has values: it was taken as background; is some of it brain?",
    )


def _mirrored(brain: NDArray[np.bool_], affine: NDArray[np.float64]) -> NDArray[np.bool_]:
    """The brain's mirror image, in the plane between left and right in which it fits itself."""
    index = np.argwhere(brain)
    middle = affine[:3, :3] @ index.mean(axis=0) + affine[:3, 3]
    points = (index[:: max(1, len(index) // 3000)] @ affine[:3, :3].T) + affine[:3, 3]
    to_index = np.linalg.inv(affine)
    size = np.array(brain.shape)

    def at(mm: NDArray[np.float64], plane: tuple[float, float, float]) -> NDArray[np.bool_]:
        yaw, roll, offset_mm = plane
        normal = np.array([1.0, np.tan(yaw), np.tan(roll)])
        normal /= np.linalg.norm(normal)
        far = (mm - middle) @ normal - offset_mm
        there = (mm - 2 * far[:, np.newaxis] * normal) @ to_index[:3, :3].T + to_index[:3, 3]
        there = np.round(there).astype(int)
        inside = ((there >= 0) & (there < size)).all(axis=1)
        return inside & brain[tuple(np.clip(there, 0, size - 1).T)]

    turns = np.radians([-24, -16, -8, 0, 8, 16, 24])
    planes = itertools.product(turns, turns, (-12.0, -8.0, -4.0, 0.0, 4.0, 8.0, 12.0))
    best = max(planes, key=lambda plane: at(points, plane).mean())
    for part in (0.5, 0.25):
        around = [
            (b - s * part, b, b + s * part)
            for b, s in zip(best, (np.radians(8), np.radians(8), 4.0), strict=True)
        ]
        best = max(itertools.product(*around), key=lambda plane: at(points, plane).mean())
    everywhere = np.argwhere(np.ones(brain.shape, bool)) @ affine[:3, :3].T + affine[:3, 3]
    return at(everywhere, best).reshape(brain.shape)


def check_given_mask(
    path: str, said: NDArray[np.bool_], found: NDArray[np.bool_], voxel_ml: float
) -> None:
    """Refuse a brain mask that cannot be of the head that an image shows.

    Args:
        path: of the mask.
        said: bool, on the DWI's grid.
        found: bool, same shape.
        voxel_ml: volume of a voxel.

    Raises:
        InputError: it cannot be this patient's brain.
    """
    said_ml, found_ml = (float(mask.sum() * voxel_ml) for mask in (said, found))
    low, high = BRAIN_RANGE_ML
    sure = low <= found_ml <= high
    dice, inverted_dice = dice_of(said, found), dice_of(~said, found)
    words = f"--brain_mask: the brain mask {path}"
    expected = f"expected {low:.0f} to {high:.0f} mL"
    if sure and said.any() and inverted_dice > max(dice, OTHER_PLACE_DICE):
        raise InputError(
            f"{words} looks inverted: what it leaves out is the brain (Dice {inverted_dice:.2f}, "
            f"the mask itself {dice:.2f}); expected 1 in the brain and 0 around it"
        )
    if said.mean() > 0.95 and said_ml > high:
        raise InputError(
            f"{words} holds {said.mean():.0%} of the image, {said_ml:.0f} mL; {expected}"
        )
    if said_ml < low or said_ml > high:
        raise InputError(
            f"{words} has {said_ml:.0f} mL; {expected} where the image is. Is it of this patient, "
            "on its grid or with its own orientation header?"
        )
    if sure and dice < OTHER_PLACE_DICE:
        raise InputError(
            f"{words} lies elsewhere than the brain that the image shows (Dice {dice:.2f}); "
            "expected a mask of this patient and session, with its own orientation header"
        )


def mask_warnings(
    said: NDArray[np.bool_], found: NDArray[np.bool_], voxel_ml: float
) -> tuple[str, ...]:
    """A warning if a given brain mask, which is taken, differs much from the brain found.

    Args:
        said: bool, on the DWI's grid.
        found: bool, same shape, with the ADC map's help.
        voxel_ml: volume of a voxel.
    """
    said_ml, found_ml = (float(mask.sum() * voxel_ml) for mask in (said, found))
    dice = dice_of(said, found)
    if dice >= SAME_BRAIN_DICE and abs(said_ml - found_ml) <= OTHER_BRAIN_SHARE * found_ml:
        return ()
    return (
        f"the brain mask that was given has {said_ml:.0f} mL, and the brain found in the image "
        f"{found_ml:.0f} mL; they overlap with Dice {dice:.2f}; the given one was taken",
    )


def better_elsewhere(
    mask: NDArray[np.bool_], expected: NDArray[np.bool_], spacing_mm: float
) -> str:
    """Whether a mask covers the one expected clearly better when it is mirrored or moved.

    Args:
        mask: bool.
        expected: bool, same shape, axes along RAS.
        spacing_mm: of a voxel in every direction.

    Returns:
        How, and both overlaps; an empty text if it does not.
    """
    found = {}
    mask, expected, spacing_mm = mask[::2, ::2, ::2], expected[::2, ::2, ::2], 2 * spacing_mm
    for axis, (name, ends) in enumerate(AXES):
        found[f"mirrored {name}"] = np.flip(mask, axis)
        for move_mm in MOVES_MM:
            toward = ends[move_mm > 0]
            found[f"moved {abs(move_mm):.0f} mm to the {toward}"] = ndimage.shift(
                mask, round(move_mm / spacing_mm) * (np.arange(3) == axis), order=0, cval=False
            )
    here = dice_of(mask, expected)
    best = {words: dice_of(moved, expected) for words, moved in found.items()}
    words = max(best, key=lambda each: best[each])
    if best[words] < here + PLACE_DICE_GAIN:
        return ""
    return f"{words} it fits better (Dice {best[words]:.2f}; {here:.2f} as it is)"


def dice_of(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    """Overlap of two masks: 1 if they are the same, 0 if they share nothing."""
    return float(2 * (one & other).sum() / max(int(one.sum()) + int(other.sum()), 1))
