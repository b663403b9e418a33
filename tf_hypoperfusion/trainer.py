"""Fit one fold, and be able to go on where a killed run stopped.

A fold's folder: ``config.json`` (settings), ``best.keras`` (lowest validation loss, for
inference), ``history.csv``, ``tensorboard/``, and ``state.npz`` (everything needed to go on:
weights, optimizer, dropout seeds, epoch; one file, so that it is never half new).
"""

import csv
import dataclasses
import io
import json
import math
import shutil
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from data_tools import atomic, records, splits
from data_tools.errors import InputError
from tf_hypoperfusion import __version__, distribution, input_pipeline
from tf_hypoperfusion.attention_unet import build_model
from tf_hypoperfusion.config import ModelConfig, TrainingConfig
from tf_hypoperfusion.keras_compat import learning_rate, to_numpy, training_state
from tf_hypoperfusion.losses import CompositeLoss
from tf_hypoperfusion.metrics import training_metrics
from tf_hypoperfusion.optimizers import build_optimizer

MONITOR = "val_composite"


def train_fold(
    records_dir: str | Path,
    run: str | Path,
    fold: int,
    model_config: ModelConfig,
    training_config: TrainingConfig,
    overwrite: bool = False,
    strategy: tf.distribute.Strategy | None = None,
    stop_after_epoch: int | None = None,
) -> dict[str, Any]:
    """Train a fold to its last epoch, resuming if it was begun.

    Args:
        records_dir: what ``data_tools.build_records`` wrote.
        run: the run's folder; the fold gets ``run/fold-N``.
        fold: 0 to 4: subset ``fold`` is kept for testing, the next one validates.
        model_config, training_config: settings; a begun fold must have the same.
        overwrite: throw a begun or finished fold away.
        strategy: None chooses one for this machine.
        stop_after_epoch: stop early after this many epochs in all, as an interruption would.

    Returns:
        ``folder``, ``epochs``, ``best_epoch``, ``best_loss``, and ``trained`` (epochs of this
        call; 0 if the fold was finished before).

    Raises:
        InputError: no records, other settings than before, batch that does not divide, NaN loss.
    """
    roles = splits.fold_roles(fold)
    manifest = records.load_manifest(records_dir)
    folder = Path(run) / f"fold-{fold}"
    settings = {
        "fold": fold,
        "model": dataclasses.asdict(model_config),
        "training": dataclasses.asdict(training_config),
        "records": {"fingerprint": manifest["fingerprint"], "cohort": manifest["cohort"]},
        "subsets": roles,
    }
    if overwrite:
        shutil.rmtree(folder, ignore_errors=True)
    _check_settings(folder, settings)
    history = _read_history(folder)
    state_file = folder / "state.npz"
    first_epoch = _saved_epochs(state_file)
    if len(history) < first_epoch or (first_epoch and not (folder / "best.keras").is_file()):
        raise InputError(
            f"{folder} has the state of {first_epoch} epochs but not its history.csv or "
            "best.keras; bring them back, or train anew with --overwrite"
        )
    history = history[:first_epoch]
    last_epoch = min(training_config.epochs, stop_after_epoch or training_config.epochs)
    if first_epoch < last_epoch:
        strategy = strategy or distribution.choose_strategy()
        distribution.check_batch(training_config.batch_size, strategy)
        # Before the dataset: tf.data mixes TensorFlow's global seed into its own.
        keras.utils.set_random_seed(training_config.seed)
        train, steps = input_pipeline.training_dataset(
            records_dir,
            manifest,
            roles["train"],
            training_config.batch_size,
            training_config.seed,
            training_config.mirror,
            first_epoch,
        )
        validation, validation_steps = input_pipeline.evaluation_dataset(
            records_dir, manifest, roles["validation"], training_config.batch_size
        )
        with strategy.scope():
            model = build_model(model_config, training_config.precision, training_config.seed)
            # The same layers without optimizer: what is saved for inference.
            inference_model = keras.Model(model.input, model.output, name=model.name)
            loss = CompositeLoss(
                training_config.bce_weight,
                training_config.dice_weight,
                training_config.volume_weight,
            )
            optimizer = build_optimizer(training_config, steps)
            model.compile(optimizer, loss=loss, weighted_metrics=training_metrics(loss))
            optimizer.build(model.trainable_variables)
            if first_epoch:
                _restore(state_file, model)
        atomic.write_json(
            folder / "config.json",
            settings
            | {
                "software": {
                    "tf_hypoperfusion": __version__,
                    "tensorflow": tf.__version__,
                    "keras": keras.__version__,
                },
                "parameters": int(model.count_params()),
                "devices": [str(d) for d in strategy.extended.worker_devices],
            },
        )
        keeper = _FoldKeeper(folder, inference_model, history, training_config)
        try:
            model.fit(
                train,
                initial_epoch=first_epoch,
                epochs=last_epoch,
                steps_per_epoch=steps,
                validation_data=validation,
                validation_steps=validation_steps,
                callbacks=[
                    keeper,
                    keras.callbacks.TensorBoard(folder / "tensorboard", write_graph=False),
                ],
                shuffle=False,  # the pipeline shuffles
                verbose=1 if sys.stdout.isatty() else 2,
            )
        except tf.errors.OpError as error:
            raise records.explain_read_error(error, records_dir, manifest) from error
    best = min(history, key=lambda row: float(row[MONITOR]))
    return {
        "folder": str(folder),
        "epochs": len(history),
        "best_epoch": int(best["epoch"]),
        "best_loss": float(best[MONITOR]),
        "trained": max(last_epoch - first_epoch, 0),
    }


class _FoldKeeper(keras.callbacks.Callback):
    """After each epoch: best model, history, state; in that order, each atomically.

    Killed in between, the state is one epoch behind and the epoch is trained again, with the
    same data in the same order.
    """

    def __init__(
        self,
        folder: Path,
        inference_model: keras.Model,
        history: list[dict],
        config: TrainingConfig,
    ):
        super().__init__()
        self.folder, self.inference_model, self.history = folder, inference_model, history
        self.batch_size = config.batch_size
        self.best = min((float(row[MONITOR]) for row in history), default=math.inf)

    def on_epoch_begin(self, epoch, logs=None):
        self.began = time.monotonic()
        self.rate = learning_rate(self.model.optimizer)

    def on_train_batch_end(self, batch, logs=None):
        if logs and not math.isfinite(float(logs["loss"])):
            raise InputError(
                f"the training loss is {logs['loss']} in epoch {len(self.history) + 1}, step "
                f"{batch + 1}; the last good state is kept in {self.folder}. Try a smaller "
                "--learning_rate, or float32 precision, with --overwrite."
            )

    def on_epoch_end(self, epoch, logs=None):
        row = {
            "epoch": epoch + 1,
            "learning_rate": self.rate,
            "seconds": round(time.monotonic() - self.began, 2),
            **{name: float(value) for name, value in sorted((logs or {}).items())},
        }
        self.history.append(row)
        if row[MONITOR] < self.best:
            self.best = row[MONITOR]
            with atomic.replacing(self.folder / "best.keras") as temporary:
                self.inference_model.save(temporary)
        _write_history(self.folder, self.history)
        _save(self.folder / "state.npz", self.model, epoch + 1)


def _save(path: Path, model: keras.Model, epochs: int) -> None:
    arrays: dict[str, Any] = {
        f"variable_{i:04d}": to_numpy(v) for i, v in enumerate(training_state(model))
    }
    with atomic.replacing(path) as temporary:
        np.savez(temporary, epochs=epochs, **arrays)


def _saved_epochs(path: Path) -> int:
    if not path.is_file():
        return 0
    try:
        with np.load(path) as state:
            return int(state["epochs"])
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise InputError(
            f"{path}: the training state cannot be read ({error}); train again with --overwrite"
        ) from error


def _restore(path: Path, model: keras.Model) -> None:
    with np.load(path) as state:
        for i, variable in enumerate(training_state(model)):
            variable.assign(state[f"variable_{i:04d}"])


def _check_settings(folder: Path, settings: dict[str, Any]) -> None:
    """Refuse to go on with a fold that was begun with other settings."""
    path = folder / "config.json"
    if not path.is_file():
        return
    try:
        saved = json.loads(path.read_text())
    except ValueError as error:
        raise InputError(f"{path}: not readable ({error}); train again with --overwrite") from error
    flat_saved, flat = _flatten(saved), _flatten(settings)
    different = [
        f"{name} was {flat_saved.get(name)}, now {value}"
        for name, value in flat.items()
        if flat_saved.get(name) != value
    ]
    if different:
        raise InputError(
            f"{folder} was begun with other settings: {'; '.join(different)}. "
            "Give another --run, the same settings, or --overwrite to train it anew."
        )


def _flatten(value: Any, name: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        return {name: value}
    return {
        key: leaf
        for k, v in value.items()
        for key, leaf in _flatten(v, f"{name}.{k}" if name else k).items()
    }


def _read_history(folder: Path) -> list[dict[str, Any]]:
    path = folder / "history.csv"
    if not path.is_file():
        return []
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def _write_history(folder: Path, history: list[dict[str, Any]]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(history[-1]))
    writer.writeheader()
    writer.writerows(history)
    atomic.write_text(folder / "history.csv", text.getvalue())
