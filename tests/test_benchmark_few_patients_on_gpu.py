"""Few patients on a GPU: a whole tiny comparison where JAX is, and what is refused without."""

import json
import os
import subprocess
import sys

import pytest
from helpers import PROJECT

from benchmarks import few_patients_on_gpu
from data_tools.runtime.errors import InputError

NETWORK = "--preset=tiny --base_filters=2 --batch_size=1 --epochs=1 --precision=float32"
ENVIRONMENT = os.environ | {"KERAS_BACKEND": "jax", "PYTHONPATH": str(PROJECT)}


@pytest.mark.parametrize(
    ("words", "named"),
    [(["--steps=3"], "a number of patients first"), (["10"], "--steps is 0"), (["0"], "patients")],
)
def test_a_variant_that_cannot_be_is_refused(words, named):
    few_patients_on_gpu.FLAGS(["few_patients_on_gpu", "--out=unused", "--parent=unused.keras"])
    with pytest.raises(InputError, match=named):
        few_patients_on_gpu.Variant.of("some", words)


def python(*words):
    return subprocess.run(
        [sys.executable, "-m", *words],
        env=ENVIRONMENT, cwd=PROJECT, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_networks_with_and_without_a_parent_are_compared(tmp_path):
    pytest.importorskip("jax", reason="trains through jax (extra gpu)")
    done = python(
        "tf_hypoperfusion.train_on_gpu", *NETWORK.split(), f"--run={tmp_path}/parent",
        f"--cache={tmp_path}/kept", "--networks=1", "--steps=2", "--patients=1",
        "--validation_patients=1", "--looks=first",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    out, parent = tmp_path / "out", tmp_path / "parent/fold-0/best.keras"
    done = python(
        "benchmarks.few_patients_on_gpu", f"--out={out}", f"--parent={parent}", "--draws=0",
        "--held_out=2", "--workers=1", f"--train={NETWORK}",
        "--variant=tuned=1 --init_from=parent --fixed_moments --steps=2",
        "--variant=scratch=2 --steps=2",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((out / "figures.json").read_text())
    assert set(found) == {"shipped", "tuned 0", "scratch 0"}
    assert found["tuned 0"]["site"].keys() == found["scratch 0"]["site"].keys() != set()
    config = json.loads((out / "tuned/fold-0/config.json").read_text())
    assert config["training"]["fixed_moments"] and config["parent"]["name"] == str(parent)
    moments = _moments(out / "tuned/fold-0/best.keras")
    assert moments == pytest.approx(_moments(parent), rel=1e-5)  # averaged with themselves
    assert moments != pytest.approx(_moments(out / "scratch/fold-0/best.keras"), rel=1e-2)


def _moments(file):
    """The moving means of all normalisations."""
    code = (
        "import sys, keras; print([float(x) for v in "
        "keras.saving.load_model(sys.argv[1]).non_trainable_variables "
        "if 'moving_mean' in v.path for x in v.value])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(file)],
        env=ENVIRONMENT, cwd=PROJECT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return json.loads(done.stdout)
