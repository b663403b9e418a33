"""MetaImage and NRRD files (.mha, .mhd, .nrrd, .nhdr) by SimpleITK: LPS there, RAS here."""

import bz2
import re
import zlib
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
    _check_packed(path, label)
    import SimpleITK as sitk

    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        image = sitk.ReadImage(str(path))
    except RuntimeError as error:
        raise _damaged(label, "SimpleITK cannot read it") from error
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


def _damaged(label: str, why: object) -> InputError:
    return InputError(
        f"{label}: not a readable image, or it ends too early or is damaged ({why}); copy it "
        "again, with the data file that its header names"
    )


def _check_packed(path: Path, label: str) -> None:
    """Unpack compressed voxels to their checksum, which SimpleITK does not look at."""
    content = path.read_bytes()
    if _is_nrrd(path):
        head, _, data = content.partition(b"\n\n")
        packed = re.search(rb"^encoding: *(gz|gzip|bz2|bzip2) *$", head, re.M | re.I)
        named = re.search(rb"^data ?file: *(\S.*?) *$", head, re.M | re.I)
    else:
        head, _, after = content.partition(b"ElementDataFile")
        packed = re.search(rb"^CompressedData *= *True", head, re.M | re.I)
        first, _, data = after.partition(b"\n")
        named = re.match(rb" *= *(?!LOCAL)(\S.*?) *\r?$", first)
    if not packed:
        return
    if named:
        beside = path.parent / named[1].decode("utf-8", "replace")
        if not beside.is_file():  # several files, or none: SimpleITK knows
            return
        data = beside.read_bytes()
    try:
        if data[:3] == b"BZh":
            bz2.decompress(data)
            return
        stream = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)  # zlib or gzip, with checksum
        stream.decompress(data)
        if not stream.eof:
            raise EOFError("it ends before its checksum")
    except (zlib.error, OSError, EOFError, ValueError) as error:
        raise _damaged(label, error) from error


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
