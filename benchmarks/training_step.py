"""What a training step of the published network costs here, by precision and micro-batch.

    python -m benchmarks.training_step [--preset=paper] [--out=training_step.csv]

Each line is measured in a process of its own: real optimizer steps (Adam, composite loss, batch 32
on one device) on random slabs, after one step to warm up. GFLOP are counted from the convolutions
(backward counts twice the forward), peak memory is the process's resident set over that of the
same process before the first step. --micro sets other micro-batches.

Seen (2 cores of an AMD EPYC with AVX512-BF16, 24 GiB, TensorFlow 2.21): see BUILD_NOTES.
"""

import json
import subprocess
import sys
import time

from absl import flags

from data_tools import atomic, command

FLAGS = flags.FlagValues()
flags.DEFINE_string("preset", "paper", "Preset.", flag_values=FLAGS)
flags.DEFINE_integer("steps", 2, "Measured optimizer steps.", flag_values=FLAGS)
flags.DEFINE_integer("batch_size", 32, "Slabs per optimizer step.", flag_values=FLAGS)
flags.DEFINE_list("micro", ["1", "2", "4"], "Micro-batches.", flag_values=FLAGS)
flags.DEFINE_list("precision", ["float32", "bfloat16"], "Precisions.", flag_values=FLAGS)
flags.DEFINE_string("out", None, "CSV of the table.", flag_values=FLAGS)


def one(preset: str, precision: str, batch_size: int, micro_batch: int, steps: int) -> dict:
    """Measure one configuration in this process."""
    import resource

    import numpy as np

    from benchmarks.ways.counting import convolution_gflop
    from data_tools import records  # noqa: F401  starts TensorFlow quietly
    from tf_hypoperfusion import config, distribution, memory, training_step

    model_config, training = config.preset(
        preset, precision=precision, batch_size=batch_size, micro_batch=micro_batch
    )
    step = training_step.build(distribution.choose_strategy(), model_config, training, 100)
    rng = np.random.default_rng(0)
    image = rng.random((micro_batch, 128, 128, 16, 4), np.float32)
    y_true = (rng.random((micro_batch, 128, 128, 16, 2)) < 0.5).astype(np.float32)
    nihss, weight = np.ones((micro_batch, 1), np.float32), np.ones(micro_batch, np.float32)
    batch = {"image": image, "nihss": nihss}, y_true, weight

    def batches():
        while True:
            yield batch

    stream = batches()
    peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # noqa: E731  GiB
    before = peak()
    step.train(stream, 0)
    seconds = []
    for k in range(steps):
        began = time.perf_counter()
        step.train(stream, k + 1)[0].numpy()
        seconds.append(time.perf_counter() - began)
    median = float(np.median(seconds))
    gflop = 3 * convolution_gflop(step.model) * batch_size
    estimate = memory.bytes_per_slab(model_config) * micro_batch / 2**30
    return {
        "preset": preset,
        "precision": precision,
        "batch": batch_size,
        "micro_batch": micro_batch,
        "s_per_step": round(median, 2),
        "spread_s": round(max(seconds) - min(seconds), 2),
        "slabs_per_s": round(batch_size / median, 2),
        "gflop_per_step": round(gflop),
        "gflop_per_s": round(gflop / median, 1),
        "peak_memory_gib": round(peak() - before, 2),
        "estimated_gib": round(estimate, 2),
    }


def main() -> None:
    """Measure every configuration, each in its own process, and print the table."""
    rows = []
    for precision in FLAGS.precision:
        for micro in map(int, FLAGS.micro):
            call = (
                "import json; from benchmarks.training_step import one; print(json.dumps("
                f"one({FLAGS.preset!r}, {precision!r}, {FLAGS.batch_size}, {micro}, "
                f"{FLAGS.steps})))"
            )
            done = subprocess.run([sys.executable, "-c", call], capture_output=True, text=True)
            if done.returncode:
                print(f"{precision}, micro-batch {micro}: failed ({done.stderr.strip()[-300:]})")
                continue
            rows.append(json.loads(done.stdout.splitlines()[-1]))
            if len(rows) == 1:
                print("  ".join(f"{name:>15}" for name in rows[0]))
            print("  ".join(f"{value:>15}" for value in rows[-1].values()), flush=True)
    if FLAGS.out and rows:
        atomic.write_csv(FLAGS.out, rows)


if __name__ == "__main__":
    sys.exit(command.run(main, FLAGS, __doc__))
