"""One way of printing a table, and of writing all that was printed into one CSV."""

import os
import platform
from collections.abc import Sequence
from importlib import metadata
from statistics import median
from typing import Any

from data_tools.runtime import atomic
from data_tools.runtime.errors import InputError


class Tables:
    """Prints tables as they are made; the CSV grows with each, so that a killed run leaves some.

    Args:
        out: CSV, or None.
        packages: whose versions matter.
        note: what else does (a preset...).
    """

    def __init__(self, out: str | None, packages: Sequence[str], note: str = ""):
        self.out, self.rows = out, []  # type: str | None, list[dict[str, Any]]
        self.made_with = {
            "threads": len(os.sched_getaffinity(0)),
            "processor": processor(),
            "made_with": versions(packages) + (f"; {note}" if note else ""),
        }
        print(
            f"{self.made_with['threads']} threads of {self.made_with['processor']}; "
            f"{self.made_with['made_with']}",
            flush=True,
        )

    def show(self, title: str, rows: Sequence[dict[str, Any]]) -> None:
        """Print rows (their columns may differ) under a title, and write what there is so far."""
        columns = list(dict.fromkeys(name for row in rows for name in row))
        cells = [columns, *([str(row.get(name, "")) for name in columns] for row in rows)]
        widths = [max(len(row[k]) for row in cells) for k in range(len(columns))]
        print(f"\n{title}")
        for row in cells:
            line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            print(line.rstrip(), flush=True)
        self.rows += [{"table": title, **row} for row in rows]
        if self.out:
            names = list(dict.fromkeys(name for row in self.rows for name in row))
            filled = [{name: row.get(name, "") for name in names} for row in self.rows]
            atomic.write_csv(self.out, [row | self.made_with for row in filled])


def read(path: str, columns: Sequence[str]) -> Any:
    """A CSV as a DataFrame.

    Raises:
        InputError: no such file, no table, or a column is missing.
    """
    import pandas as pd

    try:
        table = pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not a readable CSV ({error})") from error
    if absent := [name for name in columns if name not in table]:
        raise InputError(
            f"{path} has no column {', '.join(absent)}; expected a table with {', '.join(columns)}"
        )
    return table


def timing(seconds: Sequence[float], digits: int = 3) -> dict[str, float]:
    """``seconds``, the median, and ``spread``, from the fastest to the slowest."""
    spread = max(seconds) - min(seconds)
    return {"seconds": round(median(seconds), digits), "spread": round(spread, digits)}


def versions(packages: Sequence[str]) -> str:
    """Python's version and those of packages that are installed."""
    found = [f"Python {platform.python_version()}"]
    for name in packages:
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            found.append(f"no {name}")
    return ", ".join(found)


def processor() -> str:
    """The processor's name, as far as the system tells."""
    try:
        with open("/proc/cpuinfo") as lines:
            return next(x.split(":")[1].strip() for x in lines if x.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
