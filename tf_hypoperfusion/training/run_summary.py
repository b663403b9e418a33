"""The folds of a run in one file: ``summary.json``, whichever machine trained them."""

import dataclasses
import math
import re
import statistics
from pathlib import Path
from typing import Any

from data_tools.runtime import atomic
from data_tools.runtime.errors import InputError
from tf_hypoperfusion.training import history, roles

FIGURES = ("val_composite", "val_dice", "val_volume_error_ml")


@dataclasses.dataclass(frozen=True, kw_only=True)
class FoldSummary:
    """A fold that has an epoch. A run of an older version lacks some, which are None.

    Attributes:
        fold: its number, from 0; None for the final network, which has no validation figures.
        epochs: that are done.
        finished: whether they are all, or patience has ended.
        best_epoch: that of the lowest validation loss, from 1; the final network's last.
        val_composite: validation loss of the best epoch.
        val_dice: of the best epoch.
        val_volume_error_ml: of the best epoch.
        seconds: of training in all epochs.
        parameters: of the network.
        cohort: that it was trained on.
        devices: that computed, by TensorFlow's names.
    """

    fold: int | None
    epochs: int
    finished: bool
    best_epoch: int
    val_composite: float | None
    val_dice: float | None
    val_volume_error_ml: float | None
    seconds: float
    parameters: int | None
    cohort: str | None
    devices: list[str] | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunSummary:
    """What ``summary.json`` holds.

    Attributes:
        run: its name.
        finished: numbers of the folds that are.
        median: of the best epochs' figures over folds; None where no fold has one.
        folds: those that have an epoch.
        final: the network of all subsets; None if there is none.
    """

    run: str
    finished: list[int]
    median: dict[str, float | None]
    folds: list[FoldSummary]
    final: FoldSummary | None = None

    def to_json(self) -> dict[str, Any]:
        """What is written."""
        return dataclasses.asdict(self)


def fold_numbers(run: str | Path) -> list[int]:
    """Numbers of the folds that have a folder in a run."""
    found = (re.fullmatch(r"fold-(0|[1-9][0-9]*)", path.name) for path in Path(run).glob("fold-*"))
    return sorted(int(match[1]) for match in found if match)


def summarise(run: str | Path) -> RunSummary:
    """What stands in the folds' histories and settings."""
    every = (_summarise_fold(run, fold) for fold in fold_numbers(run))
    folds = [fold for fold in every if fold]
    return RunSummary(
        run=Path(run).name,
        finished=[fold.fold for fold in folds if fold.finished and fold.fold is not None],
        median={name: _median([getattr(fold, name) for fold in folds]) for name in FIGURES},
        folds=folds,
        final=_summarise_fold(run, None),
    )


def best_epochs(run: str | Path) -> list[int]:
    """The best epoch of each finished fold."""
    return [fold.best_epoch for fold in summarise(run).folds if fold.finished]


def _summarise_fold(run: str | Path, fold: int | None) -> FoldSummary | None:
    folder = roles.folder(run, fold)
    config = atomic.read_json(folder / "config.json")
    try:
        rows = history.read(folder)
    except InputError:  # a damaged fold is no reason to lose the others
        return None
    best = history.best_row(rows)
    if best is None or not config:
        return None
    # A run of an older version, or a config.json cut by hand, may lack any of these.
    training, cohort = config.get("training") or {}, config.get("records") or {}
    epochs, patience = training.get("epochs", 0), training.get("patience", 0)
    return FoldSummary(
        fold=fold,
        epochs=len(rows),
        finished=history.finished(rows, epochs, patience),
        best_epoch=int(best["epoch"]),
        **{name: _known(best.get(name)) for name in FIGURES},
        seconds=round(sum(row.get("seconds", 0.0) for row in rows), 1),
        parameters=config.get("parameters"),
        cohort=cohort.get("cohort"),
        devices=config.get("devices"),
    )


def _known(figure: float | None) -> float | None:
    """None for the Dice of nothing with nothing, too: JSON has no NaN."""
    return None if figure is None or math.isnan(figure) else figure


def _median(figures: list[float | None]) -> float | None:
    known = [figure for figure in figures if figure is not None]
    return statistics.median(known) if known else None


def write(run: str | Path) -> None:
    """Write ``summary.json`` of a run."""
    atomic.write_json(Path(run) / "summary.json", summarise(run).to_json())
