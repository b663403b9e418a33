"""What the network is fed, against the volumes on disk and numpy."""

import json

import numpy as np
import pytest

from data_tools import grid, intensity, records, slabs
from data_tools.cohort import mni_file
from data_tools.errors import InputError
from data_tools.labels import make_labels
from data_tools.volumes import load_volume
from tf_hypoperfusion import input_pipeline

pytestmark = pytest.mark.core


@pytest.fixture(scope="module")
def manifest(records_dir):
    return records.load_manifest(records_dir)


def batches(dataset, count):
    return list(dataset.take(count).as_numpy_iterator())


def fingerprint(batch):
    inputs, y_true, _ = batch
    return [float(image.sum()) for image in inputs["image"]], float(y_true.sum())


def test_evaluation_gives_every_slab_as_it_is_on_disk(mni_cohort, records_dir, manifest):
    dataset, count = input_pipeline.evaluation_dataset(records_dir, manifest, [0], batch_size=3)
    images = np.concatenate([b[0]["image"] for b in batches(dataset, count)])
    truths = np.concatenate([b[1] for b in batches(dataset, count)])
    weights = np.concatenate([b[2] for b in batches(dataset, count)])
    nihss = np.concatenate([b[0]["nihss"] for b in batches(dataset, count)])
    expected = manifest["subsets"][0]["slabs"]
    assert weights.sum() == expected
    assert len(weights) == -(-expected // 3) * 3
    assert not images[weights == 0].any()

    order = [p for shard in (0, 1) for p in manifest["subsets"][0]["participants"][shard::2]]
    rows = {p["participant_id"]: p for p in manifest["patients"]}
    starts = slabs.slab_starts(16)
    for k, participant in enumerate(order):
        dwi, adc, tmax, brain, coverage = (
            load_volume(mni_file(mni_cohort, participant, name)).data
            for name in ("dwi", "adc", "tmax", "desc-brain_mask", "desc-coverage_mask")
        )
        brain, coverage = brain > 0, coverage > 0
        dwi_ratio, adc_ratio = intensity.normalise(dwi, adc, brain)
        label = make_labels(dwi, adc, tmax, brain, coverage, grid.VOXEL_ML)
        side = rows[participant]["side"]
        given = rows[participant]["nihss"]
        assert nihss[4 * k, 0] == pytest.approx(-1 if given is None else given / 21)
        for i, start in enumerate(starts):
            z = slice(start, start + 16)
            image, y_true = images[4 * k + i], truths[4 * k + i]
            inside = image[18:109, 9:118]
            np.testing.assert_allclose(inside[..., 0], dwi_ratio[..., z], rtol=1e-3, atol=1e-6)
            np.testing.assert_allclose(inside[..., 1], adc_ratio[..., z], rtol=1e-3, atol=1e-6)
            np.testing.assert_array_equal(inside[..., 2], (brain & (adc > 0) & (adc < 620))[..., z])
            np.testing.assert_array_equal(inside[..., 3], grid.hemisphere(side)[..., z])
            np.testing.assert_array_equal(y_true[18:109, 9:118, :, 0], label.truth[..., z])
            np.testing.assert_array_equal(y_true[18:109, 9:118, :, 1], label.coverage[..., z])


def test_mirror_moves_everything_against_numpy_on_the_grid():
    rng = np.random.default_rng(0)
    volumes = {
        name: rng.random((91, 109, 16)).astype(np.float32)
        for name in ("dwi", "adc", "adc_mask", "truth", "coverage")
    }
    for side, other in ((0, 1), (1, 0), (2, 2)):
        slab = {name: grid.to_frame(volume) for name, volume in volumes.items()}
        slab |= {"side": np.int64(side), "nihss": np.float32(0.5)}
        mirrored = input_pipeline.mirror_slab(slab)
        for name, volume in volumes.items():
            np.testing.assert_array_equal(mirrored[name], grid.to_frame(volume[::-1]), name)
        assert int(mirrored["side"]) == other
        inputs, _, _ = input_pipeline.model_inputs(mirrored | {"adc_mask": slab["adc_mask"]})
        half = grid.hemisphere(grid.SIDES[side])[::-1]
        channel = inputs["image"][18:109, 9:118, :, 3]
        np.testing.assert_array_equal(channel, half[..., :16])


def test_mirror_twice_is_nothing():
    rng = np.random.default_rng(0)
    slab = {
        name: grid.to_frame(rng.random((91, 109, 16)).astype(np.float32))
        for name in ("dwi", "adc", "adc_mask", "truth", "coverage")
    } | {"side": np.int64(1)}
    twice = input_pipeline.mirror_slab(input_pipeline.mirror_slab(slab))
    for name in slab:
        np.testing.assert_array_equal(twice[name], slab[name])


def test_training_epoch_holds_every_slab_once_and_drops_the_remainder(records_dir, manifest):
    dataset, steps = input_pipeline.training_dataset(
        records_dir, manifest, [2, 3, 4], batch_size=5, seed=1, mirror=False
    )
    slabs_there = input_pipeline.count_slabs(manifest, [2, 3, 4])
    assert steps == slabs_there // 5
    seen = [s for b in batches(dataset, steps) for s in fingerprint(b)[0]]
    assert len(set(seen)) == len(seen) == steps * 5


def test_order_depends_on_seed_and_epoch_alone(records_dir, manifest):
    def epoch(first_epoch, seed=1, skip=0):
        dataset, steps = input_pipeline.training_dataset(
            records_dir, manifest, [2, 3, 4], 4, seed, first_epoch=first_epoch
        )
        return [fingerprint(b) for b in batches(dataset.skip(skip * steps), steps)]

    assert epoch(0) == epoch(0)
    assert epoch(1) == epoch(0, skip=1)  # resumed = uninterrupted
    assert epoch(1) != epoch(0)
    assert epoch(0, seed=2) != epoch(0)


def test_half_of_the_slabs_are_mirrored(records_dir, manifest):
    def sides(mirror):
        dataset, steps = input_pipeline.training_dataset(
            records_dir, manifest, [0, 1, 2, 3, 4], 4, seed=3, mirror=mirror
        )
        images = np.concatenate([b[0]["image"] for b in batches(dataset, 4 * steps)])
        return images[:, 0, 0, 0, 3].mean()  # share of slabs with the left half marked

    assert sides(mirror=False) != sides(mirror=True)
    assert 0.25 < sides(mirror=True) < 0.75


def test_too_few_slabs_for_a_batch(records_dir, manifest):
    with pytest.raises(InputError, match="do not fill one batch of 64"):
        input_pipeline.training_dataset(records_dir, manifest, [2], batch_size=64, seed=1)


def test_manifest_counts_are_those_of_the_files(records_dir, manifest):
    tf = pytest.importorskip("tensorflow")
    for k, subset in enumerate(manifest["subsets"]):
        files = input_pipeline.shard_files(records_dir, manifest, [k])
        assert sum(1 for _ in tf.data.TFRecordDataset(files)) == subset["slabs"]
    assert json.loads((records_dir / "splits.json").read_text())["subsets"] == [
        subset["participants"] for subset in manifest["subsets"]
    ]
