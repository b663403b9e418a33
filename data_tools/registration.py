"""Native space -> MNI: fitted, checked, tried again in other ways before it is given up.

What is fitted is a map of tissue against fluid: 1 where ADC is at most 1000e-6 mm2/s, 0 from CSF's
2000e-6 on and outside the brain, onto the grey and white matter of the template. It has a unit, so
that the squared difference can be minimised; it has no coil bias; and an acute core, whose ADC is
low, is tissue as any other. Of the images tried it came nearest (BUILD_NOTES, Registration).
"""

import dataclasses
import functools
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from data_tools import ants_bridge, linear_fit
from data_tools.brain_of_dwi import CUT_SHARE, end_slice_share
from data_tools.grid import ADC_CSF_UM2_PER_S, GRID_AFFINE
from data_tools.intensity import is_given
from data_tools.runtime.errors import InputError
from data_tools.template import template, template_on_grid
from data_tools.transform import Transform, resample, turn_deg
from data_tools.volumes import Volume

# The project's own affine; ANTs' affine; ANTs' deformation on top of the first.
KINDS = ("affine", "ants", "syn")
OWN, ANTS = "gauss-newton", "ants"

# Healthy tissue is 700 to 900; from here to CSF's value a voxel is a mixture.
ADC_TISSUE_UM2_PER_S = 1000.0
# The same of a DWI, as shares of the brain's median. Fits lay 0.4 to 1.3 mm from those by ADC, on
# average over the brain, in two real and two simulated heads.
DWI_FLUID_TO_TISSUE = 0.4, 0.8
# Overlap of the patient's brain with the template's, inside what was imaged: whole brains reach
# 0.93 and more, wrongly turned ones 0.85 to 0.92.
GOOD_BRAIN_DICE, MIN_BRAIN_DICE = 0.90, 0.80
# Of the tissue map with the template's: good fits reach 0.41 and more, wrongly turned ones 0.31.
GOOD_CORRELATION, MIN_CORRELATION = 0.35, 0.20
# Template over patient: the template's brain has 1.9 L, adults' 0.9 to 2 L.
DETERMINANT_RANGE = (0.8, 2.6)
# Heads lie 12 degrees off the axes and less as a rule; a fit turned further found another minimum.
ODD_TURN_DEG, MAX_TURN_DEG = 25.0, 45.0
# By so much better a fit must be to say that the head lies turned round in its file.
HEADER_MARGIN = 0.05


@dataclasses.dataclass(frozen=True, kw_only=True)
class FitFigures:
    """What was measured of a fit, rounded.

    Attributes:
        brain_dice_with_template: of the brain masks, inside what was imaged.
        tissue_correlation: of the tissue map with the template's.
        template_brain_imaged: share of the template's brain inside the image.
        affine_determinant: by how much the fit enlarges.
        turn_deg: by how much it turns the head against its file's axes.
        end_slice_brain_share: of :func:`data_tools.brain_of_dwi.end_slice_share`.
    """

    brain_dice_with_template: float
    tissue_correlation: float
    template_brain_imaged: float
    affine_determinant: float
    turn_deg: float
    end_slice_brain_share: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fit:
    """A patient's way to the template.

    Attributes:
        transform: both directions.
        kind: one of :data:`KINDS`.
        strategy: the one that gave its linear part.
        fitted_by: the program of that, :data:`OWN` or :data:`ANTS`.
        figures: what was measured of it.
        warnings: what is not good.
    """

    transform: Transform
    kind: str = "affine"
    strategy: str
    fitted_by: str = OWN
    figures: FitFigures
    warnings: tuple[str, ...] = ()


def tissue_map(adc_um2_per_s: NDArray[np.float32], brain: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Tissue against fluid, 1 to 0; float32 of the images' shape, 0 outside the brain."""
    share = (ADC_CSF_UM2_PER_S - adc_um2_per_s) / (ADC_CSF_UM2_PER_S - ADC_TISSUE_UM2_PER_S)
    return np.where(brain, np.clip(share, 0, 1), 0).astype(np.float32)


def tissue_map_of_dwi(dwi: NDArray[np.float32], brain: NDArray[np.bool_]) -> NDArray[np.float32]:
    """As :func:`tissue_map`, where there is no ADC map: fluid is dark in a DWI.

    Args:
        dwi: any unit.
        brain: bool, same shape.
    """
    low, high = (share * float(np.median(dwi[brain])) for share in DWI_FLUID_TO_TISSUE)
    share = (dwi - low) / (high - low)
    return np.where(brain, np.clip(share, 0, 1), 0).astype(np.float32)


def register(
    dwi: Volume,
    adc_um2_per_s: NDArray[np.float32],
    brain: NDArray[np.bool_],
    *,
    lesion: NDArray[np.bool_] | None = None,
    kind: str = "affine",
) -> Fit:
    """Fit a patient to the template, check the fit, and try other ways where it is not good.

    In this order: the tissue map, squared difference; the DWI on the template's T1 by mutual
    information (ANTs), rigid before affine; the brain masks alone. The first good fit is taken,
    else the best that is not impossible, with a warning. Where ANTs fits, a head that is cut off
    (end slices full of brain) gets one scale for all axes, which its own edge cannot stretch.

    Args:
        dwi: b = 1000 image; 0 everywhere if there is none.
        adc_um2_per_s: 1e-6 mm2/s, on its grid; likewise.
        brain: bool, on its grid.
        lesion: bool, left out of the cost of a deformable fit; None leaves nothing out.
        kind: ``affine``; ``ants``: every strategy by ANTs; ``syn``: ANTs' deformation on top of
            the affine.

    Raises:
        InputError: no way gave a fit that can be believed, or the file's orientation must be
            wrong: the head fits better turned round or upside down.
    """
    if is_given(adc_um2_per_s):
        tissue = tissue_map(adc_um2_per_s, brain)
    else:
        tissue = tissue_map_of_dwi(dwi.data, brain)
    what, shown = "DWI", dwi
    if not is_given(dwi.data):
        what, shown = "ADC", dataclasses.replace(dwi, data=adc_um2_per_s)
    images = _Images(shown, tissue, brain, what)
    cut, fits = end_slice_share(brain, shown) > CUT_SHARE, []
    for name, strategy in (BY_ANTS if kind == "ants" else STRATEGIES).items():
        fit = _assess(images, Transform(strategy(images, cut)), name)
        if fit is not None:
            program = ANTS if strategy in BY_ANTS.values() else OWN
            fits.append(dataclasses.replace(fit, fitted_by=program))
            if not fit.warnings:
                break
    best = max(fits, key=lambda f: (not f.warnings, f.figures.tissue_correlation), default=None)
    _check_header(images, best)
    if best is None or not _possible(best):
        measured = "" if best is None else ": " + "; ".join(best.warnings)
        raise InputError(
            f"{what} {shown.path}: the brain cannot be fitted to the template{measured}. Expected "
            "a whole head with DWI and ADC of one patient; is much of it missing?"
        )
    if kind != "syn":
        return dataclasses.replace(best, kind=kind)
    moving = images.like(images.tissue)
    transform = ants_bridge.fit_deformable(template()["tissue"], moving, best.transform, lesion)
    figures = dataclasses.replace(best.figures, **_overlap(images, transform))
    return dataclasses.replace(best, transform=transform, kind=kind, figures=figures)


@dataclasses.dataclass(frozen=True)
class _Images:
    dwi: Volume  # or the ADC map, where there is no DWI
    tissue: NDArray[np.float32]
    brain: NDArray[np.bool_]
    what: str = "DWI"

    def like(self, data: NDArray) -> Volume:
        return dataclasses.replace(self.dwi, data=np.asarray(data, np.float32))


@functools.cache
def _target(name: str) -> linear_fit.Target:
    return linear_fit.Target(template()[name])


def _by_tissue(images: _Images, cut: bool) -> NDArray[np.float64]:
    return linear_fit.fit(_target("tissue"), images.like(images.tissue))


def _by_contrast(images: _Images, cut: bool) -> NDArray[np.float64]:
    moving = images.like(np.where(images.brain, np.maximum(images.dwi.data, 0), 0))
    rigid = ants_bridge.fit_linear(template()["t1"], moving, "Rigid")
    turned = dataclasses.replace(moving, affine=rigid @ moving.affine)
    return ants_bridge.fit_linear(template()["t1"], turned, _kind_of_ants(cut)) @ rigid


def _by_mask(images: _Images, cut: bool) -> NDArray[np.float64]:
    target, moving = _target("brain"), images.like(images.brain)
    return linear_fit.fit(target, moving, "similarity", linear_fit.together(target, moving))


def _tissue_by_ants(images: _Images, cut: bool) -> NDArray[np.float64]:
    return ants_bridge.fit_linear(
        template()["tissue"], images.like(images.tissue), _kind_of_ants(cut),
        aff_metric="meansquares",
    )  # fmt: skip


def _mask_by_ants(images: _Images, cut: bool) -> NDArray[np.float64]:
    return ants_bridge.fit_linear(
        template()["brain"], images.like(images.brain), "Similarity", aff_metric="meansquares"
    )  # fmt: skip


def _kind_of_ants(cut: bool) -> str:
    return "Similarity" if cut else "Affine"


Strategy = Callable[[_Images, bool], NDArray[np.float64]]
STRATEGIES: dict[str, Strategy] = {
    "tissue": _by_tissue, "contrast": _by_contrast, "mask": _by_mask,
}  # fmt: skip
BY_ANTS: dict[str, Strategy] = {
    "tissue": _tissue_by_ants, "contrast": _by_contrast, "mask": _mask_by_ants,
}  # fmt: skip


def _assess(images: _Images, transform: Transform, strategy: str) -> Fit | None:
    """Figures of a fit and what is not good about it; None for one that is no fit at all."""
    linear = transform.affine[:3, :3]
    determinant = float(np.linalg.det(linear))
    if not np.isfinite(transform.affine).all() or not 0.1 < determinant < 10:
        return None
    figures = FitFigures(
        **_overlap(images, transform),
        affine_determinant=round(determinant, 4),
        turn_deg=round(turn_deg(linear), 1),
        end_slice_brain_share=round(end_slice_share(images.brain, images.dwi), 3),
    )
    return Fit(
        transform=transform,
        strategy=strategy,
        figures=figures,
        warnings=tuple(_what_is_poor(figures)),
    )


def _overlap(images: _Images, transform: Transform) -> dict[str, float]:
    """Those of the figures that a bent fit changes."""
    tissue, template_brain = template_on_grid()
    brain = transform.bring_mask(images.brain, images.dwi)
    imaged = transform.bring_mask(np.ones_like(images.brain), images.dwi)
    expected = template_brain & imaged
    total = brain.sum() + expected.sum()
    mine = transform.bring(images.like(images.tissue))
    correlation = _correlation(mine, tissue, brain | expected)
    return {
        "brain_dice_with_template": round(float(2 * (brain & expected).sum() / max(total, 1)), 4),
        "tissue_correlation": round(correlation, 4),
        "template_brain_imaged": round(float(expected.sum() / template_brain.sum()), 4),
    }


def _coarse_agreement(images: _Images, matrix: NDArray[np.float64]) -> float:
    """The tissue's correlation at every second voxel along each axis."""
    tissue, template_brain = template_on_grid()
    tissue, template_brain = tissue[::2, ::2, ::2], template_brain[::2, ::2, ::2]
    grid = GRID_AFFINE @ np.diag([2.0, 2.0, 2.0, 1.0])
    brain, imaged, mine = (
        resample(images.like(data), matrix, tissue.shape, grid)
        for data in (images.brain, np.ones_like(images.brain), images.tissue)
    )
    return _correlation(mine, tissue, (brain > 0.5) | (template_brain & (imaged > 0.5)))


def _correlation(
    one: NDArray[np.float32], other: NDArray[np.float32], where: NDArray[np.bool_]
) -> float:
    spread = one[where].std() * other[where].std() if where.any() else 0
    return float(np.corrcoef(one[where], other[where])[0, 1]) if spread > 0 else 0.0


def _what_is_poor(figures: FitFigures) -> list[str]:
    found = []
    overlap, correlation = figures.brain_dice_with_template, figures.tissue_correlation
    look = "look at the picture before using anything"
    if overlap < GOOD_BRAIN_DICE:
        found.append(
            f"poor registration: the brain overlaps the template's with Dice {overlap:.2f} (good "
            f"is {GOOD_BRAIN_DICE:.2f} and more); {look}"
        )
    if correlation < GOOD_CORRELATION:
        found.append(
            "poor registration: ventricles and sulci agree with the template's by "
            f"{correlation:.2f} (good is {GOOD_CORRELATION:.2f} and more); {look}"
        )
    low, high = DETERMINANT_RANGE
    if not low <= figures.affine_determinant <= high:
        found.append(
            f"poor registration: it enlarges the brain {figures.affine_determinant:.1f} times "
            f"(expected {low} to {high}); {look}"
        )
    if figures.turn_deg > ODD_TURN_DEG:
        found.append(
            f"poor registration: it turns the head by {figures.turn_deg:.0f} degrees against "
            f"its file's axes; {look}"
        )
    return found


def _possible(fit: Fit) -> bool:
    return bool(
        fit.figures.brain_dice_with_template >= MIN_BRAIN_DICE
        and fit.figures.tissue_correlation >= MIN_CORRELATION
        and fit.figures.turn_deg <= MAX_TURN_DEG
        and DETERMINANT_RANGE[0] <= fit.figures.affine_determinant <= DETERMINANT_RANGE[1]
    )


def _check_header(images: _Images, best: Fit | None) -> None:
    """Refuse an image that fits clearly better when it is turned round.

    Turned fits are tried only if the head as it was fitted looks no worse when it is turned at
    once, or the fit is doubtful.

    The template is symmetric, so a mirror image of left and right fits as well as the right one: a
    header that swaps only these two cannot be found out by any fit.
    """
    if best is None:
        fit = _assess(images, Transform(_by_tissue(images, False)), "tissue")
        own = -1.0 if fit is None else fit.figures.tissue_correlation
    else:
        own = best.figures.tissue_correlation
    start = np.eye(4) if best is None else best.transform.affine
    turned = [_about_the_centre(signs) for signs in TURNS.values()]
    as_it_is, *at_once = (_coarse_agreement(images, turn @ start) for turn in (np.eye(4), *turned))
    doubtful = best is None or not _possible(best) or best.figures.turn_deg > ODD_TURN_DEG
    if not doubtful and max(at_once) <= as_it_is:
        return
    for words, turn in zip(TURNS, turned, strict=True):
        round_about = dataclasses.replace(images.dwi, affine=turn @ images.dwi.affine)
        other = dataclasses.replace(images, dwi=round_about)
        again = _assess(other, Transform(_by_tissue(other, False)), "turned")
        if again is None or not _possible(again) or again.figures.turn_deg > ODD_TURN_DEG:
            continue
        if again.figures.tissue_correlation > own + HEADER_MARGIN:
            raise InputError(
                f"{images.what} {images.dwi.path}: the head lies {words} against the file's header "
                f"(agreement with the template {again.figures.tissue_correlation:.2f} when "
                f"turned, {own:.2f} as it is), so left and right are unsure too. Convert the "
                "scanner's DICOM files again (dcm2niix); do not mend the header by eye."
            )


# By half a turn about an axis; on a symmetric template the same as mirroring another axis.
TURNS = {
    "back to front": (-1.0, -1.0, 1.0),
    "upside down": (-1.0, 1.0, -1.0),
    "upside down and back to front": (1.0, -1.0, -1.0),
}


def _about_the_centre(signs: tuple[float, float, float]) -> NDArray[np.float64]:
    brain = template()["brain"]
    centre = brain.affine[:3, :3] @ np.argwhere(brain.data > 0.5).mean(axis=0) + brain.affine[:3, 3]
    turn = np.eye(4)
    turn[:3, :3] = np.diag(signs)
    turn[:3, 3] = centre - turn[:3, :3] @ centre
    return turn
