"""What an earlier start left of a fold, read back and checked before anything goes on from it."""

import dataclasses
import zipfile
import zlib
from pathlib import Path
from typing import Any

from data_tools.runtime import atomic
from data_tools.runtime.errors import InputError
from tf_hypoperfusion.config import PRECISIONS
from tf_hypoperfusion.training import checkpoint, history
from tf_hypoperfusion.training.checkpoint import Progress

# Settings that "auto" fills in on the machine of the first start; a resumed run keeps them.
RESOLVED = ("precision", "micro_batch")


@dataclasses.dataclass(frozen=True)
class BegunFold:
    """A fold as found on disk; everything empty if it was never begun.

    Attributes:
        resolved: what the first start chose for the settings in ``RESOLVED``.
        sessions: one entry for each start before.
        progress: where it stands.
        history: a row for each epoch that is done, and no more.
    """

    resolved: dict[str, Any] = dataclasses.field(default_factory=dict)
    sessions: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    progress: Progress = dataclasses.field(default_factory=Progress)
    history: list[dict[str, Any]] = dataclasses.field(default_factory=list)


def read(folder: Path, settings: dict[str, Any]) -> BegunFold:
    """Read a fold's folder back.

    Args:
        folder: of the fold, which may not exist.
        settings: of this start (``run``, ``fold``, ``model``, ``training``, ``records``,
            ``subsets``).

    Raises:
        InputError: it was begun with other settings, or its files do not belong together.
    """
    saved = _read_settings(folder, settings)
    state_file = folder / "state.npz"
    progress = checkpoint.load_progress(state_file)
    rows = history.read(folder)
    best_there = checkpoint.best_file(folder).is_file()
    if best_there and not _whole_zip(checkpoint.best_file(folder)):
        raise InputError(
            f"{checkpoint.best_file(folder)} is damaged; bring it back from a copy, or train the "
            "fold anew with --overwrite"
        )
    training = settings["training"]
    finished = best_there and history.finished(rows, training["epochs"], training["patience"])
    # One epoch may have been written before a kill, and its state not yet.
    if len(rows) > 1 and not state_file.is_file() and not finished:
        raise InputError(
            f"{folder} has a history of {len(rows)} epochs but no state.npz to go on from; "
            "bring it back, or train anew with --overwrite"
        )
    if len(rows) < progress.epochs or (progress.epochs and not best_there):
        raise InputError(
            f"{folder} has the state of {progress.epochs} epochs but not its history.csv or "
            "best.keras; bring them back, or train anew with --overwrite"
        )
    if not finished:
        rows = rows[: progress.epochs]
    return BegunFold(saved.get("resolved", {}), saved.get("sessions", []), progress, rows)


def _whole_zip(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error):
        return False


def _read_settings(folder: Path, settings: dict[str, Any]) -> dict[str, Any]:
    path = folder / "config.json"
    if not path.is_file():
        kept = [name for name in ("state.npz", "history.csv") if (folder / name).is_file()]
        if kept:
            raise InputError(
                f"{folder} has {' and '.join(kept)} but no config.json, so nobody knows with which "
                "settings it was begun; bring it back, or train anew with --overwrite"
            )
        return {}
    saved = atomic.read_json(path)
    resolved = saved.get("resolved") or {}
    if not (_is_resolved(resolved) and isinstance(saved.get("sessions"), list)):
        raise InputError(
            f"{path}: not readable or not whole; bring it back from a copy, or train the fold anew "
            "with --overwrite"
        )
    flat_saved, flat = _flatten(saved), _flatten(settings)
    # What was left to the machine may also be given as the machine chose it.
    same = {"run"} | {
        f"training.{name}" for name in RESOLVED if settings["training"][name] == resolved[name]
    }
    different = [
        f"{name} was {flat_saved.get(name)}, now {value}"
        for name, value in flat.items()
        if name not in same and flat_saved.get(name) != value
    ]
    if different:
        longer = any(line.startswith("training.epochs") for line in different)
        raise InputError(
            f"{folder} was begun with other settings: {'; '.join(different)}. "
            + ("(The learning rate's decay depends on the number of epochs.) " if longer else "")
            + "Give another --run, the same settings, or --overwrite to train it anew."
        )
    return saved


def _is_resolved(resolved: Any) -> bool:
    if not isinstance(resolved, dict) or set(resolved) != set(RESOLVED):
        return False
    micro_batch = resolved["micro_batch"]
    return resolved["precision"] in PRECISIONS and type(micro_batch) is int and micro_batch > 0


def _flatten(value: Any, name: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        return {name: value}
    return {
        key: leaf
        for k, v in value.items()
        for key, leaf in _flatten(v, f"{name}.{k}" if name else k).items()
    }
