"""What is bright or dark on DWI and ADC and is no fresh stroke: old age, old strokes, T2.

All of it changes tissue fractions or ratios before the scanner sees them, so that it blurs and
mixes as the stroke itself does.
"""

import dataclasses

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from data_tools.simulate.anatomy import MODEL_VOXEL_ML, Anatomy
from data_tools.simulate.appearance import Tissue

# A dead region swells and presses this share of the fluid out of its sulci.
SWELLING = 0.6


@dataclasses.dataclass(frozen=True)
class Old:
    """What decides how much of it there is.

    Attributes:
        age: years.
        side: of the stroke.
        tissue: how common it is.
    """

    age: float
    side: str
    tissue: Tissue


def add(
    rng: np.random.Generator,
    anatomy: Anatomy,
    old: Old,
    *,
    core: NDArray[np.bool_],
    adc_ratio: NDArray[np.float32],
    s0_ratio: NDArray[np.float32],
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Put white-matter disease, old infarcts and T2 shine-through into a head.

    Args:
        rng: the patient's generator.
        anatomy: the head; not changed.
        old: how much is to be expected.
        core: bool, dead tissue, which swells.
        adc_ratio: ratio to healthy tissue, changed in place.
        s0_ratio: the same of the signal at b = 0.

    Returns:
        Grey, white and CSF fractions as they are now.
    """
    tissue = old.tissue
    older = max(0.0, (old.age - 45) / 50)
    x, y, z = anatomy.template_mm
    around = np.exp(-((np.abs(x) - 22) ** 2 + ((y + 15) / 2.5) ** 2 + (z - 24) ** 2) / 200)
    burden = tissue.white_disease * older * rng.gamma(1.5, 0.5)
    disease = anatomy.white * around * np.clip(anatomy.field(rng, 10.0) + burden - 0.5, 0, 1)
    adc_ratio *= 1 + 0.35 * disease
    s0_ratio *= 1 + 0.45 * disease

    dead = ndimage.gaussian_filter(core.astype(np.float32), 0.7)
    pressed = SWELLING * dead * anatomy.csf
    grey, white, csf = anatomy.grey + pressed, anatomy.white, anatomy.csf - pressed
    drawn = rng.random() < tissue.old_infarct_share * 2 * older
    if drawn or tissue.old_infarct_other_side:
        other = {"left": "right", "right": "left"}.get(old.side)
        half = other if tissue.old_infarct_other_side else None
        spot = blob(rng, anatomy, rng.uniform(*tissue.old_infarct_ml), half) * (1 - dead)
        hole = 0.8 * spot
        csf = csf + hole * (grey + white)
        grey, white = grey * (1 - hole), white * (1 - hole)
        rim = np.clip(ndimage.gaussian_filter(spot, 1.5) * 2, 0, 1)
        adc_ratio *= 1 + 0.3 * rim
        s0_ratio *= 1 + 0.2 * rim
    if rng.random() < tissue.shine_through_share * 2 * older:
        spot = blob(rng, anatomy, rng.uniform(0.5, 6))
        adc_ratio *= 1 + 0.15 * spot
        s0_ratio *= 1 + rng.uniform(0.4, 0.9) * spot
    return grey, white, csf


def blob(
    rng: np.random.Generator, anatomy: Anatomy, volume_ml: float, half: str | None = None
) -> NDArray[np.float32]:
    """A ragged, soft-edged lump somewhere in the cerebrum, or in one half: 0..1, model grid."""
    x, _, z = anatomy.template_mm
    allowed = anatomy.tissue & (z > -20)
    if half:
        allowed &= (x < -8) if half == "left" else (x > 8)
    cerebrum = np.flatnonzero(allowed)
    centre = anatomy.template_mm.reshape(3, -1)[:, rng.choice(cerebrum)]
    lump = ragged(rng, anatomy, cerebrum, centre_mm=centre, volume_ml=volume_ml)
    return ndimage.gaussian_filter(lump.astype(np.float32), 0.6)


def ragged(
    rng: np.random.Generator,
    anatomy: Anatomy,
    allowed: NDArray[np.intp],
    *,
    centre_mm: NDArray[np.float32],
    volume_ml: float,
) -> NDArray[np.bool_]:
    """The allowed voxels nearest to a point, unevenly so: bool, model grid.

    Args:
        rng: the patient's generator.
        anatomy: the head.
        allowed: flat indices.
        centre_mm: [3], in the template.
        volume_ml: of the lump; one voxel at least.
    """
    mm = anatomy.template_mm.reshape(3, -1)
    far = np.sqrt(sum((axis[allowed] - c) ** 2 for axis, c in zip(mm, centre_mm, strict=True)))
    far += 4 * anatomy.field(rng, 12.0).ravel()[allowed]
    count = min(max(round(volume_ml / MODEL_VOXEL_ML), 1), allowed.size)
    lump = np.zeros(anatomy.grey.size, bool)
    lump[allowed[np.argpartition(far, count - 1)[:count]]] = True
    return lump.reshape(anatomy.grey.shape)
