"""What a destination says of a result, and what is logged where it does not take it."""

import contextlib
import http.server
import json
import threading

import pytest

# First what is skipped without the extra.
pytest.importorskip("pynetdicom")

from helpers.dicom_network import Pacs, free_port, listening, small_image
from pynetdicom import AE, AllStoragePresentationContexts

from tf_hypoperfusion.hospital import delivery
from tf_hypoperfusion.hospital.delivery import NotTaken, StowLine, dicom_line
from tf_hypoperfusion.hospital.outbox import Delivery
from tf_hypoperfusion.hospital.settings import DicomDestination, StowDestination

STORED = {"00081199": {"Value": [{"00081155": {"Value": ["1.2.1"]}}]}}


@pytest.fixture
def result(tmp_path):
    """A report that waits to be sent."""
    image = small_image(uid="1.2.1")
    image.save_as(tmp_path / "report.dcm", enforce_file_format=True)
    return Delivery(
        uid="1.2.1", study_uid="1.2.3", sop_class=image.SOPClassUID, file=tmp_path / "report.dcm",
        study="a", name="report", destination="pacs", tries=1, made_s=0.0,
    )  # fmt: skip


@contextlib.contextmanager
def service(answer):
    """The URL of a web service that answers everything as ``answer(handler)`` writes it."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            with contextlib.suppress(OSError):  # nobody waits for the rest
                answer(self)

        do_GET = do_POST

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/dicom-web"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def line(url):
    return StowLine(StowDestination(kind="stow", name="web", url=url))


def says(status, content=b""):
    """An answer of a status and a content."""

    def answer(handler):
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content)

    return answer


def endless(piece):
    """An answer that never ends."""

    def answer(handler):
        handler.send_response(200)
        handler.end_headers()
        while True:
            handler.wfile.write(piece)
            handler.wfile.flush()

    return answer


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (says(401), "status 401; is token_file right"),
        (says(403), "status 403; is token_file right"),
        (says(500), "status 500, not said to be stored"),
        (says(204), "status 204, not said to be stored"),
        (says(200, b"<html>"), "no DICOM JSON; is it the address of a DICOMweb"),
        (says(200, b'["odd"]'), "not said to be stored"),
        (says(200, b'{"00081199": {"Value": 5}}'), "not said to be stored"),
        (endless(b" " * 2**16), "its answer does not end"),
    ],
)
def test_what_is_no_receipt_is_told_as_what_it_is(result, answer, why):
    with service(answer) as url:
        with pytest.raises(NotTaken, match=why):
            line(url).send(result)
        assert not line(url).has(result)


def test_a_receipt_is_one(result):
    with service(says(200, json.dumps(STORED).encode())) as url:
        line(url).send(result)


def test_an_answer_that_drips_is_waited_for_no_longer_than_one_that_does_not_come(
    result, monkeypatch
):
    monkeypatch.setattr(delivery, "CONNECT_S", 0.2)
    monkeypatch.setattr(delivery, "ANSWER_S", 0.2)
    gone = threading.Event()

    def drip(handler):
        handler.send_response(200)
        handler.end_headers()
        while not gone.wait(0.05):
            handler.wfile.write(b" ")
            handler.wfile.flush()

    with service(drip) as url:
        with pytest.raises(NotTaken, match="does not end"):
            line(url).send(result)
        gone.set()


@pytest.mark.parametrize(
    ("url", "why"),
    [("http://127.0.0.1:{port}/x", "cannot be reached"), ("https://127.0.0.1:{own}/x", "TLS")],
)
def test_one_that_is_not_reached_is_told_without_a_librarys_words(result, url, why):
    with service(says(200)) as own:
        url = url.format(port=free_port(), own=own.rpartition(":")[2].split("/")[0])
        with pytest.raises(NotTaken, match=why) as raised:
            line(url).send(result)
    assert "Error" not in str(raised.value) and "object at" not in str(raised.value)


@pytest.mark.parametrize(("status", "taken"), [(0x0111, True), (0xB000, True), (0xA700, False)])
def test_what_a_pacs_has_from_before_is_taken(result, status, taken):
    pacs, port = Pacs(), free_port()
    pacs.status = status
    to = DicomDestination(kind="dicom", name="pacs", ae_title="PACS", host="127.0.0.1", port=port)
    with listening(pacs, port), dicom_line(to, "HYPO", [result]) as there:
        if taken:
            there.send(result)
        else:
            with pytest.raises(NotTaken, match="0xA700"):
                there.send(result)
    with pytest.raises(NotTaken, match="ended the association"):
        there.send(result)


@pytest.mark.parametrize(
    ("title", "contexts", "why"),
    [
        ("OTHER", AllStoragePresentationContexts, "refused the association: does it know"),
        ("PACS", [], "takes none of these kinds"),
        (None, [], "cannot be reached"),
    ],
)
def test_a_pacs_that_does_not_want_it_is_told_apart_from_one_that_is_away(
    result, title, contexts, why
):
    port, entity = free_port(), AE(ae_title=title or "PACS")
    entity.require_called_aet = True
    entity.add_supported_context("1.2.840.10008.1.1")
    for context in contexts:
        entity.add_supported_context(context.abstract_syntax)
    to = DicomDestination(kind="dicom", name="pacs", ae_title="PACS", host="127.0.0.1", port=port)
    server = entity.start_server(("127.0.0.1", port), block=False) if title else None
    try:
        with pytest.raises(NotTaken, match=why), dicom_line(to, "HYPO", [result]):
            pass
    finally:
        if server:
            server.shutdown()
