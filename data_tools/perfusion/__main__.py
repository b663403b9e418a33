"""Make Tmax and the other perfusion maps from raw DSC series.

    python -m data_tools.perfusion --cohort=RAW
    python -m data_tools.perfusion --series=dsc.nii.gz --out=maps

A series is sub-*/perf/sub-*_dsc.nii.gz (4D, or X x Y x Z x 1 x T) with a .json beside it that says
RepetitionTime, EchoTime and SliceTiming in seconds, or the scanner's DICOM files in sub-*/dicom.
TR and TE are never guessed: where files lack them, give --tr_s and --te_s. Visits are named as
everywhere (sub-01_ses-1).

Each patient: motion corrected, slices brought to one time, bolus and baseline found, arterial curve
(AIF) found, deconvolved. OUT/derivatives/perfusion/sub-*/ gets

    perf/sub-*_{Tmax,CBF,CBV,MTT,TTP}.nii.gz    the maps, each with a .json
    qc.json                                     figures, warnings, how Tmax was made
    qc.png                                      maps, the AIF's voxels, curves, motion

and OUT/derivatives/perfusion/qc.html shows all patients, with volumes at Tmax >= 4, 6, 8 and 10 s
and the hypoperfusion intensity ratio (HIR). Look at the pictures: is the AIF in an artery that
feeds the brain? data_tools.preprocess finds the Tmax maps there.

Tmax is a convention: it depends on method, threshold, TR and AIF, all of which are recorded. These
maps are not RAPID-equivalent until calibrated. Research use only.

A lab that has the maps of another program for some patients finds its own threshold:

    python -m data_tools.perfusion --cohort=RAW --out=OURS
    python -m data_tools.perfusion --cohort=OURS --calibrate=RAW/derivatives/perfusion --out=RAW

The second command compares the Tmax maps in OURS with the reference (sub-*_Tmax,
sub-*_desc-hypoperfusion_mask, or volumes.tsv with participant_id and hypoperfusion_ml) and writes
calibration.json, .csv and .png into derivatives/perfusion of --out. data_tools.preprocess takes the
threshold in place of 6 s for maps of this program, where it finds the file in derivatives/perfusion
of its raw cohort. So do data_tools.check_cohort and, run again, the first command, which count
volumes by it beside the others.

An AIF that is wrong: mark voxels of an artery on the series itself. One patient: --aif. A cohort:
derivatives/masks/sub-*/sub-*_desc-aif_mask.nii.gz.

Patients done before with the same files and settings are kept, so an interrupted run resumes. If a
patient fails, older maps of the same files stay, and those of a series that has changed go. Tmax
maps of other programs are never replaced; another --out makes ours beside them. A series that
cannot be used (no bolus, truncated, late start...) is named with the reason and does not stop the
others. Exit status: 0 success, 1 some patients failed, 2 input that cannot be used.
"""

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

from data_tools.perfusion.deconvolution import METHODS, THRESHOLDS
from data_tools.runtime import atomic, command, light_imports
from data_tools.runtime.errors import InputError, counted

if TYPE_CHECKING:
    from data_tools.perfusion.patient_maps import Options
    from data_tools.perfusion.record import PerfusionQuality

FLAGS = flags.FlagValues()

command.heading("A cohort", FLAGS)
flags.DEFINE_string(
    "cohort", None, "<FOLDER> Raw cohort: participants.tsv and sub-*/perf/.", flag_values=FLAGS
)

command.heading("Or one patient", FLAGS)
flags.DEFINE_string(
    "series",
    None,
    "<PATH> A 4D image file with its .json, or a folder of DICOM files.",
    flag_values=FLAGS,
)
flags.DEFINE_string(
    "participant",
    None,
    "<NAME> Name in the result. Without it, the series' file name is used, without _dsc or _pwi.",
    flag_values=FLAGS,
)
flags.DEFINE_string(
    "aif",
    None,
    "<FILE|I,J,K> The artery: a mask on the grid of the series, or a voxel's indices from 0. "
    "Without it, the artery is found.",
    flag_values=FLAGS,
)

command.heading("Output", FLAGS)
flags.DEFINE_string(
    "out",
    None,
    "<FOLDER> Where the maps go: of a cohort, into derivatives/perfusion of this folder. Without "
    "it, that of the cohort itself.",
    flag_values=FLAGS,
)
flags.DEFINE_bool(
    "overwrite",
    False,
    "Also make maps that are done, and replace maps of this program that were changed since.",
    flag_values=FLAGS,
)

command.heading("Calibration", FLAGS)
flags.DEFINE_string(
    "calibrate",
    None,
    "<FOLDER> Reference maps of another program. Finds the Tmax threshold at which the maps of "
    "--cohort agree with them; makes no maps.",
    flag_values=FLAGS,
)
flags.DEFINE_enum(
    "calibrate_by",
    "volume",
    ["volume", "dice"],
    "What is to agree: volumes, or the places of the masks.",
    flag_values=FLAGS,
)

command.heading("Where the files say nothing, or are wrong", FLAGS)
flags.DEFINE_float("tr_s", None, "<S> Seconds from frame to frame (TR).", flag_values=FLAGS)
flags.DEFINE_float("te_s", None, "<S> Echo time (TE) in seconds.", flag_values=FLAGS)
flags.DEFINE_string(
    "dicom_series",
    None,
    "<UID|N|TEXT> Which DICOM series it is, where there are several scans over time.",
    flag_values=FLAGS,
)

command.heading("Method", FLAGS)
flags.DEFINE_enum(
    "method",
    "csvd",
    list(METHODS),
    "Deconvolution: block-circulant SVD with one threshold; the same with each voxel's own; or "
    "Tikhonov's.",
    flag_values=FLAGS,
)
flags.DEFINE_float(
    "threshold",
    None,
    "<SHARE> Of the largest singular value, more than 0 and less than 1. Tmax moves with it. "
    f"(default: {', '.join(f'{name} {THRESHOLDS[name]:g}' for name in METHODS)})",
    flag_values=FLAGS,
)
flags.DEFINE_bool(
    "motion_correction", True, "Correct motion of the head over time.", flag_values=FLAGS
)

command.heading("Machine", FLAGS)
command.define_workers(FLAGS, "Worker processes, one patient each.")


def main() -> int:
    """Run the command."""
    light_imports.prepare_nibabel()
    from data_tools.perfusion.deconvolution import checked_threshold
    from data_tools.perfusion.examination import Method
    from data_tools.perfusion.patient_maps import Options

    _check_flags()
    if FLAGS.calibrate is not None:
        return _calibrate()
    checked_threshold(FLAGS.method, FLAGS.threshold)
    method = Method(
        deconvolution=FLAGS.method, threshold=FLAGS.threshold, motion=FLAGS.motion_correction
    )
    voxel, mask = _artery(FLAGS.aif)
    options = Options(
        tr_s=FLAGS.tr_s, te_s=FLAGS.te_s, series=FLAGS.dicom_series, voxel=voxel, method=method
    )
    return _one(options, mask) if FLAGS.cohort is None else _cohort(options)


def _check_flags() -> None:
    for name in ("cohort", "series", "out", "aif", "participant", "dicom_series", "calibrate"):
        value = FLAGS[name].value
        if value is not None and not value.strip():
            raise InputError(f"--{name} is empty; expected a value, or leave it out")
    if (FLAGS.cohort is None) == (FLAGS.series is None):
        raise InputError(
            "expected --cohort=FOLDER, or --series=PATH with --out=FOLDER of one patient. Run with "
            "--help to see the flags."
        )
    if FLAGS.series is not None and FLAGS.out is None:
        raise InputError("--out is required with --series; expected a folder for the maps")
    if FLAGS.calibrate is not None and FLAGS.cohort is None:
        raise InputError("--calibrate needs --cohort, whose maps are compared; leave out --series")
    if FLAGS.participant is not None:
        command.check_name("participant", FLAGS.participant)
    of_one = [name for name in ("aif", "participant") if FLAGS[name].value is not None]
    if FLAGS.cohort is not None and of_one:
        raise InputError(
            f"{' and '.join('--' + name for name in of_one)}: only with --series, for one patient. "
            "In a cohort, mark each artery in a mask: "
            "derivatives/masks/sub-*/sub-*_desc-aif_mask.nii.gz"
        )


def _artery(said: str | None) -> tuple[tuple[int, int, int] | None, Path | None]:
    """A voxel or a mask."""
    if said is None:
        return None, None
    numbers = re.fullmatch(r"\s*(\d+)\s*,\s*(\d+)\s*,\s*(\d+)\s*", said)
    if numbers:
        return (int(numbers[1]), int(numbers[2]), int(numbers[3])), None
    if not Path(said).exists():
        raise InputError(
            f"--aif is {said!r}; expected the file of a mask, which is not there, or a voxel as "
            "three whole numbers from 0, such as --aif=60,71,9"
        )
    return None, Path(said)


def _calibrate() -> int:
    from data_tools.perfusion import calibration
    from data_tools.runtime.patient_failure import by_reason

    calibration.check_reference(FLAGS.calibrate)
    _check_cohort()
    folder = Path(FLAGS.out or FLAGS.cohort, "derivatives", "perfusion")
    with atomic.one_writer(folder):
        found = calibration.calibrate(FLAGS.cohort, FLAGS.calibrate, folder, by=FLAGS.calibrate_by)
    result = found.result
    print(
        f"{folder / calibration.RESULT}: Tmax >= {result.threshold_s:.1f} s of these maps agrees "
        f"best with the reference, by {result.fitted_by} of "
        f"{counted(len(result.pairs), 'patient')}"
    )
    for name, agreement in (
        ("at 6 s", result.at_six),
        ("each patient at the threshold of the others", result.left_out),
    ):
        print(
            f"  {name}: mean absolute difference {agreement.mean_absolute_ml:.1f} mL, concordance "
            f"{_or_na(agreement.concordance)}, Dice {_or_na(agreement.dice)}, kappa of target "
            f"mismatch {_or_na(agreement.kappa)} (n={agreement.n_core})"
        )
    for warning in result.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    for names, reason in by_reason(found.left_out):
        print(f"left out: {names}: {reason}", file=sys.stderr)
    command.next_steps(
        look_at=(folder / calibration.RESULT).with_suffix(".png"),
        run=command.line("preprocess", cohort=FLAGS.out or FLAGS.cohort, out="mni"),
    )
    return command.EXIT_OK


def _check_cohort() -> None:
    """Refuse a folder that is not there before anything is made in it."""
    if not Path(FLAGS.cohort).is_dir():
        raise InputError(f"--cohort={FLAGS.cohort}: no such folder; expected that of a cohort")


def _or_na(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.2f}"


def _one(options: "Options", mask: Path | None) -> int:
    from data_tools import file_names
    from data_tools.cohort import PerfusionFiles
    from data_tools.perfusion.patient_maps import kept_in_words, make_maps
    from data_tools.perfusion.record import QUALITY

    path, out = Path(FLAGS.series), Path(FLAGS.out)
    if FLAGS.dicom_series is not None and path.is_file():
        raise InputError(
            f"--dicom_series chooses among DICOM files in a folder, and --series={path} is one "
            "file; leave it out"
        )
    stem = re.sub("_(dsc|pwi)$", "", file_names.stem(path.name), flags=re.IGNORECASE)
    name = FLAGS.participant or stem.strip(".") or path.resolve().name
    with atomic.one_writer(out):
        try:
            made = make_maps(
                name,
                PerfusionFiles(series=path, artery=mask),
                out,
                maps_folder=out,
                options=options,
                overwrite=FLAGS.overwrite,
            )
        except InputError as error:
            known = atomic.read_json(out / QUALITY)
            if known.get("participant_id") != name:
                raise
            raise InputError(f"{error}\n{kept_in_words(known, options)}") from error
    _say(made.quality)
    print(f"{out}: {'done before' if made.kept else 'done'}")
    tmax = next(out.glob("*_Tmax.nii.gz"), out)
    command.next_steps(
        look_at=out / "qc.png",
        run=command.line("predict", given=("--dwi=...", "--adc=...", "--nihss=...", "--side=...",
                                           "--out=result"), tmax=tmax),
    )  # fmt: skip
    return command.EXIT_OK


def _say(quality: "PerfusionQuality") -> None:
    volumes = ", ".join(f"{ml:.0f} mL at {at} s" for at, ml in quality.tmax_volumes_ml.items())
    print(f"{quality.participant_id}: Tmax {volumes}")
    print(f"  {quality.convention.in_words()}; {quality.equivalence}")
    for warning in quality.warnings:
        print(f"warning: {quality.participant_id}: {warning}", file=sys.stderr)


def _cohort(options: "Options") -> int:
    from data_tools import flow
    from data_tools.perfusion.cohort_maps import make_cohort
    from data_tools.perfusion.record import NOT_EQUIVALENT
    from data_tools.runtime.patient_failure import all_alike, by_reason

    _check_cohort()
    out = FLAGS.out or FLAGS.cohort
    folder = Path(out, "derivatives", "perfusion")
    with atomic.one_writer(folder):
        atomic.sweep(folder)
        result = make_cohort(
            FLAGS.cohort,
            out,
            options=options,
            workers=command.workers(FLAGS),
            overwrite=FLAGS.overwrite,
        )
    kept = sum(each.kept for each in result.made)
    print(f"{counted(len(result.made), 'patient')} in {folder} ({kept} were done before)")
    if result.foreign:
        print(f"{len(result.foreign)} with a Tmax map of another program, left as it is")
    if result.without:
        print(f"{len(result.without)} without a raw perfusion series")
    if result.calibration:
        print(result.calibration)
    for made in result.made:
        for warning in made.quality.warnings:
            print(f"warning: {made.quality.participant_id}: {warning}", file=sys.stderr)
    for each in result.excluded:
        step = flow.STEPS[each.step]
        print(f"left out, {step}: {each.participant_id}: {each.reason}", file=sys.stderr)
    failures = {each.participant_id: each.reason for each in result.failed}
    for names, reason in by_reason(failures):
        print(f"failed: {names}: {reason}", file=sys.stderr)
    if alike := all_alike(failures, len(result.made) + len(failures)):
        print(alike, file=sys.stderr)
    if result.made and result.equivalence == NOT_EQUIVALENT:
        print(f"These maps are {NOT_EQUIVALENT}.")
    command.next_steps(
        look_at=folder / "qc.html",
        run=command.line("preprocess", cohort=FLAGS.cohort, out="mni") if result.made else None,
    )
    return command.EXIT_SOME_FAILED if failures else command.EXIT_OK


if __name__ == "__main__":
    sys.exit(command.run(main, FLAGS, __doc__))
