"""What fits into this machine's memory: slabs at once in training, and records held."""

import functools
import os
from collections.abc import Sequence
from pathlib import Path

import tensorflow as tf

from data_tools.manifest import Manifest
from data_tools.runtime.errors import InputError
from tf_hypoperfusion.config import ModelConfig
from tf_hypoperfusion.model.attention_unet import build_model

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


def fitting_slabs(bytes_each: int) -> int | None:
    """How many slabs a step may hold at once; None on a GPU, which tells when it is full."""
    free = available_bytes()
    if tf.config.list_physical_devices("GPU") or free is None:
        return None
    return int(FOR_TRAINING * free // bytes_each)


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


def available_bytes(meminfo: Path = Path("/proc/meminfo")) -> int | None:
    """Memory that programs can still get, page cache counted in; None where nobody says."""
    if meminfo.is_file():
        for line in meminfo.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):
        return None
