"""A node among real DICOM peers: what it takes, what it sends, and what a kill cannot undo."""

import contextlib
import errno
import json
import logging
import os
import signal
import stat
import subprocess
import sys
import threading

import pytest
import yaml
from helpers import PROJECT

pytest.importorskip("pynetdicom", reason="extra `dicom` is not installed")
from helpers import node_process
from helpers.dicom_network import (
    Pacs,
    echo,
    free_port,
    listening,
    send,
    small_image,
    tell,
    wait_for,
)
from helpers.orthanc import orthanc
from helpers.predictions import corner_backend
from pydicom.uid import CTImageStorage

from data_tools.runtime import atomic
from tf_hypoperfusion import node as command
from tf_hypoperfusion.hospital import service, settings, spool, study, worker
from tf_hypoperfusion.hospital.outbox import Outbox

STUDIES = ("1.2.1", "1.2.2")


def config_of(folder, destinations, **changes):
    """A node.yaml for impatient tests."""
    path = folder / "node.yaml"
    content = {
        "spool": str(folder / "spool"),
        "listen": {"ae_title": "HYPO", "port": 0, "callers": ["SCANNER"]},
        "destinations": destinations,
        "quiet_s": 0.5,
        "refusal_wait_s": 0,
        "min_free_gb": 0,
        "retry": {"first_s": 0.2, "longest_s": 0.5},
    }
    path.write_text(yaml.safe_dump(content | changes))
    return path


def to_pacs(port, name="pacs", **more):
    return {
        "kind": "dicom", "name": name, "ae_title": "PACS", "host": "127.0.0.1", "port": port, **more
    }  # fmt: skip


@contextlib.contextmanager
def running(config, connect=lambda: None):
    """A node in this process, stopped at the end."""
    node = service.Node(settings.read(config), connect)
    node.start()
    thread = threading.Thread(target=node.run)
    thread.start()
    try:
        yield node
    finally:
        node.ask_to_stop()
        thread.join(60)
    assert not thread.is_alive()


@pytest.fixture
def instant(monkeypatch):
    monkeypatch.setattr(worker.Worker, "_predict", node_process.answer)


def studies_of(pacs):
    """How many objects a PACS has of each study."""
    found = {}
    for data in pacs.stored.values():
        found[data.StudyInstanceUID] = found.get(data.StudyInstanceUID, 0) + 1
    return found


def texts(report):
    """All that a report says."""
    return "\n".join(str(e.value) for e in report.iterall() if e.keyword == "TextValue")


def states(node):
    return {row.study: row.state for row in node.spool.worklist()}


@pytest.mark.usefixtures("instant")
def test_mixed_studies_are_told_apart_and_answered_once(tmp_path):
    pacs, port = Pacs(), free_port()
    images = [small_image(STUDIES[k % 2]) for k in range(6)]
    with listening(pacs, port), running(config_of(tmp_path, [to_pacs(port)])) as node:
        assert echo(node.port) == 0
        assert send(images, node.port) == [0] * 6
        wait_for(lambda: set(states(node).values()) == {"sent"}, "results")
        assert studies_of(pacs) == dict.fromkeys(STUDIES, 2)
        # A PACS that sends back all that it has starts nothing.
        assert set(send([*images, *pacs.stored.values()], node.port)) == {0}
        assert set(states(node).values()) == {"sent"}
    assert len(pacs.sent) == 4
    lines = [json.loads(line) for line in (tmp_path / "spool/audit.jsonl").open()]
    assert [line["event"] for line in lines].count("answered") == 2
    assert {line["study"] for line in lines} == {spool.study_name(each) for each in STUDIES}


@pytest.mark.usefixtures("instant")
def test_a_study_of_which_its_scanner_says_that_all_came_need_not_be_quiet(tmp_path):
    """With an hour of quiet asked for: only what the scanner says completes a study."""
    pacs, port = Pacs(), free_port()
    config = config_of(tmp_path, [to_pacs(port)], quiet_s=3600)
    images = [small_image(STUDIES[0]) for _ in range(3)]
    other = [small_image(STUDIES[1]) for _ in range(3)]
    with listening(pacs, port), running(config) as node:
        assert tell(node.port, "1.9.1", STUDIES[0]) == 0
        assert tell(node.port, "1.9.2", STUDIES[1]) == 0
        assert send([*images[:2], *other], node.port) == [0] * 5
        assert tell(node.port, "1.9.1", status="COMPLETED", images=images) == 0
        assert tell(node.port, "1.9.2", status="DISCONTINUED", images=other[:2]) == 0
        first, second = map(spool.study_name, STUDIES)
        # One image of the first is still to come; the second has one that nobody told of.
        assert node.spool.close_quiet(3600) == []
        assert states(node) == {first: "receiving", second: "receiving"}
        assert send(images[2:], node.port) == [0]
        wait_for(lambda: states(node)[first] == "sent", "results")
        assert states(node)[second] == "receiving"


@pytest.mark.usefixtures("instant")
def test_what_a_scanner_may_not_say_is_refused(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    with running(config_of(tmp_path, [to_pacs(free_port())])) as node:
        assert tell(node.port, "1.9.1", "") == 0x0120  # no study
        assert tell(node.port, "1.9.1", STUDIES[0], status="COMPLETED") == 0x0106
        assert tell(node.port, "1.9.1", STUDIES[0]) == 0
        assert tell(node.port, "1.9.1", STUDIES[0]) == 0x0111
        assert tell(node.port, "1.9.2", status="COMPLETED") == 0x0112
        assert tell(node.port, "1.9.1", status="LUNCH") == 0x0106
        assert tell(node.port, "1.9.1") == 0  # still in progress
        assert tell(node.port, "1.9.1", status="COMPLETED") == 0
        assert tell(node.port, "1.9.1", status="COMPLETED") == 0x0110
        assert echo(node.port) == 0
        node.spool.steps.forget(node.spool.now_s() + 1)
        assert node.spool.steps.is_open("1.9.1") is None


@pytest.mark.usefixtures("instant")
@pytest.mark.parametrize("uid", ["../../x", "/etc/passwd", "..", "1..2", "1.2'; drop"])
def test_what_is_no_uid_is_refused_at_the_door(tmp_path, uid):
    with running(config_of(tmp_path, [to_pacs(free_port())])) as node:
        assert send([small_image(study=uid), small_image(uid=uid)], node.port) == [0xC000] * 2
        assert tell(node.port, "1.9.1", uid) == 0x0106
        assert node.spool.worklist() == []


@pytest.mark.usefixtures("instant")
def test_an_image_that_comes_again_with_other_content_is_told(tmp_path, caplog):
    first = small_image(uid="1.2.3.9")
    with running(config_of(tmp_path, [to_pacs(free_port())], quiet_s=3600)) as node:
        for k, image in enumerate((first, first, small_image(uid="1.2.3.9", InstanceNumber=2))):
            assert send([image], node.port) == [0]
            told = [r for r in caplog.records if "other content" in r.message]
            assert len(told) == (k == 2)
        assert node.spool.worklist()[0].images == 1


@pytest.mark.usefixtures("instant")
def test_strangers_are_refused(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    with running(config_of(tmp_path, [to_pacs(free_port())])) as node:
        assert echo(node.port, caller="STRANGER") is None
        assert echo(node.port, called="OTHER") is None
        assert send([small_image()], node.port, caller="STRANGER") is None
        assert node.spool.worklist() == []
    refused = [record.fields for record in caplog.records if record.message == "caller refused"]
    assert {"STRANGER", "SCANNER"} == {fields["caller"] for fields in refused}


@pytest.mark.usefixtures("instant")
def test_a_foreign_study_is_told_why_and_names_no_patient(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    pacs, port = Pacs(), free_port()
    images = [small_image("1.2.9", CTImageStorage, "CT") for _ in range(2)]
    with listening(pacs, port), running(config_of(tmp_path, [to_pacs(port)])) as node:
        assert send(images, node.port) == [0, 0]
        wait_for(lambda: pacs.stored, "a refusal")
        wait_for(lambda: node.spool.worklist()[0].undelivered == {}, "its record")
        assert set(states(node).values()) == {"refused"}
    (report,) = pacs.stored.values()
    assert report.Modality == "SR" and report.StudyInstanceUID == "1.2.9"
    assert "none is an MR image" in texts(report) and "NO RESULT" in texts(report)
    (line,) = map(json.loads, (tmp_path / "spool/audit.jsonl").open())
    assert (line["event"], line["verdict"]) == ("refused", "none")
    logged = [json.dumps(record.__dict__, default=str) for record in caplog.records]
    everything = "".join([json.dumps(line), *logged])
    assert "refused" in everything and "SECRET" not in everything


@pytest.mark.usefixtures("instant")
def test_a_destination_that_is_away_or_full_gets_it_later_and_holds_up_no_other(tmp_path):
    near, far, ports = Pacs(), Pacs(), (free_port(), free_port())
    far.status = 0xA700
    to = [to_pacs(ports[0], "near", objects=["capture"]), to_pacs(ports[1], "far")]
    with listening(near, ports[0]), running(config_of(tmp_path, to)) as node:
        assert send([small_image()], node.port) == [0]
        wait_for(lambda: len(near.stored) == 1, "the picture at the destination that is there")
        wait_for(lambda: "reached" in str(node.spool.worklist()[0].undelivered), "the reason")
        assert set(states(node).values()) == {"answered"}
        with listening(far, ports[1]):
            wait_for(lambda: "A700" in str(node.spool.worklist()[0].undelivered), "its status")
            far.status = 0
            wait_for(lambda: set(states(node).values()) == {"sent"}, "results")
    assert len(near.sent) == 1 and len(far.stored) == 2


@pytest.mark.usefixtures("instant")
def test_what_a_pacs_has_already_is_not_sent_again(tmp_path, monkeypatch):
    """The line is cut between the PACS and its answer."""
    from tf_hypoperfusion.hospital.delivery import DicomLine, NotTaken

    pacs, port, real = Pacs(), free_port(), DicomLine.send

    def cut(self, delivery):
        real(self, delivery)
        raise NotTaken("no answer to C-STORE")

    with listening(pacs, port), running(config_of(tmp_path, [to_pacs(port)])) as node:
        monkeypatch.setattr(DicomLine, "send", cut)
        send([small_image()], node.port)
        wait_for(lambda: set(states(node).values()) == {"sent"}, "results")
    assert len(pacs.sent) == len(pacs.stored) == 2


@pytest.mark.usefixtures("instant")
def test_a_full_disk_is_answered_for_and_lived_through(tmp_path, monkeypatch):
    pacs, port = Pacs(), free_port()
    image, real = small_image(), atomic.write_bytes

    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    with listening(pacs, port), running(config_of(tmp_path, [to_pacs(port)])) as node:
        monkeypatch.setattr(atomic, "write_bytes", full)
        assert send([image], node.port) == [0xA700]
        monkeypatch.setattr(atomic, "write_bytes", real)
        assert node.spool.worklist() == []
        assert send([image], node.port) == [0]
        wait_for(lambda: set(states(node).values()) == {"sent"}, "results")


@pytest.mark.usefixtures("instant")
def test_a_disk_that_is_full_of_results_only_delays_them(tmp_path, monkeypatch):
    pacs, port, tries = Pacs(), free_port(), []

    def full_at_first(self, run):
        tries.append(run.starts)
        if len(tries) == 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        return node_process.answer(self, run)

    monkeypatch.setattr(worker.Worker, "_predict", full_at_first)
    monkeypatch.setattr(worker, "NO_ROOM_WAIT_S", 0.2)
    with listening(pacs, port), running(config_of(tmp_path, [to_pacs(port)])) as node:
        send([small_image()], node.port)
        wait_for(lambda: set(states(node).values()) == {"sent"}, "results")
    assert tries == [1, 1]


@pytest.mark.usefixtures("instant")
def test_a_study_that_ends_the_program_again_and_again_is_refused(tmp_path):
    config = config_of(tmp_path, [to_pacs(free_port())])
    node = service.Node(settings.read(config), lambda: None)
    image = study.ReceivedImage(study_uid="1.2", uid="1.2.1", content=b"none", caller="SCANNER")
    node.spool.receive(image)
    node.spool.close_quiet(0)
    for _ in range(worker.MAX_STARTS):
        assert node.spool.next_run() is not None
        node.spool.recover()
    assert node._worker.work_once()
    (row,) = node.spool.worklist()
    assert row.state == "refused" and f"ended {worker.MAX_STARTS} times" in row.reason
    node.spool.close()


def test_a_real_study_is_answered_and_half_of_it_is_not(tmp_path, scanned):
    """Half a study is refused with the reason; when the rest comes, that is taken back."""
    from pydicom import dcmread

    pacs, port = Pacs(), free_port()
    images = [dcmread(path) for path in sorted(scanned.iterdir())]
    config = config_of(tmp_path, [to_pacs(port)], quiet_s=1.5, refusal_wait_s=600)
    with listening(pacs, port), running(config, corner_backend) as node:
        assert set(send(images[:-3], node.port)) == {0}
        wait_for(lambda: set(states(node).values()) == {"refused"}, "a refusal")
        assert "slices" in node.spool.worklist()[0].reason
        assert str(tmp_path) not in node.spool.worklist()[0].reason
        assert set(send(images[-3:], node.port)) == {0}
        wait_for(lambda: set(states(node).values()) == {"sent"}, "results", 200)
    kinds = sorted(data.Modality for data in pacs.stored.values())
    assert kinds == ["OT", "SEG", "SEG", "SR"]
    assert {str(data.StudyInstanceUID) for data in pacs.stored.values()} == {"1.2.3"}
    (report,) = (data for data in pacs.stored.values() if data.Modality == "SR")
    assert "Side: " in texts(report) and "NIHSS: unknown." in texts(report)
    assert "replaces" not in report.SeriesDescription
    (folder,) = (tmp_path / "spool/results").glob("*/2")
    assert (folder / "report.html").is_file() and (folder / "result.json").is_file()


def test_two_patients_under_one_study_are_refused(tmp_path, scanned):
    from pydicom import dcmread

    pacs, port = Pacs(), free_port()
    images = [dcmread(path) for path in sorted(scanned.iterdir())]
    for image in images[::2]:
        image.PatientID, image.PatientName = "OTHER", "OTHER^SECRET"
    config = config_of(tmp_path, [to_pacs(port)], quiet_s=1.5)
    with listening(pacs, port), running(config, corner_backend) as node:
        assert set(send(images, node.port)) == {0}
        wait_for(lambda: set(states(node).values()) == {"refused"}, "a refusal")
        (row,) = node.spool.worklist()
        reason = row.reason
        # It would be filed as one of the two's.
        assert Outbox(node.spool).destinations(row.study) == {"to": []}
    assert "2 patients" in reason and "SECRET" not in reason
    assert ".dcm" not in reason and "--" not in reason and "a study of its own" in reason


def test_a_port_that_is_taken_is_said(tmp_path):
    from data_tools.runtime.errors import InputError

    port = free_port()
    listen = {"ae_title": "HYPO", "port": port, "callers": ["SCANNER"]}
    node = service.Node(
        settings.read(config_of(tmp_path, [to_pacs(1)], listen=listen)), lambda: None
    )
    with listening(Pacs(), port), pytest.raises(InputError, match=f"cannot listen on .*{port}"):
        node.start()
    node.spool.close()


def test_the_nihss_is_read_from_where_the_rule_says(tmp_path):
    for k, text in enumerate(("Aphasia, NIHSS 14, left M1", "NIHSS: 14/42.")):
        small_image(PatientComments=text).save_as(tmp_path / f"{k}.dcm", enforce_file_format=True)
    nihss, warnings = worker.nihss_of(tmp_path, ["PatientComments"])
    assert nihss == 14 and warnings == [
        "NIHSS 14 was read in PatientComments of the study; check it"
    ]
    assert worker.nihss_of(tmp_path, ["AdditionalPatientHistory"]) == (None, [])
    assert worker.nihss_of(tmp_path, []) == (None, [])


@pytest.mark.parametrize(
    "text",
    [
        "NIHSS 15",
        "NIHSS fourteen",
        "NIHSS 77",
        "NIHSS 12.03.2024: 5",
        "NIHSS 24 h 3",
        "NIHSS 3 months ago 2",
        "NIHSS 8-10",
        "NIHSS 14.5",
        "NIHSS 14,5",
        "NIHSS 2 items, total 14",
        "NIHSS 10%",
        "no NIHSS 5",
        "NIHSS was 18, now NIHSS 14",
    ],
)
def test_a_text_that_may_mean_another_nihss_is_not_used_and_is_told(tmp_path, text):
    for k, each in enumerate(("NIHSS 14", text)):
        small_image(PatientComments=each).save_as(tmp_path / f"{k}.dcm", enforce_file_format=True)
        nihss, (warning,) = worker.nihss_of(tmp_path, ["PatientComments"])
        assert nihss == (14 if k == 0 else None)
    assert "PatientComments of the study speaks of the NIHSS and is not used" in warning
    (tmp_path / "0.dcm").unlink()
    nihss, warnings = worker.nihss_of(tmp_path, ["PatientComments"])
    assert (nihss, len(warnings)) == (15 if text == "NIHSS 15" else None, 1)


def test_no_refusal_is_filed_under_one_of_two_patients(tmp_path):
    for k, name in enumerate(("ONE", "TWO")):
        image = small_image(PatientID=name)
        image.save_as(tmp_path / f"{k}.dcm", enforce_file_format=True)
        content = worker.refusal_of(tmp_path, "two patients")
        assert (content is None) == (name == "TWO")


def test_the_command_shows_deletes_and_asks_again(tmp_path, capsys):
    from helpers.commands import call

    config = config_of(tmp_path, [to_pacs(1)])
    here = service.open_spool(settings.read(config))
    here.receive(
        study.ReceivedImage(study_uid="1.2", uid="1.2.1", content=b"none", caller="SCANNER")
    )
    name, old = spool.study_name("1.2"), os.umask(0o022)
    try:
        assert call(command, f"--config={config}", "--status") == 0
        assert name in capsys.readouterr().out
        assert call(command, f"--config={config}", f"--again={name}", "--side=left") == 0
        run = here.next_run()
        assert (run.side, run.series) == ("left", None)
        assert "side left, NIHSS unknown, age unknown, series auto" in capsys.readouterr().out
        corrected = ("--nihss=14", "--age=66")
        assert call(command, f"--config={config}", f"--again={name}", *corrected) == 0
        run = here.next_run()
        assert (run.side, run.nihss, run.age) == ("left", 14, 66)
        taken_back = ("--side=auto", "--nihss=unknown", "--age=n/a", "--series=auto")
        assert call(command, f"--config={config}", f"--again={name}", *taken_back) == 0
        run = here.next_run()
        assert (run.side, run.nihss, run.age, run.series) == (None, None, None, None)
        capsys.readouterr()
        for flag, said in (("--nihss=43", "nihss is '43'"), ("--series=none", "no DICOM file")):
            assert call(command, f"--config={config}", f"--again={name}", flag) == 2
            assert said in capsys.readouterr().err
        assert here.next_run() is None
        assert call(command, f"--config={config}", "--side=left") == 2
        assert "--side belongs to --again" in capsys.readouterr().err
        assert call(command, f"--config={config}", f"--delete={name}", "--status") == 2
        for flag in ("--again=", "--delete="):  # no node is started
            assert call(command, f"--config={config}", flag) == 2
            assert "is empty; expected a study" in capsys.readouterr().err
        assert call(command, f"--config={config}", f"--delete={name}") == 0
        assert here.worklist() == []
        deleted = json.loads((here.folder / "audit.jsonl").read_text())
        assert (deleted["event"], deleted["study"]) == ("deleted", name)
        assert call(command, f"--config={config}", f"--delete={name}") == 2
        elsewhere = config_of(tmp_path, [to_pacs(1)], spool=str(tmp_path / "mistyped"))
        assert call(command, f"--config={elsewhere}", "--status") == 2
        assert "mistyped is no spool; expected" in capsys.readouterr().err
        assert not (tmp_path / "mistyped").exists()
    finally:
        os.umask(old)


class Process:
    """A node in a process of its own."""

    def __init__(self, config, step=None):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "helpers.node_process", config, *([step] if step else [])],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=PROJECT / "tests",
            env={**os.environ, "PYTHONPATH": f"{PROJECT}:{PROJECT / 'tests'}"},
        )  # fmt: skip
        self.port = int(self.process.stdout.readline())


def test_killed_at_every_step_it_loses_nothing_and_sends_nothing_twice(tmp_path):
    """Each start is killed at another step; every image is sent until it was answered for."""
    import requests

    with orthanc(tmp_path) as (web, _):
        url = f"http://127.0.0.1:{web}"
        to = {"kind": "stow", "name": "web", "url": f"{url}/dicom-web"}
        config = config_of(tmp_path, [to])
        logs, waiting, studies = "", [], []
        for k, step in enumerate([*node_process.STEPS, None]):
            node = Process(config, step)
            studies.append(f"1.2.{k}")
            waiting += [small_image(studies[-1]) for _ in range(2)]
            statuses = send(waiting, node.port) or [None] * len(waiting)
            waiting = [i for i, status in zip(waiting, statuses, strict=True) if status != 0]
            if step:
                logs += node.process.communicate(timeout=60)[1]
                assert node.process.returncode == -signal.SIGKILL, step
        assert waiting == []
        wanted = len(studies) * len(node_process.NAMES)
        wait_for(
            lambda: requests.get(f"{url}/statistics").json()["CountInstances"] >= wanted, "results"
        )
        rows = here(config)
        wait_for(lambda: {row.state for row in rows()} == {"sent"}, "records of them")
        node.process.terminate()
        logs += node.process.communicate(timeout=60)[1]
        assert node.process.returncode == 0
        found = requests.get(f"{url}/dicom-web/instances").json()
        assert len(found) == wanted
        assert {each["0020000D"]["Value"][0] for each in found} == set(studies)
    lines = [json.loads(line) for line in logs.splitlines()]
    sent = [line for line in lines if line["event"] == "object sent"]
    assert [line["there"] for line in sent].count(True) == 1  # asked for, and not sent again
    assert len(sent) == wanted
    audited = [json.loads(line) for line in (tmp_path / "spool/audit.jsonl").open()]
    assert len({a["study"] for a in audited if a["event"] == "answered"}) == len(studies)
    modes = {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "spool").rglob("*")}
    assert modes == {0o600, 0o700}


def test_several_signals_at_once_end_it(tmp_path):
    node = Process(config_of(tmp_path, [to_pacs(free_port())]))
    for _ in range(20):
        node.process.send_signal(signal.SIGTERM)
        node.process.send_signal(signal.SIGINT)
    node.process.communicate(timeout=60)
    assert node.process.returncode == 0


def here(config):
    """The studies of a node that runs elsewhere."""
    spool_here = service.open_spool(settings.read(config))
    return spool_here.worklist
