"""Write into the documents what commands printed; run it after a change of what they print.

make demo > demo.log 2>&1; python docs/reference/write_figures.py demo.log
python docs/reference/write_figures.py

The first keeps what the demo printed as docs/results/demo.txt. Both write the blocks of
:data:`BLOCKS`, each between the comments ``<!-- NAME -->`` and ``<!-- end -->``.
"""

import csv
import re
import sys
from pathlib import Path

from data_tools.runtime import atomic

PROJECT = Path(__file__).parents[2]
DEMO = PROJECT / "docs/results/demo.txt"
COHORT = PROJECT / "docs/results/simulated_cohort.csv"
# Steps of the demo that README shows, with the beginnings of their lines.
SHOWN = {
    "== 2/9": ("WARNING: the model was trained", "hypoperfusion", "true hypo", "target mismatch"),
    "== 6/9": ("5 SIMULATED", "  Dice", "  AUC", "  volume difference", "  target mismatch"),
}


def demo() -> str:
    """Some steps of the demo and its last lines, with dots for what is left out."""
    steps, _, last = DEMO.read_text().strip().rpartition("\n\n")
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
    with COHORT.open() as file:
        head, *rows = csv.reader(file)
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


BLOCKS = {"README.md": {"demo": demo}, "BUILD_NOTES.md": {"simulated cohort": cohort}}


def written(text: str, blocks: dict) -> str:
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
        atomic.write_text(DEMO, printed(Path(sys.argv[1]).read_text()))
    for name, blocks in BLOCKS.items():
        atomic.write_text(PROJECT / name, written((PROJECT / name).read_text(), blocks))
