"""The interface for Python: paths, nibabel images and arrays give one result; nothing is silent."""

import dataclasses
import json
import subprocess
import sys

import nibabel as nib
import numpy as np
import pytest
from helpers.predictions import corner_backend

import tf_hypoperfusion as hp
from data_tools.runtime.errors import InputError
from tf_hypoperfusion.clinical import ClinicalFacts
from tf_hypoperfusion.command_line import MODULES
from tf_hypoperfusion.inference import model_backend, result_folder

FACTS = {"side": "left", "nihss": 15, "age": 72}


@pytest.fixture
def model(monkeypatch):
    """The demonstration model with answers that take no time."""
    monkeypatch.setattr(model_backend.Models, "connect", lambda self: corner_backend())
    return hp.load_model()


@pytest.fixture
def images(raw_cohort):
    """DWI, ADC and Tmax of a simulated patient."""
    folder, perfusion = raw_cohort / "sub-0001/dwi", raw_cohort / "derivatives/perfusion"
    return (
        folder / "sub-0001_dwi.nii.gz", folder / "sub-0001_ADC.nii.gz",
        perfusion / "sub-0001/perf/sub-0001_Tmax.nii.gz",
    )  # fmt: skip


def test_files_images_and_arrays_give_one_result_that_is_saved_and_evaluated(
    model, images, tmp_path
):
    dwi, adc, tmax = images
    result = model.predict(dwi, adc, **FACTS)
    assert result.hypoperfusion_ml > 0 and result.side == "left"
    assert result.target_mismatch in ("yes", "no", "unsure")
    assert result.hypoperfusion.shape == nib.load(dwi).shape == result.probability.shape
    np.testing.assert_allclose(result.affine, nib.load(dwi).affine, atol=1e-3)
    loaded = [nib.load(path) for path in (dwi, adc)]
    arrays = [(image.get_fdata(), image.affine) for image in loaded]
    for given in (loaded, arrays):
        again = model.predict(*given, b_value=1000, **FACTS)
        np.testing.assert_allclose(again.probability, result.probability, atol=1e-4)
        assert again.core_ml == pytest.approx(result.core_ml, abs=0.1)
    page = result.save(tmp_path / "out")
    written = json.loads((tmp_path / "out/result.json").read_text())
    assert page.is_file() and written["hypoperfusion_ml"] == result.hypoperfusion_ml
    assert written["notice"] in page.read_text()
    files = result_folder.PatientFiles(
        dwi=str(dwi), adc=str(adc), given=ClinicalFacts("left", 15, 72), tmax=str(tmax)
    )
    at_once = result_folder.answer(files, corner_backend, log=lambda text: None).result.comparison
    assert at_once.truth_ml > 0
    assert result.evaluate(tmax=tmax) == hp.evaluate(result, tmax=tmax) == at_once
    in_memory = result.evaluate(tmax=nib.load(tmax))
    assert dataclasses.replace(in_memory, tmax=str(tmax)) == at_once
    mask = result.evaluate(truth=(result.hypoperfusion, result.affine))
    assert mask.source == "edited mask" and mask.truth_ml >= result.hypoperfusion_ml - 0.01
    assert "research use only" in repr(result)


def test_what_cannot_be_used_is_told(model, images, tmp_path):
    dwi, adc, tmax = images
    with pytest.raises(InputError, match="dwi: is of type int; expected a path, a nibabel image"):
        model.predict(5, adc)
    with pytest.raises(InputError, match="shape .* with an affine of shape"):
        model.predict((np.zeros((3, 3)), np.eye(4)), adc)
    with pytest.raises(InputError, match="look swapped"):
        model.predict(adc, dwi)
    with pytest.raises(InputError, match="NIHSS is 77"):
        model.predict(dwi, adc, nihss=77)
    with pytest.raises(InputError, match="[Ss]ide .*left"):
        model.predict(dwi, adc, side="L")
    result = model.predict(dwi, adc, **FACTS)
    with pytest.raises(InputError, match="neither tmax nor truth"):
        result.evaluate()
    with pytest.raises(InputError, match="Tmax .*largest values"):
        result.evaluate(tmax=(nib.load(tmax).get_fdata() * 1000, nib.load(tmax).affine))
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="is a file; expected a folder"):
        result.save(tmp_path / "file")
    with pytest.raises(InputError, match="no such file"):
        hp.load_model(tmp_path / "none")
    with pytest.raises(AttributeError, match="predicted"):
        _ = hp.predicted


@pytest.mark.quick
def test_no_name_of_the_interface_hides_a_command_or_is_hidden_by_one():
    from tf_hypoperfusion import evaluate

    assert not set(hp._API) & {"__main__", *MODULES}
    assert hp.evaluate is evaluate and callable(hp.evaluate) and evaluate.main


@pytest.mark.quick
def test_importing_it_imports_nothing_else():
    code = (
        "import sys, tf_hypoperfusion as hp; assert 'load_model' in dir(hp)\n"
        "assert not {'numpy', 'nibabel', 'keras', 'tensorflow'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
