"""The check of a whole cohort: a clean one passes with a summary, faults come in one table."""

import dataclasses
import json
import os
import shutil
from pathlib import Path

import pytest
from helpers.dsc import write_small

from data_tools import check_cohort, cohort_faults, patient
from data_tools import cohort as cohorts
from data_tools.cohort import CohortError, Fault
from data_tools.perfusion import calibration, record
from data_tools.perfusion.record import Convention
from data_tools.runtime import command
from data_tools.volumes import load_volume, save_volume


@pytest.fixture
def cohort(raw_cohort, tmp_path):
    """A copy of the two simulated patients that a test may damage."""
    return shutil.copytree(raw_cohort, tmp_path / "cohort")


def image(cohort, participant, name):
    return cohort / participant / "dwi" / f"{participant}_{name}.nii.gz"


def run(cohort, *more):
    arguments = [f"--cohort={cohort}", *more]
    return command.run(check_cohort.main, check_cohort.FLAGS, check_cohort.__doc__, arguments)


def test_a_clean_cohort_exits_0_with_a_summary(raw_cohort, capsys):
    assert run(raw_cohort) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{raw_cohort}: 2 patients, no faults"
    shown = {line[2:16].strip(): line[16:] for line in lines[1:]}
    assert shown["ADC unit"] == "mm2/s 2"
    assert shown["truth from"] == "Tmax 2"
    assert sum(int(word) for word in shown["side"].replace(",", "").split()[1::2]) == 2
    median_ml = float(shown["brain volume"].split()[1])
    assert 900 < median_ml < 2100


def test_raw_perfusion_series_are_looked_at_where_tmax_is_to_be_made_of_them(cohort, capsys):
    write_small(cohort, "sub-0001")
    assert run(cohort) == 0
    assert "truth from    raw perfusion series 1, Tmax 1" in capsys.readouterr().out
    write_small(cohort, "sub-0002", fault="no_bolus")
    (cohort / "sub-0001" / "perf" / "sub-0001_dsc.json").write_text('{"RepetitionTime": 2.0}')
    assert run(cohort) == 2
    table = capsys.readouterr().err
    assert "2 faults in the cohort" in table
    assert "its TE is not known" in table and "no EchoTime in" in table
    assert "sub-0002_dsc.nii.gz: no bolus: the brain's mean signal falls by" in table


def test_tmax_of_this_program_is_counted_by_the_sites_threshold_too(cohort, capsys):
    folder = cohort / "derivatives" / "perfusion"
    image = folder / "sub-0001" / "perf" / "sub-0001_Tmax.nii.gz"
    made_by = Convention(
        version=record.PERFUSION_VERSION, deconvolution="csvd", threshold=0.1, tr_s=2.0,
        te_s=0.03, arterial_input="automatic", smoothing_sd_voxels=0.7, motion_corrected=True,
    )  # fmt: skip
    sidecar = image.with_name("sub-0001_Tmax.json")
    sidecar.write_text(json.dumps(made_by.to_sidecar()))
    alike = {name: getattr(made_by, name) for name in calibration.ALIKE}
    content = {"threshold_s": 7.3, "convention": alike}
    (folder / "calibration.json").write_text(json.dumps(content))
    assert run(cohort) == 0
    lines = capsys.readouterr().out.splitlines()
    (at_6_s,) = [line for line in lines if line.startswith("  Tmax >= 6 s ")]
    (at_7_s,) = [line for line in lines if line.startswith("  Tmax >= 7.3 s ")]
    assert "n=2" in at_6_s and "n=1" in at_7_s and "by the site's calibration" in at_7_s
    content["convention"] |= {"threshold": 0.2}
    (folder / "calibration.json").write_text(json.dumps(content))
    assert run(cohort) == 2 and "make the maps in the same way" in capsys.readouterr().err
    older = dataclasses.replace(made_by, version=made_by.version - 1)
    sidecar.write_text(json.dumps(older.to_sidecar()))
    assert run(cohort) == 2 and "whose maps differ" in capsys.readouterr().err


def test_whom_the_table_leaves_out_is_counted_and_no_fault(cohort, capsys):
    lines = (cohort / "participants.tsv").read_text().splitlines()
    lines = [f"{line}\t{cell}" for line, cell in zip(lines, ("exclude", "n/a", "poor DWI"),
                                                     strict=True)]  # fmt: skip
    (cohort / "participants.tsv").write_text("\n".join(lines) + "\n")
    image(cohort, "sub-0002", "ADC").write_bytes(b"no image")
    assert run(cohort) == 0
    printed = capsys.readouterr().out
    assert f"{cohort}: 1 patient, no faults" in printed
    assert "1 more patient will be left out: 1 excluded by hand: poor DWI 1" in printed
    text = (cohort / "participants.tsv").read_text()
    (cohort / "participants.tsv").write_text(text.replace("\tn/a\n", "\tpoor bolus\n"))
    assert run(cohort) == 2
    assert "leaves out every patient" in capsys.readouterr().err


def test_faults_of_table_folders_and_images_come_in_one_table(cohort, capsys):
    rows = (cohort / "participants.tsv").read_text().splitlines()
    columns = rows[0].split("\t")
    cells = rows[2].split("\t")
    cells[columns.index("nihss")] = "50"
    absent = "\t".join(["sub-0003", *cells[1:]]).replace("\t50\t", "\t5\t")
    (cohort / "participants.tsv").write_text(
        "\n".join([rows[0], rows[1], "\t".join(cells), absent]) + "\n"
    )
    image(cohort, "sub-0001", "ADC").unlink()
    dwi = image(cohort, "sub-0002", "dwi")
    dwi.write_bytes(dwi.read_bytes()[:1000])
    (cohort / "sub-0009").mkdir()

    assert run(cohort) == command.EXIT_BAD_INPUT
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Traceback" not in captured.err
    for participant, message in (
        ("sub-0001", "no sub-0001_*_ADC.nii.gz below"),
        ("sub-0002", "nihss is '50'"),
        ("sub-0002", "ends too early or is damaged"),
        ("sub-0009", "no row for this folder"),
    ):
        found = [line for line in captured.err.splitlines() if message in line]
        assert len(found) == 1, message
        assert found[0].startswith(participant)


def test_a_row_without_folder_is_a_fault(cohort):
    shutil.rmtree(cohort / "sub-0002")
    with pytest.raises(CohortError, match=r"1 fault in") as caught:
        cohort_faults.check(str(cohort))
    (fault,) = caught.value.faults
    assert fault.participant == "sub-0002"
    assert "no such folder" in fault.what


def test_two_dwi_files_are_a_fault(cohort):
    extra = cohort / "sub-0001/ses-2/dwi/sub-0001_ses-2_dwi.nii.gz"
    extra.parent.mkdir(parents=True)
    shutil.copy(image(cohort, "sub-0001", "dwi"), extra)
    with pytest.raises(CohortError, match="expected one file. Keep the baseline scan"):
        cohort_faults.check(str(cohort))


def test_session_folders_and_isles_names_are_read(cohort):
    folder = cohort / "sub-0001/ses-0001/dwi"
    folder.mkdir(parents=True)
    for name, new in (("dwi", "dwi"), ("ADC", "adc")):
        image(cohort, "sub-0001", name).rename(folder / f"sub-0001_ses-0001_{new}.nii.gz")
    assert "2 patients, no faults" in cohort_faults.check(str(cohort))


def test_units_are_counted_apart_and_no_truth_is_said(cohort):
    path = image(cohort, "sub-0002", "ADC")
    adc = load_volume(path)
    save_volume(path, adc.data * 1e6, adc.affine)
    path.with_name("sub-0002_ADC.json").unlink()
    shutil.rmtree(cohort / "derivatives/perfusion/sub-0002")
    summary = cohort_faults.check(str(cohort))
    assert "mm2/s 1, 1e-6 mm2/s 1" in summary
    assert "Tmax 1, none 1" in summary
    assert "1 patient has neither Tmax nor an edited mask, nor a raw perfusion series" in summary
    assert summary.endswith("build_records will leave out: sub-0002")


def test_what_is_wrong_with_a_calibration_is_said_once():
    faults = [Fault(f"sub-{k}", "calibration.json", "of other maps") for k in range(3)]
    other = Fault("sub-2", "DWI", "of other maps")
    (said, kept) = cohort_faults._said_once([*faults, other])
    assert said == Fault("(all)", "calibration.json", "of other maps (maps of 3 patients)")
    assert kept == other and cohort_faults._said_once(faults[:1]) == faults[:1]


def test_two_patients_with_the_same_images_are_a_fault(cohort):
    for name in ("dwi", "ADC"):
        shutil.copy(image(cohort, "sub-0001", name), image(cohort, "sub-0002", name))
    with pytest.raises(CohortError, match="sub-0002 .*same voxels as that of sub-0001"):
        cohort_faults.check(str(cohort))


def test_two_workers_find_the_same(cohort):
    image(cohort, "sub-0001", "dwi").unlink()
    messages = []
    for workers in (1, 2):
        with pytest.raises(CohortError) as caught:
            cohort_faults.check(str(cohort), workers=workers)
        messages.append(str(caught.value))
    assert messages[0] == messages[1]


@pytest.mark.parametrize("error", [TypeError("odd"), MemoryError("40 GiB"), RecursionError("deep")])
def test_whatever_is_raised_about_one_patient_the_others_are_checked(
    cohort, error, monkeypatch, capsys
):
    image(cohort, "sub-0002", "dwi").write_bytes(b"no image")
    examine = patient.examine

    def odd(dwi, *more, **said):
        if "sub-0001" in str(dwi):
            raise error
        return examine(dwi, *more, **said)

    monkeypatch.setattr(patient, "examine", odd)
    assert run(cohort) == command.EXIT_BAD_INPUT
    said = capsys.readouterr().err
    assert "Traceback" not in said
    first, second = [line for line in said.splitlines() if line.startswith("sub-")]
    assert first.startswith("sub-0001") and str(error) in first
    assert second.startswith("sub-0002") and "sub-0002_dwi.nii.gz" in second


def test_a_folder_that_cannot_be_opened_stops_no_other(cohort, monkeypatch):
    layouts = cohorts.layouts

    def odd(folder, name):
        if name == "sub-0001":
            raise PermissionError(13, "Permission denied", f"{folder}/{name}")
        return layouts(folder, name)

    monkeypatch.setattr(cohorts, "layouts", odd)
    image(cohort, "sub-0002", "dwi").unlink()
    with pytest.raises(CohortError) as caught:
        cohort_faults.check(str(cohort))
    first, second = caught.value.faults
    assert first.participant == "sub-0001"
    assert "sub-0001: Permission denied" in first.what
    assert second.participant == "sub-0002"


ODD_FILES = {
    "a file in the place of the folder": lambda c: (
        shutil.rmtree(c / "sub-0001"), (c / "sub-0001").write_text("x")),
    "an empty image": lambda c: image(c, "sub-0001", "dwi").write_bytes(b""),
    "a folder in the place of an image": lambda c: (
        image(c, "sub-0001", "ADC").unlink(), image(c, "sub-0001", "ADC").mkdir()),
    "a link to nothing": lambda c: (
        image(c, "sub-0001", "ADC").unlink(), image(c, "sub-0001", "ADC").symlink_to("/gone")),
    "a link to itself": lambda c: (
        image(c, "sub-0001", "ADC").unlink(),
        image(c, "sub-0001", "ADC").symlink_to(image(c, "sub-0001", "ADC"))),
    "an empty tmax": lambda c: next(
        (c / "derivatives/perfusion/sub-0001").rglob("*.nii.gz")).write_bytes(b""),
}  # fmt: skip


@pytest.mark.parametrize("damage", ODD_FILES.values(), ids=ODD_FILES)
def test_odd_files_are_one_patients_fault(cohort, damage):
    damage(cohort)
    with pytest.raises(CohortError) as caught:
        cohort_faults.check(str(cohort))
    assert {fault.participant for fault in caught.value.faults} == {"sub-0001"}
    assert "defect" not in str(caught.value)


@pytest.mark.parametrize("content", [b"\xff\xfe\x00{", b"{", b"[1]", b"\x8a\xbf", b""])
def test_odd_sidecars_stop_nobody(cohort, content):
    image(cohort, "sub-0001", "ADC").with_name("sub-0001_ADC.json").write_bytes(content)
    image(cohort, "sub-0001", "dwi").with_name("sub-0001_dwi.json").write_bytes(content)
    found = cohort_faults.check_patient("sub-0001", str(cohort))
    assert found.figures or "sub-0001" in found.faults[0].what


def test_folders_of_odd_names_stop_nobody(cohort, capsys):
    for name in (b"sub-\xff", "sub-\u00e9 \u65e5".encode(), b"sub-0001/\xff\xfe"):
        (Path(os.fsdecode(os.fsencode(cohort) + b"/" + name))).mkdir()
    assert run(cohort) == command.EXIT_BAD_INPUT
    said = capsys.readouterr().err
    assert said.count("no row for this folder") == 2
    assert "2 faults" in said


def test_notes_about_the_table_are_in_the_summary(cohort):
    path = cohort / "participants.tsv"
    path.write_text(path.read_text().replace("nihss", "NIHSS"))
    assert "  note: participants.tsv: the columns 'NIHSS' as nihss" in cohort_faults.check(
        str(cohort)
    )


def test_no_cohort_at_all_exits_with_2(tmp_path, capsys):
    assert run(tmp_path / "absent") == 2
    assert "participants.tsv: no such file" in capsys.readouterr().err


def test_no_workers_exit_with_2(raw_cohort, capsys):
    assert run(raw_cohort, "--workers=0") == 2
    assert "workers is 0; expected 1 or more" in capsys.readouterr().err
