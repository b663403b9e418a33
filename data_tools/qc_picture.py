"""The picture of a preprocessed patient, ``qc.png``: does the fit hold, and where is the core?"""

import numpy as np
from numpy.typing import NDArray

from data_tools import drawing, pictures
from data_tools.grid import GRID_ORIGIN_MM, VOXEL_MM
from data_tools.intensity import is_given
from data_tools.patient import MniPatient
from data_tools.quality import Quality
from data_tools.template import template_on_grid


def draw(
    mni: MniPatient,
    quality: Quality,
    *,
    core: NDArray[np.bool_] | None,
    delayed: NDArray[np.bool_] | None,
) -> bytes:
    """DWI and ADC with the edges of the template, the core and the delayed region.

    Args:
        mni: the patient on the MNI grid.
        quality: for the title, with every warning.
        core: bool, on the grid; None where nobody knows it.
        delayed: bool, on the grid; None without a Tmax image.

    Returns:
        PNG bytes.
    """
    edges, masks = _overlays(mni, core, delayed)
    fit = quality.registration
    title = (
        f"{quality.participant_id}: DWI in MNI space, {fit.verdict}, brain Dice "
        f"{fit.brain_dice_with_template:.3f}, tissue {fit.tissue_correlation:.2f}"
        + "".join(f"\n! {warning}" for warning in quality.warnings)
    )
    spacing = (VOXEL_MM,) * 3
    dwi = pictures.axial_mosaic(
        mni.dwi, [edges[0], *masks], spacing, title, planes=True, brain=mni.brain,
        first_mm=GRID_ORIGIN_MM,
    )  # fmt: skip
    adc = pictures.axial_mosaic(
        mni.adc_um2_per_s, edges, spacing, pictures.ADC_TITLE, panels=8,
        window=pictures.ADC_WINDOW_UM2_PER_S, planes=True, brain=mni.brain,
        footer=f"{pictures.CONVENTION} Research use only.", first_mm=GRID_ORIGIN_MM,
    )  # fmt: skip
    return drawing.png(dwi, adc)


def thumbnail(
    mni: MniPatient, *, core: NDArray[np.bool_] | None, delayed: NDArray[np.bool_] | None
) -> bytes:
    """WebP: three slices of the DWI with the same outlines, for the table of patients.

    Args:
        mni: the patient on the MNI grid.
        core: bool, on the grid; None where nobody knows it.
        delayed: bool, on the grid; None without a Tmax image.
    """
    edges, masks = _overlays(mni, core, delayed)
    return drawing.webp(
        pictures.thumbnail(
            mni.dwi, [*edges, *masks], (VOXEL_MM,) * 3, window=None, brain=mni.brain,
            found=mni.brain,
        )
    )  # fmt: skip


def _overlays(
    mni: MniPatient, core: NDArray[np.bool_] | None, delayed: NDArray[np.bool_] | None
) -> tuple[list[pictures.Overlay], list[pictures.Overlay]]:
    """Edges of the template; outlines of the patient's brain, core and delayed region."""
    tissue, template_brain = template_on_grid()
    edges = [
        pictures.Overlay(template_brain, "template's brain and fluid", pictures.YELLOW),
        pictures.Overlay(template_brain & (tissue < 0.5), "", pictures.YELLOW),
    ]
    masks = [
        pictures.Overlay(mni.brain, "patient's brain", pictures.SKY_BLUE),
    ]
    if core is not None:
        words = "ADC core" if is_given(mni.adc_um2_per_s) else "given core"
        masks.append(pictures.Overlay(core, words, pictures.CORE, filled=True))
    if delayed is not None:
        late = f"Tmax {mni.tmax_threshold_s:g} s and more"
        masks.append(pictures.Overlay(delayed, late, pictures.MEASURED))
    return edges, masks
