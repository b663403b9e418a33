"""A raw perfusion series -> its maps, with everything that led to them."""

import contextlib
import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from data_tools import brain_of_dwi
from data_tools.perfusion import (
    arterial_input,
    concentration,
    deconvolution,
    maps,
    signal_void,
    timing,
)
from data_tools.perfusion.arterial_input import ArterialInput
from data_tools.perfusion.concentration import Bolus
from data_tools.perfusion.maps import Check, Maps
from data_tools.perfusion.motion import Motion, correct_motion, jumps_of_outline
from data_tools.perfusion.series import Series
from data_tools.runtime import progress
from data_tools.runtime.errors import InputError
from data_tools.volumes import Volume

# Of a slice.
MAX_OUTSIDE = 0.25


@dataclasses.dataclass(frozen=True, kw_only=True)
class Method:
    """What decides about Tmax besides the scan: to be named wherever Tmax is shown.

    Attributes:
        deconvolution: one of ``deconvolution.METHODS``.
        threshold: of the deconvolution; None takes its usual one.
        smoothing_sd_voxels: within a slice, before the maps; the arterial curve is not smoothed.
        motion: whether motion over time is corrected, before anything else.
    """

    deconvolution: str = "csvd"
    threshold: float | None = None
    smoothing_sd_voxels: float = concentration.SMOOTHING_SD_VOXELS
    motion: bool = True


@dataclasses.dataclass(frozen=True, kw_only=True)
class Examination:
    """A patient's maps and what they were made of.

    Attributes:
        method: that was asked for.
        brain: bool [X, Y, Z], without fluid and what motion took out of view: where the maps
            hold something.
        motion: what it was; None if it was not corrected.
        bolus: where the bolus is in the series.
        arterial_input: the AIF and its voxels.
        concentration: float32 [X, Y, Z, T] in 1/s, smoothed.
        maps: Tmax and the others.
        check: what the maps say of themselves.
        volumes_ml: by Tmax threshold in s.
        intensity_ratio: HIR; None without hypoperfusion.
        tr_s: step of the resampled series.
        threshold: of the deconvolution.
        warnings: of motion, the head, the bolus, the AIF and the maps.
    """

    method: Method
    brain: NDArray[np.bool_]
    motion: Motion | None
    bolus: Bolus
    arterial_input: ArterialInput
    concentration: NDArray[np.float32]
    maps: Maps
    check: Check
    volumes_ml: dict[float, float]
    intensity_ratio: float | None
    tr_s: float
    threshold: float
    warnings: tuple[str, ...]


def examine(
    series: Series,
    method: Method | None = None,
    *,
    brain: NDArray[np.bool_] | None = None,
    artery: NDArray[np.bool_] | Sequence[int] | None = None,
) -> Examination:
    """Motion, slice timing, equal steps, bolus, AIF, concentration, maps, checks.

    Args:
        series: the scan.
        method: None takes the usual one.
        brain: bool [X, Y, Z]; None finds it in the mean of all frames.
        artery: a region or a voxel in place of the automatic AIF, by the axes of the file.

    Raises:
        InputError: what cannot be used, as the steps say; the caller names the file.
    """
    method = method or Method()
    threshold = deconvolution.checked_threshold(method.deconvolution, method.threshold)
    progress.now("correcting motion")
    moved = correct_motion(series.signal, series.affine, series.times_s) if method.motion else None
    progress.now("finding the bolus and the arterial curve")
    signal, tr_s = _steady(series, moved)
    bolus, brain, cut = _bolus(signal, tr_s, series, brain)
    frames = bolus.baseline_frames
    sharp = concentration.concentration(signal, frames, series.echo_time_s)
    artery = _turned(artery, series)
    found = arterial_curve(sharp, signal, brain, artery=artery, baseline_frames=frames, tr_s=tr_s)
    del sharp
    smooth = concentration.smoothed_in_plane(signal, method.smoothing_sd_voxels)
    curves = concentration.concentration(smooth, frames, series.echo_time_s)
    outline, brain = brain, brain & ~concentration.fluid(smooth, curves, brain, frames)
    if moved:
        brain &= always_in_view(moved.poses, series.affine, signal.shape)
    progress.now("deconvolving")
    made = maps.perfusion_maps(
        curves, brain, found.curve, tr_s=tr_s, method=method.deconvolution, threshold=threshold
    )
    check = maps.check(made, brain, series.affine)
    volumes = maps.volumes_ml(made.tmax_s, brain, Volume(made.tmax_s, series.affine).voxel_ml)
    return Examination(
        method=method,
        brain=brain,
        motion=moved,
        bolus=bolus,
        arterial_input=found,
        concentration=curves,
        maps=made,
        check=check,
        volumes_ml=volumes,
        intensity_ratio=maps.hypoperfusion_intensity_ratio(volumes),
        tr_s=tr_s,
        threshold=threshold,
        warnings=(
            *(moved.warnings if moved else jumps_of_outline(series.signal, series.affine)),
            *cut,
            *signal_void.warnings(signal.mean(axis=-1), outline, series.affine),
            *bolus.warnings,
            *found.warnings,
            *check.warnings,
        ),
    )


def check_bolus(series: Series) -> None:
    """Refuse a series whose bolus cannot be used, as :func:`examine` does, but in a second.

    Motion is corrected only where the bolus would be refused without.

    Args:
        series: the scan.

    Raises:
        InputError: naming the series.
    """
    try:
        _bolus(*_steady(series, None), series)
    except InputError:
        try:
            moved = correct_motion(series.signal, series.affine, series.times_s)
            _bolus(*_steady(series, moved), series)
        except InputError as error:
            raise series.noticed(InputError(f"{series.label}: {error}")) from error


def _turned(
    artery: NDArray[np.bool_] | Sequence[int] | None, series: Series
) -> NDArray[np.bool_] | Sequence[int] | None:
    """A region or a voxel by the axes of the series; what is neither is refused later."""
    if artery is None or series.axes == (0, 1, 2):
        return artery
    if np.ndim(artery) == 3:
        return series.from_stored(np.asarray(artery))
    return [artery[k] for k in series.axes] if len(artery) == 3 else artery


def _steady(series: Series, moved: Motion | None) -> tuple[NDArray[np.float32], float]:
    """The signal with slices of one moment and frames at equal steps, and the step in s."""
    signal = moved.signal if moved else series.signal
    signal = timing.correct_slice_timing(signal, series.times_s, series.slice_times_s)
    return timing.uniform(signal, series.times_s)


def _bolus(
    signal: NDArray[np.float32],
    tr_s: float,
    series: Series,
    brain: NDArray[np.bool_] | None = None,
) -> tuple[Bolus, NDArray[np.bool_], tuple[str, ...]]:
    """Where the bolus is, the brain and warnings of it.

    The brain is found in the mean of all frames, and must be whole, where it is not given.
    """
    times_s = series.times_s[0] + tr_s * np.arange(signal.shape[-1])
    if brain is not None:
        return concentration.find_bolus(signal, brain, times_s), brain, ()
    brain = brain_of_dwi.brain_mask(Volume(signal.mean(axis=-1), series.affine))
    bolus = concentration.find_bolus(signal, brain, times_s)
    return bolus, brain, signal_void.check_whole(brain, series.affine)


def always_in_view(
    poses: NDArray[np.float64], affine: NDArray[np.float64], shape: tuple[int, ...]
) -> NDArray[np.bool_]:
    """Voxels that lay within the slices at every frame, or no more than a quarter of one outside.

    Correction of motion fills the others with their neighbours' signal, and the step in time looks
    like a late bolus.

    Args:
        poses: [T, 4, 4], mm in the corrected series -> mm at a frame.
        affine: voxel to mm.
        shape: of the series; the third number is that of slices.
    """
    x, y, z = np.ogrid[: shape[0], : shape[1], : shape[2]]
    seen = np.ones(shape[:3], bool)
    for pose in poses:
        turn = (np.linalg.inv(affine) @ pose @ affine)[2]
        slice_then = turn[0] * x + turn[1] * y + turn[2] * z + turn[3]
        seen &= (slice_then >= -MAX_OUTSIDE) & (slice_then <= shape[2] - 1 + MAX_OUTSIDE)
    return seen


def arterial_curve(
    curves: NDArray[np.float32],
    signal: NDArray[np.float32],
    brain: NDArray[np.bool_],
    *,
    artery: NDArray[np.bool_] | Sequence[int] | None,
    baseline_frames: slice,
    tr_s: float,
) -> ArterialInput:
    """The AIF of what is given, compared with the automatic one, or the automatic one.

    Args:
        curves: concentration [X, Y, Z, T], not smoothed.
        signal: same shape.
        brain: bool [X, Y, Z].
        artery: a region, a voxel or None.
        baseline_frames: frames before the bolus.
        tr_s: seconds from frame to frame.

    Raises:
        InputError: nothing is given and no artery is found; what is given cannot be one.
    """

    def automatic() -> ArterialInput:
        return arterial_input.find_arterial_input(
            curves, signal, brain, baseline_frames=baseline_frames, tr_s=tr_s
        )

    if artery is None:
        return automatic()
    found = None
    with contextlib.suppress(InputError):
        found = automatic()
    return arterial_input.given_arterial_input(
        curves, signal, artery, brain, baseline_frames=baseline_frames, tr_s=tr_s, found=found
    )
