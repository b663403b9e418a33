"""A folder of DICOM files -> its diffusion study as NIfTI, by dcm2niix (extra ``dicom``)."""

import contextlib
import dataclasses
import json
import re
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data_tools.image_files import damaged_file
from data_tools.runtime.errors import InputError

# Siemens, GE and Philips write "ADC"; exponential ADC maps (eADC) are another image.
ADC_WORDS = re.compile(r"(?<![a-z])(adc|apparent diffusion)(?![a-z])", re.I)
OTHER_MAPS = re.compile(r"(?<![a-z])(e-?adc|exponential|fa|colfa|tensor)(?![a-z])", re.I)
TRACE_WORDS = re.compile(r"trace|isotropic|(?<![a-z])iso(?![a-z])", re.I)
MIN_B_S_PER_MM2 = 500.0
SECONDS = 300
# Of what dcm2niix says on its way, that which means that slices are lost or lie otherwise.
ALARMING = re.compile(
    r"^warning.*(missing|distance|varies|inconsistent|incompatible|corrupt|unable)", re.I
)
DICOMDIR = "1.2.840.10008.1.3.10"
# Distances between neighbouring slices differ by rounding only; a lost slice doubles one.
MAX_GAP_RATIO = 1.5


@dataclasses.dataclass(frozen=True, kw_only=True)
class Converted:
    """What was found; the files live as long as the ``with`` block.

    Attributes:
        dwi: NIfTI with .bval beside it.
        adc: the scanner's map, None if there is none.
        dwi_series: number and description, for messages.
        adc_series: the same of the map; empty without one.
        dwi_number: of the DWI's series.
        notes: what else was decided.
        warnings: what dcm2niix complained of.
    """

    dwi: Path
    adc: Path | None
    dwi_series: str
    adc_series: str
    dwi_number: int
    notes: tuple[str, ...]
    warnings: tuple[str, ...] = ()


@contextlib.contextmanager
def converted(folder: Path) -> Iterator[Converted]:
    """Convert a folder of one patient's DICOM files and choose the DWI and the ADC map.

    Of several diffusion series the trace images are taken; the scanner's ADC map is preferred to a
    computed one.

    Raises:
        InputError: the extra is missing; no DICOM files, a damaged one, those of several patients
            or studies; no diffusion study or several; slices of it are lost.
    """
    program = _program()
    files = _read_headers(folder)
    _check_one_patient(folder, files)
    with tempfile.TemporaryDirectory(prefix="hypoperfusion-dicom-") as place:
        done = _convert(program, folder, place)
        series = [_Series(path) for path in sorted(Path(place).glob("*.nii"))]
        if not any(each.is_dwi for each in series):
            _check_unconverted(folder, files, series)
        if not series:
            said = next(iter((done.stderr + done.stdout).strip().splitlines()[-1:]), "nothing")
            raise InputError(f"DICOM {folder}: dcm2niix made no image of it; it said: {said}")
        dwi, adc, notes = _choose(folder, series)
        for each in (dwi, adc):
            if each is not None:
                _check_slices(folder, each.name, list(_of_series(files, each.number).values()))
        lines = (line.strip() for line in (done.stdout + done.stderr).splitlines())
        worries = (f"dcm2niix: {line}" for line in lines if ALARMING.search(line))
        yield Converted(
            dwi=dwi.path,
            adc=adc.path if adc else None,
            dwi_series=dwi.name,
            adc_series=adc.name if adc else "",
            dwi_number=dwi.number,
            notes=notes,
            warnings=tuple(dict.fromkeys(worries)),
        )


def _convert(program: str, folder: Path, place: str) -> subprocess.CompletedProcess[str]:
    # -i y would leave out derived images, and ADC maps are derived.
    command = [program, "-b", "y", "-ba", "y", "-z", "n", "-f", "%s_%d", "-o", place, str(folder)]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
    except subprocess.TimeoutExpired as error:
        raise InputError(f"DICOM {folder}: dcm2niix did not end in {SECONDS} s") from error


class _Series:
    """One image of dcm2niix with what its sidecar says."""

    def __init__(self, path: Path):
        self.path = path
        sidecar = path.with_suffix(".json")
        self.known: dict[str, Any] = json.loads(sidecar.read_text()) if sidecar.is_file() else {}
        words = [str(self.known.get(key, "")) for key in ("SeriesDescription", "ProtocolName")]
        self.kind = [str(word) for word in self.known.get("ImageType", [])]
        self.words = " ".join([*words, *self.kind])
        # Of derived images the sidecar has no number, but the name begins with it (-f %s_%d).
        written = re.match(r"\d+", path.stem)
        self.number = int(self.known.get("SeriesNumber") or (written[0] if written else 0))
        self.name = f"series {self.number or '?'}, {words[0] or path.stem}"

    @property
    def is_adc(self) -> bool:
        named = "ADC" in self.kind or self.path.stem.endswith("_ADC")
        return (named or bool(ADC_WORDS.search(self.words))) and not OTHER_MAPS.search(self.words)

    @property
    def is_dwi(self) -> bool:
        bval = self.path.with_suffix(".bval")
        if self.is_adc or OTHER_MAPS.search(self.words) or not bval.is_file():
            return False
        return any(float(word) >= MIN_B_S_PER_MM2 for word in bval.read_text().split())

    @property
    def is_trace(self) -> bool:
        return "TRACEW" in self.kind or bool(TRACE_WORDS.search(self.words))


def _choose(folder: Path, series: list[_Series]) -> tuple[_Series, _Series | None, tuple[str, ...]]:
    """The DWI, the scanner's ADC map if there is one, and notes on the choice."""
    diffusion = [each for each in series if each.is_dwi]
    if not diffusion:
        names = "; ".join(each.name for each in series)
        raise InputError(
            f"DICOM {folder}: no series with b-values of {MIN_B_S_PER_MM2:g} s/mm2 and more; found "
            f"{names}. Expected the DWI of b about 1000 s/mm2."
        )
    chosen = [each for each in diffusion if each.is_trace] or diffusion
    maps = [each for each in series if each.is_adc]
    for what, found in (("DWI", chosen), ("ADC", maps)):
        if len(found) > 1:
            names = "; ".join(each.name for each in found)
            raise InputError(
                f"DICOM {folder}: {len(found)} {what} series: {names}; expected one. Keep those of "
                "the baseline scan, remove the others."
            )
    notes = []
    if len(diffusion) > 1:
        notes.append(f"DICOM: {len(diffusion)} diffusion series, the trace images were taken")
    if maps:
        notes.append(f"DICOM: ADC from {maps[0].name}")
    return chosen[0], maps[0] if maps else None, tuple(notes)


def slices_of(folder: Path, series_number: int) -> list[Any]:
    """One image of each slice of a series, for objects that refer to it.

    Returns:
        pydicom datasets along the normal; of several at a place the last one, which has the
        highest b-value as a rule.

    Raises:
        InputError: the series has several slices in a file (mosaic, enhanced).
    """
    from pydicom import dcmread

    at: dict[float, Any] = {}
    for path, header in _of_series(_read_headers(folder), series_number).items():
        if header.frames > 1 or header.position_mm is None:
            raise InputError(
                f"DICOM {path}: holds several slices; results can be written for series of one "
                "file a slice only"
            )
        data = dcmread(path)
        other = at.get(header.position_mm)
        if other is None or int(data.InstanceNumber) > int(other.InstanceNumber):
            at[header.position_mm] = data
    if len(at) < 2:
        raise InputError(
            f"DICOM {folder}: series {series_number} has {len(at)} slice positions (a mosaic?); "
            "results can be written for series of one file a slice only"
        )
    return [at[position] for position in sorted(at)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Header:
    patient: tuple[str, str]
    study: str
    number: int  # of the series
    frames: int
    position_mm: float | None  # along the normal of the slice
    spacing_mm: float | None  # from slice to slice, as the scanner says


def _read_headers(folder: Path) -> dict[Path, _Header]:
    """Of every DICOM file; others are left out, as dcm2niix does."""
    from pydicom import dcmread
    from pydicom.errors import InvalidDicomError

    found: dict[Path, _Header] = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        try:
            if not path.stat().st_size:
                raise EOFError("it is empty")
            data = dcmread(path, defer_size=1024)
            if data.file_meta.get("MediaStorageSOPClassUID") == DICOMDIR:
                continue
            _check_whole(path, data)
            found[path] = _header(data)
        except InvalidDicomError:
            continue  # a text file
        except (OSError, ValueError, EOFError, KeyError, AttributeError, TypeError) as error:
            raise damaged_file(f"DICOM {path}", error) from error
    if not found:
        raise InputError(f"DICOM {folder}: holds no DICOM file; expected one patient's study")
    return found


def _of_series(files: dict[Path, _Header], number: int) -> dict[Path, _Header]:
    """The files of a series by dcm2niix's number: it adds thousands for parts it writes apart."""
    numbers = {header.number for header in files.values()}
    own = number if number in numbers else number % 1000
    return {path: header for path, header in files.items() if header.number == own}


def _check_whole(path: Path, data: Any) -> None:
    """Refuse a file with fewer pixels than it says; compressed ones cannot be told."""
    if "Rows" not in data or data.file_meta.TransferSyntaxUID.is_compressed:
        return
    samples = int(data.get("SamplesPerPixel", 1)) * int(data.get("NumberOfFrames", 1) or 1)
    expected = data.Rows * data.Columns * samples * data.BitsAllocated // 8
    held = len(data.get("PixelData", b""))
    if held < expected:
        raise ValueError(f"{held} of {expected} bytes of pixels")


def _header(data: Any) -> _Header:
    position = None
    if "ImagePositionPatient" in data and "ImageOrientationPatient" in data:
        axes = np.array(data.ImageOrientationPatient, float).reshape(2, 3)
        where = np.array(data.ImagePositionPatient, float)
        position = round(float(np.cross(*axes) @ where), 2)
    return _Header(
        patient=(str(data.get("PatientID", "")), str(data.get("PatientName", ""))),
        study=str(data.StudyInstanceUID),
        number=int(data.get("SeriesNumber", 0) or 0),
        frames=int(data.get("NumberOfFrames", 1) or 1),
        position_mm=position,
        spacing_mm=float(data.get("SpacingBetweenSlices") or 0) or None,
    )


def _check_slices(folder: Path, name: str, files: list[_Header]) -> None:
    """Refuse a series of one file a slice of which some are lost.

    Raises:
        InputError: positions with fewer images than others, or a gap between positions.
    """
    positions = [f.position_mm for f in files if f.position_mm is not None and f.frames == 1]
    where, counts = np.unique(positions, return_counts=True)
    if len(where) < 3:  # mosaics: all slices in one file
        return
    again = "Slices are lost: export the series again."
    if counts.min() != counts.max():
        short = ", ".join(f"{mm:g}" for mm in where[counts < counts.max()][:5])
        raise InputError(
            f"DICOM {folder} ({name}): some slices have {counts.min()} images and others "
            f"{counts.max()}, fewer at {short} mm; expected as many of each. {again}"
        )
    gaps = np.diff(where)
    said = [f.spacing_mm for f in files if f.spacing_mm is not None]
    usual = min([float(np.median(gaps)), *said])
    if gaps.max() > MAX_GAP_RATIO * usual:
        after = where[gaps.argmax()]
        raise InputError(
            f"DICOM {folder} ({name}): the slice after {after:g} mm is {gaps.max():g} mm away; "
            f"expected {usual:g} mm, as others are or as the scanner says. {again}"
        )


def _check_unconverted(folder: Path, files: dict[Path, _Header], series: Sequence[_Series]) -> None:
    """Where there is no DWI: refuse series without an image of which slices are lost."""
    made = {each.number % 1000 for each in series}
    for number in sorted({h.number for h in files.values() if h.number % 1000 not in made}):
        _check_slices(folder, f"series {number}", list(_of_series(files, number).values()))


def _check_one_patient(folder: Path, files: dict[Path, _Header]) -> None:
    """Refuse files of two patients, or of two studies: DWI and ADC might be of different days."""
    patients: dict[Any, Path] = {}
    studies: dict[Any, Path] = {}
    for path, header in files.items():
        patients.setdefault(header.patient, path)
        studies.setdefault(header.study, path)
    for what, found in (("patients", patients), ("studies", studies)):
        if len(found) > 1:
            names = ", ".join(str(path.relative_to(folder)) for path in found.values())
            raise InputError(
                f"DICOM {folder}: holds files of {len(found)} {what} ({names}); expected one. Give "
                "each a folder of its own."
            )


def _program() -> str:
    try:
        import dcm2niix
        import pydicom  # noqa: F401
    except ImportError as error:
        raise InputError(
            f"DICOM files need more packages ({error}); install the extra `dicom`"
        ) from error
    return dcm2niix.bin
