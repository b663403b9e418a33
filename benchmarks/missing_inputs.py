"""What does a network lose where an image, the NIHSS or the side of the stroke is not given?

    python -m benchmarks.missing_inputs --cohort=MNI [--model=A,B] [--out=CSV]

Nothing is trained. Every patient of an MNI cohort with truth is answered with all inputs and with
each way of having fewer; a line is the median Dice of patients with a lesion, the change of Dice
patient by patient from all inputs (mean), the mean volume error, and how often target mismatch is
right, by the core that all inputs show. Where the side is not given either one is asked about, as
`predict --side=auto` does; "side found" counts patients with a one-sided lesion of 10 mL and
more whose side is named correctly. A missing image is 0 everywhere, as in tf_hypoperfusion.predict,
and the tissue is known from the other one. Answers are cut at a probability of 0.5, not calibrated.
"""

import dataclasses
import sys
from collections.abc import Sequence

import numpy as np
from absl import flags
from numpy.typing import NDArray

from benchmarks.measuring import options, turns
from benchmarks.measuring.tables import Tables
from benchmarks.shifts import model_of
from data_tools import mni_patient
from data_tools.cohort import Row, clinical_record, read_participants
from data_tools.grid import ONE_SIDED, UNKNOWN_SIDE
from data_tools.patient import MniPatient
from data_tools.runtime import command
from tf_hypoperfusion import clinical, config
from tf_hypoperfusion.clinical import ClinicalFacts
from tf_hypoperfusion.evaluation.patient_metrics import PatientMetrics, patient_metrics
from tf_hypoperfusion.inference import stroke_side
from tf_hypoperfusion.inference.prediction import VolumePredictor, volume_predictor

FLAGS = flags.FlagValues()
flags.DEFINE_string(
    "cohort", None, "<FOLDER> MNI cohort with Tmax maps.", required=True, flag_values=FLAGS,
)  # fmt: skip
flags.DEFINE_list(
    "model", None, "Networks, whose mean answers; without it, the demonstration model.",
    flag_values=FLAGS,
)  # fmt: skip
options.count("stride", config.TEST_STRIDE, "Slices between windows.", FLAGS)
options.out(FLAGS)

SEEN_FROM_ML = 10.0


@dataclasses.dataclass(frozen=True)
class Way:
    """What is not given."""

    name: str
    dwi: bool = True
    adc: bool = True
    nihss: bool = True
    side: bool = True


ALL = Way("all inputs")
WAYS = (
    ALL,
    Way("no ADC map", adc=False),
    Way("no DWI", dwi=False),
    Way("no NIHSS", nihss=False),
    Way("no side", side=False),
    Way("no ADC map, NIHSS and side", adc=False, nihss=False, side=False),
    Way("no DWI, NIHSS and side", dwi=False, nihss=False, side=False),
)


@dataclasses.dataclass(frozen=True)
class Answered:
    """One patient, one way.

    Attributes:
        metrics: Dice and volumes.
        right: target mismatch as by the truth.
        side_found: the side is named rightly; None where it was given, or the lesion is small.
    """

    metrics: PatientMetrics
    right: bool
    side_found: bool | None


def answer(cohort: str, rows: list[Row], answers: VolumePredictor) -> dict[Way, list[Answered]]:
    """Every patient, every way.

    Args:
        cohort: folder of the MNI cohort.
        rows: :func:`data_tools.cohort.clinical_record` of its patients.
        answers: who answers.

    Raises:
        InputError: a patient that cannot be used.
    """
    found: dict[Way, list[Answered]] = {way: [] for way in WAYS}
    for row in turns.progress(rows, "patients"):
        patient, label, facts = mni_patient.load_labelled(cohort, row)
        for way in WAYS:
            shown, nihss = with_images(patient, way), facts["nihss"] if way.nihss else None
            side = facts["side"] if way.side else UNKNOWN_SIDE
            asked = {
                each: answers(shown, ClinicalFacts(each, nihss)).mean
                for each in stroke_side.to_ask(side)
            }
            taken, found_side = stroke_side.choose(
                side, {each: float(inside(volume).sum()) for each, volume in asked.items()}
            )
            probability = asked[taken]
            metrics = patient_metrics(
                probability,
                truth=label.truth,
                coverage=label.coverage,
                side=facts["side"],
                voxel_ml=facts["voxel_ml"],
            )
            said, true = (
                clinical.defuse3(volume_ml, facts["core_ml"]).target_mismatch
                for volume_ml in (metrics.predicted_ml, metrics.truth_ml)
            )
            side_found = None
            if not way.side and facts["side"] in ONE_SIDED and metrics.truth_ml >= SEEN_FROM_ML:
                side_found = found_side.side == facts["side"]
            found[way].append(Answered(metrics, said == true, side_found))
    return found


def inside(probability: NDArray[np.float32]) -> NDArray[np.bool_]:
    """The mask, not calibrated."""
    return probability >= config.PROBABILITY_THRESHOLD


def with_images(patient: MniPatient, way: Way) -> MniPatient:
    """The patient without what is not given."""
    return dataclasses.replace(
        patient,
        dwi=patient.dwi if way.dwi else np.zeros_like(patient.dwi),
        adc_um2_per_s=patient.adc_um2_per_s if way.adc else np.zeros_like(patient.adc_um2_per_s),
    )


def line(way: Way, answered: Sequence[Answered], whole: Sequence[Answered]) -> dict[str, str]:
    """The figures of a way as text, beside those of all inputs."""
    dice = [each.metrics.dice for each in answered]
    pairs = [(d, w.metrics.dice) for d, w in zip(dice, whole, strict=True)]
    changes = [d - w for d, w in pairs if d is not None and w is not None]
    sides = [each.side_found for each in answered if each.side_found is not None]
    errors = [each.metrics.volume_difference_ml for each in answered]
    return {
        "given": way.name,
        "Dice": f"{np.median([d for d in dice if d is not None]):.2f}" if changes else "n/a",
        "change": f"{np.mean(changes):+.3f}" if changes and way != ALL else "",
        "bias_ml": f"{np.mean(errors):.1f}",
        "mismatch_right": f"{sum(each.right for each in answered)}/{len(answered)}",
        "side_found": f"{sum(sides)}/{len(sides)}" if sides else "",
    }


def main() -> None:
    """Answer, measure, print."""
    model = model_of(FLAGS.model)
    tables = Tables(FLAGS.out, ("tensorflow", "keras"))
    rows = [clinical_record(row) for _, row in read_participants(FLAGS.cohort).iterrows()]
    answers = volume_predictor(model.predict, FLAGS.stride, model.cores)
    found = answer(FLAGS.cohort, rows, answers)
    tables.show("inputs not given", [line(way, each, found[ALL]) for way, each in found.items()])


if __name__ == "__main__":
    sys.exit(command.run(main, FLAGS, __doc__))
