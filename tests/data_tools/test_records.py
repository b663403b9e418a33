"""One slab as a record: what goes in comes out, and damage is an error and never a zero."""

import json
import shutil

import numpy as np
import pytest
import tensorflow as tf

from data_tools import records
from data_tools.grid import SLAB_SHAPE
from data_tools.runtime.errors import InputError

pytestmark = pytest.mark.core


def slab(**changes):
    rng = np.random.default_rng(0)
    return {
        "participant": "sub-0001",
        "z_start": 12,
        "side": "right",
        "nihss": 14 / 21,
        "adc_mean_um2_per_s": 870.5,
        "dwi": rng.random(SLAB_SHAPE, np.float32) * 3,
        "adc": rng.random(SLAB_SHAPE, np.float32) * 2,
        "adc_mask": rng.random(SLAB_SHAPE) > 0.9,
        "truth": rng.random(SLAB_SHAPE) > 0.7,
        "coverage": rng.random(SLAB_SHAPE) > 0.2,
        "core": rng.random(SLAB_SHAPE) > 0.8,
    } | changes


def changed(**features):
    """A record with some features replaced, or taken out (None)."""
    example = tf.train.Example.FromString(records.encode_slab(**slab()))
    for name, value in features.items():
        del example.features.feature[name]
        if isinstance(value, bytes):
            example.features.feature[name].bytes_list.value.append(value)
        elif value is not None:
            example.features.feature[name].int64_list.value.append(value)
    return example.SerializeToString()


@pytest.fixture
def copied(records_dir, tmp_path):
    """Records that a test may damage, with the manifest's first shard."""
    folder = shutil.copytree(records_dir, tmp_path / "records")
    first = records.load_manifest(folder).shards[0]
    return folder, folder / first.file


def test_what_is_encoded_is_parsed_again():
    given = slab()
    parsed = {name: value.numpy() for name, value in parse(records.encode_slab(**given)).items()}
    assert parsed["participant"] == b"sub-0001"
    assert (parsed["z_start"], parsed["side"]) == (12, 1)  # left, right, bilateral
    assert parsed["nihss"] == pytest.approx(2 / 3)
    assert parsed["adc_mean_um2_per_s"] == 870.5
    for name in records.MASKS:
        np.testing.assert_array_equal(parsed[name], given[name])
        assert parsed[name].dtype == np.uint8
    for name in ("dwi", "adc"):
        assert parsed[name].dtype == np.float32
        # float16 has 11 bits: half a unit in the last place is 2**-11 of the value.
        np.testing.assert_allclose(parsed[name], given[name], rtol=2**-11, atol=1e-7)


def parse(record):
    return records.parse_slab(tf.constant(record))


def test_parsing_works_inside_a_dataset():
    data = tf.data.Dataset.from_tensors(records.encode_slab(**slab())).map(records.parse_slab)
    (parsed,) = data
    assert {name: tuple(parsed[name].shape) for name in ("dwi", "truth")} == {
        "dwi": SLAB_SHAPE,
        "truth": SLAB_SHAPE,
    }


def test_same_slab_same_bytes():
    assert records.encode_slab(**slab()) == records.encode_slab(**slab())


@pytest.mark.parametrize(
    "change",
    [{"dwi": np.zeros((128, 128, 15), np.float32)}, {"truth": np.zeros((91, 109, 16), bool)}],
)
def test_another_shape_is_not_written(change):
    with pytest.raises(ValueError, match=r"expected \(128, 128, 16\)"):
        records.encode_slab(**slab(**change))


@pytest.mark.parametrize("name", sorted(records.FEATURES))
def test_every_field_is_required(name):
    with pytest.raises(tf.errors.InvalidArgumentError, match=f"{name}.*required"):
        parse(changed(**{name: None}))


@pytest.mark.parametrize("eager", [True, False])
def test_another_schema_version_is_an_error(eager):
    record = changed(schema_version=records.SCHEMA_VERSION + 1)
    function = records.parse_slab if eager else tf.function(records.parse_slab)
    with pytest.raises(tf.errors.InvalidArgumentError, match="schema version"):
        function(tf.constant(record))


@pytest.mark.parametrize(("name", "size"), [("dwi", 1000), ("adc", 4), ("truth", 32767)])
def test_a_field_of_another_size_is_an_error(name, size):
    with pytest.raises(tf.errors.InvalidArgumentError):
        parse(changed(**{name: bytes(size)}))


def test_shards_are_counted_and_checked(tmp_path):
    content = [records.encode_slab(**slab(z_start=z)) for z in (0, 4)]
    path = tmp_path / "new" / "a.tfrecord"
    shard = records.write_shard(tmp_path, "new/a.tfrecord", content)
    assert (shard.file, shard.slabs) == ("new/a.tfrecord", 2)
    assert shard.bytes == path.stat().st_size
    read = [record.numpy() for record in tf.data.TFRecordDataset(str(path))]
    assert read == content


def test_undamaged_records_pass(records_dir):
    manifest = records.load_manifest(records_dir)
    assert records.damaged_shards(records_dir, manifest) == []
    on_disk = sorted(str(p.relative_to(records_dir)) for p in records_dir.glob("subset-*/*"))
    assert sorted(shard.file for shard in manifest.shards) == on_disk


def test_a_flipped_byte_is_found_by_both_checksums(copied):
    folder, shard = copied
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(bytes(content))
    manifest = records.load_manifest(folder)  # the size is right
    assert records.damaged_shards(folder, manifest) == [str(shard.relative_to(folder))]
    with pytest.raises(tf.errors.DataLossError):
        list(tf.data.TFRecordDataset(str(shard)))


def test_a_truncated_shard_is_named(copied):
    folder, shard = copied
    size = shard.stat().st_size
    shard.write_bytes(shard.read_bytes()[:-10])
    with pytest.raises(InputError, match=f"has {size - 10} bytes; the manifest says {size}") as e:
        records.load_manifest(folder)
    assert str(shard) in str(e.value)


def test_a_missing_shard_is_named(copied):
    folder, shard = copied
    shard.unlink()
    with pytest.raises(InputError, match=f"{shard.name} is missing"):
        records.load_manifest(folder)


def test_no_records_says_how_to_make_them(tmp_path):
    with pytest.raises(InputError, match="no such file") as caught:
        records.load_manifest(tmp_path / "records")
    for module in ("preprocess", "build_records", "simulate"):
        assert f"python -m data_tools.{module}" in str(caught.value)


@pytest.mark.parametrize("content", ["{", "[]", "{}", "\xff"])
def test_an_unreadable_manifest_is_refused(tmp_path, content):
    (tmp_path / "manifest.json").write_text(content, encoding="latin-1")
    with pytest.raises(InputError, match="not a readable manifest"):
        records.load_manifest(tmp_path)


def test_records_of_another_version_are_refused(copied):
    folder, _ = copied
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"schema_version": 1}))
    said = "schema version 1, this software reads version 2; build them again"
    with pytest.raises(InputError, match=said):
        records.load_manifest(folder)
