"""What a person says of images whose files are wrong or say too little."""

import dataclasses
from collections.abc import Mapping

from data_tools.grid import MIN_B_S_PER_MM2

# Name -> what its numbers are multiplied with to get 1e-6 mm2/s.
ADC_UNITS: Mapping[str, float] = {"mm2/s": 1e6, "1e-3 mm2/s": 1e3, "1e-6 mm2/s": 1.0}
# Above, the number is in another unit (s/m2).
SAID_B_RANGE_S_PER_MM2 = (MIN_B_S_PER_MM2, 10_000.0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Overrides:
    """Each field takes the place of what would be read or found; None and False change nothing.

    Attributes:
        series: of the DWI among DICOM files: SeriesInstanceUID, number, or a piece of the
            description.
        b_value: of the DWI, s/mm2.
        adc_unit: a key of :data:`ADC_UNITS`.
        brain_mask: image file of a mask on any grid, in the patient's own millimetres.
        few_directions: take images of fewer than three diffusion directions for a trace image.
    """

    series: str | None = None
    b_value: float | None = None
    adc_unit: str | None = None
    brain_mask: str | None = None
    few_directions: bool = False

    def given(self) -> dict[str, str | float | bool]:
        """Those that change something, by name; for result.json and qc.json."""
        return {name: value for name, value in vars(self).items() if value not in (None, False)}


NONE = Overrides()
