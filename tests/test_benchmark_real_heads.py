"""The panel of real heads: its regions, movements and tables, with heads that are simulated."""

import dataclasses

import numpy as np
import pytest

from benchmarks import real_heads
from data_tools.grid import GRID_AFFINE, GRID_SHAPE, SLAB_SHAPE
from data_tools.image_files import open_image
from data_tools.patient import NativePatient
from data_tools.runtime.errors import InputError
from data_tools.simulate.cohort import image_paths
from data_tools.transform import Transform, motion
from data_tools.volumes import Volume
from tf_hypoperfusion.clinical import ClinicalFacts
from tf_hypoperfusion.inference.sliding_window import SlabModel, VolumeAnswer

LEFT = ClinicalFacts("left", 12)


def voxel(*mm):
    return tuple(np.rint((np.array(mm) - GRID_AFFINE[:3, 3]) / 2).astype(int))


def test_the_cerebellum_is_where_it_is():
    region = real_heads.cerebellum()
    for mm in ((0, -60, -30), (30, -60, -36), (-30, -60, -36), (8, -76, -30)):
        assert region[voxel(*mm)], mm
    # Pons, calcarine and fusiform gyrus, occipital pole, vertex.
    for mm in ((0, -26, -32), (10, -84, 4), (34, -44, -16), (20, -100, -8), (0, -60, 40)):
        assert not region[voxel(*mm)], mm


def test_the_cerebellum_beside_a_published_atlas(real_data):
    atlas = open_image(real_data / "atlas" / "ArterialAtlas136.nii.gz", "atlas")
    points = np.argwhere(real_heads.cerebellum()) @ GRID_AFFINE[:3, :3].T + GRID_AFFINE[:3, 3]
    to_index = np.linalg.inv(atlas.place.affine)
    index = np.rint(points @ to_index[:3, :3].T + to_index[:3, 3]).astype(int)
    inside = ((index >= 0) & (index < atlas.shape)).all(axis=1)
    labels = np.rint(atlas.read_finite()[tuple(index[inside].T)])
    known = labels[labels > 0]
    # Basilar and cerebellar arteries are 25 to 30.
    assert ((known >= 25) & (known <= 30)).mean() > 0.95


def ball(radius_mm, shift_mm=0.0):
    """A head of even tissue with a bright ball in the middle of its left half."""
    points = np.moveaxis(np.indices(GRID_SHAPE), 0, -1) * 2.0 + GRID_AFFINE[:3, 3]
    brain = ((points - (0, -18, 18)) ** 2 / (60, 75, 50) ** np.array(2)).sum(-1) < 1
    away = np.sqrt(((points - (-30 + shift_mm, -18, 20)) ** 2).sum(-1))
    # A soft edge, so that a shift by a part of a voxel is seen.
    bright = np.clip((radius_mm - away) / 4 + 0.5, 0, 1)
    native = NativePatient(
        dwi=Volume(((100 + 100 * bright) * brain).astype(np.float32), GRID_AFFINE),
        adc=Volume((850.0 * brain).astype(np.float32), GRID_AFFINE),
        adc_unit="1e-6 mm2/s",
        brain=brain,
    )
    return real_heads.Subject(name="ball", native=native, transform=Transform(np.eye(4)))


def brightness(mni, given):
    """A network that calls tissue of 1.5 times the median hypoperfused."""
    del given
    ratio = mni.dwi / np.median(mni.dwi[mni.brain])
    return VolumeAnswer(np.clip(ratio - 1, 0, 1)[np.newaxis].astype(np.float32) * mni.brain)


def everywhere(mni, given):
    """All of the brain is hypoperfused."""
    del given
    return VolumeAnswer(mni.brain[np.newaxis] * np.float32(1))


def test_an_answer_is_measured_where_the_dwi_lies():
    answer = real_heads.ask(ball(20), LEFT, brightness)
    assert answer.ml == pytest.approx(4 / 3 * np.pi * 2.0**3, rel=0.05)
    assert answer.mismatch and answer.core_ml == 0 and answer.cerebellum_ml == 0
    assert not real_heads.holds(answer)
    assert real_heads.holds(real_heads.ask(ball(10), LEFT, brightness))
    assert real_heads.ask(ball(10), LEFT, everywhere).cerebellum_ml > 1


def test_movements_are_as_large_as_they_say():
    subject = ball(20)
    counted = {}
    for movement in real_heads.movements():
        counted[movement.name] = counted.get(movement.name, 0) + 1
        changed = movement.change(subject)
        shift_mm, turned = motion(changed.transform.affine, subject.native.dwi)
        dwi = changed.native.dwi.data
        inside = subject.native.brain
        if movement.name == "0.3 mm":
            assert shift_mm == pytest.approx(0.3) and turned == pytest.approx(0, abs=1e-5)
        elif movement.name == "0.5 degrees":
            assert turned == pytest.approx(0.5, abs=1e-4) and shift_mm < 0.2
        elif movement.name == "noise of 1%":
            noise = (dwi - subject.native.dwi.data)[inside]
            assert noise.std() == pytest.approx(0.01 * subject.native.dwi.data[inside].mean(), 0.02)
            assert (dwi[~inside] == 0).all()
        elif movement.name == "int16":
            assert np.abs(dwi - subject.native.dwi.data).max() <= 200 / 32767
        else:
            assert abs(movement.mask_voxels) == 1
    assert counted == {
        "0.3 mm": 6, "0.5 degrees": 6, "noise of 1%": 3, "mask + a voxel": 1, "mask - a voxel": 1,
        "int16": 1,
    }  # fmt: skip


def test_a_moved_registration_moves_what_the_network_sees_and_not_the_answer():
    subject = ball(20)
    moved = real_heads.movements()[0].change(subject)
    seen = []

    def look(mni, given):
        seen.append(mni.dwi)
        return brightness(mni, given)

    unmoved, answer = (real_heads.ask(each, LEFT, look) for each in (subject, moved))
    expected = ball(20, shift_mm=0.3).native.dwi.data
    inside = subject.native.brain
    assert np.abs(seen[1] - expected)[20:35, 40:70, 20:40].mean() < 0.5
    assert np.abs(seen[0] - expected)[20:35, 40:70, 20:40].mean() > 0.5
    assert inside.any() and real_heads.overlap(unmoved.mask, answer.mask) > 0.97


def test_tables_of_heads_that_hold_and_that_do_not(monkeypatch):
    lines, largest = real_heads.panel([ball(20), ball(10)], [None], brightness)
    assert [line["holds"] for line in lines] == ["NO"] * 2 + ["yes"] * 2
    assert [line["side"] for line in lines] == ["left", "right"] * 2
    assert lines[0]["largest_at_mm"] == "-30 -18 20" and len(largest) == 4
    moved = real_heads.stability(largest[:1], brightness)
    assert moved[-1]["head"] == "masks of 20 mL and more"
    assert [line["movement"] for line in moved[:-1]] == [
        "0.3 mm", "0.5 degrees", "noise of 1%", "mask + a voxel", "mask - a voxel", "int16",
    ]  # fmt: skip
    assert all(float(line["worst_dice"]) > 0.97 for line in moved)
    assert moved[-1]["movement"] == "18/18 at 0.97"
    last = real_heads.movements()[-1:]
    monkeypatch.setattr(real_heads, "movements", lambda: last)
    assert "masks" not in str(real_heads.stability(largest[2:3], brightness))


def test_cores_beside_an_experts_mask():
    """The ball is bright enough for the rule; the networks find the same ball, or no core."""
    subject = ball(20)
    dark = np.where(subject.native.dwi.data >= 185, 500.0, subject.native.adc.data)
    adc = Volume(dark.astype(np.float32), GRID_AFFINE)
    native = dataclasses.replace(subject.native, adc=adc)
    subject = dataclasses.replace(subject, native=native, side="left", lesion=dark == 500.0)

    def with_core(mni, given):
        said = brightness(mni, given)
        return dataclasses.replace(said, core=said.networks[0])

    (line,) = real_heads.cores([subject], [12], with_core)
    assert (line["head"], line["side"], line["nihss"]) == ("ball", "left", "12")
    assert float(line["rule_Dice"]) == 1 and float(line["learnt_Dice"]) > 0.8
    assert line["rule_ml"] == line["expert_ml"] and float(line["learnt_ml"]) > 25
    plain = dataclasses.replace(subject, side=None, lesion=None)
    lines = real_heads.cores([plain], [None, 4], brightness)
    assert [each["side"] for each in lines] == ["left", "left", "right", "right"]
    unknown = ("expert_ml", "learnt_ml", "rule_Dice", "learnt_Dice")
    assert {lines[0][name] for name in unknown} == {"n/a"} and float(lines[0]["rule_ml"]) > 20


def test_overlap_of_nothing_with_nothing_is_whole():
    nothing, something = np.zeros(3, bool), np.array([True, False, True])
    assert real_heads.overlap(nothing, nothing) == 1
    assert real_heads.overlap(nothing, something) == 0
    assert real_heads.overlap(something, np.array([True, True, False])) == 0.5


def test_heads_of_a_table_are_registered(raw_cohort, tmp_path):
    paths = image_paths(raw_cohort, 1, "native")
    (tmp_path / "heads.tsv").write_text(
        f"head\tdwi\tadc\tside\none\t{paths['dwi']}\t{paths['adc']}\tn/a\n"
    )
    (subject,) = real_heads.real_subjects(str(tmp_path / "heads.tsv"))
    answer = real_heads.ask(subject, LEFT, everywhere)
    brain_ml = subject.native.brain.sum() * subject.native.dwi.voxel_ml
    assert 0.8 * brain_ml < answer.ml < brain_ml  # fluid is left out


def test_painted_patients_are_measured_as_a_cohort_is(mni_cohort):
    def even(image, nihss):
        return np.full((len(image), *SLAB_SHAPE, 1), 0.2, np.float32)

    whole, each = real_heads.painted_tables(str(mni_cohort), SlabModel(even), stride=16)
    assert whole[0]["n"] == 6 and whole[0]["Dice"] == "0.00" and "loss" not in whole[0]
    assert [line["patient"] for line in each][:2] == ["sub-0001", "sub-0002"]
    assert {line["said"] for line in each} == {"no"}
    ((subject, given),) = real_heads.painted_subjects(str(mni_cohort), 1)
    assert subject.name == "sub-0001" and given.side in ("left", "right")
    seen = []
    real_heads.ask(subject, given, lambda mni, given: seen.append(mni) or everywhere(mni, given))
    # Unmoved, it is not interpolated.
    assert np.allclose(seen[0].dwi, subject.native.dwi.data, atol=0.01)
    assert np.array_equal(seen[0].brain, subject.native.brain)


def test_scores_that_are_none_are_refused():
    with pytest.raises(InputError, match="--nihss is '50'"):
        real_heads.scores_of(["n/a", "50"])
    with pytest.raises(InputError, match="--nihss is empty"):
        real_heads.scores_of([])
    assert real_heads.scores_of(["n/a", "4"]) == [None, 4]
