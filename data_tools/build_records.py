"""MNI cohort -> five subsets of patients -> sharded TFRecords of slabs.

    python -m data_tools.build_records --cohort=MNI --out=records [--stride=4 --shards=4]

Reads participants.tsv and the volumes that data_tools.preprocess (or data_tools.simulate
--space=mni) wrote, makes the labels (Tmax >= 6 s united with ADC <= 620e-6 mm2/s, cleaned; a
supplied desc-hypoperfusion_mask wins), normalises, cuts slabs of 128 x 128 x 16 and writes them
with a manifest. The folder appears when all of it is written, not before; the same input gives
the same bytes. Patients without truth (no Tmax, no mask) are left out and named.
"""

import hashlib
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

from absl import flags

from data_tools.manifest import BuildSettings, Manifest, Subset
from data_tools.runtime import command

FLAGS = flags.FlagValues()

command.heading("Input", FLAGS)
flags.DEFINE_string(
    "cohort",
    None,
    "<FOLDER> MNI cohort: participants.tsv and sub-*/.",
    required=True,
    flag_values=FLAGS,
)

command.heading("Output", FLAGS)
flags.DEFINE_string("out", "records", "<FOLDER> Where the records go.", flag_values=FLAGS)
flags.DEFINE_bool(
    "overwrite",
    False,
    "Replace records of other patients or settings, or damaged ones.",
    flag_values=FLAGS,
)

command.heading("Slabs", FLAGS)
command.define_stride(FLAGS, 4, cut="slab")
flags.DEFINE_integer(
    "shards",
    4,
    "Files per subset. All slabs of a patient are in the same file.",
    lower_bound=1,
    flag_values=FLAGS,
)
flags.DEFINE_integer(
    "seed", 1, "Seed of the split into five subsets.", lower_bound=0, flag_values=FLAGS
)

command.heading("Machine", FLAGS)
command.define_workers(FLAGS, "Worker processes, one shard each.")


def patient_slabs(cohort: str, row: dict[str, Any], stride: int) -> tuple[list[bytes], dict]:
    """All slabs of one patient, serialised, and its volumes for the manifest.

    Args:
        cohort: MNI cohort. row: a :func:`data_tools.cohort.clinical_record`.

    Raises:
        InputError: naming the patient and the file.
    """
    from data_tools import intensity, records, slabs
    from data_tools.grid import to_frame
    from data_tools.mni_patient import load_labelled
    from data_tools.runtime.errors import InputError

    participant = row["participant_id"]
    patient, label, described = load_labelled(cohort, row)
    try:
        dwi_ratio, adc_ratio = intensity.normalise(
            patient.dwi, patient.adc_um2_per_s, patient.brain
        )
    except InputError as error:
        raise InputError(f"{participant}: {error}") from error
    starts = slabs.slab_starts(stride)
    channels = {
        "dwi": dwi_ratio,
        "adc": adc_ratio,
        "adc_mask": intensity.adc_mask(patient.adc_um2_per_s, patient.brain),
        "truth": label.truth,
        "coverage": label.coverage,
    }
    cut = {name: slabs.cut_slabs(to_frame(volume), starts) for name, volume in channels.items()}
    nihss = intensity.nihss_feature(row["nihss"])
    serialised = [
        records.encode_slab(
            participant, start, row["side"], nihss, **{name: cut[name][i] for name in cut}
        )
        for i, start in enumerate(starts)
    ]
    return serialised, described


def _write_shard(name: str, folder: str, cohort: str, rows: list[dict], stride: int) -> tuple:
    """Write one shard; returns its figures, its patients' and the faults met."""
    from data_tools import records
    from data_tools.runtime.errors import InputError

    patients: list[dict] = []
    faults: list[str] = []

    def slabs():
        for row in rows:
            try:
                serialised, patient = patient_slabs(cohort, row, stride)
            except InputError as error:
                faults.append(str(error))
                continue
            patients.append({**patient, "slabs": len(serialised)})
            yield from serialised

    shard = records.write_shard(folder, name, slabs())
    return shard, patients, faults


def build(
    cohort: str,
    out: str,
    stride: int = 4,
    shards: int = 4,
    seed: int = 1,
    workers: int | str = 1,
    overwrite: bool = False,
) -> tuple[Manifest, bool]:
    """Build the records of a cohort.

    Returns:
        The manifest, and whether it was there before (same files, same settings).

    Raises:
        InputError: every faulty patient in one message; ``out`` holds something else.
    """
    from data_tools import cohort as cohorts
    from data_tools import mni_patient, records, splits
    from data_tools.runtime import atomic, executors
    from data_tools.runtime.errors import InputError

    table = cohorts.read_participants(cohort)
    rows = {row["participant_id"]: cohorts.clinical_record(row) for _, row in table.iterrows()}
    settings = {"stride": stride, "shards": shards, "seed": seed}
    fingerprint = _fingerprint(cohort, list(rows), settings)
    target = Path(out).absolute()
    if target.exists() and not target.is_dir():
        raise InputError(f"{target} is a file; give another --out")
    if target.exists():
        is_ours = (target / records.MANIFEST).is_file()
        if is_ours:
            what = "holds records of other patients or settings"
            try:
                manifest = records.load_manifest(target)
                if manifest.fingerprint == fingerprint:
                    damaged = records.damaged_shards(target, manifest)
                    if not damaged:
                        return manifest, True
                    what = f"holds damaged records ({', '.join(damaged)})"
            except InputError as error:
                what = f"holds records that cannot be read ({error})"
            if not overwrite:
                raise InputError(f"{target} {what}; give --overwrite or another --out")
        elif any(target.iterdir()):
            raise InputError(f"{target} is not empty; give another --out")

    def has_truth(participant: str) -> bool:
        return any(
            cohorts.mni_file(cohort, participant, name).is_file()
            for name in ("tmax", "desc-hypoperfusion_mask")
        )

    if not any(cohorts.mni_file(cohort, participant, "dwi").is_file() for participant in rows):
        raise InputError(
            f"{cohort} holds no volumes in MNI space; if it is a raw cohort, run\n"
            f"  python -m data_tools.preprocess --cohort={cohort} --out=MNI\nand give --cohort=MNI"
        )
    without_truth = [participant for participant in rows if not has_truth(participant)]
    subsets = splits.split_patients([p for p in rows if p not in without_truth], seed)
    partial = target.with_name(f".tmp-{target.name}")
    shutil.rmtree(partial, ignore_errors=True)
    tasks = []
    for k, subset in enumerate(subsets):
        count = min(shards, len(subset))
        for i in range(count):
            name = f"subset-{k}/slabs-{i:05d}-of-{count:05d}.tfrecord"
            part = [rows[participant] for participant in subset[i::count]]
            tasks.append((name, str(partial), cohort, part, stride))
    shard_figures, patients, faults = {}, {}, []
    results = executors.map_patients(_write_shard, tasks, workers, "records", "shard")
    try:
        for task, result in results:
            figures, found, wrong = result
            shard_figures[task[0]] = figures
            patients.update({patient["participant_id"]: patient for patient in found})
            faults += wrong
        shard_figures = dict(sorted(shard_figures.items()))
        if faults:
            raise InputError(
                f"{len(faults)} patient(s) cannot be used; nothing was written:\n"
                + "\n".join(sorted(faults))
            )
        description = cohorts.described_name(cohort)
        manifest = Manifest(
            schema_version=records.SCHEMA_VERSION,
            cohort=description,
            settings=BuildSettings(**settings),
            labels={mni_patient.WITHIN_SIDE: mni_patient.within_side_only(cohort)},
            fingerprint=fingerprint,
            slabs=sum(shard.slabs for shard in shard_figures.values()),
            subsets=tuple(
                Subset(
                    participants=tuple(subset),
                    slabs=sum(patients[p]["slabs"] for p in subset),
                    shards=tuple(
                        shard_figures[t[0]] for t in tasks if t[0].startswith(f"subset-{k}/")
                    ),
                )
                for k, subset in enumerate(subsets)
            ),
            patients=tuple(
                {**patients[p], "subset": k} for k, subset in enumerate(subsets) for p in subset
            ),
            without_truth=tuple(without_truth),
        )
        atomic.write_json(partial / records.SPLITS, {"seed": seed, "subsets": subsets})
        atomic.write_json(partial / records.MANIFEST, manifest.to_json())
        old = target.with_name(f".old-{target.name}")
        shutil.rmtree(old, ignore_errors=True)
        if target.exists():
            os.replace(target, old)
        os.replace(partial, target)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return manifest, False


def _fingerprint(cohort: str, participants: list[str], settings: dict[str, int]) -> str:
    """Checksum of everything the records are made of."""
    from data_tools import mni_patient, records
    from data_tools.runtime import atomic
    from data_tools.runtime.errors import InputError

    digest = hashlib.sha256(json.dumps([records.SCHEMA_VERSION, settings]).encode())
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


def main() -> int:
    """Run the command."""
    from data_tools.runtime import atomic

    with atomic.one_writer(FLAGS.out):
        manifest, kept = build(
            FLAGS.cohort,
            FLAGS.out,
            FLAGS.stride,
            FLAGS.shards,
            FLAGS.seed,
            command.workers(FLAGS),
            FLAGS.overwrite,
        )
    state = "already built" if kept else "built"
    print(f"{FLAGS.out}: {state}, {len(manifest.patients)} patients, {manifest.slabs} slabs")
    for k, subset in enumerate(manifest.subsets):
        print(f"  subset {k}: {len(subset.participants)} patients, {subset.slabs} slabs")
    if manifest.without_truth:
        print(f"  left out, no Tmax and no mask: {', '.join(manifest.without_truth)}")
    return command.EXIT_OK


if __name__ == "__main__":
    sys.exit(command.run(main, FLAGS, __doc__))
