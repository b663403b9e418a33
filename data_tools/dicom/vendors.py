"""What a scanner's file says of diffusion: b-value and direction, public or in a vendor's own way.

The public attributes (DICOM PS3.3 C.8.13.5.9) decide. Where they are absent: Siemens' and GE's
private ones, those of Philips and United Imaging, Canon's comment, and the name of Siemens'
sequence. Vendors' conformance statements name them.
"""

import math
import re
import struct
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

Direction = tuple[float, float, float]
TRACE: Direction = (0.0, 0.0, 0.0)
UNKNOWN: Direction = (math.nan, math.nan, math.nan)
AXES: tuple[Direction, ...] = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))

TRACE_WORDS = re.compile(r"trace|isotropic", re.I)
# *ep_b1000t is Siemens' trace image, *ep_b1000#2 the second direction.
SEQUENCE_NAME = re.compile(r"_b(\d+)(t|#\d+)?$", re.I)
COMMENT = re.compile(r"(?<![a-z])b\s*[=:]\s*(\d+(?:\.\d+)?)", re.I)
# GE adds multiples of this to b-values of some sequences.
GE_B_MODULUS = 100_000
# GE's "vas collapse flag": single directions, b = 0, and the combined image.
GE_KINDS = {3: AXES[0], 4: AXES[1], 5: AXES[2], 14: TRACE, 15: TRACE}
PHILIPS_WORDS = {"I": TRACE, "N": TRACE, "M": AXES[0], "P": AXES[1], "S": AXES[2]}
MAKERS = {
    "SIEMENS MR HEADER": "siemens",
    "GEMS_PARM_01": "ge ",
    "GEMS_ACQU_01": "ge ",
    "Philips Imaging DD 001": "philips",
    "Philips MR Imaging DD 001": "philips",
    "Image Private Header": "uih",
}
FORMATS = {"FD": "d", "FL": "f", "SS": "h", "US": "H", "SL": "i", "UL": "I"}


class Weighting(NamedTuple):
    """Diffusion weighting of one image.

    Attributes:
        b_value: s/mm2; None if nothing says it.
        direction: a unit vector; zeros for a trace image and for b = 0; NaN if nothing says it.
        directional: it is of one direction, by what the file says, whichever that is.
    """

    b_value: float | None
    direction: Direction
    directional: bool = False


def weighting(data: Any, diffusion: Any, kind: Sequence[str]) -> Weighting:
    """The weighting of an image.

    Args:
        data: the file, a pydicom dataset.
        diffusion: where public attributes stand: the frame's MR Diffusion Sequence item, or
            ``data`` itself in files of one image.
        kind: words of the image's type.
    """
    b_value = _first_number(
        [
            diffusion.get("DiffusionBValue"),
            private_value(data, (0x0019, 0x0C), "SIEMENS MR HEADER", "IS"),
            private_value(data, (0x2001, 0x03), "Philips Imaging DD 001", "FL"),
            _ge_b(data),
            private_value(data, (0x0065, 0x09), "Image Private Header", "FD"),
            *_found(SEQUENCE_NAME, data.get("SequenceName")),
            *_found(COMMENT, data.get("ImageComments")),
        ]
    )
    if b_value == 0:
        return Weighting(b_value, TRACE)
    direction = _direction(data, diffusion, kind)
    if np.isnan(direction).any():
        return Weighting(b_value, direction, _is_directional(data, diffusion))
    return Weighting(b_value, direction, any(direction))


def _is_directional(data: Any, diffusion: Any) -> bool:
    """Whether a file says that it is of one direction, and not of which."""
    said = str(diffusion.get("DiffusionDirectionality", "")).upper()
    private = _word(private_value(data, (0x0019, 0x0D), "SIEMENS MR HEADER", "CS"))
    name = SEQUENCE_NAME.search(str(data.get("SequenceName", "")))
    directional = ("DIRECTIONAL", "BMATRIX")
    return said in directional or private in directional or bool(name and "#" in (name[2] or ""))


def _direction(data: Any, diffusion: Any, kind: Sequence[str]) -> Direction:
    directionality = str(diffusion.get("DiffusionDirectionality", "")).upper()
    if directionality in ("ISOTROPIC", "NONE"):
        return TRACE
    gradient = diffusion
    if diffusion.get("DiffusionGradientDirectionSequence"):
        gradient = diffusion.DiffusionGradientDirectionSequence[0]
    said = [
        _unit(gradient.get("DiffusionGradientOrientation")),
        _of_matrix(diffusion),
        _siemens_direction(data),
        _ge_direction(data),
        _philips_direction(data),
        _unit(private_value(data, (0x0065, 0x37), "Image Private Header", "FD")),
    ]
    for direction in said:
        if direction is not None and any(direction):
            return direction
    is_trace = any(word.startswith("TRACE") or word == "ISOTROPIC" for word in kind)
    if not directionality and (is_trace or any(direction == TRACE for direction in said)):
        return TRACE
    name = SEQUENCE_NAME.search(str(data.get("SequenceName", "")))
    if name and (name[2] or "").lower() == "t":
        return TRACE
    if not _is_directional(data, diffusion) and TRACE_WORDS.search(
        str(data.get("SeriesDescription", ""))
    ):
        return TRACE
    return UNKNOWN


def _of_matrix(diffusion: Any) -> Direction | None:
    """The main direction of a b-matrix."""
    if not diffusion.get("DiffusionBMatrixSequence"):
        return None
    item = diffusion.DiffusionBMatrixSequence[0]
    xx, xy, xz, yy, yz, zz = (
        float(item.get(f"DiffusionBValue{axes}", 0))
        for axes in ("XX", "XY", "XZ", "YY", "YZ", "ZZ")
    )
    values, vectors = np.linalg.eigh([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
    if values[2] <= 0 or values[1] > values[2] / 2:  # of no single direction
        return None
    return _unit(vectors[:, 2])


def _siemens_direction(data: Any) -> Direction | None:
    creator = "SIEMENS MR HEADER"
    vector = _unit(private_value(data, (0x0019, 0x0E), creator, "FD"))
    if vector is not None:
        return vector
    word = _word(private_value(data, (0x0019, 0x0D), creator, "CS"))
    return TRACE if word in ("ISOTROPIC", "NONE") else None


def _ge_b(data: Any) -> float | None:
    value = _first_number([private_value(data, (0x0043, 0x39), "GEMS_PARM_01", "IS")])
    return None if value is None else value % GE_B_MODULUS


def _ge_direction(data: Any) -> Direction | None:
    kind = _first_number([private_value(data, (0x0043, 0x30), "GEMS_PARM_01", "SS")])
    if kind in GE_KINDS:
        return GE_KINDS[int(kind)]
    parts = (private_value(data, (0x0019, k), "GEMS_ACQU_01", "DS") for k in (0xBB, 0xBC, 0xBD))
    vector = _unit([number for part in parts for number in numbers_of(part)[:1]])
    return vector if vector and any(vector) else None


def _philips_direction(data: Any) -> Direction | None:
    creator = "Philips MR Imaging DD 001"
    parts = (private_value(data, (0x2005, k), creator, "FL") for k in (0xB0, 0xB1, 0xB2))
    vector = _unit([number for part in parts for number in numbers_of(part)[:1]])
    if vector and any(vector):
        return vector
    return PHILIPS_WORDS.get(
        _word(private_value(data, (0x2001, 0x04), "Philips Imaging DD 001", "CS"))
    )


def _unit(values: Any) -> Direction | None:
    """A vector of length 1; zeros stay zeros; None for what is no vector."""
    numbers = numbers_of(values)
    if len(numbers) != 3 or not np.isfinite(numbers).all():
        return None
    length = math.hypot(*numbers)
    if length < 1e-6:
        return TRACE
    x, y, z = (number / length for number in numbers)
    return x, y, z


def _found(pattern: re.Pattern[str], text: Any) -> Iterable[str]:
    match = pattern.search(str(text)) if text else None
    return [match[1]] if match else []


def _first_number(candidates: Iterable[Any]) -> float | None:
    for each in candidates:
        numbers = numbers_of(each)
        if numbers and math.isfinite(numbers[0]) and numbers[0] >= 0:
            return numbers[0]
    return None


def numbers_of(value: Any) -> list[float]:
    if value is None:
        return []
    many = (
        value
        if isinstance(value, (Sequence, np.ndarray)) and not isinstance(value, str)
        else [value]
    )
    try:
        return [float(each) for each in many]
    except (TypeError, ValueError):
        return []


def _word(value: Any) -> str:
    return str(value).strip().upper() if value is not None else ""


def private_value(data: Any, tag: tuple[int, int], creator: str, vr: str) -> Any:
    """The value of a private attribute; None without it.

    Anonymisers and old networks take away a creator's name or the type of the value: then the
    usual place is looked at, and bytes are read as the type that the vendor writes.
    """
    group, element = tag
    # Looked up among what is there: pydicom asks for each of 240 possible blocks, for every slice.
    tags = data.keys()
    blocks = [tag for tag in tags if tag.group == group and 0x10 <= tag.elem <= 0xFF]
    mine = [tag.elem for tag in blocks if str(data[tag].value).strip() == creator]
    if not blocks and MAKERS[creator] in str(data.get("Manufacturer", "")).lower():
        mine = [0x10]
    found = data.get((group, min(mine) << 8 | element)) if mine else None
    value = None if found is None else found.value
    return _decoded(value, vr) if isinstance(value, bytes) else value


def _decoded(value: bytes, vr: str) -> Any:
    letter = FORMATS.get(vr)
    if letter is None:
        words = value.decode("ascii", "replace").strip(" \0").split("\\")
        return words if len(words) > 1 else words[0]
    count = len(value) // struct.calcsize(letter)
    return list(struct.unpack(f"<{count}{letter}", value[: count * struct.calcsize(letter)]))
