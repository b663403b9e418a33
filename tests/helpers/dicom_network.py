"""The other side of a DICOM network: who sends to a node, and a PACS that gets its results."""

import contextlib
import socket
import time

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid
from pynetdicom import AE, AllStoragePresentationContexts, evt

FIND = "1.2.840.10008.5.1.4.1.2.2.1"
VERIFICATION = "1.2.840.10008.1.1"
MPPS = "1.2.840.10008.3.1.2.3.3"


def small_image(study="1.2.3", kind=MRImageStorage, modality="MR", uid=None, **attributes):
    """An image without pixels: enough for whatever does not look at these."""
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.SOPClassUID, data.SOPInstanceUID = kind, uid or generate_uid()
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
    data.StudyInstanceUID, data.SeriesInstanceUID = study, f"{study}.1"
    data.PatientName, data.PatientID, data.Modality = "SECRET^NAME", "SECRETID", modality
    data.StudyID, data.SeriesNumber, data.InstanceNumber = "1", 1, 1
    for name, value in attributes.items():
        setattr(data, name, value)
    return data


def send(images, port, caller="SCANNER", called="HYPO"):
    """C-STORE of each; its statuses, as far as the line held. None where the caller is refused."""
    entity = AE(ae_title=caller)
    for kind in {image.SOPClassUID for image in images}:
        entity.add_requested_context(kind, ExplicitVRLittleEndian)
    association = entity.associate("127.0.0.1", port, ae_title=called)
    if not association.is_established:
        return None
    statuses = []
    for image in images:
        try:
            statuses.append(association.send_c_store(image).get("Status"))
        except RuntimeError:  # the line is cut
            statuses.append(None)
    association.release()
    return statuses


def echo(port, caller="SCANNER", called="HYPO"):
    """The status of a C-ECHO; None where the caller is refused."""
    entity = AE(ae_title=caller)
    entity.add_requested_context(VERIFICATION)
    association = entity.associate("127.0.0.1", port, ae_title=called)
    if not association.is_established:
        return None
    status = association.send_c_echo().Status
    association.release()
    return status


def tell(port, step, study=None, *, status="IN PROGRESS", images=()):
    """What a scanner says of a step: N-CREATE where a study is given, else N-SET; the status."""
    data = Dataset()
    data.PerformedProcedureStepStatus = status
    scheduled, series = Dataset(), Dataset()
    if study:
        scheduled.StudyInstanceUID = study
        data.ScheduledStepAttributesSequence = [scheduled]
    series.ReferencedImageSequence = [_reference(image) for image in images]
    data.PerformedSeriesSequence = [series]
    entity = AE(ae_title="SCANNER")
    entity.add_requested_context(MPPS)
    association = entity.associate("127.0.0.1", port, ae_title="HYPO")
    say = association.send_n_create if study is not None else association.send_n_set
    answer, _ = say(data, MPPS, step)
    association.release()
    return answer.Status


def _reference(image):
    data = Dataset()
    data.ReferencedSOPClassUID, data.ReferencedSOPInstanceUID = (
        image.SOPClassUID, image.SOPInstanceUID
    )  # fmt: skip
    return data


class Pacs:
    """Takes everything by C-STORE, and answers C-FIND.

    Attributes:
        stored: datasets by SOPInstanceUID.
        sent: SOPInstanceUIDs, each time one comes.
        status: what C-STORE answers.
    """

    def __init__(self):
        self.stored, self.sent, self.status = {}, [], 0x0000

    def store(self, event):
        data = event.dataset
        data.file_meta = event.file_meta
        self.sent.append(str(data.SOPInstanceUID))
        if self.status == 0:
            self.stored[str(data.SOPInstanceUID)] = data
        return self.status

    def find(self, event):
        uid = event.identifier.SOPInstanceUID
        if uid in self.stored:
            found = Dataset()
            found.SOPInstanceUID = uid
            yield 0xFF00, found
        yield 0x0000, None


@contextlib.contextmanager
def listening(pacs, port):
    """Let a PACS listen on a port."""
    entity = AE(ae_title="PACS")
    for context in AllStoragePresentationContexts:
        entity.add_supported_context(context.abstract_syntax)
    entity.add_supported_context(FIND)
    server = entity.start_server(
        ("127.0.0.1", port), block=False,
        evt_handlers=[(evt.EVT_C_STORE, pacs.store), (evt.EVT_C_FIND, pacs.find)],
    )  # fmt: skip
    try:
        yield
    finally:
        server.shutdown()


def free_port():
    """A port that nobody listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def wait_for(condition, what, seconds=60):
    """Until a condition holds; the test fails where it never does."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError(f"waited {seconds} s in vain: {what}")
