"""What is in each subset of a division, so that an odd one is seen before anything is trained."""

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from data_tools.grid import ONE_SIDED
from data_tools.groups import patient_of

HEAD = (
    "subset", "patients", "visits", "sites", "lesion mL (range)", "no lesion", "NIHSS (missing)",
    "L/R/other",
)  # fmt: skip


def describe(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The figures of one subset, as the manifest keeps them.

    Args:
        rows: of the manifest; a visit each. Records of an early version may lack a column.

    Returns:
        ``patients`` and ``visits``, ``sites``, ``lesion_ml_median``, ``_min``, ``_max`` (of all,
        a patient without a lesion has 0), ``without_lesion``, ``nihss_median``,
        ``nihss_missing``, and ``left``, ``right`` and ``other`` sides. None of no value.
    """
    volumes = [row["truth_ml"] for row in rows if row.get("truth_ml") is not None]
    scores = [row["nihss"] for row in rows if row.get("nihss") is not None]
    sides = [row.get("side") for row in rows]
    left, right = (sides.count(side) for side in ONE_SIDED)
    return {
        "patients": len({patient_of(row["participant_id"]) for row in rows}),
        "visits": len(rows),
        "sites": sorted({str(row["site"]) for row in rows if row.get("site")}),
        "lesion_ml_median": round(median(volumes), 3) if volumes else None,
        "lesion_ml_min": min(volumes, default=None),
        "lesion_ml_max": max(volumes, default=None),
        "without_lesion": sum(volume == 0 for volume in volumes),
        "nihss_median": median(scores) if scores else None,
        "nihss_missing": len(rows) - len(scores),
        "left": left,
        "right": right,
        "other": len(rows) - left - right,
    }


def has_lesion(rows: Sequence[Mapping[str, Any]]) -> bool:
    """Whether any of them has a voxel to learn; True where an early version does not say."""
    return any(row.get("truth_ml") != 0 for row in rows)


def table(subsets: Sequence[Sequence[Mapping[str, Any]]]) -> str:
    """All subsets as aligned text; columns that say nothing are left out.

    Args:
        subsets: rows of each.
    """
    told = [describe(rows) for rows in subsets]
    lines = [HEAD, *(_cells(k, each) for k, each in enumerate(told))]
    said = {
        "visits": any(each["visits"] != each["patients"] for each in told),
        "sites": any(each["sites"] for each in told),
    }
    columns = [column for column in zip(*lines, strict=True) if said.get(column[0], True)]
    widths = [max(map(len, column)) for column in columns]
    return "\n".join(
        "  " + "  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip()
        for line in zip(*columns, strict=True)
    )


def _cells(k: int, told: Mapping[str, Any]) -> tuple[str, ...]:
    visits, sites = told["visits"], told["sites"]
    volume = "n/a"
    if told["lesion_ml_median"] is not None:
        low, high = told["lesion_ml_min"], told["lesion_ml_max"]
        volume = f"{told['lesion_ml_median']:.0f} ({low:.0f} to {high:.0f})"
    score = "n/a" if told["nihss_median"] is None else f"{told['nihss_median']:g}"
    return (
        str(k),
        str(told["patients"]),
        str(visits),
        (", ".join(sites) if len(sites) < 4 else str(len(sites))) or "n/a",
        volume,
        f"{told['without_lesion']} ({told['without_lesion'] / max(visits, 1):.0%})",
        f"{score} ({told['nihss_missing']})",
        f"{told['left']}/{told['right']}/{told['other']}",
    )
