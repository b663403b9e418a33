"""The studies of a node as a table for a terminal."""

import textwrap
import time
from collections.abc import Sequence

from tf_hypoperfusion.hospital.study import WorklistRow

HEAD = ("study", "came", "images", "state", "mismatch", "remarks")
# Of a reason; the page has all of it.
MOST_LETTERS = 100


def table(rows: Sequence[WorklistRow]) -> str:
    """A line for each study.

    Args:
        rows: of :meth:`Spool.worklist`; without any, that is said.
    """
    if not rows:
        return "no studies"
    cells = [HEAD, *map(_cells, rows)]
    widths = [max(len(line[k]) for line in cells) for k in range(len(HEAD) - 1)]
    return "\n".join(
        "  ".join(
            [*(cell.ljust(width) for cell, width in zip(line[:-1], widths, strict=True)), line[-1]]
        ).rstrip()
        for line in cells
    )


def _cells(row: WorklistRow) -> tuple[str, ...]:
    remarks = [
        *([f"{len(row.warnings)} warnings"] if row.warnings else []),
        *(f"not delivered to {name}: {_short(why)}" for name, why in row.undelivered.items()),
        *([_short(row.reason)] if row.reason else []),
    ]
    came = time.strftime("%Y-%m-%d %H:%M", time.localtime(row.first_s))
    return (
        row.study, came, str(row.images), row.state, row.verdict or "-",
        "; ".join(remarks),
    )  # fmt: skip


def _short(text: str) -> str:
    return textwrap.shorten(text, MOST_LETTERS, placeholder=" ...")
