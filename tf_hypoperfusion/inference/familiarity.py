"""Is an image like those that a calibration was made with? A few numbers of it, and their ranges.

Where an image is unlike them, nothing that was learnt of their errors holds. The numbers are simple
on purpose, so that a person can be told which one is unusual; an image may well be strange in a way
that none of them shows.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from data_tools.grid import VOXEL_MM
from data_tools.intensity import is_given

LARGE_SCALE_FWHM_MM = 40.0
FWHM_OF_SD = 2.3548
# Of the range of the patients, so much more on either side is not unusual either.
MARGIN = 0.25
WORDS = {
    "dwi_low": "the DWI of dark tissue (5th percentile; the mean is 1)",
    "dwi_high": "the DWI of the brightest tissue (99.9th percentile; the mean is 1)",
    "dwi_large_scale": "the unevenness of the DWI over 40 mm",
    "dwi_grain": "the grain of the DWI",
    "adc_low": "the low ADC (5th percentile; the mean is 1)",
    "adc_middle": "the median ADC (the mean is 1)",
    "adc_high": "the high ADC (95th percentile; the mean is 1)",
    "adc_grain": "the grain of the ADC map",
    "adc_slice_grain": "the grain of the ADC map from slice to slice",
    "dwi_adc": "the correlation of DWI and ADC",
    "tissue_voxels": "the tissue on the template's grid, in voxels,",
}


def measure(
    dwi: NDArray[np.float32], adc: NDArray[np.float32], tissue: NDArray[np.bool_]
) -> dict[str, float]:
    """Every number of :data:`WORDS` that the images have; none where there is hardly any tissue.

    Args:
        dwi: (91, 109, 60), ratio to the parenchymal mean; 0 everywhere if not given.
        adc: likewise.
        tissue: bool, of the same shape: brain without CSF.
    """
    if tissue.sum() < 1000:
        return {}
    bright, slow = dwi[tissue], adc[tissue]
    found: dict[str, float | np.floating] = {}
    if is_given(dwi):
        found |= {
            "dwi_low": np.percentile(bright, 5),
            "dwi_high": np.percentile(bright, 99.9),
            "dwi_large_scale": _smooth(dwi, tissue)[tissue].std(),
            "dwi_grain": _grain(dwi, tissue, 0),
        }
    if is_given(adc):
        found |= {
            "adc_low": np.percentile(slow, 5),
            "adc_middle": np.percentile(slow, 50),
            "adc_high": np.percentile(slow, 95),
            "adc_grain": _grain(adc, tissue, 0),
            "adc_slice_grain": _grain(adc, tissue, 2),
        }
    if is_given(dwi) and is_given(adc):
        found["dwi_adc"] = np.corrcoef(bright, slow)[0, 1]
    found["tissue_voxels"] = tissue.sum()
    return {name: round(float(value), 4) for name, value in found.items()}


def ranges(patients: Sequence[Mapping[str, float]]) -> dict[str, tuple[float, float]]:
    """What is not unusual: the range of patients, and a quarter of it more on either side.

    >>> ranges([{"dwi_low": 1.0}, {"dwi_low": 2.0}])
    {'dwi_low': (0.75, 2.25)}
    """
    found = {}
    for name in WORDS:
        values = [patient[name] for patient in patients if name in patient]
        if len(values) == len(patients) > 0:
            more = MARGIN * (max(values) - min(values))
            found[name] = (round(min(values) - more, 4), round(max(values) + more, 4))
    return found


def unlike(
    found: Mapping[str, float], familiar: Mapping[str, tuple[float, float]]
) -> tuple[str, ...]:
    """In words, each number that lies outside its range; () for an image like the others.

    Args:
        found: of :func:`measure`.
        familiar: of :func:`ranges`; numbers that this version does not know are left out.
    """
    return tuple(
        f"the image is unlike those of the calibration: {words} is {found[name]:g}; expected "
        f"{familiar[name][0]:g} to {familiar[name][1]:g}"
        for name, words in WORDS.items()
        if name in found
        and name in familiar
        and not familiar[name][0] <= found[name] <= familiar[name][1]
    )


def _grain(image: NDArray[np.float32], tissue: NDArray[np.bool_], axis: int) -> np.floating:
    """Median step from a voxel of tissue to the next one along an axis."""
    both = np.delete(tissue, 0, axis) & np.delete(tissue, -1, axis)
    return np.median(np.abs(np.diff(image, axis=axis)[both]))


def _smooth(image: NDArray[np.float32], where: NDArray[np.bool_]) -> NDArray[np.float32]:
    """An image smoothed among the voxels of a mask alone."""
    sigma = LARGE_SCALE_FWHM_MM / FWHM_OF_SD / VOXEL_MM
    weight = ndimage.gaussian_filter(where.astype(np.float32), sigma)
    total = ndimage.gaussian_filter(np.where(where, image, 0).astype(np.float32), sigma)
    return total / np.maximum(weight, np.float32(1e-3))
