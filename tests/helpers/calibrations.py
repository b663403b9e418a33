"""Calibrations without patients."""

import numpy as np

from tf_hypoperfusion.inference.calibration import Calibration


def steps(count, step=1.0):
    """Errors around 0, one step apart."""
    return (np.arange(count) - count // 2) * step


def calibration_of(
    *, slope=1.0, intercept=0.0, cut=0.5, errors=None, coverage=0.9, networks=("a",), familiar=None
):
    """A calibration of which only what is given means something."""
    errors = steps(19, 0.1) if errors is None else errors
    return Calibration(
        networks=tuple(networks),
        slope=slope,
        intercept=intercept,
        cut=cut,
        coverage=coverage,
        root_errors=tuple(float(error) for error in np.sort(errors)),
        familiar=familiar or {},
        cohorts=("somewhere",),
        by="the networks' average",
    )
