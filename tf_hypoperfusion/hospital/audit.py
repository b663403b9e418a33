"""Logs of a node, as one JSON object per line; studies go by a digest, and no patient is named."""

import json
import logging
import os
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

LOG = logging.getLogger("tf_hypoperfusion.node")
FILE = "audit.jsonl"
LIBRARIES = ("pydicom", "pynetdicom", "highdicom")


def say(event: str, level: int = logging.INFO, **fields: Any) -> None:
    """Log an event.

    Args:
        event: what happened, in a few words that are always the same.
        level: of :mod:`logging`.
        fields: what belongs to it; nothing that names a patient.
    """
    LOG.log(level, event, extra={"fields": fields})


class JsonLines(logging.Formatter):
    """A log record as a line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """Time, level, event and its fields; a traceback where there is one."""
        line = {
            "time": _iso(record.created),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def log_to_standard_error() -> None:
    """Write the node's own log as lines of JSON, and of most libraries only what went wrong.

    What those of DICOM say of odd attributes quotes these, and one may be a name: it is not
    written. They set their own levels when they are imported, so the handler leaves them out.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    handler.addFilter(lambda record: record.name.split(".")[0] not in LIBRARIES)
    logging.basicConfig(level=logging.ERROR, handlers=[handler], force=True)
    LOG.setLevel(logging.INFO)
    warnings.simplefilter("ignore")


class Audit:
    """A file to which each answer adds a line: when, which study, which model, what, how long."""

    def __init__(self, folder: Path, clock: Callable[[], float] = time.time) -> None:
        """Name the file.

        Args:
            folder: that it lies in; only its owner may read it.
            clock: seconds since 1970.
        """
        self.file = folder / FILE
        self._now_s = clock

    def add(self, event: str, **fields: Any) -> bool:
        """Add a line, and have it on the disk. A full disk is logged, and stops nothing.

        Args:
            event: what happened.
            fields: what belongs to it; nothing that names a patient.

        Returns:
            Whether it is there.
        """
        line = json.dumps({"time": _iso(self._now_s()), "event": event, **fields}) + "\n"
        try:
            descriptor = os.open(self.file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            try:
                os.write(descriptor, line.encode())
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            say("audit line not written", logging.ERROR, reason=str(error))
            return False
        return True


def _iso(seconds: float) -> str:
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return f"{whole}.{int(seconds % 1 * 1000):03d}Z"
