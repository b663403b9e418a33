"""Whether two runs of a fold came to the same end."""

import csv

import numpy as np

CLOCK = ("seconds", "waited_s")  # what two runs never share


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
