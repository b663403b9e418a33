"""Strokes painted into heads: simulated heads stand in for real ones, which are used if at hand."""

import functools
import json

import numpy as np
import pytest

from data_tools.cohort import clinical_record, read_participants
from data_tools.grid import GRID_SHAPE, VOXEL_ML, hemisphere, mirrored_side
from data_tools.mni_patient import load_labelled
from data_tools.runtime.errors import InputError
from data_tools.simulate import heads, simulate_cohort
from data_tools.simulate.appearance import Streams
from data_tools.simulate.cohort import image_paths
from data_tools.simulate.measure import read_mni
from data_tools.simulate.painted import paint
from data_tools.volumes import load_volume, save_volume

SEED = 3  # its first two strokes are large enough to be seen
B = 1000.0
ROOT = "head\tdwi\tadc\tside\tlesion\n"


def painted(dwi, adc, *, adc_ratio=1.0, s0_ratio=1.0, dead=0.0):
    found = paint(
        np.array([dwi], np.float32),
        np.array([adc], np.float32),
        adc_ratio=np.array([adc_ratio], np.float32),
        s0_ratio=np.array([s0_ratio], np.float32),
        dead=np.array([dead], np.float32),
        b_s_per_mm2=B,
    )
    return [float(image[0]) for image in found]


def test_tissue_takes_the_ratios_themselves():
    dwi, adc = painted(200.0, 800.0, adc_ratio=0.6, s0_ratio=1.3)
    assert adc == pytest.approx(480)
    assert dwi == pytest.approx(200 * 1.3 * np.exp(0.8 - 0.48), rel=1e-5)


def test_fluid_in_a_voxel_takes_none_of_them():
    # Half a voxel of tissue of 1100, half of fluid of 3000 and the same signal at b = 0.
    tissue, fluid = np.exp(-1.1), np.exp(-3.0)
    adc = 1000 * np.log(2 / (tissue + fluid))
    darker = np.exp(-1.1 * 0.5)
    dwi, after = painted(100 * (tissue + fluid), adc, adc_ratio=0.5)
    # What tissue of 1100 or less explains is taken for tissue, and so more of it than there is.
    assert dwi == pytest.approx(100 * (darker + fluid), rel=1e-4)
    assert after == pytest.approx(1000 * np.log(2 / (darker + fluid)), rel=1e-4)
    assert painted(10.0, 3200.0, adc_ratio=0.5) == pytest.approx([10.0, 3200.0], rel=1e-5)


def test_dead_tissue_presses_fluid_out():
    _, loose = painted(100.0, 1800.0, adc_ratio=0.6)
    _, swollen = painted(100.0, 1800.0, adc_ratio=0.6, dead=1.0)
    assert swollen < loose < 1800


def test_what_is_not_marked_stays_to_the_bit():
    assert painted(123.4, 987.6) == [np.float32(123.4), np.float32(987.6)]
    assert painted(123.4, 0.0, adc_ratio=0.5) == [np.float32(123.4), 0.0]


@pytest.fixture(scope="module")
def own(raw_cohort):
    """The side of the stroke that the head has already."""
    return str(read_participants(raw_cohort)["side"][0])


@pytest.fixture(scope="module")
def table(raw_cohort, own, tmp_path_factory):
    """One head, with a lump of 2 cm that is said to be its lesion."""
    folder = tmp_path_factory.mktemp("heads")
    paths = image_paths(raw_cohort, 1, "native")
    dwi = load_volume(paths["dwi"])
    points = np.moveaxis(np.indices(dwi.data.shape), 0, -1) @ dwi.affine[:3, :3].T
    middle = np.array(dwi.data.shape) // 2 @ dwi.affine[:3, :3].T
    lump = ((points - middle) ** 2).sum(-1) < 10.0**2
    save_volume(folder / "lesion.nii.gz", lump, dwi.affine)
    path = folder / "heads.tsv"
    path.write_text(f"{ROOT}one\t{paths['dwi']}\t{paths['adc']}\t{own}\tlesion.nii.gz\n")
    return path


@pytest.fixture(scope="module")
def cohort(table, tmp_path_factory):
    """The head as it is, and mirrored."""
    out = tmp_path_factory.mktemp("painted") / "cohort"
    return simulate_cohort(out, 2, SEED, space="mni", heads=table)


@pytest.fixture(scope="module")
def seen(table):
    """The head as a patient has it, from number and mirrored."""
    head = heads.load(heads.read(str(table))[0])

    @functools.cache
    def look(index, mirrored):
        return heads.see(head, Streams(SEED, index), mirrored=mirrored)

    return look


def test_the_cohort_says_what_it_is(cohort):
    description = json.loads((cohort / "dataset_description.json").read_text())
    assert description["Name"] == "Simulated lesions painted into real heads"
    made_by = description["GeneratedBy"][0]["Description"]
    assert "painted into real heads" in made_by and "no real ones" not in made_by
    assert "--heads (1 head, " in made_by and description["License"] != "CC0"
    assert "show real people" in (cohort / "README").read_text()
    rows = read_participants(cohort)
    assert rows["age"].isna().all() and list(rows["sex"]) == [None, None]


def test_strokes_come_to_the_side_that_is_free(cohort, own):
    rows = read_participants(cohort)
    assert list(rows["side"]) == [mirrored_side(own), own]  # the second head is mirrored
    for index, own_side in ((1, own), (2, mirrored_side(own))):
        name = f"sub-{index:04d}"
        said = json.loads((cohort / name / f"{name}_simulation.json").read_text())
        assert said["painted_into"]["own_side"] == own_side
        assert said["painted_into"]["mirrored"] == (index == 2)


def test_truth_is_known_and_of_this_heads_volume(cohort, table):
    voxel_ml = heads.load(heads.read(str(table))[0]).voxel_ml
    for _, row in read_participants(cohort).iterrows():
        record = clinical_record(row)
        patient, label, described = load_labelled(cohort, record)
        assert patient.voxel_ml == pytest.approx(voxel_ml) and voxel_ml < VOXEL_ML
        assert described["truth_ml"] > 10
        assert not (label.truth & ~hemisphere(record["side"])).any()


@pytest.mark.parametrize("index", [1, 2])
def test_the_other_half_is_as_it_was_and_the_stroke_is_not(cohort, seen, index):
    before = seen(index, index == 2)
    after = read_mni(cohort, index)
    record = clinical_record(read_participants(cohort).iloc[index - 1])
    _, label, _ = load_labelled(cohort, record)
    other = after.brain & ~hemisphere(record["side"])
    other[40:51] = False  # its blur passes the midline
    assert np.allclose(after.dwi[other], before.dwi[other], rtol=1e-5)
    assert np.abs(after.adc_um2_per_s[other] - before.adc_um2_per_s[other]).max() <= 0.5
    assert np.array_equal(after.brain, before.brain)
    core = label.core_truth
    assert core.any() and not (core & ~hemisphere(record["side"])).any()
    assert np.median(after.adc_um2_per_s[core] / before.adc_um2_per_s[core]) < 0.8
    late = label.truth & (before.adc_um2_per_s < 1100) & (before.adc_um2_per_s > 0)
    assert np.median(after.adc_um2_per_s[late] / before.adc_um2_per_s[late]) < 0.97
    assert np.median(after.dwi[late] / before.dwi[late]) > 1.03
    voxel_ml = abs(np.linalg.det(before.affine[:3, :3])) ** -1 * VOXEL_ML
    assert before.own_lesion.sum() * voxel_ml > 4  # the lump of 4.2 mL, and its margin
    assert not (after.coverage & before.own_lesion).any() and before.own_lesion[after.brain].any()


def test_a_mirrored_head_is_the_same_head(seen):
    plain, mirrored = seen(1, False), seen(1, True)
    assert np.array_equal(plain.brain[::-1], mirrored.brain)
    assert np.allclose(plain.anatomy.csf[::-1], mirrored.anatomy.csf, atol=0.02)
    assert np.allclose(plain.anatomy.template_mm[0, ::-1], -mirrored.anatomy.template_mm[0])
    parts = plain.anatomy.grey + plain.anatomy.white + plain.anatomy.csf
    assert np.allclose(parts, plain.anatomy.brain, atol=1e-5)
    assert np.linalg.det(mirrored.affine) == pytest.approx(np.linalg.det(plain.affine))


def test_looks_differ_from_time_to_time(seen):
    one, other = seen(1, True), seen(2, True)
    inside = one.brain & other.brain
    assert inside.sum() > 0.9 * one.brain.sum() > 0
    assert one.dwi.shape == GRID_SHAPE and not np.array_equal(one.dwi, other.dwi)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a\tgone.nii.gz\tn/a\tleft\tn/a", "line 2: no such file: .*gone.nii.gz"),
        ("a\tn/a\tn/a\tleft\tn/a", "no DWI named"),
        ("a\theads.tsv\tn/a\tfront\tn/a", "side is 'front'; expected left, right, bilateral"),
        ("a\theads.tsv\tn/a\tn/a\tn/a\na\theads.tsv\tn/a\tn/a\tn/a", "a stands there twice"),
        ("\theads.tsv\tn/a\tn/a\tn/a", "has no name"),
        ("a\theads.tsv", "has 2 cells"),
    ],
)
def test_faults_of_the_table_are_named(tmp_path, line, message):
    (tmp_path / "heads.tsv").write_text(ROOT + line + "\n")
    with pytest.raises(InputError, match=message):
        heads.read(str(tmp_path / "heads.tsv"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"space": "native"}, "expected --space=mni with --heads"),
        ({"noise": 0.5}, "leave out --noise"),
        ({"shift": "b700"}, "shift b700 changes tissue, scanner or preparation"),
        ({"heads": "gone.tsv"}, "gone.tsv: no such file"),
    ],
)
def test_what_heads_bring_themselves_is_not_chosen(tmp_path, table, settings, message):
    with pytest.raises(InputError, match=message):
        simulate_cohort(
            tmp_path / "out", 1, SEED, **{"space": "mni", "heads": table, **settings}
        )  # fmt: skip
    assert not (tmp_path / "out").exists()


def test_a_head_that_cannot_be_used_is_named(tmp_path):
    (tmp_path / "heads.tsv").write_text(f"{ROOT}mine\theads.tsv\theads.tsv\tn/a\tn/a\n")
    with pytest.raises(InputError, match="head mine: "):
        simulate_cohort(tmp_path / "out", 1, SEED, space="mni", heads=tmp_path / "heads.tsv")


def test_a_real_head(real_data, tmp_path):
    stem = real_data / "real_ads_S02" / "ads_Subject02_"
    (tmp_path / "heads.tsv").write_text(
        f"head\tdwi\tadc\tside\nS02\t{stem}DWI.nii.gz\t{stem}ADC.nii.gz\tleft\n"
    )
    out = simulate_cohort(
        tmp_path / "out", 1, SEED, space="mni", heads=tmp_path / "heads.tsv"
    )  # fmt: skip
    record = clinical_record(read_participants(out).iloc[0])
    _, _, described = load_labelled(out, record)
    assert record["side"] == "right" and described["truth_ml"] > 10
    assert 900 < described["brain_ml"] < 1600
