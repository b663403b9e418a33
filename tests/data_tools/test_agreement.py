"""Images of one patient that contradict each other, from a head whose truth is a formula."""

import dataclasses

import numpy as np
import pytest
from scipy import ndimage

from data_tools import agreement, alignment, brain_of_dwi
from data_tools.b_values import Series, of_series
from data_tools.overrides import Overrides
from data_tools.plausibility import check_said_b
from data_tools.runtime.errors import InputError
from data_tools.volumes import Reading, Volume
from tests.helpers.phantom import phantom

pytestmark = pytest.mark.quick

HEAD = phantom()
DWI = Volume(HEAD.image(1000).astype(np.float32), HEAD.affine, "dwi.nii")
ADC = Volume(HEAD.adc_um2_per_s.astype(np.float32), HEAD.affine, "adc.nii")
BRAIN = brain_of_dwi.brain_mask(DWI)
UNKNOWN = np.full((2, 3), np.nan)


def series():
    data = np.stack([HEAD.image(0), HEAD.image(1000)], -1).astype(np.float32)
    return Series(data=data, affine=HEAD.affine, b_values=np.array([0.0, 1000]), directions=UNKNOWN)


@pytest.mark.parametrize("unit", [1, 1e-3, 1e-6])
@pytest.mark.parametrize(
    ("factor", "outcome"),
    [(1, ""), (1.04, ""), (0.96, ""), (1.12, "warned"), (0.88, "warned"), (0.78, ""), (1.4, ""),
     (1.9, "")],
)  # fmt: skip
def test_a_map_is_compared_with_its_own_series(factor, outcome, unit):
    given = dataclasses.replace(ADC, data=ADC.data * np.float32(factor * unit))
    if abs(np.log(factor)) > 0.2:
        with pytest.raises(InputError, match=f"\\(median, {factor:.2f} times\\); expected both"):
            of_series("x", series(), given)
    else:
        warned = [w for w in of_series("x", series(), given).warnings if "its own series" in w]
        assert len(warned) == (outcome == "warned")
        assert all(f"(median, {factor:.2f} times)" in w for w in warned)


@pytest.mark.parametrize("axes", [(0,), (1,), (2,), (0, 1), (1, 2)])
def test_a_mirrored_map_is_refused(axes):
    with pytest.raises(InputError, match="its mirror image agrees better"):
        agreement.check_place(DWI, dataclasses.replace(ADC, data=np.flip(ADC.data, axes)), BRAIN)


@pytest.mark.parametrize("mm", [0, 4, 8, 12, 20])
def test_a_moved_map_is_a_warning_with_its_millimetres(mm):
    moved = dataclasses.replace(ADC, data=np.roll(ADC.data, mm // 4, 1))
    warnings = agreement.check_place(DWI, moved, BRAIN)
    assert len(warnings) == (mm > 0)
    assert all(f"about {mm} mm off" in warning for warning in warnings)


@pytest.mark.parametrize("value", [0, -1])
def test_a_hole_in_the_map_over_a_bright_dwi_is_refused_and_over_tissue_a_warning(value):
    assert agreement.check_holes(DWI, ADC, BRAIN) == ()
    hole = dataclasses.replace(ADC, data=np.where(HEAD.core, np.float32(value), ADC.data))
    with pytest.raises(InputError, match=r"is 0 or less in 2\d\.\d mL inside the brain"):
        agreement.check_holes(DWI, hole, BRAIN)
    mirrored = HEAD.core[::-1]
    hole = dataclasses.replace(ADC, data=np.where(mirrored, np.float32(value), ADC.data))
    (warning,) = agreement.check_holes(DWI, hole, BRAIN)
    assert "no core can be found there" in warning


def test_nan_that_reaches_the_brains_edge_is_a_warning():
    x, y, z = np.tensordot(HEAD.affine[:3, :3], np.indices(DWI.data.shape), 1) + np.reshape(
        HEAD.affine[:3, 3], (3, 1, 1, 1)
    )
    cx, cy, cz = HEAD.core_centre_mm
    side = np.sign(cx) * (x - cx) > -8
    wedge = side & (abs(y - cy) < 25) & (abs(z - cz) < 18)
    for absent, warns in ((wedge, True), (~ndimage.binary_dilation(BRAIN, iterations=2), False)):
        data = np.where(absent, np.float32(0), DWI.data)
        dwi = dataclasses.replace(DWI, data=data, reading=Reading(absent=absent))
        warnings = agreement.gap_warnings(dwi, ADC, brain_of_dwi.brain_mask(dwi))
        assert any("the DWI is NaN in" in warning for warning in warnings) == warns


def test_a_given_mask_is_told_as_what_it_is():
    def check(said):
        return agreement.check_given_mask("m.nii", said, BRAIN, DWI.voxel_ml)

    for said in (BRAIN, ndimage.binary_erosion(BRAIN, np.ones((3, 1, 1)))):
        check(said)
    assert agreement.mask_warnings(BRAIN, BRAIN, DWI.voxel_ml) == ()
    moved = np.roll(BRAIN, 6, 1)
    check(moved)
    (warning,) = agreement.mask_warnings(moved, BRAIN, DWI.voxel_ml)
    assert "Dice 0." in warning
    for said, words in (
        (~BRAIN, "looks inverted"),
        (np.ones_like(BRAIN), "looks inverted|100% of the image"),
        (np.zeros_like(BRAIN), "has 0 mL; expected 500 to 2200 mL where the image is"),
        (np.roll(BRAIN, 25, 1), "lies elsewhere|looks inverted"),
    ):
        with pytest.raises(
            InputError, match=f"--brain_mask: the brain mask m.nii .*{words}|{words}"
        ):
            check(said)


@pytest.mark.parametrize("b_value", [np.inf, np.nan, 0.0, -5.0, 1.0, 1e9])
def test_an_impossible_b_value_is_not_taken(b_value):
    with pytest.raises(InputError, match="--b_value is .*expected the DWI's b-value"):
        check_said_b(Overrides(b_value=b_value))


def test_what_is_said_of_b_is_of_the_highest_shell():
    low = dataclasses.replace(series(), b_values=np.array([0.0, 1]))
    study = of_series("x", low, overrides=Overrides(b_value=1000))
    inside = BRAIN & (ADC.data > 0) & (ADC.data < 3900)
    np.testing.assert_allclose(study.adc.data[inside], ADC.data[inside], rtol=1e-3)
    assert any("b = 1000 s/mm2 was taken as --b_value says" in w for w in study.warnings)


def test_a_trace_image_of_unknown_b_gives_no_adc():
    unknown = dataclasses.replace(series(), b_values=np.array([0.0, np.nan]))
    with pytest.raises(InputError, match="no file says its b-value, so no ADC .* or --b_value"):
        of_series("x", unknown)


def test_a_header_that_is_off_is_a_warning_with_millimetres():
    moved = HEAD.affine.copy()
    moved[1, 3] += 6
    found = alignment.onto(dataclasses.replace(ADC, affine=moved), DWI, "ADC map")
    assert "lies up to 6 mm off the DWI by its header" in found.warnings[0]
    assert "the ADC map lies 6 mm off the DWI's voxels" in found.notes[0]
