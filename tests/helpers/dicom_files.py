"""Simulated images as a scanner's DICOM files, for tests."""

import numpy as np

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def write_series(
    folder, volumes, affine, *, number, description, kind, patient="P1", study="1.2.3", b_values=()
):
    """One file a slice, as Siemens writes them; ``volumes`` are [x, y, z], RAS+ ``affine``."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid

    folder.mkdir(parents=True, exist_ok=True)
    lps = LPS @ affine
    spacing = np.sqrt((lps[:3, :3] ** 2).sum(axis=0))
    axes = lps[:3, :3] / spacing
    series, instance = generate_uid(), 0
    for image, volume in enumerate(volumes):
        for level in range(volume.shape[2]):
            instance += 1
            data = Dataset()
            data.file_meta = FileMetaDataset()
            data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
            data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = MRImageStorage
            data.SOPInstanceUID = generate_uid()
            data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
            data.Modality, data.Manufacturer, data.ImageType = "MR", "SIEMENS", kind
            data.PatientID = data.PatientName = patient
            data.StudyInstanceUID, data.SeriesInstanceUID = study, series
            data.FrameOfReferenceUID = f"{study}.1"
            data.SeriesNumber, data.InstanceNumber = number, instance
            data.AcquisitionNumber = image + 1
            data.SeriesDescription = data.ProtocolName = description
            data.StudyDate = data.SeriesDate = data.AcquisitionDate = "20200101"
            data.StudyTime, data.AcquisitionTime = "100000", f"1000{image:02d}"
            data.MRAcquisitionType, data.ScanningSequence = "2D", "EP"
            data.EchoTime, data.RepetitionTime, data.PatientPosition = 90, 5000, "HFS"
            data.PixelSpacing = [float(spacing[1]), float(spacing[0])]
            data.SliceThickness = data.SpacingBetweenSlices = float(spacing[2])
            data.ImageOrientationPatient = [float(x) for x in (*axes[:, 0], *axes[:, 1])]
            data.ImagePositionPatient = [float(x) for x in lps[:3, 3] + lps[:3, 2] * level]
            data.Columns, data.Rows = volume.shape[:2]
            data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
            data.BitsAllocated = data.BitsStored = 16
            data.HighBit, data.PixelRepresentation = 15, 0
            if b_values:
                block = data.private_block(0x0019, "SIEMENS MR HEADER", create=True)
                block.add_new(0x0C, "IS", str(b_values[image]))
            pixels = volume[:, :, level].T.round().clip(0, 65535).astype("<u2")
            data.PixelData = np.ascontiguousarray(pixels).tobytes()
            path = folder / f"IM{number:02d}{instance:04d}.dcm"
            data.save_as(path, enforce_file_format=True)
