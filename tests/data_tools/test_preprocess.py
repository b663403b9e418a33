"""Raw cohort -> MNI cohort: one bad patient stops nobody, done ones are kept, nothing is half."""

import contextlib
import dataclasses
import io
import json
import re
import shutil
import subprocess

import matplotlib.image
import nibabel as nib
import numpy as np
import pytest
from helpers.dsc import write_small
from nibabel.processing import resample_from_to

from data_tools import cohort as cohorts
from data_tools import (
    cohort_faults,
    core_examination,
    flow,
    mni_cohort,
    mni_patient,
    pictures,
    preprocess,
    qc_page,
    qc_picture,
    records_builder,
    registration,
)
from data_tools.cohort import mni_file, read_participants, transform_file
from data_tools.flow import LeftOut
from data_tools.grid import GRID_SHAPE, patient_voxel_ml
from data_tools.manifest import BuildSettings
from data_tools.perfusion import calibration, record
from data_tools.quality import Quality
from data_tools.runtime import command
from data_tools.runtime.errors import InputError
from data_tools.simulate.cohort import truth_path
from data_tools.volumes import load_mask, load_volume, require_grid, save_volume

GOOD, BAD = "sub-0001", "sub-0002"
SETTINGS = BuildSettings(stride=8, shards=1, seed=0)


def run(cohort, out, *flags):
    """Exit status, standard output and standard error of the command."""
    printed, complained = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(complained):
        status = command.run(
            preprocess.main,
            preprocess.FLAGS,
            preprocess.__doc__,
            [f"--cohort={cohort}", f"--out={out}", *flags],
        )
    return status, printed.getvalue(), complained.getvalue()


def damage(cohort, participant):
    path = cohort / participant / "dwi" / f"{participant}_ADC.nii.gz"
    path.write_bytes(path.read_bytes()[:1000])


def ends(out):
    """The last lines: a page to open, and the next command."""
    return f"open  {out}/qc.html\nnext  hypoperfusion build-records --cohort={out} --out=records\n"


@pytest.fixture(scope="module")
def done(raw_cohort, tmp_path_factory):
    """A cohort with a good and a damaged patient, preprocessed (one registration)."""
    folder = tmp_path_factory.mktemp("preprocess")
    cohort = shutil.copytree(raw_cohort, folder / "raw")
    said = json.loads((cohort / "dataset_description.json").read_text())
    (cohort / "dataset_description.json").write_text(json.dumps(said | {"License": "CC BY 4.0"}))
    damage(cohort, BAD)
    return cohort, folder / "mni", run(cohort, folder / "mni")


@pytest.fixture
def quick(raw_cohort, tmp_path, monkeypatch):
    """A copy of the raw cohort and an out folder; the true matrix stands in for a fit."""

    def given(images, cut):
        number = 2 if BAD in images.dwi.path else 1
        truth = json.loads(truth_path(raw_cohort, number, "native").read_text())
        return np.array(truth["native_to_mni"])

    monkeypatch.setattr(registration, "STRATEGIES", {"given": given})
    return shutil.copytree(raw_cohort, tmp_path / "raw"), tmp_path / "mni"


def test_one_bad_patient_is_named_and_the_other_is_done(done):
    _, out, (status, printed, complained) = done
    assert status == command.EXIT_SOME_FAILED
    assert printed == f"1 patient in {out} (0 were done before)\n{ends(out)}"
    (failure,) = [line for line in complained.splitlines() if line.startswith("failed: ")]
    assert failure.startswith(f"failed: {BAD}: ADC ")
    assert "ends too early or is damaged" in failure
    assert "Traceback" not in complained
    assert sorted(path.name for path in out.glob("*sub-*")) == [GOOD]


def test_the_new_table_lists_the_patients_that_are_there(done):
    cohort, out, _ = done
    table = read_participants(out)
    assert list(table["participant_id"]) == [GOOD]
    assert table.iloc[0].equals(read_participants(cohort).iloc[0])
    description = json.loads((out / "dataset_description.json").read_text())
    assert description["DatasetType"] == "derivative"
    assert "Simulated" in description["Name"] and description["License"] == "CC BY 4.0"


def test_every_volume_lies_on_the_grid(done):
    _, out, _ = done
    for name in ("dwi", "adc", "tmax"):
        require_grid(load_volume(mni_file(out, GOOD, name)), name)
    brain, coverage = (
        require_grid(load_mask(mni_file(out, GOOD, f"desc-{name}_mask")), name) > 0
        for name in ("brain", "coverage")
    )
    assert coverage.any()
    assert not coverage[~brain].any()
    adc = load_volume(mni_file(out, GOOD, "adc")).data
    assert 600 < np.median(adc[brain]) < 1200  # 1e-6 mm2/s, from mm2/s in the file
    assert not mni_file(out, GOOD, "desc-hypoperfusion_mask").exists()


def test_quality_is_written_as_figures_and_as_a_picture(done):
    _, out, _ = done
    quality = json.loads((out / GOOD / "qc.json").read_text())
    assert quality["participant_id"] == GOOD
    assert quality["verdict"] == "good"
    assert quality["adc_unit_in_file"] == "mm2/s"
    assert len(quality["fingerprint"]) == 64
    picture = matplotlib.image.imread(out / GOOD / "qc.png")
    assert picture.shape[1] > 1000
    assert picture.std() > 0.1  # something is drawn


def test_the_written_transform_takes_the_raw_brain_to_the_grid(done):
    cohort, out, _ = done
    (path,) = (out / GOOD).glob("*_from-native_to-MNI152NLin2009aSym_mode-points_xfm.txt")
    matrix = np.loadtxt(path)
    native = nib.load(cohort / GOOD / "dwi" / f"{GOOD}_dwi.nii.gz")
    moved = nib.Nifti1Image(native.get_fdata(), matrix @ native.affine)
    written = nib.load(mni_file(out, GOOD, "dwi"))
    expected = resample_from_to(moved, written, order=1).get_fdata()
    np.testing.assert_allclose(written.get_fdata(), expected, atol=0.5)


def test_a_second_run_keeps_what_is_done(done):
    cohort, out, _ = done
    before = {path: path.stat().st_mtime_ns for path in (out / GOOD).iterdir()}
    status, printed, complained = run(cohort, out)
    assert status == command.EXIT_SOME_FAILED
    assert printed == f"1 patient in {out} (1 were done before)\n{ends(out)}"
    assert f"failed: {BAD}: " in complained
    assert {path: path.stat().st_mtime_ns for path in (out / GOOD).iterdir()} == before


def test_another_file_or_side_is_done_again(quick):
    cohort, out = map(str, quick)
    first = mni_cohort.preprocess_patient(GOOD, "left", cohort=cohort, out=out)
    assert mni_cohort.preprocess_patient(GOOD, "left", cohort=cohort, out=out).kept
    again = mni_cohort.preprocess_patient(GOOD, "right", cohort=cohort, out=out)
    assert not first.kept
    assert not again.kept
    shutil.rmtree(quick[0] / "derivatives/perfusion" / GOOD)
    without = mni_cohort.preprocess_patient(GOOD, "right", cohort=cohort, out=out)
    assert not without.kept
    assert not mni_file(out, GOOD, "tmax").exists()  # the old one is gone
    assert without.quality.registration.coverage_mni_ml == without.quality.registration.brain_mni_ml


def test_an_edited_mask_comes_along(quick):
    cohort, out = quick
    tmax = load_volume(cohort / f"derivatives/perfusion/{GOOD}/perf/{GOOD}_Tmax.nii.gz")
    folder = cohort / "derivatives/labels" / GOOD
    folder.mkdir(parents=True)
    image = nib.Nifti1Image((tmax.data > 4).astype(np.uint8), tmax.affine)
    nib.save(image, folder / f"{GOOD}_desc-hypoperfusion_mask.nii.gz")
    mni_cohort.preprocess_patient(GOOD, "left", cohort=str(cohort), out=str(out))
    mask = load_mask(mni_file(out, GOOD, "desc-hypoperfusion_mask")).data > 0
    delayed = load_volume(mni_file(out, GOOD, "tmax")).data > 4
    delayed &= load_mask(mni_file(out, GOOD, "desc-coverage_mask")).data > 0
    assert 2 * (mask & delayed).sum() / (mask.sum() + delayed.sum()) > 0.85


def test_a_killed_run_leaves_no_half_patient(quick, monkeypatch):
    cohort, out = map(str, quick)

    def die(*arguments, **options):
        raise KeyboardInterrupt("killed")

    with monkeypatch.context() as patch:
        patch.setattr(pictures, "axial_mosaic", die)  # after the volumes were written
        with pytest.raises(KeyboardInterrupt, match="killed"):
            mni_cohort.preprocess_patient(GOOD, "left", cohort=cohort, out=out)
    assert not (quick[1] / GOOD).exists()
    assert not mni_cohort.preprocess_patient(GOOD, "left", cohort=cohort, out=out).kept
    assert [path.name for path in quick[1].iterdir()] == [GOOD]


def test_a_defect_at_one_patient_stops_no_other(quick, monkeypatch):
    cohort, out = quick
    draw = qc_picture.draw

    def odd(images, quality, **more):
        if quality.participant_id == GOOD:  # the first one
            raise ZeroDivisionError("in a picture")
        return draw(images, quality, **more)

    monkeypatch.setattr(qc_picture, "draw", odd)
    status, printed, complained = run(cohort, out)
    assert (status, printed) == (1, f"1 patient in {out} (0 were done before)\n{ends(out)}")
    (failure,) = [line for line in complained.splitlines() if line.startswith("failed: ")]
    assert failure.startswith(f"failed: {GOOD}: a defect of this program")
    assert "ZeroDivisionError: in a picture" in failure
    assert "Traceback" not in complained
    assert sorted(path.name for path in out.glob("*sub-*")) == [BAD]
    assert GOOD in (out / "qc.html").read_text()


def test_a_failure_of_all_alike_is_said(quick, monkeypatch):
    cohort, out = quick

    def odd(*files, **more):
        raise MemoryError("Unable to allocate 9 GiB")

    monkeypatch.setattr(mni_cohort.patients, "load_native", odd)
    status, _, complained = run(cohort, out)
    assert status == command.EXIT_SOME_FAILED
    said = f"failed: {GOOD}, {BAD}: the memory was too small (Unable to allocate 9 GiB)"
    assert complained.count(said) == 1
    assert complained.splitlines()[-1].startswith("all 2 patients failed in the same way")


def test_a_patient_that_fails_later_leaves_no_stale_result(quick):
    cohort, out = quick
    assert run(cohort, out)[:2] == (0, f"2 patients in {out} (0 were done before)\n{ends(out)}")
    damage(cohort, BAD)
    assert run(cohort, out)[0] == command.EXIT_SOME_FAILED
    assert list(read_participants(out)["participant_id"]) == [GOOD]
    assert not (out / BAD).exists()
    damage(cohort, GOOD)
    assert run(cohort, out)[0] == command.EXIT_SOME_FAILED
    assert not (out / "participants.tsv").exists()


def test_a_wrong_flag_costs_no_result(quick):
    """Results of the same images wait for the right flag; those of other images go."""
    cohort, out = quick
    fill(cohort, BAD, "occlusion", "PCA")
    assert run(cohort, out, "--other_territories")[0] == command.EXIT_OK
    before = {path: path.stat().st_mtime_ns for path in out.glob("sub-*/*")}
    assert {path.parent.name for path in before} == {GOOD, BAD}
    wrong = "--adc_unit=1e-6 mm2/s"
    status, _, complained = run(cohort, out, wrong)
    assert status == command.EXIT_SOME_FAILED and "ADC" in complained
    waits = f"{mni_cohort.KEPT}, but the patient is left out until a run succeeds."
    assert f"{waits} It was made with other settings: the usual ones." in complained
    assert not (out / "participants.tsv").exists() and waits in flow.read(out)[0].reason
    assert {path: path.stat().st_mtime_ns for path in out.glob("sub-*/*")} == before
    status, printed, _ = run(cohort, out, "--other_territories")
    assert (status, printed) == (0, f"2 patients in {out} (2 were done before)\n{ends(out)}")
    damage(cohort, BAD)
    fill(cohort, GOOD, "side", "bilateral")
    status, _, complained = run(cohort, out, "--other_territories", wrong)
    assert status == command.EXIT_SOME_FAILED and mni_cohort.KEPT not in complained
    assert not list(out.glob("sub-*"))


def fill(cohort, participant, column, word):
    """Put a word into a patient's cell; a column that is new is n/a for the others."""
    lines = [line.split("\t") for line in (cohort / "participants.tsv").read_text().splitlines()]
    if column not in lines[0]:
        lines = [[*line, "n/a"] for line in lines]
        lines[0][-1] = column
    for line in lines:
        if line[0] == participant:
            line[lines[0].index(column)] = word
    text = "".join("\t".join(line) + "\n" for line in lines)
    (cohort / "participants.tsv").write_text(text)


@pytest.mark.parametrize(
    ("column", "word", "step", "reason"),
    [
        ("exclude", "poor bolus", flow.EXCLUDED, "poor bolus"),
        ("occlusion", "pca", flow.TERRITORY, "occlusion of the PCA"),
    ],
)
def test_whom_the_table_leaves_out_is_named_and_needs_no_images(quick, column, word, step, reason):
    """Also after a run that had taken the patient: nothing of it stays."""
    cohort, out = quick
    assert run(cohort, out)[0] == command.EXIT_OK and (out / BAD / "qc.json").is_file()
    assert flow.read(out) == ()
    damage(cohort, BAD)
    fill(cohort, BAD, column, word)
    status, printed, complained = run(cohort, out)
    assert status == command.EXIT_OK
    assert printed == f"1 patient in {out} (1 were done before)\n{ends(out)}"
    assert f"left out, {flow.STEPS[step]}: {BAD}: {reason}" in complained
    assert "failed" not in complained
    assert flow.read(out) == (LeftOut(participant_id=BAD, step=step, reason=reason),)
    assert list(read_participants(out)["participant_id"]) == [GOOD]
    assert not (out / BAD).exists()
    page = (out / "qc.html").read_text()
    assert counts(page) == {"Patients": 2, "Failed": 0, "Poor": 0, "Good": 1}
    assert "1 left out by participants.tsv" in page
    assert page.index(f">{GOOD}<") < page.index(f">{BAD}<") and reason in page
    if column == "occlusion":
        done, lost = mni_cohort.preprocess(str(cohort), str(out), other_territories=True)
        assert len(done) == 1 and [each.step for each in lost] == [flow.PREPROCESS]
        assert flow.read(out) == tuple(lost) and f"{BAD}_ADC.nii.gz" in lost[0].reason


def test_tmax_is_made_where_only_a_raw_series_is_there(quick):
    """With what made it on record; a series that cannot be used is the patient's failure."""
    cohort, out = quick
    write_small(cohort, GOOD)
    write_small(cohort, BAD, fault="no_tr")
    status, _, complained = run(cohort, out)
    assert status == command.EXIT_SOME_FAILED
    (failure,) = [line for line in complained.splitlines() if line.startswith("failed: ")]
    assert failure.startswith(f"failed: {BAD}: no Tmax, for the raw perfusion series cannot be")
    assert failure.count("--tr_s=SECONDS") == 1 and "Mark an artery" not in complained
    assert "To leave the patient out, give a reason in the column exclude." in complained
    made = out / "derivatives" / "perfusion" / GOOD / "perf" / f"{GOOD}_Tmax.nii.gz"
    before = made.stat().st_mtime_ns
    said = "cSVD, threshold 0.1, TR 2 s, AIF automatic; not RAPID-equivalent until calibrated"
    quality = Quality.from_json(json.loads((out / GOOD / "qc.json").read_text()))
    assert quality.tmax_from == said
    page = (out / "qc.html").read_text()
    assert said in page and 'href="derivatives/perfusion/qc.html"' in page
    tmax = require_grid(load_volume(mni_file(out, GOOD, "tmax")), "tmax")
    (row,) = [cohorts.clinical_record(row) for _, row in read_participants(out).iterrows()]
    patient, label, described = mni_patient.load_labelled(out, row)
    assert described["tmax_from"] == said and described["truth_from"] == "Tmax"
    assert label.hypoperfusion.any() and 1 < np.median(tmax[patient.coverage]) < 5
    assert not (cohort / "derivatives" / "perfusion" / GOOD).exists()  # the raw cohort stays
    masks = cohort / "derivatives" / "labels" / BAD
    dwi = load_volume(cohort / BAD / "dwi" / f"{BAD}_dwi.nii.gz")
    edited = np.zeros(dwi.data.shape, bool)
    edited[40:60, 40:60, 8:12] = True
    save_volume(masks / f"{BAD}_desc-hypoperfusion_mask.nii.gz", edited, dwi.affine)
    status, printed, complained = run(cohort, out)
    assert (status, "(1 were done before)" in printed) == (0, True)
    assert f"warning: {BAD}: no Tmax, for the raw perfusion series cannot be used" in complained
    assert made.stat().st_mtime_ns == before
    rows = records_builder._rows(str(out))
    at_6_s = records_builder._fingerprint(str(out), rows, SETTINGS)
    known = {name: getattr(record.convention_of(made), name) for name in calibration.ALIKE}
    calibrated = cohort / "derivatives" / "perfusion" / "calibration.json"
    calibrated.parent.mkdir(parents=True, exist_ok=True)
    calibrated.write_text(json.dumps({"threshold_s": 8.0, "convention": known}))
    assert run(cohort, out)[0] == command.EXIT_OK
    _, narrower, described = mni_patient.load_labelled(out, row)
    assert "calibrated, hypoperfusion from 8 s on" in described["tmax_from"]
    assert narrower.hypoperfusion.sum() < label.hypoperfusion.sum()
    assert cohort_faults.check(str(out)).count("Tmax >= 8 s ") == 1
    assert records_builder._fingerprint(str(out), rows, SETTINGS) != at_6_s
    calibrated.write_text(json.dumps({"threshold_s": 8.0, "convention": known | {"threshold": 1}}))
    status, _, complained = run(cohort, out)
    assert status == command.EXIT_SOME_FAILED and "calibrate again" in complained


def test_a_table_that_leaves_out_everybody_is_refused_before_anything_is_written(quick):
    cohort, out = quick
    fill(cohort, GOOD, "exclude", "poor DWI")
    fill(cohort, BAD, "occlusion", "BA")
    status, _, complained = run(cohort, out)
    assert status == command.EXIT_BAD_INPUT and not out.exists()
    assert "leaves out every patient (1 excluded by hand: poor DWI 1; 1 stroke of" in complained
    assert "--other_territories" in complained


def test_a_side_that_the_core_contradicts_is_a_warning(quick, monkeypatch):
    left_core = np.zeros(GRID_SHAPE, bool)
    left_core[20:30, 40:50, 20:30] = True  # 1000 voxels
    monkeypatch.setattr(core_examination, "core_on_grid", lambda patient: left_core)
    cohort, out = map(str, quick)
    right = mni_cohort.preprocess_patient(GOOD, "left", cohort=cohort, out=out).quality.warnings
    assert not any("mL of core lie" in warning for warning in right)
    wrong = mni_cohort.preprocess_patient(GOOD, "right", cohort=cohort, out=out).quality.warnings
    (warning,) = [warning for warning in wrong if "mL of core lie" in warning]
    voxel_ml = patient_voxel_ml(np.loadtxt(transform_file(out, GOOD)))
    assert f"{1000 * voxel_ml:.1f} mL of core lie in the left half" in warning
    assert warning in json.loads((quick[1] / GOOD / "qc.json").read_text())["warnings"]


def test_a_patient_without_files_is_named(quick):
    cohort, out = quick
    shutil.rmtree(cohort / GOOD)
    with pytest.raises(InputError, match="no such folder; expected the patient's files there"):
        mni_cohort.preprocess_patient(GOOD, "left", cohort=str(cohort), out=str(out))


def test_the_raw_cohort_is_never_written_to(quick):
    cohort, _ = quick
    status, _, complained = run(cohort, cohort / ".." / "raw")
    assert status == command.EXIT_BAD_INPUT
    assert "--out is the raw cohort itself" in complained


def test_a_file_as_out_and_no_cohort_exit_with_2(quick):
    cohort, out = quick
    out.write_text("x")
    status, _, complained = run(cohort, out)
    assert (status, "is a file; expected a folder" in complained) == (2, True)
    status, _, complained = run(out / "absent", out.with_name("other"))
    assert (status, "participants.tsv: no such file" in complained) == (2, True)


def test_a_folder_of_somebody_else_is_left_alone(quick, raw_cohort, tmp_path):
    victim = shutil.copytree(raw_cohort, tmp_path / "victim")
    before = sorted(path.stat().st_size for path in victim.rglob("*.nii.gz"))
    with pytest.raises(InputError, match="is not empty and was not written by this command"):
        mni_cohort.preprocess(str(quick[0]), str(victim))
    assert sorted(path.stat().st_size for path in victim.rglob("*.nii.gz")) == before


def test_a_patient_whose_volume_is_gone_is_done_again(quick):
    cohort, out = map(str, quick)
    mni_cohort.preprocess_patient(GOOD, "left", cohort=cohort, out=out)
    assert mni_cohort.preprocess_patient(GOOD, "left", cohort=cohort, out=out).kept
    mni_file(out, GOOD, "adc").unlink()
    assert not mni_cohort.preprocess_patient(GOOD, "left", cohort=cohort, out=out).kept
    assert mni_file(out, GOOD, "adc").is_file()


def test_a_damaged_volume_is_made_again_and_an_edited_one_is_kept(quick):
    cohort, out = map(str, quick)
    mni_cohort.preprocess_patient(GOOD, "left", cohort=cohort, out=out)
    brain = mni_file(out, GOOD, "desc-brain_mask")
    before, mask = brain.read_bytes(), load_mask(brain)
    mask.data[40:45] = 0
    save_volume(brain, mask.data > 0, mask.affine)
    assert mni_cohort.preprocess_patient(GOOD, "left", cohort=cohort, out=out).kept
    brain.write_bytes(before)
    for broken in (b"", brain.read_bytes()[:-300]):
        mni_file(out, GOOD, "adc").write_bytes(broken)
        assert not mni_cohort.preprocess_patient(GOOD, "left", cohort=cohort, out=out).kept
        load_volume(mni_file(out, GOOD, "adc"))


@pytest.mark.parametrize("change", ["edited", "added"])
def test_what_a_person_made_is_not_replaced(quick, change):
    cohort, out = quick
    mni_cohort.preprocess(str(cohort), str(out))
    path = mni_file(
        out, GOOD, "desc-brain_mask" if change == "edited" else "desc-hypoperfusion_mask"
    )
    mask = load_mask(mni_file(out, GOOD, "desc-brain_mask"))
    mask.data[40:45] = 0
    save_volume(path, mask.data > 0, mask.affine)
    with pytest.raises(InputError, match=f"sub-0001: is to be made again, and {path.name} was"):
        mni_cohort.preprocess_patient(GOOD, "right", cohort=str(cohort), out=str(out))
    damage(cohort, GOOD)
    done, failed = mni_cohort.preprocess(str(cohort), str(out))
    assert [each.participant_id for each in failed] == [GOOD] and path.is_file()
    assert GOOD not in [patient.quality.participant_id for patient in done]
    path.unlink()
    mni_cohort.preprocess(str(cohort), str(out))
    assert not (out / GOOD).exists()


def test_delayed_tissue_on_the_other_side_is_a_warning(quick):
    cohort, out = map(str, quick)
    side = read_participants(cohort).set_index("participant_id").loc[GOOD, "side"]
    other = {"left": "right", "right": "left"}[side]
    right = mni_cohort.preprocess_patient(GOOD, side, cohort=cohort, out=out)
    assert not any("Tmax is 6 s" in warning for warning in right.quality.warnings)
    wrong = mni_cohort.preprocess_patient(GOOD, other, cohort=cohort, out=out)
    assert any(f"given as {other}, but Tmax is 6 s and more" in w for w in wrong.quality.warnings)
    assert wrong.quality.registration.verdict == "poor"


def test_memory_is_measured_for_each_patient(quick):
    cohort, out = map(str, quick)
    ballast = np.ones(2**28, np.uint8)  # 256 MB that the next patient does not hold
    first = mni_cohort.preprocess_patient(GOOD, "left", cohort=cohort, out=out)
    del ballast
    again = mni_cohort.preprocess_patient(GOOD, "right", cohort=cohort, out=out)
    assert 100 < again.quality.peak_memory_mb < first.quality.peak_memory_mb


@pytest.mark.parametrize(
    ("native", "mni", "warns"), [(10, 7.6, False), (10, 7.4, True), (4, 0, False)]
)
def test_core_volumes_that_disagree_are_a_warning(native, mni, warns):
    assert (core_examination.core_disagreement(native, mni) is not None) == warns


def test_labels_within_the_side_are_written_down(quick):
    cohort, out = quick
    mni_cohort.preprocess(str(cohort), str(out), within_side=True)
    assert json.loads((out / "labels.json").read_text()) == {"within_stroke_side": True}


def counts(page):
    """The large figures of qc.html."""
    found = re.findall(r'<dt>(\w+)</dt><dd class="figure">(\d+)</dd>', page)
    return {name: int(figure) for name, figure in found}


def test_the_page_of_the_cohort_names_everybody_worst_first(done):
    _, out, _ = done
    page = (out / "qc.html").read_text()
    assert page.index(f">{BAD}<") < page.index(f">{GOOD}<")
    assert counts(page) == {"Patients": 2, "Failed": 1, "Poor": 0, "Good": 1}
    assert "SIMULATED" in page and f'href="{GOOD}/qc.png"' in page
    assert f'src="{GOOD}/qc_thumbnail.webp"' in page and f'src="{BAD}/' not in page
    assert (out / GOOD / "qc_thumbnail.webp").is_file()
    assert "http" not in page  # opens offline


def test_qc_json_is_read_back_as_it_was_written(done):
    """Byte for byte; also where an earlier version kept only the names of the files."""
    text = (done[1] / GOOD / "qc.json").read_text()
    content = json.loads(text)
    quality = Quality.from_json(content)
    assert json.dumps(quality.to_json(), indent=2) + "\n" == text
    earlier = Quality.from_json({**content, "files": list(content["files"])})
    assert list(earlier.files) == list(quality.files)


@pytest.fixture
def quality(done):
    """Quality figures in which a test may replace some."""
    return Quality.from_json(json.loads((done[1] / GOOD / "qc.json").read_text()))


def test_text_in_the_page_is_escaped(quality, tmp_path):
    fit = dataclasses.replace(quality.registration, verdict="poor")
    poor = dataclasses.replace(
        quality,
        registration=fit,
        warnings=("<script>alert(1)</script>",),
        overrides={"b_value": 800.0, "brain_mask": "<u>mask</u>"},
    )
    lost = [LeftOut(participant_id="sub-2", step="preprocess", reason="<b>bad</b>\ntwice")]
    qc_page.write(tmp_path, [poor], lost, "<i>name</i>")
    page = (tmp_path / "qc.html").read_text()
    assert "<script>alert" not in page and "<b>bad" not in page and "<i>name" not in page
    assert "said by --b_value: 800" in page and "--brain_mask: &lt;u&gt;mask" in page
    assert "&lt;script&gt;alert(1)" in page and "<li>twice</li>" in page


@pytest.mark.skipif(not shutil.which("chromium"), reason="no chromium here")
def test_a_real_browser_sorts_the_page(quality, tmp_path):
    rows = [
        dataclasses.replace(
            quality,
            participant_id=f"sub-{k}",
            registration=dataclasses.replace(quality.registration, brain_dice_with_template=dice),
        )
        for k, dice in enumerate((0.95, 0.91, 0.97))
    ]
    qc_page.write(tmp_path, rows, [], "three")
    page = (tmp_path / "qc.html").read_text()
    click = "document.querySelector('[data-key=brain_dice_with_template]').click();"
    (tmp_path / "qc.html").write_text(page.replace("</script>", f"{click}</script>"))
    command_line = [
        "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom",
        f"--user-data-dir={tmp_path}/profile", f"file://{tmp_path}/qc.html",
    ]  # fmt: skip
    shown = subprocess.run(command_line, capture_output=True, text=True, timeout=120).stdout
    order = sorted(range(3), key=lambda k: shown.index(f">sub-{k}<"))
    assert order == [1, 0, 2]
