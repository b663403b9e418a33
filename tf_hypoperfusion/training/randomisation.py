"""How training slabs are made to look otherwise each time: amounts, by name.

Numbers only, shared by the two that apply them: :mod:`tf_hypoperfusion.training.augmentation` in
TensorFlow's input pipeline and :mod:`tf_hypoperfusion.training.gpu.randomisation` in JAX.
"""

import dataclasses
import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_tools.grid import SIDES, UNKNOWN_SIDE, VOXEL_MM
from data_tools.runtime.errors import InputError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Randomisation:
    """How much is changed at most; 0 leaves a thing as it is. Each slab draws its own amounts.

    Attributes:
        share: of the slabs that are changed at all; the others stay as they are, inputs included.
        dwi_bias: SD of the log of DWI's bias field, from and to; part of it at 45, part at 18 mm.
        adc_bias: largest such SD of the ADC.
        dwi_gain: SD of the log of DWI's gain.
        dwi_gamma: SD of the log of the exponent of DWI.
        noise: largest SD of noise, as a share of the parenchymal mean, of DWI (Rician) and ADC.
        blur: largest share that a slice takes from each neighbour.
        adc_scale: an ADC map is wrong by at most this share (which moves the ADC mask).
        rotation_deg: largest turn in the axial plane.
        scale: largest change of size.
        shift_voxels: largest shift along x and y.
        label_shift_voxels: SD of the shift between the images and what is to be learnt.
        mask_error: share of the slabs whose brain is too small in places, and too large in others.
        drop_dwi: share of the slabs without DWI (0 everywhere).
        drop_adc: without ADC and its mask.
        drop_nihss: without NIHSS.
        drop_side: whose side is not told.
    """

    share: float = 1.0
    dwi_bias: tuple[float, float] = (0.0, 0.0)
    adc_bias: float = 0.0
    dwi_gain: float = 0.0
    dwi_gamma: float = 0.0
    noise: float = 0.0
    blur: float = 0.0
    adc_scale: float = 0.0
    rotation_deg: float = 0.0
    scale: float = 0.0
    shift_voxels: float = 0.0
    label_shift_voxels: float = 0.0
    mask_error: float = 0.0
    drop_dwi: float = 0.0
    drop_adc: float = 0.0
    drop_nihss: float = 0.0
    drop_side: float = 0.0

    @property
    def changes_place(self) -> bool:
        """Whether images or labels are resampled."""
        return any((self.rotation_deg, self.scale, self.shift_voxels, self.label_shift_voxels))

    @property
    def changes_images(self) -> bool:
        """Whether more is done than leaving inputs out."""
        scanner = self.dwi_bias[1], self.adc_bias, self.dwi_gain, self.dwi_gamma
        rest = self.noise, self.blur, self.adc_scale, self.mask_error
        return self.changes_place or any((*scanner, *rest))


NONE = Randomisation()

# The fields of the parts that settings are joined from.
PARTS = {
    "bias": ("dwi_bias", "adc_bias"),
    "contrast": ("dwi_gain", "dwi_gamma"),
    "noise": ("noise", "blur"),
    "adc": ("adc_scale",),
    "place": ("rotation_deg", "scale", "shift_voxels", "label_shift_voxels"),
    "mask": ("mask_error",),
    "inputs": ("drop_dwi", "drop_adc", "drop_nihss", "drop_side"),
}
_WIDE: dict[str, Any] = {
    "share": 0.85,
    "dwi_bias": (0.03, 0.14),
    "adc_bias": 0.04,
    "dwi_gain": 0.04,
    "dwi_gamma": 0.12,
    "noise": 0.08,
    "blur": 0.25,
    "adc_scale": 0.06,
    "rotation_deg": 6.0,
    "scale": 0.05,
    "shift_voxels": 2.0,
    "label_shift_voxels": 0.5,
    "mask_error": 0.5,
}
# For patients whose looks differ widely already.
_LIGHT: dict[str, Any] = {
    "share": 0.7,
    "dwi_bias": (0.0, 0.07),
    "adc_bias": 0.02,
    "dwi_gain": 0.03,
    "dwi_gamma": 0.06,
    "noise": 0.04,
    "blur": 0.15,
    "adc_scale": 0.03,
    "rotation_deg": 4.0,
    "scale": 0.03,
    "shift_voxels": 1.5,
    "label_shift_voxels": 0.25,
    "mask_error": 0.3,
}
# Between both.
_MEDIUM: dict[str, Any] = {
    "share": 0.75,
    "dwi_bias": (0.0, 0.12),
    "adc_bias": 0.03,
    "dwi_gain": 0.04,
    "dwi_gamma": 0.1,
    "noise": 0.06,
    "blur": 0.2,
    "adc_scale": 0.05,
    "rotation_deg": 5.0,
    "scale": 0.04,
    "shift_voxels": 1.5,
    "label_shift_voxels": 0.25,
    "mask_error": 0.4,
}
# Also answers where an input is missing.
_INPUTS = {"drop_dwi": 0.12, "drop_adc": 0.12, "drop_nihss": 0.25, "drop_side": 0.15}


def _part(name: str) -> dict[str, Any]:
    """A part alone: as strong as in ``wide``, in as many slabs."""
    return {field: _WIDE[field] for field in ("share", *PARTS[name])}


# Scanners' ADC maps differ by 5% at most; ``wide`` goes beyond.
NAMED = {
    "none": {},
    "light": _LIGHT,
    "medium": _MEDIUM,
    "wide": _WIDE,
    **{name: _part(name) for name in PARTS if name != "inputs"},
    "adc": _part("adc") | {"adc_scale": 0.05},
    "inputs": _INPUTS,
}


def parse(text: str) -> Randomisation:
    """Named settings, joined by ``+``.

    Args:
        text: one of :data:`NAMED`, or several of them: ``light+inputs``, ``bias+noise``.

    Raises:
        InputError: an unknown name, or two that change the same thing.

    >>> parse("none") == NONE, parse("bias+noise").blur
    (True, 0.25)
    """
    settings: dict[str, Any] = {}
    for name in text.split("+"):
        if name not in NAMED:
            raise InputError(
                f"randomisation is {text!r}; expected one of {', '.join(NAMED)}, or several "
                "joined by +, as in light+inputs"
            )
        twice = [field for field in NAMED[name] if field in settings and field != "share"]
        if twice:
            raise InputError(
                f"randomisation is {text!r}, where {name} changes what another name changes "
                f"already ({', '.join(twice)}); leave one of them out"
            )
        settings |= NAMED[name]
    return Randomisation(**settings)


# About which a head is turned and scaled, voxels of the frame: the middle of the brain.
CENTRE = (63.0, 63.5)
# Scales of a bias field; at most so much of its variance is of the small one.
LARGE_MM, SMALL_MM, SMALL_SHARE = 45.0, 18.0, 0.6
# A mask errs where a field of SMALL_MM is beyond this; what it wins is as bright as the brightest
# neighbour, times a number of this range.
ERRING, OF_NEIGHBOUR = 0.3, (0.2, 1.2)
# What a network is given where the side is not told: the word for it, where the grid has one.
SIDE_NOT_TOLD = SIDES.index(UNKNOWN_SIDE)


@functools.cache
def spline_basis(size: int, spacing_mm: float) -> NDArray[np.float32]:
    """Cubic B-splines that join normal numbers on a coarse lattice to a smooth field of SD 1.

    Args:
        size: voxels along an axis.
        spacing_mm: of the lattice.

    Returns:
        float32 (size, points of the lattice).
    """
    position = np.arange(size) * VOXEL_MM / spacing_mm
    knots = np.arange(int(position[-1]) + 4) - 1
    t = np.abs(position[:, None] - knots[None])
    basis = np.where(t < 1, 2 / 3 - t**2 + t**3 / 2, np.clip(2 - t, 0, None) ** 3 / 6)
    return (basis / np.sqrt((basis**2).sum(axis=1, keepdims=True))).astype(np.float32)
