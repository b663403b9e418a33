"""Slabs -> volume through any predictor: ONNX, Keras, SavedModel and REST alike.

A predictor is ``f(image, nihss) -> probability``: float32 arrays (n, 128, 128, 16, 4) and (n, 1)
in, (n, 128, 128, 16, k) out, a channel for each of its k networks. Who gives an average only has
one channel. A predictor of cores has one channel more, the last: the mean of its networks'
probabilities of core. Whether it is one is known of its model (:class:`SlabModel`).
"""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from data_tools import grid, intensity, slabs
from data_tools.runtime.errors import InputError

Predictor = Callable[[NDArray[np.float32], NDArray[np.float32]], NDArray[np.float32]]


@dataclasses.dataclass(frozen=True)
class SlabModel:
    """Something that answers slabs.

    Attributes:
        predict: see the module.
        cores: whether its answer's last channel is the core's.
    """

    predict: Predictor
    cores: bool = dataclasses.field(default=False, kw_only=True)


@dataclasses.dataclass(frozen=True)
class VolumeAnswer:
    """What is said of a patient on the MNI grid; 0 outside tissue.

    Attributes:
        networks: float32 (k, 91, 109, 60), the probability of hypoperfusion by each network.
        core: float32 (91, 109, 60), the probability of core, their mean; None from networks
            without.
    """

    networks: NDArray[np.float32]
    core: NDArray[np.float32] | None = None

    @property
    def mean(self) -> NDArray[np.float32]:
        """The average of the networks: (91, 109, 60)."""
        return mean(self.networks)


# Windows a call: more is no faster on a CPU and takes more memory.
WINDOWS_PER_CALL = 4


def model_image(
    dwi: NDArray[np.float32],
    adc_um2_per_s: NDArray[np.float32],
    brain: NDArray[np.bool_],
    side: str,
) -> NDArray[np.float32]:
    """Physical volumes on the MNI grid -> the network's image of the whole head.

    Args:
        dwi: (91, 109, 60); 0 everywhere if not given.
        adc_um2_per_s: (91, 109, 60); likewise.
        brain: bool (91, 109, 60).
        side: of the lesion: left, right, bilateral or unknown.

    Returns:
        float32 (128, 128, 60, 4): DWI, ADC (ratios to their parenchymal mean, rounded to float16
        as in the training records), ADC mask, side.
    """
    dwi_ratio, adc_ratio = intensity.normalise(dwi, adc_um2_per_s, brain)
    ratios = [ratio.astype(np.float16).astype(np.float32) for ratio in (dwi_ratio, adc_ratio)]
    mask = intensity.adc_mask(adc_um2_per_s, brain).astype(np.float32)
    image = np.stack([grid.to_frame(channel) for channel in (*ratios, mask)], axis=-1)
    side_channel = np.broadcast_to(
        grid.side_frame(side)[:, :, np.newaxis, np.newaxis], (*image.shape[:3], 1)
    )
    return np.concatenate([image, side_channel.astype(np.float32)], axis=-1)


def predict_volume(
    predictor: Predictor,
    image: NDArray[np.float32],
    *,
    nihss: float,
    stride: int,
    tissue: NDArray[np.bool_],
    cores: bool = False,
) -> VolumeAnswer:
    """Average the predictions of overlapping slabs (paper, Model Structure), network by network.

    Args:
        predictor: see the module.
        image: float32 (128, 128, 60, 4).
        nihss: NIHSS / 21, or -1.
        stride: slices from one window to the next, 1..16.
        tissue: bool (91, 109, 60), brain without CSF; the probability is 0 outside it.
        cores: the predictor's last channel is the core's.

    Raises:
        InputError: if the predictor answers with something else than probabilities.
    """
    starts = slabs.slab_starts(stride, image.shape[2])

    def ask(part: list[int]) -> NDArray[np.float32]:
        windows = slabs.cut_slabs(image, [starts[k] for k in part])
        return predictor(windows, np.full((len(part), 1), nihss, np.float32))

    return _average(ask, starts, tissue, cores)


def average_windows(
    predictor: Predictor,
    windows: NDArray[np.float32],
    *,
    nihss: NDArray[np.float32],
    starts: Sequence[int],
    tissue: NDArray[np.bool_],
    cores: bool = False,
) -> VolumeAnswer:
    """As :func:`predict_volume`, for windows that are cut already.

    Windows without tissue are not asked: their answer would be left out.

    Args:
        predictor: see the module.
        windows: (n, 128, 128, 16, 4).
        nihss: (n, 1).
        starts: first slice of each window.
        tissue: bool (91, 109, 60), as in :func:`predict_volume`.
        cores: likewise.
    """
    return _average(lambda part: predictor(windows[part], nihss[part]), starts, tissue, cores)


def _average(
    ask: Callable[[list[int]], NDArray[np.float32]],
    starts: Sequence[int],
    tissue: NDArray[np.bool_],
    cores: bool,
) -> VolumeAnswer:
    """The mean of windows' answers, a few windows in memory at a time.

    Args:
        ask: for windows of these numbers.
        starts: first slice of each window.
        tissue: as in :func:`predict_volume`.
        cores: likewise.
    """
    # A slice with tissue is in no window without; one is asked all the same, for the shape.
    depth = grid.SLAB_SLICES
    asked = [k for k, z in enumerate(starts) if tissue[:, :, z : z + depth].any()] or [0]

    total = np.empty(0)  # until the first answer says how many channels there are
    windows = np.zeros(grid.GRID_SHAPE[2])
    for first in range(0, len(asked), WINDOWS_PER_CALL):
        part = asked[first : first + WINDOWS_PER_CALL]
        output = np.asarray(ask(part))
        if not ((output >= 0) & (output <= 1)).all():
            raise InputError(
                "the model's answer is not a probability from 0 to 1 in every voxel; its weights "
                "are damaged or it is no model of this kind"
            )
        channels = np.moveaxis(output, -1, 1)
        if not total.size:
            total = np.zeros((*channels.shape[1:-1], len(windows)))
        for k, answer in zip(part, channels, strict=True):
            total[..., starts[k] : starts[k] + depth] += answer
            windows[starts[k] : starts[k] + depth] += 1
    averaged = [grid.from_frame(each) for each in total / np.maximum(windows, 1)]
    volumes = np.where(tissue, np.stack(averaged), 0).astype(np.float32)
    return VolumeAnswer(volumes[:-1], volumes[-1]) if cores else VolumeAnswer(volumes)


def mean(volumes: Sequence[NDArray[np.float32]] | NDArray[np.float32]) -> NDArray[np.float32]:
    """The average of networks' answers; a single answer as it is.

    Args:
        volumes: of each network.
    """
    if len(volumes) == 1:
        return volumes[0]
    return np.asarray(np.mean(volumes, axis=0, dtype=np.float64), np.float32)


def mean_core(answers: Sequence[VolumeAnswer]) -> NDArray[np.float32] | None:
    """The mean of all networks' cores; None if one of the answers has none.

    Args:
        answers: about one patient; each counts as often as it has networks.
    """
    cores = [answer.core for answer in answers if answer.core is not None]
    if len(cores) < len(answers):
        return None
    return _weighted(cores, [len(answer.networks) for answer in answers])


def _weighted(cores: Sequence[NDArray[np.float32]], networks: Sequence[int]) -> NDArray[np.float32]:
    return cores[0] if len(cores) == 1 else np.average(cores, 0, networks).astype(np.float32)


def together(models: Sequence[SlabModel]) -> SlabModel:
    """One model with all networks of several, in their order.

    It has a core, the mean of all networks', if each of the models has one.
    """
    if len(models) == 1:
        return models[0]
    cores = all(model.cores for model in models)

    def predict(image: NDArray[np.float32], nihss: NDArray[np.float32]) -> NDArray[np.float32]:
        answers = [np.asarray(model.predict(image, nihss)) for model in models]
        networks = [
            answer[..., :-1] if model.cores else answer
            for model, answer in zip(models, answers, strict=True)
        ]
        if not cores:
            return np.concatenate(networks, axis=-1)
        counts = [each.shape[-1] for each in networks]
        core = _weighted([answer[..., -1:] for answer in answers], counts)
        return np.concatenate([*networks, core], axis=-1)

    return SlabModel(predict, cores=cores)
