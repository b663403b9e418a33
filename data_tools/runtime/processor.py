"""What this machine's processor can do, as far as the system tells."""

import os
import sys
from pathlib import Path

# Instructions that multiply bfloat16; without one of them it is emulated and slow.
BFLOAT16_FLAGS = ("amx_bf16", "avx512_bf16")


def flags(cpuinfo: Path = Path("/proc/cpuinfo")) -> set[str]:
    """The processor's flags; none where the system does not tell.

    Args:
        cpuinfo: Linux's file.
    """
    if not cpuinfo.is_file():
        return set()
    lines = cpuinfo.read_text().splitlines()
    return set(next((line for line in lines if line.startswith("flags")), "").split())


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def multiplies_bfloat16() -> bool:
    """Whether bfloat16 is faster than float32 here."""
    return not flags().isdisjoint(BFLOAT16_FLAGS)
