"""How long a training will take, said after its first steps by what they took.

The time of a step is measured here, and that of the validation once there was one; before, a slab
that is validated counts as a third of one that is learnt from, which is what it computes: one of
three passes. Other presets stand beside it by what their networks took on two CPU cores.
"""

import math

from data_tools.runtime.errors import counted
from tf_hypoperfusion import config
from tf_hypoperfusion.config import Configs

# The first ones compile.
SKIPPED, MEASURED = 2, 20
FORWARD_SHARE = 1 / 3
# What a training slab costs on a CPU beside the paper's: CPU seconds of steps taken one after the
# other, in float32 and bfloat16, on two machines; they gave 0.49 to 0.52 and 0.056 to 0.068. Of the
# presets that are trained from scratch and learn something.
CPU_COST = {"paper": 1.0, "paper_tight": 0.51, "demonstration": 0.063, "small": 0.063}
# A preset that saves less is not named.
MUCH = 1.5
MINUTE, HOUR, DAY = 60, 3600, 86400


class Outlook:
    """Counts a fold's steps, and says once how long the whole will take.

    Args:
        configs: of the fold, with nothing left to the machine.
        steps: of an epoch.
        validation_slabs: of an epoch.
        epochs_left: of this fold, the one that is under way included.
        folds_after: that this command trains after it, each from its first epoch.
        on_cpu: other presets can be set beside this one.
    """

    def __init__(
        self, configs: Configs, *,
        steps: int, validation_slabs: int, epochs_left: int, folds_after: int, on_cpu: bool,
    ) -> None:  # fmt: skip
        """Of a fold that is about to begin or to go on."""
        self.configs, self.on_cpu = configs, on_cpu
        self.steps, self.validation_slabs = steps, validation_slabs
        self.epochs_left, self.folds_after = epochs_left, folds_after
        self.validation_s: float | None = None
        self._taken: list[float] = []

    @property
    def compiled(self) -> bool:
        """Whether a step was taken."""
        return bool(self._taken)

    def step_took(self, seconds: float) -> str | None:
        """Another step is done.

        Args:
            seconds: that it took.

        Returns:
            What to print, after the last step that is measured; None otherwise.
        """
        if len(self._taken) >= MEASURED:
            return None
        self._taken.append(seconds)
        return self.in_words() if len(self._taken) == MEASURED else None

    def in_words(self) -> str:
        """Time of an epoch and of all that is left, and what other presets would take."""
        measured = self._taken[SKIPPED:]
        step_s = sum(measured) / len(measured)
        slab_s = step_s / self.configs.training.batch_size
        validation_s = self.validation_s
        if validation_s is None:
            validation_s = FORWARD_SHARE * slab_s * self.validation_slabs
        epoch_s = self.steps * step_s + validation_s
        epochs = self.epochs_left + self.folds_after * self.configs.training.epochs
        folds = counted(1 + self.folds_after, "fold")
        included = ", validation included" if self.validation_slabs else ""
        most = " at most" if self.configs.training.patience else ""
        text = (
            f"about {duration(epoch_s)} per epoch, {duration(epochs * epoch_s)}{most} for {folds} "
            f"({counted(epochs, 'epoch')}{included}), by {step_s:.2g} s per step"
        )
        others = self._other_presets(slab_s, epochs * epoch_s)
        return f"{text}. {'; '.join(others)}" if others else text

    def _other_presets(self, slab_s: float, left_s: float) -> list[str]:
        """Those that would train as many folds, from their start, in much less than what is left.

        Where the network is of no preset, or a GPU computes, nothing is known of them.
        """
        mine = next(
            (name for name in CPU_COST if config.PRESETS[name].model == self.configs.model), None
        )
        if mine is None or not self.on_cpu:
            return []
        training_slabs = self.steps * self.configs.training.batch_size
        slabs = training_slabs + FORWARD_SHARE * self.validation_slabs
        found = []
        for name, cost in CPU_COST.items():
            epochs = config.PRESETS[name].training.epochs
            fold_s = slab_s * cost / CPU_COST[mine] * slabs * epochs
            whole_s = fold_s * (1 + self.folds_after)
            if whole_s < left_s / MUCH:
                found.append(f"--preset={name} ({epochs} epochs) takes about {duration(whole_s)}")
        return found


def duration(seconds: float) -> str:
    """Seconds, minutes, hours or days, to two figures.

    >>> [duration(s) for s in (3.2, 95, 3480, 40_000, 1_400_000)]
    ['4 s', '2 min', '58 min', '11 h', '16 days']
    >>> duration(5000), duration(200_000)
    ('1.4 h', '2.3 days')
    """
    for unit, name in ((DAY, "days"), (HOUR, "h"), (MINUTE, "min")):
        if seconds >= 1.2 * unit:
            value = seconds / unit
            return f"{value:.1f} {name}" if value < 10 and unit > MINUTE else f"{value:.0f} {name}"
    return f"{math.ceil(seconds)} s"
