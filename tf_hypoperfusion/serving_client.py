"""Ask a server for one patient's result: the same folder as tf_hypoperfusion.predict.

    python -m tf_hypoperfusion.serving_client --url=http://127.0.0.1:8501 --model=stroke \\
        --dwi=dwi.nii.gz --adc=adc.nii.gz --nihss=14 --side=left --age=66 --out=result

Registers the images here and sends the volumes on the MNI grid; the server normalises, predicts and
answers; the way back to the patient's own space is done here. Works without TensorFlow. Busy or
restarting servers are asked again, with growing pauses. --side is the side of the brain lesion.

Research use only. Not a medical device; not for clinical decisions.
"""

import sys

from absl import flags

from data_tools.runtime import command
from tf_hypoperfusion import config

FLAGS = flags.FlagValues()

command.heading("Server", FLAGS)
flags.DEFINE_string(
    "url",
    "http://127.0.0.1:8501",
    "<URL> Address of TensorFlow Serving or tf_hypoperfusion.serve.",
    flag_values=FLAGS,
)
flags.DEFINE_string(
    "model",
    "hypoperfusion",
    "<NAME> Name of the model on the server; or NAME/versions/3, or NAME/labels/canary.",
    flag_values=FLAGS,
)
flags.DEFINE_enum(
    "form",
    "bytes",
    ["bytes", "volume", "slabs"],
    "What is sent: compressed volumes (1 MB), or volumes or windows as JSON.",
    flag_values=FLAGS,
)
command.define_stride(
    FLAGS,
    None,
    text="Only with --form=slabs; the server has its own for volumes. "
    f"(default: {config.TEST_STRIDE})",
)
flags.DEFINE_string(
    "token_file", None, "<FILE> Its first line is the server's bearer token.", flag_values=FLAGS
)
command.define_patient(FLAGS, config.CORE_BY)
command.moved(["served_name"], "give the name of the model as --model", FLAGS)


def main() -> int:
    """Run the command."""
    from tf_hypoperfusion.inference import cohort_prediction, rest_client, result_folder

    request = command.patient_request(FLAGS)

    def connect() -> result_folder.Backend:
        return rest_client.backend(
            FLAGS.url,
            FLAGS.model,
            form=FLAGS.form,
            stride=FLAGS.stride,
            token_file=FLAGS.token_file,
        )

    # The server may change its model at any time, so no older result of a cohort is kept.
    return cohort_prediction.answer(request, connect, lambda: None)


if __name__ == "__main__":
    sys.exit(command.run(main, FLAGS, __doc__))
