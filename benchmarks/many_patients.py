"""What does one more patient of a cohort take, from files to page, once the program is warm?

    python -m benchmarks.many_patients [--model=...] [--patients=8]
        [--variant="two at once=--workers=2" ...] [--out=many.csv]

Simulated patients as a scanner gives them are predicted by whole commands that take turns: a
quarter of the cohort, and all of it. What the rest took, divided by their number, is the time of a
warm patient; start-up, in which TensorFlow or OpenVINO loads the networks, cancels out. With
several --workers it is the time after which one more patient is done.
"""

import shutil
import sys
import tempfile
from pathlib import Path
from statistics import median

from absl import flags

from benchmarks.measuring import options, processes
from benchmarks.measuring.processes import Command, Usage
from benchmarks.measuring.tables import Tables
from benchmarks.measuring.turns import ROOT
from data_tools.cohort import PARTICIPANTS
from data_tools.runtime import command

FLAGS = flags.FlagValues()
flags.DEFINE_string(
    "model", None, "Model; default: the demonstration model.", flag_values=FLAGS
)  # fmt: skip
options.count("patients", 8, "Simulated patients; a multiple of 4 is best.", FLAGS, lowest=4)
options.variants([("as it is", [])], FLAGS)
options.rounds(FLAGS)
options.out(FLAGS)


def cohort(folder: Path) -> tuple[Path, Path]:
    """A quarter of a simulated cohort, and all of it."""
    from data_tools.simulate import simulate_cohort

    every = Path(simulate_cohort(folder / "cohort", FLAGS.patients, seed=5))
    part = Path(shutil.copytree(every, folder / "part"))
    table = part / PARTICIPANTS
    table.write_text("".join(table.read_text().splitlines(True)[: 1 + FLAGS.patients // 4]))
    return part, every


def line(name: str, few: list[Usage], every: list[Usage]) -> dict[str, object]:
    """What the patients took that only the whole cohort has."""
    more = FLAGS.patients - FLAGS.patients // 4

    def each(what: str) -> float:
        pairs = zip(few, every, strict=True)
        return median((getattr(b, what) - getattr(a, what)) / more for a, b in pairs)

    return {
        "way": name,
        "wall_s_a_patient": round(each("wall_s"), 2),
        "cpu_s_a_patient": round(each("cpu_s"), 2),
        "first_patients_wall_s": round(median(run.wall_s for run in few), 2),
        "peak_mib_of_a_process": round(max(run.peak_mib for run in every)),
    }


def main() -> None:
    """Measure and print."""
    model = [f"--model={Path(FLAGS.model).resolve()}"] if FLAGS.model else []
    tables = Tables(FLAGS.out, ("tensorflow", "openvino", "onnxruntime"), f"{FLAGS.rounds} rounds")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        out = folder / "out"
        commands = {}
        for part in cohort(folder):
            for name, words in FLAGS.variant:
                commands[f"{name} {part.name}"] = Command(
                    [sys.executable, "-m", "tf_hypoperfusion.predict", f"--cohort={part}",
                     f"--out={out}", *model, *words],
                    ROOT, lambda: shutil.rmtree(out, ignore_errors=True),
                )  # fmt: skip
        taken = processes.measure(commands, FLAGS.rounds, folder / "log")
    rows = [line(name, taken[f"{name} part"], taken[f"{name} cohort"]) for name, _ in FLAGS.variant]
    tables.show("one more patient of a cohort, from files to page", rows)


if __name__ == "__main__":
    sys.exit(command.run(main, FLAGS, __doc__))
