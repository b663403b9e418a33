"""What a study is on its way through the node, at each of its stations."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReceivedImage:
    """One DICOM file as it came.

    Attributes:
        study_uid: its StudyInstanceUID.
        uid: its SOPInstanceUID.
        content: the whole file.
        caller: who sent it.
    """

    study_uid: str
    uid: str
    content: bytes
    caller: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class DroppedStudy:
    """A study that a person brought, whole, with what they say of the patient.

    Attributes:
        files: folder of its files, which the spool takes: ``*.dcm``, or ``dwi.nii.gz`` and
            ``adc.nii.gz`` (or one of them), ``b0.nii.gz``, with what lies beside them.
        side: of the stroke; None if nobody gave it.
        nihss: None if nobody gave it.
        age: years; None if nobody gave it.
        series: of the DWI among DICOM files; None leaves the choice to the program.
        remark: that tells it from others; no patient's name.
    """

    files: Path
    side: str | None
    nihss: int | None
    age: float | None
    series: str | None
    remark: str | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Given:
    """What people said of a study; None of what nobody said.

    Attributes:
        side: of the stroke.
        nihss: the score.
        age: years.
        series: of the DWI among DICOM files.
    """

    side: str | None = None
    nihss: int | None = None
    age: float | None = None
    series: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Earlier:
    """How a study ended the last time that anybody was told of it.

    Attributes:
        ended_s: when, in seconds since 1970.
        state: ``answered`` or ``refused``.
    """

    ended_s: float
    state: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
    """A study whose turn it is.

    Attributes:
        id: of the run.
        study: the study's name in the spool and in every log.
        number: first, second... run of the study.
        starts: how often it was started, this time included.
        side: of the stroke; None if nobody gave it.
        nihss: None if nobody gave it.
        age: years; None if nobody gave it.
        series: of the DWI among DICOM files; None leaves the choice to the program.
        dropped: a person brought it, as :class:`DroppedStudy`, and it is sent to nobody.
        images: folder of its files.
        results: folder for its result.
        earlier: how it ended before; None the first time.
    """

    id: int
    study: str
    number: int
    starts: int
    side: str | None
    nihss: int | None
    age: float | None
    series: str | None
    dropped: bool
    images: Path
    results: Path
    earlier: Earlier | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a run ended with.

    Attributes:
        state: ``answered`` or ``refused``.
        verdict: target mismatch: yes, no or unsure; None of a refused study.
        reason: why it was refused; None otherwise.
        warnings: of the result.
        audit: fields of the line that the audit log gets.
    """

    state: str
    verdict: str | None = None
    reason: str | None = None
    warnings: tuple[str, ...] = ()
    audit: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ResultObject:
    """A DICOM file of a result, complete on disk.

    Attributes:
        uid: its SOPInstanceUID.
        sop_class: its SOPClassUID.
        name: what it is: segmentation, probability, report, capture or refusal.
        file: where it lies.
        destinations: names of those who get it.
        due_s: when it is to be sent, in seconds since 1970.
    """

    uid: str
    sop_class: str
    name: str
    file: Path
    destinations: tuple[str, ...]
    due_s: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class EarlierAnswer:
    """An answer that a later run took, or is to take, the place of.

    Attributes:
        ended_s: when it was there, in seconds since 1970.
        verdict: target mismatch: yes, no or unsure.
    """

    ended_s: float
    verdict: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class WorklistRow:
    """A study as a person reads it.

    Attributes:
        study: its name in the spool and in every log.
        state: as :mod:`tf_hypoperfusion.hospital.spool` has them.
        images: how many came.
        dropped: a person brought it, and it is sent to nobody.
        remark: of that person.
        first_s: when its first image came, in seconds since 1970.
        changed_s: since when its state is what it is.
        side: as somebody gave it.
        nihss: as somebody gave it.
        age: as somebody gave it, in years.
        runs: how many there were.
        verdict: of the latest run that ended.
        reason: why that run was refused.
        warnings: of that run.
        results: folder of that run.
        earlier: answers before the one that stands, the newest first.
        undelivered: for each destination that lacks some of its results, why.
    """

    study: str
    state: str
    images: int
    dropped: bool
    remark: str | None
    first_s: float
    changed_s: float
    side: str | None
    nihss: int | None
    age: float | None
    runs: int
    verdict: str | None
    reason: str | None
    warnings: tuple[str, ...]
    results: Path | None
    earlier: tuple[EarlierAnswer, ...]
    undelivered: Mapping[str, str]
