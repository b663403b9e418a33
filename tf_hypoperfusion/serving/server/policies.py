"""Which models and versions are served: those of a folder, or of a ``models.config``."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

from data_tools.runtime.errors import InputError
from tf_hypoperfusion.serving import saved_model
from tf_hypoperfusion.serving.protobuf import model_server_config_pb2

EVERY_VERSION = 2**31


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelPolicy:
    """Which versions of a model are served.

    Attributes:
        name: of the model.
        folder: of its versions, ``folder/1``, ``folder/2``...
        latest: how many of the newest; ignored where ``versions`` names some.
        versions: these only; () for the newest.
        labels: word -> version.
    """

    name: str
    folder: Path
    latest: int = 1
    versions: tuple[int, ...] = ()
    labels: Mapping[str, int] = dataclasses.field(default_factory=dict)

    def wanted(self, present: Sequence[int]) -> list[int]:
        """Those of the versions on disk, rising, that are to be served."""
        if self.versions:
            return [number for number in present if number in self.versions]
        return list(present[-self.latest :])


@dataclasses.dataclass(frozen=True)
class ModelSource:
    """Where models are found, again and again.

    Attributes:
        path: folder of NAME/VERSION, or a ``models.config``.
        is_config: which of both it is.
    """

    path: str
    is_config: bool = False

    def policies(self) -> list[ModelPolicy]:
        """What is to be served now."""
        return of_config(Path(self.path)) if self.is_config else of_folder(Path(self.path))

    def check(self) -> None:
        """Refuse a path that cannot be one.

        Raises:
            InputError: no such folder, or not a ``models.config``.
        """
        path = Path(self.path)
        if self.is_config:
            of_config(path)
        elif not path.is_dir():
            raise InputError(f"{path}: no such folder; expected that of tf_hypoperfusion.export")


def of_folder(base: Path) -> list[ModelPolicy]:
    """Every folder with a version in it, the newest version of each."""
    folders = sorted(path for path in base.iterdir() if path.is_dir()) if base.is_dir() else []
    return [
        ModelPolicy(name=folder.name, folder=folder)
        for folder in folders
        if saved_model.versions(folder)
    ]


def of_config(path: Path) -> list[ModelPolicy]:
    """A ``models.config`` of TensorFlow Serving: names, folders, version policy, labels.

    Raises:
        InputError: not such a file.
    """
    from google.protobuf import text_format

    config = model_server_config_pb2.ModelServerConfig()
    try:
        text_format.Parse(path.read_text(encoding="utf-8"), config)
    except (OSError, ValueError, text_format.ParseError) as error:
        raise InputError(f"{path}: not a models.config of TensorFlow Serving ({error})") from error
    found = of_message(config)
    if not found:
        raise InputError(f"{path}: names no model; expected model_config_list")
    return found


def of_message(config: model_server_config_pb2.ModelServerConfig) -> list[ModelPolicy]:
    """What such a message says is to be served."""
    found = []
    for model in config.model_config_list.config:
        policy = model.model_version_policy
        found.append(
            ModelPolicy(
                name=model.name,
                folder=Path(model.base_path),
                latest=EVERY_VERSION if policy.HasField("all") else policy.latest.num_versions or 1,
                versions=tuple(policy.specific.versions),
                labels=dict(model.version_labels),
            )
        )
    return found
