"""What Prometheus scrapes: TensorFlow Serving's figures by its names, and our own."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from tf_hypoperfusion.serving.server.repository import Repository
from tf_hypoperfusion.serving.server.runner import Runner

COUNT, LATENCY = ":tensorflow:serving:request_count", ":tensorflow:serving:request_latency"
# Microseconds, from 10 to 20 minutes, as there.
LATENCY_BUCKETS = [10 * (9 / 5) ** k for k in range(33)]
# A model's name from a request must not become a label before it is known.
UNKNOWN = ""


class Figures:
    """Figures of all requests, by REST and gRPC."""

    def __init__(self, repository: Repository, runner: Runner):
        self._repository, self._registry = repository, CollectorRegistry()
        # A Gauge, since a Counter would be called ..._total; put right in text().
        self._count = Gauge(
            COUNT,
            "The total number of requests.",
            ("model_name", "status"),
            registry=self._registry,
        )
        self._latency = Histogram(
            LATENCY,
            "Distribution of wall time (in microseconds) for requests.",
            ("model_name", "API", "entrypoint"),
            buckets=LATENCY_BUCKETS,
            registry=self._registry,
        )
        self._requests = Counter(
            "hypoperfusion_requests",
            "Predict requests",
            ("model", "status"),
            registry=self._registry,
        )
        self._seconds = Histogram(
            "hypoperfusion_request_seconds",
            "Time of predict requests",
            ("model",),
            registry=self._registry,
            buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
        )
        waiting = Gauge("hypoperfusion_waiting", "Requests that wait", registry=self._registry)
        waiting.set_function(lambda: runner.waiting)
        models = Gauge("hypoperfusion_models", "Models available", registry=self._registry)
        models.set_function(lambda: len(repository.names()))

    def record(self, model: str, status: str, seconds: float, *, api: str, entrypoint: str) -> None:
        """Count a request.

        Args:
            model: that it names.
            status: gRPC's word for how it ended.
            seconds: that it took.
            api: ``predict``, or gRPC's ``Predict`` and the like.
            entrypoint: ``REST`` or ``GRPC``.
        """
        known = model if model in self._repository.names() else UNKNOWN
        self._count.labels(known, status).inc()
        if status == "OK":
            self._latency.labels(known, api, entrypoint).observe(seconds * 1e6)
        if api.lower() == "predict":
            self._requests.labels(known or "unknown", status.replace("OK", "ok")).inc()
            self._seconds.labels(known or "unknown").observe(seconds)

    def text(self) -> bytes:
        """All of them, in Prometheus' words."""
        return generate_latest(self._registry).replace(
            f"# TYPE {COUNT} gauge".encode(), f"# TYPE {COUNT} counter".encode()
        )
