"""Every warning that a prediction calls for; those about core and side come from data_tools."""

from collections.abc import Sequence

import numpy as np

from data_tools.grid import ONE_SIDED, grid_outside, hemisphere
from data_tools.patient import MniPatient
from tf_hypoperfusion.clinical import defuse3
from tf_hypoperfusion.config import NO_CORE_MEDIAN_DICE, common_frame, parse_frame
from tf_hypoperfusion.inference import deciding_core
from tf_hypoperfusion.inference.calibration import TELLS
from tf_hypoperfusion.inference.deciding_core import WORDS, Cores
from tf_hypoperfusion.inference.model_files import ModelInfo
from tf_hypoperfusion.inference.prediction import Prediction
from tf_hypoperfusion.inference.result import Uncertainty
from tf_hypoperfusion.inference.stroke_side import StrokeSide

# Cores of one patient that are farther apart are worth a look.
CORES_APART_ML = 10.0
# A given core is held against the rule's where both have a size, and hardly touch.
CORE_SEEN_ML, CORE_ELSEWHERE_SHARE = 3.0, 0.9
SIMULATED_ONLY = (
    "the model was trained on SIMULATED patients only; its result on a real patient means nothing"
)
NO_CORE_VISIBLE = (
    "no core is visible; the published model was weak on such patients (median Dice "
    f"{NO_CORE_MEDIAN_DICE})"
)


def warnings_of(done: Prediction, models: Sequence[ModelInfo]) -> tuple[str, ...]:
    """All warnings of a result, in the order in which a person reads them.

    Args:
        done: the measured patient.
        models: what is known of those that answered.
    """
    doubts = of_doubt(done.uncertainty)
    return (
        *of_missing_image(done),
        *of_origin(models),
        *map(unsure, done.answer.reasons),
        *done.core.alarms,
        *of_side(done.side),
        *done.quality.warnings,
        *done.core.warnings,
        *of_prediction(done),
        *of_cores(done),
        *of_frame(done.mni, models),
        *doubts,
    )


def unsure(reason: str) -> str:
    """A warning that target mismatch is unsure.

    Args:
        reason: of the answer.
    """
    return f"unsure: {reason}; {TELLS}"


def of_missing_image(done: Prediction) -> list[str]:
    """A warning if there is no DWI or no ADC map: a file may have been forgotten.

    Args:
        done: the measured patient.
    """
    if done.native.missing is None:
        return []
    core = "no core is known, "
    if done.core.core is not None:
        core = f"its core is that of the {WORDS[done.cores.by or 'rule']} alone, "
    if done.native.missing == "ADC":
        return [
            f"No ADC map: the answer comes from the DWI alone; {core}fluid is what is dark in the "
            "DWI, and whether it has b of about 1000 s/mm2 could not be checked. If there is a "
            "map, predict again with it."
        ]
    return [
        f"No DWI: the answer comes from the ADC map alone; {core}and its brain is harder to tell "
        "from what surrounds it. If there is a DWI, predict again with it."
    ]


def of_side(side: StrokeSide) -> list[str]:
    """A warning where nobody gave the side.

    Args:
        side: of the measured patient.
    """
    if not side.found:
        return []
    other = "a stroke of the other half is not in this answer"
    return [f"side of the stroke: {side.words}; {other}, so look whether the images say the same"]


def of_origin(models: Sequence[ModelInfo]) -> list[str]:
    """Warnings about what the models were trained on.

    Args:
        models: what is known of those that answered.
    """
    warnings = []
    if any(model.simulated for model in models):
        warnings.append(SIMULATED_ONLY)
    if any(model.cohort is None for model in models):
        warnings.append(
            "nothing is known of what the model was trained on (no config.json or "
            "model_card.json beside it); it may have been simulated patients"
        )
    return warnings


def of_prediction(done: Prediction) -> list[str]:
    """Warnings about the predicted region, and about what was not given.

    Args:
        done: the measured patient.
    """
    side, mask = done.given.side, done.hypoperfusion_mni
    core_ml, hypoperfusion_ml = done.core.native_ml, done.hypoperfusion_ml
    warnings = []
    if side in ONE_SIDED and mask.any():
        share = float((mask & hemisphere(side)).sum() / mask.sum())
        if share < 0.5:
            warnings.append(
                f"only {share:.0%} of the predicted hypoperfusion lies on the given side ({side})"
            )
    if done.given.nihss is None:
        warnings.append("NIHSS is unknown; the model was told so, and is less sure without it")
    if core_ml is None:
        return warnings
    if core_ml > hypoperfusion_ml:
        warnings.append(
            "the core is larger than the predicted hypoperfusion, which should hold it: the "
            "prediction failed or the core is noise"
        )
    if core_ml == 0:
        warnings.append(NO_CORE_VISIBLE)
    return warnings


def _of_given_elsewhere(cores: Cores, given_ml: float) -> list[str]:
    """A warning if a given core and the rule's, both of some size, hardly touch."""
    if cores.elsewhere_ml is None or cores.rule_ml is None:
        return []
    if min(given_ml, cores.rule_ml) < CORE_SEEN_ML:
        return []
    if cores.elsewhere_ml < CORE_ELSEWHERE_SHARE * cores.rule_ml:
        return []
    return [
        f"the given core lies elsewhere than low ADC and bright DWI: {cores.elsewhere_ml:.1f} of "
        f"{cores.rule_ml:.1f} mL of the rule's core are outside it. Is it of this patient, and not "
        "mirrored?"
    ]


def of_cores(done: Prediction) -> list[str]:
    """A warning for each core that is far from the one that decides, or would decide otherwise.

    Args:
        done: the measured patient.
    """
    cores, deciding_ml, decision = done.cores, done.core.native_ml, done.decision
    if cores.by is None or deciding_ml is None or decision is None:
        return []
    words, warnings = WORDS[cores.by], _of_given_elsewhere(cores, deciding_ml)
    others = deciding_core.others(cores.by, rule_ml=cores.rule_ml, learnt_ml=cores.learnt_ml)
    for by, ml in others.items():
        other = defuse3(done.hypoperfusion_ml, ml)
        changed = [
            name
            for name, met in (
                ("ratio", other.ratio_met != decision.ratio_met),
                ("mismatch volume", other.difference_met != decision.difference_met),
                ("core volume", other.core_met != decision.core_met),
            )
            if met
        ]
        if not changed and abs(ml - deciding_ml) <= CORES_APART_ML:
            continue
        text = (
            f"the core is {deciding_ml:.1f} mL by the {words}, which decides, and {ml:.1f} mL by "
            f"the {WORDS[by]}; look which of them is right"
        )
        if changed:
            said = "YES" if other.target_mismatch else "NO"
            text += f": the second changes the {' and the '.join(changed)} (target mismatch {said})"
        warnings.append(text)
    return warnings


def of_frame(mni: MniPatient, models: Sequence[ModelInfo]) -> list[str]:
    """A warning if there is brain where a model computes nothing.

    Args:
        mni: the patient.
        models: what is known of those that answered.
    """
    frame = common_frame([{"frame": model.frame} for model in models if model.frame])
    if frame is None:
        return []
    shape = parse_frame(frame)
    outside_ml = (mni.brain & grid_outside(shape)[..., np.newaxis]).sum() * mni.voxel_ml
    if outside_ml == 0:
        return []
    return [
        f"{outside_ml:.2f} mL of the brain lie outside the {shape[0]} x {shape[1]} voxels that the "
        "model computes; no hypoperfusion is found there"
    ]


def of_doubt(doubt: Uncertainty | None) -> list[str]:
    """A warning if the answers do not agree about the decision.

    Args:
        doubt: None for a single answer.
    """
    if doubt is None or doubt.decision_holds_in in (None, doubt.opinions):
        return []
    who = "networks" if doubt.kind == "models" else "answers (the image and its mirror image)"
    low, high = doubt.range_ml
    return [
        f"the decision holds in {doubt.decision_holds_in} of {doubt.opinions} {who}: they "
        f"find {low:.0f} to {high:.0f} mL of hypoperfusion"
    ]
