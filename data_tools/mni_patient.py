"""A patient of an MNI cohort, read back and checked: the counterpart of ``preprocess``."""

import functools
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data_tools import labels
from data_tools.cohort import Row, label_settings_file, mni_file, transform_file, warp_file
from data_tools.file_names import EDITED_MASKS, TRUTH_MASK
from data_tools.grid import GRID_AFFINE, GRID_SHAPE, TMAX_HYPOPERFUSION_S, hemisphere
from data_tools.image_files import open_image
from data_tools.patient import MIN_COVERED_SHARE, MniPatient
from data_tools.plausibility import check_tmax_seconds, detect_adc_unit
from data_tools.runtime import atomic
from data_tools.runtime.errors import InputError
from data_tools.transform import Transform
from data_tools.volumes import (
    Volume,
    load_mask,
    load_volume,
    require_grid,
    save_volume,
)

WITHIN_SIDE = "within_stroke_side"
KNOWN_CORE = "desc-core_mask"
PREPROCESS_AGAIN = "run python -m data_tools.preprocess again"
# No head is that small or large beside the template's; fits that are taken lie well inside.
DETERMINANT_RANGE = (0.1, 10.0)


def load_mni(cohort: str | os.PathLike, participant: str) -> MniPatient:
    """Read a patient's volumes on the MNI grid.

    ``tmax_s`` and ``truth`` are None where the files are absent. Without a transform the
    patient's brain is taken to have the template's size (simulated in MNI space). Where
    ``preprocess`` had no ADC map, its volume is 0 everywhere.

    Raises:
        InputError: a file is missing or unreadable, lies on another grid, ADC is not in 1e-6
            mm2/s, Tmax not in s, or coverage holds too little of the brain.
    """

    def read(name: str, loader=load_volume) -> NDArray[np.float32]:
        return require_grid(loader(mni_file(cohort, participant, name), name), name)

    def there(name: str) -> bool:
        # A link to a file that is gone is there too, and is then complained of.
        return os.path.lexists(mni_file(cohort, participant, name))

    has_adc = has_adc_map(cohort, participant)
    dwi = read("dwi")
    adc = read("adc", functools.partial(load_volume, may_be_constant=not has_adc))
    brain = read("desc-brain_mask", load_mask) > 0
    coverage = read("desc-coverage_mask", load_mask) > 0
    if not brain.any():
        raise InputError("desc-brain_mask is empty; expected the patient's brain")
    unit = detect_adc_unit(Volume(adc, GRID_AFFINE, "in MNI space"), brain) if has_adc else None
    if unit not in ("1e-6 mm2/s", None):
        raise InputError(
            f"the ADC volume is in {unit}; an MNI cohort holds ADC in 1e-6 mm2/s. "
            "Run python -m data_tools.preprocess on the raw cohort."
        )
    share = (coverage & brain).sum() / max(brain.sum(), 1)
    if share < MIN_COVERED_SHARE:
        raise InputError(
            f"desc-coverage_mask covers {share:.0%} of the brain; expected at least "
            f"{MIN_COVERED_SHARE:.0%}. Does the perfusion image lie where the brain is?"
        )
    tmax = None
    if there("tmax"):
        tmax = read("tmax")
        check_tmax_seconds(Volume(tmax, GRID_AFFINE, str(mni_file(cohort, participant, "tmax"))))
    edited = [name for name in EDITED_MASKS if there(name)]
    if len(edited) > 1:
        raise InputError(
            f"holds {' and '.join(edited)}; expected one of them: the hypoperfusion, which is "
            "united with the core, or the whole truth"
        )
    truth = read(edited[0], load_mask) > 0 if edited else None
    transform = read_transform(cohort, participant)
    return MniPatient(
        dwi=dwi,
        adc_um2_per_s=adc,
        brain=brain,
        coverage=coverage,
        transform=transform,
        tmax_s=tmax,
        truth=truth,
        truth_is_whole=edited == [TRUTH_MASK],
        tmax_threshold_s=tmax_threshold_s(cohort, participant),
    )


def has_adc_map(cohort: str | os.PathLike, participant: str) -> bool:
    """Whether there was an ADC map, or one that could be computed, by what qc.json says."""
    known = atomic.read_json(Path(cohort, participant, "qc.json"))
    return known.get("adc_unit_in_file", "") is not None


def tmax_threshold_s(cohort: str | os.PathLike, participant: str) -> float:
    """From which on Tmax is hypoperfusion: what qc.json says, a site's own; 6 s if it says none.

    Raises:
        InputError: it says something else than seconds.
    """
    path = Path(cohort, participant, "qc.json")
    said = atomic.read_json(path).get("tmax_threshold_s", TMAX_HYPOPERFUSION_S)
    if isinstance(said, bool) or not isinstance(said, int | float) or not said > 0:
        raise InputError(
            f"{path}: tmax_threshold_s is {said!r}; expected seconds. {PREPROCESS_AGAIN}"
        )
    return float(said)


def load_core(cohort: str | os.PathLike, participant: str) -> NDArray[np.bool_] | None:
    """The core as known, where a ``desc-core_mask`` of it lies beside the patient's volumes.

    Returns:
        bool (91, 109, 60), all False if it is known that there is none; None without the file.

    Raises:
        InputError: the file is unreadable, no mask, or lies on another grid.
    """
    path = mni_file(cohort, participant, KNOWN_CORE)
    if not os.path.lexists(path):
        return None
    return require_grid(load_mask(path, KNOWN_CORE), KNOWN_CORE) > 0


def load_labelled(cohort: str | os.PathLike, row: Row) -> tuple[MniPatient, labels.Labels, Row]:
    """A patient with the truth, and what a table says of both.

    Args:
        cohort: folder of the MNI cohort.
        row: a :func:`data_tools.cohort.clinical_record`.

    Returns:
        The images, the masks, and ``row`` with volumes in mL of the patient's tissue:
        ``core_ml``, ``core_truth_ml``, ``hypoperfusion_ml``, ``truth_ml``, ``coverage_ml``,
        ``brain_ml``, ``voxel_ml``; ``truth_from`` and ``core_truth_from``; and ``tmax_from``, how
        this program made Tmax of a raw series, or None. ``hypoperfusion_ml`` is Tmax >= 6 s
        without the core, of edited patients too; the edit shows in ``truth_ml`` alone. Without
        Tmax it is the edited mask, also where that is the whole truth.

    Raises:
        InputError: naming the patient and the file; also if there is no truth.
    """
    participant = row["participant_id"]
    try:
        patient = load_mni(cohort, participant)
        if patient.tmax_s is None and patient.truth is None:
            raise InputError(
                f"has no truth; expected a tmax volume, a {' or a '.join(EDITED_MASKS)}"
            )
        known_core = load_core(cohort, participant)
        label = labels.make_labels(
            patient.dwi,
            patient.adc_um2_per_s,
            patient.tmax_s,
            brain=patient.brain,
            coverage=patient.coverage,
            voxel_ml=patient.voxel_ml,
            edited=patient.truth,
            edited_is_truth=patient.truth_is_whole,
            known_core=known_core,
            within=hemisphere(row["side"]) if within_side_only(cohort) else None,
            tmax_threshold_s=patient.tmax_threshold_s,
        )
    except InputError as error:
        raise InputError(f"{participant}: {error}") from error
    masks = {
        "core": label.core,
        "core_truth": label.core_truth,
        "hypoperfusion": label.hypoperfusion,
        "truth": label.truth,
        "coverage": label.coverage,
        "brain": patient.brain,
    }
    # Not rounded: predict decides by these volumes too, and both are to decide alike.
    volumes = {
        f"{name}_ml": float(np.count_nonzero(mask) * patient.voxel_ml)
        for name, mask in masks.items()
    }
    described = {
        **row,
        **volumes,
        "voxel_ml": patient.voxel_ml,
        "truth_from": labels.truth_from(patient.truth is not None, patient.truth_is_whole),
        "core_truth_from": _core_from(known_core is not None, has_adc_map(cohort, participant)),
        "tmax_from": atomic.read_json(Path(cohort) / participant / "qc.json").get("tmax_from"),
    }
    return patient, label, described


def _core_from(is_known: bool, has_adc: bool) -> str:
    if is_known:
        return "known mask"
    return "ADC and DWI" if has_adc else "unknown"


def within_side_only(cohort: str | os.PathLike) -> bool:
    """Whether labels of a cohort end at the midline of the stroke's side.

    It stands in the cohort's ``labels.json``, so that records, evaluation and pictures agree; a
    cohort without that file uses both sides.

    Raises:
        InputError: the file says something else.
    """
    path = label_settings_file(cohort)
    if not os.path.lexists(path):
        return False
    said = atomic.read_json(path).get(WITHIN_SIDE)
    if not isinstance(said, bool):
        raise InputError(f'{path}: expected {{"{WITHIN_SIDE}": true}} or false')
    return said


def write_label_settings(cohort: str | os.PathLike, within_side: bool) -> None:
    """Write what :func:`within_side_only` reads."""
    atomic.write_json(label_settings_file(cohort), {WITHIN_SIDE: within_side})


def write_transform(folder: Path, participant: str, transform: Transform) -> None:
    """Write a patient's way to the template into the patient's folder of an MNI cohort."""
    np.savetxt(
        folder / transform_file("", participant).name,
        transform.affine,
        header="native millimetres -> MNI millimetres, both RAS+; 4 x 4, row by row",
    )
    for way, field in (("back", transform.back_mm), ("forth", transform.forth_mm)):
        if field is not None:
            note = "mm, RAS+, added to points of the MNI grid"
            save_volume(folder / warp_file("", participant, way).name, field, GRID_AFFINE, note)


def read_transform(cohort: str | os.PathLike, participant: str) -> Transform:
    """A patient's way to the template; that of a patient without one changes nothing.

    Raises:
        InputError: a file is there and is no transform, or one of a deformable fit's is missing.
    """
    affine = _read_affine(transform_file(cohort, participant))
    paths = [warp_file(cohort, participant, way) for way in ("back", "forth")]
    if not any(os.path.lexists(path) for path in paths):
        return Transform(affine)
    fields = []
    for path in paths:
        file = open_image(path, "warp")
        if file.shape != (*GRID_SHAPE, 3) or not np.allclose(file.place.affine, GRID_AFFINE):
            raise InputError(
                f"warp {path}: shape {file.shape}; expected {(*GRID_SHAPE, 3)} on the MNI grid; "
                f"{PREPROCESS_AGAIN}"
            )
        fields.append(file.read_finite())
    return Transform(affine, *fields)


def _read_affine(path: Path) -> NDArray[np.float64]:
    if not os.path.lexists(path):
        return np.eye(4)
    try:
        lines = [line.split() for line in path.read_text(encoding="utf-8").splitlines()]
        matrix = np.array([cells for cells in lines if cells and cells[0][0] != "#"], float)
        readable = (
            matrix.shape == (4, 4)
            and np.isfinite(matrix).all()
            and np.array_equal(matrix[3], (0, 0, 0, 1))
            and DETERMINANT_RANGE[0] <= np.linalg.det(matrix[:3, :3]) <= DETERMINANT_RANGE[1]
        )
    except (ValueError, OSError):
        readable = False
    if not readable:
        raise InputError(
            f"transform {path}: expected a 4 x 4 matrix, native mm -> MNI mm, that does not "
            f"mirror and enlarges {DETERMINANT_RANGE[0]:g} to {DETERMINANT_RANGE[1]:g} times; "
            f"{PREPROCESS_AGAIN}"
        )
    return matrix
