"""What are few patients of a lab's own worth, with trained weights to begin with and without?

    python -m benchmarks.few_patients --out=runs/few [--draws=0,1,2]

A simulated site differs from home by one shift. Of each draw of its patients a network is trained
for every variant, NAME=PATIENTS FLAGS: so many patients, and flags of tf_hypoperfusion.train. By
default "tuned" trains the demonstration model further on 10 patients, and "scratch" a network on
40, the first 10 of which are the same. All of a draw's patients train (--fold=final), the last
weights count. Each network, and network 0 of the demonstration model as it is ("shipped"), then
answers patients of the site that nobody trained on, and patients at home. Differences are means
per patient, for each of two cuts of the probability: "site gain" over the last variant, "home
gain" over "shipped".

Everything lies in OUT: cohorts, records, networks, and each network's figures beside it. Killed,
the same command goes on, and what is there is kept: some of the draws or variants can be run today
and all of them tomorrow, for the whole table. "minutes" are of training by the clock, "CPU minutes"
those of all cores in the start that ended the training.
"""

import dataclasses
import resource
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, median
from typing import Any

from absl import flags

from benchmarks import shifts
from benchmarks.measuring import options
from benchmarks.measuring.tables import Tables
from data_tools.grid import SLAB_STRIDE
from data_tools.runtime import atomic, command
from data_tools.runtime.errors import InputError
from data_tools.simulate import simulate_cohort
from data_tools.simulate.shifts import SHIFTS
from tf_hypoperfusion.config import PROBABILITY_THRESHOLD
from tf_hypoperfusion.evaluation.patient_metrics import STEPS

SHIPPED = "shipped"
PARENT = "demo#0"
DEFAULT = [
    ("tuned", ["10", "--preset=few_patients", "--epochs=6"]),
    ("scratch", ["40", "--preset=demonstration", "--epochs=20"]),
]
# Probability from which a voxel counts: that of the demonstration model's calibration, with which
# predict answers, and the paper's.
CUTS = (0.3, PROBABILITY_THRESHOLD)
# Patients that nobody trains on have a seed of their own.
HELD_OUT_SEED = 1000

FLAGS = flags.FlagValues()
flags.DEFINE_string("out", None, "<FOLDER> For everything.", required=True, flag_values=FLAGS)
options.variants(DEFAULT, FLAGS, "train, after a number of patients,")
flags.DEFINE_list("draws", ["0", "1", "2"], "Draws of patients.", flag_values=FLAGS)
flags.DEFINE_enum(
    "shift", "another_hospital", list(SHIFTS), "What is otherwise at the site.", flag_values=FLAGS
)
options.count("held_out", 40, "Patients that are answered, of the site and at home.", FLAGS)
flags.DEFINE_integer("seed", 5101, "Of the first draw's patients.", flag_values=FLAGS)
options.count("stride", 8, "Slices between windows in answering.", FLAGS)
options.count("workers", 1, "Processes that simulate.", FLAGS)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Figures:
    """A network's Dice with each patient, in the cohorts' order, and what its training took.

    Attributes:
        site: of the site's held-out patients with a lesion, by their place in the cohort.
        home: likewise, at home.
        minutes: of training, by the clock.
        cpu_minutes: of training, on all cores.
    """

    site: dict[str, float]
    home: dict[str, float]
    minutes: float = 0.0
    cpu_minutes: float = 0.0


def cohort(name: str, patients: int, seed: int, *, shift: str | None) -> Path:
    """Simulated patients, made unless they are there."""
    return simulate_cohort(
        Path(FLAGS.out) / "cohorts" / name,
        patients,
        seed,
        space="mni",
        workers=FLAGS.workers,
        look="first",
        shift=shift,
    )


def held_out() -> dict[str, Path]:
    """The patients that are answered, of the site and at home: the same heads."""
    seed = FLAGS.seed + HELD_OUT_SEED
    return {
        name: cohort(f"{name}-held_out", FLAGS.held_out, seed, shift=shift)
        for name, shift in (("site", FLAGS.shift), ("home", None))
    }


def records(draw: int, patients: int) -> Path:
    """Records of the first patients of a draw."""
    from data_tools import records_builder

    folder = Path(FLAGS.out) / f"draw{draw}" / f"records-{patients}"
    of = cohort(f"site-draw{draw}-{patients}", patients, FLAGS.seed + draw, shift=FLAGS.shift)
    records_builder.build(str(of), str(folder), stride=SLAB_STRIDE, shards=1, seed=1)
    return folder


def train(draw: int, name: str, words: Sequence[str]) -> Path:
    """The network of a draw and variant, trained unless it is.

    Returns:
        Its file.

    Raises:
        InputError: the training ended with an error, which it has told.
    """
    patients, *given = words
    run = Path(FLAGS.out) / f"draw{draw}" / name
    fold = run / "final"
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [
            sys.executable, "-m", "tf_hypoperfusion.train", "--fold=final", f"--run={run}",
            f"--records={records(draw, int(patients))}", f"--seed={draw + 1}",
            "--overlay_epochs=0", *given,
        ],
        check=False,
    )  # fmt: skip
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise InputError(f"{run}: the training ended with status {done.returncode}; see above")
    spent = used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime
    if not (fold / "cpu.json").is_file():
        atomic.write_json(fold / "cpu.json", {"cpu_s": spent})
    return fold / "best.keras"


def shipped() -> Path:
    """Network 0 of the demonstration model, as a file."""
    file = Path(FLAGS.out) / SHIPPED / "best.keras"
    if not file.is_file():
        from data_tools.runtime import tensorflow_start

        tensorflow_start.prepare()
        from tf_hypoperfusion.training import parents

        file.parent.mkdir(parents=True, exist_ok=True)
        with atomic.replacing(file) as temporary:
            parents.read(PARENT).save(temporary)
    return file


def figures(network: Path) -> dict[float, Figures]:
    """What a network does with the held-out patients, for each of :data:`CUTS`; kept beside it."""
    path = network.with_name(
        f"cuts-{FLAGS.shift}-{FLAGS.seed}-{FLAGS.held_out}-stride{FLAGS.stride}.json"
    )
    found = atomic.read_json(path)
    cohorts = held_out()
    for name in [name for name in cohorts if name not in found]:
        answered = shifts.answer(shifts.model_of([str(network)]), cohorts[name], FLAGS.stride)
        dice = {str(k): each.counts.dice() for k, each in enumerate(answered)}
        found[name] = {
            f"{cut:g}": {
                k: float(of[round(cut * STEPS)]) for k, of in dice.items() if of is not None
            }
            for cut in CUTS
        }
        atomic.write_json(path, found)
    spent = _spent(network.parent)
    return {
        cut: Figures(site=found["site"][f"{cut:g}"], home=found["home"][f"{cut:g}"], **spent)
        for cut in CUTS
    }


def _spent(fold: Path) -> dict[str, Any]:
    from tf_hypoperfusion.training import history

    return {
        "minutes": sum(row["seconds"] for row in history.read(fold)) / 60,
        "cpu_minutes": atomic.read_json(fold / "cpu.json").get("cpu_s", 0.0) / 60,
    }


def draws(words: Sequence[str]) -> list[int]:
    """The numbers of draws.

    Raises:
        InputError: one of the words is no number.
    """
    if wrong := [word for word in words if not word.isdecimal()]:
        raise InputError(f"--draws holds {wrong[0]!r}; expected numbers from 0, as in 0,1,2")
    return [int(word) for word in words]


def gain(of: dict[str, float], over: dict[str, float]) -> float:
    """Mean difference of Dice, patient by patient.

    Raises:
        InputError: the two were not measured on the same patients.
    """
    if of.keys() != over.keys() or not of:
        raise InputError("figures of other patients lie in --out; give another folder")
    return fmean(of[name] - over[name] for name in of)


def lines(found: dict[tuple[str, int], Figures], before: Figures) -> list[dict[str, Any]]:
    """A line for each network, then each variant's mean over its draws.

    Args:
        found: by variant and draw; the last variant is what the others are compared with.
        before: of the network as shipped.
    """
    names = list(dict.fromkeys(name for name, _ in found))
    rows = [_line(SHIPPED, "", before, {})]
    for name in names:
        of_name = [draw for each, draw in found if each == name]
        gains = []
        for draw in of_name:
            each, rival = found[name, draw], found.get((names[-1], draw))
            gained = {"home gain": gain(each.home, before.home)}
            if rival is not None and name != names[-1]:
                gained["site gain"] = gain(each.site, rival.site)
            gains.append(gained)
            rows.append(_line(name, str(draw), each, gained))
        if len(of_name) > 1:
            means = {
                key: fmean(each[key] for each in gains if key in each)
                for key in dict.fromkeys(key for each in gains for key in each)
            }
            rows.append({"network": name, "draw": "mean", **_cells(means)})
    return rows


def _line(name: str, draw: str, each: Figures, gained: dict[str, float]) -> dict[str, Any]:
    return {
        "network": name,
        "draw": draw,
        "site Dice": f"{median(each.site.values()):.3f}",
        "home Dice": f"{median(each.home.values()):.3f}",
        **_cells(gained),
        "minutes": f"{each.minutes:.1f}" if each.minutes else "",
        "CPU minutes": f"{each.cpu_minutes:.1f}" if each.cpu_minutes else "",
    }


def _cells(gained: dict[str, float]) -> dict[str, str]:
    return {key: f"{value:+.3f}" for key, value in gained.items()}


def main() -> None:
    """Train, answer, print."""
    numbers = draws(FLAGS.draws)
    for name, words in FLAGS.variant:
        if not words or not words[0].isdecimal() or not int(words[0]):
            raise InputError(
                f"--variant={name}=...: expected a number of patients first, as in "
                "tuned=10 --preset=few_patients --epochs=6"
            )
    atomic.check_writable(Path(FLAGS.out))
    tables = Tables(
        f"{FLAGS.out}/few_patients.csv", ("tensorflow", "keras"), f"{FLAGS.shift}, {FLAGS.seed}"
    )
    before = figures(shipped())
    found: dict[tuple[str, int], dict[float, Figures]] = {}
    for draw in numbers:
        for name, words in FLAGS.variant:
            found[name, draw] = figures(train(draw, name, words))
    order = [name for name, _ in FLAGS.variant]
    by_variant = dict(sorted(found.items(), key=lambda item: order.index(item[0][0])))
    for cut in CUTS:
        tables.show(
            f"{FLAGS.held_out} held-out patients of {FLAGS.shift}, and the same heads at home, cut "
            f"at {cut:g}",
            lines({who: of[cut] for who, of in by_variant.items()}, before[cut]),
        )


if __name__ == "__main__":
    sys.exit(command.run(main, FLAGS, __doc__))
