"""Where DICOM images come from, in words that name no patient: scanner, time and series."""

import dataclasses
from pathlib import Path
from typing import Any

_TAGS = [
    "SpecificCharacterSet", "Manufacturer", "ManufacturerModelName", "MagneticFieldStrength",
    "AcquisitionDateTime", "AcquisitionDate", "AcquisitionTime", "SeriesDate", "SeriesTime",
    "StudyDate", "StudyTime",
]  # fmt: skip


@dataclasses.dataclass(frozen=True, kw_only=True)
class Origin:
    """What the files say of their making; None is what they do not say.

    Attributes:
        scanner: manufacturer, model and field strength.
        acquired: as ``2026-01-31 12:34``, in the time of the scanner.
        series: number and description of the DWI's series.
    """

    scanner: str | None
    acquired: str | None
    series: str


def origin_of(file: Path, series: str) -> Origin:
    """Read the origin of an image.

    Args:
        file: one of its DICOM files.
        series: its series in words.
    """
    import pydicom

    data = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=_TAGS)
    return Origin(scanner=_scanner(data), acquired=_acquired(data), series=series)


def _scanner(data: Any) -> str | None:
    maker, model = _text(data, "Manufacturer"), _text(data, "ManufacturerModelName")
    if model.lower().startswith(maker.lower()):
        maker = ""
    try:
        field = f"{float(_text(data, 'MagneticFieldStrength')):.2g} T"
    except ValueError:
        field = ""
    name = " ".join(filter(None, (maker, model)))
    return ", ".join(filter(None, (name, field))) or None


def _acquired(data: Any) -> str | None:
    both = _text(data, "AcquisitionDateTime")
    moments = [(both[:8], both[8:12])] + [
        (_text(data, f"{what}Date"), _text(data, f"{what}Time"))
        for what in ("Acquisition", "Series", "Study")
    ]
    for date, time in moments:
        date, time = date.replace(".", ""), time.replace(":", "")
        if len(date) == 8 and date.isdigit():
            day = f"{date[:4]}-{date[4:6]}-{date[6:]}"
            known = len(time) >= 4 and time[:4].isdigit()
            return f"{day} {time[:2]}:{time[2:4]}" if known else day
    return None


def _text(data: Any, name: str) -> str:
    value = data.get(name)
    if isinstance(value, list | tuple) or hasattr(value, "__iter__") and not isinstance(value, str):
        value = next(iter(value), None)
    return "" if value is None else str(value).strip()
