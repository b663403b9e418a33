"""The DICOM side of what scanners say of their work: N-CREATE and N-SET of a performed step (MPPS).

DICOM PS3.4 Annex F. Only the studies and the images are read; no name of a patient is kept.
"""

import logging
import sqlite3
from typing import Any

from data_tools.runtime.errors import reason_of
from tf_hypoperfusion.hospital.audit import say
from tf_hypoperfusion.hospital.spool import Spool, is_uid, study_name

# PS3.7 C: success, and why not.
SUCCESS, INVALID_VALUE, FAILURE = 0x0000, 0x0106, 0x0110
DUPLICATE, UNKNOWN, MISSING, NO_ROOM = 0x0111, 0x0112, 0x0120, 0x0213
IN_PROGRESS, ENDED = "IN PROGRESS", ("COMPLETED", "DISCONTINUED")
IMAGES = ("ReferencedImageSequence", "ReferencedNonImageCompositeSOPInstanceSequence")

Answer = tuple[int, Any]


def begun(event: Any, spool: Spool) -> Answer:
    """A scanner began a step (N-CREATE).

    Args:
        event: of pynetdicom.
        spool: that the studies come to.

    Returns:
        Status, and what the step is now.
    """
    return _answered(event, "step begun", lambda: _begin(event, spool))


def changed(event: Any, spool: Spool) -> Answer:
    """A scanner says more of a step, such as that it ended (N-SET).

    Args:
        event: of pynetdicom.
        spool: that the studies come to.

    Returns:
        Status, and what was said.
    """
    return _answered(event, "step changed", lambda: _change(event, spool))


def _answered(event: Any, what: str, work: Any) -> Answer:
    """What ``work`` answers; whatever is raised, the node lives on."""
    caller = event.assoc.requestor.ae_title
    try:
        status, data = work()
    except (OSError, sqlite3.Error) as error:
        say(f"{what}, not kept", logging.ERROR, caller=caller, reason=reason_of(error))
        return NO_ROOM, None
    except Exception as error:  # pydicom raises much about a damaged dataset
        say(f"{what}, not read", logging.WARNING, caller=caller, reason=type(error).__name__)
        return FAILURE, None
    if status != SUCCESS:
        say(f"{what}, refused", logging.WARNING, caller=caller, status=f"0x{status:04X}")
    return status, data


def _begin(event: Any, spool: Spool) -> Answer:
    uid, data = str(event.request.AffectedSOPInstanceUID or ""), event.attribute_list
    scheduled = data.get("ScheduledStepAttributesSequence") or []
    studies = {str(item.get("StudyInstanceUID") or "").strip() for item in scheduled} - {""}
    if not uid or not studies:
        return MISSING, None
    if not all(map(is_uid, (uid, *studies))):
        return INVALID_VALUE, None
    if data.get("PerformedProcedureStepStatus") != IN_PROGRESS:
        return INVALID_VALUE, None
    if spool.steps.is_open(uid) is not None:
        return DUPLICATE, None
    spool.steps.begin(uid, sorted(map(study_name, studies)), spool.now_s())
    return SUCCESS, data


def _change(event: Any, spool: Spool) -> Answer:
    uid, data = str(event.request.RequestedSOPInstanceUID), event.modification_list
    is_open = spool.steps.is_open(uid)
    if is_open is None:
        return UNKNOWN, None
    if not is_open:  # PS3.4 F.7.2.2.2: a step that ended changes no more
        return FAILURE, None
    status = data.get("PerformedProcedureStepStatus", IN_PROGRESS)
    if status not in (IN_PROGRESS, *ENDED):
        return INVALID_VALUE, None
    if status in ENDED:
        images = [
            str(image.ReferencedSOPInstanceUID)
            for series in data.get("PerformedSeriesSequence") or []
            for name in IMAGES
            for image in series.get(name) or []
        ]
        spool.steps.end(uid, images)
        say("step ended", status=str(status), images=len(images))
    return SUCCESS, data
