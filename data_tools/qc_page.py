"""Every patient's qc.json -> one ``qc.html`` of the cohort: sortable, the worst first, offline.

The table is that of any step whose patients have a picture and a verdict.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import jinja2

from data_tools import flow
from data_tools.flow import LeftOut
from data_tools.quality import Quality
from data_tools.runtime import atomic

# Key of a cell, title, decimals (None: text).
Columns = Sequence[tuple[str, str, int | None]]
# Keys of qc.json.
COLUMNS: Columns = (
    ("participant_id", "patient", None),
    ("verdict", "verdict", None),
    ("brain_dice_with_template", "brain Dice with template", 3),
    ("tissue_correlation", "tissue agreement", 2),
    ("affine_determinant", "enlarged", 2),
    ("turn_deg", "turned, degrees", 0),
    ("template_brain_imaged", "template imaged", 2),
    ("brain_native_ml", "brain, mL", 0),
    ("core_native_ml", "core, mL", 1),
    ("core_mni_ml", "core on MNI grid, mL", 1),
    ("adc_parenchyma_median_um2_per_s", "ADC median, 1e-6 mm2/s", 0),
    ("strategy", "fit", None),
    ("tmax_from", "Tmax", None),
    ("derived", "derived", None),
    ("seconds", "seconds", 1),
)
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
    """

    participant_id: str
    verdict: str
    cells: Mapping[str, Cell]
    messages: tuple[str, ...]
    picture: str | None = None

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
    """

    name: str
    columns: Columns
    rows: Sequence[Row]
    picture: str
    remarks: Sequence[str] = ()
    link: tuple[str, str] | None = None


def write(out: Path, qualities: Sequence[Quality], lost: Sequence[LeftOut], name: str) -> None:
    """Write ``qc.html`` into an MNI cohort.

    Args:
        out: the cohort.
        qualities: of the patients that succeeded.
        lost: the others. Those whom the table left out come last: there is nothing to mend.
        name: of the cohort.
    """
    done = sorted(qualities, key=lambda quality: quality.registration.tissue_correlation)
    perfusion = Path("derivatives/perfusion/qc.html")
    table = Table(
        name=name,
        columns=COLUMNS,
        rows=[*map(lost_row, lost), *map(_done, done)],
        picture="DWI and ADC of {} in MNI space with the template's outlines",
        remarks=("Look at every picture: no figure sees a swap of left and right.",),
        link=(perfusion.as_posix(), "Perfusion maps that were made of raw series")
        if (out / perfusion).is_file()
        else None,
    )
    render(out / "qc.html", table)


def render(path: Path, table: Table) -> None:
    """Write a page, the worst verdict first and otherwise in the order of the rows."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("data_tools"), autoescape=True, trim_blocks=True
    )
    page = environment.get_template("qc.html").render(
        table=table,
        rows=sorted(table.rows, key=lambda row: ORDER[row.verdict]),
        simulated="simulated" in table.name.lower(),
        counts={word: sum(row.verdict == word for row in table.rows) for word in ORDER},
    )
    atomic.write_text(path, page)


def _done(quality: Quality) -> Row:
    figures = quality.to_json()
    said = [f"said by --{name}: {value}" for name, value in quality.overrides.items()]
    return Row(
        participant_id=quality.participant_id,
        verdict=quality.registration.verdict,
        cells={key: figures[key] for key, _, _ in COLUMNS},
        messages=(*quality.warnings, *said, *quality.registration.notes),
        picture=f"{quality.participant_id}/qc.png",
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
        cells={key: known.get(key) for key, _, _ in columns},
        messages=tuple(reason.splitlines()),
    )
