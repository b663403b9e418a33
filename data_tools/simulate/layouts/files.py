"""Image files with every quirk that files of public data sets have.

Which quirks a patient's files have goes by the patient's place in the set, so that a few patients
show all of them.
"""

import dataclasses
import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.orientations import (
    apply_orientation,
    axcodes2ornt,
    inv_ornt_aff,
    io_orientation,
    ornt_transform,
)
from numpy.typing import NDArray

from data_tools.itk_files import LPS_TO_RAS
from data_tools.runtime import atomic
from data_tools.simulate.layouts.volumes import STEP

ORIENTATIONS = ("RAS", "LPS", "LAS", "ASL")
# What headers of the archives say in place of TR.
WRONG_STEP_S = 1.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Quirks:
    """How a patient's files are written.

    Attributes:
        orientation: of the axes in the file.
        whole_numbers: int16 with a slope, where that holds the values; otherwise float32.
        nan_around: what is not brain is NaN; of float32 only.
        itk_one: one image is a MetaImage.
        flat: files lie beside each other under short names, compressed.
        adc_factor: of ADC in the file, from 1e-6 mm2/s.
    """

    orientation: str
    whole_numbers: bool
    nan_around: bool
    itk_one: bool
    flat: bool
    adc_factor: float

    @classmethod
    def of(cls, place: int) -> "Quirks":
        """Those of the patient at a place in the set, from 0."""
        return cls(
            orientation=ORIENTATIONS[place % len(ORIENTATIONS)],
            whole_numbers=place % 2 == 0,
            nan_around=place % 4 == 1,
            itk_one=place % 4 == 2,
            flat=place % 8 == 7,
            adc_factor=1e-3 if place % 8 == 3 else 1.0,
        )


def write(path: Path, data: NDArray, affine: NDArray[np.float64], quirks: Quirks) -> None:
    """Write an image.

    Args:
        path: its ending says the format: ``.nii``, ``.nii.gz``, ``.mha``.
        data: [x, y, z] or [x, y, z, t], which becomes [x, y, z, 1, t].
        affine: index -> mm, RAS+.
        quirks: of the patient.
    """
    turn = ornt_transform(io_orientation(affine), axcodes2ornt(tuple(quirks.orientation)))
    affine = affine @ inv_ornt_aff(turn, data.shape[:3])
    data = apply_orientation(data, turn)
    if data.ndim == 4:
        data = data[:, :, :, None, :].astype(np.int16)
        atomic.write_bytes(path, _nifti(data, affine, path))
        return
    if path.suffix == ".mha":
        _write_meta(path, data, affine)
        return
    slope = None
    if data.dtype == bool:
        data = data.astype(np.uint8)
    elif quirks.whole_numbers and np.array_equal(data, np.round(data / STEP) * STEP):
        slope = 1.0 if np.array_equal(data, np.round(data)) else STEP
        data = np.round(data / slope).astype(np.int16)
    elif quirks.nan_around:
        data = np.where(data == 0, np.float32(np.nan), data)
    atomic.write_bytes(path, _nifti(data, affine, path, slope))


def _nifti(
    data: NDArray, affine: NDArray[np.float64], path: Path, slope: float | None = None
) -> bytes:
    image = nib.Nifti1Image(np.ascontiguousarray(data), affine)
    image.header.set_xyzt_units("mm", "sec")
    image.set_qform(affine, code=1)
    image.set_sform(affine, code=1)
    if data.ndim == 5:
        image.header["pixdim"][5] = WRONG_STEP_S
    if slope is not None:
        image.header.set_slope_inter(slope, 0)
    content = image.to_bytes()
    return gzip.compress(content, compresslevel=1, mtime=0) if path.suffix == ".gz" else content


def _write_meta(path: Path, data: NDArray, affine: NDArray[np.float64]) -> None:
    import SimpleITK as sitk

    data = data.astype(np.uint8) if data.dtype == bool else data.astype(np.float32)
    image = sitk.GetImageFromArray(np.ascontiguousarray(data.T))
    lps = LPS_TO_RAS @ affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    with atomic.replacing(path) as temporary:
        sitk.WriteImage(image, str(temporary))
