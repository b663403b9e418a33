"""What a network is shown of a patient and what it is to learn: six volumes on the MNI grid."""

import dataclasses

import numpy as np
from numpy.typing import NDArray

from data_tools import intensity
from data_tools.labels import Labels


@dataclasses.dataclass(frozen=True, kw_only=True)
class NetworkVolumes:
    """One patient for training; volumes are (91, 109, 60).

    Attributes:
        dwi: float32, ratio to the parenchymal mean.
        adc: the same of the ADC; 0 in CSF.
        adc_mask: bool, ADC below 620e-6 mm2/s.
        truth: bool, what the network learns.
        coverage: bool, the voxels that count.
        core: bool, what a core output learns.
        adc_mean_um2_per_s: mean of the parenchyma, by which the ADC was divided.
    """

    dwi: NDArray[np.float32]
    adc: NDArray[np.float32]
    adc_mask: NDArray[np.bool_]
    truth: NDArray[np.bool_]
    coverage: NDArray[np.bool_]
    core: NDArray[np.bool_]
    adc_mean_um2_per_s: float

    def volumes(self) -> dict[str, NDArray]:
        """The volumes, by name."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {name: value for name, value in values.items() if isinstance(value, np.ndarray)}


def network_volumes(
    dwi: NDArray[np.float32],
    adc_um2_per_s: NDArray[np.float32],
    brain: NDArray[np.bool_],
    label: Labels,
) -> NetworkVolumes:
    """Physical images and labels of a patient, as records hold them.

    Args:
        dwi: any unit, (91, 109, 60).
        adc_um2_per_s: the same shape.
        brain: bool.
        label: of :func:`data_tools.labels.make_labels`.

    Raises:
        InputError: as :func:`data_tools.intensity.normalise`.
    """
    dwi_ratio, adc_ratio = intensity.normalise(dwi, adc_um2_per_s, brain)
    tissue = intensity.parenchyma(adc_um2_per_s, brain)
    return NetworkVolumes(
        dwi=dwi_ratio,
        adc=adc_ratio,
        adc_mask=intensity.adc_mask(adc_um2_per_s, brain),
        truth=label.truth,
        coverage=label.coverage,
        core=label.core_truth,
        adc_mean_um2_per_s=intensity.tissue_mean(adc_um2_per_s, tissue),
    )
