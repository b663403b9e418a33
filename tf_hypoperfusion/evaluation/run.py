"""Every patient of a run predicted once, by models that never saw it, and measured.

The network runs in this process, which has TensorFlow; measuring (distances, AUC, writing maps)
runs in worker processes beside it. What is done is kept patient by patient, so that a killed
evaluation goes on: a result is taken over if models, data and settings are the same.
"""

import time
from collections.abc import Iterator, Sequence

from data_tools.runtime import atomic, executors
from data_tools.runtime.errors import InputError
from data_tools.runtime.patient_failure import attempt
from tf_hypoperfusion import provenance
from tf_hypoperfusion.evaluation import cases, measured_patient, patients_table
from tf_hypoperfusion.evaluation.cases import Case
from tf_hypoperfusion.evaluation.measured_patient import PredictedCore, PredictedPatient
from tf_hypoperfusion.evaluation.patient_row import PatientFacts
from tf_hypoperfusion.evaluation.patients_table import Evaluation, Outcomes
from tf_hypoperfusion.evaluation.plan import Keys, Part, Plan, Settings, make_plan
from tf_hypoperfusion.inference import predictors, sliding_window
from tf_hypoperfusion.inference.sliding_window import SlabModel

# The truth that the cohort's volumes give may differ from the records' by rounding only.
SAME_TRUTH_ML = 0.01


def evaluate(settings: Settings) -> Evaluation:
    """Predict and measure; writes ``patients.csv``, ``thresholds.npz``, ``evaluation.json``, maps.

    Into the run's folder, into ``RUN/external-NAME`` for an external cohort, or into
    ``RUN/validation`` for the validation patients.

    Raises:
        InputError: no trained fold, no records, records or a cohort other than those trained on,
            an external cohort that was trained on, or no patient that can be used.
    """
    plan = make_plan(settings)
    atomic.check_writable(plan.folder)
    with atomic.one_writer(plan.folder / "evaluation"):
        atomic.sweep(plan.folder / "evaluation")
        evaluation = patients_table.gather(plan, _outcomes(plan))
        patients_table.write(evaluation)
    return evaluation


def _outcomes(plan: Plan) -> Outcomes:
    keys = plan.keys()
    outcomes = _kept(plan, keys)
    todo = [
        (part, [name for name in part.participants if (part.name, name) not in outcomes])
        for part in plan.parts
        if part.asked
    ]
    total = sum(len(names) for _, names in todo)
    if total:
        for (name, part_name, _), outcome in executors.map_patients(
            measured_patient.measure,
            _answers(plan, todo, keys),
            workers=plan.settings.workers,
            description="evaluate",
            total=total,
        ):
            outcomes[part_name, name] = outcome
    missing = InputError("not in the records, although their manifest names it")
    return {(part.name, name): missing for part, names in todo for name in names} | outcomes


def _kept(plan: Plan, keys: Keys) -> Outcomes:
    """What was measured before and may be taken over."""
    outcomes: Outcomes = {}
    for part in plan.parts:
        for name in part.participants:
            kept = measured_patient.read(plan.folder, part.name, name, keys[part.name, name])
            if kept and (not plan.draws(part) or measured_patient.is_drawn(plan.folder, name)):
                outcomes[part.name, name] = plan.refusal(kept.row) or kept
    return outcomes


def _answers(
    plan: Plan, todo: Sequence[tuple[Part, Sequence[str]]], keys: Keys
) -> Iterator[tuple[str, str, PredictedPatient | InputError]]:
    """(patient, part, answer), one after the other as they are asked for."""
    for part, names in todo:
        if names:
            model = sliding_window.together([predictors.load(p) for p in part.models])
            for name, case in _cases(plan, part, names):
                key = keys[part.name, name]
                answer = attempt(_predict, case, model, plan=plan, part=part, key=key)
                yield name, part.name, answer


def _predict(
    case: Case | InputError, model: SlabModel, *, plan: Plan, part: Part, key: str
) -> PredictedPatient | InputError:
    if isinstance(case, InputError):
        return case
    if refusal := plan.refusal(case.facts):
        return refusal
    began = time.monotonic()
    answer = case.answer(model)
    cores = None
    if answer.core is not None:
        cores = PredictedCore(probability=answer.core, truth=case.true_core, by_rule=case.rule_core)
    return PredictedPatient(
        facts=case.facts,
        truth=case.truth,
        coverage=case.coverage,
        tissue=case.tissue,
        dwi=case.dwi,
        probability=answer.mean,
        cores=cores,
        fold=part.fold,
        network_s=time.monotonic() - began,
        machine=provenance.machine(),
        key=key,
        folder=plan.folder,
        draw=plan.draws(part),
        look=case.look,
    )


def _cases(plan: Plan, part: Part, names: Sequence[str]) -> Iterator[tuple[str, Case | InputError]]:
    """(patient, case), or (patient, why there is none)."""
    settings, rows = plan.settings, plan.clinical_rows
    if settings.external:
        wanted = [rows[name] for name in names]
        yield from cases.of_cohort(settings.external, wanted, settings.stride)
        return
    assert plan.manifest is not None and part.subset is not None
    if not settings.cohort:
        found = cases.of_records(settings.records, plan.manifest, part.subset, names)
        yield from ((case.facts.participant_id, case) for case in found)
        return
    for name in names:
        if name not in rows:
            yield name, InputError(f"is in the records, not in {settings.cohort}")
    there = [rows[name] for name in names if name in rows]
    recorded = plan.manifest.rows()
    for name, case in cases.of_cohort(settings.cohort, there, settings.stride):
        yield name, _as_recorded(case, PatientFacts.from_json(recorded[name]), settings)


def _as_recorded(
    case: Case | InputError, recorded: PatientFacts, settings: Settings
) -> Case | InputError:
    """The case of a cohort, if it is that of the records."""
    if isinstance(case, InputError):
        return case
    ours = case.facts
    same = (ours.side, ours.nihss, ours.age) == (recorded.side, recorded.nihss, recorded.age)
    if same and abs(ours.truth_ml - recorded.truth_ml) <= SAME_TRUTH_ML:
        return case
    return InputError(
        f"truth of {ours.truth_ml} mL, {ours.side}, in {settings.cohort}, but "
        f"{recorded.truth_ml} mL, {recorded.side}, in {settings.records}; expected the cohort "
        "that the records were built from"
    )
