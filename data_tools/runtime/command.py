"""The frame every ``python -m`` command stands in: flags, --help, exit status, no traceback.

Exit status: 0 all done, 1 done but some patients failed (they are listed), 2 bad input or flags,
130 interrupted (Ctrl-C; in training also SIGTERM and SIGHUP), 75 stopped by SIGUSR1 with the work
saved: the same command is to be started again ("temporary failure" of sysexits.h).

Each command has flags of its own (a private ``FlagValues``), so that two commands can be
imported into one process. A command defines them with absl, in the order and under the headings
in which ``--help`` shows them::

    FLAGS = flags.FlagValues()

    command.heading("Output", FLAGS)
    flags.DEFINE_string("out", "records", "<FOLDER> Where the records go.", flag_values=FLAGS)
"""

import contextlib
import dataclasses
import errno
import io
import os
import re
import shlex
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from weakref import WeakKeyDictionary

from absl import flags

from data_tools.grid import SLAB_SLICES
from data_tools.overrides import ADC_UNITS, Overrides
from data_tools.runtime import flag_texts, progress
from data_tools.runtime.errors import InputError, RunAgain

EXIT_OK, EXIT_SOME_FAILED, EXIT_BAD_INPUT, EXIT_RUN_AGAIN, EXIT_INTERRUPTED = 0, 1, 2, 75, 130
PRECISIONS = ("float32", "bfloat16")
CORES = ("rule", "learnt")
# Permissions of those who are neither the user nor in the user's group.
OTHERS = 0o007

# By the number of flags defined before; by the name of a flag that is no longer there.
_HEADINGS: WeakKeyDictionary[flags.FlagValues, dict[int, str]] = WeakKeyDictionary()
_MOVED: WeakKeyDictionary[flags.FlagValues, dict[str, str]] = WeakKeyDictionary()


def run(
    main: Callable[[], int | None],
    flag_values: flags.FlagValues,
    description: str | None,
    argv: Sequence[str] | None = None,
    *,
    public: bool = False,
) -> int:
    """Parse the flags, call ``main()``, turn every expected failure into a message.

    What a command writes is about patients, so only the user and the user's group may read it.

    Args:
        main: the command; reads ``flag_values``; returns an exit status (None is 0).
        flag_values: where the command's flags were defined.
        description: the module's docstring; the first part of ``--help``.
        argv: arguments without the program's name; None takes ``sys.argv``.
        public: the command writes a model, which a server of another user is to read: files are
            readable as the user's umask has it.

    Returns:
        The exit status; the caller passes it to ``sys.exit``.
    """
    # What matters comes through as a Python exception; TensorFlow's own lines only frighten.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if any(option.startswith("e") for option in sys.warnoptions):
        # PYTHONWARNINGS=error is for a program's tests; a library's warning ends no hours of work.
        warnings.simplefilter("default")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a console that knows no ≥ gets its number
            stream.reconfigure(errors="backslashreplace")
    arguments = list(sys.argv[1:] if argv is None else argv)
    if any(argument in ("--help", "-help", "-h", "--helpfull") for argument in arguments):
        _print_help(flag_values, description)
        return EXIT_OK
    try:
        _parse(flag_values, arguments)
        with progress.listening(), contextlib.nullcontext() if public else _closed_to_others():
            return main() or EXIT_OK
    except InputError as error:
        return _fail(str(error))
    except OSError as error:  # disk full, read-only, a file where a folder should be
        where = f": {error.filename}" if error.filename else ""
        advice = ""
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            advice = "; make room and run the same command again. No file is half written"
        return _fail(f"{error.strerror or error}{where}{advice}")
    except KeyboardInterrupt as stop:
        print(str(stop) or "interrupted", file=sys.stderr)
        return EXIT_RUN_AGAIN if isinstance(stop, RunAgain) else EXIT_INTERRUPTED


def line(name: str, /, *, given: Sequence[str] = (), **values: object) -> str:
    """A command as it is typed.

    >>> line("preprocess", cohort="my cohort", out="mni")
    "hypoperfusion preprocess --cohort='my cohort' --out=mni"

    Args:
        name: of the command.
        given: arguments that are written already.
        values: of flags, by name; without those that are None.
    """
    said = [f"--{k}={shlex.quote(str(v))}" for k, v in values.items() if v is not None]
    return " ".join(["hypoperfusion", name, *said, *given])


def next_steps(*, look_at: object = None, run: str | None = None) -> None:
    """End a command's output: what to open now, and which command comes next.

    Args:
        look_at: a file, a folder or a command that shows something; None: nothing to look at.
        run: the next command, such as one of :func:`line`; None: there is none.
    """
    for word, what in (("open", look_at), ("next", run)):
        if what is not None:
            say(f"{word}  {what}")


@contextlib.contextmanager
def _closed_to_others() -> Iterator[None]:
    before = os.umask(OTHERS)
    os.umask(before | OTHERS)
    try:
        yield
    finally:
        os.umask(before)


def _print_help(flag_values: flags.FlagValues, description: str | None) -> None:
    about = flag_texts.wrap((description or "").strip())
    say(f"{about}\n\n{flag_texts.describe(flag_values, _HEADINGS.get(flag_values, {}))}")


def say(text: str) -> None:
    """Print what a reader who has seen enough need not read, as that of "| head".

    Args:
        text: to print.
    """
    try:
        print(text, flush=True)
    except BrokenPipeError:  # Python would complain again at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def heading(title: str, flag_values: flags.FlagValues) -> None:
    """Let ``--help`` show the flags that are defined from here on under a heading.

    Args:
        title: of the group; one that was there before goes on.
        flag_values: the command's flags.
    """
    _HEADINGS.setdefault(flag_values, {})[len(flag_values)] = title


def moved(names: Sequence[str], advice: str, flag_values: flags.FlagValues) -> None:
    """Answer flags that the command had once, but has no more, with what to do instead.

    Args:
        names: of the former flags.
        advice: the end of the message, such as "ask a server with ...".
        flag_values: the command's flags.
    """
    _MOVED.setdefault(flag_values, {}).update(dict.fromkeys(names, advice))


def define_patient(flag_values: flags.FlagValues, core_by: str) -> None:
    """The flags of a command about one patient or a cohort: images, clinical facts, where to.

    Args:
        flag_values: the command's flags.
        core_by: whose core decides where nothing is said, for ``--help``.
    """
    heading("One patient", flag_values)
    for name, text in (
        (
            "dwi",
            "<PATH> The b = 1000 trace image, or a series with its .bval, as NIfTI, .mha or .nrrd; "
            "or a folder of DICOM files.",
        ),
        (
            "adc",
            "<FILE> ADC map of the same scan. Not needed with DICOM files, with a series that has "
            "b = 0, or with --b0. A model trained for it answers with a DWI or an ADC map alone.",
        ),
        ("b0", "<FILE> The b = 0 image, if it has a file of its own and there is no ADC map."),
        ("nihss", "<N|n/a> NIHSS score, 0 to 42, or n/a."),
        (
            "side",
            "<SIDE> Side of the brain lesion: left, right, bilateral, or auto: either is asked "
            "about, and the larger answer taken.",
        ),
        (
            "core",
            "<FILE> The core, as a mask of another program in the patient's space, on any grid; it "
            "decides in place of ours. none: the patient has no core. Of a cohort: "
            "derivatives/masks/sub-*/sub-*_desc-core_mask.nii.gz.",
        ),
    ):
        flags.DEFINE_string(name, None, text, flag_values=flag_values)
    heading("Beside what perfusion imaging showed", flag_values)
    flags.DEFINE_string(
        "tmax",
        None,
        "<FILE> The patient's Tmax map, in s. It does not change the answer: the page, result.json "
        "and truth_mask.nii.gz show both, with Dice and mL.",
        flag_values=flag_values,
    )
    flags.DEFINE_string(
        "truth",
        None,
        "<FILE> Likewise a mask of the hypoperfusion that a person drew or edited; with --tmax too "
        "it is compared inside that scan.",
        flag_values=flag_values,
    )
    flags.DEFINE_bool(
        "compare",
        False,
        "Of a cohort: the same for every patient with a Tmax map or an edited mask.",
        flag_values=flag_values,
    )
    heading("One patient", flag_values)
    flags.DEFINE_string(
        "age",
        None,
        "<YEARS> Age, or a bound such as 89+. Without it, the DAWN criteria are not evaluated.",
        flag_values=flag_values,
    )
    flags.DEFINE_string(
        "participant",
        None,
        "<NAME> Name in the result. Without it, the DWI's file name is used.",
        flag_values=flag_values,
    )
    heading("Or a whole cohort", flag_values)
    flags.DEFINE_string(
        "cohort",
        None,
        "<FOLDER> Raw cohort: participants.tsv and sub-*. Every row is predicted, also one with a "
        "reason in the column exclude. Also writes OUT/index.html.",
        flag_values=flag_values,
    )
    flags.DEFINE_enum(
        "core_by",
        None,
        CORES,
        "Whose core decides, if none is given: that of the rule of ADC and DWI, or the network's "
        f"own, if it answers with one. (default: {core_by})",
        flag_values=flag_values,
    )
    define_overrides(flag_values)
    heading("Output", flag_values)
    flags.DEFINE_string(
        "out", None, "<FOLDER> Where the result goes.", required=True, flag_values=flag_values
    )
    flags.DEFINE_bool(
        "second_opinion",
        True,
        "Also ask a single network about the mirror image, to see how far its two answers agree.",
        flag_values=flag_values,
    )
    flags.DEFINE_bool(
        "pdf",
        False,
        "Also print report.html to report.pdf. Needs an installed Chromium or Chrome.",
        flag_values=flag_values,
    )
    flags.DEFINE_bool(
        "dicom_out",
        False,
        "Also write DICOM objects for the PACS (segmentation, probability, report, picture) into "
        "OUT/dicom. "
        "Needs DICOM files as --dwi, and the extra `dicom`.",
        flag_values=flag_values,
    )


def define_other_territories(flag_values: flags.FlagValues, text: str = "") -> None:
    """The flag of a command that leaves out strokes outside the paper's population.

    Args:
        flag_values: the command's flags.
        text: what more ``--help`` is to say.
    """
    flags.DEFINE_bool(
        "other_territories",
        False,
        "Also take strokes of other arteries than ICA and MCA (occlusion PCA, BA...). By default "
        f"they are left out and named, as in the paper. {text}".strip(),
        flag_values=flag_values,
    )


def define_overrides(flag_values: flags.FlagValues, of_cohort: bool = False) -> None:
    """The flags with which a person says what files say wrongly or not at all.

    Args:
        flag_values: the command's flags.
        of_cohort: the command reads cohorts only, whose brain masks lie beside the patients.
    """
    heading("Where the files are wrong", flag_values)
    flags.DEFINE_string(
        "series",
        None,
        "<UID|N|TEXT> Which DICOM series is the DWI: its SeriesInstanceUID, its number, or a piece "
        "of its description; with that of the ADC map after a comma. Of a DWI named alone ADC is "
        "computed, or, without b = 0, the map of its scan is taken.",
        flag_values=flag_values,
    )
    flags.DEFINE_float(
        "b_value", None, "<S/MM2> The b-value of the DWI.", lower_bound=1.0, flag_values=flag_values
    )
    flags.DEFINE_enum(
        "adc_unit",
        None,
        list(ADC_UNITS),
        "The unit of the ADC map. Without it, the unit is found from the values in tissue.",
        flag_values=flag_values,
    )
    if not of_cohort:
        flags.DEFINE_string(
            "brain_mask",
            None,
            "<FILE> The brain, as a mask in the patient's space, on any grid. Of a cohort: "
            "derivatives/masks/sub-*/sub-*_desc-brain_mask.nii.gz.",
            flag_values=flag_values,
        )
    flags.DEFINE_bool(
        "few_directions",
        False,
        "Take images of fewer than three diffusion directions for a trace image, with a warning.",
        flag_values=flag_values,
    )


def check_name(flag: str, name: str) -> None:
    """Refuse the name of a patient that would lead files out of their folder, or hide them.

    Args:
        flag: that gave it, without dashes.
        name: which files and folders are to bear.

    Raises:
        InputError: it is no name of a file.
    """
    if not name.strip() or name.startswith(".") or re.search(r"[/\\\x00-\x1f]", name):
        raise InputError(
            f"--{flag} is {name!r}; expected a name such as sub-0001, without slashes and without "
            "a dot at its start"
        )


def overrides(flag_values: flags.FlagValues) -> Overrides:
    """What the flags of :func:`define_overrides` say.

    Args:
        flag_values: the command's flags.

    Raises:
        InputError: an empty text.
    """
    values: dict[str, Any] = {
        f.name: flag_values[f.name].value
        for f in dataclasses.fields(Overrides)
        if f.name in flag_values
    }
    for name, value in values.items():
        if isinstance(value, str) and not value.strip():
            raise InputError(f"--{name} is empty; expected a value, or leave it out")
    return Overrides(**values)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PatientRequest:
    """What the flags of :func:`define_patient` say: one patient, or a cohort."""

    out: str
    second_opinion: bool
    dicom_out: bool
    pdf: bool
    cohort: str | None
    dwi: str | None
    adc: str | None
    b0: str | None
    core: str | None
    core_by: str | None
    tmax: str | None
    truth: str | None
    compare: bool
    overrides: Overrides
    nihss: str
    side: str
    age: str | None
    participant: str | None


def patient_request(flag_values: flags.FlagValues) -> PatientRequest:
    """The flags of :func:`define_patient`.

    Raises:
        InputError: they name neither a patient nor a cohort, or both.
    """
    of_one = ("nihss", "side")
    others = ("dwi", "adc", "b0", "core", "tmax", "truth", "age", "participant", "brain_mask")
    if not flag_values.out.strip():
        raise InputError("--out is empty; expected a folder for the result")
    given = [name for name in (*of_one, *others) if flag_values[name].present]
    if flag_values.cohort is None:
        absent = [f"--{name}" for name in of_one if flag_values[name].value is None]
        if flag_values.dwi is None and flag_values.adc is None:
            absent.insert(0, "--dwi or --adc")
        if absent:
            raise InputError(
                f"{', '.join(absent)} must be given; expected --dwi and --adc (or one of them), "
                "--nihss and --side of a patient, or --cohort. Run with --help to see the flags."
            )
        if flag_values.b0 is not None and flag_values.dwi is None:
            raise InputError("--b0 belongs to a DWI; give that too with --dwi, or leave it out")
        if flag_values.compare:
            raise InputError("--compare is for a --cohort; of one patient give --tmax or --truth")
    elif given:
        raise InputError(
            f"--cohort reads every patient's images and facts itself; leave out "
            f"{', '.join('--' + name for name in given)}"
        )
    if flag_values.core is not None:
        if not flag_values.core.strip():
            raise InputError("--core is empty; expected a file, or none for a patient without core")
        if flag_values.core_by is not None:
            raise InputError("--core decides, so --core_by changes nothing; leave out one of them")
    values: dict[str, Any] = {
        f.name: flag_values[f.name].value
        for f in dataclasses.fields(PatientRequest)
        if f.name != "overrides"
    }
    return PatientRequest(**values, overrides=overrides(flag_values))


def define_stride(
    flag_values: flags.FlagValues, default: int | None, *, cut: str = "window", text: str = ""
) -> None:
    """``--stride``, from one window of a patient to the next.

    Args:
        flag_values: the command's flags.
        default: slices; None where the command must know whether it was given.
        cut: what is cut with it.
        text: more for ``--help``.
    """
    flags.DEFINE_integer(
        "stride",
        default,
        f"Slices from one {cut} to the next, 1 to {SLAB_SLICES}. {text}".strip(),
        lower_bound=1,
        upper_bound=SLAB_SLICES,
        flag_values=flag_values,
    )


def define_precision(
    flag_values: flags.FlagValues, text: str, default: str | None = "float32"
) -> None:
    """``--precision`` of a trained network's arithmetic.

    Args:
        flag_values: the command's flags.
        text: whose arithmetic, and what it changes, for ``--help``.
        default: None leaves it to the model.
    """
    flags.DEFINE_enum("precision", default, PRECISIONS, text, flag_values=flag_values)


def define_runtime(flag_values: flags.FlagValues) -> None:
    """``--runtime`` that a trained network is run by.

    Args:
        flag_values: the command's flags.
    """
    flags.DEFINE_enum(
        "runtime",
        "auto",
        ["auto", "openvino", "onnxruntime", "tensorflow"],
        "What runs the networks. auto: an export's ONNX form by OpenVINO or onnxruntime, whichever "
        "is installed, and TensorFlow for the rest.",
        flag_values=flag_values,
    )


def define_allow_operations(flag_values: flags.FlagValues) -> None:
    """``--allow_operations`` of a SavedModel from elsewhere.

    Args:
        flag_values: the command's flags.
    """
    flags.DEFINE_bool(
        "allow_operations",
        False,
        "Load SavedModels with other operations than our exports have. Such a model can read and "
        "write files as you can: only if you trust whoever made it.",
        flag_values=flag_values,
    )


def define_workers(flag_values: flags.FlagValues, text: str) -> None:
    """The flags of a command that shares its work: processes here, or a Dask cluster.

    Args:
        flag_values: the command's flags.
        text: what the processes are for, for ``--help``.
    """
    flags.DEFINE_integer("workers", 1, text, flag_values=flag_values)
    flags.DEFINE_string(
        "dask_scheduler",
        None,
        "<ADDRESS> tcp://HOST:PORT of a Dask cluster that does the work instead of --workers. It "
        "must see the same files (extra `cluster`).",
        flag_values=flag_values,
    )


def workers(flag_values: flags.FlagValues) -> int | str:
    """Who works: a number of processes, or the address of a cluster."""
    return flag_values.dask_scheduler or flag_values.workers


def _parse(flag_values: flags.FlagValues, arguments: list[str]) -> None:
    """Set the flags.

    Raises:
        InputError: an argument is no flag, or a value cannot be used.
    """
    for name in flag_values:
        flag_values[name].unparse()
    advice = "\nRun with --help to see the flags."
    try:
        positional = flag_values(["command", *arguments])[1:]
    except (flags.Error, ValueError) as error:  # ValueError: --noflag=value
        told = flag_texts.explain(error, arguments, flag_values, _MOVED.get(flag_values, {}))
        raise InputError(told + advice) from error
    if positional:
        raise InputError(flag_texts.explain_positional(positional[0], flag_values) + advice)


def _fail(message: str) -> int:
    print(f"error: {message}", file=sys.stderr)
    return EXIT_BAD_INPUT
