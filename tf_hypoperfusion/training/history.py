"""``history.csv`` of a fold: a row of figures for each epoch, and which was the best."""

import csv
import math
from pathlib import Path
from typing import Any

from data_tools.runtime import atomic
from data_tools.runtime.errors import InputError

# The best model is the one of the lowest validation loss (paper, Model Structure).
MONITOR = "val_composite"


def read(folder: Path) -> list[dict[str, Any]]:
    """Rows of ``history.csv``, one an epoch; numbers as numbers."""
    path = folder / "history.csv"
    if not path.is_file():
        return []
    try:
        with path.open(newline="") as stream:
            rows = list(csv.DictReader(stream))
        known = [{k: int(v) if k == "epoch" else float(v) for k, v in r.items()} for r in rows]
        if [row["epoch"] for row in known] != list(range(1, len(known) + 1)):
            raise ValueError("its epochs are not 1, 2, 3...")
        for row in known:
            row[MONITOR]
        return known
    except (OSError, TypeError, ValueError, KeyError, csv.Error) as error:
        raise InputError(
            f"{path}: not readable ({error}); bring it back from a copy, or train the fold anew "
            "with --overwrite"
        ) from error


def write(folder: Path, history: list[dict[str, Any]]) -> None:
    """Write ``history.csv`` atomically."""
    columns = list(history[-1])  # a column that somebody added by hand is not carried on
    rows = [{name: row.get(name) for name in columns} for row in history]
    atomic.write_csv(folder / "history.csv", rows)


def best_row(history: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The epoch of the lowest validation loss, the first if several; None without epochs."""
    return min(history, key=lambda row: row[MONITOR]) if history else None


def epochs_without_gain(history: list[dict[str, Any]]) -> int:
    """Epochs since the best one; infinite values never are the best."""
    best = best_row(history)
    if best is None or not math.isfinite(best[MONITOR]):
        return len(history)
    return len(history) - int(best["epoch"])


def finished(history: list[dict[str, Any]], epochs: int, patience: int) -> bool:
    """Whether so many epochs are done, or ``patience`` of them brought nothing (0: no patience)."""
    if len(history) >= epochs:
        return True
    return bool(patience) and epochs_without_gain(history) >= patience
