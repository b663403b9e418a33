"""An image on the MNI grid -> the same image in the patient's own space."""

import dataclasses
import re
from pathlib import Path

import numpy as np

from data_tools import mni_patient
from data_tools.cohort import transform_file
from data_tools.grid import patient_voxel_ml
from data_tools.groups import VISIT, patient_of
from data_tools.runtime import atomic
from data_tools.runtime.errors import InputError
from data_tools.volumes import Volume, load_volume, require_grid, save_volume


@dataclasses.dataclass(frozen=True, kw_only=True)
class Brought:
    """What was written.

    Attributes:
        is_mask: 0 and 1 only; it was made a mask again.
        native_ml: over 0.5, in the patient's own space.
        mni_ml: over 0.5 on the MNI grid, mL of the patient's tissue.
        warning: why it may be wrong, if it may.
    """

    is_mask: bool
    native_ml: float
    mni_ml: float
    warning: str | None


def bring(
    image: str,
    out: str,
    *,
    cohort: str,
    participant: str,
    like: str | None = None,
) -> Brought:
    """Bring a mask or a probability back.

    Args:
        image: NIfTI on the MNI grid.
        out: file to write, ``.nii.gz``.
        cohort: MNI cohort of ``preprocess``.
        participant: the patient.
        like: NIfTI of the same session whose grid is wanted; None takes the DWI's.

    Raises:
        InputError: a file is missing, lies on another grid or would be overwritten; the image is
            named after another patient; the grid of the DWI is not known.
    """
    _check_names(image, out, like=like, participant=participant)
    if not transform_file(cohort, participant).is_file():
        raise InputError(
            f"{transform_file(cohort, participant)}: no such file; expected the folder "
            "of a patient that data_tools.preprocess wrote"
        )
    volume = load_volume(image, "image", may_be_constant=True)
    data = require_grid(volume, "image")
    own = _own_grid(cohort, participant)
    wanted = load_volume(like, "like") if like else own
    if wanted is None:
        raise InputError(
            f"{cohort}/{participant}/qc.json does not say the grid of the patient's DWI; "
            f"give --like, or {mni_patient.PREPROCESS_AGAIN}"
        )
    transform = mni_patient.read_transform(cohort, participant)
    back = transform.back(data, wanted)
    is_mask = set(np.unique(data)) <= {0.0, 1.0}
    result = back > 0.5 if is_mask else back
    save_volume(out, result, wanted.affine, f"{participant}, from the MNI grid")
    return Brought(
        is_mask=is_mask,
        native_ml=float((back > 0.5).sum() * wanted.voxel_ml),
        mni_ml=float((data > 0.5).sum() * patient_voxel_ml(transform.affine)),
        warning=None if own is None else _other_grid(like, wanted, own, participant),
    )


def _check_names(image: str, out: str, *, like: str | None, participant: str) -> None:
    """Refuse what can be seen from the names of the files."""
    if not out.endswith(".nii.gz"):
        raise InputError(f"--out is {out}; expected a name that ends in .nii.gz")
    for flag, path in (("like", like), ("image", image)):
        if path and Path(out).exists() and Path(path).exists() and Path(out).samefile(path):
            raise InputError(f"--out is --{flag} itself, {path}; choose another name")
    named = re.match(rf"sub-[A-Za-z0-9]+({VISIT}[A-Za-z0-9]+)?", Path(image).name)
    if named and participant not in (named[0], patient_of(named[0])):
        raise InputError(
            f"--image {image} is named after {named[0]}, and --participant is "
            f"{participant}; expected the same patient"
        )


def _own_grid(cohort: str, participant: str) -> Volume | None:
    """The grid of the patient's DWI, with zeros on it; None if qc.json does not say it."""
    known = atomic.read_json(Path(cohort) / participant / "qc.json")
    if "affine" not in known:
        return None
    return Volume(np.zeros(known["shape"], np.float32), np.array(known["affine"]), "the DWI")


def _other_grid(like: str | None, wanted: Volume, own: Volume, participant: str) -> str | None:
    if wanted.same_grid(own):
        return None
    return (
        f"{like} (shape {wanted.data.shape}, {wanted.orientation}) has another grid "
        f"than the DWI of {participant} (shape {own.data.shape}, {own.orientation}): "
        "right only for an image of the same session, and wrong for another patient's"
    )
