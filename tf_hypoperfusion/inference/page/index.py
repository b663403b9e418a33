"""Many patients -> one ``index.html``: a summary, and a table with pictures that lead to each."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from data_tools.runtime import atomic
from tf_hypoperfusion.config import RESEARCH_NOTICE
from tf_hypoperfusion.inference import wording
from tf_hypoperfusion.inference.page.page import environment

EMPTY = -1e9  # sorts before every figure


@dataclasses.dataclass(frozen=True)
class Shown:
    """A cell whose text is not what it is sorted by."""

    text: str
    sort: float


@dataclasses.dataclass(frozen=True)
class Summary:
    """One large figure above the table: what it is, the figure, and words below it."""

    name: str
    value: str
    note: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Entry:
    """A patient's line.

    Attributes:
        values: by column; an int or text as it is, a float with two decimals, None as n/a.
        link: to the patient's page, relative to the index; None without a result.
        picture: likewise.
        alt: what the picture shows.
        warnings: for people.
        wrong: how the answer differs from what was measured; empty where it does not.
    """

    values: dict[str, Any]
    link: str | None = None
    picture: str | None = None
    alt: str = ""
    warnings: Sequence[str] = ()
    wrong: str = ""


def ml(value: float | None) -> Shown | None:
    """The cell of a volume, without its unit, which the column's name has."""
    return None if value is None else Shown(wording.rounded(value), value)


def write_index(
    path: str | Path,
    entries: Sequence[Entry],
    *,
    title: str,
    lead: str,
    simulated: bool,
    summary: Sequence[Summary] = (),
    explained: Mapping[str, str] | None = None,
    colours: Sequence[tuple[str, str]] = (),
) -> None:
    """Write the page.

    The line of a patient with a wrong answer or with warnings is tinted. A warning that every
    patient with a result has stands above the table instead, and tints no line. A column in which
    nobody has a value is left out.

    Args:
        path: of ``index.html``.
        entries: in the order shown at first.
        title: of the page.
        lead: the sentence above the table.
        simulated: patients or model; said loudly.
        summary: large figures above the table.
        explained: what the columns mean, by their names.
        colours: of the pictures, each with what it shows.
    """
    names = dict.fromkeys(name for entry in entries for name in entry.values)
    columns = [
        name for name in names if any(entry.values.get(name) is not None for entry in entries)
    ]
    shared = _of_all(entries)
    rows = []
    for entry in entries:
        own = [words for words in (entry.wrong, *entry.warnings) if words and words not in shared]
        rows.append(
            {
                "link": entry.link,
                "picture": entry.picture,
                "alt": entry.alt,
                "said": [wording.typeset(words) for words in own],
                "tinted": bool(own),
                "cells": [(column, _cell(entry.values.get(column))) for column in columns],
            }
        )
    page = (
        environment()
        .get_template("index.html")
        .render(
            title=title,
            lead=lead,
            notice=RESEARCH_NOTICE,
            simulated=simulated,
            summary=summary,
            shared=[wording.typeset(words) for words in shared],
            columns=columns,
            rows=rows,
            explained=explained or {},
            colours=colours,
        )
    )
    atomic.write_text(path, page)


def _of_all(entries: Sequence[Entry]) -> list[str]:
    """Warnings that every patient with a result has, where there are several."""
    with_result = [entry for entry in entries if entry.link is not None]
    if len(with_result) < 2:
        return []
    first, *others = with_result
    return [words for words in first.warnings if all(words in each.warnings for each in others)]


def write_evaluated(
    path: str | Path,
    row: Mapping[str, Any],
    groups: Sequence[tuple[str, Sequence[tuple[str, str]]]],
    wrong: str,
) -> None:
    """Write the page of one evaluated patient: figures and the picture beside it.

    Args:
        path: in ``evaluation/pages``; the picture is in ``pictures``.
        row: of ``patients.csv``.
        groups: headings, each with names and values of its table.
        wrong: how the decision differs from the measured one; empty where it does not.
    """
    page = (
        environment()
        .get_template("evaluated.html")
        .render(row=row, groups=groups, wrong=wrong, notice=RESEARCH_NOTICE)
    )
    atomic.write_text(path, page)


def _cell(value: Any) -> dict[str, Any]:
    if isinstance(value, Shown):
        return {"text": value.text, "sort": value.sort, "number": True}
    if isinstance(value, bool):
        return {"text": "yes" if value else "no", "sort": int(value), "number": False}
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return {"text": "n/a", "sort": EMPTY, "number": True}
    if isinstance(value, int | float):
        text = f"{value:d}" if isinstance(value, int) else f"{value:.2f}"
        return {"text": text, "sort": value, "number": True}
    return {"text": str(value), "sort": str(value), "number": False}
