"""The pages: drop files, confirm what they are, see progress, read the result, look after studies.

Everything is rendered here; scripts add dragging, a bar while files are sent, and reloading. No
address holds a name that came with a file, and no such name is used as a path.
"""

import asyncio
import contextlib
import dataclasses
import datetime
import errno
import functools
import io
import logging
import re
import sqlite3
import zipfile
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import jinja2
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from data_tools.pictures import CORE, HYPOPERFUSION
from data_tools.runtime.errors import InputError
from tf_hypoperfusion.hospital.audit import LOG, Audit, say
from tf_hypoperfusion.hospital.reader_words import Reader, for_reader
from tf_hypoperfusion.hospital.spool import AT_WORK, Spool
from tf_hypoperfusion.hospital.study import WorklistRow
from tf_hypoperfusion.hospital.web import arriving, dropped, forms, guard, multipart
from tf_hypoperfusion.hospital.web.arriving import Arriving
from tf_hypoperfusion.hospital.web.dropped import Drops
from tf_hypoperfusion.hospital.worker import Worker
from tf_hypoperfusion.inference import dicom_objects, result_files
from tf_hypoperfusion.inference.page import headline
from tf_hypoperfusion.inference.result import FILE, read_result

NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
WRONG_LOGIN_S = 1.0
# Wrong passwords at a time: of one person, as a proxy tells them apart, and of one connecting
# address, a proxy's or that of who says to be one.
LOGINS_AT_ONCE, LOGINS_OF_AN_ADDRESS = 5, 50
# Of the files that a result may have, in the order in which people want them.
DOWNLOADS = {
    result_files.PAGE: "the page, for a browser",
    result_files.OVERVIEW: "overview picture",
    FILE: "all figures, as JSON",
    **{f"{name}.nii.gz": f"{name.replace('_', ' ')}, NIfTI" for name in result_files.MAPS},
    **{
        f"{dicom_objects.FOLDER}/{name}": f"{Path(name).stem}, DICOM"
        for name in dicom_objects.FILES
    },
}
STATES = {
    "receiving": "images are coming in",
    "complete": "waits for its turn",
    "running": "is being computed",
    "answered": "results are being sent",
    "sent": "done",
    "refused": "cannot be used",
    "failed": "done, not delivered",
}
STYLES = {"page.css": "text/css", "page.js": "text/javascript"}


@dataclasses.dataclass(frozen=True)
class Shown:
    """What the pages show and change.

    Attributes:
        spool: of the node.
        drops: that are not started yet.
        worker: that answers studies.
        audit: gets a line for what a person did.
    """

    spool: Spool
    drops: Drops
    worker: Worker
    audit: Audit


def application(shown: Shown, rules: guard.Rules) -> ASGIApp:
    """The pages behind their guard.

    Args:
        shown: what they show.
        rules: who may ask.
    """
    pages = _Pages(shown)
    routes = [
        Route("/", pages.start),
        Route("/drops", pages.drop, methods=["POST"]),
        Route("/drops/{key}", pages.confirm),
        Route("/drops/{key}/start", pages.start_drop, methods=["POST"]),
        Route("/drops/{key}/discard", pages.discard, methods=["POST"]),
        Route("/studies/{study}", pages.study),
        Route("/studies/{study}/report", pages.report),
        Route("/studies/{study}/files/{name:path}", pages.file),
        Route("/studies/{study}/everything.zip", pages.everything),
        Route("/studies/{study}/again", pages.again, methods=["POST"]),
        Route("/studies/{study}/delete", pages.delete, methods=["POST"]),
        Route("/state", pages.news),
        Route("/login", pages.login, methods=["GET", "POST"]),
        Route("/logout", pages.logout, methods=["POST"]),
        Route("/static/{name}", _static),
        Route("/favicon.ico", _no_icon),
    ]
    handlers: dict[Any, Callable[[Request, Any], Awaitable[Response]]] = {
        InputError: _said(400),
        forms.Forbidden: _said(403),
        multipart.Malformed: _said(400),
        HTTPException: _http,
        OSError: _no_room,
        sqlite3.Error: _no_room,
        Exception: _defect,
    }
    return guard.Guard(Starlette(routes=routes, exception_handlers=handlers), rules)


class _Pages:
    """A method for each address."""

    def __init__(self, shown: Shown) -> None:
        self._spool, self._drops, self._audit = shown.spool, shown.drops, shown.audit
        self._worker = shown.worker
        # By address of who tries: nobody's wrong passwords hold up another one's right one.
        self._logging_in: Counter[tuple[str, str]] = Counter()

    async def start(self, request: Request) -> Response:
        """Drop zone and worklist."""
        rows = await run_in_threadpool(self._spool.worklist)
        return _page(
            request, "start.html",
            rows=[self._described(row) for row in rows],
            waiting=self._drops.waiting(),
            state=_digest(rows),
            limits=arriving,
        )  # fmt: skip

    async def drop(self, request: Request) -> Response:
        """Take files; all of them, or nothing is left."""
        coming: Arriving | None = None

        def begin(name: str) -> Callable[[bytes], None]:
            nonlocal coming
            # Not before: who may not drop takes no place.
            coming = coming or self._drops.arrive()
            return coming.begin(name)

        try:
            await forms.receive_files(request, begin)
        except BaseException as error:  # a browser that goes away too
            if coming is not None:
                coming.discard()
                self._drops.discard(coming.folder.name)
            if isinstance(error, InputError | OSError):
                await forms.read_away(request)
            raise
        if coming is None:
            raise InputError("no file came; choose the files first")
        drop = await run_in_threadpool(self._drops.look, coming)
        return _go(request, f"/drops/{drop.key}")

    async def confirm(self, request: Request) -> Response:
        """What was taken for what; side, NIHSS and age."""
        key = request.path_params["key"]
        study = await run_in_threadpool(self._drops.study_of, key)
        if study is not None:
            return _go(request, f"/studies/{study}")
        drop = self._drops.find(key)
        lone = dropped.is_lone_image(drop.roles)
        return _page(request, "confirm.html", drop=drop, roles=dropped.ROLES, lone=lone)

    async def start_drop(self, request: Request) -> Response:
        """Confirmed: a study of the spool from now on."""
        pairs = await forms.read(request)
        fields = dict(pairs)
        key = request.path_params["key"]
        study = await run_in_threadpool(self._drops.study_of, key)
        if study is not None:  # pressed twice
            return _go(request, f"/studies/{study}")
        drop = self._drops.find(key)
        roles = [fields.get(f"role{k}", "") for k in range(len(drop.images))]
        if not set(roles) <= set(dropped.ROLES):
            raise InputError("say of every file what it is, or that it is not used")
        facts = forms.facts(fields)
        series = [value for name, value in pairs if name == "series" and value in drop.series]
        if drop.fault and not series:
            raise InputError("tick the series of the diffusion study")
        study = await run_in_threadpool(
            functools.partial(
                self._drops.start, drop, roles, facts.clinical, side=facts.side,
                series=",".join(series) or None, remark=forms.remark(fields),
            )
        )  # fmt: skip
        self._audit.add("dropped", study=study)
        return _go(request, f"/studies/{study}")

    async def discard(self, request: Request) -> Response:
        """Not started."""
        await forms.read(request)
        key = request.path_params["key"]
        await run_in_threadpool(self._drops.discard, key)
        if await run_in_threadpool(self._drops.study_of, key) is not None:
            raise InputError("these files were started already; delete their study instead")
        return _go(request, "/")

    async def study(self, request: Request) -> Response:
        """Progress, then the result."""
        row = await self._row(request)
        result, first, warnings = None, None, []
        if row.results and row.state not in AT_WORK:
            result = await run_in_threadpool(read_result, row.results)
            reader: Reader = "dropped" if row.dropped else "sent"
            first = None if result is None else headline.of(result)
            said = first.warnings if first else ()
            warnings = [for_reader(text, row.results, reader) for text in said]
        return _page(
            request, "study.html",
            row=self._described(row),
            result=result,
            first=first,
            warnings=warnings,
            downloads={
                name: words
                for name, words in DOWNLOADS.items()
                if result and row.results and (row.results / name).is_file()
            },
            state=_digest([row]),
        )  # fmt: skip

    async def report(self, request: Request) -> Response:
        """The result's own page, which is of no site."""
        row = await self._answered(request)
        content = await self._content(row, result_files.PAGE)
        return Response(
            content,
            media_type="text/html; charset=utf-8",
            headers={
                "Content-Security-Policy": guard.REPORT_POLICY, "X-Frame-Options": "SAMEORIGIN"
            },
        )  # fmt: skip

    async def file(self, request: Request) -> Response:
        """A file of the result, to keep."""
        row, name = await self._answered(request), request.path_params["name"]
        if name not in DOWNLOADS:
            raise HTTPException(404)
        disposition = f'attachment; filename="{row.study}_{Path(name).name}"'
        return Response(
            await self._content(row, name),
            media_type="application/octet-stream",
            headers={"Content-Disposition": disposition},
        )

    async def _answered(self, request: Request) -> WorklistRow:
        """A study, if its answer is that of the page that asks: no file stands beside another's."""
        row = await self._row(request)
        number = request.query_params.get("answer")
        if number is not None and (row.results is None or row.results.name != number):
            raise HTTPException(409, "A newer answer is there. Load the page of the study again.")
        return row

    async def _content(self, row: WorklistRow, name: str) -> bytes:
        """A file of a result, which may be deleted at any moment."""
        try:
            return await run_in_threadpool((row.results or Path()).joinpath(name).read_bytes)
        except (FileNotFoundError, IsADirectoryError) as error:
            raise HTTPException(404) from error

    async def everything(self, request: Request) -> Response:
        """All files of the result in a zip."""
        row = await self._answered(request)
        if row.results is None:
            raise HTTPException(404)
        content = await run_in_threadpool(_zipped, row.results)
        name = f'attachment; filename="{row.study}.zip"'
        return Response(
            content, media_type="application/zip", headers={"Content-Disposition": name}
        )

    async def again(self, request: Request) -> Response:
        """Once more, with what is known now."""
        facts = forms.facts(dict(await forms.read(request)))
        row = await self._row(request)
        clinical = facts.clinical
        try:
            given = dataclasses.replace(
                await run_in_threadpool(self._spool.given, row.study),
                side=facts.side, nihss=clinical.nihss, age=clinical.age,
            )  # fmt: skip
            await run_in_threadpool(self._spool.ask_again, row.study, given)
        except InputError:
            await self._row(request)  # deleted meanwhile: that is said
            raise
        self._audit.add("asked again", study=row.study)
        return _go(request, f"/studies/{row.study}")

    async def delete(self, request: Request) -> Response:
        """Images, results, and that it was ever there."""
        await forms.read(request)
        row = await self._row(request)
        try:
            await run_in_threadpool(self._spool.delete, row.study)
        except InputError:
            return _go(request, "/")  # another one was faster
        self._audit.add("deleted", study=row.study)
        return _go(request, "/")

    async def news(self, request: Request) -> Response:
        """Whether a page that is open shows what is so, and what is so instead."""
        study, shown = (request.query_params.get(name) for name in ("study", "state"))
        rows = await run_in_threadpool(self._spool.worklist, study)
        if study is None:
            return JSONResponse({"state": _digest(rows), "words": "", "news": ""})
        state, news = _digest(rows), ""
        if not rows:
            news = "This study was deleted. What stands here is all that is left of it."
        elif shown not in (None, state):
            news = "A newer answer is there. What stands here no longer holds."
            if rows[0].state in AT_WORK:
                news = "This study is being computed again. What stands here is its earlier answer."
            elif shown.split(".")[:2] == state.split(".")[:2]:
                news = "There is news of this study, and no newer answer."
        words = self._described(rows[0])["words"] if rows else ""
        return JSONResponse({"state": state, "words": words, "news": news})

    async def login(self, request: Request) -> Response:
        """The password; a few tries of an address at a time, each wrong one a second long.

        A proxy in front says for whom it asks. Anybody may say that, and is then one of the many
        of one connecting address.
        """
        rules: guard.Guard = request.scope["guard"]
        if not rules.asks_for_token:
            return _go(request, "/")
        if request.method == "GET":
            return _page(request, "login.html", fault=None)
        fields = dict(await forms.read(request))
        address = request.client.host if request.client else "unknown"
        who = address, guard.asked_for(request)
        tries = sum(count for (of, _), count in self._logging_in.items() if of == address)
        if self._logging_in[who] >= LOGINS_AT_ONCE or tries >= LOGINS_OF_AN_ADDRESS:
            fault = "Too many tries at once from this address. Wait a second, and try again."
            return _page(request, "login.html", status=429, fault=fault)
        if not rules.is_token(fields.get("token", "")):
            self._logging_in[who] += 1
            try:
                await asyncio.sleep(WRONG_LOGIN_S)
            finally:
                self._logging_in[who] -= 1
                if not self._logging_in[who]:
                    del self._logging_in[who]
            whose = {"asked_for": who[1]} if who[1] else {}
            self._audit.add("login refused", address=address, **whose)
            say("login refused", logging.WARNING, address=address, **whose)
            fault = "This is not the password."
            return _page(request, "login.html", status=403, fault=fault)
        answer = _go(request, "/")
        answer.headers.append(
            "Set-Cookie", guard.cookie(guard.LOGIN, rules.log_in(), request, guard.LOGIN_S)
        )
        return answer

    async def logout(self, request: Request) -> Response:
        """Forget the login."""
        await forms.read(request)
        request.scope["guard"].log_out(request)
        return _go(request, "/login")

    async def _row(self, request: Request) -> WorklistRow:
        name = request.path_params["study"]
        rows = []
        if re.fullmatch("[0-9a-f]{16}", name):
            rows = await run_in_threadpool(self._spool.worklist, name)
        if not rows:
            raise HTTPException(404, "There is no such study; it may have been deleted.")
        return rows[0]

    def _described(self, row: WorklistRow) -> dict[str, Any]:
        """A study with the words that people read."""
        state = row.state
        if row.dropped and state == "answered":
            state = "sent"
        words = STATES[state]
        step = self._worker.step
        waited = ""
        if state == "running":
            waited = f", {max(0, self._spool.now_s() - row.changed_s):.0f} s"
            if step and step[0] == row.study:
                words = step[1].split(",")[0]
        return {
            **vars(row),
            "pending": state in AT_WORK,
            "words": f"{words}{waited}",
            "came": _time(row.first_s),
            "earlier": [
                {"verdict": each.verdict, "came": _time(each.ended_s)} for each in row.earlier
            ],
            "simulated": row.verdict is not None and _is_simulated(row.results),
        }


def _time(seconds: float) -> str:
    moment = datetime.datetime.fromtimestamp(seconds)
    same_day = moment.date() == datetime.date.today()
    return moment.strftime("%H:%M" if same_day else "%Y-%m-%d %H:%M")


def _digest(rows: list[WorklistRow]) -> str:
    """Changes when a page must be loaded anew; of a study, which answer it is, then its state."""
    return ";".join(
        f"{row.study[:6]}-{row.first_s:.0f}.{row.runs}.{row.state}" for row in rows
    ) or ("none")


def _is_simulated(results: Path | None) -> bool:
    """Whether a result says that its model was trained on simulated patients."""
    with contextlib.suppress(OSError):
        if results is not None:
            return _says_simulated(results, (results / FILE).stat().st_mtime_ns)
    return False


@functools.lru_cache(maxsize=4096)
def _says_simulated(results: Path, written_ns: int) -> bool:
    result = read_result(results)
    return result is not None and result.simulated


def _zipped(folder: Path) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name in DOWNLOADS:
            with contextlib.suppress(FileNotFoundError):
                archive.write(folder / name, name)
    return packed.getvalue()


@functools.cache
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.ChoiceLoader(
            [
                jinja2.PackageLoader("tf_hypoperfusion.hospital.web"),
                jinja2.PackageLoader("tf_hypoperfusion.inference.page"),  # tiles.html, tiles.css
            ]
        ),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )


def _page(request: Request, template: str, *, status: int = 200, **values: Any) -> Response:
    rules: guard.Guard = request.scope["guard"]
    html = (
        _environment()
        .get_template(template)
        .render(csrf=request.scope["csrf"], is_logged_in=rules.is_logged_in(request), **values)
    )
    return HTMLResponse(html, status)


def _wants_json(request: Request) -> bool:
    return "application/json" in request.headers.get("accept", "")


def _go(request: Request, where: str) -> Response:
    """To the next page: a script is told which, a browser is sent there."""
    if _wants_json(request):
        return JSONResponse({"next": where})
    return RedirectResponse(where, 303)


def _fault(request: Request, status: int, text: str) -> Response:
    if _wants_json(request):
        return JSONResponse({"fault": text}, status)
    by_form = request.method == "POST"
    return _page(request, "fault.html", status=status, fault=text, by_form=by_form)


def _said(status: int) -> Callable[[Request, Any], Awaitable[Response]]:
    async def answer(request: Request, error: Exception) -> Response:
        text = str(error)
        return _fault(request, status, text[:1].upper() + text[1:] + ".")

    return answer


async def _http(request: Request, error: HTTPException) -> Response:
    words = {404: "There is no such page.", 405: "That cannot be done with this page."}
    said = error.detail if error.detail.endswith(".") else words.get(error.status_code, "")
    return _fault(request, error.status_code, said or error.detail)


async def _no_room(request: Request, error: OSError | sqlite3.Error) -> Response:
    full = isinstance(error, sqlite3.Error) or error.errno in NO_ROOM
    if not full:
        return await _defect(request, error)
    LOG.error("no room for what was dropped or asked")
    return _fault(
        request, 507,
        "The disk of this machine has no room for it. Nothing of it was kept: delete studies, or "
        "make room, and do it again.",
    )  # fmt: skip


async def _defect(request: Request, error: Exception) -> Response:
    LOG.log(logging.ERROR, "page failed", exc_info=error)
    return _fault(request, 500, "This program failed at it; its log says where.")


async def _static(request: Request) -> Response:
    name = request.path_params["name"]
    if name not in STYLES:
        raise HTTPException(404)
    return Response(_read(name), media_type=STYLES[name])


async def _no_icon(request: Request) -> Response:
    return Response(status_code=204)


@functools.cache
def _read(name: str) -> str:
    template = _environment().get_template(name)
    return template.render(core_colour=CORE, hypoperfusion_colour=HYPOPERFUSION)
