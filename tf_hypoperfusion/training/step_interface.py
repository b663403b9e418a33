"""What the loop over a fold asks of its network, loss and optimizer."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from tf_hypoperfusion.config import ModelConfig, TrainingConfig


class Step(Protocol):
    """An optimizer step and what belongs to it.

    :class:`tf_hypoperfusion.training.step.TrainingStep` is the one that trains; a test of the
    loop's book-keeping brings a cheaper one.
    """

    @property
    def state(self) -> Sequence[Any]:
        """Every variable that a resumed run needs."""

    @property
    def parameters(self) -> int:
        """How many the network has."""

    def train(self, batches: Iterator, step: int) -> tuple[tf.Tensor, float]:
        """Take one optimizer step."""

    def evaluate(self, batches: Iterator, count: int) -> NDArray[np.float64]:
        """Sums over the validation slabs."""

    def synchronise(self) -> None:
        """Make the replicas agree, before evaluation or saving."""

    def predict(self, images: NDArray, nihss: NDArray) -> NDArray:
        """Probabilities of slabs."""

    def graph(self) -> tf.Graph:
        """The network as it predicts."""

    def save_for_inference(self, path: Path) -> None:
        """Write the network to a .keras file."""


# (strategy, model's config, training's config, steps of an epoch) -> step
BuildStep: TypeAlias = Callable[[tf.distribute.Strategy, ModelConfig, TrainingConfig, int], Step]
