"""The paper's Figure 2: who came in, who was left out at which step and why, who was evaluated."""

from collections import Counter
from collections.abc import Sequence

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from data_tools import flow
from data_tools.flow import LeftOut
from tf_hypoperfusion.evaluation.report.patients import Patients
from tf_hypoperfusion.evaluation.report.table import Table

UNKNOWN = "who was left out is not known: evaluation.json does not say"
# So many reasons are named in a box; the table has all.
NAMED, LONGEST = 4, 46
BOX_HEIGHT_IN = 1.05


def table(cohorts: Sequence[Patients]) -> Table:
    """Patients by step and reason; they add up."""
    made = Table(
        "flow",
        "Flow of patients (paper, Figure 2)",
        ["Step", *(cohort.title for cohort in cohorts)],
    )
    lost = [cohort.left_out for cohort in cohorts]
    everybody = [
        "n/a" if each is None else str(len(each) + len(cohort))
        for each, cohort in zip(lost, cohorts, strict=True)
    ]
    made.rows.append(["All patients", *everybody])
    for step, words in flow.STEPS.items():
        at_step = [[each for each in of or () if each.step == step] for of in lost]
        if not any(at_step):
            continue
        made.rows.append([f"left out: {words}", *(str(len(each)) for each in at_step)])
        reasons = Counter(each.reason.splitlines()[0] for of in at_step for each in of)
        for reason, _ in reasons.most_common():
            counts = [sum(each.reason.startswith(reason) for each in of) for of in at_step]
            made.rows.append([f"    {reason}", *map(str, counts)])
    made.rows.append(["Evaluated", *(str(len(cohort)) for cohort in cohorts)])
    return made


def chart(patients: Patients) -> Figure | str:
    """The same of one cohort as boxes."""
    if patients.left_out is None:
        return UNKNOWN
    steps = {step: [each for each in patients.left_out if each.step == step] for step in flow.STEPS}
    lost = {step: each for step, each in steps.items() if each}
    lines = len(lost) + 1
    figure = Figure(figsize=(8.5, BOX_HEIGHT_IN * (lines + 1)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.set_axis_off()
    axes.set(xlim=(0, 1), ylim=(-0.5, 2 * lines - 0.5))
    top, left = 2 * lines - 1, len(patients) + len(patients.left_out)
    _box(axes, 0.25, top, f"{left} patients")
    for step, of_step in lost.items():
        _box(axes, 0.48, top - 1, f"{len(of_step)} {flow.STEPS[step]}\n{_reasons(of_step)}", size=8)
        _arrow(axes, (0.25, top - 1), (0.46, top - 1))
        left -= len(of_step)
        last = top - 2 == 2 * lines - 1 - 2 * len(lost)
        _box(axes, 0.25, top - 2, f"{left} patients" + (" evaluated" if last else ""))
        _arrow(axes, (0.25, top - 0.25), (0.25, top - 1.75))
        top -= 2
    return figure


def _reasons(left_out: Sequence[LeftOut]) -> str:
    """The most frequent reasons, each on a line; none where they only repeat the step."""
    counted = Counter(each.reason.splitlines()[0] for each in left_out).most_common()
    shown = [
        f"{count} {reason[:LONGEST]}{'...' if len(reason) > LONGEST else ''}"
        for reason, count in counted[:NAMED]
        if reason not in flow.STEPS.values()
    ]
    more = sum(count for _, count in counted[NAMED:])
    return "\n".join([*shown, *([f"{more} for other reasons"] if more else [])])


def _box(axes, x: float, y: float, text: str, *, size: int = 10) -> None:
    """Centred at a place; a small one begins there."""
    axes.text(
        x, y, text.strip(), ha="left" if size < 10 else "center", va="center", fontsize=size,
        bbox={"boxstyle": "square,pad=0.5", "facecolor": "white", "edgecolor": "black"},
    )  # fmt: skip


def _arrow(axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    axes.annotate("", end, start, arrowprops={"arrowstyle": "->"})
