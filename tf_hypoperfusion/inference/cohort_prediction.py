"""What ``predict`` and ``serving_client`` are asked for: one patient, or all of a cohort."""

import hashlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from data_tools import cohort as cohorts
from data_tools.runtime import atomic, executors
from data_tools.runtime.command import EXIT_OK, EXIT_SOME_FAILED, Asked
from data_tools.runtime.errors import InputError
from tf_hypoperfusion import __version__
from tf_hypoperfusion.clinical import ClinicalFacts
from tf_hypoperfusion.inference import prediction, result_folder
from tf_hypoperfusion.inference.page.index import Entry, write_index
from tf_hypoperfusion.inference.result_folder import DEFAULT, Backend, OutputOptions


def answer(asked: Asked, connect: Callable[[], Backend], settings: Callable[[], str | None]) -> int:
    """Predict the patient or the cohort and print what a person reads.

    Args:
        connect: loads the models or finds the server. settings: says what a result depends on
            besides the patient; for a cohort only. None: nobody knows, so nothing is kept.

    Returns:
        The exit status.
    """
    options = OutputOptions(asked.second_opinion, asked.dicom_out, asked.pdf)
    if asked.cohort is None:
        try:
            given = ClinicalFacts(asked.side, result_folder.parse_nihss(asked.nihss), asked.age)
            result = result_folder.predict(
                asked.dwi, asked.adc, given, asked.out, connect, asked.participant,
                options,
            )  # fmt: skip
        except InputError as error:
            raise InputError(f"{error}{_older_result(asked.out)}") from error
        print(result_folder.summary(result, asked.out))
        return EXIT_OK
    with atomic.one_writer(asked.out):
        done, failed = predict_cohort(asked.cohort, asked.out, connect, settings(), options)
    kept = sum(result["kept"] for result in done.values())
    yes = sum(result["defuse3"]["target_mismatch"] for result in done.values())
    print(f"{len(done)} patients predicted ({kept} were done before), target mismatch in {yes}")
    print(f"look at {asked.out}/index.html")
    for participant, message in failed.items():
        print(f"failed: {participant}: {message}", file=sys.stderr)
    return EXIT_SOME_FAILED if failed else EXIT_OK


def _older_result(out: str) -> str:
    """That the folder holds a result, which is not the one asked for; empty if it does not."""
    older = atomic.read_json(Path(out) / "result.json").get("patient")
    if older is None:
        return ""
    return (
        f"\n{out} still holds an EARLIER result, of '{older}'; nothing in it is of this "
        "prediction. Give another --out, or remove it."
    )


def predict_cohort(
    cohort: str,
    out: str,
    connect: Callable[[], Backend],
    settings: str | None,
    options: OutputOptions = DEFAULT,
) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """Predict every patient of a raw cohort; one bad patient does not stop the others.

    Writes ``OUT/sub-*/`` as :func:`result_folder.predict` does, and ``OUT/index.html``. Patients
    done before with the same files, facts and ``settings`` are kept.

    Args:
        cohort: participants.tsv and ``sub-*``. connect: loads the models, once, when first needed.
        settings: what else the result depends on: models' checksums, stride; None keeps nothing.

    Returns:
        What each ``result.json`` holds, and a message for each patient that failed.

    Raises:
        InputError: the table is faulty, or ``out`` is the raw cohort.
    """
    table = cohorts.read_participants(cohort)
    if Path(out).resolve() == Path(cohort).resolve():
        raise InputError(f"--out is the raw cohort itself, {out}; choose another folder")
    atomic.check_writable(out)
    backends: list[Backend] = []

    def connect_once() -> Backend:
        if not backends:
            backends.append(connect())
        return backends[0]

    def predict(participant: str, row: dict[str, Any]) -> dict[str, Any]:
        return _predict(cohort, out, participant, row, connect_once, settings, options)

    name = cohorts.described_name(cohort)
    rows = [cohorts.clinical_record(row) for _, row in table.iterrows()]
    tasks = [(row["participant_id"], row) for row in rows]
    done: dict[str, dict[str, Any]] = {}
    failed: dict[str, str] = {}
    for task, result in executors.map_patients(predict, tasks, 1, "predict"):
        if isinstance(result, InputError):
            failed[task[0]] = str(result)
            prediction.clear(Path(out) / task[0])  # no older result may stand where this failed
        else:
            done[task[0]] = result
    write_index(
        Path(out) / "index.html",
        f"Predictions: {name}",
        f"{len(done)} of {len(rows)} patients; those that failed or have warnings come first.",
        sorted(
            [_failed_entry(who, message) for who, message in failed.items()]
            + [_entry(who, result) for who, result in done.items()],
            key=lambda entry: (entry.link is not None, -len(entry.warnings)),
        ),
        simulated="simulated" in name.lower()
        or any("SIMULATED" in w for result in done.values() for w in result["warnings"]),
    )
    return done, failed


def _predict(
    cohort: str,
    out: str,
    participant: str,
    row: dict[str, Any],
    connect: Callable[[], Backend],
    settings: str | None,
    options: OutputOptions,
) -> dict[str, Any]:
    files, faults = cohorts.find_raw_files(cohort, participant)
    if files is None:
        raise InputError("\n".join(fault.what for fault in faults))
    given = ClinicalFacts(row["side"], row["nihss"], row["age"])
    digest = hashlib.sha256(repr([__version__, settings, given, options]).encode())
    for path in files.existing():
        if path not in (files.tmax, files.truth):  # a prediction does not look at them
            digest.update(f"{path.name} {atomic.sha256(path)}".encode())
    folder = Path(out) / participant
    known = atomic.read_json(folder / "result.json")
    same = settings is not None and known.get("fingerprint") == digest.hexdigest()
    if same and (folder / "report.html").is_file():
        return {**known, "kept": True}
    result = result_folder.predict(
        str(files.dwi), str(files.adc) if files.adc else None, given, str(folder), connect,
        participant, options, tell=lambda text: None, fingerprint=digest.hexdigest(),
    )  # fmt: skip
    return {**result, "kept": False}


def _entry(participant: str, result: dict[str, Any]) -> Entry:
    doubt = result["uncertainty"]
    low, high = doubt["range_ml"] if doubt else (None, None)
    return Entry(
        {
            "patient": participant,
            "target mismatch": result["defuse3"]["target_mismatch"],
            "holds in": f"{doubt['decision_holds_in']} of {doubt['opinions']}" if doubt else "n/a",
            "hypoperfusion, mL": result["hypoperfusion_ml"],
            "from, mL": low,
            "to, mL": high,
            "core, mL": result["core_ml"],
            "mismatch, mL": result["mismatch_ml"],
            "ratio": result["mismatch_ratio"],
            "side": result["given"]["side"],
            "NIHSS": result["given"]["nihss"],
        },
        link=f"{participant}/report.html",
        picture=f"{participant}/overview.png",
        alt=f"DWI of {participant} with core and predicted hypoperfusion",
        warnings=result["warnings"],
    )


def _failed_entry(participant: str, message: str) -> Entry:
    return Entry({"patient": f"{participant} (failed)"}, warnings=message.splitlines())
