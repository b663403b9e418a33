"""Trained networks -> one SavedModel that averages them, with everything a server needs.

``saved_models/NAME/VERSION/``: the model with its three signatures, ``model_card.json`` and
``model_card.md``, ``checksums.sha256``, and warm-up requests in ``assets.extra``.
"""

import errno
import json
import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data_tools.grid import (
    GRID_SHAPE,
    NIHSS_DIVISOR,
    NIHSS_MAX,
    NIHSS_MISSING,
    VOXEL_ML,
)
from data_tools.intensity import MAX_RATIO
from data_tools.runtime import atomic
from data_tools.runtime.errors import InputError
from tf_hypoperfusion.config import RESEARCH_NOTICE, TEST_STRIDE
from tf_hypoperfusion.inference import model_files, onnx_model, predictors
from tf_hypoperfusion.inference.model_files import ModelInfo
from tf_hypoperfusion.inference.onnx_model import SLAB
from tf_hypoperfusion.serving import model_card

MAX_VERSION = 2**63 - 1  # TensorFlow Serving keeps it in an int64
WARMUP_FILE = "assets.extra/tf_serving_warmup_requests"


def export(
    models: Sequence[str | Path], name: str, out: str | Path, version: int | None = None,
    stride: int = TEST_STRIDE, onnx: bool = False, precision: str = "float32",
) -> tuple[Path, bool]:  # fmt: skip
    """Export networks of one kind as one model that averages their probabilities.

    Args:
        models: ``.keras`` files. name: what the server calls it. out: folder of all models.
        version: a number above those there; None takes the next.
        stride: slices between the windows of the volume signatures.
        onnx: the slab signature as ``model.onnx`` too, in float32.
        precision: of the networks' arithmetic, ``float32`` or ``bfloat16``.

    Returns:
        The version's folder, and whether the newest version was this very export already.

    Raises:
        InputError: no such model, a name that is none, or a version that does not grow.
    """
    if onnx:
        onnx_model.check_installed()
    known = [model_files.describe(model) for model in models]
    for each in known:
        if not each.path.endswith(".keras"):
            raise InputError(f"{each.path} is an export already; expected a .keras file")
    sums = [each.sha256 for each in known]
    if len(set(sums)) < len(sums):
        raise InputError("--model names the same network twice; expected each once")
    check_name(name)
    folder = Path(out) / name
    newest = max(versions(folder), default=0)
    if newest and version in (None, newest):
        card = atomic.read_json(folder / str(newest) / "model_card.json")
        same = [m.get("sha256") for m in card.get("models") or []] == sums
        same = same and card.get("stride_slices") == stride
        same = same and card.get("precision", "float32") == precision
        same = same and card.get("tests") == model_card.tests(known)
        same = same and (not onnx or (folder / str(newest) / onnx_model.FILE).is_file())
        if same and not model_files.damaged(folder / str(newest)):
            return folder / str(newest), True
    version = newest + 1 if version is None else version
    if version <= newest:
        raise InputError(
            f"{folder} already holds version {newest}; versions only grow, or a server would not "
            f"load it. Expected --version={newest + 1} or more."
        )
    partial = folder / f".tmp-{version}"  # not a number: a server watching the folder skips it
    for left in folder.glob(".tmp-*"):
        shutil.rmtree(left, ignore_errors=True)
    try:
        networks = _load(known)
        card = model_card.facts(known, name, version, stride, precision)
        info = {
            "name": name,
            "version": version,
            "sha256": sums[0] if len(sums) == 1 else sums,
            "cohort": card["records"]["cohort"],
            "notice": RESEARCH_NOTICE,
        }
        partial.mkdir(parents=True)
        if onnx:  # first, and with stock layers, which other programs know better
            words = {k: v if isinstance(v, str) else json.dumps(v) for k, v in info.items()}
            card["onnx"] = {
                "file": onnx_model.FILE,
                "opset": onnx_model.OPSET,
                "largest_difference_from_tensorflow": onnx_model.write(
                    lambda image, nihss: _average(networks, image, nihss),
                    partial / onnx_model.FILE,
                    words,
                ),
            }
        try:
            networks = [predictors.for_prediction(network, precision) for network in networks]
            _save(networks, partial, stride, json.dumps(info))
        except Exception as error:  # TensorFlow has errors of its own for a full disk
            for number in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT):
                if os.strerror(number).lower() in str(error).lower():
                    raise OSError(number, os.strerror(number), str(folder)) from error
            raise
        write_warmup(partial / WARMUP_FILE, name)
        atomic.write_json(partial / "model_card.json", card)
        atomic.write_text(partial / "model_card.md", model_card.markdown(card))
        files = sorted(path for path in partial.rglob("*") if path.is_file())
        lines = [f"{atomic.sha256(path)}  {path.relative_to(partial)}\n" for path in files]
        atomic.write_text(partial / model_files.CHECKSUMS, "".join(lines))
        partial.rename(folder / str(version))
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder / str(version), False


def check_name(name: str) -> None:
    """Refuse a model's name that a folder or a server's address cannot have.

    Raises:
        InputError: it is no such name.
    """
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}", name):
        raise InputError(f"--name is {name!r}; expected letters, digits, _, - and . only")


def versions(folder: Path) -> list[int]:
    """Numbers of the versions in a model's folder, rising; [] where there is none."""
    found = folder.iterdir() if folder.is_dir() else ()
    return sorted(
        int(path.name)
        for path in found
        if re.fullmatch("[1-9][0-9]{0,18}", path.name) and int(path.name) <= MAX_VERSION
    )


def _load(known: Sequence[ModelInfo]) -> list[Any]:
    networks = []
    for each in known:
        network = predictors.load_keras(Path(each.path))
        shapes = {t.name.split(":")[0]: tuple(t.shape[1:]) for t in network.inputs}
        if shapes != {"image": SLAB, "nihss": (1,)}:
            raise InputError(
                f"model {each.path}: takes {shapes}; expected image {SLAB} and nihss (1,)"
            )
        networks.append(network)
    return networks


def _average(networks: Sequence[Any], image: Any, nihss: Any) -> Any:
    import tensorflow as tf

    answers = [n({"image": image, "nihss": nihss}, training=False) for n in networks]
    if len(answers) == 1:
        return answers[0]["probability"]
    total = tf.add_n([tf.cast(a["probability"], tf.float64) for a in answers])
    return tf.cast(total / len(answers), tf.float32)


def _save(networks: Sequence[Any], folder: Path, stride: int, info: str) -> None:
    import tensorflow as tf

    from tf_hypoperfusion.model.keras_compat import raw_variable
    from tf_hypoperfusion.serving import graph as serving_graph

    def network(image, nihss):
        return _average(networks, image, nihss)

    def slab(inputs):
        # A wrong rank that reached the first convolution would abort the server's process.
        image = tf.ensure_shape(inputs["image"], (None, *SLAB))
        nihss = tf.ensure_shape(inputs["nihss"], (None, 1))
        finite = tf.reduce_all(tf.math.is_finite(image)) & tf.reduce_all(tf.math.is_finite(nihss))
        check = tf.debugging.Assert(finite, ["image, nihss: hold NaN or infinite values"])
        ratios = tf.reduce_all(~(tf.abs(image) > MAX_RATIO) | ~tf.math.is_finite(image))
        ratio = tf.debugging.Assert(
            ratios, [f"image: expected ratios to the parenchymal mean, at most {MAX_RATIO:g}"]
        )
        odd = (nihss < NIHSS_MISSING) | (nihss > NIHSS_MAX / NIHSS_DIVISOR)
        known = tf.reduce_all(~odd | ~tf.math.is_finite(nihss))
        feature = tf.debugging.Assert(
            known, [f"nihss: expected NIHSS / {NIHSS_DIVISOR:g}, or {NIHSS_MISSING:g} if unknown"]
        )
        same = tf.debugging.assert_equal(
            tf.shape(image)[0], tf.shape(nihss)[0], "image and nihss: expected one NIHSS a slab"
        )
        with tf.control_dependencies([check, ratio, feature, same]):
            return {"probability": network(tf.identity(image), tf.identity(nihss))}

    def volume(inputs):
        return serving_graph.predict_volumes(network, inputs, stride, info)

    def compressed(inputs):
        return serving_graph.predict_bytes(network, inputs, stride, info)

    slab_inputs = {
        "image": tf.TensorSpec((None, *SLAB), tf.float32, "image"),
        "nihss": tf.TensorSpec((None, 1), tf.float32, "nihss"),
    }
    # Not keras.export.ExportArchive, which writes every weight twice.
    module = tf.Module()
    module.weights = [raw_variable(v) for each in networks for v in each.variables]
    endpoints = {
        name: tf.function(call, input_signature=[inputs])
        for name, call, inputs in (
            ("serving_default", slab, slab_inputs),
            ("predict_volume", volume, serving_graph.volume_inputs()),
            ("predict_volume_bytes", compressed, serving_graph.bytes_inputs()),
        )
    }
    tf.saved_model.save(module, str(folder), endpoints)


def warmup_inputs(signature: str) -> dict[str, Any]:
    """A smallest request of a signature, as (dtype name, shape, one value that fills it)."""
    scalars = {
        "nihss": ("float32", (1, 1), 14.0),
        "side": ("string", (1, 1), b"left"),
        "voxel_ml": ("float32", (1, 1), VOXEL_ML),
    }
    values = {"dwi": 100.0, "adc": 800.0, "brain_mask": 1.0}
    if signature == "serving_default":
        return {"image": ("float32", (1, *SLAB), 0.0), "nihss": ("float32", (1, 1), 0.5)}
    if signature == "predict_volume":
        return {n: ("float32", (1, *GRID_SHAPE), v) for n, v in values.items()} | scalars
    import gzip

    import numpy as np

    def packed(value: float) -> bytes:
        return gzip.compress(np.full(GRID_SHAPE, value, "<f4").tobytes(), mtime=0)

    return {n: ("string", (1,), packed(v)) for n, v in values.items()} | scalars


def write_warmup(path: Path, name: str) -> None:
    """Requests that TensorFlow Serving runs before it says that a version is ready."""
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

    path.parent.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for signature in ("serving_default", "predict_volume", "predict_volume_bytes"):
            request = predict_pb2.PredictRequest()
            request.model_spec.name = name
            request.model_spec.signature_name = signature
            for key, (dtype, shape, value) in warmup_inputs(signature).items():
                proto = request.inputs[key]
                proto.dtype = tf.as_dtype(dtype).as_datatype_enum
                proto.tensor_shape.CopyFrom(tf.TensorShape(shape).as_proto())
                # One value stands for all of a tensor whose others are the same.
                field = proto.string_val if dtype == "string" else proto.float_val
                field.append(value)
            log = prediction_log_pb2.PredictionLog(
                predict_log=prediction_log_pb2.PredictLog(request=request)
            )
            writer.write(log.SerializeToString())
