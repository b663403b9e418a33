"""What this machine's processor can do, as far as the system tells."""

import os
import platform
import sys
from pathlib import Path

from data_tools.runtime.errors import counted

# Instructions that multiply bfloat16; without one of them it is emulated and slow.
BFLOAT16_FLAGS = ("amx_bf16", "avx512_bf16")


def flags(cpuinfo: Path = Path("/proc/cpuinfo")) -> set[str]:
    """The processor's flags; none where the system does not tell.

    Args:
        cpuinfo: Linux's file.
    """
    return set(_said("flags", cpuinfo).split())


def model(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """The processor's name, or its kind where the system does not tell.

    Args:
        cpuinfo: Linux's file.
    """
    return _said("model name", cpuinfo) or platform.processor() or platform.machine()


def _said(about: str, cpuinfo: Path) -> str:
    """What Linux's file says first about something; empty where it says nothing."""
    if not cpuinfo.is_file():
        return ""
    for line in cpuinfo.read_text(encoding="utf-8").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == about:
            return value.strip()
    return ""


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def in_words() -> str:
    """Cores and name, as in "CPU with 2 cores (AMD EPYC 9454)"."""
    return f"CPU with {counted(cores(), 'core')} ({model()})"


def multiplies_bfloat16() -> bool:
    """Whether bfloat16 is faster than float32 here."""
    return not flags().isdisjoint(BFLOAT16_FLAGS)
