"""benchmarks.perfusion: its curves meet their aims; its words for phantoms and bad input."""

import csv

import numpy as np
import pytest
from helpers.commands import call

from benchmarks import perfusion

pytestmark = pytest.mark.quick


def test_the_curves_meet_their_aims(tmp_path, capsys, real_data):
    path = real_data / "osipi_dsc/osipi_dsc_data.csv"
    given = [f"--osipi={path}"] if path.is_file() else []
    assert call(perfusion, "--phantoms=0", *given, f"--out={tmp_path}/t.csv") == 0
    with open(tmp_path / "t.csv", newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert len(rows) == 12 + len(given)
    assert {row["met"] for row in rows} == {"yes"}, capsys.readouterr().out


def test_a_file_that_is_not_there_is_refused(capsys):
    assert call(perfusion, "--osipi=nowhere.csv") == 2
    assert (
        "--osipi=nowhere.csv is no file; expected OSIPI's dsc_data.csv" in capsys.readouterr().err
    )


def test_phantoms_are_summed_up():
    one = {"true_ml": 50.0, "ml": 49.0, "dice": 0.97, "vein": 0, "late_artery": 0}
    small = {"true_ml": 5.0, "ml": 1.0, "dice": 0.3, "vein": 1, "late_artery": 0}
    aif, volume = perfusion.summary([one, one, small])
    assert aif["measured"] == "1 of 3" and aif["met"] == "NO"
    assert volume["what"].startswith("2 phantoms over 10 mL")
    assert volume["measured"] == "0.970; -2.0% (2 within 5%)" and volume["met"] == "yes"
    assert len(perfusion.summary([small])) == 1


def test_a_phantom_goes_through_the_chain(monkeypatch):
    from data_tools.simulate import dsc

    drawn = dsc.draw_scan
    monkeypatch.setattr(dsc, "draw_scan", lambda patient: drawn(patient, matrix=64, slices=8))
    (row,) = perfusion.phantoms(1, 7, motion=False)
    assert row["motion_mm"] == 0 and row["artery"] == 10
    assert row["dice"] > 0.8 and np.isfinite(row["off_s"])
