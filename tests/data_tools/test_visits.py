"""Visits of a patient: each is a row of its own, and whose it is stays known to the records."""

import contextlib
import io

import pytest
from helpers.commands import call
from helpers.visits import laid_out, read_table, write_table

from data_tools import check_cohort, mni_to_native, preprocess, records_builder
from data_tools.cohort import (
    clinical_record,
    find_raw_files,
    mni_file,
    named_in_table,
    patient_folder,
    read_participants,
    unlisted_folders,
    write_participants,
)
from data_tools.groups import counted_patients, groups_of
from data_tools.runtime.errors import InputError

# Six patients become two visits of three; two of the patients are a family.
NAMES = {f"sub-{k:04d}": f"sub-{'abc'[(k - 1) // 2]}_ses-{2 - k % 2}" for k in range(1, 7)}
GROUPS = ["n/a", "n/a", "family 7", "n/a", "n/a", "family 7"]
SITES = ["Bern", "Basel", "Bern", "Bern", "n/a", "Bern"]


@pytest.fixture(scope="module")
def raw(raw_cohort, tmp_path_factory):
    """Two visits of one patient, as BIDS has them. Read only."""
    names = {"sub-0001": "sub-a_ses-1", "sub-0002": "sub-a_ses-2"}
    folder = tmp_path_factory.mktemp("visits") / "raw"
    return laid_out(raw_cohort, folder, names, more=[("site", ["Bern", "n/a"])])


def images(folder, name):
    return [f"{folder}/dwi/{name}_dwi.nii.gz", f"{folder}/dwi/{name}_ADC.nii.gz"]


def answer(command, *arguments):
    """Exit status of a command, and all that it says."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        status = call(command, *arguments)
    return status, said.getvalue()


def test_visits_come_to_mni_space_and_back(raw, tmp_path):
    status, said = answer(check_cohort, f"--cohort={raw}")
    assert status == 0, said
    assert f"{raw}: 2 visits of 1 patient, no faults" in said
    assert "together      1 group by visits and the column group; the largest has 2 rows" in said

    mni = tmp_path / "mni"
    status, said = answer(preprocess, f"--cohort={raw}", f"--out={mni}")
    assert status == 0, said
    assert f"2 visits of 1 patient in {mni}" in said
    columns, *rows = read_table(mni)
    assert [(row[0], row[columns.index("site")]) for row in rows] == [
        ("sub-a_ses-1", "Bern"), ("sub-a_ses-2", "n/a"),
    ]  # fmt: skip
    assert "group" not in columns
    status, said = answer(check_cohort, f"--cohort={mni}")
    assert status == 0, said
    assert f"{mni}: 2 visits of 1 patient in MNI space, no faults" in said

    mask = mni_file(mni, "sub-a_ses-2", "desc-brain_mask")
    back = mni_to_native.bring(
        str(mask), str(tmp_path / "back.nii.gz"), cohort=str(mni), participant="sub-a_ses-2"
    )
    assert back.native_ml > 500
    with pytest.raises(InputError, match="named after sub-a_ses-2, and --participant is sub-a_ses"):
        mni_to_native.bring(
            str(mask), str(tmp_path / "b.nii.gz"), cohort=str(mni), participant="sub-a_ses-1"
        )


def test_a_row_of_the_patient_with_several_visits_is_refused(raw, tmp_path):
    cohort = tmp_path / "raw"
    cohort.mkdir()
    for path in raw.iterdir():
        (cohort / path.name).symlink_to(path)
    (cohort / "participants.tsv").unlink()
    columns, first, _ = read_table(raw)
    write_table(cohort, [columns, ["sub-a", *first[1:]]])
    status, said = answer(check_cohort, f"--cohort={cohort}")
    assert status == 2 and "Traceback" not in said
    assert "1 fault in" in said
    assert (
        "holds images of 2 visits, ses-1, ses-2; expected a row for each in participants.tsv: "
        "sub-a_ses-1, sub-a_ses-2, and none of sub-a" in said
    )


def test_groups_and_sites_reach_the_records(mni_cohort, tmp_path):
    mni = laid_out(
        mni_cohort, tmp_path / "mni", NAMES, nested=False,
        more=[("Group", GROUPS), ("site", SITES)],
    )  # fmt: skip
    status, said = answer(check_cohort, f"--cohort={mni}")
    assert status == 0, said
    assert "6 visits of 3 patients in MNI space, no faults" in said
    assert "together      2 groups by visits and the column group; the largest has 4 rows" in said
    assert "note: more than half of the rows are in one group" in said

    with pytest.raises(InputError, match="2 groups of patients cannot be split into 3 subsets"):
        records_builder.build(str(mni), str(tmp_path / "few"), stride=16, shards=1, seed=1, folds=3)
    alone = ["7", *["n/a"] * (len(NAMES) - 1)]
    mni = laid_out(
        mni_cohort, tmp_path / "apart", NAMES, nested=False,
        more=[("group", alone), ("site", SITES)],
    )  # fmt: skip
    out = str(tmp_path / "records")
    manifest, _ = records_builder.build(str(mni), out, stride=16, shards=1, seed=1, folds=3)
    rows = manifest.rows()
    assert [rows[name]["group"] or "n/a" for name in NAMES.values()] == alone
    assert [rows[name]["site"] or "n/a" for name in NAMES.values()] == SITES
    for subset in manifest.subsets:  # the visits of one patient
        assert len({groups_of(rows)[name] for name in subset.participants}) == 1


@pytest.mark.quick
@pytest.mark.parametrize("folder", ["sub-1/ses-1", "sub-1_ses-1"])
@pytest.mark.parametrize("derived", ["sub-1/ses-1", "sub-1_ses-1", "sub-1"])
def test_the_files_of_a_visit_are_its_own(files, folder, derived):
    mask = f"derivatives/masks/{derived}/sub-1_ses-1_desc-core_mask.nii.gz"
    brain = f"derivatives/masks/{derived}/sub-1_ses-1_desc-brain_mask.nii.gz"
    tmax = f"derivatives/perfusion/{derived}/perf/sub-1_ses-1_Tmax.nii.gz"
    label = f"derivatives/labels/{derived}/sub-1_ses-1_desc-hypoperfusion_mask.nii.gz"
    own = [*images(folder, "sub-1_ses-1"), tmax, label, brain, mask]
    others = [
        name.replace("ses-1", other) for name in own for other in ("ses-10", "ses-2")
        if "ses-1/" in name or "ses-1_" in name
    ]  # fmt: skip
    cohort = files(*own, *others)
    found, faults = find_raw_files(cohort, "sub-1_ses-1")
    assert faults == []
    assert found.existing() == [cohort / name for name in own]


@pytest.mark.quick
@pytest.mark.parametrize("folder", ["sub-1/ses-1", "sub-1_ses-1"])
def test_scanner_files_and_a_derived_map_of_a_visit_are_found(files, folder):
    cohort = files(f"{folder}/dicom/1.dcm", "sub-1/ses-2/dicom/2.dcm")
    found, faults = find_raw_files(cohort, "sub-1_ses-1")
    assert faults == [] and found.dwi == cohort / folder / "dicom"
    adc = f"derivatives/dwi/{folder}/sub-2_ses-1_ADC.nii.gz".replace("sub-1", "sub-2")
    dwi = f"{folder}/dwi/sub-2_ses-1_dwi.nii.gz".replace("sub-1", "sub-2")
    found, faults = find_raw_files(files(adc, dwi), "sub-2_ses-1")
    assert faults == [] and (found.dwi, found.adc) == (cohort / dwi, cohort / adc)


@pytest.mark.quick
def test_one_folder_of_a_visit_needs_no_row_of_its_own(files):
    follow_up = "sub-1/ses-2/anat/sub-1_ses-2_FLAIR.nii.gz"
    cohort = files(*images("sub-1/ses-1", "sub-1_ses-1"), follow_up, "sub-2/ses-1/dicom/1.dcm")
    found, faults = find_raw_files(cohort, "sub-1")
    assert faults == [] and found.dwi.name == "sub-1_ses-1_dwi.nii.gz"
    found, faults = find_raw_files(cohort, "sub-2")
    assert faults == [] and found.dwi == cohort / "sub-2/ses-1/dicom"


@pytest.mark.quick
def test_dwi_of_one_visit_and_adc_of_another_are_never_one_patient(files):
    dwi, adc = images("sub-1/ses-1", "sub-1_ses-1")
    found, (fault,) = find_raw_files(files(dwi, adc.replace("ses-1", "ses-2")), "sub-1")
    assert found is None and fault.what.startswith("holds images of 2 visits, ses-1, ses-2")


@pytest.mark.quick
def test_a_visit_without_folder_or_with_two(files):
    cohort = files(*images("sub-1/ses-1", "sub-1_ses-1"))
    found, (fault,) = find_raw_files(cohort, "sub-1_ses-2")
    assert found is None and fault.file == str(cohort / "sub-1/ses-2")
    assert fault.what == (
        f"no such folder; expected the visit's files there, or in {cohort}/sub-1_ses-2, or no row "
        "in participants.tsv"
    )
    files(*images("sub-1_ses-1", "sub-1_ses-1"))
    found, (fault,) = find_raw_files(cohort, "sub-1_ses-1")
    assert found is None and fault.what.endswith("expected the visit's files in one of the two")
    (cohort / "sub-3").symlink_to(cohort / "gone")
    found, (fault,) = find_raw_files(cohort, "sub-3_ses-1")
    assert fault.what.startswith("is a link to ")


@pytest.mark.quick
def test_a_link_to_nothing_is_told_of_its_own_visit_only(files):
    cohort = files(*images("sub-1/ses-1", "sub-1_ses-1"), *images("sub-1/ses-2", "sub-1_ses-2"))
    broken = cohort / "derivatives/perfusion/sub-1/ses-2"
    broken.parent.mkdir(parents=True)
    broken.symlink_to(cohort / "gone")
    assert find_raw_files(cohort, "sub-1_ses-1")[1] == []
    (fault,) = find_raw_files(cohort, "sub-1_ses-2")[1]
    assert fault.file == "derivatives/perfusion/sub-1/ses-2"


@pytest.mark.quick
def test_a_visit_without_a_row_is_not_left_out_silently(files):
    cohort = files(
        *images("sub-1/ses-1", "sub-1_ses-1"), *images("sub-1/ses-2", "sub-1_ses-2"),
        "sub-1/ses-3/anat/sub-1_ses-3_T1w.nii.gz", *images("sub-2_ses-1", "sub-2_ses-1"),
        *images("sub-2_ses-2", "sub-2_ses-2"), "sub-1/dicom/1.dcm",
    )  # fmt: skip
    faults = unlisted_folders(cohort, ["sub-1_ses-1", "sub-2_ses-1"])
    assert [(fault.participant, fault.what[:22]) for fault in faults] == [
        ("sub-1_ses-2", "no row for this visit;"),
        ("sub-1", "belongs to no visit; m"),
        ("sub-2_ses-2", "no row for this folder"),
    ]
    # Of an MNI cohort of before, with a folder for the patient as a whole.
    files("sub-3/sub-3_space-MNI152NLin2009aSym_dwi.nii.gz", "sub-3_ses-1/qc.json")
    (fault,) = unlisted_folders(cohort, [*named(cohort), "sub-3_ses-1"])
    assert (fault.participant, fault.what[:22]) == ("sub-3", "no row for this folder")


def named(cohort):
    """Every row that the folders ``sub-1`` and ``sub-2`` could have."""
    (cohort / "sub-1/dicom/1.dcm").unlink()
    (cohort / "sub-1/dicom").rmdir()
    return ["sub-1_ses-1", "sub-1_ses-2", "sub-2_ses-1", "sub-2_ses-2"]


@pytest.mark.quick
def test_names_of_visits():
    name = "sub-1_ses-2"
    assert str(mni_file("mni", name, "adc")).startswith(f"mni/{name}/{name}_space-")
    assert str(patient_folder("raw", name)) == "raw/sub-1/ses-2"
    assert counted_patients([name]) == "1 patient"
    assert counted_patients([name, "sub-1_ses-1", "sub-2"]) == "3 visits of 2 patients"
    assert counted_patients([]) == "0 patients"


@pytest.mark.quick
def test_a_table_of_visits_reads_back(tmp_path):
    rows = [["participant_id", "nihss", "side", "group"], ["sub-1_ses-1", "4", "left", "12"]]
    write_table(tmp_path, rows)
    assert named_in_table(tmp_path) == ["sub-1_ses-1"]
    records = [clinical_record(row) for _, row in read_participants(tmp_path).iterrows()]
    assert (records[0]["group"], records[0]["site"]) == ("12", None)
    write_participants(tmp_path / "again/participants.tsv", records)
    again = [clinical_record(row) for _, row in read_participants(tmp_path / "again").iterrows()]
    assert again == records
