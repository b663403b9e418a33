"""Files are whole or absent."""

import errno
import hashlib
import json
import os
import subprocess
import sys

import pytest

from data_tools.runtime import atomic
from data_tools.runtime.errors import InputError

pytestmark = pytest.mark.quick


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_the_file_appears_when_the_block_ends(tmp_path):
    path = tmp_path / "new" / "page.html"
    with atomic.replacing(path) as temporary:
        temporary.write_text("half")
        assert not path.exists()
        assert temporary.parent == path.parent  # a rename inside one file system is atomic
        assert temporary.suffix == ".html"
        temporary.write_text("whole")
    assert path.read_text() == "whole"
    assert names(path.parent) == ["page.html"]


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def write_and_fail():
        with atomic.replacing(path) as temporary:
            temporary.write_text("new")
            raise RuntimeError("disk full")

    with pytest.raises(RuntimeError, match="disk full"):
        write_and_fail()
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_an_error_in_a_new_folder_leaves_no_file(tmp_path):
    path = tmp_path / "b.json"
    with pytest.raises(TypeError):
        atomic.write_json(path, {"mask": {1, 2}})
    assert names(tmp_path) == []


def test_text_and_json_read_back(tmp_path):
    atomic.write_text(tmp_path / "t.txt", "µm²/s\n")
    assert (tmp_path / "t.txt").read_bytes() == "µm²/s\n".encode()
    content = {"z": 1, "a": [None, 0.5]}
    atomic.write_json(tmp_path / "j.json", content)
    assert json.loads((tmp_path / "j.json").read_text()) == content
    assert list(json.loads((tmp_path / "j.json").read_text())) == ["z", "a"]


def test_nan_is_no_json(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        atomic.write_json(tmp_path / "j.json", {"dice": float("nan")})
    assert names(tmp_path) == []


@pytest.mark.parametrize("size", [0, 3, (1 << 20) + 1], ids=["empty", "small", "over one block"])
def test_checksum_of_a_file(tmp_path, size):
    content = bytes(range(256)) * (size // 256 + 1)
    (tmp_path / "f").write_bytes(content[:size])
    assert atomic.sha256(tmp_path / "f") == hashlib.sha256(content[:size]).hexdigest()


HOLD = """
import sys, time
from data_tools.runtime import atomic

with atomic.one_writer(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_writer_is_refused_until_the_first_ends_however_it_ends(tmp_path):
    folder = tmp_path / "out"
    script = [sys.executable, "-c", HOLD, str(folder)]
    first = subprocess.Popen(script, stdout=subprocess.PIPE, text=True)
    assert first.stdout.readline() == "held\n"
    with (
        pytest.raises(InputError, match="another run is writing to .*out"),
        atomic.one_writer(folder),
    ):
        pass
    first.kill()
    first.wait()
    with atomic.one_writer(folder):
        assert (tmp_path / ".out.lock").exists()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_found_before_the_work(tmp_path):
    atomic.check_writable(tmp_path / "not/yet/there")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to("gone")
    for place in ("file", "file/sub"):
        with pytest.raises(InputError, match="file is a file; expected a folder. Choose another"):
            atomic.check_writable(tmp_path / place)
        with pytest.raises(InputError, match="is a file"), atomic.one_writer(tmp_path / place):
            pass
    with pytest.raises(InputError, match="link is a link to nothing; expected a folder"):
        atomic.check_writable(tmp_path / "link" / "sub")


def test_a_lock_needs_the_folder_above(tmp_path, monkeypatch):
    """Of /data, which is the administrator's, when the output is /data/mine."""
    (tmp_path / "mine").mkdir()

    def probe(folder):
        if folder == tmp_path:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(atomic, "_probe", probe)
    with (
        pytest.raises(InputError, match=r"mine.lock cannot be written \(Permission .* inside"),
        atomic.one_writer(tmp_path / "mine"),
    ):
        pass


def test_a_file_name_that_is_no_text_does_not_stop_a_page(tmp_path):
    atomic.write_text(tmp_path / "page.html", "failed: sub-\udcff/\u65e5.nii")
    assert (tmp_path / "page.html").read_text() == "failed: sub-\\udcff/\u65e5.nii"


def without_locks(monkeypatch, number):
    """Let the file system answer to flock as some of clusters do."""
    import fcntl

    def flock(file, operation):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)


def test_one_writer_on_a_file_system_without_locks(tmp_path, monkeypatch, recwarn):
    without_locks(monkeypatch, errno.ENOSYS)
    folder = tmp_path / "out"
    with (
        atomic.one_writer(folder),
        pytest.raises(InputError, match=r"another run .* remove .*\.out\.lock"),
        atomic.one_writer(folder),
    ):
        pass
    with atomic.one_writer(folder):
        pass
    assert list(tmp_path.iterdir()) == [] and not recwarn.list


def test_where_nothing_can_be_locked_the_file_is_named_and_what_to_do(tmp_path, monkeypatch):
    without_locks(monkeypatch, errno.ENOLCK)
    with (
        pytest.raises(InputError, match=r"\.out\.lock cannot be locked .No locks .* mount it"),
        atomic.one_writer(tmp_path / "out"),
    ):
        pass


def test_a_table_holds_no_formula(tmp_path):
    row = {"site": "=HYPERLINK(1)", "ml": -3.5, "text": "-3 (-5 to 1)", "note": "@SUM(A1)"}
    atomic.write_csv(tmp_path / "table.csv", [row])
    assert (tmp_path / "table.csv").read_text().splitlines()[1] == (
        "'=HYPERLINK(1),-3.5,-3 (-5 to 1),'@SUM(A1)"
    )
