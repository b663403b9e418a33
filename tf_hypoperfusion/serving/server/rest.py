"""TensorFlow Serving's REST paths, and health and Prometheus figures."""

import asyncio
import dataclasses
import functools
import gzip
import io
import re
import threading
import time
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple
from urllib.parse import unquote

import anyio
import numpy as np
from google.protobuf import json_format
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from tf_hypoperfusion.serving.server import classification, json_arrays, messages, tensors
from tf_hypoperfusion.serving.server.bearer import is_token
from tf_hypoperfusion.serving.server.errors import ServingError, stopping
from tf_hypoperfusion.serving.server.figures import Figures
from tf_hypoperfusion.serving.server.held_memory import HeldMemory, Share
from tf_hypoperfusion.serving.server.repository import Repository
from tf_hypoperfusion.serving.server.runner import Runner
from tf_hypoperfusion.serving.server.version import Version

_WHICH = r"(?:/versions/(?P<version>\d+)|/labels/(?P<label>[^/:]+))?"
ASKED = re.compile(rf"/v1/models/(?P<name>[^/:]+){_WHICH}:(?P<what>classify|regress|predict)", re.I)
TOLD = re.compile(rf"/v1/models(?:/(?P<name>[^/:]+))?{_WHICH}(?:/(?P<what>metadata))?", re.I)
MAX_NUMBER = 2**63 - 1
OWN_PATHS = ("/healthz", "/readyz", "/monitoring/prometheus/metrics")
METHODS = ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"]
CORS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "POST, GET",
    "Access-Control-Allow-Headers": "Content-Type, Authorization",
}
AGAIN = {"Retry-After": "1"}
# How often a waiting request is looked at for a client that has left.
WATCH_S = 0.5
# While the server stops, bodies that are on their way may still come.
LAST_BODIES_S = 3.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class RestOptions:
    """Limits of the REST interface, and whom it answers.

    Attributes:
        max_request_bytes: larger bodies, also once decompressed, get 413.
        max_requests: more predict requests at once get 429.
        timeout_s: requests that take longer get 504; None waits as long as it takes.
        token: asked for as a bearer token, but for health and figures; None asks for none.
        cors: let pages of other origins ask.
    """

    max_request_bytes: int
    max_requests: int
    timeout_s: float | None = None
    token: str | None = None
    cors: bool = False


class _Target(NamedTuple):
    """What a path names: a model, perhaps its version by number or label, and what of it."""

    name: str
    number: int | None
    label: str | None
    what: str

    @classmethod
    def of(cls, request: Request) -> "_Target":
        """Of a request's path.

        Raises:
            ServingError: INVALID_ARGUMENT: it names nothing.
        """
        path = request.scope["raw_path"].decode("ascii", "replace")
        forms = {"GET": TOLD, "POST": ASKED}
        found = forms[request.method].fullmatch(path) if request.method in forms else None
        what = found["what"] or "" if found else ""
        if found is None or what != what.lower():
            raise _bad(f"Malformed request: {request.method} {path}")
        number = int(found["version"]) if found["version"] else None
        if number is not None and number > MAX_NUMBER:
            raise _bad(f"Failed to convert version: {found['version']} to numeric.")
        name, label = (found[part] and unquote(found[part]) for part in ("name", "label"))
        if not name:
            raise _bad("Missing model name in request.")
        return cls(name, number, label, what)

    def version(self, repository: Repository) -> Version:
        return repository.get(self.name, self.number, self.label)


@dataclasses.dataclass(kw_only=True)
class _Sent:
    """What a client sent, and how long it waits for the answer.

    Attributes:
        body: as it came; taken away once it is read.
        compressed: whether it is a gzip.
        until: of :func:`time.monotonic`; None for as long as it takes.
        share: of the memory of all requests.
        gone: set when the client has left.
    """

    body: json_arrays.Body
    compressed: bool
    until: float | None
    share: Share
    gone: threading.Event = dataclasses.field(default_factory=threading.Event)

    def json(self, limit: int) -> json_arrays.Json:
        """The body, read and let go.

        Raises:
            ServingError: it is no JSON, too large, or takes more memory than there is.
        """
        body, self.body = self.body, b""
        if self.compressed:
            body = _decompressed(body, limit)
            self.share.set(len(body))
        # The shortest number is one digit and a comma, and takes four bytes in an array.
        self.share.set(3 * len(body))
        try:
            return json_arrays.parse(body)
        except (ValueError, RecursionError) as error:
            raise _bad(f"JSON Parse error: {str(error)[:200]}") from error


class RestApi:
    """The paths and what answers them.

    Args:
        repository: the models.
        runner: that answers.
        figures: where requests are counted.
        memory: that all requests hold at once.
        options: limits, and whom it answers.
    """

    def __init__(
        self,
        repository: Repository,
        runner: Runner,
        *,
        figures: Figures,
        memory: HeldMemory,
        options: RestOptions,
    ):
        self._repository, self._runner = repository, runner
        self._figures, self._memory, self._options = figures, memory, options
        self._taken = 0  # requests from the end of their bodies to their answers
        self._threads = anyio.CapacityLimiter(options.max_requests)
        self._stopping, self._no_more_bodies = False, asyncio.Event()
        # Two bodies at a time would take twice the memory, and be no faster.
        self._one_json = threading.Lock()

    def app(self) -> Starlette:
        """The web application."""
        return Starlette(
            routes=[
                *map(Route, OWN_PATHS, (self._alive, self._ready, self._metrics)),
                Route("/{path:path}", self._other, methods=METHODS),
            ],
            exception_handlers={HTTPException: _as_json},
        )

    async def stop(self) -> None:
        """Answer what was asked already; tell all others to try again."""
        self._stopping = True
        asyncio.get_running_loop().call_later(LAST_BODIES_S, self._no_more_bodies.set)

    async def _other(self, request: Request) -> Response:
        if request.url.path in OWN_PATHS:
            raise HTTPException(405, headers={"Allow": "GET"})
        if not request.url.path.lower().startswith("/v1/"):
            return JSONResponse({"error": f"Not found: {request.url.path}"}, status_code=404)
        response = (
            _preflight(request) if request.method == "OPTIONS" else await self._counted(request)
        )
        if self._options.cors:
            response.headers.update(CORS)
        return response

    async def _counted(self, request: Request) -> Response:
        """Answer whatever it asks, and count it."""
        began, status = time.monotonic(), "OK"
        target = _Target("", None, None, "")
        try:
            self._check_token(request)
            target = _Target.of(request)
            return await self._answer(request, target)
        except ServingError as error:
            status = error.code
            return _error(error)
        except ClientDisconnect:
            status = "CANCELLED"
            return Response(status_code=499)  # nobody reads it
        except Exception as error:  # a defect must not end the server, and must be seen
            status = "INTERNAL"
            return _error(ServingError(status, f"{type(error).__name__}: {str(error)[:300]}"))
        finally:
            seconds = time.monotonic() - began
            self._figures.record(target.name, status, seconds, api=target.what, entrypoint="REST")

    def _check_token(self, request: Request) -> None:
        token = self._options.token
        if token and not is_token(request.headers.get("authorization", ""), token):
            raise ServingError("UNAUTHENTICATED", "expected Authorization: Bearer TOKEN")

    async def _answer(self, request: Request, target: _Target) -> Response:
        if target.what in ("predict", "classify", "regress"):
            return await self._admit(request, target)
        if target.what == "metadata":
            return JSONResponse(_metadata(target.version(self._repository)))
        # Of a label TensorFlow Serving takes no notice here.
        states = self._repository.states(target.name, target.number)
        return JSONResponse(_as_dict(messages.status(states)))

    async def _admit(self, request: Request, target: _Target) -> Response:
        """Read the body and answer it, if there are not too many."""
        self._require_place()
        timeout_s = self._options.timeout_s
        until = None if timeout_s is None else time.monotonic() + timeout_s
        with Share(self._memory) as share:
            # First the body: a client that is still writing would not read why it is refused, and
            # one that never ends takes no place from the others.
            sent = _Sent(
                body=await self._body(request, share),
                compressed=_is_gzip(request),
                until=until,
                share=share,
            )
            self._require_place()
            self._taken += 1
            try:
                return await self._in_thread(request, functools.partial(self._asked, target, sent),
                                             sent.gone)  # fmt: skip
            finally:
                self._taken -= 1

    def _require_place(self) -> None:
        if self._stopping:
            raise stopping()
        if self._taken >= self._options.max_requests:
            raise ServingError(
                "RESOURCE_EXHAUSTED",
                f"{self._options.max_requests} requests are being answered or wait; try again "
                "later",
            )

    async def _body(self, request: Request, share: Share) -> bytearray:
        """The body as it came, perhaps compressed, unless the server stops meanwhile."""
        reading = asyncio.ensure_future(_read(request, self._options.max_request_bytes, share))
        stopped = asyncio.ensure_future(self._no_more_bodies.wait())
        try:
            await asyncio.wait({reading, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if not reading.done():
                raise stopping()
            return reading.result()
        finally:
            reading.cancel()
            stopped.cancel()

    async def _in_thread(
        self, request: Request, call: Callable[[], Response], gone: threading.Event
    ) -> Response:
        watcher = asyncio.create_task(_watch(request, gone))
        try:
            return await anyio.to_thread.run_sync(call, limiter=self._threads)
        finally:
            watcher.cancel()

    def _asked(self, target: _Target, sent: _Sent) -> Response:
        if target.what == "predict":
            return self._predict(target, sent)
        with self._one_json:
            signature = classification.check_json(sent.json(self._options.max_request_bytes))
        version = target.version(self._repository)
        raise classification.refusal(version, target.what, signature)

    def _predict(self, target: _Target, sent: _Sent) -> Response:
        version = target.version(self._repository)
        specs = {signature: version.specs(signature) for signature in version.signatures}
        with self._one_json:
            asked = tensors.parse(sent.json(self._options.max_request_bytes), specs)
        sent.share.set(sum(map(_size, asked.inputs.values())))
        outputs = self._runner.run(
            version, asked.signature, asked.inputs, gone=sent.gone, until=sent.until
        )
        with self._one_json:
            text = tensors.answer(outputs, by_rows=asked.by_rows)
        return Response(text, media_type="application/json")

    async def _ready(self, request: Request) -> Response:
        names = self._repository.names()
        reasons = {
            "no model is available": not names,
            "requests come to no end": self._runner.stuck,
            "the server is stopping": self._stopping,
        }
        why = [reason for reason, holds in reasons.items() if holds]
        said = {"models": names} | ({"error": "; ".join(why)} if why else {})
        return JSONResponse(said, status_code=503 if why else 200)

    async def _alive(self, request: Request) -> Response:
        return PlainTextResponse("ok")

    async def _metrics(self, request: Request) -> Response:
        return PlainTextResponse(self._figures.text())


def _too_large(limit: int) -> ServingError:
    message = f"the request is larger than {limit} bytes; send volumes as predict_volume_bytes"
    return ServingError("INVALID_ARGUMENT", message, 413)


async def _read(request: Request, limit: int, share: Share) -> bytearray:
    body = bytearray()
    announced = request.headers.get("content-length", "0")
    if announced.isdecimal() and int(announced) > limit:
        raise _too_large(limit)
    async for part in request.stream():
        if len(body) + len(part) > limit:
            raise _too_large(limit)
        share.add(len(part))
        body += part
    return body


def _is_gzip(request: Request) -> bool:
    """Whether the body is compressed; another way than gzip, or twice, gets 415."""
    named = ",".join(request.headers.getlist("content-encoding"))
    ways = [way.strip().lower() for way in named.split(",")]
    ways = [way for way in ways if way not in ("", "identity")]
    if ways not in ([], ["gzip"], ["x-gzip"]):
        message = f"Content-Encoding is {named[:100]!r}; expected gzip, identity, or none"
        raise ServingError("INVALID_ARGUMENT", message, 415)
    return bool(ways)


def _decompressed(body: json_arrays.Body, limit: int) -> bytes:
    """The content of a gzip; no more than the limit is ever unpacked."""
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(body)) as packed:
            content = packed.read(limit + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise _bad(
            f"the body is no whole gzip ({error}), and Content-Encoding says that it is one"
        ) from error
    if len(content) > limit:
        raise _too_large(limit)
    return content


def _size(array: np.ndarray) -> int:
    return sum(map(len, array.flat)) if array.dtype == object else array.nbytes


async def _watch(request: Request, gone: threading.Event) -> None:
    while not await request.is_disconnected():
        await asyncio.sleep(WATCH_S)
    gone.set()


def _preflight(request: Request) -> Response:
    """What a browser asks before a page of another origin may."""
    if re.search("https?://", request.headers.get("origin", "")):
        return Response(media_type="application/json")
    message = "Origin header is missing in CORS preflight"
    return _error(ServingError("FAILED_PRECONDITION", message))


def _bad(message: str) -> ServingError:
    return ServingError("INVALID_ARGUMENT", message)


def _error(error: ServingError) -> Response:
    status = error.http_status
    headers = {401: {"WWW-Authenticate": "Bearer"}, 429: AGAIN, 503: AGAIN}.get(status)
    # A name that is quoted may hold half a character, which no answer can.
    message = error.message.encode(errors="backslashreplace").decode()
    return JSONResponse({"error": message}, status_code=status, headers=headers)


async def _as_json(request: Request, error: Any) -> Response:
    """What the framework refuses by an HTTPException, in the words of the others."""
    message = f"{error.detail}: {request.method} {request.url.path}"
    return JSONResponse({"error": message}, error.status_code, headers=error.headers)


def _metadata(version: Version) -> dict[str, Any]:
    said = messages.metadata(version)
    signatures = messages.signatures(said)
    return {
        "model_spec": _as_dict(said.model_spec),
        "metadata": {"signature_def": _as_dict(signatures)},
    }


def _as_dict(message: Any) -> dict[str, Any]:
    """Names and empty fields as TensorFlow Serving writes them."""
    return json_format.MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
