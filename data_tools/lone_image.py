"""A patient with one image only: a DWI without an ADC map, or an ADC map without a DWI.

What compares the two images cannot be checked; all else is as in :mod:`data_tools.patient`.
"""

import dataclasses
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from data_tools import agreement, brain_of_adc, brain_of_dwi
from data_tools.overrides import ADC_UNITS, Overrides
from data_tools.plausibility import (
    check_gaps,
    check_kind_alone,
    check_unit_said_by_person,
    detect_adc_unit,
)
from data_tools.runtime.errors import InputError, counted
from data_tools.transform import resample
from data_tools.volumes import Volume

Kind = Literal["DWI", "ADC"]
IS_IT = {
    "DWI": "Is this a whole-brain DWI with b about 1000 s/mm2, and are its voxel sizes right?",
    "ADC": "Is this a whole-brain ADC map, and are its voxel sizes right? Where noise around the "
    "head hides the brain, --brain_mask says where it is.",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoneImage:
    """An image that was checked.

    Attributes:
        image: any unit; an ADC map in 1e-6 mm2/s.
        brain: bool, its shape.
        adc_unit: the unit found in the file; None for a DWI.
        warnings: what a person should look at.
    """

    image: Volume
    brain: NDArray[np.bool_]
    adc_unit: str | None
    warnings: tuple[str, ...]


def of_dwi(dwi: Volume, said: Volume | None) -> LoneImage:
    """A DWI without an ADC map.

    Args:
        dwi: b = 1000 image.
        said: the brain as a person says it, on any grid; None finds it.

    Raises:
        InputError: it shows no whole brain, or is another image.
    """
    check_no_empty_slices(dwi, "DWI")
    found = brain_of_dwi.brain_mask(dwi)
    found = brain_of_dwi.filled_in_plane(found, brain_of_dwi.slice_axis(dwi.affine))
    brain, warnings = _checked("DWI", dwi, found, said)
    return LoneImage(image=dwi, brain=brain, adc_unit=None, warnings=warnings)


def of_adc(adc: Volume, said: Volume | None, overrides: Overrides) -> LoneImage:
    """An ADC map without a DWI.

    Args:
        adc: in the unit of its file.
        said: as in :func:`of_dwi`.
        overrides: what a person says of its unit.

    Raises:
        InputError: as there, or of no known unit.
    """
    check_no_empty_slices(adc, "ADC")
    unit = overrides.adc_unit or brain_of_adc.likely_unit(adc)
    scaled = dataclasses.replace(adc, data=adc.data * np.float32(ADC_UNITS[unit]))
    brain, warnings = _checked("ADC", scaled, brain_of_adc.brain_mask(scaled), said)
    brain &= adc.data > 0
    if overrides.adc_unit is None:
        unit = detect_adc_unit(adc, brain)
        scaled = dataclasses.replace(adc, data=adc.data * np.float32(ADC_UNITS[unit]))
    else:
        warnings += check_unit_said_by_person(adc, brain, unit)
    return LoneImage(image=scaled, brain=brain, adc_unit=unit, warnings=warnings)


def check_no_empty_slices(image: Volume, what: str) -> None:
    """Refuse an image with slices of nothing between others.

    Args:
        image: any unit.
        what: ``DWI`` or ``ADC``, for the message.

    Raises:
        InputError: with their number.
    """
    lost = brain_of_dwi.empty_slices(image)
    if lost:
        raise InputError(
            f"{what} {image.path}: between others {counted(len(lost), 'slice is')} empty (the "
            f"first is {lost[0]}, counted from 0); expected all of the head. Convert or copy the "
            "scanner's files again."
        )


def check_not_cut(image: Volume, brain: NDArray[np.bool_], what: str) -> None:
    """Refuse an image whose end slices are full of brain.

    Args:
        image: any unit.
        brain: bool, on its grid.
        what: ``DWI`` or ``ADC``, for the message.

    Raises:
        InputError: much of the head is missing.
    """
    end = brain_of_dwi.end_slice_share(brain, image)
    if end >= brain_of_dwi.MAX_CUT_SHARE:
        raise InputError(
            f"{what} {image.path}: an end slice shows {end:.0%} of the largest slice's brain, so "
            "much of the head is missing; expected a scan from skull base to vertex"
        )


def check_size(
    image: Volume, brain: NDArray[np.bool_], what: Kind, mask_path: str | Path | None
) -> None:
    """Refuse a brain that has not the volume of one.

    Args:
        image: on whose grid it is.
        brain: bool.
        what: which image it is.
        mask_path: of the mask that a person gave; None if it was found.

    Raises:
        InputError: with its mL.
    """
    low, high = agreement.BRAIN_RANGE_ML
    source = "brain found in it" if mask_path is None else f"brain mask {mask_path}"
    volume_ml = float(brain.sum() * image.voxel_ml)
    if not low <= volume_ml <= high:
        raise InputError(
            f"{what} {image.path}: the {source} has {volume_ml:.0f} mL; expected {low:.0f} to "
            f"{high:.0f} mL. {IS_IT[what]}"
        )


def on_grid_of(mask: Volume, image: Volume) -> NDArray[np.bool_]:
    """A mask of the patient's space on an image's grid."""
    return resample(mask, np.eye(4), image.data.shape, image.affine) > 0.5


def _checked(
    what: Kind, image: Volume, found: NDArray[np.bool_], said: Volume | None
) -> tuple[NDArray[np.bool_], tuple[str, ...]]:
    """The brain that counts, and warnings."""
    brain = found
    warnings: tuple[str, ...] = ()
    if said is not None:
        brain = on_grid_of(said, image)
        agreement.check_given_mask(said.path, brain, found, image.voxel_ml)
        warnings = agreement.mask_warnings(brain, found, image.voxel_ml)
    check_gaps(image, brain, what)
    check_size(image, brain, what, None if said is None else said.path)
    check_not_cut(image, brain, what)
    check_kind_alone(image, brain, what)
    return brain, warnings
