"""Predict the hypoperfused region of one patient from DWI and ADC, and the target mismatch.

    python -m tf_hypoperfusion.predict --model=runs/mine/fold-0/best.keras \\
        --dwi=dwi.nii.gz --adc=adc.nii.gz --nihss=14 --side=left --age=66 --out=result
    python -m tf_hypoperfusion.predict --model=... --cohort=RAW --out=results

Without --model the demonstration model that comes with the software answers. It was trained on
SIMULATED patients only: it shows what a result looks like, and means nothing for a real patient.

Writes report.html, the page to read; on the DWI's own grid probability.nii.gz,
hypoperfusion_mask.nii.gz, core_mask.nii.gz and disagreement.nii.gz; result.json and overview.png.
The core is that of a rule of ADC and DWI, of the network where it answers with one (--core_by; it
then also writes core_probability.nii.gz), or a mask that is given (--core).
Several networks (--model=A,B,C, or those of an export) are averaged, and how far they agree is
said; a single one is asked about the mirror image too. Where they are calibrated
(tf_hypoperfusion.calibrate), an interval of mL is given, and the answer is yes, no, or unsure.
--cohort predicts every patient of a raw cohort (participants.tsv, sub-*) and writes index.html; run
again, it goes on. To ask a server, use tf_hypoperfusion.serving_client.

--side is the side of the brain lesion (right for weak left limbs); auto asks about either side,
takes the larger answer and says so. DWI is the b = 1000 trace image; ADC may be in mm2/s, 1e-3 or
1e-6 mm2/s (detected and reported). A model that was trained for it answers with a DWI or an ADC map
alone; the rule finds no core then, the
network's decides if it has one, and the answer is unsure.

Research use only. Not a medical device; not for clinical decisions.
"""

import sys

from absl import flags

from data_tools.runtime import command, light_imports
from tf_hypoperfusion import config

FLAGS = flags.FlagValues()

command.heading("Model", FLAGS)
flags.DEFINE_list(
    "model",
    None,
    "<PATH,...> best.keras files, SavedModel folders or model.onnx files, separated by commas. "
    "Without it, the demonstration model, trained on simulated patients only.",
    flag_values=FLAGS,
)
command.define_stride(FLAGS, None, text=f"(default: {config.TEST_STRIDE})")
command.define_runtime(FLAGS)
command.define_precision(
    FLAGS,
    "Arithmetic; without it, the model's own. bfloat16 is faster on machines with bfloat16 "
    "instructions, and moves the mask's edge a little. Not for a SavedModel in TensorFlow.",
    default=None,
)
flags.DEFINE_boolean(
    "fast",
    False,
    f"Compute less: --stride={config.FAST_STRIDE}, and --precision={config.FAST_PRECISION} where "
    "the processor multiplies it. 0.36 of the network's time, for less than 0.01 Dice with the "
    "truth of simulated patients; the mask itself moves more (Dice with the usual one 0.97, in two "
    "real patients 0.91 and 0.81). The result says so.",
    flag_values=FLAGS,
)
flags.DEFINE_string(
    "calibration",
    None,
    "<FILE> calibration.json of tf_hypoperfusion.calibrate, made with just these networks. Without "
    "it, that of an export, or of the run that all best.keras files lie in.",
    flag_values=FLAGS,
)
command.define_allow_operations(FLAGS)
command.define_patient(FLAGS, config.CORE_BY)
command.heading("Or a whole cohort", FLAGS)
flags.DEFINE_integer(
    "workers", 1,
    "Patients at once, each in a process of one core with its own copy of the networks (1 GiB).",
    lower_bound=1, flag_values=FLAGS,
)  # fmt: skip
command.moved(
    ["url", "served_name", "form", "token_file"],
    "ask a server with python -m tf_hypoperfusion.serving_client",
    FLAGS,
)


def main() -> int:
    """Run the command."""
    light_imports.prepare_nibabel()
    from tf_hypoperfusion.inference import cohort_prediction, model_backend, model_files

    request = command.patient_request(FLAGS)
    models = model_backend.Models(
        _chosen(),
        runtime=FLAGS.runtime,
        precision=FLAGS.precision,
        stride=FLAGS.stride,
        fast=FLAGS.fast,
        calibration_file=FLAGS.calibration,
        allow_operations=FLAGS.allow_operations,
    )
    models.announce_device()
    if FLAGS.model is None:
        print(
            f"no --model: {model_files.demo_model()} answers, trained on SIMULATED patients only",
            file=sys.stderr,
        )
    if request.cohort is None:  # all of whose patients may have been predicted before
        models.begin()
    return cohort_prediction.answer(request, models.connect, models.settings, FLAGS.workers)


def _chosen() -> list[str]:
    from data_tools.runtime.errors import InputError
    from tf_hypoperfusion.inference import model_files

    if FLAGS.model is None:
        return [str(model_files.demo_model())]
    if not FLAGS.model or not all(FLAGS.model):
        raise InputError("--model holds an empty name; expected --model=A or --model=A,B,C")
    return FLAGS.model


if __name__ == "__main__":
    sys.exit(command.run(main, FLAGS, __doc__))
