"""Simulated images as scanners' DICOM files, for tests: one slice a file, enhanced, and mosaics.

Each vendor's b-values and directions stand where its conformance statement puts them.
"""

import struct

import numpy as np

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
TRACE = (0.0, 0.0, 0.0)


def write_series(
    folder, volumes, affine, *, number, description, kind, patient="P1", study="1.2.3",
    b_values=(), directions=None, maker="SIEMENS", scale=None, series=None, change=None,
    first=1,
):  # fmt: skip
    """One file a slice; ``volumes`` are [x, y, z], RAS+ ``affine``.

    ``directions`` has a vector for each image, ``TRACE`` for a trace image. ``scale(image, level)``
    gives slope and intercept. ``kind`` is the type of all images, or a list of one for each.
    ``change(data, image, level)`` does what else there is to do. Returns the series' UID.
    """
    from pydicom.uid import generate_uid

    folder.mkdir(parents=True, exist_ok=True)
    series, instance = series or generate_uid(), first - 1
    for image, volume in enumerate(volumes):
        for level in range(volume.shape[2]):
            instance += 1
            its_kind = kind[image] if isinstance(kind[0], (list, tuple)) else kind
            data = _basic(number, description, list(its_kind), maker, patient, study, series)
            data.InstanceNumber, data.AcquisitionNumber = instance, image + 1
            data.AcquisitionTime = f"1000{image:02d}"
            axes, spacing, lps = _geometry(affine)
            data.PixelSpacing = [float(spacing[1]), float(spacing[0])]
            data.SliceThickness = data.SpacingBetweenSlices = float(spacing[2])
            data.ImageOrientationPatient = _texts((*axes[:, 0], *axes[:, 1]))
            data.ImagePositionPatient = _texts(lps[:3, 3] + lps[:3, 2] * level)
            if len(b_values):
                direction = TRACE if directions is None else directions[image]
                WEIGHTINGS[maker.split()[0].lower()](data, b_values[image], direction)
            shown = volume[:, :, level]
            if scale is not None:
                slope, intercept = scale(image, level)
                data.RescaleSlope, data.RescaleIntercept = f"{slope:.8g}", f"{intercept:.8g}"
                shown = (shown - intercept) / slope
            _pixels(data, shown.T)
            if change is not None:
                change(data, image, level)
            name = f"IM{number or 0:02d}{instance:04d}.dcm"
            data.save_as(folder / name, enforce_file_format=True)
    return series


def write_enhanced(
    path, volumes, affine, *, number, description, kind, b_values=None, directions=None,
    maker="Philips", scale=(1.0, 0.0), series=None, study="1.2.3", shares=True,
):  # fmt: skip
    """One file with a frame for each slice of each image; ``shares``: with one geometry for all."""
    from pydicom.dataset import Dataset
    from pydicom.uid import EnhancedMRImageStorage, generate_uid

    path.parent.mkdir(parents=True, exist_ok=True)
    data = _basic(number, description, list(kind), maker, "P1", study, series or generate_uid())
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = EnhancedMRImageStorage
    data.InstanceNumber = 1
    axes, spacing, lps = _geometry(affine)
    shared = Dataset()
    shared.PixelMeasuresSequence = [_item(
        PixelSpacing=[float(spacing[1]), float(spacing[0])], SliceThickness=float(spacing[2]),
        SpacingBetweenSlices=float(spacing[2]),
    )]  # fmt: skip
    shared.PlaneOrientationSequence = [
        _item(ImageOrientationPatient=_texts((*axes[:, 0], *axes[:, 1])))
    ]
    slope, intercept = scale
    shared.PixelValueTransformationSequence = [
        _item(RescaleSlope=f"{slope:.8g}", RescaleIntercept=f"{intercept:.8g}", RescaleType="US")
    ]
    data.SharedFunctionalGroupsSequence = [shared]
    geometry = {
        name: shared[name] for name in ("PixelMeasuresSequence", "PlaneOrientationSequence")
    }
    if not shares:
        for name in geometry:
            del shared[name]
    frames, described = [], []
    for image, volume in enumerate(volumes):
        for level in range(volume.shape[2]):
            frame = _item(
                PlanePositionSequence=[_item(
                    ImagePositionPatient=_texts(lps[:3, 3] + lps[:3, 2] * level)
                )],
                FrameContentSequence=[_item(DimensionIndexValues=[image + 1, level + 1])],
                MRImageFrameTypeSequence=[_item(FrameType=list(kind))],
            )  # fmt: skip
            if not shares:
                frame.update(geometry)
            if b_values is not None:
                direction = TRACE if directions is None else directions[image]
                weighting = _item(DiffusionBValue=float(b_values[image]))
                if any(direction):
                    weighting.DiffusionDirectionality = "DIRECTIONAL"
                    weighting.DiffusionGradientDirectionSequence = [
                        _item(DiffusionGradientOrientation=[float(x) for x in direction])
                    ]
                else:
                    weighting.DiffusionDirectionality = "ISOTROPIC" if b_values[image] else "NONE"
                frame.MRDiffusionSequence = [weighting]
            described.append(frame)
            frames.append((volume[:, :, level].T - intercept) / slope)
    data.PerFrameFunctionalGroupsSequence = described
    data.NumberOfFrames = len(frames)
    _pixels(data, np.stack(frames))
    data.save_as(path, enforce_file_format=True)


def write_mosaic(path, volume, affine, *, number, description, kind, b_value=None, series=None):
    """All slices of one image tiled in a plane, as Siemens writes them, with its private header."""
    axes, spacing, lps = _geometry(affine)
    columns, rows, slices = volume.shape
    across = int(np.ceil(np.sqrt(slices)))
    mosaic = np.zeros((rows * across, columns * across), volume.dtype)
    for k in range(slices):
        row, column = k // across * rows, k % across * columns
        mosaic[row : row + rows, column : column + columns] = volume[:, :, k].T
    from pydicom.uid import generate_uid

    path.parent.mkdir(parents=True, exist_ok=True)
    kind = [*kind, "MOSAIC"]
    data = _basic(number, description, kind, "SIEMENS", "P1", "1.2.3", series or generate_uid())
    data.InstanceNumber = int(b_value or 0) + 1
    data.PixelSpacing = [float(spacing[1]), float(spacing[0])]
    data.SliceThickness = data.SpacingBetweenSlices = float(spacing[2])
    data.ImageOrientationPatient = _texts((*axes[:, 0], *axes[:, 1]))
    # The first pixel of a plane as large as the mosaic about the first slice's centre.
    shift = lps[:3, 0] * columns * (across - 1) / 2 + lps[:3, 1] * rows * (across - 1) / 2
    data.ImagePositionPatient = _texts(lps[:3, 3] - shift)
    if b_value is not None:
        _siemens(data, b_value, TRACE)
    block = data.private_block(0x0029, "SIEMENS CSA HEADER", create=True)
    normal = lps[:3, 2] / spacing[2]
    header = {
        "NumberOfImagesInMosaic": (b"US", [str(slices)]),
        "AcquisitionMatrixText": (b"SH", [f"{rows}*{columns}"]),
        "SliceNormalVector": (b"FD", [f"{x:.8f}" for x in normal]),
    }
    block.add_new(0x10, "OB", _csa(header))
    _pixels(data, mosaic)
    data.save_as(path, enforce_file_format=True)


def _csa(tags):
    """Siemens' CSA2 header of texts."""
    made = b"SV10\4\3\2\1" + struct.pack("<2I", len(tags), 77)
    for name, (kind, values) in tags.items():
        made += struct.pack("<64si4s3i", name.encode(), len(values), kind, 4, len(values), 77)
        for value in values:
            text = value.encode() + b"\0"
            made += struct.pack("<4i", len(text), len(text), 77, len(text))
            made += text + b"\0" * (-len(text) % 4)
    return made + b"\0" * (-len(made) % 2)


def _basic(number, description, kind, maker, patient, study, series):  # noqa: PLR0917
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid

    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = MRImageStorage
    data.SOPInstanceUID = generate_uid()
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
    data.Modality, data.Manufacturer, data.ImageType = "MR", maker, kind
    data.PatientID = data.PatientName = patient
    data.StudyInstanceUID, data.SeriesInstanceUID = study, series
    data.FrameOfReferenceUID = f"{study}.1"
    if number is not None:
        data.SeriesNumber = number
    data.SeriesDescription = data.ProtocolName = description
    data.StudyDate = data.SeriesDate = data.AcquisitionDate = "20200101"
    data.StudyTime, data.AcquisitionTime = "100000", "100000"
    data.MRAcquisitionType, data.ScanningSequence = "2D", "EP"
    data.EchoTime, data.RepetitionTime, data.PatientPosition = 90, 5000, "HFS"
    return data


def _geometry(affine):
    """Unit axes (LPS), spacing, and index -> LPS."""
    lps = LPS @ affine
    spacing = np.sqrt((lps[:3, :3] ** 2).sum(axis=0))
    return lps[:3, :3] / spacing, spacing, lps


def _texts(numbers):
    """Decimal strings of at most 16 characters, as the standard wants."""
    return [f"{number:.9g}" if abs(number) > 1e-6 else "0" for number in numbers]


def _pixels(data, shown):
    stored = np.ascontiguousarray(np.asarray(shown).round().clip(0, 65535).astype("<u2"))
    data.Rows, data.Columns = stored.shape[-2:]
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated = data.BitsStored = 16
    data.HighBit, data.PixelRepresentation = 15, 0
    data.PixelData = stored.tobytes()


def _item(**values):
    from pydicom.dataset import Dataset

    item = Dataset()
    for name, value in values.items():
        setattr(item, name, value)
    return item


def _siemens(data, b_value, direction):
    block = data.private_block(0x0019, "SIEMENS MR HEADER", create=True)
    block.add_new(0x0C, "IS", str(int(b_value)))
    if any(direction):
        block.add_new(0x0D, "CS", "DIRECTIONAL")
        block.add_new(0x0E, "FD", [float(x) for x in direction])


def _ge(data, b_value, direction):
    acquired = data.private_block(0x0019, "GEMS_ACQU_01", create=True)
    for element, part in zip((0xBB, 0xBC, 0xBD), direction, strict=True):
        acquired.add_new(element, "DS", f"{part:.5f}")
    parameters = data.private_block(0x0043, "GEMS_PARM_01", create=True)
    parameters.add_new(0x39, "IS", [int(b_value) + (1_000_000_000 if b_value else 0), 8, 0, 0])
    parameters.add_new(0x30, "SS", 14 if b_value == 0 else 16 if any(direction) else 15)


def _philips(data, b_value, direction):
    data.DiffusionBValue = float(b_value)
    data.DiffusionGradientOrientation = [float(x) for x in direction]
    word = "P" if any(direction) else "I" if b_value else "N"
    data.private_block(0x2001, "Philips Imaging DD 001", create=True).add_new(0x04, "CS", word)


def _public(data, b_value, direction):
    data.DiffusionBValue = float(b_value)
    if any(direction):
        data.DiffusionDirectionality = "DIRECTIONAL"
        data.DiffusionGradientOrientation = [float(x) for x in direction]
    else:
        data.DiffusionDirectionality = "ISOTROPIC" if b_value else "NONE"


def _united_imaging(data, b_value, direction):
    block = data.private_block(0x0065, "Image Private Header", create=True)
    block.add_new(0x09, "FD", float(b_value))
    block.add_new(0x37, "FD", [float(x) for x in direction])


WEIGHTINGS = {
    "siemens": _siemens,
    "ge": _ge,
    "philips": _philips,
    "canon_mec": _public,
    "hitachi": _public,
    "uih": _united_imaging,
}
