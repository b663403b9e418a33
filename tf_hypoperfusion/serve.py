"""An embedded server with TensorFlow Serving's REST and gRPC interface, for a laptop or a test.

    python -m tf_hypoperfusion.serve --models=saved_models --port=8501
    curl http://127.0.0.1:8501/v1/models/hypoperfusion

Versions with a model.onnx are run by OpenVINO, and TensorFlow is not started; the others, and all
with --runtime=tensorflow, are run by TensorFlow. Requests and answers are the same.

Needs the extra: pip install -e '.[serve]'. Serves the newest version of every model in
the folder and loads new ones as they appear, without losing a request; --config takes TensorFlow
Serving's own models.config with versions and labels. It listens on this machine alone unless
--host says otherwise. In production TensorFlow Serving stands in its place (see serving/): same
folders, same requests. Research use only; not a medical device.
"""

import logging
import os
import sys

from absl import flags

from data_tools.runtime import command, light_imports, progress
from data_tools.runtime.errors import InputError

FLAGS = flags.FlagValues()

command.heading("Models", FLAGS)
flags.DEFINE_string(
    "models", "saved_models", "<FOLDER> Models, as NAME/VERSION.", flag_values=FLAGS
)
flags.DEFINE_string(
    "config",
    None,
    "<FILE> models.config of TensorFlow Serving, instead of --models.",
    flag_values=FLAGS,
)
flags.DEFINE_float(
    "poll_s",
    2.0,
    "<SECONDS> How often to look for new versions.",
    lower_bound=0.1,
    flag_values=FLAGS,
)
command.define_runtime(FLAGS)
command.define_precision(
    FLAGS,
    "Arithmetic; without it, each model's own. Not for a SavedModel in TensorFlow.",
    default=None,
)

command.define_allow_operations(FLAGS)

command.heading("Network", FLAGS)
flags.DEFINE_string("host", "127.0.0.1", "<ADDRESS> Address to listen on.", flag_values=FLAGS)
flags.DEFINE_integer("port", 8501, "REST port; 0 picks a free one.", 0, 65535, flag_values=FLAGS)
flags.DEFINE_integer(
    "grpc_port",
    None,
    "gRPC port; 0 picks a free one. Without it, there is no gRPC.",
    lower_bound=0,
    upper_bound=65535,
    flag_values=FLAGS,
)
flags.DEFINE_string(
    "token_file",
    None,
    "<FILE> Its first line is the bearer token that REST and gRPC clients must send.",
    flag_values=FLAGS,
)

flags.DEFINE_bool(
    "cors", False, "Let web pages of other origins ask, as browsers want it.", flag_values=FLAGS
)
flags.DEFINE_bool(
    "allow_reload",
    False,
    "Let gRPC clients choose the models (HandleReloadConfigRequest). Whoever may ask can then have "
    "any folder of this machine loaded: only with --token_file.",
    flag_values=FLAGS,
)

command.heading("Limits", FLAGS)
flags.DEFINE_integer(
    "max_request_mb",
    128,
    "Requests larger than this, also once decompressed, get status 413; where all together hold "
    "more than four times as much memory, one more gets 429.",
    lower_bound=1,
    flag_values=FLAGS,
)
flags.DEFINE_integer(
    "max_queue",
    64,
    "Requests beyond this many at once get status 429.",
    lower_bound=1,
    flag_values=FLAGS,
)
flags.DEFINE_float(
    "request_timeout_s",
    None,
    "<SECONDS> REST requests that take longer get status 504. Without it, as long as they take.",
    lower_bound=0.001,
    flag_values=FLAGS,
)


def main() -> int:
    """Run the command."""
    light_imports.prepare_nibabel()
    try:
        from tf_hypoperfusion.serving.server import embedded, policies
    except ImportError as error:
        raise InputError(f"{error.name} is not installed; pip install -e '.[serve]'") from error
    if FLAGS.allow_reload and not FLAGS.token_file:
        raise InputError(
            "--allow_reload is given without --token_file; expected both: whoever may ask can have "
            "any folder of this machine loaded"
        )
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    options = embedded.ServerOptions(
        host=FLAGS.host,
        port=FLAGS.port,
        grpc_port=FLAGS.grpc_port,
        poll_s=FLAGS.poll_s,
        max_request_bytes=FLAGS.max_request_mb * 2**20,
        max_queue=FLAGS.max_queue,
        token=_token(FLAGS.token_file) if FLAGS.token_file else None,
        timeout_s=FLAGS.request_timeout_s,
        cors=FLAGS.cors,
        allow_reload=FLAGS.allow_reload,
        allow_operations=FLAGS.allow_operations,
        runtime=FLAGS.runtime,
        precision=FLAGS.precision,
    )
    source = policies.ModelSource(FLAGS.config or FLAGS.models, is_config=bool(FLAGS.config))
    server = embedded.EmbeddedServer(source, options)
    with progress.doing("loading the models"):
        server.start()
    if server.grpc_port is not None:
        print(f"gRPC on {FLAGS.host}:{server.grpc_port}", flush=True)
    print(
        f"REST on http://{FLAGS.host}:{server.port}/v1/models/{server.names()[0]} (process "
        f"{os.getpid()}; research use only)",
        flush=True,
    )
    command.next_steps(
        look_at=f"http://{FLAGS.host}:{server.port}/v1/models/{server.names()[0]}",
        run=command.line(
            "serving-client", url=f"http://{FLAGS.host}:{server.port}", model=server.names()[0],
            given=("--dwi=...", "--adc=...", "--nihss=...", "--side=...", "--out=result"),
        ),
    )  # fmt: skip
    with progress.waiting():
        server.run()
    # All is answered and closed. Python's own end would abort where a thread is inside TensorFlow,
    # and may crash where OpenVINO has loaded models in several threads.
    sys.stdout.flush()
    logging.shutdown()
    os._exit(command.EXIT_OK)


def _token(path: str) -> str:
    from tf_hypoperfusion.inference import rest_client

    return rest_client.read_token(path)


if __name__ == "__main__":
    sys.exit(command.run(main, FLAGS, __doc__))
