"""Line charts for pictures of quality control, drawn as the slices are: numpy and Pillow."""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from data_tools import drawing
from data_tools.drawing import Pen

# Lines are drawn so many times as large, and then made smaller: that is what smooths them.
FINER = 3
LINE_PX, AXIS_PX = 2, 1
TITLE_SIZE, TEXT_SIZE = 13.75, 11.25
# Around the axes, in pixels: left, top, right, bottom.
MARGINS = (52, 46, 14, 40)
TICK_PX, MARK_WIDTH, LEGEND_GAP = 4, 18, 14
AXIS, GRID, SHADE = "#B0B0B0", "#333333", "#202838"
MOST_TICKS = 8


@dataclasses.dataclass(frozen=True, kw_only=True)
class Line:
    """A curve.

    Attributes:
        x: [n], ascending.
        y: [n], finite.
        label: legend text.
        colour: hex.
    """

    x: NDArray[np.floating]
    y: NDArray[np.floating]
    label: str
    colour: str


def line_chart(
    lines: Sequence[Line],
    size: tuple[int, int],
    *,
    title: str,
    x_label: str,
    shaded: tuple[float, float] | None = None,
    least_height: float = 0.0,
) -> Image.Image:
    """Curves over one pair of axes, on black.

    Args:
        lines: one at least, each of one point at least.
        size: width and height in pixels.
        title: above it, with the unit of the vertical axis; the legend stands below it.
        x_label: below the horizontal axis, with its unit.
        shaded: from where to where on the horizontal axis the ground is lighter.
        least_height: the vertical axis spans at least this much, so that next to nothing looks so.

    Returns:
        RGB.
    """
    width, height = size
    left, top, right, bottom = MARGINS
    inner = left, top, width - right, height - bottom
    x_ends = _ends([line.x for line in lines], 0.0)
    y_ends = _ends([*(line.y for line in lines), np.zeros(1)], least_height)
    x_ticks, y_ticks = ticks(*x_ends), ticks(*y_ends)
    y_ends = min(y_ends[0], y_ticks[0]), max(y_ends[1], y_ticks[-1])

    def column(x: float) -> float:
        return inner[0] + (x - x_ends[0]) / (x_ends[1] - x_ends[0]) * (inner[2] - inner[0])

    def row(y: float) -> float:
        return inner[3] - (y - y_ends[0]) / (y_ends[1] - y_ends[0]) * (inner[3] - inner[1])

    large = Image.new("RGB", (width * FINER, height * FINER))
    draw = ImageDraw.Draw(large)

    def stroke(points: Sequence[tuple[float, float]], colour: str, width_px: int) -> None:
        fine = [(FINER * x, FINER * y) for x, y in points]
        draw.line(fine, fill=colour, width=FINER * width_px, joint="curve")

    if shaded is not None:
        ends = [column(float(np.clip(x, *x_ends))) * FINER for x in shaded]
        draw.rectangle((ends[0], inner[1] * FINER, ends[1], inner[3] * FINER), fill=SHADE)
    for y in y_ticks:
        stroke([(inner[0], row(y)), (inner[2], row(y))], GRID, AXIS_PX)
    stroke([inner[:2], (inner[0], inner[3]), (inner[2], inner[3])], AXIS, AXIS_PX)
    for x in x_ticks:
        stroke([(column(x), inner[3]), (column(x), inner[3] + TICK_PX)], AXIS, AXIS_PX)
    for line in lines:
        stroke(
            [(column(x), row(y)) for x, y in zip(line.x, line.y, strict=True)], line.colour, LINE_PX
        )
    chart = large.resize(size, Image.Resampling.BOX)
    pen = Pen(chart)
    pen.write((left, 4), title, TITLE_SIZE)
    _write_legend(pen, lines, left, 32)
    for x in x_ticks:
        pen.write((column(x), inner[3] + TICK_PX + 2), f"{x:g}", TEXT_SIZE, anchor="ma")
    for y in y_ticks:
        pen.write((inner[0] - 6, row(y)), f"{y:g}", TEXT_SIZE, anchor="rm")
    pen.write(((inner[0] + inner[2]) / 2, height - 3), x_label, TEXT_SIZE, anchor="md")
    return chart


def ticks(low: float, high: float) -> list[float]:
    """Round numbers from one end to the other, in steps of 1, 2 or 5 times a power of ten.

    Args:
        low: below ``high``.
        high: the other end.

    >>> ticks(0, 57)
    [0.0, 10.0, 20.0, 30.0, 40.0, 50.0]
    """
    step = 10.0 ** math.floor(math.log10((high - low) / MOST_TICKS))
    step *= next(times for times in (1, 2, 5, 10) if (high - low) / (step * times) <= MOST_TICKS)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(k * step, 9) for k in range(first, last + 1)]


def _ends(values: Sequence[NDArray[np.floating]], least: float) -> tuple[float, float]:
    low, high = min(float(each.min()) for each in values), max(float(each.max()) for each in values)
    return low, max(high, low + least, low + 1e-6)


def _write_legend(pen: Pen, lines: Sequence[Line], left: float, middle: float) -> None:
    for line in lines:
        pen.box((left, middle - 2, left + MARK_WIDTH, middle + 1), line.colour)
        left += MARK_WIDTH + 5
        pen.write((left, middle), line.label, TEXT_SIZE, anchor="lm")
        left += drawing.width_px(line.label, TEXT_SIZE) + LEGEND_GAP
