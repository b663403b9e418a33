"""Slices of a series -> its images, each whole, with its weighting."""

import dataclasses
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from data_tools.dicom.frames import Frame, Head, pixels
from data_tools.dicom.vendors import Direction
from data_tools.runtime.errors import InputError

# Slices nearer than this lie at one place; numbers in files are rounded.
SAME_PLACE_MM = 0.2
# Distances between neighbouring slices differ by rounding only; a lost slice doubles one.
MAX_GAP_RATIO = 1.5
MAX_UNEVEN_MM = 0.2
# Slices may be moved against one another in their plane by rounding only.
MAX_TILT_MM = 0.2
AGAIN = "Slices are lost: export the series again."

ADC_WORDS = re.compile(r"(?<![a-z])(adc|apparent diffusion)(?![a-z])", re.I)
# Exponential ADC maps (eADC) and those of the tensor are other images.
OTHER_WORDS = re.compile(r"(?<![a-z])(e-?adc|exponential|fa|colfa|tensor)(?![a-z])", re.I)
ADC_KIND = re.compile(r"D?ADC(_.*)?")
OTHER_KIND = re.compile(r"(E-?ADC|EXP|FA|COLFA|TENSOR|RA|VR|PHASE|P|MIP|PROJECTION)([ _].*)?")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Image:
    """One volume of a series.

    Attributes:
        b_value: s/mm2; None if nothing says it.
        direction: of diffusion; zeros for a trace image, NaN if nothing says it.
        frames: along the normal.
    """

    b_value: float | None
    direction: Direction
    frames: tuple[Frame, ...]

    @property
    def is_trace(self) -> bool:
        """Of no direction, by what the file says."""
        return not any(self.direction)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stack:
    """Images of one series on one grid.

    Attributes:
        head: of the series.
        is_adc: an ADC map.
        images: by b-value, directions in the order of the scan.
        affine: index [column, row, slice] -> mm, RAS+.
        notes: what was left out.
    """

    head: Head
    is_adc: bool
    images: tuple[Image, ...]
    affine: NDArray[np.float64]
    notes: tuple[str, ...]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Columns, rows, slices."""
        frames = self.images[0].frames
        rows, columns = frames[0].plane.shape
        return columns, rows, len(frames)

    def load(self, image: Image) -> NDArray[np.float32]:
        """Displayed values: float32 [column, row, slice]."""
        return np.ascontiguousarray(pixels(list(image.frames)).transpose(2, 1, 0))


def is_adc(frame: Frame) -> bool:
    """Whether a slice is of an ADC map: its type decides, then the series' description."""
    if any(ADC_KIND.fullmatch(word) for word in frame.kind):
        return True
    if any(word.startswith("TRACE") for word in frame.kind):
        return False
    text = frame.head.description
    return bool(ADC_WORDS.search(text)) and not OTHER_WORDS.search(text)


def is_other_map(frame: Frame) -> bool:
    """Whether a slice is of another map, or no magnitude image."""
    if any(word.startswith("TRACE") for word in frame.kind):
        return False
    if any(OTHER_KIND.fullmatch(word) for word in frame.kind[2:]):
        return True
    return bool(OTHER_WORDS.search(frame.head.description)) and not is_adc(frame)


def grouped(frames: Iterable[Frame]) -> list[list[Frame]]:
    """Slices that make one stack: of a series, a lattice, and either map or image."""
    groups: dict[tuple, list[list[Frame]]] = defaultdict(list)
    for frame in frames:
        if is_other_map(frame):
            continue
        alike = groups[frame.head.uid, frame.plane.shape, is_adc(frame)]
        for group in alike:
            if group[0].plane.fits(frame.plane):
                group.append(frame)
                break
        else:
            alike.append([frame])
    return [
        sorted(group, key=lambda f: (f.order, str(f.path), f.index))
        for alike in groups.values()
        for group in alike
    ]


def build(label: str, frames: Sequence[Frame]) -> Stack:
    """The images that slices of one group make.

    Args:
        label: of the folder, for messages.
        frames: an entry of :func:`grouped`.

    Raises:
        InputError: slices are lost, doubled, unevenly spaced or moved against one another.
    """
    head = frames[0].head
    label = f"{label} ({head.name})"
    adc = is_adc(frames[0])
    place = _places(frames)
    by_weighting: dict[tuple, list[list[Frame]]] = {}
    for frame, k in zip(frames, place, strict=True):
        # An ADC map is of no b-value, whatever stands there.
        key = () if adc else (frame.b_value, *np.round(frame.direction, 2).tolist())
        key = tuple("unknown" if value != value else value for value in key)
        slots = by_weighting.setdefault(key, [[] for _ in range(place.max() + 1)])
        slots[k].append(frame)
    images: list[Image] = []
    notes: list[str] = []
    _check_counts(label, by_weighting.values(), frames)
    for slots in by_weighting.values():
        slots, left_out = _without_copies(label, slots)
        notes += left_out
        for repeat in zip(*slots, strict=True):
            images.append(_image(repeat))
    images.sort(key=lambda image: -1.0 if image.b_value is None else image.b_value)
    affine = _affine(label, images[0].frames)
    return Stack(head=head, is_adc=adc, images=tuple(images), affine=affine, notes=tuple(notes))


def _image(frames: Sequence[Frame]) -> Image:
    first = frames[0]
    return Image(b_value=first.b_value, direction=first.direction, frames=tuple(frames))


def _places(frames: Sequence[Frame]) -> NDArray[np.intp]:
    """Which slice, from 0 along the normal, each frame is of."""
    normal = frames[0].plane.normal
    along = np.array([frame.plane.position_mm @ normal for frame in frames])
    order = np.argsort(along, kind="stable")
    new = np.diff(along[order], prepend=along[order[0]]) > SAME_PLACE_MM
    place = np.empty(len(frames), np.intp)
    place[order] = np.cumsum(new)
    return place


def _check_counts(
    label: str, weightings: Iterable[Sequence[Sequence[Frame]]], frames: Sequence[Frame]
) -> None:
    """Refuse a series in which some places have fewer images than others."""
    normal = frames[0].plane.normal
    every = list(weightings)
    # A copy of a slice is no image more.
    counts = np.array([[bool(slot) for slot in slots] for slots in every]).sum(axis=0)
    if counts.min() == counts.max():
        return
    where = [
        next(float(s[k][0].plane.position_mm @ normal) for s in every if s[k])
        for k in np.flatnonzero(counts < counts.max())[:5]
    ]
    raise InputError(
        f"{label}: some slices have {counts.min()} images and others {counts.max()}, fewer at "
        f"{', '.join(f'{mm:g}' for mm in np.round(where, 1))} mm; expected as many of each. {AGAIN}"
    )


def _without_copies(label: str, slots: list[list[Frame]]) -> tuple[list[list[Frame]], list[str]]:
    """As many images at every place: of those too many, the ones with equal pixels are left out."""
    counts = [len(slot) for slot in slots]
    least = min(counts)
    if max(counts) == least:
        return slots, []
    kept, dropped = [], 0
    for slot in slots:
        distinct: list[Frame] = []
        shown: list[NDArray[np.float32]] = []
        for frame in slot:
            values = pixels([frame])
            if not any(np.array_equal(values, other) for other in shown):
                distinct.append(frame)
                shown.append(values)
        dropped += len(slot) - len(distinct)
        kept.append(distinct)
    if len({len(slot) for slot in kept}) > 1:
        raise InputError(
            f"{label}: some slices have {min(map(len, kept))} images of one kind and others "
            f"{max(map(len, kept))}, with different pixels; expected as many of each. {AGAIN}"
        )
    return kept, [f"{label}: {dropped} slices are there twice; the copies were left out"]


def _affine(label: str, frames: Sequence[Frame]) -> NDArray[np.float64]:
    """Index [column, row, slice] -> mm, RAS+; the slices must make a straight, even pile."""
    if len(frames) < 2:
        raise InputError(
            f"{label}: has one slice position; expected a volume. Is it a mosaic of another maker? "
            "Then give it as NIfTI, with its .bval beside it."
        )
    first = frames[0].plane
    positions = np.array([frame.plane.position_mm for frame in frames])
    gaps = np.diff(positions @ first.normal)
    said = [f.plane.spacing_mm for f in frames if f.plane.spacing_mm is not None]
    usual = min([float(np.median(gaps)), *said])
    if gaps.max() > MAX_GAP_RATIO * usual:
        after = positions[gaps.argmax()] @ first.normal
        raise InputError(
            f"{label}: the slice after {after:.1f} mm is {gaps.max():.1f} mm away; expected "
            f"{usual:.1f} mm, as others are or as the scanner says. {AGAIN}"
        )
    if np.ptp(gaps) > MAX_UNEVEN_MM:
        raise InputError(
            f"{label}: its slices are {gaps.min():.2f} to {gaps.max():.2f} mm apart; expected even "
            "distances. Resample it to an even grid and give it as NIfTI."
        )
    step = (positions[-1] - positions[0]) / (len(frames) - 1)
    beside = np.abs(positions - positions[0] - np.outer(positions @ first.normal
                    - positions[0] @ first.normal, first.normal)).max()  # fmt: skip
    if beside > MAX_TILT_MM:
        raise InputError(
            f"{label}: its slices lie {beside:.1f} mm beside one another (tilted, or parts of two "
            "scans); expected a straight pile. Resample it and give it as NIfTI."
        )
    rows_mm, columns_mm = first.pixel_mm
    lps = np.eye(4)
    lps[:3, :3] = np.column_stack([first.axes[0] * columns_mm, first.axes[1] * rows_mm, step])
    lps[:3, 3] = positions[0]
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ lps
