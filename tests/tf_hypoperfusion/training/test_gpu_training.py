"""Training through JAX, where it is installed: windows, layers, a whole run in another process."""

import dataclasses
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from helpers import PROJECT

from data_tools import labels
from data_tools.grid import SIDES, VOXEL_ML, mirrored_side, side_frame, to_frame, window_about_brain
from data_tools.simulate.patient import simulate_patient
from tf_hypoperfusion.inference.sliding_window import model_image
from tf_hypoperfusion.training.gpu import patients
from tf_hypoperfusion.training.randomisation import parse

jax = pytest.importorskip("jax", reason="the training on a GPU needs jax (extra gpu)")
randomisation = pytest.importorskip("tf_hypoperfusion.training.gpu.randomisation")

FRAME = (80, 104)
MIRRORED = np.roll(np.arange(128)[::-1], -1)


@pytest.fixture(scope="module")
def people():
    """Two simulated patients: side, NIHSS, images, labels; and held on the device."""
    made = [simulate_patient(7, number) for number in (1, 2)]
    held = [patients.held(each.mni(), each.plan.side, each.nihss, each.mni_core()) for each in made]
    loaded = []
    for each in made:
        mni = each.mni()
        label = labels.make_labels(
            mni.dwi, mni.adc_um2_per_s, mni.tmax_s, known_core=each.mni_core(),
            brain=mni.brain, coverage=mni.coverage, voxel_ml=VOXEL_ML,
        )  # fmt: skip
        loaded.append((each.plan.side, each.nihss, mni, label))
    arrays = patients.together(held).arrays()
    return loaded, {name: jax.numpy.asarray(array) for name, array in arrays.items()}


def drawn(who, start, *, mirrored=False, changed=False, seed=0):
    flags = jax.numpy.asarray([mirrored, changed])
    return randomisation.Drawn(
        who=who, start=start, mirrored=flags[0], changed=flags[1], key=jax.random.PRNGKey(seed)
    )


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("settings", ["none", "wide+inputs"])
def test_an_unchanged_window_is_that_of_the_records(people, settings, mirrored):
    loaded, device = people
    for who, (side, nihss, mni, label) in enumerate(loaded):
        image = model_image(mni.dwi, mni.adc_um2_per_s, mni.brain, side)
        masks = [label.truth, label.coverage, label.core_truth]
        truth = to_frame(np.stack(masks, axis=-1))
        if mirrored:
            image, truth, side = image[MIRRORED], truth[MIRRORED], mirrored_side(side)
        image[..., 3] = side_frame(side)[:, :, np.newaxis]
        window, z = window_about_brain(FRAME), slice(20, 36)
        expected = np.zeros((128, 128, 16, 4), np.float32)
        expected[window] = image[window][:, :, z]
        inputs, y_true = randomisation.window(
            device, drawn(who, 20, mirrored=mirrored),
            settings=parse(settings), frame=FRAME,
        )  # fmt: skip
        np.testing.assert_array_equal(inputs["image"], expected)
        np.testing.assert_array_equal(y_true, truth[window][:, :, z])
        assert float(inputs["nihss"][0]) == np.float32(-1 if nihss is None else nihss / 21)


AMOUNTS = {
    "dwi_bias": (0.1, 0.1), "adc_bias": 0.1, "dwi_gain": 0.1, "dwi_gamma": 0.1, "noise": 0.1,
    "blur": 0.2, "adc_scale": 0.1, "rotation_deg": 5.0, "scale": 0.1, "shift_voxels": 3.0,
    "label_shift_voxels": 2.0, "mask_error": 1.0, "drop_dwi": 1.0, "drop_adc": 1.0,
    "drop_nihss": 1.0, "drop_side": 1.0,
}  # fmt: skip
TRUTH, CORE, NIHSS = "truth", "core", "nihss"
# Of the draw that is looked at: the rim that its mask wins has a high ADC.
CHANGES = {
    "dwi_bias": {"dwi"}, "adc_bias": {"adc", "mask"}, "dwi_gain": {"dwi"}, "dwi_gamma": {"dwi"},
    "noise": {"dwi", "adc", "mask"}, "blur": {"dwi", "adc", "mask"}, "adc_scale": {"adc", "mask"},
    **{
        name: {"dwi", "adc", "mask", TRUTH, CORE}
        for name in ("rotation_deg", "scale", "shift_voxels")
    },
    "label_shift_voxels": {TRUTH, CORE},
    "mask_error": {"dwi", "adc", TRUTH, CORE}, "drop_dwi": {"dwi"}, "drop_adc": {"adc", "mask"},
    "drop_nihss": {NIHSS}, "drop_side": {"side"},
}  # fmt: skip


def seen(device, settings, seed=1):
    inputs, y_true = randomisation.window(
        device, drawn(0, 24, changed=True, seed=seed), settings=settings, frame=FRAME
    )
    image = np.asarray(inputs["image"])
    channels = dict(zip(("dwi", "adc", "mask", "side"), np.moveaxis(image, -1, 0), strict=True))
    learnt = np.asarray(y_true)
    return channels | {
        TRUTH: learnt[..., :2], CORE: learnt[..., 2], NIHSS: np.asarray(inputs["nihss"])
    }  # fmt: skip


@pytest.mark.parametrize("name", AMOUNTS)
def test_each_amount_changes_its_own_channels_and_no_other(people, name):
    before = seen(people[1], randomisation.Randomisation())
    after = seen(people[1], randomisation.Randomisation(**{name: AMOUNTS[name]}))
    changed = {key for key in before if not np.array_equal(before[key], after[key])}
    assert changed == CHANGES[name]
    assert all(np.isfinite(values).all() for values in after.values())
    again = seen(people[1], randomisation.Randomisation(**{name: AMOUNTS[name]}))
    assert all(np.array_equal(after[key], again[key]) for key in after)
    fields = dataclasses.fields(randomisation.Randomisation)
    assert set(AMOUNTS) | {"share"} == {field.name for field in fields}


def test_amounts_given_at_run_time_change_as_those_of_the_program_do(people):
    settings = randomisation.Randomisation(**AMOUNTS)
    compiled = jax.jit(
        lambda device, amounts: randomisation.window(
            device, drawn(0, 24, changed=True, seed=1), settings=amounts, frame=FRAME
        )
    )
    (inputs, learnt), known = compiled(people[1], settings), seen(people[1], settings)
    image = np.moveaxis(np.asarray(inputs["image"]), -1, 0)
    expected = np.stack([known[name] for name in ("dwi", "adc", "mask", "side")])
    differs = np.abs(image - expected) > 1e-3
    assert differs.mean() < 1e-4  # rounding, at the edge of a mask too
    np.testing.assert_array_equal(learnt[..., :2], known[TRUTH])
    other, _ = compiled(people[1], randomisation.Randomisation())
    assert not np.array_equal(other["image"], inputs["image"])


def test_the_share_that_is_changed_and_the_side_of_the_mirrored(people):
    settings = randomisation.Randomisation(drop_nihss=1.0, share=0.5)
    inputs, y_true = randomisation.windows(
        people[1], jax.random.PRNGKey(2), settings=settings, count=64, frame=FRAME
    )
    assert inputs["image"].shape == (64, 128, 128, 16, 4) and y_true.shape == (64, *FRAME, 16, 3)
    assert 15 < (np.asarray(inputs["nihss"]) == -1).sum() < 49
    known = {side: side_frame(side)[window_about_brain(FRAME)] for side in SIDES}
    sides = np.asarray(inputs["image"])[(slice(None), *window_about_brain(FRAME))][..., 0, 3]
    found = [side for each in sides for side in SIDES if np.array_equal(each, known[side])]
    assert len(found) == 64 and len(set(found)) > 1


def test_a_smooth_field_has_mean_0_and_sd_1():
    keys = jax.random.split(jax.random.PRNGKey(0), 64)
    field = jax.vmap(lambda key: randomisation.smooth_field(key, (*FRAME, 16), 45.0))(keys)
    assert abs(float(field.mean())) < 0.1
    assert float(field.std()) == pytest.approx(1, abs=0.1)


# In a process of its own: Keras has one backend in each.
LAYERS = """
import keras, numpy as np
from keras import layers
from tf_hypoperfusion.training.gpu.plane_layers import with_plane_layers
from tf_hypoperfusion.training.losses import CompositeLoss
image = keras.Input((6, 8, 4, 5))
x = layers.Conv3D(7, 3, padding="same", activation="relu", bias_initializer="normal")(image)
x = layers.MaxPooling3D(2)(x)
x = layers.Conv3DTranspose(3, 2, strides=2, bias_initializer="normal")(x)
stock = keras.Model(image, layers.Conv3D(4, 1, bias_initializer="normal")(x))
plane = with_plane_layers(stock)
assert sum(type(layer).__name__.startswith("Plane") for layer in plane.layers) == 4
given = np.random.default_rng(0).normal(size=(2, 6, 8, 4, 5)).astype("float32")
np.testing.assert_allclose(stock(given), plane(given), atol=1e-5)
truth = np.ones((1, 2, 1, 1, 2)); truth[0, 1, ..., 0] = 0
p = np.array([0.8, 0.4], np.float32).reshape(1, 2, 1, 1, 1)
np.testing.assert_allclose(CompositeLoss().call(truth, p), [0.4764], atol=1e-4)
"""


def run(*arguments):
    environment = os.environ | {"KERAS_BACKEND": "jax", "PYTHONPATH": str(PROJECT)}
    command = [sys.executable, *map(str, arguments)]
    done = subprocess.run(command, env=environment, cwd=PROJECT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_plane_layers_and_loss_compute_what_stock_ones_and_tensorflow_do():
    run("-c", LAYERS)


def test_a_run_leaves_networks_that_are_used_as_any_other(tmp_path):
    words = (
        "-m", "tf_hypoperfusion.train_on_gpu", f"--cache={tmp_path}/kept",
        "--patients=3", "--validation_patients=1", "--workers=1", "--preset=tiny",
        "--base_filters=2", "--batch_size=1", "--minutes=20",
        "--randomisation=wide+inputs", "--presence_flags", "--core_output",
    )  # fmt: skip
    said = run(*words, f"--run={tmp_path}/run", "--networks=2", "--epochs=2", "--steps=4")
    assert "network 1: best validation loss" in said
    assert "no_adc_dice" in said and "no_side_dice" in said
    from tf_hypoperfusion.inference import model_files
    from tf_hypoperfusion.training import run_summary

    summary = run_summary.summarise(tmp_path / "run")
    assert summary.finished == [0, 1]
    assert model_files.describe(tmp_path / "run/fold-1/best.keras").frame == "80x104"
    written = json.loads((tmp_path / "run/fold-1/config.json").read_text())
    assert (written["training"]["seed"], written["steps"]) == (2, 4)
    np.save(tmp_path / "image.npy", np.random.default_rng(0).random((1, 128, 128, 16, 4)))
    answers = [
        run("-c", ANSWER.format(tmp_path), backend) for backend in ("jax", "tensorflow")
        if backend == "jax" or _has_tensorflow()
    ]  # fmt: skip
    found = [np.array(answer.split(), float) for answer in answers]
    np.testing.assert_allclose(found[0], found[-1], atol=1e-4)
    # Another begins where this one ended; at this rate it learns nothing.
    run(
        *words, f"--run={tmp_path}/longer", f"--init_from={tmp_path}/run", "--networks=1",
        "--epochs=1", "--steps=1", "--learning_rate=1e-9",
    )  # fmt: skip
    of_both = [
        run("-c", WEIGHTS.format(tmp_path / name / "fold-0/best.keras")).split()
        for name in ("run", "longer")
    ]
    np.testing.assert_allclose(*np.array(of_both, float), atol=1e-6)
    told = json.loads((tmp_path / "longer/fold-0/config.json").read_text())["training"]
    assert told["init_from"] == f"{tmp_path}/run/fold-0/best.keras"


def _has_tensorflow():
    import importlib.util

    return importlib.util.find_spec("tensorflow") is not None


WEIGHTS = """
import keras
print(*keras.saving.load_model("{0}", compile=False).trainable_variables[0].numpy().ravel())
"""
ANSWER = """
import os, sys
os.environ["KERAS_BACKEND"] = sys.argv[1]
import keras, numpy as np
model = keras.saving.load_model("{0}/run/fold-1/best.keras", compile=False)
image = np.load("{0}/image.npy").astype("float32")
p = model({{"image": image, "nihss": np.ones((1, 1), "float32")}}, training=False)["probability"]
print(*np.asarray(p)[0, 30:90:7, 20:100:9, 5, 0].ravel())
"""
