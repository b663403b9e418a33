"""The models of a command: looked at first, loaded once, asked one by one."""

import dataclasses
import json
import pickle
import threading

import numpy as np
import pytest
from helpers.calibrations import calibration_of
from helpers.predictions import mni_patient

from data_tools.runtime import processor
from data_tools.runtime.errors import InputError
from tf_hypoperfusion import config
from tf_hypoperfusion.clinical import ClinicalFacts
from tf_hypoperfusion.inference import model_files, onnx_runtimes, predictors
from tf_hypoperfusion.inference.model_backend import Models
from tf_hypoperfusion.inference.onnx_runtimes import LoadedModel

pytestmark = pytest.mark.quick
ONES = np.ones((91, 109, 60), np.float32)
MNI = dataclasses.replace(mni_patient(ONES > 0), dwi=ONES, adc_um2_per_s=800 * ONES)


@pytest.fixture
def files(tmp_path):
    """An ONNX file and a Keras file that nobody opens."""
    paths = tmp_path / "model.onnx", tmp_path / "best.keras"
    for path in paths:
        path.touch()
    return paths


@pytest.fixture
def loads(monkeypatch):
    """Models whose networks answer 0.25 and 0.75; what was loaded, by which runtime, in what."""
    seen = []

    def load(path, runtime, precision, **_):
        seen.append((path.name, runtime, precision, threading.current_thread()))

        def predict(image, nihss):
            levels = (0.25, 0.75) if path.suffix == ".onnx" else (0.5,)
            return np.broadcast_to(np.float32(levels), (*image.shape[:4], len(levels)))

        return LoadedModel(predict, f"{runtime} 1", precision or "float32")

    for way in ("load", "start"):
        monkeypatch.setattr(predictors, way, load)
    monkeypatch.setattr(onnx_runtimes, "installed", lambda: ["openvino"])
    return seen


def models(*paths, runtime="auto", precision=None, stride=16, **others):
    return Models(paths, runtime=runtime, precision=precision, stride=stride, **others)


def test_an_onnx_file_is_loaded_ahead_in_another_thread_and_once(files, loads):
    lean = models(files[0], precision="bfloat16")
    assert loads == []
    lean.begin()
    first, second = lean.connect(), lean.connect()
    (known,) = first.models()
    assert (known.runtime, known.precision, known.fold) == ("auto 1", "bfloat16", None)
    assert second.models()[0].to_json()["runtime"] == "auto 1"
    assert [each[:3] for each in loads] == [("model.onnx", "auto", "bfloat16")]
    assert loads[0][3] is not threading.current_thread()


def test_what_takes_tensorflow_is_not_loaded_before_the_images_are_known_to_be_good(files, loads):
    both = models(*files)
    both.begin()
    assert loads == []
    backend = both.connect()
    assert [each[0] for each in loads] == ["model.onnx", "best.keras"]
    assert len(backend.answers) == 2 and backend.stride == 16


@pytest.mark.parametrize(("able", "by_tensorflow"), [(True, "bfloat16"), (False, None)])
def test_fast_is_what_each_model_can_do_less_in(files, loads, monkeypatch, able, by_tensorflow):
    monkeypatch.setattr(processor, "multiplies_bfloat16", lambda: able)
    backend = models(*files, stride=None, fast=True).connect()
    backend.models()
    # OpenVINO finds out by itself what the processor multiplies.
    assert [each[2] for each in loads] == ["bfloat16", by_tensorflow]
    assert backend.stride == config.FAST_STRIDE > config.TEST_STRIDE and backend.fast
    usual = models(*files, stride=None).connect()
    assert usual.stride == config.TEST_STRIDE and not usual.fast


@pytest.mark.parametrize("given", [{"stride": 4}, {"stride": None, "precision": "float32"}])
def test_fast_and_another_stride_or_precision_are_refused(files, given):
    with pytest.raises(InputError, match=r"--fast is --stride=\d+ --precision=bfloat16, and --"):
        models(files[0], fast=True, **given)
    same = {"stride": config.FAST_STRIDE, "precision": config.FAST_PRECISION}
    assert models(files[0], fast=True, **same).settings()


def test_a_model_that_cannot_be_used_is_said_when_it_is_asked(files, loads, monkeypatch):
    def load(path, runtime, precision, **_):
        raise InputError("model x: cannot be used")

    for way in ("load", "start"):
        monkeypatch.setattr(predictors, way, load)
    backend = models(files[0]).connect()
    with pytest.raises(InputError, match="model x: cannot be used"):
        backend.models()
    with pytest.raises(InputError, match="model x: cannot be used"):
        models(files[1]).connect()


@pytest.mark.parametrize("level", [1.5, np.nan])
def test_a_model_that_answers_with_no_probability_is_named(files, loads, level, monkeypatch):
    def start(path, runtime, precision, **_):
        return LoadedModel(lambda image, nihss: np.full_like(image[..., :1], level), "x", "float32")

    monkeypatch.setattr(predictors, "start", start)
    with pytest.raises(InputError, match="model.onnx: cannot be used .its answer is no prob"):
        models(files[0]).connect().answers[0](MNI, ClinicalFacts("left", 5))


def test_settings_tell_apart_what_changes_a_result(files, loads, monkeypatch):
    onnx, keras = files
    keras.write_bytes(b"other weights")
    ways = [
        models(onnx), models(keras), models(onnx, stride=8), models(onnx, precision="bfloat16"),
        models(onnx, runtime="openvino"),
        models(onnx, stride=None, fast=True),
        models(onnx, stride=config.FAST_STRIDE, precision=config.FAST_PRECISION),
    ]  # fmt: skip
    found = [each.settings() for each in ways]
    assert len(set(found)) == len(ways)
    assert models(onnx).settings() == found[0]
    # Without these, an export's networks answer as their average.
    monkeypatch.setattr(onnx_runtimes, "installed", list)
    assert models(onnx).settings() != found[0]


def test_a_runtime_that_does_not_run_a_model_is_refused_before_anything_is_read(files):
    with pytest.raises(InputError, match="has no model.onnx, which openvino would run"):
        models(files[1], runtime="openvino")
    with pytest.raises(InputError, match="TensorFlow does not run ONNX files"):
        models(files[0], runtime="tensorflow")


def test_every_runtime_of_the_command_is_known():
    from tf_hypoperfusion import predict

    assert tuple(predict.FLAGS["runtime"].parser.enum_values) == predictors.RUNTIMES


def test_sent_to_another_process_they_are_loaded_there_once(files, loads):
    sent = pickle.dumps(models(files[0]).connect)
    first, second = pickle.loads(sent), pickle.loads(sent)
    for connect in (first, second):
        connect().models()
    assert len(loads) == 1


def test_a_calibration_goes_along(files, loads, tmp_path):
    made = calibration_of(cut=0.3, networks=[model_files.describe(files[0]).sha256])
    file = tmp_path / "mine.json"
    file.write_text(json.dumps(made.to_json()))
    ours = models(files[0], fast=True, stride=None, calibration_file=str(file))
    assert ours.settings() != models(files[0], fast=True, stride=None).settings()
    sent = pickle.loads(pickle.dumps(ours.connect))
    for backend in (ours.connect(), sent()):
        assert backend.calibrated.known() == made and backend.fast
        assert not backend.calibrated.by_server
    assert models(files[0]).connect().calibrated.known() is None
    files[1].write_bytes(b"other weights")
    with pytest.raises(InputError, match="expected the same networks"):
        models(files[1], calibration_file=str(file))
