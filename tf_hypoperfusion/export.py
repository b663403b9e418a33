"""Export trained networks as one SavedModel for TensorFlow Serving.

    python -m tf_hypoperfusion.export --model=runs/mine/fold-0/best.keras --name=hypoperfusion
    python -m tf_hypoperfusion.export --model=$(echo runs/mine/fold-*/best.keras | tr ' ' ,)

Several networks (five folds) become one model that averages them. Writes
saved_models/NAME/VERSION with three signatures (slabs, a patient's volumes, the same compressed),
model_card.json and .md, checksums.sha256 and warm-up requests. The folder appears when it is whole,
not before; versions only grow, so that a server may watch the place.

model.onnx beside them is the slab signature with each network apart, compared with the SavedModel
before it is kept. `predict --model=saved_models/NAME` runs it without TensorFlow, which starts
faster, and how far the networks agree is said. --noonnx leaves it out.
"""

import sys

from absl import flags

from data_tools.runtime import atomic, command
from tf_hypoperfusion import config

FLAGS = flags.FlagValues()

command.heading("Model", FLAGS)
flags.DEFINE_list(
    "model",
    None,
    "<FILE,...> best.keras of tf_hypoperfusion.train. Several, separated by commas, are averaged.",
    required=True,
    flag_values=FLAGS,
)
command.define_stride(FLAGS, config.TEST_STRIDE, text="Used in the signatures that take volumes.")
command.define_precision(
    FLAGS,
    "Arithmetic of the networks. bfloat16 is nearly twice as fast on CPUs with bfloat16 "
    "instructions. Weights and answers are float32.",
)

flags.DEFINE_string(
    "calibration",
    None,
    "<FILE> calibration.json of tf_hypoperfusion.calibrate, made with just these networks. Without "
    "it, that of their run, if it was.",
    flag_values=FLAGS,
)

command.heading("Output", FLAGS)
flags.DEFINE_string(
    "name", "hypoperfusion", "<NAME> Name of the model on the server.", flag_values=FLAGS
)
flags.DEFINE_string(
    "out", "saved_models", "<FOLDER> Folder that holds all models.", flag_values=FLAGS
)
flags.DEFINE_integer(
    "version",
    None,
    "Version of the model. Without it, one above the highest there.",
    lower_bound=1,
    upper_bound=2**63 - 1,
    flag_values=FLAGS,
)
flags.DEFINE_bool(
    "onnx",
    True,
    "Write model.onnx beside the SavedModel: what predict runs, without TensorFlow.",
    flag_values=FLAGS,
)
command.moved(["format"], "model.onnx is always written; --noonnx leaves it out", FLAGS)


def main() -> int:
    """Run the command."""
    from tf_hypoperfusion.inference import model_files
    from tf_hypoperfusion.serving import saved_model

    saved_model.check_name(FLAGS.name)
    for model in FLAGS.model:
        model_files.check_path(model)
    atomic.check_writable(FLAGS.out)
    with atomic.one_writer(f"{FLAGS.out}/{FLAGS.name}"):
        folder, kept = saved_model.export(
            FLAGS.model,
            FLAGS.name,
            FLAGS.out,
            version=FLAGS.version,
            stride=FLAGS.stride,
            onnx=FLAGS.onnx,
            precision=FLAGS.precision,
            calibration_file=FLAGS.calibration,
        )
    print(f"{folder}: {'already exported' if kept else 'exported'}")
    model = folder.parent
    print(f"serve  {command.line('serve', models=FLAGS.out, port=8501)}")
    command.next_steps(
        look_at=folder / "model_card.md",
        run=command.line(
            "predict", model=model,
            given=("--dwi=...", "--adc=...", "--nihss=...", "--side=...", "--out=result"),
        ),
    )  # fmt: skip
    return command.EXIT_OK


if __name__ == "__main__":
    sys.exit(command.run(main, FLAGS, __doc__, public=True))
