"""REST: paths, JSON in and out, malformed and hostile requests."""

import base64
import gzip
import json
import random
import socket
import time

import numpy as np
import pytest
import requests
from helpers.serving import ServerHere

from tf_hypoperfusion.serving.server import embedded, http_protocol


def test_status_metadata_health_and_figures(server):
    status = requests.get(f"{server.url}/v1/models/stroke").json()["model_version_status"]
    assert status == [
        {"version": "1", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    ]
    assert requests.get(f"{server.url}/v1/models/stroke/versions/1").json()["model_version_status"]
    metadata = requests.get(f"{server.url}/v1/models/stroke/metadata").json()
    signatures = metadata["metadata"]["signature_def"]["signature_def"]
    assert set(signatures) >= {"serving_default", "predict_volume", "predict_volume_bytes"}
    assert signatures["serving_default"]["inputs"]["nihss"]["dtype"] == "DT_FLOAT"
    assert metadata["model_spec"]["version"] == "1"
    assert requests.get(f"{server.url}/healthz").text == "ok"
    assert (
        "hypoperfusion_models 1.0"
        in requests.get(f"{server.url}/monitoring/prometheus/metrics").text
    )


def test_rows_and_columns_are_the_networks_answer(server, slab):
    image, nihss, expected = slab
    columns = server.predict({"inputs": {"image": image.tolist(), "nihss": nihss.tolist()}})
    np.testing.assert_allclose(columns.json()["outputs"], expected, atol=1e-6)
    row = {"image": image[0].tolist(), "nihss": nihss[0].tolist()}
    rows = server.predict({"instances": [row]}, "stroke/versions/1")
    np.testing.assert_allclose(rows.json()["predictions"], expected, atol=1e-6)


def test_volumes_in_both_forms(server, patient_bodies):
    packed, plain = (
        server.predict(patient_bodies[form]).json()["outputs"] for form in ("bytes", "volume")
    )
    assert plain["hypoperfusion_ml"] == packed["hypoperfusion_ml"]
    assert json.loads(plain["model_info"][0][0])["name"] == "stroke"
    levels = base64.b64decode(packed["probability_png_bytes"][0]["b64"])
    assert levels[:4] == b"\x89PNG" and len(levels) < 1_200_000


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (b"{", 400, "JSON Parse error"),
        (b"[" * 100_000, 400, "JSON Parse error"),
        (b"\xff\xfe", 400, "JSON Parse error"),
        ([], 400, "expected a JSON object"),
        ({}, 400, "Missing 'inputs' or 'instances' key"),
        ({"instances": [1], "inputs": [1]}, 400, "either 'instances' (rows) or 'inputs'"),
        ({"instances": []}, 400, "is empty"),
        ({"instances": [{"image": 1}, 2]}, 400, "mixes named and unnamed rows"),
        ({"instances": [{"image": 1}, {"nihss": 2}]}, 400, "the same names"),
        ({"inputs": {"image": [1]}}, 400, "missing ['nihss']"),
        ({"inputs": {"image": [[1], [1, 2]], "nihss": [[1]]}}, 400, "image: no rectangular"),
        ({"inputs": {"image": ["a"], "nihss": [[1]]}}, 400, "image: holds other values"),
        ({"inputs": {"image": [None], "nihss": [[1]]}}, 400, "image: "),
        ({"inputs": {"image": [1.0], "nihss": [[1]]}}, 400, "image: shape [1]"),
        ({"inputs": {"image": [], "nihss": [[1]]}}, 400, "image: shape [0]"),
        ({"signature_name": "x", "inputs": {}}, 400, "expected one of"),
        ({"signature_name": 3, "inputs": {}}, 400, "must be a string value"),
        (b'{"inputs": ' + b"[" * 5000, 400, "JSON Parse error"),
        (
            b'{"inputs": {"image": [' + b"[1, 2], " * 999 + b'[1]], "nihss": [[1]]}}',
            400,
            "rectangle",
        ),
        (
            b'{"inputs": {"image": [' + b"1, " * 5000 + b'1], "nihss": [[1]]}}',
            400,
            "image: shape [5001]",
        ),
        (b'{"a": [' + b'{"b": 1},' * 500_000 + b"1]}", 400, "bytes beside arrays of numbers"),
    ],
)
def test_malformed_requests_get_a_reason(server, body, status, message):
    answer = server.predict(body)
    assert answer.status_code == status, answer.text
    assert message in answer.json()["error"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"side": [["L"]]}, "side: expected one of left, right, bilateral"),
        ({"nihss": [[43]]}, "nihss: expected a whole number"),
        ({"nihss": [[float("nan")]]}, "nihss: expected a whole number"),
        ({"voxel_ml": [[8]]}, "voxel_ml: expected mL"),
        ({"dwi": [{"b64": "AAAA"}]}, ""),
        ({"dwi": [{"b64": "not base64!"}]}, "dwi: no rectangular tensor"),
        ({"dwi": ["text"]}, ""),
        ({"dwi": [{"b64": "H4sIAAAAAAACAzM0MjYxNTO3AACv2uCaCAAAAA=="}]}, "dwi: expected the gzip"),
    ],
)  # fmt: skip
def test_patients_that_cannot_be_are_refused(server, patient_body, change, message):
    answer = server.predict(patient_body | {"inputs": patient_body["inputs"] | change})
    assert answer.status_code == 400, answer.text
    assert message in answer.json()["error"]


def test_paths_methods_and_models_that_are_not_there(server):
    for path, status in (
        ("/v1/models/none", 404), ("/v1/models/stroke/versions/9", 404),
        ("/v1/models/stroke/labels/none/metadata", 400), ("/v1/models/", 400), ("/nothing", 404),
        ("/v1/models", 400), ("/v2/models/stroke", 404), ("/v1/models/stroke:predict", 400),
        ("/v1/models/stroke:classify", 400), ("/v1/models/..%2f..%2fetc", 404),
        ("/v1/models/stroke/versions/" + "9" * 40, 400),
    ):  # fmt: skip
        answer = requests.get(server.url + path)
        assert (answer.status_code, set(answer.json())) == (status, {"error"}), path
    assert server.predict({"instances": [1]}, "none").status_code == 404
    for method, path, status in (
        ("POST", "/v1/models/stroke", 400), ("PUT", "/v1/models/stroke", 400),
        ("POST", "/healthz", 405), ("DELETE", "/none", 404),
    ):  # fmt: skip
        answer = requests.request(method, server.url + path, data=b"{}")
        assert (answer.status_code, set(answer.json())) == (status, {"error"}), path


def test_what_tensorflow_serving_lets_pass_is_let_pass(server, patient_body):
    expected = server.predict(patient_body).json()
    inputs = patient_body["inputs"]
    bare = {
        name: [{"b64": inputs[name][0]["b64"].rstrip("=")}] for name in ("dwi", "adc", "brain_mask")
    }
    other = patient_body | {"extra": 1, "inputs": inputs | bare | {"more": [{"x": None}]}}
    body = b" \n" + json.dumps(other).encode() + b"} trailing ["
    answer = server.predict(body, "stroke")
    assert answer.json() == expected
    answer = requests.post(f"{server.url}/V1/Models/stroke/VERSIONS/1:predict", data=body)
    assert answer.json() == expected
    status = requests.get(f"{server.url}/v1/models/stroke/labels/none")  # it takes no notice
    assert status.json() == requests.get(f"{server.url}/v1/models/stroke").json()
    answer = server.predict(patient_body, "stroke/labels/none")
    assert (answer.status_code, "version label: none" in answer.text) == (400, True)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"{", "JSON Parse error"),
        ({}, "key 'examples' is expected and was not found"),
        ({"examples": 1}, "to be an list/array"),
        ({"examples": []}, "is an empty array"),
        (
            {"examples": [{"x": 1}], "signature_name": "none"},
            "No signature was found with the name",
        ),
        ({"examples": [{"x": 1}]}, "Expected one input Tensor."),
    ],
)
def test_classify_and_regress_are_refused_in_its_words(server, body, message):
    data = body if isinstance(body, bytes) else json.dumps(body)
    for method in ("classify", "regress"):
        answer = requests.post(f"{server.url}/v1/models/stroke:{method}", data=data)
        assert (answer.status_code, message in answer.json()["error"]) == (400, True), answer.text
    answer = requests.post(f"{server.url}/v1/models/none:classify", json={"examples": [{}]})
    assert answer.status_code == 404


def test_pages_of_other_origins_may_ask_where_that_is_wanted(server, saved_models):
    path, origin = "/v1/models/stroke", {"Origin": "https://example.org"}
    assert requests.options(server.url + path, headers=origin).status_code == 200
    assert requests.options(server.url + path).status_code == 400
    assert "Access-Control-Allow-Origin" not in requests.get(server.url + path).headers
    serve = ServerHere(saved_models, cors=True, token="secret", grpc_port=None)
    asked = requests.options(serve.url + path, headers=origin)
    assert (asked.status_code, asked.headers["Access-Control-Allow-Origin"]) == (200, "*")
    assert "Authorization" in asked.headers["Access-Control-Allow-Headers"]
    told = requests.get(serve.url + path)
    assert told.headers["Access-Control-Allow-Methods"] == "POST, GET"
    assert (told.status_code, told.headers["WWW-Authenticate"]) == (401, "Bearer")
    assert serve.stop()


@pytest.mark.parametrize("method", ["predict", "classify"])
def test_half_a_character_in_a_name_is_quoted_in_the_refusal(server, method):
    body = b'{"signature_name": "\\ud800", "inputs": {}}'
    answer = requests.post(f"{server.url}/v1/models/stroke:{method}", data=body)
    assert answer.status_code == 400 and answer.json()["error"]


def test_a_request_that_takes_longer_than_it_may_gets_504(saved_models, patient_body):
    serve = ServerHere(saved_models, timeout_s=1e-9, grpc_port=None)
    answer = serve.predict(patient_body)
    assert (answer.status_code, set(answer.json())) == (504, {"error"})
    assert serve.stop()


def test_requests_are_counted_by_tensorflow_servings_names(server, patient_body):
    assert server.predict(patient_body).ok
    server.predict(b"{")
    text = requests.get(f"{server.url}/monitoring/prometheus/metrics").text
    assert "# TYPE :tensorflow:serving:request_count counter" in text
    for labels in (
        'model_name="stroke",status="OK"',
        'model_name="stroke",status="INVALID_ARGUMENT"',
    ):
        assert f":tensorflow:serving:request_count{{{labels}}}" in text
    labels = 'API="predict",entrypoint="REST",le="10.0",model_name="stroke"'
    assert f":tensorflow:serving:request_latency_bucket{{{labels}}}" in text


def test_too_large_is_413_and_the_server_goes_on(server):
    assert server.predict(b" " * (41 * 2**20)).status_code == 413
    assert requests.get(f"{server.url}/readyz").ok


def test_a_gzip_body_is_answered_as_the_body(server, patient_body):
    expected = server.predict(patient_body).json()
    content = json.dumps(patient_body).encode()
    half = len(content) // 2
    in_parts = gzip.compress(content[:half]) + gzip.compress(content[half:]) + bytes(8)
    for body in (gzip.compress(content), in_parts):
        assert server.predict(body, headers={"Content-Encoding": "gzip"}).json() == expected


@pytest.mark.parametrize("encoding", ["gzip", "GZIP", "x-gzip", "identity, gzip"])
def test_gzip_by_any_name_is_unpacked(encoding, server):
    body = gzip.compress(b'{"inputs": {}}')
    answer = server.predict(body, headers={"Content-Encoding": encoding})
    assert "missing ['image', 'nihss']" in answer.json()["error"]


@pytest.mark.parametrize(
    ("body", "encoding", "status", "message"),
    [
        (gzip.compress(b"{}", mtime=0)[:-3], "gzip", 400, "no whole gzip"),
        (gzip.compress(b"{}", mtime=0)[:-8] + bytes(8), "gzip", 400, "no whole gzip"),
        (b"{}", "gzip", 400, "no whole gzip"),
        (gzip.compress(b"{}", mtime=0), "", 400, "JSON Parse error"),
        (b"", "gzip", 400, "JSON Parse error"),
        (b"{}", "br", 415, "Content-Encoding is 'br'; expected gzip, identity, or none"),
        (b"{}", "deflate", 415, "expected gzip"),
        (b"{}", "gzip, gzip", 415, "expected gzip"),
        (gzip.compress(bytes(41 * 2**20), 1, mtime=0), "gzip", 413, "larger than"),
        (gzip.compress(bytes(2**24), 1, mtime=0) * 3, "gzip", 413, "larger than"),
    ],
    ids=[
        "cut", "bad sum", "none", "not said", "empty", "br", "deflate", "twice", "bomb", "in parts",
    ],
)  # fmt: skip
def test_other_and_damaged_bodies_get_a_reason(server, body, encoding, status, message):
    answer = server.predict(body, headers={"Content-Encoding": encoding})
    assert (answer.status_code, message in answer.json()["error"]) == (status, True), answer.text


def test_small_requests_that_would_become_large_are_refused(server, patient_body):
    body = patient_body
    bomb = base64.b64encode(gzip.compress(bytes(200_000_000))).decode()
    answer = server.predict(body | {"inputs": body["inputs"] | {"adc": [{"b64": bomb}]}})
    assert answer.status_code == 400 and "adc: expected the gzip" in answer.text
    many = {name: value * 9 for name, value in body["inputs"].items()}
    answer = server.predict(body | {"inputs": many})
    assert answer.status_code == 400 and "9 rows in one request; expected 8" in answer.text


def test_fuzz_neither_kills_nor_spoils(server, slab, patient_body):
    """Requests cut, turned and mixed at random; good ones in between stay right."""
    image, nihss, expected = slab
    rng = random.Random(7)
    small = json.dumps({"inputs": {"image": image[:, :2, :2].tolist(), "nihss": nihss.tolist()}})
    packed = json.dumps(patient_body)

    def nonsense():
        kind = rng.randrange(6)
        if kind == 0:
            return rng.randbytes(rng.randrange(300))
        text = bytearray((small if kind < 4 else packed[-400:]).encode())
        for _ in range(rng.randrange(1, 12)):
            place = rng.randrange(len(text))
            text[place : place + rng.randrange(4)] = rng.randbytes(rng.randrange(4))
        if kind == 3:
            return bytes(text[: rng.randrange(len(text))])
        return bytes(text)

    with requests.Session() as session:
        for k in range(400):
            answer = session.post(
                f"{server.url}/v1/models/stroke:predict", data=nonsense(), timeout=60
            )
            assert answer.status_code == 400, (k, answer.status_code, answer.text)
            assert "error" in answer.json()
            if k % 200 == 199:
                body = {"inputs": {"image": image.tolist(), "nihss": nihss.tolist()}}
                np.testing.assert_allclose(
                    server.predict(body).json()["outputs"], expected, atol=1e-6
                )
    assert server.process.poll() is None


def test_bodies_that_never_end_take_no_place_from_others(saved_models, slab, monkeypatch):
    monkeypatch.setattr(http_protocol, "PAUSE_S", 60.0)
    serve = ServerHere(saved_models, max_queue=2)
    head = b"POST /v1/models/stroke:predict HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n{"
    hanging = [socket.create_connection(("127.0.0.1", serve.server.port)) for _ in range(20)]
    for client in hanging:
        client.sendall(head)
    image, nihss, _ = slab
    assert serve.predict({"inputs": {"image": image.tolist(), "nihss": nihss.tolist()}}).ok
    for client in hanging:
        client.close()
    assert serve.stop()


def test_bodies_that_are_too_much_together_are_refused(saved_models, monkeypatch):
    monkeypatch.setattr(embedded, "HELD_REQUESTS", 1)
    monkeypatch.setattr(http_protocol, "PAUSE_S", 600.0)
    serve = ServerHere(saved_models, max_request_bytes=2**20, grpc_port=None)
    memory = serve.server._shared["memory"]
    head = b"POST /v1/models/stroke:predict HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\n\r\n"
    with socket.create_connection(("127.0.0.1", serve.server.port)) as client:
        client.sendall(head + b"x" * 900_000)
        deadline = time.monotonic() + 120
        while memory.size < 900_000 and time.monotonic() < deadline:
            time.sleep(0.02)
        answer = serve.predict(b"{" + b" " * 300_000)
        assert (answer.status_code, answer.headers["Retry-After"]) == (429, "1")
        assert "try again later" in answer.json()["error"]
    while memory.size and time.monotonic() < deadline:
        time.sleep(0.02)
    assert memory.size == 0
    assert serve.stop()
