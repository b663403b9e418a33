"""A request without a DWI or without an ADC map: by the graph and by numpy, and in the same words.

An image that is 0 everywhere was not given.
"""

import json

import numpy as np
import pytest
import tensorflow as tf
from helpers.calibrations import calibration_of

from data_tools import intensity, mni_patient
from data_tools.cohort import read_participants
from data_tools.grid import GRID_SHAPE
from data_tools.runtime.errors import InputError
from tf_hypoperfusion.inference import sliding_window
from tf_hypoperfusion.inference.sliding_window import SlabModel
from tf_hypoperfusion.serving import (
    answers,
    graph,
    graph_arrays,
    model_card,
    numpy_arrays,
    numpy_volumes,
)
from tf_hypoperfusion.serving.server.tensorflow_model import explain

pytestmark = pytest.mark.core
STRIDE = 16
NOTHING = np.zeros(GRID_SHAPE, np.float32)


@pytest.fixture(scope="module")
def people(mni_cohort):
    """DWI, ADC and brain of two simulated patients."""
    names = read_participants(mni_cohort)["participant_id"][:2]
    patients = [mni_patient.load_mni(mni_cohort, name) for name in names]
    return [(p.dwi, p.adc_um2_per_s, p.brain) for p in patients]


def kept(volumes, kind):
    """As a client sends them: nothing outside the brain, and one image alone."""
    dwi, adc, brain = volumes
    return {
        "dwi": np.where(brain & (kind != "adc"), dwi, 0).astype(np.float32),
        "adc": np.where(brain & (kind != "dwi"), adc, 0).astype(np.float32),
        "brain_mask": brain.astype(np.float32),
    }


def inputs_of(volumes, side=b"unknown"):
    facts = {"nihss": np.float32([[-1]]), "side": np.array([[side]], object)}
    return (
        {name: v[np.newaxis] for name, v in volumes.items()}
        | facts
        | {"voxel_ml": np.float32([[0.005]])}
    )


def weighed(image):
    """What a network that hears of every channel makes of them."""
    dwi, adc, mask, side = (image[..., k : k + 1] for k in range(4))
    return 2 * dwi + 2 * adc - mask - side - 0.7


def by_graph(image, nihss):
    return {"probability": tf.sigmoid(weighed(image))}


def by_numpy(image, nihss):
    return 1 / (1 + np.exp(-weighed(image)))


@pytest.fixture(scope="module")
def ask():
    """Both ways' answers, or what both refuse with. Each graph is traced once for all tests."""
    graphs = {}

    def compiled(**options):
        key = repr(sorted(options.items()))
        if key not in graphs:
            graphs[key] = tf.function(
                lambda given: graph.predict_volumes(by_graph, given, **options),
                input_signature=[graph.volume_inputs()], autograph=False,
            )  # fmt: skip
        return graphs[key]

    def found(volumes, side=b"unknown", **options):
        inputs, options = inputs_of(volumes, side), {"stride": STRIDE, "info": "{}", **options}
        said, answered = [], []
        try:
            answered.append(numpy_volumes.predict_volumes(SlabModel(by_numpy), inputs, **options))
        except InputError as error:
            said.append(str(error))
        try:
            tensors = {name: tf.constant(value) for name, value in inputs.items()}
            output = compiled(**options)(tensors)
            answered.append({name: value.numpy() for name, value in output.items()})
        except tf.errors.InvalidArgumentError as error:
            said.append(explain(error).message)
        assert len(set(said)) <= 1 and len(said) in (0, 2), said
        return answered, (said or [""])[0]

    return found


@pytest.mark.parametrize("by", [None, calibration_of()], ids=["as it is", "calibrated"])
@pytest.mark.parametrize("kind", ["dwi", "adc"])
def test_one_image_is_answered_alike_and_nothing_is_decided(kind, by, people, ask):
    volumes = kept(people[0], kind)
    (of_numpy, of_graph), said = ask(volumes, answers_without=True, calibration=by)
    assert said == ""
    assert set(of_numpy) == set(of_graph) == {
        "probability", "model_info", *answers.figures_of(by, answers_without=True)
    }  # fmt: skip
    np.testing.assert_allclose(of_numpy["probability"], of_graph["probability"], atol=1e-4)
    brain = volumes["brain_mask"] > 0
    tissue = intensity.tissue_of(volumes["dwi"], volumes["adc"], brain)
    for found in (of_numpy, of_graph):
        assert 0.7 * brain.sum() < (found["probability"][0] > 0).sum() <= tissue.sum()
        for name in ("core_ml", "mismatch_ml", "mismatch_ratio"):
            assert np.isnan(found[name]).all(), name
        for name in ("ratio_met", "difference_met", "core_met", "target_mismatch"):
            assert not found[name].any(), name
        assert found["hypoperfusion_ml"] > 0
        assert found["answer"].tolist() == [[b"unsure"]]
    np.testing.assert_allclose(
        of_numpy["hypoperfusion_ml"], of_graph["hypoperfusion_ml"], rtol=2e-3
    )


@pytest.mark.parametrize("side", [b"left", b"unknown"])
def test_both_images_are_answered_as_without_this_ability(side, people, ask):
    volumes = kept(people[0], "both")
    plain, _ = ask(volumes, side)
    able, _ = ask(volumes, side, answers_without=True)
    for before, after in zip(plain, able, strict=True):
        assert "answer" not in before
        expected = b"yes" if before["target_mismatch"].all() else b"no"
        assert after.pop("answer").tolist() == [[expected]]
        for name, value in before.items():
            np.testing.assert_array_equal(value, after[name])


def test_the_network_is_shown_zeros_and_both_halves(people):
    volumes, seen = kept(people[0], "dwi"), []

    def network(image, nihss):
        seen.append(image)
        return by_numpy(image, nihss)

    numpy_volumes.predict_volumes(
        SlabModel(network), inputs_of(volumes), stride=STRIDE, info="{}", answers_without=True
    )
    shown = np.concatenate(seen)
    assert shown[..., 0].any() and not shown[..., 1:3].any() and (shown[..., 3] == 1).all()
    brain = volumes["brain_mask"] > 0
    image = sliding_window.model_image(volumes["dwi"], volumes["adc"], brain, "unknown")
    assert image[..., 0].max() == shown[..., 0].max()


@pytest.mark.parametrize("name", ["dwi", "adc"])
def test_a_model_that_needs_both_refuses_one(name, people, ask):
    other = "adc" if name == "dwi" else "dwi"
    _, said = ask(kept(people[0], other))
    assert said == (
        f"{name}: is 0 everywhere, and this model was not trained to answer without it; expected "
        "both dwi and adc"
    )


def test_neither_image_is_refused(people, ask):
    volumes = kept(people[0], "dwi") | {"dwi": NOTHING}
    _, said = ask(volumes, answers_without=True)
    assert said == "dwi, adc: both are 0 everywhere; expected one at least"


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        ("adc", lambda v: v | {"adc": v["adc"] * 1e-3}, "adc: its median in the brain is 0.9"),
        ("adc", lambda v: {k: x[:, ::-1] for k, x in v.items()}, "mirrored in y"),
        ("dwi", lambda v: {k: x[:, ::-1] for k, x in v.items()}, "mirrored in y"),
        ("dwi", lambda v: {k: np.roll(x, 10, 2) for k, x in v.items()}, "too far up"),
        ("dwi", lambda v: v | {"dwi": np.where(v["dwi"] > 0, np.nan, 0)}, "dwi: holds NaN"),
        ("dwi", lambda v: v | {"dwi": -v["dwi"]}, "dwi: its mean in the brain is not above 0"),
        ("dwi", lambda v: v | {"brain_mask": v["brain_mask"] * 0}, "brain_mask: expected 1"),
        ("dwi", lambda v: v | {"brain_mask": np.roll(v["brain_mask"], 6, 1)}, "mask: it lies"),
    ],
)  # fmt: skip
def test_what_one_image_shows_is_still_checked(kind, change, message, people, ask):
    changed = {name: np.float32(x) for name, x in change(kept(people[0], kind)).items()}
    _, said = ask(changed, answers_without=True)
    assert message in said


@pytest.mark.parametrize("xp", [graph_arrays, numpy_arrays])
def test_right_and_unsure_words_without_a_calibration(xp):
    def word(hypoperfusion_ml, core_ml):
        found = answers.figures(
            xp, by=None, answers_without=True,
            hypoperfusion_ml=xp.constant(hypoperfusion_ml, "float64"),
            core_ml={"rule": xp.constant(core_ml, "float64")},
        )["answer"]  # fmt: skip
        return found if isinstance(found, str) else found.numpy().decode()

    assert [word(90.0, 10.0), word(12.0, 10.0), word(90.0, np.nan)] == ["yes", "no", "unsure"]


@pytest.mark.parametrize("xp", [graph_arrays, numpy_arrays])
def test_where_the_rule_knows_no_core_the_networks_core_decides(xp):
    def found(rule_ml):
        return answers.figures(
            xp, by=None, answers_without=True, core_by="rule",
            hypoperfusion_ml=xp.constant(90.0, "float64"),
            core_ml={
                "rule": xp.constant(rule_ml, "float64"),
                "learnt": xp.constant(20.0, "float64"),
            },
        )  # fmt: skip

    alone, both = found(np.nan), found(10.0)
    assert float(alone["core_ml"]) == 20 and np.isnan(float(alone["core_rule_ml"]))
    assert float(both["core_ml"]) == 10 and float(both["core_learnt_ml"]) == 20
    assert bool(alone["target_mismatch"])


@pytest.mark.parametrize("xp", [graph_arrays, numpy_arrays])
def test_a_calibrated_model_is_unsure_without_one_of_the_images_it_was_calibrated_on(xp):
    def word(rule_ml):
        found = answers.figures(
            xp, by=calibration_of(), answers_without=True, core_by="rule",
            hypoperfusion_ml=xp.constant(90.0, "float64"),
            core_ml={
                "rule": xp.constant(rule_ml, "float64"),
                "learnt": xp.constant(10.0, "float64"),
            },
        )["answer"]  # fmt: skip
        return found if isinstance(found, str) else found.numpy().decode()

    assert [word(10.0), word(np.nan)] == ["yes", "unsure"]


def test_the_card_passes_on_how_its_networks_were_trained():
    card = {
        "name": "m", "version": 1, "notice": "n", "records": {"cohort": "c"},
        "models": [{"sha256": "0", "model": {}, "training": {"randomisation": "inputs"}}],
    }  # fmt: skip
    assert model_card.info(card)["randomisation"] == ["inputs"]
    card["models"][0]["training"] = {}
    assert "randomisation" not in json.dumps(model_card.info(card))
