"""The exported model: its three signatures against the numpy path, refusals, card, checksums."""

import gzip
import json
import re
import shutil
import subprocess

import numpy as np
import pytest
import tensorflow as tf
from helpers.calibrations import calibration_of, steps
from helpers.serving import STRIDE

from data_tools import intensity, labels, mni_patient, patient
from data_tools.cohort import clinical_record, read_participants
from data_tools.grid import GRID_SHAPE, VOXEL_ML
from data_tools.runtime.errors import InputError
from tf_hypoperfusion import clinical
from tf_hypoperfusion.inference import (
    calibration,
    model_files,
    predictors,
    rest_client,
    sliding_window,
)
from tf_hypoperfusion.serving import (
    answers,
    graph_arrays,
    numpy_arrays,
    numpy_volumes,
    saved_model,
    warmup,
)
from tf_hypoperfusion.serving import graph as serving_graph
from tf_hypoperfusion.serving.server.tensorflow_model import explain

VOXELS = 91 * 109 * 60


@pytest.fixture(scope="module")
def signatures(averaged_export):
    model = tf.saved_model.load(str(averaged_export))

    def call(name, inputs):
        return {k: v.numpy() for k, v in model.signatures[name](**inputs).items()}

    call.keep = model
    return call


@pytest.fixture(scope="module")
def people(mni_cohort):
    """Every simulated patient with the numpy path's answer of the averaged networks."""
    table = read_participants(mni_cohort)
    rows = [clinical_record(row) for _, row in table.iterrows()]
    return [(row, mni_patient.load_mni(mni_cohort, row["participant_id"])) for row in rows]


def request(row, volumes, voxel_ml=VOXEL_ML):
    """Inputs of predict_volume for one patient."""
    nihss = -1.0 if row["nihss"] is None else row["nihss"]
    return {
        "dwi": tf.constant(volumes.dwi[np.newaxis]),
        "adc": tf.constant(volumes.adc_um2_per_s[np.newaxis]),
        "brain_mask": tf.constant(volumes.brain[np.newaxis].astype(np.float32)),
        "nihss": tf.constant([[nihss]], tf.float32),
        "side": tf.constant([[row["side"]]]),
        "voxel_ml": tf.constant([[voxel_ml]], tf.float32),
    }


def in_numpy(network_predictors, row, volumes):
    """Probability of the mean of both networks by the way that training data walk."""
    model = sliding_window.together([sliding_window.SlabModel(p) for p in network_predictors])
    image = sliding_window.model_image(
        volumes.dwi, volumes.adc_um2_per_s, volumes.brain, row["side"]
    )
    tissue = intensity.parenchyma(volumes.adc_um2_per_s, volumes.brain)
    feature = intensity.nihss_feature(row["nihss"])
    return sliding_window.predict_volume(
        model.predict, image, nihss=feature, stride=STRIDE, tissue=tissue
    ).mean


def test_volumes_give_what_the_numpy_path_gives(network_predictors, signatures, people):
    for row, volumes in people[:2]:
        answer = signatures("predict_volume", request(row, volumes))
        probability = in_numpy(network_predictors, row, volumes)
        np.testing.assert_allclose(answer["probability"][0], probability, atol=1e-5)
        core_ml = patient.core_on_grid(volumes).sum() * VOXEL_ML
        hypoperfusion_ml = (answer["probability"][0] >= 0.5).sum() * VOXEL_ML
        expected = clinical.defuse3(hypoperfusion_ml, core_ml)
        assert answer["core_ml"][0, 0] == pytest.approx(core_ml, rel=1e-6)
        assert answer["hypoperfusion_ml"][0, 0] == pytest.approx(hypoperfusion_ml, rel=1e-6)
        assert answer["mismatch_ratio"][0, 0] == pytest.approx(expected.ratio, rel=1e-5)
        assert answer["mismatch_ml"][0, 0] == pytest.approx(
            expected.difference_ml, rel=1e-6, abs=1e-4
        )
        for name in ("ratio_met", "difference_met", "core_met", "target_mismatch"):
            assert answer[name][0, 0] == getattr(expected, name)


def test_two_patients_in_one_request_are_two_requests(signatures, people):
    single = [signatures("predict_volume", request(*person)) for person in people[:2]]
    joined = {
        name: tf.concat([request(*person)[name] for person in people[:2]], axis=0)
        for name in request(*people[0])
    }
    both = signatures("predict_volume", joined)
    assert json.loads(both["model_info"][0, 0])["cohort"] is None
    for name, value in both.items():
        expected = np.concatenate([one[name] for one in single])
        if value.dtype.kind == "f":
            np.testing.assert_allclose(value, expected, atol=1e-6)
        else:
            np.testing.assert_array_equal(value, expected)


def test_bytes_give_what_volumes_give(signatures, people):
    inputs = request(*people[0])
    expected = signatures("predict_volume", inputs)
    for name in ("dwi", "adc", "brain_mask"):
        raw = np.ascontiguousarray(inputs[name].numpy()[0], "<f4").tobytes()
        inputs[name] = tf.constant([gzip.compress(raw)])
    answer = signatures("predict_volume_bytes", inputs)
    levels = tf.io.decode_png(answer["probability_png_bytes"][0], dtype=tf.uint16).numpy()
    probability = levels.reshape(GRID_SHAPE) / 65535
    np.testing.assert_allclose(probability, expected["probability"][0], atol=2e-5)
    np.testing.assert_array_equal(probability >= 0.5, expected["probability"][0] >= 0.5)
    assert answer["core_ml"] == expected["core_ml"]


@pytest.mark.parametrize(
    ("by", "core_removed"),
    [
        (calibration_of(slope=0.6, intercept=-0.4, cut=0.3, errors=steps(19, 0.2)), False),
        (calibration_of(slope=1.5, intercept=0.3, cut=0.55, errors=steps(19, 1.5) - 20), True),
    ],
)
def test_a_calibrated_graph_answers_as_the_numpy_path(by, core_removed, people):
    """With a network that says how bright the DWI is: probabilities of every size."""
    row, volumes = people[0]
    inputs = request(row, volumes)
    if core_removed:
        inputs["adc"] = tf.maximum(inputs["adc"], 700.0)

    def network(image, nihss):
        return {"probability": tf.sigmoid(6 * (image[..., :1] - 1.2))}

    def in_numpy(image, nihss):
        return network(image, nihss)["probability"].numpy()

    image = sliding_window.model_image(
        volumes.dwi, inputs["adc"].numpy()[0], volumes.brain, row["side"]
    )
    tissue = intensity.parenchyma(inputs["adc"].numpy()[0], volumes.brain)
    average = sliding_window.predict_volume(
        in_numpy, image, nihss=0, stride=STRIDE, tissue=tissue
    ).mean
    answer = serving_graph.predict_volumes(
        network, inputs, stride=STRIDE, info="{}", calibration=by
    )
    expected = by.probability(average)
    found = answer["probability"].numpy()[0]
    np.testing.assert_allclose(found, expected, atol=1e-5)
    volume_ml, core_ml = (answer[f"{name}_ml"].numpy().item() for name in ("hypoperfusion", "core"))
    assert volume_ml == pytest.approx((found >= by.cut).sum() * VOXEL_ML)
    said = calibration.answer(by, hypoperfusion_ml=volume_ml, core_ml=core_ml)
    ends = [answer[f"hypoperfusion_{end}_ml"].numpy().item() for end in ("low", "high")]
    assert ends == pytest.approx(said.interval_ml, abs=0.01)
    assert answer["answer"].numpy().item().decode() == said.target_mismatch
    by_numpy = numpy_volumes.predict_volumes(
        sliding_window.SlabModel(in_numpy),
        {name: value.numpy() for name, value in inputs.items()},
        stride=STRIDE, info="{}", calibration=by,
    )  # fmt: skip
    assert set(by_numpy) == set(answer)
    for name, value in answer.items():
        assert by_numpy[name].dtype == value.numpy().dtype
        if value.dtype == tf.float32:
            np.testing.assert_allclose(by_numpy[name], value, rtol=1e-5, atol=1e-5)
        else:
            assert by_numpy[name].tolist() == value.numpy().tolist()

    compressed = inputs | {
        name: tf.constant([gzip.compress(np.ascontiguousarray(inputs[name][0], "<f4").tobytes())])
        for name in ("dwi", "adc", "brain_mask")
    }
    sent = serving_graph.predict_bytes(
        network, compressed, stride=STRIDE, info="{}", calibration=by
    )
    received = rest_client._from_png(sent["probability_png_bytes"].numpy()[0])
    np.testing.assert_allclose(received, found, atol=2e-5)
    np.testing.assert_array_equal(received >= by.cut, found >= by.cut)


def test_the_slab_signature_is_the_mean_of_the_networks(network_predictors, signatures):
    rng = np.random.default_rng(0)
    image = rng.random((2, 128, 128, 16, 4), np.float32)
    nihss = np.float32([[0.5], [-1]])
    answer = signatures(
        "serving_default", {"image": tf.constant(image), "nihss": tf.constant(nihss)}
    )
    each = [predictor(image, nihss) for predictor in network_predictors]
    np.testing.assert_allclose(answer["probability"], np.mean(each, axis=0), atol=1e-6)
    assert np.abs(each[0] - each[1]).max() > 1e-4  # the networks do differ


@pytest.mark.parametrize("seed", range(4))
def test_core_clusters_are_those_of_scipy(seed):
    rng = np.random.default_rng(seed)
    brain = np.ones(GRID_SHAPE, bool)
    dwi = np.ones(GRID_SHAPE, np.float32)
    adc = np.full(GRID_SHAPE, 800, np.float32)
    # Snakes and crumbs of every size around the limits, some of them nowhere bright enough.
    for _ in range(40):
        place = np.array([rng.integers(2, n - 2) for n in GRID_SHAPE])
        for _ in range(rng.integers(1, 100)):
            adc[tuple(place)], dwi[tuple(place)] = 400, rng.choice([1.5, 3], p=[0.8, 0.2])
            place = np.clip(place + rng.integers(-1, 2, 3), 1, np.array(GRID_SHAPE) - 2)
    if seed == 3:  # and an even core of 42 mL
        adc[30:50, 30:50, 20:41], dwi[30:50, 30:50, 20:41] = 400, 1.6
    voxel_ml = 0.005
    expected = labels.core_mask(dwi, adc, brain, voxel_ml)
    ratio, _ = intensity.normalise(dwi, adc, brain)
    found = serving_graph._core(
        dwi_ratio=tf.constant(ratio),
        adc=tf.constant(adc),
        brain=tf.constant(brain),
        voxel_ml=tf.constant(voxel_ml),
    )
    np.testing.assert_array_equal(found.numpy(), expected)
    assert 0 < expected.sum() < (adc == 400).sum()


def test_decisions_at_the_limits_are_those_of_the_criteria():
    values = [0, 0.5, 15, 15.008, 27, 30, 69.992, 70, 70.008, 126, 500]
    for hypoperfusion in values:
        for core in values:
            found = answers.decide(
                graph_arrays,
                hypoperfusion_ml=tf.constant(float(hypoperfusion), tf.float64),
                core_ml=tf.constant(float(core), tf.float64),
            )
            expected = clinical.defuse3(hypoperfusion, core)
            assert bool(found["target_mismatch"]) is expected.target_mismatch
            assert float(found["mismatch_ratio"]) == pytest.approx(expected.ratio)


@pytest.mark.parametrize("xp", [graph_arrays, numpy_arrays])
@pytest.mark.parametrize("core_ml", [10.0, 40.0, 69.9, 70.1])
@pytest.mark.parametrize("spread", [0.01, 0.5, 4.0])
def test_an_interval_decides_as_the_calibration(xp, core_ml, spread):
    by = calibration_of(errors=steps(19, spread))
    for volume_ml in (0.0, 5.0, 24.0, 55.0, 72.0, 85.0, 126.5, 400.0):
        said = calibration.answer(by, hypoperfusion_ml=volume_ml, core_ml=core_ml)
        found = answers.figures(
            xp, by=by,
            hypoperfusion_ml=xp.constant(volume_ml, "float64"),
            core_ml={"rule": xp.constant(core_ml, "float64")},
        )  # fmt: skip
        assert set(found) == set(answers.figures_of(by))
        ends = [float(found[f"hypoperfusion_{end}_ml"]) for end in ("low", "high")]
        assert ends == pytest.approx(said.interval_ml, abs=0.006)
        word = found["answer"]
        word = word if isinstance(word, str) else word.numpy().decode()
        assert word == said.target_mismatch


@pytest.mark.parametrize("xp", [graph_arrays, numpy_arrays])
@pytest.mark.parametrize("cut", calibration.CUTS)
def test_no_rounding_of_a_picture_moves_a_voxel_over_the_edge(xp, cut):
    """Whoever reads it, in 32 or 64 bits: also where levels / 65535 is the threshold itself."""
    edge = [np.float32(cut)]
    for way in (0, 1):
        for _ in range(40):
            edge.append(np.nextafter(edge[-1], np.float32(way)))
        edge.append(np.float32(cut))
    near = np.linspace(cut - 3 / 65535, cut + 3 / 65535, 999)
    probability = np.float32([*edge, *near, 0, 1])
    levels = np.asarray(answers.png_levels(xp, xp.constant(probability), cut))
    assert levels.dtype == np.uint16
    for read in (levels / 65535, (levels / 65535).astype(np.float32)):
        np.testing.assert_array_equal(read >= cut, probability >= np.float32(cut))
        np.testing.assert_allclose(read, probability, atol=1.01 / 65535)


@pytest.mark.parametrize("xp", [graph_arrays, numpy_arrays])
def test_probabilities_are_calibrated_alike(xp):
    average = np.float32([0, 1e-9, 1e-6, 0.2, 0.5, 0.999, 1])
    by = calibration_of(slope=0.6, intercept=-0.4)
    found = np.asarray(answers.calibrated(xp, xp.constant(average), by))
    assert found.dtype == np.float32 and found[0] == 0
    np.testing.assert_allclose(found, by.probability(average), rtol=1e-6)
    assert answers.calibrated(xp, average, None) is average


def with_a_spike(dwi):
    values = dwi.numpy()
    values[0, 45, 54, 30] = 1e8
    return tf.constant(values)


def mirrored(inputs):
    """Rows from front to back, as LPS has them."""
    return inputs | {name: inputs[name][:, :, ::-1] for name in ("dwi", "adc", "brain_mask")}


def changed(name, change):
    return lambda inputs: inputs | {name: change(inputs[name])}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (changed("side", lambda v: tf.constant([["L"]])), "side: expected one of left, right"),
        (changed("side", lambda v: tf.constant([["Left"]])), "side: expected one of left, right"),
        (changed("nihss", lambda v: v * 0 + 43), "nihss: expected a whole number from 0 to 42"),
        (changed("nihss", lambda v: v * 0 + 3.5), "nihss: expected a whole number"),
        (changed("nihss", lambda v: v * np.nan), "nihss: expected a whole number"),
        (changed("voxel_ml", lambda v: v * 1000), "voxel_ml: expected mL of the patient"),
        (changed("dwi", lambda v: v * np.nan), "dwi: holds NaN"),
        (changed("adc", lambda v: v + np.inf), "adc: holds NaN or infinite"),
        (changed("adc", lambda v: v * 1e-3), "expected 620 to 1600, in 1e-6 mm2/s"),
        (
            changed("adc", lambda v: v * 0),
            "adc: is 0 everywhere, and this model was not trained to answer without it",
        ),
        (
            changed("brain_mask", lambda v: v * 255),
            "brain_mask: expected 1 in the brain and 0 elsew",
        ),
        (changed("brain_mask", lambda v: v * 0), "brain_mask: expected 1 in the brain and 0 else"),
        (
            changed("dwi", lambda v: v * 0),
            "dwi: is 0 everywhere, and this model was not trained to answer without it",
        ),
        (changed("dwi", with_a_spike), "dwi: a voxel of the brain is over 1000 times"),
        (lambda inputs: inputs | {"dwi": inputs["adc"], "adc": inputs["dwi"]}, "look exchanged"),
        (mirrored, "brain is mirrored in y"),
        (changed("dwi", lambda v: v[:, :-1]), "(?i)shape"),
        (changed("dwi", lambda v: v[0]), "(?i)shape|rank|compatible"),
        (changed("nihss", lambda v: v[0]), "(?i)shape|rank|compatible"),
    ],
)
def test_what_cannot_be_is_refused_with_the_reason(change, message, signatures, people):
    with pytest.raises((tf.errors.InvalidArgumentError, TypeError, ValueError), match=message):
        signatures("predict_volume", change(request(*people[0])))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda: gzip.compress(b"\0" * 400), "it holds 400$"),
        (lambda: b"no gzip at all", "it is no gzip"),
        (lambda: b"", "it is no gzip"),
        (lambda: gzip.compress(b"\0" * 100_000_000), "it holds 100000000"),
        (lambda: gzip.compress(bytes(2 * VOXELS)), "int16 half.*it holds 1190280"),
        (lambda: gzip.compress(bytes(8 * VOXELS)), "float64 has twice.*it holds 4761120"),
        (lambda: gzip.compress(bytes(4 * VOXELS + 352)), "NIfTI file some more.*it holds 2380912"),
        (lambda: bytes(4 * VOXELS), "it is no gzip"),
    ],
    # Made when they are sent: to compress 100 MB is no part of collecting tests.
    ids=[
        "too few voxels", "no gzip", "empty", "too much unpacked", "int16", "float64", "NIfTI",
        "not compressed",
    ],
)  # fmt: skip
def test_bytes_that_are_no_volume_are_refused(content, message, signatures, people):
    inputs = request(*people[0])
    for name in ("dwi", "adc", "brain_mask"):
        raw = np.ascontiguousarray(inputs[name].numpy()[0], "<f4").tobytes()
        inputs[name] = tf.constant([gzip.compress(raw)])
    inputs["dwi"] = tf.constant([content()])
    with pytest.raises(tf.errors.OpError) as caught:
        signatures("predict_volume_bytes", inputs)
    said = explain(caught.value).message
    assert said.startswith("dwi: expected the gzip of 91 x 109 x 60 float32 values")
    assert re.search(message, said)


def test_slabs_with_nan_or_too_few_nihss_are_refused(signatures):
    image, nihss = tf.zeros((2, 128, 128, 16, 4)), tf.zeros((2, 1))
    with pytest.raises(tf.errors.InvalidArgumentError, match="NaN"):
        signatures("serving_default", {"image": image * np.nan, "nihss": nihss})
    with pytest.raises(tf.errors.InvalidArgumentError, match="expected ratios"):
        signatures("serving_default", {"image": image + 1e6, "nihss": nihss})
    with pytest.raises(tf.errors.InvalidArgumentError, match="expected NIHSS / 21"):
        signatures("serving_default", {"image": image, "nihss": nihss + 14})
    with pytest.raises(tf.errors.InvalidArgumentError, match="one NIHSS a slab"):
        signatures("serving_default", {"image": image, "nihss": nihss[:1]})


def test_the_card_says_what_it_is(averaged_export, networks):
    card = json.loads((averaged_export / "model_card.json").read_text())
    assert [m["sha256"] for m in card["models"]] == [
        model_files.describe(path).sha256 for path in networks
    ]
    assert card["stride_slices"] == STRIDE and card["exported_with"]["tensorflow"]
    # These networks have no config.json beside them, which whoever predicts is warned of.
    assert model_files.describe(averaged_export).cohort is None
    text = (averaged_export / "model_card.md").read_text()
    assert "Not a medical device" in text and "2 network(s)" in text and "Limits" in text
    assert card["tests"] == [] and "No evaluation of these networks" in text


def test_checksums_are_read_by_sha256sum_and_tell_damage(averaged_export, tmp_path):
    copy = shutil.copytree(averaged_export, tmp_path / "1")
    assert model_files.damaged(copy) == []
    command = ["sha256sum", "-c", "--quiet", "checksums.sha256"]
    assert subprocess.run(command, cwd=copy).returncode == 0
    index = copy / "variables/variables.index"
    index.write_bytes(index.read_bytes()[:-1])
    assert model_files.damaged(copy) == ["variables/variables.index"]
    # A model without its card would not say any more what it was trained on.
    copy = shutil.copytree(averaged_export, tmp_path / "2")
    (copy / "model_card.json").unlink()
    with pytest.raises(InputError, match="damaged or missing: model_card.json; copy it again"):
        predictors.load_predictor(copy)
    (copy / "checksums.sha256").write_text("")
    assert model_files.damaged(copy) == ["checksums.sha256"]


def test_warm_up_requests_are_read_and_answered(averaged_export, signatures):
    from tensorflow_serving.apis import prediction_log_pb2

    seen = []
    for record in tf.data.TFRecordDataset(str(averaged_export / warmup.FILE)):
        log = prediction_log_pb2.PredictionLog.FromString(record.numpy())
        request = log.predict_log.request
        seen.append(request.model_spec.signature_name)
        inputs = {name: tf.constant(tf.make_ndarray(v)) for name, v in request.inputs.items()}
        assert all(
            np.isfinite(v).all()
            for v in signatures(seen[-1], inputs).values()
            if v.dtype.kind == "f"
        )
    assert seen == ["serving_default", "predict_volume_bytes"]
    assert (averaged_export / warmup.FILE).stat().st_size < 300_000


@pytest.fixture
def stroke_copy(stroke_export, tmp_path):
    """A saved_models of its own with version 1 of "stroke"."""
    return shutil.copytree(stroke_export.parents[1], tmp_path / "saved_models")


def test_the_same_export_is_kept_and_a_damaged_one_is_not(stroke_copy, networks):
    first = stroke_copy / "stroke/1"
    assert saved_model.export(networks[:1], "stroke", stroke_copy, stride=STRIDE) == (first, True)
    (first / "variables/variables.index").unlink()
    again, kept = saved_model.export(networks[:1], "stroke", stroke_copy, stride=STRIDE, onnx=False)
    assert (again.name, kept) == ("2", False)


def test_an_export_in_16_bits_is_another_version_with_nearly_the_same_answer(stroke_copy, networks):
    made = calibration_of(networks=[model_files.describe(networks[0]).sha256], cut=0.3)
    file = stroke_copy.parent / "c.json"
    file.write_text(json.dumps(made.to_json()))
    rough_export, _ = saved_model.export(
        networks[:1], "stroke", stroke_copy, stride=STRIDE, precision="bfloat16", onnx=False,
        calibration_file=str(file),
    )  # fmt: skip
    # What it was calibrated with goes along, for whoever predicts with it.
    assert calibration.of_models([model_files.describe(rough_export)]) == made
    assert calibration.of_models([model_files.describe(stroke_copy / "stroke/1")]) is None
    outputs = tf.saved_model.load(str(rough_export)).signatures["predict_volume"].structured_outputs
    assert {"answer", "hypoperfusion_low_ml", "hypoperfusion_high_ml"} < set(outputs)
    folders = [stroke_copy / "stroke/1", rough_export]
    assert [f.name for f in folders] == ["1", "2"]
    cards = [json.loads((f / "model_card.json").read_text()) for f in folders]
    assert [card["precision"] for card in cards] == ["float32", "bfloat16"]
    assert "compute in bfloat16" in (folders[1] / "model_card.md").read_text()
    image = np.random.default_rng(0).random((1, *predictors.SLAB), np.float32)
    exact, rough = (
        predictors.load(f, "tensorflow").predict(image, np.ones((1, 1), np.float32))
        for f in folders
    )
    assert rough.dtype == np.float32
    assert 0 < np.abs(exact - rough).max() < 0.05


def test_what_cannot_be_exported(networks, averaged_export, tmp_path):
    with pytest.raises(InputError, match="is an export already"):
        saved_model.export([averaged_export], "x", tmp_path)
    with pytest.raises(InputError, match="the same network twice"):
        saved_model.export([networks[0], networks[0]], "x", tmp_path)
    for name in ("a/b", "..", "a:b", "", "a b"):
        with pytest.raises(InputError, match="--name is"):
            saved_model.export(networks, name, tmp_path)
    others = tmp_path / "c.json"
    others.write_text(json.dumps(calibration_of().to_json()))
    with pytest.raises(InputError, match="expected the same networks"):
        saved_model.export(networks, "x", tmp_path, calibration_file=str(others))
    others.unlink()
    half = tmp_path / "half.keras"
    half.write_bytes(networks[0].read_bytes()[:-2000])
    with pytest.raises(InputError, match="no whole .keras archive"):
        saved_model.export([half], "x", tmp_path)
    half.unlink()
    with pytest.raises(InputError, match="no such file"):
        saved_model.export([tmp_path / "none.keras"], "x", tmp_path)
    assert not list(tmp_path.iterdir())
