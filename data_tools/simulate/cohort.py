"""Simulated patients on disk: a raw BIDS cohort, or the MNI cohort that preprocessing would write.

Real heads with painted strokes come as the latter.

A patient whose files all stand is kept, so an interrupted run goes on where it was;
``participants.tsv`` is written last and says that the cohort is whole.
"""

import dataclasses
import functools
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from data_tools import criteria
from data_tools.cohort import transform_file
from data_tools.grid import GRID_AFFINE, SPACE
from data_tools.mni_patient import KNOWN_CORE, write_label_settings, write_transform
from data_tools.runtime import atomic
from data_tools.runtime.errors import InputError
from data_tools.runtime.executors import map_patients
from data_tools.simulate import real_cores
from data_tools.simulate.anatomy import MODEL_VOXEL_ML
from data_tools.simulate.appearance import FIRST
from data_tools.simulate.dsc import acquire_dsc
from data_tools.simulate.dsc_dicom import write_enhanced
from data_tools.simulate.dsc_files import described, write_series, write_truth
from data_tools.simulate.looks import LOOKS
from data_tools.simulate.patient import SimulatedPatient, make_plan, simulate_patient
from data_tools.simulate.shifts import SHIFTS
from data_tools.transform import Transform
from data_tools.volumes import save_volume

if TYPE_CHECKING:
    from data_tools.simulate.painted import PaintedPatient

SPACES = ("native", "mni")
FILES = ("nifti", "dicom")
# Raised whenever the same seed gives other patients than before.
SIMULATION_VERSION = 3
MAX_PATIENTS = 9999  # four digits in sub-0001
MIN_NOISE, MAX_NOISE = 0.1, 2.0
BIDS_VERSION = "1.10.0"
README = (
    "Simulated patients: made by data_tools.simulate, not measured in anyone.\n"
    "They serve to test and to measure software, and say nothing about medicine.\n"
)
PAINTED_NAME = "Simulated lesions painted into real heads"
PAINTED_README = (
    f"{PAINTED_NAME} by data_tools.simulate.\n"
    "The images show real people, so their licence and rules hold for this folder too.\n"
    "Strokes, Tmax, NIHSS and side are simulated. A lesion that a head has of its own lies on\n"
    "the other side, or outside of the coverage where a mask of it was given; each patient's\n"
    "_simulation.json says which head it is, and where its own lesion lies.\n"
    "They serve to test and to measure software, and say nothing about medicine.\n"
)
COLUMNS = {
    "age": {"Description": "Age, simulated", "Units": "year"},
    "sex": {"Description": "Sex, simulated", "Levels": {"M": "male", "F": "female"}},
    "nihss": {"Description": "NIH Stroke Scale score at baseline, 0 to 42, simulated"},
    "side": {
        "Description": "Side of the brain lesion",
        "Levels": {side: side for side in ("left", "right", "bilateral")},
    },
    "occlusion": {
        "Description": "Site of the arterial occlusion",
        "Levels": {
            "ICA": "internal carotid artery",
            **{f"M{n}": f"M{n} segment of the middle cerebral artery" for n in (1, 2, 3, 4)},
            "none": "no occlusion seen",
        },
    },
    "field_strength_t": {"Description": "Field strength of the scanner", "Units": "T"},
    "cohort": {"Description": "Where the patient comes from; 'simulated' for all"},
}


def simulate_cohort(
    out: str | os.PathLike,
    patients: int,
    seed: int,
    *,
    space: str = "native",
    workers: int = 1,
    lesions: str | os.PathLike | None = None,
    noise: float = 1.0,
    target_mismatch: bool = False,
    look: str = "first",
    shift: str | None = None,
    heads: str | os.PathLike | None = None,
    dsc: bool = False,
    files: str = "nifti",
) -> Path:
    """Write a cohort of simulated patients.

    Args:
        out: folder; new, empty, or holding an earlier part of the same cohort.
        patients: how many, 1 to 9999.
        seed: 0 or more. The same seed gives the same bytes, whatever ``workers``.
        space: ``native`` (raw BIDS cohort) or ``mni`` (what preprocessing writes).
        workers: processes.
        lesions: folder of real core masks in MNI (``.nii.gz``, or a ``.tar`` of them); None
            grows the cores.
        noise: of DWI and ADC, times the usual.
        target_mismatch: leave out those whose planned volumes are none; the others keep their
            numbers.
        look: of the patients, one of :data:`~data_tools.simulate.looks.LOOKS`; several, with
            commas between, take turns.
        shift: what is otherwise than in that look, one of
            :data:`~data_tools.simulate.shifts.SHIFTS`; None is nothing.
        heads: table of real heads that the strokes are painted into, in MNI space; see
            :mod:`data_tools.simulate.painted`. None simulates the heads too.
        dsc: write the raw perfusion series in place of the Tmax map, which goes with the rest of
            the truth; see :mod:`data_tools.simulate.dsc`. Native space only.
        files: of that series: ``nifti``, or ``dicom``, one enhanced file of a patient.

    Returns:
        The folder.

    Raises:
        InputError: on a bad argument, or a folder that holds something else.
    """
    settings = Settings(
        seed=seed,
        space=space,
        lesions=None if lesions is None else str(lesions),
        noise=noise,
        target_mismatch=target_mismatch,
        look=look,
        shift=shift,
        heads=None if heads is None else str(heads),
        dsc=dsc,
        files=files,
    )
    _check(out, patients, settings, workers)
    out = Path(out)
    with atomic.one_writer(out):
        numbers = _numbers(patients, settings)
        _prepare(out, numbers, settings)
        write = functools.partial(_write_patient, out_folder=str(out), settings=settings)
        todo = [(number,) for number in numbers if not _is_done(out, number, settings)]
        for _, failure in map_patients(write, todo, workers, "simulating"):
            if isinstance(failure, InputError):
                raise failure
        _write_participants(out, numbers, space)
    return out


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """What the patients of a cohort are like; see :func:`simulate_cohort`.

    Attributes:
        seed: of every patient's generator.
        space: one of :data:`SPACES`.
        lesions: folder of real core masks; None grows the cores.
        noise: of DWI and ADC, times the usual.
        target_mismatch: only patients whose planned volumes are one.
        look: one of :data:`~data_tools.simulate.looks.LOOKS`, or several with commas.
        shift: one of :data:`~data_tools.simulate.shifts.SHIFTS`, or None.
        heads: table of real heads, or None.
        dsc: the raw perfusion series in place of Tmax.
        files: of that series, one of :data:`FILES`.
    """

    seed: int
    space: str
    lesions: str | None
    noise: float
    target_mismatch: bool
    look: str
    shift: str | None
    heads: str | None
    dsc: bool
    files: str = "nifti"

    def __post_init__(self) -> None:
        if self.files not in FILES:
            raise InputError(f"files is {self.files!r}; expected one of {', '.join(FILES)}")
        if self.files != "nifti" and not self.dsc:
            raise InputError(f"--files={self.files} is of perfusion series; give --dsc too")

    def look_of(self, number: int) -> str:
        """The look of a patient: several take turns."""
        looks = self.look.split(",")
        return looks[number % len(looks)]


def _check(out: str | os.PathLike, patients: int, settings: Settings, workers: int) -> None:
    """Refuse what cannot be simulated, before anything is written.

    Raises:
        InputError: on a bad argument, or a folder that cannot be written.
    """
    if not 1 <= patients <= MAX_PATIENTS:
        raise InputError(f"patients is {patients}; expected 1 to {MAX_PATIENTS}")
    if settings.seed < 0:
        raise InputError(f"seed is {settings.seed}; expected 0 or a positive whole number")
    if settings.space not in SPACES:
        raise InputError(f"space is {settings.space!r}; expected one of {', '.join(SPACES)}")
    if not set(settings.look.split(",")) <= set(LOOKS):
        raise InputError(
            f"look is {settings.look!r}; expected one of {', '.join(LOOKS)}, or several with commas"
        )
    if settings.dsc and (settings.space != "native" or settings.heads is not None):
        raise InputError(
            "raw perfusion series lie in native space and in simulated heads; leave out --space "
            "and --heads with --dsc"
        )
    _check_shift(settings)
    _check_heads(settings)
    if workers < 1:
        raise InputError(f"workers is {workers}; expected 1 or more processes")
    if not MIN_NOISE <= settings.noise <= MAX_NOISE:
        raise InputError(
            f"noise is {settings.noise:g}; expected {MIN_NOISE} to {MAX_NOISE} times the usual"
        )
    if not str(out).strip():
        raise InputError("out is empty; expected a folder to write to")
    if settings.lesions is not None:
        real_cores.check(settings.lesions)
    atomic.check_writable(Path(out))


def _check_shift(settings: Settings) -> None:
    """Refuse a shift that would change nothing.

    Raises:
        InputError: no such shift, or one that needs another space or real core masks.
    """
    if settings.shift is None:
        return
    if settings.shift not in SHIFTS:
        raise InputError(f"shift is {settings.shift!r}; expected one of {', '.join(SHIFTS)}")
    shift = SHIFTS[settings.shift]
    if shift.prepared and settings.space != "mni":
        raise InputError(
            f"shift {shift.name} is about the way to MNI space ({shift.says}); expected --space=mni"
        )
    if shift.needs_lesions and settings.lesions is None:
        raise InputError(
            f"shift {shift.name} takes its cores from real masks; expected --lesions=FOLDER"
        )


def _check_heads(settings: Settings) -> None:
    """Refuse what would change nothing of a real head.

    Raises:
        InputError: another space, noise, or a shift of what heads and scanners bring themselves.
    """
    if settings.heads is None:
        return
    if settings.space != "mni":
        raise InputError("strokes are painted in MNI space; expected --space=mni with --heads")
    if settings.noise != 1:
        raise InputError("a real head has its own noise; leave out --noise with --heads")
    if settings.shift is not None:
        changed = SHIFTS[settings.shift].look(FIRST)
        if dataclasses.replace(changed, coupling=FIRST.coupling) != FIRST:
            raise InputError(
                f"shift {settings.shift} changes tissue, scanner or preparation, which real heads "
                "bring themselves; expected one of strokes or their mark with --heads"
            )
    from data_tools.simulate import heads

    heads.read(settings.heads)


def _numbers(patients: int, settings: Settings) -> list[int]:
    """The first so many numbers, of those with a target mismatch if wanted."""
    if not settings.target_mismatch:
        return list(range(1, patients + 1))
    found: list[int] = []
    for number in range(1, MAX_PATIENTS + 1):
        plan = make_plan(settings.seed, number, look=settings.look_of(number), shift=settings.shift)
        if criteria.target_mismatch(plan.hypoperfusion_ml, plan.core_ml):
            found.append(number)
        if len(found) == patients:
            return found
    raise InputError(
        f"patients is {patients}; of seed {settings.seed} only {len(found)} have a target mismatch"
    )


def patient_number(participant_id: str) -> int:
    """``sub-0017`` -> 17.

    Raises:
        InputError: no simulated patient is called so.
    """
    number = participant_id.removeprefix("sub-")
    if len(number) != 4 or not number.isdigit():
        raise InputError(f"{participant_id}: not a simulated patient; expected sub-0001 and so on")
    return int(number)


def truth_path(out: str | os.PathLike, index: int, space: str) -> Path:
    """The JSON file with what the simulation knows of a patient (transform, lesion, row)."""
    name = f"sub-{index:04d}"
    folder = Path(out) / ("derivatives/simulation" if space == "native" else "") / name
    return folder / f"{name}_simulation.json"


def image_paths(
    out: str | os.PathLike, index: int, space: str, dsc: bool = False, *, files: str = "nifti"
) -> dict[str, Path]:
    """Where a patient's images lie.

    Args:
        out: folder of the cohort.
        index: of the patient.
        space: one of :data:`SPACES`.
        dsc: of a cohort with raw perfusion series.
        files: of these series.

    Returns:
        Keys dwi, adc, tmax and, in MNI, brain, coverage and core; with ``dsc`` dsc and vessels.
    """
    out, name = Path(out), f"sub-{index:04d}"
    if dsc:
        stem = out / "derivatives/simulation" / name / f"{name}_desc-truth"
        return image_paths(out, index, space) | {
            "tmax": Path(f"{stem}_Tmax.nii.gz"),
            "vessels": Path(f"{stem}_dseg.nii.gz"),
            "dsc": out / name / "dicom" / f"{name}_dsc.dcm"
            if files == "dicom"
            else out / name / "perf" / f"{name}_dsc.nii.gz",
        }
    if space == "native":
        return {
            "dwi": out / name / "dwi" / f"{name}_dwi.nii.gz",
            "adc": out / name / "dwi" / f"{name}_ADC.nii.gz",
            "tmax": out / "derivatives/perfusion" / name / "perf" / f"{name}_Tmax.nii.gz",
        }
    stem = out / name / f"{name}_space-{SPACE}"
    return {
        "dwi": Path(f"{stem}_dwi.nii.gz"),
        "adc": Path(f"{stem}_adc.nii.gz"),
        "tmax": Path(f"{stem}_tmax.nii.gz"),
        "brain": Path(f"{stem}_desc-brain_mask.nii.gz"),
        "coverage": Path(f"{stem}_desc-coverage_mask.nii.gz"),
        "core": Path(f"{stem}_{KNOWN_CORE}.nii.gz"),
    }


def _is_done(out: Path, index: int, settings: Settings) -> bool:
    """Whether every file of a patient is as it was written; the JSON file came last."""
    space = settings.space
    truth = atomic.read_json(truth_path(out, index, space))
    files = truth.get("sha256")
    if not isinstance(files, dict) or not isinstance(truth.get("participant"), dict):
        return False
    # Cohorts of earlier versions have no core.
    images = image_paths("", index, space, settings.dsc, files=settings.files)
    if not {str(path) for path in images.values()} <= files.keys():
        return False
    return all((out / f).is_file() and atomic.sha256(out / f) == s for f, s in files.items())


def _write_patient(index: int, *, out_folder: str, settings: Settings) -> None:
    out = Path(out_folder)
    patient = _patient(index, settings)
    truth = _truth(patient)
    if settings.space == "native" and isinstance(patient, SimulatedPatient):
        paths, taken = _write_native(out, patient, settings)
        truth |= taken
    else:
        paths = _write_mni(out, patient)
    if not isinstance(patient, SimulatedPatient):
        # By it a voxel holds as much of the patient's tissue as it does in that head.
        folder = paths[0].parent
        write_transform(folder, patient.participant_id, Transform(patient.native_to_mni))
        paths.append(transform_file(out, patient.participant_id))
        truth["painted_into"] = dataclasses.asdict(patient.source)
    sums = {str(path.relative_to(out)): atomic.sha256(path) for path in paths}
    atomic.write_json(truth_path(out, index, settings.space), truth | {"sha256": sums})


def _patient(index: int, settings: Settings) -> "SimulatedPatient | PaintedPatient":
    seed, lesions, look = settings.seed, settings.lesions, settings.look_of(index)
    if settings.heads is None:
        return simulate_patient(
            seed, index, lesions, settings.noise, look=look, shift=settings.shift
        )
    from data_tools.simulate.painted import paint_patient  # reads scanners' files, and so more

    return paint_patient(seed, index, settings.heads, lesions, look=look, shift=settings.shift)


def _write_native(
    out: Path, patient: SimulatedPatient, settings: Settings
) -> tuple[list[Path], dict[str, object]]:
    """The files of a patient, and what more is true of it."""
    native = patient.native
    paths = image_paths(out, patient.plan.index, "native", settings.dsc, files=settings.files)
    note = f"simulated {patient.participant_id}"
    save_volume(paths["dwi"], native.dwi, native.affine, note)
    save_volume(paths["adc"], native.adc_um2_per_s * np.float32(1e-6), native.affine, note)
    taken: dict[str, object] = {}
    if settings.dsc:
        scan, field_t = acquire_dsc(patient), patient.plan.field_strength_t
        if settings.files == "dicom":
            write_enhanced(paths["dsc"], scan, patient.participant_id, field_t)
        else:
            write_series(paths["dsc"], scan, field_t, note)
        name = patient.participant_id
        write_truth(truth_path(out, patient.plan.index, "native").parent / name, scan, note)
        taken["dsc"] = described(scan)
    else:
        save_volume(paths["tmax"], native.tmax_s, native.tmax_affine, note)
    stem = str(paths["dwi"]).removesuffix(".nii.gz")
    b_value = patient.look.scanner.b_s_per_mm2
    sidecar = {
        "Modality": "MR",
        "MagneticFieldStrength": patient.plan.field_strength_t,
        "Manufacturer": "Simulated",
        "ImageComments": f"b = {b_value:g} s/mm2 trace image, simulated",
    }
    atomic.write_json(f"{stem}.json", sidecar)
    atomic.write_text(f"{stem}.bval", f"{b_value:g}\n")
    # A trace image has no single direction; BIDS wants a vector nevertheless.
    atomic.write_text(f"{stem}.bvec", "0\n0\n0\n")
    atomic.write_json(
        str(paths["adc"]).removesuffix(".nii.gz") + ".json",
        {"Units": "mm^2/s", "Description": "Apparent diffusion coefficient, simulated"},
    )
    atomic.write_json(
        str(paths["tmax"]).removesuffix(".nii.gz") + ".json",
        {"Units": "s", "Description": "Time to maximum of the residue function, simulated"},
    )
    sidecars = [
        Path(str(path).removesuffix(".nii.gz") + ending)
        for key, path in paths.items()
        for ending in ((".json", ".bval", ".bvec") if key == "dwi" else (".json",))
        if key != "vessels" and path.suffix != ".dcm"
    ]
    return [*paths.values(), *sidecars], taken


def _write_mni(out: Path, patient: "SimulatedPatient | PaintedPatient") -> list[Path]:
    images = patient.mni()
    paths = image_paths(out, patient.plan.index, "mni")
    real = "" if isinstance(patient, SimulatedPatient) else "stroke in a real head, "
    note = f"simulated {real}{patient.participant_id}"
    for key, data in (
        ("dwi", images.dwi),
        ("adc", images.adc_um2_per_s),
        ("tmax", images.tmax_s),
        ("brain", images.brain),
        ("coverage", images.coverage),
        ("core", patient.mni_core() & images.brain),
    ):
        save_volume(paths[key], data, GRID_AFFINE, note)
    return list(paths.values())


def _truth(patient: "SimulatedPatient | PaintedPatient") -> dict[str, object]:
    # Volumes in MNI mL, before noise and blur; what the images show is measured by describe.
    lesion, plan, voxel_ml = patient.lesion, patient.plan, MODEL_VOXEL_ML
    return {
        "participant": patient.row(),
        "native_to_mni": patient.native_to_mni.tolist(),
        "planned_hypoperfusion_ml": round(plan.hypoperfusion_ml, 3),
        "planned_core_ml": round(plan.core_ml, 3),
        "hypoperfusion_ml": round(float((lesion.hypoperfused | lesion.core).sum()) * voxel_ml, 3),
        "core_ml": round(float(lesion.core.sum()) * voxel_ml, 3),
        "collateral_score": round(lesion.collateral_score, 4),
        "onset_h": round(lesion.onset_h, 2),
        "reperfused": lesion.reperfused,
        "stroke": plan.stroke,
        "look": dataclasses.asdict(patient.look),
    }


def _description(settings: Settings) -> dict[str, object]:
    """What dataset_description.json says of a cohort: its flags too, to know it again."""
    flags = f"--seed={settings.seed} --space={settings.space}"
    painted = settings.heads is not None
    if settings.heads is not None:
        from data_tools.simulate import heads

        flags += f" --heads ({heads.describe(settings.heads)})"
    if settings.look != "first":
        flags += f" --look={settings.look}"
    if settings.shift is not None:
        flags += f" --shift={settings.shift}"
    if settings.noise != 1:
        flags += f" --noise={settings.noise:g}"
    if settings.target_mismatch:
        flags += " --target_mismatch"
    if settings.dsc:
        flags += " --dsc" if settings.files == "nifti" else f" --dsc --files={settings.files}"
    if settings.lesions is not None:
        flags += f" --lesions ({real_cores.describe(settings.lesions)})"
    says = PAINTED_NAME if painted else "Simulated patients, no real ones"
    return {
        "Name": PAINTED_NAME if painted else "Simulated acute stroke cohort",
        "BIDSVersion": BIDS_VERSION,
        "DatasetType": "raw" if settings.space == "native" else "derivative",
        "License": "that of the heads' images" if painted else "CC0",
        "GeneratedBy": [
            {
                "Name": "data_tools.simulate",
                "Version": str(SIMULATION_VERSION),
                "Description": f"{says}: {flags}",
            }
        ],
    }


def _prepare(out: Path, numbers: list[int], settings: Settings) -> None:
    """Check that the folder is free or holds the same cohort; write what describes it."""
    description = _description(settings)
    path = out / "dataset_description.json"
    if path.is_file():
        found = atomic.read_json(path)
        if found != description:
            was = _made_by(found) or found.get("Name") or "not readable"
            raise InputError(
                f"{out} holds another dataset ({was}); expected none, or one made by the same "
                "version with the same flags. Choose another --out or delete it."
            )
        more = [p.name for p in out.glob("sub-*") if p.name > f"sub-{numbers[-1]:04d}"]
        if more:
            raise InputError(
                f"{out} already holds {max(more)}, more than the {len(numbers)} patients asked "
                "for; choose another --out or a larger --patients"
            )
    elif out.exists() and any(out.iterdir()):
        raise InputError(f"{out} is not empty and no simulated cohort; choose another --out")
    (out / "participants.tsv").unlink(missing_ok=True)
    atomic.sweep(out)
    atomic.write_json(path, description)
    atomic.write_text(out / "README", PAINTED_README if settings.heads else README)
    if settings.heads is not None:
        # A lesion that a head has of its own on the other side is no label.
        write_label_settings(out, within_side=True)
    if settings.space == "native":
        made = {"simulation": "true transforms"}
        if settings.dsc:
            made = {"simulation": "true transforms, Tmax and vessels"}
            # BIDS knows no contrast series yet.
            atomic.write_text(out / ".bidsignore", "**/perf/*_dsc.*\n**/dicom/\n")
        else:
            made["perfusion"] = "Tmax maps"
        for name, what in made.items():
            content = {**description, "Name": f"Simulated {what}", "DatasetType": "derivative"}
            atomic.write_json(out / "derivatives" / name / "dataset_description.json", content)


def _made_by(description: Mapping[str, object]) -> str | None:
    """The tool's own line in a dataset_description.json; None if there is none."""
    made_by = description.get("GeneratedBy")
    first = made_by[0] if isinstance(made_by, list) and made_by else None
    return first.get("Description") if isinstance(first, dict) else None


def _write_participants(out: Path, numbers: list[int], space: str) -> None:
    rows = []
    for index in numbers:
        rows.append(atomic.read_json(truth_path(out, index, space))["participant"])
    lines = ["\t".join(rows[0]), *("\t".join(row.values()) for row in rows)]
    atomic.write_json(out / "participants.json", COLUMNS)
    atomic.write_text(out / "participants.tsv", "\n".join(lines) + "\n")
