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
from typing import TYPE_CHECKING, Any

from absl import flags

from data_tools.runtime import command
from tf_hypoperfusion import config

if TYPE_CHECKING:
    from data_tools.manifest import Manifest

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


def settings() -> tuple[Any, Any]:
    """Model and training config from the flags.

    Raises:
        InputError: flags that contradict each other or the file, or a value out of range.
    """
    import json
    from pathlib import Path

    from data_tools.runtime.errors import InputError

    given = {name: FLAGS[name].value for name in _SETTINGS if FLAGS[name].value is not None}
    switched = {field: flag for flag, (field, _) in _SWITCHES.items() if FLAGS[flag].value}
    given |= dict.fromkeys(switched, False)
    if FLAGS.config is None:
        return config.preset(FLAGS.preset or "paper", **given)
    if FLAGS.preset is not None:
        raise InputError("--preset contradicts --config, which has all values; give one of them")
    path = Path(FLAGS.config)
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"--config={path}: cannot be read ({error})") from error
    if not isinstance(content, dict):
        raise InputError(f"--config={path}: expected the config.json of a training run")
    model, training = config.from_json(content, str(path))
    # The machine's choices are repeated too, but another machine may need others.
    resolved = content.get("resolved")
    machine: dict[str, Any] = {k: v for k, v in given.items() if k in ("precision", "micro_batch")}
    if isinstance(resolved, dict):
        resolved = {k: resolved.get(k, getattr(training, k)) for k in ("precision", "micro_batch")}
        training = _replaced(training, resolved, str(path))
    training = dataclasses.replace(training, **machine)
    both = dataclasses.asdict(model) | dataclasses.asdict(training)
    wrong = [
        f"--{switched[k]} ({k} is {both[k]} in the file)"
        if k in switched
        else f"--{k}={v} ({both[k]} in the file)"
        for k, v in given.items()
        if both[k] != v
    ]
    if wrong:
        raise InputError(
            f"{', '.join(wrong)} contradict(s) --config={path}, which repeats a run as it was; "
            "leave the flags out, or edit a copy of the file"
        )
    return model, training


def _replaced(training: Any, values: dict[str, Any], where: str) -> Any:
    """A training config with values of the right kind.

    Raises:
        InputError: a value is of another kind or out of range.
    """
    from data_tools.runtime.errors import InputError

    for name, value in values.items():
        if type(value) is not type(getattr(training, name)):
            raise InputError(f"{where}: resolved.{name} is {value!r}; expected a value as written")
    return dataclasses.replace(training, **values)


def main() -> int:
    """Run the command."""
    from data_tools.runtime.errors import InputError
    from data_tools.splits import SUBSETS, fold_roles

    if FLAGS.fold == "all":
        folds = list(range(SUBSETS))
    elif FLAGS.fold.isascii() and FLAGS.fold.isdigit() and len(FLAGS.fold) < 9:
        folds = [int(FLAGS.fold)]
        fold_roles(folds[0])  # refuses an unknown fold
    else:
        raise InputError(f"fold is {FLAGS.fold!r}; expected 0 to {SUBSETS - 1}, or all")
    if not FLAGS.save_minutes >= 0 or FLAGS.overlay_epochs < 0:
        raise InputError("--save_minutes and --overlay_epochs are 0 or more")
    if not FLAGS.run.strip():
        raise InputError("--run is empty; expected a folder")
    model, training = settings()
    # These start TensorFlow (3 s): only after the flags are known good.
    from data_tools import records
    from data_tools.runtime import atomic

    manifest = records.load_manifest(FLAGS.records)
    _check_same_records(manifest)
    import contextlib
    from pathlib import Path

    from tf_hypoperfusion.training import distribution, run_summary, trainer

    surroundings = trainer.Surroundings(
        strategy=distribution.choose_strategy(FLAGS.strategy),
        cache=FLAGS.cache,
        save_minutes=FLAGS.save_minutes,
        overlay_epochs=FLAGS.overlay_epochs,
        profile=FLAGS.profile,
    )
    for fold in folds:
        trainer.check(training, surroundings, manifest, fold)
        if not FLAGS.overwrite:  # a damaged third fold is found before the first is trained
            trainer.read_begun(FLAGS.run, manifest, fold, model, training)
    chief = distribution.is_chief(surroundings.strategy)
    if chief:
        atomic.check_writable(FLAGS.run)
    for fold in folds:
        folder = f"{FLAGS.run}/fold-{fold}"
        with atomic.one_writer(folder) if chief else contextlib.nullcontext():
            try:
                result = trainer.train_fold(
                    FLAGS.records, FLAGS.run, fold, model, training, FLAGS.overwrite, surroundings
                )
            finally:
                if chief and Path(folder).is_dir():
                    run_summary.write(FLAGS.run)
        if chief:
            trained = f"trained {result['trained']} epochs"
            print(
                f"fold {fold} {trained if result['trained'] else 'was finished before'}; best "
                f"validation loss {result['best_loss']:.4f} in epoch {result['best_epoch']} of "
                f"{result['epochs']}: {result['folder']}/best.keras",
                flush=True,
            )
    return command.EXIT_OK


def _check_same_records(manifest: "Manifest") -> None:
    """Say so if --config is repeated on other patients: never silently."""
    if FLAGS.config is None:
        return
    import json
    from pathlib import Path

    before = json.loads(Path(FLAGS.config).read_text()).get("records")
    before = before.get("fingerprint") if isinstance(before, dict) else None
    if before != manifest.fingerprint:
        print(
            f"WARNING: the records in {FLAGS.records} are not those of {FLAGS.config}; its "
            "settings are repeated on other data",
            file=sys.stderr,
        )


if __name__ == "__main__":
    sys.exit(command.run(main, FLAGS, __doc__))
