"""DICOM files -> frames: one slice each, with its place, its weighting and its scale.

A file may hold one slice, all of them (enhanced), or all of an image tiled in one plane (Siemens'
mosaic): what comes after sees slices only.
"""

import contextlib
import dataclasses
import hashlib
import math
import re
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_tools.dicom.moments import Moment, moment_of, slice_times_s
from data_tools.dicom.vendors import TRACE, Direction, weighting
from data_tools.file_names import files_below
from data_tools.image_files import damaged_file
from data_tools.nifti_header import VOXEL_RANGE_MM
from data_tools.runtime.errors import InputError

DICOMDIR = "1.2.840.10008.1.3.10"
# Segmentations, reports, presentation states: what a PACS keeps beside the scanner's images.
IMAGES = ("MR",)
# Without these nothing can be told of an image.
NEEDED = ("SeriesInstanceUID", "BitsAllocated", "PhotometricInterpretation")
PADDINGS = ("PixelPadding", "FloatPixelPadding", "DoubleFloatPixelPadding")
# An empty file of one of these endings was lost; of others it is somebody's log.
ENDINGS = ("", ".dcm", ".dicom", ".ima")
# Off 1 or off a right angle by rounding only; this is 1% in mL.
MAX_OFF_UNIT = 0.01
# No scanner's table goes farther.
FARTHEST_MM = 5000.0
# Files without a preamble begin with their first attribute, of one of these groups.
FIRST_GROUPS = (b"\x02\x00", b"\x08\x00")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Head:
    """What all images of a series share.

    Attributes:
        uid: SeriesInstanceUID.
        number: of the series; None if there is none.
        description: of the series, or the protocol's name.
        patient: ID and name, as they are compared.
        study: StudyInstanceUID.
        frame_of_reference: FrameOfReferenceUID; empty if there is none.
    """

    uid: str
    number: int | None
    description: str
    patient: tuple[str, str]
    study: str
    frame_of_reference: str

    @property
    def name(self) -> str:
        """Number and description, for messages."""
        number = "?" if self.number is None else self.number
        return f"series {number}, {self.description or self.uid}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plane:
    """Where a slice lies, in the scanner's millimetres (LPS).

    Attributes:
        position_mm: centre of the first pixel.
        axes: along a row, and along a column: unit vectors [2, 3].
        pixel_mm: between rows, and between columns.
        shape: rows and columns.
        spacing_mm: from slice to slice, as the scanner says; None if it does not.
        thick_mm: of the slice; None if nothing says it.
    """

    position_mm: NDArray[np.float64]
    axes: NDArray[np.float64]
    pixel_mm: tuple[float, float]
    shape: tuple[int, int]
    spacing_mm: float | None
    thick_mm: float | None

    @property
    def normal(self) -> NDArray[np.float64]:
        """Of the slice."""
        return np.cross(*self.axes)

    def fits(self, other: "Plane") -> bool:
        """Whether both can lie in one volume: equal but for the place and rounding."""
        return (
            self.shape == other.shape
            and np.allclose(self.axes, other.axes, atol=1e-3)
            and np.allclose(self.pixel_mm, other.pixel_mm, rtol=1e-3)
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Frame:
    """One slice.

    Attributes:
        path: its file.
        index: of the frame in the file.
        tile: first row and column in a mosaic; None in other files.
        head: of its series.
        instance: SOPInstanceUID of the file.
        order: InstanceNumber of the file.
        kind: words of the image's type, in capitals.
        plane: where it lies.
        scale: slope and intercept that make the stored number the displayed one.
        padding: lowest and highest stored number of what is no image; None if the file names none.
        b_value: s/mm2; None if nothing says it.
        direction: of diffusion; zeros for a trace image, NaN if nothing says it.
        directional: of one direction, by what the file says.
        real_world: slope of the value that the file calls the real one, against that of the
            displayed value; 1 if they agree or there is one only.
        moment: when it was taken.
    """

    path: Path
    index: int
    tile: tuple[int, int] | None
    head: Head
    instance: str
    order: int
    kind: tuple[str, ...]
    plane: Plane
    scale: tuple[float, float]
    padding: tuple[float, float] | None
    b_value: float | None
    direction: Direction = TRACE
    directional: bool = False
    real_world: float = 1.0
    moment: Moment = Moment()


@dataclasses.dataclass(frozen=True)
class Scan:
    """What a folder holds.

    Attributes:
        frames: every slice of every MR image, each once.
        notes: what was left out, for people.
    """

    frames: tuple[Frame, ...]
    notes: tuple[str, ...]


class NoImages(InputError):
    """A folder holds no DICOM files, or none of an MR image."""


def read_folder(folder: Path) -> Scan:
    """Every slice of the MR images in a folder, without its pixels.

    Files that are no DICOM are left out, and so are DICOM objects that are no MR image. A file that
    is there twice counts once.

    Raises:
        NoImages: no DICOM file, or no MR image with a place.
        InputError: a damaged file.
    """
    frames: list[Frame] = []
    seen: dict[str, Path] = {}
    objects = again = placeless = 0
    for path in sorted(filter(_may_be_dicom, files_below(folder))):
        with _named(path):
            data = _read(path)
            if data is None:
                continue
            objects += 1
            found = _frames_of(path, data) if _is_image(data) else []
            if not found:
                placeless += _is_image(data)
                continue
            instance = found[0].instance
            if instance in seen:
                _check_same(seen[instance], path)
                again += 1
                continue
            seen[instance] = path
            frames += found
    if not objects:
        raise NoImages(f"DICOM {folder}: holds no DICOM file; expected one patient's study")
    if not frames:
        raise NoImages(
            f"DICOM {folder}: holds {objects} DICOM files, and none is an MR image that says where "
            "it lies; expected the scanner's diffusion images"
        )
    notes = [f"DICOM: copies of other files were left out ({again})"] if again else []
    if placeless:
        notes.append(f"DICOM: MR images that do not say where they lie were left out ({placeless})")
    return Scan(tuple(frames), tuple(notes))


def _may_be_dicom(path: Path) -> bool:
    hidden = path.name.startswith(".")
    return not hidden and (path.suffix.lower() in ENDINGS or bool(path.stat().st_size))


def pixels(frames: list[Frame]) -> NDArray[np.float32]:
    """Displayed values of slices: stored x slope + intercept, each by its own.

    Args:
        frames: of one lattice.

    Returns:
        float32 [slice, row, column]; 0 where a file says that there is no image.

    Raises:
        InputError: pixels cannot be read.
    """
    made = np.empty((len(frames), *frames[0].plane.shape), np.float32)
    by_file: dict[Path, list[int]] = {}
    for k, frame in enumerate(frames):
        by_file.setdefault(frame.path, []).append(k)
    for path, wanted in by_file.items():
        stored = _stored(path)
        for k in wanted:
            frame = frames[k]
            rows, columns = frame.plane.shape
            first_row, first_column = frame.tile or (0, 0)
            values = stored[
                frame.index, first_row : first_row + rows, first_column : first_column + columns
            ]
            slope, intercept = frame.scale
            shown = values.astype(np.float64) * slope + intercept
            if frame.padding is not None:
                lowest, highest = frame.padding
                shown[(values >= lowest) & (values <= highest)] = 0
            made[k] = shown
    return made


def _stored(path: Path) -> NDArray:
    """Stored numbers of a file: [frame, row, column]."""
    with _named(path), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = _read(path)
        _check_compression(path, data)
        array = data.pixel_array  # type: ignore[union-attr]
        return array if array.ndim == 3 else array[np.newaxis]


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    """Whatever a file makes the reader raise becomes a message that names the file."""
    try:
        yield
    except (InputError, MemoryError):
        raise
    except Exception as error:  # the reader raises what a broken attribute happens to cause
        raise damaged_file(f"DICOM {path}", error) from error


def _read(path: Path) -> Any:
    """A file's attributes, large ones not yet read; None for what is no DICOM."""
    from pydicom import dcmread
    from pydicom.errors import InvalidDicomError

    if not path.stat().st_size:
        raise EOFError("it is empty")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on how texts and numbers are written
        try:
            data = dcmread(path, defer_size=1024)
        except InvalidDicomError:
            with path.open("rb") as stream:
                if stream.read(2) not in FIRST_GROUPS:
                    return None
            data = dcmread(path, defer_size=1024, force=True)
            if "SOPClassUID" not in data:
                return None
            _say_syntax(data)
        if data.file_meta.get("MediaStorageSOPClassUID") == DICOMDIR:
            return None
        return data


def _say_syntax(data: Any) -> None:
    """A file without a preamble does not say how it is written: as it was read."""
    from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

    if "TransferSyntaxUID" not in data.file_meta:
        implicit = data.original_encoding[0]
        data.file_meta.TransferSyntaxUID = (
            ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
        )


def _is_image(data: Any) -> bool:
    return (
        data.get("Modality", "MR") in IMAGES
        and "Rows" in data
        and int(data.get("SamplesPerPixel", 1)) == 1
        and any(name in data for name in ("PixelData", "FloatPixelData", "DoubleFloatPixelData"))
    )


def _check_whole(data: Any) -> None:
    """Refuse a file with fewer pixels than it says; of compressed ones reading tells."""
    if _is_packed(data) or "PixelData" not in data:
        return
    samples = int(data.get("SamplesPerPixel", 1)) * int(data.get("NumberOfFrames", 1) or 1)
    expected = data.Rows * data.Columns * samples * data.BitsAllocated // 8
    held = len(data.PixelData)
    if held < expected:
        raise ValueError(f"{held} of {expected} bytes of pixels")


def _is_packed(data: Any) -> bool:
    try:
        return bool(data.file_meta.TransferSyntaxUID.is_compressed)
    except ValueError:  # of a syntax that the reader does not know
        return True


def _check_compression(path: Path, data: Any) -> None:
    """Refuse pixels packed in a way that no reader here can undo: they are not damaged."""
    if not _is_packed(data):
        return
    from pydicom.pixels import get_decoder

    syntax = data.file_meta.TransferSyntaxUID
    try:
        known = get_decoder(syntax).is_available
    except NotImplementedError:
        known = False
    if not known:
        name = syntax.name if syntax.name != syntax else "unknown"
        raise InputError(
            f"DICOM {path}: its pixels are compressed in a way that is not supported ({name}, "
            f"transfer syntax {syntax}); expected uncompressed ones, RLE, JPEG, JPEG-LS or JPEG "
            "2000. Export the series uncompressed (explicit VR little endian)."
        )


def _check_same(first: Path, second: Path) -> None:
    one, other = (hashlib.sha256(_stored(path).tobytes()).digest() for path in (first, second))
    if one != other:
        raise InputError(
            f"DICOM {second}: has the identity (SOPInstanceUID) of {first.name} and other pixels; "
            "expected each image once. Find out which is right and remove the other."
        )


def _frames_of(path: Path, data: Any) -> list[Frame]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _check_whole(data)
        try:
            return list(_frames(path, data))
        except (InputError, MemoryError):
            raise
        except Exception as error:  # whatever a value that is none makes the reader raise
            absent = re.search(r"no attribute '(\w+)'", str(error))
            what = f"{absent[1]} is absent" if absent else str(error)
            raise InputError(
                f"DICOM {path}: an attribute is absent or cannot be read ({what}); expected what "
                "the standard wants of an MR image. Export the series again."
            ) from error


def _frames(path: Path, data: Any) -> Iterator[Frame]:
    for keyword in NEEDED:
        if not str(data.get(keyword, "")).strip():
            raise ValueError(f"{keyword} is absent")
    if "PerFrameFunctionalGroupsSequence" in data:
        yield from _of_enhanced(path, data)
    elif "ImagePositionPatient" in data and "ImageOrientationPatient" in data:
        yield from _of_classic(path, data)


def _of_classic(path: Path, data: Any) -> Iterator[Frame]:
    kind = _words(data.get("ImageType"))
    weighted = weighting(data, data, kind)
    scale, real_world = _scale(data, data, data)
    plane = _plane(data, data, data, data)
    frame = Frame(
        path=path,
        index=0,
        tile=None,
        head=_head(data),
        instance=_instance(path, data),
        order=_whole(data, "InstanceNumber") or 0,
        kind=kind,
        plane=plane,
        scale=scale,
        real_world=real_world,
        padding=_padding(data),
        moment=moment_of(data),
        **weighted._asdict(),
    )
    if "MOSAIC" in kind:
        yield from _of_mosaic(data, frame)
    else:
        yield frame


def _of_mosaic(data: Any, whole: Frame) -> Iterator[Frame]:
    """The slices that Siemens tiles in one plane; how many and which way its own header says."""
    from nibabel.nicom.dicomwrappers import MosaicWrapper, wrapper_from_data

    check_place(whole)
    wrapper = wrapper_from_data(data)
    if not isinstance(wrapper, MosaicWrapper):
        raise InputError(
            f"DICOM {whole.path}: is a mosaic without Siemens' private header (an anonymiser took "
            "it?), which alone says where its slices lie; export the series again with private "
            "attributes, or as one file a slice"
        )
    rows, columns, count = (int(n) for n in wrapper.image_shape[:3])
    across = whole.plane.shape[1] // columns
    step = np.asarray(wrapper.slice_normal, float) * float(wrapper.voxel_sizes[2])
    b_value = whole.b_value
    if b_value is None:
        said = (wrapper.csa_header or {}).get("tags", {}).get("B_value", {}).get("items", [])
        b_value = float(said[0]) if said else None
    within_s = slice_times_s(data, wrapper.csa_header or {}, count)
    for k in range(count):
        plane = dataclasses.replace(
            whole.plane,
            position_mm=np.asarray(wrapper.image_position, float) + k * step,
            shape=(rows, columns),
            spacing_mm=float(wrapper.voxel_sizes[2]),
        )
        tile = (k // across * rows, k % across * columns)
        moment = dataclasses.replace(whole.moment, within_s=within_s[k] if within_s else None)
        yield dataclasses.replace(whole, tile=tile, plane=plane, b_value=b_value, moment=moment)


def _of_enhanced(path: Path, data: Any) -> Iterator[Frame]:
    shared = data.get("SharedFunctionalGroupsSequence") or [None]
    per_frame = data.PerFrameFunctionalGroupsSequence
    count = int(data.get("NumberOfFrames", 1) or 1)
    if len(per_frame) != count:
        raise ValueError(f"it has {count} frames and describes {len(per_frame)}")
    head = _head(data)
    for k, own in enumerate(per_frame):

        def group(name: str, own: Any = own) -> Any:
            for place in (own, shared[0]):
                if place is not None and place.get(name):
                    return place[name][0]
            return None

        position, orientation = group("PlanePositionSequence"), group("PlaneOrientationSequence")
        measures, types = group("PixelMeasuresSequence"), group("MRImageFrameTypeSequence")
        if position is None or orientation is None or measures is None:
            continue
        kind = _words(types.get("FrameType") if types else data.get("ImageType"))
        component = str((types or data).get("ComplexImageComponent", "")).upper()
        diffusion = group("MRDiffusionSequence")
        weighted = weighting(data, diffusion if diffusion is not None else data, kind)
        scale, real_world = _scale(
            data, group("PixelValueTransformationSequence"), group("RealWorldValueMappingSequence")
        )
        yield Frame(
            path=path,
            index=k,
            tile=None,
            head=head,
            instance=_instance(path, data),
            order=_whole(data, "InstanceNumber") or 0,
            kind=(*kind, component) if component else kind,
            plane=_plane(data, position, orientation, measures),
            scale=scale,
            real_world=real_world,
            padding=_padding(data),
            moment=moment_of(data, group),
            **weighted._asdict(),
        )


def _plane(data: Any, position: Any, orientation: Any, measures: Any) -> Plane:
    rows, columns = (float(each) for each in np.atleast_1d(measures.PixelSpacing))
    spacing, thick = (
        abs(_number(measures, name)) for name in ("SpacingBetweenSlices", "SliceThickness")
    )
    # Less than a slice is thick: then the gap between slices was written.
    return Plane(
        position_mm=np.array(position.ImagePositionPatient, float).reshape(3),
        axes=np.array(orientation.ImageOrientationPatient, float).reshape(2, 3),
        pixel_mm=(rows, columns),
        shape=(int(data.Rows), int(data.Columns)),
        spacing_mm=(spacing + thick if spacing < 0.95 * thick else spacing) if spacing else None,
        thick_mm=thick or None,
    )


def check_place(frame: Frame) -> None:
    """Refuse a slice whose size or place cannot be.

    Args:
        frame: whose plane is looked at.

    Raises:
        InputError: naming the attribute and the file.
    """
    plane = frame.plane
    low, high = VOXEL_RANGE_MM
    lengths = np.sqrt((plane.axes**2).sum(axis=1))
    is_turn = (
        np.abs(lengths - 1).max() <= MAX_OFF_UNIT
        and abs(plane.axes[0] @ plane.axes[1]) <= MAX_OFF_UNIT
    )
    pixel_mm = np.array(plane.pixel_mm)
    for keyword, values, fits, wanted in (
        ("PixelSpacing", pixel_mm, bool(((pixel_mm >= low) & (pixel_mm <= high)).all()),
         f"{low:g} to {high:g} mm"),
        ("ImageOrientationPatient", plane.axes.ravel(), bool(is_turn),
         "two directions of length 1 at right angles"),
        ("ImagePositionPatient", plane.position_mm, bool(
            (np.abs(plane.position_mm) <= FARTHEST_MM).all()), "a place in the scanner, in mm"),
    ):  # fmt: skip
        if not fits:
            shown = "\\".join(f"{value:.4g}" for value in values)
            raise InputError(
                f"DICOM {frame.path}: its {keyword} is {shown}; expected {wanted}. Export the "
                "series again."
            )


def _head(data: Any) -> Head:
    return Head(
        uid=str(data.SeriesInstanceUID),
        number=_whole(data, "SeriesNumber"),
        description=_text(data, "SeriesDescription") or _text(data, "ProtocolName"),
        patient=(_text(data, "PatientID"), _same_name(_text(data, "PatientName"))),
        study=str(data.get("StudyInstanceUID", "")),
        frame_of_reference=str(data.get("FrameOfReferenceUID", "")),
    )


def _instance(path: Path, data: Any) -> str:
    """The file's identity; one without it is like no other."""
    return str(data.get("SOPInstanceUID", "")).strip() or str(path)


def _number(place: Any, keyword: str) -> float:
    """A number that may be absent, or no number: then 0."""
    try:
        number = float(place.get(keyword) or 0)
    except (TypeError, ValueError):
        return 0.0
    return number if math.isfinite(number) else 0.0


def _whole(data: Any, keyword: str) -> int | None:
    """A whole number that may be absent, or no number: then None."""
    try:
        return int(data.get(keyword))
    except (TypeError, ValueError):
        return None


def _text(data: Any, keyword: str) -> str:
    """A text without line breaks; nothing where there is none."""
    value = data.get(keyword)
    if value is None:
        return ""
    # A backslash in a description parts it in two.
    parts = [value] if isinstance(value, str) or not isinstance(value, Sequence) else value
    return " ".join("\\".join(map(str, parts)).split())


def _same_name(name: str) -> str:
    """A patient's name as it is compared: other capitals, order or signs are no other patient."""
    return " ".join(sorted(re.findall(r"\w+", name.split("=")[0].casefold())))


def _words(value: Any) -> tuple[str, ...]:
    words = [value] if isinstance(value, str) else list(value or ())
    return tuple(str(word).strip().upper() for word in words)


def _scale(data: Any, rescale: Any, mapping: Any) -> tuple[tuple[float, float], float]:
    """Slope and intercept of the displayed value, and how far the real-world slope is off it.

    A vendor's private second scale is not for display. Where only a real-world value is mapped,
    that is what is displayed.
    """
    shown = None
    for where in (rescale, data):
        keys = ("RescaleSlope", "RescaleIntercept")
        if where is not None and any(where.get(key) is not None for key in keys):
            slope = where.get("RescaleSlope")
            shown = (1.0 if slope is None else float(slope), float(where.get(keys[1]) or 0))
            break
    if mapping is data:
        mapping = (data.get("RealWorldValueMappingSequence") or [None])[0]
    real = None
    if mapping is not None and mapping.get("RealWorldValueSlope") is not None:
        intercept = float(mapping.get("RealWorldValueIntercept") or 0)
        real = (float(mapping.RealWorldValueSlope), intercept)
    if shown is None:
        return real or (1.0, 0.0), 1.0
    if real is None or not real[0] or not shown[0]:
        return shown, 1.0
    # Units differ by powers of ten; what is left is another scale.
    decades = math.log10(abs(real[0] / shown[0]))
    return shown, 10 ** (decades - round(decades))


def _padding(data: Any) -> tuple[float, float] | None:
    """From PixelPaddingValue to PixelPaddingRangeLimit, which may lie above it or below."""
    for kind in PADDINGS:
        ends = [_stored_number(data, f"{kind}{name}") for name in ("Value", "RangeLimit")]
        if ends[0] is not None:
            other = ends[0] if ends[1] is None else ends[1]
            return min(ends[0], other), max(ends[0], other)
    return None


def _stored_number(data: Any, keyword: str) -> float | None:
    """A number as pixels hold it: signed if they are, whatever the attribute was written as."""
    value = data.get(keyword)
    if not isinstance(value, int | float) or not math.isfinite(value):
        return None
    half = 1 << (int(data.BitsAllocated) - 1)
    wraps = isinstance(value, int) and value >= half and data.get("PixelRepresentation") == 1
    return value - 2 * half if wraps else value
