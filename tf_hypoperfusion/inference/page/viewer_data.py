"""Volumes for the viewer in the page: 8-bit NIfTI, cut to the head, small enough for a mail."""

import base64
import gzip
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from data_tools import drawing
from tf_hypoperfusion.inference.prediction import Prediction

MARGIN_VOXELS = 6
# A probability of exactly 0.5 must stay on its side of the threshold: floor(0.5 x 200) is 100.
PROBABILITY_STEPS = 200
GZIP_LEVEL = 4  # 9 takes four times as long for 2% of the size
ADC_STEP_UM2_PER_S = 10.0
GREENS = "hypoperfusion"  # the viewer's name for the colours of probability


def volumes(done: Prediction) -> list[dict[str, Any]]:
    """DWI, ADC, probability and core, those that are known, in the order in which they are drawn.

    Returns:
        For each: ``name``, ``data`` (base64 of a gzipped NIfTI), ``colormap``, ``low`` and ``high``
        (values of the first and last colour), ``opacity``.
    """
    affine, missing = done.native.dwi.affine, done.native.missing
    box = _head(done.native.brain)
    dwi = np.maximum(done.native.dwi.data[box], 0)
    white = float(np.percentile(done.native.dwi.data[done.native.brain], 99.5)) or 1.0
    adc = np.clip(done.native.adc.data[box] / ADC_STEP_UM2_PER_S, 0, 255)
    levels: dict[str, tuple[NDArray, float]] = {
        "DWI": (np.minimum(dwi * (200 / white), 255), white / 200),
        "ADC": (adc, ADC_STEP_UM2_PER_S),
        "probability": (probability_levels(done.probability[box]), 1 / PROBABILITY_STEPS),
    }
    if missing:
        del levels[missing]
    if done.core.native is not None:
        levels["core"] = (done.core.native[box], 1.0)
    shown = {
        "DWI": ("gray", 0.0, white, 1.0),
        "ADC": ("gray", 0.0, 2500.0, 1.0 if missing == "DWI" else 0.0),
        "probability": (GREENS, 0.0, 1.0, 0.6),
        "core": ("warm", 0.5, 1.0, 0.8),
    }
    moved = affine.copy()
    moved[:3, 3] = affine[:3, :3] @ [part.start for part in box] + affine[:3, 3]
    return [
        {
            "name": name,
            "data": _nifti(data, scale, moved),
            "colormap": shown[name][0],
            "low": shown[name][1],
            "high": shown[name][2],
            "opacity": shown[name][3],
        }
        for name, (data, scale) in levels.items()
    ]


def probability_levels(probability: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Probability in steps of 1/200, rounded down."""
    return np.floor(probability.astype(np.float64) * PROBABILITY_STEPS).astype(np.uint8)


def ml_above(done: Prediction) -> list[float]:
    """mL of the patient with a probability of at least 0/200, 1/200 ... 200/200."""
    counts = np.bincount(
        probability_levels(done.probability[done.native.brain]), minlength=PROBABILITY_STEPS + 1
    )
    above = np.cumsum(counts[::-1])[::-1] * done.native.dwi.voxel_ml
    return [round(float(ml), 2) for ml in above]


def lesion_mm(done: Prediction) -> list[float]:
    """A point inside the lesion, for the viewer to open on.

    It is the middle of the predicted hypoperfusion, of the core where there is none, and else of
    the brain, moved to the nearest voxel of it.

    Returns:
        RAS mm.
    """
    masks = [done.hypoperfusion, done.core.native, done.native.brain]
    mask = next(each for each in masks if each is not None and each.any())
    places = np.argwhere(mask)
    spacing = np.sqrt((done.native.dwi.affine[:3, :3] ** 2).sum(axis=0))
    far = ((places - places.mean(axis=0)) * spacing) ** 2
    nearest = places[far.sum(axis=1).argmin()]
    affine = done.native.dwi.affine
    return [round(float(mm), 2) for mm in affine[:3, :3] @ nearest + affine[:3, 3]]


def colours(steps: tuple[str, ...]) -> dict[str, list[int]]:
    """Colours of values, as the viewer reads them; 0 is not drawn.

    Args:
        steps: evenly spaced.
    """
    places = [0, *(max(round(255 * k / (len(steps) - 1)), 1) for k in range(len(steps)))]
    channels = zip(*map(drawing.rgb, (steps[0], *steps)), strict=True)
    found = {name: list(values) for name, values in zip("RGB", channels, strict=True)}
    return found | {"A": [0] + [255] * len(steps), "I": places}


def _head(brain: NDArray[np.bool_]) -> tuple[slice, slice, slice]:
    parts = []
    for axis in range(3):
        other = tuple(k for k in range(3) if k != axis)
        found = np.flatnonzero(brain.any(axis=other))
        first, last = max(int(found[0]) - MARGIN_VOXELS, 0), int(found[-1]) + MARGIN_VOXELS + 1
        parts.append(slice(first, min(last, brain.shape[axis])))
    return parts[0], parts[1], parts[2]


def _nifti(data: NDArray, scale: float, affine: NDArray[np.float64]) -> str:
    image = nib.Nifti1Image(data.astype(np.uint8), affine)
    image.header.set_xyzt_units("mm")
    image.header.set_slope_inter(scale, 0)
    image.set_qform(affine, code=1)
    image.set_sform(affine, code=1)
    return base64.b64encode(gzip.compress(image.to_bytes(), GZIP_LEVEL, mtime=0)).decode()
