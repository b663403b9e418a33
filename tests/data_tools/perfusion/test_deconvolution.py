"""Residues, against a literal matrix and curves whose delay and flow are known."""

import csv

import numpy as np
import pytest
from helpers import dsc
from scipy import linalg

from data_tools.perfusion import deconvolution, maps
from data_tools.runtime.errors import InputError
from data_tools.simulate.bolus import Bolus

pytestmark = [pytest.mark.core, pytest.mark.quick]

BOLUS = Bolus(arrival_s=15.0)
TIMES_S = dsc.frames_s(1.5)
AIF = BOLUS.aif(TIMES_S)
DELAYS_S = np.arange(-3, 15.01, 0.25)


def by_matrix(curves, aif, tr_s, threshold):
    """Truncated SVD of the block-circulant matrix, written out."""
    length = 2 * len(aif)
    padded = np.zeros(length)
    padded[: len(aif)] = aif
    u, sizes, vt = np.linalg.svd(linalg.circulant(padded) * tr_s)
    inverse = np.where(sizes >= threshold * sizes[0], 1 / np.maximum(sizes, 1e-12), 0)
    long = np.zeros((len(curves), length))
    long[:, : len(aif)] = curves
    return long @ (vt.T @ np.diag(inverse) @ u.T).T


@pytest.mark.parametrize("frames", [40, 41])
@pytest.mark.parametrize("threshold", [0.05, 0.1, 0.3])
def test_it_is_the_truncated_svd_of_the_block_circulant_matrix(frames, threshold):
    rng = np.random.default_rng(0)
    times_s = dsc.frames_s(1.5, frames * 1.5)
    aif = BOLUS.aif(times_s) + rng.normal(0, 0.01, frames)
    curves = dsc.tissue(BOLUS, times_s, [0, 4], 5) + rng.normal(0, 0.01, (2, frames))
    ours = deconvolution.residue(curves, aif, tr_s=1.5, threshold=threshold)
    theirs = by_matrix(curves, aif, 1.5, threshold)
    assert np.abs(ours - theirs).max() <= 1e-5 * np.abs(theirs).max()


@pytest.mark.parametrize("tr_s", [1.0, 1.5, 2.0, 2.2])
def test_tmax_follows_the_delay_and_flow_does_not(tr_s):
    times_s = dsc.frames_s(tr_s)
    aif = BOLUS.aif(times_s)
    for mtt_s in (4, 8, 12):
        curves = dsc.tissue(BOLUS, times_s, DELAYS_S, mtt_s)
        tmax_s, height = maps.residue_peaks(curves, aif, tr_s=tr_s)
        assert np.ptp(tmax_s - DELAYS_S) <= (0.15 if tr_s <= 1.5 else 0.25)
        assert np.ptp(height) <= 0.05 * height.mean()


@pytest.mark.parametrize(("mtt_s", "offset_s"), [(4, 2.2), (8, 2.85), (12, 3.15)])
def test_the_offset_is_that_of_the_convention(mtt_s, offset_s):
    curves = dsc.tissue(BOLUS, TIMES_S, DELAYS_S, mtt_s)
    tmax_s, _ = maps.residue_peaks(curves, AIF, tr_s=1.5)
    assert np.mean(tmax_s - DELAYS_S) == pytest.approx(offset_s, abs=0.1)


@pytest.mark.parametrize("method", deconvolution.METHODS)
def test_every_method_shifts_with_the_tissue(method):
    curves = dsc.tissue(BOLUS, TIMES_S, [0, 3, -3], 4)
    tmax_s, height = maps.residue_peaks(curves, AIF, tr_s=1.5, method=method)
    np.testing.assert_allclose(tmax_s - tmax_s[0], [0, 3, -3], atol=0.3)
    assert (height > 0.4 / 4).all() and (height < 1.1 / 4).all()


def test_methods_and_thresholds_make_a_difference():
    curves = dsc.tissue(BOLUS, TIMES_S, [2], 4)
    found = [
        deconvolution.residue(curves, AIF, tr_s=1.5, method=method, threshold=threshold)
        for method in deconvolution.METHODS
        for threshold in (0.03, 0.2)
    ]
    for k, one in enumerate(found):
        assert all(np.abs(one - other).max() > 0.001 for other in found[:k])


def test_osvd_takes_a_higher_threshold_where_there_is_noise():
    rng = np.random.default_rng(1)
    clean = dsc.tissue(BOLUS, TIMES_S, [2] * 50, 4)
    noisy = clean + rng.normal(0, 0.1 * clean.max(), clean.shape)
    calm = deconvolution.residue(noisy, AIF, tr_s=1.5, method="osvd")
    bent = np.abs(np.diff(calm, 2)).sum(axis=-1) / calm.shape[-1] / calm.max(axis=-1)
    wild = deconvolution.residue(noisy, AIF, tr_s=1.5, threshold=0.01)
    assert bent.max() <= 0.035 * 1.5**2
    assert np.ptp(calm, axis=-1).max() < np.ptp(wild, axis=-1).min()


def test_values_between_frames_leave_those_of_the_frames():
    rng = np.random.default_rng(2)
    aif = BOLUS.aif(dsc.frames_s(2.0))
    curves = rng.normal(size=(3, len(aif)))
    for method in deconvolution.METHODS:
        coarse = deconvolution.residue(curves, aif, tr_s=2.0, method=method)
        fine = deconvolution.residue(curves, aif, tr_s=2.0, method=method, per_frame=3)
        np.testing.assert_allclose(fine[:, ::3], coarse, atol=1e-5 * np.abs(coarse).max())
    np.testing.assert_allclose(
        deconvolution.lags_s(45, 2.0, 3)[::3], deconvolution.lags_s(45, 2.0), atol=1e-9
    )


def test_no_curve_gives_no_residue():
    for method in deconvolution.METHODS:
        none = deconvolution.residue(np.zeros((0, 60)), AIF, tr_s=1.5, method=method)
        assert none.shape == (0, 120)
    zero = deconvolution.residue(np.zeros((2, 60)), AIF, tr_s=1.5, method="osvd")
    assert not zero.any()


def test_what_cannot_be_is_refused():
    aif, curves = np.ones(10), np.ones((1, 10))
    with pytest.raises(InputError, match="no deconvolution is called 'svd'; expected csvd, osvd"):
        deconvolution.residue(curves, aif, tr_s=1.0, method="svd")
    with pytest.raises(InputError, match="the threshold is 10; expected more than 0 and less"):
        deconvolution.residue(curves, aif, tr_s=1.0, threshold=10)
    with pytest.raises(InputError, match="the arterial curve is 0 everywhere"):
        deconvolution.residue(curves, 0 * aif, tr_s=1.0)


def test_osipis_reference_curves(real_data):
    """CBV within 1 + 10% and CBF within 15 + 10%, in all 14."""
    path = real_data / "osipi_dsc/osipi_dsc_data.csv"
    if not path.is_file():
        pytest.skip(f"no {path}")
    with path.open() as lines:
        rows = list(csv.DictReader(lines))
    assert len(rows) == 14
    for row in rows:
        tissue, aif = (np.array(row[name].split(), np.float32) for name in ("C_tis", "C_aif"))
        whole = np.ones((1, 1, 1), bool)
        made = maps.perfusion_maps(tissue[None, None, None], whole, aif, tr_s=float(row["tr"]))
        cbv, cbf = float(row["cbv"]), float(row["cbf"])
        assert abs(made.cbv.item() - cbv) <= 1 + 0.1 * cbv, row["label"]
        assert abs(made.cbf.item() - cbf) <= 15 + 0.1 * cbf, row["label"]
