"""What fits into this machine's memory: slabs at once in training, and records held."""

import functools
from collections.abc import Sequence

import tensorflow as tf

from data_tools.manifest import Manifest
from data_tools.runtime.errors import InputError
from tf_hypoperfusion.config import ModelConfig
from tf_hypoperfusion.model.attention_unet import build_model
from tf_hypoperfusion.training.free_memory import available_bytes
from tf_hypoperfusion.training.input_pipeline import SHUFFLE_RECORDS

# Peak memory of a training step over the sum of all layers' outputs in float32. Measured with the
# paper's network, 1 to 4 slabs: 1.0 to 1.33; in bfloat16 0.7 to 0.9, but near float32's where
# channels are not in sixteens (see fast_layers).
STEP_OVER_OUTPUTS = 1.35
# Shares of the free memory that training and held records may take; the rest is the system's.
FOR_TRAINING, FOR_RECORDS = 0.6, 0.3
FLOAT32_BYTES = 4


@functools.cache
def bytes_per_slab(config: ModelConfig) -> int:
    """Memory that one slab takes in a training step, from the sizes of the layers' outputs."""
    values = 0
    for layer in build_model(config).layers:
        output = layer.output if isinstance(layer.output, dict) else {"": layer.output}
        for tensor in output.values():
            size = 1
            for length in tensor.shape[1:]:
                size *= length
            values += size
    return int(values * FLOAT32_BYTES * STEP_OVER_OUTPUTS)


def fitting_slabs(bytes_each: int, records_bytes: int = 0) -> int | None:
    """How many slabs a step may hold at once; None on a GPU, which tells when it is full.

    Args:
        bytes_each: memory of a slab in a step.
        records_bytes: that the records will take beside it; more than their share is at the
            expense of the step's.
    """
    free = available_bytes()
    if tf.config.list_physical_devices("GPU") or free is None:
        return None
    room = min(FOR_TRAINING * free, (FOR_TRAINING + FOR_RECORDS) * free - records_bytes)
    return max(int(room // bytes_each), 0)


def shuffled_bytes(manifest: Manifest, subsets: Sequence[int]) -> int:
    """Memory of the records that are shuffled at a time, whether all are held or not."""
    size = sum(shard.bytes for k in subsets for shard in manifest.subsets[k].shards)
    slabs = sum(manifest.subsets[k].slabs for k in subsets)
    return size * min(slabs, SHUFFLE_RECORDS) // max(slabs, 1)


def check_cache_word(wanted: str) -> None:
    """Refuse another word than auto, on or off.

    Raises:
        InputError: it is one.
    """
    if wanted not in ("auto", "on", "off"):
        raise InputError(f"cache is {wanted!r}; expected auto, on or off")


def choose_cache(wanted: str, manifest: Manifest, subsets: Sequence[int]) -> bool:
    """Whether to hold these subsets' records in memory.

    Args:
        wanted: ``auto``, ``on`` or ``off``.
        manifest: of the records.
        subsets: their numbers.

    Raises:
        InputError: another word.
    """
    check_cache_word(wanted)
    if wanted != "auto":
        return wanted == "on"
    size = sum(shard.bytes for k in subsets for shard in manifest.subsets[k].shards)
    free = available_bytes()
    return free is not None and size <= FOR_RECORDS * free
