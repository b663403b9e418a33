"""One function over many patients, in this process or in several."""

import errno
import functools
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers import PROJECT

from data_tools.cohort import CohortError, read_participants
from data_tools.runtime import atomic
from data_tools.runtime.errors import InputError, PatientDefect
from data_tools.runtime.executors import map_patients


@pytest.mark.parametrize("workers", [1, 2])
def test_results_come_with_their_tasks(tmp_path, workers):
    paths = [tmp_path / name for name in "abc"]
    for path in paths:
        path.write_text(path.name)
    results = dict(map_patients(atomic.sha256, [(str(path),) for path in paths], workers, "test"))
    assert results == {(str(path),): atomic.sha256(path) for path in paths}


@pytest.mark.parametrize("workers", [1, 2])
def test_what_all_patients_share_is_given_once(workers):
    function = functools.partial(int, base=2)
    results = dict(map_patients(function, [("10",), ("11",)], workers, "test"))
    assert results == {("10",): 2, ("11",): 3}


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


def fail_in_a_way(name, folder):
    """What a reader of files may do to the process that calls it."""
    if name == "defect":
        return {}["absent"]
    if name == "memory":
        raise MemoryError("Unable to allocate 40.0 GiB")
    if name == "permission":
        raise PermissionError(errno.EACCES, "Permission denied", f"{folder}/sub-1.nii")
    if name == "full":
        raise OSError(errno.ENOSPC, "No space left on device", folder)
    if name == "unsendable":
        return lambda: None
    if name == "killed" or (name == "killed once" and not Path(folder, "killed").exists()):
        Path(folder, "killed").touch()
        time.sleep(0.5)  # the other worker has begun something
        os._exit(1)
    return name.upper()


@pytest.mark.parametrize("workers", [1, 2])
def test_whatever_one_patient_raises_stops_no_other(tmp_path, workers):
    names = ("defect", "a", "memory", "b", "permission", "c")
    tasks = [(name, str(tmp_path)) for name in names]
    results = {task[0]: r for task, r in map_patients(fail_in_a_way, tasks, workers, "test")}
    assert {name for name, r in results.items() if not isinstance(r, InputError)} == set("abc")
    assert (results["a"], results["b"], results["c"]) == ("A", "B", "C")
    defect = results["defect"]
    assert isinstance(defect, PatientDefect)
    assert "a defect of this program at this patient's files (KeyError: 'absent'; " in str(defect)
    assert "Traceback" not in str(defect)
    assert 'return {}["absent"]' in defect.details
    assert "the memory was too small (Unable to allocate 40.0 GiB)" in str(results["memory"])
    assert f"{tmp_path}/sub-1.nii: Permission denied" in str(results["permission"])


@pytest.mark.parametrize("workers", [1, 2])
def test_a_full_disk_stops_all_for_it_is_no_patients_fault(tmp_path, workers):
    tasks = [(name, str(tmp_path)) for name in ("full", "a", "b")]
    with pytest.raises(OSError, match="No space left"):
        list(map_patients(fail_in_a_way, tasks, workers, "test"))


def test_a_worker_that_the_system_ends_is_one_patients_failure(tmp_path):
    names = ("a", "killed", "b", "c", "d", "e", "f")
    tasks = [(name, str(tmp_path)) for name in names]
    results = {task[0]: r for task, r in map_patients(fail_in_a_way, tasks, 2, "test")}
    assert "was ended by the system" in str(results.pop("killed"))
    assert results == {name: name.upper() for name in "abcdef"}


def test_a_worker_ended_once_is_no_failure(tmp_path):
    """As when two large patients did not fit into the memory together."""
    tasks = [(name, str(tmp_path)) for name in ("killed once", "a", "b")]
    results = {task[0]: r for task, r in map_patients(fail_in_a_way, tasks, 2, "test")}
    assert results == {"killed once": "KILLED ONCE", "a": "A", "b": "B"}


def test_a_result_that_cannot_be_sent_is_one_patients_failure(tmp_path):
    tasks = [(name, str(tmp_path)) for name in ("unsendable", "a")]
    results = {task[0]: r for task, r in map_patients(fail_in_a_way, tasks, 2, "test")}
    assert results["a"] == "A"
    assert isinstance(results["unsendable"], PatientDefect)


def test_no_patients_give_no_results():
    assert list(map_patients(atomic.sha256, [], 2, "test")) == []


@pytest.mark.parametrize("workers", [0, -1])
def test_at_least_one_worker_is_needed(workers):
    with pytest.raises(InputError, match=f"workers is {workers}; expected 1 or more"):
        list(map_patients(atomic.sha256, [], workers, "test"))


def sleeper(number, folder):
    """Says who it is, then sleeps."""
    import os
    import pathlib
    import time

    pathlib.Path(folder, f"{number}.pid").write_text(str(os.getpid()))
    time.sleep(60)


def test_workers_end_when_their_parent_is_killed(tmp_path):
    import os
    import signal
    import subprocess
    import sys
    import time

    script = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "import test_executors\n"
        "from data_tools.runtime.executors import map_patients\n"
        "if __name__ == '__main__':\n"
        f"    list(map_patients(test_executors.sleeper, [(1, {str(tmp_path)!r}), "
        f"(2, {str(tmp_path)!r})], 2, 'sleeping'))\n"
    )
    (tmp_path / "script.py").write_text(script)
    parent = subprocess.Popen(
        [sys.executable, tmp_path / "script.py"], stderr=subprocess.DEVNULL,
        env=os.environ | {"PYTHONPATH": f"{PROJECT}{os.pathsep}{PROJECT}/tests"},
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while len(list(tmp_path.glob("*.pid"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.1)
    workers = [int(path.read_text()) for path in tmp_path.glob("*.pid")]
    assert len(workers) == 2
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()

    def alive(pid):
        try:
            return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
        except FileNotFoundError:
            return False

    deadline = time.monotonic() + 20
    while any(map(alive, workers)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(map(alive, workers))


@pytest.fixture(scope="module")
def dask_scheduler(tmp_path_factory):
    """A real scheduler with two workers, as processes of their own; they import from its folder."""
    pytest.importorskip("distributed", reason="extra `cluster` is not installed")
    folder = tmp_path_factory.mktemp("dask")
    dask = [sys.executable, "-m", "dask"]
    places = os.pathsep.join(map(str, (PROJECT, PROJECT / "tests", folder)))
    place = {
        "cwd": folder, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL,
        "env": os.environ | {"PYTHONPATH": places},
    }  # fmt: skip
    scheduler = subprocess.Popen(
        [*dask, "scheduler", "--host=127.0.0.1", "--port=0", "--no-dashboard",
         f"--scheduler-file={folder}/scheduler.json"], **place,
    )  # fmt: skip
    workers = [
        subprocess.Popen(
            [*dask, "worker", f"--scheduler-file={folder}/scheduler.json", "--nthreads=1",
             "--no-dashboard", "--no-nanny"], **place,
        )
        for _ in range(2)
    ]  # fmt: skip
    deadline = time.monotonic() + 60
    while not (folder / "scheduler.json").is_file() and time.monotonic() < deadline:
        time.sleep(0.1)
    yield json.loads((folder / "scheduler.json").read_text())["address"], folder
    for process in (*workers, scheduler):
        process.terminate()
        process.wait(30)


def test_a_dask_cluster_does_what_processes_do(tmp_path, dask_scheduler):
    good, bad = tmp_path / "good", tmp_path / "bad"
    for folder, nihss in ((good, 3), (bad, 50)):
        folder.mkdir()
        text = f"participant_id\tnihss\tside\nsub-1\t{nihss}\tleft\n"
        (folder / "participants.tsv").write_text(text)
    tasks = [(str(folder),) for folder in (good, bad, tmp_path / "absent")]
    results = dict(map_patients(read_participants, tasks, dask_scheduler[0], "test"))
    assert len(results[str(good),]) == 1
    assert isinstance(results[str(bad),], CohortError)
    assert "no such file" in str(results[str(tmp_path / "absent"),])


def test_a_patient_whose_worker_was_killed_goes_to_another_one(dask_scheduler, monkeypatch):
    address, folder = dask_scheduler
    (folder / "fragile.py").write_text(
        "import os, pathlib, signal\n"
        "def measure(name, marker):\n"
        "    if name == 'fatal' and not pathlib.Path(marker).exists():\n"
        "        pathlib.Path(marker).touch()\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return name.upper()\n"
    )
    monkeypatch.syspath_prepend(folder)
    from fragile import measure

    tasks = [(name, str(folder / "killed")) for name in ("a", "fatal", "b", "c")]
    results = {task[0]: result for task, result in map_patients(measure, tasks, address, "test")}
    assert (folder / "killed").exists()
    assert results == {"a": "A", "fatal": "FATAL", "b": "B", "c": "C"}


def test_a_scheduler_that_is_not_there_is_one_message(monkeypatch):
    pytest.importorskip("distributed", reason="extra `cluster` is not installed")
    monkeypatch.setattr("data_tools.runtime.executors.CONNECT_S", 1)
    tasks = [("a",), ("b",)]
    for address in ("tcp://127.0.0.1:9", "nonsense"):
        began = time.monotonic()
        with pytest.raises(InputError, match="no Dask scheduler answers at"):
            list(map_patients(len, tasks, address, "test"))
        assert time.monotonic() - began < 20
