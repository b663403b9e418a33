"""What ``predict`` and ``serving_client`` are asked for: one patient, or all of a cohort."""

import dataclasses
import functools
import hashlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from data_tools import cohort as cohorts
from data_tools import groups
from data_tools.cohort import RawFiles
from data_tools.grid import SIDES, TMAX_HYPOPERFUSION_S, UNKNOWN_SIDE
from data_tools.overrides import NONE, Overrides
from data_tools.perfusion import calibration
from data_tools.pictures import CORE, HYPOPERFUSION
from data_tools.runtime import atomic, executors
from data_tools.runtime.command import EXIT_OK, EXIT_SOME_FAILED, PatientRequest, next_steps
from data_tools.runtime.errors import InputError
from data_tools.runtime.patient_failure import all_alike, attempt
from tf_hypoperfusion import __version__
from tf_hypoperfusion.clinical import ClinicalFacts
from tf_hypoperfusion.config import CORE_BY
from tf_hypoperfusion.inference import comparison, result_files, result_folder, wording
from tf_hypoperfusion.inference.page import headline
from tf_hypoperfusion.inference.page.index import Entry, Shown, Summary, ml, write_index
from tf_hypoperfusion.inference.result import FILE, Comparison, PatientResult, read_result
from tf_hypoperfusion.inference.result_files import DEFAULT, OutputOptions
from tf_hypoperfusion.inference.result_folder import Backend, PatientFiles

Connect = Callable[[], Backend]
# What a person types where the side is to be found.
AUTO_SIDE = "auto"
AGAIN_WITH_TMAX = "the same command with --tmax=FILE, to compare with perfusion imaging"
AGAIN_COMPARED = "the same command with --compare, to compare with perfusion imaging"
INDEX = "index.html"
CORE_WORDS = {"rule": "ADC rule", "learnt": "network", "given": "mask"}
EXPLAINED = {
    "Target mismatch": "The decision by DEFUSE 3. Unsure: perfusion imaging would tell.",
    "Holds in": "How many of the answers (networks, or image and mirror image) decide alike.",
    "Hypoperfusion (mL)": "Predicted, on the patient's own grid; with the core.",
    "From (mL)": "Lower end of the interval; without a calibration, the smallest of the answers.",
    "To (mL)": "Upper end of the interval; without a calibration, the largest of the answers.",
    "Core by": "The network, the rule of ADC and DWI, or a mask that was given.",
    "Mismatch (mL)": "Hypoperfusion minus core.",
    "Ratio": "Hypoperfusion divided by core.",
    "Measured (mL)": "Hypoperfusion by perfusion imaging.",
    "Predicted there (mL)": "Predicted hypoperfusion in the part of the brain that perfusion "
    "imaging shows.",
    "Dice": "Overlap of the two, from 0 to 1.",
    "Mismatch measured": "Target mismatch (DEFUSE 3) by the measured volume.",
}


@dataclasses.dataclass(frozen=True)
class Outcome:
    """A patient of a cohort that was predicted.

    Attributes:
        result: what ``result.json`` holds.
        kept: it was there before, of the same files, facts and settings.
    """

    result: PatientResult
    kept: bool


def answer(
    request: PatientRequest, connect: Connect, settings: Callable[[], str | None], workers: int = 1
) -> int:
    """Predict the patient or the cohort and print what a person reads.

    Args:
        request: what the flags say.
        connect: loads the models or finds the server; called for each patient.
        settings: says what a result depends on besides the patient; for a cohort only. None:
            nobody knows, so nothing is kept.
        workers: as in :func:`predict_cohort`.

    Returns:
        The exit status.
    """
    options = OutputOptions(
        second_opinion=request.second_opinion,
        dicom=request.dicom_out,
        pdf=request.pdf,
        core_by=request.core_by,
        compare=request.compare,
    )
    if request.cohort is None:
        return _answer_one(request, connect, options)
    with atomic.one_writer(request.out):
        done, failed = predict_cohort(
            request.cohort,
            request.out,
            connect,
            settings=settings(),
            options=options,
            overrides=request.overrides,
            workers=workers,
        )
    kept = sum(each.kept for each in done.values())
    answers = [each.result.answer.target_mismatch for each in done.values()]
    predicted = f"{groups.counted_patients(done)} predicted ({kept} were done before)"
    unsure = f", unsure in {answers.count('unsure')}" if "unsure" in answers else ""
    print(f"{predicted}, target mismatch in {answers.count('yes')}{unsure}")
    if compared := list(filter(None, (each.result.comparison for each in done.values()))):
        print(comparison.of_several(compared))
    for participant, message in failed.items():
        print(f"failed: {participant}: {message}", file=sys.stderr)
    if alike := all_alike(failed, len(done) + len(failed)):
        print(alike, file=sys.stderr)
    next_steps(look_at=f"{request.out}/index.html", run=None if compared else AGAIN_COMPARED)
    return EXIT_SOME_FAILED if failed else EXIT_OK


def _answer_one(request: PatientRequest, connect: Connect, options: OutputOptions) -> int:
    try:
        given = _facts(request)
        files = PatientFiles(
            dwi=request.dwi,
            adc=request.adc,
            given=given,
            b0=request.b0,
            overrides=request.overrides,
            core=request.core,
            tmax=request.tmax,
            truth=request.truth,
            name=request.participant,
        )
        result = attempt(result_folder.predict, files, request.out, connect, options=options)
        if isinstance(result, InputError):
            raise result
    except InputError as error:
        raise InputError(f"{error}{_older_result(request.out)}") from error
    print(result_folder.summary(result, request.out))
    next_steps(
        look_at=f"{request.out}/report.html",
        run=None if result.comparison else AGAIN_WITH_TMAX,
    )
    return EXIT_OK


def _facts(request: PatientRequest) -> ClinicalFacts:
    """What was typed, read as a cohort's table is."""
    age = None if request.age is None else cohorts.number("age", request.age)
    side = cohorts.plain("side", request.side) or request.side
    if side.casefold() == AUTO_SIDE:
        side = UNKNOWN_SIDE
    if side not in SIDES:
        raise InputError(
            f"--side is {request.side!r}; expected left, right, bilateral or {AUTO_SIDE}: the side "
            "of the brain lesion, not of the weak limbs"
        )
    return ClinicalFacts(side, result_folder.parse_nihss(request.nihss), age)


def _older_result(out: str) -> str:
    """That the folder holds a result, which is not the one asked for; empty if it does not."""
    older = atomic.read_json(Path(out) / FILE).get("patient")
    if older is None:
        return ""
    return (
        f"\n{out} still holds an EARLIER result, of '{older}'; nothing in it is of this "
        "prediction. Give another --out, or remove it."
    )


@dataclasses.dataclass(frozen=True)
class _Patient:
    """A row of a cohort's table."""

    cohort: str
    participant: str
    given: ClinicalFacts
    overrides: Overrides


def predict_cohort(
    cohort: str, out: str, connect: Connect, *,
    settings: str | None, options: OutputOptions = DEFAULT, overrides: Overrides = NONE,
    workers: int = 1,
) -> tuple[dict[str, Outcome], dict[str, str]]:  # fmt: skip
    """Predict every patient of a raw cohort; one bad patient does not stop the others.

    Writes ``OUT/sub-*/`` as :func:`result_folder.predict` does, and ``OUT/index.html``. Patients
    done before with the same files, facts and ``settings`` are kept.

    Args:
        cohort: participants.tsv and ``sub-*``.
        out: folder for the results.
        connect: gives who answers, for each patient anew; several processes are sent it.
        settings: what else the result depends on: models' checksums, stride; None keeps nothing.
        options: what else is made.
        overrides: what a person says of every patient's images.
        workers: processes, each with models of its own; 1 works in this process.

    Returns:
        Each patient that was predicted, and a message for each one that failed.

    Raises:
        InputError: the table is faulty, or ``out`` is the raw cohort.
    """
    patients = _read(cohort, overrides)
    name = cohorts.described_name(cohort)
    if Path(out).resolve() == Path(cohort).resolve():
        raise InputError(f"--out is the raw cohort itself, {out}; choose another folder")
    atomic.check_writable(out)
    options = dataclasses.replace(options, index=f"../{INDEX}")
    predict = functools.partial(
        _predict, out=out, connect=connect, settings=settings, options=options
    )
    done: dict[str, Outcome] = {}
    failed: dict[str, str] = {}
    tasks = [(patient.participant, patient) for patient in patients]
    for (who, _), outcome in executors.map_patients(predict, tasks, workers, "predict"):
        if isinstance(outcome, InputError):
            failed[who] = str(outcome)
            # No older result may stand where this failed.
            attempt(result_files.clear, Path(out) / who)
        else:
            done[who] = outcome
    results = {who: outcome.result for who, outcome in done.items()}
    shortcuts = "".join(
        f" {words.capitalize()}."
        for words in dict.fromkeys(result.shortcut for result in results.values() if result.fast)
    )
    write_index(
        Path(out) / INDEX,
        sorted(
            [_failed_entry(who, message) for who, message in failed.items()]
            + [_entry(who, result) for who, result in results.items()],
            key=lambda entry: (entry.link is not None, -len(entry.warnings)),
        ),
        title=f"Predictions: {name}",
        lead=f"{len(done)} of {groups.counted_patients(dict(tasks))}. Lines are tinted where a "
        "patient failed or has warnings that are not everybody's; these come first."
        f"{shortcuts}",
        simulated="simulated" in name.lower()
        or any(result.simulated for result in results.values()),
        summary=_summary(list(results.values()), failed=len(failed)),
        explained=EXPLAINED,
        colours=((CORE, "core"), (HYPOPERFUSION, "predicted hypoperfusion")),
    )
    return done, failed


def _read(cohort: str, overrides: Overrides) -> list[_Patient]:
    """Every patient of the table, before any of them is predicted.

    Raises:
        InputError: the table is faulty.
    """
    patients = []
    for _, row in cohorts.read_participants(cohort).iterrows():
        facts = cohorts.clinical_record(row)
        given = ClinicalFacts(facts["side"], facts["nihss"], facts["age"])
        patients.append(_Patient(cohort, facts["participant_id"], given, overrides))
    return patients


def _predict(
    participant: str, patient: _Patient, *,
    out: str, connect: Connect, settings: str | None, options: OutputOptions,
) -> Outcome:  # fmt: skip
    folder = Path(out) / participant
    raw, faults = cohorts.find_raw_files(patient.cohort, participant, may_lack_one=True)
    if raw is None:
        raise InputError("\n".join(fault.what for fault in faults))
    overrides = raw.overrides(patient.overrides)
    fingerprint = _fingerprint(raw, settings, patient.given, options=options, overrides=overrides)
    known = read_result(folder) if settings is not None else None
    if known and known.fingerprint == fingerprint and (folder / result_files.PAGE).is_file():
        return Outcome(known, kept=True)
    files = PatientFiles(
        dwi=str(raw.dwi) if raw.dwi else None,
        adc=str(raw.adc) if raw.adc else None,
        given=patient.given,
        b0=str(raw.b0) if raw.b0 else None,
        overrides=overrides,
        core=str(raw.core) if raw.core else None,
        core_may_be_empty=True,
        name=participant,
        **(_truth_of(patient.cohort, raw) if options.compare else {}),
    )
    result = result_folder.predict(
        files, str(folder), connect, options=options, log=_say_nothing,
        fingerprint=fingerprint,
    )  # fmt: skip
    return Outcome(result, kept=False)


def _truth_of(cohort: str, raw: RawFiles) -> dict[str, Any]:
    """What perfusion imaging showed of a patient, as :class:`PatientFiles` has it."""
    at_s = calibration.threshold_of_map((cohort,), raw.tmax)
    return {
        "tmax": str(raw.tmax) if raw.tmax else None,
        "truth": str(raw.truth) if raw.truth else None,
        "tmax_threshold_s": TMAX_HYPOPERFUSION_S if at_s is None else at_s,
    }


def _say_nothing(text: str) -> None:
    """Of many patients only the results are said."""


def _fingerprint(
    files: RawFiles, settings: str | None, given: ClinicalFacts, *,
    options: OutputOptions, overrides: Overrides,
) -> str:  # fmt: skip
    values = [dataclasses.astuple(each) for each in (given, options)]
    values.append(tuple(overrides.given().items()))
    digest = hashlib.sha256(repr([__version__, settings, CORE_BY, *values]).encode())
    for path in files.existing():
        if options.compare or path not in (files.tmax, files.truth):
            digest.update(f"{path.name} {atomic.sha256(path)}".encode())
    return digest.hexdigest()


def _entry(participant: str, result: PatientResult) -> Entry:
    doubt = result.uncertainty
    low, high = result.answer.interval_ml or (doubt.range_ml if doubt else (None, None))
    core, hypoperfusion, mismatch, ratio = (tile.value for tile in headline.tiles(result))
    return Entry(
        values={
            "Patient": participant,
            "Target mismatch": result.answer.target_mismatch,
            "Holds in": None
            if doubt is None or doubt.decision_holds_in is None
            else f"{doubt.decision_holds_in} of {doubt.opinions}",
            "Hypoperfusion (mL)": Shown(hypoperfusion, result.hypoperfusion_ml),
            "From (mL)": ml(low),
            "To (mL)": ml(high),
            "Core (mL)": _shown(core, result.core_ml),
            "Core by": None if result.core_by is None else CORE_WORDS[result.core_by],
            "Mismatch (mL)": _shown(mismatch, result.mismatch_ml),
            "Ratio": _shown(ratio, result.mismatch_ratio),
            "Side": result.side_words,
            "NIHSS": result.given.nihss,
            **_compared(result.comparison),
        },
        link=f"{participant}/{result_files.PAGE}",
        picture=f"{participant}/{result_files.THUMBNAIL}",
        alt=f"Three slices of {participant} with core, where it is known, and hypoperfusion",
        warnings=result.warnings,
        wrong=_wrong(result),
    )


def _wrong(result: PatientResult) -> str:
    """That the decision is not that by the measured volume; empty where it is, or is unsure."""
    measured = None if result.comparison is None else result.comparison.target_mismatch
    said = {"yes": True, "no": False}.get(result.answer.target_mismatch)
    if measured is None or said is None or said == measured:
        return ""
    return f"Target mismatch is {'' if measured else 'not '}measured: the answer is wrong."


def _shown(text: str, value: float | None) -> Shown | None:
    return None if value is None else Shown(text, value)


def _compared(compared: Comparison | None) -> dict[str, Any]:
    if compared is None:
        return {}
    return {
        "Measured (mL)": ml(compared.truth_ml),
        "Predicted there (mL)": ml(compared.predicted_ml),
        "Dice": compared.dice,
        "Mismatch measured": compared.target_mismatch,
    }


def _summary(results: Sequence[PatientResult], *, failed: int) -> list[Summary]:
    """The large figures above the table."""
    answers = [result.answer.target_mismatch for result in results]
    counts = ((word, answers.count(word)) for word in ("no", "unsure"))
    figures = [
        Summary("Predicted", f"{len(results)} of {len(results) + failed}", f"{failed} failed"),
        Summary(
            "Target mismatch",
            f"yes in {answers.count('yes')}",
            ", ".join(f"{word} in {count}" for word, count in counts),
        ),
    ]
    if results:
        volumes_ml = sorted(result.hypoperfusion_ml for result in results)
        figures.append(
            Summary(
                "Median hypoperfusion",
                wording.ml(median(volumes_ml)),
                f"from {wording.ml(volumes_ml[0])} to {wording.ml(volumes_ml[-1])}",
            )
        )
    return figures


def _failed_entry(participant: str, message: str) -> Entry:
    return Entry(values={"Patient": f"{participant} (failed)"}, warnings=message.splitlines())
