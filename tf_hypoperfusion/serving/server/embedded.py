"""The server itself: models that follow their folders, asked over REST, and over gRPC if wanted."""

import contextlib
import dataclasses
import logging
import signal
import socket
import threading
from typing import Any

import uvicorn

from data_tools.runtime.errors import InputError
from tf_hypoperfusion.serving.server.http_protocol import TimedProtocol
from tf_hypoperfusion.serving.server.policies import ModelSource
from tf_hypoperfusion.serving.server.repository import Repository
from tf_hypoperfusion.serving.server.rest import RestApi
from tf_hypoperfusion.serving.server.runner import Runner

# Kubernetes kills 30 s after it asked.
STOP_S = 20
log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ServerOptions:
    """Where a server listens, and its limits.

    Attributes:
        host: address of this machine.
        port: of REST; 0 takes a free one.
        grpc_port: 0 takes a free one; None: no gRPC.
        poll_s: seconds between looks for new versions.
        max_request_bytes: larger requests are refused.
        max_queue: more requests at once are refused.
        token: that clients must send; None asks for none.
        runtime: what runs the networks, one of :data:`predictors.RUNTIMES`.
        precision: of their arithmetic; None takes each model's own.
    """

    host: str
    port: int
    grpc_port: int | None
    poll_s: float
    max_request_bytes: int
    max_queue: int
    token: str | None
    runtime: str = "auto"
    precision: str | None = None


class EmbeddedServer:
    """Models over REST and gRPC: :meth:`start`, then :meth:`run` until it is stopped.

    Args:
        source: where the models are.
        options: where it listens, and its limits.

    Attributes:
        port: of REST, once started.
        grpc_port: None without gRPC.
    """

    def __init__(self, source: ModelSource, options: ServerOptions):
        self.port, self.grpc_port = options.port, options.grpc_port
        self._source, self._options = source, options
        self._repository = Repository(
            source.policies, runtime=options.runtime, precision=options.precision
        )
        self._runner = Runner(options.max_queue)
        self._stopping = threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._grpc: Any = None
        self._sockets: list[socket.socket] = []
        rest = RestApi(
            self._repository,
            self._runner,
            max_request_bytes=options.max_request_bytes,
            max_requests=options.max_queue,
            token=options.token,
        )
        self._web = _WebServer(
            uvicorn.Config(
                rest.app(),
                http=TimedProtocol,
                log_config=None,  # uvicorn's own closes every handler of the process
                log_level="warning",
                timeout_graceful_shutdown=STOP_S,
                lifespan="off",
            )
        )

    def names(self) -> list[str]:
        """Models with a version that answers."""
        return self._repository.names()

    def start(self) -> None:
        """Take the ports and load the models; clients that ask from now on wait for :meth:`run`.

        Raises:
            InputError: no model that can be served, or an address that cannot be listened on.
        """
        try:
            self._start()
        except BaseException:
            self._close()
            raise

    def _start(self) -> None:
        options = self._options
        self._source.check()
        listening = _listen(options.host, options.port)  # before the models, which take a while
        self._sockets.append(listening)
        self._repository.refresh()
        if not self.names():
            raise InputError(
                f"{self._source.path} holds no model that can be served; expected "
                "NAME/VERSION/saved_model.pb as python -m tf_hypoperfusion.export writes it"
            )
        self._watcher.start()
        if options.grpc_port is not None:
            from tf_hypoperfusion.serving.server import grpc_service

            self._grpc, self.grpc_port = grpc_service.start(
                self._repository,
                self._runner,
                f"{options.host}:{options.grpc_port}",
                max_request_bytes=options.max_request_bytes,
                token=options.token,
            )
        # Or who is told the port and asks at once would be refused.
        listening.listen(self._web.config.backlog)
        self.port = listening.getsockname()[1]

    def run(self) -> bool:
        """Answer until SIGTERM, SIGINT or :meth:`stop`, then finish what was begun.

        Returns:
            Whether every thread has ended; one that is loading a model cannot be interrupted.
        """
        self._web.run(self._sockets)
        return self._close()

    def stop(self) -> None:
        """Ask :meth:`run`, in another thread, to end."""
        self._web.should_exit = True

    def _close(self) -> bool:
        self._stopping.set()
        if self._grpc:
            self._grpc.stop(STOP_S).wait()
        self._runner.close()
        for listening in self._sockets:
            listening.close()
        if self._watcher.is_alive():
            self._watcher.join(STOP_S / 4)
        return not self._watcher.is_alive()

    def _watch(self) -> None:
        while not self._stopping.wait(self._options.poll_s):
            try:
                self._repository.refresh()
            except Exception:  # a folder that is being changed: look again later
                log.exception("the models could not be looked at")


class _WebServer(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self):
        # uvicorn's own raises the signal again when all is answered, and the process would end
        # before the gRPC clients have their answers.
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, self.handle_exit)
        yield


def _listen(host: str, port: int) -> socket.socket:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        family, kind, protocol, _, address = found
        # With its protocol: asyncio sends small answers at once on sockets that say they are TCP,
        # and 40 ms later on others.
        listening = socket.socket(family, kind, protocol)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.set_inheritable(True)
        return listening
    except OSError as error:
        raise InputError(
            f"cannot listen on {host}, port {port} ({error.strerror or error}); expected an "
            "address of this machine and a free port: choose --host or --port, or 0 for any"
        ) from error
