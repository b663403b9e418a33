"""The paper's Figure 2: who came in, who was left out at which step and why, who was evaluated."""

from collections.abc import Iterator, Sequence

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from data_tools import flow
from data_tools.runtime.errors import counted
from tf_hypoperfusion.evaluation.report.patients import Patients
from tf_hypoperfusion.evaluation.report.table import Table

UNKNOWN = "who was left out is not known: evaluation.json does not say"
# So many reasons are named in a box; the table has all.
NAMED, LONGEST = 4, 60
LINE_HEIGHT_IN, BOX_HEIGHT_IN = 0.19, 0.42


def table(cohorts: Sequence[Patients]) -> Table:
    """Patients by step and reason; they add up. What is not known of a cohort is n/a."""
    made = Table(
        "flow",
        "Flow of patients (paper, Figure 2)",
        ["Step", *(cohort.title for cohort in cohorts)],
    )
    lost = [None if c.left_out is None else flow.counted(c.left_out) for c in cohorts]

    def add(what: str, counts: Sequence[int | None]) -> None:
        made.rows.append([what, *("n/a" if count is None else str(count) for count in counts)])

    made.rows.append(["All patients", *map(_everybody, cohorts)])
    for step, words in flow.STEPS.items():
        reasons = [None if of is None else of.get(step, {}) for of in lost]
        if not any(reasons):
            continue
        add(f"left out: {words}", [None if of is None else sum(of.values()) for of in reasons])
        for reason in dict.fromkeys(reason for of in reasons for reason in of or ()):
            if reason != words:
                add(f"    {reason}", [None if of is None else of.get(reason, 0) for of in reasons])
    add("Evaluated", [len(cohort) for cohort in cohorts])
    unknown = [cohort.title for cohort in cohorts if cohort.left_out is None]
    early = [c.title for c in cohorts if c.left_out is not None and not c.followed]
    if unknown:
        made.notes.append(f"{', '.join(unknown)}: {UNKNOWN}.")
    if early:
        made.notes.append(
            f"{', '.join(early)}: evaluated by an early version, which did not keep whom the "
            "steps before had left out. Run preprocess, build_records and evaluate again to "
            "count them."
        )
    return made


def chart(patients: Patients) -> Figure | str:
    """The same of one cohort as boxes."""
    if patients.left_out is None:
        return UNKNOWN
    boxes = [
        (sum(reasons.values()), "\n".join(_lines(step, reasons)))
        for step, reasons in flow.counted(patients.left_out).items()
    ]
    # From the bottom up, in inches: who is left, then who was left out before.
    heights = [BOX_HEIGHT_IN + LINE_HEIGHT_IN * text.count("\n") for _, text in boxes]
    tall = 2 * BOX_HEIGHT_IN + sum(height + BOX_HEIGHT_IN for height in heights)
    figure = Figure(figsize=(8.5, tall))
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set(xlim=(0, 8.5), ylim=(0, tall))
    left, y = len(patients) + len(patients.left_out), tall - BOX_HEIGHT_IN
    _main_box(axes, y, left, last=not boxes, at_least=not patients.followed)
    for (count, text), height in zip(boxes, heights, strict=True):
        left, below = left - count, y - height - BOX_HEIGHT_IN
        axes.annotate("", (_MAIN, below + 0.17), (_MAIN, y - 0.17), arrowprops=_ARROW)
        axes.annotate("", (_SIDE - 0.1, (y + below) / 2), (_MAIN, (y + below) / 2),
                      arrowprops=_ARROW)  # fmt: skip
        axes.text(_SIDE, (y + below) / 2, text, va="center", fontsize=9, bbox=_BOX)
        y = below
        _main_box(axes, y, left, last=text == boxes[-1][1])
    return figure


_MAIN, _SIDE = 1.5, 2.9
_ARROW = {"arrowstyle": "->", "shrinkA": 0, "shrinkB": 0}
_BOX = {"boxstyle": "square,pad=0.5", "facecolor": "white", "edgecolor": "black"}


def _everybody(patients: Patients) -> str:
    """How many there were, as far as it is known."""
    if patients.left_out is None:
        return "n/a"
    known = str(len(patients) + len(patients.left_out))
    return known if patients.followed else f"at least {known}"


def _main_box(axes, y: float, count: int, *, last: bool, at_least: bool = False) -> None:
    text = counted(count, "patient")
    if last:
        text += " evaluated"
    elif at_least:
        text = f"at least {text}"
    axes.text(_MAIN, y, text, ha="center", va="center", fontsize=10, bbox=_BOX)


def _lines(step: str, reasons: dict[str, int]) -> Iterator[str]:
    """A box: how many were left out, and the most frequent reasons; none that repeats the step.

    Each line counts patients, whatever was wrong with them.
    """
    yield f"{counted(sum(reasons.values()), 'patient')}: {flow.STEPS[step]}"
    named = [reason for reason in reasons if reason != flow.STEPS[step]]
    for reason in named[:NAMED]:
        short = reason if len(reason) <= LONGEST else f"{reason[:LONGEST]}..."
        yield f"  {counted(reasons[reason], 'patient')}: {short}"
    if more := sum(reasons[reason] for reason in named[NAMED:]):
        yield f"  {counted(more, 'patient')}: other reasons"
