"""Fit one fold, and be able to go on where a killed run stopped.

A fold's folder: ``config.json`` (settings and where they came from), ``best.keras`` (lowest
validation loss, for inference), ``history.csv``, ``tensorboard/``, and ``state.npz`` (everything
needed to go on, exactly, in the middle of an epoch too; see
:mod:`tf_hypoperfusion.training.checkpoint`).
"""

import contextlib
import dataclasses
import math
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from data_tools import records, splits
from data_tools.manifest import Manifest
from data_tools.runtime import atomic
from data_tools.runtime.errors import InputError
from tf_hypoperfusion import provenance
from tf_hypoperfusion.config import ModelConfig, TrainingConfig
from tf_hypoperfusion.model.attention_unet import build_model
from tf_hypoperfusion.model.keras_compat import dropout_state, optimizer_state, to_numpy
from tf_hypoperfusion.training import (
    checkpoint,
    distribution,
    epoch_metrics,
    history,
    memory,
    resume,
)
from tf_hypoperfusion.training import step as training_step
from tf_hypoperfusion.training.checkpoint import Progress
from tf_hypoperfusion.training.history import MONITOR
from tf_hypoperfusion.training.input_pipeline import (
    Share,
    Slabs,
    evaluation_dataset,
    too_few_slabs,
    training_dataset,
)
from tf_hypoperfusion.training.monitoring import Monitor, Overlays
from tf_hypoperfusion.training.optimizers import learning_rates, try_optimizer
from tf_hypoperfusion.training.precision import choose_precision
from tf_hypoperfusion.training.resume import RESOLVED, BegunFold


@dataclasses.dataclass(frozen=True)
class Surroundings:
    """How a fold is run and watched; changes nothing in what is learned.

    Attributes:
        strategy: None makes a MirroredStrategy for this machine.
        cache: ``auto`` holds the records in memory if they fit; ``on``, ``off``.
        save_minutes: how often the state is saved within an epoch; it always is at its end.
        overlay_epochs: pictures of validation patients every so many epochs; 0: never.
        profile: record steps 10 to 20 for TensorBoard's profile plugin.
        stop_after_epoch: stop early after this many epochs in all, as an interruption would.
    """

    strategy: tf.distribute.Strategy | None = None
    cache: str = "auto"
    save_minutes: float = 10.0
    overlay_epochs: int = 5
    profile: bool = False
    stop_after_epoch: int | None = None


def check(
    config: TrainingConfig, surroundings: Surroundings, manifest: Manifest, fold: int
) -> None:
    """Refuse what cannot be, before a folder is made or an old fold thrown away.

    Raises:
        InputError: unknown optimizer or option, precision that the machine does not have, a batch
            that the devices cannot share or the slabs cannot fill, an unknown word for the cache.
    """
    roles = splits.fold_roles(fold)
    slabs = sum(manifest.subsets[k].slabs for k in roles["train"])
    if slabs < config.batch_size:
        raise too_few_slabs(slabs, config.batch_size)
    try_optimizer(config)
    choose_precision(config.precision)
    strategy = surroundings.strategy or distribution.choose_strategy()
    distribution.choose_micro_batch(config.micro_batch, config.batch_size, strategy)
    memory.check_cache_word(surroundings.cache)


def _settings(
    run: str | Path, manifest: Manifest, fold: int, model: ModelConfig, config: TrainingConfig
) -> dict[str, Any]:
    """What ``config.json`` holds of a fold, and what a begun one must have had."""
    return {
        "run": Path(run).name,
        "fold": fold,
        "model": dataclasses.asdict(model),
        "training": dataclasses.asdict(config),
        "records": {"fingerprint": manifest.fingerprint, "cohort": manifest.cohort},
        "subsets": splits.fold_roles(fold),
    }


def read_begun(
    run: str | Path, manifest: Manifest, fold: int, model: ModelConfig, config: TrainingConfig
) -> BegunFold:
    """What an earlier start left of a fold.

    Raises:
        InputError: it was begun with other settings, or its files are damaged.
    """
    settings = _settings(run, manifest, fold, model, config)
    return resume.read(Path(run) / f"fold-{fold}", settings)


def train_fold(
    records_dir: str | Path,
    run: str | Path,
    fold: int,
    model_config: ModelConfig,
    training_config: TrainingConfig,
    overwrite: bool = False,
    surroundings: Surroundings | None = None,
) -> dict[str, Any]:
    """Train a fold to its last epoch, resuming if it was begun.

    Args:
        records_dir: what ``data_tools.build_records`` wrote.
        run: the run's folder; the fold gets ``run/fold-N``.
        fold: 0 to 4: subset ``fold`` is kept for testing, the next one validates.
        model_config, training_config: settings; a begun fold must have the same.
        overwrite: throw a begun or finished fold away.
        surroundings: where it runs and how it is watched.

    Returns:
        ``folder``, ``epochs``, ``best_epoch``, ``best_loss``, and ``trained`` (epochs of this
        call; 0 if the fold was finished before).

    Raises:
        InputError: no records, other settings than before, a batch that does not divide, a loss
            that is not finite, a disk that refuses, a damaged shard.
        KeyboardInterrupt: stopped by SIGINT or SIGTERM; the state was saved.
    """
    surroundings = surroundings or Surroundings()
    strategy = surroundings.strategy or distribution.choose_strategy()
    surroundings = dataclasses.replace(surroundings, strategy=strategy)
    manifest = records.load_manifest(records_dir)
    check(training_config, surroundings, manifest, fold)
    folder = Path(run) / f"fold-{fold}"
    settings = _settings(run, manifest, fold, model_config, training_config)
    if not distribution.agree(strategy, [settings, overwrite]):  # and wait for the chief
        raise InputError(
            "the workers were started with different settings or records; expected the same "
            "command on every machine"
        )
    # An old fold is thrown away where the new one begins to write, after every check.
    begun = BegunFold() if overwrite else resume.read(folder, settings)
    progress, rows = begun.progress, begun.history
    if not distribution.agree(strategy, [progress.epochs, len(rows), begun.resolved]):
        raise InputError(
            f"the workers do not see the same {folder}; expected a file system that they share"
        )
    epochs_before = len(rows)
    last = training_config.epochs
    if surroundings.stop_after_epoch:
        last = min(last, surroundings.stop_after_epoch)
    if not history.finished(rows, last, training_config.patience):
        micro_batch = training_config.micro_batch
        try:
            fold_run = _FoldRun(
                folder, records_dir, manifest, settings, begun, strategy, surroundings, overwrite
            )
            micro_batch = fold_run.micro_batch
            fold_run.fit(progress, rows, last)
        except tf.errors.ResourceExhaustedError as error:
            if "space" in str(error) or "write" in str(error):  # TensorBoard's files, not memory
                raise checkpoint.refused(folder / "tensorboard", str(error)) from error
            raise InputError(
                "the device's memory does not hold "
                f"{micro_batch or training_config.batch_size} slabs at once: "
                f"{_reason(error)}. Give --micro_batch=N with a smaller divisor "
                "of the batch, and --overwrite."
            ) from error
        except tf.errors.UnavailableError as error:
            raise InputError(
                f"another worker was lost ({_reason(error)}); start all workers "
                "again with the same command: training goes on from the last saved state"
            ) from error
        except tf.errors.OpError as error:
            raise records.explain_read_error(error, records_dir, manifest) from error
    best = history.best_row(rows)
    assert best is not None
    return {
        "folder": str(folder),
        "epochs": len(rows),
        "best_epoch": int(best["epoch"]),
        "best_loss": float(best[MONITOR]),
        "trained": len(rows) - epochs_before,
    }


def _reason(error: tf.errors.OpError) -> str:
    """TensorFlow's first line that says something."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = (x for x in lines if not x.startswith(("Graph execution", "Detected at", "<stack")))
    return next(telling, type(error).__name__)[:200]


class _FoldRun:
    """One start of a fold: the models, the data, and the loop over epochs."""

    def __init__(
        self,
        folder: Path,
        records_dir: str | Path,
        manifest: Manifest,
        settings: dict[str, Any],
        begun: BegunFold,
        strategy: tf.distribute.Strategy,
        surroundings: Surroundings,
        overwrite: bool,
    ):
        self.overwrite = overwrite
        self.folder, self.records_dir, self.manifest = folder, records_dir, manifest
        self.settings, self.strategy, self.surroundings = settings, strategy, surroundings
        self.chief = distribution.is_chief(strategy)
        # Several processes save at the end of an epoch only, where they meet.
        self.alone = not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)
        self.model_config = ModelConfig(**settings["model"])
        self.config = self._resolve(TrainingConfig(**settings["training"]), begun.resolved)
        self.micro_batch = self.config.micro_batch
        if not distribution.agree(strategy, [self.config.precision, self.micro_batch]):
            raise InputError(
                "the workers' machines differ in arithmetic or memory; give --precision and "
                "--micro_batch, so that all do the same"
            )
        damaged = records.damaged_shards(
            records_dir,
            manifest,
            [*settings["subsets"]["train"], *settings["subsets"]["validation"]],
        )
        if damaged:
            raise records.damage(records_dir, damaged)
        self.sessions_before = begun.sessions

    def _resolve(self, wanted: TrainingConfig, before: dict[str, Any]) -> TrainingConfig:
        """Fill in what was left to the machine, as the first start did."""
        precision, reason = choose_precision(before.get("precision", wanted.precision))
        micro_batch = distribution.choose_micro_batch(
            before.get("micro_batch", wanted.micro_batch),
            wanted.batch_size,
            self.strategy,
            memory.fitting_slabs(memory.bytes_per_slab(self.model_config)),
        )
        if self.chief:
            parts = wanted.batch_size // self.strategy.num_replicas_in_sync // micro_batch
            print(
                f"{precision} ({'as begun' if before else reason}); batch of {wanted.batch_size} "
                f"on {self.strategy.num_replicas_in_sync} device(s)"
                + (f", {parts} micro-batches of {micro_batch} each" if parts > 1 else "")
            )
        return dataclasses.replace(wanted, precision=precision, micro_batch=micro_batch)

    def fit(self, progress: Progress, rows: list[dict[str, Any]], last: int) -> None:
        """Train until ``last`` epochs are done, or patience ends; ``rows`` grows."""
        config, roles = self.config, self.settings["subsets"]
        # Before the dataset: tf.data mixes TensorFlow's global seed into its own.
        keras.utils.set_random_seed(config.seed)
        cached = memory.choose_cache(
            self.surroundings.cache, self.manifest, [*roles["train"], *roles["validation"]]
        )
        slabs, validation_slabs = (
            Slabs(self.records_dir, self.manifest, roles[role], cached)
            for role in ("train", "validation")
        )

        def train_dataset(context: tf.distribute.InputContext) -> tf.data.Dataset:
            return training_dataset(
                slabs,
                config.batch_size,
                config.seed,
                config.mirror,
                config.augment,
                progress.epochs,
                progress.step,
                self._share(context),
            )[0]

        def validation_dataset(context: tf.distribute.InputContext) -> tf.data.Dataset:
            return evaluation_dataset(validation_slabs, self._share(context))[0]

        self.validation_slabs = validation_slabs.total
        self.steps = training_dataset(slabs, config.batch_size, config.seed)[1]
        self.validation_steps = evaluation_dataset(
            validation_slabs, Share(self.micro_batch, self.strategy.num_replicas_in_sync)
        )[1]
        self._build()
        state_file = self.folder / "state.npz"
        if state_file.is_file() and not self.overwrite:
            checkpoint.restore(state_file, self.state)
        batches = iter(self.strategy.distribute_datasets_from_function(train_dataset))
        validation = self.strategy.distribute_datasets_from_function(validation_dataset)
        with contextlib.ExitStack() as stack:
            stop = stack.enter_context(_stop_signal(self.alone))
            monitor = self._begin(stack, progress)
            done = 0
            while not history.finished(rows, last, config.patience):
                done = self._train_epoch(batches, progress, monitor, done, stop)
                self._end_epoch(iter(validation), progress, rows, monitor)
                if stop.is_set():
                    raise KeyboardInterrupt(
                        f"stopped after epoch {progress.epochs} of {config.epochs}; the state is "
                        "saved, the same command without --overwrite goes on from there"
                    )

    def _share(self, context: tf.distribute.InputContext) -> Share:
        return Share(
            self.micro_batch,
            context.num_replicas_in_sync,
            context.input_pipeline_id,
            context.num_input_pipelines,
        )

    def _build(self) -> None:
        config = self.config
        step = training_step.build(self.strategy, self.model_config, config, self.steps)
        self.step, self.model, self.kept = step, step.model, step.kept
        self.state = [
            *step.model.variables, *dropout_state(step.model), *optimizer_state(step.optimizer)
        ]  # fmt: skip
        if step.kept is not step.model:
            self.state += step.kept.variables
        self.schedule = learning_rates(config, self.steps)

    def _begin(self, stack: contextlib.ExitStack, progress: Progress) -> Monitor | None:
        """Write ``config.json`` and open TensorBoard's files; the chief alone."""
        if not self.chief:
            return None
        if self.overwrite:
            shutil.rmtree(self.folder, ignore_errors=True)
        atomic.sweep(self.folder)
        devices = [str(device) for device in self.strategy.extended.worker_devices]
        session = provenance.session(devices, progress.epochs, progress.step)
        written = self.settings | {
            "resolved": {name: getattr(self.config, name) for name in RESOLVED},
            "parameters": int(self.model.count_params()),
            "steps_per_epoch": self.steps,
            "devices": session["devices"],
            "software": session["software"],
            "sessions": [*self.sessions_before, session],
        }
        with checkpoint.saving(self.folder / "config.json"):
            atomic.write_json(self.folder / "config.json", written)
        monitor = stack.enter_context(
            Monitor(self.folder / "tensorboard", written, self.surroundings.profile).closing()
        )
        self.predict = tf.function(
            lambda image, nihss: self.kept({"image": image, "nihss": nihss}, training=False)
        )
        if not progress.epochs:
            specs = [tf.TensorSpec((None, *t.shape[1:]), tf.float32) for t in self._inputs()]
            monitor.graph(self.predict.get_concrete_function(*specs))
        self.overlays = (
            Overlays(self.records_dir, self.manifest, self.settings["subsets"]["validation"][0])
            if self.surroundings.overlay_epochs
            else None
        )
        return monitor

    def _inputs(self) -> list[Any]:
        named = {tensor.name.split(":")[0]: tensor for tensor in self.kept.inputs}
        return [named["image"], named["nihss"]]

    def _train_epoch(
        self,
        batches: Iterator,
        progress: Progress,
        monitor: Monitor | None,
        done: int,
        stop: threading.Event,
    ) -> int:
        """The steps of an epoch that are left; returns the steps done since the start."""
        saved = began = time.monotonic()
        elapsed_before = progress.seconds
        pending: tf.Tensor | None = None

        def take_in(sums: tf.Tensor | None) -> None:
            # One step late, so that a GPU never waits for this.
            if sums is None:
                return
            values = sums.numpy().astype(np.float64)
            if not np.isfinite(values).all():
                raise checkpoint.not_finite(
                    "the training loss is not finite", self.folder, progress
                )
            progress.sums = progress.sums + values
            progress.step += 1

        for step in self._progress_bar(progress):
            if monitor:
                monitor.step(done)
            sums, waited = self.step.train(batches, progress.epochs * self.steps + step)
            progress.waited_s += waited
            done += 1
            take_in(pending)
            pending = sums
            now = time.monotonic()
            due = now - saved >= 60 * self.surroundings.save_minutes and step + 1 < self.steps
            if self.alone and (due or stop.is_set()):
                take_in(pending)
                pending, saved = None, now
                progress.seconds = elapsed_before + now - began
                self.step.synchronise()
                self._save(progress)
                if stop.is_set():
                    raise KeyboardInterrupt(
                        f"stopped in epoch {progress.epochs + 1} after step {progress.step} of "
                        f"{self.steps}; the state is saved, the same command without --overwrite "
                        "goes on from there"
                    )
        take_in(pending)
        progress.seconds = elapsed_before + time.monotonic() - began
        return done

    def _progress_bar(self, progress: Progress) -> Iterator[int]:
        from tqdm import tqdm

        return tqdm(
            range(progress.step, self.steps),
            desc=f"epoch {progress.epochs + 1}/{self.config.epochs}",
            initial=progress.step,
            total=self.steps,
            unit="step",
            leave=False,
            disable=not (self.chief and sys.stderr.isatty()),
        )

    def _end_epoch(
        self,
        validation: Iterator,
        progress: Progress,
        rows: list[dict[str, Any]],
        monitor: Monitor | None,
    ) -> None:
        """Validate; keep the best model, the history and the state, in that order.

        Killed in between, the state is behind and the rest of the epoch is trained again, with
        the same data in the same order.
        """
        self.step.synchronise()
        began = time.monotonic()
        validated = epoch_metrics.summarise(self.step.evaluate(validation, self.validation_steps))
        validation_s = time.monotonic() - began
        row = {
            "epoch": progress.epochs + 1,
            "learning_rate": float(self.schedule(progress.epochs * self.steps)),
            "seconds": round(progress.seconds, 2),
            "examples_per_s": round(self.steps * self.config.batch_size / progress.seconds, 3),
            "input_wait_share": round(progress.waited_s / progress.seconds, 4),
            **epoch_metrics.summarise(progress.sums),
            **{f"val_{name}": value for name, value in validated.items()},
            "val_examples_per_s": round(self.validation_slabs / validation_s, 3),
        }
        if not math.isfinite(row[MONITOR]):
            raise checkpoint.not_finite("the validation loss is not finite", self.folder, progress)
        best = history.best_row(rows)
        better = best is None or row[MONITOR] < best[MONITOR]
        rows.append(row)
        for name, value in dataclasses.asdict(Progress(epochs=progress.epochs + 1)).items():
            setattr(progress, name, value)
        if not self.chief:
            return
        if better:
            with checkpoint.saving(checkpoint.best_file(self.folder)):
                self._save_for_inference(checkpoint.best_file(self.folder))
        with checkpoint.saving(self.folder / "history.csv"):
            history.write(self.folder, rows)
        if monitor:
            self._watch(monitor, row)
        self._save(progress)
        print(
            f"epoch {row['epoch']}/{self.config.epochs}  loss {row['composite']:.4f}, validation "
            f"{row[MONITOR]:.4f}{' (best)' if better else ''}  Dice {row['dice']:.3f}, validation "
            f"{row['val_dice']:.3f}  {row['seconds']:.0f} s, {row['examples_per_s']:.2f} slabs/s, "
            f"{row['input_wait_share']:.1%} waiting for input",
            flush=True,
        )

    def _save_for_inference(self, path: Path) -> None:
        """Stock layers in float32, whatever it was trained in: any machine can use the file."""
        model = build_model(self.model_config)
        for variable, trained in zip(model.variables, self.kept.variables, strict=True):
            if variable.dtype == "float32":  # the others are seeds of dropout
                variable.assign(to_numpy(trained))
        with atomic.replacing(path) as temporary:
            model.save(temporary)

    def _watch(self, monitor: Monitor, row: dict[str, Any]) -> None:
        monitor.epoch(row)
        every = self.surroundings.overlay_epochs
        if self.overlays and (row["epoch"] % every == 0 or row["epoch"] in (1, self.config.epochs)):

            def predict(images, nihss):
                parts = [
                    self.predict(images[k : k + 4], nihss[k : k + 4])["probability"].numpy()
                    for k in range(0, len(images), 4)
                ]
                return np.concatenate(parts)

            title = f"epoch {row['epoch']}, validation Dice of all patients {row['val_dice']:.2f}"
            monitor.pictures(row["epoch"], self.overlays.draw(predict, title))

    def _save(self, progress: Progress) -> None:
        checkpoint.save_state(self.folder / "state.npz", self.state, progress)


@contextlib.contextmanager
def _stop_signal(alone: bool) -> Iterator[threading.Event]:
    """Set at SIGTERM (a scheduler's) and the first Ctrl-C: the step is finished, then saved.

    A second Ctrl-C stops at once; and the first, where several processes train together.
    """
    event = threading.Event()

    def ask(number, frame):
        if event.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt("stopped at once; the last saved state is kept")
        event.set()
        note = "\nasked to stop: after this step, or this validation; Ctrl-C again: at once\n"
        os.write(2, note.encode())

    if not alone or threading.current_thread() is not threading.main_thread():
        yield event
        return
    before = {number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield event
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
