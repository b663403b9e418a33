"""A diffusion study as scanners and archives give it -> trace image, ADC map and what was done.

A DWI may be a trace image (3D), or a series of b-values (4D, with the ``.bval`` file that dcm2niix
writes beside it). The ADC map may be absent: then it is computed from the series.
"""

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_tools.dicom import study as dicom
from data_tools.runtime.errors import InputError
from data_tools.transform import resample
from data_tools.volumes import Volume, load_volume, open_nifti, read_data

# The paper's images have b = 1000 s/mm2; with another b the same tissue has another contrast.
B_RANGE_S_PER_MM2 = (900.0, 1200.0)
# Scanners call small b-values (for spoiling) 0, and give one shell values that differ a little.
B0_MAX_S_PER_MM2 = 50.0
SHELL_S_PER_MM2 = 50.0
# ADC from fewer than this is noise in an image whose tissue is not yet attenuated.
MIN_B_S_PER_MM2 = 500.0
# Above free water at body temperature; only noise is higher.
ADC_MAX_UM2_PER_S = 4000.0
B_KEYS = ("DiffusionBValue", "EffectiveDiffusionBValue", "b_value", "BValue", "bvalue")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Diffusion:
    """What the network needs of a diffusion study.

    Attributes:
        trace: image of the b-value used.
        adc: in the unit of its file; 1e-6 mm2/s if computed.
        b_value: s/mm2; None if nothing says it.
        notes: what was done and found, for people.
        warnings: what they should look at.
        dicom_source: the scanner's slices, if it came as DICOM files.
    """

    trace: Volume
    adc: Volume | None
    b_value: float | None
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    dicom_source: dicom.Source | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Series:
    """Images of one grid with different diffusion weighting, from one file or several.

    Attributes:
        data: float32 [x, y, z, image].
        affine: float64 [4, 4], index -> mm, RAS+.
        b_values: s/mm2, of each image.
        directions: [image, 3], unit vectors in any one frame; zeros for a trace image and for
            b = 0; NaN where nothing says it.
    """

    data: NDArray[np.float32]
    affine: NDArray[np.float64]
    b_values: NDArray[np.float64]
    directions: NDArray[np.float64]


def load_diffusion(
    dwi: str | os.PathLike, adc: Volume | None = None, need_adc: bool = True
) -> Diffusion:  # fmt: skip
    """Read a DWI and its ADC map.

    From a series the images of one b-value are averaged geometrically (the trace image): the
    highest, or one of about 1000 s/mm2 if there is one. Without an ADC map it is
    ``ln(S0 / Sb) / b`` of the series' own b = 0.

    Args:
        dwi: NIfTI, 3D, or 4D with NAME.bval beside it; or a folder of DICOM files.
        adc: the ADC map, if there is one already.
        need_adc: without one, compute it or complain.

    Raises:
        InputError: as :func:`data_tools.volumes.load_volume`; a series without b-values, or with
            none that can serve; DICOM files of two patients or of no diffusion study; no ADC.
    """
    path = Path(dwi)
    if path.is_dir():
        return _of_dicom(path, adc)
    series = _load_series(path) if path.is_file() else None
    if series is None:
        return _of_trace(path, adc, need_adc)
    return _of_series(path, series, adc, need_adc)


def _of_dicom(folder: Path, adc: Volume | None) -> Diffusion:
    found = dicom.read_study(folder)
    series = Series(
        data=found.data,
        affine=found.affine,
        b_values=found.b_values,
        directions=found.directions,
    )
    study = _of_series(folder, series, adc or found.adc, True)
    trace = dataclasses.replace(study.trace, path=f"{folder} ({found.dwi_name})")
    notes = [f"DICOM: DWI from {found.dwi_name}", *found.notes]
    warnings = [*found.warnings]
    if adc is None and found.adc is not None and not found.adc.same_grid(trace):
        # Of one study, in the scanner's own millimetres.
        moved = resample(found.adc, np.eye(4), trace.data.shape, trace.affine)
        study = dataclasses.replace(study, adc=Volume(moved, trace.affine, found.adc.path))
        notes.append("DICOM: the ADC map has another grid and was resampled to the DWI's")
        warnings += _other_coverage(found.adc, trace)
    return dataclasses.replace(
        study,
        trace=trace,
        notes=(*notes, *study.notes),
        warnings=(*warnings, *study.warnings),
        dicom_source=found.source,
    )


def _of_trace(path: Path, adc: Volume | None, need_adc: bool) -> Diffusion:
    trace, b_value = load_volume(path, "DWI"), _sidecar_b(path)
    if adc is None and need_adc:
        raise InputError(
            f"DWI {path}: is one image, from which no ADC can be computed; expected an ADC "
            "map, or a series with b = 0 and its .bval"
        )
    _check_b(path, b_value)
    return Diffusion(
        trace=trace,
        adc=adc,
        b_value=b_value,
        notes=() if b_value else (f"DWI {path.name}: no file says its b-value",),
        warnings=_b_warnings(path, b_value),
    )


def _of_series(path: Path, series: Series, adc: Volume | None, need_adc: bool) -> Diffusion:
    b_value = _choose_shell(path, series.b_values)
    of_shell = np.abs(series.b_values - b_value) <= SHELL_S_PER_MM2
    of_zero = series.b_values <= B0_MAX_S_PER_MM2
    trace = _checked(_geometric_mean(series.data[..., of_shell]), series.affine, path)
    notes = [
        f"DWI {path.name}: geometric mean of {int(of_shell.sum())} of {len(of_shell)} images, "
        f"b = {b_value:g} s/mm2"
    ]
    if adc is None and need_adc:
        if not of_zero.any():
            raise InputError(
                f"DWI {path}: the series holds no image of b = 0, so no ADC can be computed; "
                "expected an ADC map"
            )
        s0 = series.data[..., of_zero].mean(axis=-1)
        computed = compute_adc(s0, trace.data, b_value)
        adc = Volume(computed, series.affine, f"computed from {path}")
        notes.append(f"ADC computed from b = 0 and b = {b_value:g} s/mm2 of {path.name}")
    return Diffusion(
        trace=trace,
        adc=adc,
        b_value=b_value,
        notes=tuple(notes),
        warnings=_b_warnings(path, b_value),
    )


def _other_coverage(adc: Volume, dwi: Volume) -> list[str]:
    """A warning if an ADC map reaches beyond the DWI by a slice or more: are slices lost?"""
    field = dataclasses.replace(adc, data=np.ones_like(adc.data))
    inside = resample(dataclasses.replace(dwi, data=np.ones_like(dwi.data)), np.eye(4),
                      adc.data.shape, adc.affine) > 0.5  # fmt: skip
    covered = resample(field, np.eye(4), dwi.data.shape, dwi.affine) > 0.5
    if inside.mean() > 0.97 and covered.mean() > 0.97:
        return []
    return [
        f"the DWI ({dwi.path}) and the scanner's ADC map do not show the same slices: "
        f"{1 - inside.mean():.0%} of the map and {1 - covered.mean():.0%} of the DWI are in one "
        "only; were files lost?"
    ]


def compute_adc(
    s0: NDArray[np.float32], s_b: NDArray[np.float32], b_s_per_mm2: float
) -> NDArray[np.float32]:
    """Mono-exponential ADC (Stejskal and Tanner 1965).

    Args:
        s0: signal at b = 0.
        s_b: signal at ``b_s_per_mm2``, same shape.
        b_s_per_mm2: of ``s_b``.

    Returns:
        1e-6 mm2/s, 0 to 4000; 0 where either signal is not above 0.

    >>> float(compute_adc(np.float32([100]), np.float32([36.7879]), 1000.0)[0].round())
    1000.0
    """
    seen = (s0 > 0) & (s_b > 0)
    ratio = np.divide(s0, s_b, out=np.ones_like(s0, np.float32), where=seen)
    adc = 1e6 / b_s_per_mm2 * np.log(ratio)
    return np.clip(adc, 0, ADC_MAX_UM2_PER_S).astype(np.float32)


def read_bval(path: Path) -> NDArray[np.float64]:
    """Numbers of a ``.bval`` file, s/mm2.

    Raises:
        InputError: it holds something else.
    """
    try:
        values = np.array([float(word) for word in path.read_text().split()])
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path}: not readable ({error}); expected b-values in s/mm2, separated by spaces"
        ) from error
    if not len(values) or not np.isfinite(values).all() or values.min() < 0:
        raise InputError(f"{path}: expected b-values of 0 s/mm2 and more, separated by spaces")
    return values


def _stem(path: Path) -> Path:
    return path.with_name(path.name.removesuffix(".gz").removesuffix(".nii"))


def _beside(path: Path, ending: str) -> Path:
    return _stem(path).with_name(_stem(path).name + ending)


def _load_series(path: Path) -> Series | None:
    """A series of images; None for a file of one volume."""
    image, affine = open_nifti(path, "DWI")
    if len(image.shape) != 4 or image.shape[3] == 1:
        return None
    bval = _beside(path, ".bval")
    if not bval.is_file():
        raise InputError(
            f"DWI {path}: holds {image.shape[3]} images; expected {bval.name} beside it with "
            "their b-values (dcm2niix writes it), or the trace image of b about 1000 s/mm2 alone"
        )
    b_values = read_bval(bval)
    if len(b_values) != image.shape[3]:
        raise InputError(
            f"DWI {path}: holds {image.shape[3]} images, and {bval.name} {len(b_values)} b-values; "
            "expected one for each"
        )
    return Series(
        data=read_data(image, f"DWI {path}"),
        affine=affine,
        b_values=b_values,
        directions=np.full((len(b_values), 3), np.nan),
    )


def _choose_shell(path: Path, b_values: NDArray[np.float64]) -> float:
    usable = b_values[b_values >= MIN_B_S_PER_MM2]
    if not len(usable):
        raise InputError(
            f"DWI {path}: its b-values are {', '.join(f'{b:g}' for b in np.unique(b_values))}; "
            "expected images of b about 1000 s/mm2"
        )
    low, high = B_RANGE_S_PER_MM2
    about_1000 = usable[(usable >= low) & (usable <= high)]
    return float((about_1000 if len(about_1000) else usable).max())


def _geometric_mean(images: NDArray[np.float32]) -> NDArray[np.float32]:
    if images.shape[-1] == 1:
        return images[..., 0]
    logarithm = np.log(np.maximum(images, np.finfo(np.float32).tiny))
    return np.where((images > 0).all(axis=-1), np.exp(logarithm.mean(axis=-1)), 0).astype(
        np.float32
    )


def _checked(data: NDArray[np.float32], affine: NDArray, path: Path) -> Volume:
    if data.min() == data.max():
        raise InputError(f"DWI {path}: every voxel is {data.flat[0]:g}; the image is empty")
    return Volume(data, affine, str(path))


def _sidecar_b(path: Path) -> float | None:
    """The b-value of a trace image from ``.bval`` or ``.json`` beside it; None if neither says."""
    bval = _beside(path, ".bval")
    if bval.is_file():
        return float(read_bval(bval).max())
    known = sidecar(path)
    for key in B_KEYS:
        value = known.get(key)
        words = value if isinstance(value, list) else [] if value is None else [value]
        try:
            numbers = [float(str(word).split()[0]) for word in words]
        except (ValueError, IndexError) as error:
            raise InputError(
                f"{_beside(path, '.json')}: {key} is {value!r}; expected s/mm2, a number"
            ) from error
        if numbers:
            return max(numbers)
    return None


def sidecar(path: Path) -> dict[str, Any]:
    """What the ``.json`` beside an image says; nothing where there is none.

    Raises:
        InputError: it is no JSON object.
    """
    beside = _beside(path, ".json")
    if not beside.is_file():
        return {}
    try:
        known = json.loads(beside.read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"{beside}: not a readable JSON file ({error})") from error
    if not isinstance(known, dict):
        raise InputError(f"{beside}: expected a JSON object, found {type(known).__name__}")
    return known


def _check_b(path: Path, b_value: float | None) -> None:
    if b_value is not None and b_value < MIN_B_S_PER_MM2:
        raise InputError(
            f"DWI {path}: has b = {b_value:g} s/mm2 by the file beside it; expected the image of b "
            "about 1000 s/mm2"
        )


def _b_warnings(path: Path, b_value: float | None) -> tuple[str, ...]:
    low, high = B_RANGE_S_PER_MM2
    if b_value is None or low <= b_value <= high:
        return ()
    return (
        f"DWI {path.name} has b = {b_value:g} s/mm2; the network was made for about 1000: lesions "
        f"are {'fainter' if b_value < low else 'brighter'} than it expects",
    )
