"""Random changes of a training slab, each a function of its seed alone.

The mirror is the predecessor's and on by default; the rest goes beyond the paper and is off (see
:mod:`tf_hypoperfusion.training.randomisation` for the amounts). TensorFlow's stateless random
numbers are used, so that a resumed run draws what an uninterrupted one would.

The order is that of life: the head lies otherwise, the scanner shades, scales and blurs,
preparation finds another brain and divides by the mean, and some inputs are left out. It is the
twin of :mod:`tf_hypoperfusion.training.gpu.randomisation`, but for what a record does not hold:
the ADC of CSF is 0 in it and stays so, and the brain is where anything is above 0.
"""

import dataclasses
import math
from typing import Any

import numpy as np
import tensorflow as tf

from data_tools.grid import (
    ADC_CORE_UM2_PER_S,
    ADC_CSF_UM2_PER_S,
    FRAME_SHAPE,
    NIHSS_MISSING,
    SIDES,
    SLAB_SHAPE,
    SLAB_SLICES,
    mirrored_side,
    window_about_brain,
)
from data_tools.records import MASKS
from tf_hypoperfusion.training.randomisation import (
    CENTRE,
    ERRING,
    LARGE_MM,
    OF_NEIGHBOUR,
    SIDE_NOT_TOLD,
    SMALL_MM,
    SMALL_SHARE,
    Randomisation,
    spline_basis,
)

Slab = dict[str, tf.Tensor]

_MIRRORED_SIDE = np.array([SIDES.index(mirrored_side(side)) for side in SIDES])
# Reversed, and moved back by one.
_MIRRORED_COLUMNS = np.roll(np.arange(SLAB_SHAPE[0])[::-1], -1).astype(np.int32)
_VOLUMES = ("dwi", "adc", *MASKS)
_LEARNT = ("truth", "coverage", "core")

# The part of the frame that is changed: all of the 91 x 109 grid; the rest is empty.
_SHAPE = (96, 112)
_WINDOW = window_about_brain(_SHAPE)
_MARGIN = [
    *((w.start, size - w.stop) for w, size in zip(_WINDOW, FRAME_SHAPE, strict=True)),
    (0, 0),
]
# What is drawn: fields with a seed of their own, and numbers.
_FIELDS = ("dwi_large", "dwi_small", "adc_large", "adc_small", "mask")
_UNIFORM = (
    "changed", "turn", "size", "shift_x", "shift_y", "dwi_bias", "dwi_small", "adc_bias",
    "adc_small", "dwi_noise", "adc_noise", "real", "imaginary", "of_map", "blur", "adc_scale",
    "mask", "dwi_rim", "adc_rim", "image", "nihss", "side",
)  # fmt: skip
_NORMAL = ("apart_x", "apart_y", "gain", "gamma")
# Normal numbers, of which every slab takes its noise from places of its own: to draw 520,000 anew
# for each would take half as long as everything else.
_NOISE = np.random.default_rng(0).standard_normal(1 << 20, np.float32)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Draws:
    """All that is random about a slab.

    Attributes:
        seeds: int64 (2,), of each of :data:`_FIELDS`.
        uniform: from 0 to 1, each of :data:`_UNIFORM`.
        normal: of SD 1, each of :data:`_NORMAL`.
    """

    seeds: dict[str, tf.Tensor]
    uniform: dict[str, tf.Tensor]
    normal: dict[str, tf.Tensor]

    @classmethod
    def of(cls, seed: tf.Tensor) -> "_Draws":
        """What follows from a seed, int64 (2,)."""
        seeds = tf.random.experimental.stateless_split(seed, 2 + len(_FIELDS))
        uniform = tf.random.stateless_uniform((len(_UNIFORM),), seeds[0])
        normal = tf.random.stateless_normal((len(_NORMAL),), seeds[1])
        return cls(
            seeds=dict(zip(_FIELDS, tf.unstack(seeds[2:]), strict=True)),
            uniform=dict(zip(_UNIFORM, tf.unstack(uniform), strict=True)),
            normal=dict(zip(_NORMAL, tf.unstack(normal), strict=True)),
        )

    def between(self, low: float, high: float, name: str) -> tf.Tensor:
        """A uniform number of this range."""
        return low + (high - low) * self.uniform[name]

    def noise(self, *names: str) -> list[tf.Tensor]:
        """Normal numbers for the window, for each name."""
        shape = (*_SHAPE, SLAB_SLICES)
        count, numbers = math.prod(shape), tf.constant(_NOISE)
        firsts = [tf.cast(self.uniform[n] * (len(_NOISE) - count), tf.int32) for n in names]
        return [tf.reshape(numbers[first : first + count], shape) for first in firsts]


def mirror_slab(slab: Slab) -> Slab:
    """Exchange left and right of image, masks, truth, coverage, core *and* side together.

    The brain's midline is column 63 of 128, so the frame is reversed and moved back by one
    column; the column that wraps round is margin.
    """
    mirrored = dict(slab)
    for name in _VOLUMES:
        mirrored[name] = tf.gather(slab[name], _MIRRORED_COLUMNS)
    mirrored["side"] = tf.gather(tf.constant(_MIRRORED_SIDE, tf.int64), slab["side"])
    return mirrored


def randomise_slab(slab: Slab, seed: tf.Tensor, settings: Randomisation) -> Slab:
    """Make a slab look otherwise, or leave it as it is.

    Args:
        slab: as of ``data_tools.records.parse_slab``.
        seed: int64 (2,); all that is drawn follows from it.
        settings: how much is changed.

    Returns:
        The same fields and dtypes. Masks stay 0/1; the ADC mask follows the changed ADC.
    """
    draws = _Draws.of(seed)
    fields = (*_VOLUMES, "nihss", "side")

    def changed() -> Slab:
        result = dict(slab)
        if settings.changes_images:
            result = _with_other_images(slab, draws, settings)
        result = _with_inputs_left_out(result, draws, settings)
        return {name: result[name] for name in fields}

    def as_it_is() -> Slab:
        return {name: tf.convert_to_tensor(slab[name]) for name in fields}

    return dict(slab) | tf.cond(draws.uniform["changed"] < settings.share, changed, as_it_is)


def _with_other_images(slab: Slab, draws: _Draws, settings: Randomisation) -> Slab:
    """All but what is left out; in the window, whose margin is added again at the end."""
    inner: dict[str, Any] = {name: tf.convert_to_tensor(slab[name])[_WINDOW] for name in _VOLUMES}
    # ADC is told of tissue; where it is not, there is CSF.
    inner["tissue"] = inner["adc"] > 0
    inner |= {name: inner[name] > 0 for name in _LEARNT}
    inner["brain"] = (inner["dwi"] > 0) | inner["tissue"] | inner["coverage"]
    if settings.changes_place:
        inner = _moved(inner, draws, settings)
    if settings.mask_error:
        wrong = draws.uniform["mask"] < settings.mask_error
        names = [name for name in inner if name != "adc_mask"]
        kept = {name: inner[name] for name in names}
        inner |= tf.cond(wrong, lambda: _with_other_brain(kept, draws), lambda: kept)
    inner = _scanned(inner, draws, settings)
    inner = _prepared(inner, draws, slab["adc_mean_um2_per_s"], settings)
    result = dict(slab)
    for name in _VOLUMES:
        volume = tf.cast(inner[name], slab[name].dtype)
        result[name] = tf.ensure_shape(tf.pad(volume, _MARGIN), SLAB_SHAPE)
    return result


def _moved(inner: Slab, draws: _Draws, settings: Randomisation) -> Slab:
    """Images and labels shifted, turned and scaled in the axial plane."""
    turn, size, *by = (draws.between(-1, 1, n) for n in ("turn", "size", "shift_x", "shift_y"))
    angle, scale = turn * math.radians(settings.rotation_deg), 1 + size * settings.scale
    shift = settings.shift_voxels * tf.stack(by)
    apart = tf.stack([draws.normal["apart_x"], draws.normal["apart_y"]])

    names = ("dwi", "adc", "brain", "tissue")
    stacked = tf.concat([tf.cast(inner[name], tf.float32) for name in names], axis=-1)
    sampled = _bilinear(stacked, *_origin(angle, scale, shift))
    images = dict(zip(names, tf.split(sampled, len(names), axis=-1), strict=True))
    brain = images["brain"] >= 0.5
    tissue = brain & (images["tissue"] >= 0.5)
    x, y = _origin(angle, scale, shift + settings.label_shift_voxels * apart)
    # At the nearest voxel, which takes a quarter of the time.
    labels = _at(tf.concat([inner[name] for name in _LEARNT], axis=-1), tf.round(x), tf.round(y))
    return {
        "dwi": _where(brain, images["dwi"]),
        # The mean of the tissue alone: CSF has no ADC here that could be mixed in.
        "adc": _where(tissue, images["adc"] / tf.maximum(images["tissue"], 0.5)),
        "brain": brain,
        "tissue": tissue,
    } | dict(zip(_LEARNT, tf.split(labels, len(_LEARNT), axis=-1), strict=True))


def _where(mask: tf.Tensor, image: tf.Tensor) -> tf.Tensor:
    """The image inside a mask, 0 outside."""
    return tf.where(mask, image, 0.0)


def _origin(angle, scale, shift):
    """Where each voxel of the window comes from, in voxels of the window: columns and rows."""
    centre = [c - w.start for c, w in zip(CENTRE, _WINDOW, strict=True)]
    x = tf.range(_SHAPE[0], dtype=tf.float32)[:, tf.newaxis] - centre[0]
    y = tf.range(_SHAPE[1], dtype=tf.float32)[tf.newaxis] - centre[1]
    cosine, sine = tf.cos(angle) * scale, tf.sin(angle) * scale
    from_x = cosine * x - sine * y + centre[0] + shift[0]
    from_y = sine * x + cosine * y + centre[1] + shift[1]
    return from_x, from_y


def _at(volume: tf.Tensor, x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """What [columns, rows, n] holds at whole places; nothing beyond the edges."""
    inside = (x >= 0) & (x < _SHAPE[0]) & (y >= 0) & (y < _SHAPE[1])
    places = _SHAPE[0] * _SHAPE[1]
    index = tf.cast(tf.where(inside, x * _SHAPE[1] + y, places), tf.int32)
    rows = tf.reshape(volume, (places, volume.shape[-1]))
    return tf.gather(tf.pad(rows, [(0, 1), (0, 0)]), index)


def _bilinear(volume: tf.Tensor, x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """What it holds at places between its voxels."""
    x0, y0 = tf.floor(x), tf.floor(y)
    parts = []
    for column, row in ((x0, y0), (x0, y0 + 1), (x0 + 1, y0), (x0 + 1, y0 + 1)):
        weight = (1 - tf.abs(x - column)) * (1 - tf.abs(y - row))
        parts.append(weight[..., tf.newaxis] * _at(volume, column, row))
    return tf.add_n(parts)


def smooth_field(seed: tf.Tensor, spacing_mm: float) -> tf.Tensor:
    """A random field of the window: mean 0, SD 1, no detail under ``spacing_mm``.

    Returns:
        float32 (96, 112, 16).
    """
    x, y, z = (spline_basis(size, spacing_mm) for size in (*_SHAPE, SLAB_SLICES))
    lattice = tf.random.stateless_normal([basis.shape[1] for basis in (x, y, z)], seed)
    return tf.einsum("xi,yj,zk,ijk->xyz", x, y, z, lattice)


def _bias(draws: _Draws, name: str, sd: tf.Tensor) -> tf.Tensor:
    """A field that multiplies, of two scales; its log has this SD."""
    share = SMALL_SHARE * draws.uniform[f"{name}_small"]
    large = smooth_field(draws.seeds[f"{name}_large"], LARGE_MM)
    small = smooth_field(draws.seeds[f"{name}_small"], SMALL_MM)
    return tf.exp(sd * tf.sqrt(1 - share) * large + sd * tf.sqrt(share) * small)


def _pooled(image: tf.Tensor) -> tf.Tensor:
    """The largest of a voxel and its eight neighbours in the slice."""
    return tf.nn.max_pool2d(tf.cast(image, tf.float32)[tf.newaxis], 3, 1, "SAME")[0]


def _with_other_brain(inner: Slab, draws: _Draws) -> Slab:
    """A brain mask that lacks a voxel's rim in some places and has one too many in others.

    What is too many is skull or eye: some share of the brightest neighbour; it is covered where its
    neighbour is, and no tissue at risk.
    """
    brain = inner["brain"]
    field = smooth_field(draws.seeds["mask"], SMALL_MM)
    lost = brain & (_pooled(~brain) > 0) & (field > ERRING)
    won = ~brain & (_pooled(brain) > 0) & (field < -ERRING)
    result = dict(inner)
    for name in ("dwi", "adc"):
        level = draws.between(*OF_NEIGHBOUR, f"{name}_rim")
        result[name] = tf.where(won, level * _pooled(inner[name]), inner[name])
    result["brain"] = (brain & ~lost) | won
    result["tissue"] = (inner["tissue"] | (won & (result["adc"] > 0))) & result["brain"]
    result["coverage"] = inner["coverage"] | (won & (_pooled(inner["coverage"]) > 0))
    return result


def _scanned(inner: Slab, draws: _Draws, settings: Randomisation) -> Slab:
    """Shading, contrast, noise and blur along z."""
    dwi, adc, brain, tissue = (inner[name] for name in ("dwi", "adc", "brain", "tissue"))
    if settings.dwi_bias[1]:
        dwi *= _bias(draws, "dwi", draws.between(*settings.dwi_bias, "dwi_bias"))
    if settings.adc_bias:
        adc *= _bias(draws, "adc", draws.between(0, settings.adc_bias, "adc_bias"))
    if settings.dwi_gain or settings.dwi_gamma:
        gain = tf.exp(settings.dwi_gain * draws.normal["gain"])
        gamma = tf.exp(settings.dwi_gamma * draws.normal["gamma"])
        dwi = _where(dwi > 0, gain * tf.exp(gamma * tf.math.log(tf.maximum(dwi, 1e-6))))
    if settings.noise:
        of_dwi, of_adc = (draws.between(0, settings.noise, f"{n}_noise") for n in ("dwi", "adc"))
        real, imaginary, of_map = draws.noise("real", "imaginary", "of_map")
        dwi = tf.sqrt((dwi + of_dwi * real) ** 2 + (of_dwi * imaginary) ** 2)
        adc = tf.maximum(adc + of_adc * of_map, 0.0)
    dwi, adc = _where(brain, dwi), _where(tissue, adc)
    if settings.blur:
        share = draws.between(0, settings.blur, "blur")
        dwi = _where(brain, _blurred(dwi, share))
        tissue_share = _blurred(tf.cast(tissue, tf.float32), share)
        adc = _where(tissue, _blurred(adc, share) / tf.maximum(tissue_share, 1e-3))
    return inner | {"dwi": dwi, "adc": adc}


def _blurred(image: tf.Tensor, share: tf.Tensor) -> tf.Tensor:
    """Along z; the end slices have a neighbour like themselves."""
    below = tf.concat([image[..., :1], image[..., :-1]], axis=-1)
    above = tf.concat([image[..., 1:], image[..., -1:]], axis=-1)
    return (1 - 2 * share) * image + share * (below + above)


def _prepared(inner: Slab, draws: _Draws, mean: tf.Tensor, settings: Randomisation) -> Slab:
    """ADC as its map says, and its mask; what is learnt ends where the brain does.

    A map that is wrong everywhere has a mean that is as wrong, so only mask and CSF change.
    """
    wrong = draws.between(-settings.adc_scale, settings.adc_scale, "adc_scale")
    adc_um2_per_s = inner["adc"] * (mean * (1 + wrong))
    tissue = (inner["adc"] > 0) & (adc_um2_per_s < ADC_CSF_UM2_PER_S)
    coverage = inner["coverage"] & inner["brain"]
    return {
        "dwi": inner["dwi"],
        "adc": _where(tissue, inner["adc"]),
        "adc_mask": tissue & (adc_um2_per_s < ADC_CORE_UM2_PER_S),
        "truth": inner["truth"] & coverage,
        "coverage": coverage,
        "core": inner["core"] & coverage,
    }


def _with_inputs_left_out(slab: Slab, draws: _Draws, settings: Randomisation) -> Slab:
    """Without what a patient may lack; of DWI and ADC at most one."""
    no_dwi = draws.uniform["image"] < settings.drop_dwi
    no_adc = 1 - draws.uniform["image"] <= settings.drop_adc
    left_out = {
        "dwi": (no_dwi, 0.0),
        "adc": (no_adc, 0.0),
        "adc_mask": (no_adc, 0),
        "nihss": (draws.uniform["nihss"] < settings.drop_nihss, NIHSS_MISSING),
        "side": (draws.uniform["side"] < settings.drop_side, SIDE_NOT_TOLD),
    }
    return slab | {
        name: tf.where(absent, tf.cast(value, slab[name].dtype), slab[name])
        for name, (absent, value) in left_out.items()
    }
