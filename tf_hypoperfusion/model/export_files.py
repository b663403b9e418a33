"""The files of an export, looked at without TensorFlow: versions, damage, what its card says."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data_tools.runtime import atomic
from data_tools.runtime.errors import InputError

# Comes with the software, so that a newcomer sees a result; trained on simulated patients only.
DEMO_MODEL = Path(__file__).parents[2] / "saved_models" / "hypoperfusion_demo"
CHECKSUMS = "checksums.sha256"  # of an export, as sha256sum -c reads it
CARD = "model_card.json"


def newest_version(folder: Path) -> Path:
    """The folder of a model's newest version; the folder itself if it has no versions."""
    versions = [p for p in folder.iterdir() if re.fullmatch("[0-9]+", p.name)]
    return max(versions, key=lambda p: int(p.name), default=folder)


def is_export(version_folder: Path) -> bool:
    """Whether a folder holds a SavedModel."""
    return (version_folder / "saved_model.pb").is_file()


def damaged(version_folder: Path) -> list[str]:
    """Files of an export that are missing or not as they were written.

    ``checksums.sha256`` itself counts; ``sha256sum -c`` reads it too.
    """
    listing = version_folder / CHECKSUMS
    lines = (
        listing.read_text(encoding="utf-8", errors="replace").splitlines()
        if listing.is_file()
        else []
    )
    wrong = [] if lines else [listing.name]
    for line in lines:
        checksum, _, name = line.partition("  ")
        path = version_folder / name
        if not path.is_file() or atomic.sha256(path) != checksum:
            wrong.append(name)
    return wrong


def networks(version_folder: Path) -> list[Mapping[str, Any]]:
    """What the card says of each network.

    Raises:
        InputError: there is no card, or it names no networks.
    """
    said = atomic.read_json(version_folder / CARD).get("models")
    known: list[Mapping[str, Any]]
    known = [each for each in said if isinstance(each, dict)] if isinstance(said, list) else []
    if not known:
        raise InputError(
            f"{version_folder}: {CARD} is missing or names no networks, so what they are built of "
            "is not known; expected an export as python -m tf_hypoperfusion.export wrote it"
        )
    return known
