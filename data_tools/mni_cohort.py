"""A raw cohort -> the same patients on the MNI grid: one patient, and all of them.

Nothing is half written: a patient's folder and the cohort's table appear when all of it is there.
"""

import contextlib
import dataclasses
import functools
import hashlib
import shlex
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data_tools import cohort as cohorts
from data_tools import file_names, flow, mni_patient, qc_decisions, qc_page, qc_picture
from data_tools import patient as patients
from data_tools.core_examination import Core, CoreFindings, core_from, examine_core
from data_tools.flow import LeftOut
from data_tools.given_core import load_given_core
from data_tools.grid import GRID_AFFINE
from data_tools.image_files import open_image
from data_tools.overrides import NONE, Overrides
from data_tools.patient import MniPatient, NativePatient
from data_tools.perfusion import calibration, cohort_maps, patient_maps, record
from data_tools.perfusion.arterial_input import NO_ARTERY
from data_tools.quality import Quality
from data_tools.runtime import atomic, executors, peak_memory
from data_tools.runtime.errors import InputError
from data_tools.runtime.patient_failure import attempt
from data_tools.volumes import save_volume

# Raised when what is computed from the same files changes, so that old results are not kept.
PREPROCESS_VERSION = 7
KEPT = "The result of an earlier run was kept"
GIVEN = "given"


@dataclasses.dataclass(frozen=True)
class Preprocessed:
    """A patient that is in the MNI cohort.

    Attributes:
        quality: contents of its qc.json.
        kept: whether it was done before, with the same files and settings.
    """

    quality: Quality
    kept: bool


def preprocess(
    cohort: str,
    out: str,
    *,
    workers: int | str = 1,
    kind: str = "affine",
    within_side: bool = False,
    overrides: Overrides = NONE,
    other_territories: bool = False,
) -> tuple[list[Preprocessed], list[LeftOut]]:
    """Preprocess a cohort; participants.tsv of ``out`` lists the patients that succeeded.

    ``left_out.json`` beside it names the others, at which step they were left out, and why.

    Args:
        cohort: folder of the raw cohort.
        out: folder of the MNI cohort.
        workers: as :func:`data_tools.runtime.executors.map_patients` takes them.
        kind: of registration, ``affine``, ``ants`` or ``syn``.
        within_side: labels of the stroke's side only.
        overrides: what a person says of every patient's images.
        other_territories: do not leave out strokes outside the paper's population.

    Returns:
        The patients that succeeded, and who was left out, in the order of the table.

    Raises:
        InputError: if the table is faulty or leaves out everybody, the decisions in ``out``
            cannot be read, or ``out`` is the raw cohort itself.
    """
    _check_out(cohort, out)
    qc_decisions.read(out)  # a faulty file is refused before the work
    table = cohorts.read_participants(cohort)
    rows = [cohorts.clinical_record(row) for _, row in table.iterrows()]
    left_out = flow.by_table(rows, other_territories=other_territories)
    flow.require_somebody(rows, left_out)
    name = _write_description(Path(out), cohort)
    mni_patient.write_label_settings(out, within_side)
    one = functools.partial(
        preprocess_patient, cohort=cohort, out=out, kind=kind, within_side=within_side,
        overrides=overrides,
    )  # fmt: skip
    sides = {row["participant_id"]: row["side"] for row in rows}
    known = {row["participant_id"]: (row["side"], row["lacks"], row["derived"]) for row in rows}

    def settle(participant: str) -> str:
        said = attempt(
            _settle_older, participant, sides[participant],
            cohort=cohort, out=out, settings=_in_flags(kind, within_side, overrides),
        )  # fmt: skip
        return said if isinstance(said, str) else ""

    for participant, each in left_out.items():  # of an earlier run with another table
        if each.step == flow.TERRITORY:  # or with a flag that was forgotten this time
            settle(participant)
        else:
            attempt(_remove_stale, Path(out) / participant)
    tasks = [(name, *facts) for name, facts in known.items() if name not in left_out]
    done: dict[str, Preprocessed] = {}
    for (participant, *_), result in executors.map_patients(one, tasks, workers, "preprocess"):
        if isinstance(result, InputError):
            reason = "\n".join(filter(None, (str(result), settle(participant))))
            left_out[participant] = LeftOut(
                participant_id=participant, step=flow.PREPROCESS, reason=reason
            )
        else:
            done[participant] = result
    _write_table(Path(out), [row for row in rows if row["participant_id"] in done])
    order = [row["participant_id"] for row in rows]
    succeeded = [done[participant] for participant in order if participant in done]
    lost = [left_out[participant] for participant in order if participant in left_out]
    flow.write(Path(out), lost)
    cohort_maps.write_page_of(cohort, out, order)
    qc_page.write(Path(out), [each.quality for each in succeeded], lost, name)
    return succeeded, lost


def preprocess_patient(
    participant: str,
    side: str,
    lacks: str | None = None,
    derived: str | None = None,
    *,
    cohort: str,
    out: str,
    kind: str = "affine",
    within_side: bool = False,
    overrides: Overrides = NONE,
) -> Preprocessed:
    """Bring one patient to MNI space and write all its files at once.

    Args:
        participant: ``sub-0001``.
        side: of the brain lesion: left, right, bilateral or unknown.
        lacks: ``ADC`` where the table says that there is no map.
        derived: what the table says was computed in place of being measured.
        cohort: folder of the raw cohort.
        out: folder of the MNI cohort.
        kind: ``affine``, ``ants`` or ``syn``, see :func:`data_tools.registration.register`.
        within_side: of the labels, for the picture.
        overrides: what a person says of the images.

    Raises:
        InputError: naming the patient, if a file cannot be used.
    """
    files, faults = cohorts.find_raw_files(cohort, participant, may_lack_one=lacks is not None)
    if files is None:
        raise InputError("\n".join(fault.what for fault in faults))
    said = _in_flags(kind, within_side, overrides)
    files, perfusion = _with_tmax(files, participant, cohort=cohort, out=out)
    overrides = files.overrides(overrides)
    at_s = calibration.threshold_of_map((cohort, out), files.tmax)
    settings = f"{side} {kind} {within_side} {overrides.given()}"
    if at_s is not None:
        settings += f" Tmax {at_s:g} s"
    if lacks is not None:
        settings += f" without {lacks}"
    if derived is not None:
        settings += f" derived {derived}"
    fingerprint = _fingerprint(files.existing(), settings)
    folder = Path(out) / participant
    before = _done_before(folder, fingerprint)
    if before is not None:
        return Preprocessed(before, kept=True)
    atomic.check_writable(folder)
    _check_unedited(folder)
    began = time.monotonic()
    peak_memory.reset()
    native = patients.load_native(
        files.dwi, files.adc, files.tmax, files.truth, b0=files.b0, overrides=overrides,
        may_lack_one=lacks is not None,
    )  # fmt: skip
    if at_s is not None:
        native = dataclasses.replace(native, tmax_threshold_s=at_s)
    mni, found = patients.to_mni(native, kind)
    given = _given_core(native, mni, files) if native.missing else None
    core = examine_core(native, mni, side, core=given)
    warnings = (*core.alarms, *found.warnings, *core.warnings, *perfusion)
    quality = Quality(
        participant_id=participant,
        warnings=warnings,
        registration=dataclasses.replace(
            found.registration, verdict="poor" if warnings else "good"
        ),
        overrides=native.overrides,
        core_native_ml=_rounded(core.native_ml),
        core_mni_ml=_rounded(core.mni_ml),
        derived=derived,
        tmax_from=tmax_from(files.tmax, at_s),
        tmax_threshold_s=mni.tmax_threshold_s,
        seconds=round(time.monotonic() - began, 1),
        peak_memory_mb=peak_memory.read_mb(),
        fingerprint=fingerprint,
        inputs=_inputs(files.existing(), side),
        settings=said,
    )
    if within_side:
        core = core.within(side)
    # Written to a folder of another name first: a killed run leaves no half patient.
    partial = folder.with_name(f".tmp-{participant}")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        quality = _write_patient(partial, mni, quality, core)
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return Preprocessed(quality, kept=False)


def _with_tmax(
    files: cohorts.RawFiles, participant: str, *, cohort: str, out: str
) -> tuple[cohorts.RawFiles, tuple[str, ...]]:
    """Files with a Tmax map made of the raw perfusion series, where only that is there.

    Returns:
        The files, and what the perfusion scan warns of.

    Raises:
        InputError: the series cannot be used, and there is no edited mask either; the map is that
            of another version of this program.
    """
    if files.tmax is None:
        try:
            made = cohort_maps.make_one(
                participant, cohort=cohort, out=out, options=patient_maps.Options()
            )
        except InputError as error:
            kept = cohort_maps.after_failure(
                participant, cohort=cohort, out=out, options=patient_maps.Options()
            )
            said = f"no Tmax, for the raw perfusion series cannot be used: {error}"
            if files.truth is None:
                advice = ["To leave the patient out, give a reason in the column exclude."]
                if str(error).endswith(NO_ARTERY):
                    advice.insert(
                        0, f"Mark an artery, and run python -m {record.GENERATED_BY} first."
                    )
                raise InputError("\n".join(filter(None, (said, kept, *advice)))) from error
            return files, (" ".join(filter(None, (said, kept))),)
        if made is None:
            return files, ()
        files = dataclasses.replace(files, tmax=patient_maps.tmax_path(out, participant))
    else:
        patient_maps.check_current(cohort, participant, files.tmax)
    known = record.of_map(files.tmax)
    return files, () if known is None else tuple(f"perfusion: {each}" for each in known.warnings)


def _given_core(native: NativePatient, mni: MniPatient, files: cohorts.RawFiles) -> Core | None:
    """The core of another program or a person, of a patient whose images do not show it."""
    if files.core is None:
        return None
    mask = load_given_core(files.core, native, may_be_empty=True).mask
    on_grid = mni.transform.bring_mask(mask, native.dwi)
    return core_from(native, mni, (mask, on_grid & mni.brain), GIVEN)


def _rounded(ml: float | None) -> float | None:
    return None if ml is None else round(ml, 2)


def tmax_from(path: Path | None, calibrated_s: float | None = None) -> str | None:
    """How this program made a Tmax map; None of a map of another program, or without one."""
    made_by = None if path is None else record.convention_of(path)
    if made_by is None:
        return None
    return f"{made_by.in_words()}; {record.equivalence(calibrated_s)}"


def _write_patient(folder: Path, mni: MniPatient, quality: Quality, core: CoreFindings) -> Quality:
    """Write every file of a patient; returns the quality with their checksums."""
    participant = quality.participant_id
    volumes = {
        "dwi": mni.dwi,
        "adc": mni.adc_um2_per_s,
        "tmax": mni.tmax_s,
        "desc-brain_mask": mni.brain,
        "desc-coverage_mask": mni.coverage,
        file_names.EDITED_MASKS[mni.truth_is_whole]: mni.truth,
        mni_patient.KNOWN_CORE: core.core.mni if core.core and core.core.by == GIVEN else None,
    }
    for name, data in volumes.items():
        if data is not None:
            save_volume(folder / cohorts.mni_file("", participant, name).name, data, GRID_AFFINE)
    mni_patient.write_transform(folder, participant, mni.transform)
    picture = qc_picture.draw(mni, quality, core=core.mni, delayed=core.delayed)
    atomic.write_bytes(folder / qc_page.PICTURE, picture)
    small = qc_picture.thumbnail(mni, core=core.mni, delayed=core.delayed)
    atomic.write_bytes(folder / qc_page.THUMBNAIL, small)
    files = {path.name: atomic.sha256(path) for path in sorted(folder.iterdir())}
    quality = dataclasses.replace(quality, files=files)
    atomic.write_json(folder / "qc.json", quality.to_json())
    return quality


def _fingerprint(files: Sequence[Path], settings: str) -> str:
    digest = hashlib.sha256(f"{PREPROCESS_VERSION} {settings}".encode())
    for path in files:
        digest.update(path.name.encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _inputs(files: Sequence[Path], side: str) -> str:
    """Checksum of what a patient's images hold, and of what the table says of the side.

    Raises:
        OSError: a file cannot be read.
    """
    digest = hashlib.sha256(f"{PREPROCESS_VERSION} {side}".encode())
    for path in files:
        digest.update(bytes.fromhex(atomic.sha256(path)))
    return digest.hexdigest()


def _in_flags(kind: str, within_side: bool, overrides: Overrides) -> str:
    """Settings as a person gives them to the command; empty for the usual ones."""
    flags = {"registration": None if kind == "affine" else kind, "labels_within_side": within_side}
    said = {name: each for name, each in (flags | overrides.given()).items() if each}
    return " ".join(
        f"--{name}" if each is True else f"--{name}={shlex.quote(str(each))}"
        for name, each in said.items()
    )


def _settle_older(participant: str, side: str, *, cohort: str, out: str, settings: str) -> str:
    """Remove an older result of a patient that failed, if it is of other images.

    Of the same images and side it is good: this time a flag was forgotten or wrong. It waits for a
    run that succeeds; no table names it until then.

    Args:
        participant: ``sub-0001``.
        side: of the brain lesion.
        cohort: folder of the raw cohort.
        out: folder of the MNI cohort.
        settings: those that failed, as flags.

    Returns:
        What to say of a result that was kept; empty where there is none.
    """
    folder = Path(out) / participant
    known = atomic.read_json(folder / "qc.json")
    if known:
        waits = f"{KEPT}, but the patient is left out until a run succeeds."
        try:
            files, _ = cohorts.find_raw_files(cohort, participant, may_lack_one=True)
            made = patient_maps.tmax_path(out, participant)
            if files is not None and files.tmax is None and made.is_file():
                files = dataclasses.replace(files, tmax=made)
            inputs = "" if files is None else _inputs(files.existing(), side)
        except OSError:  # a network that is away for a while, for instance
            return f"{waits} Whether the images have changed cannot be seen now."
        # An earlier version wrote down no inputs.
        if inputs and known.get("inputs") in (None, inputs):
            before = known.get("settings", settings)
            if before == settings:
                return waits
            return f"{waits} It was made with other settings: {before or 'the usual ones'}."
    _remove_stale(folder)
    return ""


def _done_before(folder: Path, fingerprint: str) -> Quality | None:
    """What an earlier run says of a patient, if it had the same input and its files are whole."""
    done = atomic.read_json(folder / "qc.json")
    if done.get("fingerprint") != fingerprint:
        return None
    if not all(_is_whole(folder / name) for name in done.get("files", {"absent": ""})):
        return None
    with contextlib.suppress(KeyError, TypeError):
        return Quality.from_json(done)
    return None


def _check_unedited(folder: Path) -> None:
    """Refuse to replace a patient's folder in which a person added or edited something.

    Raises:
        InputError: naming the files.
    """
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
    """Remove an older result of a patient, but nothing that a person made."""
    with contextlib.suppress(InputError):
        _check_unedited(folder)
        shutil.rmtree(folder, ignore_errors=True)


def _is_whole(path: Path) -> bool:
    """Whether a file of an earlier run can still be read; one that a person edited can."""
    if not path.is_file() or not path.stat().st_size:
        return False
    if not path.name.endswith(".nii.gz"):
        return True
    try:
        open_image(path, "volume").read_finite()
    except InputError:
        return False
    return True


def _check_out(cohort: str, out: str) -> None:
    """Refuse a folder with anything in it that this command did not write: it would be replaced.

    Raises:
        InputError: that, a file, or the raw cohort itself.
    """
    folder = Path(out)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"--out is a file, {out}; expected a folder")
    if Path(cohort).resolve() == folder.resolve():
        raise InputError(f"--out is the raw cohort itself, {out}; choose another folder")
    if not folder.is_dir() or not any(folder.iterdir()):
        return
    if not cohorts.is_preprocessed(folder):
        raise InputError(
            f"--out {folder} is not empty and was not written by this command; choose another "
            "folder, so that nothing in it is replaced"
        )


def _write_description(out: Path, cohort: str | Path) -> str:
    """The raw cohort's description as a derivative's; its name keeps the word "simulated"."""
    said = atomic.read_json(Path(cohort) / cohorts.DESCRIPTION)
    name = f"{cohorts.described_name(cohort)} - in MNI space"
    description: dict[str, Any] = {
        "Name": name,
        "BIDSVersion": "1.10.0",
        "DatasetType": "derivative",
        **{
            key: said[key]
            for key in ("License", "HowToAcknowledge", "SourceDatasets")
            if key in said
        },
        "GeneratedBy": [{"Name": cohorts.GENERATED_BY, "Version": str(PREPROCESS_VERSION)}],
    }
    atomic.write_json(out / cohorts.DESCRIPTION, description)
    return name


def _write_table(out: Path, rows: list[cohorts.Row]) -> None:
    path = out / "participants.tsv"
    if rows:
        cohorts.write_participants(path, rows)
    else:
        # A table of an earlier run would name patients whose folders are gone.
        path.unlink(missing_ok=True)
