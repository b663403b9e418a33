"""Core masks drawn on real patients, in MNI space, to take the place of grown cores.

Meant for the SOOP masks (Absher, Sci Data 2024;11:839; CC0): a folder of ``.nii.gz`` masks, or
one that holds them in a ``.tar``. Only the shape of the core is real; the patient is simulated.
"""

import dataclasses
import functools
import gzip
import hashlib
import itertools
import os
import tarfile
import zlib
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.affines import apply_affine
from nibabel.filebasedimages import ImageFileError
from numpy.typing import NDArray
from scipy import ndimage

from data_tools.grid import VOXEL_MM
from data_tools.runtime.errors import InputError
from data_tools.simulate import territories
from data_tools.simulate.anatomy import MODEL_AFFINE, MODEL_SHAPE, MODEL_VOXEL_ML, model_mm

MASK_ENDING = ".nii.gz"
CHECKED_FIRST = 3
# What every mask's grid must hold, MNI mm: the cerebrum without its outermost centimetre.
BRAIN_BOX_MM = ((-62.0, -96.0, -40.0), (62.0, 64.0, 68.0))
TRIES = 30  # masks looked at for one patient; the closest in volume is taken
MIN_CORE_ML = 0.5
# Enough of the mask must lie in one middle cerebral artery's territory.
MIN_MCA_SHARE = 0.6


@dataclasses.dataclass(frozen=True)
class RealCores:
    """Where the masks are.

    Attributes:
        folder: as given.
        names: of the masks, sorted.
        places: of each mask: file, offset and bytes in it (the whole file if bytes is None).
    """

    folder: Path
    names: tuple[str, ...]
    places: tuple[tuple[Path, int, int | None], ...]


@functools.cache
def find(folder: str | os.PathLike) -> RealCores:
    """List the masks of a folder.

    Raises:
        InputError: no such folder, or no mask in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        what = "a file" if folder.exists() else "no such folder"
        raise InputError(f"lesions {folder}: {what}; expected a folder with core masks in MNI")
    found: dict[str, tuple[Path, int, int | None]] = {
        path.name: (path, 0, None) for path in folder.glob("*" + MASK_ENDING)
    }
    for archive in [] if found else sorted(folder.glob("*.tar")):
        try:
            with tarfile.open(archive, "r:") as tar:
                members = [m for m in tar if m.isfile() and m.name.endswith(MASK_ENDING)]
        except (tarfile.TarError, OSError) as error:
            raise InputError(f"lesions {archive}: not a readable tar ({error})") from error
        found.update((m.name, (archive, m.offset_data, m.size)) for m in members)
    if found:
        names = tuple(sorted(found))
        return RealCores(folder, names, tuple(found[name] for name in names))
    raise InputError(f"lesions {folder}: holds neither {MASK_ENDING} files nor a .tar of them")


def check(folder: str | os.PathLike) -> None:
    """Look at the first masks before anything is written.

    Raises:
        InputError: as :func:`find` and :func:`load`.
    """
    cores = find(str(folder))
    for number in range(min(CHECKED_FIRST, len(cores.names))):
        load(cores, number)


def describe(folder: str | os.PathLike) -> str:
    """Number of masks, and a checksum of their names and sizes, to know the folder again."""
    cores = find(str(folder))
    sizes = [size or path.stat().st_size for path, _, size in cores.places]
    lines = "\n".join(f"{n} {s}" for n, s in zip(cores.names, sizes, strict=True))
    return f"{len(cores.names)} real core masks, {hashlib.sha256(lines.encode()).hexdigest()[:12]}"


@functools.cache
def _mca() -> NDArray[np.bool_]:
    """Middle cerebral artery's territory, both sides, on the model grid."""
    mm = model_mm().reshape(3, -1)
    depth = territories.depth_mm(territories.distances(*mm), territories.MCA)
    return (depth > 0).reshape(MODEL_SHAPE)


def load(cores: RealCores, number: int) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """One mask on its own grid, and its affine.

    Raises:
        InputError: if it is no readable 3D NIfTI mask of 0 and 1 whose grid holds the MNI brain.
    """
    path, offset, size = cores.places[number]
    label = f"lesions {cores.folder}: {cores.names[number]}"
    try:
        with path.open("rb") as file:
            file.seek(offset)
            content = file.read() if size is None else file.read(size)
        image = nib.Nifti1Image.from_bytes(gzip.decompress(content))
        data = np.asarray(image.dataobj)
    except (OSError, EOFError, ValueError, zlib.error, ImageFileError) as error:
        raise InputError(f"{label} is not a readable NIfTI file ({error})") from error
    if data.ndim != 3:
        raise InputError(f"{label} has shape {data.shape}; expected one 3D mask")
    values = np.unique(data)
    if len(values) > 2 or not np.isfinite(values).all() or values[0] != 0:
        raise InputError(f"{label} is no mask: expected 0 and one other value in its voxels")
    affine = image.affine
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-3:
        raise InputError(f"{label} has no usable affine; expected a mask in MNI space")
    corners = np.array(list(itertools.product(*zip(*BRAIN_BOX_MM, strict=True))))
    index = apply_affine(np.linalg.inv(affine), corners)
    if (index < -0.5).any() or (index > np.array(data.shape) - 0.5).any():
        raise InputError(
            f"{label} lies on a grid that does not hold the MNI brain, so it is not in MNI space; "
            "expected masks that were brought there"
        )
    return data > 0, affine


def _on_model_grid(data: NDArray[np.bool_], affine: NDArray[np.float64]) -> NDArray[np.float32]:
    index = np.linalg.inv(affine) @ MODEL_AFFINE
    spacing_mm = np.sqrt((affine[:3, :3] ** 2).sum(axis=0))
    soft = ndimage.gaussian_filter(data.astype(np.float32), 0.4 * VOXEL_MM / spacing_mm)
    return ndimage.affine_transform(soft, index[:3, :3], index[:3, 3], MODEL_SHAPE, order=1)


def choose(
    rng: np.random.Generator, folder: str | os.PathLike, core_ml: float, side: str
) -> NDArray[np.float32]:
    """A real core about as large as wanted, on the wanted side, on the model grid: 0..1.

    A mask of the other side is mirrored. Returns zeros if ``core_ml`` is 0.

    Raises:
        InputError: as :func:`find` and :func:`load`, and if no mask of the folder lies in the
            middle cerebral artery's territory.
    """
    best, best_miss = np.zeros(MODEL_SHAPE, np.float32), np.inf
    cores = find(str(folder))
    if core_ml <= 0:
        return best
    for tried, number in enumerate(rng.permutation(len(cores.names))):
        if tried >= TRIES and np.isfinite(best_miss):
            break
        data, affine = load(cores, number)
        volume_ml = float(data.sum() * abs(np.linalg.det(affine[:3, :3])) / 1000)
        miss = abs(np.log(max(volume_ml, 1e-3) / core_ml))
        if volume_ml < MIN_CORE_ML or miss >= best_miss:
            continue
        mask = _on_model_grid(data, affine)
        volume_ml = max(float((mask > 0.5).sum() * MODEL_VOXEL_ML), 1e-3)
        middle = MODEL_SHAPE[0] // 2
        on_left = float((mask[:middle] > 0.5).sum() * MODEL_VOXEL_ML) / volume_ml
        inside = mask.copy()
        inside[~_mca()] = 0
        major = inside[:middle] if on_left > 0.5 else inside[middle:]
        if (major > 0.5).sum() * MODEL_VOXEL_ML < MIN_MCA_SHARE * volume_ml:
            continue
        best_miss = miss
        best = mask if (on_left > 0.5) == (side == "left") else mask[::-1]
        if best_miss < 0.15:
            break
    if not np.isfinite(best_miss):
        raise InputError(
            f"lesions {folder}: none of its {len(cores.names)} masks has {MIN_CORE_ML} mL or more "
            "with most of it in the territory of one middle cerebral artery; expected stroke "
            "cores in MNI space"
        )
    return best
