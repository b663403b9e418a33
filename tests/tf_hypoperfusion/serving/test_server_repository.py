"""Versions come and go while clients ask."""

import concurrent.futures
import json
import shutil
import time
from pathlib import Path

import pytest
from helpers.serving import STRIDE, ServerProcess

from data_tools.runtime.errors import InputError
from tf_hypoperfusion.serving.server import policies, repository, version
from tf_hypoperfusion.serving.server.repository import Repository

pytestmark = pytest.mark.usefixtures("serve_extra")


def test_a_new_version_is_taken_over_without_a_failed_request(
    saved_models, networks, patient_body, tmp_path
):
    from tf_hypoperfusion.serving import saved_model

    models = shutil.copytree(saved_models, tmp_path / "saved_models")
    serve = ServerProcess(f"--models={models}", log=tmp_path / "log")
    data = json.dumps(patient_body).encode()
    versions, codes = [], []
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        exporting = pool.submit(saved_model.export, networks[1:], "stroke", models, stride=STRIDE)
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline and (len(versions) < 5 or versions[-1] != 2):
            answer = serve.predict(data)
            codes.append(answer.status_code)
            versions.append(json.loads(answer.json()["outputs"]["model_info"][0][0])["version"])
        exporting.result()
    assert set(codes) == {200} and set(versions) == {1, 2} and versions == sorted(versions)
    states = serve.states()
    assert [(s["version"], s["state"]) for s in states] == [("2", "AVAILABLE"), ("1", "END")]
    (models / "stroke/3").mkdir()  # what a careless copy leaves
    (models / "stroke/3/saved_model.pb").write_bytes(b"half")
    time.sleep(1.5)
    assert serve.predict(data).status_code == 200
    states = serve.states()
    assert states[0]["state"] == "END" and states[0]["status"]["error_message"]
    # The copy is finished: it serves. The newer ones are deleted: the old one is back.
    shutil.copytree(models / "stroke/2", models / "stroke/3", dirs_exist_ok=True)
    serve.wait_for_version("3")
    shutil.rmtree(models / "stroke/3")
    shutil.rmtree(models / "stroke/2")
    serve.wait_for_version("1")
    assert json.loads(serve.predict(data).json()["outputs"]["model_info"][0][0])["version"] == 1
    assert serve.stop() == 0


class Loaded:
    """A version that is whole as soon as it holds a file."""

    def __init__(self, name, number, folder, **_):
        self.number, self.folder = number, folder
        if not (folder / "whole").is_file():
            raise InputError(f"{folder} is not whole")

    def warm_up(self):
        pass


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Version 1 of "a" and of "b"."""
    monkeypatch.setattr(repository, "Version", Loaded)
    for name in "ab":
        (tmp_path / f"models/{name}/1").mkdir(parents=True)
        (tmp_path / f"models/{name}/1/whole").touch()
    return tmp_path / "models"


def test_what_is_loaded_is_served_on_while_folders_are_away(folder, caplog):
    caplog.set_level("INFO")
    serve = Repository(policies.ModelSource(str(folder)).policies, retires=False)
    serve.refresh()
    first = serve.get("a")
    for place in (folder, folder / "a", folder / "a/1"):
        place.rename(folder.parent / "away")
        caplog.clear()
        for _ in range(2):
            serve.refresh()
        assert serve.get("a") is first and sorted(serve.names()) == ["a", "b"]
        assert caplog.text.count("a: its folder holds no version any more") == 1
        (folder.parent / "away").rename(place)
        serve.refresh()
        assert serve.get("a") is first and "a: its folder is back" in caplog.text


def test_a_version_that_is_no_folder_is_told_in_a_sentence(stroke_export, tmp_path):
    shutil.copytree(stroke_export, tmp_path / "stroke/1")
    serve = Repository(policies.ModelSource(str(tmp_path)).policies)
    serve.refresh()
    for number, make in ((2, Path.touch), (3, lambda path: path.symlink_to(tmp_path / "none"))):
        make(tmp_path / f"stroke/{number}")
        serve.refresh()
        assert serve.get("stroke").number == 1
        assert "is no folder; expected an export" in serve.states("stroke")[number].reason


def test_one_folder_that_cannot_be_looked_at_keeps_no_other_back(folder, monkeypatch):
    named = policies.ModelSource(str(folder)).policies()
    versions = repository.saved_model.versions

    def stale(path):
        if path.name == "a":
            raise OSError("stale file handle")
        return versions(path)

    monkeypatch.setattr(repository.saved_model, "versions", stale)
    serve = Repository(lambda: named)
    with pytest.raises(OSError, match="stale"):
        serve.refresh()
    assert serve.names() == ["b"]


def test_a_slow_copy_is_logged_once_and_served_when_it_is_whole(folder, caplog):
    serve = Repository(policies.ModelSource(str(folder)).policies, retires=False)
    serve.refresh()
    (folder / "a/2").mkdir()
    for part in range(4):
        (folder / f"a/2/{part}").touch()
        serve.refresh()
    assert caplog.text.count("a version 2: not served") == 1
    assert serve.get("a").number == 1 and serve.states("a", 2)[2].state == "END"
    (folder / "a/2/whole").touch()
    serve.refresh()
    assert serve.get("a").number == 2


def test_an_export_is_not_loaded_before_its_checksums_are_there(stroke_export, tmp_path):
    copy = shutil.copytree(stroke_export, tmp_path / "1")
    content = (copy / "checksums.sha256").read_text()
    options = {"runtime": "auto", "precision": None}
    for half in (None, content[: len(content) // 2], content[:-1]):
        (copy / "checksums.sha256").unlink()
        if half is not None:
            (copy / "checksums.sha256").write_text(half)
        with pytest.raises(InputError, match="is missing or not whole; is the version"):
            version.Version("a", 1, copy, **options)
        (copy / "checksums.sha256").write_text(content)
    (copy / "model.onnx").write_bytes(b"half")
    with pytest.raises(InputError, match=r"damaged or missing: model\.onnx"):
        version.Version("a", 1, copy, **options)
