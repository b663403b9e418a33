"""Slabs a second from shards to the training step, against a plain memory-map and compression.

    python -m benchmarks.data_layer --records=records [--others=others/bin/python] [--out=CSV]

Each line is a way of getting micro-batches of 4 slabs of one subset in random order; a turn is
--batches of them, the ways taking turns --rounds times; medians. Cold: an iterator is made anew
and the shards are dropped from the page cache before each turn, which is one pass. The memory-map
holds what the network gets (float32 image and truth) and is copied slab by slab: the least any
data layer must do; few batches measure buffers and not it. Compressed shards are the same records,
read and parsed. With --others MONAI's datasets over the same memory-map follow, in turns of their
own, each in a process of its own that also reads, mirrors and batches; 0 or 2 worker processes
each, their caches filled before anything is measured.

The memory-map and MONAI's caches take 7.3 MB a slab, so records of a few hundred slabs a subset
are enough. Seen (2 cores of an AMD EPYC, 24 GiB, TensorFlow 2.21): see BUILD_NOTES.
"""

import functools
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from absl import flags

from benchmarks.measuring import options, turns
from benchmarks.measuring.tables import Tables
from data_tools.runtime import command
from data_tools.runtime.errors import InputError

if TYPE_CHECKING:
    from data_tools.manifest import Manifest

FLAGS = flags.FlagValues()
options.folder("records", "manifest.json", "the folder of data_tools.build_records.", FLAGS)
options.count("batches", 100, "Of 4 slabs, a turn of each way.", FLAGS)
options.rounds(FLAGS)
options.others(FLAGS, ("torch", "monai"))
options.out(FLAGS)

BATCH, SLAB_BYTES = 4, 128 * 128 * 16 * 7 * 4.0


def training(records: str, manifest: "Manifest", cached: bool) -> Iterator[Any]:
    """The trainer's own dataset."""
    from tf_hypoperfusion.training import input_pipeline

    slabs = input_pipeline.Slabs(records, manifest, [0], cached)
    dataset, _ = input_pipeline.training_dataset(slabs, BATCH, 1, share=input_pipeline.Share(BATCH))
    return iter(dataset)


def memory_map(records: str, manifest: "Manifest", folder: Path) -> Iterator[Any]:
    """The same slabs as float32 arrays in one file each for image and truth, copied at random."""
    import numpy as np

    from tf_hypoperfusion.training import input_pipeline

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
        whole = len(arrays[0]) // BATCH * BATCH
        for chosen in rng.permutation(len(arrays[0]))[:whole].reshape(-1, BATCH):
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


def monai(folder: Path) -> dict[str, dict[str, Any]]:
    """What was seen of MONAI's datasets over the memory-map: see :func:`turns.measure`."""
    asked = [
        {
            "python": options.interpreter(FLAGS.others), "module": "monai_slabs",
            "folder": str(folder),
            "dataset": dataset, "batch": BATCH, "batches": FLAGS.batches, "workers": workers,
        }
        for dataset in ("map", "cache", "persistent")
        for workers in (0, 2)
    ]  # fmt: skip
    names = [f"MONAI {way['dataset']}, {way['workers']} workers" for way in asked]
    return dict(zip(names, turns.measure(asked, FLAGS.rounds, folder / "log"), strict=True))


def take(batches: Iterator[Any], count: int) -> None:
    """So many batches."""
    for _ in range(count):
        next(batches)


def forget(files: list[str]) -> None:
    """Drop files from the page cache."""
    for name in files:
        handle = os.open(name, os.O_RDONLY)
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(handle)


def row(way: str, taken: list[float], slabs: int, *, base: float, each: float) -> dict[str, Any]:
    """A line of the table; ``base``: slabs in a second of the first way; ``each``: bytes of one."""
    rate = slabs / median(taken)
    return {
        "way": way,
        "slabs_per_s": round(rate, 1),
        "spread": round(slabs / min(taken) - slabs / max(taken), 1),
        "of_memory_map": round(rate / base, 2),
        "mb_a_slab": round(each / 1e6, 2),
    }


def main() -> None:
    """Measure and print."""
    from data_tools.records import load_manifest

    manifest = load_manifest(FLAGS.records)
    subset = manifest.subsets[0]
    if subset.slabs < BATCH:
        raise InputError(f"{FLAGS.records}: subset 0 has {subset.slabs} slabs; expected {BATCH}")
    files = [str(Path(FLAGS.records) / s.file) for s in subset.shards]
    size = sum(Path(f).stat().st_size for f in files) / subset.slabs
    note = f"{subset.slabs} slabs, {FLAGS.rounds} rounds of {FLAGS.batches} batches"
    tables = Tables(FLAGS.out, ("tensorflow",), note)
    one_pass = subset.slabs // BATCH

    def cold() -> None:
        forget(files)
        take(training(FLAGS.records, manifest, False), one_pass)

    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        ways: dict[str, tuple[Iterator[Any], float]] = {
            "memory-map, float32": (memory_map(FLAGS.records, manifest, folder), SLAB_BYTES),
            "trainer, page cache": (training(FLAGS.records, manifest, False), size),
            "trainer, held in memory": (training(FLAGS.records, manifest, True), size),
        }
        for compression in ("", "ZLIB", "GZIP"):
            ways[f"parsed only, {compression or 'as written'}"] = shards(files, compression, folder)
        calls: dict[str, Callable[[], None]] = {
            name: functools.partial(take, batches, FLAGS.batches)
            for name, (batches, _) in ways.items()
        }
        calls["trainer, shards cold"] = cold
        seconds = turns.in_process(calls, FLAGS.rounds, "slabs")
        slabs = dict.fromkeys(seconds, FLAGS.batches * BATCH)
        slabs["trainer, shards cold"] = one_pass * BATCH
        others = monai(folder) if FLAGS.others else {}
    sizes = {name: each for name, (_, each) in ways.items()} | {"trainer, shards cold": size}
    base = slabs["memory-map, float32"] / median(seconds["memory-map, float32"])
    rows = [
        row(name, taken, slabs[name], base=base, each=sizes[name])
        for name, taken in seconds.items()
    ]
    for name, seen in others.items():
        if "failed" in seen:
            rows.append({"way": name, "versions": f"failed: {seen['failed']}"})
        else:
            line = row(name, seen["seconds"], FLAGS.batches * BATCH, base=base, each=SLAB_BYTES)
            rows.append(line | {"versions": seen["versions"]})
    tables.show("slabs to the training step", rows)


if __name__ == "__main__":
    sys.exit(command.run(main, FLAGS, __doc__))
