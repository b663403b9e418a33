"""The body of a form with files (RFC 7578), taken apart as it arrives; nothing is held in memory.

Browsers and curl write such bodies; what is not exactly one is refused.
"""

import re
from collections.abc import Callable
from urllib.parse import unquote

MAX_HEAD_BYTES = 8192
_BOUNDARY = re.compile(r'^multipart/form-data\s*;.*?\bboundary="?([^\s";,]{1,70})"?', re.I)
_PARAMETER = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


class Malformed(Exception):
    """The body is no form, or ends too early."""


class Parts:
    """Give it the body in pieces of any size; it calls back with what is in it.

    Args:
        content_type: header of the request.
        begin: gets the field's name and the file's, empty where it is no file, and returns who
            gets the part's bytes, in pieces.

    Raises:
        Malformed: no boundary.
    """

    def __init__(self, content_type: str, begin: Callable[[str, str], Callable[[bytes], None]]):
        found = _BOUNDARY.match(content_type)
        if not found:
            raise Malformed("the request is no form with files")
        self._mark = b"\r\n--" + found[1].encode("latin-1")
        self._begin = begin
        # The first boundary has no line before it.
        self._left = b"\r\n"
        self._write: Callable[[bytes], None] | None = None
        self.is_whole = False

    def feed(self, data: bytes) -> None:
        """Take the next piece of the body.

        Raises:
            Malformed: it is no form.
        """
        self._left += data
        while not self.is_whole and (self._body(self._write) if self._write else self._head()):
            pass

    def end(self) -> None:
        """The body is over.

        Raises:
            Malformed: before its end.
        """
        if not self.is_whole:
            raise Malformed("the upload ended too early")

    def _head(self) -> bool:
        """Take a boundary and the lines after it; False where more is needed."""
        mark = self._mark
        if len(self._left) < len(mark) + 2:
            return False
        if not self._left.startswith(mark):
            raise Malformed("the form does not begin with its boundary")
        if self._left[len(mark) :].startswith(b"--"):
            self.is_whole = True
            return False
        lines, found, rest = self._left[len(mark) :].partition(b"\r\n\r\n")
        if not found:
            if len(lines) > MAX_HEAD_BYTES:
                raise Malformed("a part of the form has too long a head")
            return False
        self._write = self._begin(*_names(lines))
        self._left = rest
        return True

    def _body(self, write: Callable[[bytes], None]) -> bool:
        """Hand on what surely belongs to the part; False where more is needed."""
        at = self._left.find(self._mark)
        if at >= 0:
            write(self._left[:at])
            self._left, self._write = self._left[at:], None
            return True
        sure = len(self._left) - len(self._mark) + 1
        if sure > 0:
            write(self._left[:sure])
            self._left = self._left[sure:]
        return False


def _names(lines: bytes) -> tuple[str, str]:
    for line in lines.decode("utf-8", errors="replace").split("\r\n"):
        key, _, value = line.partition(":")
        if key.strip().lower() == "content-disposition":
            # Browsers write quotes and line ends as %22, %0D and %0A, and nothing else so.
            known = {name.lower(): text for name, text in _PARAMETER.findall(value)}
            return known.get("name", ""), re.sub(
                "%(22|0D|0A)", lambda found: unquote(found[0]), known.get("filename", "")
            )
    raise Malformed("a part of the form has no name")
