"""The server itself: models that follow their folders, asked over REST, and over gRPC if wanted."""

import asyncio
import contextlib
import dataclasses
import errno
import ipaddress
import logging
import signal
import socket
import threading
import time
from typing import Any

import uvicorn

from data_tools.runtime.errors import InputError
from tf_hypoperfusion.serving.server.figures import Figures
from tf_hypoperfusion.serving.server.held_memory import HeldMemory
from tf_hypoperfusion.serving.server.http_protocol import OneLength, TimedProtocol
from tf_hypoperfusion.serving.server.policies import ModelSource
from tf_hypoperfusion.serving.server.repository import Repository
from tf_hypoperfusion.serving.server.rest import RestApi, RestOptions
from tf_hypoperfusion.serving.server.runner import Runner

# Kubernetes kills 30 s after it asked. So long requests that were accepted are answered, and so
# long what runs then may take; all others are told to try again.
DRAIN_S, STOP_S = 12, 20
# All bodies and arrays held at once, in requests of the largest size.
HELD_REQUESTS = 4
# Connections that wait to be accepted. asyncio tries as often at once, also where it cannot.
BACKLOG = 128
EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
SAID_AGAIN_S = 60
log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ServerOptions:
    """Where a server listens, and its limits.

    Attributes:
        host: address of this machine.
        port: of REST; 0 takes a free one.
        grpc_port: 0 takes a free one; None: no gRPC.
        poll_s: seconds between looks for new versions.
        max_request_bytes: larger requests are refused; all together may hold
            :data:`HELD_REQUESTS` times as much.
        max_queue: more requests at once are refused.
        token: that clients must send; None asks for none.
        timeout_s: REST requests that take longer get 504; None: as long as they take.
        cors: let pages of other origins ask.
        allow_reload: let gRPC clients choose the models.
        allow_operations: load SavedModels that hold other operations than ours.
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
    timeout_s: float | None = None
    cors: bool = False
    allow_reload: bool = False
    allow_operations: bool = False
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
            source.policies,
            retires=source.is_config,
            allow_operations=options.allow_operations,
            runtime=options.runtime,
            precision=options.precision,
        )
        self._runner = Runner(options.max_queue)
        self._stopping = threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._grpc: Any = None
        self._sockets: list[socket.socket] = []
        self._timers: list[threading.Timer] = []
        self._until: float | None = None
        self._shared: dict[str, Any] = {
            "figures": Figures(self._repository, self._runner),
            "memory": HeldMemory(HELD_REQUESTS * options.max_request_bytes),
        }
        limits = RestOptions(
            max_request_bytes=options.max_request_bytes,
            max_requests=options.max_queue,
            timeout_s=options.timeout_s,
            token=options.token,
            cors=options.cors,
        )
        self._rest = RestApi(self._repository, self._runner, options=limits, **self._shared)
        config = uvicorn.Config(
            OneLength(self._rest.app()),
            http=TimedProtocol,
            log_config=None,  # uvicorn's own closes every handler of the process
            log_level="warning",
            timeout_graceful_shutdown=STOP_S,
            lifespan="off",
            backlog=BACKLOG,
        )
        self._web = _WebServer(config, self._drain)

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

            self._grpc = grpc_service.GrpcServer(
                self._repository,
                self._runner,
                options=grpc_service.GrpcOptions(
                    address=f"{options.host}:{options.grpc_port}",
                    max_request_bytes=options.max_request_bytes,
                    max_requests=options.max_queue,
                    token=options.token,
                    reload=self._repository.serve if options.allow_reload else None,
                ),
                **self._shared,
            )
            self._grpc.start()
            self.grpc_port = self._grpc.port
        if warning := _open_to_all(options):
            log.warning(warning)
        # Or who is told the port and asks at once would be refused.
        listening.listen(self._web.config.backlog)
        self.port = listening.getsockname()[1]

    def run(self) -> bool:
        """Answer until SIGTERM, SIGINT or :meth:`stop`, then finish what was begun.

        Within :data:`STOP_S` every request that was accepted is answered or told to try again.

        Returns:
            Whether every thread has ended; one that is loading a model cannot be interrupted.
        """
        self._web.run(self._sockets)
        return self._close()

    def stop(self) -> None:
        """Ask :meth:`run`, in another thread, to end."""
        self._web.should_exit = True

    async def _drain(self) -> None:
        """Refuse what is new, at once and on both ports; answer what there is for a while."""
        self._until = time.monotonic() + STOP_S
        self._stopping.set()
        await self._rest.stop()
        if self._grpc:
            self._grpc.stop(STOP_S)
        for after_s, then in ((DRAIN_S, self._runner.refuse), (STOP_S - 1, self._give_up)):
            timer = threading.Timer(after_s, then)
            timer.daemon = True
            timer.start()
            self._timers.append(timer)

    def _give_up(self) -> None:
        self._runner.close(0)

    def _close(self) -> bool:
        self._stopping.set()
        until = self._until or time.monotonic() + STOP_S

        def left_s() -> float:
            return max(until - time.monotonic(), 0.1)

        ended = True
        if self._grpc:
            self._grpc.stop(left_s())
            ended = self._grpc.wait(left_s() + 1)
        for timer in self._timers:
            timer.cancel()
        ended = self._runner.close(left_s()) and ended
        for listening in self._sockets:
            listening.close()
        if self._watcher.is_alive():
            self._watcher.join(left_s())
        return ended and not self._watcher.is_alive()

    def _watch(self) -> None:
        said = ""
        while not self._stopping.wait(self._options.poll_s):
            try:
                self._repository.refresh()
                said = ""
            except (OSError, InputError) as error:  # a folder that is away or being changed
                if str(error) != said:
                    said = str(error)
                    log.warning("what is loaded is served on: %s", said)
            except Exception:
                log.exception("the models could not be looked at")


class _WebServer(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, stopping: Any):
        super().__init__(config)
        self._stopping = stopping
        self._said: float | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        asyncio.get_running_loop().set_exception_handler(self._report)
        await super().startup(sockets)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await self._stopping()
        await super().shutdown(sockets)

    def _report(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Once where asyncio would say it a thousand times: it tries again by itself."""
        error = context.get("exception")
        if not isinstance(error, OSError) or error.errno not in EXHAUSTED:
            loop.default_exception_handler(context)
        elif self._said is None or time.monotonic() - self._said > SAID_AGAIN_S:
            self._said = time.monotonic()
            log.error("new connections wait: %s; raise the limit (ulimit -n)", error.strerror)

    @contextlib.contextmanager
    def capture_signals(self):
        # uvicorn's own raises the signal again when all is answered, and the process would end
        # before the gRPC clients have their answers.
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, self.handle_exit)
        yield


def _open_to_all(options: ServerOptions) -> str | None:
    """A warning where others than this machine are answered without a token."""
    try:
        here = ipaddress.ip_address(options.host).is_loopback
    except ValueError:
        here = options.host == "localhost"
    if here or options.token:
        return None
    return (
        f"{options.host} is open to all who reach this machine, without a token or encryption; "
        "give --token_file, and put a proxy with TLS in front"
    )


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
