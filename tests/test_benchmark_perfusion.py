"""benchmarks.perfusion: its curves meet their aims; its words for phantoms and bad input."""

import csv
import dataclasses

import numpy as np
import pytest
from helpers.commands import call

from benchmarks import perfusion

pytestmark = pytest.mark.quick

NOTHING_ELSE = ("--phantoms=0", "--scans=0", "--noresources")


def test_the_curves_meet_their_aims(tmp_path, capsys, real_data):
    path = real_data / "osipi_dsc/osipi_dsc_data.csv"
    given = [f"--osipi={path}"] if path.is_file() else []
    assert call(perfusion, *NOTHING_ELSE, *given, f"--out={tmp_path}/t.csv") == 0
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
    one = {"true_ml": 50.0, "ml": 49.0, "dice": 0.97}
    small = {"true_ml": 5.0, "ml": 1.0, "dice": 0.3}
    (volume,) = perfusion.phantoms_summary([one, one, small])
    assert volume["what"].startswith("2 phantoms over 10 mL")
    assert volume["measured"] == "0.970; -2.0% (2 within 5%)" and volume["met"] == "yes"
    (volume,) = perfusion.phantoms_summary([small])
    assert volume["met"] == "NO"


def test_scans_are_summed_up():
    good = {
        "artery": 10, "tissue": 0, "vein": 0, "late_artery": 0, "sound": "", "fault": "metal",
        "named": True, "refused": False,
    }  # fmt: skip
    vein = good | {"vein": 1, "sound": "the curve is late", "fault": "jump", "named": False}
    refused = {"sound": "no artery", "fault": "no_tr", "named": True, "refused": True}
    rows = {row["what"]: row for row in perfusion.scans_summary([good, vein, refused])}
    said = {what: (row["measured"], row["met"]) for what, row in rows.items()}
    assert said["AIF: sound scans with a voxel in a vein or behind the occlusion"] == (
        "1 of 2",
        "NO",
    )
    assert said["faults told by name"] == ("2 of 3", "NO")
    assert said["sound scans refused; warned of"] == ("1; 1 of 3", "NO")
    assert said["fault no_tr: named; of these refused"] == ("1 of 1; 1", "yes")


def test_every_word_for_a_fault_is_that_of_a_fault():
    from data_tools.simulate.dsc import FAULTS

    assert set(FAULTS) - set(perfusion.TOLD) == {"no_te"}


def test_the_truth_lies_where_the_series_is_brought_to():
    from data_tools.simulate import dsc, simulate_patient

    patient = simulate_patient(7, 1)
    scan = dsc.draw_scan(patient, matrix=32, slices=8, frames=12, motion_mm=0.0)
    made = dsc.acquire_dsc(patient, scan)
    tmax_s, brain = perfusion._truth_of(made)
    np.testing.assert_array_equal(brain, made.truth.brain)
    np.testing.assert_allclose(tmax_s, made.truth.tmax_s, atol=1e-4)
    # A head that then lies a voxel further along the first axis.
    pose = np.eye(4)
    pose[:3, 3] = made.affine[:3, 0]
    poses = np.repeat(pose[None], 12, axis=0)
    moved = dataclasses.replace(made, truth=dataclasses.replace(made.truth, poses=poses))
    tmax_s, _ = perfusion._truth_of(moved)
    np.testing.assert_allclose(tmax_s[1:], made.truth.tmax_s[:-1], atol=1e-3)


def test_a_phantom_goes_through_the_chain(monkeypatch):
    from data_tools.simulate import dsc

    drawn = dsc.draw_scan
    monkeypatch.setattr(dsc, "draw_scan", lambda patient: drawn(patient, matrix=96, slices=8))
    (row,) = perfusion.phantoms(1, 7, motion=False)
    assert row["motion_mm"] == 0 and row["artery"] == 10
    assert row["dice_without_vessels"] > row["dice"] > 0.8 and np.isfinite(row["off_s"])
