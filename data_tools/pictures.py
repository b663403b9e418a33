"""Still pictures of slices with contours, for quality control and results.

Shown in radiological convention (the patient's left is on the right of the picture), with L and
R written on it. Colours are Okabe and Ito's, which colour-blind readers tell apart.
"""

import dataclasses
import io
import textwrap
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

ORANGE, SKY_BLUE, GREEN, YELLOW, VERMILION = "#E69F00", "#56B4E9", "#009E73", "#F0E442", "#D55E00"

CONVENTION = "Radiological convention: the patient's left is on the right."
ADC_WINDOW_UM2_PER_S = (0.0, 2500.0)
HEAT_COLOURS = "viridis"  # even steps, also for colour-blind readers and in grey

MIN_AREA_SHARE = 0.05  # of the largest slice's, for a slice to be shown
TITLE_CHARACTERS = 140  # of 11 points on a picture 12.8 inches wide

COLUMNS = 8
# Inches.
PANEL_WIDTH, PANEL_HEIGHT = 1.6, 1.9
LINE_HEIGHT = 0.22
LEGEND_HEIGHT, SCALE_HEIGHT = 0.35, 0.55


@dataclasses.dataclass(frozen=True)
class Overlay:
    """A mask drawn over the slices: a contour, or filled.

    Attributes:
        mask: bool, shape of the image.
        label: legend text.
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
    """

    values: NDArray[np.float32]
    label: str
    top: float = 1.0
    shown_from: float = 0.1
    words: Sequence[tuple[float, str]] = ()


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
) -> bytes:
    """PNG of evenly spaced axial slices, feet to head, with contours.

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

    Returns:
        PNG bytes.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    scene = _scene(image, overlays, heat, spacing_mm=spacing_mm, window=window, brain=brain)
    mosaic = _Mosaic(
        cuts=_choose_cuts(scene.shown, panels, planes),
        title=tuple(
            part for line in title.split("\n") for part in textwrap.wrap(line, TITLE_CHARACTERS)
        ),
        footer=footer,
        has_scale=heat is not None,
    )
    figure = Figure(figsize=(COLUMNS * PANEL_WIDTH, mosaic.height), facecolor="black")
    FigureCanvasAgg(figure)
    grid = figure.subplots(mosaic.rows, COLUMNS, squeeze=False, gridspec_kw=mosaic.grid())
    for axes in grid.flat:
        axes.set_axis_off()
    for axes, cut in zip(grid.flat, mosaic.cuts, strict=False):
        if cut is not None:
            _draw_panel(axes, scene, cut)
    _write_lines(figure, mosaic)
    if scene.heat is not None:
        _draw_scale(figure, scene.heat, mosaic)
    if scene.overlays:
        _draw_legend(figure, scene.overlays)
    return _png(figure)


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
    """

    image: NDArray[np.float32]
    shown: NDArray[np.bool_]
    overlays: tuple[Overlay, ...]
    heat: Heat | None
    spacing_mm: Sequence[float]
    window: tuple[float, float]


@dataclasses.dataclass(frozen=True)
class _Cut:
    """A slice: which one along which axis."""

    axis: int
    level: int


@dataclasses.dataclass(frozen=True)
class _Mosaic:
    """The layout: rows of panels between the lines above and below; inches, or shares of them.

    Attributes:
        cuts: one for each panel, row by row; None leaves it empty.
        title: wrapped lines.
        footer: lines, in one text.
        has_scale: whether the colours of a heat map are explained below.
    """

    cuts: tuple[_Cut | None, ...]
    title: tuple[str, ...]
    footer: str
    has_scale: bool

    @property
    def rows(self) -> int:
        return -(-len(self.cuts) // COLUMNS)

    @property
    def footer_lines(self) -> int:
        return self.footer.count("\n") + 1

    @property
    def scale_height(self) -> float:
        return SCALE_HEIGHT if self.has_scale else 0.0

    @property
    def height(self) -> float:
        text = LINE_HEIGHT * (len(self.title) + self.footer_lines)
        return self.rows * PANEL_HEIGHT + text + 0.5 + self.scale_height

    def grid(self) -> dict[str, float]:
        """Where the panels stand, for matplotlib."""
        below = LINE_HEIGHT * self.footer_lines + LEGEND_HEIGHT + self.scale_height
        return {
            "left": 0.005,
            "right": 0.995,
            "wspace": 0.03,
            "hspace": 0.03,
            "top": 1 - (LINE_HEIGHT * len(self.title) + 0.15) / self.height,
            "bottom": below / self.height,
        }


def _scene(
    image: NDArray[np.float32],
    overlays: Sequence[Overlay],
    heat: Heat | None,
    *,
    spacing_mm: Sequence[float],
    window: tuple[float, float] | None,
    brain: NDArray[np.bool_] | None,
) -> _Scene:
    if window is None:
        positive = image[image > 0]
        window = (0.0, float(np.percentile(positive, 99.5)) if positive.size else 1.0)
    shown = image > window[0] + 0.1 * (window[1] - window[0]) if brain is None else brain
    box = _extent(np.any(shown, axis=(1, 2))), _extent(np.any(shown, axis=(0, 2)))
    return _Scene(
        image=image[box],
        shown=shown[box],
        overlays=tuple(dataclasses.replace(o, mask=o.mask[box]) for o in overlays),
        heat=None if heat is None else dataclasses.replace(heat, values=heat.values[box]),
        spacing_mm=spacing_mm,
        window=window,
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


def _draw_panel(axes: Any, scene: _Scene, cut: _Cut) -> None:
    def section(volume: NDArray) -> NDArray:
        return np.take(volume, cut.level, cut.axis).T

    rest = [scene.spacing_mm[axis] for axis in range(3) if axis != cut.axis]
    drawn: dict[str, Any] = {
        "origin": "lower", "aspect": rest[1] / rest[0], "interpolation": "nearest"
    }  # fmt: skip
    black, white = scene.window
    axes.imshow(section(scene.image), cmap="gray", vmin=black, vmax=white, **drawn)
    if scene.heat is not None:
        values = np.ma.masked_less(section(scene.heat.values), scene.heat.shown_from)
        axes.imshow(values, cmap=HEAT_COLOURS, vmin=0, vmax=scene.heat.top, alpha=0.8, **drawn)
    for overlay in scene.overlays:
        mask = section(overlay.mask).astype(float)
        if not mask.any():
            continue
        if overlay.filled:
            axes.contourf(mask, [0.5, 2], colors=[overlay.colour], alpha=0.55)
        else:
            axes.contour(mask, [0.5], colors=[overlay.colour], linewidths=1.0)
    if cut.axis != 0:
        axes.invert_xaxis()  # radiological: the patient's left on the right
    for left, letter in _letters(scene.shown, cut):
        axes.text(left, 0.9, letter, color="white", fontsize=8, transform=axes.transAxes)


def _letters(shown: NDArray[np.bool_], cut: _Cut) -> list[tuple[float, str]]:
    """Which way a panel lies, with the place of each word along its width."""
    if cut.axis != 0:
        return [(0.02, "R"), (0.92, "L")]
    middle = np.average(np.arange(len(shown)), weights=shown.sum(axis=(1, 2)) + 1e-9)
    return [(0.02, "P"), (0.92, "A"), (0.4, "left" if cut.level < middle else "right")]


def _write_lines(figure: Any, mosaic: _Mosaic) -> None:
    """The lines above and below the panels."""
    alarm = False
    for i, line in enumerate(mosaic.title):
        # A warning keeps its colour over the lines it is wrapped to.
        alarm = alarm or line.startswith("!")
        colour = YELLOW if alarm else "white"
        top = 1 - (0.08 + LINE_HEIGHT * i) / mosaic.height
        figure.text(0.01, top, line, color=colour, fontsize=11, va="top")
    bottom = 0.04 / mosaic.height
    figure.text(0.01, bottom, mosaic.footer, color="white", fontsize=9, va="bottom")


def _draw_scale(figure: Any, heat: Heat, mosaic: _Mosaic) -> None:
    """The colours of a heat map with words at their values."""
    bottom = (LINE_HEIGHT * mosaic.footer_lines + 0.62) / mosaic.height
    axes = figure.add_axes((0.03, bottom, 0.6, 0.13 / mosaic.height))
    axes.imshow(
        np.linspace(0, heat.top, 256)[np.newaxis], cmap=HEAT_COLOURS, aspect="auto",
        extent=(0, heat.top, 0, 1),
    )  # fmt: skip
    axes.set_yticks([])
    axes.set_xticks([value for value, _ in heat.words], [text for _, text in heat.words])
    axes.tick_params(colors="white", labelsize=9, length=2)
    figure.text(0.65, bottom, heat.label, color="white", fontsize=9)


def _draw_legend(figure: Any, overlays: Sequence[Overlay]) -> None:
    from matplotlib.patches import Patch

    figure.legend(
        handles=[Patch(color=o.colour, label=o.label) for o in overlays],
        loc="lower right",
        ncols=len(overlays),
        frameon=False,
        labelcolor="white",
        fontsize=9,
    )


def _png(figure: Any) -> bytes:
    buffer = io.BytesIO()
    # The version of matplotlib in the metadata would change the bytes; nothing else does.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a letter that the font lacks is a box
        figure.savefig(buffer, format="png", dpi=90, facecolor="black", metadata={"Software": None})
    return buffer.getvalue()


def stacked(pictures: Sequence[bytes]) -> bytes:
    """PNGs of one width, one below the other."""
    from PIL import Image

    images = [Image.open(io.BytesIO(content)).convert("RGB") for content in pictures]
    whole = Image.new("RGB", (max(i.width for i in images), sum(i.height for i in images)))
    top = 0
    for image in images:
        whole.paste(image, (0, top))
        top += image.height
    buffer = io.BytesIO()
    whole.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _extent(present: NDArray, margin: int = 3) -> slice:
    """From the first to the last True, with a margin; everything if there is none."""
    found = np.flatnonzero(present)
    if not found.size:
        return slice(None)
    return slice(max(found[0] - margin, 0), found[-1] + margin + 1)
