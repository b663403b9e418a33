"""A small head whose core is known to the voxel: layers of an ellipsoid, noise-free signals."""

import dataclasses

import numpy as np

SPACING_MM = (4.0, 4.0, 10.0)
SHAPE = (40, 50, 14)
# (signal at b = 0, ADC in 1e-6 mm2/s)
TISSUE, WATER, LESION = (450.0, 800.0), (900.0, 2500.0), (600.0, 450.0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Phantom:
    """RAS+ arrays [x, y, z]; the core lies in the left half, to the front and low."""

    adc_um2_per_s: np.ndarray
    s0: np.ndarray
    core: np.ndarray
    affine: np.ndarray

    @property
    def core_ml(self):
        """Known by construction."""
        return float(self.core.sum() * np.prod(SPACING_MM) / 1000)

    @property
    def core_centre_mm(self):
        """RAS+ millimetres of the core's centre."""
        index = np.argwhere(self.core).mean(axis=0)
        return self.affine[:3, :3] @ index + self.affine[:3, 3]

    def image(self, b_value, share=1.0):
        """Signal at a b-value; ``share`` of the ADC acts in one direction."""
        return self.s0 * np.exp(-b_value * 1e-6 * self.adc_um2_per_s * share)


def phantom():
    """The head, axes as of RAS+."""
    affine = np.diag([*SPACING_MM, 1.0])
    affine[:3, 3] = -np.multiply(SPACING_MM, SHAPE) / 2 + (3.0, -7.0, 11.0)
    centre = (np.array(SHAPE) - 1) / 2
    place = (np.indices(SHAPE).reshape(3, -1).T - centre) * SPACING_MM
    x, y, z = (place[:, k].reshape(SHAPE) for k in range(3))
    radius = np.sqrt((x / 70) ** 2 + (y / 88) ** 2 + (z / 64) ** 2)
    head, tissue = radius <= 1, radius <= 0.93
    ventricle = (np.abs(np.abs(x) - 12) < 6) & (np.abs(y) < 34) & (np.abs(z) < 12)
    core = ((x + 36) / 17) ** 2 + ((y - 22) / 22) ** 2 + ((z + 10) / 15) ** 2 <= 1
    wave = 1 + 0.05 * np.sin(x / 9) * np.cos(y / 11) * np.sin(z / 13 + 1)
    s0, adc = np.zeros(SHAPE), np.zeros(SHAPE)
    for where, (signal, value) in (
        (head, WATER), (tissue, TISSUE), (tissue & ventricle, WATER), (core, LESION),
    ):  # fmt: skip
        s0[where], adc[where] = signal, value
    return Phantom(adc_um2_per_s=(adc * wave).round(), s0=s0, core=core, affine=affine)
