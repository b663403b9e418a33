"""A server that is stopped: what it accepted is answered or told to try again, on both ports."""

import asyncio
import concurrent.futures
import contextlib
import errno
import socket

import grpc
import numpy as np
import pytest
import requests
from helpers.serving import HeldRepository, ServerHere, until

pytestmark = pytest.mark.usefixtures("serve_extra")


@pytest.fixture
def held(monkeypatch):
    from tf_hypoperfusion.serving.server import embedded

    repository = HeldRepository()
    monkeypatch.setattr(embedded, "Repository", lambda *_, **__: repository)
    yield repository.version
    repository.version.may.set()


@pytest.fixture
def asked(held, tmp_path):
    """A server whose one batch runs, with a request of each kind that waits."""
    serve = ServerHere(tmp_path)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        running = pool.submit(rest, serve, 0)
        until(lambda: held.asked == [0])
        # Not both at once, or they would be one batch with what comes later.
        waiting = [pool.submit(rest, serve, 1), pool.submit(rpc, serve, 2)]
        until(lambda: serve.server._runner.waiting == 2)
        yield serve, running, waiting
        held.may.set()


def rest(serve, number):
    return serve.predict({"inputs": [number]}, "held")


def rpc(serve, number):
    from tf_hypoperfusion.serving import protobuf

    with grpc.insecure_channel(f"127.0.0.1:{serve.grpc_port}") as channel:
        from tensorflow_serving.apis import prediction_service_pb2_grpc

        request = protobuf.predict_pb2.PredictRequest()
        request.model_spec.name = "held"
        request.inputs["x"].dtype = 9
        request.inputs["x"].tensor_shape.dim.add(size=1)
        request.inputs["x"].int64_val.append(number)
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        try:
            return list(protobuf.array_of(stub.Predict(request, timeout=100).outputs["x"]))
        except grpc.RpcError as error:
            return error.code()


def refused(serve):
    """Whether new calls are refused on both ports."""
    try:
        requests.get(f"{serve.url}/healthz", timeout=30)
        return False
    except requests.ConnectionError:
        return rpc(serve, 9) == grpc.StatusCode.UNAVAILABLE


def test_what_was_accepted_is_answered_and_what_is_new_refused_at_once(asked, held):
    serve, running, waiting = asked
    serve.server.stop()
    until(lambda: refused(serve))
    assert not running.done()
    held.may.set()
    assert running.result(60).json() == {"outputs": [0]}
    assert waiting[0].result(60).json() == {"outputs": [1]} and waiting[1].result(60) == [2]
    serve.thread.join(60)
    assert serve.ended and held.asked == [0, 1, 2]


def test_what_waits_too_long_is_told_to_try_again(asked, held, monkeypatch):
    from tf_hypoperfusion.serving.server import embedded

    monkeypatch.setattr(embedded, "DRAIN_S", 0)
    serve, running, waiting = asked
    serve.server.stop()
    told = waiting[0].result(60)
    assert (told.status_code, told.headers["Retry-After"]) == (503, "1")
    assert "the server is stopping" in told.json()["error"]
    assert waiting[1].result(60) == grpc.StatusCode.UNAVAILABLE
    held.may.set()
    assert running.result(60).json() == {"outputs": [0]}
    serve.thread.join(60)
    assert serve.ended and held.asked == [0]


def test_what_runs_too_long_is_told_so_too(asked, monkeypatch):
    from tf_hypoperfusion.serving.server import embedded

    monkeypatch.setattr(embedded, "DRAIN_S", 0)
    monkeypatch.setattr(embedded, "STOP_S", 1)
    serve, running, _ = asked
    serve.server.stop()
    assert running.result(60).status_code == 503
    serve.thread.join(60)
    assert serve.ended is False


def test_a_body_that_is_on_its_way_is_told_to_come_again(held, tmp_path, monkeypatch):
    from tf_hypoperfusion.serving.server import rest as rest_module

    monkeypatch.setattr(rest_module, "LAST_BODIES_S", 0)
    serve = ServerHere(tmp_path, grpc_port=None)
    head = b"POST /v1/models/held:predict HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n{"
    with socket.create_connection(("127.0.0.1", serve.server.port), timeout=60) as client:
        client.sendall(head)
        until(lambda: serve.server._shared["memory"].size == 1)
        serve.server.stop()
        answer = client.recv(4096)
        assert answer.startswith(b"HTTP/1.1 503") and b"retry-after: 1" in answer.lower()
    serve.thread.join(60)
    assert serve.ended


def test_clients_that_left_are_not_run_and_hold_no_place(held, tmp_path):
    serve = ServerHere(tmp_path, max_queue=4)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        running = pool.submit(rest, serve, 0)
        until(lambda: held.asked == [0])
        channel = grpc.insecure_channel(f"127.0.0.1:{serve.grpc_port}")
        call = channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
        from tf_hypoperfusion.serving import protobuf

        request = protobuf.predict_pb2.PredictRequest()
        request.model_spec.name = "held"
        request.inputs["x"].CopyFrom(protobuf.tensor_of(np.array([5])))
        left = [call.future(request.SerializeToString()) for _ in range(4)]
        until(lambda: serve.server._runner.waiting == 4)
        for each in left:
            each.cancel()
        until(lambda: serve.server._runner.waiting == 0)
        channel.close()
        waiting = pool.submit(rest, serve, 1)
        until(lambda: serve.server._runner.waiting == 1)
        held.may.set()
        assert running.result(60).ok and waiting.result(60).ok
    assert held.asked == [0, 1]
    assert serve.stop()


def test_a_queue_that_does_not_move_is_seen(asked, monkeypatch):
    from tf_hypoperfusion.serving.server import grpc_health, runner

    serve, _, _ = asked

    def health(service=""):
        with grpc.insecure_channel(f"127.0.0.1:{serve.grpc_port}") as channel:
            asked = grpc_health.HealthCheckRequest(service=service).SerializeToString()
            answer = channel.unary_unary(grpc_health.CHECK)(asked, timeout=60)
            return grpc_health.HealthCheckResponse.FromString(answer).status

    assert requests.get(f"{serve.url}/readyz").ok and health() == grpc_health.SERVING
    assert health("tensorflow.serving.PredictionService") == grpc_health.SERVING
    monkeypatch.setattr(runner, "STUCK_S", -1)
    answer = requests.get(f"{serve.url}/readyz")
    assert (answer.status_code, answer.json()["error"]) == (503, "requests come to no end")
    assert health() == grpc_health.NOT_SERVING
    with pytest.raises(grpc.RpcError) as caught:
        health("other")
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND
    serve.server.stop()


def test_without_descriptors_one_line_is_logged(caplog):
    from tf_hypoperfusion.serving.server import embedded

    web = embedded._WebServer(embedded.uvicorn.Config(None), None)
    with contextlib.closing(asyncio.new_event_loop()) as loop:
        for _ in range(1000):
            web._report(loop, {"exception": OSError(errno.EMFILE, "Too many open files")})
        assert [record.getMessage() for record in caplog.records] == [
            "new connections wait: Too many open files; raise the limit (ulimit -n)"
        ]
        web._report(loop, {"message": "other", "exception": ValueError("of another kind")})
    assert "of another kind" in caplog.text


@pytest.mark.parametrize(
    ("host", "token", "warned"),
    [
        ("127.0.0.1", None, False),
        ("::1", None, False),
        ("localhost", None, False),
        ("0.0.0.0", None, True),
        ("::", None, True),
        ("ward-7", None, True),
        ("0.0.0.0", "secret", False),
    ],
)
def test_an_open_host_without_a_token_is_warned_of(host, token, warned):
    from tf_hypoperfusion.serving.server import embedded

    options = embedded.ServerOptions(
        host=host, port=0, grpc_port=None, poll_s=1, max_request_bytes=1, max_queue=1, token=token
    )
    warning = embedded._open_to_all(options)
    assert bool(warning) == warned
