"""Native code's chatter, kept from the terminal.

TensorFlow writes notes about oneDNN and absent GPUs straight to file descriptor 2 before any
setting can stop it, MetaImage its own words about a file; a newcomer takes them for errors.
Python's own errors still come through.
"""

import contextlib
import os
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def native_stderr_silenced() -> Iterator[None]:
    """Discard what native code writes to stderr; set ``TF_CPP_MIN_LOG_LEVEL=0`` to see it."""
    if os.environ.get("TF_CPP_MIN_LOG_LEVEL") == "0":
        yield
        return
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
