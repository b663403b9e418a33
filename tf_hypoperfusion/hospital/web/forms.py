"""Forms of the page -> what they say, checked."""

import asyncio
import contextlib
import dataclasses
from collections.abc import Callable
from urllib.parse import parse_qsl

from starlette.requests import ClientDisconnect, Request

from data_tools.grid import SIDES, UNKNOWN_SIDE
from data_tools.runtime.errors import InputError
from tf_hypoperfusion.clinical import ClinicalFacts
from tf_hypoperfusion.hospital.web import guard, multipart

MAX_FORM_BYTES, MAX_FIELDS = 1 << 16, 1000
MAX_REMARK = 60
# Of what is refused.
READ_AWAY_S = 120.0
OTHER_BROWSER = "the form is of an earlier visit; open the page again, and send it from there"


class Forbidden(Exception):
    """The form is not the page's own."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Facts:
    """What a person says of a patient.

    Attributes:
        side: of the stroke; None where it is not known.
        clinical: the same with NIHSS and age.
    """

    side: str | None
    clinical: ClinicalFacts


async def read(request: Request) -> list[tuple[str, str]]:
    """The fields of a form without files.

    Raises:
        Forbidden: it is not the page's own.
        InputError: it is too long, or never ends.
    """
    body = b""
    async for chunk in _chunks(request):
        body += chunk
        if len(body) > MAX_FORM_BYTES:
            raise InputError("the form is too long")
    try:
        fields = parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=MAX_FIELDS)
    except ValueError as error:
        raise InputError("the form cannot be read") from error
    if not guard.is_own_form(request, dict(fields).get("csrf", "")):
        raise Forbidden(OTHER_BROWSER)
    return fields


async def receive_files(
    request: Request, begin_file: Callable[[str], Callable[[bytes], None]]
) -> None:
    """Write the files of a form where they belong, while they come.

    Args:
        request: whose form has the field ``csrf`` first, then ``files``.
        begin_file: gets each file's name, and returns who takes its bytes.

    Raises:
        Forbidden: the form is not the page's own; no file was written then.
        multipart.Malformed: it is no such form, ends too early, or stands still.
        InputError: too many files, or too large ones.
        OSError: no room.
    """
    csrf = bytearray()

    def begin(field: str, name: str):
        if field == "csrf":
            return csrf.extend if len(csrf) < MAX_REMARK * 2 else _drop
        if not guard.is_own_form(request, csrf.decode("latin-1")):
            raise Forbidden(OTHER_BROWSER)
        # An empty field of files is one without a name.
        return begin_file(name) if name else _drop

    parts = multipart.Parts(request.headers.get("content-type", ""), begin)
    async for chunk in _chunks(request):
        # Small pieces; a thread for each would cost more than it saves.
        parts.feed(chunk)
    parts.end()


async def read_away(request: Request) -> None:
    """Take the rest of a body: a browser that is still sending sees no answer."""

    async def rest() -> None:
        async for _ in _chunks(request):
            pass

    ended = (multipart.Malformed, TimeoutError, asyncio.TimeoutError)
    with contextlib.suppress(*ended, RuntimeError):  # the last where nothing is left to read
        await asyncio.wait_for(rest(), READ_AWAY_S)


def _drop(data: bytes) -> None:
    """Of no use."""


async def _chunks(request: Request):
    try:
        async for chunk in request.stream():
            yield chunk
    except ClientDisconnect as error:  # or it was too slow
        raise multipart.Malformed("the upload ended too early") from error


def facts(fields: dict[str, str]) -> Facts:
    """Side, NIHSS and age.

    Raises:
        InputError: one of them is impossible.
    """
    side = fields.get("side") or None
    if side is not None and side not in set(SIDES) - {UNKNOWN_SIDE}:
        raise InputError(f"side is {side!r}; expected left, right or bilateral, or not known")
    return Facts(
        side=side,
        clinical=ClinicalFacts(
            side or UNKNOWN_SIDE, _number("NIHSS", fields, int), _number("age", fields, float)
        ),
    )


def remark(fields: dict[str, str]) -> str | None:
    """What tells a study from others; None where nothing is said."""
    text = "".join(letter for letter in fields.get("remark", "") if letter.isprintable())
    return text.strip()[:MAX_REMARK] or None


def _number(name: str, fields: dict[str, str], kind: type):
    text = fields.get(name.lower(), "").strip()
    if not text:
        return None
    try:
        return kind(text)
    except ValueError as error:
        raise InputError(f"{name} is {text[:20]!r}; expected a number, or nothing") from error
