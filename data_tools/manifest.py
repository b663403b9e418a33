"""What a folder of records holds: ``manifest.json`` as a frozen type. Knows no TensorFlow."""

import dataclasses
from collections.abc import Iterable
from typing import Any

from data_tools import flow
from data_tools.flow import LeftOut

# Of the records.
SCHEMA_VERSION = 2


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shard:
    """One TFRecord file.

    Attributes:
        file: its path inside the records' folder.
        slabs: number of records in it.
        bytes: its size.
        sha256: its checksum.
    """

    file: str
    slabs: int
    bytes: int
    sha256: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Subset:
    """One of the subsets that patients are split into.

    Attributes:
        participants: their names, in the order of the split.
        slabs: number of records of all of them.
        shards: the files that hold them.
        about: :func:`data_tools.subset_table.describe` of them; {} in records of an early version.
    """

    participants: tuple[str, ...]
    slabs: int
    shards: tuple[Shard, ...]
    about: dict[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, kw_only=True)
class BuildSettings:
    """How the records were cut and the patients divided. Defaults are those of early versions.

    Attributes:
        stride: slices from one slab to the next.
        shards: files for each subset, at most.
        seed: of the split into subsets.
        folds: number of subsets that was asked for; another number may come of what follows.
        stratify: what the subsets share evenly, joined by commas; "" is at random.
        splits: checksum of a table that says who goes where; None of a split drawn here.
        leave_out: ``site`` where each site is a subset.
        duplicates: what is done with pairs of the same head: ``refuse``, ``together``, ``allow``.
        other_territories: whether strokes outside the paper's population are in.
    """

    stride: int
    shards: int
    seed: int
    folds: int = 5
    stratify: str = ""
    splits: str | None = None
    leave_out: str | None = None
    duplicates: str = "allow"
    other_territories: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class Manifest:
    """The counts, checksums and patients of a folder of records.

    Attributes:
        schema_version: of the records.
        cohort: name of the cohort; says "simulated" where it is.
        cohort_folder: where it was when the records were built; None in records of an early
            version. It may have moved or changed since.
        licence: of the cohort, as its description says; None where it says none.
        settings: how the records were cut; None in records of an early version.
        labels: settings of the labels.
        fingerprint: checksum of everything the records are made of.
        slabs: number of records in all.
        subsets: patients and files, subset by subset.
        patients: for each patient the row of ``participants.tsv``, volumes (mL) as
            :func:`data_tools.mni_patient.load_labelled` gives them, ``slabs`` and ``subset``.
        left_out: :class:`data_tools.flow.LeftOut` of each patient of the cohort who is not here.
        duplicates: pairs of patients with the same head that were let pass: ``first``, ``second``,
            ``kind`` and ``r``.
        warnings: of the whole, as they were printed.
    """

    schema_version: int
    cohort: str
    cohort_folder: str | None = None
    licence: str | None = None
    settings: BuildSettings | None = None
    labels: dict[str, bool] = dataclasses.field(default_factory=dict)
    fingerprint: str
    slabs: int
    subsets: tuple[Subset, ...]
    patients: tuple[dict[str, Any], ...]
    left_out: tuple[LeftOut, ...] = ()
    duplicates: tuple[dict[str, Any], ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def shards(self) -> tuple[Shard, ...]:
        """Every shard, subset after subset."""
        return tuple(shard for subset in self.subsets for shard in subset.shards)

    def rows_of(self, subsets: Iterable[int]) -> list[dict[str, Any]]:
        """The rows of the patients of some subsets."""
        rows = self.rows()
        return [rows[name] for k in subsets for name in self.subsets[k].participants]

    def rows(self) -> dict[str, dict[str, Any]]:
        """The patients' rows by ``participant_id``."""
        return {patient["participant_id"]: patient for patient in self.patients}

    def to_json(self) -> dict[str, Any]:
        """What ``manifest.json`` holds."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, content: Any) -> "Manifest":
        """Read what :meth:`to_json` wrote; fields of later versions are left out.

        Args:
            content: of ``manifest.json``.

        Raises:
            KeyError, TypeError, ValueError: it is not such a content.
        """
        settings = content.get("settings") if isinstance(content, dict) else None
        return cls(
            schema_version=content["schema_version"],
            cohort=content["cohort"],
            cohort_folder=content.get("cohort_folder"),
            licence=content.get("licence"),
            settings=_known(BuildSettings, settings) if settings else None,
            labels=dict(content.get("labels") or {}),
            fingerprint=content["fingerprint"],
            slabs=content["slabs"],
            subsets=tuple(
                Subset(
                    participants=tuple(subset["participants"]),
                    slabs=subset["slabs"],
                    shards=tuple(_known(Shard, shard) for shard in subset["shards"]),
                    about=dict(subset.get("about") or {}),
                )
                for subset in content["subsets"]
            ),
            patients=tuple(dict(patient) for patient in content["patients"]),
            left_out=_left_out(content),
            duplicates=tuple(dict(pair) for pair in content.get("duplicates") or ()),
            warnings=tuple(content.get("warnings") or ()),
        )


def _left_out(content: dict[str, Any]) -> tuple[LeftOut, ...]:
    """Who was left out; of early versions only those without truth are known."""
    if "left_out" in content:
        found = flow.from_json(content["left_out"])
        if found is None:
            raise ValueError("left_out names no patients, steps and reasons")
        return found
    return tuple(map(flow.without_truth, content.get("without_truth") or ()))


def _known(kind: Any, content: dict[str, Any]) -> Any:
    """One of a type of this file, without the fields of later versions."""
    names = [field.name for field in dataclasses.fields(kind)]
    return kind(**{name: content[name] for name in names if name in content})
