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
HEAT_COLOURS = "viridis"  # even steps, also for colour-blind readers and in grey

MIN_AREA_SHARE = 0.05  # of the largest slice's, for a slice to be shown
TITLE_CHARACTERS = 140  # of 11 points on a picture 12.8 inches wide


@dataclasses.dataclass(frozen=True)
class Overlay:
    """A mask drawn over the slices: a contour, or filled.

    Attributes:
        mask: bool, shape of the image. label: legend text. colour: hex.
        filled: fill the region instead of drawing its edge.
    """

    mask: NDArray[np.bool_]
    label: str
    colour: str
    filled: bool = False


@dataclasses.dataclass(frozen=True)
class Heat:
    """Values from 0 to ``top`` drawn in colours over the slices, with a legend in words.

    Attributes:
        values: float32, shape of the image. label: what they are.
        top: value of the last colour. shown_from: smaller values are not drawn.
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
        spacing_mm: voxel size. title, footer: lines above and below; long ones are wrapped, and
            from the first that starts with ! on they are in the colour of a warning.
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
    from matplotlib.patches import Patch

    if window is None:
        positive = image[image > 0]
        window = (0.0, float(np.percentile(positive, 99.5)) if positive.size else 1.0)
    shown = image > window[0] + 0.1 * (window[1] - window[0]) if brain is None else brain
    box = _extent(np.any(shown, axis=(1, 2))), _extent(np.any(shown, axis=(0, 2)))
    image, shown = image[box], shown[box]
    overlays = [dataclasses.replace(o, mask=o.mask[box]) for o in overlays]
    if heat is not None:
        heat = dataclasses.replace(heat, values=heat.values[box])
    area = shown.sum(axis=(0, 1))  # a few voxels at the ends are noise rather than brain
    filled = np.flatnonzero(area > MIN_AREA_SHARE * area.max())
    first, last = (filled[0], filled[-1]) if filled.size else (0, image.shape[2] - 1)
    levels = np.unique(np.linspace(first, last, min(panels, last - first + 1)).round().astype(int))
    columns = 8
    cuts = [(2, level) for level in levels]
    if planes:
        cuts += [(2, None)] * (-len(cuts) % columns)
        cuts += [
            (axis, int(k))
            for axis in (1, 0)
            for k in np.linspace(0.15, 0.85, columns) * image.shape[axis]
        ]
    rows = -(-len(cuts) // columns)
    lines = [part for line in title.split("\n") for part in textwrap.wrap(line, TITLE_CHARACTERS)]
    title_lines, footer_lines = len(lines), footer.count("\n") + 1
    scale = 0.55 if heat is not None else 0.0
    height = rows * 1.9 + 0.22 * (title_lines + footer_lines) + 0.5 + scale
    figure = Figure(figsize=(columns * 1.6, height), facecolor="black")
    FigureCanvasAgg(figure)
    grid = figure.subplots(
        rows,
        columns,
        squeeze=False,
        gridspec_kw={
            "left": 0.005,
            "right": 0.995,
            "wspace": 0.03,
            "hspace": 0.03,
            "top": 1 - (0.22 * title_lines + 0.15) / height,
            "bottom": (0.22 * footer_lines + 0.35 + scale) / height,
        },
    )
    for axes in grid.flat:
        axes.set_axis_off()
    for axes, (axis, level) in zip(grid.flat, cuts, strict=False):
        if level is None:
            continue
        rest = [spacing_mm[a] for a in range(3) if a != axis]
        aspect = rest[1] / rest[0]
        axes.imshow(
            np.take(image, level, axis).T,
            cmap="gray",
            vmin=window[0],
            vmax=window[1],
            origin="lower",
            aspect=aspect,
            interpolation="nearest",
        )
        if heat is not None:
            values = np.take(heat.values, level, axis).T
            axes.imshow(
                np.ma.masked_less(values, heat.shown_from), cmap=HEAT_COLOURS, vmin=0,
                vmax=heat.top, origin="lower", aspect=aspect, interpolation="nearest", alpha=0.8,
            )  # fmt: skip
        for overlay in overlays:
            section = np.take(overlay.mask, level, axis).T.astype(float)
            if not section.any():
                continue
            if overlay.filled:
                axes.contourf(section, [0.5, 2], colors=[overlay.colour], alpha=0.55)
            else:
                axes.contour(section, [0.5], colors=[overlay.colour], linewidths=1.0)
        if axis != 0:
            axes.invert_xaxis()  # radiological: the patient's left on the right
            letters = [(0.02, "R"), (0.92, "L")]
        else:
            middle = np.average(np.arange(len(shown)), weights=shown.sum(axis=(1, 2)) + 1e-9)
            letters = [(0.02, "P"), (0.92, "A"), (0.4, "left" if level < middle else "right")]
        for left, letter in letters:
            axes.text(left, 0.9, letter, color="white", fontsize=8, transform=axes.transAxes)
    alarm = False
    for i, line in enumerate(lines):
        # A warning keeps its colour over the lines it is wrapped to.
        alarm = alarm or line.startswith("!")
        colour = YELLOW if alarm else "white"
        figure.text(0.01, 1 - (0.08 + 0.22 * i) / height, line, color=colour, fontsize=11, va="top")
    figure.text(0.01, 0.04 / height, footer, color="white", fontsize=9, va="bottom")
    if heat is not None:
        _draw_scale(figure, heat, (0.22 * footer_lines + 0.62) / height, height)
    if overlays:
        figure.legend(
            handles=[Patch(color=o.colour, label=o.label) for o in overlays],
            loc="lower right",
            ncols=len(overlays),
            frameon=False,
            labelcolor="white",
            fontsize=9,
        )
    buffer = io.BytesIO()
    # The version of matplotlib in the metadata would change the bytes; nothing else does.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a letter that the font lacks is a box
        figure.savefig(buffer, format="png", dpi=90, facecolor="black", metadata={"Software": None})
    return buffer.getvalue()


def _draw_scale(figure: Any, heat: Heat, bottom: float, height: float) -> None:
    """The colours of a heat map with words at their values."""
    axes = figure.add_axes((0.03, bottom, 0.6, 0.13 / height))
    axes.imshow(
        np.linspace(0, heat.top, 256)[np.newaxis], cmap=HEAT_COLOURS, aspect="auto",
        extent=(0, heat.top, 0, 1),
    )  # fmt: skip
    axes.set_yticks([])
    axes.set_xticks([value for value, _ in heat.words], [text for _, text in heat.words])
    axes.tick_params(colors="white", labelsize=9, length=2)
    figure.text(0.65, bottom, heat.label, color="white", fontsize=9)


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
