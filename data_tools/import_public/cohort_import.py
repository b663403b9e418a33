"""Sources of public data sets -> one raw cohort: everybody imported, copies kept once, the tables.

Patients who are done are kept, so an interrupted run goes on; ``participants.tsv`` is written last.
"""

import dataclasses
import functools
import os
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from data_tools import cohort as cohorts
from data_tools.grid import TMAX_HYPOPERFUSION_S, UNKNOWN_SIDE
from data_tools.import_public import derived, matching, one_patient, sources
from data_tools.import_public.matching import PublicPatient
from data_tools.import_public.one_patient import Imported
from data_tools.import_public.sets import OUTCOME, SERIES, SETS, TMAX
from data_tools.runtime import atomic, executors
from data_tools.runtime.errors import InputError

GENERATED_BY = "data_tools.import_public"
TABLE = "imported.tsv"
# So many patients have a unit that most of them share.
LEAST_FOR_MAJORITY = 3
COLUMNS = ("participant_id", "folder", "state", "taken", "derived", "left_out", "notes")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Result:
    """What became of everybody.

    Attributes:
        rows: lines of :data:`TABLE`, by its columns.
        imported: who is in the cohort.
        kept: how many of them were done before.
        failed: the reason of each who could not be imported.
        alerts: of each patient, what a person should look at.
        notes: the same of whole sets.
    """

    rows: tuple[dict[str, str], ...]
    imported: tuple[str, ...]
    kept: int
    failed: Mapping[str, str]
    alerts: Mapping[str, tuple[str, ...]]
    notes: tuple[str, ...]


def import_sets(
    given: Sequence[str], out: str | os.PathLike, said: Sequence[str] = (), workers: int | str = 1
) -> Result:
    """Import everybody of some sources into one cohort.

    Args:
        given: zip files and folders.
        out: folder of the cohort: new, empty, or of an interrupted import.
        said: key of each source's set, one for all of them, or none.
        workers: as :func:`data_tools.runtime.executors.map_patients` takes them.

    Returns:
        Who was imported, and who was not.

    Raises:
        InputError: a source is not what is expected, or ``out`` holds something else.
    """
    out = Path(out)
    patients = _everybody(given, said)
    _check_out(out, patients)
    out.mkdir(parents=True, exist_ok=True)
    for left in out.glob(".tmp-*"):  # of a run that was killed
        shutil.rmtree(left, ignore_errors=True)
    _describe(out, patients)
    (out / cohorts.PARTICIPANTS).unlink(missing_ok=True)
    done = {
        name: known
        for name, patient in patients.items()
        if (known := one_patient.read_record(out, patient)) is not None
    }
    kept = set(done)
    tasks = [(name, patient) for name, patient in patients.items() if name not in done]
    failed: dict[str, str] = {}
    one = functools.partial(one_patient.import_patient, out=str(out))
    for (name, _), made in executors.map_patients(one, tasks, workers, "import"):
        if isinstance(made, InputError):
            failed[name] = str(made)
        else:
            done[name] = made
    others, set_notes = _one_tmax_unit(done)
    for name in others:
        del done[name]
        one_patient.remove(out, name)
    failed |= others
    done = _copies_once(out, {name: done[name] for name in patients if name in done})
    rows = tuple(_row(patient, done.get(name), failed) for name, patient in patients.items())
    _write_table(out / TABLE, rows)
    taken = [each for each in done.values() if each.copy_of is None]
    if taken:
        cohorts.write_participants(out / cohorts.PARTICIPANTS, [_participant(e) for e in taken])
    return Result(
        rows=rows,
        imported=tuple(each.participant_id for each in taken),
        kept=sum(each.participant_id in kept for each in taken),
        failed=failed,
        alerts={each.participant_id: each.alerts for each in taken},
        notes=tuple(set_notes),
    )


def count(given: Sequence[str]) -> tuple[int, float]:
    """Patients with what truth is made of, and the GB of images that everybody will have at most.

    Copies of a patient are not known before the images are read, so they count.

    Args:
        given: zip files and folders.

    Raises:
        InputError: a source is not what is expected, or nobody has a Tmax map.
    """
    patients = _everybody(given, ()).values()
    with_truth = sum(TMAX in patient.files for patient in patients)
    if not with_truth:
        raise InputError(
            f"--source={','.join(given)}: nobody there has a Tmax map, so nothing can be learnt; "
            "expected SPES, ISLES 2016 or ISLES 2017"
        )
    images = (
        member.size
        for patient in patients
        for role, files in patient.files.items()
        if role != SERIES
        for member in files
    )
    return with_truth, sum(images) / 1e9


def _everybody(given: Sequence[str], said: Sequence[str]) -> dict[str, PublicPatient]:
    """Patients by name, sets in the order in which copies are kept."""
    if len(said) not in (0, 1, len(given)):
        raise InputError(
            f"--set names {len(said)} sets, and --source {len(given)} sources; expected one for "
            "each source, in their order, or one for all"
        )
    absent = [each for each in given if not Path(each).exists()]
    if absent and len(given) > 1:
        raise InputError(
            f"--source={absent[0]}: no such file or folder. Commas separate sources, so these are "
            f"{len(given)}: {'; '.join(given)}. Rename a file or folder with a comma in its name"
        )
    parts = [sources.archives(each) for each in given]
    if len(said) > 1:
        said = [key for key, of in zip(said, parts, strict=True) for _ in of]
    given = [each for of in parts for each in of]
    real = [os.path.realpath(each) for each in given]
    if len(set(real)) < len(real):
        raise InputError("--source names the same zip or folder twice; expected each once")
    found: dict[str, PublicPatient] = {}
    for at, source in enumerate(given):
        of_this = said[at % len(said)] if said else None
        for patient in matching.patients(source, sources.members(source), of_this):
            if patient.name in found:
                raise InputError(
                    f"{patient.name} is in two sources, as {found[patient.name].folder} and "
                    f"{patient.folder} of {source}; expected each set once, as zip or folder"
                )
            found[patient.name] = patient
    order = list(SETS)
    return dict(sorted(found.items(), key=lambda item: order.index(item[1].key)))


def _check_out(out: Path, patients: Mapping[str, PublicPatient]) -> None:
    """Refuse a folder that holds anything but an earlier run of the same import.

    Raises:
        InputError: that, or no folder can be written there.
    """
    atomic.check_writable(out)
    there = [p for p in (out.iterdir() if out.is_dir() else ()) if not p.name.startswith(".tmp-")]
    if not there:
        return
    tools = atomic.read_json(out / cohorts.DESCRIPTION).get("GeneratedBy")
    by = tools[0].get("Name") if isinstance(tools, list) and tools else None
    if by != GENERATED_BY:
        raise InputError(
            f"--out={out} is not empty and was not written by this command; choose another folder"
        )
    others = sorted(path.name for path in out.glob("sub-*") if path.name not in patients)
    if others:
        raise InputError(
            f"--out={out} holds {others[0]} and maybe others, who are in no --source; give all "
            "sources of the cohort at once, or choose another folder"
        )


def _describe(out: Path, patients: Mapping[str, PublicPatient]) -> None:
    """Where the data come from and under which licence; patients of the simulator have none."""
    used = [SETS[key] for key in dict.fromkeys(each.key for each in patients.values())]
    titles = ", ".join(each.title for each in used)
    files = (
        member for each in patients.values() for found in each.files.values() for member in found
    )
    simulated = any(map(sources.is_simulated, {member.source for member in files}))
    public = {
        "License": "; ".join(f"{each.title}: {each.licence}" for each in used),
        "HowToAcknowledge": "; ".join(f"{each.title}: {each.cite}" for each in used),
        "SourceDatasets": [{"URL": url} for url in dict.fromkeys(e.url for e in used)],
    }
    atomic.write_json(
        out / cohorts.DESCRIPTION,
        {
            "Name": f"Simulated patients in the layout of {titles}, imported"
            if simulated
            else f"{titles} (real patients, public data), imported",
            "BIDSVersion": "1.10.0",
            "DatasetType": "raw",
            **({} if simulated else public),
            "GeneratedBy": [{"Name": GENERATED_BY, "Version": str(one_patient.IMPORT_VERSION)}],
        },
    )


def _one_tmax_unit(done: Mapping[str, Imported]) -> tuple[dict[str, str], list[str]]:
    """One program made all Tmax maps of a set, so they have one unit: that of most patients.

    A map's own values cannot tell Tmax from TTP, whose values are ten times as large.

    Returns:
        Why each patient with another unit fails, and notes on sets of too few patients for that.
    """
    failed: dict[str, str] = {}
    notes = []
    for key in dict.fromkeys(each.key for each in done.values()):
        found = {name: e for name, e in done.items() if e.key == key and e.tmax_unit is not None}
        units = Counter(each.tmax_unit for each in found.values())
        title = SETS[key].title
        if not found:
            continue
        if all(each.side == UNKNOWN_SIDE for each in found.values()):
            notes.append(
                f"{title}: nobody has 1 mL of tissue with Tmax of {TMAX_HYPOPERFUSION_S:g} s and "
                "more; in stroke patients most have. Is each a Tmax map, and no TTP?"
            )
        if len(found) < LEAST_FOR_MAJORITY:
            told = "; ".join(f"{name} in {each.tmax_unit}" for name, each in found.items())
            notes.append(
                f"{title}: too few patients to confirm the unit of Tmax by the others ({told}, by "
                "the values). Is each a Tmax map, and no TTP?"
            )
            continue
        usual = max(units, key=lambda unit: (units[unit], unit == "s"))
        for name, each in found.items():
            if each.tmax_unit != usual:
                file = next(inner for inner, role in each.taken.items() if role == TMAX)
                failed[name] = (
                    f"Tmax {file}: is in {each.tmax_unit} by its values, and {units[usual]} of "
                    f"{len(found)} patients of {title} have it in {usual}; expected one unit in a "
                    "set. Is it another map, such as TTP, or was it rescaled? Put the published "
                    "Tmax map there"
                )
    return failed, notes


def _copies_once(out: Path, done: dict[str, Imported]) -> dict[str, Imported]:
    """Of patients with the same voxels the first is kept; the others' files are removed."""
    kept: list[Imported] = []
    found: dict[str, Imported] = {}
    for name, each in done.items():
        same = next((other for other in kept if _is_copy(each, other)), None)
        if same is None and each.copy_of is None:
            kept.append(each)
            found[name] = each
            continue
        of = same.participant_id if same else str(each.copy_of)
        found[name] = dataclasses.replace(each, copy_of=of, files={})
        if each.copy_of is None:
            one_patient.remove(out, name)
        one_patient.write_record(out, found[name])
    return found


def _is_copy(one: Imported, other: Imported) -> bool:
    return any(
        derived.same_voxels(one.signatures[kind], other.signatures[kind])
        for kind in one.signatures.keys() & other.signatures.keys()
    )


def _participant(done: Imported) -> cohorts.Row:
    """The line of ``participants.tsv``; nothing is known that the images do not show."""
    row: cohorts.Row = dict.fromkeys(cohorts.COLUMNS)
    return row | {
        "participant_id": done.participant_id,
        "side": None if done.side == UNKNOWN_SIDE else done.side,
        "cohort": SETS[done.key].title,
        "lacks": done.lacks,
        "derived": ", ".join(done.derived) or None,
    }


def _row(
    patient: PublicPatient, done: Imported | None, failed: Mapping[str, str]
) -> dict[str, str]:
    row = dict.fromkeys(COLUMNS, "n/a") | {
        "participant_id": patient.name, "folder": patient.folder,
    }  # fmt: skip
    if done is None:
        return row | {"state": "failed", "notes": failed[patient.name]}
    if done.copy_of is not None:
        what = f"the same voxels as {done.copy_of}, who is kept"
        return row | {"state": "copy", "notes": what}

    def listed(values: Mapping[str, Any]) -> str:
        return "; ".join(f"{name}: {what}" for name, what in values.items()) or "n/a"

    notes = [*done.alerts, *done.notes]
    notes += ["no ADC can be made; the network goes without"] if done.lacks else []
    return row | {
        "state": "imported",
        "taken": listed({role: name for name, role in done.taken.items()}),
        "derived": listed(done.derived),
        "left_out": listed(done.left_out),
        "notes": "; ".join(notes) or "n/a",
    }


def _write_table(path: Path, rows: Sequence[Mapping[str, str]]) -> None:
    lines = ["\t".join(COLUMNS)]
    lines += ["\t".join(" ".join(row[name].split()) for name in COLUMNS) for row in rows]
    atomic.write_text(path, "\n".join(lines) + "\n")


def in_brief(row: Mapping[str, str], alerts: Sequence[str] = ()) -> str:
    """A line of the table for a terminal: what each file is, not how it is called.

    Args:
        row: of :data:`TABLE`.
        alerts: of the patient, said at the end.
    """
    name, state = row["participant_id"], row["state"]
    if state != "imported":
        return f"{name}  {state}: {row['notes']}"

    def kinds(cell: str, at: int) -> list[str]:
        return [each.split(": ")[at] for each in cell.split("; ")] if cell != "n/a" else []

    left_out = dict.fromkeys(kinds(row["left_out"], 1))
    words = [f"took {', '.join(kinds(row['taken'], 0))}"]
    if row["derived"] != "n/a":
        words.append(f"derived {', '.join(kinds(row['derived'], 0))}")
    if left_out:
        reason = " (never truth)" if OUTCOME in left_out else ""
        words.append(f"left out {', '.join(left_out)}{reason}")
    return f"{name}  {'; '.join([*words, *alerts])}"
