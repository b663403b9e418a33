"""What more patients, slices, windows and filters cost, in time and in memory.

    python -m benchmarks.growth --cohort=mni [--patients=50,100,200,400] [--out=growth.csv]

Three tables. Patients: build_records with 1 and 2 processes, one epoch of training (the `tiny`
preset: the data layer and the bookkeeping, not the network) with the records held in memory if they
fit and with --cache=off, and evaluate, on the first so many patients of a cohort in MNI space; each
command a process, its seconds and its largest resident set (the largest of its processes);
--repeats of each, the numbers of patients taking turns. Windows: the network part of one patient
by slices and stride. Width: by filters of the first level. The last two are medians of --rounds
with the `small` preset in float32, the sizes taking turns; none with --windows_and_width=false.
Columns "a patient", "a window" divide by what the cost should be linear in.
"""

import functools
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from absl import flags

from benchmarks.measuring import options, turns
from benchmarks.measuring.tables import Tables, timing
from data_tools.runtime import command
from data_tools.runtime.errors import InputError

FLAGS = flags.FlagValues()
options.folder("cohort", "participants.tsv", "a cohort in MNI space.", FLAGS)
options.numbers("patients", [50, 100, 200, 400], "Of the cohort; may be empty.", FLAGS, least=0)
options.count("repeats", 1, "Of the first table's commands: they take minutes.", FLAGS)
options.rounds(FLAGS)
flags.DEFINE_bool("windows_and_width", True, "The other two tables.", flag_values=FLAGS)
options.out(FLAGS)


def first_patients(cohort: Path, count: int, folder: Path) -> Path:
    """A cohort of the first so many, by links."""
    folder.mkdir()
    lines = (cohort / "participants.tsv").read_text().splitlines()[: count + 1]
    if len(lines) <= count:
        raise InputError(f"{cohort} has {len(lines) - 1} patients; expected {count} or more")
    for path in cohort.iterdir():
        if path.is_file() and path.name != "participants.tsv":
            (folder / path.name).symlink_to(path.resolve())
    (folder / "participants.tsv").write_text("\n".join(lines) + "\n")
    for line in lines[1:]:
        name = line.split("\t")[0]
        (folder / name).symlink_to((cohort / name).resolve())
    return folder


def run(folder: Path, module: str, *arguments: str) -> tuple[float, float]:
    """Seconds and largest resident set (GiB) of a command; ``folder`` keeps what it says."""
    log = folder / "log"
    quiet = [
        (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
        (os.POSIX_SPAWN_OPEN, 2, str(log), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600),
    ]
    command_line = [sys.executable, "-m", module, *arguments]
    began = time.perf_counter()
    child = os.posix_spawn(sys.executable, command_line, os.environ, file_actions=quiet)
    _, status, usage = os.wait4(child, 0)
    if status:
        raise InputError(f"{module} failed: {log.read_text().strip()[-500:]}")
    return time.perf_counter() - began, usage.ru_maxrss / 2**20


def commands(count: int) -> dict[str, tuple[float, float]]:
    """Seconds and GiB of every command on the first ``count`` patients."""
    found = {}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        cohort = first_patients(Path(FLAGS.cohort), count, folder / "cohort")
        records, model = f"--records={folder}/records", f"--run={folder}/run"
        for workers in (1, 2):
            shutil.rmtree(folder / "records", ignore_errors=True)
            found[f"build_{workers}"] = run(
                folder, "data_tools.build_records", f"--cohort={cohort}",
                f"--out={folder}/records", "--stride=16", f"--workers={workers}",
            )  # fmt: skip
        for name, cache in (("train", "auto"), ("train_uncached", "off")):
            shutil.rmtree(folder / "run", ignore_errors=True)
            found[name] = run(
                folder, "tf_hypoperfusion.train", "--fold=0", records, model, "--preset=tiny",
                "--epochs=1", f"--cache={cache}",
            )  # fmt: skip
        found["evaluate_fifth"] = run(
            folder, "tf_hypoperfusion.evaluate", model, records, "--fold=0", "--stride=16"
        )
    return found


def patients() -> list[dict[str, Any]]:
    """The first table."""
    measured: dict[int, list[dict[str, tuple[float, float]]]] = {n: [] for n in FLAGS.patients}
    for _ in range(FLAGS.repeats):
        for count in turns.progress(FLAGS.patients, "commands by patients"):
            measured[count].append(commands(count))
    rows = []
    for count, each in measured.items():
        for name in each[0]:
            seconds = timing([one[name][0] for one in each], 1)
            share = count / 5 if name == "evaluate_fifth" else count
            rows.append(
                {
                    "patients": count,
                    "command": name,
                    **seconds,
                    "s_a_patient": round(seconds["seconds"] / share, 3),
                    "peak_gib": round(max(one[name][1] for one in each), 2),
                }
            )
    return sorted(rows, key=lambda row: list(each[0]).index(row["command"]))


def windows_and_width() -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The other two tables."""
    import numpy as np

    from benchmarks.measuring.counting import convolution_gflop
    from data_tools import slabs
    from data_tools.runtime import tensorflow_start

    tensorflow_start.prepare()
    from tf_hypoperfusion import config
    from tf_hypoperfusion.inference import predictors
    from tf_hypoperfusion.inference.sliding_window import WINDOWS_PER_CALL
    from tf_hypoperfusion.model import attention_unet

    rng = np.random.default_rng(0)

    def network(filters: int):
        model = attention_unet.build_model(config.preset("small", base_filters=filters)[0], seed=0)
        return predictors.of_keras(predictors.for_prediction(model)), convolution_gflop(model)

    def call(predict: Any, given: Any) -> None:
        for first in range(0, len(given), WINDOWS_PER_CALL):
            part = given[first : first + WINDOWS_PER_CALL]
            predict(part, np.ones((len(part), 1), np.float32))

    predict, gflop = network(8)
    given = {}
    for slices, stride in ((60, 16), (60, 8), (60, 4), (60, 2), (60, 1), (30, 4), (120, 4)):
        image = rng.random((128, 128, slices, 4), np.float32)
        windows = slabs.cut_slabs(image, slabs.slab_starts(stride, slices))
        given["windows", slices, stride] = predict, windows, gflop
    for filters in (4, 8, 16, 32, 64):
        way = network(filters)
        given["width", filters, 0] = way[0], rng.random((4, *predictors.SLAB), np.float32), way[1]
    calls = {key: functools.partial(call, way, those) for key, (way, those, _) in given.items()}
    seconds = turns.in_process(calls, FLAGS.rounds, "windows and width")
    tables: dict[str, list[dict[str, Any]]] = {"windows": [], "width": []}
    for (kind, one, other), taken in seconds.items():
        _, those, each = given[kind, one, other]
        varied = {"slices": one, "stride": other} if kind == "windows" else {"filters": one}
        tables[kind].append(
            {
                **varied,
                "windows": len(those),
                **timing(taken),
                "s_a_window": round(median(taken) / len(those), 3),
                "gflop_per_s": round(each * len(those) / median(taken), 1),
            }
        )
    return tables["windows"], tables["width"]


def main() -> None:
    """Measure and print."""
    if not FLAGS.patients and not FLAGS.windows_and_width:
        raise InputError("nothing to measure: no --patients and --windows_and_width=false")
    for count in FLAGS.patients:
        if count < 5:
            raise InputError(f"--patients={count}; five subsets take 5 patients at least")
        with tempfile.TemporaryDirectory() as place:  # are there so many?
            first_patients(Path(FLAGS.cohort), count, Path(place) / "cohort")
    note = f"{FLAGS.repeats} repeat(s), {FLAGS.rounds} rounds"
    tables = Tables(FLAGS.out, ("tensorflow", "keras"), note)
    if FLAGS.patients:
        tables.show("by patients, stride 16 (evaluate: a fold's fifth of them)", patients())
    if FLAGS.windows_and_width:
        windows, width = windows_and_width()
        tables.show("by slices and stride: windows of the small preset, float32", windows)
        tables.show("by width: four windows, float32", width)


if __name__ == "__main__":
    sys.exit(command.run(main, FLAGS, __doc__))
