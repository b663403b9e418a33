"""MNI cohort -> five subsets of patients -> sharded TFRecords of slabs.

Read the cohort, split the patients, write the shards: into a folder that appears when all of it is
there. The same input gives the same bytes.
"""

import dataclasses
import functools
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from data_tools import cohort as cohorts
from data_tools import intensity, mni_patient, records, slabs, splits
from data_tools.grid import to_frame
from data_tools.manifest import BuildSettings, Manifest, Shard, Subset
from data_tools.network_volumes import network_volumes
from data_tools.runtime import atomic, executors
from data_tools.runtime.errors import InputError
from data_tools.runtime.patient_failure import attempt


def build(
    cohort: str,
    out: str,
    *,
    stride: int,
    shards: int,
    seed: int,
    workers: int | str = 1,
    overwrite: bool = False,
) -> tuple[Manifest, bool]:
    """Build the records of a cohort.

    Args:
        cohort: folder of the MNI cohort.
        out: folder of the records.
        stride: slices from one slab to the next.
        shards: files per subset; a patient's slabs stay in one.
        seed: of the split into five subsets.
        workers: as :func:`data_tools.runtime.executors.map_patients` takes them.
        overwrite: replace records of other settings.

    Returns:
        The manifest, and whether it was there before (same files, same settings).

    Raises:
        InputError: every faulty patient in one message; ``out`` holds something else.
    """
    settings = BuildSettings(stride=stride, shards=shards, seed=seed)
    source = _read(cohort, settings)
    target = Path(out).absolute()
    built = _built_before(target, source, overwrite)
    if built is not None:
        return built, True
    split = _split(source, settings)
    partial = target.with_name(f".tmp-{target.name}")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        manifest = _write(partial, source, split, workers=workers)
        _put_in_place(partial, target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return manifest, False


@dataclasses.dataclass(frozen=True)
class _Source:
    """What the records are made of.

    Attributes:
        cohort: folder of the MNI cohort.
        rows: :func:`data_tools.cohort.clinical_record` of each patient, by name.
        settings: how they are cut.
        fingerprint: checksum of all of it.
    """

    cohort: str
    rows: dict[str, cohorts.Row]
    settings: BuildSettings
    fingerprint: str


def _read(cohort: str, settings: BuildSettings) -> _Source:
    table = cohorts.read_participants(cohort)
    rows = {row["participant_id"]: cohorts.clinical_record(row) for _, row in table.iterrows()}
    return _Source(cohort, rows, settings, _fingerprint(cohort, list(rows), settings))


def _fingerprint(cohort: str, participants: list[str], settings: BuildSettings) -> str:
    """Checksum of everything the records are made of."""
    made_with = [records.SCHEMA_VERSION, dataclasses.asdict(settings)]
    digest = hashlib.sha256(json.dumps(made_with).encode())
    digest.update((Path(cohort) / "participants.tsv").read_bytes())
    if mni_patient.within_side_only(cohort):
        digest.update(mni_patient.WITHIN_SIDE.encode())
    for participant in participants:
        folder = Path(cohort) / participant
        if not folder.is_dir():
            raise InputError(
                f"{participant}: no folder {folder}; expected the patient's MNI volumes. Run "
                "python -m data_tools.preprocess, and give its --out here."
            )
        for path in sorted([*folder.glob("*.nii.gz"), *folder.glob("*_xfm.txt")]):
            digest.update(f"{path.name} {atomic.sha256(path)}".encode())
    return digest.hexdigest()


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


@dataclasses.dataclass(frozen=True)
class _Split:
    """Who goes where.

    Attributes:
        subsets: the names of each.
        shards: of each subset, file by file: the names in it.
        without_truth: patients left out.
    """

    subsets: list[list[str]]
    shards: list[dict[str, list[str]]]
    without_truth: tuple[str, ...]


def _split(source: _Source, settings: BuildSettings) -> _Split:
    cohort = source.cohort
    if not any(cohorts.mni_file(cohort, name, "dwi").is_file() for name in source.rows):
        raise InputError(
            f"{cohort} holds no volumes in MNI space; if it is a raw cohort, run\n"
            f"  python -m data_tools.preprocess --cohort={cohort} --out=MNI\nand give --cohort=MNI"
        )
    with_truth = [name for name in source.rows if cohorts.has_truth(cohort, name)]
    subsets = splits.split_patients(with_truth, settings.seed)
    return _Split(
        subsets,
        [_shards_of(k, subset, settings.shards) for k, subset in enumerate(subsets)],
        tuple(name for name in source.rows if name not in with_truth),
    )


def _shards_of(k: int, subset: list[str], shards: int) -> dict[str, list[str]]:
    count = min(shards, len(subset))
    return {
        f"subset-{k}/slabs-{i:05d}-of-{count:05d}.tfrecord": subset[i::count] for i in range(count)
    }


def _write(folder: Path, source: _Source, split: _Split, *, workers: int | str) -> Manifest:
    """Write shards, splits.json and manifest.json.

    Raises:
        InputError: every faulty patient in one message.
    """
    written, patients = _write_shards(folder, source, split, workers=workers)
    manifest = Manifest(
        schema_version=records.SCHEMA_VERSION,
        cohort=cohorts.described_name(source.cohort),
        settings=source.settings,
        labels={mni_patient.WITHIN_SIDE: mni_patient.within_side_only(source.cohort)},
        fingerprint=source.fingerprint,
        slabs=sum(shard.slabs for shard in written.values()),
        subsets=tuple(
            Subset(
                participants=tuple(names),
                slabs=sum(patients[name]["slabs"] for name in names),
                shards=tuple(written[file] for file in files),
            )
            for names, files in zip(split.subsets, split.shards, strict=True)
        ),
        patients=tuple(
            {**patients[name], "subset": k}
            for k, names in enumerate(split.subsets)
            for name in names
        ),
        without_truth=split.without_truth,
    )
    content = {"seed": source.settings.seed, "subsets": split.subsets}
    atomic.write_json(folder / records.SPLITS, content)
    atomic.write_json(folder / records.MANIFEST, manifest.to_json())
    return manifest


def _write_shards(
    folder: Path, source: _Source, split: _Split, *, workers: int | str
) -> tuple[dict[str, Shard], dict[str, cohorts.Row]]:
    """Every shard by its file, and every patient's figures by name."""
    write = functools.partial(
        _write_shard, folder=str(folder), cohort=source.cohort, stride=source.settings.stride
    )
    tasks = [
        (file, [source.rows[name] for name in names])
        for files in split.shards
        for file, names in files.items()
    ]
    shards: dict[str, Shard] = {}
    patients: dict[str, cohorts.Row] = {}
    faults: list[str] = []
    for task, written in executors.map_patients(write, tasks, workers, "records", unit="shard"):
        if isinstance(written, InputError):
            faults += [_named(written, row["participant_id"]) for row in task[1]]
            continue
        shards[task[0]] = written.shard
        patients.update({patient["participant_id"]: patient for patient in written.patients})
        faults += written.faults
    if faults:
        raise InputError(
            f"{len(faults)} patient(s) cannot be used; nothing was written:\n"
            + "\n".join(sorted(faults))
        )
    return shards, patients


@dataclasses.dataclass(frozen=True)
class _Written:
    """One shard, its patients' figures, and the faults met."""

    shard: Shard
    patients: list[cohorts.Row]
    faults: list[str]


def _write_shard(
    file: str, rows: list[cohorts.Row], *, folder: str, cohort: str, stride: int
) -> _Written:
    patients: list[cohorts.Row] = []
    faults: list[str] = []

    def serialised() -> Iterator[bytes]:
        for row in rows:
            made = attempt(patient_slabs, cohort, row, stride)
            if isinstance(made, InputError):
                faults.append(_named(made, row["participant_id"]))
                continue
            cut, patient = made
            patients.append({**patient, "slabs": len(cut)})
            yield from cut

    shard = records.write_shard(folder, file, serialised())
    return _Written(shard, patients, faults)


def _named(fault: InputError, participant: str) -> str:
    said = str(fault)
    return said if said.startswith(f"{participant}:") else f"{participant}: {said}"


def patient_slabs(cohort: str, row: cohorts.Row, stride: int) -> tuple[list[bytes], cohorts.Row]:
    """All slabs of one patient, serialised, and its volumes for the manifest.

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
    return serialised, described


def _put_in_place(partial: Path, target: Path) -> None:
    """Let new records take the place of older ones, which stand until then."""
    old = target.with_name(f".old-{target.name}")
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        os.replace(target, old)
    os.replace(partial, target)
    shutil.rmtree(old, ignore_errors=True)
