"""A zip file or a folder as one list of members, each of which can be had as a file of its own.

A member's name only tells what it is: where it is copied to never depends on it, so names that
lead out of a folder do no harm. What is copied ends at a fixed size.
"""

import dataclasses
import os
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import IO

from data_tools import file_names, zip_files
from data_tools.image_files import GZIP_MAGIC
from data_tools.runtime.errors import InputError, reason_of

# The largest raw series has 250 MB, and an archive 2,000 files.
MAX_MEMBER_BYTES, MAX_MEMBERS = 2 << 30, 200_000
CHUNK_BYTES = 1 << 20
OTHER_ARCHIVES = (".tar", ".tgz", ".gz", ".7z", ".rar", ".bz2", ".xz")
IGNORED_FOLDERS = ("__macosx",)
# What a file that is no zip shows by its first bytes; HTML in capitals or not.
FIRST_BYTES = {
    b"rar!": "a RAR archive", b"7z\xbc\xaf\x27\x1c": "a 7z archive", GZIP_MAGIC: "a gzip archive",
    b"<!doc": "a web page", b"<html": "a web page",
}  # fmt: skip
UNFINISHED = (
    ".part", ".partial", ".crdownload", ".download", ".opdownload", ".aria2", ".tmp", ".filepart",
)  # fmt: skip
# Of a file's flags in a zip.
# Lies in an archive that data_tools.simulate wrote.
SIMULATED_MARK = "SIMULATED.txt"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Member:
    """An image file in a source.

    Attributes:
        source: path of the zip file or folder.
        inner: its name in there.
        mark: what changes when its content does: checksum in a zip, time of a file.
        size: bytes, unpacked.
    """

    source: str
    inner: str
    mark: str
    size: int

    @property
    def parts(self) -> tuple[str, ...]:
        """Folders and file name; the source's own name comes first."""
        stem = Path(self.source).name
        stem = stem[: -len(".zip")] if stem.lower().endswith(".zip") else stem
        return (stem, *PurePosixPath(self.inner.replace("\\", "/")).parts)

    @property
    def shown(self) -> str:
        """For messages."""
        return f"{self.source}/{self.inner}"


def archives(source: str | os.PathLike) -> list[str]:
    """The zip files of a folder that holds nothing else of use; else the source itself.

    Args:
        source: of the zip file or folder.

    Raises:
        InputError: a download beside them did not end.
    """
    path = Path(source)
    there = sorted(path.iterdir()) if path.is_dir() else []
    zips = [str(each) for each in there if each.suffix.lower() == ".zip" and each.is_file()]
    if not zips:
        return [str(source)]
    for each in there:  # else half of what was downloaded would pass for all of it
        _check_finished(each.name, str(source))
    below = (each.relative_to(path).as_posix() for each in file_names.files_below(path))
    images = (Member(source=str(path), inner=name, mark="", size=0) for name in below)
    return [str(source)] if any(map(_is_image, images)) else zips


def members(source: str | os.PathLike) -> list[Member]:
    """Every image in a zip file or below a folder, in the order of names.

    Args:
        source: of the zip file or folder.

    Raises:
        InputError: it is neither, or a zip that was not downloaded to its end.
    """
    path = Path(os.path.abspath(source))
    if not path.exists():
        for end in UNFINISHED:
            if path.with_name(path.name + end).exists():
                _check_finished(path.name + end, str(source))
        raise InputError(f"--source={source}: no such file or folder; expected the downloaded zip")
    if path.is_dir():
        found = [
            Member(
                source=str(path),
                inner=each.relative_to(path).as_posix(),
                mark=str(each.stat().st_mtime_ns),
                size=each.stat().st_size,
            )
            for each in file_names.files_below(path)
        ]
    else:
        found = _zipped(path, str(source))
    if not any(map(_is_image, found)):
        _check_packed(path, str(source), [each.inner for each in found])
    if len(found) > MAX_MEMBERS:
        raise InputError(
            f"--source={source}: holds {len(found)} files; expected {MAX_MEMBERS} at most. Is it "
            "the folder of the data set?"
        )
    return sorted(filter(_is_image, found), key=lambda each: each.inner)


def _check_packed(path: Path, said: str, names: list[str]) -> None:
    """Say what a source without any image holds in place of it.

    Raises:
        InputError: zips, or downloads that did not end.
    """
    zips = sorted(name for name in names if name.lower().endswith(".zip"))
    if zips and path.is_dir():
        what = "the zip itself" if len(zips) == 1 else "the zips themselves"
        listed = ",".join(str(path / name) for name in zips)
        raise InputError(
            f"--source={said}: holds zip files and no images; expected {what}: --source={listed}"
        )
    if zips:
        raise InputError(
            f"--source={said}: is a zip that holds other zips ({', '.join(zips)}) and no images; "
            "unpack it once, and give the zips in it, separated by commas"
        )
    for name in names:
        _check_finished(name, said)


def _check_finished(name: str, said: str) -> None:
    if Path(name).suffix.lower() in UNFINISHED:
        raise InputError(
            f"--source={said}: {Path(name).name} is an unfinished download; expected the whole "
            "zip. Let the browser finish, or download it again"
        )


def is_simulated(source: str | os.PathLike) -> bool:
    """Whether a source of :func:`members` says that its patients are simulated."""
    path = Path(source)
    if path.is_dir():
        return any(each.name == SIMULATED_MARK for each in file_names.files_below(path))
    with zipfile.ZipFile(path) as archive:
        return any(PurePosixPath(name).name == SIMULATED_MARK for name in archive.namelist())


def _is_image(member: Member) -> bool:
    name = member.parts[-1]
    folders = {part.lower() for part in member.parts[:-1]}
    return (
        bool(file_names.ending(name))
        and not name.startswith(".")
        and folders.isdisjoint(IGNORED_FOLDERS)
    )


def _zipped(path: Path, said: str) -> list[Member]:
    _check_finished(path.name, said)
    if path.suffix.lower() in OTHER_ARCHIVES:
        raise InputError(
            f"--source={said}: is no zip file; expected the downloaded zip, or the folder into "
            "which this archive was unpacked"
        )
    try:
        with zipfile.ZipFile(path) as archive:
            files = [each for each in archive.infolist() if not each.is_dir()]
    except (zipfile.BadZipFile, EOFError, ValueError, NotImplementedError) as error:
        if what := _by_first_bytes(path):
            raise InputError(
                f"--source={said}: is named as a zip and is {what}; expected the downloaded zip. "
                + (
                    "Download it again, by the link of the file itself"
                    if what == "a web page"
                    else "Unpack it with another program, and give the folder"
                )
            ) from error
        raise InputError(
            f"--source={said}: is no whole zip file ({reason_of(error)}); was the download "
            "interrupted? Compare its size with that on the download page, and download it again"
        ) from error
    if zip_files.encrypted(files):
        raise InputError(
            f"--source={said}: is encrypted; unpack it with another program and its password, and "
            "give the folder"
        )
    return [
        Member(source=str(path), inner=each.filename, mark=f"{each.CRC:08x}", size=each.file_size)
        for each in files
    ]


def _by_first_bytes(path: Path) -> str | None:
    """What a file that is no zip is; None where its first bytes do not say it."""
    with open(path, "rb") as stream:
        begins = stream.read(64).removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    return next((what for each, what in FIRST_BYTES.items() if begins.startswith(each)), None)


def copied(member: Member, folder: Path, name: str) -> Path:
    """A member as a file of its own, unpacked.

    Args:
        member: of :func:`members`.
        folder: of temporary files.
        name: of the copy, without its ending.

    Returns:
        Its path; a gzipped file is unpacked.

    Raises:
        InputError: it is damaged, or larger than any image of a head.
    """
    end = file_names.ending(member.parts[-1])
    path = folder / f"{name}{end.removesuffix('.gz')}"
    try:
        if Path(member.source).is_dir():
            with open(Path(member.source, member.inner), "rb") as stream:
                _copy(stream, path, member)
        else:
            with zipfile.ZipFile(member.source) as archive, archive.open(member.inner) as stream:
                _copy(stream, path, member)
    except zip_files.DAMAGED as error:
        raise InputError(
            f"{member.shown}: is damaged or ends too early ({reason_of(error)}); copy or download "
            "it again"
        ) from error
    except zip_files.UNKNOWN_PACKING as error:
        raise InputError(
            f"{member.shown}: cannot be unpacked ({reason_of(error)}); unpack the archive with "
            "another program, and give the folder"
        ) from error
    return path


def _copy(stream: IO[bytes], path: Path, member: Member) -> None:
    """All of a stream, unpacked if it is gzipped, up to the largest size."""
    chunk = stream.read(CHUNK_BYTES)
    unpacker = zlib.decompressobj(zlib.MAX_WBITS | 16) if chunk[:2] == GZIP_MAGIC else None
    written = 0
    with open(path, "wb") as out:
        while chunk:
            data, chunk = chunk, b""
            if unpacker is not None:
                data = unpacker.decompress(data, CHUNK_BYTES)
                chunk = unpacker.unconsumed_tail
            written += len(data)
            if written > MAX_MEMBER_BYTES:
                raise InputError(
                    f"{member.shown}: has more than {MAX_MEMBER_BYTES >> 30} GiB; expected an "
                    "image of a head. Is the archive damaged, or not the data set's?"
                )
            out.write(data)
            chunk = chunk or stream.read(CHUNK_BYTES)
    if unpacker is not None and not unpacker.eof:
        raise EOFError("its compressed data end too early")
