"""Several answers, or one and that to the mirror image."""

import dataclasses

import numpy as np
import pytest

from data_tools.grid import GRID_SHAPE, mirrored_side
from data_tools.patient import MniPatient
from data_tools.transform import Transform
from tf_hypoperfusion.clinical import ClinicalFacts
from tf_hypoperfusion.inference import uncertainty
from tf_hypoperfusion.inference.sliding_window import VolumeAnswer

pytestmark = pytest.mark.quick


@pytest.fixture
def mni():
    rng = np.random.default_rng(0)
    dwi, adc = (rng.random(GRID_SHAPE, np.float32) for _ in range(2))
    return MniPatient(
        dwi=dwi,
        adc_um2_per_s=adc,
        brain=dwi > 0.5,
        coverage=adc > 0.5,
        transform=Transform(np.eye(4)),
    )


def answered(*networks, core=None):
    return VolumeAnswer(np.stack(networks), core)


def test_the_core_is_mirrored_too(mni):
    def answer(patient, given):
        core = np.zeros(GRID_SHAPE, np.float32)
        core[:45] = patient.dwi[:45]  # the left half only
        return answered(patient.dwi, core=core)

    facts = ClinicalFacts("left", 5)
    found = uncertainty.ask([answer], mni, facts)
    ours, reflected = found.cores
    assert ours[:45].any() and not ours[45:].any()
    np.testing.assert_array_equal(reflected[46:], mni.dwi[46:])
    assert not reflected[:46].any()
    (alone,) = uncertainty.ask([answer], mni, facts, mirror=False).cores
    np.testing.assert_array_equal(alone, ours)

    def another(patient, given):
        return answered(patient.dwi, core=patient.dwi)

    (mean,) = uncertainty.ask([answer, another], mni, facts).cores
    np.testing.assert_allclose(mean, (ours + mni.dwi) / 2, rtol=1e-6)
    assert uncertainty.ask([answer, lambda *_: answered(mni.dwi)], mni, facts).cores == ()


def test_a_model_that_treats_both_sides_alike_agrees_with_its_mirror(mni):
    def answer(patient, given):
        return answered(patient.dwi)

    found = uncertainty.ask([answer], mni, ClinicalFacts("left", 5))
    assert found.kind == "mirror"
    np.testing.assert_array_equal(found.mean, mni.dwi)
    np.testing.assert_array_equal(found.each[0], found.each[1])


def test_the_mirror_image_has_the_other_side_and_comes_back(mni):
    seen = []

    def answer(patient, given):
        """Knows left only: the patient's left half in the image, whatever the side."""
        seen.append(given.side)
        left = np.zeros(GRID_SHAPE, np.float32)
        left[:45] = 1
        return answered(left)

    found = uncertainty.ask([answer], mni, ClinicalFacts("right", 5))
    assert seen == ["right", "left"]
    assert found.each[1][:46].sum() == 0 and found.each[1][46:].all()
    np.testing.assert_array_equal(found.mean, found.each[0])  # what is reported is not changed
    assert mirrored_side("bilateral") == "bilateral"
    assert mirrored_side("unknown") == "unknown"
    for field in dataclasses.fields(mni):
        if field.name != "transform" and getattr(mni, field.name) is not None:
            twice = uncertainty.mirrored(uncertainty.mirrored(mni))
            np.testing.assert_array_equal(getattr(twice, field.name), getattr(mni, field.name))


def test_several_models_are_averaged_and_not_mirrored(mni):
    answers = [lambda patient, given, k=k: answered(patient.dwi * k) for k in (0.2, 0.4, 0.9)]
    found = uncertainty.ask(answers, mni, ClinicalFacts("left", 5))
    assert found.kind == "models" and len(found.each) == 3
    np.testing.assert_allclose(found.mean, mni.dwi * 0.5, rtol=1e-6)


def test_every_network_of_an_export_is_an_opinion(mni):
    """Two models, one of four networks: five voices, asked once each, and no mirror."""
    asked = []

    def export(patient, given):
        asked.append(given.side)
        return answered(*(patient.dwi * k for k in (0.1, 0.2, 0.3, 0.4)))

    def single(patient, given):
        return answered(patient.dwi)

    found = uncertainty.ask([export, single], mni, ClinicalFacts("left", 5))
    assert found.kind == "models" and len(found.each) == 5 and asked == ["left"]
    np.testing.assert_allclose(found.mean, mni.dwi * 0.4, rtol=1e-6)


def test_one_answer_alone_has_no_interval(mni):
    found = uncertainty.ask(
        [lambda patient, given: answered(patient.dwi)], mni, ClinicalFacts("left", 5), False
    )
    assert found.kind == "none" and len(found.each) == 1
    assert uncertainty.figures("none", [], [], True) is None


def test_the_decision_is_counted_where_it_holds():
    """Core 20 mL: mismatch from 36 mL on (ratio 1.8) and 35 mL (difference 15)."""
    found = uncertainty.figures("models", [35.9, 36.0, 80.0, 10.0, 200.0], [20.0] * 5, True)
    assert found.decision_holds_in == 3 and found.opinions == 5
    assert found.range_ml == (10.0, 200.0)
    assert uncertainty.figures("models", [35.9, 36.0], [20.0] * 2, False).decision_holds_in == 1
    # Each with its own core, as of the image and its mirror.
    assert uncertainty.figures("mirror", [80.0, 80.0], [20.0, 70.1], True).decision_holds_in == 1
