"""How an image looks where nothing is wrong: grey against white, unevenness, bright voxels.

Measured on DWI and ADC in MNI space, of simulated and real patients alike, so that both can be set
side by side.
"""

import dataclasses

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from data_tools.grid import VOXEL_MM, hemisphere
from data_tools.intensity import normalise, parenchyma
from data_tools.simulate.anatomy import GRID_IN_MODEL, template

# Of the template's fractions: grey matter is thin, so less of it is asked.
WHITE_FRACTION, GREY_FRACTION = 0.9, 0.75
# Voxels of higher ADC hold fluid.
TISSUE_ADC_UM2_PER_S = 1100.0
LARGE_SCALE_FWHM_MM = 40.0
BRIGHT_RATIO = 1.2
FWHM_OF_SD = 2.3548


@dataclasses.dataclass(frozen=True, kw_only=True)
class Contrast:
    """One patient, the half without the stroke; ratios are to the parenchymal mean.

    Attributes:
        adc_white_um2_per_s: mean of white matter.
        adc_grey_to_white: mean of grey matter over that of white.
        dwi_grey_to_white: the same of the DWI.
        dwi_white: mean of white matter, as a ratio.
        dwi_grey: of grey matter.
        adc_sd_white: SD of the ratio within white matter.
        dwi_sd_white: the same of the DWI.
        large_scale_sd: SD of the DWI's ratio after smoothing to 40 mm.
        bright_share: of tissue with a DWI ratio over 1.2.
    """

    adc_white_um2_per_s: float
    adc_grey_to_white: float
    dwi_grey_to_white: float
    dwi_white: float
    dwi_grey: float
    adc_sd_white: float
    dwi_sd_white: float
    large_scale_sd: float
    bright_share: float


def measure(
    dwi: NDArray[np.float32],
    adc_um2_per_s: NDArray[np.float32],
    brain: NDArray[np.bool_],
    side: str | None = None,
) -> Contrast:
    """Contrast and unevenness of one patient.

    Args:
        dwi: (91, 109, 60), any unit.
        adc_um2_per_s: of the same shape.
        brain: of the same shape.
        side: of the stroke, whose half is left out; all is measured without a side, or with both.
    """
    dwi_ratio, adc_ratio = normalise(dwi, adc_um2_per_s, brain)
    normal = parenchyma(adc_um2_per_s, brain) & (adc_um2_per_s < TISSUE_ADC_UM2_PER_S)
    half = {"left": hemisphere("right"), "right": hemisphere("left")}.get(side or "")
    seen = normal if half is None else normal & half
    fractions = template()[(slice(None), *GRID_IN_MODEL)]
    grey, white = seen & (fractions[0] >= GREY_FRACTION), seen & (fractions[1] >= WHITE_FRACTION)
    adc_white, dwi_white, dwi_grey = (
        float(image[mask].mean())
        for image, mask in ((adc_um2_per_s, white), (dwi_ratio, white), (dwi_ratio, grey))
    )
    return Contrast(
        adc_white_um2_per_s=adc_white,
        adc_grey_to_white=float(adc_um2_per_s[grey].mean()) / adc_white,
        dwi_grey_to_white=dwi_grey / dwi_white,
        dwi_white=dwi_white,
        dwi_grey=dwi_grey,
        adc_sd_white=float(adc_ratio[white].std()),
        dwi_sd_white=float(dwi_ratio[white].std()),
        large_scale_sd=float(_smooth(dwi_ratio, normal)[seen].std()),
        bright_share=float((dwi_ratio[seen] > BRIGHT_RATIO).mean()),
    )


def _smooth(image: NDArray[np.float32], where: NDArray[np.bool_]) -> NDArray[np.float32]:
    """An image smoothed among the voxels of a mask alone."""
    sigma = LARGE_SCALE_FWHM_MM / FWHM_OF_SD / VOXEL_MM
    weight = ndimage.gaussian_filter(where.astype(np.float32), sigma)
    total = ndimage.gaussian_filter(np.where(where, image, 0).astype(np.float32), sigma)
    return total / np.maximum(weight, np.float32(1e-3))
