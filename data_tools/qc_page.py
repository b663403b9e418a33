"""Every patient's qc.json -> one ``qc.html`` of the cohort: sortable, the worst first, offline."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import jinja2

from data_tools import flow
from data_tools.flow import LeftOut
from data_tools.quality import Quality
from data_tools.runtime import atomic

# Key of qc.json, title, decimals (None: text).
COLUMNS: tuple[tuple[str, str, int | None], ...] = (
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
    ("seconds", "seconds", 1),
)
FAILED, LEFT_OUT = "failed", "left out"
ORDER = {FAILED: 0, "poor": 1, "good": 2, LEFT_OUT: 3}
# Empty cells sort before the others.
BEFORE_ALL = -1e9

Cell = str | float | None


@dataclasses.dataclass(frozen=True)
class _Row:
    """A patient's line of the table.

    Attributes:
        participant_id: ``sub-0001``.
        verdict: a key of :data:`ORDER`.
        cells: by the keys of :data:`COLUMNS`; None where there is nothing to show.
        messages: what to look at.
    """

    participant_id: str
    verdict: str
    cells: Mapping[str, Cell]
    messages: tuple[str, ...]

    @property
    def picture(self) -> str | None:
        """Path of the patient's picture, from the page."""
        return None if self.verdict in (FAILED, LEFT_OUT) else f"{self.participant_id}/qc.png"

    @property
    def sort(self) -> Mapping[str, Cell]:
        """What a click on each column's title sorts by."""
        filled = {key: BEFORE_ALL if cell is None else cell for key, cell in self.cells.items()}
        return filled | {"verdict": ORDER[self.verdict]}


def write(out: Path, qualities: Sequence[Quality], lost: Sequence[LeftOut], name: str) -> None:
    """Write ``qc.html`` into an MNI cohort.

    Args:
        out: the cohort.
        qualities: of the patients that succeeded.
        lost: the others. Those whom the table left out come last: there is nothing to mend.
        name: of the cohort; a page of simulated patients says so.
    """
    done = sorted(
        qualities, key=lambda q: (ORDER[q.registration.verdict], q.registration.tissue_correlation)
    )
    rows = sorted([*map(_lost, lost), *map(_done, done)], key=lambda row: ORDER[row.verdict])
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("data_tools"), autoescape=True, trim_blocks=True
    )
    page = environment.get_template("qc.html").render(
        name=name,
        simulated="simulated" in name.lower(),
        columns=COLUMNS,
        rows=rows,
        counts={word: sum(row.verdict == word for row in rows) for word in ORDER},
    )
    atomic.write_text(out / "qc.html", page)


def _done(quality: Quality) -> _Row:
    figures = quality.to_json()
    said = [f"said by --{name}: {value}" for name, value in quality.overrides.items()]
    return _Row(
        quality.participant_id,
        quality.registration.verdict,
        {key: figures[key] for key, _, _ in COLUMNS},
        (*quality.warnings, *said, *quality.registration.notes),
    )


def _lost(left_out: LeftOut) -> _Row:
    participant, failed = left_out.participant_id, left_out.step == flow.PREPROCESS
    verdict = FAILED if failed else LEFT_OUT
    known = {"participant_id": participant, "verdict": verdict}
    reason = left_out.reason if failed else f"{flow.STEPS[left_out.step]}: {left_out.reason}"
    return _Row(
        participant,
        verdict,
        {key: known.get(key) for key, _, _ in COLUMNS},
        tuple(reason.splitlines()),
    )
