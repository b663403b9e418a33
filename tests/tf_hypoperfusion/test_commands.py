"""The commands as a user meets them: help, exit status, one message a mistake, no traceback."""

import csv
import dataclasses
import importlib
import json
import shutil
import subprocess
import sys

import nibabel as nib
import numpy as np
import pytest
from helpers.commands import call

from tf_hypoperfusion import evaluate, export, predict, train
from tf_hypoperfusion.inference import model_files, predictors
from tf_hypoperfusion.model import keras_file

COMMANDS = (
    "data_tools.check_cohort", "data_tools.simulate", "data_tools.preprocess",
    "data_tools.build_records", "tf_hypoperfusion.train", "tf_hypoperfusion.evaluate",
    "tf_hypoperfusion.export", "tf_hypoperfusion.predict", "tf_hypoperfusion.report",
)  # fmt: skip


@pytest.fixture(scope="module")
def run(trained_fold, tmp_path_factory):
    """A copy of a trained fold that is evaluated here."""
    return shutil.copytree(trained_fold, tmp_path_factory.mktemp("run") / "run")


@pytest.fixture(scope="module")
def exported(run, tmp_path_factory):
    out = tmp_path_factory.mktemp("exported") / "saved_models"
    assert call(export, f"--model={run}/fold-0/best.keras", "--name=test", f"--out={out}") == 0
    return out / "test"


@pytest.mark.parametrize("name", COMMANDS)
def test_help_teaches_and_exits_0(name, capsys):
    module = importlib.import_module(name)
    if not hasattr(module, "FLAGS"):
        module = importlib.import_module(f"{name}.__main__")
    assert call(module, "--help") == 0
    shown = capsys.readouterr()
    assert f"python -m {name}" in shown.out
    assert "--" in shown.out
    assert not shown.err


def test_help_in_a_process_of_its_own():
    module = "data_tools.simulate"
    done = subprocess.run([sys.executable, "-m", module, "--help"], capture_output=True, text=True)
    assert done.returncode == 0
    assert f"python -m {module}" in done.stdout
    assert "--" in done.stdout
    assert not done.stderr


def test_train_without_records_says_how_to_make_them(tmp_path, capsys):
    assert call(train, "--fold=0", f"--records={tmp_path}/none") == 2
    message = capsys.readouterr().err
    for word in ("no such file", "data_tools.preprocess", "data_tools.build_records", "simulate"):
        assert word in message


@pytest.mark.core
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "--fold is required."),
        (("--fold=x",), "fold is 'x'; expected a number from 0 up, all or final"),
        (("--fold=0", "--preset=huge"), "preset is 'huge'"),
        (("--fold=0", "--batch_size=0"), "batch_size is 0"),
        (("--fold=0", "--colour=red"), "--colour is not a flag of this command"),
        (("--fold=0", "stray"), "'stray' is not understood"),
        (("--fold=0", "--precision=int8"), "precision is 'int8'"),
        (
            ("--fold=0", "--batch_size=32", "--micro_batch=5"),
            "expected a divisor of the batch of 32",
        ),
        (("--fold=0", "--warmup_epochs=80"), "fewer than the 80 epochs"),
        (("--fold=0", "--ema_momentum=1"), "ema_momentum is 1.0"),
        (
            ("--fold=0", "--dice_weight=0", "--bce_weight=0", "--volume_weight=0"),
            "above 0 at least",
        ),
        (("--fold=0", "--config=none.json"), "--config=none.json: cannot be read"),
        (("--fold=0", "--save_minutes=-1"), "--save_minutes and --overlay_epochs are 0 or more"),
        (("--fold=0", "--strategy=cloud"), "strategy is 'cloud'"),
        (("--fold=0", "--cache=maybe", "--preset=tiny"), "cache is 'maybe'"),
        (("--fold=0", "--optimizer=adamm", "--preset=tiny"), "optimizer is 'adamm'"),
        (("--fold=0", "--micro_batch=3", "--preset=tiny"), "micro_batch is 3"),
    ],
)
def test_bad_flags_of_train(arguments, message, records_dir, tmp_path, capsys):
    given = (f"--records={records_dir}", f"--run={tmp_path}/run", *arguments)
    assert call(train, *given) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.core
def test_evaluate_writes_a_row_for_each_test_patient(run, records_dir, capsys):
    assert call(evaluate, f"--run={run}", f"--records={records_dir}", "--fold=0") == 0
    rows = list(csv.DictReader((run / "patients.csv").open()))
    manifest = json.loads((records_dir / "manifest.json").read_text())
    assert [r["participant_id"] for r in rows] == manifest["subsets"][0]["participants"]
    by_name = {p["participant_id"]: p for p in manifest["patients"]}
    for row in rows:
        patient = by_name[row["participant_id"]]
        assert float(row["truth_ml"]) == pytest.approx(patient["truth_ml"], abs=1e-3)
        assert float(row["volume_difference_ml"]) == pytest.approx(
            float(row["predicted_ml"]) - float(row["truth_ml"]), abs=1e-6
        )
    assert f"{len(rows)} SIMULATED test patients" in capsys.readouterr().out


def test_evaluate_refuses_what_it_cannot_use(run, records_dir, tmp_path, capsys):
    assert call(evaluate, f"--run={tmp_path}", f"--records={records_dir}") == 2
    assert "holds no trained fold" in capsys.readouterr().err
    assert call(evaluate, f"--run={run}", f"--records={records_dir}", "--fold=7") == 2
    assert "fold is '7'" in capsys.readouterr().err
    other = tmp_path / "records"
    shutil.copytree(records_dir, other)
    manifest = json.loads((other / "manifest.json").read_text())
    (other / "manifest.json").write_text(json.dumps(manifest | {"fingerprint": "other"}))
    assert call(evaluate, f"--run={run}", f"--records={other}") == 2
    assert "was trained on other records" in capsys.readouterr().err


@pytest.mark.core
def test_saved_model_answers_as_the_keras_model(run, exported):
    rng = np.random.default_rng(0)
    image = rng.random((2, 128, 128, 16, 4), dtype=np.float32)
    nihss = np.float32([[0.5], [-1]])
    keras_model = predictors.load_predictor(run / "fold-0/best.keras")
    for runtime, atol in (("tensorflow", 1e-6), ("auto", 1e-5)):
        answer = predictors.load(exported, runtime).predict(image, nihss)
        np.testing.assert_allclose(answer, keras_model(image, nihss), rtol=1e-4, atol=atol)


def test_export_versions_only_grow(run, exported, capsys):
    model = f"--model={run}/fold-0/best.keras"
    given = (model, "--name=test", f"--out={exported.parent}")
    assert call(export, *given) == 0
    assert "already exported" in capsys.readouterr().out
    (exported / "7").mkdir()
    assert call(export, *given, "--version=3") == 2
    assert "already holds version 7" in capsys.readouterr().err
    assert call(export, *given, "--noonnx") == 0
    assert (exported / "8/saved_model.pb").is_file()
    card = json.loads((exported / "8/model_card.json").read_text())
    assert card["version"] == 8
    assert "imulated" in card["records"]["cohort"]
    assert not list(exported.glob(".tmp*"))
    shutil.rmtree(exported / "8")
    (exported / "7").rmdir()


@pytest.fixture
def given(raw_cohort, exported, tmp_path):
    """Arguments of a good ``predict`` call, as a dict to change."""
    folder = raw_cohort / "sub-0001/dwi"
    return {
        "model": exported,
        "dwi": folder / "sub-0001_dwi.nii.gz",
        "adc": folder / "sub-0001_ADC.nii.gz",
        "nihss": "14",
        "side": "left",
        "stride": 16,
        "out": tmp_path / "out",
    }


def predict_with(given):
    return call(predict, *(f"--{name}={value}" for name, value in given.items()))


@pytest.mark.core
def test_predict_averages_models_and_says_they_saw_simulated_patients(given, run, capsys):
    given |= {"model": f"{given['model']},{run}/fold-0/best.keras", "nihss": "n/a", "age": 80}
    assert predict_with(given) == 0
    result = json.loads((given["out"] / "result.json").read_text())
    assert len(result["models"]) == 2
    assert "SIMULATED" in result["warnings"][0]
    assert result["given"] == {"side": "left", "nihss": None, "age": 80.0}
    assert result["dawn"] is None
    assert set(result["seconds"]) == {
        "read", "load_model", "register", "network", "way_back", "write", "report", "total",
    }  # fmt: skip
    output = capsys.readouterr()
    assert "Not a medical device" in output.out
    assert "WARNING: the model was trained on SIMULATED" in output.err


@pytest.mark.core
def test_a_model_can_compute_in_16_bits(run):
    """The same weights, so nearly the same answer; the answer itself stays float32."""
    path = run / "fold-0/best.keras"
    rng = np.random.default_rng(0)
    image = rng.random((1, *predictors.SLAB), np.float32)
    nihss = np.ones((1, 1), np.float32)
    found = {p: predictors.load_predictor(path, p)(image, nihss) for p in ("float32", "bfloat16")}
    assert found["bfloat16"].dtype == np.float32
    apart = np.abs(found["float32"] - found["bfloat16"])
    assert 0 < apart.max() < 0.05
    model = keras_file.load(path)
    for precision, name in (("bfloat16", "bfloat16"), ("float32", "float32")):
        model = predictors.for_prediction(model, precision)
        assert {layer.compute_dtype for layer in model.layers if "conv" in layer.name} == {name}


def test_predict_takes_a_cohort_and_goes_on(run, raw_cohort, tmp_path, capsys):
    """A good and a damaged patient: the good one is done, then kept; the page lists both."""
    cohort, out = shutil.copytree(raw_cohort, tmp_path / "raw"), tmp_path / "out"
    bad = cohort / "sub-0002/dwi/sub-0002_ADC.nii.gz"
    whole = bad.read_bytes()
    bad.write_bytes(whole[:1000])
    argv = [f"--model={run}/fold-0/best.keras", f"--cohort={cohort}", f"--out={out}", "--stride=16"]
    assert call(predict, *argv) == 1
    printed = capsys.readouterr()
    assert "1 patient predicted (0 were done before)" in printed.out
    assert "failed: sub-0002: ADC" in printed.err and "ends too early" in printed.err
    assert (out / "sub-0001/report.html").is_file() and not (out / "sub-0002").exists()
    page = (out / "index.html").read_text()
    assert page.index("sub-0002 (failed)") < page.index('href="sub-0001/report.html"')
    assert "SIMULATED" in page and "Research use only" in page
    first = (out / "sub-0001/result.json").stat().st_mtime_ns
    bad.write_bytes(whole)
    assert call(predict, *argv) == 0
    assert "2 patients predicted (1 were done before)" in capsys.readouterr().out
    assert (out / "sub-0001/result.json").stat().st_mtime_ns == first
    assert "(failed)" not in (out / "index.html").read_text()


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--model=x"], "--dwi or --adc, --nihss, --side must be given"),
        (["--model=x", "--b0=b", "--adc=a", "--nihss=1", "--side=left"], "--b0 belongs to a DWI"),
        (["--model=x", "--cohort=raw", "--side=left"], "leave out --side"),
    ],
)
def test_predict_needs_a_patient_or_a_cohort(argv, message, tmp_path, capsys):
    assert call(predict, *argv, f"--out={tmp_path}") == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"side": "L"}, "--side is 'L'; expected left, right, bilateral or auto"),
        ({"nihss": "50"}, "--nihss is '50'; expected a whole number, 0 to 42"),
        ({"nihss": "many"}, "--nihss is 'many'"),
        ({"age": "-3"}, "--age is '-3'; expected years, 0 to 120"),
        ({"dwi": "missing.nii.gz"}, "DWI missing.nii.gz: no such file"),
        ({"model": "missing.keras"}, "model missing.keras: no such file"),
        ({"model": "setup.cfg"}, "model setup.cfg: expected a .keras or .onnx file"),
        ({"stride": "17"}, "stride"),
    ],
    ids=str,
)
def test_predict_refuses_in_one_message(change, message, given, capsys):
    assert predict_with(given | change) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("error:") == 1
    assert not given["out"].exists()


def test_a_failed_prediction_says_whose_older_result_lies_there(given, capsys):
    given["out"].mkdir()
    (given["out"] / "result.json").write_text('{"patient": "sub-0007"}')
    assert predict_with(given | {"dwi": "missing.nii.gz"}) == 2
    error = capsys.readouterr().err
    assert "DWI missing.nii.gz: no such file" in error
    assert f"{given['out']} still holds an EARLIER result, of 'sub-0007'" in error
    assert (given["out"] / "result.json").is_file()


@pytest.mark.parametrize("cohort", ["5", '["a"]'])
def test_a_model_whose_cohort_is_no_name_is_refused(cohort, given, run, tmp_path, capsys):
    """Whether it saw simulated patients only must be known, or known not to be."""
    shutil.copy(run / "fold-0/best.keras", tmp_path / "best.keras")
    (tmp_path / "config.json").write_text(f'{{"records": {{"cohort": {cohort}}}}}')
    assert predict_with(given | {"model": tmp_path / "best.keras"}) == 2
    assert "config.json: records.cohort is " in capsys.readouterr().err
    assert not given["out"].exists()


def test_predict_refuses_swapped_images(given, capsys):
    assert predict_with(given | {"dwi": given["adc"], "adc": given["dwi"]}) == 2
    assert not given["out"].exists()
    error = capsys.readouterr().err
    assert error.startswith("error: DWI")
    assert len(error.splitlines()) == 1


@pytest.mark.core
def test_predict_refuses_a_file_that_is_no_model(given, tmp_path, capsys):
    (tmp_path / "bad.keras").write_bytes(b"no model")
    assert predict_with(given | {"model": tmp_path / "bad.keras"}) == 2
    assert "bad.keras: cannot be used" in capsys.readouterr().err


def test_the_way_of_a_real_patient(real_data, exported, tmp_path):
    """A demo model is not expected to be right on it, only to answer in its own space."""
    folder = real_data / "real_isles22_0001"
    dwi = folder / "sub-strokecase0001_dwi.nii.gz"
    arguments = {
        "model": exported, "dwi": dwi, "adc": folder / "sub-strokecase0001_adc.nii.gz",
        "nihss": 14, "side": "left", "out": tmp_path / "out", "stride": 16,
    }  # fmt: skip
    assert predict_with(arguments) == 0
    result = json.loads((tmp_path / "out/result.json").read_text())
    assert result["input"]["adc_unit"] == "1e-3 mm2/s"
    assert result["registration"]["verdict"] == "good"
    assert result["registration"]["fitted_by"] == "gauss-newton"
    assert result["core_ml"] < 10  # 58 mL by ADC alone, 6.7 mL by the expert
    probability = nib.load(tmp_path / "out/probability.nii.gz")
    assert probability.shape == nib.load(dwi).shape
    np.testing.assert_allclose(probability.affine, nib.load(dwi).affine, atol=1e-4)


def foreign_model(kind, folder):
    """A Keras model that is not ours, in one of several ways."""
    import keras

    channels = 3 if kind == "channels" else 4
    image = keras.Input((128, 128, 16, channels), name="image")
    nihss = keras.Input((1,), name="nihss")
    flat = keras.layers.Conv3D(1, 1, name="logit")(image)
    flat = keras.layers.Add()([flat, keras.layers.Reshape((1, 1, 1, 1))(nihss)])
    if kind == "range":
        flat = keras.layers.Rescaling(0.0, offset=7.0)(flat)
    if kind == "nan":
        flat = keras.layers.Rescaling(float("nan"))(flat)
    outputs = {"other" if kind == "output" else "probability": flat}
    path = folder / f"{kind}.keras"
    keras.Model({"image": image, "nihss": nihss}, outputs).save(path)
    return path


@pytest.mark.core
@pytest.mark.parametrize("kind", ["channels", "output", "range", "nan"])
def test_models_that_are_not_ours_are_refused_before_any_work(kind, given, tmp_path, capsys):
    path = foreign_model(kind, tmp_path)
    assert predict_with(given | {"model": path}) == 2
    assert f"{kind}.keras: cannot be used" in capsys.readouterr().err
    assert not given["out"].exists()


def test_a_model_of_unknown_origin_is_said_to_be(given, run, tmp_path, capsys):
    shutil.copy(run / "fold-0/best.keras", tmp_path / "moved.keras")
    assert predict_with(given | {"model": tmp_path / "moved.keras"}) == 0
    assert "nothing is known of what the model was trained on" in capsys.readouterr().err


@pytest.mark.core
def test_the_checksum_of_a_saved_model_is_of_its_weights_too(exported, tmp_path):
    shutil.copytree(exported, tmp_path / "copy")
    same = model_files.describe(tmp_path / "copy").sha256
    assert same == model_files.describe(exported).sha256
    (variables,) = (tmp_path / "copy").glob("*/variables/variables.data*")
    content = bytearray(variables.read_bytes())
    content[100] ^= 1
    variables.write_bytes(content)
    assert model_files.describe(tmp_path / "copy").sha256 != same


def test_a_damaged_export_is_told_before_any_image_is_read(given, exported, tmp_path, capsys):
    (version, *_) = shutil.copytree(exported, tmp_path / "copy").glob("[0-9]*")
    (version / "model_card.json").unlink()
    assert predict_with(given | {"model": version, "dwi": "missing.nii.gz"}) == 2
    error = capsys.readouterr().err
    assert "damaged or missing: model_card.json; copy it again" in error
    assert "missing.nii.gz" not in error


def test_no_model_at_all(given, capsys):
    assert predict_with(given | {"model": ""}) == 2
    assert "--model holds an empty name" in capsys.readouterr().err


def test_a_file_in_the_place_of_a_folder_is_one_message(records_dir, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    given = ("--fold=0", "--preset=tiny", f"--records={records_dir}", f"--run={tmp_path}/file")
    assert call(train, *given) == 2
    assert "file is a file; expected a folder" in capsys.readouterr().err


@pytest.mark.core
def test_records_of_another_schema_inside_are_explained(run, records_dir, tmp_path, capsys):
    """The manifest agrees with the shard; only the records know better."""
    from data_tools import records

    out = shutil.copytree(records_dir, tmp_path / "records")
    manifest = json.loads((out / "manifest.json").read_text())
    shard = manifest["subsets"][0]["shards"][0]
    slab = np.zeros((128, 128, 16))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(records, "SCHEMA_VERSION", 99)
        mask = slab > 0
        record = records.encode_slab(
            "sub-0001", 0, side="left", nihss=0.5, adc_mean_um2_per_s=900.0, dwi=slab, adc=slab,
            adc_mask=mask, truth=mask, coverage=mask, core=mask,
        )  # fmt: skip
    shard |= dataclasses.asdict(records.write_shard(out, shard["file"], [record]))
    (out / "manifest.json").write_text(json.dumps(manifest))
    shutil.rmtree(run / "evaluation", ignore_errors=True)  # or nothing would be read
    assert call(evaluate, f"--run={run}", f"--records={out}", "--fold=0") == 2
    assert "do not fit this software (schema version 2)" in capsys.readouterr().err


@pytest.mark.parametrize("flag", ["url", "served_name", "form", "token_file"])
def test_predict_sends_those_who_want_a_server_to_its_client(flag, given, capsys):
    assert predict_with(given | {flag: "http://127.0.0.1:9"}) == 2
    told = capsys.readouterr().err
    assert f"--{flag} is not a flag of this command" in told
    assert "ask a server with python -m tf_hypoperfusion.serving_client" in told
    assert not given["out"].exists()


def test_without_a_model_the_demonstration_model_answers_and_says_what_it_is(
    given, tmp_path, capsys, monkeypatch
):
    del given["model"]
    assert predict_with(given) == 0
    told = capsys.readouterr().err
    assert told.startswith("no --model: ") and "hypoperfusion_demo" in told
    assert told.count("SIMULATED patients only") == 2
    result = json.loads((given["out"] / "result.json").read_text())
    assert "SIMULATED" in result["warnings"][0]
    assert "SIMULATED" in (given["out"] / "report.html").read_text()
    monkeypatch.setattr(model_files, "DEMO_MODEL", tmp_path / "none")
    assert predict_with(given) == 2
    assert "the demonstration model is not at" in capsys.readouterr().err


def test_the_demonstration_model_is_whole_and_small():
    (folder,) = model_files.DEMO_MODEL.iterdir()
    assert not model_files.damaged(folder)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    assert size < 33e6  # the weights twice, as SavedModel and as ONNX
    assert "SIMULATED" in (folder / "model_card.md").read_text()
