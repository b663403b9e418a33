"""All facts of a study, collected once."""

import dataclasses
from pathlib import Path
from typing import Any

from data_tools import cohort as cohorts
from data_tools.runtime import atomic
from tf_hypoperfusion.evaluation.dossier import (
    data_facts,
    files,
    network_facts,
    result_facts,
    stations,
)
from tf_hypoperfusion.evaluation.dossier.data_facts import DataFacts
from tf_hypoperfusion.evaluation.dossier.fact import Known, derive
from tf_hypoperfusion.evaluation.dossier.files import Document, Folders
from tf_hypoperfusion.evaluation.dossier.network_facts import NetworkFacts
from tf_hypoperfusion.evaluation.dossier.result_facts import ResultFacts
from tf_hypoperfusion.evaluation.dossier.stations import Flow
from tf_hypoperfusion.evaluation.report.patients import Patients

# What the facts come from, and the command that writes it.
EXPECTED = (
    ("run", "fold-0/config.json", "tf_hypoperfusion.train"),
    ("run", "fold-0/history.csv", "tf_hypoperfusion.train"),
    ("run", "evaluation.json", "tf_hypoperfusion.evaluate"),
    ("run", "patients.csv", "tf_hypoperfusion.evaluate"),
    ("run", "thresholds.npz", "tf_hypoperfusion.evaluate"),
    ("report", "statistics.csv", "tf_hypoperfusion.report"),
    ("report", "report.json", "tf_hypoperfusion.report"),
    ("records", "manifest.json", "data_tools.build_records"),
    ("records", "splits.json", "data_tools.build_records"),
    ("mni", cohorts.DESCRIPTION, "data_tools.preprocess"),
    ("mni", cohorts.PARTICIPANTS, "data_tools.preprocess"),
    (
        "cohort",
        cohorts.PARTICIPANTS,
        "the authors, data_tools.import_public or data_tools.simulate",
    ),
    ("model", "model_card.json", "tf_hypoperfusion.export"),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Study:
    """What is known of a study.

    Attributes:
        folders: where it lies.
        data: patients, images, reference, division.
        network: networks, training, software.
        result: evaluation and statistics.
        seen: how many patients were predicted by a fold that they trained or tuned.
        flow: how many patients were at each station.
        card: of the exported model.
        absent: files that were looked for and not found, and what writes them.
    """

    folders: Folders
    data: DataFacts
    network: NetworkFacts
    result: ResultFacts
    seen: Known
    flow: Flow
    card: Document
    absent: tuple[tuple[str, str], ...]


def located(
    run: Path,
    *,
    report: Path | None = None,
    records: Path | None = None,
    cohort: Path | None = None,
    model: Path | None = None,
) -> Folders:
    """The study's folders: as given, else as the files of the run name them.

    Args:
        run: trained folds, and their evaluation.
        report: of the evaluation.
        records: None takes those that evaluation.json names.
        cohort: before ``data_tools.preprocess``; no file names it.
        model: an export, or one of its versions.
    """
    about = atomic.read_json(run / "evaluation.json")
    records = records or _there(about.get("records"))
    manifest = atomic.read_json(records / "manifest.json") if records else {}
    mni = _there(about.get("cohort") or about.get("built_from") or manifest.get("cohort_folder"))
    if cohort and cohorts.is_preprocessed(cohort):
        cohort, mni = None, cohort
    return Folders(
        run=run, report=report, records=records, mni=mni, cohort=cohort, model=_version(model)
    )


def _there(said: Any) -> Path | None:
    return Path(said) if isinstance(said, str) and Path(said).is_dir() else None


def _version(model: Path | None) -> Path | None:
    """The newest version of an export, or the folder itself."""
    if model is None or (model / "model_card.json").is_file():
        return model
    numbers = [path for path in model.glob("*/model_card.json") if path.parent.name.isdigit()]
    return max(numbers, key=lambda path: int(path.parent.name)).parent if numbers else model


def collect(folders: Folders, primary: Patients | None = None) -> Study:
    """Read every file.

    Args:
        folders: :func:`located`.
        primary: the patients as the report read them; None where they are not evaluated.
    """
    trained = network_facts.documents(folders)
    result = result_facts.collect(folders, primary)
    data = data_facts.collect(folders, result.rows, trained)
    network = network_facts.collect(folders, trained)
    here = folders.named()
    return Study(
        folders=folders,
        data=data,
        network=network,
        result=result,
        seen=_seen_before(files.document(folders, "records", "manifest.json"), network, result),
        flow=stations.collect(folders, data, network, result),
        card=files.document(folders, "model", "model_card.json"),
        absent=tuple(
            (f"{folder}/{name}", writer)
            for folder, name, writer in EXPECTED
            if folder not in here or not (here[folder] / name).is_file()
        ),
    )


def _seen_before(manifest: Document, network: NetworkFacts, result: ResultFacts) -> Known:
    """Patients whose row names a fold that they are not test patients of."""

    def count(subsets: Any, _roles: Any, _folds: Any) -> int:
        tested = {
            str(fold): {
                name
                for k in network_facts.tested(each)
                if k < len(subsets)
                for name in subsets[k]["participants"]
            }
            for fold, each in network.documents.items()
        }
        return sum(row["participant_id"] not in tested.get(row["fold"], ()) for row in result.rows)

    return derive(count, manifest.fact("subsets"), network.roles, result.folds)
