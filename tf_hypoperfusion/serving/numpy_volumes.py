"""What :mod:`graph` answers, without TensorFlow: the same three signatures around any predictor.

The checks are those of the graph; the steps are those of ``predict``: ``intensity``,
``sliding_window``, ``labels``.
"""

import io
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_tools import intensity, labels
from data_tools.grid import GRID_SHAPE, NIHSS_MISSING
from tf_hypoperfusion.config import CORE_THRESHOLD
from tf_hypoperfusion.inference import sliding_window
from tf_hypoperfusion.inference.calibration import Calibration
from tf_hypoperfusion.inference.sliding_window import WINDOWS_PER_CALL, SlabModel
from tf_hypoperfusion.serving import answers, numpy_arrays, request_checks
from tf_hypoperfusion.serving.answers import HAIR
from tf_hypoperfusion.serving.request_checks import VOLUMES, Patient

# Arrays as a request holds them or an answer does; of text and bytes, objects.
Arrays = Mapping[str, NDArray]


def prepare() -> None:
    """Build what is kept from the first request on."""
    request_checks.moves()
    request_checks.places()


def averaged(model: SlabModel) -> SlabModel:
    """A model whose networks answer together, by their average."""

    def predict(image: NDArray[np.float32], nihss: NDArray[np.float32]) -> NDArray[np.float32]:
        answer = model.predict(image, nihss)
        each = answer[..., :-1] if model.cores else answer
        mean = each.mean(axis=-1, keepdims=True, dtype=np.float64).astype(np.float32)
        return np.concatenate([mean, answer[..., -1:]], axis=-1) if model.cores else mean

    return SlabModel(predict, cores=model.cores)


def predict_slabs(network: SlabModel, inputs: Arrays) -> dict[str, NDArray]:
    """Probability of windows that a client cut and normalised itself.

    Args:
        network: what is asked.
        inputs: ``image`` and ``nihss``, as :func:`graph.predict_slabs`.

    Returns:
        ``probability`` float32 [b, 128, 128, 16, 1], and perhaps ``core``.

    Raises:
        InputError: for anything else; the message says what.
    """
    image, nihss = inputs["image"], inputs["nihss"]
    request_checks.check_slabs(numpy_arrays, image, nihss)
    parts = [
        network.predict(image[k : k + WINDOWS_PER_CALL], nihss[k : k + WINDOWS_PER_CALL])
        for k in range(0, len(image), WINDOWS_PER_CALL)
    ]
    answer = np.concatenate(parts)
    if not network.cores:
        return {"probability": answer}
    return {"probability": answer[..., :1], "core": answer[..., 1:]}


def predict_volumes(
    network: SlabModel,
    inputs: Arrays,
    *,
    stride: int,
    info: str,
    calibration: Calibration | None = None,
    core_by: str = "rule",
    answers_without: bool = False,
) -> dict[str, NDArray]:
    """Probability and figures of each patient, as :func:`graph.predict_volumes`.

    Args:
        network: what is asked, window by window.
        inputs: volumes float32 [b, 91, 109, 60], ``nihss``, ``side`` (bytes) and ``voxel_ml``
            [b, 1].
        stride: slices between windows.
        info: what the model is, as JSON.
        calibration: of the network's probability.
        core_by: whose core decides, ``rule`` or ``learnt``, if the network answers with one.
        answers_without: the model was trained to answer without a DWI or an ADC map.

    Raises:
        InputError: a patient that cannot be answered.
    """
    each = []
    for k in range(len(inputs["nihss"])):
        patient = Patient(
            dwi=inputs["dwi"][k],
            adc=inputs["adc"][k],
            brain_mask=inputs["brain_mask"][k],
            nihss=inputs["nihss"][k, 0],
            side=inputs["side"][k, 0].decode(errors="replace"),
            voxel_ml=inputs["voxel_ml"][k, 0],
        )
        with np.errstate(all="ignore"):  # whatever a client sends
            each.append(
                _predict_one(
                    network,
                    patient,
                    stride,
                    calibration=calibration,
                    core_by=core_by,
                    answers_without=answers_without,
                )  # fmt: skip
            )
    outputs = {name: np.stack([one[name] for one in each]) for name in each[0]}
    return outputs | {"model_info": np.full((len(each), 1), info.encode(), object)}


def predict_bytes(
    network: SlabModel,
    inputs: Arrays,
    *,
    stride: int,
    info: str,
    calibration: Calibration | None = None,
    core_by: str = "rule",
    answers_without: bool = False,
) -> dict[str, NDArray]:
    """As :func:`predict_volumes`, with compressed volumes in and out; see :mod:`graph`.

    Args:
        network: what is asked.
        inputs: volumes as gzip of just as many float32 as they have; the rest as there.
        stride: slices between windows.
        info: what the model is.
        calibration: of the network's probability.
        core_by: likewise.
        answers_without: likewise.
    """
    decoded = {name: np.stack([_decode(each) for each in inputs[name]]) for name in VOLUMES}
    outputs = predict_volumes(
        network, {**inputs, **decoded}, stride=stride, info=info, calibration=calibration,
        core_by=core_by, answers_without=answers_without,
    )  # fmt: skip
    cuts = {"probability": answers.threshold(calibration), answers.CORE_PROBABILITY: CORE_THRESHOLD}
    found = {}
    for name, cut in cuts.items():
        if name in outputs:
            levels = answers.png_levels(numpy_arrays, outputs.pop(name), cut)
            found[f"{name}_png_bytes"] = np.array([_png(volume) for volume in levels], object)
    return found | outputs


def _decode(compressed: bytes) -> NDArray[np.float32]:
    raw = zlib.decompress(compressed, wbits=31)
    return np.frombuffer(raw, "<f4").reshape(GRID_SHAPE)


def _png(levels: NDArray[np.uint16]) -> bytes:
    from PIL import Image

    written = io.BytesIO()
    Image.fromarray(levels.reshape(GRID_SHAPE[0], -1)).save(written, "PNG")
    return written.getvalue()


def _predict_one(
    network: SlabModel,
    patient: Patient,
    stride: int,
    *,
    calibration: Calibration | None,
    core_by: str,
    answers_without: bool,
) -> dict[str, NDArray]:
    dwi, adc, brain = patient.dwi, patient.adc, patient.brain_mask > 0
    tissue = request_checks.tissue_of(numpy_arrays, patient)
    request_checks.check(numpy_arrays, patient, tissue, answers_without=answers_without)
    nihss = None if patient.nihss == NIHSS_MISSING else float(patient.nihss)
    said = sliding_window.predict_volume(
        network.predict,
        sliding_window.model_image(dwi, adc, brain, patient.side),
        nihss=intensity.nihss_feature(nihss),
        stride=stride,
        tissue=tissue,
        cores=network.cores,
    )
    probability = answers.calibrated(numpy_arrays, said.mean, calibration)
    voxel_ml = float(patient.voxel_ml)
    rule_ml = np.nan
    if request_checks.given_images(numpy_arrays, patient).both:
        by_rule = labels.core_mask(dwi, adc, brain, voxel_ml * (1 + HAIR))
        rule_ml = np.count_nonzero(by_rule) * voxel_ml
    inside = probability >= answers.threshold(calibration)
    core_ml = {"rule": rule_ml}
    volumes = {"probability": probability}
    if said.core is not None:
        volumes[answers.CORE_PROBABILITY] = said.core
        core_ml["learnt"] = np.count_nonzero(said.core >= CORE_THRESHOLD) * voxel_ml
    figures = answers.figures(
        numpy_arrays,
        hypoperfusion_ml=np.count_nonzero(inside) * voxel_ml,
        core_ml=core_ml,
        core_by=core_by if network.cores else None,
        by=calibration,
        answers_without=answers_without,
    )
    types = answers.figures_of(calibration, core=network.cores, answers_without=answers_without)
    return volumes | {name: _one(value, types[name]) for name, value in figures.items()}


def _one(value: Any, dtype: str) -> NDArray:
    return np.array([value.encode()], object) if dtype == "string" else np.array([value], dtype)
