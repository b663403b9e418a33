"""A diffusion study as scanners and archives give it -> trace image, ADC map and what was done.

A DWI may be a trace image (3D), or a series of b-values (4D, with the ``.bval`` file that dcm2niix
writes beside it, and ``.bvec`` for the directions). The ADC map may be absent: then it is computed
from the series, or from the trace image and a b = 0 image of its own file.
"""

import dataclasses
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data_tools import alignment
from data_tools.b_values import Diffusion, Series, of_series
from data_tools.dicom import study as dicom
from data_tools.file_names import B_KEYS, beside, sidecar
from data_tools.grid import LOW_B_MAX_S_PER_MM2, MIN_B_S_PER_MM2, WANTED_B_S_PER_MM2
from data_tools.image_files import open_image
from data_tools.overrides import NONE, SAID_B_RANGE_S_PER_MM2, Overrides
from data_tools.runtime.errors import InputError, counted
from data_tools.volumes import Volume, gaps_of, load_volume, reading_of, without_gaps


def load_diffusion(
    dwi: str | os.PathLike,
    adc: Volume | None = None,
    need_adc: bool = True,
    *,
    b0: str | os.PathLike | None = None,
    overrides: Overrides = NONE,
    may_lack_adc: bool = False,
) -> Diffusion:
    """Read a DWI and its ADC map.

    Args:
        dwi: image file, 3D, or 4D with NAME.bval beside it; or a folder of DICOM files.
        adc: the ADC map, if there is one already.
        need_adc: without one, compute it or complain.
        b0: image file of b = 0, if it is apart from the DWI.
        overrides: what a person says.
        may_lack_adc: do without one where none can be computed.

    Raises:
        InputError: as :func:`data_tools.volumes.load_volume`; a series without b-values, or with
            none that can serve; DICOM files of two patients or of no diffusion study; no ADC.
    """
    path = Path(dwi)
    if path.is_dir():
        if b0:
            raise InputError(
                f"--b0 {b0}: a b = 0 image of its own belongs to a DWI in an image file; DICOM "
                f"files of b = 0 belong into the folder of the others, {path}"
            )
        return _of_dicom(path, adc, overrides, may_lack_adc)
    series, warnings = _load_series(path, "DWI", overrides)
    notes: tuple[str, ...] = ()
    if b0 and adc is None:
        series, notes, more = _with_b0(series, Path(b0), path)
        warnings += more
    study = of_series(
        str(path), series, adc, need_adc, overrides=overrides, may_lack_adc=may_lack_adc
    )
    if overrides.series is not None:
        warnings.append("--series was not used: it chooses among DICOM files, and the DWI is none")
    if b0 and adc is not None:
        notes = ("the b = 0 image was not used, for there is an ADC map",)
    return dataclasses.replace(
        study, notes=(*notes, *study.notes), warnings=(*warnings, *study.warnings)
    )


def _of_dicom(
    folder: Path, adc: Volume | None, overrides: Overrides, may_lack_adc: bool
) -> Diffusion:
    found = dicom.read_study(
        folder, overrides.series, overrides.b_value, need_adc=adc is None and not may_lack_adc
    )
    series = Series(
        data=found.data,
        affine=found.affine,
        b_values=found.b_values,
        directions=found.directions,
        reading=gaps_of("DWI", found.absent),
        is_dicom=True,
    )
    study = of_series(
        found.label, series, adc or found.adc, overrides=overrides, may_lack_adc=may_lack_adc
    )
    return dataclasses.replace(
        study,
        notes=(f"DICOM: DWI from {found.dwi_name}", *found.notes, *study.notes),
        warnings=(*found.warnings, *study.warnings),
        dicom_source=found.source,
    )


def read_bval(path: Path) -> NDArray[np.float64]:
    """Numbers of a ``.bval`` file, s/mm2.

    Raises:
        InputError: it holds something else.
    """
    values = _numbers(path, "b-values in s/mm2, separated by spaces").ravel()
    high = SAID_B_RANGE_S_PER_MM2[1]
    if not values.size or not np.isfinite(values).all() or values.min() < 0 or values.max() > high:
        raise InputError(
            f"{path}: expected b-values of 0 to {high:g} s/mm2, separated by spaces; found "
            f"{' '.join(f'{value:g}' for value in values[:8]) or 'none'}"
        )
    return values + 0.0  # no minus 0


def read_bvec(path: Path, count: int) -> NDArray[np.float64]:
    """Directions of a ``.bvec`` file: three lines as FSL writes them, or a line for each image.

    Args:
        path: of the file.
        count: images that it belongs to.

    Returns:
        [count, 3]; NaN where the file says ``nan``.

    Raises:
        InputError: it holds something else.
    """
    table = _numbers(
        path,
        f"the directions of {counted(count, 'image')}: three lines of {counted(count, 'number')}",
    )
    if table.shape == (3, count):
        return table.T
    if table.shape == (count, 3):
        return table
    raise InputError(
        f"{path}: holds {' x '.join(map(str, table.shape))} numbers; expected the directions of "
        f"{counted(count, 'image')}: three lines of {counted(count, 'number')}"
    )


def _numbers(path: Path, expected: str) -> NDArray[np.float64]:
    """The lines of a table; commas count as spaces."""
    try:
        lines = path.read_text(encoding="utf-8-sig").replace(",", " ").splitlines()
        rows = [[float(word) for word in line.split()] for line in lines if line.strip()]
        if len({len(row) for row in rows}) > 1:
            lengths = ", ".join(str(len(row)) for row in rows[:8])
            raise ValueError(f"its lines hold {lengths} numbers")
        return np.array(rows, np.float64)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not readable ({error}); expected {expected}") from error


def _load_series(path: Path, what: str, overrides: Overrides) -> tuple[Series, list[str]]:
    """The images of a file, one or more, and warnings."""
    file = open_image(path, what)
    shape = file.plain_shape
    if len(shape) < 4:
        volume = load_volume(path, what, may_have_gaps=True)
        b_value, warnings = _b_of_one(path, what)
        series = Series(
            data=volume.data[..., np.newaxis],
            affine=volume.affine,
            b_values=np.array([np.nan if b_value is None else b_value]),
            directions=_directions(path, 1),
            reading=volume.reading,
        )
        return series, warnings
    if len(shape) != 4 or min(shape[:3]) < 2:
        raise InputError(
            f"{what} {path}: has shape {tuple(file.shape)}; expected one 3D volume or a series (4D)"
        )
    data, absent = without_gaps(file.read().reshape(shape))
    series = Series(
        data=data,
        affine=file.place.affine,
        b_values=_b_of_many(path, what, shape[3]),
        directions=_directions(path, shape[3]),
        reading=reading_of(what, file.place, None if absent is None else np.any(absent, axis=-1)),
    )
    return series, []


def _b_of_many(path: Path, what: str, count: int) -> NDArray[np.float64]:
    bval = beside(path, ".bval")
    if not bval.is_file():
        raise InputError(
            f"{what} {path}: holds {counted(count, 'image')}; expected {bval.name} beside it with "
            "their b-values (dcm2niix writes it), or the trace image of b about 1000 s/mm2 alone"
        )
    b_values = read_bval(bval)
    if len(b_values) != count:
        raise InputError(
            f"{what} {path}: holds {counted(count, 'image')}, and {bval.name} "
            f"{counted(len(b_values), 'b-value')}; expected one for each"
        )
    return b_values


def _directions(path: Path, count: int) -> NDArray[np.float64]:
    bvec = beside(path, ".bvec")
    return read_bvec(bvec, count) if bvec.is_file() else np.full((count, 3), np.nan)


def _b_of_one(path: Path, what: str) -> tuple[float | None, list[str]]:
    """The b-value of one image from ``.bval`` or ``.json`` beside it; None if neither says."""
    bval = beside(path, ".bval")
    if bval.is_file():
        values, source = [float(value) for value in read_bval(bval)], bval.name
    else:
        values, source = _sidecar_b(path), beside(path, ".json").name
    if not values:
        return None, []
    high = sorted({value for value in values if value >= MIN_B_S_PER_MM2})
    if len(high) < 2:
        return max(values), []
    b_value = min(high, key=lambda value: abs(value - WANTED_B_S_PER_MM2))
    listed = ", ".join(f"{value:g}" for value in high)
    return b_value, [
        f"{what} {path}: {source} says b = {listed} s/mm2 for one image; {b_value:g} was taken "
        "(--b_value says another)"
    ]


def _sidecar_b(path: Path) -> list[float]:
    known = sidecar(path)
    for key in B_KEYS:
        value = known.get(key)
        words = value if isinstance(value, list) else [] if value is None else [value]
        try:
            numbers = [float(str(word).split()[0]) for word in words]
        except (ValueError, IndexError) as error:
            raise InputError(
                f"{beside(path, '.json')}: {key} is {value!r}; expected s/mm2, a number"
            ) from error
        high = SAID_B_RANGE_S_PER_MM2[1]
        if not all(0 <= number <= high for number in numbers):
            raise InputError(
                f"{beside(path, '.json')}: {key} is {value!r}; expected 0 to {high:g} s/mm2"
            )
        if numbers:
            return [number + 0.0 for number in numbers]
    return []


def _with_b0(
    series: Series, b0: Path, dwi: Path
) -> tuple[Series, tuple[str, ...], list[str]]:  # fmt: skip
    """A series with the b = 0 image of another file, notes and warnings."""
    if (series.b_values <= LOW_B_MAX_S_PER_MM2).any() and (
        series.b_values >= MIN_B_S_PER_MM2
    ).any():
        lowest = f"{np.nanmin(series.b_values):g} s/mm2"
        return series, (), [
            f"--b0 {b0} was not used: the series {dwi.name} has images of b = {lowest} of its own, "
            "of the same scan"
        ]  # fmt: skip
    own, warnings = _load_series(b0, "b = 0 image", NONE)
    notes = list(own.reading.notes)
    values = own.b_values
    if np.isnan(values).all():
        notes.append(f"no file says the b-value of {b0.name}; 0 was taken")
        values = np.zeros(len(values))
    low = np.flatnonzero(values <= LOW_B_MAX_S_PER_MM2)
    if not len(low):
        raise InputError(
            f"b = 0 image {b0}: has b = {values.min():g} s/mm2; expected "
            f"{LOW_B_MAX_S_PER_MM2:g} at most. Are the two files exchanged?"
        )
    target = Volume(series.data[..., 0], series.affine, str(dwi), series.reading)
    moved = [
        alignment.onto(
            Volume(own.data[..., k], own.affine, str(b0), own.reading), target, "b = 0 image"
        )
        for k in low
    ]
    readings = [series.reading, *(each.volume.reading for each in moved)]
    gaps = [reading.absent for reading in readings if reading.absent is not None]
    kept = ~(series.b_values <= LOW_B_MAX_S_PER_MM2)
    if not kept.any():
        raise InputError(
            f"DWI {dwi}: has b = {series.b_values.max():g} s/mm2, as the b = 0 image {b0} has; "
            "expected images of b about 1000 s/mm2"
        )
    joined = dataclasses.replace(
        series,
        data=np.concatenate(
            [*(each.volume.data[..., np.newaxis] for each in moved), series.data[..., kept]],
            axis=-1,
        ),
        b_values=np.concatenate([values[low], series.b_values[kept]]),
        directions=np.concatenate([own.directions[low], series.directions[kept]]),
        reading=dataclasses.replace(series.reading, absent=np.any(gaps, axis=0) if gaps else None),
    )
    notes += [f"the b = 0 image comes from {b0.name}", *moved[0].notes]
    return joined, tuple(notes), [*warnings, *moved[0].warnings]
