"""What a patient costs over the embedded server: latency by form and by clients at once.

    python -m benchmarks.serving --models=saved_models --name=hypoperfusion [--out=serving.csv]

Starts python -m tf_hypoperfusion.serve on a free port and sends one simulated patient: compressed
volumes and JSON volumes; windows as JSON (a patient takes three such requests); beside the same
model called in this process. p50 and p95 are of --requests each; MB are of the request's and the
answer's bodies. --burst sends so many at once and counts the answers. --many sends so many from
four clients, one slab each and every 20th a whole patient, and shows the server's memory before
(after 40 of them) and --idle_s after the last.

Seen (2 cores of an AMD EPYC with AVX512-BF16): see BUILD_NOTES.
"""

import concurrent.futures
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from absl import flags

from benchmarks.measuring import options
from benchmarks.measuring.tables import Tables, timing
from data_tools.runtime import command
from data_tools.runtime.errors import InputError

FLAGS = flags.FlagValues()
flags.DEFINE_string("models", "saved_models", "Folder of NAME/VERSION.", flag_values=FLAGS)
flags.DEFINE_string("name", "hypoperfusion", "Model.", flag_values=FLAGS)
options.count("requests", 6, "Of each line.", FLAGS)
options.count("burst", 200, "Compressed patients at once; 0: none.", FLAGS, lowest=0)
options.count("many", 0, "Requests between two looks at the memory; 0: none.", FLAGS, lowest=0)
options.count("idle_s", 10, "Seconds before each look at the memory.", FLAGS)
options.out(FLAGS)
SEED = 31
# For --many: those before the first look, and which of them are whole patients.
BEFORE, WHOLE_EVERY, MANY_CLIENTS = 40, 20, 4


def bodies() -> tuple[dict[str, bytes], dict]:
    """Requests of each form for one simulated patient, and the volumes themselves."""
    import numpy as np

    from data_tools.grid import SLAB_SHAPE, VOXEL_ML
    from data_tools.simulate import simulate_patient
    from tf_hypoperfusion.inference.rest_client import volume_request

    mni = simulate_patient(SEED, 1).mni()
    arrays = {
        "dwi": mni.dwi.astype("<f4"),
        "adc": mni.adc_um2_per_s.astype("<f4"),
        "brain_mask": mni.brain.astype("<f4"),
    }
    requests = {
        form: volume_request(arrays, nihss=14, side="left", voxel_ml=VOXEL_ML, form=form)
        for form in ("bytes", "volume")
    }
    rng = np.random.default_rng(0)
    windows = rng.random((4, *SLAB_SHAPE, 4), np.float32).astype(np.float16).astype(np.float32)
    requests["1 slab"] = {"inputs": {"image": windows[:1].tolist(), "nihss": [[0.5]]}}
    requests["4 slabs"] = {"inputs": {"image": windows.tolist(), "nihss": [[0.5]] * 4}}
    return {form: json.dumps(body).encode() for form, body in requests.items()}, arrays


def main() -> None:
    """Start the server, ask, print the table."""
    import requests

    from tf_hypoperfusion.inference import model_files

    model_files.check_path(f"{FLAGS.models}/{FLAGS.name}")
    note = f"model {FLAGS.name}, {FLAGS.requests} requests a line"
    tables = Tables(FLAGS.out, ("tensorflow", "starlette", "uvicorn"), note)
    sent, arrays = bodies()
    rows, memory, answered = [in_process(arrays)], [], 0
    with tempfile.NamedTemporaryFile("w+") as errors:
        server = subprocess.Popen(
            [sys.executable, "-m", "tf_hypoperfusion.serve", f"--models={FLAGS.models}",
             "--port=0", f"--max_queue={max(FLAGS.burst, 8)}"],
            stdout=subprocess.PIPE, stderr=errors, text=True,
        )  # fmt: skip
        try:
            line = next((text for text in server.stdout or () if "REST on" in text), None)
            if line is None:
                raise InputError(
                    f"the server did not start: {Path(errors.name).read_text()[-500:]}"
                )
            url = f"{line.split()[2].split('/v1/')[0]}/v1/models/{FLAGS.name}:predict"

            def ask(body: bytes) -> tuple[float, int, int]:
                began = time.perf_counter()
                answer = requests.post(url, data=body, timeout=3600)
                return time.perf_counter() - began, answer.status_code, len(answer.content)

            def together(form: str, clients: int, count: int) -> int:
                began = time.perf_counter()
                with concurrent.futures.ThreadPoolExecutor(clients) as pool:
                    done = list(pool.map(ask, [sent[form]] * count))
                took = time.perf_counter() - began
                good = [each for each in done if each[1] == 200]
                if not good:
                    raise InputError(f"the server answered {form} with {done[0][1]}")
                seconds, sizes = [each[0] for each in good], (len(sent[form]), good[0][2])
                rows.append(row(form, clients, seconds, rate=len(good) / took, sizes=sizes))
                rows[-1]["refused"] = len(done) - len(good)
                return len(good)

            def many(count: int) -> float:
                """Resident MB of the server once it has answered so many."""
                wanted = ["1 slab" if k % WHOLE_EVERY else "bytes" for k in range(count)]
                with concurrent.futures.ThreadPoolExecutor(MANY_CLIENTS) as pool:
                    codes = {each[1] for each in pool.map(ask, [sent[form] for form in wanted])}
                if codes != {200}:
                    raise InputError(f"the server answered {sorted(codes)}; expected 200")
                time.sleep(FLAGS.idle_s)
                return resident_mb(server.pid)

            for form in sent:
                for clients in (1, 2, 4) if form == "bytes" else (1,):
                    together(form, clients, max(FLAGS.requests, clients))
            if FLAGS.burst:
                answered = together("bytes", FLAGS.burst, FLAGS.burst)
            if FLAGS.many:
                before_mb, after_mb = many(BEFORE), many(FLAGS.many)
                memory.append(
                    {
                        "requests": FLAGS.many, "before_MB": round(before_mb),
                        "after_MB": round(after_mb), "ratio": round(after_mb / before_mb, 3),
                    }
                )  # fmt: skip
        finally:
            server.terminate()
            server.wait()
            tables.show("a patient over the embedded server", rows)
            if memory:
                tables.show("the server's memory", memory)
    if FLAGS.burst:
        print(f"{answered} of {FLAGS.burst} sent at once were answered")


def resident_mb(process: int) -> float:
    """Resident memory of a process (Linux)."""
    (line,) = (
        text
        for text in Path(f"/proc/{process}/status").read_text().splitlines()
        if text.startswith("VmRSS")
    )
    return int(line.split()[1]) / 1000


def row(
    form: str, clients: int, taken: list[float], *, rate: float, sizes: tuple[int, int]
) -> dict:
    """A line of the table; ``sizes``: bytes of a request and of its answer."""
    import numpy as np

    return {
        "form": form,
        "clients": clients,
        "p50_s": round(float(np.percentile(taken, 50)), 2),
        "p95_s": round(float(np.percentile(taken, 95)), 2),
        "spread": timing(taken, 2)["spread"],
        "per_minute": round(60 * rate, 1),
        "request_MB": round(sizes[0] / 1e6, 2),
        "answer_MB": round(sizes[1] / 1e6, 2),
    }


def in_process(arrays: dict) -> dict:
    """The same volumes through the SavedModel here."""
    import numpy as np

    from data_tools.runtime import tensorflow_start

    tensorflow_start.prepare()
    from data_tools.grid import VOXEL_ML
    from tf_hypoperfusion.inference import model_files

    import tensorflow as tf  # isort: skip

    model = tf.saved_model.load(str(model_files.check_path(f"{FLAGS.models}/{FLAGS.name}")))
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
    return row("in process", 1, seconds, rate=len(seconds) / sum(seconds), sizes=(0, 0))


if __name__ == "__main__":
    sys.exit(command.run(main, FLAGS, __doc__))
