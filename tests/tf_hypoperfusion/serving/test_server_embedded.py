"""The server over TensorFlow Serving's ``models.config``: tokens, labels, a model taken out."""

import socket
import time

import grpc
import pytest
import requests
from helpers import PROJECT
from helpers.serving import ServerHere

from data_tools.runtime.errors import InputError
from tf_hypoperfusion.inference import rest_client

pytestmark = pytest.mark.usefixtures("serve_extra")

HEADERS = {"Authorization": "Bearer secret"}


@pytest.fixture
def config(stroke_export, tmp_path):
    """The project's own ``models.config`` over the exported model."""
    text = (PROJECT / "serving/models.config").read_text()
    path = tmp_path / "models.config"
    path.write_text(text.replace("/models/hypoperfusion", str(stroke_export.parent)))
    return path


@pytest.fixture
def configured(config):
    """A server over it that asks for a token."""
    serve = ServerHere(config, token="secret")
    yield serve
    assert serve.stop()


def test_tokens_labels_and_the_config_of_tensorflow_serving(configured, config, tmp_path):
    url = configured.url
    assert requests.get(f"{url}/v1/models/hypoperfusion").status_code == 401
    path = f"{url}/v1/models/hypoperfusion/labels/stable"
    assert requests.get(path, headers=HEADERS).json()["model_version_status"][0]["version"] == "1"
    other = path.replace("stable", "none") + "/metadata"
    assert requests.get(other, headers=HEADERS).status_code == 400
    assert requests.get(f"{url}/healthz").ok
    with pytest.raises(InputError, match="refused with status 401"):
        rest_client.backend(url, "hypoperfusion")
    (tmp_path / "token").write_text("secret\n")
    backend = rest_client.backend(url, "hypoperfusion", token_file=str(tmp_path / "token"))
    assert backend.stride is None
    assert requests.get(path, headers={"Authorization": "bearer secret"}).ok
    # Taken out of the file, a model is retired; put in under another name, it is served.
    config.write_text(config.read_text().replace('"hypoperfusion"', '"other"'))
    deadline = time.monotonic() + 60
    while requests.get(f"{url}/readyz").json()["models"] != ["other"]:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert not requests.get(f"{url}/v1/models/hypoperfusion", headers=HEADERS).ok


def test_grpc_asks_for_the_token_too(configured):
    from tensorflow_serving.apis import get_model_status_pb2, model_service_pb2_grpc

    with grpc.insecure_channel(f"127.0.0.1:{configured.grpc_port}") as channel:
        status = get_model_status_pb2.GetModelStatusRequest()
        status.model_spec.name = "hypoperfusion"
        ask = model_service_pb2_grpc.ModelServiceStub(channel).GetModelStatus
        for given in (None, [("authorization", "Bearer other")]):
            with pytest.raises(grpc.RpcError) as caught:
                ask(status, metadata=given, timeout=30)
            assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED
        found = ask(status, metadata=[("authorization", "Bearer secret")], timeout=30)
        assert found.model_version_status[0].version == 1


def test_small_answers_are_not_held_back():
    """asyncio sends them at once only on sockets that say they are TCP; else after 40 ms."""
    from tf_hypoperfusion.serving.server import embedded

    with embedded._listen("127.0.0.1", 0) as listening:
        assert listening.proto == socket.IPPROTO_TCP
