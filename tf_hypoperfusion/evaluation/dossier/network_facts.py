"""What the folds' files say about the networks, their training and the software."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from data_tools.runtime.errors import InputError
from tf_hypoperfusion import config
from tf_hypoperfusion.evaluation.dossier import files
from tf_hypoperfusion.evaluation.dossier.fact import (
    Fact,
    Known,
    Missing,
    Source,
    derive,
    first,
    in_words,
)
from tf_hypoperfusion.evaluation.dossier.files import Document, Folders, folds_in_words
from tf_hypoperfusion.training import history
from tf_hypoperfusion.training.history import MONITOR, Row

# Ends a commit of a source tree that differs from it (see provenance.git_commit).
CHANGED = "+changes"


@dataclasses.dataclass(frozen=True, kw_only=True)
class NetworkFacts:
    """Facts about the folds that were trained. Where folds differ, a value says which has which.

    Attributes:
        documents: config.json of each fold.
        folds: which there are.
        roles: which subsets train, tune and test each, in words.
        drawn: whether weights were drawn, for lack of a parent.
        parent: the network that the folds began with, in words.
        epochs_done: of each fold, in words.
        best: epoch of each fold whose weights were kept, and its loss on tuning patients.
        monitored: that this loss was there.
        unfinished: folds with fewer epochs than asked for, if nothing stopped them early; in words.
        commit: of the source.
        changed: whether the source differed from the commit.
        software: versions by name.
        machines: systems and devices.
        final: whether there is a network of all patients beside the folds.
    """

    documents: Mapping[int, Document]
    folds: Known
    roles: Known
    drawn: Known
    parent: Known
    epochs_done: Known
    best: Known
    monitored: Known
    unfinished: Known
    commit: Known
    changed: Known
    software: Known
    machines: Known
    final: Known

    def model(self, name: str) -> Known:
        """A setting of the network."""
        return files.of_networks(self.documents, f"model.{name}")

    def training(self, name: str) -> Known:
        """A setting of the training."""
        return files.of_networks(self.documents, f"training.{name}")

    def said(self, key: str) -> Known:
        """Another value of config.json."""
        return files.of_networks(self.documents, key)


def documents(folders: Folders) -> dict[int, Document]:
    """config.json of each fold; refused are settings that this version does not know."""
    found = {}
    for path in sorted(folders.run.glob("fold-*/config.json")):
        name = path.parent.name
        if name.removeprefix("fold-").isdigit():
            read = files.document(folders, "run", f"{name}/config.json")
            found[int(name.removeprefix("fold-"))] = dataclasses.replace(
                read, refused=_refusal(read)
            )
    return dict(sorted(found.items()))


def _refusal(read: Document) -> str:
    if not read:
        return "not readable"
    try:
        config.from_json(dict(read.content), read.name)
    except InputError as error:
        return str(error).removeprefix(f"{read.name}: ")
    return ""


def collect(folders: Folders, trained: Mapping[int, Document]) -> NetworkFacts:
    """Read the folds' histories, and put together what their files say.

    Args:
        folders: of the study.
        trained: :func:`documents`.
    """
    where = Source("run/fold-*/config.json", "fold")
    rows = {fold: _history(folders, fold) for fold in trained}
    best = {fold: history.best_row(of_fold) for fold, of_fold in rows.items()}
    # They stand in every file, whatever its settings are.
    plain = {fold: dataclasses.replace(each, refused="") for fold, each in trained.items()}
    readable = {fold: each for fold, each in trained.items() if each}
    commit = files.of_networks(plain, "software.git_commit")
    final = files.document(folders, "run", "final/config.json")
    return NetworkFacts(
        documents=trained,
        folds=Fact(list(readable), (dataclasses.replace(where, file=files.files_of(readable)),))
        if readable
        else Missing(where),
        roles=_roles(trained),
        drawn=_drawn(trained),
        parent=files.of_networks(trained, "parent", _parent),
        epochs_done=_of_histories({k: str(len(each)) for k, each in rows.items()}, "epoch"),
        best=_of_histories({k: _best(each) for k, each in best.items()}, MONITOR),
        monitored=_of_histories(
            {k: "yes" if each and MONITOR in each else None for k, each in best.items()}, MONITOR
        ),
        unfinished=_unfinished(trained, rows),
        commit=derive(lambda text: text.replace(CHANGED, ""), commit),
        changed=derive(lambda text: CHANGED in text, commit),
        software=_versions(plain),
        machines=first(_machines(plain), files.of_networks(plain, "devices")),
        final=final.fact("note"),
    )


def tested(document: Document) -> list[int]:
    """The subsets that test a fold; none where its config.json does not say."""
    said = _mapping(document.content.get("subsets")).get("test")
    return [k for k in said if isinstance(k, int)] if isinstance(said, list) else []


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _history(folders: Folders, fold: int) -> list[Row]:
    try:
        return history.read(folders.run / f"fold-{fold}")
    except InputError:
        return []


def _of_histories(said: Mapping[int, str | None], column: str) -> Known:
    """A figure of each fold's history.csv, in words."""
    known = {fold: text for fold, text in said.items() if text and text != "0"}
    if not known:
        return Missing(Source("run/fold-*/history.csv", column))
    source = Source(f"run/fold-{{{','.join(map(str, known))}}}/history.csv", column)
    if len(set(known.values())) == 1 and len(known) == len(said):
        return Fact(next(iter(known.values())), (source,))
    words = [f"fold {fold}: {said[fold] or 'unknown'}" for fold in said]
    return Fact("; ".join(words), (source,))


def _best(row: Row | None) -> str | None:
    if row is None or not math.isfinite(row.get(MONITOR, math.nan)):
        return None
    return f"epoch {row['epoch']:g}, loss {row[MONITOR]:.4f}"


def _roles(trained: Mapping[int, Document]) -> Known:
    found = {fold: each.fact("subsets") for fold, each in trained.items()}
    known = {fold: fact for fold, fact in found.items() if isinstance(fact, Fact)}
    if not known:
        return Missing(Source("run/fold-*/config.json", "subsets"))
    source = Source(files.files_of({fold: trained[fold] for fold in known}), "subsets")

    def words(subsets: dict[int, dict[str, list[int]]]) -> str:
        return "; ".join(
            f"fold {fold}: trained on {_subsets(each['train'])}, tuned on "
            f"{_subsets(each['validation'])}, tested on {_subsets(each['test'])}"
            for fold, each in subsets.items()
        )

    return derive(words, Fact({fold: fact.value for fold, fact in known.items()}, (source,)))


def _subsets(numbers: list[int]) -> str:
    return f"subset{'s' if len(numbers) != 1 else ''} {in_words(numbers)}"


def _drawn(trained: Mapping[int, Document]) -> Known:
    absent = [each.absent("parent") for each in trained.values()]
    missing = next((each for each in absent if isinstance(each, Missing)), None)
    if missing or not absent:
        return missing or Missing(Source("run/fold-*/config.json", "parent"))
    return Fact(True, (Source(files.files_of(trained), "parent"),))


def _parent(said: Any) -> str:
    if not isinstance(said, dict):
        return str(said)
    kind = "SIMULATED patients" if said.get("simulated") else "patients"
    return f"{said.get('name')} (trained on {kind}: {said.get('cohort') or 'cohort unknown'})"


def _unfinished(trained: Mapping[int, Document], rows: Mapping[int, list[Row]]) -> Known:
    """Folds that would go on if their training were started again."""
    asked = {fold: each.fact("training.epochs") for fold, each in trained.items()}
    source = Source(f"{files.files_of(trained)} and history.csv", "training.epochs")
    if not asked or any(isinstance(each, Missing) for each in asked.values()):
        return Missing(source)
    left = []
    for fold, each in trained.items():
        training = each.content["training"]
        if not history.finished(rows[fold], training["epochs"], training.get("patience", 0)):
            left.append(fold)
    return Fact(folds_in_words(left) if left else "", (source,))


def _versions(trained: Mapping[int, Document]) -> Known:
    """Version of each package; where folds differ, which has which."""
    names = {
        name: None
        for each in trained.values()
        for name, version in _mapping(each.content.get("software")).items()
        if version and name != "git_commit"
    }
    found = {name: files.of_networks(trained, f"software.{name}") for name in names}
    known = {name: str(fact.value) for name, fact in found.items() if isinstance(fact, Fact)}
    if not known:
        return Missing(Source("run/fold-*/config.json", "software"))
    return Fact(known, (Source(files.files_of(trained), "software"),))


def _machines(trained: Mapping[int, Document]) -> Known:
    found = []
    for each in trained.values():
        sessions = each.content.get("sessions")
        for session in sessions if isinstance(sessions, list) else ():
            if isinstance(session, dict) and isinstance(session.get("devices"), list):
                devices = session["devices"]
                kinds = [str(device).rsplit("device:", 1)[-1] for device in devices]
                system = session.get("system", "a system that is not named")
                found.append(f"{system} ({in_words(kinds)})")
    source = Source(
        files.files_of(trained) if trained else "run/fold-*/config.json", "sessions[].system"
    )
    if not found:
        return Missing(source)
    return Fact(
        list(dict.fromkeys(found)), (source, dataclasses.replace(source, key="sessions[].devices"))
    )
