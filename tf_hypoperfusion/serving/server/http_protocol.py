"""HTTP connections that no client can hold for ever: what it owes must come in time."""

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

# For the head of a request, from the connection or its first byte on.
HEAD_S = 10.0
# Between two pieces of a body, and for all of it: 128 MiB at 1 MiB/s take two minutes.
PAUSE_S, BODY_S = 10.0, 150.0
# For an answer that the client does not read.
READ_S = 150.0
# Files, models and gRPC need descriptors too.
KEPT_DESCRIPTORS = 256
TOO_SLOW = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


def most_connections() -> int:
    """How many connections may be open at once: what the process may open, less what it needs."""
    try:
        import resource
    except ImportError:  # Windows, whose select() takes 512
        return 512 - KEPT_DESCRIPTORS
    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if allowed == resource.RLIM_INFINITY:
        allowed = 2**16
    return max(allowed - KEPT_DESCRIPTORS, allowed // 2)


class OneLength:
    """Refuses requests that say their length twice: a proxy before us may read another request."""

    def __init__(self, app: Any) -> None:
        """Answer with an application.

        Args:
            app: of ASGI.
        """
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """A request as ASGI has it; after a refusal the connection is closed."""
        names = {name for name, _ in scope["headers"]} if scope["type"] == "http" else set()
        if names >= {b"content-length", b"transfer-encoding"}:
            headers = [(b"connection", b"close"), (b"content-length", b"0")]
            await send({"type": "http.response.start", "status": 400, "headers": headers})
            await send({"type": "http.response.body"})
        else:
            await self._app(scope, receive, send)


class TimedProtocol(H11Protocol):
    """uvicorn's protocol, which by itself waits for a client as long as the client likes."""

    # For all of a body; a server of larger ones says another.
    body_s: float | None = None
    _deadline: asyncio.TimerHandle | None = None
    _body_until: float | None = None
    _unread: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Wait for a head; with too many connections, close."""
        super().connection_made(transport)
        if len(self.connections) > most_connections():
            transport.close()
            return
        self._wait(HEAD_S)

    def data_received(self, data: bytes) -> None:
        """Wait for what is owed still, or for nothing."""
        super().data_received(data)
        state = self.conn.their_state
        if state is h11.SEND_BODY:
            now = self.loop.time()
            if self._body_until is None:
                self._body_until = now + (self.body_s or BODY_S)
            self._wait(min(PAUSE_S, max(self._body_until - now, 0)))
        elif state is h11.IDLE and self.conn.trailing_data[0]:
            if self._deadline is None:  # every further byte of a head gives no further time
                self._wait(HEAD_S)
        elif state is not h11.IDLE or self.cycle is not None:
            self._wait(None)
            self._body_until = None

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is owed any more."""
        self._wait(None)
        self._stop_reading_clock()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Wait for the client to read."""
        super().pause_writing()
        if self._unread is None:
            self._unread = self.loop.call_later(READ_S, self.transport.abort)

    def resume_writing(self) -> None:
        """The client has read."""
        super().resume_writing()
        self._stop_reading_clock()

    def _stop_reading_clock(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
        self._unread = None

    def _wait(self, seconds: float | None) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = None if seconds is None else self.loop.call_later(seconds, self._too_slow)

    def _too_slow(self) -> None:
        self._deadline = None
        if self.transport.is_closing():
            return
        if self.flow.read_paused:  # it is we who do not read
            self._wait(PAUSE_S)
            return
        if self.cycle is None or not self.cycle.response_started:
            self.transport.write(TOO_SLOW)
        self.transport.close()
