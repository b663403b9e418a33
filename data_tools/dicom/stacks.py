"""Slices of a series -> its images, each whole, with its weighting."""

import dataclasses
import enum
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from data_tools.dicom.frames import Frame, Head, check_place, pixels
from data_tools.dicom.vendors import Direction
from data_tools.runtime.errors import InputError, counted

# Slices nearer than this lie at one place; numbers in files are rounded.
SAME_PLACE_MM = 0.2
# Distances between neighbouring slices differ by rounding only; a lost slice doubles one.
MAX_GAP_RATIO = 1.5
MAX_UNEVEN_MM = 0.2
# Slices may be moved against one another in their plane by rounding only.
MAX_TILT_MM = 0.2
# Two scales of one image that differ by more than rounding.
MAX_SCALE_APART = 0.01
# Of a head's 150 mm fewer than five slices would be left.
MAX_APART_MM = 35.0
AGAIN = "Slices are lost: export the series again."

ADC_WORDS = re.compile(
    r"(?<![a-z])(iso|d|s|m)?adc(s|map)?(?![a-z])|apparent\W*diff|average\W*d\W?c(?![a-z])"
    r"|coeff?\w*\W+(de\W+)?diff?us|diffusionskoeff|(?<![a-z])cda(?![a-z])",
    re.I,
)
# Exponential ADC maps (eADC) and those of the tensor are other images.
OTHER_WORDS = re.compile(
    r"(?<![a-z])(e[-_ ]?adc|exp\w*[-_ ]*adc|exponential|e-?dwi|(col)?fa|tensor|fractional)"
    r"(?![a-z])",
    re.I,
)
# What else is computed of ADC: words before or after it, in any order.
QUALIFIED_WORDS = re.compile(
    r"(?<![a-z])(e[-_ ]?adc|exp(o\w*)?|fast|slow|ivim|(low|high|hi)[-_ ]*b(?![a-z])|perf\w*"
    r"|pseudo\w*|relative|ratio|r[-_ ]?adc|kurt\w*|dki|residuals?|error|chi2?|std(dev)?|fus(ed|ion)"
    r"|overlay|colou?r)(?![a-z])",
    re.I,
)
ADC_KIND = re.compile(r"([A-Z]+_)?D?ADC(_.*)?")
OTHER_KIND = re.compile(r"(E_?-?ADC|EXP|FA|COLFA|TENSOR|RA|VR|PHASE|P|MIP|PROJECTION)([ _].*)?")
MAX_THICKNESSES = 1.5


@dataclasses.dataclass(frozen=True, kw_only=True)
class Image:
    """One volume of a series.

    Attributes:
        b_value: s/mm2; None if nothing says it.
        direction: of diffusion; zeros for a trace image, NaN if nothing says it.
        directional: of one direction, by what the file says.
        frames: along the normal.
    """

    b_value: float | None
    direction: Direction
    directional: bool
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
        images: by b-value, directions in the order of the scan.
        affine: index [column, row, slice] -> mm, RAS+.
        notes: what was left out.
        warnings: what a person should look at.
    """

    head: Head
    images: tuple[Image, ...]
    affine: NDArray[np.float64]
    notes: tuple[str, ...]
    warnings: tuple[str, ...]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Columns, rows, slices."""
        frames = self.images[0].frames
        rows, columns = frames[0].plane.shape
        return columns, rows, len(frames)

    def load(self, image: Image) -> NDArray[np.float32]:
        """Displayed values: float32 [column, row, slice]."""
        return np.ascontiguousarray(pixels(list(image.frames)).transpose(2, 1, 0))


def says_adc(frame: Frame) -> bool:
    """Whether the type of a slice is that of an ADC map."""
    return any(ADC_KIND.fullmatch(word) for word in frame.kind)


def _says_trace(frame: Frame) -> bool:
    return any(word.startswith("TRACE") for word in frame.kind)


def _says_other(frame: Frame) -> bool:
    return any(OTHER_KIND.fullmatch(word) for word in frame.kind[2:])


class Kind(enum.Enum):
    """What the images of a group are."""

    ADC = "ADC map"
    IMAGE = "image"
    OTHER = "another map, or no magnitude image"


def kind_of(group: Sequence[Frame], dwi: str = "") -> Kind:
    """What a group is: types decide; the series' description only of a group of one weighting.

    Args:
        group: an entry of :func:`grouped`.
        dwi: description of the DWI: words that stand there too are of the scan, not of the map.
    """
    first = group[0]
    text = first.head.description
    of_scan = {each[0].casefold() for each in QUALIFIED_WORDS.finditer(dwi)}
    qualified = any(each[0].casefold() not in of_scan for each in QUALIFIED_WORDS.finditer(text))
    if says_adc(first):
        return Kind.OTHER if qualified else Kind.ADC
    if _says_other(first):
        return Kind.OTHER
    if _says_trace(first) or len({frame.b_value for frame in group}) > 1:
        return Kind.IMAGE
    if OTHER_WORDS.search(text):
        return Kind.OTHER
    if ADC_WORDS.search(text):
        return Kind.OTHER if qualified else Kind.ADC
    return Kind.IMAGE


def grouped(frames: Iterable[Frame]) -> list[list[Frame]]:
    """Slices that belong together: of a series, a lattice, and one type."""
    groups: dict[tuple, list[list[Frame]]] = defaultdict(list)
    for frame in frames:
        alike = groups[frame.head.uid, frame.plane.shape, says_adc(frame), _says_other(frame)]
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


def build(label: str, frames: Sequence[Frame], is_adc: bool = False) -> list[Stack]:
    """The images that slices of one group make; those at one place are one stack.

    Args:
        label: of the folder, for messages.
        frames: an entry of :func:`grouped`.
        is_adc: an ADC map, which is of no b-value, whatever stands there.

    Raises:
        InputError: a slice's place cannot be; slices are lost, doubled, unevenly spaced or moved
            against one another.
    """
    head = frames[0].head
    label = f"{label} ({head.name})"
    by_weighting: dict[tuple, list[Frame]] = defaultdict(list)
    for frame in frames:
        check_place(frame)
        key = () if is_adc else (frame.b_value, *np.round(frame.direction, 2).tolist())
        by_weighting[tuple("unknown" if value != value else value for value in key)].append(frame)
    images: list[Image] = []
    notes: list[str] = []
    for same in by_weighting.values():
        slots, left_out = _without_copies(label, by_place(same))
        notes += left_out
        images += [_image(repeat) for repeat in zip(*slots, strict=True)]
    stacks: list[list[Image]] = []
    for image in sorted(images, key=lambda image: -len(image.frames)):
        for stack in stacks:
            if _at_one_place(label, image, stack[0]):
                stack.append(image)
                break
        else:
            stacks.append([image])
    made = []
    for stack in stacks:
        stack.sort(key=lambda image: -1.0 if image.b_value is None else image.b_value)
        affine, warnings = affine_of(label, stack[0].frames)
        made.append(
            Stack(
                head=head,
                images=tuple(stack),
                affine=affine,
                notes=tuple(notes),
                warnings=(*warnings, *_other_scale(label, stack)),
            )
        )
    return made


def _at_one_place(label: str, image: Image, other: Image) -> bool:
    """Whether an image has the places of another one that has as many slices or more.

    Raises:
        InputError: it has only some of them: the others are lost.
    """
    places, others = (np.array([f.plane.position_mm for f in i.frames]) for i in (image, other))
    apart = np.linalg.norm(places[:, np.newaxis] - others[np.newaxis], axis=-1)
    if (apart.min(axis=1) > SAME_PLACE_MM).any():
        return False
    if len(places) == len(others):
        return True
    absent = np.delete(others, apart.argmin(axis=1), axis=0) @ image.frames[0].plane.normal
    raise InputError(
        f"{label}: some slices have fewer images than others, at "
        f"{', '.join(f'{mm:g}' for mm in np.round(absent[:5], 1))} mm; expected as many of each. "
        f"{AGAIN}"
    )


def _other_scale(label: str, images: Sequence[Image]) -> Iterable[str]:
    off = {round(f.real_world, 3) for image in images for f in image.frames}
    if any(abs(each - 1) > MAX_SCALE_APART for each in off):
        yield (
            f"{label}: its files give two scales, the displayed one, which was taken, and one of "
            f"real-world values that is {min(off):g} to {max(off):g} times it; look which is right"
        )


def _image(frames: Sequence[Frame]) -> Image:
    first = frames[0]
    return Image(
        b_value=first.b_value,
        direction=first.direction,
        directional=first.directional,
        frames=tuple(frames),
    )


def by_place(frames: Sequence[Frame]) -> list[list[Frame]]:
    """Frames of each place, along the normal."""
    normal = frames[0].plane.normal
    along = np.array([frame.plane.position_mm @ normal for frame in frames])
    order = np.argsort(along, kind="stable")
    slots: list[list[Frame]] = []
    for before, k in zip([None, *order[:-1]], order, strict=True):
        if before is None or along[k] - along[before] > SAME_PLACE_MM:
            slots.append([])
        slots[-1].append(frames[k])
    return slots


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
    numbers = [len(slot) for slot in kept]
    usual = max(set(numbers), key=lambda number: (numbers.count(number), number))
    if max(numbers) > usual:
        double = kept[int(np.argmax(numbers))]
        names = ", ".join(dict.fromkeys(frame.path.name for frame in double[:4]))
        raise InputError(
            f"{label}: {counted(sum(n > usual for n in numbers), 'place has')} "
            f"{counted(max(numbers), 'image')} of one kind with different pixels ({names}), and "
            f"others have {usual}; expected as many of each. Find out which belongs there, and "
            "remove the other."
        )
    if min(numbers) < usual:
        raise InputError(
            f"{label}: some slices have {counted(min(numbers), 'image')} of one kind and others "
            f"{usual}, with different pixels; expected as many of each. {AGAIN}"
        )
    return kept, [f"{label}: {counted(dropped, 'slice is')} there twice; copies were left out"]


def affine_of(label: str, frames: Sequence[Frame]) -> tuple[NDArray[np.float64], list[str]]:
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
    if gaps.min() > MAX_APART_MM:
        raise InputError(
            f"{label}: its slices are {gaps.min():.4g} mm apart by their ImagePositionPatient; "
            f"expected {MAX_APART_MM:g} mm at most. {AGAIN}"
        )
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
    warnings = []
    if not said and first.thick_mm and gaps.max() > MAX_THICKNESSES * first.thick_mm:
        warnings.append(
            f"{label}: its slices are {first.thick_mm:g} mm thick and {gaps.max():g} mm apart, and "
            "nothing says their distance; are slices lost?"
        )
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ lps, warnings
