"""Where the brain is in a diffusion image, and whether all of it was imaged.

Every step moves the mask's edge by a hair when the image changes by a hair: levels are medians,
the edge is where a smooth field crosses a share of the tissue's level, and opening is by distance.
"""

import numpy as np
from nibabel import orientations
from numpy.typing import NDArray
from scipy import ndimage

from data_tools.volumes import Volume

# Above this every voxel is water, or noise.
ADC_FLUID_UM2_PER_S = 3000.0
LIFT_S_PER_MM2 = 500.0
# The brain's edge, from the background's level (0) to the tissue's (1). Volumes change by 0.4% for
# each 0.01 from 0.3 to 0.5; at 0.40 two real and six simulated heads came nearest to the truth.
EDGE_SHARE = 0.40
# Less than this is no tissue, even between voxels that are.
NOTHING_SHARE = 0.05
# Zeros are where a program masked the image: they do not darken what lies beside them. So much of
# the tissue's level is an image's own darkness again.
MASKED_SHARE = 0.01
SMOOTHING_SD_MM = 1.0
# Brain is what lies near a core that is so thick: eyes, nose and muscles touch it by thinner necks.
CORE_MM, NEAR_CORE_MM = 8.0, 11.0
# Scalp and vessels that hang on are thinner than this from either side.
OPENING_MM, RESTORED_MM = 4.0, 5.0
# Voxels brighter than nearly all others are damage or lesion, no measure of the tissue.
SPIKES_PERCENTILE = 99.9
MAX_ROUNDS = 50
# How much more, or less, than its median level tissue shows for its place in the coil.
MAX_BIAS = 3.0
# Brain in an end slice, against the largest slice: from the first on the head is cut off, and with
# the second about half of it is missing.
CUT_SHARE, MAX_CUT_SHARE = 0.4, 0.8


def brain_mask(dwi: Volume, adc_um2_per_s: NDArray[np.float32] | None = None) -> NDArray[np.bool_]:
    """Brain of a b = 1000 image, skull on or off; bool of the image's shape.

    With the ADC map fluid is lifted by ``exp(ADC x 500 s/mm2)``, as if b were 500 s/mm2, so that
    sulci count as brain, and holes within a slice are filled. All False for an empty or a
    one-slice image. The same for the image times any factor, and for any order of its axes.
    """
    mask = np.zeros(dwi.data.shape, bool)
    axis, shown = slice_axis(dwi.affine), shown_slices(dwi)
    if shown.stop - shown.start < 2:
        return mask
    signal = np.maximum(dwi.data, 0).astype(np.float64)
    if adc_um2_per_s is not None:
        adc = np.clip(adc_um2_per_s, 0, ADC_FLUID_UM2_PER_S)
        signal *= np.exp(adc * LIFT_S_PER_MM2 / 1e6)
    cropped = tuple(shown if k == axis else slice(None) for k in range(3))
    # Upright first, so that sums are made in one order whatever the file's.
    upright = orientations.io_orientation(dwi.affine)
    spacing_mm = np.empty(3)
    spacing_mm[upright[:, 0].astype(int)] = dwi.spacing_mm
    turned = np.ascontiguousarray(orientations.apply_orientation(signal[cropped], upright))
    back = orientations.ornt_transform(orientations.io_orientation(np.eye(4)), upright)
    mask[cropped] = orientations.apply_orientation(_brain(turned, spacing_mm), back)
    if adc_um2_per_s is not None:
        mask = filled_in_plane(mask, axis)
    return mask


def filled_in_plane(mask: NDArray[np.bool_], axis: int) -> NDArray[np.bool_]:
    """A mask without holes in the plane of the slices; between thick slices one may be a sulcus.

    Args:
        mask: bool, 3D.
        axis: of the slices.
    """
    slices = np.moveaxis(mask, axis, 0)
    return np.moveaxis(np.stack([ndimage.binary_fill_holes(s) for s in slices]), 0, axis)


def _brain(signal: NDArray[np.float64], spacing_mm: NDArray[np.float64]) -> NDArray[np.bool_]:
    background, tissue = _levels(signal)
    weight = np.clip(signal / (MASKED_SHARE * tissue), 0, 1)
    smooth_weight = np.maximum(_smooth(weight, spacing_mm), MASKED_SHARE)

    def above_edge(bias: NDArray[np.float64] | float) -> NDArray[np.bool_]:
        share = np.clip((signal - background) / ((tissue - background) * bias), 0, 1)
        smooth = _smooth(share * weight, spacing_mm) / smooth_weight
        return (smooth > EDGE_SHARE) & (share > NOTHING_SHARE)

    core = _largest_inside(above_edge(1.0), CORE_MM, spacing_mm)
    if not core.any():
        return core
    mask = above_edge(_coil_bias(signal / tissue, core, spacing_mm))
    for depth_mm, reach_mm in ((CORE_MM, NEAR_CORE_MM), (OPENING_MM, RESTORED_MM)):
        mask &= _grown(_largest_inside(mask, depth_mm, spacing_mm), reach_mm, spacing_mm)
    return mask


def _levels(signal: NDArray[np.float64]) -> tuple[float, float]:
    """Medians of what is under the edge and of what is above it, each found from the other.

    The start is the level above which half of the image's power lies, which empty space around
    the head does not change.
    """
    seen = signal[signal > 0]
    seen = np.sort(np.minimum(seen, np.percentile(seen, SPIKES_PERCENTILE)))
    power = np.cumsum(seen**2)
    background, tissue = 0.0, float(seen[np.searchsorted(power, power[-1] / 2)])
    for _ in range(MAX_ROUNDS):
        before = background, tissue
        bright = signal > background + EDGE_SHARE * (tissue - background)
        dark = signal[~bright]
        background = float(np.median(dark)) if dark.size else 0.0
        tissue = float(np.median(signal[bright]))
        if before == (background, tissue):
            break
    return background, tissue


def _coil_bias(
    share: NDArray[np.float64], core: NDArray[np.bool_], spacing_mm: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The quadratic function of the place that fits the logarithm best, within its limits."""
    x, y, z = (
        (index - (size - 1) / 2) * spacing / 1e2
        for index, size, spacing in zip(
            np.ogrid[tuple(map(slice, share.shape))], share.shape, spacing_mm, strict=True
        )
    )
    terms = [np.ones((1, 1, 1)), x, y, z, x * x, y * y, z * z, x * y, x * z, y * z]
    within = np.log(MAX_BIAS)
    wanted = np.clip(np.log(np.maximum(share[core], 1e-6)), -within, within)
    known = np.stack([np.broadcast_to(term, share.shape)[core] for term in terms], axis=1)
    # Ten terms of size 1 that are hardly alike: 60 times as fast as a decomposition of all voxels.
    factors = np.linalg.lstsq(known.T @ known, known.T @ wanted, rcond=None)[0]
    fitted = sum(factor * term for factor, term in zip(factors, terms, strict=True))
    return np.exp(np.clip(fitted, -within, within))


def _smooth(field: NDArray[np.float64], spacing_mm: NDArray[np.float64]) -> NDArray[np.float64]:
    return ndimage.gaussian_filter(field, SMOOTHING_SD_MM / spacing_mm, mode="nearest")


def _largest_inside(
    mask: NDArray[np.bool_], depth_mm: float, spacing_mm: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """The largest connected part of what lies deeper; beyond the image's edge the head goes on."""
    deeper = mask.copy()
    if mask.any() and not mask.all():
        box = _box(mask, spacing_mm, 0)
        deeper[box] = ndimage.distance_transform_edt(mask[box], sampling=spacing_mm) > depth_mm
    parts, count = ndimage.label(deeper)
    return parts == 1 + np.argmax(np.bincount(parts.ravel())[1:]) if count else deeper


def _grown(
    mask: NDArray[np.bool_], reach_mm: float, spacing_mm: NDArray[np.float64]
) -> NDArray[np.bool_]:
    grown = mask.copy()
    if mask.any():
        box = _box(mask, spacing_mm, reach_mm)
        grown[box] = ndimage.distance_transform_edt(~mask[box], sampling=spacing_mm) <= reach_mm
    return grown


def _box(
    mask: NDArray[np.bool_], spacing_mm: NDArray[np.float64], margin_mm: float
) -> tuple[slice, ...]:
    """What holds the mask, a margin, and a voxel more, as far as the image reaches."""
    margin = (np.ceil(margin_mm / spacing_mm) + 1).astype(int)
    found = ndimage.find_objects(mask.astype(np.uint8))[0]
    return tuple(slice(max(s.start - m, 0), s.stop + m) for s, m in zip(found, margin, strict=True))


def shown_slices(image: Volume) -> slice:
    """From the first slice with any signal to the last: programs fill what is absent with zeros."""
    other = tuple(k for k in range(3) if k != slice_axis(image.affine))
    signal = np.flatnonzero((image.data > 0).any(axis=other))
    return slice(int(signal[0]), int(signal[-1]) + 1) if len(signal) else slice(0, 0)


def empty_slices(dwi: Volume) -> list[int]:
    """Slices without any signal between others that have some, counted from 0."""
    shown = shown_slices(dwi)
    slices = np.moveaxis(dwi.data, slice_axis(dwi.affine), 0)
    return [k for k in range(shown.start, shown.stop) if not (slices[k] > 0).any()]


def end_slice_share(brain: NDArray[np.bool_], dwi: Volume) -> float:
    """Brain in the fuller of the two end slices with signal, as a share of the largest slice's."""
    area = np.moveaxis(brain, slice_axis(dwi.affine), 0)[shown_slices(dwi)].sum(axis=(1, 2))
    return float(max(area[0], area[-1]) / max(area.max(), 1)) if len(area) else 0.0


def slice_axis(affine: NDArray[np.float64]) -> int:
    """Which axis runs most steeply upwards: that of the slices of an axial image."""
    return int(np.argmax(np.abs(affine[2, :3])))
