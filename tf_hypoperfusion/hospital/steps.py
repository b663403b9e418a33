"""What a scanner says of its own work (MPPS): that an examination ended, and with which images.

DICOM PS3.4 Annex F. A study whose images all came need not wait for a quiet time.
"""

import json
from collections.abc import Sequence

from tf_hypoperfusion.hospital.database import Database

# For a row of ``studies``: all its steps ended, and exactly the images that they name are here.
# Whatever differs (a router that drops series, an image that comes later) awaits the quiet time.
ALL_IS_HERE = """(
    EXISTS (SELECT 1 FROM steps WHERE study=studies.id)
    AND NOT EXISTS (SELECT 1 FROM steps WHERE study=studies.id AND images IS NULL)
    AND NOT EXISTS (SELECT value FROM steps, json_each(images) WHERE study=studies.id
                    EXCEPT SELECT uid FROM instances WHERE study=studies.id)
    AND NOT EXISTS (SELECT uid FROM instances WHERE study=studies.id
                    EXCEPT SELECT value FROM steps, json_each(images) WHERE study=studies.id)
)"""


class Steps:
    """The steps that scanners told of; methods may be called from any thread."""

    def __init__(self, database: Database) -> None:
        """Keep them in a node's database.

        Args:
            database: of its spool.
        """
        self._database = database

    def begin(self, uid: str, studies: Sequence[str], now_s: float) -> bool:
        """Record a step that is in progress.

        Args:
            uid: SOPInstanceUID of the step.
            studies: names, as :func:`~tf_hypoperfusion.hospital.spool.study_name` makes them.
            now_s: seconds since 1970.

        Returns:
            False where it was begun before.
        """
        with self._database.transaction() as connection:
            added = connection.executemany(
                "INSERT INTO steps VALUES (?, ?, NULL, ?) ON CONFLICT DO NOTHING",
                [(uid, study, now_s) for study in studies],
            ).rowcount
        return added > 0

    def is_open(self, uid: str) -> bool | None:
        """Whether a step is in progress; None where nobody told of it.

        Args:
            uid: SOPInstanceUID of the step.
        """
        rows = self._database.read("SELECT images IS NULL FROM steps WHERE uid=?", uid)
        return bool(rows[0][0]) if rows else None

    def end(self, uid: str, images: Sequence[str]) -> None:
        """Record that a step ended, completed or not.

        Args:
            uid: SOPInstanceUID of the step.
            images: SOPInstanceUIDs that it made.
        """
        with self._database.transaction() as connection:
            connection.execute(
                "UPDATE steps SET images=? WHERE uid=?", (json.dumps(list(images)), uid)
            )

    def forget(self, before_s: float) -> None:
        """Delete what was told before a time.

        Args:
            before_s: seconds since 1970.
        """
        with self._database.transaction() as connection:
            connection.execute("DELETE FROM steps WHERE told_s<=?", (before_s,))
