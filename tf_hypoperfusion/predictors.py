"""Trained models on disk -> predictors for :mod:`tf_hypoperfusion.sliding_window`."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from data_tools.atomic import sha256
from data_tools.errors import InputError
from tf_hypoperfusion.sliding_window import Predictor


def load_predictor(path: str | Path) -> Predictor:
    """Load a ``.keras`` file or a SavedModel folder.

    Raises:
        InputError: no such file, not a model, or a model with other inputs.
    """
    path = check_path(path)
    from data_tools import records  # noqa: F401, I001  first, so that TensorFlow starts quietly

    import keras
    import tensorflow as tf

    try:
        if path.is_dir():
            model = tf.saved_model.load(str(path))
            signature = model.signatures["serving_default"]

            def call(image, nihss):
                return signature(image=image, nihss=nihss)["probability"]
        else:
            model = keras.saving.load_model(path, compile=False)
            names = {tensor.name.split(":")[0] for tensor in model.inputs}
            if names != {"image", "nihss"}:
                raise ValueError(f"its inputs are {sorted(names)}")

            def call(image, nihss):
                return model({"image": image, "nihss": nihss}, training=False)["probability"]
    except (ValueError, OSError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"model {path}: cannot be loaded ({str(error).splitlines()[0]}); expected a best.keras "
            "of tf_hypoperfusion.train or a SavedModel of tf_hypoperfusion.export"
        ) from error
    graph = tf.function(call)
    graph.keep_alive = model  # a signature does not hold its model's variables

    def predict(image, nihss):
        image = tf.constant(np.asarray(image, np.float32))
        return graph(image, tf.constant(np.asarray(nihss, np.float32))).numpy()

    return predict


def check_path(path: str | Path) -> Path:
    """Refuse, before TensorFlow is started, what cannot be a model.

    Raises:
        InputError: no such file or folder, or neither ``.keras`` nor a SavedModel.
    """
    path = Path(path)
    if path.is_dir():
        versions = sorted(
            (p for p in path.glob("[0-9]*") if p.name.isdigit()), key=lambda p: int(p.name)
        )
        path = versions[-1] if versions else path
        if not (path / "saved_model.pb").is_file():
            raise InputError(
                f"model {path}: the folder holds no saved_model.pb; expected a SavedModel"
            )
    elif not path.is_file():
        raise InputError(
            f"model {path}: no such file; expected RUN/fold-N/best.keras, which "
            "python -m tf_hypoperfusion.train writes, or saved_models/NAME/VERSION"
        )
    elif path.suffix != ".keras":
        raise InputError(f"model {path}: expected a .keras file or a SavedModel folder")
    return path


def describe(path: str | Path) -> dict[str, Any]:
    """What is known of a model: path, checksum, and the cohort it was trained on.

    Read from ``config.json`` beside ``best.keras``, or ``model_card.json`` in a SavedModel;
    ``cohort`` is None where neither is there.
    """
    path = check_path(path)
    file = path / "saved_model.pb" if path.is_dir() else path
    card = path / "model_card.json" if path.is_dir() else path.with_name("config.json")
    try:
        known = json.loads(card.read_text())
    except (OSError, ValueError):
        known = {}
    return {
        "path": str(path),
        "sha256": sha256(file),
        "cohort": (known.get("records") or {}).get("cohort"),
        "fold": known.get("fold"),
    }
