"""Where the brain is in an ADC map alone: noise around the head has no brightness to tell it by.

A map that a program has masked is 0 around the head. Elsewhere air is noise: its values jump from
voxel to voxel and are often lower than any tissue's. Against the brain that DWI and ADC show
together, Dice was 0.99 for a real map without its skull, 0.96 for one with noise all around and
0.95 for two simulated ones; 0.87 to 0.98 with noise of other kinds painted around two of them.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from data_tools import brain_of_dwi
from data_tools.overrides import ADC_UNITS
from data_tools.plausibility import ADC_TISSUE_RANGE_UM2_PER_S
from data_tools.volumes import Volume

# Steps between neighbours: 80 to 320 in brains, 450 to 830 in noise; smoothed over so far.
STEP_UM2_PER_S, STEP_SD_MM = 600.0, 4.0
MAX_STEP_UM2_PER_S = 1000.0
# Nearly all of a brain lies between these, of noise half or less.
LIKELY_UM2_PER_S = (450.0, 4000.0)
LIKELY_SHARE, LIKELY_SD_MM = 0.8, 2.0
# A map with so many zeros was masked: there is no noise in it to be told from the brain.
MASKED_SHARE = 0.5


def brain_mask(adc_um2_per_s: Volume) -> NDArray[np.bool_]:
    """Brain of an ADC map, skull on or off; bool of its shape, True only where the map is above 0.

    All False for a map in which no brain can be told from what surrounds it.

    Args:
        adc_um2_per_s: in 1e-6 mm2/s.
    """
    adc, axis = adc_um2_per_s, brain_of_dwi.slice_axis(adc_um2_per_s.affine)
    values = np.clip(adc.data, 0, brain_of_dwi.ADC_FLUID_UM2_PER_S).astype(np.float64)
    like_brain = (values > 0) * np.exp(-_steps(values, adc, axis) / STEP_UM2_PER_S)
    if (adc.data == 0).mean() < MASKED_SHARE:
        low, high = LIKELY_UM2_PER_S
        likely = _smooth(1.0 * ((adc.data > low) & (adc.data < high)), adc, LIKELY_SD_MM)
        like_brain *= np.clip((likely - LIKELY_SHARE) / (1 - LIKELY_SHARE), 0, 1)
    if not like_brain.any():
        return np.zeros(adc.data.shape, bool)
    found = brain_of_dwi.brain_mask(
        Volume(like_brain.astype(np.float32), adc.affine, adc.path, adc.reading)
    )
    return brain_of_dwi.filled_in_plane(found, axis) & (adc.data > 0)


def likely_unit(adc: Volume) -> str:
    """The unit in which most of a map's voxels are tissue, before its brain is known.

    Args:
        adc: in the unit of its file.
    """
    low, high = ADC_TISSUE_RANGE_UM2_PER_S

    def of_tissue(unit: str) -> int:
        values = adc.data * np.float32(ADC_UNITS[unit])
        return int(((values > low) & (values < high)).sum())

    return max(ADC_UNITS, key=of_tissue)


def _steps(values: NDArray[np.float64], image: Volume, axis: int) -> NDArray[np.float64]:
    """Mean difference from the four neighbours within the slice, smoothed."""
    total = np.zeros_like(values)
    for along in (k for k in range(3) if k != axis):
        step = np.abs(np.diff(values, axis=along))
        for sides in ((1, 0), (0, 1)):
            total += np.pad(step, [sides if k == along else (0, 0) for k in range(3)], mode="edge")
    return _smooth(np.minimum(total / 4, MAX_STEP_UM2_PER_S), image, STEP_SD_MM)


def _smooth(field: NDArray[np.floating], image: Volume, sd_mm: float) -> NDArray[np.float64]:
    return ndimage.gaussian_filter(field, sd_mm / np.array(image.spacing_mm), mode="nearest")
