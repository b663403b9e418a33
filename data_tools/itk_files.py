"""MetaImage and NRRD files (.mha, .mhd, .nrrd, .nhdr) by SimpleITK: LPS there, RAS here."""

import re
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from data_tools.runtime.errors import InputError

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
OPPOSITE = str.maketrans("RLAPIS", "LRPASI")
HEADER_BYTES = 1 << 16


def read(path: Path, label: str) -> tuple[NDArray, NDArray[np.float64]]:
    """Voxels and place of an image.

    Args:
        path: of the file, or of the header that names its data file.
        label: what and path, for messages.

    Returns:
        Data [x, y, z] or [x, y, z, image], and float64 [4, 4], index -> mm, RAS+.

    Raises:
        InputError: an unreadable or truncated file, no orientation, voxels that are no numbers.
    """
    _check_oriented(path, label)
    import SimpleITK as sitk

    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        image = sitk.ReadImage(str(path))
    except RuntimeError as error:
        said = " ".join(str(error).split("ITK ERROR:")[-1].split())[:200]
        raise InputError(
            f"{label}: not a readable image, or it ends too early or is damaged ({said}); copy it "
            "again, with the data file that its header names"
        ) from error
    data = sitk.GetArrayFromImage(image)
    if image.GetDimension() not in (3, 4) or data.dtype.kind not in "iuf":
        raise InputError(
            f"{label}: holds {image.GetDimension()}D voxels of type "
            f"{image.GetPixelIDTypeAsString()}; expected 3D or 4D, one number each"
        )
    # Reversed, [z, y, x] becomes [x, y, z]; several numbers a voxel come last either way.
    numbers = image.GetNumberOfComponentsPerPixel() > 1
    data = np.moveaxis(data.T, 0, -1) if numbers else data.T
    affine = LPS_TO_RAS @ _lps(image)
    _check_words(path, affine, label)
    return data, affine


def _lps(image) -> NDArray[np.float64]:
    size = image.GetDimension()
    axes = np.array(image.GetDirection()).reshape(size, size)[:3, :3]
    affine = np.eye(4)
    affine[:3, :3] = axes * np.array(image.GetSpacing())[:3]
    affine[:3, 3] = image.GetOrigin()[:3]
    return affine


def _header(path: Path) -> str:
    with path.open("rb") as stream:
        return stream.read(HEADER_BYTES).decode("latin-1")


def _is_nrrd(path: Path) -> bool:
    return path.suffix.lower() in (".nrrd", ".nhdr")


def _check_oriented(path: Path, label: str) -> None:
    """Refuse a header that says no direction: SimpleITK would take LPS for granted."""
    text = _header(path)
    if _is_nrrd(path):
        space = re.search(r"^space: *(.*?) *\r?$", text.split("\n\n")[0], re.M | re.I)
        known = space is not None and re.fullmatch(
            r"([rl]a|[rl]p)s(-time)?|(right|left)-(anterior|posterior)-superior(-time)?",
            space[1], re.I,
        )  # fmt: skip
        found = f"its space is {space[1]!r}" if space else "it has no field `space`"
    else:
        head = text.split("ElementDataFile")[0]
        known = re.search(r"^(TransformMatrix|Orientation|Rotation) *= *\S", head, re.M)
        found = "it has no TransformMatrix"
    if not known:
        raise InputError(
            f"{label}: {found}, so left and right are unknown; expected an orientation in the "
            "header. Convert the scanner's DICOM files again."
        )


def _check_words(path: Path, affine: NDArray[np.float64], label: str) -> None:
    """Refuse a MetaImage whose AnatomicalOrientation is not that of its matrix."""
    if _is_nrrd(path):
        return
    head = _header(path).split("ElementDataFile")[0]
    said = re.search(r"^AnatomicalOrientation *= *([RLAPIS]{3}) *\r?$", head, re.M)
    towards = "".join(nib.aff2axcodes(affine))
    # MetaImage names where axes come from; some programs write where they go to.
    if said and said[1] not in (towards, towards.translate(OPPOSITE)):
        raise InputError(
            f"{label}: AnatomicalOrientation is {said[1]} and TransformMatrix "
            f"{towards.translate(OPPOSITE)}, so left and right are unsure; find out which is right "
            "and set both to it."
        )
