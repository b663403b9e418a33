"""Numbers of one simulated MNI patient, taken from the images as for a real one.

Only what the pipeline sees is used (DWI, ADC, Tmax, masks, the participants' table), never the
simulation's own truth: the question is whether the cohort looks like the published one.
"""

import os

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from data_tools import labels, volumes
from data_tools.grid import ADC_CSF_UM2_PER_S, TMAX_HYPOPERFUSION_S, VOXEL_ML, hemisphere
from data_tools.simulate.cohort import image_paths
from data_tools.simulate.images import MniImages

# Benign oligaemia: late, but under the threshold.
OLIGAEMIA_S = 4.0
ADC_BINS_UM2_PER_S = np.arange(0, 2001, 40)
TISSUES = ("core", "penumbra", "oligaemia", "normal")


def read_mni(cohort: str | os.PathLike, index: int) -> MniImages:
    """One patient of a simulated MNI cohort.

    Raises:
        InputError: if a file is missing or damaged.
    """
    paths = image_paths(cohort, index, "mni")
    dwi, adc, tmax = (
        volumes.require_grid(volumes.load_volume(paths[key], key), key)
        for key in ("dwi", "adc", "tmax")
    )
    brain, coverage = (
        volumes.require_grid(volumes.load_mask(paths[key], key), key) > 0
        for key in ("brain", "coverage")
    )
    return MniImages(dwi=dwi, adc_um2_per_s=adc, tmax_s=tmax, brain=brain, coverage=coverage)


def measure(images: MniImages, side: str) -> dict:
    """Volumes, shapes and contrasts of one patient.

    Args:
        images: the MNI form.
        side: of the lesion; ratios to the other side are taken for one-sided strokes only.

    Returns:
        ``core_ml``, ``hypoperfusion_ml`` (union of Tmax >= 6 s and core, as in the paper),
        ``tmax_ml`` (Tmax >= 6 s alone), ``share_over_10_s``, ``core_pieces``, ``tmax_pieces``,
        ``core_inside`` (share of the core inside Tmax >= 6 s), ``adc_histogram`` {tissue: counts},
        ``adc_ratio`` and ``dwi_ratio`` {tissue: median ratio to the mirrored voxel}. NaN where
        there is nothing to measure.
    """
    made = labels.make_labels(
        images.dwi,
        images.adc_um2_per_s,
        images.tmax_s,
        brain=images.brain,
        coverage=images.coverage,
        voxel_ml=VOXEL_ML,
    )
    inside = made.core & made.hypoperfusion
    result = {
        "core_ml": made.core.sum() * VOXEL_ML,
        "hypoperfusion_ml": made.truth.sum() * VOXEL_ML,
        "tmax_ml": made.hypoperfusion.sum() * VOXEL_ML,
        "share_over_10_s": _mean(images.tmax_s[made.hypoperfusion] > 10),
        "core_pieces": ndimage.label(made.core, labels.NEIGHBOURS)[1],
        "tmax_pieces": ndimage.label(made.hypoperfusion, labels.NEIGHBOURS)[1],
        "core_inside": inside.sum() / made.core.sum() if made.core.any() else np.nan,
        "adc_histogram": {},
        "adc_ratio": {},
        "dwi_ratio": {},
    }
    for name, mask in tissue_masks(images, made, side).items():
        adc = images.adc_um2_per_s[mask]
        result["adc_histogram"][name] = np.histogram(adc, ADC_BINS_UM2_PER_S)[0]
        for key, image in (("adc_ratio", images.adc_um2_per_s), ("dwi_ratio", images.dwi)):
            other = image[::-1][mask]
            ratio = image[mask][other > 0] / other[other > 0]
            result[key][name] = float(np.median(ratio)) if ratio.size > 50 else np.nan
    return result


def tissue_masks(images: MniImages, made: labels.Labels, side: str) -> dict[str, NDArray[np.bool_]]:
    """Core, penumbra, oligaemia and normal tissue (of the other side), without CSF.

    Normal tissue is empty in bilateral strokes.
    """
    adc = images.adc_um2_per_s
    tissue = images.coverage & (adc > 0) & (adc < ADC_CSF_UM2_PER_S)
    tissue &= tissue[::-1]
    stroke = tissue & hemisphere(side)
    between = (images.tmax_s >= OLIGAEMIA_S) & (images.tmax_s < TMAX_HYPOPERFUSION_S)
    return {
        "core": made.core & tissue,
        "penumbra": made.hypoperfusion & ~made.core & tissue,
        "oligaemia": stroke & between & ~made.core,
        "normal": tissue & ~hemisphere(side),
    }


def _mean(values: NDArray) -> float:
    return float(values.mean()) if values.size else np.nan
