"""Images that are not what they are said to be."""

import numpy as np
import pytest
from scipy import ndimage

from data_tools.plausibility import (
    check_gaps,
    check_not_swapped,
    check_not_whole_brain,
    check_said_unit,
    check_tmax_is_a_map,
    check_tmax_of_tissue,
    check_unit_said_by_person,
    detect_adc_unit,
)
from data_tools.runtime.errors import InputError
from data_tools.volumes import Reading, Volume

pytestmark = pytest.mark.quick

AFFINE = np.diag([2.0, 2, 5, 1])


@pytest.mark.parametrize(
    ("factor", "unit"), [(1e-6, "mm2/s"), (1e-3, "1e-3 mm2/s"), (1, "1e-6 mm2/s")]
)
@pytest.mark.parametrize("median_um2_per_s", [630, 850, 1590])
def test_the_unit_of_adc_is_found(factor, unit, median_um2_per_s):
    data = np.full((6, 6, 6), median_um2_per_s * factor, np.float32)
    data[:3] = 0  # background does not count
    assert detect_adc_unit(Volume(data, AFFINE), np.ones((6, 6, 6), bool)) == unit


@pytest.mark.parametrize("median", [0, 0.05, 30, 8000, 435, 0.435e-3, 2 * 0.871])
def test_an_adc_of_no_unit_is_refused(median):
    volume = Volume(np.full((6, 6, 6), median, np.float32), AFFINE, "adc.nii.gz")
    with pytest.raises(InputError, match=f"median in brain tissue is {median:g}, which is no"):
        detect_adc_unit(volume, np.ones((6, 6, 6), bool))


@pytest.mark.parametrize("labels", [1, 3])
def test_a_mask_is_no_adc_map(labels):
    data = np.arange(216, dtype=np.float32).reshape(6, 6, 6) % (labels + 1)
    with pytest.raises(InputError, match=f"adc.nii.gz: has only {labels} values? other than 0"):
        detect_adc_unit(Volume(data, AFFINE, "adc.nii.gz"), np.ones((6, 6, 6), bool))


@pytest.mark.parametrize("core_share", [0, 0.3], ids=["no core", "a third of the brain is core"])
def test_swapped_images_are_refused(core_share):
    brain = np.zeros((40, 40, 8), bool)
    brain[4:36, 4:36] = True
    adc, dwi = np.where(brain, 800.0, 0), np.where(brain, 300.0, 0)
    rim = brain & ~ndimage.binary_erosion(brain, np.ones((5, 5, 1)))
    adc[rim], dwi[rim] = 2000, 100  # CSF around the brain
    core = brain & (np.arange(40) < 4 + 32 * core_share)[:, None, None]
    adc[core], dwi[core] = 400, 900
    adc, dwi = Volume(adc, AFFINE, "a"), Volume(dwi, AFFINE, "d")
    check_not_swapped(dwi, adc, brain)
    with pytest.raises(InputError, match="DWI a and ADC d look swapped"):
        check_not_swapped(adc, dwi, brain)


@pytest.mark.parametrize(("median", "refused"), [(2.0, False), (8.0, False), (8.1, True)])
def test_tenths_of_seconds_are_no_tmax(median, refused):
    tmax = Volume(np.full((6, 6, 6), median, np.float32), AFFINE, "tmax.nii.gz")
    tmax.data[0] = 0  # nothing imaged does not count
    brain = np.ones((6, 6, 6), bool)
    if refused:
        with pytest.raises(InputError, match="Tmax tmax.nii.gz: its median .* tenths of seconds"):
            check_tmax_of_tissue(tmax, brain)
    else:
        check_tmax_of_tissue(tmax, brain)
    check_tmax_of_tissue(tmax, np.zeros((6, 6, 6), bool))


@pytest.mark.parametrize(
    ("values", "share", "message"),
    [
        ([1.0, 2.0, 3.0, 8.0], 1.0, None),
        ([1.0, 2.0, 3.0, 8.0], 0.1, "has 4 values other than 0, in 10% of the brain"),
        ([1.0, 2.0], 1.0, "has 2 values other than 0, in 100% of the brain .* Is it a mask"),
        ([1.0], 0.1, "has 1 value other than 0"),
    ],
)
def test_a_mask_is_no_tmax(values, share, message):
    data = np.zeros(1000, np.float32)
    data[: round(1000 * share)] = np.resize(values, round(1000 * share))
    tmax = Volume(data.reshape(10, 10, 10), AFFINE, "tmax.nii.gz")
    brain = np.ones((10, 10, 10), bool)
    if message is None:
        check_tmax_is_a_map(tmax, brain)
        return
    with pytest.raises(InputError, match=f"Tmax tmax.nii.gz: {message}"):
        check_tmax_is_a_map(tmax, brain)


def test_a_brain_mask_is_no_lesion():
    brain = np.ones((10, 10, 10), bool)
    half = Volume(np.float32(np.arange(1000).reshape(10, 10, 10) < 500), AFFINE, "mask.nii.gz")
    check_not_whole_brain(half, brain)
    whole = Volume(np.ones((10, 10, 10), np.float32), AFFINE, "mask.nii.gz")
    with pytest.raises(InputError, match=r"mask mask.nii.gz: holds 100% of the brain"):
        check_not_whole_brain(whole, brain)


def test_a_sidecar_that_says_another_unit_is_refused():
    adc = Volume(np.zeros((2, 2, 2), np.float32), AFFINE, "adc.nii.gz")
    for said in (None, "um^2/s", "10^-6 mm^2/s", "arbitrary"):
        check_said_unit(adc, said, "1e-6 mm2/s")
    with pytest.raises(InputError, match="adc.nii.gz: its .json says 'mm\\^2/s', and the values"):
        check_said_unit(adc, "mm^2/s", "1e-6 mm2/s")


class TestGaps:
    """NaN around the brain is background, NaN in it is a fault."""

    BRAIN = np.zeros((40, 40, 8), bool)
    BRAIN[5:35, 5:35, 1:7] = True

    def image(self, absent):
        data = np.where(self.BRAIN & ~absent, 800, 0).astype(np.float32)
        return Volume(data, AFFINE, "adc.nii.gz", Reading(absent=absent))

    def test_the_background_and_a_tighter_mask_pass(self):
        for inset in (0, 1, 2):
            absent = ~ndimage.binary_erosion(self.BRAIN, np.ones((3, 3, 1)), iterations=inset or 1)
            check_gaps(self.image(absent if inset else ~self.BRAIN), self.BRAIN, "ADC")

    def test_holes_and_what_reaches_deep_are_refused(self):
        hole = np.zeros_like(self.BRAIN)
        hole[8, 8, 3] = True
        cleft = ~self.BRAIN
        cleft[:20, 20, 3] = True
        half = ~self.BRAIN
        half[:20] = True
        for absent, count in ((hole, 1), (hole | ~self.BRAIN, 1), (cleft, 12), (half, None)):
            words = f"ADC adc.nii.gz: {count or ''}.*NaN or infinite inside the brain"
            with pytest.raises(InputError, match=words):
                check_gaps(self.image(absent), self.BRAIN, "ADC")

    def test_a_slab_may_end_in_the_brain_but_has_no_holes(self):
        slab = ~self.BRAIN
        slab[:, :, :4] = True
        check_gaps(self.image(slab), self.BRAIN, "Tmax", may_be_a_slab=True)
        slab[20, 20, 5] = True
        with pytest.raises(InputError, match="Tmax .* 1 voxel is NaN or infinite inside the brain"):
            check_gaps(self.image(slab), self.BRAIN, "Tmax", may_be_a_slab=True)


@pytest.mark.parametrize(
    ("median", "unit", "warns"),
    [(0.9, "1e-3 mm2/s", False), (0.45, "1e-3 mm2/s", True), (1900, "1e-6 mm2/s", True)],
)
def test_a_said_unit_is_taken_if_it_can_be(median, unit, warns):
    adc = Volume(np.full((6, 6, 6), median, np.float32), AFFINE, "adc.nii.gz")
    tissue = np.ones((6, 6, 6), bool)
    assert bool(check_unit_said_by_person(adc, tissue, unit)) == warns
    with pytest.raises(InputError, match="in mm2/s, as --adc_unit says, the median"):
        check_unit_said_by_person(adc, tissue, "mm2/s")
