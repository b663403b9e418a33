"""Who was left out on the way from ``participants.tsv`` to the last table: at which step, and why.

Nobody vanishes: each step hands on what the steps before it left out.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from data_tools.runtime import atomic

# The paper's population: strokes of the internal carotid and the middle cerebral artery.
TERRITORIES = ("ICA", "M1", "M2", "M3", "M4", "none")
OTHER_TERRITORIES = ("ACA", "A1", "A2", "PCA", "P1", "P2", "P3", "BA", "VA", "SCA", "AICA", "PICA")
EXCLUDED, TERRITORY, PREPROCESS, TRUTH, FOLD, EVALUATE = (
    "excluded", "territory", "preprocess", "truth", "fold", "evaluate"
)  # fmt: skip
# In the order in which they are taken, in words.
STEPS = {
    EXCLUDED: "excluded by hand",
    TERRITORY: "stroke of another territory than the ICA's and MCA's",
    PREPROCESS: "images that could not be used",
    TRUTH: "neither Tmax nor an edited mask",
    FOLD: "test patients of folds that are not evaluated yet",
    EVALUATE: "not evaluated",
}
FILE = "left_out.json"


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


def write(folder: Path, left_out: Sequence[LeftOut]) -> None:
    """Write ``left_out.json`` of an MNI cohort, also where nobody was."""
    atomic.write_json(folder / FILE, {"left_out": [each.to_json() for each in left_out]})


def read(folder: Path) -> tuple[LeftOut, ...] | None:
    """What ``left_out.json`` of an MNI cohort says; None where there is none that can be read."""
    return from_json(atomic.read_json(folder / FILE).get("left_out"))


def from_json(content: Any) -> tuple[LeftOut, ...] | None:
    """The lines of a file; None if they are none."""
    names = [field.name for field in dataclasses.fields(LeftOut)]
    if not isinstance(content, list):
        return None
    if not all(isinstance(line, dict) and set(names) <= set(line) for line in content):
        return None
    return tuple(LeftOut(**{name: str(line[name]) for name in names}) for line in content)
