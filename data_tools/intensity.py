"""Physical volumes on the MNI grid -> the four image channels and the NIHSS feature.

An image that is 0 everywhere was not given: its channels are 0 everywhere too.

Paper, Data Preprocessing: DWI and ADC divided by the mean of their parenchymal tissue, a mask
at ADC < 620e-6 mm2/s that keeps the absolute information, a mask of the stroke's side, and
NIHSS / 21. What the paper leaves open follows its authors' predecessor code: ADC of 2000e-6
and more is CSF and set to 0; a missing NIHSS is -1.
"""

import numpy as np
from numpy.typing import NDArray

from data_tools.grid import (
    ADC_CORE_UM2_PER_S,
    ADC_CSF_UM2_PER_S,
    NIHSS_DIVISOR,
    NIHSS_MAX,
    NIHSS_MISSING,
)
from data_tools.runtime.errors import InputError

# Without an ADC map fluid is what is darker, at b = 1000, than this share of the brain's median. Of
# 0.3 to 0.7 it came nearest to the tissue that ADC shows: Dice 0.92 and 0.96 in two real heads and
# 0.96 in two simulated ones, most of the rest being the brain masks' own; the mean is then 0.97 to
# 1.04 of that by ADC.
FLUID_DWI_SHARE = 0.55
# Lesions are some 2 to 4 times as bright as tissue; a spike beyond this is damage, and float16,
# in which records hold the ratios, ends at 65504.
MAX_RATIO = 1000.0


def parenchyma(adc_um2_per_s: NDArray, brain: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Brain tissue: the brain mask without CSF (ADC >= 2000 um2/s) and without ADC <= 0."""
    return brain & (adc_um2_per_s > 0) & (adc_um2_per_s < ADC_CSF_UM2_PER_S)


def tissue_mean(image: NDArray, tissue: NDArray[np.bool_]) -> float:
    """Mean of an image in :func:`parenchyma`, in the image's unit; 0 where there is no tissue."""
    return float(image[tissue].mean(dtype=np.float64)) if tissue.any() else 0.0


def is_given(image: NDArray) -> bool:
    """Whether an image holds anything: one that is 0 everywhere was not given."""
    return bool(np.any(image))


def tissue_of(dwi: NDArray, adc_um2_per_s: NDArray, brain: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Brain without fluid, by the ADC map or, where none is given, by what is dark in the DWI.

    Args:
        dwi: any unit, any shape.
        adc_um2_per_s: ADC in 1e-6 mm2/s, same shape; 0 everywhere if not given.
        brain: bool, same shape.

    Returns:
        bool, same shape; all False in an empty brain.
    """
    if is_given(adc_um2_per_s) or not brain.any():
        return parenchyma(adc_um2_per_s, brain)
    level = np.maximum(np.median(dwi[brain]), 0).astype(np.float32)
    return brain & (dwi > np.float32(FLUID_DWI_SHARE) * level)


def normalise(
    dwi: NDArray[np.float32], adc_um2_per_s: NDArray[np.float32], brain: NDArray[np.bool_]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Divide DWI and ADC by their parenchymal means; everything outside the brain is 0.

    Args:
        dwi: any unit, any shape; 0 everywhere if not given.
        adc_um2_per_s: ADC in 1e-6 mm2/s, same shape; likewise.
        brain: bool, same shape.

    Returns:
        ``(dwi, adc)``, float32, parenchymal mean 1. CSF keeps its (low) DWI and has ADC 0.
        Negative values (from interpolation) become 0. What is not given stays 0.

    Raises:
        InputError: if the brain mask holds no tissue, neither image is given, the DWI's mean is not
            positive, or a voxel is over 1000 times as bright.
    """
    tissue = tissue_of(dwi, adc_um2_per_s, brain)
    if tissue.any() and not is_given(dwi):
        return np.zeros_like(dwi, np.float32), _adc_ratio(adc_um2_per_s, tissue)
    dwi_mean = tissue_mean(dwi, tissue)
    if dwi_mean <= 0:
        raise InputError(
            "the brain mask holds no tissue with a positive DWI and an ADC between 0 and "
            f"{ADC_CSF_UM2_PER_S:g} um2/s; check the brain mask and the images"
        )
    brightest = float(dwi[brain].max())
    if brightest > MAX_RATIO * dwi_mean:
        raise InputError(
            f"a voxel of the DWI's brain is {brightest / dwi_mean:.0f} times as bright as its "
            f"mean; expected {MAX_RATIO:g} at most. Is the file damaged?"
        )
    dwi_ratio = np.where(brain, np.maximum(dwi, 0) / dwi_mean, 0).astype(np.float32)
    return dwi_ratio, _adc_ratio(adc_um2_per_s, tissue)


def _adc_ratio(adc_um2_per_s: NDArray[np.float32], tissue: NDArray) -> NDArray[np.float32]:
    if not is_given(adc_um2_per_s):
        return np.zeros_like(adc_um2_per_s, np.float32)
    mean = tissue_mean(adc_um2_per_s, tissue)
    return np.where(tissue, adc_um2_per_s / mean, 0).astype(np.float32)


def adc_mask(adc_um2_per_s: NDArray, brain: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Input channel 3: ADC below 620e-6 mm2/s inside the brain, no clean-up."""
    return brain & (adc_um2_per_s > 0) & (adc_um2_per_s < ADC_CORE_UM2_PER_S)


def nihss_feature(nihss: float | None) -> float:
    """NIHSS / 21, in 0..2; -1 where it is missing (None or NaN).

    Raises:
        InputError: outside 0..42, or not a whole number.

    >>> nihss_feature(14) == 14 / 21, nihss_feature(None)
    (True, -1.0)
    """
    if nihss is None or np.isnan(nihss):
        return NIHSS_MISSING
    if not 0 <= nihss <= NIHSS_MAX or nihss != int(nihss):
        raise InputError(
            f"NIHSS is {nihss:g}; expected a whole number from 0 to {NIHSS_MAX}, or n/a if unknown"
        )
    return float(nihss) / NIHSS_DIVISOR
