"""Set a simulated MNI cohort beside the published one: a table and a figure.

    python -m data_tools.simulate.describe --cohort=DIR [--out=DIR/description] [--beside=REAL]

DIR is a cohort of python -m data_tools.simulate --space=mni. Written are table.md, table.csv,
contrast.md, figure.png and patients.csv. contrast.md says how healthy tissue looks (grey against
white, unevenness, bright voxels) and sets other cohorts and real patients beside it. Everything is
measured on the images as for real patients; only the figures marked so are published, by Yu et
al., Radiology 2023;307(1):e220882 unless said otherwise.
"""

import sys

from absl import flags

from data_tools.runtime import command

FLAGS = flags.FlagValues()

command.heading("Input", FLAGS)
flags.DEFINE_string(
    "cohort", None, "<FOLDER> Simulated cohort in MNI space.", required=True, flag_values=FLAGS
)

flags.DEFINE_multi_string(
    "beside",
    [],
    "<FOLDER> To compare contrast with: another MNI cohort, or a folder with one patient's DWI and "
    "ADC map in native space, named so. May be given several times.",
    flag_values=FLAGS,
)

command.heading("Output", FLAGS)
flags.DEFINE_string(
    "out",
    None,
    "<FOLDER> Where the tables and the figure go. Without it, COHORT/description.",
    flag_values=FLAGS,
)

command.heading("Machine", FLAGS)
flags.DEFINE_integer("workers", 1, "Worker processes that measure patients.", flag_values=FLAGS)

FEW = 50


def main() -> None:
    """Describe, print the table, say where it lies."""
    from data_tools.simulate import contrast_table, description

    lines = description.describe(FLAGS.cohort, FLAGS.out, FLAGS.workers)
    contrasts = contrast_table.compare([FLAGS.cohort, *FLAGS.beside], FLAGS.workers)
    contrast_table.write(contrasts, description.folder_for(FLAGS.cohort, FLAGS.out))
    width = max(len(line.what) for line in lines)
    for what, published, simulated, met in [description.TITLES, *(line.cells for line in lines)]:
        print(f"{what:<{width}}  {published:<18} {simulated:<18} {met}")
    print("\nhealthy tissue, the half without the stroke; median (smallest to largest)")
    print(contrast_table.as_text(contrasts))
    if int(lines[0].simulated) < FEW:
        print(f"{lines[0].simulated} patients: shares and medians of so few say little")
    folder = description.folder_for(FLAGS.cohort, FLAGS.out)
    print(f"written to {folder}")
    command.next_steps(
        look_at=f"{folder}/figure.png",
        run=command.line("build-records", cohort=FLAGS.cohort, out="records"),
    )


if __name__ == "__main__":
    sys.exit(command.run(main, FLAGS, __doc__))
