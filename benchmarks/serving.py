"""What a patient costs over the embedded server: latency by form and by clients at once.

    python -m benchmarks.serving --models=saved_models --name=hypoperfusion [--out=serving.csv]

Starts python -m tf_hypoperfusion.serve on a free port and sends one made-up patient: compressed
volumes and JSON volumes; windows as JSON; beside the same model called in this process. p50 and p95
are of --requests each; MB are of the request's and the answer's bodies. --burst sends so many at
once and counts the answers.

Seen (2 cores of an AMD EPYC with AVX512-BF16): see BUILD_NOTES.
"""

import base64
import concurrent.futures
import gzip
import json
import subprocess
import sys
import time

from absl import flags

from data_tools import atomic, command

FLAGS = flags.FlagValues()
flags.DEFINE_string("models", "saved_models", "Folder of NAME/VERSION.", flag_values=FLAGS)
flags.DEFINE_string("name", "hypoperfusion", "Model.", flag_values=FLAGS)
flags.DEFINE_integer("requests", 6, "Of each line.", flag_values=FLAGS)
flags.DEFINE_integer("burst", 200, "Compressed patients at once.", flag_values=FLAGS)
flags.DEFINE_string("out", None, "CSV of the table.", flag_values=FLAGS)


def bodies() -> tuple[dict[str, bytes], dict]:
    """Requests of each form for one made-up patient, and the volumes themselves."""
    import numpy as np

    from data_tools.grid import GRID_SHAPE, SLAB_SHAPE, VOXEL_ML

    rng = np.random.default_rng(0)
    brain = np.zeros(GRID_SHAPE, "<f4")
    brain[12:80, 12:97, 2:58] = 1
    arrays = {
        "dwi": (brain * rng.normal(100, 10, GRID_SHAPE)).astype("<f4"),
        "adc": (brain * rng.normal(800, 80, GRID_SHAPE)).astype("<f4"),
        "brain_mask": brain,
    }
    scalars = {"nihss": [[14]], "side": [["left"]], "voxel_ml": [[VOXEL_ML]]}
    packed = {
        n: [{"b64": base64.b64encode(gzip.compress(v.tobytes(), 6)).decode()}]
        for n, v in arrays.items()
    }
    plain = {n: [v.tolist()] for n, v in arrays.items()}
    windows = rng.random((4, *SLAB_SHAPE, 4), np.float32).astype(np.float16).astype(np.float32)
    requests = {
        "bytes": {"signature_name": "predict_volume_bytes", "inputs": packed | scalars},
        "volume": {"signature_name": "predict_volume", "inputs": plain | scalars},
        "4 slabs": {"inputs": {"image": windows.tolist(), "nihss": [[0.5]] * 4}},
    }
    return {form: json.dumps(body).encode() for form, body in requests.items()}, arrays


def main() -> None:
    """Start the server, ask, print the table."""
    import requests

    sent, arrays = bodies()
    server = subprocess.Popen(
        [sys.executable, "-m", "tf_hypoperfusion.serve", f"--models={FLAGS.models}", "--port=0",
         f"--max_queue={max(FLAGS.burst, 8)}"],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    try:
        line = next(text for text in server.stdout if "REST on" in text)
        url = f"{line.split()[2].split('/v1/')[0]}/v1/models/{FLAGS.name}:predict"
        rows = [in_process(arrays)]

        def ask(body: bytes) -> tuple[float, int, int]:
            began = time.perf_counter()
            answer = requests.post(url, data=body, timeout=3600)
            return time.perf_counter() - began, answer.status_code, len(answer.content)

        for form, body in sent.items():
            for clients in (1, 2, 4) if form == "bytes" else (1,):
                began = time.perf_counter()
                with concurrent.futures.ThreadPoolExecutor(clients) as pool:
                    done = list(pool.map(ask, [body] * max(FLAGS.requests, clients)))
                took = time.perf_counter() - began
                seconds = [each[0] for each in done]
                rows.append(row(form, clients, seconds, len(done) / took, len(body), done[0][2]))
        began = time.perf_counter()
        with concurrent.futures.ThreadPoolExecutor(FLAGS.burst) as pool:
            done = list(pool.map(ask, [sent["bytes"]] * FLAGS.burst))
        took = time.perf_counter() - began
        rows.append(
            row(
                "bytes",
                FLAGS.burst,
                [d[0] for d in done],
                len(done) / took,
                len(sent["bytes"]),
                done[0][2],
            )
        )
        answered = sum(status == 200 for _, status, _ in done)
    finally:
        server.terminate()
        server.wait()
    print("  ".join(f"{name:>13}" for name in rows[0]))
    for each in rows:
        print("  ".join(f"{value!s:>13}" for value in each.values()))
    print(f"{answered} of {FLAGS.burst} sent at once were answered in {took:.0f} s")
    if FLAGS.out:
        atomic.write_csv(FLAGS.out, rows)


def row(form: str, clients: int, seconds: list[float], rate: float, up: int, down: int) -> dict:
    """A line of the table."""
    import numpy as np

    return {
        "form": form,
        "clients": clients,
        "p50_s": round(float(np.percentile(seconds, 50)), 2),
        "p95_s": round(float(np.percentile(seconds, 95)), 2),
        "per_minute": round(60 * rate, 1),
        "request_MB": round(up / 1e6, 2),
        "answer_MB": round(down / 1e6, 2),
    }


def in_process(arrays: dict) -> dict:
    """The same volumes through the SavedModel here."""
    import numpy as np

    from data_tools import records  # noqa: F401  starts TensorFlow quietly
    from data_tools.grid import VOXEL_ML
    from tf_hypoperfusion import predictors

    import tensorflow as tf  # isort: skip

    model = tf.saved_model.load(str(predictors.check_path(f"{FLAGS.models}/{FLAGS.name}")))
    inputs = {name: tf.constant(value[np.newaxis]) for name, value in arrays.items()}
    inputs |= {"nihss": tf.constant([[14.0]]), "side": tf.constant([["left"]])}
    inputs["voxel_ml"] = tf.constant([[VOXEL_ML]], tf.float32)
    call = model.signatures["predict_volume"]
    call(**inputs)
    seconds = []
    for _ in range(FLAGS.requests):
        began = time.perf_counter()
        call(**inputs)["probability"].numpy()
        seconds.append(time.perf_counter() - began)
    return row("in process", 1, seconds, len(seconds) / sum(seconds), 0, 0)


if __name__ == "__main__":
    sys.exit(command.run(main, FLAGS, __doc__))
