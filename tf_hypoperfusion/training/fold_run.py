"""One start of a fold: the loop over epochs and steps, and when it stops."""

import contextlib
import dataclasses
import math
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from data_tools.manifest import Manifest
from data_tools.runtime import progress
from data_tools.runtime.errors import InputError
from tf_hypoperfusion import provenance
from tf_hypoperfusion.config import Configs, TrainingConfig
from tf_hypoperfusion.training import (
    checkpoint,
    distribution,
    epoch_metrics,
    history,
    memory,
    signals,
    stopping,
)
from tf_hypoperfusion.training.checkpoint import Progress
from tf_hypoperfusion.training.fold_data import FoldData
from tf_hypoperfusion.training.fold_errors import not_finite
from tf_hypoperfusion.training.fold_writer import FoldWriter, writing
from tf_hypoperfusion.training.history import MONITOR, Row
from tf_hypoperfusion.training.monitoring import Overlays
from tf_hypoperfusion.training.optimizers import learning_rates
from tf_hypoperfusion.training.outlook import Outlook
from tf_hypoperfusion.training.resume import FoldOnDisk
from tf_hypoperfusion.training.settings import FoldConfig, FoldSettings, Resolved
from tf_hypoperfusion.training.signals import StopRequest
from tf_hypoperfusion.training.step_interface import BuildStep


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How a fold is run and watched; changes nothing in what is learned.

    Attributes:
        strategy: None makes a MirroredStrategy for this machine.
        cache: ``auto`` holds the records in memory if they fit; ``on``, ``off``.
        save_minutes: how often the state is saved within an epoch; it always is at its end.
        overlay_epochs: pictures of validation patients every so many epochs; 0: never.
        profile: record steps 10 to 20 for TensorBoard's profile plugin.
        stop_after_epoch: stop early after this many epochs in all, as an interruption would.
        precision_by: who set the precision, where it was not left to the machine.
        folds_after: that will be trained after this one; for the estimate of the whole.
    """

    strategy: tf.distribute.Strategy | None = None
    cache: str = "auto"
    save_minutes: float = 10.0
    overlay_epochs: int = 5
    profile: bool = False
    stop_after_epoch: int | None = None
    precision_by: str = "as set"
    folds_after: int = 0


class FoldRun:
    """A fold from where it stands on disk to its last epoch.

    Args:
        folder: of the fold.
        settings: of this start.
        config: for training, with nothing left to the machine.
        on_disk: what earlier starts left; empty if that is to be overwritten.
        records_dir: what ``data_tools.build_records`` wrote.
        manifest: of the records.
        strategy: where it runs.
        options: how it is watched.
        overwrite: throw away what there is, when this run begins to write.
        build_step: makes network, loss and optimizer.
    """

    def __init__(
        self,
        folder: Path,
        settings: FoldSettings,
        config: TrainingConfig,
        on_disk: FoldOnDisk,
        *,
        records_dir: str | Path,
        manifest: Manifest,
        strategy: tf.distribute.Strategy,
        options: RunOptions,
        overwrite: bool,
        build_step: BuildStep,
    ):
        self.folder, self.settings, self.config = folder, settings, config
        self.records_dir, self.manifest = records_dir, manifest
        self.strategy, self.options, self.overwrite = strategy, options, overwrite
        self.sessions, self.rows = on_disk.sessions, list(on_disk.rows)
        self.progress = dataclasses.replace(on_disk.progress)
        self.chief = distribution.is_chief(strategy)
        self.ballot = stopping.Ballot(strategy)
        subsets = settings.subsets
        cached = memory.choose_cache(
            options.cache, manifest, [*subsets["train"], *subsets["validation"]]
        )
        # Before the dataset: tf.data mixes TensorFlow's global seed into its own.
        keras.utils.set_random_seed(config.seed)
        self.data = FoldData(
            records_dir, manifest, subsets, config=config, strategy=strategy, cached=cached
        )
        with progress.doing("building the network"):
            self.step = build_step(strategy, settings.model, config, self.data.steps)
        state = checkpoint.state_file(folder)
        if state.is_file() and not overwrite:
            checkpoint.restore(state, self.step.state)
        self.learning_rates = learning_rates(config, self.data.steps)
        self.writer: FoldWriter | None = None
        self._pending: tf.Tensor | None = None
        self.outlook = Outlook(
            Configs(settings.model, config),
            steps=self.data.steps,
            validation_slabs=self.data.validation_slabs,
            epochs_left=config.epochs - self.progress.epochs,
            folds_after=options.folds_after,
            on_cpu=not tf.config.list_logical_devices("GPU"),
        )

    def fit(self, last: int) -> list[Row]:
        """Train until ``last`` epochs are done, or patience ends.

        Returns:
            The rows of all epochs.

        Raises:
            InputError: a loss that is not finite, a disk that refuses.
            KeyboardInterrupt: asked to stop; the state was saved.
        """
        if self.settings.parent and not (self.progress.epochs or self.progress.step):
            self._say_how_it_begins()
        batches = self.data.training(self.progress.epochs, self.progress.step)
        with signals.listening() as request, self._writing() as self.writer:
            while not history.finished(self.rows, last, self.config.patience):
                self._train_epoch(batches, request)
                self._end_epoch()
                wish = self.ballot.after_epoch(request.wish())
                if wish.stop:
                    self.ballot.meet()
                    where = f"after epoch {self.progress.epochs} of {self.config.epochs}"
                    raise signals.stopped(where, wish.again)
        return self.rows

    def _say_how_it_begins(self) -> None:
        """Validation figures of the trained network as it came, for every epoch to be beside."""
        found = self._validate()
        if found and self.chief:
            print(
                f"as it came: validation loss {found[MONITOR]:.4f}, Dice {found['val_dice']:.3f}",
                flush=True,
            )

    def _train_epoch(self, batches: Iterator, request: StopRequest) -> None:
        """The steps of the epoch that are left."""
        saved = time.monotonic()
        began = saved - self.progress.seconds
        last = saved
        for step in self._steps_left():
            self._add(*self.step.train(batches, self.progress.epochs * self.data.steps + step))
            now = time.monotonic()
            self._foresee(now - last)
            due = now - saved >= 60 * self.options.save_minutes and step + 1 < self.data.steps
            wish = self.ballot.after_step(request.wish(save=due and self.chief))
            if wish.save or wish.stop:
                saved = now
                self._save_within_epoch(now - began)
            last = time.monotonic()
            if wish.stop:
                self.ballot.meet()  # nobody leaves while the chief writes
                where = (
                    f"in epoch {self.progress.epochs + 1} after step {self.progress.step} of "
                    f"{self.data.steps}"
                )
                raise signals.stopped(where, wish.again)
        self._settle()
        self.progress.seconds = time.monotonic() - began

    def _end_epoch(self) -> None:
        """Validate, and keep what came of the epoch."""
        self.step.synchronise()
        row = self._row() | self._validate()
        if not math.isfinite(row.get(MONITOR, 0.0)):
            raise self._not_finite("the validation loss is not finite")
        # A variance of infinity gives finite answers, all alike: no such network is kept.
        checkpoint.check_finite(
            self.folder, self.step.state, epoch=self.progress.epochs + 1, step=self.data.steps
        )
        self.rows.append(row)
        self.progress = Progress(epochs=self.progress.epochs + 1)
        if self.writer:
            self.writer.epoch_ends(self.rows, self.progress)

    def _validate(self) -> Row:
        """Figures of the validation slabs; none if no subset validates."""
        if not self.data.validation_slabs:
            return {}
        with progress.doing("validating"):
            slabs, began = self.data.validation(), time.monotonic()
            figures = epoch_metrics.summarise(self.step.evaluate(slabs, self.data.validation_steps))
            seconds = time.monotonic() - began
        self.outlook.validation_s = seconds
        return {
            **{f"val_{name}": value for name, value in figures.items()},
            "val_examples_per_s": round(self.data.validation_slabs / seconds, 3),
        }

    def _row(self) -> Row:
        epoch, steps, seconds = self.progress.epochs, self.data.steps, self.progress.seconds
        return {
            "epoch": epoch + 1,
            "learning_rate": float(self.learning_rates(epoch * steps)),
            "seconds": round(seconds, 2),
            "examples_per_s": round(steps * self.config.batch_size / seconds, 3),
            "input_wait_share": round(self.progress.waited_s / seconds, 4),
            **epoch_metrics.summarise(self.progress.sums),
        }

    def _add(self, sums: tf.Tensor, waited_s: float) -> None:
        """Count a step; its sums one step later, so that a GPU never waits for them."""
        self.progress.waited_s += waited_s
        self._settle()
        self._pending = sums

    def _foresee(self, step_s: float) -> None:
        """Say once how long all of it will take."""
        said = self.outlook.step_took(step_s)
        if said and self.chief:
            print(f"estimate  {said}", flush=True)

    def _settle(self) -> None:
        """Count the sums that are still pending."""
        if self._pending is None:
            return
        values = self._pending.numpy().astype(np.float64)
        self._pending = None
        if not np.isfinite(values).all():
            raise self._not_finite("the training loss is not finite")
        self.progress.sums = self.progress.sums + values
        self.progress.step += 1

    def _save_within_epoch(self, seconds: float) -> None:
        self._settle()
        self.progress.seconds = seconds
        self.step.synchronise()
        if self.writer:
            self.writer.save(self.progress)

    def _not_finite(self, what: str) -> InputError:
        return not_finite(
            what, self.folder, epoch=self.progress.epochs + 1, step=self.progress.step + 1
        )

    def _steps_left(self) -> Iterator[int]:
        """Steps that the epoch still needs; with a progress bar, if somebody looks."""
        from tqdm import tqdm

        epoch = f"epoch {self.progress.epochs + 1}/{self.config.epochs}"
        first = "" if self.outlook.compiled else ", which is compiled first"
        with progress.doing(epoch) as activity:
            for step in tqdm(
                range(self.progress.step, self.data.steps),
                desc=epoch,
                initial=self.progress.step,
                total=self.data.steps,
                unit="step",
                leave=False,
                disable=not (self.chief and sys.stderr.isatty()),
            ):
                activity.what = f"{epoch}, step {step + 1} of {self.data.steps}{first}"
                first = ""
                if self.writer:
                    self.writer.step_begins()
                yield step

    def _writing(self) -> contextlib.AbstractContextManager[FoldWriter | None]:
        """The fold's folder, for the chief alone."""
        if not self.chief:
            return contextlib.nullcontext()
        options = self.options
        devices = [str(device) for device in self.strategy.extended.worker_devices]
        config = FoldConfig(
            settings=self.settings,
            resolved=Resolved(self.config.precision, self.config.micro_batch),
            parameters=self.step.parameters,
            steps_per_epoch=self.data.steps,
            session=provenance.session(
                devices,
                self.progress.epochs,
                self.progress.step,
                micro_batch=self.config.micro_batch,
            ),
            earlier_sessions=self.sessions,
        )
        overlays = None
        if options.overlay_epochs and self.data.validation_slabs:
            subset = self.settings.subsets["validation"][0]
            overlays = Overlays(
                self.records_dir, self.manifest, subset, every=options.overlay_epochs
            )
        return writing(
            self.folder,
            config,
            self.step,
            overwrite=self.overwrite,
            profile=options.profile,
            overlays=overlays,
        )
