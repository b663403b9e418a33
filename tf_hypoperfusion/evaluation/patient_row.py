"""A line of ``patients.csv``: what is known of a patient, and what was measured.

Volumes are mL of the patient's own tissue.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from tf_hypoperfusion.evaluation.patient_metrics import CoreFigures
from tf_hypoperfusion.evaluation.thresholds import FiguresAtThreshold

Cell = str | int | float | bool | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class PatientFacts:
    """What is known of a patient without a network; None where it is not.

    Attributes:
        participant_id: as in ``participants.tsv``.
        age: years.
        sex: M or F.
        nihss: 0 to 42.
        side: of the brain lesion: left, right, bilateral or unknown.
        occlusion: ICA, M1, M2, M3, M4 or none; of other territories where they were asked for.
        field_strength_t: of the scanner.
        cohort: where the patient is from; ``simulated`` is said wherever figures are shown.
        core_ml: volume of the ischaemic core.
        hypoperfusion_ml: volume of Tmax >= 6 s, without the core, of edited patients too; without
            Tmax that of the edited mask, which may be the whole truth.
        truth_ml: volume of the truth: Tmax or the edited mask united with the core, or the edited
            truth as it is.
        coverage_ml: volume with both diffusion and perfusion.
        brain_ml: volume of the brain.
        voxel_ml: tissue in a voxel of the MNI grid.
        truth_from: Tmax, an edited mask (united with the core), or an edited truth.
        mrs_90d: modified Rankin Scale after 90 days, 0 to 6; records of early versions have none.
        tmax_from: how this program made Tmax of a raw series; None of a map of another program.
    """

    participant_id: str
    age: float | None
    sex: str | None
    nihss: int | None
    side: str
    occlusion: str | None
    field_strength_t: float | None
    cohort: str | None
    core_ml: float
    hypoperfusion_ml: float
    truth_ml: float
    coverage_ml: float
    brain_ml: float
    voxel_ml: float
    truth_from: str
    mrs_90d: int | None = None
    tmax_from: str | None = None

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> "PatientFacts":
        """Of a patient of a manifest, or of :func:`data_tools.mni_patient.load_labelled`.

        Raises:
            KeyError: a fact is missing.
        """
        return cls(**_fields_of(cls, row))


@dataclasses.dataclass(frozen=True, kw_only=True)
class PatientRow(PatientFacts):
    """A line of ``patients.csv``.

    Figures are those of :class:`~tf_hypoperfusion.evaluation.patient_metrics.PatientMetrics`;
    ``truth_ml`` is not rounded.

    Attributes:
        fold: that predicted the patient; ``all`` if their average did.
        dice: of truth and prediction.
        auc: in the stroke hemisphere.
        precision: share of the prediction that is true.
        recall: share of the truth that is predicted.
        hd95_mm: 95th percentile Hausdorff distance.
        surface_dice: share of both surfaces that are near the other.
        predicted_ml: volume of the prediction.
        volume_difference_ml: predicted - true volume.
        true_mismatch_ratio: true volume / core.
        true_mismatch_ml: true volume - core.
        true_target_mismatch: DEFUSE 3 on the true volume.
        predicted_mismatch_ratio: predicted volume / core.
        predicted_mismatch_ml: predicted volume - core.
        predicted_target_mismatch: DEFUSE 3 on the predicted volume.
        dawn: clinical-core mismatch; None if age or NIHSS is unknown.
        chosen: figures at the threshold chosen on validation patients; None if none was chosen.
        core: by networks that answer with one, else None.
    """

    fold: int | str
    dice: float | None
    auc: float | None
    precision: float | None
    recall: float | None
    hd95_mm: float | None
    surface_dice: float | None
    predicted_ml: float
    volume_difference_ml: float
    true_mismatch_ratio: float
    true_mismatch_ml: float
    true_target_mismatch: bool
    predicted_mismatch_ratio: float
    predicted_mismatch_ml: float
    predicted_target_mismatch: bool
    dawn: bool | None
    chosen: FiguresAtThreshold | None = None
    core: CoreFigures | None = None

    def to_json(self) -> dict[str, Cell]:
        """Cells by column, in the order of the file; no ``chosen_...`` if nothing was chosen, and
        no figures of the core without one.
        """
        cells = dataclasses.asdict(self)
        chosen, core = cells.pop("chosen") or {}, cells.pop("core") or {}
        return {
            "fold": cells.pop("fold"),
            **cells,
            **core,
            **{f"chosen_{name}": value for name, value in chosen.items()},
        }

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> "PatientRow":
        """Read a row without ``chosen_...``, as it is kept beside a patient's counts.

        Raises:
            KeyError: a column is missing.
        """
        names = [field.name for field in dataclasses.fields(CoreFigures)]
        core = {name: row[name] for name in names} if names[0] in row else None
        return cls(**_fields_of(cls, row), core=CoreFigures(**core) if core else None)


def _fields_of(kind: Any, row: Mapping[str, Any]) -> dict[str, Any]:
    fields = [each for each in dataclasses.fields(kind) if each.name not in ("chosen", "core")]
    return {
        field.name: row[field.name]
        for field in fields
        if field.name in row or field.default is dataclasses.MISSING
    }
