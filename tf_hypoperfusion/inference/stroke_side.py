"""The side of the stroke: as it was given, or, where nobody gave it, the one with more to find.

A network that is told no side looks in both halves, and draws twice as much where there is nothing.
So it is asked about either side in turn, and the larger answer is taken.
"""

import dataclasses
from collections.abc import Mapping

from data_tools.grid import ONE_SIDED, UNKNOWN_SIDE

# Of the volume of both answers: a smaller share of the larger one tells no side.
MIN_SHARE = 0.55


@dataclasses.dataclass(frozen=True, kw_only=True)
class StrokeSide:
    """The side that rules, warnings and pages go by.

    Attributes:
        side: left, right, bilateral or unknown.
        found: nobody gave it; it was looked for.
        share: of the volume of the answers about either side, in the larger one; None where the
            side was given, or nothing is predicted.
    """

    side: str
    found: bool = False
    share: float | None = None

    @property
    def words(self) -> str:
        """For people: the side, and whence it is known."""
        if not self.found:
            return self.side
        if self.share is None:
            return "unknown (not given, and no hypoperfusion is predicted)"
        if self.side == UNKNOWN_SIDE:
            return (
                "unknown (not given; asked about either side, the larger answer has "
                f"{self.share:.0%} of the volume of both)"
            )
        return f"{self.side} (found: asked about either side, {self.share:.0%} of the volume)"


def to_ask(given: str) -> tuple[str, ...]:
    """About which sides the networks are asked.

    Args:
        given: left, right, bilateral or unknown.
    """
    return ONE_SIDED if given == UNKNOWN_SIDE else (given,)


def choose(given: str, volumes_ml: Mapping[str, float]) -> tuple[str, StrokeSide]:
    """About which side the answer is taken, and what is known of the side.

    Args:
        given: left, right, bilateral or unknown.
        volumes_ml: predicted hypoperfusion by each side of :func:`to_ask`.

    >>> asked, side = choose("unknown", {"left": 60.0, "right": 20.0})
    >>> asked, side.words
    ('left', 'left (found: asked about either side, 75% of the volume)')
    """
    if given in volumes_ml:
        return given, StrokeSide(side=given)
    larger, total_ml = max(volumes_ml, key=volumes_ml.__getitem__), sum(volumes_ml.values())
    if not total_ml:
        return larger, StrokeSide(side=UNKNOWN_SIDE, found=True)
    share = volumes_ml[larger] / total_ml
    side = larger if share >= MIN_SHARE - 1e-6 else UNKNOWN_SIDE
    return larger, StrokeSide(side=side, found=True, share=round(share, 4))
