"""Bring an image of the MNI grid back to the patient's own space.

    python -m data_tools.to_native --cohort=MNI --participant=sub-0001 \\
        --image=mask_in_mni.nii.gz --like=RAW/sub-0001/dwi/sub-0001_dwi.nii.gz --out=mask.nii.gz

The way back of what data_tools.preprocess did: a mask edited or predicted on the MNI grid, or a
probability, on the grid of the patient's DWI. Masks (0 and 1) stay masks. Prints the volume on both
grids, in mL of the patient. Without --like the grid is that of the patient's DWI, also of one that
came as DICOM files.
"""

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
    from data_tools import mni_to_native

    command.check_name("participant", FLAGS.participant)
    brought = mni_to_native.bring(
        FLAGS.image,
        FLAGS.out,
        cohort=FLAGS.cohort,
        participant=FLAGS.participant,
        like=FLAGS.like,
    )
    if brought.warning:
        print(f"warning: {brought.warning}", file=sys.stderr)
    print(
        f"{FLAGS.out}: {'mask' if brought.is_mask else 'image'}; over 0.5: "
        f"{brought.native_ml:.2f} mL here, {brought.mni_ml:.2f} mL on the MNI grid"
    )
    command.next_steps(look_at=f"{FLAGS.out}, over {FLAGS.like or 'the DWI'}, in a NIfTI viewer")
    return command.EXIT_OK


if __name__ == "__main__":
    sys.exit(command.run(main, FLAGS, __doc__))
