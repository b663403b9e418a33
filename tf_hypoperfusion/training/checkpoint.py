"""What a fold keeps on disk so that it can go on: ``state.npz``.

``state.npz`` holds every variable (weights, moments, optimizer, dropout's random state, averaged
weights), the epochs that are done, the step within the epoch that is not, and that epoch's sums.
It is one file, replaced in one rename, so it is never half new.
"""

import contextlib
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data_tools.runtime import atomic
from data_tools.runtime.errors import InputError
from tf_hypoperfusion.model.keras_compat import to_numpy
from tf_hypoperfusion.training.epoch_metrics import MEANS


@dataclasses.dataclass
class Progress:
    """Where a fold is.

    Attributes:
        epochs: whole epochs done. step: optimizer steps done in the next one.
        sums: that epoch's training sums so far, float64 (8,).
        seconds, waited_s: spent in that epoch so far, in all and waiting for input.
    """

    epochs: int = 0
    step: int = 0
    sums: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(len(MEANS) + 3))
    seconds: float = 0.0
    waited_s: float = 0.0


def save_state(path: Path, variables: Sequence[Any], progress: Progress) -> None:
    """Write the state atomically.

    Raises:
        InputError: a variable is not finite, or the disk refuses; the file before stays.
    """
    arrays: dict[str, Any] = {f"variable_{i:04d}": to_numpy(v) for i, v in enumerate(variables)}
    if not all(np.isfinite(array).all() for array in arrays.values()):
        raise not_finite("the weights are not finite", path.parent, progress)
    with saving(path), atomic.replacing(path) as temporary:
        np.savez(temporary, **(dataclasses.asdict(progress) | arrays))


def load_progress(path: Path) -> Progress:
    """How far a fold has come; nothing done if there is no state.

    Raises:
        InputError: the file is damaged.
    """
    if not path.is_file():
        return Progress()
    try:
        with np.load(path) as state:
            progress = Progress(
                int(state["epochs"]),
                int(state["step"]),
                state["sums"],
                float(state["seconds"]),
                float(state["waited_s"]),
            )
            state["variable_0000"]
            if (
                progress.sums.shape != Progress().sums.shape
                or min(progress.epochs, progress.step) < 0
            ):
                raise ValueError("its sums or counts cannot be")
            return progress
    except Exception as error:  # a damaged zip file fails in many ways
        raise _unreadable(path, error) from error


def restore(path: Path, variables: Sequence[Any]) -> None:
    """Put a saved state into the variables.

    Raises:
        InputError: the file is damaged, or was written by another network or optimizer.
    """
    try:
        with np.load(path) as state:
            arrays = [state[f"variable_{i:04d}"] for i in range(len(variables))]
            extra = f"variable_{len(variables):04d}" in state
    except Exception as error:
        raise _unreadable(path, error) from error
    shapes = [tuple(variable.shape) for variable in variables]
    if extra or shapes != [array.shape for array in arrays]:
        raise _unreadable(path, "its variables are those of another network or optimizer")
    for variable, array in zip(variables, arrays, strict=True):
        variable.assign(array)


def _unreadable(path: Path, reason: Any) -> InputError:
    return InputError(
        f"{path}: the training state cannot be read ({reason}); bring it back from a copy, or "
        "train the fold anew with --overwrite"
    )


def not_finite(what: str, folder: Path, progress: Progress) -> InputError:
    """The error of a run that has come to NaN or infinity."""
    kept = f"the last good state is kept in {folder}"
    if not (folder / "state.npz").is_file():
        kept = "nothing was saved before"
    return InputError(
        f"{what} in epoch {progress.epochs + 1}, step {progress.step + 1}; {kept}. Try a smaller "
        "--learning_rate, --warmup_epochs, or --precision=float32, with another --run (or with "
        "--overwrite, which throws this one away)."
    )


@contextlib.contextmanager
def saving(path: Path):
    """Say what to do when a disk refuses.

    Raises:
        InputError: in place of an OSError.
    """
    try:
        yield
    except OSError as error:
        raise refused(path, error.strerror or error) from error


def refused(path: Path, reason: Any) -> InputError:
    """The error of a disk that did not take a file."""
    return InputError(
        f"{path} could not be written ({reason}); what was saved before is kept. Make room or mend "
        "the disk, and run the same command (without --overwrite) again: it goes on from there."
    )


def best_file(folder: Path) -> Path:
    """The model of the lowest validation loss, for inference."""
    return folder / "best.keras"
