"""Write a cohort of simulated stroke patients.

    python -m data_tools.simulate --out=runs/cohort --patients=20 --seed=1

writes a raw BIDS cohort (DWI, ADC, Tmax in native space, each patient's true transform and lesion
in derivatives/simulation); --space=mni writes the same patients on the MNI grid, as
data_tools.preprocess would, and each true core beside them, ready for data_tools.build_records.
About 1 s per patient per processor core, 1.4 MB each. The same seed gives the same patients
whatever --workers and --patients. An interrupted run resumes; damaged files are written again.

--dsc writes raw perfusion series (4D, sub-*/perf/sub-*_dsc.nii.gz with its .json) in place of the
Tmax maps; the true Tmax and vessels go to derivatives/simulation. About 10 s and 15 MB more each.
With --files=dicom the series is the scanner's: one enhanced file, sub-*/dicom/sub-*_dsc.dcm.

What the cohort looks like beside the published one:
    python -m data_tools.simulate.describe --cohort=runs/cohort      (of --space=mni)

--heads=TABLE --space=mni paints the strokes into real heads: their own tissue, noise and
artefacts with a known truth. The table (tab-separated) has a line for each head: head (a name),
dwi, adc, side (of the lesion it has: the stroke comes to the other side; n/a: none), and, if there
are, b0 and lesion (a mask of it, which then does not count). The heads take turns, each time a
little bent, and mirrored every second time. What is written shows real people.

--layout=spes, isles2016, isles2017 or isles2022 writes the patients as that public data set has
its files, with all of their quirks, to try data_tools.import_public: folders, names, formats,
orientations. What is true of them lies in OUT/truth. Of ISLES 2016 two patients in three are those
of 2017. Only --seed, --workers and the flags under Layout go with it.

--shift changes one thing, to see whether a network stands it (python -m benchmarks.shifts):
"""

import sys

from absl import flags

from data_tools.runtime import command
from data_tools.runtime.errors import InputError
from data_tools.simulate import simulate_cohort, write_layout
from data_tools.simulate.shifts import listed

FLAGS = flags.FlagValues()

command.heading("Output", FLAGS)
flags.DEFINE_string(
    "out",
    None,
    "<FOLDER> Where the cohort goes: a new folder, or an earlier part of the same cohort.",
    required=True,
    flag_values=FLAGS,
)
flags.DEFINE_enum(
    "space",
    "native",
    ["native", "mni"],
    "Images as scanners give them, or as preprocessed.",
    flag_values=FLAGS,
)

flags.DEFINE_bool(
    "dsc",
    False,
    "Raw perfusion series instead of Tmax maps, native space only. TR, TE, noise, motion, slice "
    "order and bolus are drawn for each patient.",
    flag_values=FLAGS,
)
flags.DEFINE_enum(
    "files", "nifti", ["nifti", "dicom"], "Of the perfusion series.", flag_values=FLAGS
)

command.heading("Patients", FLAGS)
flags.DEFINE_integer(
    "patients", None, "How many patients, 1 to 9999.", required=True, flag_values=FLAGS
)
flags.DEFINE_integer("seed", 2023, "The same seed gives the same patients.", flag_values=FLAGS)
flags.DEFINE_string(
    "lesions",
    None,
    "<FOLDER> Real core masks in MNI space (.nii.gz files, or a .tar of them) instead of grown "
    "cores.",
    flag_values=FLAGS,
)
flags.DEFINE_string(
    "heads",
    None,
    "<FILE> Table of real heads, into which the strokes are painted; see above.",
    flag_values=FLAGS,
)
flags.DEFINE_string(
    "look",
    "first",
    "<NAME> Tissue contrast, scanner and preparation: first: one for all patients, with which the "
    "published results were made; wide: drawn for each, as wide as real heads differ and wider, "
    "a sixth of the patients with strokes that leave nothing to be saved. Several, as in "
    "wide,wide,first, take turns.",
    flag_values=FLAGS,
)
flags.DEFINE_string(
    "shift",
    None,
    "<NAME> One thing that is otherwise than in that look, everything else as it was; the names "
    "are listed above.",
    flag_values=FLAGS,
)
flags.DEFINE_float(
    "noise", 1.0, "Noise in DWI and ADC, as a multiple of the look's.", flag_values=FLAGS
)
flags.DEFINE_bool(
    "target_mismatch",
    False,
    "Only patients whose planned volumes are a target mismatch. They keep their numbers.",
    flag_values=FLAGS,
)

command.heading("Layout", FLAGS)
flags.DEFINE_enum(
    "layout",
    None,
    ["spes", "isles2016", "isles2017", "isles2022"],
    "Write the layout of a public data set in place of a cohort.",
    flag_values=FLAGS,
)
flags.DEFINE_integer(
    "testing", 0, "How many of the patients are in its testing folder.", flag_values=FLAGS
)
flags.DEFINE_integer(
    "coarser",
    1,
    "Voxels so many times as large as those of the data set, 1 to 6, for tests.",
    flag_values=FLAGS,
)
flags.DEFINE_bool("zip", False, "Also pack each folder into a zip file.", flag_values=FLAGS)

command.heading("Machine", FLAGS)
flags.DEFINE_integer("workers", 1, "Worker processes that share the patients.", flag_values=FLAGS)


def main() -> None:
    """Simulate and say where it lies."""
    if FLAGS.layout is not None:
        _layout()
        return
    _refuse(_OF_LAYOUTS, "only with --layout")
    out = simulate_cohort(
        FLAGS.out,
        FLAGS.patients,
        FLAGS.seed,
        space=FLAGS.space,
        workers=FLAGS.workers,
        lesions=FLAGS.lesions,
        noise=FLAGS.noise,
        target_mismatch=FLAGS.target_mismatch,
        look=FLAGS.look,
        shift=FLAGS.shift,
        heads=FLAGS.heads,
        dsc=FLAGS.dsc,
        files=FLAGS.files,
    )
    what = "simulated strokes in real heads" if FLAGS.heads else "simulated patients"
    print(f"{FLAGS.patients} {what} ({FLAGS.space} space) in {out}")
    if FLAGS.space == "mni":
        run = command.line("build-records", cohort=FLAGS.out, out="records")
    else:
        run = command.line("perfusion" if FLAGS.dsc else "check-cohort", cohort=FLAGS.out)
    command.next_steps(look_at=f"{FLAGS.out}/participants.tsv", run=run)


_OF_LAYOUTS = ("testing", "coarser", "zip")
_OF_COHORTS = (
    "space", "dsc", "files", "lesions", "heads", "look", "shift", "noise", "target_mismatch"
)  # fmt: skip


def _layout() -> None:
    _refuse(_OF_COHORTS, "of no use with --layout, which has images of its own")
    folder = write_layout(
        FLAGS.out,
        FLAGS.layout,
        FLAGS.patients,
        FLAGS.seed,
        testing=FLAGS.testing,
        coarser=FLAGS.coarser,
        zipped=FLAGS.zip,
        workers=FLAGS.workers,
    )
    print(f"{FLAGS.patients} simulated patients in the layout {FLAGS.layout} in {folder}")
    command.next_steps(
        look_at=f"{FLAGS.out}/README",
        run=command.line("import-public", source=folder, out="cohort"),
    )


def _refuse(names: tuple[str, ...], why: str) -> None:
    given = [f"--{name}" for name in names if FLAGS[name].present]
    if given:
        raise InputError(f"{', '.join(given)}: {why}; leave out what is not needed")


if __name__ == "__main__":
    sys.exit(command.run(main, FLAGS, (__doc__ or "") + listed()))
