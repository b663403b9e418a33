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
from typing import Any

from absl import flags

from data_tools.runtime import command

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

command.heading("Limits", FLAGS)
flags.DEFINE_integer(
    "max_request_mb",
    128,
    "Requests larger than this get status 413.",
    lower_bound=1,
    flag_values=FLAGS,
)
flags.DEFINE_integer(
    "max_queue",
    64,
    "Requests beyond this many at once get status 503.",
    lower_bound=1,
    flag_values=FLAGS,
)
# Kubernetes kills 30 s after it asked.
STOP_S = 20


def main() -> int:
    """Run the command."""
    import contextlib
    import logging
    import signal
    import threading
    from pathlib import Path

    from data_tools.runtime import tensorflow_start

    tensorflow_start.prepare()
    from data_tools.runtime.errors import InputError
    from tf_hypoperfusion.inference import rest_client

    try:
        import uvicorn

        from tf_hypoperfusion.serving.server import grpc_service, repository, rest, runner
    except ImportError as error:
        raise InputError(f"{error.name} is not installed; pip install -e '.[serve]'") from error
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    token = rest_client.read_token(FLAGS.token_file) if FLAGS.token_file else None
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

    listening = _listen(FLAGS.host, FLAGS.port)  # before the models, which take a while
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

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    work = runner.Runner(FLAGS.max_queue)
    limit = FLAGS.max_request_mb * 2**20
    grpc_server = None
    if FLAGS.grpc_port is not None:
        address = f"{FLAGS.host}:{FLAGS.grpc_port}"
        grpc_server, port = grpc_service.start(models, work, address, limit, token)
        print(f"gRPC on {FLAGS.host}:{port}", flush=True)
    app = rest.build_app(models, work, limit, FLAGS.max_queue, token)

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
            app, FLAGS.host, FLAGS.port, log_level="warning", timeout_graceful_shutdown=STOP_S,
            lifespan="off",
        )
    )  # fmt: skip
    port = listening.getsockname()[1]
    # Or who reads the next line and asks at once would be refused.
    listening.listen(server.config.backlog)
    print(
        f"REST on http://{FLAGS.host}:{port}/v1/models/{models.names()[0]} (process {os.getpid()}; "
        "research use only)",
        flush=True,
    )
    server.run([listening])
    stopping.set()
    if grpc_server:
        grpc_server.stop(STOP_S).wait()
    work.close()
    watcher.join(STOP_S / 4)
    if watcher.is_alive():  # inside TensorFlow, loading: Python's own end would abort there
        sys.stdout.flush()
        os._exit(command.EXIT_OK)
    return command.EXIT_OK


def _listen(host: str, port: int) -> Any:
    import socket

    from data_tools.runtime.errors import InputError

    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.set_inheritable(True)
        return listening
    except OSError as error:
        raise InputError(
            f"cannot listen on {host}, port {port} ({error.strerror or error}); expected an "
            "address of this machine and a free port: choose --host or --port, or 0 for any"
        ) from error


if __name__ == "__main__":
    sys.exit(command.run(main, FLAGS, __doc__))
