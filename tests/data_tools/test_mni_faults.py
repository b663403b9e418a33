"""A cohort in MNI space, by preprocess or the simulation: no file of it is damaged unseen."""

import gzip
import json
import os
import shutil

import numpy as np
import pytest

from data_tools import check_cohort, cohort_faults, flow, mni_faults
from data_tools.cohort import CohortError, mni_file, read_participants, transform_file, warp_file
from data_tools.grid import GRID_AFFINE, GRID_SHAPE
from data_tools.runtime import atomic, command
from data_tools.volumes import load_volume, save_volume

PATIENT = "sub-0001"
TRUTH, CORE = "desc-hypoperfusion_mask", "desc-core_mask"


@pytest.fixture
def simulated(mni_cohort, tmp_path):
    """Two patients, without checksums, that a test may damage."""
    return two_of(mni_cohort, tmp_path / "mni")


def two_of(mni_cohort, cohort):
    for name in ("sub-0001", "sub-0002"):
        shutil.copytree(mni_cohort / name, cohort / name)
    rows = (mni_cohort / "participants.tsv").read_text().splitlines()
    (cohort / "participants.tsv").write_text("\n".join(rows[:3]) + "\n")
    return cohort


def write_quality(cohort, name):
    """qc.json of a patient with what preprocess says of its files."""
    folder = cohort / name
    files = {path.name: atomic.sha256(path) for path in folder.iterdir() if path.name != "qc.json"}
    (folder / "qc.json").write_text(json.dumps({"participant_id": name, "files": files}))


@pytest.fixture(scope="module")
def all_of_it(mni_cohort, tmp_path_factory):
    """The same two with transform, warps, an edited mask, and everything about it all."""
    simulated = two_of(mni_cohort, tmp_path_factory.mktemp("preprocessed") / "mni")
    for name in ("sub-0001", "sub-0002"):
        np.savetxt(transform_file(simulated, name), np.diag([1.1, 1.1, 1.1, 1]))
        for way in ("back", "forth"):
            warp = np.full((*GRID_SHAPE, 3), 0.5, np.float32)
            save_volume(warp_file(simulated, name, way), warp, GRID_AFFINE)
        tmax = load_volume(mni_file(simulated, name, "tmax"))
        save_volume(mni_file(simulated, name, TRUTH), tmax.data >= 6, GRID_AFFINE)
        (simulated / name / "qc.png").write_bytes(b"picture")
        write_quality(simulated, name)
    description = {"Name": "x", "GeneratedBy": [{"Name": "data_tools.preprocess"}]}
    (simulated / "dataset_description.json").write_text(json.dumps(description))
    (simulated / "labels.json").write_text('{"within_stroke_side": false}')
    flow.write(simulated, [])
    return simulated


@pytest.fixture
def preprocessed(all_of_it, tmp_path):
    """A copy of them that a test may damage."""
    return shutil.copytree(all_of_it, tmp_path / "mni")


def faults_of(cohort):
    return [(f.file, f.what) for f in mni_faults.check_patient(PATIENT, str(cohort)).faults]


def change(cohort, name, function):
    """Write a volume's data anew, changed."""
    path = mni_file(cohort, PATIENT, name)
    volume = load_volume(path, may_be_constant=True)
    dtype = bool if name.endswith("mask") else np.float32
    save_volume(path, np.asarray(function(volume.data)).astype(dtype), GRID_AFFINE)


def test_a_clean_one_has_a_summary(preprocessed, capsys):
    arguments = [f"--cohort={preprocessed}"]
    assert command.run(check_cohort.main, check_cohort.FLAGS, "", arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{preprocessed}: 2 patients in MNI space, no faults"
    assert any(line.split() == ["truth", "from", "edited", "mask", "2"] for line in lines)


def test_the_figures_are_those_of_the_volumes(simulated):
    figures = mni_faults.check_patient(PATIENT, str(simulated)).figures
    brain = load_volume(mni_file(simulated, PATIENT, "desc-brain_mask")).data
    tmax = load_volume(mni_file(simulated, PATIENT, "tmax")).data
    assert figures.brain_ml == pytest.approx((brain > 0).sum() * 0.008)  # 2 mm, no transform
    assert figures.tmax_over_6_ml == pytest.approx((tmax >= 6).sum() * 0.008)
    assert (figures.truth, figures.adc_unit) == ("Tmax", "1e-6 mm2/s")


ALL = ("dwi", "adc", "tmax", "desc-brain_mask", "desc-coverage_mask", TRUTH)


@pytest.mark.parametrize("name", [*ALL, "warp"])
def test_a_damaged_volume_is_named(preprocessed, name):
    path = mni_file(preprocessed, PATIENT, name)
    if name == "warp":
        path = warp_file(preprocessed, PATIENT, "back")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    found = faults_of(preprocessed)
    assert path.name in {file for file, _ in found}
    assert any("damaged" in what and path.name in f"{file} {what}" for file, what in found)


@pytest.mark.parametrize("name", ["adc", "desc-coverage_mask", TRUTH])
def test_a_changed_voxel_is_seen_by_the_checksum(preprocessed, name):
    def flip(data):
        data[45, 54, 30] = 0 if data[45, 54, 30] else 1
        return data

    change(preprocessed, name, flip)
    ((file, what),) = faults_of(preprocessed)
    assert file == mni_file(preprocessed, PATIENT, name).name
    assert "its checksum in qc.json is another" in what


@pytest.mark.parametrize("name", [*ALL, "transform", "warp", "qc.png"])
def test_a_missing_file_is_named(preprocessed, name):
    path = {
        "transform": transform_file(preprocessed, PATIENT),
        "warp": warp_file(preprocessed, PATIENT, "forth"),
        "qc.png": preprocessed / PATIENT / "qc.png",
    }.get(name, mni_file(preprocessed, PATIENT, name))
    path.unlink()
    assert any(path.name in f"{file} {what}" for file, what in faults_of(preprocessed))


@pytest.mark.parametrize(
    ("name", "function", "message"),
    [
        ("tmax", lambda data: data * 1000, "Values in ms must be divided by 1000"),
        ("tmax", lambda data: data * 10, "expected seconds"),
        ("tmax", lambda data: data / 1000, "expected seconds"),
        ("tmax", lambda data: np.zeros_like(data), "the image is empty"),
        ("dwi", lambda data: np.ones_like(data), "the image is empty"),
        ("adc", lambda data: data / 1000, "the ADC volume is in 1e-3 mm2/s"),
        ("adc", lambda data: data / 2, "no plausible ADC"),
        ("desc-brain_mask", lambda data: data * 0, "desc-brain_mask is empty"),
        ("desc-brain_mask", lambda data: data * 0 + 1, "desc-brain_mask has 4761 mL"),
        ("desc-brain_mask", lambda data: np.roll(data, 30, 1), "is above 0 in"),
        ("desc-coverage_mask", lambda data: data * 0, "covers 0% of the brain"),
        (TRUTH, lambda data: np.indices(data.shape)[2] > 57, "lies outside desc-brain_mask"),
        (CORE, lambda data: np.indices(data.shape)[2] > 57, "desc-core_mask lies outside desc-b"),
    ],
)
def test_volumes_that_are_not_what_they_are_said_to_be(simulated, name, function, message):
    if name == TRUTH:
        save_volume(mni_file(simulated, PATIENT, TRUTH), np.zeros(GRID_SHAPE, bool), GRID_AFFINE)
    change(simulated, name, function)
    assert any(message in what for _, what in faults_of(simulated)), faults_of(simulated)


@pytest.mark.parametrize("name", ["adc", "desc-coverage_mask", "tmax", TRUTH, CORE])
def test_another_grid_is_a_fault(simulated, name):
    data = np.zeros((91, 109, 91), np.float32)
    data[40:50, 40:50, 40:50] = 1
    save_volume(mni_file(simulated, PATIENT, name), data, GRID_AFFINE)
    assert any("expected the MNI grid" in what for _, what in faults_of(simulated))


@pytest.mark.parametrize("name", ["desc-brain_mask", TRUTH])
def test_a_mask_of_other_values_is_a_fault(simulated, name):
    data = np.zeros(GRID_SHAPE, np.float32)
    data[40:50, 40:50, 20:30], data[50:60, 40:50, 20:30] = 1, 2
    save_volume(mni_file(simulated, PATIENT, name), data, GRID_AFFINE)
    assert any("expected a mask of 0 and 1" in what for _, what in faults_of(simulated))


@pytest.mark.parametrize(
    ("name", "function", "message"),
    [
        ("adc", lambda v: v[:, ::-1], "its mirror image agrees better"),
        ("adc", lambda v: np.roll(v, (0, 4), (0, 1)), "about 8 mm off it agrees better"),
        ("desc-brain_mask", lambda v: v[:, :, ::-1], "desc-brain_mask does not lie on the brain"),
        ("desc-brain_mask", lambda v: np.roll(v, 8, 1), "moved 16 mm to the back it fits better"),
        ("tmax", lambda v: v[:, :, ::-1], "mirrored upside down it fits better"),
        ("tmax", lambda v: np.roll(v, 12, 1), "moved 24 mm to the back it fits better"),
    ],
)
def test_volumes_in_another_place_are_a_fault(simulated, name, function, message):
    change(simulated, name, function)
    assert any(message in what for _, what in faults_of(simulated))


def test_the_adc_map_of_another_patient_is_a_fault(simulated):
    shutil.copy(mni_file(simulated, "sub-0002", "adc"), mni_file(simulated, PATIENT, "adc"))
    assert any("hardly show the same" in what for _, what in faults_of(simulated))


def test_exchanged_dwi_and_adc_are_a_fault(simulated):
    dwi, adc = (mni_file(simulated, PATIENT, name) for name in ("dwi", "adc"))
    other = load_volume(dwi).data * 6
    shutil.copy(adc, dwi)
    save_volume(adc, other, GRID_AFFINE)
    assert faults_of(simulated)


@pytest.mark.parametrize(
    "matrix",
    [
        np.diag([-1, 1, 1, 1.0]), np.diag([np.nan, 1, 1, 1]), np.diag([np.inf, 1, 1, 1]),
        np.diag([30, 1, 1, 1.0]), np.diag([0.01, 1, 1, 1]), np.eye(3), np.ones((4, 4)),
        np.diag([1, 1, 1, 2.0]),
    ],
)  # fmt: skip
def test_a_transform_that_no_head_can_have_is_a_fault(simulated, matrix):
    np.savetxt(transform_file(simulated, PATIENT), matrix)
    ((file, what),) = faults_of(simulated)
    assert file == "transform"
    assert "expected a 4 x 4 matrix" in what


@pytest.mark.parametrize("content", [b"no numbers", b"", b"\xff\xfe\x00"])
def test_a_transform_that_is_none_is_a_fault(simulated, content):
    transform_file(simulated, PATIENT).write_bytes(content)
    assert [file for file, _ in faults_of(simulated)] == ["transform"]


def test_a_link_to_nothing_is_no_absent_file(simulated):
    path = mni_file(simulated, PATIENT, "tmax")
    path.unlink()
    os.symlink(simulated / "gone.nii.gz", path)
    assert any("gone.nii.gz" in what and "link" in what for _, what in faults_of(simulated))


@pytest.mark.parametrize("ending", ["nii", "NII.GZ", "nii.GZ", "mha"])
def test_a_file_that_would_not_be_read_is_a_fault(simulated, ending):
    path = mni_file(simulated, PATIENT, "tmax")
    path.rename(path.with_name(path.name.replace("nii.gz", ending)))
    ((file, what),) = faults_of(simulated)
    assert file.endswith(ending)
    assert f"is not read: expected the name {path.name}" in what


def test_a_patient_without_truth_is_no_fault(simulated):
    mni_file(simulated, PATIENT, "tmax").unlink()
    assert mni_faults.check_patient(PATIENT, str(simulated)).figures.truth == "none"


@pytest.mark.parametrize("content", ["", "{", "[]", '{"participant_id": "sub-0002"}', None])
def test_a_damaged_or_missing_quality_file_is_a_fault(preprocessed, content):
    path = preprocessed / PATIENT / "qc.json"
    path.unlink() if content is None else path.write_text(content)
    ((file, _),) = faults_of(preprocessed)
    assert file == "qc.json"


@pytest.mark.parametrize("content", ['{"within_stroke_side": "yes"}', "{", None])
def test_wrong_settings_of_the_labels_are_a_fault(preprocessed, content):
    path = preprocessed / "labels.json"
    path.unlink() if content is None else path.write_text(content)
    (fault,) = mni_faults.check_cohort_files(str(preprocessed))
    assert fault.file == "labels.json"


def test_a_damaged_description_is_a_fault(preprocessed):
    (preprocessed / "dataset_description.json").write_text("{")
    assert "dataset_description.json" in {
        fault.file for fault in mni_faults.check_cohort_files(str(preprocessed))
    }


def test_every_fault_of_every_patient_comes_in_one_table(preprocessed):
    change(preprocessed, "tmax", lambda data: data + 1)
    path = mni_file(preprocessed, "sub-0002", "desc-coverage_mask")
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[:-1000]))
    (preprocessed / "labels.json").write_text("{}")
    with pytest.raises(CohortError) as caught:
        cohort_faults.check(str(preprocessed), workers=2)
    found = [(fault.participant, fault.file) for fault in caught.value.faults]
    assert found == [
        ("(all)", "labels.json"),
        ("sub-0001", mni_file("", "sub-0001", "tmax").name),
        ("sub-0002", path.name),
    ]


def test_a_row_without_folder_is_one_fault(simulated):
    shutil.rmtree(simulated / "sub-0002")
    with pytest.raises(CohortError) as caught:
        cohort_faults.check(str(simulated))
    (fault,) = caught.value.faults
    assert (fault.participant, fault.file) == ("sub-0002", "folder")


def test_one_raw_patient_among_them_is_a_fault(simulated, raw_cohort, mni_cohort):
    for name in ("sub-0003", "sub-0004"):
        shutil.copytree(mni_cohort / name, simulated / name)
    rows = (mni_cohort / "participants.tsv").read_text().splitlines()
    (simulated / "participants.tsv").write_text("\n".join(rows[:5]) + "\n")
    shutil.rmtree(simulated / "sub-0002")
    shutil.copytree(raw_cohort / "sub-0002", simulated / "sub-0002")
    (simulated / "sub-0003/dwi").mkdir()
    with pytest.raises(CohortError) as caught:
        cohort_faults.check(str(simulated))
    second, third = caught.value.faults
    assert (second.participant, third.participant) == ("sub-0002", "sub-0003")
    assert second.what.startswith("holds raw images, in a cohort that is in MNI space")
    assert third.what.startswith("holds raw images and volumes in MNI space")


def test_a_folder_that_is_neither_is_refused_with_what_was_found(tmp_path, capsys):
    (tmp_path / "participants.tsv").write_text("participant_id\tnihss\tside\nsub-1\t3\tleft\n")
    (tmp_path / "sub-1").mkdir()
    (tmp_path / "sub-1/scan.xyz").touch()
    assert len(read_participants(tmp_path)) == 1
    arguments = [f"--cohort={tmp_path}"]
    assert command.run(check_cohort.main, check_cohort.FLAGS, "", arguments) == 2
    assert "holds no patient's images; expected raw ones" in (said := capsys.readouterr().err)
    assert "Found in sub-1: scan.xyz" in said
