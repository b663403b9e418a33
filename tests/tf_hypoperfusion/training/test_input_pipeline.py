"""What the network is fed, against the volumes on disk and numpy."""

import json
from pathlib import Path

import numpy as np
import pytest

from data_tools import grid, intensity, records, slabs
from data_tools.cohort import mni_file
from data_tools.labels import make_labels
from data_tools.runtime.errors import InputError
from data_tools.volumes import load_mask, load_volume
from tf_hypoperfusion.training import randomisation
from tf_hypoperfusion.training.input_pipeline import (
    Share,
    Slabs,
    evaluation_dataset,
    read_patients,
    training_dataset,
)

pytestmark = pytest.mark.core


@pytest.fixture(scope="module")
def manifest(records_dir):
    return records.load_manifest(records_dir)


def batches(dataset, count):
    return list(dataset.take(count).as_numpy_iterator())


def fingerprint(batch):
    inputs, y_true, *_ = batch
    return [float(image.sum()) for image in inputs["image"]], float(y_true.sum())


def test_evaluation_gives_every_slab_as_it_is_on_disk(mni_cohort, records_dir, manifest):
    held = Slabs(records_dir, manifest, [0])
    dataset, count = evaluation_dataset(held, Share(3))
    images = np.concatenate([b[0]["image"] for b in batches(dataset, count)])
    truths = np.concatenate([b[1] for b in batches(dataset, count)])
    weights = np.concatenate([b[2] for b in batches(dataset, count)])
    nihss = np.concatenate([b[0]["nihss"] for b in batches(dataset, count)])
    expected = manifest.subsets[0].slabs
    assert weights.sum() == expected
    assert len(weights) == -(-expected // 3) * 3
    once = np.concatenate([b[3] for b in batches(dataset, count)])
    patients = len(manifest.subsets[0].participants)
    assert once.sum() == 60 * patients  # each slice of the grid once
    assert sorted(set(once[weights > 0].ravel())) == [0.5, 1]  # four slabs of 16
    assert not images[weights == 0][..., :3].any()  # the fourth channel is a side, whichever
    assert not truths[weights == 0].any()

    order = [p for shard in (0, 1) for p in manifest.subsets[0].participants[shard::2]]
    rows = manifest.rows()
    starts = slabs.slab_starts(16)
    for k, participant in enumerate(order):
        dwi, adc, tmax = (
            load_volume(mni_file(mni_cohort, participant, name)).data
            for name in ("dwi", "adc", "tmax")
        )
        brain, coverage, core = (
            load_mask(mni_file(mni_cohort, participant, f"desc-{name}_mask")).data > 0
            for name in ("brain", "coverage", "core")
        )
        dwi_ratio, adc_ratio = intensity.normalise(dwi, adc, brain)
        label = make_labels(dwi, adc, tmax, brain=brain, coverage=coverage, voxel_ml=grid.VOXEL_ML)
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
            learnt = (core & coverage)[..., z]
            np.testing.assert_array_equal(y_true[18:109, 9:118, :, 2], learnt)


@pytest.fixture(scope="module")
def slabs_of(records_dir, manifest):
    def make(subsets=(2, 3, 4), cached=False):
        return Slabs(records_dir, manifest, subsets, cached)

    return make


def epoch_of(slabs, epoch, count=None, **options):
    """Fingerprints of the batches of one epoch (4 slabs each)."""
    dataset, steps = training_dataset(slabs, 4, first_epoch=epoch, **{"seed": 1, **options})
    return [fingerprint(b) for b in batches(dataset, count or steps)]


def test_training_epoch_holds_every_slab_once_and_drops_the_remainder(slabs_of):
    dataset, steps = training_dataset(slabs_of(), 5, seed=1, mirror=False)
    assert steps == slabs_of().total // 5
    seen = [s for b in batches(dataset, steps) for s in fingerprint(b)[0]]
    assert len(set(seen)) == len(seen) == steps * 5


def test_order_depends_on_seed_and_epoch_alone(slabs_of):
    slabs = slabs_of()
    first = epoch_of(slabs, 0)
    assert first == epoch_of(slabs, 0)
    assert epoch_of(slabs, 1) == epoch_of(slabs, 0, 2 * len(first))[len(first) :]  # as resumed
    assert epoch_of(slabs, 1) != first
    assert epoch_of(slabs, 0, seed=2) != first


def test_a_start_within_an_epoch_goes_on_where_it_was(slabs_of):
    slabs = slabs_of()
    whole = epoch_of(slabs, 1, 5)
    assert epoch_of(slabs, 1, 3, first_step=2) == whole[2:]


def test_random_changes_depend_on_seed_epoch_and_position_alone(slabs_of):
    slabs, changes = slabs_of(), {"changes": randomisation.parse("wide+inputs")}
    whole, plain = epoch_of(slabs, 1, 3, **changes), epoch_of(slabs, 1, 3)
    assert epoch_of(slabs, 1, 2, first_step=1, **changes) == whole[1:]  # as resumed
    assert whole != plain
    as_they_are = randomisation.Randomisation(share=0.0, noise=0.1, drop_dwi=1.0)
    assert epoch_of(slabs, 1, 3, changes=as_they_are) == plain


def test_cached_records_come_in_the_same_order(slabs_of):
    held = slabs_of(cached=True)
    assert len(held.held) == held.total
    changes = {"changes": randomisation.parse("wide+inputs")}
    assert epoch_of(held, 3, **changes) == epoch_of(slabs_of(), 3, **changes)
    share = Share(3)
    ours, theirs = (
        [fingerprint(b) for b in batches(*evaluation_dataset(slabs, share))]
        for slabs in (held, slabs_of())
    )
    assert ours == theirs


def test_workers_share_every_batch_without_gap_or_overlap(slabs_of):
    """Four devices on two processes, one slab at a time: what each gets, put together again."""
    whole, steps = training_dataset(slabs_of(), 8, seed=1)
    parts = [
        batches(training_dataset(slabs_of(), 8, 1, share=Share(1, 4, worker, 2))[0], 4 * steps)
        for worker in (0, 1)
    ]
    for k, batch in enumerate(batches(whole, steps)):
        expected = fingerprint(batch)[0]
        # Position j of a batch goes to device j % 4, and so to process (j % 4) // 2.
        for j in range(8):
            mine = parts[(j % 4) // 2][4 * k + 2 * (j // 4) + j % 2]
            assert fingerprint(mine)[0] == [expected[j]]


def test_workers_share_an_evaluation(slabs_of):
    slabs = slabs_of([0])
    sums = []
    for worker in (0, 1):
        dataset, count = evaluation_dataset(slabs, Share(3, 2, worker, 2))
        for inputs, _, weight, _ in batches(dataset, count):
            sums += [float(i.sum()) for i in inputs["image"][weight > 0]]
    alone = batches(*evaluation_dataset(slabs, Share(1)))
    assert sorted(sums) == sorted(float(b[0]["image"].sum()) for b in alone)
    assert len(sums) == slabs.total


def test_half_of_the_slabs_are_mirrored(slabs_of):
    def sides(mirror):
        dataset, steps = training_dataset(slabs_of(range(5)), 4, seed=3, mirror=mirror)
        images = np.concatenate([b[0]["image"] for b in batches(dataset, 4 * steps)])
        return images[:, 0, 0, 0, 3].mean()  # share of slabs with the left half marked

    assert sides(mirror=False) != sides(mirror=True)
    assert 0.25 < sides(mirror=True) < 0.75


def test_too_few_slabs_for_a_batch(slabs_of):
    with pytest.raises(InputError, match="do not fill one batch of 64"):
        training_dataset(slabs_of([2]), batch_size=64, seed=1)


@pytest.mark.parametrize("training", [True, False])
def test_a_shard_that_loses_a_record_while_it_is_read_is_an_error(
    records_dir, manifest, tmp_path, training
):
    """Cut at a record's end TFRecord sees nothing wrong; the count of the manifest does."""
    import shutil

    import tensorflow as tf

    shutil.copytree(records_dir, tmp_path / "records")
    slabs = Slabs(tmp_path / "records", manifest, [2])
    (file,) = {str(f) for f in slabs.files if "00000" in f}
    content = Path(file).read_bytes()
    record = len(content) // slabs.counts[slabs.files.index(file)]
    Path(file).write_bytes(content[:-record])
    dataset, count = (
        training_dataset(slabs, 2, 1) if training else evaluation_dataset(slabs, Share(2))
    )
    with pytest.raises(tf.errors.FailedPreconditionError) as caught:
        batches(dataset, 2 * count)
    explained = records.explain_read_error(caught.value, tmp_path / "records", manifest)
    assert "subset-2/slabs-00000" in str(explained)


def test_an_empty_subset_is_refused(records_dir, manifest):
    with pytest.raises(InputError, match="hold no slab; expected at least one patient"):
        Slabs(records_dir, manifest, [])


def test_patients_come_back_whole(records_dir, manifest):
    found = dict(read_patients(records_dir, manifest, 0))
    assert set(found) == set(manifest.subsets[0].participants)
    for arrays in found.values():
        assert arrays["starts"] == [0, 16, 32, 44]
        assert arrays["image"].shape == (4, 128, 128, 16, 4)
        assert arrays["nihss"].shape == (4, 1)
        assert arrays["y_true"].shape == (4, 128, 128, 16, 3)


def test_manifest_counts_are_those_of_the_files(records_dir, manifest, slabs_of):
    tf = pytest.importorskip("tensorflow")
    for k, subset in enumerate(manifest.subsets):
        assert sum(1 for _ in tf.data.TFRecordDataset(slabs_of([k]).files)) == subset.slabs
    assert json.loads((records_dir / "splits.json").read_text())["subsets"] == [
        list(subset.participants) for subset in manifest.subsets
    ]
