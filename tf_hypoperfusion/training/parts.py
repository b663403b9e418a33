"""Which of a network's weights are trained, and how fast: its parts may have rates of their own."""

from collections.abc import Collection, Mapping
from typing import Any, TypeAlias

from tf_hypoperfusion.config import PARTS

# Variables, each with its share of the learning rate.
Trained: TypeAlias = list[tuple[Any, float]]
_PART_OF = {part: part for part in PARTS} | {
    "gate": "decoder", "logit": "output", "core_logit": "output"
}  # fmt: skip
_SCALES = ("gamma", "beta")


def part_of(layer: str) -> str:
    """The part that a layer with weights belongs to, by its name.

    >>> part_of("encoder0_conv1"), part_of("gate2_psi"), part_of("core_logit")
    ('encoder', 'decoder', 'output')
    """
    return next(part for begins, part in _PART_OF.items() if layer.startswith(begins))


def trained(
    model: Any,
    rates: Mapping[str, float],
    only: Collection[Any] | None = None,
    *,
    scales_only: bool = False,
) -> Trained:
    """The variables that learn. Parts with a rate of 0 keep their moments too from here on.

    Args:
        model: the network, with the layers of training.
        rates: of each part, a share of the learning rate; 1 where it is not named.
        only: layers that may learn; None for all.
        scales_only: of layers that do not answer, only scales and offsets of normalisation learn.

    Returns:
        In the order of the model's variables.
    """
    found = []
    for layer in model.layers:
        if not layer.weights:
            continue
        share = rates.get(part_of(layer.name), 1.0)
        if not share and hasattr(layer, "keeps_moments"):
            layer.keeps_moments = True
        if share and (only is None or any(layer is each for each in only)):
            found += [
                (variable, share)
                for variable in layer.trainable_variables
                if not scales_only or part_of(layer.name) == "output" or _name(variable) in _SCALES
            ]
    return found


def _name(variable: Any) -> str:
    return variable.name.split("/")[-1].split(":")[0]
