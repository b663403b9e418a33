"""Model files that people give: what is no network of ours is refused in one sentence."""

import json
import pickle
import zipfile

import numpy as np
import pytest

from data_tools.runtime.errors import InputError
from tf_hypoperfusion.inference import predictors

SLAB, SCORE = (128, 128, 16, 4), (128, 128, 16, 1)


def network(path, *, slab=SLAB, nihss=(1,), names=("image", "nihss"), answer="probability", **of):
    """A Keras model of one layer, by default with our inputs and output and every value right."""
    import keras

    image = keras.Input(slab, name=names[0])
    score = keras.layers.Conv3D(
        of.get("channels", 1), 1, activation=of.get("activation", "sigmoid"), use_bias=False
    )(image)
    inputs = {names[0]: image}
    if len(names) > 1:
        inputs[names[1]] = keras.Input(nihss, name=names[1])
    model = keras.Model(inputs, {answer: score} if answer else score)
    model.save(path)
    return path


def edited(model, path, change):
    """A copy of a ``.keras`` file whose members are changed; None leaves one out."""
    with zipfile.ZipFile(model) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            content = change(name, old.read(name))
            if content is not None:
                new.writestr(name, content)
    return path


def newer(name, content):
    if name != "metadata.json":
        return content
    return json.dumps(json.loads(content) | {"keras_version": "9.9.9"}).encode()


def with_setting(name, content):
    if name != "config.json":
        return content
    config = json.loads(content)
    config["config"]["quantization_future"] = 3
    return json.dumps(config).encode()


def with_layer_setting(name, content):
    if name != "config.json":
        return content
    config = json.loads(content)
    config["config"]["layers"][-1]["config"]["sparsity_future"] = 3
    return json.dumps(config).encode()


def refusal(path):
    with pytest.raises(InputError) as caught:
        predictors.load_predictor(path)
    said = str(caught.value)
    assert said.startswith(f"model {path}: ") and "expected" in said
    assert "\n" not in said and "safe_mode" not in said and len(said) < len(str(path)) + 600
    return said


def test_a_network_with_our_inputs_and_output_is_taken(tmp_path):
    answer = predictors.load_predictor(network(tmp_path / "a.keras"))
    image = np.random.default_rng(1).random((2, *SLAB), np.float32)
    assert answer(image, np.zeros((2, 1), np.float32)).shape == (2, *SCORE)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"slab": (128, 128, 16, 3)}, "it takes image (128, 128, 16, 3) and nihss (1,)"),
        ({"slab": (96, 96, 16, 4)}, "it takes image (96, 96, 16, 4)"),
        ({"nihss": (2,)}, "and nihss (2,)"),
        ({"names": ("x", "nihss")}, " and x (128, 128, 16, 4) and gives"),
        ({"names": ("image",)}, "it takes image (128, 128, 16, 4) and gives"),
        ({"answer": "mask"}, "gives mask (128, 128, 16, 1)"),
        ({"answer": None}, "another network: ours takes image"),
        ({"channels": 2}, "gives probability (128, 128, 16, 2)"),
        ({"activation": None}, "its answer is no probability"),
        ({"activation": "tanh"}, "its answer is no probability"),
    ],
    ids=str,
)
def test_another_network_is_named(options, message, tmp_path):
    assert message in refusal(network(tmp_path / "other.keras", **options))


def test_whole_networks_of_another_kind(tmp_path):
    import keras

    path = tmp_path / "sequential.keras"
    keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(1)]).save(path)
    assert "another network: ours takes image (128, 128, 16, 4)" in refusal(path)
    image, nihss = keras.Input(SLAB, name="image"), keras.Input((1,), name="nihss")
    score = keras.layers.Lambda(lambda values: values[..., :1])(image)
    path = tmp_path / "lambda.keras"
    keras.Model({"image": image, "nihss": nihss}, {"probability": score}).save(path)
    assert "it holds Python code, a Lambda layer, which is not run" in refusal(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (newer, "Keras 9.9.9 wrote it, and this is Keras"),
        (with_setting, "does not know its quantization_future"),
        (with_layer_setting, "sparsity_future"),
        (lambda name, content: None if name.endswith(".h5") else content, "weights"),
        (lambda name, content: None if name == "config.json" else content, "config.json"),
        (lambda name, content: content[:9] if name == "config.json" else content, "cannot be used"),
        (lambda name, content: content[:9] if name.endswith(".h5") else content, "cannot be used"),
    ],
    ids=["newer", "setting", "layer's setting", "no weights", "no config", "cut config", "cut h5"],
)
def test_files_that_do_not_mean_here_what_they_meant(change, message, tmp_path):
    whole = network(tmp_path / "whole.keras")
    assert message in refusal(edited(whole, tmp_path / "best.keras", change))


def test_files_of_another_kind(tmp_path):
    whole = network(tmp_path / "whole.keras").read_bytes()
    (tmp_path / "cut.keras").write_bytes(whole[:-2000])
    assert "no whole .keras archive" in refusal(tmp_path / "cut.keras")
    (tmp_path / "best.h5").write_bytes(whole)
    assert "expected a .keras or .onnx file" in refusal(tmp_path / "best.h5")
    (tmp_path / "model.pkl").write_bytes(pickle.dumps({}))
    assert "expected a .keras or .onnx file" in refusal(tmp_path / "model.pkl")
    (tmp_path / "pickle.keras").write_bytes(pickle.dumps({}))
    assert "no whole .keras archive" in refusal(tmp_path / "pickle.keras")
    (tmp_path / "empty").mkdir()
    assert "holds no saved_model.pb" in refusal(tmp_path / "empty")


def test_exports_of_another_network(tmp_path):
    import tensorflow as tf

    module = tf.Module()
    double = tf.function(lambda x: {"y": 2 * x}, [tf.TensorSpec((None, 4), tf.float32, "x")])
    tf.saved_model.save(module, str(tmp_path / "double"), {"serving_default": double})
    assert "it takes x (4,) and gives y (4,); ours takes" in refusal(tmp_path / "double")
    tf.saved_model.save(module, str(tmp_path / "bare"))
    assert "another network: ours takes image" in refusal(tmp_path / "bare")


def test_an_onnx_file_of_another_network(tmp_path):
    helper = pytest.importorskip("onnx", reason="extra `onnx` is not installed").helper
    pytest.importorskip("onnxruntime")
    import onnx

    values = [helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, [1, 4]) for n in "xy"]
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])], "relu", values[:1], values[1:]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, str(tmp_path / "relu.onnx"))
    assert "another network: its inputs and outputs are x, y" in refusal(tmp_path / "relu.onnx")


def test_a_network_that_had_diverged_is_refused(tmp_path):
    import keras

    path = network(tmp_path / "odd.keras")
    model = keras.saving.load_model(path, compile=False)
    layer = next(layer for layer in model.layers if layer.weights)
    layer.set_weights([np.full_like(w, np.inf) for w in layer.get_weights()])
    model.save(path)
    with pytest.raises(InputError, match="weights are not finite .* training had diverged"):
        predictors.load(path)
