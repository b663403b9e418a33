"""A cohort predicted patient by patient: whatever one raises, the others are done."""

import dataclasses
from types import SimpleNamespace

import pytest

from data_tools import cohort as cohorts
from data_tools.overrides import NONE
from data_tools.runtime import command
from data_tools.runtime.command import PatientRequest
from data_tools.runtime.errors import InputError
from tf_hypoperfusion.inference import cohort_prediction, result_folder
from tf_hypoperfusion.inference.result_files import PAGE

pytestmark = pytest.mark.quick

RESULT = SimpleNamespace(
    uncertainty=None,
    answer=SimpleNamespace(target_mismatch="yes", interval_ml=None, coverage=None),
    defuse3=SimpleNamespace(
        core_ml=SimpleNamespace(required="<= 70"), difference_ml=SimpleNamespace(required=">= 15"),
        ratio=SimpleNamespace(required=">= 1.8"),
    ),
    hypoperfusion_ml=90.0, core_ml=10.0, core_by="rule",
    mismatch_ml=80.0, mismatch_ratio=9.0, warnings=(), simulated=False,
    fast=True, shortcut="computed with --fast: windows every 8 slices, bfloat16",
    given=SimpleNamespace(side="left", nihss=3), side_words="left",
    comparison=None,
)  # fmt: skip
RAISED = {
    "sub-1": ZeroDivisionError("in the picture"),
    "sub-2": MemoryError("Unable to allocate 40 GiB"),
    "sub-3": InputError("DWI: is empty"),
    "sub-5": UnicodeDecodeError("utf-8", b"x", 0, 1, "invalid start byte"),
}


@pytest.fixture
def cohort(tmp_path):
    """Six patients whose images nobody reads."""
    folder = tmp_path / "raw"
    rows = []
    for number in range(1, 7):
        name = f"sub-{number}"
        rows.append(f"{name}\t3\tleft\n")
        (folder / name).mkdir(parents=True)
        for image in ("dwi", "ADC"):
            (folder / name / f"{name}_{image}.nii.gz").touch()
    (folder / "participants.tsv").write_text("participant_id\tnihss\tside\n" + "".join(rows))
    return folder


def request_of(cohort, out):
    return PatientRequest(
        out=str(out), second_opinion=True, dicom_out=False, pdf=False, cohort=str(cohort), dwi="",
        adc=None, nihss="", side="", age=None, participant=None, b0=None, core=None, core_by=None,
        tmax=None, truth=None, compare=False, overrides=NONE,
    )  # fmt: skip


def answer(cohort, out):
    return cohort_prediction.answer(request_of(cohort, out), lambda: None, lambda: None)


def test_whatever_one_patient_raises_the_others_are_predicted(
    cohort, tmp_path, monkeypatch, capsys
):
    def predict(files, folder, connect, **more):
        if files.name in RAISED:
            raise RAISED[files.name]
        return RESULT

    search = cohorts.find_raw_files

    def find(folder, name, **more):
        if name == "sub-6":
            raise PermissionError(13, "Permission denied", f"{folder}/{name}")
        return search(folder, name, **more)

    monkeypatch.setattr(result_folder, "predict", predict)
    monkeypatch.setattr(cohorts, "find_raw_files", find)
    older = tmp_path / "out/sub-1" / PAGE
    older.parent.mkdir(parents=True)
    older.write_text("an earlier result")
    assert answer(cohort, tmp_path / "out") == command.EXIT_SOME_FAILED
    said = capsys.readouterr()
    assert said.out.startswith("1 patient predicted")
    assert "Traceback" not in said.err
    failed = dict(
        line.removeprefix("failed: ").split(": ", 1)
        for line in said.err.splitlines()
        if line.startswith("failed: ")
    )
    assert sorted(failed) == ["sub-1", "sub-2", "sub-3", "sub-5", "sub-6"]
    assert "a defect of this program" in failed["sub-1"] and "in the picture" in failed["sub-1"]
    assert "the memory was too small" in failed["sub-2"]
    assert failed["sub-3"] == "DWI: is empty"
    assert "UnicodeDecodeError" in failed["sub-5"]
    assert "Permission denied" in failed["sub-6"]
    assert not older.exists()
    page = (tmp_path / "out/index.html").read_text()
    assert all(f"{name} (failed)" in page for name in failed)
    assert 'href="sub-4/report.html"' in page and 'src="sub-4/thumbnail.webp"' in page
    assert "1 of 6</dd>" in page and "5 failed" in page
    assert "Computed with --fast: windows every 8 slices, bfloat16." in page


def test_a_failure_of_all_alike_is_said(cohort, tmp_path, monkeypatch, capsys):
    def predict(files, folder, connect, **more):
        raise InputError("no server answers")

    monkeypatch.setattr(result_folder, "predict", predict)
    assert answer(cohort, tmp_path / "out") == command.EXIT_SOME_FAILED
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("all 6 patients failed in the same way")


def test_a_full_disk_ends_it_all(cohort, tmp_path, monkeypatch):
    def predict(files, folder, connect, **more):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(result_folder, "predict", predict)
    with pytest.raises(OSError, match="No space left"):
        answer(cohort, tmp_path / "out")


def test_a_cohorts_core_masks_are_found(cohort, tmp_path, monkeypatch):
    """And a patient is predicted again when its mask, or whose core decides, is another."""
    folder = cohort / "derivatives/masks/sub-2"
    folder.mkdir(parents=True)
    (folder / "sub-2_desc-core_mask.nii.gz").write_text("one")
    given, prints = {}, []

    def predict(files, folder, connect, *, fingerprint, options, **more):
        given[files.name] = (files.core, files.core_may_be_empty)
        prints.append(fingerprint)
        return RESULT

    monkeypatch.setattr(result_folder, "predict", predict)
    assert answer(cohort, tmp_path / "out") == command.EXIT_OK
    assert given["sub-1"] == (None, True)
    assert given["sub-2"] == (str(folder / "sub-2_desc-core_mask.nii.gz"), True)
    (folder / "sub-2_desc-core_mask.nii.gz").write_text("two")
    answer(cohort, tmp_path / "out")
    first, second = prints[:6], prints[6:]
    assert [a == b for a, b in zip(first, second, strict=True)] == [True, False, *[True] * 4]
    request = dataclasses.replace(request_of(cohort, tmp_path / "out"), core_by="learnt")
    cohort_prediction.answer(request, lambda: None, lambda: None)
    assert not set(prints[12:]) & set(first)


def test_whom_a_study_leaves_out_is_predicted_too(cohort, tmp_path, monkeypatch, capsys):
    """The columns exclude and occlusion are of training and evaluation."""
    text = (cohort / "participants.tsv").read_text()
    lines = [f"{line}\tM1\tn/a" for line in text.splitlines()]
    lines[0] = lines[0].replace("M1\tn/a", "occlusion\texclude")
    lines[1:3] = [lines[1].replace("n/a", "poor bolus"), lines[2].replace("M1", "PCA")]
    (cohort / "participants.tsv").write_text("\n".join(lines) + "\n")
    monkeypatch.setattr(result_folder, "predict", lambda *_, **__: RESULT)
    assert answer(cohort, tmp_path / "out") == command.EXIT_OK
    assert capsys.readouterr().out.startswith("6 patients predicted")


def test_visits_are_predicted_each_into_its_own_folder(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "raw"
    names = [f"sub-1_ses-{k}" for k in (1, 2)]
    for name in names:
        images = folder / name.replace("_", "/") / "dwi"
        images.mkdir(parents=True)
        for image in ("dwi", "ADC"):
            (images / f"{name}_{image}.nii.gz").touch()
    rows = "".join(f"{name}\t3\tleft\n" for name in names)
    (folder / "participants.tsv").write_text(f"participant_id\tnihss\tside\n{rows}")
    asked = []
    monkeypatch.setattr(
        result_folder, "predict", lambda files, out, *_, **__: asked.append((files, out)) or RESULT
    )
    assert answer(folder, tmp_path / "out") == command.EXIT_OK
    assert [out for _, out in asked] == [str(tmp_path / "out" / name) for name in names]
    assert [files.name for files, _ in asked] == names
    assert capsys.readouterr().out.startswith("2 visits of 1 patient predicted")
    page = (tmp_path / "out/index.html").read_text()
    assert 'href="sub-1_ses-2/report.html"' in page and "2 of 2 visits of 1 patient" in page
