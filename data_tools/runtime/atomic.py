"""Files that are either whole or absent: written beside their place, then renamed into it."""

import contextlib
import csv
import hashlib
import io
import json
import os
import re
import secrets
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from data_tools.runtime.errors import InputError

# A number with its sign, and words about it, as in "-14 (-50 to 4)": no formula.
_FIGURES = re.compile(r"[+-][0-9.][\w\s.,;:%()/-]*")
# Long enough for a lock whose holder is just ending.
LOCK_WAIT_S = 0.2


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """Yield a temporary path in the same folder; on success it becomes ``path``.

    The temporary name starts with a dot and keeps the ending, since writers choose their format
    by it. On an error, and on a kill too, ``path`` is as it was before.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".tmp-{secrets.token_hex(4)}-{path.name}")
    try:
        yield temporary
        with open(temporary, "r+b") as written:  # Windows writes out what may be written to only
            os.fsync(written.fileno())  # or a power cut may leave an empty file of that name
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def one_writer(folder: str | os.PathLike) -> Iterator[None]:
    """Hold a folder for this process; a second run into it is refused.

    The lock is the operating system's and ends with the process, however it ends. Where the file
    system has none (some of clusters), a file that names the process stands in for it.

    Raises:
        InputError: if another process holds it, it cannot be written, or nothing can be locked
            there.
    """
    import filelock

    folder = Path(folder).absolute()
    check_writable(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    path = folder.with_name(f".{folder.name}.lock")
    try:
        _probe(folder.parent)
    except OSError as error:
        raise InputError(
            f"{path} cannot be written ({error.strerror or error}), and without it two runs could "
            f"write to {folder} at once; expected permission to write in {folder.parent}, too. "
            "Choose a folder inside the one that you may write to"
        ) from error
    lock = filelock.FileLock(path, timeout=LOCK_WAIT_S)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the stand-in
            lock.acquire()
    except filelock.Timeout as error:
        raise InputError(
            f"another run is writing to {folder}; wait for it, or choose another folder. (If there "
            f"is none, one was killed on a file system without locks: remove {path})"
        ) from error
    except (OSError, NotImplementedError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(
            f"{path} cannot be locked ({reason}), so two runs could write to {folder} at once; "
            "expected a file system with locks: choose a folder on another one, or mount it with "
            "flock"
        ) from error
    try:
        yield
    finally:
        # While it is held: who has opened it meanwhile sees that it is gone, and opens a new one.
        with contextlib.suppress(OSError):
            path.unlink()
        lock.release()


def check_writable(folder: str | os.PathLike) -> None:
    """Write and remove a nameless file where ``folder`` is or will be: before hours of work.

    Raises:
        InputError: read-only, full, or a file or a link to nothing in the place of a folder.
    """
    existing = Path(folder).absolute()
    while not os.path.lexists(existing):
        existing = existing.parent
    if not existing.is_dir():
        which = "" if existing == Path(folder).absolute() else f"{folder} cannot be written: "
        what = "is a file" if existing.exists() else "is a link to nothing"
        raise InputError(
            f"{which}{existing} {what}; expected a folder. Choose another place, or move it away"
        )
    try:
        _probe(existing)
    except OSError as error:
        raise InputError(
            f"{folder} cannot be written ({error.strerror or error}: {existing}); expected a "
            "folder with room, or a place to make one; choose another"
        ) from error


def _probe(folder: Path) -> None:
    with tempfile.TemporaryFile(dir=folder) as probe:
        probe.write(b"x")


def sweep(folder: str | os.PathLike) -> None:
    """Remove what killed runs left half written; only while holding :func:`one_writer`."""
    for left in Path(folder).rglob(".tmp-*"):
        if left.is_file():
            left.unlink(missing_ok=True)


def write_bytes(path: str | os.PathLike, content: bytes) -> None:
    """Write bytes atomically."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: str | os.PathLike, content: str) -> None:
    """Write UTF-8 text atomically; the odd letters of a file's name, which are none, as escapes."""
    write_bytes(path, content.encode(errors="backslashreplace"))


def write_json(path: str | os.PathLike, content: Any) -> None:
    """Write JSON atomically: indented, keys in the given order, NaN refused."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def write_csv(path: str | os.PathLike, rows: Sequence[dict[str, Any]]) -> None:
    """Write a table atomically; the columns are those of the last row, of one at least."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[-1]))
    writer.writeheader()
    writer.writerows({name: no_formula(cell) for name, cell in row.items()} for row in rows)
    write_text(path, text.getvalue())


def no_formula(cell: Any) -> Any:
    """A cell that no spreadsheet takes for a formula: text that begins like one gets an apostrophe.

    >>> no_formula("=1+1"), no_formula("-2+cmd|' /C calc'!A0"), no_formula("-14 (-50 to 4)")
    ("'=1+1", "'-2+cmd|' /C calc'!A0", '-14 (-50 to 4)')
    """
    if not isinstance(cell, str) or not cell.startswith(("=", "+", "-", "@", "\t", "\r")):
        return cell
    return cell if _FIGURES.fullmatch(cell) else f"'{cell}"


def read_json(path: str | os.PathLike) -> dict[str, Any]:
    """A JSON object, empty where the file is absent or damaged."""
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def sha256(path: str | os.PathLike) -> str:
    """Hex digest of a file."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
