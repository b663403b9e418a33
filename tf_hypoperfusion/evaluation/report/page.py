"""Tables and figures -> CSV, Markdown, PNG, SVG and one HTML page."""

import base64
import csv
import dataclasses
import html
import io
from pathlib import Path
from typing import Any

import jinja2
from tqdm import tqdm

from data_tools.runtime import atomic
from data_tools.runtime.errors import InputError
from tf_hypoperfusion import __version__
from tf_hypoperfusion.config import RESEARCH_NOTICE
from tf_hypoperfusion.evaluation.report import comparison, figures, tables
from tf_hypoperfusion.evaluation.report.patients import Patients
from tf_hypoperfusion.evaluation.report.tables import Table
from tf_hypoperfusion.evaluation.statistics import Estimate

SIMULATED_NOTICE = (
    "These patients are SIMULATED. Their figures say nothing about patients and must not be set "
    "against published ones as if the data were the same."
)


def write_report(
    out: str | Path,
    primary: Patients,
    external: Patients | None = None,
    other: Patients | None = None,
    interval: str = "stata",
    seed: int = 1,
) -> Path:
    """Write the whole report.

    Args:
        out: folder; gets ``index.html``, ``report.md``, ``statistics.csv``, ``tables/``,
            ``figures/``.
        external: a second cohort, beside the first in Table 1 and with tables of its own.
        other: another evaluation of the first cohort, for paired differences.
        interval: of proportions; see :func:`statistics.proportion`. seed: of the bootstrap.

    Returns:
        The path of ``index.html``.

    Raises:
        InputError: ``out`` cannot be written, or the evaluations do not belong together.
    """
    out = Path(out)
    if (out / "index.html").is_file() and not (out / "statistics.csv").is_file():
        raise InputError(f"{out} holds another page (index.html); choose another --out")
    atomic.check_writable(out)
    cohorts = [primary] + ([external] if external else [])
    sections: list[dict[str, Any]] = []
    made = [tables.characteristics(cohorts)]
    if external:
        made.append(tables.cohorts_compared(primary, external))
    if other:
        made.append(comparison.compare(primary, other, seed))
    sections.append({"title": "Cohort", "tables": made, "figures": []})
    for k, cohort in enumerate(cohorts):
        prefix = "external_" if k else ""
        sections.append(
            {
                "title": f"{cohort.title} ({len(cohort)} patients)",
                "tables": _tables(cohort, interval, seed, prefix),
                "figures": [
                    {"name": prefix + name, "title": title, "cohort": cohort, "draw": draw}
                    for name, (title, draw) in figures.FIGURES.items()
                ],
            }
        )
    with atomic.one_writer(out):
        atomic.sweep(out)
        drawn = [figure for section in sections for figure in section["figures"]]
        for figure in tqdm(drawn, desc="figures", unit="figure", dynamic_ncols=True):
            figure |= _draw(figure["draw"](figure["cohort"]), out / "figures" / figure["name"])
        numbers = []
        for section in sections:
            for table in section["tables"]:
                rows = _csv([table.columns, *table.rows])
                atomic.write_text(out / "tables" / f"{table.name}.csv", rows)
                numbers += [{"table": table.name, **number} for number in table.numbers]
        for prefix, cohort in zip(("", "external_"), cohorts, strict=False):
            if cohort.counts is not None:
                error = Estimate(figures.calibration(cohort.counts)[3], None, None, len(cohort))
                line = {"table": f"{prefix}reliability", "group": "All patients"}
                line["measure"] = "expected calibration error"
                numbers.append(line | {"p": None} | dataclasses.asdict(error))
        atomic.write_csv(out / "statistics.csv", numbers)
        content: dict[str, Any] = {
            "title": f"Hypoperfusion: {primary.title}",
            "notices": [RESEARCH_NOTICE]
            + ([SIMULATED_NOTICE] if any(cohort.simulated for cohort in cohorts) else []),
            "warnings": [(c.title, warning) for c in cohorts for warning in c.warnings],
            "left_out": [
                (cohort.title, name, reason)
                for cohort in cohorts
                for name, reason in sorted((cohort.left_out or {}).items())
            ],
            "nobody": all(cohort.left_out is not None for cohort in cohorts),
            "sources": [(c.title, str(c.path), ", ".join(c.models) or "unknown") for c in cohorts],
            "sections": sections,
            "version": __version__,
        }
        for template, name in (("report.md", "report.md"), ("report.html", "index.html")):
            atomic.write_text(out / name, _environment().get_template(template).render(**content))
    return out / "index.html"


def _tables(cohort: Patients, interval: str, seed: int, prefix: str) -> list[Table]:
    made: list[Table | None] = [
        tables.target_mismatch(cohort, interval),
        *tables.segmentation(cohort),
        tables.good_dice(cohort, interval),
        tables.agreement(cohort, seed),
        tables.operating_points(cohort, interval),
        *tables.chosen_threshold(cohort, interval),
    ]
    there = [table for table in made if table is not None]
    for table in there:
        table.name = prefix + table.name
    return there


def _draw(figure: Any, path: Path) -> dict[str, Any]:
    """Write a figure as PNG and SVG; say why there is none otherwise."""
    if isinstance(figure, str):
        for ending in (".png", ".svg"):
            path.with_suffix(ending).unlink(missing_ok=True)  # of an earlier report
        return {"reason": figure}
    found = {}
    for kind in ("png", "svg"):
        buffer = io.BytesIO()
        face = figure.get_facecolor()
        # Dates and versions in the metadata would make equal reports differ.
        without = {"Software": None} if kind == "png" else {"Date": None, "Creator": None}
        figure.savefig(buffer, format=kind, dpi=110, facecolor=face, metadata=without)
        atomic.write_bytes(path.with_suffix(f".{kind}"), buffer.getvalue())
        found[kind] = base64.b64encode(buffer.getvalue()).decode()
    return {"png": found["png"], "reason": None}


def _csv(rows: list[list[str]]) -> str:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue()


def _environment() -> jinja2.Environment:
    def cell(text: str) -> str:
        return html.escape(text, quote=False).replace("|", "\\|").replace("\n", " ")

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("tf_hypoperfusion.evaluation.report"),
        autoescape=jinja2.select_autoescape(["html"]),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["cell"] = cell
    return environment
