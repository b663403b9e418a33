"""The embedded server as a process of its own: REST, gRPC, versions, limits, hostile requests."""

import base64
import concurrent.futures
import gzip
import http.server
import io
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

import grpc
import numpy as np
import PIL.Image
import pytest
from helpers import PROJECT

requests = pytest.importorskip("requests")
pytest.importorskip("uvicorn")
pytest.importorskip("starlette")

from data_tools import mni_patient  # noqa: E402
from data_tools.grid import GRID_SHAPE, VOXEL_ML  # noqa: E402
from data_tools.runtime.errors import InputError  # noqa: E402
from tf_hypoperfusion.clinical import ClinicalFacts  # noqa: E402
from tf_hypoperfusion.inference import predictors, rest_client  # noqa: E402

STRIDE = 16


@pytest.fixture(scope="module")
def exported(networks, tmp_path_factory):
    """saved_models with one version of one model. Read only."""
    from tf_hypoperfusion.serving import saved_model

    out = tmp_path_factory.mktemp("served") / "saved_models"
    saved_model.export(networks[:1], "stroke", out, stride=STRIDE)
    return out


class Serve:
    """A server process."""

    def __init__(self, *arguments, log):
        self.log = log
        self.port, self.grpc_port = _free_port(), _free_port()
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

    def predict(self, body, path="stroke", **options):
        options = {"timeout": 120} | options
        data = body if isinstance(body, bytes) else json.dumps(body)
        return requests.post(f"{self.url}/v1/models/{path}:predict", data=data, **options)

    def wait_for_version(self, number):
        """Until this version, and no other, is available."""
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            states = requests.get(f"{self.url}/v1/models/stroke").json()["model_version_status"]
            if [s["version"] for s in states if s["state"] == "AVAILABLE"] == [number]:
                return
            time.sleep(0.2)
        raise AssertionError(states)


def _free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def server(exported, tmp_path_factory):
    """One server for the tests that only ask."""
    folder = tmp_path_factory.mktemp("server")
    (folder / "token").write_text("")
    serve = Serve(f"--models={exported}", "--max_request_mb=40", log=folder / "log")
    yield serve
    if serve.process.poll() is None:
        assert serve.stop() == 0


@pytest.fixture(scope="module")
def slab(networks):
    """One window, and the network's answer without a server."""
    rng = np.random.default_rng(0)
    image = np.round(rng.random((1, 128, 128, 16, 4)), 1).astype(np.float32)
    nihss = np.float32([[0.5]])
    return image, nihss, predictors.load_predictor(networks[0])(image, nihss)


def volumes(side="left", nihss=14):
    """A small bytes request for one made-up patient."""
    rng = np.random.default_rng(1)
    brain = np.zeros(GRID_SHAPE, "<f4")
    brain[20:70, 20:90, 5:55] = 1
    arrays = {
        "dwi": (brain * rng.uniform(50, 150, GRID_SHAPE)).astype("<f4"),
        "adc": (brain * rng.uniform(500, 1200, GRID_SHAPE)).astype("<f4"),
        "brain_mask": brain,
    }
    inputs = {
        name: [{"b64": base64.b64encode(gzip.compress(v.tobytes(), 1)).decode()}]
        for name, v in arrays.items()
    }
    scalars = {"nihss": [[nihss]], "side": [[side]], "voxel_ml": [[VOXEL_ML]]}
    return {"signature_name": "predict_volume_bytes", "inputs": inputs | scalars}, arrays


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


def test_volumes_in_both_forms(server):
    body, arrays = volumes()
    packed = server.predict(body).json()["outputs"]
    inputs = {name: [v.tolist()] for name, v in arrays.items()}
    inputs |= {name: body["inputs"][name] for name in ("nihss", "side", "voxel_ml")}
    plain = server.predict({"signature_name": "predict_volume", "inputs": inputs}).json()["outputs"]
    assert plain["hypoperfusion_ml"] == packed["hypoperfusion_ml"]
    assert json.loads(plain["model_info"][0][0])["name"] == "stroke"
    levels = base64.b64decode(packed["probability_png_bytes"][0]["b64"])
    assert levels[:4] == b"\x89PNG" and len(levels) < 1_200_000


def test_grpc_gives_what_rest_gives(server, slab):
    import tensorflow as tf
    from tensorflow_serving.apis import (
        get_model_status_pb2,
        model_service_pb2_grpc,
        predict_pb2,
        prediction_service_pb2_grpc,
    )

    image, nihss, expected = slab
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        request = predict_pb2.PredictRequest()
        request.model_spec.name = "stroke"
        request.inputs["image"].CopyFrom(tf.make_tensor_proto(image))
        request.inputs["nihss"].CopyFrom(tf.make_tensor_proto(nihss))
        answer = tf.make_ndarray(stub.Predict(request, timeout=60).outputs["probability"])
        np.testing.assert_allclose(answer, expected, atol=1e-6)
        status = get_model_status_pb2.GetModelStatusRequest()
        status.model_spec.name = "stroke"
        found = model_service_pb2_grpc.ModelServiceStub(channel).GetModelStatus(status)
        assert found.model_version_status[0].version == 1
        request.inputs["image"].CopyFrom(tf.make_tensor_proto(image[0]))
        with pytest.raises(grpc.RpcError) as caught:
            stub.Predict(request, timeout=60)
        assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert "image: shape [128, 128, 16, 4]" in caught.value.details()
        # A hundred bytes that stand for a terabyte.
        request.inputs["image"].Clear()
        request.inputs["image"].dtype = 1
        for size in (1000, 128_000, 128, 16, 4):
            request.inputs["image"].tensor_shape.dim.add(size=size)
        request.inputs["image"].float_val.append(0)
        with pytest.raises(grpc.RpcError) as caught:
            stub.Predict(request, timeout=60)
        assert "image: shape [1000, 128000" in caught.value.details()
        status.model_spec.version.value = 77
        with pytest.raises(grpc.RpcError) as caught:
            model_service_pb2_grpc.ModelServiceStub(channel).GetModelStatus(status)
        assert caught.value.code() == grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (b"{", 400, "JSON Parse error"),
        (b"[" * 100_000, 400, "JSON Parse error"),
        (b"\xff\xfe", 400, "JSON Parse error"),
        ([], 400, "expected a JSON object"),
        ({}, 400, "either 'instances' (rows) or 'inputs' (columns)"),
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
        ({"signature_name": 3, "inputs": {}}, 400, "expected one of"),
        ({"inputs": {}, "extra": 1}, 400, "unknown key(s) 'extra'"),
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
def test_patients_that_cannot_be_are_refused(server, change, message):
    body, _ = volumes()
    answer = server.predict(body | {"inputs": body["inputs"] | change})
    assert answer.status_code == 400, answer.text
    assert message in answer.json()["error"]


def test_paths_methods_and_models_that_are_not_there(server):
    for path, status in (
        ("/v1/models/none", 404), ("/v1/models/stroke/versions/9", 404),
        ("/v1/models/stroke/labels/stable", 404), ("/v1/models/", 400), ("/nothing", 404),
        ("/v1/models/stroke:classify", 400), ("/v1/models/..%2f..%2fetc", 400),
        ("/v1/models/stroke/versions/" + "9" * 40, 400),
    ):  # fmt: skip
        assert requests.get(server.url + path).status_code == status, path
    assert server.predict({"instances": [1]}, "none").status_code == 404
    assert requests.post(f"{server.url}/v1/models/stroke", data=b"{}").status_code == 400
    assert requests.put(f"{server.url}/v1/models/stroke", data=b"{}").status_code == 405


def test_too_large_is_413_and_the_server_goes_on(server):
    assert server.predict(b" " * (41 * 2**20)).status_code == 413
    assert requests.get(f"{server.url}/readyz").ok


@pytest.mark.slow
def test_fuzz_neither_kills_nor_spoils(server, slab):
    """A thousand requests cut, turned and mixed at random; good ones in between stay right."""
    image, nihss, expected = slab
    good, _ = volumes()
    rng = random.Random(7)
    small = json.dumps({"inputs": {"image": image[:, :2, :2].tolist(), "nihss": nihss.tolist()}})
    packed = json.dumps(good)

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
        for k in range(1000):
            answer = session.post(
                f"{server.url}/v1/models/stroke:predict", data=nonsense(), timeout=60
            )
            assert answer.status_code == 400, (k, answer.status_code, answer.text)
            assert "error" in answer.json()
            if k % 250 == 0:
                body = {"inputs": {"image": image.tolist(), "nihss": nihss.tolist()}}
                np.testing.assert_allclose(
                    server.predict(body).json()["outputs"], expected, atol=1e-6
                )
    assert server.process.poll() is None


def test_many_at_once_are_all_answered_alike(server):
    body, _ = volumes()
    expected = server.predict(body).json()["outputs"]["hypoperfusion_ml"]
    data = json.dumps(body).encode()
    with concurrent.futures.ThreadPoolExecutor(24) as pool:
        answers = list(pool.map(lambda _: server.predict(data), range(48)))
    assert [a.status_code for a in answers] == [200] * 48
    assert all(a.json()["outputs"]["hypoperfusion_ml"] == expected for a in answers)


def test_slabs_of_several_clients_in_one_batch_do_not_mix(server, networks):
    rng = np.random.default_rng(3)
    images = [np.round(rng.random((1, 128, 128, 16, 4)), 1).astype(np.float32) for _ in range(6)]
    feature = np.float32([[0.5]])
    predictor = predictors.load_predictor(networks[0])
    bodies = [{"inputs": {"image": i.tolist(), "nihss": [[0.5]]}} for i in images]
    bodies.insert(3, {"inputs": {"image": (images[0] * np.nan).tolist(), "nihss": [[0.5]]}})
    with concurrent.futures.ThreadPoolExecutor(7) as pool:
        answers = list(pool.map(server.predict, bodies))
    assert answers.pop(3).status_code == 400  # and its neighbours are answered
    for image, answer in zip(images, answers, strict=True):
        np.testing.assert_allclose(answer.json()["outputs"], predictor(image, feature), atol=1e-5)


def test_a_full_queue_says_503_and_the_client_asks_again(exported, tmp_path, monkeypatch):
    monkeypatch.setattr(
        rest_client, "RETRIES", 8
    )  # a busy machine may need longer than the default
    serve = Serve(f"--models={exported}", "--max_queue=1", log=tmp_path / "log")
    body, _ = volumes()
    data = json.dumps(body).encode()
    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda _: serve.predict(data), range(12)))
        codes = {answer.status_code for answer in answers}
        assert codes == {200, 503}
        refused = next(answer for answer in answers if answer.status_code == 503)
        assert refused.headers["Retry-After"] == "1" and "try again" in refused.json()["error"]
        client = rest_client.Server(serve.url, "stroke")
        # Busy now; the client waits and gets its answer.
        busy = [pool.submit(serve.predict, data) for _ in range(6)]
        assert client.predict(body)["hypoperfusion_ml"]
        [future.result() for future in busy]
    assert serve.stop() == 0


def test_a_new_version_is_taken_over_without_a_failed_request(exported, networks, tmp_path):
    from tf_hypoperfusion.serving import saved_model

    models = shutil.copytree(exported, tmp_path / "saved_models")
    serve = Serve(f"--models={models}", log=tmp_path / "log")
    body, _ = volumes()
    data = json.dumps(body).encode()
    versions, codes = [], []
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        exporting = pool.submit(saved_model.export, networks[1:], "stroke", models, stride=STRIDE)
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline and (len(versions) < 5 or versions[-1] != 2):
            answer = serve.predict(data)
            codes.append(answer.status_code)
            versions.append(json.loads(answer.json()["outputs"]["model_info"][0][0])["version"])
        exporting.result()
    assert set(codes) == {200} and set(versions) == {1, 2} and versions == sorted(versions)
    states = requests.get(f"{serve.url}/v1/models/stroke").json()["model_version_status"]
    assert [(s["version"], s["state"]) for s in states] == [("2", "AVAILABLE"), ("1", "END")]
    (models / "stroke/3").mkdir()  # what a careless copy leaves
    (models / "stroke/3/saved_model.pb").write_bytes(b"half")
    time.sleep(1.5)
    assert serve.predict(data).status_code == 200
    states = requests.get(f"{serve.url}/v1/models/stroke").json()["model_version_status"]
    assert states[0]["state"] == "END" and states[0]["status"]["error_message"]
    # The copy is finished: it serves. The newer ones are deleted: the old one is back.
    shutil.copytree(models / "stroke/2", models / "stroke/3", dirs_exist_ok=True)
    serve.wait_for_version("3")
    shutil.rmtree(models / "stroke/3")
    shutil.rmtree(models / "stroke/2")
    serve.wait_for_version("1")
    assert json.loads(serve.predict(data).json()["outputs"]["model_info"][0][0])["version"] == 1
    assert serve.stop() == 0


def test_killed_in_mid_request_and_started_again(exported, tmp_path, monkeypatch):
    monkeypatch.setattr(rest_client, "RETRIES", 8)  # a busy machine starts slowly
    serve = Serve(f"--models={exported}", log=tmp_path / "log")
    body, _ = volumes()
    data = json.dumps(body).encode()
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        running = [pool.submit(serve.predict, data) for _ in range(4)]
        time.sleep(0.2)
        serve.stop(signal.SIGKILL)
        for future in running:
            assert isinstance(future.exception(), requests.ConnectionError)
        # A client with patience survives the restart.
        client = rest_client.Server(serve.url, "stroke")
        waiting = pool.submit(client.predict, body)
        serve.start()
        assert waiting.result()["hypoperfusion_ml"]
    assert serve.stop() == 0


def test_a_stop_finishes_what_was_begun(exported, tmp_path):
    serve = Serve(f"--models={exported}", log=tmp_path / "log")
    data = json.dumps(volumes()[0]).encode()
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        running = [pool.submit(serve.predict, data) for _ in range(4)]
        time.sleep(0.3)
        assert serve.stop() == 0
        assert all(future.result().status_code == 200 for future in running)


def test_tokens_labels_and_the_config_of_tensorflow_serving(exported, tmp_path):
    config = (PROJECT / "serving/models.config").read_text()
    config = config.replace("/models/hypoperfusion", str(exported / "stroke"))
    (tmp_path / "models.config").write_text(config)
    (tmp_path / "token").write_text("secret\n")
    serve = Serve(
        f"--config={tmp_path}/models.config", f"--token_file={tmp_path}/token",
        log=tmp_path / "log",
    )  # fmt: skip
    assert requests.get(f"{serve.url}/v1/models/hypoperfusion").status_code == 401
    headers = {"Authorization": "Bearer secret"}
    path = f"{serve.url}/v1/models/hypoperfusion/labels/stable"
    assert requests.get(path, headers=headers).json()["model_version_status"][0]["version"] == "1"
    assert requests.get(path.replace("stable", "none"), headers=headers).status_code == 404
    assert requests.get(f"{serve.url}/healthz").ok
    with pytest.raises(InputError, match="refused with status 401"):
        rest_client.backend(serve.url, "hypoperfusion")
    backend = rest_client.backend(serve.url, "hypoperfusion", token_file=str(tmp_path / "token"))
    assert backend.stride is None
    assert requests.get(path, headers={"Authorization": "bearer secret"}).ok
    from tensorflow_serving.apis import get_model_status_pb2, model_service_pb2_grpc

    with grpc.insecure_channel(f"127.0.0.1:{serve.grpc_port}") as channel:
        status = get_model_status_pb2.GetModelStatusRequest()
        status.model_spec.name = "hypoperfusion"
        ask = model_service_pb2_grpc.ModelServiceStub(channel).GetModelStatus
        for given in (None, [("authorization", "Bearer other")]):
            with pytest.raises(grpc.RpcError) as caught:
                ask(status, metadata=given, timeout=30)
            assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED
        found = ask(status, metadata=[("authorization", "Bearer secret")], timeout=30)
        assert found.model_version_status[0].version == 1
    # Taken out of the file, a model is retired.
    text = (tmp_path / "models.config").read_text()
    (tmp_path / "models.config").write_text(text.replace('"hypoperfusion"', '"other"'))
    deadline = time.monotonic() + 60
    while requests.get(f"{serve.url}/v1/models/hypoperfusion", headers=headers).ok:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert serve.stop() == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--models=/none",), "no such folder"),
        (("--config=/none",), "not a models.config"),
        (("--models={empty}",), "holds no model that can be served"),
        (("--port=99999",), "port"),
        (("--poll_s=-1",), "poll_s"),
        (("--token_file={empty}/token",), "first line is empty"),
    ],
)
def test_a_server_that_cannot_start_says_why(arguments, message, tmp_path):
    given = [argument.format(empty=tmp_path) for argument in arguments]
    (tmp_path / "token").write_text("")
    done = subprocess.run(
        [sys.executable, "-m", "tf_hypoperfusion.serve", *given],
        capture_output=True, text=True, cwd=PROJECT, timeout=120,
    )  # fmt: skip
    assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr


def test_a_port_in_use_is_one_message(server, exported):
    for ports in ((server.port, 0), (0, server.grpc_port)):
        done = subprocess.run(
            [
                sys.executable, "-m", "tf_hypoperfusion.serve", f"--models={exported}",
                f"--port={ports[0]}", f"--grpc_port={ports[1]}",
            ],
            capture_output=True, text=True, cwd=PROJECT, timeout=120, env=os.environ,
        )  # fmt: skip
        assert done.returncode == 2 and "Traceback" not in done.stderr
        assert "cannot listen on" in done.stderr


class Elsewhere(http.server.BaseHTTPRequestHandler):
    """A server that answers with JSON, and not as a model would."""

    answer = b""

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.do_GET()

    def do_GET(self):
        self.send_response(200)
        self.send_header("content-length", str(len(self.answer)))
        self.end_headers()
        self.wfile.write(self.answer)

    def log_message(self, *_):
        pass


def picture(mode, size):
    content = io.BytesIO()
    PIL.Image.new(mode, size).save(content, "PNG")
    return base64.b64encode(content.getvalue()).decode()


@pytest.mark.parametrize(
    ("info", "png", "message"),
    [
        ("[1]", "", "no description of a model"),
        ('{"cohort": 3}', "", "no description of a model"),
        ('{"cohort": null}', "AAAA", "no PNG"),
        ('{"cohort": null}', picture("L", (6540, 91)), "expected 16 bits"),
        ('{"cohort": null}', picture("I;16", (6540, 90)), "expected 16 bits"),
    ],
)
def test_answers_of_another_kind_are_refused(info, png, message, mni_cohort, monkeypatch):
    outputs = {"model_info": [[info]], "probability_png_bytes": [{"b64": png}]}
    monkeypatch.setattr(Elsewhere, "answer", json.dumps({"outputs": outputs}).encode())
    there = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Elsewhere)
    threading.Thread(target=there.serve_forever, daemon=True).start()
    asked = rest_client.Server(f"http://127.0.0.1:{there.server_port}", "x")
    volumes = mni_patient.load_mni(mni_cohort, "sub-0001")
    with pytest.raises(InputError, match=message):
        rest_client._ask_volume(asked, volumes, ClinicalFacts("left", 5), "bytes")
    there.shutdown()


def test_requests_with_rows_that_do_not_match_reach_no_neighbour(server, slab):
    """Joined with others, a missing row would shift everybody's NIHSS by one."""
    image, nihss, expected = slab
    one, two = image.tolist(), np.concatenate([image, image]).tolist()
    bodies = [
        {"inputs": {"image": one, "nihss": [[0.1], [-1]]}},
        {"inputs": {"image": one, "nihss": nihss.tolist()}},
        {"inputs": {"image": two, "nihss": [[0.3]]}},
    ]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        busy = pool.submit(server.predict, volumes()[0])
        answers = list(pool.map(server.predict, bodies))
        assert busy.result().ok
    assert [a.status_code for a in answers] == [400, 200, 400]
    assert "different numbers of rows" in answers[0].text
    np.testing.assert_allclose(answers[1].json()["outputs"], expected, atol=1e-6)


def test_small_requests_that_would_become_large_are_refused(server):
    body, _ = volumes()
    bomb = base64.b64encode(gzip.compress(bytes(200_000_000))).decode()
    answer = server.predict(body | {"inputs": body["inputs"] | {"adc": [{"b64": bomb}]}})
    assert answer.status_code == 400 and "adc: expected the gzip" in answer.text
    many = {name: value * 9 for name, value in body["inputs"].items()}
    answer = server.predict(body | {"inputs": many})
    assert answer.status_code == 400 and "9 rows in one request; expected 8" in answer.text


def test_what_nobody_waits_for_is_not_run_and_a_stop_is_soon(exported, tmp_path):
    serve = Serve(f"--models={exported}", "--max_queue=12", log=tmp_path / "log")
    data = json.dumps(volumes()[0]).encode()
    with concurrent.futures.ThreadPoolExecutor(40) as pool:
        answers = [pool.submit(serve.predict, data, timeout=3) for _ in range(40)]
        while not all(answer.done() for answer in answers):
            assert requests.get(f"{serve.url}/healthz", timeout=10).ok
            time.sleep(0.2)
    codes = [answer.result().status_code for answer in answers if not answer.exception()]
    assert 503 in codes and set(codes) <= {200, 503}
    began = time.monotonic()
    assert serve.predict(data).ok  # those who left are not before it
    assert serve.stop() == 0
    assert time.monotonic() - began < 60
    assert "Traceback" not in serve.log.read_text()


@pytest.mark.parametrize(
    ("url", "name", "message"),
    [
        ("ftp://x", "stroke", "expected http://HOST:PORT"),
        ("http://127.0.0.1:9", "stroke", "does not answer"),
        ("{url}", "none", "Could not find any versions of model none"),
        ("{url}/healthz", "stroke", "refused with status 404"),
    ],
)
def test_servers_that_cannot_be_asked(url, name, message, server, monkeypatch):
    monkeypatch.setattr(rest_client, "BACK_OFF_S", 0.01)
    with pytest.raises(InputError, match=message):
        rest_client.backend(url.format(url=server.url), name)


def test_the_client_writes_what_predict_writes(server, exported, raw_cohort, tmp_path):
    from data_tools.runtime import command
    from tf_hypoperfusion import predict, serving_client

    dwi = raw_cohort / "sub-0001/dwi/sub-0001_dwi.nii.gz"
    adc = raw_cohort / "sub-0001/dwi/sub-0001_ADC.nii.gz"
    common = [f"--dwi={dwi}", f"--adc={adc}", "--nihss=14", "--side=left"]

    def call(module, *arguments):
        return command.run(module.main, module.FLAGS, module.__doc__, [*common, *arguments])

    assert call(predict, f"--model={exported}/stroke", "--stride=16", f"--out={tmp_path}/here") == 0
    where = (f"--url={server.url}",)
    assert call(serving_client, *where, "--model=stroke", f"--out={tmp_path}/bytes") == 0
    for form, *more in (("volume",), ("slabs", "--stride=16")):
        given = ("--model=stroke", f"--form={form}", *more, f"--out={tmp_path}/{form}")
        assert call(serving_client, *where, *given) == 0
    import nibabel as nib

    here = nib.load(tmp_path / "here/probability.nii.gz").get_fdata()
    names = {path.name for path in (tmp_path / "here").iterdir()}
    for form in ("bytes", "volume", "slabs"):
        there = nib.load(tmp_path / form / "probability.nii.gz").get_fdata()
        assert np.abs(there - here).max() < 1e-4
        # This network knows nothing: it says almost 0.5 everywhere, where a hair decides.
        clear = np.abs(here - 0.5) > 1e-4
        np.testing.assert_array_equal(there[clear] >= 0.5, here[clear] >= 0.5)
        assert {path.name for path in (tmp_path / form).iterdir()} == names
    info = json.loads((tmp_path / "bytes/result.json").read_text())["models"][0]
    assert info["name"] == "stroke" and info["version"] == 1


def test_the_client_needs_no_tensorflow(server, raw_cohort, tmp_path):
    """In a process where TensorFlow and Keras cannot be imported."""
    code = (
        "import sys\n"
        "sys.modules['tensorflow'] = sys.modules['keras'] = None\n"
        "from data_tools.runtime import command\n"
        "from tf_hypoperfusion import serving_client as c\n"
        "sys.exit(command.run(c.main, c.FLAGS, c.__doc__))\n"
    )
    folder = raw_cohort / "sub-0001/dwi"
    done = subprocess.run(
        [
            sys.executable, "-c", code, f"--url={server.url}", "--model=stroke", "--nihss=n/a",
            "--side=left", f"--dwi={folder}/sub-0001_dwi.nii.gz",
            f"--adc={folder}/sub-0001_ADC.nii.gz", f"--out={tmp_path}/out",
        ],
        capture_output=True, text=True, cwd=PROJECT, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out/result.json").is_file()
