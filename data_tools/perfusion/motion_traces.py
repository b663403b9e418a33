"""What motion leaves in a series although its frames lie on one another again.

Slices are thick, so a head that moved through them shows other tissue, which no resampling brings
back: the signal of a voxel steps up or down with the head, and a step after the bolus looks like
contrast that comes very late. In the logarithm of the signal, where contrast adds, each voxel is
explained as

    ln S(t)  ~  a + sum_j b_j q_j(t) + sum_k c_k h_k(t),

in weighted least squares. q are the six parameters of the motion, made independent, and h the
eight main shapes of all that the median curve becomes by delays of -4 to 13 s and transit times
of 0.5 to 12 s. Frames with much contrast count less. What is taken away is sum_j b_j q_j(t), as
far as it is more than chance: times max(0, 1 - 4 / F), F its ratio of variances. Without that last
factor noise and contrast are taken too.
"""

import numpy as np
from numpy.typing import NDArray

DELAYS_S, TRANSITS_S = np.arange(-4.0, 14.0), (0.5, 2.0, 4.0, 8.0, 12.0)
SHAPES = 8
# Parameters that vary less, in mm 50 mm from the middle, are the method's noise.
LEAST_MM = 0.05
LEAST_RATIO = 4.0
# Frames whose contrast is this share of the highest count half.
HALF_AT = 0.25
# A voxel's signal is taken as at least this share of its mean; and changed by at most a factor of e
# to this power.
LEAST_SIGNAL, MOST_LOG = 0.02, 0.5
# A voxel without any signal is divided by this share of the brightest.
DARK_SHARE = 1e-6
# Fewer frames beyond the number of unknowns tell nothing.
LEAST_SPARE_FRAMES = 8
VOXELS_AT_ONCE = 50_000


def without_traces(
    signal: NDArray[np.float32],
    motion_mm: NDArray[np.float64],
    *,
    step_s: float,
    first_frames: slice,
) -> NDArray[np.float32]:
    """Take away what goes with the motion.

    Args:
        signal: (n, T), of voxels, resampled to where the head lay first.
        motion_mm: (T, 6), shifts, and turns in mm 50 mm from the middle.
        step_s: from frame to frame.
        first_frames: before contrast.

    Returns:
        float32 (n, T); the signal itself where there is no motion, or too few frames to tell.
    """
    parameters = _independent(motion_mm)
    if not len(signal) or not parameters.shape[1]:
        return signal
    # The median, for steps of single voxels are no contrast.
    first = signal[:, first_frames].mean(axis=1)
    dark = max(DARK_SHARE * float(first.max()), float(np.finfo(np.float32).tiny))
    first = np.maximum(first, dark)
    middle = np.median(signal / first[:, None], axis=0).astype(np.float64)
    curve = -np.log(np.maximum(middle, LEAST_SIGNAL))
    shapes = _shapes(curve, step_s)
    known = 1 + len(shapes)
    spare = len(curve) - known - parameters.shape[1]
    if spare < LEAST_SPARE_FRAMES:
        return signal
    root = np.sqrt(1 / (1 + (curve / (HALF_AT * max(float(curve.max()), 1e-9))) ** 2))
    contrast = np.column_stack([np.ones(len(curve)), shapes.T])
    both = np.column_stack([contrast, parameters])
    out = np.empty_like(signal)
    for start in range(0, len(signal), VOXELS_AT_ONCE):
        part = signal[start : start + VOXELS_AT_ONCE]
        least = LEAST_SIGNAL * part.mean(axis=1, keepdims=True) + np.finfo(np.float32).tiny
        level = np.log(np.maximum(part, least))
        shares, left = _explained(level, both, root)
        _, left_without = _explained(level, contrast, root)
        gained = (left_without - left) / parameters.shape[1]
        chance = LEAST_RATIO * left / spare
        kept = np.clip(1 - chance / np.maximum(gained, np.finfo(float).tiny), 0, 1)
        trace = (shares[:, known:] * kept[:, None]) @ parameters.T
        out[start : start + VOXELS_AT_ONCE] = part * np.exp(-np.clip(trace, -MOST_LOG, MOST_LOG))
    return out


def _explained(
    level: NDArray[np.floating], columns: NDArray[np.float64], root: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Coefficients [n, columns], and the weighted sum of squares that is left [n]."""
    weighted = columns * root[:, None]
    shares = (level * root) @ np.linalg.pinv(weighted).T
    return shares, (((level - shares @ columns.T) * root) ** 2).sum(axis=1)


def _independent(motion_mm: NDArray[np.float64]) -> NDArray[np.float64]:
    """Columns that are uncorrelated, of mean 0, without those that hardly vary: (T, up to 6)."""
    u, s, _ = np.linalg.svd(motion_mm - motion_mm.mean(axis=0), full_matrices=False)
    return (u * s)[:, s > LEAST_MM * np.sqrt(len(motion_mm))]


def _shapes(curve: NDArray[np.float64], step_s: float) -> NDArray[np.float64]:
    """Main shapes of the curve delayed and spread: (8, T)."""
    count = len(curve)
    # Its end holds on, so that what is earlier has an end as well.
    longer = np.concatenate([curve, np.full(count, curve[-3:].mean()), np.zeros(2 * count)])
    spectrum = np.fft.rfft(longer)
    turns = np.exp(-2j * np.pi * np.fft.rfftfreq(4 * count, step_s) * DELAYS_S[:, None])
    made = []
    for transit_s in TRANSITS_S:
        kernel = np.exp(-step_s * np.arange(2 * count) / transit_s)
        spread = spectrum * np.fft.rfft(kernel / kernel.sum(), 4 * count)
        made.append(np.fft.irfft(spread * turns, 4 * count)[:, :count])
    return np.linalg.svd(np.concatenate(made), full_matrices=False)[2][:SHAPES]
