"""What ``config.json`` of a fold holds: what is trained, on what, where, and by which software."""

import dataclasses
from collections import Counter
from pathlib import Path
from typing import Any

from data_tools.manifest import Manifest
from tf_hypoperfusion.config import Configs, ModelConfig, TrainingConfig
from tf_hypoperfusion.provenance import Session
from tf_hypoperfusion.training import parents, roles
from tf_hypoperfusion.training.parents import Parent


@dataclasses.dataclass(frozen=True)
class RecordsUsed:
    """The records that a fold is trained on.

    Attributes:
        fingerprint: checksum of everything they are made of.
        cohort: its name.
        licence: of the cohort, as its description says; None where it says none.
        derived: patients of whom something was computed in place of being measured, by what
            (``DWI``, ``side``), and those who lack an image (``without ADC``); None where nobody.
    """

    fingerprint: str
    cohort: str
    licence: str | None = None
    derived: dict[str, int] | None = None

    @classmethod
    def of(cls, manifest: Manifest) -> "RecordsUsed":
        """What a fold's settings say of records."""
        counts: Counter[str] = Counter()
        for patient in manifest.patients:
            counts.update(filter(None, (patient.get("derived") or "").split(", ")))
            if patient.get("lacks"):
                counts[f"without {patient['lacks']}"] += 1
        return cls(
            manifest.fingerprint,
            manifest.cohort,
            licence=manifest.licence,
            derived=dict(sorted(counts.items())) or None,
        )

    def to_json(self) -> dict[str, Any]:
        """What is written; nothing of what is not known, or what nobody has."""
        values = dataclasses.asdict(self)
        return {name: value for name, value in values.items() if value is not None}


@dataclasses.dataclass(frozen=True, kw_only=True)
class FoldSettings:
    """What is trained; a fold that was begun goes on with the same only.

    Attributes:
        run: name of the run's folder.
        fold: its number, from 0; None is the final network (see
            :mod:`tf_hypoperfusion.training.roles`).
        model: the network.
        training: as asked for; what is left to the machine may be ``auto`` or 0.
        records: what it is trained on.
        subsets: which of them train, validate and test.
        parent: the trained network that it begins with; None if it begins with drawn weights.
    """

    run: str
    fold: int | None
    model: ModelConfig
    training: TrainingConfig
    records: RecordsUsed
    subsets: dict[str, list[int]]
    parent: Parent | None = None

    @classmethod
    def of(
        cls, run: str | Path, fold: int | None, configs: Configs, manifest: Manifest
    ) -> "FoldSettings":
        """The settings of a fold of a run that is trained on these records.

        Raises:
            InputError: there is no network to begin with, or its weights do not fit.
        """
        training, parent = configs.training, None
        if training.init_from:
            parent = parents.find(training.init_from, fold)
            parents.check(parent, configs.model)
            training = dataclasses.replace(training, init_from=parent.reference)
        return cls(
            run=Path(run).name,
            fold=fold,
            model=configs.model,
            training=training,
            records=RecordsUsed.of(manifest),
            subsets=roles.of(fold, len(manifest.subsets)),
            parent=parent,
        )

    def to_json(self) -> dict[str, Any]:
        """As ``config.json`` has it; a parent only where there is one."""
        values = dataclasses.asdict(self)
        del values["parent"]
        values["records"] = self.records.to_json()
        return values | ({"parent": self.parent.to_json()} if self.parent else {})


@dataclasses.dataclass(frozen=True)
class Resolved:
    """What the machine chose where that was left to it. A resumed run keeps it, but for another
    ``--micro_batch`` that is asked for.

    Attributes:
        precision: no ``auto``.
        micro_batch: slabs that one device holds at once, no 0.
    """

    precision: str
    micro_batch: int


RESOLVED = tuple(field.name for field in dataclasses.fields(Resolved))


@dataclasses.dataclass(frozen=True, kw_only=True)
class FoldConfig:
    """The whole of ``config.json``.

    Attributes:
        settings: what is trained.
        resolved: what the machine chose.
        parameters: of the network.
        steps_per_epoch: optimizer steps.
        session: this start.
        earlier_sessions: the starts before, as they stand in the file.
    """

    settings: FoldSettings
    resolved: Resolved
    parameters: int
    steps_per_epoch: int
    session: Session
    earlier_sessions: list[Any]

    def to_json(self) -> dict[str, Any]:
        """What is written."""
        note = {"note": roles.FINAL_NOTE} if self.settings.fold is None else {}
        return {
            **self.settings.to_json(),
            **note,
            "resolved": dataclasses.asdict(self.resolved),
            "parameters": self.parameters,
            "steps_per_epoch": self.steps_per_epoch,
            "devices": self.session.devices,
            "software": self.session.software,
            "sessions": [*self.earlier_sessions, dataclasses.asdict(self.session)],
        }
