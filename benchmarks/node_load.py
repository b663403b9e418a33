"""A hospital's node under load: many studies at once through kills, and one after the other.

    python -m benchmarks.node_load --study=FOLDER [--studies=50] [--singles=10] [--out=node.csv]

FOLDER holds one study's DICOM files; each study that is sent is a copy of it with UIDs of its own.
A real Orthanc (Debian: orthanc, orthanc-dicomweb) gets the results by STOW-RS.

First the single studies: seconds from the answer to the last image until the report is in
Orthanc, the quiet time included. Then all studies at once, each image sent until it is answered
for. The node is killed (SIGKILL) while images come, and after a fifth and three fifths of the
results; Orthanc is away for --away_s after two fifths; where --spool lies on a small file system,
it is filled to the last byte for --full_s before. At the end every object in Orthanc is counted.
"""

import contextlib
import copy
import functools
import json
import math
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any

from absl import flags

from benchmarks.measuring import options
from benchmarks.measuring.tables import Tables
from data_tools.runtime import command
from data_tools.runtime.errors import InputError

FLAGS = flags.FlagValues()
flags.DEFINE_string(
    "study", None, "<FOLDER> DICOM files of one study.", required=True, flag_values=FLAGS
)
options.count("studies", 50, "Sent at once.", FLAGS)
options.count("singles", 10, "Sent one after the other.", FLAGS)
options.count("away_s", 60, "Seconds that Orthanc is away for.", FLAGS)
options.count("full_s", 20, "Seconds that a small file system is full for.", FLAGS)
flags.DEFINE_float("quiet_s", 5.0, "Of the node's settings.", flag_values=FLAGS)
flags.DEFINE_bool("fast", False, "Of the node's settings.", flag_values=FLAGS)
flags.DEFINE_string(
    "spool", None, "<FOLDER> Of the node; without it, a temporary one.", flag_values=FLAGS
)
options.out(FLAGS)

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
SENDERS_AT_ONCE = 50
SMALL_BYTES = 2_000_000_000
KILLED_AFTER, AWAY_AFTER = (0.2, 0.6), 0.4
OBJECTS = {9001: "segmentation", 9002: "probability", 9003: "report", 9004: "capture"}
LONGEST_S = 7200.0


class Orthanc:
    """A PACS that can be sent away and comes back with what it had."""

    def __init__(self, folder: Path) -> None:
        self._folder, self.port = folder, _free_port()
        (folder / "orthanc.json").write_text(
            json.dumps(
                {
                    "HttpPort": self.port, "DicomPort": _free_port(),
                    "StorageDirectory": str(folder / "orthanc"),
                    "IndexDirectory": str(folder / "orthanc"), "RemoteAccessAllowed": False,
                    "AuthenticationEnabled": False, "Plugins": [str(PLUGIN)],
                    "DicomWeb": {"Enable": True},
                }
            )
        )  # fmt: skip
        self.url = f"http://127.0.0.1:{self.port}/dicom-web"
        self.start()

    def start(self) -> None:
        self._process = subprocess.Popen(
            ["Orthanc", str(self._folder / "orthanc.json")],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        _wait(lambda: _listens(self.port), "Orthanc")

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait()

    def series(self, **asked: Any) -> list[tuple[str, int]]:
        """Study and number of each series; empty while it is away."""
        import requests

        with contextlib.suppress(requests.RequestException):
            answer = requests.get(f"{self.url}/series", params=asked, timeout=30)
            return [
                (each["0020000D"]["Value"][0], int(each["00200011"]["Value"][0]))
                for each in answer.json()
            ]
        return []

    def instances(self) -> Counter[tuple[str, int]]:
        """How many objects of each study and kind."""
        import requests

        answer = requests.get(
            f"{self.url}/instances", params={"includefield": "00200011"}, timeout=60
        )
        return Counter(
            (each["0020000D"]["Value"][0], int(each["00200011"]["Value"][0]))
            for each in answer.json()
        )


class Node:
    """The node as a process that can be killed and started again."""

    def __init__(self, folder: Path, spool: Path, orthanc: Orthanc) -> None:
        self.port, self._log = _free_port(), folder / "node.log"
        self._config = folder / "node.yaml"
        self._config.write_text(
            json.dumps(  # which is YAML too
                {
                    "spool": str(spool), "quiet_s": FLAGS.quiet_s, "fast": FLAGS.fast,
                    "min_free_gb": 0.0,
                    "listen": {"ae_title": "HYPO", "port": self.port, "callers": ["BENCH"]},
                    "destinations": [{"kind": "stow", "name": "orthanc", "url": orthanc.url}],
                    "retry": {"first_s": 2, "longest_s": 10},
                }
            )
        )  # fmt: skip
        self.kills = 0
        self.start()

    def start(self) -> None:
        with open(self._log, "a") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tf_hypoperfusion.node", f"--config={self._config}"],
                stdout=log, stderr=log,
            )  # fmt: skip
        _wait(lambda: _listens(self.port) or self._process.poll() is not None, "the node")
        if self._process.poll() is not None:
            raise InputError(f"the node ended: {self._log.read_text()[-2000:]}")

    def kill(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        self.kills += 1
        self.start()

    def stop(self) -> float:
        """Seconds from SIGTERM to its end."""
        began = time.monotonic()
        self._process.terminate()
        self._process.wait()
        return time.monotonic() - began

    def said(self, event: str) -> int:
        """How often its log has an event."""
        return self._log.read_text().count(f'"event": "{event}"')


def main() -> None:
    """Send, disturb, count."""
    if shutil.which("Orthanc") is None or not PLUGIN.is_file():
        raise InputError("Orthanc and its DICOMweb plugin are not installed; expected both")
    images = _images(Path(FLAGS.study))
    tables = Tables(FLAGS.out, ("openvino", "pynetdicom", "highdicom"), f"study {FLAGS.study}")
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        spool = Path(FLAGS.spool) if FLAGS.spool else folder / "spool"
        orthanc = Orthanc(folder)
        node = Node(folder, spool, orthanc)
        try:
            tables.show("one after the other", [_singles(images, node, orthanc)])
            tables.show("all at once", [_at_once(images, node, orthanc, spool)])
        finally:
            ended_s = node.stop()
            orthanc.stop()
        print(f"SIGTERM to end: {ended_s:.1f} s")


def _images(folder: Path) -> list[Any]:
    from pydicom import dcmread

    images = [dcmread(path) for path in sorted(folder.rglob("*")) if path.is_file()]
    if not images:
        raise InputError(f"--study={folder} holds no files; expected DICOM files of one study")
    return images


def _copy(images: Sequence[Any]) -> list[Any]:
    """The study with UIDs of its own."""
    from pydicom.uid import generate_uid

    new: dict[str, str] = {}
    found = []
    for image in images:
        copied = copy.deepcopy(image)
        for name in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID",
                     "FrameOfReferenceUID"):  # fmt: skip
            if name in image:
                setattr(copied, name, new.setdefault(image[name].value, generate_uid()))
        copied.file_meta.MediaStorageSOPInstanceUID = copied.SOPInstanceUID
        found.append(copied)
    return found


def _send(images: Sequence[Any], port: int, said: Callable[[int], None]) -> None:
    """Each image until it is answered for; ``said`` gets each status that is no success."""
    from pynetdicom import AE

    waiting = list(images)
    deadline = time.monotonic() + LONGEST_S
    while waiting and time.monotonic() < deadline:
        entity = AE(ae_title="BENCH")
        for kind, syntax in {(i.SOPClassUID, i.file_meta.TransferSyntaxUID) for i in waiting}:
            entity.add_requested_context(kind, syntax)
        association = entity.associate("127.0.0.1", port, ae_title="HYPO")
        while waiting and association.is_established:
            try:
                status = association.send_c_store(waiting[0]).get("Status")
            except (RuntimeError, ValueError):
                break
            if status == 0:
                waiting.pop(0)
                said(0)
            else:
                said(-1 if status is None else status)
                break
        if association.is_established:
            association.release()
        if waiting:
            time.sleep(1)


def _singles(images: Sequence[Any], node: Node, orthanc: Orthanc) -> dict[str, Any]:
    seconds = []
    for _ in range(FLAGS.singles):
        study = _copy(images)
        uid = study[0].StudyInstanceUID
        _send(study, node.port, lambda status: None)
        began = time.monotonic()
        _wait(functools.partial(_has_report, orthanc, uid), "a report")
        seconds.append(time.monotonic() - began)
    ordered = sorted(seconds)
    return {
        "studies": len(seconds),
        "images each": len(images),
        "quiet, s": FLAGS.quiet_s,
        "last image to report, s": f"{median(seconds):.1f}",
        "95th percentile, s": f"{ordered[math.ceil(0.95 * len(ordered)) - 1]:.1f}",
        "longest, s": f"{ordered[-1]:.1f}",
    }


def _has_report(orthanc: Orthanc, uid: str) -> bool:
    return (uid, 9003) in orthanc.series(StudyInstanceUID=uid)


def _at_once(images: Sequence[Any], node: Node, orthanc: Orthanc, spool: Path) -> dict[str, Any]:
    before = set(orthanc.instances())
    studies = [_copy(images) for _ in range(FLAGS.studies)]
    wanted = {study[0].StudyInstanceUID for study in studies}
    statuses: Counter[int] = Counter()
    began = time.monotonic()

    def done(share: float = 1.0) -> bool:
        reports = [1 for uid, number in orthanc.series() if uid in wanted and number == 9003]
        return len(reports) >= share * len(studies)

    with ThreadPoolExecutor(SENDERS_AT_ONCE) as pool:
        sending = [
            pool.submit(_send, each, node.port, lambda status: statuses.update([status]))
            for each in studies
        ]
        _wait(lambda: statuses[0] >= 0.4 * len(images) * len(studies), "images")
        full_s = _fill(spool) if shutil.disk_usage(spool).total < SMALL_BYTES else 0.0
        node.kill()
        for each in sending:
            each.result()
    sent_s = time.monotonic() - began
    away = threading.Event()
    for share in sorted((*KILLED_AFTER, AWAY_AFTER)):
        _wait(functools.partial(done, share), f"{share:.0%} of the results")
        if share == AWAY_AFTER:
            orthanc.stop()
            away.wait(FLAGS.away_s)
            orthanc.start()
        else:
            node.kill()
    _wait(done, "all results")
    _wait(
        lambda: sum(orthanc.instances().values()) - len(before) >= 4 * len(studies), "objects", 60
    )
    all_s = time.monotonic() - began
    time.sleep(2 * FLAGS.quiet_s)  # whatever would come twice
    counts = {k: n for k, n in orthanc.instances().items() if k not in before}
    copies = [counts.get((uid, number), 0) for uid in wanted for number in OBJECTS]
    return {
        "studies": len(studies),
        "images": len(images) * len(studies),
        "SIGKILLs": node.kills,
        "Orthanc away, s": FLAGS.away_s,
        "disk full, s": f"{full_s:.0f}",
        "refused for room (0xA700)": statuses[0xA700],
        "images sent, s": f"{sent_s:.0f}",
        "all results, s": f"{all_s:.0f}",
        "objects wanted": len(copies),
        "once": copies.count(1),
        "lost": copies.count(0),
        "double": sum(n > 1 for n in copies),
        "strange": sum(n for (uid, _), n in counts.items() if uid not in wanted),
    }


def _fill(spool: Path) -> float:
    """Take the last byte of a small file system for a while."""
    filler = spool.parent / "filler"
    with open(filler, "wb") as stream, contextlib.suppress(OSError):
        while True:
            stream.write(os.urandom(1 << 16))
            stream.flush()
    time.sleep(FLAGS.full_s)
    filler.unlink()
    return float(FLAGS.full_s)


def _wait(condition: Callable[[], Any], what: str, longest_s: float = LONGEST_S) -> None:
    deadline = time.monotonic() + longest_s
    while not condition():
        if time.monotonic() > deadline:
            raise InputError(f"waited {longest_s:.0f} s for {what}, in vain")
        time.sleep(0.2)


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


if __name__ == "__main__":
    sys.exit(command.run(main, FLAGS, __doc__))
