"""Cohorts of simulated patients, laid out as visits of fewer patients."""

import shutil
from pathlib import Path


def laid_out(cohort, folder, names, *, nested=True, more=()):
    """Copy a cohort; its patients become visits.

    Args:
        cohort: folder of the patients.
        folder: to be made.
        names: by patient, the row that it becomes.
        nested: ``sub-1/ses-1`` as in BIDS, or ``sub-1_ses-1``.
        more: columns to add: (name, cells).
    """
    for old, new in names.items():
        for path in Path(cohort).rglob(f"{old}_*"):
            if path.name.endswith("_simulation.json"):
                continue
            inner = Path(*new.split("_")) if nested else Path(new)
            parts = path.relative_to(cohort).parts
            above = Path(*parts[: parts.index(old)], inner, *parts[parts.index(old) + 1 : -1])
            target = Path(folder) / above / path.name.replace(old, new)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
    head, *lines = (Path(cohort) / "participants.tsv").read_text().splitlines()
    rows = [[names[line.split("\t")[0]], *line.split("\t")[1:]] for line in lines]
    columns = [*head.split("\t"), *(name for name, _ in more)]
    for _, cells in more:
        for row, cell in zip(rows, cells, strict=True):
            row.append(cell)
    write_table(folder, [columns, *rows])
    return Path(folder)


def write_table(folder, rows):
    """participants.tsv of rows of text, the names of the columns first."""
    text = "".join("\t".join(row) + "\n" for row in rows)
    (Path(folder) / "participants.tsv").write_text(text)


def read_table(folder):
    """The rows of participants.tsv as text, the names of the columns first."""
    return [
        line.split("\t") for line in (Path(folder) / "participants.tsv").read_text().splitlines()
    ]
