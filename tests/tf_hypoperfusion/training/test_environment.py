"""What the user's environment says of Keras and of warnings changes no training and ends none."""

import json
import os
import subprocess
import sys

import keras
import numpy as np
import pytest

pytestmark = pytest.mark.core


def test_a_training_is_the_same_in_any_environment(
    trained_fold, records_dir, run_command, tmp_path
):
    """With all at once, each of which broke or changed it."""
    odd = {
        "backend": "torch", "floatx": "float16", "epsilon": 1e-3,
        "image_data_format": "channels_first",
    }  # fmt: skip
    (tmp_path / "keras.json").write_text(json.dumps(odd))
    environment = os.environ | {
        "KERAS_HOME": str(tmp_path), "KERAS_BACKEND": "jax", "TF_USE_LEGACY_KERAS": "1",
        "PYTHONWARNINGS": "error",
    }  # fmt: skip
    done = run_command(
        "tf_hypoperfusion.train", "--fold=0", f"--config={trained_fold}/fold-0/config.json",
        f"--records={records_dir}", f"--run={tmp_path}/run", env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    usual, found = (
        keras.saving.load_model(run / "fold-0/best.keras", compile=False).get_weights()
        for run in (trained_fold, tmp_path / "run")
    )
    assert len(usual) == len(found)
    for one, other in zip(usual, found, strict=True):
        assert one.dtype == other.dtype == np.float32 or "seed" in str(one.dtype)
        np.testing.assert_array_equal(one, other)


@pytest.mark.skipif(keras.__version__ < "3", reason="Keras 2 has one backend")
def test_keras_on_another_backend_is_refused_in_a_sentence():
    script = """
import sys, types
sys.modules["keras"] = types.SimpleNamespace(backend=types.SimpleNamespace(backend=lambda: "jax"))
from data_tools.runtime import tensorflow_start
from data_tools.runtime.errors import InputError
try:
    tensorflow_start.prepare()
except InputError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert "Keras runs on jax here" in done.stdout and "KERAS_BACKEND=tensorflow" in done.stdout
