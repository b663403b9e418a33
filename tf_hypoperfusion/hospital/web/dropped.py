"""What a person dropped -> what each file is taken for -> a study of the spool.

Nothing is decided in silence:
the page says what was taken for what, and a person confirms or corrects it.
"""

import dataclasses
import gzip
import re
import secrets
import shutil
import threading
import time
import zlib
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path, PurePosixPath

from data_tools.dicom import study as dicom
from data_tools.dicom.frames import read_folder
from data_tools.file_names import ending, stem
from data_tools.image_files import GZIP_MAGIC, SINGLE_FILE
from data_tools.runtime.errors import InputError, counted, reason_of
from tf_hypoperfusion.clinical import ClinicalFacts
from tf_hypoperfusion.hospital.reader_words import for_reader
from tf_hypoperfusion.hospital.spool import Spool
from tf_hypoperfusion.hospital.study import DroppedStudy
from tf_hypoperfusion.hospital.web.arriving import CHUNK_BYTES, Arriving, DroppedFile

FOLDER = "dropping"
# The largest series of a head has half a gigabyte.
MAX_FILE_BYTES = 1 << 30
MAX_IMAGES = 40
# Drops that nobody has started yet, and how long they are kept.
MAX_OPEN, KEPT_S = 8, 3600.0
# Of the latest drops it is known which studies they became.
MAX_STARTED = 200
GONE = (
    "these files are no longer here: they were started or discarded, or waited for too long; drop "
    "them again"
)
UNKNOWN, NOT_USED = "", "none"
ROLES = {"dwi": "DWI", "adc": "ADC map", "b0": "b = 0 image", NOT_USED: "not used"}
# Words of names; an ADC map of "ep2d_diff_trace" is one.
WORDS = {
    NOT_USED: {"mask", "label", "labels", "msk", "seg", "lesion", "core", "prob", "probability",
               "tmax", "cbf", "cbv", "mtt", "ttp", "pwi", "dsc", "flair", "t1", "t1w", "t2",
               "t2w", "swi", "hypoperfusion", "disagreement"},
    "adc": {"adc"},
    "b0": {"b0", "b0000"},
    "dwi": {"dwi", "trace", "tracew", "b1000", "diff", "diffusion"},
}  # fmt: skip
BESIDE = (".bval", ".bvec", ".json")
PACKED = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar")
MAX_BESIDE_BYTES = 1 << 20


@dataclasses.dataclass(frozen=True, kw_only=True)
class Drop:
    """A drop that was looked at, and waits for a person's word.

    Attributes:
        key: that its address holds.
        folder: of its files.
        images: NIfTI files; none of a drop of DICOM files.
        roles: what each of these is taken for, a key of :data:`ROLES`, or :data:`UNKNOWN`.
        beside: files that may lie beside an image.
        dicom: DICOM files; none of a drop of NIfTI files.
        series: of the DICOM files: UID -> words.
        said: what was found, in sentences.
        fault: why the DICOM files cannot be used as they are; None if they can.
        left_out: how many other files there are.
        until_s: kept so long, by the clock of :func:`time.monotonic`.
    """

    key: str
    folder: Path
    images: tuple[DroppedFile, ...]
    roles: tuple[str, ...]
    beside: tuple[DroppedFile, ...]
    dicom: tuple[DroppedFile, ...]
    series: Mapping[str, str]
    said: tuple[str, ...]
    fault: str | None
    left_out: int
    until_s: float


def role_of(name: str) -> str:
    """What an image is by the words of its name; :data:`UNKNOWN` if they do not say.

    >>> role_of("sub-1/dwi/sub-1_ADC.nii.gz"), role_of("5_ep2d_diff_TRACEW.nii"), role_of("x.nii")
    ('adc', 'dwi', '')
    """
    words = set(re.split("[^a-z0-9]+", stem(PurePosixPath(name).name).lower()))
    return next((role for role, known in WORDS.items() if words & known), UNKNOWN)


def is_lone_image(roles: Sequence[str]) -> bool:
    """Whether all roles are known, and a DWI or an ADC map is to answer alone.

    >>> is_lone_image(["dwi", "none"]), is_lone_image(["dwi", "b0"]), is_lone_image(["dwi", ""])
    (True, False, False)
    """
    said = set(roles)
    return UNKNOWN not in said and ("adc" in said) != ("dwi" in said) and said.isdisjoint({"b0"})


class Drops:
    """The drops of a spool that nobody has started yet; methods may be called from any thread."""

    def __init__(self, spool: Spool) -> None:
        """Work beside a spool's studies.

        Args:
            spool: of the node.
        """
        self._spool = spool
        self._folder = spool.folder / FOLDER
        self._open: dict[str, Drop | None] = {}
        # What the drops became, or will be once who started them is done.
        self._started: dict[str, Future[str]] = {}
        self._lock = threading.Lock()

    def clear(self) -> None:
        """Remove what an earlier process left."""
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(mode=0o700)

    def expire(self) -> None:
        """Remove the drops that nobody started in time."""
        with self._lock:
            open_now = [*self._open.values()]
        for drop in open_now:
            if drop and drop.until_s < time.monotonic():
                self.discard(drop.key)

    def arrive(self) -> Arriving:
        """A new drop.

        Raises:
            InputError: too many wait already.
            OSError: no room.
        """
        self.expire()
        key = secrets.token_hex(16)
        with self._lock:
            if len(self._open) >= MAX_OPEN:
                raise InputError(
                    f"{MAX_OPEN} drops wait to be started already; start or discard one of them"
                )
            self._open[key] = None
        try:
            return Arriving(self._folder / key, self._spool.check_room)
        except BaseException:
            self.discard(key)
            raise

    def look(self, arriving: Arriving) -> Drop:
        """What was dropped, once all of it is there.

        Raises:
            InputError: it cannot be used; nothing of it is left then.
            OSError: no room; likewise.
        """
        key = arriving.folder.name
        try:
            arriving.close()
            arriving.unpack()
            drop = _look(key, arriving)
        except BaseException:
            self.discard(key)
            raise
        with self._lock:
            self._open[key] = drop
        return drop

    def find(self, key: str) -> Drop:
        """A drop that waits.

        Raises:
            InputError: there is none.
        """
        with self._lock:
            drop = self._open.get(key)
        if drop is None:
            raise InputError(GONE)
        return drop

    def study_of(self, key: str) -> str | None:
        """The study that a drop became, once who starts it is done; None where it became none.

        Args:
            key: of the drop.
        """
        with self._lock:
            started = self._started.get(key)
        return None if started is None or started.exception() else started.result()

    def waiting(self) -> list[Drop]:
        """The drops that wait, the oldest first."""
        with self._lock:
            return [drop for key, drop in self._open.items() if drop and key not in self._started]

    def discard(self, key: str) -> None:
        """Remove a drop, if it is there and nobody starts it.

        Args:
            key: of the drop.
        """
        with self._lock:
            if key not in self._open or key in self._started:
                return
            del self._open[key]
        shutil.rmtree(self._folder / key, ignore_errors=True)

    def start(
        self, drop: Drop, roles: Sequence[str], facts: ClinicalFacts | None = None, *,
        side: str | None, series: str | None, remark: str | None,
    ) -> str:  # fmt: skip
        """Give a drop to the spool; of several who do so at once, each gets the one study.

        Args:
            drop: of :meth:`find`.
            roles: of its images, as a person confirmed them.
            facts: NIHSS and age.
            side: of the stroke; None if nobody gave it.
            series: of the DWI among DICOM files; None leaves the choice to the program.
            remark: that tells it from others.

        Returns:
            The study's name.

        Raises:
            InputError: no image, or two of one kind; the drop stays. Or it is gone.
            OSError: no room; likewise.
            sqlite3.Error: likewise.
        """
        mine: Future[str] = Future()
        with self._lock:
            known = self._started.get(drop.key)
            if known is None and drop.key not in self._open:
                raise InputError(GONE)
            if known is None:
                self._started[drop.key] = mine
        if known is not None:
            return known.result()
        try:
            study = self._take(drop, roles, facts, side=side, series=series, remark=remark)
        except BaseException as error:
            with self._lock:
                del self._started[drop.key]
            mine.set_exception(error)
            raise
        with self._lock:
            del self._open[drop.key]
            for key in [*self._started][:-MAX_STARTED]:
                if key not in self._open:
                    del self._started[key]
        shutil.rmtree(drop.folder, ignore_errors=True)
        mine.set_result(study)
        return study

    def _take(
        self, drop: Drop, roles: Sequence[str], facts: ClinicalFacts | None, *,
        side: str | None, series: str | None, remark: str | None,
    ) -> str:  # fmt: skip
        names = _named(drop, roles)
        folder = drop.folder / "study"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=0o700)
        for name, path in names.items():
            (folder / name).hardlink_to(path)
        return self._spool.take(
            DroppedStudy(
                files=folder,
                side=side,
                nihss=facts.nihss if facts else None,
                age=facts.age if facts else None,
                series=series,
                remark=remark,
            )
        )


def _look(key: str, arriving: Arriving) -> Drop:
    images, beside, scanned, packed, left_out = [], [], [], [], 0
    for each in arriving.files:
        name = each.shown
        if name.startswith("._"):
            left_out += 1
        elif _is_nifti(each):
            images.append(each)
        elif ending(name):
            raise InputError(
                f"the file {name} is no NIfTI file in one piece; expected .nii or .nii.gz, or "
                "DICOM files"
            )
        elif name.lower().endswith(BESIDE) and each.path.stat().st_size <= MAX_BESIDE_BYTES:
            beside.append(each)
        elif _is_dicom(each.path):
            scanned.append(each)
        elif name.lower().endswith(PACKED):
            packed.append(name)
        else:
            left_out += 1
    if images and scanned:
        raise InputError(
            f"{counted(len(images), 'NIfTI file')} and {counted(len(scanned), 'DICOM file')} were "
            "dropped; expected either the ones or the others, of one patient"
        )
    if not images and not scanned and packed:
        raise InputError(
            f"the packed file {packed[0]} is of another kind than zip, or lies in a zip itself, "
            "and was not unpacked; unpack it, and drop the folder"
        )
    if not images and not scanned:
        raise InputError(
            f"no image is among {counted(len(arriving.files), 'file')}; expected a DWI and an ADC "
            "map as NIfTI (.nii, .nii.gz), a folder of DICOM files, or a zip of either"
        )
    if len(images) > MAX_IMAGES:
        raise InputError(
            f"{len(images)} NIfTI files were dropped; expected those of one patient, "
            f"{MAX_IMAGES} at most"
        )
    roles, said = _guessed(images)
    series: dict[str, str] = {}
    fault = None
    if scanned:
        scanned = [_renamed(each) for each in scanned]
        series, said, fault = _look_at_dicom(arriving.folder)
    said += tuple(f"The packed file {name} was not unpacked, and is left out." for name in packed)
    return Drop(
        key=key,
        folder=arriving.folder,
        images=tuple(images),
        roles=roles,
        beside=tuple(beside),
        dicom=tuple(scanned),
        series=series,
        said=said,
        fault=fault,
        left_out=left_out,
        until_s=time.monotonic() + KEPT_S,
    )


def _is_nifti(file: DroppedFile) -> bool:
    """Whether the content is a NIfTI file in one piece, gzipped or not.

    Raises:
        InputError: it is damaged, or too large once unpacked.
    """
    with file.path.open("rb") as stream:
        packed = stream.read(2) == GZIP_MAGIC
    try:
        with (gzip.open if packed else open)(file.path, "rb") as stream:
            head = stream.read(352)
            size = len(head)
            found = any(head[at : at + 4] == magic for at, magic in SINGLE_FILE)
            while found and size <= MAX_FILE_BYTES and (chunk := stream.read(CHUNK_BYTES)):
                size += len(chunk)
    except (OSError, EOFError, zlib.error) as error:
        if not packed or not ending(file.shown):
            return False
        raise InputError(
            f"the file {file.shown} ends too early or is damaged ({reason_of(error)}); copy it "
            "again"
        ) from error
    if size > MAX_FILE_BYTES:
        raise InputError(
            f"the file {file.shown} has more than {MAX_FILE_BYTES >> 30} GiB once unpacked; "
            "expected an image of a head"
        )
    return found


def _is_dicom(path: Path) -> bool:
    with path.open("rb") as stream:
        head = stream.read(132)
    # Some lack the preamble and begin with their first group.
    return head[128:] == b"DICM" or head[:2] in (b"\x02\0", b"\x08\0")


def _guessed(images: Sequence[DroppedFile]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    roles = [role_of(each.name) for each in images]
    said = []
    for role, what in ROLES.items():
        if role != NOT_USED and roles.count(role) > 1:
            said.append(f"{roles.count(role)} files may be the {what} by their names: choose one.")
            roles = [UNKNOWN if each == role else each for each in roles]
    if UNKNOWN in roles:
        said.append("Not every name says what its file is: please say it.")
    return tuple(roles), tuple(said)


def _renamed(file: DroppedFile) -> DroppedFile:
    path = file.path.with_suffix(".dcm")
    file.path.rename(path)
    return dataclasses.replace(file, path=path)


def _look_at_dicom(folder: Path) -> tuple[dict[str, str], tuple[str, ...], str | None]:
    """Series, what was chosen by the rules of ``predict``, and why nothing can be."""
    series: dict[str, str] = {}
    for path in folder.iterdir():
        if path.suffix != ".dcm":
            path.unlink()
    try:
        heads = [each.head for each in read_folder(folder).frames]
        several = len({head.patient for head in heads}) > 1
        series = {
            head.uid: head.name + (f", of patient {head.patient[0] or '?'}" if several else "")
            for head in heads
        }
        found = dicom.read_study(folder, need_adc=False)
    except InputError as error:
        return series, (), for_reader(str(error), folder, "confirming")
    said = [f"DWI: {found.dwi_name}.", *(f"{note}." for note in found.notes)]
    if found.adc is None and not any("ADC" in note for note in found.notes):
        said.append("No ADC map of the scanner: it is computed, if there is an image of b = 0.")
    said += found.warnings
    return series, tuple(for_reader(text, folder, "confirming") for text in said), None


def _named(drop: Drop, roles: Sequence[str]) -> dict[str, Path]:
    """The files of a study by their names in the spool.

    Raises:
        InputError: no image, or two of one kind.
    """
    if drop.dicom:
        return {each.path.name: each.path for each in drop.dicom}
    named: dict[str, Path] = {}
    for each, role in zip(drop.images, roles, strict=True):
        if role == NOT_USED:
            continue
        name = f"{role}{_nifti_ending(each.path)}"
        if any(other.startswith(f"{role}.nii") for other in named):
            raise InputError(f"two files are said to be the {ROLES[role]}; choose one")
        named[name] = each.path
        for other in drop.beside:
            end = PurePosixPath(other.name).suffix.lower()
            if other.name[: -len(end)].lower() == stem(each.name).lower():
                named[f"{role}{end}"] = other.path
    if not any(name.startswith(("dwi.nii", "adc.nii")) for name in named):
        raise InputError("no file is said to be the DWI or the ADC map; choose at least one")
    return named


def _nifti_ending(path: Path) -> str:
    with path.open("rb") as stream:
        return ".nii.gz" if stream.read(2) == GZIP_MAGIC else ".nii"
