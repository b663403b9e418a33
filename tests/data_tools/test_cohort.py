"""participants.tsv and the files of a raw cohort: every fault is found, and all at once."""

import math
from pathlib import Path

import pytest

from data_tools.cohort import (
    COLUMNS,
    CohortError,
    Fault,
    clinical_record,
    fault_table,
    find_raw_files,
    mni_file,
    named_in_table,
    number,
    plain,
    read_participants,
    unlisted_folders,
    write_participants,
)
from data_tools.overrides import Overrides
from data_tools.runtime.errors import InputError

pytestmark = pytest.mark.quick

GOOD = {
    "participant_id": "sub-0001",
    "age": "67",
    "sex": "F",
    "nihss": "14",
    "side": "left",
    "occlusion": "M1",
    "field_strength_t": "1.5",
    "cohort": "A",
    "site": "Bern",
    "group": "family 7",
    "mrs_90d": "2",
    "exclude": "n/a",
    "lacks": "n/a",
    "derived": "n/a",
}


HEADER = b"participant_id\tnihss\tside\n"


@pytest.fixture
def table(tmp_path):
    """Write participants.tsv from rows that differ from a good one: ``table({"nihss": "50"})``."""

    def write(*changes, columns=COLUMNS):
        rows = [columns]
        for k, change in enumerate(changes, start=1):
            row = GOOD | {"participant_id": f"sub-{k:04d}"} | change
            rows.append([row[name] for name in columns])
        text = "".join("\t".join(row) + "\n" for row in rows)
        (tmp_path / "participants.tsv").write_text(text)
        return tmp_path

    return write


def faults_of(cohort):
    with pytest.raises(CohortError) as caught:
        read_participants(cohort)
    return caught.value.faults


def test_a_good_table_is_read_with_its_types(table):
    missing = dict.fromkeys(
        ["age", "sex", "nihss", "occlusion", "field_strength_t", "site", "group", "mrs_90d"], "n/a"
    )
    read = read_participants(table({}, missing | {"side": "bilateral"}))
    first, second = (clinical_record(row) for _, row in read.iterrows())
    numbers = {"age": 67, "nihss": 14, "field_strength_t": 1.5, "mrs_90d": 2}
    absent = ["exclude", "lacks", "derived"]
    assert first == GOOD | numbers | dict.fromkeys(absent)
    expected = dict.fromkeys([*missing, *absent]) | {"side": "bilateral", "cohort": "A"}
    assert second == {"participant_id": "sub-0002"} | expected
    assert math.isnan(read["nihss"][1])


def test_optional_columns_may_be_absent(table):
    read = read_participants(table({}, columns=("participant_id", "nihss", "side")))
    assert clinical_record(read.iloc[0])["age"] is None
    assert list(read.columns) == list(COLUMNS)


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("nihss", "50", "nihss is '50'; expected a whole number, 0 to 42, or n/a"),
        ("nihss", "-1", "nihss is '-1'; expected a whole number"),
        ("nihss", "3.5", "nihss is '3.5'; expected a whole number"),
        ("nihss", "abc", "nihss is 'abc'; expected a whole number"),
        ("nihss", "", "nihss is ''; expected a whole number"),
        ("nihss", "nan", "nihss is 'nan'; expected a whole number"),
        ("side", "L", "side is 'L'; expected left, right, bilateral, unknown or n/a: the side"),
        ("side", "", "side is ''; expected left, right, bilateral"),
        ("side", "R", "side is 'R'; expected left, right, bilateral"),
        ("side", "links", "side is 'links'; expected left, right, bilateral"),
        ("age", "121", "age is '121'; expected years, 0 to 120, or a bound of 80 or more"),
        ("age", "1e400", "age is '1e400'; expected years, 0 to 120"),
        # Nobody knows whether they are over DAWN's 80.
        ("age", "70+", "age is '70+'; expected years, 0 to 120, or a bound of 80 or more"),
        ("age", "<89", "age is '<89'; expected years"),
        ("age", "065Y", "age is '065Y'; expected years"),
        ("age", "121+", "age is '121'; expected years"),
        (
            "age",
            "91,5",
            "age is '91,5'; expected years, 0 to 120, or a bound of 80 or more such "
            "as 89+, or n/a; the decimal mark is a point",
        ),
        ("nihss", "14,0", "nihss is '14,0'; expected a whole number, 0 to 42, or n/a; the decimal"),
        (
            "field_strength_t",
            "1,5",
            "field_strength_t is '1,5'; expected tesla, 0.05 to 12, or n/a;"
            " the decimal mark is a point",
        ),
        ("sex", "x", "sex is 'x'; expected M, F or n/a"),
        ("field_strength_t", "3T", "field_strength_t is '3T'; expected tesla"),
        ("participant_id", "0001", "participant_id is '0001'; expected sub- and letters or digits"),
        ("participant_id", "sub-a_b", "participant_id is 'sub-a_b'; expected sub-"),
        ("participant_id", "sub-1_ses-", "participant_id is 'sub-1_ses-'; expected sub- and"),
        ("participant_id", "sub-1_ses-2\u00b2", "participant_id is 'sub-1_ses-2\u00b2'; expected"),
        ("participant_id", "sub-_ses-1", "participant_id is 'sub-_ses-1'; expected sub- and"),
        ("participant_id", "sub-1_SES-1", "participant_id is 'sub-1_SES-1'; expected sub- and"),
        (
            "participant_id",
            "sub-1_ses-1_run-2",
            "participant_id is 'sub-1_ses-1_run-2'; expected sub- and letters or digits; of a "
            "visit also _ses- and letters or digits, such as sub-01_ses-1",
        ),
        ("group", "", "group is ''; expected a word, the same in all rows that belong together"),
        ("group", "NaN", "group is 'NaN'; expected a word"),
        ("group", "None", "group is 'None'; expected a word"),
        ("group", "FAMILY  7", "group is written 'family 7' and 'FAMILY  7'; expected one"),
        ("site", "", "site is ''; expected the name of a hospital, or n/a"),
        ("site", "<NA>", "site is '<NA>'; expected the name of a hospital"),
        ("site", "bern", "site is written 'Bern' and 'bern'; expected one spelling"),
        ("occlusion", "M5", "occlusion is 'M5'; expected ICA, M1, M2, M3, M4, none, ACA"),
        ("mrs_90d", "7", "mrs_90d is '7'; expected the modified Rankin Scale after 90 days, 0"),
        ("mrs_90d", "2.5", "mrs_90d is '2.5'; expected the modified Rankin Scale"),
        # Which reason, nobody knows.
        ("exclude", "yes", "exclude is 'yes'; expected the reason why the patient is left out"),
        ("exclude", "0", "exclude is '0'; expected the reason"),
        ("exclude", "OK", "exclude is 'OK'; expected the reason"),
        ("lacks", "DWI", "lacks is 'DWI'; expected ADC where there is no map and none can be made"),
        ("derived", "?", "derived is '?'; expected what was computed"),
        ("participant_id", "n/a", "participant_id is n/a; expected a value"),
    ],
)
def test_a_bad_cell_is_named_with_its_row(table, column, value, message):
    (fault,) = faults_of(table({}, {column: value}))
    assert fault.what.startswith(message)
    assert fault.file.startswith("participants.tsv")
    if "is written" not in message:
        assert fault.file == "participants.tsv row 3"
    if column != "participant_id":
        assert fault.participant == "sub-0002"


@pytest.mark.parametrize("nihss", ["0", "42", "7.0", "n/a"])
def test_the_bounds_of_nihss_are_allowed(table, nihss):
    value = read_participants(table({"nihss": nihss}))["nihss"][0]
    assert math.isnan(value) if nihss == "n/a" else value == float(nihss)


def test_a_patient_named_twice_is_a_fault(table):
    (fault,) = faults_of(table({}, {"participant_id": "sub-0001"}))
    assert (fault.participant, fault.what[:20]) == ("sub-0001", "stands more than onc")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("sub-1", "sub-1_ses-1"), "sub-1: stands beside sub-1_ses-1; expected a row for each"),
        (("sub-a1", "sub-A1"), "sub-A1: sub-a1 and sub-A1 differ in capital letters only"),
        # A patient in two spellings would be two patients to the split.
        (("sub-a_ses-1", "sub-A_ses-2"), "sub-A: sub-a and sub-A differ in capital letters only"),
        (("sub-1_ses-a", "sub-1_ses-A"), "sub-1_ses-A: sub-1_ses-a and sub-1_ses-A differ in"),
    ],
)
def test_names_that_clash_are_a_fault(table, names, message):
    (fault,) = faults_of(table(*({"participant_id": name} for name in names)))
    assert f"{fault.participant}: {fault.what}".startswith(message)


def test_all_faults_come_in_one_list(table):
    cohort = table({"nihss": "50", "side": "L"}, {}, {"age": "old"}, {"participant_id": "sub-0002"})
    faults = faults_of(cohort)
    assert sorted(f"{fault.participant} {fault.what.split()[0]}" for fault in faults) == [
        "sub-0001 nihss",
        "sub-0001 side",
        "sub-0002 stands",
        "sub-0003 age",
    ]
    with pytest.raises(InputError, match=r"4 faults in the cohort:"):
        read_participants(cohort)


@pytest.mark.parametrize(
    ("column", "value", "read"),
    [
        ("side", "LEFT", "left"), ("side", " Right ", "right"), ("side", "Bilateral", "bilateral"),
        ("side", "N/A", "unknown"), ("side", "Unknown", "unknown"),
        ("age", "89+", 89), ("age", "90 +", 90), ("age", ">89", 89), ("age", ">= 90", 90),
        ("age", "\u226585", 85), ("age", "80+", 80), ("age", " 91.5 ", 91.5), ("age", "N/A", None),
        ("nihss", " 24 ", 24), ("nihss", '"24"', 24), ("nihss", "N/A", None),
        ("sex", "f", "F"), ("sex", "Male", "M"),
        ("site", '"Bern ""left"""', 'Bern "left"'), ("site", '"Bern', '"Bern'),
        ("occlusion", "m1", "M1"), ("occlusion", "NONE", "none"), ("occlusion", "pca", "PCA"),
        ("exclude", " poor DWI ", "poor DWI"), ("exclude", "N/A", None), ("mrs_90d", "6", 6),
        ("lacks", "ADC", "ADC"), ("lacks", "", None), ("derived", "DWI, side", "DWI, side"),
        ("participant_id", " sub-0002 ", "sub-0002"),
        ("participant_id", "sub-2_ses-1", "sub-2_ses-1"),
        ("group", "N/A", None), ("group", "7", "7"), ("group", "7.0", "7.0"), ("group", "0", "0"),
        ("site", " Bern ", "Bern"), ("site", "n/a", None),
    ],
)  # fmt: skip
def test_a_cell_that_can_only_mean_one_thing_is_read(table, column, value, read):
    found = read_participants(table({}, {column: value}, {}))
    assert len(found) == 3
    assert clinical_record(found.iloc[1])[column] == read


@pytest.mark.parametrize(
    ("typed", "years"), [("\uff18\uff19", 89), ("\u0668\u0669", 89), ("\uff18\uff19\uff0b", 89)]
)
def test_digits_of_other_keyboards_are_digits(table, typed, years):
    assert read_participants(table({"age": typed}))["age"][0] == years


def test_one_cell_that_is_no_number_is_one_fault(table):
    with pytest.raises(CohortError) as error:
        read_participants(table({"age": "\u0668\u066b5"}, {"age": "\u5341"}, {"age": "70"}))
    assert [fault.participant for fault in error.value.faults] == ["sub-0001", "sub-0002"]


def test_what_is_typed_is_read_as_the_table_is():
    assert [number("nihss", each) for each in ("12", "12.0", "\uff11\uff12", " 12 ")] == [12] * 4
    assert number("age", "89+") == 89 and number("age", "70.5") == 70.5
    assert number("nihss", "N/A") is None and plain("side", " Left") == "left"
    for name, text in (("nihss", "12.5"), ("nihss", "43"), ("age", "40+"), ("age", "nan")):
        with pytest.raises(InputError, match=f"--{name} is '"):
            number(name, text)


def test_links_to_nothing_are_named(files):
    root = files("sub-0001/dwi/sub-0001_ADC.nii.gz")
    folder = root / "sub-0001/dwi"
    (folder / "sub-0001_dwi.nii.gz").symlink_to("gone.nii.gz")
    (folder / "sub-0001_T1w.nii.gz").symlink_to("gone.nii.gz")  # is not read
    (folder / "sub-0001_dwi.bval").symlink_to("sub-0001_dwi.bval")  # to itself
    found, faults = find_raw_files(root, "sub-0001")
    assert found is None
    named = {fault.file: fault.what for fault in faults}
    for name, target in (("nii.gz", "gone.nii.gz"), ("bval", "sub-0001_dwi.bval")):
        what = named[f"sub-0001/dwi/sub-0001_dwi.{name}"]
        assert what.startswith(f"is a link to {target}, where nothing is; expected the file")
    assert not any("T1w" in name for name in named)
    (root / "sub-0002").symlink_to("gone")
    _, faults = find_raw_files(root, "sub-0002")
    assert faults[0].what.startswith("is a link to gone, where nothing is")


def test_of_a_patient_left_out_by_hand_only_the_reason_has_to_be_right(table):
    said = []
    bad = {"age": "abc", "side": "links", "nihss": "99"}
    read = read_participants(table({"exclude": "poor DWI", **bad}, {"exclude": ""}), said.append)
    first, second = (clinical_record(row) for _, row in read.iterrows())
    assert (first["age"], first["nihss"], first["side"]) == (None, None, "unknown")
    assert (first["exclude"], second["exclude"]) == ("poor DWI", None)
    assert "participants.tsv: sub-0001 is left out by hand; age 'abc' is ignored" in said
    with pytest.raises(CohortError, match="age is 'abc'"):
        read_participants(table({"exclude": "n/a", **bad}))
    with pytest.raises(CohortError, match="exclude is 'yes'"):
        read_participants(table({"exclude": "yes", **bad}))


def test_columns_that_are_not_read_are_named(tmp_path, capsys):
    text = "participant_id\tnihss\tside\texcluded\tmrs\tweight\nsub-1\t2\tleft\tx\t1\t9\n"
    (tmp_path / "participants.tsv").write_text(text)
    read_participants(tmp_path)
    assert (
        "columns that are not read: 'excluded' (did you mean exclude?), 'mrs' (did you mean "
        "mrs_90d?), 'weight'"
    ) in " ".join(capsys.readouterr().err.split())


def test_an_age_given_as_a_bound_is_said(table):
    said = []
    read_participants(table({"age": "89+"}, {"age": "70"}, {"age": "> 90"}), said.append)
    assert said == [
        "participants.tsv: age 89+ of sub-0001, > 90 of sub-0003: the number is taken as the age"
    ]


def test_columns_are_matched_without_case_and_blanks_and_that_is_said(tmp_path, capsys):
    text = "Participant_ID\t NIHSS \tside\tnote\nsub-1\t24\tleft\tx\n"
    (tmp_path / "participants.tsv").write_text(text)
    assert clinical_record(read_participants(tmp_path).iloc[0])["nihss"] == 24
    assert (
        "note: participants.tsv: the columns 'Participant_ID' as participant_id, ' NIHSS ' as "
        "nihss were read"
    ) in capsys.readouterr().err


@pytest.mark.parametrize("spell", [str, str.upper, str.title, " {} ".format])
@pytest.mark.parametrize("column", ["nihss", "side", "age", "participant_id"])
def test_two_columns_of_one_name_are_refused_with_both_named(tmp_path, spell, column):
    first, second = column, spell(column)
    others = [name for name in ("participant_id", "nihss", "side", "age") if name != column]
    header = "\t".join([first, *others, second])
    (tmp_path / "participants.tsv").write_text(header + "\nsub-1\tsub-1\t3\tleft\tsub-2\n")
    with pytest.raises(InputError) as caught:
        read_participants(tmp_path)
    message = str(caught.value)
    assert f"has 2 columns of the name {column}: '{first}' (column 1) and '{second}' (c" in message


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be with mark"])
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_a_table_is_read_as_programs_save_it(tmp_path, encoding, newline):
    text = newline.join(["participant_id\tnihss\tside\tnote", "sub-1\t3\tleft\tM\u00fcller", "",
                         "sub-2\t4\tright\t#1", ""])  # fmt: skip
    content = (
        b"\xfe\xff" + text.encode("utf-16-be") if "mark" in encoding else text.encode(encoding)
    )
    (tmp_path / "participants.tsv").write_bytes(content)
    read = read_participants(tmp_path)
    assert list(read["participant_id"]) == ["sub-1", "sub-2"]
    assert list(read["nihss"]) == [3, 4]


def test_a_tab_at_the_end_of_the_lines_does_no_harm(tmp_path):
    for header in (HEADER, HEADER.replace(b"\n", b"\t\n")):
        (tmp_path / "participants.tsv").write_bytes(header + b"sub-1\t3\tleft\t\n")
        assert list(read_participants(tmp_path)["side"]) == ["left"]


def test_a_quote_never_closed_swallows_no_patient(tmp_path):
    text = 'participant_id\tnihss\tside\tnote\nsub-1\t3\tleft\t"a\nsub-2\t4\tright\tb"\n'
    (tmp_path / "participants.tsv").write_text(text)
    assert list(read_participants(tmp_path)["participant_id"]) == ["sub-1", "sub-2"]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (b"sub-2\t4\tleft\tM1", "has 4 cells and the first line has 3; expected as many"),
        (b"sub-2\tleft", "has 2 cells and the first line has 3; expected as many; write n/a for"),
    ],
)
def test_a_row_of_another_length_is_one_fault(tmp_path, row, message):
    content = HEADER + b"sub-1\t3\tleft\n" + row + b"\nsub-3\t50\tleft\n"
    (tmp_path / "participants.tsv").write_bytes(content)
    short, other = faults_of(tmp_path)
    assert (short.participant, short.file) == ("sub-2", "participants.tsv row 3")
    assert short.what.startswith(message)
    assert other.participant == "sub-3"
    assert named_in_table(tmp_path) == ["sub-1", "sub-2", "sub-3"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty; expected a tab-separated table"),
        ("participant_id\tnihss\tside\nsub-1\t3\t\u00e9\n".encode("latin-1"),
         "line 2 is not UTF-8 text .*; save the table as UTF-8"),
        (HEADER.decode().encode("utf-16-le"), "is not UTF-8 text"),
        (b"participant_id,nihss,side\nsub-1,3,left\n", "Are the columns separated by ','"),
        (b"participant_id;nihss;side\nsub-1;3;left\n", "Are the columns separated by ';'"),
        (b"participant_id  nihss  side\nsub-1  3  left\n", "columns separated by blanks"),
        (b"# of 2024\n" + HEADER, "first line holds # of 2024. Expected the names of the columns"),
        (b"participant_id\tside\nsub-1\tleft\n",
         "no column nihss; the first line holds participant_id, side"),
        (HEADER, "holds no patient"),
    ],
)  # fmt: skip
def test_what_is_no_table_is_explained(tmp_path, content, message):
    (tmp_path / "participants.tsv").write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_participants(tmp_path)


def test_a_folder_in_the_tables_place_is_said(tmp_path):
    (tmp_path / "participants.tsv").mkdir()
    with pytest.raises(InputError, match="participants.tsv: is a folder"):
        read_participants(tmp_path)


@pytest.mark.parametrize("name", ["participants.csv", "Participants.tsv", "participants.xlsx"])
def test_a_table_of_another_name_is_named(tmp_path, name):
    (tmp_path / name).touch()
    with pytest.raises(InputError, match=rf"no such file \(found {name}\)"):
        read_participants(tmp_path)


def test_no_table_names_the_columns_wanted(tmp_path):
    with pytest.raises(InputError, match="no such file; .*participant_id, age, sex, nihss, side"):
        read_participants(tmp_path)


def test_what_is_written_reads_back(table, tmp_path):
    records = [clinical_record(row) for _, row in read_participants(table({}, {})).iterrows()]
    records[1] |= {"age": None, "nihss": None, "sex": None}
    write_participants(tmp_path / "again/participants.tsv", records)
    again = read_participants(tmp_path / "again")
    assert [clinical_record(row) for _, row in again.iterrows()] == records


def test_columns_that_nobody_filled_are_not_written(table, tmp_path):
    """Records of a cohort without them need not be built again."""
    empty = {"site": "n/a", "mrs_90d": "n/a"}
    cohort = table(empty, empty | {"group": "n/a"})
    records = [clinical_record(row) for _, row in read_participants(cohort).iterrows()]
    path = tmp_path / "again.tsv"
    write_participants(path, records)
    columns, first, second = (line.split("\t") for line in path.read_text().splitlines())
    assert columns == [
        n for n in COLUMNS if n not in ("site", "mrs_90d", "exclude", "lacks", "derived")
    ]
    assert (first[-1], second[-1]) == ("family 7", "n/a")


def test_the_fault_table_is_aligned():
    faults = [Fault("sub-1", "DWI", "one\ntwo"), Fault("sub-0002", "participants.tsv", "three")]
    assert fault_table(faults).splitlines() == [
        "patient   file              what is wrong, what to do",
        "sub-1     DWI               one",
        "sub-1     DWI               two",
        "sub-0002  participants.tsv  three",
    ]


@pytest.mark.parametrize(
    ("dwi", "adc"),
    [
        ("dwi/sub-1_dwi.nii.gz", "dwi/sub-1_ADC.nii.gz"),
        ("dwi/sub-1_trace.nii", "dwi/sub-1_adc.nii"),
        ("ses-0001/dwi/sub-1_ses-0001_dwi.nii.gz", "ses-0001/dwi/sub-1_ses-0001_adc.nii.gz"),
        ("dwi/sub-1_acq-b1000_dwi.nii.gz", "dwi/sub-1_ADC.nii.gz"),
    ],
    ids=["BIDS", "trace, plain", "sessions, ISLES'22", "entities"],
)
def test_files_are_found_by_bids_names(files, dwi, adc):
    cohort = files(f"sub-1/{dwi}", f"sub-1/{adc}", "sub-1/dwi/notes.json", "sub-10/sub-10_dwi")
    found, faults = find_raw_files(cohort, "sub-1")
    assert faults == []
    assert found.existing() == [cohort / "sub-1" / dwi, cohort / "sub-1" / adc]


def test_what_is_read_beside_the_images_belongs_to_the_patient(files):
    """A changed b-value is a changed patient."""
    names = ["dwi/sub-1_dwi.nii.gz", "dwi/sub-1_dwi.bval", "dwi/sub-1_dwi.json"]
    cohort = files(*(f"sub-1/{name}" for name in names))
    (cohort / "sub-1" / names[1]).write_text("0 1000")
    found, faults = find_raw_files(cohort, "sub-1")
    assert faults == [] and found.adc is None
    assert found.existing() == [cohort / "sub-1" / name for name in names]
    cohort = files("sub-2/dicom/a/1.dcm", "sub-2/dicom/b/2.dcm")
    found, faults = find_raw_files(cohort, "sub-2")
    assert faults == [] and found.dwi == cohort / "sub-2/dicom"
    assert [path.name for path in found.existing()] == ["1.dcm", "2.dcm"]


@pytest.mark.parametrize(
    ("dwi", "adc"),
    [
        ("dwi/sub-1_DWI.NII.GZ", "dwi/sub-1_adc.Nii.gz"),
        ("dwi/SUB-1_DWI.IMG", "dwi/SUB-1_ADC.IMG"),
        ("dwi/sub-1_dwi.mha", "dwi/sub-1_ADC.nrrd"),
        ("dwi/sub-1_dwi.nii.gz", "dwi/sub-1_rec-ADC_dwi.nii.gz"),
    ],
)
def test_other_names_and_formats_are_found(files, dwi, adc):
    other_parts = [Path(name).with_suffix(".HDR") for name in (dwi, adc) if name.endswith("IMG")]
    mac = "sub-1/dwi/._sub-1_dwi.nii.gz"
    cohort = files(mac, *(f"sub-1/{name}" for name in (dwi, adc, *other_parts)))
    found, faults = find_raw_files(cohort, "sub-1")
    assert faults == []
    assert (found.dwi, found.adc) == (cohort / "sub-1" / dwi, cohort / "sub-1" / adc)
    assert len(found.existing()) == 2 + len(other_parts)


def test_an_adc_map_among_the_derivatives_is_found_but_none_in_another_space(files):
    adc = "derivatives/dwi/sub-1/dwi/sub-1_ADC.nii.gz"
    mni = "derivatives/mni/sub-1/sub-1_space-MNI152NLin2009aSym_adc.nii.gz"
    cohort = files("sub-1/dwi/sub-1_dwi.nii.gz", adc, mni, "derivatives/dwi/sub-2/sub-2_ADC.nii")
    found, faults = find_raw_files(cohort, "sub-1")
    assert faults == [] and found.adc == cohort / adc


@pytest.mark.parametrize("linked", ["sub-1", "sub-1/dwi"])
def test_linked_folders_are_followed_and_a_circle_ends(files, linked, tmp_path):
    names = ("dwi/sub-1_dwi.nii.gz", "dwi/sub-1_ADC.nii.gz")
    cohort = files(*(f"sub-1/{name}" for name in names))
    elsewhere = tmp_path / "elsewhere"
    (cohort / linked).rename(elsewhere)
    (cohort / linked).symlink_to(elsewhere)
    (elsewhere / "round").symlink_to(elsewhere)
    found, faults = find_raw_files(cohort, "sub-1")
    assert faults == []
    assert found.existing() == [cohort / "sub-1" / name for name in names]


@pytest.mark.parametrize(
    ("b0", "dwi", "beside"),
    [
        ("sub-1_acq-b0_dwi.nii.gz", "sub-1_acq-b1000_dwi.nii.gz", {}),
        ("sub-1_b0.nii.gz", "sub-1_dwi.nii.gz", {}),
        (
            "sub-1_run-1_dwi.nii.gz",
            "sub-1_run-2_dwi.nii.gz",
            {"sub-1_run-1_dwi.bval": "0", "sub-1_run-2_dwi.bval": "1000"},
        ),
        (
            "sub-1_run-2_dwi.nii.gz",
            "sub-1_run-1_dwi.nii.gz",
            {"sub-1_run-2_dwi.json": '{"b_value": 5}', "sub-1_run-1_dwi.BVAL": "800"},
        ),
    ],
)
def test_a_b0_image_of_its_own_is_told_from_the_dwi(files, b0, dwi, beside):
    cohort = files(f"sub-1/dwi/{b0}", f"sub-1/dwi/{dwi}")
    for name, content in beside.items():
        (cohort / "sub-1/dwi" / name).write_text(content)
    found, faults = find_raw_files(cohort, "sub-1")
    assert faults == []
    assert (found.dwi.name, found.b0.name, found.adc) == (dwi, b0, None)
    assert {path.name for path in found.existing()} == {b0, dwi, *beside}


def test_a_brain_mask_of_a_person_belongs_to_the_patient(files):
    mask = "derivatives/masks/sub-1/anat/sub-1_acq-x_desc-brain_mask.nii.gz"
    cohort = files("sub-1/dwi/sub-1_dwi.nii", "sub-1/dwi/sub-1_ADC.nii", mask)
    found, _ = find_raw_files(cohort, "sub-1")
    assert found.brain_mask == cohort / mask and cohort / mask in found.existing()
    said = found.overrides(Overrides(b_value=800.0))
    assert said.given() == {"b_value": 800.0, "brain_mask": str(cohort / mask)}


def test_tmax_and_an_edited_label_are_found_in_the_derivatives(files):
    tmax = "derivatives/perfusion/sub-1/perf/sub-1_Tmax.nii.gz"
    label = "derivatives/labels/sub-1/sub-1_desc-hypoperfusion_mask.nii.gz"
    cohort = files("sub-1/dwi/sub-1_dwi.nii", "sub-1/dwi/sub-1_ADC.nii", tmax, label)
    found, _ = find_raw_files(cohort, "sub-1")
    assert (found.tmax, found.truth) == (cohort / tmax, cohort / label)
    files(label.replace("hypoperfusion", "truth"))
    found, faults = find_raw_files(cohort, "sub-1")
    assert found is None
    assert "expected one of them: the first is united with the core" in faults[0].what


def test_two_dwi_files_and_no_adc_are_two_faults(files):
    one, two = "sub-1/dwi/sub-1_run-1_dwi.nii.gz", "sub-1/dwi/sub-1_run-2_dwi.nii.gz"
    cohort = files(one, two)
    found, faults = find_raw_files(cohort, "sub-1")
    assert found is None
    assert [fault.file for fault in faults] == ["DWI", "ADC"]
    assert faults[0].what == (
        f"found {one}, {two}; expected one file. Keep the baseline scan, remove the others. If "
        "they are visits, each wants a folder ses-* and a row of its own, such as sub-1_ses-1."
    )
    assert faults[1].what.startswith("no sub-1_*_ADC.nii.gz below ")


def test_two_tmax_files_are_a_fault_too(files):
    base = "derivatives/perfusion/sub-1"
    cohort = files(
        "sub-1/sub-1_dwi.nii",
        "sub-1/sub-1_ADC.nii",
        f"{base}/sub-1_Tmax.nii",
        f"{base}/sub-1_tmax.nii",
    )
    found, faults = find_raw_files(cohort, "sub-1")
    assert found is None
    assert [fault.file for fault in faults] == ["Tmax"]


def test_a_row_without_folder_and_a_folder_without_row(files):
    cohort = files("sub-2/dwi/sub-2_dwi.nii.gz", "sub-file")
    found, (fault,) = find_raw_files(cohort, "sub-1")
    assert found is None
    assert fault.what.startswith("no such folder; expected the patient's files there")
    (fault,) = unlisted_folders(cohort, ["sub-1"])
    assert (fault.participant, fault.what[:22]) == ("sub-2", "no row for this folder")
    assert unlisted_folders(cohort, ["sub-2"]) == []


def test_mni_names():
    path = mni_file("mni", "sub-7", "desc-brain_mask")
    assert str(path) == "mni/sub-7/sub-7_space-MNI152NLin2009aSym_desc-brain_mask.nii.gz"
