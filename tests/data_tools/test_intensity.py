"""Physical volumes -> channels: means, masks and NIHSS, against values worked by hand."""

import numpy as np
import pytest

from data_tools.intensity import adc_mask, nihss_feature, normalise, parenchyma
from data_tools.runtime.errors import InputError

pytestmark = [pytest.mark.core, pytest.mark.quick]

# One row of voxels: outside the brain, no ADC, core, tissue, tissue, just under CSF, CSF.
BRAIN = np.array([0, 1, 1, 1, 1, 1, 1], bool)
ADC = np.array([800, 0, 400, 800, 1000, 1999, 2000], np.float32)
DWI = np.array([500, 70, 300, 100, 150, 50, 20], np.float32)


def test_parenchyma_leaves_out_csf_background_and_voxels_without_adc():
    np.testing.assert_array_equal(parenchyma(ADC, BRAIN), [0, 0, 1, 1, 1, 1, 0])


def test_both_are_divided_by_the_mean_of_the_four_tissue_voxels():
    dwi, adc = normalise(DWI, ADC, BRAIN)
    dwi_mean, adc_mean = (300 + 100 + 150 + 50) / 4, (400 + 800 + 1000 + 1999) / 4
    expected_dwi = np.array([0, 70, 300, 100, 150, 50, 20]) / dwi_mean
    expected_adc = np.array([0, 0, 400, 800, 1000, 1999, 0]) / adc_mean
    np.testing.assert_allclose(dwi, expected_dwi, rtol=1e-6)
    np.testing.assert_allclose(adc, expected_adc, rtol=1e-6)
    assert dwi.dtype == adc.dtype == np.float32


def test_negative_values_of_interpolation_become_zero():
    dwi, adc = normalise(np.float32([-5, 10, 30]), np.float32([800, -3, 800]), np.ones(3, bool))
    assert dwi[0] == 0
    assert adc[1] == 0


def test_the_scale_of_the_scanner_does_not_matter():
    one, _ = normalise(DWI, ADC, BRAIN)
    other, _ = normalise(DWI * 37, ADC, BRAIN)
    np.testing.assert_allclose(one, other, rtol=1e-6)


@pytest.mark.parametrize(
    ("dwi", "adc", "brain"),
    [
        (DWI, ADC, np.zeros(7, bool)),
        (DWI, np.full(7, 2500, np.float32), BRAIN),
        (-DWI, ADC, BRAIN),
        (np.zeros(7, np.float32), np.zeros(7, np.float32), BRAIN),
    ],
    ids=["no brain", "only CSF", "DWI below 0", "neither is given"],
)
def test_no_tissue_is_explained(dwi, adc, brain):
    with pytest.raises(InputError, match="brain mask holds no tissue with a positive DWI"):
        normalise(dwi, adc, brain)


def test_adc_mask_is_below_620_and_inside_the_brain():
    adc = np.float32([-1, 0, 1, 619.9, 620, 500])
    brain = np.array([1, 1, 1, 1, 1, 0], bool)
    np.testing.assert_array_equal(adc_mask(adc, brain), [0, 0, 1, 1, 0, 0])


@pytest.mark.parametrize(
    ("nihss", "expected"), [(0, 0.0), (21, 1.0), (42, 2.0), (7.0, 1 / 3), (None, -1), (np.nan, -1)]
)
def test_nihss_is_divided_by_21_and_missing_is_minus_1(nihss, expected):
    assert nihss_feature(nihss) == pytest.approx(expected)


@pytest.mark.parametrize(("nihss", "shown"), [(-1, "-1"), (43, "43"), (50, "50"), (3.5, "3.5")])
def test_an_impossible_nihss_is_refused(nihss, shown):
    with pytest.raises(InputError, match=f"NIHSS is {shown}; expected a whole number from 0 to 42"):
        nihss_feature(nihss)
