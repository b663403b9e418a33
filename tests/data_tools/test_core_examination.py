"""The examination of the core: each warning by a case that calls for it and one that does not."""

import dataclasses

import numpy as np
import pytest

from data_tools import core_examination as examination
from data_tools import patient
from data_tools.grid import GRID_SHAPE, VOXEL_ML
from data_tools.patient import load_native
from data_tools.runtime.errors import InputError


def block(x):
    """A core of 12 mL whose left face is at column x."""
    core = np.zeros((91, 109, 60), bool)
    core[x : x + 15, 50:60, 20:30] = True
    return core


@pytest.fixture(scope="module")
def examined(raw_cohort):
    """A simulated patient with a core on the left: images, MNI volumes. Read only."""
    folder = raw_cohort / "sub-0001"
    native = load_native(
        folder / "dwi/sub-0001_dwi.nii.gz",
        folder / "dwi/sub-0001_ADC.nii.gz",
        raw_cohort / "derivatives/perfusion/sub-0001/perf/sub-0001_Tmax.nii.gz",
    )
    return native, patient.to_mni(native)[0]


def test_both_grids_show_one_core(examined):
    native, mni = examined
    found = examination.examine_core(native, mni, "bilateral")
    assert found.native.shape == native.dwi.data.shape and found.mni.shape == (91, 109, 60)
    assert found.native_ml == pytest.approx(found.native.sum() * native.dwi.voxel_ml)
    assert found.mni_ml == pytest.approx(found.native_ml, rel=0.25) and found.native_ml > 1
    assert found.delayed is not None and found.delayed.sum() > found.mni.sum()
    assert found.alarms == ()


def test_a_wrong_side_is_an_alarm_by_core_and_by_tmax(examined):
    native, mni = examined
    halves = {
        side: found
        for side in ("left", "right")
        if (found := examination.examine_core(native, mni, side).alarms)
    }
    ((wrong, alarms),) = halves.items()
    assert len(alarms) == 2
    assert all(text.startswith(f"CHECK THE SIDE: side was given as {wrong}") for text in alarms)
    assert "of core lie in the" in alarms[0] and "Tmax is 6 s and more in" in alarms[1]


def test_a_whole_truth_that_leaves_core_out_is_a_warning(examined):
    _, mni = examined
    core, whole = block(20), dict(truth_is_whole=True, coverage=np.ones(GRID_SHAPE, bool))
    nothing = np.zeros(GRID_SHAPE, bool)
    found = examination.core_outside_truth(dataclasses.replace(mni, truth=nothing, **whole), core)
    ml = core.sum() * mni.voxel_ml
    assert found.startswith(f"desc-truth_mask leaves out {ml:.1f} mL of the core")
    for changes in ({"truth": core} | whole, {"truth": nothing}, {"truth": None} | whole):
        changed = dataclasses.replace(mni, **changes)
        assert examination.core_outside_truth(changed, core) is None


def test_without_tmax_there_is_no_delayed_region(examined):
    native, mni = examined
    found = examination.examine_core(native, dataclasses.replace(mni, tmax_s=None), "left")
    assert found.delayed is None and len(found.alarms) <= 1


def test_a_core_that_is_known_is_taken_and_a_missing_image_has_none(examined):
    native, mni = examined
    nothing = dataclasses.replace(native.adc, data=np.zeros_like(native.adc.data))
    found = examination.examine_core(dataclasses.replace(native, adc=nothing), mni, "left")
    assert (found.core, found.native, found.mni, found.native_ml, found.mni_ml) == (None,) * 5
    assert found.warnings == ()
    with pytest.raises(InputError, match="no core is known"):
        _ = found.known
    core = examination.Core(
        native=native.brain & False, mni=block(60), native_ml=12.0, mni_ml=12.0, by="file"
    )
    found = examination.examine_core(
        dataclasses.replace(native, adc=nothing), mni, "left", side_found=True, core=core
    )
    assert found.known.by == "file" and found.native_ml == 12.0
    assert found.alarms[0].startswith(
        "CHECK THE SIDE: most of the predicted hypoperfusion is on the left, but "
    )
    assert found.alarms[0].endswith(
        "lie in the right half of the brain and 0.0 mL in the left half."
    )


def test_some_core_outside_the_side_is_told_and_most_is_an_alarm():
    both = block(20) | block(60)
    text = examination.core_elsewhere(both, "left", VOXEL_ML)
    assert text == (
        "12.0 mL of the core lie outside the given side (left); look whether they are core or noise"
    )
    assert examination.core_elsewhere(both, "bilateral", VOXEL_ML) is None
    assert examination.core_elsewhere(block(20), "left", VOXEL_ML) is None
    assert examination.side_contradiction(both, "left", VOXEL_ML) is None
    alarm = examination.side_contradiction(block(60), "left", VOXEL_ML)
    assert alarm.startswith("CHECK THE SIDE: side was given as left, but 12.0 mL of core lie")
    assert examination.side_contradiction(block(60), "right", VOXEL_ML) is None


@pytest.mark.parametrize(
    ("left", "right", "side", "contradicts"),
    [
        (0, 125, "left", True),  # 1 mL
        (0, 124, "left", False),
        (200, 400, "left", True),
        (201, 400, "left", False),
        (400, 0, "right", True),
        (400, 0, "left", False),
        (400, 0, "bilateral", False),
        (400, 0, "unknown", False),
    ],
)
def test_a_core_on_the_other_side_is_a_warning(left, right, side, contradicts):
    core = np.zeros(GRID_SHAPE, bool)
    core[10, :, :].flat[:left] = True
    core[80, :, :].flat[:right] = True
    message = examination.side_contradiction(core, side, VOXEL_ML)
    assert (message is not None) == contradicts
    if contradicts:
        assert f"side was given as {side}" in message
    # In a brain half the template's size the same voxels hold half as much.
    smaller = examination.side_contradiction(core, side, VOXEL_ML / 2)
    assert (smaller is not None) == (contradicts and max(left, right) >= 250)


def test_cores_of_other_sizes_on_the_two_grids_are_told():
    text = examination.core_disagreement(20.0, 14.9)
    assert text.startswith("core is 20.0 mL on the DWI's own grid and 14.9 mL on the MNI grid")
    assert examination.core_disagreement(20.0, 15.0) is None
    assert examination.core_disagreement(4.9, 0.0) is None


def test_much_tissue_of_low_adc_that_is_no_core_is_a_warning(examined):
    native, _ = examined
    low = dataclasses.replace(native.adc, data=np.where(native.brain, 500, 0).astype(np.float32))
    brain_ml = native.brain.sum() * native.dwi.voxel_ml
    changed = dataclasses.replace(native, adc=low)
    text = examination.uncounted_low_adc(changed, 10.0)
    assert f"{brain_ml - 10:.0f} mL of the brain have an ADC of at most 620e-6 mm2/s" in text
    assert examination.uncounted_low_adc(changed, brain_ml - 69) is None


def test_delay_on_the_other_side_is_told_from_15_ml_on():
    assert examination.tmax_contradiction(block(60), "left", VOXEL_ML) is None  # 12 mL
    text = examination.tmax_contradiction(block(60), "left", 2 * VOXEL_ML)
    assert "Tmax is 6 s and more in 24 mL of the right half" in text
    assert examination.tmax_contradiction(block(60), "bilateral", 2 * VOXEL_ML) is None
