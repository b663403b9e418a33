"""The saved state: exact, whole, and refused where it does not fit."""

import numpy as np
import pytest

from data_tools.runtime.errors import InputError
from tf_hypoperfusion.training import checkpoint, history
from tf_hypoperfusion.training.checkpoint import Progress

pytestmark = pytest.mark.core


def variables(seed=0, shapes=((3, 2), (4,))):
    import tensorflow as tf

    rng = np.random.default_rng(seed)
    return [tf.Variable(rng.normal(size=shape).astype(np.float32)) for shape in shapes]


@pytest.fixture
def saved(tmp_path):
    progress = Progress(epochs=2, step=7, sums=np.arange(8.0), seconds=12.5, waited_s=0.25)
    checkpoint.save_state(tmp_path / "state.npz", variables(), progress)
    return tmp_path / "state.npz"


def test_state_and_progress_come_back_bit_for_bit(saved):
    other = variables(1)
    checkpoint.restore(saved, other)
    for ours, theirs in zip(other, variables(), strict=True):
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy())
    progress = checkpoint.load_progress(saved)
    assert (progress.epochs, progress.step) == (2, 7)
    assert (progress.seconds, progress.waited_s) == (12.5, 0.25)
    np.testing.assert_array_equal(progress.sums, np.arange(8.0))


def test_without_a_file_nothing_is_done_yet(tmp_path):
    progress = checkpoint.load_progress(tmp_path / "state.npz")
    assert (progress.epochs, progress.step, progress.sums.sum()) == (0, 0, 0)


@pytest.mark.parametrize("shapes", [((3, 2),), ((3, 2), (4,), (1,)), ((3, 2), (5,))])
def test_another_networks_state_is_refused(saved, shapes):
    with pytest.raises(InputError, match=r"state.npz: the training state cannot be read"):
        checkpoint.restore(saved, variables(0, shapes))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"no zip file at all"])
def test_a_damaged_file_is_named(saved, content):
    saved.write_bytes(content)
    for read in (checkpoint.load_progress, lambda path: checkpoint.restore(path, variables())):
        with pytest.raises(InputError, match=r"state.npz: .*train the fold anew with --overwrite"):
            read(saved)


def test_weights_that_are_not_finite_are_never_saved(saved):
    before = saved.read_bytes()
    broken = variables()
    broken[1].assign([1.0, np.inf, 0.0, 0.0])
    with pytest.raises(InputError, match="weights are not finite in epoch 3, step 8"):
        checkpoint.save_state(saved, broken, Progress(epochs=2, step=7))
    assert saved.read_bytes() == before


def test_a_refusing_disk_keeps_the_state_before(saved, monkeypatch):
    before = saved.read_bytes()

    def full(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(InputError, match="No space left on device.*run the same command"):
        checkpoint.save_state(saved, variables(3), Progress())
    assert saved.read_bytes() == before
    assert [p.name for p in saved.parent.iterdir()] == ["state.npz"]


def test_history_comes_back_as_numbers(tmp_path):
    rows = [{"epoch": 1, "val_composite": 0.5}, {"epoch": 2, "val_composite": 0.25}]
    history.write(tmp_path, rows)
    assert history.read(tmp_path) == rows
    (tmp_path / "history.csv").write_text("epoch,val_composite\n1,\n")
    with pytest.raises(InputError, match="history.csv: not readable"):
        history.read(tmp_path)


def test_best_epoch_and_patience():
    def rows(*losses):
        return [{"epoch": k + 1, "val_composite": loss} for k, loss in enumerate(losses)]

    assert history.best_row([]) is None
    assert history.best_row(rows(3.0, 1.0, 1.0))["epoch"] == 2
    assert history.epochs_without_gain(rows()) == 0
    assert history.epochs_without_gain(rows(3.0, 1.0, 2.0, 1.0)) == 2
    assert history.epochs_without_gain(rows(3.0, 2.0)) == 0
