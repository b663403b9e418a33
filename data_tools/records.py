"""TFRecords of slabs: schema, writer, parser, manifest. The one TensorFlow module of data_tools.

One record is one slab of 128 x 128 x 16 voxels. Every field is required and its size is checked
when it is read; the manifest holds counts, so that nothing is guessed from a first shard.

Layout: ``manifest.json``, ``splits.json``, ``subset-{k}/slabs-00000-of-0000N.tfrecord``.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data_tools.grid import SIDES, SLAB_SHAPE
from data_tools.manifest import SCHEMA_VERSION, Manifest, Shard
from data_tools.runtime import tensorflow_start
from data_tools.runtime.atomic import sha256
from data_tools.runtime.errors import InputError

tensorflow_start.prepare()
import tensorflow as tf  # noqa: E402

MANIFEST, SPLITS = "manifest.json", "splits.json"

_SCALAR = {
    "schema_version": tf.int64,
    "z_start": tf.int64,
    "side": tf.int64,
    "nihss": tf.float32,
    "adc_mean_um2_per_s": tf.float32,
}
MASKS = ("adc_mask", "truth", "coverage", "core")
_BYTES = ("participant", "dwi", "adc", *MASKS)
_PACKED_SHAPE = (*SLAB_SHAPE[:2], SLAB_SHAPE[2] // 8)
# No default anywhere: a record with a missing field is an error and not a slab of zeros.
FEATURES = {name: tf.io.FixedLenFeature([], dtype) for name, dtype in _SCALAR.items()} | {
    name: tf.io.FixedLenFeature([], tf.string) for name in _BYTES
}


def encode_slab(
    participant: str,
    z_start: int,
    *,
    side: str,
    nihss: float,
    adc_mean_um2_per_s: float,
    dwi: NDArray,
    adc: NDArray,
    adc_mask: NDArray[np.bool_],
    truth: NDArray[np.bool_],
    coverage: NDArray[np.bool_],
    core: NDArray[np.bool_],
) -> bytes:
    """One slab as a serialised ``tf.train.Example``; the same input gives the same bytes.

    Args:
        participant: patient's label.
        z_start: first slice in the volume.
        side: one of :data:`data_tools.grid.SIDES`.
        nihss: NIHSS / 21, or -1 if missing.
        adc_mean_um2_per_s: by which the ADC was divided.
        dwi: (128, 128, 16), ratio to the parenchymal mean; kept as float16.
        adc: the same of the ADC.
        adc_mask: bool (128, 128, 16); kept as packed bits.
        truth: the same: what the network learns.
        coverage: the same: the voxels that count.
        core: the same: what a core output learns.

    Raises:
        ValueError: on another shape.
    """

    def raw(array: NDArray) -> bytes:
        if array.shape != SLAB_SHAPE:
            raise ValueError(f"slab has shape {array.shape}; expected {SLAB_SHAPE}")
        if array.dtype == np.bool_:
            return np.packbits(array).tobytes()
        return array.astype("<f2").tobytes()

    values: dict[str, bytes | float | int] = {
        "schema_version": SCHEMA_VERSION,
        "z_start": z_start,
        "side": SIDES.index(side),
        "nihss": nihss,
        "adc_mean_um2_per_s": adc_mean_um2_per_s,
        "participant": participant.encode(),
        "dwi": raw(dwi),
        "adc": raw(adc),
        "adc_mask": raw(adc_mask),
        "truth": raw(truth),
        "coverage": raw(coverage),
        "core": raw(core),
    }
    features = {}
    for name, value in values.items():
        if isinstance(value, bytes):
            features[name] = tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
        elif isinstance(value, float):
            features[name] = tf.train.Feature(float_list=tf.train.FloatList(value=[value]))
        else:
            features[name] = tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))
    example = tf.train.Example(features=tf.train.Features(feature=features))
    return example.SerializeToString(deterministic=True)


def parse_slab(record: tf.Tensor) -> dict[str, tf.Tensor]:
    """A serialised record -> tensors; for use inside ``tf.data``.

    Returns:
        ``participant`` string, ``z_start`` int64, ``side`` int64 (index into SIDES), ``nihss`` and
        ``adc_mean_um2_per_s`` float32, ``dwi`` and ``adc`` float32 (128, 128, 16), and
        :data:`MASKS`, uint8 0/1 (128, 128, 16).

    Raises:
        tf.errors.InvalidArgumentError: field missing, wrong size, another schema version.
    """
    return unpack_slab(parse_packed(record))


def parse_packed(record: tf.Tensor) -> dict[str, tf.Tensor]:
    """As :func:`parse_slab`, but as the record keeps it, in a fifth of the space.

    Returns:
        ``dwi`` and ``adc`` uint16 (128, 128, 16), the bits of a float16 (of which oneDNN warns);
        :data:`MASKS` uint8 (128, 128, 2), the bits of eight slices in each; the rest as parse_slab
        has it.
    """
    raw = tf.io.parse_single_example(record, FEATURES)
    check = tf.debugging.assert_equal(
        raw["schema_version"], tf.constant(SCHEMA_VERSION, tf.int64), "record's schema version"
    )
    with tf.control_dependencies([check]):
        slab = {
            name: raw[name]
            for name in ("participant", "z_start", "side", "nihss", "adc_mean_um2_per_s")
        }
    for name in ("dwi", "adc"):
        slab[name] = tf.reshape(tf.io.decode_raw(raw[name], tf.uint16), SLAB_SHAPE)
    for name in MASKS:
        slab[name] = tf.reshape(tf.io.decode_raw(raw[name], tf.uint8), _PACKED_SHAPE)
    return slab


def unpack_slab(slab: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """A packed slab, or a batch of them -> what :func:`parse_slab` returns.

    Written so that XLA can make one loop of it.
    """
    unpacked = dict(slab)
    for name in ("dwi", "adc"):
        unpacked[name] = tf.cast(tf.bitcast(slab[name], tf.float16), tf.float32)
    shape = slab["dwi"].shape
    first_bit_first = tf.constant(np.tile(np.arange(7, -1, -1, dtype=np.int32), 2))
    for name in MASKS:
        octets = tf.cast(slab[name], tf.int32)[..., tf.newaxis]
        octets = tf.reshape(tf.broadcast_to(octets, (*slab[name].shape, 8)), shape)
        bits = tf.bitwise.right_shift(octets, tf.broadcast_to(first_bit_first, shape))
        unpacked[name] = tf.cast(tf.bitwise.bitwise_and(bits, 1), tf.uint8)
    return unpacked


def write_shard(folder: str | os.PathLike, file: str, records: Iterable[bytes]) -> Shard:
    """Write one shard.

    Args:
        folder: of the records.
        file: the shard's path inside it.
        records: of :func:`encode_slab`.
    """
    path = Path(folder) / file
    path.parent.mkdir(parents=True, exist_ok=True)
    count = 0
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in records:
            writer.write(record)
            count += 1
    return Shard(file=file, slabs=count, bytes=path.stat().st_size, sha256=sha256(path))


def join_shards(folder: str | os.PathLike, file: str, parts: Sequence[Shard]) -> Shard:
    """One shard of several, whose files are gone afterwards. Records follow one another as bytes.

    Args:
        folder: of the records.
        file: the new shard's path inside it.
        parts: in the order in which their records are to stand.
    """
    path = Path(folder) / file
    path.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    with path.open("wb") as joined:
        for part in parts:
            source = Path(folder) / part.file
            with source.open("rb") as stream:
                while block := stream.read(1 << 20):
                    digest.update(block)
                    joined.write(block)
            source.unlink()
    return Shard(
        file=file,
        slabs=sum(part.slabs for part in parts),
        bytes=path.stat().st_size,
        sha256=digest.hexdigest(),
    )


def load_manifest(records: str | os.PathLike) -> Manifest:
    """Read ``manifest.json`` and check that every shard is there with its right size.

    Raises:
        InputError: no records, another schema version, a missing or shortened shard.
    """
    path = Path(records) / MANIFEST
    if not path.is_file():
        raise InputError(
            f"{path}: no such file, so there are no records to read. Make them from raw images:\n"
            f"  python -m data_tools.preprocess --cohort=RAW --out=MNI\n"
            f"  python -m data_tools.build_records --cohort=MNI --out={records}\n"
            "or from simulated patients:\n"
            "  python -m data_tools.simulate --out=MNI --patients=30 --seed=1 --space=mni\n"
            f"  python -m data_tools.build_records --cohort=MNI --out={records}"
        )
    try:
        manifest = Manifest.from_json(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path}: not a readable manifest ({error}); build the records again"
        ) from error
    if manifest.schema_version != SCHEMA_VERSION:
        raise InputError(
            f"{path}: the records have schema version {manifest.schema_version}, this software "
            f"reads version {SCHEMA_VERSION}; build them again with "
            "python -m data_tools.build_records"
        )
    for shard in manifest.shards:
        file = Path(records) / shard.file
        size = file.stat().st_size if file.is_file() else None
        if size != shard.bytes:
            found = "is missing" if size is None else f"has {size} bytes"
            raise InputError(
                f"shard {file} {found}; the manifest says {shard.bytes} bytes. Copy it again, "
                "or build the records again with --overwrite"
            )
    return manifest


def explain_read_error(
    error: Exception, records: str | os.PathLike, manifest: Manifest
) -> Exception:
    """Turn TensorFlow's error about a record into one that names the shard and says what to do.

    Errors that are not about the data (no memory, no disk) are given back as they are.
    """
    about_data = (
        tf.errors.DataLossError,
        tf.errors.InvalidArgumentError,
        tf.errors.FailedPreconditionError,  # fewer records than the manifest says
        tf.errors.NotFoundError,
    )
    if not isinstance(error, about_data):
        return error
    damaged = damaged_shards(records, manifest)
    if damaged:
        return damage(records, damaged)
    if "schema version" in str(error) or "Feature: " in str(error) or "reshape" in str(error):
        return InputError(
            f"the records in {records} do not fit this software (schema version "
            f"{SCHEMA_VERSION}), though their checksums do: {str(error).splitlines()[0]}. Build "
            "them again with python -m data_tools.build_records --overwrite."
        )
    return error


def damage(records: str | os.PathLike, damaged: Sequence[str]) -> InputError:
    """The error of shards that are not those of the manifest."""
    return InputError(
        f"damaged records in {records}: {', '.join(damaged)} (checksum differs from the "
        "manifest). Copy them again, or build the records again with --overwrite. A training that "
        "was begun goes on from its last saved state."
    )


def damaged_shards(
    records: str | os.PathLike, manifest: Manifest, subsets: Iterable[int] | None = None
) -> list[str]:
    """Shards that are gone or whose checksum is not the manifest's; reads every byte.

    Args:
        records: their folder.
        manifest: of the same folder.
        subsets: look at these only; None is all.
    """
    wanted = range(len(manifest.subsets)) if subsets is None else subsets
    return [
        shard.file
        for k in wanted
        for shard in manifest.subsets[k].shards
        if not (Path(records) / shard.file).is_file()
        or sha256(Path(records) / shard.file) != shard.sha256
    ]
