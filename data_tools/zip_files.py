"""What zip files that cannot be read have in common, whoever opens them."""

import gzip
import zipfile
import zlib
from collections.abc import Iterable

_ENCRYPTED = 0x1
# Raised while a file is unpacked that is damaged or ends too early...
DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, gzip.BadGzipFile)
# ... or was packed by a method that this Python lacks, or is listed and not there.
UNKNOWN_PACKING = (NotImplementedError, KeyError)


def encrypted(files: Iterable[zipfile.ZipInfo]) -> bool:
    """Whether any of the files needs a password, by the archive's list of them."""
    return any(file.flag_bits & _ENCRYPTED for file in files)
