"""Networks as ``.keras`` files: read, and refused where they are not ours."""

import json
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from data_tools.grid import SLAB_SHAPE
from data_tools.runtime.errors import InputError
from tf_hypoperfusion.config import SLAB

# Of what a library says of a file: the rest of its line is listings of objects.
LONGEST_REASON = 300


def load(path: Path) -> Any:
    """Load a ``.keras`` file written by training.

    Raises:
        InputError: not a Keras file, or a network with other inputs or outputs.
    """
    from data_tools.runtime import tensorflow_start

    tensorflow_start.prepare()
    return read(path)


def read(path: Path) -> Any:
    """As :func:`load`, on whatever Keras runs already."""
    try:
        return _read_keras(path)
    except Exception as error:  # a file from anywhere can fail in any way
        if not zipfile.is_zipfile(path):  # of which Keras says that there is no such file
            cut = ValueError("it is no whole .keras archive; was it copied to the end?")
            raise no_model(path, cut) from error
        raise no_model(path, error) from error


def _read_keras(path: Path) -> Any:
    """The model of a file, if it is a network of ours and means here what it meant there."""
    from tf_hypoperfusion.model.keras_compat import keras, to_numpy  # our defaults, not the user's

    with zipfile.ZipFile(path) as archive:
        written = json.loads(archive.read("metadata.json"))["keras_version"]
        said = json.loads(archive.read("config.json"))["config"]
    if written.split(".")[0] != keras.__version__.split(".")[0]:
        raise ValueError(
            f"Keras {written} wrote it, and this is Keras {keras.__version__}; use it in the "
            "environment that trained it, or export it there and use the export here"
        )
    model = keras.saving.load_model(path, compile=False)
    if not isinstance(getattr(model, "output", None), dict):
        check_ours({}, {})
    check_ours(
        {t.name.split(":")[0]: tuple(t.shape[1:]) for t in model.inputs},
        {name: tuple(t.shape[1:]) for name, t in model.output.items()},
    )
    odd = [v.name for v in model.variables if not np.isfinite(to_numpy(v)).all()]
    if odd:
        raise ValueError(f"its weights are not finite ({odd[0]}): the training had diverged")
    # Of a layer Keras refuses a setting that it does not know; of the whole it leaves it out.
    if unknown := sorted(set(said) - set(model.get_config())):
        raise ValueError(f"Keras {keras.__version__} does not know its {', '.join(unknown)}")
    return model


def check_ours(takes: dict[str, tuple], gives: dict[str, tuple]) -> None:
    """Refuse a network with other inputs or outputs than ours, by name or shape.

    The probability of core is an answer that a network may give.

    Raises:
        ValueError: what was found and what was expected.
    """
    ours = ({"image": SLAB, "nihss": (1,)}, {"probability": (*SLAB_SHAPE, 1)})
    if takes == ours[0] and gives in (ours[1], ours[1] | {"core": (*SLAB_SHAPE, 1)}):
        return

    def words(tensors: dict[str, tuple]) -> str:
        return " and ".join(f"{name} {shape}" for name, shape in tensors.items())

    found = f"it takes {words(takes)} and gives {words(gives)}; " if takes and gives else ""
    raise ValueError(
        f"another network: {found}ours takes {words(ours[0])} and gives {words(ours[1])}"
    )


def no_model(path: Path, error: Exception) -> InputError:
    """The error of a file that is no model of ours, with a library's reason in short.

    Args:
        path: of the file.
        error: of the library, or our own.
    """
    text = str(error).strip()
    reason = next(iter(text.splitlines()), type(error).__name__)
    # Where Keras cannot build a layer it begins with advice for programmers and ends with why.
    if built := re.findall("Exception encountered: (.+)", text):
        reason = built[-1]
    reason = reason.rstrip(".")
    if "safe_mode" in reason:  # Keras's advice is for programs, and to run code from anywhere
        reason = "it holds Python code, a Lambda layer, which is not run"
    return InputError(
        f"model {path}: cannot be used ({reason[:LONGEST_REASON]}); expected a best.keras of "
        "tf_hypoperfusion.train, or a SavedModel or model.onnx of tf_hypoperfusion.export"
    )
