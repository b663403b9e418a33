"""benchmarks.perfusion_isles: files as ISLES 2017 names them; what it cannot use."""

import csv

import nibabel as nib
import numpy as np
import pytest
from helpers.commands import call

from benchmarks import perfusion_isles
from data_tools.runtime.errors import InputError

pytestmark = pytest.mark.quick


def put(folder, case, kind, data, affine, *, prefix="VSD.Brain.XX.O.", tr_s=None):
    """As the archive has it; without a prefix as mirrors flatten it."""
    image = nib.Nifti1Image(np.asarray(data, np.float32), affine)
    if tr_s:
        image.header.set_zooms((*image.header.get_zooms()[:-1], tr_s))
    stem = f"{prefix}{kind}.127015" if prefix else kind
    path = folder / case / (stem if prefix else "") / f"{stem}.nii"
    path.parent.mkdir(parents=True, exist_ok=True)
    image.to_filename(path)


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """Four cases of one phantom, named in three ways; the last has no bolus."""
    from data_tools.simulate import dsc, simulate_patient

    folder = tmp_path_factory.mktemp("isles") / "ISLES2017_Training"
    (folder / "__MACOSX").mkdir(parents=True)
    patient = simulate_patient(7, 1)
    made = dsc.acquire_dsc(patient, dsc.draw_scan(patient, matrix=40, slices=8, motion_mm=0.0))
    truth, affine, tr_s = made.truth, made.affine, made.scan.repetition_time_s
    signal = (made.signal * truth.brain[..., None])[:, :, :, None]
    adc = np.where(truth.brain, np.where(truth.tmax_s > 8, 400, 850), 0)
    for case, prefix in (
        ("training_2", "VSD.Brain.XX.O."),
        ("training_10", "SMIR.Brain.XX.O."),
        ("training_4", ""),
        ("training_11", ""),
    ):
        frames = signal[..., ::-1][..., :9] if case == "training_11" else signal
        put(folder, case, "MR_4DPWI", frames, affine, prefix=prefix, tr_s=tr_s)
        put(folder, case, "MR_Tmax", truth.tmax_s, affine, prefix=prefix)
        put(folder, case, "MR_ADC", adc, affine, prefix=prefix)
        put(folder, case, "OT", truth.tmax_s > 3, affine, prefix=prefix)
    return folder


def test_cases_are_compared(archive, tmp_path, capsys):
    assert call(
        perfusion_isles, f"--folder={archive}", "--nomotion", f"--out={tmp_path}/t.csv"
    ) == 0  # fmt: skip
    with open(tmp_path / "t.csv", newline="") as lines:
        rows = list(csv.DictReader(lines))
    cases = [row for row in rows if row["table"] == "cases"]
    assert [row["case"] for row in cases] == [
        "training_2", "training_4", "training_10", "training_11"
    ]  # fmt: skip
    assert all(float(row["dice"]) > 0.75 and float(row["core_ml"]) > 1 for row in cases[:3])
    assert "expected a series over time" in cases[3]["said"]
    together = [row for row in rows if row["table"] == "together"]
    assert [row["n"] for row in together] == ["3", "3"]
    assert not any("None" in row.values() for row in together)
    assert "3 patients are few" in capsys.readouterr().out


def test_folders_that_are_no_archive_are_refused(archive, tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        perfusion_isles.cases(tmp_path / "absent")
    with pytest.raises(InputError, match="no folder of a case"):
        perfusion_isles.cases(tmp_path)
    for number in (1, 2):
        put(tmp_path, "training_1", "MR_Tmax", np.eye(3), np.eye(4), prefix=f"VSD.{number}.")
    with pytest.raises(InputError, match="are all TMAX; expected one"):
        perfusion_isles.cases(tmp_path)


def test_a_time_of_one_in_a_header_is_not_trusted(tmp_path):
    path = tmp_path / "a.nii"
    nib.Nifti1Image(np.zeros((3, 3, 3, 1, 4), np.float32), np.eye(4)).to_filename(path)
    assert perfusion_isles._header_tr_s(path) is None
