"""What a person decided of each patient in ``qc.html``: ``qc_decisions.csv`` beside it.

A page that is opened from a disk cannot write there. It keeps its ticks in the browser, and makes
this file, which a person saves beside the page.
"""

import csv
import dataclasses
import io
import os
from collections.abc import Collection
from pathlib import Path
from typing import Literal

from data_tools import flow
from data_tools.flow import LeftOut
from data_tools.runtime import atomic
from data_tools.runtime.errors import InputError

FILE = "qc_decisions.csv"
COLUMNS = ("participant_id", "decision", "reason", "images")
DECISIONS = ACCEPT, REJECT = "accept", "reject"
NO_REASON = "no reason given"
EARLIER = "decided on earlier images; look again"
_MARK_LETTERS = 12

Word = Literal["accept", "reject"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Decision:
    """A line of the file.

    Attributes:
        participant_id: as in ``participants.tsv``.
        decision: ``accept`` or ``reject``.
        reason: in the person's words; may be empty.
        images: of :func:`mark`, which were looked at; empty where nobody noted it.
    """

    participant_id: str
    decision: Word
    reason: str = ""
    images: str = ""

    def is_of(self, fingerprint: str) -> bool:
        """Whether these images were looked at, as far as it is known."""
        return self.images in ("", mark(fingerprint))


def mark(fingerprint: str) -> str:
    """The images in a few letters: those of a patient that is processed again have others.

    Args:
        fingerprint: of ``qc.json``.
    """
    return fingerprint[:_MARK_LETTERS]


def read(folder: str | os.PathLike) -> dict[str, Decision]:
    """The decisions beside a page, by patient; nothing where there is no such file.

    Args:
        folder: of the MNI cohort.

    Raises:
        InputError: it cannot be read, or browsers left several versions of it.
    """
    found = sorted(path for path in Path(folder).glob("qc_decisions*.csv") if path.is_file())
    if not found:
        return {}
    if [path.name for path in found] != [FILE]:
        names = ", ".join(path.name for path in found)
        raise InputError(
            f"{folder} holds {names}; expected one file, {FILE}. Keep the newest under that name"
        )
    path = found[0]
    try:
        lines = _lines(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} cannot be read: {error}; save it from qc.html again") from error
    decisions: dict[str, Decision] = {}
    for number, line in enumerate(lines, 2):
        name, word = line["participant_id"], line["decision"].lower()
        if word not in ("accept", "reject"):
            raise InputError(
                f"{path}, line {number}: the decision of {name or 'nobody'} is "
                f"{line['decision']!r}; expected accept or reject"
            )
        if not name or name in decisions:
            what = "names no patient" if not name else f"names {name} a second time"
            raise InputError(f"{path}, line {number}: {what}; expected each patient once")
        decisions[name] = Decision(
            participant_id=name,
            decision="reject" if word == REJECT else "accept",
            reason=line["reason"],
            images=line["images"],
        )
    return decisions


def rejected(cohort: str | os.PathLike, known: Collection[str]) -> dict[str, LeftOut]:
    """Whom a person rejected, by name.

    Args:
        cohort: folder of the MNI cohort.
        known: its patients, and those whom earlier steps left out of it.

    Raises:
        InputError: the file cannot be read, or names a patient whom nobody knows.
    """
    decisions = read(cohort)
    strangers = [name for name in decisions if name not in known]
    if strangers:
        raise InputError(
            f"{Path(cohort) / FILE} names {', '.join(strangers[:5])}, whom participants.tsv does "
            "not have; expected names of this cohort's patients"
        )
    return {
        name: LeftOut(participant_id=name, step=flow.QUALITY, reason=_reason(cohort, each))
        for name, each in decisions.items()
        if each.decision == REJECT
    }


def _reason(cohort: str | os.PathLike, decision: Decision) -> str:
    quality = atomic.read_json(Path(cohort) / decision.participant_id / "qc.json")
    reason = decision.reason or NO_REASON
    fingerprint = str(quality.get("fingerprint", ""))
    return reason if decision.is_of(fingerprint) else f"{reason}; {EARLIER}"


def _lines(text: str) -> list[dict[str, str]]:
    """The cells of each line by column; spreadsheets of some countries write semicolons.

    Raises:
        csv.Error: a column is missing.
    """
    head = text.splitlines()[0] if text.strip() else ""
    reader = csv.DictReader(
        io.StringIO(text), delimiter=max(",;\t", key=head.count), restval="", strict=True
    )
    missing = [name for name in COLUMNS[:2] if name not in (reader.fieldnames or ())]
    if missing:
        raise csv.Error(f"the column {missing[0]} is missing")
    return [
        {name: str(line.get(name) or "").strip() for name in COLUMNS}
        for line in reader
        if any(line.values())
    ]
