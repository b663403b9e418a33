"""A simulated MNI cohort -> its figures beside the published ones, as a table and a picture.

Everything is measured on the images as for real patients.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from data_tools import criteria
from data_tools.cohort import read_participants
from data_tools.grid import ADC_CORE_UM2_PER_S
from data_tools.runtime import atomic
from data_tools.runtime.errors import InputError
from data_tools.runtime.executors import map_patients
from data_tools.simulate import published
from data_tools.simulate.cohort import image_paths, patient_number
from data_tools.simulate.measure import ADC_BINS_UM2_PER_S, TISSUES, Measured, measure, read_mni
from data_tools.simulate.published import TITLES, Line

if TYPE_CHECKING:
    import pandas as pd

Histograms = Mapping[str, NDArray[np.int64]]


def folder_for(cohort: str, out: str | None) -> Path:
    """Where a description goes: ``out``, or ``cohort/description``."""
    return Path(out) if out else Path(cohort) / "description"


def describe(cohort: str, out: str | None = None, workers: int = 1) -> list[Line]:
    """Measure a cohort and write its table and figure.

    Args:
        cohort: a finished simulated MNI cohort.
        out: folder for table.md, table.csv, figure.png, patients.csv; see :func:`folder_for`.
        workers: processes.

    Returns:
        The table.

    Raises:
        InputError: if the cohort is unfinished or damaged.
    """
    folder = folder_for(cohort, out)
    table, histograms = measure_cohort(cohort, workers)
    folder.mkdir(parents=True, exist_ok=True)
    lines = published.compare(table)
    write_tables(lines, table, folder)
    draw(table, histograms, lines, folder / "figure.png")
    return lines


def measure_cohort(cohort: str, workers: int = 1) -> tuple["pd.DataFrame", Histograms]:
    """Participants' table with measured columns, and the ADC's counts by tissue."""
    import pandas as pd

    table = read_participants(cohort)
    numbers = [patient_number(name) for name in table["participant_id"]]
    first = (image_paths(cohort, numbers[0], space)["dwi"] for space in ("mni", "native"))
    if [path.is_file() for path in first] == [False, True]:
        raise InputError(
            f"{cohort} is a simulated cohort in native space; expected one in MNI space: "
            "python -m data_tools.simulate --space=mni"
        )
    tasks = [(k, str(cohort), side) for k, side in zip(numbers, table["side"], strict=True)]
    found: dict[int, Measured] = {}
    for task, result in map_patients(_measure_one, tasks, workers, "measuring"):
        if isinstance(result, Exception):
            raise result
        found[task[0]] = result
    measured = [found[number] for number in numbers]
    histograms = {t: np.sum([each.adc_histogram[t] for each in measured], axis=0) for t in TISSUES}
    columns = pd.DataFrame([each.columns() for each in measured])
    return pd.concat([table, columns], axis=1), histograms


def _measure_one(index: int, cohort: str, side: str) -> Measured:
    return measure(read_mni(cohort, index), side)


def write_tables(lines: Sequence[Line], table: "pd.DataFrame", folder: Path) -> None:
    """table.md and table.csv (the comparison), patients.csv (every patient's measurements)."""
    rows = [TITLES, *(line.cells for line in lines)]
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    atomic.write_text(folder / "table.csv", text.getvalue())
    body = ["| " + " | ".join(row) + " |" for row in rows]
    note = (
        "Simulated patients beside published figures (Yu et al., Radiology 2023;307(1):e220882, "
        "where no other source is named). Aims: medians within 20% of the paper's and inside its "
        "IQR; shares within 10 points; rho within 0.1; image ratios within one published SD.\n"
    )
    atomic.write_text(
        folder / "table.md", "\n".join([note, body[0], "| --- | --- | --- | --- |", *body[1:], ""])
    )
    atomic.write_text(folder / "patients.csv", table.to_csv(index=False, float_format="%.4g"))


def draw(table: "pd.DataFrame", histograms: Histograms, lines: Sequence[Line], path: Path) -> None:
    """Distributions with the published medians and IQRs, ADC histograms, and the table."""
    import matplotlib
    from matplotlib.figure import Figure

    matplotlib.rcParams["svg.hashsalt"] = "simulated"
    figure = Figure(figsize=(15, 9), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(3, 2))  # type: ignore[misc]
    axes = left.subplots(3, 2).ravel()
    nihss, core, hypo = (
        table[name].to_numpy(float) for name in ("nihss", "core_ml", "hypoperfusion_ml")
    )
    _draw_distribution(axes[0], "NIHSS", nihss, published.NIHSS)
    _draw_distribution(axes[1], "core, mL", core, published.CORE_ML)
    _draw_distribution(axes[2], "hypoperfusion (with core), mL", hypo, published.HYPOPERFUSION_ML)
    ratio = criteria.mismatch_ratio(hypo, core)
    _draw_distribution(axes[3], "mismatch ratio", ratio, published.MISMATCH_RATIO)
    axes[0].legend(fontsize=8)
    _draw_histograms(axes[4], histograms)
    axes[5].scatter(hypo, table["nihss"], s=6, color="k", alpha=0.5)
    axes[5].set(xlabel="hypoperfusion (with core), mL", ylabel="NIHSS")
    _draw_table(right.subplots(), lines)
    figure.suptitle(f"{len(table)} simulated patients beside the published cohort")
    with atomic.replacing(path) as temporary:
        figure.savefig(temporary, dpi=110, metadata={"Software": None})


def _draw_distribution(
    axis: Any, name: str, values: NDArray[np.float64], aim: tuple[float, float, float]
) -> None:
    values = values[~np.isnan(values)]
    middle, low, high = aim
    axis.hist(values, bins=30, color="0.75")
    axis.axvspan(low, high, color="tab:blue", alpha=0.15, label="paper's IQR")
    axis.axvline(middle, color="tab:blue", label="paper's median")
    axis.axvline(np.median(values), color="k", ls="--", label="simulated median")
    axis.set(xlabel=name, ylabel="patients")


def _draw_histograms(axis: Any, histograms: Histograms) -> None:
    middles = (ADC_BINS_UM2_PER_S[:-1] + ADC_BINS_UM2_PER_S[1:]) / 2
    for tissue, counts in histograms.items():
        axis.plot(middles, counts / max(counts.sum(), 1), label=tissue)
    limit = ADC_CORE_UM2_PER_S
    axis.axvline(limit, color="0.5", lw=0.8)
    axis.set(
        xlabel=f"ADC, 1e-6 mm²/s (line: {limit:g})", ylabel="share of voxels", xlim=(200, 1800)
    )
    axis.legend(fontsize=8)


def _draw_table(axis: Any, lines: Sequence[Line]) -> None:
    axis.axis("off")
    drawn = axis.table(
        [line.cells for line in lines],
        colLabels=TITLES,
        colWidths=(0.52, 0.2, 0.2, 0.1),
        cellLoc="left",
        loc="center",
    )
    drawn.auto_set_font_size(False)
    drawn.set_fontsize(7.5)
    drawn.scale(1, 1.25)
