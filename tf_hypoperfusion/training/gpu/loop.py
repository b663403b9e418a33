"""Networks one after the other within a given time: speed, schedule, log, files.

How many steps a network gets follows from the time there is and a step's own, measured first. A
network's folder is that of a fold: ``config.json``, ``history.csv`` and ``best.keras``, the average
with the lowest validation loss, which is written anew whenever one is better, so that a killed
run loses the time since the last validation at most.
"""

import collections
import dataclasses
import hashlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from data_tools.runtime import atomic
from data_tools.runtime.errors import InputError
from tf_hypoperfusion import provenance
from tf_hypoperfusion.config import ModelConfig, TrainingConfig
from tf_hypoperfusion.training import history, parents
from tf_hypoperfusion.training.gpu.steps import INPUTS, State, Steps, Way
from tf_hypoperfusion.training.randomisation import Randomisation

WARMUP_STEPS = 100
# Steps to compile and settle, and steps that are timed.
FIRST_STEPS, TIMED_STEPS = 3, 20
LOG_EVERY_S = 5.0
# Steps that may wait on the device: enough to keep it busy, few enough to know where it is.
AHEAD = 4
# Of the time, for what no step is: files, the last validation.
RESERVE = 0.03


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source:
    """The patients, all simulated.

    Attributes:
        cohort: what a model's card calls them.
        facts: what they were made with; goes into ``config.json``.
    """

    cohort: str
    facts: dict[str, Any]

    @property
    def fingerprint(self) -> str:
        """Checksum of the facts."""
        return hashlib.sha256(json.dumps(self.facts, sort_keys=True).encode()).hexdigest()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Data:
    """On the device.

    Attributes:
        train: patients to learn from.
        validation: others, to choose the weights by.
        source: where both come from.
    """

    train: dict[str, Any]
    validation: dict[str, Any]
    source: Source


def measure_ways(
    ways: list[Way], model: ModelConfig, training: TrainingConfig, changes: Randomisation, *,
    patients: dict[str, Any], until: float,
) -> Iterator[tuple[Way, float]]:  # fmt: skip
    """Slabs a second of each way, the first in any case, the others while there is time.

    Args:
        ways: to compute a step.
        model: the network.
        training: its batch.
        changes: of the windows.
        patients: on the device.
        until: of ``time.monotonic``; no way is begun later.
    """
    for way in ways:
        if way is not ways[0] and time.monotonic() > until:
            break
        began = time.monotonic()
        steps = Steps(model, training, changes, way)
        state = steps.new_state(training.seed)
        state, loss = _run(steps, state, patients, range(FIRST_STEPS))
        ready = time.monotonic()
        _, loss = _run(steps, state, patients, range(FIRST_STEPS, FIRST_STEPS + TIMED_STEPS))
        seconds = (time.monotonic() - ready) / TIMED_STEPS
        speed = training.batch_size / seconds
        print(
            f"{way}: {speed:.1f} slabs/s ({seconds * 1000:.1f} ms a step of "
            f"{training.batch_size}), loss {loss:.4f}, {ready - began:.1f} s to compile, "
            f"{_peak_gib():.1f} GiB at most",
            flush=True,
        )
        yield way, speed


def _run(steps: Steps, state: State, patients: dict[str, Any], numbers: range) -> tuple[State, Any]:
    """Steps at a learning rate of a warm-up; waits for the last."""
    loss = None
    for number in numbers:
        rate = _learning_rate(steps.training, number, 10**9)
        key = _key(steps.training.seed, number)
        state, loss = steps.step(state, patients, key, step=number, learning_rate=rate)
    return state, float(loss)  # type: ignore[arg-type]


def _key(seed: int, step: int) -> Any:
    return jax.random.fold_in(jax.random.PRNGKey(seed), step)


def _learning_rate(training: TrainingConfig, step: int, total: int) -> float:
    """Rises over the first steps, then falls exponentially to its last share."""
    decay = training.final_learning_rate_ratio ** (step / total)
    return training.learning_rate * decay * min(1.0, (step + 1) / _warmup_steps(total))


def _warmup_steps(total: int) -> int:
    """A tenth of the steps, not more than :data:`WARMUP_STEPS`."""
    return max(1, min(WARMUP_STEPS, total // 10))


def _peak_gib() -> float:
    stats = jax.devices()[0].memory_stats() or {}
    return stats.get("peak_bytes_in_use", 0) / 2**30


def train_networks(
    run: Path, count: int, steps: Steps, data: Data, *, until: float, total: int = 0
) -> list[dict[str, float]]:
    """Train networks that differ in their seed, and so in weights, windows and changes.

    Args:
        run: folder; network k goes into ``fold-k``.
        count: of networks.
        steps: of their kind.
        data: on the device.
        until: of ``time.monotonic``: they share the time till then.
        total: optimizer steps of each; 0: as many as the time holds.

    Returns:
        The best row of each network's history.
    """
    _compile(steps, data)  # so that the first network's share is as long as the others'
    best = []
    for number in range(count):
        share = (until - time.monotonic()) / (count - number)
        network = Network(run / f"fold-{number}", steps, data, seed=steps.training.seed + number)
        best.append(network.train(time.monotonic() + share, total))
    return best


def _compile(steps: Steps, data: Data) -> None:
    began = time.monotonic()
    state, _ = _run(steps, steps.new_state(steps.training.seed), data.train, range(FIRST_STEPS))
    steps.validate(state, data.validation)
    steps.validate_changed(state, data.validation, steps.changes)
    print(f"{time.monotonic() - began:.1f} s to compile ({steps.way})", flush=True)


class Network:
    """One network in training.

    Args:
        folder: of its files.
        steps: of its kind.
        data: on the device.
        seed: of weights, windows and changes.
    """

    def __init__(self, folder: Path, steps: Steps, data: Data, *, seed: int):
        self.folder, self.steps, self.data = folder, steps, data
        self.number = int(folder.name.rpartition("-")[2])
        init_from, self.parent = steps.training.init_from, None
        if init_from:
            self.parent = parents.find(init_from, self.number)
            parents.check(self.parent, steps.model_config)
            init_from = self.parent.reference
        self.training = dataclasses.replace(steps.training, seed=seed, init_from=init_from)
        self.rows: list[history.Row] = []
        self.state = steps.new_state(seed, init_from)
        self.began = time.monotonic()
        self.learnt: list[float] = []  # losses since the last row
        self._row_began = self.began
        self._waiting: collections.deque = collections.deque()

    def train(self, until: float, total: int) -> dict[str, float]:
        """Train, validate, write.

        Args:
            until: of ``time.monotonic``; no step is begun later.
            total: optimizer steps; 0: as many as the time holds.

        Returns:
            The best row of the history.

        Raises:
            InputError: the loss is no number any more.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        done, seconds = 0, 0.0
        if not total:
            done, seconds = self._timed()
            total = self._steps_in(until - time.monotonic(), seconds, done)
        epochs = self.training.epochs
        self._write_config(total)
        print(
            f"{self.folder}: {total} steps of {self.training.batch_size} slabs"
            + (f", {seconds * 1000:.1f} ms a step" if seconds else ""),
            flush=True,
        )
        logged, logged_at = time.monotonic(), done
        ends = [round(total * (k + 1) / epochs) for k in range(epochs)]
        for step in range(done, total):
            if time.monotonic() > until:
                break
            self._one(step, total)
            if self.learnt and time.monotonic() - logged > LOG_EVERY_S:
                speed = (step + 1 - logged_at) / (time.monotonic() - logged)
                self._log(step + 1, total, speed)
                logged, logged_at = time.monotonic(), step + 1
            if step + 1 in ends:
                self._validate(step + 1, total)
        if not self.rows or (self.learnt and len(self.rows) < epochs):
            self._validate(step + 1, total)
        best = history.best_row(self.rows)
        assert best is not None
        return best

    def _one(self, step: int, total: int) -> None:
        rate = _learning_rate(self.training, step, total)
        key = _key(self.training.seed, step)
        self.state, loss = self.steps.step(
            self.state, self.data.train, key, step=step, learning_rate=rate
        )
        self._waiting.append(loss)
        if len(self._waiting) > AHEAD:
            self._arrive()

    def _arrive(self) -> None:
        loss = float(self._waiting.popleft())
        if not np.isfinite(loss):
            raise InputError(
                f"{self.folder}: the loss is {loss}; best.keras of the last validation stands. "
                "Give a lower --learning_rate, or --precision=float32"
            )
        self.learnt.append(loss)

    def _timed(self) -> tuple[int, float]:
        """The first steps: how many, and the seconds of one."""
        for step in range(FIRST_STEPS):
            self._one(step, 10**9)
        while self._waiting:
            self._arrive()
        began = time.monotonic()
        for step in range(FIRST_STEPS, FIRST_STEPS + TIMED_STEPS):
            self._one(step, 10**9)
        while self._waiting:
            self._arrive()
        seconds = (time.monotonic() - began) / TIMED_STEPS
        return FIRST_STEPS + TIMED_STEPS, seconds

    def _steps_in(self, seconds: float, of_step: float, done: int) -> int:
        began = time.monotonic()
        self.steps.validate(self.state, self.data.validation)
        self.steps.validate_changed(self.state, self.data.validation, self.steps.changes)
        of_validation = time.monotonic() - began + 1.0  # and of a file
        left = seconds * (1 - RESERVE) - (self.training.epochs + 1) * of_validation
        return done + max(int(left / of_step), self.training.epochs)

    def _log(self, step: int, total: int, speed: float) -> None:
        print(
            f"{self.folder.name} step {step}/{total}  {time.monotonic() - self.began:.0f} s  "
            f"{speed * self.training.batch_size:.0f} slabs/s  loss "
            f"{np.mean(self.learnt[-100:]):.4f}",
            flush=True,
        )

    def _validate(self, step: int, total: int) -> None:
        """A row of the history, and the file if it is the best one."""
        while self._waiting:
            self._arrive()
        seconds = time.monotonic() - self._row_began
        speed = self.training.batch_size * len(self.learnt) / seconds
        found = self.steps.validate(self.state, self.data.validation)
        found |= self.steps.validate_changed(self.state, self.data.validation, self.steps.changes)
        missing = {
            f"{name}_dice": self.steps.validate(self.state, self.data.validation, name)["dice"]
            for name, field in INPUTS.items()
            if getattr(self.steps.changes, field)  # only what is learnt from
        }
        found |= missing
        row: history.Row = {
            "epoch": len(self.rows) + 1,
            "step": step,
            "learning_rate": _learning_rate(self.training, step - 1, total),
            "seconds": round(time.monotonic() - self.began, 2),
            "composite": float(np.mean(self.learnt)),
            **{f"val_{name}": round(value, 6) for name, value in found.items()},
        }
        self.learnt = []
        self.rows.append(row)
        best = history.best_row(self.rows) is row
        if best:
            self.steps.save(self.state, self.folder / "best.keras")
        history.write(self.folder, self.rows)
        print(
            f"{self.folder.name} validation {row['epoch']}: {speed:.0f} slabs/s, loss "
            f"{row['val_composite']:.4f}"
            f"{' (best)' if best else ''}, Dice {row['val_dice']:.3f}, median "
            f"{row['val_dice_median']:.3f}, volume {row['val_volume_bias_ml']:+.0f} mL; changed "
            f"windows: loss {row['val_changed_composite']:.4f}, Dice {row['val_changed_dice']:.3f}"
            + "".join(f", {name} {value:.3f}" for name, value in missing.items()),
            flush=True,
        )
        self._row_began = time.monotonic()

    def _write_config(self, total: int) -> None:
        """What a fold's config.json says, as far as there is something to say."""
        source = self.data.source
        content = {
            "run": self.folder.parent.name,
            "fold": self.number,
            "model": dataclasses.asdict(self.steps.model_config),
            "training": dataclasses.asdict(self.training),
            "records": {"fingerprint": source.fingerprint, "cohort": source.cohort},
            **({"parent": self.parent.to_json()} if self.parent else {}),
            "simulation": source.facts,
            "randomisation": dataclasses.asdict(self.steps.changes),
            "steps": total,
            "warmup_steps": _warmup_steps(total),
            "computed_as": str(self.steps.way),
            "resolved": {
                "precision": self.steps.way.precision, "micro_batch": self.training.batch_size,
            },
            "parameters": int(self.steps.model.count_params()),
            "devices": [f"{d.device_kind} ({d.platform})" for d in jax.devices()],
            "software": {**provenance.software(), "jax": jax.__version__},
        }  # fmt: skip
        atomic.write_json(self.folder / "config.json", content)
