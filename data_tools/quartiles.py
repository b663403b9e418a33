"""Quartiles by one definition in every table and terminal: Stata's, unless one asks for numpy's."""

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

Program = Literal["stata", "scipy"]
# numpy's name of each program's definition.
METHODS: dict[Program, Literal["averaged_inverted_cdf", "linear"]] = {
    "stata": "averaged_inverted_cdf",
    "scipy": "linear",
}


def quartiles(values: ArrayLike, program: Program = "stata") -> tuple[float, float, float] | None:
    """Lower quartile, median, upper quartile of the finite values; None without any.

    Args:
        values: any shape.
        program: ``stata``: as ``summarize, detail``: where a quarter of the values is a whole
            number, the mean of that value and the next; otherwise the next one. ``scipy``: as
            ``numpy.percentile`` interpolates.

    >>> quartiles([1, 2, 3, 4]), quartiles([1, 2, 3, 4], "scipy")
    ((1.5, 2.5, 3.5), (1.75, 2.5, 3.25))
    """
    array = np.asarray(values, float)
    known = array[np.isfinite(array)]
    if not known.size:
        return None
    low, middle, high = np.percentile(known, [25, 50, 75], method=METHODS[program])
    return float(low), float(middle), float(high)
