"""Healthy tissue of simulated and real patients side by side: a column each, from their images."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from data_tools.cohort import read_participants
from data_tools.runtime import atomic
from data_tools.runtime.errors import InputError
from data_tools.runtime.executors import map_patients
from data_tools.simulate.cohort import patient_number
from data_tools.simulate.contrast import Contrast, measure
from data_tools.simulate.measure import read_mni

ROWS = {
    "adc_white_um2_per_s": ("ADC of white matter, 1e-6 mm²/s", "{:.0f}"),
    "adc_grey_to_white": ("ADC, grey / white", "{:.2f}"),
    "dwi_grey_to_white": ("DWI, grey / white", "{:.2f}"),
    "dwi_white": ("DWI of white / mean", "{:.2f}"),
    "dwi_grey": ("DWI of grey / mean", "{:.2f}"),
    "adc_sd_white": ("SD of ADC / mean within white", "{:.3f}"),
    "dwi_sd_white": ("SD of DWI / mean within white", "{:.3f}"),
    "large_scale_sd": ("SD of DWI / mean, smoothed to 40 mm", "{:.3f}"),
    "bright_share": ("share of voxels with DWI / mean > 1.2", "{:.3f}"),
}
NOTE = (
    "Healthy tissue in MNI space: the half without the stroke (all of a real patient), ADC under "
    "1100e-6 mm²/s; white and grey matter where the template holds 90 and 75% of it. Median "
    "(smallest to largest) over the patients. The mean is that of the parenchyma.\n"
)


@dataclasses.dataclass(frozen=True)
class Column:
    """Some patients.

    Attributes:
        name: of cohort or patient.
        patients: of each, what was measured.
    """

    name: str
    patients: list[Contrast]


def compare(folders: Sequence[str], workers: int = 1) -> list[Column]:
    """Measure cohorts in MNI space and real patients in their own.

    Args:
        folders: cohorts (with a ``participants.tsv``), or folders with one patient's DWI and ADC.
        workers: processes.

    Raises:
        InputError: a folder that holds neither.
    """
    columns = []
    for folder in folders:
        path = Path(folder)
        cohort = (path / "participants.tsv").is_file()
        found = _cohort(path, workers) if cohort else [_real(path)]
        columns.append(Column(path.name, found))
    return columns


def _cohort(folder: Path, workers: int) -> list[Contrast]:
    table = read_participants(folder)
    numbers = [patient_number(name) for name in table["participant_id"]]
    tasks = [(k, str(folder), side) for k, side in zip(numbers, table["side"], strict=True)]
    found = []
    for _, result in map_patients(_one, tasks, workers, "measuring contrast"):
        if isinstance(result, Exception):
            raise result
        found.append(result)
    return found


def _one(index: int, cohort: str, side: str) -> Contrast:
    images = read_mni(cohort, index)
    return measure(images.dwi, images.adc_um2_per_s, images.brain, side)


def _real(folder: Path) -> Contrast:
    from data_tools import patient  # and ANTs with it, which a simulated cohort does not need

    if not folder.is_dir():
        raise InputError(f"--beside={folder}: no such folder")
    images = sorted(p for p in folder.iterdir() if p.name.endswith((".nii", ".nii.gz")))
    found = {}
    for word in ("dwi", "adc"):
        named = [
            path for path in images if word in path.name.lower().replace("_", " ").split(".")[0]
        ]
        if len(named) != 1:
            raise InputError(
                f"--beside={folder}: {len(named)} NIfTI files have {word} in their names; expected "
                "a cohort with participants.tsv, or one DWI and one ADC map named so"
            )
        found[word] = named[0]
    mni, _ = patient.to_mni(patient.load_native(found["dwi"], found["adc"]))
    return measure(mni.dwi, mni.adc_um2_per_s, mni.brain)


def rows(columns: Sequence[Column]) -> list[list[str]]:
    """The table as text, its titles first."""
    titles = ["", *(f"{c.name} (n={len(c.patients)})" for c in columns)]
    return [
        titles,
        *([what, *(_cell(c, name, form) for c in columns)] for name, (what, form) in ROWS.items()),
    ]


def _cell(column: Column, name: str, form: str) -> str:
    values = np.array([getattr(each, name) for each in column.patients])
    middle = form.format(np.median(values))
    if len(values) == 1:
        return middle
    return f"{middle} ({form.format(values.min())} to {form.format(values.max())})"


def as_text(columns: Sequence[Column]) -> str:
    """The table with aligned columns."""
    table = rows(columns)
    widths = [max(len(row[k]) for row in table) for k in range(len(table[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in table
    )


def write(columns: Sequence[Column], folder: Path) -> None:
    """contrast.md."""
    titles, *body = ["| " + " | ".join(row) + " |" for row in rows(columns)]
    line = "| " + " | ".join(["---"] * (len(columns) + 1)) + " |"
    atomic.write_text(folder / "contrast.md", "\n".join([NOTE, titles, line, *body, ""]))
