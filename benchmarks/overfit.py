"""Can the network learn at all? Four simulated patients, trained until it knows them by heart.

    python -m benchmarks.overfit [--preset=small] [--epochs=150]

Real records, network, loss and optimizer; the training patients are also the validation patients,
and dropout and mirror are off. Dice is over all covered voxels of the four, from the moving moments
as at test time. Aim: over 0.95. A network that cannot do this has a fault.

Seen (2 cores of an AMD EPYC with AVX512-BF16): see BUILD_NOTES.
"""

import dataclasses
import sys
import tempfile
import time
from typing import Any

from absl import flags

from benchmarks.measuring import options
from data_tools.runtime import command

FLAGS = flags.FlagValues()
options.preset(FLAGS, "small")
options.count("epochs", 150, "Most passes over the 16 slabs.", FLAGS)
flags.DEFINE_integer("base_filters", None, "Instead of the preset's.", 1, flag_values=FLAGS)
flags.DEFINE_integer(
    "batch_size", 8, "Slabs per optimizer step, at most 16.", 1, 16, flag_values=FLAGS
)
flags.DEFINE_string("normalisation", None, "Instead of the preset's.", flag_values=FLAGS)
flags.DEFINE_float("learning_rate", None, "Instead of the preset's.", flag_values=FLAGS)
SUBSETS, AIM, LOOK_EVERY = (0, 1, 2, 3), 0.95, 5


def overfit(folder: str, preset: str, epochs: int, batch_size: int, **changes: Any) -> float:
    """Train until the aim or the last epoch; prints as it goes and returns the last Dice."""
    from data_tools import records
    from data_tools.records_builder import build
    from data_tools.simulate import simulate_cohort
    from tf_hypoperfusion import config
    from tf_hypoperfusion.training import distribution, epoch_metrics
    from tf_hypoperfusion.training import step as training_step
    from tf_hypoperfusion.training.input_pipeline import (
        Share,
        Slabs,
        evaluation_dataset,
        training_dataset,
    )
    from tf_hypoperfusion.training.precision import choose_precision

    changes |= {"dropout": 0.0, "epochs": epochs, "batch_size": batch_size}
    changes |= {"micro_batch": batch_size}
    # The last details need small steps.
    model_config, training = config.preset(preset, final_learning_rate_ratio=0.05, **changes)
    cohort = simulate_cohort(f"{folder}/cohort", 5, seed=11, space="mni")
    build(str(cohort), f"{folder}/records", stride=16, shards=1, seed=1)
    manifest = records.load_manifest(f"{folder}/records")
    slabs = Slabs(f"{folder}/records", manifest, SUBSETS, cached=True)
    precision, reason = choose_precision(training.precision)
    print(f"{slabs.total} slabs of {len(SUBSETS)} simulated patients, {precision} ({reason})")
    dataset, steps = training_dataset(slabs, batch_size, seed=1, mirror=False)
    training = dataclasses.replace(training, precision=precision)
    step = training_step.build(distribution.choose_strategy(), model_config, training, steps)
    batches, began, dice = iter(dataset), time.monotonic(), 0.0
    validation, count = evaluation_dataset(slabs, Share(batch_size))
    for epoch in range(1, epochs + 1):
        for k in range(steps):
            step.train(batches, (epoch - 1) * steps + k)
        if epoch % LOOK_EVERY == 0 or epoch == epochs:
            figures = epoch_metrics.summarise(step.evaluate(iter(validation), count))
            dice = figures["dice"]
            print(
                f"epoch {epoch:>4}  loss {figures['composite']:.4f}  Dice {dice:.3f}  "
                f"{time.monotonic() - began:.0f} s",
                flush=True,
            )
            if dice > AIM:
                break
    return dice


def main() -> int:
    """Say whether the aim is met; exit status 1 if not."""
    with tempfile.TemporaryDirectory() as folder:
        changes = {
            name: getattr(FLAGS, name)
            for name in ("base_filters", "normalisation", "learning_rate")
        }
        dice = overfit(folder, FLAGS.preset, FLAGS.epochs, FLAGS.batch_size, **changes)
    print(f"aim: Dice over {AIM}: {'met' if dice > AIM else 'NOT met'} ({dice:.3f})")
    return 0 if dice > AIM else 1


if __name__ == "__main__":
    sys.exit(command.run(main, FLAGS, __doc__))
