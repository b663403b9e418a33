"""Servers of both kinds, a process of its own and one in this process, and how they are asked."""

import json
import signal
import socket
import subprocess
import sys
import threading
import time

import requests

from helpers import PROJECT

STRIDE = 16


class Client:
    """What tests ask of a server at ``url``."""

    url: str

    def predict(self, body, path="stroke", **options):
        options = {"timeout": 120} | options
        data = body if isinstance(body, bytes) else json.dumps(body)
        return requests.post(f"{self.url}/v1/models/{path}:predict", data=data, **options)

    def states(self):
        return requests.get(f"{self.url}/v1/models/stroke").json()["model_version_status"]

    def wait_for_version(self, number):
        """Until this version, and no other, is available."""
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            states = self.states()
            if [s["version"] for s in states if s["state"] == "AVAILABLE"] == [number]:
                return
            time.sleep(0.2)
        raise AssertionError(states)


class ServerProcess(Client):
    """``python -m tf_hypoperfusion.serve``, ready to answer."""

    def __init__(self, *arguments, log):
        self.log = log
        self.port, self.grpc_port = free_port(), free_port()  # kept when it is started again
        self.arguments = [
            sys.executable, "-m", "tf_hypoperfusion.serve", f"--port={self.port}",
            f"--grpc_port={self.grpc_port}", "--poll_s=0.3", *map(str, arguments),
        ]  # fmt: skip
        self.url = f"http://127.0.0.1:{self.port}"
        self.start()

    def start(self):
        self.process = subprocess.Popen(
            self.arguments, cwd=PROJECT, stdout=self.log.open("a"), stderr=subprocess.STDOUT
        )
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                if requests.get(f"{self.url}/readyz", timeout=1).ok:
                    return self
            except requests.RequestException:
                time.sleep(0.2)
        raise AssertionError(self.log.read_text())

    def stop(self, number=signal.SIGTERM):
        self.process.send_signal(number)
        return self.process.wait(90)


class HeldVersion:
    """Version 1 of "held", which gives back its input, not before it may, and keeps what it was
    asked."""

    name, number = "held", 1

    def __init__(self):
        from tensorflow.core.protobuf import meta_graph_pb2

        from tf_hypoperfusion.serving.server.version import TensorSpec

        self.may, self.asked = threading.Event(), []
        self.signatures = {"serving_default": {"x": TensorSpec("int64", (None,))}}
        definition = meta_graph_pb2.SignatureDef()
        for names in (definition.inputs, definition.outputs):
            names["x"].dtype = 9
        self.definitions = {"serving_default": definition}

    def specs(self, signature):
        return self.signatures[signature]

    def check(self, signature, given):
        pass

    check_arrays = check

    def run(self, signature, inputs):
        self.asked += inputs["x"].tolist()
        assert self.may.wait(120)
        return inputs


class HeldRepository:
    """A repository of one such version."""

    def __init__(self):
        self.version = HeldVersion()

    def get(self, name, number=None, label=None):
        return self.version

    def names(self):
        return ["held"]

    def refresh(self):
        pass


def until(fact):
    """Wait until something has come about."""
    deadline = time.monotonic() + 120
    while not fact():
        assert time.monotonic() < deadline
        time.sleep(0.02)


class ServerHere(Client):
    """The same server in this process, where the process is not the point."""

    def __init__(self, path, **options):
        from tf_hypoperfusion.serving.server.embedded import EmbeddedServer, ServerOptions
        from tf_hypoperfusion.serving.server.policies import ModelSource

        defaults = {
            "host": "127.0.0.1",
            "port": 0,
            "grpc_port": 0,
            "poll_s": 0.3,
            "max_request_bytes": 2**27,
            "max_queue": 64,
            "token": None,
        }
        source = ModelSource(str(path), is_config=path.is_file())
        self.server = EmbeddedServer(source, ServerOptions(**defaults | options))
        self.server.start()
        self.grpc_port = self.server.grpc_port
        self.url = f"http://127.0.0.1:{self.server.port}"
        self.ended = None
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        self.ended = self.server.run()

    def stop(self):
        """Whether all it began has ended."""
        self.server.stop()
        self.thread.join(90)
        return self.ended


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
