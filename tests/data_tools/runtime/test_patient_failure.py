"""Whatever is raised about one patient becomes one sentence; the traceback is kept."""

import errno
import pickle

import pytest

from data_tools.runtime import patient_failure
from data_tools.runtime.errors import InputError, PatientDefect
from data_tools.runtime.patient_failure import all_alike, attempt

pytestmark = pytest.mark.quick


def fail(error):
    raise error


class ResourceExhaustedError(Exception):
    """As TensorFlow's."""


@pytest.mark.parametrize(
    "error",
    [
        TypeError("x"), RecursionError(), ZeroDivisionError(), AssertionError(),
        UnicodeDecodeError("ascii", b"x", 0, 1, "odd"), StopIteration(), EOFError(),
        FileNotFoundError(2, "gone", "/x"),
    ],
    ids=lambda error: type(error).__name__,
)  # fmt: skip
def test_what_nobody_foresaw_is_a_defect_that_names_its_kind_and_place(error):
    found = attempt(fail, error)
    assert isinstance(found, PatientDefect)
    assert type(error).__name__ in str(found)
    assert "test_patient_failure.py line" in str(found)
    assert "please report it" in str(found).lower()
    assert "\n" not in str(found)
    assert "Traceback (most recent call last)" in found.details


def test_what_was_foreseen_stays_as_it_is():
    error = InputError("DWI x: is empty")
    assert attempt(fail, error) is error
    assert attempt(len, "abc") == 3


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
def test_a_full_disk_is_no_patients_failure(number):
    with pytest.raises(OSError, match="no room"):
        attempt(fail, OSError(number, "no room", "/x"))


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3)])
def test_a_wish_to_end_is_followed(error):
    with pytest.raises(type(error)):
        attempt(fail, error)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.ELOOP, errno.ESTALE])
def test_a_file_that_the_disk_refuses_is_named(number):
    found = attempt(fail, OSError(number, "refused", "/data/sub-1/dwi"))
    assert str(found).startswith("/data/sub-1/dwi: refused; look at the permissions")
    assert not isinstance(found, PatientDefect)


@pytest.mark.parametrize("error", [MemoryError(), ResourceExhaustedError("OOM when allocating")])
def test_too_little_memory_is_said(error):
    assert "the memory was too small" in str(attempt(fail, error))


@pytest.mark.parametrize(
    "path",
    ["/tmp/tmpab_1cdef/dwi.json", "/tmp/hypoperfusion-dicom-ab_1cdef/x/y.nii", "/o/.tmp-sub-1/dwi"],
)
def test_no_temporary_file_is_named(path, monkeypatch):
    monkeypatch.setattr(patient_failure.tempfile, "gettempdir", lambda: "/tmp")
    for error in (PermissionError(errno.EACCES, "no", path), ValueError(f"cannot read {path!r}!")):
        said = str(attempt(fail, error))
        assert "tmp" not in said
        assert ".nii" not in said


def test_a_users_folder_in_tmp_is_named(monkeypatch):
    monkeypatch.setattr(patient_failure.tempfile, "gettempdir", lambda: "/tmp")
    assert "/tmp/cohort/sub-1" in str(attempt(fail, PermissionError(13, "no", "/tmp/cohort/sub-1")))


def test_the_traceback_is_shown_when_asked_for(monkeypatch, capsys):
    attempt(fail, ValueError("x"))
    assert capsys.readouterr().err == ""
    monkeypatch.setenv(patient_failure.TRACEBACK_VARIABLE, "1")
    attempt(fail, ValueError("x"))
    assert "Traceback (most recent call last)" in capsys.readouterr().err


def test_a_defect_survives_the_way_out_of_a_process():
    found = attempt(fail, ValueError("x"))
    again = pickle.loads(pickle.dumps(found))
    assert (str(again), again.details) == (str(found), found.details)


def test_a_failure_of_all_alike_is_said():
    alike = {"sub-1": "no server at sub-1", "sub-2": "no server at sub-2"}
    assert all_alike(alike, 2).startswith("all 2 patients failed in the same way")
    assert all_alike(alike, 3) is None
    assert all_alike(alike | {"sub-2": "other"}, 2) is None
    assert all_alike({"sub-1": "x"}, 1) is None
    assert all_alike({}, 0) is None
