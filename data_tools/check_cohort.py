"""Check a whole cohort, raw or in MNI space, and list every fault at once.

    python -m data_tools.check_cohort --cohort=DIR

Reads participants.tsv and every patient's files: present, readable, 3D, finite, DWI and ADC on one
grid, orientation known, voxel sizes and brain volume plausible, the unit of ADC (mm2/s, 1e-3 or
1e-6 mm2/s) found from the tissue, DWI and ADC not swapped, Tmax in seconds or a raw perfusion
series of which it can be made, NIHSS 0-42, side left, right, bilateral or unknown. A row is a
patient (sub-01) or a visit of one (sub-01_ses-1, in sub-01/ses-1/ or sub-01_ses-1/). The column
group, if there, names rows that belong together (one patient under two names, a family), the column
site where the images were made; both are words, n/a = none. A row with a reason in the column
exclude, or with an occlusion outside ICA and MCA, will be left out by preprocess: it is counted,
and its images are not read. Of what preprocess wrote it reads every volume and mask, transform,
warps, qc.json with each file's checksum, labels.json and left_out.json. Which kind it is, the
files' names say.

A clean cohort prints a summary and exits 0; otherwise a table of faults, exit 2.
"""

import sys
from pathlib import Path

from absl import flags

from data_tools.grid import SPACE
from data_tools.runtime import command, light_imports

FLAGS = flags.FlagValues()

command.heading("Input", FLAGS)
flags.DEFINE_string(
    "cohort",
    None,
    "<FOLDER> Cohort, raw or in MNI space: participants.tsv and sub-*/.",
    required=True,
    flag_values=FLAGS,
)

command.define_overrides(FLAGS, of_cohort=True)
command.define_other_territories(FLAGS)

command.heading("Machine", FLAGS)
flags.DEFINE_integer("workers", 1, "Worker processes that read patients.", flag_values=FLAGS)


def main() -> int:
    """Run the command."""
    light_imports.prepare_nibabel()
    from data_tools import cohort_faults

    summary = cohort_faults.check(
        FLAGS.cohort,
        FLAGS.workers,
        command.overrides(FLAGS),
        other_territories=FLAGS.other_territories,
    )
    print(summary)
    command.next_steps(run=_next())
    return command.EXIT_OK


def _next() -> str:
    if any(Path(FLAGS.cohort).glob(f"sub-*/*_space-{SPACE}_*")):
        return command.line("build-records", cohort=FLAGS.cohort, out="records")
    return command.line("preprocess", cohort=FLAGS.cohort, out="mni")


if __name__ == "__main__":
    sys.exit(command.run(main, FLAGS, __doc__))
