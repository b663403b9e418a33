"""What a public data set lacks and what can stand in for it, computed from what it has."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from data_tools.grid import TMAX_HYPOPERFUSION_S, UNKNOWN_SIDE, WANTED_B_S_PER_MM2
from data_tools.labels import HYPOPERFUSION_MIN_CLUSTER_ML, remove_small_clusters
from data_tools.overrides import ADC_UNITS
from data_tools.perfusion.concentration import baseline_of
from data_tools.plausibility import TMAX_MAX_S, detect_adc_unit, positive_values
from data_tools.runtime.errors import InputError, counted
from data_tools.transform import resample
from data_tools.volumes import Volume, apart_mm

# A side has this many times as much late tissue as the other, or it is none.
ONE_SIDE_TIMES = 3.0
# What the median of a brain's Tmax is in a file of each unit: 0.9 to 6 s, far enough apart that no
# map fits two; what lies between fits none.
TMAX_UNITS = {"s": 1.0, "1e-1 s": 0.1, "ms": 0.001}
TMAX_MEDIAN_S, SECONDS_FROM = (0.9, 6.0), 0.2
# The largest values: below no map has late tissue, above none is measured.
LEAST_TOP_S = 2.0
# A map has a value of its own in most voxels; a mask has a few, in a small part of the brain.
LEAST_VALUES, LEAST_SHARE = 16, 0.2
# A map that is 0 in more of the brain than this may be made of a mask.
WHOLE_SHARE = 0.9
# Of a label made by cleaning Tmax > 6 s by hand, with that: far less is another thing.
LEAST_LABEL_DICE = 0.4
# Of the smaller label within the larger one.
INSIDE_SHARE = 0.9
# No infarct after 90 days is what was late on the first day so nearly; smaller ones may be.
OUTCOME_DICE, OUTCOME_LEAST_ML = 0.95, 1.0
BACKGROUND_SHARE = 0.2
# Headers of images on one grid differ by less, whatever format rounded them.
SAME_GRID_MM = 0.1


def check_one_grid(tmax: Volume, other: Volume) -> None:
    """Refuse a Tmax map that lies on another grid than the patient's diffusion image.

    The sets have one grid a patient, so another one shows a header that was moved or mirrored.

    Args:
        tmax: the map.
        other: DWI or ADC.

    Raises:
        InputError: another shape, or a corner that lies elsewhere.
    """
    expected = "expected one grid, as all images of a patient in this set have. Put the published"
    if tmax.data.shape != other.data.shape:
        shapes = [" x ".join(map(str, each.data.shape)) for each in (tmax, other)]
        raise InputError(
            f"Tmax {tmax.path}: has {shapes[0]} voxels, and {other.path} has {shapes[1]}; "
            f"{expected} files there"
        )
    apart = apart_mm(tmax.affine, other.affine, tmax.data.shape)
    if not apart <= SAME_GRID_MM:
        raise InputError(
            f"Tmax {tmax.path}: lies {apart:.3g} mm from {other.path} at a corner, by the headers; "
            f"{expected} files there: one header was moved, turned or mirrored"
        )


def tmax_in_s(tmax: Volume, brain: NDArray[np.bool_]) -> tuple[NDArray[np.float32], str]:
    """A Tmax map in seconds, and the unit that its file has.

    Args:
        tmax: in the unit of its file.
        brain: bool, its shape.

    Returns:
        float32 in s, and a key of :data:`TMAX_UNITS`.

    Raises:
        InputError: it is a mask, or its values fit no unit.
    """
    inside = tmax.data[brain & (tmax.data > 0)]
    count, share = positive_values(tmax, brain)
    if count < LEAST_VALUES or share < LEAST_SHARE:
        why = (
            "Is it the map itself, with its sign and scale?"
            if share in (0, 1) and count != 1
            else "This is a mask, of a lesion or of the infarct after 90 days (OT), which is never "
            "taken as truth."
        )
        raise InputError(
            f"Tmax {tmax.path}: holds {counted(count, 'value')} above 0, in "
            f"{share:.0%} of the brain; expected a map with values in all tissue. {why} Put the "
            "published Tmax map there"
        )
    median, top = float(np.median(inside)), float(np.percentile(inside, 99.9))
    for unit, factor in TMAX_UNITS.items():
        low = SECONDS_FROM if unit == "s" else TMAX_MEDIAN_S[0]
        fits = low <= median * factor <= TMAX_MEDIAN_S[1]
        if fits and LEAST_TOP_S <= top * factor <= TMAX_MAX_S:
            return (tmax.data * np.float32(factor) if factor != 1 else tmax.data), unit
    raise InputError(
        f"Tmax {tmax.path}: the median in the brain is {median:.4g} and the largest values are "
        f"about {top:.4g}, which fits no unit of {', '.join(TMAX_UNITS)}; expected 1 to 3 s in "
        "healthy tissue. Is it another map, such as TTP"
        + (
            "?"
            if share >= WHOLE_SHARE
            else ", or made of a mask? OT, the infarct after 90 days, is never taken as truth"
        )
    )


def dwi_of(
    adc: Volume, series: NDArray[np.float32], series_affine: NDArray, series_path: str = "series"
) -> tuple[Volume, str]:
    """A stand-in for the b = 1000 image: S0 exp(-b ADC), S0 the mean of a series before the bolus.

    S0 is weighted by T2*, as is a DWI's by T2; a lesion is brighter by its ADC alone.

    Args:
        adc: in the unit of its file.
        series: (X, Y, Z, T), on any grid of the patient's.
        series_affine: of it.
        series_path: for messages.

    Returns:
        The image on the map's grid, and how it was made.

    Raises:
        InputError: no unit of ADC fits; no bolus, or too few frames before it.
    """
    unit = detect_adc_unit(adc, adc.data > 0)
    brain = Volume((adc.data > 0).astype(np.float32), adc.affine)
    on_series = resample(brain, np.eye(4), series.shape[:3], series_affine) > 0.5
    if not on_series.any():
        raise InputError(f"{series_path}: does not lie where the ADC map is; expected it there")
    try:
        frames = baseline_of(series[on_series].mean(axis=0, dtype=np.float64))
    except InputError as error:
        raise InputError(f"{series_path}: {error}") from error
    before = Volume(series[..., frames].mean(axis=3, dtype=np.float32), series_affine)
    s0 = before.data
    if s0.shape != adc.data.shape or not np.allclose(series_affine, adc.affine, atol=1e-3):
        s0 = resample(before, np.eye(4), adc.data.shape, adc.affine)
    exponent = adc.data * np.float32(ADC_UNITS[unit] * 1e-6 * WANTED_B_S_PER_MM2)
    data = (s0 * np.exp(-exponent) * (adc.data > 0)).astype(np.float32)
    how = (
        f"S0 exp(-b ADC), b = {WANTED_B_S_PER_MM2:g} s/mm2, ADC in {unit}, S0 the mean of "
        f"frames {frames.start + 1} to {frames.stop} of the raw perfusion series"
    )
    return Volume(data, adc.affine), how


def side_of(tmax_s: NDArray[np.float32], affine: NDArray, brain: NDArray[np.bool_]) -> str:
    """The half of the head with more of Tmax >= 6 s, three times as much; else bilateral.

    The halves part at the middle of the brain, by the header. Clusters under 1 mL are noise.

    Args:
        tmax_s: s.
        affine: index -> mm, RAS+.
        brain: bool, its shape.

    Returns:
        ``unknown`` where no tissue is late.
    """
    voxel_ml = abs(float(np.linalg.det(affine[:3, :3]))) / 1000
    late = brain & (tmax_s >= TMAX_HYPOPERFUSION_S)
    late = remove_small_clusters(late, HYPOPERFUSION_MIN_CLUSTER_ML, voxel_ml)
    if not late.any():
        return UNKNOWN_SIDE
    middle_mm = _x_mm(brain, affine).mean()
    x_mm = _x_mm(late, affine) - middle_mm
    left, right = int((x_mm < 0).sum()), int((x_mm > 0).sum())
    if max(left, right) < ONE_SIDE_TIMES * min(left, right):
        return "bilateral"
    return "left" if left > right else "right"


def _x_mm(mask: NDArray[np.bool_], affine: NDArray) -> NDArray[np.float64]:
    index = np.stack([*np.nonzero(mask), np.ones(int(mask.sum()))])
    return np.asarray((affine @ index)[0])


def penumbra_and_core(
    label: Volume | None, core_label: Volume | None, merged: Volume | None
) -> tuple[Volume | None, Volume | None]:
    """The labels of SPES: which is the core is seen by which lies inside the other.

    Args:
        label: 0/1; None where there is no such file, as of the next two.
        core_label: 0/1.
        merged: 0/1/2; looked at where one of the others is missing.

    Returns:
        Masks of the penumbra, core included, and of the core; None where nothing says it.

    Raises:
        InputError: neither lies inside the other.
    """
    if label is None or core_label is None:
        if merged is None:
            return label, core_label if label is not None else None
        one, two = (merged.data == value for value in (1, 2))
        core = one if _enclosed(one, two) > _enclosed(two, one) else two
        return _mask(merged, one | two), _mask(merged, core)
    if not label.same_grid(core_label):
        raise InputError(
            f"{label.path} and {core_label.path}: lie on two grids; expected labels of one patient"
        )
    masks = [(each, each.data > 0) for each in (label, core_label)]
    (inner, core), (_, outer) = sorted(masks, key=lambda each: int(each[1].sum()))
    if core.any() and (core & outer).sum() < INSIDE_SHARE * core.sum():
        raise InputError(
            f"{inner.path}: {(core & outer).sum() / core.sum():.0%} of it lies in the other label; "
            "expected the core inside the penumbra"
        )
    return _mask(label, outer), _mask(label, core)


def _enclosed(inner: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    """How much of what surrounds a label is the other one."""
    rim = ndimage.binary_dilation(inner) & ~inner
    return float((rim & other).sum() / max(int(rim.sum()), 1)) if inner.any() else 1.0


def _mask(volume: Volume, data: NDArray[np.bool_]) -> Volume:
    return Volume(data.astype(np.float32), volume.affine, volume.path)


def check_label(label: Volume, tmax_s: NDArray[np.float32], affine: NDArray) -> None:
    """Refuse a label that is not Tmax > 6 s cleaned by hand, an infarct for instance.

    Args:
        label: 0/1.
        tmax_s: of the same patient.
        affine: of Tmax.

    Raises:
        InputError: they have little in common.
    """
    there = resample(label, np.eye(4), tmax_s.shape, affine) > 0.5
    late = tmax_s > TMAX_HYPOPERFUSION_S
    dice = 2 * int((there & late).sum()) / max(int(there.sum() + late.sum()), 1)
    if there.any() and dice < LEAST_LABEL_DICE:
        raise InputError(
            f"label {label.path}: overlaps Tmax > 6 s with Dice {dice:.2f}; the label of this set "
            f"is Tmax > 6 s cleaned by hand, so at least {LEAST_LABEL_DICE:g} is expected. Is it "
            "the infarct after 90 days (OT) of another set, which is never taken as truth?"
        )


def check_no_other_map(tmax: Volume, others: Iterable[Volume]) -> None:
    """Refuse another map of perfusion under the name of Tmax, in whatever unit.

    Args:
        tmax: as stored.
        others: the patient's other maps.

    Raises:
        InputError: it has the values of one of them, times a factor.
    """
    own = _percentiles(_shown(tmax))
    for other in others:
        its = _percentiles(_shown(other))
        if own[-1] and its[-1] and np.allclose(own / own[-1], its / its[-1], atol=1e-3):
            raise InputError(
                f"Tmax {tmax.path}: has the values of {other.path}, so it is another map under "
                "the name of Tmax. Put the published Tmax map there"
            )


def check_is_map(image: Volume, what: str) -> None:
    """Refuse a mask in the place of a map.

    Args:
        image: 0 outside of the brain.
        what: for the message.

    Raises:
        InputError: a few values above 0.
    """
    count, _ = positive_values(image, image.data > 0)
    if count < LEAST_VALUES:
        raise InputError(
            f"{what} {image.path}: holds {counted(count, 'value')} above 0; expected a map with "
            f"values in all tissue. This is a mask. Put the published {what} map there"
        )


def check_no_outcome(tmax_s: NDArray[np.float32], affine: NDArray, outcome: Volume) -> None:
    """Refuse a Tmax map that was made of the patient's own OT.

    Args:
        tmax_s: s.
        affine: of it.
        outcome: OT, not 0 inside of the infarct.

    Raises:
        InputError: Tmax >= 6 s is OT, but for a few voxels.
    """
    mask = Volume((outcome.data > 0).astype(np.float32), outcome.affine)
    there = resample(mask, np.eye(4), tmax_s.shape, affine) > 0.5
    late = tmax_s >= TMAX_HYPOPERFUSION_S
    voxel_ml = abs(float(np.linalg.det(affine[:3, :3]))) / 1000
    if min(int(there.sum()), int(late.sum())) * voxel_ml <= OUTCOME_LEAST_ML:
        return
    dice = 2 * int((there & late).sum()) / int(there.sum() + late.sum())
    if dice >= OUTCOME_DICE:
        raise InputError(
            f"Tmax >= 6 s is the same as OT {outcome.path} (Dice {dice:.2f}), so this map was made "
            "of OT, the infarct after 90 days, which is never taken as truth. Put the published "
            "Tmax map there"
        )


def signature(image: Volume) -> dict[str, list[float]]:
    """What an image's voxels are, whatever its header, format, scale factor and orientation.

    Returns:
        ``shape`` sorted, the number of voxels that are not background, and how their values are
        spread from their least to their largest.
    """
    values = _shown(image)
    spread = _percentiles(values)
    wide = spread[-1] - spread[0]
    spread = (spread - spread[0]) / wide if wide else np.zeros(101)
    return {
        "shape": sorted(map(float, image.data.shape)),
        "voxels": [float(values.size)],
        "spread": [round(float(each), 5) for each in spread],
    }


def _shown(image: Volume) -> NDArray[np.float32]:
    """The values of an image that are not background."""
    values = image.data[np.isfinite(image.data) & (image.data != 0)]
    if values.size:
        found, counts = np.unique(values, return_counts=True)
        if counts.max() > BACKGROUND_SHARE * image.data.size:
            values = values[values != found[counts.argmax()]]
    return values


def _percentiles(values: NDArray[np.float32]) -> NDArray[np.float64]:
    """0 to 100; zeros where there are no values."""
    found: NDArray[np.float64] = np.zeros(101)
    if values.size:
        found += np.percentile(values, np.arange(101))
    return found


def same_voxels(one: dict[str, list[float]], other: dict[str, list[float]]) -> bool:
    """Whether two signatures are those of one image."""
    if one["shape"] != other["shape"] or one["voxels"] != other["voxels"] or not one["voxels"][0]:
        return False
    return bool(np.allclose(one["spread"], other["spread"], atol=1e-3))
