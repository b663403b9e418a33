"""Mirror and random changes against numpy, and what they must not change."""

import dataclasses

import numpy as np
import pytest
from scipy import ndimage

from data_tools import grid
from tf_hypoperfusion.training import augmentation
from tf_hypoperfusion.training.input_pipeline import model_inputs
from tf_hypoperfusion.training.randomisation import NONE, SIDE_NOT_TOLD, Randomisation, parse

pytestmark = pytest.mark.core

MASKS = ("adc_mask", "truth", "coverage", "core")
VOLUMES = ("dwi", "adc", *MASKS)
ADC_MEAN = 900.0


def test_mirror_moves_everything_against_numpy_on_the_grid():
    rng = np.random.default_rng(0)
    volumes = {name: rng.random((91, 109, 16)).astype(np.float32) for name in VOLUMES}
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
        name: grid.to_frame(rng.random((91, 109, 16)).astype(np.float32)) for name in VOLUMES
    } | {"side": np.int64(1)}
    twice = augmentation.mirror_slab(augmentation.mirror_slab(slab))
    for name in slab:
        np.testing.assert_array_equal(twice[name], slab[name])


@pytest.fixture(scope="module")
def slab():
    """An even head with a bright, slow blob, its core, and CSF; only its middle slices covered."""
    x, y, z = np.indices(grid.SLAB_SHAPE)
    head = ((x - 63) / 34) ** 2 + ((y - 63) / 43) ** 2 < 1
    blob = (x - 50) ** 2 + (y - 70) ** 2 < 100
    core = (x - 50) ** 2 + (y - 70) ** 2 < 25
    csf = (x - 75) ** 2 + (y - 60) ** 2 < 50
    adc_um2_per_s = np.where(core, 500.0, np.where(blob, 630.0, ADC_MEAN)) * (head & ~csf)
    covered = head & (z > 1) & (z < 14)
    return {
        "dwi": (head * (1 + blob) * np.where(csf, 0.5, 1)).astype(np.float32),
        "adc": (adc_um2_per_s / ADC_MEAN).astype(np.float32),
        "adc_mask": ((adc_um2_per_s > 0) & (adc_um2_per_s < 620)).astype(np.uint8),
        "truth": (blob & covered).astype(np.uint8),
        "coverage": covered.astype(np.uint8),
        "core": (core & covered).astype(np.uint8),
        "side": np.int64(0),
        "nihss": np.float32(0.5),
        "adc_mean_um2_per_s": np.float32(ADC_MEAN),
        "participant": "sub-1",
    }


def changed(slab, settings, seed=1):
    result = augmentation.randomise_slab(slab, np.array([seed, 1], np.int64), settings)
    return {name: np.asarray(value) for name, value in result.items()}


def differing(one, other):
    return {name for name in one if not np.array_equal(one[name], other[name])}


@pytest.mark.parametrize(
    "settings", [NONE, dataclasses.replace(parse("wide+inputs"), share=0.0)], ids=["none", "share"]
)
def test_nothing_and_a_share_of_0_leave_a_slab_as_it_is(slab, settings):
    for seed in range(4):
        result = changed(slab, settings, seed)
        assert not differing(slab, result)
        assert all(result[name].dtype == np.asarray(slab[name]).dtype for name in slab)


LEARNT = {"truth", "coverage", "core"}
# With amounts that show in every draw.
ALONE = {
    "dwi_bias": ((0.1, 0.1), {"dwi"}),
    "adc_bias": (0.1, {"adc", "adc_mask"}),
    "dwi_gain": (0.1, {"dwi"}),
    "dwi_gamma": (0.1, {"dwi"}),
    "noise": (0.1, {"dwi", "adc", "adc_mask"}),
    "adc_scale": (0.05, {"adc_mask"}),
    "rotation_deg": (5.0, {"dwi", "adc", "adc_mask", *LEARNT}),
    "scale": (0.1, {"dwi", "adc", "adc_mask", *LEARNT}),
    "shift_voxels": (3.0, {"dwi", "adc", "adc_mask", *LEARNT}),
    "label_shift_voxels": (2.0, LEARNT),
    "mask_error": (1.0, {"dwi", "adc", "adc_mask", "coverage"}),
    "drop_dwi": (1.0, {"dwi"}),
    "drop_adc": (1.0, {"adc", "adc_mask"}),
    "drop_nihss": (1.0, {"nihss"}),
    "drop_side": (1.0, {"side"}),
}


@pytest.mark.parametrize("name", ALONE)
def test_each_amount_changes_its_own_and_nothing_else(slab, name):
    amount, expected = ALONE[name]
    settings = Randomisation(**{name: amount})
    found = set()
    for seed in range(3):
        result = changed(slab, settings, seed)
        found |= differing(slab, result)
        assert not differing(result, changed(slab, settings, seed))
        assert all(np.isfinite(result[volume]).all() for volume in ("dwi", "adc"))
        assert not result["dwi"][0].any() and (result["adc"] >= 0).all()
        for mask in MASKS:
            assert result[mask].dtype == np.uint8 and result[mask].max() <= 1
        assert not (result["truth"] > result["coverage"]).any()
        assert not (result["core"] > result["coverage"]).any()
    assert found == expected
    fields = {field.name for field in dataclasses.fields(Randomisation)}
    assert fields == {*ALONE, "share", "blur"}


def test_blur_mixes_slices_and_nothing_else(slab):
    striped = slab | {"dwi": slab["dwi"] * np.where(np.arange(16) == 8, 2, 1).astype(np.float32)}
    settings = Randomisation(blur=0.25)
    assert not differing(slab, changed(slab, settings)) - {"dwi", "adc"}
    np.testing.assert_allclose(changed(slab, settings)["dwi"], slab["dwi"], rtol=1e-6)
    blurred = changed(striped, settings)["dwi"]
    share = blurred[63, 40, 7] - 1  # of the bright neighbour
    assert 0 < share < 0.25
    np.testing.assert_allclose(blurred[63, 40, 6:11], [1, 1 + share, 2 - 2 * share, 1 + share, 1])


def test_all_parts_together_move_masks_with_the_image(slab):
    settings = dataclasses.replace(parse("wide+inputs"), share=1.0, drop_dwi=0.0)
    for seed in range(6):
        result = changed(slab, settings, seed)
        bright = ndimage.center_of_mass(np.clip(result["dwi"] - 1.4, 0, 1))
        for name in ("truth", "core"):
            moved = ndimage.center_of_mass(result[name])
            np.testing.assert_allclose(moved[:2], bright[:2], atol=2)
        inside = ndimage.binary_dilation(result["coverage"] > 0, iterations=4)
        assert not result["dwi"][..., 3:13][~inside[..., 3:13]].any()


def test_turn_size_and_shift_stay_within_their_bounds(slab):
    settings = Randomisation(rotation_deg=6.0, scale=0.05, shift_voxels=2.0)
    centres, sizes = [], []
    for seed in range(40):
        truth = changed(slab, settings, seed)["truth"]
        centres.append(ndimage.center_of_mass(truth)[:2])
        sizes.append(truth.sum() / slab["truth"].sum())
    away = np.abs(np.array(centres) - [50, 70]).max()
    # 15 voxels from the centre: turned by 6 degrees 1.5, scaled 0.7, shifted 2.
    assert 1.5 < away < 2 + 1.5 + 0.7 + 0.3
    assert 1 / 1.05**2 - 0.03 < min(sizes) < 0.96
    assert 1.04 < max(sizes) < 1 / 0.95**2 + 0.03


@pytest.mark.parametrize(
    ("angle_deg", "scale", "shift"),
    [(6.0, 1.0, (0, 0)), (0.0, 1.05, (0, 0)), (-4.0, 0.97, (2, -1))],
)
def test_resampling_is_that_of_scipy(angle_deg, scale, shift):
    import tensorflow as tf

    image = ndimage.gaussian_filter(np.random.default_rng(0).random((96, 112, 1)), (2, 2, 0))
    image = image.astype(np.float32)
    angle = np.deg2rad(angle_deg)
    x, y = augmentation._origin(
        tf.constant(angle, tf.float32), tf.constant(scale), tf.constant(shift, tf.float32)
    )
    matrix = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    centre = np.array([63 - 16, 63.5 - 8])
    expected = ndimage.affine_transform(
        image[..., 0], matrix, centre - matrix @ centre + shift, order=1, mode="constant"
    )
    inner = (slice(12, -12), slice(12, -12))
    np.testing.assert_allclose(
        augmentation._bilinear(tf.constant(image), x, y)[..., 0][inner], expected[inner], atol=1e-5
    )


def test_csf_has_no_adc_that_others_are_mixed_with(slab):
    """Beside CSF tissue keeps its ADC, however it is moved and blurred."""
    settings = Randomisation(rotation_deg=6.0, scale=0.05, shift_voxels=2.0, blur=0.25)
    for seed in range(6):
        result = changed(slab, settings, seed)
        adc_um2_per_s = result["adc"][result["adc"] > 0] * ADC_MEAN
        assert adc_um2_per_s.min() > 499 and adc_um2_per_s.max() < 901
        csf = (result["adc"] == 0) & (result["dwi"] > 0)
        assert 0.8 < csf.sum() / ((slab["adc"] == 0) & (slab["dwi"] > 0)).sum() < 1.3


def test_the_adc_mask_is_that_of_the_scaled_adc(slab):
    rng = np.random.default_rng(1)
    adc_um2_per_s = rng.uniform(500, 2100, grid.SLAB_SHAPE) * (slab["adc"] > 0)
    adc_um2_per_s[adc_um2_per_s >= 2000] = 0
    ratio = (adc_um2_per_s / ADC_MEAN).astype(np.float16).astype(np.float32)
    given = slab | {
        "adc": ratio,
        "adc_mask": ((ratio > 0) & (adc_um2_per_s < 620)).astype(np.uint8),
    }
    scales = []
    for seed in range(8):
        result = changed(given, Randomisation(adc_scale=0.05), seed)
        low = (
            ratio[result["adc_mask"] > 0].max(),
            ratio[(result["adc_mask"] == 0) & (ratio > 0)].min(),
        )
        scale = 620 / ADC_MEAN / np.mean(low)
        scaled = ratio * ADC_MEAN * scale
        near = np.abs(scaled - 620) < 1
        expected = (scaled > 0) & (scaled < 620)
        np.testing.assert_array_equal(result["adc_mask"][~near] > 0, expected[~near])
        fluid = np.abs(scaled - 2000) < 2
        kept = np.where(scaled < 2000, ratio, 0)
        np.testing.assert_array_equal(result["adc"][~fluid], kept[~fluid])
        scales.append(scale)
    assert 0.949 < min(scales) < 0.98 and 1.02 < max(scales) < 1.051


def test_a_bias_field_has_the_sd_that_is_asked_for(slab):
    settings, inside = Randomisation(dwi_bias=(0.1, 0.1)), slab["dwi"] > 0
    logs = np.stack(
        [
            np.log(changed(slab, settings, seed)["dwi"][inside] / slab["dwi"][inside])
            for seed in range(40)
        ]
    )
    assert logs.std() == pytest.approx(0.1, abs=0.012)
    assert abs(logs.mean()) < 0.02
    field = np.zeros(grid.SLAB_SHAPE)
    field[inside] = logs[0]
    steps = np.abs(np.diff(field[40:86, 40:86, 8], axis=0))
    assert steps.max() < 0.1  # smooth


def test_inputs_that_are_left_out_are_exactly_absent_and_nothing_is_learnt_otherwise(slab):
    settings = dataclasses.replace(parse("inputs"), drop_dwi=0.4, drop_adc=0.4)
    seen = {name: 0 for name in ("dwi", "adc", "nihss", "side")}
    for seed in range(60):
        result = changed(slab, settings, seed)
        assert not differing(slab, result) & LEARNT
        no_dwi, no_adc = not result["dwi"].any(), not result["adc"].any()
        assert not (no_dwi and no_adc)
        assert no_adc == (not result["adc_mask"].any())
        for name, absent in (("dwi", no_dwi), ("adc", no_adc)):
            assert absent or not differing({name: slab[name]}, {name: result[name]})
        assert result["nihss"] in (np.float32(0.5), -1)
        assert result["side"] in (0, SIDE_NOT_TOLD)
        seen["dwi"] += no_dwi
        seen["adc"] += no_adc
        seen["nihss"] += result["nihss"] == -1
        seen["side"] += result["side"] == SIDE_NOT_TOLD
    assert 12 < seen["dwi"] < 36 and 12 < seen["adc"] < 36
    assert 5 < seen["nihss"] < 27 and 2 < seen["side"] < 19


def test_a_mask_errs_at_the_rim_alone(slab):
    settings, brain = Randomisation(mask_error=1.0), slab["dwi"] > 0
    inner = ndimage.binary_erosion(brain, np.ones((3, 3, 1)))
    outer = ndimage.binary_dilation(brain, np.ones((3, 3, 1)))
    result = changed(slab, settings)
    after = result["dwi"] > 0
    assert not (inner & ~after).any() and not (after & ~outer).any()
    assert (brain & ~after).any() and (after & ~brain).any()
    assert not (result["coverage"] > after).any()
    won = after & ~brain & (slab["coverage"].any(axis=(0, 1)))
    assert result["coverage"][won].all() and not result["truth"][won].any()
