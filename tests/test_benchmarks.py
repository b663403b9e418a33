"""The benchmarks run: the smallest sizes of each, and what they do with bad input."""

import csv
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def benchmark(*arguments, status=0, env=None):
    done = subprocess.run(
        [sys.executable, "-m", *arguments], cwd=ROOT, capture_output=True, text=True, env=env
    )
    assert done.returncode == status, done.stderr[-2000:]
    return done


def test_every_script_is_listed_and_teaches():
    listed = benchmark("benchmarks").stdout
    scripts = sorted(p.stem for p in (ROOT / "benchmarks").glob("[a-z]*.py"))
    assert len(scripts) > 8
    for name in scripts:
        assert f"python -m benchmarks.{name} " in listed
        shown = benchmark(f"benchmarks.{name}", "--help").stdout
        assert f"python -m benchmarks.{name}" in shown


def test_the_network_is_timed_by_turns(tmp_path):
    small = ["--preset=tiny", "--slabs=1", "--together=1", "--rounds=2", "--tasks=infer,train"]
    done = benchmark(
        "benchmarks.network", *small, "--precisions=float32", f"--out={tmp_path}/t.csv"
    )
    rows = list(csv.DictReader((tmp_path / "t.csv").open()))
    assert [row["task"] for row in rows] == ["infer", "train"]
    for row in rows:
        assert row["way"] == "this project" and row["ours_is_x_as_fast"] == "1.0"
        assert float(row["seconds"]) > 0 and float(row["peak_gib"]) > 0.1
    # A training step counts three times the forward pass.
    assert float(rows[1]["gflop"]) == pytest.approx(3 * float(rows[0]["gflop"]), abs=3)
    assert float(rows[0]["difference"]) < 1e-5
    assert "this project" in done.stdout


def test_another_python_that_is_none_is_refused(tmp_path):
    done = benchmark("benchmarks.network", f"--others={tmp_path}/python", status=2)
    assert "no such program" in done.stderr and "Traceback" not in done.stderr
    # One without the frameworks: its lines say so, ours are measured.
    small = ["--preset=tiny", "--slabs=1", "--together=1", "--rounds=1", "--tasks=infer"]
    done = benchmark(
        "benchmarks.network", *small, "--precisions=float32", f"--others={sys.executable}"
    )
    assert "No module named 'torch'" in done.stdout and "this project" in done.stdout


def test_growth_is_measured(mni_cohort, tmp_path):
    benchmark(
        "benchmarks.growth", f"--cohort={mni_cohort}", "--patients=6", "--rounds=0",
        f"--out={tmp_path}/g.csv",
    )  # fmt: skip
    (row,) = csv.DictReader((tmp_path / "g.csv").open())
    assert row["patients"] == "6"
    assert all(float(value) > 0 for value in row.values())
    done = benchmark("benchmarks.growth", f"--cohort={mni_cohort}", "--patients=7", status=2)
    assert "has 6 patients" in done.stderr
