"""What comes in over DICOM: C-ECHO, C-STORE that answers once an image is kept, MPPS."""

import io
import logging
import sqlite3
from typing import Any

from data_tools.runtime.errors import InputError, reason_of
from tf_hypoperfusion.hospital import mpps
from tf_hypoperfusion.hospital.audit import say
from tf_hypoperfusion.hospital.settings import Listen
from tf_hypoperfusion.hospital.spool import Spool, is_uid, study_name
from tf_hypoperfusion.hospital.study import ReceivedImage

# DICOM PS3.4 B.2.3.
SUCCESS, OUT_OF_RESOURCES, CANNOT_UNDERSTAND = 0x0000, 0xA700, 0xC000
# SOP classes, PS3.4 A.4 and F.7.
ECHO, MPPS = "1.2.840.10008.1.1", "1.2.840.10008.3.1.2.3.3"
AT_ONCE = 64


class NoIdentity(ValueError):
    """An image that says no StudyInstanceUID or no SOPInstanceUID that is one."""


class Receiver:
    """The node's side of the DICOM network."""

    def __init__(self, listen: Listen, spool: Spool) -> None:
        """Prepare to listen.

        Args:
            listen: where, as whom, to whom.
            spool: that keeps what comes.
        """
        self._listen, self._spool = listen, spool
        self._server: Any = None

    @property
    def port(self) -> int:
        """The port that is listened on."""
        return self._server.socket.getsockname()[1]

    def start(self) -> None:
        """Listen from now on, in threads of its own.

        Raises:
            InputError: the port is taken, or the address not this machine's.
        """
        from pynetdicom import AE, AllStoragePresentationContexts, evt
        from pynetdicom.presentation import build_context

        entity = AE(ae_title=self._listen.ae_title)
        entity.require_called_aet = True
        entity.require_calling_aet = list(self._listen.callers)
        entity.maximum_associations = AT_ONCE
        others = map(build_context, (ECHO, MPPS))
        for context in (*others, *AllStoragePresentationContexts):
            if context.abstract_syntax is not None:
                entity.add_supported_context(context.abstract_syntax, _transfer_syntaxes())
        try:
            self._server = entity.start_server(
                (self._listen.host, self._listen.port),
                block=False,
                evt_handlers=[
                    (evt.EVT_C_ECHO, lambda event: SUCCESS),
                    (evt.EVT_C_STORE, self._store),
                    (evt.EVT_N_CREATE, mpps.begun, [self._spool]),
                    (evt.EVT_N_SET, mpps.changed, [self._spool]),
                    (evt.EVT_REJECTED, _say_rejected),
                ],
            )
        except OSError as error:
            raise InputError(
                f"cannot listen on {self._listen.host}:{self._listen.port} ({error.strerror}); "
                "expected a free port and an address of this machine: see `listen` of the settings"
            ) from error

    def _store(self, event: Any) -> int:
        """The status of a C-STORE; whatever is raised, the node lives on."""
        caller = event.assoc.requestor.ae_title
        try:
            image = _image(event, caller)
        except Exception as error:  # pydicom raises much about a damaged file
            why = str(error) if isinstance(error, NoIdentity) else "it is damaged"
            say("image refused", logging.WARNING, caller=caller, reason=why)
            return CANNOT_UNDERSTAND
        try:
            if not self._spool.receive(image) and self._spool.differs(image):
                say(
                    "image came again with other content; the first is kept",
                    logging.WARNING, study=study_name(image.study_uid), caller=caller,
                )  # fmt: skip
        except (OSError, sqlite3.Error) as error:
            say("image not kept", logging.ERROR, caller=caller, reason=reason_of(error))
            return OUT_OF_RESOURCES
        return SUCCESS

    def stop(self) -> None:
        """Take no more; what is being kept is kept to its end."""
        if self._server is not None:
            self._server.shutdown()


def _transfer_syntaxes() -> list[str]:
    from pydicom.uid import AllTransferSyntaxes

    return list(AllTransferSyntaxes)


def _image(event: Any, caller: str) -> ReceivedImage:
    """An image as it came, with its identity read from it.

    Raises:
        NoIdentity: it has none.
        Exception: whatever pydicom raises about a damaged file.
    """
    from pydicom import dcmread

    content = event.encoded_dataset()
    identity = ["StudyInstanceUID", "SOPInstanceUID"]
    data = dcmread(io.BytesIO(content), stop_before_pixels=True, specific_tags=identity)
    study_uid, uid = (str(data.get(name) or "").strip() for name in identity)
    if not (is_uid(study_uid) and is_uid(uid)):
        raise NoIdentity("no StudyInstanceUID or SOPInstanceUID")
    return ReceivedImage(study_uid=study_uid, uid=uid, content=content, caller=caller)


def _say_rejected(event: Any) -> None:
    asked = event.assoc.requestor.primitive
    say(
        "caller refused",
        logging.WARNING,
        caller=str(asked.calling_ae_title).strip(),
        called=str(asked.called_ae_title).strip(),
        address=event.assoc.requestor.address,
    )
