"""Adam with the paper's exponential decay; other optimizers and a warm-up by name.

A name is one of Keras's (``adam``, ``adamw``, ``sgd``, ``lion``...) or, with the extra ``addons``,
one of tensorflow-addons' (``ranger``, ``lookahead``, ``radam``, ``lamb``, ``novograd``, ``yogi``),
perhaps with options: ``sgd(momentum=0.9, nesterov=True)``.
"""

import ast
import importlib.util
import inspect
from collections.abc import Callable
from typing import Any

import keras

from data_tools.runtime.errors import InputError
from tf_hypoperfusion.config import TrainingConfig
from tf_hypoperfusion.model.keras_compat import (
    IS_KERAS_3,
    apply_gradients,
    build_optimizer_variables,
    register,
)

ADDONS = ("ranger", "lookahead", "radam", "lamb", "novograd", "yogi")
# Meant for other things, or for other optimizers to build on.
_NOT_FOR_USE = ("Optimizer", "LossScaleOptimizer", "MultiOptimizer", "OptimizerMap", "Muon")
# What training itself does (--ema_momentum, --micro_batch), or what makes it slow on a CPU.
_OWN = {"use_ema", "ema_momentum", "ema_overwrite_frequency", "gradient_accumulation_steps"}
_OWN |= {"loss_scale_factor", "jit_compile", "name", "learning_rate", "kwargs"}


@register
class WarmUp(keras.optimizers.schedules.LearningRateSchedule):
    """Linear rise from ``1 / steps`` of the rate, then the schedule given."""

    def __init__(self, after: keras.optimizers.schedules.LearningRateSchedule, steps: int):
        super().__init__()
        self.after, self.steps = after, steps

    def __call__(self, step):
        """The rate of a step, counted from 0."""
        import tensorflow as tf

        done = tf.cast(tf.convert_to_tensor(step), tf.float32) + 1.0
        share = tf.minimum(done / float(self.steps), 1.0)
        return share * tf.cast(self.after(step), tf.float32)

    def get_config(self) -> dict[str, Any]:
        """Arguments that make this schedule again."""
        return {"after": self.after, "steps": self.steps}


def learning_rates(
    config: TrainingConfig, steps_per_epoch: int
) -> keras.optimizers.schedules.LearningRateSchedule:
    """The rate falls once an epoch, exponentially, from the start to its final share.

    In epoch e of E (from 0) it is ``learning_rate * final_learning_rate_ratio ** (e / (E - 1))``;
    over the warm-up's epochs that is multiplied by a linear rise.
    """
    schedule: keras.optimizers.schedules.LearningRateSchedule
    schedule = keras.optimizers.schedules.ExponentialDecay(
        config.learning_rate,
        decay_steps=steps_per_epoch,
        decay_rate=config.final_learning_rate_ratio ** (1.0 / max(config.epochs - 1, 1)),
        staircase=True,
    )
    if config.warmup_epochs:
        schedule = WarmUp(schedule, config.warmup_epochs * steps_per_epoch)
    return schedule


def build_optimizer(
    config: TrainingConfig, schedule: keras.optimizers.schedules.LearningRateSchedule
) -> Any:
    """The optimizer of a config; with loss scaling for float16.

    Raises:
        InputError: unknown name or option, or tensorflow-addons where it cannot run.
    """
    name, options = parse_optimizer(config.optimizer)
    maker = _maker(name)
    known = set(inspect.signature(maker).parameters) - _OWN
    unknown = sorted(set(options) - known)
    if unknown:
        raise InputError(
            f"optimizer {name} has no option {', '.join(unknown)}; expected some of "
            f"{', '.join(sorted(known))}"
        )
    try:
        optimizer = maker(learning_rate=schedule, **options)
    except (ValueError, TypeError) as error:
        raise InputError(f"optimizer {config.optimizer!r}: {error}") from error
    if config.precision == "float16":
        return keras.mixed_precision.LossScaleOptimizer(optimizer)
    return optimizer


def try_optimizer(config: TrainingConfig) -> None:
    """Take one step with a variable of its own: Keras looks at some options only then.

    Raises:
        InputError: a name, option or value that cannot be.
    """
    import tensorflow as tf

    optimizer = build_optimizer(config, learning_rates(config, 1))
    variable = keras.Variable([1.0]) if IS_KERAS_3 else tf.Variable([1.0])
    try:
        build_optimizer_variables(optimizer, [variable])
        apply_gradients(optimizer, [tf.constant([0.1])], [variable])
    except InputError:
        raise
    except Exception as error:  # a library's own checks fail in any way
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise InputError(
            f"optimizer {config.optimizer!r} cannot take a step ({reason[:200]}); look at the "
            "values of its options"
        ) from error


def parse_optimizer(text: str) -> tuple[str, dict[str, Any]]:
    """A name with options -> both.

    Raises:
        InputError: not of that form.

    >>> parse_optimizer("adam"), parse_optimizer("sgd(momentum=0.9)")
    (('adam', {}), ('sgd', {'momentum': 0.9}))
    """
    try:
        node = ast.parse(text.strip(), mode="eval").body
        if isinstance(node, ast.Name):
            return node.id.lower(), {}
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.args:
            options = {str(word.arg): ast.literal_eval(word.value) for word in node.keywords}
            return node.func.id.lower(), options
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
        pass
    raise InputError(
        f"optimizer is {text!r}; expected a name, perhaps with options, such as adamw or "
        "'sgd(momentum=0.9, nesterov=True)'"
    )


def _maker(name: str) -> Callable[..., Any]:
    own = {
        each.__name__.lower(): each
        for each in vars(keras.optimizers).values()
        if inspect.isclass(each)
        and issubclass(each, keras.optimizers.Optimizer)
        and each.__name__ not in _NOT_FOR_USE
    }
    if name in own:
        return own[name]
    if name not in ADDONS:
        raise InputError(
            f"optimizer is {name!r}; expected one of {', '.join(sorted(own))}, or with the extra "
            f"addons one of {', '.join(ADDONS)}"
        )
    if IS_KERAS_3 or importlib.util.find_spec("tensorflow_addons") is None:
        raise InputError(
            f"optimizer {name} is tensorflow-addons', which ended in 2024 and runs with TensorFlow "
            "2.15 and Keras 2.15 only (Python 3.10 or 3.11); expected an environment made with "
            "pip install -e '.[addons]' -c constraints/tf215-addons.txt, or one of Keras's: "
            f"{', '.join(sorted(own))}"
        )
    return _addons_maker(name)


def _addons_maker(name: str) -> Callable[..., Any]:
    """tensorflow-addons' optimizers; Lookahead wraps another one."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its notice that it has ended; BUILD_NOTES says so
        import tensorflow_addons as tfa

    if name == "ranger":  # Lookahead over RectifiedAdam

        def ranger(learning_rate, sync_period=6, slow_step_size=0.5, weight_decay=0.0):
            inner = tfa.optimizers.RectifiedAdam(learning_rate, weight_decay=weight_decay)
            return tfa.optimizers.Lookahead(inner, sync_period, slow_step_size)

        return ranger
    if name == "lookahead":

        def lookahead(learning_rate, sync_period=6, slow_step_size=0.5):
            inner = keras.optimizers.legacy.Adam(learning_rate)
            return tfa.optimizers.Lookahead(inner, sync_period, slow_step_size)

        return lookahead
    return {
        "radam": tfa.optimizers.RectifiedAdam,
        "lamb": tfa.optimizers.LAMB,
        "novograd": tfa.optimizers.NovoGrad,
        "yogi": tfa.optimizers.Yogi,
    }[name]
