"""Brushes for pictures of slices: text, contours with soft edges, colours of values.

numpy and Pillow: a library of figures takes longer to load than all pictures of a patient to draw.
"""

import functools
import io
import math
from importlib import resources

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

LINE_PX = 1.4
LEAST_SLOPE = 1e-3  # where a mask is flat, its edge is far
PNG_LEVEL = 3  # higher ones take up to ten times as long for 5% of the size

# Every sixteenth of viridis, and its end: even steps, also for colour-blind readers and in grey.
VIRIDIS = (
    "#440154", "#481A6C", "#472F7D", "#414487", "#39568C", "#31688E", "#2A788E", "#23888E",
    "#1F988B", "#22A884", "#35B779", "#54C568", "#7AD151", "#A5DB36", "#D2E21B", "#FDE725",
)  # fmt: skip

# Of probability: dark to light, through the colour of hypoperfusion in every picture.
BLUISH_GREEN = "#009E73"
GREENS = ("#00251B", "#00614A", BLUISH_GREEN, "#5ACBA5", "#B4F3DA")
# Of disagreement: its light end cannot be mistaken for a high probability.
ORANGES = ("#2B1400", "#7A3600", "#D55E00", "#F2A65A", "#FFEBD6")

Rgb = NDArray[np.uint8]
Size = tuple[int, int]


def rgb(colour: str) -> tuple[int, int, int]:
    """``#RRGGBB`` as numbers.

    >>> rgb("#0A00FF")
    (10, 0, 255)
    """
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


@functools.cache
def heat_colours(colours: tuple[str, ...] = VIRIDIS) -> Rgb:
    """The colours of values from 0 to 1 in 256 steps: uint8 [256, 3]."""
    anchors = np.array([rgb(colour) for colour in colours], float)
    places = np.linspace(0, 255, len(anchors))
    every = np.arange(256)
    return np.stack(
        [np.interp(every, places, channel).round().astype(np.uint8) for channel in anchors.T], 1
    )


def heat(values: NDArray, top: float = 1.0, colours: tuple[str, ...] = VIRIDIS) -> Rgb:
    """Colours of values.

    Args:
        values: of any shape.
        top: value of the last colour.
        colours: evenly spaced from 0 to ``top``.

    Returns:
        uint8, the shape of ``values`` and 3.
    """
    return heat_colours(colours)[np.clip(values * (255 / top), 0, 255).round().astype(np.uint8)]


def enlarged(values: NDArray, size: Size) -> NDArray:
    """A slice brought to the size of its panel: voxels stay sharp; several in a pixel are averaged.

    Args:
        values: uint8 or float32 [rows, columns].
        size: rows and columns of the panel.
    """
    return np.asarray(Image.fromarray(values).resize(size[::-1], Image.Resampling.BOX))


def edge_distance(mask: NDArray[np.bool_], size: Size) -> NDArray[np.float32]:
    """How far inside a mask each pixel of a panel is, in pixels.

    The edge lies half-way between the voxels' centres on its two sides, and corners are rounded.

    Args:
        mask: bool [rows, columns].
        size: rows and columns of the panel.

    Returns:
        float32, negative outside; right near the edge, farther off only its sign counts.
    """
    # Several voxels in a pixel count as one, which is in the mask if any is: none gets lost.
    many = [
        max(1, math.ceil(voxels / pixels)) for voxels, pixels in zip(mask.shape, size, strict=True)
    ]
    pooled = mask
    for axis, block in enumerate(many):
        if block > 1:
            starts = np.arange(0, pooled.shape[axis], block)
            pooled = np.logical_or.reduceat(pooled, starts, axis=axis)
    box = (0, 0, mask.shape[1] / many[1], mask.shape[0] / many[0])
    image = Image.fromarray(pooled.astype(np.float32))
    field = np.asarray(image.resize(size[::-1], Image.Resampling.BILINEAR, box=box)) - 0.5
    # The steeper side counts: the field has a kink at every voxel's centre.
    across = np.abs(np.diff(field, axis=1, prepend=field[:, :1], append=field[:, -1:]))
    along = np.abs(np.diff(field, axis=0, prepend=field[:1], append=field[-1:]))
    slope = np.hypot(np.maximum(across[:, 1:], across[:, :-1]), np.maximum(along[1:], along[:-1]))
    return field / np.maximum(slope, LEAST_SLOPE)


def line(distance: NDArray[np.float32], width_px: float = LINE_PX) -> NDArray[np.float32]:
    """How much of each pixel a line along the edge covers, from 0 to 1."""
    return np.clip(width_px / 2 + 0.5 - np.abs(distance), 0, 1)


def region(distance: NDArray[np.float32]) -> NDArray[np.float32]:
    """How much of each pixel a mask covers, from 0 to 1; half a pixel wider, to be seen."""
    return np.clip(distance + 1, 0, 1)


def paint(picture: Rgb, coverage: NDArray, colour: str | Rgb) -> None:
    """Lay a colour over a picture, in place.

    Args:
        picture: uint8 [rows, columns, 3].
        coverage: 0 to 1 [rows, columns].
        colour: one for all, or one for each pixel.
    """
    on = coverage > 0
    if not on.any():
        return
    share = coverage[on][:, np.newaxis]
    laid = rgb(colour) if isinstance(colour, str) else colour[on]
    picture[on] = (picture[on] * (1 - share) + np.asarray(laid) * share).round().astype(np.uint8)


@functools.cache
def font(size_px: float) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which has the letters of most names; Pillow's own has those of English."""
    content = resources.files("data_tools").joinpath("fonts", "DejaVuSans.ttf").read_bytes()
    # Without Raqm, which not every Pillow has: the same picture everywhere.
    return ImageFont.truetype(io.BytesIO(content), size_px, layout_engine=ImageFont.Layout.BASIC)


class Pen:
    """Writes on a picture.

    Args:
        image: RGB; changed.
    """

    def __init__(self, image: Image.Image):
        self._draw = ImageDraw.Draw(image)

    def write(
        self, at: tuple[float, float], text: str, size_px: float, *,
        colour: str = "white", anchor: str = "la", halo: bool = False,
    ) -> None:  # fmt: skip
        """One line of text.

        Args:
            at: column and row of the anchor.
            text: without line breaks.
            size_px: of the letters.
            colour: of them.
            anchor: as Pillow names it; ``la`` is left and top, ``mm`` the middle.
            halo: a black edge around letters that may stand on something bright.
        """
        self._draw.text(
            at, text, fill=colour, font=font(size_px), anchor=anchor,
            stroke_width=1 if halo else 0, stroke_fill="black",
        )  # fmt: skip

    def box(self, corners: tuple[float, float, float, float], colour: str) -> None:
        """A filled rectangle: left, top, right, bottom, all inside."""
        self._draw.rectangle(corners, fill=colour)


def width_px(text: str, size_px: float) -> float:
    """How wide a line of text is."""
    return font(size_px).getlength(text)


def png(*images: Image.Image) -> bytes:
    """RGB pictures as one PNG, one below the other; the same pictures give the same bytes."""
    whole = images[0]
    if len(images) > 1:
        size = max(each.width for each in images), sum(each.height for each in images)
        whole = Image.new("RGB", size)
        top = 0
        for each in images:
            whole.paste(each, (0, top))
            top += each.height
    buffer = io.BytesIO()
    whole.save(buffer, "PNG", compress_level=PNG_LEVEL)
    return buffer.getvalue()


def webp(image: Image.Image) -> bytes:
    """A picture as WebP: a fifth of the size, and close to what it was.

    Args:
        image: RGB.
    """
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=82, method=2)
    return buffer.getvalue()
