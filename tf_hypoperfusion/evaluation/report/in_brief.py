"""What an evaluation found, as one paragraph that a person reads first."""

from data_tools.quartiles import quartiles
from data_tools.runtime.errors import counted
from tf_hypoperfusion.evaluation import statistics
from tf_hypoperfusion.evaluation.report.patients import Patients
from tf_hypoperfusion.evaluation.report.table import ML, percent, quartiles_in_words
from tf_hypoperfusion.evaluation.statistics import classify


def in_brief(patients: Patients, interval: str) -> str:
    """The decision, the overlap and the volumes in four sentences.

    Args:
        patients: the cohort.
        interval: of proportions; see :func:`statistics.proportion`.
    """
    simulated = "SIMULATED " if patients.simulated else ""
    who = patients.counted.replace(" ", f" {simulated}", 1)
    were = "was" if len(patients) == 1 else "were"
    return " ".join(
        (f"{who} {were} evaluated.", *_decision(patients, interval), *_overlap(patients))
    )


def _decision(patients: Patients, interval: str) -> list[str]:
    truth, ours = (
        patients.table[name].to_numpy() == 1
        for name in ("true_target_mismatch", "predicted_target_mismatch")
    )
    right = statistics.proportion(int((truth == ours).sum()), len(truth), interval)
    if right.value is None or right.low is None or right.high is None:
        return []
    figures = classify(ours, truth).figures(interval)
    found, free = figures["sensitivity"], figures["specificity"]
    said = [
        f"The decision on target mismatch was right in {right.k} of {right.n} "
        f"({percent(right.value)}%; 95% interval {percent(right.low)} to {percent(right.high)}%)."
    ]
    parts = [
        f"found it in {found.k} of the {counted(found.n, 'patient')} with target mismatch"
        if found.n
        else "",
        f"excluded it in {free.k} of the {counted(free.n, 'patient')} without" if free.n else "",
    ]
    return [*said, f"The networks {' and '.join(filter(None, parts))}."]


def _overlap(patients: Patients) -> list[str]:
    dice = patients.values("dice")
    lesions = "No patient had a measured lesion."
    if dice.size:
        spread = quartiles_in_words(quartiles(dice, patients.program), 2)
        lesions = (
            f"In the {counted(dice.size, 'patient')} with a measured lesion, the median Dice was "
            f"{spread.replace('(', '(IQR ', 1)}."
        )
    difference = quartiles_in_words(quartiles(patients.difference_ml, patients.program), ML)
    return [
        lesions,
        "The median difference of volume, predicted minus measured, was "
        f"{difference.replace(' (', ' mL (IQR ', 1).replace(')', ' mL)')}.",
    ]
