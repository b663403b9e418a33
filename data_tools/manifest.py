"""What a folder of records holds: ``manifest.json`` as a frozen type. Knows no TensorFlow."""

import dataclasses
from typing import Any


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
    """

    participants: tuple[str, ...]
    slabs: int
    shards: tuple[Shard, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class BuildSettings:
    """How the records were cut.

    Attributes:
        stride: slices from one slab to the next.
        shards: files for each subset, at most.
        seed: of the split into subsets.
    """

    stride: int
    shards: int
    seed: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Manifest:
    """The counts, checksums and patients of a folder of records.

    Attributes:
        schema_version: of the records.
        cohort: name of the cohort; says "simulated" where it is.
        settings: how the records were cut; None in records of an early version.
        labels: settings of the labels.
        fingerprint: checksum of everything the records are made of.
        slabs: number of records in all.
        subsets: patients and files, subset by subset.
        patients: for each patient the row of ``participants.tsv``, volumes (mL), ``slabs`` and
            ``subset``.
        without_truth: patients left out, who have neither Tmax nor a mask.
    """

    schema_version: int
    cohort: str
    settings: BuildSettings | None = None
    labels: dict[str, bool] = dataclasses.field(default_factory=dict)
    fingerprint: str
    slabs: int
    subsets: tuple[Subset, ...]
    patients: tuple[dict[str, Any], ...]
    without_truth: tuple[str, ...] = ()

    @property
    def shards(self) -> tuple[Shard, ...]:
        """Every shard, subset after subset."""
        return tuple(shard for subset in self.subsets for shard in subset.shards)

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
            settings=BuildSettings(**settings) if settings else None,
            labels=dict(content.get("labels") or {}),
            fingerprint=content["fingerprint"],
            slabs=content["slabs"],
            subsets=tuple(
                Subset(
                    participants=tuple(subset["participants"]),
                    slabs=subset["slabs"],
                    shards=tuple(
                        Shard(**{f.name: shard[f.name] for f in dataclasses.fields(Shard)})
                        for shard in subset["shards"]
                    ),
                )
                for subset in content["subsets"]
            ),
            patients=tuple(dict(patient) for patient in content["patients"]),
            without_truth=tuple(content.get("without_truth") or ()),
        )
