"""The same head under two names is found however it was changed; other heads are not."""

import numpy as np
import pytest
from scipy import ndimage

from data_tools import duplicates
from data_tools.duplicates import Look, Pair, find, look_of
from data_tools.runtime.errors import InputError
from data_tools.template import template_on_grid

COUNT = 12
COARSE = (8, 10, 6)


def head(seed):
    """DWI, ADC and brain of a head of the template's shape with a make of its own."""
    rng = np.random.default_rng(seed)
    tissue, brain = template_on_grid()
    fields = [
        ndimage.zoom(rng.normal(size=COARSE), np.array(brain.shape) / COARSE, order=1)
        for _ in range(2)
    ]
    adc = 800 * tissue + 2500 * (1 - tissue) + 300 * fields[0]
    dwi = 100 * tissue + 30 * (1 - tissue) + 25 * fields[1]
    return (dwi * brain).astype(np.float32), (adc * brain).astype(np.float32), brain


@pytest.fixture(scope="module")
def heads():
    return {f"sub-{seed:02d}": head(seed) for seed in range(COUNT)}


@pytest.fixture(scope="module")
def looks(heads):
    return {name: look_of(*images) for name, images in heads.items()}


def moved(image):
    """By 3 mm and 3 degrees."""
    angle = np.deg2rad(3)
    turn = np.array(
        [[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]]
    )
    middle = (np.array(image.shape) - 1) / 2
    return ndimage.affine_transform(image, turn, middle - turn @ middle + (0.5, 1, 1), order=1)


def noisy(image):
    rng = np.random.default_rng(5)
    return image + (image > 0) * rng.normal(0, 0.05 * image[image > 0].mean(), image.shape)


COPIES = {
    "identical DWI and ADC": lambda dwi, adc, brain: (dwi, adc, brain),
    "the same DWI": lambda dwi, adc, brain: (dwi, noisy(adc), brain),
    "the same ADC map": lambda dwi, adc, brain: (2 * dwi, adc, brain),
    "the same head, moved or changed": lambda dwi, adc, brain: (
        noisy(2 * dwi), noisy(adc), brain
    ),
    "the same head, mirrored left to right": lambda *images: [image[::-1] for image in images],
}  # fmt: skip


@pytest.mark.parametrize("count", [3, COUNT])
def test_other_heads_are_others(looks, count):
    assert find(dict(list(looks.items())[:count])) == []


@pytest.mark.parametrize("kind", COPIES)
@pytest.mark.parametrize("count", [3, COUNT])
def test_a_copy_is_found_in_small_and_large_cohorts(heads, looks, kind, count):
    few = dict(list(looks.items())[:count])
    few["sub-copy"] = look_of(*COPIES[kind](*heads["sub-01"]))
    (pair,) = find(few)
    assert (pair.first, pair.second, pair.kind) == ("sub-01", "sub-copy", kind)
    assert pair.r >= 0.9


@pytest.mark.parametrize("count", [3, COUNT])
def test_a_moved_and_mirrored_copy_is_found(heads, looks, count):
    few = dict(list(looks.items())[:count])
    dwi, adc, brain = heads["sub-02"]
    place = moved(brain.astype(np.float32)) > 0.5
    few["sub-copy"] = look_of(noisy(moved(dwi))[::-1], noisy(moved(adc))[::-1], place[::-1])
    (pair,) = find(few)
    assert (pair.first, pair.second) == ("sub-02", "sub-copy")
    assert "mirrored" in pair.kind


def test_chunks_change_nothing(heads, looks, monkeypatch):
    every = looks | {"sub-copy": look_of(*COPIES["the same DWI"](*heads["sub-10"]))}
    whole = find(every)
    monkeypatch.setattr(duplicates, "CHUNK", 5)
    assert find(every) == whole
    assert len(whole) == 1


def test_a_cohort_of_one_head_is_found_although_its_mean_is_that_head(heads):
    dwi, adc, brain = heads["sub-00"]
    rng = np.random.default_rng(1)
    copies = {
        f"sub-{k:02d}": look_of(dwi + brain * rng.normal(0, 5, dwi.shape), adc, brain)
        for k in range(11)
    }
    assert len(find(copies)) == 55


def test_an_image_that_was_not_given_is_nobodys_copy(heads):
    looks = {name: look_of(dwi, 0 * adc, brain) for name, (dwi, adc, brain) in heads.items()}
    assert find(looks) == []


def test_pairs_join_groups_and_only_others_are_apart():
    pairs = [Pair("a", "b", "x", 1.0), Pair("b", "d", "x", 0.8)]
    groups = {"a": "a", "b": "b", "c": "b", "d": "d", "e": "e"}
    joined = duplicates.together(groups, pairs)
    assert joined == {"a": "a", "b": "a", "c": "a", "d": "a", "e": "e"}
    assert duplicates.apart(pairs, joined) == []
    assert duplicates.apart(pairs, groups | {"b": "a", "c": "a"}) == pairs[1:]


def test_the_refusal_names_pairs_and_ways_out():
    pairs = [Pair(f"sub-{k:02d}", "sub-x", "the same DWI", 1.0) for k in range(23)]
    error = duplicates.refusal(pairs)
    assert isinstance(error, InputError)
    text = str(error)
    for said in ("23 pairs", "sub-00 and sub-x: the same DWI (r = 1.00)", "and 3 more",
                 "column group", "--duplicates=together", "--duplicates=allow"):  # fmt: skip
        assert said in text
    assert "sub-20" not in text


def test_nobody_and_one_patient_have_no_pair():
    assert find({}) == []
    assert find({"sub-1": Look("a", "b", np.zeros(4, np.float16))}) == []


def test_real_heads_are_two_and_a_moved_one_is_itself(real_data):
    from data_tools import patient

    stems = (
        ("real_isles22_0001/sub-strokecase0001_", "dwi", "adc"),
        ("real_ads_S02/ads_Subject02_", "DWI", "ADC"),
    )
    looks = {}
    for stem, dwi, adc in stems:
        files = [f"{real_data}/{stem}{image}.nii.gz" for image in (dwi, adc)]
        mni, _ = patient.to_mni(patient.load_native(*files))
        images = mni.dwi, mni.adc_um2_per_s, mni.brain.astype(np.float32)
        looks[stem] = look_of(*images[:2], mni.brain)
        away = [moved(image) for image in images]
        looks[f"{stem}moved"] = look_of(*away[:2], away[2] > 0.5)
    found = find(looks)
    assert [(pair.first, pair.second) for pair in found] == [
        (stem, f"{stem}moved") for stem in sorted(stem for stem, _, _ in stems)
    ]
