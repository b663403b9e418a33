"""The paper's tables and figures, for your own evaluated cohort.

    python -m tf_hypoperfusion.report --patients=runs/NAME/patients.csv --out=runs/NAME/report
    ... --external=runs/NAME/external-OTHER/patients.csv   a second cohort beside the first
    ... --compare=runs/OTHER/patients.csv                  paired differences of two runs

Writes index.html (one page, no network), report.md, tables/*.csv, figures/*.png and *.svg, and
statistics.csv (every number unrounded, with the definition of quartiles and rank tests): the flow
of patients, Table 1 (who the patients are), Table 2 (target mismatch: model, DAWN rule and either,
exact McNemar), Table 3 (AUC, Dice, volumes by subgroup), shares of good Dice by core, concordance,
the core by networks and rule where networks answer with one, seconds per patient, operating curves,
reliability, examples. Curves and examples need thresholds.npz and evaluation/ beside patients.csv,
as python -m tf_hypoperfusion.evaluate leaves them; without them the report says so. Edited
segmentations are drawn if the MNI cohort that the records were built from, or that evaluate read
(--cohort, --external), lies where it was.
"""

import sys

from absl import flags

from data_tools.runtime import command

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
    return command.EXIT_OK


if __name__ == "__main__":
    sys.exit(command.run(main, FLAGS, __doc__))
