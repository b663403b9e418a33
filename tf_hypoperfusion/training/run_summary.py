"""The folds of a run in one file: ``summary.json``, whichever machine trained them."""

import statistics
from pathlib import Path
from typing import Any

from data_tools.runtime import atomic
from data_tools.runtime.errors import InputError
from data_tools.splits import SUBSETS
from tf_hypoperfusion.training import history

FIGURES = ("val_composite", "val_dice", "val_volume_error_ml")


def summarise(run: str | Path) -> dict[str, Any]:
    """What stands in the folds' histories and settings.

    Returns:
        ``folds``: one row per fold that has an epoch, with its best epoch's figures, seconds and
        settings that matter for comparison; ``median`` of the best epochs' figures over folds;
        ``finished``: numbers of the folds whose last epoch (or patience) is done.
    """
    rows = []
    for fold in range(SUBSETS):
        folder = Path(run) / f"fold-{fold}"
        config = atomic.read_json(folder / "config.json")
        try:
            rows = history.read(folder)
        except InputError:  # a damaged fold is no reason to lose the others
            continue
        best = history.best_row(rows)
        if best is None or not config:
            continue
        # A run of an older version, or a config.json cut by hand, may lack any of these.
        training, cohort = config.get("training") or {}, config.get("records") or {}
        epochs, patience = training.get("epochs", 0), training.get("patience", 0)
        rows.append(
            {
                "fold": fold,
                "epochs": len(rows),
                "finished": history.finished(rows, epochs, patience),
                "best_epoch": best["epoch"],
                **{name: best.get(name) for name in FIGURES},
                "seconds": round(sum(row.get("seconds", 0.0) for row in rows), 1),
                "parameters": config.get("parameters"),
                "cohort": cohort.get("cohort"),
                "devices": config.get("devices"),
            }
        )
    return {
        "run": Path(run).name,
        "finished": [row["fold"] for row in rows if row["finished"]],
        "median": {
            name: statistics.median(known) if (known := _known(rows, name)) else None
            for name in FIGURES
        },
        "folds": rows,
    }


def _known(rows: list[dict[str, Any]], name: str) -> list[float]:
    return [row[name] for row in rows if row[name] is not None]


def write(run: str | Path) -> None:
    """Write ``summary.json`` of a run."""
    atomic.write_json(Path(run) / "summary.json", summarise(run))
