"""Slices of a scan over time -> its frames in their order, and when each was taken.

Files may be numbered frame by frame or slice by slice, begin anew, or come in any order: what
counts is what they say of time.
"""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data_tools.dicom.frames import Frame, NoImages, check_place, pixels, read_folder
from data_tools.dicom.moments import DAY_S, Moment
from data_tools.dicom.stacks import Kind, affine_of, by_place, grouped, kind_of
from data_tools.dicom.study import check_one_patient, named_series, require_pydicom
from data_tools.runtime.errors import InputError, counted

# A scan over time; fewer images of one place are echoes, averages or weightings.
LEAST_FRAMES = 10
# Of the command that makes the maps; --series of others is the DWI's.
SERIES_FLAG, COMMAND = "--dicom_series", "python -m data_tools.perfusion"
# Echo times that differ by less are one.
SAME_ECHO_SHARE = 0.02

# Frames of two slices that are further apart, in steps from frame to frame, are not one.
MAX_APART_STEPS = 0.5

# What tells frames apart, the best first; and whether it is a time.
_CLOCKS: tuple[tuple[str, bool, Callable[[Moment], float | None]], ...] = (
    ("AcquisitionTime", True, lambda moment: moment.acquired_s),
    ("TriggerTime or time offset", True, lambda moment: moment.since_s),
    ("TemporalPositionIdentifier", False, lambda moment: moment.position),
    ("AcquisitionNumber", False, lambda moment: moment.acquisition),
    ("ContentTime", False, lambda moment: moment.content_s),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dynamic:
    """A scan over time.

    Attributes:
        data: float32 [x, y, z, t], as the scanner displays it.
        affine: index -> mm, RAS+.
        clock_s: [z, t], when each slice was taken, from the first; None if nothing says it.
        clock: the attribute that the order comes from.
        within_s: [z], of each slice within its frame by a list in the files; None without one.
        repetition_time_s: as the files say; None if they do not.
        echo_time_s: the same.
        volumetric: 3D, whose TR is not the time between frames.
        label: folder and series, for messages.
        notes: what was decided.
        warnings: what a person should look at.
    """

    data: NDArray[np.float32]
    affine: NDArray[np.float64]
    clock_s: NDArray[np.float64] | None
    clock: str
    within_s: NDArray[np.float64] | None
    repetition_time_s: float | None
    echo_time_s: float | None
    volumetric: bool
    label: str
    notes: tuple[str, ...]
    warnings: tuple[str, ...]


class NoScanOverTime(InputError):
    """A folder of DICOM files holds none, as one of a patient without perfusion imaging."""


def read_dynamic(
    folder: Path, series: str | None = None, echo_time_s: float | None = None
) -> Dynamic:
    """Read the one scan over time that a folder of DICOM files holds.

    Args:
        folder: of the files, in folders below too.
        series: the one to use: SeriesInstanceUID, number, or a piece of the description.
        echo_time_s: of the echo to use, where there are several.

    Raises:
        NoScanOverTime: there is none.
        InputError: the extra is missing; no DICOM files, a damaged one, those of several patients;
            several scans over time; lost slices; several echoes and none chosen.
    """
    require_pydicom()
    label = f"DICOM {folder}"
    try:
        scan = read_folder(folder)
    except NoImages as error:
        raise NoScanOverTime(str(error)) from error
    frames: Sequence[Frame] = scan.frames
    if series:
        uids = named_series(label, frames, series, SERIES_FLAG)
        frames = [frame for frame in frames if frame.head.uid in uids]
    check_one_patient(label, folder, frames, named=bool(series), flag=SERIES_FLAG)
    groups = [group for group in grouped(frames) if kind_of(group) is Kind.IMAGE]
    groups = [group for group in groups if _repeats(group) >= LEAST_FRAMES]
    if not groups:
        names = "; ".join(dict.fromkeys(frame.head.name for frame in frames))
        raise NoScanOverTime(
            f"{label}: holds no scan over time (found {names}); expected a raw perfusion series, "
            f"{LEAST_FRAMES} or more images of each slice"
        )
    if len(groups) > 1:
        names = "; ".join(group[0].head.name for group in groups)
        raise InputError(
            f"{label}: holds {len(groups)} scans over time ({names}); expected one. Choose it with "
            f"{SERIES_FLAG}=NUMBER of {COMMAND}."
        )
    return _built(label, groups[0], echo_time_s, scan.notes)


def _repeats(group: Sequence[Frame]) -> int:
    return int(np.median([len(slot) for slot in by_place(group)]))


def _built(
    label: str, group: Sequence[Frame], echo_time_s: float | None, notes: Sequence[str]
) -> Dynamic:
    label = f"{label} ({group[0].head.name})"
    for frame in group:
        check_place(frame)
    group = _of_one_echo(label, group, echo_time_s)
    slots = by_place(group)
    clock, rows, slots = _in_order(label, slots)
    slots, values, more = _whole_frames(label, slots, rows)
    affine, warnings = affine_of(label, [slot[0] for slot in slots])
    ordered = [frame for slot in slots for frame in slot]
    shown = pixels(ordered).reshape(len(slots), len(slots[0]), *slots[0][0].plane.shape)
    data = np.ascontiguousarray(shown.transpose(3, 2, 0, 1))
    first = slots[0][0].moment
    within = [slot[0].moment.within_s for slot in slots]
    is_time = any(time for name, time, _ in _CLOCKS if name == clock)
    repetition = {frame.moment.repetition_time_s for frame in ordered}
    return Dynamic(
        data=data,
        affine=affine,
        clock_s=values - values.min() if is_time else None,
        clock=clock,
        within_s=None if None in within else np.array(within, float),
        repetition_time_s=repetition.pop() if len(repetition) == 1 else None,
        echo_time_s=first.echo_time_s,
        volumetric=first.volumetric,
        label=label,
        notes=(*notes, f"{label}: the order of frames is that of {clock}", *more),
        warnings=tuple(warnings),
    )


def _of_one_echo(label: str, group: Sequence[Frame], wanted_s: float | None) -> Sequence[Frame]:
    echoes = sorted({frame.moment.echo_time_s for frame in group if frame.moment.echo_time_s})
    apart = [
        echo for k, echo in enumerate(echoes)
        if k == 0 or echo > echoes[k - 1] * (1 + SAME_ECHO_SHARE)
    ]  # fmt: skip
    if len(apart) < 2:
        return group
    chosen = [] if wanted_s is None else [
        frame for frame in group
        if frame.moment.echo_time_s
        and abs(frame.moment.echo_time_s - wanted_s) <= SAME_ECHO_SHARE * wanted_s
    ]  # fmt: skip
    if not chosen:
        raise InputError(
            f"{label}: holds {len(apart)} echoes ({', '.join(f'{echo:g}' for echo in apart)} s); "
            f"expected one. Choose it with --te_s=SECONDS of {COMMAND}."
        )
    return chosen


def _in_order(
    label: str, slots: list[list[Frame]]
) -> tuple[str, list[NDArray[np.float64]], list[list[Frame]]]:
    """Each place's frames by what tells them apart; its name, and its values for each place."""
    for name, is_time, read in _CLOCKS:
        said = [[read(frame.moment) for frame in slot] for slot in slots]
        if any(None in each or len(set(each)) < len(each) for each in said):
            continue
        rows = [np.array(each, float) for each in said]
        if is_time and max(row.max() for row in rows) - min(row.min() for row in rows) > DAY_S / 2:
            rows = [np.where(row < DAY_S / 2, row + DAY_S, row) for row in rows]
        return name, *_sorted(rows, slots)
    rows = [np.array([frame.order for frame in slot], float) for slot in slots]
    if any(len(np.unique(row)) < len(row) for row in rows):
        raise InputError(
            f"{label}: nothing in its files tells in which order its frames were taken "
            "(AcquisitionTime, TriggerTime, TemporalPositionIdentifier, AcquisitionNumber, "
            "InstanceNumber); did an anonymiser take it? Give the series as NIfTI."
        )
    return "InstanceNumber", *_sorted(rows, slots)


def _sorted(
    rows: list[NDArray[np.float64]], slots: list[list[Frame]]
) -> tuple[list[NDArray[np.float64]], list[list[Frame]]]:
    orders = [row.argsort(kind="stable") for row in rows]
    return (
        [row[order] for row, order in zip(rows, orders, strict=True)],
        [[slot[k] for k in order] for slot, order in zip(slots, orders, strict=True)],
    )


def _whole_frames(
    label: str, slots: list[list[Frame]], rows: list[NDArray[np.float64]]
) -> tuple[list[list[Frame]], NDArray[np.float64], list[str]]:
    """Without a last frame that was cut off; anything else that is lost is refused."""
    counts = [len(slot) for slot in slots]
    least = min(counts)
    values = np.stack([row[:least] for row in rows])
    since = values - values[:, :1]
    usual = np.median(since, axis=0)
    apart = np.abs(since - usual).max() > MAX_APART_STEPS * np.median(np.diff(usual))
    if max(counts) > least + 1 or apart:
        what = (
            f"some slices have {counted(least, 'frame')} and others {max(counts)}"
            if max(counts) > least
            else "frames of its slices were not taken together"
        )
        raise InputError(
            f"{label}: {what}; expected all slices of each frame. Slices are lost: export the "
            "series again."
        )
    if max(counts) == least:
        return slots, values, []
    note = f"{label}: the last frame is not whole and was left out"
    return [slot[:least] for slot in slots], values, [note]
