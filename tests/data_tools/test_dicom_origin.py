"""Scanner, time and series of DICOM images in words; no name of a patient among them."""

import pydicom
import pytest
from pydicom.dataset import FileMetaDataset

from data_tools.dicom.origin import origin_of

pytestmark = pytest.mark.quick


def written(folder, **tags):
    data = pydicom.Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    data.SOPClassUID, data.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.4", "1.2.3"
    data.PatientName, data.PatientID = "Doe^Jane", "4711"
    for name, value in tags.items():
        setattr(data, name, value)
    path = folder / "one.dcm"
    data.save_as(path, enforce_file_format=True)
    return path


@pytest.mark.parametrize(
    ("tags", "scanner", "acquired"),
    [
        (
            {
                "Manufacturer": "SIEMENS", "ManufacturerModelName": "Skyra",
                "MagneticFieldStrength": "3", "AcquisitionDate": "20260131",
                "AcquisitionTime": "123456.70",
            },
            "SIEMENS Skyra, 3 T", "2026-01-31 12:34",
        ),
        (
            {
                "Manufacturer": "Philips", "ManufacturerModelName": "Philips Ingenia",
                "MagneticFieldStrength": "1.494", "AcquisitionDateTime": "20260131235900.0+0100",
            },
            "Philips Ingenia, 1.5 T", "2026-01-31 23:59",
        ),
        ({"StudyDate": "20260131", "MagneticFieldStrength": None}, None, "2026-01-31"),
        ({"StudyTime": "1200"}, None, None),
    ],
)  # fmt: skip
def test_what_the_files_say(tmp_path, tags, scanner, acquired):
    found = origin_of(written(tmp_path, **tags), "series 3, TRACEW")
    assert (found.scanner, found.acquired, found.series) == (scanner, acquired, "series 3, TRACEW")
    assert "Doe" not in str(found) and "4711" not in str(found)
