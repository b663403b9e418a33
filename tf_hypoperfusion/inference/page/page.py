"""One patient's result -> ``report.html``: one file, offline, for people."""

import base64
import functools
from importlib import resources
from pathlib import PurePath
from typing import Any

import jinja2

from data_tools.criteria import MISMATCH_RATIO_CAP
from data_tools.grid import ADC_CORE_UM2_PER_S
from tf_hypoperfusion import config
from tf_hypoperfusion.inference import comparison, deciding_core
from tf_hypoperfusion.inference.deciding_core import WORDS
from tf_hypoperfusion.inference.page import pictures, viewer_data
from tf_hypoperfusion.inference.prediction import Prediction
from tf_hypoperfusion.inference.result import PatientResult

NIIVUE = "niivue-0.69.0.umd.js"
PATH_PARTS = 3  # RUN/fold-N/best.keras, saved_models/NAME/VERSION
HEADINGS = {
    "yes": "TARGET MISMATCH",
    "no": "NO TARGET MISMATCH",
    "unsure": "UNSURE: PERFUSION IMAGING WOULD TELL",
}
CRITERIA = (
    ("ratio", "mismatch ratio", "", 1),
    ("difference_ml", "mismatch volume", "mL", 1),
    ("core_ml", "core volume", "mL", 1),
)


def render(done: Prediction, result: PatientResult) -> str:
    """The page as HTML; everything it needs is inside, and all text is escaped.

    Args:
        done: the measured patient.
        result: built from it.
    """
    template = environment().get_template("result.html")
    drawn = {
        name: {"src": _data_uri(each.image), "alt": each.alt}
        for name, each in pictures.draw(done, result.comparison).items()
    }
    return template.render(
        result=result,
        notice=config.RESEARCH_NOTICE,
        published=config,
        adc_core_um2_per_s=ADC_CORE_UM2_PER_S,
        ratio_cap=MISMATCH_RATIO_CAP,
        core_words=WORDS,
        other_cores=deciding_core.others(
            result.core_by, rule_ml=result.core_rule_ml, learnt_ml=result.core_learnt_ml
        ),
        compared_words=None
        if result.comparison is None
        else comparison.source_words(result.comparison),
        criteria=[
            {"name": name, "unit": unit, "digits": digits, **vars(getattr(result.defuse3, key))}
            for key, name, unit, digits in CRITERIA
        ],
        simulated=result.simulated,
        heading=HEADINGS[result.answer.target_mismatch],
        pictures=drawn,
        # In a script element JSON must not end it: tojson escapes < and >.
        viewer={
            "volumes": viewer_data.volumes(done),
            "ml_above": viewer_data.ml_above(done),
            "core_ml": result.core_ml,
            "threshold_percent": round(100 * result.probability_threshold),
        },
        niivue=_niivue(),
        niivue_name=NIIVUE,
    )


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
    made.filters["short_path"] = short_path
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
