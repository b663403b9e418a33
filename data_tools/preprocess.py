"""Bring a raw cohort to MNI space: brain mask, registration, resampling to 2 mm.

    python -m data_tools.preprocess --cohort=RAW --out=MNI [--workers=2] [--registration=syn]

Per patient: sub-*_space-MNI152NLin2009aSym_{dwi,adc,tmax}.nii.gz and masks (intensities stay
physical; ADC in 1e-6 mm2/s), the transform for the way back, qc.json and qc.png; and qc.html of the
cohort, the worst first. Look at the pictures. Patients done before with the same files are kept.
One bad patient does not stop the others: it is listed at the end, exit 1.
"""

import contextlib
import hashlib
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from absl import flags

from data_tools.runtime import atomic, command

FLAGS = flags.FlagValues()

command.heading("Input", FLAGS)
flags.DEFINE_string(
    "cohort",
    None,
    "<FOLDER> Raw cohort: participants.tsv and sub-*/dwi/.",
    required=True,
    flag_values=FLAGS,
)

command.heading("Output", FLAGS)
flags.DEFINE_string(
    "out", None, "<FOLDER> Where the MNI cohort goes.", required=True, flag_values=FLAGS
)

command.heading("Method", FLAGS)
flags.DEFINE_enum(
    "registration",
    "affine",
    ["affine", "syn"],
    "Fit to the template: affine, or syn, which adds a deformation (the core is left out of its "
    "cost).",
    flag_values=FLAGS,
)
flags.DEFINE_bool(
    "labels_within_side",
    False,
    "Label no hypoperfusion and no core on the side opposite the stroke. The choice is kept in "
    "labels.json for build_records and evaluate. An edited mask is used as it is.",
    flag_values=FLAGS,
)

command.heading("Machine", FLAGS)
command.define_workers(FLAGS, "Worker processes, one patient each.")

# Core on the MNI grid and on the patient's own: less than this apart, where it has any size.
CORE_AGREEMENT, CORE_OF_SIZE_ML = 0.25, 5.0

# Raised when what is computed from the same files changes, so that old results are not kept.
PREPROCESS_VERSION = 3
GENERATED_BY = "data_tools.preprocess"


def preprocess_patient(
    participant: str,
    cohort: str,
    out: str,
    side: str,
    kind: str = "affine",
    within_side: bool = False,
) -> dict[str, Any]:
    """Bring one patient to MNI space and write all its files at once.

    Args:
        kind: ``affine`` or ``syn``, see :func:`data_tools.registration.register`.
        within_side: of the labels, for the picture.

    Returns:
        The figures of qc.json, with ``kept`` True if the patient was done before.

    Raises:
        InputError: naming the patient, if a file cannot be used.
    """
    from data_tools import cohort as cohorts
    from data_tools import labels
    from data_tools import patient as patients
    from data_tools.grid import hemisphere
    from data_tools.runtime import peak_memory
    from data_tools.runtime.errors import InputError

    files, faults = cohorts.find_raw_files(cohort, participant)
    if files is None:
        raise InputError("\n".join(fault.what for fault in faults))
    fingerprint = _fingerprint(files.existing(), side, kind, within_side)
    folder = Path(out) / participant
    done = atomic.read_json(folder / "qc.json")
    whole = all(_is_whole(folder / name) for name in done.get("files", {"absent": ""}))
    if whole and done.get("fingerprint") == fingerprint:
        return {**done, "kept": True}
    _check_unedited(folder)
    began = time.monotonic()
    peak_memory.reset()
    native = patients.load_native(files.dwi, files.adc, files.tmax, files.truth)
    mni, quality = patients.to_mni(native, kind)
    core = patients.core_on_grid(mni)
    native_core = labels.core_mask(
        native.dwi.data, native.adc.data, native.brain, native.dwi.voxel_ml
    )
    delayed = None
    if mni.tmax_s is not None:
        delayed = labels.hypoperfusion_mask(
            mni.tmax_s, mni.adc_um2_per_s, mni.coverage, mni.voxel_ml
        )
    core_ml = float(native_core.sum() * native.dwi.voxel_ml)
    core_mni_ml = float(core.sum() * mni.voxel_ml)
    warnings = [
        *quality["warnings"],
        patients.side_contradiction(core, side, mni.voxel_ml),
        None if delayed is None else patients.tmax_contradiction(delayed, side, mni.voxel_ml),
        _core_disagreement(core_ml, core_mni_ml),
    ]
    quality |= {"warnings": [warning for warning in warnings if warning]}
    if within_side:
        half = hemisphere(side)
        core, delayed = core & half, None if delayed is None else delayed & half
    quality = {
        "participant_id": participant,
        **quality,
        "verdict": "poor" if quality["warnings"] else "good",
        "core_native_ml": round(core_ml, 2),
        "core_mni_ml": round(core_mni_ml, 2),
        "seconds": round(time.monotonic() - began, 1),
        "peak_memory_mb": peak_memory.read_mb(),
        "fingerprint": fingerprint,
    }

    # Written to a folder of another name first: a killed run leaves no half patient.
    partial = folder.with_name(f".tmp-{participant}")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    _write_patient(partial, participant, mni, quality, core, delayed)
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)
    return {**quality, "kept": False}


def _check_unedited(folder: Path) -> None:
    """Refuse to replace a patient's folder in which a person added or edited something.

    Raises:
        InputError: naming the files.
    """
    from data_tools.runtime.errors import InputError

    if not folder.is_dir():
        return
    written = atomic.read_json(folder / "qc.json").get("files", {})
    if not isinstance(written, dict):  # names only, by an earlier version
        written = {n: atomic.sha256(folder / n) for n in written if (folder / n).is_file()}
    edited = [
        path.name
        for path in sorted(folder.iterdir())
        if path.name not in ("qc.json", "qc.png")
        and _is_whole(path)
        and written.get(path.name) != atomic.sha256(path)
    ]
    if edited:
        raise InputError(
            f"{folder}: is to be made again, and {', '.join(edited)} was added or edited since; "
            "move it away first (an edited hypoperfusion mask belongs to derivatives/labels of the "
            "raw cohort), or remove the folder. It was left as it is."
        )


def _remove_stale(folder: Path) -> None:
    """Remove an older result of a patient that failed, but nothing that a person made."""
    from data_tools.runtime.errors import InputError

    with contextlib.suppress(InputError):
        _check_unedited(folder)
        shutil.rmtree(folder, ignore_errors=True)


def _core_disagreement(native_ml: float, mni_ml: float) -> str | None:
    larger = max(native_ml, mni_ml)
    if larger < CORE_OF_SIZE_ML or abs(native_ml - mni_ml) <= CORE_AGREEMENT * larger:
        return None
    return (
        f"core is {native_ml:.1f} mL on the DWI's own grid and {mni_ml:.1f} mL on the MNI grid, "
        f"more than {CORE_AGREEMENT:.0%} apart; look at the picture"
    )


def _is_whole(path: Path) -> bool:
    """Whether a file of an earlier run can still be read; one that a person edited can."""
    from data_tools.runtime.errors import InputError
    from data_tools.volumes import open_nifti, read_data

    if not path.is_file() or not path.stat().st_size:
        return False
    if not path.name.endswith(".nii.gz"):
        return True
    try:
        read_data(open_nifti(path, "volume")[0], path.name)
    except InputError:
        return False
    return True


def _write_patient(folder: Path, participant: str, mni, quality: dict, core, delayed) -> None:
    from data_tools import mni_patient
    from data_tools.cohort import mni_file
    from data_tools.grid import GRID_AFFINE
    from data_tools.volumes import save_volume

    volumes = {
        "dwi": mni.dwi,
        "adc": mni.adc_um2_per_s,
        "tmax": mni.tmax_s,
        "desc-brain_mask": mni.brain,
        "desc-coverage_mask": mni.coverage,
        "desc-hypoperfusion_mask": mni.truth,
    }
    for name, data in volumes.items():
        if data is not None:
            save_volume(folder / mni_file("", participant, name).name, data, GRID_AFFINE)
    mni_patient.write_transform(folder, participant, mni.transform)
    atomic.write_bytes(folder / "qc.png", _picture(participant, mni, quality, core, delayed))
    quality["files"] = {path.name: atomic.sha256(path) for path in sorted(folder.iterdir())}
    atomic.write_json(folder / "qc.json", quality)


def _picture(participant: str, mni, quality: dict, core, delayed) -> bytes:
    """DWI and ADC with the edges of the template, the core and the delayed region."""
    from data_tools import pictures, registration
    from data_tools.grid import VOXEL_MM

    tissue, template_brain = registration.template_on_grid()
    edges = [
        pictures.Overlay(template_brain, "template's brain", pictures.YELLOW),
        pictures.Overlay(template_brain & (tissue < 0.5), "template's fluid", pictures.GREEN),
    ]
    masks = [
        pictures.Overlay(mni.brain, "patient's brain", pictures.SKY_BLUE),
        pictures.Overlay(core, "ADC core", pictures.VERMILION, filled=True),
    ]
    if delayed is not None:
        masks.append(pictures.Overlay(delayed, "Tmax 6 s and more", pictures.ORANGE))
    title = (
        f"{participant}: DWI in MNI space, {quality['verdict']}, brain Dice "
        f"{quality['brain_dice_with_template']:.3f}, tissue {quality['tissue_correlation']:.2f}"
        + "".join(f"\n! {warning}" for warning in quality["warnings"])
    )
    spacing = (VOXEL_MM,) * 3
    dwi = pictures.axial_mosaic(
        mni.dwi, [edges[0], *masks], spacing, title, planes=True, brain=mni.brain
    )
    adc = pictures.axial_mosaic(
        mni.adc_um2_per_s, edges, spacing, "ADC, 0 to 2500e-6 mm2/s", panels=8,
        window=(0.0, 2500.0), planes=True, brain=mni.brain,
        footer=f"{pictures.CONVENTION} Research use only.",
    )  # fmt: skip
    return pictures.stacked([dwi, adc])


def preprocess(
    cohort: str,
    out: str,
    workers: int | str = 1,
    kind: str = "affine",
    within_side: bool = False,
) -> tuple[list[dict], dict[str, str]]:
    """Preprocess a cohort; participants.tsv of ``out`` lists the patients that succeeded.

    Args:
        kind: of registration, ``affine`` or ``syn``. within_side: labels of the stroke's side only.

    Returns:
        Quality figures of the patients that succeeded, and message per patient that failed.

    Raises:
        InputError: if the table is faulty, or ``out`` is the raw cohort itself.
    """
    from data_tools import cohort as cohorts
    from data_tools import mni_patient, qc_page
    from data_tools.runtime import atomic, executors
    from data_tools.runtime.errors import InputError

    if Path(out).exists() and not Path(out).is_dir():
        raise InputError(f"--out is a file, {out}; expected a folder")
    if Path(cohort).resolve() == Path(out).resolve():
        raise InputError(f"--out is the raw cohort itself, {out}; choose another folder")
    _check_ours(Path(out))
    table = cohorts.read_participants(cohort)
    atomic.write_json(Path(out) / "dataset_description.json", _description(cohort))
    mni_patient.write_label_settings(out, within_side)
    tasks = [
        (row["participant_id"], cohort, out, row["side"], kind, within_side)
        for _, row in table.iterrows()
    ]
    qualities, failed = {}, {}
    for task, result in executors.map_patients(preprocess_patient, tasks, workers, "preprocess"):
        if isinstance(result, InputError):
            failed[task[0]] = str(result)
            _remove_stale(Path(out) / task[0])
        else:
            qualities[task[0]] = result
    rows = [cohorts.clinical_record(row) for _, row in table.iterrows()]
    if qualities:
        cohorts.write_participants(
            Path(out) / "participants.tsv", [r for r in rows if r["participant_id"] in qualities]
        )
    else:
        # A table of an earlier run would name patients whose folders are gone.
        (Path(out) / "participants.tsv").unlink(missing_ok=True)
    order = [r["participant_id"] for r in rows]
    done = [qualities[p] for p in order if p in qualities]
    failures = {p: failed[p] for p in order if p in failed}
    qc_page.write(Path(out), done, failures, _description(cohort)["Name"])
    return done, failures


def _check_ours(out: Path) -> None:
    """Refuse a folder with anything in it that this command did not write: it would be replaced."""
    from data_tools.runtime.errors import InputError

    if not out.is_dir() or not any(out.iterdir()):
        return
    tools = atomic.read_json(out / "dataset_description.json").get("GeneratedBy", [{}])
    if tools[0].get("Name") != GENERATED_BY:
        raise InputError(
            f"--out {out} is not empty and was not written by this command; choose another folder, "
            "so that nothing in it is replaced"
        )


def _description(cohort: str) -> dict[str, Any]:
    """The raw cohort's description as a derivative's; keeps the word "simulated" where it stood."""
    from data_tools.cohort import described_name

    return {
        "Name": f"{described_name(cohort)} - in MNI space",
        "BIDSVersion": "1.10.0",
        "DatasetType": "derivative",
        "GeneratedBy": [{"Name": GENERATED_BY, "Version": str(PREPROCESS_VERSION)}],
    }


def _fingerprint(files: list[Path], side: str, kind: str, within_side: bool) -> str:
    digest = hashlib.sha256(f"{PREPROCESS_VERSION} {side} {kind} {within_side}".encode())
    for path in files:
        digest.update(path.name.encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def main() -> int:
    """Run the command."""

    with atomic.one_writer(FLAGS.out):
        qualities, failed = preprocess(
            FLAGS.cohort,
            FLAGS.out,
            command.workers(FLAGS),
            FLAGS.registration,
            FLAGS.labels_within_side,
        )
    kept = sum(quality["kept"] for quality in qualities)
    print(f"{len(qualities)} patients in {FLAGS.out} ({kept} were done before)")
    for quality in qualities:
        for warning in quality["warnings"]:
            print(f"warning: {quality['participant_id']}: {warning}", file=sys.stderr)
    for participant, message in failed.items():
        print(f"failed: {participant}: {message}", file=sys.stderr)
    return command.EXIT_SOME_FAILED if failed else command.EXIT_OK


if __name__ == "__main__":
    sys.exit(command.run(main, FLAGS, __doc__))
