"""MNI cohort -> subsets of patients -> sharded TFRecords of slabs.

    python -m data_tools.build_records --cohort=MNI --out=records [--folds=5 --stride=4]
    python -m data_tools.build_records --cohort=MNI --out=records --leave_out=site
    python -m data_tools.build_records --cohort=MNI --out=records --splits=other/splits.json

Reads participants.tsv and the volumes that data_tools.preprocess (or data_tools.simulate
--space=mni) wrote, makes the labels (Tmax >= 6 s united with ADC <= 620e-6 mm2/s, cleaned; an
edited desc-hypoperfusion_mask takes the place of Tmax, a desc-truth_mask that of both), normalises,
cuts slabs of 128 x 128 x 16 and writes them with a manifest. The folder appears when all of it is
written, not before; the same input gives the same bytes. Patients without truth (no Tmax, no mask)
are left out and named, as are those whom you rejected in qc.html (qc_decisions.csv beside it).

Visits of a patient (sub-01_ses-1, sub-01_ses-2) and rows with the same word in the column group
stay in one subset. Every two patients are compared, and the same head under two names is refused:
the same images, or a copy that was moved, changed or mirrored. A table of the subsets is printed
before they are written.
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

command.heading("Subsets", FLAGS)
flags.DEFINE_integer("folds", None, "Number of subsets, 3 to 20 (default: 5).", flag_values=FLAGS)
flags.DEFINE_string(
    "stratify",
    None,
    "<WORDS> What the subsets share evenly: volume (of the lesion), side, or both (default: "
    "volume,side). none divides at random, as the paper does.",
    flag_values=FLAGS,
)
flags.DEFINE_enum(
    "leave_out",
    None,
    ["site"],
    "Each site is a subset: fold i tests on site i, in the order of their names.",
    flag_values=FLAGS,
)
flags.DEFINE_string(
    "splits",
    None,
    "<FILE> Divide as this table says: tab-separated, with the columns participant_id and subset "
    "(0, 1, 2...); or the splits.json of other records.",
    flag_values=FLAGS,
)
command.define_other_territories(FLAGS)
flags.DEFINE_integer("seed", 1, "Seed of the split.", lower_bound=0, flag_values=FLAGS)
flags.DEFINE_enum(
    "duplicates",
    "refuse",
    ["refuse", "together", "allow"],
    "What to do with patients who have the same head: refuse them, keep them together in one "
    "subset, or allow them with a warning.",
    flag_values=FLAGS,
)

command.heading("Machine", FLAGS)
command.define_workers(FLAGS, "Worker processes, one patient each.")


def main() -> int:
    """Run the command."""
    from data_tools import flow, groups, records_builder, subset_table

    with atomic.one_writer(FLAGS.out):
        manifest, kept = records_builder.build(
            FLAGS.cohort,
            FLAGS.out,
            stride=FLAGS.stride,
            shards=FLAGS.shards,
            seed=FLAGS.seed,
            folds=FLAGS.folds,
            table=FLAGS.splits,
            leave_out=FLAGS.leave_out,
            stratify=FLAGS.stratify,
            same_head=FLAGS.duplicates,
            other_territories=FLAGS.other_territories,
            workers=command.workers(FLAGS),
            overwrite=FLAGS.overwrite,
        )
    if kept:
        print(subset_table.table([manifest.rows_of([k]) for k in range(len(manifest.subsets))]))
    for warning in manifest.warnings:
        print(f"WARNING: {warning}", file=sys.stderr)
    state = "already built" if kept else "built"
    print(
        f"{FLAGS.out}: {state}, {groups.counted_patients(list(manifest.rows()))}, "
        f"{counted(manifest.slabs, 'slab')}"
    )
    for step, what in flow.STEPS.items():
        names = [each.participant_id for each in manifest.left_out if each.step == step]
        if names:
            print(f"  left out, {what}: {', '.join(names)}")
    command.next_steps(
        look_at=f"{FLAGS.out}/splits.json",
        run=command.line("train", fold=0, records=FLAGS.out, run="runs/mine"),
    )
    return command.EXIT_OK


if __name__ == "__main__":
    sys.exit(command.run(main, FLAGS, __doc__))
