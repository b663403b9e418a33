"""There and back through an affine and through a deformation; files of both; the command."""

import dataclasses
import json

import nibabel as nib
import numpy as np
import pytest

from data_tools import mni_patient, to_native
from data_tools.cohort import warp_file
from data_tools.grid import GRID_AFFINE, GRID_SHAPE, VOXEL_ML
from data_tools.runtime import command
from data_tools.runtime.errors import InputError
from data_tools.transform import Transform
from data_tools.volumes import Volume, load_mask, save_volume

AFFINE = np.array([[1.1, 0.05, 0, 5], [-0.04, 1.2, 0.1, -9], [0, -0.1, 1.15, 3], [0, 0, 0, 1.0]])


@pytest.fixture(scope="module")
def bent():
    """A smooth deformation of 3 mm at most, and its inverse by iteration."""
    x, y, z = np.indices(GRID_SHAPE) * 2.0
    waves = [np.sin(y / 25), np.sin(z / 30), np.sin(x / 20)]
    back = np.stack([3 * wave for wave in waves], axis=-1).astype(np.float32)
    forth = np.zeros_like(back)
    points = np.indices(GRID_SHAPE).reshape(3, -1).T @ GRID_AFFINE[:3, :3] + GRID_AFFINE[:3, 3]
    for _ in range(30):
        moved = points + forth.reshape(-1, 3)
        native = Transform(np.eye(4), back).to_native(moved)
        forth = forth - (native - points).reshape(forth.shape).astype(np.float32)
    return Transform(AFFINE, back, forth)


@pytest.fixture
def native():
    """A cube in a native space of thick slices, LAS."""
    affine = np.array([[-2.0, 0, 0, 70], [0, 2, 0, -90], [0, 0, 5, -20], [0, 0, 0, 1]])
    data = np.zeros((70, 80, 20), np.float32)
    data[20:45, 30:50, 6:14] = 1
    return Volume(data, affine)


@pytest.mark.parametrize("way", ["affine", "bent"])
def test_points_and_masks_go_there_and_back(way, bent, native):
    transform = Transform(AFFINE) if way == "affine" else bent
    points = np.random.default_rng(0).uniform(-25, 40, (200, 3))
    np.testing.assert_allclose(
        transform.to_native(transform.to_mni(points)), points, atol=1e-9 if way == "affine" else 0.1
    )
    there = transform.bring_mask(native.data, native)
    back = transform.back(there, native) > 0.5
    overlap = 2 * (back & (native.data > 0)).sum() / (back.sum() + native.data.sum())
    assert overlap > 0.9
    # A voxel's middle goes where its point goes.
    centre = np.argwhere(native.data > 0).mean(axis=0)
    mm = nib.affines.apply_affine(native.affine, centre)[np.newaxis]
    found = nib.affines.apply_affine(GRID_AFFINE, np.argwhere(there).mean(axis=0))
    assert np.linalg.norm(transform.to_mni(mm)[0] - found) < 1.5


def test_a_deformation_bends(bent):
    points = np.random.default_rng(0).uniform(-40, 40, (200, 3))
    apart = np.linalg.norm(bent.to_mni(points) - Transform(AFFINE).to_mni(points), axis=1)
    assert 2 < np.median(apart) < 5.2


def test_files_of_a_transform_are_read_back(bent, tmp_path):
    folder = tmp_path / "sub-1"
    folder.mkdir()
    mni_patient.write_transform(folder, "sub-1", bent)
    again = mni_patient.read_transform(tmp_path, "sub-1")
    for field in dataclasses.fields(Transform):
        np.testing.assert_allclose(getattr(again, field.name), getattr(bent, field.name))
    warp_file(tmp_path, "sub-1", "forth").unlink()
    with pytest.raises(InputError, match="no such file"):
        mni_patient.read_transform(tmp_path, "sub-1")
    save_volume(warp_file(tmp_path, "sub-1", "forth"), np.zeros((4, 4, 4, 3)), GRID_AFFINE)
    with pytest.raises(InputError, match=r"shape \(4, 4, 4, 3\); expected"):
        mni_patient.read_transform(tmp_path, "sub-1")


def test_the_command_brings_a_mask_home(native, tmp_path, capsys):
    (tmp_path / "mni/sub-1").mkdir(parents=True)
    mni_patient.write_transform(tmp_path / "mni/sub-1", "sub-1", Transform(AFFINE))
    there = Transform(AFFINE).bring_mask(native.data, native)
    save_volume(tmp_path / "mask.nii.gz", there, GRID_AFFINE)
    save_volume(tmp_path / "dwi.nii.gz", native.data, native.affine)
    flags = {
        "cohort": tmp_path / "mni", "participant": "sub-1", "image": tmp_path / "mask.nii.gz",
        "like": tmp_path / "dwi.nii.gz", "out": tmp_path / "back.nii.gz",
    }  # fmt: skip

    def run(**changes):
        argv = [f"--{name}={value}" for name, value in (flags | changes).items()]
        return command.run(to_native.main, to_native.FLAGS, to_native.__doc__, argv)

    assert run() == command.EXIT_OK
    back = load_mask(tmp_path / "back.nii.gz")
    assert back.same_grid(native)
    overlap = 2 * (back.data * native.data).sum() / (back.data.sum() + native.data.sum())
    assert overlap > 0.9
    printed = capsys.readouterr().out
    mni_ml = there.sum() * VOXEL_ML / np.linalg.det(AFFINE[:3, :3])
    assert f"{back.data.sum() * native.voxel_ml:.2f} mL here, {mni_ml:.2f} mL on" in printed
    for changes, message in (
        ({"out": flags["like"]}, "--out is --like itself"),
        ({"out": "x.nii"}, "ends in .nii.gz"),
        ({"participant": "sub-2"}, "no such file"),
        ({"image": flags["like"]}, "expected the MNI grid"),
    ):
        assert run(**changes) == command.EXIT_BAD_INPUT
        assert message in capsys.readouterr().err


def test_the_grid_of_the_dwi_is_known_and_another_patients_is_warned_of(native, tmp_path, capsys):
    folder = tmp_path / "sub-1"
    folder.mkdir()
    mni_patient.write_transform(folder, "sub-1", Transform(AFFINE))
    save_volume(tmp_path / "there.nii.gz", np.zeros(GRID_SHAPE, bool), GRID_AFFINE)
    argv = [f"--cohort={tmp_path}", "--participant=sub-1", f"--image={tmp_path}/there.nii.gz",
            f"--out={tmp_path}/back.nii.gz"]  # fmt: skip

    def run(*more):
        return command.run(to_native.main, to_native.FLAGS, to_native.__doc__, [*argv, *more])

    assert run() == command.EXIT_BAD_INPUT
    assert "qc.json does not say the grid" in capsys.readouterr().err
    known = {"shape": native.data.shape, "affine": native.affine.tolist()}
    (folder / "qc.json").write_text(json.dumps(known))
    assert run() == command.EXIT_OK
    assert load_mask(tmp_path / "back.nii.gz").same_grid(native)
    assert capsys.readouterr().err == ""
    shifted = native.affine.copy()
    shifted[0, 3] += 5
    save_volume(tmp_path / "other.nii.gz", native.data, shifted)
    assert run(f"--like={tmp_path}/other.nii.gz") == command.EXIT_OK
    assert "wrong for another patient's" in capsys.readouterr().err
