"""Studies on their way through the node. Everything that matters is on disk before it is believed.

A study is ``receiving`` until no image came for a while, or all came that its scanner told of;
``complete`` while it waits for its turn; ``running``; then ``answered`` or ``refused``; ``sent``
once every destination has all of its results, ``failed`` where one of them never took them. An
image that comes later opens it again.

This module knows no DICOM network: whatever brings images or asks for another run may use it.
"""

import contextlib
import dataclasses
import errno
import hashlib
import json
import os
import re
import secrets
import shutil
import sqlite3
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from data_tools.runtime import atomic
from data_tools.runtime.errors import InputError
from tf_hypoperfusion.hospital.database import FILE, Database
from tf_hypoperfusion.hospital.steps import ALL_IS_HERE, Steps
from tf_hypoperfusion.hospital.study import (
    DroppedStudy,
    Earlier,
    EarlierAnswer,
    Given,
    Outcome,
    ReceivedImage,
    ResultObject,
    Run,
    WorklistRow,
)

RECEIVED, RESULTS = "received", "results"
# Letters of a digest: enough to tell all studies and images of a hospital apart.
STUDY_LETTERS, FILE_LETTERS = 16, 40
# The standard's are 64 long at most; scanners' own are longer at times.
LONGEST_UID = 128
_UID = re.compile(r"[0-9]+(\.[0-9]+)*")
AT_WORK, DONE = ("receiving", "complete", "running"), ("sent", "refused", "failed")


def is_uid(text: str) -> bool:
    """Whether a text is a UID (PS3.5 9.1), or longer, as some scanners write them.

    >>> is_uid("1.2.840.10008"), is_uid("../../x"), is_uid("1..2"), is_uid("")
    (True, False, False, False)
    """
    return len(text) <= LONGEST_UID and bool(_UID.fullmatch(text))


def study_name(uid: str) -> str:
    """What a study is called in the spool and in every log: a digest of its StudyInstanceUID."""
    return hashlib.sha256(uid.encode()).hexdigest()[:STUDY_LETTERS]


def sync_folder(folder: Path) -> None:
    """Have a folder's names on the disk too: a power cut takes no file that was renamed into it."""
    if os.name == "nt":  # which opens no folder, and writes names by itself
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class Spool:
    """The studies of a node; methods may be called from any thread."""

    def __init__(
        self, folder: str | Path, *, min_free_bytes: int = 0, clock: Callable[[], float] = time.time
    ) -> None:
        """Open the spool, or make one that only this user may look into.

        Args:
            folder: of all its files.
            min_free_bytes: below which no image is taken, so that results have room.
            clock: seconds since 1970.

        Raises:
            InputError: the folder cannot be used.
        """
        self.folder = Path(folder).absolute()
        if not (self.folder / FILE).is_file():  # who looks at one may do so on a full disk
            atomic.check_writable(self.folder)
        for each in (self.folder, self.folder / RECEIVED, self.folder / RESULTS):
            each.mkdir(mode=0o700, parents=True, exist_ok=True)
            if each.stat().st_mode & 0o077:  # made by somebody else, and open to others
                each.chmod(0o700)
        self.database = Database(self.folder)
        self.steps = Steps(self.database)
        self.now_s = clock
        self._min_free_bytes = min_free_bytes

    def receive(self, image: ReceivedImage) -> bool:
        """Keep an image. When this returns, it is on the disk and will be looked at.

        Args:
            image: as it came.

        Returns:
            False where it was there before, or is one of the node's own results come back.

        Raises:
            OSError: no room, or less than is to stay free; nothing of it is kept then.
            sqlite3.Error: likewise, said by the database.
        """
        study = study_name(image.study_uid)
        known = self.database.read(
            "SELECT kept FROM instances WHERE study=? AND uid=?", study, image.uid
        )
        own = self.database.read("SELECT 1 FROM objects WHERE uid=?", image.uid)
        if own or (known and known[0]["kept"]):
            return False
        self.check_room()
        folder = self.folder / RECEIVED / study
        is_new = not folder.is_dir()
        name = _file_name(image.uid)
        atomic.write_bytes(folder / name, image.content)
        sync_folder(folder)
        if is_new:
            sync_folder(folder.parent)
        now_s = self.now_s()
        with self.database.transaction() as connection:
            connection.execute(
                "INSERT INTO studies(id, uid, state, first_s, last_s, due_s, changed_s) "
                "VALUES (?, ?, 'receiving', ?, ?, ?, ?) "
                "ON CONFLICT DO UPDATE SET last_s=excluded.last_s",
                (study, image.study_uid, now_s, now_s, now_s, now_s),
            )
            if not known:
                _set_state(connection, study, "receiving", now_s)
                # With this image the study may be of use: nobody is told yet that it is not.
                connection.execute(
                    "UPDATE deliveries SET state='cancelled' WHERE state='waiting' AND object IN "
                    "(SELECT uid FROM objects JOIN runs ON runs.id=run "
                    "WHERE study=? AND runs.state='refused')",
                    (study,),
                )
            connection.execute(
                "INSERT INTO instances VALUES (?, ?, ?, 1, ?, ?) "
                "ON CONFLICT DO UPDATE SET kept=1, received_s=excluded.received_s",
                (study, image.uid, name, image.caller, now_s),
            )
        return True

    def differs(self, image: ReceivedImage) -> bool:
        """Whether an image that is kept has other content than this one of the same UID.

        Args:
            image: as it came.
        """
        study = study_name(image.study_uid)
        kept = self.folder / RECEIVED / study / _file_name(image.uid)
        return kept.is_file() and kept.read_bytes() != image.content

    def check_room(self) -> None:
        """Look whether another file may be taken.

        Raises:
            OSError: less than is to stay free is free.
        """
        if shutil.disk_usage(self.folder).free < self._min_free_bytes:
            raise OSError(errno.ENOSPC, "less than min_free_gb would stay free", str(self.folder))

    def take(self, dropped: DroppedStudy) -> str:
        """Take a study that a person brought; it has its turn when this returns.

        Args:
            dropped: whose folder lies in the spool's, and is moved.

        Returns:
            Its name.

        Raises:
            OSError: no room; it stays where it was then.
            sqlite3.Error: likewise, said by the database.
        """
        uid = f"dropped {secrets.token_hex(FILE_LETTERS // 2)}"
        study = study_name(uid)
        names = sorted(path.name for path in dropped.files.iterdir())
        for name in names:
            with open(dropped.files / name, "rb") as written:
                os.fsync(written.fileno())
        sync_folder(dropped.files)
        folder = self.folder / RECEIVED / study
        dropped.files.rename(folder)
        sync_folder(folder.parent)
        now_s = self.now_s()
        try:
            with self.database.transaction() as connection:
                connection.execute(
                    "INSERT INTO studies(id, uid, state, side, nihss, age, series, remark, "
                    "dropped, first_s, last_s, due_s, changed_s) "
                    "VALUES (?, ?, 'complete', ?, ?, ?, ?, ?, 1, ?, ?, ?, ?)",
                    (
                        study, uid, dropped.side, dropped.nihss, dropped.age, dropped.series,
                        dropped.remark, now_s, now_s, now_s, now_s,
                    ),
                )  # fmt: skip
                connection.executemany(
                    "INSERT INTO instances VALUES (?, ?, ?, 1, 'page', ?)",
                    [(study, name, name, now_s) for name in names],
                )
        except BaseException:
            folder.rename(dropped.files)
            raise
        return study

    def close_quiet(self, quiet_s: float) -> list[str]:
        """Call complete the studies of which no image came for a while, or all came.

        Returns their names.

        Args:
            quiet_s: how long.
        """
        now_s = self.now_s()
        with self.database.transaction() as connection:
            rows = connection.execute(
                f"SELECT id FROM studies WHERE state='receiving' AND (last_s<=? OR {ALL_IS_HERE})",
                (now_s - quiet_s,),
            ).fetchall()
            for row in rows:
                _set_state(connection, row["id"], "complete", now_s, due_s=now_s)
        return [row["id"] for row in rows]

    def recover(self) -> int:
        """After a start: put runs that a kill ended back to their turn; returns how many.

        Files that no table names, left by a kill, are removed. Only while no other node runs.
        """
        now_s = self.now_s()
        with self.database.transaction() as connection:
            ended = connection.execute(
                "UPDATE runs SET state='waiting' WHERE state='running'"
            ).rowcount
            connection.execute(
                "UPDATE studies SET state='complete', due_s=?, changed_s=? WHERE state='running'",
                (now_s, now_s),
            )
        atomic.sweep(self.folder)
        kept = {
            self.folder / RECEIVED / row["study"] / row["file"]
            for row in self.database.read("SELECT study, file FROM instances WHERE kept=1")
        }
        for path in (self.folder / RECEIVED).glob("*/*"):
            if path not in kept:
                path.unlink()
        studies = {row["id"] for row in self.database.read("SELECT id FROM studies")}
        for path in (self.folder / RESULTS).iterdir():
            if path.name not in studies:
                shutil.rmtree(path)
        return ended

    def next_run(self) -> Run | None:
        """The study whose turn it is, called ``running`` from now on; None if there is none."""
        now_s = self.now_s()
        with self.database.transaction() as connection:
            study = connection.execute(
                "SELECT * FROM studies WHERE state='complete' AND due_s<=? ORDER BY due_s LIMIT 1",
                (now_s,),
            ).fetchone()
            if study is None:
                return None
            name = study["id"]
            connection.execute(
                "INSERT INTO runs(study, number, state, starts) "
                "SELECT ?, (SELECT COUNT(*) + 1 FROM runs WHERE study=?), 'waiting', 0 "
                "WHERE NOT EXISTS (SELECT 1 FROM runs WHERE study=? AND state='waiting')",
                (name, name, name),
            )
            connection.execute(
                "UPDATE runs SET state='running', starts=starts+1, began_s=? "
                "WHERE study=? AND state='waiting'",
                (now_s, name),
            )
            run = connection.execute(
                "SELECT * FROM runs WHERE study=? AND state='running'", (name,)
            ).fetchone()
            _set_state(connection, name, "running", now_s)
            earlier = connection.execute(
                "SELECT ended_s, state FROM runs WHERE study=? AND (state='answered' OR "
                "state='refused' AND EXISTS (SELECT 1 FROM objects JOIN deliveries "
                "ON object=objects.uid WHERE run=runs.id AND deliveries.state='sent')) "
                "ORDER BY number DESC LIMIT 1",
                (name,),
            ).fetchone()
        return Run(
            id=run["id"],
            study=name,
            number=run["number"],
            starts=run["starts"],
            side=study["side"],
            nihss=study["nihss"],
            age=study["age"],
            series=study["series"],
            dropped=bool(study["dropped"]),
            images=self.folder / RECEIVED / name,
            results=self._results(name, run["number"]),
            earlier=Earlier(**earlier) if earlier else None,
        )

    def _results(self, study: str, number: int) -> Path:
        return self.folder / RESULTS / study / str(number)

    def discard_results(self, run: Run) -> None:
        """Remove what a run wrote, and what holds it where its study was deleted meanwhile.

        Args:
            run: of :meth:`next_run`.
        """
        shutil.rmtree(run.results, ignore_errors=True)
        with contextlib.suppress(OSError):  # other runs' results are there
            run.results.parent.rmdir()

    def put_back(self, run: Run, wait_s: float) -> None:
        """Let a run that could not be made, through no fault of its study, be made later.

        Args:
            run: of :meth:`next_run`.
            wait_s: how much later.
        """
        now_s = self.now_s()
        with self.database.transaction() as connection:
            connection.execute(
                "UPDATE runs SET state='waiting', starts=starts-1 WHERE id=?", (run.id,)
            )
            connection.execute(
                "UPDATE studies SET state='complete', due_s=?, changed_s=? "
                "WHERE id=? AND state='running'",
                (now_s + wait_s, now_s, run.study),
            )

    def finish(self, run: Run, outcome: Outcome, objects: Sequence[ResultObject]) -> bool:
        """Record how a run ended, with everything that is to be sent of it, in one step.

        Objects that an earlier run of the same images had are the same ones, and not sent again.

        Args:
            run: of :meth:`next_run`.
            outcome: what it ended with.
            objects: complete on the disk.

        Returns:
            False where images came, or facts were given, or the study was deleted, meanwhile:
            nothing of this run is sent then, and the study has its turn again.
        """
        now_s = self.now_s()
        with self.database.transaction() as connection:
            study = connection.execute(
                "SELECT state FROM studies WHERE id=?", (run.study,)
            ).fetchone()
            stands = study is not None and study["state"] == "running"
            connection.execute(
                "UPDATE runs SET state=?, ended_s=?, verdict=?, reason=?, warnings=?, audit=? "
                "WHERE id=?",
                (
                    outcome.state if stands else "abandoned",
                    now_s,
                    outcome.verdict,
                    outcome.reason,
                    json.dumps(outcome.warnings),
                    json.dumps(outcome.audit) if stands else None,
                    run.id,
                ),
            )
            if not stands:
                return False
            for each in objects:
                connection.execute(
                    "INSERT INTO objects VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                    (
                        each.uid, run.id, each.name, each.sop_class,
                        str(each.file.relative_to(self.folder)),
                    ),
                )  # fmt: skip
                for destination in each.destinations:
                    connection.execute(
                        "INSERT INTO deliveries(object, destination, state, made_s, due_s) "
                        "VALUES (?, ?, 'waiting', ?, ?) ON CONFLICT DO UPDATE "
                        "SET state='waiting', due_s=excluded.due_s WHERE state='cancelled'",
                        (each.uid, destination, now_s, each.due_s),
                    )
            _set_state(connection, run.study, outcome.state, now_s)
            settle(connection, run.study, now_s)
        return True

    def unaudited(self) -> list[tuple[int, str, dict[str, Any]]]:
        """Runs that ended and may lack their line in the audit log: id, state, its fields."""
        rows = self.database.read("SELECT * FROM runs WHERE audit IS NOT NULL ORDER BY ended_s")
        return [(row["id"], row["state"], json.loads(row["audit"])) for row in rows]

    def audited(self, run: int) -> None:
        """Record that the audit log has the line of a run.

        Args:
            run: its id.
        """
        with self.database.transaction() as connection:
            connection.execute("UPDATE runs SET audit=NULL WHERE id=?", (run,))

    def given(self, study: str) -> Given:
        """What people said of a study so far.

        Args:
            study: as :meth:`find` takes it.
        """
        (row,) = self.database.read(
            "SELECT side, nihss, age, series FROM studies WHERE id=?", self.find(study)
        )
        return Given(**row)

    def received(self, study: str) -> Path:
        """The folder of a study's images.

        Args:
            study: as :meth:`find` takes it.
        """
        return self.folder / RECEIVED / self.find(study)

    def ask_again(self, study: str, given: Given) -> None:
        """Have a study answered once more, with what somebody says of the patient.

        Args:
            study: its name, or the beginning of it, or its StudyInstanceUID.
            given: takes the place of everything that was said before.

        Raises:
            InputError: no such study, or its images are deleted.
        """
        name = self.find(study)
        now_s = self.now_s()
        with self.database.transaction() as connection:
            gone = connection.execute(
                "SELECT 1 FROM instances WHERE study=? AND kept=0", (name,)
            ).fetchone()
            if gone:
                raise InputError(
                    f"study {name}: its images were deleted; send or drop them again first"
                )
            connection.execute(
                "UPDATE studies SET side=?, nihss=?, age=?, series=? WHERE id=?",
                (*dataclasses.astuple(given), name),
            )
            _set_state(connection, name, "complete", now_s, due_s=now_s)

    def find(self, study: str) -> str:
        """The full name of a study.

        Args:
            study: its name, or the beginning of it, or its StudyInstanceUID.

        Raises:
            InputError: there is none, or there are several.
        """
        rows = self.database.read(
            "SELECT id FROM studies WHERE uid=? OR substr(id, 1, ?)=?", study, len(study), study
        )
        if len(rows) != 1 or not study:
            raise InputError(
                f"study {study!r}: {len(rows) or 'none'} in the spool; expected the name of one, "
                "as --status shows it, or its StudyInstanceUID"
            )
        return rows[0]["id"]

    def delete(self, study: str) -> str:
        """Delete a study: images, results, and that it was ever there.

        Args:
            study: as :meth:`find` takes it.

        Returns:
            Its name.
        """
        name = self.find(study)
        with self.database.transaction() as connection:
            connection.execute("DELETE FROM studies WHERE id=?", (name,))
            connection.execute("DELETE FROM steps WHERE study=?", (name,))
        for folder in (RECEIVED, RESULTS):
            shutil.rmtree(self.folder / folder / name, ignore_errors=True)
        self.database.forget()
        return name

    def expire(self, images_s: float, results_s: float) -> tuple[list[str], list[str]]:
        """Delete the images of studies that are done, and later all of these studies.

        Args:
            images_s: how long images are kept after the study was done.
            results_s: how long the rest is kept.

        Returns:
            Names of studies whose images were deleted, and of those that were deleted as a whole.
        """
        now_s = self.now_s()
        old = "SELECT id FROM studies WHERE state IN (?, ?, ?) AND max(changed_s, last_s)<=? "
        whole = [row["id"] for row in self.database.read(old, *DONE, now_s - results_s)]
        for name in whole:
            self.delete(name)
        self.steps.forget(now_s - results_s)
        has_images = "AND EXISTS (SELECT 1 FROM instances WHERE study=studies.id AND kept=1)"
        rows = self.database.read(old + has_images, *DONE, now_s - images_s)
        emptied = [row["id"] for row in rows]
        for name in emptied:
            with self.database.transaction() as connection:
                connection.execute("UPDATE instances SET kept=0 WHERE study=?", (name,))
            shutil.rmtree(self.folder / RECEIVED / name, ignore_errors=True)
        return emptied, whole

    def worklist(self, only: str | None = None) -> list[WorklistRow]:
        """Every study, the newest first.

        Args:
            only: the full name of the one that is wanted; None for all.
        """
        found = []
        for study in self.database.read(
            "SELECT * FROM studies WHERE ? IS NULL OR id=? ORDER BY first_s DESC", only, only
        ):
            runs = self.database.read(
                "SELECT * FROM runs WHERE study=? AND ended_s IS NOT NULL AND state!='abandoned' "
                "ORDER BY number DESC",
                study["id"],
            )
            run = runs[0] if runs else None
            ((images,),) = self.database.read(
                "SELECT COUNT(*) FROM instances WHERE study=?", study["id"]
            )
            late = self.database.read(
                "SELECT destination, deliveries.state, error FROM deliveries "
                "JOIN objects ON object=objects.uid JOIN runs ON runs.id=run "
                "WHERE study=? AND deliveries.state IN ('waiting', 'failed')",
                study["id"],
            )
            found.append(
                WorklistRow(
                    study=study["id"],
                    state=study["state"],
                    images=images,
                    dropped=bool(study["dropped"]),
                    remark=study["remark"],
                    first_s=study["first_s"],
                    changed_s=study["changed_s"],
                    side=study["side"],
                    nihss=study["nihss"],
                    age=study["age"],
                    runs=len(runs),
                    verdict=run["verdict"] if run else None,
                    reason=run["reason"] if run else None,
                    warnings=tuple(json.loads(run["warnings"])) if run else (),
                    results=self._results(study["id"], run["number"]) if run else None,
                    earlier=tuple(
                        EarlierAnswer(ended_s=each["ended_s"], verdict=each["verdict"])
                        for each in (runs if study["state"] in AT_WORK else runs[1:])
                        if each["state"] == "answered"
                    ),
                    undelivered={row["destination"]: row["error"] or row["state"] for row in late},
                )
            )
        return found

    def close(self) -> None:
        """Close the database."""
        with contextlib.suppress(sqlite3.Error):
            self.database.close()


def _file_name(uid: str) -> str:
    return hashlib.sha256(uid.encode()).hexdigest()[:FILE_LETTERS] + ".dcm"


def _set_state(
    connection: sqlite3.Connection, study: str, state: str, now_s: float, *,
    due_s: float | None = None,
) -> None:  # fmt: skip
    connection.execute(
        "UPDATE studies SET state=?, changed_s=?, due_s=coalesce(?, due_s) WHERE id=?",
        (state, now_s, due_s, study),
    )


def settle(connection: sqlite3.Connection, study: str, now_s: float) -> str | None:
    """Call an answered study ``sent`` or ``failed`` where nothing of it waits any longer.

    Args:
        connection: in a transaction.
        study: its name.
        now_s: seconds since 1970.

    Returns:
        The new state; None where it stays.
    """
    states = {
        row["state"]
        for row in connection.execute(
            "SELECT DISTINCT deliveries.state FROM deliveries JOIN objects ON object=objects.uid "
            "JOIN runs ON runs.id=run WHERE study=?",
            (study,),
        )
    }
    row = connection.execute("SELECT state FROM studies WHERE id=?", (study,)).fetchone()
    if row is None or row["state"] != "answered" or "waiting" in states:
        return None
    state = "failed" if "failed" in states else "sent"
    _set_state(connection, study, state, now_s)
    return state
