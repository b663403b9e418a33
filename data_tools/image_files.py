"""Files of images, NIfTI and ITK's: opened by their content, checked, their voxels as numbers.

What is not finite is for the reader of the image to judge: only it knows where the brain is.
"""

import contextlib
import dataclasses
import gzip
import logging
import warnings
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from data_tools import itk_files, nifti_header
from data_tools.file_names import EXPECTED, ITK_ENDINGS, beside, broken_link, ending
from data_tools.nifti_header import Place
from data_tools.runtime.errors import InputError, reason_of

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
        frame_step_s: from frame to frame, as the header says it; None if it says none.
    """

    shape: tuple[int, ...]
    place: Place
    label: str
    values: Callable[[], NDArray]
    frame_step_s: float | None = None

    @property
    def plain_shape(self) -> tuple[int, ...]:
        """The shape without axes of 1 after the third; ITK writes vectors as (x, y, z, 1, n)."""
        return (*self.shape[:3], *(size for size in self.shape[3:] if size != 1))

    def read(self) -> NDArray[np.float32]:
        """The voxels, NaN and infinity among them.

        Raises:
            InputError: the file ends too early.
        """
        try:
            with _quiet():
                return np.asarray(self.values(), dtype=np.float32)
        except MemoryError as error:
            size = " x ".join(map(str, self.shape))
            raise InputError(
                f"{self.label}: its header says {size} voxels, which do not fit in memory; "
                "expected a head's. Is the header damaged? Copy it again."
            ) from error
        except Exception as error:  # what a damaged header asks for is beyond any list
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
        if path.is_dir():
            raise InputError(
                f"{label}: is a folder; expected {EXPECTED}. Of DICOM files, give the folder of "
                "the whole study as --dwi: the scanner's ADC map is found in there"
            )
        missing = broken_link(path) or "no such file"
        raise InputError(f"{label}: {missing}; expected {EXPECTED}")
    if path.stat().st_size == 0:
        raise InputError(f"{label}: the file is empty (0 bytes); copy it again")
    kind, reader = ("NIfTI", _open_nifti)
    if ending(path.name) in ITK_ENDINGS:
        kind, reader = ("MetaImage or NRRD", _open_itk)
    try:
        with _quiet():
            return reader(path, label)
    except InputError:
        raise
    except Exception as error:  # a header's bytes may be anything, and so may what they raise
        why = f"{type(error).__name__}: {reason_of(error)}"
        raise InputError(f"{label}: not a readable {kind} file ({why}); copy it again") from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep what the readers write of odd headers and numbers from the terminal."""
    logger = logging.getLogger("nibabel.global")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _open_itk(path: Path, label: str) -> ImageFile:
    data, affine = itk_files.read(path, label)
    nifti_header.check_finite(affine, label)
    nifti_header.check_axes(affine, label)
    return ImageFile(shape=data.shape, place=Place(affine), label=label, values=lambda: data)


def _open_nifti(path: Path, label: str) -> ImageFile:
    image = _load(path, label)
    if not isinstance(image, nib.Nifti1Pair):
        raise InputError(f"{label}: is {type(image).__name__}; expected {EXPECTED}")
    if image.get_data_dtype().kind not in "iuf":  # colours, complex numbers
        raise InputError(
            f"{label}: holds voxels of type {image.get_data_dtype()}; expected one number each"
        )
    place = nifti_header.place_of(image, label)
    return ImageFile(
        shape=image.shape,
        place=place,
        label=label,
        values=lambda: np.asarray(image.dataobj),
        frame_step_s=nifti_header.frame_step_s(image),
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
        raise InputError(
            f"{label}: its name ends in .gz, but it is neither gzipped nor a NIfTI file; copy or "
            "convert it again"
        )
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
    return InputError(
        f"{label}: the file ends too early or is damaged ({reason_of(error)}); copy it again"
    )
