"""What is a setting of the training worth by itself, at home and under shifts? Seeds show scatter.

    python -m benchmarks.settings_alone --records=records --cohorts=FOLDER --out=runs/alone \\
        --variant=none= --variant=mirror=--contrast_channels=mirror

For every variant and seed a fold is trained (flags of tf_hypoperfusion.train after the variant's
name; --preset and --epochs are the same for all), then the network answers cohorts of
benchmarks.shifts: the plain patients and each of --shifts, simulated into --cohorts unless they are
there. A line holds the variant's mean over seeds and, behind "+-", half of the range between them:
a difference within that is none. "worst" names the shift that costs most Dice.

Networks lie in OUT/VARIANT-seedN and their figures beside them; killed, the same command goes on.
Several processes may share the work: give each some of the variants, then all to one for the table.
"""

import dataclasses
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from absl import flags

from benchmarks import shifts
from benchmarks.measuring import options
from benchmarks.measuring.tables import Tables
from data_tools.runtime import atomic, command
from data_tools.runtime.errors import InputError
from data_tools.simulate.shifts import SHIFTS
from tf_hypoperfusion.config import TEST_STRIDE

FLAGS = flags.FlagValues()
options.folder("records", "manifest.json", "the folder of data_tools.build_records.", FLAGS)
flags.DEFINE_string(
    "cohorts", None, "<FOLDER> Where the simulated cohorts go, or are already.", required=True,
    flag_values=FLAGS,
)  # fmt: skip
flags.DEFINE_string("out", None, "<FOLDER> For networks and table.", required=True,
                    flag_values=FLAGS)  # fmt: skip
options.variants([], FLAGS, "train")
options.numbers("seeds", [1, 2], "Seeds of the trainings.", FLAGS)
options.choices(
    "shifts", ["bias30", "grey_bright", "penumbra_faint", "another_hospital", "no_penumbra"],
    "Some of the shifts.", FLAGS, known=list(SHIFTS),
)  # fmt: skip
options.preset(FLAGS, "small")
options.count("epochs", 6, "Passes over the training slabs.", FLAGS)
flags.DEFINE_integer("fold", 0, "Fold.", 0, 4, flag_values=FLAGS)
options.count("patients", 46, "Simulated patients of each cohort.", FLAGS)
flags.DEFINE_integer("seed", 77, "Of the patients.", flag_values=FLAGS)
options.count("stride", TEST_STRIDE, "Slices between windows.", FLAGS)
options.count("workers", 1, "Processes that simulate.", FLAGS)


def train(run: Path, seed: int, words: Sequence[str]) -> Path:
    """The network of a variant and seed, trained unless it is there.

    Raises:
        InputError: the training ended with an error, which it has told.
    """
    given = [
        f"--records={FLAGS.records}", f"--run={run}", f"--fold={FLAGS.fold}",
        f"--preset={FLAGS.preset}", f"--epochs={FLAGS.epochs}", f"--seed={seed}",
        "--overlay_epochs=0", *words,
    ]  # fmt: skip
    done = subprocess.run([sys.executable, "-m", "tf_hypoperfusion.train", *given], check=False)
    if done.returncode:
        raise InputError(f"{run}: the training ended with status {done.returncode}; see above")
    return run / f"fold-{FLAGS.fold}"


def figures(fold: Path) -> dict[str, Any]:
    """What the network of a fold does with each cohort, kept in the fold's folder.

    Returns:
        For each cohort, the fields of :class:`shifts.Held`.
    """
    path = fold / f"shifts-seed{FLAGS.seed}-{FLAGS.patients}-stride{FLAGS.stride}.json"
    found = atomic.read_json(path)
    for name in (shifts.PLAIN, *FLAGS.shifts):
        if name not in found:
            network = shifts.model_of([str(fold / "best.keras")])
            answered = shifts.answer(network, shifts.cohort_of(name, FLAGS, "first"), FLAGS.stride)
            found[name] = dataclasses.asdict(shifts.judge(answered))
            atomic.write_json(path, found)
    return found


def line(variant: str, found: Sequence[dict[str, Any]], names: Sequence[str]) -> dict[str, Any]:
    """A variant's figures of the shifts ``names``, one of ``found`` for each seed."""
    with_dice = [name for name in names if SHIFTS[name].negatives is None]
    everyone = [*names, shifts.PLAIN]

    def losses(each: dict[str, Any]) -> dict[str, float]:
        return {name: each[shifts.PLAIN]["dice"] - each[name]["dice"] for name in with_dice}

    def cell(values: Sequence[float], digits: int) -> str:
        scatter = (max(values) - min(values)) / 2
        return f"{mean(values):.{digits}f} +-{scatter:.{digits}f}"

    def sum_of(kind: str) -> str:
        pairs = [each[name][kind] for each in found for name in everyone]
        return "{}/{}".format(*(sum(pair[k] for pair in pairs) for k in (0, 1)))

    worst = max(with_dice, key=lambda name: mean(losses(each)[name] for each in found))
    bias = [mean(abs(each[name]["bias_ml"]) for name in everyone) for each in found]
    return {
        "variant": variant,
        "seeds": len(found),
        "Dice at home": cell([each[shifts.PLAIN]["dice"] for each in found], 3),
        "mean loss": cell([mean(losses(each).values()) for each in found], 3),
        "worst": f"{worst} {cell([losses(each)[worst] for each in found], 2)}",
        "|bias| mL": cell(bias, 1),
        "sensitivity": sum_of("sensitivity"),
        "specificity": sum_of("specificity"),
    }


def main() -> None:
    """Train, answer, print."""
    if not FLAGS.variant:
        raise InputError("no --variant is given; expected NAME=FLAGS, several times")
    if all(SHIFTS[name].negatives for name in FLAGS.shifts):
        raise InputError("--shifts has no shift whose Dice can be compared")
    atomic.check_writable(Path(FLAGS.out))
    tables = Tables(f"{FLAGS.out}/settings_alone.csv", ("tensorflow", "keras"), FLAGS.preset)
    lines = []
    for variant, words in FLAGS.variant:
        folds = [
            train(Path(FLAGS.out) / f"{variant}-seed{seed}", seed, words) for seed in FLAGS.seeds
        ]
        lines.append(line(variant, [figures(fold) for fold in folds], FLAGS.shifts))
    tables.show(f"{FLAGS.patients} simulated patients of each cohort", lines)


if __name__ == "__main__":
    sys.exit(command.run(main, FLAGS, __doc__))
