"""Train one fold of the attention U-Net.

    python -m tf_hypoperfusion.train --fold=0 --records=records --run=runs/demo --preset=small

Fold i tests on subset i, validates on subset (i + 1) mod 5 and trains on the other three. The
model with the lowest validation loss is kept as RUN/fold-N/best.keras. Interrupted, the same
command goes on after the last whole epoch. Watch it with:

    tensorboard --logdir=runs
"""

import sys

from absl import flags

from data_tools import command

FLAGS = flags.FlagValues()
flags.DEFINE_integer("fold", None, "Fold, 0 to 4.", required=True, flag_values=FLAGS)
flags.DEFINE_string("records", "records", "Folder of data_tools.build_records.", flag_values=FLAGS)
flags.DEFINE_string("run", "runs/default", "Folder of this run.", flag_values=FLAGS)
flags.DEFINE_string(
    "preset",
    "paper",
    "paper (as published), small (minutes on a CPU) or "
    "tiny (tests); the flags below change single values.",
    flag_values=FLAGS,
)
flags.DEFINE_integer("epochs", None, "Passes over the training slabs.", flag_values=FLAGS)
flags.DEFINE_integer("batch_size", None, "Slabs per step, over all devices.", flag_values=FLAGS)
flags.DEFINE_float("learning_rate", None, "At the start.", flag_values=FLAGS)
flags.DEFINE_integer("base_filters", None, "Channels of the first level.", flag_values=FLAGS)
flags.DEFINE_float("dropout", None, "Share of channels dropped, 0 to 1.", flag_values=FLAGS)
flags.DEFINE_string("precision", None, "float32 or bfloat16.", flag_values=FLAGS)
flags.DEFINE_integer("seed", None, "Of weights, order, mirror, dropout.", flag_values=FLAGS)
flags.DEFINE_bool("overwrite", False, "Train anew, even a finished fold.", flag_values=FLAGS)


def main() -> int:
    """Run the command."""
    from data_tools.splits import fold_roles
    from tf_hypoperfusion import config

    fold_roles(FLAGS.fold)  # refuses an unknown fold

    model, training = config.preset(
        FLAGS.preset,
        epochs=FLAGS.epochs,
        batch_size=FLAGS.batch_size,
        learning_rate=FLAGS.learning_rate,
        base_filters=FLAGS.base_filters,
        dropout=FLAGS.dropout,
        precision=FLAGS.precision,
        seed=FLAGS.seed,
    )
    # These start TensorFlow (3 s): only after the flags are known good.
    from data_tools import atomic, records

    records.load_manifest(FLAGS.records)
    from tf_hypoperfusion import trainer

    atomic.check_writable(FLAGS.run)
    with atomic.one_writer(f"{FLAGS.run}/fold-{FLAGS.fold}"):
        result = trainer.train_fold(
            FLAGS.records, FLAGS.run, FLAGS.fold, model, training, FLAGS.overwrite
        )
    what = f"trained {result['trained']} epochs" if result["trained"] else "was finished before"
    print(
        f"fold {FLAGS.fold} {what}; best validation loss {result['best_loss']:.4f} in epoch "
        f"{result['best_epoch']} of {result['epochs']}: {result['folder']}/best.keras"
    )
    return command.EXIT_OK


if __name__ == "__main__":
    sys.exit(command.run(main, FLAGS, __doc__))
