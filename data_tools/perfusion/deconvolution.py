"""Tissue curves and the arterial one -> the residue function, by a filter in the Fourier domain.

Tissue shows what its artery brings, smeared by its own transit and late by its delay::

    C(t) = F x integral of AIF(s) R(t - s) ds

``residue`` gives ``F x R(lag)``: its height is CBF, the lag of its peak Tmax. The matrix of a
circular convolution has the Fourier transform of its first column as eigenvalues and their sizes
as singular values, so that its truncated SVD is a filter: frequencies at which the AIF has less
than ``threshold`` of its largest gain are left out, all others divided by the gain. Both curves
are padded with as many zeros, so that a delay either way stays where it belongs.

* ``csvd``: Wu et al., Magn Reson Med 2003;50:164. One threshold for all voxels.
* ``osvd``: the same source. Each voxel takes the lowest threshold at which its residue no longer
  swings: ``sum |R[k] - 2 R[k-1] + R[k-2]| / (L max R)`` is at most ``threshold`` times the square
  of TR in s, with which it grows for a smooth curve.
* ``tikhonov``: Calamante et al., Magn Reson Med 2003;50:1237, with one weight for all voxels: the
  gain ``g`` is divided by as ``conj(g) / (|g|^2 + (threshold x largest gain)^2)``.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from data_tools.runtime.errors import InputError

METHODS = ("csvd", "osvd", "tikhonov")
# The first two are those of Wu et al. With the third the offsets of Tmax come nearest to those of
# cSVD: 2.1, 2.8 and 3.1 s beside 2.2, 2.9 and 3.2 s at MTT 4, 8 and 12 s.
THRESHOLDS = {"csvd": 0.10, "osvd": 0.035, "tikhonov": 0.15}
OSVD_THRESHOLDS = tuple(np.geomspace(0.01, 0.5, 18).round(4).tolist())


def residue(
    concentration: NDArray[np.float32],
    aif: NDArray[np.float32],
    *,
    tr_s: float,
    method: str = "csvd",
    threshold: float | None = None,
    per_frame: int = 1,
) -> NDArray[np.float32]:
    """Residue functions times flow, signed as they come.

    Args:
        concentration: [n, T], the unit of ``aif``; 0 before the bolus.
        aif: [T]; 0 before the bolus.
        tr_s: seconds from frame to frame.
        method: one of ``METHODS``.
        threshold: in 0 to 1; None takes that of ``THRESHOLDS``.
        per_frame: values for each frame; those between frames are the same band-limited curve.

    Returns:
        float32 [n, 2 T per_frame] in 1/s, its columns at ``lags_s``; [0, ...] of no curve.

    Raises:
        InputError: the AIF has no area, a method or a threshold that does not exist.
    """
    threshold = checked_threshold(method, threshold)
    length = 2 * len(aif)
    gain = _gain(aif, tr_s)
    if not np.abs(gain).max() > 0:
        raise InputError("the arterial curve is 0 everywhere; choose another voxel for it")
    spectrum = fft.rfft(np.asarray(concentration, np.float32), length, axis=-1)
    if method != "osvd":
        return _curves(spectrum * _inverse(gain, method, threshold), length, per_frame)
    return _without_swings(spectrum, gain, length, limit=threshold * tr_s**2, per_frame=per_frame)


def lags_s(frames: int, tr_s: float, per_frame: int = 1) -> NDArray[np.float64]:
    """Seconds by which each column of :func:`residue` is behind the AIF; [2 frames per_frame].

    The second half is negative: what is before the AIF.

    >>> lags_s(2, 1.5).tolist()
    [0.0, 1.5, -3.0, -1.5]
    """
    return fft.fftfreq(2 * frames * per_frame) * 2 * frames * tr_s


def checked_threshold(method: str, threshold: float | None) -> float:
    """The threshold, or that of the method.

    Raises:
        InputError: no such method; not between 0 and 1.
    """
    if method not in METHODS:
        raise InputError(f"no deconvolution is called {method!r}; expected {', '.join(METHODS)}")
    if threshold is None:
        return THRESHOLDS[method]
    if not 0 < threshold < 1:
        raise InputError(f"the threshold is {threshold:g}; expected more than 0 and less than 1")
    return float(threshold)


def _gain(aif: NDArray, tr_s: float) -> NDArray[np.complex64]:
    """By what a circular convolution with the AIF multiplies each frequency; [T + 1]."""
    return (fft.rfft(np.asarray(aif, np.float64), 2 * len(aif)) * tr_s).astype(np.complex64)


def _inverse(gain: NDArray, method: str, threshold: float) -> NDArray[np.complex64]:
    size = np.abs(gain)
    level = threshold * size.max()
    if method == "tikhonov":
        return (gain.conj() / (size**2 + level**2)).astype(np.complex64)
    kept = size >= level
    return np.where(kept, 1 / np.where(kept, gain, 1), 0).astype(np.complex64)


def _curves(spectrum: NDArray, length: int, per_frame: int) -> NDArray[np.float32]:
    if per_frame > 1:
        # The highest frequency stands for itself and its mirror image.
        spectrum[:, -1] /= 2
    return fft.irfft(spectrum, length * per_frame, axis=-1) * np.float32(per_frame)


def _without_swings(
    spectrum: NDArray, gain: NDArray, length: int, *, limit: float, per_frame: int
) -> NDArray[np.float32]:
    """Each curve by the lowest threshold at which it swings by no more than ``limit``."""
    found = np.empty((len(spectrum), length * per_frame), np.float32)
    left = np.arange(len(spectrum))
    for threshold in OSVD_THRESHOLDS:
        filtered = spectrum[left] * _inverse(gain, "osvd", threshold)
        curves = _curves(filtered, length, 1)
        bent = np.abs(np.diff(curves, 2, axis=-1)).sum(axis=-1)
        calm = bent <= limit * length * curves.max(axis=-1)
        if threshold == OSVD_THRESHOLDS[-1]:
            calm[:] = True
        found[left[calm]] = _curves(filtered[calm], length, per_frame)
        left = left[~calm]
    return found
