"""Who was left out on the way from ``participants.tsv`` to the last table: at which step, and why.

Nobody vanishes: each step hands on what the steps before it left out.
"""

import dataclasses
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from data_tools.runtime import atomic
from data_tools.runtime.errors import InputError

# The paper's population: strokes of the internal carotid and the middle cerebral artery.
TERRITORIES = ("ICA", "M1", "M2", "M3", "M4", "none")
OTHER_TERRITORIES = ("ACA", "A1", "A2", "PCA", "P1", "P2", "P3", "BA", "VA", "SCA", "AICA", "PICA")
EXCLUDED, TERRITORY, PREPROCESS, QUALITY, TRUTH, FOLD, EVALUATE = (
    "excluded", "territory", "preprocess", "quality", "truth", "fold", "evaluate"
)  # fmt: skip
# In the order in which they are taken, in words.
STEPS = {
    EXCLUDED: "excluded by hand",
    TERRITORY: "stroke of another territory than the ICA's and MCA's",
    PREPROCESS: "images that could not be used",
    QUALITY: "rejected in qc.html",
    TRUTH: "neither Tmax nor an edited mask",
    FOLD: "in folds that are not evaluated yet",
    EVALUATE: "not evaluated",
}
FILE = "left_out.json"
_NUMBERS = re.compile(r"\d+").findall


@dataclasses.dataclass(frozen=True, kw_only=True)
class LeftOut:
    """A patient who was left out.

    Attributes:
        participant_id: as in ``participants.tsv``.
        step: one of :data:`STEPS`.
        reason: in words.
    """

    participant_id: str
    step: str
    reason: str

    @property
    def cause(self) -> str:
        """What was wrong in few words, the same for every patient, so that equal ones are counted.

        The patient's name, files and folders are left out, as is advice after a semicolon; what
        kind of file it was stays where nothing else says it.

        >>> reason = "no sub-1_*ADC.nii.gz below a/sub-1; expected one"
        >>> LeftOut(participant_id="sub-1", step=PREPROCESS, reason=reason).cause
        'no ADC.nii.gz'
        """
        first = next(iter(self.reason.strip().splitlines()), "").split("; ")[0]
        name = re.escape(self.participant_id)
        # "below a/sub-1", "sub-1:", "a/sub-1/dwi/sub-1_ADC.nii.gz:"
        folders = rf"( (below|in|of))? ?(?<!\S)[^\s:]*{name}([./_][^\s:]*)?(?=[\s:]|$)"
        files = rf"(^|\bno )[^\s:]*{name}[_*]+(?=[^\s/]+(\s|$))"
        return re.sub(folders, "", re.sub(files, r"\1", first)).strip(" :") or "no reason given"

    def to_json(self) -> dict[str, str]:
        """As a line of a file."""
        return dataclasses.asdict(self)


def by_table(
    rows: Iterable[Mapping[str, Any]], *, other_territories: bool = False
) -> dict[str, LeftOut]:
    """Patients whom the table itself leaves out.

    Args:
        rows: :func:`data_tools.cohort.clinical_record` of each.
        other_territories: keep strokes outside the paper's population.

    >>> found = by_table([{"participant_id": "sub-1", "exclude": "poor DWI", "occlusion": "M1"},
    ...                   {"participant_id": "sub-2", "exclude": None, "occlusion": "PCA"}])
    >>> [(name, each.step, each.reason) for name, each in found.items()]
    [('sub-1', 'excluded', 'poor DWI'), ('sub-2', 'territory', 'occlusion of the PCA')]
    """
    found = {}
    for row in rows:
        name, said, occlusion = row["participant_id"], row["exclude"], row["occlusion"]
        if said is not None:
            found[name] = LeftOut(participant_id=name, step=EXCLUDED, reason=said)
        elif occlusion in OTHER_TERRITORIES and not other_territories:
            found[name] = LeftOut(
                participant_id=name, step=TERRITORY, reason=f"occlusion of the {occlusion}"
            )
    return found


def without_truth(participant: str) -> LeftOut:
    """A patient whose answer could be compared with nothing."""
    return LeftOut(participant_id=participant, step=TRUTH, reason=STEPS[TRUTH])


def require_somebody(rows: Sequence[Any], left_out: Mapping[str, LeftOut]) -> None:
    """Refuse a table that leaves out everybody.

    Raises:
        InputError: naming the reasons.
    """
    if rows and len(left_out) == len(rows):
        raise InputError(
            f"participants.tsv leaves out every patient ({in_words(left_out.values())}); expected "
            "at least one to keep: n/a in the column exclude, and an occlusion of the ICA or MCA, "
            "or give --other_territories"
        )


def in_words(left_out: Iterable[LeftOut]) -> str:
    """How many were left out at each step, and why.

    >>> in_words([LeftOut(participant_id="sub-1", step=EXCLUDED, reason="poor DWI")])
    '1 excluded by hand: poor DWI 1'
    """
    return "; ".join(
        f"{sum(reasons.values())} {STEPS[step]}: "
        + ", ".join(f"{reason} {count}" for reason, count in reasons.items())
        for step, reasons in counted(left_out).items()
    )


def write(folder: Path, left_out: Sequence[LeftOut]) -> None:
    """Write ``left_out.json`` of an MNI cohort, also where nobody was."""
    atomic.write_json(folder / FILE, {"left_out": [each.to_json() for each in left_out]})


def read(folder: str | os.PathLike, *, expected: bool = False) -> tuple[LeftOut, ...]:
    """What ``left_out.json`` of an MNI cohort says; nobody where none is expected.

    Args:
        folder: of the cohort.
        expected: ``data_tools.preprocess`` wrote the cohort; simulated ones have no such file.

    Raises:
        InputError: it cannot be read, or is expected and not there.
    """
    path = Path(folder) / FILE
    if not path.exists():
        if not expected:
            return ()
        raise InputError(
            f"{path}: is missing, so nobody knows who was left out before; expected what "
            "data_tools.preprocess writes. Run it again: patients done before are kept"
        )
    found = from_json(atomic.read_json(path).get("left_out"))
    if found is None:
        raise InputError(
            f"{path}: cannot be read, so nobody knows who was left out; expected what "
            "data_tools.preprocess writes. Run it again: patients done before are kept"
        )
    return found


def from_json(content: Any) -> tuple[LeftOut, ...] | None:
    """The lines of a file; None if they are none."""
    names = [field.name for field in dataclasses.fields(LeftOut)]
    if not isinstance(content, list):
        return None
    for line in content:
        if not isinstance(line, dict) or not all(isinstance(line.get(n), str) for n in names):
            return None
        if line["step"] not in STEPS:
            return None
    return tuple(LeftOut(**{name: line[name] for name in names}) for line in content)


def counted(left_out: Iterable[LeftOut]) -> dict[str, dict[str, int]]:
    """How many were left out for each reason, at each step: the most frequent reason first, and
    folds in their order.

    >>> counted([LeftOut(participant_id="sub-1", step=EXCLUDED, reason="poor DWI"),
    ...          LeftOut(participant_id="sub-2", step=EXCLUDED, reason="poor DWI")])
    {'excluded': {'poor DWI': 2}}
    """
    reasons: dict[str, Counter[str]] = {step: Counter() for step in STEPS}
    for each in left_out:
        reasons[each.step][each.cause] += 1
    found = {step: counts.most_common() for step, counts in reasons.items() if counts}
    if FOLD in found:
        found[FOLD].sort(key=lambda reason: [int(number) for number in _NUMBERS(reason[0])])
    return {step: dict(counts) for step, counts in found.items()}
