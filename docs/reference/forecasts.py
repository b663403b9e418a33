"""What a study takes, by arithmetic from measured rates; ``write_figures.py`` writes the tables.

Each rate names the section of docs/benchmarks.md that it comes from. Nothing is measured here.
"""

import math
from collections.abc import Callable, Sequence

from data_tools.slabs import slab_starts
from data_tools.splits import SUBSETS
from tf_hypoperfusion import config
from tf_hypoperfusion.training import roles

PATIENTS_OF_THE_PAPER = 413
SLABS = len(slab_starts(config.TEST_STRIDE))
SHARE = {role: len(subsets) / SUBSETS for role, subsets in roles.of(0, SUBSETS).items()}
# A training step computes three times what an answer does (A GPU).
FORWARD = 1 / 3

# Trained slabs per second. At a glance: the paper's network on two cores, by its steps.
PAPER = {"bfloat16": 0.85, "float32": 0.53}
FRAME, TIGHT = 128 * 128, 80 * 104
# Two cores need 1.05 times half of the CPU seconds (A training step on a CPU).
TWO_CORES = 1.05 / 2


def _of_cpu(seconds_per_slab: float) -> float:
    return 1 / (TWO_CORES * seconds_per_slab)


# A training step on a CPU: 8 filters; 12 filters, 2.06 s for 8 slabs.
EIGHT = {"bfloat16": _of_cpu(0.138), "float32": _of_cpu(0.184)}
CPU: dict[str, dict[str, float]] = {
    "paper": PAPER,
    "paper_tight": {name: rate * FRAME / TIGHT for name, rate in PAPER.items()},
    "demonstration": EIGHT,
    "small": EIGHT,
    # hardware.md: the other two were measured on a busy Xeon.
    "few_patients": {"bfloat16": _of_cpu(2.06 / 8), "float32": _of_cpu(0.393)},
    "tiny": {"float32": _of_cpu(0.1152)},
}
# A GPU: 12 filters reached 26 TFLOP/s. At that rate the paper's 351 GFLOP per slab; what computes
# less is counted no faster than what was measured.
MEASURED_ON_GPU, TFLOPS, PAPER_TFLOP = 1005.0, 26.0, 0.351
GPU = {name: MEASURED_ON_GPU for name in CPU} | {
    "paper": TFLOPS / PAPER_TFLOP,
    "paper_tight": TFLOPS / PAPER_TFLOP * FRAME / TIGHT,
}

# Per patient: your-cohort.md; decisions/records-and-splits.md; One patient; At a glance.
PREPROCESS_CPU_S, RECORDS_CPU_S = 1.4, 0.86
NETWORK_S, MEASURING_CPU_S = 3.63, 0.8
MNI_MB, SLAB_MB = 5.0, 1.18
# Slabs per second that one process reads from shards not in memory (The data layer).
READ = 377.0
# decisions/duplicates.md: pairs grow with the square.
DUPLICATES_S, DUPLICATES_PATIENTS = 46.0, 10_000
# Serving: one 12-filter network in bfloat16, and five of 8 filters, on two cores.
SERVED_PER_MINUTE = (64.0, 20.0)


def in_words(seconds: float) -> str:
    """A time with one unit.

    >>> in_words(90), in_words(7000), in_words(300_000), in_words(1e8)
    ('1.5 min', '1.9 h', '3.5 days', '3.2 years')
    """
    for name, length in (("years", 365.25 * 86400), ("days", 86400), ("h", 3600)):
        if seconds >= (2 if name == "days" else 1) * length:
            return f"{_short(seconds / length)} {name}"
    return f"{_short(seconds / 60)} min"


def _short(number: float) -> str:
    return f"{number:.1f}" if number < 10 else f"{number:,.0f}"


def training_s(patients: int, epochs: int, slabs_per_s: float, forward: float = FORWARD) -> float:
    """Of one fold, all of its epochs; an answered slab takes ``forward`` of a learnt one.

    >>> round(training_s(100, 1, 10.0) / SLABS, 2)  # 60 patients learnt, 20 answered
    6.67
    """
    learnt, answered = (
        math.ceil(patients * SHARE[role]) * SLABS for role in ("train", "validation")
    )
    return epochs * (learnt + forward * answered) / slabs_per_s


def presets() -> str:
    """Five folds of the paper's 413 patients by every preset."""
    rows = []
    for name, rates in CPU.items():
        model, training = config.PRESETS[name]

        def folds(rate: float | None, epochs: int = training.epochs) -> str:
            if rate is None:
                return "float32 only"
            return in_words(SUBSETS * training_s(PATIENTS_OF_THE_PAPER, epochs, rate))

        rows.append(
            [
                f"`{name}`",
                str(model.base_filters),
                model.frame,
                str(training.epochs),
                folds(rates.get("bfloat16")),
                folds(rates.get("float32")),
                folds(GPU[name]),
            ]
        )
    head = [
        "preset",
        "filters",
        "frame",
        "epochs",
        "2 cores, bfloat16",
        "2 cores, float32",
        "one H100",
    ]
    return _table(head, rows)


def stations() -> str:
    """What else the paper's 413 patients take."""
    return _stations([PATIENTS_OF_THE_PAPER], cores=2)


def scale() -> str:
    """10,000 and 1,000,000 patients, in core hours and terabytes."""
    return _stations([10_000, 1_000_000], cores=1)


def _stations(cohorts: Sequence[int], cores: int) -> str:
    def row(name: str, cpu_s: Callable[[int], float], disk_mb: float) -> list[str]:
        cells = [name]
        for patients in cohorts:
            cells += [in_words(cpu_s(patients) / cores), _disk(patients * disk_mb)]
        return cells

    rows = [
        row("`preprocess`", lambda n: n * PREPROCESS_CPU_S, MNI_MB),
        row("`build_records`, stride 4", lambda n: n * RECORDS_CPU_S, SLABS * SLAB_MB),
        row(
            "`build_records`: every pair compared",
            lambda n: 2 * DUPLICATES_S * (n / DUPLICATES_PATIENTS) ** 2,
            0,
        ),
        row("`evaluate`, `paper`: networks", lambda n: n * 2 * NETWORK_S, 0),
        row("`evaluate`: measuring", lambda n: n * MEASURING_CPU_S, 0),
    ]
    unit = f"{cores} cores" if cores > 1 else "one core"
    head = ["station"]
    for patients in cohorts:
        head += [f"{patients:,} patients, {unit}", "disk"]
    return _table(head, rows)


def epochs() -> str:
    """One epoch of one fold by number of patients."""
    cohorts = (10_000, 1_000_000)
    rows = []
    for name in ("paper", "paper_tight", "demonstration"):
        rates = (CPU[name]["bfloat16"], GPU[name])
        times = [in_words(training_s(count, 1, rate)) for count in cohorts for rate in rates]
        rows.append([f"`{name}`", *times])
    read = [in_words(training_s(count, 1, READ, forward=1)) for count in cohorts]
    rows.append(
        ["reading alone, one process, shards not in memory", *(2 * read[:1] + 2 * read[1:])]
    )
    head = ["one epoch of one fold"]
    for count in cohorts:
        head += [f"{count:,} patients, 2 cores", f"{count:,} patients, one H100"]
    return _table(head, rows)


def servers() -> str:
    """Machines of two cores that answer so many patients in a day."""
    rows = []
    for patients in (10_000, 1_000_000):
        needed = [math.ceil(patients / (24 * 60) / rate) for rate in SERVED_PER_MINUTE]
        rows.append([f"{patients:,}", f"{patients / (24 * 60):,.0f}", *map(str, needed)])
    head = ["patients in a day", "per minute"]
    head += ["one 12-filter network, bfloat16", "five 8-filter networks"]
    return _table(head, rows)


def _disk(megabytes: float) -> str:
    if not megabytes:
        return ""
    for name, size in (("TB", 1e6), ("GB", 1e3)):
        if megabytes >= size:
            return f"{_short(megabytes / size)} {name}"
    return f"{_short(megabytes)} MB"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
