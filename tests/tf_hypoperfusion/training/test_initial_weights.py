"""A training begins with a trained network, also one that had learnt less."""

import dataclasses

import keras
import numpy as np
import pytest

from data_tools.grid import side_frame
from data_tools.runtime.errors import InputError
from tf_hypoperfusion.config import PARTS, ModelConfig, TrainingConfig
from tf_hypoperfusion.model.attention_unet import build_model
from tf_hypoperfusion.model.keras_compat import to_numpy
from tf_hypoperfusion.training import distribution, initial_weights, parts, step

pytestmark = pytest.mark.core

SMALL = ModelConfig(base_filters=2, poolings=1, frame="80x104")
MORE = dataclasses.replace(
    SMALL, presence_flags=True, contrast_channels="local+mirror", core_output=True
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    keras.utils.set_random_seed(3)
    model = build_model(SMALL)
    for layer in model.layers:  # moments that are not those of the start
        if "norm" in layer.name:
            layer.set_weights([w + 0.1 for w in layer.get_weights()])
    path = tmp_path_factory.mktemp("run") / "fold-2" / "best.keras"
    path.parent.mkdir()
    model.save(path)
    rng = np.random.default_rng(0)
    image = rng.random((1, 128, 128, 16, 4), dtype=np.float32)
    image[..., 3] = side_frame("right")[:, :, None]
    inputs = {"image": image, "nihss": np.full((1, 1), 0.4, np.float32)}
    return path, inputs, np.asarray(model(inputs)["probability"])


@pytest.mark.parametrize("for_training", [False, True])
@pytest.mark.parametrize("config", [SMALL, MORE])
def test_the_answer_is_the_trained_one_however_much_is_added(trained, config, for_training):
    path, inputs, expected = trained
    keras.utils.set_random_seed(4)
    model = build_model(config, for_training=for_training)
    assert not np.allclose(np.asarray(model(inputs)["probability"]), expected, atol=1e-3)
    initial_weights.copy_weights(str(path), model)
    np.testing.assert_allclose(np.asarray(model(inputs)["probability"]), expected, atol=1e-5)


def test_another_network_is_refused_by_the_layer_that_does_not_fit(trained):
    for other in ({"base_filters": 3}, {"poolings": 2}, {"normalisation": "none"}):
        model = build_model(dataclasses.replace(SMALL, **other))
        with pytest.raises(InputError, match=r"--init_from=.*best\.keras: another network"):
            initial_weights.copy_weights(str(trained[0]), model)


def test_frozen_the_new_answer_learns_and_the_old_one_stays(trained):
    path, inputs, expected = trained
    config = TrainingConfig(
        batch_size=1, micro_batch=1, precision="float32", init_from=str(path), freeze=True
    )
    strategy = distribution.choose_strategy()
    core = dataclasses.replace(SMALL, core_output=True, dropout=0.5)
    built = step.build(strategy, core, config, 1)
    before = {v.path if hasattr(v, "path") else v.name: to_numpy(v) for v in built.model.variables}
    truth = np.ones((1, 128, 128, 16, 3), np.float32)
    built.train(iter([(inputs, truth, np.ones(1, np.float32))]), 0)
    changed = {
        name
        for name, v in zip(before, built.model.variables, strict=True)
        if not np.array_equal(before[name], to_numpy(v))
    }
    assert changed and all("core_logit" in name for name in changed)
    np.testing.assert_allclose(np.asarray(built.model(inputs)["probability"]), expected, atol=1e-5)


def test_freeze_needs_a_network_to_begin_with_and_something_new(trained):
    with pytest.raises(InputError, match="freeze is .*true.*; expected init_from"):
        TrainingConfig(freeze=True)
    config = TrainingConfig(
        batch_size=1, micro_batch=1, precision="float32", init_from=str(trained[0]), freeze=True
    )
    with pytest.raises(InputError, match="freeze leaves nothing to train"):
        step.build(distribution.choose_strategy(), SMALL, config, 1)


def test_fixed_moments_stay_as_they_came_while_the_weights_learn(trained):
    path, inputs, _ = trained
    settings = dict(batch_size=1, micro_batch=1, precision="float32", init_from=str(path))
    moved = {}
    for fixed in (False, True):
        config = TrainingConfig(**settings, fixed_moments=fixed)
        built = step.build(distribution.choose_strategy(), SMALL, config, 1)
        before = [to_numpy(v) for v in built.model.variables]
        truth = np.ones((1, 128, 128, 16, 2), np.float32)
        built.train(iter([(inputs, truth, np.ones(1, np.float32))]), 0)
        moved[fixed] = {
            "moments" if "moving" in (v.path if hasattr(v, "path") else v.name) else "weights"
            for v, was in zip(built.model.variables, before, strict=True)
            if not np.array_equal(was, to_numpy(v))
        }
    assert moved == {False: {"moments", "weights"}, True: {"weights"}}


def names_moved(built, before):
    return {
        v.path if hasattr(v, "path") else v.name
        for v, was in zip(built.model.variables, before, strict=True)
        if not np.array_equal(was, to_numpy(v))
    }


@pytest.mark.parametrize("micro_batches", [1, 2])
def test_a_part_takes_its_share_of_each_step(trained, micro_batches):
    path, inputs, _ = trained
    image, nihss = (np.repeat(inputs[name], 2, 0) for name in ("image", "nihss"))
    images = {"image": image, "nihss": nihss}
    batch = (images, np.ones((2, 128, 128, 16, 2), np.float32), np.ones(2, np.float32))
    half = (inputs, batch[1][:1], batch[2][:1])
    strategy = distribution.choose_strategy()
    without_dropout = dataclasses.replace(SMALL, dropout=0.0)  # whose seeds are no weights
    took = {}
    for share in (1.0, 0.25):
        config = TrainingConfig(
            batch_size=2,
            micro_batch=2 // micro_batches,
            precision="float32",
            init_from=str(path),
            fixed_moments=True,
            encoder_rate=share,
            bottleneck_rate=0.0,
        )
        built = step.build(strategy, without_dropout, config, 1)
        before = [to_numpy(v) for v in built.model.variables]
        built.train(iter([batch] if micro_batches == 1 else [half, half]), 0)
        took[share] = {
            v.path if hasattr(v, "path") else v.name: to_numpy(v) - was
            for v, was in zip(built.model.variables, before, strict=True)
        }
    for name, whole in took[1.0].items():
        factor = 0.25 if "encoder" in name else 1.0
        np.testing.assert_allclose(took[0.25][name], factor * whole, atol=1e-6, err_msg=name)
        assert not ("bottleneck" in name and whole.any()), name
    assert any(whole.any() for name, whole in took[1.0].items() if "encoder" in name)


def test_a_frozen_part_keeps_its_moments_and_the_others_do_not(trained):
    path, inputs, _ = trained
    config = TrainingConfig(
        batch_size=1, micro_batch=1, precision="float32", init_from=str(path), encoder_rate=0.0
    )
    built = step.build(distribution.choose_strategy(), SMALL, config, 1)
    before = [to_numpy(v) for v in built.model.variables]
    truth = np.ones((1, 128, 128, 16, 2), np.float32)
    built.train(iter([(inputs, truth, np.ones(1, np.float32))]), 0)
    moved = names_moved(built, before)
    assert not [name for name in moved if "encoder" in name]
    assert [name for name in moved if "decoder" in name and "moving" in name]


def test_of_scales_only_nothing_else_learns(trained):
    path, inputs, _ = trained
    config = TrainingConfig(
        batch_size=1, micro_batch=1, precision="float32", init_from=str(path),
        fixed_moments=True, scales_only=True,
    )  # fmt: skip
    built = step.build(distribution.choose_strategy(), SMALL, config, 1)
    before = [to_numpy(v) for v in built.model.variables]
    truth = np.ones((1, 128, 128, 16, 2), np.float32)
    built.train(iter([(inputs, truth, np.ones(1, np.float32))]), 0)
    moved = names_moved(built, before)
    assert any("gamma" in name and "encoder" in name for name in moved)
    kernels = {name for name in moved if "gamma" not in name and "beta" not in name}
    assert kernels and all("logit" in name or "seed" in name for name in kernels), kernels


def test_every_layer_with_weights_belongs_to_a_part():
    model = build_model(MORE, for_training=True)
    found = {parts.part_of(layer.name) for layer in model.layers if layer.weights}
    assert found == set(PARTS)
    # Saved states hold the optimizer's variables in this order.
    all_of_them = [id(variable) for variable, _ in parts.trained(model, {})]
    assert all_of_them == [id(variable) for variable in model.trainable_variables]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"encoder_rate": 1.5}, "encoder_rate is 1.5; expected 0 to 1"),
        ({"encoder_rate": 0.0}, "encoder_rate is 0.0; expected init_from with it"),
        (
            {f"{part}_rate": 0.0 for part in PARTS} | {"init_from": "demo"},
            "the rate of every part is 0; expected one of them above 0",
        ),
    ],
    ids=["above 1", "nothing to keep", "all frozen"],
)
def test_rates_that_cannot_be_are_refused(change, message):
    with pytest.raises(InputError, match=message):
        TrainingConfig(**change)


@pytest.mark.parametrize("name", ["fixed_moments", "scales_only"])
def test_what_is_kept_needs_a_network_to_begin_with(name):
    with pytest.raises(InputError, match=f"{name} is .*true.*; expected init_from"):
        TrainingConfig(**{name: True})
