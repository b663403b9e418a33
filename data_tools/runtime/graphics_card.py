"""NVIDIA cards of this machine, as its system tells of them: no CUDA and no TensorFlow is asked."""

import os
import shutil
import subprocess
from pathlib import Path

NVIDIA = "0x10de"
# Of PCI devices: 0x0300 is a VGA controller, 0x0302 one that only computes.
DISPLAY = "0x03"
ASKED_S = 10


def nvidia(root: Path = Path("/")) -> list[str]:
    """The names of NVIDIA cards, or where one was seen if nothing names it; empty: there is none.

    Args:
        root: of the file system; a test has its own.
    """
    named = _by_smi()
    if named:
        return named
    nodes = sorted(root.glob("dev/nvidia[0-9]*"))
    if nodes:
        return [f"an NVIDIA card ({node})" for node in nodes]
    return [
        f"an NVIDIA card (PCI {device.name})"
        for device in sorted(root.glob("sys/bus/pci/devices/*"))
        if _said(device / "vendor") == NVIDIA and _said(device / "class").startswith(DISPLAY)
    ]


def hidden() -> bool:
    """Whether the user has hidden the cards from every program (CUDA_VISIBLE_DEVICES)."""
    return os.environ.get("CUDA_VISIBLE_DEVICES", "0").strip() in ("", "-1")


def _by_smi() -> list[str]:
    """What the driver's own program says: on Linux, on Windows and in its WSL."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    try:
        said = subprocess.run(
            [program, "--query-gpu=name", "--format=csv,noheader"],
            capture_output=True, text=True, timeout=ASKED_S, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):  # such as a driver that is not loaded
        return []
    return [name.strip() for name in said.stdout.splitlines() if name.strip()]


def _said(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8").strip()
    except OSError:
        return ""
