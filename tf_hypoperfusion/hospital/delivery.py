"""Results go out: by C-STORE or STOW-RS, once each, again and again until they are taken."""

import contextlib
import dataclasses
import json
import logging
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any, Protocol
from uuid import uuid4

from data_tools.runtime.errors import InputError, reason_of
from tf_hypoperfusion.hospital.audit import LOG, Audit, say
from tf_hypoperfusion.hospital.outbox import Delivery, Outbox
from tf_hypoperfusion.hospital.settings import (
    Destination,
    DicomDestination,
    Retry,
    StowDestination,
)

POLL_S, NO_ROOM_WAIT_S = 0.2, 30.0
CONNECT_S, ANSWER_S = 10.0, 60.0
# The study-root query of a PACS, and its status while there is more.
FIND_STUDY_ROOT = "1.2.840.10008.5.1.4.1.2.2.1"
PENDING = (0xFF00, 0xFF01)
SUCCESS, IS_THERE = 0x0000, 0x0111
# Of an answer to STOW-RS or QIDO-RS about one object.
LONGEST_ANSWER = 256 * 1024
OF_ERRORS = {
    "SSLError": "TLS fails: is its certificate one that this machine trusts?",
    "ConnectTimeout": f"no connection within {CONNECT_S:g} s",
    "ReadTimeout": f"no answer within {ANSWER_S:g} s",
    "ConnectionError": "cannot be reached",
}


class NotTaken(Exception):
    """A destination did not take a result; the message says why."""


class Line(Protocol):
    """A destination that is being talked to."""

    def has(self, delivery: Delivery) -> bool:
        """Whether it has an object already; False where it cannot say."""

    def send(self, delivery: Delivery) -> None:
        """Send an object.

        Raises:
            NotTaken: it was not taken.
        """


class DicomLine:
    """An association with a DICOM node."""

    def __init__(self, association: Any) -> None:
        """Use an association.

        Args:
            association: of pynetdicom, established.
        """
        self._association = association

    def has(self, delivery: Delivery) -> bool:
        """By C-FIND, where the other offers it."""
        from pydicom.dataset import Dataset

        offered = {context.abstract_syntax for context in self._association.accepted_contexts}
        if FIND_STUDY_ROOT not in offered:
            return False
        asked = Dataset()
        asked.QueryRetrieveLevel = "IMAGE"
        asked.StudyInstanceUID = delivery.study_uid
        asked.SOPInstanceUID = delivery.uid
        try:
            answers = list(self._association.send_c_find(asked, FIND_STUDY_ROOT))
        except (ValueError, RuntimeError):
            return False
        return any(
            status
            and status.Status in PENDING
            and found is not None
            and found.get("SOPInstanceUID") == delivery.uid
            for status, found in answers
        )

    def send(self, delivery: Delivery) -> None:
        """By C-STORE.

        Raises:
            NotTaken: the status is no success, there is none, or such objects are not accepted.
        """
        if not self._association.is_established:
            raise NotTaken("the other side ended the association")
        try:
            status = self._association.send_c_store(delivery.file)
        except (ValueError, RuntimeError) as error:  # no context for it, or the line is cut
            raise NotTaken(reason_of(error)) from error
        if "Status" not in status:
            raise NotTaken("no answer to C-STORE")
        # It has it from before, or took it with a warning.
        if status.Status not in (SUCCESS, IS_THERE) and status.Status >> 12 != 0xB:
            raise NotTaken(f"C-STORE answered 0x{status.Status:04X}")


@contextlib.contextmanager
def dicom_line(
    to: DicomDestination, ae_title: str, deliveries: list[Delivery]
) -> Iterator[DicomLine]:
    """An association that is released at the end.

    Args:
        to: whom.
        ae_title: the node's own.
        deliveries: whose kinds of objects are offered.

    Raises:
        NotTaken: it is not reached, or refuses.
    """
    from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
    from pynetdicom import AE

    entity = AE(ae_title=ae_title)
    entity.connection_timeout = CONNECT_S
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = ANSWER_S
    for kind in dict.fromkeys(each.sop_class for each in deliveries):
        entity.add_requested_context(kind, [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
    entity.add_requested_context(FIND_STUDY_ROOT)
    association = entity.associate(to.host, to.port, ae_title=to.ae_title)
    if not association.is_established:
        why = "cannot be reached"
        if association.is_rejected:
            why = "refused the association: does it know this AE title?"
        elif association.is_aborted and association.acceptor.primitive is not None:
            why = "takes none of these kinds of objects"
        raise NotTaken(f"{to.ae_title} at {to.host}:{to.port} {why}")
    try:
        yield DicomLine(association)
    finally:
        if association.is_established:
            association.release()


class StowLine:
    """A DICOMweb service."""

    def __init__(self, to: StowDestination) -> None:
        """Prepare to send.

        Args:
            to: whom.
        """
        import requests

        self._url = to.url.rstrip("/")
        self._session = requests.Session()
        if to.token_file:
            from tf_hypoperfusion.inference import rest_client

            token = rest_client.read_token(to.token_file)
            self._session.headers["Authorization"] = f"Bearer {token}"

    def has(self, delivery: Delivery) -> bool:
        """By QIDO-RS, where the other offers it."""
        try:
            _, found = self._asked(
                "GET",
                f"{self._url}/studies/{delivery.study_uid}/instances",
                params={"SOPInstanceUID": delivery.uid},
            )
        except NotTaken:
            return False
        return delivery.uid in _values(found, "00080018")

    def send(self, delivery: Delivery) -> None:
        """By STOW-RS.

        Raises:
            NotTaken: it is not reached, or does not say that it has it.
        """
        boundary = uuid4().hex
        head = f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode()
        body = head + delivery.file.read_bytes() + f"\r\n--{boundary}--\r\n".encode()
        kind = f'multipart/related; type="application/dicom"; boundary={boundary}'
        status, stored = self._asked(
            "POST", f"{self._url}/studies", data=body, headers={"Content-Type": kind}
        )
        taken = stored.get("00081199") if isinstance(stored, dict) else None
        if delivery.uid not in _values(_items(taken), "00081155"):
            raise NotTaken(f"{self._url}: status {status}, not said to be stored")

    def _asked(
        self, method: str, url: str, headers: Mapping[str, str] | None = None, **rest: Any
    ) -> tuple[int, Any]:
        """The status and what the JSON of an answer says, within limits of time and length.

        Raises:
            NotTaken: no answer, a refusal, or one that is no JSON.
        """
        import requests

        until = time.monotonic() + CONNECT_S + ANSWER_S
        content = bytearray()
        try:
            with self._session.request(
                method, url, stream=True, timeout=(CONNECT_S, ANSWER_S),
                headers={"Accept": "application/dicom+json", **(headers or {})}, **rest,
            ) as answer:  # fmt: skip
                # Byte by byte, or one that drips would be waited for.
                for byte in answer.iter_content(1):
                    content += byte
                    if time.monotonic() > until or len(content) > LONGEST_ANSWER:
                        raise NotTaken(f"{self._url}: its answer does not end")
        except requests.RequestException as error:
            kinds = (kind.__name__ for kind in type(error).__mro__)
            why = next((OF_ERRORS[kind] for kind in kinds if kind in OF_ERRORS), reason_of(error))
            raise NotTaken(f"{self._url}: {why}") from error
        if answer.status_code in (401, 403):
            raise NotTaken(f"{self._url}: status {answer.status_code}; is token_file right?")
        if answer.status_code == 204 or not answer.ok:
            return answer.status_code, {}
        try:
            return answer.status_code, json.loads(content)
        except ValueError as error:
            raise NotTaken(
                f"{self._url}: status {answer.status_code}, and no DICOM JSON; is it the address "
                "of a DICOMweb service?"
            ) from error


def _items(element: Any) -> Any:
    return element.get("Value") if isinstance(element, dict) else None


def _values(data_sets: Any, tag: str) -> list[Any]:
    """The values of an attribute in a list as DICOM JSON has it, or in whatever else came."""
    items = [
        _items(each.get(tag))
        for each in (data_sets if isinstance(data_sets, list) else [])
        if isinstance(each, dict)
    ]
    return [value for each in items if isinstance(each, list) for value in each]


@contextlib.contextmanager
def line_to(
    to: Destination, ae_title: str, deliveries: list[Delivery]
) -> Iterator[DicomLine | StowLine]:
    """A destination, ready to be sent to.

    Args:
        to: whom.
        ae_title: the node's own.
        deliveries: what is to be sent.

    Raises:
        NotTaken: it is not reached.
    """
    if isinstance(to, DicomDestination):
        with dicom_line(to, ae_title, deliveries) as line:
            yield line
    else:
        yield StowLine(to)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sender:
    """Sends to one destination what waits for it.

    Attributes:
        to: whom.
        ae_title: the node's own.
        outbox: of the spool.
        retry: what is done where something is not taken.
        audit: gets a line for each study that everybody has.
    """

    to: Destination
    ae_title: str
    outbox: Outbox
    retry: Retry
    audit: Audit

    def send_once(self) -> int:
        """Send what is due; returns how much that was, taken or not."""
        due = self.outbox.due(self.to.name)
        if not due:
            return 0
        left = list(due)
        try:
            with line_to(self.to, self.ae_title, due) as line:
                while left:
                    self._send(line, left.pop(0))
        except (NotTaken, InputError) as error:  # such as a token file that is gone
            for each in left:  # one line for all of them: it is the destination's fault
                self._not_taken(each, str(error))
        return len(due)

    def _send(self, line: Line, delivery: Delivery) -> None:
        # After a kill or a cut line it may be there, and is not to be sent again.
        there = delivery.tries > 0 and line.has(delivery)
        if not there:
            self.outbox.begin(delivery)
            try:
                line.send(delivery)
            except NotTaken as error:
                self._not_taken(delivery, str(error))
                return
            except OSError as error:  # its file
                self._not_taken(delivery, reason_of(error))
                return
        state = self.outbox.sent(delivery)
        say("object sent", study=delivery.study, object=delivery.name, to=self.to.name, there=there)
        self._say_state(delivery, state)

    def _not_taken(self, delivery: Delivery, why: str) -> None:
        waited_s = self.outbox.now_s() - delivery.made_s
        fields = {"study": delivery.study, "object": delivery.name, "to": self.to.name}
        if waited_s >= self.retry.give_up_h * 3600:
            say("object given up", logging.ERROR, **fields, reason=why)
            self._say_state(delivery, self.outbox.give_up(delivery, why))
            return
        # As long again as it has waited: each wait is about twice the one before.
        wait_s = min(max(waited_s, self.retry.first_s), self.retry.longest_s)
        self.outbox.postpone(delivery, why, wait_s)
        say("object not taken", logging.WARNING, **fields, reason=why, again_in_s=round(wait_s))

    def _say_state(self, delivery: Delivery, state: str | None) -> None:
        if state is not None:
            whom = self.outbox.destinations(delivery.study)
            say(f"study {state}", study=delivery.study, **whom)
            self.audit.add(state, study=delivery.study, **whom)


class Senders:
    """A thread for each destination, so that one that is away holds up no other."""

    def __init__(self, senders: list[Sender]) -> None:
        """Prepare to send.

        Args:
            senders: one for each destination.
        """
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._send, args=(each,), name=each.to.name, daemon=True)
            for each in senders
        ]

    def start(self) -> None:
        """Send from now on."""
        for each in self._threads:
            each.start()

    def stop(self, wait_s: float) -> None:
        """Send no more; what is on its way is sent or will be asked for at the next start.

        Args:
            wait_s: for that.
        """
        self._stop.set()
        for each in self._threads:
            each.join(wait_s)

    def _send(self, sender: Sender) -> None:
        while not self._stop.is_set():
            try:
                sent = sender.send_once()
            except (OSError, sqlite3.Error) as error:  # such as a full disk
                say("sending put off", logging.ERROR, to=sender.to.name, reason=reason_of(error))
                self._stop.wait(NO_ROOM_WAIT_S)
                continue
            except Exception:  # a defect must not end the thread, and must be seen
                LOG.exception("sending failed")
                self._stop.wait(NO_ROOM_WAIT_S)
                continue
            if not sent:
                self._stop.wait(POLL_S)
