"""Write into the documents what commands print; run it after a change of what they print.

make demo > demo.log 2>&1; python -m docs.reference.write_figures demo.log
python -m docs.reference.write_figures

The first keeps what the demo printed as docs/results/demo.txt. Both write the blocks of
:data:`BLOCKS`, each between the comments ``<!-- NAME -->`` and ``<!-- end -->``.
"""

import csv
import re
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from benchmarks import beside
from data_tools.runtime import atomic
from docs.reference import forecasts

PROJECT = Path(__file__).parents[2]
RESULTS = PROJECT / "docs/results"
DEMO = RESULTS / "demo.txt"
# Steps of the demo that README shows, with the beginnings of their lines.
SHOWN = {
    "== 2/9": ("WARNING: the model was trained", "hypoperfusion", "true hypo", "target mismatch"),
    "== 6/9": ("5 SIMULATED", "  Dice", "  AUC", "  volume difference", "  target mismatch"),
}


def demo() -> str:
    """Some steps of the demo and its last lines, with dots for what is left out."""
    steps, _, last = DEMO.read_text(encoding="utf-8").strip().rpartition("\n\n")
    shown: list[str] = []
    for step in re.split("(?m)^(?=== )", steps):
        for title, beginnings in SHOWN.items():
            if step.startswith(title):
                lines = step.splitlines()
                wanted = [line for line in lines[1:] if line.startswith(beginnings)]
                shown += [lines[0], *wanted, "..."]
    return "\n".join(["```", *shown, last, "```"])


def cohort() -> str:
    """The table of ``data_tools.simulate.describe``."""
    with (RESULTS / "simulated_cohort.csv").open() as file:
        head, *rows = csv.reader(file)
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def networks(ours: str, runs: Mapping[str, str], fold: str | None = None) -> str:
    """The table of ``benchmarks.beside``; files of docs/results."""
    paths = {name: RESULTS / file for name, file in runs.items()}
    return beside.networks(beside.of_fold(RESULTS / ours, fold), paths)


def rivals() -> str:
    """Its other table."""
    return beside.rivals(beside.of_fold(RESULTS / CHOSEN), RESULTS / "rivals.csv")


CHOSEN, BEFORE = "demo/patients.csv", "with_dropout.csv"  # of the settings chosen, and before
ALL_FOLDS = {"with_dropout": BEFORE, "faithful": "faithful.csv"}
MONAI = {"MONAI": "fold0/monai.csv", "MONAI with dropout": "fold0/monai_with_dropout.csv"}
ABLATIONS = {"MONAI": "fold0/monai_with_dropout.csv"} | {
    name: f"fold0/{name}.csv" for name in ("no_nihss", "no_side", "no_gates")
}
FEWER = {f"{count} patients": f"fold0/patients_{count}.csv" for count in (50, 100, 200)}
BLOCKS: dict[str, dict[str, Callable[[], str]]] = {
    "README.md": {"demo": demo},
    "docs/explanation/simulated-cohort.md": {"simulated cohort": cohort},
    "docs/reference/hardware.md": {"presets": forecasts.presets, "stations": forecasts.stations},
    "docs/explanation/scale.md": {
        "scale": forecasts.scale,
        "epochs": forecasts.epochs,
        "servers": forecasts.servers,
    },
    "RESULTS.md": {
        "all folds": partial(networks, CHOSEN, ALL_FOLDS),
        "rivals": rivals,
        "MONAI": partial(networks, CHOSEN, MONAI, fold="0"),
        "ablations": partial(networks, BEFORE, ABLATIONS, fold="0"),
        "fewer patients": partial(networks, BEFORE, FEWER, fold="0"),
    },
}


def written(text: str, blocks: Mapping[str, Callable[[], str]]) -> str:
    """A document with its blocks as they are now.

    Raises:
        ValueError: a block that it does not have once.
    """
    for name, block in blocks.items():
        begin, end = f"<!-- {name} -->\n", "\n<!-- end -->"
        before, rest = text.split(begin)
        _, after = rest.split(end, 1)
        text = f"{before}{begin}{block()}{end}{after}"
    return text


def printed(log: str) -> str:
    """What was printed, without installation, progress bars, what make says, and the folder."""
    lines = (line.split("\r")[-1].rstrip() for line in log[log.index("== 1/9") :].splitlines())
    kept = [line for line in lines if "%|" not in line and not line.startswith("make")]
    return re.sub(r"/\S*/(?=saved_models/)", "", "\n".join(kept)) + "\n"


if __name__ == "__main__":
    if len(sys.argv) > 1:
        atomic.write_text(DEMO, printed(Path(sys.argv[1]).read_text(encoding="utf-8")))
    for name, blocks in BLOCKS.items():
        atomic.write_text(
            PROJECT / name, written((PROJECT / name).read_text(encoding="utf-8"), blocks)
        )
