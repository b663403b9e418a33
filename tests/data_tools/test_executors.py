"""One function over many patients, in this process or in several."""

import pytest

from data_tools import atomic
from data_tools.cohort import CohortError, read_participants
from data_tools.errors import InputError
from data_tools.executors import map_patients


@pytest.mark.parametrize("workers", [1, 2])
def test_results_come_with_their_tasks(tmp_path, workers):
    paths = [tmp_path / name for name in "abc"]
    for path in paths:
        path.write_text(path.name)
    results = dict(map_patients(atomic.sha256, [(str(path),) for path in paths], workers, "test"))
    assert results == {(str(path),): atomic.sha256(path) for path in paths}


@pytest.mark.parametrize("workers", [1, 2])
def test_one_bad_patient_does_not_stop_the_others(tmp_path, workers):
    good, bad, absent = (tmp_path / name for name in ("good", "bad", "absent"))
    good.mkdir()
    bad.mkdir()
    header = "participant_id\tnihss\tside\n"
    (good / "participants.tsv").write_text(header + "sub-1\t3\tleft\n")
    (bad / "participants.tsv").write_text(header + "sub-1\t50\tleft\n")
    tasks = [(str(bad),), (str(good),), (str(absent),)]
    results = dict(map_patients(read_participants, tasks, workers, "test"))
    assert len(results[str(good),]) == 1
    assert "no such file" in str(results[str(absent),])
    # Its list of faults survives the way out of another process.
    error = results[str(bad),]
    assert isinstance(error, CohortError)
    assert [fault.participant for fault in error.faults] == ["sub-1"]
    assert "nihss is '50'" in str(error)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_defect_is_raised(tmp_path, workers):
    tasks = [(str(tmp_path / "absent"),), (str(tmp_path / "absent too"),)]
    with pytest.raises(FileNotFoundError):
        list(map_patients(atomic.sha256, tasks, workers, "test"))


def test_no_patients_give_no_results():
    assert list(map_patients(atomic.sha256, [], 2, "test")) == []


@pytest.mark.parametrize("workers", [0, -1])
def test_at_least_one_worker_is_needed(workers):
    with pytest.raises(InputError, match=f"workers is {workers}; expected 1 or more"):
        list(map_patients(atomic.sha256, [], workers, "test"))
