"""One patient of an evaluation: measured, kept on disk, drawn. Runs in workers; no TensorFlow."""

import dataclasses
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_tools import cohort as cohorts
from data_tools import drawing, pictures
from data_tools.grid import GRID_AFFINE, GRID_ORIGIN_MM, VOXEL_MM
from data_tools.runtime import atomic
from data_tools.runtime.errors import InputError
from data_tools.volumes import save_volume
from tf_hypoperfusion import clinical
from tf_hypoperfusion.config import PROBABILITY_THRESHOLD, RESEARCH_NOTICE
from tf_hypoperfusion.evaluation import patient_words
from tf_hypoperfusion.evaluation.patient_metrics import (
    STEPS,
    ThresholdCounts,
    core_figures,
    patient_metrics,
    threshold_counts,
)
from tf_hypoperfusion.evaluation.patient_row import PatientFacts, PatientRow
from tf_hypoperfusion.inference import wording
from tf_hypoperfusion.inference.page.index import write_evaluated

MAPS = (
    "desc-hypoperfusion_probseg",
    "desc-truth_mask",
    "desc-coverage_mask",
    "desc-normalised_dwi",
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PredictedCore:
    """The core of a patient by a network that answers with one, and what it is compared with.

    Attributes:
        probability: float32 (91, 109, 60), of core.
        truth: bool (91, 109, 60).
        by_rule: bool (91, 109, 60).
    """

    probability: NDArray[np.float32]
    truth: NDArray[np.bool_]
    by_rule: NDArray[np.bool_]


@dataclasses.dataclass(frozen=True, kw_only=True)
class PredictedPatient:
    """A patient whom the network has answered for, ready to be measured.

    Attributes:
        facts: what is known without the network.
        truth: bool (91, 109, 60).
        coverage: bool (91, 109, 60).
        tissue: bool (91, 109, 60): brain without CSF; for the picture.
        dwi: float32 (91, 109, 60), ratio to the parenchymal mean; for map and picture.
        probability: float32 (91, 109, 60).
        fold: that answered; None for the average of all.
        network_s: seconds that the answer took.
        machine: that gave the answer, in words.
        key: of models, data and settings, to know the result again.
        folder: of the evaluation.
        draw: write maps, picture and page too.
        cores: None from networks that answer without a core.
        look: numbers of the image; see :mod:`tf_hypoperfusion.inference.familiarity`.
    """

    facts: PatientFacts
    truth: NDArray[np.bool_]
    coverage: NDArray[np.bool_]
    tissue: NDArray[np.bool_]
    dwi: NDArray[np.float32]
    probability: NDArray[np.float32]
    fold: int | None
    network_s: float
    machine: str
    key: str
    folder: Path
    draw: bool
    cores: PredictedCore | None = None
    look: dict[str, float] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Seconds:
    """How long a patient took, or the median patient.

    Attributes:
        network: to predict.
        measure: to measure, and to draw where that was asked for.
    """

    network: float
    measure: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class MeasuredPatient:
    """What evaluation keeps of a patient, in a JSON file of its own.

    Attributes:
        key: of models, data and settings.
        row: of ``patients.csv``.
        counts: from which the figures at any threshold follow.
        seconds: that it took.
        machine: on which the network answered; empty where an early version did not keep it.
        look: numbers of the image.
    """

    key: str
    row: PatientRow
    counts: ThresholdCounts
    seconds: Seconds
    machine: str = ""
    look: dict[str, float] = dataclasses.field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """What the file holds."""
        return {
            "key": self.key,
            "row": self.row.to_json(),
            "covered": self.counts.covered.tolist(),
            "hemisphere": self.counts.hemisphere.tolist(),
            "seconds": dataclasses.asdict(self.seconds),
            "machine": self.machine,
            "look": self.look,
        }

    @classmethod
    def from_json(cls, saved: dict[str, Any]) -> "MeasuredPatient":
        """Read what :meth:`to_json` wrote.

        Raises:
            KeyError, TypeError, ValueError: it is not whole.
        """
        row = PatientRow.from_json(saved["row"])
        covered, hemisphere = (np.array(saved[name]) for name in ("covered", "hemisphere"))
        if (covered.shape, hemisphere.shape) != ((2, STEPS + 1),) * 2:
            raise ValueError(f"counts of shape {covered.shape} and {hemisphere.shape}")
        return cls(
            key=saved["key"],
            row=row,
            counts=ThresholdCounts(covered, hemisphere, row.voxel_ml),
            seconds=Seconds(**saved["seconds"]),
            machine=str(saved.get("machine", "")),
            look=dict(saved["look"]),
        )


def measure(name: str, part: str, predicted: PredictedPatient | InputError) -> MeasuredPatient:
    """Measure a patient, and keep the result.

    Args:
        name: of the patient.
        part: name of the patients whom the same models answer for.
        predicted: the answer, or why there is none: one bad patient does not stop the others.

    Raises:
        InputError: there is no answer.
    """
    if isinstance(predicted, InputError):
        raise predicted
    began = time.monotonic()
    row = _row(predicted)
    counts = threshold_counts(
        predicted.probability,
        truth=predicted.truth,
        coverage=predicted.coverage,
        side=row.side,
        voxel_ml=row.voxel_ml,
    )
    if predicted.draw:
        _draw(predicted, row)
    measured = MeasuredPatient(
        key=predicted.key,
        row=row,
        counts=counts,
        seconds=Seconds(predicted.network_s, time.monotonic() - began),
        machine=predicted.machine,
        look=predicted.look,
    )
    path = result_file(predicted.folder, part, name)
    atomic.write_text(path, json.dumps(measured.to_json(), allow_nan=False))
    return measured


def read(folder: Path, part: str, name: str, key: str) -> MeasuredPatient | None:
    """The kept result of a patient, if it is whole and of these models, data and settings."""
    saved = atomic.read_json(result_file(folder, part, name))
    if saved.get("key") != key:
        return None
    try:
        return MeasuredPatient.from_json(saved)
    except (KeyError, TypeError, ValueError):
        return None


def result_file(folder: Path, part: str, name: str) -> Path:
    """Where a patient's result is kept."""
    return folder / "evaluation" / part / f"{name}.json"


def is_drawn(folder: Path, name: str) -> bool:
    """Whether all that is drawn of a patient is there."""
    maps = [map_file(folder, name, what) for what in MAPS]
    drawn = picture_file(folder, name), thumbnail_file(folder, name), page_file(folder, name)
    return all(path.is_file() for path in (*drawn, *maps))


def map_file(folder: Path, name: str, what: str) -> Path:
    """Where one of a patient's NIfTI maps is."""
    return cohorts.mni_file(folder / "evaluation/maps", name, what)


def picture_file(folder: Path, name: str) -> Path:
    """Where a patient's picture is."""
    return folder / "evaluation/pictures" / f"{name}.png"


def thumbnail_file(folder: Path, name: str) -> Path:
    """Where a patient's picture for the index is."""
    return folder / "evaluation/thumbnails" / f"{name}.webp"


def page_file(folder: Path, name: str) -> Path:
    """Where a patient's page is."""
    return folder / "evaluation/pages" / f"{name}.html"


def _row(predicted: PredictedPatient) -> PatientRow:
    facts = predicted.facts
    figures = patient_metrics(
        predicted.probability,
        truth=predicted.truth,
        coverage=predicted.coverage,
        side=facts.side,
        voxel_ml=facts.voxel_ml,
    )
    true = clinical.defuse3(figures.truth_ml, facts.core_ml)
    ours = clinical.defuse3(figures.predicted_ml, facts.core_ml)
    return PatientRow(
        fold="all" if predicted.fold is None else predicted.fold,
        **(vars(facts) | vars(figures)),
        true_mismatch_ratio=true.ratio,
        true_mismatch_ml=true.difference_ml,
        true_target_mismatch=true.target_mismatch,
        predicted_mismatch_ratio=ours.ratio,
        predicted_mismatch_ml=ours.difference_ml,
        predicted_target_mismatch=ours.target_mismatch,
        dawn=clinical.dawn(facts.age, facts.nihss, facts.core_ml),
        core=None
        if predicted.cores is None
        else core_figures(
            predicted.cores.probability,
            truth=predicted.cores.truth,
            by_rule=predicted.cores.by_rule,
            coverage=predicted.coverage,
            voxel_ml=facts.voxel_ml,
        ),
    )


def _draw(predicted: PredictedPatient, row: PatientRow) -> None:
    """Maps, picture and page of a patient."""
    truth = predicted.truth & predicted.coverage
    arrays: tuple[NDArray, ...] = (
        predicted.probability,
        truth.astype(np.uint8),
        predicted.coverage.astype(np.uint8),
        predicted.dwi,
    )
    folder, name = predicted.folder, row.participant_id
    for what, data in zip(MAPS, arrays, strict=True):
        save_volume(map_file(folder, name, what), data, GRID_AFFINE, "research use only")
    atomic.write_bytes(picture_file(folder, name), _picture(predicted, row))
    atomic.write_bytes(thumbnail_file(folder, name), _thumbnail(predicted))
    write_evaluated(
        page_file(folder, name), row.to_json(), patient_words.groups(row), patient_words.wrong(row)
    )


def _overlays(predicted: PredictedPatient) -> list[pictures.Overlay]:
    """Truth and prediction inside coverage."""
    ours = (predicted.probability >= PROBABILITY_THRESHOLD) & predicted.coverage
    return [
        pictures.Overlay(predicted.truth & predicted.coverage, "measured", pictures.MEASURED),
        pictures.Overlay(ours, "predicted", pictures.HYPOPERFUSION),
    ]


def _thumbnail(predicted: PredictedPatient) -> bytes:
    overlays = _overlays(predicted)
    found = np.logical_or.reduce([each.mask for each in overlays])
    return drawing.webp(
        pictures.thumbnail(
            predicted.dwi, overlays, (VOXEL_MM,) * 3, window=None, brain=predicted.tissue,
            found=found,
        )
    )  # fmt: skip


def _picture(predicted: PredictedPatient, row: PatientRow) -> bytes:
    """DWI with truth and prediction inside coverage."""
    dice = "n/a" if row.dice is None else f"{row.dice:.2f}"
    mosaic = pictures.axial_mosaic(
        predicted.dwi,
        _overlays(predicted),
        (VOXEL_MM,) * 3,
        title=f"{row.participant_id}: Dice {dice}, measured {wording.ml(row.truth_ml)}, predicted "
        f"{wording.ml(row.predicted_ml)}; side {row.side}",
        footer=f"{RESEARCH_NOTICE} {pictures.CONVENTION}",
        panels=16,
        brain=predicted.tissue,
        first_mm=GRID_ORIGIN_MM,
    )
    return drawing.png(mosaic)
