"""A study's dossier -> one HTML page, Markdown, tables, the flow's picture and ``sbom.json``."""

from collections.abc import Sequence
from pathlib import Path

from data_tools.runtime import atomic
from data_tools.runtime.errors import InputError
from tf_hypoperfusion import __version__
from tf_hypoperfusion.config import RESEARCH_NOTICE
from tf_hypoperfusion.evaluation.dossier import checklist, flow_picture, sbom
from tf_hypoperfusion.evaluation.dossier.checklist import Answered, Checklist
from tf_hypoperfusion.evaluation.dossier.claim import CLAIM
from tf_hypoperfusion.evaluation.dossier.datasheet import DATASHEET
from tf_hypoperfusion.evaluation.dossier.fact import Fact, holds, in_words
from tf_hypoperfusion.evaluation.dossier.stations import Flow
from tf_hypoperfusion.evaluation.dossier.study import Study
from tf_hypoperfusion.evaluation.dossier.tripod import TRIPOD
from tf_hypoperfusion.evaluation.report.page import SIMULATED_NOTICE, environment

CHECKLISTS = (CLAIM, TRIPOD, DATASHEET)
Filled = Sequence[tuple[Checklist, list[Answered]]]


def write(out: Path, study: Study) -> Filled:
    """Write every file of the dossier.

    Args:
        out: folder; gets ``index.html``, ``dossier.md``, a CSV for each checklist, ``flow.csv``,
            ``flow.svg`` and ``sbom.json``.
        study: its facts.

    Returns:
        The checklists, filled.

    Raises:
        InputError: ``out`` cannot be written, or holds another page.
    """
    check_out(out)
    filled = [(each, checklist.fill(each, study)) for each in CHECKLISTS]
    materials = sbom.bill(study)
    picture = flow_picture.draw(study.flow)
    content = {
        "title": f"Dossier: {_name(study)}",
        "notices": [
            RESEARCH_NOTICE,
            *([SIMULATED_NOTICE] if holds(study.data.simulated) else []),
        ],
        "folders": [(name, str(path)) for name, path in study.folders.named().items()],
        "absent": study.absent,
        "checklists": filled,
        "tallies": {each.name: checklist.tally(items) for each, items in filled},
        "flow": flow_rows(study.flow),
        "faults": study.flow.faults,
        "visits": _counts_visits(study),
        "picture": picture,
        "report": study.folders.report is not None,
        "subsets": study.data.by_subset.value if isinstance(study.data.by_subset, Fact) else [],
        "packages": sum(each["type"] == "library" for each in materials["components"]),
        "networks": [
            each for each in materials["components"] if each["type"] == "machine-learning-model"
        ],
        "version": __version__,
    }
    with atomic.one_writer(out):
        atomic.sweep(out)
        for each, items in filled:
            atomic.write_csv(out / f"{each.file}.csv", [item.cells() for item in items])
        atomic.write_csv(out / "flow.csv", content["flow"])
        atomic.write_text(out / "flow.svg", picture)
        atomic.write_json(out / "sbom.json", materials)
        for template, name in (("dossier.md", "dossier.md"), ("dossier.html", "index.html")):
            text = (
                environment("tf_hypoperfusion.evaluation.dossier")
                .get_template(template)
                .render(**content)
            )
            atomic.write_text(out / name, text)
    return filled


def check_out(out: Path) -> None:
    """Refuse a folder that cannot be written, or holds another page.

    Raises:
        InputError: that.
    """
    if (out / "index.html").is_file() and not (out / "sbom.json").is_file():
        raise InputError(f"{out} holds another page (index.html); choose another --out")
    atomic.check_writable(out)


def _name(study: Study) -> str:
    return study.folders.run.resolve().name


def _counts_visits(study: Study) -> bool:
    """Whether rows of the tables are visits, of which a patient may have several."""
    return any(
        isinstance(fact, Fact) and "visit" in str(fact.value)
        for fact in (study.data.patients, study.result.tested)
    )


def flow_rows(flow: Flow) -> list[dict[str, str]]:
    """The flow as a table: a line for each station, and for each reason on the way to it."""
    rows = []
    for station in flow.stations:
        for step, _, reasons in station.lost:
            for reason, number in reasons.items():
                why = step if reason == step else f"{step}: {reason}"
                sources = flow.reasons.sources if isinstance(flow.reasons, Fact) else ()
                rows.append(
                    _row(f"left out: {why}", str(number), in_words(list(map(str, sources))))
                )
        count = station.count
        if isinstance(count, Fact):
            rows.append(_row(station.name, str(count.value), "; ".join(map(str, count.sources))))
        else:
            rows.append(_row(station.name, "not known", f"not found: {count}"))
    return rows


def _row(station: str, patients: str, source: str) -> dict[str, str]:
    return {"station": station, "patients": patients, "source": source}
