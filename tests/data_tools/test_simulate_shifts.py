"""Every shift changes what it says, measured from the images, and nothing else."""

import dataclasses

import numpy as np
import pytest
from scipy import ndimage

from data_tools import criteria, grid
from data_tools.runtime.errors import InputError
from data_tools.simulate import anatomy, clinical, contrast, images, simulate_cohort
from data_tools.simulate import patient as patients
from data_tools.simulate.appearance import FIRST, Streams
from data_tools.simulate.lesion import make_lesion
from data_tools.simulate.looks import LOOKS
from data_tools.simulate.shifts import SHIFTS, listed

SEED, INDEX = 77, 3
SINGLE = [name for name, shift in SHIFTS.items() if not shift.together]
STREAMS = Streams(SEED, INDEX)


def plan():
    return dataclasses.replace(
        clinical.make_plan(SEED, INDEX), side="left", occlusion="M1",
        hypoperfusion_ml=110.0, core_ml=30.0, field_strength_t=3.0,
    )  # fmt: skip


class Scene:
    """One head and stroke, and its images under a shift."""

    def __init__(self):
        self.head = anatomy.make_anatomy(np.random.default_rng(0), 70)
        self.strokes, self.shown = {}, {}

    def stroke(self, name):
        shift = SHIFTS.get(name)
        look = shift.look(FIRST) if shift else FIRST
        wanted = shift.plan(plan()) if shift else plan()
        key = (look.coupling, wanted)
        if key not in self.strokes:
            self.strokes[key] = make_lesion(
                np.random.default_rng(1), self.head, wanted, coupling=look.coupling
            )
        return self.strokes[key], look, wanted

    def native(self, name):
        if name not in self.shown:
            stroke, look, wanted = self.stroke(name)
            self.shown[name] = images.acquire(
                np.random.default_rng(2), self.head, stroke, wanted, look=look, streams=STREAMS
            )
        return self.shown[name]

    def mni(self, name):
        _, look, _ = self.stroke(name)
        return images.to_mni(self.native(name), self.head, look.preparation, STREAMS)

    def contrast(self, name):
        seen = self.mni(name)
        return contrast.measure(seen.dwi, seen.adc_um2_per_s, seen.brain, "left")

    def of(self, name, what, mask):
        """Median ratio of an image to its mirror image, in a mask of the plain patient."""
        image = getattr(self.mni(name), what)
        other = image[::-1]
        both = mask & (image > 0) & (other > 0)
        return float(np.median(image[both] / other[both]))


@pytest.fixture(scope="module")
def scene():
    return Scene()


@pytest.fixture(scope="module")
def late(scene):
    """Voxels of late and living tissue of the plain patient, on the MNI grid."""
    stroke, _, _ = scene.stroke(None)
    living = stroke.hypoperfused & ~ndimage.binary_dilation(stroke.core, iterations=2)
    return living[anatomy.GRID_IN_MODEL]


def test_there_are_enough_and_each_is_named_once():
    assert len(SINGLE) >= 14 and len(SHIFTS) - len(SINGLE) == 3
    assert len({shift.says for shift in SHIFTS.values()}) == len(SHIFTS)
    lines = listed().splitlines()
    assert [line.split()[0] for line in lines] == list(SHIFTS)


def changed_fields(before, after):
    parts = [f.name for f in dataclasses.fields(before)]
    return {
        f"{part}.{field.name}"
        for part in parts
        for field in dataclasses.fields(getattr(before, part))
        if getattr(getattr(before, part), field.name) != getattr(getattr(after, part), field.name)
    }


FIELDS = {
    "b700": {"scanner.b_s_per_mm2"},
    "b1500": {"scanner.b_s_per_mm2"},
    "snr8": {"scanner.snr", "scanner.snr_limit"},
    "snr30": {"scanner.snr", "scanner.snr_limit"},
    "bias30": {"scanner.field_45_mm", "scanner.field_18_mm"},
    "grey_bright": {"tissue.white_s0"},
    "grey_dark": {"tissue.white_s0"},
    "adc_even": {
        "tissue.cortex_adc_um2_per_s",
        "tissue.deep_adc_um2_per_s",
        "tissue.white_s0",
    },
    "t2": {"tissue.csf_s0", "tissue.white_s0", "coupling.core_s0"},
    "bright_cortex": {"tissue.bright_cortex", "tissue.limbic"},
    "skull_base": {"scanner.susceptibility", "scanner.skull_base"},
    "penumbra_faint": {"coupling.penumbra_adc", "coupling.penumbra_s0"},
    "penumbra_unseen": {"coupling.penumbra_adc", "coupling.penumbra_s0"},
    "thick": {"scanner.slice_mm", "scanner.gap_mm"},
    "stretch": {"scanner.stretch", "scanner.distortion_mm"},
    "adc_clipped": {"scanner.adc_max_um2_per_s"},
    "adc_coarse": {"scanner.adc_step_um2_per_s"},
    "adc_scaled": {"scanner.adc_scale"},
    "off_4mm": {"preparation.off_mm"},
    "off_5deg": {"preparation.off_deg"},
    "mask_small": {"preparation.mask_voxels"},
    "mask_skull": {"preparation.mask_voxels"},
    "old_infarct": {"tissue.old_infarct_other_side", "tissue.old_infarct_ml"},
    "stenosis": {"coupling.old_delay_other_side", "coupling.old_delay_s"},
    "real_shapes": set(),
    "uncoupled": {
        "coupling.reperfused_share",
        "coupling.stray_core_share",
        "coupling.more_core_seeds",
        "coupling.severe_share",
    },
    "no_core": set(),
    "no_penumbra": set(),
}


@pytest.mark.parametrize("name", SINGLE)
@pytest.mark.parametrize("look", LOOKS)
def test_a_shift_sets_these_numbers_alone(name, look):
    shift = SHIFTS[name]
    looks = [LOOKS[look].draw(Streams(SEED, k)) for k in range(8)]
    changed = set().union(*(changed_fields(each, shift.look(each)) for each in looks))
    assert changed == FIELDS[name]
    usual = plan()
    same = shift.plan(usual) == usual
    assert same == (name != "no_core")


def test_b_value_changes_the_dwi_of_the_core_and_leaves_adc(scene):
    core = ndimage.binary_erosion(scene.stroke(None)[0].core[anatomy.GRID_IN_MODEL])
    ratio = {name: scene.of(name, "dwi", core) for name in ("b700", None, "b1500")}
    assert ratio["b700"] < ratio[None] - 0.05 < ratio["b1500"] - 0.2
    adc = {name: scene.of(name, "adc_um2_per_s", core) for name in ("b700", None, "b1500")}
    assert np.ptp(list(adc.values())) < 0.03


def noise(native):
    """SD of the DWI's finest detail where tissue is, over its level."""
    mask = ndimage.binary_erosion(native.dwi > 0.6 * np.percentile(native.dwi, 97), iterations=2)
    detail = np.diff(native.dwi, 2, axis=0)[mask[1:-1]] / np.median(native.dwi[mask])
    return float(np.median(np.abs(detail)))


def test_noise_is_what_the_snr_says(scene):
    low, usual, high = (noise(scene.native(name)) for name in ("snr8", None, "snr30"))
    assert low > 1.4 * usual > 1.5 * high
    for name in ("snr8", "snr30"):
        np.testing.assert_array_equal(scene.native(name).tmax_s, scene.native(None).tmax_s)
        np.testing.assert_array_equal(scene.native(name).affine, scene.native(None).affine)


def test_bias_field_is_large_and_in_the_dwi_alone(scene):
    plain, shifted = scene.mni(None), scene.mni("bias30")
    mask = plain.brain & (plain.dwi > 0.3 * plain.dwi.max() / 3) & (shifted.dwi > 0)
    assert 0.2 < np.log(shifted.dwi[mask] / plain.dwi[mask]).std() < 0.4
    both = mask & (plain.adc_um2_per_s > 400) & (plain.adc_um2_per_s < 1200)
    assert abs(np.median(shifted.adc_um2_per_s[both] / plain.adc_um2_per_s[both]) - 1) < 0.01
    assert scene.contrast("bias30").large_scale_sd > 3 * scene.contrast(None).large_scale_sd


@pytest.mark.parametrize(
    ("name", "low", "high"), [("grey_bright", 1.15, 1.25), ("grey_dark", 0.86, 0.94)]
)
def test_grey_against_white_on_dwi(scene, name, low, high):
    plain, shifted = scene.contrast(None), scene.contrast(name)
    assert low < shifted.dwi_grey_to_white < high
    assert shifted.adc_grey_to_white == pytest.approx(plain.adc_grey_to_white, abs=0.03)


def test_grey_against_white_on_adc(scene):
    plain, shifted = scene.contrast(None), scene.contrast("adc_even")
    assert plain.adc_grey_to_white > 1.1 > shifted.adc_grey_to_white
    assert shifted.dwi_grey_to_white == pytest.approx(plain.dwi_grey_to_white, abs=0.04)


def test_a_longer_echo_time_brightens_fluid_and_grey_matter(scene):
    plain, shifted = scene.contrast(None), scene.contrast("t2")
    assert shifted.dwi_grey_to_white > 1.05 * plain.dwi_grey_to_white
    assert scene.contrast("bright_cortex").bright_share > plain.bright_share + 0.02


def test_skull_base_is_uneven_and_the_crown_is_not(scene):
    plain, shifted = scene.mni(None), scene.mni("skull_base")
    log = np.log(np.maximum(shifted.dwi, 1) / np.maximum(plain.dwi, 1))
    low, high = (plain.brain[..., part] for part in (slice(0, 12), slice(40, None)))
    assert log[..., :12][low].std() > 4 * log[..., 40:][high].std()


def test_penumbra_shows_less_or_not_at_all(scene, late):
    """Against the shift in which nothing shows: no two halves of a head are alike."""
    names = (None, "penumbra_faint", "penumbra_unseen")
    plain, faint, unseen = (scene.mni(name) for name in names)
    for what, sign in (("adc_um2_per_s", -1), ("dwi", 1)):
        nothing = getattr(unseen, what)[late]
        full, less = (
            sign * np.log(np.median(getattr(seen, what)[late][nothing > 0] / nothing[nothing > 0]))
            for seen in (plain, faint)
        )
        assert full > 0.05 and 0.3 * full < less < 0.55 * full
    for name in names[1:]:
        np.testing.assert_array_equal(scene.native(name).tmax_s, scene.native(None).tmax_s)


def test_thick_slices_with_gaps(scene):
    spacing = np.linalg.norm(scene.native("thick").affine[:3, 2])
    assert spacing == pytest.approx(7) and scene.native("thick").dwi.shape[2] == 23
    assert np.linalg.norm(scene.native(None).affine[:3, 2]) < 6.1


def test_stretch_makes_the_head_longer_with_its_delay(scene):
    def extent(image):
        rows = np.flatnonzero((image > 0.3 * np.percentile(image, 99)).any(axis=(0, 2)))
        return rows[-1] - rows[0]

    plain, shifted = scene.native(None), scene.native("stretch")
    assert 1.03 < extent(shifted.dwi) / extent(plain.dwi) < 1.1
    assert not np.array_equal(plain.tmax_s, shifted.tmax_s)  # what is late moves with it


def test_adc_maps_clipped_coarse_and_scaled(scene):
    plain = scene.native(None).adc_um2_per_s
    np.testing.assert_array_equal(
        scene.native("adc_clipped").adc_um2_per_s, np.minimum(plain, 1500)
    )
    coarse = scene.native("adc_coarse").adc_um2_per_s
    assert not (coarse % 50).any() and np.abs(coarse - plain).max() <= 25.5
    tissue = (plain > 300) & (plain < 2000)
    assert (scene.native("adc_scaled").adc_um2_per_s[tissue] / plain[tissue]).mean() == (
        pytest.approx(1.06, abs=1e-3)
    )
    for name in ("adc_clipped", "adc_coarse", "adc_scaled"):
        np.testing.assert_array_equal(scene.native(name).dwi, scene.native(None).dwi)


def test_registration_is_off_by_what_it_says():
    off = images.misplaced(SHIFTS["off_4mm"].look(FIRST).preparation, STREAMS)
    assert np.linalg.norm(off[:3, 3]) == pytest.approx(4)
    turned = images.misplaced(SHIFTS["off_5deg"].look(FIRST).preparation, STREAMS)
    angle = np.rad2deg(np.arccos((np.trace(turned[:3, :3]) - 1) / 2))
    assert angle == pytest.approx(5, abs=0.3)
    middle = np.array([0, -18, 10, 1])
    assert np.allclose(turned @ middle, middle)


def test_a_registration_that_is_off_moves_images_and_mask_together(scene):
    plain, shifted = scene.mni(None), scene.mni("off_4mm")
    moved = [ndimage.center_of_mass(each.brain) for each in (plain, shifted)]
    assert 1 < grid.VOXEL_MM * np.linalg.norm(np.subtract(*moved)) < 4.5
    assert (shifted.dwi[shifted.brain] > 0).mean() > 0.99
    assert scene.native("off_4mm").dwi is not None
    np.testing.assert_array_equal(scene.native("off_4mm").dwi, scene.native(None).dwi)


def test_masks_lose_and_gain_layers(scene):
    plain, small, large = (scene.mni(name).brain for name in (None, "mask_small", "mask_skull"))
    np.testing.assert_array_equal(small, ndimage.binary_erosion(plain, iterations=2))
    np.testing.assert_array_equal(large, ndimage.binary_dilation(plain, iterations=3))
    inside = small
    np.testing.assert_array_equal(scene.mni("mask_small").dwi[inside], scene.mni(None).dwi[inside])


def test_old_infarct_is_on_the_other_side_and_no_stroke(scene):
    stroke, _, _ = scene.stroke("old_infarct")
    assert stroke is scene.stroke(None)[0]
    plain, shifted = scene.mni(None), scene.mni("old_infarct")
    higher = plain.brain & (shifted.adc_um2_per_s > plain.adc_um2_per_s + 500)
    higher = ndimage.binary_opening(higher)
    middle = grid.GRID_SHAPE[0] // 2
    assert 3 < higher[middle:].sum() * grid.VOXEL_ML < 45
    assert higher[middle:].sum() > 10 * higher[:middle].sum()


def test_stenosis_makes_the_other_side_late_and_no_stroke(scene):
    plain, shifted = scene.stroke(None)[0], scene.stroke("stenosis")[0]
    x = scene.head.template_mm[0]
    other = scene.head.tissue & (x > 20)
    assert np.median(shifted.tmax_s[other]) > np.median(plain.tmax_s[other]) + 1
    assert not (shifted.hypoperfused & other).any()


def test_uncoupled_cores_lie_outside_the_late_tissue_more_often(scene):
    def outside(name):
        look = SHIFTS[name].look(FIRST) if name else FIRST
        shares = []
        for seed in range(6):
            lesion = make_lesion(
                np.random.default_rng(seed), scene.head, plan(), coupling=look.coupling
            )
            shares.append((lesion.core & ~lesion.hypoperfused).sum() / lesion.core.sum())
        return np.mean(shares)

    assert outside("uncoupled") > outside(None) + 0.1


def test_no_core_and_no_penumbra():
    assert patients.make_plan(SEED, 1, shift="no_core").core_ml == 0
    plain = [patients.make_plan(SEED, k) for k in range(1, 47)]
    kinds = [patients.make_plan(SEED, k, shift="no_penumbra") for k in range(1, 47)]
    assert {p.stroke for p in kinds} == {"small", "scattered", "posterior"}
    assert not any(criteria.target_mismatch(p.hypoperfusion_ml, p.core_ml) for p in kinds)
    assert [p.age for p in kinds] == [p.age for p in plain]


def test_several_together_change_several():
    for name, shift in SHIFTS.items():
        if shift.together:
            assert len(changed_fields(FIRST, shift.look(FIRST))) >= 4, name


def test_a_shift_that_would_change_nothing_is_refused(tmp_path):
    for options, message in (
        ({"shift": "none_such"}, "shift is 'none_such'; expected one of b700"),
        ({"shift": "off_4mm"}, "is about the way to MNI space .* expected --space=mni"),
        ({"shift": "real_shapes"}, "expected --lesions=FOLDER"),
        ({"look": "narrow"}, "look is 'narrow'; expected one of first, wide"),
        ({"look": "wide,narrow"}, "or several with commas"),
    ):
        with pytest.raises(InputError, match=message):
            simulate_cohort(tmp_path / "c", 1, SEED, **options)


def test_a_shifted_cohort_says_so_and_holds_the_same_people(tmp_path):
    import json

    folder = simulate_cohort(tmp_path / "c", 1, SEED, look="wide", shift="b700")
    made_by = json.loads((folder / "dataset_description.json").read_text())["GeneratedBy"][0]
    assert made_by["Description"].endswith("--look=wide --shift=b700")
    assert (folder / "sub-0001/dwi/sub-0001_dwi.bval").read_text() == "700\n"
    truth = folder / "derivatives/simulation/sub-0001/sub-0001_simulation.json"
    saved = json.loads(truth.read_text())
    assert saved["look"]["scanner"]["b_s_per_mm2"] == 700
    again = patients.simulate_patient(SEED, 1, look="wide", shift="b700")
    plain = patients.simulate_patient(SEED, 1, look="wide")
    assert again.row() == plain.row() and again.row() == saved["participant"]
    np.testing.assert_array_equal(again.lesion.tmax_s, plain.lesion.tmax_s)
    np.testing.assert_array_equal(again.native.affine, plain.native.affine)


@pytest.mark.parametrize("name", ["off_4mm", "stretch"])
def test_the_true_core_lies_where_a_shifted_image_shows_it(scene, name):
    stroke, look, _ = scene.stroke(name)
    plain = images.core_on_grid(stroke.core, scene.head)
    moved = images.core_on_grid(stroke.core, scene.head, look, STREAMS)
    assert 0.8 < moved.sum() / plain.sum() < 1.25
    gained, lost = moved & ~plain, plain & ~moved
    adc = scene.mni(name).adc_um2_per_s
    assert gained.sum() > 100 < lost.sum()
    assert np.median(adc[gained & (adc > 0)]) < np.median(adc[lost & (adc > 0)]) - 50


def test_looks_take_turns_and_each_patient_is_that_of_a_cohort_of_its_look(tmp_path):
    both = simulate_cohort(tmp_path / "both", 2, 5, space="mni", look="wide,first")
    for number, look in ((1, "first"), (2, "wide")):
        alone = simulate_cohort(tmp_path / look, number, 5, space="mni", look=look)
        images = sorted((both / f"sub-{number:04d}").glob("*.nii.gz"))
        same = [alone / image.relative_to(both) for image in images]
        assert images and [i.read_bytes() for i in images] == [i.read_bytes() for i in same]
