"""Where a run came from: code, package versions, machine. Written into its ``config.json``."""

import dataclasses
import datetime
import importlib.metadata
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

from data_tools.runtime import processor
from data_tools.runtime.errors import counted
from tf_hypoperfusion import __version__

PACKAGES = (
    "tensorflow", "keras", "tensorflow-addons", "numpy", "scipy", "nibabel", "nilearn", "antspyx",
    "scikit-learn", "tensorboard",
)  # fmt: skip


@dataclasses.dataclass(frozen=True, kw_only=True)
class Session:
    """One start of a run.

    Attributes:
        started: in UTC.
        host: the machine's name.
        system: its operating system.
        devices: TensorFlow's names of those that compute.
        from_epoch: where it went on, from 1.
        from_step: within that epoch, from 1.
        micro_batch: slabs that one device holds at once.
        software: see :func:`software`.
    """

    started: str
    host: str
    system: str
    devices: list[str]
    from_epoch: int
    from_step: int
    micro_batch: int
    software: dict[str, str | None]


def software() -> dict[str, str | None]:
    """Versions of this project, Python and every package that matters; None if not installed."""
    return {
        "tf_hypoperfusion": __version__,
        "git_commit": git_commit(),
        "python": platform.python_version(),
        **{name: _version(name) for name in PACKAGES},
    }


def git_commit(folder: Path | None = None) -> str | None:
    """Commit of the source tree, with ``+changes`` if files differ from it; None outside git."""
    folder = folder or Path(__file__).resolve().parents[1]
    if not (folder / ".git").exists():  # installed, perhaps inside someone else's repository
        return None
    try:
        commit = _git(folder, "rev-parse", "HEAD")
        changed = _git(folder, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return None
    return commit + ("+changes" if changed else "")


def machine() -> str:
    """What computes here: the GPUs that TensorFlow has, where it is loaded, or the processor."""
    tensorflow: Any = sys.modules.get("tensorflow")
    gpus = tensorflow.config.list_physical_devices("GPU") if tensorflow else []
    details = [tensorflow.config.experimental.get_device_details(gpu) for gpu in gpus]
    if details:
        return ", ".join(each.get("device_name", "a GPU") for each in details)
    return f"{processor.model()}, {counted(processor.cores(), 'core')}"


def session(devices: list[str], first_epoch: int, first_step: int, *, micro_batch: int) -> Session:
    """A start of a run, now, on this machine.

    Args:
        devices: that compute.
        first_epoch: where it goes on, from 0.
        first_step: within that epoch, from 0.
        micro_batch: slabs that one device holds at once.
    """
    return Session(
        started=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        host=platform.node(),
        system=platform.platform(),
        devices=devices,
        from_epoch=first_epoch + 1,
        from_step=first_step + 1,
        micro_batch=micro_batch,
        software=software(),
    )


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(folder), *arguments],
        capture_output=True,
        text=True,
        check=True,
        timeout=9,
    )
    return done.stdout.strip()


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
