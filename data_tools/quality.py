"""How well a patient came to MNI space: ``qc.json`` as a frozen type."""

import dataclasses
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class Quality:
    """The figures of one patient of an MNI cohort.

    Attributes:
        participant_id: ``sub-0001``.
        verdict: ``good``, or ``poor`` where there are warnings.
        warnings: what a person should look at.
        notes: what was done to the files.
        registration: ``affine`` or ``syn``.
        strategy: the way that gave the fit.
        brain_dice_with_template: see :class:`data_tools.registration.FitFigures`, as the next five.
        tissue_correlation: of the tissue map with the template's.
        template_brain_imaged: share of the template's brain inside the image.
        affine_determinant: by how much the fit enlarges.
        turn_deg: by how much it turns the head.
        end_slice_brain_share: of the largest slice's brain.
        brain_native_ml: brain on the DWI's own grid.
        brain_mni_ml: brain on the MNI grid, mL of the patient's tissue.
        coverage_mni_ml: the part of it with both diffusion and perfusion.
        b_value_s_per_mm2: of the DWI; None if no file says it.
        adc_unit_in_file: the unit found.
        adc_parenchyma_median_um2_per_s: of the brain.
        shape: of the DWI.
        affine: of the DWI, rows of a 4 x 4 matrix.
        orientation: of the DWI, ``RAS`` for instance.
        spacing_mm: of the DWI.
        core_native_ml: core on the DWI's own grid.
        core_mni_ml: core on the MNI grid.
        seconds: that it took.
        peak_memory_mb: that it held.
        fingerprint: checksum of the files and settings it was made of.
        files: checksum of each file that was written.
    """

    participant_id: str
    verdict: str
    warnings: tuple[str, ...]
    notes: tuple[str, ...]
    registration: str
    strategy: str
    brain_dice_with_template: float
    tissue_correlation: float
    template_brain_imaged: float
    affine_determinant: float
    turn_deg: float
    end_slice_brain_share: float
    brain_native_ml: float
    brain_mni_ml: float
    coverage_mni_ml: float
    b_value_s_per_mm2: float | None
    adc_unit_in_file: str
    adc_parenchyma_median_um2_per_s: float
    shape: list[int]
    affine: list[list[float]]
    orientation: str
    spacing_mm: list[float]
    core_native_ml: float
    core_mni_ml: float
    seconds: float
    peak_memory_mb: int
    fingerprint: str
    files: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """What ``qc.json`` holds."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Quality":
        """Read what :meth:`to_json` wrote; keys of other versions are left out.

        Args:
            content: of ``qc.json``.

        Raises:
            KeyError, TypeError: it is not such a content.
        """
        known = {field.name: content[field.name] for field in dataclasses.fields(cls)}
        for name in ("warnings", "notes"):
            known[name] = tuple(known[name])
        if not isinstance(known["files"], dict):  # names only, by an earlier version
            known["files"] = dict.fromkeys(known["files"], "")
        return cls(**known)
