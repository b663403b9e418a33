"""The page to drop files on: who may ask, what is taken, and a study all the way in Chromium."""

import asyncio
import concurrent.futures
import gzip
import http.client
import io
import re
import shutil
import socket
import stat
import threading
import time
import zipfile
from types import SimpleNamespace
from urllib.parse import urlsplit

import nibabel as nib
import numpy as np
import pytest
import requests
from helpers.commands import call
from helpers.predictions import corner_backend

from data_tools import drawing
from data_tools.pictures import CORE
from data_tools.runtime.command import EXIT_BAD_INPUT
from data_tools.runtime.errors import InputError

pytest.importorskip("starlette", reason="extra `serve` is not installed")

from tf_hypoperfusion import app
from tf_hypoperfusion.hospital import service
from tf_hypoperfusion.hospital.settings import Page, Settings
from tf_hypoperfusion.hospital.study import Outcome
from tf_hypoperfusion.hospital.web import arriving, dropped, guard, multipart, pages

PATIENCE_S = 180
AUDIT = "spool/audit.jsonl"


class Browser:
    """Asks as a browser does: with its cookies, and the secret of the page in its forms."""

    def __init__(self, url, **headers):
        self.url = url.rstrip("/")
        self.session = requests.Session()
        self.session.headers.update(headers)

    def get(self, path, **options):
        return self.session.get(self.url + path, timeout=60, **options)

    def csrf(self):
        return re.search('name="csrf" value="([^"]*)"', self.get("/").text)[1]

    def post(self, path, csrf=None, files=None, headers=None, **fields):
        fields = {"csrf": self.csrf() if csrf is None else csrf, **fields}
        return self.session.post(
            self.url + path, data=fields, files=files, headers=headers, timeout=60,
            allow_redirects=False,
        )  # fmt: skip

    def drop(self, *files, **options):
        """Drop (name, content) pairs; returns the answer."""
        return self.post("/drops", files=[("files", each) for each in files], **options)

    def drop_and_look(self, *files):
        """The same; returns the address of the page to confirm it, and that page."""
        answer = self.drop(*files)
        assert answer.status_code == 303, answer.text
        return answer.headers["location"], self.get(answer.headers["location"]).text

    def until_done(self, path):
        """The page of a study once it has a result or the reason why there is none."""
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            text = self.get(path).text
            if 'class="answer' in text or 'class="fault' in text:
                return text
            time.sleep(0.1)
        raise AssertionError(text)


def node_with_page(spool, *, works=True, **page):
    node = service.Node(
        Settings(spool=str(spool), min_free_gb=0, page=Page(port=0, **page)), corner_backend
    )
    if not works:  # studies wait
        node._worker.work_once = lambda: False
    node.start()
    return node


@pytest.fixture(scope="module")
def idle(tmp_path_factory):
    """A page whose studies are never answered."""
    node = node_with_page(tmp_path_factory.mktemp("idle") / "spool", works=False)
    yield node
    node.stop()


@pytest.fixture(scope="module")
def working(tmp_path_factory):
    node = node_with_page(tmp_path_factory.mktemp("working") / "spool")
    yield node
    node.stop()


@pytest.fixture
def browser(idle):
    return Browser(idle.page_url)


@pytest.fixture(autouse=True)
def nothing_half_dropped(request):
    """Whatever a test did, only drops that wait for a word are on the disk."""
    yield
    for name in {"idle", "working"} & set(request.fixturenames):
        page = request.getfixturevalue(name)._page
        waiting = {drop.key for drop in page._drops.waiting()}
        assert {path.name for path in page._drops._folder.iterdir()} == waiting
        for key in waiting:
            page._drops.discard(key)


def nifti(value=1.0):
    image = nib.Nifti1Image(np.full((4, 4, 4), value, np.float32), np.diag([2.0, 2, 2, 1]))
    return gzip.compress(image.to_bytes())


def zipped(**members):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return packed.getvalue()


def raw_request(url, method, path, body=b"", **headers):
    """Status and text, with just these headers."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=60)
    connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
    headers.setdefault("Host", parts.netloc)
    for name, value in {**headers, "Content-Length": str(len(body))}.items():
        connection.putheader(name.replace("_", "-"), value)
    connection.endheaders(body)
    answer = connection.getresponse()
    return answer.status, answer.read().decode()


# Who may ask.


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8080", "localhost.evil.example", ""]
)
def test_a_name_that_points_here_is_refused(idle, host):
    status, text = raw_request(idle.page_url, "GET", "/", Host=host)
    assert status == 403 and "csrf" not in text


@pytest.mark.parametrize("host", ["localhost:1", "127.0.0.1", "[::1]:8080", "192.0.2.7"])
def test_addresses_and_localhost_are_this_machine(idle, host):
    assert raw_request(idle.page_url, "GET", "/", Host=host)[0] == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_a_form_of_another_site_is_refused(browser, idle, headers):
    path, _ = browser.drop_and_look(("dwi.nii.gz", nifti()))
    answer = browser.post(f"{path}/start", headers=headers, role0="dwi")
    assert answer.status_code == 403 and "another site" in answer.text
    assert idle.spool.worklist() == []
    good = browser.post(f"{path}/discard", headers={"Origin": browser.url})
    assert good.status_code == 303


@pytest.mark.parametrize("csrf", ["", "0" * 64])
def test_a_form_needs_the_secret_of_its_browser(browser, idle, csrf):
    of_another = Browser(idle.page_url).csrf()
    for secret in (csrf, of_another):
        answer = browser.drop(("dwi.nii.gz", nifti()), csrf=secret)
        assert answer.status_code == 403 and "earlier visit" in answer.text
    path, _ = browser.drop_and_look(("dwi.nii.gz", nifti()))
    assert browser.post(f"{path}/start", csrf=of_another, role0="dwi").status_code == 403
    assert idle.spool.worklist() == []


def test_what_a_browser_may_do_with_an_answer(browser):
    answer = browser.get("/")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=Strict" in cookie
    assert "not a medical device" in answer.text


def test_others_need_a_password(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="others can reach it.*--token_file"):
        node_with_page(tmp_path / "open", host="0.0.0.0")
    (tmp_path / "password").write_text("a good one\n")
    node = node_with_page(
        tmp_path / "spool", works=False, token_file=str(tmp_path / "password"), names=["hypo.test"]
    )
    try:
        one = Browser(node.page_url)
        assert one.get("/", allow_redirects=False).headers["location"] == "/login"
        assert raw_request(node.page_url, "GET", "/login", Host="hypo.test")[0] == 200
        assert one.post("/drops", csrf="").status_code == 401
        csrf = re.search('name="csrf" value="([^"]*)"', one.get("/login").text)[1]
        assert one.post("/login", csrf=csrf, token="a bad one").status_code == 403
        assert '"login refused", "address": "127.0.0.1"' in (tmp_path / AUDIT).read_text()
        with monkeypatch.context() as busy:
            busy.setattr(pages, "LOGINS_AT_ONCE", 0)  # others of this address are at it
            assert one.post("/login", csrf=csrf, token="a good one").status_code == 429
        assert one.get("/", allow_redirects=False).status_code == 303
        assert one.post("/login", csrf=csrf, token="a good one").status_code == 303
        assert "Drop a study" in one.get("/").text
        assert one.post("/logout").status_code == 303
        assert one.get("/", allow_redirects=False).status_code == 303
        script = Browser(node.page_url, Authorization="Bearer a good one")
        assert script.drop(("dwi.nii.gz", nifti()), csrf="").status_code == 303
    finally:
        node.stop()


@pytest.mark.parametrize(
    ("password", "names", "said"),
    [("1234567", [], "has 7 letters; expected 8 and more"),
     ("a good one", ["a/b"], "'a/b' is no name of a machine"),
     ("a good one", ["hypo.test", "http://x"], "'http://x' is no name"),
     ("a good one", ["hypo.test:8080"], "is no name"), ("a good one", ["-x"], "is no name")],
)  # fmt: skip
def test_a_short_password_and_names_that_are_none_are_refused(tmp_path, password, names, said):
    (tmp_path / "password").write_text(f"{password}\n")
    with pytest.raises(InputError, match=re.escape(said)):
        node_with_page(tmp_path / "s", token_file=str(tmp_path / "password"), names=names)


@pytest.mark.parametrize("flag", ["spool", "host", "token_file", "names", "model"])
def test_an_empty_flag_is_no_default(flag, capsys):
    assert call(app, f"--{flag}=") == EXIT_BAD_INPUT
    assert f"--{flag} is empty; expected" in capsys.readouterr().err


def test_a_page_on_every_address_says_one_that_can_be_opened(tmp_path):
    (tmp_path / "password").write_text("a good one\n")
    node = node_with_page(
        tmp_path / "s", works=False, host="0.0.0.0", token_file=str(tmp_path / "password")
    )
    try:
        assert "0.0.0.0" not in node.page_url
        page = Browser(node.page_url).get("/").text
        assert "Password" in page and "Log out" not in page
    finally:
        node.stop()


def test_of_two_that_take_a_port_at_once_one_is_told(tmp_path):
    page = Page(port=0)
    first = service.Node(Settings(spool=str(tmp_path / "a"), page=page), corner_backend)
    port = urlsplit(first.page_url).port
    later = Settings(spool=str(tmp_path / "b"), page=Page(port=port))
    second = service.Node(later, corner_backend)
    first._page.start()
    try:
        with pytest.raises(InputError, match=f"cannot listen on 127.0.0.1, port {port} "):
            second._page.start()
    finally:
        first._page.stop()


def test_wrong_passwords_of_one_hold_up_no_other_behind_a_proxy(tmp_path, monkeypatch):
    go, sleep = threading.Event(), asyncio.sleep

    async def held(seconds):
        while not go.is_set():
            await sleep(0.01)

    monkeypatch.setattr(pages, "asyncio", SimpleNamespace(sleep=held))
    monkeypatch.setattr(pages, "LOGINS_AT_ONCE", 1)
    (tmp_path / "password").write_text("a good one\n")
    node = node_with_page(tmp_path / "spool", works=False, token_file=str(tmp_path / "password"))

    def log_in(one, token, address):
        csrf = re.search('name="csrf" value="([^"]*)"', one.get("/login").text)[1]
        headers = {"X-Forwarded-For": f"198.51.100.9, {address}"} if address else None
        return one.post("/login", csrf=csrf, token=token, headers=headers).status_code

    try:
        inside = Browser(node.page_url)
        assert log_in(inside, "a good one", "192.0.2.1") == 303
        with concurrent.futures.ThreadPoolExecutor() as at_once:
            wrong = at_once.submit(log_in, Browser(node.page_url), "a bad one", "192.0.2.1")
            try:
                wait_until(lambda: node_is_asked(node, "192.0.2.1"))
                assert log_in(Browser(node.page_url), "a good one", "192.0.2.1") == 429
                assert "Log out" in inside.get("/").text  # who is in stays in
                assert log_in(Browser(node.page_url), "a good one", "192.0.2.2") == 303
                assert log_in(Browser(node.page_url), "a good one", "no address") == 303
                monkeypatch.setattr(pages, "LOGINS_OF_AN_ADDRESS", 1)  # whatever it says
                assert log_in(Browser(node.page_url), "a good one", "192.0.2.2") == 429
            finally:
                go.set()
            assert wrong.result() == 403
        wait_until(lambda: not node_is_asked(node, "192.0.2.1"))
        audit = (tmp_path / AUDIT).read_text()
        assert '"address": "127.0.0.1", "asked_for": "192.0.2.1"' in audit
    finally:
        node.stop()


def node_is_asked(node, address):
    """Whether a wrong password of an address is waiting for its answer."""
    guarded = node._page._server.config.app
    while not hasattr(guarded, "routes"):
        guarded = next(v for k, v in vars(guarded).items() if k in ("_app", "app"))
    login = next(route for route in guarded.routes if route.path == "/login")
    return ("127.0.0.1", address) in login.endpoint.__self__._logging_in


# What is taken.


@pytest.mark.parametrize("size", [1, 2, 7, 64, 100_000])
def test_a_form_is_taken_apart_in_pieces_of_any_size(size):
    bodies = {"": b"secret", "a\r\n.nii": b"\r\n--b\r\n" * 5 + b"\r", "empty": b""}
    boundary = b"bound"
    form = b"".join(
        b'--bound\r\nContent-Disposition: form-data; name="f"%s\r\n\r\n%s\r\n'
        % (b'; filename="%s"' % name.replace("\r\n", "%0D%0A").encode() if name else b"", body)
        for name, body in bodies.items()
    )
    form += b"--" + boundary + b"--\r\n"
    found = {}

    def begin(field, name):
        found[name] = bytearray()
        return found[name].extend

    parts = multipart.Parts("multipart/form-data; boundary=bound", begin)
    for at in range(0, len(form), size):
        parts.feed(form[at : at + size])
    parts.end()
    assert found == bodies
    broken = multipart.Parts("multipart/form-data; boundary=bound", lambda *names: len)
    broken.feed(form[:-9])
    with pytest.raises(multipart.Malformed, match="too early"):
        broken.end()
    with pytest.raises(multipart.Malformed):
        multipart.Parts("multipart/form-data; boundary=other", begin).feed(form)


def test_what_each_file_was_taken_for_is_said_and_asked(browser):
    _, page = browser.drop_and_look(
        ("x/sub-1_dwi.nii.gz", nifti()), ("x/sub-1_ADC.nii.gz", nifti()),
        ("x/core_mask.nii.gz", nifti()), ("x/third.nii.gz", nifti()), ("x/notes.txt", b"hello"),
    )  # fmt: skip
    chosen = re.findall(r'<option value="(\w*)" selected>', page)
    assert chosen[:4] == ["dwi", "adc", "none", ""]
    assert "Not every name says what its file is" in page and "1 other file is left out" in page
    _, page = browser.drop_and_look(("1_trace.nii", nifti()), ("2_trace.nii", nifti()))
    assert "2 files may be the DWI" in page


def test_one_image_alone_is_said_to_be_less_sure(browser):
    alone, hidden = 'id="lone" class="warn">One image only', 'id="lone" class="warn" hidden>'
    for names, shown in (
        (["a_dwi.nii"], alone), (["a_adc.nii", "a_mask.nii"], alone),
        (["a_dwi.nii", "a_adc.nii"], hidden), (["a_dwi.nii", "a_b0.nii"], hidden),
        (["a_dwi.nii", "third.nii"], hidden),  # not said yet
    ):  # fmt: skip
        _, page = browser.drop_and_look(*((name, nifti()) for name in names))
        assert shown in page
    _, page = browser.drop_and_look(("a_dwi.nii", nifti()), ("b.zip", zipped(**{"c.7z": b""})))
    assert "The packed file c.7z was not unpacked" in page


def test_one_study_comes_of_all_who_start_it(browser, idle, monkeypatch):
    path, _ = browser.drop_and_look(("dwi.nii.gz", nifti()))
    begun, go, take = threading.Event(), threading.Event(), idle.spool.take

    def held(dropped):
        begun.set()
        assert go.wait(PATIENCE_S)
        return take(dropped)

    monkeypatch.setattr(idle.spool, "take", held)
    csrf = browser.csrf()
    cookies = {guard.BROWSER: browser.session.cookies[guard.BROWSER]}

    def post(what, **fields):
        return requests.post(
            f"{browser.url}{path}/{what}", data={"csrf": csrf, **fields}, cookies=cookies,
            timeout=PATIENCE_S, allow_redirects=False,
        )  # fmt: skip

    with concurrent.futures.ThreadPoolExecutor() as at_once:
        first = at_once.submit(post, "start", role0="dwi")
        assert begun.wait(PATIENCE_S)
        others = [at_once.submit(post, "start", role0="dwi") for _ in range(3)]
        away = at_once.submit(post, "discard")
        idle._page._drops.expire()
        assert idle._page._drops.waiting() == []
        go.set()
        where = {each.result().headers["location"] for each in (first, *others)}
    assert len(where) == 1
    assert away.result().status_code == 400 and "started already" in away.result().text
    assert post("start", role0="dwi").headers["location"] in where
    assert browser.get(path, allow_redirects=False).headers["location"] in where
    (row,) = idle.spool.worklist()
    assert browser.post(f"/studies/{row.study}/delete").status_code == 303
    assert browser.post(f"/studies/{row.study}/delete").status_code == 404
    for what in ("start", "discard"):
        path, _ = browser.drop_and_look(("dwi.nii.gz", nifti()))
        assert post("discard").status_code == 303
        assert post(what, role0="dwi").status_code == {"start": 400, "discard": 303}[what]


def test_who_starts_what_another_one_discards_is_told(idle):
    """However late it goes between the look for it and its start."""
    browser, drops = Browser(idle.page_url), idle._page._drops
    path, _ = browser.drop_and_look(("dwi.nii.gz", nifti()))
    drop = drops.find(path.removeprefix("/drops/"))
    drops.discard(drop.key)
    with pytest.raises(InputError, match="no longer here"):
        drops.start(drop, ["dwi"], side=None, series=None, remark=None)
    assert idle.spool.worklist() == [] and drops.study_of(drop.key) is None


def test_a_page_that_is_open_is_told_of_what_is_new(browser, idle):
    path, _ = browser.drop_and_look(("dwi.nii.gz", nifti()))
    study = browser.post(f"{path}/start", role0="dwi").headers["location"]
    name = study.removeprefix("/studies/")

    def answer(verdict):
        run = idle.spool.next_run()
        (run.results / "x").mkdir(parents=True)
        assert idle.spool.finish(run, Outcome(state="answered", verdict=verdict), [])

    def news(state):
        return browser.get("/state", params={"study": name, "state": state}).json()["news"]

    answer("yes")
    page = browser.get(study).text
    shown = re.search('data-state="([^"]*)"', page)[1]
    assert news(shown) == "" and "eplaces" not in page
    browser.post(f"{study}/again", side="right")
    assert "computed again" in news(shown)
    assert "Answered before: target mismatch YES" in browser.get(study).text
    answer("no")
    assert "newer answer" in news(shown)
    assert "target mismatch YES" in browser.get(study).text
    assert "before: YES" in browser.get("/").text
    of_the_old = browser.get(f"{study}/everything.zip?answer=1")
    assert of_the_old.status_code == 409 and "newer answer" in of_the_old.text
    assert browser.get(f"{study}/everything.zip?answer=2").status_code == 200
    shown = re.search('data-state="([^"]*)"', browser.get(study).text)[1]
    browser.post(f"{study}/delete")
    assert "deleted" in news(shown)


def test_a_study_deleted_while_it_is_computed_leaves_nothing(browser, idle, monkeypatch):
    path, _ = browser.drop_and_look(("dwi.nii.gz", nifti()))
    study = browser.post(f"{path}/start", role0="dwi").headers["location"]

    def deleted_meanwhile(run):
        browser.post(f"{study}/delete")
        run.results.mkdir(parents=True)
        (run.results / "late").write_text("x")
        raise InputError("its images are gone")

    monkeypatch.setattr(idle._worker, "_predict", deleted_meanwhile)
    assert type(idle._worker).work_once(idle._worker)
    for folder in ("received", "results"):
        assert [*(idle.spool.folder / folder).iterdir()] == []


def test_a_hostile_name_is_a_text_and_no_path(browser, idle):
    name = "../../../etc/<script>alert(1)_dwi.nii.gz"
    path, page = browser.drop_and_look((name, nifti()))
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)_dwi.nii.gz" in page
    answer = browser.post(f"{path}/start", role0="dwi", remark="<b>remark</b>")
    study = answer.headers["location"].removeprefix("/studies/")
    try:
        page = browser.get(f"/studies/{study}").text
        assert "&lt;b&gt;remark" in page and "<b>remark" not in page
        assert not re.search("<title>.*remark", page)
        folder = idle.spool.folder / "received" / study
        assert [path.name for path in folder.iterdir()] == ["dwi.nii.gz"]
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    finally:
        assert browser.post(f"/studies/{study}/delete").status_code == 303
    assert idle.spool.worklist() == [] and not folder.exists()


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ([("a.txt", b"words")], "no image is among 1 file;"),
        ([("dwi.nii.gz", b"words")], "The file dwi.nii.gz is no NIfTI file in one piece"),
        ([("a b.zip", zipped(**{"in.zip": zipped(a=nifti())}))], "the packed file in.zip is of"),
        ([("study.tar.gz", gzip.compress(b"x"))], "the packed file study.tar.gz is of"),
        ([("dwi.mhd", b"ElementDataFile = /etc/passwd")], "is no NIfTI file in one piece"),
        ([("dwi.nii.gz", nifti()[:-20])], "ends too early or is damaged"),
        ([("dwi.nii", nifti()), ("1.dcm", bytes(128) + b"DICM")], "either the ones or the others"),
        ([("a.zip", b"PK")], "is no whole zip file"),
        ([("a.zip", zipped(a=nifti())[:-5])], "is no whole zip file"),
        ([(f"{k}.nii", nifti()) for k in range(41)], "40 at most"),
    ],
)
def test_what_cannot_be_used_is_refused_in_words(browser, files, said):
    answer = browser.drop(*files, headers={"Accept": "application/json"})
    assert answer.status_code == 400
    assert said.lower() in answer.json()["fault"].lower()


def test_bombs_and_floods_are_refused(browser, monkeypatch):
    monkeypatch.setattr(arriving, "MAX_BYTES", 1 << 20)
    bomb = zipped(**{"dwi.nii": bytes(8 << 20)})
    assert len(bomb) < 1 << 20
    assert "GiB" in browser.drop(("a.zip", bomb)).text
    monkeypatch.setattr(arriving, "MAX_BYTES", 1 << 30)
    monkeypatch.setattr(arriving, "MAX_LISTING_BYTES", 1000)
    many = zipped(**{f"{k}.nii": b"" for k in range(100)})
    assert "too many files" in browser.drop(("a.zip", many)).text
    monkeypatch.setattr(arriving, "MAX_FILES", 3)
    answer = browser.drop(*((f"{k}.dcm", b"") for k in range(4)))
    assert answer.status_code == 400 and "More than 3 files" in answer.text
    monkeypatch.setattr(dropped, "MAX_FILE_BYTES", 1 << 16)
    head = nib.Nifti1Image(np.zeros((2, 2, 2), np.float32), np.eye(4)).to_bytes()
    parts = gzip.compress(head) + gzip.compress(bytes(1 << 20))
    assert "once unpacked" in browser.drop(("dwi.nii.gz", parts)).text
    monkeypatch.undo()
    for _ in range(dropped.MAX_OPEN):
        browser.drop_and_look(("dwi.nii.gz", nifti()))
    assert "wait to be started" in browser.drop(("dwi.nii.gz", nifti())).text


def test_a_full_disk_is_told_in_words(browser, idle, monkeypatch):
    path, _ = browser.drop_and_look(("dwi.nii.gz", nifti()))
    monkeypatch.setattr(idle.spool, "_min_free_bytes", 1 << 60)
    answer = browser.drop(("adc.nii.gz", nifti()))
    assert answer.status_code == 507 and "no room" in answer.text

    def full(dropped):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(idle.spool, "take", full)
    assert browser.post(f"{path}/start", role0="dwi").status_code == 507
    assert browser.get(path).status_code == 200  # and can be started later


def test_half_an_upload_leaves_nothing(browser, idle):
    csrf, url = browser.csrf(), urlsplit(idle.page_url)
    cookie = browser.session.cookies[guard.BROWSER]
    body = (
        f'--b\r\nContent-Disposition: form-data; name="csrf"\r\n\r\n{csrf}\r\n--b\r\n'
        'Content-Disposition: form-data; name="files"; filename="dwi.nii"\r\n\r\nabc'
    )
    folder = idle._page._drops._folder
    with socket.create_connection((url.hostname, url.port), timeout=60) as line:
        line.sendall(
            f"POST /drops HTTP/1.1\r\nHost: {url.netloc}\r\nCookie: {guard.BROWSER}={cookie}\r\n"
            "Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 999999\r\n\r\n"
            f"{body}".encode()
        )
        wait_until(lambda: any(folder.glob("*/*")))
    wait_until(lambda: not any(folder.iterdir()))


def test_a_request_that_never_ends_is_closed(idle, monkeypatch):
    from tf_hypoperfusion.serving.server import http_protocol

    monkeypatch.setattr(http_protocol, "HEAD_S", 0.1)
    url = urlsplit(idle.page_url)
    with socket.create_connection((url.hostname, url.port), timeout=PATIENCE_S) as line:
        line.sendall(b"GET / HTTP/1.1\r\nHost: ")
        assert line.recv(100).startswith(b"HTTP/1.1 408")


def wait_until(done):
    end = time.monotonic() + PATIENCE_S
    while not done():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.parametrize(
    "fields",
    [{"role0": ""}, {"role0": "tmax"}, {"role0": "none"}, {"role0": "dwi", "side": "up"},
     {"role0": "dwi", "nihss": "43"}, {"role0": "dwi", "nihss": "x"},
     {"role0": "dwi", "age": "nan"}, {}],
)  # fmt: skip
def test_a_form_that_says_the_impossible_changes_nothing(browser, idle, fields):
    path, _ = browser.drop_and_look(("dwi.nii.gz", nifti()))
    assert browser.post(f"{path}/start", **fields).status_code == 400
    assert idle.spool.worklist() == [] and browser.get(path).status_code == 200


@pytest.mark.parametrize(
    "path",
    ["/studies/..%2f..%2fetc", "/studies/0123456789abcdef", "/studies/%00", "/static/base.html",
     "/static/..%2fpages.py", "/drops/../x", "/studies/0123456789abcdef/files/../../spool.sqlite"],
)  # fmt: skip
def test_there_is_nothing_else(idle, path):
    status, _ = raw_request(idle.page_url, "GET", path)
    assert status in (400, 404)


# All the way.


def test_a_study_that_cannot_be_used_says_why(working):
    one = Browser(working.page_url)
    path, _ = one.drop_and_look(("a_dwi.nii.gz", nifti()), ("a_adc.nii.gz", nifti()))
    study = one.post(f"{path}/start", role0="dwi", role1="adc").headers["location"]
    page = one.until_done(study)
    assert 'class="fault' in page and str(working.spool.folder) not in page
    assert one.get(f"{study}/report").status_code == 404


def test_dicom_files_are_chosen_as_by_predict(working, scanned):
    one = Browser(working.page_url)
    packed = zipped(**{f"case/{path.name}": path.read_bytes() for path in scanned.iterdir()})
    path, page = one.drop_and_look(("case.zip", packed))
    assert "ep2d_diff_TRACEW" in page and "is computed" in page
    study = one.post(f"{path}/start", side="left", nihss="14").headers["location"]
    page = one.until_done(study)
    assert "TARGET MISMATCH" in page and 'class="tiles"' in page
    name = study.removeprefix("/studies/")
    (row,) = working.spool.worklist(name)
    assert (row.state, row.side, row.nihss, dict(row.undelivered)) == ("sent", "left", 14, {})
    report = one.get(f"{study}/report")
    assert report.headers["content-security-policy"].startswith("sandbox allow-scripts;")
    segmentation = one.get(f"{study}/files/dicom/segmentation.dcm")
    assert segmentation.content[128:132] == b"DICM"
    assert "attachment" in segmentation.headers["content-disposition"]
    assert one.get(f"{study}/files/../../../spool.sqlite").status_code == 404
    with zipfile.ZipFile(io.BytesIO(one.get(f"{study}/everything.zip").content)) as archive:
        assert {"report.html", "result.json"} <= set(archive.namelist())
    assert one.post(f"{study}/again", side="right", nihss="", age="70").status_code == 303
    page = one.until_done(study)
    assert "right, NIHSS not known, 70 years" in page
    assert working.spool.worklist(name)[0].runs == 2


def test_of_two_scans_a_person_chooses_one(browser, idle, scanned, tmp_path):
    import pydicom

    files = []
    for number, path in enumerate(sorted(scanned.iterdir())):
        data = pydicom.dcmread(path)
        files.append((path.name, path.read_bytes()))
        data.SeriesInstanceUID, data.SOPInstanceUID = "1.2.77", f"1.2.77.{number}"
        data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
        data.SeriesNumber = 9
        data.save_as(tmp_path / "again.dcm")
        files.append((f"again {path.name}", (tmp_path / "again.dcm").read_bytes()))
    path, page = browser.drop_and_look(*files)
    assert "2 DWI series" in page and "--series" not in page and "details open" in page
    answer = browser.post(f"{path}/start")
    assert answer.status_code == 400 and "Tick the series" in answer.text
    study = browser.post(f"{path}/start", series="1.2.77").headers["location"]
    assert idle.spool.next_run().series == "1.2.77"
    assert browser.post(f"{study}/delete").status_code == 303


def test_a_start_outlives_a_kill(tmp_path):
    """What was started is in the spool; what was only dropped is not."""
    node = node_with_page(tmp_path / "spool", works=False)
    one = Browser(node.page_url)
    one.drop_and_look(("adc.nii.gz", nifti()))
    path, _ = one.drop_and_look(("dwi.nii.gz", nifti()))
    study = one.post(f"{path}/start", role0="dwi", age="70").headers["location"]
    assert node.spool.next_run().age == 70  # and while it runs, nothing of this node goes on
    node._page._drops.clear = lambda: None
    node.stop()
    later = node_with_page(tmp_path / "spool", works=False)
    try:
        assert not any((tmp_path / "spool/dropping").iterdir())
        run = later.spool.next_run()
        assert run.study == study.removeprefix("/studies/") and run.starts == 2
        assert [path.name for path in run.images.iterdir()] == ["dwi.nii.gz"]
    finally:
        later.stop()


def test_a_person_drops_files_and_reads_the_result(working, raw_cohort, tmp_path):
    """Real files on a real page; the report runs its viewer, and its page none of its scripts."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("no chromium here")
    shutil.copytree(raw_cohort / "sub-0001/dwi", tmp_path / "case/dwi")
    complaints = []
    with api.sync_playwright() as play:
        engine = play.chromium.launch(
            executable_path=program,
            args=["--no-sandbox", "--disable-dev-shm-usage", "--use-gl=angle",
                  "--use-angle=swiftshader", "--enable-unsafe-swiftshader"],
        )  # fmt: skip
        page = engine.new_page(viewport={"width": 1400, "height": 900})
        page.set_default_timeout(PATIENCE_S * 1000)
        page.on("console", lambda m: complaints.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        asked = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(working.page_url)
        drag(page, [str(tmp_path / "case")])
        page.wait_for_url("**/drops/*")
        roles = page.locator("select[name^=role]")
        assert sorted(roles.nth(k).input_value() for k in range(roles.count())) == ["adc", "dwi"]
        page.locator("select[name=side]").select_option("left")
        page.fill("input[name=nihss]", "14")
        page.fill("input[name=remark]", "case 12")
        page.click("text=Start")
        page.wait_for_url("**/studies/*")
        page.wait_for_selector(".answer")
        assert "TARGET MISMATCH" in page.inner_text(".answer")
        assert page.locator(".tile").count() == 4
        border = "each => getComputedStyle(each).borderLeftColor"
        assert page.locator(".tile.core").evaluate(border) == f"rgb{drawing.rgb(CORE)}"
        page.locator("#report").scroll_into_view_if_needed()
        inside = page.frame_locator("#report")
        inside.locator("html[data-viewer=ready]").wait_for()
        assert "14" in inside.locator("main").inner_text()
        study = page.url.removeprefix(working.page_url.rstrip("/"))
        # Who reads it, and types, is told of what others do, and loses nothing.
        other, news = Browser(working.page_url), page.locator("#news")
        page.locator("summary", has_text="Compute it again").press("Enter")
        page.fill("input[name=nihss]", "3")
        other.post(f"{study}/again", side="right", nihss="14")
        other.until_done(study)
        news.get_by_text("A newer answer is there").wait_for()
        assert page.input_value("input[name=nihss]") == "3"
        page.route("**/state?*", lambda route: route.abort())
        news.get_by_text("does not answer").wait_for()
        page.unroute("**/state?*")
        news.get_by_text("A newer answer is there").wait_for()
        news.get_by_text("Load the page").press("Enter")
        page.get_by_text("This answer replaces: target mismatch").wait_for()
        assert news.is_hidden() and "given: right" in page.inner_text("main")
        page.goto(working.page_url)
        row = page.locator(".worklist tr", has_text="case 12")
        text = row.inner_text()
        assert "right, NIHSS 14" in text and "done" in text and "SIMULATED" in text
        for words in (row.locator(".verdict"), row.locator(".mark")):
            assert words.evaluate("each => each.getClientRects().length") == 1
        page.set_viewport_size({"width": 400, "height": 900})
        width = "document.documentElement.scrollWidth"
        assert page.evaluate(width) <= 400
        page.set_viewport_size({"width": 390, "height": 900})
        page.goto(working.page_url.rstrip("/") + study)
        page.wait_for_selector(".tiles")
        assert page.evaluate(width) <= 390
        other.post(f"{study}/delete")
        news.get_by_text("deleted").wait_for()
        assert page.locator("main button:enabled").count() == 0
        path, _ = other.drop_and_look(("a_dwi.nii", nifti()), ("a_adc.nii", nifti()))
        page.goto(working.page_url.rstrip("/") + path)
        assert page.locator("#lone").is_hidden()
        page.select_option("select[name=role1]", "none")
        assert page.locator("#lone").is_visible()
        engine.close()
    assert [each for each in complaints if "ERR_FAILED" not in each] == []  # of the route
    own = ("data:", "blob:", working.page_url)
    assert [url for url in asked if not url.startswith(own)] == []
    assert not any("sub-0001" in url or "case" in url for url in asked if url.startswith("http"))


def drag(page, paths):
    """Files or folders from outside, dropped onto the page as a person does."""
    box = page.locator("#drop").bounding_box()
    place = {"x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] / 4}
    tools = page.context.new_cdp_session(page)
    for kind in ("dragEnter", "dragOver", "drop"):
        data = {"items": [], "files": paths, "dragOperationsMask": 1}
        tools.send("Input.dispatchDragEvent", {"type": kind, "data": data, **place})
