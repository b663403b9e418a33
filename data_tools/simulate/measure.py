"""Numbers of one simulated MNI patient, taken from the images as for a real one.

Only what the pipeline sees is used (DWI, ADC, Tmax, masks, the participants' table), never the
simulation's own truth: the question is whether the cohort looks like the published one.
"""

import dataclasses
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


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measured:
    """One patient; NaN where there is nothing to measure.

    Attributes:
        core_ml: core.
        hypoperfusion_ml: union of Tmax >= 6 s and core, as in the paper.
        tmax_ml: Tmax >= 6 s alone.
        share_over_10_s: of Tmax >= 6 s.
        core_pieces: connected parts of the core.
        tmax_pieces: connected parts of Tmax >= 6 s.
        core_inside: share of the core inside Tmax >= 6 s.
        adc_histogram: counts by tissue, in :data:`ADC_BINS_UM2_PER_S`.
        adc_ratio: median ratio to the mirrored voxel, by tissue.
        dwi_ratio: the same of the DWI.
    """

    core_ml: float
    hypoperfusion_ml: float
    tmax_ml: float
    share_over_10_s: float
    core_pieces: int
    tmax_pieces: int
    core_inside: float
    adc_histogram: dict[str, NDArray[np.int64]]
    adc_ratio: dict[str, float]
    dwi_ratio: dict[str, float]

    def columns(self) -> dict[str, float]:
        """All but the histograms, flat, for a table."""
        plain = {
            name: value
            for name, value in dataclasses.asdict(self).items()
            if not isinstance(value, dict)
        }
        ratios = {
            f"{name}_{tissue}": ratio
            for name in ("adc_ratio", "dwi_ratio")
            for tissue, ratio in getattr(self, name).items()
        }
        return plain | ratios


def measure(images: MniImages, side: str) -> Measured:
    """Volumes, shapes and contrasts of one patient.

    Args:
        images: the MNI form.
        side: of the lesion; ratios to the other side are taken for one-sided strokes only.
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
    masks = tissue_masks(images, made, side)
    adc = images.adc_um2_per_s
    return Measured(
        core_ml=float(made.core.sum() * VOXEL_ML),
        hypoperfusion_ml=float(made.truth.sum() * VOXEL_ML),
        tmax_ml=float(made.hypoperfusion.sum() * VOXEL_ML),
        share_over_10_s=_mean(images.tmax_s[made.hypoperfusion] > 10),
        core_pieces=ndimage.label(made.core, labels.NEIGHBOURS)[1],
        tmax_pieces=ndimage.label(made.hypoperfusion, labels.NEIGHBOURS)[1],
        core_inside=float(inside.sum() / made.core.sum()) if made.core.any() else np.nan,
        adc_histogram={
            tissue: np.histogram(adc[mask], ADC_BINS_UM2_PER_S)[0] for tissue, mask in masks.items()
        },
        adc_ratio={tissue: _to_other_side(adc, mask) for tissue, mask in masks.items()},
        dwi_ratio={tissue: _to_other_side(images.dwi, mask) for tissue, mask in masks.items()},
    )


def _to_other_side(image: NDArray[np.float32], mask: NDArray[np.bool_]) -> float:
    """Median ratio to the mirrored voxel; NaN from few voxels."""
    other = image[::-1][mask]
    ratio = image[mask][other > 0] / other[other > 0]
    return float(np.median(ratio)) if ratio.size > 50 else np.nan


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
