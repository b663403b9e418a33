"""The paper's tables and figures, for your own evaluated cohort.

    python -m tf_hypoperfusion.report --patients=runs/NAME/patients.csv --out=runs/NAME/report
    ... --external=runs/NAME/external-OTHER/patients.csv   a second cohort beside the first
    ... --compare=runs/OTHER/patients.csv                  paired differences of two runs
    ... --dossier                                          checklists filled from the run

Writes index.html (one page, no network), report.md, tables/*.csv, figures/*.png and *.svg, and
statistics.csv (every number unrounded, with the definition of quartiles and rank tests): the flow
of patients, Table 1 (who the patients are), Table 2 (target mismatch: model, DAWN rule and either,
exact McNemar), Table 3 (AUC, Dice, volumes by subgroup), shares of good Dice by core, concordance,
the core by networks and rule where networks answer with one, seconds per patient, operating curves,
reliability, examples. Curves and examples need thresholds.npz and evaluation/ beside patients.csv,
as python -m tf_hypoperfusion.evaluate leaves them; without them the report says so. Edited
segmentations are drawn if the MNI cohort that the records were built from, or that evaluate read
(--cohort, --external), lies where it was.

--dossier writes OUT/dossier as well: CLAIM 2024 and TRIPOD+AI, each answer with the file and key it
came from and the rest as questions for the authors, the flow of patients, a datasheet of the data
and a bill of materials. A run that is not evaluated yet gets a dossier without a report.
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

from data_tools.runtime import command
from data_tools.runtime.errors import InputError

if TYPE_CHECKING:
    from tf_hypoperfusion.evaluation.report.patients import Patients

FLAGS = flags.FlagValues()

command.heading("Input", FLAGS)
flags.DEFINE_string(
    "patients", None, "<FILE> patients.csv of an evaluation.", required=True, flag_values=FLAGS
)
flags.DEFINE_string(
    "external",
    None,
    "<FILE> patients.csv of a second cohort, shown beside the first.",
    flag_values=FLAGS,
)
flags.DEFINE_string(
    "compare",
    None,
    "<FILE> patients.csv of another run on the same patients, for paired differences.",
    flag_values=FLAGS,
)

flags.DEFINE_string(
    "calibration",
    None,
    "<FILE> calibration.json of tf_hypoperfusion.calibrate: probabilities before and after, how "
    "often the interval of mL holds the truth, and what is right if the least sure are left out.",
    flag_values=FLAGS,
)

command.heading("Output", FLAGS)
flags.DEFINE_string(
    "out", None, "<FOLDER> Where the report goes.", required=True, flag_values=FLAGS
)

command.heading("Dossier", FLAGS)
flags.DEFINE_bool(
    "dossier",
    False,
    "Also write OUT/dossier: CLAIM 2024 and TRIPOD+AI filled from the run, flow of patients, "
    "datasheet and bill of materials.",
    flag_values=FLAGS,
)
flags.DEFINE_string(
    "records",
    None,
    "<FOLDER> Records that the run was trained on. Default: where the evaluation found them.",
    flag_values=FLAGS,
)
flags.DEFINE_string(
    "cohort",
    None,
    "<FOLDER> The cohort before data_tools.preprocess: its patients begin the flow.",
    flag_values=FLAGS,
)
flags.DEFINE_string(
    "model", None, "<FOLDER> Export of the run, for its model card.", flag_values=FLAGS
)

command.heading("Statistics", FLAGS)
flags.DEFINE_enum(
    "interval",
    "stata",
    ["stata", "wilson", "exact"],
    "Confidence intervals of proportions. stata is the paper's logit interval, wilson the score "
    "interval, exact Clopper-Pearson.",
    flag_values=FLAGS,
)
flags.DEFINE_enum(
    "statistics",
    "stata",
    ["stata", "scipy"],
    "Whose quartiles and Mann-Whitney U test. stata is summarize and ranksum, as the intervals are "
    "the paper's Stata's; scipy is numpy.percentile and scipy.stats.mannwhitneyu.",
    flag_values=FLAGS,
)
flags.DEFINE_integer("seed", 1, "Seed of the bootstrap.", lower_bound=0, flag_values=FLAGS)


def main() -> int:
    """Run the command."""
    patients_file = Path(FLAGS.patients)
    if patients_file.is_dir():
        patients_file /= "patients.csv"
    folders = {name: _folder(name) for name in ("records", "cohort", "model")}
    run = patients_file.parent
    if FLAGS.dossier and not any(run.glob("fold-*")):
        raise InputError(
            f"{run} has no folds (fold-0, fold-1...), which --dossier tells of; expected the "
            "folder of a run: --patients=RUN/patients.csv"
        )
    if FLAGS.dossier:
        _check_dossier()
    primary = None
    if patients_file.exists() or not FLAGS.dossier:
        primary = _report()
    else:
        print(
            f"{patients_file} is not there yet, so there is no report; the dossier says what is "
            "missing",
            file=sys.stderr,
        )
    if FLAGS.dossier:
        _dossier(run, primary, folders)
    models = ",".join(map(str, sorted(run.glob("fold-*/best.keras"))))
    command.next_steps(
        look_at=Path(FLAGS.out) / "dossier/index.html" if primary is None else
        Path(FLAGS.out) / "index.html",
        run=command.line("export", given=["--name=mine"], model=models) if models else None,
    )  # fmt: skip
    return command.EXIT_OK


def _check_dossier() -> None:
    """Refuse before the report is made what would be refused after it."""
    from tf_hypoperfusion.evaluation.dossier import page

    page.check_out(Path(FLAGS.out) / "dossier")


def _folder(name: str) -> Path | None:
    """A folder that a flag names."""
    said = FLAGS[name].value
    if said is None:
        return None
    if not FLAGS.dossier:
        raise InputError(f"--{name} is for the dossier only; expected --dossier with it")
    if not Path(said).is_dir():
        raise InputError(f"--{name}: {said} is not there; expected a folder")
    return Path(said)


def _report() -> "Patients":
    """Write the report; returns the patients that it is about."""
    from tf_hypoperfusion.evaluation.report import page, patients
    from tf_hypoperfusion.inference import calibration

    primary = patients.load(FLAGS.patients)
    external = patients.load(FLAGS.external) if FLAGS.external else None
    other = patients.load(FLAGS.compare) if FLAGS.compare else None
    made = calibration.read(FLAGS.calibration) if FLAGS.calibration else None
    index = page.write_report(
        FLAGS.out,
        primary,
        external=external,
        other=other,
        calibration=made,
        interval=FLAGS.interval,
        program=FLAGS.statistics,
        seed=FLAGS.seed,
    )
    if primary.simulated:
        print(f"WARNING: {page.SIMULATED_NOTICE}", file=sys.stderr)
    print(f"{primary.counted}: {index}")
    return primary


def _dossier(run: Path, primary: "Patients | None", folders: dict[str, Path | None]) -> None:
    from tf_hypoperfusion.evaluation.dossier import checklist, page, study

    out = Path(FLAGS.out)
    report = out if primary is not None else None
    facts = study.collect(study.located(run, report=report, **folders), primary)
    filled = page.write(out / "dossier", facts)
    for each, items in filled:
        found = checklist.tally(items)
        print(
            f"{each.name}: {found['answered']} of {len(items)} items answered, "
            f"{found['in part']} in part, {found['question']} for the authors"
        )
    if facts.absent:
        print(f"not found: {', '.join(name for name, _ in facts.absent)}")
    print(f"dossier: {out / 'dossier' / 'index.html'}")


if __name__ == "__main__":
    sys.exit(command.run(main, FLAGS, __doc__))
