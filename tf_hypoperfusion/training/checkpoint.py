"""What a fold keeps on disk so that it can go on: ``state.npz``.

``state.npz`` holds every variable (weights, moments, optimizer, dropout's random state, averaged
weights), the epochs that are done, the step within the epoch that is not, and that epoch's sums.
It is one file, replaced in one rename, so it is never half new.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_tools.runtime import atomic
from tf_hypoperfusion.model.keras_compat import to_numpy
from tf_hypoperfusion.training import fold_errors
from tf_hypoperfusion.training.epoch_metrics import SHAPES_OF_SUMS


@dataclasses.dataclass(kw_only=True)
class Progress:
    """Where a fold is.

    Attributes:
        epochs: whole epochs done.
        step: optimizer steps done in the next one.
        sums: that epoch's training sums so far, float64, as
            :func:`tf_hypoperfusion.training.epoch_metrics.batch_sums` gives them; 0 before the
            first step.
        seconds: spent in that epoch so far.
        waited_s: of these, waiting for input.
    """

    epochs: int = 0
    step: int = 0
    sums: NDArray[np.float64] = dataclasses.field(default_factory=lambda: np.zeros(()))
    seconds: float = 0.0
    waited_s: float = 0.0


def state_file(folder: Path) -> Path:
    """The state of a fold, to go on from."""
    return folder / "state.npz"


def best_file(folder: Path) -> Path:
    """The model of the lowest validation loss, for inference."""
    return folder / "best.keras"


def check_finite(folder: Path, variables: Sequence[Any], *, epoch: int, step: int) -> None:
    """Refuse to go on with weights or moments that are not finite.

    Args:
        folder: of the fold.
        variables: of the training.
        epoch: that is trained, from 1.
        step: from 1.

    Raises:
        InputError: one of them is not.
    """
    if not all(np.isfinite(to_numpy(variable)).all() for variable in variables):
        raise fold_errors.not_finite("the weights are not finite", folder, epoch=epoch, step=step)


def save_state(path: Path, variables: Sequence[Any], progress: Progress) -> None:
    """Write the state atomically.

    Raises:
        InputError: a variable is not finite, or the disk refuses; the file before stays.
    """
    check_finite(path.parent, variables, epoch=progress.epochs + 1, step=progress.step + 1)
    arrays = {_name(i): to_numpy(variable) for i, variable in enumerate(variables)}
    with fold_errors.saving(path), atomic.replacing(path) as temporary:
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
                epochs=int(state["epochs"]),
                step=int(state["step"]),
                sums=state["sums"],
                seconds=float(state["seconds"]),
                waited_s=float(state["waited_s"]),
            )
            state[_name(0)]
            if progress.sums.shape not in SHAPES_OF_SUMS or min(progress.epochs, progress.step) < 0:
                raise ValueError("its sums or counts cannot be")
            return progress
    except Exception as error:  # a damaged zip file fails in many ways
        raise fold_errors.damaged_fold(_unreadable(path, error)) from error


def restore(path: Path, variables: Sequence[Any]) -> None:
    """Put a saved state into the variables.

    Raises:
        InputError: the file is damaged, or was written by another network or optimizer.
    """
    try:
        with np.load(path) as state:
            arrays = [state[_name(i)] for i in range(len(variables))]
            extra = _name(len(variables)) in state
    except Exception as error:
        raise fold_errors.damaged_fold(_unreadable(path, error)) from error
    shapes = [tuple(variable.shape) for variable in variables]
    if extra or shapes != [array.shape for array in arrays]:
        another = "its variables are those of another network or optimizer"
        raise fold_errors.damaged_fold(_unreadable(path, another))
    for variable, array in zip(variables, arrays, strict=True):
        variable.assign(array)


def _name(index: int) -> str:
    return f"variable_{index:04d}"


def _unreadable(path: Path, reason: Any) -> str:
    return f"{path}: the training state cannot be read ({reason})"
