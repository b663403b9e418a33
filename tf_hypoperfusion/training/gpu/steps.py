"""What one optimizer step computes on the device: patients in its memory -> new weights.

The network is Keras's, through its JAX backend; windows are drawn, changed and learnt from in one
compiled function, so that nothing but a key goes to the device and nothing but a loss comes back.
"""

import copy
import dataclasses
import functools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import keras
import numpy as np
from numpy.typing import NDArray

from data_tools import slabs
from data_tools.grid import GRID_SHAPE, SLAB_SLICES, VOXEL_ML, window_about_brain
from data_tools.runtime import atomic
from tf_hypoperfusion.config import PROBABILITY_THRESHOLD, ModelConfig, TrainingConfig
from tf_hypoperfusion.model.attention_unet import build_model
from tf_hypoperfusion.training import initial_weights, losses
from tf_hypoperfusion.training.gpu import randomisation
from tf_hypoperfusion.training.gpu.patients import HELD, TRUTH
from tf_hypoperfusion.training.gpu.plane_layers import with_plane_layers
from tf_hypoperfusion.training.gpu.randomisation import Drawn, Randomisation
from tf_hypoperfusion.training.randomisation import PARTS

VALIDATION_STRIDE = 8
# What a patient can lack, by the field of Randomisation that leaves it out.
INPUTS = {f"no_{field.removeprefix('drop_')}": field for field in PARTS["inputs"]}
State = dict[str, list[Any]]


@dataclasses.dataclass(frozen=True)
class Way:
    """How a step computes; the network is the same.

    Attributes:
        precision: ``float32`` or ``bfloat16``; weights and loss are float32 in both.
        planes: with the layers of :mod:`plane_layers`.
    """

    precision: str
    planes: bool

    def __str__(self) -> str:
        return f"{self.precision}, {'plane' if self.planes else 'stock'} layers"


class Steps:
    """Compiled functions of one kind of network, for any weights of it.

    Args:
        model_config: the network.
        training: batch, weights of the loss and mirror.
        changes: of the training windows.
        way: how it is computed.
    """

    def __init__(
        self,
        model_config: ModelConfig,
        training: TrainingConfig,
        changes: Randomisation,
        way: Way,
    ):
        self.model_config, self.training, self.changes, self.way = (
            model_config, training, changes, way
        )  # fmt: skip
        self.model = self._new_model(seed=0)
        self._saved = build_model(model_config)
        self.optimizer = keras.optimizers.Adam(training.learning_rate)
        self.optimizer.build(self.model.trainable_variables)
        self._at_rest = [np.asarray(v.value) for v in self.optimizer.variables]
        # The fields of the optimizer's own that hold no moment.
        names = [v.path.split("/")[-1] for v in self.optimizer.variables]
        self._rate = names.index("learning_rate")
        self.loss = losses.CompositeLoss(
            training.bce_weight, training.dice_weight, training.volume_weight,
            core_weight=training.core_weight,
        )  # fmt: skip
        self._step = jax.jit(self._one_step, donate_argnums=0)
        self._measure = jax.jit(self._one_patient)
        self._changed = jax.jit(self._changed_windows)
        self._amounts = jax.device_put(changes)

    def with_changes(self, training: TrainingConfig, changes: Randomisation) -> "Steps":
        """The same compiled functions, whose training windows are changed by other amounts.

        Args:
            training: differs from this one's in nothing that a step is compiled for: batch, loss,
                mirror and whether moments are kept are the same.
            changes: what its ``randomisation`` names.
        """
        other = copy.copy(self)
        other.training, other.changes = training, changes
        other._amounts = jax.device_put(changes)
        return other

    def _new_model(self, seed: int) -> Any:
        keras.utils.set_random_seed(seed)
        model = build_model(self.model_config, self.way.precision, seed)
        return with_plane_layers(model) if self.way.planes else model

    def new_state(self, seed: int, init_from: str = "") -> State:
        """Weights as drawn from a seed, or those of a trained network; moments at rest.

        Raises:
            InputError: that is another network.
        """
        model = self._new_model(seed)
        if init_from:
            initial_weights.copy_weights(init_from, model)
        weights = [jnp.array(v.value) for v in model.trainable_variables]
        moments = [jnp.array(v.value) for v in model.non_trainable_variables]
        return {
            "weights": weights,
            "moments": moments,
            "optimizer": [jnp.array(value) for value in self._at_rest],
            "average_weights": [jnp.array(value) for value in weights],
            "average_moments": [jnp.array(value) for value in moments],
        }

    def step(
        self, state: State, patients: dict[str, Any], key: Any, *, step: int, learning_rate: float
    ) -> tuple[State, Any]:
        """One optimizer step; the state that is given can no longer be used.

        Args:
            state: of :meth:`new_state` or of a step.
            patients: on the device.
            key: of the step's windows.
            step: steps done so far.
            learning_rate: of this one.

        Returns:
            The new state, and the loss, perhaps still being computed.
        """
        # As tf_hypoperfusion.training.step: the average forgets the first steps soon.
        momentum = min(self.training.ema_momentum, (1 + step) / (10 + step))
        rates = np.array([learning_rate, momentum], np.float32)
        return self._step(state, patients, key, rates=rates, changes=self._amounts)

    def _one_step(self, state, patients, key, *, rates, changes):
        learning_rate, momentum = rates
        inputs, y_true = randomisation.windows(
            patients, key,
            settings=changes, count=self.training.batch_size,
            frame=self.model_config.frame_shape, mirror=self.training.mirror,
        )  # fmt: skip

        def objective(weights):
            answers, moments = self._answer(
                weights, state["moments"], inputs, training=not self.training.keeps_moments
            )
            return self.loss.call(y_true, answers).mean(), moments

        (loss, moments), gradients = jax.value_and_grad(objective, has_aux=True)(state["weights"])
        optimizer = list(state["optimizer"])
        optimizer[self._rate] = learning_rate
        weights, optimizer = self.optimizer.stateless_apply(optimizer, gradients, state["weights"])

        def follow(average, now):
            if not jnp.issubdtype(now.dtype, jnp.floating):  # seeds of dropout
                return now
            return momentum * average + (1 - momentum) * now

        return {
            "weights": weights,
            "moments": moments,
            "optimizer": optimizer,
            "average_weights": list(map(follow, state["average_weights"], weights)),
            "average_moments": list(map(follow, state["average_moments"], moments)),
        }, loss

    def _answer(self, weights, moments, inputs, *, training):
        """The answers in the frame that is computed, and the new moments."""
        answers, moments = self.model.stateless_call(weights, moments, inputs, training=training)
        place = window_about_brain(self.model_config.frame_shape)
        return {name: each[(slice(None), *place)] for name, each in answers.items()}, moments

    def each(
        self, state: State, patients: dict[str, Any], without: str | None = None
    ) -> NDArray[np.float64]:
        """What the averaged weights answer for each patient, as simulated.

        Args:
            state: holds the weights.
            patients: on the device.
            without: one of :data:`INPUTS`, which the networks are not given.

        Returns:
            float64 (n, 4): mean loss of its windows; mL of the overlap, predicted, true.
        """
        lacks = np.array([name == without for name in INPUTS], np.float32)
        weights = state["average_weights"], state["average_moments"]
        found = [
            self._measure(*weights, patients, who=who, lacks=lacks)
            for who in range(len(patients["nihss"]))
        ]
        return np.asarray(found, np.float64)

    def validate(
        self, state: State, patients: dict[str, Any], without: str | None = None
    ) -> dict[str, float]:
        """Figures of the averaged weights on patients as they were simulated.

        Args:
            state: holds the weights.
            patients: on the device.
            without: as in :meth:`each`.

        Returns:
            ``composite``: mean loss of their windows; ``dice``: of all voxels of all; the rest over
            patients: ``dice_median`` of those with a lesion, ``volume_error_ml``: mean of the
            absolute error, ``volume_bias_ml``: median of predicted minus true.
        """
        loss, overlap_ml, predicted_ml, true_ml = self.each(state, patients, without).T
        dice = 2 * overlap_ml / np.maximum(predicted_ml + true_ml, VOXEL_ML)
        with_lesion = true_ml > 0
        error_ml = predicted_ml - true_ml
        return {
            "composite": float(loss.mean()),
            "dice": float(2 * overlap_ml.sum() / max((predicted_ml + true_ml).sum(), VOXEL_ML)),
            "dice_median": float(np.median(dice[with_lesion])) if with_lesion.any() else 0.0,
            "volume_error_ml": float(np.abs(error_ml).mean()),
            "volume_bias_ml": float(np.median(error_ml)),
        }

    def _one_patient(self, weights, moments, patients, *, who, lacks):
        starts = slabs.slab_starts(VALIDATION_STRIDE)
        frame = self.model_config.frame_shape
        settings = Randomisation(**dict(zip(INPUTS.values(), lacks, strict=True)))
        no_adc = settings.drop_adc > 0
        cut = functools.partial(randomisation.window, patients, settings=settings, frame=frame)
        key, no, yes = jax.random.PRNGKey(0), jnp.zeros((), bool), jnp.ones((), bool)

        def at(start):
            return cut(Drawn(who=who, start=start, mirrored=no, changed=yes, key=key))

        inputs, y_true = jax.vmap(at)(jnp.array(starts))
        answers, _ = self._answer(weights, moments, inputs, training=False)
        loss, y_pred = self.loss.call(y_true, answers).mean(), answers["probability"]
        total = jnp.zeros((*frame, GRID_SHAPE[2]))
        coverage, tissue, count = total, total, jnp.zeros(GRID_SHAPE[2])
        for k, start in enumerate(starts):
            part = slice(start, start + SLAB_SLICES)
            total = total.at[..., part].add(y_pred[k, ..., 0])
            coverage = coverage.at[..., part].set(y_true[k, ..., 1])
            image = inputs["image"][k][window_about_brain(frame)]
            tissue = tissue.at[..., part].set(jnp.where(no_adc, image[..., 0], image[..., 1]))
            count = count.at[part].add(1)
        # CSF is in no prediction; its ADC is 0 in the image. Without an ADC map none is known.
        mask = (total / count >= PROBABILITY_THRESHOLD) & (coverage > 0) & (tissue > 0)
        # Of all that is held, so that what lies outside the frame is missed.
        truth = patients["flags"][who] & TRUTH > 0
        held = window_about_brain(HELD)
        inner = tuple(
            slice(f.start - h.start, f.stop - h.start)
            for f, h in zip(window_about_brain(frame), held, strict=True)
        )
        overlap = (mask & truth[inner]).sum()
        return jnp.stack([loss, *(VOXEL_ML * n.sum() for n in (overlap, mask, truth))])

    def validate_changed(
        self, state: State, patients: dict[str, Any], changes: Randomisation, batches: int = 4
    ) -> dict[str, float]:
        """Loss and Dice of the averaged weights on windows that were changed, always the same.

        Args:
            state: holds the weights.
            patients: on the device.
            changes: how the windows are changed.
            batches: of windows.
        """
        averages = (state["average_weights"], state["average_moments"])
        amounts = jax.device_put(changes)
        found = [
            self._changed(averages, patients, jax.random.PRNGKey(k), amounts)
            for k in range(batches)
        ]
        loss, overlap, volumes = np.asarray(found, np.float64).T
        return {
            "changed_composite": float(loss.mean()),
            "changed_dice": float(2 * overlap.sum() / max(volumes.sum(), 1.0)),
        }

    def _changed_windows(self, averages, patients, key, changes):
        inputs, y_true = randomisation.windows(
            patients, key,
            settings=changes, count=self.training.batch_size, frame=self.model_config.frame_shape,
        )  # fmt: skip
        weights, moments = averages
        answers, _ = self._answer(weights, moments, inputs, training=False)
        y_pred = answers["probability"]
        truth, coverage = y_true[..., 0] > 0, y_true[..., 1] > 0
        mask = (y_pred[..., 0] >= PROBABILITY_THRESHOLD) & coverage
        loss = self.loss.call(y_true, answers).mean()
        return jnp.stack([loss, (mask & truth).sum(), mask.sum() + truth.sum()])

    def save(self, state: State, path: Path) -> None:
        """The averaged weights as a ``.keras`` file of stock layers in float32."""
        model = self._saved
        parts = (
            (model.trainable_variables, state["average_weights"]),
            (model.non_trainable_variables, state["average_moments"]),
        )
        for variables, values in parts:
            for variable, value in zip(variables, values, strict=True):
                if variable.dtype == "float32":  # the others are seeds of dropout
                    variable.assign(np.asarray(value, np.float32))
        with atomic.replacing(path) as temporary:
            model.save(temporary)


def on_device(arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    """Patients in the device's memory."""
    return {name: jax.device_put(array) for name, array in arrays.items()}
