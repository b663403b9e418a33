"""Simulated archives with every quirk of the real ones -> a cohort: voxels, sides, and never OT."""

import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from helpers.commands import call
from helpers.made_once import made_once
from scipy import ndimage

import data_tools.build_records as build_records_command
import data_tools.check_cohort as check_cohort_command
import data_tools.preprocess as preprocess_command
from benchmarks.public_import import compare
from data_tools.cohort import clinical_record, read_participants
from data_tools.import_public import __main__ as command_module
from data_tools.import_public import cohort_import, one_patient
from data_tools.import_public.sets import OT_IS_NO_TRUTH
from data_tools.simulate import write_layout
from data_tools.volumes import load_volume
from tf_hypoperfusion import plan
from tf_hypoperfusion.training import forecast
from tf_hypoperfusion.training.forecast import Rates

# Four patients of a set show the four orientations and all formats.
SETS = {
    "spes": dict(patients=5, testing=1, coarser=2),
    "isles2017": dict(patients=4, coarser=4, zipped=True),
    "isles2016": dict(patients=3, coarser=4),
    "isles2022": dict(patients=2, coarser=2),
}
TRAINING = {
    "spes": "SPES2015_Training", "isles2017": "ISLES2017_Training",
    "isles2016": "ISLES2016_Training", "isles2022": "ISLES-2022",
}  # fmt: skip


@pytest.fixture(scope="session")
def archives(tmp_path_factory):
    """The folder of each set's layout, by its key."""

    def make(folder):
        for key, options in SETS.items():
            write_layout(folder / key, key, seed=7, **options)

    folder = made_once(tmp_path_factory, "public_archives", make)
    return {key: folder / key for key in SETS}


@pytest.fixture
def importing(capsys):
    """Import as a user does; returns what was said."""

    def run(out, *sources, status=0, more=()):
        given = ",".join(map(str, sources))
        ended = call(command_module, f"--source={given}", f"--out={out}", *more)
        said = capsys.readouterr()
        assert ended == status, said.err
        return said

    return run


@pytest.fixture
def one_2017(archives, tmp_path):
    """A copy of one patient of ISLES 2017: the training folder, and the patient's."""
    root = tmp_path / "ISLES2017_Training"
    shutil.copytree(archives["isles2017"] / root.name / "training_2", root / "training_2")
    return root, root / "training_2"


def the(folder, word):
    """The one image below a folder in whose name a word stands."""
    (found,) = (p for p in folder.rglob(f"*{word}*") if p.is_file() and "license" not in p.name)
    return found


@pytest.mark.parametrize("key", ["spes", "isles2017", "isles2022"])
def test_voxels_and_sides_come_back_as_they_were_simulated(archives, importing, tmp_path, key):
    source = archives[key] / TRAINING[key]
    if key == "isles2017":
        source = source.with_suffix(".zip")
    importing(tmp_path / "c", source)
    lines = compare(tmp_path / "c", archives[key] / "truth", key)
    count = len({line["patient"] for line in lines})
    assert count == SETS[key]["patients"] - SETS[key].get("testing", 0)
    assert [line for line in lines if line["wrong"] or line.get("elsewhere")] == []
    seen = {line["orientation"] for line in lines if "orientation" in line}
    assert len(seen) == min(count, 4)
    description = json.loads((tmp_path / "c/dataset_description.json").read_text())
    assert "Simulated" in description["Name"] and "License" not in description
    rows = [clinical_record(row) for _, row in read_participants(tmp_path / "c").iterrows()]
    assert {row["age"] for row in rows} == {row["nihss"] for row in rows} == {None}
    assert {row["lacks"] for row in rows} == ({"ADC"} if key == "spes" else {None})
    made = {"spes": "side", "isles2017": "DWI, side", "isles2022": None}[key]
    assert {row["derived"] for row in rows} == {made}


def test_patients_of_the_archive_itself_are_real_and_have_its_licence(
    one_2017, importing, tmp_path
):
    importing(tmp_path / "c", one_2017[0])  # without the mark of simulated patients
    description = json.loads((tmp_path / "c/dataset_description.json").read_text())
    assert description["Name"] == "ISLES 2017 (real patients, public data), imported"
    assert "confirm" in description["License"] and description["SourceDatasets"][0]["URL"]


def test_a_folder_of_zip_files_as_a_browser_names_them(one_2017, importing, tmp_path):
    downloads = tmp_path / "my data"
    downloads.mkdir()
    packed = shutil.make_archive(str(tmp_path / "a"), "zip", one_2017[0].parent, one_2017[0].name)
    shutil.move(packed, downloads / "ISLES2017_Training (1).ZIP")
    importing(tmp_path / "c", downloads)
    assert list(read_participants(tmp_path / "c")["participant_id"]) == ["sub-isles2017train02"]


def test_nothing_of_a_voxel_moved_goes_unnoticed(archives, importing, tmp_path):
    """The comparison above can fail."""
    importing(tmp_path / "c", archives["spes"] / TRAINING["spes"])
    path = tmp_path / "c/derivatives/perfusion/sub-spestrain01/perf/sub-spestrain01_Tmax.nii.gz"
    image = nib.load(path)
    for data, affine, key in (
        (np.asarray(image.dataobj)[::-1], image.affine, "swapped"),
        (image.dataobj, image.affine + np.eye(4)[:, [3, 3, 3, 0]] * 2, "elsewhere"),
    ):
        nib.save(nib.Nifti1Image(np.asarray(data), affine), path)
        lines = compare(tmp_path / "c", archives["spes"] / "truth", "spes")
        assert [line["patient"] for line in lines if line.get(key)] == ["sub-spestrain01"]


def test_patients_of_2016_that_are_those_of_2017_are_kept_once(archives, importing, tmp_path):
    old, new = (archives[key] / TRAINING[key] for key in ("isles2016", "isles2017"))
    said = importing(tmp_path / "c", old, new)
    names = list(read_participants(tmp_path / "c")["participant_id"])
    kept = [f"sub-isles2017train0{k}" for k in (1, 2, 4, 5)]
    assert names == [*kept, "sub-isles2016train03"]
    assert sorted(p.name for p in (tmp_path / "c").glob("sub-*")) == sorted(names)
    for number in (1, 2):
        what = f"the same voxels as sub-isles2017train0{number}, who is kept"
        assert f"sub-isles2016train0{number}  copy: {what}" in said.out
    again = importing(tmp_path / "c", old, new)
    assert "5 patients in" in again.out and "(5 were done before)" in again.out
    assert list(read_participants(tmp_path / "c")["participant_id"]) == names


def test_flattened_mirrors_and_foreign_folders_are_read_alike(one_2017, importing, tmp_path):
    root, patient = one_2017
    importing(tmp_path / "c", root)
    for path in [p for p in patient.rglob("*.nii")]:
        word = "OT" if ".OT." in path.name else path.name.split(".")[4]
        path.rename(patient / f"{word}.nii")
    importing(tmp_path / "flat", root)
    one, other = (
        {p.name: p.read_bytes() for p in (tmp_path / each).rglob("*.nii.gz")}
        for each in ("c", "flat")
    )
    assert one == other and len(one) == 3


def rescale(path, factor):
    """Multiply the values of an image file."""
    image = load_volume(path, may_have_gaps=True)
    save_image(path, image.data * factor, image.affine)


def save_image(path, data, affine):
    """Write an image in place of another, in the format of its name."""
    if path.suffix == ".mha":
        path.unlink()
        path = path.with_suffix(".nii")
    nib.save(nib.Nifti1Image(data.astype(np.float32), affine), path)


# Ways to have OT taken as truth. Each gets the training folder and the patient's; it returns more
# arguments, and may return another source.
def by_another_set(root, patient):
    return ["--set=spes"]


def by_a_set_with_lesions(root, patient):
    return ["--set=isles2022"]


def by_its_name_as_the_set(root, patient):
    return ["--set=OT"]


def by_a_flag(root, patient):
    return ["--truth=OT"]


def by_a_mapping(root, patient):
    return ["--map=OT:Tmax"]


def by_its_own_folder(root, patient):
    return [f"--source={the(patient, '.OT.').parent}"]


def in_the_folder_of_tmax(root, patient):
    tmax, outcome = the(patient, "MR_Tmax"), the(patient, ".OT.")
    shutil.move(outcome, tmax.parent / outcome.name)
    tmax.unlink()
    return []


def under_the_name_of_tmax(root, patient):
    shutil.copy(the(patient, ".OT."), the(patient, "MR_Tmax"))
    return []


def changed(patient, change):
    image = nib.load(the(patient, ".OT."))
    data = change(np.asarray(image.dataobj, np.float32))
    nib.save(nib.Nifti1Image(data, image.affine), the(patient, "MR_Tmax"))
    return []


def as_seconds(root, patient):
    return changed(patient, lambda mask: mask * 7)


def blurred(root, patient):
    return changed(patient, lambda mask: ndimage.gaussian_filter(mask, 1) * 9)


def dressed_as_spes(root, patient):
    shutil.copy(the(patient, "MR_ADC"), patient / "MR_DWI.nii")
    shutil.rmtree(the(patient, "MR_ADC").parent)
    shutil.rmtree(the(patient, "4DPWI").parent)
    shutil.move(root, root.with_name("SPES2015_Training"))
    shutil.move(root.with_name("SPES2015_Training") / "training_2", root.with_name("x") / "2")
    return [f"--source={root.with_name('x')}", "--set=spes"]


def as_late_tissue(root, patient):
    """A whole map with values in all tissue, late where OT is."""
    outcome = np.asarray(nib.load(the(patient, ".OT.")).dataobj) > 0
    path = the(patient, "MR_Tmax")
    image = load_volume(path, may_have_gaps=True)
    data = np.where(outcome, 6 + image.data / 4, np.minimum(image.data, 5))
    save_image(path, data, image.affine)
    return []


def alone_as_the_label_of_spes(root, patient):
    """On voxels as those of SPES, by names as those of SPES."""
    folder = root.with_name("SPES2015_Training") / "2"
    folder.mkdir(parents=True)
    for word, name in (("MR_ADC", "MR_DWI"), ("MR_Tmax", "MR_Tmax"), (".OT.", "OT")):
        data = np.asarray(nib.load(the(patient, word)).dataobj, np.float32)
        nib.save(nib.Nifti1Image(data, np.diag([2, 2, 2, 1.0])), folder / f"{name}.nii")
    return [f"--source={folder.parent}"]


WAYS = (
    by_another_set, by_a_set_with_lesions, by_its_name_as_the_set, by_a_flag, by_a_mapping,
    by_its_own_folder, in_the_folder_of_tmax, under_the_name_of_tmax, as_seconds, blurred,
    dressed_as_spes, as_late_tissue, alone_as_the_label_of_spes,
)  # fmt: skip


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_ot_is_never_truth(one_2017, tmp_path, capsys, way):
    root, patient = one_2017
    more = way(root, patient)
    out = tmp_path / "c"
    assert call(command_module, f"--source={root}", f"--out={out}", *more) == 2
    said = capsys.readouterr().err
    assert "never" in said and "truth" in said and "OT" in said and "Traceback" not in said
    assert not list(out.rglob("*.nii.gz")) and not (out / "participants.tsv").exists()


def test_ot_among_the_labels_of_spes_is_no_truth_either(archives, importing, tmp_path):
    """An infarct in place of a label is smaller than the late tissue, or lies elsewhere."""
    root = tmp_path / "SPES2015_Training"
    shutil.copytree(archives["spes"] / root.name / "1", root / "1")
    path = next(p for p in root.rglob("*.nii") if ".OT." in p.name and "label" not in p.name)
    image = nib.load(path)
    infarct = ndimage.binary_erosion(np.asarray(image.dataobj), iterations=2)
    nib.save(nib.Nifti1Image(infarct.astype(np.uint8), image.affine), path)
    for other in root.rglob("*labels*.nii"):
        other.unlink()
    for other in root.rglob("*corelabel*.nii"):
        other.unlink()
    said = importing(tmp_path / "c", root, status=2)
    assert "never taken as truth" in said.err


def test_a_lone_label_of_spes_fails_and_without_labels_tmax_is_the_truth(
    archives, importing, tmp_path
):
    root = tmp_path / "SPES2015_Training"
    shutil.copytree(archives["spes"] / root.name / "1", root / "1")
    for other in [p for p in root.rglob("*label*") if p.is_file()]:
        other.unlink()
    said = importing(tmp_path / "c", root, status=2)
    assert "has no core label or merged labels beside it" in said.err and ".OT." in said.err
    the(root, ".OT.").unlink()
    importing(tmp_path / "d", root)
    assert not (tmp_path / "d/derivatives/labels").exists()


def test_an_ot_that_cannot_be_read_stops_nobody(one_2017, importing, tmp_path):
    root, patient = one_2017
    the(patient, ".OT.").write_bytes(b"damaged")
    importing(tmp_path / "c", root)
    assert "cannot be read, so Tmax was not compared" in (tmp_path / "c/imported.tsv").read_text()


def test_ot_named_as_a_label_of_2017_is_left_out_and_said(one_2017, importing, tmp_path):
    root, patient = one_2017
    shutil.copy(the(patient, ".OT."), patient / "penumbra.nii")
    importing(tmp_path / "c", root)
    assert not (tmp_path / "c/derivatives/labels").exists()
    table = (tmp_path / "c/imported.tsv").read_text()
    assert "penumbra.nii: penumbra label: this set has no label" in table
    assert "OT: infarct after about 90 days, never truth" in table


def test_one_bad_patient_does_not_stop_the_others_and_the_next_run_goes_on(
    archives, importing, tmp_path
):
    root, out = tmp_path / "ISLES2017_Training", tmp_path / "c"
    shutil.copytree(archives["isles2017"] / root.name, root)
    adc = the(root / "training_2", "MR_ADC")
    whole = adc.read_bytes()
    adc.write_bytes(whole[: len(whole) // 2])
    shutil.rmtree(the(root / "training_5", "MR_Tmax").parent)
    said = importing(out, root, status=1)
    assert "failed: sub-isles2017train02: " in said.err and "MR_ADC" in said.err
    assert str(out) not in said.err  # a copy's name would tell nobody anything
    assert "failed: sub-isles2017train05: " in said.err and "has no Tmax" in said.err
    assert list(read_participants(out)["participant_id"]) == [
        "sub-isles2017train01", "sub-isles2017train04"
    ]  # fmt: skip
    assert sorted(p.name for p in out.glob("sub-*")) == [
        "sub-isles2017train01", "sub-isles2017train04"
    ]  # fmt: skip
    adc.write_bytes(whole)
    (out / "sub-isles2017train04/dwi/sub-isles2017train04_ADC.nii.gz").write_bytes(b"damaged")
    said = importing(out, root, status=1)
    assert "3 patients in" in said.out and "(1 were done before)" in said.out
    assert not list(out.glob(".tmp-*"))


def test_a_killed_run_leaves_no_half_patient(archives, monkeypatch, tmp_path, importing):
    root, out = archives["spes"] / TRAINING["spes"], tmp_path / "c"
    real = one_patient.save_volume

    def stopping(path, *arguments):
        if "sub-spestrain03_Tmax" in str(path):
            raise KeyboardInterrupt
        real(path, *arguments)

    monkeypatch.setattr(one_patient, "save_volume", stopping)
    importing(out, root, status=130)
    assert not (out / "participants.tsv").exists() and not (out / "sub-spestrain03").exists()
    monkeypatch.setattr(one_patient, "save_volume", real)
    said = importing(out, root, more=["--workers=2"])
    assert "4 patients in" in said.out and "(2 were done before)" in said.out


def test_no_room_on_the_disk_is_said(archives, monkeypatch, tmp_path, importing):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(one_patient, "save_volume", full)
    said = importing(tmp_path / "c", archives["spes"] / TRAINING["spes"], status=2)
    assert "No space left" in said.err and "make room and run the same command again" in said.err


def test_a_folder_that_holds_something_else_is_left_as_it_is(archives, importing, tmp_path):
    spes, looks = (archives[key] / TRAINING[key] for key in ("spes", "isles2022"))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.doc").write_text("x")
    said = importing(tmp_path / "mine", spes, status=2)
    assert "was not written by this command" in said.err
    assert [p.name for p in (tmp_path / "mine").iterdir()] == ["thesis.doc"]
    importing(tmp_path / "c", looks)
    said = importing(tmp_path / "c", spes, status=2)
    assert "give all sources of the cohort at once" in said.err
    said = importing(tmp_path / "c", looks, looks, status=2)
    assert "the same zip or folder twice" in said.err


def test_tmax_in_tenths_is_brought_to_seconds_and_said(one_2017, importing, tmp_path):
    root, patient = one_2017
    path = the(patient, "MR_Tmax")
    image = nib.load(path)
    data = np.array(image.dataobj, np.float32)
    nib.save(nib.Nifti1Image(data * 10, image.affine), path)
    said = importing(tmp_path / "c", root)
    (made,) = (tmp_path / "c").rglob("*_Tmax.nii.gz")
    assert load_volume(made).data == pytest.approx(np.nan_to_num(data), rel=1e-6)
    told = "Tmax was in 1e-1 s by its values"
    assert told in (tmp_path / "c/imported.tsv").read_text()
    line, note, *_ = said.out.splitlines()
    assert line.startswith("sub-isles2017train02") and told in line
    assert "too few patients to confirm the unit of Tmax" in note and "train02 in 1e-1 s" in note


@pytest.mark.parametrize("key", ["isles2017", "spes"])
def test_one_whose_tmax_has_another_unit_than_the_set_fails(archives, importing, tmp_path, key):
    """A map of ten times the values, as TTP has, would have nobody late."""
    root, out = tmp_path / TRAINING[key], tmp_path / "c"
    shutil.copytree(archives[key] / root.name, root)
    folder = sorted(each for each in root.iterdir() if each.is_dir())[1]
    said = importing(out, root)
    assert "note:" not in said.out and "by its values" not in said.out
    rescale(the(folder, "MR_Tmax"), 10)
    said = importing(out, root, status=1)
    name = f"sub-{key}train02"
    assert (
        f"failed: {name}: Tmax " in said.err and "is in 1e-1 s by its values, and 3 of" in said.err
    )
    assert "4 patients of ISLES 20" in said.err and "have it in s" in said.err
    assert name not in set(read_participants(out)["participant_id"])
    assert not list(out.rglob(f"{name}*")) and len(read_participants(out)) == 3
    assert f"failed: {name}" in importing(out, root, status=1).err  # the next run finds it too


def test_a_whole_set_in_another_unit_is_brought_to_seconds_and_said(archives, importing, tmp_path):
    root = tmp_path / "ISLES2017_Training"
    shutil.copytree(archives["isles2017"] / root.name, root)
    for folder in root.glob("training_*"):
        rescale(the(folder, "MR_Tmax"), 1000)
    said = importing(tmp_path / "c", root)
    assert said.out.count("Tmax was in ms by its values, and was brought to s") == 4


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda data, affine: (data, moved(affine, 0.5)), "lies 0.5 mm"),
        (lambda data, affine: (data, np.diag([-1, 1, 1, 1.0]) @ affine), "moved, turned or mirro"),
        (lambda data, affine: (data, mirrored(affine, data.shape[0])), "moved, turned or mirrored"),
        (lambda data, affine: (data[3:], affine), "voxels, and"),
    ],
    ids=["moved", "mirrored", "mirrored in place", "cut"],
)
@pytest.mark.parametrize("key", ["isles2017", "spes"])
def test_a_tmax_on_another_grid_than_the_patients_fails(
    archives, importing, tmp_path, key, change, told
):
    root = tmp_path / TRAINING[key]
    folder = {"isles2017": "training_2", "spes": "2"}[key]
    shutil.copytree(archives[key] / root.name / folder, root / folder)
    path = the(root, "MR_Tmax")
    image = load_volume(path, may_have_gaps=True)
    save_image(path, image.data, moved(image.affine, 0.05))  # rounding of a format
    importing(tmp_path / "c", root)
    save_image(path, *change(image.data, image.affine))
    said = importing(tmp_path / "d", root, status=2)
    assert told in said.err and "MR_Tmax" in said.err and "expected one grid" in said.err


def moved(affine, by_mm):
    there = affine.copy()
    there[0, 3] += by_mm
    return there


def mirrored(affine, columns):
    """The same box of space, with left and right exchanged."""
    return affine @ np.array([[-1, 0, 0, columns - 1], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])


def test_half_a_tmax_map_is_said(one_2017, importing, tmp_path):
    root, patient = one_2017
    assert "Tmax is 0 in" not in importing(tmp_path / "c", root).out
    path = the(patient, "MR_Tmax")
    image = load_volume(path, may_have_gaps=True)
    image.data[: image.data.shape[0] // 2] = 0
    save_image(path, image.data, image.affine)
    line = importing(tmp_path / "d", root).out.splitlines()[0]
    assert line.startswith("sub-isles2017train02") and "% of the brain: please look" in line


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_brain_in_which_tmax_has_no_value_is_unknown_and_not_healthy(
    one_2017, importing, tmp_path, value
):
    root, patient = one_2017
    path = the(patient, "MR_Tmax")
    image = load_volume(path, may_have_gaps=True)
    late = image.data >= 6
    assert late.any()
    image.data[late] = value
    nib.save(nib.Nifti1Image(image.data, image.affine), path)
    said = importing(tmp_path / "c", root).out
    assert f"{late.sum() * image.voxel_ml:.1f} mL of the brain" in said and "as known there" in said
    name = "sub-isles2017train02"
    kept = nib.load(tmp_path / f"c/derivatives/perfusion/{name}/perf/{name}_Tmax.nii.gz")
    np.testing.assert_array_equal(np.isnan(kept.get_fdata()), late)


@pytest.mark.parametrize("other", ["TTP", "MTT"])
def test_a_set_whose_tmax_is_another_of_its_maps_fails(archives, importing, tmp_path, other):
    """Nobody's values stand out then, so no majority can tell."""
    root = tmp_path / "ISLES2017_Training"
    shutil.copytree(archives["isles2017"] / root.name, root)
    for folder in root.glob("training_*"):
        image = load_volume(the(folder, f"MR_{other}"), may_have_gaps=True)
        save_image(the(folder, "MR_Tmax"), image.data, image.affine)
    said = importing(tmp_path / "c", root, status=2).err
    assert said.count("so it is another map under the name of Tmax") == 4 and f"MR_{other}" in said


def test_a_set_without_any_late_tissue_is_doubted(archives, importing, tmp_path):
    root = tmp_path / "ISLES2017_Training"
    shutil.copytree(archives["isles2017"] / root.name, root)
    assert "nobody has" not in importing(tmp_path / "c", root).out
    for folder in root.glob("training_*"):
        path = the(folder, "MR_Tmax")
        image = load_volume(path, may_have_gaps=True)
        save_image(path, np.minimum(image.data, 5.5), image.affine)
    said = importing(tmp_path / "d", root).out
    assert "nobody has 1 mL of tissue with Tmax of 6 s" in said and "and no TTP?" in said


def test_a_mask_in_the_place_of_the_adc_map_is_called_so(one_2017, importing, tmp_path):
    root, patient = one_2017
    path = the(patient, "MR_ADC")
    image = load_volume(path, may_have_gaps=True)
    save_image(path, (image.data > 0).astype(np.float32), image.affine)
    said = importing(tmp_path / "c", root, status=2).err
    assert "MR_ADC" in said and "holds 1 value above 0" in said and "90 days" not in said


def test_messages_name_the_file_and_speak_of_ot_only_where_it_belongs(
    one_2017, importing, tmp_path
):
    root, patient = one_2017
    series, adc = the(patient, "4DPWI"), the(patient, "MR_ADC")
    image = nib.load(series)
    nib.save(nib.Nifti1Image(np.array(image.dataobj)[..., :2].copy(), image.affine), series)
    said = importing(tmp_path / "c", root, status=2).err
    assert f"{series.name}: 2 frames cannot show a bolus" in said and "90 days" not in said
    shutil.rmtree(adc.parent)
    said = importing(tmp_path / "c", root, status=2).err
    assert "has no ADC; expected" in said and "90 days" not in said
    said = importing(tmp_path / "c", root, status=2, more=["--set=isles2016"]).err
    assert "leave --set out" in said and "90 days" not in said


def test_a_comma_in_a_path_is_told(importing, tmp_path):
    said = importing(tmp_path / "c", "Data, mine/ISLES2017.zip", status=2).err
    assert "Commas separate sources, so these are 2: Data; mine/ISLES2017.zip" in said


def test_the_table_says_what_was_taken_derived_and_left_out(one_2017, importing, tmp_path):
    importing(tmp_path / "c", one_2017[0])
    head, line = (tmp_path / "c/imported.tsv").read_text().splitlines()
    assert head.split("\t") == list(cohort_import.COLUMNS)
    row = dict(zip(head.split("\t"), line.split("\t"), strict=True))
    assert row["state"] == "imported" and "S0 exp(-b ADC)" in row["derived"]
    assert "MR_Tmax" in row["taken"] and ".OT." in row["left_out"]
    assert "ADC is in 1e-6 mm2/s by its values" in row["notes"]
    written = {p.name for p in (tmp_path / "c").rglob("*") if p.is_file()}
    assert not any("OT" in name or "4DPWI" in name for name in written)


@pytest.fixture(scope="session")
def prepared(archives, tmp_path_factory):
    """SPES, whose patients lack the ADC, and ISLES 2017 in one MNI cohort, and the raw one."""

    def make(folder):
        sources = [str(archives[key] / TRAINING[key]) for key in ("spes", "isles2017")]
        cohort_import.import_sets(sources, folder / "raw")
        assert (
            call(preprocess_command, f"--cohort={folder / 'raw'}", f"--out={folder / 'mni'}") == 0
        )

    return made_once(tmp_path_factory, "public_prepared", make)


def test_the_chain_takes_patients_without_adc_and_says_what_is_derived(prepared, tmp_path, capsys):
    for cohort in ("raw", "mni"):
        assert call(check_cohort_command, f"--cohort={prepared / cohort}") == 0
        said = capsys.readouterr().out
        assert "8 patients" in said and "none 4" in said
    quality = json.loads((prepared / "mni/sub-spestrain01/qc.json").read_text())
    assert quality["adc_unit_in_file"] is None and quality["derived"] == "side"
    assert quality["core_native_ml"] > 0  # the label's
    quality = json.loads((prepared / "mni/sub-isles2017train01/qc.json").read_text())
    assert quality["derived"] == "DWI, side"
    out = tmp_path / "records"
    assert call(build_records_command, f"--cohort={prepared / 'mni'}", f"--out={out}",
                "--folds=3", "--stride=16") == 0  # fmt: skip
    manifest = json.loads((out / "manifest.json").read_text())
    rows = {row["participant_id"]: row for row in manifest["patients"]}
    spes, isles = rows["sub-spestrain01"], rows["sub-isles2017train01"]
    assert (spes["derived"], isles["derived"]) == ("side", "DWI, side")
    assert spes["lacks"] == "ADC" and spes["core_truth_from"] == "known mask"
    assert spes["truth_from"] == "edited mask" and isles["truth_from"] == "Tmax"
    assert min(spes["truth_ml"], spes["core_truth_ml"], isles["truth_ml"]) > 1


def test_what_is_derived_reaches_the_settings_that_the_model_card_shows():
    from data_tools.manifest import Manifest
    from tf_hypoperfusion.training.settings import RecordsUsed

    def used(*patients):
        rows = tuple({"participant_id": f"sub-{k}"} | each for k, each in enumerate(patients))
        manifest = Manifest(
            schema_version=1, cohort="A", fingerprint="f", slabs=0, subsets=(), patients=rows
        )
        return RecordsUsed.of(manifest).to_json()

    assert used({}, {"derived": None}) == {"fingerprint": "f", "cohort": "A"}
    known = used({"derived": "DWI, side"}, {"derived": "side", "lacks": "ADC"}, {})
    assert known["derived"] == {"DWI": 1, "side": 2, "without ADC": 1}


def test_a_patient_who_lacks_the_adc_by_mistake_is_still_a_fault(prepared, tmp_path, capsys):
    shutil.copytree(prepared / "raw", tmp_path / "raw")
    table = tmp_path / "raw/participants.tsv"
    table.write_text(table.read_text().replace("\tADC\t", "\tn/a\t"))
    assert call(check_cohort_command, f"--cohort={tmp_path / 'raw'}") == 2
    assert "no sub-spestrain01_*_ADC.nii.gz" in capsys.readouterr().err


def test_the_sentence_about_ot_says_why():
    assert "infarct" in OT_IS_NO_TRUTH and "not the tissue that was hypoperfused" in OT_IS_NO_TRUTH


def test_layouts_refuse_what_they_cannot_write(tmp_path):
    from data_tools.runtime.errors import InputError

    for arguments, told in (
        (("isles2017", 44, 1), "43 training"),
        (("isles2018", 1, 1), "layout is 'isles2018'"),
        (("spes", 1, -1), "seed is -1"),
    ):
        with pytest.raises(InputError, match=told):
            write_layout(tmp_path / "x", *arguments)
    assert not Path(tmp_path / "x").exists()


def test_a_plan_counts_who_can_be_learnt_from(archives, monkeypatch, capsys):
    rates = Rates(
        patient_s=36.0, step_s=1.0, slab_s=0.25, mni_gb=0.01, records_gb=0.02, network_gb=0.1
    )
    monkeypatch.setattr(forecast, "measure", lambda configs, stride, log: rates)
    both = [archives[key] / TRAINING[key] for key in ("isles2017", "isles2022")]
    assert call(plan, f"--source={both[0]},{both[1]}", "--preset=tiny") == 0
    assert "4 patients, preset tiny" in capsys.readouterr().out
    assert call(plan, f"--source={both[1]}", "--preset=tiny") == 2
    assert "nobody there has a Tmax map" in capsys.readouterr().err
    number, size_gb = cohort_import.count([str(both[0])])
    images = [p for p in both[0].rglob("*") if p.is_file() and "4DPWI" not in p.name]
    assert number == 4 and 0 < size_gb <= sum(p.stat().st_size for p in images) / 1e9
