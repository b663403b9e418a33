"""Versions come and go while clients ask."""

import concurrent.futures
import json
import shutil
import time

import pytest
from helpers.serving import STRIDE, ServerProcess

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
