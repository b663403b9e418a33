"""The same head under two names: identical images, or a copy moved, noisy, brighter or mirrored.

A patient's look is DWI and ADC between 6 and 16 mm, less what the template explains, every 8 mm.
Less the cohort's mean look, independent heads correlate by chance and copies do not (the figures
are in BUILD_NOTES, Duplicates). Every pair is compared, as it is and mirrored left to right.
"""

import dataclasses
import functools
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from data_tools.intensity import tissue_mean, tissue_of
from data_tools.runtime.errors import InputError, counted
from data_tools.template import template_on_grid

# Correlation of two looks from which a pair counts as copies.
NEAR_R = 0.55
# Fewer patients have no mean that says what heads have in common.
MIN_FOR_MEAN = 10
# Where the mean look holds so much of everybody's, most of the cohort is one head.
ONE_HEAD_SHARE = 0.5
# SD of both Gaussians, in voxels of 2 mm.
FINE_VOXELS, COARSE_VOXELS = 3.0, 8.0
# Over the tissue's mean: brighter is a lesion, which is no part of the head.
MAX_ADC, MAX_DWI = 3.0, 1.5
CHUNK = 1000  # rows compared at once: with 10,000 patients two matrices of 40 MB
SHOWN = 20


@dataclasses.dataclass(frozen=True)
class Look:
    """What a patient is compared by.

    Attributes:
        dwi: checksum of the voxels; None of an image that is 0 everywhere.
        adc: the same.
        values: float16, DWI's samples and then as many of the ADC.
    """

    dwi: str | None
    adc: str | None
    values: NDArray[np.float16]


@dataclasses.dataclass(frozen=True, order=True)
class Pair:
    """Two patients with the same head.

    Attributes:
        first, second: their names, in this order.
        kind: in words.
        r: correlation of their looks.
    """

    first: str
    second: str
    kind: str
    r: float

    def __str__(self) -> str:
        return f"{self.first} and {self.second}: {self.kind} (r = {self.r:.2f})"


def look_of(dwi: NDArray, adc_um2_per_s: NDArray, brain: NDArray[np.bool_]) -> Look:
    """A patient's look.

    Args:
        dwi: (91, 109, 60), any unit.
        adc_um2_per_s: the same shape.
        brain: bool, the same shape.
    """
    tissue = tissue_of(dwi, adc_um2_per_s, brain)
    seen = [
        _seen(image, brain, tissue_mean(image, tissue), brightest)
        for image, brightest in ((dwi, MAX_DWI), (adc_um2_per_s, MAX_ADC))
    ]
    return Look(_voxels(dwi), _voxels(adc_um2_per_s), np.concatenate(seen).astype(np.float16))


def find(looks: Mapping[str, Look]) -> list[Pair]:
    """Every pair of copies, sorted. With n patients it takes n*n / 2 products of two looks.

    Args:
        looks: by name.
    """
    names = sorted(looks)
    if len(names) < 2:
        return []
    compared = _compared(np.stack([looks[name].values for name in names]).astype(np.float32))
    found: dict[tuple[int, int], tuple[str, float]] = {}
    for kind, others in (
        ("the same head, moved or changed", compared),
        ("the same head, mirrored left to right", compared[:, _mirror()]),
    ):
        for i, j, r in _near(compared, others):
            if r > found.get((i, j), ("", 0.0))[1]:
                found[i, j] = kind, r
    for words, keys in (
        ("the same DWI", [looks[name].dwi for name in names]),
        ("the same ADC map", [looks[name].adc for name in names]),
    ):
        for i, j in _equal(keys):
            both = found.get((i, j), ("", 0.0))[0] == "the same DWI"
            found[i, j] = ("identical DWI and ADC" if both else words), 1.0
    return sorted(
        Pair(names[i], names[j], kind, round(min(r, 1.0), 3)) for (i, j), (kind, r) in found.items()
    )


def together(groups: Mapping[str, str], pairs: Iterable[Pair]) -> dict[str, str]:
    """Groups in which the patients of each pair are joined, named as ``groups_of`` names them."""
    joined = dict(groups)
    for pair in pairs:
        first, other = sorted((joined[pair.first], joined[pair.second]))
        if first != other:
            joined = {name: first if group == other else group for name, group in joined.items()}
    return joined


def apart(pairs: Iterable[Pair], groups: Mapping[str, str]) -> list[Pair]:
    """The pairs that no group holds together."""
    return [pair for pair in pairs if groups[pair.first] != groups[pair.second]]


def refusal(pairs: Sequence[Pair]) -> InputError:
    """The error that names them, with the ways out."""
    return InputError(
        f"{counted(len(pairs), 'pair')} of patients with the same head; nothing was written:\n"
        f"{listed(pairs)}\n"
        "A network trained on one and tested on the other seems better than it is. Leave one of "
        "each pair out of participants.tsv; or write the same word in the column group of both; "
        "or give --duplicates=together, which keeps each pair in one subset; or "
        "--duplicates=allow, if they are others or are meant to be there."
    )


def listed(pairs: Sequence[Pair]) -> str:
    """A line for each pair, as many as anyone reads."""
    lines = [f"  {pair}" for pair in pairs[:SHOWN]]
    more = len(pairs) - SHOWN
    return "\n".join(lines + ([f"  and {more} more"] if more > 0 else []))


def _voxels(image: NDArray) -> str | None:
    return hashlib.sha256(image.tobytes()).hexdigest() if image.any() else None


def _seen(image: NDArray, brain: NDArray[np.bool_], mean: float, brightest: float) -> NDArray:
    if mean <= 0:
        return np.zeros(len(_template_looks()), np.float32)
    seen = _sampled(np.clip(image / np.float32(mean), 0, brightest) * brain)
    explained = _template_looks()
    return seen - explained @ (explained.T @ seen)


def _sampled(image: NDArray) -> NDArray[np.float32]:
    """The band of :data:`FINE_VOXELS` to :data:`COARSE_VOXELS` within the template's brain."""
    # To 4 mm first, which is eight times as fast; x keeps its middle.
    v: NDArray[Any] = image.astype(np.float32)
    v = (v[:-2:2] + 2 * v[1:-1:2] + v[2::2]) / 4
    v = (v[:, :-1:2] + v[:, 1::2]) / 2
    v = (v[..., :-1:2] + v[..., 1::2]) / 2
    fine, coarse = (
        ndimage.gaussian_filter(v, sigma / 2, truncate=3) for sigma in (FINE_VOXELS, COARSE_VOXELS)
    )
    return (fine - coarse)[::2, ::2, ::2][_inside()]


@functools.cache
def _inside() -> NDArray[np.bool_]:
    """Where samples lie: every 8 mm in the template's brain, the same on both sides of x = 0."""
    brain = template_on_grid()[1][1::4, :-1:4, ::4]
    return brain | brain[::-1]


@functools.cache
def _template_looks() -> NDArray[np.float32]:
    """(samples, 4), orthonormal: tissue, brain, fluid and a constant as they would be seen."""
    tissue, brain = template_on_grid()
    fluid = np.where(brain, np.clip(1 - tissue, 0, 1) ** 2, 0)
    seen = [_sampled(image) for image in (tissue, brain.astype(np.float32), fluid)]
    return np.linalg.qr(np.stack([*seen, np.ones_like(seen[0])], axis=1))[0]


@functools.cache
def _mirror() -> NDArray[np.intp]:
    """Where each sample's place on the other side stands, for both images."""
    inside = _inside()
    place = np.zeros(inside.shape, np.intp)
    place[inside] = np.arange(inside.sum())
    once = place[::-1][inside]
    return np.concatenate([once, once + len(once)])


def _near(
    looks: NDArray[np.float32], others: NDArray[np.float32]
) -> Iterator[tuple[int, int, float]]:
    """Places of both, and their correlation, of pairs from :data:`NEAR_R` on."""
    for start in range(0, len(looks), CHUNK):
        r = looks[start : start + CHUNK] @ others[start:].T
        for i, j in np.argwhere(np.triu(r >= NEAR_R, 1)):
            yield start + int(i), start + int(j), float(r[i, j])


def _compared(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Looks whose products are the mean of the correlations of DWI and ADC."""
    alone = _unit(values)
    mean = alone.mean(axis=0)
    if len(values) < MIN_FOR_MEAN or mean @ mean > ONE_HEAD_SHARE:
        return alone
    # Of both sides, so that a mirrored look is compared with the same.
    mean = values.mean(axis=0)
    return _unit(values - (mean + mean[_mirror()]) / 2)


def _unit(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Each image of each patient of the same length, both together 1; zeros stay."""
    halves = values.reshape(len(values), 2, -1)
    length = np.linalg.norm(halves, axis=2, keepdims=True)
    scaled = np.divide(halves, length, out=np.zeros_like(halves), where=length > 0)
    return (scaled / np.float32(np.sqrt(2))).reshape(len(values), -1)


def _equal(keys: Sequence[Any]) -> Iterator[tuple[int, int]]:
    """Places of equal keys: the first with each later one."""
    first: dict[Any, int] = {}
    for j, key in enumerate(keys):
        if key is not None and first.setdefault(key, j) != j:
            yield first[key], j
