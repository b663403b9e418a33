"""What is to be sent, to whom, and what became of it; its identity was fixed before it was sent."""

import dataclasses
from pathlib import Path
from typing import Any

from tf_hypoperfusion.hospital.spool import Spool, settle

AT_ONCE = 16


@dataclasses.dataclass(frozen=True, kw_only=True)
class Delivery:
    """An object that a destination lacks.

    Attributes:
        uid: the object's SOPInstanceUID.
        study_uid: its StudyInstanceUID.
        sop_class: its SOPClassUID.
        file: where it lies.
        study: name in the spool and in every log.
        name: what the object is.
        destination: who gets it.
        tries: how often that was begun; more than 0: it may be there already.
        made_s: since when it waits, in seconds since 1970.
    """

    uid: str
    study_uid: str
    sop_class: str
    file: Path
    study: str
    name: str
    destination: str
    tries: int
    made_s: float


class Outbox:
    """The deliveries of a spool."""

    def __init__(self, spool: Spool) -> None:
        """Look at a spool's deliveries.

        Args:
            spool: of the node.
        """
        self._spool, self._database = spool, spool.database
        self.now_s = spool.now_s

    def due(self, destination: str) -> list[Delivery]:
        """What is to be sent now, the oldest first, at most :data:`AT_ONCE`.

        Args:
            destination: to whom.
        """
        rows = self._database.read(
            "SELECT objects.*, studies.uid AS study_uid, studies.id AS study, tries, made_s "
            "FROM deliveries JOIN objects ON object=objects.uid JOIN runs ON runs.id=run "
            "JOIN studies ON studies.id=study "
            "WHERE destination=? AND deliveries.state='waiting' AND deliveries.due_s<=? "
            "ORDER BY deliveries.due_s, objects.run LIMIT ?",
            destination,
            self.now_s(),
            AT_ONCE,
        )
        return [
            Delivery(
                uid=row["uid"],
                study_uid=row["study_uid"],
                sop_class=row["sop_class"],
                file=self._spool.folder / row["file"],
                study=row["study"],
                name=row["name"],
                destination=destination,
                tries=row["tries"],
                made_s=row["made_s"],
            )
            for row in rows
        ]

    def begin(self, delivery: Delivery) -> None:
        """Record that it is about to be sent: after a kill it may be there or not.

        Args:
            delivery: of :meth:`due`.
        """
        with self._database.transaction() as connection:
            connection.execute(
                "UPDATE deliveries SET tries=tries+1 WHERE object=? AND destination=?",
                (delivery.uid, delivery.destination),
            )

    def sent(self, delivery: Delivery) -> str | None:
        """Record that the destination has it; returns the study's new state, if that changes.

        Args:
            delivery: of :meth:`due`.
        """
        with self._database.transaction() as connection:
            connection.execute(
                "UPDATE deliveries SET state='sent', sent_s=?, error=NULL "
                "WHERE object=? AND destination=?",
                (self.now_s(), delivery.uid, delivery.destination),
            )
            return settle(connection, delivery.study, self.now_s())

    def destinations(self, study: str) -> dict[str, Any]:
        """Who has all of a study's results, and who never took some of them.

        Args:
            study: its name.

        Returns:
            Names of destinations under ``to`` and, where there are any, ``not_to``.
        """
        rows = self._database.read(
            "SELECT destination, MAX(deliveries.state='failed') AS lacks FROM deliveries "
            "JOIN objects ON object=objects.uid JOIN runs ON runs.id=run WHERE study=? "
            "GROUP BY destination ORDER BY destination",
            study,
        )
        to = [row["destination"] for row in rows if not row["lacks"]]
        not_to = [row["destination"] for row in rows if row["lacks"]]
        return {"to": to, "not_to": not_to} if not_to else {"to": to}

    def postpone(self, delivery: Delivery, why: str, wait_s: float) -> None:
        """Record that it could not be sent, and try again later.

        Args:
            delivery: of :meth:`due`.
            why: in words.
            wait_s: how much later.
        """
        with self._database.transaction() as connection:
            connection.execute(
                "UPDATE deliveries SET error=?, due_s=? WHERE object=? AND destination=?",
                (why, self.now_s() + wait_s, delivery.uid, delivery.destination),
            )

    def give_up(self, delivery: Delivery, why: str) -> str | None:
        """Record that it will not be sent; returns the study's new state, if that changes.

        Args:
            delivery: of :meth:`due`.
            why: in words.
        """
        with self._database.transaction() as connection:
            connection.execute(
                "UPDATE deliveries SET state='failed', error=? WHERE object=? AND destination=?",
                (why, delivery.uid, delivery.destination),
            )
            return settle(connection, delivery.study, self.now_s())
