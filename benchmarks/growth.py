"""What more patients, slices, windows and filters cost, in time and in memory.

    python -m benchmarks.growth --cohort=mni [--patients=50,100,200,400] [--out=growth.csv]

Three tables. Patients: build_records with 1 and 2 processes, one epoch of training (the `tiny`
preset: the data layer and the bookkeeping, not the network) and evaluate on the first so many
patients of a cohort in MNI space, each command a process; its seconds and its largest resident set
(the largest of its processes). Windows: the network part of one patient by slices and stride.
Width: by filters of the first level. The last two are medians of --rounds with the `small` preset
in float32, the sizes taking turns; none with 0. "a unit" divides by what it should be linear in.
"""

import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from absl import flags

from data_tools import atomic, command
from data_tools.errors import InputError

FLAGS = flags.FlagValues()
flags.DEFINE_string("cohort", None, "In MNI space.", required=True, flag_values=FLAGS)
flags.DEFINE_list("patients", ["50", "100", "200", "400"], "Of the cohort.", flag_values=FLAGS)
flags.DEFINE_integer("rounds", 5, "Of which the median is taken.", flag_values=FLAGS)
flags.DEFINE_string("out", None, "CSV of the first table.", flag_values=FLAGS)


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


def run(module: str, *arguments: str) -> tuple[float, float]:
    """Seconds and largest resident set (GiB) of a command."""
    log = f"{tempfile.gettempdir()}/growth.log"
    quiet = [
        (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
        (os.POSIX_SPAWN_OPEN, 2, log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600),
    ]
    command_line = [sys.executable, "-m", module, *arguments]
    began = time.perf_counter()
    child = os.posix_spawn(sys.executable, command_line, os.environ, file_actions=quiet)
    _, status, usage = os.wait4(child, 0)
    if status:
        raise InputError(f"{module} failed: see {log}")
    return time.perf_counter() - began, usage.ru_maxrss / 2**20


def patients() -> list[dict[str, Any]]:
    """The first table."""
    rows = []
    for count in map(int, FLAGS.patients):
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            cohort = first_patients(Path(FLAGS.cohort), count, folder / "cohort")
            row: dict[str, Any] = {"patients": count}
            for workers in (1, 2):
                shutil.rmtree(folder / "records", ignore_errors=True)
                seconds, gib = run(
                    "data_tools.build_records", f"--cohort={cohort}",
                    f"--out={folder}/records", "--stride=16", f"--workers={workers}",
                )  # fmt: skip
                row |= {
                    f"build_{workers}_s": round(seconds, 1),
                    f"build_{workers}_gib": round(gib, 2),
                }
            records, model = f"--records={folder}/records", f"--run={folder}/run"
            seconds, gib = run(
                "tf_hypoperfusion.train", "--fold=0", records, model, "--preset=tiny", "--epochs=1"
            )
            row |= {"train_s": round(seconds, 1), "train_gib": round(gib, 2)}
            seconds, gib = run(
                "tf_hypoperfusion.evaluate", model, records, "--fold=0", "--stride=16"
            )
            row |= {"evaluate_fifth_s": round(seconds, 1), "evaluate_gib": round(gib, 2)}
            rows.append(row)
            print("  ".join(f"{k} {v}" for k, v in row.items()), flush=True)
    return rows


def windows_and_width() -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The other two tables."""
    import numpy as np

    from benchmarks.ways.counting import convolution_gflop
    from data_tools import records, slabs  # noqa: F401  starts TensorFlow quietly
    from tf_hypoperfusion import attention_unet, config, predictors
    from tf_hypoperfusion.sliding_window import WINDOWS_PER_CALL

    rng = np.random.default_rng(0)

    def network(filters: int):
        model = attention_unet.build_model(config.preset("small", base_filters=filters)[0], seed=0)
        return predictors.of_keras(predictors.for_prediction(model)), convolution_gflop(model)

    predict, gflop = network(8)
    calls = {}
    for slices, stride in ((60, 16), (60, 8), (60, 4), (60, 2), (60, 1), (30, 4), (120, 4)):
        image = rng.random((128, 128, slices, 4), np.float32)
        windows = slabs.cut_slabs(image, slabs.slab_starts(stride, slices))
        calls["windows", slices, stride] = predict, windows, gflop
    for filters in (4, 8, 16, 32, 64):
        way = network(filters)
        calls["width", filters, 0] = way[0], rng.random((4, *predictors.SLAB), np.float32), way[1]
    seconds: dict[Any, list[float]] = {key: [] for key in calls}
    for turn in range(FLAGS.rounds + 1):
        for key, (call, given, _) in calls.items():
            began = time.perf_counter()
            for first in range(0, len(given), WINDOWS_PER_CALL):
                part = given[first : first + WINDOWS_PER_CALL]
                call(part, np.ones((len(part), 1), np.float32))
            if turn:
                seconds[key].append(time.perf_counter() - began)
    tables: dict[str, list[dict[str, Any]]] = {"windows": [], "width": []}
    for (kind, one, other), taken in seconds.items():
        _, given, each = calls[kind, one, other]
        median = float(np.median(taken))
        row = {"slices": one, "stride": other} if kind == "windows" else {"filters": one}
        row |= {"windows": len(given), "seconds": round(median, 3)}
        row |= {"spread": round(max(taken) - min(taken), 3)}
        row |= {"s_a_window": round(median / len(given), 3)}
        row |= {"gflop_per_s": round(each * len(given) / median, 1)}
        tables[kind].append(row)
    return tables["windows"], tables["width"]


def main() -> None:
    """Measure and print."""
    rows = patients() if FLAGS.patients else []
    for table in windows_and_width() if FLAGS.rounds else ():
        print()
        print("  ".join(f"{name:>11}" for name in table[0]))
        for row in table:
            print("  ".join(f"{value!s:>11}" for value in row.values()))
    if FLAGS.out and rows:
        atomic.write_csv(FLAGS.out, rows)


if __name__ == "__main__":
    sys.exit(command.run(main, FLAGS, __doc__))
