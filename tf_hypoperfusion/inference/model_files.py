"""Models on disk: is it one, is it whole, what is known of it. No TensorFlow."""

import dataclasses
import hashlib
from pathlib import Path
from typing import Any

from data_tools.runtime import atomic
from data_tools.runtime.atomic import sha256
from data_tools.runtime.errors import InputError
from tf_hypoperfusion import config
from tf_hypoperfusion.model.export_files import (
    CHECKSUMS,
    DEMO_MODEL,
    damaged,
    is_export,
    newest_version,
)

# What a model adds to the four facts that every one has; absent where nobody knows it.
MAY_BE_ABSENT = (
    "runtime", "precision", "name", "version", "notice", "frame", "networks", "randomisation"
)  # fmt: skip
# In what a network's training says that it changed at random: it left out inputs too.
INPUTS = "inputs"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelInfo:
    """What is known of a model that answers.

    Attributes:
        path: of the file or folder, or the model's address on a server.
        sha256: checksum of all its weights; of an export of several networks, theirs; None if a
            server does not say.
        cohort: name of the cohort that it was trained on; None if nobody knows.
        fold: of the run it comes from; None if it is of several or nobody knows.
        runtime: the program that ran it here, with its version.
        precision: that it computed in here.
        name: on the server.
        version: on the server.
        notice: what the model says of its use.
        frame: columns x rows that all its networks compute, as in 80x104; None if nobody knows.
        networks: checksums of the ``.keras`` files that an export was made of.
        randomisation: what the training of each network changed at random; None if one of them
            does not say.
    """

    path: str
    sha256: str | tuple[str, ...] | None
    cohort: str | None
    fold: int | None = None
    runtime: str | None = None
    precision: str | None = None
    name: str | None = None
    version: int | None = None
    notice: str | None = None
    frame: str | None = None
    networks: tuple[str, ...] | None = None
    randomisation: tuple[str, ...] | None = None

    @property
    def simulated(self) -> bool:
        """Whether it was trained on simulated patients."""
        return "simulated" in (self.cohort or "").lower()

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types; what only a model here or only a server says is left out if absent."""
        values = dataclasses.asdict(self)
        return {k: v for k, v in values.items() if k not in MAY_BE_ABSENT or v is not None}


def check_path(path: str | Path) -> Path:
    """Refuse, before TensorFlow is started, what cannot be a model.

    Raises:
        InputError: no such file or folder, or neither ``.keras``, ``.onnx`` nor a SavedModel.
    """
    path = Path(path)
    if path.is_dir():
        path = newest_version(path)
        if not is_export(path):
            raise InputError(
                f"model {path}: the folder holds no saved_model.pb; expected a SavedModel"
            )
    elif not path.is_file():
        raise InputError(
            f"model {path}: no such file; expected RUN/fold-N/best.keras, which "
            "python -m tf_hypoperfusion.train writes, or saved_models/NAME/VERSION"
        )
    elif path.suffix not in (".keras", ".onnx"):
        raise InputError(f"model {path}: expected a .keras or .onnx file or a SavedModel folder")
    return path


def check_undamaged(path: str | Path) -> Path:
    """As :func:`check_path`; where an export has checksums, its files must be as they were written.

    Raises:
        InputError: what :func:`check_path` refuses, or files damaged or missing, by name.
    """
    path = check_path(path)
    export = path if path.is_dir() else path.parent
    if path.suffix != ".keras" and (export / CHECKSUMS).is_file() and (wrong := damaged(export)):
        raise InputError(
            f"model {path}: damaged or missing: {', '.join(wrong)}; copy it again, or export again"
        )
    return path


def demo_model() -> Path:
    """Where the demonstration model is.

    Raises:
        InputError: it did not come with this installation.
    """
    if not DEMO_MODEL.is_dir():
        raise InputError(
            f"no --model was given, and the demonstration model is not at {DEMO_MODEL}; expected "
            "--model=PATH of a best.keras, SavedModel or model.onnx"
        )
    return DEMO_MODEL


def mapping(value: Any) -> dict[str, Any]:
    """The value if it is a JSON object, else an empty one: files beside a model may be damaged."""
    return value if isinstance(value, dict) else {}


def describe(path: str | Path) -> ModelInfo:
    """What is known of a model: path, checksum of all its weights, and its training cohort.

    Read from ``config.json`` of a fold, or ``model_card.json`` of an export;
    ``cohort`` is None where neither is there.

    Raises:
        InputError: no such model, or a cohort that is no name: a model of simulated patients must
            not pass for another.
    """
    path = check_path(path)
    files = [path]
    if path.is_dir():
        files = sorted([path / "saved_model.pb", *path.glob("variables/*")])
    sums = [sha256(file) for file in files]
    checksum = sums[0] if len(sums) == 1 else hashlib.sha256("".join(sums).encode()).hexdigest()
    if path.is_dir():
        card = path / "model_card.json"
    else:
        card = path.with_name("model_card.json")
        if path.suffix == ".keras" or not card.is_file():
            card = path.with_name("config.json")
    known = atomic.read_json(card)
    cohort = mapping(known.get("records")).get("cohort")
    if not isinstance(cohort, str | None):
        raise InputError(
            f"{card}: records.cohort is {cohort!r}; expected the name of the cohort that the model "
            "was trained on; copy the file again"
        )
    return ModelInfo(
        path=str(path),
        sha256=checksum,
        cohort=cohort,
        fold=known.get("fold"),
        frame=_frame_of(known),
        networks=_networks_of(known),
        randomisation=randomisation_of(known),
    )


def answers_without(model: ModelInfo) -> bool:
    """Whether a model was trained to answer where inputs are missing.

    Args:
        model: of :func:`describe`, or as a server describes it.
    """
    return names_inputs(model.randomisation)


def names_inputs(randomisation: tuple[str, ...] | None) -> bool:
    """Whether the training of every network left out inputs at random.

    Args:
        randomisation: of :func:`randomisation_of`.
    """
    return bool(randomisation) and all(INPUTS in each for each in randomisation or ())


def randomisation_of(card: dict[str, Any]) -> tuple[str, ...] | None:
    """What the training of each network changed at random, by a fold's config or an export's card.

    Args:
        card: as JSON gives it.

    Returns:
        None if one of the networks does not say.
    """
    each = card.get("models")
    networks = each if isinstance(each, list) else [card]
    said = [mapping(mapping(one).get("training")).get("randomisation") for one in networks]
    texts = tuple(text for text in said if isinstance(text, str))
    return texts if texts and len(texts) == len(said) else None


def _networks_of(card: dict[str, Any]) -> tuple[str, ...] | None:
    """Checksums of the networks of an export, by its card."""
    networks = card.get("models")
    if not isinstance(networks, list):
        return None
    sums = tuple(str(mapping(each).get("sha256")) for each in networks)
    return None if "None" in sums else sums


def _frame_of(known: dict[str, Any]) -> str | None:
    """The frame of a fold's network, or the one that lies in all frames of an export's networks."""
    networks = known.get("models")
    networks = networks if isinstance(networks, list) else [known]
    return config.common_frame(mapping(each).get("model") for each in networks)
