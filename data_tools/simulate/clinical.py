"""Who the simulated patient is, and how ill: drawn to match Table 1 of the paper.

Yu et al., Radiology 2023;307(1):e220882, Table 1 (413 patients). Attributes come from a
low-discrepancy sequence over the patients' numbers, so that a cohort of any size has the table's
frequencies, and patient 17 is the same whoever else is simulated.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from data_tools.grid import NIHSS_MAX, Side

# Table 1: counts out of 413.
PATIENTS = 413
MALE, LEFT, BILATERAL, AGE_MISSING, NO_CORE = 207, 217, 10, 2, 87
PROXIMAL, M2_M3 = 299, 90  # ICA or M1; M2 or M3; the rest is M4 or no occlusion
AGE_RANGE = (18, 101)
AGE_LATENT = (68.2, 16.5)  # mean and SD before cutting to the range; after it 67 and 15
# Not in the paper: share of missing NIHSS, of ICA among ICA and M1, of M2 among M2 and M3.
NIHSS_MISSING_SHARE = 0.01
ICA_SHARE, M2_SHARE = 0.3, 0.75
# Both field strengths occur in the paper; the shares are not in its text.
SHARE_3T = 0.5

OCCLUSIONS = ("ICA", "M1", "M2", "M3", "M4", "none")

# Square root of the hypoperfused mL, as mean and SD, with and without a visible core. With the
# share of visible cores they give Table 1's 82 (43-132) mL, and 31 of 87 under 15 mL without core.
ROOT_ML = {True: (10.1, 3.1), False: (5.6, 3.3)}
# Logit of core / hypoperfusion where a core is visible: Table 1's ratio of 3.9 (2.2-14.3).
LOGIT_CORE = (-0.70, 1.13)

# Kinds of stroke: the usual one, in an artery's territory, and those without penumbra, with their
# shares among themselves and the median and scatter (of the logarithm) of their mL.
TERRITORIAL = "territorial"
NEGATIVES = {"small": 0.3, "scattered": 0.2, "posterior": 0.3, "matched": 0.12, "none": 0.08}
NEGATIVE_ML = {
    "small": (0.8, 0.9),
    "scattered": (4.0, 0.7),
    "posterior": (3.0, 1.3),
    "matched": (20.0, 0.6),
    "none": (0.0, 0.0),
}
LARGEST_NEGATIVE_ML = 60.0
BOTH_SIDES_SHARE = 0.2  # of scattered strokes


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """What is decided before anything is drawn; the images follow it.

    Attributes:
        age: years.
        age_known: False for the few without age in the table.
        hypoperfusion_ml: wanted volume of the union of Tmax >= 6 s and core.
        core_ml: wanted core; 0 where none is to be visible.
        severity: normal score of the hypoperfused volume.
        stroke: its kind.
    """

    index: int
    age: int
    age_known: bool
    sex: str
    side: Side
    occlusion: str
    field_strength_t: float
    hypoperfusion_ml: float
    core_ml: float
    severity: float
    stroke: str = TERRITORIAL


def even_numbers(seed: int, index: int, count: int) -> NDArray[np.float64]:
    """Numbers in (0, 1), evenly spread over the patients of one seed; [count].

    Each is an additive sequence with the square root of another prime as its step.
    """
    primes = np.array([2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37][:count])
    start = np.random.default_rng([seed, 413]).random(12)[:count]
    return np.clip((start + index * np.sqrt(primes)) % 1.0, 1e-6, 1 - 1e-6)


def make_plan(
    seed: int,
    index: int,
    *,
    negative_share: float = 0.0,
    negatives: Mapping[str, float] = NEGATIVES,
) -> Plan:
    """Draw patient number ``index`` (from 1) of the cohort ``seed``.

    Args:
        seed: of the cohort.
        index: of the patient.
        negative_share: of patients whose stroke leaves no penumbra; the others are as without.
        negatives: kinds of these strokes, and the share of each among them.
    """
    u = even_numbers(seed, index, 12)
    plan = _usual_plan(index, u)
    if u[11] >= negative_share:
        return plan
    kinds, shares = list(negatives), np.cumsum(list(negatives.values()))
    kind = kinds[min(int(np.searchsorted(shares, u[11] / negative_share)), len(kinds) - 1)]
    rng = np.random.default_rng([seed, index, 11])
    median_ml, scatter = NEGATIVE_ML[kind]
    volume_ml = min(median_ml * float(np.exp(scatter * rng.normal())), LARGEST_NEGATIVE_ML)
    side: Side = "left" if rng.random() < LEFT / (PATIENTS - BILATERAL) else "right"
    if kind == "scattered" and rng.random() < BOTH_SIDES_SHARE:
        side = "bilateral"
    return dataclasses.replace(
        plan,
        side=side,
        occlusion="none",
        hypoperfusion_ml=volume_ml,
        core_ml=volume_ml,
        stroke=kind,
    )


def _usual_plan(index: int, u: NDArray[np.float64]) -> Plan:
    visible = bool(u[0] >= NO_CORE / PATIENTS)
    severity = float(stats.norm.ppf(u[1]))
    mean, sd = ROOT_ML[visible]
    volume_ml = max(mean + sd * severity, 0.0) ** 2
    logit = LOGIT_CORE[0] + LOGIT_CORE[1] * stats.norm.ppf(u[2])
    share = 1 / (1 + np.exp(-logit))
    # Proximal occlusions tend to the larger lesions, with much overlap.
    rank = stats.norm.cdf(0.75 * severity + np.sqrt(1 - 0.75**2) * stats.norm.ppf(u[3]))
    low = 1 - (PROXIMAL + M2_M3) / PATIENTS
    if rank < low:
        occlusion = "M4" if u[4] < 0.4 else "none"
    elif rank < 1 - PROXIMAL / PATIENTS:
        occlusion = "M2" if u[4] < M2_SHARE else "M3"
    else:
        occlusion = "ICA" if u[4] < ICA_SHARE else "M1"
    side: Side = "left" if u[5] < LEFT / PATIENTS else "right"
    if u[5] >= 1 - BILATERAL / PATIENTS:
        side = "bilateral"
    age = stats.truncnorm.ppf(u[6], *((np.array(AGE_RANGE) - AGE_LATENT[0]) / AGE_LATENT[1]))
    return Plan(
        index=index,
        age=round(float(AGE_LATENT[0] + AGE_LATENT[1] * age)),
        age_known=bool(u[7] >= AGE_MISSING / PATIENTS),
        sex="M" if u[8] < MALE / PATIENTS else "F",
        side=side,
        occlusion=occlusion,
        field_strength_t=3.0 if u[9] < SHARE_3T else 1.5,
        hypoperfusion_ml=float(volume_ml),
        core_ml=float(volume_ml * share) if visible else 0.0,
        severity=severity,
    )


def draw_nihss(rng: np.random.Generator, eloquent_ml: float, side: str) -> int | None:
    """NIHSS from the deficit's volume, weighted by eloquence, with much scatter; or None.

    Args:
        rng: the patient's generator.
        eloquent_ml: hypoperfused or dead volume, each voxel weighted by what it does.
        side: the left hemisphere costs more points: language is tested, neglect hardly.
    """
    missing = rng.random() < NIHSS_MISSING_SHARE
    # The first mL cost the most points, and the scatter grows with the score.
    deficit = 2.8 * eloquent_ml**0.34
    deficit += {"left": 1.5, "right": -1.2, "bilateral": 2.0}[side] + 0.5
    score = max(deficit, 0.3) * np.exp(0.48 * rng.normal())
    score = min(score, 22 + 0.5 * (score - 22))  # the last points of the scale are rarely lost
    score = int(np.clip(round(float(score)), 0, NIHSS_MAX))
    return None if missing else score
