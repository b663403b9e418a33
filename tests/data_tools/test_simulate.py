"""A simulated cohort on disk: layouts, the transform, repeatability, refusals."""

import hashlib
import json

import nibabel as nib
import numpy as np
import pytest

from data_tools import criteria, grid
from data_tools.plausibility import check_not_swapped, detect_adc_unit
from data_tools.runtime.errors import InputError
from data_tools.simulate import __main__ as simulate_command
from data_tools.simulate import anatomy, clinical, cohort, simulate_cohort, simulate_patient
from data_tools.simulate.cohort import COLUMNS, image_paths, truth_path
from data_tools.volumes import (
    load_mask,
    load_volume,
    require_grid,
)

SEED = 5


@pytest.fixture(scope="module")
def cohorts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("simulated")
    return {
        space: simulate_cohort(folder / space, patients=2, seed=SEED, space=space)
        for space in ("native", "mni")
    }


def hashes(folder):
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_mni_images_lie_on_the_grid_with_plausible_values(cohorts):
    paths = image_paths(cohorts["mni"], 1, "mni")
    brain = require_grid(load_mask(paths["brain"]), "brain") > 0
    coverage = require_grid(load_mask(paths["coverage"]), "coverage") > 0
    dwi, adc, tmax = (load_volume(paths[key]) for key in ("dwi", "adc", "tmax"))
    for volume in (dwi, adc, tmax):
        require_grid(volume, "image")
        assert not volume.data[~brain].any()
    assert detect_adc_unit(adc, brain) == "1e-6 mm2/s"
    check_not_swapped(dwi, adc, brain)
    assert 1100 < brain.sum() * grid.VOXEL_ML < 2200
    assert coverage.sum() > 0.4 * brain.sum()
    assert not coverage[~brain].any()
    assert 1 < np.median(tmax.data[coverage]) < 5


def test_native_images_are_raw_bids_with_adc_in_mm2_per_s(cohorts):
    folder = cohorts["native"]
    description = json.loads((folder / "dataset_description.json").read_text())
    assert "Simulated" in description["Name"]
    paths = image_paths(folder, 1, "native")
    dwi, adc, tmax = (load_volume(paths[key]) for key in ("dwi", "adc", "tmax"))
    assert dwi.same_grid(adc)
    assert dwi.spacing_mm[2] > 4.9 and dwi.spacing_mm[0] < 2.1
    assert detect_adc_unit(adc, dwi.data > 0.5 * np.percentile(dwi.data, 95)) == "mm2/s"
    assert tmax.data.min() >= 0 and tmax.data.max() <= 25


def test_true_transform_takes_native_images_onto_the_mni_form(cohorts):
    from scipy import ndimage

    native = load_volume(image_paths(cohorts["native"], 2, "native")["dwi"])
    truth = json.loads(truth_path(cohorts["native"], 2, "native").read_text())
    index = np.linalg.inv(np.array(truth["native_to_mni"]) @ native.affine) @ grid.GRID_AFFINE
    moved = ndimage.affine_transform(
        native.data, index[:3, :3], index[:3, 3], grid.GRID_SHAPE, order=1
    )
    paths = image_paths(cohorts["mni"], 2, "mni")
    brain = load_mask(paths["brain"]).data > 0
    assert np.abs(moved - load_volume(paths["dwi"]).data)[brain].max() < 0.1


def test_the_true_core_lies_beside_the_images(cohorts):
    paths = image_paths(cohorts["mni"], 1, "mni")
    core, brain = (load_mask(paths[key]).data > 0 for key in ("core", "brain"))
    patient = simulate_patient(SEED, 1)
    np.testing.assert_array_equal(core, patient.lesion.core[anatomy.GRID_IN_MODEL] & brain)
    adc = load_volume(paths["adc"]).data
    assert core.sum() * grid.VOXEL_ML > 1
    assert np.median(adc[core]) < 0.75 * np.median(adc[brain & ~core])


def test_a_cohort_of_before_gets_the_cores_that_it_lacks(cohorts, tmp_path):
    import shutil

    folder = shutil.copytree(cohorts["mni"], tmp_path / "old")
    before = hashes(folder)
    core = image_paths(folder, 2, "mni")["core"]
    truth = json.loads(truth_path(folder, 2, "mni").read_text())
    del truth["sha256"][str(core.relative_to(folder))]
    truth_path(folder, 2, "mni").write_text(json.dumps(truth))
    core.unlink()
    simulate_cohort(folder, 2, SEED, space="mni")
    assert hashes(folder) == before


def test_participants_table_has_the_columns_of_the_layout(cohorts):
    for folder in cohorts.values():
        lines = (folder / "participants.tsv").read_text().splitlines()
        assert lines[0].split("\t") == ["participant_id", *COLUMNS]
        assert [line.split("\t")[0] for line in lines[1:]] == ["sub-0001", "sub-0002"]
        assert set(json.loads((folder / "participants.json").read_text())) == set(COLUMNS)
    tables = [(folder / "participants.tsv").read_bytes() for folder in cohorts.values()]
    assert tables[0] == tables[1]


def test_same_seed_gives_the_same_bytes_with_two_workers(cohorts, tmp_path):
    again = simulate_cohort(tmp_path / "again", 2, SEED, space="mni", workers=2)
    assert hashes(again) == hashes(cohorts["mni"])


def test_interrupted_cohort_goes_on_and_keeps_what_stands(tmp_path):
    folder = simulate_cohort(tmp_path / "c", 1, SEED, space="mni")
    kept = image_paths(folder, 1, "mni")["dwi"]
    before = kept.stat().st_mtime_ns
    simulate_cohort(folder, 2, SEED, space="mni")
    assert kept.stat().st_mtime_ns == before
    image_paths(folder, 2, "mni")["adc"].unlink()
    simulate_cohort(folder, 2, SEED, space="mni")
    assert image_paths(folder, 2, "mni")["adc"].is_file()
    with pytest.raises(InputError, match="already holds sub-0002"):
        simulate_cohort(folder, 1, SEED, space="mni")


def test_damaged_files_are_written_again(cohorts, tmp_path):
    """Cut, emptied, deleted, unreadable: the same bytes are there afterwards."""
    import shutil

    for space in ("native", "mni"):
        folder = tmp_path / space
        shutil.copytree(cohorts[space], folder)
        before = hashes(folder)
        paths = image_paths(folder, 1, space)
        paths["dwi"].write_bytes(paths["dwi"].read_bytes()[:2000])
        paths["adc"].write_bytes(b"")
        truth_path(folder, 2, space).write_text('{"part')
        if space == "native":
            paths["dwi"].with_name("sub-0001_dwi.bval").unlink()
        (folder / ".tmp-00000000-left.nii.gz").write_bytes(b"of a killed run")
        simulate_cohort(folder, 2, SEED, space=space)
        assert hashes(folder) == before


def test_what_the_simulation_knows_is_told_apart_from_what_it_planned(cohorts):
    truth = json.loads(truth_path(cohorts["mni"], 1, "mni").read_text())
    for name in ("core_ml", "hypoperfusion_ml"):
        assert truth[f"planned_{name}"] > 0 or truth[name] == 0
    assert set(truth["sha256"]) == {str(p) for p in image_paths("", 1, "mni").values()}


def test_two_runs_at_once_are_refused(tmp_path):
    from data_tools.runtime import atomic

    with atomic.one_writer(tmp_path / "c"), pytest.raises(InputError, match="another run"):
        simulate_cohort(tmp_path / "c", 1, SEED)


@pytest.mark.parametrize("content", ["[]", '{"Name": "x", "GeneratedBy": {"Name": "y"}}', "{"])
def test_any_other_description_is_another_dataset(tmp_path, content):
    (tmp_path / "dataset_description.json").write_text(content)
    with pytest.raises(InputError, match="holds another dataset"):
        simulate_cohort(tmp_path, 1, SEED)


def test_other_settings_in_the_same_folder_are_refused(cohorts):
    with pytest.raises(InputError, match="holds another dataset .*--seed=5"):
        simulate_cohort(cohorts["mni"], 2, SEED + 1, space="mni")
    with pytest.raises(InputError, match="another dataset"):
        simulate_cohort(cohorts["mni"], 2, SEED, space="native")


def test_a_strangers_folder_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("x")
    with pytest.raises(InputError, match="not empty"):
        simulate_cohort(tmp_path, 1, SEED)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]
    with pytest.raises(InputError, match="is a file"):
        simulate_cohort(tmp_path / "thesis.txt", 1, SEED)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"patients": 0}, "patients is 0; expected 1 to 9999"),
        ({"patients": 10000}, "expected 1 to 9999"),
        ({"seed": -1}, "seed is -1"),
        ({"space": "talairach"}, "expected one of native, mni"),
        ({"workers": 0}, "workers is 0"),
        ({"noise": 3}, "noise is 3; expected 0.1 to 2"),
        ({"noise": float("nan")}, "noise is nan"),
        ({"patients": 9000, "target_mismatch": True}, "only [0-9]+ have a target mismatch"),
    ],
)
def test_bad_arguments_are_explained(tmp_path, change, message):
    arguments = {"out": tmp_path / "c", "patients": 1, "seed": SEED, **change}
    with pytest.raises(InputError, match=message):
        simulate_cohort(**arguments)
    assert not (tmp_path / "c").exists()


def test_another_setting_is_another_cohort_of_the_same_people(tmp_path):
    """Noisier images of the same heads and strokes; patients without target mismatch left out."""
    folder = tmp_path / "c"
    setting = {"space": "mni", "noise": 2.0, "target_mismatch": True}
    seed = 6
    simulate_cohort(folder, 1, seed, **setting)
    numbers = [cohort.patient_number(p.name) for p in sorted(folder.glob("sub-*"))]
    plans = [clinical.make_plan(seed, n) for n in (1, 2)]
    mismatch = [criteria.target_mismatch(p.hypoperfusion_ml, p.core_ml) for p in plans]
    assert mismatch == [False, True]
    assert numbers == [2]
    assert (folder / "participants.tsv").read_text().splitlines()[1].startswith("sub-0002")
    made_by = json.loads((folder / "dataset_description.json").read_text())["GeneratedBy"][0]
    assert made_by["Description"].endswith("--noise=2 --target_mismatch")
    with pytest.raises(InputError, match="holds another dataset"):
        simulate_cohort(folder, 1, seed, space="mni")
    usual, noisy = simulate_patient(seed, 2), simulate_patient(seed, 2, noise=2.0)
    np.testing.assert_array_equal(noisy.native.tmax_s, usual.native.tmax_s)
    np.testing.assert_array_equal(noisy.lesion.core, usual.lesion.core)
    air = usual.native.dwi < np.median(usual.native.dwi[usual.native.dwi > 100]) / 4
    ratio = noisy.native.dwi[air].mean() / usual.native.dwi[air].mean()
    assert 1.5 < ratio < 2.5


def test_command_exits_with_2_and_a_message(tmp_path, capsys):
    from data_tools.runtime import command

    arguments = [f"--out={tmp_path / 'c'}", "--patients=0"]
    status = command.run(simulate_command.main, simulate_command.FLAGS, "", arguments)
    assert status == command.EXIT_BAD_INPUT
    assert "patients is 0" in capsys.readouterr().err


def test_orientations_are_mixed(tmp_path):
    folder = simulate_cohort(tmp_path / "c", 4, 1)
    images = [nib.load(image_paths(folder, k, "native")["dwi"]) for k in (1, 2, 3, 4)]
    assert {"".join(nib.aff2axcodes(image.affine)) for image in images} == {"RAS", "LAS"}
