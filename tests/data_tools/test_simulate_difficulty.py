"""The benchmark of simple rivals: its arithmetic, and that right strokes become left ones."""

import importlib.util
import types

import numpy as np
import pandas as pd
import pytest
from helpers import PROJECT

from data_tools.simulate.images import MniImages
from data_tools.simulate.measure import read_mni


@pytest.fixture(scope="module")
def benchmark():
    path = PROJECT / "benchmarks" / "simulation_difficulty.py"
    spec = importlib.util.spec_from_file_location("simulation_difficulty", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_dice_by_hand(benchmark):
    one, two = np.array([1, 1, 0, 0], bool), np.array([1, 0, 1, 0], bool)
    assert benchmark.dice(one, two) == 0.5
    assert benchmark.dice(one, one) == 1
    assert benchmark.dice(~one & one, ~one & one) == 0


def test_best_threshold_finds_the_step(benchmark):
    truth = np.arange(10_000) % 100 >= 80
    patient = types.SimpleNamespace(truth=truth, core=np.zeros_like(truth))
    level = benchmark.best_threshold(lambda p: np.arange(10_000) % 100 / 100, [patient])
    assert 0.74 < level <= 0.8


def test_network_beside_the_rivals_on_the_same_patients(benchmark, capsys):
    rng = np.random.default_rng(0)
    dice = rng.uniform(0.2, 0.6, 20)
    table = pd.DataFrame({"patient": range(1, 21), "rival": "a rival", "dice": dice, "auc": 0.8})
    patients = pd.DataFrame({"participant_id": [f"sub-{k:04d}" for k in range(5, 31)], "dice": 0.9})
    patients.loc[3, "dice"] = np.nan  # sub-0008 has no lesion
    benchmark.print_network(table, patients)
    words = capsys.readouterr().out.splitlines()[-1].split()
    assert words[:3] == ["a", "rival", "15"]
    kept = np.delete(dice[4:], 3)
    assert float(words[3]) == pytest.approx(np.median(kept), abs=0.006)
    assert float(words[4]) == pytest.approx(np.median(0.9 - kept), abs=0.006)
    assert words[5] == "15"


def test_mirrored_patient_with_the_other_side_gives_the_same_features(benchmark, mni_cohort):
    images = read_mni(mni_cohort, 1)
    mirrored = MniImages(
        **{
            name: np.ascontiguousarray(getattr(images, name)[::-1])
            for name in ("dwi", "adc_um2_per_s", "tmax_s", "brain", "coverage")
        }
    )
    left = benchmark.Patient(images, "left", 12.0)
    right = benchmark.Patient(mirrored, "right", 12.0)
    assert left.features.shape == (left.truth.size, len(benchmark.FEATURES))
    assert np.array_equal(left.truth, right.truth)
    assert np.allclose(left.features, right.features, atol=1e-2)
    assert left.columns(("nihss",))[0, 0] == pytest.approx(12 / 21, abs=1e-3)
