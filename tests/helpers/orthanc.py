"""A real PACS, where it is installed."""

import contextlib
import json
import shutil
import socket
import subprocess
import time
from pathlib import Path

import pytest

from helpers.dicom_network import free_port

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")


@contextlib.contextmanager
def orthanc(folder):
    """Start Orthanc on free ports; its HTTP and DICOM port. Skips the test where it is absent."""
    if shutil.which("Orthanc") is None or not PLUGIN.is_file():
        pytest.skip("Orthanc and its DICOMweb plugin are not installed")
    ports = free_port(), free_port()
    settings = {
        "HttpPort": ports[0], "DicomPort": ports[1], "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "storage"), "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False, "Plugins": [str(PLUGIN)], "DicomWeb": {"Enable": True},
    }  # fmt: skip
    (folder / "orthanc.json").write_text(json.dumps(settings))
    server = subprocess.Popen(
        ["Orthanc", str(folder / "orthanc.json")],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", ports[0]), 1):
            break
        time.sleep(0.2)
    try:
        yield ports
    finally:
        server.terminate()
        server.wait(30)
