"""MNI cohort -> five subsets of patients -> sharded TFRecords of slabs.

    python -m data_tools.build_records --cohort=MNI --out=records [--stride=4 --shards=4]

Reads participants.tsv and the volumes that data_tools.preprocess (or data_tools.simulate
--space=mni) wrote, makes the labels (Tmax >= 6 s united with ADC <= 620e-6 mm2/s, cleaned; a
supplied desc-hypoperfusion_mask wins), normalises, cuts slabs of 128 x 128 x 16 and writes them
with a manifest. The folder appears when all of it is written, not before; the same input gives
the same bytes. Patients without truth (no Tmax, no mask) are left out and named.
"""

import sys

from absl import flags

from data_tools.grid import SLAB_STRIDE
from data_tools.runtime import atomic, command
from data_tools.runtime.errors import counted

FLAGS = flags.FlagValues()

command.heading("Input", FLAGS)
flags.DEFINE_string(
    "cohort",
    None,
    "<FOLDER> MNI cohort: participants.tsv and sub-*/.",
    required=True,
    flag_values=FLAGS,
)

command.heading("Output", FLAGS)
flags.DEFINE_string("out", "records", "<FOLDER> Where the records go.", flag_values=FLAGS)
flags.DEFINE_bool(
    "overwrite",
    False,
    "Replace records of other patients or settings, or damaged ones.",
    flag_values=FLAGS,
)

command.heading("Slabs", FLAGS)
command.define_stride(FLAGS, SLAB_STRIDE, cut="slab")
flags.DEFINE_integer(
    "shards",
    4,
    "Files per subset. All slabs of a patient are in the same file.",
    lower_bound=1,
    flag_values=FLAGS,
)
flags.DEFINE_integer(
    "seed", 1, "Seed of the split into five subsets.", lower_bound=0, flag_values=FLAGS
)

command.heading("Machine", FLAGS)
command.define_workers(FLAGS, "Worker processes, one shard each.")


def main() -> int:
    """Run the command."""
    from data_tools import records_builder

    with atomic.one_writer(FLAGS.out):
        manifest, kept = records_builder.build(
            FLAGS.cohort,
            FLAGS.out,
            stride=FLAGS.stride,
            shards=FLAGS.shards,
            seed=FLAGS.seed,
            workers=command.workers(FLAGS),
            overwrite=FLAGS.overwrite,
        )
    state = "already built" if kept else "built"
    print(
        f"{FLAGS.out}: {state}, {counted(len(manifest.patients), 'patient')}, "
        f"{counted(manifest.slabs, 'slab')}"
    )
    for k, subset in enumerate(manifest.subsets):
        print(
            f"  subset {k}: {counted(len(subset.participants), 'patient')}, "
            f"{counted(subset.slabs, 'slab')}"
        )
    if manifest.without_truth:
        print(f"  left out, no Tmax and no mask: {', '.join(manifest.without_truth)}")
    return command.EXIT_OK


if __name__ == "__main__":
    sys.exit(command.run(main, FLAGS, __doc__))
