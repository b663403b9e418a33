"""Where the files of a cohort lie, raw or in MNI space, and what its descriptions say."""

import os
import re
from pathlib import Path

from data_tools import file_names, flow
from data_tools.grid import SPACE
from data_tools.runtime import atomic

# Of a patient whose scanner's files were not converted: sub-*/dicom.
DICOM_FOLDER = "dicom"
# Of derivatives: Tmax and the other maps.
PERFUSION = "perfusion"
PARTICIPANTS = "participants.tsv"
DESCRIPTION = "dataset_description.json"
# What dataset_description.json of an MNI cohort names.
GENERATED_BY = "data_tools.preprocess"
RAW, MNI = "raw", "in MNI space"
# Of images beside the folders of a patient, not in dwi/.
_RAW_IMAGE = re.compile(r"_(dwi|adc|trace)\.(nii|nii\.gz|img|hdr|mha|mhd|nrrd|nhdr)$")


def perfusion_folder(cohort: str | os.PathLike, participant: str) -> Path:
    """Where a patient's perfusion maps go: ``derivatives/perfusion/sub-01[/ses-1]``."""
    return Path(cohort, "derivatives", PERFUSION, *participant.split("_"))


def described_name(cohort: str | os.PathLike) -> str:
    """Name in ``dataset_description.json``, else the folder's; of simulated patients it says so."""
    described = atomic.read_json(Path(cohort) / DESCRIPTION)
    return str(described.get("Name", Path(cohort).name))


def licence(cohort: str | os.PathLike) -> str | None:
    """``License`` in ``dataset_description.json``; None where it has none."""
    said = atomic.read_json(Path(cohort) / DESCRIPTION).get("License")
    return said if isinstance(said, str) and said.strip() else None


def is_preprocessed(cohort: str | os.PathLike) -> bool:
    """Whether ``preprocess`` wrote a cohort, by its ``dataset_description.json``."""
    tools = atomic.read_json(Path(cohort) / DESCRIPTION).get("GeneratedBy")
    first = tools[0] if isinstance(tools, list) and tools else None
    return isinstance(first, dict) and first.get("Name") == GENERATED_BY


def left_out_before(cohort: str | os.PathLike) -> tuple[flow.LeftOut, ...]:
    """Whom the steps before an MNI cohort left out; nobody of a simulated one.

    Raises:
        InputError: ``left_out.json`` cannot be read, or is missing where ``preprocess`` wrote it.
    """
    return flow.read(cohort, expected=is_preprocessed(cohort))


def layouts(cohort: str | os.PathLike, participant: str) -> set[str]:
    """``{RAW}``, ``{MNI}``, both or neither: what a patient's folder holds, by the names in it."""
    folder, found = patient_folder(cohort, participant), set()
    for path in folder.iterdir() if folder.is_dir() else ():
        name = path.name.lower()
        if f"_space-{SPACE}_".lower() in name:
            found.add(MNI)
        elif path.is_dir() or _RAW_IMAGE.search(name):
            found.add(RAW)
    return found


def patient_folder(cohort: str | os.PathLike, participant: str) -> Path:
    """Folder of a patient or visit: ``sub-01``; ``sub-01/ses-1``, or else ``sub-01_ses-1``.

    Args:
        cohort: folder of a raw cohort, or of an MNI cohort, whose folders are all of one level.
        participant: as in ``participants.tsv``.

    Returns:
        The folder that is there, or else the BIDS name of one that is not.
    """
    nested, flat = Path(cohort, *participant.split("_")), Path(cohort, participant)
    return flat if flat.is_dir() and not nested.is_dir() else nested


def mni_file(cohort: str | os.PathLike, participant: str, name: str) -> Path:
    """Path of a patient's volume in an MNI cohort.

    Args:
        cohort: folder of the MNI cohort.
        participant: ``sub-0001``, or a visit, ``sub-0001_ses-1``, which names its folder too.
        name: ``dwi``, ``adc``, ``tmax``, ``desc-brain_mask``, ``desc-coverage_mask``,
            ``desc-hypoperfusion_mask``, ``desc-truth_mask``, ``desc-core_mask``.

    >>> mni_file("mni", "sub-0001", "adc").name
    'sub-0001_space-MNI152NLin2009aSym_adc.nii.gz'
    """
    return Path(cohort) / participant / f"{participant}_space-{SPACE}_{name}.nii.gz"


def has_truth(cohort: str | os.PathLike, participant: str) -> bool:
    """Whether an MNI cohort holds what a patient's labels are made of: Tmax, or an edited mask."""
    return any(
        os.path.lexists(mni_file(cohort, participant, name))
        for name in ("tmax", *file_names.EDITED_MASKS)
    )


def warp_file(cohort: str | os.PathLike, participant: str, way: str) -> Path:
    """Path of a deformable fit's displacement field.

    Args:
        cohort: folder of the MNI cohort.
        participant: ``sub-0001``.
        way: ``back`` or ``forth``, as in :class:`data_tools.transform.Transform`.
    """
    name = f"{participant}_from-native_to-{SPACE}_desc-{way}_warp.nii.gz"
    return Path(cohort) / participant / name


def label_settings_file(cohort: str | os.PathLike) -> Path:
    """Path of an MNI cohort's choices about its labels; see ``mni_patient.within_side_only``."""
    return Path(cohort) / "labels.json"


def transform_file(cohort: str | os.PathLike, participant: str) -> Path:
    """Path of a patient's 4 x 4 matrix, native mm -> MNI mm, in an MNI cohort."""
    name = f"{participant}_from-native_to-{SPACE}_mode-points_xfm.txt"
    return Path(cohort) / participant / name
