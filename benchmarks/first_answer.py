"""An export from the start of a process to a patient's windows: by each program that runs it.

    python -m benchmarks.first_answer [--model=saved_models/hypoperfusion_demo] [--out=first.csv]

Each line is a fresh process in each round, by turns: imports and loading (with a made-up slab), 12
windows (60 slices, stride 4) of every network, peak memory, and the largest difference of a mean
probability from TensorFlow's. Seconds are of CPU, since those hardly change when a machine is busy.
`import tensorflow` alone stands beside them.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from absl import flags

from benchmarks.measuring import options, turns
from benchmarks.measuring.tables import Tables, timing
from data_tools.runtime import command

FLAGS = flags.FlagValues()
flags.DEFINE_string(
    "model", "saved_models/hypoperfusion_demo", "Export with model.onnx.", flag_values=FLAGS
)
options.rounds(FLAGS)
options.count("windows", 12, "Of a patient.", FLAGS)
options.out(FLAGS)

WAYS = (
    ("tensorflow", "float32"),
    ("onnxruntime", "float32"),
    ("openvino", "float32"),
    ("openvino", "bfloat16"),
)
IMPORT = "import time, tensorflow; print(time.process_time())"


def main() -> None:
    """Take turns and print the table."""
    tables = Tables(FLAGS.out, ("tensorflow", "onnxruntime", "openvino"), f"model {FLAGS.model}")
    found: dict[tuple[str, str], list[dict[str, float]]] = {way: [] for way in WAYS}
    alone = []
    with tempfile.TemporaryDirectory() as folder:
        for _ in turns.progress(range(FLAGS.rounds), "rounds"):
            alone.append(float(_said([sys.executable, "-c", IMPORT])))
            for way, rows in found.items():
                given = json.dumps([FLAGS.model, *way, FLAGS.windows, folder])
                rows.append(json.loads(_said([sys.executable, "-m", __spec__.name, given])))
    lines: list[dict[str, Any]] = [
        {
            "runtime": runtime,
            "precision": precision,
            "load_cpu_s": timing([row["load"] for row in rows], 2)["seconds"],
            "windows_cpu_s": timing([row["windows"] for row in rows], 2)["seconds"],
            "all_cpu_s": timing([row["all"] for row in rows], 2)["seconds"],
            "spread": timing([row["all"] for row in rows], 2)["spread"],
            "peak_MiB": round(max(row["peak_gib"] for row in rows) * 1024),
            "difference": f"{max(row['difference'] for row in rows):.0e}",
        }
        for (runtime, precision), rows in found.items()
    ]
    lines.append({"runtime": "import tensorflow", "all_cpu_s": timing(alone, 2)["seconds"]})
    tables.show("an export in a fresh process", lines)


def _said(arguments: list[str]) -> str:
    done = subprocess.run(arguments, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr[-1000:])
    return done.stdout.splitlines()[-1]


def one(given: str) -> dict[str, float]:
    """Be the process of one way; TensorFlow's, the first, leaves its answer for the others."""
    import time

    import numpy as np

    from tf_hypoperfusion.inference import predictors, sliding_window

    model, runtime, precision, windows, folder = json.loads(given)
    loaded = predictors.load(model, runtime, precision).predict
    load_s = time.process_time()
    image = np.random.default_rng(0).normal(size=(windows, *predictors.SLAB)).astype(np.float32)
    nihss = np.full((windows, 1), 0.5, np.float32)
    began, step = time.process_time(), sliding_window.WINDOWS_PER_CALL
    parts = [
        loaded(image[k : k + step], nihss[k : k + step]).mean(axis=-1)
        for k in range(0, windows, step)
    ]
    windows_s = time.process_time() - began
    answer, first = np.concatenate(parts), Path(folder) / "first.npy"
    if not first.exists():
        np.save(first, answer)
    return {
        "load": load_s,
        "windows": windows_s,
        "all": load_s + windows_s,
        "peak_gib": turns.peak_gib(),
        "difference": float(np.abs(answer - np.load(first)).max()),
    }


if __name__ == "__main__":
    if sys.argv[1:] and sys.argv[1].startswith("["):
        print(json.dumps(one(sys.argv[1])))
    else:
        sys.exit(command.run(main, FLAGS, __doc__))
