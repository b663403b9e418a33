"""What is bright or dark on DWI and ADC and is no fresh stroke: old age, old strokes, T2.

All of it changes tissue fractions or ratios before the scanner sees them, so that it blurs and
mixes as the stroke itself does.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from data_tools.simulate.anatomy import MODEL_VOXEL_ML, Anatomy, smooth_field

# At 67 years; rises with age. Shares of patients, chosen, not published.
OLD_INFARCT_SHARE = 0.15
SHINE_THROUGH_SHARE = 0.12
# A dead region swells and presses this share of the fluid out of its sulci.
SWELLING = 0.6


def add(
    rng: np.random.Generator,
    anatomy: Anatomy,
    *,
    age: float,
    core: NDArray[np.bool_],
    adc_ratio: NDArray[np.float32],
    s0_ratio: NDArray[np.float32],
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Put white-matter disease, old infarcts and T2 shine-through into a head.

    Args:
        rng: the patient's generator.
        anatomy: the head; not changed.
        age: years.
        core: bool, dead tissue, which swells.
        adc_ratio: ratio to healthy tissue, changed in place.
        s0_ratio: the same of the signal at b = 0.

    Returns:
        Grey, white and CSF fractions as they are now.
    """
    older = max(0.0, (age - 45) / 50)
    x, y, z = anatomy.template_mm
    around = np.exp(-((np.abs(x) - 22) ** 2 + ((y + 15) / 2.5) ** 2 + (z - 24) ** 2) / 200)
    burden = older * rng.gamma(1.5, 0.5)
    disease = anatomy.white * around * np.clip(smooth_field(rng, 10.0) + burden - 0.5, 0, 1)
    adc_ratio *= 1 + 0.35 * disease
    s0_ratio *= 1 + 0.45 * disease

    dead = ndimage.gaussian_filter(core.astype(np.float32), 0.7)
    pressed = SWELLING * dead * anatomy.csf
    grey, white, csf = anatomy.grey + pressed, anatomy.white, anatomy.csf - pressed
    if rng.random() < OLD_INFARCT_SHARE * 2 * older:
        spot = blob(rng, anatomy, rng.uniform(1, 15)) * (1 - dead)
        hole = 0.8 * spot
        csf = csf + hole * (grey + white)
        grey, white = grey * (1 - hole), white * (1 - hole)
        rim = np.clip(ndimage.gaussian_filter(spot, 1.5) * 2, 0, 1)
        adc_ratio *= 1 + 0.3 * rim
        s0_ratio *= 1 + 0.2 * rim
    if rng.random() < SHINE_THROUGH_SHARE * 2 * older:
        spot = blob(rng, anatomy, rng.uniform(0.5, 6))
        adc_ratio *= 1 + 0.15 * spot
        s0_ratio *= 1 + rng.uniform(0.4, 0.9) * spot
    return grey, white, csf


def blob(rng: np.random.Generator, anatomy: Anatomy, volume_ml: float) -> NDArray[np.float32]:
    """A ragged, soft-edged lump of one volume somewhere in the cerebrum: 0..1, model grid."""
    cerebrum = np.flatnonzero(anatomy.tissue & (anatomy.template_mm[2] > -20))
    mm = anatomy.template_mm.reshape(3, -1)
    centre = mm[:, rng.choice(cerebrum)]
    far = np.sqrt(sum((axis[cerebrum] - c) ** 2 for axis, c in zip(mm, centre, strict=True)))
    far += 4 * smooth_field(rng, 12.0).ravel()[cerebrum]
    count = min(max(round(volume_ml / MODEL_VOXEL_ML), 1), cerebrum.size)
    lump = np.zeros(anatomy.grey.size, np.float32)
    lump[cerebrum[np.argpartition(far, count - 1)[:count]]] = 1
    return ndimage.gaussian_filter(lump.reshape(anatomy.grey.shape), 0.6)
