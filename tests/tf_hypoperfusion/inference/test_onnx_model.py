"""``model.onnx`` beside a SavedModel: the same answers, without TensorFlow."""

import json
import subprocess
import sys

import numpy as np
import pytest

from data_tools.runtime.errors import InputError
from tf_hypoperfusion.inference import model_files, onnx_model, predictors, sliding_window
from tf_hypoperfusion.serving import saved_model

onnxruntime = pytest.importorskip("onnxruntime", reason="extra `onnx` is not installed")


@pytest.fixture(scope="module")
def exported(averaged_export):
    """A predictor of the SavedModel beside the file."""
    return predictors.load_predictor(averaged_export)


@pytest.fixture(scope="module")
def slabs():
    random = np.random.default_rng(3)
    image = random.normal(size=(5, *onnx_model.SLAB)).astype(np.float32)
    return image, random.uniform(-1, 2, (5, 1)).astype(np.float32)


def test_answers_are_those_of_the_saved_model_and_of_the_networks(
    averaged_export, exported, network_predictors, slabs
):
    answer = predictors.load_predictor(averaged_export / "model.onnx")(*slabs)
    mean = sliding_window.average(network_predictors)(*slabs)
    assert answer.std() > 0.01
    np.testing.assert_allclose(answer, exported(*slabs), atol=1e-5)
    np.testing.assert_allclose(answer, mean, atol=1e-5)


def test_names_shapes_and_origin_are_in_the_file(averaged_export):
    session = onnxruntime.InferenceSession(averaged_export / "model.onnx")
    assert {i.name: i.shape for i in session.get_inputs()} == {
        "image": ["batch", *onnx_model.SLAB],
        "nihss": ["batch", 1],
    }
    assert [(o.name, o.shape[0], o.shape[1:]) for o in session.get_outputs()] == [
        ("probability", "batch", [*onnx_model.SLAB[:-1], 1])
    ]
    properties = session.get_modelmeta().custom_metadata_map
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


def test_the_same_export_with_onnx_is_kept_and_without_it_too(averaged_export, networks):
    out, kept = averaged_export.parents[1], (averaged_export, True)
    assert saved_model.export(networks, "both", out, stride=16, onnx=True) == kept
    assert saved_model.export(networks, "both", out, stride=16) == kept


def test_it_runs_where_there_is_no_tensorflow(averaged_export, exported, slabs, tmp_path):
    for name in ("tensorflow", "keras", "tf2onnx"):
        (tmp_path / f"{name}.py").write_text("raise ImportError('not here')")
    np.savez(tmp_path / "slabs.npz", image=slabs[0], nihss=slabs[1])
    code = (
        "import sys, numpy as np; from tf_hypoperfusion import predict\n"
        "from tf_hypoperfusion.inference import predictors\n"
        "x = np.load(sys.argv[2]); answer = predictors.load_predictor(sys.argv[1])\n"
        "np.save(sys.argv[3], answer(x['image'], x['nihss']))"
    )
    arguments = [averaged_export / "model.onnx", tmp_path / "slabs.npz", tmp_path / "answer.npy"]
    command = [sys.executable, "-c", code, *map(str, arguments)]
    environment = {"PYTHONPATH": f"{tmp_path}:.", "PATH": "/usr/bin:/bin"}
    subprocess.run(command, check=True, env=environment, timeout=120)
    np.testing.assert_allclose(np.load(tmp_path / "answer.npy"), exported(*slabs), atol=1e-5)


def test_a_damaged_file_is_named(averaged_export, tmp_path):
    half = tmp_path / "model.onnx"
    half.write_bytes((averaged_export / "model.onnx").read_bytes()[:-1000])
    with pytest.raises(InputError, match="model.onnx: cannot be used"):
        predictors.load_predictor(half)


def test_a_file_that_differs_from_tensorflow_is_refused(tmp_path, monkeypatch):
    def network(image, nihss):
        return image[..., :1] * 0.5 + nihss[:, :, None, None, None]

    assert onnx_model.write(network, tmp_path / "good.onnx", {}) < 1e-6
    monkeypatch.setattr(onnx_model, "load", lambda path: lambda image, nihss: image[..., :1] * 0.5)
    with pytest.raises(InputError, match="differ from TensorFlow's by"):
        onnx_model.write(network, tmp_path / "bad.onnx", {})


def test_a_missing_extra_is_said_before_anything_is_done(networks, tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_model.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="install the extra `onnx`"):
        saved_model.export(networks, "one", tmp_path, onnx=True)
    assert not list(tmp_path.iterdir())
