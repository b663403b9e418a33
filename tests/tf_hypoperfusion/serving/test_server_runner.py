"""Many clients at once: batches that do not mix, limits, clients that leave."""

import concurrent.futures
import json
import threading
import time

import numpy as np
import pytest
import requests
from helpers.serving import ServerHere, ServerProcess

from tf_hypoperfusion.inference import rest_client
from tf_hypoperfusion.serving.server.errors import ServingError
from tf_hypoperfusion.serving.server.runner import Runner

pytestmark = pytest.mark.usefixtures("serve_extra")


def test_many_at_once_are_all_answered_alike(server, patient_body):
    expected = server.predict(patient_body).json()["outputs"]["hypoperfusion_ml"]
    data = json.dumps(patient_body).encode()
    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda _: server.predict(data), range(16)))
    assert [a.status_code for a in answers] == [200] * 16
    assert all(a.json()["outputs"]["hypoperfusion_ml"] == expected for a in answers)


def test_slabs_of_several_clients_in_one_batch_do_not_mix(server, network_predictors):
    rng = np.random.default_rng(3)
    images = [np.round(rng.random((1, 128, 128, 16, 4)), 1) for _ in range(4)]
    feature = np.array([[0.5]])
    bodies = [{"inputs": {"image": i.tolist(), "nihss": [[0.5]]}} for i in images]
    bodies.insert(2, {"inputs": {"image": (images[0] * np.nan).tolist(), "nihss": [[0.5]]}})
    with concurrent.futures.ThreadPoolExecutor(5) as pool:
        answers = list(pool.map(server.predict, bodies))
    assert answers.pop(2).status_code == 400  # and its neighbours are answered
    for image, answer in zip(images, answers, strict=True):
        expected = network_predictors[0](image, feature)
        np.testing.assert_allclose(answer.json()["outputs"], expected, atol=1e-5)


def test_requests_with_rows_that_do_not_match_reach_no_neighbour(server, slab, patient_body):
    """Joined with others, a missing row would shift everybody's NIHSS by one."""
    image, nihss, expected = slab
    one, two = image.tolist(), np.concatenate([image, image]).tolist()
    bodies = [
        {"inputs": {"image": one, "nihss": [[0.1], [-1]]}},
        {"inputs": {"image": one, "nihss": nihss.tolist()}},
        {"inputs": {"image": two, "nihss": [[0.3]]}},
    ]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        busy = pool.submit(server.predict, patient_body)
        answers = list(pool.map(server.predict, bodies))
        assert busy.result().ok
    assert [a.status_code for a in answers] == [400, 200, 400]
    assert "different numbers of rows" in answers[0].text
    np.testing.assert_allclose(answers[1].json()["outputs"], expected, atol=1e-5)


def test_a_full_queue_says_429_and_the_client_asks_again(saved_models, patient_body, monkeypatch):
    monkeypatch.setattr(rest_client, "RETRIES", 8)  # a busy machine needs longer than the default
    serve = ServerHere(saved_models, max_queue=1)
    data = json.dumps(patient_body).encode()
    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda _: serve.predict(data), range(12)))
        codes = {answer.status_code for answer in answers}
        assert codes == {200, 429}
        refused = next(answer for answer in answers if answer.status_code == 429)
        assert refused.headers["Retry-After"] == "1" and "try again" in refused.json()["error"]
        client = rest_client.Server(serve.url, "stroke")
        # Busy now; the client waits and gets its answer.
        busy = [pool.submit(serve.predict, data) for _ in range(4)]
        assert client.predict(patient_body)["hypoperfusion_ml"]
        [future.result() for future in busy]
    assert serve.stop()


class Held:
    """A version that answers no request before it may, and keeps what it was asked."""

    def __init__(self):
        self.may, self.asked = threading.Event(), []

    def check_arrays(self, signature, inputs):
        pass

    def run(self, signature, inputs):
        self.asked += inputs["x"].tolist()
        assert self.may.wait(120)
        return inputs


def _until(fact):
    deadline = time.monotonic() + 120
    while not fact():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_who_leaves_gives_up_the_place_at_once_and_is_never_run():
    version, runner, gone = Held(), Runner(max_queue=3), threading.Event()
    with concurrent.futures.ThreadPoolExecutor(8) as pool:

        def ask(number, **options):
            inputs = {"x": np.array([number])}
            return pool.submit(runner.run, version, "predict_volume", inputs, **options)

        running = ask(0, gone=gone)
        _until(lambda: version.asked == [0])
        left = [ask(number, gone=gone) for number in (1, 2, 3)]
        _until(lambda: runner.waiting == 3)
        with pytest.raises(ServingError, match="3 requests are waiting already"):
            ask(4).result(60)
        gone.set()
        for answer in left:
            with pytest.raises(ServingError, match="the client has left"):
                answer.result(60)
        assert runner.waiting == 0 and not running.done()
        stays = ask(5)
        _until(lambda: runner.waiting == 1)
        with pytest.raises(ServingError, match="the client has left"):
            ask(6, gone=gone).result(60)
        version.may.set()
        assert running.result(60)["x"] == [0] and stays.result(60)["x"] == [5]
        assert version.asked == [0, 5]
        runner.close()
        with pytest.raises(ServingError, match="the server is stopping"):
            ask(7).result(60)


def test_a_stop_answers_what_runs_and_refuses_what_waits():
    version, runner = Held(), Runner()
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        inputs = {"x": np.array([0])}
        running = pool.submit(runner.run, version, "predict_volume", inputs)
        _until(lambda: version.asked)
        waiting = pool.submit(runner.run, version, "predict_volume", inputs)
        _until(lambda: runner.waiting)
        closing = pool.submit(runner.close)
        with pytest.raises(ServingError, match="the server is stopping"):
            waiting.result(60)
        version.may.set()
        closing.result(60)
        assert running.result(60)["x"] == [0]


def test_clients_that_left_hold_up_nobody_and_a_stop_is_soon(
    saved_models, patient_body, tmp_path, monkeypatch
):
    monkeypatch.setattr(rest_client, "RETRIES", 8)  # a busy machine needs longer than the default
    serve = ServerProcess(f"--models={saved_models}", "--max_queue=12", log=tmp_path / "log")
    data = json.dumps(patient_body).encode()
    with concurrent.futures.ThreadPoolExecutor(40) as pool:
        answers = [pool.submit(serve.predict, data, timeout=3) for _ in range(40)]
        while not all(answer.done() for answer in answers):
            assert requests.get(f"{serve.url}/healthz", timeout=10).ok
            time.sleep(0.2)
    codes = [answer.result().status_code for answer in answers if not answer.exception()]
    assert set(codes) <= {200, 429}
    # A place is free once the server has noticed that they left.
    assert rest_client.Server(serve.url, "stroke").predict(patient_body)["hypoperfusion_ml"]
    assert serve.stop() == 0
    assert "Traceback" not in serve.log.read_text()
