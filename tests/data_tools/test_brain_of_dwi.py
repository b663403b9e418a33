"""The brain mask: near a brain that is known, and moved by a hair when the image is."""

import dataclasses

import nibabel as nib
import numpy as np
import pytest
from nibabel import orientations
from scipy import ndimage

from data_tools import brain_of_dwi
from data_tools.volumes import Volume

pytestmark = pytest.mark.quick

TISSUE, FLUID_ADC, TISSUE_ADC = 300.0, 3000.0, 800.0
SPACING_MM = (3.0, 3.0, 5.0)
SHAPE = (64, 76, 30)


def ellipsoid(semiaxes_mm, centre_mm=(0, 0, 0)):
    """Distance from the middle as a share of the way to the surface."""
    axes = [
        ((np.arange(n) - (n - 1) / 2) * s - c) / r
        for n, s, c, r in zip(SHAPE, SPACING_MM, centre_mm, semiaxes_mm, strict=True)
    ]
    return np.sqrt(sum(axis**2 for axis in np.meshgrid(*axes, indexing="ij")))


@pytest.fixture(scope="module")
def head():
    """DWI, ADC and true brain: an ellipsoid of tissue with ventricles, fluid around it, a scalp."""
    rng = np.random.default_rng(3)
    brain = ellipsoid((62, 78, 56)) < 1
    tissue = (ellipsoid((58, 74, 52)) < 1) & ~(ellipsoid((8, 22, 12)) < 1)
    scalp = (ellipsoid((74, 90, 68)) < 1) & ~(ellipsoid((69, 85, 63)) < 1)
    eyes = (ellipsoid((11, 11, 11), (30, 90, -20)) < 1) & ~brain
    dwi = np.full(SHAPE, 8.0)
    adc = np.full(SHAPE, 200.0)
    # At b = 1000 fluid, of 2.4 times the water, has 2.4 exp(-3) / exp(-0.8) of tissue's signal.
    for where, level, water in (
        (brain | eyes, 0.27 * TISSUE, FLUID_ADC),
        (tissue, TISSUE, TISSUE_ADC),
        (scalp, 0.2 * TISSUE, 900.0),
    ):
        dwi[where], adc[where] = level, water
    dwi = ndimage.gaussian_filter(dwi, 0.4) * (1 + 0.03 * rng.standard_normal(SHAPE))
    return volume(dwi), adc.astype(np.float32), brain


def volume(data):
    return Volume(np.asarray(data, np.float32), np.diag([*SPACING_MM, 1.0]), "a head")


def like(head, change):
    return dataclasses.replace(head, data=np.asarray(change(head.data), np.float32))


def dice(a, b):
    return 2 * (a & b).sum() / (a.sum() + b.sum())


def test_it_is_the_brain_with_its_fluid_and_without_scalp_and_eyes(head):
    dwi, adc, brain = head
    assert dice(brain_of_dwi.brain_mask(dwi, adc), brain) > 0.96


def test_a_stripped_skull_is_no_matter(head):
    dwi, adc, brain = head
    stripped = like(dwi, lambda data: data * brain)
    assert dice(brain_of_dwi.brain_mask(stripped, adc * brain), brain) > 0.96


@pytest.mark.parametrize("factor", [0.98, 0.99, 0.995, 0.999, 1.001, 1.005, 1.01, 1.02])
def test_another_scale_of_the_adc_moves_the_edge_by_a_hair(head, factor):
    dwi, adc, _ = head
    was, now = (brain_of_dwi.brain_mask(dwi, a).sum() for a in (adc, adc * np.float32(factor)))
    assert now == pytest.approx(was, rel=0.005)
    # In proportion: the fourth digit does not change the second.
    if abs(factor - 1) < 0.002:
        assert now == pytest.approx(was, rel=0.0005)


def test_rounding_and_noise_of_a_thousandth_move_it_by_a_hair(head):
    dwi, adc, _ = head
    was = brain_of_dwi.brain_mask(dwi, adc).sum()
    rng = np.random.default_rng(0)
    rounded = brain_of_dwi.brain_mask(like(dwi, np.round), np.round(adc))
    noisy = like(dwi, lambda data: data * (1 + 0.001 * rng.standard_normal(SHAPE)))
    for found in (rounded, brain_of_dwi.brain_mask(noisy, adc)):
        assert found.sum() == pytest.approx(was, rel=0.002)


@pytest.mark.parametrize("factor", [1e-4, 0.1, 2, 3, 7e5])
def test_the_unit_of_the_dwi_is_no_matter(head, factor):
    dwi, adc, _ = head
    other = brain_of_dwi.brain_mask(like(dwi, lambda data: data * np.float32(factor)), adc)
    np.testing.assert_array_equal(other, brain_of_dwi.brain_mask(dwi, adc))


@pytest.mark.parametrize("codes", ["LAS", "RPI", "PSL", "IAR"])
def test_the_order_of_the_axes_is_no_matter(head, codes):
    dwi, adc, _ = head
    mask = brain_of_dwi.brain_mask(dwi, adc).astype(np.float32)
    turn = orientations.axcodes2ornt(codes)
    turned = [nib.Nifti1Image(d, dwi.affine).as_reoriented(turn) for d in (dwi.data, adc, mask)]
    data, other_adc, expected = (image.get_fdata(dtype=np.float32) for image in turned)
    found = brain_of_dwi.brain_mask(Volume(data, turned[0].affine, "turned"), other_adc)
    np.testing.assert_array_equal(found, expected > 0)


def test_a_coil_that_sees_one_side_five_times_as_well_changes_little(head):
    dwi, adc, brain = head
    bias = np.exp(np.linspace(-0.8, 0.8, SHAPE[1]))[:, np.newaxis]
    found = brain_of_dwi.brain_mask(like(dwi, lambda data: data * bias), adc)
    assert dice(found, brain_of_dwi.brain_mask(dwi, adc)) > 0.98


def test_a_large_bright_lesion_and_spikes_are_inside_and_change_nothing_else(head):
    dwi, adc, brain = head
    was = brain_of_dwi.brain_mask(dwi, adc)
    lesion = (ellipsoid((25, 35, 25), (-30, 0, 10)) < 1) & (ellipsoid((56, 72, 50)) < 1)
    data = np.where(lesion, 2.2 * dwi.data, dwi.data)
    data[32, 38, 15] = 1000 * TISSUE
    found = brain_of_dwi.brain_mask(volume(data), np.where(lesion, 450, adc).astype(np.float32))
    assert found[lesion].all()
    assert dice(found, was) > 0.99


@pytest.mark.parametrize("kept", [slice(0, 22), slice(9, 30)])
@pytest.mark.parametrize("filled", [False, True])
def test_a_head_that_is_cut_off_keeps_its_end_slices(head, kept, filled):
    dwi, adc, brain = head
    was = brain_of_dwi.brain_mask(dwi, adc)
    data, water = dwi.data[..., kept], adc[..., kept]
    if filled:  # programs write zeros where nothing was scanned
        data, water = np.zeros_like(dwi.data), np.zeros_like(adc)
        data[..., kept], water[..., kept] = dwi.data[..., kept], adc[..., kept]
    cut = volume(data)
    found = brain_of_dwi.brain_mask(cut, water)
    assert dice(found[..., kept] if filled else found, was[..., kept]) > 0.98
    area = brain.sum(axis=(0, 1))
    true_share = max(area[kept][0], area[kept][-1]) / area.max()
    assert brain_of_dwi.end_slice_share(found, cut) == pytest.approx(true_share, abs=0.08)


def test_negative_values_and_a_background_of_zeros_are_background(head):
    dwi, adc, brain = head
    was = brain_of_dwi.brain_mask(dwi, adc)
    for background in (0, -5):
        data = np.where(ellipsoid((80, 96, 74)) < 1, dwi.data, background)
        assert dice(brain_of_dwi.brain_mask(volume(data), adc), was) > 0.98


def test_thin_and_thick_slices_show_one_volume(head):
    dwi, adc, _ = head
    was = brain_of_dwi.brain_mask(dwi, adc).sum()
    thin = Volume(np.repeat(dwi.data, 2, 2), np.diag([3.0, 3.0, 2.5, 1.0]), "thin slices")
    found = brain_of_dwi.brain_mask(thin, np.repeat(adc, 2, 2)).sum() / 2
    assert found == pytest.approx(was, rel=0.02)


@pytest.mark.parametrize("slices", [[], [15]])
def test_nothing_and_one_slice_are_no_brain(head, slices):
    dwi, adc, _ = head
    data = np.zeros(SHAPE)
    data[..., slices] = dwi.data[..., slices]
    assert not brain_of_dwi.brain_mask(volume(data), adc).any()
    assert not brain_of_dwi.brain_mask(volume(data)).any()
    one = dataclasses.replace(dwi, data=dwi.data[..., 15:16])
    assert not brain_of_dwi.brain_mask(one, adc[..., 15:16]).any()


def test_noise_alone_is_no_brain_of_a_head():
    noise = np.abs(np.random.default_rng(1).standard_normal(SHAPE))
    found = brain_of_dwi.brain_mask(volume(noise))
    assert found.mean() < 0.01


def test_nothing_of_nilearn_is_loaded(head):
    import subprocess
    import sys

    program = "import sys; import data_tools.brain_of_dwi; sys.exit('nilearn' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0
