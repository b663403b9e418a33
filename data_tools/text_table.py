"""A tab-separated table as people and their programs save it -> text cells; nothing is guessed.

Reads UTF-8 with or without a byte order mark, UTF-16 with one, lines ending in any of three ways,
and cells in quotes. A line is a row: a quote that is never closed swallows no patient below.
"""

import codecs
import dataclasses
import difflib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from data_tools.runtime.errors import InputError, counted


@dataclasses.dataclass(frozen=True)
class Line:
    """One row of a table.

    Attributes:
        number: of the line in the file; that of the first line is 1.
        cells: text by column, without blanks around it.
        fault: why the cells cannot be told apart; then ``cells`` has the first column only.
    """

    number: int
    cells: dict[str, str]
    fault: str | None = None


@dataclasses.dataclass(frozen=True)
class TextTable:
    """What :func:`read` found.

    Attributes:
        lines: every row that is not blank.
        notes: what was read although it is written in another way than expected.
    """

    lines: tuple[Line, ...]
    notes: tuple[str, ...]


def read(path: Path, columns: Sequence[str], required: Sequence[str]) -> TextTable:
    """Read the columns that are wanted; their names are matched without case and blanks around.

    Args:
        path: of the table.
        columns: names of those that are read; others may be there.
        required: names of those that must be there.

    Raises:
        InputError: no file, no text, a column that is missing or stands there twice, no row.
    """
    content = re.split("\r\n|\r|\n", _text(path, columns))
    numbered = [(k, line) for k, line in enumerate(content, start=1) if line.strip(" \t")]
    if not numbered:
        raise InputError(f"{path}: is empty; expected a tab-separated table with {_all(columns)}")
    head, notes = _header(path, numbered[0][1], columns, required)
    lines = tuple(_lines(numbered[1:], head))
    if not lines:
        raise InputError(f"{path}: holds no patient, only the names of the columns")
    return TextTable(lines, notes)


def _text(path: Path, columns: Sequence[str]) -> str:
    if path.is_dir():
        raise InputError(f"{path}: is a folder; expected a tab-separated table")
    if not path.is_file():
        like = sorted(x.name for x in path.parent.glob("*") if x.stem.lower() == path.stem)
        found = f" (found {', '.join(like)})" if like else ""
        raise InputError(
            f"{path}: no such file{found}; expected a tab-separated table with {_all(columns)} "
            "(n/a = missing)"
        )
    return text_of(path)


def text_of(path: Path) -> str:
    """The text of a table's file.

    Raises:
        InputError: not readable, or neither UTF-8 text nor UTF-16 with a byte order mark.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return _decoded(path, content, "utf-16")
    if b"\0" in content:
        raise InputError(f"{path}: is not UTF-8 text (it holds bytes of 0); save it as UTF-8")
    return _decoded(path, content, "utf-8-sig")


def _decoded(path: Path, content: bytes, encoding: str) -> str:
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        line = len(re.split(b"\r\n|\r|\n", content[: error.start]))
        raise InputError(
            f"{path}: line {line} is not {encoding.upper()[:6].strip('-')} text"
            " (an umlaut or accent saved in an older way?); save the table as UTF-8"
        ) from error


def _header(
    path: Path, line: str, columns: Sequence[str], required: Sequence[str]
) -> tuple[list[str], tuple[str, ...]]:
    """The column that each cell of a row belongs to, "" for those not read; and what to say."""
    written = [_unquoted(cell) for cell in line.split("\t")]
    plain = [name.strip().casefold() for name in written]
    head = [name if name in columns else "" for name in plain]
    for name in columns:
        found = [f"'{written[k]}' (column {k + 1})" for k, each in enumerate(head) if each == name]
        if len(found) > 1:
            raise InputError(
                f"{path}: has {len(found)} columns of the name {name}: {' and '.join(found)}; "
                "expected one. Remove or rename the others."
            )
    absent = [name for name in required if name not in head]
    if absent:
        shown = ", ".join(repr(name)[1:-1] for name in written if name)
        raise InputError(
            f"{path}: no column {', '.join(absent)}; the first line holds {shown}. {_why(line)}"
        )
    others = [f"'{found}' as {name}" for found, name in zip(written, head, strict=True)
              if name and found != name]  # fmt: skip
    notes = [f"{path.name}: the columns {', '.join(others)} were read"] if others else []
    unread = [
        f"'{found}'{_meant(name, columns)}"
        for found, name in zip(written, plain, strict=True)
        if name and name not in columns
    ]
    if unread:
        notes.append(f"{path.name}: columns that are not read: {', '.join(unread)}")
    return head, tuple(notes)


def _meant(name: str, columns: Sequence[str]) -> str:
    """Which column a name is probably to be: ``excluded``, or ``mrs`` for ``mrs_90d``."""
    like = difflib.get_close_matches(name, columns, 1, 0.7)
    like = like or [column for column in columns if column.startswith(f"{name}_")]
    return f" (did you mean {like[0]}?)" if like else ""


def _why(line: str) -> str:
    if line.lstrip().startswith("#"):
        return "Expected the names of the columns there; remove the comment above them."
    if "\t" not in line:
        found = next((mark for mark in ";,|" if mark in line), None)
        mark = f"'{found}'" if found else "blanks"
        return f"Are the columns separated by {mark}? Expected tabs; save it as tab-separated text."
    return "Are the columns named so, and separated by tabs?"


def _lines(numbered: Sequence[tuple[int, str]], head: Sequence[str]) -> Iterator[Line]:
    for number, line in numbered:
        cells = [_unquoted(cell.strip()) for cell in line.split("\t")]
        if not any(cells):
            continue
        while len(cells) > len(head) and not cells[-1]:  # a tab at the end of the line
            cells.pop()
        if len(cells) == len(head):
            yield Line(number, {name: cell for name, cell in zip(head, cells, strict=True) if name})
            continue
        more = "; write n/a for what is missing" if len(cells) < len(head) else ""
        fault = (
            f"has {counted(len(cells), 'cell')} and the first line has {len(head)}; expected as "
            f"many{more}"
        )
        first = {head[0]: cells[0]} if head[0] else {}
        yield Line(number, first, fault)


def _unquoted(cell: str) -> str:
    """A cell that a spreadsheet has put in quotes, without them; another one as it is."""
    if len(cell) > 1 and cell.startswith('"') and cell.endswith('"'):
        return cell[1:-1].replace('""', '"').strip()
    return cell


def _all(columns: Sequence[str]) -> str:
    return f"the columns {', '.join(columns)}"
