"""A simulated DSC scan as files: the series with its BIDS sidecar, and what is true of it."""

import dataclasses
import gzip
import math
import os

import nibabel as nib
import numpy as np

from data_tools.runtime import atomic
from data_tools.simulate.dsc import DscImages
from data_tools.volumes import save_volume

# Of uint16; the signal of a vessel or of fluid lies far below.
LARGEST = 65535


def write_series(
    path: str | os.PathLike, images: DscImages, field_strength_t: float, description: str = ""
) -> None:
    """Write NAME.nii.gz and NAME.json: TR, TE and slice times in s, as BIDS has them.

    A scan with the fault ``no_tr`` or ``no_te`` lacks that entry, and the image's header too.

    Args:
        path: of the image, ``.nii.gz``.
        images: the scan.
        field_strength_t: of the scanner.
        description: header text, 79 characters at most.
    """
    scan = images.scan
    repetition_s = 0.0 if scan.fault == "no_tr" else scan.repetition_time_s
    data = np.clip(images.signal, 0, LARGEST).astype(np.uint16)
    image = nib.Nifti1Image(data, images.affine)
    image.header.set_xyzt_units("mm", "sec")
    image.header["descrip"] = description.encode("ascii", "replace")[:79]
    image.set_qform(images.affine, code=2)
    image.set_sform(images.affine, code=2)
    image.header["pixdim"][4] = repetition_s
    atomic.write_bytes(path, gzip.compress(image.to_bytes(), compresslevel=1, mtime=0))
    known = {
        "Modality": "MR",
        "Manufacturer": "Simulated",
        "MagneticFieldStrength": field_strength_t,
        "RepetitionTime": scan.repetition_time_s,
        "EchoTime": scan.echo_time_s,
        "SliceTiming": [round(float(each), 4) for each in images.slice_times_s],
        "ContrastBolusIngredient": "GADOLINIUM",
        "SeriesDescription": "simulated dynamic susceptibility contrast",
    }
    absent = {"no_tr": "RepetitionTime", "no_te": "EchoTime"}.get(scan.fault or "")
    atomic.write_json(
        str(path).removesuffix(".nii.gz") + ".json",
        {key: value for key, value in known.items() if key != absent},
    )


def write_truth(stem: str | os.PathLike, images: DscImages, description: str = "") -> None:
    """Write STEM_desc-truth_{Tmax,dseg}.nii.gz: Tmax in s, and the vessels.

    Args:
        stem: folder and name of the patient.
        images: the scan.
        description: header text, 79 characters at most.
    """
    truth = images.truth
    save_volume(f"{stem}_desc-truth_Tmax.nii.gz", truth.tmax_s, images.affine, description)
    save_volume(f"{stem}_desc-truth_dseg.nii.gz", truth.vessels, images.affine, description)


def described(images: DscImages) -> dict[str, object]:
    """How a scan was taken, for JSON: fields of Scan, and the motion of each frame in mm."""
    scan = dataclasses.asdict(images.scan)
    if math.isinf(images.scan.snr):
        scan["snr"] = "infinite"
    poses = images.truth.poses
    return scan | {"shift_mm": np.round(poses[:, :3, 3], 3).tolist()}
