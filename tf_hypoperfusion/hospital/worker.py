"""One complete study at a time -> its result or the reason why there is none, ready to be sent."""

import contextlib
import dataclasses
import functools
import logging
import re
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from data_tools.grid import UNKNOWN_SIDE
from data_tools.overrides import Overrides
from data_tools.runtime import atomic
from data_tools.runtime.errors import InputError, PatientDefect, reason_of
from data_tools.runtime.patient_failure import attempt
from tf_hypoperfusion.clinical import ClinicalFacts
from tf_hypoperfusion.hospital.audit import LOG, Audit, say
from tf_hypoperfusion.hospital.reader_words import for_reader
from tf_hypoperfusion.hospital.settings import Settings
from tf_hypoperfusion.hospital.spool import Spool, sync_folder
from tf_hypoperfusion.hospital.study import Outcome, ResultObject, Run
from tf_hypoperfusion.inference import dicom_identity, dicom_objects, result_folder
from tf_hypoperfusion.inference.model_files import ModelInfo
from tf_hypoperfusion.inference.result import PatientResult, Replaced
from tf_hypoperfusion.inference.result_files import OutputOptions
from tf_hypoperfusion.inference.result_folder import Backend, PatientFiles

POLL_S = 0.2
# After which a full disk is tried again.
NO_ROOM_WAIT_S = 30.0
# A study at which the program ended so often without a result ends it again.
MAX_STARTS = 5
# First words of what is being done.
STEPS = ("reading", "registering", "drawing")
REFUSAL_FILE = "refusal.dcm"
# A clause that says an NIHSS and nothing else; "NIHSS 3 months ago 2" and "no NIHSS 5" do not.
CLAUSE_END = re.compile(r"[;\r\n]|[,.](?!\d)")
NIHSS = re.compile(r"\s*NIHSS\s*(?:score)?\s*[:=]?\s*(\d+)\s*(?:/\s*42\s*)?", re.IGNORECASE)


class Worker:
    """Answers the studies of a spool, in a thread of its own once it is started."""

    def __init__(
        self, spool: Spool, settings: Settings, connect: Callable[[], Backend], audit: Audit
    ) -> None:
        """Prepare to work.

        Args:
            spool: of the node.
            settings: of the node.
            connect: gives who answers; called for each study.
            audit: gets a line for each study that was answered or refused.
        """
        self._spool, self._settings, self._connect, self._audit = spool, settings, connect, audit
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="worker", daemon=True)
        self._running: Run | None = None
        # Of the study at work: its name, and what is being done.
        self.step: tuple[str, str] | None = None

    def start(self) -> None:
        """Work from now on."""
        self.write_audit()
        self._thread.start()

    def stop(self, wait_s: float) -> None:
        """Take no other study; one that is not done in time is put back.

        Args:
            wait_s: for the one at work.
        """
        self._stop.set()
        self._thread.join(wait_s)
        if self._thread.is_alive() and self._running is not None:
            self._spool.put_back(self._running, 0.0)

    def _work(self) -> None:
        while not self._stop.is_set():
            try:
                if not self.work_once():
                    self._stop.wait(POLL_S)
            except Exception:  # such as a database on a full disk; the next study is no worse off
                LOG.exception("worker failed")
                self._stop.wait(NO_ROOM_WAIT_S)

    def work_once(self) -> bool:
        """Answer or refuse the study whose turn it is; False where there is none."""
        run = self._spool.next_run()
        if run is None:
            return False
        self._running = run
        say("run begins", study=run.study, run=run.number, start=run.starts)
        began_s = time.monotonic()
        try:
            self._answer(run, began_s)
        except (OSError, sqlite3.Error) as error:  # no room: no fault of the study
            say("run put back", logging.ERROR, study=run.study, reason=reason_of(error))
            self._spool.discard_results(run)
            self._put_back(run)
        finally:
            self._running = self.step = None
        return True

    def _put_back(self, run: Run) -> None:
        """Even where the disk has no room for that yet."""
        while True:
            try:
                return self._spool.put_back(run, NO_ROOM_WAIT_S)
            except sqlite3.Error:
                if self._stop.wait(NO_ROOM_WAIT_S):
                    return None  # the next start puts it back

    def _answer(self, run: Run, began_s: float) -> None:
        result: PatientResult | InputError
        if run.starts > MAX_STARTS:
            result = InputError(
                f"the program ended {MAX_STARTS} times while it worked on this study, without a "
                "result; look at its log, and whether the machine has memory enough"
            )
        else:
            result = attempt(self._predict, run)
        if isinstance(result, PatientDefect):
            say("defect", logging.ERROR, study=run.study, details=result.details)
        if isinstance(result, InputError):
            reason = for_reader(str(result), run.images, "dropped" if run.dropped else "sent")
            outcome = Outcome(state="refused", reason=reason)
            objects = self._refusal(run, reason)
        else:
            verdict = result.answer.target_mismatch
            outcome = Outcome(state="answered", verdict=verdict, warnings=result.warnings)
            objects = self._objects(run)
        seconds = round(time.monotonic() - began_s, 1)
        models = [] if isinstance(result, InputError) else list(map(_audited, result.models))
        audit = {
            "study": run.study, "run": run.number, "verdict": outcome.verdict or "none",
            "models": models, "seconds": seconds,
        }  # fmt: skip
        if not self._spool.finish(run, dataclasses.replace(outcome, audit=audit), objects):
            say("run abandoned", study=run.study, run=run.number)
            self._spool.discard_results(run)
            return
        say(
            f"study {outcome.state}",
            study=run.study,
            run=run.number,
            verdict=outcome.verdict,
            reason=outcome.reason,
            warnings=len(outcome.warnings),
            seconds=seconds,
        )
        self.write_audit()

    def write_audit(self) -> None:
        """Give the audit log the lines that it lacks, those of before a kill too."""
        for run, state, fields in self._spool.unaudited():
            if self._audit.add(state, **fields):
                self._spool.audited(run)

    def _predict(self, run: Run) -> PatientResult:
        keywords = self._settings.nihss_from if run.nihss is None else ()
        read_nihss, warnings = nihss_of(run.images, keywords)
        nihss = read_nihss if run.nihss is None else run.nihss
        dwi, adc, b0 = _images_of(run.images)
        is_dicom = not (dwi or adc)
        files = PatientFiles(
            dwi=str(run.images) if is_dicom else dwi,
            adc=adc,
            b0=b0,
            given=ClinicalFacts(run.side or UNKNOWN_SIDE, nihss, run.age),
            overrides=Overrides(series=run.series),
            name=f"study {run.study}",
            replaces=_replaced(run),
            warnings=tuple(warnings),
        )
        self._log(run, "reading the images")
        return result_folder.predict(
            files, str(run.results), self._connect,
            options=OutputOptions(dicom=is_dicom), log=functools.partial(self._log, run),
        )  # fmt: skip

    def _log(self, run: Run, text: str) -> None:
        if text.split()[0] in STEPS:  # the rest may hold what files say
            self.step = run.study, text

    def _objects(self, run: Run) -> list[ResultObject]:
        folder = run.results / dicom_objects.FOLDER
        found: list[ResultObject] = []
        if run.dropped:
            return found
        for path in sorted(folder.glob("*.dcm")):
            names = [each.name for each in self._settings.destinations if path.stem in each.objects]
            found.append(_result_object(path, names, self._spool.now_s()))
        for each in (folder, run.results, run.results.parent, run.results.parent.parent):
            sync_folder(each)
        return found

    def _refusal(self, run: Run, reason: str) -> list[ResultObject]:
        """A report for those who want to be told; nothing where no image can be referred to."""
        names = [each.name for each in self._settings.destinations if each.refusals]
        if not names or run.dropped:
            return []
        replaced = _replaced(run)
        if replaced is not None and replaced.was == "answer":
            reason = f"{replaced.words}\n{reason}"
        content = refusal_of(run.images, reason)
        if content is None:
            say("refusal not reported", study=run.study, reason="no image, or two patients'")
            return []
        path = run.results / REFUSAL_FILE
        atomic.write_bytes(path, content)
        for each in (run.results, run.results.parent, run.results.parent.parent):
            sync_folder(each)
        due_s = self._spool.now_s() + self._settings.refusal_wait_s
        return [_result_object(path, names, due_s)]


def _audited(model: ModelInfo) -> dict[str, Any]:
    name, version = dicom_identity.name_and_version(model)
    return {"name": name, "version": version, "sha256": model.sha256}


def _result_object(path: Path, destinations: Sequence[str], due_s: float) -> ResultObject:
    from pydicom import dcmread

    data = dcmread(path, stop_before_pixels=True, specific_tags=["SOPInstanceUID", "SOPClassUID"])
    return ResultObject(
        uid=str(data.SOPInstanceUID),
        sop_class=str(data.SOPClassUID),
        name=path.stem,
        file=path,
        destinations=tuple(destinations),
        due_s=due_s,
    )


def _headers(folder: Path) -> Any:
    """Every file of a folder, without its pixels; those that cannot be read are left out."""
    from pydicom import dcmread

    for path in sorted(folder.glob("*.dcm")):
        with contextlib.suppress(Exception):  # pydicom raises much about a damaged file
            yield dcmread(path, stop_before_pixels=True)


def nihss_of(folder: Path, keywords: Sequence[str]) -> tuple[int | None, list[str]]:
    """The NIHSS that a study's texts say, as in "NIHSS 14".

    Args:
        folder: of its DICOM files.
        keywords: of the attributes that may say it.

    Returns:
        It, and a warning that says where it stood, or why it is not used; None and no warning
        where no text speaks of it.
    """
    said = {
        clause
        for data in (_headers(folder) if keywords else ())
        for keyword in keywords
        for clause in CLAUSE_END.split(str(data.get(keyword) or ""))
        if "nihss" in clause.casefold()
    }
    if not said:
        return None, []
    where = f"{' or '.join(keywords)} of the study"
    found = [NIHSS.fullmatch(clause) for clause in said]
    numbers = {int(each[1]) if each else None for each in found}
    number = numbers.pop()
    if not numbers and number is not None:
        with contextlib.suppress(InputError):
            ClinicalFacts(UNKNOWN_SIDE, number)
            return number, [f"NIHSS {number} was read in {where}; check it"]
    return None, [
        f"a text in {where} speaks of the NIHSS and is not used: expected one number from 0 to "
        '42, as in "NIHSS 14", and no other. Give the score, and have the study answered again'
    ]


def refusal_of(folder: Path, reason: str) -> bytes | None:
    """A report that says why a study has no result.

    Args:
        folder: of its DICOM files.
        reason: in words.

    Returns:
        The content of a DICOM file; None where no image can be referred to, or where two patients'
        images are there: it would be filed as one of them's.
    """
    headers = list(_headers(folder))
    patients = {(str(each.get("PatientID")), str(each.get("PatientName"))) for each in headers}
    if len({(number, name.casefold()) for number, name in patients}) > 1:
        return None
    for data in headers:
        with contextlib.suppress(Exception):  # highdicom raises what an odd attribute causes
            return dicom_objects.refusal(reason, data)
    return None


def _images_of(folder: Path) -> tuple[str | None, str | None, str | None]:
    """DWI, ADC map and b = 0 image of a study that was dropped as NIfTI; None of others."""
    dwi, adc, b0 = (
        next(map(str, folder.glob(f"{role}.nii*")), None) for role in ("dwi", "adc", "b0")
    )
    return dwi, adc, b0


def _replaced(run: Run) -> Replaced | None:
    """What a run takes the place of."""
    if run.earlier is None:
        return None
    said = (run.side, run.nihss, run.age, run.series)
    return Replaced(
        answered=time.strftime("%Y-%m-%d %H:%M", time.localtime(run.earlier.ended_s)),
        was="answer" if run.earlier.state == "answered" else "refusal",
        why="images" if said == (None,) * len(said) else "person",
    )
