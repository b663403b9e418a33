"""The learning rate against the published decay, and optimizers by name."""

import importlib.util

import keras
import numpy as np
import pytest

from data_tools.runtime.errors import InputError
from tf_hypoperfusion.config import preset
from tf_hypoperfusion.model.keras_compat import (
    IS_KERAS_3,
    apply_gradients,
    build_optimizer_variables,
    optimizer_state,
)
from tf_hypoperfusion.training.optimizers import build_optimizer, learning_rates, parse_optimizer

pytestmark = pytest.mark.core

HAS_ADDONS = not IS_KERAS_3 and importlib.util.find_spec("tensorflow_addons") is not None


def rates(training, steps):
    schedule = learning_rates(training, steps)
    return [float(schedule(step)) for step in range(training.epochs * steps)]


def make(**changes):
    _, training = preset("tiny", **changes)
    return build_optimizer(training, learning_rates(training, 3))


def test_decay_starts_at_the_paper_and_ends_at_the_share():
    _, training = preset("paper")
    by_step = rates(training, 3)
    assert by_step[0] == pytest.approx(5e-4)
    assert by_step[-1] == pytest.approx(0.68 * 5e-4, rel=1e-4)
    assert by_step[0] == by_step[2]  # constant within an epoch
    ratios = [by_step[3 * (e + 1)] / by_step[3 * e] for e in range(79)]
    assert max(ratios) == pytest.approx(min(ratios), rel=1e-4)  # exponential


def test_one_epoch_keeps_the_rate():
    _, training = preset("paper", epochs=1, learning_rate=0.01)
    assert rates(training, 2) == pytest.approx([0.01, 0.01])


def test_warm_up_rises_linearly_into_the_decay():
    _, plain = preset("tiny", epochs=4, learning_rate=0.01)
    _, warm = preset("tiny", epochs=4, learning_rate=0.01, warmup_epochs=1)
    share = np.minimum(np.arange(1, 17) / 4, 1)
    np.testing.assert_allclose(rates(warm, 4), share * rates(plain, 4), rtol=1e-5)


def test_the_default_is_adam_and_options_arrive():
    assert type(make()) is keras.optimizers.Adam
    sgd = make(optimizer="SGD(momentum=0.75, nesterov=True)")
    assert isinstance(sgd, keras.optimizers.SGD)
    assert (sgd.momentum, sgd.nesterov) == (0.75, True)
    assert make(optimizer="adamw(weight_decay=0.01)").weight_decay == 0.01


@pytest.mark.parametrize(
    ("optimizer", "message"),
    [
        ("adamm", "optimizer is 'adamm'; expected one of .*adam, .*with the extra addons"),
        ("sgd(speed=3)", "optimizer sgd has no option speed; expected some of .*momentum"),
        ("sgd(momentum=7)", r"optimizer 'sgd\(momentum=7\)': .*between"),
        ("sgd(0.9)", "expected a name, perhaps with options"),
        ("__import__('os').system('ls')", "expected a name, perhaps with options"),
        ("lossscaleoptimizer", "expected one of"),
    ],
)
def test_unknown_names_and_options_are_refused(optimizer, message):
    with pytest.raises(InputError, match=message):
        make(optimizer=optimizer)


def test_options_are_parsed_as_values():
    assert parse_optimizer(" Lion ") == ("lion", {})
    assert parse_optimizer("sgd(nesterov=True, clipnorm=1)") == (
        "sgd",
        {"nesterov": True, "clipnorm": 1},
    )


@pytest.mark.skipif(HAS_ADDONS, reason="tensorflow-addons is here")
def test_addons_are_refused_where_they_cannot_run():
    with pytest.raises(InputError, match="ended in 2024.*2.15.*expected an environment"):
        make(optimizer="ranger")


@pytest.mark.skipif(not HAS_ADDONS, reason="needs the extra addons (TensorFlow 2.15)")
@pytest.mark.parametrize("name", ["ranger", "lookahead", "radam", "lamb", "novograd", "yogi"])
def test_addons_optimizers_step_and_show_all_their_state(name):
    """A second optimizer with the first one's state takes the same next step."""
    import tensorflow as tf

    gradients = [tf.constant([0.3, -0.2, 0.1])]
    ends = []
    for resumed in (False, True):
        variable = tf.Variable([1.0, 2.0, 3.0])
        optimizer = make(optimizer=name)
        build_optimizer_variables(optimizer, [variable])
        for _ in range(7):  # past one synchronisation of Lookahead
            apply_gradients(optimizer, gradients, [variable])
        if resumed:
            saved = [v.numpy() for v in optimizer_state(optimizer)]
            optimizer = make(optimizer=name)
            build_optimizer_variables(optimizer, [variable])
            for v, value in zip(optimizer_state(optimizer), saved, strict=True):
                v.assign(value)
        for _ in range(6):
            apply_gradients(optimizer, gradients, [variable])
        ends.append(variable.numpy())
    np.testing.assert_array_equal(ends[0], ends[1])
    assert not np.allclose(ends[0], [1, 2, 3])
