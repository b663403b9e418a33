"""An embedded server with TensorFlow Serving's REST and gRPC interface, for a laptop or a test.

    python -m tf_hypoperfusion.serve --models=saved_models --port=8501
    curl http://127.0.0.1:8501/v1/models/hypoperfusion

Needs the extra: pip install -e '.[serve]'. Serves the newest version of every model in
the folder and loads new ones as they appear, without losing a request; --config takes TensorFlow
Serving's own models.config with versions and labels. It listens on this machine alone unless
--host says otherwise. In production TensorFlow Serving stands in its place (see serving/): same
folders, same requests. Research use only; not a medical device.
"""

import os
import sys

from absl import flags

from data_tools import command

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
flags.DEFINE_float("poll_s", 2.0, "Seconds between looks for new versions.", flag_values=FLAGS)
flags.DEFINE_integer("max_request_mb", 128, "Larger requests get 413.", 1, flag_values=FLAGS)
flags.DEFINE_integer("max_queue", 64, "More waiting requests get 503.", 1, flag_values=FLAGS)
flags.DEFINE_string(
    "token_file", None, "File whose first line clients must send as bearer token.",
    flag_values=FLAGS,
)  # fmt: skip


def main() -> int:
    """Run the command."""
    import contextlib
    import logging
    import signal
    import threading
    from pathlib import Path

    from data_tools import records  # noqa: F401  first, so that TensorFlow starts quietly
    from data_tools.errors import InputError

    try:
        import uvicorn

        from tf_hypoperfusion.server import grpc_service, repository, rest, runner
    except ImportError as error:
        raise InputError(f"{error.name} is not installed; pip install -e '.[serve]'") from error
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    token = None
    if FLAGS.token_file:
        token = Path(FLAGS.token_file).read_text().splitlines()[0].strip()
        if not token:
            raise InputError(f"{FLAGS.token_file}: its first line is empty; expected a token")
    if FLAGS.config:
        config = Path(FLAGS.config)
        repository.policies_of_config(config)  # refuse a bad file now

        def policies():
            return repository.policies_of_config(config)
    else:
        base = Path(FLAGS.models)
        if not base.is_dir():
            raise InputError(f"{base}: no such folder; expected that of tf_hypoperfusion.export")

        def policies():
            return repository.policies_of_folder(base)

    models = repository.Repository(policies)
    models.refresh()
    if not models.names():
        raise InputError(
            f"{FLAGS.config or FLAGS.models} holds no model that can be served; expected "
            "NAME/VERSION/saved_model.pb as python -m tf_hypoperfusion.export writes it"
        )
    stopping = threading.Event()

    def watch() -> None:
        while not stopping.wait(FLAGS.poll_s):
            try:
                models.refresh()
            except Exception:  # a folder that is being changed: look again later
                logging.exception("the models could not be looked at")

    threading.Thread(target=watch, daemon=True).start()
    work = runner.Runner(FLAGS.max_queue)
    limit = FLAGS.max_request_mb * 2**20
    grpc_server = None
    if FLAGS.grpc_port is not None:
        address = f"{FLAGS.host}:{FLAGS.grpc_port}"
        grpc_server, port = grpc_service.start(models, work, address, limit)
        print(f"gRPC on {FLAGS.host}:{port}", flush=True)
    app = rest.build_app(models, work, limit, token)

    class Server(uvicorn.Server):
        @contextlib.contextmanager
        def capture_signals(self):
            # uvicorn's own raises the signal again when all is answered, and the process would end
            # before the gRPC clients have their answers.
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, self.handle_exit)
            yield

    server = Server(
        uvicorn.Config(
            app, FLAGS.host, FLAGS.port, log_level="warning", timeout_graceful_shutdown=60,
            lifespan="off",
        )
    )  # fmt: skip
    sockets = [server.config.bind_socket()]
    port = sockets[0].getsockname()[1]
    print(
        f"REST on http://{FLAGS.host}:{port}/v1/models/{models.names()[0]} (process {os.getpid()}; "
        "research use only)",
        flush=True,
    )
    server.run(sockets)
    stopping.set()
    if grpc_server:
        grpc_server.stop(60).wait()
    work.close()
    return command.EXIT_OK


if __name__ == "__main__":
    sys.exit(command.run(main, FLAGS, __doc__))
