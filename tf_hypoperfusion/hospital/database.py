"""The node's tables in one SQLite file. What is committed is on the disk, whatever happens next."""

import contextlib
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data_tools.runtime.errors import InputError

FILE = "spool.sqlite"
VERSION = 2
# Another process, such as --delete, may hold the file for a moment.
BUSY_S = 30.0

# Times are seconds since 1970. Nothing here names a patient.
TABLES = """
CREATE TABLE studies (
    id TEXT PRIMARY KEY,
    uid TEXT NOT NULL UNIQUE,
    state TEXT NOT NULL,
    side TEXT,
    nihss INTEGER,
    age REAL,
    series TEXT,
    remark TEXT,
    dropped INTEGER NOT NULL DEFAULT 0,
    first_s REAL NOT NULL,
    last_s REAL NOT NULL,
    due_s REAL NOT NULL,
    changed_s REAL NOT NULL
);
CREATE TABLE instances (
    study TEXT NOT NULL REFERENCES studies(id) ON DELETE CASCADE,
    uid TEXT NOT NULL,
    file TEXT NOT NULL,
    kept INTEGER NOT NULL,
    caller TEXT NOT NULL,
    received_s REAL NOT NULL,
    PRIMARY KEY (study, uid)
);
CREATE TABLE runs (
    id INTEGER PRIMARY KEY,
    study TEXT NOT NULL REFERENCES studies(id) ON DELETE CASCADE,
    number INTEGER NOT NULL,
    state TEXT NOT NULL,
    starts INTEGER NOT NULL,
    began_s REAL,
    ended_s REAL,
    verdict TEXT,
    reason TEXT,
    warnings TEXT NOT NULL DEFAULT '[]',
    audit TEXT
);
CREATE TABLE objects (
    uid TEXT PRIMARY KEY,
    run INTEGER NOT NULL REFERENCES runs(id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    sop_class TEXT NOT NULL,
    file TEXT NOT NULL
);
CREATE TABLE deliveries (
    object TEXT NOT NULL REFERENCES objects(uid) ON DELETE CASCADE,
    destination TEXT NOT NULL,
    state TEXT NOT NULL,
    tries INTEGER NOT NULL DEFAULT 0,
    made_s REAL NOT NULL,
    due_s REAL NOT NULL,
    sent_s REAL,
    error TEXT,
    PRIMARY KEY (object, destination)
);
CREATE TABLE steps (
    uid TEXT NOT NULL,
    study TEXT NOT NULL,
    images TEXT,
    told_s REAL NOT NULL,
    PRIMARY KEY (uid, study)
);
CREATE INDEX steps_by_study ON steps(study);
CREATE INDEX studies_by_state ON studies(state, due_s);
CREATE INDEX runs_by_study ON runs(study);
CREATE INDEX objects_by_run ON objects(run);
CREATE INDEX deliveries_by_state ON deliveries(destination, state, due_s);
"""


class Database:
    """One connection for all threads of a process; each transaction is whole or absent."""

    def __init__(self, folder: Path) -> None:
        """Open the file, or make it.

        Args:
            folder: that it lies in.

        Raises:
            InputError: it is no such file, or one of another version of this program.
        """
        path = folder / FILE
        self._lock = threading.RLock()
        try:
            self._connection = sqlite3.connect(
                path, isolation_level=None, check_same_thread=False, timeout=BUSY_S
            )
            self._connection.row_factory = sqlite3.Row
            for pragma in (
                "journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "secure_delete=ON"
            ):  # fmt: skip
                self._connection.execute(f"PRAGMA {pragma}")
            with self.transaction() as connection:
                (version,) = connection.execute("PRAGMA user_version").fetchone()
                if version == 0:
                    for statement in TABLES.split(";"):
                        connection.execute(statement)
                    connection.execute(f"PRAGMA user_version={VERSION}")
        except sqlite3.DatabaseError as error:
            raise InputError(
                f"{path} cannot be used ({error}); expected the node's own database, on a local "
                "disk. Give another folder as spool, or move this one away"
            ) from error
        if version not in (0, VERSION):
            raise InputError(
                f"{path} is of version {version}; this program writes version {VERSION}. Give "
                "another folder as spool"
            )

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All that is written inside is committed at its end, or nothing if something is raised."""
        with self._lock:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            try:
                self._connection.execute("COMMIT")
            except sqlite3.Error:  # such as a full disk
                with contextlib.suppress(sqlite3.Error):
                    self._connection.execute("ROLLBACK")
                raise

    def read(self, query: str, *values: Any) -> list[sqlite3.Row]:
        """Every row of a query.

        Args:
            query: with ``?`` for each value.
            values: for these.
        """
        with self._lock:
            return self._connection.execute(query, values).fetchall()

    def forget(self) -> None:
        """Empty the log of writes, which still holds what was deleted."""
        with self._lock:
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()
