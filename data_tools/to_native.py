"""Bring an image of the MNI grid back to the patient's own space.

    python -m data_tools.to_native --cohort=MNI --participant=sub-0001 \\
        --image=mask_in_mni.nii.gz --like=RAW/sub-0001/dwi/sub-0001_dwi.nii.gz --out=mask.nii.gz

The way back of what data_tools.preprocess did: a mask edited or predicted on the MNI grid, or a
probability, on the grid of the patient's DWI. Masks (0 and 1) stay masks. Prints the volume on both
grids, in mL of the patient. Without --like the grid is that of the patient's DWI, also of one that
came as DICOM files.
"""

import re
import sys

from absl import flags

from data_tools.runtime import command

FLAGS = flags.FlagValues()

command.heading("Input", FLAGS)
for name, text in (
    ("cohort", "<FOLDER> MNI cohort written by data_tools.preprocess."),
    ("participant", "<NAME> The patient, such as sub-0001."),
    ("image", "<FILE> NIfTI on the MNI grid: a mask or a probability."),
):
    flags.DEFINE_string(name, None, text, required=True, flag_values=FLAGS)
flags.DEFINE_string(
    "like",
    None,
    "<FILE> NIfTI of the same session, whose grid is used. Without it, the DWI's grid is used.",
    flag_values=FLAGS,
)

command.heading("Output", FLAGS)
flags.DEFINE_string("out", None, "<FILE> File to write, .nii.gz.", required=True, flag_values=FLAGS)


def main() -> int:
    """Run the command."""
    from pathlib import Path

    import numpy as np

    from data_tools import mni_patient
    from data_tools.cohort import transform_file
    from data_tools.grid import patient_voxel_ml
    from data_tools.runtime import atomic
    from data_tools.runtime.errors import InputError
    from data_tools.volumes import Volume, load_volume, require_grid, save_volume

    if not FLAGS.out.endswith(".nii.gz"):
        raise InputError(f"--out is {FLAGS.out}; expected a name that ends in .nii.gz")
    if FLAGS.like and Path(FLAGS.out).exists() and Path(FLAGS.out).samefile(FLAGS.like):
        raise InputError(f"--out is --like itself, {FLAGS.like}; choose another name")
    both = Path(FLAGS.out).exists() and Path(FLAGS.image).exists()
    if both and Path(FLAGS.out).samefile(FLAGS.image):
        raise InputError(f"--out is --image itself, {FLAGS.image}; choose another name")
    named = re.match(r"sub-[A-Za-z0-9]+", Path(FLAGS.image).name)
    if named and named[0] != FLAGS.participant:
        raise InputError(
            f"--image {FLAGS.image} is named after {named[0]}, and --participant is "
            f"{FLAGS.participant}; expected the same patient"
        )
    if not transform_file(FLAGS.cohort, FLAGS.participant).is_file():
        raise InputError(
            f"{transform_file(FLAGS.cohort, FLAGS.participant)}: no such file; expected the folder "
            "of a patient that data_tools.preprocess wrote"
        )
    image = load_volume(FLAGS.image, "image", may_be_constant=True)
    data = require_grid(image, "image")
    known = atomic.read_json(Path(FLAGS.cohort) / FLAGS.participant / "qc.json")
    if "affine" not in known and not FLAGS.like:
        raise InputError(
            f"{FLAGS.cohort}/{FLAGS.participant}/qc.json does not say the grid of the patient's "
            "DWI; give --like, or run python -m data_tools.preprocess again"
        )
    own = None
    if "affine" in known:
        own = Volume(np.zeros(known["shape"], np.float32), np.array(known["affine"]), "the DWI")
    like = load_volume(FLAGS.like, "like") if FLAGS.like or own is None else own
    if own is not None and not like.same_grid(own):
        print(
            f"warning: {FLAGS.like} (shape {like.data.shape}, {like.orientation}) has another grid "
            f"than the DWI of {FLAGS.participant} (shape {own.data.shape}, {own.orientation}): "
            "right only for an image of the same session, and wrong for another patient's",
            file=sys.stderr,
        )
    transform = mni_patient.read_transform(FLAGS.cohort, FLAGS.participant)
    back = transform.back(data, like)
    is_mask = set(np.unique(data)) <= {0.0, 1.0}
    result = back > 0.5 if is_mask else back
    save_volume(FLAGS.out, result, like.affine, f"{FLAGS.participant}, from the MNI grid")
    inside, there = (data > 0.5).sum(), (back > 0.5).sum()
    print(
        f"{FLAGS.out}: {'mask' if is_mask else 'image'}; over 0.5: {there * like.voxel_ml:.2f} mL "
        f"here, {inside * patient_voxel_ml(transform.affine):.2f} mL on the MNI grid"
    )
    return command.EXIT_OK


if __name__ == "__main__":
    sys.exit(command.run(main, FLAGS, __doc__))
