"""Predict the hypoperfused region of one patient from DWI and ADC, and the target mismatch.

    python -m tf_hypoperfusion.predict --model=runs/mine/fold-0/best.keras \\
        --dwi=dwi.nii.gz --adc=adc.nii.gz --nihss=14 --side=left --age=66 --out=result
    python -m tf_hypoperfusion.predict --model=... --cohort=RAW --out=results

Without --model the demonstration model that comes with the software answers. It was trained on
SIMULATED patients only: it shows what a result looks like, and means nothing for a real patient.

Writes report.html, the page to read; on the DWI's own grid probability.nii.gz,
hypoperfusion_mask.nii.gz, core_mask.nii.gz and disagreement.nii.gz; result.json and overview.png.
Several models (--model=A,B,C) are averaged, and how far they agree is said; a single one is asked
about the mirror image too. --cohort predicts every patient of a raw cohort (participants.tsv,
sub-*) and writes index.html; run again, it goes on. To ask a server,
use tf_hypoperfusion.serving_client.

--side is the side of the brain lesion (right for weak left limbs). DWI is the b = 1000 trace
image; ADC may be in mm2/s, 1e-3 or 1e-6 mm2/s (detected and reported).

Research use only. Not a medical device; not for clinical decisions.
"""

import dataclasses
import sys

from absl import flags

from data_tools.runtime import command
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
command.define_precision(
    FLAGS,
    "Arithmetic for best.keras models. bfloat16 is faster on machines with bfloat16 "
    "instructions, and moves the mask's edge a little.",
)
command.define_patient(FLAGS)
command.moved(
    ["url", "served_name", "form", "token_file"],
    "ask a server with python -m tf_hypoperfusion.serving_client",
    FLAGS,
)


def main() -> int:
    """Run the command."""
    from tf_hypoperfusion.inference import cohort_prediction

    request = command.patient_request(FLAGS)
    _check_models()
    return cohort_prediction.answer(request, _models, _settings)


def _settings() -> str:
    """What a result depends on besides the patient."""
    from tf_hypoperfusion.inference import model_files

    return repr(
        [
            [model_files.describe(path).sha256 for path in _chosen()],
            FLAGS.stride,
            FLAGS.precision,
        ]
    )


def _check_models() -> None:
    """Before anything is read: a mistyped path should not cost half a minute."""
    from data_tools.runtime.errors import InputError
    from tf_hypoperfusion.inference import model_files

    if not all(_chosen()):
        raise InputError("--model holds an empty name; expected --model=A or --model=A,B,C")
    for path in _chosen():
        model_files.check_undamaged(path)
    if FLAGS.model is None:
        print(
            f"no --model: {model_files.DEMO_MODEL} answers, trained on SIMULATED patients only",
            file=sys.stderr,
        )


def _chosen() -> list[str]:
    from tf_hypoperfusion.inference import model_files

    if FLAGS.model is None:
        return [str(model_files.demo_model())]
    return FLAGS.model or [""]


def _models():
    from tf_hypoperfusion.inference import model_files, prediction, predictors, result_folder

    found = [model_files.describe(path) for path in _chosen()]
    stride = FLAGS.stride or config.TEST_STRIDE
    answers = [
        prediction.volume_predictor(predictors.load_predictor(model.path, FLAGS.precision), stride)
        for model in found
    ]
    known = [
        dataclasses.replace(
            model, precision=FLAGS.precision if model.path.endswith(".keras") else "its own"
        )
        for model in found
    ]
    return result_folder.Backend(answers, lambda: known, stride)


if __name__ == "__main__":
    sys.exit(command.run(main, FLAGS, __doc__))
