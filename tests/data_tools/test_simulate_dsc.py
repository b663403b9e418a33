"""The simulated raw perfusion scan against a literal deconvolution, and its planted faults."""

import dataclasses
import json

import nibabel as nib
import numpy as np
import pytest
from scipy import linalg

from data_tools.runtime.errors import InputError
from data_tools.simulate import cohort, dsc, simulate_patient
from data_tools.simulate.bolus import OFFSET_AT_S, Bolus
from data_tools.simulate.vessels import ARTERY, LATE_ARTERY, VEIN

SMALL = {"matrix": 40, "slices": 6, "frames": 50, "repetition_time_s": 1.5}
STILL = {"snr": np.inf, "motion_mm": 0.0, "brighter_start": 0.0}


@pytest.fixture(scope="module")
def patient():
    return simulate_patient(1, 3)  # an occluded internal carotid artery on the right


@pytest.fixture(scope="module")
def still(patient):
    return dsc.acquire_dsc(patient, dsc.Scan(**SMALL, **STILL))


def planted(patient, fault, **more):
    return dsc.acquire_dsc(patient, dsc.Scan(**{**SMALL, **STILL, **more}, fault=fault))


def head_curve(images):
    return images.signal[images.truth.brain].mean(axis=0)


def tmax_by_matrix(curves, aif, step_s):
    """Delays of the peak of the residue by a literal block-circulant matrix, threshold 0.1."""
    count = 2 * len(aif)
    padded = np.concatenate([aif, np.zeros(len(aif))])
    u, s, vt = np.linalg.svd(linalg.circulant(padded) * step_s)
    inverse = vt.T @ np.diag(np.where(s > 0.1 * s.max(), 1 / s, 0)) @ u.T
    residue = np.concatenate([curves, np.zeros_like(curves)], axis=1) @ inverse.T
    peak = residue.argmax(axis=1)
    row = np.arange(len(peak))
    before, top, after = (residue[row, (peak + k) % count] for k in (-1, 0, 1))
    peak = peak + 0.5 * (before - after) / (before - 2 * top + after)
    return np.where(peak > count / 2, peak - count, peak) * step_s


def test_the_offset_of_the_convention():
    bolus = Bolus(arrival_s=12.0)
    found = dict(zip(OFFSET_AT_S, bolus.offset_s(np.arange(60) * 1.5), strict=True))
    assert [found[mtt_s] for mtt_s in (4, 8, 12)] == pytest.approx([2.2, 2.8, 3.1], abs=0.15)


def test_tissue_is_the_input_convolved_with_its_residue():
    bolus, step_s = Bolus(arrival_s=10.0), 0.01
    times_s = np.arange(0, 60, step_s)
    kernel = np.exp(-times_s / 6.0) / 6.0
    expected = np.convolve(bolus.aif(times_s), kernel)[: len(times_s)] * step_s
    found = bolus.answer_at(times_s, 6.0)
    np.testing.assert_allclose(found, expected, atol=0.01 * expected.max())


def test_deconvolving_the_noise_free_scan_gives_the_patients_tmax(still):
    truth = still.truth
    clean = truth.brain & (truth.vessels == 0) & (truth.cbv_ml_per_100g > 1.5)
    clean &= np.arange(still.signal.shape[2]) == 0  # the slice that is taken last, see below
    delay_s = still.slice_times_s[0]
    s0 = still.signal[clean][:, :5].mean(axis=1, keepdims=True)
    curves = -np.log(still.signal[clean] / s0) / still.scan.echo_time_s
    aif = still.scan.bolus.aif(still.times_s + delay_s)
    found = tmax_by_matrix(curves, aif, still.scan.repetition_time_s)
    apart_s = found - truth.tmax_s[clean]
    assert clean.sum() > 100 and truth.tmax_s[clean].max() > 8
    assert abs(np.median(apart_s)) < 0.1
    assert np.quantile(np.abs(apart_s), 0.95) < 0.4


def test_vessels_are_where_they_should_be_and_late_behind_the_occlusion(still):
    truth = still.truth
    x_mm = (still.affine[:3, :3] @ np.argwhere(truth.vessels == LATE_ARTERY).T)[0]
    assert (truth.tmax_s[truth.vessels == LATE_ARTERY] > 4).mean() > 0.9
    assert x_mm.size > 3 and np.ptp(np.sign(x_mm + still.affine[0, 3])) == 0
    peak = {
        kind: still.signal[truth.vessels == kind].mean(axis=0).argmin()
        for kind in (ARTERY, LATE_ARTERY, VEIN)
    }
    assert peak[ARTERY] < peak[VEIN] and peak[ARTERY] < peak[LATE_ARTERY]


def test_the_same_scan_twice_and_another_patient_as_it_was(patient):
    scan = dsc.draw_scan(patient, matrix=24, slices=4, frames=12)
    first, second = (dsc.acquire_dsc(patient, scan) for _ in range(2))
    np.testing.assert_array_equal(first.signal, second.signal)
    assert 1.0 <= scan.repetition_time_s <= 2.2 and 0.025 <= scan.echo_time_s <= 0.03
    assert 30 <= scan.snr <= 100


def test_noise_and_motion_are_as_asked_for(patient):
    noisy = dsc.acquire_dsc(patient, dsc.Scan(**SMALL, snr=40.0))
    grey = noisy.truth.brain & (noisy.truth.vessels == 0)
    assert np.median(noisy.signal[grey][:, :6].std(axis=1, ddof=1)) == pytest.approx(15, rel=0.1)
    moved = dsc.acquire_dsc(patient, dsc.Scan(**SMALL, snr=np.inf, motion_mm=4.0)).truth.poses
    centre = (noisy.affine @ [19.5, 19.5, 2.5, 1])[:3]
    points = centre + 50 * np.concatenate([np.eye(3), -np.eye(3)])
    away = moved[:, :3, :3] @ points.T + moved[:, :3, 3:] - points.T
    assert np.linalg.norm(away, axis=1).max() == pytest.approx(4.0, abs=0.02)
    np.testing.assert_allclose(moved[dsc.REST_FRAME], np.eye(4), atol=1e-9)


def test_interleaved_slices_begin_as_scanners_do():
    order = np.argsort(dsc.Scan().slice_times_s(5))
    np.testing.assert_array_equal(order, [0, 2, 4, 1, 3])
    np.testing.assert_array_equal(np.argsort(dsc.Scan().slice_times_s(4)), [1, 3, 0, 2])
    slices = dsc.Scan(interleaved=False, repetition_time_s=2.0).slice_times_s(4)
    np.testing.assert_allclose(slices, [0, 0.5, 1, 1.5])


def test_every_fault_does_what_it_says(patient, still):
    usual = head_curve(still)
    base, step_s = usual[:5].mean(), still.scan.repetition_time_s
    assert usual.min() < 0.9 * base
    assert np.ptp(head_curve(planted(patient, "no_bolus"))) < 0.01 * base
    assert head_curve(planted(patient, "late_start"))[3] < 0.95 * base
    cut = planted(patient, "truncated")
    assert cut.signal.shape[3] == len(cut.times_s) == len(cut.truth.poses)
    assert cut.times_s[-1] < still.scan.bolus.arrival_s + dsc.CUT_AFTER_S
    shuffled = planted(patient, "shuffled")
    np.testing.assert_allclose(np.sort(head_curve(shuffled)), np.sort(usual), rtol=1e-6)
    assert np.abs(np.diff(head_curve(shuffled))).sum() > 2 * np.abs(np.diff(usual)).sum()
    jump = planted(patient, "jump").truth.poses
    assert jump[-1, 1, 3] - jump[0, 1, 3] == pytest.approx(dsc.JUMP_MM)
    void = planted(patient, "metal")
    lost = still.truth.brain & (void.signal[..., 0] < 0.05 * still.signal[..., 0])
    assert lost.sum() * abs(np.linalg.det(still.affine[:3, :3])) / 1000 > 15
    earlier = head_curve(planted(patient, "earlier_contrast"))
    assert earlier[0] < 0.97 * earlier[:8].max() and step_s == 1.5
    with pytest.raises(InputError, match="expected one of no_bolus"):
        dsc.Scan(fault="gadolinium")


@pytest.fixture
def small_scans(monkeypatch):
    drawn = dsc.draw_scan
    monkeypatch.setattr(
        dsc, "draw_scan", lambda patient: drawn(patient, matrix=24, slices=4, frames=12)
    )


def test_a_cohort_of_raw_series_holds_no_tmax_but_the_truth(tmp_path, small_scans):
    raw = cohort.simulate_cohort(tmp_path / "dsc", 1, 8, dsc=True)
    assert not (raw / "derivatives/perfusion").exists()
    image = nib.load(raw / "sub-0001/perf/sub-0001_dsc.nii.gz")
    known = json.loads((raw / "sub-0001/perf/sub-0001_dsc.json").read_text())
    assert image.shape == (24, 24, 4, 12) and len(known["SliceTiming"]) == 4
    assert image.header.get_zooms()[3] == pytest.approx(known["RepetitionTime"])
    assert 0.025 <= known["EchoTime"] <= 0.03
    truth = nib.load(cohort.image_paths(raw, 1, "native", dsc=True)["tmax"])
    assert truth.shape == image.shape[:3]
    said = json.loads(cohort.truth_path(raw, 1, "native").read_text())
    assert said["dsc"]["repetition_time_s"] == known["RepetitionTime"]
    assert "--dsc" in (raw / "dataset_description.json").read_text()
    kept = raw / "sub-0001/perf/sub-0001_dsc.nii.gz"
    written = kept.stat().st_mtime_ns
    cohort.simulate_cohort(raw, 1, 8, dsc=True)
    assert kept.stat().st_mtime_ns == written


def test_missing_times_are_missing_in_all_files(patient, tmp_path):
    from data_tools.simulate import dsc_files

    for fault, absent in (("no_tr", "RepetitionTime"), ("no_te", "EchoTime")):
        scan = dataclasses.replace(dsc.Scan(matrix=16, slices=3, frames=4), fault=fault)
        path = tmp_path / f"{fault}_dsc.nii.gz"
        dsc_files.write_series(path, dsc.acquire_dsc(patient, scan), 3.0)
        assert absent not in json.loads((tmp_path / f"{fault}_dsc.json").read_text())
        assert nib.load(path).header["pixdim"][4] == (0 if fault == "no_tr" else 1.5)


def test_raw_series_are_of_native_space(tmp_path):
    with pytest.raises(InputError, match="leave out --space"):
        cohort.simulate_cohort(tmp_path / "out", 1, 8, space="mni", dsc=True)
    assert not (tmp_path / "out").exists()


def test_a_cohort_of_scanners_files_is_the_same_again(tmp_path, small_scans):
    raw = cohort.simulate_cohort(tmp_path / "dsc", 1, 8, dsc=True, files="dicom")
    assert not (raw / "sub-0001/perf").exists()
    image = cohort.image_paths(raw, 1, "native", dsc=True, files="dicom")["dsc"]
    written = image.read_bytes()
    assert cohort.simulate_cohort(raw, 1, 8, dsc=True, files="dicom") == raw
    image.unlink()
    cohort.simulate_cohort(raw, 1, 8, dsc=True, files="dicom")
    assert image.read_bytes() == written
    with pytest.raises(InputError, match="holds another dataset"):
        cohort.simulate_cohort(raw, 1, 8, dsc=True)
    with pytest.raises(InputError, match="give --dsc too"):
        cohort.simulate_cohort(tmp_path / "other", 1, 8, files="dicom")
