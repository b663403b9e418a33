"""Clients that never finish are let go, and the others are answered meanwhile."""

import contextlib
import socket
import threading
import time

import pytest
import uvicorn

from tf_hypoperfusion.serving.server import http_protocol
from tf_hypoperfusion.serving.server.http_protocol import OneLength, TimedProtocol

pytestmark = pytest.mark.usefixtures("serve_extra")
POST = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\n\r\n"
# What was sent, and what it must come to.
UNFINISHED = {"nothing": b"", "half a head": b"POST / HT", "half a body": POST + b"ab"}


@pytest.fixture
def impatient(monkeypatch):
    """A quarter of a second for everything."""
    for name in ("HEAD_S", "PAUSE_S"):
        monkeypatch.setattr(http_protocol, name, 0.25)


@pytest.fixture
def port():
    """A server that gives back what it is sent."""

    async def echo(scope, receive, send):
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body, more = body + message["body"], message.get("more_body", False)
        headers = [(b"connection", b"close"), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    config = uvicorn.Config(OneLength(echo), http=TimedProtocol, lifespan="off", log_config=None)
    server = uvicorn.Server(config)
    listening = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
    thread.start()
    yield listening.getsockname()[1]
    server.should_exit = True
    thread.join(30)


def connected(port):
    return socket.create_connection(("127.0.0.1", port), timeout=30)


def answer_of(client):
    """All that comes until the server closes."""
    found = b""
    while part := client.recv(4096):
        found += part
    return found


@pytest.mark.parametrize("sent", UNFINISHED.values(), ids=UNFINISHED)
def test_who_does_not_finish_is_let_go(impatient, port, sent):
    with connected(port) as client:
        client.sendall(sent)
        assert answer_of(client).startswith(b"HTTP/1.1 408")


def test_bytes_that_drip_give_a_head_no_further_time(impatient, port):
    with connected(port) as client:
        client.settimeout(0.05)
        received, until = b"", time.monotonic() + 60
        while b"408" not in received and time.monotonic() < until:
            with contextlib.suppress(TimeoutError, BrokenPipeError, ConnectionResetError):
                client.sendall(b"P")
                received += client.recv(4096)
        assert b"408" in received


def test_a_whole_request_is_answered_while_others_hang(port):
    hanging = [connected(port) for _ in range(20)]
    for client in hanging:
        client.sendall(POST)
    with connected(port) as client:
        client.sendall(POST + b"abcd")
        assert answer_of(client).endswith(b"abcd")
    for client in hanging:
        client.close()


def test_a_request_with_two_lengths_is_refused_and_what_follows_is_not_read(port):
    second = b"GET /second HTTP/1.1\r\nhost: x\r\n\r\n"
    with connected(port) as client:
        client.sendall(
            b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n"
            b"0\r\n\r\n" + second
        )
        answer = answer_of(client)
    assert answer.startswith(b"HTTP/1.1 400 ") and answer.count(b"HTTP/1.1") == 1


def test_one_more_connection_than_may_be_is_closed_at_once(port, monkeypatch):
    monkeypatch.setattr(http_protocol, "most_connections", lambda: 1)
    monkeypatch.setattr(http_protocol, "HEAD_S", 60.0)
    with connected(port) as first, connected(port) as second:
        assert answer_of(second) == b""
        first.sendall(POST + b"abcd")
        assert answer_of(first).endswith(b"abcd")
