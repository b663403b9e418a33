"""A core that another program or a person found, as a mask: read, checked, on the DWI's grid."""

import dataclasses
import os

import numpy as np
from numpy.typing import NDArray

from data_tools.lone_image import on_grid_of
from data_tools.patient import NativePatient, seen_on
from data_tools.runtime.errors import InputError
from data_tools.volumes import load_mask

NO_CORE = "none"
"""Said in place of a file: the patient has no core."""
# Masks of other programs reach a little over the brain's edge; of another patient or place, far.
MIN_SHARE_IN_BRAIN = 0.8


@dataclasses.dataclass(frozen=True)
class GivenCore:
    """A core as it was given.

    Attributes:
        mask: bool, shape of the DWI, inside its brain.
        notes: what was done to the file.
    """

    mask: NDArray[np.bool_]
    notes: tuple[str, ...] = ()


def load_given_core(
    path: str | os.PathLike, native: NativePatient, *, may_be_empty: bool = False
) -> GivenCore:
    """Read a mask on any grid of the patient's space, and bring it to the DWI's grid.

    Args:
        path: image file, or :data:`NO_CORE`.
        native: the patient's images.
        may_be_empty: a mask without any core says that there is none.

    Raises:
        InputError: no mask, an empty one, one that lies outside the head, or one so small that no
            voxel of the DWI holds half of it.
    """
    if str(path) == NO_CORE:
        return GivenCore(np.zeros_like(native.brain), ("core: none, as given",))
    given = load_mask(path, "core mask")
    inside = given.data > 0
    if not inside.any():
        if may_be_empty:
            return GivenCore(np.zeros_like(native.brain), (f"core mask {path}: holds no core",))
        raise InputError(
            f"core mask {path}: is empty; expected a mask of the core, or --core={NO_CORE} for a "
            "patient without one"
        )
    share = float(seen_on(given, native.dwi, native.brain)[inside].mean())
    if share < MIN_SHARE_IN_BRAIN:
        raise InputError(
            f"core mask {path}: {share:.0%} of it lies in the brain of DWI {native.dwi.path}; "
            f"expected at least {MIN_SHARE_IN_BRAIN:.0%}. Is it of the same patient and session, "
            "with its own orientation header?"
        )
    mask = on_grid_of(given, native.dwi) & native.brain
    file_ml, ml = inside.sum() * given.voxel_ml, mask.sum() * native.dwi.voxel_ml
    if not mask.any():
        raise InputError(
            f"core mask {path}: its {file_ml:.3f} mL fill no voxel of DWI {native.dwi.path}; "
            "expected a mask as fine as the DWI, or a larger core"
        )
    size = f"core mask: {file_ml:.1f} mL in its file, {ml:.1f} mL on the DWI's grid"
    return GivenCore(mask, (*given.reading.notes, size))
