"""``ovmsclient``, a client of TensorFlow Serving that is not ours, over REST and gRPC.

In a process of its own: it brings TensorFlow's messages with it, which this process has already.
"""

import importlib.util
import subprocess
import sys

import numpy as np
import pytest

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("ovmsclient") is None, reason="ovmsclient is not installed"
)
CODE = """
import sys
import numpy as np
import ovmsclient
kind, address, files = sys.argv[1:]
client = getattr(ovmsclient, f"make_{kind}_client")(address)
status = client.get_model_status("stroke", 1)
assert status[1]["state"] == "AVAILABLE", status
assert status[1]["error_code"] == 0, status
told = client.get_model_metadata("stroke", 1)
assert "'nihss'" in str(told) and "'probability'" in str(told), told
given = np.load(files + "/given.npz")
inputs = {"image": given["image"], "nihss": given["nihss"]}
np.save(files + "/answer.npy", client.predict(inputs, "stroke", 1, timeout=100))
for name, version, inputs, error in (
    ("none", 1, inputs, "ModelNotFoundError"),
    ("stroke", 7, inputs, "ModelNotFoundError"),
    ("stroke", 1, {"image": given["image"]}, "InvalidInputError"),
    ("stroke", 1, inputs | {"nihss": np.float32([0.5])}, "InvalidInputError"),
):
    try:
        client.predict(inputs, name, version, timeout=100)
    except Exception as caught:
        assert type(caught).__name__ == error, repr(caught)
    else:
        raise AssertionError(error)
"""


@pytest.mark.parametrize("kind", ["http", "grpc"])
def test_another_client_of_tensorflow_serving_is_answered(kind, server, slab, tmp_path):
    image, nihss, expected = slab
    np.savez(tmp_path / "given.npz", image=image.astype("f4"), nihss=nihss.astype("f4"))
    port = server.port if kind == "http" else server.grpc_port
    done = subprocess.run(
        [sys.executable, "-c", CODE, kind, f"127.0.0.1:{port}", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(np.load(tmp_path / "answer.npy"), expected, atol=1e-6)
