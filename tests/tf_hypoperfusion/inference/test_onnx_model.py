"""``model.onnx`` beside a SavedModel: the same answers, network by network, without TensorFlow."""

import json
import subprocess
import sys

import numpy as np
import pytest

from data_tools.runtime.errors import InputError
from tf_hypoperfusion.inference import model_files, onnx_model, onnx_runtimes, predictors
from tf_hypoperfusion.serving import saved_model


@pytest.fixture(scope="module")
def slabs():
    random = np.random.default_rng(3)
    image = random.normal(size=(5, *onnx_model.SLAB)).astype(np.float32)
    return image, random.uniform(-1, 2, (5, 1)).astype(np.float32)


@pytest.fixture(scope="module")
def each(network_predictors, slabs):
    """What both networks answer, in TensorFlow."""
    return np.concatenate([predict(*slabs) for predict in network_predictors], axis=-1)


@pytest.fixture(params=onnx_runtimes.PROGRAMS)
def program(request):
    """Each program, if it is installed."""
    pytest.importorskip(request.param)
    return request.param


def test_every_network_answers_as_in_tensorflow(averaged_export, program, each, slabs):
    loaded = predictors.load(averaged_export, program)
    assert loaded.runtime.startswith(f"{program} ") and loaded.precision == "float32"
    assert each.std() > 0.01 and np.abs(each[..., 0] - each[..., 1]).max() > 0.01
    np.testing.assert_allclose(loaded.predict(*slabs), each, atol=1e-5)


def test_the_mean_is_that_of_the_saved_model(averaged_export, program, each, slabs):
    path = averaged_export / "model.onnx"
    mean = onnx_runtimes.load(path, program, outputs=[onnx_runtimes.MEAN]).predict(*slabs)
    np.testing.assert_allclose(mean, each.mean(axis=-1, keepdims=True), atol=1e-5)
    saved = predictors.load(averaged_export, "tensorflow")
    assert saved.runtime.startswith("tensorflow 2.")
    np.testing.assert_allclose(mean, saved.predict(*slabs), atol=1e-5)


def test_an_answer_is_not_overwritten_by_the_next(averaged_export, program, slabs):
    predict = predictors.load(averaged_export, program).predict
    first = predict(slabs[0][:1], slabs[1][:1])
    kept = first.copy()
    predict(slabs[0][1:2], slabs[1][1:2])
    np.testing.assert_array_equal(first, kept)


def test_names_shapes_and_origin_are_in_the_file(averaged_export):
    onnx = pytest.importorskip("onnx")
    model = onnx.load(averaged_export / "model.onnx")

    def shapes(values):
        return {
            v.name: [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim]
            for v in values
        }

    assert shapes(model.graph.input) == {
        "image": ["batch", *onnx_model.SLAB],
        "nihss": ["batch", 1],
    }
    names = ("probability", "probability_0", "probability_1")
    answer = ["batch", *onnx_model.SLAB[:-1], 1]
    assert shapes(model.graph.output) == dict.fromkeys(names, answer)
    properties = {each.key: each.value for each in model.metadata_props}
    assert "not a medical device" in properties["notice"].lower()
    assert len(json.loads(properties["sha256"])) == 2


def test_it_is_listed_in_card_and_checksums(averaged_export):
    card = json.loads((averaged_export / "model_card.json").read_text())
    assert 0 <= card["onnx"]["largest_difference_from_tensorflow"] <= onnx_model.TOLERANCE
    assert "`model.onnx`" in (averaged_export / "model_card.md").read_text()
    assert model_files.damaged(averaged_export) == []
    with open(averaged_export / "checksums.sha256") as file:
        assert any(line.endswith("  model.onnx\n") for line in file)
    described = model_files.describe(averaged_export / "model.onnx")
    assert described.cohort is None and len(described.sha256) == 64


def test_the_same_export_with_the_file_is_kept_and_without_it_too(averaged_export, networks):
    out, kept = averaged_export.parents[1], (averaged_export, True)
    assert saved_model.export(networks, "both", out, stride=16) == kept
    assert saved_model.export(networks, "both", out, stride=16, onnx=False) == kept


# Runs in a fresh Python in which these cannot be imported.
ASKED = """
import sys
for name in sys.argv[1].split(","):
    sys.modules[name] = None
import numpy as np
from tf_hypoperfusion import predict
from tf_hypoperfusion.inference import cohort_prediction, model_backend, predictors
x = np.load(sys.argv[3])
loaded = predictors.load(sys.argv[2])
np.save(sys.argv[4], loaded.predict(x["image"], x["nihss"]))
print(loaded.runtime)
print(*[name for name in sys.modules if name.split(".")[0] == "openvino_telemetry"])
"""
NOT_NEEDED = "tensorflow,keras,tf2onnx,onnx,nilearn,matplotlib,ants,sklearn,pandas,pydantic"


def asked_without(names, model, slabs, folder):
    """The runtime and the answer of a process without some packages, or its error."""
    np.savez(folder / "slabs.npz", image=slabs[0], nihss=slabs[1])
    arguments = [names, model, folder / "slabs.npz", folder / "answer.npy"]
    done = subprocess.run(
        [sys.executable, "-c", ASKED, *map(str, arguments)],
        capture_output=True, text=True, timeout=200,
    )  # fmt: skip
    if done.returncode:
        return done.stderr.splitlines()[-1], None
    runtime, spoke = done.stdout.splitlines()
    assert spoke == ""  # OpenVINO's converter would tell its makers of the import
    return runtime.split()[0], np.load(folder / "answer.npy")


def test_it_runs_where_there_is_no_tensorflow(averaged_export, each, slabs, tmp_path):
    pytest.importorskip("openvino")
    runtime, answer = asked_without(NOT_NEEDED, averaged_export, slabs, tmp_path)
    assert runtime == "openvino"
    np.testing.assert_allclose(answer, each, atol=1e-5)


def test_it_runs_where_there_is_no_openvino_either(averaged_export, each, slabs, tmp_path):
    pytest.importorskip("onnxruntime")
    without = f"{NOT_NEEDED},openvino"
    runtime, answer = asked_without(without, averaged_export, slabs, tmp_path)
    assert runtime == "onnxruntime"
    np.testing.assert_allclose(answer, each, atol=1e-5)


def test_where_there_is_neither_tensorflow_gives_the_mean(averaged_export, each, slabs, tmp_path):
    without = "openvino,onnxruntime"
    runtime, answer = asked_without(without, averaged_export, slabs, tmp_path)
    assert runtime == "tensorflow"
    np.testing.assert_allclose(answer, each.mean(axis=-1, keepdims=True), atol=1e-5)
    error, _ = asked_without(without, averaged_export / "model.onnx", slabs, tmp_path)
    assert "neither openvino nor onnxruntime can be started here; install openvino" in error


def test_a_program_that_is_not_here_is_named(averaged_export, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(InputError, match="onnxruntime cannot be started here; install onnxruntime"):
        predictors.load(averaged_export, "onnxruntime")


def test_the_demonstration_model_answers_with_probabilities(program):
    """Where it is sure, a sigmoid may end just above 1."""
    loaded = predictors.load(model_files.DEMO_MODEL, program)
    image = np.random.default_rng(0).normal(size=(1, *onnx_model.SLAB)).astype(np.float32)
    answer = loaded.predict(image, np.zeros((1, 1), np.float32))
    assert loaded.cores and answer.shape[-1] == 4  # three networks and the core
    assert answer.min() >= 0 and answer.max() <= 1


def test_a_damaged_file_is_named(averaged_export, program, tmp_path):
    half = tmp_path / "model.onnx"
    half.write_bytes((averaged_export / "model.onnx").read_bytes()[:-1000])
    with pytest.raises(InputError, match="model.onnx: cannot be used") as caught:
        predictors.load(half, program)
    assert f"{program} cannot read it as an ONNX file" in str(caught.value)


def test_what_a_runtime_does_not_run(averaged_export, networks, tmp_path):
    path = averaged_export / "model.onnx"
    with pytest.raises(InputError, match="TensorFlow does not run ONNX files; leave --runtime out"):
        predictors.load(path, "tensorflow")
    (tmp_path / "saved_model.pb").touch()
    for model in (networks[0], tmp_path):
        with pytest.raises(InputError, match="it has no model.onnx, which openvino would run"):
            predictors.load(model, "openvino")


def test_16_bits_are_nearly_the_same_answer_and_said(averaged_export, each, slabs):
    pytest.importorskip("openvino")
    loaded = predictors.load(averaged_export, precision="bfloat16")
    answer = loaded.predict(*slabs)
    assert answer.dtype == np.float32
    apart = np.abs(answer - each).max()
    assert apart < 0.05
    assert loaded.precision == ("bfloat16" if apart > 1e-5 else "float32")


def test_a_file_that_differs_from_tensorflow_is_refused(tmp_path, monkeypatch):
    def network(image, nihss):
        return {"probability": image[..., :1] * 0.5 + nihss[:, :, None, None, None]}

    assert onnx_model.write([network], tmp_path / "good.onnx", {}) < 1e-6

    def other(path, outputs):
        return onnx_runtimes.LoadedModel(lambda image, nihss: image[..., :1] * 0.5, "x", "float32")

    monkeypatch.setattr(onnx_runtimes, "load", other)
    with pytest.raises(InputError, match="differ from TensorFlow's by"):
        onnx_model.write([network], tmp_path / "bad.onnx", {})


def test_a_missing_package_is_said_before_anything_is_done(networks, tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_model.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="needs tf2onnx, onnx, openvino: .* or give --noonnx"):
        saved_model.export(networks, "one", tmp_path)
    assert not list(tmp_path.iterdir())
