"""``predict`` of an export: nothing heavy is imported, and the answer is TensorFlow's."""

import json
import subprocess
import sys

import nibabel as nib
import numpy as np
import pytest

from tf_hypoperfusion.config import PROBABILITY_THRESHOLD
from tf_hypoperfusion.inference import onnx_runtimes

pytestmark = pytest.mark.skipif(not onnx_runtimes.installed(), reason="nothing runs ONNX files")

CODE = """
import sys
from data_tools.runtime import command
from tf_hypoperfusion import predict
status = command.run(predict.main, predict.FLAGS, predict.__doc__, sys.argv[1:])
print("IMPORTED", *sorted({name.split(".")[0] for name in sys.modules}))
sys.exit(status)
"""


def predicted(out, model, raw_cohort, *more):
    """A patient predicted in a process of its own: its packages, its result, its volumes."""
    images = raw_cohort / "sub-0001/dwi"
    arguments = [
        f"--model={model}", f"--dwi={images}/sub-0001_dwi.nii.gz", "--nihss=14", "--side=left",
        f"--adc={images}/sub-0001_ADC.nii.gz", "--stride=16", f"--out={out}", *more,
    ]  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", CODE, *arguments], capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 0, done.stderr
    imported = set(done.stdout.splitlines()[-1].split()[1:])
    result = json.loads((out / "result.json").read_text())
    volumes = {
        name: np.asarray(nib.load(out / f"{name}.nii.gz").dataobj)
        for name in ("probability", "hypoperfusion_mask", "disagreement")
        if (out / f"{name}.nii.gz").exists()
    }
    return imported, result, volumes


@pytest.fixture(scope="module")
def lean(averaged_export, raw_cohort, tmp_path_factory):
    return predicted(tmp_path_factory.mktemp("lean"), averaged_export, raw_cohort)


@pytest.mark.parametrize(
    "package",
    ["tensorflow", "keras", "onnx", "tf2onnx", "pydicom", "ants", "nilearn", "matplotlib",
     "sklearn", "pandas", "requests"],
)  # fmt: skip
def test_it_is_not_imported(lean, package):
    assert package not in lean[0]


def test_both_networks_are_opinions_and_the_result_says_who_ran_them(lean):
    result = lean[1]
    (model,) = result["models"]
    assert model["runtime"].split()[0] in onnx_runtimes.PROGRAMS
    assert model["precision"] == "float32"
    assert (result["uncertainty"]["kind"], result["uncertainty"]["opinions"]) == ("models", 2)
    assert lean[2]["disagreement"].max() > 0


def test_the_mask_is_that_of_tensorflow(lean, averaged_export, raw_cohort, tmp_path):
    imported, result, slow = predicted(
        tmp_path / "slow", averaged_export, raw_cohort, "--runtime=tensorflow", "--nosecond_opinion"
    )
    assert "tensorflow" in imported and result["models"][0]["runtime"].startswith("tensorflow 2.")
    assert result["uncertainty"] is None
    fast = lean[2]
    np.testing.assert_allclose(fast["probability"], slow["probability"], atol=1e-5)
    other = fast["hypoperfusion_mask"] != slow["hypoperfusion_mask"]
    assert (np.abs(slow["probability"][other] - PROBABILITY_THRESHOLD) < 1e-5).all()
