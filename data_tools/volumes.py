"""Images in, NIfTI out: 3D volumes in millimetres, and what reading their files showed.

A :class:`Volume` is data plus the affine that takes a voxel's index to millimetres (RAS+: x to
the patient's right, y to the front, z up). Nothing here flips or reorients data; what does
(resampling) works through the affine.
"""

import dataclasses
import gzip
import os
from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from data_tools.grid import GRID_AFFINE, GRID_SHAPE
from data_tools.image_files import open_image
from data_tools.nifti_header import Place
from data_tools.runtime import atomic
from data_tools.runtime.errors import InputError


@dataclasses.dataclass(frozen=True)
class Reading:
    """What reading a file showed besides the voxels.

    Attributes:
        notes: what was decided about its header.
        other_affine: by its other form, if that puts it elsewhere.
        absent: bool, shape of the data: NaN or infinite in the file, 0 in the data; None if
            there is none.
    """

    notes: tuple[str, ...] = ()
    other_affine: NDArray[np.float64] | None = None
    absent: NDArray[np.bool_] | None = None


PLAIN = Reading()


@dataclasses.dataclass(frozen=True)
class Volume:
    """One 3D image.

    Attributes:
        data: float32 [i, j, k], finite.
        affine: float64 [4, 4], index -> mm, RAS+.
        path: where it came from, for messages.
        reading: what reading its file showed.
    """

    data: NDArray[np.float32]
    affine: NDArray[np.float64]
    path: str = ""
    reading: Reading = PLAIN

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
        return apart_mm(self.affine, other.affine, self.data.shape) < 0.01


def apart_mm(one: NDArray[np.floating], other: NDArray[np.floating], shape: Sequence[int]) -> float:
    """How far apart two affines put a grid's corners, along the axis where it is most.

    Args:
        one: [4, 4], index -> mm.
        other: another one.
        shape: of the grid.
    """
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in shape])).reshape(3, -1)
    difference = (one - other)[:3]
    return float(np.abs(difference[:, :3] @ corners + difference[:, 3:]).max())


def load_volume(
    path: str | os.PathLike,
    what: str = "image",
    may_be_constant: bool = False,
    *,
    may_have_gaps: bool = False,
) -> Volume:
    """Read an image file and check that it can be trusted.

    Args:
        path: NIfTI, MetaImage or NRRD; 3D, or 4D with a single volume.
        what: ``DWI``, ``ADC``..., for messages.
        may_be_constant: a mask, or a probability that is 0 everywhere, is no empty image.
        may_have_gaps: take NaN and infinity as 0 and remember where they are, for
            :func:`data_tools.plausibility.check_gaps`; otherwise they are refused.

    Returns:
        A Volume of float32 data in the file's own orientation and unit.

    Raises:
        InputError: as :func:`data_tools.image_files.open_image`; not 3D, NaN or infinity, constant
            values.
    """
    path = Path(path)
    label = f"{what} {path}"
    file = open_image(path, what)
    shape = file.plain_shape
    if len(shape) != 3 or min(shape) < 2:
        raise InputError(f"{label}: has shape {tuple(file.shape)}; expected one 3D volume")
    data = (file.read() if may_have_gaps else file.read_finite()).reshape(shape)
    data, absent = without_gaps(data)
    if not may_be_constant:
        require_contrast(data, absent, label)
    return Volume(data, file.place.affine, str(path), reading_of(what, file.place, absent))


def require_contrast(
    data: NDArray[np.float32], absent: NDArray[np.bool_] | None, label: str
) -> None:
    """Refuse an image that shows nothing.

    Args:
        data: any shape.
        absent: of :func:`without_gaps`; may be another shape.
        label: what it is, and its file.

    Raises:
        InputError: every voxel is the same, or no number.
    """
    if data.min() != data.max():
        return
    nothing = absent is not None and absent.all()
    raise InputError(
        f"{label}: every voxel is {'NaN or infinite' if nothing else f'{data.flat[0]:g}'}; the "
        "image is empty. Expected an image of the patient; make the file anew"
    )


def without_gaps(
    data: NDArray[np.float32],
) -> tuple[NDArray[np.float32], NDArray[np.bool_] | None]:
    """NaN and infinity set to 0, and where they were; None if there are none."""
    absent = ~np.isfinite(data)
    if not absent.any():
        return data, None
    return np.where(absent, np.float32(0), data), absent


def reading_of(what: str, place: Place, absent: NDArray[np.bool_] | None) -> Reading:
    """What reading a file showed.

    Args:
        what: ``DWI``, ``ADC``..., for notes.
        place: of :func:`data_tools.image_files.open_image`.
        absent: of :func:`without_gaps`.
    """
    gaps = gaps_of(what, absent)
    return dataclasses.replace(gaps, notes=(*place.notes, *gaps.notes), other_affine=place.other)


def gaps_of(what: str, absent: NDArray[np.bool_] | None) -> Reading:
    """What is said of voxels that hold nothing.

    Args:
        what: ``DWI``, ``ADC``..., for notes.
        absent: of :func:`without_gaps`.
    """
    if absent is None:
        return PLAIN
    note = (
        f"{what}: {int(absent.sum())} of {absent.size} voxels are NaN or infinite and were taken "
        "as 0, background"
    )
    return Reading((note,), None, absent)


def load_mask(
    path: str | os.PathLike, what: str = "mask", *, may_have_gaps: bool = False
) -> Volume:
    """Read a mask of 0 and one other value; returns a Volume whose data are 0.0 or 1.0.

    An all-zero mask is allowed: a patient may have no lesion.

    Args:
        path: as :func:`load_volume` takes it.
        what: of what, for messages.
        may_have_gaps: as :func:`load_volume` takes it.

    Raises:
        InputError: as :func:`load_volume`, or if values are not those of a mask.
    """
    volume = load_volume(path, what, may_be_constant=True, may_have_gaps=may_have_gaps)
    values = np.unique(volume.data)
    if len(values) > 2 or (values[0] != 0 and not np.array_equal(values, [1])):
        raise InputError(
            f"{what} {path}: holds {len(values)} different values "
            f"({values[0]:g} to {values[-1]:g}); expected a mask of 0 and 1, background 0"
        )
    return dataclasses.replace(volume, data=(volume.data > 0).astype(np.float32))


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
