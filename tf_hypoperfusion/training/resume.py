"""What an earlier start left of a fold, read back and checked before anything goes on from it."""

import dataclasses
import zipfile
import zlib
from pathlib import Path
from typing import Any

from data_tools.runtime import atomic
from data_tools.runtime.errors import InputError
from tf_hypoperfusion import provenance
from tf_hypoperfusion.config import PRECISIONS, model_settings, training_settings
from tf_hypoperfusion.training import checkpoint, history
from tf_hypoperfusion.training.checkpoint import Progress
from tf_hypoperfusion.training.fold_errors import damaged_fold
from tf_hypoperfusion.training.settings import RESOLVED, FoldSettings, Resolved


@dataclasses.dataclass(frozen=True)
class FoldOnDisk:
    """A fold as found on disk; everything empty if it was never begun.

    Attributes:
        resolved: what the first start's machine chose; None if there was none.
        sessions: one entry for each start before, as it stands in ``config.json``.
        progress: where it stands.
        rows: of the history, one for each epoch that is done, and no more.
    """

    resolved: Resolved | None = None
    sessions: list[Any] = dataclasses.field(default_factory=list)
    progress: Progress = dataclasses.field(default_factory=Progress)
    rows: list[history.Row] = dataclasses.field(default_factory=list)


def read(folder: Path, settings: FoldSettings) -> FoldOnDisk:
    """Read a fold's folder back.

    Args:
        folder: of the fold, which may not exist.
        settings: of this start.

    Raises:
        InputError: it was begun with other settings, or its files do not belong together.
    """
    resolved, sessions = _read_config(folder, settings)
    state = checkpoint.state_file(folder)
    progress, rows = checkpoint.load_progress(state), history.read(folder)
    best = checkpoint.best_file(folder)
    if best.is_file() and not _whole_zip(best):
        raise damaged_fold(f"{best} is damaged")
    epochs, patience = settings.training.epochs, settings.training.patience
    finished = best.is_file() and history.finished(rows, epochs, patience)
    if state.is_file() and not finished:
        _check_line(folder, sessions)
    # One epoch may have been written before a kill, and its state not yet.
    if len(rows) > 1 and not state.is_file() and not finished:
        raise damaged_fold(
            f"{folder} has a history of {len(rows)} epochs but no state.npz to go on from"
        )
    if len(rows) < progress.epochs or (progress.epochs and not best.is_file()):
        raise damaged_fold(
            f"{folder} has the state of {progress.epochs} epochs but not its history.csv or "
            "best.keras"
        )
    return FoldOnDisk(resolved, sessions, progress, rows if finished else rows[: progress.epochs])


def _check_line(folder: Path, sessions: list[Any]) -> None:
    """Refuse to go on in the other line of TensorFlow, whose variables are others.

    Raises:
        InputError: it was begun there.
    """
    last = sessions[-1] if sessions and isinstance(sessions[-1], dict) else {}
    then, now = last.get("software"), provenance.software()
    then = then if isinstance(then, dict) else {}
    keras = then.get("keras")
    if not isinstance(keras, str) or keras.split(".")[0] == str(now["keras"]).split(".")[0]:
        return
    raise InputError(
        f"{folder} was begun with TensorFlow {then.get('tensorflow')} and Keras {keras}, and this "
        f"is TensorFlow {now['tensorflow']} with Keras {now['keras']}; expected the same line, "
        "Keras 2 or Keras 3, because their networks and optimizers keep other variables. Go on in "
        "the environment that it was begun in, or train it anew here: another --run, or "
        "--overwrite."
    )


def _whole_zip(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error):
        return False


def _read_config(folder: Path, settings: FoldSettings) -> tuple[Resolved | None, list[Any]]:
    """What the machine chose and the starts before, if the settings are the same."""
    path = folder / "config.json"
    if not path.is_file():
        kept = [name for name in ("state.npz", "history.csv") if (folder / name).is_file()]
        if kept:
            raise damaged_fold(
                f"{folder} has {' and '.join(kept)} but no config.json, so nobody knows with which "
                "settings it was begun"
            )
        return None, []
    saved = atomic.read_json(path)
    resolved, sessions = _resolved(saved.get("resolved")), saved.get("sessions")
    if resolved is None or not isinstance(sessions, list):
        raise damaged_fold(f"{path}: not readable or not whole")
    saved = {
        **saved,
        "model": model_settings(saved.get("model")),
        "training": training_settings(saved.get("training")),
    }
    different = _differences(saved, settings, resolved)
    if different:
        longer = any(line.startswith("training.epochs") for line in different)
        raise InputError(
            f"{folder} was begun with other settings: {'; '.join(different)}. "
            + (_longer(folder, settings) if longer else "")
            + "Give another --run, the same settings, or --overwrite to train it anew."
        )
    return resolved, sessions


def _longer(folder: Path, settings: FoldSettings) -> str:
    """How to train on with another number of epochs."""
    return (
        "The learning rate's decay depends on the number of epochs, so it cannot be the same "
        "training. To go on from these weights, train a new run: "
        f"--init_from={folder.parent} --run=NEW --epochs={settings.training.epochs}. "
    )


def _resolved(saved: Any) -> Resolved | None:
    if not isinstance(saved, dict) or set(saved) != set(RESOLVED):
        return None
    micro_batch = saved["micro_batch"]
    whole = saved["precision"] in PRECISIONS and type(micro_batch) is int and micro_batch > 0
    return Resolved(**saved) if whole else None


def _differences(saved: Any, settings: FoldSettings, resolved: Resolved) -> list[str]:
    """Settings that are not those of the file, each in words."""
    before, now = _flatten(saved), _flatten(settings.to_json())
    if "parent" not in saved:  # a run of an earlier version
        now = {name: value for name, value in now.items() if not name.startswith("parent.")}
    # What was left to the machine may also be given as the machine chose it. Micro-batches are of
    # the same gradient, and where BatchNormalization sees a difference, the user is told.
    same = {"run", "training.micro_batch"} | {
        f"training.{name}"
        for name in RESOLVED
        if getattr(settings.training, name) == getattr(resolved, name)
    }
    return [
        f"{name} was {before.get(name)}, now {value}"
        for name, value in now.items()
        if name not in same and before.get(name) != value
    ]


def _flatten(value: Any, name: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        return {name: value}
    return {
        key: leaf
        for k, v in value.items()
        for key, leaf in _flatten(v, f"{name}.{k}" if name else k).items()
    }
