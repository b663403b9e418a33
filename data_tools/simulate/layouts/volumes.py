"""What the archives of public data sets show of a simulated patient: every image on one grid.

Values are rounded so that any of the formats holds them exactly.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from data_tools.grid import TMAX_HYPOPERFUSION_S
from data_tools.labels import HYPOPERFUSION_MIN_CLUSTER_ML, territories
from data_tools.simulate.anatomy import MODEL_AFFINE, MODEL_VOXEL_ML, Anatomy
from data_tools.simulate.dsc import acquire_dsc, draw_scan
from data_tools.simulate.patient import SimulatedPatient, simulate_patient
from data_tools.transform import resample
from data_tools.volumes import Volume

# Steps of what integers hold with a slope; a power of two, so that floats hold them too.
STEP = 1 / 128
ONE_SIDE_TIMES = 3.0
SPES_SHAPE, SPES_MM = (96, 110, 71), 2.0
# In the slice and slices; thickness is the patient's.
MATRICES = ((192, 26), (256, 25), (128, 25), (192, 27))
TURN_DEG = 9.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class LayoutImages:
    """One patient.

    Attributes:
        images: float32 or bool [x, y, z] by the name that the archive has, ``Tmax`` in s, ``ADC``
            in 1e-6 mm2/s; ``4DPWI`` is [x, y, z, t].
        affine: index -> scanner mm, RAS+, of all of them.
        side: where three times as much of Tmax >= 6 s lies, in MNI space; else bilateral, or
            unknown where there is less than 1 mL.
    """

    images: Mapping[str, NDArray]
    affine: NDArray[np.float64]
    side: str


def spes(seed: int, index: int, *, coarser: int, turned: bool) -> LayoutImages:
    """A patient of ISLES 2015 SPES: isotropic voxels, no ADC, labels of a person.

    Args:
        seed: of the cohort.
        index: of the patient.
        coarser: voxels so many times as large.
        turned: the grid is turned against the scanner's axes.
    """
    patient = simulate_patient(seed, index)
    shape = tuple(-(-size // coarser) for size in SPES_SHAPE)
    affine = np.diag([SPES_MM * coarser] * 3 + [1.0])
    centre_mm = (np.linalg.inv(patient.native_to_mni) @ [0, -18, 5, 1])[:3]
    if turned:
        affine[:3, :3] = _turn() @ affine[:3, :3]
    affine[:3, 3] = centre_mm - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    place = _Place(patient, shape, affine)
    brain = place.of_model(patient.anatomy.brain) > 0.5
    tmax = _stepped(place.of_model(patient.lesion.tmax_s) * brain)
    penumbra = territories(tmax > TMAX_HYPOPERFUSION_S, abs(np.linalg.det(affine[:3, :3])) / 1000)
    core = (place.of_model(patient.lesion.core.astype(np.float32)) > 0.5) & penumbra
    dwi = np.round(place.of_native(patient.native.dwi) * brain)
    images: dict[str, NDArray] = {
        "DWI": dwi,
        "Tmax": tmax,
        **_maps(tmax, brain, ("CBF", "CBV", "TTP")),
    }
    images |= {"T1c": np.round(dwi / 2), "T2": np.round(dwi * 1.5)}
    images |= {"label": penumbra, "corelabel": core}
    return LayoutImages(images=images, affine=affine, side=_side(patient))


def isles(seed: int, index: int, *, coarser: int, turned: bool) -> LayoutImages:
    """A patient of ISLES 2016 or 2017: thick slices, the raw perfusion series, no DWI.

    Args:
        seed: of the cohort.
        index: of the patient.
        coarser: voxels of a slice so many times as large.
        turned: the grid is turned against the scanner's axes.
    """
    patient = simulate_patient(seed, index)
    matrix, slices = MATRICES[index % len(MATRICES)]
    if turned:
        old = patient.native.tmax_affine
        middle = (np.array(patient.native.tmax_s.shape) - 1) / 2
        affine = old.copy()
        affine[:3, :3] = _turn() @ old[:3, :3]
        affine[:3, 3] = (old @ [*middle, 1])[:3] - affine[:3, :3] @ middle
        native = dataclasses.replace(patient.native, tmax_affine=affine)
        patient = dataclasses.replace(patient, native=native)
    scan = draw_scan(patient, matrix=matrix // coarser, slices=slices, motion_mm=0.0)
    taken = acquire_dsc(patient, scan)
    brain = taken.truth.brain
    place = _Place(patient, brain.shape, taken.affine)
    tmax = _stepped(taken.truth.tmax_s * brain)
    images = {
        "ADC": np.round(place.of_native(patient.native.adc_um2_per_s) * brain),
        "4DPWI": (taken.signal * brain[..., None]).astype(np.float32),
        "Tmax": tmax,
        **_maps(tmax, brain, ("MTT", "rCBF", "rCBV", "TTP")),
        # What dies without treatment is some of what is late.
        "OT": ndimage.binary_erosion(tmax > TMAX_HYPOPERFUSION_S + 1),
    }
    return LayoutImages(images=images, affine=taken.affine, side=_side(patient))


def isles2022(seed: int, index: int, *, coarser: int, turned: bool) -> LayoutImages:
    """A patient of ISLES 2022: DWI, ADC and the lesion, no perfusion; arguments as :func:`spes`."""
    patient = simulate_patient(seed, index)
    native, slices = patient.native, patient.native.dwi.shape[2]
    shape = tuple(size // coarser for size in native.dwi.shape[:2]) + (slices,)
    step = np.diag([coarser, coarser, 1.0, 1.0])
    step[:2, 3] = (coarser - 1) / 2
    affine = native.affine @ step
    if turned:
        middle = (np.array(shape) - 1) / 2
        centre_mm = (affine @ [*middle, 1])[:3]
        affine[:3, :3] = _turn() @ affine[:3, :3]
        affine[:3, 3] = centre_mm - affine[:3, :3] @ middle
    place = _Place(patient, shape, affine)
    brain = place.of_model(patient.anatomy.brain) > 0.5
    dwi = np.round(place.of_native(native.dwi) * brain)
    images = {
        "dwi": dwi,
        "adc": np.round(place.of_native(native.adc_um2_per_s) * brain),
        "FLAIR": np.round(dwi * 1.5),
        "msk": place.of_model(patient.lesion.core.astype(np.float32)) > 0.5,
    }
    return LayoutImages(images=images, affine=affine, side="unknown")


@dataclasses.dataclass(frozen=True)
class _Place:
    """A grid about a patient's head."""

    patient: SimulatedPatient
    shape: tuple[int, ...]
    affine: NDArray[np.float64]

    def of_model(self, field: NDArray[np.float32]) -> NDArray[np.float32]:
        to_scanner = np.linalg.inv(self.patient.native_to_mni)
        return resample(Volume(field, MODEL_AFFINE), to_scanner, self.shape, self.affine)

    def of_native(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        there = Volume(image, self.patient.native.affine)
        return resample(there, np.eye(4), self.shape, self.affine)


def _maps(
    tmax_s: NDArray[np.float32], brain: NDArray[np.bool_], names: tuple[str, ...]
) -> dict[str, NDArray[np.float32]]:
    """Other maps, as simple as can be: nothing reads their values."""
    late = np.minimum(tmax_s, 12)
    values = {
        "CBF": 60 - 4 * late,
        "CBV": 4 - late / 8,
        "MTT": 4 + late / 2,
        "TTP": 20 + late,
    }
    return {name: _stepped(values[name.removeprefix("r")] * brain) for name in names}


def _stepped(image: NDArray) -> NDArray[np.float32]:
    return (np.round(image / STEP) * STEP).astype(np.float32)


def _turn() -> NDArray[np.float64]:
    """A turn about the long axis of the body, and a smaller one about that of the ears."""
    one, two = np.deg2rad([TURN_DEG, TURN_DEG / 3])
    about_z = [[np.cos(one), -np.sin(one), 0], [np.sin(one), np.cos(one), 0], [0, 0, 1]]
    about_x = [[1, 0, 0], [0, np.cos(two), -np.sin(two)], [0, np.sin(two), np.cos(two)]]
    return np.array(about_z) @ np.array(about_x)


def _side(patient: SimulatedPatient) -> str:
    head: Anatomy = patient.anatomy
    late = (patient.lesion.tmax_s >= TMAX_HYPOPERFUSION_S) & (head.brain > 0.5)
    x_mm = (MODEL_AFFINE @ np.stack([*np.nonzero(late), np.ones(late.sum())]))[0]
    left, right = int((x_mm < 0).sum()), int((x_mm > 0).sum())
    ml = (left + right) * MODEL_VOXEL_ML / np.linalg.det(patient.native_to_mni[:3, :3])
    if ml < HYPOPERFUSION_MIN_CLUSTER_ML:
        return "unknown"
    if max(left, right) < ONE_SIDE_TIMES * min(left, right):
        return "bilateral"
    return "left" if left > right else "right"
