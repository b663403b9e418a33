"""What an evaluation found, and its files: ``patients.csv``, counts, ``evaluation.json``, index."""

import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data_tools import flow
from data_tools.flow import LeftOut
from data_tools.runtime import atomic
from data_tools.runtime.errors import InputError
from data_tools.splits import fold_roles
from tf_hypoperfusion.config import RESEARCH_NOTICE
from tf_hypoperfusion.evaluation import patient_words, thresholds
from tf_hypoperfusion.evaluation.measured_patient import MeasuredPatient, Seconds
from tf_hypoperfusion.evaluation.patient_metrics import ThresholdCounts
from tf_hypoperfusion.evaluation.patient_row import PatientRow
from tf_hypoperfusion.evaluation.plan import VALIDATION, Part, Plan, Settings
from tf_hypoperfusion.inference import familiarity, model_files
from tf_hypoperfusion.inference.model_files import ModelInfo
from tf_hypoperfusion.inference.page.index import write_index

# (part, patient) -> what was measured, or why nothing was.
Outcomes = dict[tuple[str, str], MeasuredPatient | InputError]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What :func:`tf_hypoperfusion.evaluation.run.evaluate` found.

    Attributes:
        settings: what was asked for.
        folder: of ``patients.csv``.
        rows: one per patient.
        counts: the same patients' voxels by probability.
        looks: numbers of their images.
        models: that predicted them.
        left_out: by patient, of this step and those before.
        warnings: of the whole.
        seconds_per_patient: medians, when they were measured.
        network_s: seconds that the networks took for each patient, in the order of ``rows``.
        machines: on which they did.
        chosen_thresholds: of each fold; {} if none was to be chosen.
        built_from: MNI cohort that the records were built from, as their manifest has it; None if
            it does not say.
    """

    settings: Settings
    folder: Path
    rows: tuple[PatientRow, ...]
    counts: tuple[ThresholdCounts, ...]
    looks: tuple[dict[str, float], ...]
    models: tuple[ModelInfo, ...]
    left_out: dict[str, LeftOut]
    warnings: tuple[str, ...]
    seconds_per_patient: Seconds
    network_s: tuple[float, ...]
    machines: tuple[str, ...]
    chosen_thresholds: dict[int, float]
    built_from: str | None

    def to_json(self) -> dict[str, Any]:
        """What ``evaluation.json`` holds."""
        about = {
            "notice": RESEARCH_NOTICE,
            **dataclasses.asdict(self.settings),
            "built_from": self.built_from,
            "models": [model.to_json() for model in self.models],
            "patients": len(self.rows),
            "left_out": {name: each.reason for name, each in self.left_out.items()},
            "left_out_at": {name: each.step for name, each in self.left_out.items()},
            "warnings": list(self.warnings),
            "seconds_per_patient": dataclasses.asdict(self.seconds_per_patient),
            "network_s": {
                row.participant_id: round(seconds, 3)
                for row, seconds in zip(self.rows, self.network_s, strict=True)
            },
            "machines": list(self.machines),
        }
        if self.chosen_thresholds:
            about["chosen_thresholds"] = {str(k): v for k, v in self.chosen_thresholds.items()}
            about["chosen_on"] = "validation patients of each fold: highest mean Dice"
        return about


def gather(plan: Plan, outcomes: Outcomes) -> Evaluation:
    """Put together what came of each patient.

    Raises:
        InputError: nothing was measured, or a threshold is to be chosen and the validation
            patients of a fold were not measured.
    """
    measured = [(part, _measured(part, outcomes)) for part in plan.parts if part.reported]
    patients = [patient for _, of_part in measured for patient in of_part]
    reported = {patient.row.participant_id for patient in patients}
    # The earliest step comes last, so that it is the one that is told.
    left_out = _of_absent_folds(plan) | _faults(plan, outcomes) | plan.left_out
    left_out = {name: each for name, each in left_out.items() if name not in reported}
    if not patients:
        raise InputError(
            "no patient could be evaluated:\n"
            + "\n".join(f"  {name}: {left_out[name].reason}" for name in sorted(left_out))
        )
    used = [part for part, of_part in measured if of_part]
    rows, chosen = [patient.row for patient in patients], {}
    if plan.settings.choose_threshold:
        chosen = _choose_thresholds(plan, outcomes)
        rows = [_at_chosen(patient, chosen) for patient in patients]
    return Evaluation(
        settings=plan.settings,
        folder=plan.folder,
        rows=tuple(rows),
        counts=tuple(patient.counts for patient in patients),
        looks=tuple(patient.look for patient in patients),
        models=tuple(model_files.describe(path) for part in used for path in part.models),
        left_out=left_out,
        warnings=(*plan.warnings, *_absent_folds(plan, used)),
        seconds_per_patient=Seconds(
            network=_median(patient.seconds.network for patient in patients),
            measure=_median(patient.seconds.measure for patient in patients),
        ),
        network_s=tuple(patient.seconds.network for patient in patients),
        machines=tuple(sorted({patient.machine or "unknown" for patient in patients})),
        chosen_thresholds=chosen,
        built_from=plan.manifest.cohort_folder if plan.manifest else None,
    )


def write(evaluation: Evaluation) -> None:
    """Write every file about all patients; ``evaluation.json`` comes last."""
    folder = evaluation.folder
    atomic.write_csv(folder / "patients.csv", [row.to_json() for row in evaluation.rows])
    with atomic.replacing(folder / "thresholds.npz") as temporary:
        np.savez_compressed(
            temporary,
            participant_id=np.array([row.participant_id for row in evaluation.rows]),
            covered=np.array([count.covered for count in evaluation.counts], np.uint32),
            hemisphere=np.array([count.hemisphere for count in evaluation.counts], np.uint32),
            voxel_ml=np.array([count.voxel_ml for count in evaluation.counts]),
            look_names=np.array(list(familiarity.WORDS)),
            look=np.array(
                [[look.get(n, np.nan) for n in familiarity.WORDS] for look in evaluation.looks]
            ),
        )
    if evaluation.settings.maps:
        _write_index(evaluation)
    atomic.write_json(folder / "evaluation.json", evaluation.to_json())


def _measured(part: Part, outcomes: Outcomes) -> list[MeasuredPatient]:
    found = [outcomes.get((part.name, name)) for name in sorted(part.participants)]
    return [outcome for outcome in found if isinstance(outcome, MeasuredPatient)]


def _faults(plan: Plan, outcomes: Outcomes) -> dict[str, LeftOut]:
    faults: dict[str, LeftOut] = {}
    for part in plan.parts:
        for name in part.participants:
            outcome = outcomes.get((part.name, name))
            if isinstance(outcome, InputError):
                reason = str(outcome).removeprefix(f"{name}: ")
                faults.setdefault(
                    name, LeftOut(participant_id=name, step=flow.EVALUATE, reason=reason)
                )
    return faults


def _of_absent_folds(plan: Plan) -> dict[str, LeftOut]:
    """Each patient of the records as one of a fold, which may not be evaluated yet."""
    if plan.manifest is None:
        return {}
    role = VALIDATION if plan.settings.validation else "test"
    subsets = plan.manifest.subsets
    return {
        name: LeftOut(participant_id=name, step=flow.FOLD, reason=f"fold {k} ({role})")
        for k in range(len(subsets))
        for subset in fold_roles(k, len(subsets))[role]
        for name in subsets[subset].participants
    }


def _absent_folds(plan: Plan, used: Sequence[Part]) -> list[str]:
    folds = {part.fold for part in used}
    of_records = range(len(plan.manifest.subsets)) if plan.manifest else range(0)
    absent = ", ".join(str(k) for k in of_records if k not in folds)
    if not absent:
        return []
    return [f"patients of fold {absent} are not in the table: not evaluated yet"]


def _choose_thresholds(plan: Plan, outcomes: Outcomes) -> dict[int, float]:
    """Each fold's threshold, chosen on the validation patients that were measured."""
    chosen = {}
    for part in plan.parts:
        validation = [] if part.reported else _measured(part, outcomes)
        if validation and part.fold is not None:
            chosen[part.fold] = thresholds.choose([patient.counts for patient in validation])
    return chosen


def _at_chosen(patient: MeasuredPatient, chosen: dict[int, float]) -> PatientRow:
    row = patient.row
    if row.fold not in chosen:
        raise InputError(
            f"fold {row.fold} was evaluated before, without its validation patients; "
            "give --fold=all with --choose_threshold=val"
        )
    figures = thresholds.at(patient.counts, chosen[row.fold], row.core_ml)
    return dataclasses.replace(row, chosen=figures)


def _median(seconds: Iterable[float]) -> float:
    return round(float(np.median(list(seconds))), 3)


def _write_index(evaluation: Evaluation) -> None:
    """``index.html``: every patient with a picture, the smallest Dice first."""
    rows = sorted(evaluation.rows, key=lambda row: -1.0 if row.dice is None else row.dice)
    who = VALIDATION if evaluation.settings.validation else "test"
    write_index(
        evaluation.folder / "index.html",
        [
            patient_words.entry(
                row,
                link=f"evaluation/pages/{row.participant_id}.html",
                picture=f"evaluation/thumbnails/{row.participant_id}.webp",
            )
            for row in rows
        ],
        title=f"Evaluation: {evaluation.folder.resolve().name}",
        lead=f"{who.capitalize()} patients, the smallest Dice first. Lines are tinted where "
        "the decision on target mismatch is wrong.",
        simulated=any(row.cohort == "simulated" for row in rows),
        summary=patient_words.summary(rows),
        explained=patient_words.EXPLAINED,
        colours=patient_words.COLOURS,
    )
