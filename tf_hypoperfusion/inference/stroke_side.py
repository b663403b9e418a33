"""The side of the stroke: as it was given, or as the answer shows it where nobody gave it."""

import dataclasses

import numpy as np
from numpy.typing import NDArray

from data_tools.grid import MIDLINE_INDEX, ONE_SIDED, UNKNOWN_SIDE

# Less of the predicted hypoperfusion in one half tells no side.
MIN_SHARE = 0.6


@dataclasses.dataclass(frozen=True, kw_only=True)
class StrokeSide:
    """The side that rules, warnings and pages go by.

    Attributes:
        side: left, right, bilateral or unknown.
        found: nobody gave it; it was looked for in the answer.
        share: of the predicted hypoperfusion, in the half that has more of it; None where the side
            was given, or nothing is predicted.
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
            return f"unknown (not given, and {self.share:.0%} of the answer lies in one half)"
        return f"{self.side} (found from the answer, {self.share:.0%} of it)"


def of_answer(
    given: str, probability: NDArray[np.float32], hypoperfusion: NDArray[np.bool_]
) -> StrokeSide:
    """The side that was given, or the half with more of the predicted hypoperfusion.

    Args:
        given: left, right, bilateral or unknown.
        probability: (91, 109, 60).
        hypoperfusion: bool, the same shape: where it counts.

    >>> volume = np.zeros((91, 109, 60), np.float32)
    >>> volume[20, 50, 30], volume[70, 50, 30] = 0.9, 0.6
    >>> of_answer("unknown", volume, volume > 0).words
    'left (found from the answer, 60% of it)'
    """
    if given != UNKNOWN_SIDE:
        return StrokeSide(side=given)
    counted = np.where(hypoperfusion, probability, 0).sum(axis=(1, 2), dtype=np.float64)
    halves = counted[:MIDLINE_INDEX].sum(), counted[MIDLINE_INDEX + 1 :].sum()
    if not sum(halves):
        return StrokeSide(side=UNKNOWN_SIDE, found=True)
    share = float(max(halves) / sum(halves))
    side = ONE_SIDED[int(np.argmax(halves))] if share >= MIN_SHARE - 1e-6 else UNKNOWN_SIDE
    return StrokeSide(side=side, found=True, share=round(share, 4))
