"""Quartiles: counted by hand in Stata's definition, numpy's own in the other."""

import math

import numpy as np
import pytest

from data_tools.quartiles import quartiles

pytestmark = pytest.mark.quick


def test_quartiles_are_statas_unless_asked_otherwise():
    assert quartiles([4, 1, 2, 3, math.nan]) == (1.5, 2.5, 3.5)
    # Stata: of five values the second and the fourth, numpy's too; of six, the second and fifth.
    assert quartiles([1, 2, 3, 4, 5]) == (2, 3, 4)
    assert quartiles([1, 2, 3, 4, 5, 6]) == (2, 3.5, 5)
    assert quartiles([1, 2, 3, 4, 5, 6], "scipy") == (2.25, 3.5, 4.75)
    values = np.random.default_rng(1).normal(size=22)
    assert quartiles(values, "scipy") == tuple(np.percentile(values, [25, 50, 75]))
    assert quartiles([]) is None and quartiles([math.nan], "scipy") is None
