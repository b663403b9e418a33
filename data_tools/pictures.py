"""Still pictures of slices with contours, for quality control and results.

Shown in radiological convention (the patient's left is on the right of the picture), with L and
R written on it. Colours are Okabe and Ito's, which colour-blind readers tell apart. Core, predicted
and measured hypoperfusion have the same colours in every picture of the project; they stand here.
"""

import dataclasses
import textwrap
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from data_tools import drawing
from data_tools.drawing import BLUISH_GREEN, Pen, Rgb

ORANGE, SKY_BLUE, YELLOW, VERMILION = "#E69F00", "#56B4E9", "#F0E442", "#D55E00"
REDDISH_PURPLE = "#CC79A7"
CORE, HYPOPERFUSION, MEASURED = REDDISH_PURPLE, BLUISH_GREEN, ORANGE

CONVENTION = "Radiological convention: the patient's left is on the right."
ADC_WINDOW_UM2_PER_S = (0.0, 2500.0)
ADC_TITLE = "ADC, 0 to 2500 × 10⁻⁶ mm²/s"
FILLED_SHARE, HEAT_SHARE = 0.7, 0.8  # what a colour covers of the grey below it

MIN_AREA_SHARE = 0.05  # of the largest slice's, for a slice to be shown
TITLE_CHARACTERS = 140  # of the title's letters on a picture of this width

COLUMNS = 8
# Of a thumbnail: that much of the lesion lies below each slice.
THUMBNAIL_SHARES = (0.25, 0.5, 0.75)
# All lengths are pixels.
WIDTH, MARGIN, TEXT_MARGIN, GAP = 1152, 6, 11, 4
PANEL_WIDTH, PANEL_HEIGHT = 139, 167
PANEL = PANEL_HEIGHT, PANEL_WIDTH
LINE_HEIGHT = 20
ABOVE_PANELS, LEGEND_HEIGHT, SCALE_HEIGHT = 13, 32, 50
TITLE_SIZE, TEXT_SIZE, LETTER_SIZE = 13.75, 11.25, 10.0
LETTER_HEIGHT = 13
THUMBNAIL_CELL, THUMBNAIL_LETTER = (180, 150), 15.0
SCALE_LEFT, SCALE_WIDTH, SCALE_BAR = 35, 690, 12
SWATCH_WIDTH, SWATCH_HEIGHT = 22, 8


@dataclasses.dataclass(frozen=True)
class Overlay:
    """A mask drawn over the slices: a contour, or filled.

    Attributes:
        mask: bool, shape of the image.
        label: legend text; an empty one is left out of the legend.
        colour: hex.
        filled: fill the region instead of drawing its edge.
    """

    mask: NDArray[np.bool_]
    label: str
    colour: str
    filled: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class Heat:
    """Values from 0 to ``top`` drawn in colours over the slices, with a legend in words.

    Attributes:
        values: float32, shape of the image.
        label: what they are.
        top: value of the last colour.
        shown_from: smaller values are not drawn.
        words: (value, text) below the scale.
        colours: evenly spaced from 0 to ``top``.
    """

    values: NDArray[np.float32]
    label: str
    top: float = 1.0
    shown_from: float = 0.1
    words: Sequence[tuple[float, str]] = ()
    colours: tuple[str, ...] = drawing.VIRIDIS


def to_ras(data: NDArray, affine: NDArray) -> tuple[NDArray, tuple[float, float, float]]:
    """Flip and permute axes (no interpolation) so that they run right, anterior, superior.

    Returns:
        The array and the voxel's edge lengths in mm along the new axes.
    """
    import nibabel as nib

    orientation = nib.io_orientation(affine)
    spacing = np.empty(3)
    spacing[orientation[:, 0].astype(int)] = np.sqrt((affine[:3, :3] ** 2).sum(axis=0))
    return nib.apply_orientation(data, orientation), (spacing[0], spacing[1], spacing[2])


def signed(mm: float) -> str:
    """Whole mm with a true minus sign.

    >>> signed(-43.2), signed(-0.3), signed(12.0)
    ('−43', '0', '12')
    """
    return f"{round(mm)}".replace("-", "−")


def origin_mm(affine: NDArray, shape: Sequence[int]) -> tuple[float, float, float]:
    """Where the first slice along each axis of :func:`to_ras` lies.

    Of oblique images the middle of each slice counts.

    Args:
        affine: index -> mm, before the axes were turned.
        shape: likewise.
    """
    import nibabel as nib

    orientation = nib.io_orientation(affine)
    turned = affine @ nib.orientations.inv_ornt_aff(orientation, shape)
    middle = np.empty(3)
    middle[orientation[:, 0].astype(int)] = (np.asarray(shape[:3]) - 1) / 2
    spacing = np.sqrt((turned[:3, :3] ** 2).sum(axis=0))
    found = turned[:3, :3] @ middle + turned[:3, 3] - middle * spacing
    return float(found[0]), float(found[1]), float(found[2])


def axial_mosaic(
    image: NDArray[np.float32],
    overlays: Sequence[Overlay],
    spacing_mm: Sequence[float],
    title: str,
    *,
    footer: str = "",
    panels: int = 24,
    window: tuple[float, float] | None = None,
    planes: bool = False,
    brain: NDArray[np.bool_] | None = None,
    heat: Heat | None = None,
    first_mm: Sequence[float] | None = None,
) -> Image.Image:
    """Evenly spaced axial slices, feet to head, with contours.

    Args:
        image: RAS+ [x, y, z].
        overlays: drawn in order; empty masks still stand in the legend.
        spacing_mm: voxel size.
        title: lines above; long ones are wrapped, and from the first that starts with ! on they
            are in the colour of a warning.
        footer: lines below.
        panels: number of axial slices, fewer if the image has fewer.
        window: grey values of black and white; None takes 0 and the 99.5th percentile.
        planes: add one row of coronal and one of sagittal slices.
        brain: choose slices that show it; None takes what is not black.
        heat: values in colours, below the overlays.
        first_mm: of :func:`origin_mm`; every slice is then marked with its mm.

    Returns:
        An RGB picture, always of the same width.
    """
    scene = _scene(
        image, overlays, heat,
        spacing_mm=spacing_mm, window=window, brain=brain, first_mm=first_mm,
    )  # fmt: skip
    mosaic = _Mosaic(
        cuts=_choose_cuts(scene.shown, panels, planes),
        title=tuple(
            part for line in title.split("\n") for part in textwrap.wrap(line, TITLE_CHARACTERS)
        ),
        footer=tuple(footer.split("\n")) if footer else (),
        has_scale=heat is not None,
    )
    canvas = np.zeros((mosaic.height, WIDTH, 3), np.uint8)
    places = []
    for number, cut in enumerate(mosaic.cuts):
        if cut is not None:
            panel = _panel(scene, cut)
            left, top = mosaic.place(number, panel)
            canvas[top : top + panel.shape[0], left : left + panel.shape[1]] = panel
            places.append((cut, left, top, panel.shape[1]))
    whole = Image.fromarray(canvas)
    pen = Pen(whole)
    for cut, left, top, width in places:
        # Above the slice where there is room, so that nothing of it is hidden.
        _write_letters(pen, _letters(scene, cut), (left, mosaic.above(top), width))
    _write_lines(pen, mosaic)
    if scene.heat is not None:
        whole.paste(_scale(scene.heat), (SCALE_LEFT, mosaic.scale_top))
        _write_scale(pen, scene.heat, mosaic)
    _draw_legend(pen, scene.overlays, mosaic)
    return whole


def axial_slices(
    image: NDArray[np.float32],
    levels: Sequence[int],
    spacing_mm: Sequence[float],
    *,
    window: tuple[float, float],
    brain: NDArray[np.bool_],
    size: tuple[int, int],
    letter_px: float,
    overlays: Sequence[Overlay] = (),
    heat: Heat | None = None,
) -> list[Image.Image]:
    """Single axial slices, all of one size, with the letters R and L on each.

    Args:
        image: RAS+ [x, y, z].
        levels: indices along z.
        spacing_mm: voxel size.
        window: grey values of black and white.
        brain: the pictures are cut to it.
        size: most rows and columns of a picture.
        letter_px: size of the letters.
        overlays: drawn in order.
        heat: values in colours, below the overlays.
    """
    scene = _scene(
        image, overlays, heat, spacing_mm=spacing_mm, window=window, brain=brain, first_mm=None
    )
    drawn = []
    for level in levels:
        picture = Image.fromarray(_panel(scene, _Cut(2, int(level)), size))
        letters = {"l": "R", "r": "L"}
        _write_letters(Pen(picture), letters, (0, 1, picture.width), letter_px)
        drawn.append(picture)
    return drawn


def thumbnail(
    image: NDArray[np.float32],
    overlays: Sequence[Overlay],
    spacing_mm: Sequence[float],
    *,
    window: tuple[float, float] | None,
    brain: NDArray[np.bool_],
    found: NDArray[np.bool_],
) -> Image.Image:
    """Three axial slices beside each other, for a table of patients.

    Args:
        image: RAS+ [x, y, z].
        overlays: drawn in order.
        spacing_mm: voxel size.
        window: grey values of black and white; None takes 0 and the brain's 99.5th percentile.
        brain: the slices are cut to it.
        found: slices lie at the quarters of this; of the brain, where it is empty.
    """
    if window is None:
        window = 0.0, float(np.percentile(image[brain], 99.5)) if brain.any() else 1.0
    area = (found if found.any() else brain).sum(axis=(0, 1))
    below = np.cumsum(area) / max(area.sum(), 1)
    levels = [int(np.argmax(below >= share)) for share in THUMBNAIL_SHARES]
    drawn = axial_slices(
        image, levels, spacing_mm, window=window, brain=brain, size=THUMBNAIL_CELL,
        letter_px=THUMBNAIL_LETTER, overlays=overlays,
    )  # fmt: skip
    height, width = THUMBNAIL_CELL
    whole = Image.new("RGB", (width * len(drawn) + GAP * (len(drawn) - 1), height))
    for place, each in enumerate(drawn):
        left = place * (width + GAP) + (width - each.width) // 2
        whole.paste(each, (left, (height - each.height) // 2))
    return whole


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Scene:
    """What every panel shows a slice of, cropped to the head.

    Attributes:
        image: grey values.
        shown: bool, what slices are chosen by.
        overlays: drawn last.
        heat: below the overlays.
        spacing_mm: voxel size.
        window: grey values of black and white.
        first_mm: of the first slice along each axis, after cropping; None if it is not known.
    """

    image: NDArray[np.float32]
    shown: NDArray[np.bool_]
    overlays: tuple[Overlay, ...]
    heat: Heat | None
    spacing_mm: Sequence[float]
    window: tuple[float, float]
    first_mm: tuple[float, ...] | None


@dataclasses.dataclass(frozen=True)
class _Cut:
    """A slice: which one along which axis."""

    axis: int
    level: int


@dataclasses.dataclass(frozen=True)
class _Mosaic:
    """The layout: rows of panels between the lines above and below.

    Attributes:
        cuts: one for each panel, row by row; None leaves it empty.
        title: wrapped lines.
        footer: lines.
        has_scale: whether the colours of a heat map are explained below.
    """

    cuts: tuple[_Cut | None, ...]
    title: tuple[str, ...]
    footer: tuple[str, ...]
    has_scale: bool

    @property
    def panels_top(self) -> int:
        return LINE_HEIGHT * len(self.title) + ABOVE_PANELS

    @property
    def panels_bottom(self) -> int:
        return self.panels_top - (-len(self.cuts) // COLUMNS) * (PANEL_HEIGHT + GAP)

    @property
    def scale_top(self) -> int:
        return self.panels_bottom + ABOVE_PANELS

    @property
    def legend_middle(self) -> int:
        return self.height - LEGEND_HEIGHT // 2 - 1

    @property
    def height(self) -> int:
        below = LEGEND_HEIGHT + LINE_HEIGHT * max(len(self.footer), 1)
        return self.panels_bottom + (SCALE_HEIGHT if self.has_scale else 0) + below

    def place(self, number: int, panel: Rgb) -> tuple[int, int]:
        """Left and top of a panel, in the middle of its cell."""
        row, column = divmod(number, COLUMNS)
        left = MARGIN + column * (PANEL_WIDTH + GAP) + (PANEL_WIDTH - panel.shape[1]) // 2
        top = self.panels_top + row * (PANEL_HEIGHT + GAP) + (PANEL_HEIGHT - panel.shape[0]) // 2
        return left, top

    def above(self, top: int) -> int:
        """Where the letters of a panel begin that begins at ``top``."""
        row = (top - self.panels_top) // (PANEL_HEIGHT + GAP)
        return max(self.panels_top + row * (PANEL_HEIGHT + GAP), top - LETTER_HEIGHT)


def _scene(
    image: NDArray[np.float32],
    overlays: Sequence[Overlay],
    heat: Heat | None,
    *,
    spacing_mm: Sequence[float],
    window: tuple[float, float] | None,
    brain: NDArray[np.bool_] | None,
    first_mm: Sequence[float] | None,
) -> _Scene:
    if window is None:
        positive = image[image > 0]
        window = (0.0, float(np.percentile(positive, 99.5)) if positive.size else 1.0)
    shown = image > window[0] + 0.1 * (window[1] - window[0]) if brain is None else brain
    box = _extent(np.any(shown, axis=(1, 2))), _extent(np.any(shown, axis=(0, 2)))
    if first_mm is not None:
        cut_off = *(part.start or 0 for part in box), 0
        first_mm = tuple(np.asarray(first_mm) + np.multiply(cut_off, spacing_mm))
    return _Scene(
        image=image[box],
        shown=shown[box],
        overlays=tuple(dataclasses.replace(o, mask=o.mask[box]) for o in overlays),
        heat=None if heat is None else dataclasses.replace(heat, values=heat.values[box]),
        spacing_mm=spacing_mm,
        window=window,
        first_mm=first_mm,
    )


def _choose_cuts(shown: NDArray[np.bool_], panels: int, planes: bool) -> tuple[_Cut | None, ...]:
    """Axial slices evenly spaced over what is shown; with ``planes`` also two rows of others."""
    area = shown.sum(axis=(0, 1))  # a few voxels at the ends are noise rather than brain
    filled = np.flatnonzero(area > MIN_AREA_SHARE * area.max())
    first, last = (filled[0], filled[-1]) if filled.size else (0, shown.shape[2] - 1)
    levels = np.unique(np.linspace(first, last, min(panels, last - first + 1)).round().astype(int))
    cuts: list[_Cut | None] = [_Cut(2, int(level)) for level in levels]
    if planes:
        cuts += [None] * (-len(cuts) % COLUMNS)
        cuts += [
            _Cut(axis, int(level))
            for axis in (1, 0)
            for level in np.linspace(0.15, 0.85, COLUMNS) * shown.shape[axis]
        ]
    return tuple(cuts)


def _panel(scene: _Scene, cut: _Cut, most: tuple[int, int] = PANEL) -> Rgb:
    """A slice with its masks: rows run down, and the patient's left is on the right."""

    def section(volume: NDArray) -> NDArray:
        # Not np.take: it would copy the whole of a volume that was turned.
        rows = np.moveaxis(volume, cut.axis, 0)[cut.level].T[::-1]
        return np.ascontiguousarray(rows if cut.axis == 0 else rows[:, ::-1])

    black, white = scene.window
    steps = (section(scene.image) - black) * (255 / max(white - black, 1e-9))
    grey = np.clip(steps, 0, 255).astype(np.uint8)
    across, along = (scene.spacing_mm[axis] for axis in range(3) if axis != cut.axis)
    extent_mm = grey.shape[0] * along, grey.shape[1] * across
    scale = min(most[0] / extent_mm[0], most[1] / extent_mm[1])
    size = max(round(extent_mm[0] * scale), 1), max(round(extent_mm[1] * scale), 1)
    picture = np.repeat(drawing.enlarged(grey, size)[..., np.newaxis], 3, axis=2)
    if scene.heat is not None:
        values = drawing.enlarged(section(scene.heat.values).astype(np.float32), size)
        shown = HEAT_SHARE * (values >= scene.heat.shown_from)
        drawing.paint(picture, shown, drawing.heat(values, scene.heat.top, scene.heat.colours))
    for overlay in scene.overlays:
        mask = section(overlay.mask)
        if mask.any():
            distance = drawing.edge_distance(mask, size)
            covered = (
                FILLED_SHARE * drawing.region(distance)
                if overlay.filled
                else drawing.line(distance, drawing.LINE_PX * most[1] / PANEL_WIDTH)
            )
            drawing.paint(picture, covered, overlay.colour)
    return picture


def _write_letters(
    pen: Pen,
    letters: dict[str, str],
    where: tuple[int, int, int],
    size_px: float = LETTER_SIZE,
) -> None:
    """The letters of a panel at its left, middle and right."""
    left, top, width = where
    places = {"l": left + 2, "m": left + width / 2, "r": left + width - 2}
    for side, text in letters.items():
        pen.write((places[side], top), text, size_px, anchor=f"{side}a", halo=True)


def _letters(scene: _Scene, cut: _Cut) -> dict[str, str]:
    """Which way a panel lies, and where: words at its left (l), middle (m) and right (r)."""
    found = {"l": "R", "r": "L"}
    where = []
    if cut.axis == 0:
        shown = scene.shown
        middle = np.average(np.arange(len(shown)), weights=shown.sum(axis=(1, 2)) + 1e-9)
        where = ["left" if cut.level < middle else "right"]
        found = {"l": "P", "r": "A"}
    if scene.first_mm is not None:
        mm = scene.first_mm[cut.axis] + cut.level * scene.spacing_mm[cut.axis]
        where.append(f"{'xyz'[cut.axis]} {signed(mm)} mm")
    return found | ({"m": " ".join(where)} if where else {})


def _write_lines(pen: Pen, mosaic: _Mosaic) -> None:
    """The lines above and below the panels."""
    alarm = False
    for i, text in enumerate(mosaic.title):
        # A warning keeps its colour over the lines it is wrapped to.
        alarm = alarm or text.startswith("!")
        colour = YELLOW if alarm else "white"
        pen.write((TEXT_MARGIN, 5 + LINE_HEIGHT * i), text, TITLE_SIZE, colour=colour)
    for i, text in enumerate(reversed(mosaic.footer)):
        bottom = mosaic.height - 3 - LINE_HEIGHT * i
        pen.write((TEXT_MARGIN, bottom), text, TEXT_SIZE, anchor="ld")


def _scale(heat: Heat) -> Image.Image:
    """The colours of a heat map, from 0 to its top."""
    values = np.broadcast_to(np.linspace(0, 1, SCALE_WIDTH), (SCALE_BAR, SCALE_WIDTH))
    return Image.fromarray(drawing.heat(values, colours=heat.colours))


def _write_scale(pen: Pen, heat: Heat, mosaic: _Mosaic) -> None:
    """Words at the values of the colours."""
    bottom = mosaic.scale_top + SCALE_BAR
    for value, text in heat.words:
        column = SCALE_LEFT + SCALE_WIDTH * value / heat.top
        pen.box((round(column), bottom, round(column), bottom + 2), "white")
        pen.write((column, bottom + 4), text, TEXT_SIZE, anchor="ma")
    label = SCALE_LEFT + SCALE_WIDTH + 24, bottom - SCALE_BAR / 2
    pen.write(label, heat.label, TEXT_SIZE, anchor="lm")


def _draw_legend(pen: Pen, overlays: Sequence[Overlay], mosaic: _Mosaic) -> None:
    """Colours and labels of the masks, at the right below the panels."""
    overlays = [each for each in overlays if each.label]
    widths = [SWATCH_WIDTH + 9 + drawing.width_px(o.label, TEXT_SIZE) for o in overlays]
    left = WIDTH - TEXT_MARGIN - sum(widths) - SWATCH_WIDTH * max(len(overlays) - 1, 0)
    middle = mosaic.legend_middle
    footer = max((drawing.width_px(text, TEXT_SIZE) for text in mosaic.footer), default=0)
    if left < TEXT_MARGIN + footer + SWATCH_WIDTH:  # above the footer, not upon it
        middle -= LINE_HEIGHT * len(mosaic.footer)
    for overlay, width in zip(overlays, widths, strict=True):
        top = middle - SWATCH_HEIGHT // 2
        pen.box((left, top, left + SWATCH_WIDTH, top + SWATCH_HEIGHT), overlay.colour)
        words = left + SWATCH_WIDTH + 9, middle
        pen.write(words, overlay.label, TEXT_SIZE, anchor="lm")
        left += width + SWATCH_WIDTH


def _extent(present: NDArray, margin: int = 3) -> slice:
    """From the first to the last True, with a margin; everything if there is none."""
    found = np.flatnonzero(present)
    if not found.size:
        return slice(None)
    return slice(max(found[0] - margin, 0), found[-1] + margin + 1)
