"""``report.html`` -> ``report.pdf``, printed by an installed Chromium, Chrome or Edge."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from data_tools.runtime.errors import InputError

BROWSERS = (
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "microsoft-edge",
)
SECONDS = 120


def browser() -> str:
    """The program that prints.

    Raises:
        InputError: none is installed.
    """
    for name in BROWSERS:
        found = shutil.which(name)
        if found:
            return found
    raise InputError(
        f"--pdf needs a browser that prints: one of {', '.join(BROWSERS)}; install one, or open "
        "report.html and print it (two pages, A4)"
    )


def printed(html: str) -> bytes:
    """A page as a PDF of two A4 sheets.

    Args:
        html: the whole page.

    Raises:
        InputError: no browser, or it failed.
    """
    with tempfile.TemporaryDirectory(prefix="hypoperfusion-pdf-") as folder:
        page, made = Path(folder) / "page.html", Path(folder) / "page.pdf"
        page.write_text(html, encoding="utf-8")
        command = [
            browser(), "--headless", "--disable-gpu", "--no-first-run", "--no-pdf-header-footer",
            f"--user-data-dir={folder}/profile", f"--print-to-pdf={made}",
            *(["--no-sandbox"] if getattr(os, "geteuid", lambda: None)() == 0 else []),
            page.as_uri(),
        ]  # fmt: skip
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
            said = done.stderr.strip().splitlines()[-1:] or ["nothing"]
        except subprocess.TimeoutExpired:
            said = [f"no end within {SECONDS} s"]
        if not made.is_file():
            raise InputError(f"the page could not be printed; {command[0]} said: {said[0]}")
        return made.read_bytes()
