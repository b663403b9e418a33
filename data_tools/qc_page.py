"""Every patient's qc.json -> one ``qc.html`` of the cohort: sortable, the worst first, offline."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2

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
ORDER = {"failed": 0, "poor": 1, "good": 2}


def write(
    out: Path, qualities: Sequence[Mapping[str, Any]], failed: Mapping[str, str], name: str
) -> None:
    """Write ``qc.html`` into an MNI cohort.

    Args:
        out: the cohort. qualities: contents of each qc.json. failed: reason by patient.
        name: of the cohort; a page of simulated patients says so.
    """
    rows = [_row(quality) for quality in qualities]
    rows += [
        _row({"participant_id": who, "verdict": "failed", "warnings": reason.splitlines()})
        for who, reason in failed.items()
    ]
    rows.sort(
        key=lambda row: (ORDER[row["verdict"]], row["tissue_correlation"] or 0.0)
    )  # fmt: skip
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("data_tools"), autoescape=True, trim_blocks=True
    )
    page = environment.get_template("qc.html").render(
        name=name,
        simulated="simulated" in name.lower(),
        columns=COLUMNS,
        rows=rows,
        counts={word: sum(row["verdict"] == word for row in rows) for word in ORDER},
    )
    atomic.write_text(out / "qc.html", page)


def _row(quality: Mapping[str, Any]) -> dict[str, Any]:
    row = {key: quality.get(key) for key, _, _ in COLUMNS}
    done = row["verdict"] != "failed"
    return row | {
        "messages": [*quality.get("warnings", []), *quality.get("notes", [])],
        "picture": f"{row['participant_id']}/qc.png" if done else None,
        # Empty cells sort before the others.
        "sort": {key: -1e9 if value is None else value for key, value in row.items()}
        | {"verdict": ORDER[str(row["verdict"])]},
    }
