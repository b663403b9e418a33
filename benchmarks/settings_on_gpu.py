"""What is a setting of the training worth by itself? In minutes on one GPU; seeds show scatter.

    python -m benchmarks.settings_on_gpu --out=runs/alone --steps=500 --train="--base_filters=8" \\
        --variant="none=--randomisation=none" --variant="bias=--randomisation=bias"

As benchmarks.settings_alone, with the training of tf_hypoperfusion.train_on_gpu: a variant is a
name and its flags, --train has flags for all. Patients to learn from are simulated once, into
--cache, and so are those of every shift of data_tools.simulate in --shifts, who are only answered
for. All variants see the same patients; one with --looks of its own sees those of that look again
and again. A line holds the variant's mean over seeds and, behind "+-", half of the range between
them: a difference within that is none. "worst" names the shift that costs most Dice; "without"
tells the Dice of plain patients of whom an input is not given.

Networks lie in OUT/VARIANT/fold-SEED, figures beside them. All variants get their first seed
before any gets its second, and none is begun after --minutes.
"""

import copy
import dataclasses
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
from absl import flags

from benchmarks import settings_alone, shifts
from benchmarks.measuring import options
from benchmarks.measuring.tables import Tables
from data_tools.grid import VOXEL_ML
from data_tools.runtime import atomic, command
from data_tools.runtime.errors import InputError
from data_tools.simulate.shifts import SHIFTS
from tf_hypoperfusion import clinical, train_on_gpu

FLAGS = flags.FlagValues()
flags.DEFINE_string("out", None, "<FOLDER> For networks and table.", required=True,
                    flag_values=FLAGS)  # fmt: skip
options.variants([], FLAGS, "train_on_gpu")
flags.DEFINE_string("train", "", "<FLAGS> Of train_on_gpu, for all variants.", flag_values=FLAGS)
options.numbers("seeds", [1, 2], "Seeds of the trainings.", FLAGS)
options.count("steps", 500, "Of each training.", FLAGS)
options.choices(
    "shifts", ["bias30", "grey_bright", "penumbra_faint", "another_hospital", "no_penumbra"],
    "Some of the shifts.", FLAGS, known=list(SHIFTS),
)  # fmt: skip
options.count("patients", 46, "Simulated patients of each cohort.", FLAGS)
flags.DEFINE_integer("seed", 77, "Of the patients of the cohorts.", flag_values=FLAGS)
options.count("workers", os.cpu_count() or 1, "Processes that simulate.", FLAGS)
flags.DEFINE_float("minutes", 10.0, "Begin no training later.", flag_values=FLAGS)


def given(words: list[str]) -> flags.FlagValues:
    """Flags of train_on_gpu: those for all, then these words."""
    return flags_of([*FLAGS.train.split(), *words])


def flags_of(words: list[str]) -> flags.FlagValues:
    """Flags of train_on_gpu.

    Raises:
        InputError: no such flag, or a value that it cannot have.
    """
    values = copy.deepcopy(train_on_gpu.FLAGS)
    try:
        values(["train_on_gpu", *words])
    except flags.Error as error:
        raise InputError(f"flags of train_on_gpu: {error}") from error
    return values


def cohorts(folder: Path) -> dict[str, Any]:
    """The patients of every shift and the plain ones, in memory."""
    from tf_hypoperfusion.training.gpu import patients

    return {
        name: patients.simulated(
            FLAGS.seed, range(1, FLAGS.patients + 1), folder,
            shift=None if name == shifts.PLAIN else name, workers=FLAGS.workers,
        )
        for name in (shifts.PLAIN, *FLAGS.shifts)
    }  # fmt: skip


def figures(steps: Any, state: Any, people: dict[str, Any], cores_ml: Any) -> dict[str, Any]:
    """What a network does with a cohort: the fields of ``shifts.Held`` that a line needs."""
    _, overlap_ml, predicted_ml, true_ml = steps.each(state, people).T
    lesion = true_ml > 0
    dice = 2 * overlap_ml[lesion] / (predicted_ml + true_ml)[lesion]
    true, said = (
        np.array([clinical.defuse3(*of).target_mismatch for of in zip(ml, cores_ml, strict=True)])
        for ml in (true_ml, predicted_ml)
    )
    return {
        "dice": float(np.median(dice)) if lesion.any() else None,
        "bias_ml": float(np.mean(predicted_ml - true_ml)),
        "sensitivity": (int((true & said).sum()), int(true.sum())),
        "specificity": (int((~true & ~said).sum()), int((~true).sum())),
    }


class Trials:
    """Patients on the device, and networks trained on them.

    Args:
        common: flags of train_on_gpu for all variants.
        until: of ``time.monotonic``; no training is begun later.
    """

    def __init__(self, common: flags.FlagValues, until: float):
        from tf_hypoperfusion.training.gpu import loop, patients, steps

        self.until, self.loop, self.steps = until, loop, steps
        self.looks = common.looks.split(",")
        self.train, validation, facts = train_on_gpu.patients_of(common)
        held = cohorts(Path(common.cache) / "patients")
        train_on_gpu.start_jax(common.cache)
        self.on_device = steps.on_device(self.train.arrays())
        self.validation = steps.on_device(validation.arrays())
        self.cohorts = {name: steps.on_device(each.arrays()) for name, each in held.items()}
        self.cores_ml = {
            name: ((each.flags & patients.CORE) > 0).sum(axis=(1, 2, 3)) * VOXEL_ML
            for name, each in held.items()
        }
        self.source = loop.Source(cohort=train_on_gpu.COHORT, facts=facts)
        self._compiled: dict[Any, Any] = {}

    def seen_by(self, wanted: Sequence[str]) -> dict[str, Any]:
        """All patients, or those of the looks that a variant wants, again and again."""
        from tf_hypoperfusion.training.gpu.patients import look_of_patient

        count = len(self.train)
        who = [k for k in range(count) if look_of_patient(k + 1, self.looks) in wanted]
        if len(who) == count:
            return self.on_device
        again = np.resize(who, count)  # as many, so that nothing is compiled anew
        arrays = self.train.arrays()
        return self.steps.on_device({name: array[again] for name, array in arrays.items()})

    def train_one(self, name: str, values: flags.FlagValues, seed: int) -> dict[str, Any] | None:
        """Train a variant with a seed and ask the network about every cohort.

        Returns:
            The figures of each cohort, and ``without``: Dice of the plain one where an input is
            not given. None if there is no time left.
        """
        if time.monotonic() > self.until:
            print(f"{name}, seed {seed}: no time left", flush=True)
            return None
        (model, training), changes = train_on_gpu.settings_of(values)
        kind = (model, dataclasses.replace(training, seed=0, randomisation="none"))
        if kind not in self._compiled:
            way = self.steps.Way(training.precision, values.layers != "stock")
            self._compiled[kind] = self.steps.Steps(model, training, changes, way)
        steps = self._compiled[kind].with_changes(training, changes)
        data = self.loop.Data(
            train=self.seen_by(values.looks.split(",")), validation=self.validation,
            source=self.source,
        )  # fmt: skip
        folder = Path(FLAGS.out) / name / f"fold-{seed}"
        network = self.loop.Network(folder, steps, data, seed=seed)
        network.train(np.inf, FLAGS.steps)
        found: dict[str, Any] = {
            cohort: figures(steps, network.state, people, self.cores_ml[cohort])
            for cohort, people in self.cohorts.items()
        }
        plain = self.cohorts[shifts.PLAIN]
        print(f"{name}, seed {seed}: Dice {found[shifts.PLAIN]['dice']:.3f}", flush=True)
        without = {
            lacking: steps.validate(network.state, plain, lacking)["dice_median"]
            for lacking in self.steps.INPUTS
        }
        return found | {"without": without}


def line(variant: str, of_seeds: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """A variant's figures, one of ``of_seeds`` for each seed."""
    lacking = {
        key: f"{mean(each['without'][key] for each in of_seeds):.3f}"
        for key in of_seeds[0]["without"]
    }
    return settings_alone.line(variant, of_seeds, FLAGS.shifts) | lacking


def main() -> None:
    """Simulate, train, answer, print."""
    until = time.monotonic() + 60 * FLAGS.minutes
    if not FLAGS.variant:
        raise InputError("no --variant is given; expected NAME=FLAGS, several times")
    train_on_gpu.check_backend()
    atomic.check_writable(Path(FLAGS.out))
    common = given([])
    asked = {name: given(words) for name, words in FLAGS.variant}
    for values in asked.values():
        train_on_gpu.settings_of(values)  # refused before anything is simulated
    trials = Trials(common, until)
    tables = Tables(f"{FLAGS.out}/settings_on_gpu.csv", ("jax", "keras"), FLAGS.train)
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in asked}
    for seed in FLAGS.seeds:
        for name, values in asked.items():
            figures_of_one = trials.train_one(name, values, seed)
            if figures_of_one is not None:
                found[name].append(figures_of_one)
                atomic.write_json(Path(FLAGS.out) / "figures.json", found)
    lines = [line(name, of_seeds) for name, of_seeds in found.items() if of_seeds]
    tables.show(f"{FLAGS.patients} simulated patients of each cohort", lines)


if __name__ == "__main__":
    sys.exit(command.run(main, FLAGS, __doc__))
