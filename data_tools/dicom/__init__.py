"""A folder of scanners' DICOM files -> the images of its diffusion study (extra ``dicom``)."""
