"""What one optimizer step computes, compiled for a strategy: gradients, update, evaluation.

A global batch is shared by the replicas; each replica may take its part in several micro-batches,
whose gradients are added up before the one update. Every sample's loss is divided by the global
batch, so the sum over micro-batches and replicas is the gradient of the mean loss, exactly.
"""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from data_tools.runtime import atomic
from data_tools.runtime.errors import InputError
from data_tools.runtime.tensorflow_start import counted_alone
from tf_hypoperfusion.config import ModelConfig, TrainingConfig
from tf_hypoperfusion.model.attention_unet import build_model
from tf_hypoperfusion.model.keras_compat import (
    apply_gradients,
    build_optimizer_variables,
    dropout_state,
    optimizer_state,
    raw_variable,
    scale_loss,
    to_numpy,
)
from tf_hypoperfusion.training import epoch_metrics, initial_weights, losses, parts
from tf_hypoperfusion.training.optimizers import build_optimizer, learning_rates

# Slabs that are predicted at once for the pictures.
PREDICTED_TOGETHER = 4


def build(
    strategy: tf.distribute.Strategy,
    model_config: ModelConfig,
    config: TrainingConfig,
    steps_per_epoch: int,
) -> "TrainingStep":
    """Make network, loss and optimizer in the strategy's scope, ready to step.

    Args:
        strategy: shares every batch over its devices.
        model_config: the network.
        config: ``precision`` and ``micro_batch`` are final: no ``auto``, no 0.
        steps_per_epoch: for the learning rate's decay.
    """
    with strategy.scope():
        model = build_model(model_config, config.precision, config.seed, for_training=True)
        new = initial_weights.copy_weights(config.init_from, model) if config.init_from else []
        trained = parts.trained(
            model,
            config.part_rates,
            new if config.freeze else None,
            scales_only=config.scales_only,
        )
        if not trained:
            raise _nothing_to_train(config)
        kept = model
        if config.ema_momentum:
            kept = build_model(model_config, config.precision, config.seed, for_training=True)
            kept.set_weights(model.get_weights())
        optimizer = build_optimizer(config, learning_rates(config, steps_per_epoch))
        build_optimizer_variables(optimizer, [variable for variable, _ in trained])
    return TrainingStep(
        strategy,
        model_config,
        model=model,
        kept=kept,
        trained=trained,
        loss=losses.CompositeLoss(
            config.bce_weight,
            config.dice_weight,
            config.volume_weight,
            core_weight=config.core_weight,
        ),
        optimizer=optimizer,
        batch_size=config.batch_size,
        micro_batches=config.batch_size // strategy.num_replicas_in_sync // config.micro_batch,
        ema_momentum=config.ema_momentum,
        fixed_moments=config.keeps_moments,
    )


def _nothing_to_train(config: TrainingConfig) -> InputError:
    if not config.freeze:
        return InputError("nothing is left to train; expected a part whose rate is above 0")
    return InputError(
        f"freeze leaves nothing to train: the network has every layer of {config.init_from} and no "
        "other; expected an answer that is new, as with --core_output"
    )


class TrainingStep:
    """Runs global batches through a model.

    Args:
        strategy: whose scope the models and the optimizer were made in.
        model_config: of both models.
        model: is trained.
        trained: of its variables, those that are, each with its share of the learning rate; all
            of them by default, with all of it.
        kept: is validated and saved: the same model, or, with an ``ema_momentum``, a second one
            that holds the moving average.
        loss: returns (batch,).
        optimizer: with its variables built.
        batch_size: global.
        micro_batches: per replica and batch.
        ema_momentum: 0 for none. It grows to this value over the first steps.
        fixed_moments: train the network as it computes at test time: normalised by its moving
            moments, which stay, and without dropout.
    """

    def __init__(
        self,
        strategy: tf.distribute.Strategy,
        model_config: ModelConfig,
        *,
        model: keras.Model,
        trained: parts.Trained | None = None,
        kept: keras.Model,
        loss: losses.CompositeLoss,
        optimizer: Any,
        batch_size: int,
        micro_batches: int = 1,
        ema_momentum: float = 0.0,
        fixed_moments: bool = False,
    ):
        self.strategy, self.model_config = strategy, model_config
        self.model, self.kept = model, kept
        trained = parts.trained(model, {}) if trained is None else trained
        self.trained = [variable for variable, _ in trained]
        self._slow = [(raw_variable(variable), share) for variable, share in trained if share < 1]
        self.loss, self.optimizer = loss, optimizer
        self.batch_size, self.micro_batches = batch_size, micro_batches
        self.ema_momentum, self.fixed_moments = ema_momentum, fixed_moments
        self._gradients: list[tf.Variable] = []
        if micro_batches > 1:
            with strategy.scope():
                self._gradients = [
                    tf.Variable(
                        tf.zeros(variable.shape),
                        trainable=False,
                        synchronization=tf.VariableSynchronization.ON_READ,
                        aggregation=tf.VariableAggregation.SUM,
                    )
                    for variable in self.trained
                ]

        # XLA makes 3D convolutions ten times slower on a CPU. Nothing here branches on a tensor, so
        # that autograph would only take seconds to read every function.
        def compiled(function: Callable[..., Any]) -> Any:
            return tf.function(counted_alone(function), jit_compile=False, autograph=False)

        self._whole = compiled(self._whole_batch)
        self._part = compiled(self._part_of_batch)
        self._finish = compiled(self._finish_batch)
        self._evaluate = compiled(self._evaluate_batch)
        self._average = compiled(self._average_moments)
        self._predict = compiled(
            lambda image, nihss: kept({"image": image, "nihss": nihss}, training=False)
        )

    @property
    def state(self) -> list[Any]:
        """Every variable that a resumed run needs: weights, dropout, optimizer, average."""
        average = [] if self.kept is self.model else self.kept.variables
        return [
            *self.model.variables,
            *dropout_state(self.model),
            *optimizer_state(self.optimizer),
            *average,
        ]

    @property
    def parameters(self) -> int:
        """How many the network has."""
        return int(self.model.count_params())

    def train(self, batches: Iterator, step: int) -> tuple[tf.Tensor, float]:
        """One optimizer step.

        Args:
            batches: of micro-batches, already distributed.
            step: optimizer steps done so far.

        Returns:
            Sums over the global batch (see :func:`epoch_metrics.batch_sums`), perhaps still being
            computed, and the seconds spent waiting for input.
        """
        momentum = tf.constant(min(self.ema_momentum, (1 + step) / (10 + step)), tf.float32)
        sums: Any = 0.0
        waited = 0.0
        for _ in range(self.micro_batches):
            began = time.monotonic()
            batch = next(batches)
            waited += time.monotonic() - began
            if self.micro_batches == 1:
                sums = self._whole(batch, momentum)
            else:
                sums += self._part(batch)
        if self.micro_batches > 1:
            self._finish(momentum)
        return sums, waited

    def evaluate(self, batches: Iterator, count: int) -> NDArray[np.float64]:
        """Sums over ``count`` batches through the kept model, without dropout."""
        return np.sum([self._evaluate(next(batches)).numpy() for _ in range(count)], 0, np.float64)

    def synchronise(self) -> None:
        """Average BatchNormalization's moving moments over the replicas, which each had their own.

        A moving average is linear, so it does not matter when, or how often, this is done.
        """
        if self.strategy.num_replicas_in_sync > 1:
            self._average()

    def predict(self, images: NDArray, nihss: NDArray) -> NDArray:
        """Probabilities (n, 128, 128, 16, 1) of the kept model, without dropout.

        Args:
            images: float32 (n, 128, 128, 16, 4).
            nihss: float32 (n, 1).
        """
        parts = []
        for first in range(0, len(images), PREDICTED_TOGETHER):
            together = slice(first, first + PREDICTED_TOGETHER)
            parts.append(self._predict(images[together], nihss[together])["probability"].numpy())
        return np.concatenate(parts)

    def graph(self) -> tf.Graph:
        """The kept model as it predicts, for any number of slabs."""
        named = {tensor.name.split(":")[0]: tensor for tensor in self.kept.inputs}
        specs = [
            tf.TensorSpec((None, *named[name].shape[1:]), tf.float32) for name in ("image", "nihss")
        ]
        return self._predict.get_concrete_function(*specs).graph

    def save_for_inference(self, path: Path) -> None:
        """Stock layers in float32, whatever it was trained in: any machine can use the file."""
        model = build_model(self.model_config)
        for variable, trained in zip(model.variables, self.kept.variables, strict=True):
            if variable.dtype == "float32":  # the others are seeds of dropout
                variable.assign(to_numpy(trained))
        with atomic.replacing(path) as temporary:
            model.save(temporary)

    def _forward(self, model: keras.Model, batch: Any, training: bool):
        inputs, y_true, weight, *once = batch
        answers = model(inputs, training=training)
        terms = losses.terms(y_true, answers)
        sums = epoch_metrics.batch_sums(
            self.loss, terms, y_true, answers, weight=weight, once=once[0] if once else None
        )
        return self.loss.combine(*terms), sums

    def _gradients_of(self, batch: Any):
        with tf.GradientTape() as tape:
            each, sums = self._forward(self.model, batch, training=not self.fixed_moments)
            scaled = scale_loss(self.optimizer, tf.reduce_sum(each) / self.batch_size)
        return tape.gradient(scaled, self.trained), sums

    def _whole_batch(self, batch: Any, momentum: tf.Tensor) -> tf.Tensor:
        before = self._before_step()

        def replica(batch):
            gradients, sums = self._gradients_of(batch)
            apply_gradients(self.optimizer, gradients, self.trained)
            return sums

        sums = self.strategy.reduce("SUM", self.strategy.run(replica, (batch,)), axis=None)
        self._shorten(before)
        self._follow(momentum)
        return sums

    def _part_of_batch(self, batch: Any) -> tf.Tensor:
        def replica(batch):
            gradients, sums = self._gradients_of(batch)
            for total, gradient in zip(self._gradients, gradients, strict=True):
                total.assign_add(tf.cast(gradient, tf.float32))
            return sums

        return self.strategy.reduce("SUM", self.strategy.run(replica, (batch,)), axis=None)

    def _finish_batch(self, momentum: tf.Tensor) -> None:
        before = self._before_step()

        def replica():
            gradients = [total.read_value() for total in self._gradients]
            apply_gradients(self.optimizer, gradients, self.trained)
            for total in self._gradients:
                total.assign(tf.zeros_like(total))

        self.strategy.run(replica)
        self._shorten(before)
        self._follow(momentum)

    def _before_step(self) -> list[tf.Tensor]:
        return [tf.identity(variable) for variable, _ in self._slow]

    def _shorten(self, before: list[tf.Tensor]) -> None:
        """Take only a share of the step just taken: what a lower rate is, with any optimizer."""
        for (variable, share), old in zip(self._slow, before, strict=True):
            variable.assign(old + share * (variable - old))

    def _follow(self, momentum: tf.Tensor) -> None:
        """Move the averaged model towards the trained one."""
        if not self.ema_momentum:
            return
        for average, variable in zip(self.kept.variables, self.model.variables, strict=True):
            average, variable = raw_variable(average), raw_variable(variable)
            if average.dtype == tf.float32:  # the others are seeds of dropout
                # So written, the average of a weight that never moves is that weight exactly.
                average.assign(average + (1 - momentum) * (variable - average))

    def _evaluate_batch(self, batch: Any) -> tf.Tensor:
        def replica(batch):
            return self._forward(self.kept, batch, training=False)[1]

        return self.strategy.reduce("SUM", self.strategy.run(replica, (batch,)), axis=None)

    def _average_moments(self) -> None:
        def replica():
            context = tf.distribute.get_replica_context()
            for variable in self.model.non_trainable_variables:
                moment = raw_variable(variable)
                if moment.dtype == tf.float32:
                    moment.assign(context.all_reduce("MEAN", moment.read_value()))

        self.strategy.run(replica)
