"""What perfusion imaging showed, on the grid of the patient's DWI, to hold a prediction against."""

import dataclasses

import numpy as np
from numpy.typing import NDArray

from data_tools import labels
from data_tools.lone_image import on_grid_of
from data_tools.patient import NativePatient, perfusion_scan
from data_tools.transform import resample


@dataclasses.dataclass(frozen=True, kw_only=True)
class NativeTruth:
    """Masks of the DWI's shape.

    Attributes:
        mask: bool, the hypoperfusion with the core, as networks learn it; inside ``coverage``.
        coverage: bool, brain that the perfusion scan holds; only there can anything be compared.
        source: ``Tmax``, ``edited mask`` or ``edited truth``.
        threshold_s: from which on Tmax counts; None where a mask does.
    """

    mask: NDArray[np.bool_]
    coverage: NDArray[np.bool_]
    source: labels.TruthFrom
    threshold_s: float | None


def of_patient(native: NativePatient, core: NDArray[np.bool_] | None) -> NativeTruth | None:
    """A patient's truth by the rules of :mod:`data_tools.labels`; None without Tmax and mask.

    Args:
        native: of :func:`data_tools.patient.load_native`.
        core: bool, shape of the DWI; None where it is not known, so that it cannot be added.
    """
    if native.tmax is None and native.truth is None:
        return None
    dwi, coverage, hypoperfusion = native.dwi, native.brain, np.zeros_like(native.brain)
    if native.tmax is not None:
        scanned = perfusion_scan(native.tmax).astype(np.float32)
        coverage = coverage & on_grid_of(dataclasses.replace(native.tmax, data=scanned), dwi)
        hypoperfusion = labels.hypoperfusion_mask(
            resample(native.tmax, np.eye(4), dwi.data.shape, dwi.affine),
            adc_um2_per_s=native.adc.data,
            coverage=coverage,
            voxel_ml=dwi.voxel_ml,
            threshold_s=native.tmax_threshold_s,
        )
    if native.truth is not None:
        hypoperfusion = on_grid_of(native.truth, dwi) & coverage
    if core is not None and not native.truth_is_whole:
        hypoperfusion = hypoperfusion | (core & coverage)
    edited = native.truth is not None
    return NativeTruth(
        mask=hypoperfusion,
        coverage=coverage,
        source=labels.truth_from(edited, native.truth_is_whole),
        threshold_s=None if edited else native.tmax_threshold_s,
    )
