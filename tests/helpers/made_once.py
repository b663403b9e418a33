"""Folders that every process of a test run reads and one of them makes."""

import os
import shutil

import filelock


def made_once(tmp_path_factory, name, make):
    """``make(FOLDER)`` in whichever process of pytest-xdist asks first; the others wait for it.

    Args:
        tmp_path_factory: pytest's.
        name: of the folder.
        make: writes into FOLDER, which is not there yet.

    Returns:
        The folder. Read only.
    """
    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent  # that of all processes
    here = base / "made_once"
    here.mkdir(exist_ok=True)
    folder, made = here / name, here / f"{name}.made"
    with filelock.FileLock(here / f"{name}.lock"):
        if not made.exists():
            shutil.rmtree(folder, ignore_errors=True)
            make(folder)
            made.touch()
    return folder
