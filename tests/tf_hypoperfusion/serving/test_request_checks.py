"""What is refused of a patient, on simulated patients: by the graph and by numpy in the same words.

Their figures against calculations of numpy and scipy alone.
"""

import numpy as np
import pytest
import tensorflow as tf
from scipy import ndimage

from data_tools import mni_patient
from data_tools.cohort import read_participants
from data_tools.grid import ADC_CSF_UM2_PER_S, GRID_AFFINE, GRID_SHAPE
from data_tools.plausibility import check_contrast, check_not_swapped, detect_adc_unit
from data_tools.registration import tissue_map
from data_tools.runtime.errors import InputError
from data_tools.template import template_on_grid
from data_tools.volumes import Volume
from tf_hypoperfusion.serving import graph_arrays, numpy_arrays, request_checks, warmup
from tf_hypoperfusion.serving.server.tensorflow_model import explain

BOTH = pytest.mark.parametrize("xp", [graph_arrays, numpy_arrays], ids=["graph", "numpy"])


@pytest.fixture(scope="module")
def people(mni_cohort):
    """DWI, ADC and brain of each simulated patient."""
    names = read_participants(mni_cohort)["participant_id"]
    patients = [mni_patient.load_mni(mni_cohort, name) for name in names]
    return [(p.dwi, p.adc_um2_per_s, p.brain) for p in patients]


def as_patient(dwi, adc, brain, given=lambda value: value):
    return request_checks.Patient(
        dwi=dwi,
        adc=adc,
        brain_mask=brain,
        nihss=given(np.float32(14)),
        side=given("left"),
        voxel_ml=given(np.float32(0.008)),
    )


def in_numpy(dwi, adc, brain):
    """What numpy says of a patient; "" if nothing."""
    tissue = (brain > 0) & (adc > 0) & (adc < ADC_CSF_UM2_PER_S)
    try:
        with np.errstate(all="ignore"):
            request_checks.check(numpy_arrays, as_patient(dwi, adc, brain), tissue)
    except InputError as error:
        return str(error)
    return ""


@pytest.fixture(scope="module")
def refusal():
    """What is said of a patient by the graph and by numpy, "" if nothing."""

    @tf.function(input_signature=[tf.TensorSpec(GRID_SHAPE, tf.float32)] * 3)
    def check(dwi, adc, brain):
        tissue = (brain > 0) & (adc > 0) & (adc < ADC_CSF_UM2_PER_S)
        patient = as_patient(dwi, adc, brain, tf.constant)
        with tf.control_dependencies([request_checks.check(graph_arrays, patient, tissue)]):
            return tf.constant(True)

    def ask(volumes):
        volumes = [np.ascontiguousarray(v, np.float32) for v in volumes]
        said = ""
        try:
            check(*map(tf.constant, volumes))
        except tf.errors.InvalidArgumentError as error:
            said = explain(error).message
        assert in_numpy(*volumes) == said
        return said

    return ask


def test_right_patients_are_taken(refusal, people):
    for dwi, adc, brain in people:
        assert refusal((dwi, adc, brain)) == ""
        # As the client sends them: nothing outside the brain.
        assert refusal((np.where(brain, dwi, 0), np.where(brain, adc, 0), brain)) == ""


def cut_below(dwi, adc, brain):
    return dwi, adc, brain & (np.arange(60) > 8)


def cut_above(dwi, adc, brain):
    return dwi, adc, brain & (np.arange(60) < 40)


def with_a_cavity(dwi, adc, brain):
    hole = np.zeros(GRID_SHAPE, bool)
    hole[20:36, 40:65, 25:42] = True  # 54 mL
    return np.where(hole, dwi * 0.3, dwi), np.where(hole, 2800, adc), brain


def with_a_hole(dwi, adc, brain):
    hole = np.zeros(GRID_SHAPE, bool)
    hole[20:36, 40:65, 25:42] = True
    return dwi, adc, brain & ~hole


def half_a_core(dwi, adc, brain):
    left = brain & (np.arange(91) < 45)[:, None, None] & (adc < 1300)
    return np.where(left, dwi * 2, dwi), np.where(left, 450, adc), brain


def smaller(dwi, adc, brain):
    return dwi, adc, ndimage.binary_erosion(brain)


def larger(dwi, adc, brain):
    return dwi, adc, ndimage.binary_dilation(brain) & (adc > 0)


@pytest.mark.parametrize(
    "change",
    [cut_below, cut_above, with_a_cavity, with_a_hole, half_a_core, smaller, larger],
    ids=lambda change: change.__name__,
)
def test_odd_but_right_patients_are_taken(change, refusal, people):
    for patient in people[:2]:
        assert refusal(change(*patient)) == ""


def every(change):
    return lambda *volumes: tuple(change(volume) for volume in volumes)


def rolled(mm, axis):
    return every(lambda volume: np.roll(volume, mm // 2, axis))


def resampled(matrix, offset=None):
    """Each voxel from ``matrix`` @ index: about the middle of the grid, or as ``offset`` says."""
    middle = (np.array(GRID_SHAPE) - 1) / 2
    offset = middle - matrix @ middle if offset is None else offset

    def change(volume):
        order = 0 if volume.dtype == bool else 1
        return ndimage.affine_transform(volume, matrix, offset, order=order)

    return every(change)


def quarter_turn(one, other):
    matrix = np.eye(3)
    matrix[one, one] = matrix[other, other] = 0
    matrix[one, other], matrix[other, one] = -1, 1
    return resampled(matrix)


def turned(degrees, one, other):
    matrix, angle = np.eye(3), np.radians(degrees)
    matrix[[one, one, other, other], [one, other, one, other]] = [
        np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)
    ]  # fmt: skip
    return resampled(matrix)


UPSIDE_DOWN, BACK_TO_FRONT = "mirrored in z (upside down)", "mirrored in y (front and back)"
SIZE, DICE, AGREE = "other voxel sizes|times as large", "its Dice with the", "agree with|Dice|brain"
WRONG_PLACES = {
    "flip y": (every(lambda v: v[:, ::-1]), BACK_TO_FRONT),
    "flip x, y": (every(lambda v: v[::-1, ::-1]), BACK_TO_FRONT),
    "flip z": (every(lambda v: v[:, :, ::-1]), UPSIDE_DOWN),
    "flip y, z": (every(lambda v: v[:, ::-1, ::-1]), "mirrored in y and z"),
    "z, y, x": (every(lambda v: v.transpose(2, 1, 0).reshape(GRID_SHAPE)), DICE),
    "Fortran order": (every(lambda v: v.ravel("F").reshape(GRID_SHAPE)), DICE),
    "10 mm left": (rolled(-10, 0), "too far left"),
    "10 mm right": (rolled(10, 0), "too far right"),
    "10 mm back": (rolled(-10, 1), "too far back"),
    "10 mm front": (rolled(10, 1), "too far to the front"),
    "10 mm down": (rolled(-10, 2), "too far down"),
    "10 mm up": (rolled(10, 2), "too far up"),
    "14 mm up": (rolled(14, 2), "too far up"),
    "20 mm left": (rolled(-20, 0), "too far left"),
    "20 mm back": (rolled(-20, 1), "too far back"),
    "20 mm down": (rolled(-20, 2), "too far down"),
    "32 mm up": (rolled(32, 2), "too far up|Dice"),
    "turned about z": (quarter_turn(0, 1), AGREE),
    "turned about x": (quarter_turn(1, 2), AGREE),
    "turned about y": (quarter_turn(0, 2), AGREE),
    "turned by 12 about z": (turned(12, 0, 1), "turned by about 10 degrees about z"),
    "turned by 24 about x": (turned(24, 1, 2), "turned by about 20 degrees about x"),
    "turned by -15 about y": (turned(-15, 0, 2), "degrees about y"),
    "turned by 45 about z": (turned(45, 0, 1), "turned by about 40 degrees about z"),
    "10% larger steps": (resampled(np.eye(3) * 1.1), "too small (other voxel sizes"),
    "and one corner": (resampled(np.eye(3) * 1.1, 0), "too small (other voxel sizes"),
    "steps of 2.5 mm": (resampled(np.eye(3) * 1.25), "too small (other voxel sizes|Dice"),
    "steps of 1 mm": (resampled(np.eye(3) * 0.5), "brain"),
    "10% smaller steps": (resampled(np.eye(3) * 0.9), SIZE),
}


def core_of(adc, brain):
    return brain & (adc > 0) & (adc <= 620)


LEFT = (np.arange(91) < 45)[:, None, None]
ONE_SCAN = "contrasts correlate|against the ADC|shows tissue"
# DWI, ADC and mask of a patient, and those of another.
NOT_ONE_SCAN = {
    "dwi 4 mm back": (lambda v, o: (np.roll(v[0], -2, 1), v[1], v[2]), "mm too far back against"),
    "dwi 8 mm front": (lambda v, o: (np.roll(v[0], 4, 1), v[1], v[2]), "8 mm too far to the front"),
    "dwi 12 mm up": (lambda v, o: (np.roll(v[0], 6, 2), v[1], v[2]), "12 mm too far up against"),
    "adc 8 mm left": (lambda v, o: (v[0], np.roll(v[1], -4, 0), v[2]), "8 mm too far right"),
    "dwi 24 mm up": (lambda v, o: (np.roll(v[0], 12, 2), v[1], v[2]), ONE_SCAN),
    "dwi flip x": (lambda v, o: (v[0][::-1], v[1], v[2]), "the DWI is mirrored in x against"),
    "dwi flip y": (lambda v, o: (v[0][:, ::-1], v[1], v[2]), "the DWI is mirrored in y against"),
    "adc flip x": (lambda v, o: (v[0], v[1][::-1], v[2]), "the DWI is mirrored in x against"),
    "other dwi": (lambda v, o: (o[0], v[1], v[2]), ONE_SCAN),
    "other adc": (lambda v, o: (v[0], o[1], v[2]), ONE_SCAN),
    "noise": (lambda v, o: (np.random.default_rng(0).random(GRID_SHAPE), v[1], v[2]), ONE_SCAN),
    "mask 12 mm": (lambda v, o: (v[0], v[1], np.roll(v[2], 6, 1)), "mask: it lies about 12 mm too"),
    "mask flip y": (lambda v, o: (v[0], v[1], v[2][:, ::-1]), "mask: it is mirrored in y against"),
    "half a dwi": (lambda v, o: (np.where(LEFT, 0, v[0]), v[1], v[2]), "dwi: has nothing in "),
    "dark half": (lambda v, o: (np.where(LEFT, v[0] / 50, v[0]), v[1], v[2]), "nothing in|contr"),
    "no adc in the core": (
        lambda v, o: (v[0], np.where(core_of(*v[1:]), 0, v[1]), v[2]), "adc: has nothing in ",
    ),
    "adc -1 in the core": (
        lambda v, o: (v[0], np.where(core_of(*v[1:]), -1, v[1]), v[2]), "adc: has nothing in ",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", NOT_ONE_SCAN)
def test_volumes_that_are_not_of_one_scan_are_refused(name, refusal, people):
    change, message = NOT_ONE_SCAN[name]
    said = refusal(change(people[0], people[1]))
    assert said and any(part in said for part in message.split("|")), said


@BOTH
def test_contrast_and_signal_are_those_of_numpy(people, xp):
    """High-pass at 4 mm by scipy, and shares of the mask by counting."""
    dwi, adc, brain = people[0]
    tissue = brain & (adc > 0) & (adc < ADC_CSF_UM2_PER_S)
    volumes = [xp.constant(v.astype(np.float32)) for v in (dwi, adc, brain)]
    pair = request_checks._pair(xp, as_patient(*volumes), xp.constant(tissue))
    where = ndimage.binary_erosion(brain, np.ones((5, 5, 5))) & (dwi > 0) & (adc > 0)

    def coarse(volume):
        return volume[:90, :108].reshape(45, 2, 54, 2, 30, 2).mean((1, 3, 5))

    weight = coarse(where.astype(float))
    here = weight >= 0.5
    left = []
    for values in (np.clip(dwi / np.median(dwi[where]), 0, 2), np.clip(adc / 1000, 0, 2.5)):
        mean = np.where(here, coarse(values * where) / np.maximum(weight, 1e-9), 0)
        box = [ndimage.uniform_filter(v, 5, mode="constant") for v in (mean, here.astype(float))]
        left.append((mean - box[0] / np.maximum(box[1], 1e-9))[here])
    assert float(pair.contrast[0]) == pytest.approx(np.corrcoef(*left)[0, 1], abs=5e-3)
    signal = dwi > 0.35 * dwi[tissue].mean()
    words = [move.words for move in request_checks.moves()]
    for name, mask in (
        ("lies right", brain),
        ("is mirrored in y", brain[:, ::-1]),
        ("lies about 8 mm too far back", np.roll(brain, 4, 1)),
    ):
        share = (signal & mask).sum() / mask.sum()
        assert float(pair.signal[words.index(name)]) == pytest.approx(share, abs=1e-6)


@pytest.mark.parametrize("name", WRONG_PLACES)
def test_volumes_in_another_place_order_or_size_are_refused(name, refusal, people):
    change, message = WRONG_PLACES[name]
    for patient in people[:1]:
        said = refusal(change(*patient))
        assert said and any(part in said for part in message.split("|")), said
        assert "\n" not in said and len(said) < 330


def test_left_for_right_cannot_be_told(refusal, people):
    """As the card says; a head is nearly symmetric, and the template is."""
    assert refusal(every(lambda v: v[::-1])(*people[0])) == ""


WRONG_IMAGES = {
    "exchanged": (lambda d, a, b: (a, d, b), "dwi and adc look exchanged"),
    "adc in 1e-3": (lambda d, a, b: (d, a * 1e-3, b), "adc: its median in the brain is 0.9"),
    "adc in mm2/s": (lambda d, a, b: (d, a * 1e-6, b), "adc: its median in the brain is 0.0009"),
    "adc twice": (lambda d, a, b: (d, a * 2, b), "adc: its median in the brain is 1"),
    "half the adc": (lambda d, a, b: (d, a / 2, b), "adc: its median in the brain is 4"),
    "b = 0": (lambda d, a, b: (d * np.exp(a * 1e-3), a, b), "Is this the b = 0 image?"),
    "adc for both": (lambda d, a, b: (a, a, b), "Is this the b = 0 image?"),
    "NaN": (lambda d, a, b: (np.where(b, d, np.nan), a, b), "dwi: holds NaN"),
    "no mask": (lambda d, a, b: (d, a, b & False), "brain_mask: expected 1 in the brain"),
    "inverted": (lambda d, a, b: (d, a, ~b), "brain_mask: its Dice with"),
    "all": (lambda d, a, b: (d, a, b | True), "brain_mask: its Dice with"),
    "skull": (
        lambda d, a, b: (d, a, ndimage.binary_dilation(b, iterations=6)),
        "times as large as the template's brain",
    ),
    "half": (lambda d, a, b: (d, a, b & (np.arange(91) < 45)[:, None, None]), "its Dice with"),
    "upper half": (lambda d, a, b: (d, a, b & (np.arange(60) >= 30)), "its slices hold 43%"),
    "lower half": (lambda d, a, b: (d, a, b & (np.arange(60) < 30)), "its slices hold 57%"),
    "big endian": (
        lambda *volumes: tuple(np.asarray(v, ">f4").view("<f4") for v in volumes),
        "brain_mask: expected 1 in the brain and 0 elsewhere",
    ),
}


@pytest.mark.parametrize("name", WRONG_IMAGES)
def test_images_that_are_not_what_they_are_called_are_refused(name, refusal, people):
    change, message = WRONG_IMAGES[name]
    for patient in people[:1]:
        assert message in refusal(change(*patient))


def test_the_numpy_checks_refuse_the_same(people):
    """The same images by the checks of files: exchanged, in another unit, b = 0."""
    dwi, adc, brain = people[0]
    files = [Volume(v.astype(np.float32), GRID_AFFINE) for v in (dwi, adc)]
    check_not_swapped(*files, brain)
    check_contrast(*files, brain)
    assert detect_adc_unit(files[1], brain) == "1e-6 mm2/s"
    with pytest.raises(InputError, match="swapped"):
        check_not_swapped(*files[::-1], brain)
    with pytest.raises(InputError, match="b = 0"):
        check_contrast(Volume(dwi * np.exp(adc * 1e-3), GRID_AFFINE), files[1], brain)


@BOTH
def test_figures_are_those_of_numpy(people, xp):
    tissue, whole = (v[::2, ::2, ::2] for v in template_on_grid())
    for dwi, adc, brain in people[:2]:
        brain = brain & (np.arange(60) > 8)
        volumes = [xp.constant(v.astype(np.float32)) for v in (dwi, adc, brain)]
        patient = as_patient(*volumes)
        given = request_checks.given_images(xp, patient)
        dice, correlation, size, shown = request_checks._agreement(xp, patient, given)
        mine, mask = (v[::2, ::2, ::2] for v in (tissue_map(adc, brain), brain))
        expected = whole & (np.arange(30) > 4)
        both = mask & expected
        assert float(dice[0]) == pytest.approx(2 * both.sum() / (mask.sum() + expected.sum()))
        assert float(size) == pytest.approx(mask.sum() / expected.sum())
        assert float(shown) == pytest.approx(expected.sum() / whole.sum())
        # The constant holds tissue in 254 steps.
        found = np.corrcoef(mine[both], tissue[both])[0, 1]
        assert float(correlation[0]) == pytest.approx(found, abs=1e-3)
        turned = whole[:, ::-1] & (np.arange(30) > 4)
        mirrored = 2 * (mask & turned).sum() / (mask.sum() + turned.sum())
        assert float(dice[1]) == pytest.approx(mirrored)


@BOTH
def test_rim_median_and_contrast_are_those_of_numpy(people, xp):
    dwi, adc, brain = people[1]
    inside = ndimage.binary_erosion(brain, np.ones((3, 3, 1)), iterations=2)
    expected = np.median(adc[brain & ~inside & (adc > 0)]) / np.median(adc[inside & (adc > 0)])
    found = request_checks._rim_over_inside(xp, *map(xp.constant, (adc, brain)))
    assert float(found) == pytest.approx(float(expected))
    for values in ([], [3.0], [4.0, 1.0], [5.0, 1.0, 2.0]):
        expected = np.median(values) if values else 0
        assert float(xp.median_of(xp.constant(values, "float32"))) == expected
    ratio, enough = request_checks._water_ratio(xp, *map(xp.constant, (dwi, adc, brain)))
    water, solid = brain & (adc >= 1600), brain & (adc > 500) & (adc < 1000)
    assert float(ratio) == pytest.approx(float(np.median(dwi[water]) / np.median(dwi[solid])))
    assert bool(enough)


def test_the_warm_up_is_a_right_patient(refusal):
    inputs = warmup.smallest_request("predict_volume")
    assert refusal([inputs[name][0] for name in ("dwi", "adc", "brain_mask")]) == ""
