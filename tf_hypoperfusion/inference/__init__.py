"""One patient's images -> the result: volumes, decision, warnings, page, DICOM objects."""
