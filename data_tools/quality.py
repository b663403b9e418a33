"""What is measured of a patient in MNI space, and what ``qc.json`` holds, as frozen types."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

from data_tools.grid import TMAX_HYPOPERFUSION_S


@dataclasses.dataclass(frozen=True, kw_only=True)
class Registration:
    """How well the patient fits the template, and what the images are.

    Attributes:
        verdict: poor where the images or the fit call for a warning.
        notes: what was done to the files.
        registration: kind of the fit.
        strategy: which of the ways to fit gave its linear part.
        fitted_by: the program that fitted this, ``gauss-newton`` (this project's) or ``ants``.
        brain_dice_with_template: overlap of the brain with the template's.
        tissue_correlation: of tissue against fluid with the template's.
        template_brain_imaged: share of the template's brain inside the images.
        affine_determinant: how much larger the template's brain is.
        turn_deg: degrees by which the head is turned against its file's axes.
        end_slice_brain_share: brain in the fuller end slice, of the largest slice's; cut heads.
        brain_native_ml: brain on the DWI's grid.
        brain_mni_ml: brain on the MNI grid, in mL of the patient.
        coverage_mni_ml: brain that both diffusion and perfusion images show.
        b_value_s_per_mm2: of the DWI; None if no file says it.
        adc_unit_in_file: unit that was found in the ADC file; None without one.
        adc_parenchyma_median_um2_per_s: median ADC of the brain, 1e-6 mm2/s; None without a map.
        shape: voxels of the DWI along each axis.
        affine: from the DWI's voxels to mm.
        orientation: directions of the DWI's axes.
        spacing_mm: voxel size of the DWI.
    """

    verdict: Literal["good", "poor"]
    notes: tuple[str, ...]
    registration: str
    strategy: str
    fitted_by: str
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
    adc_unit_in_file: str | None
    adc_parenchyma_median_um2_per_s: float | None
    shape: tuple[int, ...]
    affine: tuple[tuple[float, ...], ...]
    orientation: str
    spacing_mm: tuple[float, ...]


@dataclasses.dataclass(frozen=True)
class ImageQuality:
    """What :func:`data_tools.patient.to_mni` found.

    Attributes:
        registration: figures of images and fit.
        warnings: what a person should look at.
    """

    registration: Registration
    warnings: tuple[str, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Quality:
    """The figures of one patient of an MNI cohort.

    Attributes:
        participant_id: ``sub-0001``.
        warnings: what a person should look at.
        registration: figures of images and fit; its verdict is of all the warnings.
        overrides: what a person said of the images, by name.
        core_native_ml: core on the DWI's own grid; None where nobody knows it.
        core_mni_ml: core on the MNI grid; likewise.
        tmax_from: how this program made Tmax of a raw series; None of a map of another program.
        tmax_threshold_s: from which on Tmax is hypoperfusion; another than 6 s is calibrated.
        derived: what the table says was computed in place of being measured; None where nothing.
        seconds: that it took.
        peak_memory_mb: that it held.
        fingerprint: checksum of the files and settings it was made of.
        inputs: checksum of the files and the side alone; None from an earlier version.
        settings: the flags it was made with; empty for the usual ones.
        files: checksum of each file that was written.
    """

    participant_id: str
    warnings: tuple[str, ...]
    registration: Registration
    overrides: Mapping[str, str | float | bool]
    core_native_ml: float | None
    core_mni_ml: float | None
    seconds: float
    peak_memory_mb: int
    fingerprint: str
    inputs: str | None = None
    settings: str = ""
    tmax_from: str | None = None
    tmax_threshold_s: float = TMAX_HYPOPERFUSION_S
    derived: str | None = None
    files: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """What ``qc.json`` holds: all of it flat, and ``registration`` the kind of the fit."""
        own = dataclasses.asdict(self)
        figures = own.pop("registration")
        first = {
            "participant_id": own.pop("participant_id"),
            "verdict": figures.pop("verdict"),
            "warnings": own.pop("warnings"),
        }
        return first | figures | own

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Quality":
        """Read what :meth:`to_json` wrote; keys of other versions are left out.

        Args:
            content: of ``qc.json``.

        Raises:
            KeyError, TypeError: it is not such a content.
        """
        figures = {field.name: content[field.name] for field in dataclasses.fields(Registration)}
        figures["notes"] = tuple(figures["notes"])
        # Earlier versions made no Tmax, and kept no older result.
        before = {
            "tmax_from": None,
            "tmax_threshold_s": TMAX_HYPOPERFUSION_S,
            "derived": None,
            "inputs": None,
            "settings": "",
        }
        content = before | dict(content)
        known = {field.name: content[field.name] for field in dataclasses.fields(cls)}
        known["warnings"] = tuple(known["warnings"])
        if not isinstance(known["files"], dict):  # names only, by an earlier version
            known["files"] = dict.fromkeys(known["files"], "")
        return cls(**known | {"registration": Registration(**figures)})
