"""One patient of an evaluation: measured, kept on disk, drawn. Runs in workers; no TensorFlow."""

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_tools import cohort as cohorts
from data_tools import pictures
from data_tools.grid import GRID_AFFINE, VOXEL_MM
from data_tools.runtime import atomic
from data_tools.volumes import save_volume
from tf_hypoperfusion import clinical
from tf_hypoperfusion.config import PROBABILITY_THRESHOLD, RESEARCH_NOTICE
from tf_hypoperfusion.evaluation import patient_metrics
from tf_hypoperfusion.evaluation.cases import Case
from tf_hypoperfusion.evaluation.patient_metrics import STEPS, ThresholdCounts
from tf_hypoperfusion.inference.page.index import write_evaluated

MAPS = (
    "desc-hypoperfusion_probseg",
    "desc-truth_mask",
    "desc-coverage_mask",
    "desc-normalised_dwi",
)


def measure(
    name: str,
    part_name: str,
    result_file: Path,
    maps: Path | None,
    key: str,
    case: Case,
    probability: NDArray[np.float32],
    network_s: float,
    fold: int | None,
) -> dict[str, Any]:
    """One patient's row and threshold counts, kept in ``result_file``.

    Args:
        name, part_name: of the patient and of those it is evaluated with.
        maps: folder for NIfTI maps, beside which picture and page go; None writes neither.
        key: of models, data and settings, to know the result again. case: without its image.
        probability: float32 on the grid. network_s: seconds that it took. fold: None for all.
    """
    began = time.monotonic()
    arguments = (probability, case.truth, case.coverage, case.row["side"], case.row["voxel_ml"])
    figures = patient_metrics.patient_metrics(*arguments)
    counts = patient_metrics.threshold_counts(*arguments)
    row = {"fold": "all" if fold is None else fold, **case.row, **figures}
    core_ml = row["core_ml"]
    for what, volume_ml in (("true", row["truth_ml"]), ("predicted", row["predicted_ml"])):
        decision = clinical.defuse3(volume_ml, core_ml)
        row[f"{what}_mismatch_ratio"] = decision.ratio
        row[f"{what}_mismatch_ml"] = decision.difference_ml
        row[f"{what}_target_mismatch"] = decision.target_mismatch
    row["dawn"] = clinical.dawn(row["age"], row["nihss"], core_ml)
    if maps is not None:
        masks = [mask.astype(np.uint8) for mask in (case.truth & case.coverage, case.coverage)]
        arrays: list[NDArray] = [probability, *masks, case.dwi]
        for what, data in zip(MAPS, arrays, strict=True):
            save_volume(cohorts.mni_file(maps, name, what), data, GRID_AFFINE, "research use only")
        atomic.write_bytes(picture_file(maps.parent, name), _picture(row, case, probability))
        write_evaluated(page_file(maps.parent, name), row)
    result = {
        "key": key,
        "row": row,
        "covered": counts.covered.tolist(),
        "hemisphere": counts.hemisphere.tolist(),
        "seconds": {"network": network_s, "measure": time.monotonic() - began},
    }
    atomic.write_text(result_file, json.dumps(result, allow_nan=False))
    return result


def is_whole(saved: dict[str, Any], key: str) -> bool:
    """Whether a kept result is whole and has this key: these models, data and settings."""
    if saved.get("key") != key or not isinstance(saved.get("row"), dict):
        return False
    shapes = [np.shape(saved.get(name) or ()) for name in ("covered", "hemisphere")]
    seconds = saved.get("seconds")
    return shapes == [(2, STEPS + 1)] * 2 and isinstance(seconds, dict) and len(seconds) == 2


def counts_of(result: dict[str, Any]) -> ThresholdCounts:
    """The threshold counts of a kept result."""
    return ThresholdCounts(
        np.array(result["covered"]), np.array(result["hemisphere"]), result["row"]["voxel_ml"]
    )


def drawn(maps: Path, name: str) -> bool:
    """Whether all that :func:`measure` draws of a patient is there."""
    pages = (picture_file(maps.parent, name), page_file(maps.parent, name))
    return all(path.is_file() for path in pages) and all(
        cohorts.mni_file(maps, name, what).is_file() for what in MAPS
    )


def picture_file(folder: Path, name: str) -> Path:
    """Where a patient's picture is."""
    return folder / "pictures" / f"{name}.png"


def page_file(folder: Path, name: str) -> Path:
    """Where a patient's page is."""
    return folder / "pages" / f"{name}.html"


def _picture(row: dict[str, Any], case: Case, probability: NDArray[np.float32]) -> bytes:
    """DWI with truth and prediction inside coverage."""
    truth = pictures.Overlay(case.truth & case.coverage, "truth", pictures.ORANGE)
    predicted = (probability >= PROBABILITY_THRESHOLD) & case.coverage
    dice = "n/a" if row["dice"] is None else f"{row['dice']:.2f}"
    return pictures.axial_mosaic(
        case.dwi,
        [truth, pictures.Overlay(predicted, "prediction", pictures.SKY_BLUE)],
        (VOXEL_MM,) * 3,
        f"{row['participant_id']}: Dice {dice}, truth {row['truth_ml']:.0f} mL, predicted "
        f"{row['predicted_ml']:.0f} mL; side {row['side']}",
        footer=f"{RESEARCH_NOTICE} {pictures.CONVENTION}",
        panels=16,
        brain=case.tissue,
    )
