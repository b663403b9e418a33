"""TFRecord shards -> tf.data of ({"image", "nihss"}, y_true, weight).

``image`` float32 (batch, 128, 128, 16, 4): DWI, ADC, ADC mask, side; ``nihss`` (batch, 1);
``y_true`` float32 (batch, 128, 128, 16, 2): truth and coverage; ``weight`` (batch,): 1, or 0 for
the samples that pad the last batch of an evaluation.

The order and the mirrors of an epoch are a function of (seed, epoch) alone (and of TensorFlow's
global seed, which the trainer sets), so that a run that starts again at epoch 7 sees what an
uninterrupted run would have seen.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from data_tools.errors import InputError
from data_tools.grid import SIDES, SLAB_SHAPE, SLAB_SLICES, mirrored_side, side_frame
from data_tools.records import parse_slab

# 1.15 MB a record: up to 1.2 GB of memory, and a thorough mix of 413 patients' slabs.
SHUFFLE_RECORDS = 1024
PARALLEL_SHARDS = 4
# Epochs are laid end to end; no run is longer.
MAX_EPOCHS = 100_000

_SIDE_FRAMES = np.stack([side_frame(side) for side in SIDES]).astype(np.float32)
_MIRRORED_SIDE = np.array([SIDES.index(mirrored_side(side)) for side in SIDES])


def shard_files(records: str | Path, manifest: dict[str, Any], subsets: Sequence[int]) -> list[str]:
    """Paths of the subsets' shards, in the manifest's order."""
    return [
        str(Path(records) / shard["file"])
        for k in subsets
        for shard in manifest["subsets"][k]["shards"]
    ]


def count_slabs(manifest: dict[str, Any], subsets: Sequence[int]) -> int:
    """Slabs in the subsets."""
    return sum(manifest["subsets"][k]["slabs"] for k in subsets)


def training_dataset(
    records: str | Path,
    manifest: dict[str, Any],
    subsets: Sequence[int],
    batch_size: int,
    seed: int,
    mirror: bool = True,
    first_epoch: int = 0,
) -> tuple[tf.data.Dataset, int]:
    """Endless shuffled batches, and how many make an epoch. The remainder is dropped.

    Raises:
        InputError: if there are fewer slabs than one batch holds.
    """
    files = shard_files(records, manifest, subsets)
    slabs = count_slabs(manifest, subsets)
    if slabs < batch_size:
        raise InputError(
            f"{slabs} training slabs do not fill one batch of {batch_size}; expected more "
            f"patients, a smaller --stride when building records, or --batch_size={max(slabs, 1)}"
        )

    def one_epoch(epoch: tf.Tensor) -> tf.data.Dataset:
        order = tf.random.experimental.stateless_shuffle(
            tf.constant(files), seed=tf.stack([tf.cast(seed, tf.int64), epoch])
        )
        dataset = tf.data.Dataset.from_tensor_slices(order).interleave(
            tf.data.TFRecordDataset,
            cycle_length=PARALLEL_SHARDS,
            num_parallel_calls=tf.data.AUTOTUNE,
            deterministic=True,
        )
        dataset = dataset.shuffle(
            min(slabs, SHUFFLE_RECORDS),
            seed=seed * MAX_EPOCHS + epoch,
            reshuffle_each_iteration=False,
        )

        def prepare(index: tf.Tensor, record: tf.Tensor):
            slab = parse_slab(record)
            if mirror:
                draw = tf.random.stateless_uniform((), seed=tf.stack([epoch * slabs + index, seed]))
                slab = tf.cond(draw < 0.5, lambda: mirror_slab(slab), lambda: slab)
            return model_inputs(slab)

        dataset = dataset.enumerate().map(
            prepare, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True
        )
        return dataset.batch(batch_size, drop_remainder=True)

    epochs = tf.data.Dataset.range(first_epoch, MAX_EPOCHS)
    return epochs.flat_map(one_epoch).prefetch(tf.data.AUTOTUNE), slabs // batch_size


def evaluation_dataset(
    records: str | Path, manifest: dict[str, Any], subsets: Sequence[int], batch_size: int
) -> tuple[tf.data.Dataset, int]:
    """Every slab once, in a fixed order; the last batch is filled up with zeros of weight 0.

    Returns:
        The dataset, which repeats for ever, and the number of batches of one round. (Keras 3
        keeps one iterator for all validations of a distributed fit; a finite one would run dry.)
    """
    files, slabs = shard_files(records, manifest, subsets), count_slabs(manifest, subsets)
    if not slabs:
        raise InputError("there are no validation slabs; expected at least one patient per subset")
    dataset = tf.data.TFRecordDataset(files).map(
        lambda record: model_inputs(parse_slab(record)), num_parallel_calls=tf.data.AUTOTUNE
    )
    padding = -slabs % batch_size
    if padding:
        empty = tf.nest.map_structure(lambda s: tf.zeros(s.shape, s.dtype), dataset.element_spec)
        dataset = dataset.concatenate(tf.data.Dataset.from_tensors(empty).repeat(padding))
    dataset = dataset.batch(batch_size, drop_remainder=True).repeat().prefetch(tf.data.AUTOTUNE)
    return dataset, (slabs + padding) // batch_size


def model_inputs(slab: dict[str, tf.Tensor]):
    """A parsed slab -> ({"image", "nihss"}, y_true, weight), without the batch axis."""
    side = tf.gather(tf.constant(_SIDE_FRAMES), slab["side"])
    side = tf.repeat(side[..., tf.newaxis], SLAB_SLICES, axis=-1)
    mask = tf.cast(slab["adc_mask"], tf.float32)
    image = tf.stack([slab["dwi"], slab["adc"], mask, side], axis=-1)
    y_true = tf.stack([slab["truth"], slab["coverage"]], axis=-1)
    y_true = tf.cast(tf.ensure_shape(y_true, (*SLAB_SHAPE, 2)), tf.float32)
    inputs = {"image": image, "nihss": tf.reshape(slab["nihss"], (1,))}
    return inputs, y_true, tf.ones((), tf.float32)


def mirror_slab(slab: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """Exchange left and right of image, masks, truth, coverage *and* side together.

    The brain's midline is column 63 of 128, so the frame is reversed and moved back by one
    column; the column that wraps round is margin.
    """
    mirrored = dict(slab)
    for name in ("dwi", "adc", "adc_mask", "truth", "coverage"):
        mirrored[name] = tf.roll(tf.reverse(slab[name], [0]), -1, axis=0)
    mirrored["side"] = tf.gather(tf.constant(_MIRRORED_SIDE, tf.int64), slab["side"])
    return mirrored
