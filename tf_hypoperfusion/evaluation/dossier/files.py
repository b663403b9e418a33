"""The files of a study: where they lie, and their values with the place each stands at."""

import csv
import dataclasses
import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from data_tools.runtime import atomic
from tf_hypoperfusion.evaluation.dossier.fact import (
    Fact,
    Known,
    Missing,
    Source,
    derive,
    listed,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Folders:
    """Where a study lies; None where nobody said, and no file does.

    Attributes:
        run: trained folds and their evaluation.
        report: written by ``tf_hypoperfusion.report``.
        records: that the folds were trained on.
        mni: cohort that the records were built from.
        cohort: as it was before ``data_tools.preprocess``.
        model: a version of an export, with its card.
    """

    run: Path
    report: Path | None = None
    records: Path | None = None
    mni: Path | None = None
    cohort: Path | None = None
    model: Path | None = None

    def named(self) -> dict[str, Path]:
        """Those that are known, by the name that sources begin with."""
        fields = [field.name for field in dataclasses.fields(self)]
        return {name: path for name in fields if (path := getattr(self, name)) is not None}


@dataclasses.dataclass(frozen=True)
class Document:
    """A JSON file, or a part of one.

    Attributes:
        name: that sources begin with: ``run/evaluation.json``.
        content: its object; {} where it is absent or damaged.
        refused: why its values are not taken.
    """

    name: str
    content: Mapping[str, Any]
    refused: str = ""

    def fact(self, key: str) -> Known:
        """A value by its dotted key; one that is null or not there is missing."""
        value: Any = self.content
        for part in key.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        source = Source(self.name, key)
        if self.refused or value is None:
            return Missing(source, self.refused)
        return Fact(value, (source,))

    def absent(self, key: str) -> Known:
        """That a file, which is there, has no such key, or null or "" there."""
        source = Source(self.name, key)
        if self.refused or not self.content:
            return Missing(source, self.refused)
        return Fact(True, (source,)) if not self.content.get(key) else Missing(source, "is given")

    def __bool__(self) -> bool:
        return bool(self.content)


def document(folders: Folders, folder: str, name: str) -> Document:
    """A JSON file of one of the study's folders."""
    path = folders.named().get(folder)
    return Document(f"{folder}/{name}", atomic.read_json(path / name) if path else {})


def table(folders: Folders, folder: str, name: str) -> list[dict[str, str]]:
    """The lines of a CSV or TSV file; none where it is absent or damaged."""
    path = folders.named().get(folder)
    try:
        text = (path / name).read_text(encoding="utf-8") if path else ""
        separator = "\t" if name.endswith(".tsv") else ","
        return list(csv.DictReader(io.StringIO(text, newline=""), delimiter=separator))
    except (OSError, ValueError, csv.Error):
        return []


def of_networks(
    documents: Mapping[int, Document], key: str, make: Callable[[Any], Any] | None = None
) -> Known:
    """A value of several folds' files: theirs, or who has which where they differ.

    Args:
        documents: by fold.
        key: dotted.
        make: what is made of each value, before they are compared.
    """
    found = {fold: document.fact(key) for fold, document in documents.items()}
    if make:
        found = {fold: derive(make, fact) for fold, fact in found.items()}
    known = {fold: fact.value for fold, fact in found.items() if isinstance(fact, Fact)}
    if not known:
        return next(iter(found.values()), Missing(Source("run/fold-*/config.json", key)))
    source = Source(files_of(documents), key)
    folds: dict[str, list[int]] = {}
    for fold in documents:
        text = json.dumps(known[fold], sort_keys=True) if fold in known else "unknown"
        folds.setdefault(text, []).append(fold)
    if len(folds) == 1:
        return Fact(next(iter(known.values())), (source,))
    words = [f"{text.strip(chr(34))} in {folds_in_words(which)}" for text, which in folds.items()]
    return Fact("; ".join(words), (source,))


def files_of(documents: Mapping[int, Document]) -> str:
    """One name for the files of several folds: ``run/fold-{0,1}/config.json``."""
    folds = list(documents)
    if len(folds) == 1:
        return documents[folds[0]].name
    return f"run/fold-{{{','.join(map(str, folds))}}}/config.json"


def folds_in_words(folds: Sequence[int]) -> str:
    """``fold 0``, or ``folds 0, 1 and 2``."""
    return f"fold{'s' if len(folds) > 1 else ''} {listed(map(str, folds))}"


def counts(values: Iterable[Any], unknown: str = "unknown") -> dict[str, int]:
    """How often each value is there, the most frequent first."""
    found: dict[str, int] = {}
    for value in values:
        name = unknown if value in (None, "", "n/a") else str(value)
        found[name] = found.get(name, 0) + 1
    return dict(sorted(found.items(), key=lambda pair: (-pair[1], pair[0])))
