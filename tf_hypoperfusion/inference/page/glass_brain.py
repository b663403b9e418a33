"""The glass brain: the largest probability along each line of sight, under a drawing of a brain.

The drawing is nilearn's, in ``vendor``: lines in mm of the template.
"""

import dataclasses
import functools
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from data_tools import drawing
from data_tools.drawing import Pen, Rgb
from data_tools.grid import GRID_ORIGIN_MM, MIDLINE_INDEX, VOXEL_MM
from data_tools.pictures import CORE
from tf_hypoperfusion.config import PROBABILITY_THRESHOLD

LINES = Path(__file__).with_name("vendor") / "glass_brain.json"

WIDTH, HEIGHT = 1152, 297
VOXEL_PX = 3
GAP = 4
# What a view shows, by axis: the drawing and a margin, in whole voxels.
SHOWN_MM = ((-77.0, 77.0), (-113.0, 81.0), (-77.0, 89.0))
LINES_SHARE = 0.7  # what a line covers of the colour below it
POINT_PX = 1.25
FINER = 4  # lines are drawn so many times larger, for soft edges
BAR = (1126, 16, 1142, 282)
BAR_TICKS = (0, 0.25, 0.5, 0.75, 1)
BELOW_THRESHOLD = "#606060"
LETTER_SIZE, TEXT_SIZE = 16.0, 16.0  # at least 7 pt on 190 mm of paper


@dataclasses.dataclass(frozen=True, kw_only=True)
class _View:
    """One way of looking at the brain.

    Attributes:
        axis: of the line of sight.
        flipped: whether the second coordinate falls from left to right.
        words: at the left, in the middle and at the right.
        half: first column along x that is looked at, and the first that is not.
    """

    axis: int
    flipped: bool
    words: tuple[str, str, str]
    half: tuple[int, int | None] = (0, None)

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns in pixels."""
        across, along = (SHOWN_MM[axis] for axis in range(3) if axis != self.axis)
        scale = VOXEL_PX / VOXEL_MM
        return round((along[1] - along[0]) * scale), round((across[1] - across[0]) * scale)

    def flat(self, volume: NDArray) -> NDArray:
        """The largest value along each line of sight: rows run down."""
        flat = volume[slice(*self.half)].max(axis=self.axis)
        for place, axis in enumerate(axis for axis in range(3) if axis != self.axis):
            before, after = (
                round((mm - GRID_ORIGIN_MM[axis]) / VOXEL_MM + 0.5) for mm in SHOWN_MM[axis]
            )
            inside = np.arange(max(before, 0), min(after, flat.shape[place]))
            widths = [(0, 0), (0, 0)]
            widths[place] = (inside[0] - before, after - 1 - inside[-1])
            flat = np.pad(np.take(flat, inside, axis=place), widths)
        rows = flat.T[::-1]
        return np.ascontiguousarray(rows[:, ::-1] if self.flipped else rows)


VIEWS = (
    _View(axis=0, flipped=True, words=("A", "left", "P"), half=(0, MIDLINE_INDEX + 1)),
    _View(axis=1, flipped=True, words=("R", "", "L")),
    _View(axis=0, flipped=False, words=("P", "right", "A"), half=(MIDLINE_INDEX, None)),
    _View(axis=2, flipped=True, words=("R", "", "L")),
)


def draw(
    probability: NDArray[np.float32],
    core: NDArray[np.bool_] | None,
    threshold: float = PROBABILITY_THRESHOLD,
) -> Image.Image:
    """The brain from the left, the front, the right and above.

    Args:
        probability: on the MNI grid.
        core: bool, on the MNI grid; its outline is drawn. None if it is not known.
        threshold: from which on the probability is drawn.

    Returns:
        An RGB picture, always of the same size.
    """
    canvas = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    places = []
    left = GAP
    for view in VIEWS:
        panel = _panel(view, probability, core, threshold)
        top = (HEIGHT - panel.shape[0]) // 2
        canvas[top : top + panel.shape[0], left : left + panel.shape[1]] = panel
        places.append((left, panel.shape[1]))
        left += panel.shape[1] + GAP
    _paint_bar(canvas, threshold)
    whole = Image.fromarray(canvas)
    pen = Pen(whole)
    for view, (left, width) in zip(VIEWS, places, strict=True):
        for share, anchor, word in zip((0.1, 0.5, 0.9), "lmr", view.words, strict=True):
            place = left + share * width, 6
            pen.write(place, word, LETTER_SIZE, anchor=f"{anchor}a", halo=True)
    for tick in BAR_TICKS:
        row = BAR[3] + (BAR[1] - BAR[3]) * tick
        pen.box((BAR[0] - 4, round(row), BAR[0] - 1, round(row)), "white")
        pen.write((BAR[0] - 8, row), f"{tick:g}", TEXT_SIZE, anchor="rm")
    return whole


def _panel(
    view: _View, probability: NDArray, core: NDArray[np.bool_] | None, threshold: float
) -> Rgb:
    size = view.size
    picture = np.zeros((*size, 3), np.uint8)
    values = drawing.enlarged(view.flat(probability).astype(np.float32), size)
    drawing.paint(
        picture, 1.0 * (values >= threshold), drawing.heat(values, colours=drawing.GREENS)
    )
    for grey, covered in _lines(view).items():
        drawing.paint(picture, LINES_SHARE * covered, "#" + 3 * f"{round(255 * grey):02X}")
    if core is not None and core.any():
        distance = drawing.edge_distance(view.flat(core), size)
        drawing.paint(picture, drawing.line(distance), CORE)
    return picture


@functools.cache
def _lines(view: _View) -> dict[float, NDArray[np.float32]]:
    """How much of each pixel the lines of a drawing cover, by their grey level."""
    rows, columns = view.size
    across, along = (SHOWN_MM[axis] for axis in range(3) if axis != view.axis)
    scale = FINER * VOXEL_PX / VOXEL_MM
    sheets: dict[float, Image.Image] = {}
    for line in json.loads(LINES.read_text(encoding="utf-8"))["xyz"[view.axis]]:
        sheet = sheets.setdefault(line["grey"], Image.new("L", (FINER * columns, FINER * rows)))
        points = np.array(line["points"])
        x = across[1] - points[:, 0] if view.flipped else points[:, 0] - across[0]
        places = np.stack([x, along[1] - points[:, 1]], axis=1) * scale
        ImageDraw.Draw(sheet).line(
            [(x, y) for x, y in places], fill=255,
            width=round(FINER * POINT_PX * line["width"]), joint="curve",
        )  # fmt: skip
    return {
        grey: (np.asarray(sheet.reduce(FINER)) / 255).astype(np.float32)
        for grey, sheet in sheets.items()
    }


def _paint_bar(canvas: Rgb, threshold: float) -> None:
    """The colours of the probability; grey where nothing is drawn."""
    left, top, right, bottom = BAR
    values = np.linspace(1, 0, bottom - top, dtype=np.float32)
    column = drawing.heat(values, colours=drawing.GREENS)
    column[values < threshold] = drawing.rgb(BELOW_THRESHOLD)
    canvas[top:bottom, left:right] = column[:, np.newaxis]
