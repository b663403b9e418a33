"""What more patients would bring: a fold trained again on some of its training patients.

    python -m benchmarks.learning_curve --records=records --run=runs/mine --fold=0 \\
        --patients=50,100,200 --out=runs/learning

Settings, validation and test patients are those of the fold of --run, and so is the number of
steps: half of the patients are seen twice as often. The first 50 are among the first 100. Each
point is OUT/N/records and OUT/N/run, which other commands read; killed, the same command goes on.
The last line of the table is the fold of --run, if it was evaluated.
"""

import dataclasses
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags

from benchmarks.measuring import options, tables
from data_tools.runtime import atomic, command
from data_tools.runtime.errors import InputError

if TYPE_CHECKING:
    from data_tools.manifest import Manifest

FLAGS = flags.FlagValues()
options.folder("records", "manifest.json", "the folder of data_tools.build_records.", FLAGS)
options.folder(
    "run", "summary.json", "a run of tf_hypoperfusion.train, whose fold is repeated.", FLAGS
)
flags.DEFINE_integer("fold", 0, "Fold.", 0, flag_values=FLAGS)
options.numbers("patients", [50, 100, 200], "How many training patients.", FLAGS)
flags.DEFINE_string("out", None, "Folder to write to.", required=True, flag_values=FLAGS)
flags.DEFINE_integer("seed", 1, "Which patients.", 0, flag_values=FLAGS)


def fewer_patients(source: Path, target: Path, *, fold: int, count: int, seed: int) -> "Manifest":
    """Records with ``count`` of a fold's training patients, the other subsets as they are.

    Args:
        source: records.
        target: new records; kept if they are there, whole, and the same.
        fold: whose training patients.
        count: how many stay.
        seed: which of them.

    Returns:
        The manifest of ``target``.

    Raises:
        InputError: the fold has fewer training patients, or ``target`` holds something else.
    """
    import numpy as np

    from data_tools import records, splits

    manifest = records.load_manifest(source)
    training = splits.fold_roles(fold, len(manifest.subsets))["train"]
    everyone = [p for k in training for p in manifest.subsets[k].participants]
    if count > len(everyone):
        raise InputError(
            f"--patients has {count}; expected at most the {len(everyone)} that fold {fold} trains "
            "on"
        )
    chosen = {everyone[k] for k in np.random.default_rng(seed).permutation(len(everyone))[:count]}
    fingerprint = f"{manifest.fingerprint}, {count} of fold {fold}, seed {seed}"
    if (target / records.MANIFEST).is_file():
        found = records.load_manifest(target)
        if found.fingerprint != fingerprint:
            raise InputError(f"{target} holds records of other patients; give another --out")
        return found
    partial = target.with_name(f".tmp-{target.name}")
    shutil.rmtree(partial, ignore_errors=True)
    slabs = {name: patient["slabs"] for name, patient in manifest.rows().items()}
    subsets = list(manifest.subsets)
    for k, subset in enumerate(subsets):
        if k not in training:
            for shard in subset.shards:
                _link(source / shard.file, partial / shard.file)
            continue
        participants = tuple(p for p in subset.participants if p in chosen)
        subsets[k] = dataclasses.replace(
            subset,
            participants=participants,
            slabs=sum(slabs[p] for p in participants),
            shards=tuple(
                records.write_shard(partial, each.file, _records_of(source / each.file, chosen))
                for each in subset.shards
            ),
        )
    left_out = set(everyone) - chosen
    smaller = dataclasses.replace(
        manifest,
        patients=tuple(p for p in manifest.patients if p["participant_id"] not in left_out),
        slabs=sum(subset.slabs for subset in subsets),
        subsets=tuple(subsets),
        fingerprint=fingerprint,
    )
    atomic.write_json(partial / records.MANIFEST, smaller.to_json())
    os.replace(partial, target)
    return smaller


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:  # another file system
        shutil.copy2(source, target)


def _records_of(shard: Path, participants: set[str]):
    import tensorflow as tf

    field = {"participant": tf.io.FixedLenFeature([], tf.string)}
    for record in tf.data.TFRecordDataset(str(shard)).as_numpy_iterator():
        of = tf.io.parse_single_example(record, field)["participant"].numpy().decode()
        if of in participants:
            yield record


def point(count: int, settings: dict[str, Any]) -> tuple[dict[str, Any], Path]:
    """Train and evaluate on so many patients: figures of the training, and patients.csv."""
    from data_tools.runtime import tensorflow_start

    tensorflow_start.prepare()
    from tf_hypoperfusion import config
    from tf_hypoperfusion.evaluation import plan, run
    from tf_hypoperfusion.training import run_summary, trainer

    folder = Path(FLAGS.out) / str(count)
    folder.mkdir(parents=True, exist_ok=True)
    places = folder / "records", folder / "run"
    manifest = fewer_patients(
        Path(FLAGS.records), places[0], fold=FLAGS.fold, count=count, seed=FLAGS.seed
    )
    configs = config.from_json(settings, f"{FLAGS.run}/fold-{FLAGS.fold}/config.json")
    slabs = sum(manifest.subsets[k].slabs for k in settings["subsets"]["train"])
    steps = settings["steps_per_epoch"] * configs.training.epochs
    steps_per_epoch = slabs // configs.training.batch_size
    if not steps_per_epoch:
        raise InputError(f"{count} patients have {slabs} slabs: fewer than a batch")
    training = dataclasses.replace(
        configs.training, **settings["resolved"], epochs=max(1, round(steps / steps_per_epoch))
    )
    print(f"{count} patients, {slabs} slabs: {training.epochs} epochs of {steps_per_epoch} steps")
    options = trainer.RunOptions(overlay_epochs=0)
    atomic.check_writable(places[1])
    with atomic.one_writer(places[1] / f"fold-{FLAGS.fold}"):
        done = trainer.train_fold(
            *places, FLAGS.fold, configs._replace(training=training), options=options
        )
        run_summary.write(places[1])
    run.evaluate(
        plan.Settings(run=str(places[1]), records=str(places[0]), fold=str(FLAGS.fold), maps=False)
    )
    figures: dict[str, Any] = {"steps": steps_per_epoch * training.epochs}
    if done.best_loss is not None:
        figures["best loss"] = round(done.best_loss, 4)
    return figures, places[1] / "patients.csv"


def main() -> None:
    """Train all points and print the curve."""
    import pandas as pd

    from benchmarks import beside

    atomic.check_writable(FLAGS.out)
    settings = atomic.read_json(Path(FLAGS.run) / f"fold-{FLAGS.fold}/config.json")
    if not settings:
        raise InputError(f"{FLAGS.run}/fold-{FLAGS.fold} has no config.json; train the fold first")
    table = tables.Tables(f"{FLAGS.out}/learning_curve.csv", ["tensorflow", "keras", "numpy"])
    found = [(count, *point(count, settings)) for count in sorted(set(FLAGS.patients))]
    whole = Path(FLAGS.run) / "patients.csv"
    ours = pd.read_csv(whole if whole.is_file() else found[-1][2])
    ours = ours[ours["fold"] == FLAGS.fold]
    rows = [
        figures | beside.run_line(f"{count} patients", ours, pd.read_csv(csv))
        for count, figures, csv in found
    ]
    if whole.is_file():
        rows.append(beside.run_line("all", ours, ours))
    table.show("Learning curve; gain: of the last line, patient by patient", rows)


if __name__ == "__main__":
    sys.exit(command.run(main, FLAGS, __doc__))
