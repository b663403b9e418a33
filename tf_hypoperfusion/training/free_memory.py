"""How much memory this process can still get: of the machine, and of the container it runs in.

A container (Docker, Kubernetes, SLURM) is a control group of Linux, and the kernel kills without a
word what takes more than its limit. ``/proc/meminfo`` knows the machine only, and so does psutil.
Control groups stand in one another, and each limits all that is in it. Version 1 and 2 of them
differ in the names of their files.
"""

import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path

# Where version 1 writes no limit, it writes the largest number of whole pages.
_NO_LIMIT = 2**60


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Version:
    """Where a version of control groups has what.

    Attributes:
        controller: in the line of ``/proc/self/cgroup``; version 2 leaves it empty.
        mounts: where the outermost group may be mounted.
        limits: files that hold a limit, bytes.
        used: the file of what all processes of the group have, page cache counted in.
        cache: lines of ``memory.stat``: files in memory, which the kernel drops when asked.
    """

    controller: str
    mounts: tuple[str, ...]
    limits: tuple[str, ...]
    used: str
    cache: tuple[str, ...]


_VERSIONS = (
    _Version(
        controller="memory",
        mounts=("sys/fs/cgroup/memory",),
        limits=("memory.limit_in_bytes",),
        used="memory.usage_in_bytes",
        cache=("total_active_file", "total_inactive_file"),
    ),
    _Version(
        controller="",
        mounts=("sys/fs/cgroup", "sys/fs/cgroup/unified"),
        limits=("memory.max", "memory.high"),
        used="memory.current",
        cache=("active_file", "inactive_file"),
    ),
)


def available_bytes(root: Path = Path("/")) -> int | None:
    """Memory that this process can still get, page cache counted in; None where nobody says.

    Args:
        root: of the file system; another one is for tests.
    """
    known = [_of_the_machine(root / "proc/meminfo"), *_of_the_groups(root)]
    return min((free for free in known if free is not None), default=None)


def _of_the_machine(meminfo: Path) -> int | None:
    if meminfo.is_file():
        for line in meminfo.read_text(encoding="utf-8").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    ask = getattr(os, "sysconf", None)
    try:
        return ask("SC_AVPHYS_PAGES") * ask("SC_PAGE_SIZE") if ask else None
    except (ValueError, OSError):  # as macOS answers
        return None


def _of_the_groups(root: Path) -> Iterator[int]:
    """What each control group that limits this process has left."""
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        for version in _VERSIONS:
            if version.controller not in controllers.split(","):
                continue
            # A container may see its own group as the outermost, and yet be told the path of the
            # machine's: folders that are not there are passed over.
            inside = [Path(path.lstrip("/")), *Path(path.lstrip("/")).parents]
            for mount in version.mounts:
                yield from filter(None.__ne__, (_left(root / mount / p, version) for p in inside))


def _left(group: Path, version: _Version) -> int | None:
    """What a control group has left; None where it has no limit."""
    limits = [limit for limit in (_number(group / name) for name in version.limits) if limit]
    if not limits or min(limits) >= _NO_LIMIT:
        return None
    used = _number(group / version.used) or 0
    try:
        stat = dict(
            line.split()
            for line in (group / "memory.stat").read_text(encoding="utf-8").splitlines()
        )
        used -= sum(int(stat.get(name, 0)) for name in version.cache)
    except (OSError, ValueError):  # without it the page cache counts as taken
        pass
    return max(min(limits) - max(used, 0), 0)


def _number(path: Path) -> int | None:
    """The number in a file; None where there is no such file, or "max" in it."""
    try:
        return int(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
