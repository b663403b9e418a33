"""What :mod:`graph` answers, without TensorFlow: the same three signatures around any predictor.

The checks are those of the graph; the steps are those of ``predict``: ``intensity``,
``sliding_window``, ``labels``.
"""

import io
import zlib
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from data_tools import intensity, labels
from data_tools.grid import GRID_SHAPE, NIHSS_MISSING
from tf_hypoperfusion.inference import sliding_window
from tf_hypoperfusion.inference.calibration import Calibration
from tf_hypoperfusion.inference.sliding_window import WINDOWS_PER_CALL, Predictor
from tf_hypoperfusion.serving import answers, numpy_arrays, request_checks
from tf_hypoperfusion.serving.answers import FIGURES, HAIR
from tf_hypoperfusion.serving.request_checks import VOLUMES, Patient

# Arrays as a request holds them or an answer does; of text and bytes, objects.
Arrays = Mapping[str, NDArray]


def prepare() -> None:
    """Build what is kept from the first request on."""
    request_checks.moves()
    request_checks.places()


def averaged(predictor: Predictor) -> Predictor:
    """A predictor whose networks answer together, by their average."""

    def predict(image: NDArray[np.float32], nihss: NDArray[np.float32]) -> NDArray[np.float32]:
        each = predictor(image, nihss)
        return each.mean(axis=-1, keepdims=True, dtype=np.float64).astype(np.float32)

    return predict


def predict_slabs(network: Predictor, inputs: Arrays) -> dict[str, NDArray]:
    """Probability of windows that a client cut and normalised itself.

    Args:
        network: what is asked.
        inputs: ``image`` and ``nihss``, as :func:`graph.predict_slabs`.

    Returns:
        ``probability`` float32 [b, 128, 128, 16, 1].

    Raises:
        InputError: for anything else; the message says what.
    """
    image, nihss = inputs["image"], inputs["nihss"]
    request_checks.check_slabs(numpy_arrays, image, nihss)
    parts = [
        network(image[k : k + WINDOWS_PER_CALL], nihss[k : k + WINDOWS_PER_CALL])
        for k in range(0, len(image), WINDOWS_PER_CALL)
    ]
    return {"probability": np.concatenate(parts)}


def predict_volumes(
    network: Predictor, inputs: Arrays, *,
    stride: int, info: str, calibration: Calibration | None = None,
) -> dict[str, NDArray]:  # fmt: skip
    """Probability and figures of each patient, as :func:`graph.predict_volumes`.

    Args:
        network: what is asked, window by window.
        inputs: volumes float32 [b, 91, 109, 60], ``nihss``, ``side`` (bytes) and ``voxel_ml``
            [b, 1].
        stride: slices between windows.
        info: what the model is, as JSON.
        calibration: of the network's probability.

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
            each.append(_predict_one(network, patient, stride, calibration))
    outputs = {name: np.stack([one[name] for one in each]) for name in each[0]}
    return outputs | {"model_info": np.full((len(each), 1), info.encode(), object)}


def predict_bytes(
    network: Predictor, inputs: Arrays, *,
    stride: int, info: str, calibration: Calibration | None = None,
) -> dict[str, NDArray]:  # fmt: skip
    """As :func:`predict_volumes`, with compressed volumes in and out; see :mod:`graph`.

    Args:
        network: what is asked.
        inputs: volumes as gzip of just as many float32 as they have; the rest as there.
        stride: slices between windows.
        info: what the model is.
        calibration: of the network's probability.
    """
    decoded = {name: np.stack([_decode(each) for each in inputs[name]]) for name in VOLUMES}
    outputs = predict_volumes(
        network, {**inputs, **decoded}, stride=stride, info=info, calibration=calibration
    )
    threshold = answers.threshold(calibration)
    png = np.array([_png(volume, threshold) for volume in outputs.pop("probability")], object)
    return {"probability_png_bytes": png} | outputs


def _decode(compressed: bytes) -> NDArray[np.float32]:
    raw = zlib.decompress(compressed, wbits=31)
    return np.frombuffer(raw, "<f4").reshape(GRID_SHAPE)


def _png(probability: NDArray[np.float32], threshold: float) -> bytes:
    from PIL import Image

    levels = answers.levels(numpy_arrays, probability, threshold).astype(np.uint16)
    written = io.BytesIO()
    Image.fromarray(levels.reshape(GRID_SHAPE[0], -1)).save(written, "PNG")
    return written.getvalue()


def _predict_one(
    network: Predictor, patient: Patient, stride: int, calibration: Calibration | None
) -> dict[str, NDArray]:
    dwi, adc, brain = patient.dwi, patient.adc, patient.brain_mask > 0
    tissue = intensity.parenchyma(adc, brain)
    request_checks.check(numpy_arrays, patient, tissue)
    nihss = None if patient.nihss == NIHSS_MISSING else float(patient.nihss)
    (probability,) = sliding_window.predict_volume(
        network,
        sliding_window.model_image(dwi, adc, brain, patient.side),
        nihss=intensity.nihss_feature(nihss),
        stride=stride,
        tissue=tissue,
    )
    if calibration:
        probability = calibration.probability(probability)
    voxel_ml = float(patient.voxel_ml)
    core = labels.core_mask(dwi, adc, brain, voxel_ml * (1 + HAIR))
    figures = answers.decide(
        numpy_arrays,
        hypoperfusion_ml=np.count_nonzero(probability >= answers.threshold(calibration)) * voxel_ml,
        core_ml=np.count_nonzero(core) * voxel_ml,
    )
    found = {name: np.array([value], FIGURES[name]) for name, value in figures.items()}
    if calibration:
        said = answers.interval(numpy_arrays, calibration, figures)
        found["answer"] = np.array([str(said.pop("answer")).encode()], object)
        found |= {name: np.array([value], np.float32) for name, value in said.items()}
    return {"probability": probability} | found
