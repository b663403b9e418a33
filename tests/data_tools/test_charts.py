"""Line charts: a curve is where its numbers say."""

import numpy as np
import pytest

from data_tools import charts

pytestmark = [pytest.mark.core, pytest.mark.quick]


def drawn(y, **more):
    line = charts.Line(x=np.arange(5.0), y=np.array(y, float), label="a", colour="#FF0000")
    chart = charts.line_chart([line], (400, 200), title="t", x_label="s", **more)
    pixels = np.asarray(chart)
    red = (pixels[..., 0] > 100) & (pixels[..., 1] < 60)
    left, top, right, bottom = charts.MARGINS
    return pixels, red[top - 2 : 200 - bottom + 2, left : 400 - right]


def test_a_curve_is_where_its_numbers_say():
    _, red = drawn([0, 0, 10, 10, 10])
    assert red[-3:, : red.shape[1] // 4 - 3].any() and red[:3, red.shape[1] // 2 + 3 :].any()
    assert not red[: red.shape[0] // 2, : red.shape[1] // 4].any()


def test_next_to_nothing_looks_so_and_no_range_is_no_error():
    _, red = drawn([0, 0.1, 0, 0.1, 0], least_height=2.0)
    assert red.any() and not red[: red.shape[0] // 2].any()
    assert drawn([3, 3, 3, 3, 3])[1].any()
    assert drawn([0, 0, 0, 0, 0])[1].any()


def test_a_span_is_lighter():
    pixels, _ = drawn([0, 1, 2, 3, 4], shaded=(0.0, 2.0))
    ground = np.median(pixels[charts.MARGINS[1] : 150], axis=0)
    assert ground[charts.MARGINS[0] + 20].max() > 0 == ground[380].max()


@pytest.mark.parametrize("ends", [(0, 57), (-1.2, 3.8), (0, 1e-3), (9.99, 10.0), (-500, 12000)])
def test_ticks_are_few_and_within(ends):
    found = charts.ticks(*ends)
    assert 2 <= len(found) <= charts.MOST_TICKS + 1
    assert ends[0] - 1e-6 <= found[0] and found[-1] <= ends[1] + 1e-6
    assert np.allclose(np.diff(found), found[1] - found[0])
