"""A folder of DICOM files -> its diffusion study as NIfTI, by dcm2niix (extra ``dicom``)."""

import contextlib
import dataclasses
import json
import re
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data_tools.errors import InputError

# Siemens, GE and Philips write "ADC"; exponential ADC maps (eADC) are another image.
ADC_WORDS = re.compile(r"(?<![a-z])(adc|apparent diffusion)(?![a-z])", re.I)
OTHER_MAPS = re.compile(r"(?<![a-z])(e-?adc|exponential|fa|colfa|tensor)(?![a-z])", re.I)
TRACE_WORDS = re.compile(r"trace|isotropic|(?<![a-z])iso(?![a-z])", re.I)
MIN_B_S_PER_MM2 = 500.0
SECONDS = 300


@dataclasses.dataclass(frozen=True)
class Converted:
    """What was found; the files live as long as the ``with`` block.

    Attributes:
        dwi: NIfTI with .bval beside it. adc: the scanner's map, None if there is none.
        dwi_series: number and description, for messages. notes: what else was decided.
    """

    dwi: Path
    adc: Path | None
    dwi_series: str
    notes: tuple[str, ...]


@contextlib.contextmanager
def converted(folder: Path) -> Iterator[Converted]:
    """Convert a folder of one patient's DICOM files and choose the DWI and the ADC map.

    Of several diffusion series the trace images are taken; the scanner's ADC map is preferred to a
    computed one.

    Raises:
        InputError: the extra is missing; no DICOM files, those of several patients or studies, no
            diffusion study or several.
    """
    program = _program()
    _check_one_patient(folder)
    with tempfile.TemporaryDirectory(prefix="hypoperfusion-dicom-") as place:
        # -i y would leave out derived images, and ADC maps are derived.
        command = [program, "-b", "y", "-ba", "y", "-z", "n", "-f", "%s_%d", "-o", place, folder]
        try:
            done = subprocess.run(
                [str(part) for part in command], capture_output=True, text=True, timeout=SECONDS
            )
        except subprocess.TimeoutExpired as error:
            raise InputError(f"DICOM {folder}: dcm2niix did not end in {SECONDS} s") from error
        series = [_Series(path) for path in sorted(Path(place).glob("*.nii"))]
        if not series:
            said = next(iter((done.stderr + done.stdout).strip().splitlines()[-1:]), "nothing")
            raise InputError(f"DICOM {folder}: dcm2niix made no image of it; it said: {said}")
        yield _choose(folder, series)


class _Series:
    """One image of dcm2niix with what its sidecar says."""

    def __init__(self, path: Path):
        self.path = path
        sidecar = path.with_suffix(".json")
        self.known: dict[str, Any] = json.loads(sidecar.read_text()) if sidecar.is_file() else {}
        words = [str(self.known.get(key, "")) for key in ("SeriesDescription", "ProtocolName")]
        self.kind = [str(word) for word in self.known.get("ImageType", [])]
        self.words = " ".join([*words, *self.kind])
        self.name = f"series {self.known.get('SeriesNumber', '?')}, {words[0] or path.stem}"

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


def _choose(folder: Path, series: list[_Series]) -> Converted:
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
    return Converted(
        chosen[0].path, maps[0].path if maps else None, chosen[0].name, tuple(notes)
    )  # fmt: skip


def _check_one_patient(folder: Path) -> None:
    """Refuse files of two patients, or of two studies: DWI and ADC might be of different days."""
    import pydicom
    from pydicom.errors import InvalidDicomError

    tags = ["PatientID", "PatientName", "StudyInstanceUID"]
    patients: dict[tuple[str, str], Path] = {}
    studies: dict[str, Path] = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        try:
            header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=tags)
        except (InvalidDicomError, OSError, ValueError, EOFError):
            continue  # a text file, a DICOMDIR's neighbour; dcm2niix skips it too
        if "StudyInstanceUID" not in header:
            continue
        who = (str(header.get("PatientID", "")), str(header.get("PatientName", "")))
        patients.setdefault(who, path)
        studies.setdefault(str(header.StudyInstanceUID), path)
    if not studies:
        raise InputError(f"DICOM {folder}: holds no DICOM file; expected one patient's study")
    for what, found in (("patients", patients), ("studies", studies)):
        if len(found) > 1:
            files = ", ".join(str(path.relative_to(folder)) for path in found.values())
            raise InputError(
                f"DICOM {folder}: holds files of {len(found)} {what} ({files}); expected one. Give "
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
