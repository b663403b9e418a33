"""Timing in turns: one process a way, asked for one call at a time, so that all see the same noise.

The process prints a line of JSON when it is warm (what is known of the way), and one for each line
it reads ("seconds"). At the end of its input it prints its peak memory and ends.
"""

import importlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def check_python(path: str) -> None:
    """Refuse an interpreter that is none, before anything is measured."""
    from data_tools.errors import InputError

    if not os.access(path, os.X_OK):
        raise InputError(f"--others={path}: no such program; expected a Python interpreter")


def measure(ways: list[dict[str, Any]], rounds: int, log: Path) -> list[dict[str, Any]]:
    """Time ways by turns.

    Args:
        ways: each with ``python`` (the interpreter), ``module`` (in benchmarks.ways) and what its
            ``prepare`` reads. rounds: calls of each. log: for what they write besides.

    Returns:
        In the same order: the facts of a way with ``seconds`` (a list) and ``peak_gib``, or
        ``failed`` with the last line it wrote.
    """
    processes = []
    with open(log, "w") as errors:
        for way in ways:  # one after the other: warming up takes all cores
            process = subprocess.Popen(
                [way["python"], "-m", "benchmarks.ways.turns", json.dumps(way)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True, cwd=ROOT,
            )  # fmt: skip
            processes.append((process, _read(process)))
        seconds: list[list[float]] = [[] for _ in ways]
        for _ in range(rounds):
            for k, (process, facts) in enumerate(processes):
                if "failed" not in facts and process.stdin:
                    process.stdin.write("go\n")
                    process.stdin.flush()
                    seconds[k].append(_read(process).get("seconds", float("nan")))
        found = []
        for (process, facts), taken in zip(processes, seconds, strict=True):
            if process.stdin:
                process.stdin.close()
            last = {} if "failed" in facts else _read(process)
            found.append({**facts, "seconds": taken, **last})
            process.wait()
    return found


def _read(process: subprocess.Popen) -> dict[str, Any]:
    """The next line of JSON; frameworks print others between."""
    last = ""
    for line in process.stdout or ():
        if line.startswith("{"):
            return json.loads(line)
        last = line.strip() or last
    return {"failed": last or f"exit status {process.wait()}"}


def main() -> None:
    """Be the process of one way."""
    way = json.loads(sys.argv[1])
    way["threads"] = os.cpu_count()
    try:
        call, facts = importlib.import_module(f"benchmarks.ways.{way['module']}").prepare(way)
        call()
        call()
    except Exception as fault:
        print(json.dumps({"failed": f"{type(fault).__name__}: {str(fault)[:300]}"}), flush=True)
        raise
    print(json.dumps(facts), flush=True)
    for _ in sys.stdin:
        began = time.perf_counter()
        call()
        print(json.dumps({"seconds": time.perf_counter() - began}), flush=True)
    print(json.dumps({"peak_gib": peak_gib()}), flush=True)


def peak_gib() -> float:
    """The largest resident set of this process so far (getrusage's counts the parent's too)."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 2**20


if __name__ == "__main__":
    main()
