"""Names of image files as people and programs write them, and what lies beside them."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data_tools.runtime.errors import InputError

ITK_ENDINGS = (".mha", ".mhd", ".nrrd", ".nhdr")
NIFTI_ENDINGS = (".nii.gz", ".nii", ".img.gz", ".hdr.gz", ".img", ".hdr")
IMAGE_ENDINGS = (*NIFTI_ENDINGS, *ITK_ENDINGS)
# The part of a pair that is not given, and what a detached header names.
OTHER_PARTS = (".hdr", ".img", ".hdr.gz", ".img.gz", ".raw", ".zraw", ".raw.gz")
# Masks edited by a person: of the hypoperfusion, which is united with the core; of the whole truth.
TRUTH_MASK = "desc-truth_mask"
EDITED_MASKS = ("desc-hypoperfusion_mask", TRUTH_MASK)
EXPECTED = "an image (.nii, .nii.gz, .img with .hdr, .mha, .mhd, .nrrd or .nhdr)"
B_KEYS = ("DiffusionBValue", "EffectiveDiffusionBValue", "b_value", "BValue", "bvalue")


def ending(name: str) -> str:
    """The ending of an image file's name, in lower case; empty of any other file.

    >>> ending("A_DWI.NII.GZ"), ending("a.b.mha"), ending("a.txt")
    ('.nii.gz', '.mha', '')
    """
    lower = name.lower()
    return next((each for each in IMAGE_ENDINGS if lower.endswith(each)), "")


def broken_link(path: Path) -> str:
    """That a path is a link to nothing, or to itself; empty if it is not.

    Args:
        path: of a file or folder.
    """
    if not path.is_symlink() or path.exists():
        return ""
    return f"is a link to {path.readlink()}, where nothing is"


def stem(name: str) -> str:
    """The name without the ending of an image file.

    >>> stem("A_DWI.NII.GZ")
    'A_DWI'
    """
    return name[: len(name) - len(ending(name))]


def beside(path: Path, end: str) -> Path:
    """The file of the same name with another ending, in whatever case it is written.

    Args:
        path: an image file.
        end: such as ``.bval``.

    Returns:
        The file that is there, or else the plain name of one that is not.
    """
    plain = path.with_name(stem(path.name) + end)
    if plain.is_file():
        return plain
    try:
        names = sorted(os.listdir(path.parent))
    except OSError:
        return plain
    alike = [name for name in names if name.lower() == plain.name.lower()]
    return path.with_name(alike[0]) if alike else plain


def sidecar(path: Path) -> dict[str, Any]:
    """What the ``.json`` beside an image says; nothing where there is none.

    Args:
        path: an image file.

    Raises:
        InputError: it is no JSON object.
    """
    file = beside(path, ".json")
    if not file.is_file():
        return {}
    try:
        content = file.read_bytes()
        try:
            text = content.decode("utf-8-sig")
        except UnicodeDecodeError:  # the micro sign as older programs write it
            text = content.decode("latin-1")
        known = json.loads(text)
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{file}: not a readable JSON file ({error})") from error
    if not isinstance(known, dict):
        raise InputError(f"{file}: expected a JSON object, found {type(known).__name__}")
    return known


def said_b_values(path: Path) -> list[float]:
    """The b-values that ``.bval`` or ``.json`` beside an image name; none where they say nothing.

    Args:
        path: an image file. Faults of the files beside it are for its reader to tell.
    """
    bval = beside(path, ".bval")
    try:
        if bval.is_file():
            words: list[Any] = (
                bval.read_text(encoding="utf-8", errors="replace").replace(",", " ").split()
            )
        else:
            found = [sidecar(path).get(key) for key in B_KEYS]
            words = next((each for each in found if each is not None), [])
            words = words if isinstance(words, list) else [words]
        return [float(str(word).split()[0]) for word in words]
    except (InputError, OSError, ValueError, IndexError):
        return []


def files_below(folder: Path) -> Iterator[Path]:
    """Every file below a folder in a fixed order, through links too, each folder once.

    Files that macOS leaves beside others (``._name``) are left out.

    Args:
        folder: may be a link itself, and may be absent.
    """
    seen: set[str] = set()
    for here, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(here)
        if real in seen:  # a link to a folder above
            folders.clear()
            continue
        seen.add(real)
        folders.sort()
        for name in sorted(names):
            path = Path(here, name)
            if not name.startswith("._") and path.is_file():
                yield path


def is_whole_truth(path: str | os.PathLike) -> bool:
    """Whether a mask edited by a person is the whole truth by its name, the core with it.

    >>> is_whole_truth("sub-01_desc-truth_mask.nii.gz")
    True
    >>> is_whole_truth("sub-01_desc-hypoperfusion_mask.nii.gz")
    False
    """
    return stem(Path(path).name).lower().endswith(f"_{TRUTH_MASK}")
