"""A fold in TensorBoard: curves, pictures of validation patients, settings, graph, profile.

Curves stand at the number of the epoch, from 1; train and validation have the same names, so that
TensorBoard draws them into one chart.
"""

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from data_tools import drawing, pictures, slabs
from data_tools.grid import GRID_ORIGIN_MM, GRID_SHAPE, VOXEL_MM, from_frame
from data_tools.manifest import Manifest
from tf_hypoperfusion.config import CHANNELS, PROBABILITY_THRESHOLD, RESEARCH_NOTICE
from tf_hypoperfusion.training import input_pipeline, roles
from tf_hypoperfusion.training.history import MONITOR, Row
from tf_hypoperfusion.training.input_pipeline import PatientSlabs
from tf_hypoperfusion.training.settings import FoldConfig

# The first validation patients with a lesion: every epoch and every run shows the same ones.
OVERLAY_PATIENTS = 3
PROFILE_STEPS = (10, 20)
# Columns of history.csv -> what they are, their unit, and what is good.
TERMS = {
    "composite": "What training minimises: the weighted sum of the other terms. No unit; lower is "
    "better.",
    "cross_entropy": "Mean cross entropy of the voxels inside coverage, in nats; lower is better.",
    "dice_loss": "1 minus the soft Dice of a slab, 0 to 1; lower is better.",
    "volume_error": "Error of a slab's volume: the difference divided by the sum of predicted and "
    "true volume, 0 to 1; lower is better.",
}
OTHERS = {
    "dice": f"Dice of all covered voxels at a probability of {PROBABILITY_THRESHOLD:g}, 0 to 1; "
    "higher is better.",
    "volume_error_ml": "Mean absolute error of a slab's volume at a probability of "
    f"{PROBABILITY_THRESHOLD:g}, in mL; lower is better.",
}
SPEED = "Slabs computed per second."
TRAIN_ONLY = {
    "learning_rate": "Learning rate at the end of the epoch. No unit.",
    "input_wait_share": "Share of the time that the network waited for data, 0 to 1.",
}


class Monitor:
    """Event files of one fold.

    Args:
        folder: the fold's ``tensorboard`` folder.
        config: what ``config.json`` holds.
        profile: record steps 10 to 20 of this start, for TensorBoard's profile plugin.
    """

    def __init__(self, folder: Path, config: FoldConfig, profile: bool = False):
        self.folder = folder
        self.train = tf.summary.create_file_writer(str(folder / "train"))
        self.validation = tf.summary.create_file_writer(str(folder / "validation"))
        self.profile, self.profiling, self.steps = profile, False, 0
        self._settings(config)

    def _settings(self, config: FoldConfig) -> None:
        from tensorboard.plugins.hparams import api

        text = json.dumps(config.to_json(), indent=2)
        with self.train.as_default(step=0):
            tf.summary.text("config", f"{RESEARCH_NOTICE}\n\n```json\n{text}\n```")
        settings = config.settings
        flat = {
            **vars(settings.model),
            **vars(settings.training),
            "fold": roles.name(settings.fold),
        }
        with self.validation.as_default(step=0):
            api.hparams(flat, trial_id=f"{settings.run}/{roles.name(settings.fold)}")

    def graph(self, graph: tf.Graph) -> None:
        """The network's graph, as it predicts."""
        with self.train.as_default(step=0):
            tf.summary.graph(graph)

    def step_begins(self) -> None:
        """Start and end the profile; called before every step of this start."""
        if self.profile and self.steps == PROFILE_STEPS[0]:
            tf.profiler.experimental.start(str(self.folder / "train"))
            self.profiling = True
        elif self.steps == PROFILE_STEPS[1]:
            self._stop_profile()
        self.steps += 1

    def _stop_profile(self) -> None:
        if self.profiling:
            tf.profiler.experimental.stop()
            self.profiling = False

    def epoch(self, row: Row) -> None:
        """The row of ``history.csv`` that an epoch has."""
        kinds = [(self.train, "")]
        if MONITOR in row:
            kinds.append((self.validation, "val_"))
        for writer, prefix in kinds:
            with writer.as_default(step=int(row["epoch"])):
                for name, words in TERMS.items():
                    tf.summary.scalar(f"loss/{name}", row[prefix + name], description=words)
                for name, words in OTHERS.items():
                    tf.summary.scalar(name, row[prefix + name], description=words)
                speed = row[f"{prefix}examples_per_s"]
                tf.summary.scalar("training/examples_per_s", speed, description=SPEED)
        with self.train.as_default(step=int(row["epoch"])):
            for name, words in TRAIN_ONLY.items():
                tf.summary.scalar(f"training/{name}", row[name], description=words)
        self.flush()

    def pictures(self, epoch: int, images: dict[str, bytes]) -> None:
        """PNG pictures of validation patients by name."""
        with self.validation.as_default(step=epoch):
            for name, png in images.items():
                tf.summary.image(name, tf.io.decode_png(png, channels=3)[tf.newaxis])
        self.flush()

    def flush(self) -> None:
        """Let a TensorBoard beside the run see what there is."""
        self.train.flush()
        self.validation.flush()

    @contextlib.contextmanager
    def closing(self) -> Iterator["Monitor"]:
        """End the profile and the files, however the run ends."""
        try:
            yield self
        finally:
            self._stop_profile()
            self.train.close()
            self.validation.close()


class Overlays:
    """The same few validation patients, drawn again whenever asked.

    Args:
        records: their folder.
        manifest: of the records.
        subset: that holds the validation patients.
        every: draw them after every so many epochs.
    """

    def __init__(self, records: str | Path, manifest: Manifest, subset: int, *, every: int):
        self.every = every
        self.patients: list[tuple[str, PatientSlabs]] = []
        for name, arrays in input_pipeline.read_patients(records, manifest, subset):
            if arrays["y_true"][..., 0].any():
                self.patients.append((name, arrays))
            if len(self.patients) == OVERLAY_PATIENTS:
                break

    def draw(self, predict: Callable[[NDArray, NDArray], NDArray], title: str) -> dict[str, bytes]:
        """PNG by ``participant/dwi`` and ``.../adc``, with truth and prediction as contours.

        Args:
            predict: images (n, 128, 128, 16, 4) and NIHSS (n, 1) -> probabilities (n, ..., 1).
            title: line above the picture; the participant is set before it.
        """
        return {
            f"{name}/{channel}": self._one(name, arrays, channel, predict=predict, title=title)
            for name, arrays in self.patients
            for channel in ("dwi", "adc")
        }

    def _one(
        self, name: str, arrays: PatientSlabs, channel: str, *, predict: Callable, title: str
    ) -> bytes:
        def merged(values: NDArray) -> NDArray[np.float32]:
            return from_frame(slabs.merge_slabs(values, arrays["starts"], GRID_SHAPE[2]))

        truth, covered = (merged(arrays["y_true"][..., k]) > 0 for k in (0, 1))
        probability = merged(predict(arrays["image"], arrays["nihss"])[..., 0])
        predicted = (probability >= PROBABILITY_THRESHOLD) & covered
        mosaic = pictures.axial_mosaic(
            merged(arrays["image"][..., CHANNELS.index(channel)]),
            [
                pictures.Overlay(truth & covered, "truth: Tmax ≥ 6 s or core", pictures.MEASURED),
                pictures.Overlay(predicted, "prediction", pictures.HYPOPERFUSION),
            ],
            (VOXEL_MM,) * 3,
            f"{name}, {channel.upper()}: {title}",
            footer=RESEARCH_NOTICE,
            panels=16,
            first_mm=GRID_ORIGIN_MM,
        )
        return drawing.png(mosaic)
