"""What the user is told when a fold cannot go on: damaged files, NaN, a disk that refuses."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data_tools.runtime.errors import InputError


def damaged_fold(what: str) -> InputError:
    """The error of a fold whose files are damaged or lost.

    Args:
        what: is wrong, with the file or folder in front.
    """
    return InputError(f"{what}; bring it back from a copy, or train the fold anew with --overwrite")


def not_finite(what: str, folder: Path, *, epoch: int, step: int) -> InputError:
    """The error of a run that has come to NaN or infinity.

    Args:
        what: is not finite, as a sentence.
        folder: of the fold.
        epoch: from 1.
        step: from 1.
    """
    kept = f"the last good state is kept in {folder}"
    if not (folder / "state.npz").is_file():
        kept = "nothing was saved before"
    return InputError(
        f"{what} in epoch {epoch}, step {step}; {kept}. Try a smaller "
        "--learning_rate, --warmup_epochs, or --precision=float32, with another --run (or with "
        "--overwrite, which throws this one away)."
    )


@contextlib.contextmanager
def saving(path: Path) -> Iterator[None]:
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
