"""Whether two runs of a fold came to the same end; a run as it was in between."""

import contextlib
import csv
import shutil

import numpy as np
import pytest

from tf_hypoperfusion.training.fold_writer import FoldWriter

CLOCK = ("seconds", "waited_s")  # what two runs never share


@contextlib.contextmanager
def kept_after_first_epoch(copy):
    """Trained meanwhile, a run is copied as it is after its first epoch: as whoever ends it there
    leaves it. To go on from there then takes one start, and not the two of a run that is stopped.
    """
    ends = FoldWriter.epoch_ends

    def and_copied(writer, rows, progress):
        ends(writer, rows, progress)
        if progress.epochs == 1:
            shutil.copytree(writer.folder.parent, copy)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FoldWriter, "epoch_ends", and_copied)
        yield


def state(run):
    """Everything in a fold's saved state but the clock."""
    with np.load(run / "fold-0/state.npz") as arrays:
        return {name: arrays[name] for name in arrays.files if name not in CLOCK}


def validation_losses(run):
    rows = csv.DictReader((run / "fold-0/history.csv").open())
    return [float(row["val_composite"]) for row in rows]


def assert_same(run, other, *, weights_rtol, weights_atol, losses_rtol):
    ours, theirs = state(run), state(other)
    assert ours.keys() == theirs.keys()
    for name in theirs:
        np.testing.assert_allclose(
            ours[name], theirs[name], weights_rtol, weights_atol, err_msg=name
        )
    np.testing.assert_allclose(validation_losses(run), validation_losses(other), losses_rtol)


def assert_same_end(run, other):
    """Resumed: weight for weight."""
    assert_same(run, other, weights_rtol=1e-5, weights_atol=1e-7, losses_rtol=1e-5)


def assert_same_within_rounding(run, other):
    """Shared over devices: sums in another order."""
    assert_same(run, other, weights_rtol=2e-3, weights_atol=2e-5, losses_rtol=1e-4)
