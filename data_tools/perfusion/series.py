"""A raw perfusion series (DSC) as scanners and archives give it -> signal, times and echo time.

Repetition time (TR) and echo time (TE) are never guessed: where no file says them, the flags that
give them are named. A NIfTI header's own TR is not trusted (many programs write 1 there); it only
serves to find contradictions.

Whatever reads on takes the third axis for that of the slices. Files that store it elsewhere are
turned at reading, and :class:`Series` turns maps back.
"""

import dataclasses
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_tools.dicom.dynamic import Dynamic, read_dynamic
from data_tools.file_names import beside, sidecar
from data_tools.image_files import ImageFile, open_image
from data_tools.perfusion import spoilt_volumes
from data_tools.runtime.errors import InputError
from data_tools.volumes import gaps_of, without_gaps

TR_FLAG, TE_FLAG = "--tr_s", "--te_s"
TR_RANGE_S, TE_RANGE_S = (0.2, 6.0), (0.005, 0.15)
LEAST_FRAMES = 10
# Two sayings of TR that differ by more than this share are about different things.
SAME_TR_SHARE = 0.02
# Times of a slice within its frames differ by rounding only.
SLICE_TIMES_APART = 0.1
# Slices are thicker than voxels are wide; by less than this nobody can tell.
THICKER = 1.25
DIRECTIONS = ("i", "j", "k")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Series:
    """One DSC scan.

    Attributes:
        signal: float32 (X, Y, Z, T), arbitrary unit, finite; slices along the third axis.
        affine: (4, 4), index -> mm, RAS+.
        times_s: (T,), start of each frame, from 0 upwards; steps may differ.
        slice_times_s: (Z,), of each slice within its frame; None if nothing says it.
        echo_time_s: TE.
        label: for messages.
        notes: what was decided.
        warnings: what a person should look at.
        axes: which axis of the file each of the first three is.
    """

    signal: NDArray[np.float32]
    affine: NDArray[np.float64]
    times_s: NDArray[np.float64]
    slice_times_s: NDArray[np.float64] | None
    echo_time_s: float
    label: str = ""
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    axes: tuple[int, int, int] = (0, 1, 2)

    @property
    def stored_affine(self) -> NDArray[np.float64]:
        """Index in the file -> mm, RAS+."""
        return self.affine[:, [*np.argsort(self.axes), 3]]

    def as_stored(self, image: NDArray[Any]) -> NDArray[Any]:
        """[X, Y, Z] with its axes as in the file."""
        return np.transpose(image, np.argsort(self.axes))

    def from_stored(self, image: NDArray[Any]) -> NDArray[Any]:
        """[X, Y, Z] of an image with its axes as in the file."""
        return np.transpose(image, self.axes)

    def noticed(self, error: InputError) -> InputError:
        """An error with the warnings that may explain it."""
        return with_noticed(error, self.warnings, self.label)


def with_noticed(error: InputError, warnings: Iterable[str], label: str) -> InputError:
    """An error that also says what was noticed before it; the error itself if nothing was.

    Args:
        error: that ends the work.
        warnings: sentences, which may begin with the label.
        label: of the series.
    """
    said = "; ".join(each.removeprefix(f"{label}: ") for each in warnings)
    return InputError(f"{error}. Noticed before: {said}") if said else error


def load_series(
    path: str | os.PathLike,
    *,
    tr_s: float | None = None,
    te_s: float | None = None,
    series: str | None = None,
) -> Series:
    """Read a raw perfusion series.

    Args:
        path: image file, 4D or 5D (X, Y, Z, 1, T), with NAME.json beside it: RepetitionTime or
            VolumeTiming, EchoTime and SliceTiming in s (BIDS); or a folder of DICOM files, one file
            a slice, a mosaic a frame, or enhanced.
        tr_s: TR as a person says it; it wins over files.
        te_s: TE, the same.
        series: of DICOM files: which one, by number, UID or a piece of the description.

    Raises:
        InputError: as :func:`data_tools.image_files.open_image` and
            :func:`data_tools.dicom.dynamic.read_dynamic`; no series; TR or TE unknown or no time
            in s; other numbers of times than of frames or slices; spoilt volumes that cannot be
            filled in, as :func:`data_tools.perfusion.spoilt_volumes.without_spoilt`.
    """
    path = Path(path)
    _check_said(TR_FLAG, tr_s, TR_RANGE_S)
    _check_said(TE_FLAG, te_s, TE_RANGE_S)
    found = _of_dicom(path, tr_s, te_s, series) if path.is_dir() else _of_file(path, tr_s, te_s)
    for mended in (spoilt_volumes.checked_values, spoilt_volumes.without_spoilt):
        try:
            signal, warnings = mended(found.signal)
        except InputError as error:
            raise found.noticed(InputError(f"{found.label}: {error}")) from error
        told = tuple(f"{found.label}: {each}" for each in warnings)
        found = dataclasses.replace(found, signal=signal, warnings=(*found.warnings, *told))
    return found


def _check_said(flag: str, value_s: float | None, range_s: tuple[float, float]) -> None:
    low, high = range_s
    if value_s is not None and not low <= value_s <= high:
        raise InputError(f"{flag} is {value_s:g}; expected {low:g} to {high:g}, in seconds")


def _of_file(path: Path, tr_s: float | None, te_s: float | None) -> Series:
    if _is_dicom(path):
        raise InputError(
            f"perfusion series {path}: is a DICOM file; expected the folder that holds the scan's "
            f"files, {path.parent}"
        )
    file = open_image(path, "perfusion series")
    label, shape = file.label, file.plain_shape
    if len(shape) != 4 or shape[3] < LEAST_FRAMES or min(shape[:3]) < 2:
        why = ""
        if len(shape) == 3:
            why = ", one volume"
        elif min(shape[:3]) < 2:
            why = ", a single slice"
        raise InputError(
            f"{label}: has shape {' x '.join(map(str, file.shape))}{why}; expected a series over "
            f"time, X x Y x Z x T, of {LEAST_FRAMES} frames or more with 2 slices or more"
        )
    data, absent = without_gaps(file.read().reshape(shape))
    beside_it = beside(path, ".json")
    known = sidecar(path)
    where = str(beside_it) if known else f"no {beside_it.name} lies beside it"
    times_s, warnings = _file_times(file, known, where, tr_s)
    warnings += [f"{label}: {each}" for each in spoilt_volumes.holes_told(absent)]
    notes: list[str] = []
    by_file_s = _time(label, known, "EchoTime", TE_RANGE_S)
    echo_time_s = _echo_time_s(label, te_s, by_file_s, where=where, warnings=warnings)
    affine = file.place.affine
    axis = _slice_axis(label, known, affine, warnings)
    tr_median_s = float(np.median(np.diff(times_s)))
    try:
        slice_times_s = _file_slice_times(label, known, axis, count=shape[axis], tr_s=tr_median_s)
    except InputError as error:
        raise with_noticed(error, warnings, label) from error
    if slice_times_s is None:
        notes.append(f"{label}: nothing says when each slice was taken; they count as one moment")
    axes = (0, 1, 2)
    if axis != 2:
        axes = (1, 2, 0) if axis == 0 else (0, 2, 1)
        data = np.ascontiguousarray(np.transpose(data, (*axes, 3)))
        notes.append(f"{label}: its slices lie along {DIRECTIONS[axis]}, not k")
    return Series(
        signal=data,
        affine=affine[:, [*axes, 3]],
        axes=axes,
        times_s=times_s,
        slice_times_s=slice_times_s,
        echo_time_s=echo_time_s,
        label=label,
        notes=(*file.place.notes, *gaps_of("perfusion series", absent).notes, *notes),
        warnings=tuple(warnings),
    )


def _is_dicom(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        return stream.read(132)[128:] == b"DICM"


def _echo_time_s(
    label: str, by_flag_s: float | None, by_file_s: float | None, *, where: str, warnings: list[str]
) -> float:
    """TE as a person says it, else as files do; a warning where they differ."""
    if by_flag_s is None:
        if by_file_s is None:
            raise InputError(_unknown(label, "TE", "EchoTime", where=where, flag=TE_FLAG))
        return by_file_s
    if by_file_s is not None and abs(by_file_s - by_flag_s) > SAME_TR_SHARE * by_file_s:
        warnings.append(
            f"{label}: TE is {by_flag_s:g} s by {TE_FLAG}, and {by_file_s:g} s by {where}"
        )
    return by_flag_s


def _unknown(label: str, what: str, key: str, *, where: str, flag: str) -> str:
    searched = where if where.startswith("no ") else f"no {key} in {where}"
    return (
        f"{label}: its {what} is not known ({searched}); expected {key} in seconds there, or "
        f"python -m data_tools.perfusion with {flag}=SECONDS. Look it up in the scanner's protocol."
    )


def _file_times(
    file: ImageFile, known: dict[str, Any], where: str, tr_s: float | None
) -> tuple[NDArray[np.float64], list[str]]:
    """Start of each frame, and warnings."""
    label, count = file.label, file.plain_shape[3]
    timing = known.get("VolumeTiming")
    if timing is not None and tr_s is None:
        times_s = _numbers(label, "VolumeTiming", timing, count=count, what="frame")
        step_s = np.diff(times_s)
        if step_s.min() <= 0 or not TR_RANGE_S[0] <= np.median(step_s) <= TR_RANGE_S[1]:
            raise InputError(
                f"{label}: VolumeTiming in {where} has steps of {step_s.min():g} to "
                f"{step_s.max():g}; expected increasing times in seconds"
            )
        return times_s - times_s[0], []
    said = _time(label, known, "RepetitionTime", TR_RANGE_S)
    chosen = tr_s if tr_s is not None else said
    by_header_s = file.frame_step_s
    if chosen is None:
        message = _unknown(label, "TR", "RepetitionTime", where=where, flag=TR_FLAG)
        if by_header_s is not None and TR_RANGE_S[0] <= by_header_s <= TR_RANGE_S[1]:
            message += f" (The image's header says {by_header_s:g} s, which may be wrong.)"
        raise InputError(message)
    chosen_from = TR_FLAG if tr_s is not None else where
    warnings = []
    for other, other_from in ((said, where), (by_header_s, "the image's header")):
        if other is not None and abs(other - chosen) > SAME_TR_SHARE * chosen:
            warnings.append(
                f"{label}: TR is {chosen:g} s by {chosen_from}, which was taken, and {other:g} s "
                f"by {other_from}; all times hang on it"
            )
    return _even(count, chosen), warnings


def _time(
    label: str, known: dict[str, Any], key: str, range_s: tuple[float, float]
) -> float | None:
    """A time in s of a sidecar; None if it says none."""
    value = known.get(key)
    if value is None:
        return None
    low, high = range_s
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        hint = ""
        if isinstance(value, int | float) and low <= value / 1000 <= high:
            hint = f" If it is in milliseconds, write {value / 1000:g}."
        raise InputError(
            f"{label}: {key} in the .json beside it is {value!r}; expected {low:g} to {high:g}, in "
            f"seconds.{hint}"
        )
    return float(value)


def _numbers(label: str, key: str, value: Any, *, count: int, what: str) -> NDArray[np.float64]:
    try:
        numbers = np.array(value, float).ravel()
    except (TypeError, ValueError):
        numbers = np.array([np.nan])
    if not np.isfinite(numbers).all():
        raise InputError(
            f"{label}: {key} in the .json beside it is not a list of numbers; expected one time in "
            f"seconds for each {what}"
        )
    if len(numbers) != count:
        raise InputError(
            f"{label}: {key} in the .json beside it has {len(numbers)} times; expected one for "
            f"each {what}, {count}"
        )
    return numbers


def _slice_axis(
    label: str, known: dict[str, Any], affine: NDArray[np.float64], warnings: list[str]
) -> int:
    """By SliceEncodingDirection, else by the thickest voxels, else the third; adds warnings."""
    sizes_mm = np.linalg.norm(affine[:3, :3], axis=0)
    thickest = int(sizes_mm.argmax())
    clear = sizes_mm[thickest] >= THICKER * np.sort(sizes_mm)[1]
    said = known.get("SliceEncodingDirection")
    if said is None:
        return thickest if clear else 2
    if said not in [each + sign for each in DIRECTIONS for sign in ("", "-")]:
        raise InputError(
            f"{label}: SliceEncodingDirection in the .json beside it is {said!r}; expected i, j or "
            "k, with or without a minus"
        )
    axis = DIRECTIONS.index(said[0])
    if clear and thickest != axis:
        size = " x ".join(f"{each:.3g}" for each in sizes_mm)
        warnings.append(
            f"{label}: its slices lie along {said[0]} by SliceEncodingDirection, which was taken, "
            f"and voxels of {size} mm are thickest along {DIRECTIONS[thickest]}. Was the image "
            "turned after its .json was written?"
        )
    return axis


def _file_slice_times(
    label: str, known: dict[str, Any], axis: int, *, count: int, tr_s: float
) -> NDArray[np.float64] | None:
    value = known.get("SliceTiming")
    if value is None:
        return None
    what = f"slice along {DIRECTIONS[axis]}"
    times_s = _numbers(label, "SliceTiming", value, count=count, what=what)
    if times_s.min() < 0 or times_s.max() > 1.05 * tr_s:
        raise InputError(
            f"{label}: SliceTiming in the .json beside it runs from {times_s.min():g} to "
            f"{times_s.max():g}; expected seconds within a frame, 0 to {tr_s:g}"
        )
    backwards = str(known.get("SliceEncodingDirection")).endswith("-")
    return times_s[::-1].copy() if backwards else times_s


def _of_dicom(path: Path, tr_s: float | None, te_s: float | None, series: str | None) -> Series:
    found = read_dynamic(path, series, te_s)
    notes, warnings = [*found.notes], [*found.warnings]
    echo_time_s = _echo_time_s(
        found.label, te_s, found.echo_time_s, where="its DICOM files", warnings=warnings
    )
    _check_read(found.label, "EchoTime", echo_time_s, TE_RANGE_S)
    times_s, slice_times_s = _dicom_times(found, tr_s, warnings)
    if slice_times_s is None:
        notes.append(
            f"{found.label}: nothing says when each slice was taken; they count as one moment"
        )
    return Series(
        signal=found.data,
        affine=found.affine,
        times_s=times_s,
        slice_times_s=slice_times_s,
        echo_time_s=echo_time_s,
        label=found.label,
        notes=tuple(notes),
        warnings=tuple(warnings),
    )


def _check_read(label: str, what: str, value_s: float, range_s: tuple[float, float]) -> None:
    low, high = range_s
    if not low <= value_s <= high:
        flag = TE_FLAG if what == "EchoTime" else TR_FLAG
        raise InputError(
            f"{label}: {what} is {value_s:g} s by its files; expected {low:g} to {high:g} s. If "
            f"they are wrong, run python -m data_tools.perfusion with {flag}=SECONDS."
        )


def _dicom_times(
    found: Dynamic, tr_s: float | None, warnings: list[str]
) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
    """Start of each frame, and of each slice in it.

    What a person says decides; else the times of the files, if they are finer than whole seconds;
    else TR, which is the time between frames of a 2D scan only.
    """
    count, label = found.data.shape[3], found.label
    starts_s = within_s = None
    if found.clock_s is not None:
        starts_s = found.clock_s.min(axis=0)
        within_s = _within(found.clock_s - starts_s)
    if found.within_s is not None:
        within_s = found.within_s
    said = found.repetition_time_s
    seen = None if starts_s is None else float((starts_s[-1] - starts_s[0]) / (count - 1))
    if tr_s is not None:
        for name, other in (("TR", said), ("the time between frames", seen)):
            if other is not None and abs(other - tr_s) > 2 * SAME_TR_SHARE * tr_s:
                warnings.append(
                    f"{label}: TR is {tr_s:g} s by {TR_FLAG}, and {name} is {other:.3g} s by its "
                    "files"
                )
        return _even(count, tr_s), within_s
    # Of all slices: frames may start at whole seconds by their TR.
    clock_s = found.clock_s
    coarse = clock_s is not None and bool((clock_s == np.rint(clock_s)).all())
    if starts_s is not None and seen is not None and not coarse:
        if said is not None and abs(said - seen) > 2 * SAME_TR_SHARE * seen:
            warnings.append(
                f"{label}: frames are {seen:.3g} s apart by {found.clock}, which was taken, and TR "
                f"is {said:g} s"
            )
        _check_read(label, "the time between frames", seen, TR_RANGE_S)
        return starts_s - starts_s[0], within_s
    if said is not None and not found.volumetric:
        # Whole seconds are off by one at most.
        if seen is not None and abs(said - seen) * (count - 1) > 1 + SAME_TR_SHARE * seen * count:
            raise InputError(
                f"{label}: frames are {seen:.3g} s apart by {found.clock}, and TR is {said:g} s; "
                f"give the time between frames with {TR_FLAG}=SECONDS"
            )
        _check_read(label, "RepetitionTime", said, TR_RANGE_S)
        return _even(count, said), within_s if not coarse else found.within_s
    if starts_s is not None and coarse and _is_even(starts_s):
        return starts_s - starts_s[0], found.within_s
    what = "RepetitionTime" if said is None else "the time between frames of a 3D scan"
    raise InputError(_unknown(label, "TR", what, where="its DICOM files", flag=TR_FLAG))


def _even(count: int, step_s: float) -> NDArray[np.float64]:
    return step_s * np.arange(count, dtype=np.float64)


def _is_even(times_s: NDArray[np.float64]) -> bool:
    return float(np.ptp(np.diff(times_s))) == 0 and times_s[1] > times_s[0]


def _within(late_s: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """When slices are taken within a frame, [z], if all frames [z, t] agree; None if not."""
    usual = np.median(late_s, axis=1)
    largest = float(usual.max())
    if largest <= 0 or np.abs(late_s - usual[:, None]).max() > SLICE_TIMES_APART * largest:
        return None
    return usual
