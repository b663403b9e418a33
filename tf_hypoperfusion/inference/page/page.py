"""One patient's result -> ``report.html``: one file, offline, for people."""

import base64
import functools
from collections.abc import Sequence
from importlib import resources
from pathlib import PurePath
from typing import Any

import jinja2

from data_tools import drawing
from data_tools.grid import ADC_CORE_UM2_PER_S
from data_tools.pictures import CORE, HYPOPERFUSION, MEASURED, signed, to_ras
from tf_hypoperfusion import config
from tf_hypoperfusion.inference import comparison, deciding_core, wording
from tf_hypoperfusion.inference.deciding_core import WORDS
from tf_hypoperfusion.inference.page import headline, pictures, slices, viewer_data
from tf_hypoperfusion.inference.prediction import Prediction
from tf_hypoperfusion.inference.result import PatientResult

NIIVUE = "niivue-0.69.0.umd.js"
PATH_PARTS = 3  # RUN/fold-N/best.keras, saved_models/NAME/VERSION
CRITERIA = (
    ("ratio", "mismatch ratio", ""),
    ("difference_ml", "mismatch volume", "mL"),
    ("core_ml", "core volume", "mL"),
)


def render(done: Prediction, result: PatientResult, *, index: str | None = None) -> str:
    """The page as HTML; everything it needs is inside, and all text is escaped.

    Args:
        done: the measured patient.
        result: built from it.
        index: path of the page of all patients, to be linked.
    """
    first, shown = headline.of(result), slices.lesion(done)
    return (
        environment()
        .get_template("result.html")
        .render(
            result=result,
            index=index,
            notice=config.RESEARCH_NOTICE,
            published=config,
            adc_core_um2_per_s=ADC_CORE_UM2_PER_S,
            core_words=WORDS,
            other_cores=deciding_core.others(
                result.core_by, rule_ml=result.core_rule_ml, learnt_ml=result.core_learnt_ml
            ),
            compared_words=None
            if result.comparison is None
            else comparison.source_words(result.comparison),
            criteria=[_criterion(result, *each) for each in CRITERIA],
            first=first,
            grid=_grid(done),
            lesion=[_drawn(row, shown.mm) for row in shown.rows],
            details={
                row.key: _drawn(row, shown.mm) for row in slices.details(done, result.comparison)
            },
            pictures={
                name: {"src": _data_uri(each.image), "alt": wording.typeset(each.alt)}
                for name, each in pictures.draw(done).items()
            },
            # In a script element JSON must not end it: tojson escapes < and >.
            viewer={
                "volumes": viewer_data.volumes(done),
                "ml_above": [wording.ml(ml) for ml in viewer_data.ml_above(done)],
                "threshold_percent": round(100 * result.probability_threshold),
                "lesion_mm": viewer_data.lesion_mm(done),
                "core_colour": drawing.rgb(CORE),
                "colours": {
                    "name": viewer_data.GREENS,
                    "steps": viewer_data.colours(drawing.GREENS),
                },
            },
            greens=drawing.GREENS,
            niivue=_niivue(),
            niivue_name=NIIVUE,
        )
    )


def _criterion(result: PatientResult, key: str, name: str, unit: str) -> dict[str, Any]:
    """A criterion of DEFUSE 3 in words."""
    given = getattr(result.defuse3, key)
    value = headline.NOT_KNOWN
    if given.value is not None:
        value = wording.beside_bound(given.value, given.required)
        if key == "ratio" and headline.is_capped(result):
            value = headline.ratio_words(result)
        value = f"{value}\u00a0{unit}".strip()
    if key == "core_ml" and result.core_by:
        name += f" by the {WORDS[result.core_by]}"
    return {
        "name": name, "value": value, "met": given.met,
        "required": wording.typeset(f"{given.required} {unit}".strip()),
    }  # fmt: skip


def _grid(done: Prediction) -> str:
    """Slices and voxels of the images that were read."""
    shown = done.native.shown
    image, size_mm = to_ras(shown.data, shown.affine)
    return (
        f"{image.shape[2]} axial slices, voxels of {' × '.join(f'{mm:.3g}' for mm in size_mm)} mm"
    )


def _drawn(row: slices.Row, places_mm: Sequence[float]) -> dict[str, Any]:
    """A row of slices for the page: each with what it shows in words."""
    cells = [
        {
            "src": _data_uri(drawing.webp(picture)),
            "alt": f"{row.heading}. Axial slice at z {signed(mm)} mm"
            + (f", {below} in it" if below.endswith("mL") else "")
            + f". {row.words}",
            "below": below,
        }
        for picture, below, mm in zip(row.pictures, row.below, places_mm, strict=True)
    ]
    return {
        "key": row.key, "heading": row.heading, "words": row.words, "colour": row.colour,
        "cells": cells, "scale": row.scale,
    }  # fmt: skip


@functools.cache
def environment() -> jinja2.Environment:
    """Templates of this package, escaping."""
    made = jinja2.Environment(
        loader=jinja2.ChoiceLoader(
            [
                jinja2.PackageLoader("tf_hypoperfusion.inference.page"),
                jinja2.PackageLoader("data_tools"),  # sortable.js
            ]
        ),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    made.filters |= {
        "short_path": short_path,
        "typeset": wording.typeset,
        "ml": wording.ml,
        "rounded": wording.rounded,
    }
    made.globals |= {
        "core_colour": CORE,
        "hypoperfusion_colour": HYPOPERFUSION,
        "measured_colour": MEASURED,
    }
    return made


def short_path(path: str) -> str:
    """The end of a path, for a page that is passed on: what lies above is nobody else's business.

    >>> short_path("/home/me/runs/mine/fold-0/best.keras"), short_path("http://host:8501/v1/models/m")
    ('mine/fold-0/best.keras', 'http://host:8501/v1/models/m')
    """
    return path if "://" in path else "/".join(PurePath(path).parts[-PATH_PARTS:])


@functools.cache
def _niivue() -> str:
    """The viewer's program as the page carries it: compressed, in letters."""
    vendor = resources.files("tf_hypoperfusion.inference.page").joinpath("vendor")
    return base64.b64encode(vendor.joinpath(f"{NIIVUE}.gz").read_bytes()).decode()


def _data_uri(image: bytes) -> Any:
    return f"data:image/webp;base64,{base64.b64encode(image).decode()}"
