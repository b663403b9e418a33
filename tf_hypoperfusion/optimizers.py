"""Adam with the paper's exponential decay."""

import keras

from tf_hypoperfusion.config import TrainingConfig


def build_optimizer(config: TrainingConfig, steps_per_epoch: int) -> keras.optimizers.Optimizer:
    """Adam; the rate falls once an epoch, exponentially, from the start to its final share.

    In epoch e of E (from 0) it is ``learning_rate * final_learning_rate_ratio ** (e / (E - 1))``.

    Args:
        config: epochs, learning_rate, final_learning_rate_ratio.
        steps_per_epoch: optimizer steps in an epoch.
    """
    epochs_of_decay = max(config.epochs - 1, 1)
    schedule = keras.optimizers.schedules.ExponentialDecay(
        config.learning_rate,
        decay_steps=steps_per_epoch,
        decay_rate=config.final_learning_rate_ratio ** (1.0 / epochs_of_decay),
        staircase=True,
    )
    return keras.optimizers.Adam(schedule)
