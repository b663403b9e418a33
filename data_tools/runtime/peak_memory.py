"""The most memory that a piece of work held, measured by Linux."""

import contextlib
import sys
from pathlib import Path

_CLEAR, _STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")


def reset() -> None:
    """Begin anew; where that is not possible :func:`read_mb` tells the process's peak."""
    with contextlib.suppress(OSError):
        _CLEAR.write_text("5", encoding="utf-8")


def read_mb() -> int:
    """Largest resident memory since :func:`reset`, in MB of 2**20 bytes; 0 where nobody knows."""
    try:
        line = next(
            x for x in _STATUS.read_text(encoding="utf-8").splitlines() if x.startswith("VmHWM")
        )
        return round(int(line.split()[1]) / 1024)
    except (OSError, StopIteration):
        try:
            import resource
        except ImportError:  # Windows
            return 0
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return round(peak / (2**20 if sys.platform == "darwin" else 2**10))
