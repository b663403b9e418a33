"""``history.csv`` of a fold: a row of figures for each epoch, and which was the best."""

import csv
import math
from pathlib import Path
from typing import TypeAlias

from data_tools.runtime import atomic
from tf_hypoperfusion.training import fold_errors

# The best model is the one of the lowest validation loss (paper, Model Structure).
MONITOR = "val_composite"
# A line of the table: ``epoch``, from 1, MONITOR where there is validation, and what else the
# version that wrote it had.
Row: TypeAlias = dict[str, float]


def read(folder: Path) -> list[Row]:
    """Rows of ``history.csv``, one an epoch; none where there is no such file.

    Raises:
        InputError: the file is damaged.
    """
    path = folder / "history.csv"
    if not path.is_file():
        return []
    try:
        with path.open(newline="") as stream:
            lines = list(csv.DictReader(stream))
        rows: list[Row] = [
            {name: int(text) if name == "epoch" else float(text) for name, text in line.items()}
            for line in lines
        ]
        if [row["epoch"] for row in rows] != list(range(1, len(rows) + 1)):
            raise ValueError("its epochs are not 1, 2, 3...")
        if any((MONITOR in row) != (MONITOR in rows[0]) for row in rows):
            raise KeyError(MONITOR)
        return rows
    except (OSError, TypeError, ValueError, KeyError, csv.Error) as error:
        raise fold_errors.damaged_fold(f"{path}: not readable ({error})") from error


def write(folder: Path, history: list[Row]) -> None:
    """Write ``history.csv`` atomically."""
    columns = list(history[-1])  # a column that somebody added by hand is not carried on
    rows = [{name: row.get(name) for name in columns} for row in history]
    atomic.write_csv(folder / "history.csv", rows)


def best_row(history: list[Row]) -> Row | None:
    """The epoch of the lowest validation loss, the first if several; without validation the last.

    Returns:
        None without epochs.
    """
    if history and MONITOR not in history[-1]:
        return history[-1]
    return min(history, key=lambda row: row[MONITOR]) if history else None


def epochs_without_gain(history: list[Row]) -> int:
    """Epochs since the best one; infinite values never are the best."""
    best = best_row(history)
    if best is None or not math.isfinite(best.get(MONITOR, 0.0)):
        return len(history)
    return len(history) - int(best["epoch"])


def finished(history: list[Row], epochs: int, patience: int) -> bool:
    """Whether so many epochs are done, or ``patience`` of them brought nothing (0: no patience)."""
    if len(history) >= epochs:
        return True
    return bool(patience) and epochs_without_gain(history) >= patience
