"""TensorFlow Serving's REST paths, and health and Prometheus figures."""

import asyncio
import json
import re
import threading
import time
from typing import Any

import anyio
from google.protobuf import json_format
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from tf_hypoperfusion.serving.server import grpc_service, tensors
from tf_hypoperfusion.serving.server.errors import HTTP_STATUS, ServingError
from tf_hypoperfusion.serving.server.repository import Repository, Version
from tf_hypoperfusion.serving.server.runner import Runner

PATH = re.compile(
    r"(?P<name>[^/:]+)(?:/versions/(?P<version>\d{1,18})|/labels/(?P<label>[^/:]+))?"
    r"(?P<what>/metadata|:predict)?"
)
# How often a waiting request is looked at for a client that has left.
WATCH_S = 0.5


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


def build_app(
    repository: Repository, runner: Runner, max_request_bytes: int, max_requests: int,
    token: str | None = None,
) -> Starlette:  # fmt: skip
    """The web application.

    Args:
        max_requests: more predict requests at once get 503, before their bodies are read.
        max_request_bytes: larger bodies get 413.
        token: asked for as a bearer token, but for health.
    """
    figures = Figures(repository, runner)
    taken = 0  # requests from their first byte to their answer
    threads = anyio.CapacityLimiter(max_requests)
    # JSON of megabytes holds the interpreter; one at a time leaves turns to the health checks.
    one_json = threading.Lock()

    async def models(request: Request) -> Response:
        if token and not grpc_service.is_token(request.headers.get("authorization", ""), token):
            return _error(ServingError("UNAUTHENTICATED", "expected Authorization: Bearer TOKEN"))
        found = PATH.fullmatch(request.path_params["rest"])
        predict = found is not None and found["what"] == ":predict"
        if found is None or predict != (request.method == "POST"):
            message = f"Malformed request: {request.method} {request.url.path}"
            return _error(ServingError("INVALID_ARGUMENT", message))
        number = int(found["version"]) if found["version"] else None
        try:
            if predict:
                return await admit(request, found["name"], number, found["label"])
            if found["what"] == "/metadata":
                version = repository.get(found["name"], number, found["label"])
                return Response(_metadata(version), media_type="application/json")
            if found["label"]:
                number = repository.get(found["name"], label=found["label"]).number
            return JSONResponse(_status(repository, found["name"], number))
        except ServingError as error:
            return _error(error)
        except ClientDisconnect:
            return Response(status_code=499)  # nobody reads it

    async def admit(
        request: Request, name: str, number: int | None, label: str | None
    ) -> Response:  # fmt: skip
        nonlocal taken
        if taken >= max_requests:
            figures.requests.labels("unknown", "RESOURCE_EXHAUSTED").inc()
            raise ServingError(
                "RESOURCE_EXHAUSTED",
                f"{max_requests} requests are being answered or wait; try again later",
            )
        taken += 1
        gone = threading.Event()

        async def watch() -> None:
            while not await request.is_disconnected():
                await asyncio.sleep(WATCH_S)
            gone.set()

        try:
            body = await _body(request, max_request_bytes)
            watcher = asyncio.create_task(watch())
            try:
                return await anyio.to_thread.run_sync(
                    _predict, name, number, label, body, gone, limiter=threads
                )
            finally:
                watcher.cancel()
        finally:
            taken -= 1

    def _predict(
        name: str, number: int | None, label: str | None, body: bytes, gone: threading.Event
    ) -> Response:
        began, status = time.monotonic(), "ok"
        # A name from a request must not become a label of its own before the model is known.
        known = name if name in repository.names() else "unknown"
        try:
            version = repository.get(name, number, label)
            specs = {signature: version.specs(signature) for signature in version.signatures}
            with one_json:
                try:
                    decoded = json.loads(body)
                except (ValueError, RecursionError) as error:
                    message = f"JSON Parse error: {str(error)[:200]}"
                    raise ServingError("INVALID_ARGUMENT", message) from error
                signature, inputs, by_rows = tensors.parse(decoded, specs)
            outputs = runner.run(version, signature, inputs, gone)
            with one_json:
                return JSONResponse(tensors.answer(outputs, by_rows))
        except ServingError as error:
            status = error.code
            return _error(error)
        except Exception as error:  # a defect must not end the server, and must be seen
            status = "INTERNAL"
            return _error(ServingError("INTERNAL", f"{type(error).__name__}: {str(error)[:300]}"))
        finally:
            figures.requests.labels(known, status).inc()
            figures.seconds.labels(known).observe(time.monotonic() - began)

    async def ready(request: Request) -> Response:
        names = repository.names()
        return JSONResponse({"models": names}, status_code=200 if names else 503)

    async def alive(request: Request) -> Response:
        return PlainTextResponse("ok")

    async def metrics(request: Request) -> Response:
        return PlainTextResponse(generate_latest(figures.registry))

    return Starlette(
        routes=[
            Route("/v1/models/{rest:path}", models, methods=["GET", "POST"]),
            Route("/healthz", alive),
            Route("/readyz", ready),
            Route("/monitoring/prometheus/metrics", metrics),
        ]
    )


class _TooLarge(ServingError):
    pass


async def _body(request: Request, limit: int) -> bytes:
    parts, size = [], 0
    announced = request.headers.get("content-length", "0")
    if announced.isdecimal() and int(announced) > limit:
        raise _too_large(limit)
    async for part in request.stream():
        size += len(part)
        if size > limit:
            raise _too_large(limit)
        parts.append(part)
    return b"".join(parts)


def _too_large(limit: int) -> _TooLarge:
    return _TooLarge(
        "INVALID_ARGUMENT",
        f"the request is larger than {limit} bytes; send volumes as predict_volume_bytes",
    )


def _error(error: ServingError) -> Response:
    status = 413 if isinstance(error, _TooLarge) else HTTP_STATUS[error.code]
    headers = {"Retry-After": "1"} if status == 503 else {}
    return JSONResponse({"error": error.message}, status_code=status, headers=headers)


def _status(repository: Repository, name: str, number: int | None) -> dict[str, Any]:
    states = grpc_service.find_states(repository, name, number)
    message = grpc_service.status_message(states, number)
    # Names and empty fields as TensorFlow Serving writes them.
    return json.loads(_to_json(message))


def _metadata(version: Version) -> str:
    return _to_json(grpc_service.metadata_message(version))


def _to_json(message: Any) -> str:
    return json_format.MessageToJson(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
