"""Train folds of the attention U-Net.

    python -m tf_hypoperfusion.train --fold=0   --records=records --run=runs/mine
    python -m tf_hypoperfusion.train --fold=all --records=records --run=runs/mine
    python -m tf_hypoperfusion.train --fold=2 --config=runs/mine/fold-0/config.json --run=runs/b

Fold i tests on subset i, validates on the next one (the last fold on subset 0) and trains on the
others; there are as many folds as the records have subsets. The model with the lowest validation
loss is kept as RUN/fold-N/best.keras, every value and where it came from in
RUN/fold-N/config.json, and RUN/summary.json collects the folds, finished or not.
--fold=final trains on all subsets, without validation, for --epochs or, without it, for the
median of the best epochs of the run's finished folds. The last weights are RUN/final/best.keras.

Killed, the same command goes on from the last saved state: after each epoch, every ten minutes
(--save_minutes), and when asked to stop: by Ctrl-C, SIGTERM or a closed terminal (exit status 130),
or by SIGUSR1, as a scheduler sends it before it requeues a job (75). A finished fold is left as it
is; only --overwrite throws it, or what there is of it, away.

--preset=paper (the default) has the paper's values; where the paper is silent, those of its
authors' earlier 2D code, or ours. docs/reference/settings.md says whose each is. Flags under
"Beyond the paper" are off in it.
A batch that the memory does not hold is taken in micro-batches of the same gradient; only
BatchNormalization sees the difference. A begun fold keeps its micro-batch, unless --micro_batch
says otherwise. Watch the curves and pictures with:

    tensorboard --logdir=runs
"""

import dataclasses
import shlex
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags

from data_tools import splits
from data_tools.runtime import command, flag_texts
from data_tools.runtime.errors import InputError, counted
from tf_hypoperfusion import config
from tf_hypoperfusion.training import parents, repeat, roles, run_summary, signals

FLAGS = flags.FlagValues()
# Of a network that calls everything or next to nothing hypoperfused.
NOTHING_LEARNT_DICE = 0.05
_PAPER = {k: v for part in config.PRESETS["paper"] for k, v in dataclasses.asdict(part).items()}
_DEFINE: dict[type, Any] = {
    int: flags.DEFINE_integer,
    float: flags.DEFINE_float,
    str: flags.DEFINE_string,
    bool: flags.DEFINE_bool,
}
# Flags of the same name as a field of either config.
_SETTINGS: list[str] = []
_SWITCHES = {
    "no_nihss": ("nihss_fusion", "Hide the NIHSS from the network."),
    "no_side": ("side_channel", "Hide the side of the stroke from the network."),
    "no_gates": ("attention_gates", "Pass the skip connections without attention gates."),
}


def _setting(name: str, text: str) -> None:
    """A flag for one field of the configs; not given, the preset's or --config's value stays."""
    paper = _PAPER[name]
    text = f"{text} (preset paper: {flag_texts.as_written(paper)})"
    _DEFINE[type(paper)](name, None, text, flag_values=FLAGS)
    _SETTINGS.append(name)


command.heading("What to train", FLAGS)
flags.DEFINE_string(
    "fold",
    None,
    "<N|all|final> A number from 0 up; all, as many as the records have subsets; or final: one "
    "network of all subsets.",
    required=True,
    flag_values=FLAGS,
)
flags.DEFINE_string(
    "records", "records", "<FOLDER> Records written by data_tools.build_records.", flag_values=FLAGS
)
flags.DEFINE_string("run", "runs/default", "<FOLDER> Folder of this run.", flag_values=FLAGS)
flags.DEFINE_bool(
    "overwrite", False, "Retrain from scratch, even a finished fold.", flag_values=FLAGS
)

command.heading("Settings", FLAGS)
flags.DEFINE_string(
    "preset",
    None,
    "<NAME> paper (the default: the paper's values, and where it is silent its authors' earlier "
    "code's or ours), paper_tight (without the margin around the brain), small (minutes on a CPU), "
    "demonstration (as the five folds of RESULTS.md), few_patients (trains the demonstration "
    "model, or the one of --init_from, further on a lab's own) or tiny (for tests). Other flags "
    "change single values.",
    flag_values=FLAGS,
)
flags.DEFINE_string(
    "config", None, "<FILE> Repeat a run from its config.json, instead of a preset.",
    flag_values=FLAGS,
)  # fmt: skip
_setting(
    "frame",
    "<COLUMNSxROWS> Compute so much of the padded slices, about the brain: 80x104 is half the "
    "work; 80x112 halves four times. Networks trained before have 96x112.",
)
_setting("epochs", "Passes over the training slabs.")
_setting("batch_size", "Slabs per optimizer step, over all devices.")
_setting(
    "optimizer",
    "<NAME> A Keras optimizer (adam, adamw, lion...) or, with the extra addons, one of "
    "tensorflow-addons (ranger, radam, lamb...). Options are written as in 'sgd(momentum=0.9)'.",
)
_setting("learning_rate", "Learning rate at the start.")
_setting("final_learning_rate_ratio", "The learning rate decays to this share of its start.")
_setting("bce_weight", "Weight of the cross entropy in the loss.")
_setting("dice_weight", "Weight of the Dice loss.")
_setting("volume_weight", "Weight of the relative volume error.")
_setting("base_filters", "Channels of the first level.")
_setting("dropout", "Share of channels dropped, 0 to 1.")
_setting("mirror", "Mirror half the slabs left to right, and their side with them.")
_setting("seed", "Seed of weights, order, mirroring, random changes and dropout.")

command.heading("Beyond the paper", FLAGS)
_setting("warmup_epochs", "Epochs during which the learning rate first rises linearly.")
_setting("ema_momentum", "Keep a moving average of the weights with this momentum; try 0.99.")
_setting("patience", "Stop after this many epochs without a better one; 0 never stops early.")
_setting(
    "init_from",
    "<MODEL> Begin with trained weights: a best.keras; a run's folder, fold k with its fold k; an "
    "export (saved_models/NAME), fold k with its network k; or demo, the demonstration model. "
    "EXPORT#1 is its network 1 for every fold, RUN#1 its fold 1. Settings of the network that are "
    "not given are taken from there. What the network has more than that one begins at rest.",
)
_setting(
    "freeze",
    "Train only the layers that the network of --init_from does not have, as the core's answer.",
)
_setting(
    "fixed_moments",
    "With --init_from: normalise by the moments of that network, without dropout. For small "
    "batches.",
)
_setting(
    "scales_only",
    "With --init_from: train only the scales and offsets of normalisation, and the layers that "
    "answer. For few patients.",
)
for _part in config.PARTS:
    _setting(f"{_part}_rate", f"Share of the learning rate for the {_part}; 0 freezes it.")
_setting("presence_flags", "Tell the network which of DWI, ADC, side and NIHSS are given.")
_setting(
    "contrast_channels",
    "<NAME> Channels that no uneven brightness moves: local (DWI and ADC over their mean within "
    "9 cm), mirror (over the other side), local+mirror, or none.",
)
_setting("core_output", "Learn the core too, as a second answer.")
_setting("core_weight", "Weight of the core in the loss, where it is learnt.")
_setting(
    "randomisation",
    "<NAMES> Change training slabs at random: light, wide, or single parts: bias, contrast, noise, "
    "adc, place, mask, and inputs, which leaves inputs out. Join them with +, as in light+inputs.",
)

command.heading("Ablations", FLAGS)
for _name, (_, _help) in _SWITCHES.items():
    flags.DEFINE_bool(_name, False, _help, flag_values=FLAGS)

command.heading("Machine", FLAGS)
flags.DEFINE_string(
    "strategy",
    "mirrored",
    "<NAME> mirrored: the GPUs of this machine, or its CPU. multiworker: several machines; start "
    "one process on each, with TF_CONFIG or by srun, on a shared file system.",
    flag_values=FLAGS,
)
_setting(
    "precision", "<NAME> auto (bfloat16 where the machine has it), float32, bfloat16 or float16."
)
_setting(
    "micro_batch",
    "Slabs that one device holds at once; 0 takes as many as fit in memory, or as the fold began "
    "with.",
)
flags.DEFINE_string(
    "cache", "auto", "<auto|on|off> Hold the records in memory; auto does if they fit.",
    flag_values=FLAGS,
)  # fmt: skip

command.heading("Saving and watching", FLAGS)
flags.DEFINE_float(
    "save_minutes", 10.0, "<MINUTES> How often to save within an epoch.", flag_values=FLAGS
)
flags.DEFINE_integer(
    "overlay_epochs",
    5,
    "Draw pictures for TensorBoard every so many epochs; 0 draws none.",
    flag_values=FLAGS,
)
flags.DEFINE_bool("profile", False, "Profile steps 10 to 20 for TensorBoard.", flag_values=FLAGS)


def settings() -> config.Configs:
    """Model and training config from the flags.

    Raises:
        InputError: flags that contradict each other or the file, or a value out of range.
    """
    given = {name: FLAGS[name].value for name in _SETTINGS if FLAGS[name].value is not None}
    if FLAGS.init_from is not None and not FLAGS.init_from.strip():
        raise InputError(
            "--init_from is empty; expected a trained network, or the flag left out to begin with "
            "drawn weights"
        )
    switched = {field: flag for flag, (field, _) in _SWITCHES.items() if FLAGS[flag].value}
    given |= dict.fromkeys(switched, False)
    if FLAGS.config is None:
        configs = config.preset(FLAGS.preset or "paper", **given)
        if not configs.training.init_from:
            return configs
        first = None if FLAGS.fold == roles.FINAL else int(FLAGS.fold.replace("all", "0"))
        return parents.with_architecture(configs, first, given)
    if FLAGS.preset is not None:
        raise InputError("--preset contradicts --config, which has all values; give one of them")
    return repeat.configs_of(Path(FLAGS.config), given, switched)


def main() -> int:
    """Run the command."""
    signals.stop_at_once()
    splits.check_fold(FLAGS.fold)
    if not FLAGS.save_minutes >= 0 or FLAGS.overlay_epochs < 0:
        raise InputError("--save_minutes and --overlay_epochs are 0 or more")
    if not FLAGS.run.strip():
        raise InputError("--run is empty; expected a folder")
    configs = settings()
    if FLAGS.fold == roles.FINAL and FLAGS.epochs is None:
        found = _best_epochs()
        configs = configs._replace(
            training=dataclasses.replace(configs.training, epochs=round(statistics.median(found)))
        )
    # These start TensorFlow (3 s): only after the flags are known good.
    from data_tools import records, subset_table
    from tf_hypoperfusion.model import devices

    devices.announce()
    if FLAGS.fold == roles.FINAL and FLAGS.epochs is None:
        _say_best_epochs(found)
    manifest = records.load_manifest(FLAGS.records)
    subsets = range(len(manifest.subsets))
    folds = splits.parse_folds(FLAGS.fold, len(subsets))
    if FLAGS.config and repeat.records_fingerprint(Path(FLAGS.config)) != manifest.fingerprint:
        print(
            f"WARNING: the records in {FLAGS.records} are not those of {FLAGS.config}; its "
            "settings are repeated on other data",
            file=sys.stderr,
        )
    for warning in manifest.warnings:
        print(f"WARNING: {warning}", file=sys.stderr)
    print(subset_table.table([manifest.rows_of([k]) for k in subsets]), flush=True)
    from tf_hypoperfusion.training import distribution, trainer

    options = trainer.RunOptions(
        strategy=distribution.choose_strategy(FLAGS.strategy),
        cache=FLAGS.cache,
        save_minutes=FLAGS.save_minutes,
        overlay_epochs=FLAGS.overlay_epochs,
        profile=FLAGS.profile,
        precision_by=_precision_by(),
    )
    for done in trainer.train_folds(
        FLAGS.records, FLAGS.run, folds, configs, overwrite=FLAGS.overwrite, options=options
    ):
        trained = (
            f"trained {counted(done.trained, 'epoch')}" if done.trained else "was finished before"
        )
        best = f"untested; the weights of epoch {done.epochs}"
        if done.best_loss is not None:
            best = (
                f"best validation loss {done.best_loss:.4f} in epoch {done.best_epoch} of "
                f"{done.epochs}"
            )
        name = roles.in_words(done.fold)
        print(f"{name} {trained}; {best}: {done.folder}/best.keras", flush=True)
        if done.best_dice is not None and done.best_dice < NOTHING_LEARNT_DICE:
            print(
                f"WARNING: {name} has learnt next to nothing: validation Dice {done.best_dice:.3f} "
                "in its best epoch. Look at the curves and overlays in TensorBoard "
                f"(tensorboard --logdir={FLAGS.run}); usual reasons are too few epochs or steps, "
                "a learning rate that is too high, and labels that do not lie on the images.",
                file=sys.stderr,
            )
    _next_steps(folds)
    return command.EXIT_OK


def _precision_by() -> str:
    """Who set the precision, where it was not left to the machine."""
    if FLAGS.precision is not None:
        return "--precision"
    return FLAGS.config or f"preset {FLAGS.preset or 'paper'}"


def _next_steps(folds: Sequence[int | None]) -> None:
    """The curves; test patients for folds, an export for the final network, which has none."""
    if folds == [None]:
        model = f"{FLAGS.run}/final/best.keras"
        run = command.line("export", model=model, name="mine")
    else:
        fold = None if FLAGS.fold == "all" else FLAGS.fold
        run = command.line("evaluate", run=FLAGS.run, records=FLAGS.records, fold=fold)
    command.next_steps(
        look_at=f"tensorboard --logdir={shlex.quote(FLAGS.run)}, then http://localhost:6006",
        run=run,
    )


def _best_epochs() -> list[int]:
    """Of the run's finished folds: the final network is trained for their median."""
    best = run_summary.best_epochs(FLAGS.run)
    if not best:
        raise InputError(
            f"--fold=final takes its epochs from the finished folds of {FLAGS.run}, and there is "
            "none; train them first (--fold=all), or give --epochs"
        )
    return best


def _say_best_epochs(best: list[int]) -> None:
    epochs = round(statistics.median(best))
    print(
        f"{counted(epochs, 'epoch')}: the median of the best epochs of the finished folds, which "
        f"are {', '.join(map(str, sorted(best)))}"
    )
    begun = len(run_summary.fold_numbers(FLAGS.run))
    if len(best) < max(begun, splits.MIN_SUBSETS):
        print(
            f"WARNING: only {counted(len(best), 'fold')} of {FLAGS.run} finished; expected all, so "
            "that the number of epochs does not hang on one",
            file=sys.stderr,
        )


if __name__ == "__main__":
    sys.exit(command.run(main, FLAGS, __doc__))
