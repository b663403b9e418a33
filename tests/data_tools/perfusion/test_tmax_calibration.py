"""A threshold that was put in is found again; what a reference cannot be is said."""

import dataclasses
import json

import numpy as np
import pytest
from PIL import Image

from data_tools.perfusion import calibration, threshold_fit
from data_tools.perfusion.record import Convention
from data_tools.perfusion.threshold_fit import Pair, pair_of
from data_tools.runtime.errors import InputError
from data_tools.volumes import save_volume

pytestmark = pytest.mark.core

SHAPE, AFFINE = (20, 20, 8), np.diag([4.0, 4, 6, 1])
CONVENTION = Convention(
    version=1, deconvolution="csvd", threshold=0.1, tr_s=1.5, te_s=0.03, arterial_input="automatic",
    smoothing_sd_voxels=0.7, motion_corrected=True,
)  # fmt: skip


def tmax_s(size, *, later_s=0.0):
    """A cone of late tissue, 12 s in its middle: its volume falls evenly with the threshold."""
    x, y, z = np.indices(SHAPE)
    far = np.sqrt((x - 10) ** 2 + (y - 10) ** 2 + (1.5 * (z - 4)) ** 2)
    late = np.clip(12 - 8 * far / size, 2, 12) + later_s
    return late.astype(np.float32)


def pairs(*sizes, later_s=1.0):
    """Our maps are later than the reference's by so much."""
    brain, voxel_ml = np.ones(SHAPE, bool), 0.096
    return [
        pair_of(
            f"sub-{k}", tmax_s(size, later_s=later_s), brain, voxel_ml,
            reference=tmax_s(size) >= 6, core_ml=2.0 * k,
        )
        for k, size in enumerate(sizes)
    ]  # fmt: skip


@pytest.mark.parametrize("by", threshold_fit.FITS)
def test_the_threshold_put_in_is_found(by):
    found = threshold_fit.fit(pairs(5.0, 6.5, 8.0, 9.5), by)
    assert found.threshold_s == pytest.approx(7.0, abs=0.11)
    np.testing.assert_allclose(found.left_out_s, 7.0, atol=0.11)
    assert found.left_out.mean_absolute_ml == 0 and found.left_out.dice == 1
    assert found.left_out.concordance == pytest.approx(1)
    assert found.at_six.bias_ml > 5 and found.at_six.concordance < 0.95
    assert found.at_six.n_core == 4
    assert "4 patients are few" in found.warnings[0]


def test_leaving_out_is_honest():
    """One patient of another scale moves the threshold of all others, not its own."""
    odd = dataclasses.replace(pairs(9.0, later_s=3.0)[0], participant_id="sub-odd")
    found = threshold_fit.fit([*pairs(5.0, 5.5, later_s=1.0), odd])
    assert found.threshold_s == pytest.approx(9.0, abs=0.11)  # the largest decides by volume
    assert found.left_out_s[-1] == pytest.approx(7.0, abs=0.11)
    assert found.left_out.mean_absolute_ml > found.at_threshold.mean_absolute_ml
    assert any("depends on single patients" in each for each in found.warnings)


def test_the_end_of_the_range_is_told():
    flat = np.full(len(threshold_fit.THRESHOLDS_S), 50.0)
    flat[-1] = 40.0
    ones = [Pair(participant_id=f"sub-{k}", volumes_ml=flat, reference_ml=1.0) for k in range(3)]
    found = threshold_fit.fit(ones)
    assert found.threshold_s == 12.0 and found.at_six.kappa is None and found.at_six.dice is None
    assert any("only the end of that range" in each for each in found.warnings)


def test_of_equal_thresholds_the_nearest_to_six_is_taken():
    flat = np.full(len(threshold_fit.THRESHOLDS_S), 50.0)
    ones = [Pair(participant_id=f"sub-{k}", volumes_ml=flat, reference_ml=1.0) for k in range(3)]
    assert threshold_fit.fit(ones).threshold_s == 6.0


def test_too_little_is_refused():
    with pytest.raises(
        InputError,
        match="2 patients have both a map of ours and a reference; calibration needs at least 3",
    ):
        threshold_fit.fit(pairs(5.0, 6.0))
    with pytest.raises(InputError, match="no reference shows hypoperfusion"):
        threshold_fit.fit([dataclasses.replace(each, reference_ml=0.0) for each in pairs(5, 6, 7)])
    with pytest.raises(InputError, match="0 references have a mask .* Fit by volume"):
        threshold_fit.fit([dataclasses.replace(each, dice=None) for each in pairs(5, 6, 7)], "dice")


def write(cohort, participant, image, convention=CONVENTION):
    path = cohort / "derivatives/perfusion" / participant / "perf" / f"{participant}_Tmax.nii.gz"
    save_volume(path, image, AFFINE)
    path.with_name(f"{participant}_Tmax.json").write_text(json.dumps(convention.to_sidecar()))


@pytest.fixture
def cohort(tmp_path):
    """Four patients with maps 1 s too late; references: maps, a mask on another grid, volumes."""
    root, reference = tmp_path / "raw", tmp_path / "reference"
    for k, size in enumerate((5.0, 6.5, 8.0, 9.5), start=1):
        write(root, f"sub-{k}", tmax_s(size, later_s=1.0))
        if k < 3:
            save_volume(reference / f"sub-{k}" / f"sub-{k}_Tmax.nii.gz", tmax_s(size), AFFINE)
    coarse = AFFINE @ np.diag([2.0, 2, 1, 1])
    coarse[:2, 3] = 2.0
    mask = (tmax_s(8.0) >= 6)[::2, ::2].astype(np.float32)
    save_volume(reference / "sub-3_desc-hypoperfusion_mask.nii.gz", mask, coarse)
    core = np.zeros(SHAPE, np.float32)
    core[10, 10, :5] = 1
    save_volume(root / "derivatives/masks/sub-1/sub-1_desc-core_mask.nii.gz", core, AFFINE)
    ml = float((tmax_s(9.5) >= 6).sum() * 0.096)
    (reference / "volumes.tsv").write_text(
        f"participant_id\thypoperfusion_ml\tcore_ml\nsub-4\t{ml:.3f}\t12\n"
    )
    return root, reference


def test_files_in_files_out(cohort, tmp_path):
    root, reference = cohort
    write(root, "sub-5", tmax_s(7.0))  # without a reference
    found = calibration.calibrate(root, reference, tmp_path / "out")
    assert found.result.threshold_s == pytest.approx(7.0, abs=0.11)
    assert found.left_out == {"sub-5": "no reference"}
    known = json.loads((tmp_path / "out/calibration.json").read_text())
    assert known["n"] == 4 and known["at_6_s"]["n_core"] == 2
    assert known["convention"] == {
        "version": 1, "deconvolution": "csvd", "threshold": 0.1, "smoothing_sd_voxels": 0.7
    }  # fmt: skip
    assert known["left_out"]["mean_absolute_ml"] < known["at_6_s"]["mean_absolute_ml"]
    table = (tmp_path / "out/calibration.csv").read_text().splitlines()
    assert len(table) == 5 and table[4].startswith("sub-4,")
    with Image.open(tmp_path / "out/calibration.png") as picture:
        assert picture.size == (1120, 440)
    assert any("sub-5: no reference" in line for line in calibration.summary(found))
    assert calibration.threshold_s(tmp_path / "out", CONVENTION) == found.result.threshold_s
    assert calibration.threshold_s(tmp_path, CONVENTION) is None
    other = dataclasses.replace(CONVENTION, threshold=0.2)
    with pytest.raises(InputError, match="make the maps in the same way, calibrate again"):
        calibration.threshold_s(tmp_path / "out", other)
    (tmp_path / "out/calibration.json").write_text('{"threshold_s": "six"}')
    with pytest.raises(InputError, match="expected 3 to 12"):
        calibration.threshold_s(tmp_path / "out", CONVENTION)


def test_what_cannot_be_compared_is_named(cohort, tmp_path):
    root, reference = cohort

    def fails(match, reference=reference):
        with pytest.raises(InputError, match=match):
            calibration.calibrate(root, reference, tmp_path / "out")
        assert not (tmp_path / "out").exists()

    fails("no such folder; expected the folder with another", tmp_path / "absent")
    fails("is a file; expected the folder", reference / "volumes.tsv")
    (tmp_path / "empty").mkdir()
    fails(
        "0 patients have both a map of ours and a reference(.|\n)*sub-1: no reference",
        tmp_path / "empty",
    )
    fails("was made by this program", root)
    table = (reference / "volumes.tsv").read_text()
    (reference / "volumes.tsv").write_text(table + "sub-3\tmany\t1\n")
    fails("line 3: hypoperfusion_ml is 'many'; expected mL")
    (reference / "volumes.tsv").write_text(table)
    write(root, "sub-4", tmax_s(9.5), dataclasses.replace(CONVENTION, deconvolution="osvd"))
    fails("made in 2 ways")
    (tmp_path / "no").mkdir()
    with pytest.raises(InputError, match="no Tmax map of this program"):
        calibration.calibrate(tmp_path / "no", reference, tmp_path / "out")


def test_a_reference_elsewhere_is_left_out(cohort, tmp_path):
    root, reference = cohort
    away = AFFINE.copy()
    away[0, 3] = 500
    save_volume(reference / "sub-2" / "sub-2_Tmax.nii.gz", tmax_s(6.5), away)
    found = calibration.calibrate(root, reference, tmp_path / "out")
    assert "does not lie where our map is" in found.left_out["sub-2"]
