"""The arterial curve (AIF): found in the series, or that of a region or a voxel that is given.

An artery that feeds the brain is early, high and narrow. A vein is high but late and wide, an
artery behind the occlusion high and narrow but late, and one that is large has no signal left at
the peak: its curve is cut off. So curves are grouped by when they arrive, peak and end (as
Mouridsen et al., Magn Reson Med 2006;55:524 and Peruzzo et al., Comput Methods Programs Biomed
2011;104:e148 group them by shape), and of the groups that are early the steepest is taken.

Times are sought between frames and compared in seconds. Whole frames would be equal in most
voxels: their spread is 0, and every limit in spreads ("within 3 MAD") then leaves out all others.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.cluster import hierarchy

from data_tools.perfusion.timing import spline_weights
from data_tools.runtime.errors import InputError, counted

# Of the brain's voxels, the highest: large vessels, arteries and veins, and their neighbours.
HIGHEST_SHARE, FEWEST_CANDIDATES, MOST_CANDIDATES = 0.05, 100, 2000
# Noise then moves the arrival by less than a frame.
MIN_HEIGHT_NOISE = 10.0
# With less than this left at the peak the logarithm turns noise into concentration.
MIN_SIGNAL_NOISE = 3.0
# Width at 90% of the height over width at 50%: 0.39 of a Gaussian, 0.42 of a gamma-variate.
MAX_FLATNESS = 0.6
FINE_PER_FRAME = 8
ARRIVED_SHARE = 0.25
# An artery's first passage, and the beginning of its tissue's.
PASSING_S = 13.0
# Curves of a group differ by less than this, in seconds of arrival, peak and width together.
GROUP_S = 2.0
MIN_VOXELS, MAX_VOXELS = 3, 10
# Feeding arteries differ by less than this; what is behind an occlusion or in a vein by more.
EARLY_WITHIN_S = 1.0
# Of the chosen group's medians; the peak is the noisier of both.
ARRIVAL_WITHIN_S, PEAK_WITHIN_S, STEEP_SHARE = 0.6, 1.2, 0.5
# Of a curve that is given.
LATE_OVERRIDE_S, MAX_CUT_OFF_SHARE = 1.5, 0.3
# Of the brain's noise: air has 1.3 times as much.
MIN_GIVEN_SIGNAL_NOISE = 5.0
NO_ARTERY = (
    "no artery was found in the perfusion series: no three voxels of the brain are early, high and "
    "narrow. Give a region or a voxel of an artery"
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shapes:
    """What is measured of n curves; float64 [n] each.

    Attributes:
        arrival_s: when a quarter of the height is reached on the way to the peak.
        peak_s: time of the peak; both after the first frame.
        width_s: at half of the height; to the scan's end where it never falls so low.
        centre_s: centre of gravity of the first 13 s after the baseline; later, the more tissue is
            in the voxel.
        height: 1/s.
        flatness: width at 90% over width at 50%.
    """

    arrival_s: NDArray[np.float64]
    peak_s: NDArray[np.float64]
    width_s: NDArray[np.float64]
    centre_s: NDArray[np.float64]
    height: NDArray[np.float64]
    flatness: NDArray[np.float64]

    @property
    def steepness(self) -> NDArray[np.float64]:
        """Height over width, 1/s2."""
        return self.height / self.width_s

    def of(self, chosen: NDArray) -> "Shapes":
        """Some of them."""
        return Shapes(
            **{each.name: getattr(self, each.name)[chosen] for each in dataclasses.fields(self)}
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class ArterialInput:
    """The arterial curve and where it is from.

    Attributes:
        curve: float32 [T] in 1/s, the mean of the voxels.
        voxels: int [n, 3], the earliest first.
        shapes: of each voxel's curve.
        how: ``automatic``, ``region`` or ``voxel``.
        warnings: sentences.
    """

    curve: NDArray[np.float32]
    voxels: NDArray[np.int64]
    shapes: Shapes
    how: str
    warnings: tuple[str, ...] = ()


def find_arterial_input(
    concentration: NDArray[np.float32],
    signal: NDArray[np.float32],
    brain: NDArray[np.bool_],
    *,
    baseline_frames: slice,
    tr_s: float,
) -> ArterialInput:
    """The mean of up to 10 voxels of the earliest arteries.

    1. Candidates: the highest 5% of the brain's curves that stand 10 times above their noise, keep
       3 times the noise as signal at the peak and have a pointed top.
    2. They are grouped by arrival, peak and width in seconds (complete linkage).
    3. Of groups of three voxels or more that arrive within 1 s of the earliest one, the one with
       the largest median of height / width.
    4. All candidates that arrive within 0.6 s and peak within 1.2 s of that group's medians and
       are at least half as steep as its steepest; of these the 10 whose centre is earliest, since
       the tissue around an artery makes its curve late.

    Args:
        concentration: [X, Y, Z, T] in 1/s, slices of one moment, not smoothed.
        signal: same shape, any unit, likewise.
        brain: bool [X, Y, Z].
        baseline_frames: frames before the bolus.
        tr_s: seconds from frame to frame.

    Raises:
        InputError: no group of three voxels looks like an artery.
    """
    if not brain.any():
        raise InputError(NO_ARTERY)
    places = np.argwhere(brain)
    curves, seen = concentration[brain], signal[brain]
    height = curves[:, baseline_frames.stop :].max(axis=-1)
    usable = _has_signal(seen, _noise(seen, baseline_frames))
    usable &= height >= MIN_HEIGHT_NOISE * curves[:, baseline_frames].std(axis=-1, ddof=1)
    usable &= height > 0
    wanted = int(np.clip(HIGHEST_SHARE * len(curves), FEWEST_CANDIDATES, MOST_CANDIDATES))
    candidates = np.flatnonzero(usable)
    candidates = candidates[np.argsort(-height[candidates], kind="stable")[:wanted]]
    shapes = measure(curves[candidates], baseline_frames.stop, tr_s)
    pointed = shapes.flatness <= MAX_FLATNESS
    candidates, shapes = candidates[pointed], shapes.of(pointed)
    chosen = _early_and_steep(shapes)
    if not len(chosen):
        raise InputError(NO_ARTERY)
    found = candidates[chosen]
    few = f"the arterial curve is that of {counted(len(found), 'voxel')}; check where it is from"
    return ArterialInput(
        curve=curves[found].mean(axis=0),
        voxels=places[found],
        shapes=shapes.of(chosen),
        how="automatic",
        warnings=(few,) if len(found) < MIN_VOXELS else (),
    )


def given_arterial_input(
    concentration: NDArray[np.float32],
    signal: NDArray[np.float32],
    where: NDArray[np.bool_] | Sequence[int],
    brain: NDArray[np.bool_],
    *,
    baseline_frames: slice,
    tr_s: float,
    found: ArterialInput | None = None,
) -> ArterialInput:
    """The mean curve of a region, or the curve of a voxel.

    Args:
        concentration: [X, Y, Z, T] in 1/s, slices of one moment, not smoothed.
        signal: same shape, any unit, likewise.
        where: bool [X, Y, Z], or three indices from 0.
        brain: bool [X, Y, Z], whose noise counts; an empty one tells none.
        baseline_frames: frames before the bolus.
        tr_s: seconds from frame to frame.
        found: what was found automatically, to compare with.

    Returns:
        With a warning if the curve arrives more than 1.5 s after ``found``, or is cut off.

    Raises:
        InputError: an empty region, one of another shape, a voxel outside the image, no signal, no
            bolus.
    """
    shape = concentration.shape[:3]
    how = "region" if np.ndim(where) == 3 else "voxel"
    if how == "region":
        mask = np.asarray(where, bool)
        if mask.shape != shape:
            raise InputError(
                f"the arterial region has {mask.shape} voxels and the series {shape}; expected a "
                "mask on the grid of the series"
            )
        voxels = np.argwhere(mask)
        if not len(voxels):
            raise InputError("the arterial region is empty; mark at least one voxel of an artery")
    else:
        voxels = np.array([where], int)
        if voxels.shape != (1, 3) or (voxels < 0).any() or (voxels >= shape).any():
            raise InputError(
                f"the arterial voxel {tuple(where)} is not in the image; expected three indices "
                f"from 0 up to {tuple(size - 1 for size in shape)}"
            )
    curves, seen = concentration[tuple(voxels.T)], signal[tuple(voxels.T)]
    curve = curves.mean(axis=0)
    level = float(seen[:, baseline_frames].mean())
    signal_noise = _noise(signal[brain], baseline_frames) if brain.any() else 0.0
    if not level > MIN_GIVEN_SIGNAL_NOISE * signal_noise:
        raise InputError(
            f"the arterial {how} that was given has no signal: {level:.3g}, and the noise is "
            f"{signal_noise:.3g}. It lies in air or bone; choose one in an artery"
        )
    noise = curve[baseline_frames].std(ddof=1)
    if not curve[baseline_frames.stop :].max() > MIN_HEIGHT_NOISE / 2 * noise:
        raise InputError(
            f"the arterial {how} that was given shows no bolus; choose one in an artery"
        )
    whole = measure(curve[None], baseline_frames.stop, tr_s)
    warnings = []
    cut_off = float((~_has_signal(seen, signal_noise)).mean())
    if cut_off > MAX_CUT_OFF_SHARE or whole.flatness[0] > MAX_FLATNESS:
        why = "its top is flat"
        if cut_off > MAX_CUT_OFF_SHARE:
            why = f"too little signal is left at the peak in {100 * cut_off:.0f}% of its voxels"
        warnings.append(
            f"the curve of the arterial {how} is cut off: {why}. Its height and all of CBF and CBV "
            "are unreliable"
        )
    if found is not None:
        late_s = whole.arrival_s[0] - np.median(found.shapes.arrival_s)
        if late_s > LATE_OVERRIDE_S:
            warnings.append(
                f"the arterial {how} that was given arrives {late_s:.1f} s later than the arteries "
                "found automatically; Tmax is that much too low"
            )
    shapes = measure(curves, baseline_frames.stop, tr_s)
    order = np.argsort(shapes.centre_s, kind="stable")
    return ArterialInput(
        curve=curve,
        voxels=voxels[order],
        shapes=shapes.of(order),
        how=how,
        warnings=tuple(warnings),
    )


def measure(curves: NDArray[np.float32], first_frame: int, tr_s: float) -> Shapes:
    """Arrival, peak, width and height of curves, between frames by a cubic spline.

    Args:
        curves: [n, T] in 1/s.
        first_frame: the peak is sought from here on.
        tr_s: seconds from frame to frame.
    """
    frames = curves.shape[-1]
    fine_frames = np.arange(FINE_PER_FRAME * (frames - 1) + 1) / FINE_PER_FRAME
    fine = curves @ spline_weights(np.arange(frames), fine_frames)
    start = first_frame * FINE_PER_FRAME
    peak = start + fine[:, start:].argmax(axis=-1)
    height = fine[np.arange(len(fine)), peak]
    before = np.arange(fine.shape[-1]) <= peak[:, None]

    def crossed(share: float) -> tuple[NDArray, NDArray]:
        """Last step below a share of the height before the peak, first one after it."""
        low = fine < share * height[:, None]
        earlier, later = low & before, low & ~before
        rise = fine.shape[-1] - 1 - earlier[:, ::-1].argmax(axis=-1)
        fall = later.argmax(axis=-1)
        return (
            np.where(earlier.any(axis=-1), rise, 0),
            np.where(later.any(axis=-1), fall, fine.shape[-1] - 1),
        )

    arrived, _ = crossed(ARRIVED_SHARE)
    half, top = crossed(0.5), crossed(0.9)
    width = np.maximum(half[1] - half[0], 1)
    step_s = tr_s / FINE_PER_FRAME
    # Any positive number holds the place of a curve of which nothing is positive.
    passing = np.maximum(fine[:, start : start + int(PASSING_S / step_s)], 1e-6)
    return Shapes(
        arrival_s=arrived * step_s,
        peak_s=peak * step_s,
        width_s=width * step_s,
        centre_s=(passing @ np.arange(passing.shape[-1]) / passing.sum(axis=-1) + start) * step_s,
        height=height.astype(np.float64),
        flatness=(top[1] - top[0]) / width,
    )


def _noise(signal: NDArray, baseline_frames: slice) -> float:
    """That of most curves before the bolus; of [n, T]."""
    return float(np.median(signal[:, baseline_frames].std(axis=-1, ddof=1)))


def _has_signal(signal: NDArray, noise: float) -> NDArray[np.bool_]:
    """Whether each curve's lowest signal is above the noise; [n]."""
    return signal.min(axis=-1) >= MIN_SIGNAL_NOISE * noise


def _early_and_steep(shapes: Shapes) -> NDArray[np.int64]:
    """The arteries among candidates, the earliest first; empty if there are none."""
    if len(shapes.height) < MIN_VOXELS:
        return np.zeros(0, np.int64)
    features_s = np.stack([shapes.arrival_s, shapes.peak_s, shapes.width_s], axis=1)
    group_of = hierarchy.fcluster(hierarchy.linkage(features_s, "complete"), GROUP_S, "distance")
    groups = [np.flatnonzero(group_of == number) for number in np.unique(group_of)]
    groups = [group for group in groups if len(group) >= MIN_VOXELS]
    if not groups:
        return np.zeros(0, np.int64)
    arrivals_s = [np.median(shapes.arrival_s[group]) for group in groups]
    early = [
        group
        for group, arrival_s in zip(groups, arrivals_s, strict=True)
        if arrival_s <= min(arrivals_s) + EARLY_WITHIN_S
    ]
    best = max(early, key=lambda group: np.median(shapes.steepness[group]))
    alike = np.abs(shapes.arrival_s - np.median(shapes.arrival_s[best])) <= ARRIVAL_WITHIN_S
    alike &= np.abs(shapes.peak_s - np.median(shapes.peak_s[best])) <= PEAK_WITHIN_S
    alike &= shapes.steepness >= STEEP_SHARE * shapes.steepness[best].max()
    kept = np.flatnonzero(alike)
    return kept[np.argsort(shapes.centre_s[kept], kind="stable")[:MAX_VOXELS]]
