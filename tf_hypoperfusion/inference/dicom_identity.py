"""Who made a DICOM object, of which result, and its UIDs: one result always has the same ones."""

import hashlib
import json
from collections.abc import Callable, Sequence
from typing import Any

from tf_hypoperfusion import __version__
from tf_hypoperfusion.inference.model_files import ModelInfo
from tf_hypoperfusion.inference.result import PatientResult

MAKER = "tf_hypoperfusion"
RESEARCH = "research use only"
# High numbers, so that they stand behind the scanner's series.
SERIES_NUMBERS = {
    "segmentation": 9001, "probability": 9002, "report": 9003, "capture": 9004, "refusal": 9005
}  # fmt: skip
# What the standard's short texts hold (LO), and its long ones (LT).
SHORT, LONG = 64, 10240
# Of a result: what differs although the answer is the same.
_INCIDENTAL = ("seconds", "fingerprint", "input", "software", "patient", "replaces")

Uids = Callable[[str], str]


def uids_of(result: PatientResult, sources: Sequence[Any]) -> Uids:
    """UIDs of a result's objects by their names; the same answer about the same images has the
    same ones, so that sent twice it is there once.

    Args:
        result: that the objects show.
        sources: the scanner's images that they refer to.
    """
    answer = {k: v for k, v in result.to_json().items() if k not in _INCIDENTAL}
    answer["models"] = [model.sha256 for model in result.models]
    replaces = result.replaces
    if replaces is not None and (replaces.why == "person" or replaces.was == "refusal"):
        # Sent, even if it is what was answered before: it was asked for, or taken back meanwhile.
        answer["replaces"] = replaces.answered
    images = [str(source.SOPInstanceUID) for source in sources]
    return uids([answer, images, __version__])


def uids(seed: Any) -> Uids:
    """UIDs by names, drawn from what they belong to.

    Args:
        seed: JSON types.
    """
    text = json.dumps(seed, sort_keys=True, default=str)

    def uid(name: str) -> str:
        digest = hashlib.sha256(f"{text} {name}".encode()).digest()
        return f"2.25.{int.from_bytes(digest[:16], 'big')}"  # PS3.5 B.2: a UUID's 128 bits

    return uid


def model_words(model: ModelInfo) -> str:
    """A model by name, version, checksum and training data, in words.

    Args:
        model: that answered.
    """
    sums = (model.sha256,) if isinstance(model.sha256, str) else model.sha256 or ("not known",)
    name, version = name_and_version(model)
    return (
        f"model {name}, version {version or 'not numbered'}; SHA-256 {', '.join(sums)}; trained on "
        f"{model.cohort or 'patients that are not known'}"
    )


def name_and_version(model: ModelInfo) -> tuple[str, str]:
    """What a model is called and its version, as on a server, or by its place in folders.

    >>> name_and_version(ModelInfo(path="models/demo/3/model.onnx", sha256=None, cohort=None))
    ('demo', '3')
    >>> name_and_version(ModelInfo(path="run/fold-0/best.keras", sha256=None, cohort=None))
    ('fold-0/best.keras', '')
    """
    if model.name:
        return model.name, "" if model.version is None else str(model.version)
    parts = [part for part in model.path.replace("\\", "/").split("/") if part]
    export = parts[:-1] if parts and parts[-1].endswith(".onnx") else parts
    if len(export) > 1 and export[-1].isdigit():
        return export[-2], export[-1]
    return "/".join(parts[-2:]), ""


def algorithm_name(models: Sequence[ModelInfo]) -> str:
    """Program and models in the letters that the standard allows."""
    names = ", ".join(dict.fromkeys(name_and_version(model)[0] for model in models))
    return f"{MAKER}: {names} ({RESEARCH})"[:SHORT]


def algorithm_version(models: Sequence[ModelInfo]) -> str:
    """Versions of program and models, and the beginning of the models' checksums."""
    known = []
    for model in models:
        first = model.sha256 if isinstance(model.sha256, str) else (model.sha256 or ("",))[0]
        known.append(" ".join(filter(None, ("model", name_and_version(model)[1], first[:12]))))
    return f"{__version__}, {', '.join(dict.fromkeys(known))}"[:SHORT]


def remarks(result: PatientResult) -> list[str]:
    """What every object says of itself: the notice, the models, and each warning."""
    return [
        result.notice,
        *map(model_words, result.models),
        *(f"WARNING: {warning}" for warning in result.warnings),
    ]


def titled(title: str, result: PatientResult) -> str:
    """A series description; that of a later answer is told from the first one's."""
    return title if result.replaces is None else f"{title}, replaces earlier"


def sign(data: Any, comments: str) -> None:
    """Write into an object who made it and what is to be said of it.

    Args:
        data: pydicom's dataset, changed.
        comments: any length; what the standard has no room for is cut.
    """
    data.Manufacturer = data.ManufacturerModelName = MAKER
    data.SoftwareVersions = __version__
    data.DeviceSerialNumber = "none"
    if "PixelData" in data:
        data.ImageComments = comments[:LONG]
