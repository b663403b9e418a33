"""Make a model's probabilities honest on validation patients, and find its interval of mL.

    python -m tf_hypoperfusion.evaluate --run=runs/NAME --records=records --validation
    python -m tf_hypoperfusion.calibrate --patients=runs/NAME/validation/patients.csv \\
        --out=runs/NAME/calibration.json
    python -m tf_hypoperfusion.export --model=... --calibration=runs/NAME/calibration.json

Reads what an evaluation keeps; no network is asked. Two numbers turn the networks' average
probability into one that is as often right as it says, and a third says where to cut it for volumes
that are right on average; the errors of the patients' volumes give an
interval that holds the true volume of a stated share of such patients. predict then says yes, no,
or that perfusion imaging would tell. An external cohort that no fold saw serves too, and better: it
is the average that answers there, as in predict (evaluate --external; patients.csv of several,
separated by commas).

What comes of it is printed: each fifth of the patients by the calibration of the other four. How it
does on other patients: python -m tf_hypoperfusion.report --calibration=FILE. The stated coverage is
that of patients like these; of others it is less.
"""

import sys

from absl import flags

from data_tools.runtime import atomic, command
from data_tools.runtime.errors import InputError

FLAGS = flags.FlagValues()

command.heading("Input", FLAGS)
flags.DEFINE_list(
    "patients",
    None,
    "<FILE,...> patients.csv of evaluations of the same networks, with thresholds.npz beside it.",
    required=True,
    flag_values=FLAGS,
)

command.heading("Method", FLAGS)
flags.DEFINE_float(
    "coverage",
    0.9,
    "Share of patients whose true volume the interval is to hold.",
    lower_bound=0.5,
    upper_bound=0.99,
    flag_values=FLAGS,
)

command.heading("Output", FLAGS)
flags.DEFINE_string(
    "out",
    None,
    "<FILE> Where the calibration goes: calibration.json in a run is found there by predict.",
    required=True,
    flag_values=FLAGS,
)


def main() -> int:
    """Run the command."""
    from pathlib import Path

    from tf_hypoperfusion.evaluation import calibrating
    from tf_hypoperfusion.evaluation.report import figures, patients

    out = Path(FLAGS.out)
    if out.is_dir() or out.suffix != ".json":
        raise InputError(f"--out is {out}; expected the name of a .json file")
    atomic.check_writable(out.parent)
    cohorts = [patients.load(path) for path in FLAGS.patients]
    made = calibrating.fit(cohorts, FLAGS.coverage)
    atomic.write_json(out, made.to_json())
    if made.by == calibrating.FOLD:
        print(
            "WARNING: each fold answered about its own patients; the average of the folds, which "
            "predict gives, may be surer or less sure than that",
            file=sys.stderr,
        )
    if not made.familiar:
        print(
            "WARNING: the evaluation kept nothing of the images, so that unusual ones will not be "
            "known; evaluate again",
            file=sys.stderr,
        )
    moved, held = calibrating.crossed(cohorts, FLAGS.coverage)
    before = figures.calibration_from(
        [count for cohort in cohorts for count in cohort.counts or []]
    )
    low, high = (float(end) for end in made.interval_ml(50.0))
    print(f"{len(made.root_errors)} patients: {out}")
    print(
        f"  slope {made.slope:.3f}, intercept {made.intercept:.3f} of the logit; cut at {made.cut}"
    )
    print(f"  calibration error (p >= 0.1)   {_words(before)}, crossing fifths "
          f"{_words(figures.calibration_from(moved))}")  # fmt: skip
    print(f"  interval of 50 mL              {low:.0f} to {high:.0f} mL, crossing fifths it holds "
          f"the truth in {held:.0%}")  # fmt: skip
    models = ",".join(map(str, sorted(out.parent.glob("fold-*/best.keras"))))
    command.next_steps(
        look_at=out,
        run=command.line("export", model=models or "...", calibration=out, name="mine"),
    )
    return command.EXIT_OK


def _words(error: float | None) -> str:
    return "n/a" if error is None else f"{error:.3f}"


if __name__ == "__main__":
    sys.exit(command.run(main, FLAGS, __doc__, public=True))
