"""Write a cohort of simulated stroke patients.

    python -m data_tools.simulate --out=runs/cohort --patients=20 --seed=1

writes a raw BIDS cohort (DWI, ADC, Tmax in native space); --space=mni writes the same patients
on the MNI grid, as data_tools.preprocess would. An interrupted run goes on where it was.
"""

import sys

from absl import flags

from data_tools import command

FLAGS = flags.FlagValues()
flags.DEFINE_string("out", None, "Folder to write to.", flag_values=FLAGS, required=True)
flags.DEFINE_integer("patients", None, "How many.", flag_values=FLAGS, required=True)
flags.DEFINE_integer("seed", 2023, "Same seed, same patients.", flag_values=FLAGS)
flags.DEFINE_enum("space", "native", ["native", "mni"], "Space.", flag_values=FLAGS)
flags.DEFINE_string(
    "lesions", None, "Folder of real core masks in MNI, instead of grown cores.", flag_values=FLAGS
)
flags.DEFINE_integer("workers", 1, "Processes.", flag_values=FLAGS)


def main() -> None:
    """Simulate and say where it lies."""
    from data_tools import simulate

    out = simulate.simulate_cohort(
        FLAGS.out,
        FLAGS.patients,
        FLAGS.seed,
        space=FLAGS.space,
        workers=FLAGS.workers,
        lesions=FLAGS.lesions,
    )
    print(f"{FLAGS.patients} simulated patients ({FLAGS.space} space) in {out}")


if __name__ == "__main__":
    sys.exit(command.run(main, FLAGS, __doc__))
