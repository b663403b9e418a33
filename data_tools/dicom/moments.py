"""What a scanner's file says of time: which frame of a scan it is, when it was taken, TR and TE.

Vendors say it in different places: Siemens in AcquisitionTime, and of a mosaic's slices in a
private list; GE in TriggerTime; Philips in TemporalPositionIdentifier and a private start of the
dynamic scan; enhanced files in the functional groups of each frame.
"""

import dataclasses
import re
from collections.abc import Callable, Mapping
from typing import Any

from data_tools.dicom.vendors import numbers_of, private_value

DAY_S = 86400.0
# DICOM's time HHMMSS.FFFFFF, with its colons of old or without, and the end of a DateTime.
_TIME = re.compile(r"(\d{2}):?(\d{2}):?(\d{2}(?:\.\d+)?)")
_DATE_TIME = re.compile(r"\d{8}(\d{2})(\d{2})(\d{2}(?:\.\d+)?)")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Moment:
    """When a slice was taken; None is what the file does not say.

    Attributes:
        acquired_s: time of day of its acquisition.
        since_s: from the start of the series.
        position: number of its frame in time.
        acquisition: AcquisitionNumber.
        content_s: time of day of its content.
        within_s: from the start of its own frame.
        echo_time_s: TE.
        repetition_time_s: TR.
        volumetric: taken as a whole volume (3D), whose TR is not the time between frames.
    """

    acquired_s: float | None = None
    since_s: float | None = None
    position: int | None = None
    acquisition: int | None = None
    content_s: float | None = None
    within_s: float | None = None
    echo_time_s: float | None = None
    repetition_time_s: float | None = None
    volumetric: bool = False


def moment_of(data: Any, group: Callable[[str], Any] | None = None) -> Moment:
    """When an image, or one frame of an enhanced file, was taken.

    Args:
        data: the file, a pydicom dataset.
        group: of enhanced files: a functional group's item by its name, or None.
    """
    content, echo, timing, place = (
        (group(name) if group else None)
        for name in (
            "FrameContentSequence",
            "MREchoSequence",
            "MRTimingAndRelatedParametersSequence",
            "TemporalPositionSequence",
        )
    )
    echo_ms = _number(echo, "EffectiveEchoTime") or _number(data, "EchoTime")
    repetition_ms = _number(timing, "RepetitionTime") or _number(data, "RepetitionTime")
    since_s = _number(place, "TemporalPositionTimeOffset")
    trigger_ms = _number(data, "TriggerTime")
    if since_s is None and group is None:
        since_s = _philips_start_s(data)
    if since_s is None and group is None and trigger_ms is not None:
        since_s = trigger_ms / 1000
    acquired_s = _clock_s(content, "FrameAcquisitionDateTime", _DATE_TIME)
    if acquired_s is None and group is None:
        acquired_s = _clock_s(data, "AcquisitionTime", _TIME)
        if acquired_s is None:
            acquired_s = _clock_s(data, "AcquisitionDateTime", _DATE_TIME)
    position = _number(content, "TemporalPositionIndex")
    if position is None and group is None:
        position = _number(data, "TemporalPositionIdentifier")
    acquisition = _number(content if group else data, "FrameAcquisitionNumber" if group else
                          "AcquisitionNumber")  # fmt: skip
    return Moment(
        acquired_s=acquired_s,
        since_s=since_s,
        position=None if position is None else int(position),
        acquisition=None if acquisition is None else int(acquisition),
        content_s=None if group else _clock_s(data, "ContentTime", _TIME),
        echo_time_s=echo_ms / 1000 if echo_ms else None,
        repetition_time_s=repetition_ms / 1000 if repetition_ms else None,
        volumetric=str(data.get("MRAcquisitionType", "")).strip().upper() == "3D",
    )


def slice_times_s(data: Any, header: Mapping[str, Any], count: int) -> list[float] | None:
    """When each slice of a Siemens mosaic was taken within its frame; None if nothing says it.

    Args:
        data: the file.
        header: its private header as nibabel reads it.
        count: of slices.
    """
    said = private_value(data, (0x0019, 0x29), "SIEMENS MR HEADER", "FD")
    if said is None:
        said = header.get("tags", {}).get("MosaicRefAcqTimes", {}).get("items")
    times_ms = numbers_of(said)[:count]
    if len(times_ms) != count or max(times_ms) == min(times_ms):
        return None
    first = min(times_ms)
    return [(each - first) / 1000 for each in times_ms]


def _philips_start_s(data: Any) -> float | None:
    if "philips" not in str(data.get("Manufacturer", "")).lower():
        return None
    found = numbers_of(private_value(data, (0x2005, 0xA0), "Philips MR Imaging DD 001", "FL"))
    return found[0] if found else None


def _number(place: Any, keyword: str) -> float | None:
    found = numbers_of(place.get(keyword)) if place is not None else []
    return found[0] if found else None


def _clock_s(place: Any, keyword: str, pattern: re.Pattern[str]) -> float | None:
    """Seconds of the day."""
    match = pattern.match(str(place.get(keyword) or "")) if place is not None else None
    if match is None:
        return None
    return 3600.0 * int(match[1]) + 60.0 * int(match[2]) + float(match[3])
