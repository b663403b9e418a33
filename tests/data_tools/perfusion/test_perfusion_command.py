"""``python -m data_tools.perfusion`` on small simulated series: maps, records, pages, refusals."""

import errno
import json
import shutil

import nibabel as nib
import numpy as np
import pytest
from helpers.commands import call
from helpers.dsc import SMALL, write_small
from PIL import Image

from data_tools.cohort import find_perfusion_files, find_raw_files, tmax_files
from data_tools.perfusion import __main__ as perfusion
from data_tools.perfusion import calibration, patient_maps, record, threshold_fit
from data_tools.perfusion.patient_maps import check_current
from data_tools.perfusion.record import Convention, PerfusionQuality, convention_of, of_map
from data_tools.runtime.errors import InputError
from data_tools.simulate import dsc, simulate_patient
from data_tools.simulate.dsc_dicom import write_enhanced
from data_tools.volumes import load_volume, save_volume

pytestmark = pytest.mark.quick

FIRST, SECOND = "sub-0001", "sub-0002"


@pytest.fixture(scope="module")
def scan():
    """Of the first patient."""
    return dsc.acquire_dsc(simulate_patient(7, 1), dsc.Scan(**SMALL))


@pytest.fixture(scope="module")
def raw(raw_cohort, tmp_path_factory):
    """A cohort whose only perfusion images are raw series."""
    cohort = shutil.copytree(raw_cohort, tmp_path_factory.mktemp("perfusion") / "raw")
    for name in (FIRST, SECOND):
        write_small(cohort, name)
    return cohort


@pytest.fixture(scope="module")
def done(raw, tmp_path_factory):
    """The maps of the cohort, in another folder: ``raw`` stays as it is."""
    out = tmp_path_factory.mktemp("maps")
    assert call(perfusion, f"--cohort={raw}", f"--out={out}", "--nomotion_correction") == 0
    return out


def again(raw, out, *more):
    return call(perfusion, f"--cohort={raw}", f"--out={out}", "--nomotion_correction", *more)


def calibrated(convention, threshold_s):
    """What calibration.json says of maps of this convention, shortened."""
    alike = {name: getattr(convention, name) for name in calibration.ALIKE}
    return {"threshold_s": threshold_s, "convention": alike}


def folder_of(out, name=FIRST):
    return out / "derivatives" / "perfusion" / name


def tmax_of(out, name=FIRST):
    return folder_of(out, name) / "perf" / f"{name}_Tmax.nii.gz"


def test_maps_lie_on_the_series_and_say_what_made_them(scan, done):
    image = nib.load(tmax_of(done))
    np.testing.assert_allclose(image.affine, scan.affine, atol=1e-4)
    truth, found = scan.truth, np.asarray(image.dataobj)
    inside = truth.brain & (found != 0)
    assert abs(np.median((found - truth.tmax_s)[inside])) < 0.3
    for name, unit in (("Tmax", "s"), ("CBF", "mL/100 mL/min"), ("CBV", "mL/100 mL"),
                       ("MTT", "s"), ("TTP", "s")):  # fmt: skip
        assert nib.load(folder_of(done) / "perf" / f"{FIRST}_{name}.nii.gz").shape == (64, 64, 8)
        said = json.loads((folder_of(done) / "perf" / f"{FIRST}_{name}.json").read_text())
        assert said["Units"] == unit and said["DeconvolutionThreshold"] == 0.1
        assert said["Equivalence"] == "not RAPID-equivalent until calibrated"
        assert "Not a medical device" in said["Notice"]
    assert convention_of(tmax_of(done)) == Convention(
        version=record.PERFUSION_VERSION, deconvolution="csvd", threshold=0.1, tr_s=2.0,
        te_s=0.03, arterial_input="automatic", smoothing_sd_voxels=0.7, motion_corrected=False,
    )  # fmt: skip


def turned_series(raw, folder):
    """The first patient's series with its axes as PSR."""
    image = nib.load(raw / FIRST / "perf" / f"{FIRST}_dsc.nii.gz")
    from_now = nib.io_orientation(image.affine)
    wanted = nib.orientations.axcodes2ornt("PSR")
    turned = image.as_reoriented(nib.orientations.ornt_transform(from_now, wanted))
    nib.save(turned, folder / "turned_dsc.nii.gz")
    known = raw / FIRST / "perf" / f"{FIRST}_dsc.json"
    shutil.copy(known, folder / "turned_dsc.json")
    return turned


def test_a_series_stored_otherwise_has_the_same_maps_on_its_own_grid(raw, done, tmp_path):
    turned = turned_series(raw, tmp_path)
    series = tmp_path / "turned_dsc.nii.gz"
    assert call(perfusion, f"--series={series}", f"--out={tmp_path / 'out'}",
                "--nomotion_correction") == 0  # fmt: skip
    found = nib.load(tmp_path / "out" / "turned_Tmax.nii.gz")
    assert found.shape == turned.shape[:3]
    np.testing.assert_allclose(found.affine, turned.affine, atol=1e-4)
    one, other = (nib.as_closest_canonical(each) for each in (found, nib.load(tmax_of(done))))
    np.testing.assert_allclose(one.affine, other.affine, atol=1e-3)
    apart_s = np.abs(one.get_fdata() - other.get_fdata())
    assert np.percentile(apart_s, 99.9) < 0.01
    where = json.loads((tmp_path / "out" / "qc.json").read_text())["aif_voxels"]
    usual = of_map(tmax_of(done)).aif_voxels
    there = nib.affines.apply_affine(found.affine, np.array(where))
    same = nib.affines.apply_affine(nib.load(tmax_of(done)).affine, np.array(usual))
    np.testing.assert_allclose(there, same, atol=1e-3)
    given = ",".join(map(str, where[0]))
    assert call(perfusion, f"--series={series}", f"--out={tmp_path / 'given'}",
                "--nomotion_correction", f"--aif={given}") == 0  # fmt: skip
    said = json.loads((tmp_path / "given" / "qc.json").read_text())
    assert said["aif_voxels"] == [where[0]] and said["convention"]["arterial_input"] == "voxel"


def test_a_mask_of_the_artery_that_cannot_be_one_is_named(raw, tmp_path, capsys):
    image = nib.load(raw / FIRST / "perf" / f"{FIRST}_dsc.nii.gz")
    away = image.affine.copy()
    away[0, 3] += 30
    ones = np.ones(image.shape[:3], np.uint8)
    for name, data, affine, why in (
        ("empty", 0 * ones, image.affine, "is empty; mark at least one voxel of an artery"),
        ("small", ones[1:], image.affine, "has 63 x 64 x 8 voxels, and perfusion series"),
        ("away", ones, away, "and lies up to 30 mm away from it by its header"),
        ("folder", None, None, "is a folder; expected the file of a mask"),
    ):
        path = tmp_path / f"{name}.nii.gz"
        if data is None:
            path.mkdir()
        else:
            nib.save(nib.Nifti1Image(data, affine), path)
        series = raw / FIRST / "perf" / f"{FIRST}_dsc.nii.gz"
        assert call(perfusion, f"--series={series}", f"--out={tmp_path / 'out'}",
                    f"--aif={path}") == 2  # fmt: skip
        said = capsys.readouterr().err
        assert f"{name}.nii.gz" in said and why in said


def test_quality_is_figures_a_picture_and_a_page(done):
    quality = of_map(tmax_of(done))
    assert PerfusionQuality.from_json(json.loads(json.dumps(quality.to_json()))) == quality
    assert list(quality.tmax_volumes_ml) == ["4", "6", "8", "10"]
    assert quality.frames == 40 == len(quality.aif_per_s) and quality.largest_motion_mm is None
    picture = np.asarray(Image.open(folder_of(done) / "qc.png"))
    assert picture.shape[1] == 1152 and picture.std() > 20
    page = (done / "derivatives/perfusion/qc.html").read_text()
    assert "not RAPID-equivalent until calibrated" in page and "SIMULATED" in page
    assert "cSVD, threshold 0.1, TR 2 s, AIF automatic" in page and f'src="{FIRST}/qc.png"' in page
    described = json.loads((done / "derivatives/perfusion/dataset_description.json").read_text())
    assert described["GeneratedBy"][0]["Name"] == "data_tools.perfusion"


def test_what_is_done_is_kept_and_other_settings_are_made_anew(raw, done, tmp_path, capsys):
    out = shutil.copytree(done, tmp_path / "maps")
    before = tmax_of(out).stat().st_mtime_ns
    assert again(raw, out) == 0
    assert tmax_of(out).stat().st_mtime_ns == before
    assert "2 patients in" in (said := capsys.readouterr().out) and "(2 were done before)" in said
    (folder_of(out) / "qc.png").unlink()  # killed in between
    assert again(raw, out) == 0 and "(1 were done before)" in capsys.readouterr().out
    assert again(raw, out, "--threshold=0.2") == 0
    assert convention_of(tmax_of(out)).threshold == 0.2


def test_changed_maps_and_those_of_other_programs_stay(raw, done, tmp_path, capsys):
    out = shutil.copytree(done, tmp_path / "maps")
    tmax_of(out).write_bytes(tmax_of(out, SECOND).read_bytes())
    (folder_of(out, SECOND) / "perf" / f"{SECOND}_Tmax.json").write_text('{"Units": "s"}')
    theirs = tmax_of(out, SECOND).read_bytes()
    assert again(raw, out, "--threshold=0.2") == 1
    told = capsys.readouterr()
    assert (
        f"failed: {FIRST}: " in told.err
        and "changed since this program wrote them: sub-0001_Tmax" in told.err
    )
    assert "1 with a Tmax map of another program, left as it is" in told.out
    assert tmax_of(out, SECOND).read_bytes() == theirs == tmax_of(out).read_bytes()
    assert again(raw, out, "--threshold=0.2", "--overwrite") == 0
    assert tmax_of(out, SECOND).read_bytes() == theirs != tmax_of(out).read_bytes()


def test_a_bad_series_is_named_and_stops_nobody(raw, done, tmp_path, capsys):
    cohort, out = shutil.copytree(raw, tmp_path / "raw"), shutil.copytree(done, tmp_path / "maps")
    write_small(cohort, SECOND, fault="truncated")
    assert again(cohort, out) == 1
    told = capsys.readouterr().err
    assert f"failed: {SECOND}: perfusion series" in told and "Is the series truncated?" in told
    assert tmax_of(out).is_file() and not tmax_of(out, SECOND).exists()  # nothing stale
    page = (out / "derivatives/perfusion/qc.html").read_text()
    assert '<dt>Failed</dt><dd class="figure">1<' in page and page.index(
        f">{SECOND}<"
    ) < page.index(f">{FIRST}<")


def test_a_wrong_flag_costs_no_maps(raw, done, tmp_path, capsys):
    """Only files that have changed, or cannot be found, make older maps stale."""
    cohort, out = shutil.copytree(raw, tmp_path / "raw"), shutil.copytree(done, tmp_path / "maps")
    before = {path: path.stat().st_mtime_ns for path in out.rglob("sub-*") if path.is_file()}
    assert again(cohort, out, "--tr_s=15") == 1
    told = capsys.readouterr().err
    kept = "The maps of an earlier run were kept. They were made with other settings: --nomotion"
    assert f"failed: {FIRST}, {SECOND}: --tr_s is 15; expected" in told and kept in told
    assert {p: p.stat().st_mtime_ns for p in out.rglob("sub-*") if p.is_file()} == before
    assert of_map(tmax_of(out)) and (folder_of(out) / "qc.png").is_file()
    assert kept in (out / "derivatives/perfusion/qc.html").read_text()
    (cohort / SECOND / "perf" / f"{SECOND}_dsc.json").write_text('{"RepetitionTime": 2.0}')
    assert again(cohort, out, "--tr_s=15") == 1
    assert tmax_of(out).is_file() and not tmax_of(out, SECOND).exists()


def test_maps_of_a_series_that_has_changed_since_are_not_used(raw, done, tmp_path):
    cohort, tmax = shutil.copytree(raw, tmp_path / "raw"), tmax_of(done)
    check_current(cohort, FIRST, tmax)
    check_current(cohort, FIRST, None)
    sidecar = cohort / FIRST / "perf" / f"{FIRST}_dsc.json"
    said = sidecar.read_text()
    sidecar.write_text(said.replace("0.03", "0.031"))
    with pytest.raises(InputError, match="has changed since .* run python -m .* --nomotion_corr"):
        check_current(cohort, FIRST, tmax)
    shutil.rmtree(cohort / FIRST / "perf")  # nothing says that the map is another's
    check_current(cohort, FIRST, tmax)


def test_outputs_that_are_blocked_are_refused_before_any_work(raw, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(patient_maps, "load_series", None)
    (tmp_path / "file").write_text("")
    for folder in ("a/derivatives/perfusion", "b/derivatives"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "a/derivatives/perfusion" / FIRST).write_text("")
    (tmp_path / "a/derivatives/perfusion" / SECOND).write_text("")
    (tmp_path / "b/derivatives/perfusion").write_text("")
    for out in ("file", "file/sub", "b"):
        assert again(raw, tmp_path / out) == 2
        assert "is a file; expected a folder. Choose another" in capsys.readouterr().err
    series = raw / FIRST / "perf" / f"{FIRST}_dsc.nii.gz"
    assert call(perfusion, f"--series={series}", f"--out={tmp_path}/file/sub") == 2
    assert "is a file; expected a folder. Choose another" in capsys.readouterr().err
    assert again(raw, tmp_path / "a") == 1
    told = capsys.readouterr().err
    assert f"{FIRST} is a file; expected a folder" in told and "defect" not in told


def test_a_full_disk_leaves_no_half_patient(raw, tmp_path, monkeypatch, capsys):
    def save(path, *rest):
        if "Tmax" in path.name:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        return save_volume(path, *rest)

    monkeypatch.setattr(patient_maps, "save_volume", save)
    assert again(raw, tmp_path / "maps") == 2
    told = capsys.readouterr().err
    assert "No space left" in told and "make room and run the same command again" in told
    assert not [path for path in (tmp_path / "maps").rglob("*") if path.is_file()]


def test_whom_the_table_leaves_out_is_named(raw, done, tmp_path, capsys):
    cohort, out = shutil.copytree(raw, tmp_path / "raw"), shutil.copytree(done, tmp_path / "maps")
    table = cohort / "participants.tsv"
    head, *lines = table.read_text().splitlines()
    words = head.split("\t")
    rows = [dict(zip(words, line.split("\t"), strict=True)) for line in lines]
    for row in rows:
        row["exclude"] = "moved" if row["participant_id"] == SECOND else "n/a"
    told = ["\t".join(rows[0]), *("\t".join(row.values()) for row in rows)]
    table.write_text("\n".join(told) + "\n")
    assert again(cohort, out) == 0
    assert f"left out, excluded by hand: {SECOND}: moved" in capsys.readouterr().err


def test_one_patient_with_a_chosen_artery(raw, done, scan, tmp_path, capsys):
    series, out = raw / FIRST / "perf" / f"{FIRST}_dsc.nii.gz", tmp_path / "one"
    voxel = ",".join(map(str, of_map(tmax_of(done)).aif_voxels[0]))
    one = (f"--series={series}", f"--out={out}", "--nomotion_correction")
    assert call(perfusion, *one, f"--aif={voxel}") == 0
    assert f"{FIRST}: Tmax " in capsys.readouterr().out
    assert convention_of(out / f"{FIRST}_Tmax.nii.gz").arterial_input == "voxel"
    region = np.zeros(scan.signal.shape[:3], np.uint8)
    for voxel in of_map(tmax_of(done)).aif_voxels:
        region[voxel] = 1
    nib.save(nib.Nifti1Image(region, scan.affine), tmp_path / "aif.nii.gz")
    assert call(perfusion, *one, f"--aif={tmp_path}/aif.nii.gz") == 0
    assert convention_of(out / f"{FIRST}_Tmax.nii.gz").arterial_input == "region"
    assert call(perfusion, *one, "--tr_s=15") == 2
    told = capsys.readouterr().err
    assert "The maps of an earlier run were kept. They were made with other settings: --no" in told
    assert (out / f"{FIRST}_Tmax.nii.gz").is_file()
    assert call(perfusion, *one, "--participant=x") == 2
    assert f"holds the maps of {FIRST}" in capsys.readouterr().err
    nib.save(nib.Nifti1Image(region[:-1], scan.affine), tmp_path / "aif.nii.gz")
    assert call(perfusion, *one, f"--aif={tmp_path}/aif.nii.gz") == 2
    assert "expected a mask drawn on the series itself" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "expected --cohort=FOLDER, or --series=PATH"),
        (["--cohort=a", "--series=b"], "expected --cohort=FOLDER, or --series=PATH"),
        (["--series=a"], "--out is required with --series"),
        (["--cohort=a", "--aif=1,2,3"], "--aif: only with --series, for one patient"),
        (["--cohort=a", "--threshold=1.5"], "the threshold is 1.5; expected more than 0"),
        (["--series=a", "--out=b", "--aif=1,2"], "or a voxel as three whole numbers"),
        ([f"--series={__file__}", "--out=b", "--dicom_series=3"], "is one file; leave it out"),
        (["--series=a", "--out=b", "--tr_s=1500"], "--tr_s is 1500; expected 0.2 to 6, in seconds"),
        (["--series=a.nii.gz", "--out=b"], "no such file"),
        (["--series= ", "--out=b"], "--series is empty"),
        (["--series=a", "--out=b", "--calibrate=c"], "--calibrate needs --cohort"),
        (["--cohort=a", "--calibrate=c"], "--calibrate=c: no such folder; expected the folder"),
        (["--cohort=a"], "--cohort=a: no such folder"),
        (["--series=a", "--out=b", "--participant=../x"], "expected a name such as sub-0001"),
        (["--series=a", "--out=b", "--participant=.x"], "without a dot at its start"),
    ],
)  # fmt: skip
def test_what_cannot_be_asked_is_refused(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert call(perfusion, *arguments) == 2
    assert message in capsys.readouterr().err


def test_a_sites_threshold_is_found_and_printed(done, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(threshold_fit, "FEWEST", 2)
    out, reference = shutil.copytree(done, tmp_path / "maps"), tmp_path / "reference"
    reference.mkdir()
    at_8_s = {name: of_map(tmax_of(done, name)).tmax_volumes_ml["8"] for name in (FIRST, SECOND)}
    lines = ["participant_id\thypoperfusion_ml", *(f"{n}\t{ml}" for n, ml in at_8_s.items())]
    (reference / "volumes.tsv").write_text("\n".join(lines) + "\n")
    assert call(perfusion, f"--cohort={out}", f"--calibrate={reference}") == 0
    told = capsys.readouterr()
    assert "Tmax >= 8.0 s of these maps agrees best" in told.out and "by volume of 2" in told.out
    assert "2 patients are few for a calibration" in told.err
    folder = out / "derivatives" / "perfusion"
    assert json.loads((folder / "calibration.json").read_text())["threshold_s"] == 8.0
    assert (folder / "calibration.png").is_file() and (folder / "calibration.csv").is_file()


def test_a_sites_threshold_is_counted_beside_the_others(raw, done, tmp_path, capsys):
    out = shutil.copytree(done, tmp_path / "maps")
    folder, made = out / "derivatives" / "perfusion", tmax_of(out).stat().st_mtime_ns
    content = calibrated(convention_of(tmax_of(out)), 8.0)
    (folder / "calibration.json").write_text(json.dumps(content))
    assert again(raw, out) == 0
    told = capsys.readouterr().out
    assert "By this site's calibration, hypoperfusion is Tmax >= 8 s." in told
    assert "not RAPID-equivalent" not in told
    quality = of_map(tmax_of(out))
    assert quality.site_threshold_s == 8.0 and tmax_of(out).stat().st_mtime_ns == made
    assert quality.site_volume_ml == quality.tmax_volumes_ml["8"]
    assert quality.equivalence == "calibrated, hypoperfusion from 8 s on"
    page = (folder / "qc.html").read_text()
    assert "Site&#39;s Tmax (mL)" in page and "Tmax &gt;= 8 s." in page
    assert "not RAPID-equivalent" not in page
    content["convention"]["deconvolution"] = "osvd"
    (folder / "calibration.json").write_text(json.dumps(content))
    assert again(raw, out) == 0 and of_map(tmax_of(out)).site_volume_ml is None
    told = capsys.readouterr().out
    assert "The calibration was not used. " in told and "made with oSVD, threshold 0.1" in told
    assert "{" not in told and "not RAPID-equivalent until calibrated" in told
    assert "Site&#39;s Tmax" not in (folder / "qc.html").read_text()


def test_maps_of_an_earlier_version_are_made_again(raw, done, tmp_path, monkeypatch, capsys):
    out = shutil.copytree(done, tmp_path / "maps")
    monkeypatch.setattr(record, "PERFUSION_VERSION", record.PERFUSION_VERSION + 1)
    with pytest.raises(InputError, match="whose maps differ; run python -m data_tools.perfusion"):
        record.check_version(tmax_of(out))
    assert again(raw, out) == 0 and "(0 were done before)" in capsys.readouterr().out
    record.check_version(tmax_of(out))


def test_a_scanners_file_gives_the_maps_of_the_nifti_file(raw, done, scan, tmp_path, capsys):
    cohort = shutil.copytree(raw, tmp_path / "raw")
    shutil.rmtree(cohort / FIRST / "perf")
    write_enhanced(cohort / FIRST / "dicom" / f"{FIRST}_dsc.dcm", scan, FIRST, 3.0)
    shutil.rmtree(cohort / SECOND / "perf")
    assert again(cohort, cohort) == 0
    ours, theirs = (load_volume(tmax_of(folder)) for folder in (cohort, done))
    np.testing.assert_allclose(ours.affine, theirs.affine, atol=1e-4)
    np.testing.assert_allclose(ours.data, theirs.data, atol=0.01)
    assert again(cohort, cohort, "--dicom_series=nosuch") == 1
    told = capsys.readouterr().err
    assert "--dicom_series=nosuch: no series is named" in told and "were kept" in told
    assert tmax_of(cohort).is_file()


def test_a_cohort_without_series_is_refused(raw_cohort, tmp_path, capsys):
    cohort = shutil.copytree(raw_cohort, tmp_path / "raw")
    assert call(perfusion, f"--cohort={cohort}", f"--out={tmp_path}/out") == 2
    assert "no patient has a raw perfusion series" in capsys.readouterr().err
    assert not (tmp_path / "out" / "derivatives" / "perfusion").exists()


def test_files_of_series_are_found(files):
    cohort = files(
        "sub-1/ses-1/perf/sub-1_ses-1_DSC.nii", "sub-1/ses-1/dwi/sub-1_ses-1_dwi.nii.gz",
        "sub-2/dicom/a.dcm", "sub-3/dwi/sub-3_dwi.nii.gz", "sub-4/sub-4_pwi.nii.gz",
        "sub-4/perf/sub-4_dsc.nii.gz", "derivatives/masks/sub-1/sub-1_ses-1_desc-aif_mask.nii.gz",
        "derivatives/perfusion/sub-1/ses-1/perf/sub-1_ses-1_Tmax.nii.gz",
    )  # fmt: skip
    found, _ = find_perfusion_files(cohort, "sub-1_ses-1")
    assert found.series.name == "sub-1_ses-1_DSC.nii"
    assert found.artery.name == "sub-1_ses-1_desc-aif_mask.nii.gz"
    assert len(tmax_files(cohort, "sub-1_ses-1")) == 1
    assert find_perfusion_files(cohort, "sub-2")[0].series == cohort / "sub-2" / "dicom"
    assert find_perfusion_files(cohort, "sub-3") == (None, [])
    none, (fault,) = find_perfusion_files(cohort, "sub-4")
    assert none is None and "expected one file" in fault.what
    assert "several" not in str(find_raw_files(cohort, "sub-4")[1])
    (cohort / "sub-3" / "sub-3_dsc.nii.gz").symlink_to("gone.nii.gz")
    assert "is a link to gone.nii.gz" in find_perfusion_files(cohort, "sub-3")[1][0].what
