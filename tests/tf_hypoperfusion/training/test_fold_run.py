"""The book-keeping of a fold: resumed, stopped, refused, overwritten; with a step that is free."""

import json
import os
import shutil
import signal
import zipfile

import numpy as np
import pytest
import tensorflow as tf
from helpers.fake_step import FakeStep, without_slabs
from helpers.same_run import assert_same_end

from data_tools.runtime.errors import InputError
from tf_hypoperfusion.config import preset
from tf_hypoperfusion.training import checkpoint, memory, precision, trainer
from tf_hypoperfusion.training.trainer import RunOptions


@pytest.fixture(scope="module", autouse=True)
def _without_slabs():
    with pytest.MonkeyPatch.context() as patch:
        without_slabs(patch)
        yield


def train(records_dir, run, *, step=FakeStep, stop=None, overwrite=False, epochs=3, **changes):
    return trainer.train_fold(
        records_dir,
        run,
        0,
        preset("tiny", epochs=epochs, **changes),
        overwrite=overwrite,
        options=RunOptions(stop_after_epoch=stop, overlay_epochs=0),
        build_step=step,
    )


@pytest.fixture(scope="module")
def finished(records_dir, tmp_path_factory):
    """Three epochs without a break: (run, what train_fold returned). Read only."""
    run = tmp_path_factory.mktemp("run") / "finished"
    return run, train(records_dir, run)


@pytest.mark.core
def test_it_goes_on_with_the_state_the_step_and_the_epoch(finished, records_dir, tmp_path):
    for stop in (1, 2, None):
        result = train(records_dir, tmp_path, stop=stop)
        assert result.trained == 1
    assert result.epochs == 3
    assert_same_end(tmp_path, finished[0])


def test_a_run_from_before_the_frame_goes_on(records_dir, tmp_path):
    """Its config.json says crop_margin in place of frame, and augment of randomisation."""
    train(records_dir, tmp_path, stop=1, frame="96x112")
    file = tmp_path / "fold-0/config.json"
    written = json.loads(file.read_text())
    assert written["model"].pop("frame") == "96x112"
    written["model"]["crop_margin"] = True
    del written["training"]["randomisation"]
    written["training"]["augment"] = False
    file.write_text(json.dumps(written))
    with pytest.raises(InputError, match="model.frame was 96x112, now 80x104"):
        train(records_dir, tmp_path)
    assert train(records_dir, tmp_path, frame="96x112").trained == 2


@pytest.mark.core
@pytest.mark.parametrize(
    ("where", "number", "message"),
    [
        ("train", 5, "stopped in epoch 2 after step 2 of 3; the state is saved"),
        ("train", 6, "stopped in epoch 2 after step 3 of 3; the state is saved"),
        ("evaluate", 1, "stopped after epoch 1 of 3; the state is saved"),
    ],
)
def test_asked_to_stop_it_ends_what_it_does_and_saves(
    where, number, message, finished, records_dir, tmp_path
):
    """By SIGTERM in the middle of a step or of a validation."""

    class Asked(FakeStep):
        calls = 0

        def train(self, *arguments):
            self.ask("train")
            return super().train(*arguments)

        def evaluate(self, *arguments):
            self.ask("evaluate")
            return super().evaluate(*arguments)

        def ask(self, name):
            self.calls += name == where
            if (name, self.calls) == (where, number):
                os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt, match=message):
        train(records_dir, tmp_path, step=Asked)
    assert signal.getsignal(signal.SIGTERM) is before
    train(records_dir, tmp_path)
    assert_same_end(tmp_path, finished[0])


def test_a_signal_that_was_ignored_stays_so(finished, records_dir, tmp_path):
    """SIGHUP under nohup."""

    class HungUp(FakeStep):
        def train(self, *arguments):
            os.kill(os.getpid(), signal.SIGHUP)
            return super().train(*arguments)

    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert train(records_dir, tmp_path, step=HungUp).epochs == 3
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
    assert_same_end(tmp_path, finished[0])


@pytest.mark.parametrize(
    ("normalisation", "first", "then", "expected"),
    [("batch", "auto", 2, 2), ("batch", 2, 0, 2), ("none", "auto", 1, 1)],
)
def test_a_begun_fold_goes_on_with_another_micro_batch(
    normalisation, first, then, expected, records_dir, tmp_path, monkeypatch, capsys
):
    """Only if it is asked for. Whoever has BatchNormalization is told what that changes."""
    settings = {"epochs": 3, "normalisation": normalisation}
    begun = {} if first == "auto" else {"micro_batch": first}
    train(records_dir, tmp_path, stop=1, **begun, **settings)
    chosen = 4 if first == "auto" else first
    monkeypatch.setattr(memory, "available_bytes", lambda: 1)  # a smaller machine
    capsys.readouterr()
    train(records_dir, tmp_path, stop=2, micro_batch=then, **settings)
    said = capsys.readouterr().err
    config = json.loads((tmp_path / "fold-0/config.json").read_text())
    assert [session["micro_batch"] for session in config["sessions"]] == [chosen, expected]
    assert config["resolved"]["micro_batch"] == expected
    assert ("moments are those of" in said) == (normalisation == "batch" and chosen != expected)
    assert f"micro-batches of {expected} may not fit into the free memory" in said
    train(records_dir, tmp_path, **settings)  # with what the start before had
    assert (
        json.loads((tmp_path / "fold-0/config.json").read_text())["resolved"]
        == (config["resolved"])
    )


def test_a_finished_fold_is_not_trained_again(finished, records_dir):
    run, result = finished
    before = (run / "fold-0/best.keras").read_bytes()
    again = train(records_dir, run)
    assert again.trained == 0
    assert again.best_loss == result.best_loss
    assert (run / "fold-0/best.keras").read_bytes() == before


@pytest.mark.core
def test_other_settings_are_refused_by_name(finished, records_dir):
    run, _ = finished
    with pytest.raises(InputError, match=r"training.learning_rate was 0.005, now 0.01"):
        train(records_dir, run, learning_rate=0.01)


@pytest.mark.parametrize(
    ("gone", "message"),
    [
        ("config.json", "has state.npz and history.csv but no config.json"),
        ("state.npz", "a history of 2 epochs but no state.npz"),
        ("best.keras", "but not its history.csv or best.keras"),
    ],
)
def test_a_begun_fold_that_lost_a_file_is_not_trained_on(
    finished, records_dir, tmp_path, gone, message
):
    """As if stopped after two epochs of three."""
    shutil.copytree(finished[0] / "fold-0", tmp_path / "fold-0")
    rows = (tmp_path / "fold-0/history.csv").read_text().splitlines()
    (tmp_path / "fold-0/history.csv").write_text("\n".join(rows[:3]) + "\n")
    state = dict(np.load(tmp_path / "fold-0/state.npz"))
    np.savez(tmp_path / "fold-0/state.npz", **(state | {"epochs": 2}))
    (tmp_path / "fold-0" / gone).unlink()
    with pytest.raises(InputError, match=message):
        train(records_dir, tmp_path)


def test_a_finished_fold_needs_no_state(finished, records_dir, tmp_path):
    shutil.copytree(finished[0] / "fold-0", tmp_path / "fold-0")
    (tmp_path / "fold-0/state.npz").unlink()
    result = train(records_dir, tmp_path)
    assert result.trained == 0
    assert result.best_loss == finished[1].best_loss


def test_an_exchanged_shard_is_named(records_dir, tmp_path):
    """Of the right size, but of other patients: found by its checksum before training."""
    shutil.copytree(records_dir, tmp_path / "records")
    shards = [tmp_path / f"records/subset-{k}/slabs-00000-of-00001.tfrecord" for k in (1, 2)]
    contents = [shard.read_bytes() for shard in shards]
    assert len(contents[0]) == len(contents[1])
    shards[0].write_bytes(contents[1])
    with pytest.raises(InputError, match="damaged .*subset-1/slabs-00000"):
        train(tmp_path / "records", tmp_path / "run")


def test_flipped_byte_in_a_shard_is_named(records_dir, tmp_path):
    shutil.copytree(records_dir, tmp_path / "records")
    shard = tmp_path / "records/subset-2/slabs-00000-of-00001.tfrecord"
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 0xFF
    shard.write_bytes(content)
    with pytest.raises(InputError, match=r"damaged records.*subset-2/slabs-00000"):
        train(tmp_path / "records", tmp_path / "run")


@pytest.mark.core
def test_damaged_state_is_named(finished, records_dir, tmp_path):
    shutil.copytree(finished[0], tmp_path / "run")
    file = tmp_path / "run/fold-0/state.npz"
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(InputError, match="state.npz: the training state cannot be read"):
        train(records_dir, tmp_path / "run")


@pytest.mark.core
def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_good_state(records_dir, tmp_path):
    train(records_dir, tmp_path, stop=1)
    file = tmp_path / "fold-0/state.npz"
    with np.load(file) as arrays:
        broken = {name: arrays[name] for name in arrays.files}
    broken["variable_0000"] *= np.nan
    np.savez(file, **broken)
    best = (tmp_path / "fold-0/best.keras").read_bytes()
    with pytest.raises(InputError, match="the training loss is not finite in epoch 2, step 1"):
        train(records_dir, tmp_path)
    assert (tmp_path / "fold-0/best.keras").read_bytes() == best


@pytest.mark.core
def test_a_validation_loss_that_is_not_finite_stops(records_dir, tmp_path):
    class Diverges(FakeStep):
        def evaluate(self, batches, count):
            return self.sums() * np.inf

    with pytest.raises(InputError, match="the validation loss is not finite in epoch 1, step 4"):
        train(records_dir, tmp_path, step=Diverges)
    assert not (tmp_path / "fold-0/best.keras").exists()


def test_a_network_that_is_not_finite_is_never_kept_though_its_loss_is(records_dir, tmp_path):
    class Diverges(FakeStep):
        def __init__(self, *given):
            super().__init__(*given)
            self.state.append(tf.Variable(1.0))  # a variance

        def train(self, batches, step):
            if step == 5:
                self.state[1].assign(np.inf)
            return super().train(batches, step)

    message = "the weights are not finite in epoch 2, step 3; the last good state is kept"
    with pytest.raises(InputError, match=message):
        train(records_dir, tmp_path, step=Diverges)
    with zipfile.ZipFile(tmp_path / "fold-0/best.keras") as best:
        kept = best.read("weight")
    assert len((tmp_path / "fold-0/history.csv").read_text().splitlines()) == 2
    train(records_dir, tmp_path / "one", step=FakeStep, stop=1)
    with zipfile.ZipFile(tmp_path / "one/fold-0/best.keras") as first:
        assert first.read("weight") == kept


def test_patience_ends_a_fold_that_no_longer_gains(records_dir, tmp_path):
    class Stalls(FakeStep):
        def evaluate(self, batches, count):
            return np.maximum(super().evaluate(batches, count), 0.25)

    result = train(records_dir, tmp_path, step=Stalls, epochs=30, patience=2)
    assert result.epochs < 30
    assert result.epochs - result.best_epoch == 2
    again = train(records_dir, tmp_path, step=Stalls, epochs=30, patience=2)
    assert again.trained == 0


@pytest.mark.core
def test_a_fold_begun_in_the_other_line_says_so(records_dir, tmp_path):
    """A finished one is left alone in either."""
    train(records_dir, tmp_path, stop=1)
    file = tmp_path / "fold-0/config.json"
    config = json.loads(file.read_text())
    here = config["sessions"][-1]["software"]
    other = {"tensorflow": "9.8.7", "keras": "9.0.1"}
    here_in_words = f"this is TensorFlow {here['tensorflow']} with Keras {here['keras']}"
    config["sessions"][-1]["software"] = here | other
    file.write_text(json.dumps(config))
    message = f"begun with TensorFlow 9.8.7 and Keras 9.0.1, and {here_in_words}; expected the same"
    with pytest.raises(InputError, match=message):
        train(records_dir, tmp_path)
    assert train(records_dir, tmp_path, overwrite=True).epochs == 3
    config["sessions"][-1]["software"] = here | other
    file.write_text(json.dumps(config))
    assert train(records_dir, tmp_path).trained == 0


def test_auto_keeps_what_the_first_start_chose(records_dir, tmp_path, monkeypatch):
    settings = {"epochs": 2, "precision": "auto"}
    monkeypatch.setattr(memory, "fitting_slabs", lambda size, records: 2)
    monkeypatch.setattr(precision, "choose_precision", lambda wanted: ("bfloat16", "a test"))
    train(records_dir, tmp_path, stop=1, **settings)
    monkeypatch.undo()
    asked = []
    monkeypatch.setattr(
        precision, "choose_precision", lambda wanted: asked.append(wanted) or (wanted, "kept")
    )
    train(records_dir, tmp_path, **settings)
    assert asked == ["auto", "bfloat16"]  # checked as given, then taken as begun
    config = json.loads((tmp_path / "fold-0/config.json").read_text())
    assert config["resolved"] == {"precision": "bfloat16", "micro_batch": 2}
    assert config["training"]["precision"] == "auto"
    assert [session["from_epoch"] for session in config["sessions"]] == [1, 2]


@pytest.mark.parametrize("mistake", ["damaged shard", "option", "batch"])
def test_overwrite_throws_nothing_away_before_every_check(mistake, finished, records_dir, tmp_path):
    run = shutil.copytree(finished[0], tmp_path / "run")
    before = {p: p.read_bytes() for p in run.rglob("*") if p.is_file()}
    records, changes = records_dir, {}
    if mistake == "damaged shard":
        records = shutil.copytree(records_dir, tmp_path / "records")
        shard = sorted(records.glob("subset-2/*"))[0]
        content = bytearray(shard.read_bytes())
        content[5000] ^= 255
        shard.write_bytes(content)
    elif mistake == "option":
        changes = {"optimizer": 'adam(clipnorm="1.0")'}
    else:
        changes = {"micro_batch": 3, "batch_size": 3000}
    with pytest.raises(InputError):
        train(records, run, overwrite=True, **changes)
    assert {p: p.read_bytes() for p in run.rglob("*") if p.is_file()} == before


def test_overwrite_begins_with_nothing(finished, records_dir, tmp_path):
    run = shutil.copytree(finished[0], tmp_path / "run")
    (run / "fold-0/notes.txt").write_text("of the run before")
    assert train(records_dir, run, overwrite=True, seed=2).trained == 3
    assert not (run / "fold-0/notes.txt").exists()
    config = json.loads((run / "fold-0/config.json").read_text())
    assert (config["training"]["seed"], len(config["sessions"])) == (2, 1)


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("best.keras", None, None, "best.keras is damaged"),
        ("config.json", '"sessions": [', '"sessions": null, "x": [', "not readable or not whole"),
        ("config.json", '"micro_batch": 4', '"micro_batch": "a"', "not readable or not whole"),
    ],
)
def test_a_damaged_part_of_a_begun_fold_is_named(
    name, old, new, message, finished, records_dir, tmp_path
):
    run = shutil.copytree(finished[0], tmp_path / "run")
    path = run / "fold-0" / name
    if old is None:
        path.write_bytes(path.read_bytes()[:1000])
    else:
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))
    with pytest.raises(InputError, match=message):
        train(records_dir, run)


def test_a_column_added_to_the_history_by_hand_costs_nothing(records_dir, tmp_path):
    train(records_dir, tmp_path, stop=1, epochs=2)
    path = tmp_path / "fold-0/history.csv"
    head, row = path.read_text().split()
    path.write_text(f"{head},note\n{row},1\n")
    assert train(records_dir, tmp_path, epochs=2).epochs == 2
    assert "note" not in path.read_text()


def test_the_state_is_saved_within_an_epoch_as_often_as_asked(records_dir, tmp_path, monkeypatch):
    saved = []
    monkeypatch.setattr(
        checkpoint,
        "save_state",
        lambda path, variables, progress: saved.append((progress.epochs, progress.step)),
    )
    options = RunOptions(save_minutes=0, overlay_epochs=0)
    configs = preset("tiny", epochs=1)
    trainer.train_fold(records_dir, tmp_path, 0, configs, options=options, build_step=FakeStep)
    assert saved == [(0, 1), (0, 2), (1, 0)]  # the last step's is that of the epoch's end
