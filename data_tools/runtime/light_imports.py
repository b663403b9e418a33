"""Packages without those parts of them that cost time or call somebody, and that we do not use."""

import contextlib
import importlib
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def without(name: str) -> Iterator[None]:
    """Let a package that can do without another one be imported without it.

    Where the other one is imported already it stays, and afterwards it can be imported as ever.

    Args:
        name: of the module that is not to be found meanwhile.
    """
    if name in sys.modules:
        yield
        return
    sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[name]


def prepare_nibabel() -> None:
    """Import nibabel without pydicom (0.2 s), which it needs for DICOM inside NIfTI headers only.

    Called before anything else imports it. Folders of DICOM files import pydicom by themselves.
    """
    with without("pydicom"):
        importlib.import_module("nibabel")
