"""MNI cohort -> subsets of patients -> sharded TFRecords of slabs.

Read the cohort, cut each patient, compare and split the patients, join the shards: in a folder that
appears when all of it is there. The same input in the same place gives the same bytes; elsewhere
only the manifest's ``cohort_folder`` differs.
"""

import dataclasses
import functools
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from data_tools import cohort as cohorts
from data_tools import (
    duplicates,
    file_names,
    flow,
    groups,
    intensity,
    mni_patient,
    qc_decisions,
    records,
    slabs,
    splits,
    subset_table,
)
from data_tools.flow import LeftOut
from data_tools.grid import TMAX_HYPOPERFUSION_S, to_frame
from data_tools.manifest import BuildSettings, Manifest, Shard, Subset
from data_tools.network_volumes import network_volumes
from data_tools.runtime import atomic, executors
from data_tools.runtime.errors import InputError, counted

# What is done with pairs of the same head: --duplicates.
DUPLICATES = REFUSE, TOGETHER, ALLOW = "refuse", "together", "allow"
LEAVE_OUT = ("site",)


def build(
    cohort: str,
    out: str,
    *,
    stride: int,
    shards: int,
    seed: int,
    folds: int | None = None,
    table: str | None = None,
    leave_out: str | None = None,
    stratify: str | None = None,
    same_head: str = REFUSE,
    other_territories: bool = False,
    workers: int | str = 1,
    overwrite: bool = False,
    log: Callable[[str], None] = print,
) -> tuple[Manifest, bool]:
    """Build the records of a cohort.

    Args:
        cohort: folder of the MNI cohort.
        out: folder of the records.
        stride: slices from one slab to the next.
        shards: files per subset; a patient's slabs stay in one.
        seed: of the split.
        folds: number of subsets; None is five.
        table: file that says who is in which subset, in place of a draw.
        leave_out: ``site`` makes each site a subset.
        stratify: what subsets share evenly, as :func:`data_tools.splits.parse_strata` reads it;
            None is volume and side.
        same_head: one of :data:`DUPLICATES`.
        other_territories: do not leave out strokes outside the paper's population.
        workers: as :func:`data_tools.runtime.executors.map_patients` takes them.
        overwrite: replace records of other settings.
        log: gets what is found of the patients before the shards are written.

    Returns:
        The manifest, and whether it was there before (same files, same settings).

    Raises:
        InputError: every faulty patient in one message; settings that contradict each other; a
            table of subsets that cannot be used; patients with the same head; ``out`` holds
            something else.
    """
    _refuse_contradictions(folds=folds, table=table, leave_out=leave_out, stratify=stratify)
    rows = _rows(cohort)
    told = splits.read_table(table, rows) if table else None
    drawn = told is None and leave_out is None
    by = splits.parse_strata(stratify or ",".join(splits.STRATA)) if drawn else ()
    settings = BuildSettings(
        stride=stride,
        shards=shards,
        seed=seed,
        folds=folds or splits.SUBSETS,
        stratify=",".join(by),
        splits=None if told is None else splits.checksum(told),
        leave_out=leave_out,
        duplicates=same_head,
        other_territories=other_territories,
    )
    said = flow.by_table(rows.values(), other_territories=other_territories)
    flow.require_somebody(list(rows), said)
    said = _rejected(cohort, rows, said) | said
    source = _Source(
        cohort=cohort,
        rows=rows,
        settings=settings,
        said=said,
        fingerprint=_fingerprint(
            cohort, {name: row for name, row in rows.items() if name not in said}, settings
        ),
        table=table,
        told=told,
    )
    target = Path(out).absolute()
    built = _built_before(target, source, overwrite)
    if built is not None:
        # The steps before may have been run again, and give other reasons; the cohort may move.
        now = dataclasses.replace(
            built,
            left_out=_left_out(source, built.rows()),
            cohort_folder=str(Path(cohort).resolve()),
            licence=cohorts.licence(cohort),
        )
        if now != built:
            atomic.write_json(target / records.MANIFEST, now.to_json())
        return now, True
    with_truth = _with_truth(source)
    # What can be refused is refused before the work on all patients.
    _divide(source, {name: {**rows[name], "truth_ml": 0.0} for name in with_truth}, ())
    partial = target.with_name(f".tmp-{target.name}")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        manifest = _write(partial, source, with_truth, workers=workers, log=log)
        _put_in_place(partial, target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return manifest, False


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Source:
    """What the records are made of.

    Attributes:
        cohort: folder of the MNI cohort.
        rows: :func:`data_tools.cohort.clinical_record` of each patient, by name.
        settings: how they are cut and divided.
        said: whom the table or a person's decision in qc.html leaves out, by name.
        fingerprint: checksum of all of it.
        table: file that says who is in which subset, or None.
        told: what it says.
    """

    cohort: str
    rows: dict[str, cohorts.Row]
    settings: BuildSettings
    said: dict[str, LeftOut]
    fingerprint: str
    table: str | None
    told: dict[str, int] | None


def _refuse_contradictions(**given: Any) -> None:
    flags = {"folds": "--folds", "table": "--splits", "leave_out": "--leave_out"}
    said = [flag for name, flag in flags.items() if given[name] is not None]
    if len(said) > 1:
        raise InputError(
            f"{' and '.join(said)} contradict each other: each says what the subsets are; give one"
        )
    if given["stratify"] not in (None, "none") and said and said != ["--folds"]:
        raise InputError(
            f"--stratify and {said[0]} contradict each other: with {said[0]} nothing is drawn; "
            "give one"
        )
    folds = given["folds"]
    if folds is not None and not splits.MIN_SUBSETS <= folds <= splits.MAX_SUBSETS:
        raise InputError(
            f"--folds is {folds}; expected {splits.MIN_SUBSETS} to {splits.MAX_SUBSETS}: one "
            "subset tests, one validates, the others train"
        )


def _rows(cohort: str) -> dict[str, cohorts.Row]:
    table = cohorts.read_participants(cohort)
    return {row["participant_id"]: cohorts.clinical_record(row) for _, row in table.iterrows()}


def _rejected(
    cohort: str, rows: dict[str, cohorts.Row], said: dict[str, LeftOut]
) -> dict[str, LeftOut]:
    """Whom a person rejected in qc.html.

    Raises:
        InputError: the decisions cannot be used, or leave nobody.
    """
    before = {each.participant_id for each in cohorts.left_out_before(cohort)}
    rejected = qc_decisions.rejected(cohort, {*rows, *before})
    if all(name in rejected or name in said for name in rows):
        raise InputError(
            f"{Path(cohort) / qc_decisions.FILE} rejects every patient that is left; expected at "
            "least one to keep"
        )
    return {name: each for name, each in rejected.items() if name in rows}


def _fingerprint(cohort: str, rows: dict[str, cohorts.Row], settings: BuildSettings) -> str:
    """Checksum of everything the records are made of.

    Args:
        cohort: folder of the MNI cohort.
        rows: of the patients whom neither the table nor a person leaves out.
        settings: how they are cut and divided.
    """
    digest = hashlib.sha256(json.dumps([records.SCHEMA_VERSION, _made_with(settings)]).encode())
    digest.update((Path(cohort) / "participants.tsv").read_bytes())
    if mni_patient.within_side_only(cohort):
        digest.update(mni_patient.WITHIN_SIDE.encode())
    belonging = groups.groups_of(rows)
    if len(set(belonging.values())) < len(rows):  # early versions parted them
        digest.update(json.dumps(belonging).encode())
    for participant in rows:
        folder = Path(cohort) / participant
        if not folder.is_dir():
            raise InputError(
                f"{participant}: no folder {folder}; expected the patient's MNI volumes. Run "
                "python -m data_tools.preprocess, and give its --out here."
            )
        if cohorts.mni_file(cohort, participant, file_names.EDITED_MASKS[0]).is_file():
            digest.update(b"united with the core")  # early versions left the core out
        threshold_s = mni_patient.tmax_threshold_s(cohort, participant)
        if threshold_s != TMAX_HYPOPERFUSION_S:  # early versions knew no other
            digest.update(f"{participant} Tmax {threshold_s:g} s".encode())
        for path in sorted([*folder.glob("*.nii.gz"), *folder.glob("*_xfm.txt")]):
            digest.update(f"{path.name} {atomic.sha256(path)}".encode())
    return digest.hexdigest()


def _made_with(settings: BuildSettings) -> dict[str, Any]:
    """Settings that change the records.

    What an early version did is left out, as it did: runs trained on its records know them again.
    """
    early = BuildSettings(stride=0, shards=0, seed=0)
    if settings.duplicates != TOGETHER:
        settings = dataclasses.replace(settings, duplicates=early.duplicates)
    always = ("stride", "shards", "seed")
    return {
        name: value
        for name, value in dataclasses.asdict(settings).items()
        if name in always or value != getattr(early, name)
    }


def _built_before(target: Path, source: _Source, overwrite: bool) -> Manifest | None:
    """The manifest of whole records of the same source; None if they are to be built.

    Raises:
        InputError: the folder holds something else that may not be replaced.
    """
    if target.exists() and not target.is_dir():
        raise InputError(f"{target} is a file; give another --out")
    if not target.exists() or not any(target.iterdir()):
        return None
    if not (target / records.MANIFEST).is_file():
        raise InputError(f"{target} is not empty; give another --out")
    try:
        manifest = records.load_manifest(target)
    except InputError as error:
        what = f"holds records that cannot be read ({error})"
    else:
        what = "holds records of other patients or settings"
        if manifest.fingerprint == source.fingerprint:
            damaged = records.damaged_shards(target, manifest)
            if not damaged:
                return manifest
            what = f"holds damaged records ({', '.join(damaged)})"
    if not overwrite:
        raise InputError(f"{target} {what}; give --overwrite or another --out")
    return None


def _with_truth(source: _Source) -> list[str]:
    cohort = source.cohort
    if not any(cohorts.mni_file(cohort, name, "dwi").is_file() for name in source.rows):
        raise InputError(
            f"{cohort} holds no volumes in MNI space; if it is a raw cohort, run\n"
            f"  python -m data_tools.preprocess --cohort={cohort} --out=MNI\nand give --cohort=MNI"
        )
    return [
        name for name in source.rows if name not in source.said and cohorts.has_truth(cohort, name)
    ]


def _left_out(source: _Source, cut: Collection[str]) -> tuple[LeftOut, ...]:
    """Who is not in the records, those among them that never came into the MNI cohort first."""
    before = cohorts.left_out_before(source.cohort)
    here = [
        source.said.get(name) or flow.without_truth(name) for name in source.rows if name not in cut
    ]
    return (*(each for each in before if each.participant_id not in source.rows), *here)


def _divide(
    source: _Source, rows: dict[str, cohorts.Row], same: tuple[duplicates.Pair, ...]
) -> list[list[str]]:
    """The names in each subset.

    Args:
        source: with the settings.
        rows: of the patients with truth, with ``truth_ml``.
        same: pairs that are to stay together.
    """
    belonging = groups.groups_of(source.rows)
    belonging = duplicates.together({name: belonging[name] for name in rows}, same)
    settings = source.settings
    if source.table is not None and source.told is not None:
        return splits.split_as_told(source.table, source.told, rows, belonging)
    if settings.leave_out:
        return splits.split_by_site(rows, belonging)
    by = splits.parse_strata(settings.stratify or "none")
    strata = splits.strata_of(rows, by) if by else None
    return splits.split_patients(belonging, settings.seed, settings.folds, strata)


def _write(
    folder: Path,
    source: _Source,
    with_truth: list[str],
    *,
    workers: int | str,
    log: Callable[[str], None],
) -> Manifest:
    """Write shards, splits.json and manifest.json.

    Raises:
        InputError: every faulty patient in one message; patients with the same head.
    """
    cut = _cut_patients(folder, source, with_truth, workers=workers)
    pairs, notes = _compare(source, {name: each.look for name, each in cut.items()}, log)
    patients = {name: each.patient for name, each in cut.items()}
    subsets = _divide(
        source, patients, tuple(pairs) if source.settings.duplicates == TOGETHER else ()
    )
    rows = [[patients[name] for name in names] for names in subsets]
    log(subset_table.table(rows))
    warnings = [*notes, *_without_lesion(rows)]
    files = [_shards_of(k, names, source.settings.shards) for k, names in enumerate(subsets)]
    written = _join(folder, files, cut)
    manifest = Manifest(
        schema_version=records.SCHEMA_VERSION,
        cohort=cohorts.described_name(source.cohort),
        cohort_folder=str(Path(source.cohort).resolve()),
        licence=cohorts.licence(source.cohort),
        settings=source.settings,
        labels={mni_patient.WITHIN_SIDE: mni_patient.within_side_only(source.cohort)},
        fingerprint=source.fingerprint,
        slabs=sum(shard.slabs for shard in written.values()),
        subsets=tuple(
            Subset(
                participants=tuple(names),
                slabs=sum(patients[name]["slabs"] for name in names),
                shards=tuple(written[file] for file in of_subset),
                about=subset_table.describe(of_rows),
            )
            for names, of_subset, of_rows in zip(subsets, files, rows, strict=True)
        ),
        patients=tuple(
            {**patients[name], "subset": k} for k, names in enumerate(subsets) for name in names
        ),
        left_out=_left_out(source, cut),
        duplicates=tuple(dataclasses.asdict(pair) for pair in pairs),
        warnings=tuple(warnings),
    )
    content = {"seed": source.settings.seed, "subsets": subsets}
    atomic.write_json(folder / records.SPLITS, content)
    atomic.write_json(folder / records.MANIFEST, manifest.to_json())
    return manifest


def _shards_of(k: int, subset: list[str], shards: int) -> dict[str, list[str]]:
    count = min(shards, len(subset))
    return {
        f"subset-{k}/slabs-{i:05d}-of-{count:05d}.tfrecord": subset[i::count] for i in range(count)
    }


@dataclasses.dataclass(frozen=True)
class _CutPatient:
    """A patient's slabs in a file of their own, figures for the manifest, and look."""

    part: Shard
    patient: cohorts.Row
    look: duplicates.Look


def _cut_patients(
    folder: Path, source: _Source, names: list[str], *, workers: int | str
) -> dict[str, _CutPatient]:
    """Every patient by name.

    Slabs do not depend on the split, which depends on the volumes of their labels: so each patient
    is read once, and the files are joined to shards afterwards.

    Raises:
        InputError: every faulty patient in one message.
    """
    cut_one = functools.partial(
        _cut_patient, folder=str(folder), cohort=source.cohort, stride=source.settings.stride
    )
    cut: dict[str, _CutPatient] = {}
    faults: list[str] = []
    tasks = [(name, source.rows[name]) for name in names]
    for (name, _), made in executors.map_patients(cut_one, tasks, workers, "slabs"):
        if isinstance(made, InputError):
            faults.append(_named(made, name))
        else:
            cut[name] = made
    if faults:
        raise InputError(
            f"{counted(len(faults), 'patient')} cannot be used; nothing was written:\n"
            + "\n".join(sorted(faults))
        )
    return {name: cut[name] for name in names}


def _cut_patient(
    name: str, row: cohorts.Row, *, folder: str, cohort: str, stride: int
) -> _CutPatient:
    cut, patient, look = patient_slabs(cohort, row, stride)
    part = records.write_shard(folder, f"patients/{name}.tfrecord", cut)
    return _CutPatient(part, {**patient, "slabs": len(cut)}, look)


def _compare(
    source: _Source, looks: dict[str, duplicates.Look], log: Callable[[str], None]
) -> tuple[list[duplicates.Pair], list[str]]:
    """Pairs of the same head that no group holds together, and the warning about them.

    Raises:
        InputError: there are some, and they are not wanted.
    """
    found = duplicates.find(looks)
    pairs = duplicates.apart(found, groups.groups_of(source.rows))
    if len(found) > len(pairs):
        log(
            f"  {counted(len(found) - len(pairs), 'pair')} with the same head within one group, as "
            "visits of a patient have"
        )
    if not pairs:
        return [], []
    if source.settings.duplicates == REFUSE:
        raise duplicates.refusal(pairs)
    done = (
        "each is kept in one subset (--duplicates=together)"
        if source.settings.duplicates == TOGETHER
        else "they may be in different subsets, trained on and tested (--duplicates=allow)"
    )
    said = f"{counted(len(pairs), 'pair')} of patients with the same head; {done}:"
    return pairs, [f"{said}\n{duplicates.listed(pairs)}"]


def _without_lesion(rows: list[list[cohorts.Row]]) -> list[str]:
    """A warning for each subset that has nothing to learn."""
    return [
        f"subset {k} holds no lesion: no patient of it has a voxel of truth. Folds that train or "
        "validate on such patients alone are refused. Give another --seed, fewer --folds, or "
        "patients with lesions."
        for k, of_subset in enumerate(rows)
        if not subset_table.has_lesion(of_subset)
    ]


def _join(
    folder: Path,
    files: list[dict[str, list[str]]],
    cut: dict[str, _CutPatient],
) -> dict[str, Shard]:
    """Every shard by its file. The disk is what it waits for, so in this process alone."""
    tasks = [
        (file, [cut[name].part for name in names])
        for of_subset in files
        for file, names in of_subset.items()
    ]
    join = functools.partial(_join_shard, folder=str(folder))
    written = {}
    for (file, _), shard in executors.map_patients(join, tasks, 1, "records", unit="shard"):
        if isinstance(shard, InputError):
            raise shard
        written[file] = shard
    (folder / "patients").rmdir()
    return written


def _join_shard(file: str, parts: list[Shard], *, folder: str) -> Shard:
    return records.join_shards(folder, file, parts)


def _named(fault: InputError, participant: str) -> str:
    said = str(fault)
    return said if said.startswith(f"{participant}:") else f"{participant}: {said}"


def patient_slabs(
    cohort: str, row: cohorts.Row, stride: int
) -> tuple[list[bytes], cohorts.Row, duplicates.Look]:
    """All slabs of one patient, serialised, its volumes for the manifest, and its look.

    Args:
        cohort: folder of the MNI cohort.
        row: a :func:`data_tools.cohort.clinical_record`.
        stride: slices from one slab to the next.

    Raises:
        InputError: naming the patient and the file.
    """
    participant = row["participant_id"]
    patient, label, described = mni_patient.load_labelled(cohort, row)
    try:
        volumes = network_volumes(patient.dwi, patient.adc_um2_per_s, patient.brain, label)
    except InputError as error:
        raise InputError(f"{participant}: {error}") from error
    starts = slabs.slab_starts(stride)
    cut = {
        name: slabs.cut_slabs(to_frame(volume), starts)
        for name, volume in volumes.volumes().items()
    }
    nihss = intensity.nihss_feature(row["nihss"])
    serialised = [
        records.encode_slab(
            participant,
            start,
            side=row["side"],
            nihss=nihss,
            adc_mean_um2_per_s=volumes.adc_mean_um2_per_s,
            **{name: cut[name][i] for name in cut},
        )
        for i, start in enumerate(starts)
    ]
    look = duplicates.look_of(patient.dwi, patient.adc_um2_per_s, patient.brain)
    return serialised, described, look


def _put_in_place(partial: Path, target: Path) -> None:
    """Let new records take the place of older ones, which stand until then."""
    old = target.with_name(f".old-{target.name}")
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        os.replace(target, old)
    os.replace(partial, target)
    shutil.rmtree(old, ignore_errors=True)
