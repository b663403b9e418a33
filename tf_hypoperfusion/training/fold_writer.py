"""What a fold leaves on disk while it is trained: settings, model, history, state, curves."""

import contextlib
import math
import shutil
from collections.abc import Iterator
from pathlib import Path

from data_tools.runtime import atomic
from data_tools.runtime.progress import doing
from tf_hypoperfusion.training import checkpoint, history
from tf_hypoperfusion.training.checkpoint import Progress
from tf_hypoperfusion.training.fold_errors import saving
from tf_hypoperfusion.training.history import MONITOR, Row
from tf_hypoperfusion.training.monitoring import Monitor, Overlays
from tf_hypoperfusion.training.settings import FoldConfig
from tf_hypoperfusion.training.step_interface import Step


class FoldWriter:
    """Writes a fold's folder; only the chief has one.

    Args:
        folder: of the fold.
        step: whose model and state are saved.
        monitor: open files of TensorBoard.
        epochs: of the whole training.
        overlays: patients to draw; None for no pictures.
    """

    def __init__(
        self, folder: Path, step: Step, monitor: Monitor, *, epochs: int, overlays: Overlays | None
    ):
        self.folder, self.step, self.monitor = folder, step, monitor
        self.epochs, self.overlays = epochs, overlays

    def step_begins(self) -> None:
        """Called before every optimizer step."""
        self.monitor.step_begins()

    def save(self, progress: Progress) -> None:
        """The state, to go on from.

        Raises:
            InputError: a variable is not finite, or the disk refuses.
        """
        checkpoint.save_state(checkpoint.state_file(self.folder), self.step.state, progress)

    def epoch_ends(self, rows: list[Row], progress: Progress) -> None:
        """Keep the model if it is the best, then the history, then the state.

        Killed in between, the state is behind and the rest of the epoch is trained again, with
        the same data in the same order.

        Raises:
            InputError: a variable is not finite, or the disk refuses.
        """
        row = rows[-1]
        better = history.best_row(rows) is row
        with doing("saving the network, its curves and pictures"):
            if better:
                best = checkpoint.best_file(self.folder)
                with saving(best):
                    self.step.save_for_inference(best)
            with saving(self.folder / "history.csv"):
                history.write(self.folder, rows)
            self.monitor.epoch(row)
            self._draw(row)
            self.save(progress)
        loss = dice = ""
        if MONITOR in row:
            loss = f", validation {row[MONITOR]:.4f}{' (best)' if better else ''}"
            dice = f", validation {_figure(row['val_dice'], 3)}"
        print(
            f"epoch {row['epoch']}/{self.epochs}  loss {row['composite']:.4f}{loss}  "
            f"Dice {_figure(row['dice'], 3)}{dice}  {row['seconds']:.0f} s, "
            f"{row['examples_per_s']:.2f} slabs/s, {row['input_wait_share']:.1%} waiting for input",
            flush=True,
        )

    def _draw(self, row: Row) -> None:
        epoch = int(row["epoch"])
        if self.overlays and (epoch % self.overlays.every == 0 or epoch in (1, self.epochs)):
            title = f"epoch {epoch}, validation Dice of all patients {_figure(row['val_dice'], 2)}"
            self.monitor.pictures(epoch, self.overlays.draw(self.step.predict, title))


def _figure(value: float, digits: int) -> str:
    """A figure in words; n/a for a Dice of nothing with nothing."""
    return "n/a" if math.isnan(value) else f"{value:.{digits}f}"


@contextlib.contextmanager
def writing(
    folder: Path,
    config: FoldConfig,
    step: Step,
    *,
    overwrite: bool,
    profile: bool,
    overlays: Overlays | None,
) -> Iterator[FoldWriter]:
    """Write ``config.json``, open TensorBoard's files, and close them however the run ends.

    Args:
        folder: of the fold.
        config: goes into ``config.json``.
        step: whose model and state will be saved.
        overwrite: throw away what there is first.
        profile: record steps 10 to 20 for TensorBoard.
        overlays: patients to draw; None for no pictures.

    Raises:
        InputError: the disk refuses.
    """
    if overwrite:
        shutil.rmtree(folder, ignore_errors=True)
    atomic.sweep(folder)
    with saving(folder / "config.json"):
        atomic.write_json(folder / "config.json", config.to_json())
    with Monitor(folder / "tensorboard", config, profile).closing() as monitor:
        if config.session.from_epoch == 1:
            monitor.graph(step.graph())
        yield FoldWriter(
            folder, step, monitor, epochs=config.settings.training.epochs, overlays=overlays
        )
