"""The arteries among tissue, veins, cut-off arteries and late ones behind an occlusion."""

import numpy as np
import pytest
from helpers import dsc

from data_tools.perfusion import arterial_input, concentration
from data_tools.runtime.errors import InputError
from data_tools.simulate.bolus import Bolus

pytestmark = [pytest.mark.core, pytest.mark.quick]

TE_S = 0.03
KINDS = ("tissue", "artery", "clipped", "late", "vein")


class Head:
    """Voxels of each kind, in a random order along one line; its signals and concentrations."""

    def __init__(self, seed, tr_s, snr):
        rng = np.random.default_rng(seed)
        self.tr_s = tr_s
        bolus = Bolus(width_s=rng.uniform(1.0, 2.0), arrival_s=rng.uniform(10, 18))
        frames_s = dsc.frames_s(tr_s, 70)

        def artery(delay_s, height):
            return height[:, None] * np.array([bolus.aif(frames_s - late) for late in delay_s])

        def vein(delay_s, height):
            smeared = dsc.tissue(bolus, frames_s, delay_s, rng.uniform(2, 4))
            return height[:, None] * smeared / smeared.max(axis=-1, keepdims=True)

        def mixed(curves):
            """With 0 to 40% of tissue in the voxel."""
            share = rng.uniform(0, 0.4, (len(curves), 1))
            return (1 - share) * curves + share * tissue[: len(curves)]

        tissue = dsc.tissue(bolus, frames_s, rng.choice([0, 0.5, 1, 2, 5, 8], 2000), 5)
        tissue *= rng.uniform(0.15, 0.6, (2000, 1)) / tissue.max()
        count = rng.integers(5, 20, 3)
        made = [
            tissue,
            mixed(artery(rng.uniform(0, 0.5, count[0]), rng.uniform(1.0, 2.0, count[0]))),
            artery(rng.uniform(0, 0.5, count[1]), rng.uniform(5, 9, count[1])),
            mixed(artery(rng.uniform(2.5, 6, count[2]), rng.uniform(1.2, 2.2, count[2]))),
            mixed(vein(rng.uniform(3.5, 6, 60), rng.uniform(0.8, 2.2, 60))),
        ]
        kind = np.repeat(KINDS, [len(curves) for curves in made])
        order = rng.permutation(len(kind))
        clean = np.exp(-np.concatenate(made))[order]
        noise = rng.normal(0, 1 / snr, (2, *clean.shape))
        signal = np.hypot(clean + noise[0], noise[1])
        self.kind = kind[order]
        self.signal = signal.astype(np.float32)[:, None, None]
        self.brain = np.ones(self.signal.shape[:3], bool)
        self.bolus = concentration.find_bolus(self.signal, self.brain, frames_s)
        self.curves = concentration.concentration(
            self.signal, self.bolus.baseline_frames, TE_S
        )  # fmt: skip
        self.truth = bolus.aif(frames_s)
        self.common = {"baseline_frames": self.bolus.baseline_frames, "tr_s": tr_s}

    def find(self):
        return arterial_input.find_arterial_input(
            self.curves, self.signal, self.brain, **self.common
        )

    def kinds(self, found):
        return set(self.kind[found.voxels[:, 0]])


@pytest.fixture(scope="module")
def head():
    return Head(0, 1.5, 50)


@pytest.mark.parametrize("seed", range(40))
def test_only_arteries_that_feed_the_brain_are_taken(seed):
    tr_s = (1.0, 1.4, 1.8, 2.2)[seed % 4]
    made = Head(seed, tr_s, (30, 50, 100)[seed % 3])
    found = made.find()
    assert made.kinds(found) == {"artery"}
    assert len(found.voxels) >= 3 and found.how == "automatic"
    assert found.curve.shape == made.truth.shape
    assert np.corrcoef(found.curve, made.truth)[0, 1] > 0.95


def test_the_arteries_need_not_be_higher_than_veins(head):
    veins = head.curves.copy()
    veins[head.kind == "vein"] *= 1.5
    found = arterial_input.find_arterial_input(veins, head.signal, head.brain, **head.common)
    assert head.kinds(found) == {"artery"}


def test_shapes_are_those_of_a_gamma_variate():
    bolus = Bolus(arrival_s=15.0)
    curve = bolus.aif(dsc.frames_s(1.3, 60))[None].astype(np.float32)
    (shape,) = [arterial_input.measure(curve, 5, 1.3)]
    assert shape.peak_s[0] == pytest.approx(15 + 4.5, abs=0.17)
    assert shape.height[0] == pytest.approx(1, abs=0.02)
    fine_s = np.arange(0, 60, 0.01)
    high = bolus.aif(fine_s)
    assert shape.width_s[0] == pytest.approx((high > 0.5).sum() / 100, abs=0.33)
    assert shape.arrival_s[0] == pytest.approx(fine_s[(high > 0.25).argmax()], abs=0.25)
    assert shape.flatness[0] == pytest.approx((high > 0.9).sum() / (high > 0.5).sum(), abs=0.07)
    cut = arterial_input.measure(np.minimum(curve, 0.5), 5, 1.3)
    assert cut.flatness[0] > arterial_input.MAX_FLATNESS


def test_a_brain_without_arteries_is_told(head):
    tissue = (head.kind == "tissue")[:, None, None]
    with pytest.raises(InputError, match="no artery was found .* Give a region or a voxel"):
        arterial_input.find_arterial_input(
            head.curves * 0 + 1, head.signal, tissue, **head.common
        )  # fmt: skip
    with pytest.raises(InputError, match="no artery was found"):
        arterial_input.find_arterial_input(
            head.curves, head.signal, head.brain & False, **head.common
        )


def test_a_region_and_a_voxel_win(head):
    arteries = (head.kind == "artery")[:, None, None]
    region = arterial_input.given_arterial_input(
        head.curves, head.signal, arteries, head.brain, **head.common
    )
    assert region.how == "region" and region.warnings == ()
    np.testing.assert_allclose(region.curve, head.curves[arteries].mean(axis=0), rtol=1e-5)
    assert len(region.voxels) == arteries.sum()
    at = (int(np.flatnonzero(head.kind == "artery")[0]), 0, 0)
    voxel = arterial_input.given_arterial_input(
        head.curves, head.signal, at, head.brain, **head.common
    )
    assert voxel.how == "voxel"
    np.testing.assert_array_equal(voxel.curve, head.curves[at])


def test_a_given_vein_or_a_cut_off_artery_is_warned_of(head):
    found = head.find()
    veins = (head.kind == "vein")[:, None, None]
    (told,) = arterial_input.given_arterial_input(
        head.curves, head.signal, veins, head.brain, found=found, **head.common
    ).warnings
    assert "s later than the arteries found automatically" in told
    clipped = (head.kind == "clipped")[:, None, None]
    (told,) = arterial_input.given_arterial_input(
        head.curves, head.signal, clipped, head.brain, found=found, **head.common
    ).warnings
    assert "the curve of the arterial region is cut off" in told


@pytest.mark.parametrize(
    ("where", "why"),
    [
        ((1, 2), r"voxel \(1, 2\) is not in the image; expected three indices from 0 up to"),
        ((0, 0, 1), r"voxel \(0, 0, 1\) is not in the image"),
        ((-1, 0, 0), "is not in the image"),
        (np.zeros((2, 2, 2)), r"has \(2, 2, 2\) voxels and the series"),
    ],
)
def test_what_is_no_place_is_refused(head, where, why):
    with pytest.raises(InputError, match=why):
        arterial_input.given_arterial_input(
            head.curves, head.signal, where, head.brain, **head.common
        )


def test_a_place_without_a_bolus_is_refused(head):
    with pytest.raises(InputError, match="the arterial region is empty"):
        arterial_input.given_arterial_input(
            head.curves, head.signal, head.brain & False, head.brain, **head.common
        )
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 1, head.curves.shape).astype(np.float32)
    with pytest.raises(InputError, match="the arterial voxel that was given shows no bolus"):
        arterial_input.given_arterial_input(
            noise, head.signal, (0, 0, 0), head.brain, **head.common
        )


def test_air_is_refused_and_an_artery_found_automatically_is_not_cut_off(head):
    air = head.signal.copy()
    noise = np.random.default_rng(1).normal(0, 1 / 50, (2, *air[0].shape))
    air[0] = np.hypot(*noise)
    curves = concentration.concentration(air, head.common["baseline_frames"], TE_S)
    with pytest.raises(InputError, match="the arterial voxel that was given has no signal"):
        arterial_input.given_arterial_input(curves, air, (0, 0, 0), head.brain, **head.common)
    # Arteries pulsate: their own noise is larger than the brain's.
    found = head.find()
    signal = head.signal.copy()
    frames = head.common["baseline_frames"]
    at = tuple(found.voxels.T)
    signal[..., frames][at] *= 1 + 0.3 * np.resize([1, -1], frames.stop - frames.start)
    where = np.zeros(head.brain.shape, bool)
    where[at] = True
    told = arterial_input.given_arterial_input(
        head.curves, signal, where, head.brain, **head.common
    ).warnings
    assert told == ()
