"""Files of images, NIfTI and ITK's: opened by their content, checked, their voxels as numbers.

What is not finite is for the reader of the image to judge: only it knows where the brain is.
"""

import dataclasses
import gzip
import zlib
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from data_tools import itk_files, nifti_header
from data_tools.file_names import EXPECTED, ITK_ENDINGS, beside, ending
from data_tools.nifti_header import Place
from data_tools.runtime.errors import InputError

GZIP_MAGIC = b"\x1f\x8b"
# Where a NIfTI header says that the voxels follow it in the same file.
SINGLE_FILE = {(344, b"n+1\0"): nib.Nifti1Image, (4, b"n+2\0"): nib.Nifti2Image}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageFile:
    """An open image.

    Attributes:
        shape: of its voxels.
        place: where they lie.
        label: what and path, for messages.
        values: reads them as the file's scale factor says.
    """

    shape: tuple[int, ...]
    place: Place
    label: str
    values: Callable[[], NDArray]

    def read(self) -> NDArray[np.float32]:
        """The voxels, NaN and infinity among them.

        Raises:
            InputError: the file ends too early.
        """
        try:
            return np.asarray(self.values(), dtype=np.float32)
        except (OSError, EOFError, ValueError) as error:
            raise damaged_file(self.label, error) from error

    def read_finite(self) -> NDArray[np.float32]:
        """The voxels.

        Raises:
            InputError: the file ends too early, or holds NaN or infinity.
        """
        data = self.read()
        bad = int(data.size - np.isfinite(data).sum())
        if bad:
            raise InputError(
                f"{self.label}: {bad} of {data.size} voxels are NaN or infinite; expected finite "
                "values. Set the background to 0 in the program that made the file."
            )
        return data


def open_image(path: Path, what: str) -> ImageFile:
    """Open an image of numbers, 3D or more, whose orientation can be trusted.

    A file is gzipped if its content is, whatever its name says.

    Args:
        path: of the file, or of one part of a pair.
        what: ``DWI``, ``ADC``..., for messages.

    Raises:
        InputError: missing, unreadable or damaged file, no or contradicting orientation, sheared
            axes, odd voxel size.
    """
    label = f"{what} {path}"
    if not path.is_file():
        raise InputError(f"{label}: no such file; expected {EXPECTED}")
    if ending(path.name) in ITK_ENDINGS:
        data, affine = itk_files.read(path, label)
        nifti_header.check_finite(affine, label)
        nifti_header.check_axes(affine, label)
        return ImageFile(shape=data.shape, place=Place(affine), label=label, values=lambda: data)
    try:
        image = _load(path, label)
    except (ImageFileError, HeaderDataError, ValueError, OSError, EOFError) as error:
        raise InputError(f"{label}: not a readable NIfTI file ({error})") from error
    if not isinstance(image, nib.Nifti1Pair):
        raise InputError(f"{label}: is {type(image).__name__}; expected {EXPECTED}")
    if image.get_data_dtype().kind not in "iuf":  # colours, complex numbers
        raise InputError(
            f"{label}: holds voxels of type {image.get_data_dtype()}; expected one number each"
        )
    place = nifti_header.place_of(image, label)
    return ImageFile(
        shape=image.shape, place=place, label=label, values=lambda: np.asarray(image.dataobj)
    )


def _load(path: Path, label: str) -> nib.Nifti1Pair:
    content = path.read_bytes()
    packed = content.startswith(GZIP_MAGIC)
    if packed:
        content = _unpacked(content, label)
    for (offset, magic), kind in SINGLE_FILE.items():
        if content[offset : offset + 4] == magic:
            return kind.from_bytes(content)
    if not packed and path.name.lower().endswith(".gz"):
        raise InputError(f"{label}: is named .gz and is not gzipped, and is no NIfTI file either")
    for end in (".img.gz", ".hdr.gz"):  # nibabel would not reach the other part's checksum
        part = beside(path, end)
        if part.is_file() and part != path:
            _unpacked(part.read_bytes(), label)
    return nib.load(path)


def _unpacked(content: bytes, label: str) -> bytes:
    """The content of a gzipped file, all of it, so that its checksum at the end is looked at."""
    try:
        return gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise damaged_file(label, error) from error


def damaged_file(label: str, error: Exception) -> InputError:
    """What to tell of a file that cannot be read to its end.

    Args:
        label: what and path.
        error: the reader's own.
    """
    return InputError(f"{label}: the file ends too early or is damaged ({error}); copy it again")
