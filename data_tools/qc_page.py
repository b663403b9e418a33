"""Every patient's qc.json -> one ``qc.html`` of the cohort: sortable, the worst first, offline.

The table is that of any step whose patients have a picture and a verdict.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import jinja2

from data_tools import flow, qc_decisions
from data_tools.flow import LeftOut
from data_tools.pictures import CORE, MEASURED, SKY_BLUE, YELLOW
from data_tools.qc_decisions import Decision
from data_tools.quality import Quality
from data_tools.rounding import rounded, with_sign
from data_tools.runtime import atomic

# Decimals of a volume, by the one rounding.
ML: Literal["mL"] = "mL"


@dataclasses.dataclass(frozen=True)
class Column:
    """A column of the table.

    Attributes:
        key: of its cells.
        title: above it.
        digits: decimals; :data:`ML` for a volume, None for text.
        explained: what it means; empty where the title says it.
    """

    key: str
    title: str
    digits: int | Literal["mL"] | None = None
    explained: str = ""

    def text(self, cell: "Cell") -> str:
        """A cell as people read it."""
        if cell is None:
            return "n/a"
        if self.digits is None or isinstance(cell, str):
            return str(cell)
        return rounded(cell) if self.digits == ML else with_sign(cell, self.digits)


Columns = Sequence[Column]
# Keys of qc.json.
COLUMNS: Columns = (
    Column("participant_id", "Patient"),
    Column("verdict", "Verdict", None, "Good without a warning, poor with one."),
    Column(
        "brain_dice_with_template",
        "Brain overlap",
        2,
        "Dice of the patient's brain with the template's after the fit, 0 to 1.",
    ),
    Column(
        "tissue_correlation",
        "Tissue fit",
        2,
        "Correlation of tissue against fluid with the template's. The lines are sorted by it.",
    ),
    Column(
        "affine_determinant",
        "Enlarged",
        2,
        "How many times larger the head became. The template's head is larger than most: 1.2 to "
        "1.7 is usual.",
    ),
    Column("turn_deg", "Turned (°)", 0, "How far the head lies turned against its file's axes."),
    Column(
        "template_brain_imaged",
        "Imaged",
        2,
        "Share of the template's brain that the images cover.",
    ),
    Column("brain_native_ml", "Brain (mL)", ML, "On the patient's own grid."),
    Column("core_native_ml", "Core (mL)", ML, "On the patient's own grid."),
    Column("core_mni_ml", "Core, fitted (mL)", ML, "On the template's grid, in the patient's mL."),
    Column(
        "adc_parenchyma_median_um2_per_s",
        "ADC median",
        0,
        "Of the brain, in 10⁻⁶ mm²/s. A wrong unit shows here.",
    ),
    Column("strategy", "Fit", None, "Which of the ways to fit to the template held."),
    Column("seconds", "Seconds", 1, "That the patient took."),
)
PICTURE, THUMBNAIL = "qc.png", "qc_thumbnail.webp"  # of a patient
FAILED, LEFT_OUT = "failed", "left out"
ORDER = {FAILED: 0, "poor": 1, "good": 2, LEFT_OUT: 3}
# Empty cells sort before the others.
BEFORE_ALL = -1e9

Cell = str | float | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """A patient's line of the table.

    Attributes:
        participant_id: ``sub-0001``.
        verdict: a key of :data:`ORDER`.
        cells: by the keys of the columns; None where there is nothing to show.
        messages: what to look at.
        picture: path of the patient's picture, from the page; None if there is none.
        thumbnail: likewise, of the picture in the table; None shows the top of the other.
        images: mark of the patient's images, on which a person may decide; None if there is
            nothing to decide.
        decision: what a person decided; None so far.
    """

    participant_id: str
    verdict: str
    cells: Mapping[str, Cell]
    messages: tuple[str, ...]
    picture: str | None = None
    thumbnail: str | None = None
    images: str | None = None
    decision: Decision | None = None

    @property
    def sort(self) -> Mapping[str, Cell]:
        """What a click on each column's title sorts by."""
        filled = {key: BEFORE_ALL if cell is None else cell for key, cell in self.cells.items()}
        return filled | {"verdict": ORDER[self.verdict]}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Table:
    """What a page shows.

    Attributes:
        name: of the cohort; a page of simulated patients says so.
        columns: of the table; the first two are the patient and the verdict.
        rows: of the patients.
        picture: what a picture shows, for those who cannot see it.
        remarks: paragraphs above the table.
        link: path of another page and what it is; None if there is none.
        colours: of the pictures in the table, each with what it shows.
    """

    name: str
    columns: Columns
    rows: Sequence[Row]
    picture: str
    remarks: Sequence[str] = ()
    link: tuple[str, str] | None = None
    colours: Sequence[tuple[str, str]] = ()


def write(out: Path, qualities: Sequence[Quality], lost: Sequence[LeftOut], name: str) -> None:
    """Write ``qc.html`` into an MNI cohort.

    Args:
        out: the cohort.
        qualities: of the patients that succeeded.
        lost: the others. Those whom the table left out come last: there is nothing to mend.
        name: of the cohort.

    Raises:
        InputError: the decisions in the folder cannot be read.
    """
    decisions = qc_decisions.read(out)
    done = sorted(qualities, key=lambda quality: quality.registration.tissue_correlation)
    perfusion = Path("derivatives/perfusion/qc.html")
    table = Table(
        name=name,
        columns=COLUMNS,
        rows=[
            *map(lost_row, lost),
            *(_done(out, each, decisions.get(each.participant_id)) for each in done),
        ],
        picture="DWI and ADC of {} in MNI space with the template's outlines",
        remarks=("Look at every picture: no figure sees a swap of left and right.",),
        colours=(
            (YELLOW, "template's brain and fluid"),
            (SKY_BLUE, "patient's brain"),
            (CORE, "core"),
            (MEASURED, "late Tmax"),
        ),
        link=(perfusion.as_posix(), "Perfusion maps that were made of raw series")
        if (out / perfusion).is_file()
        else None,
    )
    render(out / "qc.html", table)


def render(path: Path, table: Table) -> None:
    """Write a page, the worst verdict first and otherwise in the order of the rows.

    What every patient with a picture has to say stands above the table. A column in which nobody
    has a value is left out.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("data_tools"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    shown = [row for row in table.rows if row.picture]
    shared = [
        message
        for message in (shown[0].messages if len(shown) > 1 else ())
        if all(message in row.messages for row in shown)
    ]
    page = environment.get_template("qc.html").render(
        table=table,
        columns=[
            column
            for column in table.columns
            if any(row.cells[column.key] is not None for row in table.rows)
        ],
        lines=[
            _Line(row, tuple(message for message in row.messages if message not in shared))
            for row in sorted(table.rows, key=lambda row: ORDER[row.verdict])
        ],
        shared=shared,
        simulated="simulated" in table.name.lower(),
        counts={word: sum(row.verdict == word for row in table.rows) for word in ORDER},
        decides=any(row.images is not None for row in table.rows),
        decisions_file=qc_decisions.FILE,
    )
    atomic.write_text(path, page)


@dataclasses.dataclass(frozen=True)
class _Line:
    """A row of the page, and what it says that not every other row says too."""

    row: Row
    said: tuple[str, ...]

    @property
    def tinted(self) -> bool:
        """Whether there is something to look at."""
        return self.row.verdict == FAILED or (self.row.verdict == "poor" and bool(self.said))


def _done(out: Path, quality: Quality, decision: Decision | None) -> Row:
    figures = quality.to_json()
    said = [f"said by --{name}: {value}" for name, value in quality.overrides.items()]
    if decision and not decision.is_of(quality.fingerprint):
        said.insert(0, f"{decision.decision}ed: {qc_decisions.EARLIER}")
    made = [
        f"{what}: {value}"
        for what, value in (
            ("Tmax made by this program", quality.tmax_from),
            ("computed instead of measured", quality.derived),
        )
        if value
    ]
    thumbnail = f"{quality.participant_id}/{THUMBNAIL}"
    return Row(
        participant_id=quality.participant_id,
        verdict=quality.registration.verdict,
        cells={column.key: figures[column.key] for column in COLUMNS},
        messages=(*quality.warnings, *said, *quality.registration.notes, *made),
        picture=f"{quality.participant_id}/{PICTURE}",
        thumbnail=thumbnail if (out / thumbnail).is_file() else None,
        images=qc_decisions.mark(quality.fingerprint),
        decision=decision,
    )


def lost_row(left_out: LeftOut, columns: Columns = COLUMNS) -> Row:
    """The line of a patient who failed, or whom the table left out.

    Args:
        left_out: who, and why.
        columns: of the table.
    """
    participant, failed = left_out.participant_id, left_out.step == flow.PREPROCESS
    verdict = FAILED if failed else LEFT_OUT
    known = {"participant_id": participant, "verdict": verdict}
    reason = left_out.reason if failed else f"{flow.STEPS[left_out.step]}: {left_out.reason}"
    return Row(
        participant_id=participant,
        verdict=verdict,
        cells={column.key: known.get(column.key) for column in columns},
        messages=tuple(reason.splitlines()),
    )
