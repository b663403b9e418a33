"""Packages without those parts of them that cost time or call somebody, and that we do not use."""

import contextlib
import importlib
import importlib.util
import sys
import types
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


@contextlib.contextmanager
def parts_only(name: str) -> Iterator[None]:
    """Let modules of a package be imported without the package's own start.

    What was imported so stays, and afterwards the package itself can be imported as ever.

    Args:
        name: of the package, which is installed.
    """
    found = importlib.util.find_spec(name) if name not in sys.modules else None
    if found is None or found.submodule_search_locations is None:
        yield
        return
    stand_in = types.ModuleType(name)
    stand_in.__path__ = list(found.submodule_search_locations)
    sys.modules[name] = stand_in
    try:
        yield
    finally:
        del sys.modules[name]
