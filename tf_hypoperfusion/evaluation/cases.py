"""Patients with their truth, ready for a network: out of the records, or of an MNI cohort."""

import dataclasses
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data_tools import intensity, labels, mni_patient, slabs
from data_tools.grid import ADC_CORE_UM2_PER_S, GRID_SHAPE, from_frame, hemisphere
from data_tools.manifest import Manifest
from data_tools.runtime.errors import InputError
from data_tools.runtime.patient_failure import attempt
from tf_hypoperfusion.evaluation.patient_row import Cell, PatientFacts
from tf_hypoperfusion.inference import familiarity
from tf_hypoperfusion.inference.sliding_window import (
    SlabModel,
    VolumeAnswer,
    average_windows,
    model_image,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """One patient to be predicted and compared.

    Attributes:
        facts: clinical fields and volumes.
        image: float32 (windows, 128, 128, 16, 4).
        nihss: float32 (windows, 1).
        starts: first slice of each window.
        truth: bool (91, 109, 60).
        coverage: bool (91, 109, 60).
        tissue: bool (91, 109, 60): brain without CSF.
        dwi: float32 (91, 109, 60), ratio to the parenchymal mean; for pictures.
        true_core: bool (91, 109, 60): the core as it is known, else the rule's; inside coverage.
        rule_core: bool (91, 109, 60): the core by the rule, likewise.
        look: numbers of the image; see :mod:`tf_hypoperfusion.inference.familiarity`.
    """

    facts: PatientFacts
    image: NDArray[np.float32]
    nihss: NDArray[np.float32]
    starts: list[int]
    truth: NDArray[np.bool_]
    coverage: NDArray[np.bool_]
    tissue: NDArray[np.bool_]
    dwi: NDArray[np.float32]
    true_core: NDArray[np.bool_]
    rule_core: NDArray[np.bool_]
    look: dict[str, float] = dataclasses.field(default_factory=dict)

    def answer(self, model: SlabModel) -> VolumeAnswer:
        """What a model says, windows averaged; 0 in CSF."""
        return average_windows(
            model.predict,
            self.image,
            nihss=self.nihss,
            starts=self.starts,
            tissue=self.tissue,
            cores=model.cores,
        )


def of_records(
    folder: str | Path, manifest: Manifest, subset: int, wanted: Collection[str]
) -> Iterator[Case]:
    """The wanted patients of a subset, with the windows that the records hold.

    Raises:
        InputError: a damaged shard, by name.
    """
    if not wanted:
        return
    from tf_hypoperfusion.training.input_pipeline import read_patients

    rows = manifest.rows()
    for name, arrays in read_patients(folder, manifest, subset):
        if name not in wanted:
            continue
        starts = arrays["starts"]
        truth, coverage, true_core = (
            _merge(arrays["y_true"][..., k], starts) > 0.5 for k in range(3)
        )
        dwi, adc, adc_mask = (_merge(arrays["image"][..., k], starts) for k in (0, 1, 2))
        facts = PatientFacts.from_json(rows[name])
        rule_core, tissue = true_core, adc > 0  # the ADC of CSF is set to 0
        if intensity.is_given(adc):
            rule_core = coverage & _rule_core(
                dwi, adc=adc, adc_mask=adc_mask > 0.5, voxel_ml=facts.voxel_ml
            )
        else:
            tissue = intensity.tissue_of(dwi, adc, dwi > 0)
        if manifest.labels.get(mni_patient.WITHIN_SIDE):
            rule_core &= hemisphere(facts.side)
        yield Case(
            facts=facts,
            image=arrays["image"],
            nihss=arrays["nihss"],
            starts=starts,
            truth=truth,
            coverage=coverage,
            tissue=tissue,
            dwi=dwi,
            true_core=true_core,
            rule_core=rule_core,
            look=familiarity.measure(dwi, adc, tissue),
        )


def of_cohort(
    cohort: str | Path, rows: Iterable[dict[str, Cell]], stride: int
) -> Iterator[tuple[str, Case | InputError]]:
    """Patients of an MNI cohort, from their volumes.

    Args:
        cohort: its folder.
        rows: :func:`data_tools.cohort.clinical_record` of each.
        stride: slices between windows.

    Yields:
        ``(participant, case)``, or ``(participant, InputError)`` for a patient that cannot be
        used, so that the others go on.
    """
    for row in rows:
        name = str(row["participant_id"])
        yield name, attempt(_load, cohort, row, stride)


def _load(cohort: str | Path, row: dict[str, Cell], stride: int) -> Case:
    patient, label, described = mni_patient.load_labelled(cohort, row)
    facts = PatientFacts.from_json(described)
    image = model_image(patient.dwi, patient.adc_um2_per_s, patient.brain, facts.side)
    starts = slabs.slab_starts(stride)
    windows = slabs.cut_slabs(image, starts)
    tissue = intensity.tissue_of(patient.dwi, patient.adc_um2_per_s, patient.brain)
    dwi, adc = (np.ascontiguousarray(from_frame(image[..., k])) for k in (0, 1))
    return Case(
        facts=facts,
        image=windows,
        nihss=np.full((len(windows), 1), intensity.nihss_feature(facts.nihss), np.float32),
        starts=starts,
        truth=label.truth,
        coverage=label.coverage,
        tissue=tissue,
        dwi=dwi,
        true_core=label.core_truth,
        rule_core=label.core,
        look=familiarity.measure(dwi, adc, tissue),
    )


def _rule_core(
    dwi: NDArray[np.float32], *,
    adc: NDArray[np.float32], adc_mask: NDArray[np.bool_], voxel_ml: float,
) -> NDArray[np.bool_]:  # fmt: skip
    """The core by the rule, of what records hold: ratios, and where the ADC is low.

    The rule asks of an ADC only whether it is low, so any that is says the same. Voxels of just
    620e-6 mm2/s, half a percent of a core where ADC is kept in whole numbers, are missed.
    """
    low_or_not = np.where(adc_mask, ADC_CORE_UM2_PER_S, ADC_CORE_UM2_PER_S + 1)
    adc_um2_per_s = np.where(adc > 0, low_or_not, 0).astype(np.float32)
    return labels.core_mask(dwi, adc_um2_per_s, adc > 0, voxel_ml)


def _merge(values: NDArray, starts: list[int]) -> NDArray[np.float32]:
    return from_frame(slabs.merge_slabs(values, starts, GRID_SHAPE[2]))
