"""Trained networks -> one SavedModel that averages them, with everything a server needs.

``saved_models/NAME/VERSION/``: the model with its three signatures, ``model_card.json`` and
``model_card.md``, ``checksums.sha256``, and warm-up requests in ``assets.extra``.
"""

import contextlib
import dataclasses
import errno
import functools
import json
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from data_tools.runtime import atomic, progress
from data_tools.runtime.errors import InputError
from data_tools.runtime.tensorflow_start import counted_alone
from tf_hypoperfusion.config import CORE_BY, TEST_STRIDE
from tf_hypoperfusion.inference import calibration, model_files, onnx_model, predictors
from tf_hypoperfusion.inference.calibration import Calibration
from tf_hypoperfusion.inference.model_files import ModelInfo
from tf_hypoperfusion.model import keras_file
from tf_hypoperfusion.serving import model_card, warmup

MAX_VERSION = 2**63 - 1  # TensorFlow Serving keeps it in an int64


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExportPlan:
    """What is to be exported; which version it becomes is found out beside those there.

    Attributes:
        networks: what is known of the ``.keras`` files.
        name: what the server calls the model.
        stride: slices between the windows of the volume signatures.
        precision: that the networks compute in.
        onnx: whether ``model.onnx`` is written beside it.
        calibration: of the networks' average; None if it is not calibrated.
    """

    networks: tuple[ModelInfo, ...]
    name: str
    stride: int
    precision: str
    onnx: bool
    calibration: Calibration | None

    @property
    def checksums(self) -> list[str | tuple[str, ...] | None]:
        """Of the networks, in their order."""
        return [network.sha256 for network in self.networks]


def export(
    models: Sequence[str | Path],
    name: str,
    out: str | Path,
    *,
    version: int | None = None,
    stride: int = TEST_STRIDE,
    onnx: bool = True,
    precision: str = "float32",
    calibration_file: str | None = None,
) -> tuple[Path, bool]:
    """Export networks of one kind as one model that averages their probabilities.

    Args:
        models: ``.keras`` files.
        name: what the server calls it.
        out: folder of all models.
        version: a number above those there; None takes the next.
        stride: slices between the windows of the volume signatures.
        onnx: write the slab signature as ``model.onnx`` too, in float32 and with the networks
            apart; what runs without TensorFlow.
        precision: of the networks' arithmetic, ``float32`` or ``bfloat16``.
        calibration_file: made with just these networks; None takes that of their run, if it was.

    Returns:
        The version's folder, and whether the newest version was this very export already.

    Raises:
        InputError: no such model, a name that is none, a version that does not grow, or a
            calibration of other networks.
    """
    plan = _plan(
        models,
        name,
        stride=stride,
        onnx=onnx,
        precision=precision,
        calibration_file=calibration_file,
    )
    folder = Path(out) / name
    newest = max(versions(folder), default=0)
    if newest and version in (None, newest) and _holds(folder / str(newest), plan):
        return folder / str(newest), True
    version = newest + 1 if version is None else version
    if version <= newest:
        raise InputError(
            f"{folder} already holds version {newest}; versions only grow, or a server would not "
            f"load it. Expected --version={newest + 1} or more."
        )
    for left in folder.glob(".tmp-*"):
        shutil.rmtree(left, ignore_errors=True)
    partial = folder / f".tmp-{version}"  # not a number: a server watching the folder skips it
    try:
        _build(plan, version, partial)
        _write_checksums(partial)
        partial.rename(folder / str(version))
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder / str(version), False


def _plan(
    models: Sequence[str | Path],
    name: str,
    *,
    stride: int,
    onnx: bool,
    precision: str,
    calibration_file: str | None,
) -> ExportPlan:
    """Check what is asked for before TensorFlow is started."""
    if onnx:
        onnx_model.check_installed()
    networks = tuple(model_files.describe(model) for model in models)
    for network in networks:
        if not network.path.endswith(".keras"):
            raise InputError(f"{network.path} is an export already; expected a .keras file")
    plan = ExportPlan(
        networks=networks,
        name=name,
        stride=stride,
        precision=precision,
        onnx=onnx,
        calibration=calibration.of_models(networks, calibration_file),
    )
    if len(set(plan.checksums)) < len(networks):
        raise InputError("--model names the same network twice; expected each once")
    check_name(name)
    return plan


def _holds(version_folder: Path, plan: ExportPlan) -> bool:
    """Whether a version is this export, whole, with the figures that are known today."""
    card = atomic.read_json(version_folder / model_card.FILE)
    return (
        [m.get("sha256") for m in card.get("models") or []] == plan.checksums
        and card.get("stride_slices") == plan.stride
        and card.get("precision", "float32") == plan.precision
        and card.get("calibration") == (plan.calibration and plan.calibration.to_json())
        and card.get("tests") == [t.to_json() for t in model_card.tests(plan.networks)]
        and (not plan.onnx or (version_folder / onnx_model.FILE).is_file())
        and model_card.core_by(card) in (None, CORE_BY)
        and not model_files.damaged(version_folder)
    )


def _build(plan: ExportPlan, version: int, folder: Path) -> None:
    """Write the model, its card and its warm-up requests."""
    progress.now("reading the networks")
    networks = _load(plan.networks)
    card = model_card.ModelCard(
        name=plan.name,
        version=version,
        networks=model_card.networks(plan.networks),
        tests=model_card.tests(plan.networks),
        stride_slices=plan.stride,
        precision=plan.precision,
        calibration=plan.calibration,
        with_core=sum("core" in network.output for network in networks),
    )
    info = model_card.info(card.to_json())
    folder.mkdir(parents=True)
    progress.now("writing model.onnx and comparing it with the networks")
    # First, and with stock layers, which other programs know better.
    difference = _write_onnx(networks, folder, info) if plan.onnx else None
    progress.now("writing the SavedModel")
    with _full_disk_named(folder.parent):
        networks = [predictors.for_prediction(network, plan.precision) for network in networks]
        by = model_card.core_by(card.to_json())
        _save(networks, folder, plan=plan, info=json.dumps(info), core_by=by)
    progress.now("comparing the SavedModel, writing its card and its first requests")
    if difference is not None:
        onnx = model_card.OnnxFacts(
            onnx_model.FILE, onnx_model.OPSET, max(difference, _from_saved(folder, plan.precision))
        )
        card = dataclasses.replace(card, onnx=onnx)
    warmup.write(folder, plan.name)
    model_card.write(card, folder)


def _write_onnx(networks: Sequence[Any], folder: Path, info: model_card.Facts) -> float:
    return onnx_model.write(
        [functools.partial(_average, [network]) for network in networks],
        folder / onnx_model.FILE,
        {k: v if isinstance(v, str) else json.dumps(v) for k, v in info.items()},
    )


def _from_saved(folder: Path, precision: str) -> float:
    """How far the ONNX file's averages are from the SavedModel beside it, as it was written.

    0 for one that computes in 16 bits: the file does not, and was compared with the networks.
    """
    if precision != "float32":
        return 0.0
    saved = predictors.load(folder, "tensorflow").predict(*onnx_model.random_slabs())
    names = predictors.ANSWERS[: saved.shape[-1]]
    return max(
        onnx_model.difference(folder / onnx_model.FILE, saved[..., [k]], name)
        for k, name in enumerate(names)
    )


@contextlib.contextmanager
def _full_disk_named(folder: Path) -> Iterator[None]:
    """Raise Python's error for a full disk, for which TensorFlow has errors of its own."""
    try:
        yield
    except Exception as error:
        for number in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT):
            if os.strerror(number).lower() in str(error).lower():
                raise OSError(number, os.strerror(number), str(folder)) from error
        raise


def _write_checksums(folder: Path) -> None:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    lines = [f"{atomic.sha256(path)}  {path.relative_to(folder)}\n" for path in files]
    atomic.write_text(folder / model_files.CHECKSUMS, "".join(lines))


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
    return [keras_file.load(Path(each.path)) for each in known]


def _average(networks: Sequence[Any], image: Any, nihss: Any) -> dict[str, Any]:
    """The mean of each answer that all networks give: ``probability``, and perhaps ``core``."""
    import tensorflow as tf

    answers = [n({"image": image, "nihss": nihss}, training=False) for n in networks]
    if len(answers) == 1:
        return answers[0]
    common = [name for name in answers[0] if all(name in answer for answer in answers)]
    totals = {name: tf.add_n([tf.cast(a[name], tf.float64) for a in answers]) for name in common}
    return {name: tf.cast(total / len(answers), tf.float32) for name, total in totals.items()}


def _save(
    networks: Sequence[Any], folder: Path, *, plan: ExportPlan, info: str, core_by: str | None
) -> None:
    import tensorflow as tf

    from tf_hypoperfusion.model.keras_compat import raw_variable
    from tf_hypoperfusion.serving import graph

    def network(image, nihss):
        return _average(networks, image, nihss)

    def slabs(inputs):
        return graph.predict_slabs(network, inputs)

    options: dict[str, Any] = {
        "stride": plan.stride,
        "info": info,
        "calibration": plan.calibration,
        "core_by": core_by,
        "answers_without": all(map(model_files.answers_without, plan.networks)),
    }

    def volumes(inputs):
        return graph.predict_volumes(network, inputs, **options)

    def compressed(inputs):
        return graph.predict_bytes(network, inputs, **options)

    # Not keras.export.ExportArchive, which writes every weight twice.
    module = tf.Module()
    module.weights = [raw_variable(v) for each in networks for v in each.variables]
    # Loops and conditions are written as such: autograph would only read every function, 7 s.
    endpoints = {
        name: tf.function(counted_alone(function), input_signature=[inputs], autograph=False)
        for name, function, inputs in (
            ("serving_default", slabs, graph.slab_inputs()),
            ("predict_volume", volumes, graph.volume_inputs()),
            ("predict_volume_bytes", compressed, graph.bytes_inputs()),
        )
    }
    tf.saved_model.save(module, str(folder), endpoints)
