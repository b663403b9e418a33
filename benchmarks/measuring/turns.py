"""Timing in turns, so that a busy minute burdens all ways alike.

In one process, or in a process a way, which is asked for one call at a time. Such a process prints
a line of JSON when it is warm (what is known of the way), and one for each line it reads
("seconds", and "cpu_seconds" of all of its threads). At the end of its input it prints its peak
memory and ends.
"""

import contextlib
import importlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Hashable, Mapping
from pathlib import Path
from typing import Any, TypeVar

ROOT = Path(__file__).parents[2]
Key = TypeVar("Key", bound=Hashable)


def in_process(
    calls: Mapping[Key, Callable[[], object]], rounds: int, what: str
) -> dict[Key, list[float]]:
    """Seconds of each call, ``rounds`` times after once to warm up; ``what`` stands at the bar."""
    seconds: dict[Key, list[float]] = {key: [] for key in calls}
    for turn in progress(range(rounds + 1), what):
        for key, call in calls.items():
            began = time.perf_counter()
            call()
            if turn:
                seconds[key].append(time.perf_counter() - began)
    return seconds


def progress(things: Any, what: str) -> Any:
    """A bar on a terminal."""
    from tqdm import tqdm

    return tqdm(things, desc=what, leave=False, disable=not sys.stderr.isatty())


def measure(ways: list[dict[str, Any]], rounds: int, log: Path) -> list[dict[str, Any]]:
    """Time ways by turns, each in a process of its own.

    Args:
        ways: each with ``python`` (the interpreter), ``module`` (in benchmarks.ways), what its
            ``prepare`` reads, and perhaps ``environment`` (variables).
        rounds: calls of each.
        log: for what they write besides.

    Returns:
        In the same order: the facts of a way with ``seconds`` and ``cpu_seconds`` (lists) and
        ``peak_gib``, or ``failed`` with the last line it wrote. A way that dies on the way fails
        alone.
    """
    with open(log, "w") as errors, contextlib.ExitStack() as stack:
        asked = []
        for way in progress(ways, "warming up"):  # one by one: it takes all cores
            asked.append(_Way(way, errors))
            stack.callback(asked[-1].process.kill)
            asked[-1].warm_up()
        for _ in progress(range(rounds), "measuring"):
            for way in asked:
                way.turn()
        return [way.end() for way in asked]


class _Way:
    """The process of a way, and what it has said."""

    def __init__(self, way: dict[str, Any], errors: Any):
        self.process = subprocess.Popen(
            [way["python"], "-m", "benchmarks.measuring.turns", json.dumps(way)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True, cwd=ROOT,
            env=os.environ | way.get("environment", {}),
        )  # fmt: skip
        self.seconds: list[float] = []
        self.cpu_seconds: list[float] = []
        self.facts: dict[str, Any] = {}

    def warm_up(self) -> None:
        self.facts = self._read()

    def turn(self) -> None:
        if "failed" in self.facts or self.process.stdin is None:
            return
        with contextlib.suppress(BrokenPipeError):  # it died: the answer says so
            self.process.stdin.write("go\n")
            self.process.stdin.flush()
        answer = self._read()
        if "failed" in answer:
            self.facts |= answer
        else:
            self.seconds.append(answer["seconds"])
            self.cpu_seconds.append(answer.get("cpu_seconds", 0.0))

    def end(self) -> dict[str, Any]:
        if self.process.stdin:
            with contextlib.suppress(BrokenPipeError):
                self.process.stdin.close()
        last = {} if "failed" in self.facts else self._read()
        self.process.wait()
        return {**self.facts, "seconds": self.seconds, "cpu_seconds": self.cpu_seconds, **last}

    def _read(self) -> dict[str, Any]:
        """The next line of JSON; frameworks print others between."""
        last = ""
        for line in self.process.stdout or ():
            if line.startswith("{"):
                return json.loads(line)
            last = line.strip() or last
        return {"failed": last or f"ended with exit status {self.process.wait()}"}


def main() -> None:
    """Be the process of one way."""
    way = json.loads(sys.argv[1])
    way["threads"] = len(os.sched_getaffinity(0))
    try:
        call, facts = importlib.import_module(f"benchmarks.ways.{way['module']}").prepare(way)
        call()
        call()
        print(json.dumps(facts), flush=True)
        for _ in sys.stdin:
            began, cpu = time.perf_counter(), time.process_time()
            call()
            took = {
                "seconds": time.perf_counter() - began,
                "cpu_seconds": time.process_time() - cpu,
            }
            print(json.dumps(took), flush=True)
    except Exception as fault:
        print(json.dumps({"failed": f"{type(fault).__name__}: {str(fault)[:300]}"}), flush=True)
        raise
    print(json.dumps({"peak_gib": peak_gib()}), flush=True)


def peak_gib(process: int | str = "self") -> float:
    """The largest resident set of a process so far (getrusage's counts the parent's too)."""
    status = Path(f"/proc/{process}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 2**20


if __name__ == "__main__":
    main()
