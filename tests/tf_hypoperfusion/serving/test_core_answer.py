"""An export whose networks answer with a core: the same core by every program, and on a server."""

import base64
import json

import numpy as np
import pytest

from tf_hypoperfusion import config
from tf_hypoperfusion.clinical import ClinicalFacts
from tf_hypoperfusion.inference import (
    onnx_runtimes,
    predictors,
    rest_client,
    sliding_window,
)
from tf_hypoperfusion.inference.onnx_model import write as write_onnx
from tf_hypoperfusion.serving import answers, model_card, saved_model
from tf_hypoperfusion.serving.request_checks import VOLUMES
from tf_hypoperfusion.serving.server import onnx_model, tensorflow_model

pytestmark = pytest.mark.skipif(not onnx_runtimes.installed(), reason="nothing runs ONNX files")


@pytest.fixture(scope="module")
def slabs():
    random = np.random.default_rng(3)
    image = random.normal(size=(3, *config.SLAB)).astype(np.float32)
    return image, random.uniform(-1, 2, (3, 1)).astype(np.float32)


@pytest.fixture(scope="module")
def expected(core_networks, slabs):
    """Both networks' probabilities and the mean of their cores, by Keras."""
    model = sliding_window.together([predictors.load(path) for path in core_networks])
    assert model.cores
    return model.predict(*slabs)


@pytest.mark.parametrize("program", onnx_runtimes.PROGRAMS)
def test_a_file_gives_the_core_beside_its_networks(core_export, program, expected, slabs):
    pytest.importorskip(program)
    loaded = predictors.load(core_export, program)
    assert loaded.cores and expected.shape[-1] == 3
    assert np.abs(expected[..., 2] - expected[..., :2].mean(-1)).max() > 0.01
    np.testing.assert_allclose(loaded.predict(*slabs), expected, atol=1e-5)


def test_a_saved_model_gives_it_beside_the_average(core_export, expected, slabs):
    loaded = predictors.load(core_export, "tensorflow")
    assert loaded.cores
    answer = loaded.predict(*slabs)
    np.testing.assert_allclose(answer[..., 0], expected[..., :2].mean(-1), atol=1e-5)
    np.testing.assert_allclose(answer[..., 1], expected[..., 2], atol=1e-5)


def test_networks_of_which_one_has_no_core_give_none(core_networks, networks, tmp_path):
    models = [core_networks[0], networks[0]]
    folder, _ = saved_model.export(models, "mixed", tmp_path, stride=16, onnx=False)
    assert not predictors.load(folder, "tensorflow").cores
    card = json.loads((folder / model_card.FILE).read_text())
    assert card["core"] == {"networks": 1, "given": False}
    assert "so this export gives none" in (folder / "model_card.md").read_text()
    assert "core_by" not in model_card.info(card)


def test_nor_does_their_file(tmp_path):
    def without(image, nihss):
        return {"probability": image[..., :1] * 0.5 + nihss[:, :, None, None, None]}

    def with_core(image, nihss):
        return without(image, nihss) | {"core": image[..., 1:2]}

    write_onnx([with_core, without], tmp_path / "mixed.onnx", {})
    loaded = onnx_runtimes.load(tmp_path / "mixed.onnx")
    image = np.ones((1, *config.SLAB), np.float32)
    assert not loaded.cores and loaded.predict(image, np.zeros((1, 1))).shape[-1] == 2
    write_onnx([with_core], tmp_path / "one.onnx", {})
    one = onnx_runtimes.load(tmp_path / "one.onnx")
    assert one.cores and one.predict(image, np.zeros((1, 1)))[0, 0, 0, 0].tolist() == [0.5, 1]


def test_what_the_card_says(core_export, averaged_export):
    card = json.loads((core_export / model_card.FILE).read_text())
    assert card["core"] == {"networks": 2, "given": True, "threshold": 0.5, "by": config.CORE_BY}
    words = (core_export / "model_card.md").read_text()
    assert "They also answer with the probability of core" in words
    assert "`core` is the average of theirs" in words and "`core_probability`" in words
    assert "core" not in json.loads((averaged_export / model_card.FILE).read_text())


def inputs_of(body):
    given = body["inputs"]
    volumes = {name: [base64.b64decode(given[name][0]["b64"])] for name in VOLUMES}
    return {name: np.array(value, object) for name, value in volumes.items()} | {
        "nihss": np.float32([[14]]),
        "voxel_ml": np.float32([[0.008]]),
        "side": np.array([[b"left"]], object),
    }


@pytest.fixture(scope="module")
def both(core_export):
    """The same export without TensorFlow, and in it."""
    fast = onnx_model.OnnxModel(core_export / "model.onnx", "auto", None)
    return fast, tensorflow_model.TensorFlowModel(core_export)


def test_a_server_answers_alike_with_and_without_tensorflow(both, made_up_patient, patient_body):
    inputs = inputs_of(patient_body)
    mine, its = (each.run("predict_volume_bytes", inputs) for each in both)
    assert {k: (v.shape, v.dtype) for k, v in mine.items()} == {
        k: (v.shape, v.dtype) for k, v in its.items()
    }
    name = f"{answers.CORE_PROBABILITY}_png_bytes"
    seen, core = (rest_client._from_png(answer[name][0]) for answer in (mine, its))
    np.testing.assert_allclose(seen, core, atol=2e-5)
    assert core[made_up_patient.brain].std() > 0 and not core[~made_up_patient.brain].any()
    ml = np.count_nonzero(core >= config.CORE_THRESHOLD) * 0.008
    assert its["core_learnt_ml"][0, 0] == pytest.approx(ml, rel=1e-6)
    undecided_ml = np.sum(np.abs(core - config.CORE_THRESHOLD) < 4e-5) * 0.008
    assert mine["core_learnt_ml"] == pytest.approx(its["core_learnt_ml"], abs=undecided_ml + 1e-4)
    assert mine["core_rule_ml"] == its["core_rule_ml"] == its["core_ml"]


def test_its_windows_are_answered_alike(both, slabs):
    image, nihss = np.clip(slabs[0], 0, 1), np.float32([[-1], [0], [1]])
    given = {"image": image, "nihss": nihss}
    mine, its = (each.run("serving_default", given) for each in both)
    assert set(mine) == set(its) == {"probability", "core"}
    for name, value in its.items():
        np.testing.assert_allclose(mine[name], value, atol=1e-5)


def test_the_core_that_decides_is_the_cards(
    core_export, both, made_up_patient, patient_body, tmp_path
):
    """As it was chosen when the model was exported."""
    card = json.loads((core_export / model_card.FILE).read_text())
    card["core"]["by"] = "learnt"
    (tmp_path / model_card.FILE).write_text(json.dumps(card))
    (tmp_path / "model.onnx").symlink_to(core_export / "model.onnx")
    learnt = onnx_model.OnnxModel(tmp_path / "model.onnx", "auto", None)
    answer = learnt.run("predict_volume_bytes", inputs_of(patient_body))
    assert answer["core_ml"] == answer["core_learnt_ml"] != answer["core_rule_ml"]
    assert answer["mismatch_ml"] == pytest.approx(answer["hypoperfusion_ml"] - answer["core_ml"])


class Answering(rest_client.Server):
    """A server that is no process: the model's own answers, in JSON."""

    def __init__(self, model):
        self.model, self.address = model, "http://here/v1/models/cores"

    def slab_outputs(self):
        return ["core", "probability"]

    def predict(self, body):
        given = body["inputs"]
        if "signature_name" not in body:
            arrays = {name: np.float32(value) for name, value in given.items()}
            return self.model.run("serving_default", arrays)
        answer = self.model.run(body["signature_name"], inputs_of(body))
        return json.loads(json.dumps({name: _json(name, v) for name, v in answer.items()}))


def _json(name, value):
    if name.endswith("_bytes"):
        return [{"b64": base64.b64encode(each).decode()} for each in value]
    return [[each[0].decode()] for each in value] if value.dtype == object else value.tolist()


@pytest.mark.parametrize("form", ["bytes", "slabs"])
def test_a_client_reads_it(form, both, core_export, made_up_patient, monkeypatch):
    served = Answering(both[0])
    monkeypatch.setattr(rest_client, "Server", lambda *_: served)
    monkeypatch.setattr(Answering, "ready", lambda self: None)
    stride = 16 if form == "slabs" else None
    (ask,) = rest_client.backend("http://here", "cores", form=form, stride=stride).answers
    said = ask(made_up_patient, ClinicalFacts("left", 14))
    here = both[0].run("predict_volume", {
        "dwi": made_up_patient.dwi[np.newaxis], "adc": made_up_patient.adc_um2_per_s[np.newaxis],
        "brain_mask": np.float32(made_up_patient.brain[np.newaxis]), "nihss": np.float32([[14]]),
        "voxel_ml": np.float32([[0.008]]), "side": np.array([[b"left"]], object),
    })  # fmt: skip
    np.testing.assert_allclose(said.core, here["core_probability"][0], atol=2e-5)
    np.testing.assert_allclose(said.mean, here["probability"][0], atol=2e-5)
