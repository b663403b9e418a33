"""Tmax and ADC -> hypoperfusion, core, truth and coverage.

The paper's labels came out of Rapid (Tmax >= 6 s, ADC <= 620e-6 mm2/s) and were cleaned by hand
where the segmentation was poor. The rules below stand in for that cleaning; each has a name and
a reason. A mask edited by a person wins over them (``truth`` in :func:`make_labels`).

Every function works on any grid: sizes are given in mL and turned into voxels at the door.
"""

import dataclasses
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from data_tools.grid import ADC_CORE_UM2_PER_S, ADC_CSF_UM2_PER_S, TMAX_HYPOPERFUSION_S
from data_tools.intensity import is_given, normalise, parenchyma
from data_tools.runtime.errors import InputError

# Face, edge and corner neighbours: a lesion cut by a thin partial-volume line stays one.
NEIGHBOURS = np.ones((3, 3, 3), bool)

# Limits in mL are met a hair below, so that 125 voxels of 0.008 mL count as 1 mL despite rounding.
HAIR = 1e-9

# Tmax noise makes scattered islands; nothing under 1 mL bears on criteria of 15 and 70 mL.
HYPOPERFUSION_MIN_CLUSTER_ML = 1.0
# Lower for the core: a small true core decides between "visible" and "no core" (21% have none),
# and true emboli of a published patient are this small.
CORE_MIN_CLUSTER_ML = 0.2
# Low ADC alone is no core: at 620e-6 mm2/s noise and normal white matter of one published
# patient with a 6.7 mL infarct add up to 58 mL. An acute core is also bright on DWI: published
# ratios to normal tissue are 1.84 +- 0.41 in core and 1.13 +- 0.08 in penumbra; 1.2 separates.
CORE_MIN_DWI_RATIO = 1.2
# A cluster must somewhere be as bright as the middle of a core: noise, cerebellum and coil-side
# cortex of two real patients made clusters of up to 6 mL that are low and bright by the rules
# above, and none of them held 0.05 mL of 1.8; every embolus that a person had outlined did.
CORE_SEED_DWI_RATIO = 1.8
CORE_SEED_ML = 0.05
# Clusters this large need no such part: no false one reached it, and an even core may lack it.
CORE_SURE_ML = 10.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Labels:
    """Five bool masks of one patient, same shape.

    Attributes:
        hypoperfusion: Tmax >= 6 s, cleaned; without Tmax the edited mask.
        core: ADC <= 620e-6 mm2/s, cleaned; inside coverage, as all that is compared.
        core_truth: what a core output learns: the core as known, else ``core``; inside coverage.
        truth: what the network learns: the union, or the supplied mask; inside coverage.
        coverage: voxels with both diffusion and perfusion; only they count.
    """

    hypoperfusion: NDArray[np.bool_]
    core: NDArray[np.bool_]
    core_truth: NDArray[np.bool_]
    truth: NDArray[np.bool_]
    coverage: NDArray[np.bool_]


def core_mask(
    dwi: NDArray[np.float32],
    adc_um2_per_s: NDArray[np.float32],
    brain: NDArray[np.bool_],
    voxel_ml: float,
) -> NDArray[np.bool_]:
    """Ischaemic core: ADC <= 620e-6 mm2/s, DWI ratio >= 1.2, in clusters of at least 0.2 mL that
    hold at least 0.05 mL of DWI ratio >= 1.8, or have 10 mL.

    The ratio is that to the mean of tissue whose ADC is not low, so that a large core does not
    raise what it is compared with.

    CSF is excluded by its ADC; rims of the brain by the DWI ratio, since partial volume with CSF
    or air darkens DWI.

    Args:
        dwi: any unit, 3D.
        adc_um2_per_s: 1e-6 mm2/s, same shape.
        brain: bool, same shape.
        voxel_ml: volume of a voxel.

    Returns:
        bool mask; all False if there is no core.

    Raises:
        InputError: if the brain mask holds no tissue, or one of the images is 0 everywhere.
    """
    if not (is_given(dwi) and is_given(adc_um2_per_s)):
        empty = "ADC map" if is_given(dwi) else "DWI"
        raise InputError(f"the {empty} is 0 everywhere; expected both images to find the core in")
    dwi_ratio, _ = normalise(dwi, adc_um2_per_s, brain)
    other = parenchyma(adc_um2_per_s, brain) & (adc_um2_per_s > ADC_CORE_UM2_PER_S)
    if other.any():
        dwi_ratio = dwi_ratio / np.float32(dwi_ratio[other].mean(dtype=np.float64))
    low = brain & (adc_um2_per_s > 0) & (adc_um2_per_s <= ADC_CORE_UM2_PER_S)
    mask = low & (dwi_ratio >= CORE_MIN_DWI_RATIO)
    clusters, size_ml = _clusters(mask, voxel_ml)
    bright = mask & (dwi_ratio >= CORE_SEED_DWI_RATIO)
    bright_ml = np.bincount(clusters[bright], minlength=len(size_ml)) * voxel_ml
    seeded = (bright_ml >= CORE_SEED_ML * (1 - HAIR)) | (size_ml >= CORE_SURE_ML * (1 - HAIR))
    return (seeded & (size_ml >= CORE_MIN_CLUSTER_ML * (1 - HAIR)))[clusters]


def hypoperfusion_mask(
    tmax_s: NDArray[np.float32],
    *,
    adc_um2_per_s: NDArray[np.float32],
    coverage: NDArray[np.bool_],
    voxel_ml: float,
    threshold_s: float = TMAX_HYPOPERFUSION_S,
) -> NDArray[np.bool_]:
    """Hypoperfused tissue: Tmax >= 6 s inside coverage, without CSF, small clusters and thin skins.

    Tmax has no meaning in CSF (ADC >= 2000e-6 mm2/s), where there is next to no bolus. Another
    ``threshold_s`` is that of a calibration: what 6 s of the reference's Tmax is in this map's.

    Returns:
        bool mask; all False if nothing is left.
    """
    delayed = coverage & (tmax_s >= threshold_s) & (adc_um2_per_s < ADC_CSF_UM2_PER_S)
    return territories(delayed, voxel_ml)


def territories(delayed: NDArray[np.bool_], voxel_ml: float) -> NDArray[np.bool_]:
    """Late voxels without small clusters and thin skins.

    A cluster that vanishes under one erosion is nowhere three voxels thick: a skin along sinuses,
    skull base or the brain's edge, not a territory.
    """
    solid = _clusters_touching(delayed, ndimage.binary_erosion(delayed))
    return remove_small_clusters(solid, HYPOPERFUSION_MIN_CLUSTER_ML, voxel_ml)


def make_labels(
    dwi: NDArray[np.float32],
    adc_um2_per_s: NDArray[np.float32],
    tmax_s: NDArray[np.float32] | None,
    *,
    brain: NDArray[np.bool_],
    coverage: NDArray[np.bool_],
    voxel_ml: float,
    edited: NDArray[np.bool_] | None = None,
    edited_is_truth: bool = False,
    known_core: NDArray[np.bool_] | None = None,
    within: NDArray[np.bool_] | None = None,
    tmax_threshold_s: float = TMAX_HYPOPERFUSION_S,
) -> Labels:
    """All masks of one patient.

    Args:
        dwi: any unit, 3D.
        adc_um2_per_s: 1e-6 mm2/s, same shape.
        tmax_s: s, same shape; may be None where ``edited`` is given.
        brain: bool.
        coverage: bool; is cut to the brain.
        voxel_ml: volume of a voxel.
        edited: the hypoperfusion as a person edited it, in place of that of Tmax.
        edited_is_truth: it is the whole truth, and the core is not united with it.
        known_core: the core as a person outlined or a simulation made it; it becomes
            ``core_truth`` and changes nothing else. None takes the rule's. Where there is no ADC
            map (0 everywhere) it is ``core`` too, and None is no core.
        within: bool; hypoperfusion and core outside are no labels (of the stroke's side: old
            lesions and stenoses of the other one). None keeps all. It cuts neither ``edited`` nor
            ``known_core``.
        tmax_threshold_s: of hypoperfusion, as of :func:`hypoperfusion_mask`.

    Raises:
        ValueError: if neither ``tmax_s`` nor ``edited`` is given.
        InputError: if the brain mask holds no tissue.
    """
    coverage = coverage & brain
    if is_given(adc_um2_per_s):
        core = core_mask(dwi, adc_um2_per_s, brain, voxel_ml)
    else:
        core = np.zeros_like(brain) if known_core is None else known_core
    if tmax_s is not None:
        hypoperfusion = hypoperfusion_mask(
            tmax_s,
            adc_um2_per_s=adc_um2_per_s,
            coverage=coverage,
            voxel_ml=voxel_ml,
            threshold_s=tmax_threshold_s,
        )
    elif edited is not None:
        hypoperfusion = edited & coverage
    else:
        raise ValueError("make_labels needs tmax_s or edited")
    if within is not None:
        hypoperfusion, core = hypoperfusion & within, core & within
    truth = hypoperfusion if edited is None else edited
    if not edited_is_truth:
        truth = truth | core
    return Labels(
        hypoperfusion=hypoperfusion,
        core=core & coverage,
        core_truth=(core if known_core is None else known_core) & coverage,
        truth=truth & coverage,
        coverage=coverage,
    )


TruthFrom = Literal["Tmax", "edited mask", "edited truth"]


def truth_from(edited: bool, edited_is_truth: bool) -> TruthFrom:
    """In a table, what a patient's truth comes from.

    >>> truth_from(False, False), truth_from(True, False), truth_from(True, True)
    ('Tmax', 'edited mask', 'edited truth')
    """
    if not edited:
        return "Tmax"
    return "edited truth" if edited_is_truth else "edited mask"


def remove_small_clusters(
    mask: NDArray[np.bool_], min_cluster_ml: float, voxel_ml: float
) -> NDArray[np.bool_]:
    """Keep the connected clusters (26 neighbours) of at least ``min_cluster_ml``."""
    clusters, size_ml = _clusters(mask, voxel_ml)
    return mask & (size_ml >= min_cluster_ml * (1 - HAIR))[clusters]


def _clusters(
    mask: NDArray[np.bool_], voxel_ml: float
) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """Number of each voxel's cluster (0: none), and the mL of each number (of none: 0)."""
    clusters, count = ndimage.label(mask, NEIGHBOURS)
    sizes = np.bincount(clusters.ravel(), minlength=count + 1)
    size_ml = np.asarray(sizes * float(voxel_ml), np.float64)
    size_ml[0] = 0
    return clusters, size_ml


def _clusters_touching(mask: NDArray[np.bool_], seeds: NDArray[np.bool_]) -> NDArray[np.bool_]:
    clusters, count = ndimage.label(mask, NEIGHBOURS)
    keep = np.zeros(count + 1, bool)
    keep[np.unique(clusters[seeds])] = True
    keep[0] = False
    return keep[clusters]
