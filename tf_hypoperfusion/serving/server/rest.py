"""TensorFlow Serving's REST paths, and health and Prometheus figures."""

import asyncio
import gzip
import io
import json
import re
import threading
import time
import zlib
from typing import Any, NamedTuple

import anyio
from google.protobuf import json_format
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from tf_hypoperfusion.serving.server import messages, tensors
from tf_hypoperfusion.serving.server.bearer import is_token
from tf_hypoperfusion.serving.server.errors import ServingError
from tf_hypoperfusion.serving.server.repository import Repository
from tf_hypoperfusion.serving.server.runner import Runner
from tf_hypoperfusion.serving.server.version import Version

PATH = re.compile(
    r"(?P<name>[^/:]+)(?:/versions/(?P<version>\d{1,18})|/labels/(?P<label>[^/:]+))?"
    r"(?P<what>/metadata|:predict)?"
)
# How often a waiting request is looked at for a client that has left.
WATCH_S = 0.5
# Bodies are held up to so many of the largest size.
HELD_REQUESTS = 4


class Figures:
    """What Prometheus scrapes."""

    def __init__(self, repository: Repository, runner: Runner):
        self.registry = CollectorRegistry()
        labels = ("model", "status")
        self.requests = Counter(
            "hypoperfusion_requests", "Predict requests", labels, registry=self.registry
        )
        self.seconds = Histogram(
            "hypoperfusion_request_seconds", "Time of predict requests", ("model",),
            registry=self.registry, buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
        )  # fmt: skip
        waiting = Gauge("hypoperfusion_waiting", "Requests that wait", registry=self.registry)
        waiting.set_function(lambda: runner.waiting)
        models = Gauge("hypoperfusion_models", "Models available", registry=self.registry)
        models.set_function(lambda: len(repository.names()))


class _Target(NamedTuple):
    """What a path names: a model, perhaps its version by number or label, and what of it."""

    name: str
    number: int | None
    label: str | None
    what: str | None

    @classmethod
    def of_path(cls, path: str) -> "_Target | None":
        found = PATH.fullmatch(path)
        if found is None:
            return None
        number = int(found["version"]) if found["version"] else None
        return cls(found["name"], number, found["label"], found["what"])

    def version(self, repository: Repository) -> Version:
        return repository.get(self.name, self.number, self.label)


class _Sent(NamedTuple):
    """A predict request's body, whether it is a gzip, and what is set when its client has left."""

    body: bytes
    compressed: bool
    gone: threading.Event


class RestApi:
    """The paths and what answers them.

    Args:
        repository: the models.
        runner: that answers.
        max_request_bytes: larger bodies, also once decompressed, get 413.
        max_requests: more predict requests at once get 503, before their bodies are read.
        token: asked for as a bearer token, but for health.
    """

    def __init__(
        self,
        repository: Repository,
        runner: Runner,
        *,
        max_request_bytes: int,
        max_requests: int,
        token: str | None = None,
    ):
        self._repository, self._runner, self._token = repository, runner, token
        self._max_request_bytes, self._max_requests = max_request_bytes, max_requests
        self._bodies = _Bodies(HELD_REQUESTS * max_request_bytes)
        self._figures = Figures(repository, runner)
        self._taken = 0  # requests from their first byte to their answer
        self._threads = anyio.CapacityLimiter(max_requests)
        # JSON of megabytes holds the interpreter; one at a time leaves turns to the health checks.
        self._one_json = threading.Lock()

    def app(self) -> Starlette:
        """The web application."""
        return Starlette(
            routes=[
                Route("/v1/models/{rest:path}", self._models, methods=["GET", "POST"]),
                Route("/healthz", self._alive),
                Route("/readyz", self._ready),
                Route("/monitoring/prometheus/metrics", self._metrics),
            ]
        )

    async def _models(self, request: Request) -> Response:
        if self._token and not is_token(request.headers.get("authorization", ""), self._token):
            return _error(ServingError("UNAUTHENTICATED", "expected Authorization: Bearer TOKEN"))
        target = _Target.of_path(request.path_params["rest"])
        predict = target is not None and target.what == ":predict"
        if target is None or predict != (request.method == "POST"):
            message = f"Malformed request: {request.method} {request.url.path}"
            return _error(ServingError("INVALID_ARGUMENT", message))
        try:
            if predict:
                return await self._admit(request, target)
            if target.what == "/metadata":
                text = _to_json(messages.metadata(target.version(self._repository)))
                return Response(text, media_type="application/json")
            number = target.version(self._repository).number if target.label else target.number
            states = self._repository.states(target.name, number)
            return JSONResponse(json.loads(_to_json(messages.status(states))))
        except ServingError as error:
            return _error(error)
        except ClientDisconnect:
            return Response(status_code=499)  # nobody reads it

    async def _admit(self, request: Request, target: _Target) -> Response:
        """Read the body of a predict request and answer it, if there are not too many."""
        self._require_place()
        with _Held(self._bodies) as held:
            # First the body: a client that is still writing would not read why it is refused, and
            # one that never ends takes no place from the others.
            body = await _body(request, self._max_request_bytes, held)
            compressed = _is_gzip(request)
            self._require_place()
            self._taken += 1
            try:
                return await self._in_thread(request, target, body, compressed)
            finally:
                self._taken -= 1

    def _require_place(self) -> None:
        if self._taken >= self._max_requests:
            self._figures.requests.labels("unknown", "RESOURCE_EXHAUSTED").inc()
            raise ServingError(
                "RESOURCE_EXHAUSTED",
                f"{self._max_requests} requests are being answered or wait; try again later",
            )

    async def _in_thread(
        self, request: Request, target: _Target, body: bytes, compressed: bool
    ) -> Response:
        gone = threading.Event()
        watcher = asyncio.create_task(_watch(request, gone))
        try:
            return await anyio.to_thread.run_sync(
                self._predict, target, _Sent(body, compressed, gone), limiter=self._threads
            )
        finally:
            watcher.cancel()

    def _predict(self, target: _Target, sent: _Sent) -> Response:
        began, status = time.monotonic(), "ok"
        # A name from a request must not become a label of its own before the model is known.
        known = target.name if target.name in self._repository.names() else "unknown"
        try:
            return self._answer(target, sent)
        except ServingError as error:
            status = error.code
            return _error(error)
        except Exception as error:  # a defect must not end the server, and must be seen
            status = "INTERNAL"
            return _error(ServingError("INTERNAL", f"{type(error).__name__}: {str(error)[:300]}"))
        finally:
            self._figures.requests.labels(known, status).inc()
            self._figures.seconds.labels(known).observe(time.monotonic() - began)

    def _answer(self, target: _Target, sent: _Sent) -> Response:
        version = target.version(self._repository)
        specs = {signature: version.specs(signature) for signature in version.signatures}
        with self._one_json:
            body = sent.body
            if sent.compressed:
                body = _decompressed(body, self._max_request_bytes)
            asked = tensors.parse(_decoded(body), specs)
        outputs = self._runner.run(version, asked.signature, asked.inputs, gone=sent.gone)
        with self._one_json:
            answer = tensors.answer(outputs, by_rows=asked.by_rows)
            # A figure that is not known is NaN, which TensorFlow Serving writes too.
            text = json.dumps(answer, ensure_ascii=False, separators=(",", ":"))
            return Response(text, media_type="application/json")

    async def _ready(self, request: Request) -> Response:
        names = self._repository.names()
        return JSONResponse({"models": names}, status_code=200 if names else 503)

    async def _alive(self, request: Request) -> Response:
        return PlainTextResponse("ok")

    async def _metrics(self, request: Request) -> Response:
        return PlainTextResponse(generate_latest(self._figures.registry))


def _too_large(limit: int) -> ServingError:
    message = f"the request is larger than {limit} bytes; send volumes as predict_volume_bytes"
    return ServingError("INVALID_ARGUMENT", message, 413)


class _Bodies:
    """Bytes of all bodies that are held at once.

    Args:
        most: more are refused.
    """

    def __init__(self, most: int):
        self.size, self.most = 0, most


class _Held:
    """What one request holds of them; given back at its end."""

    def __init__(self, bodies: _Bodies):
        self._bodies, self._size = bodies, 0

    def __enter__(self) -> "_Held":
        return self

    def __exit__(self, *error: object) -> None:
        self._bodies.size -= self._size

    def add(self, size: int) -> None:
        """Hold so many bytes more.

        Raises:
            ServingError: all requests together hold too many.
        """
        self._size += size
        self._bodies.size += size
        if self._bodies.size > self._bodies.most:
            raise ServingError(
                "RESOURCE_EXHAUSTED",
                f"requests of more than {self._bodies.most} bytes are being sent at once; try "
                "again later",
            )


async def _body(request: Request, limit: int, held: _Held) -> bytes:
    """The body as it came, perhaps compressed."""
    parts, size = [], 0
    announced = request.headers.get("content-length", "0")
    if announced.isdecimal() and int(announced) > limit:
        raise _too_large(limit)
    async for part in request.stream():
        size += len(part)
        if size > limit:
            raise _too_large(limit)
        held.add(len(part))
        parts.append(part)
    return b"".join(parts)


def _is_gzip(request: Request) -> bool:
    """Whether the body is compressed; another way than gzip, or twice, gets 415."""
    named = ",".join(request.headers.getlist("content-encoding"))
    ways = [way.strip().lower() for way in named.split(",")]
    ways = [way for way in ways if way not in ("", "identity")]
    if ways not in ([], ["gzip"], ["x-gzip"]):
        message = f"Content-Encoding is {named[:100]!r}; expected gzip, identity, or none"
        raise ServingError("INVALID_ARGUMENT", message, 415)
    return bool(ways)


def _decompressed(body: bytes, limit: int) -> bytes:
    """The content of a gzip; no more than the limit is ever unpacked."""
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(body)) as packed:
            content = packed.read(limit + 1)
    except (OSError, EOFError, zlib.error) as error:
        message = f"the body is no whole gzip ({error}), and Content-Encoding says that it is one"
        raise ServingError("INVALID_ARGUMENT", message) from error
    if len(content) > limit:
        raise _too_large(limit)
    return content


async def _watch(request: Request, gone: threading.Event) -> None:
    while not await request.is_disconnected():
        await asyncio.sleep(WATCH_S)
    gone.set()


def _decoded(body: bytes) -> tensors.Json:
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        message = f"JSON Parse error: {str(error)[:200]}"
        raise ServingError("INVALID_ARGUMENT", message) from error


def _error(error: ServingError) -> Response:
    status = error.http_status
    headers = {"Retry-After": "1"} if status == 503 else {}
    return JSONResponse({"error": error.message}, status_code=status, headers=headers)


def _to_json(message: Any) -> str:
    """Names and empty fields as TensorFlow Serving writes them."""
    return json_format.MessageToJson(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
