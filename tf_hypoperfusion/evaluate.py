"""Predict and measure every patient of a run once, by the fold that never saw it.

    python -m tf_hypoperfusion.evaluate --run=runs/NAME --records=records
    python -m tf_hypoperfusion.evaluate --run=runs/NAME --records=records --cohort=MNI
    python -m tf_hypoperfusion.evaluate --run=runs/NAME --records=records --external=OTHER_MNI
    python -m tf_hypoperfusion.evaluate --run=runs/NAME --records=records --validation

Fold i's model predicts subset i; overlapping windows are averaged. The windows are those of the
records, or, with --cohort, are cut from the volumes that the records were built from. --external
averages all folds' models over an MNI cohort that none of them saw. --validation measures each
fold's validation patients: choose settings by them, so that the test patients stay unseen. A fold
of other software is measured alike: fold-N/model.onnx and its config.json in place of best.keras.

Writes patients.csv (one row a patient: clinical fields, mL, Dice, AUC, precision, recall, HD95,
surface Dice, DEFUSE 3 truth and prediction, DAWN), index.html (the same with pictures, to look at),
thresholds.npz (every other threshold follows from it), evaluation.json, and NIfTI maps under
evaluation/maps, into the run's folder, RUN/external-NAME or RUN/validation. Run again, it goes on;
what has not changed is kept, also of folds that were evaluated before. Tables and figures:
python -m tf_hypoperfusion.report --patients=runs/NAME/patients.csv --out=DIR

From Python, ``tf_hypoperfusion.evaluate(result, tmax=...)`` holds one patient's result against
what perfusion imaging showed.
"""

import sys
import types
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from absl import flags

from data_tools import flow
from data_tools.runtime import command
from data_tools.runtime.errors import InputError, counted
from tf_hypoperfusion import config

if TYPE_CHECKING:
    from pathlib import Path

    from tf_hypoperfusion.api import Result
    from tf_hypoperfusion.evaluation.patient_row import PatientRow
    from tf_hypoperfusion.inference.result import Comparison


class _CalledModule(types.ModuleType):
    """This module as the function ``hp.evaluate``, which its name would hide otherwise."""

    def __call__(self, result: "Result", **truth: Any) -> "Comparison":
        """:meth:`tf_hypoperfusion.api.Result.evaluate` of a result."""
        return result.evaluate(**truth)


sys.modules[__name__].__class__ = _CalledModule

FLAGS = flags.FlagValues()

command.heading("Input", FLAGS)
flags.DEFINE_string(
    "run", None, "<FOLDER> Run of tf_hypoperfusion.train.", required=True, flag_values=FLAGS
)
flags.DEFINE_string(
    "records", "records", "<FOLDER> Records written by data_tools.build_records.", flag_values=FLAGS
)
flags.DEFINE_string(
    "fold",
    "all",
    "<N|all|final> The number of a fold, or all that are trained; final with --external only.",
    flag_values=FLAGS,
)
flags.DEFINE_string(
    "cohort",
    None,
    "<FOLDER> MNI cohort that the records were built from. Without it, the records' windows are "
    "used.",
    flag_values=FLAGS,
)
flags.DEFINE_string(
    "external",
    None,
    "<FOLDER> MNI cohort that no fold has seen. The folds' models are averaged.",
    flag_values=FLAGS,
)
flags.DEFINE_bool(
    "validation",
    False,
    "Measure each fold's validation patients instead of its test patients, into RUN/validation.",
    flag_values=FLAGS,
)

command.define_other_territories(FLAGS, text="Used with --external.")

command.heading("Method", FLAGS)
command.define_stride(FLAGS, config.TEST_STRIDE, text="Used with --cohort or --external.")
flags.DEFINE_enum(
    "choose_threshold",
    None,
    ["val"],
    "Also choose each fold's threshold on its validation patients (highest mean Dice). The figures "
    "at 0.5 are kept.",
    flag_values=FLAGS,
)

command.heading("Output", FLAGS)
flags.DEFINE_bool(
    "maps",
    True,
    "Write probability, truth and DWI as NIfTI, pictures, and index.html.",
    flag_values=FLAGS,
)

command.heading("Machine", FLAGS)
command.define_workers(FLAGS, "Worker processes for measuring, alongside the network.")


def main() -> int:
    """Run the command."""
    from tf_hypoperfusion.evaluation import plan, run
    from tf_hypoperfusion.model import devices

    if FLAGS.cohort and FLAGS.external:
        raise InputError(
            "--cohort is the cohort trained on and --external one that no fold saw; give one"
        )
    if FLAGS.external and FLAGS.choose_threshold:
        raise InputError(
            "--choose_threshold needs validation patients; an external cohort has none"
        )
    if FLAGS.other_territories and not FLAGS.external:
        raise InputError(
            "--other_territories is of an external cohort; the patients of records are in or out "
            "as build_records was told. Give it to build_records, or with --external"
        )
    if FLAGS.validation and (FLAGS.external or FLAGS.choose_threshold):
        raise InputError(
            "--validation measures the patients that a threshold would be chosen on, and no "
            "external cohort; give it without --choose_threshold and --external"
        )
    devices.announce()
    done = run.evaluate(
        plan.Settings(
            run=FLAGS.run,
            records=FLAGS.records,
            fold=FLAGS.fold,
            cohort=FLAGS.cohort,
            external=FLAGS.external,
            stride=FLAGS.stride,
            workers=command.workers(FLAGS),
            maps=FLAGS.maps,
            choose_threshold=FLAGS.choose_threshold == "val",
            validation=FLAGS.validation,
            other_territories=FLAGS.other_territories,
        )
    )
    for warning in done.warnings:
        print(f"WARNING: {warning}", file=sys.stderr)
    who = "validation" if FLAGS.validation else "test"
    print(summary(done.rows, str(done.folder / "patients.csv"), who))
    took = done.seconds_per_patient
    print(f"  seconds a patient     network {took.network:.1f}, measuring {took.measure:.1f}")
    told = [name for name, each in done.left_out.items() if each.step != flow.FOLD]
    if told:
        print(f"{counted(len(told), 'patient')} left out:", file=sys.stderr)
        for name in sorted(told):
            print(f"  {name}: {_why(done.left_out[name])}", file=sys.stderr)
    _next_steps(done.folder)
    # The others were named by the steps before.
    failed = any(each.step == flow.EVALUATE for each in done.left_out.values())
    return command.EXIT_SOME_FAILED if failed else command.EXIT_OK


def _next_steps(folder: "Path") -> None:
    """A page to open; validation patients serve a calibration, others a report."""
    table = folder / "patients.csv"
    if FLAGS.validation:
        run = command.line("calibrate", patients=table, out=f"{FLAGS.run}/calibration.json")
    else:
        run = command.line("report", patients=table, out=folder / "report")
    command.next_steps(look_at=folder / "index.html" if FLAGS.maps else table, run=run)


def _why(left_out: flow.LeftOut) -> str:
    """The reason, and at which step before this one where it does not say so itself."""
    step = flow.STEPS[left_out.step]
    if left_out.step == flow.EVALUATE or left_out.reason == step:
        return left_out.reason
    return f"{step}: {left_out.reason}"


def summary(rows: "Sequence[PatientRow]", table: str, who: str = "test") -> str:
    """The figures of an evaluation as a person reads them in a terminal."""
    from tf_hypoperfusion.evaluation.report.table import counted_spread

    def median(values: Iterable[float | None]) -> str:
        return counted_spread([v for v in values if v is not None], 2)

    right = sum(row.true_target_mismatch == row.predicted_target_mismatch for row in rows)
    simulated = all(row.cohort == "simulated" for row in rows)
    lines = [
        f"{len(rows)} {'SIMULATED ' if simulated else ''}{who} patients: {table}",
        f"  Dice                  {median(row.dice for row in rows)}",
        f"  AUC                   {median(row.auc for row in rows)}",
        f"  volume difference mL  {median(row.volume_difference_ml for row in rows)}",
        f"  target mismatch       {right} of {len(rows)} right",
    ]
    chosen = [row.chosen for row in rows if row.chosen]
    if chosen:
        values = ", ".join(sorted({f"{figures.threshold:g}" for figures in chosen}))
        lines.append(f"  at thresholds chosen on validation patients ({values}):")
        lines.append(f"    Dice                {median(figures.dice for figures in chosen)}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(command.run(main, FLAGS, __doc__))
