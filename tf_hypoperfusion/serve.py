"""An embedded server with TensorFlow Serving's REST and gRPC interface, for a laptop or a test.

    python -m tf_hypoperfusion.serve --models=saved_models --port=8501
    curl http://127.0.0.1:8501/v1/models/hypoperfusion

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

from data_tools.runtime import command
from data_tools.runtime.errors import InputError

FLAGS = flags.FlagValues()
flags.DEFINE_string("models", "saved_models", "Folder of NAME/VERSION.", flag_values=FLAGS)
flags.DEFINE_string(
    "config", None, "models.config of TensorFlow Serving, in place of --models.", flag_values=FLAGS
)
flags.DEFINE_string("host", "127.0.0.1", "Address to listen on.", flag_values=FLAGS)
flags.DEFINE_integer("port", 8501, "Of REST; 0 takes a free one.", 0, 65535, flag_values=FLAGS)
flags.DEFINE_integer(
    "grpc_port", None, "Of gRPC; 0 takes a free one; not given: no gRPC.", 0, 65535,
    flag_values=FLAGS,
)  # fmt: skip
flags.DEFINE_float(
    "poll_s", 2.0, "Seconds between looks for new versions.", 0.1, flag_values=FLAGS
)  # fmt: skip
flags.DEFINE_integer("max_request_mb", 128, "Larger requests get 413.", 1, flag_values=FLAGS)
flags.DEFINE_integer("max_queue", 64, "More requests at once get 503.", 1, flag_values=FLAGS)
flags.DEFINE_string(
    "token_file", None, "File whose first line clients of REST and gRPC must send as bearer token.",
    flag_values=FLAGS,
)  # fmt: skip


def main() -> int:
    """Run the command."""
    from data_tools.runtime import tensorflow_start

    tensorflow_start.prepare()
    from tf_hypoperfusion.inference import rest_client

    try:
        from tf_hypoperfusion.serving.server import embedded, policies
    except ImportError as error:
        raise InputError(f"{error.name} is not installed; pip install -e '.[serve]'") from error
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    options = embedded.ServerOptions(
        host=FLAGS.host,
        port=FLAGS.port,
        grpc_port=FLAGS.grpc_port,
        poll_s=FLAGS.poll_s,
        max_request_bytes=FLAGS.max_request_mb * 2**20,
        max_queue=FLAGS.max_queue,
        token=rest_client.read_token(FLAGS.token_file) if FLAGS.token_file else None,
    )
    source = policies.ModelSource(FLAGS.config or FLAGS.models, is_config=bool(FLAGS.config))
    server = embedded.EmbeddedServer(source, options)
    server.start()
    if server.grpc_port is not None:
        print(f"gRPC on {FLAGS.host}:{server.grpc_port}", flush=True)
    print(
        f"REST on http://{FLAGS.host}:{server.port}/v1/models/{server.names()[0]} (process "
        f"{os.getpid()}; research use only)",
        flush=True,
    )
    if not server.run():  # a thread is inside TensorFlow, where Python's own end would abort
        sys.stdout.flush()
        os._exit(command.EXIT_OK)
    return command.EXIT_OK


if __name__ == "__main__":
    sys.exit(command.run(main, FLAGS, __doc__))
