"""When each value was measured: slices of one moment, frames at equal steps.

An EPI volume is measured slice by slice. Interleaved, neighbouring slices are half a TR apart, and
the artery is chosen by its time: so this stands before the choice. Values between two frames are
those of the cubic spline through all of them, a fixed sum of the frames: one small matrix a slice.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline

from data_tools.runtime.errors import InputError

# Steps that differ by less than this share of the usual one are the clock's rounding.
EVEN_SHARE = 0.01
# Over a longer gap nobody knows what the bolus did.
MAX_GAP_FRAMES = 3.0


def correct_slice_timing(
    signal: NDArray[np.float32], times_s: NDArray[np.float64], slice_times_s: NDArray | None
) -> NDArray[np.float32]:
    """All slices as if measured at the middle of their volume's slice times.

    Args:
        signal: [X, Y, Z, T], any unit.
        times_s: [T], start of each volume.
        slice_times_s: [Z], of each slice within a volume; None, or all equal: nothing is done.

    Returns:
        float32 [X, Y, Z, T]. Before a slice's first and after its last frame those are held.

    Raises:
        InputError: another number of slice times than slices.
    """
    if slice_times_s is None or np.ptp(slice_times_s) == 0:
        return signal
    late_s = np.asarray(slice_times_s, np.float64)
    if late_s.shape != signal.shape[2:3]:
        raise InputError(
            f"{late_s.size} slice times for {signal.shape[2]} slices; expected one for each slice"
        )
    middle_s = (late_s.max() + late_s.min()) / 2
    out = np.empty(signal.shape, np.float32)
    for k, late in enumerate(late_s):
        out[:, :, k] = signal[:, :, k] @ spline_weights(times_s + late, times_s + middle_s)
    return out


def uniform(
    signal: NDArray[np.float32], times_s: NDArray[np.float64]
) -> tuple[NDArray[np.float32], float]:
    """The series at equal steps, and the step.

    Args:
        signal: [..., T], any unit.
        times_s: [T], ascending.

    Returns:
        ``(signal, tr_s)``: float32 [..., T'] at ``times_s[0] + k tr_s``, where ``tr_s`` is the
        median step. Steps that are equal within 1% leave the signal as it is.

    Raises:
        InputError: fewer than two frames, times that do not ascend, or a gap of over three frames.
    """
    if len(times_s) < 2:
        raise InputError(f"{len(times_s)} frame(s) are no series; expected a scan over time")
    steps_s = np.diff(times_s)
    tr_s = float(np.median(steps_s))
    if not steps_s.min() > 0:
        at = int(steps_s.argmin())
        raise InputError(
            f"frame {at + 2} is at {times_s[at + 1]:g} s and frame {at + 1} at {times_s[at]:g} s; "
            "expected frames in the order of their times"
        )
    if steps_s.max() > MAX_GAP_FRAMES * tr_s:
        at = int(steps_s.argmax())
        raise InputError(
            f"frames {at + 1} and {at + 2} are {steps_s[at]:.1f} s apart, and others "
            f"{tr_s:.2f} s; are files missing?"
        )
    mean_s = (times_s[-1] - times_s[0]) / len(steps_s)
    drift_s = np.abs(times_s - times_s[0] - mean_s * np.arange(len(times_s))).max()
    if drift_s <= EVEN_SHARE * tr_s:
        return signal, float(mean_s)
    even_s = np.arange(times_s[0], times_s[-1] + EVEN_SHARE * tr_s, tr_s)
    return (signal @ spline_weights(times_s, even_s)).astype(np.float32), tr_s


def spline_weights(from_s: NDArray, to_s: NDArray) -> NDArray[np.float32]:
    """What each frame counts at each wanted time; float32 [frames, wanted].

    Outside the frames the first or the last one is held.
    """
    spline = CubicSpline(from_s, np.eye(len(from_s)), bc_type="natural")
    return spline(np.clip(to_s, from_s[0], from_s[-1])).T.astype(np.float32)
