"""Mirror and augmentation against numpy, and what they must not change."""

import numpy as np
import pytest
from scipy import ndimage

from data_tools import grid
from tf_hypoperfusion.training import augmentation
from tf_hypoperfusion.training.input_pipeline import model_inputs

pytestmark = pytest.mark.core

VOLUMES = ("dwi", "adc", "adc_mask", "truth", "coverage")


def test_mirror_moves_everything_against_numpy_on_the_grid():
    rng = np.random.default_rng(0)
    volumes = {
        name: rng.random((91, 109, 16)).astype(np.float32)
        for name in ("dwi", "adc", "adc_mask", "truth", "coverage")
    }
    for side, other in ((0, 1), (1, 0), (2, 2)):
        slab = {name: grid.to_frame(volume) for name, volume in volumes.items()}
        slab |= {"side": np.int64(side), "nihss": np.float32(0.5), "weight": np.float32(1)}
        mirrored = augmentation.mirror_slab(slab)
        for name, volume in volumes.items():
            np.testing.assert_array_equal(mirrored[name], grid.to_frame(volume[::-1]), name)
        assert int(mirrored["side"]) == other
        inputs, _, _ = model_inputs(mirrored | {"adc_mask": slab["adc_mask"]})
        half = grid.hemisphere(grid.SIDES[side])[::-1]
        channel = inputs["image"][18:109, 9:118, :, 3]
        np.testing.assert_array_equal(channel, half[..., :16])


def test_mirror_twice_is_nothing():
    rng = np.random.default_rng(0)
    slab = {
        name: grid.to_frame(rng.random((91, 109, 16)).astype(np.float32))
        for name in ("dwi", "adc", "adc_mask", "truth", "coverage")
    } | {"side": np.int64(1)}
    twice = augmentation.mirror_slab(augmentation.mirror_slab(slab))
    for name in slab:
        np.testing.assert_array_equal(twice[name], slab[name])


@pytest.fixture
def slab():
    """A smooth head with a blob in it, its centre at row 50, column 70."""
    x, y, _ = np.indices(grid.SLAB_SHAPE)
    head = ((x - 63) / 45) ** 2 + ((y - 63) / 54) ** 2 < 1
    blob = (x - 50) ** 2 + (y - 70) ** 2 < 100
    return {
        "dwi": (head * (1 + blob)).astype(np.float32),
        "adc": (head * (1 - 0.4 * blob)).astype(np.float32),
        "adc_mask": (blob & head).astype(np.uint8),
        "truth": blob.astype(np.uint8),
        "coverage": head.astype(np.uint8),
        "side": np.int64(0),
        "nihss": np.float32(0.5),
        "participant": "sub-1",
    }


def changed(slab, seed):
    result = augmentation.augment_slab(slab, np.array([seed, 1], np.int64))
    return {name: np.asarray(value) for name, value in result.items()}


def test_the_same_seed_gives_the_same_slab_and_another_another(slab):
    one, again, other = changed(slab, 1), changed(slab, 1), changed(slab, 2)
    for name in VOLUMES:
        np.testing.assert_array_equal(one[name], again[name])
        assert (one[name] != other[name]).any(), name


def test_masks_stay_masks_and_follow_the_image(slab):
    for seed in range(8):
        result = changed(slab, seed)
        for name in ("adc_mask", "truth", "coverage"):
            assert result[name].dtype == np.uint8
            assert set(np.unique(result[name])) == {0, 1}
        moved = ndimage.center_of_mass(result["truth"])
        bright = ndimage.center_of_mass(np.clip(result["dwi"] - 1.4, 0, 1))
        np.testing.assert_allclose(moved, bright, atol=1.5)
        assert not result["dwi"][
            ~ndimage.binary_dilation(result["coverage"] > 0, iterations=2)
        ].any()
        for name in ("side", "nihss", "participant"):
            assert result[name] == slab[name]


def test_changes_stay_within_their_bounds(slab):
    """The blob's centre and size over many draws, and the contrast."""
    centres, sizes, gains = [], [], []
    for seed in range(40):
        result = changed(slab, seed)
        centres.append(ndimage.center_of_mass(result["truth"])[:2])
        sizes.append(result["truth"].sum() / slab["truth"].sum())
        head = result["coverage"] > 0
        gains.append(np.median(result["dwi"][head & (result["truth"] == 0)]))
    away = np.abs(np.array(centres) - [50, 70]).max()
    # 15 voxels from the centre: turned by 8 degrees 2.1, scaled 1.2, shifted 3.
    assert 1.5 < away < 3 + 2.1 + 1.2 + 0.5
    assert 1 / 1.08**2 - 0.05 < min(sizes) < 0.95
    assert 1.05 < max(sizes) < 1 / 0.92**2 + 0.05
    assert 0.84 < min(gains) < 0.95
    assert 1.05 < max(gains) < 1.16


def affine(slab, *draws):
    import tensorflow as tf

    return augmentation._affine(slab, tf.constant(draws, tf.float32))


def test_no_rotation_scale_or_shift_is_no_change(slab):
    """The transform's own centre and axes: draws of 0 give the slab back, one shift moves it."""
    same = affine(slab, 0, 0, 0, 0)
    for name in VOLUMES:
        np.testing.assert_allclose(same[name], slab[name], atol=1e-5)
    shifted = affine(slab, 0, 0, 0, 1 / 3)  # a third of 3 voxels
    np.testing.assert_allclose(shifted["dwi"][:-1], slab["dwi"][1:], atol=1e-4)
    # Ten voxels right of the centre, turned by 8 degrees about it.
    turned = affine(slab, 1, 0, 0, 0)
    row, column, _ = ndimage.center_of_mass(np.asarray(turned["truth"]))
    before, after = np.array([50 - 63.5, 70 - 63.5]), np.array([row - 63.5, column - 63.5])
    cosine = before @ after / np.linalg.norm(before) / np.linalg.norm(after)
    assert np.degrees(np.arccos(cosine)) == pytest.approx(8, abs=0.5)
