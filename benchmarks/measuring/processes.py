"""Whole commands by turns, as the operating system accounts for them when they end."""

import os
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.measuring.turns import progress
from data_tools.runtime.errors import InputError


class Usage(NamedTuple):
    """What one run of a command took.

    Attributes:
        wall_s: from its start to its end.
        cpu_s: of its own and of the processes that it waited for, user and system.
        peak_mib: resident memory of its largest process.
    """

    wall_s: float
    cpu_s: float
    peak_mib: float


class Command(NamedTuple):
    """A command to time.

    Attributes:
        words: program and arguments.
        folder: where it runs.
        before: called before each run, outside the time; None for nothing.
        environment: variables beside those that are there.
    """

    words: Sequence[str]
    folder: Path
    before: Callable[[], object] | None = None
    environment: Mapping[str, str] = {}


def measure(commands: Mapping[str, Command], rounds: int, log: Path) -> dict[str, list[Usage]]:
    """Run each command once to warm the disk up, and then ``rounds`` times, by turns: A B A B.

    Args:
        commands: by name.
        rounds: counted runs of each.
        log: gets what they print.

    Raises:
        InputError: a command failed; its last words.
    """
    taken: dict[str, list[Usage]] = {name: [] for name in commands}
    for turn in progress(range(rounds + 1), "whole commands"):
        for name, command in commands.items():
            usage = _run(name, command, log)
            if turn:
                taken[name].append(usage)
    return taken


def _run(name: str, command: Command, log: Path) -> Usage:
    if command.before is not None:
        command.before()
    with open(log, "w") as told:
        began = time.perf_counter()
        process = subprocess.Popen(
            command.words, cwd=command.folder, stdout=told, stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL, env=os.environ | dict(command.environment),
        )  # fmt: skip
        _, status, used = os.wait4(process.pid, 0)
        wall_s = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        last = log.read_text(errors="replace").strip().splitlines()[-3:]
        raise InputError(
            f"{name}: {' '.join(command.words)} ended with exit status {process.returncode}; it "
            f"said: {' / '.join(last)}"
        )
    return Usage(wall_s, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)
