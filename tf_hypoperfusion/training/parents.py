"""The trained network that a fold begins with: its place, name, checksum and architecture.

``--init_from`` names a ``.keras`` file, a fold's folder, a run's folder (fold k begins with its
fold k), or an export (fold k begins with its network k, counted round; the final network with
network 0). ``demo`` is the demonstration model. ``EXPORT#2`` is its network 2, and ``RUN#2`` the
run's fold 2, whatever the fold.
"""

import dataclasses
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

from data_tools.runtime import atomic
from data_tools.runtime.errors import InputError
from tf_hypoperfusion import config
from tf_hypoperfusion.config import Configs, ModelConfig
from tf_hypoperfusion.model import export_files
from tf_hypoperfusion.training import roles

DEMO = "demo"
# Settings that weights depend on: equal, or weights cannot be copied.
_SAME = ("base_filters", "poolings", "normalisation", "attention_gates", "side_channel")
# What a network may have more than its parent: it begins at rest.
_MORE = ("nihss_fusion", "presence_flags", "core_output")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Parent:
    """A trained network to begin with.

    Attributes:
        reference: ``init_from`` as it names this network alone.
        name: for readers: the file, or the export's name, version and the network's number.
        sha256: of its ``.keras`` file, also where only the export of it is here; None if its card
            does not say.
        cohort: that it was trained on; None if nobody knows.
        simulated: whether it, or what it began with itself, was trained on SIMULATED patients.
        model: its settings; None if nobody knows.
    """

    reference: str
    name: str
    sha256: str | None
    cohort: str | None
    simulated: bool
    model: ModelConfig | None

    def to_json(self) -> dict[str, Any]:
        """What ``config.json`` and the model card say of it."""
        return {
            "name": self.name,
            "sha256": self.sha256,
            "cohort": self.cohort,
            "simulated": self.simulated,
        }

    def in_words(self) -> str:
        """For the log."""
        patients = "SIMULATED patients" if self.simulated else "patients"
        return f"{self.name}, trained on {patients} ({self.cohort or 'cohort unknown'})"


def find(init_from: str, fold: int | None) -> Parent:
    """The network that a fold begins with.

    Args:
        init_from: see the module; may be a :attr:`Parent.reference`.
        fold: its number; None for the final network.

    Raises:
        InputError: there is no such network.
    """
    path, number = _parts(init_from)
    if not path.is_dir():
        if not path.is_file() or path.suffix != ".keras":
            raise InputError(
                f"--init_from={init_from}: {path} is no .keras file or folder; expected a "
                f"best.keras, a run's folder, an export such as saved_models/NAME, or {DEMO}"
            )
        if number is not None:
            raise InputError(
                f"--init_from={init_from}: {path} holds one network; expected it without "
                f"#{number}, which chooses among those of an export or a run"
            )
        return _of_file(path)
    version_folder = export_files.newest_version(path)
    if export_files.is_export(version_folder):
        return _of_export(init_from, version_folder, (number, fold))
    wanted = fold if number is None else number
    alone = (path,) if number is None else ()
    for folder in (*alone, roles.folder(path, wanted)):
        if (folder / "best.keras").is_file():
            return _of_file(folder / "best.keras")
    raise InputError(
        f"--init_from={init_from}: neither a run's folder with a best.keras for "
        f"{roles.in_words(wanted)} nor an export with a saved_model.pb; expected one of them, a "
        f"best.keras, or {DEMO}"
    )


def read(reference: str) -> Any:
    """The network that a :attr:`Parent.reference` names, on whatever Keras runs already.

    Raises:
        InputError: no such network, or it cannot be read.
    """
    from tf_hypoperfusion.model import exported, keras_file

    path, number = _parts(reference)
    if path.suffix == ".keras":
        return keras_file.read(path)
    return exported.read(export_files.newest_version(path), number or 0)


def with_architecture(configs: Configs, fold: int | None, given: Collection[str]) -> Configs:
    """The same training of the parent's network, but for what was asked for.

    Args:
        configs: with ``init_from``.
        fold: whose parent decides.
        given: settings that the user gave; they stay.

    Returns:
        Unchanged if the parent's settings are not known.

    Raises:
        InputError: there is no such network, or what was asked for is another one.
    """
    parent = find(configs.training.init_from, fold)
    if parent.model is None:
        return configs
    asked = dataclasses.asdict(configs.model)
    kept = {name: value for name, value in asked.items() if name in given}
    model = dataclasses.replace(parent.model, **kept)
    check(parent, model)
    return configs._replace(model=model)


def check(parent: Parent, model: ModelConfig) -> None:
    """Refuse a network that the parent's weights do not fit.

    Raises:
        InputError: the settings that differ.
    """
    if parent.model is None:
        return
    before, now = (dataclasses.asdict(each) for each in (parent.model, model))
    differ = [name for name in _SAME if before[name] != now[name]]
    differ += [name for name in _MORE if before[name] and not now[name]]
    channels = [each["contrast_channels"] for each in (before, now)]
    if channels[0] != "none" and not channels[1].startswith(channels[0]):
        differ.append("contrast_channels")
    if differ:
        raise InputError(
            f"--init_from: {parent.name} is another network: "
            + ", ".join(f"{name} is {before[name]} there and {now[name]} here" for name in differ)
            + ". Its weights fit only a network of the same settings, perhaps with more answers or "
            "inputs; leave these settings out, and they are taken from it"
        )


def _parts(init_from: str) -> tuple[Path, int | None]:
    """Path and, after a ``#``, number of the network."""
    match = None if Path(init_from).exists() else re.fullmatch("(.+)#([0-9]{1,3})", init_from)
    place, number = (match[1], int(match[2])) if match else (init_from, None)
    return export_files.DEMO_MODEL if place == DEMO else Path(place), number


def _of_file(path: Path) -> Parent:
    said = atomic.read_json(path.with_name("config.json"))
    return _known(said, reference=str(path), name=str(path), sha256=atomic.sha256(path))


def _of_export(init_from: str, folder: Path, which: tuple[int | None, int | None]) -> Parent:
    networks, (asked, fold) = export_files.networks(folder), which
    number = (fold or 0) % len(networks) if asked is None else asked
    if number >= len(networks):
        raise InputError(
            f"--init_from={init_from}: {folder} has {len(networks)} networks, from 0; expected a "
            "smaller number after #"
        )
    place = init_from.rpartition("#")[0] if asked is not None else init_from
    card = atomic.read_json(folder / export_files.CARD)
    sha256 = networks[number].get("sha256")
    return _known(
        networks[number],
        # Not the newest one, which may be another when the training goes on; nor a path that
        # differs from machine to machine.
        reference=f"{DEMO if place == DEMO else folder}#{number}",
        name=f"{card.get('name')} version {card.get('version')}, network {number}",
        sha256=sha256 if isinstance(sha256, str) else None,
    )


def _known(said: Any, **facts: Any) -> Parent:
    """With what a fold's config.json, or a network's part of a card, says of its training."""
    used, parent = (said.get(name) or {} for name in ("records", "parent"))
    cohort = used.get("cohort") if isinstance(used, dict) else None
    cohort = cohort if isinstance(cohort, str) else None
    before = isinstance(parent, dict) and parent.get("simulated") is True
    return Parent(
        **facts,
        cohort=cohort,
        simulated="simulated" in (cohort or "").lower() or before,
        model=config.model_config(said.get("model")),
    )
