"""Slabs a second from shards to the training step, against a plain memory-map and compression.

    python -m benchmarks.data_layer --records=records [--others=others/bin/python] [--out=CSV]

Each line is a way of getting micro-batches of 4 slabs in random order, run --seconds at a time, the
ways taking turns --rounds times; medians. Cold: the shards are dropped from the page cache before
each turn. The memory-map holds what the network gets (float32 image and truth) and is copied slab
by slab: the least any data layer must do. Compressed shards are the same records, read and parsed.
With --others (a Python with torch and monai) MONAI's datasets over the same memory-map follow, each
in a process of its own that also reads, mirrors and batches; 0 or 2 worker processes each.

Seen (2 cores of an AMD EPYC, 24 GiB, TensorFlow 2.21): see BUILD_NOTES.
"""

import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from absl import flags

from benchmarks.ways import turns
from data_tools import atomic, command

FLAGS = flags.FlagValues()
flags.DEFINE_string("records", None, "Of build_records.", required=True, flag_values=FLAGS)
flags.DEFINE_float("seconds", 6.0, "A turn of each way.", flag_values=FLAGS)
flags.DEFINE_integer("rounds", 5, "Turns, of which the median is taken.", flag_values=FLAGS)
flags.DEFINE_string("others", None, "Python with torch and monai.", flag_values=FLAGS)
flags.DEFINE_string("out", None, "CSV of the table.", flag_values=FLAGS)

BATCH = 4


def training(records: str, manifest: dict[str, Any], cached: bool) -> Iterator[Any]:
    """The trainer's own dataset."""
    from tf_hypoperfusion import input_pipeline

    slabs = input_pipeline.Slabs(records, manifest, [0], cached)
    dataset, _ = input_pipeline.training_dataset(slabs, BATCH, 1, share=input_pipeline.Share(BATCH))
    return iter(dataset)


def memory_map(records: str, manifest: dict[str, Any], folder: Path) -> Iterator[Any]:
    """The same slabs as float32 arrays in one file each for image and truth, copied at random."""
    import numpy as np

    from tf_hypoperfusion import input_pipeline

    found = [a for _, a in input_pipeline.read_patients(records, manifest, 0)]
    arrays = []
    for name in ("image", "y_true"):
        np.save(folder / f"{name}.npy", np.concatenate([a[name] for a in found]).astype(np.float32))
        arrays.append(np.load(folder / f"{name}.npy", mmap_mode="r"))
    del found
    return copies(arrays)


def copies(arrays: list[Any]) -> Iterator[Any]:
    """Batches of copied slabs in random order."""
    import numpy as np

    rng = np.random.default_rng(1)
    while True:
        for chosen in np.array_split(rng.permutation(len(arrays[0])), len(arrays[0]) // BATCH):
            yield [np.stack([array[k] for k in chosen]) for array in arrays]


def shards(files: list[str], compression: str, folder: Path) -> tuple[Iterator[Any], float]:
    """The records of one subset rewritten and parsed; and bytes a slab."""
    import tensorflow as tf

    from data_tools.records import parse_slab

    path, count = folder / f"slabs.{compression or 'plain'}", 0
    with tf.io.TFRecordWriter(str(path), tf.io.TFRecordOptions(compression)) as writer:
        for record in tf.data.TFRecordDataset(files):
            writer.write(record.numpy())
            count += 1
    dataset = tf.data.TFRecordDataset(str(path), compression).repeat().shuffle(64, seed=1)
    dataset = dataset.map(parse_slab, num_parallel_calls=tf.data.AUTOTUNE).batch(BATCH).prefetch(2)
    return iter(dataset), path.stat().st_size / count


def monai(folder: Path) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Slabs a second of MONAI's datasets over the memory-map, and bytes a slab that they keep."""
    batches, each = 16, 128 * 128 * 16 * 6 * 4.0
    asked = [
        {
            "python": FLAGS.others, "module": "monai_slabs", "folder": str(folder),
            "dataset": dataset, "batch": BATCH, "batches": batches, "workers": workers,
        }
        for dataset in ("map", "cache", "persistent")
        for workers in (0, 2)
    ]  # fmt: skip
    rates = {}
    for way, seen in zip(asked, turns.measure(asked, FLAGS.rounds, folder / "log"), strict=True):
        name = f"MONAI {way['dataset']}, {way['workers']} workers"
        if "failed" in seen:
            print(f"{name}: {seen['failed']}")
            continue
        rates[name] = [batches * BATCH / taken for taken in seen["seconds"]]
    return rates, dict.fromkeys(rates, each)


def main() -> None:
    """Measure and print."""
    import numpy as np
    import tensorflow as tf

    from data_tools.records import load_manifest

    if FLAGS.others:
        turns.check_python(FLAGS.others)
    manifest = load_manifest(FLAGS.records)
    files = [str(Path(FLAGS.records) / s["file"]) for s in manifest["subsets"][0]["shards"]]
    size = sum(Path(f).stat().st_size for f in files) / manifest["subsets"][0]["slabs"]

    def forget() -> None:
        for name in files:
            handle = os.open(name, os.O_RDONLY)
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(handle)

    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        nothing: Callable[[], None] = lambda: None  # noqa: E731
        ways: dict[str, tuple[Iterator[Any], Callable[[], None], float]] = {
            "memory-map, float32": (
                memory_map(FLAGS.records, manifest, folder), nothing, 128 * 128 * 16 * 6 * 4.0,
            ),
            "trainer, page cache": (training(FLAGS.records, manifest, False), nothing, size),
            "trainer, shards cold": (training(FLAGS.records, manifest, False), forget, size),
            "trainer, held in memory": (training(FLAGS.records, manifest, True), nothing, size),
        }  # fmt: skip
        for compression in ("", "ZLIB", "GZIP"):
            made, each = shards(files, compression, folder)
            ways[f"parsed only, {compression or 'as written'}"] = made, nothing, each
        rates: dict[str, list[float]] = {name: [] for name in ways}
        for turn in range(FLAGS.rounds + 1):
            for name, (batches, before, _) in ways.items():
                before()
                began, count = time.perf_counter(), 0
                while time.perf_counter() - began < (FLAGS.seconds if turn else 1.0):
                    next(batches)
                    count += BATCH
                if turn:  # the first is for warming up
                    rates[name].append(count / (time.perf_counter() - began))
        sizes = {name: each for name, (_, _, each) in ways.items()}
        if FLAGS.others:
            others, made = monai(folder)
            rates |= others
            sizes |= made
    base = float(np.median(rates["memory-map, float32"]))
    rows = [
        {
            "way": name,
            "slabs_per_s": round(float(np.median(each)), 1),
            "spread": round(max(each) - min(each), 1),
            "of_memory_map": round(float(np.median(each)) / base, 2),
            "mb_a_slab": round(sizes[name] / 1e6, 2),
        }
        for name, each in rates.items()
    ]
    print(f"TensorFlow {tf.__version__}, {os.cpu_count()} cores, {FLAGS.records}")
    for row in [dict(zip(rows[0], rows[0], strict=True)), *rows]:
        first, *rest = row.values()
        print(f"{first:<28}" + "".join(f"{value!s:>15}" for value in rest))
    if FLAGS.out:
        atomic.write_csv(FLAGS.out, rows)


if __name__ == "__main__":
    sys.exit(command.run(main, FLAGS, __doc__))
