"""Many patients -> one ``index.html``: a sortable table with thumbnails that lead to each."""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data_tools.runtime import atomic
from tf_hypoperfusion.config import RESEARCH_NOTICE
from tf_hypoperfusion.inference.page.page import environment

EMPTY = -1e9  # sorts before every figure


@dataclasses.dataclass(frozen=True, kw_only=True)
class Entry:
    """A patient's line.

    Attributes:
        values: by column; a float is shown with a digit after the point, None as n/a.
        link: to the patient's page, relative to the index; None without a result.
        picture: likewise.
        alt: what the picture shows.
        warnings: for people.
    """

    values: dict[str, Any]
    link: str | None = None
    picture: str | None = None
    alt: str = ""
    warnings: Sequence[str] = ()


def write_index(
    path: str | Path, entries: Sequence[Entry], *, title: str, lead: str, simulated: bool
) -> None:
    """Write the page.

    Args:
        path: of ``index.html``.
        entries: in the order shown at first; a column it lacks is n/a.
        title: of the page.
        lead: the sentence above the table.
        simulated: patients or model; said loudly.
    """
    columns = list(dict.fromkeys(name for entry in entries for name in entry.values))
    rows = [
        {
            "link": entry.link,
            "picture": entry.picture,
            "alt": entry.alt,
            "warnings": list(entry.warnings),
            "cells": [_cell(entry.values.get(column)) for column in columns],
        }
        for entry in entries
    ]
    page = (
        environment()
        .get_template("index.html")
        .render(
            title=title,
            lead=lead,
            notice=RESEARCH_NOTICE,
            simulated=simulated,
            columns=columns,
            rows=rows,
        )
    )
    atomic.write_text(path, page)


def write_evaluated(path: str | Path, row: dict[str, Any]) -> None:
    """Write the page of one evaluated patient: figures and the picture beside it.

    Args:
        path: in ``evaluation/pages``; the picture is in ``pictures``.
        row: of ``patients.csv``.
    """
    page = environment().get_template("evaluated.html").render(row=row, notice=RESEARCH_NOTICE)
    atomic.write_text(path, page)


def _cell(value: Any) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"text": "yes" if value else "no", "sort": int(value), "number": False}
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return {"text": "n/a", "sort": EMPTY, "number": True}
    if isinstance(value, int | float):
        digits = 0 if isinstance(value, int) else 2 if abs(value) < 1.5 else 1
        return {"text": f"{value:.{digits}f}", "sort": value, "number": True}
    return {"text": str(value), "sort": str(value), "number": False}
