"""When the contrast arrives in a head without a stroke."""

import numpy as np
from numpy.typing import NDArray

from data_tools.simulate.anatomy import Anatomy
from data_tools.simulate.appearance import Coupling

# Normal tissue: mean, and SD between places and between patients.
NORMAL_TMAX_S, NORMAL_TMAX_SD_S, PATIENT_TMAX_SD_S = 2.4, 0.5, 0.3


def normal_tmax_s(
    rng: np.random.Generator, anatomy: Anatomy, side: str, coupling: Coupling
) -> NDArray[np.float32]:
    """Tmax before the stroke: even, but for a carotid that was narrowed long ago."""
    tmax_s = NORMAL_TMAX_S + NORMAL_TMAX_SD_S * anatomy.field(rng, 40.0) + 0.4 * anatomy.white
    tmax_s += rng.normal(0, PATIENT_TMAX_SD_S)
    if rng.random() < coupling.old_delay_share or coupling.old_delay_other_side:
        sign = rng.choice([-1, 1])
        if coupling.old_delay_other_side:
            sign = {"left": 1, "right": -1}.get(side, sign)
        half = anatomy.template_mm[0] * sign / 4
        tmax_s += rng.uniform(*coupling.old_delay_s) / (1 + np.exp(np.clip(-half, -30, 30)))
    return np.clip(tmax_s, 0.8, 4.8).astype(np.float32)
