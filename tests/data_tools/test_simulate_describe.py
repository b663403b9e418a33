"""Real cores, the description of a simulated cohort, and the validity of the raw form."""

import gzip
import json
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from data_tools.runtime.errors import InputError
from data_tools.simulate import real_cores, simulate_cohort
from data_tools.simulate.anatomy import MODEL_VOXEL_ML
from data_tools.simulate.description import describe
from data_tools.simulate.measure import measure, read_mni


@pytest.fixture(scope="module")
def masks(tmp_path_factory):
    """A ball of 10 mL in the left MCA territory, and one in the left cerebellum; 2 mm, LAS."""
    folder = tmp_path_factory.mktemp("masks")
    affine = np.diag([-2.0, 2, 2, 1])
    affine[:3, 3] = (90, -126, -72)
    mm = np.indices((91, 109, 91)).reshape(3, -1).T @ affine[:3, :3].T + affine[:3, 3]
    for name, centre in (("a", (-50, -10, 10)), ("b", (-25, -65, -40))):
        ball = (((mm - centre) ** 2).sum(axis=1) < 13.4**2).reshape(91, 109, 91)
        image = nib.Nifti1Image(ball.astype(np.uint8), affine)
        (folder / f"{name}.nii.gz").write_bytes(gzip.compress(image.to_bytes(), mtime=0))
    return folder


@pytest.mark.parametrize("side", ["left", "right"])
def test_real_core_comes_from_the_mca_territory_on_the_wanted_side(masks, side):
    mask = real_cores.choose(np.random.default_rng(0), masks, 10.0, side) > 0.5
    assert mask.sum() * MODEL_VOXEL_ML == pytest.approx(10, rel=0.1)
    middle = mask.shape[0] // 2
    assert mask[:middle].any() == (side == "left")
    assert mask[middle + 1 :].any() == (side == "right")


def test_masks_are_found_in_a_tar_too(masks, tmp_path):
    with tarfile.open(tmp_path / "masks.tar", "w") as tar:
        for path in sorted(masks.iterdir()):
            tar.add(path, path.name)
    found = real_cores.find(tmp_path)
    assert found.names == ("a.nii.gz", "b.nii.gz")
    for number in (0, 1):
        packed = real_cores.load(found, number)
        plain = real_cores.load(real_cores.find(masks), number)
        assert np.array_equal(packed[0], plain[0]) and np.array_equal(packed[1], plain[1])


def test_no_core_wanted_gives_none(masks):
    assert not real_cores.choose(np.random.default_rng(0), masks, 0.0, "left").any()


def test_lesion_folder_without_masks_is_refused(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        real_cores.find(tmp_path / "nowhere")
    with pytest.raises(InputError, match="neither .nii.gz files nor a .tar"):
        real_cores.find(tmp_path)
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    (damaged / "x.nii.gz").write_bytes(b"no gzip")
    with pytest.raises(InputError, match="x.nii.gz is not a readable NIfTI"):
        real_cores.load(real_cores.find(damaged), 0)
    packed = tmp_path / "packed"
    packed.mkdir()
    (packed / "x.tar").write_bytes(b"no tar at all")
    with pytest.raises(InputError, match="not a readable tar"):
        real_cores.find(packed)


def test_published_masks_serve_as_cores(real_data, tmp_path):
    folder = simulate_cohort(tmp_path / "c", 1, 4, space="mni", lesions=real_data / "soop_lesions")
    description = json.loads((folder / "dataset_description.json").read_text())
    assert "719 real core masks" in description["GeneratedBy"][0]["Description"]
    with pytest.raises(InputError, match="another dataset"):
        simulate_cohort(folder, 1, 4, space="mni")


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return simulate_cohort(tmp_path_factory.mktemp("c") / "mni", 3, 8, space="mni")


def test_description_is_written_with_every_line_of_table_1(cohort, tmp_path):
    lines = describe(str(cohort), str(tmp_path / "d"))
    names = {path.name for path in (tmp_path / "d").iterdir()}
    assert names == {"table.md", "table.csv", "figure.png", "patients.csv"}
    text = (tmp_path / "d" / "table.md").read_text()
    for line in lines:
        assert f"| {line.what} | {line.published} | {line.simulated} |" in text
    whats = " ".join(line.what for line in lines)
    for word in ("age", "male", "M2", "left", "NIHSS", "core", "ratio", "DEFUSE 3", "DAWN", "rho"):
        assert word in whats
    assert (tmp_path / "d" / "figure.png").read_bytes().startswith(b"\x89PNG")
    assert "simulated" in text.lower()
    assert len((tmp_path / "d" / "patients.csv").read_text().splitlines()) == 4


def test_measured_volumes_are_those_of_the_labels(cohort):
    from data_tools.grid import VOXEL_ML
    from data_tools.labels import make_labels

    images = read_mni(cohort, 1)
    made = make_labels(
        images.dwi,
        images.adc_um2_per_s,
        images.tmax_s,
        brain=images.brain,
        coverage=images.coverage,
        voxel_ml=VOXEL_ML,
    )
    found = measure(images, "left")
    assert found.core_ml == made.core.sum() * VOXEL_ML
    assert found.hypoperfusion_ml == made.truth.sum() * VOXEL_ML
    assert found.hypoperfusion_ml >= found.core_ml * 0.99 or not made.coverage.all()


def test_describing_an_unfinished_cohort_is_refused(tmp_path):
    with pytest.raises(InputError, match="participants.tsv"):
        describe(str(tmp_path))


def test_raw_cohort_is_valid_bids(tmp_path):
    beside_python = str(Path(sys.executable).parent)
    validator = shutil.which("bids-validator-deno", path=beside_python)
    if validator is None:
        pytest.skip("bids-validator-deno is not installed (extra test)")
    folder = simulate_cohort(tmp_path / "raw", 2, 8)
    run = subprocess.run([validator, "--json", str(folder)], capture_output=True, text=True)
    issues = json.loads(run.stdout)["issues"]["issues"]
    assert not [issue for issue in issues if issue.get("severity") == "error"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("origin", "does not hold the MNI brain, so it is not in MNI space"),
        ("values", "is no mask: expected 0 and one other value"),
        ("affine", "has no usable affine"),
        ("stream", "is not a readable NIfTI file"),
        ("place", "none of its 1 masks has 0.5 mL or more"),
    ],
)
def test_masks_that_are_not_in_mni_are_refused(masks, tmp_path, change, message):
    image = nib.Nifti1Image.from_bytes(gzip.decompress((masks / "b.nii.gz").read_bytes()))
    data, affine = np.asarray(image.dataobj), image.affine.copy()
    if change == "origin":
        affine[:3, 3] = 0
    if change == "affine":
        affine[0] = 0
    if change == "values":
        data = np.linspace(0, 1, data.size, dtype=np.float32).reshape(data.shape)
    changed = nib.Nifti1Image(data, None)
    changed.header.set_sform(affine, 4)
    content = gzip.compress(changed.to_bytes(), mtime=0)
    if change == "stream":
        content = content[:10] + bytes(range(200))
    (tmp_path / "x.nii.gz").write_bytes(content)
    if change != "place":  # found before anything is written
        with pytest.raises(InputError, match=message):
            real_cores.check(tmp_path)
    with pytest.raises(InputError, match=message):
        real_cores.choose(np.random.default_rng(0), tmp_path, 10.0, "left")


def test_a_lesion_folder_is_known_again_by_its_masks(masks, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    for folder, name in ((one, "a"), (two, "b")):
        folder.mkdir()
        shutil.copy(masks / f"{name}.nii.gz", folder)
    assert real_cores.describe(one) != real_cores.describe(two)
    assert real_cores.describe(one).startswith("1 real core masks, ")


def test_description_finds_patients_by_name_not_by_row(cohort, tmp_path):
    """participants.tsv in another order describes the same patients."""
    import pandas as pd

    shutil.copytree(cohort, tmp_path / "c")
    table = tmp_path / "c/participants.tsv"
    rows = table.read_text().splitlines()
    table.write_text("\n".join([rows[0], *reversed(rows[1:])]) + "\n")
    for folder, out in ((cohort, "plain"), (tmp_path / "c", "turned")):
        describe(str(folder), str(tmp_path / out))
    plain, turned = (
        pd.read_csv(tmp_path / f"{out}/patients.csv").set_index("participant_id").sort_index()
        for out in ("plain", "turned")
    )
    pd.testing.assert_frame_equal(plain, turned)


def test_description_of_a_native_or_missing_cohort_makes_no_folder(raw_cohort, tmp_path):
    with pytest.raises(InputError, match="native space; expected one in MNI space"):
        describe(str(raw_cohort))
    assert not (raw_cohort / "description").exists()
    with pytest.raises(InputError):
        describe(str(tmp_path / "none"))
    assert not (tmp_path / "none").exists()
