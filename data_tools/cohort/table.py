"""participants.tsv: read, checked and written.

A row is a patient (``sub-01``) or a visit of one (``sub-01_ses-1``). ``group`` is any word, the
same in rows that belong together (one patient under two names, a family); ``site`` is where the
images were made. Both are optional, and text. ``lacks`` is ``ADC`` where there is no map and none
can be made; ``derived`` names what was computed because nobody measured it, such as ``DWI, side``.
"""

import os
import re
import sys
import unicodedata
from collections.abc import Callable, Hashable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from data_tools import flow, text_table
from data_tools.cohort.faults import CohortError, Fault
from data_tools.cohort.layout import PARTICIPANTS
from data_tools.criteria import DAWN
from data_tools.grid import NIHSS_MAX, SIDES, UNKNOWN_SIDE
from data_tools.groups import VISIT, patient_of
from data_tools.runtime import atomic
from data_tools.runtime.errors import InputError

if TYPE_CHECKING:
    import pandas as pd
    import pandera.pandas as pa

# A line of a table about patients, as plain JSON types; its columns differ from table to table.
Row = dict[str, Any]
MISSING = "n/a"
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
    "lacks",
    "derived",
)
LABELS = ("site", "group")
# Written only where a row has one, so that tables without them stay as they are.
OPTIONAL = (*LABELS, "mrs_90d", "exclude", "lacks", "derived")
REQUIRED_COLUMNS = ("participant_id", "nihss", "side")
# Of these few patients have anything.
_MAY_BE_EMPTY = ("mrs_90d", "exclude", "lacks", "derived")
# What a patient may lack, as a person says it: such a patient is no mistake.
MAY_LACK = ("ADC",)
NUMBERS = ("age", "nihss", "field_strength_t", "mrs_90d")
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
            "lacks": column(
                lambda v: v in MAY_LACK,
                f"expected ADC where there is no map and none can be made, or {MISSING}",
            ),
            "derived": column(
                _says_something,
                f"expected what was computed in place of being measured, or {MISSING}",
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
