"""TFRecord shards -> tf.data of ({"image", "nihss"}, y_true, weight).

``image`` float32 (batch, 128, 128, 16, 4): DWI, ADC, ADC mask, side; ``nihss`` (batch, 1);
``y_true`` float32 (batch, 128, 128, 16, 3): truth, coverage and core; ``weight`` (batch,): 1, or 0
for the samples that pad the last batch of an evaluation. An evaluation adds ``once`` float32
(batch, 16): the share of each slice that counts, 1 over the number of slabs that hold it.

The order, the mirrors and the random changes of an epoch are a function of (seed, epoch) alone (and
of TensorFlow's global seed, which the trainer sets), whether records are cached or not and however
many processes share them, so that a run that starts again in epoch 7, step 12, sees what an
uninterrupted run would have seen.
"""

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypedDict

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from data_tools import slabs as slabs_of_volumes
from data_tools.grid import GRID_SHAPE, SIDES, SLAB_SLICES, side_frame
from data_tools.manifest import Manifest
from data_tools.records import MASKS, explain_read_error, parse_packed, parse_slab, unpack_slab
from data_tools.runtime.errors import InputError
from tf_hypoperfusion.training.augmentation import mirror_slab, randomise_slab
from tf_hypoperfusion.training.randomisation import NONE, Randomisation

# 1.18 MB a record: up to 1.2 GB of memory, and a thorough mix of 413 patients' slabs.
SHUFFLE_RECORDS = 1024
PARALLEL_SHARDS = 4
# Epochs are laid end to end; no run is longer.
MAX_EPOCHS = 100_000

# What becomes an input or a truth of the network, or changes one; names and first slices do not.
_NETWORK = ("dwi", "adc", *MASKS, "side", "nihss", "adc_mean_um2_per_s")
_SIDE_FRAMES = np.stack([side_frame(side)[..., np.newaxis] for side in SIDES]).astype(np.float32)


@dataclasses.dataclass(frozen=True)
class Share:
    """Which part of every batch one process feeds to its devices.

    Attributes:
        micro_batch: slabs that one device gets at once.
        replicas: devices of all processes.
        worker: number of this process.
        workers: how many processes there are.
    """

    micro_batch: int
    replicas: int = 1
    worker: int = 0
    workers: int = 1

    def mine(self, position: tf.Tensor) -> tf.Tensor:
        """Whether the sample at this position of the epoch is this process's."""
        replica = (position // self.micro_batch) % self.replicas
        return replica // (self.replicas // self.workers) == self.worker


class PatientSlabs(TypedDict):
    """A patient's slabs: first slices, ``image``, ``nihss`` and ``y_true`` as in a batch."""

    starts: list[int]
    image: NDArray[np.float32]
    nihss: NDArray[np.float32]
    y_true: NDArray[np.float32]


class Slabs:
    """The slabs of some subsets, on disk or held in memory.

    Args:
        records: their folder.
        manifest: of the folder.
        subsets: numbers of subsets.
        cached: read every record once, now, and keep it in memory (1.18 MB each).

    Raises:
        InputError: if the subsets hold no slab.
    """

    def __init__(
        self,
        records: str | Path,
        manifest: Manifest,
        subsets: Sequence[int],
        cached: bool = False,
    ):
        shards = [shard for k in subsets for shard in manifest.subsets[k].shards]
        self.files = [str(Path(records) / shard.file) for shard in shards]
        self.counts = np.array([shard.slabs for shard in shards], np.int64)
        self.total = int(self.counts.sum())
        self.stride = manifest.settings.stride if manifest.settings else None
        if not self.total:
            raise InputError(
                f"{records}: subsets {list(subsets)} hold no slab; expected at least one patient "
                "in every subset"
            )
        self.held = self._read_all() if cached else None

    def _read_all(self) -> tf.Tensor:
        return tf.data.TFRecordDataset(self.files).batch(self.total).get_single_element()

    def in_order(self, shards: tf.Tensor, together: int) -> tf.data.Dataset:
        """Records, or their positions in ``held``, of shards in this order, some at a time."""
        first = tf.constant(np.cumsum(self.counts) - self.counts)
        counts, files = tf.constant(self.counts), tf.constant(self.files)

        def one_shard(k):
            if self.held is not None:
                return tf.data.Dataset.range(first[k], first[k] + counts[k])
            return tf.data.TFRecordDataset(files[k])

        parallel = {} if self.held is not None else {"num_parallel_calls": tf.data.AUTOTUNE}
        # In a fixed order either way: tf.data is deterministic unless told otherwise.
        return tf.data.Dataset.from_tensor_slices(shards).interleave(
            one_shard, cycle_length=together, **parallel
        )

    def parse(self, record: tf.Tensor) -> dict[str, tf.Tensor]:
        """An element of :meth:`in_order` -> a packed slab."""
        slab = parse_packed(record if self.held is None else tf.gather(self.held, record))
        return {name: slab[name] for name in _NETWORK} | {"weight": tf.ones(())}

    def parse_to_evaluate(self, record: tf.Tensor) -> dict[str, tf.Tensor]:
        """The same, with ``once``."""
        slab = parse_packed(record if self.held is None else tf.gather(self.held, record))
        shares = tf.constant(shares_of_slices(self.stride))
        shares = tf.gather(shares, slab["z_start"] + tf.range(SLAB_SLICES, dtype=tf.int64))
        return {name: slab[name] for name in _NETWORK} | {"weight": tf.ones(()), "once": shares}


def shares_of_slices(stride: int | None) -> NDArray[np.float32]:
    """1 over the number of a patient's slabs that hold a slice, for each slice of the grid.

    Args:
        stride: slices from one slab to the next; None where records of an early version do not
            say: each slab's slices count then.

    >>> [float(share) for share in shares_of_slices(16)[43:49]]
    [1.0, 0.5, 0.5, 0.5, 0.5, 1.0]
    """
    counts = np.zeros(GRID_SHAPE[2], np.float32)
    for start in slabs_of_volumes.slab_starts(stride or SLAB_SLICES):
        counts[start : start + SLAB_SLICES] += 1
    return np.reciprocal(counts) if stride else np.ones_like(counts)


def training_dataset(
    slabs: Slabs,
    batch_size: int,
    seed: int,
    *,
    mirror: bool = True,
    changes: Randomisation = NONE,
    first_epoch: int = 0,
    first_step: int = 0,
    share: Share | None = None,
) -> tuple[tf.data.Dataset, int]:
    """Endless shuffled micro-batches, and how many *steps* (global batches) make an epoch.

    Args:
        slabs: what to train on.
        batch_size: global.
        seed: of order, mirror and random changes.
        mirror: half of the slabs, see :mod:`tf_hypoperfusion.training.augmentation`.
        changes: of the slabs, likewise.
        first_epoch: where to begin, from 0.
        first_step: where to begin within it, from 0.
        share: this process's part and the micro-batch; None is all of it, a batch at a time.

    Returns:
        The dataset; an epoch's slabs that do not fill a batch are left out of this epoch (others
        in the next), and the number of steps.

    Raises:
        InputError: if there are fewer slabs than one batch holds.
    """
    share = share or Share(batch_size)
    steps = training_steps(slabs, batch_size)

    def one_epoch(epoch: tf.Tensor) -> tf.data.Dataset:
        order = tf.random.experimental.stateless_shuffle(
            tf.range(len(slabs.files)), seed=tf.stack([tf.cast(seed, tf.int64), epoch])
        )
        dataset = slabs.in_order(order, PARALLEL_SHARDS).shuffle(
            min(slabs.total, SHUFFLE_RECORDS),
            seed=seed * MAX_EPOCHS + epoch,
            reshuffle_each_iteration=False,
        )
        begin = tf.where(epoch == first_epoch, first_step * batch_size, 0)
        dataset = dataset.take(steps * batch_size).apply(_holding(steps * batch_size))
        dataset = dataset.enumerate().skip(tf.cast(begin, tf.int64))
        if share.workers > 1:
            dataset = dataset.filter(lambda position, _: share.mine(position))

        def prepare(position: tf.Tensor, record: tf.Tensor):
            slab = slabs.parse(record)
            draw = tf.stack([epoch * slabs.total + position, tf.cast(seed, tf.int64)])
            if mirror:
                half = tf.random.stateless_uniform((), seed=draw)
                slab = tf.cond(half < 0.5, lambda: mirror_slab(slab), lambda: slab)
            if changes == NONE:
                return slab
            return randomise_slab(unpack_slab(slab), draw + 1, changes)

        dataset = dataset.map(prepare, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        dataset = dataset.batch(share.micro_batch, drop_remainder=True)
        inputs = packed_inputs if changes == NONE else unpacked_inputs
        return dataset.map(inputs, tf.data.AUTOTUNE)

    epochs = tf.data.Dataset.range(first_epoch, MAX_EPOCHS).flat_map(one_epoch)
    # Known to be endless, several processes need not ask each other at every step whether it is.
    endless = tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY)
    return epochs.apply(endless).prefetch(tf.data.AUTOTUNE), steps


def training_steps(slabs: Slabs, batch_size: int) -> int:
    """Global batches in an epoch.

    Raises:
        InputError: if there are fewer slabs than one batch holds.
    """
    if slabs.total < batch_size:
        raise too_few_slabs(slabs.total, batch_size)
    return slabs.total // batch_size


def evaluation_dataset(slabs: Slabs, share: Share) -> tuple[tf.data.Dataset, int]:
    """Every slab once, in a fixed order; empty slabs of weight 0 fill up the last batches.

    Returns:
        The dataset, which begins anew at its end, and how many times every device gets a batch of
        ``share.micro_batch`` until then.
    """
    dataset = slabs.in_order(tf.range(len(slabs.files)), 1).apply(_holding(slabs.total))
    dataset = dataset.map(slabs.parse_to_evaluate, num_parallel_calls=tf.data.AUTOTUNE)
    steps = evaluation_steps(slabs, share)
    padding = steps * share.micro_batch * share.replicas - slabs.total
    if padding:
        empty = tf.nest.map_structure(lambda s: tf.zeros(s.shape, s.dtype), dataset.element_spec)
        dataset = dataset.concatenate(tf.data.Dataset.from_tensors(empty).repeat(padding))
    if share.workers > 1:
        dataset = dataset.enumerate().filter(lambda position, _: share.mine(position))
        dataset = dataset.map(lambda _, sample: sample)
    dataset = dataset.batch(share.micro_batch, drop_remainder=True)
    dataset = dataset.map(packed_inputs, num_parallel_calls=tf.data.AUTOTUNE).repeat()
    return dataset.prefetch(tf.data.AUTOTUNE), steps


def evaluation_steps(slabs: Slabs, share: Share) -> int:
    """How many times every device gets a batch until each slab has been evaluated once."""
    return -(-slabs.total // (share.micro_batch * share.replicas))


def too_few_slabs(slabs: int, batch_size: int) -> InputError:
    """The error of a batch that all slabs together do not fill."""
    return InputError(
        f"{slabs} training slabs do not fill one batch of {batch_size}; expected more patients, a "
        f"smaller --stride when building records, or --batch_size={max(slabs, 1)}"
    )


def _holding(count: int):
    """Let a shard that lost whole records while it was read be an error, not a shorter epoch."""
    return tf.data.experimental.assert_cardinality(count)


@tf.function(jit_compile=True)
def packed_inputs(slabs: dict[str, tf.Tensor]):
    """:func:`model_inputs` of a batch of :meth:`Slabs.parse`.

    XLA writes images and truths in one pass: four times as fast as operation by operation, each of
    which reads and writes megabytes.
    """
    return model_inputs(unpack_slab(slabs))


@tf.function(jit_compile=True)
def unpacked_inputs(slabs: dict[str, tf.Tensor]):
    """:func:`model_inputs` of a batch that was unpacked to be changed."""
    return model_inputs(slabs)


def model_inputs(slab: dict[str, tf.Tensor]):
    """A slab, or a batch of them -> ({"image", "nihss"}, y_true, weight), and ``once`` if given."""
    side = tf.gather(tf.constant(_SIDE_FRAMES), slab["side"])
    image = _channels_last([slab["dwi"], slab["adc"], slab["adc_mask"], side])
    y_true = _channels_last([slab["truth"], slab["coverage"], slab["core"]])
    inputs = {"image": image, "nihss": slab["nihss"][..., tf.newaxis]}
    once = [slab["once"]] if "once" in slab else []
    return inputs, y_true, slab["weight"], *once


def _channels_last(volumes: Sequence[tf.Tensor]) -> tf.Tensor:
    """Volumes as the channels of one float32 image, so that XLA writes it voxel by voxel.

    Of ``tf.stack`` it makes a loop a channel, three times as slow.
    """
    channel = tf.range(len(volumes))
    shape = (*volumes[0].shape, len(volumes))
    image = tf.zeros(shape, tf.float32)
    for k, volume in enumerate(volumes):
        everywhere = tf.broadcast_to(tf.cast(volume, tf.float32)[..., tf.newaxis], shape)
        image = tf.where(channel == k, everywhere, image)
    return image


def read_patients(
    records: str | Path, manifest: Manifest, subset: int
) -> Iterator[tuple[str, PatientSlabs]]:
    """Each patient of a subset with all slabs: (participant, slabs).

    Raises:
        InputError: a damaged shard, by name.
    """

    def prepare(record):
        slab = parse_slab(record)
        inputs, y_true, _ = model_inputs(slab | {"weight": tf.ones(())})
        return slab["participant"], slab["z_start"], inputs["image"], inputs["nihss"], y_true

    def read():
        files = Slabs(records, manifest, [subset]).files
        try:
            yield from tf.data.TFRecordDataset(files).map(prepare).as_numpy_iterator()
        except tf.errors.OpError as error:
            raise explain_read_error(error, records, manifest) from error

    for name, group in itertools.groupby(read(), key=lambda slab: slab[0]):
        _, starts, images, nihss, truths = zip(*group, strict=True)
        slabs = PatientSlabs(
            starts=[int(start) for start in starts],
            image=np.stack(images),
            nihss=np.stack(nihss),
            y_true=np.stack(truths),
        )
        yield name.decode(), slabs
