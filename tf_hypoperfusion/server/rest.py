"""TensorFlow Serving's REST paths, and health and Prometheus figures."""

import hmac
import json
import re
import time
from typing import Any

from google.protobuf import json_format
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from tf_hypoperfusion.server import grpc_service, tensors
from tf_hypoperfusion.server.errors import HTTP_STATUS, ServingError
from tf_hypoperfusion.server.repository import Repository, Version
from tf_hypoperfusion.server.runner import Runner

PATH = re.compile(
    r"(?P<name>[^/:]+)(?:/versions/(?P<version>\d{1,18})|/labels/(?P<label>[^/:]+))?"
    r"(?P<what>/metadata|:predict)?"
)


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
    repository: Repository, runner: Runner, max_request_bytes: int, token: str | None = None
) -> Starlette:
    """The web application.

    Args:
        max_request_bytes: larger bodies get 413.
        token: asked for as a bearer token, but for health.
    """
    figures = Figures(repository, runner)

    async def models(request: Request) -> Response:
        given = request.headers.get("authorization", "")
        if token and not hmac.compare_digest(given.encode(), f"Bearer {token}".encode()):
            return _error(ServingError("UNAUTHENTICATED", "expected Authorization: Bearer TOKEN"))
        found = PATH.fullmatch(request.path_params["rest"])
        predict = found is not None and found["what"] == ":predict"
        if found is None or predict != (request.method == "POST"):
            message = f"Malformed request: {request.method} {request.url.path}"
            return _error(ServingError("INVALID_ARGUMENT", message))
        number = int(found["version"]) if found["version"] else None
        try:
            if predict:
                body = await _body(request, max_request_bytes)
                return await run_in_threadpool(
                    _predict, found["name"], number, found["label"], body
                )
            if found["what"] == "/metadata":
                version = repository.get(found["name"], number, found["label"])
                return Response(_metadata(version), media_type="application/json")
            if found["label"]:
                number = repository.get(found["name"], label=found["label"]).number
            return JSONResponse(_status(repository, found["name"], number))
        except ServingError as error:
            return _error(error)

    def _predict(name: str, number: int | None, label: str | None, body: bytes) -> Response:
        began, status = time.monotonic(), "ok"
        # A name from a request must not become a label of its own before the model is known.
        known = name if name in repository.names() else "unknown"
        try:
            version = repository.get(name, number, label)
            try:
                decoded = json.loads(body)
            except (ValueError, RecursionError) as error:
                message = f"JSON Parse error: {str(error)[:200]}"
                raise ServingError("INVALID_ARGUMENT", message) from error
            specs = {signature: version.specs(signature) for signature in version.signatures}
            signature, inputs, by_rows = tensors.parse(decoded, specs)
            return JSONResponse(tensors.answer(runner.run(version, signature, inputs), by_rows))
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
    async for part in request.stream():
        size += len(part)
        if size > limit:
            raise _TooLarge(
                "INVALID_ARGUMENT",
                f"the request is larger than {limit} bytes; send volumes as predict_volume_bytes",
            )
        parts.append(part)
    return b"".join(parts)


def _error(error: ServingError) -> Response:
    status = 413 if isinstance(error, _TooLarge) else HTTP_STATUS[error.code]
    headers = {"Retry-After": "1"} if status == 503 else {}
    return JSONResponse({"error": error.message}, status_code=status, headers=headers)


def _status(repository: Repository, name: str, number: int | None) -> dict[str, Any]:
    states = repository.states(name)
    if number is not None and number not in states:
        raise ServingError("NOT_FOUND", f"Could not find version {number} of model {name}")
    message = grpc_service.status_message(states, number)
    # Names and empty fields as TensorFlow Serving writes them.
    return json.loads(_to_json(message))


def _metadata(version: Version) -> str:
    return _to_json(grpc_service.metadata_message(version))


def _to_json(message: Any) -> str:
    return json_format.MessageToJson(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
