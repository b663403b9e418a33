"""Where a run came from."""

import subprocess
import sys
from types import SimpleNamespace

import pytest

from tf_hypoperfusion import __version__, provenance

pytestmark = pytest.mark.quick


def git(folder, *arguments):
    identity = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
    subprocess.run(["git", "-C", str(folder), *identity, *arguments], check=True, timeout=30)


def test_commit_of_a_clean_and_of_a_changed_tree(tmp_path):
    assert provenance.git_commit(tmp_path) is None
    git(tmp_path, "init", "-q")
    (tmp_path / "code.py").write_text("1")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "one")
    commit = provenance.git_commit(tmp_path)
    assert len(commit) == 40
    (tmp_path / "notes.txt").write_text("not part of the code")
    assert provenance.git_commit(tmp_path) == commit
    (tmp_path / "code.py").write_text("2")
    assert provenance.git_commit(tmp_path) == commit + "+changes"
    assert provenance.git_commit(tmp_path / "no such folder") is None


def test_versions_are_those_installed():
    import numpy as np

    found = provenance.software()
    assert found["tf_hypoperfusion"] == __version__
    assert found["numpy"] == np.__version__
    assert set(provenance.PACKAGES) < set(found)


def test_a_session_says_where_it_went_on():
    session = provenance.session(["/cpu:0"], 3, 0, micro_batch=4)
    assert (session.from_epoch, session.from_step) == (4, 1)
    assert (session.devices, session.micro_batch) == (["/cpu:0"], 4)
    assert session.started.endswith("+00:00")


def test_the_machine_is_the_gpu_where_tensorflow_has_one(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    assert provenance.machine().endswith(("core", "cores"))
    details = {"gpu 0": {"device_name": "ACME G1"}, "gpu 1": {}}
    config = SimpleNamespace(
        list_physical_devices=lambda kind: list(details),
        experimental=SimpleNamespace(get_device_details=details.get),
    )
    monkeypatch.setitem(sys.modules, "tensorflow", SimpleNamespace(config=config))
    assert provenance.machine() == "ACME G1, a GPU"
