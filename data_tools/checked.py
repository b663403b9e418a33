"""What checking one patient of a cohort gives: faults, or the figures for the cohort's summary."""

import dataclasses

from data_tools.cohort import Fault


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageFigures:
    """What the images of a patient without faults show.

    Attributes:
        voxels: checksum of the DWI's data.
        core_ml: core on the DWI's grid; None where nobody knows it.
        tmax_over_6_ml: Tmax of 6 s and more, as in the file; None without a Tmax image.
        tmax_threshold_s: by a site's own calibration of maps of this program; None without one.
        tmax_over_threshold_ml: Tmax of that and more, likewise.
        adc_unit: the unit found in the file; none without a map.
        brain_ml: brain on the DWI's grid.
        orientation: of the DWI, ``RAS`` for instance.
        truth: what the labels will come from.
    """

    voxels: str
    core_ml: float | None
    tmax_over_6_ml: float | None
    tmax_threshold_s: float | None = None
    tmax_over_threshold_ml: float | None = None
    adc_unit: str | None
    brain_ml: float
    orientation: str
    truth: str


@dataclasses.dataclass(frozen=True)
class Checked:
    """One patient: faults, or figures if there are none."""

    faults: tuple[Fault, ...] = ()
    figures: ImageFigures | None = None
