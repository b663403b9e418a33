"""Write a cohort of simulated stroke patients.

    python -m data_tools.simulate --out=runs/cohort --patients=20 --seed=1

writes a raw BIDS cohort (DWI, ADC, Tmax in native space, each patient's true transform and lesion
in derivatives/simulation); --space=mni writes the same patients on the MNI grid, as
data_tools.preprocess would, ready for data_tools.build_records. About 1.3 s a patient and core,
1.4 MB each. The same seed gives the same patients whatever --workers and --patients. An
interrupted run goes on where it was; damaged files are written again.

What the cohort looks like beside the published one:
    python -m data_tools.simulate.describe --cohort=runs/cohort      (of --space=mni)
"""

import sys

from absl import flags

from data_tools.runtime import command

FLAGS = flags.FlagValues()
flags.DEFINE_string(
    "out",
    None,
    "Folder to write to; new, or an earlier part of the same cohort.",
    flag_values=FLAGS,
    required=True,
)
flags.DEFINE_integer("patients", None, "How many, 1 to 9999.", flag_values=FLAGS, required=True)
flags.DEFINE_integer("seed", 2023, "Same seed, same patients.", flag_values=FLAGS)
flags.DEFINE_enum(
    "space",
    "native",
    ["native", "mni"],
    "As scanners give them, or as preprocessed.",
    flag_values=FLAGS,
)
flags.DEFINE_string(
    "lesions",
    None,
    "Folder of real core masks in MNI (.nii.gz, or a .tar of them) instead of grown cores.",
    flag_values=FLAGS,
)
flags.DEFINE_float("noise", 1.0, "Of DWI and ADC, times the usual.", flag_values=FLAGS)
flags.DEFINE_bool(
    "target_mismatch",
    False,
    "Only patients whose planned volumes are a target mismatch; they keep their numbers.",
    flag_values=FLAGS,
)
flags.DEFINE_integer("workers", 1, "Processes that share the work.", flag_values=FLAGS)


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
        noise=FLAGS.noise,
        target_mismatch=FLAGS.target_mismatch,
    )
    print(f"{FLAGS.patients} simulated patients ({FLAGS.space} space) in {out}")


if __name__ == "__main__":
    sys.exit(command.run(main, FLAGS, __doc__))
