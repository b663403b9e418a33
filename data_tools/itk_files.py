"""MetaImage and NRRD files (.mha, .mhd, .nrrd, .nhdr) by SimpleITK: LPS there, RAS here."""

import re
import zlib
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from data_tools.runtime.errors import InputError, reason_of
from data_tools.runtime.quiet import native_stderr_silenced

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
OPPOSITE = str.maketrans("RLAPIS", "LRPASI")
GZIP_MAGIC = b"\x1f\x8b"
# Where a header ends: an NRRD's at a blank line, a MetaImage's with the line of its data file.
NRRD_END = re.compile(rb"\r?\n\r?\n")
META_END = re.compile(rb"^ElementDataFile[^\n]*(\n|\Z)", re.M)
SPACES = "left-posterior-superior, right-anterior-superior or left-anterior-superior"
ANATOMICAL = re.compile(
    r"[rlapsi]{3}(-time)?|(right|left|anterior|posterior|superior|inferior)(-\w+){2,3}", re.I
)
FUNCTION = "ElementToIntensityFunction"
MILLIMETRES = ("", "mm", "millimeter", "millimeters", "millimetre", "millimetres", "mms")
# m, cm, um (two letters if the file is not in Latin 1), metres, inches.
OTHER_LENGTHS = re.compile(r".{0,2}m|.*met(er|re)s?|microns?|in(ch|ches)?", re.I)


def read(path: Path, label: str) -> tuple[NDArray, NDArray[np.float64]]:
    """Voxels and place of an image.

    Args:
        path: of the file, or of the header that names its data file.
        label: what and path, for messages.

    Returns:
        Data [x, y, z] or [x, y, z, image], and float64 [4, 4], index -> mm, RAS+.

    Raises:
        InputError: an unreadable or truncated file, no orientation, voxels that are no numbers.
    """
    _check_oriented(path, label)
    _check_packed(path, label)
    import SimpleITK as sitk

    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        with native_stderr_silenced():  # MetaImage writes there itself
            image = sitk.ReadImage(str(path))
    except RuntimeError as error:
        raise _damaged(label, "SimpleITK cannot read it") from error
    data = sitk.GetArrayFromImage(image)
    if image.GetDimension() not in (3, 4) or data.dtype.kind not in "iuf":
        raise InputError(
            f"{label}: holds {image.GetDimension()}D voxels of type "
            f"{image.GetPixelIDTypeAsString()}; expected 3D or 4D, one number each"
        )
    # Reversed, [z, y, x] becomes [x, y, z]; several numbers a voxel come last either way.
    numbers = image.GetNumberOfComponentsPerPixel() > 1
    data = np.moveaxis(data.T, 0, -1) if numbers else data.T
    data = _scaled(data, _fields(path, _split(path)[0]), label)
    affine = LPS_TO_RAS @ _lps(image)
    _check_words(path, affine, label)
    return data, affine


def _scaled(data: NDArray, fields: dict[str, str], label: str) -> NDArray:
    """Values as the header scales them, which SimpleITK does not look at.

    A MetaImage says a slope and an offset. An NRRD says between which values its integers lay
    before they were made integers, and programs differ in how to come back to them.
    """
    said = {name.casefold(): text for name, text in fields.items()}
    slope, offset = (
        _number(said.get(name.casefold(), plain), name, label)
        for name, plain in ((f"{FUNCTION}Slope", "1"), (f"{FUNCTION}Offset", "0"))
    )
    if not slope:
        raise InputError(
            f"{label}: its {FUNCTION}Slope is 0, which makes all voxels equal; "
            "expected another number. Save it again with the values themselves."
        )
    if (slope, offset) != (1, 0):
        data = data * np.float64(slope) + offset
    if data.dtype.kind in "iu":
        known = np.iinfo(data.dtype)
        for name, own in (("old min", known.min), ("old max", known.max)):
            text = said.get(name) or said.get(name.replace(" ", ""), "nan")
            if text.lower() != "nan" and text != str(own):
                raise InputError(
                    f"{label}: its field `{name}: {text}` says that its integers stand for "
                    "other values, which are not recovered here; expected the values themselves. "
                    "Save it as float (unu unquantize)."
                )
    return data


def _number(text: str, what: str, label: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = np.nan
    if not np.isfinite(number):
        raise InputError(f"{label}: its {what} is {text!r}; expected a number. Save it again.")
    return number


def _damaged(label: str, why: object) -> InputError:
    return InputError(
        f"{label}: not a readable image, or it ends too early or is damaged ({why}); copy it "
        "again, with the data file that its header names"
    )


def _check_packed(path: Path, label: str) -> None:
    """Unpack compressed voxels to their checksum, which SimpleITK does not look at."""
    head, data = _split(path)
    fields = _fields(path, head)
    if _is_nrrd(path):
        encoding = fields.get("encoding", "raw").lower()
        if encoding in ("bz2", "bzip2"):
            raise InputError(
                f"{label}: its encoding is {encoding}, which is not read here; expected raw, gzip, "
                "ascii or hex. Save it again with one of them."
            )
        packed = encoding in ("gz", "gzip")
        named = fields.get("data file") or fields.get("datafile")
    else:
        packed = fields.get("CompressedData", "").lower() in ("true", "t", "1", "yes", "y")
        named = fields.get("ElementDataFile", "LOCAL")
        named = None if named.upper() == "LOCAL" else named
    if not packed:
        return
    if named:
        if named.split()[0] == "LIST" or "%" in named:
            raise InputError(
                f"{label}: its voxels are compressed in several files; expected one. Save it again "
                "as one file."
            )
        beside = path.parent / named
        if not beside.is_file():  # SimpleITK says so
            return
        data = beside.read_bytes()
    try:
        _check_sums(data)
    except (zlib.error, OSError, EOFError, ValueError) as error:
        raise _damaged(label, reason_of(error)) from error


def _check_sums(data: bytes) -> None:
    """Unpack zlib or gzip, one part after the other."""
    while True:
        stream = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)
        stream.decompress(data)
        if not stream.eof:
            raise EOFError("it ends before its checksum")
        data = stream.unused_data
        if not data.startswith(GZIP_MAGIC):
            return


def _lps(image) -> NDArray[np.float64]:
    size = image.GetDimension()
    axes = np.array(image.GetDirection()).reshape(size, size)[:3, :3]
    affine = np.eye(4)
    affine[:3, :3] = axes * np.array(image.GetSpacing())[:3]
    affine[:3, 3] = image.GetOrigin()[:3]
    return affine


def _split(path: Path) -> tuple[str, bytes]:
    """The header's text, and what follows it in the file."""
    content = path.read_bytes()
    end = NRRD_END if _is_nrrd(path) else META_END
    found = end.search(content)
    at = found.end() if found else len(content)
    head = content[:at]
    try:
        return head.decode(), content[at:]
    except UnicodeDecodeError:
        return head.decode("latin-1"), content[at:]


def _fields(path: Path, head: str) -> dict[str, str]:
    """What the header says, by name; an NRRD's names in lower case."""
    fields = {}
    for line in re.split("\r?\n", head):
        if _is_nrrd(path):
            found = re.match(r"([^#:][^:]*):(?!=)(.*)", line)
        else:
            found = re.match(r"([^=]+)=(.*)", line)
        if found:
            name = found[1].strip()
            fields[name.lower() if _is_nrrd(path) else name] = found[2].strip()
    return fields


def _is_nrrd(path: Path) -> bool:
    return path.suffix.lower() in (".nrrd", ".nhdr")


def _check_oriented(path: Path, label: str) -> None:
    """Refuse a header that says no direction or voxel size: SimpleITK takes LPS and 1 mm then."""
    fields = _fields(path, _split(path)[0])
    if _is_nrrd(path):
        space = fields.get("space")
        known: object = space is not None and re.fullmatch(
            r"([rl]a|lp)s(-time)?|((right|left)-anterior|left-posterior)-superior(-time)?",
            space, re.I,
        )  # fmt: skip
        if space and not known and ANATOMICAL.fullmatch(space):
            raise InputError(
                f"{label}: its space is {space!r}, which is not read here; expected {SPACES}. "
                "Save it again in one of them."
            )
        found = f"its space is {space!r}" if space else "it has no field `space`"
    else:
        known = any(fields.get(name) for name in ("TransformMatrix", "Orientation", "Rotation"))
        found = "it has no TransformMatrix"
    if not known:
        raise InputError(
            f"{label}: {found}, so left and right are unknown; expected an orientation in the "
            "header. Convert the scanner's DICOM files again."
        )
    if _is_nrrd(path):
        _check_lengths(fields, label)
    else:
        _check_spacing(fields, label)


def _check_lengths(fields: dict[str, str], label: str) -> None:
    """Refuse an NRRD whose axes have no length, or one in another unit than mm."""
    if fields.get("space directions", "").count("(") < 3:
        raise InputError(
            f"{label}: its field `space directions` does not name three axes, so the voxel size is "
            "unknown; expected it in the header. Convert the scanner's DICOM files again."
        )
    units = re.findall(r'"([^"]*)"', fields.get("space units", ""))[:3]
    others = [unit for unit in units if unit.strip().lower() not in MILLIMETRES]
    for unit in re.findall(r'"([^"]*)"', fields.get("units", "")):
        if OTHER_LENGTHS.fullmatch(unit.strip()) and unit.strip().lower() not in MILLIMETRES:
            others.append(unit)
    if others:
        raise InputError(
            f"{label}: its lengths are in {others[0]!r}; expected mm. Save it again in mm, with "
            '`space units: "mm" "mm" "mm"`.'
        )


def _check_spacing(fields: dict[str, str], label: str) -> None:
    """Refuse a MetaImage without a voxel size, or with one in another unit than mm."""
    if not (fields.get("ElementSpacing") or fields.get("ElementSize")):
        raise InputError(
            f"{label}: it has no ElementSpacing, so the voxel size is unknown; expected it in the "
            "header. Convert the scanner's DICOM files again."
        )
    unit = fields.get("DistanceUnits", "mm")
    if unit.lower() not in MILLIMETRES and unit != "?":
        raise InputError(f"{label}: its DistanceUnits are {unit!r}; expected mm. Save it in mm.")


def _check_words(path: Path, affine: NDArray[np.float64], label: str) -> None:
    """Refuse a MetaImage whose AnatomicalOrientation is not that of its matrix."""
    if _is_nrrd(path):
        return
    said = _fields(path, _split(path)[0]).get("AnatomicalOrientation", "")
    towards = "".join(nib.aff2axcodes(affine))
    # MetaImage names where axes come from; some programs write where they go to.
    if re.fullmatch("[RLAPIS]{3}", said) and said not in (towards, towards.translate(OPPOSITE)):
        raise InputError(
            f"{label}: AnatomicalOrientation is {said} and TransformMatrix "
            f"{towards.translate(OPPOSITE)}, so left and right are unsure; find out which is right "
            "and set both to it."
        )
