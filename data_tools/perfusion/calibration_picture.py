"""Volumes beside the reference, before and after a calibration, in one picture."""

import numpy as np
from PIL import Image, ImageDraw

from data_tools import charts, drawing
from data_tools.charts import Line
from data_tools.drawing import Pen
from data_tools.grid import TMAX_HYPOPERFUSION_S
from data_tools.perfusion.threshold_fit import AT_SIX, THRESHOLDS_S, Calibration

SIZE = (560, 440)
BEFORE, AFTER, EQUAL = "#8C8C8C", "#4FC3F7", "#555555"
DOT_PX = 4


def draw(result: Calibration) -> bytes:
    """PNG of two panels: each patient's volumes; the mean absolute difference by threshold."""
    whole = Image.new("RGB", (2 * SIZE[0], SIZE[1]))
    whole.paste(_volumes(result), (0, 0))
    whole.paste(_by_threshold(result), (SIZE[0], 0))
    return drawing.png(whole)


def _volumes(result: Calibration) -> Image.Image:
    """Ours against the reference's, with the line on which they are equal."""
    left, top, right, bottom = charts.MARGINS
    image = Image.new("RGB", SIZE)
    pen, brush = Pen(image), ImageDraw.Draw(image)
    theirs = np.array([pair.reference_ml for pair in result.pairs])
    before = np.array([pair.volumes_ml[AT_SIX] for pair in result.pairs])
    after = np.array([row["left_out_ml"] for row in result.rows()])
    most = max(1.0, theirs.max(), before.max(), after.max()) * 1.05
    width, height = SIZE[0] - left - right, SIZE[1] - top - bottom

    def at(x: float, y: float) -> tuple[float, float]:
        return left + x / most * width, top + (1 - y / most) * height

    for tick in charts.ticks(0, most):
        brush.line([at(tick, 0), at(tick, most)], fill=charts.GRID)
        brush.line([at(0, tick), at(most, tick)], fill=charts.GRID)
        pen.write(
            (at(tick, 0)[0], SIZE[1] - bottom + 4), f"{tick:g}", charts.TEXT_SIZE, anchor="ma"
        )
        pen.write((left - 6, at(0, tick)[1]), f"{tick:g}", charts.TEXT_SIZE, anchor="rm")
    brush.line([at(0, 0), at(most, most)], fill=EQUAL, width=2)
    for values, colour in ((before, BEFORE), (after, AFTER)):
        for x, y in zip(theirs, values, strict=True):
            column, line = at(float(x), float(y))
            box = (column - DOT_PX, line - DOT_PX, column + DOT_PX, line + DOT_PX)
            brush.ellipse(box, fill=colour)
    pen.write((left, 4), "Hypoperfusion in our maps, mL", charts.TITLE_SIZE)
    pen.write((left, 26), f"at {TMAX_HYPOPERFUSION_S:g} s", charts.TEXT_SIZE, colour=BEFORE)
    text = "calibrated on the other patients"
    pen.write((left + 72, 26), text, charts.TEXT_SIZE, colour=AFTER)
    middle = left + width / 2
    pen.write((middle, SIZE[1] - 3), "reference, mL", charts.TEXT_SIZE, anchor="md")
    return image


def _by_threshold(result: Calibration) -> Image.Image:
    """How far volumes are apart at each threshold, and how large both are."""
    ours = np.array([pair.volumes_ml for pair in result.pairs])
    theirs = np.array([pair.reference_ml for pair in result.pairs])
    apart = np.abs(ours - theirs[:, None]).mean(axis=0)
    line = Line(x=THRESHOLDS_S, y=apart, label="mean absolute difference", colour=AFTER)
    half = 0.05
    return charts.line_chart(
        [line],
        SIZE,
        title=f"Apart from the reference, mL; best at {result.threshold_s:g} s "
        f"(n = {len(result.pairs)}, by {result.fitted_by})",
        x_label="threshold on our Tmax, s",
        shaded=(result.threshold_s - half, result.threshold_s + half),
    )
