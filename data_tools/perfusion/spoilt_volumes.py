"""What no scan gives: values below 0, copies, empty volumes, and those out of line with others.

Contrast darkens the brain over several volumes and motion hardly changes a head's mean signal. So a
volume, or one slice of it, that is empty, or far brighter or darker than the one before and the one
after, is damaged or in the wrong place. What is empty would else pass for the height of a bolus.
One or two are filled in from their neighbours where nothing happens; as the bolus passes, no
neighbour tells what is lost.
"""

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from data_tools.runtime.errors import InputError, counted

# Of a percentile of the mean image; the head moves by so many voxels within a slice.
HEAD_SHARE, HEAD_PERCENTILE, HEAD_MARGIN = 0.15, 98, 3
# Of a slice's usual signal; contrast leaves half.
EMPTY_SHARE = 0.05
# Beyond both neighbours. A mean over the head has noise of 0.1%, and 1% in patients who move.
LEAST_SHARE, OF_NOISE = 0.04, 6.0
# The bolus is narrow in one volume of 2 s at most, but never takes this much of its neighbours.
MOST_BOLUS_SHARE = 0.4
# Of a single slice, which shows other tissue when the head moves; at its ends there is little head.
SLICE_SHARE, LEAST_SLICE_AREA = 0.5, 0.25
MAX_FILLED, MOST_NAMED = 2, 3
EMPTY = "is empty"
# Of all that is in the image; resampling leaves a little below 0 at edges.
MOST_NEGATIVE_SHARE = 0.02
# Beyond, squares are lost in 32 bits.
LARGEST = (1e-3, 1e9)
# Less is no bolus.
LEAST_FALL_SHARE = 0.02
# From two volumes before the signal has lost this share of its fall until it has it back.
STEEP_SHARE, EARLIER_VOLUMES = 0.4, 2


@dataclasses.dataclass(frozen=True)
class Spoilt:
    """What is wrong with a volume or some of its slices.

    Attributes:
        volume: from 0.
        slices: from 0, ascending.
        whole: whether these are all slices with head.
        what: ``is empty``, ``is 12% brighter than the volumes before and after it``.
    """

    volume: int
    slices: tuple[int, ...]
    whole: bool
    what: str

    def named(self, volumes: int) -> str:
        """``volume 11 of 38 (slice 4) is empty``; counted from 1."""
        first, last = self.slices[0] + 1, self.slices[-1] + 1
        if last - first + 1 != len(self.slices):
            part = f" (slices {', '.join(str(k + 1) for k in self.slices)})"
        else:
            part = f" (slice {first})" if first == last else f" (slices {first} to {last})"
        return f"volume {self.volume + 1} of {volumes}{'' if self.whole else part} {self.what}"


def without_spoilt(signal: NDArray[np.float32]) -> tuple[NDArray[np.float32], tuple[str, ...]]:
    """A series whose spoilt volumes are filled in, and a warning for each.

    Args:
        signal: [X, Y, Z, T], any unit, finite; slices along the third axis.

    Returns:
        ``(signal, warnings)``; the signal itself where nothing is wrong.

    Raises:
        InputError: volumes out of order; more than two spoilt volumes, or one as the bolus passes.
    """
    levels = _levels(signal)
    found = find_spoilt(signal, levels)
    if not found:
        return signal, ()
    volumes = signal.shape[3]
    names = "; ".join(each.named(volumes) for each in found[:MOST_NAMED])
    if len(found) > MOST_NAMED:
        names += "; ..."
    displaced = [each for each in found if each.whole and each.what != EMPTY]
    if len(displaced) > MAX_FILLED:
        raise InputError(
            f"the head's mean signal jumps to and fro from volume to volume: {names}. Are the "
            "volumes in the order of their times?"
        )
    spoilt = sorted({each.volume for each in found})
    if len(spoilt) > MAX_FILLED:
        raise InputError(
            f"{counted(len(spoilt), 'volume')} are spoilt, and {MAX_FILLED} can be filled in: "
            f"{names}. Export the series again"
        )
    filled_levels = _filled(levels, found)
    passing = _bolus_passes(_usual(filled_levels[np.isfinite(levels[:, 0])]))
    lost = [each for each in found if passing[each.volume]]
    if lost:
        raise InputError(
            f"{lost[0].named(volumes)}, as the bolus passes, where no other volume can stand in "
            f"for it.{_asked(lost[0]) or ' Export the series again'}"
        )
    return _filled(signal, found), tuple(
        f"{each.named(volumes)}; it was filled in from the volumes before and after "
        f"it.{_asked(each)}"
        for each in found
    )


def holes_told(absent: NDArray[np.bool_] | None) -> tuple[str, ...]:
    """A warning of voxels that hold no number in some volumes only; none about a background.

    Args:
        absent: [X, Y, Z, T], where the file holds no number; None if it holds one everywhere.
    """
    if absent is None:
        return ()
    good = ~absent.all(axis=(0, 1))  # empty slices are told elsewhere
    lost = (absent & good).sum(axis=3)
    count = int(((lost > 0) & (lost < good.sum(axis=1))).sum())
    if not count:
        return ()
    holds = "holds" if count == 1 else "hold"
    return (
        f"{counted(count, 'voxel')} {holds} NaN or infinity in some volumes, and 0 was taken "
        "there. Export the series again",
    )


def checked_values(
    signal: NDArray[np.float32],
) -> tuple[NDArray[np.float32], tuple[str, ...]]:
    """The signal in a unit that can be computed with, and a warning of volumes that are copies.

    Args:
        signal: [X, Y, Z, T], any unit, finite.

    Raises:
        InputError: nothing above 0, all volumes equal, or values below 0.
    """
    largest = float(signal.max())
    if not largest > 0:
        raise InputError("no voxel is brighter than 0; the series is empty")
    volumes = signal.shape[3]
    copies = [
        k
        for k in range(1, volumes)
        if np.array_equal(signal[..., k - 1], signal[..., k]) and signal[..., k].any()
    ]
    if len(copies) == volumes - 1:
        raise InputError(f"all {volumes} frames are equal; expected a scan over time")
    if not LARGEST[0] <= largest <= LARGEST[1]:
        signal = np.ldexp(signal, 10 - int(np.log2(largest)))  # exact
    below = float(-signal.sum(where=signal < 0, dtype=np.float64))
    share = below / float(np.abs(signal).sum(dtype=np.float64))
    if share > MOST_NEGATIVE_SHARE:
        raise InputError(
            f"{100 * share:.0f}% of its signal is below 0; expected a magnitude image, which has "
            "none there. Is it a phase image or a difference, or were its numbers stored wrongly?"
        )
    if not copies:
        return signal, ()
    names = ", ".join(str(k + 1) for k in copies[:MOST_NAMED])
    names += ", ..." if len(copies) > MOST_NAMED else ""
    are = "is an exact copy" if len(copies) == 1 else "are exact copies"
    return signal, (
        f"{counted(len(copies), 'volume')} of {volumes} ({names}) {are} of the one before, which "
        "no scanner gives. Were volumes exported twice? Then times are wrong",
    )


def _asked(each: Spoilt) -> str:
    if each.what == EMPTY:
        return ""
    return " Is it damaged, or are the volumes not in the order of their times?"


def find_spoilt(signal: NDArray[np.float32], levels: NDArray[np.float64]) -> list[Spoilt]:
    """Spoilt volumes and slices, in the order of time.

    Args:
        signal: [X, Y, Z, T].
        levels: [Z, T], the head's mean signal in each slice; NaN without head.
    """
    head = np.flatnonzero(np.isfinite(levels[:, 0]))
    if not len(head) or levels.shape[1] < 3:
        return []
    shown = levels[head]
    empty = shown < EMPTY_SHARE * np.median(shown, axis=1, keepdims=True)
    empty |= np.stack([np.ptp(signal[:, :, k], axis=(0, 1)) == 0 for k in head])
    found = []
    for volume in np.flatnonzero(empty.any(axis=0)):
        which = head[empty[:, volume]]
        found.append(Spoilt(int(volume), tuple(map(int, which)), len(which) == len(head), EMPTY))
    good = np.flatnonzero(~empty.any(axis=0))
    odd = _out_of_line(_usual(shown[:, good]))
    whole = tuple(map(int, head))
    for at, share in odd.items():
        found.append(Spoilt(int(good[at]), whole, True, _compared(share)))
    rest = np.delete(good, list(odd))
    if len(rest) > 2:
        found += _odd_slices(shown[:, rest], rest, head)
    return sorted(found, key=lambda each: (each.volume, each.slices))


def _compared(share: float) -> str:
    more = f"{100 * abs(share):.0f}% {'brighter' if share > 0 else 'darker'}"
    return f"is {more} than the volumes before and after it"


def _levels(signal: NDArray[np.float32]) -> NDArray[np.float64]:
    """Mean signal of the head in each slice and volume, [Z, T]; NaN where little head is."""
    mean = signal.mean(axis=3)
    head = mean > HEAD_SHARE * np.percentile(mean, HEAD_PERCENTILE)
    area = head.sum(axis=(0, 1))
    size = 2 * HEAD_MARGIN + 1
    head = ndimage.binary_dilation(head, np.ones((size, size, 1), bool))
    levels = np.full(signal.shape[2:], np.nan)
    for k in np.flatnonzero(area > LEAST_SLICE_AREA * area.max()):
        levels[k] = signal[:, :, k][head[:, :, k]].mean(axis=0, dtype=np.float64)
    return levels


def _usual(levels: NDArray[np.float64]) -> NDArray[np.float64]:
    """The median slice's signal, of its own median; [slices, T] -> [T]."""
    return np.median(levels / np.median(levels, axis=1, keepdims=True), axis=0)


def _out_of_line(curve: NDArray[np.float64]) -> dict[int, float]:
    """Single volumes, and pairs, beyond both sides: index -> share above (or below) the nearer."""
    noise = 1.4826 * np.median(np.abs(np.diff(curve, 2))) / np.sqrt(6)
    least = max(LEAST_SHARE, OF_NOISE * float(noise))
    passing = _bolus_passes(curve)
    found: dict[int, float] = {}
    last = len(curve) - 1
    for length in (1, 2):
        # The first volumes may be brighter while tissue is not yet saturated.
        for at in range(1, len(curve) - length + 1):
            inside = curve[at : at + length]
            end = at + length
            sides = (curve[at - 1], curve[end] if end <= last else curve[at - 2])
            above, below = inside.min() / max(sides) - 1, 1 - inside.max() / min(sides)
            dip = MOST_BOLUS_SHARE if passing[at:end].any() else length * least
            if above > length * least or below > dip:
                for k in range(at, end):
                    share = curve[k] / (max(sides) if above > 0 else min(sides)) - 1
                    found.setdefault(k, float(share))
    return found


def _odd_slices(
    shown: NDArray[np.float64], volumes: NDArray[np.int64], head: NDArray[np.int64]
) -> list[Spoilt]:
    """Slices of one volume that are half as bright again as both neighbours, or half as bright."""
    before, here, after = shown[:, :-2], shown[:, 1:-1], shown[:, 2:]
    bright = here > (1 + SLICE_SHARE) * np.maximum(before, after)
    dark = here < (1 - SLICE_SHARE) * np.minimum(before, after)
    found = []
    for at in np.flatnonzero((bright | dark).any(axis=0)):
        for which, word in ((bright[:, at], "brighter"), (dark[:, at], "darker")):
            if which.any():
                what = f"is far {word} than in the volumes before and after it"
                slices = tuple(map(int, head[which]))
                found.append(Spoilt(int(volumes[at + 1]), slices, False, what))
    return found


def _bolus_passes(curve: NDArray[np.float64]) -> NDArray[np.bool_]:
    """From shortly before the steep fall until the signal has partly come back; bool [T]."""
    smooth = ndimage.median_filter(curve, 3, mode="nearest")
    top = np.percentile(smooth, 90)
    if top - smooth.min() < LEAST_FALL_SHARE * top:
        return np.zeros(len(curve), bool)
    low = smooth < top - STEEP_SHARE * (top - smooth.min())
    around, _ = ndimage.label(low)
    passing = around == around[int(smooth.argmin())]
    first = int(np.argmax(passing))
    passing[max(first - EARLIER_VOLUMES, 0) : first] = True
    return passing


def _filled(values: NDArray[Any], found: list[Spoilt]) -> NDArray[Any]:
    """[..., Z, T]; spoilt slices as the line between the nearest good volumes, held at the ends."""
    out = values.copy()
    bad = np.zeros(values.shape[-2:], bool)
    for each in found:
        bad[slice(None) if each.whole else list(each.slices), each.volume] = True
    for k, volume in np.argwhere(bad):
        good = np.flatnonzero(~bad[k])
        before, after = good[good < volume], good[good > volume]
        one = before[-1] if len(before) else after[0]
        other = after[0] if len(after) else one
        share = (volume - one) / (other - one) if other != one else 0.0
        out[..., k, volume] = (1 - share) * values[..., k, one] + share * values[..., k, other]
    return out
