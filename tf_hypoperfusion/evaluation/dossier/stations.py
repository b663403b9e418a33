"""The flow of patients from the cohort's table to the evaluation, each station by its own file."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from data_tools import flow
from data_tools.flow import LeftOut
from data_tools.runtime.errors import counted
from tf_hypoperfusion.evaluation.dossier import files, network_facts
from tf_hypoperfusion.evaluation.dossier.data_facts import MANIFEST, DataFacts
from tf_hypoperfusion.evaluation.dossier.fact import Fact, Known, Missing, Source, derive, unique
from tf_hypoperfusion.evaluation.dossier.files import Document, Folders
from tf_hypoperfusion.evaluation.dossier.network_facts import NetworkFacts
from tf_hypoperfusion.evaluation.dossier.result_facts import ResultFacts

# Who is left out between two stations, by the steps of data_tools.flow.
STATIONS = (
    ("Listed in the cohort's table", ()),
    ("Eligible by the table", (flow.EXCLUDED, flow.TERRITORY)),
    ("In MNI space", (flow.PREPROCESS,)),
    ("In the records", (flow.QUALITY, flow.TRUTH)),
    ("Test patients of the folds", (flow.FOLD,)),
    ("Evaluated", (flow.EVALUATE,)),
)


@dataclasses.dataclass(frozen=True)
class Station:
    """A station of the flow.

    Attributes:
        name: in words.
        count: how many patients arrived; missing if nothing says it.
        lost: on the way to it: the step, how many, and why.
    """

    name: str
    count: Known
    lost: tuple[tuple[str, int, Mapping[str, int]], ...] = ()

    @property
    def lost_count(self) -> int:
        """How many were lost on the way to it."""
        return sum(number for _, number, _ in self.lost)


@dataclasses.dataclass(frozen=True)
class Flow:
    """The stations in their order.

    Attributes:
        stations: the first is the cohort's table.
        reasons: where it says who was left out.
        faults: what does not add up.
    """

    stations: tuple[Station, ...]
    reasons: Known
    faults: tuple[str, ...]


def collect(folders: Folders, data: DataFacts, network: NetworkFacts, result: ResultFacts) -> Flow:
    """Count the patients at each station.

    Args:
        folders: of the study.
        data: whose tables are counted.
        network: whose folds were trained.
        result: who was evaluated.
    """
    reasons = _reasons(folders, result.about)
    lost = flow.counted(reasons.value) if isinstance(reasons, Fact) else {}
    in_folds = _in_folds(files.document(folders, "records", "manifest.json"), network, result)
    by_table: Known = Missing(Source("mni/left_out.json", "left_out"))
    known = [
        data.listed, by_table, data.preprocessed, _of_records(data), in_folds, result.evaluated
    ]  # fmt: skip
    if isinstance(reasons, Fact):
        known = _filled(known, lost, reasons)
    why = {step: (flow.STEPS[step], sum(of.values()), of) for step, of in lost.items()}
    stations = tuple(
        Station(name, count, tuple(why[step] for step in steps if step in why))
        for (name, steps), count in zip(STATIONS, known, strict=True)
    )
    return Flow(stations, reasons, tuple(_faults(stations)))


def _of_records(data: DataFacts) -> Known:
    """Patients of the manifest; a fact of patients.csv counts others."""
    visits = data.visits
    if isinstance(visits, Fact) and visits.sources[0].file == MANIFEST:
        return visits
    return Missing(Source(MANIFEST, "patients"))


def _reasons(folders: Folders, about: Document) -> Known:
    """Who was left out, from the last step that says so."""
    names, steps = about.fact("left_out"), about.fact("left_out_at")
    lines = derive(
        lambda why, where: [
            {"participant_id": name, "step": where.get(name), "reason": reason}
            for name, reason in why.items()
        ],
        names,
        steps,
    )
    if isinstance(lines, Fact) and (found := flow.from_json(lines.value)) is not None:
        return Fact(found, lines.sources)
    for folder, name in (("records", "manifest.json"), ("mni", flow.FILE)):
        said = files.document(folders, folder, name).fact("left_out")
        if isinstance(said, Fact) and (found := flow.from_json(said.value)) is not None:
            return Fact(found, said.sources)
    return Missing(Source("run/evaluation.json", "left_out"))


def _in_folds(manifest: Document, network: NetworkFacts, result: ResultFacts) -> Known:
    """Test patients of the folds that were evaluated."""
    subsets = manifest.fact("subsets")
    evaluated = {row.get("fold") for row in result.rows}
    if not evaluated or "all" in evaluated:
        return Missing(Source("run/patients.csv", "fold"))

    def add_up(all_subsets: Sequence[Any], _: Any) -> int:
        tested = {
            k
            for fold, each in network.documents.items()
            if str(fold) in evaluated
            for k in network_facts.tested(each)
        }
        return sum(len(all_subsets[k]["participants"]) for k in tested if k < len(all_subsets))

    return derive(add_up, subsets, network.roles)


def _filled(
    counts: Sequence[Known], lost: Mapping[str, Mapping[str, int]], reasons: Fact
) -> list[Known]:
    """Stations without a file of their own: the next one, and who was lost on the way to it."""
    filled, after = list(counts), None
    for k in reversed(range(len(filled))):
        if isinstance(filled[k], Missing) and isinstance(after, Fact):
            steps = STATIONS[k + 1][1]
            number = after.value + sum(sum(lost.get(step, {}).values()) for step in steps)
            filled[k] = Fact(number, unique((*after.sources, *reasons.sources)))
        after = filled[k]
    return filled


def _faults(stations: Sequence[Station]) -> list[str]:
    found = []
    for before, after in zip(stations, stations[1:], strict=False):
        if isinstance(before.count, Fact) and isinstance(after.count, Fact):
            expected = before.count.value - after.lost_count
            if expected != after.count.value:
                found.append(
                    f"{before.name}: {before.count.value}, {counted(after.lost_count, 'patient')} "
                    f"left out; {after.name}: {after.count.value}, not {expected} "
                    f"({before.count.sources[0]}; {after.count.sources[0]})"
                )
    return found


def in_words(found: Flow) -> Known:
    """The flow as one fact: "43 listed, 43 preprocessed..."."""
    known = [each for each in found.stations if isinstance(each.count, Fact)]
    if not known or isinstance(found.reasons, Missing):
        return (
            found.reasons
            if isinstance(found.reasons, Missing)
            else Missing(Source("run", "patients"))
        )
    words = [
        f"{each.name.lower()}: {each.count.value}" for each in known if isinstance(each.count, Fact)
    ]
    sources = [s for each in known if isinstance(each.count, Fact) for s in each.count.sources]
    return Fact("; ".join(words), unique((*sources, *found.reasons.sources)))


def losses_in_words(left_out: Sequence[LeftOut]) -> str:
    """Why patients were left out; nobody is named."""
    return flow.in_words(left_out) or "none"
