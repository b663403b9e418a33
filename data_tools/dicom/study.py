"""All that a folder of DICOM files holds -> the DWI, its weightings, and the scanner's ADC map."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data_tools.dicom.frames import Frame, Head, Scan, files_below, read_folder
from data_tools.dicom.stacks import Image, Stack, build, grouped, is_adc
from data_tools.runtime.errors import InputError
from data_tools.volumes import Volume

MIN_B_S_PER_MM2 = 500.0
MAX_LOW_B_S_PER_MM2 = 100.0
USUAL_B_S_PER_MM2 = 1000.0
SAME_GRID_MM = 0.05
CALCULATED = "CALC"


@dataclasses.dataclass(frozen=True)
class Source:
    """The scanner's slices that a result refers to.

    Attributes:
        name: of the series, for messages.
        files: of one image, along the normal; one file where it holds all slices.
    """

    name: str
    files: tuple[Path, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Study:
    """What was chosen.

    Attributes:
        data: float32 [x, y, z, image], as the scanner displays it.
        affine: index -> mm, RAS+.
        b_values: of each image, s/mm2.
        directions: [image, 3]: zeros for a trace image, NaN where nothing says it.
        label: folder and series of the DWI, for messages.
        dwi_name: number and description of the DWI's series.
        adc: the scanner's map on its own grid, in its own unit; None if there is none.
        source: slices of the image that comes nearest to the DWI that is used.
        notes: what was decided.
        warnings: what a person should look at.
    """

    data: NDArray[np.float32]
    affine: NDArray[np.float64]
    b_values: NDArray[np.float64]
    directions: NDArray[np.float64]
    label: str
    dwi_name: str
    adc: Volume | None
    source: Source
    notes: tuple[str, ...]
    warnings: tuple[str, ...] = ()


def read_study(folder: Path, series: str | None = None, b_value: float | None = None) -> Study:
    """Read a folder of one patient's DICOM files and choose the DWI and the ADC map.

    Of several diffusion series the trace images are taken. Series that one scan was parted into
    (b = 0 and trace, or a series for each direction) are joined. The scanner's ADC map is preferred
    to a computed one.

    Args:
        folder: of the files, in folders below too.
        series: those to use, separated by commas: SeriesInstanceUID, number, or a piece of the
            description; None leaves the choice to this function.
        b_value: of the DWI, where the files do not say it.

    Raises:
        InputError: the extra is missing; no DICOM files, a damaged one, those of several patients
            or studies; no diffusion study or several; slices of it are lost.
    """
    _require_pydicom()
    label = f"DICOM {folder}"
    scan = read_folder(folder)
    wanted = _named(label, scan, series) if series else None
    _check_one_patient(label, folder, scan.frames if wanted is None else _of(scan, wanted))
    groups = [
        group for group in grouped(scan.frames) if wanted is None or group[0].head.uid in wanted
    ]
    weighted = [group for group in groups if _is_dwi(group, b_value if wanted else None)]
    if not weighted:
        raise InputError(_no_dwi(label, groups, scan, wanted is not None))
    stacks = [build(label, group) for group in weighted]
    parts = _choose(label, stacks)
    adc_groups = [group for group in groups if is_adc(group[0])]
    if wanted is not None and not adc_groups:  # only the DWI was named
        adc_groups = [group for group in grouped(scan.frames) if is_adc(group[0])]
        near = [g for g in adc_groups if _one_scan(g[0].head, parts[0].head)]
        adc_groups = near if len(near) == 1 else []
    adc_stack = _only(label, "ADC", [build(label, group) for group in adc_groups])
    notes = [*scan.notes]
    if len(stacks) > len(parts):
        notes.append(f"DICOM: {len(stacks)} diffusion series, the trace images were taken")
    if adc_stack is None:
        parts = _with_low_b(label, parts, groups, notes)
    if len(parts) > 1:
        joined = "; ".join(part.head.name for part in parts)
        notes.append(f"DICOM: one scan in {len(parts)} series, joined: {joined}")
    if adc_stack is not None:
        notes.append(f"DICOM: ADC from {adc_stack.head.name}")
    notes += [note for part in parts for note in part.notes]
    return _loaded(folder, parts, adc_stack, b_value=b_value, notes=notes)


def _loaded(
    folder: Path, parts: Sequence[Stack], adc: Stack | None, *, b_value: float | None,
    notes: Sequence[str],
) -> Study:  # fmt: skip
    images = [(part, image) for part in parts for image in part.images]
    known = [each for each in images if each[1].b_value is not None]
    if known and len(known) < len(images):
        notes = [*notes, f"DICOM: {len(images) - len(known)} images without a b-value, left out"]
        images = known
    if not known and len(images) > 1:
        raise InputError(
            f"DICOM {folder} ({parts[0].head.name}): holds {len(images)} images of each slice, and "
            "nothing says their b-values; expected them in the files. Give the images as NIfTI "
            "with a .bval file beside them."
        )
    b_values = np.array([b_value if i.b_value is None else i.b_value for _, i in images], float)
    dwi = parts[0]
    return Study(
        data=np.stack([part.load(image) for part, image in images], axis=-1),
        affine=dwi.affine,
        b_values=b_values,
        directions=np.array([image.direction for _, image in images], float),
        label=f"{folder} ({dwi.head.name})",
        dwi_name=dwi.head.name,
        adc=None if adc is None else _map(folder, adc),
        source=_source(dwi),
        notes=tuple(notes),
        warnings=tuple(_calculated(dwi)),
    )


def _map(folder: Path, adc: Stack) -> Volume:
    return Volume(adc.load(adc.images[0]), adc.affine, f"{folder} ({adc.head.name})")


def _rank(image: Image) -> tuple[bool, float]:
    """Trace images first, then those of b nearest 1000."""
    far = np.inf if image.b_value is None else abs(image.b_value - USUAL_B_S_PER_MM2)
    return not (image.is_trace and _is_high(image.b_value)), far


def _source(dwi: Stack) -> Source:
    best = min(dwi.images, key=_rank)
    files = tuple(dict.fromkeys(frame.path for frame in best.frames))
    return Source(dwi.head.name, files)


def _calculated(dwi: Stack) -> Iterable[str]:
    kinds = {word for image in dwi.images for word in image.frames[0].kind}
    if any(word.startswith(CALCULATED) for word in kinds):
        yield (
            f"DICOM: {dwi.head.name} was calculated for a b-value by the scanner, not measured; "
            "its noise and contrast are not those that the network knows"
        )


def _is_dwi(group: Sequence[Frame], b_value: float | None) -> bool:
    """Whether slices belong to a diffusion series; with a b-value given, one that says none too."""
    if is_adc(group[0]):
        return False
    if b_value is not None and all(frame.b_value is None for frame in group):
        return True
    return any(_is_high(frame.b_value) for frame in group)


def _is_high(b_value: float | None) -> bool:
    return b_value is not None and b_value >= MIN_B_S_PER_MM2


def _choose(label: str, stacks: Sequence[Stack]) -> list[Stack]:
    """The stacks of the DWI, that with the image to be used first."""

    def is_measured(stack: Stack) -> bool:
        return not list(_calculated(stack))

    left = list(stacks)
    for wish in (is_measured, _has_trace):
        left = [stack for stack in left if wish(stack)] or left
    if len(left) == 1 or _is_one_scan(left):
        return sorted(left, key=lambda stack: min(map(_rank, stack.images)))
    raise InputError(_several(label, "DWI", left))


def _has_trace(stack: Stack) -> bool:
    return any(image.is_trace and _is_high(image.b_value) for image in stack.images)


def _is_one_scan(stacks: Sequence[Stack]) -> bool:
    """Whether stacks are one scan in several series: one grid, and no weighting twice.

    Trace images that each have a b = 0 image of their own are two scans.
    """
    weightings = [
        (image.b_value, *np.round(image.direction, 2))
        for stack in stacks
        for image in stack.images
        if _is_high(image.b_value)
    ]
    known = all(np.isfinite(each[1:]).all() for each in weightings)
    whole = [
        stack
        for stack in stacks
        if _has_trace(stack) and any(_is_low(image.b_value) for image in stack.images)
    ]
    alike = all(_same_grid(stack, stacks[0]) for stack in stacks)
    return known and alike and len(whole) < 2 and len(set(weightings)) == len(weightings)


def _same_grid(one: Stack, other: Stack) -> bool:
    if one.shape != other.shape or not _one_scan(one.head, other.head):
        return False
    far = np.array(one.shape) - 1
    corners = np.array(np.meshgrid(*[(0, n) for n in far])).reshape(3, -1)
    apart = (one.affine - other.affine)[:3]
    return bool(np.abs(apart[:, :3] @ corners + apart[:, 3:]).max() < SAME_GRID_MM)


def _one_scan(one: Head, other: Head) -> bool:
    """Whether two series are of one visit: millimetres mean the same place in both."""
    if one.frame_of_reference and other.frame_of_reference:
        return one.frame_of_reference == other.frame_of_reference
    return one.study == other.study


def _with_low_b(
    label: str, parts: list[Stack], groups: Sequence[Sequence[Frame]], notes: list[str]
) -> list[Stack]:
    """A DWI without an image of b = 0 gets that of another series on its grid."""
    if any(_is_low(image.b_value) for part in parts for image in part.images):
        return parts
    found = []
    for group in groups:
        has_low = any(_is_low(frame.b_value) for frame in group)
        if is_adc(group[0]) or not has_low or group[0].head.uid == parts[0].head.uid:
            continue
        if not parts[0].images[0].frames[0].plane.fits(group[0].plane):
            continue
        stack = build(label, group)
        if _same_grid(stack, parts[0]):
            low = tuple(image for image in stack.images if _is_low(image.b_value))
            found.append(dataclasses.replace(stack, images=low))
    if len(found) > 1:
        names = "; ".join(each.head.name for each in found)
        notes.append(f"DICOM: several series hold images of b = 0 ({names}); none was taken")
        return parts
    return [*parts, *found]


def _is_low(b_value: float | None) -> bool:
    return b_value is not None and b_value <= MAX_LOW_B_S_PER_MM2


def _only(label: str, what: str, stacks: Sequence[Stack]) -> Stack | None:
    if len(stacks) > 1:
        raise InputError(_several(label, what, stacks))
    if stacks and len(stacks[0].images) > 1:
        raise InputError(
            f"{label} ({stacks[0].head.name}): holds {len(stacks[0].images)} ADC maps; expected "
            "one. Keep that of the baseline scan, remove the others."
        )
    return stacks[0] if stacks else None


def _several(label: str, what: str, stacks: Sequence[Stack]) -> str:
    names = [stack.head.name for stack in stacks]
    if len(set(names)) < len(names):
        names = [f"{stack.head.name} (UID {stack.head.uid})" for stack in stacks]
    return (
        f"{label}: {len(stacks)} {what} series: {'; '.join(names)}; expected one. Choose with "
        "--series (number, UID, or a piece of the description; DWI and ADC map separated by a "
        "comma), or keep those of the baseline scan and remove the others."
    )


def _no_dwi(label: str, groups: Sequence[Sequence[Frame]], scan: Scan, chosen: bool) -> str:
    heads = {frame.head.uid: frame.head for frame in scan.frames}
    if chosen:
        heads = {group[0].head.uid: group[0].head for group in groups}
    names = "; ".join(
        f"{head.name} ({_b_text([f for f in scan.frames if f.head.uid == uid])})"
        for uid, head in heads.items()
    )
    return (
        f"{label}: no series with b-values of {MIN_B_S_PER_MM2:g} s/mm2 and more; found {names}. "
        "Expected the DWI of b about 1000 s/mm2. If its b-values were removed from the files, name "
        "the series and its b-value with --series and --b_value."
    )


def _b_text(frames: Sequence[Frame]) -> str:
    known = sorted({frame.b_value for frame in frames if frame.b_value is not None})
    if not known:
        return "no b-value"
    return "b " + ", ".join(f"{b:g}" for b in known[:6]) + (", ..." if len(known) > 6 else "")


def _named(label: str, scan: Scan, series: str) -> set[str]:
    """UIDs of the series that a person named."""
    heads = {frame.head.uid: frame.head for frame in scan.frames}
    found: set[str] = set()
    for word in (word.strip() for word in series.split(",")):
        matching = _matching(word, heads)
        if not matching:
            names = "; ".join(head.name for head in heads.values())
            raise InputError(
                f"{label}: --series={series}: no series is named {word!r}; found {names}. Expected "
                "a number, a SeriesInstanceUID, or a piece of the description."
            )
        found.update(matching)
    return found


def _matching(word: str, heads: Mapping[str, Head]) -> list[str]:
    """UIDs of the series of that UID; else of that number; else with that piece of description."""
    if word in heads:
        return [word]
    numbered = [uid for uid, head in heads.items() if word == str(head.number)]
    if numbered or not word:
        return numbered
    return [uid for uid, head in heads.items() if word.casefold() in head.description.casefold()]


def _of(scan: Scan, uids: set[str]) -> list[Frame]:
    return [frame for frame in scan.frames if frame.head.uid in uids]


def _check_one_patient(label: str, folder: Path, frames: Iterable[Frame]) -> None:
    """Refuse files of two patients, or of two studies: DWI and ADC might be of different days.

    Studies that share a series or a frame of reference are one: some scanners write an identity of
    the study for each image.
    """
    first: dict[str, Frame] = {}
    patients: dict[tuple[str, str], Path] = {}
    for frame in frames:
        first.setdefault(f"{frame.head.uid} {frame.head.study}", frame)
        patients.setdefault(frame.head.patient, frame.path)
    studies: list[set[str]] = []
    paths: dict[str, Path] = {}
    for frame in first.values():
        head = frame.head
        ties = {f"series {head.uid}", f"study {head.study}"}
        if head.frame_of_reference:
            ties.add(f"frame {head.frame_of_reference}")
        paths.setdefault(f"study {head.study}", frame.path)
        joined = [study for study in studies if study & ties]
        studies = [s for s in studies if s not in joined] + [ties.union(*joined)]
    examples = [next(paths[tie] for tie in sorted(study) if tie in paths) for study in studies]
    for what, found in (("patients", list(patients.values())), ("studies", examples)):
        if len(found) > 1:
            names = ", ".join(str(path.relative_to(folder)) for path in found[:4])
            raise InputError(
                f"{label}: holds files of {len(found)} {what} ({names}); expected one. Give "
                "each a folder of its own, or choose the series with --series."
            )


def _require_pydicom() -> None:
    try:
        import pydicom  # noqa: F401
    except ImportError as error:
        raise InputError(
            f"DICOM files need more packages ({error}); install the extra `dicom`"
        ) from error


__all__ = ["Source", "Study", "files_below", "read_study"]
