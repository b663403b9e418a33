"""What are few patients of a lab's own worth? As benchmarks.few_patients, in minutes on one GPU.

    python -m benchmarks.few_patients_on_gpu --out=runs/few --parent=runs/demo/fold-0/best.keras \\
        --train="--presence_flags --core_output" --variant="scratch=40 --steps=1500" \\
        --variant="tuned=10 --init_from=parent --fixed_moments --learning_rate=5e-5 --steps=300"

A variant is a name, a number of patients of the simulated site, and flags of
tf_hypoperfusion.train_on_gpu; --train has flags for all, those of --parent's network among them.
One with --init_from=parent begins with --parent, the others with drawn weights. Patients, held-out
patients and table are those of benchmarks.few_patients. Weights are those after the last step.
Windows begin at any slice, where records have every fourth. The last variant is what the others
are compared with. No training is begun after --minutes; what is done is in the table.
"""

import dataclasses
import math
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags

from benchmarks import few_patients, settings_on_gpu
from benchmarks.few_patients import HELD_OUT_SEED, Figures
from benchmarks.measuring import options
from benchmarks.measuring.tables import Tables
from data_tools.runtime import atomic, command
from data_tools.runtime.errors import InputError
from data_tools.simulate.shifts import SHIFTS
from tf_hypoperfusion import train_on_gpu

# Of 10, 40 and 100 patients 200 are held, each equally often, so that nothing is compiled anew.
MOST_HELD = 400
# Settings that a compiled step takes as arguments, or knows nothing of.
NOT_COMPILED: dict[str, Any] = {
    "learning_rate": 1e-3, "final_learning_rate_ratio": 1.0, "ema_momentum": 0.0, "seed": 0,
    "randomisation": "none", "epochs": 2, "warmup_epochs": 0, "patience": 0,
}  # fmt: skip
BEGIN = "--init_from=parent"

FLAGS = flags.FlagValues()
flags.DEFINE_string("out", None, "<FOLDER> For networks and table.", required=True,
                    flag_values=FLAGS)  # fmt: skip
flags.DEFINE_string("parent", None, "<FILE> Trained weights, a .keras file.", required=True,
                    flag_values=FLAGS)  # fmt: skip
options.variants([], FLAGS, "train_on_gpu, after a number of patients,")
flags.DEFINE_string("train", "", "<FLAGS> Of train_on_gpu, for all variants.", flag_values=FLAGS)
flags.DEFINE_list("draws", ["0", "1", "2"], "Draws of patients.", flag_values=FLAGS)
flags.DEFINE_enum(
    "shift", "another_hospital", list(SHIFTS), "What is otherwise at the site.", flag_values=FLAGS
)
options.count("held_out", 40, "Patients that are answered, of the site and at home.", FLAGS)
flags.DEFINE_integer("seed", 5101, "Of the first draw's patients.", flag_values=FLAGS)
options.count("workers", os.cpu_count() or 1, "Processes that simulate.", FLAGS)
flags.DEFINE_float("minutes", 10.0, "Begin no training later.", flag_values=FLAGS)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Variant:
    """One way to train.

    Attributes:
        name: of it.
        patients: of the site that it learns from.
        values: flags of train_on_gpu.
    """

    name: str
    patients: int
    values: flags.FlagValues

    @classmethod
    def of(cls, name: str, words: list[str]) -> "Variant":
        """Read what stands in --variant.

        Raises:
            InputError: no number of patients first, or flags that cannot be.
        """
        if not words or not words[0].isdecimal() or not int(words[0]):
            raise InputError(
                f"--variant={name}=...: expected a number of patients first, as in "
                "tuned=10 --init_from=parent --steps=300"
            )
        given = {BEGIN: f"--init_from={FLAGS.parent}"}
        values = settings_on_gpu.flags_of(
            [given.get(word, word) for word in [*FLAGS.train.split(), *words[1:]]]
        )
        if values.steps < 1:
            raise InputError(f"--variant={name}=...: --steps is {values.steps}; expected 1 or more")
        train_on_gpu.settings_of(values)  # refused before anything is simulated
        return cls(name=name, patients=int(words[0]), values=values)


class Site:
    """The patients of the site and at home, on the device, and networks trained on some of them.

    Args:
        counts: of patients that the variants learn from.
        draws: their numbers.

    Raises:
        InputError: counts that have no small common multiple.
    """

    def __init__(self, counts: set[int], draws: list[int]):
        from tf_hypoperfusion.training.gpu import loop, patients, steps

        self.loop, self.steps, self.shown = loop, steps, math.lcm(*counts)
        if self.shown > MOST_HELD:
            raise InputError(
                f"the variants learn from {', '.join(map(str, sorted(counts)))} patients; expected "
                f"numbers with a common multiple up to {MOST_HELD}, such as 10, 40 and 100"
            )
        folder = Path(FLAGS.out) / "patients"

        def simulated(seed: int, count: int, shift: str | None) -> Any:
            return patients.simulated(
                seed, range(1, count + 1), folder, shift=shift, workers=FLAGS.workers
            )

        held = {
            name: simulated(FLAGS.seed + HELD_OUT_SEED, FLAGS.held_out, shift)
            for name, shift in (("site", FLAGS.shift), ("home", None))
        }
        self.draws = {
            draw: simulated(FLAGS.seed + draw, max(counts), FLAGS.shift) for draw in draws
        }
        self.held = {name: steps.on_device(each.arrays()) for name, each in held.items()}
        self.facts = {"seed": FLAGS.seed, "shift": FLAGS.shift}
        self._compiled: dict[Any, Any] = {}

    def steps_of(self, values: flags.FlagValues) -> Any:
        """The compiled functions of a variant's kind of network and step."""
        (model, training), changes = train_on_gpu.settings_of(values)
        kind = (model, dataclasses.replace(training, **NOT_COMPILED))
        if kind not in self._compiled:
            way = self.steps.Way(training.precision, values.layers != "stock")
            self._compiled[kind] = self.steps.Steps(model, training, changes, way)
        return self._compiled[kind].with_changes(training, changes)

    def train(self, variant: Variant, draw: int) -> Figures:
        """Train on the first patients of a draw, and answer the held-out ones."""
        steps = self.steps_of(variant.values)
        who = np.resize(np.arange(variant.patients), self.shown)
        arrays = self.draws[draw].arrays()
        data = self.loop.Data(
            train=self.steps.on_device({name: array[who] for name, array in arrays.items()}),
            validation=self.held["site"],  # written down, never chosen by
            source=self.loop.Source(
                cohort=train_on_gpu.COHORT,
                facts=self.facts | {"draw": draw, "patients": variant.patients},
            ),
        )
        folder = Path(FLAGS.out) / variant.name / f"fold-{draw}"
        began = time.monotonic()
        network = self.loop.Network(folder, steps, data, seed=draw + 1)
        network.train(np.inf, variant.values.steps)
        steps.save(network.state, folder / "best.keras")  # the last weights
        return self.figures(steps, network.state, minutes=(time.monotonic() - began) / 60)

    def figures(self, steps: Any, state: Any, minutes: float = 0.0) -> Figures:
        """Dice of the averaged weights with every held-out patient who has a lesion."""
        found: dict[str, dict[str, float]] = {}
        for name, people in self.held.items():
            _, overlap_ml, predicted_ml, true_ml = steps.each(state, people).T
            found[name] = {
                str(k): float(2 * overlap_ml[k] / (predicted_ml[k] + true_ml[k]))
                for k in np.flatnonzero(true_ml > 0)
            }
        return Figures(site=found["site"], home=found["home"], minutes=minutes)


def main() -> None:
    """Simulate, train, answer, print."""
    until = time.monotonic() + 60 * FLAGS.minutes
    if not FLAGS.variant:
        raise InputError("no --variant is given; expected NAME=PATIENTS FLAGS, several times")
    draws = few_patients.draws(FLAGS.draws)
    train_on_gpu.check_backend()
    atomic.check_writable(Path(FLAGS.out))
    variants = [Variant.of(name, words) for name, words in FLAGS.variant]
    site = Site({each.patients for each in variants}, draws)
    train_on_gpu.start_jax(FLAGS.out)
    tables = Tables(
        f"{FLAGS.out}/few_patients.csv", ("jax", "keras"), f"{FLAGS.shift}, {FLAGS.seed}"
    )
    as_it_came = ["1", BEGIN, "--fixed_moments", "--batch_size=4", "--steps=1"]
    shipped = site.steps_of(Variant.of(few_patients.SHIPPED, as_it_came).values)
    before = site.figures(shipped, shipped.new_state(0, FLAGS.parent))
    found: dict[tuple[str, int], Figures] = {}
    for each in variants:
        for draw in draws:
            if time.monotonic() > until:
                print(f"{each.name}, draw {draw}: no time left", flush=True)
                continue
            found[each.name, draw] = site.train(each, draw)
            atomic.write_json(
                Path(FLAGS.out) / "figures.json",
                {few_patients.SHIPPED: dataclasses.asdict(before)}
                | {f"{name} {k}": dataclasses.asdict(of) for (name, k), of in found.items()},
            )
    title = f"{FLAGS.held_out} held-out patients of {FLAGS.shift}, and the same heads at home"
    tables.show(title, few_patients.lines(found, before))


if __name__ == "__main__":
    sys.exit(command.run(main, FLAGS, __doc__))
