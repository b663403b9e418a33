"""Looks of simulated patients, strokes that leave nothing to be saved, and contrast measured."""

import dataclasses
import subprocess
import sys

import numpy as np
import pytest
from helpers import PROJECT

from data_tools import criteria, grid
from data_tools.simulate import anatomy, clinical, contrast, contrast_table, images, signals
from data_tools.simulate.appearance import FIRST, Appearance, Streams
from data_tools.simulate.lesion import make_lesion
from data_tools.simulate.looks import LOOKS

SEED = 31


@pytest.fixture(scope="module")
def head():
    return anatomy.make_anatomy(np.random.default_rng(0), 70)


@pytest.fixture(scope="module")
def stroke(head):
    return make_lesion(np.random.default_rng(1), head, plan())


def plan(**changes):
    usual = dataclasses.replace(
        clinical.make_plan(1, 1), side="left", occlusion="M1", hypoperfusion_ml=80.0, core_ml=20.0
    )
    return dataclasses.replace(usual, **changes)


def test_first_is_one_look_and_wide_is_drawn_for_each_patient():
    first, wide = LOOKS["first"], LOOKS["wide"]
    assert first.draw(Streams(SEED, 1)) == first.draw(Streams(SEED, 2)) == Appearance() == FIRST
    assert wide.draw(Streams(SEED, 1)) == wide.draw(Streams(SEED, 1))
    assert wide.draw(Streams(SEED, 1)) != wide.draw(Streams(SEED, 2))
    assert first.negative_share == 0 and 0.15 <= wide.negative_share <= 0.2


def test_wide_differs_in_every_number_that_a_look_has():
    """But for what is a setting of shifts alone."""
    drawn = [LOOKS["wide"].draw(Streams(SEED, k)) for k in range(40)]
    fixed = []
    for part in dataclasses.fields(Appearance):
        for field in dataclasses.fields(getattr(FIRST, part.name)):
            values = {getattr(getattr(look, part.name), field.name) for look in drawn}
            if values == {getattr(getattr(FIRST, part.name), field.name)}:
                fixed.append(field.name)
    assert fixed == [
        "grey_s0",  # the unit
        "old_infarct_other_side",
        "strength_sd",
        "core_s0_per_h",
        "old_delay_other_side",
        "stretch",
    ]


def test_grey_is_brighter_than_white_as_on_real_heads(head, stroke):
    """Of pure tissue, on average; fluid in the voxels takes some of it away."""

    def ratio(look):
        _, dwi = signals.tissue_signals(
            np.random.default_rng(2), head, stroke, plan(), look=look, streams=Streams(SEED, 1)
        )
        x = head.template_mm[0]
        far = (x > 10) & (head.template_mm[2] > 0)
        return np.median(dwi[far & (head.grey > 0.95)]) / np.median(dwi[far & (head.white > 0.95)])

    drawn = [LOOKS["wide"].draw(Streams(SEED, k)).tissue for k in range(300)]
    b = 1e-3
    pure = [
        np.exp(-b * (t.cortex_adc_um2_per_s - t.white_adc_um2_per_s)) / t.white_s0 for t in drawn
    ]
    assert 1.1 < np.mean(pure) < 1.2
    brighter = dataclasses.replace(FIRST.tissue, white_s0=FIRST.tissue.white_s0 / 1.2)
    changed = dataclasses.replace(FIRST, tissue=brighter)
    assert ratio(changed) / ratio(FIRST) == pytest.approx(1.2, abs=0.03)


def test_what_a_look_adds_leaves_noise_and_the_rest_alone(head, stroke):
    """A field's random numbers are its own: the head, the delay and the noise stay."""
    streams = Streams(SEED, 1)

    def acquire(look):
        rng = np.random.default_rng(3)
        return images.acquire(rng, head, stroke, plan(), look=look, streams=streams)

    plain = acquire(FIRST)
    field = acquire(FIRST.changed("scanner", field_45_mm=0.1))
    np.testing.assert_array_equal(field.tmax_s, plain.tmax_s)
    np.testing.assert_array_equal(field.affine, plain.affine)
    tissue = plain.dwi > 0.5 * np.percentile(plain.dwi, 99)
    log = np.log(field.dwi[tissue] / plain.dwi[tissue])
    assert 0.03 < log.std() < 0.2
    both = tissue & (plain.adc_um2_per_s > 0) & (field.adc_um2_per_s > 0)
    change = field.adc_um2_per_s[both] - plain.adc_um2_per_s[both]
    assert abs(np.median(change)) < 2  # it is in both signals, so it leaves the ADC


def test_plans_without_penumbra_are_a_share_and_leave_the_others_alone():
    usual = [clinical.make_plan(SEED, k) for k in range(1, 301)]
    mixed = [clinical.make_plan(SEED, k, negative_share=1 / 6) for k in range(1, 301)]
    negative = [p for p in mixed if p.stroke != clinical.TERRITORIAL]
    assert abs(len(negative) - 50) <= 3
    assert all(p == q for p, q in zip(usual, mixed, strict=True) if q.stroke == "territorial")
    assert {p.stroke for p in usual} == {"territorial"}
    assert {p.stroke for p in negative} == set(clinical.NEGATIVES)
    assert not any(criteria.target_mismatch(p.hypoperfusion_ml, p.core_ml) for p in negative)
    assert sum(clinical.NEGATIVES.values()) == pytest.approx(1)


@pytest.mark.parametrize("kind", clinical.NEGATIVES)
def test_stroke_without_penumbra_is_late_where_it_is_dead_alone(head, kind):
    wanted_ml = 0.0 if kind == "none" else 4.0
    stroke = plan(stroke=kind, core_ml=wanted_ml, hypoperfusion_ml=wanted_ml, side="right")
    late = 0
    for seed in range(4):
        lesion = make_lesion(np.random.default_rng(seed), head, stroke)
        assert not (lesion.hypoperfused & ~lesion.core).any()
        late += int(lesion.hypoperfused.any())
        dead_ml = lesion.core.sum() * grid.VOXEL_ML
        if kind == "posterior":  # a pons has no room for more
            assert 1.4 < dead_ml < 4.1
            x, y, z = (axis[lesion.core].mean() for axis in head.template_mm)
            assert y < 0 and z < 20 and x > -5
        else:
            assert dead_ml == pytest.approx(wanted_ml, abs=0.7)
        if wanted_ml:
            assert (head.template_mm[0][lesion.core] > -3).all()
    assert (late > 0) == (kind != "none")


def test_contrast_of_an_image_made_by_hand():
    grey, white, brain = anatomy.template()[(slice(None), *anatomy.GRID_IN_MODEL)]
    mask = brain > 0.5
    dwi = np.where(grey > white, 110.0, 100.0).astype(np.float32)
    adc = np.where(grey > white, 800.0, 900.0).astype(np.float32)
    dwi[:20] *= 2  # the half of the stroke
    found = contrast.measure(dwi, adc, mask, "left")
    assert found.dwi_grey_to_white == pytest.approx(1.1, abs=1e-4)
    assert found.adc_grey_to_white == pytest.approx(8 / 9, abs=1e-4)
    assert found.adc_white_um2_per_s == pytest.approx(900, abs=0.1)
    assert found.adc_sd_white == pytest.approx(0, abs=1e-5)
    assert found.dwi_sd_white == pytest.approx(0, abs=1e-5)
    assert found.bright_share == 0
    with_stroke = contrast.measure(dwi, adc, mask)
    assert with_stroke.dwi_sd_white > 0.05 and with_stroke.bright_share > 0.05
    assert with_stroke.large_scale_sd > found.large_scale_sd


def test_contrast_is_set_side_by_side(mni_cohort, tmp_path):
    columns = contrast_table.compare([str(mni_cohort)])
    titles, *body = contrast_table.rows(columns)
    assert titles[1].startswith(mni_cohort.name) and len(body) == len(contrast_table.ROWS)
    assert set(contrast_table.ROWS) == {f.name for f in dataclasses.fields(contrast.Contrast)}
    contrast_table.write(columns, tmp_path)
    written = (tmp_path / "contrast.md").read_text()
    assert all(cell in written for row in body for cell in row)
    assert contrast_table.as_text(columns).splitlines()[0].strip() == titles[1]
    (tmp_path / "x_dwi.nii.gz").write_bytes(b"")
    with pytest.raises(contrast_table.InputError, match="0 NIfTI files have adc in their names"):
        contrast_table.compare([str(tmp_path)])
    with pytest.raises(contrast_table.InputError, match="no such folder"):
        contrast_table.compare([str(tmp_path / "none")])


def test_real_heads_look_as_the_documentation_says(real_data):
    (column,) = contrast_table.compare([str(real_data / "real_isles22_0001")])
    (found,) = column.patients
    assert 1.03 < found.dwi_grey_to_white < 1.12
    assert 0.97 < found.adc_grey_to_white < 1.08


def test_simulating_needs_neither_tensorflow_nor_ants():
    blocked = ("tensorflow", "keras", "ants", "SimpleITK", "pydicom", "absl")
    code = f"""
import sys
for name in {blocked}:
    sys.modules[name] = None
from data_tools.simulate import simulate_patient
images = simulate_patient(1, 1, look="wide").mni()
print(images.dwi.shape, int(images.brain.sum()) > 1e5)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=PROJECT, check=True
    )
    assert done.stdout.strip() == "(91, 109, 60) True"
