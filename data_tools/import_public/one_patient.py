"""One patient of a public data set -> its files in our cohort, and what was done, on record.

The record is written last: whoever has it, with these files, is done.
"""

import dataclasses
import hashlib
import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_tools import cohort as cohorts
from data_tools import file_names
from data_tools.grid import UNKNOWN_SIDE, WANTED_B_S_PER_MM2
from data_tools.image_files import open_image
from data_tools.import_public import derived, sets
from data_tools.import_public.matching import PublicPatient
from data_tools.import_public.sources import Member, copied
from data_tools.plausibility import detect_adc_unit
from data_tools.runtime import atomic
from data_tools.runtime.errors import InputError
from data_tools.volumes import Volume, load_mask, load_volume, save_volume, without_gaps

# Raised when other files are made of the same images.
IMPORT_VERSION = 3
RECORDS = "derivatives/import"
# Of SPES, whose voxels are the same in every direction.
ISOTROPIC = 1.1
# Of the brain without any Tmax: about a half of the head.
LARGE_EMPTY_SHARE = 0.4


@dataclasses.dataclass(frozen=True, kw_only=True)
class Imported:
    """What was done with a patient.

    Attributes:
        participant_id: in our cohort.
        key: of the set.
        folder: in the source.
        side: of Tmax, or unknown.
        lacks: ``ADC`` where there is none.
        taken: of each file that was taken, what it is.
        derived: of each thing that was derived, how.
        left_out: of each file that was not taken, why.
        notes: units, and what reading showed.
        alerts: what a person should look at; said on the terminal too.
        tmax_unit: of the file, by its values; None where there is no Tmax.
        signatures: of the images, by kind.
        fingerprint: of the files that it was made of.
        files: checksums of those that were written, by their place in the cohort.
        copy_of: who has the same voxels and is kept; then nothing is written.
    """

    participant_id: str
    key: str
    folder: str
    side: str
    lacks: str | None
    taken: dict[str, str]
    derived: dict[str, str]
    left_out: dict[str, str]
    notes: tuple[str, ...]
    alerts: tuple[str, ...]
    tmax_unit: str | None
    signatures: dict[str, dict[str, list[float]]]
    fingerprint: str
    files: dict[str, str] = dataclasses.field(default_factory=dict)
    copy_of: str | None = None

    def to_json(self) -> dict[str, Any]:
        """What the record holds."""
        return dataclasses.asdict(self)


def record_file(out: str | Path, name: str) -> Path:
    """Where the record of a patient is."""
    return Path(out, RECORDS, f"{name}_import.json")


def read_record(out: str | Path, patient: PublicPatient) -> Imported | None:
    """The record of a patient who is done, with the same files; None if it is to be done."""
    content = atomic.read_json(record_file(out, patient.name))
    if content.get("fingerprint") != fingerprint(patient):
        return None
    try:
        known = Imported(**content | {key: tuple(content[key]) for key in ("notes", "alerts")})
        whole = all(atomic.sha256(Path(out, f)) == s for f, s in known.files.items())
    except (TypeError, KeyError, OSError, AttributeError):
        return None
    return known if whole else None


def write_record(out: str | Path, done: Imported) -> None:
    """Write what :func:`read_record` reads."""
    atomic.write_json(record_file(out, done.participant_id), done.to_json())


def remove(out: str | Path, name: str) -> None:
    """Remove everything of a patient."""
    record_file(out, name).unlink(missing_ok=True)
    for kind in ("", "perfusion", "labels", "masks"):
        shutil.rmtree(Path(out, "derivatives" if kind else "", kind, name), ignore_errors=True)


def fingerprint(patient: PublicPatient) -> str:
    """Checksum of what a patient's files are, by the archive's own checksums and dates."""
    files = {
        role: [(each.shown, each.size, each.mark) for each in members]
        for role, members in sorted(patient.files.items())
    }
    return hashlib.sha256(json.dumps([IMPORT_VERSION, patient.key, files]).encode()).hexdigest()


def import_patient(name: str, patient: PublicPatient, *, out: str) -> Imported:
    """Read a patient's images and write them into the cohort.

    Args:
        name: of the patient in the cohort.
        patient: with the files.
        out: folder of the cohort.

    Raises:
        InputError: an image is missing, stands twice, cannot be read or is something else; nothing
            of the patient is there then.
    """
    remove(out, name)
    try:
        with tempfile.TemporaryDirectory(prefix=".tmp-import-", dir=out) as folder:
            reader = _Reader(patient, Path(folder))
            if patient.key == "isles2022":
                made = _looks(reader)
            elif patient.key == "spes":
                made = _spes(reader)
            else:
                made = _isles(reader)
        files = _write(Path(out), name, made)
        done = Imported(
            participant_id=name,
            key=patient.key,
            folder=patient.folder,
            side=made.side,
            lacks="ADC" if made.adc is None else None,
            taken=reader.taken,
            derived=made.derived,
            left_out=_left_out(patient, reader.taken),
            notes=tuple(dict.fromkeys([*reader.notes, *made.notes])),
            alerts=made.alerts,
            tmax_unit=made.tmax_unit,
            signatures={
                kind: derived.signature(image)
                for kind, image in (("Tmax", made.tmax_as_stored), ("ADC", made.adc))
                if image is not None
            },
            fingerprint=fingerprint(patient),
            files=files,
        )
        write_record(out, done)
    except BaseException:
        remove(out, name)
        raise
    return done


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Made:
    """The images of a patient as they go into the cohort; ADC in the unit of its file."""

    dwi: Volume
    adc: Volume | None = None
    adc_unit: str | None = None
    tmax: Volume | None = None
    tmax_as_stored: Volume | None = None
    tmax_unit: str | None = None
    penumbra: Volume | None = None
    core: Volume | None = None
    side: str = UNKNOWN_SIDE
    derived: dict[str, str] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()
    alerts: tuple[str, ...] = ()


class _Reader:
    """Reads a patient's images out of the source, and remembers which.

    Attributes:
        patient: whose they are.
        taken: names of what was read, and what it is.
        notes: what reading showed.
    """

    def __init__(self, patient: PublicPatient, folder: Path) -> None:
        self.patient, self._folder = patient, folder
        self.taken: dict[str, str] = {}
        self.notes: list[str] = []

    def has(self, role: str) -> bool:
        """Whether there is a file of a role."""
        return role in self.patient.files

    def volume(self, role: str) -> Volume:
        """An image, with NaN as 0."""
        return self._read(role, lambda path: load_volume(path, role, may_have_gaps=True))

    def mask(self, role: str) -> Volume | None:
        """A mask of 0 and another value; None where there is none."""
        if not self.has(role):
            return None
        return self._read(role, lambda path: load_mask(path, role, may_have_gaps=True))

    def labels(self, role: str) -> Volume | None:
        """An image of the labels 0, 1 and 2; None where there is none."""
        if not self.has(role):
            return None
        image = self._read(role, lambda path: load_volume(path, role, True, may_have_gaps=True))
        if not np.isin(image.data, (0, 1, 2)).all():
            raise InputError(f"{role} {image.path}: expected the labels 0, 1 and 2 only")
        return image

    def untaken(self, role: str) -> list[Volume]:
        """Images that Tmax is compared with and that are not taken, as far as they can be read."""
        found = []
        for at, member in enumerate(self.patient.files.get(role, ())):
            try:
                path = copied(member, self._folder, f"untaken-{at}")
                image = load_volume(path, role, may_have_gaps=True)
            except InputError:
                self.notes.append(f"{role} {member.inner} cannot be read, so Tmax was not compared")
                continue
            found.append(dataclasses.replace(image, path=member.shown))
        return found

    def series(self, role: str) -> tuple[NDArray[np.float32], NDArray[np.float64], str]:
        """A raw series (X, Y, Z, T), its affine, and its name for messages."""
        member, path = self._copied(role)
        try:
            file = open_image(path, role)
            if len(file.plain_shape) != 4:
                shape = " x ".join(map(str, file.shape))
                raise InputError(f"{file.label}: has shape {shape}; expected a series over time")
            data, _ = without_gaps(file.read().reshape(file.plain_shape))
        except InputError as error:
            raise _of_member(error, path, member) from error
        return data, file.place.affine, f"{role} {member.shown}"

    def _read(self, role: str, load: Any) -> Volume:
        member, path = self._copied(role)
        try:
            image = load(path)
        except InputError as error:
            raise _of_member(error, path, member) from error
        self.notes += [note for note in image.reading.notes if note not in self.notes]
        return dataclasses.replace(image, path=member.shown)

    def _copied(self, role: str) -> tuple[Member, Path]:
        found = self._best(role)
        if len(found) != 1:
            if not found:
                title = self.patient.set.title
                also = (
                    f" ({sets.OT_IS_NO_TRUTH})"
                    if role == sets.TMAX and self.has(sets.OUTCOME)
                    else ""
                )
                raise InputError(
                    f"{self.patient.folder}: has no {role}; expected one of every patient of "
                    f"{title}, in a file or folder with the word "
                    f"{'4DPWI' if role == sets.SERIES else role} in its name{also}"
                )
            names = ", ".join(each.inner for each in found)
            raise InputError(
                f"{self.patient.folder}: has {len(found)} files of {role}: {names}; expected one. "
                "Remove the others from a copy of the folder"
            )
        self.taken[found[0].inner] = role
        path = copied(found[0], self._folder, f"image-{len(self.taken)}")
        return found[0], path

    def _best(self, role: str) -> Sequence[Member]:
        """Files of a role, those first whose own names say it: others may lie beside them."""
        found = self.patient.files.get(role, ())
        own = [each for each in found if _says(each.parts[-1], role)]
        return own or found


def _says(name: str, role: str) -> bool:
    from data_tools.import_public.matching import roles_in

    return role in roles_in(file_names.stem(name))


def _of_member(error: InputError, path: Path, member: Member) -> InputError:
    """An error about a copy, as one about what it is a copy of."""
    return InputError(str(error).replace(str(path), member.shown))


def _isles(reader: _Reader) -> _Made:
    """A patient of ISLES 2016 or 2017."""
    stored = reader.volume(sets.TMAX)
    adc = reader.volume(sets.ADC)
    derived.check_is_map(adc, sets.ADC)
    unit = detect_adc_unit(adc, adc.data > 0)
    series, affine, path = reader.series(sets.SERIES)
    dwi, how = derived.dwi_of(adc, series, affine, path)
    notes = (f"ADC is in {unit} by its values",)
    made = _Made(dwi=dwi, adc=adc, adc_unit=unit, derived={"DWI": how}, notes=notes)
    made = _with_tmax(reader, made, stored, adc)
    if made.tmax is not None:
        for outcome in reader.untaken(sets.OUTCOME):
            derived.check_no_outcome(made.tmax.data, made.tmax.affine, outcome)
    return made


def _spes(reader: _Reader) -> _Made:
    """A patient of SPES."""
    dwi = reader.volume(sets.DWI)
    if max(dwi.spacing_mm) > ISOTROPIC * min(dwi.spacing_mm):
        size = " x ".join(f"{each:.3g}" for each in dwi.spacing_mm)
        raise InputError(
            f"DWI {dwi.path}: has voxels of {size} mm; those of ISLES 2015 SPES are 2 mm in every "
            "direction, so these are images of another set"
            + (f". {sets.OT_IS_NO_TRUTH}" if reader.has(sets.LABEL) else "")
        )
    derived.check_is_map(dwi, sets.DWI)
    made = _with_tmax(reader, _Made(dwi=dwi), reader.volume(sets.TMAX), dwi)
    label = reader.mask(sets.LABEL)
    core_label = reader.mask(sets.CORE_LABEL)
    if label is not None and core_label is None and not reader.has(sets.MERGED_LABELS):
        raise InputError(
            f"label {label.path}: has no core label or merged labels beside it, as every label of "
            "SPES has. It may be the infarct after 90 days (OT) of another set, which is never "
            "taken as truth. Put the other labels there, or remove this one from a copy of the "
            "folder: the truth is Tmax >= 6 s then"
        )
    merged = None
    if label is None or core_label is None:
        merged = reader.labels(sets.MERGED_LABELS)
    penumbra, core = derived.penumbra_and_core(label, core_label, merged)
    if penumbra is not None and made.tmax is not None:
        derived.check_label(penumbra, made.tmax.data, made.tmax.affine)
    return dataclasses.replace(made, penumbra=penumbra, core=core)


def _looks(reader: _Reader) -> _Made:
    """A patient of ISLES 2022: no perfusion, so no truth."""
    adc = reader.volume(sets.ADC)
    derived.check_is_map(adc, sets.ADC)
    unit = detect_adc_unit(adc, adc.data > 0)
    lesion = reader.mask(sets.LESION)
    notes = (
        f"ADC is in {unit} by its values",
        "no Tmax and no label of hypoperfusion: of use for looks, not as truth",
    )
    dwi = reader.volume(sets.DWI)
    return _Made(dwi=dwi, adc=adc, adc_unit=unit, core=lesion, notes=notes)


def _with_tmax(reader: _Reader, made: _Made, stored: Volume, brain_of: Volume) -> _Made:
    """With Tmax in s, NaN where the brain has none, and the side by it."""
    derived.check_one_grid(stored, brain_of)
    derived.check_no_other_map(
        stored, (m for kind in sets.OTHER_MAPS for m in reader.untaken(kind))
    )
    brain = brain_of.data > 0
    data, unit = derived.tmax_in_s(stored, brain)
    alerts = []
    absent = stored.reading.absent
    unknown = brain & absent if absent is not None else np.zeros_like(brain)
    if unknown.any():
        alerts.append(
            f"Tmax has no value (NaN or infinite) in {unknown.sum() * stored.voxel_ml:.1f} mL of "
            f"the brain, {unknown.sum() / brain.sum():.0%} of it; nothing is taken as known there"
        )
    if unit != "s":
        alerts.append(f"Tmax was in {unit} by its values, and was brought to s")
    empty = float((data[brain & ~unknown] == 0).mean()) if (brain & ~unknown).any() else 1.0
    if empty >= LARGE_EMPTY_SHARE:
        alerts.append(
            f"Tmax is 0 in {empty:.0%} of the brain: please look whether a part is cut off"
        )
    notes = ("Tmax is in s by its values",) if unit == "s" else ()
    side = derived.side_of(data, stored.affine, brain)
    how = {} if side == UNKNOWN_SIDE else {"side": f"{side}, by Tmax >= 6 s"}
    tmax = dataclasses.replace(stored, data=np.where(unknown, np.float32(np.nan), data))
    return dataclasses.replace(
        made, tmax=tmax, tmax_as_stored=stored, tmax_unit=unit,
        side=side, derived=made.derived | how, notes=(*made.notes, *notes),
        alerts=(*made.alerts, *alerts),
    )  # fmt: skip


def _left_out(patient: PublicPatient, taken: dict[str, str]) -> dict[str, str]:
    """Why each other file was not taken."""
    reasons = {
        each.inner: f"{role}: {sets.LEFT_OUT.get(role, sets.NOT_NEEDED)}"
        for role, members in patient.files.items()
        for each in members
        if each.inner not in taken
    }
    unknown = {each.inner: "its name says nothing that is known" for each in patient.unknown}
    return reasons | unknown


def _write(out: Path, name: str, made: _Made) -> dict[str, str]:
    """Write a patient's files; returns their checksums."""
    stem = out / name / "dwi" / f"{name}"
    perfusion = cohorts.perfusion_folder(out, name) / "perf"
    masks = out / "derivatives"
    written: list[Path] = []

    def image(path: Path, volume: Volume | None, about: dict[str, Any]) -> None:
        if volume is None:
            return
        mask = path.name.endswith("_mask.nii.gz")
        save_volume(path, volume.data > 0 if mask else volume.data, volume.affine)
        sidecar = file_names.beside(path, ".json")
        atomic.write_json(sidecar, about)
        written.extend([path, sidecar])

    how = made.derived.get("DWI")
    image(
        Path(f"{stem}_dwi.nii.gz"), made.dwi,
        {"Derived": f"DWI = {how}"} if how else {"Description": "DWI as published"},
    )  # fmt: skip
    bval = Path(f"{stem}_dwi.bval")
    atomic.write_text(bval, f"{WANTED_B_S_PER_MM2:g}\n")
    bvec = Path(f"{stem}_dwi.bvec")
    atomic.write_text(bvec, "0\n0\n0\n")
    written += [bval, bvec]
    image(Path(f"{stem}_ADC.nii.gz"), made.adc, {"Units": made.adc_unit})
    image(
        perfusion / f"{name}_Tmax.nii.gz", made.tmax,
        {"Units": "s", "Description": "Time to maximum, of the published map"},
    )  # fmt: skip
    image(
        masks / "labels" / name / f"{name}_{file_names.EDITED_MASKS[0]}.nii.gz", made.penumbra,
        {"Description": "Tmax > 6 s, cleaned by hand, as published"},
    )  # fmt: skip
    image(
        masks / "masks" / name / f"{name}_desc-core_mask.nii.gz", made.core,
        {"Description": "The core or lesion as published"},
    )  # fmt: skip
    return {path.relative_to(out).as_posix(): atomic.sha256(path) for path in written}
