"""What a calibrated model says of patients whose truth is known: mask, interval, decision."""

import dataclasses
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tf_hypoperfusion import clinical
from tf_hypoperfusion.evaluation.cases import Case
from tf_hypoperfusion.evaluation.patient_metrics import ThresholdCounts, dice, threshold_counts
from tf_hypoperfusion.inference import calibration, familiarity
from tf_hypoperfusion.inference.calibration import Calibration


@dataclasses.dataclass(frozen=True, kw_only=True)
class AsUsed:
    """One patient, with the model's calibration.

    Attributes:
        dice: of the mask where the calibration cuts; None without a true lesion.
        difference_ml: predicted minus true volume of that mask.
        counts: voxels by calibrated probability and truth.
        inside: the interval holds the true volume.
        said: about target mismatch.
        right: neither unsure nor wrong.
        mismatch: target mismatch by the true volume.
        by_volume: by that of the mask as it is, however unsure.
        unlike: the image is unlike those of the calibration.
    """

    dice: float | None
    difference_ml: float
    counts: ThresholdCounts
    inside: bool
    said: Literal["yes", "no", "unsure"]
    right: bool
    mismatch: bool
    by_volume: bool
    unlike: bool


def of_case(known: Calibration, case: Case, average: NDArray[np.float32]) -> AsUsed:
    """A patient as ``predict`` would answer.

    Args:
        known: the model's calibration.
        case: the patient, with truth.
        average: float32 (91, 109, 60), the networks' mean probability.
    """
    facts = case.facts
    probability = known.probability(average)
    truth, mask = case.truth & case.coverage, (probability >= known.cut) & case.coverage
    truth_ml, mask_ml = (float(volume.sum() * facts.voxel_ml) for volume in (truth, mask))
    unlike = familiarity.unlike(case.look, known.familiar)
    answer = calibration.answer(
        known, hypoperfusion_ml=mask_ml, core_ml=facts.core_ml, unfamiliar=unlike
    )
    low, high = known.interval_ml(mask_ml)
    mismatch = clinical.defuse3(truth_ml, facts.core_ml).target_mismatch
    return AsUsed(
        dice=dice(mask, truth=truth),
        difference_ml=mask_ml - truth_ml,
        counts=threshold_counts(
            probability,
            truth=case.truth,
            coverage=case.coverage,
            side=facts.side,
            voxel_ml=facts.voxel_ml,
        ),
        inside=bool(low <= truth_ml <= high),
        said=answer.target_mismatch,
        right=answer.target_mismatch == ("yes" if mismatch else "no"),
        mismatch=mismatch,
        by_volume=clinical.defuse3(mask_ml, facts.core_ml).target_mismatch,
        unlike=bool(unlike),
    )


def cells(patients: Sequence[AsUsed]) -> dict[str, str]:
    """The figures of a cohort as text; {} without patients.

    ``decided`` counts the patients who got a yes or a no and those of them for whom it is right.
    """
    if not patients:
        return {}
    from tf_hypoperfusion.evaluation.report.figures import calibration_from

    known = [each.dice for each in patients if each.dice is not None]
    error = calibration_from([each.counts for each in patients])
    decided = [each for each in patients if each.said != "unsure"]
    return {
        "used_Dice": f"{np.median(known):.2f}" if known else "n/a",
        "used_bias_ml": f"{np.mean([each.difference_ml for each in patients]):.1f}",
        "used_calibration": "n/a" if error is None else f"{error:.3f}",
        "used_sensitivity": _share([each.by_volume for each in patients if each.mismatch]),
        "used_specificity": _share([not each.by_volume for each in patients if not each.mismatch]),
        "in_interval": f"{sum(each.inside for each in patients)}/{len(patients)}",
        "decided_right": f"{sum(each.right for each in decided)}/{len(decided)}",
        "unlike": f"{sum(each.unlike for each in patients)}/{len(patients)}",
    }


def _share(facts: Sequence[bool]) -> str:
    return f"{sum(facts)}/{len(facts)}"
