"""What a training step of the published network costs here, by precision and micro-batch.

    python -m benchmarks.training_step [--preset=paper] [--out=training_step.csv]
    python -m benchmarks.training_step --preset=small --batch_size=8 --micro=8 [--profile]

Each line is a process of its own; they take turns, --rounds optimizer steps each (Adam, composite
loss, --batch_size slabs on one device, random slabs) after two to warm up. Of a batch of 32 a step
of the published network takes a minute on two cores: --batch_size=4 asks for less. GFLOP are
counted from the convolutions (backward twice the forward); memory is the process's largest
resident set over that before its first step, beside what the trainer's choice of a micro-batch
reckons with. --layers=wide,stock sets beside each other how a CPU trains now and the stock layers
with nothing but fast normalisation. CPU seconds repeat on a busy machine; wall time does not.

--profile says in which operations the step's time is, on one thread.

Seen (2 cores of an AMD EPYC with AVX512-BF16, 24 GiB, TensorFlow 2.21): see BUILD_NOTES.
"""

import itertools
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from absl import flags

from benchmarks.measuring import options, turns
from benchmarks.measuring.tables import Tables, timing
from data_tools.runtime import command
from data_tools.runtime.errors import InputError

FLAGS = flags.FlagValues()
options.preset(FLAGS, "paper")
options.rounds(FLAGS)
options.count("batch_size", 32, "Slabs per optimizer step.", FLAGS)
options.numbers("micro", [1, 2, 4], "Micro-batches.", FLAGS)
PRECISIONS = ("float32", "bfloat16")
options.choices("precisions", PRECISIONS, "In which.", FLAGS, known=PRECISIONS)
LAYERS = ("wide", "stock")
options.choices("layers", ["wide"], "Which layers compute.", FLAGS, known=LAYERS)
flags.DEFINE_bool("profile", False, "Time of the operations, not of the step.", flag_values=FLAGS)
options.out(FLAGS)


def row(way: dict[str, Any], seen: dict[str, Any]) -> dict[str, Any]:
    """A line of the table."""
    line = {name: way[name] for name in ("precision", "layers", "batch", "together")}
    if "failed" in seen:
        return line | {"failed": seen["failed"]}
    taken = median(seen["seconds"])
    return {
        **line,
        **timing(seen["seconds"]),
        "cpu_s_per_slab": round(median(seen["cpu_seconds"]) / way["batch"], 4),
        "slabs_per_s": round(way["batch"] / taken, 2),
        "gflop": round(seen["gflop"], 2),
        "gflop_per_s": round(seen["gflop"] / taken, 1),
        "peak_gib": round(seen["peak_gib"] - seen["before_gib"], 2),
        "estimated_gib": round(seen["estimated_gib"], 2),
    }


def profile(way: dict[str, Any], seen: dict[str, Any]) -> list[dict[str, Any]]:
    """Lines of the table of a step's operations."""
    line = {name: way[name] for name in ("precision", "layers")}
    if "failed" in seen:
        return [line | {"failed": seen["failed"]}]
    total = sum(seen["profile"].values())

    def share(kind: str, milliseconds: float) -> dict[str, Any]:
        parts = {"ms": round(milliseconds), "share": f"{milliseconds / total:.1%}"}
        return line | {"operations": kind} | parts

    rows = [share(kind, milliseconds) for kind, milliseconds in seen["profile"].items()]
    rows = [r | {"most": seen["others_ms"]} if "else" in r["operations"] else r for r in rows]
    return [*rows, share("(in these: reorders)", seen["reorders_ms"]), share("all", total)]


def main() -> None:
    """Measure and print."""
    import numpy as np

    from data_tools.grid import SLAB_SHAPE
    from tf_hypoperfusion.config import PRESETS

    for micro in FLAGS.micro:
        if FLAGS.batch_size % micro:
            raise InputError(f"--micro={micro} does not divide --batch_size={FLAGS.batch_size}")
    note = f"{FLAGS.preset}, batch of {FLAGS.batch_size}, {FLAGS.rounds} rounds"
    tables = Tables(FLAGS.out, ("tensorflow", "keras"), note)
    with tempfile.TemporaryDirectory() as folder:
        rng, count = np.random.default_rng(0), max(FLAGS.micro)
        np.savez(
            f"{folder}/slabs.npz",
            image=rng.random((count, *SLAB_SHAPE, 4), np.float32),
            nihss=np.ones((count, 1), np.float32),
            truth=(rng.random((count, *SLAB_SHAPE, 2)) < 0.5).astype(np.float32),
        )
        ways = [
            {
                "python": sys.executable, "module": "keras_network", "task": "train",
                "folder": folder, "preset": FLAGS.preset, "precision": precision,
                "batch": FLAGS.batch_size, "together": micro,
                "frame": PRESETS[FLAGS.preset][0].frame, "layers": kind, "profile": FLAGS.profile,
                "environment": {"ONEDNN_VERBOSE": "1"} if FLAGS.profile else {},
            }
            for precision, micro, kind in itertools.product(
                FLAGS.precisions, FLAGS.micro, FLAGS.layers
            )
        ]  # fmt: skip
        found = turns.measure(ways, 0 if FLAGS.profile else FLAGS.rounds, Path(folder) / "log")
    if FLAGS.profile:
        rows = [r for way, seen in zip(ways, found, strict=True) for r in profile(way, seen)]
        tables.show("a training step's operations, on one thread", rows)
        return
    rows = [row(way, seen) for way, seen in zip(ways, found, strict=True)]
    tables.show("a training step (together: slabs held at once)", rows)


if __name__ == "__main__":
    sys.exit(command.run(main, FLAGS, __doc__))
