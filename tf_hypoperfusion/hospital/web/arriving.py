"""Files come in -> a folder of the spool, zips unpacked, within limits; or nothing is left.

Names that come with the files are words to read, and never paths.
"""

import dataclasses
import functools
import shutil
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import IO

from data_tools import zip_files
from data_tools.runtime.errors import InputError, reason_of

# A whole examination of the head has some thousand files.
MAX_FILES, MAX_BYTES = 20_000, 4 << 30
# Of a zip: 200 bytes for each of its files.
MAX_LISTING_BYTES = 200 * MAX_FILES
CHUNK_BYTES = 1 << 20
LOOK_FOR_ROOM_BYTES = 64 << 20


@dataclasses.dataclass(frozen=True, kw_only=True)
class DroppedFile:
    """A file as it lies in the spool's folder.

    Attributes:
        path: by a number of ours.
        name: that it came with, folders too; only to be read.
    """

    path: Path
    name: str

    @property
    def shown(self) -> str:
        """The name without folders."""
        return PurePosixPath(self.name).name


class Arriving:
    """A drop whose files are coming in; :meth:`discard` leaves nothing of it."""

    def __init__(self, folder: Path, check_room: Callable[[], None]) -> None:
        """Make its folder.

        Args:
            folder: that is not there yet.
            check_room: raises OSError where the disk is too full.
        """
        folder.mkdir(mode=0o700)
        self.folder, self._check_room = folder, check_room
        self.files: list[DroppedFile] = []
        self._count = self._bytes = self._unlooked = 0
        self._open: IO[bytes] | None = None
        check_room()

    def begin(self, name: str) -> Callable[[bytes], None]:
        """Begin a file; returns who takes its bytes.

        Args:
            name: that it came with.

        Raises:
            InputError: too many files.
            OSError: no room, also from who takes the bytes.
        """
        self.close()
        if self._count >= MAX_FILES:
            raise InputError(
                f"more than {MAX_FILES} files were dropped; expected one patient's study"
            )
        self._count += 1
        path = self.folder / f"{self._count:06d}"
        self.files.append(DroppedFile(path=path, name=_plain(name)))
        self._open = stream = path.open("wb")
        return functools.partial(self._write, stream)

    def _write(self, stream: IO[bytes], data: bytes) -> None:
        self._bytes += len(data)
        self._unlooked += len(data)
        if self._bytes > MAX_BYTES:
            raise InputError(
                f"the files have more than {MAX_BYTES >> 30} GiB; expected one patient's study"
            )
        if self._unlooked >= LOOK_FOR_ROOM_BYTES:
            self._unlooked = 0
            self._check_room()
        stream.write(data)

    def close(self) -> None:
        """The file that was begun is whole."""
        if self._open:
            self._open.close()
            self._open = None

    def discard(self) -> None:
        """Remove everything."""
        self.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def unpack(self) -> None:
        """Put what zip files hold in their place.

        Raises:
            InputError: one is damaged, encrypted, or holds too much.
            OSError: no room.
        """
        arrived, self.files = self.files, []
        zips: list[DroppedFile] = []
        for each in arrived:
            (zips if each.shown.lower().endswith(".zip") else self.files).append(each)
        for each in zips:
            self._unpack(each)
            each.path.unlink()

    def _unpack(self, packed: DroppedFile) -> None:
        _check_listing(packed)
        try:
            with zipfile.ZipFile(packed.path) as archive:
                if zip_files.encrypted(archive.infolist()):
                    raise InputError(
                        f"the file {packed.shown} is encrypted; unpack it, and drop the folder"
                    )
                for member in archive.infolist():
                    parts = PurePosixPath(member.filename).parts
                    if member.is_dir() or "__MACOSX" in parts:
                        continue
                    write = self.begin(member.filename)
                    with archive.open(member) as stream:
                        while chunk := stream.read(CHUNK_BYTES):
                            write(chunk)
        except (*zip_files.DAMAGED, ValueError) as error:
            raise InputError(
                f"the file {packed.shown} is no whole zip file ({reason_of(error)}); make it again"
            ) from error
        except zip_files.UNKNOWN_PACKING as error:
            raise InputError(
                f"the file {packed.shown} cannot be unpacked ({reason_of(error)}); unpack it "
                "yourself, and drop the folder"
            ) from error
        self.close()


def _plain(name: str) -> str:
    """A name without what would disturb a page or a log."""
    return "".join(letter for letter in name.replace("\\", "/") if letter.isprintable())[-200:]


def _check_listing(packed: DroppedFile) -> None:
    """Refuse a zip whose list of members would fill the memory, before it is read.

    Raises:
        InputError: so it is, or there is none.
    """
    with packed.path.open("rb") as stream:
        size = stream.seek(0, 2)
        stream.seek(max(0, size - (1 << 16) - 42))
        end = stream.read()
    at = end.rfind(b"PK\5\6")
    if at < 0 or len(end) < at + 16:
        raise InputError(f"the file {packed.shown} is no whole zip file; make it again")
    listing = struct.unpack("<L", end[at + 12 : at + 16])[0]
    if end[max(0, at - 20) : at].startswith(b"PK\6\7") or listing > MAX_LISTING_BYTES:
        raise InputError(
            f"the file {packed.shown} holds too many files, or is of a kind for very many "
            "(zip64); drop the folder of one patient's study"
        )
