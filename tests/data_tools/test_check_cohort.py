"""The check of a whole cohort: a clean one passes with a summary, faults come in one table."""

import shutil

import pytest

from data_tools import check_cohort, cohort_faults
from data_tools.cohort import CohortError
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
    with pytest.raises(CohortError, match=r"1 fault\(s\)") as caught:
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


def test_no_cohort_at_all_exits_with_2(tmp_path, capsys):
    assert run(tmp_path / "absent") == 2
    assert "participants.tsv: no such file" in capsys.readouterr().err


def test_no_workers_exit_with_2(raw_cohort, capsys):
    assert run(raw_cohort, "--workers=0") == 2
    assert "workers is 0; expected 1 or more" in capsys.readouterr().err
