"""A trained fold that several test files look at."""

import pickle

import pytest
from helpers.made_once import made_once
from helpers.same_run import kept_after_first_epoch


@pytest.fixture(scope="session")
def three_epochs(records_dir, tmp_path_factory):
    """Three epochs without a break: (run, what train_fold returned). Read only.

    Beside it ``after_first``, the run as it was after its first epoch.

    One pooling fewer than the preset's: a network of all its parts, and a third less to compile.
    """
    from tf_hypoperfusion.config import preset
    from tf_hypoperfusion.training import trainer

    def train(folder):
        settings = preset("tiny", epochs=3, poolings=1)
        with kept_after_first_epoch(folder / "after_first"):
            done = trainer.train_fold(records_dir, folder / "run", 0, settings)
        (folder / "done.pickle").write_bytes(pickle.dumps(done))

    folder = made_once(tmp_path_factory, "three_epochs", train)
    return folder / "run", pickle.loads((folder / "done.pickle").read_bytes())
