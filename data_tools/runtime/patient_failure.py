"""What is raised about one patient -> that patient's failure, in one sentence.

A reader of files meets more kinds of damage than it was written for. The others must go on all the
same; a developer must find the place.
"""

import errno
import os
import re
import sys
import tempfile
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from data_tools.runtime.errors import InputError, PatientDefect

# Set to anything, it shows the traceback of every defect.
TRACEBACK_VARIABLE = "HYPOPERFUSION_TRACEBACK"
# What ends the work on every patient alike: no room, or a disk that has become read-only.
NO_PATIENTS_FAULT = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
# What a file system answers about one file, and no program can mend.
UNREADABLE = (
    errno.EACCES, errno.EPERM, errno.EIO, errno.ELOOP, errno.ESTALE, errno.ENAMETOOLONG,
    errno.ETIMEDOUT, getattr(errno, "EREMOTEIO", errno.EIO),  # Linux alone has the last one
)  # fmt: skip
# TensorFlow's name for it; this module does not import TensorFlow.
OUT_OF_MEMORY = ("MemoryError", "ResourceExhaustedError")
SHOWN_OF_A_MESSAGE = 200
# How names of temporary folders begin, Python's own and those of this program.
OURS = "(?:tmp|hypoperfusion-(?:[a-z]+-)?)"


def attempt(function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    """What a function returns about one patient, or an :class:`InputError` if it raises.

    Args:
        function: called once.
        arguments: what it is given.
        named: what it is given by name.

    Raises:
        OSError: the disk is full or read-only.
    """
    try:
        return function(*arguments, **named)
    except Exception as error:
        return failure_of(error)


def failure_of(error: Exception) -> InputError:
    """A patient's failure, as a sentence for the user.

    An InputError stays what it is. A file that cannot be read and memory that does not suffice are
    said as such. All else is a defect of this program: its kind and place are named, and the
    traceback is kept in :attr:`PatientDefect.details`; with ``HYPOPERFUSION_TRACEBACK=1`` in the
    environment it is shown too.

    Args:
        error: what was raised.

    Raises:
        OSError: the disk is full or read-only: given back, for it is no patient's fault.
    """
    if isinstance(error, InputError):
        return error
    if isinstance(error, OSError) and error.errno in NO_PATIENTS_FAULT:
        raise error
    if isinstance(error, OSError) and error.errno in UNREADABLE and error.filename is not None:
        return InputError(
            f"{_without_temporary(str(error.filename))}: {error.strerror}; look at the permissions "
            "there, and whether its disk or network is all right"
        )
    kind = type(error).__name__
    said = " ".join(_without_temporary(str(error)).split())[:SHOWN_OF_A_MESSAGE]
    if kind in OUT_OF_MEMORY or isinstance(error, MemoryError):
        return InputError(
            f"the memory was too small ({said or kind}); close other programs, give fewer "
            "--workers, or take a machine that has more. Are the images larger than a head's?"
        )
    details = "".join(traceback.format_exception(error))
    if os.environ.get(TRACEBACK_VARIABLE):
        print(details, file=sys.stderr)
    return PatientDefect(
        f"a defect of this program at this patient's files ({kind}: {said or 'no more is said'}; "
        f"{_place(error)}). Please report it, with the traceback that {TRACEBACK_VARIABLE}=1 "
        "before the command shows",
        details,
    )


def all_alike(failures: Mapping[str, str], patients: int) -> str | None:
    """A sentence where several patients were tried and each failed in the same way.

    Then their files are hardly the cause. None if one succeeded or the reasons differ.

    Args:
        failures: the message of each patient that failed, by name.
        patients: number of those tried.
    """
    if patients < 2 or len(failures) < patients:
        return None
    if len({message.replace(name, "") for name, message in failures.items()}) > 1:
        return None
    return (
        f"all {patients} patients failed in the same way, so look for the cause in what they "
        "share before you look in their files"
    )


def by_reason(failures: Mapping[str, str]) -> list[tuple[str, str]]:
    """Failures with the patients of each, so that what is true of all is said once.

    Args:
        failures: the message of each patient that failed, by name.

    Returns:
        Names, separated by commas, and the message; in the order of the first of each.

    >>> by_reason({"sub-1": "no DWI", "sub-2": "cut off", "sub-3": "no DWI"})
    [('sub-1, sub-3', 'no DWI'), ('sub-2', 'cut off')]
    """
    names: dict[str, list[str]] = {}
    for name, message in failures.items():
        names.setdefault(message, []).append(name)
    return [(", ".join(who), message) for message, who in names.items()]


def _without_temporary(text: str) -> str:
    """A message without our temporary files, which are gone when somebody reads it."""
    folder = re.escape(tempfile.gettempdir())
    text = re.sub(rf"{folder}/{OURS}[a-z0-9_]{{8}}(/[^\s'\"]*)?", "a temporary file", text)
    return re.sub(r"/?\.tmp-[^\s'\"]*", "", text)


def _place(error: Exception) -> str:
    """Where in this program it came up: the last line of ours, not one of a library's."""
    ours = Path(__file__).parents[2]
    frames = [
        Path(frame.filename).relative_to(ours).as_posix() + f" line {frame.lineno}"
        for frame in traceback.extract_tb(error.__traceback__)
        if Path(frame.filename).is_relative_to(ours)
        and "site-packages" not in Path(frame.filename).relative_to(ours).parts
        and Path(frame.filename) != Path(__file__)
    ]
    return f"at {frames[-1]}" if frames else "outside its own code"
