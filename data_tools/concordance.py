"""Lin's concordance by one formula, of volumes of two programs or of prediction and truth."""

import numpy as np
from numpy.typing import NDArray


def lin(ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> float:
    """``2 cov / (var + var + (difference of means)^2)``, moments over n (Biometrics 1989;45:255).

    Args:
        ours: (n,); of both at least one varies.
        theirs: (n,), of the same.

    >>> round(lin(np.array([1.0, 2.0, 3.0]), np.array([2.0, 3.0, 4.0])), 6)
    0.571429
    """
    covariance = ((ours - ours.mean()) * (theirs - theirs.mean())).mean()
    spread = ours.var() + theirs.var() + (ours.mean() - theirs.mean()) ** 2
    return float(2 * covariance / spread)
