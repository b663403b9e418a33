"""Fit folds of a run, each from where a run before stopped: checked first, then trained.

A fold's folder: ``config.json`` (settings and where they came from), ``best.keras`` (lowest
validation loss, for inference), ``history.csv``, ``tensorboard/``, and ``state.npz`` (everything
needed to go on, exactly, in the middle of an epoch too; see
:mod:`tf_hypoperfusion.training.checkpoint`).
"""

import contextlib
import dataclasses
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

from data_tools import records, subset_table
from data_tools.manifest import Manifest
from data_tools.runtime import atomic, errors
from data_tools.runtime.errors import InputError
from tf_hypoperfusion.config import Configs, TrainingConfig
from tf_hypoperfusion.training import (
    distribution,
    fold_errors,
    history,
    memory,
    precision,
    randomisation,
    resume,
    roles,
    run_summary,
    step,
)
from tf_hypoperfusion.training.fold_run import FoldRun, RunOptions
from tf_hypoperfusion.training.history import MONITOR
from tf_hypoperfusion.training.input_pipeline import too_few_slabs
from tf_hypoperfusion.training.optimizers import try_optimizer
from tf_hypoperfusion.training.resume import FoldOnDisk
from tf_hypoperfusion.training.settings import FoldSettings, Resolved
from tf_hypoperfusion.training.step_interface import BuildStep


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainedFold:
    """What became of a fold.

    Attributes:
        fold: its number; None for the final network.
        folder: with ``best.keras``.
        epochs: done in all.
        trained: of these by this call; 0 if the fold was finished before.
        best_epoch: that of the lowest validation loss, from 1; the last one of the final network.
        best_loss: that loss; None for the final network.
        best_dice: of the validation patients in that epoch; None for the final network, NaN if
            they have no lesion and none was found.
    """

    fold: int | None
    folder: Path
    epochs: int
    trained: int
    best_epoch: int
    best_loss: float | None
    best_dice: float | None


def check(
    config: TrainingConfig, options: RunOptions, manifest: Manifest, fold: int | None
) -> None:
    """Refuse what cannot be, before a folder is made or an old fold thrown away.

    Raises:
        InputError: unknown optimizer, option, randomisation or word for the cache, precision that
            the machine does not have, a batch that the devices cannot share or the slabs cannot
            fill, or nothing to learn.
    """
    parts = roles.of(fold, len(manifest.subsets))
    _check_lesions(manifest, fold, parts)
    slabs = sum(manifest.subsets[k].slabs for k in parts["train"])
    if slabs < config.batch_size:
        raise too_few_slabs(slabs, config.batch_size)
    try_optimizer(config)
    randomisation.parse(config.randomisation)
    precision.choose_precision(config.precision)
    strategy = options.strategy or distribution.choose_strategy()
    distribution.choose_micro_batch(config.micro_batch, config.batch_size, strategy)
    memory.check_cache_word(options.cache)


def _check_lesions(manifest: Manifest, fold: int | None, parts: dict[str, list[int]]) -> None:
    for role, what in (("train", "training"), ("validation", "validation")):
        if parts[role] and not subset_table.has_lesion(manifest.rows_of(parts[role])):
            numbers = " and ".join(map(str, parts[role]))
            raise InputError(
                f"{roles.in_words(fold)} has no lesion in its {what} patients (subset {numbers}), "
                "so there is nothing to learn or to choose by. Train another fold, or build the "
                "records again with another --seed, fewer --folds, or patients with lesions."
            )


def train_folds(
    records_dir: str | Path,
    run: str | Path,
    folds: Sequence[int | None],
    configs: Configs,
    *,
    overwrite: bool,
    options: RunOptions,
    build_step: BuildStep = step.build,
) -> Iterator[TrainedFold]:
    """Train folds one after the other, after what can be checked of all; keep ``summary.json``.

    Args:
        records_dir: what ``data_tools.build_records`` wrote.
        run: the run's folder.
        folds: their numbers, from 0; None for the final network.
        configs: settings of all of them.
        overwrite: throw begun or finished folds away.
        options: where they run and how they are watched.
        build_step: see :func:`train_fold`.

    Yields:
        What became of each, in the process that writes.

    Raises:
        InputError: as of :func:`train_fold`; another process writes to a fold.
        KeyboardInterrupt: as of :func:`train_fold`.
    """
    strategy = options.strategy or distribution.choose_strategy()
    options = dataclasses.replace(options, strategy=strategy)
    manifest = records.load_manifest(records_dir)
    unfinished = list(folds)
    for fold in folds:
        check(configs.training, options, manifest, fold)
        if not overwrite:  # a damaged third fold is found before the first is trained
            settings = FoldSettings.of(run, fold, configs, manifest)
            rows = resume.read(roles.folder(run, fold), settings).rows
            if history.finished(rows, configs.training.epochs, configs.training.patience):
                unfinished.remove(fold)
    chief = distribution.is_chief(strategy)
    if chief:
        atomic.check_writable(run)
    for fold in folds:
        folder = roles.folder(run, fold)
        if fold in unfinished:
            unfinished.remove(fold)
            options = dataclasses.replace(options, folds_after=len(unfinished))
        with atomic.one_writer(folder) if chief else contextlib.nullcontext():
            try:
                trained = train_fold(
                    records_dir,
                    run,
                    fold,
                    configs,
                    overwrite=overwrite,
                    options=options,
                    build_step=build_step,
                )
            finally:
                if chief and folder.is_dir():
                    run_summary.write(run)
        if chief:
            yield trained


def train_fold(
    records_dir: str | Path,
    run: str | Path,
    fold: int | None,
    configs: Configs,
    *,
    overwrite: bool = False,
    options: RunOptions | None = None,
    build_step: BuildStep = step.build,
) -> TrainedFold:
    """Train a fold to its last epoch, resuming if it was begun.

    Args:
        records_dir: what ``data_tools.build_records`` wrote.
        run: the run's folder; the fold gets ``run/fold-N``, the final network ``run/final``.
        fold: its number, from 0: subset ``fold`` is kept for testing, the next one validates. None
            trains on all of them.
        configs: settings; a begun fold must have the same.
        overwrite: throw a begun or finished fold away.
        options: where it runs and how it is watched.
        build_step: makes network, loss and optimizer; another one than the default is for tests.

    Raises:
        InputError: no records, other settings than before, a batch that does not divide, a loss
            that is not finite, a disk that refuses, a damaged shard.
        KeyboardInterrupt: stopped by a signal (see :mod:`tf_hypoperfusion.training.signals`); the
            state was saved.
    """
    options = options or RunOptions()
    strategy = options.strategy or distribution.choose_strategy()
    options = dataclasses.replace(options, strategy=strategy)
    manifest = records.load_manifest(records_dir)
    check(configs.training, options, manifest, fold)
    folder = roles.folder(run, fold)
    settings = FoldSettings.of(run, fold, configs, manifest)
    _agree(  # and wait for the chief
        strategy,
        [settings.to_json(), overwrite],
        "the workers were started with different settings or records; expected the same command "
        "on every machine",
    )
    # An old fold is thrown away where the new one begins to write, after every check.
    on_disk = FoldOnDisk() if overwrite else resume.read(folder, settings)
    rows = on_disk.rows
    _agree(
        strategy,
        [on_disk.progress.epochs, on_disk.progress.step, len(rows), on_disk.resolved],
        f"the workers do not see the same {folder}; expected a file system that they share",
    )
    config = configs.training
    last = min(config.epochs, options.stop_after_epoch or config.epochs)
    if not history.finished(rows, last, config.patience):
        try:
            config = resolve(
                settings, on_disk.resolved, strategy, manifest, precision_by=options.precision_by
            )
            _check_shards(records_dir, manifest, settings)
            rows = FoldRun(
                folder,
                settings,
                config,
                on_disk,
                records_dir=records_dir,
                manifest=manifest,
                strategy=strategy,
                options=options,
                overwrite=overwrite,
                build_step=build_step,
            ).fit(last)
        except tf.errors.OpError as error:
            explained = _explained(error, folder, config)
            raise explained or records.explain_read_error(error, records_dir, manifest) from error
    best = history.best_row(rows)
    assert best is not None
    return TrainedFold(
        fold=fold,
        folder=folder,
        epochs=len(rows),
        trained=len(rows) - len(on_disk.rows),
        best_epoch=int(best["epoch"]),
        best_loss=best.get(MONITOR),
        best_dice=best.get("val_dice"),
    )


def resolve(
    settings: FoldSettings,
    before: Resolved | None,
    strategy: tf.distribute.Strategy,
    manifest: Manifest,
    *,
    precision_by: str = "as set",
) -> TrainingConfig:
    """Fill in what was left to the machine, as the start before did.

    Args:
        settings: of the fold.
        before: what the start before chose; None if this is the first.
        strategy: shares the batches.
        manifest: of the records.
        precision_by: who set the precision, where it was not left to the machine.

    Raises:
        InputError: this machine cannot do that, or the workers' machines would not do the same.
    """
    wanted = settings.training
    chosen, reason = precision.choose_precision(before.precision if before else wanted.precision)
    if wanted.precision != precision.AUTO:
        reason = precision_by
    fitting = memory.fitting_slabs(
        memory.bytes_per_slab(settings.model),
        memory.shuffled_bytes(manifest, settings.subsets["train"]),
    )
    micro_batch = distribution.choose_micro_batch(
        wanted.micro_batch or (before.micro_batch if before else 0),
        wanted.batch_size,
        strategy,
        fitting,
    )
    devices = strategy.num_replicas_in_sync
    if distribution.is_chief(strategy):
        if settings.parent:
            print(f"{roles.in_words(settings.fold)} begins with {settings.parent.in_words()}")
        parts = wanted.batch_size // devices // micro_batch
        print(
            f"{chosen} ({'as begun' if before else reason}); batch of {wanted.batch_size} "
            f"on {errors.counted(devices, 'device')}"
            + (f", {parts} micro-batches of {micro_batch} each" if parts > 1 else "")
        )
        for warning in _warnings(settings, before, micro_batch, fitting):
            print(f"WARNING: {warning}", file=sys.stderr)
    _agree(
        strategy,
        [chosen, micro_batch],
        "the workers' machines differ in arithmetic or memory; give --precision and --micro_batch, "
        "so that all do the same",
    )
    return dataclasses.replace(wanted, precision=chosen, micro_batch=micro_batch)


def _warnings(
    settings: FoldSettings, before: Resolved | None, micro_batch: int, fitting: int | None
) -> Iterator[str]:
    """What the user should know of the micro-batch."""
    if fitting is not None and micro_batch > fitting:
        advice = "" if micro_batch == 1 else "; --micro_batch=N with a smaller divisor takes less"
        yield (
            f"micro-batches of {micro_batch} may not fit into the free memory, which holds "
            f"{errors.counted(fitting, 'slab')} safely. The system may kill the training{advice}."
        )
    batch_moments = settings.model.normalisation == "batch" and not settings.training.keeps_moments
    if before and micro_batch != before.micro_batch and batch_moments:
        yield (
            f"the fold was begun with micro-batches of {before.micro_batch}. From here on "
            f"BatchNormalization's moments are those of {errors.counted(micro_batch, 'slab')}, so "
            "its weights will not be those of an uninterrupted run; config.json notes it."
        )


def _agree(strategy: tf.distribute.Strategy, what: Any, otherwise: str) -> None:
    if not distribution.agree(strategy, what):
        raise InputError(otherwise)


def _check_shards(records_dir: str | Path, manifest: Manifest, settings: FoldSettings) -> None:
    wanted = [*settings.subsets["train"], *settings.subsets["validation"]]
    damaged = records.damaged_shards(records_dir, manifest, wanted)
    if damaged:
        raise records.damage(records_dir, damaged)


def _explained(error: tf.errors.OpError, folder: Path, config: TrainingConfig) -> InputError | None:
    """What to do about memory, disk or a lost worker; None if it is about none of them."""
    if isinstance(error, tf.errors.ResourceExhaustedError):
        if "space" in str(error) or "write" in str(error):  # TensorBoard's files, not memory
            return fold_errors.refused(folder / "tensorboard", str(error))
        return InputError(
            f"the device's memory does not hold {config.micro_batch or config.batch_size} slabs at "
            f"once: {_reason(error)}. Run the same command again with --micro_batch=N, a smaller "
            "divisor of the batch: it goes on from the last saved state."
        )
    if isinstance(error, tf.errors.UnavailableError):
        return InputError(
            f"another worker was lost ({_reason(error)}); start all workers again with the same "
            "command: training goes on from the last saved state"
        )
    return None


def _reason(error: tf.errors.OpError) -> str:
    """TensorFlow's first line that says something."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = (x for x in lines if not x.startswith(("Graph execution", "Detected at", "<stack")))
    return next(telling, type(error).__name__)[:200]
