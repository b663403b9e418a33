"""The still pictures of a patient's page, as WebP: sharp text, and small enough for a mail."""

import io
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from data_tools import drawing, pictures
from data_tools.pictures import (
    ADC_WINDOW_UM2_PER_S,
    ORANGE,
    SKY_BLUE,
    VERMILION,
    Heat,
    Overlay,
)
from tf_hypoperfusion.config import RESEARCH_NOTICE
from tf_hypoperfusion.inference.page import glass_brain
from tf_hypoperfusion.inference.prediction import Prediction
from tf_hypoperfusion.inference.result import Comparison, PatientResult

CONVENTION = f"{pictures.CONVENTION} Research use only."


class Picture(NamedTuple):
    """A WebP picture, and what it shows in words."""

    image: bytes
    alt: str


def overview(done: Prediction, result: PatientResult) -> bytes:
    """PNG: axial slices of the DWI, or of the ADC map where there is none, with the predicted
    hypoperfusion's contour and, if it is known, the core filled.

    Args:
        done: the measured patient.
        result: built from it; its decision, facts and warnings are the title.
    """
    figures = "core not known"
    if result.core_ml is not None:
        figures = f"ratio {result.mismatch_ratio:.1f}, mismatch {result.mismatch_ml:.0f} mL"
    said = {"yes": "TARGET MISMATCH", "no": "no target mismatch", "unsure": "UNSURE"}
    nihss = "unknown" if result.given.nihss is None else result.given.nihss
    title = [
        f"{result.patient}: {said[result.answer.target_mismatch]} (DEFUSE 3), {figures}; "
        f"side {result.side_words}, NIHSS {nihss}",
        *(f"! {warning}" for warning in result.warnings),
    ]
    return drawing.png(capture(done, title))


def capture(done: Prediction, lines: Sequence[str]) -> Image.Image:
    """The slices of :func:`overview` below lines of text.

    Args:
        done: the measured patient.
        lines: those from the first that begins with "!" on are in the colour of a warning.
    """
    shown = done.native.shown
    image, spacing = pictures.to_ras(shown.data, shown.affine)
    overlays = [
        *_core_overlay(done, digits=0),
        Overlay(
            pictures.to_ras(done.hypoperfusion, shown.affine)[0],
            f"predicted hypoperfusion {done.hypoperfusion_ml:.0f} mL",
            SKY_BLUE,
            False,
        ),
    ]
    brain, _ = pictures.to_ras(done.native.brain, shown.affine)
    return pictures.axial_mosaic(
        image, overlays, spacing, "\n".join(lines), window=_window(done, image[brain]),
        brain=brain, footer=f"{RESEARCH_NOTICE} {pictures.CONVENTION}",
    )  # fmt: skip


def draw(done: Prediction, compared: Comparison | None) -> dict[str, Picture]:
    """Every picture of the page: ``where``, ``truth``, ``probability``, ``adc``, ``disagreement``,
    ``glass``.

    ``where`` shows the DWI, or the ADC map where there is none; ``adc`` is there with both only,
    ``truth`` where perfusion imaging was given.

    Args:
        done: the measured patient.
        compared: its figures beside perfusion imaging.
    """
    core_ml, hypoperfusion_ml = done.core.native_ml, done.hypoperfusion_ml
    name = "ADC" if done.native.missing == "DWI" else "DWI"
    shown, spacing = pictures.to_ras(done.native.shown.data, done.native.shown.affine)

    def ras(data: NDArray) -> NDArray:
        return pictures.to_ras(data, done.native.dwi.affine)[0]

    brain = ras(done.native.brain)
    window = _window(done, shown[brain])
    core = _core_overlay(done, digits=1)
    core_words = "The core is not known."
    if core_ml is not None:
        core_words = f"Filled in orange: core, {core_ml:.1f} mL."
    outline = Overlay(
        ras(done.hypoperfusion), f"predicted hypoperfusion {hypoperfusion_ml:.1f} mL", SKY_BLUE
    )
    # Words closer to each other than this would overlap.
    unlikely = ((0.1, "0.1 unlikely"),) if done.threshold >= 0.3 else ()
    found: dict[str, tuple[Image.Image, str]] = {
        "where": (
            pictures.axial_mosaic(
                shown, [*core, outline], spacing, name, footer=CONVENTION, window=window,
                brain=brain, planes=True,
            ),
            f"{name} in axial, coronal and sagittal slices. {core_words} "
            f"Outlined in blue: predicted hypoperfusion, {hypoperfusion_ml:.1f} mL.",
        ),
        "probability": (
            pictures.axial_mosaic(
                shown, [], spacing, f"Probability of hypoperfusion over the {name}",
                footer=CONVENTION, panels=16, window=window, brain=brain,
                heat=Heat(
                    values=ras(done.probability), label="probability of hypoperfusion",
                    words=(*unlikely, (done.threshold, f"{done.threshold:g} edge of the mask"),
                           (0.95, "1 certain")),
                ),
            ),
            f"Axial {name} slices with the probability of hypoperfusion in colours from dark blue "
            "(unlikely) over green (0.5) to yellow (certain); the edge of the mask is at "
            f"{done.threshold:g}.",
        ),
    }  # fmt: skip
    if done.truth is not None and compared is not None:
        truth, truth_ml, there_ml = done.truth, compared.truth_ml, compared.predicted_ml
        found["truth"] = (
            pictures.axial_mosaic(
                shown,
                [
                    Overlay(ras(truth.mask), f"measured {truth_ml:.1f} mL", ORANGE),
                    Overlay(
                        ras(done.hypoperfusion & truth.coverage),
                        f"predicted {there_ml:.1f} mL", SKY_BLUE,
                    ),
                ],
                spacing, f"Measured and predicted, over the {name}", footer=CONVENTION,
                panels=16, window=window, brain=brain,
            ),
            f"Axial {name} slices. Outlined in orange: measured by perfusion imaging, "
            f"{truth_ml:.1f} mL. Outlined in blue: predicted in the same part of the brain, "
            f"{there_ml:.1f} mL.",
        )  # fmt: skip
    if done.native.missing is None:
        found["adc"] = (
            pictures.axial_mosaic(
                ras(done.native.adc.data), core, spacing, "ADC, 0 to 2500e-6 mm2/s",
                footer=CONVENTION, panels=16, window=ADC_WINDOW_UM2_PER_S, brain=brain,
            ),
            f"ADC in axial slices, 0 (black) to 2500e-6 mm2/s (white). {core_words}",
        )  # fmt: skip
    if done.disagreement is not None and done.uncertainty is not None:
        found["disagreement"] = (
            pictures.axial_mosaic(
                shown, [outline], spacing, "Where the answers disagree", footer=CONVENTION,
                panels=16, window=window, brain=brain,
                heat=Heat(
                    values=ras(done.disagreement), label="standard deviation of the probability",
                    top=0.4, shown_from=0.05,
                    words=((0.05, "0.05 agree"), (0.2, "0.2"), (0.37, "0.4 disagree")),
                ),
            ),
            f"Axial {name} slices with the standard deviation of {done.uncertainty.opinions} "
            "answers in colours, from dark blue (they agree) to yellow (they disagree).",
        )  # fmt: skip
    found["glass"] = (
        glass_brain.draw(done.probability_mni, done.core.mni, done.threshold),
        f"Glass brain: the largest probability of {done.threshold:g} and more along each line of "
        "sight, from the left, the front, the right and above; the patient's left is on the right.",
    )
    return {name: Picture(_webp(image), alt) for name, (image, alt) in found.items()}


def _core_overlay(done: Prediction, digits: int) -> list[Overlay]:
    """The core, filled; nothing where it is not known."""
    core = done.core.core
    if core is None:
        return []
    mask, _ = pictures.to_ras(core.native, done.native.shown.affine)
    return [Overlay(mask, f"core {core.native_ml:.{digits}f} mL", VERMILION, filled=True)]


def _window(done: Prediction, brain_values: NDArray) -> tuple[float, float]:
    """Black and white of the image that is shown."""
    if done.native.missing == "DWI":
        return ADC_WINDOW_UM2_PER_S
    return 0.0, float(np.percentile(brain_values, 99.5))


def _webp(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=82, method=2)
    return buffer.getvalue()
