"""Settings alone on a GPU: a whole tiny comparison where JAX is, and what is refused without."""

import json
import os
import subprocess
import sys

import pytest
from helpers import PROJECT

from benchmarks import settings_on_gpu
from data_tools.runtime.errors import InputError


def test_a_flag_that_train_on_gpu_does_not_have_is_named():
    settings_on_gpu.FLAGS(["settings_on_gpu", "--out=unused", "--train=--base_filters=4"])
    assert settings_on_gpu.given(["--dropout=0.1"]).base_filters == 4
    with pytest.raises(InputError, match="noise_level"):
        settings_on_gpu.given(["--noise_level=1"])


def test_every_variant_and_seed_has_its_figures_and_a_variant_its_line(tmp_path):
    pytest.importorskip("jax", reason="trains through jax (extra gpu)")
    words = (
        f"--cache={tmp_path}/kept --preset=tiny --base_filters=2 --batch_size=1 --epochs=1 "
        "--patients=2 --validation_patients=1 --looks=wide,first --precision=float32"
    )
    done = subprocess.run(
        [
            sys.executable, "-m", "benchmarks.settings_on_gpu", f"--out={tmp_path}/out",
            "--steps=2", "--patients=1", "--shifts=bias30", "--workers=1", "--minutes=30",
            f"--train={words}", "--variant=none=--randomisation=none",
            "--variant=first=--looks=first --randomisation=bias+inputs",
        ],
        env=os.environ | {"KERAS_BACKEND": "jax", "PYTHONPATH": str(PROJECT)},
        cwd=PROJECT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "out/figures.json").read_text())
    assert {name: len(of_seeds) for name, of_seeds in found.items()} == {"none": 2, "first": 2}
    assert set(found["none"][0]) == {"(none)", "bias30", "without"}
    # Of one seed the weights are drawn alike: only what was learnt from differs.
    assert found["none"][0] != found["first"][0] != found["first"][1]
    assert "no_nihss" in (tmp_path / "out/settings_on_gpu.csv").read_text()
    config = json.loads((tmp_path / "out/first/fold-2/config.json").read_text())
    assert config["randomisation"]["dwi_bias"] == [0.03, 0.14]
