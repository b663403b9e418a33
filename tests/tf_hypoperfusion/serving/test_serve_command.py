"""``python -m tf_hypoperfusion.serve``: refusals, kills, stops."""

import concurrent.futures
import json
import signal
import time

import pytest
import requests
from helpers.serving import ServerProcess

from data_tools.runtime import command
from tf_hypoperfusion import serve as serve_command
from tf_hypoperfusion.inference import rest_client

pytestmark = pytest.mark.usefixtures("serve_extra")


def call(*arguments):
    """Run the command in this process, as far as its refusal; returns its exit status."""
    return command.run(serve_command.main, serve_command.FLAGS, serve_command.__doc__, arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--models=/none",), "no such folder"),
        (("--config=/none",), "not a models.config"),
        (("--models={empty}",), "holds no model that can be served"),
        (("--port=99999",), "port"),
        (("--poll_s=-1",), "poll_s"),
        (("--token_file={empty}/token",), "first line is empty"),
        (("--allow_reload",), "without --token_file"),
    ],
)
def test_a_server_that_cannot_start_says_why(arguments, message, tmp_path, capsys):
    (tmp_path / "token").write_text("")
    assert call("--port=0", *(argument.format(empty=tmp_path) for argument in arguments)) == 2
    said = capsys.readouterr().err
    assert message in said and "Traceback" not in said


def test_a_port_in_use_is_one_message(server, saved_models, capsys):
    for ports in ((server.port, 0), (0, server.grpc_port)):
        given = (f"--models={saved_models}", f"--port={ports[0]}", f"--grpc_port={ports[1]}")
        assert call(*given) == 2
        said = capsys.readouterr().err
        assert "Traceback" not in said
        assert "cannot listen on" in said


def test_killed_in_mid_request_started_again_and_stopped(
    saved_models, patient_body, tmp_path, monkeypatch
):
    monkeypatch.setattr(rest_client, "RETRIES", 8)  # a busy machine starts slowly
    serve = ServerProcess(f"--models={saved_models}", log=tmp_path / "log")
    data = json.dumps(patient_body).encode()
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        running = [pool.submit(serve.predict, data) for _ in range(4)]
        time.sleep(0.2)
        serve.stop(signal.SIGKILL)
        for future in running:
            assert isinstance(future.exception(), requests.ConnectionError)
        # A client with patience survives the restart.
        client = rest_client.Server(serve.url, "stroke")
        waiting = pool.submit(client.predict, patient_body)
        serve.start()
        assert waiting.result()["hypoperfusion_ml"]
        # A stop finishes what was begun.
        running = [pool.submit(serve.predict, data) for _ in range(4)]
        time.sleep(0.3)
        assert serve.stop() == 0
        assert all(future.result().status_code == 200 for future in running)
