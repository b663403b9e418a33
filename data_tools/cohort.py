"""A cohort on disk: participants.tsv and where each patient's files are.

Raw cohorts are BIDS (``sub-*/[ses-*/]dwi``); MNI cohorts are what ``preprocess`` writes. Every
fault of the table and of the folders is collected, so that a researcher mends them in one go.

A row is a patient (``sub-01``) or a visit of one (``sub-01_ses-1``). ``group`` is any word, the
same in rows that belong together (one patient under two names, a family); ``site`` is where the
images were made. Both are optional, and text.
"""

import dataclasses
import os
import re
import sys
import unicodedata
from collections.abc import Callable, Hashable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from data_tools import file_names, flow, text_table
from data_tools.criteria import DAWN
from data_tools.grid import LOW_B_MAX_S_PER_MM2, NIHSS_MAX, SIDES, SPACE, UNKNOWN_SIDE
from data_tools.groups import VISIT, patient_of
from data_tools.overrides import Overrides
from data_tools.runtime import atomic
from data_tools.runtime.errors import InputError, counted

if TYPE_CHECKING:
    import pandas as pd
    import pandera.pandas as pa

# A line of a table about patients, as plain JSON types; its columns differ from table to table.
Row = dict[str, Any]

MISSING = "n/a"
# Of a patient whose scanner's files were not converted: sub-*/dicom.
DICOM_FOLDER = "dicom"
# Of derivatives: Tmax and the other maps.
PERFUSION = "perfusion"
COLUMNS = (
    "participant_id",
    "age",
    "sex",
    "nihss",
    "side",
    "occlusion",
    "field_strength_t",
    "cohort",
    "site",
    "group",
    "mrs_90d",
    "exclude",
)
LABELS = ("site", "group")
# Written only where a row has one, so that tables without them stay as they are.
OPTIONAL = (*LABELS, "mrs_90d", "exclude")
REQUIRED_COLUMNS = ("participant_id", "nihss", "side")
# Of these few patients have anything.
_MAY_BE_EMPTY = ("mrs_90d", "exclude")
NUMBERS = ("age", "nihss", "field_strength_t", "mrs_90d")
PARTICIPANTS = "participants.tsv"
DESCRIPTION = "dataset_description.json"
# What dataset_description.json of an MNI cohort names.
GENERATED_BY = "data_tools.preprocess"
RAW, MNI = "raw", "in MNI space"
# Of images beside the folders of a patient, not in dwi/.
_RAW_IMAGE = re.compile(r"_(dwi|adc|trace)\.(nii|nii\.gz|img|hdr|mha|mhd|nrrd|nhdr)$")
# What links to nothing are named of: what would be read.
_READ_ENDINGS = (*file_names.IMAGE_ENDINGS, ".bval", ".bvec", ".json")
_READ_NAMES = (
    "_dwi", "_adc", "_trace", "_b0", "_tmax", "brain_mask", "core_mask", *file_names.EDITED_MASKS
)  # fmt: skip
_PERFUSION_NAMES = ("_dsc", "_pwi")
_ARTERY_NAME = "_desc-aif_mask"
_READ_FOLDER = re.compile(f"{DICOM_FOLDER}|dwi|ses-.*")
_PARTICIPANT = re.compile(f"sub-[A-Za-z0-9]+({VISIT}[A-Za-z0-9]+)?")
# What programs write where a cell is empty: as a group it would join everybody without one.
_NO_LABEL = ("", "na", "nan", "none", "null", "nil", "#n/a", "<na>", "-", "?")
# What says that there is a reason, or none, but not which.
_NO_REASON = (
    *_NO_LABEL, "no", "n", "false", "0", "yes", "y", "true", "1", "x", "ok", "okay", "good", "keep",
    "include", "included", "exclude", "excluded",
)  # fmt: skip
OCCLUSIONS = (*flow.TERRITORIES, *flow.OTHER_TERRITORIES)
SEXES = {"m": "M", "male": "M", "f": "F", "female": "F"}
# 89+, 90 +, >89, > 89, >= 90, ≥ 90
_BOUND = re.compile(r"(\d{1,3})\s*\+|(?:>=?|\u2265)\s*(\d{1,3})")
EXPECTED_SIDE = f"expected {', '.join(SIDES)} or {MISSING}: the side of the brain lesion"


@dataclasses.dataclass(frozen=True)
class Fault:
    """One thing wrong with a cohort: who, where, what."""

    participant: str
    file: str
    what: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class RawFiles:
    """A patient's files in a raw cohort; all but ``dwi`` may be absent (None).

    ``dwi`` may be a folder of DICOM files; without ``adc`` it must be that, or a series with its
    b-values, of which ADC is computed, or have ``b0`` beside it. Where a patient may lack one of
    the two, either may stand alone.
    """

    dwi: Path | None
    adc: Path | None = None
    tmax: Path | None = None
    truth: Path | None = None
    b0: Path | None = None
    brain_mask: Path | None = None
    core: Path | None = None

    def existing(self) -> list[Path]:
        """Every file that is read, in a fixed order: sidecars and DICOM files too."""
        found: list[Path] = []
        for path in (
            self.dwi, self.adc, self.tmax, self.truth, self.b0, self.brain_mask, self.core
        ):  # fmt: skip
            ends = [".bval", ".bvec", ".json"] if path in (self.dwi, self.b0) else [".json"]
            found += _with_parts(path, ends)
        return found

    def overrides(self, said: Overrides) -> Overrides:
        """What a person says of these files: of all patients, and the mask of this one."""
        if self.brain_mask is None:
            return said
        return dataclasses.replace(said, brain_mask=str(self.brain_mask))


@dataclasses.dataclass(frozen=True, kw_only=True)
class PerfusionFiles:
    """A patient's raw perfusion scan.

    Attributes:
        series: 4D image file, or a folder of DICOM files, which may hold no such scan.
        artery: mask of the arterial input's voxels, chosen by a person; None if there is none.
    """

    series: Path
    artery: Path | None = None

    def existing(self) -> list[Path]:
        """Every file that is read, in a fixed order."""
        return _with_parts(self.series, [".json"]) + _with_parts(self.artery, [])


class CohortError(InputError):
    """An InputError that carries the list of faults."""

    def __init__(self, faults: list[Fault]):
        self.faults = faults
        super().__init__(f"{counted(len(faults), 'fault')} in the cohort:\n{fault_table(faults)}")

    def __reduce__(self):
        # Exceptions are pickled as their message; on its way out of a process it needs the faults.
        return type(self), (self.faults,)


def fault_table(faults: Iterable[Fault]) -> str:
    """Faults as aligned plain text."""
    rows = [("patient", "file", "what is wrong, what to do")]
    for fault in faults:
        for line in fault.what.splitlines():
            rows.append((fault.participant, fault.file, line))
    widths = [max(len(row[i]) for row in rows) for i in range(2)]
    text = "\n".join(f"{a:<{widths[0]}}  {b:<{widths[1]}}  {c}" for a, b, c in rows)
    # Names of files may hold bytes that are no letters, which no terminal prints.
    return text.encode(errors="backslashreplace").decode()


def read_participants(
    cohort: str | os.PathLike, log: Callable[[str], None] | None = None
) -> "pd.DataFrame":
    """Read and validate ``participants.tsv``.

    Names of columns, ``side`` and ``sex`` are read in capitals too; a side of n/a is ``unknown``.
    An age given as a bound of 80 or more (``89+``, as privacy rules want it) is its number: DAWN
    asks for no more.

    Args:
        cohort: folder of the table.
        log: gets what was read although it is written otherwise; default: standard error.

    Returns:
        A DataFrame with the columns of :data:`COLUMNS` (absent optional ones are filled with
        missing values): those of :data:`NUMBERS` as float with NaN for n/a,
        the others as str or None.

    Raises:
        CohortError: every bad cell at once.
        InputError: no such folder or table.
    """
    import pandas as pd

    text = text_table.read(Path(cohort) / PARTICIPANTS, COLUMNS, REQUIRED_COLUMNS)
    whole = [line for line in text.lines if not line.fault]
    rows = [[plain(name, line.cells.get(name, MISSING)) for name in COLUMNS] for line in whole]
    table = pd.DataFrame(
        rows, columns=list(COLUMNS), index=[line.number - 2 for line in whole], dtype=object
    )
    faults = [
        Fault(line.cells.get("participant_id") or "?", _row(line.number), line.fault)
        for line in text.lines
        if line.fault
    ]
    wrong, unread = _bad_cells(table)
    faults += [*wrong, *_repeated(table), *_clashes(table)]
    faults += [fault for name in LABELS for fault in _spelled_twice(table, name)]
    if faults:
        raise CohortError(faults)
    for note in (*text.notes, *_bounds_note(whole), *unread):
        (log or _say)(note)
    table = table.reset_index(drop=True)
    for name in NUMBERS:
        table[name] = table[name].map(float, na_action="ignore").astype(float)
    return table


def named_in_table(cohort: str | os.PathLike) -> list[str]:
    """Every patient of a table, in its order, also of one with faults.

    Raises:
        InputError: it is no table.
    """
    lines = text_table.read(Path(cohort) / PARTICIPANTS, COLUMNS, REQUIRED_COLUMNS).lines
    names = [line.cells.get("participant_id", "") for line in lines]
    return [name for name in dict.fromkeys(names) if _is_label(name)]


def plain(name: str, text: str) -> str | None:
    """A cell in the one way that the table is checked for; None where it is missing.

    A missing side is ``unknown``.

    Args:
        name: of the column.
        text: as a person wrote it.
    """
    if name in NUMBERS:  # digits of East Asian or Arabic keyboards are digits
        wide = unicodedata.normalize("NFKC", text)
        text = "".join(str(unicodedata.decimal(each, each)) for each in wide)
    text = text.strip()
    folded = text.casefold()
    if folded == MISSING or (not folded and name in _MAY_BE_EMPTY):
        return UNKNOWN_SIDE if name == "side" else None
    if name == "side" and folded in SIDES:
        return folded
    if name == "sex":
        return SEXES.get(folded, text)
    if name == "occlusion":
        return next((word for word in OCCLUSIONS if word.casefold() == folded), text)
    bound = _BOUND.fullmatch(text) if name == "age" else None
    if bound and int(bound[1] or bound[2]) >= DAWN.old_age:
        return bound[1] or bound[2]
    return text


def number(name: str, text: str) -> float | None:
    """A number of a patient that was typed, as the table's column of that name has it.

    Args:
        name: ``age`` or ``nihss``.
        text: as it was typed; ``n/a`` is None.

    Raises:
        InputError: it is none, or out of range.
    """
    value = plain(name, text)
    check, expected = _NUMBERS[name]
    if value is not None and not check(value):
        raise InputError(f"--{name} is {text!r}; {expected}")
    return None if value is None else float(value)


def _bounds_note(lines: Iterable[text_table.Line]) -> list[str]:
    """That ages given as a bound were read as its number."""
    ages = [(line.cells["participant_id"], line.cells.get("age", "")) for line in lines]
    bounds = [
        f"{age} of {who}"
        for who, age in ages
        if _BOUND.fullmatch(unicodedata.normalize("NFKC", age))
    ]
    if not bounds:
        return []
    more = f" and {len(bounds) - 5} more" if len(bounds) > 5 else ""
    return [f"{PARTICIPANTS}: age {', '.join(bounds[:5])}{more}: the number is taken as the age"]


def _say(text: str) -> None:
    print(f"note: {text}", file=sys.stderr)


def _row(number: int) -> str:
    return f"{PARTICIPANTS} row {number}"


def _bad_cells(table: "pd.DataFrame") -> tuple[list[Fault], list[str]]:
    """Faults; and notes of cells of patients who are left out by hand, which become missing."""
    import pandera.pandas as pa

    try:
        _schema().validate(table, lazy=True)
    except pa.errors.SchemaErrors as error:
        cases = error.failure_cases.to_dict("records")
    else:
        return [], []
    faults, notes = [], []
    for case in cases:
        fault, name = _bad_cell(case, table), str(case["column"])
        if name in ("participant_id", "exclude") or not _is_excluded(table, case["index"]):
            faults.append(fault)
        else:
            table.loc[int(case["index"]), name] = plain(name, MISSING)
            said = f"{name} {case['failure_case']!r}"
            notes.append(
                f"{PARTICIPANTS}: {fault.participant} is left out by hand; {said} is ignored"
            )
    return faults, notes


def _is_excluded(table: "pd.DataFrame", row: Any) -> bool:
    """Whether a row gives a reason to leave its patient out."""
    said = table["exclude"].loc[int(row)] if row == row and row is not None else None
    return said is not None and _is_reason(said)


def _is_reason(said: str) -> bool:
    return said.casefold() not in _NO_REASON


def _schema() -> "pa.DataFrameSchema":
    import pandera.pandas as pa

    def column(check: Callable[[Any], bool], expected: str, nullable: bool = True) -> pa.Column:
        wrong = pa.Check(check, element_wise=True, error=expected)
        return pa.Column(object, wrong, nullable=nullable)

    return pa.DataFrameSchema(
        {
            "participant_id": column(
                _is_label,
                "expected sub- and letters or digits; of a visit also _ses- and letters or digits, "
                "such as sub-01_ses-1",
                nullable=False,
            ),
            "age": column(*_NUMBERS["age"]),
            "sex": column(lambda v: v in ("M", "F"), f"expected M, F or {MISSING}"),
            "nihss": column(*_NUMBERS["nihss"]),
            "side": column(lambda v: v in SIDES, EXPECTED_SIDE, nullable=False),
            "field_strength_t": column(*_NUMBERS["field_strength_t"]),
            "occlusion": column(
                lambda v: v in OCCLUSIONS, f"expected {', '.join(OCCLUSIONS)}, or {MISSING}"
            ),
            "mrs_90d": column(*_NUMBERS["mrs_90d"]),
            "exclude": column(
                _is_reason,
                "expected the reason why the patient is left out, such as poor DWI, or "
                f"{MISSING} to keep the patient",
            ),
            "site": column(_says_something, f"expected the name of a hospital, or {MISSING}"),
            "group": column(
                _says_something,
                f"expected a word, the same in all rows that belong together, or {MISSING}",
            ),
        }
    )


def _bad_cell(case: Mapping[Hashable, Any], table: "pd.DataFrame") -> Fault:
    """A failure case of pandera in words."""
    row = case["index"]
    who = table["participant_id"].loc[int(row)] if row == row and row is not None else None
    value = MISSING if case["failure_case"] is None else repr(case["failure_case"])
    expected = case["check"]
    if expected == "not_nullable":
        value, expected = MISSING, "expected a value"
    elif case["column"] in NUMBERS and "," in value:
        expected = f"{expected}; the decimal mark is a point"
    return Fault(
        str(who or "?"),
        _row(int(row) + 2),
        f"{case['column']} is {value}; {expected}",
    )


def _repeated(table: "pd.DataFrame") -> list[Fault]:
    repeated = table["participant_id"][table["participant_id"].duplicated()]
    return [
        Fault(str(name), "participants.tsv", "stands more than once; expected one row per patient")
        for name in sorted(set(repeated.dropna()))
    ]


def _clashes(table: "pd.DataFrame") -> list[Fault]:
    """Patients that stand beside their own visits, and names that differ in case only."""
    names = [name for name in table["participant_id"].unique() if _is_label(name)]
    visits: dict[str, list[str]] = {}
    spelled: dict[str, list[str]] = {}
    for name in names:
        patient = patient_of(name)
        if name != patient:
            visits.setdefault(patient, []).append(name)
        for each in (patient, name):
            alike = spelled.setdefault(each.lower(), [])
            if each not in alike:
                alike.append(each)
    faults = [
        Fault(
            name,
            PARTICIPANTS,
            f"stands beside {', '.join(visits[name])}; expected a row for each visit, the first "
            f"one too, and none of {name} as a whole",
        )
        for name in names
        if name in visits
    ]
    return faults + [
        Fault(
            alike[-1],
            PARTICIPANTS,
            f"{' and '.join(alike)} differ in capital letters only; expected one spelling of a "
            "patient, and names of others that differ otherwise",
        )
        for alike in spelled.values()
        if len(alike) > 1
    ]


def _spelled_twice(table: "pd.DataFrame", column: str) -> list[Fault]:
    """Words of a column that a reader takes for one, and a program for two."""
    spelled: dict[str, dict[str, str]] = {}
    for who, word in zip(table["participant_id"], table[column], strict=True):
        if isinstance(word, str):
            alike = " ".join(unicodedata.normalize("NFKC", word).casefold().split())
            spelled.setdefault(alike, {}).setdefault(word, who)
    return [
        Fault(
            str(list(found.values())[-1] or "?"),
            PARTICIPANTS,
            f"{column} is written {' and '.join(map(repr, found))}; expected one spelling",
        )
        for found in spelled.values()
        if len(found) > 1
    ]


def _is_label(value: Any) -> bool:
    return isinstance(value, str) and _PARTICIPANT.fullmatch(value) is not None


def _says_something(value: Any) -> bool:
    return value.casefold() not in _NO_LABEL


def _is_number(low: float, high: float, whole: bool = False) -> Callable[[Any], bool]:
    def check(value: Any) -> bool:
        try:
            number = float(value)
        except ValueError:
            return False
        if "_" in value or not value.isascii():  # Python reads 1_0 as 10
            return False
        return low <= number <= high and (not whole or number == int(number))

    return check


# What a number must be, and the words for it.
_NUMBERS = {
    "age": (
        _is_number(0, 120),
        f"expected years, 0 to 120, or a bound of {DAWN.old_age} or more such as 89+, or {MISSING}",
    ),
    "nihss": (
        _is_number(0, NIHSS_MAX, whole=True),
        f"expected a whole number, 0 to {NIHSS_MAX}, or {MISSING}",
    ),
    "field_strength_t": (_is_number(0.05, 12), f"expected tesla, 0.05 to 12, or {MISSING}"),
    "mrs_90d": (
        _is_number(0, 6, whole=True),
        f"expected the modified Rankin Scale after 90 days, 0 to 6, or {MISSING}",
    ),
}


def optional_number(value: Any) -> float | int | None:
    """NaN -> None; whole numbers as int, for JSON and TSV."""
    if value is None or np.isnan(value):
        return None
    return int(value) if value == int(value) else float(value)


def clinical_record(row: Any) -> Row:
    """A row of the participants' table as plain JSON types, missing values as None."""
    # pandas turns None into NaN in a row whose other cells are text or missing; NaN != NaN.
    record = {name: row[name] if row[name] == row[name] else None for name in COLUMNS}
    for name in NUMBERS:
        record[name] = optional_number(record[name])
    return record


def write_participants(path: Path, records: list[Row]) -> None:
    """Write participants.tsv atomically from :func:`clinical_record` rows.

    Those of :data:`OPTIONAL` are columns of it where a row has one.
    """
    said = {name for name in OPTIONAL if any(record[name] is not None for record in records)}
    columns = [name for name in COLUMNS if name not in OPTIONAL or name in said]
    lines = ["\t".join(columns)]
    for record in records:
        lines.append(
            "\t".join(MISSING if record[name] is None else str(record[name]) for name in columns)
        )
    atomic.write_text(path, "\n".join(lines) + "\n")


def find_raw_files(
    cohort: str | os.PathLike, participant: str, *, may_lack_one: bool = False
) -> tuple[RawFiles | None, list[Fault]]:
    """A patient's files in a raw cohort, and what is wrong with finding them.

    Reads BIDS names in any case, with or without ``ses-*`` folders, through links, ISLES'22's
    ``_adc``, and ``sub-*/dicom``; a b = 0 image of its own by ``_b0``, ``acq-b0`` or its b-value.
    A patient with images in several ``ses-*`` folders is a fault: each visit wants its own row.

    Args:
        cohort: folder of the raw cohort.
        participant: ``sub-0001``, or a visit, ``sub-0001_ses-1``.
        may_lack_one: a patient with a DWI or an ADC map alone is taken too.
    """
    root = Path(cohort)
    folder = patient_folder(root, participant)
    if faults := _faults_of_folder(root, participant):
        return None, faults
    search = _Search(root, participant)
    visits = [] if VISIT in participant else _visits(folder)
    if len(visits) > 1:
        rows = ", ".join(f"{participant}_{visit}" for visit in visits)
        what = (
            f"holds images of {len(visits)} visits, {', '.join(visits)}; expected a row for each "
            f"in {PARTICIPANTS}: {rows}, and none of {participant}. A visit that is not wanted: "
            "remove its folder"
        )
        return None, [Fault(participant, str(folder), what)]
    own = dict.fromkeys((patient_of(participant), participant))
    search.complain_of_links(
        folder, *(path for name in own for path in (root / "derivatives").glob(f"*/{name}"))
    )
    scanners = [each / DICOM_FOLDER for each in (folder, *(folder / visit for visit in visits))]
    scanner = next((each for each in scanners if each.is_dir()), scanners[0])
    diffusion = [path for path in search.named(folder, "_dwi", "_trace") if not _is_adc(path)]
    b0s = [path for path in diffusion if _is_b0(path)]
    if len(b0s) == len(diffusion):  # of a single image that says b = 0 its reader complains
        b0s = []
    b0s += search.named(folder, "_b0")
    derived = root / "derivatives"
    maps = [path for path in search.named(folder, "_adc", "_dwi", "_trace") if _is_adc(path)]
    maps = maps or search.named(derived, "_adc", of_patient=True)
    images = [path for path in diffusion if path not in b0s]
    dwi = search.only(
        "DWI", folder, images,
        required=not (scanner.is_dir() or (may_lack_one and maps)), name="_dwi",
    )  # fmt: skip
    # A series with its b-values needs no ADC map, nor an image with that of b = 0.
    series = any(len(file_names.said_b_values(path)) > 1 for path in diffusion)
    adc = search.only(
        "ADC", folder, maps,
        required=not (series or scanner.is_dir() or b0s or may_lack_one), name="_ADC",
    )  # fmt: skip
    b0 = None
    if adc is None and not series:
        b0 = search.only("b = 0 image", folder, b0s)
    if dwi is None and scanner.is_dir() and not search.faults:
        dwi = scanner

    def derivative(what: str, kind: str, *endings: str) -> Path | None:
        found = [path for name in own for path in search.named(derived / kind / name, *endings)]
        return search.only(what, derived / kind, found)

    tmax = search.only("Tmax", derived / PERFUSION, tmax_files(root, participant))
    edited = {
        name: path
        for name in file_names.EDITED_MASKS
        if (path := derivative("edited mask", "labels", f"_{name}"))
    }
    if len(edited) > 1:
        what = (
            f"has {' and '.join(edited)}; expected one of them: the first is united with the core, "
            "the second is the whole truth as it is"
        )
        search.faults.append(Fault(participant, "edited mask", what))
    truth = next(iter(edited.values()), None)
    brain = derivative("brain mask", "masks", "_desc-brain_mask", "_brain_mask")
    core = derivative("core mask", "masks", "_desc-core_mask")
    if search.faults:
        return None, search.faults
    return RawFiles(
        dwi=dwi, adc=adc, tmax=tmax, truth=truth, b0=b0, brain_mask=brain, core=core
    ), []


def _with_parts(path: Path | None, ends: list[str]) -> list[Path]:
    """A file with those beside it that are read with it, or all of a folder; nothing of None."""
    if path is None:
        return []
    if path.is_dir():
        return [*file_names.files_below(path)]
    if file_names.ending(path.name) not in (".nii", ".nii.gz"):
        ends = [*ends, *file_names.OTHER_PARTS]
    beside = [file_names.beside(path, end) for end in ends]
    return [path, *(each for each in beside if each.is_file() and each != path)]


def find_perfusion_files(
    cohort: str | os.PathLike, participant: str
) -> tuple[PerfusionFiles | None, list[Fault]]:
    """A patient's raw perfusion series, and what is wrong with finding it.

    ``sub-*/[ses-*/]perf/sub-*_dsc`` or ``_pwi``, in any case; else the scanner's files in
    ``dicom/``, of which only reading them shows whether they hold such a scan.

    Args:
        cohort: folder of the raw cohort.
        participant: ``sub-0001``, or a visit, ``sub-0001_ses-1``.

    Returns:
        None without faults where there is nothing of the kind.
    """
    root = Path(cohort)
    if faults := _faults_of_folder(root, participant):
        return None, faults
    search = _Search(root, participant, (*_PERFUSION_NAMES, _ARTERY_NAME))
    folder, masks = patient_folder(root, participant), root / "derivatives" / "masks"
    own = dict.fromkeys((patient_of(participant), participant))
    search.complain_of_links(folder, *(masks / name for name in own))
    series = search.only("perfusion series", folder, search.named(folder, *_PERFUSION_NAMES))
    found = [path for name in own for path in search.named(masks / name, _ARTERY_NAME)]
    artery = search.only("arterial mask", masks, found)
    if search.faults:
        return None, search.faults
    if series is None:
        scanners = [folder / DICOM_FOLDER, *sorted(folder.glob(f"{VISIT[1:]}*/{DICOM_FOLDER}"))]
        series = next((each for each in scanners if each.is_dir()), None)
    return (None if series is None else PerfusionFiles(series=series, artery=artery)), []


def tmax_files(cohort: str | os.PathLike, participant: str) -> list[Path]:
    """Every Tmax map of a patient in ``derivatives/perfusion``; one is expected at most.

    Args:
        cohort: folder of the cohort.
        participant: ``sub-0001``, or a visit, ``sub-0001_ses-1``.
    """
    root = Path(cohort)
    search = _Search(root, participant)
    own = dict.fromkeys((patient_of(participant), participant))
    derived = root / "derivatives" / PERFUSION
    return [path for name in own for path in search.named(derived / name, "_tmax")]


def perfusion_folder(cohort: str | os.PathLike, participant: str) -> Path:
    """Where a patient's perfusion maps go: ``derivatives/perfusion/sub-01[/ses-1]``."""
    return Path(cohort, "derivatives", PERFUSION, *participant.split("_"))


def _faults_of_folder(root: Path, participant: str) -> list[Fault]:
    """That the folder of a row of the table is not there, or is there twice."""
    nested, flat = Path(root, *participant.split("_")), root / participant
    folder = patient_folder(root, participant)
    if not folder.is_dir():
        above = root / patient_of(participant)
        missing = next(filter(None, map(file_names.broken_link, (above, folder))), "no such folder")
        other = f", or in {flat}" if flat != folder else ""
        whose = "visit" if VISIT in participant else "patient"
        what = f"{missing}; expected the {whose}'s files there{other}, or no row in {PARTICIPANTS}"
        return [Fault(participant, str(folder), what)]
    if nested != flat and nested.is_dir() and flat.is_dir():
        what = f"{flat} is there too; expected the visit's files in one of the two"
        return [Fault(participant, str(nested), what)]
    return []


def _visits(folder: Path) -> list[str]:
    """Names of the ``ses-*`` folders of a patient with images that would be read."""
    search = _Search(folder.parent, folder.name)
    return [
        path.name
        for path in sorted(folder.iterdir())
        if path.name.lower().startswith(VISIT[1:])
        and path.is_dir()
        and ((path / DICOM_FOLDER).is_dir() or search.named(path, "_dwi", "_trace", "_adc"))
    ]


def _is_adc(path: Path) -> bool:
    """An ADC map by its name: ``_ADC``, or ``_rec-ADC_dwi`` and the like."""
    name = file_names.stem(path.name).lower()
    return name.endswith("_adc") or bool(re.search(r"_(acq|rec|desc)-[a-z0-9]*adc_", name))


def _is_b0(path: Path) -> bool:
    """An image of b = 0 by what lies beside it, or by its name: ``_acq-b0_dwi``."""
    values = file_names.said_b_values(path)
    if values:
        return max(values) <= LOW_B_MAX_S_PER_MM2
    return bool(re.search(r"_(acq|rec|desc)-b0*_", file_names.stem(path.name).lower()))


@dataclasses.dataclass
class _Search:
    """Looks for a patient's files and keeps what is wrong with them.

    Attributes:
        root: folder of the cohort.
        participant: a patient or a visit.
        read_names: how names end of links that must not lead to nothing.
        faults: so far.
    """

    root: Path
    participant: str
    read_names: tuple[str, ...] = _READ_NAMES
    faults: list[Fault] = dataclasses.field(default_factory=list)

    def named(self, base: Path, *endings: str, of_patient: bool = False) -> list[Path]:
        """Images of the patient below ``base`` whose names end so, in any case.

        Of a pair of files only the first is named. ``of_patient``: below folders of the patient's
        name only.
        """
        found: dict[str, Path] = {}
        for path in file_names.files_below(base):
            if (
                file_names.ending(path.name)
                and path.name.lower().startswith(f"{self.participant.lower()}_")
                and file_names.stem(path.name).lower().endswith(endings)
                and (not of_patient or self._is_own(path.relative_to(base)))
            ):
                pair = file_names.ending(path.name) in (".img", ".hdr", ".img.gz", ".hdr.gz")
                key = file_names.stem(str(path)) if pair else str(path)
                found[key] = path  # .img after .hdr
        return sorted(found.values())

    def _is_own(self, path: Path) -> bool:
        """Whether a derivative is this patient's, in the patient's own space."""
        folders = {self.participant, patient_of(self.participant)}
        return not folders.isdisjoint(path.parts) and "_space-" not in path.name

    def only(
        self, what: str, base: Path, found: list[Path], *, required: bool = False, name: str = ""
    ) -> Path | None:
        """The one file that was found, or a fault and None."""
        if len(found) == 1:
            return found[0]
        if found:
            names = ", ".join(str(path.relative_to(self.root)) for path in found)
            self._complain(
                what,
                f"found {names}; expected one file. Keep the baseline scan, remove the others. If "
                "they are visits, each wants a folder ses-* and a row of its own, such as "
                f"{patient_of(self.participant)}{VISIT}1.",
            )
        elif required:
            self._complain(what, f"no {self.participant}_*{name}.nii.gz below {base}; expected one")
        return None

    def complain_of_links(self, *folders: Path) -> None:
        """Name what would be read and is a link to nothing, or to itself."""
        for base in folders:
            found = [base] if base.is_symlink() else []
            for here, inner, names in os.walk(base):
                found += [Path(here, name) for name in sorted({*inner, *names})]
            for path in found:
                broken = file_names.broken_link(path) if self._is_wanted(path) else ""
                if broken:
                    what = f"{broken}; expected the file or folder. Fetch or copy what it names."
                    self._complain(str(path.relative_to(self.root)), what)

    def _is_wanted(self, path: Path) -> bool:
        """Whether the name is one of those that are read: other images may be absent."""
        name = path.name.lower()
        end = next((each for each in _READ_ENDINGS if name.endswith(each)), "")
        if not end:
            own = {self.participant.lower(), patient_of(self.participant).lower()}
            return name in own or (
                bool(_READ_FOLDER.fullmatch(name)) and not self._is_of_other_visit(path)
            )
        return name.startswith(f"{self.participant.lower()}_") and name[: -len(end)].endswith(
            self.read_names
        )

    def _is_of_other_visit(self, path: Path) -> bool:
        """Whether a path of the patient's lies in the folder of a visit that is not this one."""
        visits = [part for part in path.relative_to(self.root).parts if part.startswith("ses-")]
        return VISIT in self.participant and any(
            not self.participant.endswith(f"_{visit}") for visit in visits
        )

    def _complain(self, file: str, what: str) -> None:
        self.faults.append(Fault(self.participant, file, what))


def described_name(cohort: str | os.PathLike) -> str:
    """Name in ``dataset_description.json``, else the folder's; of simulated patients it says so."""
    described = atomic.read_json(Path(cohort) / DESCRIPTION)
    return str(described.get("Name", Path(cohort).name))


def is_preprocessed(cohort: str | os.PathLike) -> bool:
    """Whether ``preprocess`` wrote a cohort, by its ``dataset_description.json``."""
    tools = atomic.read_json(Path(cohort) / DESCRIPTION).get("GeneratedBy")
    first = tools[0] if isinstance(tools, list) and tools else None
    return isinstance(first, dict) and first.get("Name") == GENERATED_BY


def left_out_before(cohort: str | os.PathLike) -> tuple[flow.LeftOut, ...]:
    """Whom the steps before an MNI cohort left out; nobody of a simulated one.

    Raises:
        InputError: ``left_out.json`` cannot be read, or is missing where ``preprocess`` wrote it.
    """
    return flow.read(cohort, expected=is_preprocessed(cohort))


def layouts(cohort: str | os.PathLike, participant: str) -> set[str]:
    """``{RAW}``, ``{MNI}``, both or neither: what a patient's folder holds, by the names in it."""
    folder, found = patient_folder(cohort, participant), set()
    for path in folder.iterdir() if folder.is_dir() else ():
        name = path.name.lower()
        if f"_space-{SPACE}_".lower() in name:
            found.add(MNI)
        elif path.is_dir() or _RAW_IMAGE.search(name):
            found.add(RAW)
    return found


def unlisted_folders(cohort: str | os.PathLike, participants: Iterable[str]) -> list[Fault]:
    """Folders of patients and visits without a row: they would be left out silently."""
    listed = set(participants)
    patients = {patient_of(name) for name in listed}
    faults = []
    for folder in sorted(Path(cohort).glob("sub-*")):
        name = folder.name
        if not folder.is_dir() or name in listed:
            continue
        if name not in patients or not any(folder.glob(f"{VISIT[1:]}*")):
            what = "no row for this folder; add one or remove the folder"
            faults.append(Fault(name, PARTICIPANTS, what))
            continue
        for visit in _visits(folder):
            if f"{name}_{visit}" not in listed:
                what = f"no row for this visit; add one or remove the folder {name}/{visit}"
                faults.append(Fault(f"{name}_{visit}", PARTICIPANTS, what))
        for inner in ("dwi", DICOM_FOLDER):
            if (folder / inner).is_dir():
                what = "belongs to no visit; move it into the ses-* folder of one, or remove it"
                faults.append(Fault(name, f"{name}/{inner}", what))
    return faults


def patient_folder(cohort: str | os.PathLike, participant: str) -> Path:
    """Folder of a patient or visit: ``sub-01``; ``sub-01/ses-1``, or else ``sub-01_ses-1``.

    Args:
        cohort: folder of a raw cohort, or of an MNI cohort, whose folders are all of one level.
        participant: as in ``participants.tsv``.

    Returns:
        The folder that is there, or else the BIDS name of one that is not.
    """
    nested, flat = Path(cohort, *participant.split("_")), Path(cohort, participant)
    return flat if flat.is_dir() and not nested.is_dir() else nested


def mni_file(cohort: str | os.PathLike, participant: str, name: str) -> Path:
    """Path of a patient's volume in an MNI cohort.

    Args:
        cohort: folder of the MNI cohort.
        participant: ``sub-0001``, or a visit, ``sub-0001_ses-1``, which names its folder too.
        name: ``dwi``, ``adc``, ``tmax``, ``desc-brain_mask``, ``desc-coverage_mask``,
            ``desc-hypoperfusion_mask``, ``desc-truth_mask``, ``desc-core_mask``.

    >>> mni_file("mni", "sub-0001", "adc").name
    'sub-0001_space-MNI152NLin2009aSym_adc.nii.gz'
    """
    return Path(cohort) / participant / f"{participant}_space-{SPACE}_{name}.nii.gz"


def has_truth(cohort: str | os.PathLike, participant: str) -> bool:
    """Whether an MNI cohort holds what a patient's labels are made of: Tmax, or an edited mask."""
    return any(
        os.path.lexists(mni_file(cohort, participant, name))
        for name in ("tmax", *file_names.EDITED_MASKS)
    )


def warp_file(cohort: str | os.PathLike, participant: str, way: str) -> Path:
    """Path of a deformable fit's displacement field.

    Args:
        cohort: folder of the MNI cohort.
        participant: ``sub-0001``.
        way: ``back`` or ``forth``, as in :class:`data_tools.transform.Transform`.
    """
    name = f"{participant}_from-native_to-{SPACE}_desc-{way}_warp.nii.gz"
    return Path(cohort) / participant / name


def label_settings_file(cohort: str | os.PathLike) -> Path:
    """Path of an MNI cohort's choices about its labels; see ``mni_patient.within_side_only``."""
    return Path(cohort) / "labels.json"


def transform_file(cohort: str | os.PathLike, participant: str) -> Path:
    """Path of a patient's 4 x 4 matrix, native mm -> MNI mm, in an MNI cohort."""
    name = f"{participant}_from-native_to-{SPACE}_mode-points_xfm.txt"
    return Path(cohort) / participant / name
