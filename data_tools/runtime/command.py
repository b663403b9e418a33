"""The frame every ``python -m`` command stands in: flags, --help, exit status, no traceback.

Exit status: 0 all done, 1 done but some patients failed (they are listed), 2 bad input or flags,
130 interrupted from the keyboard.

Each command has flags of its own (a private ``FlagValues``), so that two commands can be
imported into one process.
"""

import dataclasses
import errno
import os
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any

from absl import flags

from data_tools.runtime.errors import InputError

EXIT_OK, EXIT_SOME_FAILED, EXIT_BAD_INPUT, EXIT_INTERRUPTED = 0, 1, 2, 130


def run(
    main: Callable[[], int | None],
    flag_values: flags.FlagValues,
    description: str | None,
    argv: Sequence[str] | None = None,
) -> int:
    """Parse the flags, call ``main()``, turn every expected failure into a message.

    Args:
        main: the command; reads ``flag_values``; returns an exit status (None is 0).
        flag_values: where the command's flags were defined.
        description: the module's docstring; the first part of ``--help``.
        argv: arguments without the program's name; None takes ``sys.argv``.

    Returns:
        The exit status; the caller passes it to ``sys.exit``.
    """
    # What matters comes through as a Python exception; TensorFlow's own lines only frighten.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    arguments = list(sys.argv[1:] if argv is None else argv)
    if any(argument in ("--help", "-help", "-h", "--helpfull") for argument in arguments):
        print((description or "").strip(), "\n\nFlags:\n", sep="")
        print(_describe(flag_values))
        return EXIT_OK
    try:
        for name in flag_values:
            flag_values[name].unparse()
        positional = flag_values(["command", *arguments])[1:]
        if positional:
            raise InputError(
                f"'{positional[0]}' is not understood: every argument is a flag (--name=value). "
                "Run with --help to see them."
            )
        return main() or EXIT_OK
    except flags.Error as error:
        message = re.sub(r"invalid literal for int\(\) with base 10", "no whole number", str(error))
        message = message.replace("could not convert string to float", "no number")
        return _fail(f"{message}\nRun with --help to see the flags.")
    except InputError as error:
        return _fail(str(error))
    except OSError as error:  # disk full, read-only, a file where a folder should be
        where = f": {error.filename}" if error.filename else ""
        advice = ""
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            advice = "; make room and run the same command again, nothing is half written"
        return _fail(f"{error.strerror or error}{where}{advice}")
    except KeyboardInterrupt as stop:
        print(str(stop) or "interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED


def define_patient(flag_values: flags.FlagValues) -> None:
    """The flags of a command about one patient or a cohort: images, clinical facts, where to."""
    flags.DEFINE_string(
        "cohort",
        None,
        "In place of one patient: a raw cohort, participants.tsv and sub-*; writes OUT/index.html.",
        flag_values=flag_values,
    )
    flags.DEFINE_string(
        "adc",
        None,
        "ADC map on the DWI's grid, NIfTI; not needed with DICOM files or a series with b = 0.",
        flag_values=flag_values,
    )
    for name, text in (
        ("dwi", "b = 1000 trace image, or a series with its .bval, NIfTI; or a DICOM folder."),
        ("nihss", "0 to 42, or n/a."),
        ("side", "left, right or bilateral: of the brain lesion."),
        ("out", "Folder for the result."),
    ):
        flags.DEFINE_string(name, None, text, required=name == "out", flag_values=flag_values)
    flags.DEFINE_float(
        "age", None, "Years; without it DAWN is not classed.", flag_values=flag_values
    )
    flags.DEFINE_string(
        "participant",
        None,
        "Name in the result; default: the DWI's file name.",
        flag_values=flag_values,
    )
    flags.DEFINE_bool(
        "second_opinion",
        True,
        "Ask a single model about the mirror image too: how far do the answers agree?",
        flag_values=flag_values,
    )
    flags.DEFINE_bool(
        "pdf", False, "Also print report.html to report.pdf (an installed Chromium or Chrome).",
        flag_values=flag_values,
    )  # fmt: skip
    flags.DEFINE_bool(
        "dicom_out",
        False,
        "Also write DICOM objects for the PACS (segmentation, probability, report) into OUT/dicom; "
        "with DICOM files as --dwi (extra `dicom`).",
        flag_values=flag_values,
    )


@dataclasses.dataclass(frozen=True)
class Asked:
    """What the flags of :func:`define_patient` say: one patient, or a cohort."""

    out: str
    second_opinion: bool
    dicom_out: bool
    pdf: bool
    cohort: str | None
    dwi: str
    adc: str | None
    nihss: str
    side: str
    age: float | None
    participant: str | None


def asked(flag_values: flags.FlagValues) -> Asked:
    """The flags of :func:`define_patient`.

    Raises:
        InputError: they name neither a patient nor a cohort, or both.
    """
    of_one = ("dwi", "nihss", "side")
    given = [name for name in (*of_one, "adc", "age", "participant") if flag_values[name].present]
    if flag_values.cohort is None:
        absent = [f"--{name}" for name in of_one if flag_values[name].value is None]
        if absent:
            raise InputError(
                f"{', '.join(absent)} must be given; expected --dwi, --nihss and --side of a "
                "patient, or --cohort. Run with --help to see the flags."
            )
    elif given:
        raise InputError(
            f"--cohort reads every patient's images and facts itself; leave out "
            f"{', '.join('--' + name for name in given)}"
        )
    values: dict[str, Any] = {f.name: flag_values[f.name].value for f in dataclasses.fields(Asked)}
    return Asked(**values)


def define_workers(flag_values: flags.FlagValues, what: str) -> None:
    """The flags of a command that shares its work: processes here, or a Dask cluster.

    Args:
        flag_values: where to define them.
        what: each process does, for ``--help``.
    """
    flags.DEFINE_integer("workers", 1, f"Processes, {what}.", flag_values=flag_values)
    flags.DEFINE_string(
        "dask_scheduler",
        None,
        "tcp://HOST:PORT of a Dask cluster that does the work in place of --workers; it sees the "
        "same files (extra `cluster`).",
        flag_values=flag_values,
    )


def workers(flag_values: flags.FlagValues) -> int | str:
    """Who works: a number of processes, or the address of a cluster."""
    return flag_values.dask_scheduler or flag_values.workers


def _describe(flag_values: flags.FlagValues) -> str:
    lines = []
    for name in sorted(flag_values):
        flag = flag_values[name]
        if name != flag.name or name in ("flagfile", "undefok"):  # absl's own
            continue
        note = "required" if name in _required(flag_values) else f"default: {flag.default}"
        lines.append(f"  --{name}: {flag.help} ({note})")
    return "\n".join(lines)


def _required(flag_values: flags.FlagValues) -> set[str]:
    # absl keeps "required" as validators of single flags.
    every = (v for group in flag_values._flags().values() for v in group.validators)
    return {name for v in every if "must have a value" in v.message for name in v.get_flags_names()}


def _fail(message: str) -> int:
    print(f"error: {message}", file=sys.stderr)
    return EXIT_BAD_INPUT
