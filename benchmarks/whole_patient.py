"""One patient from files to page, as a whole process, beside peers and the project's former self.

    python -m benchmarks.whole_patient [--dwi=... --adc=... --side=...] [--others=others/bin/python]
        [--before=CHECKOUT] [--variant="bfloat16=--precision=bfloat16" ...] [--out=whole.csv]

Each line is a new process that takes turns with the others; cpu is the figure to compare, since
other work on the machine moves it least. `import tensorflow` is the unit beside which every
absolute time stands. Ratios are of a line to the first, pair by pair, medians.

--others is a Python with torch, monai and nnunetv2: nnU-Net's inference of one network without
mirroring, and MONAI's sliding window with five AttentionUnets, both with random weights, without
registration and page. --before is a checkout of an older version of this project, with its own
virtual environment in .venv or this one's. Without --dwi a simulated patient is taken.
"""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

from absl import flags

from benchmarks.measuring import options, processes
from benchmarks.measuring.processes import Command, Usage
from benchmarks.measuring.tables import Tables
from benchmarks.measuring.turns import ROOT
from data_tools.runtime import command
from data_tools.runtime.errors import InputError

FLAGS = flags.FlagValues()
for name, text in (
    ("dwi", "DWI of the patient; default: a simulated one."),
    ("adc", "ADC map."),
    ("model", "Model of ours; default: the demonstration model."),
):
    flags.DEFINE_string(name, None, text, flag_values=FLAGS)
flags.DEFINE_enum("side", "left", ["left", "right"], "Side of the stroke.", flag_values=FLAGS)
options.variants([], FLAGS)
options.folder(
    "before", "tf_hypoperfusion/predict.py", "a checkout of an older version of this project.",
    FLAGS, required=False,
)  # fmt: skip
options.others(FLAGS, ("torch", "monai", "nnunetv2"))
options.rounds(FLAGS)
options.out(FLAGS)

PEER = ROOT / "benchmarks" / "ways" / "peer_patient.py"
PEERS = {"nnunet": "nnU-Net, 1 network, no mirroring", "monai": "MONAI, 5 AttentionUnets"}
UNIT = "import tensorflow"


def patient(folder: Path) -> tuple[Path, Path]:
    """DWI and ADC map: those given, or of a simulated patient."""
    if FLAGS.dwi:
        return Path(FLAGS.dwi).resolve(), Path(FLAGS.adc).resolve()
    from data_tools.simulate import simulate_cohort

    images = Path(simulate_cohort(folder / "cohort", 1, seed=5)) / "sub-0001" / "dwi"
    return images / "sub-0001_dwi.nii.gz", images / "sub-0001_ADC.nii.gz"


def commands(folder: Path) -> Iterator[tuple[str, Command]]:
    """Every line by its name, ready to be timed."""
    dwi, adc = patient(folder)
    images = [f"--dwi={dwi}", f"--adc={adc}", "--nihss=12", f"--side={FLAGS.side}"]

    def predict(python: str, where: Path, name: str, *more: str) -> Command:
        out = folder / "results" / name
        program = [python, "-m", "tf_hypoperfusion.predict", *images, f"--out={out}", *more]
        # Where a result is, a second run may have less to do.
        return Command(program, where, lambda: shutil.rmtree(out, ignore_errors=True),
                       {"PYTHONPATH": str(where)})  # fmt: skip

    model = [f"--model={Path(FLAGS.model).resolve()}"] if FLAGS.model else []
    yield "this project", predict(sys.executable, ROOT, "ours", *model)
    for number, (name, words) in enumerate(FLAGS.variant):
        yield name, predict(sys.executable, ROOT, f"variant{number}", *model, *words)
    if FLAGS.before:
        where = Path(FLAGS.before).resolve()
        own = where / ".venv" / "bin" / "python"
        yield (
            "as it was before",
            predict(str(own) if own.exists() else sys.executable, where, "before"),
        )
    if FLAGS.others:
        python = options.interpreter(FLAGS.others)
        for peer, name in PEERS.items():
            words = [python, str(PEER), peer]
            made = [*words, "make", str(folder / peer), f"--dwi={dwi}", f"--adc={adc}"]
            subprocess.run(made, check=True, capture_output=True)
            yield name, Command([*words, "predict", str(folder / peer)], folder)
    yield UNIT, Command([sys.executable, "-c", "import tensorflow"], ROOT)


def lines(taken: dict[str, list[Usage]]) -> list[dict[str, Any]]:
    """Medians and ratios of each command."""
    first, unit = next(iter(taken.values())), taken[UNIT]

    def ratio(mine: list[Usage], other: list[Usage], what: str) -> float:
        pairs = zip(mine, other, strict=True)
        return round(median(getattr(a, what) / getattr(b, what) for a, b in pairs), 2)

    return [
        {
            "command": name,
            "cpu_s": round(median(run.cpu_s for run in runs), 2),
            "wall_s": round(median(run.wall_s for run in runs), 2),
            "wall_spread_s": round(
                max(run.wall_s for run in runs) - min(run.wall_s for run in runs), 2
            ),
            "peak_mib": round(max(run.peak_mib for run in runs)),
            "cpu_to_first": ratio(runs, first, "cpu_s"),
            "wall_to_first": ratio(runs, first, "wall_s"),
            "wall_to_import_tensorflow": ratio(runs, unit, "wall_s"),
        }
        for name, runs in taken.items()
    ]


def main() -> None:
    """Measure and print."""
    if bool(FLAGS.dwi) != bool(FLAGS.adc):
        raise InputError("one of --dwi and --adc is given; expected both, or none for a simulation")
    packages = ("tensorflow", "keras", "openvino", "onnxruntime")
    tables = Tables(FLAGS.out, packages, f"{FLAGS.rounds} rounds")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        taken = processes.measure(dict(commands(folder)), FLAGS.rounds, folder / "log")
        tables.show("one patient, whole processes by turns", lines(taken))


if __name__ == "__main__":
    sys.exit(command.run(main, FLAGS, __doc__))
