"""Windows out, windows in: against a predictor that can be computed by hand."""

import numpy as np
import pytest

from data_tools import grid
from tf_hypoperfusion.inference.sliding_window import (
    SlabModel,
    VolumeAnswer,
    mean,
    mean_core,
    model_image,
    predict_volume,
    together,
)

pytestmark = pytest.mark.quick


@pytest.fixture
def image():
    return np.random.default_rng(0).random((128, 128, 60, 4), dtype=np.float32)


BRAIN = np.ones(grid.GRID_SHAPE, bool)


@pytest.mark.parametrize("stride", [1, 4, 7, 16])
def test_identity_predictor_gives_the_channel_back(image, stride):
    (probability,) = predict_volume(
        lambda x, _: x[..., :1], image, nihss=0.5, stride=stride, tissue=BRAIN
    ).networks
    np.testing.assert_array_equal(probability, grid.from_frame(image[..., 0]))


def test_overlaps_are_averaged(image):
    calls = []

    def predictor(windows, nihss):
        calls.append(nihss)
        level = (len(calls) - 1) / 2  # 0, 0.5, 1: same answer within a call of 4 windows
        return np.full((*windows.shape[:4], 1), level, np.float32)

    (probability,) = predict_volume(predictor, image, nihss=0.25, stride=4, tissue=BRAIN).networks
    # 12 windows start at 0, 4 .. 44, four a call; slice 16 lies in the windows of starts 4 .. 16
    assert probability[0, 0, 16] == pytest.approx((0 + 0 + 0 + 0.5) / 4)
    assert probability[0, 0, 0] == 0
    assert probability[0, 0, 59] == 1
    assert all((c == 0.25).all() and c.shape == (4, 1) for c in calls)


def test_nothing_outside_the_brain(image):
    brain = BRAIN.copy()
    brain[:40] = False
    (probability,) = predict_volume(
        lambda x, _: np.ones_like(x[..., :1]), image, nihss=0, stride=16, tissue=brain
    ).networks
    np.testing.assert_array_equal(probability, brain.astype(np.float32))


@pytest.mark.parametrize(
    ("slices", "asked"), [((20, 30), 6), ((0, 1), 1), ((0, 60), 12), ((0, 0), 1)]
)
def test_windows_without_tissue_are_not_asked(image, slices, asked):
    tissue, seen = np.zeros(grid.GRID_SHAPE, bool), []
    tissue[..., slice(*slices)] = True

    def predictor(windows, nihss):
        seen.extend(windows)
        return windows[..., :1]

    (probability,) = predict_volume(predictor, image, nihss=0, stride=4, tissue=tissue).networks
    np.testing.assert_array_equal(probability, grid.from_frame(image[..., 0]) * tissue)
    assert len(seen) == asked


def test_each_network_of_each_predictor_has_a_volume(image):
    """Two files, the first of which holds two networks."""
    both = together([SlabModel(lambda x, _: x[..., :2]), SlabModel(lambda x, _: x[..., 2:3])])
    said = predict_volume(both.predict, image, nihss=0, stride=7, tissue=BRAIN)
    assert not both.cores and said.core is None
    for volume, channel in zip(said.networks, np.moveaxis(image[..., :3], -1, 0), strict=True):
        np.testing.assert_array_equal(volume, grid.from_frame(channel))


def test_the_last_channel_of_a_model_of_cores_is_the_core(image):
    tissue = BRAIN.copy()
    tissue[:40] = False
    said = predict_volume(
        lambda x, _: x[..., :3], image, nihss=0, stride=7, tissue=tissue, cores=True
    )
    assert len(said.networks) == 2
    np.testing.assert_array_equal(said.core, grid.from_frame(image[..., 2]) * tissue)
    np.testing.assert_allclose(said.mean, grid.from_frame(image[..., :2].mean(-1)) * tissue, 1e-6)


def test_cores_of_several_models_are_averaged_network_by_network(image):
    """Of two networks the core counts twice; and one model without a core leaves none."""
    two = SlabModel(lambda x, _: x[..., :3], cores=True)
    one = SlabModel(lambda x, _: x[..., [0, 3]], cores=True)
    none = SlabModel(lambda x, _: x[..., :1])
    assert together([one]) is one
    both, mixed = together([two, one]), together([two, none])
    answer = both.predict(image[:, :, np.newaxis, :16], None)
    assert both.cores and answer.shape[-1] == 4
    expected = (2 * image[:, :, np.newaxis, :16, 2] + image[:, :, np.newaxis, :16, 3]) / 3
    np.testing.assert_allclose(answer[..., -1], expected, rtol=1e-6)
    assert not mixed.cores
    np.testing.assert_array_equal(mixed.predict(image, None), image[..., [0, 1, 0]])
    volumes = [
        VolumeAnswer(np.zeros((k, 2)), np.full(2, level)) for k, level in ((2, 0.3), (1, 0.9))
    ]
    np.testing.assert_allclose(mean_core(volumes), 0.5)
    assert mean_core([*volumes, VolumeAnswer(np.zeros((1, 2)))]) is None


def test_the_mean_of_one_is_itself_and_that_of_five_is_rounded_once():
    volumes = np.random.default_rng(1).random((5, 2, 3, 4), np.float32)
    assert mean(volumes[:1]) is not None and (mean(volumes[:1]) == volumes[0]).all()
    exact = volumes.astype(np.float64).sum(axis=0) / 5
    np.testing.assert_array_equal(mean(list(volumes)), exact.astype(np.float32))


def test_model_image_channels():
    brain = np.zeros(grid.GRID_SHAPE, bool)
    brain[20:70, 20:90, 10:50] = True
    adc = np.where(brain, 800, 0).astype(np.float32)
    adc[20:30, 20:30, 10:20] = 600
    dwi = np.where(brain, 150, 7).astype(np.float32)
    image = model_image(dwi, adc, brain, "right")
    assert image.shape == (128, 128, 60, 4)
    inside = grid.from_frame(image)
    mean_adc = adc[brain].mean()
    assert inside[50, 50, 30, 0] == 1
    assert inside[0, 0, 0, 0] == 0
    assert inside[50, 50, 30, 1] == np.float16(800 / mean_adc)
    np.testing.assert_array_equal(inside[..., 2] > 0, (adc == 600))
    assert not image[:63, :, :, 3].any()
    assert image[63:, :, :, 3].all()
