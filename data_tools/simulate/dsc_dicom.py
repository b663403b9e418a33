"""A simulated DSC scan as a scanner's file: one enhanced MR image, all frames with their times."""

import datetime
import io
import os
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from data_tools.dicom.study import require_pydicom
from data_tools.runtime import atomic
from data_tools.simulate.dsc import DscImages
from data_tools.simulate.dsc_files import LARGEST

if TYPE_CHECKING:
    from pydicom import Dataset

RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
KIND = ["ORIGINAL", "PRIMARY", "PERFUSION", "NONE"]
STARTED = datetime.datetime(2001, 1, 1, 12)


def write_enhanced(
    path: str | os.PathLike, images: DscImages, participant: str, field_strength_t: float
) -> None:
    """Write one file; the same scan of the same participant gives the same bytes.

    Slices have their places and the moment when each was taken. A scan with the fault ``no_tr`` or
    ``no_te`` lacks that attribute.

    Args:
        path: of the file, ``.dcm``.
        images: the scan.
        participant: PatientID.
        field_strength_t: of the scanner.

    Raises:
        InputError: the extra ``dicom`` is not installed.
    """
    require_pydicom()
    data = _head(participant, field_strength_t)
    data.SharedFunctionalGroupsSequence = [_shared(images)]
    data.PerFrameFunctionalGroupsSequence = _frames(images)
    _put_pixels(data, images.signal)
    buffer = io.BytesIO()
    data.save_as(buffer, enforce_file_format=True)
    atomic.write_bytes(path, buffer.getvalue())


def _head(participant: str, field_strength_t: float) -> "Dataset":
    from pydicom import uid
    from pydicom.dataset import FileMetaDataset

    def named(what: str) -> uid.UID:
        return uid.generate_uid(entropy_srcs=["data_tools.simulate", participant, what])

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = uid.EnhancedMRImageStorage
    meta.MediaStorageSOPInstanceUID = named("dsc")
    meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    data = _dataset(
        SOPClassUID=uid.EnhancedMRImageStorage,
        SOPInstanceUID=named("dsc"),
        StudyInstanceUID=named("study"),
        SeriesInstanceUID=named("dsc series"),
        FrameOfReferenceUID=named("frame of reference"),
        PatientID=participant,
        PatientName=participant,
        PatientBirthDate="",
        PatientSex="",
        StudyDate=f"{STARTED:%Y%m%d}",
        StudyTime=f"{STARTED:%H%M%S}",
        AccessionNumber="",
        ReferringPhysicianName="",
        StudyID="1",
        SeriesNumber=1,
        InstanceNumber=1,
        Modality="MR",
        Manufacturer="Simulated",
        MagneticFieldStrength=field_strength_t,
        MRAcquisitionType="2D",
        PatientPosition="HFS",
        ImageType=KIND,
        SeriesDescription="simulated dynamic susceptibility contrast",
        ContrastBolusAgent="GADOLINIUM",
    )
    data.file_meta = meta
    return data


def _shared(images: DscImages) -> "Dataset":
    lps = RAS_TO_LPS @ images.affine
    spacing_mm = np.linalg.norm(lps[:3, :3], axis=0)
    axes = lps[:3, :3] / spacing_mm
    scan, echo, timing = images.scan, _dataset(), _dataset()
    if scan.fault != "no_te":
        echo.EffectiveEchoTime = scan.echo_time_s * 1000
    if scan.fault != "no_tr":
        timing.RepetitionTime = scan.repetition_time_s * 1000
    return _dataset(
        PixelMeasuresSequence=[
            _dataset(
                PixelSpacing=_decimals(spacing_mm[[1, 0]]),
                SliceThickness=_decimals(spacing_mm)[2],
                SpacingBetweenSlices=float(spacing_mm[2]),
            )
        ],
        PlaneOrientationSequence=[
            _dataset(ImageOrientationPatient=_decimals([*axes[:, 0], *axes[:, 1]]))
        ],
        PixelValueTransformationSequence=[
            _dataset(RescaleSlope="1", RescaleIntercept="0", RescaleType="US")
        ],
        MRImageFrameTypeSequence=[_dataset(FrameType=KIND)],
        MREchoSequence=[echo],
        MRTimingAndRelatedParametersSequence=[timing],
    )


def _frames(images: DscImages) -> list["Dataset"]:
    """One item for each slice of each frame, in the order of the pixels."""
    lps = RAS_TO_LPS @ images.affine
    found = []
    for frame, start_s in enumerate(images.times_s):
        for level, late_s in enumerate(images.slice_times_s):
            taken = STARTED + datetime.timedelta(seconds=float(start_s + late_s))
            content = _dataset(
                FrameAcquisitionDateTime=f"{taken:%Y%m%d%H%M%S.%f}",
                TemporalPositionIndex=frame + 1,
                DimensionIndexValues=[frame + 1, level + 1],
            )
            place = _dataset(ImagePositionPatient=_decimals(lps[:3, 3] + lps[:3, 2] * level))
            found.append(_dataset(FrameContentSequence=[content], PlanePositionSequence=[place]))
    return found


def _put_pixels(data: "Dataset", signal: NDArray[np.float32]) -> None:
    stored = np.clip(signal, 0, LARGEST).transpose(3, 2, 1, 0).astype("<u2")
    data.NumberOfFrames = stored.shape[0] * stored.shape[1]
    data.Rows, data.Columns = stored.shape[2:]
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated = data.BitsStored = 16
    data.HighBit, data.PixelRepresentation = 15, 0
    data.PixelData = stored.tobytes()


def _decimals(numbers: Any) -> list[str]:
    """Decimal strings of at most 16 characters, as the standard wants."""
    return [f"{number:.9g}" if abs(number) > 1e-6 else "0" for number in numbers]


def _dataset(**attributes: Any) -> "Dataset":
    from pydicom.dataset import Dataset

    data = Dataset()
    for keyword, value in attributes.items():
        setattr(data, keyword, value)
    return data
