"""An export from the start of a process to a patient's answer: by each program that runs it.

    python -m benchmarks.first_answer [--model=saved_models/hypoperfusion_demo] [--out=first.csv]

Each line is a fresh process in each round, by turns: imports and loading (with a made-up slab), 12
windows (60 slices, stride 4) of every network, peak memory, and the largest difference of a mean
probability from TensorFlow's. Seconds are of CPU, since those hardly change when a machine is busy.
`import tensorflow` alone stands beside them.

Then the embedded server in the same ways: from its start until it is ready, and until it has
answered a first patient and a second one, in seconds by the clock (which a busy machine lengthens)
and of CPU.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
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
    tables.show("the embedded server from its start", _servers())


def _servers() -> list[dict[str, Any]]:
    """A line for each way."""
    from tf_hypoperfusion.inference import model_files, rest_client
    from tf_hypoperfusion.serving import warmup

    given = warmup.smallest_request("predict_volume")
    volumes = {name: given[name][0] for name in ("dwi", "adc", "brain_mask")}
    request = rest_client.volume_request(volumes, nihss=14, side="left", voxel_ml=0.008)
    found: dict[tuple[str, str], list[dict[str, float]]] = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "served").mkdir()
        version = model_files.check_path(FLAGS.model).absolute()
        (Path(folder) / "served/1").symlink_to(version)
        for _ in turns.progress(range(FLAGS.rounds), "servers"):
            for way, rows in found.items():
                rows.append(_served(folder, way, request))
    return [
        {"runtime": runtime, "precision": precision}
        | {
            name: timing([row[name] for row in rows], 2)["seconds"]
            for name in ("ready_s", "first_s", "ready_cpu_s", "first_cpu_s", "second_cpu_s")
        }
        | {"peak_MiB": round(max(row["peak_MiB"] for row in rows))}
        for (runtime, precision), rows in found.items()
    ]


def _served(models: str, way: tuple[str, str], request: dict[str, Any]) -> dict[str, float]:
    """Start a server, ask it twice, stop it."""
    from tf_hypoperfusion.inference import rest_client

    runtime, precision = way
    arguments = [sys.executable, "-m", "tf_hypoperfusion.serve", f"--models={models}", "--port=0"]
    arguments += [f"--runtime={runtime}", f"--precision={precision}"]
    began = time.perf_counter()
    with subprocess.Popen(
        arguments, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        try:
            said = process.stdout.readline() if process.stdout else ""
            ready_s, ready_cpu_s = time.perf_counter() - began, _cpu_s(process.pid)
            server = rest_client.Server(said.split()[2].partition("/v1/")[0], "served")
            server.predict(request)
            first_s, first_cpu_s = time.perf_counter() - began, _cpu_s(process.pid)
            server.predict(request)
            return {
                "ready_s": ready_s,
                "first_s": first_s,
                "ready_cpu_s": ready_cpu_s,
                "first_cpu_s": first_cpu_s,
                "second_cpu_s": _cpu_s(process.pid) - first_cpu_s,
                "peak_MiB": turns.peak_gib(process.pid) * 1024,
            }
        finally:
            process.terminate()


def _cpu_s(process: int) -> float:
    """Seconds of CPU that a process has taken."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _said(arguments: list[str]) -> str:
    done = subprocess.run(arguments, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr[-1000:])
    return done.stdout.splitlines()[-1]


def one(given: str) -> dict[str, float]:
    """Be the process of one way; TensorFlow's, the first, leaves its answer for the others."""
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
