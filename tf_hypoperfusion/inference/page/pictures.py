"""Pictures of a whole patient: the page's as WebP, those of other viewers in one piece."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from data_tools import drawing, pictures
from data_tools.pictures import ADC_WINDOW_UM2_PER_S, CORE, HYPOPERFUSION, Overlay
from tf_hypoperfusion.config import RESEARCH_NOTICE
from tf_hypoperfusion.inference import wording
from tf_hypoperfusion.inference.page import glass_brain, headline, slices
from tf_hypoperfusion.inference.prediction import Prediction
from tf_hypoperfusion.inference.result import PatientResult

CONVENTION = f"{pictures.CONVENTION} Research use only."


class Picture(NamedTuple):
    """A WebP picture, and what it shows in words."""

    image: bytes
    alt: str


def overview(done: Prediction, result: PatientResult) -> bytes:
    """PNG: the slices with the lesion, as they are, with the core and with the hypoperfusion.

    Args:
        done: the measured patient.
        result: built from it; its decision, facts and warnings are the title.
    """
    figures = "core not known"
    if result.core_ml is not None:
        mismatch_ml = wording.ml(result.mismatch_ml or 0.0)
        figures = f"ratio {headline.ratio_words(result)}, mismatch {mismatch_ml}"
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
    return slices.sheet(done, lines, f"{RESEARCH_NOTICE} {pictures.CONVENTION}")


def thumbnail(done: Prediction) -> bytes:
    """WebP: three slices through what was found, for a table of patients.

    Args:
        done: the measured patient.
    """
    native = done.native
    image, spacing_mm = pictures.to_ras(native.shown.data, native.shown.affine)

    def ras(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        return pictures.to_ras(mask, native.shown.affine)[0]

    found, overlays = ras(done.hypoperfusion), []
    if done.core.native is not None:
        core = ras(done.core.native)
        overlays, found = [Overlay(core, "", CORE, filled=True)], found | core
    overlays.append(Overlay(ras(done.hypoperfusion), "", HYPOPERFUSION))
    return drawing.webp(
        pictures.thumbnail(
            image, overlays, spacing_mm, brain=ras(native.brain), found=found,
            window=ADC_WINDOW_UM2_PER_S if native.missing == "DWI" else None,
        )
    )  # fmt: skip


def draw(done: Prediction) -> dict[str, Picture]:
    """The pictures of the whole brain: ``where``, on the patient's own images, and ``glass``.

    ``where`` shows the DWI, or the ADC map where there is none.

    Args:
        done: the measured patient.
    """
    native = done.native
    affine, name = native.shown.affine, "ADC" if native.missing == "DWI" else "DWI"
    shown, spacing = pictures.to_ras(native.shown.data, affine)
    brain, hypoperfusion = (
        pictures.to_ras(mask, affine)[0] for mask in (native.brain, done.hypoperfusion)
    )
    overlays, core_words = [], "The core is not known."
    if done.core.native is not None and done.core.native_ml is not None:
        core_ml = wording.ml(done.core.native_ml)
        mask = pictures.to_ras(done.core.native, affine)[0]
        overlays = [Overlay(mask, f"core {core_ml}", CORE, filled=True)]
        core_words = f"Filled in purple: core, {core_ml}."
    hypoperfusion_ml = wording.ml(done.hypoperfusion_ml)
    overlays.append(
        Overlay(hypoperfusion, f"predicted hypoperfusion {hypoperfusion_ml}", HYPOPERFUSION)
    )
    window = ADC_WINDOW_UM2_PER_S
    if native.missing != "DWI":
        window = 0.0, float(np.percentile(shown[brain], 99.5))
    where = pictures.axial_mosaic(
        shown, overlays, spacing, name, footer=CONVENTION, window=window, brain=brain,
        planes=True, first_mm=pictures.origin_mm(affine, native.shown.data.shape),
    )  # fmt: skip
    return {
        "where": Picture(
            drawing.webp(where),
            f"{name} in axial, coronal and sagittal slices. {core_words} "
            f"Outlined in green: predicted hypoperfusion, {hypoperfusion_ml}.",
        ),
        "glass": Picture(
            drawing.webp(glass_brain.draw(done.probability_mni, done.core.mni, done.threshold)),
            f"Glass brain: the largest probability of {done.threshold:g} and more along each line "
            "of sight, from the left, the front, the right and above. The patient's left is on "
            "the right.",
        ),
    }
