"""What stands in for what a public data set lacks, against values computed by hand."""

import numpy as np
import pytest

from data_tools.import_public import derived
from data_tools.runtime.errors import InputError
from data_tools.volumes import Volume

pytestmark = pytest.mark.quick

AFFINE = np.diag([4.0, 4.0, 4.0, 1.0])
SHAPE = (32, 32, 20)


@pytest.fixture
def brain():
    x, y, z = np.indices(SHAPE)
    return (x - 15.5) ** 2 / 196 + (y - 15.5) ** 2 / 196 + (z - 9.5) ** 2 / 81 < 1


def tmax(brain, scale=1.0, late=()):
    data = np.random.default_rng(1).uniform(0.5, 3.0, SHAPE).astype(np.float32) * brain
    for where in late:
        data[where] = 10 * brain[where]
    return Volume(data * np.float32(scale), AFFINE, "Tmax.nii")


LEFT, RIGHT = np.s_[4:10, 8:24, 4:16], np.s_[22:28, 8:24, 4:16]


@pytest.mark.parametrize(("scale", "unit"), [(1, "s"), (10, "1e-1 s"), (1000, "ms")])
def test_the_unit_of_tmax_is_found_and_said(brain, scale, unit):
    data, found = derived.tmax_in_s(tmax(brain, scale, [LEFT]), brain)
    assert found == unit
    assert data == pytest.approx(tmax(brain, 1, [LEFT]).data, rel=1e-6)


@pytest.mark.parametrize("scale", [4, 100, 1e-3])
def test_a_tmax_of_no_unit_is_refused(brain, scale):
    with pytest.raises(InputError, match=r"fits no unit.*such as TTP\?$"):
        derived.tmax_in_s(tmax(brain, scale, [LEFT]), brain)


@pytest.mark.parametrize("height", [1, 7, 90])
def test_a_mask_is_no_tmax(brain, height):
    mask = np.zeros(SHAPE, np.float32)
    mask[LEFT] = height
    with pytest.raises(
        InputError, match=r"holds 1 value above 0.*is a mask.*OT.*never taken as truth"
    ):
        derived.tmax_in_s(Volume(mask * brain, AFFINE, "t.nii"), brain)


@pytest.mark.parametrize(
    ("late", "side"),
    [([LEFT], "left"), ([RIGHT], "right"), ([LEFT, RIGHT], "bilateral"), ([], "unknown")],
)
def test_the_side_is_where_three_times_as_much_is_late(brain, late, side):
    image = tmax(brain, 1, late)
    assert derived.side_of(image.data, AFFINE, brain) == side
    flipped = AFFINE @ np.array([[-1, 0, 0, 31], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])
    assert derived.side_of(image.data[::-1], flipped, brain[::-1]) == side


def test_a_dwi_is_s0_by_the_adc(brain):
    adc = np.where(brain, 800, 0).astype(np.float32)
    adc[LEFT] = 400 * brain[LEFT]
    curve = np.full(50, 100.0)
    curve[12:24] = 100 - 40 * np.sin(np.linspace(0, np.pi, 14))[1:-1]
    curve[24:] = 97.0
    series = (brain[..., None] * curve).astype(np.float32)
    series += np.random.default_rng(2).normal(0, 0.2, series.shape).astype(np.float32)
    for factor, unit in ((1, "1e-6 mm2/s"), (1e-3, "1e-3 mm2/s"), (1e-6, "mm2/s")):
        image = Volume(adc * np.float32(factor), AFFINE, "ADC.nii")
        dwi, how = derived.dwi_of(image, series, AFFINE)
        assert f"ADC in {unit}" in how
        assert np.median(dwi.data[brain & (adc == 800)]) == pytest.approx(44.93, abs=0.3)
        assert np.median(dwi.data[brain & (adc == 400)]) == pytest.approx(67.03, abs=0.4)
        assert not dwi.data[~brain].any()
    with pytest.raises(InputError, match="no bolus"):
        derived.dwi_of(image, np.repeat(series[..., :1], 40, axis=3), AFFINE)


def label(*where, value=1):
    data = np.zeros(SHAPE, np.float32)
    for each in where:
        data[each] = value
    return Volume(data, AFFINE, "label.nii")


INNER = np.s_[5:8, 10:14, 6:10]


def test_the_core_is_the_label_inside_the_other():
    for first, second in ((LEFT, INNER), (INNER, LEFT)):
        penumbra, core = derived.penumbra_and_core(label(first), label(second), None)
        assert penumbra.data.sum() == label(LEFT).data.sum()
        assert core.data.sum() == label(INNER).data.sum()
    for outer, inner in ((1, 2), (2, 1)):
        merged = label(LEFT, value=outer)
        merged.data[INNER] = inner
        penumbra, core = derived.penumbra_and_core(None, None, merged)
        assert penumbra.data.sum() == label(LEFT).data.sum()
        assert core.data.sum() == label(INNER).data.sum()
    assert derived.penumbra_and_core(None, None, None) == (None, None)
    with pytest.raises(InputError, match="expected the core inside the penumbra"):
        derived.penumbra_and_core(label(LEFT), label(RIGHT), None)


def test_a_label_that_is_not_late_tissue_is_refused(brain):
    image = tmax(brain, 1, [LEFT])
    derived.check_label(label(LEFT), image.data, AFFINE)
    derived.check_label(label(), image.data, AFFINE)
    for other in (label(RIGHT), label(INNER)):
        with pytest.raises(InputError, match=r"infarct after 90 days \(OT\)"):
            derived.check_label(other, image.data, AFFINE)


def test_voxels_are_known_again_in_whatever_way_they_are_stored(brain):
    image = tmax(brain, 1, [LEFT])
    known = derived.signature(image)
    stored = np.round(image.data * 128).astype(np.int16)
    ways = [
        image.data[::-1, :, ::-1],
        np.transpose(image.data, (2, 0, 1)),
        image.data * 1000,
        np.where(brain, image.data, np.nan),
    ]
    for data in ways:
        assert derived.same_voxels(known, derived.signature(Volume(data, np.eye(4))))
    rounded = derived.signature(Volume(stored.astype(np.float32), AFFINE))
    assert derived.same_voxels(rounded, derived.signature(Volume(stored / np.float32(128), AFFINE)))
    for other in (tmax(brain, 1, [RIGHT]), tmax(brain, 1, []), label()):
        assert not derived.same_voxels(known, derived.signature(other))
