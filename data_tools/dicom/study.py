"""All that a folder of DICOM files holds -> the DWI, its weightings, and the scanner's ADC map."""

import dataclasses
import functools
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data_tools import alignment
from data_tools.dicom.frames import Frame, Head, read_folder
from data_tools.dicom.stacks import Image, Kind, Stack, build, grouped, kind_of, says_adc
from data_tools.grid import LOW_B_MAX_S_PER_MM2, MIN_B_S_PER_MM2, WANTED_B_S_PER_MM2
from data_tools.runtime.errors import InputError, counted
from data_tools.volumes import Volume, apart_mm, gaps_of, without_gaps

SAME_GRID_MM = 0.05
CALCULATED = "CALC"
# With which a person names series.
SERIES_FLAG = "--series"
# Slices of a map are not closer than those of its DWI.
MAX_THINNER = 1.5


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
        b_values: of each image, s/mm2; NaN where nothing says it.
        directions: [image, 3]: zeros for a trace image, NaN where nothing says it, infinite where
            it is only said to be one direction.
        absent: bool [x, y, z], NaN in a file; None if there is none.
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
    absent: NDArray[np.bool_] | None
    label: str
    dwi_name: str
    adc: Volume | None
    source: Source
    notes: tuple[str, ...]
    warnings: tuple[str, ...] = ()


def read_study(
    folder: Path,
    series: str | None = None,
    b_value: float | None = None,
    *,
    need_adc: bool = True,
) -> Study:
    """Read a folder of one patient's DICOM files and choose the DWI and the ADC map.

    Of several diffusion series the trace images are taken. Series that one scan was parted into
    (b = 0 and trace, or a series for each direction) are joined. The scanner's ADC map is preferred
    to a computed one.

    Args:
        folder: of the files, in folders below too.
        series: those to use, separated by commas: SeriesInstanceUID, number, or a piece of the
            description; None leaves the choice to this function.
        b_value: of the DWI, where the files do not say it.
        need_adc: whether there is no ADC map elsewhere.

    Raises:
        InputError: the extra is missing; no DICOM files, a damaged one, those of several patients
            or studies; no diffusion study or several; slices of it are lost; no ADC map, and
            nothing to compute it from.
    """
    require_pydicom()
    label = f"DICOM {folder}"
    scan = read_folder(folder)
    found = _Found(label=label, frames=scan.frames, notes=[*scan.notes])
    if series:
        found = found.named(series)
    check_one_patient(label, folder, found.frames, named=bool(series))
    dwi = _choose(label, found.diffusion(b_value if series else None), found)
    adc = found.adc(dwi)
    if adc is None:
        dwi = found.with_low_b(dwi)
    names = dict.fromkeys(part.head.name for part in dwi)
    if len(names) > 1:
        found.notes.append(f"DICOM: one scan in {len(names)} series, joined: {'; '.join(names)}")
    study = _loaded(folder, dwi, adc, found)
    if need_adc and adc is None and not _has_low(dwi):
        raise InputError(_no_adc(study.label, dwi[0], found))
    return study


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Found:
    """What there is to choose from, and what is said of the choice.

    Attributes:
        label: of the folder.
        frames: those that a person named, or all.
        others: all that are there, if a person named some.
        notes: for people.
        warnings: what they should look at.
    """

    label: str
    frames: Sequence[Frame]
    others: Sequence[Frame] = ()
    notes: list[str] = dataclasses.field(default_factory=list)
    warnings: list[str] = dataclasses.field(default_factory=list)

    @functools.cached_property
    def groups(self) -> list[list[Frame]]:
        """The slices that belong together, of those to choose from."""
        return grouped(self.frames)

    @functools.cached_property
    def other_groups(self) -> list[list[Frame]]:
        """The same of all that are there, if a person named some."""
        return grouped(self.others)

    def named(self, series: str) -> "_Found":
        """Only the series that a person named."""
        uids = named_series(self.label, self.frames, series)
        chosen = [frame for frame in self.frames if frame.head.uid in uids]
        visits = {(frame.head.study, frame.head.frame_of_reference) for frame in chosen}
        warnings = []
        if len({study for study, _ in visits}) > 1 and len({place for _, place in visits}) > 1:
            warnings.append(
                f"{self.label}: the series that --series names are of several studies by their "
                "files, and were taken for one"
            )
            chosen = [
                dataclasses.replace(
                    frame, head=dataclasses.replace(frame.head, study="", frame_of_reference="")
                )
                for frame in chosen
            ]
        return _Found(
            label=self.label,
            frames=chosen,
            others=self.frames,
            notes=[*self.notes],
            warnings=warnings,
        )

    def diffusion(self, b_value: float | None) -> list[Stack]:
        """Stacks that hold images of high b; with a b-value given, those that say none too."""
        weighted = [g for g in self.groups if kind_of(g) is Kind.IMAGE and _is_weighted(g, b_value)]
        if not weighted and self.others:  # a person named it, whatever it is called
            weighted = [g for g in self.groups if not says_adc(g[0]) and _is_weighted(g, b_value)]
        stacks = [stack for group in weighted for stack in build(self.label, group)]
        high = [
            stack
            for stack in stacks
            if b_value is not None or any(_is_high(image.b_value) for image in stack.images)
        ]
        if not high:
            raise InputError(_no_dwi(self.label, self.frames))
        return high

    @functools.cached_property
    def is_one_patient(self) -> bool:
        """Whether all that is there is of one patient and study."""
        return all(len(found) < 2 for found in _kinds_of(self.others or self.frames).values())

    def belongs(self, one: Head, dwi: Head) -> bool:
        """Whether a series that nobody named is of the DWI's patient and visit.

        Series that do not both say their study are of one only where nothing else is there.
        """
        if not _one_patient(one.patient, dwi.patient):
            return False
        for a, b in (
            (one.frame_of_reference, dwi.frame_of_reference), (one.study, dwi.study)
        ):  # fmt: skip
            if a and b:
                return a == b
        return self.is_one_patient

    def adc(self, parts: Sequence[Stack]) -> Stack | None:
        """The scanner's map of a DWI.

        Where a person named series, one of these; where they are the DWI alone and hold no image
        of low b, the only map that is there of its scan.
        """
        dwi = parts[0]
        own = [g for g in self.groups if g[0].head.uid != dwi.head.uid or says_adc(g[0])]
        text = dwi.head.description
        groups = [group for group in own if kind_of(group, text) is Kind.ADC]
        if self.others and not groups:
            groups = [g for g in own if len({f.b_value for f in g}) == 1 and not _is_weighted(g)
                      and not any(_is_low(f.b_value) for f in g)]  # fmt: skip
        if self.others and not groups:
            near = [
                group
                for group in self.other_groups
                if kind_of(group, text) is Kind.ADC and self.belongs(group[0].head, dwi.head)
            ]
            if near and (_has_low(parts) or self._low(self.groups, parts, trusted=True)):
                names = "; ".join(dict.fromkeys(group[0].head.name for group in near))
                self.notes.append(
                    f"DICOM: --series names no ADC map, so none was taken ({names} is there)"
                )
                near = []
            groups = near if len(near) == 1 else []
        stacks = [stack for group in groups for stack in build(self.label, group, is_adc=True)]
        chosen = _only(self.label, stacks)
        if chosen is not None:
            self.notes.append(f"DICOM: ADC from {chosen.head.name}")
            self.warnings.extend(chosen.warnings)
            slices = [np.linalg.norm(stack.affine[:3, 2]) for stack in (dwi, chosen)]
            if slices[0] > MAX_THINNER * slices[1]:
                self.warnings.append(
                    f"{self.label}: the DWI has slices every {slices[0]:.3g} mm and its ADC map "
                    f"every {slices[1]:.3g} mm; are slices of the DWI lost?"
                )
        return chosen

    def with_low_b(self, parts: list[Stack]) -> list[Stack]:
        """A DWI without an image of b = 0 gets that of another series of its scan.

        Raises:
            InputError: there are several.
        """
        if _has_low(parts):
            return parts
        found = self._low(self.groups, parts, trusted=bool(self.others))
        found = found or self._low(self.other_groups, parts)
        alike = [stack for stack in found if _same_grid(stack, parts[0])] or found
        if len(alike) > 1:
            names = "; ".join(stack.head.name for stack in alike)
            raise InputError(
                f"{self.label}: the DWI ({parts[0].head.name}) has no b = 0 image, and several "
                f"series have one ({names}); expected one. Choose with --series: that of the DWI "
                "and that of b = 0, separated by a comma."
            )
        return [*parts, *alike]

    def _low(
        self, groups: Iterable[Sequence[Frame]], parts: Sequence[Stack], trusted: bool = False
    ) -> list[Stack]:
        """Stacks of low b, of the DWI's scan, or of series that a person named with it."""
        found: list[Stack] = []
        for group in groups:
            low = [frame for frame in group if _is_low(frame.b_value)]
            of_scan = trusted or self.belongs(group[0].head, parts[0].head)
            if low and of_scan and kind_of(group) is not Kind.ADC:
                found += build(self.label, low)
        return found


def _loaded(folder: Path, parts: Sequence[Stack], adc: Stack | None, found: _Found) -> Study:
    images = [(part, image) for part in parts for image in part.images]
    known = [each for each in images if each[1].b_value is not None]
    if known and len(known) < len(images):
        found.notes.append(
            f"DICOM: {counted(len(images) - len(known), 'image')} without a b-value, left out"
        )
        images = known
    dwi = parts[0]
    label = f"{folder} ({dwi.head.name})"
    if not known and len(images) > 1:
        raise InputError(
            f"DICOM {label}: holds {len(images)} images of each slice, and nothing says their "
            "b-values; expected them in the files. Give the images as NIfTI with a .bval file "
            "beside them."
        )
    b_values = [np.nan if image.b_value is None else image.b_value for _, image in images]
    data = np.stack([_on_grid(part, image, dwi, found) for part, image in images], axis=-1)
    data, absent = without_gaps(data)
    for part in parts:
        found.notes.extend(part.notes)
        found.warnings.extend(part.warnings)
    return Study(
        data=data,
        affine=dwi.affine,
        b_values=np.array(b_values, float),
        directions=np.array([_direction(image) for _, image in images], float),
        absent=None if absent is None else np.asarray(absent.any(axis=-1)),
        label=label,
        dwi_name=dwi.head.name,
        adc=None if adc is None else _map(folder, adc),
        source=_source(dwi),
        notes=tuple(dict.fromkeys(found.notes)),
        warnings=tuple(dict.fromkeys([*found.warnings, *_calculated(dwi)])),
    )


def _on_grid(part: Stack, image: Image, dwi: Stack, found: _Found) -> NDArray[np.float32]:
    """An image on the DWI's grid."""
    data = part.load(image)
    if part is dwi or _same_grid(part, dwi):
        return data
    label = f"{found.label} ({part.head.name})"
    target = Volume(np.ones(dwi.shape, np.float32), dwi.affine, f"{found.label} ({dwi.head.name})")
    moved = alignment.onto(Volume(data, part.affine, label), target, "b = 0 image")
    found.notes.extend(moved.notes)
    found.warnings.extend(moved.warnings)
    return moved.volume.data


def _direction(image: Image) -> tuple[float, ...]:
    nameless = image.directional and np.isnan(image.direction).any()
    return (np.inf, np.inf, np.inf) if nameless else image.direction


def _map(folder: Path, adc: Stack) -> Volume:
    data, absent = without_gaps(adc.load(adc.images[0]))
    label = f"{folder} ({adc.head.name})"
    return Volume(data, adc.affine, label, gaps_of("ADC", absent))


def _rank(image: Image) -> tuple[bool, float]:
    """Trace images first, then those of b nearest 1000."""
    far = np.inf if image.b_value is None else abs(image.b_value - WANTED_B_S_PER_MM2)
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


def _is_weighted(group: Sequence[Frame], b_value: float | None = None) -> bool:
    """Whether slices are of high b; with a b-value given, whatever they say."""
    return b_value is not None or any(_is_high(frame.b_value) for frame in group)


def _is_high(b_value: float | None) -> bool:
    return b_value is not None and b_value >= MIN_B_S_PER_MM2


def _choose(label: str, stacks: Sequence[Stack], found: _Found) -> list[Stack]:
    """The stacks of the DWI, that with the image to be used first."""

    def is_measured(stack: Stack) -> bool:
        return not list(_calculated(stack))

    left = list(stacks)
    for wish in (is_measured, _has_trace):
        left = [stack for stack in left if wish(stack)] or left
    if len(left) == 1 or _is_one_scan(left):
        if len(stacks) > len(left):
            found.notes.append(
                f"DICOM: {len(stacks)} diffusion series, the trace images were taken"
            )
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
    return apart_mm(one.affine, other.affine, one.shape) < SAME_GRID_MM


def _one_scan(one: Head, other: Head) -> bool:
    """Whether two series are of one visit: millimetres mean the same place in both."""
    if one.frame_of_reference and other.frame_of_reference:
        return one.frame_of_reference == other.frame_of_reference
    return one.study == other.study


def _has_low(stacks: Iterable[Stack]) -> bool:
    return any(_is_low(image.b_value) for stack in stacks for image in stack.images)


def _is_low(b_value: float | None) -> bool:
    return b_value is not None and b_value <= LOW_B_MAX_S_PER_MM2


def _only(label: str, stacks: Sequence[Stack]) -> Stack | None:
    if len(stacks) > 1:
        raise InputError(_several(label, "ADC", stacks))
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


def _no_dwi(label: str, frames: Sequence[Frame]) -> str:
    heads = {frame.head.uid: frame.head for frame in frames}
    names = "; ".join(
        f"{head.name} ({_b_text([f for f in frames if f.head.uid == uid])})"
        for uid, head in heads.items()
    )
    return (
        f"{label}: no diffusion series with b-values of {MIN_B_S_PER_MM2:g} s/mm2 and more; found "
        f"{names}. Expected the DWI of b about 1000 s/mm2. If the files say a wrong b-value, or "
        "none, or call the series what it is not, name it with --series, and its b-value with "
        "--b_value."
    )


def _no_adc(label: str, dwi: Stack, found: _Found) -> str:
    """What to do where there is no ADC map, and no image of low b to compute it from."""
    others = {
        group[0].head.uid: group[0].head
        for group in grouped(found.others or found.frames)
        if group[0].head.uid != dwi.head.uid
    }
    near = [head for head in others.values() if found.belongs(head, dwi.head)]
    strangers = [head.name for head in others.values() if head not in near]
    message = (
        f"DWI {label}: has no image of b = 0 (nor of up to {LOW_B_MAX_S_PER_MM2:g} s/mm2) and no "
        "ADC map of its scan is known, so no ADC can be computed; expected one of both in the "
        "folder."
    )
    if near:
        said = f"{_word_of(dwi.head)},{_word_of(near[0])}"
        message += (
            f" Of its scan there is {'; '.join(head.name for head in near)}: if that is the map, "
            f"or is of b = 0, name it with the DWI, --series={said} for instance."
        )
    if strangers:
        message += (
            f" Not taken, as by the files they are of another patient or study: "
            f"{'; '.join(strangers)}."
        )
    return message


def _word_of(head: Head) -> str:
    """What --series takes."""
    return head.uid if head.number is None else str(head.number)


def _b_text(frames: Sequence[Frame]) -> str:
    known = sorted({frame.b_value for frame in frames if frame.b_value is not None})
    if not known:
        return "no b-value"
    return "b " + ", ".join(f"{b:g}" for b in known[:6]) + (", ..." if len(known) > 6 else "")


def named_series(
    label: str, frames: Sequence[Frame], series: str, flag: str = SERIES_FLAG
) -> set[str]:
    """UIDs of the series that a person named with a flag."""
    heads = {frame.head.uid: frame.head for frame in frames}
    found: set[str] = set()
    words = series.split(",")
    while words:
        # A description may hold a comma: as many words as match together are one.
        for count in range(len(words), 0, -1):
            word = ",".join(words[:count]).strip()
            matching = _matching(word, heads)
            if matching:
                break
        else:
            names = "; ".join(head.name for head in heads.values())
            raise InputError(
                f"{label}: {flag}={series}: no series is named {word!r}; found {names}. Expected "
                "a number, a SeriesInstanceUID, or a piece of the description."
            )
        found.update(matching)
        words = words[count:]
    return found


def _matching(word: str, heads: Mapping[str, Head]) -> list[str]:
    """UIDs of the series of that UID; else of that number; else with that piece of description."""
    if word in heads:
        return [word]
    numbered = [uid for uid, head in heads.items() if word == str(head.number)]
    if numbered or not word:
        return numbered
    return [uid for uid, head in heads.items() if _plain(word) in _plain(head.description)]


def _plain(text: str) -> str:
    """As descriptions are compared: any capitals, and any blanks about a comma."""
    return re.sub(r"\s*,\s*", ",", " ".join(text.casefold().split()))


def check_one_patient(
    label: str,
    folder: Path,
    frames: Iterable[Frame],
    *,
    named: bool = False,
    flag: str = SERIES_FLAG,
) -> None:
    """Refuse files of two patients, or of two studies: DWI and ADC might be of different days."""
    for what, found in _kinds_of(frames).items():
        if len(found) > 1:
            names = ", ".join(str(path.relative_to(folder)) for path in found[:4])
            whose = f"the series that {flag} names are" if named else "holds files"
            choose = "" if named else f", or choose the series with {flag}"
            raise InputError(
                f"{label}: {whose} of {len(found)} {what} ({names}); expected one. Give each a "
                f"folder of its own{choose}."
            )


def _kinds_of(frames: Iterable[Frame]) -> dict[str, list[Path]]:
    """A file of each patient, and of each study.

    Studies that share a series or a frame of reference are one: some scanners write an identity of
    the study for each image.
    """
    first: dict[str, Frame] = {}
    patients: dict[tuple[str, str], Path] = {}
    # Those that say who they are first: one that does not is like each of two who differ.
    for frame in sorted(frames, key=lambda frame: [not word for word in frame.head.patient]):
        first.setdefault(f"{frame.head.uid} {frame.head.study}", frame)
        if not any(_one_patient(frame.head.patient, other) for other in patients):
            patients[frame.head.patient] = frame.path
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
    return {"patients": list(patients.values()), "studies": examples}


def _one_patient(one: tuple[str, str], other: tuple[str, str]) -> bool:
    """Whether two are one: the ID decides where both have one, as names are spelled in many ways.

    What is absent tells nothing.
    """
    for a, b in zip(one, other, strict=True):
        if a and b:
            return a.casefold() == b.casefold()
    return True


def require_pydicom() -> None:
    try:
        import pydicom  # noqa: F401
    except ImportError as error:
        raise InputError(
            f"DICOM files need more packages ({error}); install the extra `dicom`"
        ) from error
