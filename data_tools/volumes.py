"""NIfTI in and out, and the checks of its header that keep a lesion on its side.

A :class:`Volume` is data plus the affine that takes a voxel's index to millimetres (RAS+: x to
the patient's right, y to the front, z up). Nothing here flips or reorients data; what does
(resampling) works through the affine.
"""

import dataclasses
import gzip
import os
import zlib
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from data_tools.grid import GRID_AFFINE, GRID_SHAPE
from data_tools.runtime import atomic
from data_tools.runtime.errors import InputError

# A voxel outside this range is no clinical brain MRI (micro-imaging, or an affine in metres).
VOXEL_RANGE_MM = (0.3, 12.0)


@dataclasses.dataclass(frozen=True)
class Volume:
    """One 3D image.

    Attributes:
        data: float32 [i, j, k], finite.
        affine: float64 [4, 4], index -> mm, RAS+.
        path: where it came from, for messages.
    """

    data: NDArray[np.float32]
    affine: NDArray[np.float64]
    path: str = ""

    @property
    def voxel_ml(self) -> float:
        """Volume of one voxel in mL."""
        return float(abs(np.linalg.det(self.affine[:3, :3])) / 1000.0)

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Edge lengths of one voxel in mm."""
        x, y, z = np.sqrt((self.affine[:3, :3] ** 2).sum(axis=0))
        return float(x), float(y), float(z)

    @property
    def orientation(self) -> str:
        """Axis codes, ``RAS`` for instance."""
        return "".join(nib.aff2axcodes(self.affine))

    def same_grid(self, other: "Volume") -> bool:
        """Whether both have the same shape and the same affine within 0.01 mm at every corner."""
        if self.data.shape != other.data.shape:
            return False
        corners = np.array(np.meshgrid(*[(0, n - 1) for n in self.data.shape])).reshape(3, -1)
        difference = (self.affine - other.affine)[:3]
        return bool(np.abs(difference[:, :3] @ corners + difference[:, 3:]).max() < 0.01)


def load_volume(
    path: str | os.PathLike, what: str = "image", may_be_constant: bool = False
) -> Volume:
    """Read a NIfTI file and check that it can be trusted.

    Args:
        path: ``.nii`` or ``.nii.gz``; 3D, or 4D with a single volume.
        what: ``DWI``, ``ADC``..., for messages.
        may_be_constant: a mask, or a probability that is 0 everywhere, is no empty image.

    Returns:
        A Volume of float32 data in the file's own orientation and unit.

    Raises:
        InputError: missing, unreadable or truncated file, not 3D, NaN or infinity, constant
            values, no or contradicting orientation, sheared axes, odd voxel size.
    """
    path = Path(path)
    label = f"{what} {path}"
    image, affine = open_nifti(path, what)
    shape = image.shape
    if len(shape) == 4 and shape[3] == 1:
        shape = shape[:3]
    if len(shape) != 3 or min(shape) < 2:
        raise InputError(f"{label}: has shape {tuple(image.shape)}; expected one 3D volume")
    data = read_data(image, label).reshape(shape)
    if not may_be_constant and data.min() == data.max():
        raise InputError(f"{label}: every voxel is {data.flat[0]:g}; the image is empty")
    return Volume(data, affine, str(path))


def open_nifti(path: Path, what: str) -> tuple[nib.Nifti1Pair, NDArray[np.float64]]:
    """Open a NIfTI file of numbers, 3D or more, whose orientation can be trusted.

    Returns:
        The image, its data not yet read, and its affine.

    Raises:
        InputError: as :func:`load_volume`, for all but the data.
    """
    label = f"{what} {path}"
    if not path.is_file():
        raise InputError(f"{label}: no such file; expected a NIfTI file (.nii or .nii.gz)")
    if path.suffix == ".gz":
        _check_gzip(path, label)
    try:
        image = nib.load(path)
    except (ImageFileError, HeaderDataError, ValueError, OSError, EOFError) as error:
        raise InputError(f"{label}: not a readable NIfTI file ({error})") from error
    if not isinstance(image, nib.Nifti1Pair):
        raise InputError(f"{label}: is {type(image).__name__}; expected NIfTI (.nii or .nii.gz)")
    if image.get_data_dtype().kind not in "iuf":  # colours, complex numbers
        raise InputError(
            f"{label}: holds voxels of type {image.get_data_dtype()}; expected one number each"
        )
    return image, _checked_affine(image, label)


def read_data(image: nib.Nifti1Pair, label: str) -> NDArray[np.float32]:
    """The voxels of an open image.

    Args:
        image: of :func:`open_nifti`.
        label: what and path, for messages.

    Raises:
        InputError: a truncated file, NaN or infinity.
    """
    try:
        data = np.asarray(image.dataobj, dtype=np.float32)
    except (OSError, EOFError, ValueError) as error:
        raise damaged_file(label, error) from error
    bad = int(data.size - np.isfinite(data).sum())
    if bad:
        raise InputError(
            f"{label}: {bad} of {data.size} voxels are NaN or infinite; expected finite values. "
            "Set the background to 0 in the program that made the file."
        )
    return data


def damaged_file(label: str, error: Exception) -> InputError:
    """What to tell of a file that cannot be read to its end.

    Args:
        label: what and path.
        error: the reader's own.
    """
    return InputError(f"{label}: the file ends too early or is damaged ({error}); copy it again")


def _check_gzip(path: Path, label: str) -> None:
    # nibabel stops at the last voxel and never reaches the checksum, which stands at the end.
    try:
        with gzip.open(path) as stream:
            while stream.read(1 << 20):
                pass
    except (OSError, EOFError, zlib.error) as error:
        raise damaged_file(label, error) from error


def load_mask(path: str | os.PathLike, what: str = "mask") -> Volume:
    """Read a mask of 0 and one other value; returns a Volume whose data are 0.0 or 1.0.

    An all-zero mask is allowed: a patient may have no lesion.

    Raises:
        InputError: as :func:`load_volume`, or if values are not those of a mask.
    """
    volume = load_volume(path, what, may_be_constant=True)
    values = np.unique(volume.data)
    if len(values) > 2 or (values[0] != 0 and not np.array_equal(values, [1])):
        raise InputError(
            f"{what} {path}: holds {len(values)} different values "
            f"({values[0]:g} to {values[-1]:g}); expected a mask of 0 and 1, background 0"
        )
    return dataclasses.replace(volume, data=(volume.data > 0).astype(np.float32))


def _checked_affine(image: nib.Nifti1Pair, label: str) -> NDArray[np.float64]:
    affine = np.asarray(image.affine, dtype=np.float64)
    header = image.header
    spacing = np.sqrt((affine[:3, :3] ** 2).sum(axis=0))
    # Of unit vectors, so that voxels of any size, an affine in metres too, pass this check.
    if not np.isfinite(affine).all() or not (
        spacing.min() > 0 and abs(np.linalg.det(affine[:3, :3] / spacing)) > 1e-3
    ):
        raise InputError(f"{label}: the affine is singular or not finite; orientation is unknown")
    try:
        qform, sform = header.get_qform(coded=True), header.get_sform(coded=True)
    except (HeaderDataError, ValueError) as error:
        raise InputError(f"{label}: the qform in the header is damaged ({error})") from error
    if not qform[1] and not sform[1]:
        raise InputError(
            f"{label}: qform and sform codes are both 0, so left and right are unknown; expected "
            "an orientation in the header. Convert the scanner's DICOM files again (dcm2niix)."
        )
    if qform[1] and sform[1]:
        # Compare directions only: programs round offsets differently, never by an axis.
        directions = [
            m[:3, :3] / np.sqrt((m[:3, :3] ** 2).sum(axis=0)) for m in (qform[0], sform[0])
        ]
        if (directions[0] * directions[1]).sum(axis=0).min() < 0.9:
            raise InputError(
                f"{label}: qform ({''.join(nib.aff2axcodes(qform[0]))}) and sform "
                f"({''.join(nib.aff2axcodes(sform[0]))}) point in different directions, so left "
                "and right are unsure; find out which is right and set both to it."
            )
    if spacing.min() < VOXEL_RANGE_MM[0] or spacing.max() > VOXEL_RANGE_MM[1]:
        raise InputError(
            f"{label}: voxels of {' x '.join(f'{s:g}' for s in spacing)} mm; expected "
            f"{VOXEL_RANGE_MM[0]:g} to {VOXEL_RANGE_MM[1]:g} mm. Is the affine in millimetres?"
        )
    axes = affine[:3, :3] / spacing
    shear = np.abs(axes.T @ axes - np.eye(3)).max()
    if shear > 0.01:
        raise InputError(
            f"{label}: the axes are not at right angles (cosine {shear:.3f}); expected an affine "
            "without shear. Resample the image to an orthogonal grid first."
        )
    return affine


def to_nifti_bytes(data: NDArray, affine: NDArray, description: str = "") -> bytes:
    """A gzipped NIfTI file as bytes; the same input gives the same bytes (no time stamp).

    Args:
        data: bool and uint8 become uint8, everything else float32.
        affine: [4, 4], written to qform and sform.
        description: header text, 79 characters at most.
    """
    dtype = np.uint8 if data.dtype in (np.bool_, np.uint8) else np.float32
    image = nib.Nifti1Image(np.ascontiguousarray(data, dtype=dtype), affine)
    image.header.set_xyzt_units("mm", "sec")
    image.header["descrip"] = description.encode("ascii", "replace")[:79]
    image.set_qform(affine, code=2)
    image.set_sform(affine, code=2)
    return gzip.compress(image.to_bytes(), compresslevel=4, mtime=0)


def save_volume(
    path: str | os.PathLike, data: NDArray, affine: NDArray, description: str = ""
) -> None:
    """Write a ``.nii.gz`` file atomically; see :func:`to_nifti_bytes`."""
    atomic.write_bytes(path, to_nifti_bytes(data, affine, description))


def require_grid(volume: Volume, what: str) -> NDArray[np.float32]:
    """The data of a volume that must lie on the MNI grid of :mod:`data_tools.grid`.

    Raises:
        InputError: on another shape or affine.
    """
    if volume.data.shape != GRID_SHAPE or not np.allclose(volume.affine, GRID_AFFINE, atol=1e-3):
        raise InputError(
            f"{what} {volume.path}: shape {volume.data.shape}, orientation {volume.orientation}; "
            f"expected the MNI grid {GRID_SHAPE}, 2 mm, RAS. Run python -m data_tools.preprocess."
        )
    return volume.data
