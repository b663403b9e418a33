"""Set a simulated MNI cohort beside the published one: a table and a figure.

    python -m data_tools.simulate.describe --cohort=DIR [--out=DIR/description]

DIR is a cohort of python -m data_tools.simulate --space=mni. Written are table.md, table.csv,
figure.png and patients.csv. Everything is measured on the images as for real patients; only the
figures marked so are published, by Yu et al., Radiology 2023;307(1):e220882 unless said otherwise.
"""

import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from absl import flags

from data_tools.runtime import command

if TYPE_CHECKING:
    import pandas as pd

FLAGS = flags.FlagValues()

command.heading("Input", FLAGS)
flags.DEFINE_string(
    "cohort", None, "<FOLDER> Simulated cohort in MNI space.", required=True, flag_values=FLAGS
)

command.heading("Output", FLAGS)
flags.DEFINE_string(
    "out",
    None,
    "<FOLDER> Where the tables and the figure go. Without it, COHORT/description.",
    flag_values=FLAGS,
)

command.heading("Machine", FLAGS)
flags.DEFINE_integer("workers", 1, "Worker processes that measure patients.", flag_values=FLAGS)

# Aims: medians this near to the paper's and inside its IQR; shares within so many points.
MEDIAN_WITHIN = 0.20
POINTS_WITHIN = 10.0
RHO_WITHIN = 0.10
FEW = 50


@dataclasses.dataclass(frozen=True)
class Line:
    """One line of the table: what, published, simulated, and whether the aim is met."""

    what: str
    published: str
    simulated: str
    met: bool | None = None

    @property
    def verdict(self) -> str:
        """``yes``, ``no``, or nothing where there is no aim."""
        return "" if self.met is None else ("yes" if self.met else "no")


def describe(cohort: str, out: str | None = None, workers: int = 1) -> list[Line]:
    """Measure a cohort and write its table and figure.

    Args:
        cohort: a finished simulated MNI cohort.
        out: folder for table.md, table.csv, figure.png, patients.csv; None is
            ``cohort/description``.
        workers: processes.

    Returns:
        The table.

    Raises:
        InputError: if the cohort is unfinished or damaged.
    """
    folder = Path(out) if out else Path(cohort) / "description"
    table, histograms = measure_cohort(cohort, workers)
    folder.mkdir(parents=True, exist_ok=True)
    lines = compare(table)
    write_tables(lines, table, folder)
    draw(table, histograms, lines, folder / "figure.png")
    return lines


def measure_cohort(cohort: str, workers: int = 1) -> tuple["pd.DataFrame", dict]:
    """Participants' table with measured columns, and ADC histograms {tissue: counts}."""
    import pandas as pd

    from data_tools.cohort import read_participants
    from data_tools.runtime.errors import InputError
    from data_tools.runtime.executors import map_patients
    from data_tools.simulate.cohort import image_paths, patient_number
    from data_tools.simulate.measure import TISSUES

    table = read_participants(cohort)
    numbers = [patient_number(name) for name in table["participant_id"]]
    first = (image_paths(cohort, numbers[0], space)["dwi"] for space in ("mni", "native"))
    if [path.is_file() for path in first] == [False, True]:
        raise InputError(
            f"{cohort} is a simulated cohort in native space; expected one in MNI space: "
            "python -m data_tools.simulate --space=mni"
        )
    tasks = [(k, str(cohort), side) for k, side in zip(numbers, table["side"], strict=True)]
    found = {}
    for task, result in map_patients(_measure_one, tasks, workers, "measuring"):
        if isinstance(result, Exception):
            raise result
        found[task[0]] = result
    rows = [found[task[0]] for task in tasks]
    histograms = {t: sum(row["adc_histogram"][t] for row in rows) for t in TISSUES}
    flat = []
    for row in rows:
        plain = {k: v for k, v in row.items() if not isinstance(v, dict)}
        for key in ("adc_ratio", "dwi_ratio"):
            plain.update({f"{key}_{tissue}": value for tissue, value in row[key].items()})
        flat.append(plain)
    return pd.concat([table, pd.DataFrame(flat)], axis=1), histograms


def _measure_one(index: int, cohort: str, side: str) -> dict:
    from data_tools.simulate.measure import measure, read_mni

    return measure(read_mni(cohort, index), side)


def compare(table: "pd.DataFrame") -> list[Line]:
    """The cohort's figures beside the published ones."""
    from data_tools import criteria

    age, nihss, core, hypo = (
        table[name].to_numpy(float) for name in ("age", "nihss", "core_ml", "hypoperfusion_ml")
    )
    ratio = criteria.mismatch_ratio(hypo, core)
    mismatch = criteria.target_mismatch(hypo, core)
    known = ~np.isnan(age) & ~np.isnan(nihss)
    dawn = criteria.dawn(age, nihss, core)
    side, site = table["side"], table["occlusion"]
    lvo = site.isin(["ICA", "M1"]).to_numpy()
    some = (core > 0) & (table["tmax_ml"].to_numpy() > 0)
    one = (table["core_pieces"] == 1) & (table["tmax_pieces"] == 1) & (table["core_inside"] >= 0.5)
    lines = [
        Line("patients", "413", str(len(table))),
        Line("age, mean ± SD, years", "67 ± 15", _mean_sd(age, 0)),
        Line("without age", "2 of 413", f"{np.isnan(age).sum()} of {len(age)}"),
        _share("male", 50, table["sex"] == "M"),
        _share("ICA or M1 occluded", 72, lvo),
        _share("M2 or M3 occluded", 22, site.isin(["M2", "M3"])),
        _share("M4 or no occlusion", 6, site.isin(["M4", "none"])),
        _share("left", 53, side == "left"),
        _share("right", 45, side == "right"),
        _share("bilateral", 2, side == "bilateral"),
        _median("NIHSS", (14, 9, 19), nihss),
        Line("without NIHSS", "not said", f"{np.isnan(nihss).sum()} of {len(nihss)}"),
        _median("core, mL", (19, 6, 49), core),
        _share("core 0 mL", 21, core == 0),
        _median("hypoperfusion (with core), mL", (82, 43, 132), hypo),
        _median("mismatch ratio", (3.9, 2.2, 14.3), ratio),
        _share("target mismatch (DEFUSE 3)", 69, mismatch),
        _share("… core visible", 70, mismatch[core > 0]),
        _share("… core 0 mL", 64, mismatch[core == 0]),
        _share("… ICA or M1", 74, mismatch[lvo]),
        _share("… other", 47, mismatch[~lvo]),
        _share("DAWN's sensitivity for it", 50, dawn[known & mismatch]),
        _share("DAWN's specificity for it", 89, ~dawn[known & ~mismatch]),
        _rho("rho of NIHSS and hypoperfusion", nihss, hypo),
        _rho("rho of NIHSS and core", nihss, core, aim=False),
        _share("one core inside one Tmax lesion (DEFUSE)", 28, one[some]),
        _near("median share over 10 s of Tmax >= 6 s (DEFUSE 2)", 0.40, table["share_over_10_s"]),
    ]
    published = {  # PMC7973621: mean and SD over patients
        "adc_ratio": {"core": (0.63, 0.12), "penumbra": (0.90, 0.11), "oligaemia": (0.96, 0.05)},
        "dwi_ratio": {"core": (1.84, 0.41), "penumbra": (1.13, 0.08), "oligaemia": (1.08, 0.07)},
    }
    for key, name in (("adc_ratio", "ADC"), ("dwi_ratio", "DWI")):
        for tissue, (mean, sd) in published[key].items():
            x = table[f"{key}_{tissue}"].dropna().to_numpy(float)
            what = f"{name}, {tissue} to other side (PMC7973621)"
            met = bool(abs(x.mean() - mean) <= sd) if x.size else None
            lines.append(Line(what, f"{mean:.2f} ± {sd:.2f}", _mean_sd(x, 2), met))
    return lines


def _mean_sd(values, digits: int) -> str:
    values = values[~np.isnan(values)]
    if not values.size:
        return "n/a"
    return f"{values.mean():.{digits}f} ± {values.std():.{digits}f}"


def _median(what: str, published: tuple[float, float, float], values) -> Line:
    values = np.asarray(values, float)
    if np.isnan(values).all():
        return Line(what, _spread(*published), "n/a")
    middle, low, high = np.nanpercentile(values, [50, 25, 75])
    near = abs(middle - published[0]) <= MEDIAN_WITHIN * published[0]
    inside = published[1] <= middle <= published[2]
    return Line(what, _spread(*published), _spread(middle, low, high), bool(near and inside))


def _spread(middle: float, low: float, high: float) -> str:
    return f"{middle:.3g} ({low:.3g}–{high:.3g})"


def _share(what: str, published: float, mask) -> Line:
    mask = np.asarray(mask, bool)
    if not mask.size:
        return Line(what, f"{published}%", "n/a")
    percent = 100 * mask.mean()
    met = bool(abs(percent - published) <= POINTS_WITHIN)
    return Line(what, f"{published}%", f"{percent:.0f}%", met)


def _rho(what: str, one, two, aim: bool = True) -> Line:
    from scipy import stats

    known = ~np.isnan(one) & ~np.isnan(two)
    if known.sum() < 3:
        return Line(what, "about 0.5" if aim else "", "n/a")
    rho = float(stats.spearmanr(one[known], two[known])[0])
    met = bool(abs(rho - 0.5) <= RHO_WITHIN) if aim else None
    return Line(what, "about 0.5" if aim else "", f"{rho:.2f}", met)


def _near(what: str, published: float, values) -> Line:
    values = np.asarray(values, float)
    if np.isnan(values).all():
        return Line(what, f"{published:.2f}", "n/a")
    middle = float(np.nanmedian(values))
    met = bool(abs(middle - published) <= MEDIAN_WITHIN * published)
    return Line(what, f"{published:.2f}", f"{middle:.2f}", met)


def write_tables(lines: list[Line], table: "pd.DataFrame", folder: Path) -> None:
    """table.md and table.csv (the comparison), patients.csv (every patient's measurements)."""
    import csv
    import io

    from data_tools.runtime import atomic

    rows = [("", "published", "simulated", "aim met")]
    rows += [(line.what, line.published, line.simulated, line.verdict) for line in lines]
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


def draw(table: "pd.DataFrame", histograms: dict, lines: list[Line], path: Path) -> None:
    """Distributions with the published medians and IQRs, ADC histograms, and the table."""
    import matplotlib
    from matplotlib.figure import Figure

    from data_tools import criteria
    from data_tools.grid import ADC_CORE_UM2_PER_S
    from data_tools.runtime import atomic
    from data_tools.simulate.measure import ADC_BINS_UM2_PER_S

    matplotlib.rcParams["svg.hashsalt"] = "simulated"
    figure = Figure(figsize=(15, 9), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(3, 2))  # type: ignore[misc]
    axes = left.subplots(3, 2).ravel()
    core, hypo = table["core_ml"].to_numpy(float), table["hypoperfusion_ml"].to_numpy(float)
    for axis, (name, values, published) in zip(
        axes,
        (
            ("NIHSS", table["nihss"].to_numpy(float), (14, 9, 19)),
            ("core, mL", core, (19, 6, 49)),
            ("hypoperfusion (with core), mL", hypo, (82, 43, 132)),
            ("mismatch ratio", criteria.mismatch_ratio(hypo, core), (3.9, 2.2, 14.3)),
        ),
        strict=False,
    ):
        values = values[~np.isnan(values)]
        axis.hist(values, bins=30, color="0.75")
        axis.axvspan(published[1], published[2], color="tab:blue", alpha=0.15, label="paper's IQR")
        axis.axvline(published[0], color="tab:blue", label="paper's median")
        axis.axvline(np.median(values), color="k", ls="--", label="simulated median")
        axis.set(xlabel=name, ylabel="patients")
    axes[0].legend(fontsize=8)
    middles = (ADC_BINS_UM2_PER_S[:-1] + ADC_BINS_UM2_PER_S[1:]) / 2
    for tissue, counts in histograms.items():
        axes[4].plot(middles, counts / max(counts.sum(), 1), label=tissue)
    limit = ADC_CORE_UM2_PER_S
    axes[4].axvline(limit, color="0.5", lw=0.8)
    axes[4].set(
        xlabel=f"ADC, 1e-6 mm²/s (line: {limit:g})", ylabel="share of voxels", xlim=(200, 1800)
    )
    axes[4].legend(fontsize=8)
    axes[5].scatter(hypo, table["nihss"], s=6, color="k", alpha=0.5)
    axes[5].set(xlabel="hypoperfusion (with core), mL", ylabel="NIHSS")
    axis = right.subplots()
    axis.axis("off")
    cells = [(line.what, line.published, line.simulated, line.verdict) for line in lines]
    drawn = axis.table(
        cells,
        colLabels=("", "published", "simulated", "aim met"),
        colWidths=(0.52, 0.2, 0.2, 0.1),
        cellLoc="left",
        loc="center",
    )
    drawn.auto_set_font_size(False)
    drawn.set_fontsize(7.5)
    drawn.scale(1, 1.25)
    figure.suptitle(f"{len(table)} simulated patients beside the published cohort")
    with atomic.replacing(path) as temporary:
        figure.savefig(temporary, dpi=110, metadata={"Software": None})


def main() -> None:
    """Describe, print the table, say where it lies."""
    lines = describe(FLAGS.cohort, FLAGS.out, FLAGS.workers)
    width = max(len(line.what) for line in lines)
    print(f"{'':<{width}}  {'published':<18} {'simulated':<18} aim met")
    for line in lines:
        print(f"{line.what:<{width}}  {line.published:<18} {line.simulated:<18} {line.verdict}")
    if int(lines[0].simulated) < FEW:
        print(f"{lines[0].simulated} patients: shares and medians of so few say little")
    print(f"written to {FLAGS.out or Path(FLAGS.cohort) / 'description'}")


if __name__ == "__main__":
    sys.exit(command.run(main, FLAGS, __doc__))
