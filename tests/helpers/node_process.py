"""A node whose answers are made at once, and that kills itself at a step of its work.

python -m helpers.node_process CONFIG [STEP]
"""

import hashlib
import os
import signal
import sys
from types import SimpleNamespace

from pydicom import dcmread
from pydicom.uid import SecondaryCaptureImageStorage

from data_tools.runtime.errors import InputError
from helpers.dicom_network import small_image
from tf_hypoperfusion.hospital import audit, outbox, service, settings, spool, worker
from tf_hypoperfusion.hospital.delivery import StowLine

NAMES = ("report", "capture")


def answer(self, run):
    """In the place of a prediction: two objects, which the study determines.

    Not its images: on a busy machine they may come so far apart that it is answered twice.
    """
    images = [dcmread(path) for path in sorted(run.images.glob("*.dcm"))]
    if any(image.Modality != "MR" for image in images):
        raise InputError(f"DICOM {run.images}: none is an MR image")
    for name in NAMES:
        number = int(
            hashlib.sha256(f"{images[0].StudyInstanceUID} {name}".encode()).hexdigest()[:30], 16
        )
        made = small_image(
            images[0].StudyInstanceUID, SecondaryCaptureImageStorage, "OT", f"2.25.{number}",
            SeriesInstanceUID=f"2.25.{number + 1}", SeriesDescription=name,
        )  # fmt: skip
        path = run.results / "dicom" / f"{name}.dcm"
        path.parent.mkdir(parents=True, exist_ok=True)
        made.save_as(path, enforce_file_format=True)
    return SimpleNamespace(
        answer=SimpleNamespace(target_mismatch="yes"), warnings=(), models=(), images=len(images)
    )


def killing(function, before):
    """The function, with a kill before or after it."""

    def killed(*arguments, **named):
        if not before:
            function(*arguments, **named)
        os.kill(os.getpid(), signal.SIGKILL)

    return killed


# Where the node is killed: what, of which function, and whether before it.
STEPS = {
    "an image written, not recorded": (spool, "sync_folder", True),
    "an image recorded, not answered for": (spool.Spool, "receive", False),
    "a run begun": (worker.Worker, "_answer", True),
    "a result drawn, not recorded": (spool.Spool, "finish", True),
    "a result recorded, not sent": (spool.Spool, "finish", False),
    "an object about to be sent": (outbox.Outbox, "begin", False),
    "an object sent, not recorded": (StowLine, "send", False),
}


def main(config, step=None):
    """Run until a signal comes, or the step."""
    os.umask(0o077)
    worker.Worker._predict = answer
    if step:
        place, name, before = STEPS[step]
        setattr(place, name, killing(getattr(place, name), before))
    audit.log_to_standard_error()
    node = service.Node(settings.read(config), lambda: None)
    node.stop_at_signals()
    node.start()
    print(node.port, flush=True)
    node.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
