"""Whether images are what they are said to be: ADC in its unit, Tmax in seconds, a DWI a DWI."""

import re

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from data_tools.brain_of_dwi import filled_in_plane, slice_axis
from data_tools.grid import ADC_CORE_UM2_PER_S, WANTED_B_S_PER_MM2
from data_tools.overrides import ADC_UNITS, SAID_B_RANGE_S_PER_MM2, Overrides
from data_tools.runtime.errors import InputError, counted
from data_tools.volumes import Volume

# The median ADC of a brain was 871 and 1042e-6 mm2/s in two real patients (the second with large
# ventricles) and 935 to 991 in 46 simulated ones. Below the core's limit most of the brain would be
# core. The windows of the units cannot overlap, so a unit is detected and never guessed; a map
# that is off by a factor of 2 falls out of all of them.
ADC_TISSUE_RANGE_UM2_PER_S = (ADC_CORE_UM2_PER_S, 1600.0)
# What a person may say of a map whose median is unusual: one that is mostly core, or mostly CSF.
ADC_SAID_RANGE_UM2_PER_S = (300.0, 2500.0)

# Voxels of this ADC and more are mostly CSF. Their signal against tissue's was 0.3 to 0.6 in DWIs
# of two real and four simulated patients, and 1.6 to 3 (0.9 in one simulated) at b = 0.
WATER_UM2_PER_S = 1600.0
MAX_WATER_RATIO = 0.8
# With a lower b water loses less of its brightness: by the difference of its ADC and tissue's.
WATER_EXCESS_MM2_PER_S = 1.2e-3

# No deconvolution gives a Tmax of 100 s; thousands mean milliseconds.
TMAX_MAX_S = 100.0
# Healthy tissue has 1 to 3 s, and most of the brain is healthy or at least not 6 s late.
TMAX_MEDIAN_MAX_S = 8.0
# A map has more values than a mask with its labels, and has them in most of the brain it shows.
LEAST_VALUES, TMAX_LEAST_SHARE = 4, 0.2
WHOLE_BRAIN_SHARE = 0.95

RIM_VOXELS = 2
# Of an image that stands alone. DWIs of two real and two simulated heads had 0.78 to 0.94, their
# ADC maps 1.15 to 1.54; taken for the other image, with the brain found in it as such, DWIs had
# 0.78 to 1.0 and ADC maps, but for one, 1.6 to 1.8.
MAX_DWI_RIM, MIN_ADC_RIM = 1.2, 1.05

# Superscripts, two micro signs, and signs for minus and times.
UNIT_LETTERS: dict[int, str] = str.maketrans({
    "\u00b2": "2", "\u00b5": "u", "\u03bc": "u", "\u2212": "-", "\u2013": "-", "\u207b": "-",
    "\u2075": "5", "\u2076": "6", "\u00b3": "3", "\u00b9": "1", "\u00d7": "x", "\u00b7": "",
})  # fmt: skip
# Powers of ten of a squared length, in 1e-6 mm2.
UNIT_EXPONENTS = {"um": 0, "mm": 6, "cm": 8, "m": 12}

# Programs leave NaN around the head, and around the brain where their mask is tighter than ours.
MAX_GAP_DEPTH_MM = 6.0


def check_said_b(overrides: Overrides) -> None:
    """Refuse a b-value, typed by a person, that no DWI has.

    Raises:
        InputError: it is below 500, above 10000, or no number.
    """
    low, high = SAID_B_RANGE_S_PER_MM2
    if overrides.b_value is not None and not low <= overrides.b_value <= high:
        raise InputError(
            f"--b_value is {overrides.b_value:g}; expected the DWI's b-value, about 1000 s/mm2, "
            f"{low:g} to {high:g}"
        )


def detect_adc_unit(adc: Volume, tissue: NDArray[np.bool_]) -> str:
    """Find the unit of an ADC map from its median in brain tissue.

    Args:
        adc: the map in the file's unit.
        tissue: bool, same shape: brain (CSF may be in it).

    Returns:
        A key of :data:`data_tools.overrides.ADC_UNITS`; multiply the data by its value to get
        um2/s (1e-6 mm2/s).

    Raises:
        InputError: if the median fits no unit, or the image is a mask.
    """
    values = np.unique(adc.data[tissue & (adc.data > 0)])
    if values.size and np.isin(values, range(1, LEAST_VALUES)).all():
        raise InputError(
            f"ADC {adc.path}: has only {counted(len(values), 'value')} other than 0 in the brain, "
            "as a mask with its labels; expected an ADC map"
        )
    median = _median(adc, tissue)
    low, high = ADC_TISSUE_RANGE_UM2_PER_S
    for unit, factor in ADC_UNITS.items():
        if low <= median * factor <= high:
            return unit
    raise InputError(
        f"ADC {adc.path}: the median in brain tissue is {median:g}, which is no plausible ADC in "
        f"any of {', '.join(ADC_UNITS)} (expected about 0.0009, 0.9 or 900, and never outside "
        f"{low:g} to {high:g}e-6 mm2/s). Is this an ADC map, and is its scale factor right?"
    )


def check_unit_said_by_person(adc: Volume, tissue: NDArray[np.bool_], unit: str) -> tuple[str, ...]:
    """Refuse the unit that a person says of an ADC map if it makes the map impossible.

    Args:
        adc: the map in the file's unit.
        tissue: bool, same shape: brain (CSF may be in it).
        unit: a key of :data:`data_tools.overrides.ADC_UNITS`.

    Returns:
        A warning if the median of the brain is unusual.

    Raises:
        InputError: if it is impossible.
    """
    median = _median(adc, tissue) * ADC_UNITS[unit]
    low, high = ADC_SAID_RANGE_UM2_PER_S
    if not low <= median <= high:
        raise InputError(
            f"ADC {adc.path}: in {unit}, as --adc_unit says, the median in brain tissue is "
            f"{median / 1e6:.3g} mm2/s; expected {low:g} to {high:g}e-6 mm2/s. Leave --adc_unit "
            "out, and the unit is found from the values."
        )
    low, high = ADC_TISSUE_RANGE_UM2_PER_S
    if low <= median <= high:
        return ()
    return (
        f"ADC: in {unit}, as --adc_unit says, the median in brain tissue is {median:.0f}e-6 mm2/s; "
        f"usual is {low:g} to {high:g}",
    )


def _median(image: Volume, tissue: NDArray[np.bool_]) -> float:
    inside = image.data[tissue & (image.data > 0)]
    return float(np.median(inside)) if inside.size else 0.0


def check_gaps(
    image: Volume, brain: NDArray[np.bool_], what: str, *, may_be_a_slab: bool = False
) -> None:
    """Refuse an image with NaN or infinity inside the brain; around it they are background.

    Inside are those that no others join to the outside of the brain, and those that lie deep.

    Args:
        image: with ``reading.absent``.
        brain: bool, on its grid.
        what: ``DWI``..., for messages.
        may_be_a_slab: slices above and below it may hold nothing, deep in the brain too.

    Raises:
        InputError: with their number.
    """
    absent = image.reading.absent
    if absent is None or not brain.any():
        return
    filled = filled_in_plane(brain, slice_axis(image.affine))
    parts, _ = ndimage.label(absent)
    inside = absent & filled & ~np.isin(parts, np.unique(parts[absent & ~filled]))
    if not may_be_a_slab:
        depth_mm = ndimage.distance_transform_edt(filled, sampling=image.spacing_mm)
        inside |= absent & (depth_mm > MAX_GAP_DEPTH_MM)
    if inside.any():
        count = int(inside.sum())
        raise InputError(
            f"{what} {image.path}: {count} voxel{'s are' if count > 1 else ' is'} NaN or infinite "
            "inside the brain "
            f"(of {int(absent.sum())} in the image); expected finite values there. Around "
            "the brain they are taken as background."
        )


def check_tmax_of_tissue(tmax: Volume, brain: NDArray[np.bool_]) -> None:
    """Refuse a map whose values in the brain are no seconds of Tmax.

    Args:
        tmax: the map in the file's unit.
        brain: bool, on its grid.

    Raises:
        InputError: if the median in the brain is over 8: tenths of seconds, or a time to peak.
    """
    median = _median(tmax, brain)
    if median > TMAX_MEDIAN_MAX_S:
        raise InputError(
            f"Tmax {tmax.path}: its median in the brain is {median:.1f}; expected seconds, 1 to 3 "
            f"in healthy tissue and at most {TMAX_MEDIAN_MAX_S:g}. Is it in tenths of seconds, or "
            "a time to peak (TTP)?"
        )


def positive_values(image: Volume, brain: NDArray[np.bool_]) -> tuple[int, float]:
    """What tells a map from a mask: how many values it has, and in how much of the brain.

    Args:
        image: a map or a mask, in the file's unit.
        brain: bool, on its grid.

    Returns:
        The number of different values above 0 in the brain, and the share of it that has them.
    """
    inside = image.data[brain & (image.data > 0)]
    return len(np.unique(inside)), inside.size / max(int(brain.sum()), 1)


def check_tmax_is_a_map(tmax: Volume, brain: NDArray[np.bool_]) -> None:
    """Refuse a mask in the place of a Tmax map.

    Args:
        tmax: the map in the file's unit.
        brain: bool, on its grid.

    Raises:
        InputError: a few values, or none in most of the brain.
    """
    count, share = positive_values(tmax, brain)
    if count and (count < LEAST_VALUES or share < TMAX_LEAST_SHARE):
        raise InputError(
            f"Tmax {tmax.path}: has {counted(count, 'value')} other than 0, in "
            f"{share:.0%} of the brain that it shows; expected a map of seconds in all tissue. Is "
            "it a mask, of a lesion or of a later infarct? Give a mask of hypoperfused tissue as "
            "such (--truth, or a label of the cohort)"
        )


def check_not_whole_brain(mask: Volume, brain: NDArray[np.bool_]) -> None:
    """Refuse a brain mask in the place of one of hypoperfused tissue.

    Args:
        mask: 0/1.
        brain: bool, on its grid.

    Raises:
        InputError: it holds nearly all of the brain.
    """
    share = float((mask.data > 0)[brain].mean()) if brain.any() else 0.0
    if share > WHOLE_BRAIN_SHARE:
        raise InputError(
            f"hypoperfusion mask {mask.path}: holds {share:.0%} of the brain; expected the tissue "
            "that is hypoperfused. Is it a mask of the brain?"
        )


def check_said_unit(adc: Volume, said: str | None, found: str) -> tuple[str, ...]:
    """Refuse an ADC map whose sidecar says another unit than its values have.

    Args:
        adc: for the message.
        said: ``Units`` of the sidecar, None without one.
        found: a key of :data:`data_tools.overrides.ADC_UNITS`.

    Returns:
        A note if the text is not understood.

    Raises:
        InputError: if the text names a unit of diffusion, and another one.
    """
    if not said:
        return ()
    told = parse_adc_unit(said)
    if told is None:
        return (
            f"ADC: its .json says the unit {said!r}, which says nothing here; {found} was taken",
        )
    if abs(told / ADC_UNITS[found] - 1) > 1e-6:
        raise InputError(
            f"ADC {adc.path}: its .json says {said!r}, and the values in tissue are those of "
            f"{found}; expected both to be the same. Find out which is right: was the map scaled "
            "after the .json was written?"
        )
    return ()


def parse_adc_unit(text: str) -> float | None:
    """What a sidecar's unit is in 1e-6 mm2/s; None for one that is not known.

    >>> [parse_adc_unit(t) for t in ("mm^2/s", "um2/ms", "10^-5 cm\u00b2/sec", "0.001 mm2 s-1")]
    [1000000.0, 1000.0, 1000.0, 1000.0]
    >>> [parse_adc_unit(t) for t in ("x1e-6 mm**2/s", "\u00b5m\u00b2/s", "m2/s", "a.u.")]
    [1.0, 1.0, 1000000000000.0, None]
    """
    plain = text.lower().translate(UNIT_LETTERS)
    plain = plain.replace("10**", "10^").replace("**", "").replace("micron", "um")
    plain = re.sub(r"[\s{}()\[\]]|\*(?!10)", "", plain)
    plain = re.sub(r"^([\d.]*)[x*](?=1)", r"\1x", plain).removeprefix("x")
    found = re.fullmatch(
        r"(?:(?P<times>\d*\.?\d+)x)?"
        r"(?:10\^?(?P<ten>[-+]\d+)|(?P<number>\d*\.?\d+(?:e[-+]?\d+)?))?x?"
        r"(?P<length>mm|um|cm|m)(?:\^?2|sq)(?:/(?P<per>m?s)(?:ec)?|(?P<under>m?s)\^?-1)",
        plain,
    )
    if found is None:
        return None
    factor = float(found["times"] or 1) * float(found["number"] or 1)
    per = found["per"] or found["under"]
    exponent = int(found["ten"] or 0) + UNIT_EXPONENTS[found["length"]] + (3 if per == "ms" else 0)
    return float(f"{factor:.12g}") * float(f"1e{exponent}")


def check_tmax_seconds(tmax: Volume) -> None:
    """Refuse a Tmax map whose values cannot be seconds.

    Raises:
        InputError: if its largest values are below 1 or above 100.
    """
    positive = tmax.data[tmax.data > 0]
    top = float(np.percentile(positive, 99.9)) if positive.size else 0.0
    if not 1.0 <= top <= TMAX_MAX_S:
        raise InputError(
            f"Tmax {tmax.path}: the largest values are about {top:g}; expected seconds, at most "
            f"{TMAX_MAX_S:g}. Values in ms must be divided by 1000, "
            "tenths of seconds by 10."
        )


def check_not_swapped(dwi: Volume, adc: Volume, brain: NDArray[np.bool_]) -> None:
    """Refuse a DWI and an ADC map given in each other's place.

    CSF surrounds the brain: so its rim is brighter than the inside in an ADC map and darker in a
    DWI. A lesion, however large, hardly bears on either. The logarithm of rim over inside differed
    by 0.5 to 1.9 in 16 real and simulated patients, two with cores over 120 mL, and by -1.1 to
    -3.4 when they were exchanged.

    Raises:
        InputError: if the "DWI" has the brighter rim.
    """
    if rim_over_inside(dwi, brain) > rim_over_inside(adc, brain):
        raise InputError(
            f"DWI {dwi.path} and ADC {adc.path} look swapped: CSF should be dark in the DWI and "
            "bright in the ADC map, and it is the other way round. Exchange the two files."
        )


def rim_over_inside(image: Volume, brain: NDArray[np.bool_]) -> float:
    """Median of the brain's rim over that of its inside; 1 where there is no rim.

    Args:
        image: any unit.
        brain: bool, on its grid.
    """
    in_plane = np.ones([1 if axis == slice_axis(image.affine) else 3 for axis in range(3)], bool)
    inside = ndimage.binary_erosion(brain, in_plane, iterations=RIM_VOXELS)
    rim, inner = (image.data[part & (image.data > 0)] for part in (brain & ~inside, inside))
    return float(np.median(rim) / np.median(inner)) if rim.size and inner.size else 1.0


def check_kind_alone(image: Volume, brain: NDArray[np.bool_], what: str) -> None:
    """Refuse, where the other image is not given, a DWI as the ADC map or an ADC map as the DWI.

    Args:
        image: any unit.
        brain: bool, on its grid.
        what: ``DWI`` or ``ADC``, as which it was given.

    Raises:
        InputError: CSF, around the brain, is bright in the "DWI" or dark in the "ADC map".
    """
    rim = rim_over_inside(image, brain)
    wrong, seen, other = {
        "DWI": (rim > MAX_DWI_RIM, "bright", "an ADC map"),
        "ADC": (rim < MIN_ADC_RIM, "dark", "a DWI"),
    }[what]
    if wrong:
        raise InputError(
            f"{what} {image.path}: the brain's rim, where CSF is, is {seen} (its median is "
            f"{rim:.2f} times that of the inside), as in {other}. Is it given in the wrong place?"
        )


def check_contrast(
    dwi: Volume,
    adc_um2_per_s: Volume,
    tissue: NDArray[np.bool_],
    b_value: float | None = None,
) -> None:
    """Refuse a b = 0 image, or another one in which water is bright, given as the DWI.

    Args:
        dwi: the image in question.
        adc_um2_per_s: on its grid.
        tissue: bool, brain, CSF in it.
        b_value: s/mm2, as the files say; below 1000 water is brighter. None stands for 1000.

    Raises:
        InputError: if CSF (ADC >= 1600e-6 mm2/s) is over 0.8 times as bright as tissue; 1.46 times
            at b = 500 s/mm2.
    """
    water = tissue & (adc_um2_per_s.data >= WATER_UM2_PER_S)
    solid = tissue & (adc_um2_per_s.data > 500) & (adc_um2_per_s.data < 1000)
    if min(water.sum(), solid.sum()) * dwi.voxel_ml < 1.0:  # too little to tell
        return
    ratio = float(np.median(dwi.data[water])) / max(float(np.median(dwi.data[solid])), 1e-6)
    missing = max(WANTED_B_S_PER_MM2 - (b_value or WANTED_B_S_PER_MM2), 0.0)
    limit = MAX_WATER_RATIO * float(np.exp(missing * WATER_EXCESS_MM2_PER_S))
    if ratio > limit:
        raise InputError(
            f"DWI {dwi.path}: CSF is {ratio:.2f} times as bright as tissue; expected an image of b "
            f"about {b_value or WANTED_B_S_PER_MM2:g} s/mm2, in which it is never over {limit:.2g} "
            "times as bright. Is this the b = 0 image, or does the ADC map not lie on it?"
        )
