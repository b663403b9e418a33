"""The slices that a lesion is in, side by side: image, core and hypoperfusion, a row each.

Further rows show the same slices with what else is known of them. The page shows each picture with
its words as text; the picture for the PACS has both in one.
"""

import dataclasses
import textwrap
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from data_tools import drawing, pictures
from data_tools.drawing import Pen
from data_tools.pictures import (
    ADC_TITLE,
    ADC_WINDOW_UM2_PER_S,
    CORE,
    HYPOPERFUSION,
    MEASURED,
    Heat,
    Overlay,
    signed,
)
from tf_hypoperfusion.inference import wording
from tf_hypoperfusion.inference.prediction import Prediction
from tf_hypoperfusion.inference.result import Comparison

COLUMNS = 6
# Slices with less of the lesion than this share of the fullest one's go first, if there are many.
LEAST_SHARE = 0.05
BRAIN_SHARE = 0.4  # of the fullest slice's brain, where there is no lesion
PROBABILITY_FROM = 0.1
DISAGREEMENT_FROM, DISAGREEMENT_TOP = 0.05, 0.4

# All lengths are pixels. Letters have 7 pt on paper, where a picture is 30 mm wide.
CELL, LETTER = (410, 340), 31.0
SHEET_CELL, SHEET_LETTER = (224, 186), 13.0
HEADING, LABEL, LINE_HEIGHT, GAP = 15.0, 12.5, 20, 4


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scale:
    """The colours of a row.

    Attributes:
        colours: evenly spaced.
        low: what the first one says.
        high: what the last one says.
        mark: share of the way from first to last at which a line is drawn; None without one.
    """

    colours: tuple[str, ...]
    low: str
    high: str
    mark: float | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """The chosen slices with one thing drawn over them.

    Attributes:
        key: ``image``, ``core``, ``hypoperfusion``, ``measured``, ``probability``,
            ``disagreement`` or ``adc``.
        heading: what is shown, with its mL.
        words: what the colours mean; may be empty.
        colour: of the heading's mark; None without one.
        pictures: one for each slice.
        below: what stands below each.
        scale: of colours that stand for values; None without them.
    """

    key: str
    heading: str
    words: str
    colour: str | None
    pictures: list[Image.Image]
    below: list[str]
    scale: Scale | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class LesionSlices:
    """Rows of pictures of the same slices.

    Attributes:
        mm: where each slice lies, towards the head, in the scanner's millimetres.
        words: which slices they are.
        rows: in the order in which they are shown; image, core and hypoperfusion come first.
    """

    mm: list[float]
    words: str
    rows: list[Row]


class _Patient:
    """Images and masks with the axes of a picture, and the slices that are shown."""

    def __init__(self, done: Prediction):
        native = done.native
        affine = native.shown.affine

        def ras(data: NDArray) -> NDArray:
            return pictures.to_ras(data, affine)[0]

        self.ras = ras
        self.done = done
        self.name = "ADC" if native.missing == "DWI" else "DWI"
        self.image, self.spacing_mm = pictures.to_ras(native.shown.data, affine)
        self.brain = ras(native.brain)
        self.hypoperfusion = ras(done.hypoperfusion)
        self.core = None if done.core.native is None else ras(done.core.native)
        self.levels, self.words = _chosen(self.hypoperfusion, self.core, self.brain)
        first_mm = pictures.origin_mm(affine, native.shown.data.shape)[2]
        self.mm = [float(first_mm + level * self.spacing_mm[2]) for level in self.levels]

    def drawn(
        self, size: tuple[int, int], letter_px: float, *overlays: Overlay,
        adc: bool = False, heat: Heat | None = None,
    ) -> list[Image.Image]:  # fmt: skip
        image = self.ras(self.done.native.adc.data) if adc else self.image
        return pictures.axial_slices(
            image, self.levels, self.spacing_mm, window=self.window(adc), brain=self.brain,
            size=size, letter_px=letter_px, overlays=overlays, heat=heat,
        )  # fmt: skip

    def window(self, adc: bool = False) -> tuple[float, float]:
        """Black and white."""
        if adc or self.name == "ADC":
            return ADC_WINDOW_UM2_PER_S
        return 0.0, float(np.percentile(self.image[self.brain], 99.5))

    def ml_below(self, mask: NDArray[np.bool_]) -> list[str]:
        """The mL of a mask in each slice."""
        voxel_ml = self.done.native.dwi.voxel_ml
        return [wording.ml(float(mask[:, :, level].sum() * voxel_ml)) for level in self.levels]


def lesion(
    done: Prediction, size: tuple[int, int] = CELL, letter_px: float = LETTER
) -> LesionSlices:
    """Image, core and hypoperfusion of the slices that hold a lesion.

    Where nothing is found, slices of the whole brain are shown.

    Args:
        done: the measured patient.
        size: most rows and columns of a picture.
        letter_px: of R and L on it.
    """
    return _rows(_Patient(done), size, letter_px)


def details(done: Prediction, compared: Comparison | None) -> list[Row]:
    """Further rows of the same slices: what was measured, probability, disagreement, ADC map.

    Args:
        done: the measured patient.
        compared: its figures beside perfusion imaging.
    """
    patient = _Patient(done)
    return [*_measured(patient, compared), *_probability(patient), *_others(patient)]


def _chosen(
    hypoperfusion: NDArray[np.bool_], core: NDArray[np.bool_] | None, brain: NDArray[np.bool_]
) -> tuple[list[int], str]:
    """At most :data:`COLUMNS` slices, feet to head, and which they are in words."""
    found = hypoperfusion if core is None else hypoperfusion | core
    area = found.sum(axis=(0, 1))
    if not area.any():
        inside = brain.sum(axis=(0, 1))
        levels = np.flatnonzero(inside >= BRAIN_SHARE * inside.max())
        return _spread(levels), "No lesion is found: evenly spaced slices of the brain."
    levels = np.flatnonzero(area)
    many = len(levels)
    if many <= COLUMNS:
        return [int(level) for level in levels], "Every slice that holds a lesion."
    full = np.flatnonzero(area >= LEAST_SHARE * area.max())
    picked = _spread(full if len(full) >= COLUMNS else levels)
    return picked, f"{COLUMNS} of the {many} slices that hold a lesion."


def _spread(levels: NDArray[np.intp]) -> list[int]:
    places = np.linspace(0, len(levels) - 1, min(COLUMNS, len(levels))).round().astype(int)
    return [int(levels[place]) for place in places]


def _rows(patient: _Patient, size: tuple[int, int], letter_px: float) -> LesionSlices:
    done = patient.done
    core, hypoperfusion = patient.core, patient.hypoperfusion
    penumbra = hypoperfusion if core is None else hypoperfusion & ~core
    rows = [
        Row(
            key="image",
            heading=patient.name,
            words=patient.words,
            colour=None,
            pictures=patient.drawn(size, letter_px),
            below=[f"z {signed(mm)} mm" for mm in patient.mm],
        )
    ]
    inside = []
    if core is not None and done.core.native_ml is not None:
        rows.append(
            Row(
                key="core",
                heading=f"Core {wording.ml(done.core.native_ml)}",
                words="Filled in purple.",
                colour=CORE,
                pictures=patient.drawn(size, letter_px, Overlay(core, "", CORE, filled=True)),
                below=patient.ml_below(core),
            )
        )
        inside = [Overlay(core, "", CORE, filled=True)]
    penumbra_ml = float(penumbra.sum() * done.native.dwi.voxel_ml)
    words = "Filled in green. The core is not known, so the penumbra is not known either."
    if core is not None:
        words = (
            f"Filled in green: the penumbra, {wording.ml(penumbra_ml)}, which is the "
            "hypoperfusion outside the core. Filled in purple: the core."
        )
    rows.append(
        Row(
            key="hypoperfusion",
            heading=f"Hypoperfusion {wording.ml(done.hypoperfusion_ml)}",
            words=words,
            colour=HYPOPERFUSION,
            pictures=patient.drawn(
                size,
                letter_px,
                Overlay(penumbra, "", HYPOPERFUSION, filled=True),
                *inside,
                Overlay(hypoperfusion, "", HYPOPERFUSION),
            ),
            below=patient.ml_below(hypoperfusion),
        )
    )
    return LesionSlices(mm=patient.mm, words=patient.words, rows=rows)


def _measured(patient: _Patient, compared: Comparison | None) -> list[Row]:
    truth = patient.done.truth
    if truth is None or compared is None:
        return []
    measured = patient.ras(truth.mask)
    predicted = patient.ras(patient.done.hypoperfusion & truth.coverage)
    return [
        Row(
            key="measured",
            heading=f"Measured {wording.ml(compared.truth_ml)}, predicted in the same part of "
            f"the brain {wording.ml(compared.predicted_ml)}",
            words="Outlined in orange: measured by perfusion imaging. Outlined in green: "
            "predicted. Below each slice: mL measured.",
            colour=MEASURED,
            pictures=patient.drawn(
                CELL, LETTER,
                Overlay(measured, "", MEASURED), Overlay(predicted, "", HYPOPERFUSION),
            ),
            below=patient.ml_below(measured),
        )
    ]  # fmt: skip


def _probability(patient: _Patient) -> list[Row]:
    done = patient.done
    heat = Heat(
        values=patient.ras(done.probability), label="", shown_from=PROBABILITY_FROM,
        colours=drawing.GREENS,
    )  # fmt: skip
    return [
        Row(
            key="probability",
            heading="Probability of hypoperfusion",
            words=f"Voxels of {done.threshold:g} and more are counted as hypoperfused; the line "
            f"on the scale is there. Less than {PROBABILITY_FROM:g} is not drawn.",
            colour=None,
            pictures=patient.drawn(CELL, LETTER, heat=heat),
            below=[f"z {signed(mm)} mm" for mm in patient.mm],
            scale=Scale(
                colours=drawing.GREENS, low="0 unlikely", high="1 certain", mark=done.threshold
            ),
        )
    ]


def _others(patient: _Patient) -> list[Row]:
    done, rows = patient.done, []
    below = [f"z {signed(mm)} mm" for mm in patient.mm]
    if done.disagreement is not None and done.uncertainty is not None:
        heat = Heat(
            values=patient.ras(done.disagreement), label="", shown_from=DISAGREEMENT_FROM,
            top=DISAGREEMENT_TOP, colours=drawing.ORANGES,
        )  # fmt: skip
        rows.append(
            Row(
                key="disagreement",
                heading="Disagreement between the answers",
                words=f"Standard deviation of the probabilities of {done.uncertainty.opinions} "
                "answers. Outlined in green: the predicted hypoperfusion.",
                colour=None,
                pictures=patient.drawn(
                    CELL, LETTER, Overlay(patient.hypoperfusion, "", HYPOPERFUSION), heat=heat
                ),
                below=below,
                scale=Scale(
                    colours=drawing.ORANGES, low="0: they agree",
                    high=f"{DISAGREEMENT_TOP:g} or more: they contradict each other",
                ),
            )
        )  # fmt: skip
    if done.native.missing is None:
        outline = [] if patient.core is None else [Overlay(patient.core, "", CORE)]
        rows.append(
            Row(
                key="adc",
                heading=ADC_TITLE,
                words="Outlined in purple: the core." if outline else "",
                colour=None,
                pictures=patient.drawn(CELL, LETTER, *outline, adc=True),
                below=below,
            )
        )
    return rows


def sheet(done: Prediction, title: Sequence[str], footer: str) -> Image.Image:
    """The rows of :func:`lesion` in one picture, with their words.

    Args:
        done: the measured patient.
        title: lines above; from the first that begins with ! on in the colour of a warning.
        footer: the line below.
    """
    found = lesion(done, SHEET_CELL, SHEET_LETTER)
    lines = [part for line in title for part in textwrap.wrap(line, pictures.TITLE_CHARACTERS)]
    height = max(picture.height for picture in found.rows[0].pictures)
    row_height = 2 * LINE_HEIGHT + height + GAP
    top = pictures.TEXT_MARGIN + LINE_HEIGHT * len(lines)
    whole = Image.new("RGB", (pictures.WIDTH, top + row_height * len(found.rows) + 2 * LINE_HEIGHT))
    pen, left, alarm = Pen(whole), pictures.TEXT_MARGIN, False
    for number, line in enumerate(lines):
        alarm = alarm or line.startswith("!")
        at = left, 5 + LINE_HEIGHT * number
        pen.write(at, line, pictures.TITLE_SIZE, colour=pictures.YELLOW if alarm else "white")
    for row in found.rows:
        _row_on_sheet(whole, pen, row, top)
        top += row_height
    pen.write((left, whole.height - LINE_HEIGHT), footer, pictures.TEXT_SIZE)
    return whole


def _row_on_sheet(whole: Image.Image, pen: Pen, row: Row, top: int) -> None:
    left, middle = pictures.TEXT_MARGIN, top + LINE_HEIGHT / 2
    if row.colour is not None:
        box = left, top + 4, left + pictures.SWATCH_WIDTH, top + LINE_HEIGHT - 6
        pen.box(box, row.colour)
        left += pictures.SWATCH_WIDTH + 8
    pen.write((left, middle), row.heading, HEADING, anchor="lm")
    left += int(drawing.width_px(row.heading, HEADING)) + 14
    pen.write((left, middle), row.words, LABEL, anchor="lm")
    width = (pictures.WIDTH - pictures.TEXT_MARGIN) // COLUMNS
    for place, (picture, below) in enumerate(zip(row.pictures, row.below, strict=True)):
        column = pictures.MARGIN + place * width
        whole.paste(picture, (column, top + LINE_HEIGHT))
        at = column + picture.width / 2, top + LINE_HEIGHT + picture.height + 3
        pen.write(at, below, LABEL, anchor="ma")
