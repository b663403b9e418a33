"""The client beside ``predict``: the same folder, other servers refused, no TensorFlow."""

import base64
import copy
import http.server
import io
import json
import subprocess
import sys
import threading

import nibabel as nib
import numpy as np
import PIL.Image
import pytest
from helpers import PROJECT
from helpers.calibrations import calibration_of

from data_tools import patient
from data_tools.runtime import command
from data_tools.runtime.errors import InputError
from tf_hypoperfusion import predict, serving_client
from tf_hypoperfusion.clinical import ClinicalFacts
from tf_hypoperfusion.inference import rest_client


class Elsewhere(http.server.BaseHTTPRequestHandler):
    """A server that answers with JSON, and not as a model would."""

    answer = b""

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.do_GET()

    def do_GET(self):
        self.send_response(200)
        self.send_header("content-length", str(len(self.answer)))
        self.end_headers()
        self.wfile.write(self.answer)

    def log_message(self, *_):
        pass


def picture(mode, size):
    content = io.BytesIO()
    PIL.Image.new(mode, size).save(content, "PNG")
    return base64.b64encode(content.getvalue()).decode()


@pytest.mark.parametrize(
    ("info", "png", "message"),
    [
        ("[1]", "", "no description of a model"),
        ('{"cohort": 3}', "", "no description of a model"),
        ('{"cohort": null}', "AAAA", "no PNG"),
        ('{"cohort": null}', picture("L", (6540, 91)), "expected 16 bits"),
        ('{"cohort": null}', picture("I;16", (6540, 90)), "expected 16 bits"),
    ],
)
def test_answers_of_another_kind_are_refused(info, png, message, made_up_patient, monkeypatch):
    outputs = {"model_info": [[info]], "probability_png_bytes": [{"b64": png}]}
    monkeypatch.setattr(Elsewhere, "answer", json.dumps({"outputs": outputs}).encode())
    there = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Elsewhere)
    threading.Thread(target=there.serve_forever, daemon=True).start()
    asked = rest_client.Server(f"http://127.0.0.1:{there.server_port}", "x")
    with pytest.raises(InputError, match=message):
        rest_client._ask_volume(asked, made_up_patient, ClinicalFacts("left", 5), "bytes")
    there.shutdown()


def test_the_frame_of_a_model_is_known_from_its_answer():
    said = {"cohort": "A", "frame": "80x104"}
    assert rest_client._known_origin("there", said).frame == "80x104"
    for other in ({}, {"frame": None}, {"frame": [80, 104]}):
        assert rest_client._known_origin("there", {"cohort": "A", **other}).frame is None


def test_what_a_server_has_calibrated_is_not_calibrated_again(made_up_patient, monkeypatch):
    made = calibration_of(cut=0.3)
    told = json.dumps({"cohort": None, "calibration": made.to_json()})
    outputs = {"model_info": [[told]],
               "probability_png_bytes": [{"b64": picture("I;16", (6540, 91))}]}  # fmt: skip
    ready = {"model_version_status": [{"state": "AVAILABLE"}], "outputs": outputs}
    monkeypatch.setattr(Elsewhere, "answer", json.dumps(ready).encode())
    there = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Elsewhere)
    threading.Thread(target=there.serve_forever, daemon=True).start()
    backend = rest_client.backend(f"http://127.0.0.1:{there.server_port}", "x")
    assert backend.calibrated.known() is None and backend.calibrated.by_server
    backend.answers[0](made_up_patient, ClinicalFacts("left", 5))
    assert backend.calibrated.known() == made
    there.shutdown()


@pytest.mark.parametrize(
    ("url", "name", "message"),
    [
        ("ftp://x", "stroke", "expected http://HOST:PORT"),
        ("http://127.0.0.1:9", "stroke", "does not answer"),
        ("{url}", "none", "Could not find any versions of model none"),
        ("{url}/healthz", "stroke", "refused with status 404"),
    ],
)
def test_servers_that_cannot_be_asked(url, name, message, server, monkeypatch):
    monkeypatch.setattr(rest_client, "BACK_OFF_S", 0.01)
    with pytest.raises(InputError, match=message):
        rest_client.backend(url.format(url=server.url), name)


def test_the_client_writes_what_predict_writes(
    server, saved_models, raw_cohort, tmp_path, monkeypatch
):
    dwi = raw_cohort / "sub-0001/dwi/sub-0001_dwi.nii.gz"
    adc = raw_cohort / "sub-0001/dwi/sub-0001_ADC.nii.gz"
    # One patient, and registration is not what could differ: once is enough.
    registered = patient.to_mni(patient.load_native(dwi, adc))
    monkeypatch.setattr(patient, "to_mni", lambda native: copy.deepcopy(registered))
    common = [f"--dwi={dwi}", f"--adc={adc}", "--nihss=14", "--side=left"]

    def call(module, *arguments):
        return command.run(module.main, module.FLAGS, module.__doc__, [*common, *arguments])

    model, url, stride = f"--model={saved_models}/stroke", f"--url={server.url}", "--stride=16"
    there = (url, "--model=stroke")
    assert call(predict, model, stride, f"--out={tmp_path}/here") == 0
    assert call(serving_client, *there, f"--out={tmp_path}/bytes") == 0
    assert call(serving_client, *there, "--form=volume", f"--out={tmp_path}/volume") == 0
    assert call(serving_client, *there, "--form=slabs", stride, f"--out={tmp_path}/slabs") == 0
    here = nib.load(tmp_path / "here/probability.nii.gz").get_fdata()
    names = {path.name for path in (tmp_path / "here").iterdir()}
    for form in ("bytes", "volume", "slabs"):
        there = nib.load(tmp_path / form / "probability.nii.gz").get_fdata()
        assert np.abs(there - here).max() < 1e-4
        # This network knows nothing: it says almost 0.5 everywhere, where a hair decides.
        clear = np.abs(here - 0.5) > 1e-4
        np.testing.assert_array_equal(there[clear] >= 0.5, here[clear] >= 0.5)
        assert {path.name for path in (tmp_path / form).iterdir()} == names
    info = json.loads((tmp_path / "bytes/result.json").read_text())["models"][0]
    assert info["name"] == "stroke" and info["version"] == 1


def test_the_client_needs_no_tensorflow(server, raw_cohort, tmp_path):
    """In a process where TensorFlow and Keras cannot be imported."""
    code = (
        "import sys\n"
        "sys.modules['tensorflow'] = sys.modules['keras'] = None\n"
        "from data_tools.runtime import command\n"
        "from tf_hypoperfusion import serving_client as c\n"
        "sys.exit(command.run(c.main, c.FLAGS, c.__doc__))\n"
    )
    folder = raw_cohort / "sub-0001/dwi"
    done = subprocess.run(
        [
            sys.executable, "-c", code, f"--url={server.url}", "--model=stroke", "--nihss=n/a",
            "--side=left", f"--dwi={folder}/sub-0001_dwi.nii.gz",
            f"--adc={folder}/sub-0001_ADC.nii.gz", f"--out={tmp_path}/out",
        ],
        capture_output=True, text=True, cwd=PROJECT, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out/result.json").is_file()
