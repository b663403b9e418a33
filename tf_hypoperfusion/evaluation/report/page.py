"""Tables and figures -> CSV, Markdown, PNG, SVG and one HTML page."""

import base64
import csv
import dataclasses
import functools
import html
import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import jinja2
from matplotlib.figure import Figure
from tqdm import tqdm

from data_tools import flow
from data_tools.quartiles import Program
from data_tools.runtime import atomic
from data_tools.runtime.errors import InputError
from tf_hypoperfusion import __version__
from tf_hypoperfusion.config import RESEARCH_NOTICE
from tf_hypoperfusion.evaluation.report import (
    certainty,
    characteristics,
    comparison,
    cores,
    decisions,
    figures,
    patient_flow,
    segmentation,
)
from tf_hypoperfusion.evaluation.report.in_brief import in_brief
from tf_hypoperfusion.evaluation.report.patients import Patients
from tf_hypoperfusion.evaluation.report.table import Number, Table
from tf_hypoperfusion.evaluation.statistics import Estimate
from tf_hypoperfusion.inference import wording
from tf_hypoperfusion.inference.calibration import Calibration

SIMULATED_NOTICE = (
    "These patients are SIMULATED. Their figures say nothing about patients and must not be set "
    "against published ones as if the data were the same."
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Drawing:
    """A figure as the page shows it.

    Attributes:
        name: of its files.
        title: above it.
        caption: below it.
        png: the picture in base64; None without one.
        reason: why there is no picture.
    """

    name: str
    title: str
    caption: str = ""
    png: str | None = None
    reason: str | None = None


@dataclasses.dataclass(frozen=True)
class Section:
    """A chapter of the page."""

    title: str
    tables: Sequence[Table]
    figures: Sequence[Drawing] = ()

    @property
    def drawn(self) -> list[Drawing]:
        """The figures that have a picture."""
        return [figure for figure in self.figures if figure.reason is None]

    @property
    def not_drawn(self) -> list[Drawing]:
        """The others, which say why."""
        return [figure for figure in self.figures if figure.reason is not None]


def write_report(
    out: str | Path,
    primary: Patients,
    *,
    external: Patients | None = None,
    other: Patients | None = None,
    calibration: Calibration | None = None,
    interval: str = "stata",
    program: Program = "stata",
    seed: int = 1,
) -> Path:
    """Write the whole report.

    Args:
        out: folder; gets ``index.html``, ``report.md``, ``statistics.csv``, ``report.json`` (what
            was asked for), ``tables/``, ``figures/``.
        primary: the cohort.
        external: a second cohort, beside the first in Table 1 and with tables of its own.
        other: another evaluation of the first cohort, for paired differences.
        calibration: of the networks that answered; its worth on these patients is shown.
        interval: of proportions; see :func:`statistics.proportion`.
        program: whose quartiles and Mann-Whitney U test; see :mod:`data_tools.quartiles`.
        seed: of the bootstrap.

    Returns:
        The path of ``index.html``.

    Raises:
        InputError: ``out`` cannot be written, or the evaluations do not belong together, or not to
            the calibration.
    """
    out = Path(out)
    if (out / "index.html").is_file() and not (out / "statistics.csv").is_file():
        raise InputError(f"{out} holds another page (index.html); choose another --out")
    atomic.check_writable(out)
    primary = dataclasses.replace(primary, program=program)
    external = external and dataclasses.replace(external, program=program)
    cohorts = {"": primary} | ({"external_": external} if external else {})
    overview = [
        patient_flow.table(list(cohorts.values())),
        characteristics.characteristics(list(cohorts.values())),
    ]
    if external:
        overview.append(comparison.cohorts_compared(primary, external))
    if other:
        overview.append(comparison.compare(primary, other, seed))
    tables = {
        prefix: _tables(cohort, interval, seed, prefix=prefix, calibration=calibration)
        for prefix, cohort in cohorts.items()
    }
    with atomic.one_writer(out):
        atomic.sweep(out)
        drawings = _draw_all(cohorts, out / "figures", calibration)
        sections = [Section("Cohort", overview)] + [
            Section(f"{cohort.title} ({cohort.counted})", tables[prefix], drawings[prefix])
            for prefix, cohort in cohorts.items()
        ]
        _write_numbers(out, [table for section in sections for table in section.tables], cohorts)
        if calibration:
            for prefix, cohort in cohorts.items():
                lines = certainty.per_patient(cohort, calibration)
                atomic.write_csv(out / "tables" / f"{prefix}answers.csv", lines)
        brief = [in_brief(cohort, interval) for cohort in cohorts.values()]
        _write_pages(out, sections, list(cohorts.values()), brief)
        asked: dict[str, str | int | None] = {
            "interval": interval,
            "statistics": program,
            "seed": seed,
            "external": str(external.path) if external else None,
            "compare": str(other.path) if other else None,
            "calibration": ", ".join(calibration.cohorts) if calibration else None,
            "tf_hypoperfusion": __version__,
        }
        atomic.write_json(out / "report.json", asked)
    return out / "index.html"


def _tables(
    cohort: Patients, interval: str, seed: int, *, prefix: str, calibration: Calibration | None
) -> list[Table]:
    made: list[Table | None] = [
        decisions.target_mismatch(cohort, interval),
        *segmentation.segmentation(cohort),
        decisions.disagreements(cohort, interval),
        segmentation.good_dice(cohort, interval, external=bool(prefix)),
        segmentation.agreement(cohort, seed),
        cores.cores(cohort, interval),
        segmentation.seconds(cohort),
        decisions.operating_points(cohort, interval),
        *decisions.chosen_threshold(cohort, interval),
        *(certainty.certainty(cohort, calibration, interval) if calibration else ()),
    ]
    return [dataclasses.replace(table, name=prefix + table.name) for table in made if table]


def _draw_all(
    cohorts: Mapping[str, Patients], folder: Path, calibration: Calibration | None
) -> dict[str, list[Drawing]]:
    """Every figure of every cohort, by the cohort's prefix."""
    drawings: dict[str, list[Drawing]] = {prefix: [] for prefix in cohorts}
    wanted = dict(figures.FIGURES)
    if calibration:
        curve = functools.partial(certainty.selective_curve, by=calibration)
        caption = (
            "The surest patients come first. The dot is the share that predict decides with yes or "
            "no where only the interval counts; the others are handed over to perfusion imaging."
        )
        wanted["selective"] = figures.Kind("Decided and right", curve, caption)
    todo = [(prefix, name) for prefix in cohorts for name in wanted]
    for prefix, name in tqdm(todo, desc="figures", unit="figure", dynamic_ncols=True):
        kind = wanted[name]
        drawing = _draw(kind.draw(cohorts[prefix]), folder / (prefix + name), kind.title)
        drawings[prefix].append(dataclasses.replace(drawing, caption=kind.caption))
    return drawings


def _draw(figure: Figure | str, path: Path, title: str) -> Drawing:
    """Write a figure as PNG and SVG; say why there is none otherwise."""
    if isinstance(figure, str):
        for ending in (".png", ".svg"):
            path.with_suffix(ending).unlink(missing_ok=True)  # of an earlier report
        return Drawing(name=path.name, title=title, reason=figure)
    # Dates and versions in the metadata would make equal reports differ.
    png = _image(figure, "png", {"Software": None})
    atomic.write_bytes(path.with_suffix(".png"), png)
    atomic.write_bytes(
        path.with_suffix(".svg"), _image(figure, "svg", {"Date": None, "Creator": None})
    )
    return Drawing(name=path.name, title=title, png=base64.b64encode(png).decode())


def _image(figure: Figure, kind: str, metadata: dict[str, None]) -> bytes:
    buffer = io.BytesIO()
    face = figure.get_facecolor()
    figure.savefig(buffer, format=kind, dpi=110, facecolor=face, metadata=metadata)
    return buffer.getvalue()


def _write_numbers(out: Path, tables: Sequence[Table], cohorts: Mapping[str, Patients]) -> None:
    """Each table as CSV, and every number unrounded in ``statistics.csv``."""
    numbers = []
    for table in tables:
        atomic.write_text(out / "tables" / f"{table.name}.csv", _csv([table.columns, *table.rows]))
        numbers += [number.cells(table.name) for number in table.numbers]
    for prefix, cohort in cohorts.items():
        if cohort.counts is not None:
            error = Estimate(value=figures.calibration(cohort.counts)[3], n=len(cohort))
            measure = "expected calibration error"
            number = Number(group="All patients", measure=measure, estimate=error)
            numbers.append(number.cells(f"{prefix}reliability"))
    atomic.write_csv(out / "statistics.csv", numbers)


def _write_pages(
    out: Path, sections: Sequence[Section], cohorts: Sequence[Patients], brief: Sequence[str]
) -> None:
    simulated = any(cohort.simulated for cohort in cohorts)
    content = {
        "title": f"Prediction of hypoperfusion: {' and '.join(c.title for c in cohorts)}",
        "brief": [
            (cohort.title if len(cohorts) > 1 else "", said, _index(cohort, out))
            for cohort, said in zip(cohorts, brief, strict=True)
        ],
        "notices": [RESEARCH_NOTICE, *([SIMULATED_NOTICE] if simulated else [])],
        "warnings": [(c.title, warning) for c in cohorts for warning in c.warnings],
        "left_out": [line for cohort in cohorts for line in _left_out(cohort)],
        "nobody": all(cohort.left_out is not None and cohort.followed for cohort in cohorts),
        "sources": [(c.title, str(c.path), ", ".join(c.models) or "unknown") for c in cohorts],
        "sections": sections,
        "version": __version__,
    }
    for template, name in (("report.md", "report.md"), ("report.html", "index.html")):
        atomic.write_text(out / name, environment().get_template(template).render(**content))


def _index(cohort: Patients, out: Path) -> str | None:
    """Path of the page of all patients, from the report; None if there is none."""
    page = cohort.path.with_name("index.html")
    if not page.is_file() or page.parent.resolve() == out.resolve():
        return None
    try:
        return Path(os.path.relpath(page.resolve(), out.resolve())).as_posix()
    except ValueError:  # on another drive of Windows
        return None


def _left_out(cohort: Patients) -> list[tuple[str, str, str]]:
    """Cohort, patients and why they were left out; patients of the same reason on one line."""
    names: dict[tuple[str, str], list[str]] = {}
    for each in cohort.left_out or ():
        names.setdefault((each.step, each.reason), []).append(each.participant_id)
    return [
        (cohort.title, ", ".join(who), words if reason == words else f"{words}: {reason}")
        for step, words in flow.STEPS.items()
        for (at, reason), who in names.items()
        if at == step
    ]


def _csv(rows: list[list[str]]) -> str:
    text = io.StringIO()
    csv.writer(text).writerows([map(atomic.no_formula, row) for row in rows])
    return text.getvalue()


def environment(package: str = "tf_hypoperfusion.evaluation.report") -> jinja2.Environment:
    """Templates of a package, escaped in HTML; the filter ``cell`` escapes in Markdown's tables."""

    def cell(text: str) -> str:
        return html.escape(text, quote=False).replace("|", "\\|").replace("\n", " ")

    made = jinja2.Environment(
        loader=jinja2.PackageLoader(package),
        autoescape=jinja2.select_autoescape(["html"]),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    made.filters |= {"cell": cell, "typeset": wording.typeset}
    return made
