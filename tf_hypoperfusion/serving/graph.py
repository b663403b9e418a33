"""From a patient's volumes to probability, mL and decision inside a TensorFlow graph.

What a server runs, so that a client sends the volumes it has and cannot get the normalisation, the
side or the windows wrong. Every step has a numpy twin (``intensity``, ``sliding_window``,
``labels``, ``criteria``), whose numbers are taken from there; tests hold both equal.

Volumes lie on the MNI grid of ``data_tools.grid``. The first dimension counts patients: a server
that batches requests joins them along it.
"""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from data_tools import grid, labels, slabs
from data_tools.grid import (
    ADC_CORE_UM2_PER_S,
    ADC_CSF_UM2_PER_S,
    FRAME_PAD_X,
    FRAME_PAD_Y,
    FRAME_SHAPE,
    GRID_SHAPE,
    NIHSS_DIVISOR,
    NIHSS_MISSING,
    SIDES,
    SLAB_SLICES,
)
from tf_hypoperfusion.config import CORE_THRESHOLD, SLAB
from tf_hypoperfusion.inference.calibration import Calibration
from tf_hypoperfusion.inference.sliding_window import WINDOWS_PER_CALL
from tf_hypoperfusion.serving import answers, graph_arrays, request_checks
from tf_hypoperfusion.serving.answers import HAIR
from tf_hypoperfusion.serving.graph_arrays import mean_of
from tf_hypoperfusion.serving.request_checks import (
    MAX_COMPRESSED_BYTES,
    VOLUME_BYTES,
    VOLUMES,
    Patient,
)

# (windows, 128, 128, 16, 4), (windows, 1) -> "probability" and perhaps "core", each
# (windows, 128, 128, 16, 1)
Network = Callable[[tf.Tensor, tf.Tensor], dict[str, tf.Tensor]]

SCALARS = {"nihss": tf.float32, "side": tf.string, "voxel_ml": tf.float32}
GZIP_START = b"\x1f\x8b"


def slab_inputs() -> dict[str, tf.TensorSpec]:
    """Inputs of ``serving_default``: ``image`` [b, 128, 128, 16, 4], ``nihss`` [b, 1]."""
    return {
        "image": tf.TensorSpec((None, *SLAB), tf.float32, "image"),
        "nihss": tf.TensorSpec((None, 1), tf.float32, "nihss"),
    }


def volume_inputs() -> dict[str, tf.TensorSpec]:
    """Inputs of ``predict_volume``: volumes [b, 91, 109, 60], ``nihss``, ``side``, ``voxel_ml``."""
    volumes = {name: tf.TensorSpec((None, *GRID_SHAPE), tf.float32, name) for name in VOLUMES}
    return volumes | _scalar_inputs()


def bytes_inputs() -> dict[str, tf.TensorSpec]:
    """Inputs of ``predict_volume_bytes``: volumes as gzip of float32, little endian, C order."""
    return {name: tf.TensorSpec((None,), tf.string, name) for name in VOLUMES} | _scalar_inputs()


def _scalar_inputs() -> dict[str, tf.TensorSpec]:
    return {name: tf.TensorSpec((None, 1), dtype, name) for name, dtype in SCALARS.items()}


def predict_slabs(network: Network, inputs: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """Probability of windows that a client cut and normalised itself.

    Args:
        network: what is asked.
        inputs: as :func:`slab_inputs`: ratios to the parenchymal mean, ADC mask and side;
            ``nihss`` divided by 21, or -1 if unknown.

    Returns:
        What the network gives: ``probability`` float32 [b, 128, 128, 16, 1], and perhaps ``core``.

    Raises:
        tf.errors.InvalidArgumentError: when run, on anything else; the message says what.
    """
    # A wrong rank that reached the first convolution would abort the server's process.
    image = tf.ensure_shape(inputs["image"], (None, *SLAB))
    nihss = tf.ensure_shape(inputs["nihss"], (None, 1))
    checks = [request_checks.check_slabs(graph_arrays, image, nihss)]
    checks.append(
        tf.debugging.assert_equal(
            tf.shape(image)[0], tf.shape(nihss)[0], "image and nihss: expected one NIHSS a slab"
        )
    )
    with tf.control_dependencies(checks):
        return network(tf.identity(image), tf.identity(nihss))


def predict_volumes(
    network: Network,
    inputs: dict[str, tf.Tensor],
    *,
    stride: int,
    info: str,
    calibration: Calibration | None = None,
    core_by: str | None = None,
    answers_without: bool = False,
) -> dict[str, tf.Tensor]:
    """Probability and figures of each patient.

    Args:
        network: what is asked, window by window.
        inputs: as :func:`volume_inputs`: ``adc`` in 1e-6 mm2/s, ``brain_mask`` 0 or 1, ``nihss``
            0 to 42 or -1 if unknown, ``side`` left, right, bilateral or unknown, ``voxel_ml`` the
            patient's tissue in a voxel (0.008 divided by the determinant of the affine to MNI). A
            ``dwi`` or ``adc`` that is 0 everywhere is not given; then no core is known (NaN).
        stride: slices between windows.
        info: what the model is, as JSON; goes out with every answer, so that no client takes a
            model of simulated patients for another.
        calibration: of the network's probability.
        core_by: whose core decides, ``rule`` or ``learnt``, if the network answers with one.
        answers_without: the model was trained to answer without a DWI or an ADC map.

    Returns:
        ``probability`` float32 [b, 91, 109, 60], each of :func:`answers.figures_of` [b, 1],
        ``model_info`` [b, 1], and with a core ``core_probability``, likewise a volume.

    Raises:
        tf.errors.InvalidArgumentError: when run, on anything else; the message says what.
    """
    shaped = {
        name: tf.ensure_shape(inputs[name], (None, *GRID_SHAPE) if name in VOLUMES else (None, 1))
        for name in (*VOLUMES, *SCALARS)
    }

    def one(patient: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        scalars = {name: patient[name][0] for name in SCALARS}
        return _predict_one(
            network, Patient(**patient | scalars), stride,
            calibration=calibration, core_by=core_by, answers_without=answers_without,
        )  # fmt: skip

    volumes = ["probability", *([answers.CORE_PROBABILITY] if core_by else [])]
    signature = {name: tf.TensorSpec(GRID_SHAPE, tf.float32) for name in volumes} | {
        name: tf.TensorSpec((1,), tf.as_dtype(dtype))
        for name, dtype in answers.figures_of(
            calibration, core=bool(core_by), answers_without=answers_without
        ).items()
    }
    outputs = tf.map_fn(one, shaped, fn_output_signature=signature, parallel_iterations=1)
    return outputs | {"model_info": tf.fill(tf.shape(shaped["nihss"]), info)}


def predict_bytes(
    network: Network,
    inputs: dict[str, tf.Tensor],
    *,
    stride: int,
    info: str,
    calibration: Calibration | None = None,
    core_by: str | None = None,
    answers_without: bool = False,
) -> dict[str, tf.Tensor]:
    """As :func:`predict_volumes`, with compressed volumes in and out.

    Returns:
        ``probability_png_bytes`` [b] (TensorFlow Serving's JSON writes outputs of that ending in
        base64): a 16-bit grey PNG of 91 rows and 109 x 60 columns each; probability
        is its value / 65535. With a core ``core_probability_png_bytes`` too. And the rest.
    """
    decoded = {name: inputs[name] for name in SCALARS}
    for name in VOLUMES:
        compressed = tf.ensure_shape(inputs[name], (None,))
        decoded[name] = tf.map_fn(
            lambda value, name=name: _decode(value, name),
            compressed,
            fn_output_signature=tf.TensorSpec(GRID_SHAPE, tf.float32),
        )
    outputs = predict_volumes(
        network, decoded, stride=stride, info=info, calibration=calibration,
        core_by=core_by, answers_without=answers_without,
    )  # fmt: skip

    def pictures(name: str, cut: float) -> dict[str, tf.Tensor]:
        def encode(probability: tf.Tensor) -> tf.Tensor:
            levels = answers.png_levels(graph_arrays, probability, cut)
            return tf.io.encode_png(tf.reshape(levels, (GRID_SHAPE[0], -1, 1)))

        string = tf.TensorSpec((), tf.string)
        return {
            f"{name}_png_bytes": tf.map_fn(encode, outputs.pop(name), fn_output_signature=string)
        }

    found = pictures("probability", answers.threshold(calibration))
    if core_by:
        found |= pictures(answers.CORE_PROBABILITY, CORE_THRESHOLD)
    return found | outputs


def _decode(compressed: tf.Tensor, name: str) -> tf.Tensor:
    # gzip ends with the size of what it holds: megabytes that would become gigabytes stop here.
    length = tf.strings.length(compressed)
    end = tf.strings.substr(compressed, tf.maximum(length - 4, 0), 4)
    four = tf.strings.substr(tf.strings.join([end, b"\0\0\0\0"]), 0, 4)
    told = tf.io.decode_raw(four, tf.int32, little_endian=True)[0]
    start = tf.strings.substr(compressed, 0, tf.minimum(length, len(GZIP_START)))
    is_gzip = (length >= 18) & (start == GZIP_START)
    found = tf.where(
        is_gzip, tf.strings.join(["it holds ", tf.strings.as_string(told)]), "it is no gzip"
    )
    message = tf.strings.join([request_checks.expected_bytes(name), "; ", found])
    plausible = is_gzip & (length <= MAX_COMPRESSED_BYTES) & (told == VOLUME_BYTES)
    with tf.control_dependencies([tf.debugging.Assert(plausible, [message])]):
        raw = tf.io.decode_compressed(compressed, "GZIP")
    check = tf.debugging.Assert(tf.strings.length(raw) == VOLUME_BYTES, [message])
    with tf.control_dependencies([check]):
        return tf.reshape(tf.io.decode_raw(raw, tf.float32, little_endian=True), GRID_SHAPE)


def _predict_one(
    network: Network,
    patient: Patient,
    stride: int,
    *,
    calibration: Calibration | None,
    core_by: str | None,
    answers_without: bool,
) -> dict[str, tf.Tensor]:
    dwi, adc, nihss, voxel_ml = patient.dwi, patient.adc, patient.nihss, patient.voxel_ml
    brain = patient.brain_mask > 0
    given = request_checks.given_images(graph_arrays, patient)
    tissue = request_checks.tissue_of(graph_arrays, patient)
    check = request_checks.check(graph_arrays, patient, tissue, answers_without=answers_without)
    with tf.control_dependencies([check]):
        dwi_mean, adc_mean = (mean_of(v, tissue) for v in (dwi, adc))
    zero = tf.zeros_like(dwi)
    dwi_ratio = tf.where(brain & given.dwi, tf.maximum(dwi, 0.0) / dwi_mean, zero)
    adc_ratio = tf.where(tissue & given.adc, adc / adc_mean, zero)
    adc_mask = tf.cast(brain & (adc > 0) & (adc < ADC_CORE_UM2_PER_S), tf.float32)
    image = _image(dwi_ratio=dwi_ratio, adc_ratio=adc_ratio, adc_mask=adc_mask, side=patient.side)
    feature = tf.where(nihss == NIHSS_MISSING, NIHSS_MISSING, nihss / NIHSS_DIVISOR)
    averages = {
        name: tf.where(tissue, average, zero)
        for name, average in _windows(network, image, feature, stride, core=bool(core_by)).items()
    }
    probability = answers.calibrated(graph_arrays, averages["probability"], calibration)
    by_rule = _core(dwi_ratio=dwi_ratio, adc=adc, brain=brain, voxel_ml=voxel_ml)
    unknown = tf.constant(np.nan, tf.float64)
    core_ml = {"rule": tf.where(given.both, _ml(by_rule, voxel_ml), unknown)}
    volumes = {"probability": probability}
    if core_by:
        volumes[answers.CORE_PROBABILITY] = averages["core"]
        core_ml["learnt"] = _ml(averages["core"] >= CORE_THRESHOLD, voxel_ml)
    figures = answers.figures(
        graph_arrays,
        hypoperfusion_ml=_ml(probability >= answers.threshold(calibration), voxel_ml),
        core_ml=core_ml,
        core_by=core_by,
        by=calibration,
        answers_without=answers_without,
    )
    types = answers.figures_of(calibration, core=bool(core_by), answers_without=answers_without)
    return volumes | {
        name: tf.reshape(tf.cast(value, types[name]), (1,)) for name, value in figures.items()
    }


def _image(
    *, dwi_ratio: tf.Tensor, adc_ratio: tf.Tensor, adc_mask: tf.Tensor, side: tf.Tensor
) -> tf.Tensor:
    """The network's image of the whole head: float32 (128, 128, 60, 4)."""
    after_x = FRAME_SHAPE[0] - GRID_SHAPE[0] - FRAME_PAD_X
    after_y = FRAME_SHAPE[1] - GRID_SHAPE[1] - FRAME_PAD_Y
    # Records hold float16: the network has only seen such values.
    ratios = [tf.cast(tf.cast(v, tf.float16), tf.float32) for v in (dwi_ratio, adc_ratio)]
    channels = tf.stack([*ratios, adc_mask], axis=-1)
    framed = tf.pad(channels, [[FRAME_PAD_X, after_x], [FRAME_PAD_Y, after_y], [0, 0], [0, 0]])
    frames = tf.constant(np.stack([grid.side_frame(word) for word in SIDES]).astype(np.float32))
    which = tf.argmax(tf.cast(tf.constant(SIDES) == side, tf.int32))
    half = tf.broadcast_to(frames[which][:, :, tf.newaxis, tf.newaxis], (*framed.shape[:3], 1))
    return tf.concat([framed, half], axis=-1)


def _windows(
    network: Network, image: tf.Tensor, feature: tf.Tensor, stride: int, *, core: bool
) -> dict[str, tf.Tensor]:
    """``probability`` and perhaps ``core``, float32 (91, 109, 60): averages of the overlapping
    windows.
    """
    slices = GRID_SHAPE[2]
    starts = slabs.slab_starts(stride, slices)
    windows = tf.stack([image[:, :, start : start + SLAB_SLICES] for start in starts])
    together = max(k for k in range(1, WINDOWS_PER_CALL + 1) if len(starts) % k == 0)
    groups = tf.reshape(windows, (-1, together, *windows.shape[1:]))
    nihss = tf.fill((together, 1), feature)
    names = ("probability", "core") if core else ("probability",)
    answers = tf.map_fn(
        lambda group: network(group, nihss),
        groups,
        fn_output_signature={
            name: tf.TensorSpec((together, *windows.shape[1:-1], 1), tf.float32) for name in names
        },
        parallel_iterations=1,
    )
    return {name: _merged(each, windows.shape[:-1], starts) for name, each in answers.items()}


def _merged(answers: tf.Tensor, shape: tf.TensorShape, starts: list[int]) -> tf.Tensor:
    """The average of windows of ``shape``, [window, x, y, z], on the MNI grid."""
    slices = GRID_SHAPE[2]
    answers = tf.cast(tf.reshape(answers, shape), tf.float64)
    total = tf.add_n(
        [
            tf.pad(answers[k], [[0, 0], [0, 0], [start, slices - start - SLAB_SLICES]])
            for k, start in enumerate(starts)
        ]
    )
    counts = np.zeros(slices)
    for start in starts:
        counts[start : start + SLAB_SLICES] += 1
    mean = tf.cast(total / counts, tf.float32)
    x, y = (slice(p, p + n) for p, n in zip((FRAME_PAD_X, FRAME_PAD_Y), GRID_SHAPE, strict=False))
    return mean[x, y]


def _core(
    *, dwi_ratio: tf.Tensor, adc: tf.Tensor, brain: tf.Tensor, voxel_ml: tf.Tensor
) -> tf.Tensor:
    """Core as :func:`data_tools.labels.core_mask`: low ADC, bright DWI, large enough."""
    other = brain & (adc > ADC_CORE_UM2_PER_S) & (adc < ADC_CSF_UM2_PER_S)
    one = tf.constant(1.0)
    dwi_ratio /= tf.cond(tf.reduce_any(other), lambda: mean_of(dwi_ratio, other), lambda: one)
    low = brain & (adc > 0) & (adc <= ADC_CORE_UM2_PER_S)
    mask = low & (dwi_ratio >= labels.CORE_MIN_DWI_RATIO)
    size = int(np.prod(GRID_SHAPE))
    # Every voxel gets its own number; the largest spreads to its 26 neighbours until all of a
    # cluster have one. Numbers are exact in float32 up to 2**24.
    inside = tf.cast(mask, tf.float32)[tf.newaxis, ..., tf.newaxis]
    numbers = tf.reshape(tf.range(1, size + 1, dtype=tf.float32), inside.shape) * inside

    def spread(numbers: tf.Tensor, _: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        wider = tf.nn.max_pool3d(numbers, 3, 1, "SAME") * inside
        return wider, tf.reduce_any(wider != numbers)

    numbers, _ = tf.while_loop(lambda _, changed: changed, spread, (numbers, tf.constant(True)))
    flat = tf.cast(tf.reshape(numbers, (-1,)), tf.int32)
    bright = tf.reshape(dwi_ratio >= labels.CORE_SEED_DWI_RATIO, (-1,))

    def at_least(counted: tf.Tensor, limit_ml: float) -> tf.Tensor:
        counts = tf.math.unsorted_segment_sum(tf.cast(counted, tf.int32), flat, size + 1)
        return tf.cast(counts, tf.float64) * tf.cast(voxel_ml, tf.float64) >= limit_ml * (1 - HAIR)

    every = tf.ones_like(flat)
    sure = at_least(every, labels.CORE_SURE_ML)
    keep = at_least(every, labels.CORE_MIN_CLUSTER_ML)
    keep &= at_least(bright, labels.CORE_SEED_ML) | sure
    return tf.reshape(tf.gather(keep, flat), GRID_SHAPE) & mask


def _ml(mask: tf.Tensor, voxel_ml: tf.Tensor) -> tf.Tensor:
    return tf.cast(tf.math.count_nonzero(mask), tf.float64) * tf.cast(voxel_ml, tf.float64)
