"""Shells, directions and ADC of series whose truth is a formula."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_tools import b_values
from data_tools.b_values import Series, compute_adc, of_series
from data_tools.overrides import NONE, Overrides
from data_tools.runtime.errors import InputError

pytestmark = pytest.mark.quick

AFFINE = np.diag([2.0, 2, 5, 1])
RNG = np.random.default_rng(3)
S0 = RNG.uniform(500, 1500, (6, 5, 4))
ADC = RNG.uniform(100, 2500, (6, 5, 4))
UNKNOWN = (np.nan,) * 3
X, Y, Z, WHOLE = (1, 0, 0), (0, 1, 0), (0, 0, 1), (0, 0, 0)


def of(values, directions=None, adc=ADC):
    """A series without noise: S0 exp(-b ADC)."""
    data = np.stack([S0 * np.exp(-b * 1e-6 * adc) for b in values], -1).astype(np.float32)
    directions = [UNKNOWN] * len(values) if directions is None else directions
    return Series(data=data, affine=AFFINE, b_values=np.array(values, float),
                  directions=np.array(directions, float))  # fmt: skip


@pytest.mark.parametrize(
    ("values", "b_value", "used"),
    [
        ((0, 1000), 1000, "b = 0 s/mm2 (1 image) and b = 1000 s/mm2 (1 image), ln("),
        ((50, 1000), 1000, "b = 50 s/mm2"),
        ((5, 1000), 1000, "b = 5 s/mm2"),
        ((100, 1000), 1000, "b = 100 s/mm2"),
        ((0, 50, 1000), 1000, "b = 0 s/mm2 (1 image) and b = 1000"),
        ((0, 5, 995, 1000, 1005), 1000, "b = 2.5 s/mm2 (2 images) and b = 1000 s/mm2 (3 images)"),
        ((1000, 0, 1200), 1000, "1000 s/mm2 (1 image) and b = 1200 s/mm2 (1 image), least squares"),
        ((0, 900, 950, 1000), 1000, "900 s/mm2 (1 image), 950 s/mm2 (1 image) and b = 1000"),
        ((0, 1000, 1049), 1000, "1000 s/mm2 (1 image) and b = 1049"),
        ((20, 700, 1100, 1400), 1100, "b = 20 s/mm2 (1 image), 700 s/mm2 (1 image) and b = 1100"),
        ((0, 500, 2000), 500, "b = 0 s/mm2 (1 image) and b = 500"),
        ((0, 2000), 2000, "and b = 2000"),
        ((30, 800), 800, "and b = 800"),
        ((0, 200, 400, 1000), 1000, "b = 0 s/mm2 (1 image) and b = 1000"),
    ],
)
def test_a_scheme_gives_the_true_adc_and_says_what_was_used(values, b_value, used):
    study = of_series("x", of(values))
    np.testing.assert_allclose(study.adc.data, ADC, rtol=1e-4, atol=0.1)
    assert study.b_value == b_value and study.computed
    expected = S0 * np.exp(-b_value * 1e-6 * ADC)
    np.testing.assert_allclose(study.trace.data, expected, rtol=1e-5)
    (note,) = [note for note in study.notes if note.startswith("ADC computed")]
    assert used in note
    low, high = b_values.B_RANGE_S_PER_MM2
    assert bool(study.warnings) == (not low <= b_value <= high)


@settings(max_examples=80, deadline=None)
@given(
    low=st.lists(st.integers(0, 100), min_size=1, max_size=3),
    high=st.lists(st.integers(500, 1300), min_size=1, max_size=4),
    middle=st.lists(st.integers(101, 499), max_size=2),
    order=st.randoms(use_true_random=False),
)
def test_any_scheme_gives_the_true_adc(low, high, middle, order):
    values = [*low, *high, *middle]
    order.shuffle(values)
    study = of_series("x", of(values))
    np.testing.assert_allclose(study.adc.data, ADC, rtol=1e-3, atol=0.5)
    nearest = min(high, key=lambda b: abs(b - 1000))
    assert abs(study.b_value - 1000) <= abs(nearest - 1000) + 100
    np.testing.assert_allclose(
        study.trace.data, S0 * np.exp(-study.b_value * 1e-6 * ADC), rtol=1e-3
    )


def test_two_b_values_are_the_textbook_formula():
    s_50, s_1000 = 812.0, 401.0
    got = compute_adc(np.log([[s_50, s_1000]]), [50, 1000])
    assert got[0] == pytest.approx(1e6 * np.log(s_50 / s_1000) / 950, rel=1e-5)


def test_three_are_a_straight_line_through_the_logarithms():
    logs = np.array([[7.0, 6.45, 6.2]])
    slope = np.polyfit([0, 500, 1000], logs[0], 1)[0]
    assert compute_adc(logs, [0, 500, 1000])[0] == pytest.approx(-1e6 * slope, rel=1e-5)


def test_adc_of_no_signal_is_0():
    with np.errstate(divide="ignore"):
        logs = np.log(np.array([[0, 10.0], [100, 0], [100, 200], [1, 1e-9]]))
    np.testing.assert_array_equal(compute_adc(logs, [0, 1000]), [0, 0, 0, 4000])


class TestDirections:
    """A trace image is isotropic, or the mean of directions spread evenly."""

    TENSOR = np.array([[1.7, 0.2, 0], [0.2, 0.5, 0.1], [0, 0.1, 0.3]]) * 1e-3  # mm2/s

    def measured(self, directions, values):
        """Of one fibre: S = S0 exp(-b d^T D d), the same in all voxels."""
        size = [0.0 if not any(d) else 1.0 for d in directions]
        mean = np.trace(self.TENSOR) / 3
        weighting = [
            float(np.array(d) @ self.TENSOR @ np.array(d)) if s else mean
            for d, s in zip(directions, size, strict=True)
        ]
        images = [S0 * np.exp(-b * w) for b, w in zip(values, weighting, strict=True)]
        return Series(
            data=np.stack(images, -1).astype(np.float32),
            affine=AFFINE,
            b_values=np.array(values, float),
            directions=np.array(directions, float),
        )

    @pytest.mark.parametrize(
        "directions",
        [
            [X, Y, Z],
            [X, X, X, Y, Z],  # one of them measured three times
            [X, (-1, 0, 0), Y, Z],
            [(0.6, 0.8, 0), (-0.8, 0.6, 0), Z],
            [WHOLE],
            [X, WHOLE],  # the scanner's trace image beside one direction
            [tuple(d) for d in np.linalg.qr(RNG.normal(size=(3, 3)))[0]],
        ],
    )
    def test_the_mean_diffusivity_comes_out(self, directions):
        series = self.measured([WHOLE, *directions], [0, *[1000] * len(directions)])
        study = of_series("x", series)
        np.testing.assert_allclose(study.adc.data, np.trace(self.TENSOR) / 3 * 1e6, rtol=1e-3)
        assert study.warnings == ()

    @pytest.mark.parametrize(
        ("values", "overrides", "b_value"),
        [
            ((985, 1000, 1015), NONE, 1000),
            ((1012, 1000, 988), NONE, 1000),
            ((950, 1040, 1000), NONE, 2990 / 3),  # further apart than one shell's images
            ((700, 715, 690), NONE, 2105 / 3),
            ((985, 1000, 1015), Overrides(b_value=1000), 1000),
        ],
    )
    @pytest.mark.parametrize("low_b", [0, 30])
    @pytest.mark.parametrize("said", [True, False])
    def test_each_direction_counts_at_its_own_b(self, said, low_b, values, overrides, b_value):
        """Three directions whose shares of the ADC are 0.7, 1 and 1.3."""
        if not said and max(values) - min(values) > 50:
            return  # of unknown directions these are trace images of several shells
        adc = np.minimum(ADC, 1500)
        images = [S0 * np.exp(-low_b * 1e-6 * adc)] + [
            S0 * np.exp(-b * 1e-6 * adc * share)
            for b, share in zip(values, (0.7, 1.0, 1.3), strict=True)
        ]
        series = Series(
            data=np.stack(images, -1).astype(np.float32), affine=AFFINE,
            b_values=np.array([low_b, *values], float),
            directions=np.array([WHOLE, X, Y, Z] if said else [UNKNOWN] * 4, float),
        )  # fmt: skip
        study = of_series("x", series, overrides=overrides)
        # The image of b = 30 is of no direction, and each fall from it is of one.
        np.testing.assert_allclose(study.adc.data, adc, rtol=2e-4)
        assert study.b_value == pytest.approx(b_value, abs=0.1)
        np.testing.assert_allclose(study.trace.data, S0 * np.exp(-b_value * 1e-6 * adc), rtol=5e-4)

    def test_without_signal_at_low_b_directions_are_averaged_as_they_are(self):
        data = np.full((3, 3, 3, 4), 100, np.float32)
        data[..., 1:] = (50, 40, 30)
        data[0, ..., 0] = 0
        series = Series(data=data, affine=AFFINE, b_values=np.array([0, 985, 1000, 1015.0]),
                        directions=np.array([WHOLE, X, Y, Z], float))  # fmt: skip
        study = of_series("x", series)
        np.testing.assert_allclose(study.trace.data[0], (50 * 40 * 30) ** (1 / 3), rtol=1e-6)
        mean = np.mean([np.log(2) / 985, np.log(2.5) / 1000, np.log(10 / 3) / 1015])
        np.testing.assert_allclose(study.adc.data[1:], 1e6 * mean, rtol=1e-5)
        assert not study.adc.data[0].any()

    @pytest.mark.parametrize(
        ("directions", "found"),
        [
            ([X], r"1 direction only: \(1.00 0.00 0.00\)"),
            ([X, (-1, 0, 0), (1, 0.05, 0)], "1 direction only"),
            ([X, Y], "2 directions only"),
            ([X, (0.9, 0.43, 0), (0.9, 0, 0.43)], "3 directions that are not spread evenly"),
            ([X, Y, (0.71, 0.71, 0), (0.71, -0.71, 0)], "4 directions that are not spread evenly"),
        ],
    )
    def test_others_are_refused_or_taken_with_a_warning(self, directions, found):
        series = self.measured([WHOLE, *directions], [0, *[1000] * len(directions)])
        with pytest.raises(InputError, match=f"DWI x: its images of b = 1000 s/mm2 are of {found}"):
            of_series("x", series)
        study = of_series("x", series, overrides=Overrides(few_directions=True))
        assert "was taken for a trace image as --few_directions says" in study.warnings[0]

    def test_a_shell_of_single_directions_gives_way_to_one_with_a_trace_image(self):
        series = self.measured([WHOLE, X, WHOLE], [0, 1000, 800])
        assert of_series("x", series).b_value == 800
        # One direction at each of three b-values that lie close.
        series = self.measured([WHOLE, X, Y, Z], [0, 950, 1000, 1050])
        assert of_series("x", series).b_value == 1000

    def test_what_nobody_says_is_noted(self):
        assert any("whether it is a trace image" in n for n in of_series("x", of((0, 1000))).notes)
        assert not any("no file says" in n for n in
                       of_series("x", of((0, 1000), [WHOLE, WHOLE])).notes)  # fmt: skip


@pytest.mark.parametrize(
    ("values", "overrides", "message"),
    [
        ((0, 50), NONE, "b-values are 0, 50 s/mm2; expected images of b about 1000"),
        ((0, 1), NONE, "Are they in ms/um2"),
        ((150, 1000), NONE, "its lowest is 150"),
        ((1000,), NONE, "is one image, from which no ADC can be computed"),
        ((np.nan,), NONE, "is one image, from which no ADC can be computed"),
    ],
)
def test_what_cannot_serve_is_refused(values, overrides, message):
    with pytest.raises(InputError, match=f"DWI x: .*{message}"):
        of_series("x", of(values), overrides=overrides)


def test_a_person_says_the_b_value():
    series = of((0, 1000, 2000))
    near = of_series("x", series, overrides=Overrides(b_value=2000))
    assert near.b_value == 2000 and len(near.warnings) == 1  # far from 1000
    other = of_series("x", series, overrides=Overrides(b_value=800))
    np.testing.assert_allclose(other.adc.data, np.clip(ADC * 1000 / 800, 0, 4000), rtol=1e-3)
    assert "b = 800 s/mm2 was taken as --b_value says, and its files say 1000" in other.warnings[0]
    unsaid = Series(**vars(of((0, 1000))) | {"b_values": np.array([0, np.nan])})
    study = of_series("x", unsaid, overrides=Overrides(b_value=1000))
    np.testing.assert_allclose(study.adc.data, ADC, rtol=1e-4, atol=0.1)
    assert study.warnings == ()
