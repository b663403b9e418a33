"""MNI cohort -> records: the same bytes each time, all of it or nothing, every fault named."""

import json
import shutil

import numpy as np
import pytest
import tensorflow as tf
from scipy import ndimage

from data_tools import build_records, flow, grid, intensity, records, records_builder, subset_table
from data_tools import cohort as cohorts
from data_tools.cohort import mni_file, transform_file
from data_tools.runtime import atomic, command
from data_tools.runtime.errors import InputError
from data_tools.volumes import load_mask, load_volume, save_volume

pytestmark = pytest.mark.core

# Those of the shared ``records_dir``.
OPTIONS = {"stride": 16, "shards": 2, "seed": 1, "stratify": "none"}


@pytest.fixture
def cohort(mni_cohort, tmp_path):
    """A copy of the six simulated patients that a test may change."""
    return shutil.copytree(mni_cohort, tmp_path / "cohort")


def build(cohort, out, **options):
    return records_builder.build(str(cohort), str(out), **(OPTIONS | options))


def contents(folder):
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def slabs_of(folder, participant):
    """A patient's parsed slabs by z_start, and the shards they came from."""
    found, shards = {}, set()
    for path in sorted(folder.glob("subset-*/*.tfrecord")):
        for slab in tf.data.TFRecordDataset(str(path)).map(records.parse_slab):
            if slab["participant"].numpy().decode() == participant:
                found[int(slab["z_start"])] = {name: v.numpy() for name, v in slab.items()}
                shards.add(path)
    return found, shards


@pytest.mark.parametrize("workers", [1, 2])
def test_the_same_cohort_gives_the_same_bytes(mni_cohort, records_dir, tmp_path, workers):
    build(mni_cohort, tmp_path / "again", workers=workers)
    assert contents(tmp_path / "again") == contents(records_dir)


def test_manifest_counts_what_is_there(records_dir):
    manifest = records.load_manifest(records_dir)
    splits = json.loads((records_dir / "splits.json").read_text())
    assert splits["subsets"] == [list(subset.participants) for subset in manifest.subsets]
    assert manifest.slabs == 6 * 4
    for k, subset in enumerate(manifest.subsets):
        counted = 0
        for shard in subset.shards:
            assert shard.file.startswith(f"subset-{k}/slabs-0000")
            path = records_dir / shard.file
            found = sum(1 for _ in tf.data.TFRecordDataset(str(path)))
            assert found == shard.slabs
            counted += found
        assert counted == subset.slabs == 4 * len(subset.participants)
    assert sorted(p["participant_id"] for p in manifest.patients) == sorted(
        name for subset in splits["subsets"] for name in subset
    )
    assert manifest.left_out == ()


def test_slabs_hold_the_patients_normalised_images(mni_cohort, records_dir):
    manifest = records.load_manifest(records_dir)
    patient = manifest.patients[2]
    name = patient["participant_id"]
    slabs, shards = slabs_of(records_dir, name)
    assert sorted(slabs) == [0, 16, 32, 44]
    assert len(shards) == 1
    dwi, adc = (load_volume(mni_file(mni_cohort, name, which)).data for which in ("dwi", "adc"))
    brain, coverage, core = (
        load_mask(mni_file(mni_cohort, name, f"desc-{which}_mask")).data > 0
        for which in ("brain", "coverage", "core")
    )
    tissue = brain & (adc > 0) & (adc < 2000)
    truth = np.zeros((91, 109, 60))
    for start, slab in slabs.items():
        cut = slice(start, start + 16)
        expected = (dwi * brain / dwi[tissue].mean())[:, :, cut]
        np.testing.assert_allclose(grid.from_frame(slab["dwi"]), expected, rtol=1e-3, atol=1e-5)
        expected = (adc * tissue / adc[tissue].mean())[:, :, cut]
        np.testing.assert_allclose(grid.from_frame(slab["adc"]), expected, rtol=1e-3, atol=1e-5)
        expected = brain & (adc > 0) & (adc < 620)
        np.testing.assert_array_equal(grid.from_frame(slab["adc_mask"]), expected[:, :, cut])
        expected = (core & coverage)[:, :, cut]
        np.testing.assert_array_equal(grid.from_frame(slab["core"]), expected)
        assert slab["adc_mean_um2_per_s"] == pytest.approx(adc[tissue].mean(), rel=1e-6)
        assert grid.SIDES[slab["side"]] == patient["side"]
        assert slab["nihss"] == pytest.approx(intensity.nihss_feature(patient["nihss"]))
        inside = np.count_nonzero(grid.from_frame(slab["dwi"]))
        assert np.count_nonzero(slab["dwi"]) == inside  # the margin is 0
        truth[:, :, cut] = grid.from_frame(slab["truth"])
    assert patient["truth_ml"] == pytest.approx(truth.sum() * 0.008, abs=0.001)


def fail_at(monkeypatch, module, name, call):
    """Let the given call of ``module.name`` raise, as a kill would."""
    original, calls = getattr(module, name), []

    def function(*arguments, **options):
        calls.append(1)
        if len(calls) == call:
            raise KeyboardInterrupt("killed")
        return original(*arguments, **options)

    monkeypatch.setattr(module, name, function)


@pytest.mark.parametrize(
    ("module", "name", "call"),
    [(records, "write_shard", 3), (records, "encode_slab", 7), (atomic, "write_json", 2)],
)
def test_a_killed_build_leaves_no_records(mni_cohort, tmp_path, monkeypatch, module, name, call):
    fail_at(monkeypatch, module, name, call)
    with pytest.raises(KeyboardInterrupt, match="killed"):
        build(mni_cohort, tmp_path / "records")
    assert list(tmp_path.iterdir()) == []


def test_a_killed_rebuild_keeps_the_old_records(mni_cohort, records_dir, tmp_path, monkeypatch):
    out = shutil.copytree(records_dir, tmp_path / "records")
    fail_at(monkeypatch, records, "write_shard", 3)
    with pytest.raises(KeyboardInterrupt, match="killed"):
        build(mni_cohort, out, stride=8, overwrite=True)
    assert contents(out) == contents(records_dir)
    assert [path.name for path in tmp_path.iterdir()] == ["records"]


def test_records_of_the_same_settings_are_kept(mni_cohort, records_dir):
    before = {path: path.stat().st_mtime_ns for path in records_dir.rglob("*")}
    manifest, kept = build(mni_cohort, records_dir)
    assert kept
    assert manifest == records.load_manifest(records_dir)
    assert {path: path.stat().st_mtime_ns for path in records_dir.rglob("*")} == before


def test_records_know_where_their_cohort_is_now(mni_cohort, records_dir, tmp_path):
    assert records.load_manifest(records_dir).cohort_folder == str(mni_cohort.resolve())
    assert records.load_manifest(records_dir).licence == "CC0"
    moved = shutil.copytree(mni_cohort, tmp_path / "moved")
    said = json.loads((moved / "dataset_description.json").read_text())
    (moved / "dataset_description.json").write_text(json.dumps(said | {"License": "CC BY 4.0"}))
    out = shutil.copytree(records_dir, tmp_path / "records")
    manifest, kept = build(moved, out)
    assert kept and manifest.cohort_folder == str(moved.resolve())
    assert manifest.licence == "CC BY 4.0"
    assert records.load_manifest(out) == manifest
    early = json.loads((out / "manifest.json").read_text())
    del early["cohort_folder"]
    (out / "manifest.json").write_text(json.dumps(early))
    assert records.load_manifest(out).cohort_folder is None
    assert build(moved, out) == (manifest, True)


def test_other_settings_need_overwrite(mni_cohort, records_dir, tmp_path):
    out = shutil.copytree(records_dir, tmp_path / "records")
    with pytest.raises(InputError, match="other patients or settings; give --overwrite"):
        build(mni_cohort, out, seed=2)
    assert contents(out) == contents(records_dir)
    manifest, kept = build(mni_cohort, out, seed=2, overwrite=True)
    assert not kept
    assert records.load_manifest(out) == manifest
    assert manifest.settings.seed == 2


def test_a_strangers_folder_is_never_overwritten(mni_cohort, tmp_path):
    (tmp_path / "thesis.txt").write_text("x")
    with pytest.raises(InputError, match="is not empty; give another --out"):
        build(mni_cohort, tmp_path, overwrite=True)
    with pytest.raises(InputError, match="is a file; give another --out"):
        build(mni_cohort, tmp_path / "thesis.txt", overwrite=True)
    assert (tmp_path / "thesis.txt").read_text() == "x"


def edit_table(cohort, **columns):
    """Fill columns of participants.tsv, each with words by patient; n/a for the others."""
    table = cohorts.read_participants(cohort)
    rows = [cohorts.clinical_record(row) for _, row in table.iterrows()]
    for row in rows:
        row.update({name: of.get(row["participant_id"], row[name]) for name, of in columns.items()})
    cohorts.write_participants(cohort / "participants.tsv", rows)


def test_whom_the_steps_before_left_out_is_in_the_manifest(cohort, tmp_path, capsys):
    """An edit of the MNI cohort's own table counts too; patients left out need no files."""
    failed = flow.LeftOut(participant_id="sub-0099", step=flow.PREPROCESS, reason="DWI is 2D")
    flow.write(cohort, [failed])
    edit_table(cohort, exclude={"sub-0002": "poor bolus"}, occlusion={"sub-0004": "BA"})
    shutil.rmtree(cohort / "sub-0002")
    out, more = tmp_path / "records", ("--stride=16", "--shards=2", "--folds=3", "--stratify=none")
    assert run(f"--cohort={cohort}", f"--out={out}", *more) == command.EXIT_OK
    printed = capsys.readouterr().out
    assert "  left out, excluded by hand: sub-0002\n" in printed
    assert "  left out, images that could not be used: sub-0099\n" in printed
    manifest = records.load_manifest(out)
    told = {each.participant_id: (each.step, each.reason) for each in manifest.left_out}
    assert told == {
        "sub-0099": (flow.PREPROCESS, "DWI is 2D"),
        "sub-0002": (flow.EXCLUDED, "poor bolus"),
        "sub-0004": (flow.TERRITORY, "occlusion of the BA"),
    }
    assert sorted(manifest.rows()) == ["sub-0001", "sub-0003", "sub-0005", "sub-0006"]
    # The step before was run again, and gives another reason: the slabs are the same.
    flow.write(cohort, [flow.LeftOut(participant_id="sub-0099", step=flow.EXCLUDED, reason="x")])
    again, kept = build(cohort, out, folds=3)
    assert kept and again.left_out[0].step == flow.EXCLUDED
    assert records.load_manifest(out) == again
    of_no_step = {"left_out": [{"participant_id": "sub-0099", "step": [], "reason": "x"}]}
    for content in ("no json", json.dumps(of_no_step)):
        (cohort / flow.FILE).write_text(content)
        with pytest.raises(InputError, match=r"left_out.json: cannot be read, so nobody knows who"):
            build(cohort, out, folds=3)


def test_strokes_of_other_territories_are_in_where_asked_for(cohort, records_dir, tmp_path):
    edit_table(cohort, occlusion={"sub-0004": "PCA"})
    without, _ = build(cohort, tmp_path / "records", folds=3)
    assert "sub-0004" not in without.rows() and len(without.left_out) == 1
    with pytest.raises(InputError, match="records of other patients or settings"):
        build(cohort, tmp_path / "records", folds=3, other_territories=True)
    all_of_them, _ = build(cohort, tmp_path / "records", folds=3, other_territories=True,
                           overwrite=True)  # fmt: skip
    assert all_of_them.rows()["sub-0004"]["occlusion"] == "PCA" and not all_of_them.left_out
    assert all_of_them.settings.other_territories
    assert all_of_them.fingerprint != without.fingerprint
    # Asked for or not: of a cohort without such strokes the early fingerprint stands.
    assert "other_territories" not in records_builder._made_with(without.settings)


def test_an_edited_mask_wins_and_a_patient_without_truth_is_left_out(cohort, tmp_path):
    edited = np.zeros(grid.GRID_SHAPE, bool)
    edited[40:50, 50:60, 30:40] = True
    save_volume(mni_file(cohort, "sub-0001", "desc-truth_mask"), edited, grid.GRID_AFFINE)
    mni_file(cohort, "sub-0001", "tmax").unlink()
    mni_file(cohort, "sub-0002", "tmax").unlink()
    manifest, _ = build(cohort, tmp_path / "records")
    patients = manifest.rows()
    assert manifest.left_out == (flow.without_truth("sub-0002"),)
    assert sorted(patients) == ["sub-0001", "sub-0003", "sub-0004", "sub-0005", "sub-0006"]
    assert patients["sub-0001"]["truth_from"] == "edited truth"
    assert patients["sub-0003"]["truth_from"] == "Tmax"
    covered = load_mask(mni_file(cohort, "sub-0001", "desc-coverage_mask")).data[edited].sum()
    assert patients["sub-0001"]["truth_ml"] == pytest.approx(covered * 0.008, abs=0.001)
    mni_file(cohort, "sub-0001", "desc-truth_mask").rename(
        mni_file(cohort, "sub-0001", "desc-hypoperfusion_mask")
    )
    united = build(cohort, tmp_path / "united")[0].rows()["sub-0001"]
    assert united["truth_from"] == "edited mask"
    core_ml = united["core_ml"]
    assert 0 < core_ml <= united["truth_ml"] <= patients["sub-0001"]["truth_ml"] + core_ml + 1e-6
    save_volume(mni_file(cohort, "sub-0001", "desc-truth_mask"), edited, grid.GRID_AFFINE)
    with pytest.raises(InputError, match="sub-0001: holds desc-hypoperfusion_mask and desc-truth"):
        build(cohort, tmp_path / "both")
    mni_file(cohort, "sub-0001", "desc-truth_mask").unlink()
    for name in ("sub-0003", "sub-0004"):
        mni_file(cohort, name, "tmax").unlink()
    with pytest.raises(InputError, match="3 patients cannot be split into 5 subsets"):
        build(cohort, tmp_path / "too few")


def test_a_patient_without_a_core_file_learns_the_rules_core(cohort, records_dir, tmp_path):
    before = records.load_manifest(records_dir).rows()
    name = max(before, key=lambda who: before[who]["core_ml"])
    mni_file(cohort, name, "desc-core_mask").unlink()
    manifest, _ = build(cohort, tmp_path / "records")
    after = manifest.rows()[name]
    assert (before[name]["core_truth_from"], after["core_truth_from"]) == (
        "known mask", "ADC and DWI"
    )  # fmt: skip
    assert after["core_truth_ml"] == after["core_ml"] != before[name]["core_truth_ml"]
    assert {key: after[key] for key in ("core_ml", "truth_ml", "hypoperfusion_ml")} == {
        key: before[name][key] for key in ("core_ml", "truth_ml", "hypoperfusion_ml")
    }
    slabs, _ = slabs_of(tmp_path / "records", name)
    learnt = {start: slab["core"].sum() for start, slab in slabs.items()}
    assert sum(learnt[start] for start in (0, 16, 32)) * 0.008 <= after["core_ml"] > 1


def test_labels_can_end_at_the_midline(cohort, records_dir, tmp_path):
    """A delay of the other half is truth, unless the cohort's labels.json says otherwise."""
    old = records.load_manifest(records_dir).patients[0]
    name = old["participant_id"]
    path = mni_file(cohort, name, "tmax")
    tmax, brain = load_volume(path), load_mask(mni_file(cohort, name, "desc-coverage_mask"))
    other = ~grid.hemisphere(old["side"])
    tmax.data[other & (brain.data > 0)] = 9
    save_volume(path, tmax.data, tmax.affine)
    manifests = {}
    for within in (False, True):
        atomic.write_json(cohort / "labels.json", {"within_stroke_side": within})
        manifests[within], kept = build(cohort, tmp_path / str(within))
        assert not kept and manifests[within].labels == {"within_stroke_side": within}
    truth_ml = {within: m.rows()[name]["truth_ml"] for within, m in manifests.items()}
    assert truth_ml[True] <= old["truth_ml"] < truth_ml[False]
    slabs, _ = slabs_of(tmp_path / "True", name)
    truth = max(slabs.values(), key=lambda slab: slab["truth"].sum())["truth"]
    half = grid.side_frame(old["side"])
    assert truth.any() and not truth[half == 0].any()
    (cohort / "labels.json").write_text('{"within_stroke_side": "yes"}')
    with pytest.raises(InputError, match="labels.json: expected"):
        build(cohort, tmp_path / "odd")


def test_all_faulty_patients_are_named_and_nothing_is_written(cohort, tmp_path):
    adc = load_volume(mni_file(cohort, "sub-0002", "adc"))
    save_volume(mni_file(cohort, "sub-0002", "adc"), adc.data * 1e-3, adc.affine)
    dwi = load_volume(mni_file(cohort, "sub-0004", "dwi"))
    save_volume(mni_file(cohort, "sub-0004", "dwi"), dwi.data[::-1], dwi.affine * [-1, 1, 1, 1])
    mni_file(cohort, "sub-0005", "desc-brain_mask").unlink()
    with pytest.raises(InputError) as caught:
        build(cohort, tmp_path / "records")
    first, *lines = str(caught.value).splitlines()
    assert first == "3 patients cannot be used; nothing was written:"
    assert "sub-0002: the ADC volume is in 1e-3 mm2/s; an MNI cohort holds ADC in 1e-6" in lines[0]
    assert lines[1].startswith("sub-0004: dwi ")
    assert "orientation LAS; expected the MNI grid" in lines[1]
    assert lines[2].startswith("sub-0005: desc-brain_mask ")
    assert "no such file" in lines[2]
    assert [path.name for path in tmp_path.iterdir()] == ["cohort"]


def test_a_defect_at_one_patient_is_named_with_the_faults_of_others(cohort, tmp_path, monkeypatch):
    mni_file(cohort, "sub-0005", "desc-brain_mask").unlink()
    original = records_builder.patient_slabs

    def odd(folder, row, stride):
        if row["participant_id"] == "sub-0002":
            raise TypeError("unforeseen")
        return original(folder, row, stride)

    monkeypatch.setattr(records_builder, "patient_slabs", odd)
    with pytest.raises(InputError) as caught:
        build(cohort, tmp_path / "records")
    first, second, third = str(caught.value).splitlines()
    assert first == "2 patients cannot be used; nothing was written:"
    assert second.startswith("sub-0002: a defect of this program")
    assert "TypeError: unforeseen" in second
    assert third.startswith("sub-0005: desc-brain_mask")


def test_ml_are_of_the_patients_tissue(cohort, records_dir, tmp_path):
    """A brain half the template's size: every volume is half of what the grid counts."""
    plain = records.load_manifest(records_dir).rows()
    name = "sub-0001"
    np.savetxt(transform_file(cohort, name), np.diag([2.0, 1.0, 1.0, 1.0]))
    manifest, _ = build(cohort, tmp_path / "records")
    patient = next(p for p in manifest.patients if p["participant_id"] == name)
    assert patient["voxel_ml"] == pytest.approx(0.004)
    assert patient["brain_ml"] == pytest.approx(plain[name]["brain_ml"] / 2, abs=1e-3)


@pytest.mark.parametrize("matrix", [np.eye(3), np.diag([-1.0, 1, 1, 1])], ids=["shape", "mirror"])
def test_a_transform_that_cannot_be_is_refused(cohort, tmp_path, matrix):
    np.savetxt(transform_file(cohort, "sub-0001"), matrix)
    with pytest.raises(InputError, match="sub-0001: transform .* expected a 4 x 4 matrix"):
        build(cohort, tmp_path / "records")
    assert not (tmp_path / "records").exists()


def test_a_row_without_folder_is_explained(cohort, tmp_path):
    shutil.rmtree(cohort / "sub-0003")
    with pytest.raises(InputError, match="sub-0003: no folder .*data_tools.preprocess"):
        build(cohort, tmp_path / "records")


def run(*arguments):
    return command.run(build_records.main, build_records.FLAGS, build_records.__doc__, arguments)


def test_the_command_prints_what_it_built(mni_cohort, records_dir, capsys):
    flags = [f"--{name}={value}" for name, value in OPTIONS.items()]
    assert run(f"--cohort={mni_cohort}", f"--out={records_dir}", *flags) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].split()[:3] == ["subset", "patients", "lesion"]
    assert [line.split()[0] for line in printed[1:6]] == list("01234")
    assert sorted(line.split()[1] for line in printed[1:6]) == list("11112")
    assert printed[6:] == [
        f"{records_dir}: already built, 6 patients, 24 slabs",
        f"open  {records_dir}/splits.json",
        f"next  hypoperfusion train --fold=0 --records={records_dir} --run=runs/mine",
    ]


@pytest.mark.parametrize(
    ("flag", "message"),
    [("--stride=17", "--stride=17"), ("--shards=0", "--shards=0"), ("--workers=0", "workers is 0")],
)
def test_bad_settings_exit_with_2(mni_cohort, tmp_path, capsys, flag, message):
    assert run(f"--cohort={mni_cohort}", f"--out={tmp_path / 'r'}", flag) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_raw_cohort_is_sent_to_preprocess(raw_cohort, tmp_path):
    with pytest.raises(InputError, match="holds no volumes in MNI space"):
        build(raw_cohort, tmp_path / "records")


def test_tmax_in_ms_and_coverage_off_the_brain_are_refused(cohort, tmp_path):
    tmax_file = mni_file(cohort, "sub-0001", "tmax")
    save_volume(tmax_file, load_volume(tmax_file).data * 1000, grid.GRID_AFFINE)
    coverage_file = mni_file(cohort, "sub-0002", "desc-coverage_mask")
    save_volume(coverage_file, np.zeros(grid.GRID_SHAPE, bool), grid.GRID_AFFINE)
    with pytest.raises(InputError) as caught:
        build(cohort, tmp_path / "records")
    assert "sub-0001: Tmax" in str(caught.value)
    assert "expected seconds" in str(caught.value)
    assert "sub-0002: desc-coverage_mask covers 0% of the brain" in str(caught.value)


def test_damaged_records_are_called_damaged(mni_cohort, records_dir, tmp_path):
    out = shutil.copytree(records_dir, tmp_path / "records")
    shard = out / records.load_manifest(out).shards[0].file
    content = bytearray(shard.read_bytes())
    content[5000] ^= 0xFF
    shard.write_bytes(content)
    with pytest.raises(InputError, match="holds damaged records .*subset-0"):
        build(mni_cohort, out)
    manifest, kept = build(mni_cohort, out, overwrite=True)
    assert not kept
    assert not records.damaged_shards(out, manifest)


def copy_patient(cohort, source, name, change=None):
    """A patient under another name, every volume changed."""
    shutil.copytree(cohort / source, cohort / name)
    for path in sorted((cohort / name).iterdir()):
        path.rename(path.with_name(path.name.replace(source, name)))
    for path in sorted((cohort / name).glob("*.nii.gz")) if change else []:
        is_mask = "_mask" in path.name
        data = np.asarray((load_mask if is_mask else load_volume)(path).data)
        changed = change(data.astype(np.float32), path.name)
        save_volume(path, changed > 0.5 if is_mask else changed, grid.GRID_AFFINE)
    table = cohort / "participants.tsv"
    (line,) = (line for line in table.read_text().splitlines() if line.startswith(source))
    table.write_text(table.read_text() + line.replace(source, name) + "\n")


def moved(image, name):
    turn = np.array([[1, 0.03, 0], [-0.03, 1, 0], [0, 0, 1]])
    middle = (np.array(image.shape) - 1) / 2
    return ndimage.affine_transform(image, turn, middle - turn @ middle + 0.5, order=1)


def noisy(image, name):
    if not name.endswith(("dwi.nii.gz", "adc.nii.gz")):
        return image
    noise = np.random.default_rng(1).normal(0, 0.05 * image[image > 0].mean(), image.shape)
    return image + (image > 0) * noise


@pytest.fixture
def four_copies(cohort, monkeypatch):
    """Ten patients at three sites, of whom 7 to 10 are 1 to 4 again; 5 and 6 are a group."""
    names = [f"sub-{k:04d}" for k in range(1, 11)]
    for k, change in enumerate((moved, noisy, lambda image, name: image[::-1], None)):
        copy_patient(cohort, names[k], names[6 + k], change)
    said = {
        name: {"site": site, "group": None} for name, site in zip(names, "ABCABBABCA", strict=True)
    }
    for name in names[4:6]:
        said[name]["group"] = "twins"
    plain = cohorts.clinical_record
    monkeypatch.setattr(
        cohorts, "clinical_record", lambda row: {**plain(row), **said[row["participant_id"]]}
    )
    return cohort


KINDS = {
    ("sub-0001", "sub-0007"): "the same head, moved or changed",
    ("sub-0002", "sub-0008"): "the same head, moved or changed",
    ("sub-0003", "sub-0009"): "the same head, mirrored left to right",
    ("sub-0004", "sub-0010"): "identical DWI and ADC",
}


def test_hidden_copies_are_refused_and_named(four_copies, tmp_path):
    with pytest.raises(InputError, match="4 pairs of patients with the same head") as caught:
        build(four_copies, tmp_path / "records")
    for (first, second), kind in KINDS.items():
        assert f"{first} and {second}: {kind} (r = " in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["cohort"]


def test_copies_stay_together_where_that_is_asked_for(four_copies, tmp_path):
    told = []
    options = {"same_head": "together", "log": told.append}
    manifest, _ = build(four_copies, tmp_path / "records", **options)
    at = {patient["participant_id"]: patient["subset"] for patient in manifest.patients}
    assert all(at[first] == at[second] for first, second in KINDS)
    assert at["sub-0005"] == at["sub-0006"]
    assert sorted(set(at.values())) == [0, 1, 2, 3, 4]
    assert {(pair["first"], pair["second"]): pair["kind"] for pair in manifest.duplicates} == KINDS
    assert "kept in one subset" in manifest.warnings[0]
    assert told == [subset_table.table([manifest.rows_of([k]) for k in range(5)])]
    assert manifest == records.load_manifest(tmp_path / "records")
    # Each site is a subset: every pair is at one site, but not all twins are.
    again = {"same_head": "together", "leave_out": "site", "overwrite": True}
    with_sites, _ = build(four_copies, tmp_path / "records", **again)
    assert [subset.about["sites"] for subset in with_sites.subsets] == [["A"], ["B"], ["C"]]
    assert [len(subset.participants) for subset in with_sites.subsets] == [4, 4, 2]


def test_copies_are_let_pass_with_a_warning_that_stays(four_copies, tmp_path, capsys):
    out = tmp_path / "records"
    given = [f"--cohort={four_copies}", f"--out={out}", "--stride=16", "--folds=3"]
    for state in ("built", "already built"):
        assert run(*given, "--duplicates=allow") == 0
        printed = capsys.readouterr()
        assert "WARNING: 4 pairs of patients with the same head; they may be in diff" in printed.err
        assert f"{out}: {state}, 10 patients" in printed.out
        assert printed.out.splitlines()[0].split()[:3] == ["subset", "patients", "sites"]
    manifest = records.load_manifest(out)
    assert len(manifest.subsets) == 3
    assert len(manifest.duplicates) == 4
    # The same division again, by the file that was written.
    again = [*given[:1], "--stride=16", "--duplicates=allow", f"--splits={out / 'splits.json'}"]
    assert run(*again, f"--out={tmp_path / 'again'}") == 0
    repeated = records.load_manifest(tmp_path / "again")
    assert [subset.shards for subset in repeated.subsets] != []
    assert [subset.participants for subset in repeated.subsets] == [
        subset.participants for subset in manifest.subsets
    ]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--folds=3", "--splits=x.tsv"], "--folds and --splits contradict each other"),
        (["--leave_out=site", "--splits=x.tsv"], "--splits and --leave_out contradict"),
        (["--leave_out=site", "--stratify=side"], "--stratify and --leave_out contradict"),
        (["--folds=2"], "--folds is 2; expected 3 to 20"),
        (["--folds=21"], "--folds is 21; expected 3 to 20"),
        (["--stratify=age"], "--stratify is 'age'; expected volume, side"),
        (["--splits=x.tsv"], "x.tsv: no such file"),
        (["--leave_out=site"], "6 patients of participants.tsv without one: sub-0001"),
        (["--folds=7"], "6 patients cannot be split into 7 subsets"),
    ],
)
def test_divisions_that_cannot_be_exit_with_2(mni_cohort, tmp_path, capsys, flags, message):
    assert run(f"--cohort={mni_cohort}", f"--out={tmp_path / 'r'}", *flags) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_subset_without_a_lesion_is_a_warning(cohort, tmp_path, monkeypatch, capsys):
    names = [f"sub-{k:04d}" for k in range(1, 7)]
    lines = [f"{name}\t{k // 2}" for k, name in enumerate(names)]
    table = tmp_path / "s.tsv"
    table.write_text("\n".join(["participant_id\tsubset", *lines]))
    for name in names[2:4]:
        empty = np.zeros(grid.GRID_SHAPE, bool)
        save_volume(mni_file(cohort, name, "desc-truth_mask"), empty, grid.GRID_AFFINE)
    given = [f"--cohort={cohort}", "--stride=16", f"--splits={table}"]
    assert run(*given, f"--out={tmp_path / 'records'}") == 0
    printed = capsys.readouterr()
    assert "WARNING: subset 1 holds no lesion" in printed.err
    assert "2 (100%)" in printed.out
    assert records.load_manifest(tmp_path / "records").subsets[1].about["without_lesion"] == 2


def test_a_manifest_of_an_early_version_is_read_and_its_fingerprint_kept(mni_cohort, tmp_path):
    """Without strata records are those of early versions, and a run trained on them knows them."""
    manifest, _ = build(mni_cohort, tmp_path / "records")
    path = tmp_path / "records/manifest.json"
    early = json.loads(path.read_text())
    early["settings"] = {name: early["settings"][name] for name in ("stride", "shards", "seed")}
    for subset in early["subsets"]:
        del subset["about"]
    del early["duplicates"], early["warnings"], early["left_out"]
    early["without_truth"] = ["sub-0042"]
    path.write_text(json.dumps(early))
    read = records.load_manifest(tmp_path / "records")
    assert read.settings.folds == 5
    assert read.fingerprint == manifest.fingerprint
    assert read.left_out == (flow.without_truth("sub-0042"),)
    assert build(mni_cohort, tmp_path / "records")[1]
