"""The server without TensorFlow: the answers and refusals of TensorFlow's, and nothing heavy."""

import base64
import gzip
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import requests
from helpers import PROJECT
from helpers.calibrations import calibration_of
from helpers.serving import STRIDE, ServerHere

from data_tools.runtime.errors import InputError
from tf_hypoperfusion.clinical import ClinicalFacts
from tf_hypoperfusion.inference import model_files, onnx_runtimes, rest_client
from tf_hypoperfusion.serving import model_card, protobuf, saved_model, warmup
from tf_hypoperfusion.serving.request_checks import VOLUMES

pytestmark = [
    pytest.mark.usefixtures("serve_extra"),
    pytest.mark.skipif(not onnx_runtimes.installed(), reason="nothing runs ONNX files"),
]

CODE = """
import json, sys, threading, urllib.request
from data_tools.runtime import light_imports
from tf_hypoperfusion import serve
light_imports.prepare_nibabel()  # as the command does
from tf_hypoperfusion.serving.server import embedded, policies
options = embedded.ServerOptions(
    host="127.0.0.1", port=0, grpc_port=0, poll_s=1, max_request_bytes=2**27, max_queue=2,
    token=None,
)
server = embedded.EmbeddedServer(policies.ModelSource(sys.argv[1]), options)
server.start()
thread = threading.Thread(target=server.run)
thread.start()
url = f"http://127.0.0.1:{server.port}/v1/models/stroke"
urllib.request.urlopen(url + "/metadata").read()
asked = urllib.request.Request(url + ":predict", sys.stdin.buffer.read(), method="POST")
answer = json.load(urllib.request.urlopen(asked))["outputs"]
server.stop()
thread.join()
print("ANSWERED", sorted(answer), file=sys.stderr)
print(*sys.modules)
"""


@pytest.fixture(scope="module")
def slow(saved_models, serve_extra):
    """The same models in TensorFlow."""
    served = ServerHere(saved_models, runtime="tensorflow", grpc_port=None)
    yield served
    assert served.stop()


def test_nothing_heavy_is_imported(saved_models, patient_body):
    done = subprocess.run(
        [sys.executable, "-c", CODE, saved_models],
        input=json.dumps(patient_body).encode(), capture_output=True, cwd=PROJECT, timeout=280,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()
    assert b"probability_png_bytes" in done.stderr
    imported = set(done.stdout.decode().split())
    heavy = {"tensorflow", "tensorflow.python", "keras", "onnx", "tf2onnx", "ants", "nilearn",
             "matplotlib", "sklearn", "pandas", "pydicom", "scipy.stats"}  # fmt: skip
    assert not imported & heavy


def test_it_says_the_same_of_itself(server, slow):
    for path in ("", "/metadata", "/versions/1", "/versions/7"):
        fast, other = (requests.get(f"{s.url}/v1/models/stroke{path}") for s in (server, slow))
        assert (fast.status_code, fast.json()) == (other.status_code, other.json())


def test_volumes_are_answered_alike(server, slow, made_up_patient, patient_bodies):
    """Also twice in one request, and as the client reads them."""
    body = patient_bodies["volume"]
    fast, other = (s.predict(body).json()["outputs"] for s in (server, slow))
    assert set(fast) == set(other)
    mine, its = (np.array(answer["probability"]) for answer in (fast, other))
    np.testing.assert_allclose(mine, its, atol=1e-5)
    assert fast["model_info"] == other["model_info"]
    assert fast["core_ml"] == other["core_ml"]
    # This network knows nothing: it says almost 0.5 everywhere, where a hair decides.
    undecided_ml = np.sum(np.abs(its - 0.5) < 1e-5) * made_up_patient.voxel_ml + 1e-4
    for name in ("hypoperfusion_ml", "mismatch_ml"):
        np.testing.assert_allclose(fast[name], other[name], atol=undecided_ml)
    assert all(type(fast[name][0][0]) is type(other[name][0][0]) for name in other)
    given = ClinicalFacts("left", 14)
    twice = {name: value * 2 for name, value in patient_bodies["bytes"]["inputs"].items()}
    (packed, packed_too) = (
        rest_client._from_png(base64.b64decode(one["b64"]))
        for one in server.predict(patient_bodies["bytes"] | {"inputs": twice}).json()["outputs"][
            "probability_png_bytes"
        ]
    )
    np.testing.assert_array_equal(packed, packed_too)
    for form, tolerance in (("bytes", 2e-5), ("volume", 1e-5)):
        by_client, by_client_slow = (
            rest_client.backend(s.url, "stroke", form=form).answers[0](made_up_patient, given).mean
            for s in (server, slow)
        )
        np.testing.assert_allclose(by_client, by_client_slow, atol=tolerance)
        np.testing.assert_allclose(by_client, mine[0], atol=tolerance)


@pytest.fixture(scope="module")
def calibrated_export(networks, stroke_export, tmp_path_factory):
    """Of the same network, as version 1 of "stroke" elsewhere."""
    folder = tmp_path_factory.mktemp("calibrated")
    made = calibration_of(
        intercept=0.3, cut=0.3, networks=[model_files.describe(networks[0]).sha256]
    )
    (folder / "calibration.json").write_text(json.dumps(made.to_json()))
    done, _ = saved_model.export(
        networks[:1], "stroke", folder, stride=STRIDE, onnx=False,
        calibration_file=str(folder / "calibration.json"),
    )  # fmt: skip
    # Which holds the networks alone, however their average is calibrated.
    shutil.copy(stroke_export / "model.onnx", done)
    return done


def test_a_calibrated_export_is_answered_alike(calibrated_export, patient_body):
    from tf_hypoperfusion.serving.server import onnx_model, tensorflow_model

    fast = onnx_model.OnnxModel(calibrated_export / "model.onnx", "auto", None)
    slow = tensorflow_model.TensorFlowModel(calibrated_export)
    given = patient_body["inputs"]
    volumes = {name: [base64.b64decode(given[name][0]["b64"])] for name in VOLUMES}
    inputs = {name: np.array(value, object) for name, value in volumes.items()} | {
        "nihss": np.float32([[14]]),
        "voxel_ml": np.float32([[0.008]]),
        "side": np.array([[b"left"]], object),
    }
    mine, its = (each.run("predict_volume_bytes", inputs) for each in (fast, slow))
    assert {k: (v.shape, v.dtype) for k, v in mine.items()} == {
        k: (v.shape, v.dtype) for k, v in its.items()
    }
    assert mine["answer"][0, 0] in (b"yes", b"no", b"unsure")
    seen, expected = (
        rest_client._from_png(answer.pop("probability_png_bytes")[0]) for answer in (mine, its)
    )
    np.testing.assert_allclose(seen, expected, atol=2e-5)
    inside_ml = np.sum(expected >= 0.3) * 0.008
    assert its["hypoperfusion_ml"] == pytest.approx(inside_ml, rel=1e-6)
    assert json.loads(mine["model_info"][0, 0])["calibration"]["cut"] == 0.3
    undecided_ml = np.sum(np.abs(expected - 0.3) < 4e-5) * 0.008
    for name, value in its.items():
        if value.dtype == object or value.dtype == bool:
            assert mine[name].tolist() == value.tolist()
        else:
            np.testing.assert_allclose(mine[name], value, rtol=1e-6, atol=2 * undecided_ml)
    assert mine["hypoperfusion_low_ml"] < mine["hypoperfusion_ml"] < mine["hypoperfusion_high_ml"]


def packed(volume):
    return [{"b64": base64.b64encode(gzip.compress(volume, 1, mtime=0)).decode()}]


def changed(**inputs):
    return lambda body: {name: inputs.get(name, value) for name, value in body.items()}


def every_volume(change):
    """Each volume of the patient changed."""

    def of(body):
        volumes = {
            name: np.frombuffer(gzip.decompress(base64.b64decode(body[name][0]["b64"])), "<f4")
            for name in VOLUMES
        }
        found = change({name: each.reshape(91, 109, 60) for name, each in volumes.items()})
        return body | {
            name: packed(np.ascontiguousarray(each, each.dtype).tobytes())
            for name, each in found.items()
        }

    return of


def with_an_appendix(end):
    def of(body):
        content = base64.b64decode(body["adc"][0]["b64"])
        return body | {"adc": [{"b64": base64.b64encode(content + end).decode()}]}

    return of


def second_bad(body):
    return {name: value * 2 for name, value in body.items()} | {"side": [["left"], ["both"]]}


HOSTILE = {
    "no name": lambda body: {"image": [1]},
    "a shape": changed(nihss=[14]),
    "nine patients": lambda body: {name: value * 9 for name, value in body.items()},
    "rows": lambda body: body | {"nihss": [[14], [14]]},
    "side": changed(side=[["L"]]),
    "no text": changed(side=[[{"b64": "/w=="}]]),
    "a number": changed(side=[[3]]),
    "nihss": changed(nihss=[[3.5]]),
    "NaN": changed(nihss=[[float("nan")]]),
    "voxel": changed(voxel_ml=[[float("inf")]]),
    "the second": second_bad,
    "no base64": changed(dwi=[{"b64": "?"}]),
    "no gzip": changed(dwi=[{"b64": "AAAA"}]),
    "short": changed(dwi=packed(bytes(400))),
    "long": changed(dwi=packed(bytes(10_000_000))),
    "cut": changed(dwi=[{"b64": base64.b64encode(gzip.compress(bytes(400))[:-9]).decode()}]),
    "zeros after it": with_an_appendix(bytes(8)),
    "another after it": with_an_appendix(gzip.compress(bytes(595140 * 4), mtime=0)),
    "zeros": every_volume(lambda v: {name: 0 * each for name, each in v.items()}),
    "big endian": every_volume(lambda v: {name: each.astype(">f4") for name, each in v.items()}),
    "infinite": every_volume(lambda v: v | {"dwi": v["dwi"] + np.float32(np.inf)}),
    "exchanged": every_volume(lambda v: v | {"dwi": v["adc"], "adc": v["dwi"]}),
    "unit": every_volume(lambda v: v | {"adc": v["adc"] / 1000}),
    "back to front": every_volume(lambda v: {name: each[:, ::-1] for name, each in v.items()}),
    "moved": every_volume(lambda v: v | {"dwi": np.roll(v["dwi"], 4, 1)}),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_refused_is_refused_alike(name, server, slow, patient_body):
    body = patient_body | {"inputs": HOSTILE[name](patient_body["inputs"])}
    fast, other = (s.predict(body) for s in (server, slow))
    assert other.status_code == 400
    assert (fast.status_code, fast.json()) == (400, other.json())


@pytest.mark.parametrize("change", ["nan", "large", "score"])
def test_slabs_are_refused_alike(change, server, slow):
    inputs = warmup.smallest_request("serving_default")
    image, nihss = inputs["image"][0].copy(), 0.5
    if change == "score":
        nihss = 14
    else:
        image[3, 4, 5, 1] = {"nan": np.nan, "large": -2000}[change]
    body = {"instances": [{"image": image.tolist(), "nihss": [nihss]}]}
    fast, other = (s.predict(body) for s in (server, slow))
    assert other.status_code == 400
    assert (fast.status_code, fast.json()) == (400, other.json())


def test_a_runtime_that_cannot_be_had_is_a_reason(saved_models, tmp_path):
    (tmp_path / "stroke").mkdir()
    version = tmp_path / "stroke/1"
    version.symlink_to(saved_models / "stroke/1")
    from tf_hypoperfusion.serving.server import onnx_model

    asked = {"precision": None}
    known = onnx_model.SIGNATURES
    assert onnx_model.of_export(version, known, runtime="tensorflow", **asked) is None
    assert onnx_model.of_export(version, {"other"}, runtime="auto", **asked) is None
    with pytest.raises(InputError, match="not an export of ours"):
        onnx_model.of_export(version, {"other"}, runtime="openvino", **asked)
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare/saved_model.pb").write_bytes(b"")
    with pytest.raises(InputError, match=r"it has no model\.onnx"):
        onnx_model.of_export(tmp_path / "bare", known, runtime="openvino", **asked)
    assert onnx_model.of_export(tmp_path / "bare", known, runtime="auto", **asked) is None


def test_without_a_program_tensorflow_is_to_answer(stroke_export, monkeypatch):
    from tf_hypoperfusion.serving.server import onnx_model

    def missing(*_, **__):
        raise onnx_runtimes.NoProgramError("nothing here runs it")

    monkeypatch.setattr(onnx_runtimes, "load", missing)
    asked = (stroke_export, onnx_model.SIGNATURES)
    assert onnx_model.of_export(*asked, runtime="auto", precision=None) is None
    with pytest.raises(InputError, match="nothing here runs it"):
        onnx_model.of_export(*asked, runtime="openvino", precision=None)


def test_the_card_says_what_the_graph_says(averaged_export):
    """What goes out with each answer is a constant of the graph, and made of the card here."""
    card = json.loads((averaged_export / model_card.FILE).read_text())
    said = json.dumps(model_card.info(card))
    assert said.encode() in (averaged_export / "saved_model.pb").read_bytes()
    assert len(json.loads(said)["sha256"]) == 2 == len(card["models"])
    assert model_files.describe(averaged_export).frame == json.loads(said)["frame"]


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype=np.float32).reshape(2, 3),
        np.array([[True], [False]]),
        np.array([[b"left"], [b"\xff"]], object),
        np.zeros((0, 3), np.float32),
    ],
    ids=["numbers", "truths", "texts", "nothing"],
)
def test_tensors_are_those_of_tensorflow(array):
    import tensorflow as tf

    ours = protobuf.tensor_of(array)
    np.testing.assert_array_equal(tf.make_ndarray(ours), array)
    np.testing.assert_array_equal(protobuf.array_of(tf.make_tensor_proto(array)), array)
    assert protobuf.array_of(ours).dtype == array.dtype


def test_tensors_that_contradict_themselves_are_refused():
    tensor = protobuf.tensor_of(np.zeros((2, 3), np.float32))
    tensor.tensor_content = b"\0" * 7
    with pytest.raises(ValueError, match="buffer size"):
        protobuf.array_of(tensor)
    tensor.tensor_content = b""
    with pytest.raises(ValueError, match=r"0 values for shape \[2, 3\]"):
        protobuf.array_of(tensor)
    tensor.float_val.extend([1, 2])  # the last stands for the rest
    assert protobuf.array_of(tensor).tolist() == [[1, 2, 2], [2, 2, 2]]
    tensor.float_val.extend(range(9))
    with pytest.raises(ValueError, match="11 values"):
        protobuf.array_of(tensor)
