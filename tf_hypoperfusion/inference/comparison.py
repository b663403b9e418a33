"""A prediction beside what perfusion imaging showed of the same patient."""

from collections.abc import Sequence
from statistics import median

from data_tools.runtime.errors import counted
from tf_hypoperfusion import clinical
from tf_hypoperfusion.inference.prediction import Prediction
from tf_hypoperfusion.inference.result import Comparison


def of(done: Prediction, *, tmax: str | None, mask: str | None) -> Comparison | None:
    """The figures of a patient, on the DWI's grid; None where no truth was given.

    Args:
        done: the measured patient.
        tmax: file of the Tmax map.
        mask: file of the edited mask.
    """
    truth = done.truth
    if truth is None:
        return None
    predicted = done.hypoperfusion & truth.coverage
    voxel_ml = done.native.dwi.voxel_ml
    truth_ml, predicted_ml = (float(m.sum() * voxel_ml) for m in (truth.mask, predicted))
    dice = None
    if truth.mask.any():
        both = int((truth.mask & predicted).sum())
        dice = round(2 * both / int(truth.mask.sum() + predicted.sum()), 4)
    mismatch = None
    if done.core.native_ml is not None:
        mismatch = clinical.defuse3(truth_ml, done.core.native_ml).target_mismatch
    brain = done.native.brain
    return Comparison(
        source=truth.source,
        threshold_s=truth.threshold_s,
        tmax=tmax,
        mask=mask,
        truth_ml=round(truth_ml, 2),
        predicted_ml=round(predicted_ml, 2),
        dice=dice,
        covered_share=round(float(truth.coverage.sum() / max(int(brain.sum()), 1)), 4),
        target_mismatch=mismatch,
    )


def of_several(compared: Sequence[Comparison]) -> str:
    """One line for a terminal about a cohort.

    Args:
        compared: of one patient at least.
    """
    dice = [each.dice for each in compared if each.dice is not None]
    off_ml = median(each.predicted_ml - each.truth_ml for each in compared)
    return (
        f"beside perfusion imaging, {counted(len(compared), 'patient')}: median Dice "
        f"{f'{median(dice):.2f}' if dice else 'n/a (nothing was measured)'}, predicted minus "
        f"measured volume {off_ml:+.1f} mL within that scan"
    )


def source_words(compared: Comparison) -> str:
    """What the measured volume is, for people.

    Args:
        compared: of :func:`of`.
    """
    if compared.source == "Tmax":
        return f"Tmax of {compared.threshold_s:g} s and more, with the core"
    return "the given mask" + ("" if compared.source == "edited truth" else ", with the core")


def in_words(compared: Comparison) -> str:
    """One line for a terminal.

    Args:
        compared: of :func:`of`.
    """
    dice = "n/a (nothing was measured)" if compared.dice is None else f"{compared.dice:.2f}"
    said = {True: "YES", False: "NO", None: "n/a (core not known)"}[compared.target_mismatch]
    return (
        f"beside perfusion imaging ({source_words(compared)}): measured {compared.truth_ml:.1f} mL,"
        f" predicted {compared.predicted_ml:.1f} mL within that scan "
        f"({compared.covered_share:.0%} of the brain), Dice {dice}; target mismatch by it: {said}"
    )
