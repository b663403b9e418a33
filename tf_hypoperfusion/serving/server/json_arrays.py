"""JSON whose long arrays and texts never become Python objects.

Python's parser takes 60 bytes for each number, and nothing else in the process runs until it has
read the last one. Here long arrays of numbers are found first and left as text; they become numpy
arrays piece by piece once their shape is known and was checked, and other threads run in between.
"""

import base64
import binascii
import json
import math
import re
import secrets
from collections.abc import Iterator
from typing import Any

import numpy as np

Json = Any  # whatever a client sends
Body = bytes | bytearray
# Shorter arrays and texts are left to Python's parser.
LONG_BYTES = 4096
# Looked at in one go, for a few milliseconds.
PIECE_BYTES = 2**18
PIECE_NUMBERS = 2**15
# Of a body without its long arrays and texts, and of nesting.
MOST_OTHER_BYTES = 2**20
MOST_DIMENSIONS = 16

_BEGIN = re.compile(rb'["\[]')
_TEXT_STOPS = re.compile(rb'["\\]')
_NO_NUMBERS = re.compile(rb"[^\[\]0-9eE+\-., \t\r\nNaIfinty]")
_BRACKETS_BLANK = bytes.maketrans(b"[]", b"  ")
_NOT_STRUCTURE = bytes(set(range(256)) - set(b"[],"))


class LongText:
    """A long string of a body, or its base64, without a copy."""

    def __init__(self, content: memoryview):
        self._content = content

    def text(self) -> bytes:
        """As UTF-8."""
        return bytes(self._content)

    def unpacked(self) -> bytes:
        """Decoded base64; errors as in :func:`unpacked`."""
        return unpacked(self._content)


class Numbers:
    """A long array of numbers, still as text.

    Attributes:
        shape: as its brackets say.
    """

    def __init__(self, body: Body, begin: int, end: int):
        """Look at the brackets.

        Args:
            body: that holds it.
            begin: place of its first bracket.
            end: place behind its last.

        Raises:
            ValueError: the brackets are not those of an array.
        """
        self._body, self._begin, self._end = body, begin, end
        pieces = (body[k : min(k + PIECE_BYTES, end)] for k in range(begin, end, PIECE_BYTES))
        self.shape = _shape(b"".join(piece.translate(None, _NOT_STRUCTURE) for piece in pieces))

    def array(self, dtype: str) -> np.ndarray:
        """The numbers.

        Args:
            dtype: of the array.

        Raises:
            ValueError: other than numbers stand between the brackets.
        """
        kind = np.dtype(dtype).kind
        if kind not in "iuf":
            raise ValueError(f"numbers; expected values of {dtype}")
        found, filled = np.empty(math.prod(self.shape), dtype), 0
        with np.errstate(over="ignore"):
            for text in self._pieces():
                values = json.loads(b"[" + text.translate(_BRACKETS_BLANK) + b"]")
                part = np.array(values, "float64" if kind == "f" else dtype)
                found[filled : filled + len(part)] = part
                filled += len(part)
        if filled != found.size:
            raise ValueError("a number is missing")
        return found.reshape(self.shape)

    def _pieces(self) -> Iterator[Body]:
        """The text, cut at commas."""
        at = self._begin
        while at < self._end:
            cut = self._end
            if cut - at > PIECE_BYTES:
                cut = self._body.rfind(b",", at, at + PIECE_BYTES)
                if cut < 0:
                    raise ValueError("a number without end")
            yield self._body[at:cut]
            at = cut + 1


def _shape(structure: bytes) -> tuple[int, ...]:
    """Sizes of an array of which only brackets and commas are left."""
    places = range(min(len(structure), MOST_DIMENSIONS + 1))
    depth = next((k for k in places if structure[k : k + 1] != b"["), 0)
    if not depth:
        raise ValueError(f"an array of no dimension, or of more than {MOST_DIMENSIONS}")
    sizes = [structure.find(b"]") - depth + 1]
    row = b"[" + b"," * (sizes[0] - 1) + b"]"
    for outer in range(1, depth):
        # The list ends where all that it holds ends.
        length = structure.find(b"]" * (outer + 1)) + outer + 1 - (depth - 1 - outer)
        sizes.append((length - 1) // (len(row) + 1))
        row = b"[" + (row + b",") * (sizes[-1] - 1) + row + b"]"
    if row != structure:
        raise ValueError("an array that is no rectangle, or has no end")
    return tuple(reversed(sizes))


def parse(body: Body) -> Json:
    """The JSON that a body begins with; what stands behind it is not looked at.

    Args:
        body: UTF-8.

    Returns:
        As :func:`json.loads`, but with :class:`Numbers` for long arrays of numbers, and
        :class:`LongText` for long strings.

    Raises:
        ValueError: no JSON, or too much of it beside arrays of numbers and long texts.
        RecursionError: nested too deeply.
    """
    found: dict[str, Numbers | LongText] = {}
    other: list[Body] = []
    view, size, at = memoryview(body), 0, 0
    # In place of each stands a number that no client can guess.
    mark = secrets.randbits(64)
    for begin, end in _long(body):
        name = f"0.{mark:020d}{len(found):08d}e0"
        is_text = body[begin : begin + 1] == b'"'
        found[name] = LongText(view[begin + 1 : end - 1]) if is_text else Numbers(body, begin, end)
        other += [body[at:begin], name.encode()]
        size += begin - at + len(name)
        if size > MOST_OTHER_BYTES:
            break
        at = end
    if size + len(body) - at > MOST_OTHER_BYTES:
        raise ValueError(
            f"more than {MOST_OTHER_BYTES} bytes beside arrays of numbers and long texts"
        )
    other.append(body[at:])
    text = b"".join(other).decode("utf-8-sig").lstrip(" \t\r\n")
    decoder = json.JSONDecoder(
        parse_float=lambda number: found[number] if number in found else float(number)
    )
    return decoder.raw_decode(text)[0]


def _long(body: Body) -> Iterator[tuple[int, int]]:
    """Where long arrays of numbers and long plain strings begin and end, until too much lies
    between them."""
    at = other = 0
    while (begin := _search(_BEGIN, body, at)) < len(body):
        if body[begin : begin + 1] == b'"':
            stop, plain = _text_end(body, begin)
            end = stop
        else:
            stop, plain = _search(_NO_NUMBERS, body, begin), True
            end = max(body.rfind(b"]", begin, stop) + 1, begin)
        long = plain and end - begin > LONG_BYTES
        if long:
            yield begin, end
        other += stop - at - (end - begin if long else 0)
        if other > MOST_OTHER_BYTES:
            return
        at = stop


def _text_end(body: Body, begin: int) -> tuple[int, bool]:
    """The place behind a string, and whether nothing in it is escaped."""
    at, plain = begin + 1, True
    while (stop := _search(_TEXT_STOPS, body, at)) < len(body):
        if body[stop : stop + 1] == b'"':
            return stop + 1, plain
        at, plain = stop + 2, False
        if at - begin > MOST_OTHER_BYTES:
            break
    return len(body), False


def _search(pattern: re.Pattern[bytes], body: Body, at: int) -> int:
    """Where a pattern is found first; the length of the body if it is not."""
    while at < len(body):
        if found := pattern.search(body, at, at + PIECE_BYTES):
            return found.start()
        at += PIECE_BYTES
    return len(body)


def unpacked(content: bytes | memoryview) -> bytes:
    """Decoded base64, with or without padding and blanks.

    Raises:
        binascii.Error: it is none.
    """
    try:
        return base64.b64decode(content, validate=True)
    except binascii.Error:
        text = b"".join(bytes(content).split())
        return base64.b64decode(text + b"=" * (-len(text) % 4), validate=True)


def texts(value: Json) -> Iterator[str]:
    """JSON, piece by piece: of arrays of numbers a few at a time.

    Args:
        value: dictionaries, lists, arrays of numbers, and what JSON has.
    """
    if isinstance(value, np.ndarray):
        yield from _array_texts(value)
    elif isinstance(value, dict):
        yield "{"
        for place, (name, each) in enumerate(value.items()):
            yield f"{',' if place else ''}{json.dumps(name, ensure_ascii=False)}:"
            yield from texts(each)
        yield "}"
    elif isinstance(value, list):
        yield "["
        for place, each in enumerate(value):
            if place:
                yield ","
            yield from texts(each)
        yield "]"
    else:
        # A figure that is not known is NaN, which TensorFlow Serving writes too.
        yield json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _array_texts(array: np.ndarray) -> Iterator[str]:
    if array.ndim == 0 or not array.size:
        yield json.dumps(array.tolist())
        return
    row = array.size // len(array)
    step = max(PIECE_NUMBERS // row, 1)
    yield "["
    for begin in range(0, len(array), step):
        if begin:
            yield ","
        if row > PIECE_NUMBERS:
            yield from _array_texts(array[begin])
        else:
            part = array[begin : begin + step].tolist()
            yield json.dumps(part, separators=(",", ":"))[1:-1]
    yield "]"
