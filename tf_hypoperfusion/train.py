"""Train folds of the attention U-Net.

    python -m tf_hypoperfusion.train --fold=0   --records=records --run=runs/mine
    python -m tf_hypoperfusion.train --fold=all --records=records --run=runs/mine
    python -m tf_hypoperfusion.train --fold=2 --config=runs/mine/fold-0/config.json --run=runs/again

Fold i tests on subset i, validates on subset (i + 1) mod 5 and trains on the other three. The
model with the lowest validation loss is kept as RUN/fold-N/best.keras, every value and where it
came from in RUN/fold-N/config.json, and RUN/summary.json collects the folds, finished or not.

Killed, the same command goes on from the last saved state: after each epoch, every ten minutes
(--save_minutes), and when asked to stop (Ctrl-C, SIGTERM). A finished fold is left as it is; only
--overwrite throws it, or what there is of it, away.

--preset=paper (the default) is the paper; flags that say "beyond the paper" are off in it.
A batch that the memory does not hold is taken in micro-batches of the same gradient; only
BatchNormalization sees the difference. Watch the curves and pictures with:

    tensorboard --logdir=runs
"""

import dataclasses
import sys
from pathlib import Path
from typing import Any

from absl import flags

from data_tools.runtime import command
from data_tools.runtime.errors import InputError
from data_tools.splits import SUBSETS, fold_roles
from tf_hypoperfusion import config
from tf_hypoperfusion.training import repeat

FLAGS = flags.FlagValues()
# Settings: None keeps the preset's, or --config's, value.
_SETTINGS = {
    "epochs": (int, "Passes over the training slabs."),
    "batch_size": (int, "Slabs per optimizer step, over all devices."),
    "micro_batch": (int, "Slabs that a device holds at once; 0: as many as the memory allows."),
    "learning_rate": (float, "At the start."),
    "final_learning_rate_ratio": (float, "The decay ends at this share of it."),
    "bce_weight": (float, "Weight of the cross entropy in the loss."),
    "dice_weight": (float, "Weight of the Dice loss."),
    "volume_weight": (float, "Weight of the relative volume error."),
    "base_filters": (int, "Channels of the first level."),
    "dropout": (float, "Share of channels dropped, 0 to 1."),
    "precision": (str, "auto (bfloat16 where the machine has it), float32, bfloat16 or float16."),
    "seed": (int, "Of weights, order, mirror, augmentation, dropout."),
    "optimizer": (
        str,
        "Beyond the paper: a Keras name (adam, adamw, lion...), or with the extra addons one of "
        "tensorflow-addons' (ranger, radam, lamb...); options as in 'sgd(momentum=0.9)'.",
    ),
    "warmup_epochs": (int, "Beyond the paper: epochs of a linear rise of the learning rate."),
    "ema_momentum": (float, "Beyond the paper: keep the moving average of the weights; try 0.99."),
    "patience": (int, "Beyond the paper: stop after so many epochs without a better one."),
    "augment": (bool, "Beyond the paper: small affine, intensity scale and noise."),
    "mirror": (bool, "Left-right mirror of half the slabs, the side with them."),
}
_SWITCHES = {
    "no_nihss": ("nihss_fusion", "Ablation: the network does not see the NIHSS."),
    "no_side": ("side_channel", "Ablation: the network does not see the side."),
    "no_gates": ("attention_gates", "Ablation: skip connections without attention gates."),
}

flags.DEFINE_string("fold", None, "0 to 4, or all.", required=True, flag_values=FLAGS)
flags.DEFINE_string("records", "records", "Folder of data_tools.build_records.", flag_values=FLAGS)
flags.DEFINE_string("run", "runs/default", "Folder of this run.", flag_values=FLAGS)
flags.DEFINE_string(
    "preset",
    None,
    "paper (as published, the default), small (minutes on a CPU), demonstration (the shipped "
    "demonstration model's) or tiny (tests); other flags "
    "change single values.",
    flag_values=FLAGS,
)
flags.DEFINE_string(
    "config", None, "Repeat a run: its config.json, in place of a preset.", flag_values=FLAGS
)
_PAPER = {k: v for part in config.PRESETS["paper"] for k, v in dataclasses.asdict(part).items()}
for _name, (_kind, _help) in _SETTINGS.items():
    _define: Any = {
        int: flags.DEFINE_integer,
        float: flags.DEFINE_float,
        str: flags.DEFINE_string,
        bool: flags.DEFINE_bool,
    }[_kind]
    _define(_name, None, f"{_help} Paper preset: {_PAPER[_name]}.", flag_values=FLAGS)
for _name, (_, _help) in _SWITCHES.items():
    flags.DEFINE_bool(_name, False, _help, flag_values=FLAGS)
flags.DEFINE_string(
    "strategy",
    "mirrored",
    "mirrored: the GPUs of this machine, or its CPU. multiworker: several machines; start one "
    "process on each, with TF_CONFIG or by srun, on a shared file system.",
    flag_values=FLAGS,
)
flags.DEFINE_string(
    "cache", "auto", "Hold the records in memory: auto (if they fit), on, off.", flag_values=FLAGS
)
flags.DEFINE_float("save_minutes", 10.0, "Save within an epoch so often.", flag_values=FLAGS)
flags.DEFINE_integer(
    "overlay_epochs",
    5,
    "Pictures for TensorBoard every so many epochs; 0: none.",
    flag_values=FLAGS,
)
flags.DEFINE_bool("profile", False, "Record steps 10 to 20 for TensorBoard.", flag_values=FLAGS)
flags.DEFINE_bool("overwrite", False, "Train anew, even a finished fold.", flag_values=FLAGS)


def settings() -> config.Configs:
    """Model and training config from the flags.

    Raises:
        InputError: flags that contradict each other or the file, or a value out of range.
    """
    given = {name: FLAGS[name].value for name in _SETTINGS if FLAGS[name].value is not None}
    switched = {field: flag for flag, (field, _) in _SWITCHES.items() if FLAGS[flag].value}
    given |= dict.fromkeys(switched, False)
    if FLAGS.config is None:
        return config.preset(FLAGS.preset or "paper", **given)
    if FLAGS.preset is not None:
        raise InputError("--preset contradicts --config, which has all values; give one of them")
    return repeat.configs_of(Path(FLAGS.config), given, switched)


def main() -> int:
    """Run the command."""
    folds = _folds(FLAGS.fold)
    if not FLAGS.save_minutes >= 0 or FLAGS.overlay_epochs < 0:
        raise InputError("--save_minutes and --overlay_epochs are 0 or more")
    if not FLAGS.run.strip():
        raise InputError("--run is empty; expected a folder")
    configs = settings()
    # These start TensorFlow (3 s): only after the flags are known good.
    from data_tools import records

    manifest = records.load_manifest(FLAGS.records)
    if FLAGS.config and repeat.records_fingerprint(Path(FLAGS.config)) != manifest.fingerprint:
        print(
            f"WARNING: the records in {FLAGS.records} are not those of {FLAGS.config}; its "
            "settings are repeated on other data",
            file=sys.stderr,
        )
    from tf_hypoperfusion.training import distribution, trainer

    options = trainer.RunOptions(
        strategy=distribution.choose_strategy(FLAGS.strategy),
        cache=FLAGS.cache,
        save_minutes=FLAGS.save_minutes,
        overlay_epochs=FLAGS.overlay_epochs,
        profile=FLAGS.profile,
    )
    for done in trainer.train_folds(
        FLAGS.records, FLAGS.run, folds, configs, overwrite=FLAGS.overwrite, options=options
    ):
        trained = f"trained {done.trained} epochs" if done.trained else "was finished before"
        print(
            f"fold {done.fold} {trained}; best validation loss {done.best_loss:.4f} in epoch "
            f"{done.best_epoch} of {done.epochs}: {done.folder}/best.keras",
            flush=True,
        )
    return command.EXIT_OK


def _folds(text: str) -> list[int]:
    if text == "all":
        return list(range(SUBSETS))
    if text.isascii() and text.isdigit() and len(text) < 9:
        fold_roles(int(text))  # refuses an unknown fold
        return [int(text)]
    raise InputError(f"fold is {text!r}; expected 0 to {SUBSETS - 1}, or all")


if __name__ == "__main__":
    sys.exit(command.run(main, FLAGS, __doc__))
