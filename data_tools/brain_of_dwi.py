"""Where the brain is in a diffusion image, and whether all of it was imaged.

The mask comes from nilearn's ``compute_epi_mask`` (made for EPI, which DWI is).
"""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from data_tools.volumes import Volume

OPENED_SLICES = 2  # what nilearn's opening of the mask takes from either end
# Above this every voxel is water, or noise.
ADC_FLUID_UM2_PER_S = 3000.0
LIFT_S_PER_UM2 = 250e-6
# Brain in an end slice, against the largest slice: from the first on the head is cut off, and with
# the second about half of it is missing.
CUT_SHARE, MAX_CUT_SHARE = 0.4, 0.8


def brain_mask(dwi: Volume, adc_um2_per_s: NDArray[np.float32] | None = None) -> NDArray[np.bool_]:
    """Brain of a b = 1000 image, skull on or off; bool of the image's shape.

    With the ADC map fluid is lifted by ``exp(ADC x 250 s/mm2)``, as if b were 750 s/mm2, so that
    sulci count as brain, and holes within a slice are filled. All False where nilearn finds no
    brain (an empty or a one-slice image).
    """
    signal = np.maximum(dwi.data, 0)
    if adc_um2_per_s is not None:
        signal = signal * np.exp(np.clip(adc_um2_per_s, 0, ADC_FLUID_UM2_PER_S) * LIFT_S_PER_UM2)
    axis = slice_axis(dwi.affine)
    shown = _shown(dwi)
    mask = np.zeros(signal.shape, bool)
    if shown.stop - shown.start > 1:
        cropped = tuple(shown if k == axis else slice(None) for k in range(3))
        mask[cropped] = _mask_of_shown(signal[cropped], dwi.affine, axis)
    if adc_um2_per_s is not None:
        # In the plane of the slices only: between thick slices a hole may be a sulcus.
        slices = np.moveaxis(mask, axis, 0)
        mask = np.moveaxis(np.stack([ndimage.binary_fill_holes(s) for s in slices]), 0, axis)
    return mask


def _shown(dwi: Volume) -> slice:
    """From the first slice with any signal to the last: programs fill what is absent with zeros."""
    other = tuple(k for k in range(3) if k != slice_axis(dwi.affine))
    signal = np.flatnonzero((dwi.data > 0).any(axis=other))
    return slice(int(signal[0]), int(signal[-1]) + 1) if len(signal) else slice(0, 0)


def empty_slices(dwi: Volume) -> list[int]:
    """Slices without any signal between others that have some, counted from 0."""
    shown = _shown(dwi)
    slices = np.moveaxis(dwi.data, slice_axis(dwi.affine), 0)
    return [k for k in range(shown.start, shown.stop) if not (slices[k] > 0).any()]


def _mask_of_shown(
    signal: NDArray[np.float32], affine: NDArray[np.float64], axis: int
) -> NDArray[np.bool_]:
    slices = np.moveaxis(_epi_mask(signal, affine), axis, 0).copy()
    area = slices.sum(axis=(1, 2))
    for end in (slice(OPENED_SLICES), slice(-OPENED_SLICES, None)):
        # The mask's opening takes the outer slices of a head that is cut off there.
        next_to_it = area[OPENED_SLICES] if end.start is None else area[-OPENED_SLICES - 1]
        if len(area) > 2 * OPENED_SLICES and next_to_it > CUT_SHARE * area.max() > 0:
            beyond = [(OPENED_SLICES + 1,) * 2 if k == axis else (0, 0) for k in range(3)]
            longer = _epi_mask(np.pad(signal, beyond, mode="edge"), affine)
            longer = np.moveaxis(longer, axis, 0)[OPENED_SLICES + 1 : -OPENED_SLICES - 1]
            slices[end] = longer[end]
    return np.moveaxis(slices, 0, axis)


def _epi_mask(signal: NDArray, affine: NDArray[np.float64]) -> NDArray[np.bool_]:
    import warnings

    import nibabel as nib
    from nilearn.masking import MaskWarning, compute_epi_mask

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MaskWarning)
        image = nib.Nifti1Image(signal.astype(np.float32), affine)
        return np.asarray(compute_epi_mask(image).dataobj) > 0


def end_slice_share(brain: NDArray[np.bool_], dwi: Volume) -> float:
    """Brain in the fuller of the two end slices with signal, as a share of the largest slice's."""
    area = np.moveaxis(brain, slice_axis(dwi.affine), 0)[_shown(dwi)].sum(axis=(1, 2))
    return float(max(area[0], area[-1]) / max(area.max(), 1)) if len(area) else 0.0


def slice_axis(affine: NDArray[np.float64]) -> int:
    """Which axis runs most steeply upwards: that of the slices of an axial image."""
    return int(np.argmax(np.abs(affine[2, :3])))
