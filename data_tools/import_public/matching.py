"""Names in an archive -> patients, the set that they are of, and what each of their files is.

Whole words of names count, never pieces: OT is not in "mergedlabels", and T2 not in "T2star".
"""

import dataclasses
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath

from data_tools.import_public import sets
from data_tools.import_public.sets import SETS, PublicSet
from data_tools.import_public.sources import Member
from data_tools.runtime.errors import InputError, counted

ROLES = {
    "DWI": sets.DWI, "ADC": sets.ADC, "TMAX": sets.TMAX, "4DPWI": sets.SERIES, "PWI": sets.SERIES,
    "4D": sets.SERIES, "PWI4D": sets.SERIES, "OT": sets.OUTCOME, "CORELABEL": sets.CORE_LABEL,
    "CORELABELS": sets.CORE_LABEL, "MERGEDLABELS": sets.MERGED_LABELS,
    "MERGEDLABEL": sets.MERGED_LABELS, "LABEL": sets.LABEL, "LABELS": sets.LABEL,
    "PENUMBRA": sets.LABEL, "MSK": sets.LESION, "MASK": sets.LESION, "LESION": sets.LESION,
    "MTT": "MTT", "TTP": "TTP", "RCBF": "CBF", "CBF": "CBF", "RCBV": "CBV", "CBV": "CBV",
    "T1": "T1", "T1C": "T1", "T2": "T2", "FLAIR": "FLAIR", "CT": "CT", "NCCT": "CT", "CTA": "CT",
    "CTP": "CT",
}  # fmt: skip
# The last of a path's folders that is called so is a patient's.
_ISLES = re.compile(r"(train|training|test|testing)[_-]?(\d+)", re.I)
_SPES = re.compile(r"(nr)?(\d{1,3})", re.I)
_CASE = re.compile(r"sub-([a-z]*)(\d+)", re.I)
_CASE_OF_2018 = re.compile(r"case[_-]?\d+", re.I)
_YEAR = re.compile(r"(?<!\d)(201[5678]|202[24])(?!\d)")
_SPES_NAME = re.compile(r"(?<![a-z])spes(?![a-z])", re.I)
# Words in the names of ISLES 2016 and 2017, and in no name of SPES.
_NOT_OF_SPES = frozenset({"ADC", "4DPWI", "PWI", "PWI4D", "4D", "MTT", "RCBF", "RCBV", "SMIR"})
_TESTING = ("test", "testing")
_PERFUSION_OF_ISLES = ("isles2016", "isles2017")
EXPECTED = (
    "expected the folders of ISLES 2015 SPES (1, 2, ... or Nr1, ...), of ISLES 2016 or 2017 "
    "(training_1, ... or test_1, ...) or of ISLES 2022 (sub-strokecase0001, ...), with images "
    "whose names hold the words DWI, ADC, Tmax or 4DPWI. Files with other names: rename them so"
)
OTHERS = {
    "CT": "a set of CT perfusion, such as ISLES 2018 or ISLES 2024; it has no diffusion images "
    "taken together with Tmax",
    "SISS": "ISLES 2015 SISS or another set without perfusion maps and without ADC",
    "other": "a set of DWI and ADC that is not ISLES 2022; a raw cohort of this program needs no "
    "import",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class PublicPatient:
    """A patient in a source.

    Attributes:
        name: in our cohort, ``sub-isles2017train04``.
        key: of :data:`data_tools.import_public.sets.SETS`.
        folder: as the source names it.
        files: by their role.
        unknown: files whose names say nothing, or too much.
    """

    name: str
    key: str
    folder: str
    files: dict[str, tuple[Member, ...]]
    unknown: tuple[Member, ...] = ()

    @property
    def set(self) -> PublicSet:
        """The data set that it is of."""
        return SETS[self.key]


@dataclasses.dataclass(kw_only=True)
class _Folder:
    """A patient's folder before anyone knows the set: where it is, and what is in it."""

    above: str
    name: str
    number: int
    testing: bool
    year: str | None
    files: dict[str, list[Member]] = dataclasses.field(default_factory=dict)
    unknown: list[Member] = dataclasses.field(default_factory=list)

    def add(self, member: Member, role: str | None) -> None:
        if role is None:
            self.unknown.append(member)
        else:
            self.files.setdefault(role, []).append(member)

    @property
    def kind(self) -> str | None:
        """Which family of sets its files show; None where they show none."""
        has = set(self.files)
        if "CT" in has:
            return "CT"
        if sets.SERIES in has or {sets.ADC, sets.TMAX} <= has:
            return "isles"
        if {sets.DWI, sets.TMAX} <= has:
            return "spes"
        if {sets.DWI, sets.ADC} <= has:
            return "isles2022" if "strokecase" in self.name.lower() else "other"
        if {sets.DWI, "FLAIR"} <= has:
            return "SISS"
        return None


def roles_in(text: str) -> set[str]:
    """The roles that the words of a name say.

    >>> sorted(roles_in("VSD.Brain.XX.O.MR_ADC.128020")), sorted(roles_in("OT.128050.nii"))
    (['ADC'], ['OT'])
    >>> roles_in("mergedlabels_v2.notes"), roles_in("T2star"), roles_in("ot128050.nii")
    ({'merged labels'}, set(), {'OT'})
    """
    found = set()
    for forms in _words(text):
        if known := next((each for each in forms if each in ROLES), None):
            found.add(ROLES[known])
    return found


def _words(text: str) -> list[tuple[str, ...]]:
    """Each word of a name in capitals: as it is, without a number after it, without MR before."""
    words = re.split(r"[^A-Za-z0-9]+", text.upper())
    return [(word, word.rstrip("0123456789"), word.removeprefix("MR")) for word in words]


def role_of(inside: Sequence[str]) -> str | None:
    """What a file is.

    Args:
        inside: names of the folders inside the patient's, and of the file.

    Returns:
        The role by the file's own name, or else by its folders'; OT wherever one of them says so,
        but beside the words of a label alone. None where nothing is said, or two things.
    """
    found = [roles_in(name) for name in inside]
    everything = set().union(*found)
    labels = {sets.LABEL, sets.CORE_LABEL, sets.MERGED_LABELS}
    if sets.OUTCOME in everything:
        rest = everything - {sets.OUTCOME}
        return rest.pop() if len(rest) == 1 and rest <= labels else sets.OUTCOME
    if named := everything & (labels - {sets.LABEL}):
        return named.pop() if len(named) == 1 else None
    for roles in reversed(found):
        if roles:
            return roles.pop() if len(roles) == 1 else None
    return None


def patients(
    source: str, members: Iterable[Member], said: str | None = None
) -> list[PublicPatient]:
    """Everybody in a source.

    Args:
        source: as the user gave it, for messages.
        members: its images.
        said: key of the set, where a person says it; it must fit what is there.

    Raises:
        InputError: nothing is recognised, it is a set that is of no use, two sets, or another
            set than the one that was said.
    """
    members = list(members)
    folders = _folders(members)
    kinds = Counter(each.kind for each in folders if each.kind)
    if not kinds and _looks_like_ct(members):
        kinds["CT"] = 1
    if not kinds:
        raise InputError(f"--source={source}: {_unrecognised(members)}; {EXPECTED}")
    for other, what in OTHERS.items():
        if other in kinds:
            raise InputError(
                f"--source={source}: looks like {what}, so it cannot be used here. Usable are "
                f"{', '.join(each.title for each in SETS.values())}"
            )
    keys = {_keys_of(kind, each.year) for each in folders if (kind := each.kind)}
    if len(keys) > 1:
        words = "; ".join(sorted(_in_words(each) for each in keys))
        raise InputError(
            f"--source={source}: holds more than one set ({words}); expected one. Give each one's "
            "folder or zip on its own, separated by commas"
        )
    (options,) = keys
    _check_spes(source, folders, options, said)
    has_outcome = any(sets.OUTCOME in each.files for each in folders)
    key = _chosen(source, options, said, has_outcome=has_outcome)
    made = [_patient(each, key) for each in folders]
    names = Counter(each.name for each in made)
    if twice := [name for name, count in names.items() if count > 1]:
        where = ", ".join(each.folder for each in made if each.name == twice[0])
        raise InputError(
            f"--source={source}: {twice[0]} stands in {counted(names[twice[0]], 'folder')}, "
            f"{where}; expected one. Remove the others"
        )
    return made


def _folders(members: Iterable[Member]) -> list[_Folder]:
    """Patients' folders, in the order of their names; files outside of them are not looked at."""
    found: dict[tuple[str, str], _Folder] = {}
    for member in members:
        parts = member.parts
        for at in range(len(parts) - 2, -1, -1):
            matched = [each.fullmatch(parts[at]) for each in (_CASE, _ISLES, _SPES)]
            if any(matched):
                break
        else:
            continue
        case, isles, spes = matched
        # Masks of a BIDS data set lie in a tree of their own.
        above = "" if case else "/".join(parts[:at])
        key = above, parts[at].lower()
        if key not in found:
            number = case or isles or spes
            word = (isles[1] if isles else "").lower()
            in_words = {w for part in parts[:at] for w in re.split("[^a-z]+", part.lower())}
            year = next((y for part in reversed(parts[:at]) for y in _YEAR.findall(part)), None)
            found[key] = _Folder(
                above=above,
                name=parts[at],
                number=int(number[2]) if number else 0,
                testing=word in _TESTING
                or bool(spes and spes[1])
                or (not word and not in_words.isdisjoint(_TESTING)),
                year=year,
            )
        found[key].add(member, role_of(parts[at + 1 :]))
    return sorted(found.values(), key=lambda each: (each.above, each.testing, each.number))


def _keys_of(kind: str, year: str | None) -> tuple[str, ...]:
    if kind != "isles":
        return (kind,)
    return (f"isles{year}",) if f"isles{year}" in _PERFUSION_OF_ISLES else _PERFUSION_OF_ISLES


def _check_spes(
    source: str, folders: Sequence[_Folder], options: tuple[str, ...], said: str | None
) -> None:
    """Refuse ISLES 2016 or 2017 under the name of SPES: OT would pass for a label there.

    Raises:
        InputError: names that SPES does not have.
    """
    if options == ("spes",):
        foreign = next(filter(None, map(_not_of_spes, folders)), None)
    elif said is None and len(options) > 1:
        named = next((each for each in folders if _SPES_NAME.search(each.above)), None)
        foreign = f"{named.above}/{named.name} with ADC or 4DPWI" if named else None
    else:
        return
    if foreign is None:
        return
    has_outcome = any(sets.OUTCOME in each.files for each in folders)
    raise InputError(
        f"--source={source}: holds {foreign}, so it is not ISLES 2015 SPES, whose patients have "
        "folders 1, 2, ... or Nr1, ... with DWI, CBF, CBV, TTP, Tmax, T1c and T2. Give the archive "
        "as it was downloaded, with --set=isles2017 or --set=isles2016 if it is one of these"
        + (f". {sets.OT_IS_NO_TRUTH}" if has_outcome else "")
    )


def _not_of_spes(folder: _Folder) -> str | None:
    """A name of a patient's that SPES does not have; None where there is none."""
    if _ISLES.fullmatch(folder.name) or f"isles{folder.year}" in _PERFUSION_OF_ISLES:
        return f"{folder.above}/{folder.name}"
    for member in (*(each for found in folder.files.values() for each in found), *folder.unknown):
        inside = member.parts[member.parts.index(folder.name) :]
        if any(not _NOT_OF_SPES.isdisjoint(forms) for part in inside for forms in _words(part)):
            return member.inner
    return None


def _in_words(keys: tuple[str, ...]) -> str:
    return " or ".join(SETS[key].title for key in keys)


def _chosen(source: str, options: tuple[str, ...], said: str | None, *, has_outcome: bool) -> str:
    """The set: the one that a person said, if it may be, or the only one that it may be."""
    if said is not None and said not in options:
        # Of these sets a mask is taken, which OT would be.
        more = f". {sets.OT_IS_NO_TRUTH}" if has_outcome and SETS[said].takes else ""
        raise InputError(
            f"--source={source}: holds {_in_words(options)} by the names of its files, and --set "
            f"says {SETS[said].title}; leave --set out{more}"
        )
    if said is not None:
        return said
    if len(options) > 1:
        raise InputError(
            f"--source={source}: is {_in_words(options)}, and no name says which; expected the "
            f"year in the name of its folder, or --set={options[1]} (or {options[0]})"
        )
    return options[0]


def _patient(folder: _Folder, key: str) -> PublicPatient:
    files = dict(folder.files)
    if key == "spes" and sets.OUTCOME in files:  # its labels bear the word too
        files[sets.LABEL] = [*files.get(sets.LABEL, []), *files.pop(sets.OUTCOME)]
    part = "" if key == "isles2022" else "test" if folder.testing else "train"
    digits = 4 if key == "isles2022" else 2
    return PublicPatient(
        name=f"sub-{key}{part}{folder.number:0{digits}d}",
        key=key,
        folder="/".join(filter(None, (folder.above, folder.name))),
        files={role: tuple(each) for role, each in files.items()},
        unknown=tuple(folder.unknown),
    )


def _looks_like_ct(members: Sequence[Member]) -> bool:
    """Whether names say CT, or have the folders of ISLES 2018 (case_1, ...) and nothing of MR."""
    inside = [part for each in members for part in PurePosixPath(each.inner).parts]
    if any("CT" in roles_in(part) for part in inside):
        return True
    words = {word for part in inside for forms in _words(part) for word in forms}
    return any(map(_CASE_OF_2018.fullmatch, inside)) and words.isdisjoint({"MR", "DWI", "ADC"})


def _unrecognised(members: Sequence[Member]) -> str:
    if not members:
        return "holds no images"
    if all(sets.OUTCOME in set().union(*map(roles_in, each.parts)) for each in members):
        return f"holds OT and no other image. {sets.OT_IS_NO_TRUTH}"
    return f"holds no patients that are recognised (the first image is {members[0].inner})"
