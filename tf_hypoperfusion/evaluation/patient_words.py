"""An evaluated patient in words: its page's tables, its line of the index, what is wrong."""

from collections.abc import Sequence
from statistics import median

from data_tools.criteria import MISMATCH_RATIO_CAP
from data_tools.pictures import HYPOPERFUSION, MEASURED
from tf_hypoperfusion.config import PROBABILITY_THRESHOLD, SURFACE_TOLERANCE_MM
from tf_hypoperfusion.evaluation.patient_row import PatientRow
from tf_hypoperfusion.inference import wording
from tf_hypoperfusion.inference.page.index import Entry, Summary, ml

MISSED = "Target mismatch is missed."
FALSE_ALARM = "Target mismatch is predicted, and was not measured."
EXPLAINED = {
    "Fold": "The network that answered. It never saw this patient.",
    "Dice": "Overlap of prediction and measurement, from 0 to 1; n/a where no lesion was measured.",
    "AUC": "How well the probability separates lesion from other voxels of the stroke's "
    "hemisphere; 0.5 is chance.",
    "Measured (mL)": "Hypoperfusion by perfusion imaging, with the core.",
    "Predicted (mL)": f"Voxels of a probability of {PROBABILITY_THRESHOLD:g} or more, where both "
    "diffusion and perfusion were imaged.",
    "Difference (mL)": "Predicted minus measured.",
    "Core (mL)": "By the ADC rule. Both decisions use it.",
    "Mismatch measured": "Target mismatch (DEFUSE 3) by the measured volume.",
    "Mismatch predicted": "The same by the predicted volume.",
}
COLOURS = ((MEASURED, "measured"), (HYPOPERFUSION, "predicted"))
NOT_KNOWN = "n/a"

Facts = Sequence[tuple[str, str]]


def wrong(row: PatientRow) -> str:
    """How the decision differs from that by the measured volume; empty where it does not."""
    if row.true_target_mismatch == row.predicted_target_mismatch:
        return ""
    return MISSED if row.true_target_mismatch else FALSE_ALARM


def entry(row: PatientRow, *, link: str, picture: str) -> Entry:
    """A patient's line of the index.

    Args:
        row: of ``patients.csv``.
        link: to the page of the patient.
        picture: of the line.
    """
    return Entry(
        values={
            "Patient": row.participant_id,
            "Fold": str(row.fold),
            "Dice": row.dice,
            "AUC": row.auc,
            "Measured (mL)": ml(row.truth_ml),
            "Predicted (mL)": ml(row.predicted_ml),
            "Difference (mL)": ml(row.volume_difference_ml),
            "Core (mL)": ml(row.core_ml),
            "Mismatch measured": row.true_target_mismatch,
            "Mismatch predicted": row.predicted_target_mismatch,
            "Side": row.side,
            "NIHSS": row.nihss,
        },
        link=link,
        picture=picture,
        alt=f"Three slices of {row.participant_id} with measured and predicted hypoperfusion",
        wrong=wrong(row),
    )


def summary(rows: Sequence[PatientRow]) -> list[Summary]:
    """The large figures above the index."""
    dice = [row.dice for row in rows if row.dice is not None]
    errors = [wrong(row) for row in rows]
    right = errors.count("")
    difference = median(row.volume_difference_ml for row in rows)
    absolute = median(abs(row.volume_difference_ml) for row in rows)
    return [
        Summary("Patients", str(len(rows)), f"{len(dice)} with a measured lesion"),
        Summary(
            "Median Dice",
            f"{median(dice):.2f}" if dice else NOT_KNOWN,
            f"from {min(dice):.2f} to {max(dice):.2f}" if dice else "no lesion was measured",
        ),
        Summary(
            "Target mismatch right",
            f"{right} of {len(rows)}",
            f"{errors.count(MISSED)} missed, {errors.count(FALSE_ALARM)} false alarms",
        ),
        Summary(
            "Median volume difference",
            wording.ml(difference),
            f"predicted minus measured; without the sign {wording.ml(absolute)}",
        ),
    ]


def groups(row: PatientRow) -> list[tuple[str, Facts]]:
    """The tables of a patient's page: headings, each with names and values."""
    tables: list[tuple[str, Facts]] = [
        (
            "Volumes",
            [
                ("Measured hypoperfusion, with the core", wording.ml(row.truth_ml)),
                ("Predicted", wording.ml(row.predicted_ml)),
                ("Predicted minus measured", wording.ml(row.volume_difference_ml)),
                ("Core by the ADC rule", wording.ml(row.core_ml)),
                ("Mismatch measured", wording.ml(row.true_mismatch_ml)),
                ("Mismatch predicted", wording.ml(row.predicted_mismatch_ml)),
                ("Mismatch ratio measured", _ratio(row.true_mismatch_ratio)),
                ("Mismatch ratio predicted", _ratio(row.predicted_mismatch_ratio)),
                ("Imaged by diffusion and perfusion", wording.ml(row.coverage_ml)),
                ("Brain", wording.ml(row.brain_ml)),
            ],
        ),
        (
            "Overlap",
            [
                ("Dice", _two(row.dice)),
                ("AUC, stroke's hemisphere", _two(row.auc)),
                ("Precision", _two(row.precision)),
                ("Recall", _two(row.recall)),
                ("95th percentile surface distance", _mm(row.hd95_mm)),
                (f"Surface Dice at {SURFACE_TOLERANCE_MM:g} mm", _two(row.surface_dice)),
            ],
        ),
        (
            "Patient",
            [
                ("Age", _with_unit(row.age, "years")),
                ("Sex", row.sex or NOT_KNOWN),
                ("NIHSS", NOT_KNOWN if row.nihss is None else str(row.nihss)),
                ("Side of the lesion", row.side),
                ("Occlusion", row.occlusion or NOT_KNOWN),
                ("Clinical-core mismatch (DAWN)", _yes(row.dawn)),
                ("mRS after 90 days", NOT_KNOWN if row.mrs_90d is None else str(row.mrs_90d)),
                ("Field strength", _with_unit(row.field_strength_t, "T")),
                ("Cohort", row.cohort or NOT_KNOWN),
                ("Measured by", row.tmax_from or row.truth_from),
                ("Fold", str(row.fold)),
            ],
        ),
    ]
    if row.core is not None:
        core: Facts = [
            ("Core by the networks", wording.ml(row.core.core_learnt_ml)),
            ("True core", wording.ml(row.core.core_truth_ml)),
            ("Dice of the networks' core", _two(row.core.core_dice)),
            ("Dice of the rule's core", _two(row.core.core_rule_dice)),
        ]
        tables.insert(2, ("Core", core))
    return tables


def _two(value: float | None) -> str:
    return NOT_KNOWN if value is None else f"{value:.2f}"


def _with_unit(value: float | None, unit: str) -> str:
    return NOT_KNOWN if value is None else f"{value:g} {unit}"


def _mm(value: float | None) -> str:
    return NOT_KNOWN if value is None else f"{wording.rounded(value)} mm"


def _ratio(value: float) -> str:
    return f"≥ {value:g}" if value >= MISMATCH_RATIO_CAP else wording.rounded(value)


def _yes(value: bool | None) -> str:
    return NOT_KNOWN if value is None else "yes" if value else "no"
